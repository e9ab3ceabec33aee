"""Seasons of known shape, found again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from helpers.benchmarks import import_benchmark

import xharmonize as xh
from xharmonize.sensors import Flag
from xharmonize.testing import assert_chunk_invariant

WIDTH = 40.0


def make_series(
    peak_day=190, years=(2015, 2016, 2017), step=1, first="2014-07-01", last="2018-06-30"
):
    """Gaussian seasons of height 0.6 over 0.2, one a year, peaking on a day of the year."""
    dates = pd.date_range(first, last, freq=f"{step}D")
    values = np.full(dates.size, 0.2)
    for year in years:
        peak = pd.Timestamp(f"{year}-01-01") + pd.Timedelta(days=peak_day - 1)
        values += 0.6 * np.exp(-(((dates - peak).days.to_numpy() / WIDTH) ** 2) / 2)
    return xr.DataArray(values.astype("float32"), {"time": dates}, ("time",), name="ndvi")


def test_threshold_and_peak_are_where_the_curve_has_them():
    found = xh.series.phenology(make_series(), threshold=0.5)
    half = WIDTH * np.sqrt(2 * np.log(2))  # 47.1 days
    known = found.sel(year=[2015, 2016, 2017])
    np.testing.assert_array_equal(known["peak"].dt.dayofyear, 190)
    np.testing.assert_allclose(known["start"].dt.dayofyear, 190 - half, atol=1)
    np.testing.assert_allclose(known["end"].dt.dayofyear, 190 + half, atol=1)
    np.testing.assert_allclose(known["length"], 2 * half, atol=0.3)
    np.testing.assert_allclose(known["amplitude"], 0.6, atol=0.01)
    np.testing.assert_allclose(known["base"], 0.2, atol=0.01)
    np.testing.assert_allclose(known["peak_value"], 0.8, atol=0.01)
    assert found["start"].dtype == "datetime64[ns]"
    assert found.sel(year=[2014, 2018])["peak"].isnull().all()


def test_the_derivative_is_steepest_one_standard_deviation_from_the_peak():
    found = xh.series.phenology(make_series(), method="derivative").sel(year=2016)
    assert abs(int(found["start"].dt.dayofyear) - (190 - WIDTH)) <= 1
    assert abs(int(found["end"].dt.dayofyear) - (190 + WIDTH)) <= 1


def test_sparse_and_unequal_dates_are_interpolated_for_crossings():
    daily = make_series()
    chosen = np.sort(np.random.default_rng(0).choice(daily.sizes["time"], 300, replace=False))
    sparse = xh.series.phenology(daily.isel(time=chosen), threshold=0.5).sel(year=2016)
    dense = xh.series.phenology(daily, threshold=0.5).sel(year=2016)
    for name in ("start", "end"):
        assert abs(sparse[name] - dense[name]) <= np.timedelta64(3, "D")


@pytest.mark.parametrize("peak_day", [1, 20, 350, 365])
def test_seasons_may_cross_the_end_of_the_year(peak_day):
    found = xh.series.phenology(make_series(peak_day), threshold=0.5).sel(year=2016)
    peak = np.datetime64("2016-01-01") + np.timedelta64(peak_day - 1, "D")
    assert found["peak"] == peak
    for name, sign in (("start", -1), ("end", 1)):
        expected = peak + np.timedelta64(int(sign * 47), "D")
        assert abs(found[name] - expected) <= np.timedelta64(1, "D")


def test_a_year_may_start_in_july():
    series = make_series(1, years=(2016, 2017))
    found = xh.series.phenology(series, year_start="07-01")
    assert found["year"].values.tolist() == [2014, 2015, 2016, 2017]
    assert found["peak"].sel(year=2015) == np.datetime64("2016-01-01")
    assert found["peak"].sel(year=2014).isnull()


def test_day_366_is_a_day():
    found = xh.series.phenology(make_series(366, years=(2016,)))
    assert found["peak"].sel(year=2016) == np.datetime64("2016-12-31")
    assert int(found["peak"].sel(year=2016).dt.dayofyear) == 366


def test_two_seasons_a_year_are_told_apart():
    """The higher one is taken, and its start is not that of the other."""
    series = make_series(120) + 1.2 * (make_series(230) - 0.2)
    found = xh.series.phenology(series, threshold=0.3).sel(year=2016)
    assert int(found["peak"].dt.dayofyear) == pytest.approx(230, abs=3)
    assert int(found["start"].dt.dayofyear) > 165


def test_nothing_is_concluded_across_gaps_and_snow():
    series = make_series()
    days = series["time"].dt.dayofyear
    holed = series.where(~((series["time"].dt.year == 2016) & (days > 135) & (days < 150)))
    found = xh.series.phenology(holed, threshold=0.5)
    assert found["start"].sel(year=2016).isnull()
    assert found["end"].sel(year=2016).notnull()
    assert found["start"].sel(year=2017).notnull()
    qa = xr.where(holed.isnull(), np.uint16(Flag.SNOW), np.uint16(0))
    snowy = xr.Dataset({"ndvi": series, "qa": qa})
    xr.testing.assert_equal(xh.series.phenology(snowy, threshold=0.5), found)


def cut_at(day, *, year=2016, end=False):
    """The series from a day of the year on, or up to it."""
    series = make_series()
    date = pd.Timestamp(f"{year}-01-01") + pd.Timedelta(days=day - 1)
    return series.sel(time=slice(None, date) if end else slice(date, None))


@pytest.mark.parametrize("method", ["threshold", "derivative"])
@pytest.mark.parametrize("day", [90, 110, 117, 118, 119, 125, 135, 145, 170, 188])
def test_a_start_whose_trough_is_cut_off_is_not_dated(day, method):
    """The start is on day 118: a series that begins on the slope must not invent another."""
    found = xh.series.phenology(cut_at(day), method=method).sel(year=2016)
    assert found["start"].isnull()
    assert np.isnan(found["length"])
    assert int(found["cut"]) == 1
    whole = xh.series.phenology(make_series(), method=method).sel(year=2016)
    assert found["peak"] == whole["peak"]
    assert found["end"] == whole["end"]
    np.testing.assert_allclose(found["amplitude"], 0.6, atol=0.01)


@pytest.mark.parametrize("day", [192, 200, 240, 261, 262, 280])
def test_an_end_whose_trough_is_cut_off_is_not_dated(day):
    found = xh.series.phenology(cut_at(day, end=True)).sel(year=2016)
    assert found["end"].isnull()
    assert found["start"].notnull()
    assert int(found["cut"]) == 2


def test_a_trough_on_the_edge_is_cut_off():
    """A cosine that begins at its lowest: what lies before may be lower."""
    dates = pd.date_range("2016-01-01", periods=731)
    wave = 0.5 - 0.3 * np.cos(2 * np.pi * np.arange(731) / 365)
    series = xr.DataArray(wave, {"time": dates}, ("time",), name="ndvi")
    found = xh.series.phenology(series)
    assert found["cut"].values.tolist() == [1, 2]
    np.testing.assert_array_equal(found["start"].isnull(), [True, False])
    np.testing.assert_array_equal(found["end"].isnull(), [False, True])


@pytest.mark.parametrize(("day", "end", "cut"), [(195, False, 1), (185, True, 2)])
def test_a_season_whose_peak_is_cut_off_is_not_dated(day, end, cut):
    found = xh.series.phenology(cut_at(day, end=end)).sel(year=2016)
    assert all(found[name].isnull() for name in ("start", "peak", "end", "amplitude"))
    assert int(found["cut"]) == cut


def test_a_bump_after_a_peak_that_is_cut_off_is_not_the_season():
    bump = cut_at(200) + 0.5 * (make_series(300) - 0.2)
    found = xh.series.phenology(bump).sel(year=2016)
    assert found["peak"].isnull()
    assert int(found["cut"]) == 1


def test_both_ends_cut_off():
    series = cut_at(150).sel(time=slice(None, "2016-08-20"))
    found = xh.series.phenology(series).sel(year=2016)
    assert found["start"].isnull() & found["end"].isnull()
    assert found["peak"].dt.dayofyear == 190
    assert np.isnan(found["amplitude"]) & np.isnan(found["base"])
    assert int(found["cut"]) == 3


def test_a_gap_cuts_off_as_the_end_of_the_series_does():
    series = make_series()
    holed = series.copy(data=series.values.copy())
    holed.loc["2016-02-01":"2016-05-03"] = np.nan
    found = xh.series.phenology(holed)
    assert found["cut"].sel(year=[2015, 2016, 2017]).values.tolist() == [0, 1, 0]


def test_a_series_of_one_calendar_year_shows_its_season():
    found = xh.series.phenology(make_series().sel(time="2016")).sel(year=2016)
    assert int(found["cut"]) == 0
    assert found["start"].notnull() & found["end"].notnull()


def test_the_flag_of_what_is_cut_off_is_cf():
    cut = xh.series.phenology(make_series())["cut"]
    assert cut.dtype == np.uint8
    assert cut.attrs["flag_values"].tolist() == [0, 1, 2, 3]
    assert cut.attrs["flag_meanings"] == "none start end both"
    assert cut.attrs["flag_values"].dtype == np.uint8


def test_dates_are_those_of_the_nearest_day():
    """Crossings between days: on average neither early nor late."""
    dates = pd.date_range("2015-10-01", "2016-12-31")
    days = np.arange(dates.size)[:, None]
    start = 180 + np.linspace(0, 0.99, 100)
    values = 0.2 + 0.6 * np.clip((days - start) / 50 + 0.5, 0, 1)
    values = values - 0.6 * np.clip((days - start - 120) / 50, 0, 1)
    values[days[:, 0] == 250] += 1e-4
    series = xr.DataArray(values, {"time": dates}, ("time", "x"), name="ndvi")
    found = xh.series.phenology(series, threshold=0.5).sel(year=2016)["start"]
    error = (found.values - dates[0].to_datetime64()) / np.timedelta64(1, "D") - start
    assert abs(error.mean()) < 0.25
    assert np.abs(error).max() < 0.75


def test_cut_seasons_on_noisy_series(capsys):
    table = import_benchmark("seasons").main(["--pixels", "60"])
    assert (table.loc[-20:, "dated"] <= 0.02).all()
    assert (table.loc[:-90, "dated"] >= 0.7).all()
    assert (table.loc[:-60, "90 % of errors within [day]"] < 9).all()
    assert "said to be cut" in capsys.readouterr().out


def test_what_hardly_varies_has_no_season():
    series = 0.2 + 0.1 * (make_series() - 0.2)
    assert xh.series.phenology(series)["peak"].isnull().all()
    assert xh.series.phenology(series, min_amplitude=0.03)["peak"].sel(year=2016).notnull()


def as_numbers(found):
    """Dates as days of the year, which can be compared with a tolerance."""
    dates = {name: found[name].dt.dayofyear.astype(float) for name in ("start", "peak", "end")}
    return found.assign(dates)


def test_maps_do_not_depend_on_chunks():
    series = make_series(step=5)
    random = np.random.default_rng(0)
    cube = series + xr.DataArray(random.normal(0, 0.1, (5, 6)).astype("float32"), dims=("y", "x"))
    cube = cube.transpose("time", "y", "x").rename("ndvi")
    cube = cube.where(xr.DataArray(random.random((5, 6)) > 0.2, dims=("y", "x")))
    for method in ("threshold", "derivative"):
        assert_chunk_invariant(
            lambda c, m=method: as_numbers(c.harmonize.phenology(method=m)),
            cube,
            chunkings=[{"time": 50, "y": 2, "x": 3}, {"time": -1, "y": 1}],
        )


def test_a_smoothed_cube_of_unequal_dates_gives_the_season():
    series = make_series()
    random = np.random.default_rng(0)
    chosen = np.sort(random.choice(series.sizes["time"], 250, replace=False))
    noisy = series.isel(time=chosen) + random.normal(0, 0.02, 250).astype("float32")
    found = noisy.rename("ndvi").harmonize.smooth(step="1D").harmonize.phenology(threshold=0.5)
    peak = found["peak"].sel(year=[2015, 2016, 2017])
    assert (np.abs(peak.dt.dayofyear - 190) < 8).all()


def test_bad_input_is_refused():
    series = make_series()
    with pytest.raises(xh.errors.TimeAxisError, match="at least 3 days"):
        xh.series.phenology(series[:2])
    with pytest.raises(xh.errors.TimeAxisError, match="2014-07-05 occurs twice"):
        xh.series.phenology(xr.concat([series[:9], series[4:5]], "time"))
    with pytest.raises(xh.errors.OptionError, match="threshold=2"):
        xh.series.phenology(series, threshold=2)
    with pytest.raises(xh.errors.OptionError, match="'threshold' or 'derivative'"):
        xh.series.phenology(series, method="greenup")
    for wrong in ("02-29", "July", "13-40"):
        with pytest.raises(xh.errors.TimeAxisError, match="year_start"):
            xh.series.phenology(series, year_start=wrong)
    with pytest.raises(xh.errors.OptionError, match="reach=0"):
        xh.series.phenology(series, reach=0)
    with pytest.raises(xh.errors.BandError, match="one index"):
        xh.series.phenology(series.expand_dims(band=["red"], axis=1).rename("reflectance"))
    assert xh.series.phenology(xr.full_like(series, np.nan))["start"].isnull().all()
    unsorted = series.isel(time=np.random.default_rng(0).permutation(series.sizes["time"]))
    xr.testing.assert_equal(xh.series.phenology(unsorted), xh.series.phenology(series))
