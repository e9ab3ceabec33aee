"""Histograms of tiles, their comparison, and monotone matching of distributions."""

from __future__ import annotations

import numpy as np
from numba import njit

from xharmonize.kernels.codes import all_codes, unsigned
from xharmonize.kernels.lut import runs_of
from xharmonize.kernels.radiometry import affine
from xharmonize.types import AnyArray, Float64Array, FloatArray, IntArray

STRIP = 1024
"""Pixels whose bins are held at once."""


def count_values(
    values: FloatArray,
    low: Float64Array,
    high: Float64Array,
    n_bins: int,
    rows: IntArray,
    columns: IntArray,
) -> IntArray:
    """Count finite values of each date, tile and band in evenly spaced bins.

    Parameters
    ----------
    values : (time, band, y, x) float array
        Reflectance [1]; NaN and infinite values are missing and not counted.
    low, high : (band,) float64 array
        Range of the bins [1]; values beyond count in the end bins, `high` itself in the last.
    n_bins : int
        Number of bins.
    rows : (y,) int array
        Tile row of each pixel row, in runs, from 0.
    columns : (x,) int array
        Tile column of each pixel column, in runs, from 0.

    Returns
    -------
    (time, tile_y, tile_x, band, bin) int64 array
        Counts, exact.
    """
    values = np.ascontiguousarray(values)
    counts = _no_counts(values.shape, rows, columns, n_bins)
    low, per_unit = _bins(low, high, n_bins)
    if values.size:
        _count(values, low, per_unit, n_bins, runs_of(rows), runs_of(columns), counts)
    return counts


def count_dn(
    dn: IntArray,
    low: Float64Array,
    high: Float64Array,
    n_bins: int,
    rows: IntArray,
    columns: IntArray,
    *,
    scale: Float64Array,
    offset: Float64Array,
    nodata: Float64Array,
) -> IntArray:
    """Count digital numbers by the bin of their reflectance; nodata is not counted.

    The bin of every digital number of the dtype (8 or 16 bits) is found once, then each pixel is
    one gather. Counts equal those of decoding to float32 and `count_values`.

    Parameters
    ----------
    dn : (time, band, y, x) integer array
        Digital numbers [1].
    scale, offset, nodata : (time, band) float64 array
        Reflectance = DN * scale + offset [1]; DN of a missing pixel, NaN where there is none.

    Other parameters and the result are those of `count_values`.
    """
    if dn.dtype.itemsize > 2 or dn.size < 256**dn.dtype.itemsize:
        decoded = affine(dn, scale, offset, nodata=nodata)
        return count_values(decoded, low, high, n_bins, rows, columns)
    counts = _no_counts(dn.shape, rows, columns, n_bins)
    codes = np.ascontiguousarray(dn).view(unsigned(dn.dtype))
    first, per_unit = _bins(low, high, n_bins)
    bins: dict[bytes, IntArray] = {}
    places = runs_of(rows), runs_of(columns)
    for t, b in np.ndindex(dn.shape[:2]):
        line = np.array([scale[t, b], offset[t, b], nodata[t, b], low[b], high[b]])
        if line.tobytes() not in bins:
            slope, shift, missing = (line[None, k : k + 1] for k in range(3))
            decoded = affine(all_codes(dn.dtype), slope, shift, nodata=missing)
            bins[line.tobytes()] = _bin_all(decoded.ravel(), first[b], per_unit[b], n_bins)
        _count_codes(codes[t, b], bins[line.tobytes()], n_bins, *places, counts[t, :, :, b])
    return counts


def normalise(counts: IntArray) -> FloatArray:
    """Counts (..., bin) as shares of their sum [1], float32; NaN where there are none."""
    total = counts.sum(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return np.asarray(counts / total, np.float32)


def transport_distance(
    first: FloatArray,
    first_range: tuple[float, float],
    second: FloatArray,
    second_range: tuple[float, float],
) -> float:
    """Earth mover's distance of two histograms, each uniform within its evenly spaced bins.

    Parameters
    ----------
    first, second : (bin,) array
        Counts or shares; the two may have different bins.
    first_range, second_range : (float, float)
        Range of their bins [1].

    Returns
    -------
    float
        In the unit of the ranges: how far, on average, values have to be moved; NaN where one of
        the two is empty.
    """
    edges = [np.linspace(*r, h.size + 1) for h, r in ((first, first_range), (second, second_range))]
    if not first.sum() or not second.sum():
        return float("nan")
    nodes = np.union1d(*edges)
    levels = [np.interp(nodes, e, _cumulative(h)) for e, h in zip(edges, (first, second))]
    gap = levels[0] - levels[1]
    a, b = gap[:-1], gap[1:]
    same = a * b >= 0
    with np.errstate(invalid="ignore", divide="ignore"):
        crossing = (a**2 + b**2) / (2 * (np.abs(a) + np.abs(b)))
    area = np.where(same, np.abs(a + b) / 2, crossing)
    return float((area * np.diff(nodes)).sum())


def _no_counts(shape: tuple[int, ...], rows: IntArray, columns: IntArray, n_bins: int) -> IntArray:
    """Zero counts (time, tile_y, tile_x, band, bin) of a block."""
    n_rows, n_columns = (int(np.max(numbers, initial=-1)) + 1 for numbers in (rows, columns))
    return np.zeros((shape[0], n_rows, n_columns, shape[1], n_bins), np.int64)


def _bins(low: Float64Array, high: Float64Array, n_bins: int) -> tuple[Float64Array, Float64Array]:
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    return low, n_bins / (high - low)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _bin(row, x, n, low, per_unit, n_bins, bins):  # type: ignore[no-untyped-def]
    """Bin of each value of a strip; `n_bins` where missing. In double precision, as numpy's."""
    last = np.float64(n_bins - 1)
    for k in range(n):
        value = np.float64(row[x + k])
        p = (value - low) * per_unit
        p = p if p > 0.0 else 0.0
        p = p if p < last else last
        bins[k] = np.int32(p) if abs(value) < np.inf else np.int32(n_bins)


@njit(nogil=True, cache=True)
def _bin_all(values, low, per_unit, n_bins):  # type: ignore[no-untyped-def]
    bins = np.empty(values.size, np.int32)
    _bin(values, 0, values.size, low, per_unit, n_bins, bins)
    return bins


@njit(nogil=True, cache=True)
def _count(values, low, per_unit, n_bins, rows, columns, counts):  # type: ignore[no-untyped-def]
    bins = np.empty(STRIP, np.int32)
    a, b, c, d = (
        np.zeros(n_bins + 1, np.int64),
        np.zeros(n_bins + 1, np.int64),
        np.zeros(n_bins + 1, np.int64),
        np.zeros(n_bins + 1, np.int64),
    )
    for t in range(values.shape[0]):
        for band in range(values.shape[1]):
            for j, y0, y1 in rows:
                for i, x0, x1 in columns:
                    for y in range(y0, y1):
                        row = values[t, band, y]
                        for x in range(x0, x1, STRIP):
                            n = min(STRIP, x1 - x)
                            _bin(row, x, n, low[band], per_unit[band], n_bins, bins)
                            _add(bins, n, a, b, c, d)
                    _flush(a, b, c, d, counts[t, j, i, band])


@njit(nogil=True, cache=True, inline="always")
def _add(bins, n, a, b, c, d):  # type: ignore[no-untyped-def]
    """Count the bins of a strip in four histograms: equal neighbours do not wait for each other."""
    whole = n // 4
    for q in range(whole):
        a[np.uint64(bins[4 * q])] += 1
        b[np.uint64(bins[4 * q + 1])] += 1
        c[np.uint64(bins[4 * q + 2])] += 1
        d[np.uint64(bins[4 * q + 3])] += 1
    for k in range(4 * whole, n):
        a[np.uint64(bins[k])] += 1


@njit(nogil=True, cache=True)
def _flush(a, b, c, d, counts):  # type: ignore[no-untyped-def]
    for k in range(counts.size):
        counts[k] += a[k] + b[k] + c[k] + d[k]
    a[:], b[:], c[:], d[:] = 0, 0, 0, 0


@njit(nogil=True, cache=True)
def _count_codes(codes, bin_of, n_bins, rows, columns, counts):  # type: ignore[no-untyped-def]
    bins = np.empty(STRIP, np.int32)
    a, b, c, d = (
        np.zeros(n_bins + 1, np.int64),
        np.zeros(n_bins + 1, np.int64),
        np.zeros(n_bins + 1, np.int64),
        np.zeros(n_bins + 1, np.int64),
    )
    for j, y0, y1 in rows:
        for i, x0, x1 in columns:
            for y in range(y0, y1):
                row = codes[y]
                for x in range(x0, x1, STRIP):
                    n = min(STRIP, x1 - x)
                    for k in range(n):
                        bins[k] = bin_of[row[x + k]]
                    _add(bins, n, a, b, c, d)
            _flush(a, b, c, d, counts[j, i])


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


def _cumulative(counts: AnyArray) -> Float64Array:
    """Cumulative frequency at the edges of the bins, from 0 to 1."""
    total = np.concatenate([[0], np.cumsum(counts)])
    return np.asarray(total / total[-1])
