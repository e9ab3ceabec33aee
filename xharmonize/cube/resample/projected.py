"""Two grids of different CRSs, and the weights between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import TypeAlias

import numpy as np

from xharmonize._cache import Cache
from xharmonize.cube.resample.piece import Piece, Span
from xharmonize.errors import GridError
from xharmonize.kernels import reproject
from xharmonize.kernels.longitude import unwrapped
from xharmonize.kernels.regrid import RegridMethod
from xharmonize.types import AnyArray, Float64Array

Affine6: TypeAlias = tuple[float, float, float, float, float, float]

STRIP = 2**17
"""Target pixels whose weights are held at a time."""

RECENT_BYTES = 2**28
"""Memory of a process for weights used last [byte]."""


_recent: Cache[reproject.PixelWeights] = Cache(max_bytes=RECENT_BYTES)
"""Weights used last: all dates and bands of a place share them, and finding them takes some fifty
times as long as using them once."""


@dataclass(frozen=True, kw_only=True)
class Projected:
    """Two grids of different CRSs: the corners of each target pixel are transformed exactly.

    Edges between corners are taken as straight, which for pixels of 30 m in UTM is so within
    1e-4 m.
    """

    source_crs: str
    target_crs: str
    source: Affine6
    target: Affine6
    source_shape: tuple[int, int]
    steps: tuple[float, float]
    how: RegridMethod
    min_valid: float

    def window(self, rows: Span, columns: Span) -> tuple[Span, Span]:
        """Source rows and columns that these target pixels need, from their outline."""
        along = np.linspace(0.0, 1.0, 65)
        down = rows[0] + along * (rows[1] - rows[0])
        right = columns[0] + along * (columns[1] - columns[0])
        outline_row = np.concatenate([down, down, np.full(65, rows[0]), np.full(65, rows[1])])
        outline_column = np.concatenate(
            [np.full(65, columns[0]), np.full(65, columns[1]), right, right]
        )
        row, column = self._positions(outline_row, outline_column)
        if not np.isfinite(row).all():  # beyond the range of the projection: no outline to trust
            return (0, self.source_shape[0]), (0, self.source_shape[1])
        spans = [_padded(row, self.source_shape[0]), _padded(column, self.source_shape[1])]
        is_empty = any(start >= stop for start, stop in spans)
        return ((0, 0), (0, 0)) if is_empty else (spans[0], spans[1])

    def mean(self, block: AnyArray, piece: Piece) -> tuple[AnyArray, AnyArray]:
        """Mean and valid fraction of the piece's target pixels."""
        found = [
            reproject.project_mean(block, weights, min_valid=self.min_valid)
            for weights in self._weights(piece)
        ]
        mean, fraction = (np.concatenate(parts, axis=-2) for parts in zip(*found))
        return mean, fraction

    def bits(self, block: AnyArray, piece: Piece) -> AnyArray:
        """Flags of the piece's target pixels."""
        found = [
            reproject.project_bits(block, weights, outside=piece.outside)
            for weights in self._weights(piece)
        ]
        return np.concatenate(found, axis=-2)

    def _weights(self, piece: Piece) -> Iterator[reproject.PixelWeights]:
        """Weights of the piece's target pixels, strip by strip of rows."""
        height = max(1, STRIP // (piece.columns[1] - piece.columns[0]))
        for first in range(*piece.rows, height):
            strip = replace(piece, rows=(first, min(first + height, piece.rows[1])))
            key = (self, strip.rows, strip.columns, strip.window)
            yield _recent.get(key, partial(self._weights_of, strip), attrgetter("nbytes"))

    def _weights_of(self, piece: Piece) -> reproject.PixelWeights:
        row, column = self._corners(piece)
        return reproject.pixel_weights(row, column, window=piece.window, how=self.how)

    def _corners(self, piece: Piece) -> tuple[Float64Array, Float64Array]:
        """Corners of the target pixels, in source pixels."""
        edge_row = np.arange(piece.rows[0], piece.rows[1] + 1, dtype=np.float64)
        edge_column = np.arange(piece.columns[0], piece.columns[1] + 1, dtype=np.float64)
        row, column = self._positions(*np.meshgrid(edge_row, edge_column, indexing="ij"))
        for found, span, size in zip((row, column), piece.window, self.source_shape):
            inside = found[np.isfinite(found) & (found > 0) & (found < size)]
            if span[1] > span[0] and inside.size and not _spans(span, inside):
                raise GridError(
                    f"the transform from {self.target_crs[:40]}… folds within a block of "
                    "pixels; regrid a smaller area"
                )
        return row, column

    def _positions(
        self, row: Float64Array, column: Float64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Source pixel positions of target pixel positions; NaN beyond the projection."""
        from pyproj import Transformer

        # Made where it is used: transformers are not to be shared between threads.
        transformer = Transformer.from_crs(self.target_crs, self.source_crs, always_xy=True)
        a, _, c, _, e, f = self.target
        x, y = transformer.transform(c + a * column, f + e * row)
        a, _, c, _, e, f = self.source
        if transformer.target_crs.is_geographic:
            x = unwrapped(x, c + a * self.source_shape[1] / 2)
        found_row, found_column = (np.asarray(y) - f) / e, (np.asarray(x) - c) / a
        is_lost = ~(np.isfinite(found_row) & np.isfinite(found_column))
        found_row[is_lost] = np.nan
        found_column[is_lost] = np.nan
        return found_row, found_column


def _padded(position: Float64Array, size: int) -> Span:
    """Pixels between the extremes of `position`, a margin added, within the source."""
    low, high = float(position.min()), float(position.max())
    margin = 1.0 + 1e-3 * (high - low)
    start = max(0, int(np.floor(low - margin)))
    return start, min(size, int(np.ceil(high + margin)))


def _spans(span: Span, position: Float64Array) -> bool:
    return bool(span[0] <= position.min() and position.max() <= span[1])
