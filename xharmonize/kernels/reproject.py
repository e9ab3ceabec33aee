"""Resampling of images between grids of two CRSs, by exact overlap.

The quadrilateral between the transformed corners of each target pixel is cut into the source
pixels it covers. All positions are absolute on the source grid, so that what a target pixel
becomes does not depend, not even in rounding, on the window that holds its source pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from xharmonize.kernels.regrid import RegridMethod, stack_images
from xharmonize.types import Float64Array, FloatArray, IntArray

_HOW = {"area": 0, "nearest": 1, "bilinear": 2}

_STRIP = 128  # target pixels whose weights stay in the first cache over all images


@dataclass(frozen=True, kw_only=True)
class PixelWeights:
    """Which source pixels make up each target pixel, and with what weight.

    Attributes
    ----------
    shape : (int, int)
        Target rows and columns.
    start : (target + 1,) int64 array
        Entries ``start[m]`` to ``start[m + 1]`` belong to target pixel `m`, row by row.
    index : (entry,) int64 array
        Source pixel, counted row by row in the window.
    weight : (entry,) float64 array
        Shared area [source pixel], or weight at the centre.
    full : (target,) float64 array
        Weight of a target pixel that is covered completely.
    """

    shape: tuple[int, int]
    start: IntArray
    index: IntArray
    weight: Float64Array
    full: Float64Array

    @property
    def nbytes(self) -> int:
        """Memory it takes [byte]."""
        return sum(array.nbytes for array in (self.start, self.index, self.weight, self.full))


def pixel_weights(
    row: Float64Array,
    column: Float64Array,
    *,
    window: tuple[tuple[int, int], tuple[int, int]],
    method: RegridMethod,
) -> PixelWeights:
    """Find the source pixels of each target pixel, and their weights.

    Parameters
    ----------
    row, column : (y + 1, x + 1) float64 array
        Corners of the target pixels on the source grid [source pixel]: 0 is the outer edge of the
        first pixel. NaN where a corner cannot be transformed.
    window : ((int, int), (int, int))
        First and past-the-last row and column of the source that there is.
    method : {"area", "nearest", "bilinear"}
        Area shared with the quadrilateral between the four corners, or weights at its centre.
    """
    (top, bottom), (west, east) = window
    scratch = _scratch(row, column, (bottom - top, east - west))
    start, index, weight, full = _collect(
        row, column, _HOW[method], (top, bottom, west, east), *scratch
    )
    shape = (row.shape[0] - 1, row.shape[1] - 1)
    return PixelWeights(shape=shape, start=start, index=index, weight=weight, full=full)


def project_mean(
    source: FloatArray, weights: PixelWeights, *, min_valid: float
) -> tuple[FloatArray, FloatArray]:
    """Mean over valid source pixels, weighted by what each shares with the target pixel.

    Parameters
    ----------
    source : (..., y, x) float array
        Values in the window of `weights` [any unit]; non-finite ones are missing.
    weights : PixelWeights
        From `pixel_weights`.
    min_valid : float
        Least valid share of a target pixel [1]; below it the result is NaN.

    Returns
    -------
    mean : (..., y, x) float array
        In the dtype of `source`; NaN where too little is valid.
    fraction : (..., y, x) float32 array
        Valid share of each target pixel [1]; what lies outside the source is not valid.
    """
    images = stack_images(source)
    flat = images.reshape(images.shape[0], -1)
    mean = np.empty((images.shape[0], weights.full.size), images.dtype)
    fraction = np.empty(mean.shape, np.float32)
    entries = (weights.start, weights.index, weights.weight, weights.full)
    _project_mean(flat, *entries, min_valid, mean, fraction)
    shape = (*source.shape[:-2], *weights.shape)
    return mean.reshape(shape), fraction.reshape(shape)


def project_bits(source: IntArray, weights: PixelWeights, *, outside: IntArray) -> IntArray:
    """Bit-wise OR of all source pixels that have weight in a target pixel.

    Parameters
    ----------
    source : (..., y, x) integer array
        Flags in the window of `weights`.
    weights : PixelWeights
        From `pixel_weights`.
    outside : (n,) integer array
        Flags of what lies outside the source, one per image of `source`.
    """
    images = stack_images(source)
    bits = np.zeros((images.shape[0], weights.full.size), images.dtype)
    entries = (weights.start, weights.index, weights.weight, weights.full)
    _project_bits(images.reshape(images.shape[0], -1), *entries, outside, bits)
    return bits.reshape(*source.shape[:-2], *weights.shape)


def _scratch(
    row: Float64Array, column: Float64Array, shape: tuple[int, ...]
) -> tuple[IntArray, IntArray, Float64Array]:
    """Room for the source pixels of one target pixel: rows, columns and weights."""
    spans = []
    for corner, size in zip((row, column), shape):
        around = np.stack([corner[:-1, :-1], corner[:-1, 1:], corner[1:, :-1], corner[1:, 1:]])
        extent = np.nan_to_num(around.max(axis=0) - around.min(axis=0))
        spans.append(min(int(np.ceil(extent.max(initial=0.0))) + 2, size + 2))
    n_pixels = max(spans[0] * spans[1], 4)
    return np.empty(n_pixels, np.int64), np.empty(n_pixels, np.int64), np.empty(n_pixels)


@njit(nogil=True, cache=True, error_model="numpy")
def _extent(u):  # type: ignore[no-untyped-def]
    """Least and greatest of four: quicker to compile than `min` and `max` of arrays (numba)."""
    low, high = u[0], u[0]
    for k in range(1, 4):
        low, high = min(low, u[k]), max(high, u[k])
    return low, high


@njit(nogil=True, cache=True, error_model="numpy")
def _area(u, v):  # type: ignore[no-untyped-def]
    """Area of a quadrilateral, from its diagonals."""
    return abs((u[2] - u[0]) * (v[3] - v[1]) - (u[3] - u[1]) * (v[2] - v[0])) / 2.0


@njit(nogil=True, cache=True, error_model="numpy")
def _right_share(low, high, per_width):  # type: ignore[no-untyped-def]
    """Share of a cell right of a line, which lies `low` to `high` left of the cell's end."""
    start, stop = min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)
    if high == low:
        return start
    beyond = max(high - 1.0, 0.0) - max(low - 1.0, 0.0)
    return ((stop - start) * (stop + start) / 2.0 + beyond) * per_width


@njit(nogil=True, cache=True, error_model="numpy")
def _add_edge(u0, v0, u1, v1, first_row, last_row, first_column, last_column, cover):  # type: ignore[no-untyped-def]
    """Add to each cell the signed area right of one edge of a polygon."""
    low, high = min(u0, u1), max(u0, u1)
    slope = (v1 - v0) / (u1 - u0)
    for p in range(max(int(np.floor(low)), first_row), min(int(np.ceil(high)), last_row)):
        above, below = max(low, float(p)), min(high, float(p + 1))
        if not below > above:
            continue
        here, there = v0 + (above - u0) * slope, v0 + (below - u0) * slope
        left, right = min(here, there), max(here, there)
        height = below - above if u1 > u0 else above - below
        per_width = 1.0 / (right - left)
        place = (p - first_row) * (last_column - first_column) - first_column
        crossed = max(min(int(np.ceil(right)), last_column), first_column)
        for q in range(max(int(np.floor(left)), first_column), crossed):
            cover[place + q] += height * _right_share(q + 1.0 - right, q + 1.0 - left, per_width)
        for q in range(crossed, last_column):  # wholly right of the edge
            cover[place + q] += height


@njit(nogil=True, cache=True, error_model="numpy")
def _area_weights(u, v, window, y, x, weight, cover):  # type: ignore[no-untyped-def]
    """Source pixels that share area with a quadrilateral, and how much; returns how many.

    The area of a polygon within a cell is the sum over its edges of the signed area right of the
    edge.
    """
    top, bottom, west, east = window
    (north, south), (left, right) = _extent(u), _extent(v)
    first_row = max(int(np.floor(north)), top)
    last_row = min(int(np.ceil(south)), bottom)
    first_column = max(int(np.floor(left)), west)
    last_column = min(int(np.ceil(right)), east)
    n_columns = last_column - first_column
    if last_row <= first_row or n_columns <= 0:
        return 0
    cover[: (last_row - first_row) * n_columns] = 0.0
    for k in range(4):
        m = (k + 1) % 4
        _add_edge(u[k], v[k], u[m], v[m], first_row, last_row, first_column, last_column, cover)
    n_found = 0
    for p in range(first_row, last_row):
        for q in range(first_column, last_column):
            area = abs(cover[(p - first_row) * n_columns + q - first_column])
            if area > 1e-9:
                y[n_found] = p - top
                x[n_found] = q - west
                weight[n_found] = area
                n_found += 1
    return n_found


@njit(nogil=True, cache=True, error_model="numpy")
def _centre_weights(u, v, method, window, y, x, weight):  # type: ignore[no-untyped-def]
    """Source pixels at the centre of a quadrilateral: the nearest or four; returns how many."""
    top, bottom, west, east = window
    row, column = (u[0] + u[1] + u[2] + u[3]) / 4.0, (v[0] + v[1] + v[2] + v[3]) / 4.0
    if method == 1:
        p, q = int(np.floor(row)), int(np.floor(column))
        if not (top <= p < bottom and west <= q < east):
            return 0
        y[0], x[0], weight[0] = p - top, q - west, 1.0
        return 1
    n_found = 0
    first_row, first_column = int(np.floor(row - 0.5)), int(np.floor(column - 0.5))
    for p in range(first_row, first_row + 2):
        for q in range(first_column, first_column + 2):
            share = (1.0 - abs(row - 0.5 - p)) * (1.0 - abs(column - 0.5 - q))
            if share > 1e-9 and top <= p < bottom and west <= q < east:
                y[n_found], x[n_found], weight[n_found] = p - top, q - west, share
                n_found += 1
    return n_found


@njit(nogil=True, cache=True, error_model="numpy")
def _weights(row, column, j, i, method, window, u, v, y, x, weight, cover):  # type: ignore[no-untyped-def]
    """Source pixels and weights of target pixel (j, i); returns how many, and the full weight."""
    u[0], u[1], u[2], u[3] = row[j, i], row[j, i + 1], row[j + 1, i + 1], row[j + 1, i]
    v[0], v[1] = column[j, i], column[j, i + 1]
    v[2], v[3] = column[j + 1, i + 1], column[j + 1, i]
    for k in range(4):
        if not abs(u[k]) + abs(v[k]) < np.inf:
            return 0, 1.0
    (north, south), (left, right) = _extent(u), _extent(v)
    if south < window[0] - 1 or north > window[1] + 1:
        return 0, 1.0
    if right < window[2] - 1 or left > window[3] + 1:
        return 0, 1.0
    if method == 0:
        n_found = _area_weights(u, v, window, y, x, weight, cover)
        return n_found, _area(u, v)
    return _centre_weights(u, v, method, window, y, x, weight), 1.0


@njit(nogil=True, cache=True, error_model="numpy")
def _collect(row, column, method, window, y, x, weight):  # type: ignore[no-untyped-def]
    """Entries of all target pixels, in arrays that grow as they fill."""
    n_rows, n_columns = row.shape[0] - 1, row.shape[1] - 1
    u, v, cover = np.empty(4), np.empty(4), np.empty(weight.size)
    start, full = np.zeros(n_rows * n_columns + 1, np.int64), np.ones(n_rows * n_columns)
    width = window[3] - window[2]
    size = 4 * n_rows * n_columns + weight.size
    indices, weights = np.empty(size, np.int64), np.empty(size)
    n_used, m = 0, 0
    for j in range(n_rows):
        for i in range(n_columns):
            if n_used + weight.size > size:
                size *= 2
                more, heavier = np.empty(size, np.int64), np.empty(size)
                for k in range(n_used):  # slices would compile for seconds (numba)
                    more[k], heavier[k] = indices[k], weights[k]
                indices, weights = more, heavier
            n_found, full[m] = _weights(
                row, column, j, i, method, window, u, v, y, x, weight, cover
            )
            for k in range(n_found):
                indices[n_used + k] = y[k] * width + x[k]
                weights[n_used + k] = weight[k]
            n_used += n_found
            m += 1
            start[m] = n_used
    return start, indices[:n_used].copy(), weights[:n_used].copy(), full


@njit(nogil=True, cache=True, error_model="numpy")
def _project_mean(source, start, index, weight, full, min_valid, mean, fraction):  # type: ignore[no-untyped-def]
    """Means of a strip of target pixels in all images, before the next: weights are read once."""
    for first in range(0, full.size, _STRIP):
        last = min(first + _STRIP, full.size)
        for n in range(source.shape[0]):
            image = source[n]
            for m in range(first, last):
                total, valid = 0.0, 0.0
                for k in range(start[m], start[m + 1]):
                    value = np.float64(image[index[k]])
                    is_valid = abs(value) < np.inf
                    total += weight[k] * (value if is_valid else 0.0)
                    valid += weight[k] if is_valid else 0.0
                share = valid / full[m]
                fraction[n, m] = share
                is_enough = valid > 0.0 and share >= min_valid - 1e-9
                mean[n, m] = total / valid if is_enough else np.nan


@njit(nogil=True, cache=True, error_model="numpy")
def _project_bits(source, start, index, weight, full, outside, bits):  # type: ignore[no-untyped-def]
    for n in range(source.shape[0]):
        for m in range(full.size):
            found = bits[n, m]
            covered = 0.0
            for k in range(start[m], start[m + 1]):
                found |= source[n, index[k]]
                covered += weight[k]
            if covered < full[m] * (1.0 - 1e-6):
                found |= outside[n]
            bits[n, m] = found
