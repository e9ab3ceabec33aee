"""Several looks at one place, of which one is chosen, or of which the median is taken.

Looks lie along the first axis, bands (where there are any) along the second; results keep the
first axis with length 1.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from xharmonize.types import AnyArray, BoolArray, FloatArray, IntArray

NONE = -1
"""Index of a look where there is none to choose."""


def median_valid(valid: BoolArray, values: AnyArray) -> AnyArray:
    """Median over the valid looks, in the dtype of `values`; NaN where none is.

    Parameters
    ----------
    valid : (look, ...) bool array
    values : (look, ...) float array

    Returns
    -------
    (1, ...) float array
        The mean of the middle two for an even number.
    """
    ordered = np.sort(np.where(valid, values, np.nan), axis=0)  # NaN comes last
    n_valid = valid.sum(axis=0, keepdims=True)
    low = np.take_along_axis(ordered, np.maximum((n_valid - 1) // 2, 0), axis=0)
    high = np.take_along_axis(ordered, np.minimum(n_valid // 2, len(values) - 1), axis=0)
    middle = (low.astype(np.float64) + high) / 2
    return np.where(n_valid > 0, middle, np.nan).astype(values.dtype)


def largest(score: FloatArray) -> IntArray:
    """Return the look with the largest score; the first of equals, `NONE` where none is finite.

    Parameters
    ----------
    score : (look, ...) float array

    Returns
    -------
    (1, ...) int16 array
    """
    known = np.where(np.isfinite(score), score, -np.inf)
    best = known.argmax(axis=0)[None]
    found: IntArray = np.where(np.isneginf(known.max(axis=0)[None]), NONE, best).astype(np.int16)
    return found


@njit(nogil=True, cache=True)
def _medoid(values: FloatArray) -> IntArray:
    n_looks, n_bands, n_pixels = values.shape
    chosen = np.full(n_pixels, NONE, np.int16)
    is_whole = np.empty(n_looks, np.bool_)
    for p in range(n_pixels):
        for i in range(n_looks):
            is_whole[i] = True
            for b in range(n_bands):
                is_whole[i] = is_whole[i] and np.isfinite(values[i, b, p])
        best = np.inf
        for i in range(n_looks):
            if not is_whole[i]:
                continue
            total = 0.0
            for j in range(n_looks):
                if is_whole[j]:
                    square = 0.0
                    for b in range(n_bands):
                        square += (np.float64(values[i, b, p]) - values[j, b, p]) ** 2
                    total += np.sqrt(square)
            if total < best:
                best = total
                chosen[p] = i
    return chosen


def medoid(values: FloatArray) -> IntArray:
    """Return the look nearest to all others: least sum of Euclidean distances in band space.

    Parameters
    ----------
    values : (look, band, ...) float array
        Looks with a missing band are left out.

    Returns
    -------
    (1, ...) int16 array
        The first of equals; `NONE` where no look is whole.

    References
    ----------
    Flood 2013, "Seasonal composite Landsat TM/ETM+ images using the medoid",
    doi:10.3390/rs5126481.
    """
    flat = np.ascontiguousarray(values.reshape(*values.shape[:2], -1))
    found: IntArray = _medoid(flat).reshape(1, *values.shape[2:])
    return found


def take(layer: AnyArray, chosen: IntArray) -> AnyArray:
    """Take each pixel from the look chosen for it; NaN or 0 where there is none.

    Parameters
    ----------
    layer : (look, ...) array
        May have a band axis after the looks, which `chosen` does not have.
    chosen : (1, ...) int array

    Returns
    -------
    (1, ...) array
        In the dtype of `layer`.
    """
    index = chosen if layer.ndim == chosen.ndim else chosen[:, None]
    taken = np.take_along_axis(layer, np.maximum(index, 0).astype(np.intp), axis=0)
    fill = np.nan if np.issubdtype(layer.dtype, np.floating) else 0
    result: AnyArray = np.where(index == NONE, layer.dtype.type(fill), taken)
    return result
