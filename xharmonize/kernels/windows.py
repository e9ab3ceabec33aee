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

from xharmonize.kernels.threads import in_parts
from xharmonize.types import Float64Array, FloatArray, IntArray

FLAT = 1e-24
"""Variance over squared mean below which a window is flat: far below what data resolve, far above
rounding."""


@njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def _similarity(sums, n, least, constants, value):  # type: ignore[no-untyped-def]
    """Index of a row of windows, zero where too few pixels are valid; returns how many count.

    Where both images are flat and nothing stands for their structure, their means are compared.
    """
    c1, c2 = constants
    count, sum_pred, sum_ref = sums[0][:n], sums[1][:n], sums[2][:n]
    spread, joint = sums[3][:n], sums[4][:n]
    is_bare, n_counted = c2 == 0.0, 0
    for i in range(n):
        is_counted = count[i] >= least
        inverse = 1.0 / (count[i] if is_counted else 1.0)
        x, y, v = sum_pred[i] * inverse, sum_ref[i] * inverse, spread[i] * inverse
        squares = x * x + y * y
        is_flat, is_dark = (v <= FLAT * squares) & is_bare, squares + c1 == 0.0
        above = 1.0 if is_dark else 2.0 * x * y + c1
        above *= 1.0 if is_flat else 2.0 * joint[i] * inverse + c2
        below = (1.0 if is_dark else squares + c1) * (1.0 if is_flat else v + c2)
        value[i] = above / below if is_counted else 0.0
        n_counted += is_counted
    return n_counted


@njit(nogil=True, cache=True, fastmath={"reassoc"})
def _sum(values):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(values.size):
        total += values[i]
    return total


@njit(nogil=True, cache=True)
def accumulate(sums, n, code, place, least, constants, total):  # type: ignore[no-untyped-def]
    """Add the similarity of a row of windows, held as counts, sums and centred sums."""
    value = np.empty(n)
    n_counted = _similarity(sums, n, least, constants, value)
    y, x = place
    if code.size == 1:
        if code[0, 0] >= 0:
            total[code[0, 0], 0] += n_counted
            total[code[0, 0], 1] += _sum(value)
        return
    for i in range(n):
        g = code[y, x + i]
        if g >= 0 and sums[0, i] >= least:
            total[g, 0] += 1.0
            total[g, 1] += value[i]


# Loops below write one array each: with more, the compiler's checks for overlap outgrow its limit
# and it makes no vectors of them.

_COLUMNS = 512  # windows side by side whose moments are found together, in the second cache


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
    """Start windows of one pixel; returns whether all are valid.

    A row of windows holds their count, sums of x + y and of x - y, and the centred squares of
    both: these two merge apart from each other, and are exactly zero where x equals y.
    """
    count, total, difference = row[0], row[1], row[2]
    n_missing = _valid(pred, ref, count)
    for i in range(pred.size):
        value = np.float64(pred[i]) + np.float64(ref[i])
        total[i] = value if count[i] > 0.0 else 0.0
    for i in range(pred.size):
        value = np.float64(pred[i]) - np.float64(ref[i])
        difference[i] = value if count[i] > 0.0 else 0.0
    row[3:] = 0.0
    return n_missing == 0


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def _merge_full(a, b, start, out, n, na, nb):  # type: ignore[no-untyped-def]
    """Merge rows of windows without gaps, of `na` and `nb` pixels; `b` from column `start`."""
    weight = 1.0 / (na * nb * (na + nb))
    for k in range(1, 3):
        sum_a, sum_b, total = a[k][:n], b[k][start : start + n], out[k][:n]
        square_a, square_b, square = a[k + 2][:n], b[k + 2][start : start + n], out[k + 2][:n]
        for i in range(n):
            step = sum_a[i] * nb - sum_b[i] * na
            square[i] = square_a[i] + square_b[i] + step * step * weight
        for i in range(n):
            total[i] = sum_a[i] + sum_b[i]


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def _merge_gappy(a, b, start, out, n):  # type: ignore[no-untyped-def]
    """Merge rows of windows with gaps; `b` from column `start`."""
    count_a, count_b, count = a[0][:n], b[0][start : start + n], out[0][:n]
    for k in range(1, 3):
        sum_a, sum_b, total = a[k][:n], b[k][start : start + n], out[k][:n]
        square_a, square_b, square = a[k + 2][:n], b[k + 2][start : start + n], out[k + 2][:n]
        for i in range(n):
            na, nb = count_a[i], count_b[i]
            step = sum_a[i] * nb - sum_b[i] * na
            weight = 1.0 / max(na * nb * (na + nb), 1.0)
            square[i] = square_a[i] + square_b[i] + step * step * weight
        for i in range(n):
            total[i] = sum_a[i] + sum_b[i]
    for i in range(n):
        count[i] = count_a[i] + count_b[i]


@njit(nogil=True, cache=True)
def _copy(source, n, target):  # type: ignore[no-untyped-def]
    """Copy `n` columns of rows of windows. Slices would compile ten times as long (numba)."""
    for k in range(source.shape[0]):
        for i in range(n):
            target[k, i] = source[k, i]


@njit(nogil=True, cache=True)
def _depths(size):  # type: ignore[no-untyped-def]
    """Where the rings of windows 1, 2, 4, … rows high begin, and how many rows each keeps."""
    n_levels = 1
    while 2**n_levels <= size:
        n_levels += 1
    start, depth = np.zeros(n_levels, np.int64), np.zeros(n_levels, np.int64)
    filled = 0
    for k in range(n_levels):
        high = 2**k
        depth[k] = 1 + max(high, size - high - filled if size & high else 0)
        if k > 0:
            start[k] = start[k - 1] + depth[k - 1]
        filled += size & high
    return start, depth


@njit(nogil=True, cache=True)
def _merge(ring, whole, a, b, out, high, n):  # type: ignore[no-untyped-def]
    """Merge two rows of windows, `high` pixels each of them; tells whether both have no gaps."""
    if whole[a] and whole[b]:
        _merge_full(ring[a], ring[b], np.int64(0), ring[out], n, high[0], high[1])
        return True
    for place, count in ((a, high[0]), (b, high[1])):
        if whole[place]:
            ring[place, 0] = count
    _merge_gappy(ring[a], ring[b], np.int64(0), ring[out], n)
    return False


@njit(nogil=True, cache=True)
def _grow_rows(ring, whole, start, depth, j, size, n):  # type: ignore[no-untyped-def]
    """Take in row `j`, which is in the first ring; returns where windows `size` rows high are.

    Windows of 2, 4, 8, … rows that end in this row are made of two half as high. The result is
    the highest of them, or a sum of some; -1 where the image began less than `size` rows ago.
    """
    for k in range(1, start.size):
        half, first = 2 ** (k - 1), j - 2**k + 1
        if first < 0:
            break
        a = start[k - 1] + first % depth[k - 1]
        b = start[k - 1] + (first + half) % depth[k - 1]
        out = start[k] + first % depth[k]
        whole[out] = _merge(ring, whole, a, b, out, (half, half), n)
    # Not the literals 0 and 1, here and above: numba would compile what they are given to again.
    first, filled, last = j - size + 1, np.int64(0), whole.size - 1
    if first < 0:
        return -1
    for k in range(start.size):
        if not size & 2**k:
            continue
        part = start[k] + (first + filled) % depth[k]
        if size == 2**k:
            return part
        if filled == 0:
            _copy(ring[part], n, ring[last])
            whole[last] = whole[part]
        else:
            whole[last] = _merge(ring, whole, last, part, last, (filled, 2**k), n)
        filled += 2**k
    return last


@njit(nogil=True, cache=True)
def _grow_columns(held, other, sums, n_out, size, is_complete):  # type: ignore[no-untyped-def]
    """Grow windows of `size` rows along x from one to `size` columns, for one row of windows."""
    n, level, filled = n_out + size - 1, np.int64(1), np.int64(0)
    while level != size:
        if size & level:
            if filled == 0:
                _copy(held, n_out, sums)
            elif is_complete:
                _merge_full(sums, held, filled, sums, n_out, filled * size, level * size)
            else:
                _merge_gappy(sums, held, filled, sums, n_out)
            filled += level
        if filled == size:
            return sums
        n -= level
        if is_complete:
            _merge_full(held, held, level, other, n, level * size, level * size)
        else:
            _merge_gappy(held, held, level, other, n)
        held, other = other, held
        level *= 2
    return held


@njit(nogil=True, cache=True)
def _unmix(grown, n, sums):  # type: ignore[no-untyped-def]
    """Sums and centred squares of x and y from those of x + y and x - y."""
    both, apart, square, square_apart = grown[1][:n], grown[2][:n], grown[3][:n], grown[4][:n]
    sum_pred, sum_ref, spread, joint = sums[1][:n], sums[2][:n], sums[3][:n], sums[4][:n]
    for i in range(n):
        sum_pred[i] = 0.5 * (both[i] + apart[i])
    for i in range(n):
        sum_ref[i] = 0.5 * (both[i] - apart[i])
    for i in range(n):
        spread[i] = 0.5 * (square[i] + square_apart[i])
    for i in range(n):
        joint[i] = 0.25 * (square[i] - square_apart[i])


@njit(nogil=True, cache=True, error_model="numpy")
def _uniform_windows(pred, ref, codes, n_groups, size, c1, c2, min_valid):  # type: ignore[no-untyped-def]
    """Do the work of `uniform_windows`."""
    n_images, n_y, n_x = pred.shape
    total = np.zeros((n_images, n_groups, 2))
    out_y, out_x = n_y - size + 1, n_x - size + 1
    if out_y <= 0 or out_x <= 0:
        return total
    wide = min(_COLUMNS, out_x) + size - 1
    start, depth = _depths(size)
    ring, whole = np.zeros((depth.sum() + 1, 5, wide)), np.zeros(depth.sum() + 1, np.bool_)
    spare, sums, final = np.zeros((5, wide)), np.zeros((5, wide)), np.zeros((5, wide))
    n_full = float(size * size)
    for k in range(n_images):
        code = codes[k % codes.shape[0]]
        for left in range(0, out_x, _COLUMNS):
            columns = min(_COLUMNS, out_x - left)
            end = left + columns + size - 1
            for j in range(n_y):
                place = j % depth[0]
                whole[place] = _load(pred[k, j][left:end], ref[k, j][left:end], ring[place])
                tall = _grow_rows(ring, whole, start, depth, j, size, end - left)
                if tall < 0:
                    continue
                grown = _grow_columns(ring[tall], spare, sums, columns, size, whole[tall])
                final[0] = n_full
                if not whole[tall]:
                    _copy(grown[:1], columns, final)
                _unmix(grown, columns, final)
                middle = (j - size + 1 + size // 2, left + size // 2)
                least = max(min_valid * n_full, 1.0)
                accumulate(final, columns, code, middle, least, (c1, c2), total[k])
    return total


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

    def index(part: slice) -> Float64Array:
        images = (pred[part], ref[part], _codes_of(codes, part))
        return np.asarray(_uniform_windows(*images, n_groups, size, c1, c2, min_valid))

    return in_parts(index, len(pred), n_values=pred.size)


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
def _add_four(total, rows, weights):  # type: ignore[no-untyped-def]
    """Add four weighted rows: `total` is read and written once, not four times."""
    (a, b, c, d), (p, q, r, s) = rows, weights
    for i in range(total.size):
        total[i] = total[i] + p * a[i] + q * b[i] + r * c[i] + s * d[i]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _add_along(total, row, weights):  # type: ignore[no-untyped-def]
    """Add a row four times, weighted, each time from the next pixel on."""
    p, q, r, s = weights
    for i in range(total.size):
        total[i] = total[i] + p * row[i] + q * row[i + 1] + r * row[i + 2] + s * row[i + 3]


@njit(nogil=True, cache=True, error_model="numpy")
def _gaussian_windows(pred, ref, codes, n_groups, taps, c1, c2, min_valid):  # type: ignore[no-untyped-def]
    """Do the work of `gaussian_windows`."""
    n_images, n_y, n_x = pred.shape
    size = taps.size
    total = np.zeros((n_images, n_groups, 2))
    out_y, out_x = n_y - size + 1, n_x - size + 1
    if out_y <= 0 or out_x <= 0:
        return total
    ring = np.zeros((size, 5, n_x))
    complete = np.zeros(size, np.bool_)
    # Taps and columns beyond the window have no weight: they fill the last four up.
    column, sums, four_taps = np.zeros((5, n_x + 3)), np.zeros((5, out_x)), np.zeros(size + 3)
    four_taps[:size] = taps
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
                for t in range(0, size, 4):
                    four = (four_taps[t], four_taps[t + 1], four_taps[t + 2], four_taps[t + 3])
                    a, b = ring[(top + t) % size, q], ring[(top + t + 1) % size, q]
                    c, d = ring[(top + t + 2) % size, q], ring[(top + t + 3) % size, q]
                    _add_four(column[q][:n_x], (a, b, c, d), four)
                for t in range(0, size, 4):
                    four = (four_taps[t], four_taps[t + 1], four_taps[t + 2], four_taps[t + 3])
                    _add_along(sums[q], column[q][t:], four)
            if is_complete:
                sums[0] = 1.0
            _centre(sums, out_x)
            place = (top + size // 2, size // 2)
            least = max(min_valid, 1e-9)
            accumulate(sums, out_x, code, place, least, (c1, c2), total[k])
    return total


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

    def index(part: slice) -> Float64Array:
        images = (pred[part], ref[part], _codes_of(codes, part))
        return np.asarray(_gaussian_windows(*images, n_groups, taps, c1, c2, min_valid))

    return in_parts(index, len(pred), n_values=pred.size)


def _codes_of(codes: IntArray, part: slice) -> IntArray:
    """Groups of the pixels of some images: one image of them serves all."""
    return codes[part] if len(codes) > 1 else codes


@njit(nogil=True, cache=True, error_model="numpy")
def _centre(sums, n):  # type: ignore[no-untyped-def]
    """Turn weighted raw sums into weighted centred sums, in place."""
    for i in range(n):
        weight = max(sums[0, i], 1e-300)
        x, y = sums[1, i] / weight, sums[2, i] / weight
        sums[3, i] = max(sums[3, i] - weight * (x * x + y * y), 0.0)
        sums[4, i] = sums[4, i] - weight * x * y
