"""Longitudes are no plain numbers: boxes, items, grids, days and catalogues across 180°."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.items import ENGINES, make_item
from pyproj import Transformer

import xharmonize as xh
from xharmonize.cube.geobox import reproject_bounds
from xharmonize.io.stac.grid import Margin, PixelPhase
from xharmonize.io.stac.items import bbox_of
from xharmonize.io.stac.query import check_bbox, make_query, matches
from xharmonize.io.stac.scenes import mosaic_groups, read_scenes
from xharmonize.kernels.brdf import mean_overpass_sun_zenith, overpass_hour, sun_zenith_at
from xharmonize.kernels.longitude import box_around, do_meet, normal_box
from xharmonize.models.lattice import Lattice as ModelLattice

N = 60  # pixels of 10 m a side
LAT = -16.3


def corner(lon: float, crs: int) -> tuple[float, float]:
    """Left upper corner of a square around a longitude."""
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(lon, LAT)
    return round(x / 20) * 20 - 5.0 * N, round(y / 20) * 20 + 5.0 * N


def scene(
    folder: Path, item_id: str = "s2", *, lon: float = 180.0, crs: int = 32701, box: str = "stac",
    time: str = "2023-08-21T22:19:41Z", value: int = 2000, tile: str = "01KAB",
) -> dict:  # fmt: skip
    """A Sentinel-2 item around a longitude; red counts columns."""
    left, top = corner(lon, crs)
    red = (value + np.arange(N * N).reshape(N, N)).astype("uint16")
    layers = {
        "red": (red, 10.0, left, top),
        "scl": (np.full((N // 2, N // 2), 4, "uint8"), 20.0, left, top),
    }
    item = make_item(
        folder, item_id, time, layers, crs=crs, collection="sentinel-2-l2a",
        properties={
            "platform": "sentinel-2a",
            "s2:processing_baseline": "05.09",
            "s2:datatake_id": "GS2A_20230821T221941_042643_N05.09",
            "grid:code": f"MGRS-{tile}",
        },
    )  # fmt: skip
    bounds = (left, top - 10 * N, left + 10 * N, top)
    west, south, east, north = reproject_bounds(bounds, crs, 4326)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    ring = [[(x + 180) % 360 - 180, y] for x, y in ring]
    item["geometry"] = {"type": "Polygon", "coordinates": [ring]}
    plain = sorted(x for x, _ in ring)
    item["bbox"] = {
        "stac": list(normal_box((west, south, east, north))),
        "beyond": [west, south, east, north],
        "least and most": [plain[0], south, plain[-1], north],
        "none": None,
    }[box]
    return item


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ((-180.41, -17, -180.40, -16), (179.59, -17, 179.60, -16)),
        ((179.9, -17, 180.1, -16), (179.9, -17, -179.9, -16)),
        ((-180.1, -17, -179.9, -16), (179.9, -17, -179.9, -16)),
        ((179.9, -17, -179.9, -16), (179.9, -17, -179.9, -16)),
        ((190, -17, 191, -16), (-170, -17, -169, -16)),
        ((0, -17, 360, -16), (-180, -17, 180, -16)),
        ((-180, -90, 180, 90), (-180, -90, 180, 90)),
        ((-10, -17, 10, -16), (-10, -17, 10, -16)),
    ],
)
def test_a_box_is_the_same_however_its_longitudes_are_counted(given, right):
    assert check_bbox(given) == pytest.approx(right)
    assert do_meet(given, right)


@pytest.mark.parametrize(
    "box",
    [(500000, 0, 500100, 1), (-200, 0, 200, 1), (10, 0, 5, 1), (3, 1, 3, 2), (190, 0, -170, 1)],
)
def test_what_is_no_box_stays_refused(box):
    with pytest.raises(xh.errors.GridError, match=r"bbox=.*give bbox=\(west, south, east, north\)"):
        check_bbox(box)


BOXES = ["stac", "beyond", "least and most", "none"]


@pytest.mark.parametrize("box", BOXES)
def test_an_item_across_180_is_found_by_either_side_and_by_nothing_else(tmp_path, box):
    item = scene(tmp_path, box=box)
    here = [(179.9, -17, 180, -16), (-180, -17, -179.9, -16), (179.9, -17, -179.9, -16)]
    there = [(0, -17, 1, -16), (178, -17, 179, -16), (-179, -17, -178, -16), (179.9, 0, -179.9, 1)]
    for asked, is_there in [(b, True) for b in here] + [(b, False) for b in there]:
        assert matches(item, make_query(bbox=asked)) is is_there, asked
    assert abs(read_scenes(item)[0].center[0]) == pytest.approx(180, abs=0.01)


def test_a_geometry_in_two_parts_has_one_box():
    parts = [[[[179, -17], [180, -17], [180, -16], [179, -17]]],
             [[[-180, -17], [-179.5, -17], [-180, -16], [-180, -17]]]]  # fmt: skip
    item = {"geometry": {"type": "MultiPolygon", "coordinates": parts}}
    assert bbox_of(item) == [179, -17, -179.5, -16]
    assert box_around([(-180, -90), (180, 90)]) == (-180, -90, 180, 90)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("box", BOXES)
def test_a_tile_across_180_in_degrees_is_as_wide_as_its_ground(tmp_path, engine, box):
    item = scene(tmp_path, box=box)
    utm = xh.open_stac(item, bands=["red"]).compute()
    cube = xh.open_stac(item, bands=["red"], crs=4326, resolution=1e-4, engine=engine).compute()
    assert cube.sizes["x"] < 70
    assert cube.notnull().mean() > 0.9
    forth = Transformer.from_crs(4326, 32701, always_xy=True)
    lon, lat = np.meshgrid(cube.x, cube.y)
    x, y = forth.transform(lon, lat)
    row = np.round((utm.y.values[0] - y) / 10).astype(int)
    column = np.round((x - utm.x.values[0]) / 10).astype(int)
    inside = (row >= 0) & (row < N) & (column >= 0) & (column < N)
    expected = utm.values[0, 0][row.clip(0, N - 1), column.clip(0, N - 1)]
    is_same = np.isclose(cube.values[0, 0], expected, atol=0.007)  # a row aside where it is nearest
    assert is_same[inside].mean() > 0.95


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("asked", [(179.999, 180.001), (179.999, -179.999), (-180.001, -179.999)])
def test_a_box_across_180_is_cut_from_both_sides(tmp_path, engine, asked):
    item = scene(tmp_path)
    west, east = asked
    box = (west, LAT - 0.001, east, LAT + 0.001)
    whole = xh.open_stac(item, bands=["red"]).compute()
    cube = xh.open_stac(item, bands=["red"], bbox=box, engine=engine).compute()
    assert 20 <= cube.sizes["x"] <= 25
    np.testing.assert_allclose(cube, whole.sel(x=cube.x, y=cube.y), atol=1e-6)
    wide = xh.open_stac(item, bands=["red"], bbox=box, crs=4326, resolution=1e-4, engine=engine)
    assert wide.sizes["x"] in (20, 21)
    assert wide.notnull().all()


@pytest.mark.parametrize("engine", ENGINES)
def test_tiles_on_both_sides_make_one_cube(tmp_path, engine):
    items = [
        scene(tmp_path, "west", lon=179.998, crs=32760, tile="60KZE"),
        scene(tmp_path, "east", lon=-179.998, crs=32701, value=9000),
    ]
    for how in ("pass", "solar_day"):
        cube = xh.open_stac(
            items, bands=["red"], crs=4326, resolution=1e-4, mosaic=how, engine=engine
        ).compute()
        assert cube.sizes["time"] == 1
        assert cube.sizes["x"] < 110
        assert cube.notnull().mean() > 0.9
    grid = PixelPhase(crs="EPSG:32701", step=(10.0, 10.0), phase=(0.0, 0.0))
    like = grid.cover(reproject_bounds((179.996, LAT - 0.001, 180.004, LAT + 0.001), 4326, 32701))
    utm = xh.open_stac(items, bands=["red"], like=like, engine=engine)
    assert utm.notnull().mean() > 0.9


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("turn", [0, 360])
def test_files_in_degrees_are_read_wherever_their_longitudes_count_from(tmp_path, engine, turn):
    left = 180.0 - 30e-4 - turn
    layers = {
        "red": ((2000 + np.arange(N)[None] + np.zeros((N, 1))).astype("uint16"), 1e-4, left, LAT),
        "scl": (np.full((N, N), 4, "uint8"), 1e-4, left, LAT),
    }
    item = make_item(
        tmp_path, "s2", "2023-08-21T22:19:41Z", layers, crs=4326, collection="sentinel-2-l2a",
        properties={"platform": "sentinel-2a", "s2:processing_baseline": "05.09"},
    )  # fmt: skip
    item["bbox"] = [179.997, LAT - 60e-4, -179.997, LAT]
    for bbox in ([179.9985, LAT - 0.005, 180.0015, LAT - 0.001],
                 [-180.0015, LAT - 0.005, -179.9985, LAT - 0.001]):  # fmt: skip
        cube = xh.open_stac(item, bands=["red"], bbox=bbox, engine=engine).compute()
        assert 30 <= cube.sizes["x"] <= 31
        columns = np.round(cube.values[0, 0, 0] * 10000 - 1000).astype(int)
        assert columns[0] in (14, 15)
        assert (np.diff(columns) == 1).all()


def test_a_map_that_ends_at_180_is_refused(tmp_path):
    with pytest.raises(xh.errors.GridError, match="across the edge of the map"):
        xh.open_stac(scene(tmp_path), bands=["red"], crs=3857, resolution=10)
    cube = xh.open_stac(scene(tmp_path), bands=["red"])
    with pytest.raises(xh.errors.GridError, match=r"in one piece; choose a CRS .*EPSG:32(701|760)"):
        cube.harmonize.regrid(crs=3857, resolution=10)


def test_regridding_across_180_and_back_keeps_the_ground(tmp_path):
    utm = xh.open_stac(scene(tmp_path), bands=["red"]).compute()
    degrees = utm.harmonize.regrid(crs=4326, resolution=1e-4, method="nearest")
    assert degrees.sizes["x"] < 70
    assert degrees.notnull().mean() > 0.9
    back = degrees.harmonize.regrid(like=utm, method="nearest")
    assert back.notnull().mean() > 0.95
    is_same = np.isclose(back, utm, atol=0.007)
    assert is_same[back.notnull().values].mean() > 0.95
    turned = degrees.assign_coords(x=degrees.x - 360)
    np.testing.assert_array_equal(turned.harmonize.regrid(like=degrees, method="nearest"), degrees)


def test_the_margin_of_a_model_goes_round():
    margin = Margin(of=ModelLattice(resolution=30.0, tile=64, buffer=8))
    west, _, east, _ = margin.widened((179.99, -17, -179.99, -16))
    assert 179.9 < west < 179.99
    assert -179.99 < east < -179.9
    assert margin.widened((-180, -17, 180, -16))[::2] == (-180, 180)
    west, _, east, _ = margin.widened((-179.999, -17, -179.9, -16))
    assert west > 179.9
    assert -179.9 < east < -179.8


def test_catalogues_written_across_180_are_found_again(tmp_path):
    cube = xh.open_stac(scene(tmp_path / "in"), bands=["red"]).compute()
    catalog = cube.harmonize.to_cogs(tmp_path / "out")
    (path,) = (tmp_path / "out").glob("*/*/*.json")
    item = json.loads(path.read_text())
    west, _, east, _ = item["bbox"]
    assert 179.99 < west < 180
    assert -180 < east < -179.99
    assert item["geometry"]["type"] == "MultiPolygon"
    collection = json.loads(path.parents[1].joinpath("collection.json").read_text())
    assert collection["extent"]["spatial"]["bbox"][0] == pytest.approx(item["bbox"])
    box = (179.999, LAT - 0.001, 180.001, LAT + 0.001)
    again = xh.open_stac(catalog, bbox=box, mask=None)
    np.testing.assert_allclose(again, cube.sel(x=again.x, y=again.y), atol=1e-4)


def test_one_overflight_is_one_solar_day_on_both_sides(tmp_path):
    west = scene(tmp_path, "west", lon=179.5, crs=32760, tile="60KZE")
    east = scene(tmp_path, "east", lon=-179.5, time="2023-08-21T22:19:44Z")
    later = scene(tmp_path, "later", lon=-179.5, time="2023-08-22T22:19:44Z")
    later["properties"]["s2:datatake_id"] = "GS2A_20230822T221941_042657_N05.09"
    scenes = read_scenes([later, west, east])
    assert (
        len({s.solar_day for s in scenes}) == 2
    )  # east lies on the 21st, west and later on the 22nd
    groups = [[s.id for s in group] for group in mosaic_groups(scenes, "solar_day")]
    assert groups == [["west", "east"], ["later"]]
    assert [[s.id for s in group] for group in mosaic_groups(scenes)] == groups


def test_rows_of_one_landsat_pass_are_one_step_on_both_sides(tmp_path):
    items = []
    for row, lon, crs in (("072", 179.9, 32760), ("073", -179.9, 32701)):
        left, top = corner(lon, crs)
        layers = {
            "red": (np.full((9, 9), 9000, "uint16"), 30.0, left, top),
            "qa_pixel": (np.full((9, 9), 21824, "uint16"), 30.0, left, top),
        }
        item = make_item(
            tmp_path, f"LC09_L2SP_074{row}_20230821_20230823_02_T1", "2023-08-21T22:10:00Z", layers,
            crs=crs, collection="landsat-c2-l2", properties={"platform": "landsat-9"},
        )  # fmt: skip
        item["bbox"] = [lon - 0.05, LAT - 0.05, lon + 0.05, LAT + 0.05]
        items.append(item)
    scenes = read_scenes(items)
    assert len({s.solar_day for s in scenes}) == 2
    for how in ("pass", "solar_day"):
        assert len(mosaic_groups(scenes, how)) == 1


def test_the_modelled_sun_takes_the_date_in_utc_as_hls_does():
    """Li et al. (2019) as HLS computes it: the date of the product at the local overpass hour."""
    orbits = np.array([[98.2, 10.0 + 11 / 60], [98.62, 10.5]])
    day = np.datetime64("2023-08-21T22:19:41", "s").astype(float) / 86400
    lat, lon = -16.3, 179.0
    found = mean_overpass_sun_zenith(np.array([day]), np.array([[lat]]), np.array([[lon]]), orbits)
    hours = [overpass_hour(lat, *orbit) for orbit in orbits]
    expected = [sun_zenith_at(np.floor(day) + (hour - lon / 15) / 24, lat, lon) for hour in hours]
    assert found.item() == pytest.approx(np.mean(expected), abs=1e-9)


@pytest.mark.parametrize("shape", ["beyond", "both sides", "in two parts"])
@pytest.mark.parametrize("crs", [4326, 32701])
def test_fields_across_180_are_counted_whole(tmp_path, shape, crs):
    options = {"resolution": 1e-4} if crs == 4326 else {}
    cube = xh.open_stac(scene(tmp_path), bands=["red"], crs=crs, **options).compute()

    def ring(west: float, east: float) -> list[list[float]]:
        south, north = LAT - 0.001, LAT + 0.001
        return [[west, south], [east, south], [east, north], [west, north], [west, south]]

    geometry = {
        "beyond": {"type": "Polygon", "coordinates": [ring(179.999, 180.001)]},
        "both sides": {"type": "Polygon", "coordinates": [ring(179.999, -179.999)]},
        "in two parts": {
            "type": "MultiPolygon", "coordinates": [[ring(179.999, 180)], [ring(-180, -179.999)]],
        },
    }[shape]  # fmt: skip
    table = xh.series.to_table(cube, [geometry])
    assert table["n_pixels"].iloc[0] == pytest.approx(400 if crs == 4326 else 472, abs=25)
    assert table["n"].iloc[0] > 380
