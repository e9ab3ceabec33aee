"""Robust and penalised least squares with neighbouring pixels as predictors.

As in `xharmonize.kernels.regression`, fits are formulas on sums that add over chunks. A Huber loss
needs weights, so its sums are taken again with the weights of the last solution until they stay.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from xharmonize.types import Float64Array, FloatArray, IntArray

TERMS = ("value", "mean", "dx", "dy")
"""Predictors made of one band: the pixel, the mean of 3 x 3, half the difference of the pixels to
its right and left, and of those below and above."""

BINS = 4096
_LOWEST, _DECADES = 1e-7, 8.0  # residuals are counted from 1e-7 to 10
_RUN = 4096  # pixels summed before the partial sum is added: keeps rounding errors small
_NORMAL = 0.6744897501960817  # median of |x| of a standard normal x


@njit(nogil=True, cache=True)
def huber_moments(
    predictors: FloatArray,
    target: FloatArray,
    matrix: Float64Array,
    intercept: Float64Array,
    reach: Float64Array,
) -> tuple[Float64Array, IntArray]:
    """Sum products of (1, predictors, one target band) with Huber's weights of a solution.

    Parameters
    ----------
    predictors : (predictor, pixel) float array
        A pixel counts where all predictors and all target bands are finite.
    target : (band, pixel) float array
        Reflectance [1], or its logarithm.
    matrix : (band, predictor) float64 array
        Coefficients of the solution.
    intercept, reach : (band,) float64 array
        Its intercept, and the residual above which the weight falls as ``reach / |residual|``.

    Returns
    -------
    moments : (band, predictor + 2, predictor + 2) float64 array
        Symmetric; the first entry is the sum of weights.
    counts : (band, BINS) int64 array
        Number of pixels by their absolute residual, in logarithmic bins.
    """
    n_predictors, n_pixels = predictors.shape
    n_bands, size = target.shape[0], predictors.shape[0] + 2
    total = np.zeros((n_bands, size, size))
    counts = np.zeros((n_bands, BINS), np.int64)
    row = np.ones(size)
    for start in range(0, n_pixels, _RUN):
        part = np.zeros((n_bands, size, size))
        for i in range(start, min(start + _RUN, n_pixels)):
            is_complete = True
            for k in range(n_predictors):
                row[k + 1] = np.float64(predictors[k, i])
                is_complete = is_complete and np.isfinite(row[k + 1])
            for b in range(n_bands):
                is_complete = is_complete and np.isfinite(target[b, i])
            if not is_complete:
                continue
            for b in range(n_bands):
                row[size - 1] = np.float64(target[b, i])
                residual = row[size - 1] - intercept[b]
                for k in range(n_predictors):
                    residual -= matrix[b, k] * row[k + 1]
                residual = abs(residual)
                counts[b, _bin_of(residual)] += 1
                weight = 1.0 if residual <= reach[b] else reach[b] / residual
                for j in range(size):
                    for k in range(j + 1):
                        part[b, j, k] += weight * row[j] * row[k]
        for b in range(n_bands):
            for j in range(size):
                for k in range(j + 1):
                    total[b, j, k] += part[b, j, k]
                    total[b, k, j] = total[b, j, k]
    return total, counts


@njit(nogil=True, cache=True)
def _bin_of(residual: float) -> int:
    """Number of the logarithmic bin of an absolute residual."""
    if residual <= _LOWEST:
        return 0
    return min(int(math.log10(residual / _LOWEST) * (BINS / _DECADES)), BINS - 1)


def robust_scale(counts: IntArray) -> Float64Array:
    """Standard deviation from the median of absolute residuals.

    Parameters
    ----------
    counts : (..., BINS) int array
        As `huber_moments` gives them.

    Returns
    -------
    (...) float64 array
        In the unit of the residuals, within 0.3 %; at least 1.5e-7, NaN without pixels.

    References
    ----------
    Huber, P. J., & Ronchetti, E. M. (2009). Robust statistics, 2nd ed., section 7.8. Wiley.
    doi:10.1002/9780470434697
    """
    total = counts.sum(axis=-1)
    below = np.cumsum(counts, axis=-1)
    half = total[..., None] / 2
    place = np.argmax(below >= half, axis=-1)[..., None]
    own = np.take_along_axis(counts, place, axis=-1)
    before = np.take_along_axis(below, place, axis=-1) - own
    with np.errstate(invalid="ignore", divide="ignore"):
        fraction = np.where(own > 0, (half - before) / own, np.nan)
    exponent = (place + fraction) * (_DECADES / BINS)
    return np.asarray((_LOWEST * 10.0**exponent / _NORMAL)[..., 0])


def solve_ridge(
    moments: Float64Array, ridge: float, prior: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Least squares of each target band, coefficients drawn towards a prior.

    Minimises the mean squared residual plus `ridge` times the sum of the squared departures of the
    coefficients from the prior, each predictor in units of its standard deviation.

    Parameters
    ----------
    moments : (band, predictor + 2, predictor + 2) float64 array
        As `huber_moments` gives them.
    ridge : float
        Penalty; the intercept is not penalised.
    prior : (band, predictor) float64 array
        Coefficients towards which they are drawn.

    Returns
    -------
    matrix : (band, predictor) float64 array
        Without a penalty, of minimum norm where predictors depend on each other.
    intercept : (band,) float64 array

    References
    ----------
    Hoerl, A. E., & Kennard, R. W. (1970). Ridge regression: biased estimation for nonorthogonal
    problems. Technometrics 12. doi:10.1080/00401706.1970.10488634
    """
    mean = moments[:, 0, 1:] / moments[:, :1, 0]
    covariance = moments[:, 1:, 1:] / moments[:, :1, :1] - mean[:, :, None] * mean[:, None, :]
    matrix = np.empty(prior.shape)
    for b, own in enumerate(covariance):
        spread = np.sqrt(np.maximum(np.diag(own)[:-1], 0))
        unit = np.where(spread > 0, spread, 1.0)
        xx = own[:-1, :-1] / np.outer(unit, unit) + ridge * np.eye(len(unit))
        xy = (own[:-1, -1] - own[:-1, :-1] @ prior[b]) / unit
        matrix[b] = prior[b] + np.linalg.lstsq(xx, xy, rcond=1e-12)[0] / unit
    return matrix, mean[:, -1] - np.einsum("bp,bp->b", matrix, mean[:, :-1])


def squared_error(
    moments: Float64Array, matrix: Float64Array, intercept: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Mean squared error, and mean error (target minus prediction), from moments.

    Parameters
    ----------
    moments : (..., band, predictor + 2, predictor + 2) float64 array
    matrix : (band, predictor) float64 array
    intercept : (band,) float64 array

    Returns
    -------
    (..., band) float64 arrays
    """
    row = np.concatenate([-intercept[:, None], -matrix, np.ones((len(matrix), 1))], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        n = moments[..., 0, 0]
        square = np.einsum("bj,...bjk,bk->...b", row, moments, row) / n
        mean = np.einsum("...bk,bk->...b", moments[..., 0, :], row) / n
    return np.maximum(square, 0), mean


def date_variance(square: Float64Array, mean: Float64Array, n: Float64Array) -> Float64Array:
    """Variance of the effects of dates over the variance within a date, by moments.

    Parameters
    ----------
    square, mean, n : (pair, band) float64 array
        Mean squared residual, mean residual and number of pixels of each pair.

    Returns
    -------
    (band,) float64 array
        Ratio; 0 where the means of dates differ by no more than their pixels explain.

    References
    ----------
    Searle, S. R., Casella, G., & McCulloch, C. E. (1992). Variance components, chapter 3. Wiley.
    doi:10.1002/9780470316856
    """
    used = n > 0
    count = used.sum(axis=0)
    within = np.where(used, square - mean**2, 0).sum(axis=0) / np.maximum(count, 1)
    centre = np.where(used, mean, 0).sum(axis=0) / np.maximum(count, 1)
    spread = np.where(used, (mean - centre) ** 2, 0).sum(axis=0) / np.maximum(count - 1, 1)
    noise = np.where(used, within / np.maximum(n, 1), 0).sum(axis=0) / np.maximum(count, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(within > 0, (spread - noise) / within, 0.0)
    return np.maximum(ratio, 0.0)


def with_date_effects(moments: Float64Array, n: Float64Array, ratio: Float64Array) -> Float64Array:
    """Moments of each pair for generalised least squares with a random effect of each pair.

    Parameters
    ----------
    moments : (pair, band, size, size) float64 array
        As `huber_moments` gives them.
    n : (pair, band) float64 array
        Number of pixels that the pair's own mean rests on.
    ratio : (band,) float64 array
        Variance of the effects over that of the residuals; 0 changes nothing.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        share = ratio * n / (1 + ratio * n) / moments[..., 0, 0]
    share = np.where(moments[..., 0, 0] > 0, share, 0.0)
    first = moments[..., 0, :]
    return np.asarray(moments - share[..., None, None] * first[..., :, None] * first[..., None, :])


@njit(nogil=True, cache=True)
def neighbour_terms(values: FloatArray) -> FloatArray:
    """Predictors of each pixel from its 3 x 3 surroundings.

    Parameters
    ----------
    values : (image, y + 2, x + 2) float array
        Images with a margin of one pixel; NaN where missing, as outside the image.

    Returns
    -------
    (image, 4, y, x) float32 array
        See `TERMS`. The mean is that of the valid pixels; where one side is missing, a difference
        is that of the pixel and the other side, where both are, 0. NaN where the pixel is missing.
    """
    n_images, n_y, n_x = values.shape
    result = np.full((n_images, 4, n_y - 2, n_x - 2), np.nan, np.float32)
    row = np.empty(4)
    for n in range(n_images):
        for j in range(n_y - 2):
            for i in range(n_x - 2):
                if np.isfinite(values[n, j + 1, i + 1]):
                    _terms_of(values[n], j + 1, i + 1, row)
                    for k in range(4):
                        result[n, k, j, i] = row[k]
    return result


@njit(nogil=True, cache=True)
def _terms_of(image: FloatArray, j: int, i: int, row: Float64Array) -> None:
    """Write the terms of a valid pixel into a row."""
    centre = np.float64(image[j, i])
    total, count = 0.0, 0
    for dj in range(-1, 2):
        for di in range(-1, 2):
            value = np.float64(image[j + dj, i + di])
            if np.isfinite(value):
                total += value
                count += 1
    row[0], row[1] = centre, total / count
    row[2] = _slope(np.float64(image[j, i - 1]), centre, np.float64(image[j, i + 1]))
    row[3] = _slope(np.float64(image[j - 1, i]), centre, np.float64(image[j + 1, i]))


@njit(nogil=True, cache=True)
def _slope(before: float, centre: float, after: float) -> float:
    """Change from pixel to pixel."""
    has_before, has_after = np.isfinite(before), np.isfinite(after)
    if has_before and has_after:
        return (after - before) / 2
    if has_after:
        return after - centre
    return centre - before if has_before else 0.0


@njit(nogil=True, cache=True)
def apply_terms(values: FloatArray, weights: Float64Array, intercept: Float64Array) -> FloatArray:
    """Map the source bands of a pixel and its surroundings to the target bands.

    Parameters
    ----------
    values : (time, source_band, y + 2, x + 2) float array
        With a margin of one pixel; a pixel missing (NaN) in any band is missing in all target
        bands.
    weights : (band, 4, source_band) float64 array
        Coefficients of `TERMS`.
    intercept : (band,) float64 array

    Returns
    -------
    (time, band, y, x) float32 array
    """
    n_times, n_source, n_y, n_x = values.shape
    n_bands = weights.shape[0]
    result = np.full((n_times, n_bands, n_y - 2, n_x - 2), np.nan, np.float32)
    row = np.empty((n_source, 4))
    for t in range(n_times):
        for j in range(n_y - 2):
            for i in range(n_x - 2):
                is_complete = True
                for s in range(n_source):
                    is_complete = is_complete and np.isfinite(values[t, s, j + 1, i + 1])
                if not is_complete:
                    continue
                for s in range(n_source):
                    _terms_of(values[t, s], j + 1, i + 1, row[s])
                for b in range(n_bands):
                    total = intercept[b]
                    for k in range(4):
                        for s in range(n_source):
                            total += weights[b, k, s] * row[s, k]
                    result[t, b, j, i] = total
    return result


def logarithm(values: FloatArray, lowest: Float64Array | float = 0.0) -> FloatArray:
    """Natural logarithm of positive values, those below `lowest` (broadcast) as if they were it.

    NaN where values are missing or not positive.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(
            np.where(values > 0, np.log(np.maximum(values, lowest)), np.nan), np.float32
        )
