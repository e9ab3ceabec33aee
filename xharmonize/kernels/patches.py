"""Tiles cut from images and put together again.

Positions are counted from the first pixel of the image a function is given.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from xharmonize.types import AnyArray, BoolArray, Float64Array, FloatArray, IntArray


def reflect(start: int, stop: int, low: int, high: int) -> IntArray:
    """Pixels that stand in for ``[start, stop)`` where only ``[low, high)`` is there.

    Beyond an edge the image is mirrored, the edge pixel first, as often as it takes: what stands
    in for a pixel depends on its position and the edges alone.

    Returns
    -------
    (stop - start,) int64 array
        Positions in ``[low, high)``.
    """
    size = high - low
    place = np.mod(np.arange(start - low, stop - low, dtype=np.int64), 2 * size)
    return np.asarray(np.where(place < size, place, 2 * size - 1 - place) + low, np.int64)


def reflected_span(start: int, stop: int, low: int, high: int) -> tuple[int, int]:
    """Span of the pixels that `reflect` names."""
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
    spread = _decimate(images, factor, first[0], first[1], out)
    return out, float(spread)


@njit(nogil=True, cache=True)
def _decimate(images, factor, first_row, first_column, out):  # type: ignore[no-untyped-def]
    n_times, n_bands, height, width = images.shape
    worst = np.float32(0.0)
    for t in range(n_times):
        for b in range(n_bands):
            for j in range(out.shape[2]):
                row = first_row + j * factor
                for i in range(out.shape[3]):
                    column = first_column + i * factor
                    found = np.float32(np.nan)
                    low, high = np.float32(np.inf), np.float32(-np.inf)
                    for y in range(max(row, 0), min(row + factor, height)):
                        for x in range(max(column, 0), min(column + factor, width)):
                            value = images[t, b, y, x]
                            if np.isfinite(value):
                                if not np.isfinite(found):
                                    found = value
                                low, high = min(low, value), max(high, value)
                    out[t, b, j, i] = found
                    if high - low > worst:
                        worst = high - low
    return worst


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
    is_run = columns.size > 0 and int(columns[-1]) - int(columns[0]) == columns.size - 1
    is_run = is_run and bool((np.diff(columns) == 1).all())
    for band in range(image.shape[0]):
        if is_run:
            first = int(columns[0])
            strip = image[band, :, first : first + columns.size]
            n_missing = _copy_rows(strip, rows, mean[band], scale[band], out[band])
        else:
            n_missing = _copy(image[band], rows, columns, mean[band], scale[band], out[band])
        if n_missing == out[band].size:
            return False
        if n_missing:
            _fill(out[band])
    return True


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
            tile[k] = tile[nearer]
        last = j
    for k in range(last + 1, height):
        tile[k] = tile[last]


def judge(
    images: FloatArray,
    rows: tuple[IntArray, Float64Array],
    columns: tuple[IntArray, Float64Array],
    low: FloatArray,
    high: FloatArray,
) -> tuple[FloatArray, BoolArray, BoolArray]:
    """Look at the input pixels under each output pixel.

    Parameters
    ----------
    images : (band, y, x) float32 array
        Reflectance [1] of one date; what is not finite is missing.
    rows, columns : ((row,) int64 array, (row, k) float64 array)
        First input pixel under each output pixel, and the share of the output pixel that it and
        those after it cover [1]. Pixels outside the image count as not valid, and not as missing.
    low, high : (band,) float32 array
        Range of the training data [1].

    Returns
    -------
    share : (row, column) float32 array
        Valid share of each output pixel [1], of the band that has least.
    is_missing : (row, column) bool array
        Whether any input pixel that it shares an area with is missing, in any band.
    is_strange : (row, column) bool array
        Whether any valid one lies outside ``[low, high]``, in any band.
    """
    shape = (rows[0].size, columns[0].size)
    lowest, highest = images.min(axis=(1, 2)), images.max(axis=(1, 2))  # NaN where one is missing
    if np.isfinite(lowest).all() and np.isfinite(highest).all():
        inside = [_covered(axis, size) for axis, size in zip((rows, columns), images.shape[1:])]
        share = np.multiply.outer(*inside).astype(np.float32)
        nowhere = np.zeros(shape, np.bool_)
        if (lowest >= low).all() and (highest <= high).all():
            return share, nowhere, nowhere
    share = np.empty(shape, np.float32)
    is_missing, is_strange = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    _judge(images, *rows, *columns, low, high, share, is_missing, is_strange)
    return share, is_missing, is_strange


def _covered(axis: tuple[IntArray, Float64Array], size: int) -> Float64Array:
    """Share of each output pixel, along one axis, that lies on the image."""
    first, weight = axis
    pixel = first[:, None] + np.arange(weight.shape[1])
    total: Float64Array = np.where((pixel >= 0) & (pixel < size), weight, 0.0).sum(axis=1)
    return total


@njit(nogil=True, cache=True)
def _judge(  # type: ignore[no-untyped-def]
    images, first_row, row_share, first_column, column_share, low, high, share, missing, strange
):
    n_bands, height, width = images.shape
    for j in range(share.shape[0]):
        for i in range(share.shape[1]):
            least = 2.0
            for b in range(n_bands):
                total = 0.0
                for v in range(row_share.shape[1]):
                    y = first_row[j] + v
                    if y < 0 or y >= height or row_share[j, v] == 0:
                        continue
                    for u in range(column_share.shape[1]):
                        x = first_column[i] + u
                        if x < 0 or x >= width or column_share[i, u] == 0:
                            continue
                        value = images[b, y, x]
                        if not np.isfinite(value):
                            missing[j, i] = True
                            continue
                        total += row_share[j, v] * column_share[i, u]
                        if value < low[b] or value > high[b]:
                            strange[j, i] = True
                least = min(least, total)
            share[j, i] = least


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


def spread(mask: BoolArray, radius: int) -> BoolArray:
    """Pixels within `radius` rows and columns of one that is set.

    Parameters
    ----------
    mask : (y, x) bool array
        Not changed.
    """
    for axis in (0, 1):
        mask = np.moveaxis(mask, axis, 0)
        size = np.arange(mask.shape[0])
        count = np.concatenate([np.zeros((1, mask.shape[1]), np.int64), np.cumsum(mask, axis=0)])
        after = count[np.minimum(size + radius + 1, size.size)]
        mask = np.moveaxis(after > count[np.maximum(size - radius, 0)], 0, axis)
    return mask


@njit(nogil=True, cache=True)
def count(image: FloatArray, low: float, high: float, n_bins: int) -> IntArray:
    """Count finite values in evenly spaced bins; values beyond count in the end bins.

    Parameters
    ----------
    image : (band, y, x) float array
        Values [1].
    low, high : float
        Limits of the bins [1].
    n_bins : int
        Number of bins.

    Returns
    -------
    (band, bin) int64 array
        Counts.
    """
    counts = np.zeros((image.shape[0], n_bins), np.int64)
    per_unit = n_bins / (high - low)
    for b in range(image.shape[0]):
        for j in range(image.shape[1]):
            for i in range(image.shape[2]):
                value = np.float64(image[b, j, i])
                if np.isfinite(value):
                    counts[b, int(min(max((value - low) * per_unit, 0.0), n_bins - 1.0))] += 1
    return counts


def earth_movers_distance(counts: AnyArray, shares: Float64Array, width: float) -> Float64Array:
    """Earth mover's distance of histograms over the same evenly spaced bins.

    Parameters
    ----------
    counts : (..., bin) array
        Counts; nothing is known of an empty histogram, which is at distance 0.
    shares : (..., bin) float64 array
        Shares that sum to one.
    width : float
        Of a bin [1].

    Returns
    -------
    (...) float64 array
        Mean way that a value has to go [1], the unit of `width`.
    """
    total = counts.sum(axis=-1, keepdims=True)
    own = np.cumsum(counts / np.maximum(total, 1), axis=-1)
    distance: Float64Array = np.abs(own - np.cumsum(shares, axis=-1)).sum(axis=-1) * width
    return np.where(total[..., 0] > 0, distance, 0.0)
