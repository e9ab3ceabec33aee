"""Area-to-point kriging against systems set up from first principles."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.fusion_oracles import goovaerts, krige_pixel, lag_semivariance
from hypothesis import given, settings
from hypothesis import strategies as st

from xharmonize.errors import GridError
from xharmonize.kernels.kriging import (
    MAX_LAG,
    RADIUS,
    Support,
    fit_length,
    krige,
    kriging_of,
    lag_sums,
    regularised,
)
from xharmonize.kernels.regrid import AxisMap, regrid_mean


def axis(step=3.0, first=0.0, sigma=0.0, n_source=300):
    return AxisMap(first=first, step=step, n_source=n_source, sigma=sigma)


def field(n, length, seed=0):
    """A field (n, n) of unit variance with an exponential covariance, periodic."""
    apart = np.minimum(np.arange(n), n - np.arange(n))
    spectrum = np.fft.fft2(np.exp(-np.hypot(apart[:, None], apart) / length)).real
    noise = np.random.default_rng(seed).normal(size=(n, n))
    return np.fft.ifft2(np.sqrt(np.maximum(spectrum, 0)) * np.fft.fft2(noise)).real


def coarsened(fine, along, n):
    """Area means (1, n, n) of a fine field, blurred as the axis says."""
    weights = along.weights(0, n, "area")
    return regrid_mean(fine[None], weights, weights, min_valid=0.0)[0]


def literal_support(y, x):
    """Fine pixels under a coarse one, and their weights."""

    def support(row, column):
        rows = y.first + y.factor * row + np.arange(y.taps.size)
        columns = x.first + x.factor * column + np.arange(x.taps.size)
        grid = np.meshgrid(rows, columns, indexing="ij")
        return grid[0].ravel(), grid[1].ravel(), np.outer(y.taps, x.taps).ravel()

    return support


@given(
    factors=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    phase=st.sampled_from([0.0, 0.5, -1.25, 2.0]),
    sigma=st.sampled_from([0.0, 0.7]),
    length=st.sampled_from([0.2, 2.0, 30.0]),
    missing=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 99),
)
@settings(max_examples=12, deadline=None)
def test_fine_pixels_solve_their_own_system(factors, phase, sigma, length, missing, seed):
    y, x = (Support.of(axis(step=f, first=phase, sigma=sigma)) for f in factors)
    random = np.random.default_rng(seed)
    residual = random.normal(size=(7, 6))
    residual[random.random(residual.shape) < missing] = np.nan
    found = krige(residual[None], [kriging_of(length, y, x)])[0]
    assert found.shape == (7 * factors[0], 6 * factors[1])
    for _ in range(6):
        j, i = random.integers(found.shape[0]), random.integers(found.shape[1])
        expected = krige_pixel(residual, literal_support(y, x), length, y.start + j, x.start + i)
        np.testing.assert_allclose(found[j, i], expected, atol=2e-5)


@given(
    factors=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    length=st.floats(0.1, 500),
    missing=st.sampled_from([0.0, 0.1, 0.5]),
)
@settings(max_examples=25, deadline=None)
def test_degrading_gives_the_coarse_pixels_back(factors, length, missing):
    y, x = (Support.of(axis(step=f)) for f in factors)
    random = np.random.default_rng(0)
    residual = random.normal(size=(2, 9, 8)).astype(np.float32)
    residual[random.random(residual.shape) < missing] = np.nan
    fine = krige(residual, [kriging_of(length, y, x), kriging_of(2 * length, y, x)])
    tiles = fine.reshape(2, 9, factors[0], 8, factors[1]).astype(float)
    np.testing.assert_allclose(tiles.mean(axis=(2, 4)), residual, atol=3e-5)


@pytest.mark.parametrize(("phase", "sigma"), [(0.0, 1.0), (0.5, 0.0)])
def test_where_supports_overlap_degrading_gives_nearly_the_coarse_pixels_back(phase, sigma):
    along = axis(first=phase, sigma=sigma)
    support = Support.of(along)
    coarse = coarsened(field(300, 4.0), along, 99)
    fine = krige(coarse, [kriging_of(4.0, support, support)])
    back = AxisMap(first=phase - support.start, step=3.0, n_source=297, sigma=sigma)
    inner = (slice(3, -3), slice(3, -3))
    apart = (coarsened(fine[0].astype(float), back, 99) - coarse)[0][inner]
    assert np.sqrt(np.mean(apart**2)) < 0.03 * coarse.std()


def test_its_standard_deviation_is_the_error_of_a_field_of_that_structure():
    along, truth = axis(), field(300, 4.0)
    support = Support.of(along)
    coarse = coarsened(truth, along, 100)
    kriging = kriging_of(4.0, support, support)
    found = krige(coarse, [kriging])[0]
    inner = (slice(9, -9), slice(9, -9))
    error = np.sqrt(np.mean((found - truth)[inner] ** 2))
    assert error == pytest.approx(np.sqrt(kriging.variance.mean()), rel=0.03)
    held = np.repeat(np.repeat(coarse[0], 3, axis=0), 3, axis=1)
    assert error < 0.9 * np.sqrt(np.mean((held - truth)[inner] ** 2))


def test_a_missing_neighbour_is_not_weighted_and_a_missing_pixel_not_filled():
    support = Support.of(axis())
    residual = np.random.default_rng(0).normal(size=(1, 9, 9)).astype(np.float32)
    residual[0, 4, 4] = np.nan
    found = krige(residual, [kriging_of(3.0, support, support)])[0]
    assert np.isnan(found[12:15, 12:15]).all()
    assert np.isfinite(found).sum() == found.size - 9


@given(
    row=st.integers(0, 8), column=st.integers(0, 8), high=st.integers(1, 9), wide=st.integers(1, 9)
)
@settings(max_examples=20, deadline=None)
def test_a_block_with_its_margin_is_part_of_the_whole(row, column, high, wide):
    support = Support.of(axis())
    kriging = [kriging_of(3.0, support, support)]
    random = np.random.default_rng(0)
    residual = random.normal(size=(1, 17, 17)).astype(np.float32)
    residual[random.random(residual.shape) < 0.1] = np.nan
    whole = krige(residual, kriging)
    around = np.pad(residual, ((0, 0), (RADIUS, RADIUS), (RADIUS, RADIUS)), constant_values=np.nan)
    high, wide = min(high, 17 - row), min(wide, 17 - column)
    block = around[:, row : row + high + 2 * RADIUS, column : column + wide + 2 * RADIUS]
    part = krige(block, kriging, margin=RADIUS)
    np.testing.assert_array_equal(
        part, whole[:, 3 * row : 3 * (row + high), 3 * column : 3 * (column + wide)]
    )


def test_empirical_semivariogram_is_that_of_all_pairs():
    random = np.random.default_rng(0)
    residual = random.normal(size=(2, 12, 9))
    residual[random.random(residual.shape) < 0.2] = np.nan
    sums = lag_sums(residual, max_lag=4)
    for dy, dx in [(0, 1), (1, 0), (2, -3), (4, 4), (3, -4)]:
        expected, count = lag_semivariance(residual[1], dy, dx)
        assert sums[1, dy, dx + 4, 0] == count
        assert sums[1, dy, dx + 4, 1] / count == pytest.approx(expected, rel=1e-5)
    assert sums[0, 0, :5, 0].sum() == 0  # each pair once


def test_sums_of_blocks_with_margins_are_those_of_the_image():
    residual = np.random.default_rng(0).normal(size=(1, 30, 26)).astype(np.float32)
    around = np.pad(residual, ((0, 0), (5, 5), (5, 5)), constant_values=np.nan)
    parts = [
        lag_sums(around[:, y : y + high + 10, x : x + wide + 10], max_lag=5, margin=(5, 5))
        for y, high in [(0, 13), (13, 17)]
        for x, wide in [(0, 20), (20, 6)]
    ]
    np.testing.assert_allclose(sum(parts), lag_sums(residual, max_lag=5), rtol=1e-12)


@pytest.mark.parametrize("length", [1.5, 4.0, 10.0])
@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_length_of_fine_pixels_is_found_from_coarse_ones(length, sigma):
    along = axis(sigma=sigma)
    support = Support.of(along)
    coarse = np.stack([coarsened(field(300, length, seed), along, 100)[0] for seed in range(4)])
    found = fit_length(lag_sums(coarse).sum(axis=0, keepdims=True), support, support)[0]
    assert found[0] == pytest.approx(length, rel=0.2)
    assert found[1] == pytest.approx(1.0, rel=0.2)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_iteration_of_goovaerts_ends_at_no_smaller_misfit(noise):
    along = axis()
    support = Support.of(along)
    coarse = coarsened(field(300, 5.0), along, 100)
    coarse = coarse + noise * np.random.default_rng(1).normal(size=coarse.shape)
    sums = lag_sums(coarse)
    length, sill = fit_length(sums, support, support)[0]
    right, left = sums[0, :, MAX_LAG:].copy(), sums[0, :, MAX_LAG - 1 :: -1]
    right[:, 1:] += left
    rows, columns = np.mgrid[: MAX_LAG + 1, : MAX_LAG + 1]
    distance = np.hypot(rows, columns)
    used = (right[..., 0] > 0) & (distance <= MAX_LAG)
    lags = np.stack([rows[used], columns[used]], axis=1)
    found = right[used, 1] / right[used, 0]
    weight = right[used, 0] / distance[used]

    def model(length):
        return regularised(length, lags, support, support)

    ours = (weight * (found / (sill * model(length)) - 1) ** 2).sum()
    theirs = goovaerts(3 * distance[used], found, weight, model, 6.0, float(found.max()))
    assert ours <= theirs[2] * (1 + 1e-6)
    assert theirs[0] == pytest.approx(length, rel=0.5)


def test_without_residual_any_length_will_do():
    support = Support.of(axis())
    flat = np.zeros((1, 8, 8), np.float32)
    assert fit_length(lag_sums(flat), support, support).tolist() == [[3.0, 0.0]]
    nothing = np.full((1, 8, 8), np.nan, np.float32)
    length, sill = fit_length(lag_sums(nothing), support, support)[0]
    assert (length, np.isnan(sill)) == (3.0, True)
    assert np.isnan(krige(nothing, [kriging_of(length, support, support)])).all()


@pytest.mark.parametrize("step", [2.5, -3.0, 0.4])
def test_grids_that_are_no_multiple_are_refused(step):
    with pytest.raises(GridError, match="regrid the fine cube"):
        Support.of(axis(step=step))
