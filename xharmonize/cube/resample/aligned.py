"""Two grids of one CRS: weights separate along y and x."""

from __future__ import annotations

from dataclasses import dataclass

from xharmonize.cube.blockwise import Span
from xharmonize.cube.resample.piece import Piece
from xharmonize.kernels import regrid as kernels
from xharmonize.kernels.regrid import AxisMap, RegridMethod
from xharmonize.types import AnyArray


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """Two grids of one CRS: rows and columns are independent of each other."""

    y: AxisMap
    x: AxisMap
    how: RegridMethod
    min_valid: float

    @property
    def steps(self) -> tuple[float, float]:
        """Size of a target pixel in y and x [source pixel]."""
        return abs(self.y.step), abs(self.x.step)

    def window(self, rows: Span, columns: Span) -> tuple[Span, Span]:
        """Source rows and columns that these target pixels need."""
        return self.y.window(*rows, self.how), self.x.window(*columns, self.how)

    def mean(self, block: AnyArray, piece: Piece) -> tuple[AnyArray, AnyArray]:
        """Mean and valid fraction of the piece's target pixels."""
        y, x = self._weights(piece)
        return kernels.regrid_mean(block, y, x, min_valid=self.min_valid)

    def bits(self, block: AnyArray, piece: Piece) -> AnyArray:
        """Flags of the piece's target pixels."""
        y, x = self._weights(piece)
        return kernels.regrid_bits(block, y, x, outside=piece.outside)

    def _weights(self, piece: Piece) -> tuple[kernels.AxisWeights, kernels.AxisWeights]:
        y = self.y.weights(*piece.rows, self.how).shifted(-piece.window[0][0])
        x = self.x.weights(*piece.columns, self.how).shifted(-piece.window[1][0])
        return y, x
