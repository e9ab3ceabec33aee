"""Similarity of two images in sliding windows: SSIM and UIQI.

Local moments come either from Gaussian weights (two separable passes) or from square windows of
equal weights. The latter double their size step by step and merge centred moments by the formula
of Chan, Golub and LeVeque: unlike running sums, the result does not depend on where a block
begins, and flat windows stay flat.

A window's moments are those of its valid pixels; it counts where they hold at least `min_valid` of
its weight.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from xharmonize.types import Float64Array, FloatArray, IntArray

# Loops below write one array each: with more, the compiler's checks for overlap outgrow its limit
# and it makes no vectors of them.

_ROWS, _COLUMNS = 64, 256  # windows whose moments are found together, in the second cache
FLAT = 1e-24
"""Variance over squared mean below which a window is flat: far below what data resolve, far above
rounding."""


def gaussian_taps(size: int, sigma: float) -> Float64Array:
    """Weights (size,) of a Gaussian that sum to one."""
    distance = np.arange(size) - (size - 1) / 2
    weights = np.exp(-0.5 * (distance / sigma) ** 2)
    return np.asarray(weights / weights.sum())


@njit(nogil=True, cache=True)
def _valid(pred, ref, weight):  # type: ignore[no-untyped-def]
    """Write 1 where both are finite, else 0; return how many are not."""
    n_missing = 0
    for i in range(pred.size):
        is_valid = abs(np.float64(pred[i])) + abs(np.float64(ref[i])) < np.inf
        n_missing += not is_valid
        weight[i] = np.float64(is_valid)
    return n_missing


@njit(nogil=True, cache=True)
def _load(pred, ref, row):  # type: ignore[no-untyped-def]
    """Start windows of one pixel: count, sums, no spread. Returns whether all are valid."""
    count, sum_pred, sum_ref = row[0], row[1], row[2]
    n_missing = _valid(pred, ref, count)
    for i in range(pred.size):
        sum_pred[i] = np.float64(pred[i]) if count[i] > 0.0 else 0.0
    for i in range(pred.size):
        sum_ref[i] = np.float64(ref[i]) if count[i] > 0.0 else 0.0
    row[3:] = 0.0
    return n_missing == 0


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def _merge_full(a, b, start, out, n, na, nb):  # type: ignore[no-untyped-def]
    """Merge rows of windows without gaps, of `na` and `nb` pixels; `b` from column `start`."""
    weight = 1.0 / (na * nb * (na + nb))
    end = start + n
    a1, a2, a3, a4 = a[1][:n], a[2][:n], a[3][:n], a[4][:n]
    b1, b2, b3, b4 = b[1][start:end], b[2][start:end], b[3][start:end], b[4][start:end]
    o1, o2, o3, o4 = out[1][:n], out[2][:n], out[3][:n], out[4][:n]
    for i in range(n):
        dx, dy = a1[i] * nb - b1[i] * na, a2[i] * nb - b2[i] * na
        o3[i] = a3[i] + b3[i] + (dx * dx + dy * dy) * weight
    for i in range(n):
        dx, dy = a1[i] * nb - b1[i] * na, a2[i] * nb - b2[i] * na
        o4[i] = a4[i] + b4[i] + dx * dy * weight
    for i in range(n):
        o1[i] = a1[i] + b1[i]
    for i in range(n):
        o2[i] = a2[i] + b2[i]


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def _merge_gappy(a, b, start, out, n):  # type: ignore[no-untyped-def]
    """Merge rows of windows with gaps; `b` from column `start`."""
    end = start + n
    a0, a1, a2, a3, a4 = a[0][:n], a[1][:n], a[2][:n], a[3][:n], a[4][:n]
    b0, b1, b2 = b[0][start:end], b[1][start:end], b[2][start:end]
    b3, b4 = b[3][start:end], b[4][start:end]
    o0, o1, o2, o3, o4 = out[0][:n], out[1][:n], out[2][:n], out[3][:n], out[4][:n]
    for i in range(n):
        weight = 1.0 / max(a0[i] * b0[i] * (a0[i] + b0[i]), 1.0)
        dx, dy = a1[i] * b0[i] - b1[i] * a0[i], a2[i] * b0[i] - b2[i] * a0[i]
        o3[i] = a3[i] + b3[i] + (dx * dx + dy * dy) * weight
    for i in range(n):
        weight = 1.0 / max(a0[i] * b0[i] * (a0[i] + b0[i]), 1.0)
        dx, dy = a1[i] * b0[i] - b1[i] * a0[i], a2[i] * b0[i] - b2[i] * a0[i]
        o4[i] = a4[i] + b4[i] + dx * dy * weight
    for i in range(n):
        o0[i] = a0[i] + b0[i]
    for i in range(n):
        o1[i] = a1[i] + b1[i]
    for i in range(n):
        o2[i] = a2[i] + b2[i]


@njit(nogil=True, cache=True)
def _grow_rows(held, other, sums, shape, size, is_complete):  # type: ignore[no-untyped-def]
    """Grow windows along y from one to `size` rows, by doubling; the result is in `sums`."""
    n_out, n = shape
    n_rows, level, filled = n_out + size - 1, 1, 0
    while True:
        if size & level:
            for j in range(n_out):
                if filled == 0:
                    sums[j] = held[j]
                elif is_complete:
                    _merge_full(sums[j], held[filled + j], 0, sums[j], n, filled, level)
                else:
                    _merge_gappy(sums[j], held[filled + j], 0, sums[j], n)
            filled += level
        if filled == size:
            return
        n_rows -= level
        for j in range(n_rows):
            if is_complete:
                _merge_full(held[j], held[j + level], 0, other[j], n, level, level)
            else:
                _merge_gappy(held[j], held[j + level], 0, other[j], n)
        held, other = other, held
        level *= 2


@njit(nogil=True, cache=True)
def _grow_columns(held, other, sums, n_out, size, is_complete):  # type: ignore[no-untyped-def]
    """Grow windows of `size` rows along x from one to `size` columns, for one row of windows."""
    n, level, filled = n_out + size - 1, 1, 0
    while True:
        if size & level:
            if filled == 0:
                sums[:, :n_out] = held[:, :n_out]
            elif is_complete:
                _merge_full(sums, held, filled, sums, n_out, filled * size, level * size)
            else:
                _merge_gappy(sums, held, filled, sums, n_out)
            filled += level
        if filled == size:
            return
        n -= level
        if is_complete:
            _merge_full(held, held, level, other, n, level * size, level * size)
        else:
            _merge_gappy(held, held, level, other, n)
        held, other = other, held
        level *= 2


@njit(nogil=True, cache=True, error_model="numpy")
def uniform_windows(
    pred: FloatArray,
    ref: FloatArray,
    codes: IntArray,
    n_groups: int,
    size: int,
    c1: float,
    c2: float,
    min_valid: float,
) -> Float64Array:
    """Sum the similarity of square windows of equal weights, at all positions inside the image.

    Parameters
    ----------
    pred, ref : (image, y, x) float array
        Reflectance [1]; NaN marks a missing pixel.
    codes : (image or 1, y or 1, x or 1) int array
        Group of each pixel; a window belongs to the group of its pixel ``size // 2``.
    n_groups : int
        Number of groups.
    size : int
        Side of the window [pixel].
    c1, c2 : float
        Constants of SSIM [1]; both 0 for UIQI.
    min_valid : float
        Least valid share of a window [1].

    Returns
    -------
    (image, group, 2) float64 array
        Count of windows and sum of the index.
    """
    n_images, n_y, n_x = pred.shape
    total = np.zeros((n_images, n_groups, 2))
    out_y, out_x = n_y - size + 1, n_x - size + 1
    if out_y <= 0 or out_x <= 0:
        return total
    high, wide = min(_ROWS, out_y) + size - 1, min(_COLUMNS, out_x) + size - 1
    held, other = np.zeros((high, 5, wide)), np.zeros((high, 5, wide))
    column, spare, sums = np.zeros((high, 5, wide)), np.zeros((5, wide)), np.zeros((5, wide))
    n_full = float(size * size)
    for k in range(n_images):
        code = codes[k % codes.shape[0]]
        for top in range(0, out_y, _ROWS):
            rows = min(_ROWS, out_y - top)
            for left in range(0, out_x, _COLUMNS):
                columns = min(_COLUMNS, out_x - left)
                end = left + columns + size - 1
                is_complete = True
                for j in range(rows + size - 1):
                    x, y = pred[k, top + j][left:end], ref[k, top + j][left:end]
                    is_complete &= _load(x, y, held[j])
                _grow_rows(held, other, column, (rows, end - left), size, is_complete)
                for j in range(rows):
                    _grow_columns(column[j], spare, sums, columns, size, is_complete)
                    if is_complete:
                        sums[0] = n_full
                    place = (top + j + size // 2, left + size // 2)
                    least = max(min_valid * n_full, 1.0)
                    _accumulate(sums, columns, code, place, least, (c1, c2), total[k])
    return total


@njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def _similarity(sums, n, constants, value):  # type: ignore[no-untyped-def]
    """Index of a row of windows; where both are flat and have no structure, of their means."""
    c1, c2 = constants
    count, sum_pred, sum_ref = sums[0][:n], sums[1][:n], sums[2][:n]
    spread, joint = sums[3][:n], sums[4][:n]
    is_bare = c2 == 0.0
    for i in range(n):
        inverse = 1.0 / max(count[i], 1e-300)
        x, y, v = sum_pred[i] * inverse, sum_ref[i] * inverse, spread[i] * inverse
        squares = x * x + y * y
        is_flat = (v <= FLAT * squares) & is_bare
        structure = (2.0 * joint[i] * inverse + c2) / (1.0 if is_flat else v + c2)
        is_dark = squares + c1 == 0.0
        light = (2.0 * x * y + c1) / (1.0 if is_dark else squares + c1)
        value[i] = (1.0 if is_flat else structure) * (1.0 if is_dark else light)


@njit(nogil=True, cache=True)
def _accumulate(sums, n, code, place, least, constants, total):  # type: ignore[no-untyped-def]
    """Add the similarity of a row of windows, held as counts, sums and centred sums."""
    value = np.empty(n)
    _similarity(sums, n, constants, value)
    y, x = place
    is_single = code.size == 1
    for i in range(n):
        g = code[0, 0] if is_single else code[y, x + i]
        if g >= 0 and sums[0, i] >= least:
            total[g, 0] += 1.0
            total[g, 1] += value[i]


@njit(nogil=True, cache=True)
def _products(pred, ref, field):  # type: ignore[no-untyped-def]
    """Weight, values, sum of squares and product of a row; returns whether all are valid."""
    weight, value_pred, value_ref = field[0], field[1], field[2]
    squares, product = field[3], field[4]
    n_missing = _valid(pred, ref, weight)
    for i in range(pred.size):
        value_pred[i] = np.float64(pred[i]) if weight[i] > 0.0 else 0.0
    for i in range(pred.size):
        value_ref[i] = np.float64(ref[i]) if weight[i] > 0.0 else 0.0
    for i in range(pred.size):
        squares[i] = value_pred[i] * value_pred[i] + value_ref[i] * value_ref[i]
    for i in range(pred.size):
        product[i] = value_pred[i] * value_ref[i]
    return n_missing == 0


@njit(nogil=True, cache=True, fastmath={"contract"})
def _add_scaled(total, row, weight):  # type: ignore[no-untyped-def]
    for i in range(total.size):
        total[i] += weight * row[i]


@njit(nogil=True, cache=True, error_model="numpy")
def gaussian_windows(
    pred: FloatArray,
    ref: FloatArray,
    codes: IntArray,
    n_groups: int,
    taps: Float64Array,
    c1: float,
    c2: float,
    min_valid: float,
) -> Float64Array:
    """Sum the similarity of separably weighted windows, at all positions inside the image.

    Parameters
    ----------
    pred, ref : (image, y, x) float array
        Reflectance [1]; NaN marks a missing pixel.
    codes : (image or 1, y or 1, x or 1) int array
        Group of each pixel; a window belongs to the group of its central pixel.
    n_groups : int
        Number of groups.
    taps : (size,) float64 array
        Weights along each axis, summing to one.
    c1, c2 : float
        Constants of SSIM [1].
    min_valid : float
        Least valid share of a window's weight [1].

    Returns
    -------
    (image, group, 2) float64 array
        Count of windows and sum of the index.
    """
    n_images, n_y, n_x = pred.shape
    size = taps.size
    total = np.zeros((n_images, n_groups, 2))
    out_y, out_x = n_y - size + 1, n_x - size + 1
    if out_y <= 0 or out_x <= 0:
        return total
    ring = np.zeros((size, 5, n_x))
    complete = np.zeros(size, np.bool_)
    column, sums = np.zeros((5, n_x)), np.zeros((5, out_x))
    for k in range(n_images):
        code = codes[k % codes.shape[0]]
        for j in range(n_y):
            complete[j % size] = _products(pred[k, j], ref[k, j], ring[j % size])
            top = j - size + 1
            if top < 0:
                continue
            is_complete = np.all(complete)
            column[:], sums[:] = 0.0, 0.0
            for q in range(1 if is_complete else 0, 5):
                for t in range(size):
                    _add_scaled(column[q], ring[(top + t) % size, q], taps[t])
                for t in range(size):
                    _add_scaled(sums[q], column[q][t : t + out_x], taps[t])
            if is_complete:
                sums[0] = 1.0
            _centre(sums, out_x)
            place = (top + size // 2, size // 2)
            least = max(min_valid, 1e-9)
            _accumulate(sums, out_x, code, place, least, (c1, c2), total[k])
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def _centre(sums, n):  # type: ignore[no-untyped-def]
    """Turn weighted raw sums into weighted centred sums, in place."""
    for i in range(n):
        weight = max(sums[0, i], 1e-300)
        x, y = sums[1, i] / weight, sums[2, i] / weight
        sums[3, i] = max(sums[3, i] - weight * (x * x + y * y), 0.0)
        sums[4, i] = sums[4, i] - weight * x * y
