"""Similarity in windows against brute force and scikit-image."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from xharmonize.kernels import windows

ALL = np.zeros((1, 1, 1), np.int32)


def brute_force(pred, ref, size, c1=0.0, c2=0.0, min_valid=0.5) -> np.ndarray:
    """Index of every window of equal weights, NaN where too few pixels are valid."""
    out = np.full((pred.shape[0] - size + 1, pred.shape[1] - size + 1), np.nan)
    for j, i in np.ndindex(out.shape):
        x, y = (a[j : j + size, i : i + size].astype(np.longdouble).ravel() for a in (pred, ref))
        ok = np.isfinite(x) & np.isfinite(y)
        if ok.sum() >= max(min_valid * size**2, 1):
            x, y = x[ok], y[ok]
            mx, my = x.mean(), y.mean()
            spread, joint = x.var() + y.var(), ((x - mx) * (y - my)).mean()
            light = (2 * mx * my + c1) / (mx**2 + my**2 + c1) if mx or my or c1 else 1.0
            flat = spread + c2 == 0
            out[j, i] = light * (1.0 if flat else (2 * joint + c2) / (spread + c2))
    return out


@pytest.fixture
def images():
    random = np.random.default_rng(4)
    ref = random.uniform(0.02, 0.5, (2, 90, 300)).astype("float32")
    return (ref + random.normal(0, 0.05, ref.shape)).astype("float32"), ref


@pytest.mark.parametrize("size", [1, 5, 8, 12, 32])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_uniform_windows_equal_brute_force(images, size, missing):
    pred, ref = (a[:, :36, :39].copy() for a in images)
    pred[np.random.default_rng(1).random(pred.shape) < missing] = np.nan
    found = windows.uniform_windows(pred, ref, ALL, 1, size, 0.0, 0.0, 0.5)
    for k in range(2):
        expected = brute_force(pred[k], ref[k], size)
        counted = np.isfinite(expected)
        assert found[k, 0, 0] == counted.sum()
        np.testing.assert_allclose(found[k, 0, 1], expected[counted].sum(), rtol=1e-10)


def test_windows_larger_than_a_tile_of_work_are_all_counted(images):
    pred, ref = images
    found = windows.uniform_windows(pred, ref, ALL, 1, 7, 1e-4, 9e-4, 0.5)
    expected = structural_similarity(
        ref[0].astype(float), pred[0].astype(float), data_range=1, use_sample_covariance=False
    )
    assert found[0, 0, 0] == 84 * 294
    np.testing.assert_allclose(found[0, 0, 1] / found[0, 0, 0], expected, rtol=1e-10)


def test_gaussian_windows_equal_scikit_image(images):
    pred, ref = images
    taps = windows.gaussian_taps(11, 1.5)
    found = windows.gaussian_windows(pred, ref, ALL, 1, taps, 1e-4, 9e-4, 0.5)
    for k in range(2):
        expected = structural_similarity(
            ref[k].astype(float),
            pred[k].astype(float),
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        np.testing.assert_allclose(found[k, 0, 1] / found[k, 0, 0], expected, rtol=1e-10)


def test_gaussian_windows_take_the_valid_pixels(images):
    pred, ref = (a[:1, :30, :31].copy() for a in images)
    pred[0, 10:18, 9:20] = np.nan
    taps = windows.gaussian_taps(11, 1.5)
    found = windows.gaussian_windows(pred, ref, ALL, 1, taps, 1e-4, 9e-4, 0.5)[0, 0]
    weights, values = np.outer(taps, taps), []
    for j, i in np.ndindex(20, 21):
        x, y = (a[0, j : j + 11, i : i + 11].astype(float) for a in (pred, ref))
        w = np.where(np.isfinite(x), weights, 0)
        if w.sum() < 0.5:
            continue
        share, x = w / w.sum(), np.nan_to_num(x)
        mx, my = (share * x).sum(), (share * y).sum()
        v = (share * (x - mx) ** 2).sum() + (share * (y - my) ** 2).sum()
        c = (share * (x - mx) * (y - my)).sum()
        values.append((2 * mx * my + 1e-4) * (2 * c + 9e-4) / ((mx**2 + my**2 + 1e-4) * (v + 9e-4)))
    np.testing.assert_allclose(found, (len(values), sum(values)), rtol=1e-10)


def test_low_contrast_is_not_lost_to_rounding():
    random = np.random.default_rng(0)
    ref = (0.3 + 1e-7 * random.normal(size=(1, 40, 40))).astype("float64")
    pred = ref + 5e-8 * random.normal(size=ref.shape)
    found = windows.uniform_windows(pred, ref, ALL, 1, 32, 0.0, 0.0, 0.5)[0, 0]
    np.testing.assert_allclose(found[1], brute_force(pred[0], ref[0], 32).sum(), rtol=1e-7)


@pytest.mark.parametrize("size", [7, 32])
@pytest.mark.parametrize(
    ("pred", "ref", "expected"),
    [(0.3, 0.3, 1.0), (0.1, 0.3, 2 * 0.03 / 0.1), (0.0, 0.0, 1.0), (0.0, 0.3, 0.0)],
)
def test_flat_windows_compare_their_means(size, pred, ref, expected):
    images = (np.full((1, 40, 40), value) for value in (pred, ref))
    found = windows.uniform_windows(*images, ALL, 1, size, 0.0, 0.0, 0.5)[0, 0]
    assert found[1] / found[0] == pytest.approx(expected, rel=1e-12)


def test_a_window_belongs_to_the_group_of_its_middle(images):
    pred, ref = (a[:1, :40, :45] for a in images)
    codes = np.where(np.arange(45) < 20, 0, 1)[None, None] * np.ones((1, 40, 1), int)
    found = windows.uniform_windows(pred, ref, codes.astype(np.int32), 2, 8, 0.0, 0.0, 0.5)[0]
    expected = brute_force(pred[0], ref[0], 8)
    np.testing.assert_allclose(found[0, 1], expected[:, :16].sum(), rtol=1e-10)
    np.testing.assert_allclose(found[1, 1], expected[:, 16:].sum(), rtol=1e-10)


def test_an_image_smaller_than_the_window_has_none(images):
    small = images[0][:, :10, :10].copy(), images[1][:, :10, :10].copy()
    assert not windows.uniform_windows(*small, ALL, 1, 32, 0.0, 0.0, 0.5).any()
    taps = windows.gaussian_taps(11, 1.5)
    assert not windows.gaussian_windows(*small, ALL, 1, taps, 1e-4, 9e-4, 0.5).any()
