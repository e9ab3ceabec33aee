"""Statistics of two images that add over parts, in one pass over the pixels; spectral angles.

Means and centred second moments, not raw sums of squares: a row of moments holds the count, the
two means, the two sums of squared deviations and the sum of their products, and two rows merge by
the formula of Chan, Golub and LeVeque (1983). Variances of nearly flat data stay right, and the
statistics of parts merge into those of the whole.

References
----------
Chan, T. F., Golub, G. H. and LeVeque, R. J. (1983). Algorithms for computing the sample variance:
analysis and recommendations. The American Statistician 37(3), 242-247.
doi:10.1080/00031305.1983.10483115
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from xharmonize.kernels.threads import in_parts
from xharmonize.types import BoolArray, Float64Array, FloatArray, IntArray

MOMENTS = (
    "n",
    "mean_pred",
    "mean_ref",
    "m2_pred",
    "m2_ref",
    "co_moment",
    "sse",
    "sae",
    "sum_relative",
    "n_relative",
    "sum_abs_ref",
)
"""A row of moments: count, means [1], centred sums [1], sum of squared and of absolute errors [1],
sum and count of errors relative to a reference that is not zero, sum of the absolute reference."""

N, MEAN_PRED, MEAN_REF, M2_PRED, M2_REF, CO, SSE, SAE, RELATIVE, N_RELATIVE, ABS_REF = range(11)
N_FIELDS = len(MOMENTS)

ERROR_SUMS = ("n", "sse", "sse_baseline")
"""Count and sums of squared errors where prediction, baseline and reference are all there."""

_RUN = 4096  # pixels summed about one shift, before the run is merged


@njit(nogil=True, cache=True, inline="always")
def _merge_into(total, part):  # type: ignore[no-untyped-def]
    """Add a row of moments to another, in place."""
    n = total[N] + part[N]
    if part[N] == 0.0:
        return
    step_pred = part[MEAN_PRED] - total[MEAN_PRED]
    step_ref = part[MEAN_REF] - total[MEAN_REF]
    share = part[N] / n
    weight = total[N] * share
    total[M2_PRED] += part[M2_PRED] + step_pred * step_pred * weight
    total[M2_REF] += part[M2_REF] + step_ref * step_ref * weight
    total[CO] += part[CO] + step_pred * step_ref * weight
    total[MEAN_PRED] += step_pred * share
    total[MEAN_REF] += step_ref * share
    total[N] = n
    for k in range(SSE, N_FIELDS):
        total[k] += part[k]


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"}, error_model="numpy")
def _sum_run(pred, ref, shift_pred, shift_ref, sums):  # type: ignore[no-untyped-def]
    """Sums of one run about a shift.

    Without branches, and with integer counts, so that the compiler makes vectors of it: a missing
    pixel becomes the shift itself and adds nothing.
    """
    n, n_relative = np.int64(0), np.int64(0)
    sx, sy, sxx, syy, sxy = 0.0, 0.0, 0.0, 0.0, 0.0
    sse, sae, relative, magnitude = 0.0, 0.0, 0.0, 0.0
    for i in range(pred.size):
        x, y = np.float64(pred[i]), np.float64(ref[i])
        is_valid = abs(x) + abs(y) < np.inf
        x, y = x if is_valid else shift_pred, y if is_valid else shift_ref
        dx, dy = x - shift_pred, y - shift_ref
        error, size = abs(x - y) * np.float64(is_valid), abs(y) * np.float64(is_valid)
        has_size = size > 0.0
        n += is_valid
        sx += dx
        sy += dy
        sxx += dx * dx
        syy += dy * dy
        sxy += dx * dy
        sse += error * error
        sae += error
        magnitude += size
        n_relative += has_size
        relative += error * np.float64(has_size) / (size if has_size else 1.0)
    found = (np.float64(n), sx, sy, sxx, syy, sxy, sse, sae, relative, np.float64(n_relative))
    for k in range(len(found)):
        sums[k] = found[k]
    sums[ABS_REF] = magnitude


@njit(nogil=True, cache=True, error_model="numpy")
def _centre(sums, shift_pred, shift_ref, row):  # type: ignore[no-untyped-def]
    """Turn sums about a shift into a row of moments."""
    n = sums[0]
    row[N] = n
    row[MEAN_PRED] = shift_pred + sums[1] / n
    row[MEAN_REF] = shift_ref + sums[2] / n
    row[M2_PRED] = max(sums[3] - sums[1] * sums[1] / n, 0.0)
    row[M2_REF] = max(sums[4] - sums[2] * sums[2] / n, 0.0)
    row[CO] = sums[5] - sums[1] * sums[2] / n
    for k in range(SSE, N_FIELDS):
        row[k] = sums[k]


@njit(nogil=True, cache=True)
def _first_valid(pred, ref):  # type: ignore[no-untyped-def]
    for i in range(pred.size):
        if np.isfinite(pred[i]) and np.isfinite(ref[i]):
            return i
    return -1


@njit(nogil=True, cache=True)
def _band_moments(pred, ref):  # type: ignore[no-untyped-def]
    """Do the work of `band_moments`."""
    n_rows, n_bands, n_pixels = pred.shape
    total = np.zeros((n_rows, n_bands, N_FIELDS))
    part, sums = np.zeros(N_FIELDS), np.zeros(N_FIELDS)
    for r in range(n_rows):
        for b in range(n_bands):
            for start in range(0, n_pixels, _RUN):
                # Part of a larger array: a run is copied, never the whole.
                x = np.ascontiguousarray(pred[r, b][start : start + _RUN])
                y = np.ascontiguousarray(ref[r, b][start : start + _RUN])
                first = _first_valid(x, y)
                if first >= 0:
                    shift_pred, shift_ref = np.float64(x[first]), np.float64(y[first])
                    _sum_run(x, y, shift_pred, shift_ref, sums)
                    _centre(sums, shift_pred, shift_ref, part)
                    _merge_into(total[r, b], part)
    return total


def band_moments(pred: FloatArray, ref: FloatArray) -> Float64Array:
    """Moments of a prediction and a reference, over pixels where both are finite.

    Parameters
    ----------
    pred, ref : (row, band, pixel) float array
        Reflectance [1]; NaN marks a missing pixel.

    Returns
    -------
    (row, band, 11) float64 array
        As `MOMENTS` names them; zeros where no pixel counts.
    """
    if len(pred) != 1:
        return in_parts(
            lambda part: np.asarray(_band_moments(pred[part], ref[part])),
            len(pred),
            n_values=pred.size,
        )
    # One row: its bands are independent too.
    bands = in_parts(
        lambda part: _band_moments(pred[:, part], ref[:, part])[0],
        pred.shape[1],
        n_values=pred.size,
    )
    return bands[None]


@njit(nogil=True, cache=True)
def grouped_moments(
    pred: FloatArray, ref: FloatArray, codes: IntArray, n_groups: int
) -> Float64Array:
    """Moments by group of pixels.

    Parameters
    ----------
    pred, ref : (row, band, pixel) float array
        Reflectance [1]; NaN marks a missing pixel.
    codes : (row or 1, pixel) int array
        Group of each pixel, from 0; a negative one belongs to none.
    n_groups : int
        Number of groups.

    Returns
    -------
    (row, group, band, 11) float64 array
        As `MOMENTS` names them.
    """
    n_rows, n_bands, n_pixels = pred.shape
    total = np.zeros((n_rows, n_groups, n_bands, N_FIELDS))
    shift = np.zeros((n_groups, 2))
    sums, part = np.zeros((n_groups, N_FIELDS)), np.zeros(N_FIELDS)
    for r in range(n_rows):
        code = codes[r % codes.shape[0]]
        for b in range(n_bands):
            sums[:] = 0.0
            for i in range(n_pixels):
                g = code[i]
                x, y = np.float64(pred[r, b, i]), np.float64(ref[r, b, i])
                if g < 0 or not abs(x) + abs(y) < np.inf:
                    continue
                s = sums[g]
                if s[0] == 0.0:
                    shift[g, 0], shift[g, 1] = x, y
                dx, dy, error, size = x - shift[g, 0], y - shift[g, 1], abs(x - y), abs(y)
                s[0] += 1.0
                s[1] += dx
                s[2] += dy
                s[3] += dx * dx
                s[4] += dy * dy
                s[5] += dx * dy
                s[6] += error * error
                s[7] += error
                if size > 0.0:
                    s[8] += error / size
                    s[9] += 1.0
                s[10] += size
                if s[0] == _RUN:
                    _centre(s, shift[g, 0], shift[g, 1], part)
                    _merge_into(total[r, g, b], part)
                    s[:] = 0.0
            for g in range(n_groups):
                if sums[g, 0] > 0.0:
                    _centre(sums[g], shift[g, 0], shift[g, 1], part)
                    _merge_into(total[r, g, b], part)
    return total


@njit(nogil=True, cache=True)
def baseline_errors(
    pred: FloatArray, ref: FloatArray, baseline: FloatArray, codes: IntArray, n_groups: int
) -> Float64Array:
    """Sum squared errors of a prediction and of a baseline over the pixels all three have.

    Parameters
    ----------
    pred, ref, baseline : (row, band, pixel) float array
        Reflectance [1]; NaN marks a missing pixel.
    codes : (row or 1, pixel) int array
        Group of each pixel, from 0; a negative one belongs to none. (1, 1) puts all in group 0.
    n_groups : int
        Number of groups.

    Returns
    -------
    (row, group, band, 3) float64 array
        As `ERROR_SUMS` names them.
    """
    n_rows, n_bands, n_pixels = pred.shape
    total = np.zeros((n_rows, n_groups, n_bands, 3))
    is_single = codes.shape[1] == 1 and n_pixels != 1
    for r in range(n_rows):
        code = codes[r % codes.shape[0]]
        for b in range(n_bands):
            for i in range(n_pixels):
                g = code[0] if is_single else code[i]
                y = np.float64(ref[r, b, i])
                error, other = np.float64(pred[r, b, i]) - y, np.float64(baseline[r, b, i]) - y
                if g >= 0 and abs(error) + abs(other) < np.inf:
                    total[r, g, b, 0] += 1.0
                    total[r, g, b, 1] += error * error
                    total[r, g, b, 2] += other * other
    return total


@njit(nogil=True, cache=True)
def count_classes(pred: IntArray, ref: IntArray, n_classes: int) -> IntArray:
    """Count pairs of class positions.

    Parameters
    ----------
    pred, ref : (pixel,) int array
        Position of the class, from 0; a negative one does not count.
    n_classes : int
        Number of classes.

    Returns
    -------
    (class, class) int64 array
        Rows: reference; columns: prediction.
    """
    total = np.zeros((n_classes, n_classes), np.int64)
    for i in range(pred.size):
        if pred[i] >= 0 and ref[i] >= 0:
            total[ref[i], pred[i]] += 1
    return total


def merge_moments(parts: Float64Array, axis: int | Sequence[int]) -> Float64Array:
    """Merge rows of moments along axes.

    Parameters
    ----------
    parts : (..., 11) float64 array
        Rows of moments, as `MOMENTS` names them.
    axis : int or sequence of int
        Axes to merge over; not the last one.

    Returns
    -------
    (..., 11) float64 array
        The merged rows, their axes gone.
    """
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    total = parts.sum(axis=axes, keepdims=True)
    n = parts[..., N]
    n_total = np.maximum(total[..., N], 1.0)
    deviation = {}
    for k in (MEAN_PRED, MEAN_REF):
        # About the largest of the means, so that parts of one mean have no spread at all.
        shift = np.where(n > 0, parts[..., k], -np.inf).max(axis=axes, keepdims=True)
        shift = np.where(total[..., N] > 0, shift, 0.0)
        step = np.where(n > 0, parts[..., k] - shift, 0.0)
        mean = (n * step).sum(axis=axes, keepdims=True) / n_total
        total[..., k], deviation[k] = shift + mean, step - mean
    pred, ref = deviation[MEAN_PRED], deviation[MEAN_REF]
    for k, product in ((M2_PRED, pred * pred), (M2_REF, ref * ref), (CO, pred * ref)):
        total[..., k] += (n * product).sum(axis=axes, keepdims=True)
    return np.asarray(np.squeeze(total, axis=axes))


def merge_rows(
    parts: Float64Array, axis: int | Sequence[int], is_moments: BoolArray
) -> Float64Array:
    """Merge a table of statistics: rows of moments by Chan's formula, others as plain sums.

    Parameters
    ----------
    parts : (..., row, 11) float64 array
        Statistics of parts; rows shorter than 11 are filled with zeros.
    axis : int or sequence of int
        Axes to merge over; none of the last two.
    is_moments : (row,) bool array
        Which rows hold moments.
    """
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    total = np.asarray(parts.sum(axis=axes))
    if is_moments.any():
        total[..., is_moments, :] = merge_moments(parts[..., is_moments, :], axes)
    return total


ANGLE_SUMS = ("n", "sum_angle")
"""Count of pixels and sum of spectral angles [rad]."""

_STRIP = 512  # pixels whose angles are found together; the work arrays stay in the first cache

# atan(z) / z as a polynomial in z², z up to tan(pi / 8): interpolation at Chebyshev nodes, error
# below 2e-16.
_ATAN = (
    1.0,
    -0.33333333333329157,
    0.1999999999911208,
    -0.1428571420777029,
    0.11111107497870452,
    -0.09090809690204726,
    0.07690580681678623,
    -0.0664711247583079,
    0.05736848139736085,
    -0.045608774214060045,
    0.026427134253238102,
    -0.005695171406740659,
)


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"}, error_model="numpy")
def _angles(pred, ref, start, stop, work, angle):  # type: ignore[no-untyped-def]
    """Angles [rad] of a strip of pixels; NaN where a band is missing or a vector is zero.

    Kahan's form, 2 atan(|a/|a| - b/|b|| / |a/|a| + b/|b||), is right for small angles too, where
    the arc cosine loses half the digits.
    """
    size = stop - start
    norm_pred, norm_ref, apart, along = work[0], work[1], work[2], work[3]
    work[:] = 0.0
    for b in range(pred.shape[0]):
        first = np.ascontiguousarray(pred[b][start:stop])
        second = np.ascontiguousarray(ref[b][start:stop])
        for i in range(size):
            x, y = np.float64(first[i]), np.float64(second[i])
            norm_pred[i] += x * x
            norm_ref[i] += y * y
    for i in range(size):
        norm_pred[i], norm_ref[i] = np.sqrt(norm_pred[i]), np.sqrt(norm_ref[i])
    for b in range(pred.shape[0]):
        first = np.ascontiguousarray(pred[b][start:stop])
        second = np.ascontiguousarray(ref[b][start:stop])
        for i in range(size):
            x, y = np.float64(first[i]) * norm_ref[i], np.float64(second[i]) * norm_pred[i]
            apart[i] += (x - y) * (x - y)
            along[i] += (x + y) * (x + y)
    _half_angles(norm_pred, norm_ref, apart, along, angle)


@njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def _half_angles(norm_pred, norm_ref, apart, along, angle):  # type: ignore[no-untyped-def]
    """Twice the arc tangent of sqrt(apart / along), by a polynomial on a reduced argument."""
    a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11 = _ATAN
    for i in range(angle.size):
        is_obtuse = apart[i] > along[i]
        low, high = min(apart[i], along[i]), max(apart[i], along[i])
        ratio = np.sqrt(low / high)
        is_steep = ratio > 0.4142135623730951
        z = (ratio - 1.0) / (ratio + 1.0) if is_steep else ratio
        u = z * z
        p = a6 + u * (a7 + u * (a8 + u * (a9 + u * (a10 + u * a11))))
        p = a0 + u * (a1 + u * (a2 + u * (a3 + u * (a4 + u * (a5 + u * p)))))
        half = z * p + (0.25 * np.pi if is_steep else 0.0)
        half = 0.5 * np.pi - half if is_obtuse else half
        norm = norm_pred[i] * norm_ref[i]
        angle[i] = 2.0 * half if (norm > 0.0) & (norm < np.inf) else np.nan


@njit(nogil=True, cache=True, fastmath={"reassoc"})
def _add_valid(values, total):  # type: ignore[no-untyped-def]
    """Add count and sum of the values that are there to (2,), as vectors."""
    n, found = np.int64(0), 0.0
    for i in range(values.size):
        is_valid = values[i] == values[i]
        n += is_valid
        found += values[i] if is_valid else 0.0
    total[0] += n
    total[1] += found


@njit(nogil=True, cache=True)
def _spectral_angles(pred, ref, codes, n_groups, starts, size):  # type: ignore[no-untyped-def]
    """Do the work of `spectral_angles` for parts of `size` pixels, (part, row, group, 2)."""
    n_rows, _, n_pixels = pred.shape
    total = np.zeros((starts.size, n_rows, n_groups, 2))
    work, angle = np.zeros((4, _STRIP)), np.zeros(_STRIP)
    is_single = codes.shape[1] == 1 and n_pixels != 1
    for k in range(starts.size):
        end = min(starts[k] + size, n_pixels)
        for r in range(n_rows):
            code = codes[r % codes.shape[0]]
            for start in range(starts[k], end, _STRIP):
                stop = min(start + _STRIP, end)
                _angles(pred[r], ref[r], start, stop, work, angle)
                if is_single:
                    if code[0] >= 0:
                        _add_valid(angle[: stop - start], total[k, r, code[0]])
                    continue
                for i in range(stop - start):
                    g = code[start + i]
                    if g >= 0 and angle[i] == angle[i]:
                        total[k, r, g, 0] += 1.0
                        total[k, r, g, 1] += angle[i]
    return total


def spectral_angles(
    pred: FloatArray, ref: FloatArray, codes: IntArray, n_groups: int
) -> Float64Array:
    """Sum the spectral angles of pixels.

    A pixel counts where all bands are finite in both and neither vector is zero.

    Parameters
    ----------
    pred, ref : (row, band, pixel) float array
        Reflectance [1]; NaN marks a missing pixel.
    codes : (row or 1, pixel) int array
        Group of each pixel, from 0; a negative one belongs to none. (1, 1) puts all in group 0.
    n_groups : int
        Number of groups.

    Returns
    -------
    (row, group, 2) float64 array
        Count of pixels and sum of angles [rad].

    References
    ----------
    Kahan, W. (2006). How futile are mindless assessments of roundoff in floating-point
    computation? Section 12.
    """
    n_pixels = pred.shape[2]
    # Parts depend on the pixels alone, so that sums do not depend on the number of threads.
    size = _STRIP * max(128, -(-n_pixels // (64 * _STRIP)))
    starts = np.arange(0, n_pixels, size)
    sums = in_parts(
        lambda part: _spectral_angles(pred, ref, codes, n_groups, starts[part], size),
        len(starts),
        n_values=pred.size,
    )
    return np.asarray(sums.sum(axis=0))
