"""Items of every STAC version come out in the one shape that every engine reads."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from xharmonize.errors import CatalogError
from xharmonize.io.stac.items import bbox_of, make_absolute, normalize_item
from xharmonize.io.stac.scenes import read_scenes

RASTER = {"data_type": "uint16", "nodata": 0, "scale": 1e-4, "offset": -0.1}


def item(*, properties: dict | None = None, asset: dict | None = None, **fields) -> dict:
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": "S2A_T31UDS_20240301T105021_L2A",
        "collection": "sentinel-2-l2a",
        "bbox": [3.0, 50.0, 4.0, 51.0],
        "geometry": None,
        "links": [],
        "properties": {"datetime": "2024-03-01T10:50:21Z", **(properties or {})},
        "assets": {"red": {"href": "./B04.tif", **(asset or {})}},
        **fields,
    }


def raster_1_0() -> dict:
    return {"raster:bands": [RASTER]}


def raster_1_1_asset() -> dict:
    return {"data_type": "uint16", "nodata": 0, "raster:scale": 1e-4, "raster:offset": -0.1}


def raster_1_1_band() -> dict:
    return {"bands": [{"name": "B04", "eo:common_name": "red", **raster_1_1_asset()}]}


def raster_1_1_mixed() -> dict:
    band = {"name": "B04", "raster:offset": -0.1}
    return {"data_type": "uint16", "nodata": 0, "raster:scale": 1e-4, "bands": [band]}


@pytest.mark.parametrize(
    "raster", [raster_1_0, raster_1_1_asset, raster_1_1_band, raster_1_1_mixed]
)
def test_scale_and_offset_of_every_version_become_raster_bands(raster):
    asset = normalize_item(item(asset=raster()))["assets"]["red"]
    assert asset["raster:bands"] == [RASTER]


@pytest.mark.parametrize("key", ["proj:epsg", "proj:code"])
@pytest.mark.parametrize("level", ["properties", "asset"])
def test_both_crs_fields_are_restored_where_they_stood(key, level):
    value = 32631 if key == "proj:epsg" else "EPSG:32631"
    normal = normalize_item(item(**{level: {key: value}}))
    holder = normal["properties"] if level == "properties" else normal["assets"]["red"]
    assert (holder["proj:epsg"], holder["proj:code"]) == (32631, "EPSG:32631")


def test_a_crs_without_epsg_code_is_left_to_its_wkt():
    normal = normalize_item(item(properties={"proj:epsg": None, "proj:wkt2": "PROJCRS[...]"}))
    assert "proj:epsg" not in normal["properties"]
    assert normal["properties"]["proj:wkt2"] == "PROJCRS[...]"


def test_nine_element_transforms_are_cut_to_six():
    transform = [10.0, 0.0, 300000.0, 0.0, -10.0, 5700000.0, 0.0, 0.0, 1.0]
    normal = normalize_item(item(asset={"proj:transform": transform}))
    assert normal["assets"]["red"]["proj:transform"] == transform[:6]


def test_beta_items_number_their_bands_and_prefix_their_platform():
    bands = [{"name": "B02", "common_name": "blue"}, {"name": "B04", "common_name": "red"}]
    beta = item(
        properties={"eo:bands": bands, "eo:platform": "LANDSAT_8", "eo:gsd": 30},
        asset={"eo:bands": [1]},
    )
    normal = normalize_item(beta)
    assert normal["assets"]["red"]["eo:bands"] == [bands[1]]
    assert normal["properties"]["platform"] == "LANDSAT_8"
    assert normal["properties"]["gsd"] == 30


def test_fields_that_hold_null_are_absent():
    normal = normalize_item(item(properties={"platform": None}, asset={"raster:bands": None}))
    assert "platform" not in normal["properties"]
    assert "raster:bands" not in normal["assets"]["red"]


def test_the_input_is_not_changed():
    given = item(properties={"proj:code": "EPSG:32631"}, asset=raster_1_1_band())
    before = copy.deepcopy(given)
    normalize_item(given, base="/data/item.json")
    assert given == before


@pytest.mark.parametrize(
    ("href", "base", "expected"),
    [
        ("./B04.tif", "/data/a/item.json", "/data/a/B04.tif"),
        ("../B04.tif", "/data/a/item.json", "/data/B04.tif"),
        ("/else/B04.tif", "/data/a/item.json", "/else/B04.tif"),
        ("file:///else/B%2004.tif", None, "/else/B 04.tif"),
        ("./B04.tif", "https://host/c/item.json", "https://host/c/B04.tif"),
        ("./B04.tif", "s3://bucket/c/item.json", "s3://bucket/c/B04.tif"),
        ("https://host/B04.tif?sig=x", "/data/a/item.json", "https://host/B04.tif?sig=x"),
        ("./B04.tif", None, "./B04.tif"),
    ],
)
def test_relative_hrefs_start_at_the_file_the_item_came_from(href, base, expected):
    assert make_absolute(href, base) == expected


def test_the_self_link_serves_where_no_file_is_known():
    links = [{"rel": "self", "href": "https://host/c/item.json"}]
    normal = normalize_item(item(links=links))
    assert normal["assets"]["red"]["href"] == "https://host/c/B04.tif"


def test_bbox_from_geometry_from_three_dimensions_and_from_geoparquet():
    ring = [[3.0, 50.0], [4.0, 50.0], [4.0, 51.0], [3.0, 50.0]]
    polygon = {"type": "Polygon", "coordinates": [ring]}
    assert bbox_of({"geometry": polygon}) == [3.0, 50.0, 4.0, 51.0]
    assert bbox_of({"bbox": [3, 50, 0, 4, 51, 9]}) == [3.0, 50.0, 4.0, 51.0]
    assert bbox_of({"bbox": {"xmin": 3, "ymin": 50, "xmax": 4, "ymax": 51}}) == [3, 50, 4, 51]
    assert bbox_of({}) is None


@pytest.mark.parametrize("missing", ["id", "properties", "assets"])
def test_what_is_no_item_is_named(missing):
    broken = {key: value for key, value in item().items() if key != missing}
    with pytest.raises(CatalogError, match="not a STAC item"):
        normalize_item(broken)


def real_items(folder: Path) -> list[dict]:
    """Sentinel-2 items of July 2018, as pystac leaves them: ``proj:epsg`` gone."""
    paths = sorted((folder / "flanders-2018/sentinel-2-l2a").glob("*201807*/*.json"))
    items = []
    for path in paths:
        one = json.loads(path.read_text())
        one["properties"].pop("proj:epsg", None)
        for asset in one["assets"].values():
            asset["href"] = str(path.parent / asset["href"])
        items.append(one)
    return items


def stack(items: list[dict]):
    stackstac = pytest.importorskip("stackstac")
    return stackstac.stack(
        items,
        assets=["red"],
        epsg=32631,
        resolution=10,
        rescale=False,
        dtype="uint16",
        fill_value=np.uint16(0),
        xy_coords="center",
    )


def test_stackstac_gets_the_true_grid_from_our_items_only(data):
    plain = real_items(data)
    assert stack(plain).shape[-2:] == (66, 66)  # the trap: extent from the lon/lat box
    cube = stack([normalize_item(one) for one in plain])
    assert cube.shape[-2:] == (64, 64)
    assert (float(cube.x[0]), float(cube.y[0])) == (501365.0, 5629675.0)


def test_stackstac_gets_the_scale_of_stac_1_1_from_our_items_only(data):
    plain = real_items(data)[:1]
    for asset in plain[0]["assets"].values():
        raster = asset.pop("raster:bands")[0]
        asset |= {"raster:scale": raster.get("scale", 1), "raster:offset": -0.1}
    stackstac = pytest.importorskip("stackstac")

    def top(items):
        cube = stackstac.stack(items, assets=["red"], epsg=32631, resolution=10, rescale=True)
        return float(cube.max())

    assert top(plain) > 10  # the trap: digital numbers, though rescaling was asked for
    assert top([normalize_item(one) for one in plain]) < 2


def test_odc_stac_and_stackstac_read_the_same_pixels(data):
    odc_stac = pytest.importorskip("odc.stac")
    pystac = pytest.importorskip("pystac")
    items = [normalize_item(one) for one in real_items(data)[:2]]
    ours = stack(items).values[:, 0]
    theirs = odc_stac.load([pystac.Item.from_dict(one) for one in items], bands=["red"])["red"]
    np.testing.assert_array_equal(ours, theirs.values)
    assert theirs.dtype == np.uint16


def test_real_items_of_all_versions_load_with_pystac(data):
    pystac = pytest.importorskip("pystac")
    files = sorted((data / "stac-items/odc-stac").glob("[LS]*_*.json"))
    scenes = list(itertools.chain.from_iterable(read_scenes(str(file)) for file in files))
    assert len(scenes) == len(files) == 4
    for scene in scenes:
        loaded = pystac.Item.from_dict(scene.item)
        assert loaded.properties["proj:code"] == scene.crs
        assert len(scene.grids["red"].transform) == 6
