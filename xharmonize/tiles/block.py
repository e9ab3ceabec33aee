"""What one block computes: tiles cut, run through the network in batches, and put together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import prod
from typing import Any

import numpy as np

from xharmonize.cube.companions import ResultFlag
from xharmonize.kernels import patches, regrid
from xharmonize.kernels.cuda import is_on_gpu
from xharmonize.models.card import Domain
from xharmonize.models.kinds.generator import Input
from xharmonize.tiles import sampling
from xharmonize.tiles.place import Cells, Part, Plan, Span, View
from xharmonize.types import AnyArray, BoolArray, FloatArray

Place = tuple[int, int, int]
"""Date, and row and column of a tile."""

Partial = tuple[FloatArray, AnyArray | None]
"""Reflectance (time, band, y, x) and flags (time, y, x) of a group's area."""


def generate(*given: Any) -> Partial:
    """Compute one group of tiles, on all dates of a block: ``generate(*images, plan, parts)``.

    Tiles are cut and put together on the CPU: windows in GPU memory are copied to the host here,
    once, and the result back.

    Parameters
    ----------
    *images : (time, band, y, x) float32 array
        The group's window of each cube, in the order of the plan's views: bands as there,
        reflectance [1], NaN where missing. Numpy or cupy.
    plan : Plan
        What all blocks share.
    parts : (Part, Part)
        What the group covers, in rows and columns.

    Returns
    -------
    Partial
        Of the group's area: reflectance [1], NaN in its core where the inputs are missing, sums
        still to be added to its neighbours' where tiles are blended; flags where wanted. On the
        device of the first of `images`.
    """
    from xharmonize.models import runtime

    *images, plan, parts = given
    host = [image.get() if is_on_gpu(image) else image for image in images]
    block = _Block.of([np.ascontiguousarray(image, np.float32) for image in host], plan, parts)
    running: deque[list[Place]] = deque()
    size = runtime.batch_size(plan.card, plan.runtime)
    batches = block.batches(size, running)
    for values in runtime.predict(plan.ref, plan.card, batches, plan.runtime):
        for place, tile in zip(running.popleft(), np.asarray(values)):
            block.add(place, tile)
    pixels, flags = block.finished()
    if host[0] is images[0]:
        return pixels, flags
    back = partial(np.asarray, like=images[0])
    return back(pixels), None if flags is None else back(flags)


@dataclass(frozen=True, kw_only=True)
class _Source:
    """One input of the network: (time, band, row, column), its first pixel, those the cube has."""

    input: Input
    domain: Domain | None
    cells: tuple[Cells, Cells]
    images: FloatArray
    first: tuple[int, int]
    there: tuple[Span, Span]
    mean: FloatArray
    scale: FloatArray

    def windows(self, place: Place) -> tuple[Span, Span]:
        """Rows and columns that a tile is given."""
        rows, columns = self.cells
        return rows.window(place[1]), columns.window(place[2])


@dataclass(frozen=True, kw_only=True)
class _Block:
    """One group of tiles while it is computed."""

    plan: Plan
    rows: Part
    columns: Part
    sources: list[_Source]
    valid: BoolArray
    """(time, y, x) of the area."""
    flags: AnyArray | None
    out: FloatArray

    @classmethod
    def of(cls, images: list[FloatArray], plan: Plan, parts: tuple[Part, Part]) -> _Block:
        group = parts[0].group, parts[1].group
        # Of each cube another window; all else that a group covers is the same.
        others = (view.part(group, flags=plan.flags) for view in plan.views[1:])
        own = [parts, *others]
        judged = [_judge(*one, plan) for one in zip(images, plan.views, own)]
        valid, flags = judged[0]
        for also_valid, more in judged[1:]:
            valid &= also_valid
            if flags is not None:
                flags |= more
        sources = {
            source.input.name: source
            for one in zip(images, plan.views, own)
            for source in _sources(*one)
        }
        return cls(
            plan=plan,
            rows=parts[0],
            columns=parts[1],
            sources=[sources[one.name] for one in plan.card.inputs],
            valid=valid,
            flags=flags,
            out=np.zeros((valid.shape[0], len(plan.card.output.bands), *valid.shape[1:]), "f4"),
        )

    def batches(self, size: int, running: deque[list[Place]]) -> Iterator[list[FloatArray]]:
        """Yield batches of tiles, one array per input; `running` gets their places."""
        places: list[Place] = []
        arrays: list[FloatArray] = []
        # No larger than what can still come: small blocks do not pay for a whole batch.
        tiles = (stop - start for start, stop in (self.rows.tiles, self.columns.tiles))
        size = min(size, len(self.valid) * prod(tiles))
        for place in self._places():
            arrays = arrays or self._arrays(size)
            if not self._cut(place, [array[len(places)] for array in arrays]):
                self._skip(place)
                continue
            places.append(place)
            if len(places) == size:
                running.append(places)
                yield arrays
                places, arrays = [], []
        if places:
            running.append(places)
            yield [array[: len(places)] for array in arrays]

    def add(self, place: Place, values: FloatArray) -> None:
        """Put the network's answer to one tile where it belongs."""
        output, lattice = self.plan.card.output, self.plan.lattice
        blend = lattice.merge == "blend"
        weight = patches.ramp(lattice.tile, lattice.buffer if blend else 0)
        target, source = self._slices(place)
        patches.add_tile(
            values[:, source[0], source[1]],
            weight[source[0]],
            weight[source[1]],
            np.array(output.scale, np.float32),
            np.array(output.mean, np.float32),
            self.out[place[0]][:, target[0], target[1]],
        )
        self._flag(place)

    def finished(self) -> Partial:
        """Reflectance and flags, with what is missing in the core set to NaN."""
        core = self._core()
        hole = ~self.valid[:, core[0], core[1]]
        if hole.any():
            where = np.broadcast_to(hole[:, None], (*self.out.shape[:2], *hole.shape[1:]))
            self.out[:, :, core[0], core[1]][where] = np.nan
        return self.out, self.flags

    def _places(self) -> Iterator[Place]:
        """Tiles that give something to a pixel that is wanted."""
        tiles = product(range(*self.rows.tiles), range(*self.columns.tiles))
        for (row, column), date in product(tiles, range(len(self.valid))):
            target, _ = self._slices((date, row, column))
            if self.valid[date][target].any():
                yield date, row, column
            else:
                self._skip((date, row, column))

    def _arrays(self, size: int) -> list[FloatArray]:
        return [
            np.empty((size, one.images.shape[1], *(cells.tile for cells in one.cells)), np.float32)
            for one in self.sources
        ]

    def _cut(self, place: Place, out: list[FloatArray]) -> bool:
        """Cut one tile of each input; False where a band is missing throughout."""
        for source, target in zip(self.sources, out):
            rows, columns = source.windows(place)
            mean, scale, first, there = source.mean, source.scale, source.first, source.there
            image = source.images[place[0]]
            tile = sampling.cut(
                image, rows, columns, mean=mean, scale=scale, first=first, there=there, out=target
            )
            if tile is None:
                return False
        return True

    def _slices(self, place: Place) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Pixels of the area that a tile gives something to, and those of the tile."""
        targets, sources = [], []
        axes = ((self.plan.rows, self.rows), (self.plan.columns, self.columns))
        for tile, (axis, part) in zip(place[1:], axes):
            kept = axis.kept(tile)
            start, stop = max(kept[0], part.area[0]), min(kept[1], part.area[1])
            stop = max(start, stop)
            first = axis.lattice.window(tile)[0]
            targets.append(slice(start - part.area[0], stop - part.area[0]))
            sources.append(slice(start - first, stop - first))
        return (targets[0], targets[1]), (sources[0], sources[1])

    def _core(self) -> tuple[slice, slice]:
        return _within(self.rows.core, self.rows.area), _within(
            self.columns.core, self.columns.area
        )

    def _skip(self, place: Place) -> None:
        """A tile that is not run: a band is missing throughout, or all it would give is masked."""
        target, _ = self._slices(place)
        self.out[place[0]][:, target[0], target[1]] = np.nan
        if self.flags is not None:
            self.flags[place[0]][target] |= np.uint8(ResultFlag.SKIPPED)
        self._flag(place)

    def _flag(self, place: Place) -> None:
        """Set the bits that all pixels of a tile share."""
        flags = self.flags
        if flags is None:
            return
        target, _ = self._slices(place)
        date, row, column = place
        if not all(
            view.rows.is_supplied(row) and view.columns.is_supplied(column)
            for view in self.plan.views
        ):
            flags[date][target] |= np.uint8(ResultFlag.PARTIAL_CONTEXT)
        if self._is_far(place):
            flags[date][target] |= np.uint8(ResultFlag.OUT_OF_DOMAIN)

    def _is_far(self, place: Place) -> bool:
        """Whether a tile's own histograms lie farther from the training data's than any there."""
        for source in self.sources:
            domain, bands = source.domain, source.input.bands
            if domain is None:
                continue
            n_bins, limits = len(domain.histograms[0]), [domain.edges] * len(bands)
            first, there = source.first, source.there
            image, windows = source.images[place[0]], source.windows(place)
            own = sampling.supplied(image, *windows, first=first, there=there)
            counts = sampling.count(own[None], limits, n_bins)[0]
            if sampling.is_far(counts, bands, limits, domain):
                return True
        return False


def _sources(images: FloatArray, view: View, parts: tuple[Part, Part]) -> list[_Source]:
    """The inputs of a cube at their own pixel sizes."""
    found = []
    for number, card in enumerate(view.inputs):
        bands = [view.bands.index(name) for name in card.bands]
        is_run = bands == list(range(bands[0], bands[0] + len(bands)))
        own = images[:, bands[0] : bands[0] + len(bands)] if is_run else images[:, bands]
        axes = (view.rows.inputs[number], view.columns.inputs[number])
        spans = [cells.covering(part.window) for cells, part in zip(axes, parts)]
        starts = [
            cells.on_cube(span)[0] - part.window[0] for cells, span, part in zip(axes, spans, parts)
        ]
        sizes = [stop - start for start, stop in spans]
        own = sampling.own_pixels(
            own,
            axes[0].factor,
            bands=card.bands,
            gsd=card.gsd,
            first=(starts[0], starts[1]),
            shape=(sizes[0], sizes[1]),
        )
        there = [
            cells.covering((0, axis.size)) for cells, axis in zip(axes, (view.rows, view.columns))
        ]
        found.append(
            _Source(
                input=card,
                domain=view.domain,
                cells=axes,
                images=own,
                first=(spans[0][0], spans[1][0]),
                there=(there[0], there[1]),
                mean=np.array(card.mean, np.float32),
                scale=np.array(card.scale, np.float32),
            )
        )
    return found


def _judge(
    images: FloatArray, view: View, parts: tuple[Part, Part], plan: Plan
) -> tuple[BoolArray, AnyArray | None]:
    """Which output pixels of the area a cube has, and the flags that a pixel has by itself."""
    under_y, under_x = (
        axis.footprint(part.judged, part.window)
        for axis, part in zip((view.rows, view.columns), parts)
    )
    area = tuple(_within(part.area, part.judged) for part in parts)
    core = tuple(_within(part.core, part.judged) for part in parts)
    place = tuple(_within(part.core, part.area) for part in parts)
    size = [part.area[1] - part.area[0] for part in parts]
    valid = np.ones((images.shape[0], *size), np.bool_)
    flags = np.zeros(valid.shape, np.uint8) if plan.flags else None
    low, high = view.limits
    for bands, least in _thresholds(view, plan.card.min_valid):
        for date, image in enumerate(images):
            share, missing, strange = regrid.judge(
                image[bands], under_y, under_x, low[bands], high[bands]
            )
            valid[date] &= share[area] >= max(least - 1e-5, 1e-5)
            if flags is not None:
                near = regrid.spread(missing, plan.lattice.buffer)
                bits = np.where(near, np.uint8(ResultFlag.NEAR_MISSING), np.uint8(0))
                bits |= np.where(strange, np.uint8(ResultFlag.OUT_OF_DOMAIN), np.uint8(0))
                flags[date][place] |= bits[core]
    return valid, flags


def _thresholds(view: View, least: float) -> list[tuple[Any, float]]:
    """Bands of a view with the valid fraction that they need; mostly all have one."""
    own = [(one, least if one.min_valid is None else one.min_valid) for one in view.inputs]
    if len({needed for _, needed in own}) == 1:
        return [(slice(None), own[0][1])]
    return [([view.bands.index(band) for band in one.bands], needed) for one, needed in own]


def _within(span: Span, outer: Span) -> slice:
    """A span counted from the start of another."""
    return slice(span[0] - outer[0], span[1] - outer[0])
