"""Where a cube lies on a model's lattice, along each axis, and the plan that follows.

Output pixels, tiles and input pixels are numbered from the lattice's origin, to the east and to the
south; the cube's own pixels from its first one. Every number here follows from the lattice and from
where the cube lies, none from how it is cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from math import isclose

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from xharmonize.cube.contract import REQUESTED_BOUNDS
from xharmonize.cube.geobox import (
    TOLERANCE,
    describe_grid,
    geobox_of,
    is_same_crs,
    read_crs,
    snap,
    utm_zone,
)
from xharmonize.errors import GridError, ModelError
from xharmonize.kernels.patches import reflected_span
from xharmonize.kernels.regrid import AxisMap
from xharmonize.models.card import Domain
from xharmonize.models.kinds.generator import CUBE, GeneratorCard, Input
from xharmonize.models.lattice import PROJECTED, Lattice
from xharmonize.models.refs import ModelRef, Runtime
from xharmonize.tiles import sampling
from xharmonize.types import Float64Array, FloatArray, IntArray

Span = tuple[int, int]
"""First number, and the one after the last."""


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Pixels of one input along one axis.

    Attributes
    ----------
    factor : int
        Cube pixels a pixel of the input is held over.
    offset : int
        Cube pixel at which the input's pixel 0 starts.
    first : int
        Pixel of the input at which the window of tile 0 starts.
    stride, tile : int
        Pixels from one tile to the next, and of a tile.
    """

    factor: int
    offset: int
    first: int
    stride: int
    tile: int

    def window(self, number: int) -> Span:
        """Pixels that tile `number` is given."""
        start = self.first + number * self.stride
        return start, start + self.tile

    def on_cube(self, span: Span) -> Span:
        """Cube pixels of a span of the input."""
        return self.offset + span[0] * self.factor, self.offset + span[1] * self.factor

    def covering(self, span: Span) -> Span:
        """Pixels of the input that share any of a span of cube pixels."""
        return (span[0] - self.offset) // self.factor, -((self.offset - span[1]) // self.factor)


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one group of tiles covers along one axis.

    Attributes
    ----------
    group : int
        Number of the group.
    tiles : (int, int)
        Numbers of the tiles that are run.
    core : (int, int)
        Output pixels that are this group's.
    area : (int, int)
        Output pixels that its tiles give something to: with blending, margins too.
    judged : (int, int)
        Output pixels whose inputs are looked at.
    window : (int, int)
        Cube pixels that all of it needs.
    """

    group: int
    tiles: Span
    core: Span
    area: Span
    judged: Span
    window: Span


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis of a cube and of the result on the lattice.

    Attributes
    ----------
    lattice : Lattice
        Size of tiles and how they are merged.
    start, stop : int
        Output pixels of the result.
    size : int
        Pixels of the cube.
    first, step : Fraction
        Where output pixel 0 starts, and how long one is [cube pixel].
    inputs : tuple of Cells
        The inputs of the network.
    per_group : int
        Tiles that one block computes. The result does not depend on it.
    """

    lattice: Lattice
    start: int
    stop: int
    size: int
    first: Fraction
    step: Fraction
    inputs: tuple[Cells, ...]
    per_group: int

    @property
    def groups(self) -> range:
        """Numbers of the groups of tiles, those of `chunks`.

        Group 0 starts with the first tile of the result, not at a place of its own: tiles are
        absolute, groups are only how they are dealt out, and full ones make full batches.
        """
        last = (self.stop - 1) // self.lattice.stride
        return range((last - self._anchor) // self.per_group + 1)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Output pixels of each group."""
        return tuple(stop - start for start, stop in map(self._core, self.groups))

    def part(self, group: int, *, flags: bool) -> Part:
        """What a group covers; with `flags`, pixels around it are looked at as well."""
        return _part(self, group, flags)

    def _part(self, group: int, flags: bool) -> Part:
        lattice, core = self.lattice, self._core(group)
        tiles = self._tiles(group)
        area = core
        if lattice.merge == "blend":
            first, last = lattice.window(tiles[0])[0], lattice.window(tiles[1] - 1)[1]
            area = max(first, self.start), min(last, self.stop)
        judged = (core[0] - lattice.buffer, core[1] + lattice.buffer) if flags else area
        window = self._window(tiles, judged)
        return Part(group=group, tiles=tiles, core=core, area=area, judged=judged, window=window)

    def kept(self, tile: int) -> Span:
        """Output pixels that a tile gives something to."""
        if self.lattice.merge == "blend":
            return self.lattice.window(tile)
        return tile * self.lattice.stride, (tile + 1) * self.lattice.stride

    def is_supplied(self, tile: int) -> bool:
        """Whether the cube holds all that a tile is given."""
        spans = [cells.on_cube(cells.window(tile)) for cells in self.inputs]
        return all(start >= 0 and stop <= self.size for start, stop in spans)

    def footprint(self, judged: Span, window: Span) -> tuple[IntArray, Float64Array]:
        """First pixel of a window under each output pixel, and the shares of it and the next."""
        first = float(self.first + self.step * judged[0] - window[0])
        return _footprint(first, float(self.step), judged[1] - judged[0], window[1] - window[0])

    def _core(self, group: int) -> Span:
        first = (self._anchor + group * self.per_group) * self.lattice.stride
        last = first + self.per_group * self.lattice.stride
        return max(first, self.start), min(last, self.stop)

    @property
    def _anchor(self) -> int:
        """Number of the first tile whose core is in the result."""
        return self.start // self.lattice.stride

    def _tiles(self, group: int) -> Span:
        """Tiles of a group; the first and the last take those that only reach in from outside."""
        wanted = self.lattice.tiles(self.start, self.stop)
        first, last = self.groups[0], self.groups[-1]
        return (
            wanted.start if group == first else self._anchor + group * self.per_group,
            wanted.stop if group == last else self._anchor + (group + 1) * self.per_group,
        )

    def _window(self, tiles: Span, judged: Span) -> Span:
        """Cube pixels under some tiles, mirrored at the cube's edges, and under output pixels."""
        begin, end = (self.first + self.step * number for number in judged)
        spans = [(int(begin // 1), -int(-end // 1))]
        for cells in self.inputs:
            there = cells.covering((0, self.size))
            needed = cells.window(tiles[0])[0], cells.window(tiles[1] - 1)[1]
            spans.append(cells.on_cube(reflected_span(*needed, *there)))
        return (
            max(min(start for start, _ in spans), 0),
            min(max(stop for _, stop in spans), self.size),
        )


@lru_cache(maxsize=1024)
def _part(axis: Axis, group: int, flags: bool) -> Part:
    """What a group covers along an axis: all blocks of a row, on all dates, ask for the same."""
    return axis._part(group, flags)


@lru_cache(maxsize=64)
def _footprint(first: float, step: float, n: int, size: int) -> tuple[IntArray, Float64Array]:
    """Footprints of `n` output pixels from `first` on; those of most blocks are alike."""
    found = AxisMap(first=first, step=step, n_source=size).weights(0, n, "area")
    return found.index, found.weight / step


@dataclass(frozen=True, kw_only=True)
class View:
    """What a network looks at in one cube.

    Attributes
    ----------
    role : str
        Which of the model's sources the cube is.
    inputs : tuple of Input
        Those that are read from it, in the order of its axes.
    rows, columns : Axis
        The axes of the result, beside this cube's pixels.
    domain : Domain or None
        Training domain, where flags are wanted and there is one.
    """

    role: str
    inputs: tuple[Input, ...]
    rows: Axis
    columns: Axis
    domain: Domain | None

    @cached_property
    def bands(self) -> tuple[str, ...]:
        """Bands that windows of the cube have."""
        return tuple(dict.fromkeys(name for one in self.inputs for name in one.bands))

    @cached_property
    def limits(self) -> tuple[FloatArray, FloatArray]:
        """Range of the training data per band [1]; infinite where nothing is known."""
        nowhere = -np.inf, np.inf
        low, high = sampling.limits_of(self.domain, self.bands, unknown=nowhere)
        return low.astype(np.float32), high.astype(np.float32)

    def part(self, group: tuple[int, int], *, flags: bool) -> tuple[Part, Part]:
        """What a group of tiles covers, in rows and columns, and which pixels of the cube."""
        rows = self.rows.part(group[0], flags=flags)
        return rows, self.columns.part(group[1], flags=flags)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a block has to know besides its pixels and its place.

    Attributes
    ----------
    ref : ModelRef
        Handle on the network.
    card : GeneratorCard
        What it takes and gives, without what is only told to people.
    runtime : Runtime
        How the network is run.
    views : tuple of View
        What it looks at in each cube, in the order in which windows are given.
    flags : bool
        Whether flags are wanted.
    """

    ref: ModelRef
    card: GeneratorCard
    runtime: Runtime
    views: tuple[View, ...]
    flags: bool

    @property
    def rows(self) -> Axis:
        """Where tiles lie from north to south, beside the pixels of the first cube."""
        return self.views[0].rows

    @property
    def columns(self) -> Axis:
        """Where tiles lie from west to east, beside the pixels of the first cube."""
        return self.views[0].columns

    @property
    def lattice(self) -> Lattice:
        """Where the model's tiles lie."""
        return self.rows.lattice

    @property
    def is_partial(self) -> bool:
        """Whether blocks give partial sums, or flags beside reflectance, that are merged after."""
        return self.flags or self.lattice.merge == "blend"

    def part(self, group: tuple[int, int]) -> tuple[Part, Part]:
        """What a group of tiles covers, in rows and columns, beside the first cube's pixels."""
        return self.views[0].part(group, flags=self.flags)


def require_on_lattice(box: GeoBox, card: GeneratorCard, role: str = CUBE) -> None:
    """Raise `GridError` unless a cube has the pixels that a model was trained on.

    Parameters
    ----------
    box : GeoBox
        North up.
    card : GeneratorCard
    role : str
        Which of its sources the cube is.
    """
    lattice, source = card.lattice, card.finest_of(role)
    side = source.gsd
    what = "the cube" if role == CUBE else f"source {role!r}"
    needs = f"model {card.name!r} needs pixels of {side:g} m with edges at {source.phase[0]:g}, "
    needs += f"{source.phase[1]:g}; {what} has {describe_grid(box)}"
    if lattice.crs != PROJECTED and not is_same_crs(box.crs, read_crs(lattice.crs)):
        raise GridError(
            f"model {card.name!r} was made for {lattice.crs}",
            cure=f"{what} has {describe_grid(box)}; {_cure(card, role, lattice.crs)}",
        )
    if not box.crs.projected or box.crs.units[0] not in ("metre", "meter", "m"):
        raise GridError(f"{needs}", cure=f"{_cure(card, role, utm_zone(box))}")
    if not card.inputs_of(role):  # it says which dates and where, and no pixel of it is looked at
        return
    a, e = box.affine.a, box.affine.e
    if not (isclose(a, side, rel_tol=1e-6) and isclose(-e, side, rel_tol=1e-6)):
        raise GridError(f"{needs}", cure=f"{_cure(card, role)}")
    off = [(box.affine.c - source.phase[0]) / side, (box.affine.f - source.phase[1]) / side]
    if any(abs(number - round(number)) > TOLERANCE for number in off):
        raise GridError(f"{needs}", cure=f"{_cure(card, role)}")


def make_plan(
    box: GeoBox,
    bounds: Sequence[float] | None,
    card: GeneratorCard,
    ref: ModelRef,
    runtime: Runtime,
    *,
    flags: bool,
    chunk: tuple[int, int] | None,
    beside: Mapping[str, GeoBox] | None = None,
) -> tuple[Plan, GeoBox]:
    """Return the plan of a cube, and the grid of its result.

    Parameters
    ----------
    box : GeoBox
        Grid of the cube, north up, as `require_on_lattice` wants it.
    bounds : (left, bottom, right, top), optional
        Box asked for, where the cube holds a margin around it.
    chunk : (int, int), optional
        Cube pixels a side that a block of the result is to cover; all where there is none.
    beside : mapping of str to GeoBox, optional
        Grids of the model's other sources, likewise.
    """
    lattice = card.lattice
    target = snap(_wanted(box, bounds), lattice.resolution, box.crs, phase=lattice.phase)
    starts = (
        round((lattice.phase[1] - target.affine.f) / lattice.resolution),
        round((target.affine.c - lattice.phase[0]) / lattice.resolution),
    )
    spans = [(start, start + int(n)) for start, n in zip(starts, target.shape)]
    sizes = [None if chunk is None else n * abs(box.affine.a) for n in chunk or (0, 0)]
    per_group = [_per_group(lattice, *both) for both in zip(spans, sizes)]
    boxes = {CUBE: box, **(beside or {})}
    views = tuple(
        View(
            role=role,
            inputs=card.inputs_of(role),
            rows=_axis(0, boxes[role], card, role, spans[0], per_group[0]),
            columns=_axis(1, boxes[role], card, role, spans[1], per_group[1]),
            domain=card.domain_of(role) if flags else None,
        )
        for role in card.read_sources
    )
    return Plan(ref=ref, card=card.slim(), runtime=runtime, views=views, flags=flags), target


def _per_group(lattice: Lattice, span: Span, size: float | None) -> int:
    """Tiles that a block computes on an axis, for blocks of about this size [m]."""
    if size is None:
        return -(-(span[1] - span[0]) // lattice.stride) + 1
    return max(1, round(size / lattice.resolution / lattice.stride))


def _axis(
    number: int, box: GeoBox, card: GeneratorCard, role: str, span: Span, per_group: int
) -> Axis:
    lattice, source = card.lattice, card.finest_of(role)
    side = source.gsd
    # The cube's first pixel, counted from the phase of its input, to the south or to the east.
    edge = (source.phase[1] - box.affine.f, box.affine.c - source.phase[0])[number]
    origin = round(edge / side)
    return Axis(
        lattice=lattice,
        start=span[0],
        stop=span[1],
        size=int(box.shape[number]),
        first=lattice.shift(side, source.phase)[number] - origin,
        step=lattice.cells(side),
        inputs=tuple(_cells(one, source, lattice, number, origin) for one in card.inputs_of(role)),
        per_group=per_group,
    )


def _cells(one: Input, fine: Input, lattice: Lattice, number: int, origin: int) -> Cells:
    """Pixels of an input beside the cube's, which are those of the finest input."""
    ratio = Fraction(one.gsd).limit_denominator(10**6) / Fraction(fine.gsd).limit_denominator(10**6)
    shift = (fine.phase[1] - one.phase[1], one.phase[0] - fine.phase[0])[number] / fine.gsd
    if ratio.denominator != 1 or abs(shift - round(shift)) > TOLERANCE:
        raise ModelError(
            f"pixels of input {one.name!r} ({one.gsd:g} m, edges at {one.phase}) hold no whole "
            f"number of those of {fine.name!r} ({fine.gsd:g} m, edges at {fine.phase})"
        )
    cells = lattice.cells(one.gsd)
    return Cells(
        factor=int(ratio),
        offset=round(shift) - origin,
        first=lattice.starts(one.gsd, one.phase)[number],
        stride=int(lattice.stride * cells),
        tile=int(lattice.tile * cells),
    )


def _wanted(box: GeoBox, bounds: Sequence[float] | None) -> tuple[float, float, float, float]:
    """Bounds of the result: the cube's, within what was asked for."""
    own = (*box.boundingbox,)
    left, bottom, right, top = (float(value) for value in own)
    if bounds is None:
        return left, bottom, right, top
    found = (
        max(left, bounds[0]),
        max(bottom, bounds[1]),
        min(right, bounds[2]),
        min(top, bounds[3]),
    )
    if not (found[2] > found[0] and found[3] > found[1]):
        raise GridError(
            f"the cube ({describe_grid(box)}) does not meet the box it was opened for, "
            f"{tuple(bounds)}",
            cure=f"drop that from cube.attrs[{REQUESTED_BOUNDS!r}] where it was cut since",
        )
    return found


def _cure(card: GeneratorCard, role: str, crs: str | None = None) -> str:
    """How a cube comes onto the grid; bands of coarser pixels by themselves, as they are held."""
    fine, inputs = card.finest_of(role), card.inputs_of(role) or card.inputs[:1]
    coarse = [source for source in inputs if source.gsd != fine.gsd]
    is_named = any(source.phase != (0.0, 0.0) for source in inputs)
    origin = "; snap is that of xharmonize.cube.geobox" if is_named else ""
    if not coarse:
        return f"call cube.{_regrid(fine, crs)} first{origin}"
    held = "".join(
        f"; held{source.gsd:g} = cube.sel(band={list(source.bands)}).{_regrid(source, crs)}"
        ".harmonize.regrid(like=fine, method='nearest')"
        for source in coarse
    )
    names = ", ".join(f"held{source.gsd:g}" for source in coarse)
    equal = [band for source in inputs if source.gsd == fine.gsd for band in source.bands]
    return (
        f"give xr.concat([fine, {names}], 'band'), bands of each pixel size put there by "
        f"themselves: fine = cube.sel(band={equal}).{_regrid(fine, crs)}{held}{origin}"
    )


def _regrid(source: Input, crs: str | None) -> str:
    """Call that puts a cube on the grid of an input."""
    if source.phase == (0.0, 0.0):
        where = "" if crs is None else f"crs={crs!r}, "
        return f"harmonize.regrid({where}resolution={source.gsd:g})"
    of = "crs" if crs is None else repr(crs)
    return f"harmonize.regrid(like=snap(bounds, {source.gsd:g}, {of}, phase={source.phase}))"


def north_up(array: xr.DataArray) -> tuple[xr.DataArray, bool]:
    """Return the cube with rows from north to south, and whether it was turned round."""
    if geobox_of(array).affine.e < 0:
        return array, False
    return array.isel(y=slice(None, None, -1)), True
