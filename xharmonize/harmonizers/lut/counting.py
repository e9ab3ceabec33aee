"""Histograms of tiles of a cube, counted across chunks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from xharmonize.cube.blockwise import array_of, block_of, chunks_of, is_lazy, map_blocks, task
from xharmonize.cube.contract import read_coordinate
from xharmonize.cube.encode import require_encoded
from xharmonize.harmonizers import blocks
from xharmonize.kernels.cuda import histogram_kernels, is_on_gpu
from xharmonize.types import AnyArray, Float64Array, IntArray

Lines: TypeAlias = tuple[AnyArray, AnyArray, AnyArray]
"""Scale, offset and nodata of digital numbers, (time, band) each."""


def split_lines(cube: xr.DataArray) -> tuple[xr.DataArray, Lines | None]:
    """Return the cube (time, band, y, x) and, where it holds integers, how they are decoded.

    A cube that is partly decoded, or holds digital numbers as floats, is decoded here.
    """
    cube = cube.transpose("time", "band", "y", "x")
    is_decoded = read_coordinate(cube, "is_decoded")
    if is_decoded.any() or not np.issubdtype(cube.dtype, np.integer):
        return blocks.decoded(cube), None
    require_encoded(cube)
    scale, offset, nodata = (read_coordinate(cube, name) for name in ("scale", "offset", "nodata"))
    return cube, (scale, offset, nodata)


def count_tiles(
    cube: xr.DataArray,
    rows: IntArray,
    columns: IntArray,
    low: Float64Array,
    high: Float64Array,
    bins: int,
) -> Any:
    """Count the reflectance of each date, tile and band; the same for any chunks.

    Parameters
    ----------
    cube : (time, band, y, x) DataArray
        Reflectance [1], or digital numbers with their contract.
    rows, columns : (y,), (x,) int array
        Tile of each pixel row and column, from 0, in runs that ascend.
    low, high : (band,) float64 array
        Range of the bins [1].

    Returns
    -------
    (time, tile_y, tile_x, band, bin) int64 array
        Numpy or dask, as the cube.
    """
    cube, lines = split_lines(cube)
    values = cube.data
    cuts = [[0, *np.cumsum(sizes).tolist()] for sizes in chunks_of(values)[2:]]
    firsts = [[int(a[i]) for i in cut[:-1]] for a, cut in zip((rows, columns), cuts)]
    sizes = [
        tuple(int(tile[stop - 1]) - int(tile[start]) + 1 for start, stop in pairwise(cut))
        for tile, cut in zip((rows, columns), cuts)
    ]
    counts = map_blocks(
        partial(_count_block, bins=bins),
        f"tbyx,y,x,b,b{',tb' * len(lines or ())}->tyxbk",
        values,
        rows,
        columns,
        low,
        high,
        *(lines or ()),
        new={"k": bins},
        sizes={"y": sizes[0], "x": sizes[1]},
        dtype=np.int64,
        name="fit-tables-count",
        on_host=True,
    )
    if not is_lazy(counts):
        return counts
    return _add_blocks(counts, firsts, sizes, int(rows[-1]) + 1, int(columns[-1]) + 1)


def _count_block(
    values: AnyArray,
    rows: IntArray,
    columns: IntArray,
    low: Float64Array,
    high: Float64Array,
    *lines: Float64Array,
    bins: int,
) -> IntArray:
    """Counts of a block, its tiles numbered from its first one."""
    kernels = histogram_kernels(values)
    limits = low, high, bins, rows - rows[:1], columns - columns[:1]
    if lines:
        scale, offset, nodata = lines
        counts = kernels.count_dn(values, *limits, scale=scale, offset=offset, nodata=nodata)
    else:
        counts = kernels.count_values(values, *limits)
    # Small, and what follows is work for a CPU.
    return counts.get() if is_on_gpu(counts) else counts  # type: ignore[no-any-return]


def _add_blocks(
    counts: da.Array, firsts: list[list[int]], sizes: list[Any], n_rows: int, n_columns: int
) -> da.Array:
    """Add the counts of the blocks that share a tile; integers, so that the order is free."""
    name = f"fit-tables-add-{tokenize(counts.name, firsts, n_rows, n_columns)}"
    holders = [
        [
            [(k, n - first) for k, (first, size) in enumerate(zip(*axis)) if 0 <= n - first < size]
            for n in range(n_tiles)
        ]
        for axis, n_tiles in zip(zip(firsts, sizes), (n_rows, n_columns))
    ]
    tasks = {}
    for t in range(counts.numblocks[0]):
        for b in range(counts.numblocks[3]):
            for j, in_rows in enumerate(holders[0]):
                for i, in_columns in enumerate(holders[1]):
                    places = [(p, q) for _, p in in_rows for _, q in in_columns]
                    parts = [
                        block_of(counts.name, (t, r, c, b, 0))
                        for r, _ in in_rows
                        for c, _ in in_columns
                    ]
                    key = (name, t, j, i, b, 0)
                    tasks[key] = task(key, _add, parts, tuple(places))
    chunks = (counts.chunks[0], (1,) * n_rows, (1,) * n_columns, *counts.chunks[3:])
    return array_of(name, tasks, sources=[counts], chunks=chunks, meta=np.empty((0,) * 5, np.int64))


def _add(parts: list[IntArray], places: Sequence[tuple[int, int]]) -> IntArray:
    total = parts[0][:, places[0][0], places[0][1]].copy()
    for part, (row, column) in zip(parts[1:], places[1:]):
        total += part[:, row, column]
    return total[:, None, None]
