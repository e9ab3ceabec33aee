"""Least squares from sums that add over chunks.

Every fit here is a formula on second moments (counts, sums and sums of products), so that the
moments of parts of the data add up to those of the whole and a fit does not depend on chunking.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from xharmonize.types import BoolArray, Float64Array, FloatArray, IntArray

COUNT, X, Y, XX, XY, YY = range(6)
"""Positions in the last axis of `band_moments`."""

_RUN = 4096  # pixels summed before the partial sum is added: keeps rounding errors small


@njit(nogil=True, cache=True)
def band_moments(source: FloatArray, target: FloatArray) -> Float64Array:
    """Sum what a line per band needs, over pixels where both are finite.

    Parameters
    ----------
    source, target : (band, pixel) float array
        Reflectance [1]; NaN marks a missing pixel.

    Returns
    -------
    (band, 6) float64 array
        Count, sum of x, of y, of x squared, of x times y, of y squared.
    """
    n_bands, n_pixels = source.shape
    total = np.zeros((n_bands, 6))
    for b in range(n_bands):
        for start in range(0, n_pixels, _RUN):
            n, sx, sy, sxx, sxy, syy = 0, 0.0, 0.0, 0.0, 0.0, 0.0
            for i in range(start, min(start + _RUN, n_pixels)):
                x, y = np.float64(source[b, i]), np.float64(target[b, i])
                if np.isfinite(x) and np.isfinite(y):
                    n += 1
                    sx += x
                    sy += y
                    sxx += x * x
                    sxy += x * y
                    syy += y * y
            found = (float(n), sx, sy, sxx, sxy, syy)
            for k in range(len(found)):  # a sum of arrays would compile for seconds (numba)
                total[b, k] += found[k]
    return total


@njit(nogil=True, cache=True)
def joint_moments(source: FloatArray, target: FloatArray) -> Float64Array:
    """Sum products of (1, source bands, target bands) over pixels finite in all bands.

    Parameters
    ----------
    source : (source_band, pixel) float array
        Reflectance [1]; NaN marks a missing pixel.
    target : (band, pixel) float array
        Reflectance [1]; NaN marks a missing pixel.

    Returns
    -------
    (1 + source_band + band, 1 + source_band + band) float64 array
        Symmetric; the first entry is the count.
    """
    n_source, n_pixels = source.shape
    size = 1 + n_source + target.shape[0]
    total = np.zeros((size, size))
    row = np.ones(size)
    for start in range(0, n_pixels, _RUN):
        part = np.zeros((size, size))
        for i in range(start, min(start + _RUN, n_pixels)):
            is_complete = True
            for k in range(1, size):
                value = source[k - 1, i] if k <= n_source else target[k - 1 - n_source, i]
                row[k] = np.float64(value)
                is_complete = is_complete and np.isfinite(row[k])
            if is_complete:
                for j in range(size):
                    for k in range(j + 1):
                        part[j, k] += row[j] * row[k]
        for j in range(size):
            for k in range(j + 1):
                total[j, k] += part[j, k]
                total[k, j] = total[j, k]
    return total


def _centred(moments: Float64Array) -> tuple[Float64Array, ...]:
    """Return count, mean x, mean y, variance x, covariance, variance y from raw moments."""
    with np.errstate(invalid="ignore", divide="ignore"):
        n = moments[..., COUNT]
        mean_x, mean_y = moments[..., X] / n, moments[..., Y] / n
        var_x = np.maximum(moments[..., XX] / n - mean_x**2, 0)
        var_y = np.maximum(moments[..., YY] / n - mean_y**2, 0)
        cov = moments[..., XY] / n - mean_x * mean_y
    return n, mean_x, mean_y, var_x, cov, var_y


def solve_ols(moments: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Ordinary least squares of y on x.

    Parameters
    ----------
    moments : (..., 6) float64 array
        As `band_moments` gives them.

    Returns
    -------
    slope, intercept : (...) float64 array
        NaN where x does not vary.
    """
    _, mean_x, mean_y, var_x, cov, _ = _centred(moments)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = np.where(var_x > _rounding(moments), cov / var_x, np.nan)
    return slope, mean_y - slope * mean_x


def solve_deming(moments: Float64Array, ratio: float = 1.0) -> tuple[Float64Array, Float64Array]:
    """Deming regression: a line that allows for errors in x as well as in y.

    Parameters
    ----------
    moments : (..., 6) float64 array
        As `band_moments` gives them.
    ratio : float
        Error variance of y over that of x; 1 is orthogonal regression.

    Returns
    -------
    slope, intercept : (...) float64 array
        NaN where x and y do not covary. Swapping the roles gives the inverse line.

    References
    ----------
    Deming, W. E. (1943). Statistical adjustment of data. Wiley.
    """
    _, mean_x, mean_y, var_x, cov, var_y = _centred(moments)
    half = var_y - ratio * var_x
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = (half + np.sqrt(half**2 + 4 * ratio * cov**2)) / (2 * cov)
        slope = np.where(np.abs(cov) > _rounding(moments), slope, np.nan)
    return slope, mean_y - slope * mean_x


def _rounding(moments: Float64Array) -> Float64Array:
    """Variance [1] below which a spread is nothing but rounding of the sums."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1e-12 * moments[..., XX] / moments[..., COUNT])


def line_quality(
    moments: Float64Array, slope: Float64Array, intercept: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Root mean square error [1] and R² (1 - SSE/SST) of a line on its own samples."""
    n, mean_x, mean_y, var_x, cov, var_y = _centred(moments)
    bias = mean_y - slope * mean_x - intercept
    mse = var_y - 2 * slope * cov + slope**2 * var_x + bias**2
    with np.errstate(invalid="ignore", divide="ignore"):
        r2 = np.where((n > 0) & (var_y > 0), 1 - mse / var_y, np.nan)
    return np.sqrt(np.maximum(mse, 0)), r2


def source_varies(moments: Float64Array, n_source: int) -> BoolArray:
    """Tell of each source band of `joint_moments` whether it varies by more than rounding."""
    n = moments[0, 0]
    square = np.diag(moments)[1 : 1 + n_source] / n
    variance = square - (moments[0, 1 : 1 + n_source] / n) ** 2
    return np.asarray(variance > 1e-12 * square)


def solve_multiband(
    moments: Float64Array, n_source: int, ridge: float = 0.0
) -> tuple[Float64Array, Float64Array, Float64Array, Float64Array]:
    """Least squares of every target band on all source bands.

    Parameters
    ----------
    moments : (1 + source_band + band, 1 + source_band + band) float64 array
        As `joint_moments` gives them.
    n_source : int
        Number of source bands.
    ridge : float
        Penalty on squared coefficients, as a fraction of the mean variance of the source bands;
        the intercept is not penalised.

    Returns
    -------
    matrix : (band, source_band) float64 array
        Coefficients; the minimum-norm ones where source bands depend on each other.
    intercept, rmse, r2 : (band,) float64 array
        Intercept and root mean square error [1]; R² as 1 - SSE/SST.
    """
    n = moments[0, 0]
    mean = moments[0, 1:] / n
    covariance = moments[1:, 1:] / n - np.outer(mean, mean)
    xx, xy = covariance[:n_source, :n_source], covariance[:n_source, n_source:]
    var_y = np.maximum(np.diag(covariance)[n_source:], 0)
    penalty = ridge * np.trace(xx) / n_source * np.eye(n_source)
    matrix = np.linalg.lstsq(xx + penalty, xy, rcond=1e-12)[0].T
    intercept = mean[n_source:] - matrix @ mean[:n_source]
    explained = 2 * np.einsum("bs,sb->b", matrix, xy) - np.einsum("bs,st,bt->b", matrix, xx, matrix)
    mse = np.maximum(var_y - explained, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        r2 = np.where(var_y > 0, 1 - mse / var_y, np.nan)
    return matrix, intercept, np.sqrt(mse), r2


@njit(nogil=True, cache=True)
def pixel_lines(
    source: FloatArray,
    target: FloatArray,
    lag: IntArray,
    stages: IntArray,
    n_min: int,
    min_spread: float,
    min_r2: float,
    fallback: Float64Array,
) -> tuple[FloatArray, FloatArray, IntArray, IntArray]:
    """Fit one line per pixel and band on its own pairs, nearest pairs first.

    Stage k uses the pairs at most ``stages[k]`` days apart; the first stage with `n_min` pairs and
    enough spread decides, else the line falls back to that of the band.

    Parameters
    ----------
    source, target : (pair, band, y, x) float array
        Reflectance [1]; NaN marks a missing pixel.
    lag : (pair,) int array
        Days between the two observations.
    stages : (stage,) int array
        Largest lag of each stage, ascending [day].
    n_min : int
        Least number of pairs.
    min_spread : float
        Least standard deviation of the source reflectance over the pairs [1].
    min_r2 : float
        Least squared correlation of source and target over the pairs.
    fallback : (band, 2) float64 array
        Slope and intercept [1] where no stage suffices.

    Returns
    -------
    slope, intercept : (band, y, x) float32 array
        Of the line target = slope * source + intercept.
    n : (band, y, x) int32 array
        Pairs the line rests on; 0 for the fallback.
    stage : (band, y, x) int8 array
        Index of the deciding stage; -1 for the fallback.
    """
    n_pairs, n_bands, n_y, n_x = source.shape
    slope = np.empty((n_bands, n_y, n_x), np.float32)
    intercept = np.empty((n_bands, n_y, n_x), np.float32)
    count = np.zeros((n_bands, n_y, n_x), np.int32)
    chosen = np.full((n_bands, n_y, n_x), -1, np.int8)
    for b in range(n_bands):
        for j in range(n_y):
            for i in range(n_x):
                slope[b, j, i], intercept[b, j, i] = fallback[b, 0], fallback[b, 1]
                for k in range(stages.size):
                    n, mean_x, mean_y, var_x, var_y, cov = 0, 0.0, 0.0, 0.0, 0.0, 0.0
                    for p in range(n_pairs):
                        x, y = np.float64(source[p, b, j, i]), np.float64(target[p, b, j, i])
                        if lag[p] <= stages[k] and np.isfinite(x) and np.isfinite(y):
                            n += 1
                            step_x, step_y = x - mean_x, y - mean_y  # Welford's update
                            mean_x += step_x / n
                            mean_y += step_y / n
                            var_x += step_x * (x - mean_x)
                            var_y += step_y * (y - mean_y)
                            cov += step_x * (y - mean_y)
                    is_enough = n >= n_min and var_x > n * min_spread**2
                    if is_enough and cov > 0 and cov * cov >= min_r2 * var_x * var_y:
                        slope[b, j, i] = cov / var_x
                        intercept[b, j, i] = mean_y - cov / var_x * mean_x
                        count[b, j, i], chosen[b, j, i] = n, k
                        break
    return slope, intercept, count, chosen


@njit(nogil=True, cache=True)
def apply_matrix(values: FloatArray, matrix: Float64Array, intercept: Float64Array) -> FloatArray:
    """Map all source bands of a pixel to the target bands by one affine map.

    Parameters
    ----------
    values : (time, source_band, y, x) float array
        Reflectance [1]; a pixel missing (NaN) in any band is missing in all target bands.
    matrix : (band, source_band) float64 array
        Coefficients.
    intercept : (band,) float64 array
        Reflectance [1].

    Returns
    -------
    (time, band, y, x) float32 array
        Reflectance [1].
    """
    n_times, n_source, n_y, n_x = values.shape
    n_bands = matrix.shape[0]
    result = np.empty((n_times, n_bands, n_y, n_x), np.float32)
    for t in range(n_times):
        for j in range(n_y):
            for b in range(n_bands):
                for i in range(n_x):
                    total = intercept[b]
                    for s in range(n_source):
                        total += matrix[b, s] * np.float64(values[t, s, j, i])
                    result[t, b, j, i] = total
    return result


def pooled_moments(source: FloatArray, target: FloatArray, keep: BoolArray) -> Float64Array:
    """Band moments (band, 6) of a stack (pair, band, y, x), over the pairs that `keep` marks."""
    n_bands = source.shape[1]
    total = np.zeros((n_bands, 6))
    for x, y in zip(source[keep], target[keep]):
        total += band_moments(x.reshape(n_bands, -1), y.reshape(n_bands, -1))
    return total
