"""A store as xarray reads it, turned back into the cube that was written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.store.encode import CODED, COMPLETE, VERSION, from_codes
from xharmonize.cube.store.entries import UNREADABLE, Pixels, complete_rows, unchanged
from xharmonize.cube.store.parts import GRID_MAPPING, is_own_key
from xharmonize.errors import StoreError
from xharmonize.types import IntArray

ATTEMPTS = 5
"""How often opening begins again because entries are replaced meanwhile."""


def open_whole(
    store: Path | Any, *, chunks: Mapping[str, int] | None = None
) -> xr.DataArray | xr.Dataset:
    """Open a store as the cube it was: entries that are whole, and belong together.

    Raises
    ------
    StoreError
        If the store is damaged, or entries are replaced faster than they can be read.
    FileNotFoundError
        If there is none; it may be in the middle of a swap.
    """
    for _ in range(ATTEMPTS):
        rows, versions = complete_rows(store)
        try:
            raw = _open_lazily(store, rows=rows, versions=versions, chunks=chunks)
            cube = _read_back(raw, rows[rows < raw.sizes["time"]])
        except FileNotFoundError:
            raise
        except UNREADABLE as error:
            if not unchanged(store, rows, versions[rows]):
                continue
            raise StoreError(
                f"{store} cannot be read, its bytes are damaged or gone ({error}); bring it back "
                "from a copy, or write it again with mode='w'"
            ) from error
        if unchanged(store, rows, versions[rows]):
            return cube
    raise StoreError(f"{store} is written to all the time; open it when the writer has ended")


def _read_back(raw: xr.Dataset, complete: IntArray) -> xr.DataArray | xr.Dataset:
    """Return the cube in these rows; pixels stay lazy."""
    # Codes are read for complete entries only: one being replaced may hold newer codes.
    small = raw.coords.to_dataset().isel(time=complete)
    coords = {name: _decoded(str(name), c) for name, c in small.coords.items() if _is_small(c)}
    small = small.assign_coords(coords)
    order = np.lexsort(tuple(small[name].values for name in ("tile", "sensor", "time")))
    rows = complete[order]
    series = raw
    if not np.array_equal(rows, np.arange(raw.sizes["time"])):
        series = raw.isel(time=rows)
    small = small[list(coords)].isel(time=order)
    # Without the store's encoding, so that the cube can be written elsewhere in other chunks.
    series = series.assign_coords(small.coords).drop_vars([COMPLETE, VERSION]).drop_encoding()
    series.attrs = {n: v for n, v in raw.attrs.items() if not is_own_key(str(n))}
    own = raw.attrs["xharmonize"]
    names = [str(name) for name in own["variables"]]  # in the order they were written
    result: xr.DataArray | xr.Dataset
    result = series[names] if own["kind"] == "Dataset" else series[names[0]]
    return result


def _open_lazily(
    store: Path | Any,
    *,
    rows: IntArray,
    versions: IntArray,
    chunks: Mapping[str, int] | None,
) -> xr.Dataset:
    """Open a store with its blocks as dask arrays, one shard a chunk where not said otherwise."""
    import dask.array as da
    from dask.base import tokenize

    is_directory = isinstance(store, Path)
    raw = xr.open_zarr(store, chunks=None, decode_coords="all", consolidated=is_directory)
    whole = np.zeros(raw.sizes["time"], np.int64)
    rows = rows[rows < whole.size]
    whole[rows] = versions[rows]
    # Versions are never used twice: the same names never stand for different pixels.
    token = tokenize(str(store), whole, chunks)
    blocks = {}
    for name, variable in raw.variables.items():
        if {"time", "y", "x"} <= set(variable.dims):
            shape = variable.encoding.get("shards") or variable.encoding["chunks"]
            whole_axes = dict(zip(variable.dims, variable.shape))
            unit = dict(zip(variable.dims, shape)) if chunks is None else whole_axes | {**chunks}
            pixels = Pixels(variable=variable, name=str(name), store=store, versions=whole)
            block = da.from_array(
                pixels,
                chunks=tuple(unit[dim] for dim in variable.dims),
                name=f"{source_name(store)}-{name}-{token}",
                meta=np.empty((0,) * variable.ndim, variable.dtype),
            )
            blocks[name] = xr.Variable(variable.dims, block, variable.attrs, variable.encoding)
    coords = {name: block for name, block in blocks.items() if name in raw.coords}
    arrays = {name: block for name, block in blocks.items() if name not in coords}
    lazy: xr.Dataset = raw.assign(arrays).assign_coords(coords)
    return lazy


def source_name(store: Path) -> str:
    """Return how the names of dask arrays that read a store begin."""
    from dask.base import tokenize

    return f"open-series-{tokenize(str(store))}"


def _is_small(coord: xr.DataArray) -> bool:
    return coord.name != GRID_MAPPING and not ("time" in coord.dims and "y" in coord.dims)


def _decoded(name: str, coord: xr.DataArray) -> Any:
    values, attrs = np.asarray(coord.values), dict(coord.attrs)
    if name in CODED:
        values = from_codes(values, attrs, name=name)
        attrs = {n: v for n, v in attrs.items() if n not in ("flag_values", "flag_meanings")}
    elif values.dtype.kind in "OT":
        values = np.array(values.tolist(), dtype=str).reshape(values.shape)
    elif values.dtype.kind == "M":
        values = values.astype("datetime64[ns]")
    return (coord.dims, values, attrs)
