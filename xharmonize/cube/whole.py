"""Whole series of pixels in one block, and the days that they were observed on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import cut_like, is_lazy
from xharmonize.cube.contract import spread_over
from xharmonize.cube.dates import solar_days
from xharmonize.types import IntArray

BLOCK_BYTES = 64 * 2**20
"""Maximum size of a block with the whole time axis, if it can be split in space."""


def days_of(cube: xr.DataArray | xr.Dataset) -> IntArray:
    """Day number of each date: solar days if the cube is georeferenced or has them, else UTC days.

    Returns
    -------
    (time,) int64 array
        Days since 1970-01-01.
    """
    if "y" in cube.dims and "x" in cube.dims and _has_crs(cube):
        return solar_days(cube)
    if "day" in cube.coords and cube["day"].dims == ("time",) and cube["day"].dtype.kind == "M":
        return cube["day"].values.astype("datetime64[D]").astype(np.int64)
    return cube["time"].values.astype("datetime64[D]").astype(np.int64)


def _has_crs(cube: xr.DataArray | xr.Dataset) -> bool:
    return any({"crs_wkt", "spatial_ref"} & set(coord.attrs) for coord in cube.coords.values())


def whole_series(values: xr.DataArray, *, whole: Sequence[str] = ("time",)) -> xr.DataArray:
    """Rechunk a lazy array to have all dates in one block, with smaller blocks in space if needed.

    In space, each new block lies within one old block, so that no block reads across old edges.
    """
    if not is_lazy(values):
        return values
    sizes = values.sizes
    fixed = int(np.prod([sizes[dim] for dim in whole if dim in sizes])) * values.dtype.itemsize
    edge = {dim: max(values.variable.chunksizes[dim]) for dim in values.dims if dim not in whole}
    while edge and fixed * int(np.prod(list(edge.values()))) > BLOCK_BYTES:
        longest = max(edge, key=lambda dim: edge[dim])
        if edge[longest] == 1:
            break
        edge[longest] = -(-edge[longest] // 2)
    chunks = {
        dim: _split(values.variable.chunksizes[dim], edge[dim]) if dim in edge else (sizes[dim],)
        for dim in values.dims
    }
    return values.copy(data=values.data.rechunk(tuple(chunks.values())))


def _split(chunks: Sequence[int], edge: int) -> tuple[int, ...]:
    """Split chunks into pieces no longer than `edge`."""
    return tuple(
        min(edge, chunk - start) for chunk in chunks for start in range(0, max(chunk, 1), edge)
    )


def companion(cube: xr.DataArray | xr.Dataset, name: str, values: xr.DataArray) -> Any:
    """Return a companion's data, expanded and chunked like the values; None if there is none."""
    if isinstance(cube, xr.DataArray) or name not in cube:
        return None
    layer = spread_over(cube[name], values)
    layer = layer.transpose(*values.dims)
    return cut_like(layer.data, values.data)
