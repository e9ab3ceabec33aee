"""Least squares of a piecewise linear look-up table, from sums that do not depend on order."""

from __future__ import annotations

import numpy as np
from numba import njit

from xharmonize.types import AnyArray, Float64Array, FloatArray, IntArray

ONE = 2.0**30
"""Unit of the sums: integers, so that they are the same in whatever order chunks are added."""

DIAGONAL, BESIDE, RIGHT, COUNT, SUM, SQUARE = range(6)


@njit(nogil=True, cache=True)
def table_moments(
    source: FloatArray, target: FloatArray, low: Float64Array, high: Float64Array, n_knots: int
) -> IntArray:
    """Sums of which the least-squares table is a formula.

    Parameters
    ----------
    source, target : (band, pixel) float array
        Reflectance [1]; pixels missing (NaN) on one side are left out. The target lies within
        ``[-8, 8]``.
    low, high : (band,) float64 array
        Reflectance of first and last knot [1]; values beyond count at the ends.
    n_knots : int
        Knots of the table.

    Returns
    -------
    (band, 6, knot) int64 array
        In units of 2⁻³⁰: diagonal of the normal equations, the one beside it, right hand side; and
        per interval between knots the count, the sum of the target and of its square.
    """
    n_bands, n_pixels = source.shape
    sums = np.zeros((n_bands, 6, n_knots), np.int64)
    for b in range(n_bands):
        per_unit, last = (n_knots - 1) / (high[b] - low[b]), n_knots - 1.0
        for i in range(n_pixels):
            x, y = np.float64(source[b, i]), np.float64(target[b, i])
            if not (np.isfinite(x) and np.isfinite(y)) or abs(y) > 8:
                continue
            p = min(max((x - low[b]) * per_unit, 0.0), last)
            k = min(int(p), n_knots - 2)
            part = p - k
            sums[b, 0, k] += np.int64(np.rint((1 - part) * (1 - part) * ONE))
            sums[b, 0, k + 1] += np.int64(np.rint(part * part * ONE))
            sums[b, 1, k] += np.int64(np.rint(part * (1 - part) * ONE))
            sums[b, 2, k] += np.int64(np.rint((1 - part) * y * ONE))
            sums[b, 2, k + 1] += np.int64(np.rint(part * y * ONE))
            sums[b, 3, k] += 1
            sums[b, 4, k] += np.int64(np.rint(y * ONE))
            sums[b, 5, k] += np.int64(np.rint(y * y * ONE))
    return sums


def solve_table(
    moments: Float64Array, smooth: float, *, monotone: bool
) -> tuple[Float64Array, float, float]:
    """Table that minimises mean squared error + smooth * sum of squared second differences.

    Parameters
    ----------
    moments : (6, knot) float64 array
        Of one band, as `table_moments` gives them in units of 1, summed or averaged.
    smooth : float
        Weight of the roughness; positive, so that knots without data lie on a straight line.
    monotone : bool
        Whether the table must not decrease; the optimum under this condition.

    Returns
    -------
    table : (knot,) float64 array
        Target reflectance [1]; NaN where the data do not determine it.
    rmse, r2 : float
        Root mean square error [1] and 1 - SSE/SST on the data.
    """
    from scipy.linalg import LinAlgError, cho_solve_banded, cholesky_banded

    n = moments[COUNT].sum()
    bands = _penalty(moments.shape[1], smooth)
    bands[0] += moments[DIAGONAL] / n
    bands[1, :-1] += moments[BESIDE, :-1] / n
    right = moments[RIGHT] / n
    try:
        factor = cholesky_banded(bands, lower=True)
    except LinAlgError:
        return np.full(right.size, np.nan), np.nan, np.nan
    table = cho_solve_banded((factor, True), right)
    if monotone and (np.diff(table) < 0).any():
        table = _solve_monotone(factor, right)
    return table, *_quality(moments, table)


def _penalty(n_knots: int, smooth: float) -> AnyArray:
    """Lower bands (3, knot) of `smooth` times the matrix of squared second differences."""
    bands = np.zeros((3, n_knots))
    difference = (1.0, -2.0, 1.0)
    for start in range(n_knots - 2):
        for i in range(3):
            for j in range(i + 1):
                bands[i - j, start + j] += smooth * difference[i] * difference[j]
    return bands


def _solve_monotone(factor: Float64Array, right: Float64Array) -> Float64Array:
    """Optimum among tables that do not decrease: non-negative least squares of the steps."""
    from scipy.linalg import solve_triangular
    from scipy.optimize import nnls

    n = right.size
    lower = sum(np.diag(factor[k, : n - k], -k) for k in range(factor.shape[0]))
    steps = np.asarray(lower).T @ np.tril(np.ones((n, n)))
    wanted = solve_triangular(lower, right, lower=True)
    matrix = np.concatenate([steps, -steps[:, :1]], axis=1)
    found, _ = nnls(matrix, wanted, maxiter=30 * n)
    found[0] -= found[-1]
    return np.cumsum(found[:-1])


def _quality(moments: Float64Array, table: Float64Array) -> tuple[float, float]:
    n, total, square = (moments[row].sum() for row in (COUNT, SUM, SQUARE))
    explained = 2 * table @ moments[RIGHT] - table**2 @ moments[DIAGONAL]
    explained -= 2 * (table[:-1] * table[1:]) @ moments[BESIDE, :-1]
    mse = max((square - explained) / n, 0.0)
    variance = square / n - (total / n) ** 2
    return float(np.sqrt(mse)), float(1 - mse / variance) if variance > 0 else float("nan")
