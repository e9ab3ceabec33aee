"""GPU twins of kernels: the same arithmetic, one thread per pixel, on cupy's current stream.

A twin takes what its namesake in `xharmonize.kernels` takes, with cupy arrays (or anything with
``__cuda_array_interface__``) for the pixels, and gives cupy arrays back; tables and limits may be
numpy. Block functions ask `lut_kernels` and `histogram_kernels` for the module that fits their
block: nowhere else do the two differ. Compiled on first use; the twins are not imported where no
block is on a GPU.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from numba import cuda, int32

from xharmonize._optional import require
from xharmonize.kernels.lut import runs_of
from xharmonize.types import AnyArray, Float64Array, FloatArray, IntArray


def is_on_gpu(array: Any) -> bool:
    """Tell whether an array lies in GPU memory."""
    return hasattr(array, "__cuda_array_interface__")


def lut_kernels(block: Any) -> Any:
    """`xharmonize.kernels.lut`, or its twin for a block on a GPU."""
    if is_on_gpu(block):
        return sys.modules[__name__]
    from xharmonize.kernels import lut

    return lut


def histogram_kernels(block: Any) -> Any:
    """`xharmonize.kernels.patches`, or its twin for a block on a GPU."""
    if is_on_gpu(block):
        return sys.modules[__name__]
    from xharmonize.kernels import patches

    return patches


THREADS = 256
"""Threads of a block."""

MAX_ROWS = 65_535
"""Rows of blocks of one launch, on any CUDA device."""

BINS = 12_288
"""Bins of one pass: as many 32-bit counts as the 48 KiB of shared memory every block may have."""


def to_device(array: Any, like: Any, dtype: Any = None) -> Any:
    """A contiguous array where `like` is."""
    if not is_on_gpu(like):
        return np.ascontiguousarray(array, dtype)
    return require("cupy", extra="gpu").ascontiguousarray(
        require("cupy", extra="gpu").asarray(array), dtype
    )


def empty(shape: tuple[int, ...], dtype: Any, like: Any) -> Any:
    """Room where `like` is."""
    return (
        require("cupy", extra="gpu").empty(shape, dtype)
        if is_on_gpu(like)
        else (np.empty(shape, dtype))
    )


def zeros(shape: tuple[int, ...], dtype: Any, like: Any) -> Any:
    """Zeros where `like` is."""
    room = empty(shape, dtype, like)
    room[...] = 0
    return room


def launch(
    kernel: Any, n_items: int, *arguments: Any, like: Any, shared: int = 0, rows: int = 1
) -> None:
    """Run a kernel with a thread for each item, in up to `rows` rows of blocks.

    Kernels step by the size of the grid, so that any size is covered.
    """
    blocks, rows = max(1, min((n_items + THREADS - 1) // THREADS, 65_535)), min(rows, MAX_ROWS)
    stream = 0
    if is_on_gpu(like):
        current = require("cupy", extra="gpu").cuda.get_current_stream()
        stream = cuda.external_stream(current.ptr)
    kernel[(blocks, rows), THREADS, stream, shared](*arguments)


def count_values(
    values: Any,
    low: Float64Array,
    high: Float64Array,
    n_bins: int,
    rows: IntArray,
    columns: IntArray,
) -> Any:
    """Count reflectance; see `xharmonize.kernels.patches.count_values`."""
    shape = values.shape[:2]
    identity = np.ones(shape), np.zeros(shape), np.full(shape, np.nan)
    return _count(values, low, high, n_bins, rows, columns, identity)


def count_dn(
    dn: Any,
    low: Float64Array,
    high: Float64Array,
    n_bins: int,
    rows: IntArray,
    columns: IntArray,
    *,
    scale: Float64Array,
    offset: Float64Array,
    nodata: Float64Array,
) -> Any:
    """Count digital numbers; see `xharmonize.kernels.patches.count_dn`."""
    return _count(dn, low, high, n_bins, rows, columns, (scale, offset, nodata))


def _count(
    values: Any,
    low: Float64Array,
    high: Float64Array,
    n_bins: int,
    rows: IntArray,
    columns: IntArray,
    lines: tuple[Float64Array, ...],
) -> Any:
    values = to_device(values, values)
    n_times, n_bands = values.shape[:2]
    n_rows, n_columns = (int(np.max(numbers, initial=-1)) + 1 for numbers in (rows, columns))
    counts = zeros((n_times, n_rows, n_columns, n_bands, n_bins), np.int32, values)
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    limits = to_device(low, values), to_device(n_bins / (high - low), values)
    on_device = [to_device(line, values, np.float64) for line in lines]
    for j, y0, y1 in runs_of(rows):
        for i, x0, x1 in runs_of(columns):
            place = [int(number) for number in (j, i, y0, y1, x0, x1)]
            arguments = (values, *limits, *on_device, *place, counts)
            n_pixels = int(y1 - y0) * int(x1 - x0)
            for first in range(0, n_bins, BINS):
                # Few blocks, each with much to count: one histogram in shared memory per block.
                launch(
                    _count_plane,
                    (n_pixels + 63) // 64,
                    *arguments,
                    first,
                    like=values,
                    shared=4 * min(n_bins - first, BINS),
                    rows=n_times * n_bands,
                )
    return counts.astype(np.int64)


@cuda.jit
def _count_plane(  # type: ignore[no-untyped-def]
    values, low, per_unit, scale, offset, nodata, j, i, y0, y1, x0, x1, counts, first
):
    """Count a tile's pixels that fall to this block, in its planes: bins from the first one on."""
    local = cuda.shared.array(0, int32)
    n_bins, n_x = min(counts.shape[4] - first, BINS), x1 - x0
    start = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    for plane in range(cuda.blockIdx.y, values.shape[0] * values.shape[1], cuda.gridDim.y):
        t, b = plane // values.shape[1], plane % values.shape[1]
        for k in range(cuda.threadIdx.x, n_bins, cuda.blockDim.x):
            local[k] = 0
        cuda.syncthreads()
        for k in range(start, (y1 - y0) * n_x, cuda.gridDim.x * cuda.blockDim.x):
            code = np.float64(values[t, b, y0 + k // n_x, x0 + k % n_x])
            if abs(code) < math.inf and code != nodata[t, b]:
                value = np.float64(np.float32(code * scale[t, b] + offset[t, b]))
                p = min(max((value - low[b]) * per_unit[b], 0.0), counts.shape[4] - 1.0)
                if 0 <= int(p) - first < n_bins:
                    cuda.atomic.add(local, int(p) - first, 1)
        cuda.syncthreads()
        for k in range(cuda.threadIdx.x, n_bins, cuda.blockDim.x):
            if local[k]:
                cuda.atomic.add(counts, (t, j, i, b, first + k), local[k])


def apply_tables(
    values: Any,
    tables: FloatArray,
    low: Float64Array,
    high: Float64Array,
    rows: IntArray,
    columns: IntArray,
) -> Any:
    """Map reflectance through tables; see `xharmonize.kernels.lut.apply_tables`."""
    values = to_device(values, values, np.float32)
    out = empty(values.shape, np.float32, values)
    arguments = _common(values, tables, low, high, rows, columns)
    launch(_apply, values.size, values, *arguments, out, like=values)
    return out


def apply_tables_to_dn(
    dn: Any,
    tables: FloatArray,
    low: Float64Array,
    high: Float64Array,
    rows: IntArray,
    columns: IntArray,
    *,
    scale: Float64Array,
    offset: Float64Array,
    nodata: Float64Array,
) -> Any:
    """Decode and map in one pass; see `xharmonize.kernels.lut.apply_tables_to_dn`.

    A GPU decodes faster than it reads a dense table: there is none here.
    """
    dn = to_device(dn, dn)
    out = empty(dn.shape, np.float32, dn)
    lines = [to_device(line, dn, np.float64) for line in (scale, offset, nodata)]
    arguments = _common(dn, tables, low, high, rows, columns)
    launch(_apply_dn, dn.size, dn, *arguments, *lines, out, like=dn)
    return out


def affine(dn: Any, slope: Float64Array, intercept: Float64Array, *, nodata: Float64Array) -> Any:
    """Apply a line to digital numbers; see `xharmonize.kernels.reflectance.affine`."""
    dn = to_device(dn, dn)
    out = empty(dn.shape, np.float32, dn)
    lines = [to_device(line, dn, np.float64) for line in (slope, intercept, nodata)]
    launch(_affine, dn.size, dn, *lines, out, like=dn)
    return out


def blend_tables(
    values: Any,
    tables: FloatArray,
    low: Float64Array,
    high: Float64Array,
    rows: IntArray,
    columns: IntArray,
    row_weights: FloatArray,
    column_weights: FloatArray,
) -> Any:
    """Weight the outputs of four tables; see `xharmonize.kernels.lut.blend_tables`."""
    values = to_device(values, values, np.float32)
    out = empty(values.shape, np.float32, values)
    arguments = _common(values, tables, low, high, rows, columns)
    weights = [to_device(weight, values, np.float32) for weight in (row_weights, column_weights)]
    launch(_blend, values.size, values, *arguments, *weights, out, like=values)
    return out


def flag_outside(values: Any, low: Float64Array, high: Float64Array, flags: Any, bit: int) -> None:
    """Flag values beyond a range; see `xharmonize.kernels.lut.flag_outside`."""
    values = to_device(values, values)
    limits = [to_device(np.asarray(edge), values, values.dtype) for edge in (low, high)]
    launch(_flag_outside, flags.size, values, *limits, flags, np.uint8(bit), like=values)


def fill_from_neighbours(values: Any) -> Any:
    """Fill missing pixels; see `xharmonize.kernels.lut.fill_from_neighbours`."""
    values = to_device(values, values, np.float32)
    out = empty(values.shape, np.float32, values)
    launch(_fill, values.size, values, out, like=values)
    return out


def _common(
    values: Any,
    tables: FloatArray,
    low: Float64Array,
    high: Float64Array,
    rows: IntArray,
    columns: IntArray,
) -> list[AnyArray]:
    """Tables, first knot, knots per unit and tiles of pixels, on the device."""
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    per_unit = (tables.shape[-1] - 1) / (high - low)
    return [
        to_device(tables, values, np.float32),
        to_device(low.astype(np.float32), values),
        to_device(per_unit.astype(np.float32), values),
        to_device(rows, values, np.int32),
        to_device(columns, values, np.int32),
    ]


@cuda.jit(device=True)
def _place(i, shape):  # type: ignore[no-untyped-def]
    """Date, band, row and column of the i-th pixel."""
    x = i % shape[3]
    i //= shape[3]
    y = i % shape[2]
    i //= shape[2]
    return i // shape[1], i % shape[1], y, x


@cuda.jit(device=True)
def _locate(value, low, per_unit, n_knots):  # type: ignore[no-untyped-def]
    """Knot and share of the way to the next one."""
    p = (value - low) * per_unit
    p = min(max(p, np.float32(0)), np.float32(n_knots - 1))
    k = min(int(p), n_knots - 2)
    return k, p - np.float32(k)


@cuda.jit(device=True)
def _line(table, k, part):  # type: ignore[no-untyped-def]
    return table[k] + (table[k + 1] - table[k]) * part


@cuda.jit
def _apply(  # type: ignore[no-untyped-def]
    values, tables, low, per_unit, rows, columns, out
):
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        t, b, y, x = _place(i, values.shape)
        value = values[t, b, y, x]
        result = np.float32(math.nan)
        if abs(value) < math.inf:
            table = tables[t if tables.shape[0] > 1 else 0, rows[y], columns[x], b]
            k, part = _locate(value, low[b], per_unit[b], table.shape[0])
            result = _line(table, k, part)
        out[t, b, y, x] = result


@cuda.jit
def _apply_dn(  # type: ignore[no-untyped-def]
    dn, tables, low, per_unit, rows, columns, scale, offset, nodata, out
):
    for i in range(cuda.grid(1), dn.size, cuda.gridsize(1)):
        t, b, y, x = _place(i, dn.shape)
        code = np.float64(dn[t, b, y, x])
        result = np.float32(math.nan)
        if code != nodata[t, b]:
            value = np.float32(code * scale[t, b] + offset[t, b])
            table = tables[t if tables.shape[0] > 1 else 0, rows[y], columns[x], b]
            k, part = _locate(value, low[b], per_unit[b], table.shape[0])
            result = _line(table, k, part)
        out[t, b, y, x] = result


@cuda.jit
def _affine(dn, slope, intercept, nodata, out):  # type: ignore[no-untyped-def]
    for i in range(cuda.grid(1), dn.size, cuda.gridsize(1)):
        t, b, y, x = _place(i, dn.shape)
        code = np.float64(dn[t, b, y, x])
        is_valid = code != nodata[t, b]
        value = code * slope[t, b] + intercept[t, b]
        out[t, b, y, x] = np.float32(value) if is_valid else np.float32(math.nan)


@cuda.jit
def _blend(  # type: ignore[no-untyped-def]
    values, tables, low, per_unit, rows, columns, row_weights, column_weights, out
):
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        t, b, y, x = _place(i, values.shape)
        value = values[t, b, y, x]
        total, weight = np.float32(0), np.float32(0)
        if abs(value) < math.inf:
            of_date = tables[t if tables.shape[0] > 1 else 0]
            k, part = _locate(value, low[b], per_unit[b], tables.shape[4])
            for j in range(2):
                in_y = row_weights[y] if j else np.float32(1) - row_weights[y]
                for h in range(2):
                    in_x = column_weights[x] if h else np.float32(1) - column_weights[x]
                    share = in_y * in_x
                    if share > 0:
                        table = of_date[rows[y] + j, columns[x] + h, b]
                        if not math.isnan(table[0]):
                            total += share * _line(table, k, part)
                            weight += share
        out[t, b, y, x] = total / weight if weight > 0 else np.float32(math.nan)


@cuda.jit
def _flag_outside(values, low, high, flags, bit):  # type: ignore[no-untyped-def]
    n_y, n_x = values.shape[2], values.shape[3]
    for i in range(cuda.grid(1), flags.size, cuda.gridsize(1)):
        x, y, t = i % n_x, (i // n_x) % n_y, i // (n_x * n_y)
        for b in range(values.shape[1]):
            value = values[t, b, y, x]
            if value < low[b] or value > high[b]:
                flags[t, y, x] |= bit


@cuda.jit
def _fill(values, out):  # type: ignore[no-untyped-def]
    n_y, n_x = values.shape[2], values.shape[3]
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        t, b, y, x = _place(i, values.shape)
        result = values[t, b, y, x]
        if math.isnan(result):
            total, n = 0.0, 0
            for j in range(max(y - 1, 0), min(y + 2, n_y)):
                for k in range(max(x - 1, 0), min(x + 2, n_x)):
                    value = values[t, b, j, k]
                    if not math.isnan(value):
                        total += value
                        n += 1
            result = np.float32(total / n) if n else np.float32(0)
        out[t, b, y, x] = result
