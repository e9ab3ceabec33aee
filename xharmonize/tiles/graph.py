"""The graph of a generator: a few numbers until a scheduler writes its tasks out.

Every block of the result takes a window of the cube that no blockwise map describes. The tasks are
hence listed by the layer itself, but only where they are needed: what a client sends is the plan
and the chunks, however many blocks there are.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from typing import Any, TypeAlias

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import Layer

from xharmonize.cube.blockwise import (
    Held,
    Span,
    Task,
    array_of,
    block_of,
    blocks_holding,
    cut_window,
    is_lazy,
    task,
)
from xharmonize.tiles.block import Partial, generate
from xharmonize.tiles.place import Axis, Plan
from xharmonize.types import AnyArray

Group = tuple[int, int]
"""Row and column of a group of tiles."""


def neighbours(plan: Plan, group: Group) -> list[Group]:
    """Groups whose areas a group's core takes part in: itself, and those beside it in a blend."""
    reach = 1 if plan.lattice.merge == "blend" else 0
    axes = zip((plan.rows.groups, plan.columns.groups), group)
    rows, columns = (
        [n for n in range(g - reach, g + reach + 1) if n in groups] for groups, g in axes
    )
    return list(product(rows, columns))


def merge(partials: Sequence[Partial], plan: Plan, group: Group, item: str) -> AnyArray:
    """Return a group's core from its own area and what its neighbours' areas hold of it.

    Parameters
    ----------
    partials : sequence of (reflectance, flags)
        Of the groups named by `neighbours`, in their order.
    plan : Plan
        What all blocks share.
    group : (int, int)
        Row and column of the group.
    item : {"reflectance", "flag"}
        Weighted reflectance is added, flags are joined bit by bit.

    Returns
    -------
    (time, band, y, x) float32 or (time, y, x) uint8 array
        NaN where missing.
    """
    number = 0 if item == "reflectance" else 1
    add = np.add if item == "reflectance" else np.bitwise_or
    areas: list[AnyArray] = [partial[number] for partial in partials]  # type: ignore[misc]
    if len(areas) == 1:
        return areas[0]
    own, sample = plan.part(group), areas[0]
    size = [part.core[1] - part.core[0] for part in own]
    result = np.zeros((*sample.shape[:-2], *size), sample.dtype, like=sample)
    for near, values in zip(neighbours(plan, group), areas):
        there = plan.part(near)
        target, source = [], []
        for mine, other in zip(own, there):
            start = max(mine.core[0], other.area[0])
            stop = max(start, min(mine.core[1], other.area[1]))
            target.append(slice(start - mine.core[0], stop - mine.core[0]))
            source.append(slice(start - other.area[0], stop - other.area[0]))
        view = result[..., target[0], target[1]]
        add(view, values[..., source[0], source[1]], out=view)
    return result


NAME = "harmonize-generator"


class Shared:
    """A plan that the tasks of a graph carry: written out once, and read once by each process.

    Parameters
    ----------
    plan : Plan
        What all blocks share.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._written: bytes | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self._written is None:
            self._written = pickle.dumps(self.plan, protocol=5)
        if b"__main__" in self._written:  # what a notebook defines goes along, as dask does it
            return Shared, (self.plan,)
        return _read, (self._written,)


@lru_cache(maxsize=16)
def _read(written: bytes) -> Shared:
    shared: Shared = Shared(pickle.loads(written))
    shared._written = written
    return shared


@dataclass(frozen=True, kw_only=True)
class Beside:
    """A further cube that every block is given a window of.

    Attributes
    ----------
    array : (time, band, y, x) float array
        Reflectance [1], numpy or dask.
    rows, columns : Axis
        The axes of the result, beside this cube's pixels.
    is_aligned : bool
        Whether its dates are those of the first cube, one by one: a block is given those of its own
        dates. Otherwise it is given all.
    """

    array: Any
    rows: Axis
    columns: Axis
    is_aligned: bool = False


Run: TypeAlias = Callable[..., Partial]
"""``run(*windows, plan, parts)``: what a block makes of a window of each cube; see `generate`."""


def run_plan(
    source: Any, plan: Plan, *, beside: Sequence[Beside] = (), run: Run = generate
) -> tuple[Any, Any]:
    """Run a plan over a cube, at once in numpy, lazily in dask.

    Parameters
    ----------
    source : (time, band, y, x) float array
        Reflectance [1], bands as in the card.
    plan : Plan
        Its axes are those of `source`.
    beside : sequence of Beside
        Further cubes, as the fine pairs of a fusion.
    run : callable
        What a block computes; a function of a module, since it goes along with the tasks.

    Returns
    -------
    reflectance : (time, band, y, x) float32 array
        Chunks are those of the plan's groups of tiles.
    flags : (time, y, x) uint8 array or None
        Where the plan wants them.
    """
    arrays = [source, *(one.array for one in beside)]
    axes = [(plan.rows, plan.columns), *((one.rows, one.columns) for one in beside)]
    if not any(map(is_lazy, arrays)):
        return _run_at_once(list(zip(arrays, axes)), plan, run)
    first = da.asarray(source).rechunk({1: -1})
    is_aligned = [True, *(one.is_aligned for one in beside)]
    cubes = [first, *(_rechunked(one, first) for one in beside)]
    token = tokenize([cube.name for cube in cubes], plan, axes[1:], is_aligned, run)
    name = f"{NAME}-{token}"
    blocks = Blocks(
        sources=tuple(
            _source(cube, *own, len(first.chunks[0]), aligned)
            for cube, own, aligned in zip(cubes, axes, is_aligned)
        ),
        plan=plan,
        run=run,
    )
    chunks = (first.chunks[0], plan.rows.chunks, plan.columns.chunks)
    n_bands = len(plan.card.output.bands)
    tiles = _array(TileLayer(name, blocks), chunks, n_bands, cubes, first)
    if not plan.is_partial:
        return tiles, None
    found = []
    for item, bands in (("reflectance", n_bands), ("flag", None))[: 1 + plan.flags]:
        merges = Merges(partial=name, item=item, blocks=blocks)
        layer = TileLayer(f"{NAME}-{item}-{token}", merges)
        found.append(_array(layer, chunks, bands, [tiles], first))
    return found[0], found[1] if plan.flags else None


def _rechunked(beside: Beside, first: da.Array) -> da.Array:
    """All bands in one chunk, and the dates as the first cube has them where they are the same."""
    cube = da.asarray(beside.array)
    wanted: Any = {0: first.chunks[0], 1: -1} if beside.is_aligned else {1: -1}
    found: da.Array = cube.rechunk(wanted)
    return found


def _source(cube: da.Array, rows: Axis, columns: Axis, n_times: int, is_aligned: bool) -> Source:
    """A cube with the dates of the result block by block, or with all its dates."""
    own = len(cube.chunks[0])
    times = [(t, t + 1) if is_aligned else (0, own) for t in range(n_times)]
    return Source(
        name=cube.name, times=tuple(times), chunks=cube.chunks[2:], rows=rows, columns=columns
    )


def _array(
    layer: TileLayer, chunks: Any, n_bands: int | None, before: list[da.Array], like: da.Array
) -> da.Array:
    dtype = np.uint8 if n_bands is None else np.float32
    chunks = chunks if n_bands is None else (chunks[0], (n_bands,), *chunks[1:])
    meta = np.empty((0,) * len(chunks), dtype, like=like._meta)
    return array_of(layer.name, layer, sources=before, chunks=chunks, meta=meta)


def _run_at_once(
    cubes: Sequence[tuple[AnyArray, tuple[Axis, Axis]]], plan: Plan, run: Run
) -> tuple[Any, Any]:
    results: list[Any] = []
    rows, columns = plan.rows.groups, plan.columns.groups
    parts = {
        group: run(*(_window(*cube, group, plan) for cube in cubes), plan, plan.part(group))
        for group in product(rows, columns)
    }
    for item in ("reflectance", "flag")[: 1 + plan.flags]:
        blocks = [
            [
                merge(_around(parts, group, plan), plan, group, item)
                for group in product([y], columns)
            ]
            for y in rows
        ]
        lines = [np.concatenate(line, axis=-1) for line in blocks]
        results.append(np.concatenate(lines, axis=-2))
    return results[0], results[1] if plan.flags else None


def _around(parts: Mapping[Group, Any], group: Group, plan: Plan) -> list[Any]:
    return [parts[near] for near in neighbours(plan, group)]


def _window(array: AnyArray, axes: tuple[Axis, Axis], group: Group, plan: Plan) -> AnyArray:
    y, x = (slice(*axis.part(n, flags=plan.flags).window) for axis, n in zip(axes, group))
    return array[:, :, y, x]


def _run_block(
    blocks: list[list[list[list[AnyArray]]]],
    windows: list[tuple[Span, Span]],
    shared: Shared,
    group: Group,
    run: Run,
) -> Any:
    """One task: cut the window of each cube out of its blocks [time][y][x], run the tiles."""
    cut = (
        [cut_window(of_time, *window) for of_time in of_cube]
        for of_cube, window in zip(blocks, windows)
    )
    images = (dates[0] if len(dates) == 1 else np.concatenate(dates) for dates in cut)
    plan = shared.plan
    found = run(*images, plan, plan.part(group))
    return found if plan.is_partial else found[0]


def _merge_block(partials: Sequence[Partial], shared: Shared, group: Group, item: str) -> AnyArray:
    return merge(partials, shared.plan, group, item)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A cube that blocks are cut from.

    Attributes
    ----------
    name : str
        Of its array.
    times : tuple of (int, int)
        Its chunks in time that each chunk of the result is given.
    chunks : (tuple of int, tuple of int)
        In y and x.
    rows, columns : Axis
        The axes of the result, beside this cube's pixels.
    """

    name: str
    times: tuple[Span, ...]
    chunks: tuple[tuple[int, ...], ...]
    rows: Axis
    columns: Axis

    def held(self, flags: bool) -> list[list[Held]]:
        """Per axis and group, the blocks that hold its window, and the window in them."""
        return [
            [blocks_holding(axis.part(group, flags=flags).window, sizes) for group in axis.groups]
            for axis, sizes in zip((self.rows, self.columns), self.chunks)
        ]


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Tasks that compute a group of tiles each.

    Attributes
    ----------
    sources : tuple of Source
        The cubes; the first has the dates and the pixels of the plan.
    plan : Plan
        What they have in common.
    run : callable
        What is computed of the windows.
    """

    sources: tuple[Source, ...]
    plan: Plan
    run: Run = generate

    def keys(self, name: str) -> Iterator[tuple[Any, ...]]:
        """Keys of all tasks."""
        extra = () if self.plan.is_partial else (0,)
        groups = (range(len(axis.groups)) for axis in (self.plan.rows, self.plan.columns))
        for time, *place in product(range(len(self.sources[0].times)), *groups):
            yield (name, time, *extra, *place)

    def task(self, key: tuple[Any, ...]) -> Task:
        """The task of a key."""
        time, place = key[1], key[-2:]
        axes = (self.plan.rows, self.plan.columns)
        group = tuple(axis.groups[n] for axis, n in zip(axes, place))
        blocks, windows = [], []
        for source, held in zip(self.sources, self._held):
            (rows, in_rows), (columns, in_columns) = (held[k][n] for k, n in enumerate(place))
            dates = range(*source.times[time])
            blocks.append(
                [
                    [[block_of(source.name, (t, 0, y, x)) for x in columns] for y in rows]
                    for t in dates
                ]
            )
            windows.append((in_rows, in_columns))
        return task(key, _run_block, blocks, windows, self.shared, group, self.run)

    @cached_property
    def shared(self) -> Shared:
        """The plan as tasks carry it."""
        return Shared(self.plan)

    @cached_property
    def _held(self) -> list[list[list[Held]]]:
        return [source.held(self.plan.flags) for source in self.sources]


@dataclass(frozen=True, kw_only=True)
class Merges:
    """Tasks that add up what groups of tiles give to one another's cores.

    Attributes
    ----------
    partial : str
        Name of the layer of `blocks`.
    item : {"reflectance", "flag"}
        What is merged.
    blocks : Blocks
        The tasks before.
    """

    partial: str
    item: str
    blocks: Blocks

    def keys(self, name: str) -> Iterator[tuple[Any, ...]]:
        """Keys of all tasks."""
        extra = () if self.item == "flag" else (0,)
        for _, time, *place in self.blocks.keys(self.partial):
            yield (name, time, *extra, *place)

    def task(self, key: tuple[Any, ...]) -> Task:
        """The task of a key."""
        plan, axes = self.blocks.plan, (self.blocks.plan.rows, self.blocks.plan.columns)
        group = tuple(axis.groups[n] for axis, n in zip(axes, key[-2:]))
        parts = [
            block_of(self.partial, (key[1], *(n - a.groups[0] for a, n in zip(axes, near))))
            for near in neighbours(plan, (group[0], group[1]))
        ]
        return task(key, _merge_block, parts, self.blocks.shared, group, self.item)


class TileLayer(Layer):
    """A layer of tasks that are written out where they are asked for, and never pickled.

    Parameters
    ----------
    name : str
        Of the array.
    tasks : Blocks or Merges
        What the tasks are.
    """

    def __init__(self, name: str, tasks: Blocks | Merges) -> None:
        super().__init__()
        self.name = name
        self.tasks = tasks
        self._written: dict[Any, Any] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return TileLayer, (self.name, self.tasks)

    @property
    def has_legacy_tasks(self) -> bool:
        """Tasks are of dask's present form."""
        return False

    def is_materialized(self) -> bool:
        """Whether the tasks have been written out."""
        return self._written is not None

    def get_output_keys(self) -> set[Any]:
        """Keys of all tasks."""
        return set(self.tasks.keys(self.name))

    def __getitem__(self, key: Any) -> Any:
        return self._tasks[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def _tasks(self) -> dict[Any, Any]:
        if self._written is None:
            self._written = {key: self.tasks.task(key) for key in self.tasks.keys(self.name)}
        return self._written
