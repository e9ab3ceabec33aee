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


def _half_paired():
    """Source every 8 days, target on the same days: some source dates are left out."""
    days = [str(day) for day in pd.date_range("2018-05-01T10:50", periods=9, freq="8D")]
    shape = (12, 13)
    source = example_cube(bands=BANDS, dates=days, shape=shape, missing=0.0, seed=4)
    pattern = source.values[0] - source.values[0].mean()
    line = np.linspace(0, 1, 9)[:, None, None, None]
    smooth = source.copy(data=(0.2 + 0.1 * line + pattern).astype("float32"))
    target = example_cube(
        "landsat-c2-l2", platform="landsat-8", bands=BANDS, dates=days, shape=shape
    )
    target = target.copy(data=(0.9 * smooth.values + 0.01).astype("float32"))
    return smooth.isel(time=[0, 1, 3, 4, 6, 7]), target


def test_dates_of_the_target_without_a_pair_take_the_source_interpolated():
    """The source grows along a line: interpolated over 16 days it is what it would have been."""
    source, target = _half_paired()
    with_gap = xh.fit_pixelwise(source, target, days=(0,), n_min=8, interpolate="16D")
    assert with_gap.attrs["stages"] == "0, interpolated"
    assert set(np.unique(with_gap["stage"])) == {1}
    assert set(np.unique(with_gap["n"])) == {8}  # the last date has nothing after it
    np.testing.assert_allclose(with_gap["slope"], 0.9, atol=1e-3)
    short = xh.fit_pixelwise(source, target, days=(0,), n_min=8, interpolate="15D")
    assert set(np.unique(short["stage"])) == {FALLBACK}
    assert_lazy(xh.fit_pixelwise(source.chunk(y=5), target.chunk(y=5), interpolate="16D"))
    with pytest.raises(xh.errors.FitError, match=r"interpolate='16D' needs the dates between"):
        xh.fit_pixelwise(xh.match_pairs(source, target), interpolate="16D")


def test_interpolation_is_that_of_numpy():
    """Over whatever dates a pixel has."""
    from xharmonize.harmonizers.pixelwise import _interpolated

    random = np.random.default_rng(0)
    days = np.sort(random.choice(60, 12, replace=False)).astype(float)
    values = random.random((12, 2, 3, 4)).astype("float32")
    values[random.random(values.shape) < 0.3] = np.nan
    at = np.array([0.0, 7.5, 20.0, 33.3, 59.0])
    found = _interpolated(values, days=days, at=at, longest=1e9)
    for place in np.ndindex(2, 3, 4):
        own = values[(slice(None), *place)]
        ok = np.isfinite(own)
        expected = np.interp(at, days[ok], own[ok], left=np.nan, right=np.nan)
        np.testing.assert_allclose(found[(slice(None), *place)], expected, rtol=1e-5)


def test_pixels_with_few_pairs_use_those_around():
    source, target, _ = _cubes(n_same=3, n_near=0)
    fit = xh.fit_pixelwise(source, target, neighbours=True)
    assert fit.attrs["stages"] == "0, 1, neighbours"
    assert set(np.unique(fit["stage"])) == {2}
    assert set(np.unique(fit["n"])) == {27, 18, 12}  # pairs of the middle, edges, corners
    x = np.concatenate([source[:, 0, 4 + j, 6 + i].values for j in range(3) for i in range(3)])
    y = np.concatenate([target[:, 0, 4 + j, 6 + i].values for j in range(3) for i in range(3)])
    assert float(fit["slope"][0, 5, 7]) == pytest.approx(np.polyfit(x, y, 1)[0], rel=1e-4)
    assert set(np.unique(xh.fit_pixelwise(source, target)["stage"])) == {FALLBACK}


def test_further_stages_do_not_depend_on_chunks():
    source, target = _half_paired()

    def fit(cube):
        return xh.fit_pixelwise(cube, target, days=(0,), interpolate="16D", neighbours=True)[
            "slope"
        ]

    assert_chunk_invariant(fit, source, chunkings=[{"time": 1, "y": 5, "x": 4}])
