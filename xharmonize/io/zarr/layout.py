"""Create an empty store for a cube, and read a store back as the cube that was written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from xharmonize._settings import option
from xharmonize._urls import Remote
from xharmonize.cube.codes import (
    CODED,
    COMPLETE,
    COMPLETENESS,
    NO_CODE,
    TIME_ATTRS,
    VERSION,
    flag_attrs,
    from_codes,
    json_attrs,
    nan_fill_attr,
)
from xharmonize.cube.contract import DIMS
from xharmonize.errors import StoreError
from xharmonize.io.zarr.codecs import compressors_of
from xharmonize.io.zarr.parts import (
    GRID_MAPPING,
    Parts,
    axis_attrs,
    crs_attrs,
    is_own_key,
    root_attrs,
)
from xharmonize.io.zarr.reading import UNREADABLE, Pixels, complete_rows, unchanged
from xharmonize.io.zarr.remote import as_zarr
from xharmonize.types import IntArray

ENTRY_CHUNK = 1024  # entries per chunk of the coordinates along time: one file for years of dates
CHUNK = 256  # pixels along y and x of a chunk, the unit of reading; a shard is that of writing


def create(place: Path | Any, parts: Parts, *, shard: int | None, overwrite: bool = False) -> None:
    """Create an empty store (no entries) for cubes like this one.

    Parameters
    ----------
    place : Path or zarr store
        Location of the new store.
    shard : int, optional
        Side of a shard along y and x [pixels]; by default that of `set_options`.
    overwrite : bool
        Whether to delete existing contents.
    """
    import zarr

    shard = shard or option("shard")
    mode: Literal["w", "w-"] = "w" if overwrite else "w-"
    group = zarr.open_group(as_zarr(place), mode=mode, zarr_format=3, attributes=root_attrs(parts))
    zarr_array(group, GRID_MAPPING, (), np.dtype(np.int64), dims=(), attrs=crs_attrs(parts))
    axes = axis_attrs(parts)
    for name, stored in parts.statics.items():
        attrs = {**axes.get(name, {}), **stored.attrs}
        shape, dtype = stored.values.shape, stored.values.dtype
        zarr_array(group, name, shape, dtype, dims=stored.dims, attrs=attrs)[...] = stored.values
    _create_entries(group, parts)
    for name, block in parts.blocks.items():
        _create_block(group, name, block, parts, shard=shard)


def _create_entries(group: Any, parts: Parts) -> None:
    along: dict[str, Any] = {"shape": (0,), "dims": ("time",)}
    attrs = {"standard_name": "time", "axis": "T", **TIME_ATTRS}
    zarr_array(group, "time", dtype=np.dtype(np.int64), attrs=attrs, **along)
    attrs = flag_attrs(COMPLETENESS)
    zarr_array(group, COMPLETE, dtype=np.dtype(np.uint8), attrs=attrs, **along)
    zarr_array(group, VERSION, dtype=np.dtype(np.int64), attrs={}, **along)
    for name in CODED:
        dtype, attrs = np.dtype(np.int16), flag_attrs([])
        zarr_array(group, name, dtype=dtype, attrs=attrs, fill_value=NO_CODE, **along)
    for name, stored in parts.entries.items():
        shape, dtype = (0, *stored.values.shape[1:]), stored.values.dtype
        zarr_array(group, name, shape, dtype, dims=stored.dims, attrs=stored.attrs)


def _create_block(group: Any, name: str, block: xr.DataArray, parts: Parts, *, shard: int) -> None:
    chunks, shards = tiling(block, shard=shard)
    # CF lists the grid mapping apart, but plain xr.open_zarr makes coordinates only of these.
    coords = [GRID_MAPPING, COMPLETE, VERSION, *CODED, *parts.entries, *parts.block_coords]
    coords += [n for n, s in parts.statics.items() if set(s.dims) <= set(block.dims)]
    attrs = json_attrs(block.attrs) | {"grid_mapping": GRID_MAPPING}
    attrs["coordinates"] = " ".join(n for n in coords if n not in (*DIMS, name))
    dtype = np.dtype(np.uint8) if block.dtype.kind == "b" else block.dtype
    if block.dtype.kind == "b":
        attrs["dtype"] = "bool"
    if block.dtype.kind == "f":
        attrs["_FillValue"] = nan_fill_attr()
    zarr_array(
        group,
        name,
        (0, *block.shape[1:]),
        dtype,
        dims=tuple(map(str, block.dims)),
        attrs=attrs,
        chunks=chunks,
        shards=None if shards == chunks else shards,
        fill_value=_missing(block, parts),
        compressors=compressors_of(dtype, option("compression")),
    )


def tiling(block: xr.DataArray, *, shard: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return chunk and shard shapes: one date and band, and one date with all its bands."""
    chunk = [min(CHUNK, shard, block.sizes[dim]) for dim in ("y", "x")]
    outer = [-(-min(shard, block.sizes[d]) // edge) * edge for d, edge in zip(("y", "x"), chunk)]
    n_bands = [block.sizes["band"]] if "band" in block.dims else []
    return (1, *(1 for _ in n_bands), *chunk), (1, *n_bands, *outer)


def require_shard(group: Any, parts: Parts, *, shard: int | None) -> None:
    """Raise `StoreError` if `shard` is given and is not that of the store."""
    name, block = next(iter(parts.blocks.items()))
    held = tuple(group[name].shards or group[name].chunks)
    if shard is not None and tiling(block, shard=shard)[1] != held:
        raise StoreError(
            f"gives other shards than the store's {held}",
            cure="leave `shard` out",
            argument="shard",
            value=shard,
        )


def _missing(block: xr.DataArray, parts: Parts) -> float | int:
    """Value of chunks that are not written because they hold nothing else."""
    if block.dtype.kind == "f":
        return float("nan")
    nodata = parts.entries.get("nodata")
    if "band" not in block.dims or nodata is None or block.dtype.kind == "b":
        return 0
    values = np.unique(nodata.values)
    limits = np.iinfo(block.dtype)
    is_one = values.size == 1 and limits.min <= values[0] <= limits.max
    return int(values[0]) if is_one else 0


def zarr_array(
    group: Any,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    dims: tuple[str, ...],
    attrs: Mapping[str, Any],
    chunks: tuple[int, ...] | None = None,
    shards: tuple[int, ...] | None = None,
    fill_value: Any = None,
    compressors: list[Any] | None = None,
) -> Any:
    """Create an array: a checksum of each chunk, dimension names, text of any length; zstd."""
    from zarr.codecs import Crc32cCodec, ZstdCodec
    from zarr.core.dtype import VariableLengthUTF8

    is_text = dtype.kind == "O"
    default = "" if is_text else (float("nan") if dtype.kind == "f" else 0)
    entry = tuple(ENTRY_CHUNK if dim == "time" else max(1, n) for dim, n in zip(dims, shape))
    return group.create_array(
        name,
        shape=shape,
        dtype=VariableLengthUTF8() if is_text else dtype,
        chunks=chunks or entry,
        shards=shards,
        fill_value=default if fill_value is None else fill_value,
        dimension_names=dims,
        attributes=dict(attrs),
        compressors=compressors or [*([ZstdCodec(level=3)] if shape else []), Crc32cCodec()],
    )


ATTEMPTS = 5
"""How often opening begins again because entries are replaced meanwhile."""


def open_whole(
    store: Path | Any, *, chunks: Mapping[str, int] | None = None
) -> xr.DataArray | xr.Dataset:
    """Open a consistent snapshot of the complete entries of a store, as the cube that was written.

    Raises
    ------
    StoreError
        If the store is damaged, or entries are replaced faster than they can be read.
    FileNotFoundError
        If there is no store; it may be in the middle of a swap.
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
                f"{store} cannot be read, its bytes are damaged or gone ({error})",
                cure="bring it back from a copy, or write it again with mode='w'",
            ) from error
        if unchanged(store, rows, versions[rows]):
            return cube
    raise StoreError(
        f"{store} is written to all the time", cure="open it when the writer has ended"
    )


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

    is_published = isinstance(store, Path | Remote)
    options: dict[str, Any] = {"decode_coords": "all", "consolidated": is_published}
    raw = xr.open_zarr(as_zarr(store), chunks=None, **options)
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
            pixels = Pixels(
                variable=variable,
                name=str(name),
                store=store,
                versions=whole,
                codecs=option("codecs"),
            )
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


def source_name(store: Any) -> str:
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
