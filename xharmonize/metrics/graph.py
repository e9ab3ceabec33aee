"""Statistics of whole cubes: at once, or as a graph of blocks that are merged like a tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from xharmonize.kernels.statistics import merge_rows
from xharmonize.metrics.blocks import Plan, Table, Window, pixel_block, window_block
from xharmonize.types import AnyArray, BoolArray, Float64Array

Block = Callable[..., Float64Array]


def tabulate(
    arrays: Sequence[xr.DataArray], codes: xr.DataArray | None, plan: Plan, table: Table
) -> Any:
    """Return a table of statistics, lazily where the cubes are lazy.

    Parameters
    ----------
    arrays : sequence of DataArray
        Prediction, reference and, for errors beside a baseline, that; aligned.
    codes : DataArray, optional
        Group of each pixel, see `xharmonize.metrics.groups.Groups`.

    Returns
    -------
    float64 array
        Kept dimensions, group, row, field.
    """
    block = partial(pixel_block, plan=plan, table=table)
    data = [array.data for array in arrays]
    groups = [] if codes is None else [codes.data]
    if not isinstance(data[0], da.Array):
        return _at_once(block, [*data, *groups], plan)
    shape = (table.is_moments.size, 11)
    return _merged(_blocks(block, data, groups, plan, shape, "score"), plan, table.is_moments)


def tabulate_windows(
    arrays: Sequence[xr.DataArray], codes: xr.DataArray | None, plan: Plan, window: Window
) -> Any:
    """Return counts of windows and sums of their index, lazily where the cubes are lazy.

    Returns
    -------
    float64 array
        Kept dimensions, group, band, (count, sum).
    """
    block = partial(window_block, plan=plan, window=window)
    data = [array.data for array in arrays]
    groups = [] if codes is None else [codes.data]
    if not isinstance(data[0], da.Array):
        return _at_once(block, [*data, *groups], plan)
    margin = window.size - 1
    data = [_with_margin(array, plan.dims, margin) for array in data]
    groups = [_with_margin(array, plan.code_dims or (), margin) for array in groups]
    n_bands = data[0].shape[plan.dims.index("band")] if "band" in plan.dims else 1
    found = _blocks(block, data, groups, plan, (n_bands, 2), "score-windows")
    return _merged(found, plan, np.zeros(n_bands, bool))


def _at_once(block: Block, arrays: Sequence[Any], plan: Plan) -> Float64Array:
    found = block(*map(np.asarray, arrays))
    return found[tuple(slice(None) if d in plan.kept else 0 for d in plan.dims)]


def _with_margin(array: Any, dims: Sequence[str], margin: int) -> Any:
    """Each block with the rows and columns that follow it, as many as a window reaches.

    A window belongs to the block of its first pixel: each is counted once, however the cube is
    cut. Blocks narrower than the margin are joined first.
    """
    if not {"y", "x"} <= set(dims):
        return array
    axes = [dims.index("y"), dims.index("x")]
    small = {axis: -1 for axis in axes if array.shape[axis] <= 2 * margin}
    array = array.rechunk(small) if small else array
    depth = {axis: (0, margin if array.numblocks[axis] > 1 else 0) for axis in axes}
    if not any(reach for _, reach in depth.values()):
        return array
    full = {axis: depth.get(axis, 0) for axis in range(array.ndim)}
    return da.overlap.overlap(array, depth=full, boundary="none", allow_rechunk=True)


def _blocks(
    block: Block,
    data: Sequence[Any],
    groups: Sequence[Any],
    plan: Plan,
    shape: tuple[int, int],
    name: str,
) -> Any:
    """One table per block: the dimensions of the plan, group, row, field."""
    letters = {d: i for i, d in enumerate(plan.dims)}
    index = tuple(letters.values())
    new = {len(index): plan.n_groups, len(index) + 1: shape[0], len(index) + 2: shape[1]}
    pairs: list[Any] = [item for array in data for item in (array, index)]
    for array in groups:
        pairs += [array, tuple(letters[d] for d in plan.code_dims or ())]
    return da.blockwise(
        block,
        (*index, *new),
        *pairs,
        new_axes=new,
        adjust_chunks={letters[d]: 1 for d in plan.dims if d not in plan.kept},
        align_arrays=False,
        dtype=np.float64,
        meta=np.empty((0,) * (len(index) + 3)),
        name=f"{name}-{tokenize(block, *data, *groups)}",
    )


def _merged(tables: Any, plan: Plan, is_moments: BoolArray) -> Any:
    """Merge the tables of blocks along what is reduced over, a few at a time."""
    axes = tuple(i for i, d in enumerate(plan.dims) if d not in plan.kept)
    if not axes:
        return tables
    merge = partial(_merge, is_moments=is_moments)
    return da.reduction(
        tables,
        chunk=_pass,
        combine=merge,
        aggregate=merge,
        axis=axes,
        dtype=np.float64,
        name="score-merge",
        meta=np.empty((0,) * (tables.ndim - len(axes))),
    )


def _pass(tables: AnyArray, axis: Any, keepdims: bool) -> AnyArray:  # noqa: ARG001
    """A block is one table already."""
    return tables


def _merge(
    tables: AnyArray, axis: tuple[int, ...], keepdims: bool, is_moments: BoolArray
) -> AnyArray:
    found = merge_rows(tables, axis, is_moments)
    return np.expand_dims(found, axis) if keepdims else found
