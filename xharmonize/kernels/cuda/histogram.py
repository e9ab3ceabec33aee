"""Histograms of tiles on a GPU; see `xharmonize.kernels.histogram`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda, int32

from xharmonize.kernels.cuda.launch import launch, to_device, zeros
from xharmonize.kernels.lut import runs_of
from xharmonize.types import Float64Array, IntArray


def count_values(
    values: Any,
    low: Float64Array,
    high: Float64Array,
    n_bins: int,
    rows: IntArray,
    columns: IntArray,
) -> Any:
    """Count reflectance; see `xharmonize.kernels.histogram.count_values`."""
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
    """Count digital numbers; see `xharmonize.kernels.histogram.count_dn`."""
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
            # Few blocks, each with much to count: one histogram in shared memory per block.
            launch(
                _count_plane,
                (n_pixels + 63) // 64,
                *arguments,
                like=values,
                shared=4 * n_bins,
                rows=n_times * n_bands,
            )
    return counts.astype(np.int64)


@cuda.jit
def _count_plane(  # type: ignore[no-untyped-def]
    values, low, per_unit, scale, offset, nodata, j, i, y0, y1, x0, x1, counts
):
    """Count the pixels of a tile in a plane (second index of the block) that fall to this block."""
    local = cuda.shared.array(0, int32)
    n_bins, n_x = counts.shape[4], x1 - x0
    t, b = cuda.blockIdx.y // values.shape[1], cuda.blockIdx.y % values.shape[1]
    for k in range(cuda.threadIdx.x, n_bins, cuda.blockDim.x):
        local[k] = 0
    cuda.syncthreads()
    first = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    for k in range(first, (y1 - y0) * n_x, cuda.gridDim.x * cuda.blockDim.x):
        code = np.float64(values[t, b, y0 + k // n_x, x0 + k % n_x])
        if abs(code) < math.inf and code != nodata[t, b]:
            value = np.float64(np.float32(code * scale[t, b] + offset[t, b]))
            p = min(max((value - low[b]) * per_unit[b], 0.0), n_bins - 1.0)
            cuda.atomic.add(local, int(p), 1)
    cuda.syncthreads()
    for k in range(cuda.threadIdx.x, n_bins, cuda.blockDim.x):
        if local[k]:
            cuda.atomic.add(counts, (t, j, i, b, k), local[k])
