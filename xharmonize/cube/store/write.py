"""Reserve, fill, commit: how entries get into a store so that a reader never sees half of one.

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
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import cut_into
from xharmonize.cube.store.encode import (
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
from xharmonize.cube.store.parts import Parts
from xharmonize.cube.store.seal import seal
from xharmonize.types import AnyArray, IntArray


def write_entries(path: Path, parts: Parts) -> None:
    """Write all entries of a cube into an existing store that fits it.

    An entry whose (time, sensor, tile) the store holds is replaced, the others are appended.
    """
    rows = reserve(path, parts)
    fill(path, parts, rows)
    commit(path, parts, rows)


def reserve(path: Path | Any, parts: Parts) -> IntArray:
    """Give each entry a row, marked incomplete, and return the rows.

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


def fill(path: Path, parts: Parts, rows: IntArray) -> None:
    """Write the pixels, each task one shard, with the scheduler in force."""
    import dask

    group = open_for_writing(path)
    writes = []
    for name, block in parts.blocks.items():
        array = group[name]
        unit = array.shards or array.chunks
        writes.append(_write_array(block, path=path, rows=rows, unit=unit))
    dask.compute(*writes)


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

    return zarr.open_group(path, mode="r+", zarr_format=3, use_consolidated=False)


def publish(path: Path | Any, *, history: Mapping[str, Any], grow: bool = True) -> None:
    """Put the metadata of all arrays into the root ``zarr.json``, by one atomic rename.

    zarr-python calls this consolidated metadata. xarray prefers it, so a plain reader goes from
    one whole state of the store to the next, and never meets arrays of different lengths.

    A store that is no directory (Icechunk) has commits of its own: only the history is set.

    Parameters
    ----------
    grow : bool
        False publishes new attributes (meanings of codes) under the shapes of before.
    """
    if not isinstance(path, Path):
        _append_history(open_for_writing(path).attrs, history)
        return
    root = path / "zarr.json"
    document = json.loads(root.read_text())
    before = document.get("consolidated_metadata", {}).get("metadata", {})
    arrays = {
        file.parent.name: json.loads(file.read_text()) for file in sorted(path.glob("*/zarr.json"))
    }
    if not grow:
        arrays = {name: array | {"shape": before[name]["shape"]} for name, array in arrays.items()}
    document["consolidated_metadata"] = {
        "kind": "inline",
        "must_understand": False,
        "metadata": arrays,
    }
    _append_history(document["attributes"], history)
    seal(document)
    partial = path / f"zarr.json.{uuid.uuid4().hex}.partial"
    partial.write_text(json.dumps(document, indent=2))
    os.replace(partial, root)


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
    for row, time, sensor, tile in zip(kept, times.tolist(), sensors, tiles):
        keys[row] = (time, str(sensor), str(tile))
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


def _write_array(block: xr.DataArray, *, path: Path, rows: IntArray, unit: Sequence[int]) -> Any:
    """Return a lazy array whose blocks write shards as they are computed."""
    import dask.array as da

    # One row, all bands and one tile a task: no two tasks touch the same shard.
    source = cut_into(block.data, unit)
    return da.map_blocks(
        write_block,
        source,
        path=str(path),
        variable=str(block.name),
        rows=rows,
        chunks=tuple((1,) * len(sizes) for sizes in source.chunks),
        dtype=np.uint8,
        meta=np.empty((0,) * source.ndim, np.uint8),
        name=f"to-zarr-{block.name}-{uuid.uuid4().hex}",
    )


def write_block(
    block: AnyArray,
    *,
    path: str,
    variable: str,
    rows: IntArray,
    block_info: Mapping[Any, Any] | None = None,
) -> AnyArray:
    """Write one block of one date and return a single zero, so that nothing piles up."""
    import zarr

    if block_info:
        (row, *_), *rest = block_info[0]["array-location"]
        array = zarr.open_array(path, path=variable, mode="r+", zarr_format=3)
        region = (slice(rows[row], rows[row] + 1), *(slice(*edges) for edges in rest))
        array[region] = block.astype(array.dtype, copy=False)
    return np.zeros((1,) * block.ndim, np.uint8)
