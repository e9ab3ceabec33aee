"""Histogram matching against scikit-image and against its own promises."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.exposure import match_histograms

from xharmonize.kernels import histogram

LOW, HIGH, N_BINS = 0.0, 1.0, 1000


def _cube(values):
    return np.asarray(values, "float32").reshape(1, 1, 1, -1)


def _match(source, reference):
    counts = [histogram.count_values(_cube(v), LOW, HIGH, N_BINS) for v in (source, reference)]
    table = histogram.match_distributions(*counts, LOW, HIGH)
    return histogram.apply_table(_cube(source), table, LOW, HIGH).ravel(), table


def test_counts_equal_numpy_and_ignore_nan():
    values = np.random.default_rng(0).normal(0.3, 0.2, 10_000)
    values[::7] = np.nan
    counts = histogram.count_values(_cube(values), LOW, HIGH, 50).ravel()
    inside = np.clip(_cube(values).ravel()[np.isfinite(values)].astype(float), LOW, HIGH)
    np.testing.assert_array_equal(counts, np.histogram(inside, 50, (LOW, HIGH))[0])


def test_matching_agrees_with_scikit_image():
    random = np.random.default_rng(1)
    source, reference = random.beta(2, 8, 40_000), random.beta(3, 5, 40_000)
    actual, _ = _match(source, reference)
    expected = match_histograms(source.astype("float32"), reference.astype("float32"))
    assert np.abs(actual - expected).max() < 4 / N_BINS + 0.002
    assert np.abs(actual - expected).mean() < 1 / N_BINS


def test_matching_to_itself_changes_nothing():
    source = np.random.default_rng(2).beta(2, 8, 5000)
    actual, _ = _match(source, source)
    np.testing.assert_allclose(actual, source, atol=1 / N_BINS)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(1, 300))
def test_tables_never_decrease_and_stay_inside_the_reference(seed, n):
    random = np.random.default_rng(seed)
    source, reference = random.random(n), random.uniform(0.2, 0.6, n)
    _, table = _match(source, reference)
    assert (np.diff(table.ravel()) >= 0).all()
    assert table.min() >= reference.min() - 1 / N_BINS
    assert table.max() <= reference.max() + 1 / N_BINS


def test_ends_are_held_and_nan_stays():
    table = np.array([[[0.2, 0.5]]])
    values = _cube([-1.0, 0.0, 0.5, 1.0, 2.0, np.nan])
    actual = histogram.apply_table(values, table, 0.0, 1.0).ravel()
    np.testing.assert_allclose(actual, [0.2, 0.2, 0.35, 0.5, 0.5, np.nan], atol=1e-6)


def test_an_empty_histogram_gives_a_missing_table():
    counts = np.zeros((1, 1, 10), "int64")
    assert np.isnan(histogram.match_distributions(counts, counts + 1, 0.0, 1.0)).all()
