"""What digital numbers mean is read from metadata alone: real items, and every combination."""

from __future__ import annotations

import itertools
import warnings

import pytest

from xharmonize.errors import (
    BandError,
    RadiometryError,
    RadiometryWarning,
    UnknownSensorError,
)
from xharmonize.io.stac.scenes import read_scenes
from xharmonize.sensors.registry import normalize_platform

S2, C2, C1 = "sentinel-2-l2a", "landsat-c2-l2", "landsat-c1-sr"
NO = "unknown"

# file, item id (or its beginning), (sensor, platform, baseline, level, scale, offset, nodata, crs)
REAL = [
    (
        "odc-stac/LC08_L2SP_028030_20200114_20200824_02_T1_SR.json",
        "LC08_L2SP_028030",
        (C2, "landsat-8", NO, "SR", 2.75e-5, -0.2, 0, "EPSG:32615"),
    ),
    (
        "odc-stac/LC08_L2SR_081119_20200101_20200823_02_T2.json",
        "LC08_L2SR_081119",
        (C2, "landsat-8", NO, "SR", 2.75e-5, -0.2, 0, "EPSG:3031"),
    ),
    (
        "odc-stac/S2A_28QCH_20200714_0_L2A.json",
        "S2A_28QCH",
        (S2, "sentinel-2a", "02.14", "SR", 1e-4, 0.0, 0, "EPSG:32628"),
    ),
    (
        "odc-stac/S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531.json",
        "S2B_MSIL2A_20190629",
        (S2, "sentinel-2b", "02.12", "SR", 1e-4, 0.0, 0, "EPSG:32606"),
    ),
    (
        "rustac/server/data/sentinel-2/item-collection.json",
        "S2A_T13TDE_20240422",
        (S2, "sentinel-2a", "05.10", "SR", 1e-4, -0.1, 0, "EPSG:32613"),
    ),
    (
        "stac-geoparquet/data/landsat-c2-l2-pc.json",
        "LC09_L2SP_089090_20240417",
        (C2, "landsat-9", NO, "SR", 2.75e-5, -0.2, 0, "EPSG:32655"),
    ),
    (
        "stac-geoparquet/data/sentinel-1-rtc-pc.json",
        "S1A_IW_GRDH_1SDV_20240419T045904",
        ("sentinel-1-rtc", "sentinel-1a", NO, "RTC", 1.0, 0.0, -32768, "EPSG:32633"),
    ),
    (
        "stac-geoparquet/data/sentinel-2-l2a-pc.json",
        "S2B_MSIL2A_20240419T095549_R122_T47XML",
        (S2, "sentinel-2b", "05.10", "SR", 1e-4, -0.1, 0, "EPSG:32647"),
    ),
    (
        "stac-geoparquet/sentinel-2-item.json",
        "S2B_MSIL2A_20220612",
        (S2, "sentinel-2b", "04.00", "SR", 1e-4, -0.1, 0, "EPSG:32624"),
    ),
    (
        "stactools-landsat/examples/landsat-c2-l2/LC08_L2SP_047027_20201204_02_T1/"
        "LC08_L2SP_047027_20201204_02_T1.json",
        "LC08_L2SP_047027",
        (C2, "landsat-8", NO, "SR", 2.75e-5, -0.2, 0, "EPSG:32610"),
    ),
    (
        "stactools-sentinel2/examples/sentinel2-l2a-example/S2A_T07HFE_20190212T192646_L2A/"
        "S2A_T07HFE_20190212T192646_L2A.json",
        "S2A_T07HFE",
        (S2, "sentinel-2a", "02.12", "SR", 1e-4, 0.0, 0, "EPSG:32707"),
    ),
    (
        "stactools-sentinel2/tests/data-files/"
        "S2A_MSIL2A_20230821T221941_N0509_R029_T01KAB_20230822T021825.SAFE/expected_output.json",
        "S2A_T01KAB",
        (S2, "sentinel-2a", "05.09", "SR", 1e-4, -0.1, 0, "EPSG:32701"),
    ),
    (
        "rustac/duckdb/data/100-landsat-items.parquet",
        "LC09_L2SP_034032_20231023",
        (C2, "landsat-9", NO, "SR", 2.75e-5, -0.2, 0, "EPSG:32613"),
    ),
    (
        "rustac/duckdb/data/100-landsat-items.parquet",
        "LE07_L2SP_034032_20231028",
        (C2, "landsat-7", NO, "SR", 2.75e-5, -0.2, 0, "EPSG:32613"),
    ),
    (
        "rustac/duckdb/data/100-sentinel-2-items.parquet",
        "S2B_MSIL2A_20240726T173909",
        (S2, "sentinel-2b", "05.11", "SR", 1e-4, -0.1, 0, "EPSG:32613"),
    ),
]


def facts(scene) -> tuple:
    step = scene.step
    for table in (step.scale, step.offset, step.nodata):
        assert len(set(table.values())) == 1  # these products have one for all bands
    band = next(iter(step.scale))
    return (
        scene.sensor.name,
        step.platform,
        step.processing_baseline,
        step.level,
        step.scale[band],
        step.offset[band],
        step.nodata[band],
        scene.crs,
    )


@pytest.mark.parametrize(("file", "begins", "expected"), REAL, ids=[row[1] for row in REAL])
def test_real_items_are_settled_without_a_warning(data, file, begins, expected):
    if file.endswith(".parquet"):
        pytest.importorskip("rustac")
    scenes = [s for s in read_scenes(data / "stac-items" / file) if s.id.startswith(begins)]
    assert [facts(scene) for scene in scenes[:1]] == [expected]


def test_every_real_item_states_its_platform_and_agrees_with_its_name(data):
    pytest.importorskip("rustac")
    folder = data / "stac-items"
    skipped = ("collection", "template", "sentinel-1-grd-item-raw")
    files = [*folder.rglob("*.json"), *folder.rglob("*.parquet")]
    kept = [p for p in files if not p.stem.endswith(skipped)]
    kept.append(folder / "rustac/server/data/sentinel-2/item-collection.json")
    scenes = list(itertools.chain.from_iterable(read_scenes(path) for path in kept))
    assert len(scenes) > 220
    for scene in scenes:
        satellite = scene.id[:4].rstrip("_").lower()
        letter, number = satellite[0], satellite[-1]
        family = {"s2": "sentinel-2", "s1": "sentinel-1"}.get(satellite[:2], "landsat-")
        assert scene.step.platform == family + number, scene.id
        assert (scene.step.processing_baseline != NO) == (letter == "s" and family[-1] == "2")
        assert scene.tile != NO or scene.sensor.name == "sentinel-1-rtc"
        assert set(scene.grids) >= set(scene.step.scale)


def test_the_items_of_flanders_are_settled_by_raster_bands(data):
    scenes = read_scenes(data / "flanders-2018/catalog.json")
    found = {(*facts(scene), scene.units) for scene in scenes}
    crs = "EPSG:32631"
    assert found == {
        (S2, NO, NO, "SR", 1e-4, 0.0, 0, crs, "1"),
        (C1, "landsat-8", NO, "SR", 1e-4, 0.0, 0, crs, "1"),
        ("sentinel-1-grd", NO, NO, "GRD", 1e-4, 0.0, 0, crs, "dB"),
    }


def test_uncalibrated_sentinel_1_is_refused(data):
    raw = data / (
        "stac-items/planetary-computer-tasks/sentinel-1-grd/test-data/sentinel-1-grd-item-raw.json"
    )
    with pytest.raises(RadiometryError, match="uncalibrated amplitudes"):
        read_scenes(raw)
    scene = read_scenes(raw, radiometry={"scale": 2.0, "offset": 1.0})[0]
    assert scene.step.scale == {"vv": 2.0, "vh": 2.0}


# ---------------------------------------------------------------- every combination, Sentinel-2
def sentinel2(
    *,
    baseline: str | None = None,
    flag: bool | None = None,
    offset: float | None = None,
    version: str = "1.0",
    crs_key: str = "proj:epsg",
    crs_level: str = "item",
    **properties,
) -> dict:
    """A Sentinel-2 item as catalogues write them; the sensing date says nothing on purpose."""
    crs = {crs_key: 32631 if crs_key == "proj:epsg" else "EPSG:32631"}
    raster = {} if offset is None else {"scale": 1e-4, "offset": offset}
    if version == "1.0":
        asset = {"raster:bands": [{"nodata": 0, "data_type": "uint16", **raster}]}
    else:
        asset = {
            "nodata": 0,
            "data_type": "uint16",
            **{f"raster:{k}": v for k, v in raster.items()},
        }
    given = {
        "datetime": "2016-05-01T10:50:21Z",
        "platform": "Sentinel-2A",
        "s2:processing_baseline": baseline,
        "earthsearch:boa_offset_applied": flag,
        **(crs if crs_level == "item" else {}),
        **properties,
    }
    return {
        "type": "Feature",
        "stac_version": "1.0.0" if version == "1.0" else "1.1.0",
        "id": "S2A_31UDS_20160501_0_L2A",
        "collection": "sentinel-2-l2a",
        "bbox": [3.0, 50.0, 4.0, 51.0],
        "geometry": None,
        "links": [],
        "properties": {key: value for key, value in given.items() if value is not None},
        "assets": {
            key: {"href": f"/x/{key}.tif", **asset, **(crs if crs_level == "asset" else {})}
            for key in ("red", "nir")
        },
    }


ERROR = "error"
# (baseline has an offset, flag, declared offset) -> (offset, warned)
RULES = {
    (True, None, None): (-0.1, False),
    (True, None, -0.1): (-0.1, False),
    (True, None, 0.0): ERROR,
    (True, False, None): (-0.1, False),
    (True, False, -0.1): (-0.1, False),
    (True, False, 0.0): ERROR,
    (True, True, None): (0.0, False),
    (True, True, -0.1): (0.0, True),
    (True, True, 0.0): (0.0, False),
    (False, None, None): (0.0, False),
    (False, None, -0.1): (0.0, True),
    (False, None, 0.0): (0.0, False),
    (False, False, None): (0.0, False),
    (False, False, -0.1): (0.0, True),
    (False, False, 0.0): (0.0, False),
    (False, True, None): (0.0, False),
    (False, True, -0.1): (0.0, True),
    (False, True, 0.0): (0.0, False),
    (None, None, None): ERROR,
    (None, None, -0.1): (-0.1, False),
    (None, None, 0.0): (0.0, False),
    (None, False, None): ERROR,
    (None, False, -0.1): (-0.1, False),
    (None, False, 0.0): (0.0, False),
    (None, True, None): (0.0, False),
    (None, True, -0.1): (0.0, True),
    (None, True, 0.0): (0.0, False),
}
BASELINES = {True: ("04.00", "05.10"), False: ("00.01", "02.14", "03.01"), None: (None, "99.99")}


@pytest.mark.parametrize(("rule", "expected"), RULES.items(), ids=map(str, RULES))
def test_every_combination_of_baseline_flag_and_declared_offset(rule, expected):
    has_offset, flag, declared = rule
    shapes = itertools.product(
        BASELINES[has_offset],
        ("1.0", "1.1"),
        ("proj:epsg", "proj:code"),
        ("item", "asset"),
    )
    for baseline, version, crs_key, crs_level in shapes:
        item = sentinel2(
            baseline=baseline,
            flag=flag,
            offset=declared,
            version=version,
            crs_key=crs_key,
            crs_level=crs_level,
        )
        if expected == ERROR:
            with pytest.raises(RadiometryError, match=r"S2A_31UDS_20160501_0_L2A.*radiometry="):
                read_scenes(item)
            continue
        offset, warned = expected
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            scene = read_scenes(item)[0]
        assert scene.step.offset == {"red": offset, "nir": offset}
        assert scene.step.scale == {"red": 1e-4, "nir": 1e-4}
        assert scene.crs == "EPSG:32631"
        assert [w.category for w in caught] == [RadiometryWarning] * warned


def test_one_warning_names_the_items_a_rule_settled():
    items = [
        sentinel2(baseline="05.10", flag=True, offset=-0.1) | {"id": f"i{n}"} for n in range(9)
    ]
    with pytest.warns(RadiometryWarning, match=r"9 items \(i0, i1, i2, …\).*boa_offset_applied"):
        read_scenes(items)


@pytest.mark.parametrize(
    ("properties", "baseline"),
    [
        ({"s2:processing_baseline": "05.10"}, "05.10"),
        ({"processing:version": "05.11"}, "05.11"),
        ({"processing:version": "5.1"}, "05.10"),
        ({"sentinel:processing_baseline": "04.00"}, "04.00"),
        (
            {"s2:product_uri": "S2A_MSIL2A_20160501T105031_N0510_R051_T31UDS_20231105T1.SAFE"},
            "05.10",
        ),
        ({"s2:datatake_id": "GS2A_20160501T105031_004480_N02.04"}, "02.04"),
        ({"processing:version": "abc"}, NO),
    ],
)
def test_the_baseline_is_found_where_catalogues_keep_it(properties, baseline):
    scene = read_scenes(sentinel2(offset=None, flag=True, **properties))[0]
    assert scene.step.processing_baseline == baseline


@pytest.mark.parametrize("date", ["2016-05-01T10:50:21Z", "2024-05-01T10:50:21Z"])
def test_the_sensing_date_decides_nothing(date):
    for baseline, offset in {"02.14": 0.0, "05.00": -0.1}.items():
        scene = read_scenes(sentinel2(baseline=baseline, datetime=date))[0]
        assert scene.step.offset["red"] == offset


def test_radiometry_settles_contradictions_for_all_items_or_by_id():
    item = sentinel2(baseline="05.10", offset=0.0)
    assert read_scenes(item, radiometry={"offset": 0.0})[0].step.offset["red"] == 0.0
    by_id = {item["id"]: {"offset": -0.1, "nodata": 9}}
    step = read_scenes(item, radiometry=by_id)[0].step
    assert (step.scale["red"], step.offset["red"], step.nodata["red"]) == (1e-4, -0.1, 9.0)
    with pytest.raises(RadiometryError, match=r"radiometry=.* holds"):
        read_scenes(item, radiometry={"gain": 1.0})
    with pytest.raises(RadiometryError, match="mixes both forms"):
        read_scenes(item, radiometry={"offset": 0.0, item["id"]: {"offset": 0.0}})


def test_radiometry_that_names_none_of_the_items_is_refused():
    with pytest.raises(RadiometryError, match="none of which is among the items"):
        read_scenes(sentinel2(baseline="05.10"), radiometry={"typo": {"offset": 0.0}})


def test_raster_fields_of_both_versions_that_disagree_are_an_error():
    item = sentinel2(baseline="05.10", offset=-0.1)
    item["assets"]["nir"]["raster:offset"] = 0.0
    with pytest.raises(RadiometryError, match=r"'nir' says offset -0.1 .* 0.0 in raster:offset"):
        read_scenes(item)


def test_a_scale_that_is_not_the_products_is_an_error():
    item = sentinel2(baseline="05.10", offset=-0.1)
    item["assets"]["red"]["raster:bands"][0]["scale"] = 1.0
    with pytest.raises(RadiometryError, match=r"declares scale 1\.0"):
        read_scenes(item)


# ---------------------------------------------------------------- other products
def landsat(*, collection: str, number: str | None, item_id: str, raster: dict | None) -> dict:
    asset = {"href": "/x/red.tif"} | ({"raster:bands": [raster]} if raster else {})
    properties = {"datetime": "2020-01-01T17:00:00Z", "proj:epsg": 32615}
    if number:
        properties["landsat:collection_number"] = number
    return {
        "type": "Feature",
        "id": item_id,
        "collection": collection,
        "bbox": [-94.0, 41.0, -92.0, 43.0],
        "properties": properties,
        "assets": {"red": asset, "lwir11": {"href": "/x/ST_B10.TIF", "roles": ["data"]}},
    }


NEW, OLD = "LC08_L2SP_028030_20200101_20200824_02_T1", "LC08_L1TP_028030_20200101_20200824_01_T1"


def test_landsat_collections_are_never_read_as_each_other():
    step = read_scenes(landsat(collection=C2, number="02", item_id=NEW, raster=None))[0].step
    assert (step.scale["red"], step.offset["red"], step.nodata["red"]) == (2.75e-5, -0.2, 0)
    step = read_scenes(landsat(collection=C1, number="01", item_id=OLD, raster=None))[0].step
    assert (step.scale["red"], step.offset["red"], step.nodata["red"]) == (1e-4, 0.0, -9999)
    with pytest.raises(RadiometryError, match="Collection 2, but its collection 'landsat-c1-sr'"):
        read_scenes(landsat(collection=C1, number=None, item_id=NEW, raster=None))
    with pytest.raises(RadiometryError, match="Collection 1, but"):
        read_scenes(landsat(collection=C2, number="01", item_id=OLD, raster=None))
    raster = {"scale": 1e-4, "offset": 0.0}
    with pytest.raises(RadiometryError, match=r"declares scale 0\.0001"):
        read_scenes(landsat(collection=C2, number="02", item_id=NEW, raster=raster))


def test_a_fill_value_clipped_to_an_unsigned_type_is_zero():
    raster = {"data_type": "uint16", "scale": 1e-4, "offset": 0.0}
    step = read_scenes(landsat(collection=C1, number="01", item_id=OLD, raster=raster))[0].step
    assert step.nodata["red"] == 0


def test_keys_that_spell_out_their_resolution_give_the_finest():
    item = sentinel2(baseline="05.10", offset=-0.1, version="1.1")
    asset = item["assets"].pop("red")
    item["assets"] = dict.fromkeys(("B04_60m", "B04_20m", "B04_10m", "SCL_60m", "SCL_20m"), asset)
    scene = read_scenes(item)[0]
    assert scene.assets == {"red": "B04_10m", "scl": "SCL_20m"}


def test_surface_temperature_comes_only_when_asked_for_and_with_its_own_numbers():
    item = landsat(collection=C2, number="02", item_id=NEW, raster=None)
    assert list(read_scenes(item)[0].step.scale) == ["red"]
    scene = read_scenes(item, bands=["lwir11"])[0]
    assert (scene.step.scale["lwir11"], scene.step.offset["lwir11"]) == (0.00341802, 149.0)
    assert scene.units == "K"
    with pytest.raises(RadiometryError, match=r"'red' \[1\], 'lwir11' \[K\] .*open them apart"):
        read_scenes(item, bands=["red", "lwir11"])


def test_level_1_of_collection_1_is_no_surface_reflectance():
    """Its product names are those of surface reflectance, its assets are not."""
    item = landsat(collection="landsat-8-l1", number=None, item_id=OLD, raster=None)
    with pytest.raises(UnknownSensorError, match="is of no registered sensor"):
        read_scenes(item)
    item["assets"]["pixel_qa"] = {"href": "/x/pixel_qa.tif"}
    assert read_scenes(item)[0].sensor.name == "landsat-c1-sr"


def test_a_scale_of_stac_1_1_holds_beside_an_offset_given():
    item = landsat(collection=C2, number="02", item_id=NEW, raster={"nodata": 0})
    item["assets"]["red"]["raster:scale"] = 1e-4
    with pytest.raises(RadiometryError, match=r"declares scale 0\.0001"):
        read_scenes(item, radiometry={"offset": 0.0})


@pytest.mark.parametrize("product", ["L30", "S30"])
def test_hls_bands_are_read_by_product(product):
    keys = ["B04", "B05", "B8A", "Fmask"]
    item = {
        "type": "Feature",
        "id": f"HLS.{product}.T31UDS.2020001T105031.v2.0",
        "collection": f"HLS{product}_2.0",
        "bbox": [3.0, 50.0, 4.0, 51.0],
        "properties": {"datetime": "2020-01-01T10:50:31Z", "proj:epsg": 32631},
        "assets": {key: {"href": f"/x/{key}.tif"} for key in keys},
    }
    scene = read_scenes(item)[0]
    assert scene.assets["nir08"] == {"L30": "B05", "S30": "B8A"}[product]
    assert scene.assets["fmask"] == "Fmask"
    step = scene.step
    assert (step.scale["red"], step.offset["red"], step.nodata["red"]) == (1e-4, 0.0, -9999)
    assert (step.level, step.bandpass, step.platform) == ("NBAR", "oli", NO)
    assert scene.tile == "31UDS"


# ---------------------------------------------------------------- who observed
@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Sentinel-2B", "sentinel-2b"),
        ("sentinel-2c", "sentinel-2c"),
        ("S2A", "sentinel-2a"),
        ("LANDSAT_8", "landsat-8"),
        ("landsat-9", "landsat-9"),
        ("SENTINEL-1A", "sentinel-1a"),
        ("GF-1", "gaofen-1"),
        ("Sentinel-2", NO),
        ("", NO),
        ("Some_Thing 7", "some-thing-7"),
    ],
)
def test_platforms_are_spelled_as_in_stac(spelling, name):
    assert normalize_platform(spelling) == name


def test_the_platform_is_found_in_the_name_of_an_item():
    item = sentinel2(baseline="02.14")
    del item["properties"]["platform"]
    assert read_scenes(item)[0].step.platform == "sentinel-2a"


def test_a_platform_that_contradicts_the_name_is_settled_by_platform():
    item = sentinel2(baseline="02.14", platform="sentinel-2b")
    with pytest.raises(RadiometryError, match=r"says platform 'sentinel-2b'.*platform="):
        read_scenes(item)
    assert read_scenes(item, platform={item["id"]: "sentinel-2b"})[0].step.platform == "sentinel-2b"


def test_what_no_registered_sensor_fits_is_named():
    level_1 = sentinel2(baseline="02.14") | {
        "collection": "sentinel-2-l1c",
        "id": "S2A_31UDS_20160501_0_L1C",
    }
    with pytest.raises(UnknownSensorError, match=r"sentinel-2-l1c.*register"):
        read_scenes(level_1)
    old = landsat(collection=C2, number="02", item_id=NEW.replace("LC08", "LT05"), raster=None)
    with pytest.raises(UnknownSensorError, match="observed by 'landsat-5'"):
        read_scenes(old)


def test_a_missing_band_is_named_with_those_that_are_there():
    with pytest.raises(BandError, match=r"no band 'swir16'; it has \['red', 'nir'\]"):
        read_scenes(sentinel2(baseline="02.14"), bands=["red", "swir16"])


@pytest.mark.slow
# ---------------------------------------------------------------- simulated items, every dialect
def test_simulated_items_of_every_dialect_are_settled_as_their_pixels_are():
    from xharmonize.simulate import Metadata, Simulation, make_item

    fields = {
        "stac_version": ("1.0.0", "1.1.0"),
        "projection": ("proj:epsg", "proj:code"),
        "projection_at": ("item", "asset"),
        "raster": ("stated", "absent"),
        "boa_offset_applied": (None, False, True),
        "platform": ("stated", "absent"),
    }
    sensors = (S2, C2, "gaofen-1-ard", "sentinel-1-rtc")
    for values in itertools.product(*fields.values()):
        meta = Metadata(**dict(zip(fields, values)))
        simulation = Simulation(
            end="2022-05-14", sensors=sensors, baseline="mixed", metadata=meta, size=(600.0, 600.0)
        )
        passes = {str(one.time): one for one in simulation.passes()}
        scenes = read_scenes([make_item(simulation, one) for one in passes.values()])
        assert len(scenes) == len(passes)
        for scene in scenes:
            one = passes[str(scene.datetime.astype("M8[s]"))]
            assert scene.sensor.name == one.orbit.sensor
            assert scene.step.platform == one.orbit.platform
            assert scene.crs == simulation.crs
            expected = scene.sensor.radiometry.offset
            if scene.sensor.name == S2:
                assert scene.step.processing_baseline == simulation.baseline_of(one)
                shifted = simulation.baseline_of(one) >= "04.00"
                expected = -0.1 if shifted and meta.boa_offset_applied is not True else 0.0
            assert set(scene.step.offset.values()) == {expected}
            assert set(scene.step.scale.values()) == {scene.sensor.radiometry.scale}
