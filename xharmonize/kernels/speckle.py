"""Lee's filter of multiplicative noise by local statistics."""

from __future__ import annotations

import numpy as np
from numba import njit

from xharmonize.types import AnyArray, FloatArray


def lee(power: AnyArray, *, half: int, looks: float) -> FloatArray:
    """Filter images (..., y, x) of linear power; see `xharmonize.fusion.radar.filter_speckle`.

    Parameters
    ----------
    power : (..., y, x) array
        NaN where missing.
    half : int
        Pixels of the window on each side.
    looks : float
        Equivalent number of looks.
    """
    images = np.ascontiguousarray(power, np.float32).reshape(-1, *power.shape[-2:])
    filtered: FloatArray = _lee(images, half, 1.0 / looks).reshape(power.shape)
    return filtered


@njit(nogil=True, cache=True)
def _lee(images, half, noise):  # type: ignore[no-untyped-def]
    """Move each value towards the mean of its window, by the share of the variance that is noise.

    The variance of what is seen is that of the ground times (1 + noise), plus the squared mean
    times noise (Lee 1980, eq. 24).
    """
    n_images, n_rows, n_columns = images.shape
    result = np.full(images.shape, np.float32(np.nan), np.float32)
    for k in range(n_images):
        for y in range(n_rows):
            for x in range(n_columns):
                value = images[k, y, x]
                if np.isnan(value):
                    continue
                n, total, squares = 0, 0.0, 0.0
                for v in range(max(0, y - half), min(n_rows, y + half + 1)):
                    for u in range(max(0, x - half), min(n_columns, x + half + 1)):
                        one = images[k, v, u]
                        if not np.isnan(one):
                            n += 1
                            total += one
                            squares += one * one
                mean = total / n
                variance = max(squares / n - mean * mean, 0.0)
                ground = max(variance - mean * mean * noise, 0.0) / (1.0 + noise)
                gain = ground / variance if variance > 0 else 0.0
                result[k, y, x] = mean + gain * (value - mean)
    return result
