"""One line per pixel: pairs of the pixel, fallback of the band, its own grid."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.harmonizers.pixelwise import FALLBACK
from xharmonize.testing import assert_chunk_invariant, assert_lazy, example_cube

BANDS = ("red", "nir08")
CHUNKINGS = [{"time": 1, "band": 1, "y": 5, "x": 30}, {"time": -1, "y": 7, "x": 11}]


def _cubes(n_same=5, n_near=4):
    """Source and target over some same-day pairs and some a day apart, with lines per pixel."""
    days = pd.date_range("2018-05-01T10:50", periods=n_same + n_near, freq="10D")
    lag = np.r_[np.zeros(n_same, int), np.ones(n_near, int)]
    shape = (12, 13)
    source = example_cube(bands=BANDS, dates=list(map(str, days)), shape=shape, missing=0.0, seed=4)
    target = example_cube(
        "landsat-c2-l2",
        platform="landsat-8",
        bands=BANDS,
        dates=[str(d + pd.Timedelta(days=k)) for d, k in zip(days, lag)],
        shape=shape,
    )
    slope = np.linspace(0.8, 1.2, 13)
    values = (source.values * slope + 0.01).astype("float32")
    return source, target.copy(data=values), slope


def test_each_pixel_gets_its_own_line():
    source, target, slope = _cubes()
    fit = xh.fit_pixelwise(source, target)
    assert set(np.unique(fit["stage"])) == {0}
    assert set(np.unique(fit["n"])) == {5}
    expected = np.broadcast_to(slope, fit["slope"].shape)
    np.testing.assert_allclose(fit["slope"], expected, atol=1e-4)
    result = xh.to_landsat(source, fit)
    np.testing.assert_allclose(result.values, target.values, atol=1e-5)
    assert result.attrs["units"] == "1"
    assert set(result["bandpass"].values) == {"oli"}


def test_near_pairs_help_where_same_day_ones_are_few():
    source, target, _ = _cubes(n_same=3, n_near=4)
    fit = xh.fit_pixelwise(source, target)
    assert set(np.unique(fit["stage"])) == {1}
    assert set(np.unique(fit["n"])) == {7}


def test_a_morning_across_midnight_utc_is_one_day():
    source, target = (cube.isel(time=slice(5)) for cube in _cubes()[:2])
    hour = pd.Timedelta(hours=1, minutes=10)
    source = source.assign_coords(time=source["time"] - hour + pd.Timedelta(hours=13))
    target = target.assign_coords(time=target["time"] + pd.Timedelta(hours=13, minutes=20))
    assert (source["time.day"] != target["time.day"]).all()
    pairs = xh.match_pairs(source, target, tolerance="2h").assign_coords(
        spatial_ref=target["spatial_ref"]
    )
    assert set(np.unique(xh.fit_pixelwise(pairs)["stage"])) == {0}


@pytest.mark.parametrize("fallback", ["difference", "line"])
def test_too_few_pairs_fall_back_on_a_constant_of_the_band(fallback):
    source, target, _ = _cubes()
    target[:, :, :, 0] = np.nan
    fit = xh.fit_pixelwise(source, target, fallback=fallback)
    assert (fit["stage"][:, :, 0] == FALLBACK).all()
    assert (fit["n"][:, :, 0] == 0).all()
    for k, band in enumerate(BANDS):
        x, y = source.sel(band=band).values.ravel(), target.sel(band=band).values.ravel()
        ok = np.isfinite(y)
        slope, intercept = np.polyfit(x[ok].astype(float), y[ok].astype(float), 1)
        if fallback == "difference":
            slope, intercept = 1.0, np.mean(y[ok].astype(float) - x[ok])
        np.testing.assert_allclose(fit["fallback_slope"][k], slope, rtol=1e-6)
        np.testing.assert_allclose(fit["slope"][k, :, 0], slope, rtol=1e-6)
        np.testing.assert_allclose(fit["intercept"][k, :, 0], intercept, atol=1e-6)


def test_fit_and_application_are_lazy_and_do_not_depend_on_chunks(no_compute):
    source, target, _ = _cubes()
    target[:, :, 3:6, 0:4] = np.nan
    pairs = xh.match_pairs(source, target, tolerance="2D")
    assert_chunk_invariant(
        xh.fit_pixelwise,
        pairs,
        chunkings=[{"pair": 1, "band": 1, "y": 5, "x": 13}, {"pair": -1, "y": 7, "x": 4}],
        atol=1e-6,
    )
    fit = xh.fit_pixelwise(pairs)
    assert_chunk_invariant(lambda cube: xh.to_landsat(cube, fit), source, chunkings=CHUNKINGS)
    with no_compute():
        lazy = xh.to_landsat(source.chunk(), xh.fit_pixelwise(pairs.chunk()))
    assert_lazy(lazy)


def test_a_part_of_the_grid_gives_the_same_pixels():
    source, target, _ = _cubes()
    fit = xh.fit_pixelwise(source, target)
    part = {"y": slice(2, 9), "x": slice(3, 12)}
    xr.testing.assert_equal(
        xh.to_landsat(source.isel(part), fit), xh.to_landsat(source, fit).isel(part)
    )


def test_another_grid_is_refused():
    source, target, _ = _cubes()
    fit = xh.fit_pixelwise(source, target)
    moved = source.assign_coords(x=source.x + 5.0)
    with pytest.raises(xh.errors.GridError, match="like="):
        xh.to_landsat(moved, fit)


def test_too_few_samples_and_no_near_pairs():
    source, target, _ = _cubes(n_same=0, n_near=4)
    with pytest.raises(xh.errors.FitError, match="no pair is at most 0 days"):
        xh.fit_pixelwise(source, target, days=(0,))
    with pytest.raises(xh.errors.FitError, match="too few samples"):
        xh.fit_pixelwise(source, target.where(False))
    with pytest.raises(xh.errors.FitError, match="choose 'line' or 'difference'"):
        xh.fit_pixelwise(source, target, fallback="zero")
    with pytest.raises(xh.errors.FitError, match="ascend"):
        xh.fit_pixelwise(source, target, days=(1, 0))


def test_uncertainty_of_what_passes_through_is_kept():
    source, target, _ = _cubes()
    elsewhere = example_cube(
        "landsat-c2-l2", platform="landsat-8", bands=("red", "swir16"), origin=(600000.0, 5629680.0)
    )
    sigma = xr.full_like(elsewhere, 0.01)
    dataset = elsewhere.to_dataset(name="reflectance").assign(uncertainty=sigma)
    pairs = xh.match_pairs(source, target)
    fits = [
        xh.fit_pixelwise(source, target),
        xh.fit_linear(pairs.sel(band=["red"])),
        xh.fit_linear(pairs, method="multiband"),
    ]
    for fit in fits:
        np.testing.assert_array_equal(xh.to_landsat(dataset, fit)["uncertainty"], sigma)
