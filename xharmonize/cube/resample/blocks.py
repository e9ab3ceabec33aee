"""Resampling as dask blocks: each output block takes the source window it needs, nothing else.

What a target pixel becomes is a function of its own position on the target grid, never of the
block it happens to lie in, so that results don't depend on chunks.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import accumulate, pairwise, product
from math import ceil
from typing import Any, Literal, TypeAlias

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from xharmonize.cube.resample.aligned import Aligned
from xharmonize.cube.resample.piece import Piece, Span
from xharmonize.cube.resample.projected import Projected
from xharmonize.types import AnyArray

Kind: TypeAlias = Literal["mean", "mean+fraction", "bits"]
Chunks: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]

MAX_CHUNK = 4096
"""Longest side of an output chunk [pixel]."""

Plan: TypeAlias = Aligned | Projected


def resample(
    source: AnyArray | da.Array,
    plan: Plan,
    shape: tuple[int, int],
    *,
    kind: Kind,
    chunks: Chunks,
    outside: AnyArray | None = None,
) -> AnyArray | da.Array:
    """Resample the last two dimensions of a numpy array at once, of a dask array lazily.

    Parameters
    ----------
    source : (..., y, x) array
        Floats with NaN where missing (``mean``), or integers (``bits``).
    plan : Aligned or Projected
        How the grids lie on each other.
    shape : (int, int)
        Target rows and columns.
    kind : {"mean", "mean+fraction", "bits"}
        With ``mean+fraction`` the result has a new first dimension of two.
    chunks : pair of tuples of int
        Output chunks along y and x.
    outside : (...) integer array, optional
        For ``bits``: value outside the source, for each image.
    """
    lead = source.shape[:-2]
    table = np.broadcast_to(np.asarray(0 if outside is None else outside, source.dtype), lead)
    if not isinstance(source, da.Array):
        piece = _piece(plan, (0, shape[0]), (0, shape[1]), lead, table.ravel())
        (y0, y1), (x0, x1) = piece.window
        return _resample_block([[source[..., y0:y1, x0:x1]]], piece, plan, kind)
    token = tokenize(source.name, plan, shape, kind, chunks, table)
    name = f"regrid-{kind.replace('+', '-')}-{token}"
    extra = (0,) if kind == "mean+fraction" else ()
    function = partial(_resample_block, plan=plan, kind=kind)
    graph = {
        (name, *extra, *index): (function, keys, piece)
        for index, keys, piece in _pieces(source, plan, chunks, table)
    }
    out_chunks = (*((2,),) * len(extra), *source.chunks[:-2], *chunks)
    return da.Array(
        HighLevelGraph.from_collections(name, graph, dependencies=[source]),
        name,
        chunks=out_chunks,
        meta=np.empty((0,) * len(out_chunks), source.dtype),
    )


def output_chunks(
    source: da.Array | AnyArray,
    shape: tuple[int, int],
    steps: tuple[float, float],
    *,
    within: Chunks | None = None,
) -> Chunks:
    """Chunks that cover about as much ground as the source's, at most `MAX_CHUNK` pixels a side.

    Parameters
    ----------
    shape : (int, int)
        Target rows and columns.
    steps : (float, float)
        Size of a target pixel in y and x [source pixel].
    within : pair of tuples of int, optional
        Chunks of the target that are cut into even pieces; none straddles a border of theirs.
    """
    if not isinstance(source, da.Array):
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
    source: da.Array,
    plan: Plan,
    chunks: Chunks,
    outside: AnyArray,
) -> Iterator[tuple[tuple[int, ...], list[Any], Piece]]:
    """Block number, source keys [y][x] and piece of each output block."""
    starts = [[0, *accumulate(sizes)] for sizes in source.chunks]
    places = [list(pairwise(s)) for s in ([0, *accumulate(sizes)] for sizes in chunks)]
    leads = list(product(*(range(len(sizes)) for sizes in source.chunks[:-2])))
    for (j, rows), (i, columns) in product(enumerate(places[0]), enumerate(places[1])):
        window = plan.window(rows, columns)
        blocks_y, crop_y = _blocks_of(window[0], starts[-2])
        blocks_x, crop_x = _blocks_of(window[1], starts[-1])
        for lead in leads:
            keys = [[(source.name, *lead, y, x) for x in blocks_x] for y in blocks_y]
            cut = tuple(slice(starts[d][n], starts[d][n + 1]) for d, n in enumerate(lead))
            piece = Piece(
                rows=rows,
                columns=columns,
                window=window,
                crop=(crop_y, crop_x),
                lead=outside[cut].shape,
                outside=outside[cut].ravel(),
            )
            yield (*lead, j, i), keys, piece


def _blocks_of(span: Span, starts: list[int]) -> tuple[list[int], Span]:
    """Source blocks that hold a span of pixels, and the span counted from the first of them."""
    if span[1] <= span[0]:
        return [], (0, 0)
    found = [n for n, (a, b) in enumerate(pairwise(starts)) if a < span[1] and b > span[0]]
    first = starts[found[0]]
    return found, (span[0] - first, span[1] - first)


def _piece(
    plan: Plan, rows: Span, columns: Span, lead: tuple[int, ...], outside: AnyArray
) -> Piece:
    window = plan.window(rows, columns)
    crop = tuple((0, stop - start) for start, stop in window)
    return Piece(
        rows=rows,
        columns=columns,
        window=window,
        crop=(crop[0], crop[1]),
        lead=lead,
        outside=outside,
    )


def _resample_block(blocks: list[list[AnyArray]], piece: Piece, plan: Plan, kind: Kind) -> AnyArray:
    """Resample one output block from the source blocks that hold its window."""
    if any(start == stop for start, stop in piece.window):
        return _outside(piece, kind)
    rows = [np.concatenate(row, axis=-1) if len(row) > 1 else row[0] for row in blocks]
    whole = np.concatenate(rows, axis=-2) if len(rows) > 1 else rows[0]
    (y0, y1), (x0, x1) = piece.crop
    window = whole[..., y0:y1, x0:x1]
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
