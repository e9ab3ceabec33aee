"""Histograms of tiles at fixed positions in the CRS, counted across chunks.

Tile n of an axis covers ``[n * side, (n + 1) * side)`` in metres of the CRS, so that it does not
depend on the cube; a pixel belongs to the tile its centre lies in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from xharmonize.cube.geobox import crs_name, geobox_of
from xharmonize.errors import GridError
from xharmonize.harmonizers import base
from xharmonize.kernels.cuda import histogram_kernels, is_on_gpu
from xharmonize.types import AnyArray, Float64Array, FloatArray, IntArray

MGRS_SQUARE = 100_000.0
"""Side of a square of the Military Grid Reference System [m]; edges are at its multiples in UTM."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Tiles along one axis of a cube.

    Attributes
    ----------
    numbers : (tile,) int array
        Numbers of the tiles that overlap the cube, in the order of the cube.
    pixels : (pixel,) int array
        Position in `numbers` of the tile of each pixel.
    centres : (tile,) float64 array
        Centre of each tile [unit of the CRS].
    extent : (tile,) float64 array
        Fraction of each tile that the cube covers [1].
    step : float
        Side of a pixel [unit of the CRS].
    """

    numbers: IntArray
    pixels: IntArray
    centres: Float64Array
    extent: Float64Array
    step: float


def tiles_of(cube: xr.DataArray, side: float) -> tuple[Axis, Axis]:
    """Tiles of a cube along y and x.

    Raises
    ------
    GridError
        If the CRS is in degrees, or a tile is smaller than a pixel.
    """
    require_metres(cube, "tiles")
    return _axis(cube, "y", side), _axis(cube, "x", side)


def whole(cube: xr.DataArray) -> tuple[IntArray, IntArray]:
    """Tile numbers of rows and columns if the whole cube is one tile."""
    return np.zeros(cube.sizes["y"], np.int64), np.zeros(cube.sizes["x"], np.int64)


def require_metres(cube: xr.DataArray, what: str) -> None:
    """Raise `GridError` if the CRS is in degrees."""
    box = geobox_of(cube)
    if box.crs.geographic:
        raise GridError(
            f"{what} have a side in metres, the cube is in degrees ({crs_name(box.crs)})",
            cure="put it "
            "on a projected grid first, such as "
            "cube.harmonize.regrid(crs='EPSG:326..', resolution=10)",
        )


def _axis(cube: xr.DataArray, dim: str, side: float) -> Axis:
    affine = geobox_of(cube).affine
    step = abs(affine.a if dim == "x" else affine.e)
    if not step <= side < np.inf:
        raise GridError(f"a tile of {side:g} m is no length, or smaller than a pixel ({step:g} m)")
    centres = np.asarray(cube[dim].values, np.float64)
    each = np.floor(centres / side).astype(np.int64)
    pixels = np.abs(each - each[0])
    direction = 1 if each[-1] >= each[0] else -1
    numbers = each[0] + direction * np.arange(pixels[-1] + 1)
    count = np.bincount(pixels, minlength=numbers.size)
    return Axis(
        numbers=numbers,
        pixels=pixels,
        centres=(numbers + 0.5) * side,
        extent=np.minimum(count * step / side, 1.0),
        step=step,
    )


def place_pixels(
    cube: xr.DataArray, dim: str, centres: Float64Array, side: float
) -> tuple[IntArray, IntArray]:
    """Assign the pixels of a cube to given tiles.

    Parameters
    ----------
    centres : (tile,) float64 array
        Centres of the given tiles.

    Returns
    -------
    order : (tile,) int array
        Order of the given tiles in the direction of the cube.
    pixels : (pixel,) int array
        Position of each pixel's tile in that order.

    Raises
    ------
    GridError
        If a pixel is in none of the tiles.
    """
    axis = _axis(cube, dim, side)
    order = np.argsort(centres if _ascends(cube, dim) else -centres)
    numbers = np.rint(centres[order] / side - 0.5).astype(np.int64)
    lost = sorted(set(axis.numbers.tolist()) - set(numbers.tolist()))
    if lost:
        raise GridError(
            f"the tables have no tile at {dim} {(lost[0] + 0.5) * side:.0f}, where the cube lies",
            cure="fit them on a cube that covers it: xh.harmonizers.fit_tables(cube, model)",
        )
    place = {int(number): k for k, number in enumerate(numbers)}
    return order, np.array([place[int(n)] for n in axis.numbers])[axis.pixels]


def between_centres(
    cube: xr.DataArray, dim: str, centres: Float64Array, side: float
) -> tuple[IntArray, FloatArray]:
    """First of the two tiles between whose centres each pixel lies, and weight of the second.

    Pixels beyond the outer centres use the outer tile. `centres` are those of neighbouring tiles,
    in the direction of the cube.
    """
    numbers = np.rint(centres / side - 0.5).astype(np.int64)
    steps = np.diff(numbers)
    if steps.size and not (abs(steps) == 1).all():
        raise GridError(f"tables to interpolate need tiles without a gap along {dim}")
    position = np.asarray(cube[dim].values, np.float64) / side - 0.5
    below = np.floor(position)
    upper_share = position - below
    is_up = _ascends(cube, dim)
    first = below - numbers[0] if is_up else numbers[0] - (below + 1)
    weight = upper_share if is_up else 1 - upper_share
    is_held = (first < 0) | (first >= numbers.size - 1)
    place = np.clip(first, 0, numbers.size - 1).astype(np.int64)
    return place, np.where(is_held, 0.0, weight).astype(np.float32)


def _ascends(cube: xr.DataArray, dim: str) -> bool:
    affine = geobox_of(cube).affine
    return bool((affine.a if dim == "x" else affine.e) > 0)


Lines: TypeAlias = tuple[AnyArray, AnyArray, AnyArray]
"""Scale, offset and nodata of digital numbers, (time, band) each."""


def split_lines(cube: xr.DataArray) -> tuple[xr.DataArray, Lines | None]:
    """Return the cube (time, band, y, x) and, for integers, how to decode them.

    A cube that is partly decoded, or holds digital numbers as floats, is decoded here.
    """
    cube = cube.transpose("time", "band", "y", "x")
    is_decoded = read_coordinate(cube, "is_decoded")
    if is_decoded.any() or not np.issubdtype(cube.dtype, np.integer):
        return base.decoded(cube), None
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
    """Compute the histogram of each date, tile and band, independent of the chunks.

    Parameters
    ----------
    cube : (time, band, y, x) DataArray
        Reflectance [1], or digital numbers with their contract.
    rows, columns : (y,), (x,) int array
        Tile of each pixel row and column, from 0, in ascending order.
    low, high : (band,) float64 array
        Range of the bins [1].

    Returns
    -------
    (time, tile_y, tile_x, band, bin) int64 array
        Numpy or dask, like the cube.
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
    """Counts of a block, with its tiles numbered from the first one."""
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
    """Add the counts of blocks that share a tile; the order is irrelevant for integers."""
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
