"""Where an item says it is: its bbox against proj:, and proj: against the file that is opened."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers.items import ENGINES, LEFT, SIZE, TOP, landsat, sentinel2
from odc.geo.geobox import GeoBox
from rasterio.transform import Affine

import xharmonize as xh
from xharmonize.testing import example_cube


def state(item: dict, *, of: str = "red", **fields) -> dict:
    """The item with other fields of an asset."""
    changed = copy.deepcopy(item)
    changed["assets"][of] |= {f"proj:{name}": value for name, value in fields.items()}
    return changed


def opened(item: dict, **options):
    return xh.open_stac(item, bands=["red"], mask=None, **options)


MISPLACED = {
    "15 m off": {"transform": [10, 0, LEFT + 15, 0, -10, TOP]},
    "a step of 9.9988 m": {"transform": [9.9988, 0, LEFT, 0, -9.9988, TOP]},
    "half a pixel off in y": {"transform": [10, 0, LEFT, 0, -10, TOP - 5]},
    "another shape": {"shape": [24, 20]},
    "south-up": {"transform": [10, 0, LEFT, 0, 10, TOP - SIZE]},
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("what", MISPLACED)
def test_a_file_elsewhere_than_its_item_says_is_refused_when_read(tmp_path, engine, what):
    cube = opened(state(sentinel2(tmp_path), **MISPLACED[what]), engine=engine)
    with pytest.raises(xh.errors.AssetReadError, match=r"asset 'red' of item 's2' lies elsewhere"):
        cube.compute()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_grid_stated_for_the_whole_item_counts_too(tmp_path, engine):
    item = landsat(tmp_path)
    for asset in item["assets"].values():
        del asset["proj:transform"], asset["proj:shape"]
    where = {"proj:shape": [9, 9], "proj:transform": [30, 0, LEFT - 15, 0, -30, TOP + 15]}
    item["properties"] |= where
    assert opened(item, engine=engine).notnull().all()
    item["properties"]["proj:transform"][2] += 15
    with pytest.raises(xh.errors.AssetReadError, match="lies elsewhere"):
        opened(item, engine=engine).compute()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_window_read_by_overviews_is_compared_too(tmp_path, engine):
    item = sentinel2(tmp_path)
    with rasterio.open(item["assets"]["red"]["href"], "r+") as file:
        file.build_overviews([2, 4])
    options = {"resolution": 60, "resampling": "nearest", "engine": engine}
    assert opened(item, **options).notnull().any()
    off = state(item, transform=[10, 0, LEFT + 10, 0, -10, TOP])
    with pytest.raises(xh.errors.AssetReadError, match="lies elsewhere"):
        opened(off, **options).compute()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_file_in_another_crs_is_refused_when_read(tmp_path, engine):
    item = sentinel2(tmp_path)
    del item["bbox"]
    item["properties"]["proj:epsg"] = 32731
    with pytest.raises(
        xh.errors.AssetReadError, match="the file is in EPSG:32631, its item says EPSG:32731"
    ):
        opened(item, engine=engine).compute()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_crs_written_otherwise_is_the_same(tmp_path, engine):
    item = sentinel2(tmp_path)
    del item["properties"]["proj:epsg"]
    item["properties"]["proj:wkt2"] = rasterio.CRS.from_epsg(32631).to_wkt(version="WKT2_2019")
    assert opened(item, engine=engine).notnull().all()


@pytest.mark.parametrize("engine", ENGINES)
def test_rounding_below_a_thousandth_of_a_pixel_is_no_matter(tmp_path, engine):
    near = state(sentinel2(tmp_path), transform=[10, 0, LEFT + 0.009, 0, -10, TOP])
    assert opened(near, engine=engine).notnull().all()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_misplaced_asset_can_be_skipped(tmp_path, engine):
    off = state(sentinel2(tmp_path), transform=[10, 0, LEFT + 15, 0, -10, TOP])
    cube = opened(off, engine=engine, on_error="skip", qa=True).compute()
    assert cube["reflectance"].isnull().all()
    assert ((cube["qa"] & int(xh.sensors.Flag.SKIPPED)) > 0).any()


@pytest.mark.parametrize("engine", ENGINES)
def test_what_the_message_gives_mends_the_item(tmp_path, engine):
    off = state(sentinel2(tmp_path), transform=[10, 0, LEFT + 15, 0, -10, TOP])
    with pytest.raises(xh.errors.AssetReadError, match="proj:transform") as caught:
        opened(off, engine=engine).compute()
    assert f"the file has proj:transform [10.0, 0.0, {LEFT}, 0.0, -10.0, {TOP}]" in str(
        caught.value
    )
    mended = state(off, transform=[10.0, 0.0, LEFT, 0.0, -10.0, TOP])
    assert opened(mended, engine=engine).notnull().all()


WRONG_BOXES = {
    "southern code": {"properties": {"proj:epsg": 32731}},
    "next zone": {"properties": {"proj:epsg": 32632}},
    "longitude and latitude exchanged": {"bbox": [50.0, 4.0, 51.0, 5.0]},
    "another place": {"bbox": [10.0, 50.0, 11.0, 51.0]},
}


@pytest.mark.parametrize("what", WRONG_BOXES)
def test_bbox_and_proj_that_do_not_meet_are_refused_on_opening(tmp_path, what):
    item = sentinel2(tmp_path)
    for key, value in WRONG_BOXES[what].items():
        item[key] = item[key] | value if isinstance(value, dict) else value
    with pytest.raises(
        xh.errors.GridError, match=r"item 's2' lies at .* by its bbox, its asset 'red'"
    ):
        opened(item)


def turn(item: dict, name: str, transform: Affine) -> None:
    """Write an asset anew with its rows or columns in another order."""
    path = Path(item["assets"][name]["href"])
    with rasterio.open(path) as file:
        values, profile = file.read(1), file.profile
    step_x, step_y = (-1 if transform.a < 0 else 1), (-1 if transform.e > 0 else 1)
    with rasterio.open(path, "w", **{**profile, "transform": transform}) as file:
        file.write(values[::step_y, ::step_x], 1)
    item["assets"][name]["proj:transform"] = list(transform)[:6]


WAYS = {
    "as it is": {},
    "grid given": {"crs": 32631, "resolution": 10},
    "nearest": {"resampling": "nearest"},
    "like": {"like": GeoBox((20, 16), Affine(10, 0, LEFT + 20, 0, -10, TOP - 30), "EPSG:32631")},
    "averaged": {"resolution": 20},
    "another zone": {"crs": 32630, "resolution": 10},
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("way", WAYS)
def test_rows_from_south_to_north_are_read_right(tmp_path, engine, way):
    item = sentinel2(tmp_path)
    with rasterio.open(item["assets"]["red"]["href"], "r+") as file:
        file.write((2000 + np.arange(24 * 24).reshape(24, 24)).astype("uint16"), 1)
    expected = opened(item, engine=engine, **WAYS[way]).compute()
    turn(item, "red", Affine(10, 0, LEFT, 0, 10, TOP - SIZE))
    turn(item, "scl", Affine(20, 0, LEFT, 0, 20, TOP - SIZE))
    found = opened(item, engine=engine, **WAYS[way]).compute()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.notnull().mean() > 0.5
    assert found.indexes["y"].equals(expected.indexes["y"])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_turned_grid_is_refused_and_read_as_the_message_says(tmp_path, engine):
    item = sentinel2(tmp_path)
    plain = opened(item, engine=engine).compute()
    path = item["assets"]["red"]["href"]
    with rasterio.open(path) as file:
        values, profile = file.read(1), file.profile
    turned = Affine(0, 10, LEFT, -10, 0, TOP)  # rows run east, columns south
    with rasterio.open(path, "w", **{**profile, "transform": turned}) as file:
        file.write(np.ascontiguousarray(values.T), 1)
    item["assets"]["red"]["proj:transform"] = list(turned)[:6]
    with pytest.raises(xh.errors.GridError, match=r"turned against its CRS.*resampling="):
        opened(item, engine=engine)
    box = xh_box(item)
    found = opened(
        item, engine=engine, crs=32631, resolution=10, bbox=box, resampling="nearest"
    ).compute()
    both = plain.sel(x=found.x, y=found.y, method="nearest")
    np.testing.assert_allclose(found, both.where(found.notnull()), atol=1e-6)
    assert found.notnull().mean() > 0.9


def xh_box(item: dict) -> list[float]:
    west, south, east, north = item["bbox"]
    return [west + 0.0105, south + 0.0105, east - 0.0105, north - 0.0105]


def test_a_file_of_open_cogs_that_was_moved_is_refused(tmp_path):
    ndvi = example_cube(bands=("red", "nir08")).harmonize.index("ndvi")
    ndvi.harmonize.to_cogs(tmp_path)
    assert xh.open_cogs(tmp_path).notnull().any()
    path = sorted(tmp_path.glob("*/*/*.tif"))[0]
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.transform = file.transform * Affine.translation(0.5, 0)
    with pytest.raises(xh.errors.AssetReadError, match="lies elsewhere than its item says"):
        xh.open_cogs(tmp_path).compute()
