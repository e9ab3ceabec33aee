"""The graph of a generator: a layer that is a few numbers until a scheduler writes its tasks out.

Every block of the result takes a window of the cube that no blockwise map describes. The tasks are
hence listed by the layer itself, but only where they are needed: what a client sends is the plan
and the chunks, however many blocks there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import Layer

from xharmonize.cube.blockwise import (
    Held,
    Task,
    array_of,
    block_of,
    blocks_holding,
    is_lazy,
    task,
    window_task,
)
from xharmonize.harmonizers.tiles.axis import Part
from xharmonize.harmonizers.tiles.block import generate
from xharmonize.harmonizers.tiles.merge import Group, merge, neighbours
from xharmonize.harmonizers.tiles.plan import Plan
from xharmonize.types import AnyArray

NAME = "harmonize-generator"


def run_plan(source: Any, plan: Plan) -> tuple[Any, Any]:
    """Run a plan over a cube, at once in numpy, lazily in dask.

    Parameters
    ----------
    source : (time, band, y, x) float array
        Reflectance [1], bands as in the card.
    plan : Plan
        Its axes are those of `source`.

    Returns
    -------
    reflectance : (time, band, y, x) float32 array
        Chunks are those of the plan's groups of tiles.
    flags : (time, y, x) uint8 array or None
        Where the plan wants them.
    """
    if not is_lazy(source):
        return _run_at_once(source, plan)
    source = source.rechunk({1: -1})
    token = tokenize(source.name, plan)
    name = f"{NAME}-{token}"
    blocks = Blocks(
        source=source.name, n_times=len(source.chunks[0]), chunks=source.chunks[2:], plan=plan
    )
    chunks = (source.chunks[0], plan.rows.chunks, plan.columns.chunks)
    n_bands = len(plan.card.output.bands)
    tiles = _array(TileLayer(name, blocks), chunks, n_bands, source, source)
    if not plan.is_partial:
        return tiles, None
    found = []
    for item, bands in (("reflectance", n_bands), ("flag", None))[: 1 + plan.flags]:
        merges = Merges(partial=name, item=item, blocks=blocks)
        layer = TileLayer(f"{NAME}-{item}-{token}", merges)
        found.append(_array(layer, chunks, bands, tiles, source))
    return found[0], found[1] if plan.flags else None


def _array(
    layer: TileLayer, chunks: Any, n_bands: int | None, before: da.Array, source: da.Array
) -> da.Array:
    dtype = np.uint8 if n_bands is None else np.float32
    chunks = chunks if n_bands is None else (chunks[0], (n_bands,), *chunks[1:])
    meta = np.empty((0,) * len(chunks), dtype, like=source._meta)
    return array_of(layer.name, layer, sources=[before], chunks=chunks, meta=meta)


def _run_at_once(source: AnyArray, plan: Plan) -> tuple[Any, Any]:
    results: list[Any] = []
    rows, columns = plan.rows.groups, plan.columns.groups
    parts = {
        group: generate(_window(source, *parts), plan, parts)
        for group in product(rows, columns)
        for parts in (plan.part(group),)
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


def _window(source: AnyArray, rows: Part, columns: Part) -> AnyArray:
    return source[:, :, slice(*rows.window), slice(*columns.window)]


def _generate_block(window: AnyArray, plan: Plan, group: Group) -> Any:
    """One task: run the tiles of a window."""
    found = generate(window, plan, plan.part(group))
    return found if plan.is_partial else found[0]


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Tasks that compute a group of tiles each.

    Attributes
    ----------
    source : str
        Name of the cube's array.
    n_times : int
        Chunks in time.
    chunks : (tuple of int, tuple of int)
        Of the cube in y and x.
    plan : Plan
        What they have in common.
    """

    source: str
    n_times: int
    chunks: tuple[tuple[int, ...], ...]
    plan: Plan

    def keys(self, name: str) -> Iterator[tuple[Any, ...]]:
        """Keys of all tasks."""
        extra = () if self.plan.is_partial else (0,)
        groups = (range(len(axis.groups)) for axis in (self.plan.rows, self.plan.columns))
        for time, *place in product(range(self.n_times), *groups):
            yield (name, time, *extra, *place)

    def task(self, key: tuple[Any, ...]) -> Task:
        """The task of a key."""
        time, place = key[1], key[-2:]
        axes = (self.plan.rows, self.plan.columns)
        held = [self._held[number][n] for number, n in enumerate(place)]
        group = tuple(axis.groups[n] for axis, n in zip(axes, place))
        return window_task(
            key, _generate_block, [self.source], (time, 0), held[0], held[1], self.plan, group
        )

    @cached_property
    def _held(self) -> list[list[Held]]:
        """Per axis and group, the source blocks that hold its window."""
        axes = (self.plan.rows, self.plan.columns)
        return [
            [
                blocks_holding(axis.part(group, flags=self.plan.flags).window, sizes)
                for group in axis.groups
            ]
            for axis, sizes in zip(axes, self.chunks)
        ]


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
        return task(key, merge, parts, plan, group, self.item)


class TileLayer(Layer):  # type: ignore[misc]
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
