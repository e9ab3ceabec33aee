"""Write cubes and results to Zarr v3 stores that can grow, and open them again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import xarray as xr

from xharmonize._progress import computing
from xharmonize._replace import (
    GrowMode,
    beside,
    escaped,
    exchange,
    put_back,
    remove,
    require_mode,
    require_new,
    written_aside,
)
from xharmonize._urls import Remote, find_itself, one_writer
from xharmonize.cube.codes import NO_TIME, TIME_ATTRS, json_attrs
from xharmonize.cube.door import as_variables, is_result
from xharmonize.errors import StoreError
from xharmonize.io.zarr import layout
from xharmonize.io.zarr.layout import open_whole, source_name
from xharmonize.io.zarr.parts import (
    CHECKSUM,
    FORMAT,
    Parts,
    differing,
    is_sound,
    require_fit,
    take_apart,
)
from xharmonize.io.zarr.reading import complete_rows
from xharmonize.io.zarr.remote import as_zarr, document_at
from xharmonize.io.zarr.transaction import format_in, readable_store, write_transaction
from xharmonize.io.zarr.write import (
    Claim,
    claim,
    commit,
    fill,
    live_claims,
    open_for_writing,
    publish,
    require_free,
    reserve,
    write_entries,
    writer_lock,
)
from xharmonize.types import IntArray

MARK = "xharmonize"
BEGUN = {"begun": True}
"""What the mark of a result at a URL is while its arrays are put."""


def write_result(cube: xr.DataArray | xr.Dataset, store: Path | Remote, *, mode: str) -> Path | str:
    """Write a cube without dates to a Zarr v3 store, atomically.

    Raises
    ------
    StoreError
        If `mode` asks to add to a store, or `store` exists and may not be replaced.
    """
    if mode == "upsert":
        raise StoreError(
            "a result has no dates to add to a store by",
            cure="write it whole, to a path of its own, with mode='w'",
        )
    if isinstance(store, Remote):
        return _put_result(cube, store)
    is_there = store.is_file() or (store.is_dir() and any(store.iterdir()))
    if is_there and not is_result_store(store):
        raise StoreError(
            f"{store} exists and holds no result written by xharmonize", cure="choose another path"
        )
    with written_aside(store, mode) as new:
        _bare(cube).to_zarr(new, mode="w-", zarr_format=3, consolidated=False)
    return store


def _put_result(cube: xr.DataArray | xr.Dataset, place: Remote) -> str:
    """Write to a URL as the only writer; what is no result before its last object is put."""
    whole = _bare(cube)
    with one_writer(place) as held:
        document = document_at(place)
        if document is None and place.is_occupied():
            raise StoreError(f"{place} holds something else", cure="choose another URL")
        if document is not None and _own_of(document) != BEGUN:
            raise StoreError(
                f"{place} exists, and object stores cannot exchange a store for another in one "
                "step",
                cure="name another URL, or remove it yourself",
            )
        begun = whole.assign_attrs({MARK: BEGUN})
        begun.to_zarr(as_zarr(place), mode="w", zarr_format=3, consolidated=False)
        held.require()
        document = document_at(place) or {}
        document["attributes"][MARK] = whole.attrs[MARK]
        place.write("zarr.json", json.dumps(document).encode())
    return place.url


def _bare(cube: xr.DataArray | xr.Dataset) -> xr.Dataset:
    """The variables without what another file left in their encoding, and in even chunks."""
    dataset = as_variables(cube, what="to_zarr") if isinstance(cube, xr.DataArray) else cube
    dataset = dataset.drop_encoding()
    texts = {
        n: (c.dims, np.array(c.values.tolist(), object), c.attrs)
        for n, c in dataset.coords.items()
        if c.dtype.kind in "UT"
    }
    dataset = dataset.assign_coords(texts)
    even = {d: max(chunks) for d, chunks in dataset.unify_chunks().chunksizes.items()}
    dataset = dataset.chunk(even) if even else dataset
    for name, array in dataset.variables.items():
        array.attrs = json_attrs(array.attrs)
        if array.dtype.kind == "M":
            array.encoding = {**TIME_ATTRS, "dtype": "int64", "_FillValue": NO_TIME}
        if name in dataset.data_vars and {"y", "x"} <= set(array.dims):
            array.encoding["grid_mapping"] = "spatial_ref"
    own = {
        "result": "DataArray" if isinstance(cube, xr.DataArray) else "Dataset",
        "variables": list(map(str, dataset.data_vars)),
    }
    return dataset.assign_attrs({**json_attrs(dataset.attrs), MARK: own})


def is_result_store(store: Path) -> bool:
    """Tell whether a store was written by `write_result`."""
    try:
        document = json.loads((store / "zarr.json").read_text())
    except (OSError, ValueError):
        return False
    return "result" in _own_of(document)


def _own_of(document: Any) -> dict[str, Any]:
    """What this package says in a root document; empty where it is something else's."""
    attrs = document.get("attributes") if isinstance(document, dict) else None
    own = attrs.get(MARK) if isinstance(attrs, dict) else None
    return own if isinstance(own, dict) else {}


def open_result(
    store: Any, *, chunks: Mapping[str, int] | None = None
) -> xr.DataArray | xr.Dataset:
    """Open a result lazily, with the type that was written."""
    options: dict[str, Any] = {"consolidated": False, "decode_coords": "all"}
    found = xr.open_zarr(store, chunks=dict(chunks or {}), **options)
    texts = {
        n: (c.dims, np.array(c.values.tolist(), str), c.attrs)
        for n, c in found.coords.items()
        if c.dtype.kind in "OT"
    }
    found = found.assign_coords(texts)
    own = found.attrs.pop(MARK)
    whole: xr.Dataset = found[own["variables"]]
    array: xr.DataArray = whole[own["variables"][0]]
    return whole if own["result"] == "Dataset" else array


MODES = ("w-", "w", "upsert")
ICECHUNK = "write to an Icechunk repository there, where several may write at once"
DAMAGED = "is damaged, or was changed by another program"
CURE = "mode='w' replaces it, mode='upsert' adds to it"


def to_zarr(
    cube: xr.DataArray | xr.Dataset,
    path: Any,
    *,
    mode: GrowMode = "w-",
    shard: int | None = None,
    progress: bool | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Any:
    """Write a cube to a Zarr v3 store, as a whole or entry by entry.

    Entries are identified by (time, sensor, tile). ``mode="upsert"`` replaces entries that exist
    and appends the others. An interrupted write keeps what was committed before, except that
    entries being replaced are hidden; running it again gives the same store as an uninterrupted
    write. Several processes can upsert at the same time if their entries differ.

    Parameters
    ----------
    cube : (time, band, y, x) or (time, y, x) DataArray, or Dataset of such variables
        Reflectance, an index, encoded digital numbers, and companions (`qa`, `origin`,
        `uncertainty`, …), with their contract and CRS. Values, dtype and NaN are stored unchanged.
        Dask cubes are written block by block with the current scheduler. A result without dates,
        such as seasons or a fit, is written as a whole, with all variables.
    path : str, Path, or icechunk.Repository, Session or IcechunkStore
        Directory on a file system that all workers share, or a URL of an object store
        (``s3://bucket/name.zarr``), where one writer is let in at a time and ``"w"`` replaces
        nothing. An Icechunk repository gets one commit on its branch ``main``; a session is
        written to but not committed.
    mode : {"w-", "w", "upsert"}
        ``"w-"`` creates a store and fails if it exists. ``"w"`` replaces an existing store once
        the new one is complete. ``"upsert"`` adds to an existing store, or creates one.
    shard : int, optional
        Side of a shard [pixels], by default that of `xharmonize.set_options`, 1024. Fixed when the
        store is created.
    progress : bool, optional
        Whether to draw a bar; by default where it is seen (`xharmonize.set_options`).
    storage_options : mapping, optional
        For URLs: what fsspec's plugin takes (``key``, ``secret``, ``endpoint_url``, …). Workers
        get them with their tasks; without, each takes credentials from its environment.

    Returns
    -------
    Path, str or Icechunk object
        The store: its path or URL; for Icechunk, the object passed as `path`.

    Raises
    ------
    StoreError
        If `path` exists (``"w-"``) or is not a store of this package and format version; if the
        cube does not match the store (grid, CRS, bands, dtype, units, flags, coordinates), or an
        entry occurs twice; if another process is writing one of the same entries (with
        ``mode="w"``, any entry); or if a lazy cube would be upserted into the store it reads from.
    ContractError, GridError, TimeAxisError
        If the cube lacks contract coordinates, a CRS, an even grid or dates.
    """
    require_mode(mode, MODES)
    if shard is not None and shard < 1:
        raise StoreError("", cure="give a positive number of pixels", argument="shard", value=shard)
    is_path = isinstance(path, str | Path)
    with computing(f"Writing {Path(path).name}" if is_path else "Writing", progress):
        if is_result(cube) and is_path:
            return write_result(cube, find_itself(path, storage_options), mode=mode)
        parts = take_apart(cube)
        if not is_path:
            return write_transaction(path, parts, mode=mode, shard=shard)
        store = find_itself(path, storage_options)
        if isinstance(store, Remote):
            _write_remote(store, parts, mode=mode, shard=shard)
            return store.url
        if mode == "upsert":
            _upsert(store, parts, shard=shard)
        else:
            _write_whole(store, parts, mode=mode, shard=shard)
        return store


def open_series(
    path: Any,
    *,
    chunks: Mapping[str, int] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> xr.DataArray | xr.Dataset:
    """Open a store written by `to_zarr`: complete entries only, sorted by time.

    The cube is a snapshot of the store. If an entry, or the whole store, is replaced later,
    reading its pixels raises an error rather than returning new values under old dates.

    Parameters
    ----------
    path : str, Path, or icechunk.Repository, Session or IcechunkStore
        The store, by path or URL (``s3://…``, ``https://…``); for a repository, the last commit
        on ``main``.
    chunks : mapping, optional
        Dask chunks. Default: one per shard.
    storage_options : mapping, optional
        For URLs: what fsspec's plugin takes.

    Returns
    -------
    DataArray or Dataset
        Lazy, with contract coordinates as strings, sorted by (time, sensor, tile). A DataArray if
        one was written.

    Raises
    ------
    StoreError
        If `path` is not a store of this package and format version, or is damaged. When computed:
        if data are damaged, or entries have been replaced since opening.
    """
    if not isinstance(path, str | Path):
        place = readable_store(path)
        _require_version(format_in(place), "this Icechunk store")
        return open_whole(place, chunks=chunks)
    store = find_itself(path, storage_options)
    if isinstance(store, Remote):
        return _open_remote(store, chunks=chunks)
    for _ in range(2):
        _finish_swap(store)
        if is_result_store(store):
            return open_result(store, chunks=chunks)
        _require_ours(store)
        try:
            return open_whole(store, chunks=chunks)
        except FileNotFoundError as error:  # between the two renames of a swap, or damaged
            missing = error
    raise StoreError(
        f"{store} lacks a file ({missing})",
        cure="bring it back from a copy, or write it again with mode='w'",
    ) from missing


def _write_remote(place: Remote, parts: Parts, *, mode: str, shard: int | None) -> None:
    """Write to a URL as the only writer; what a killed one left unborn is made anew."""
    with one_writer(place, instead=ICECHUNK) as held:
        document = document_at(place)
        if document is None and place.is_occupied():
            raise StoreError(f"{place} holds something else", cure="choose another URL")
        _require_other_source(place, parts)
        if document is None or _is_unborn(place, document, mode):
            rows = _put_new(place, parts, shard=shard)
        elif mode != "upsert":
            raise StoreError(
                f"{place} exists, and object stores cannot exchange a store for another in one "
                "step",
                cure="mode='upsert' adds to it; to replace it name another URL, or use Icechunk",
            )
        else:
            _require_whole_document(document, place)
            rows = _reserve_fitting(place, parts, shard=shard)
        fill(place, parts, rows)
        held.require()
        commit(place, parts, rows)


def _put_new(place: Remote, parts: Parts, *, shard: int | None) -> IntArray:
    """Make a store with its rows reserved here, and put it: that takes far fewer requests.

    Until all of it is there, the root document is that of a store that was never published.
    """
    with TemporaryDirectory() as scratch:
        new = Path(scratch) / "new.zarr"
        layout.create(new, parts, shard=shard)
        place.write("zarr.json", (new / "zarr.json").read_bytes())
        publish(new, history={})
        rows = _reserve_fitting(new, parts, shard=shard)
        place.replace(new, last="zarr.json")
    return rows


def _reserve_fitting(place: Path | Remote, parts: Parts, *, shard: int | None) -> IntArray:
    group = open_for_writing(place)
    require_fit(group, parts, path=place)
    layout.require_shard(group, parts, shard=shard)
    return reserve(place, parts)


def _is_unborn(place: Remote, document: dict[str, Any], mode: str) -> bool:
    """Whether a killed writer left it: never published, or made anew and without an entry."""
    own = _own_of(document)
    if own.get("format") != FORMAT:
        return False
    if CHECKSUM not in own:
        return True
    return mode != "upsert" and complete_rows(place)[0].size == 0


def _open_remote(place: Remote, *, chunks: Mapping[str, int] | None) -> xr.DataArray | xr.Dataset:
    document = document_at(place)
    own = _own_of(document)
    if "result" in own:
        return open_result(as_zarr(place), chunks=chunks)
    if document is None or (own and CHECKSUM not in own):
        raise StoreError(f"there is no store at {place}", cure="write one with to_zarr")
    _require_whole_document(document, place)
    try:
        return open_whole(place, chunks=chunks)
    except FileNotFoundError as error:
        raise StoreError(
            f"{place} lacks an object ({error})", cure="bring it back from a copy"
        ) from error


def _upsert(store: Path, parts: Parts, *, shard: int | None) -> None:
    """Reserve and commit under the lock; fill concurrently with writers of other entries."""
    with ExitStack() as held:
        with writer_lock(store):
            claims = live_claims(store)
            require_free(claims, parts.keys)
            _clean_up(store, claims)
            if not store.exists() or not any(store.iterdir() if store.is_dir() else [store]):
                _make_empty(store, parts, shard=shard)
            _require_ours(store)
            _require_undamaged(store)
            _require_other_source(store, parts)
            group = open_for_writing(store)
            require_fit(group, parts, path=store)
            layout.require_shard(group, parts, shard=shard)
            held.enter_context(claim(store, parts.keys))
            rows = reserve(store, parts)
        fill(store, parts, rows)
        with writer_lock(store):
            commit(store, parts, rows)


def _make_empty(store: Path, parts: Parts, *, shard: int | None) -> None:
    """Make the store aside, so that it appears at `store` in one step."""
    partial = beside(store, "partial")
    layout.create(partial, parts, shard=shard)
    publish(partial, history={})
    exchange(partial, store)


def _write_whole(store: Path, parts: Parts, *, mode: str, shard: int | None) -> None:
    """Write a new store next to the old one, then swap: a kill leaves the old one intact."""
    with ExitStack() as held:
        with writer_lock(store):
            claims = live_claims(store)
            if claims:
                _require_replaceable(store, mode)
            require_free(claims, None)
            _clean_up(store, claims)
            _require_replaceable(store, mode)
            held.enter_context(claim(store, None))
        partial = beside(store, "partial")
        try:
            layout.create(partial, parts, shard=shard)
            publish(partial, history={})
            write_entries(partial, parts)
            with writer_lock(store):
                _require_replaceable(store, mode)
                exchange(partial, store)
        finally:
            remove(partial)


def _finish_swap(store: Path) -> None:
    """Restore the old store if a writer was killed between the two renames of a swap."""
    if store.exists() or not any(store.parent.glob(f".{escaped(store.name)}.*.old")):
        return
    try:
        with writer_lock(store):
            put_back(store)
    except OSError as error:
        raise StoreError(
            f"a writer was killed while it put a new store at {store}",
            cure="the old one is beside it, "
            f"as .{store.name}.<id>.old, and cannot be renamed by you ({error})",
        ) from error


def _clean_up(store: Path, claims: Sequence[Claim]) -> None:
    """Remove what killed writers left, once no other lives: what is unfinished may be its own."""
    if claims:
        return
    hidden = f".{escaped(store.name)}.*"
    put_back(store)
    for partial in store.parent.glob(f"{hidden}.partial"):
        remove(partial)
    for unborn in store.parent.glob(f"{hidden}.partial-claim"):
        unborn.unlink()
    if (store / "zarr.json").exists() and _format_of(store) is not None:
        for stray in store.rglob("*.partial"):
            stray.unlink()


def _format_of(store: Path) -> Any:
    """Format version of a store of ours; None where it is something else."""
    try:
        document = json.loads((store / "zarr.json").read_text())
    except (OSError, ValueError):
        return None
    return _format_in(document)


def _format_in(document: Any) -> Any:
    return _own_of(document).get("format")


def _require_ours(store: Path) -> None:
    if not store.exists():
        raise StoreError(f"there is no store at {store}", cure="write one with to_zarr")
    try:
        document = json.loads((store / "zarr.json").read_text())
    except (OSError, ValueError):
        document = None
    _require_whole_document(document, store)


def _require_whole_document(document: Any, store: Path | Remote) -> None:
    """Raise `StoreError` unless a root document is ours, of this format, and what was written."""
    _require_version(_format_in(document), store)
    if not is_sound(document):
        raise StoreError(
            f"{store} {DAMAGED}: its zarr.json is not what was written",
            cure="bring it back from a copy, or write the store again with mode='w'",
        )


def _require_undamaged(store: Path) -> None:
    """Raise `StoreError` where arrays are not described as they were published."""
    document = json.loads((store / "zarr.json").read_text())
    arrays = {p.parent.name: json.loads(p.read_text()) for p in store.glob("*/zarr.json")}
    found = differing(document, arrays)
    if found:
        raise StoreError(f"{store} {DAMAGED}: {found} are not stored as its root document says")


def _require_version(version: Any, store: Any) -> None:
    if version is None:
        raise StoreError(
            f"{store} is not a store written by xharmonize", cure="choose another path"
        )
    if version != FORMAT:
        raise StoreError(
            f"{store} has format version {version}, this release reads and writes {FORMAT}",
            cure="open it with the release that wrote it, or write it again with mode='w'",
        )


def _require_replaceable(store: Path, mode: str) -> None:
    if not store.exists() or (store.is_dir() and not any(store.iterdir())):
        return
    if _format_of(store) is None:
        raise StoreError(
            f"{store} exists and is not a store written by xharmonize",
            cure="it is not deleted: choose another path or remove it yourself",
        )
    require_new(store, mode, cure=CURE)


def _require_other_source(store: Path | Remote, parts: Parts) -> None:
    """Refuse a lazy cube that reads the entries it would replace: it could read new values."""
    own = source_name(store)
    for name, block in parts.blocks.items():
        if block.chunks is not None and any(str(n).startswith(own) for n in block.data.dask.layers):
            raise StoreError(
                f"{name!r} is read lazily from {store} itself, whose entries it would replace "
                "while they are read",
                cure="load the cube first with cube.load(), write it whole with "
                "mode='w', or write to another path",
            )


def is_store(path: Path | Remote) -> bool:
    """Tell whether a folder or URL holds a series or a result written by this package."""
    if isinstance(path, Remote):
        own = _own_of(document_at(path))
        return CHECKSUM in own or "result" in own
    return _format_of(path) is not None or is_result_store(path)


def is_taken(place: Remote) -> bool:
    """Tell whether a URL holds dates or a result, which are never replaced there."""
    if not is_store(place):
        return False
    return "result" in _own_of(document_at(place)) or bool(complete_rows(place)[0].size)
