"""Robust and penalised least squares, and predictors from neighbours, against numpy and scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xharmonize.kernels import robust


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(1, 400), cut=st.integers(0, 400))
def test_sums_of_parts_add_up_and_are_weighted_products(seed, n, cut):
    random = np.random.default_rng(seed)
    x, y = random.random((3, n)), random.random((2, n))
    x[random.random(x.shape) < 0.1] = np.nan
    matrix, intercept = random.random((2, 3)), random.random(2)
    arguments = (matrix, intercept, np.array([0.1, np.inf]))
    moments, counts = robust.huber_moments(x, y, *arguments)
    parts = [
        robust.huber_moments(x[:, p], y[:, p], *arguments) for p in (slice(cut), slice(cut, n))
    ]
    np.testing.assert_allclose(sum(p[0] for p in parts), moments, atol=1e-10)
    np.testing.assert_array_equal(sum(p[1] for p in parts), counts)
    ok = np.isfinite(x).all(axis=0)
    residual = np.abs(y[0] - intercept[0] - matrix[0] @ x)[ok]
    weight = np.minimum(1, 0.1 / residual)
    design = np.c_[np.ones(ok.sum()), x[:, ok].T, y[0, ok]]
    np.testing.assert_allclose(moments[0], design.T @ (weight[:, None] * design), atol=1e-10)
    assert moments[1, 0, 0] == counts[0].sum() == ok.sum()


@settings(max_examples=50, deadline=None)
@given(
    residuals=st.lists(st.floats(1e-6, 5.0), min_size=5, max_size=200),
)
def test_the_scale_is_the_median_of_residuals(residuals):
    values = np.array(residuals)[None]
    _, counts = robust.huber_moments(
        np.zeros((1, values.size)), values, np.zeros((1, 1)), np.zeros(1), np.full(1, np.inf)
    )
    low, high = np.quantile(values, [0.5, 0.5], method="lower")[0], np.median(values)
    scale = float(robust.robust_scale(counts)[0]) * 0.6744897501960817
    high = max(high, np.quantile(values, 0.5, method="higher"))
    assert low * 0.994 <= scale <= high * 1.006


def test_no_residuals_have_no_scale():
    assert np.isnan(robust.robust_scale(np.zeros((2, robust.BINS), int))).all()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 999), n_y=st.integers(1, 6), n_x=st.integers(1, 6), holes=st.floats(0, 0.6)
)
def test_terms_are_those_of_numpy(seed, n_y, n_x, holes):
    random = np.random.default_rng(seed)
    image = random.random((2, n_y + 2, n_x + 2)).astype("float32")
    image[random.random(image.shape) < holes] = np.nan
    terms = robust.neighbour_terms(image)
    for n, j, i in np.ndindex(2, n_y, n_x):
        window = image[n, j : j + 3, i : i + 3].astype(float)
        if np.isnan(window[1, 1]):
            assert np.isnan(terms[n, :, j, i]).all()
            continue
        across = [_gradient(line) for line in (window[1], window[:, 1])]
        expected = [window[1, 1], np.nanmean(window), *across]
        np.testing.assert_allclose(terms[n, :, j, i], expected, rtol=1e-5, atol=1e-6)


def _gradient(line):
    ok = np.isfinite(line)
    return np.polyfit(np.arange(3)[ok], line[ok], 1)[0] if ok.sum() > 1 else 0.0


def test_applying_terms_is_a_product_with_them():
    random = np.random.default_rng(3)
    values = random.random((2, 3, 8, 9)).astype("float32")
    values[0, 1, 3, 3] = np.nan
    weights, intercept = random.random((2, 4, 3)), random.random(2)
    result = robust.apply_terms(values, weights, intercept)
    terms = robust.neighbour_terms(values.reshape(6, 8, 9)).reshape(2, 3, 4, 6, 7)
    expected = np.einsum("bks,tskyx->tbyx", weights, terms) + intercept[:, None, None]
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    assert np.isnan(result[0, :, 2, 2]).all()
    assert np.isnan(result).sum() == 2


def test_effects_of_dates_are_generalised_least_squares():
    """The normal equations of the moments are those of the full covariance matrix."""
    random = np.random.default_rng(5)
    n, ratio = 30, 0.7
    design, y = random.random((3, n, 2)), random.random((3, n))
    moments = np.stack(
        [
            robust.huber_moments(
                x.T.copy(), t[None], np.zeros((1, 2)), np.zeros(1), np.full(1, np.inf)
            )[0]
            for x, t in zip(design, y)
        ]
    )
    given_n = np.full((3, 1), float(n))
    shrunk = robust.with_date_effects(moments, given_n, np.array([ratio])).sum(axis=0)
    matrix, intercept = robust.solve_ridge(shrunk, 0.0, np.zeros((1, 2)))
    covariance = np.kron(np.eye(3), np.eye(n) + ratio * np.ones((n, n)))
    full = np.c_[np.ones(3 * n), design.reshape(-1, 2)]
    inverse = np.linalg.inv(covariance)
    expected = np.linalg.solve(full.T @ inverse @ full, full.T @ inverse @ y.ravel())
    np.testing.assert_allclose(np.r_[intercept, matrix[0]], expected, rtol=1e-8)


def test_the_variance_of_dates_is_found():
    random = np.random.default_rng(2)
    n, dates = 200, 400
    effects = random.normal(0, 0.5, dates)
    residual = effects[:, None] + random.normal(0, 1, (dates, n))
    found = robust.date_variance(
        (residual**2).mean(axis=1)[:, None],
        residual.mean(axis=1)[:, None],
        np.full((dates, 1), float(n)),
    )
    assert found[0] == pytest.approx(0.25, rel=0.15)
