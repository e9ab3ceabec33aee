"""Mergeable statistics against numpy, on easy and on hard data."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xharmonize.kernels import statistics
from xharmonize.kernels import statistics as kernels

NO_GROUPS = np.zeros((1, 1), np.int32)


def expected_moments(pred, ref) -> np.ndarray:
    ok = np.isfinite(pred) & np.isfinite(ref)
    x, y = pred[ok].astype(np.longdouble), ref[ok].astype(np.longdouble)
    if not x.size:
        return np.zeros(kernels.N_FIELDS)
    dx, dy, error, size = x - x.mean(), y - y.mean(), np.abs(x - y), np.abs(y)
    row = [x.size, x.mean(), y.mean(), (dx**2).sum(), (dy**2).sum(), (dx * dy).sum()]
    row += [(error**2).sum(), error.sum(), (error[size > 0] / size[size > 0]).sum()]
    return np.array([*row, (size > 0).sum(), size.sum()], float)


@pytest.fixture
def fields():
    random = np.random.default_rng(2)
    ref = random.uniform(0.02, 0.5, (2, 3, 10_000)).astype("float32")
    pred = (ref * 0.9 + random.normal(0.02, 0.02, ref.shape)).astype("float32")
    pred[random.random(pred.shape) < 0.1] = np.nan
    ref[random.random(ref.shape) < 0.1] = np.nan
    ref[0, 0, :100], ref[0, 1, 5] = 0.0, np.inf
    pred[1, 2] = np.nan
    return pred, ref


def test_moments_equal_numpy(fields):
    found = kernels.band_moments(*fields)
    for place in np.ndindex(found.shape[:2]):
        expected = expected_moments(fields[0][place], fields[1][place])
        np.testing.assert_allclose(found[place], expected, rtol=1e-11, atol=1e-12)


def test_groups_are_moments_of_their_pixels(fields):
    pred, ref = fields
    codes = np.random.default_rng(0).integers(-1, 4, (1, pred.shape[2])).astype(np.int32)
    found = kernels.grouped_moments(pred, ref, codes, 4)
    for r, g, b in np.ndindex(found.shape[:3]):
        inside = codes[0] == g
        expected = expected_moments(pred[r, b, inside], ref[r, b, inside])
        np.testing.assert_allclose(found[r, g, b], expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("contrast", [1e-8, 1e-4, 1.0])
def test_variances_are_right_whatever_the_contrast(contrast):
    random = np.random.default_rng(5)
    ref = 0.3 + contrast * random.normal(size=(1, 1, 50_000))
    pred = 0.3 + contrast * random.normal(size=ref.shape) + 0.5 * (ref - 0.3)
    found = kernels.band_moments(pred, ref)[0, 0]
    expected = expected_moments(pred[0, 0], ref[0, 0])
    np.testing.assert_allclose(found[3:6], expected[3:6], rtol=1e-6)
    halves = [kernels.band_moments(pred[..., a:b], ref[..., a:b]) for a, b in ((0, 7), (7, None))]
    merged = kernels.merge_moments(np.stack(halves), 0)[0, 0]
    np.testing.assert_allclose(merged[3:6], expected[3:6], rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 3000), max_size=6),
    missing=st.floats(0, 1),
    seed=st.integers(0, 100),
)
def test_merged_parts_equal_the_whole(cuts, missing, seed):
    random = np.random.default_rng(seed)
    ref = random.uniform(0, 0.5, (1, 2, 3000)).astype("float32")
    pred = ref + random.normal(0, 0.05, ref.shape).astype("float32")
    pred[random.random(pred.shape) < missing] = np.nan
    edges = [0, *sorted(cuts), 3000]
    parts = [
        kernels.band_moments(
            np.ascontiguousarray(pred[..., a:b]), np.ascontiguousarray(ref[..., a:b])
        )
        for a, b in pairwise(edges)
    ]
    whole = kernels.band_moments(pred, ref)
    np.testing.assert_allclose(
        kernels.merge_moments(np.stack(parts), 0), whole, rtol=1e-10, atol=1e-12
    )


def test_identical_fields_agree_exactly():
    field = np.random.default_rng(0).uniform(0, 1, (1, 1, 9999)).astype("float32")
    row = kernels.band_moments(field, field.copy())[0, 0]
    assert row[kernels.SSE] == 0
    assert row[kernels.M2_PRED] == row[kernels.M2_REF] == row[kernels.CO]


def test_a_flat_field_has_no_variance():
    flat = np.full((1, 1, 20_001), 0.123, np.float32)
    row = kernels.band_moments(flat, flat * np.float32(2))[0, 0]
    assert row[kernels.M2_PRED] == row[kernels.M2_REF] == 0


def test_angles_equal_the_arc_cosine_and_are_right_where_it_is_not():
    random = np.random.default_rng(1)
    ref = random.uniform(-0.1, 0.6, (1, 6, 3001))
    pred = random.uniform(-0.1, 0.6, ref.shape)
    x, y = pred[0], ref[0]
    cosine = (x * y).sum(0) / np.sqrt((x * x).sum(0) * (y * y).sum(0))
    for i in range(0, 3001, 100):
        one = statistics.spectral_angles(
            pred[..., i : i + 1].copy(), ref[..., i : i + 1].copy(), NO_GROUPS, 1
        )
        np.testing.assert_allclose(one[0, 0], (1, np.arccos(cosine[i])), rtol=1e-12)
    found = statistics.spectral_angles(pred, ref, NO_GROUPS, 1)[0, 0]
    np.testing.assert_allclose(found, (3001, np.arccos(cosine).sum()), rtol=1e-12)
    tiny = np.array([1.0, 1e-9])[None, :, None], np.array([1.0, 0.0])[None, :, None]
    np.testing.assert_allclose(
        statistics.spectral_angles(*tiny, NO_GROUPS, 1)[0, 0, 1], 1e-9, rtol=1e-12
    )


@pytest.mark.parametrize(
    ("pred", "angle"),
    [([2.0, 0.0], 0.0), ([0.0, 3.0], np.pi / 2), ([-1.0, 0.0], np.pi), ([1.0, 1.0], np.pi / 4)],
)
def test_angles_of_plain_vectors(pred, angle):
    vectors = (np.array(v, float)[None, :, None] for v in (pred, [1.0, 0.0]))
    found = statistics.spectral_angles(*vectors, NO_GROUPS, 1)[0, 0]
    np.testing.assert_allclose(found, (1, angle), atol=1e-15)


@pytest.mark.parametrize("bad", [[0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_zero_and_missing_spectra_do_not_count(bad):
    vectors = [np.array(v, np.float32)[None, :, None] for v in (bad, [1.0, 2.0])]
    assert (statistics.spectral_angles(*vectors, NO_GROUPS, 1) == 0).all()
    assert (statistics.spectral_angles(*vectors[::-1], NO_GROUPS, 1) == 0).all()


def test_errors_beside_a_baseline_take_the_pixels_all_three_have(fields):
    pred, ref = fields
    baseline = ref[:, :, ::-1].copy()
    found = kernels.baseline_errors(pred, ref, baseline, NO_GROUPS, 1)[:, 0]
    with np.errstate(invalid="ignore"):
        one, other = (pred - ref.astype(float)), (baseline - ref.astype(float))
    ok = np.isfinite(one) & np.isfinite(other)
    np.testing.assert_allclose(found[..., 0], ok.sum(-1))
    np.testing.assert_allclose(found[..., 1], np.where(ok, one, 0).__pow__(2).sum(-1), rtol=1e-12)
    np.testing.assert_allclose(found[..., 2], np.where(ok, other, 0).__pow__(2).sum(-1), rtol=1e-12)
