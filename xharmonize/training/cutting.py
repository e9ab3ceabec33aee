"""Samples cut from pairs and written, each shard by the one task that makes it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from xharmonize._replace import written_aside
from xharmonize._urls import Remote, find, one_writer
from xharmonize.errors import FitError, StoreError, XHarmonizeError
from xharmonize.io.zarr.remote import as_zarr, document_at
from xharmonize.kernels.patches import reflected_span
from xharmonize.models.lattice import Lattice
from xharmonize.tiles import sampling
from xharmonize.training.config import Data
from xharmonize.training.places import (
    Place,
    Source,
    alignment,
    make_lattice,
    pair_of,
    read_places,
)
from xharmonize.training.store import (
    FORMAT,
    MARK,
    N_BINS,
    Store,
    limits_of,
    open_at,
)
from xharmonize.types import AnyArray, BoolArray, FloatArray

SAMPLES_PER_TASK = 64
BEGUN = "xharmonize:begun"
"""Attribute of a store from its beginning; `store.MARK` is written last."""


def build_store(
    pairs: Any,
    path: str | os.PathLike[str],
    data: Data | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> Store:
    """Cut samples from pairs and write them.

    Parameters
    ----------
    pairs : DataTree, or mapping of str to DataTree
        From `xharmonize.collect_pairs`; of several places by name.
    path : path or URL
        New folder. It is there when all of it is; at a URL, what a killed process has left in part
        is removed first. Dask's workers write it.
    data : Data, optional
        Size, stride and minimum valid fraction of samples, bands, and most cloud of a pair.
    storage_options : mapping, optional
        For URLs: what fsspec's plugin takes. Workers get them with their tasks.

    Raises
    ------
    FitError
        If there are no pairs, or no sample is valid enough.
    GridError, BandError
        If the grids or bands do not suit.
    StoreError
        If `path` exists, or the disk is full; if another process writes to the URL.
    """
    data = Data() if data is None else data
    places = read_places(pairs, data)
    lattice = make_lattice(places[0], data)
    cuts = [cut for n, place in enumerate(places) for cut in _cuts(n, place, lattice, data)]
    where = find(path, storage_options)
    if isinstance(where, Path):
        _require_room(where, places[0], lattice, sum(len(cut.windows) for cut in cuts))
    try:
        with _whole(where) as new:
            _write(new, places, cuts, lattice, data)
    except XHarmonizeError:  # an image that cannot be read, say
        raise
    except OSError as error:
        raise StoreError(f"samples cannot be written to {where}: {error}") from error
    return open_at(where)


@contextmanager
def _whole(where: Path | Remote) -> Iterator[Path | Remote]:
    """Yield where to write samples, so that all of them are there in the end, or nothing.

    At a URL nothing can be renamed: its only writer removes what is not whole.
    """
    if isinstance(where, Path):
        with written_aside(where, "w-") as aside:
            yield aside
        return
    with one_writer(where):
        if where.is_occupied():
            _remove_part(where)
        try:
            yield where
        except BaseException:
            where.remove()
            raise


def _remove_part(place: Remote) -> None:
    """Remove what a killed writer left, which lacks what is written last, and nothing else."""
    group = document_at(place) or {}
    if MARK in group.get("attributes", {}):
        raise StoreError(f"{place} exists", cure="name another URL, or remove it yourself")
    if not group.get("attributes", {}).get(BEGUN):
        raise StoreError(f"{place} holds something else", cure="name another URL")
    place.remove()


def _require_room(path: Path, place: Place, lattice: Lattice, n: int) -> None:
    """Raise `StoreError` where the disk has less room than all samples could need."""
    each = 4 * sum(int(np.prod(shape)) for shape in _shapes(place, lattice).values())
    folder = next(one for one in (path, *path.absolute().parents) if one.exists())
    free = shutil.disk_usage(folder).free
    if n * each > free:
        raise StoreError(
            f"{n} samples need up to {n * each / 1e6:,.0f} MB, {free / 1e6:,.1f} MB are free at "
            f"{folder}",
            cure="make room, name another folder, or give a larger Data(stride=...)",
        )


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Samples that one task cuts from one pair."""

    place: int
    pair: int
    windows: tuple[tuple[int, int], ...]
    """Row and column of each, in target pixels from the lattice's phase."""


def _cuts(number: int, place: Place, lattice: Lattice, data: Data) -> list[Cut]:
    """All samples of a place, a few rows of windows at a time."""
    unit = alignment(place, lattice.resolution)
    stride = data.stride or max(unit, lattice.tile // 2 // unit * unit)
    if stride % unit:
        raise FitError(
            "is no whole number of pixels of each input",
            argument="stride",
            value=stride,
            cure=f"give a multiple of {unit}",
        )
    rows, columns = (
        [at - lattice.buffer for at in _starts(first, size, lattice.stride, stride, unit)]
        for first, size in zip(place.first, place.target.shape[2:])
    )
    if not rows or not columns:
        height, width = place.target.shape[2:]
        raise FitError(
            f"the core of a patch, {lattice.stride} pixels a side, does not fit into {height} x "
            f"{width} pixels",
            cure="give a smaller Data(patch=...)",
        )
    per_task = max(1, SAMPLES_PER_TASK // len(columns))
    return [
        Cut(
            place=number,
            pair=pair,
            windows=tuple((r, c) for r in rows[start : start + per_task] for c in columns),
        )
        for pair in range(place.target.sizes["pair"])
        for start in range(0, len(rows), per_task)
    ]


def _starts(first: int, size: int, core: int, stride: int, unit: int) -> list[int]:
    """Where cores begin on one axis: every stride, and once more at the end."""
    low, high = -(-first // unit) * unit, (first + size - core) // unit * unit
    return [*range(low, high, stride), high] if low <= high else []


def _write(
    path: Path | Remote, places: Sequence[Place], cuts: Sequence[Cut], lattice: Lattice, data: Data
) -> None:
    import zarr
    from dask.base import compute

    group = zarr.open_group(as_zarr(path), mode="w-", attributes={BEGUN: True})
    size = max(len(cut.windows) for cut in cuts)
    _create(group, places[0], lattice, n=size * len(cuts), shard=size)
    tasks, numbers = [], []
    known: dict[tuple[int, int], int] = {}
    for k, cut in enumerate(cuts):
        known.setdefault((cut.place, cut.pair), len(known))
        numbers.append(known[cut.place, cut.pair])
        tasks.append(_task(path, k * size, places[cut.place], cut, lattice, data.min_valid))
    results = compute(*tasks)
    pair, row, column = (np.full(size * len(cuts), -1, np.int64) for _ in range(3))
    kept = np.zeros(size * len(cuts), np.bool_)
    missing = np.zeros((len(known), 3))
    for k, (cut, (is_kept, counts)) in enumerate(zip(cuts, results)):
        part = slice(k * size, k * size + len(cut.windows))
        pair[part], kept[part] = numbers[k], is_kept
        row[part], column[part] = np.array(cut.windows).T
        missing[numbers[k]] += counts
    fractions = (missing[:, :2] / missing[:, 2:]).max(axis=1)
    kept &= (fractions <= data.max_cloud)[pair] & (pair >= 0)
    if not kept.any():
        raise FitError(
            f"no sample of {lattice.tile} x {lattice.tile} target pixels is valid enough: of the "
            f"clearest pair {fractions.min():.0%} is missing",
            cure="lower Data(min_valid=...) or raise Data(max_cloud=...)",
        )
    facts = [pair_of(places[number], at, float(fractions[k])) for (number, at), k in known.items()]
    for name, values in {"pair": pair, "row": row, "column": column, "kept": kept}.items():
        group.create_array(name, data=values)
    group.attrs[MARK] = {
        "format": FORMAT,
        "inputs": [_plain(source.described) for source in places[0].sources],
        "bands": list(places[0].bands),
        "lattice": _plain(lattice),
        "pairs": [asdict(one) for one in facts],
        "degraded": places[0].degraded,
        "data": _plain(data),
    }


def _plain(part: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(asdict(part)))
    return found


def _shapes(place: Place, lattice: Lattice) -> dict[str, tuple[int, ...]]:
    """Shape of one sample of each array."""
    bands, side = sum(len(source.bands) for source in place.sources), lattice.tile
    shapes: dict[str, tuple[int, ...]] = {}
    for source in place.sources:
        own = int(side * lattice.cells(source.gsd))
        shapes[f"input_{source.name}"] = (len(source.bands), own, own)
    return shapes | {
        "exact": (bands, side, side),
        "target": (len(place.bands), side, side),
        "histogram": (bands, N_BINS),
    }


def _create(group: Any, place: Place, lattice: Lattice, *, n: int, shard: int) -> None:
    for name, shape in _shapes(place, lattice).items():
        is_count = name == "histogram"
        group.create_array(
            name,
            shape=(n, *shape),
            chunks=(1, *shape),
            shards=(shard, *shape),
            dtype="int64" if is_count else "float32",
            fill_value=0 if is_count else np.nan,
        )


def _task(
    path: Path | Remote, start: int, place: Place, cut: Cut, lattice: Lattice, min_valid: float
) -> Any:
    """One delayed task: the images it needs are computed by the same graph."""
    from dask.delayed import delayed

    spans = [_span(cut.windows, axis, lattice.tile) for axis in (0, 1)]
    inputs = []
    for source in place.sources:
        window = [_input_span(source, lattice, spans[axis], axis) for axis in (0, 1)]
        part = [
            slice(
                max(0, (low - source.first[axis]) * source.factor + source.start[axis]),
                (high - source.first[axis]) * source.factor + source.start[axis],
            )
            for axis, (low, high) in enumerate(window)
        ]
        image = source.images.isel(pair=[cut.pair], y=part[0], x=part[1]).data
        inputs.append((image, _bare(source), (window[0], window[1])))
    at = [
        slice(max(0, low - first), max(0, high - first))
        for (low, high), first in zip(spans, place.first)
    ]
    on_target = [
        array.isel(pair=cut.pair, y=at[0], x=at[1]).data for array in (place.exact, place.target)
    ]
    corner = tuple(first + part.start for first, part in zip(place.first, at))
    return delayed(_cut, pure=False)(
        path,
        start,
        inputs,
        on_target,
        corner,
        cut.windows,
        lattice,
        min_valid,
        dask_key_name=f"cut-samples-{start}-{id(place)}",
    )


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """A source without its pixels."""

    name: str
    bands: tuple[str, ...]
    gsd: float
    phase: tuple[float, float]
    factor: int
    first: tuple[int, int]
    start: tuple[int, int]
    shape: tuple[int, int]


def _bare(source: Source) -> _Grid:
    names = (field.name for field in fields(_Grid))
    return _Grid(**{name: getattr(source, name) for name in names})


def _span(windows: Sequence[tuple[int, int]], axis: int, side: int) -> tuple[int, int]:
    """Target pixels of all windows of a task."""
    starts = [window[axis] for window in windows]
    return min(starts), max(starts) + side


def _window(grid: Any, lattice: Lattice, start: int, axis: int) -> tuple[int, int]:
    """Pixels of an input under a window, as inference places it: see `Lattice.starts`."""
    cells = lattice.cells(grid.gsd)
    zero = lattice.starts(grid.gsd, grid.phase)[axis] + lattice.buffer * cells
    first = int(zero + start * cells)
    return first, first + int(lattice.tile * cells)


def _input_span(grid: Any, lattice: Lattice, span: tuple[int, int], axis: int) -> tuple[int, int]:
    """Pixels of an input that the windows of a task show, mirrored ones included."""
    low = _window(grid, lattice, span[0], axis)[0]
    high = _window(grid, lattice, span[1] - lattice.tile, axis)[1]
    there = grid.first[axis], grid.first[axis] + grid.shape[axis]
    return reflected_span(low, high, *there)


def _cut(
    path: Path | Remote,
    start: int,
    inputs: Sequence[tuple[FloatArray, _Grid, tuple[tuple[int, int], tuple[int, int]]]],
    on_target: Sequence[FloatArray],
    corner: tuple[int, int],
    windows: Sequence[tuple[int, int]],
    lattice: Lattice,
    min_valid: float,
) -> tuple[BoolArray, AnyArray]:
    """Cut and write the samples of one task; return which count, and how much is missing."""
    images = [_own(image, grid, window) for image, grid, window in inputs]
    exact, target = (np.asarray(array, np.float32) for array in on_target)
    target = np.where(np.isfinite(exact).all(axis=0), target, np.float32(np.nan))
    kept = np.zeros(len(windows), np.bool_)
    found: list[list[AnyArray]] = []
    inner = slice(lattice.buffer, lattice.tile - lattice.buffer)
    for k, window in enumerate(windows):
        here = [_padded(array, corner, window, lattice.tile) for array in (exact, target)]
        is_valid: BoolArray = np.asarray(np.isfinite(here[1]).all(axis=0))
        if is_valid[inner, inner].mean() < min_valid:
            continue
        tiles = [
            _tile(image, grid, span, lattice, window)
            for image, (_, grid, span) in zip(images, inputs)
        ]
        if any(tile is None for tile in tiles):
            continue
        kept[k] = True
        found.append([*tiles, *here])  # type: ignore[list-item]
    if found:
        names = [*(f"input_{grid.name}" for _, grid, _ in inputs), "exact", "target"]
        stacks = {name: np.stack(values) for name, values in zip(names, zip(*found))}
        bands = [band for _, grid, _ in inputs for band in grid.bands]
        stacks["histogram"] = sampling.count(stacks["exact"], limits_of(bands), N_BINS)
        _put(path, start, kept, stacks)
    lost = [float((~np.isfinite(array).all(axis=0)).sum()) for array in (exact, on_target[1])]
    return kept, np.array([*lost, float(exact[0].size)])


def _own(
    image: FloatArray, grid: _Grid, window: tuple[tuple[int, int], tuple[int, int]]
) -> FloatArray:
    """Pixels of the input, from those that the cube holds."""
    sizes = [high - low for low, high in window]
    first = [grid.start[axis] if window[axis][0] == grid.first[axis] else 0 for axis in (0, 1)]
    own: FloatArray = sampling.own_pixels(
        np.ascontiguousarray(image, np.float32),
        grid.factor,
        bands=grid.bands,
        gsd=grid.gsd,
        first=(first[0], first[1]),
        shape=(sizes[0], sizes[1]),
    )[0]
    return own


def _tile(
    image: FloatArray,
    grid: _Grid,
    span: tuple[tuple[int, int], tuple[int, int]],
    lattice: Lattice,
    window: tuple[int, int],
) -> FloatArray | None:
    rows, columns = (_window(grid, lattice, window[axis], axis) for axis in (0, 1))
    there = [(grid.first[axis], grid.first[axis] + grid.shape[axis]) for axis in (0, 1)]
    neutral = np.zeros(len(image), np.float32)
    return sampling.cut(
        image,
        rows,
        columns,
        mean=neutral,
        scale=neutral + 1,
        first=(span[0][0], span[1][0]),
        there=(there[0], there[1]),
    )


def _padded(
    image: FloatArray, corner: tuple[int, int], window: tuple[int, int], side: int
) -> FloatArray:
    """A window of an image on the target's grid, NaN beyond its edges."""
    out = np.full((len(image), side, side), np.nan, np.float32)
    spans = []
    for start, first, size in zip(window, corner, image.shape[1:]):
        low, high = max(start, first), min(start + side, first + size)
        spans.append((low, max(low, high), start, first))
    target = tuple(slice(low - start, high - start) for low, high, start, _ in spans)
    source = tuple(slice(low - first, high - first) for low, high, _, first in spans)
    out[:, target[0], target[1]] = image[:, source[0], source[1]]
    return out


def _put(path: Path | Remote, start: int, kept: BoolArray, stacks: dict[str, AnyArray]) -> None:
    """Write a shard whole: those that do not count are its fill value, and take no space."""
    import zarr

    group: Any = zarr.open_group(as_zarr(path), mode="r+")
    for name, values in stacks.items():
        array = group[name]
        shard = np.full((array.shards[0], *values.shape[1:]), array.fill_value, values.dtype)
        shard[: kept.size][kept] = values
        array[start : start + len(shard)] = shard


def is_cut_from(store: Store, pairs: Any, data: Data) -> bool:
    """Whether a store has the samples of these pairs; no pixel is read."""
    places = read_places(pairs, data)
    lattice = make_lattice(places[0], data)
    cuts = [cut for n, place in enumerate(places) for cut in _cuts(n, place, lattice, data)]
    windows = [at for cut in cuts for at in cut.windows]
    there = np.stack([store.row, store.column], 1)[store.pair >= 0].tolist()
    facts = [pair_of(p, at, 0.0) for p in places for at in range(p.target.sizes["pair"])]
    return (
        store.lattice == lattice
        and store.bands == places[0].bands
        and store.inputs == tuple(source.described for source in places[0].sources)
        and there == list(map(list, windows))
        and store.degraded == places[0].degraded
        and [replace(pair, missing=0.0) for pair in store.pairs] == facts
    )
