"""Look-up tables over reflectance and digital numbers: applied, and fitted by least squares.

A block holds pixels of one or several tiles; `rows` and `columns` say which. Loops run on short
strips: positions of a strip are found in whole registers, then each pixel fetches value and slope
of its knot in one load of 64 bits.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import numpy as np
from numba import njit

from xharmonize.kernels.reflectance import affine
from xharmonize.types import AnyArray, Float64Array, FloatArray, IntArray


@cache
def all_codes(dtype: np.dtype[np.integer]) -> IntArray:
    """All values of an 8- or 16-bit dtype (1, 1, 1, code), in the order of their bits."""
    n_codes = 256**dtype.itemsize
    codes = np.arange(n_codes).astype(unsigned(dtype)).view(dtype).reshape(1, 1, 1, n_codes)
    codes.flags.writeable = False
    return codes


def unsigned(dtype: np.dtype[np.integer]) -> np.dtype[np.unsignedinteger]:
    """The unsigned dtype of the same bits: negative digital numbers index the upper half."""
    return np.dtype(f"u{dtype.itemsize}")


STRIP = 512
"""Pixels whose positions are held at once: four buffers of them stay in the first-level cache."""

MIN_PIXELS_PER_CODE = 2.0
"""Pixels per digital number from which a dense table over all digital numbers pays (measured)."""


def apply_tables(
    values: FloatArray,
    tables: FloatArray,
    low: Float64Array,
    high: Float64Array,
    rows: IntArray,
    columns: IntArray,
    *,
    out: FloatArray | None = None,
) -> FloatArray:
    """Map reflectance through the look-up table of its date, tile and band.

    Parameters
    ----------
    values : (time, band, y, x) float array
        Reflectance [1]; NaN and infinite values are missing.
    tables : (time, tile_y, tile_x, band, knot) float array
        Target reflectance [1] at knots evenly spaced over ``[low, high]``, ends included; beyond,
        the ends are held. A first axis of length 1 serves all dates. A table of NaN gives NaN.
    low, high : (band,) float64 array
        Reflectance of the first and the last knot [1].
    rows : (y,) int array
        Tile row of each pixel row, in runs.
    columns : (x,) int array
        Tile column of each pixel column, in runs.
    out : (time, band, y, x) float32 array, optional
        Contiguous room for the result.

    Returns
    -------
    (time, band, y, x) float32 array
        Mapped reflectance [1]; NaN where missing.
    """
    values = np.ascontiguousarray(values, np.float32)
    out = np.empty(values.shape, np.float32) if out is None else out
    packed = _pack(tables)
    first, per_unit = _positions(low, high, tables.shape[-1])
    if out.size:
        _apply(values, packed, first, per_unit, runs_of(rows), runs_of(columns), out)
    return out


def apply_tables_to_dn(
    dn: IntArray,
    tables: FloatArray,
    low: Float64Array,
    high: Float64Array,
    rows: IntArray,
    columns: IntArray,
    *,
    scale: Float64Array,
    offset: Float64Array,
    nodata: Float64Array,
    out: FloatArray | None = None,
) -> FloatArray:
    """Decode digital numbers and map them, in one gather where a table serves enough pixels.

    Decoding and the table collapse into one dense table over all values of the dtype (8 or 16
    bits). The result is that of decoding to float32 and `apply_tables`, bit by bit, either way.

    Parameters
    ----------
    dn : (time, band, y, x) integer array
        Digital numbers [1].
    scale, offset, nodata : (time, band) float64 array
        Reflectance = DN * scale + offset [1]; DN of a missing pixel, NaN where there is none.

    Other parameters and the result are those of `apply_tables`.
    """
    n_codes = 256**dn.dtype.itemsize
    if dn.dtype.itemsize > 2 or dn.size < MIN_PIXELS_PER_CODE * n_codes:
        decoded = affine(dn, scale, offset, nodata=nodata)
        return apply_tables(decoded, tables, low, high, rows, columns, out=out)
    out = np.empty(dn.shape, np.float32) if out is None else out
    for j, y0, y1 in runs_of(rows):
        for i, x0, x1 in runs_of(columns):
            window = np.s_[:, :, y0:y1, x0:x1]
            lines = (scale, offset, nodata)
            _map_tile(dn[window], tables[:, j, i], low, high, lines, out[window])
    return out


def _map_tile(
    dn: IntArray,
    tables: FloatArray,
    low: Float64Array,
    high: Float64Array,
    lines: tuple[Float64Array, ...],
    out: FloatArray,
) -> None:
    """Fill `out` (time, band, y, x) from the digital numbers of one tile."""
    n_bands, n_y, n_x = dn.shape[1:]
    codes = all_codes(dn.dtype)
    for b in range(n_bands):
        for dates in _alike(tables.shape[0], *(line[:, b] for line in lines)):
            table = tables[dates[0] if tables.shape[0] > 1 else 0, b]
            line = tuple(part[dates[:1], b : b + 1] for part in lines)
            is_dense = len(dates) * n_y * n_x >= MIN_PIXELS_PER_CODE * codes.size
            if is_dense:
                dense = _map_flat(codes, line, table, low[b], high[b])
            for t in dates:
                pixels = np.ascontiguousarray(dn[t, b])
                if is_dense:
                    gather(pixels.view(unsigned(dn.dtype)), dense, out[t, b])
                else:
                    mapped = _map_flat(pixels.reshape(1, 1, 1, -1), line, table, low[b], high[b])
                    out[t, b] = mapped.reshape(n_y, n_x)


def _map_flat(
    dn: IntArray, line: tuple[Float64Array, ...], table: FloatArray, low: float, high: float
) -> FloatArray:
    """Decode (1, 1, 1, x) digital numbers and map them through one table: (x,)."""
    decoded = affine(dn, line[0], line[1], nodata=line[2])
    first, per_unit = _positions(np.array([low]), np.array([high]), table.size)
    out, whole = np.empty(decoded.shape, np.float32), np.array([[0, 0, dn.size]])
    packed = _pack(table.reshape(1, 1, 1, 1, -1))
    _apply(decoded, packed, first, per_unit, np.array([[0, 0, 1]]), whole, out)
    return out.ravel()


def _alike(n_tables: int, *columns: Float64Array) -> list[list[int]]:
    """Dates that share one dense table: those of equal lines, where all share one look-up table."""
    if n_tables > 1:
        return [[t] for t in range(columns[0].size)]
    groups: dict[bytes, list[int]] = {}
    for t, line in enumerate(np.stack(columns, axis=1).astype(np.float64)):
        groups.setdefault(line.tobytes(), []).append(t)
    return list(groups.values())


def blend_tables(
    values: FloatArray,
    tables: FloatArray,
    low: Float64Array,
    high: Float64Array,
    rows: IntArray,
    columns: IntArray,
    row_weights: FloatArray,
    column_weights: FloatArray,
) -> FloatArray:
    """Map reflectance through the four tables around each pixel and weight their outputs.

    Parameters
    ----------
    rows, columns : (y,), (x,) int array
        Tile row above, and tile column left of, each pixel (first of the two it lies between).
    row_weights, column_weights : (y,), (x,) float array
        Weight of the next tile row and tile column [1]; 0 where there is none.

    Other parameters and the result are those of `apply_tables`. Tables of NaN (tiles without valid
    pixels) are left out, and the weights of the others sum to one.
    """
    values = np.ascontiguousarray(values, np.float32)
    out = np.empty(values.shape, np.float32)
    first, per_unit = _positions(low, high, tables.shape[-1])
    weights = np.asarray(row_weights, np.float32), np.asarray(column_weights, np.float32)
    if out.size:
        runs = runs_of(columns)
        lines = np.asarray(rows, np.int64)
        tables = np.ascontiguousarray(tables, np.float32)
        _blend(values, tables, first, per_unit, lines, runs, *weights, out)
    return out


def flag_outside(
    values: FloatArray, low: Float64Array, high: Float64Array, flags: IntArray, bit: int
) -> None:
    """Set a bit where a valid value of any band lies beyond a range.

    Parameters
    ----------
    values : (time, band, y, x) float array
        Reflectance [1]; missing values (NaN) set nothing.
    low, high : (band,) float64 array
        Range, ends included [1]; compared in the dtype of `values`.
    flags : (time, y, x) uint8 array
        Changed in place.
    bit : int
        Of `xharmonize.cube.companions.ResultFlag`.
    """
    limits = (np.asarray(edge).astype(values.dtype) for edge in (low, high))
    _flag_outside(np.ascontiguousarray(values), *limits, flags, np.uint8(bit))


def _positions(low: Float64Array, high: Float64Array, n_knots: int) -> tuple[FloatArray, ...]:
    """First knot and knots per unit of reflectance, per band."""
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    return low.astype(np.float32), ((n_knots - 1) / (high - low)).astype(np.float32)


def _pack(tables: FloatArray) -> AnyArray:
    """Value and slope to the next knot as the two halves of one number of 64 bits."""
    pairs = np.zeros((*tables.shape, 2), np.float32)
    pairs[..., 0] = tables
    pairs[..., :-1, 1] = np.diff(pairs[..., 0], axis=-1)
    return pairs.view(np.uint64)[..., 0]


def runs_of(numbers: IntArray) -> IntArray:
    """Runs of equal tile numbers: (run, 3), number, start and stop."""
    numbers = np.asarray(numbers, np.int64)
    edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1), numbers.size]
    runs = [(int(numbers[a]), a, b) for a, b in pairwise(edges) if b > a]
    return np.array(runs, np.int64).reshape(-1, 3)


@njit(nogil=True, cache=True, error_model="numpy")
def _apply(values, packed, low, per_unit, rows, columns, out):  # type: ignore[no-untyped-def]
    positions, parts = np.empty(STRIP, np.int32), np.empty(STRIP, np.float32)
    fetched = np.empty(STRIP, np.uint64)
    for t in range(values.shape[0]):
        of_date = packed[t if packed.shape[0] > 1 else 0]
        for b in range(values.shape[1]):
            for j, y0, y1 in rows:
                for i, x0, x1 in columns:
                    table = of_date[j, i, b]
                    for y in range(y0, y1):
                        row, to = values[t, b, y], out[t, b, y]
                        for x in range(x0, x1, STRIP):
                            # A part of a row: an index like x + k might be negative, for all the
                            # compiler knows, and loads and stores would be gathers and scatters.
                            part = row[x : min(x + STRIP, x1)]
                            _locate(part, low[b], per_unit[b], table.size, positions, parts)
                            _fetch(part, table, positions, parts, fetched, to[x : x + part.size])


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _locate(row, low, per_unit, n_knots, positions, parts):  # type: ignore[no-untyped-def]
    """Knot and share of the way to the next one, of each pixel of a strip; NaN goes to knot 0."""
    zero, last = np.float32(0), np.float32(n_knots - 1)
    for k in range(row.size):
        p = (row[k] - low) * per_unit
        p = p if p > zero else zero
        p = p if p < last else last
        whole = np.int32(p)
        positions[k] = whole
        parts[k] = p - np.float32(whole)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _fetch(row, table, positions, parts, fetched, to):  # type: ignore[no-untyped-def]
    """Value of the line between two knots, for each pixel of a strip."""
    nan, infinite = np.float32(math.nan), np.float32(math.inf)
    for k in range(row.size):
        fetched[k] = table[np.uint64(positions[k])]
    pairs = fetched.view(np.float32)
    for k in range(row.size):
        mapped = pairs[2 * k] + pairs[2 * k + 1] * parts[k]
        to[k] = mapped if abs(row[k]) < infinite else nan


@njit(nogil=True, cache=True)
def gather(codes: IntArray, dense: FloatArray, out: FloatArray) -> None:
    """Fill `out` (y, x) with ``dense[codes]``, codes (y, x) unsigned and within the table."""
    for y in range(codes.shape[0]):
        row, to = codes[y], out[y]
        for x in range(row.size):
            to[x] = dense[row[x]]


@njit(nogil=True, cache=True, error_model="numpy")
def _blend(  # type: ignore[no-untyped-def]
    values, tables, low, per_unit, rows, columns, row_weights, column_weights, out
):
    n_knots = tables.shape[4]
    positions, parts = np.empty(STRIP, np.int32), np.empty(STRIP, np.float32)
    left, right = np.empty(n_knots + 1, np.float32), np.empty(n_knots + 1, np.float32)
    for t in range(values.shape[0]):
        of_date = tables[t if tables.shape[0] > 1 else 0]
        for b in range(values.shape[1]):
            for y in range(values.shape[2]):
                row, to = values[t, b, y], out[t, b, y]
                above = of_date[rows[y]]
                below = of_date[min(rows[y] + 1, tables.shape[1] - 1)]
                for i, x0, x1 in columns:
                    after = min(i + 1, tables.shape[2] - 1)
                    a = _mix(above[i, b], below[i, b], row_weights[y], left)
                    c = _mix(above[after, b], below[after, b], row_weights[y], right)
                    for x in range(x0, x1, STRIP):
                        part = row[x : min(x + STRIP, x1)]
                        _locate(part, low[b], per_unit[b], n_knots, positions, parts)
                        target, weights = to[x : x + part.size], column_weights[x : x + part.size]
                        _weigh(part, left, right, a, c, weights, positions, parts, target)


@njit(nogil=True, cache=True, error_model="numpy")
def _mix(above, below, weight, table):  # type: ignore[no-untyped-def]
    """Mean of two tables, of those that are there; returns the weight of those."""
    one = np.float32(1)
    first = np.float32(0) if above[0] != above[0] else one - weight
    second = np.float32(0) if below[0] != below[0] else weight
    total = first + second
    for k in range(above.size):
        if first == 0:
            table[k] = below[k]
        elif second == 0:
            table[k] = above[k]
        else:
            table[k] = (first * above[k] + second * below[k]) / total
    table[above.size] = table[above.size - 1]
    return total


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _weigh(  # type: ignore[no-untyped-def]
    row, left, right, left_weight, right_weight, column_weights, positions, parts, to
):
    nan, infinite, one = np.float32(math.nan), np.float32(math.inf), np.float32(1)
    for k in range(row.size):
        p = np.uint64(positions[k])
        first = left[p] + (left[p + np.uint64(1)] - left[p]) * parts[k]
        second = right[p] + (right[p + np.uint64(1)] - right[p]) * parts[k]
        to_left = (one - column_weights[k]) * left_weight
        to_right = column_weights[k] * right_weight
        share = to_right / (to_left + to_right)
        mapped = first + (second - first) * share
        if to_right == 0:
            mapped = first if to_left > 0 else nan
        elif to_left == 0:
            mapped = second
        to[k] = mapped if abs(row[k]) < infinite else nan


@njit(nogil=True, cache=True)
def _flag_outside(values, low, high, flags, bit):  # type: ignore[no-untyped-def]
    for t in range(values.shape[0]):
        for b in range(values.shape[1]):
            for y in range(values.shape[2]):
                row, to = values[t, b, y], flags[t, y]
                for x in range(row.size):
                    is_out = (row[x] < low[b]) | (row[x] > high[b])
                    to[x] |= bit if is_out else np.uint8(0)


@njit(nogil=True, cache=True)
def fill_from_neighbours(values: FloatArray) -> FloatArray:
    """Replace missing pixels by the mean of the valid ones among the eight around them.

    Parameters
    ----------
    values : (time, band, y, x) float32 array
        NaN marks a missing pixel.

    Returns
    -------
    (time, band, y, x) float32 array
        0 where none of the eight is valid.
    """
    n_y, n_x = values.shape[2:]
    out = values.copy()
    for t in range(values.shape[0]):
        for b in range(values.shape[1]):
            plane = values[t, b]
            for y in range(n_y):
                for x in range(n_x):
                    if not np.isnan(plane[y, x]):
                        continue
                    total, n = 0.0, 0
                    for j in range(max(y - 1, 0), min(y + 2, n_y)):
                        for i in range(max(x - 1, 0), min(x + 2, n_x)):
                            if not np.isnan(plane[j, i]):
                                total += plane[j, i]
                                n += 1
                    out[t, b, y, x] = total / n if n else 0.0
    return out


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
