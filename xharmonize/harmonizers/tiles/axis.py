"""One axis of the lattice beside one axis of the cube, in whole pixels.

Output pixels, tiles and input pixels are numbered from the lattice's origin, to the east and to the
south; the cube's own pixels from its first one. Every number here follows from the lattice and from
where the cube lies, none from how it is cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from xharmonize.kernels.patches import reflected_span
from xharmonize.kernels.regrid import AxisMap
from xharmonize.models.lattice import Lattice
from xharmonize.types import Float64Array, IntArray

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
        lattice, core = self.lattice, self._core(group)
        tiles = self._tiles(group)
        area = core
        if lattice.merge == "blend":
            first, last = lattice.window(tiles[0])[0], lattice.window(tiles[1] - 1)[1]
            area = max(first, self.start), min(last, self.stop)
        judged = (core[0] - lattice.buffer, core[1] + lattice.buffer) if flags else area
        window = self._window(tiles, judged)
        return Part(tiles=tiles, core=core, area=area, judged=judged, window=window)

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


@lru_cache(maxsize=64)
def _footprint(first: float, step: float, n: int, size: int) -> tuple[IntArray, Float64Array]:
    """Footprints of `n` output pixels from `first` on; those of most blocks are alike."""
    found = AxisMap(first=first, step=step, n_source=size).weights(0, n, "area")
    return found.index, found.weight / step
