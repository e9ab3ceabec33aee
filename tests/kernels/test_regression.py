"""Least squares from mergeable sums against numpy and scipy."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xharmonize.kernels import regression


@pytest.fixture
def samples():
    random = np.random.default_rng(3)
    source = random.uniform(0.02, 0.5, (3, 5000)).astype("float32")
    matrix = np.array([[0.9, 0.05, 0.0], [0.0, 1.1, -0.1], [0.1, 0.0, 0.95], [0.2, 0.2, 0.2]])
    target = matrix @ source + 0.01 + random.normal(0, 0.005, (4, 5000))
    source[random.random(source.shape) < 0.05] = np.nan
    return source, target.astype("float32")


def test_ols_equals_polyfit(samples):
    source, target = samples[0], samples[1][:3]
    moments = regression.band_moments(source, target)
    slope, intercept = regression.solve_ols(moments)
    rmse, r2 = regression.line_quality(moments, slope, intercept)
    for b in range(3):
        ok = np.isfinite(source[b])
        x, y = source[b, ok].astype(float), target[b, ok].astype(float)
        expected = np.polyfit(x, y, 1)
        error = y - np.polyval(expected, x)
        np.testing.assert_allclose([slope[b], intercept[b]], expected, rtol=1e-9)
        np.testing.assert_allclose(rmse[b], np.sqrt(np.mean(error**2)), rtol=1e-8)
        np.testing.assert_allclose(r2[b], 1 - error.var() / y.var(), rtol=1e-8)


def test_deming_is_the_principal_axis_and_inverts_under_swapped_roles(samples):
    source, target = samples[0], samples[1][:3]
    slope, intercept = regression.solve_deming(regression.band_moments(source, target))
    back, back_intercept = regression.solve_deming(regression.band_moments(target, source))
    np.testing.assert_allclose(slope * back, 1, rtol=1e-10)
    np.testing.assert_allclose(back_intercept, -intercept / slope, atol=1e-10)
    ok = np.isfinite(source[0])
    axis = np.linalg.eigh(np.cov(source[0, ok].astype(float), target[0, ok].astype(float)))[1][:, 1]
    np.testing.assert_allclose(slope[0], axis[1] / axis[0], rtol=1e-8)


def test_multiband_equals_lstsq(samples):
    source, target = samples
    moments = regression.joint_moments(source, target)
    matrix, intercept, rmse, r2 = regression.solve_multiband(moments, 3)
    ok = np.isfinite(source).all(axis=0)
    design = np.c_[np.ones(ok.sum()), source[:, ok].T.astype(float)]
    expected = np.linalg.lstsq(design, target[:, ok].T.astype(float))[0]
    error = target[:, ok].T - design @ expected
    np.testing.assert_allclose(np.c_[intercept, matrix].T, expected, atol=1e-9)
    np.testing.assert_allclose(rmse, np.sqrt(np.mean(error**2, axis=0)), rtol=1e-6)
    np.testing.assert_allclose(
        r2, 1 - error.var(axis=0) / target[:, ok].T.astype(float).var(axis=0), rtol=1e-6
    )


def test_ridge_shrinks_towards_zero(samples):
    moments = regression.joint_moments(*samples)
    plain = regression.solve_multiband(moments, 3)[0]
    shrunk = regression.solve_multiband(moments, 3, ridge=1.0)[0]
    assert np.linalg.norm(shrunk) < np.linalg.norm(plain)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 4999), max_size=6))
def test_moments_of_parts_add_up(cuts):
    random = np.random.default_rng(0)
    source = random.uniform(0, 0.4, (2, 5000)).astype("float32")
    target = (source * 0.9 + random.normal(0, 0.01, source.shape)).astype("float32")
    edges = [0, *sorted(set(cuts)), 5000]
    parts = [slice(a, b) for a, b in pairwise(edges)]
    for moments, solve in (
        (regression.band_moments, regression.solve_ols),
        (regression.joint_moments, lambda m: regression.solve_multiband(m, 2)),
    ):
        whole = solve(moments(source, target))
        merged = solve(sum(moments(source[:, p], target[:, p]) for p in parts))
        for a, b in zip(whole, merged):
            np.testing.assert_allclose(a, b, atol=1e-10)


def test_a_constant_source_has_no_slope():
    x = np.full((1, 50), 0.3, "float32")
    slope, _ = regression.solve_ols(regression.band_moments(x, x))
    assert np.isnan(slope[0])


def test_pixel_lines_prefer_same_day_pairs_then_near_ones_then_the_fallback():
    random = np.random.default_rng(1)
    source = random.uniform(0.1, 0.4, (10, 1, 1, 3)).astype("float32")
    target = source * 0.8 + 0.02
    lag = np.array([0] * 5 + [1] * 5)
    target[lag == 1] = source[lag == 1] * 0.8 + 0.1  # the near pairs follow another line
    target[:2, :, :, 1] = np.nan  # pixel 1: three same-day pairs only
    target[:, :, :, 2] = np.nan  # pixel 2: none
    slope, intercept, n, stage = regression.pixel_lines(
        source, target, lag, np.array([0, 1]), 4, 1e-3, 0.0, np.array([[1.0, 0.5]])
    )
    assert stage.ravel().tolist() == [0, 1, -1]
    assert n.ravel().tolist() == [5, 8, 0]
    np.testing.assert_allclose([slope[0, 0, 0], intercept[0, 0, 0]], [0.8, 0.02], atol=1e-5)
    ok = np.isfinite(target[:, 0, 0, 1])
    expected = np.polyfit(source[ok, 0, 0, 1].astype(float), target[ok, 0, 0, 1], 1)
    np.testing.assert_allclose([slope[0, 0, 1], intercept[0, 0, 1]], expected, atol=1e-5)
    assert (slope[0, 0, 2], intercept[0, 0, 2]) == (1.0, 0.5)


def test_pixel_lines_through_noise_are_not_taken():
    random = np.random.default_rng(7)
    source = (0.2 + random.normal(0, 0.02, (12, 1, 1, 1))).astype("float32")
    target = (0.2 + random.normal(0, 0.02, (12, 1, 1, 1))).astype("float32")
    fallback = np.array([[1.0, 0.0]])
    *_, stage = regression.pixel_lines(
        source, target, np.zeros(12, int), np.array([0]), 4, 1e-3, 0.5, fallback
    )
    assert stage.item() == -1


def test_apply_matrix_is_a_matrix_product_and_keeps_nan():
    random = np.random.default_rng(2)
    values = random.random((2, 3, 4, 5)).astype("float32")
    values[0, 1, 2, 3] = np.nan
    matrix, intercept = random.random((2, 3)), random.random(2)
    result = regression.apply_matrix(values, matrix, intercept)
    expected = np.einsum("bs,tsyx->tbyx", matrix, values) + intercept[:, None, None]
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    assert np.isnan(result[0, :, 2, 3]).all()
    assert np.isnan(result).sum() == 2
