"""Outliers along time, and the step between sensors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from helpers.benchmarks import import_benchmark

import xharmonize as xh
from xharmonize.cube.companions import ResultFlag
from xharmonize.kernels import observations
from xharmonize.testing import assert_chunk_invariant, example_cube

CHUNKINGS = [{"time": 7, "y": 3, "x": 2}, {"time": -1, "y": 1}]


def make_series(n_dates=60, *, seed=0, offset=0.0, spikes=12):
    """NDVI of two sensors with a season and noise of 0.01, and where spikes were put."""
    random = np.random.default_rng(seed)
    days = np.cumsum(random.integers(2, 7, n_dates))
    dates = pd.Timestamp("2018-01-01T10:50") + pd.to_timedelta(days, "D")
    cube = example_cube(dates=[str(d) for d in dates], shape=(5, 6), missing=0.0)
    ndvi = cube[:, 0].drop_vars(["band", "scale", "offset", "nodata", "is_decoded"])
    values = 0.5 - 0.3 * np.cos(2 * np.pi * days / 365.25)[:, None, None]
    values = values + random.normal(0, 0.01, (n_dates, 5, 6))
    is_second = np.arange(n_dates) % 3 == 1
    values[is_second] += offset
    place = np.zeros(values.shape, bool)
    for k in range(spikes):
        place[4 + 4 * k, k % 5, :] = True
    values[place] -= 0.3
    sensors = np.where(is_second, "landsat-c2-l2", "sentinel-2-l2a")
    ndvi = ndvi.copy(data=values.astype("float32")).rename("ndvi")
    return ndvi.assign_coords(sensor=("time", sensors)), place


def test_spikes_are_found_and_nothing_else_is():
    ndvi, place = make_series()
    screened = ndvi.harmonize.screen_outliers()
    np.testing.assert_array_equal(screened.isnull(), place)
    xr.testing.assert_equal(screened, ndvi.where(~xr.Variable(ndvi.dims, place)))
    assert "masked beyond 4 robust standard deviations" in screened.attrs["history"]


def test_results_do_not_depend_on_chunks():
    series = make_series()[0].to_dataset()
    series["origin"] = xr.full_like(series["ndvi"], 2, dtype="uint8")
    for mask in (True, False):
        assert_chunk_invariant(
            lambda c, m=mask: c.harmonize.screen_outliers(mask=m), series, chunkings=CHUNKINGS
        )


def test_a_flag_says_what_was_masked_or_would_be():
    ndvi, place = make_series()
    series = ndvi.to_dataset()
    series["origin"] = xr.full_like(ndvi, 2, dtype="uint8")
    series["flag"] = xr.full_like(ndvi, 16, dtype="uint8")
    masked = xh.series.screen_outliers(series)
    np.testing.assert_array_equal(masked["flag"], np.where(place, 16 | ResultFlag.OUTLIER, 16))
    np.testing.assert_array_equal(masked["origin"], np.where(place, 0, 2))
    assert "outlier" in masked["flag"].attrs["flag_meanings"]
    flagged = xh.series.screen_outliers(ndvi, mask=False)
    xr.testing.assert_equal(flagged["ndvi"], ndvi)
    np.testing.assert_array_equal(flagged["flag"] > 0, place)


def test_infinite_values_disturb_no_judgement():
    ndvi = make_series()[0]
    odd = ndvi.copy(data=ndvi.values.copy())
    odd[10, 0, 0], odd[30, 1, 1] = np.inf, -np.inf
    finite = np.isfinite(odd)
    screened = odd.harmonize.screen_outliers().where(finite)
    xr.testing.assert_equal(screened, ndvi.where(finite).harmonize.screen_outliers())
    offsets = (xh.series.sensor_offsets(a)["offset"] for a in (odd, ndvi.where(finite)))
    xr.testing.assert_equal(*offsets)


def test_direction():
    ndvi, place = make_series()
    assert xh.series.screen_outliers(ndvi, direction="above").notnull().all()
    below = xh.series.screen_outliers(ndvi, direction="below")
    np.testing.assert_array_equal(below.isnull(), place)


def test_a_look_that_is_an_outlier_in_one_band_is_one_in_all():
    dates = pd.date_range("2018-01-01", periods=20, freq="5D").strftime("%Y-%m-%d")
    cube = example_cube(dates=list(dates), shape=(4, 5), missing=0.0)
    cube = cube.copy(data=np.full(cube.shape, 0.1, "float32"))
    cube[9, 0, 1, 2] = 0.5
    screened = xh.series.screen_outliers(cube)
    assert screened[9, :, 1, 2].isnull().all()
    assert int(screened.isnull().sum()) == cube.sizes["band"]
    assert_chunk_invariant(
        xh.series.screen_outliers, cube, chunkings=[{"time": 3, "band": 1, "y": 2}]
    )


def as_series(days, values):
    dates = np.datetime64("2018-01-01") + np.asarray(days).astype("m8[D]")
    return xr.DataArray(np.array(values), {"time": dates.astype("M8[ns]")}, ("time",))


def test_spacing_is_true():
    """Beside the end of a long rise a value departs little; on equal dates it would much."""
    values = [0.45, 0.42, 0.7, 0.6, 0.6]
    options = {"min_departure": 0.15, "threshold": 0.01}
    assert (
        xh.series.screen_outliers(as_series([0, 5, 55, 56, 100], values), **options).notnull().all()
    )
    equal = xh.series.screen_outliers(as_series([0, 10, 20, 30, 40], values), **options)
    np.testing.assert_array_equal(equal.isnull(), [False, False, True, False, False])


@pytest.mark.parametrize("direction", ["both", "below", "above"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_step_is_no_outlier(direction, sign):
    """A harvest, or a field that greens up within days: neither shoulder is deleted."""
    random = np.random.default_rng(0)
    days = np.arange(0, 300, 5)
    step = np.where(days < 150, 0.8, 0.2) + 0.01 * random.normal(0, 1, (40, days.size))
    for row in 0.5 + sign * (step - 0.5):
        assert xh.series.screen_outliers(as_series(days, row), direction=direction).notnull().all()


def test_a_slow_rise_with_a_fast_fall_is_kept_without_noise():
    """Grass that is mown and grows back over weeks."""
    days = np.arange(0, 240, 3)
    grown = 0.3 + 0.5 / (1 + np.exp(-((days % 42) - 12) / 4))
    assert xh.series.screen_outliers(as_series(days, grown)).notnull().all()


def test_clouds_beside_a_step_are_found():
    days = np.arange(0, 300, 5)
    values = np.where(days < 150, 0.8, 0.2)
    clouded = values.copy()
    clouded[[20, 27, 40]] -= 0.4, 0.5, 0.15
    found = xh.series.screen_outliers(as_series(days, clouded)).isnull()
    np.testing.assert_array_equal(np.flatnonzero(found), [20, 27, 40])


def test_two_clouds_in_a_row_are_found_and_two_values_of_cut_grass_are_not():
    days = np.arange(0, 150, 5)
    clouded = np.full(days.size, 0.8)
    clouded[[10, 11]] = 0.3, 0.31
    found = xh.series.screen_outliers(as_series(days, clouded)).isnull()
    np.testing.assert_array_equal(np.flatnonzero(found), [10, 11])
    cut = np.full(days.size, 0.8)
    cut[10:14] = 0.3, 0.4, 0.55, 0.7
    assert xh.series.screen_outliers(as_series(days, cut)).notnull().all()
    rarely = as_series(3 * days, clouded)  # a month: grass may have grown back
    assert xh.series.screen_outliers(rarely).notnull().all()


def test_harvest_survives_and_clouds_are_found_on_simulated_truth(capsys):
    """On seeds other than those that the constants were chosen on."""
    table = import_benchmark("screening").main(["--seeds", "21", "--size", "20"])
    rows = table.T
    assert (rows["harvests"] > 30).all()
    assert (rows["lost at a harvest"] <= 0.05).all()
    assert (rows["lost at a harvest, noise-free"] <= 0.05).all()
    assert (rows["clouds found"] >= 0.89).all()
    assert (rows["clear observations deleted beside clouds"] < 0.005).all()
    assert "lost at a harvest" in capsys.readouterr().out


def test_several_observations_a_day_are_judged_each():
    ndvi, place = make_series()
    twice = xr.concat(
        [ndvi, ndvi.assign_coords(time=ndvi["time"] + np.timedelta64(9, "m"))], "time"
    )
    worse = twice.copy()
    worse[70] += 0.4
    found = xh.series.screen_outliers(
        worse.where(~xr.Variable(ndvi.dims, np.tile(place, (2, 1, 1))))
    )
    assert found[70].isnull().all()
    assert found[10].notnull().sum() == (~place[10]).sum()


def test_interpolation_between_neighbours():
    values = np.array([[0.0, np.nan], [1.0, 2.0], [np.nan, 3.0], [3.0, np.nan]], "float32")
    days = np.array([0.0, 1, 2, 5])
    found = observations.between(values, days, np.array([0.5, 1, 2, 3, 6]), 4.0)
    np.testing.assert_allclose(found[:, 0], [0.5, 1, 1.5, 2, np.nan])
    np.testing.assert_allclose(found[:, 1], [np.nan, 2, 3, np.nan, np.nan])
    short = observations.between(values, days, np.array([3.0]), 3.0)
    assert np.isnan(short).all()


@pytest.mark.parametrize("offset", [0.0, 0.03, -0.05])
def test_the_step_between_sensors_is_measured(offset):
    ndvi, _ = make_series(90, offset=offset, spikes=0)
    found = ndvi.harmonize.sensor_offsets(reference="sentinel-2-l2a")
    assert found["sensor"].values.tolist() == ["landsat-c2-l2"]
    assert found.attrs["reference"] == "sentinel-2-l2a"
    step, error = float(found["offset"].item()), float(found["standard_error"].item())
    assert abs(step - offset) < 4 * error
    assert error < 0.002
    assert int(found["n_dates"].item()) >= 28
    turned = ndvi.harmonize.sensor_offsets(reference="landsat-c2-l2")
    assert float(turned["offset"].item()) == pytest.approx(-step, abs=1e-9)


def test_offsets_do_not_depend_on_chunks_and_are_lazy():
    assert_chunk_invariant(
        lambda c: c.harmonize.sensor_offsets(), make_series()[0], chunkings=CHUNKINGS, atol=1e-6
    )


def test_the_reference_is_the_sensor_whose_bandpass_the_values_follow():
    ndvi, _ = make_series()
    platform = np.where(ndvi["sensor"] == "landsat-c2-l2", "landsat-8", "sentinel-2a")
    ndvi = ndvi.assign_coords(platform=("time", platform))
    oli = ndvi.assign_coords(bandpass=("time", ["oli"] * 60))
    msi = ndvi.assign_coords(bandpass=("time", ["msi"] * 60))
    assert xh.series.sensor_offsets(oli).attrs["reference"] == "landsat-c2-l2"
    assert xh.series.sensor_offsets(msi).attrs["reference"] == "sentinel-2-l2a"


def test_observations_merged_of_both_sensors_are_left_out():
    ndvi, _ = make_series(offset=0.1, spikes=0)
    merged = ndvi["sensor"].values.astype("U40")
    merged[::3] = "landsat-c2-l2|sentinel-2-l2a"
    found = xh.series.sensor_offsets(ndvi.assign_coords(sensor=("time", merged)))
    assert found["sensor"].size == 1
    assert float(np.abs(found["offset"]).item()) == pytest.approx(0.1, abs=0.02)


def test_bad_input_is_refused():
    ndvi, _ = make_series()
    one = ndvi.isel(time=ndvi["sensor"].values == "landsat-c2-l2")
    with pytest.raises(xh.errors.TimeAxisError, match=r"holds \['landsat-c2-l2'\]"):
        xh.series.sensor_offsets(one)
    with pytest.raises(xh.errors.TimeAxisError, match="holds no 'modis'"):
        xh.series.sensor_offsets(ndvi, reference="modis")
    with pytest.raises(xh.errors.ContractError, match="'sensor' is missing"):
        xh.series.sensor_offsets(ndvi.drop_vars("sensor"))
    with pytest.raises(xh.errors.OptionError, match="max_gap=0"):
        xh.series.sensor_offsets(ndvi, max_gap=0)
    with pytest.raises(xh.errors.TimeAxisError, match="at least 3 days"):
        xh.series.screen_outliers(ndvi[:2])
    with pytest.raises(xh.errors.OptionError, match="direction='down'"):
        xh.series.screen_outliers(ndvi, direction="down")
    with pytest.raises(xh.errors.OptionError, match="threshold=0"):
        xh.series.screen_outliers(ndvi, threshold=0)
    with pytest.raises(xh.errors.OptionError, match="min_departure=-1"):
        xh.series.screen_outliers(ndvi, min_departure=-1)
    empty = xr.full_like(ndvi, np.nan)
    assert xh.series.screen_outliers(empty).isnull().all()
    nothing = xh.series.sensor_offsets(empty)
    assert nothing["offset"].isnull().all()
    assert int(nothing["n_dates"].item()) == 0
