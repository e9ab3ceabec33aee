"""Harmonised series on disk: a Zarr v3 store that grows, and opens as the cube it was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import xarray as xr

from xharmonize._replace import (
    GrowMode,
    beside,
    escaped,
    exchange,
    put_back,
    remove,
    require_mode,
    require_new,
)
from xharmonize.cube.results import is_result
from xharmonize.cube.store import layout
from xharmonize.cube.store.claims import Claim, claim, live_claims, require_free
from xharmonize.cube.store.fit import require_fit
from xharmonize.cube.store.layout import TILE
from xharmonize.cube.store.lock import writer_lock
from xharmonize.cube.store.parts import FORMAT, Parts, take_apart
from xharmonize.cube.store.read import open_whole, source_name
from xharmonize.cube.store.result import is_result_store, open_result, write_result
from xharmonize.cube.store.seal import differing, is_sound
from xharmonize.cube.store.transaction import format_in, readable_store, write_transaction
from xharmonize.cube.store.write import (
    commit,
    fill,
    open_for_writing,
    publish,
    reserve,
    write_entries,
)
from xharmonize.errors import StoreError

MODES = ("w-", "w", "upsert")
DAMAGED = "is damaged, or was changed by another program"
CURE = "mode='w' replaces it, mode='upsert' adds to it"


def to_zarr(
    cube: xr.DataArray | xr.Dataset,
    path: Any,
    *,
    mode: GrowMode = "w-",
    tile: int | None = None,
) -> Any:
    """Write a cube to a Zarr v3 store, as a whole or entry by entry.

    Entries are known by (time, sensor, tile). With ``mode="upsert"`` an entry the store holds
    already is replaced, any other is appended. A write that was killed leaves what was committed
    before, except that entries it was replacing are hidden; run again, it gives the same store as
    an undisturbed one. Several processes may upsert at once, if their entries differ.

    Parameters
    ----------
    cube : (time, band, y, x) or (time, y, x) DataArray, or Dataset of such variables
        With its contract and CRS; reflectance, an index, encoded digital numbers, and companions
        (`qa`, `origin`, `uncertainty`, …). Values, dtype and NaN are stored as they are. Dask
        cubes are written piece by piece with the scheduler in force. A result without dates, such
        as seasons or a fit, is written whole, with every variable.
    path : str, Path, or icechunk.Repository, Session or IcechunkStore
        Directory on a file system that all workers share. A repository of Icechunk gets one commit
        on its branch ``main``; a session is written to, and its owner commits it.
    mode : {"w-", "w", "upsert"}
        ``"w-"`` writes a new store and refuses what is there. ``"w"`` writes a new store beside
        the old one and then takes its place. ``"upsert"`` adds to the store, and makes it where
        there is none.
    tile : int, optional
        Edge of a shard [pixels], 1024 where not given. Settled when a store is made.

    Returns
    -------
    Path, or what was given for Icechunk
        The store.

    Raises
    ------
    StoreError
        If `path` exists (``"w-"``) or is not a store of this package and format version, the cube
        does not fit the store (grid, CRS, bands, dtype, units, flags, coordinates), a key occurs
        twice, another process writes one of
        the same entries (or, with ``mode="w"``, any), or a lazy cube would be upserted into the
        store it is read from.
    ContractError, GridError, TimeAxisError
        If the cube lacks contract coordinates, a CRS, an even grid or dates.
    """
    require_mode(mode, MODES)
    if tile is not None and tile < 1:
        raise StoreError(f"tile is {tile}; give a positive number of pixels")
    if is_result(cube) and isinstance(path, str | Path):
        return write_result(cube, _local(path), mode=mode)
    parts = take_apart(cube)
    if not isinstance(path, str | Path):
        return write_transaction(path, parts, mode=mode, tile=tile)
    store = _local(path)
    if mode == "upsert":
        _upsert(store, parts, tile=tile)
    else:
        _write_whole(store, parts, mode=mode, tile=tile or TILE)
    return store


def open_series(path: Any, *, chunks: Mapping[str, int] | None = None) -> xr.DataArray | xr.Dataset:
    """Open a store of `to_zarr` as the cube it was: complete entries only, sorted by time.

    The cube stands for the store as it is now. Where an entry is replaced later, or the whole
    store, reading its pixels is an error, and never gives new values under old dates.

    Parameters
    ----------
    path : str, Path, or icechunk.Repository, Session or IcechunkStore
        The store; of a repository the last commit on ``main``.
    chunks : mapping, optional
        Dask chunks; those of the shards where not given.

    Returns
    -------
    DataArray or Dataset
        Lazy, with contract coordinates as strings, sorted by (time, sensor, tile); what was
        written as a DataArray comes back as one.

    Raises
    ------
    StoreError
        If `path` holds no store of this package and format version, or it is damaged. When
        computed: if bytes are damaged, or the entries were replaced since.
    """
    if not isinstance(path, str | Path):
        place = readable_store(path)
        _require_version(format_in(place), "this Icechunk store")
        return open_whole(place, chunks=chunks)
    store = _local(path)
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
        f"{store} lacks a file ({missing}); bring it back from a copy, or write it again with "
        "mode='w'"
    ) from missing


def _local(path: str | Path) -> Path:
    if "://" in str(path):
        raise StoreError(
            f"{path} is a URL; series are written to directories, because an upsert relies on "
            "locks and atomic renames: write locally and copy the directory"
        )
    return Path(path).expanduser().resolve()


def _upsert(store: Path, parts: Parts, *, tile: int | None) -> None:
    """Reserve and commit under the lock; fill beside other writers, whose entries differ."""
    with ExitStack() as held:
        with writer_lock(store):
            claims = live_claims(store)
            require_free(claims, parts.keys)
            _clean_up(store, claims)
            if not store.exists() or not any(store.iterdir() if store.is_dir() else [store]):
                _make_empty(store, parts, tile=tile or TILE)
            _require_ours(store)
            _require_undamaged(store)
            _require_other_source(store, parts)
            group = open_for_writing(store)
            require_fit(group, parts, path=store)
            layout.require_tile(group, parts, tile=tile)
            held.enter_context(claim(store, parts.keys))
            rows = reserve(store, parts)
        fill(store, parts, rows)
        with writer_lock(store):
            commit(store, parts, rows)


def _make_empty(store: Path, parts: Parts, *, tile: int) -> None:
    """Make the store aside, so that it appears at `store` in one step."""
    partial = beside(store, "partial")
    layout.create(partial, parts, tile=tile)
    publish(partial, history={})
    exchange(partial, store)


def _write_whole(store: Path, parts: Parts, *, mode: str, tile: int) -> None:
    """Write a new store beside the old one, then swap: a kill leaves the old one as it was."""
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
            layout.create(partial, parts, tile=tile)
            publish(partial, history={})
            write_entries(partial, parts)
            with writer_lock(store):
                _require_replaceable(store, mode)
                exchange(partial, store)
        finally:
            remove(partial)


def _finish_swap(store: Path) -> None:
    """Bring back the old store where a writer was killed between the two renames of a swap."""
    if store.exists() or not any(store.parent.glob(f".{escaped(store.name)}.*.old")):
        return
    try:
        with writer_lock(store):
            put_back(store)
    except OSError as error:
        raise StoreError(
            f"a writer was killed while it put a new store at {store}; the old one is beside it, "
            f"as .{store.name}.<id>.old, and cannot be renamed by you ({error})"
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
    own = document.get("attributes", {}).get("xharmonize")
    return own.get("format") if isinstance(own, dict) else None


def _require_ours(store: Path) -> None:
    if not store.exists():
        raise StoreError(f"there is no store at {store}; write one with to_zarr")
    _require_version(_format_of(store), store)
    if not is_sound(json.loads((store / "zarr.json").read_text())):
        raise StoreError(
            f"{store} {DAMAGED}: its zarr.json is not what was written; bring it back from a copy, "
            "or write the store again with mode='w'"
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
        raise StoreError(f"{store} is not a store written by xharmonize; choose another path")
    if version != FORMAT:
        raise StoreError(
            f"{store} has format version {version}, this release reads and writes {FORMAT}; "
            "open it with the release that wrote it, or write it again with mode='w'"
        )


def _require_replaceable(store: Path, mode: str) -> None:
    if not store.exists() or (store.is_dir() and not any(store.iterdir())):
        return
    if _format_of(store) is None:
        raise StoreError(
            f"{store} exists and is not a store written by xharmonize; it is not deleted: "
            "choose another path or remove it yourself"
        )
    require_new(store, mode, cure=CURE)


def _require_other_source(store: Path, parts: Parts) -> None:
    """Refuse a lazy cube that reads the entries it would replace: half of them may be new."""
    own = source_name(store)
    for name, block in parts.blocks.items():
        if block.chunks is not None and any(str(n).startswith(own) for n in block.data.dask.layers):
            raise StoreError(
                f"{name!r} is read lazily from {store} itself, whose entries it would replace "
                "while they are read; load the cube first with cube.load(), write it whole with "
                "mode='w', or write to another path"
            )
