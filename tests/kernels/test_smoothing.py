"""Smoothing kernels beside dense algebra, whittaker-eilers, scipy and numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import savgol_filter

from xharmonize.kernels import filters, observations, smoothing


def make_series(n_times=73, n_pixels=40, *, seed=0, missing=0.3, span=730):
    random = np.random.default_rng(seed)
    days = np.sort(random.choice(span, n_times, replace=False)).astype(float)
    signal = 0.5 + 0.3 * np.sin(days / 50)[:, None]
    values = (signal + random.normal(0, 0.05, (n_times, n_pixels))).astype("float32")
    weights = random.uniform(0.2, 2, values.shape).astype("float32")
    weights[random.random(values.shape) < missing] = 0
    return days, values, weights


def dense(bands):
    upper = sum(np.diag(bands[k, : bands.shape[1] - k], k) for k in range(3))
    return upper + upper.T - np.diag(np.diag(upper))


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    n_times=st.integers(3, 60),
    n_pixels=st.integers(1, 70),
    exponent=st.floats(0, 7),
)
def test_whittaker_solves_the_normal_equations(seed, n_times, n_pixels, exponent):
    days, values, weights = make_series(n_times, n_pixels, seed=seed)
    weights[:3] = 1  # never singular
    nodes = np.union1d(days, np.arange(days[0], days[-1], 7))
    node_of = np.searchsorted(nodes, days)
    bands = smoothing.penalty_bands(nodes)
    penalty = np.full(n_pixels, 10.0**exponent)
    actual, variance, fit = smoothing.whittaker_error(values, weights, node_of, bands, penalty)
    p = n_pixels // 2
    w, y = np.zeros(nodes.size), np.zeros(nodes.size)
    w[node_of], y[node_of] = weights[:, p], weights[:, p] * values[:, p]
    inverse = np.linalg.inv(np.diag(w) + penalty[p] * dense(bands))
    scale = np.linalg.cond(np.diag(w) + penalty[p] * dense(bands)) * 1e-15
    # Beyond the first and last observation values are not used; they run away.
    np.testing.assert_allclose(actual[:, p], inverse @ y, atol=1e-5 + scale, rtol=1e-4)
    np.testing.assert_allclose(variance[:, p], np.diag(inverse), rtol=1e-3 + scale)
    assert fit[0, p] == (w > 0).sum()
    np.testing.assert_allclose(fit[2, p], (np.diag(inverse) * w).sum(), rtol=1e-6 + scale)
    again = smoothing.whittaker(values, weights, node_of, bands, penalty)
    np.testing.assert_array_equal(again, actual)


def test_whittaker_equals_whittaker_eilers_on_equal_spacing():
    peer = pytest.importorskip("whittaker_eilers")
    _, values, weights = make_series()
    days = np.arange(73) * 5.0
    penalty = 100.0
    actual = smoothing.whittaker(
        values,
        weights,
        np.arange(73),
        smoothing.penalty_bands(days),
        np.full(40, penalty * 5.0**3),
    )
    for p in range(40):
        smoother = peer.WhittakerSmoother(
            lmbda=penalty, order=2, data_length=73, weights=weights[:, p].tolist()
        )
        expected = smoother.smooth(values[:, p].tolist())
        np.testing.assert_allclose(actual[:, p], expected, atol=1e-6)


def test_a_straight_line_is_not_penalised():
    days, _, _ = make_series()
    line = (0.2 + 0.001 * days)[:, None].astype("float32")
    bands = smoothing.penalty_bands(days)
    smooth = smoothing.whittaker(
        line, np.ones_like(line), np.arange(days.size), bands, np.array([1e7])
    )
    np.testing.assert_allclose(smooth, line, atol=1e-5)


def test_the_penalty_means_the_same_on_other_nodes():
    days, values, weights = make_series(missing=0.0)
    coarse = smoothing.whittaker(
        values, weights, np.arange(73), smoothing.penalty_bands(days), np.full(40, 1e4)
    )
    nodes = np.union1d(days, np.arange(days[0], days[-1]))
    place = np.searchsorted(nodes, days)
    fine = smoothing.whittaker(
        values, weights, place, smoothing.penalty_bands(nodes), np.full(40, 1e4)
    )
    assert np.abs(fine[place] - coarse).max() < 0.03
    assert np.sqrt(np.mean((fine[place] - coarse) ** 2)) < 0.003


def test_the_relaxation_time_penalises_slopes():
    days, values, _ = make_series()
    slopes = np.diff(np.eye(73), axis=0) / np.diff(days)[:, None]
    expected = (slopes * np.diff(days)[:, None]).T @ slopes / 30**2
    bands = smoothing.penalty_bands(days, 30.0) - smoothing.penalty_bands(days)
    np.testing.assert_allclose(dense(bands), expected, atol=1e-12)
    flat = np.full_like(values, 0.4)
    smooth = smoothing.whittaker(
        flat, np.ones_like(flat), np.arange(73), smoothing.penalty_bands(days, 30), np.full(40, 1e7)
    )
    np.testing.assert_allclose(smooth, flat, atol=1e-5)


def test_gaps_longer_than_the_relaxation_time_are_bridged_by_straight_lines():
    days = np.concatenate([np.arange(0, 40, 2), np.arange(140, 180, 2)]).astype(float)
    nodes = np.arange(0, 180.0)
    values = np.where(days < 90, 0.01 * days, 0.01 * (180 - days)).astype("float32")[:, None]
    place = np.searchsorted(nodes, days)
    tense, loose = (
        smoothing.whittaker(
            values,
            np.ones_like(values),
            place,
            smoothing.penalty_bands(nodes, tau),
            np.full(1, 100.0),
        )[:, 0]
        for tau in (5.0, np.inf)
    )
    line = np.interp(nodes, days, values[:, 0])
    assert np.abs(tense - line).max() < 0.08 < 0.2 < np.abs(loose - line).max()


@pytest.mark.parametrize("relaxation", [10.0, np.inf])
def test_the_likelihood_is_that_of_a_random_curve_and_independent_errors(relaxation):
    """By the density of the contrasts of the values, with nodes that nobody observed."""
    days, values, weights = make_series(n_times=25, n_pixels=6)
    days = (days - days[0]) / 5
    bands, candidates = smoothing.penalty_bands(days, relaxation), np.logspace(0, 6, 13)
    n_free = 2 if np.isinf(relaxation) else 1
    chosen = smoothing.select_reml(values, weights, np.arange(25), bands, candidates, n_free)
    inverse = np.linalg.pinv(dense(bands), rcond=1e-10, hermitian=True)
    for p in range(6):
        known = weights[:, p] > 0
        y, w = values[known, p].astype(float), weights[known, p].astype(float)
        trends = np.vander(days[known], n_free)
        contrasts = np.linalg.svd(trends.T)[2][n_free:]
        scores = []
        for candidate in candidates:
            covariance = inverse[np.ix_(known, known)] / candidate + np.diag(1 / w)
            spread = contrasts @ covariance @ contrasts.T
            misfit = contrasts @ y @ np.linalg.solve(spread, contrasts @ y)
            free = y.size - n_free
            scores.append(free * np.log(misfit) + np.linalg.slogdet(spread)[1])
        assert chosen[p] == candidates[np.argmin(scores)]


def test_the_likelihood_of_too_few_values_chooses_the_stiffest_curve():
    days, values, weights = make_series(n_pixels=3)
    weights[:, 0], weights[1:, 1] = 0, 0
    values[:, 2] = 0.4
    chosen = smoothing.select_reml(
        values, weights, np.arange(73), smoothing.penalty_bands(days, 30), np.logspace(2, 5, 7), 1
    )
    np.testing.assert_array_equal(chosen[:2], 1e5)
    assert np.isfinite(chosen[2])


@pytest.mark.parametrize("inflation", [1.0, 1.4, None])
def test_the_penalty_is_chosen_by_brute_force(inflation):
    days, values, weights = make_series(n_pixels=6)
    bands, nodes = smoothing.penalty_bands(days), np.arange(days.size)
    candidates = np.logspace(0, 6, 13)
    if inflation is None:
        chosen = smoothing.select_v_curve(values, weights, nodes, bands, candidates)
    else:
        chosen = smoothing.select_gcv(values, weights, nodes, bands, candidates, inflation)
    penalty = dense(bands)
    for p in range(6):
        w, y = weights[:, p].astype(float), np.nan_to_num(values[:, p].astype(float))
        rows = []
        for candidate in candidates:
            hat = np.linalg.inv(np.diag(w) + candidate * penalty) * w
            z = hat @ y
            misfit, n = (w * (y - z) ** 2).sum(), (w > 0).sum()
            free = n - (inflation or 1) * np.trace(hat)
            rows.append((misfit, z @ penalty @ z, n * misfit / free**2 if free > 0 else np.inf))
        misfit, roughness, score = np.array(rows).T
        if inflation is not None:
            expected = candidates[score.argmin()]
        else:
            k = np.hypot(np.diff(np.log(misfit)), np.diff(np.log(roughness))).argmin()
            expected = np.sqrt(candidates[k] * candidates[k + 1])
        assert chosen[p] == pytest.approx(expected)


def test_pixels_without_observations_disturb_no_other():
    days, values, weights = make_series(n_pixels=5)
    bands, nodes = smoothing.penalty_bands(days), np.arange(days.size)
    expected = smoothing.whittaker(values, weights, nodes, bands, np.full(5, 1e3))
    values[:, 2], weights[:, 3] = np.nan, 0
    actual = smoothing.whittaker(values, weights, nodes, bands, np.full(5, 1e3))
    np.testing.assert_array_equal(actual[:, [0, 1, 4]], expected[:, [0, 1, 4]])


@pytest.mark.parametrize("order", [0, 1, 2, 3, 5])
def test_local_polynomial_equals_scipy_on_equal_spacing(order):
    values = make_series(missing=0)[1]
    days = np.arange(73) * 5.0
    smooth, _, fit = filters.local_polynomial(
        values, np.ones_like(values), np.arange(73), days, 25.0, order
    )
    expected = savgol_filter(values.astype(float), 11, order, axis=0)
    np.testing.assert_allclose(smooth, expected, atol=3e-5)
    assert (fit[0] == 73).all()


def test_local_polynomial_follows_a_parabola_through_gaps_and_says_where_it_cannot():
    days, values, weights = make_series()
    values[:] = (0.1 + 1e-3 * days + 2e-6 * days**2)[:, None]
    smooth, variance, _ = filters.local_polynomial(
        values, weights, np.arange(days.size), days, 40.0, 2
    )
    known = np.isfinite(smooth)
    assert 0.5 < known.mean() < 1
    np.testing.assert_array_equal(known, np.isfinite(variance))
    np.testing.assert_allclose(smooth[known], values[known], atol=2e-4)


@pytest.mark.parametrize("trend", [False, True])
def test_harmonics_equal_numpy_least_squares(trend):
    days, values, weights = make_series()
    terms = filters.harmonic_terms(days, count=2, period=365.25, trend=trend)
    smooth = filters.regression(values, weights, np.arange(73), terms)
    for p in range(0, 40, 7):
        root = np.sqrt(weights[:, p].astype(float))
        coefficients = np.linalg.lstsq(terms * root[:, None], values[:, p] * root, rcond=None)[0]
        np.testing.assert_allclose(smooth[:, p], terms @ coefficients, atol=1e-5)


def test_harmonics_of_too_few_dates_are_missing():
    days, values, weights = make_series()
    weights[5:] = 0
    terms = filters.harmonic_terms(days, count=2, period=365.25, trend=False)
    smooth = filters.regression(values, weights, np.arange(73), terms)
    assert np.isnan(smooth).all()


def test_radial_basis_of_one_width_is_the_gaussian_mean():
    days, values, weights = make_series()
    widths = np.array([12.0])
    table, reach = filters.gaussian_table(days, days, widths)
    smooth = filters.radial_basis(values, weights, table, reach, widths)
    share = table[0] @ weights
    with np.errstate(invalid="ignore"):
        expected = table[0] @ (weights * values) / share
    np.testing.assert_array_equal(np.isnan(smooth), np.isnan(expected))
    np.testing.assert_allclose(smooth, expected, atol=1e-5)


def test_radial_basis_is_narrow_where_there_is_much_and_wide_in_gaps():
    days = np.concatenate([np.arange(0, 60), np.arange(120, 180)]).astype(float)
    nodes = np.arange(0, 180.0)
    values = (days > 90).astype("float32")[:, None]
    widths = np.array([3.0, 30.0])
    table, reach = filters.gaussian_table(days, nodes, widths)
    smooth = filters.radial_basis(values, np.ones_like(values), table, reach, widths)
    assert np.isfinite(smooth).all()
    assert smooth[90] == pytest.approx(0.5, abs=0.05)
    assert smooth[30] < 0.05


def test_gaps_and_barriers_are_not_bridged():
    nodes = np.arange(10.0)
    days = np.array([1, 3, 4, 8])
    valid = np.array([[1, 1, 1], [0, 1, 0], [1, 0, 0], [1, 1, 1]], bool)
    snow = np.zeros_like(valid)
    snow[1, 0] = True
    smooth = np.zeros((10, 3), "float32")
    observations.clear_gaps(smooth, valid, snow, days, nodes, 4.0, 3)
    np.testing.assert_array_equal(np.flatnonzero(smooth[:, 0] == 0), [1, 4, 5, 6, 7, 8])
    np.testing.assert_array_equal(np.flatnonzero(smooth[:, 1] == 0), [1, 2, 3, 8])
    assert np.isnan(smooth[:, 2]).all()
