"""Fields of errors, and what is suggested for names nobody knows."""

from __future__ import annotations

import pickle

import pytest

import xharmonize as xh
from xharmonize import errors
from xharmonize.errors import nearest
from xharmonize.testing import example_cube

CLASSES = [
    one
    for one in vars(errors).values()
    if isinstance(one, type) and issubclass(one, errors.XHarmonizeError)
]


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_keeps_its_fields_on_the_way_from_a_worker(kind):
    error = kind("is odd", cure="mend it", argument="tile", value=(3, "m"), item="S2A_1")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert vars(again) == vars(error)
    assert str(again) == str(error) == "tile=(3, 'm') is odd; mend it"


def test_an_error_names_argument_or_item_and_may_have_neither():
    assert str(errors.GridError("has no CRS", item="a")) == "item 'a' has no CRS"
    assert str(errors.BandError("no band", cure="add one")) == "no band; add one"
    error = errors.CatalogError("is closed", cure="open it")
    error.cure = "wait"
    assert str(error) == "is closed; wait"  # worded when asked, so that callers may add to it


def test_raised_errors_say_what_was_given(cube):
    with pytest.raises(errors.GridError) as caught:
        xh.regrid(cube, resolution=-1)
    assert (caught.value.argument, caught.value.value) == ("resolution", -1)
    with pytest.raises(errors.BandError) as caught:
        xh.open_stac([], bands=["red", "red"])
    assert (caught.value.argument, caught.value.value) == ("bands", ["red", "red"])
    with pytest.raises(errors.UnknownSensorError) as caught:
        xh.sensors.get_sensor("Sentinel2")
    assert caught.value.value == "Sentinel2"
    assert caught.value.cure.startswith("did you mean 'sentinel-2-l2a'? ")


def test_unknown_names_suggest_the_nearest_and_case_counts_for_nothing(cube):
    landsat = example_cube("landsat-c2-l2", platform="landsat-8", resolution=30.0)
    sensor = xh.sensors.get_sensor("sentinel-2-l2a")
    asks = [
        (lambda: xh.index(cube, "Ndvi"), "ndvi"),
        (lambda: xh.load_model("HLS_v2"), "hls-v2"),
        (lambda: xh.metrics.get_metric("RMSE"), "rmse"),
        (lambda: sensor.instrument("Sentinel-2A"), "sentinel-2a"),
        (lambda: sensor.instrument().band("B4"), "red"),
        (lambda: xh.plot.maps(cube, bands=("B04", "green", "blue")), "red"),
        (lambda: xh.plot.maps(landsat, bands=("SR_B4", "green", "blue")), "red"),
        (lambda: xh.Mask(names=("Clouds",)), "cloud"),
    ]
    for ask, meant in asks:
        with pytest.raises(errors.XHarmonizeError) as caught:
            ask()
        assert f"did you mean {meant!r}?" in caught.value.cure


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("B04", "red"),
        ("b4", "red"),
        ("Red", "red"),
        ("nir09", ""),  # a band of its own, which this cube lacks
        ("rededge1", ""),
        ("B12", ""),
        ("thermal", ""),
        (None, ""),
        (4, ""),
    ],
)
def test_what_is_another_thing_is_not_suggested(name, meant):
    spellings = {"B04": "red", "B8A": "nir08", "B09": "nir09", "B05": "rededge1", "B12": "swir22"}
    assert nearest(name, ["red", "nir08", "rededge2"], spellings) == meant
