"""Shifts of dates, found and taken off."""

from __future__ import annotations

import warnings

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from helpers.moved import landscape, moved_cube

import xharmonize as xh

DATES = [f"2018-07-{day:02d}" for day in (1, 4, 6, 9, 11, 14, 16, 19)]
LANDSAT = ["2018-07-02", "2018-07-10", "2018-07-18"]
GROUND = landscape(600)
RANDOM = np.random.default_rng(5)
SHIFTS = RANDOM.normal(0, 4, (len(DATES), 2))
OFFSET = np.array([6.0, -4.0])
TARGET_SHIFTS = RANDOM.normal(0, 3, (len(LANDSAT), 2))


@pytest.fixture(scope="module")
def source():
    return moved_cube(GROUND, SHIFTS + OFFSET, DATES)


@pytest.fixture(scope="module")
def target():
    return moved_cube(
        GROUND,
        TARGET_SHIFTS,
        LANDSAT,
        resolution=30,
        sensor="landsat-c2-l2",
        platform="landsat-8",
        seed=2,
    )


@pytest.fixture(scope="module")
def fit(source):
    return xh.fit_shifts(source)


@pytest.fixture(scope="module")
def against(source, target):
    return xh.fit_shifts(source, reference=target, psf=0)


def found(fit, prefix=""):
    return np.stack([fit[f"{prefix}shift_{axis}"].values for axis in "xy"], axis=-1)


def rms(errors):
    return np.sqrt(np.mean(np.square(errors), axis=0))


def test_shifts_are_found_to_a_metre(fit):
    assert (rms(found(fit) - (SHIFTS - SHIFTS.mean(axis=0))) < 1).all()
    np.testing.assert_allclose(found(fit).mean(axis=0), 0, atol=1e-9)
    assert fit["shift_x"].attrs["units"] == "m"
    assert (fit["n_edges"] >= 4).all()
    assert (fit["shift_se"] < 1.5).all()


def test_shifts_against_another_sensor_are_found_to_a_metre(against):
    level = TARGET_SHIFTS.mean(axis=0)
    assert (rms(found(against) - (SHIFTS + OFFSET - level)) < 1).all()
    assert (rms(found(against, "reference_") - (TARGET_SHIFTS - level)) < 1).all()


def test_the_finer_of_two_sensors_is_averaged_either_way(source, target, against):
    turned = xh.fit_shifts(target, reference=source, psf=0)
    difference = found(turned)[:, None] - found(turned, "reference_")
    expected = found(against, "reference_")[:, None] - found(against)
    assert np.abs(difference - expected).max() < 1.5


def test_shifted_dates_lie_on_each_other(source, fit, no_compute):
    with no_compute():
        lazy = source.chunk({"time": 1, "y": 20}).harmonize.shift(fit)
    moved = lazy.compute()
    xr.testing.assert_allclose(moved, source.harmonize.shift(fit))
    again = xh.fit_shifts(moved)
    assert rms(found(again)).max() < 0.5 < rms(found(fit)).min()


def test_pixels_in_memory_and_lazy_give_the_same(source, fit):
    lazy = xh.fit_shifts(source.chunk({"time": 3, "y": 17, "x": 60}))
    xr.testing.assert_identical(lazy, fit)


def _guarded(cube, day):
    """A cube whose pixels of one day raise when they are read."""
    days = cube["time"].values.astype("datetime64[D]").astype(str)

    @dask.delayed
    def refuse():
        raise AssertionError(f"{day} was read")

    images = [
        da.from_delayed(refuse(), image.shape, image.dtype) if one == day else da.from_array(image)
        for one, image in zip(days, cube.values)
    ]
    return cube.copy(data=da.stack(images))


def test_an_excluded_target_is_never_read(source, target):
    guarded = _guarded(target, LANDSAT[1])
    with pytest.raises(AssertionError, match="was read"):
        xh.fit_shifts(source, reference=guarded, psf=0)
    fit = xh.fit_shifts(source, reference=guarded, exclude=[LANDSAT[1]], psf=0)
    assert LANDSAT[1] not in fit["reference_time"].values.astype("datetime64[D]").astype(str)
    # Its pixels don't count either, whatever they are.
    other = target.copy(data=target.values.copy())
    other[1] = 0.5
    xr.testing.assert_identical(
        fit, xh.fit_shifts(source, reference=other, exclude=[LANDSAT[1]], psf=0)
    )


def test_a_cloudy_date_takes_the_mean_of_its_orbit(source):
    cloudy = source.copy(data=source.values.copy())
    cloudy[2] = np.nan
    fit = xh.fit_shifts(cloudy)
    assert int(fit["n_edges"][2]) == 0
    assert float(fit["shift_x"][2]) == pytest.approx(float(fit["group_x"][2]))
    assert float(fit["shift_se"][2]) > float(fit["shift_se"].median())


def test_real_dates_predict_each_other(data):
    """A part of the year; the whole is in benchmarks/registration.py."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
        cube = xh.open_stac(
            data / "flanders-2018" / "catalog.json",
            collection="sentinel-2-l2a",
            datetime="2018-07-15/2018-08-10",
            bands=["green", "red", "nir"],
            resolution=10,
            platform="infer",
        )
    fit = xh.fit_shifts(cube, neighbours=5)
    count = dict(zip(fit["time"].values, fit["n_edges"].values))
    ends = zip(fit["first_time"].values, fit["second_time"].values)
    well = [min(count[one], count[other]) >= 4 for one, other in ends]
    errors = np.stack([fit[f"left_out_{axis}"].values[well] for axis in "xy"], axis=-1)
    assert len(errors) >= 8
    assert (rms(errors) <= 1).all()


def test_bad_input_says_what_to_do(source, target):
    with pytest.raises(xh.errors.FitError, match=r"no two dates within 1D.*max_gap"):
        xh.fit_shifts(source, max_gap="1D")
    with pytest.raises(xh.errors.OptionError, match=r"exclude=.*no date 2018-01-01"):
        xh.fit_shifts(source, reference=target, exclude=["2018-01-01"])
    with pytest.raises(xh.errors.OptionError, match=r"exclude='2018-07-02' is one date"):
        xh.fit_shifts(source, reference=target, exclude="2018-07-02")
    with pytest.raises(xh.errors.GridError, match="different CRSs"):
        xh.fit_shifts(source, reference=xh.regrid(target, crs=32632))
    with pytest.raises(xh.errors.BandError, match="swir16"):
        xh.fit_shifts(source, bands=["swir16"])
    with pytest.raises(xh.errors.OptionError, match=r"neighbours=0.*give 1 or more"):
        xh.fit_shifts(source, neighbours=0)
