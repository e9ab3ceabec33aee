"""Lee's filter, against window means by convolution."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import convolve

from xharmonize.kernels.speckle import lee


def by_convolution(image, half, looks):
    """The filter from sums of a convolution over valid pixels, zero outside."""
    valid = np.isfinite(image)
    ones = np.ones((2 * half + 1,) * 2)
    n, total, squares = (
        convolve(one, ones, mode="constant")
        for one in (valid.astype(float), np.where(valid, image, 0), np.where(valid, image**2, 0))
    )
    mean = total / n
    variance = squares / n - mean**2
    ground = np.maximum(variance - mean**2 / looks, 0) / (1 + 1 / looks)
    return mean + ground / variance * (image - mean)


def test_it_is_the_filter_of_sums_by_convolution():
    rng = np.random.default_rng(0)
    image = (0.1 * rng.gamma(4, 1 / 4, (40, 30))).astype(np.float32)
    image[:, 15:] *= 8
    image[5:9, 3:6] = np.nan
    found = lee(image, half=3, looks=4.0)
    np.testing.assert_allclose(found, by_convolution(image.astype(float), 3, 4.0), rtol=1e-4)


def test_a_uniform_area_gets_smooth_and_keeps_its_mean_and_an_edge_stays():
    rng = np.random.default_rng(0)
    speckle = rng.gamma(4.4, 1 / 4.4, (80, 80))
    ground = np.where(np.arange(80) < 40, 0.02, 0.4) * np.ones((80, 1))
    found = lee((ground * speckle).astype(np.float32), half=3, looks=4.4)
    left, right = found[:, 5:35], found[:, 45:75]
    assert abs(left.mean() / 0.02 - 1) < 0.03
    assert left.std() < 0.6 * 0.02 / np.sqrt(4.4)
    assert found[:, 41].mean() / found[:, 38].mean() > 5
    assert right.std() < 0.6 * 0.4 / np.sqrt(4.4)
