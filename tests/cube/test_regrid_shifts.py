"""Weights of regridding carry the shift of each date and a point spread."""

from __future__ import annotations

import time

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from helpers.marks import first_quick
from scipy.ndimage import gaussian_filter

import xharmonize as xh
from xharmonize.cube.geobox import geobox_of
from xharmonize.cube.orbits import orbit_groups, shifts_of
from xharmonize.testing import assert_chunk_invariant, example_cube

SHIFTS = np.array([[4.0, -7.5], [-13.0, 2.0], [0.0, 0.0]])


def shifts_for(cube, values=SHIFTS):
    return xr.Dataset(
        {"shift_x": ("time", values[:, 0]), "shift_y": ("time", values[:, 1])},
        coords={"time": cube["time"].values},
    )


def placed(cube, shift):
    """A cube whose coordinates say where its displaced content belongs."""
    transform = cube["spatial_ref"].copy()
    transform.attrs.pop("GeoTransform", None)
    return cube.assign_coords(
        x=cube["x"].values - shift[0], y=cube["y"].values - shift[1], spatial_ref=transform
    )


@pytest.mark.parametrize("target", [{"resolution": 30}, {"crs": 32632, "resolution": 30}])
@pytest.mark.parametrize("how", ["area", "nearest", "bilinear"])
def test_a_shift_is_a_move_of_the_coordinates(target, how):
    cube = example_cube(shape=(40, 50))
    like = xh.regrid(cube, **target)
    moved = xh.regrid(cube, like=like, method=how, shifts=shifts_for(cube))
    for n, shift in enumerate(SHIFTS):
        expected = xh.regrid(placed(cube.isel(time=[n]), shift), like=like, method=how)
        np.testing.assert_allclose(
            moved.isel(time=n).values, expected.isel(time=0).values, atol=2e-6
        )


def test_content_comes_back_by_whole_pixels():
    cube = example_cube(dates=("2018-07-01",), missing=0)
    east_and_north = cube.copy(data=np.roll(cube.values, (-2, 1), axis=(-2, -1)))
    fit = shifts_for(cube, np.array([[10.0, 20.0]]))
    back = east_and_north.harmonize.shift(fit)
    inner = {"y": slice(2, -2), "x": slice(2, -2)}
    np.testing.assert_array_equal(back.isel(inner).values, cube.isel(inner).values)
    assert np.isnan(back.isel(y=-1)).any() or np.isnan(back.isel(x=-1)).all()
    assert back.dims == cube.dims
    assert "shifted" in back.attrs["history"]


@pytest.mark.parametrize("crs", [32631, 32632])
def test_the_point_spread_is_a_gaussian(crs):
    """Against a Gaussian filter on pixels of a tenth the size."""
    cube = example_cube(dates=("2018-07-01",), bands=("red",), shape=(60, 60), missing=0)
    smooth = gaussian_filter(cube.values[0, 0].astype(float), 1.5)
    cube = cube.copy(data=smooth[None, None].astype(np.float32))
    target = xh.regrid(cube, crs=crs, resolution=30)
    found = xh.regrid(cube, like=target, psf=9.0, min_valid=1.0)
    if crs == 32631:
        fine = np.repeat(np.repeat(smooth, 10, axis=0), 10, axis=1)
        blurred = cube.copy(
            data=gaussian_filter(fine, 9.0).reshape(1, 1, 60, 10, 60, 10).mean((3, 5))
        )
        expected = xh.regrid(blurred, like=target)
    else:
        expected = xh.regrid(xh.regrid(cube, like=cube.isel(x=slice(None)), psf=9.0), like=target)
    is_known = np.isfinite(found.values)
    assert is_known.mean() > 0.5
    np.testing.assert_allclose(found.values[is_known], expected.values[is_known], atol=5e-4)


def test_a_constant_stays_and_gaps_keep_their_weight():
    cube = example_cube(dates=("2018-07-01",))
    flat = cube.where(cube.isnull(), 0.25)
    found = xh.regrid(flat, resolution=30, psf=5.0, shifts=shifts_for(cube, SHIFTS[:1]))
    np.testing.assert_allclose(found.values[np.isfinite(found.values)], 0.25, rtol=1e-6)


@pytest.mark.parametrize(
    "target", first_quick([{"resolution": 30}, {"crs": 32632, "resolution": 30}])
)
def test_chunks_change_nothing(target):
    cube = example_cube(shape=(40, 50))
    grid = geobox_of(xh.regrid(cube, **target))

    def moved(cube):
        return xh.regrid(cube, like=grid, shifts=shifts_for(cube), psf=4.0, min_valid=0.2)

    chunkings = [{"time": 1, "y": 7, "x": 50}, {"band": 2, "time": 2, "y": 9, "x": 11}]
    assert_chunk_invariant(moved, cube, chunkings=chunkings)


def test_companions_are_moved_too():
    cube = example_cube(dates=("2018-07-01",), missing=0)
    qa = xr.zeros_like(cube.isel(band=0, drop=True), dtype=np.uint16)
    qa[0, 10, 12] = 8
    found = xh.shift(
        xr.Dataset({"reflectance": cube, "qa": qa}), shifts_for(cube, np.array([[20.0, 10.0]]))
    )
    assert found["qa"].values[0, 11, 10] & 8
    assert (found["qa"].values[0, 5:15, 5:15] & 8).astype(bool).sum() == 1


def test_a_thousand_dates_are_laid_out_in_seconds(no_compute):
    base = example_cube(dates=("2018-07-01",))
    dates = np.datetime64("2018-01-01", "ns") + np.arange(1000) * np.timedelta64(1, "D")
    pixels = da.zeros((1000, 6, 600, 600), chunks=(1, -1, 300, 300), dtype=np.float32)
    cube = example_cube(dates=tuple(dates.astype(str)), shape=(2, 2), missing=0)
    big = xr.DataArray(pixels, dims=cube.dims, coords=cube.drop_vars(["y", "x"]).coords)
    big = big.assign_coords(
        y=float(base.y[0]) - 10.0 * np.arange(600), x=float(base.x[0]) + 10.0 * np.arange(600)
    )
    shifts = shifts_for(big, np.random.default_rng(0).normal(0, 4, (1000, 2)))
    start = time.perf_counter()
    with no_compute():
        xh.regrid(big, resolution=30, shifts=shifts, psf=3.0)
    assert time.perf_counter() - start < 10


def test_dates_that_a_fit_lacks():
    cube = example_cube()
    part = shifts_for(cube).isel(time=[0, 1])
    with pytest.raises(xh.errors.TimeAxisError, match=r"none for 2018-07-11.*fit_shifts"):
        xh.regrid(cube, resolution=30, shifts=part)
    known = part.assign_coords(group=("time", orbit_groups(cube)[:2])).assign(
        group_x=("time", [1.0, 2.0]), group_y=("time", [3.0, 4.0])
    )
    assert len(set(orbit_groups(cube))) == 2  # every five days: two orbits of an unsaid platform
    np.testing.assert_allclose(shifts_of(cube, known)[2], [1.0, 3.0])


def test_what_is_no_shift_is_refused():
    cube = example_cube()
    with pytest.raises(xh.errors.ContractError, match=r"xh\.fit_shifts"):
        xh.regrid(cube, resolution=30, shifts=xr.Dataset())
    with pytest.raises(xh.errors.GridError, match="psf=-1"):
        xh.regrid(cube, resolution=30, psf=-1)
    with pytest.raises(xh.errors.GridError, match="method='area'"):
        xh.regrid(cube, resolution=30, psf=3, method="nearest")
