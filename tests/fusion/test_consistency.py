"""Degraded by the coarse optics, a sharpened result is what the coarse sensor saw."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from helpers.sharpening import COARSE_DAYS, fine_cube
from helpers.sharpening import coarse_cube as landsat
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

import xharmonize as xh
from xharmonize import fusion

INCONSISTENT = 128


def coarse_cube(*given, **options):
    """Landsat, called by the bandpass of the fine cube: what it saw is known."""
    cube = landsat(*given, **options)
    return cube.assign_coords(bandpass=("time", ["msi"] * cube.sizes["time"]))


def truth():
    return fine_cube(dates=COARSE_DAYS)


def test_the_truth_is_consistent_and_a_change_is_flagged():
    fine, coarse = truth(), coarse_cube()
    assert not fusion.flag_inconsistent(fine, coarse)["flag"].any()
    fine[1, 2, 10, 10] += 0.5  # a ninth of it is more than the tolerance
    found = fusion.flag_inconsistent(fine, coarse)["flag"]
    expected = np.zeros(fine.shape, bool)
    expected[1, 2, 9:12, 9:12] = True
    np.testing.assert_array_equal(found == INCONSISTENT, expected)
    assert not fusion.flag_inconsistent(fine, coarse, tolerance=0.06)["flag"].any()
    assert found.attrs["tolerance"] == 0.01
    assert found.attrs["psf"] == 0
    assert "inconsistent" in found.attrs["flag_meanings"]


def test_degraded_is_the_area_mean_of_a_blurred_image():
    fine, coarse = truth(), coarse_cube()
    np.testing.assert_allclose(
        fusion.degrade(fine, coarse), fine.coarsen(y=3, x=3).mean(), atol=1e-6
    )
    seen = fusion.degrade(fine, coarse, psf=10.0, min_valid=0.5).values[0, 0, 2:-2, 2:-2]
    finer = fine.values[0, 0].repeat(20, 0).repeat(20, 1).astype(float)
    blurred = gaussian_filter(finer, 20, truncate=3).reshape(16, 60, 20, 60).mean((1, 3))
    np.testing.assert_allclose(seen, blurred[2:-2, 2:-2], atol=3e-4)


def test_a_shift_is_counted_in():
    fine = truth()
    moved = fine.assign_coords(x=fine.x + 10)  # what the coarse sensor sees lies 10 m too far east
    coarse = xh.regrid(moved, like=coarse_cube(), min_valid=0)
    times = {"time": fine.time.values}
    shift = xr.Dataset(
        {"shift_x": ("time", [10.0, 10.0]), "shift_y": ("time", [0.0, 0.0])}, coords=times
    )
    coarse = coarse_cube().copy(data=coarse.values)
    assert fusion.flag_inconsistent(fine, coarse)["flag"].any()
    assert not fusion.flag_inconsistent(fine, coarse, shifts=shift)["flag"].any()


@settings(max_examples=6, deadline=None)
@given(phase=st.sampled_from([0.0, -15.0, -10.0, -4.0]), ratio=st.sampled_from([3, 2.5]))
def test_corrected_it_is_exact_on_any_grids(phase, ratio):
    fine = truth()
    coarse = coarse_cube(fine, phase=phase)
    if ratio != 3:
        coarse = xh.regrid(coarse, resolution=10 * ratio)
    rough = xh.sharpen(coarse, fine, bandpass=None)["reflectance"]
    result = fusion.correct(rough, coarse)
    left = (fusion.degrade(result, coarse) - coarse).values
    before = abs(fusion.degrade(rough, coarse) - coarse).values
    assert np.isfinite(left).any()
    # To rounding where pixels nest, to 2e-4 of the largest residual elsewhere.
    assert np.nanmax(abs(left)) <= max(2e-7, 2e-4 * np.nanmax(before) * (phase != 0 or ratio != 3))


def test_a_coarse_pixel_that_is_not_whole_is_left_alone():
    fine, coarse = truth(), coarse_cube()
    rough = xh.sharpen(coarse, fine, bandpass=None)["reflectance"]
    rough[0, :, 4, 4] = np.nan
    result = fusion.correct(rough, coarse)
    np.testing.assert_array_equal(result[0, :, 3:6, 3:6], rough[0, :, 3:6, 3:6])
    assert not fusion.flag_inconsistent(rough, coarse)["flag"][0, :, 3:6, 3:6].any()
    assert result.attrs["history"].endswith("correct: 1 pass")


def test_a_point_spread_is_corrected_as_far_as_it_goes():
    fine, coarse = truth(), coarse_cube(psf=8.0)
    rough = xh.sharpen(coarse, fine, bandpass=None)["reflectance"]
    before, after = (
        float(np.sqrt(np.nanmean((fusion.degrade(one, coarse, psf=8.0) - coarse) ** 2)))
        for one in (rough, fusion.correct(rough, coarse, psf=8.0))
    )
    assert after < before / 20


def test_what_does_not_belong_together_is_told():
    fine, coarse = truth(), coarse_cube()
    with pytest.raises(xh.errors.TimeAxisError, match="differ in dates"):
        fusion.flag_inconsistent(fine, coarse.isel(time=[0]))
    with pytest.raises(xh.errors.BandError, match="no band nir08"):
        fusion.flag_inconsistent(fine, coarse.sel(band=["blue", "red"]))
    with pytest.raises(xh.errors.OptionError, match="tolerance=0"):
        fusion.flag_inconsistent(fine, coarse, tolerance=0)
    for function in (fusion.flag_inconsistent, fusion.correct):
        with pytest.raises(xh.errors.RadiometryError, match=r"bandpass msi.* in oli; .*hls-v2"):
            function(fine, landsat())
