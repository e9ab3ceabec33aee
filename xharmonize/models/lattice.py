"""The absolute lattice of tiles on which a network runs.

The receptive field of a deep network is larger than any practical overlap, so its context must
not depend on chunks or memory: it runs on tiles of fixed size at fixed positions in the CRS.
Positions are whole output pixels from the lattice's origin, columns to the east and rows to the
*south*, so that coordinates are never rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor
from typing import Annotated, Literal, TypeAlias

from xharmonize.errors import ModelError
from xharmonize.models.card import PLAIN, Matching, Part, Within

Merge: TypeAlias = Literal["core", "blend"]
"""What becomes of the margins of tiles: dropped, or blended with weights that sum to one."""

MAX_SIDE = 2**14
"""Pixels a side of the largest tile."""

_SNAP = 1e-6  # of a pixel, by which a box may miss an edge

PROJECTED = "projected"
"""Any projected CRS in metres: the same lattice in every UTM zone."""


@dataclass(frozen=True, kw_only=True)
class Lattice(Part):
    """Positions of tiles, in output pixels.

    Tile (i, j) keeps columns ``[i * stride, (i + 1) * stride)`` and reads `buffer` more on each
    side. Neighbours thus overlap by twice the buffer: with ``merge="core"`` each contributes its
    own half, with ``"blend"`` both are weighted by ramps that sum to one.

    Attributes
    ----------
    resolution : float
        Side of an output pixel [m].
    phase : (float, float)
        Where tile (0, 0) begins, and so edges of output pixels lie, in x and y [m], below the side
        of a tile; (0, 0) is the grid of HLS, (15, 15) that of most Landsat scenes. It may exceed
        `resolution` where inputs are coarser than the output: their pixels begin with the tile.
    tile : int
        Output pixels per side of a tile, including buffers.
    buffer : int
        Output pixels on each side that overlap with neighbours.
    merge : {"core", "blend"}
        How to combine neighbours.
    crs : str
        ``"projected"``, or the only CRS the model supports (``"EPSG:32631"``).
    """

    resolution: Annotated[float, Within(0.01, 1e5)]
    tile: Annotated[int, Within(1, MAX_SIDE)]
    buffer: Annotated[int, Within(0, MAX_SIDE)]
    phase: tuple[Annotated[float, Within(-1e6, 1e6)], Annotated[float, Within(-1e6, 1e6)]] = (
        0.0,
        0.0,
    )
    merge: Merge = "core"
    crs: Annotated[str, Matching(PLAIN, 10_000)] = PROJECTED

    def check(self) -> None:
        """Refuse an invalid lattice."""
        if not 2 * self.buffer < self.tile:
            raise ModelError(
                f"a tile of {self.tile} pixels has no core with buffer {self.buffer}",
                cure="make the buffer smaller than half the tile",
            )
        if any(not 0 <= edge < self.tile * self.resolution for edge in self.phase):
            raise ModelError(
                f"lattice phase {self.phase} lies outside a tile",
                cure=f"give two in [0, {self.tile * self.resolution:g})",
            )
        if self.merge == "blend" and 4 * self.buffer > self.tile:
            raise ModelError(
                f"tiles of {self.tile} pixels with buffer {self.buffer} overlap more than their "
                "next neighbours",
                cure="blending needs a buffer of a quarter of the tile or less",
            )

    @property
    def stride(self) -> int:
        """Output pixels from one tile to the next: side of a core."""
        return self.tile - 2 * self.buffer

    def tiles(self, start: int, stop: int) -> range:
        """Numbers of the tiles that contribute to output pixels ``[start, stop)`` of one axis."""
        reach = self.buffer if self.merge == "blend" else 0
        return range((start - reach) // self.stride, (stop - 1 + reach) // self.stride + 1)

    def window(self, number: int) -> tuple[int, int]:
        """Output pixels ``[start, stop)`` that tile `number` of one axis reads."""
        start = number * self.stride - self.buffer
        return start, start + self.tile

    def shift(self, gsd: float, phase: tuple[float, float]) -> tuple[Fraction, Fraction]:
        """Where output pixel (0, 0) starts on the grid of an input, in rows and columns of it.

        Parameters
        ----------
        gsd : float
            Side of a pixel of the input [m].
        phase : (float, float)
            Where edges of its pixels lie in x and y, modulo `gsd` [m]. Rows and columns are counted
            from there, to the south and to the east.
        """
        side = _exact(gsd)
        south = (_exact(phase[1]) - _exact(self.phase[1])) / side
        east = (_exact(self.phase[0]) - _exact(phase[0])) / side
        return south, east

    def starts(self, gsd: float, phase: tuple[float, float]) -> tuple[int, int]:
        """Row and column of an input at which the window of tile (0, 0) starts.

        Where edges of output pixels are no edges of the input's (Landsat's 15 mod 30 m on pixels of
        10 m), it is the input pixel that the tile's edge lies in. The stride is a whole number of
        input pixels, so all tiles see the same shift.
        """
        before = self.buffer * self.cells(gsd)
        south, east = self.shift(gsd, phase)
        return floor(south - before), floor(east - before)

    @property
    def pixel(self) -> None:
        """Side of a cube's pixels [m]: any."""

    @property
    def reach(self) -> float:
        """How far at most `around` extends a box to each side [m]."""
        return (self.tile + 1) * self.resolution

    def around(
        self,
        bounds: Sequence[float],
        inputs: Sequence[tuple[float, tuple[float, float]]] = (),
    ) -> tuple[float, float, float, float]:
        """Bounds of everything read by the tiles that contribute to `bounds`.

        Parameters
        ----------
        bounds : (left, bottom, right, top)
            In the CRS [m].
        inputs : sequence of (gsd, phase), optional
            Pixel sizes and phases of the inputs [m]; by default those of the output.

        Returns
        -------
        (left, bottom, right, top)
            Edges lie on pixel edges of every input [m].
        """
        left, bottom, right, top = bounds
        west, south_edge = self.phase
        columns = self._tiles_over(left - west, right - west)
        rows = self._tiles_over(south_edge - top, south_edge - bottom)
        boxes = []
        for gsd, phase in inputs or [(self.resolution, self.phase)]:
            ratio, (row, column) = self.cells(gsd), self.starts(gsd, phase)
            side, n = int(self.stride * ratio), int(self.tile * ratio)
            x = [column + columns[0] * side, column + columns[-1] * side + n]
            y = [row + rows[0] * side, row + rows[-1] * side + n]
            boxes.append(
                (
                    phase[0] + x[0] * gsd,
                    phase[1] - y[1] * gsd,
                    phase[0] + x[1] * gsd,
                    phase[1] - y[0] * gsd,
                )
            )
        lefts, bottoms, rights, tops = zip(*boxes)
        return min(lefts), min(bottoms), max(rights), max(tops)

    def _tiles_over(self, low: float, high: float) -> range:
        """Tiles that give something to the output pixels of an interval [m from the origin]."""
        start, stop = (value / self.resolution for value in (low, high))
        return self.tiles(floor(start + _SNAP), ceil(stop - _SNAP))

    def cells(self, gsd: float) -> Fraction:
        """Pixels of an input of `gsd` [m] per output pixel: 3 for 10 m, 3/2 for 20 m at 30 m.

        Raises
        ------
        ModelError
            If stride, buffer or tile is not a whole number of pixels of the input.
        """
        return _cells(self, gsd)


@lru_cache(maxsize=64)
def _cells(lattice: Lattice, gsd: float) -> Fraction:
    ratio = _ratio(lattice.resolution, gsd)
    for name, size in (
        ("stride", lattice.stride),
        ("buffer", lattice.buffer),
        ("tile", lattice.tile),
    ):
        if (size * ratio).denominator != 1:
            raise ModelError(
                f"lattice {name} of {size} pixels of {lattice.resolution:g} m is no whole number "
                f"of pixels of {gsd:g} m"
            )
    return ratio


@lru_cache(maxsize=64)
def _ratio(resolution: float, gsd: float) -> Fraction:
    return _exact(resolution) / _exact(gsd)


def _exact(metres: float) -> Fraction:
    """A length as the fraction that was meant: 16 m, or a third of 50 m."""
    return Fraction(metres).limit_denominator(10**6)
