"""Write to Icechunk: rows are reserved on a branch of their own, workers fill, ``main`` moves once.

A session that has changed something cannot be forked, and rows are reserved before they are
filled. So reserving is committed where no reader looks, on a temporary branch; every task fills
in a fork of a fresh session there and returns the fork, which holds references to what was
written and no pixels; all are merged, and ``main`` is moved if it is still where it was.

References
----------
Icechunk, transactional storage for Zarr, https://icechunk.io.
"""

from __future__ import annotations

import os
import pickle
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice, product
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from xharmonize._optional import require
from xharmonize._owner import is_alive, machine
from xharmonize._replace import GrowMode
from xharmonize.cube.blockwise import cut_into
from xharmonize.errors import StoreError
from xharmonize.io.zarr import layout
from xharmonize.io.zarr.parts import FORMAT, Parts, require_fit
from xharmonize.io.zarr.write import (
    Target,
    commit,
    open_for_writing,
    reserve,
    write_region,
    writing,
)
from xharmonize.types import AnyArray, IntArray

T = TypeVar("T")

BRANCH = "main"
TEMPORARY = "xharmonize-writes"
"""How names of temporary branches begin; machine, process and a number of its own follow."""

AT_ONCE = 8
"""Shards computed before they are written into a session: at most 200 MB of six bands."""

MERGED = 32
"""Forks merged by one task, so that a large write comes back to the client as a few."""


def write_transaction(place: Any, parts: Parts, *, mode: GrowMode, shard: int | None) -> Any:
    """Write a cube to an Icechunk repository, session or store, and return that object.

    A repository gets one commit on its branch ``main``. A session (or its store) is written to but
    not committed, so that its owner can combine several cubes in one transaction.

    Raises
    ------
    StoreError
        If `place` is none of these, a session is read-only, another writer committed meanwhile, or
        the cube does not fit.
    """
    icechunk = require("icechunk", extra="icechunk")
    if isinstance(place, icechunk.Repository):
        _write_branch(place, parts, mode=mode, shard=shard)
        return place
    session = _writable(place, icechunk)
    rows = _reserve(session.store, parts, mode=mode, shard=shard)
    _fill_here(session, parts, rows)
    commit(session.store, parts, rows)
    return place


def _write_branch(repository: Any, parts: Parts, *, mode: GrowMode, shard: int | None) -> None:
    """Write on a temporary branch and move ``main`` there, in one step."""
    before = repository.lookup_branch(BRANCH)
    with _temporary_branch(repository, before) as branch:
        session = repository.writable_session(branch)
        rows = _reserve(session.store, parts, mode=mode, shard=shard)
        session.commit(f"xharmonize to_zarr: rows of {len(parts.keys)} entries, not filled yet")
        session = repository.writable_session(branch)
        session.merge(*_fill_by_forks(session, parts, rows))
        commit(session.store, parts, rows)
        message = f"xharmonize to_zarr, mode {mode}: {len(parts.keys)} entries"
        # Repositories of format 2 forget that rows were reserved; older ones keep it as a parent.
        finish = session.amend if _can_amend(repository) else session.commit
        _move_main(repository, before, finish(message))


@contextmanager
def _temporary_branch(repository: Any, snapshot: str) -> Iterator[str]:
    _sweep(repository)
    branch = f"{TEMPORARY}-{machine()}-{os.getpid()}-{uuid.uuid4().hex}"
    repository.create_branch(branch, snapshot)
    try:
        yield branch
    finally:
        repository.delete_branch(branch)


def _sweep(repository: Any) -> None:
    """Delete branches of writers of this machine that were killed."""
    import icechunk

    own = f"{TEMPORARY}-{machine()}-"
    for branch in repository.list_branches():
        pid = branch.removeprefix(own).partition("-")[0]
        if branch.startswith(own) and pid.isdigit() and not is_alive(int(pid)):
            with suppress(icechunk.IcechunkError):  # another writer has swept it
                repository.delete_branch(branch)


def _can_amend(repository: Any) -> bool:
    version = getattr(repository, "spec_version", None)
    return version is not None and "v1" not in str(version)


def _move_main(repository: Any, before: str, after: str) -> None:
    import icechunk

    try:
        repository.reset_branch(BRANCH, after, from_snapshot_id=before)
    except icechunk.IcechunkError as error:
        now = repository.lookup_branch(BRANCH)
        if now == before:
            raise
        if now != after:  # else the answer was lost, not the move
            raise StoreError(
                f"another writer committed to branch {BRANCH!r} while this one wrote",
                cure="nothing of this write was kept: run it again",
            ) from error


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
            f"path is a {type(place).__name__}",
            cure="give a path, or an Icechunk repository, session or store",
        )
    return session


def _writable(place: Any, icechunk: Any) -> Any:
    session = _session(place, icechunk)
    if session.read_only:
        raise StoreError(
            "the Icechunk session is read-only", cure=f"open it with writable_session({BRANCH!r})"
        )
    return session


def _reserve(store: Any, parts: Parts, *, mode: GrowMode, shard: int | None) -> IntArray:
    """Make the store where there is none, and reserve rows."""
    attrs = _root_attrs(store)
    version = format_in(store)
    if attrs is not None and version is None:
        raise StoreError(
            "the root group of this Icechunk store was not written by xharmonize",
            cure="use another repository",
        )
    if mode == "w-" and attrs is not None:
        raise StoreError(
            "there is a store in this Icechunk repository",
            cure="mode='w' replaces it, mode='upsert' adds to it",
        )
    if mode == "upsert" and version not in (None, FORMAT):
        raise StoreError(
            f"the store has format version {version}, this release writes {FORMAT}",
            cure="write it again with mode='w'",
        )
    if mode != "upsert" or version is None:
        layout.create(store, parts, shard=shard, overwrite=attrs is not None)
    group = open_for_writing(store)
    require_fit(group, parts, path="in Icechunk")
    layout.require_shard(group, parts, shard=shard)
    return reserve(store, parts)


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


def _fill_by_forks(session: Any, parts: Parts, rows: IntArray) -> list[Any]:
    """Write shards where the scheduler runs tasks; return forks that hold where they lie."""
    from dask.base import compute
    from dask.delayed import delayed

    fork = pickle.dumps(session.fork())
    group = open_for_writing(session.store)
    merged = []
    for name, block in parts.blocks.items():
        unit = group[name].shards or group[name].chunks
        where = {"fork": fork, "variable": name}
        forks = writing(block, _write_shard, rows=rows, unit=unit, dtype=object, **where)
        merge = delayed(_merge, pure=False)
        merged += [merge(few) for few in _batched(forks.to_delayed().ravel().tolist(), MERGED)]
    return [pickle.loads(one) for one in compute(*merged)]


def _write_shard(
    block: AnyArray,
    *,
    fork: bytes,
    variable: str,
    rows: IntArray,
    block_info: Mapping[Any, Any] | None = None,
) -> AnyArray:
    """Write one shard in a fork of its own: a task that is run again changes nothing."""
    own = pickle.loads(fork)
    target = Target(store=own.store, variable=variable)
    write_region(target, block, rows=rows, block_info=block_info)
    result = np.empty((1,) * block.ndim, object)
    result[...] = pickle.dumps(own)
    return result


def _merge(forks: Sequence[AnyArray]) -> bytes:
    first, *others = (pickle.loads(one.item()) for one in forks)
    first.merge(*others)
    return pickle.dumps(first)


def _fill_here(session: Any, parts: Parts, rows: IntArray) -> None:
    """Compute shards wherever the scheduler runs tasks, and write them here, a few at a time.

    A session of the user's is not ours to commit, and once rows are reserved it cannot be forked.
    """
    from dask.base import compute

    group = open_for_writing(session.store)
    for name, block in parts.blocks.items():
        array = group[name]
        shards = _shards(block, unit=array.shards or array.chunks)
        for few in _batched(shards, AT_ONCE):
            values = compute(*(lazy for _, lazy in few))
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
