"""Samples: what is drawn is what the model makes of pairs."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from helpers.training import make_pairs

import xharmonize as xh
from xharmonize import plot
from xharmonize.cube.pairs import on_target_grid
from xharmonize.errors import BandError, FitError, OptionError

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def pairs() -> xr.DataTree:
    return make_pairs(3, side=24, missing=0.1)


@pytest.fixture(scope="module")
def line(pairs) -> xr.Dataset:
    return xh.fit_linear(on_target_grid(pairs))


def panels(figure) -> list:
    return [axes for axes in figure.axes if axes.images][:-1]  # the last is the scale


def test_the_difference_is_estimate_minus_target_in_the_middle(pairs, line):
    figure = plot.samples(line, pairs, n=2, side=10, band="nir08")
    drawn = panels(figure)
    assert [axes.get_title() for axes in drawn[:4]] == [
        "source", "target", "estimate", "estimate − target",
    ]  # fmt: skip
    assert [axes.get_ylabel() for axes in drawn[::4]] == ["2021-05-01", "2021-05-19"]
    target = pairs["target"].reflectance.isel(pair=0).sel(band="nir08").values
    source = on_target_grid(pairs, min_valid=1.0)["source"].isel(pair=[0])
    cube = source.rename(source_band="band").sel(band=["nir08"]).values[0, 0]
    slope, offset = (
        float(line[name].sel(band="nir08").squeeze()) for name in ("slope", "intercept")
    )
    expected = (slope * cube + offset - target)[7:17, 7:17]
    got = drawn[3].images[0].get_array().filled(np.nan)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert np.isnan(got).any()


def test_colours_have_one_stretch_and_gaps_are_seen(pairs):
    figure = plot.samples(None, pairs, n=1, side=100)  # smaller where the target is
    source, target, estimate = (axes.images[0].get_array() for axes in panels(figure)[:3])
    assert source.shape == target.shape == (24, 24, 4)
    np.testing.assert_array_equal(source, estimate)
    known = np.isfinite(pairs["target"].reflectance.isel(pair=0).sel(band=["red", "green", "blue"]))
    np.testing.assert_array_equal(target[..., 3] == 1, known.all("band").values)


def test_a_bundle_is_drawn_by_its_path_and_by_its_training(pairs, tmp_path):
    pytest.importorskip("torch")
    config = xh.training.SmallConv(width=2, depth=1, steps=1, evaluate=1)
    training = xh.train(config, pairs, out=tmp_path / "model", progress=False)
    one = plot.samples(training, pairs, n=1, bands="red")
    two = plot.samples(tmp_path / "model", pairs, n=1, bands="red")
    images = [panels(figure)[2].images[0].get_array() for figure in (one, two)]
    np.testing.assert_array_equal(*images)


def test_what_cannot_be_drawn_is_named(pairs, line):
    with pytest.raises(OptionError, match="n=0 is less than 1"):
        plot.samples(line, pairs, n=0)
    with pytest.raises(OptionError, match="neither one nor three"):
        plot.samples(line, pairs, bands=["red", "blue"])
    with pytest.raises(BandError, match="swir22"):
        plot.samples(line, pairs, band="swir22")
    with pytest.raises(FitError, match="no pairs"):
        plot.samples(line, pairs.isel(pair=[]))
