"""STARFM and ATPRK on cubes: against their kernels, on any chunks, and near the truth."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from helpers.sharpening import coarse_cube, fine_cube
from hypothesis import given, settings
from hypothesis import strategies as st

import xharmonize as xh
from xharmonize.fusion.methods.atprk import Atprk
from xharmonize.fusion.methods.starfm import Starfm, StarfmSI
from xharmonize.kernels.starfm import Search, starfm
from xharmonize.testing import assert_lazy

SEARCH = Search(window=9)


def methods(like, **options):
    """STARFM-SI and ATPRK on the grid of a cube."""
    return [StarfmSI(like=like, search=SEARCH, **options), Atprk(like=like, **options)]


@pytest.mark.slow
@pytest.mark.parametrize("phase", [0.0, -15.0])
def test_sharpened_dates_are_nearer_the_truth_than_interpolated_ones(phase):
    truth = fine_cube(dates=("2018-07-02T10:40", "2018-07-12T10:40"))
    coarse = coarse_cube(truth, phase=phase)
    near = truth.copy(data=truth.values[::-1])  # fine images of other states of the ground
    inner = {"y": slice(6, -6), "x": slice(6, -6)}

    def error(found):
        values = found["reflectance"] if isinstance(found, xr.Dataset) else found
        return float(np.sqrt(((values - truth)[..., 6:-6, 6:-6].values ** 2).mean()))

    plain = error(xh.sharpen(coarse, near, "bilinear", bandpass=None))
    for method in methods(truth):
        found = method(coarse, fine=near)
        assert np.isfinite(found.isel(inner)).all()
        assert error(found) < 0.8 * plain, method.name


def test_atprk_degrades_to_the_coarse_cube_where_pixels_nest():
    coarse, fine = coarse_cube(), fine_cube()
    coarse[0, :, 2, 3] = np.nan
    near = fine.assign_coords(time=coarse["time"].values)
    found = Atprk(like=fine)(coarse, fine=near)
    seen = found.coarsen(y=3, x=3).mean()
    np.testing.assert_allclose(seen, coarse, atol=2e-6)
    whole = xh.sharpen(coarse, fine, "atprk", bandpass=None)
    assert not (whole["flag"] & 128).any()


def test_starfm_is_its_kernel_on_interpolated_images():
    coarse, fine = coarse_cube(), fine_cube()
    near = fine.assign_coords(time=coarse["time"].values)
    found = StarfmSI(like=fine, search=SEARCH)(coarse, fine=near)
    seen = xh.regrid(near, like=coarse, min_valid=0.5)
    up = [xh.regrid(a, like=fine, method="bilinear", min_valid=0).values for a in (coarse, seen)]
    exact = near.values.astype(float).std(axis=(2, 3))
    spread = np.vectorize(lambda sigma: float(f"{sigma:.4e}"))(exact)
    expected = [
        starfm(c, f[None], p[None], s[None], search=SEARCH)
        for c, f, p, s in zip(up[0], near.values, up[1], spread)
    ]
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-6)


def test_one_pair_is_enough_of_two():
    coarse, fine = coarse_cube(), fine_cube()
    near = fine.assign_coords(time=coarse["time"].values)
    partner = coarse.copy(data=coarse.values[::-1])
    nothing = [xr.full_like(one, np.nan) for one in (near, partner)]
    two = Starfm(like=fine, search=SEARCH, pairs=2)
    options = {"before": near, "coarse_before": partner}
    one = two(coarse, after=nothing[0], coarse_after=nothing[1], **options)
    twice = two(coarse, after=near, coarse_after=partner, **options)
    np.testing.assert_allclose(one, twice, atol=1e-6)
    assert np.isnan(one).sum() == 0


@pytest.mark.slow
@settings(max_examples=2, deadline=None)
@given(
    coarse_size=st.tuples(st.integers(5, 16), st.integers(7, 20)),
    fine_size=st.tuples(st.integers(17, 48), st.integers(17, 60)),
    lead=st.tuples(st.sampled_from([1, 2]), st.sampled_from([1, 3])),
)
def test_results_do_not_depend_on_chunks(coarse_size, fine_size, lead):
    coarse, fine = coarse_cube(phase=-15.0), fine_cube()
    coarse[0, :, 3:5, 7] = np.nan
    near = fine.assign_coords(time=coarse["time"].values)
    near[1, 0, 20:22, 30:33] = np.nan
    shifts = xr.Dataset(
        {"shift_x": ("time", [4.0, -13.0]), "shift_y": ("time", [0.0, 8.0])},
        coords={"time": coarse["time"].values},
    )
    for method in methods(fine, psf=8.0, shifts=shifts):
        expected = method(coarse, fine=near)
        lazy = method(
            coarse.chunk(dict(zip(coarse.dims, (*lead, *coarse_size)))),
            fine=near.chunk(dict(zip(near.dims, (*lead, *fine_size)))),
        )
        assert_lazy(lazy)
        np.testing.assert_array_equal(np.isnan(lazy), np.isnan(expected))
        np.testing.assert_allclose(lazy, expected, atol=2e-6)


def test_nothing_is_computed_and_missing_stays_missing(no_compute):
    coarse, fine = coarse_cube(), fine_cube()
    coarse[0, :, 2, 3] = np.nan
    near = fine.assign_coords(time=coarse["time"].values)
    near[:, 1, 30, 40] = np.nan
    for method in methods(fine):
        with no_compute():
            lazy = method(coarse.chunk(y=5), fine=near.chunk(x=16))
        found = lazy.compute()
        assert np.isnan(found[0, :, 6:9, 9:12]).all()
        assert np.isnan(found[:, 1, 30, 40]).all()
        assert np.isfinite(found[:, 0, :6]).all()


def test_a_shift_is_followed():
    ground = fine_cube(shape=(54, 66))
    fine, moved = ground[..., 3:51, 3:63], ground[..., 3:51, 2:62]
    there = fine_cube()  # 10 m east: what fine shows at x, the coarse cube has a pixel further
    coarse = coarse_cube(there.copy(data=moved.values))
    near = there.copy(data=fine.values).assign_coords(time=coarse["time"].values)
    shifts = xr.Dataset(
        {"shift_x": ("time", [10.0, 10.0]), "shift_y": ("time", [0.0, 0.0])},
        coords={"time": coarse["time"].values},
    )
    inner = (..., slice(9, -9), slice(9, -9))
    found, blind = (Atprk(like=near, shifts=s)(coarse, fine=near) for s in (shifts, None))
    errors = [float(abs(one.values - near.values)[inner].mean()) for one in (found, blind)]
    assert errors[0] < 0.2 * errors[1]


def test_by_name_with_the_published_options(no_compute):
    coarse, fine = coarse_cube(), fine_cube()
    for name in ("atprk", "starfm-si", "starfm"):
        result = xh.sharpen(coarse, fine, name)
        assert np.isfinite(result["reflectance"]).all(), name
        assert (
            result["reflectance"].attrs["history"].splitlines()[-1].startswith(f"sharpen: {name}")
        )
