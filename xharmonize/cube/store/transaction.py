"""Stores in Icechunk: everything a write changes becomes one commit, or nothing does.

References
----------
Icechunk, transactional storage for Zarr, https://icechunk.io.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, product
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from xharmonize._optional import require
from xharmonize._replace import GrowMode
from xharmonize.cube.blockwise import cut_into
from xharmonize.cube.store import layout
from xharmonize.cube.store.fit import require_fit
from xharmonize.cube.store.layout import TILE
from xharmonize.cube.store.parts import FORMAT, Parts
from xharmonize.cube.store.write import commit, open_for_writing, reserve
from xharmonize.errors import StoreError
from xharmonize.types import IntArray

T = TypeVar("T")

BRANCH = "main"

AT_ONCE = 8
"""Shards computed before they are written: at most 200 MB of six bands."""


def write_transaction(place: Any, parts: Parts, *, mode: GrowMode, tile: int | None) -> Any:
    """Write a cube into an Icechunk repository, session or store, and return what was given.

    A repository gets one commit on its branch ``main``. A session (or its store) is written to and
    left for its owner to commit, so that several cubes may become one transaction.

    Raises
    ------
    StoreError
        If `place` is none of these, a session is read-only, another writer committed meanwhile, or
        the cube does not fit.
    """
    icechunk = require("icechunk", extra="icechunk")
    if not isinstance(place, icechunk.Repository):
        _write_session(_writable(place, icechunk), parts, mode=mode, tile=tile)
        return place
    session = place.writable_session(BRANCH)
    _write_session(session, parts, mode=mode, tile=tile)
    try:
        session.commit(f"xharmonize to_zarr, mode {mode}: {len(parts.keys)} entries")
    except icechunk.ConflictError as error:
        raise StoreError(
            f"another writer committed to branch {BRANCH!r} while this one wrote ({error}); "
            "nothing of this write was kept: run it again"
        ) from error
    return place


def readable_store(place: Any) -> Any:
    """Return the Zarr store to read a repository, session or store by.

    Raises
    ------
    StoreError
        If `place` is none of these.
    """
    icechunk = require("icechunk", extra="icechunk")
    if isinstance(place, icechunk.Repository):
        place = place.readonly_session(BRANCH)
    return _session(place, icechunk).store


def _session(place: Any, icechunk: Any) -> Any:
    session = place.session if isinstance(place, icechunk.IcechunkStore) else place
    if not isinstance(session, icechunk.Session):
        raise StoreError(
            f"path is a {type(place).__name__}; give a path, or an Icechunk repository, session or "
            "store"
        )
    return session


def _writable(place: Any, icechunk: Any) -> Any:
    session = _session(place, icechunk)
    if session.read_only:
        raise StoreError(
            f"the Icechunk session is read-only; open it with writable_session({BRANCH!r})"
        )
    return session


def _write_session(session: Any, parts: Parts, *, mode: GrowMode, tile: int | None) -> None:
    attrs = _root_attrs(session.store)
    version = format_in(session.store)
    if attrs is not None and version is None:
        raise StoreError(
            "the root group of this Icechunk store was not written by xharmonize; use another "
            "repository"
        )
    if mode == "w-" and attrs is not None:
        raise StoreError(
            "there is a store in this Icechunk repository; mode='w' replaces it, mode='upsert' "
            "adds to it"
        )
    if mode == "upsert" and version not in (None, FORMAT):
        raise StoreError(
            f"the store has format version {version}, this release writes {FORMAT}; write it again "
            "with mode='w'"
        )
    if mode != "upsert" or version is None:
        layout.create(session.store, parts, tile=tile or TILE, overwrite=attrs is not None)
    group = open_for_writing(session.store)
    require_fit(group, parts, path="in Icechunk")
    layout.require_tile(group, parts, tile=tile)
    rows = reserve(session.store, parts)
    _fill(session, parts, rows)
    commit(session.store, parts, rows)


def format_in(store: Any) -> Any:
    """Format version of a store; None where there is none, or none of ours."""
    attrs = _root_attrs(store) or {}
    return attrs.get("xharmonize", {}).get("format")


def _root_attrs(store: Any) -> dict[str, Any] | None:
    """Attributes of the root group; None where there is none."""
    import zarr

    try:
        return dict(zarr.open_group(store, mode="r", zarr_format=3).attrs)
    except FileNotFoundError:
        return None


def _fill(session: Any, parts: Parts, rows: IntArray) -> None:
    """Compute shards wherever the scheduler runs tasks, and write them here, a few at a time.

    Icechunk takes writes from other processes only into sessions that have changed nothing yet,
    and ours has reserved rows; to commit that first would make two transactions of one.
    """
    import dask

    group = open_for_writing(session.store)
    for name, block in parts.blocks.items():
        array = group[name]
        shards = _shards(block, unit=array.shards or array.chunks)
        for few in _batched(shards, AT_ONCE):
            values = dask.compute(*(lazy for _, lazy in few))
            for (start, _), value in zip(few, values):
                first, *rest = start
                ends = (at + n for at, n in zip(rest, value.shape[1:]))
                row = int(rows[first])
                region = (slice(row, row + 1), *(slice(*edges) for edges in zip(rest, ends)))
                array[region] = value.astype(array.dtype, copy=False)


def _shards(block: xr.DataArray, *, unit: Sequence[int]) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Where each shard starts, and its values: lazy where the block is."""
    source = cut_into(block.data, unit)
    starts = [np.cumsum((0, *sizes[:-1])).tolist() for sizes in source.chunks]
    return zip(product(*starts), source.to_delayed().ravel().tolist())


def _batched(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut into lists of at most `size`."""
    rest = iter(values)
    while few := list(islice(rest, size)):
        yield few
