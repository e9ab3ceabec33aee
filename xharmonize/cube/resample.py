"""Blockwise resampling: each output block reads only the source window it needs.

What a target pixel becomes is a function of its own position on the target grid, never of the
block it happens to lie in, so that results don't depend on chunks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise, product
from math import ceil, sqrt
from operator import attrgetter
from typing import Any, Literal, TypeAlias

import dask.array as da
import numpy as np
from dask.base import tokenize

from xharmonize._cache import Cache
from xharmonize.cube.blockwise import Span, array_of, blocks_holding, is_lazy, task, window_task
from xharmonize.errors import GridError
from xharmonize.kernels import regrid as kernels
from xharmonize.kernels import reproject
from xharmonize.kernels.longitude import unwrapped
from xharmonize.kernels.regrid import AxisMap, RegridMethod
from xharmonize.types import AnyArray, Float64Array, IntArray


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One output block: its target pixels, and the source window they need.

    Attributes
    ----------
    rows, columns : (int, int)
        Target pixels.
    window : ((int, int), (int, int))
        Source rows and columns.
    lead : tuple of int
        Sizes of the block's leading dimensions.
    outside : (n,) integer array
        Flags of area outside the source, one per image; unused for means.
    offsets : (n, 2) float64 array, optional
        How far the content of each image lies too far down and right [source pixel].
    """

    rows: Span
    columns: Span
    window: tuple[Span, Span]
    lead: tuple[int, ...]
    outside: AnyArray
    offsets: Float64Array | None = None

    def part(self, images: IntArray) -> Piece:
        """The piece for some of its images."""
        offsets = None if self.offsets is None else self.offsets[images]
        outside = self.outside[images]
        return replace(self, lead=(len(images),), outside=outside, offsets=offsets)

    @property
    def offset(self) -> tuple[float, float]:
        """The offset, down and right [source pixel], that all images have."""
        return (0.0, 0.0) if self.offsets is None else tuple(self.offsets[0].tolist())

    @property
    def is_outside(self) -> bool:
        """Whether it overlaps no source pixel."""
        return any(start == stop for start, stop in self.window)

    @property
    def origin(self) -> tuple[int, int]:
        """Source row and column of the window's first pixel."""
        return self.window[0][0], self.window[1][0]


Extremes: TypeAlias = tuple[tuple[float, float], tuple[float, float]]
"""Least and largest offset of images, down and right [source pixel]."""

STILL: Extremes = ((0.0, 0.0), (0.0, 0.0))


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """Two grids in the same CRS, where rows and columns are independent."""

    y: AxisMap
    x: AxisMap
    how: RegridMethod
    min_valid: float

    @property
    def steps(self) -> tuple[float, float]:
        """Size of a target pixel in y and x [source pixel]."""
        return abs(self.y.step), abs(self.x.step)

    def window(self, rows: Span, columns: Span, offsets: Extremes = STILL) -> tuple[Span, Span]:
        """Source rows and columns that these target pixels need."""
        y = self.y.window(*rows, self.how, offsets=offsets[0])
        return y, self.x.window(*columns, self.how, offsets=offsets[1])

    def mean(self, block: AnyArray, piece: Piece) -> tuple[AnyArray, AnyArray]:
        """Mean and valid fraction of the piece's target pixels."""
        y, x = self._weights(piece)
        return kernels.regrid_mean(block, y, x, min_valid=self.min_valid)

    def bits(self, block: AnyArray, piece: Piece) -> AnyArray:
        """Flags of the piece's target pixels."""
        y, x = replace(self, y=self.y.sharp, x=self.x.sharp)._weights(piece)
        return kernels.regrid_bits(block, y, x, outside=piece.outside)

    def _weights(self, piece: Piece) -> tuple[kernels.AxisWeights, kernels.AxisWeights]:
        (top, left), (down, right) = piece.origin, piece.offset
        y = self.y.moved(down).weights(*piece.rows, self.how).shifted(-top)
        x = self.x.moved(right).weights(*piece.columns, self.how).shifted(-left)
        return y, x


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

    Edges between corners are treated as straight lines; for 30 m pixels in UTM, the error is below
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
    sigma: tuple[float, float] = (0.0, 0.0)

    def window(self, rows: Span, columns: Span, offsets: Extremes = STILL) -> tuple[Span, Span]:
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
        spans = [
            _padded(np.add.outer(ends, position), size, margin=sqrt(3) * sigma)
            for position, size, sigma, ends in zip(
                (row, column), self.source_shape, self.sigma, offsets
            )
        ]
        is_empty = any(start >= stop for start, stop in spans)
        return ((0, 0), (0, 0)) if is_empty else (spans[0], spans[1])

    def mean(self, block: AnyArray, piece: Piece) -> tuple[AnyArray, AnyArray]:
        """Mean and valid fraction of the piece's target pixels."""
        if any(self.sigma):
            return self._blurred_mean(block, piece)
        found = [
            reproject.project_mean(block, weights, min_valid=self.min_valid)
            for weights in self._weights(piece)
        ]
        mean, fraction = (np.concatenate(parts, axis=-2) for parts in zip(*found))
        return mean, fraction

    def _blurred_mean(self, block: AnyArray, piece: Piece) -> tuple[AnyArray, AnyArray]:
        """Mean with the Gaussian as a sum over 3 × 3 displacements (Gauss–Hermite nodes).

        Exact for images that are polynomials of up to the fifth degree.
        """
        sharp = replace(self, sigma=(0.0, 0.0), min_valid=0.0)
        total = share = np.zeros(())
        for (down, a), (right, b) in product(*(_nodes(sigma) for sigma in self.sigma)):
            offset = np.add(piece.offset, (down, right))
            mean, fraction = sharp.mean(block, replace(piece, offsets=offset[None]))
            weight = a * b * fraction.astype(np.float64)
            total = total + np.where(weight > 0, mean, 0) * weight
            share = share + weight
        is_enough = (share > 0) & (share >= self.min_valid - 1e-6)
        mean = np.where(is_enough, total / np.where(is_enough, share, 1), np.nan)
        return mean.astype(block.dtype), np.asarray(share, np.float32)

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
            key = (self, strip.rows, strip.columns, strip.window, strip.offset)
            yield _recent.get(key, partial(self._weights_of, strip), attrgetter("nbytes"))

    def _weights_of(self, piece: Piece) -> reproject.PixelWeights:
        row, column = self._corners(piece)
        return reproject.pixel_weights(row, column, window=piece.window, how=self.how)

    def _corners(self, piece: Piece) -> tuple[Float64Array, Float64Array]:
        """Corners of the target pixels, in source pixels."""
        edge_row = np.arange(piece.rows[0], piece.rows[1] + 1, dtype=np.float64)
        edge_column = np.arange(piece.columns[0], piece.columns[1] + 1, dtype=np.float64)
        row, column = self._positions(*np.meshgrid(edge_row, edge_column, indexing="ij"))
        row, column = row + piece.offset[0], column + piece.offset[1]
        for found, span, size in zip((row, column), piece.window, self.source_shape):
            inside = found[np.isfinite(found) & (found > 0) & (found < size)]
            if span[1] > span[0] and inside.size and not _spans(span, inside):
                raise GridError(
                    f"the transform from {self.target_crs[:40]}… folds within a block of pixels",
                    cure="regrid a smaller area",
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


def _nodes(sigma: float) -> list[tuple[float, float]]:
    """Displacements and weights that stand for a Gaussian."""
    far = sqrt(3) * sigma
    return [(-far, 1 / 6), (0.0, 2 / 3), (far, 1 / 6)] if sigma else [(0.0, 1.0)]


def _padded(position: Float64Array, size: int, *, margin: float = 0.0) -> Span:
    """Pixels between the extremes of `position`, a margin added, within the source."""
    low, high = float(position.min()), float(position.max())
    margin += 1.0 + 1e-3 * (high - low)
    start = max(0, int(np.floor(low - margin)))
    return start, min(size, int(np.ceil(high + margin)))


def _spans(span: Span, position: Float64Array) -> bool:
    return bool(span[0] <= position.min() and position.max() <= span[1])


Kind: TypeAlias = Literal["mean", "mean+fraction", "bits"]
Chunks: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]

MAX_CHUNK = 4096
"""Longest side of an output chunk [pixel]."""

Plan: TypeAlias = Aligned | Projected


def resample(
    source: Any,
    plan: Plan,
    shape: tuple[int, int],
    *,
    kind: Kind,
    chunks: Chunks,
    outside: AnyArray | None = None,
    offsets: Float64Array | None = None,
) -> Any:
    """Resample the last two dimensions of a NumPy array immediately, of a Dask array lazily.

    Parameters
    ----------
    source : (..., y, x) array
        Floats with NaN where missing (``mean``), or integers (``bits``).
    plan : Aligned or Projected
        How to map one grid to the other.
    shape : (int, int)
        Target rows and columns.
    kind : {"mean", "mean+fraction", "bits"}
        With ``mean+fraction`` the result has a new first dimension of two.
    chunks : pair of tuples of int
        Output chunks along y and x.
    outside : (...) integer array, optional
        For ``bits``: value outside the source, for each image.
    offsets : (..., 2) float64 array, optional
        How far the content of each image lies too far down and right [source pixel]; one that
        broadcasts to the leading dimensions of `source`, and two.
    """
    value = np.asarray(0 if outside is None else outside, source.dtype)
    tables = _Tables(
        outside=np.broadcast_to(value, source.shape[:-2]),
        offsets=None if offsets is None else np.broadcast_to(offsets, (*source.shape[:-2], 2)),
    )
    resampling = partial(_resample_block, plan=plan, kind=kind)
    if not is_lazy(source):
        rows, columns = (0, shape[0]), (0, shape[1])
        window = plan.window(rows, columns, tables.extremes)
        piece = tables.piece(rows, columns, window, ())
        if piece.is_outside:
            return _outside(piece, kind)
        (y0, y1), (x0, x1) = piece.window
        return resampling(source[..., y0:y1, x0:x1], piece)
    token = tokenize(source.name, plan, shape, kind, chunks, tables)
    name = f"regrid-{kind.replace('+', '-')}-{token}"
    extra = (0,) if kind == "mean+fraction" else ()
    tasks = {}
    for (*lead, j, i), piece in _pieces(source, plan, chunks, tables):
        key = (name, *extra, *lead, j, i)
        if piece.is_outside:
            tasks[key] = task(key, _outside, piece, kind)
            continue
        held = map(blocks_holding, piece.window, source.chunks[-2:])
        tasks[key] = window_task(key, resampling, [source.name], lead, *held, piece)
    out_chunks = (*((2,),) * len(extra), *source.chunks[:-2], *chunks)
    meta = np.empty((0,) * len(out_chunks), source.dtype)
    return array_of(name, tasks, sources=[source], chunks=out_chunks, meta=meta)


def output_chunks(
    source: Any,
    shape: tuple[int, int],
    steps: tuple[float, float],
    *,
    within: Chunks | None = None,
) -> Chunks:
    """Choose chunks that cover about the same area as the source's, up to `MAX_CHUNK` per side.

    Parameters
    ----------
    shape : (int, int)
        Target rows and columns.
    steps : (float, float)
        Size of a target pixel in y and x [source pixel].
    within : pair of tuples of int, optional
        Target chunks to split evenly; no output chunk crosses their borders.
    """
    if not is_lazy(source):
        return (shape[0],), (shape[1],)
    sizes = [max(chunk) / abs(step) for chunk, step in zip(source.chunks[-2:], steps)]
    limits = [min(max(round(size), 1), MAX_CHUNK) for size in sizes]
    if within is not None:
        rows, columns = (_cut(sizes, limit) for sizes, limit in zip(within, limits))
    else:
        rows, columns = da.core.normalize_chunks(tuple(limits), shape)
    return rows, columns


def _cut(chunks: tuple[int, ...], limit: int) -> tuple[int, ...]:
    """Cut chunks into even pieces of about `limit` pixels."""
    pieces: list[int] = []
    for size in chunks:
        n = max(round(size / limit), ceil(size / MAX_CHUNK), 1)
        pieces += [size * (k + 1) // n - size * k // n for k in range(n)]
    return tuple(pieces)


def _pieces(
    source: da.Array, plan: Plan, chunks: Chunks, tables: _Tables
) -> Iterator[tuple[tuple[int, ...], Piece]]:
    """Number and piece of each output block."""
    leads, places = (
        list(product(*(enumerate(pairwise([0, *accumulate(sizes)])) for sizes in axes)))
        for axes in (source.chunks[:-2], chunks)
    )
    for (j, rows), (i, columns) in places:
        # Once for all dates and bands: it may be projected.
        window = plan.window(rows, columns, tables.extremes)
        for lead in leads:
            part = tuple(slice(*span) for _, span in lead)
            yield (*(n for n, _ in lead), j, i), tables.piece(rows, columns, window, part)


@dataclass(frozen=True, kw_only=True)
class _Tables:
    """What differs from image to image, along the leading dimensions."""

    outside: AnyArray
    offsets: Float64Array | None

    def piece(
        self, rows: Span, columns: Span, window: tuple[Span, Span], part: tuple[slice, ...]
    ) -> Piece:
        """An output block of the images in `part`."""
        outside = self.outside[part]
        offsets = None if self.offsets is None else self.offsets[part].reshape(-1, 2)
        return Piece(
            rows=rows,
            columns=columns,
            window=window,
            lead=outside.shape,
            outside=outside.ravel(),
            offsets=offsets,
        )

    @property
    def extremes(self) -> Extremes:
        """Least and largest offset down, and right."""
        if self.offsets is None or not self.offsets.size:
            return STILL
        flat = self.offsets.reshape(-1, 2)
        (top, left), (bottom, right) = flat.min(axis=0).tolist(), flat.max(axis=0).tolist()
        return (top, bottom), (left, right)


def _resample_block(window: AnyArray, piece: Piece, plan: Plan, kind: Kind) -> AnyArray:
    """Resample one output block from its window of the source, each image with its offset."""
    if piece.offsets is None or (piece.offsets == piece.offsets[:1]).all():
        return _resample_images(window, piece, plan, kind)
    images = window.reshape(-1, *window.shape[-2:])
    unique, which = np.unique(piece.offsets, axis=0, return_inverse=True)
    chosen = [np.flatnonzero(which.ravel() == n) for n in range(len(unique))]
    found = [
        _resample_images(images[one], piece.part(one), plan, kind) for one in chosen
    ]  # ([fraction], image, y, x)
    result = np.concatenate(found, axis=-3)[..., np.argsort(np.concatenate(chosen)), :, :]
    return result.reshape(*result.shape[:-3], *piece.lead, *result.shape[-2:])


def _resample_images(window: AnyArray, piece: Piece, plan: Plan, kind: Kind) -> AnyArray:
    """Resample images that have one offset."""
    if kind == "bits":
        return plan.bits(window, piece)
    mean, fraction = plan.mean(window, piece)
    if kind == "mean":
        return mean
    return np.stack([mean, fraction.astype(mean.dtype)])


def _outside(piece: Piece, kind: Kind) -> AnyArray:
    """An output block that no source pixel lies under."""
    shape = (*piece.lead, piece.rows[1] - piece.rows[0], piece.columns[1] - piece.columns[0])
    if kind == "bits":
        return np.broadcast_to(piece.outside.reshape(*piece.lead, 1, 1), shape).copy()
    missing = np.full(shape, np.nan, piece.outside.dtype)
    return missing if kind == "mean" else np.stack([missing, np.zeros_like(missing)])
