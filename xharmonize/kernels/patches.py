"""Tiles cut from images and put together again.

Positions are counted from the first pixel of the image a function is given.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from xharmonize.types import FloatArray, IntArray


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
            tile[k] = tile[nearer]
        last = j
    for k in range(last + 1, height):
        tile[k] = tile[last]


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
