"""Filling clouds: what is filled, from what, how sure, and that chunks change nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xharmonize as xh
from xharmonize.cube.companions import Origin
from xharmonize.cube.contract import read_contract
from xharmonize.fusion import fit_fill
from xharmonize.harmonizers.protocol import Base, Checked
from xharmonize.testing import assert_chunk_invariant, assert_lazy, example_cube, no_compute
from xharmonize.testing.strategies import chunkings

DAYS = (1, 4, 11, 16, 24, 31)
BANDS = ("green", "red", "nir")


def made(days=DAYS, shape=(9, 8), missing=0.3, **options) -> xr.DataArray:
    """A cube whose bands drift with time, a third of it cloudy."""
    dates = [f"2018-07-{day:02}T10:50" for day in days]
    cube = example_cube(bands=BANDS, dates=dates, shape=shape, missing=missing, **options)
    drift = np.array(days)[:, None, None, None] * np.array([0, -0.002, 0.006])[:, None, None]
    return cube.copy(data=(cube.values + drift).astype(np.float32))


def radar(days=(2, 8, 14, 20, 26), shape=(9, 8), **options) -> xr.DataArray:
    dates = [f"2018-07-{day:02}T17:32" for day in days]
    return example_cube(
        "sentinel-1-rtc",
        platform="sentinel-1a",
        bands=("vv", "vh"),
        dates=dates,
        shape=shape,
        missing=0,
        **options,
    )


def by_hand(cube, t, y, x, longest=60.0):
    """Values of a date from the clear ones before and after it, and the days to the nearer one."""
    days = cube["time"].values.astype("datetime64[D]").astype(int)
    clear = np.isfinite(cube.values[:, :, y, x]).all(axis=1)
    before = [i for i in range(t) if clear[i] and days[t] - days[i] <= longest]
    after = [i for i in range(t + 1, len(days)) if clear[i] and days[i] - days[t] <= longest]
    used = [one for one in ((before or [None])[-1], (after or [None])[0]) if one is not None]
    if not used:
        return np.full(cube.sizes["band"], np.nan), np.nan
    column = cube.values[:, :, y, x]
    value = [np.interp(days[t], days[used], column[used, b]) for b in range(cube.sizes["band"])]
    return np.array(value), min(abs(days[t] - days[i]) for i in used)


def test_missing_pixels_are_interpolated_in_time_and_observed_ones_stay():
    cube = made()
    filled = xh.fill_clouds(cube)
    seen = np.isfinite(cube.values)
    np.testing.assert_array_equal(filled["reflectance"].values[seen], cube.values[seen])
    assert (filled["origin"].values[seen] == Origin.OBSERVED).all()
    for t, y, x in np.argwhere(~seen.all(axis=1))[::7]:
        value, gap = by_hand(cube, t, y, x)
        np.testing.assert_allclose(filled["reflectance"].values[t, :, y, x], value, rtol=1e-5)
        assert filled["gap"].values[t, y, x] == gap
        assert (filled["origin"].values[t, :, y, x] == Origin.FILLED).all()
    assert (filled["gap"].values[seen.all(axis=1)] == 0).all()


def test_a_whole_date_is_estimated_without_itself():
    cube = made()
    whole = xh.fill_clouds(cube, whole=True)
    hidden = cube.where(cube["time"] != cube["time"][2])
    only = xh.fill_clouds(hidden)
    np.testing.assert_allclose(
        whole["reflectance"][2], only["reflectance"][2], rtol=1e-6, equal_nan=True
    )
    assert (whole["origin"].values[2] == Origin.FILLED).all()


@pytest.mark.parametrize(("reference", "sign"), [("before", -1), ("after", 1)])
def test_only_dates_on_one_side(reference, sign):
    cube = made()
    cube[:, :, 0, 0] = np.array([0.1, 0.2, np.nan, 0.3, 0.4, 0.5])[:, None]
    filled = xh.fill_clouds(cube, reference=reference)["reflectance"]
    end = 0 if sign < 0 else -1
    np.testing.assert_array_equal(filled[end], cube[end])
    np.testing.assert_array_equal(filled[2, :, 0, 0], cube[2 + sign, :, 0, 0])


def test_nearest_takes_the_nearer_one():
    cube = made()
    cube[1:, :, 0, 0] = cube[1:, :, 0, 0].fillna(0.5)
    cube[1, :, 0, 0] = np.nan
    cube[0, :, 0, 0] = 0.25
    filled = xh.fill_clouds(cube, model="nearest")
    np.testing.assert_allclose(filled["reflectance"][1, :, 0, 0], 0.25)
    assert float(filled["gap"][1, 0, 0]) == 3


def test_what_is_too_far_stays_missing():
    cube = made()
    cube[0, :, 0, 0], cube[1:, :, 0, 0] = 0.2, np.nan
    filled = xh.fill_clouds(cube, max_gap="12D")
    found = np.isfinite(filled["reflectance"].values[:, 0, 0, 0])
    assert found.tolist() == [True] * 3 + [False] * 3
    assert np.isnan(filled["gap"].values[-1, 0, 0])
    assert filled["origin"].values[-1, 0, 0, 0] == 0


def test_the_uncertainty_grows_with_the_gap():
    days = tuple(range(1, 31, 2))
    rng = np.random.default_rng(0)
    cube = made(days, shape=(20, 20))
    walk = rng.normal(0, 0.02, cube.shape).cumsum(axis=0).astype(np.float32)
    cube = cube.copy(data=np.where(np.isnan(cube), np.nan, 0.5 + walk))
    filled = xh.fill_clouds(cube, reference="before", whole=True)
    gap, sigma = filled["gap"].values, filled["uncertainty"].values[:, 0]
    means = [np.nanmean(sigma[gap == days]) for days in (2, 4, 6, 8)]
    assert (np.diff(means) > 0).all()
    missed = np.abs(filled["reflectance"] - cube).values[:, 0]
    known = np.isfinite(missed) & (gap > 0)
    assert 0.6 < (missed[known] < sigma[known]).mean() < 0.76
    both = xh.fill_clouds(cube, whole=True)["uncertainty"].values[:, 0]
    assert np.nanmean(both[5:10]) < np.nanmean(sigma[5:10])


def test_observed_values_keep_their_own_uncertainty():
    cube = made().to_dataset(name="reflectance")
    cube["uncertainty"] = xr.full_like(cube["reflectance"], 0.01)
    filled = xh.fill_clouds(cube)
    seen = np.isfinite(cube["reflectance"].values)
    assert (filled["uncertainty"].values[seen] == np.float32(0.01)).all()
    assert (filled["uncertainty"].values[~seen] != np.float32(0.01)).all()
    assert np.isnan(xh.fill_clouds(made())["uncertainty"].values[seen]).all()


def test_what_was_filled_is_no_observation():
    cube = made()
    once = xh.fill_clouds(cube, max_gap=5)
    twice = xh.fill_clouds(once, max_gap=60)
    straight = xh.fill_clouds(cube, max_gap=60)
    new = np.isnan(once["reflectance"].values)
    np.testing.assert_array_equal(
        twice["reflectance"].values[new], straight["reflectance"].values[new]
    )
    assert (twice["origin"].values[~np.isnan(cube.values)] == Origin.OBSERVED).all()


def test_companions_and_contract_survive():
    cube = made().to_dataset(name="reflectance")
    cube["qa"] = (("time", "y", "x"), np.ones((6, 9, 8), np.uint16))
    cube.attrs["title"] = "a place"
    filled = xh.fill_clouds(cube)
    xr.testing.assert_identical(filled["qa"].drop_attrs(), cube["qa"].drop_attrs())
    assert filled.attrs == cube.attrs
    assert set(cube.coords) == set(filled.coords)
    assert filled["gap"].attrs["units"] == "days"
    assert "fill_clouds: temporal, missing pixels" in filled["reflectance"].attrs["history"]
    assert filled["spatial_ref"].attrs == cube["spatial_ref"].attrs


def test_dates_in_any_order_give_the_same():
    cube, order = made(), [3, 0, 5, 1, 4, 2]
    turned = xh.fill_clouds(cube.isel(time=order)).sortby("time")
    xr.testing.assert_allclose(turned["reflectance"], xh.fill_clouds(cube)["reflectance"])


CHUNKS = [{"time": 4, "y": 30, "x": 3}, {"band": 1, "y": 19}]


@pytest.mark.parametrize("model", ["temporal", "nearest", "sar-regression"])
def test_nothing_depends_on_chunks(model):
    days = tuple(range(1, 31, 4))
    cube, beside = made(days, shape=(50, 8)), radar(tuple(range(2, 31, 6)), shape=(50, 8))
    sentinel1 = beside if model == "sar-regression" else None
    assert_chunk_invariant(
        lambda one: xh.fill_clouds(one, sentinel1, model), cube, chunkings=CHUNKS
    )
    if sentinel1 is not None:
        assert_chunk_invariant(
            lambda one: xh.fill_clouds(cube.chunk({"y": 20}), one, model),
            sentinel1,
            chunkings=[{"time": 2, "y": 19}],
        )


@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_nothing_depends_on_any_chunks(data):
    cube = made(shape=(5, 4))
    chunks = data.draw(chunkings(cube))
    fit = fit_fill(cube)
    xr.testing.assert_identical(
        xh.fill_clouds(cube.chunk(chunks), model=fit).compute(), xh.fill_clouds(cube, model=fit)
    )


def test_a_part_has_the_values_of_the_whole():
    cube = made()
    fit = fit_fill(cube)
    part = xh.fill_clouds(cube.isel(y=slice(2, 6)), model=fit)
    xr.testing.assert_identical(part, xh.fill_clouds(cube, model=fit).isel(y=slice(2, 6)))


def test_nothing_is_computed_or_changed():
    cube, beside = made().chunk({"y": 4}), radar().chunk({"time": 2})
    before = cube.compute()
    with no_compute():
        for model in ("temporal", "sar-regression"):
            sentinel1 = beside if model == "sar-regression" else None
            assert_lazy(xh.fill_clouds(cube, sentinel1, model))
            assert_lazy(fit_fill(cube, sentinel1, model))
    xr.testing.assert_identical(cube.compute(), before)


def follower(shape=(30, 30)):
    """Fields that are mown one after another, which Sentinel-1 sees the same day."""
    rng = np.random.default_rng(0)
    days = tuple(range(1, 31, 2))
    cube, beside = made(days, shape=shape), radar(days, shape=shape)
    mown = np.repeat(np.repeat(rng.integers(1, 31, (10, 10)), 3, 0), 3, 1)
    is_mown = np.array(days)[:, None, None] > mown
    levels = {"green": (0.06, 0.09), "red": (0.03, 0.12), "nir": (0.45, 0.2)}
    values = np.stack([np.where(is_mown, *levels[b][::-1]) for b in BANDS], axis=1)
    values = values + rng.normal(0, 0.005, values.shape)
    truth = cube.copy(data=values.astype(np.float32))
    decibels = np.stack([np.where(is_mown, -12.0, -9), np.where(is_mown, -21.0, -15)], axis=1)
    decibels += rng.normal(0, 0.3, decibels.shape)
    power = beside.copy(data=(10 ** (decibels / 10)).astype(np.float32))
    clear = xr.DataArray(np.arange(15) % 7 == 0, dims="time")
    return truth, truth.where(clear), power


def test_sentinel1_tells_what_changed_between_clear_dates(monkeypatch):
    monkeypatch.setattr("xharmonize.fusion.passes.DECAY", 2.0)
    truth, cloudy, power = follower()
    fit = fit_fill(truth[:, :, :15], power[:, :, :15], "sar-regression")
    filled = xh.fill_clouds(cloudy, power, fit)
    base = xh.fill_clouds(cloudy, model="temporal")
    hidden = np.isnan(cloudy.values)[:, :, 15:]
    missed, plain = (
        np.sqrt(np.square((one["reflectance"] - truth).values[:, :, 15:][hidden]).mean())
        for one in (filled, base)
    )
    assert missed < 0.6 * plain
    in_decibels = xh.fill_clouds(cloudy, xh.fusion.radar.to_decibels(power), fit)
    np.testing.assert_allclose(in_decibels["reflectance"], filled["reflectance"], atol=1e-4)


def test_a_fit_is_saved_and_applied_again(tmp_path):
    truth, cloudy, power = follower()
    fit = fit_fill(truth, power, "sar-regression")
    for name in ("fit.zarr", "fit.nc"):
        xh.harmonizers.save_model(fit, tmp_path / name)
        again = xh.fill_clouds(cloudy, power, tmp_path / name)
        xr.testing.assert_equal(again, xh.fill_clouds(cloudy, power, fit))


def test_the_day_of_sentinel1_is_told_and_dates_without_it_stay_missing():
    cube, beside = made(), radar(days=(2, 8, 14))
    dense = made(tuple(range(1, 31, 2)), (30, 30))
    fit = fit_fill(dense, radar(shape=(30, 30)), "sar-regression")
    filled = xh.fill_clouds(cube, beside, fit)
    offset = filled["sentinel1_offset"].values
    np.testing.assert_allclose(offset[:4], np.array([1, -2, -3, -2]) + (17 * 60 + 32 - 650) / 1440)
    assert np.isnan(offset[-2:]).all()
    missing = np.isnan(cube.values[-1])
    assert np.isnan(filled["reflectance"].values[-1][missing]).all()


def test_a_pixel_without_sentinel1_stays_missing():
    truth, cloudy, power = follower()
    fit = fit_fill(truth, power, "sar-regression")
    power[:, 0, 4, 4] = np.nan
    filled = xh.fill_clouds(cloudy, power, fit)
    assert np.isnan(filled["reflectance"].values[1, :, 4, 4]).all()
    assert np.isfinite(filled["reflectance"].values[1, :, 4, 5]).all()


def half(array: xr.DataArray) -> xr.DataArray:
    """Half of the reflectance everywhere, as a network might say."""
    return xr.full_like(array, 0.5)


def test_a_function_is_a_model():
    cube = made()
    filled = xh.fill_clouds(cube, model=half)
    seen = np.isfinite(cube.values)
    np.testing.assert_array_equal(filled["reflectance"].values[seen], cube.values[seen])
    assert (filled["reflectance"].values[~seen] == 0.5).all()
    assert (filled["origin"].values[~seen] == Origin.FILLED).all()
    assert np.isnan(filled["uncertainty"]).all()


def test_the_accessor_fills():
    cube = made()
    xr.testing.assert_identical(cube.harmonize.fill_clouds(), xh.fill_clouds(cube))


@dataclass(frozen=True, kw_only=True)
class ByReference(Base):
    """Asks for what a network asks for, and answers with the reference date, less a hundredth."""

    name: str = "by-reference"
    source_bandpass: str = "msi"
    target_bandpass: str = "msi"
    bands: tuple[str, ...] = BANDS
    changes_grid: bool = False
    min_valid: float = 0.5
    citation: str = ""
    sources: ClassVar[tuple[str, ...]] = ("cube", "sentinel1", "sentinel1_reference", "before")
    seen: ClassVar[dict[str, xr.DataArray]] = {}

    def check(self, cube, /):
        steps = tuple(read_contract(cube))
        return Checked(steps=steps, is_due=(True,) * len(steps))

    def changed(self, cube, checked, **others):
        self.seen.update(others)
        for one in others.values():
            assert (one["time"].values == cube["time"].values).all()
        return (others["before"] - 0.01).to_dataset(name="reflectance").assign_coords(cube.coords)


def test_a_model_of_several_sources_gets_them_on_the_dates_of_the_cube():
    cube = made(missing=0)
    cloudy = cube.where(cube["time"] != cube["time"][3])
    filled = xh.fill_clouds(cloudy, radar(), ByReference(), max_gap=20)
    np.testing.assert_allclose(filled["reflectance"][3], cube[2] - 0.01, atol=1e-6)
    assert str(filled["reference_time"].values[3])[:10] == "2018-07-11"
    assert filled["reference_gap"].values[3] == -5
    assert (filled["gap"].values[3] == 5).all()
    assert (filled["gap"].values[[0, 1, 2, 4, 5]] == 0).all()
    passes = ByReference.seen["sentinel1"]["reference_time"].values.astype("datetime64[D]")
    assert str(passes[3]) == "2018-07-14"
    near = ByReference.seen["sentinel1_reference"]["reference_time"].values
    assert str(near[3])[:10] == "2018-07-08"
    assert np.isnat(near[0])
    assert ByReference.seen["sentinel1"].attrs["units"] == "1"


@dataclass(frozen=True, kw_only=True)
class WithItself(ByReference):
    """Adds what it sees of the date itself, where it sees anything."""

    def changed(self, cube, checked, **others):
        own = cube["reflectance"] if isinstance(cube, xr.Dataset) else cube
        found = super().changed(cube, checked, **others)
        return found.assign(reflectance=found["reflectance"] + own.fillna(0))


def test_a_network_estimates_a_whole_date_without_itself():
    cube = made(missing=0)
    whole = xh.fill_clouds(cube, radar(), WithItself(), whole=True, max_gap=20)
    np.testing.assert_allclose(whole["reflectance"][1:], cube[:-1] - 0.01, atol=1e-6)
    assert whole["reflectance"][0].isnull().all()  # nothing lies before it
    assert (whole["origin"].values[1:] == Origin.FILLED).all()
    assert not whole["origin"].values[0].any()


def test_sentinel1_of_long_before_counts_where_it_is_allowed_to():
    truth, _, power = follower()
    fit = fit_fill(truth, power, "sar-regression")
    cube = made(shape=(30, 30), missing=0)
    cloudy = cube.where(cube["time"] != cube["time"][1])
    early = np.array(["2018-05-28T17:32", "2018-06-01T17:32", "2018-06-03T17:32"], "datetime64[ns]")
    before = radar(days=(2, 8, 14), shape=(30, 30)).assign_coords(time=early)
    filled = xh.fill_clouds(cloudy, before, fit, max_offset=40)
    assert filled["sentinel1_offset"].values[1] < -30
    assert filled["reflectance"][1].notnull().all()


def test_a_store_and_cogs_keep_what_was_filled(tmp_path):
    filled = xh.fill_clouds(made(tuple(range(1, 31, 4))))
    xh.to_zarr(filled, tmp_path / "a.zarr")
    again = xh.open_series(tmp_path / "a.zarr").compute()
    for name in ("reflectance", "origin", "uncertainty", "gap"):
        np.testing.assert_array_equal(again[name], filled[name])
    beside = radar().assign_coords(
        orbit_state=("time", ["ascending"] * 5), relative_orbit=("time", [88.0] * 5)
    )
    xh.to_zarr(beside, tmp_path / "b.zarr")
    back = xh.open_series(tmp_path / "b.zarr")
    assert back["orbit_state"].values.tolist() == ["ascending"] * 5
    assert back["relative_orbit"].values.tolist() == [88.0] * 5


def test_a_second_filling_keeps_the_gaps_of_the_first():
    cube = made()
    once = xh.fill_clouds(cube, max_gap=5)
    twice = xh.fill_clouds(once)
    kept = (once["gap"] > 0).values
    assert kept.any()
    np.testing.assert_array_equal(twice["gap"].values[kept], once["gap"].values[kept])


def test_no_limit_to_the_gap():
    cube = made()
    cube[1:, :, 0, 0], cube[0, :, 0, 0] = np.nan, 0.25
    filled = xh.fill_clouds(cube, max_gap=float("inf"))
    assert (filled["reflectance"].values[:, :, 0, 0] == 0.25).all()
    assert float(filled["gap"][-1, 0, 0]) == 30
