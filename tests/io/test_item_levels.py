"""No statement of an item outranks another: names, levels, flags and CRSs agree, or it is an error.

Prefixes and spellings of a fact are the catalogue's own choice.
"""

from __future__ import annotations

import json

import pyproj
import pytest
from helpers.items import landsat, sentinel2

import xharmonize as xh
from xharmonize.errors import CatalogError, RadiometryError
from xharmonize.io.stac.scenes import read_scenes

L1C = "S2A_MSIL1C_20220601T105031_N0509_R051_T31UDS_20220601T170000"
L2A = L1C.replace("L1C", "L2A")
L1TP = "LC09_L1TP_198024_20220602_20230101_02_T1"


@pytest.mark.parametrize(
    "about",
    [
        {"id": L1C},
        {"id": "S2A_T31UDS_20220601T105031_L1C"},
        {"s2:product_uri": f"{L1C}.SAFE"},
        {"sentinel2:product_uri": f"{L1C}.SAFE"},
        {"product_uri": f"{L1C}.SAFE"},
        {"s2:granule_id": "S2A_OPER_MSI_L1C_TL_2APS_20220601T125017_A036366_T31UDS_N04.00"},
        {"processing:level": "L1C"},
        {"processing:level": "Level-1C"},
        {"processing:level": "L1"},
        {"processing:level": 1},
        {"s2:processing_level": "Level-1C"},
        {"s2:product_type": "S2MSI1C"},
        {"product:type": "S2MSI1C"},
        {"id": "HLS.S30.T31UDS.2022152T105031.v2.0"},
    ],
    ids=str,
)
def test_level_1c_under_a_surface_reflectance_collection_is_refused(tmp_path, about):
    refuse(sentinel2(tmp_path), about)


@pytest.mark.parametrize(
    "about",
    [
        {"id": L1TP},
        {"id": L1TP.replace("L1TP", "L1GT")},
        {"id": L1TP.replace("L1TP", "L1GS")},
        {"landsat:product_id": L1TP},
        {"landsat:correction": "L1TP"},
        {"landsat:correction": "L1GS"},
        {"landsat:processing_level": "L1GT"},
        {"processing:level": "L1"},
        {"id": "HLS.L30.T31UDS.2022153T104031.v2.0"},
    ],
    ids=str,
)
def test_landsat_level_1_under_a_surface_reflectance_collection_is_refused(tmp_path, about):
    refuse(landsat(tmp_path), about)


def refuse(item, about) -> None:
    name = about.get("id", item["id"])
    item["id"] = name
    item["properties"] |= {key: value for key, value in about.items() if key != "id"}
    with pytest.raises(RadiometryError, match=f"item '{name}' .* says .* correct"):
        xh.open_stac(item)


@pytest.mark.parametrize(
    ("make", "href"),
    [
        (sentinel2, f"/data/{L1C}.SAFE/GRANULE/B04.jp2"),
        (sentinel2, "s3://sentinel-s2-l1c/tiles/31/U/DS/2022/6/1/0/B04.jp2"),
        (landsat, f"s3://usgs-landsat/collection02/level-1/standard/{L1TP}_B4.TIF"),
    ],
)
def test_assets_that_say_otherwise_are_refused(tmp_path, make, href):
    item = make(tmp_path)
    item["assets"]["red"]["href"] = href
    with pytest.raises(RadiometryError, match="its asset 'red' says"):
        read_scenes(item)
    assert len(read_scenes(item, bands=["swir16"])) == 1  # what is not read decides nothing
    item["assets"]["red"] |= {"href": "/data/x.tif", "processing:level": "L1"}
    with pytest.raises(RadiometryError, match="asset 'red' > processing:level says 'L1'"):
        read_scenes(item)


def test_products_of_other_kinds_under_hls_and_sentinel_1():
    asset = {"href": "/x.tif", "raster:bands": [{"scale": 1e-4}]}
    base = {"type": "Feature", "bbox": [3, 50, 4, 51], "links": []}
    about = {"datetime": "2022-06-01T00:00:00Z"}
    hls = {"id": L2A, "collection": "hls2-s30", "assets": {"B04": asset}, "properties": about}
    with pytest.raises(RadiometryError, match="another product"):
        read_scenes(base | hls)
    # Granules of HLS name the Level-1C product that they were made from.
    source = about | {"PRODUCT_URI": f"{L1C}.SAFE", "hls:product_uri": f"{L1C}.SAFE"}
    good = hls | {"id": "HLS.S30.T31UDS.2022152T105031.v2.0", "properties": source}
    assert read_scenes(base | good)[0].sensor.name == "hls-s30"
    for name, more in (
        ("S1A_IW_SLC__1SDV_20220601T055000_20220601T055027_043464_053085_1234", {}),
        ("S1A_IW_OCN__2SDV_20220601T055000_20220601T055027_043464_053085_1234", {}),
        ("S1A_x", {"sar:product_type": "SLC"}),
    ):
        for collection in ("sentinel-1-grd", "sentinel-1-rtc"):
            one = {"id": name, "collection": collection, "assets": {"vv": asset}}
            with pytest.raises(RadiometryError, match="another product"):
                read_scenes(base | one | {"properties": about | more})


def test_collection_1_surface_reflectance_keeps_its_names_of_level_1(tmp_path):
    item = landsat(tmp_path, item_id=L1TP.replace("_02_", "_01_").replace("LC09", "LC08"))
    item["collection"], item["properties"]["platform"] = "landsat-c1-sr", "landsat-8"
    item["assets"] = {key: {"href": f"/x/{item['id']}_sr_band4.tif"} for key in ("red", "pixel_qa")}
    item["properties"]["landsat:correction"] = "L1TP"
    assert read_scenes(item)[0].step.level == "SR"
    item["assets"]["red"]["href"] = f"/x/{item['id']}_B4.TIF"
    with pytest.raises(RadiometryError, match="top-of-atmosphere"):
        read_scenes(item)


# ---------------------------------------------------------------- the offset that was applied
@pytest.mark.parametrize("prefix", ["earthsearch:", "sentinel:", "s2:", "sentinel2:", "my:", ""])
@pytest.mark.parametrize("value", [True, "true", "True", 1, "1", "yes"])
def test_the_offset_applied_is_read_under_any_prefix(tmp_path, prefix, value):
    item = sentinel2(tmp_path)
    item["properties"][f"{prefix}boa_offset_applied"] = value
    assert read_scenes(item)[0].step.offset["red"] == 0.0
    item["properties"][f"{prefix}boa_offset_applied"] = False
    assert read_scenes(item)[0].step.offset["red"] == -0.1


@pytest.mark.parametrize("value", ["maybe", 2, [], -1000])
def test_an_unreadable_flag_is_quoted(tmp_path, value):
    item = sentinel2(tmp_path)
    item["properties"]["s2:boa_offset_applied"] = value
    with pytest.raises(RadiometryError) as caught:
        read_scenes(item)
    assert f"s2:boa_offset_applied {value!r}" in str(caught.value)
    assert read_scenes(item, radiometry={"s2": {"scale": 1e-4, "offset": 0.0}})


def test_flags_of_two_prefixes_that_disagree(tmp_path):
    item = sentinel2(tmp_path)
    item["properties"] |= {"s2:boa_offset_applied": True, "earthsearch:boa_offset_applied": False}
    with pytest.raises(RadiometryError, match="contradicts itself"):
        read_scenes(item)


def test_baseline_and_tile_are_read_under_any_prefix(tmp_path):
    item = sentinel2(tmp_path)
    for key in ("s2:processing_baseline", "s2:datatake_id", "grid:code"):
        del item["properties"][key]
    item["properties"] |= {"sentinel2:processing_baseline": "04.00", "eod:mgrs_tile": "31UDS"}
    step = read_scenes(item)[0].step
    assert (step.processing_baseline, step.tile) == ("04.00", "31UDS")


# ---------------------------------------------------------------- CRS and time
CRS = pyproj.CRS.from_epsg(32631)


@pytest.mark.parametrize("where", ["properties", "asset"])
@pytest.mark.parametrize(
    "stated",
    [
        {"proj:code": 32631},
        {"proj:code": "32631"},
        {"proj:code": 32631.0},
        {"proj:code": "epsg:32631"},
        {"proj:code": "urn:ogc:def:crs:EPSG::32631"},
        {"proj:code": "urn:ogc:def:crs:EPSG:9.9.1:32631"},
        {"proj:code": "http://www.opengis.net/def/crs/EPSG/0/32631"},
        {"proj:epsg": "32631"},
        {"proj:epsg": "EPSG:32631"},
        {"projection:epsg": 32631},
        {"proj:projjson": CRS.to_json_dict()},
        {"proj:code": None, "proj:projjson": CRS.to_json_dict()},
        {"proj:projjson": json.dumps(CRS.to_json_dict())},
        {"proj:wkt2": CRS.to_wkt()},
        {"proj:wkt": CRS.to_wkt("WKT1_GDAL")},
        {"proj:epsg": 32631, "proj:wkt2": CRS.to_wkt()},
    ],
    ids=lambda stated: str(stated)[:40],
)
def test_a_crs_is_read_however_it_is_spelt(tmp_path, where, stated):
    item = sentinel2(tmp_path)
    del item["properties"]["proj:epsg"]
    holders = item["assets"].values() if where == "asset" else [item["properties"]]
    for holder in holders:
        holder.update(stated)
    assert read_scenes(item)[0].crs == "EPSG:32631"
    assert xh.open_stac(item, bands="red").sizes["x"] == 24


def test_a_crs_of_another_authority_or_of_none(tmp_path):
    item = sentinel2(tmp_path) | {"bbox": None}
    del item["properties"]["proj:epsg"]
    item["properties"]["proj:code"] = "ESRI:54009"
    item |= {"bbox": None, "geometry": None}  # they are those of the UTM zone
    assert read_scenes(item)[0].crs == "ESRI:54009"
    own = "+proj=laea +lat_0=51 +lon_0=4 +datum=WGS84"
    item["properties"] |= {"proj:code": None, "proj:wkt2": pyproj.CRS(own).to_wkt()}
    assert pyproj.CRS(read_scenes(item)[0].crs) == pyproj.CRS(own)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("proj:code", "EPSG:0"),
        ("proj:code", ["EPSG:32631"]),
        ("proj:code", "UTM zone 31"),
        ("proj:epsg", 99999),
        ("proj:projjson", {"type": "none"}),
        ("proj:wkt2", "PROJCRS[...]"),
    ],
)
def test_an_unreadable_crs_is_quoted_and_not_called_absent(tmp_path, key, value):
    item = sentinel2(tmp_path)
    del item["properties"]["proj:epsg"]
    item["properties"][key] = value
    with pytest.raises(CatalogError) as caught:
        xh.open_stac(item)
    message = str(caught.value)
    assert f"{key} is {value!r}" in message
    assert "says no CRS" not in message


def test_two_crss_of_one_asset_are_refused(tmp_path):
    item = sentinel2(tmp_path)
    item["properties"] |= {"proj:code": "EPSG:32632", "proj:wkt2": CRS.to_wkt()}
    item["properties"].pop("proj:epsg")
    with pytest.raises(CatalogError, match="contradicts itself"):
        read_scenes(item)


@pytest.mark.parametrize("text", ["2022-06-01t10:50:00z", "2022-06-01T12:50:00+02:00"])
def test_times_of_rfc_3339_in_lower_case(tmp_path, text):
    item = sentinel2(tmp_path, time=text)
    scene = read_scenes(item, datetime="2022-06-01")[0]
    assert str(scene.datetime)[:16] == "2022-06-01T10:50"
