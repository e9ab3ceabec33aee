"""Histograms of tiles against numpy, matching against scikit-image, and their own promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance
from skimage.exposure import match_histograms

from xharmonize.kernels import lut, patches
from xharmonize.kernels.reflectance import decode

LOW, HIGH, N_BINS = 0.0, 1.0, 1000
RANGE = np.array([LOW]), np.array([HIGH])


def _cube(values):
    return np.asarray(values, "float32").reshape(1, 1, 1, -1)


def _places(n_y, n_x):
    return np.zeros(n_y, int), np.zeros(n_x, int)


def _count(values, n_bins=N_BINS):
    return patches.count_values(_cube(values), *RANGE, n_bins, *_places(1, np.size(values)))


def _match(source, reference):
    table = patches.match_distributions(_count(source), _count(reference), LOW, HIGH)
    values = _cube(source)
    mapped = lut.apply_tables(values, table, *RANGE, *_places(1, values.size))
    return mapped.ravel(), table


def test_counts_equal_numpy_and_ignore_nan():
    values = np.random.default_rng(0).normal(0.3, 0.2, 10_000)
    values[::7], values[3], values[4] = np.nan, np.inf, 1.0
    inside = np.clip(_cube(values).ravel()[np.isfinite(values)].astype(float), LOW, HIGH)
    np.testing.assert_array_equal(
        _count(values, 50).ravel(), np.histogram(inside, 50, (LOW, HIGH))[0]
    )


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 3)] * 2, *[st.integers(1, 40)] * 2),
    seed=st.integers(0, 99),
    cuts=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    dtype=st.sampled_from(["uint8", "uint16", "int16", "int32"]),
)
def test_digital_numbers_count_as_their_reflectance(shape, seed, cuts, dtype):
    """Tile by tile and band by band, with negative numbers and nodata."""
    random = np.random.default_rng(seed)
    info = np.iinfo(dtype)
    dn = random.integers(max(info.min, -3000), min(info.max, 30_000), shape).astype(dtype)
    line = np.full(shape[:2], 2.75e-5), np.full(shape[:2], -0.2), np.full(shape[:2], dn.flat[0])
    low, high = np.linspace(-0.1, 0.0, shape[1]), np.linspace(0.3, 0.6, shape[1])
    rows = (np.arange(shape[2]) >= cuts[0] % shape[2]).astype(int)
    rows -= rows[0]
    columns = (np.arange(shape[3]) >= cuts[1] % shape[3]).astype(int)
    columns -= columns[0]
    values = decode(dn, *line)
    expected = patches.count_values(values, low, high, 64, rows, columns)
    scale, offset, nodata = line
    lines = {"scale": scale, "offset": offset, "nodata": nodata}
    actual = patches.count_dn(dn, low, high, 64, rows, columns, **lines)
    np.testing.assert_array_equal(actual, expected)
    for j, i in np.ndindex(expected.shape[1:3]):
        part = values[:, :, rows == j][..., columns == i]
        assert (expected[:, j, i].sum(axis=-1) == np.isfinite(part).sum(axis=(2, 3))).all()


def test_large_blocks_of_digital_numbers_take_the_table_of_bins():
    dn = np.random.default_rng(1).integers(-500, 9000, (2, 1, 200, 200)).astype("int16")
    table = {"scale": 1e-4, "offset": 0.0, "nodata": -9999.0}
    lines = {name: np.full((2, 1), value) for name, value in table.items()}
    places = _places(200, 200)
    expected = patches.count_values(decode(dn, **lines), *RANGE, 100, *places)
    np.testing.assert_array_equal(patches.count_dn(dn, *RANGE, 100, *places, **lines), expected)


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


def test_an_empty_histogram_gives_a_missing_table():
    counts = np.zeros((1, 1, 10), "int64")
    assert np.isnan(patches.match_distributions(counts, counts + 1, 0.0, 1.0)).all()
    assert np.isnan(patches.normalise(counts)).all()


def test_normalised_histograms_sum_to_one():
    shares = patches.normalise(_count(np.random.default_rng(3).random(999), 64))
    assert shares.dtype == np.float32
    assert shares.sum() == pytest.approx(1)


def test_transport_distance_agrees_with_scipy_on_fine_bins():
    random = np.random.default_rng(4)
    a, b = random.beta(2, 8, 5000), random.beta(3, 5, 5000)
    counts = [_count(v, bins).ravel() for v, bins in ((a, 1000), (b, 400))]
    distance = patches.transport_distance(counts[0], (LOW, HIGH), counts[1], (LOW, HIGH))
    assert distance == pytest.approx(wasserstein_distance(a, b), abs=1e-3)
    spike = np.eye(100)
    moved = patches.transport_distance(spike[10], (0.0, 1.0), spike[60], (0.0, 1.0))
    assert moved == pytest.approx(0.5)
