"""Kernels of filling, against loops over the pixels and a kriging system."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xharmonize.fusion.structure import fit_structure, table_of
from xharmonize.kernels.filling import interpolate, neighbours


def nearest_by_hand(valid, days, t, longest):
    """Last valid date before another one and first after it, by a search; -1 where none is."""
    before = [i for i in range(t) if valid[i] and days[t] - days[i] <= longest]
    after = [i for i in range(t + 1, len(days)) if valid[i] and days[i] - days[t] <= longest]
    return (before or [-1])[-1], (after or [-1])[0]


@given(
    days=st.lists(st.integers(0, 60), min_size=2, max_size=9).map(sorted),
    seed=st.integers(0, 99),
    longest=st.sampled_from([5.0, 20.0, 1e9]),
    sides=st.sampled_from([(True, True), (True, False), (False, True)]),
    is_between=st.booleans(),
)
def test_neighbours_are_those_that_a_search_finds(days, seed, longest, sides, is_between):
    valid = np.random.default_rng(seed).random((len(days), 4)) < 0.5
    found = neighbours(valid, np.array(days), longest, *sides, is_between)
    for p in range(4):
        for t in range(len(days)):
            i, j = nearest_by_hand(valid[:, p], days, t, longest)
            i, j = (i if sides[0] else -1), (j if sides[1] else -1)
            if not is_between and i >= 0 and j >= 0:
                is_earlier = days[t] - days[i] <= days[j] - days[t]
                i, j = (i, -1) if is_earlier else (-1, j)
            assert found[:, t, p].tolist() == [i, j]


def test_the_value_is_that_of_linear_interpolation_and_the_variance_that_of_its_weights():
    days, rng = np.array([0, 3, 10, 30]), np.random.default_rng(0)
    values = rng.random((4, 5)).astype(np.float32)
    valid = np.ones((4, 5), bool)
    steps = neighbours(valid, days, 1e9, True, True, True)
    sides = [np.take_along_axis(values, np.maximum(one, 0), 0) for one in steps]
    spread = table_of(np.array([[1e-4, 2e-5, 1.2]]), 60)[0]
    value, sigma = interpolate(*sides, steps, days, spread)
    for t in (1, 2):
        i, j = t - 1, t + 1
        expected = [np.interp(days[t], days[[i, j]], column[[i, j]]) for column in values.T]
        np.testing.assert_allclose(value[t], expected, rtol=1e-6)
        # Var(Z0 - w'Z) = 2 w'g - w'Gw, with semivariances to the date and between the dates
        share = (days[j] - days[t]) / (days[j] - days[i])
        weights = np.array([share, 1 - share])
        to = spread[[days[t] - days[i], days[j] - days[t]]]
        between = np.array([[0, spread[days[j] - days[i]]], [spread[days[j] - days[i]], 0]])
        variance = 2 * weights @ to - weights @ between @ weights
        np.testing.assert_allclose(sigma[t], np.sqrt(variance), rtol=1e-6)
    np.testing.assert_array_equal(value[0], values[1])
    np.testing.assert_allclose(sigma[3], np.sqrt(2 * spread[20]), rtol=1e-6)


def test_a_semivariogram_is_found_again_in_a_process_that_has_it():
    rng, days = np.random.default_rng(1), np.arange(0, 400, 5)
    walk = rng.normal(0, 0.01, (400, 3000)).cumsum(axis=0)[days]
    values = (walk + rng.normal(0, 0.02, walk.shape))[:, None].astype(np.float32)
    nugget, growth, exponent = fit_structure(values, days, longest=60)[0]
    lags = np.arange(5, 60, 5)
    np.testing.assert_allclose(nugget + growth * lags**exponent, 4e-4 + 0.5e-4 * lags, rtol=0.1)


def test_too_few_dates_tell_no_semivariogram():
    values = np.zeros((3, 2, 10), np.float32)
    assert np.isnan(fit_structure(values, np.array([0, 5, 10]), longest=60)).all()
