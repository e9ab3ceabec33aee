"""Statistics of whole cubes: at once, or as a graph of blocks that are merged like a tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from string import ascii_lowercase
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import is_lazy, map_blocks, with_margin
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
    margin = window.size - 1
    data = [_with_margin(array, plan.dims, margin) for array in data]
    groups = [_with_margin(array, plan.code_dims or (), margin) for array in groups]
    n_bands = data[0].shape[plan.dims.index("band")] if "band" in plan.dims else 1
    found = _blocks(block, data, groups, plan, (n_bands, 2), "score-windows")
    return _merged(found, plan, np.zeros(n_bands, bool))


def _with_margin(array: Any, dims: Sequence[str], margin: int) -> Any:
    """Each block with the rows and columns that follow it, as many as a window reaches.

    A window belongs to the block of its first pixel: each is counted once, however the cube is
    cut. Blocks narrower than the margin are joined first.
    """
    return with_margin(array, {dims.index(d): (0, margin) for d in ("y", "x") if d in dims})


def _blocks(
    block: Block,
    data: Sequence[Any],
    groups: Sequence[Any],
    plan: Plan,
    shape: tuple[int, int],
    name: str,
) -> Any:
    """One table per block: the dimensions of the plan, group, row, field."""
    letters = dict(zip(plan.dims, ascii_lowercase))
    cube = "".join(letters.values())
    codes = "".join(letters[d] for d in plan.code_dims or ())
    return map_blocks(
        block,
        f"{','.join([cube] * len(data) + [codes] * len(groups))}->{cube}GRF",
        *data,
        *groups,
        new={"G": plan.n_groups, "R": shape[0], "F": shape[1]},
        sizes={letters[d]: 1 for d in plan.dims if d not in plan.kept},
        dtype=np.float64,
        name=name,
    )


def _merged(tables: Any, plan: Plan, is_moments: BoolArray) -> Any:
    """Merge the tables of blocks along what is reduced over, a few at a time."""
    axes = tuple(i for i, d in enumerate(plan.dims) if d not in plan.kept)
    if not is_lazy(tables):  # one block
        return tables[tuple(slice(None) if d in plan.kept else 0 for d in plan.dims)]
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
