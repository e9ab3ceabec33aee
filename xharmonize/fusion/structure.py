"""How much a place changes with time: a semivariogram of its clear dates, and a sample of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import Span, apart, is_lazy
from xharmonize.types import BoolArray, Float64Array, FloatArray, IntArray

SIDE, WINDOWS = 48, 4
"""Pixels of the sample along each axis, and the windows that they lie in."""

MIN_LAGS = 5
"""Different times between dates that a semivariogram is fitted to, at least."""

EXPONENTS = np.arange(0.2, 1.61, 0.1)
PARAMETERS = ("nugget", "growth", "exponent")


def sample_of(cube: xr.DataArray) -> Any:
    """Take the pixels that fits look at, in one block: windows that are spread over the cube.

    Their place follows from the number of rows and columns alone. A lazy sample has a graph of its
    own: it reads its blocks by itself, so that no block has to be kept until the sample is
    complete.
    """
    values = cube.transpose("time", "band", "y", "x").data
    for axis in (2, 3):
        windows = _windows(values.shape[axis])
        cut = [values[(slice(None),) * axis + (slice(*window),)] for window in windows]
        values = cut[0] if len(cut) == 1 else np.concatenate(cut, axis=axis)
    return apart(values).rechunk(-1) if is_lazy(values) else values


def _windows(size: int) -> list[Span]:
    """First pixel of each window along an axis, and the one after its last."""
    if size <= SIDE:
        return [(0, size)]
    width = SIDE // WINDOWS
    starts = np.linspace(0, size - width, WINDOWS).round().astype(int).tolist()
    return [(start, start + width) for start in starts]


def date_pairs(days: IntArray, longest: float) -> Iterator[tuple[int, int, int]]:
    """Yield each pair of dates and the days from the first to the second, `longest` at most."""
    for i in range(days.size):
        for j in range(i + 1, days.size):
            lag = int(days[j] - days[i])
            if lag > longest:
                break
            yield i, j, lag


def fit_structure(values: FloatArray, days: IntArray, *, longest: float) -> Float64Array:
    """Fit γ(h) = nugget + growth · h^exponent to the differences between dates h days apart.

    Half the mean squared difference of each lag is fitted by least squares, weighted by the number
    of pairs over the square of the fit (Cressie 1985, doi:10.1007/BF01032109).

    Parameters
    ----------
    values : (time, band, pixel) array
        NaN in all bands where missing.
    days : (time,) int64 array
        Ascending.
    longest : float
        Longest time between two dates [day].

    Returns
    -------
    (band, 3) float64 array
        `PARAMETERS`; NaN where there are fewer than `MIN_LAGS` lags.
    """
    n_lags = int(min(longest, days[-1] - days[0])) + 1
    n_bands = values.shape[1]
    counts, squares = np.zeros(n_lags), np.zeros((n_lags, n_bands))
    is_valid: BoolArray = np.asarray(np.isfinite(values).all(axis=1))
    for i, j, lag in date_pairs(days, longest):
        pixels = np.flatnonzero(is_valid[i] & is_valid[j])
        if pixels.size:
            away = values[j][:, pixels] - values[i][:, pixels]
            counts[lag] += pixels.size
            squares[lag] += np.square(away, dtype=np.float64).sum(axis=1)
    lags = np.flatnonzero(counts)
    if lags.size < MIN_LAGS:
        return np.full((n_bands, 3), np.nan)
    half = squares[lags] / counts[lags, None] / 2
    return np.stack([_solve(lags, one, counts[lags]) for one in half.T])


def _solve(lags: IntArray, half: Float64Array, counts: Float64Array) -> Float64Array:
    """Nugget, growth and exponent of one band; nugget and growth are not negative."""
    from scipy.optimize import nnls

    best, least = np.zeros(3), np.inf
    for exponent in EXPONENTS:
        terms = np.stack([np.ones(lags.size), lags.astype(np.float64) ** exponent], axis=1)
        fit = np.full(lags.size, max(half.mean(), 1e-12))
        for _ in range(3):
            weight = np.sqrt(counts) / np.maximum(fit, 1e-12)
            line, _ = nnls(terms * weight[:, None], half * weight)
            fit = terms @ line
        misfit = float((np.square(half / np.maximum(fit, 1e-12) - 1) * counts).sum())
        if misfit < least:
            best, least = np.array([*line, exponent]), misfit
    return best


def table_of(structure: Float64Array, longest: float) -> Float64Array:
    """Semivariogram (band, lag) by days from 0 on, as far as twice the longest gap.

    Parameters
    ----------
    structure : (band, 3) array
        From `fit_structure`.
    """
    lags = np.arange(2 * int(min(longest, 1e4)) + 1, dtype=np.float64)
    nugget, growth, exponent = (structure[:, k, None] for k in range(3))
    return np.asarray(nugget + growth * lags**exponent)
