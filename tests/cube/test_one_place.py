"""Rules that stood in several places stand in one: the parts that share it agree."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from helpers.items import landsat, sentinel2
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

import xharmonize as xh
from xharmonize.cube.dates import solar_day, solar_days
from xharmonize.cube.geobox import crs_name, crs_text, geobox_of, snap, utm_zone
from xharmonize.io.stac import identity
from xharmonize.io.stac.grid import PixelPhase
from xharmonize.io.stac.items import bbox_of
from xharmonize.io.stac.query import check_bbox
from xharmonize.io.stac.scenes import read_scenes
from xharmonize.sensors.registry import all_sensors
from xharmonize.testing import example_cube

PACKAGE = Path(xh.__file__).parent
CUBE = PACKAGE / "cube"
# What is about the satellites of one constellation only: their orbit, the file of their angles.
OF_SENTINEL_2 = {"cube/platforms.py", "io/angles/angles.py", "io/angles/products.py"}
BELOW = ("radiometry", "metadata", "claims", "stated", "describe", "platforms", "encode", "check")


def constants(path: Path) -> set[str]:
    """Texts in the code of a file, docstrings left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parents = (ast.Module, ast.FunctionDef, ast.ClassDef)
    docs = {id(n.body[0].value) for n in ast.walk(tree) if isinstance(n, parents)
            and n.body and isinstance(n.body[0], ast.Expr)}  # fmt: skip
    found = (n for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in docs)
    return {n.value for n in found if isinstance(n.value, str)}


def test_the_cube_knows_no_product_by_name():
    names = {name for s in all_sensors() for name in (s.name, *s.collections, *s.platforms)}
    levels = {str(s.level) for s in all_sensors()} - {"SR", "NBAR", "TOA"}
    folders = (CUBE, PACKAGE / "io")
    paths = [path for folder in folders for path in folder.rglob("*.py")]
    files = {path.relative_to(PACKAGE).as_posix(): path for path in paths}
    known = {name: constants(p) & (names | levels) for name, p in files.items()}
    assert {name for name, found in known.items() if found} <= OF_SENTINEL_2


@pytest.mark.parametrize("module", BELOW)
def test_the_rules_of_radiometry_stand_below_the_catalogue(module):
    text = (CUBE / f"{module}.py").read_text(encoding="utf-8")
    assert "xharmonize.io" not in text


def test_an_item_is_identified_in_one_trip(tmp_path, monkeypatch):
    scanned = []
    scan = identity.names_in

    def counted(properties, name):
        scanned.append(name)
        return scan(properties, name)

    monkeypatch.setattr(identity, "names_in", counted)
    read_scenes([sentinel2(tmp_path), landsat(tmp_path)])
    assert sorted(scanned) == ["LC09_L2SP_198024_20220602_20230101_02_T1", "s2"]


@pytest.mark.parametrize("over", [0.0, 4e-4, 9e-4])
def test_a_box_is_covered_alike_wherever_it_is_asked_for(over):
    """A twentieth of a millimetre to 3 cm beyond an edge: rounding of files and projections."""
    bounds = (15.0 - 30 * over, 45.0, 75.0 + 30 * over, 105.0)
    regridded = snap(bounds, 30, 32631, phase=(15, 15))
    read = PixelPhase(crs="EPSG:32631", step=(30.0, 30.0), phase=(15.0, 15.0)).cover(bounds)
    assert regridded == read
    assert tuple(read.shape) == (2, 2)


@pytest.mark.parametrize("crs", ["EPSG:32631", "ESRI:54009", "+proj=laea +lat_0=51 +lon_0=4"])
def test_a_crs_has_one_name(crs):
    """Messages begin with what stores and fits keep, and what they keep names the CRS."""
    known = CRS(crs)
    assert CRS(crs_text(known)) == known
    assert crs_text(known) == crs_text(known.proj)
    assert crs_text(known).startswith(crs_name(known))
    assert ":" not in crs or crs_name(known) == crs


@pytest.mark.parametrize(
    ("lon", "lat", "zone"), [(3.0, 51.0, 32631), (-180.0, 10.0, 32601), (179.9, -20.0, 32760)]
)
def test_the_utm_zone_of_a_grid(lon, lat, zone):
    box = GeoBox.from_bbox((lon, lat, lon + 0.01, lat + 0.01), "EPSG:4326", resolution=0.001)
    assert utm_zone(box) == f"EPSG:{zone}"


def test_the_solar_day_of_an_item_is_that_of_a_cube():
    cube = example_cube()
    longitude = geobox_of(cube).geographic_extent.centroid.coords[0][0]
    for hours in (0, 11, 23):
        moved = cube.assign_coords(time=cube.time.values + np.timedelta64(hours, "h"))
        days = [solar_day(np.datetime64(t, "ns"), longitude) for t in moved.time.values]
        expected = np.array(days, "datetime64[D]").astype(int)
        np.testing.assert_array_equal(solar_days(moved), expected)


def test_a_box_with_heights_is_read_alike():
    flat, tall = [3.0, 50.0, 4.0, 51.0], [3.0, 50.0, -10.0, 4.0, 51.0, 90.0]
    assert bbox_of({"id": "a", "bbox": tall}) == flat
    assert list(check_bbox(tall)) == list(check_bbox(flat)) == flat
