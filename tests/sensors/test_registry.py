"""The registry: bands, radiometry, quality layers and collections of every product."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

import xharmonize as xh
from xharmonize.sensors import (
    SEPARATOR,
    UNKNOWN,
    Names,
    find_sensor,
    get_sensor,
    list_sensors,
    register_sensor,
)
from xharmonize.sensors.qa import LAYOUTS


@pytest.fixture
def registry(monkeypatch):
    """Registrations of a test end with it."""
    from xharmonize.sensors import registry

    monkeypatch.setattr(registry, "_SENSORS", dict(registry._SENSORS))


@pytest.mark.parametrize("name", list_sensors())
def test_every_product_is_whole(name):
    sensor = get_sensor(name)
    assert sensor.name == name
    assert sensor.title
    assert sensor.source
    assert sensor.collections
    assert all(layer.layout in LAYOUTS for layer in sensor.qa)
    assert sum(layer.is_primary for layer in sensor.qa) == bool(sensor.qa)
    for instrument in sensor.instruments:
        names = [band.name for band in instrument.bands]
        assert len(set(names)) == len(names)
        for band in instrument.bands:
            assert band.low <= band.center <= band.high
            assert band.gsd > 0
            assert band.assets
    assert hash(sensor) == hash(pickle.loads(pickle.dumps(sensor)))


@pytest.mark.parametrize("name", list_sensors())
def test_edges_and_centres_follow_wavelength(name):
    for instrument in get_sensor(name).instruments:
        visible = [b for b in instrument.bands if b.name in ("blue", "green", "red", "swir16")]
        assert [b.center for b in visible] == sorted(b.center for b in visible)


def test_b08_is_not_b8a():
    msi = get_sensor("sentinel-2-l2a").instrument("sentinel-2b")
    assert (msi.band("nir").source, msi.band("nir08").source) == ("B08", "B8A")
    assert (msi.band("B8A").gsd, msi.band("B08").gsd) == (20.0, 10.0)
    with pytest.raises(
        xh.errors.BandError, match="sentinel-2b has no band 'pan'; it has coastal, blue"
    ):
        msi.band("pan")


def test_b01_is_a_60_m_band():  # one of the papers prints 10 m
    assert get_sensor("sentinel-2-l2a").instrument().band("coastal").gsd == 60.0


def test_asset_keys_differ_between_landsat_platforms():
    sensor = get_sensor("landsat-c2-l2")
    assert "SR_B4.TIF" in sensor.instrument("landsat-8").band("red").assets
    assert "SR_B4.TIF" in sensor.instrument("landsat-7").band("nir08").assets


def test_hls_names_its_bands_by_product():
    l30, s30 = get_sensor("hls-l30"), get_sensor("hls-s30")
    assert l30.instrument().band("nir08").assets[0] == "B05"
    assert s30.instrument().band("nir08").assets[0] == "B8A"
    assert s30.instrument().band("nir").assets[0] == "B08"
    assert s30.bandpass_of("sentinel-2b") == "oli"
    assert s30.level == "NBAR"
    assert {band.gsd for band in s30.instrument().bands} == {30.0}


@pytest.mark.parametrize(
    ("baseline", "offset"), [("02.12", 0.0), ("03.01", 0.0), ("04.00", -0.1), ("05.11", -0.1)]
)
def test_offset_comes_with_the_baseline(baseline, offset):
    assert get_sensor("sentinel-2-l2a").radiometry.offset_at(baseline) == offset


def test_an_unknown_baseline_leaves_no_offset():
    with pytest.raises(xh.errors.RadiometryError, match="baseline, which is 'unknown'; pass"):
        get_sensor("sentinel-2-l2a").radiometry.offset_at("unknown")
    assert get_sensor("landsat-c2-l2").radiometry.offset_at("unknown") == -0.2


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(
        xh.errors.UnknownSensorError, match=r"did you mean 'sentinel-2-l2a'.*hls-s30"
    ):
        get_sensor("sentinel-2-l2")
    with pytest.raises(KeyError, match="landsat-8, landsat-9, landsat-7"):
        get_sensor("landsat-c2-l2").instrument("landsat-3")


def test_twins_by_their_family_name():
    sensor = get_sensor("sentinel-2-l2a")
    assert sensor.bandpass_of("sentinel-2") == "msi"
    with pytest.raises(xh.errors.UnknownSensorError):
        sensor.instrument("sentinel")


@pytest.mark.parametrize(
    ("collection", "name"),
    [
        ("sentinel-s2-l2a-cogs", "sentinel-2-l2a"),
        ("HLSL30.v2.0", "hls-l30"),
        ("hls2-s30", "hls-s30"),
        ("landsat-c2l2-sr", "landsat-c2-l2"),
        ("landsat-8-c1-sr", "landsat-c1-sr"),
        ("mine", None),
    ],
)
def test_products_by_their_collections(collection, name):
    found = find_sensor(collection)
    assert (found and found.name) == name


def test_users_register_their_own(registry):
    mine = replace(get_sensor("gaofen-1-ard"), name="gaofen-6-ard", collections=("gf6",))
    register_sensor(mine)
    assert get_sensor("gaofen-6-ard") is mine
    assert find_sensor("GF6") is mine
    with pytest.raises(xh.errors.SensorError, match="registered; pass replace=True"):
        register_sensor(mine)
    register_sensor(replace(mine, title="again"), replace=True)
    assert get_sensor("gaofen-6-ard").title == "again"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instruments": ()}, "needs an instrument"),
        ({"clear": ("clouds",)}, "no quality flag .'clouds'"),
        ({"collections": ("HLSL30",)}, "'HLSL30' is read as 'hls-l30'"),
        ({}, "'gaofen-1-ard' is read as 'gaofen-1-ard'"),
    ],
)
def test_registration_refuses_what_cannot_work(registry, change, message):
    with pytest.raises(xh.errors.SensorError, match=message):
        register_sensor(replace(get_sensor("gaofen-1-ard"), name="x", **change))


def test_registration_refuses_unknown_layouts(registry):
    sensor = get_sensor("sentinel-2-l2a")
    layer = replace(sensor.qa[0], layout="mine")
    with pytest.raises(xh.errors.SensorError, match=r"no quality layout .'mine'.*'scl'"):
        register_sensor(replace(sensor, name="x", qa=(layer,)))


def test_centres_agree_with_the_response_curves(data):
    """Response-weighted means of the published OLI curves, within a tenth of a nanometre."""
    pandas = pytest.importorskip("pandas")
    table = pandas.read_csv(
        data / "srf" / "Landsat_8_Spectral_Response.csv", sep=None, engine="python"
    )
    wavelength = table.iloc[:, 0].to_numpy(float)
    columns = {"blue": "Blue", "green": "Green", "red": "Red", "nir08": "NIR", "swir16": "SWIR1"}
    for name, column in columns.items():
        band = get_sensor("landsat-c2-l2").instrument("landsat-8").band(name)
        near = (wavelength > band.low - 50) & (wavelength < band.high + 50)
        weight = table[column].to_numpy(float)[near]
        assert band.center == pytest.approx(np.average(wavelength[near], weights=weight), abs=0.1)


def test_names_in_one_string_are_spelt_in_one_way():
    assert str(Names.of(["b", "a|b", "a"])) == str(Names.of("b|a")) == f"a{SEPARATOR}b"
    assert str(Names.of(np.array(["SR", "SR"]))) == "SR"
    assert str(Names.of([])) == str(Names.of("")) == UNKNOWN
    assert Names.of(str(Names.of(["etm+", "oli"]))) == {"etm+", "oli"}
    assert "NBAR" in Names.of("NBAR|SR")


@pytest.mark.parametrize(
    ("own", "allowed", "is_fit"),
    [
        ("SR", "SR", True),
        ("SR", "NBAR|SR", True),
        ("NBAR|SR", "SR|NBAR", True),
        ("NBAR|SR", "SR", False),
        ("TOA", "NBAR|SR", False),
        ("SR|unknown", "SR", True),
        ("unknown", "SR", True),
        ("SR", "unknown", True),
        ("SR", "", True),
        ("NBAR", "SR|unknown", False),
    ],
)
def test_what_was_made_of_several_is_fit_for_what_each_is(own, allowed, is_fit):
    assert Names.of(own).fit(Names.of(allowed)) is is_fit


def test_no_product_has_the_separator_in_its_name(registry):
    words = {
        word
        for sensor in map(get_sensor, list_sensors())
        for word in (sensor.name, *sensor.collections, *sensor.platforms, sensor.level)
    }
    assert not [word for word in words if SEPARATOR in word]
    with pytest.raises(xh.errors.SensorError, match="stands between names"):
        register_sensor(replace(get_sensor("landsat-c2-l2"), name="a|b", collections=()))
