"""Histograms, monotone matching of distributions, and look-up by linear interpolation."""

from __future__ import annotations

import numpy as np
from numba import njit

from xharmonize.types import Float64Array, FloatArray, IntArray


@njit(nogil=True, cache=True)
def count_values(values: FloatArray, low: float, high: float, n_bins: int) -> IntArray:
    """Count finite values in evenly spaced bins; values outside fall into the end bins.

    Parameters
    ----------
    values : (time, band, y, x) float array
        Reflectance [1]; NaN marks a missing pixel and is not counted.
    low, high : float
        Range of the bins [1].
    n_bins : int
        Number of bins.

    Returns
    -------
    (time, band, bin) int64 array
        Counts.
    """
    n_times, n_bands, n_y, n_x = values.shape
    counts = np.zeros((n_times, n_bands, n_bins), np.int64)
    per_unit = n_bins / (high - low)
    for t in range(n_times):
        for b in range(n_bands):
            for j in range(n_y):
                for i in range(n_x):
                    value = np.float64(values[t, b, j, i])
                    if np.isfinite(value):
                        position = min(max((value - low) * per_unit, 0.0), n_bins - 1.0)
                        counts[t, b, int(position)] += 1
    return counts


def match_distributions(
    source: IntArray, reference: IntArray, low: float, high: float
) -> Float64Array:
    """Look-up table that gives `source` values the distribution of `reference`.

    Both distributions are taken as uniform within a bin. A node maps to the reference value of
    the same cumulative frequency, so the table never decreases.

    Parameters
    ----------
    source, reference : (..., bin) int array
        Counts in the same evenly spaced bins over ``[low, high]``.
    low, high : float
        Range of the bins [1].

    Returns
    -------
    (..., bin + 1) float64 array
        Reference value [1] at each bin edge; NaN where one of the two histograms is empty.
    """
    source, reference = np.broadcast_arrays(source, reference)
    n_bins = source.shape[-1]
    edges = np.linspace(low, high, n_bins + 1)
    table = np.full((*source.shape[:-1], n_bins + 1), np.nan)
    for place in np.ndindex(source.shape[:-1]):
        if source[place].sum() and reference[place].sum():
            table[place] = _match_one(source[place], reference[place], edges)
    return table


def _match_one(source: IntArray, reference: IntArray, edges: Float64Array) -> Float64Array:
    """Table of one pair of histograms.

    Where the reference has a gap, one cumulative frequency belongs to both of its sides: the
    upper edge of an occupied source bin takes the lower side, a lower edge the upper side. Nodes
    inside a source gap lie on the straight line between its sides; beyond the data they are held.
    """
    level, known = _cumulative(source), _cumulative(reference)
    between = np.interp(level, known, edges)
    first = np.searchsorted(known, level, side="left")
    last = np.searchsorted(known, level, side="right") - 1
    is_tie = last >= first
    lower = np.where(is_tie, edges[np.minimum(first, edges.size - 1)], between)
    upper = np.where(is_tie, edges[last], between)
    ends_a_bin = np.concatenate([[False], source > 0])
    starts_a_bin = np.concatenate([source > 0, [False]])
    value = np.where(ends_a_bin, np.where(starts_a_bin, (lower + upper) / 2, lower), upper)
    is_used = ends_a_bin | starts_a_bin
    return np.asarray(np.interp(edges, edges[is_used], value[is_used]))


def _cumulative(counts: IntArray) -> Float64Array:
    """Cumulative frequency at the edges of the bins, from 0 to 1."""
    total = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return np.asarray(total / total[-1])


@njit(nogil=True, cache=True)
def apply_table(values: FloatArray, table: Float64Array, low: float, high: float) -> FloatArray:
    """Map values through one evenly spaced look-up table per date and band.

    Parameters
    ----------
    values : (time, band, y, x) float array
        Reflectance [1]; NaN marks a missing pixel and stays NaN.
    table : (time, band, node) float64 array
        Target value [1] at nodes evenly spaced over ``[low, high]``; ends are held. Its first
        axis may have length 1 (one table for all dates).

    Returns
    -------
    (time, band, y, x) float32 array
        Mapped reflectance [1].
    """
    n_times, n_bands, n_y, n_x = values.shape
    last = table.shape[2] - 1
    per_unit = last / (high - low)
    result = np.empty((n_times, n_bands, n_y, n_x), np.float32)
    for t in range(n_times):
        for b in range(n_bands):
            nodes = table[min(t, table.shape[0] - 1), b]
            for j in range(n_y):
                for i in range(n_x):
                    value = np.float64(values[t, b, j, i])
                    if not np.isfinite(value):
                        result[t, b, j, i] = np.nan
                        continue
                    position = min(max((value - low) * per_unit, 0.0), np.float64(last))
                    k = min(int(position), last - 1)
                    part = position - k
                    result[t, b, j, i] = nodes[k] * (1 - part) + nodes[k + 1] * part
    return result
