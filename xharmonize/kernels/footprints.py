"""What lies under the pixels of a result: valid shares, and what is near."""

from __future__ import annotations

import numpy as np
from numba import njit

from xharmonize.types import BoolArray, Float64Array, FloatArray, IntArray


def judge(
    images: FloatArray,
    rows: tuple[IntArray, Float64Array],
    columns: tuple[IntArray, Float64Array],
    low: FloatArray,
    high: FloatArray,
) -> tuple[FloatArray, BoolArray, BoolArray]:
    """Look at the input pixels under each output pixel.

    Parameters
    ----------
    images : (band, y, x) float32 array
        Reflectance [1] of one date; what is not finite is missing.
    rows, columns : ((row,) int64 array, (row, k) float64 array)
        First input pixel under each output pixel, and the share of the output pixel that it and
        those after it cover [1]. Pixels outside the image count as not valid, and not as missing.
    low, high : (band,) float32 array
        Range of the training data [1].

    Returns
    -------
    share : (row, column) float32 array
        Valid share of each output pixel [1], of the band that has least.
    is_missing : (row, column) bool array
        Whether any input pixel that it shares an area with is missing, in any band.
    is_strange : (row, column) bool array
        Whether any valid one lies outside ``[low, high]``, in any band.
    """
    shape = (rows[0].size, columns[0].size)
    lowest, highest = images.min(axis=(1, 2)), images.max(axis=(1, 2))  # NaN where one is missing
    if np.isfinite(lowest).all() and np.isfinite(highest).all():
        inside = [_covered(axis, size) for axis, size in zip((rows, columns), images.shape[1:])]
        share = np.multiply.outer(*inside).astype(np.float32)
        nowhere = np.zeros(shape, np.bool_)
        if (lowest >= low).all() and (highest <= high).all():
            return share, nowhere, nowhere
    share = np.empty(shape, np.float32)
    is_missing, is_strange = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    _judge(images, *rows, *columns, low, high, share, is_missing, is_strange)
    return share, is_missing, is_strange


def _covered(axis: tuple[IntArray, Float64Array], size: int) -> Float64Array:
    """Share of each output pixel, along one axis, that lies on the image."""
    first, weight = axis
    pixel = first[:, None] + np.arange(weight.shape[1])
    total: Float64Array = np.where((pixel >= 0) & (pixel < size), weight, 0.0).sum(axis=1)
    return total


@njit(nogil=True, cache=True)
def _judge(  # type: ignore[no-untyped-def]
    images, first_row, row_share, first_column, column_share, low, high, share, missing, strange
):
    n_bands, height, width = images.shape
    # Rows are summed first: that loop runs along them, on whole registers.
    total = np.empty(width, np.float32)
    bits = np.empty(width, np.uint8)
    for j in range(share.shape[0]):
        share[j] = 2.0
        for b in range(n_bands):
            total[:] = 0.0
            bits[:] = 0
            for v in range(row_share.shape[1]):
                y = first_row[j] + v
                if 0 <= y < height and row_share[j, v] > 0:
                    weight = np.float32(row_share[j, v])
                    _add_row(images[b, y], weight, low[b], high[b], total, bits)
            for i in range(share.shape[1]):
                found = np.float32(0.0)
                seen = np.uint8(0)
                for u in range(column_share.shape[1]):
                    x = first_column[i] + u
                    if 0 <= x < width and column_share[i, u] > 0:
                        found += total[x] * np.float32(column_share[i, u])
                        seen |= bits[x]
                share[j, i] = min(share[j, i], found)
                missing[j, i] |= (seen & 1) > 0
                strange[j, i] |= (seen & 2) > 0


@njit(nogil=True, cache=True)
def _add_row(row, weight, low, high, total, bits):  # type: ignore[no-untyped-def]
    for x in range(row.size):
        value = row[x]
        is_valid = abs(value) < np.inf
        total[x] += weight if is_valid else np.float32(0.0)
        is_out = is_valid and (value < low or value > high)
        bits[x] |= np.uint8(0 if is_valid else 1) | np.uint8(2 if is_out else 0)


def spread(mask: BoolArray, radius: int) -> BoolArray:
    """Pixels within `radius` rows and columns of one that is set.

    Parameters
    ----------
    mask : (y, x) bool array
        Not changed.
    """
    for axis in (0, 1):
        mask = np.moveaxis(mask, axis, 0)
        size = np.arange(mask.shape[0])
        count = np.concatenate([np.zeros((1, mask.shape[1]), np.int64), np.cumsum(mask, axis=0)])
        after = count[np.minimum(size + radius + 1, size.size)]
        mask = np.moveaxis(after > count[np.maximum(size - radius, 0)], 0, axis)
    return mask
