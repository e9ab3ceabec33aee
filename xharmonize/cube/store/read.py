"""A store as xarray reads it, turned back into the cube that was written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.store.encode import CODED, from_codes
from xharmonize.cube.store.geo import is_own_key
from xharmonize.cube.store.parts import COMPLETE, GRID_MAPPING


def read_back(raw: xr.Dataset) -> xr.DataArray | xr.Dataset:
    """Return the cube in a store opened by `open_lazily`; pixels stay lazy."""
    complete = np.flatnonzero(np.asarray(raw[COMPLETE].values) == 1)
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
    series = series.assign_coords(small.coords).drop_vars(COMPLETE).drop_encoding()
    series.attrs = {n: v for n, v in raw.attrs.items() if not is_own_key(str(n))}
    own = raw.attrs["xharmonize"]
    names = [str(name) for name in own["variables"]]  # in the order they were written
    result: xr.DataArray | xr.Dataset
    result = series[names] if own["kind"] == "Dataset" else series[names[0]]
    return result


def open_lazily(
    store: Path | Any, *, state: str | None = None, chunks: Mapping[str, int] | None = None
) -> xr.Dataset:
    """Open a store with its blocks as dask arrays, one shard a chunk where not said otherwise.

    Parameters
    ----------
    state : str, optional
        What names the state of a store that is no directory.
    """
    from dask.base import tokenize

    raw = xr.open_zarr(store, chunks=None, decode_coords="all", consolidated=state is None)
    if state is None:  # a commit renames zarr.json
        state = str((store / "zarr.json").stat().st_mtime_ns)
    # The same names never stand for different pixels.
    version = tokenize(str(store), state, chunks)
    blocks = {}
    for name, variable in raw.variables.items():
        if {"time", "y", "x"} <= set(variable.dims):
            shape = variable.encoding.get("shards") or variable.encoding["chunks"]
            unit = dict(zip(variable.dims, shape)) if chunks is None else dict(chunks)
            unit = {dim: n for dim, n in unit.items() if dim in variable.dims}
            blocks[name] = variable.chunk(unit, name=f"{source_name(store)}-{name}-{version}")
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
