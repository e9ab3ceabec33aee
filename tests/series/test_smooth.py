"""Smoothing cubes: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from helpers.benchmarks import import_benchmark

import xharmonize as xh
from xharmonize.cube.contract import require_contract
from xharmonize.sensors import Flag
from xharmonize.testing import assert_chunk_invariant, assert_lazy, example_cube

METHODS = ("whittaker", "savgol", "harmonic", "rbf")
CHUNKINGS = [{"time": 3, "y": 4, "x": 5}, {"time": -1, "y": 2, "x": -1}]


def make_index(n_dates=40, *, seed=0, missing=0.3, shape=(6, 7), companions=True, **kwargs):
    """NDVI with a season, noise of 0.03, gaps and companions; dates 3 to 12 days apart."""
    random = np.random.default_rng(seed)
    days = np.cumsum(random.integers(3, 13, n_dates))
    dates = pd.Timestamp("2018-01-01T10:50") + pd.to_timedelta(days, "D")
    cube = example_cube(dates=[str(d) for d in dates], shape=shape, missing=0.0, **kwargs)
    truth = 0.5 - 0.3 * np.cos(2 * np.pi * days / 365.25)
    values = truth[:, None, None] + random.normal(0, 0.03, (n_dates, *shape))
    values[random.random(values.shape) < missing] = np.nan
    ndvi = cube.isel(band=0, drop=True).drop_vars(["scale", "offset", "nodata", "is_decoded"])
    ndvi = ndvi.copy(data=values.astype("float32")).rename("ndvi")
    if not companions:
        return ndvi
    series = ndvi.to_dataset()
    series["uncertainty"] = xr.full_like(ndvi, 0.03)
    series["origin"] = ndvi.notnull().astype("uint8") * np.uint8(2)
    series["qa"] = xr.zeros_like(ndvi, dtype="uint16")
    return series


def truth_of(series):
    days = (series["time"] - np.datetime64("2018-01-01")) / np.timedelta64(1, "D")
    return 0.5 - 0.3 * np.cos(2 * np.pi * days / 365.25)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("step", [None, "5D"])
def test_results_do_not_depend_on_chunks(method, step):
    assert_chunk_invariant(
        lambda cube: cube.harmonize.smooth(method, step=step),
        make_index(),
        chunkings=CHUNKINGS,
        atol=1e-6,
    )


@pytest.mark.parametrize("method", METHODS)
def test_noise_is_removed(method):
    series = make_index(missing=0.1)
    smooth = series.harmonize.smooth(method)
    error = smooth["ndvi"] - truth_of(smooth)
    assert float((error**2).mean()) ** 0.5 < 0.03
    filled = series["ndvi"].isnull() & smooth["ndvi"].notnull()
    np.testing.assert_array_equal(smooth["origin"] == 4, filled)
    np.testing.assert_array_equal(smooth["origin"] == 2, series["ndvi"].notnull())
    np.testing.assert_array_equal(smooth["origin"] == 0, smooth["ndvi"].isnull())
    assert smooth["origin"].dtype == np.uint8
    assert smooth["ndvi"].dtype == np.float32


COVERAGE = import_benchmark("smoothing_coverage")


@pytest.mark.parametrize("method", [xh.series.Whittaker(), xh.series.SavitzkyGolay()])
@pytest.mark.parametrize("shape", COVERAGE.SHAPES)
def test_two_thirds_of_truths_lie_within_the_uncertainty(method, shape):
    shares = [
        COVERAGE.within(
            *COVERAGE.simulate(shape, spacing=spacing, missing=missing, noise=noise, n_series=30),
            method,
        )
        for spacing, missing in COVERAGE.DESIGNS
        for noise in COVERAGE.NOISE
    ]
    assert 0.60 < np.mean(shares) < 0.75
    assert 0.55 < min(shares) < max(shares) < 0.85


@pytest.mark.parametrize("method", ["harmonic", "rbf"])
def test_methods_whose_bias_is_unknown_tell_no_uncertainty(method):
    series = make_index()
    assert set(series.harmonize.smooth(method)) == {"ndvi", "origin", "qa"}
    assert set(series.harmonize.smooth(method, step="5D")) == {"ndvi", "origin"}
    with pytest.raises(xh.errors.OptionError, match=f"{method}.* tells none.*'whittaker'"):
        series.harmonize.smooth(method, uncertainty=True)
    assert "uncertainty" in series.harmonize.smooth("whittaker", uncertainty=True)


def test_the_uncertainty_of_the_observations_is_none_of_the_smooth_series():
    assert "uncertainty" not in make_index().harmonize.smooth(uncertainty=False)


def test_bands_are_smoothed_one_by_one(no_compute):
    cube = example_cube(dates=[f"2018-0{m}-{d:02}" for m in (5, 6, 7) for d in (1, 9, 20)])
    with no_compute():
        lazy = cube.chunk(time=2, y=10).harmonize.smooth(xh.series.Whittaker(penalty=1e3))
    assert_lazy(lazy)
    assert (lazy.dims, lazy.dtype, lazy.name) == (cube.dims, cube.dtype, cube.name)
    one = cube.sel(band=["red"]).harmonize.smooth(xh.series.Whittaker(penalty=1e3))
    xr.testing.assert_allclose(lazy.sel(band=["red"]).compute(), one)
    assert lazy.attrs["history"].endswith(
        "smooth: whittaker, penalty=1000.0, relaxation=30 days, on the observed dates, "
        "max_gap=60 days"
    )
    assert lazy.attrs["units"] == "1"
    xr.testing.assert_identical(lazy.time, cube.time)
    require_contract(lazy)


def test_an_array_comes_back_as_one_unless_companions_are_asked_for():
    ndvi = make_index(companions=False)
    assert isinstance(xh.series.smooth(ndvi), xr.DataArray)
    assert set(xh.series.smooth(ndvi, uncertainty=True)) == {"ndvi", "uncertainty", "origin"}
    assert set(xh.series.smooth(ndvi.to_dataset())) == {"ndvi", "origin"}
    assert set(xh.series.smooth(make_index())) == {"ndvi", "uncertainty", "origin", "qa"}
    assert set(xh.series.smooth(make_index(), step="5D")) == {"ndvi", "uncertainty", "origin"}


def test_regular_dates_are_the_same_whatever_the_first_date():
    series = make_index()
    whole, later = (
        s.harmonize.smooth(step="5D") for s in (series, series.isel(time=slice(3, None)))
    )
    assert set(np.unique(np.diff(whole["time"]))) == {np.timedelta64(5, "D").astype("m8[ns]")}
    assert np.isin(later["time"].values, whole["time"].values).all()
    assert set(whole["time"].dt.hour.values) == {12}


@pytest.mark.parametrize("step", ["1D", "5D", "10D", "dekad", "month", "year"])
def test_composite_and_smooth_share_one_calendar(step):
    series = make_index(companions=False, n_dates=70)  # into a second year
    made, smooth = xh.series.composite(series, step), xh.series.smooth(series, step=step)
    np.testing.assert_array_equal(smooth["time"], made["time"])
    first = made["period_start"].dt
    if step == "10D":
        assert set(first.dayofyear.values) == set(range(1, 367, 10))
    if step in ("dekad", "month", "year"):
        assert set(first.day.values) <= {1, 11, 21}
        assert first.year.values[0] == 2018


METHODS_AND_PENALTIES = (
    *METHODS,
    xh.series.Whittaker(penalty="v-curve"),
    xh.series.Whittaker(penalty=1.0),
    xh.series.Whittaker(penalty=1e5),
)


@pytest.mark.parametrize("envelope", [None, 0.9])
@pytest.mark.parametrize("method", METHODS_AND_PENALTIES, ids=str)
def test_a_date_has_one_value_whatever_dates_are_asked_for(method, envelope):
    """On unequal dates up to a month apart, in any order, some of them twice."""
    ndvi = make_index(companions=False)
    days = np.cumsum(np.random.default_rng(3).integers(0, 30, 40))
    dates = np.datetime64("2018-01-01T10:50", "ns") + days.astype("m8[D]")
    ndvi = ndvi.assign_coords(time=dates)[np.random.default_rng(4).permutation(40)]
    is_known = method not in ("harmonic", "rbf")
    settings = {"envelope": envelope, "uncertainty": is_known}
    own = xh.series.smooth(ndvi, method, **settings)
    daily = xh.series.smooth(ndvi, method, step="1D", **settings)
    at = daily.sel(
        time=own["time"].values.astype("M8[D]").astype("M8[ns]") + np.timedelta64(12, "h")
    )
    if not is_known:  # an array comes back as one
        own, at, daily = (found.to_dataset(name="ndvi") for found in (own, at, daily))
    for name in ("ndvi", "uncertainty") if is_known else ("ndvi",):
        np.testing.assert_allclose(own[name], at[name].values, atol=1e-5)
    tenth = xh.series.smooth(ndvi, method, step="10D", **settings)
    tenth = tenth if is_known else tenth.to_dataset(name="ndvi")
    known = np.isin(tenth["time"].values, daily["time"].values)
    tenth = tenth.isel(time=known)
    np.testing.assert_allclose(
        tenth["ndvi"], daily["ndvi"].sel(time=tenth["time"]).values, atol=1e-5
    )


def test_regular_output_goes_into_a_store_and_back(tmp_path):
    smooth = make_index().harmonize.smooth(step="10D")
    smooth.harmonize.to_zarr(tmp_path / "ndvi.zarr")
    again = xh.open_series(tmp_path / "ndvi.zarr")
    xr.testing.assert_equal(
        again["ndvi"].compute().reset_coords(drop=True), smooth["ndvi"].reset_coords(drop=True)
    )


def test_long_gaps_stay_gaps_and_nothing_is_extrapolated():
    series = make_index(companions=False, missing=0.0)
    hole = (series.time > np.datetime64("2018-05-01")) & (series.time < np.datetime64("2018-06-20"))
    holed = series.where(~hole)
    holed[:2], holed[-2:] = np.nan, np.nan
    short = xh.series.smooth(holed, max_gap=20)
    inside = hole.values.copy()
    inside[[0, 1, -2, -1]] = True
    np.testing.assert_array_equal(short.isnull().all(("y", "x")), inside)
    assert not xh.series.smooth(holed, max_gap=90).isel(time=slice(2, -2)).isnull().any()
    assert xh.series.smooth(holed, max_gap=90).isel(time=[0, 1, -2, -1]).isnull().all()


def test_snow_counts_for_nothing_and_is_not_bridged():
    series = make_index(missing=0.0)
    series["qa"][10] = np.uint16(Flag.SNOW)
    series["ndvi"][10] = -5.0
    gap = xh.series.smooth(series, step="1D")
    masked = xh.series.smooth(series, step="1D", snow="mask")
    before, after = series["time"][9].values, series["time"][11].values
    inside = (gap["time"] > before) & (gap["time"] < after)
    inside &= gap["time"].dt.date != before.astype("M8[D]").item()
    inside &= gap["time"].dt.date != after.astype("M8[D]").item()
    assert gap["ndvi"].where(inside, drop=True).isnull().all()
    assert masked["ndvi"].notnull().all()
    assert float(masked["ndvi"].min()) > 0
    assert (masked["origin"].where(inside, 4) == 4).all()


def test_true_spacing_is_used():
    """Two visits in a row weigh as neighbours, not as equidistant dates."""
    dates = pd.to_datetime(["2018-01-01", "2018-01-02", "2018-03-01", "2018-03-02", "2018-05-01"])
    line = xr.DataArray([0.1, 0.101, 0.16, 0.161, 0.221], {"time": dates}, ("time",)).astype("f4")
    stiff = xh.series.Whittaker(penalty=1e9, relaxation=math.inf)
    smooth = xh.series.smooth(line, stiff)
    np.testing.assert_allclose(smooth, line, atol=1e-3)
    dated = line.assign_coords(time=pd.date_range("2018-01-01", periods=5, freq="10D"))
    assert float(np.abs(xh.series.smooth(dated, stiff) - line).max()) > 0.01


def test_weights_come_from_uncertainty():
    series = make_index(missing=0.0)
    series["ndvi"][15] += 0.5
    series["uncertainty"][15] = 5.0
    method = xh.series.Whittaker(penalty=1e3)
    told = xh.series.smooth(series, method)
    untold = xh.series.smooth(series.drop_vars("uncertainty"), method)
    error = [float(np.abs((s["ndvi"] - truth_of(s))[15]).mean()) for s in (told, untold)]
    assert error[0] < 0.05 < error[1]


def test_an_unknown_or_zero_uncertainty_counts_as_usual():
    series = make_index()
    equal = xh.series.smooth(series)
    series["uncertainty"] = series["uncertainty"].where(series["ndvi"] > 0.4)
    np.testing.assert_allclose(xh.series.smooth(series)["ndvi"], equal["ndvi"], atol=1e-6)
    series["uncertainty"] = series["uncertainty"].fillna(0)
    np.testing.assert_allclose(xh.series.smooth(series)["ndvi"], equal["ndvi"], atol=1e-6)


def test_uncertainty_may_be_one_number_a_date():
    series = make_index()
    series["uncertainty"] = series["uncertainty"].isel(y=0, x=0, drop=True)
    lazy = series.chunk(time=3, y=3).harmonize.smooth()
    xr.testing.assert_allclose(lazy.compute(), make_index().harmonize.smooth())


@pytest.mark.parametrize("method", METHODS)
def test_the_envelope_lies_above(method):
    ndvi = make_index(companions=False, missing=0.1)
    above = xh.series.smooth(ndvi, method, envelope=0.95)
    through = xh.series.smooth(ndvi, method)
    assert float((above - through).mean()) > 0.01
    assert float((ndvi > above).where(ndvi.notnull()).mean()) < 0.35


def test_dates_may_be_unsorted_and_days_may_have_several_observations():
    ndvi = make_index(companions=False)
    shuffled = ndvi.isel(time=np.random.default_rng(1).permutation(ndvi.sizes["time"]))
    xr.testing.assert_allclose(xh.series.smooth(shuffled).sortby("time"), xh.series.smooth(ndvi))
    later = ndvi.assign_coords(time=ndvi["time"] + np.timedelta64(20, "m"))
    twice = xr.concat([ndvi, later], "time")
    smooth = xh.series.smooth(
        twice, xh.series.Whittaker(penalty=2e3)
    )  # twice the weight, twice the penalty
    expected = xh.series.smooth(ndvi, xh.series.Whittaker(penalty=1e3))
    np.testing.assert_allclose(smooth[: ndvi.sizes["time"]], expected, atol=1e-5)
    np.testing.assert_array_equal(smooth[: ndvi.sizes["time"]], smooth[ndvi.sizes["time"] :])


def test_pixels_seen_on_less_than_three_days_are_missing():
    ndvi = make_index(companions=False, missing=0.0)
    ndvi[2:, 0, 0] = np.nan
    ndvi[:, 0, 1] = np.nan
    smooth = xh.series.smooth(ndvi)
    assert smooth[:, 0, :2].isnull().all()
    assert smooth[:, 0, 2].notnull().all()


def test_a_pixel_series_without_place_or_contract():
    dates = pd.date_range("2018-01-01", periods=30, freq="8D")
    series = xr.DataArray(np.sin(np.arange(30) / 5), {"time": dates}, ("time",))
    smooth = series.harmonize.smooth(step="1D")
    assert smooth.dims == ("time",)
    assert smooth.sizes["time"] == 29 * 8 + 1


def test_negative_values_are_values():
    ndvi = make_index(companions=False, missing=0.0) - 0.6
    np.testing.assert_allclose(
        xh.series.smooth(ndvi), xh.series.smooth(ndvi + 0.6) - 0.6, atol=1e-5
    )


def test_years_before_1970_are_years():
    ndvi = make_index(companions=False)
    early = ndvi.assign_coords(time=ndvi["time"] - np.timedelta64(365 * 55, "D"))
    expected = xh.series.smooth(ndvi).values
    np.testing.assert_allclose(xh.series.smooth(early), expected, rtol=1e-6)
    regular = xh.series.smooth(early, step="5D")
    days = regular["time"].values.astype("datetime64[D]").astype(int)
    assert days[0] < days[-1] < 0
    assert xh.series.composite(early, "10D")["period_start"].dt.year.min() == 1963


def test_an_all_missing_field_stays_missing():
    ndvi = xr.full_like(make_index(companions=False), np.nan)
    for method in METHODS:
        assert xh.series.smooth(ndvi, method, step="5D").isnull().all()


@pytest.mark.parametrize(
    ("change", "options", "error", "match"),
    [
        (
            lambda c: c.isel(time=[0]),
            {},
            xh.errors.TimeAxisError,
            "at least 3 days, the cube has 1",
        ),
        (lambda c: c.isel(time=[]), {}, xh.errors.TimeAxisError, "none left"),
        (lambda c: c.isel(time=0, drop=True), {}, xh.errors.TimeAxisError, "needs dates"),
        (lambda c: c.assign_coords(time=range(40)), {}, xh.errors.TimeAxisError, "int64"),
        (lambda c: c.fillna(0).astype("int16"), {}, xh.errors.RadiometryError, "digital numbers"),
        (lambda c: c, {"method": "spline"}, xh.errors.OptionError, "'spline' is unknown"),
        (lambda c: c, {"step": "5.5D"}, xh.errors.OptionError, "step='5.5D'"),
        (
            lambda c: c,
            {"step": "9999D"},
            xh.errors.OptionError,
            "step='9999D'; give whole days",
        ),
        (lambda c: c, {"max_gap": 0}, xh.errors.OptionError, "max_gap=0"),
        (lambda c: c, {"envelope": 0.3}, xh.errors.OptionError, "envelope=0.3"),
        (lambda c: c, {"snow": "melt"}, xh.errors.OptionError, "snow='melt'"),
    ],
)
def test_bad_input_is_refused(change, options, error, match):
    ndvi = make_index(companions=False)
    with pytest.raises(error, match=match):
        xh.series.smooth(change(ndvi), **options)


def test_dates_that_are_no_dates_are_refused():
    ndvi = make_index(companions=False)
    times = ndvi["time"].values.copy()
    times[3] = np.datetime64("NaT")
    with pytest.raises(xh.errors.TimeAxisError, match="NaT"):
        xh.series.smooth(ndvi.assign_coords(time=times))


def test_bandpasses_are_not_mixed():
    ndvi = make_index(companions=False)
    mixed = ndvi.assign_coords(bandpass=("time", ["oli", "msi"] * 20))
    with pytest.raises(xh.errors.ModelError, match=r"\['msi', 'oli'\]"):
        xh.series.smooth(mixed)


def test_a_dataset_of_two_indices_is_refused():
    series = make_index()
    with pytest.raises(xh.errors.ContractError, match="one index"):
        xh.series.smooth(series.assign(evi=series["ndvi"]))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: xh.series.Whittaker(penalty=-1), "penalty=-1"),
        (lambda: xh.series.Whittaker(penalty="best"), "'reml', 'gcv' or 'v-curve'"),
        (lambda: xh.series.Whittaker(relaxation=0), "relaxation=0"),
        (lambda: xh.series.Whittaker(relaxation=math.nan), "relaxation=nan"),
        (lambda: xh.series.Whittaker(candidates=(1, 10)), "at least 3 penalties"),
        (lambda: xh.series.Whittaker(inflation=0.5), "inflation=0.5"),
        (lambda: xh.series.SavitzkyGolay(window=0), "window=0"),
        (lambda: xh.series.SavitzkyGolay(order=9), "order=9"),
        (lambda: xh.series.Harmonic(count=0), "count=0"),
        (lambda: xh.series.RadialBasis(widths=()), "widths="),
    ],
)
def test_options_that_make_no_sense_are_refused(make, match):
    with pytest.raises(xh.errors.OptionError, match=match):
        make()
