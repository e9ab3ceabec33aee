"""Tiles cut from images and put together again, and their histograms.

Positions are counted from the first pixel of the image a function is given.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from xharmonize.kernels.lut import all_codes, runs_of, unsigned
from xharmonize.kernels.reflectance import affine
from xharmonize.types import AnyArray, Float64Array, FloatArray, IntArray


def reflect(start: int, stop: int, low: int, high: int) -> IntArray:
    """Pixels that stand in for ``[start, stop)`` where only ``[low, high)`` is there.

    Beyond an edge the image is mirrored, the edge pixel first, as often as it takes: what stands
    in for a pixel depends on its position and the edges alone.

    Returns
    -------
    (stop - start,) int64 array
        Positions in ``[low, high)``.
    """
    if low <= start and stop <= high:
        return np.arange(start, stop, dtype=np.int64)
    size = high - low
    place = np.mod(np.arange(start - low, stop - low, dtype=np.int64), 2 * size)
    return np.asarray(np.where(place < size, place, 2 * size - 1 - place) + low, np.int64)


def reflected_span(start: int, stop: int, low: int, high: int) -> tuple[int, int]:
    """Span of the pixels that `reflect` names."""
    if low <= start and stop <= high:
        return start, stop
    places = reflect(start, stop, low, high)
    return int(places.min()), int(places.max()) + 1


def decimate(
    images: FloatArray, factor: int, first: tuple[int, int], shape: tuple[int, int]
) -> tuple[FloatArray, float]:
    """Take back pixels that were held ``factor`` times a side by nearest: the first finite of each.

    Parameters
    ----------
    images : (time, band, y, x) float32 array
        Held pixels; NaN is missing.
    factor : int
        Sub-pixels a side.
    first : (int, int)
        Row and column of the first sub-pixel of the first pixel; negative where the image starts
        within that pixel.
    shape : (int, int)
        Rows and columns of the result. Sub-pixels outside the image are missing.

    Returns
    -------
    (time, band, row, column) float32 array
        NaN where no sub-pixel is finite.
    float
        Greatest difference between finite sub-pixels of one pixel; more than rounding tells that
        the image was interpolated.
    """
    out = np.empty((*images.shape[:2], *shape), np.float32)
    height, width = images.shape[-2:]
    fits = first[0] >= 0 and first[1] >= 0
    fits = fits and first[0] + 2 * shape[0] <= height and first[1] + 2 * shape[1] <= width
    if factor == 2 and fits:
        return out, float(_decimate_pairs(images, first[0], first[1], out))
    return out, float(_decimate(images, factor, first[0], first[1], out))


@njit(nogil=True, cache=True)
def _decimate(images, factor, first_row, first_column, out):  # type: ignore[no-untyped-def]
    worst = np.float32(0.0)
    for t in range(out.shape[0]):
        for b in range(out.shape[1]):
            for j in range(out.shape[2]):
                for i in range(out.shape[3]):
                    row, column = first_row + j * factor, first_column + i * factor
                    found, far = _first_finite(images[t, b], row, column, factor)
                    out[t, b, j, i] = found
                    worst = max(worst, far)
    return worst


@njit(nogil=True, cache=True)
def _decimate_pairs(images, first_row, first_column, out):  # type: ignore[no-untyped-def]
    """As `_decimate` for two sub-pixels a side, all inside: a loop that runs on registers."""
    worst = np.float32(0.0)
    far = np.empty(out.shape[3], np.float32)
    for t in range(out.shape[0]):
        for b in range(out.shape[1]):
            for j in range(out.shape[2]):
                one = images[t, b, first_row + 2 * j]
                two = images[t, b, first_row + 2 * j + 1]
                for i in range(out.shape[3]):
                    x = first_column + 2 * i
                    v = one[x]
                    out[t, b, j, i] = v
                    # NaN where any of the four is missing.
                    far[i] = abs(v - one[x + 1]) + abs(v - two[x]) + abs(v - two[x + 1])
                for i in range(out.shape[3]):
                    if not far[i] <= worst:
                        row, column = first_row + 2 * j, first_column + 2 * i
                        found, spread = _first_finite(images[t, b], row, column, 2)
                        out[t, b, j, i] = found
                        worst = max(worst, spread)
    return worst


@njit(nogil=True, cache=True)
def _first_finite(image, row, column, factor):  # type: ignore[no-untyped-def]
    """First finite sub-pixel, row by row, and the spread of all."""
    found = np.float32(np.nan)
    low, high = np.float32(np.inf), np.float32(-np.inf)
    for y in range(max(row, 0), min(row + factor, image.shape[0])):
        for x in range(max(column, 0), min(column + factor, image.shape[1])):
            value = image[y, x]
            if np.isfinite(value):
                if not np.isfinite(found):
                    found = value
                low, high = min(low, value), max(high, value)
    return found, max(high - low, np.float32(0.0))


def cut(
    image: FloatArray,
    rows: IntArray,
    columns: IntArray,
    mean: FloatArray,
    scale: FloatArray,
    out: FloatArray,
) -> bool:
    """Cut one tile, fill what is missing in it, and normalise it.

    A missing pixel takes the nearest valid value of its row, the western one of two as near; a row
    without any takes the nearest row that has some, the northern one of two as near. Only the tile
    itself is looked at, so that the result depends on nothing else.

    Parameters
    ----------
    image : (band, y, x) float32 array
        Reflectance [1]; what is not finite is missing.
    rows, columns : (row,), (column,) int64 array
        Pixels of the image that the tile shows.
    mean, scale : (band,) float32 array
        The tile becomes ``(reflectance - mean) / scale``.
    out : (band, row, column) float32 array
        Written to.

    Returns
    -------
    bool
        False where a band is missing throughout; `out` then holds anything.
    """
    return bool(_cut(image, rows, columns, mean, scale, out))


@njit(nogil=True, cache=True)
def _copy_rows(image, rows, mean, scale, out):  # type: ignore[no-untyped-def]
    n_valid = 0
    factor = np.float32(1.0) / scale
    for j in range(out.shape[0]):
        source = image[rows[j]]
        for i in range(out.shape[1]):
            out[j, i] = (source[i] - mean) * factor
        for i in range(out.shape[1]):
            n_valid += np.isfinite(out[j, i])
    return out.size - n_valid


@njit(nogil=True, cache=True)
def _copy(image, rows, columns, mean, scale, out):  # type: ignore[no-untyped-def]
    n_valid = 0
    factor = np.float32(1.0) / scale
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            value = image[rows[j], columns[i]]
            out[j, i] = (value - mean) * factor
            n_valid += np.isfinite(value)
    return out.size - n_valid


@njit(nogil=True, cache=True)
def _fill(tile):  # type: ignore[no-untyped-def]
    height, width = tile.shape
    is_empty = np.ones(height, np.bool_)
    for j in range(height):
        last = -1  # the last valid pixel of this row
        for i in range(width):
            if not np.isfinite(tile[j, i]):
                continue
            is_empty[j] = False
            if last < 0:
                tile[j, :i] = tile[j, i]
            else:
                middle = (last + i) // 2
                tile[j, last + 1 : middle + 1] = tile[j, last]
                tile[j, middle + 1 : i] = tile[j, i]
            last = i
        if last >= 0:
            tile[j, last + 1 :] = tile[j, last]
    last = -1
    for j in range(height):
        if is_empty[j]:
            continue
        for k in range(last + 1, j):
            nearer = last if last >= 0 and k - last <= j - k else j
            for i in range(width):
                tile[k, i] = tile[nearer, i]
        last = j
    for k in range(last + 1, height):
        for i in range(width):
            tile[k, i] = tile[last, i]


@njit(nogil=True, cache=True)
def _cut(image, rows, columns, mean, scale, out):  # type: ignore[no-untyped-def]
    first, n = columns[0], columns.size
    is_run = columns[n - 1] - first == n - 1
    for i in range(n):
        is_run = is_run and columns[i] == first + i
    for band in range(image.shape[0]):
        if is_run:
            strip = image[band, :, first : first + n]
            n_missing = _copy_rows(strip, rows, mean[band], scale[band], out[band])
        else:
            n_missing = _copy(image[band], rows, columns, mean[band], scale[band], out[band])
        if n_missing == out[band].size:
            return False
        if n_missing:
            _fill(out[band])
    return True


@njit(nogil=True, cache=True)
def add_tile(
    values: FloatArray,
    row_weight: FloatArray,
    column_weight: FloatArray,
    scale: FloatArray,
    mean: FloatArray,
    out: FloatArray,
) -> None:
    """Add one tile of a network's output, as reflectance and weighted, to an image.

    Parameters
    ----------
    values : (band, y, x) float32 array
        Output of the network; the reflectance is ``values * scale + mean``.
    row_weight, column_weight : (y,), (x,) float32 array
        A pixel's weight is the product of both.
    scale, mean : (band,) float32 array
        Per band [1].
    out : (band, y, x) float32 array
        Added to.
    """
    n_bands, height, width = out.shape
    for b in range(n_bands):
        for j in range(height):
            weight = row_weight[j]
            for i in range(width):
                value = values[b, j, i] * scale[b] + mean[b]
                out[b, j, i] += value * (weight * column_weight[i])


def ramp(tile: int, buffer: int) -> FloatArray:
    """Weights along one side of a tile that is blended with its neighbours.

    Over the ``2 * buffer`` pixels that two neighbours share, they sum to one.

    Returns
    -------
    (tile,) float32 array
        Weights [1], rising over the first ``2 * buffer`` pixels and falling over the last.
    """
    weight = np.ones(tile, np.float32)
    if buffer:
        rise = ((np.arange(2 * buffer) + 0.5) / (2 * buffer)).astype(np.float32)
        weight[: 2 * buffer] = rise
        weight[tile - 2 * buffer :] *= 1 - rise
    return weight


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
def _bin(row, low, per_unit, n_bins, bins):  # type: ignore[no-untyped-def]
    """Bin of each value of a strip; `n_bins` where missing. In double precision, as numpy's."""
    last = np.float64(n_bins - 1)
    for k in range(row.size):
        value = np.float64(row[k])
        p = (value - low) * per_unit
        p = p if p > 0.0 else 0.0
        p = p if p < last else last
        bins[k] = np.int32(p) if abs(value) < np.inf else np.int32(n_bins)


@njit(nogil=True, cache=True)
def _bin_all(values, low, per_unit, n_bins):  # type: ignore[no-untyped-def]
    bins = np.empty(values.size, np.int32)
    _bin(values, low, per_unit, n_bins, bins)
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
                            # A part of a row, as in `lut`: loads, not gathers.
                            part = row[x : min(x + STRIP, x1)]
                            _bin(part, low[band], per_unit[band], n_bins, bins)
                            _add(bins, part.size, a, b, c, d)
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
