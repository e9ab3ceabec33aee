"""A store as xarray reads it, turned back into the cube that was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.store.encode import CODED, from_codes
from xharmonize.cube.store.geo import is_own_key
from xharmonize.cube.store.parts import COMPLETE, GRID_MAPPING, VERSION
from xharmonize.errors import StoreError
from xharmonize.types import AnyArray, IntArray

ATTEMPTS = 5
"""How often a store that changes while its coordinates are read is opened anew."""


def open_whole(store: Path, *, chunks: Mapping[str, int] | None) -> xr.DataArray | xr.Dataset:
    """Open a directory as one version of it: again where a writer changed it meanwhile."""
    damage: Exception | None = None
    for _ in range(ATTEMPTS):
        try:
            before = _state_of(store)
            cube = read_back(open_lazily(store, chunks=chunks))
            if _state_of(store) == before:
                return cube
        except StoreError:
            raise
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            damage = error
    if damage is not None:
        raise StoreError(
            f"{store} cannot be read ({damage}); it is damaged: restore it from a copy, or write "
            "it again with mode='w'"
        ) from damage
    raise StoreError(f"{store} changed each time it was opened ({ATTEMPTS} times); try again")


def _state_of(store: Path) -> tuple[Any, ...]:
    """What changes whenever a writer reserves or commits."""
    root = (store / "zarr.json").stat()
    return root.st_ino, root.st_mtime_ns, versions_in(store).tobytes()


def versions_in(store: Path) -> IntArray:
    """(row,) int64: number of the write that each entry is of, as it stands now."""
    import zarr

    array = zarr.open_array(store, path=VERSION, mode="r", zarr_format=3)
    return np.asarray(array[:], np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Checked:
    """Pixels of a directory, read with a check that their entries are those that were opened."""

    variable: xr.Variable
    store: Path
    versions: IntArray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.variable.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self.variable.dtype
        return dtype

    @property
    def ndim(self) -> int:
        return self.variable.ndim

    def __getitem__(self, key: Any) -> AnyArray:
        rows = key[0] if isinstance(key, tuple) else key
        try:
            values = np.asarray(self.variable[key].values)
            now = versions_in(self.store)
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise StoreError(
                f"pixels of {self.store} cannot be read ({error}); it was removed, or it is "
                "damaged: open it again, restore it, or write its entries again"
            ) from error
        # A writer changes the numbers before the pixels, so equal numbers mean old pixels.
        opened = self.versions[rows]
        now = now[: self.versions.size]
        if now.size < self.versions.size or not np.array_equal(now[rows], opened):
            raise StoreError(
                f"entries of {self.store} were written again after this cube was opened; open it "
                "again with xh.open_series"
            )
        return values


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
    series = series.assign_coords(small.coords).drop_vars([COMPLETE, VERSION]).drop_encoding()
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
    is_directory = state is None
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
            label = f"{source_name(store)}-{name}-{version}"
            blocks[name] = _lazy_block(variable, unit, label, store if is_directory else None, raw)
    coords = {name: block for name, block in blocks.items() if name in raw.coords}
    arrays = {name: block for name, block in blocks.items() if name not in coords}
    lazy: xr.Dataset = raw.assign(arrays).assign_coords(coords)
    return lazy


def _lazy_block(
    variable: xr.Variable, unit: Mapping[Any, int], name: str, store: Path | None, raw: xr.Dataset
) -> xr.Variable:
    """Return a variable as a dask array; of a directory one that checks what it reads."""
    if store is None:
        return variable.chunk(unit, name=name)
    import dask.array as da

    pixels = _Checked(variable=variable, store=store, versions=np.asarray(raw[VERSION].values))
    sizes = tuple(unit.get(dim, -1) for dim in variable.dims)
    meta = np.empty((0,) * variable.ndim, variable.dtype)
    data = da.from_array(pixels, chunks=sizes, name=name, meta=meta)
    return xr.Variable(variable.dims, data, variable.attrs, variable.encoding)


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
