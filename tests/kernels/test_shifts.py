"""Shifts between images, and networks of them."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.moved import landscape, seen
from hypothesis import given, settings
from hypothesis import strategies as st

from xharmonize.kernels.regrid import AxisMap
from xharmonize.kernels.shifts import Edges, View, measure_shift, solve_network

GROUND = landscape(480, bands=1)


def alike(n=48):
    axis = AxisMap(first=0.0, step=1.0, n_source=n, sigma=1.0)
    return View(y=axis, x=axis, shape=(n, n), halve=True)


@settings(max_examples=12, deadline=None)
@given(st.tuples(st.floats(-20, 20), st.floats(-20, 20)), st.floats(0.6, 1.6))
def test_a_shift_is_found_whatever_the_brightness(shift, gain):
    moving = seen(GROUND, shift, 10.0)
    found = measure_shift(moving, gain * seen(GROUND, (0, 0), 10.0) + 0.03, alike(), max_shift=4)
    np.testing.assert_allclose(found.shift * [-10, 10], shift[::-1], atol=0.5)


def test_it_errs_less_than_phase_correlation():
    registration = pytest.importorskip("skimage.registration")
    random = np.random.default_rng(3)
    ours, theirs = [], []
    for shift in random.normal(0, 5, (8, 2)):
        moving, fixed = seen(GROUND, tuple(shift), 10.0), seen(GROUND, (0, 0), 10.0)
        moving = moving + random.normal(0, 0.01, moving.shape)
        fixed = 1.2 * fixed + random.normal(0, 0.01, fixed.shape)
        found = measure_shift(moving, fixed, alike(), max_shift=4)
        ours.append(found.shift * [-10, 10] - shift[::-1])
        peer = registration.phase_cross_correlation(fixed[0], moving[0], upsample_factor=100)[0]
        theirs.append(-peer * [-10, 10] - shift[::-1])
    rms = [float(np.sqrt(np.mean(np.square(errors)))) for errors in (ours, theirs)]
    assert rms[0] < min(1.0, rms[1])


def test_change_on_the_ground_counts_little():
    moving, fixed = seen(GROUND, (6.0, -3.0), 10.0), seen(GROUND, (0, 0), 10.0)
    fixed[:, 8:20, 10:24] += 0.08
    fixed[:, 30:40, 30:44] = np.nan
    found = measure_shift(moving, fixed, alike(), max_shift=4)
    np.testing.assert_allclose(found.shift * [-10, 10], [-3.0, 6.0], atol=1.0)


def test_what_shows_nothing_has_no_shift():
    flat = np.full((1, 48, 48), 0.2)
    assert np.isnan(measure_shift(flat, flat, alike(), max_shift=4).shift).all()
    noise = np.random.default_rng(0).normal(size=(2, 1, 48, 48))
    assert np.isnan(measure_shift(noise[0], noise[1], alike(), max_shift=4).shift).all()


def network(n_nodes, random, *, deviation, wrong=0):
    first, second = (np.array(ends) for ends in zip(*_ends(n_nodes)))
    truth = random.normal(0, 4, n_nodes)
    value = truth[first] - truth[second] + random.normal(0, deviation, first.size)
    value[:: value.size // max(wrong, 1)][:wrong] += 25 * (wrong > 0)
    variance = np.full(first.size, deviation**2)
    return truth, Edges(
        first=first, second=second, value=value, variance=variance, kind=np.zeros(first.size, int)
    )


def _ends(n_nodes):
    return [(i, j) for i in range(n_nodes) for j in range(i + 1, min(i + 5, n_nodes))]


def test_a_network_gives_back_its_nodes_despite_wrong_edges():
    truth, edges = network(30, np.random.default_rng(1), deviation=0.4, wrong=5)
    nothing = np.zeros(30, bool)
    found = solve_network(edges, np.zeros(30, int), nothing)
    np.testing.assert_allclose(found.value.mean(), 0, atol=1e-9)
    assert np.sqrt(np.mean((found.value - truth + truth.mean()) ** 2)) < 0.6
    assert 0.5 < found.spread / 4 < 1.6


def test_edges_left_out_are_what_a_fit_without_them_says():
    random = np.random.default_rng(2)
    _, edges = network(12, random, deviation=0.3)
    found = solve_network(edges, np.zeros(12, int), np.zeros(12, bool))
    k = 7
    keep = np.arange(edges.value.size) != k
    rest = Edges(**{name: getattr(edges, name)[keep] for name in edges.__dataclass_fields__})
    alone = solve_network(rest, np.zeros(12, int), np.zeros(12, bool)).value
    expected = edges.value[k] - (alone[edges.first[k]] - alone[edges.second[k]])
    np.testing.assert_allclose(found.left_out[k], expected, atol=0.1)


def test_nodes_without_edges_have_the_mean_of_their_group():
    random = np.random.default_rng(4)
    truth, edges = network(24, random, deviation=0.2)
    group = np.arange(25) % 2
    value = edges.value + 10.0 * (group[edges.first] - group[edges.second])
    edges = Edges(
        first=edges.first,
        second=edges.second,
        value=value,
        variance=edges.variance,
        kind=edges.kind,
    )
    found = solve_network(edges, group, np.zeros(25, bool))
    assert found.value[24] == pytest.approx(found.mean[0])
    assert found.mean[1] - found.mean[0] == pytest.approx(
        10 + truth[1::2].mean() - truth[::2].mean(), abs=0.5
    )
    assert found.deviation[24] > 3 * np.median(found.deviation[:24])
