"""One item that lacks a band, or its quality layer, does not decide for all."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from helpers.items import ENGINES, landsat, sentinel2

import xharmonize as xh


@pytest.fixture
def items(tmp_path) -> list[dict]:
    """Three dates; the second has no red band."""
    found = [
        sentinel2(tmp_path, f"s2-{day}", f"2022-06-0{day}T10:50:00Z", value=2000 + 100 * day)
        for day in (1, 3, 6)
    ]
    del found[1]["assets"]["red"]
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_a_band_that_one_item_lacks_stays_for_all_others(items, engine):
    with pytest.warns(
        xh.errors.RadiometryWarning, match=r"1 of 3 items \(s2-3\) have no band 'red'"
    ) as w:
        cube = xh.open_stac(items, engine=engine)
    assert w[0].filename == __file__
    assert cube.band.values.tolist() == ["red", "swir16"]
    assert float(cube.x[1] - cube.x[0]) == 10
    values = cube.compute()
    assert values.sel(band="red").isnull().all(("y", "x")).values.tolist() == [False, True, False]
    assert values.sel(band="swir16").notnull().all()
    whole = xh.open_stac(items[::2], engine=engine).compute()
    np.testing.assert_array_equal(values[::2], whole)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_band_asked_for_is_an_error_or_missing(items, engine):
    with pytest.raises(
        xh.errors.BandError, match=r"item 's2-3' .* has no band 'red'.*on_error=\"skip\""
    ):
        xh.open_stac(items, bands=["red", "swir16"], engine=engine)
    with pytest.warns(xh.errors.RadiometryWarning, match="s2-3"):
        cube = xh.open_stac(items, bands=["red"], on_error="skip", engine=engine).compute()
    assert cube.isnull().all(("y", "x")).values.ravel().tolist() == [False, True, False]


def test_the_rest_of_such_an_item_is_averaged_too(items):
    with pytest.warns(xh.errors.RadiometryWarning, match="s2-3"):
        cube = xh.open_stac(items, resolution=40).compute()
    assert cube.sel(band="swir16").notnull().all()
    assert cube.sel(band="red").isnull().all(("y", "x")).values.tolist() == [False, True, False]


def test_an_item_without_its_quality_layer_is_an_error_or_missing(items):
    del items[2]["assets"]["scl"]
    with pytest.raises(xh.errors.MaskError, match=r"item 's2-6' .*no quality layer 'scl'"):
        xh.open_stac(items, bands=["swir16"])
    with pytest.warns(
        xh.errors.RadiometryWarning, match=r"\(s2-6\) have no quality layer 'scl'"
    ) as caught:
        cube = xh.open_stac(items, bands=["swir16"], on_error="skip").compute()
    assert caught[0].filename == __file__
    assert cube.isnull().all(("y", "x")).values.ravel().tolist() == [False, False, True]


def test_bands_that_an_instrument_does_not_have_are_no_fault(tmp_path, items):
    both = [items[0], landsat(tmp_path)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", xh.errors.RadiometryWarning)
        cube = xh.open_stac(both, resolution=30)
    assert cube.band.values.tolist() == ["red", "swir16"]
