"""Quality layers: values to packed flags, selection and growth of masks.

One table look-up per pixel: a layout over 8 or 16 bits is expanded once into 256 or 65,536
entries. Classes and bits are never averaged; `xharmonize.kernels.regrid` joins the bits of
sub-pixels.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import lru_cache

import numpy as np
from numba import njit

from xharmonize.sensors.spec import Flag, Layout
from xharmonize.types import AnyArray, BoolArray, IntArray

_FILL = np.uint16(Flag.FILL)


def lookup_table(layout: Layout, fields: Collection[str] | None = None) -> IntArray:
    """Expand a layout into packed flags for every value it can hold.

    Parameters
    ----------
    layout : Layout
        Meaning of a quality layer.
    fields : collection of str, optional
        Names of the fields to use (of QA_RADSAT: the bands loaded); None takes all.

    Returns
    -------
    (256,) or (65536,) uint16 array
        `Flag` bits by value; read-only, shared between calls.
    """
    return _expand(layout, None if fields is None else frozenset(fields))


@lru_cache(maxsize=64)
def _expand(layout: Layout, fields: frozenset[str] | None) -> IntArray:
    values = np.arange(2**layout.n_bits)
    table = np.zeros(values.size, np.uint16)
    for field in layout.fields:
        if fields is not None and field.name not in fields:
            continue
        part = (values >> field.offset) & (2**field.length - 1)
        for value, flag in field.flags:
            table[part == value] |= np.uint16(flag)
    if layout.n_classes is not None:
        table[layout.n_classes :] = _FILL
    if layout.fill is not None:
        table[layout.fill] = _FILL
    table.flags.writeable = False
    return table


def decode_qa(qa: IntArray, table: IntArray) -> IntArray:
    """Turn a quality layer into packed flags by one gather per pixel.

    Parameters
    ----------
    qa : integer array
        Raw values; signed ones of 8 or 16 bits are read as their bit pattern.
    table : (256,) or (65536,) uint16 array
        See `lookup_table`. Values beyond it give ``fill``.

    Returns
    -------
    uint16 array
        `Flag` bits, in the shape of `qa`.
    """
    if qa.dtype.kind == "i" and qa.dtype.itemsize <= 2:
        qa = qa.view(f"u{qa.dtype.itemsize}")
    out = np.empty(qa.shape, np.uint16)
    _gather(np.ascontiguousarray(qa).reshape(-1), table, out.reshape(-1))
    return out


def select(qa: IntArray, bits: IntArray) -> BoolArray:
    """Mark pixels that have any of the flags asked for on their date.

    Parameters
    ----------
    qa : (time, y, x) uint16 array
        Packed flags.
    bits : (time,) uint16 array
        `Flag` bits by date.

    Returns
    -------
    (time, y, x) bool array
    """
    return np.asarray((qa & bits[:, None, None]) != 0)


def dilate(mask: BoolArray, radius: tuple[float, float]) -> BoolArray:
    """Grow a mask by a disc (an ellipse where the radii differ).

    Parameters
    ----------
    mask : (time, y, x) bool array
        True where set.
    radius : (float, float)
        Along y and x [pixel]; a pixel is set where the centre of a set pixel lies within.

    Returns
    -------
    (time, y, x) bool array
        Nothing is assumed to be set outside the array.
    """
    steps = _half_widths(radius)
    out = np.empty(mask.shape, np.bool_)
    _dilate(mask, steps, out)
    return out


def _half_widths(radius: tuple[float, float]) -> IntArray:
    """Half-width in x [pixel] of the disc's rows dy = 0, 1, ...; rounding errors forgiven."""
    y, x = radius
    rows = np.arange(math.floor(y + 1e-9) + 1)
    scaled = 1.0 - (rows / y) ** 2 if y > 0 else np.ones(1)
    return np.floor(x * np.sqrt(np.maximum(scaled, 0.0)) + 1e-9).astype(np.int64)


def write_missing(values: AnyArray, removed: BoolArray, missing: AnyArray) -> AnyArray:
    """Return a copy of `values` with masked pixels missing.

    Parameters
    ----------
    values : (time, band, y, x) array
        Reflectance [1] or digital numbers.
    removed : (time, y, x) bool array
        True where all bands of a date are to be missing.
    missing : (time, band) array in the dtype of `values`
        What a missing pixel holds: NaN, or nodata.

    Returns
    -------
    (time, band, y, x) array in the dtype of `values`
    """
    out = np.empty(values.shape, values.dtype)
    if not out.size:
        return out
    n_times, n_bands = values.shape[:2]
    _write_missing(
        np.ascontiguousarray(values).reshape(n_times, n_bands, -1),
        np.ascontiguousarray(removed).reshape(n_times, -1),
        missing,
        out.reshape(n_times, n_bands, -1),
    )
    return out


@njit(nogil=True, cache=True)
def _gather(qa, table, out):  # type: ignore[no-untyped-def]
    size = len(table)
    for i in range(len(qa)):
        value = np.int64(qa[i])
        out[i] = table[value] if 0 <= value < size else _FILL


@njit(nogil=True, cache=True)
def _row_distance(row, far, out):  # type: ignore[no-untyped-def]
    """Distance [pixel] along a row to the nearest set pixel, `far` where there is none."""
    n = len(row)
    last = -far
    for j in range(n):
        if row[j]:
            last = j
        out[j] = j - last
    last = n + far
    for j in range(n - 1, -1, -1):
        if row[j]:
            last = j
        out[j] = min(out[j], last - j)


@njit(nogil=True, cache=True)
def _dilate(mask, half_widths, out):  # type: ignore[no-untyped-def]
    n_times, n_rows, n_columns = mask.shape
    distance = np.empty((n_rows, n_columns), np.int64)
    far = n_columns + half_widths[0] + 1
    for t in range(n_times):
        for i in range(n_rows):
            _row_distance(mask[t, i], far, distance[i])
        for i in range(n_rows):
            for j in range(n_columns):
                out[t, i, j] = distance[i, j] <= half_widths[0]
            for dy in range(1, len(half_widths)):
                for k in (i - dy, i + dy):
                    if 0 <= k < n_rows:
                        for j in range(n_columns):
                            out[t, i, j] |= distance[k, j] <= half_widths[dy]


@njit(nogil=True, cache=True)
def _write_missing(values, removed, missing, out):  # type: ignore[no-untyped-def]
    n_times, n_bands, n_pixels = values.shape
    for t in range(n_times):
        for b in range(n_bands):
            fill = missing[t, b]
            for i in range(n_pixels):
                out[t, b, i] = fill if removed[t, i] else values[t, b, i]


def exceeds(values: IntArray, limit: IntArray, missing: IntArray) -> BoolArray:
    """Mark pixels of which any band lies above its limit.

    Parameters
    ----------
    values : (time, band, y, x) integer array
        Digital numbers [1].
    limit, missing : (time, band) int64 array
        Largest valid digital number, and the one of a missing pixel, which exceeds nothing.

    Returns
    -------
    (time, y, x) bool array
    """
    n_times, _, n_rows, n_columns = values.shape
    out = np.zeros((n_times, n_rows, n_columns), np.bool_)
    info = np.iinfo(values.dtype)
    # Compared in the dtype of the values, so that the loop runs on whole registers. The smallest
    # number exceeds nothing either: it stands for a missing value that cannot occur.
    ceiling = np.clip(limit, info.min, info.max).astype(values.dtype)
    held = (missing >= info.min) & (missing <= info.max)
    code = np.where(held, missing, info.min).astype(values.dtype)
    if values.size and (ceiling < info.max).any():
        rows = np.ascontiguousarray(values).reshape(*values.shape[:2], -1)
        _exceeds(rows, ceiling, code, out.reshape(n_times, -1))
    return out


@njit(nogil=True, cache=True)
def _exceeds(values, limit, missing, out):  # type: ignore[no-untyped-def]
    n_times, n_bands, n_pixels = values.shape
    for t in range(n_times):
        for b in range(n_bands):
            most, code = limit[t, b], missing[t, b]
            for i in range(n_pixels):
                value = values[t, b, i]
                out[t, i] |= (value > most) & (value != code)
