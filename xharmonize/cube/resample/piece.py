"""The part of a target grid that one task makes."""

from __future__ import annotations

from dataclasses import dataclass

from xharmonize.cube.blockwise import Span
from xharmonize.types import AnyArray


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One output block: which target pixels, and which source window they need.

    Attributes
    ----------
    rows, columns : (int, int)
        Target pixels.
    window : ((int, int), (int, int))
        Source rows and columns.
    lead : tuple of int
        Sizes of the block's leading dimensions.
    outside : (n,) integer array
        Flags of what lies outside the source, one per image; unused for means.
    """

    rows: Span
    columns: Span
    window: tuple[Span, Span]
    lead: tuple[int, ...]
    outside: AnyArray

    @property
    def is_outside(self) -> bool:
        """Whether no source pixel lies under it."""
        return any(start == stop for start, stop in self.window)

    @property
    def origin(self) -> tuple[int, int]:
        """Source row and column of the window's first pixel."""
        return self.window[0][0], self.window[1][0]
