"""Write entries in three steps (reserve, fill, commit), so that readers never see partial ones.

A claim is a file ``.<name>.<id>.claim`` beside the store, held by `flock` for as long as its writer
fills. The kernel frees it when the writer dies, however it dies. All functions but the leaving of
`claim` are called under `writer_lock`.

A writer marks an entry incomplete, then gives it another version, then changes it. Versions are
never used twice. So whoever reads the version, then the mark, then the rest, then the version
again, knows whether all of it belongs together; and pixels are those of the entry that was opened
if its version has not changed after they were read.

Reserve
    One writer extends the arrays and writes the keys; the entries are marked incomplete.
Fill
    Tasks write whole shards in disjoint regions, in any order, in any process.
Commit
    The entries are marked complete, then the metadata of all arrays are put into the root
    ``zarr.json`` by one atomic rename. Until then plain readers see the shapes of before.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xharmonize._replace import escaped
from xharmonize._settings import option
from xharmonize._urls import Remote, whole
from xharmonize.cube.blockwise import cut_into
from xharmonize.cube.codes import (
    CODED,
    COMPLETE,
    NO_CODE,
    VERSION,
    extend_meanings,
    flag_attrs,
    from_codes,
    meanings_of,
    to_codes,
)
from xharmonize.errors import StoreError
from xharmonize.io.zarr.codecs import by_zarrs, is_usable, write_whole
from xharmonize.io.zarr.parts import Parts, seal
from xharmonize.io.zarr.reading import open_array
from xharmonize.io.zarr.remote import as_zarr, document_at
from xharmonize.types import AnyArray, Codecs, IntArray

LOCK_WAIT = 60.0
"""How long to wait for the lock [s]; it is held for parts of a second, never while pixels are
written."""


@contextmanager
def writer_lock(store: Path, *, wait: float = LOCK_WAIT) -> Iterator[None]:
    """Hold the exclusive lock for changing the entries of a store.

    The lock is an `flock` on ``.<name>.lock``, which the kernel releases whenever the process
    dies. The file records the process and host that hold it. A file left by a dead process of this
    host is taken over; one left by another host is refused, because not every network file system
    passes locks between hosts.

    Raises
    ------
    StoreError
        If another writer still holds the lock after `wait` seconds, a writer on another host left
        its file, or nothing can be written there.
    """
    file = lock_path(store)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(file, until=time.monotonic() + wait)
    except OSError as error:
        raise StoreError(
            f"nothing can be written to {file.parent}: {error.strerror}", cure="name another place"
        ) from error
    try:
        os.ftruncate(descriptor, 0)
        holder = {"pid": os.getpid(), "host": socket.gethostname()}
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
    finally:
        # Unlinked while held: whoever opened the old file sees in _is_current that it is gone.
        file.unlink(missing_ok=True)
        os.close(descriptor)


def lock_path(store: Path) -> Path:
    """Return the lock file of a store."""
    return store.with_name(f".{store.name}.lock")


def _acquire(file: Path, *, until: float) -> int:
    while True:
        try:
            descriptor = _try(file)
        except StoreError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.02)
        else:
            if descriptor is not None:
                return descriptor


def _try(file: Path) -> int | None:
    """Return the locked descriptor, None where the file was replaced meanwhile, or raise."""
    import fcntl

    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_current(descriptor, file):
            _refuse_other_host(descriptor, file)
            return descriptor
    except BlockingIOError as error:
        holder = _holder(descriptor)
        os.close(descriptor)
        raise StoreError(
            f"another process writes this store ({holder}, lock file {file})",
            cure="wait for it to end and try again",
        ) from error
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _is_current(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except FileNotFoundError:
        return False


def _refuse_other_host(descriptor: int, file: Path) -> None:
    holder = _holder(descriptor)
    if holder and f"host {socket.gethostname()}" not in holder:
        raise StoreError(
            f"a writer on another machine left its lock ({holder})",
            cure=f"if it no longer runs, delete {file} and try again",
        )


def _holder(descriptor: int) -> str:
    text = os.pread(descriptor, 4096, 0).decode(errors="replace")
    try:
        said = json.loads(text)
        return f"process {said['pid']} on host {said['host']}"
    except (ValueError, KeyError, TypeError):
        return text.strip()


Key = tuple[int, str, str]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Entries of a live writer; `keys` is None if it writes the whole store."""

    writer: str
    file: Path
    keys: frozenset[Key] | None


def live_claims(store: Path) -> list[Claim]:
    """Return the claims of living writers, and remove those of dead ones."""
    found = []
    for file in sorted(store.parent.glob(f".{escaped(store.name)}.*.claim")):
        said = json.loads(file.read_text())
        if said["host"] == socket.gethostname() and not _is_held(file):
            file.unlink(missing_ok=True)
            continue
        keys = said["keys"]
        found.append(
            Claim(
                writer=f"process {said['pid']} on host {said['host']}",
                file=file,
                keys=None if keys is None else frozenset((t, s, i) for t, s, i in keys),
            )
        )
    return found


def require_free(claims: Sequence[Claim], keys: Sequence[Key] | None) -> None:
    """Raise `StoreError` if a live writer claims one of `keys`; None means all keys."""
    for claim in claims:
        if keys is None or claim.keys is None:
            what = "the whole store" if claim.keys is None else f"{len(claim.keys)} entries of it"
            raise StoreError(
                f"another process writes {what} ({claim.writer}, claim {claim.file})",
                cure="wait for it "
                "to end and try again (if it ran on another machine and is dead, delete that file)",
            )
        common = sorted(claim.keys & set(keys))
        if common:
            time, sensor, tile = common[0]
            raise StoreError(
                f"another process writes ({np.datetime64(time, 'us')}, {sensor}, {tile}) "
                f"({claim.writer}, claim {claim.file})",
                cure="writers at once need different entries: wait for it to end and try again",
            )


@contextmanager
def claim(store: Path, keys: Sequence[Key] | None) -> Iterator[None]:
    """Claim entries, or with None the whole store, while the block runs."""
    import fcntl

    file = store.with_name(f".{store.name}.{uuid.uuid4().hex}.claim")
    partial = file.with_suffix(".partial-claim")
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        said = {"pid": os.getpid(), "host": socket.gethostname(), "keys": keys}
        os.pwrite(descriptor, json.dumps(said).encode(), 0)
        os.rename(partial, file)  # seen only when it is held and says whose it is
        yield
    finally:
        for path in (partial, file):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _is_held(file: Path) -> bool:
    import fcntl

    try:
        descriptor = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def write_entries(path: Path, parts: Parts) -> None:
    """Write all entries of a cube into an existing store that fits it.

    An entry whose (time, sensor, tile) the store holds is replaced, the others are appended.
    """
    rows = reserve(path, parts)
    fill(path, parts, rows)
    commit(path, parts, rows)


def reserve(path: Path | Any, parts: Parts) -> IntArray:
    """Assign a row to each entry, marked incomplete, and return the rows.

    The cube fits the store (`fit.require_fit`), so nothing here fails for what it holds. An entry
    is marked incomplete, then gets another version, then other coordinates: readers rely on that
    order. The sensor code is written last: a row without it is free, whatever else it holds.
    """
    group = open_for_writing(path)
    held = _owned_keys(group)
    rows = _rows_for(held, parts)
    total = max(int(rows.max(initial=-1)) + 1, len(held))
    _set_lengths(group, total)
    _set_rows(group[COMPLETE], rows, np.uint8(0))
    _set_rows(group[VERSION], rows, np.random.default_rng().integers(1, 2**63 - 1, rows.size))
    for name, stored in parts.entries.items():
        _set_rows(group[name], rows, stored.values)
    _set_rows(group["time"], rows, parts.times)
    for name in (*(n for n in CODED if n != "sensor"), "sensor"):
        array = group[name]
        known = meanings_of(array.attrs)
        meanings = extend_meanings(known, parts.coded[name])
        if meanings != known:
            array.attrs.update(flag_attrs(meanings))
        _set_rows(array, rows, to_codes(parts.coded[name], meanings, name=name))
    publish(path, history={}, grow=False)
    return rows


def fill(path: Path | Remote, parts: Parts, rows: IntArray) -> None:
    """Write the pixels with the current scheduler, one shard per task."""
    from dask.base import compute

    group = open_for_writing(path)
    writes = []
    for name, block in parts.blocks.items():
        array = group[name]
        unit = array.shards or array.chunks
        target = Target(store=path, variable=name, codecs=option("codecs"))
        writes.append(
            writing(block, write_block, rows=rows, unit=unit, dtype=np.uint8, target=target)
        )
    compute(*writes)


def commit(path: Path | Any, parts: Parts, rows: IntArray) -> None:
    """Mark rows complete, then publish the new shapes to plain readers.

    Arrays that a writer killed while reserving has left longer than others are cut first.
    """
    group = open_for_writing(path)
    _set_lengths(group, len(_owned_keys(group)))
    for name, block in parts.variables.items():
        _append_history(group[name].attrs, block.attrs)
    _set_rows(group[COMPLETE], rows, np.uint8(1))
    publish(path, history=parts.attrs)


def open_for_writing(path: Path | Any) -> Any:
    """Open the root group by the metadata of the arrays themselves, not the published copy."""
    import zarr

    return zarr.open_group(as_zarr(path), mode="r+", zarr_format=3, use_consolidated=False)


def publish(path: Path | Any, *, history: Mapping[str, Any], grow: bool = True) -> None:
    """Put the metadata of all arrays into the root ``zarr.json``, in one step.

    That is a rename, or replacing the object of a URL.

    zarr-python calls this consolidated metadata. xarray prefers it, so a plain reader goes from
    one whole state of the store to the next, and never meets arrays of different lengths.

    A store that is no directory (Icechunk) has commits of its own: only the history is set.

    Parameters
    ----------
    grow : bool
        False publishes new attributes (meanings of codes) under the shapes of before.
    """
    if not isinstance(path, Path | Remote):
        _append_history(open_for_writing(path).attrs, history)
        return
    document, arrays = _described(path)
    before = document.get("consolidated_metadata", {}).get("metadata", {})
    if not grow:
        arrays = {name: array | {"shape": before[name]["shape"]} for name, array in arrays.items()}
    document["consolidated_metadata"] = {
        "kind": "inline",
        "must_understand": False,
        "metadata": arrays,
    }
    _append_history(document["attributes"], history)
    seal(document)
    with whole(path, "zarr.json") as file:
        file.write_text(json.dumps(document, indent=2))


def _described(place: Path | Remote) -> tuple[dict[str, Any], dict[str, Any]]:
    """Root document, and what the arrays say of themselves, by name."""
    if isinstance(place, Path):
        files = sorted(place.glob("*/zarr.json"))
        arrays = {file.parent.name: json.loads(file.read_text()) for file in files}
        return json.loads((place / "zarr.json").read_text()), arrays
    arrays = {n: json.loads(text) for n, text in place.read_within("zarr.json").items()}
    return document_at(place) or {}, arrays


def _owned_keys(group: Any) -> list[tuple[int, str, str] | None]:
    """Keys up to the last row that has one; what a killed writer left behind it is nobody's."""
    keys = stored_keys(group)
    while keys and keys[-1] is None:
        keys.pop()
    return keys


def _set_lengths(group: Any, total: int) -> None:
    """Give all arrays along time the same length."""
    for _, array in group.arrays():
        if "time" in (array.metadata.dimension_names or ()) and array.shape[0] != total:
            array.resize((total, *array.shape[1:]))


def _rows_for(held: Sequence[tuple[int, str, str] | None], parts: Parts) -> IntArray:
    """Row of each key: its own where the store has it, else a free one, else a new one."""
    known = {key: row for row, key in enumerate(held) if key is not None}
    free = [row for row, key in enumerate(held) if key is None]
    n_missing = sum(key not in known for key in parts.keys)
    fresh = iter([*free, *range(len(held), len(held) + n_missing)])
    rows = [known[key] if key in known else next(fresh) for key in parts.keys]
    return np.array(rows, np.int64)


def stored_keys(group: Any) -> list[tuple[int, str, str] | None]:
    """(time, sensor, tile) of each row; None where no key was written."""
    codes = group["sensor"][:]
    n_rows = codes.size
    has_key = codes != NO_CODE
    keys: list[tuple[int, str, str] | None] = [None] * n_rows
    kept = np.flatnonzero(has_key)
    sensors = from_codes(codes[kept], group["sensor"].attrs, name="sensor")
    tiles = from_codes(group["tile"][:n_rows][kept], group["tile"].attrs, name="tile")
    times = group["time"][:n_rows][kept]
    for row, moment, sensor, tile in zip(kept, times.tolist(), sensors, tiles):
        keys[row] = (moment, str(sensor), str(tile))
    return keys


def _set_rows(array: Any, rows: IntArray, values: Any) -> None:
    """Set rows by rewriting the small array whole; each chunk of it is replaced atomically."""
    if rows.size:
        held = array[:]
        held = held.astype(object) if held.dtype.kind not in "iuf" else held
        held[rows] = values
        array[:] = held


def _append_history(attrs: Any, new: Mapping[str, Any]) -> None:
    past = str(attrs.get("history", "")).splitlines()
    lines = [line for line in str(new.get("history", "")).splitlines() if line not in past]
    if lines:
        attrs["history"] = "\n".join([*past, *lines])


def writing(
    block: xr.DataArray,
    write: Callable[..., AnyArray],
    *,
    rows: IntArray,
    unit: Sequence[int],
    dtype: Any,
    **where: Any,
) -> Any:
    """Return a lazy array whose blocks write shards as they are computed.

    Parameters
    ----------
    write : callable
        Takes a block, ``rows``, ``block_info`` and `where`, and returns one element.
    dtype : dtype
        Of that element.
    """
    import dask.array as da

    # One row, all bands and one tile a task: no two tasks touch the same shard.
    source = cut_into(block.data, unit)
    return da.map_blocks(
        write,
        source,
        rows=rows,
        chunks=tuple((1,) * len(sizes) for sizes in source.chunks),
        dtype=dtype,
        meta=np.empty((0,) * source.ndim, dtype),
        name=f"to-zarr-{block.name}-{uuid.uuid4().hex}",
        **where,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """The array of a variable that shards are written into, opened once in each process.

    Attributes
    ----------
    store : Path, Remote or zarr store
    codecs : {"zarrs", "zarr-python"}, optional
        What encodes whole shards.
    """

    store: Any
    variable: str
    codecs: Codecs | None = None

    @cached_property
    def array(self) -> Any:
        """As zarr-python opens it."""
        return open_array(self.store, self.variable, mode="r+")

    @cached_property
    def whole(self) -> Any:
        """The same by zarrs; None where that cannot write it."""
        return by_zarrs(self.array, self.codecs)

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def write_block(
    block: AnyArray,
    *,
    target: Target,
    rows: IntArray,
    block_info: Mapping[Any, Any] | None = None,
) -> AnyArray:
    """Write one block of one date and return a single zero, so that nothing piles up."""
    write_region(target, block, rows=rows, block_info=block_info)
    return np.zeros((1,) * block.ndim, np.uint8)


def write_region(
    target: Target,
    block: AnyArray,
    *,
    rows: IntArray,
    block_info: Mapping[Any, Any] | None,
) -> None:
    """Write a block of a lazy array, one shard, into the row of its date."""
    if not block_info:
        return
    (row, *_), *rest = block_info[0]["array-location"]
    array = target.array
    values = block.astype(array.dtype, copy=False)
    if is_usable(target.whole):
        write_whole(target.whole, (rows[row], *(first for first, _ in rest)), values)
    else:
        array[(slice(rows[row], rows[row] + 1), *(slice(*edges) for edges in rest))] = values
