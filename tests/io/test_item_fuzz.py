"""Items damaged at random: a cube that can be built, or one of our errors."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path

import pytest
from helpers.fuzz import changes
from helpers.marks import first_quick
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import xharmonize as xh
from xharmonize.io.stac.scenes import read_scenes

QUICK = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
BOX = {"bbox": (3.0, 50.4, 3.2, 50.5)}


def sentinel2() -> dict:
    asset = {
        "href": "https://host/B04.tif",
        "roles": ["data"],
        "proj:shape": [100, 100],
        "proj:transform": [10, 0, 500000, 0, -10, 5600040],
        "raster:bands": [{"data_type": "uint16", "nodata": 0, "scale": 1e-4, "offset": -0.1}],
        "eo:bands": [{"name": "B04", "common_name": "red"}],
    }
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": "S2A_MSIL2A_20220609T105031_N0400_R051_T31UES_20220609T170000",
        "collection": "sentinel-2-l2a",
        "bbox": [3.0, 50.54, 3.015, 50.56],
        "geometry": {"type": "Polygon", "coordinates": [[[3, 50.54], [3.01, 50.54], [3, 50.56]]]},
        "links": [{"rel": "self", "href": "https://host/item.json"}],
        "properties": {
            "datetime": "2022-06-09T10:50:31Z",
            "platform": "sentinel-2a",
            "proj:code": "EPSG:32631",
            "s2:processing_baseline": "04.00",
            "s2:product_type": "S2MSI2A",
            "earthsearch:boa_offset_applied": False,
            "view:sun_elevation": 55.5,
            "eo:cloud_cover": 12,
        },
        "assets": {
            "red": asset,
            "scl": asset | {"eo:bands": [], "raster:bands": [{"data_type": "uint8"}]},
        },
    }


def landsat() -> dict:
    item = sentinel2()
    item["id"] = "LC08_L2SP_199024_20220609_20220616_02_T1"
    item["collection"] = "landsat-c2-l2"
    item["properties"] = {
        "datetime": "2022-06-09t10:40:31z",
        "platform": "landsat-8",
        "proj:projjson": {"$schema": "x", "id": {"authority": "EPSG", "code": 32631}},
        "proj:epsg": 32631,
        "landsat:wrs_path": "199",
        "landsat:wrs_row": 24,
        "landsat:correction": "L2SP",
        "landsat:collection_number": "02",
    }
    item["properties"].pop("proj:projjson")
    raster = {"data_type": "uint16", "nodata": 0, "scale": 2.75e-5, "offset": -0.2}
    item["assets"]["red"]["raster:bands"] = [raster]
    item["assets"]["qa_pixel"] = item["assets"].pop("scl")
    item["assets"]["qa_pixel"]["raster:bands"] = [{"data_type": "uint16", "nodata": 1}]
    return item


def stac_1_1() -> dict:
    item = sentinel2()
    band = {"name": "B04", "eo:common_name": "red", "raster:offset": -0.1}
    own = {"data_type": "uint16", "nodata": 0, "raster:scale": 1e-4, "bands": [band]}
    for asset in item["assets"].values():
        asset.pop("raster:bands")
        asset.pop("eo:bands")
    item["assets"]["red"] |= own
    return item


def own() -> dict:
    item = stac_1_1()
    item["properties"] |= {"xharmonize:sensor": "sentinel-2-l2a", "xharmonize:bandpass": "msi"}
    item["assets"]["qa"] = item["assets"].pop("scl") | {"data_type": "uint16"}
    return item


ITEMS = [sentinel2(), landsat(), stac_1_1(), own()]


def settle(source, **options) -> None:
    """What may come of a source: scenes, or an error that can be printed."""
    before = repr(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            scenes = read_scenes(source, **options)
        except xh.errors.XHarmonizeError as error:
            message = str(error)
            message.encode()
            assert "\x1b" not in message
        else:
            assert all(scene.sensor.name and scene.assets for scene in scenes)
    assert repr(source) == before


@pytest.mark.parametrize("number", range(len(ITEMS)))
def test_undamaged_items_open(number):
    assert len(read_scenes(ITEMS[number])) == 1


@QUICK
@given(st.data())
@pytest.mark.parametrize("number", first_quick(range(len(ITEMS))))
def test_a_damaged_item_is_settled_or_refused(number, data):
    settle(data.draw(changes(ITEMS[number])))


@QUICK
@given(st.data())
def test_a_damaged_item_is_found_or_refused(data):
    settle(
        data.draw(changes(ITEMS[0])),
        bbox=(3.0, 50.4, 3.2, 50.6),
        datetime="2022",
        query={"eo:cloud_cover": {"lt": 20}},
    )


@settings(QUICK, max_examples=100)
@given(st.data())
def test_a_damaged_item_becomes_a_cube_or_is_refused(data):
    item = data.draw(changes(ITEMS[data.draw(st.integers(0, 1))]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            cube = xh.open_stac(item)
        except xh.errors.XHarmonizeError as error:
            str(error).encode()
        else:
            assert 0 < cube.size <= 1e13


@QUICK
@given(st.data())
def test_a_damaged_catalogue_is_walked_or_refused(data):
    document = {"type": "FeatureCollection", "features": [ITEMS[0]], "links": []}
    settle(data.draw(changes(document)))


@QUICK
@given(st.binary(max_size=200))
@example(b"[" * 10**5)
@example(b'{"type": "Feature", "id": ' + b"1" * 10**5 + b"}")
@example(b'{"type": "Catalog", "links": {}}')
def test_any_file_is_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(data)
    with pytest.raises(xh.errors.XHarmonizeError):
        read_scenes(str(path))


@pytest.fixture(scope="module")
def real(data) -> list[dict]:
    """Items of every catalogue whose layout is known."""
    found = []
    for path in sorted((data / "stac-items").rglob("*.json")):
        document = json.loads(Path(path).read_text())
        features = document if isinstance(document, list) else document.get("features", [document])
        found += [one for one in features[:1] if one.get("type") == "Feature"]
    return found


@pytest.mark.slow
def test_real_items_damaged_are_settled_or_refused(real):
    @settings(QUICK, max_examples=150)
    @given(st.data())
    def check(drawn):
        settle(drawn.draw(changes(drawn.draw(st.sampled_from(real)))))

    before = copy.deepcopy(real)
    check()
    assert real == before
