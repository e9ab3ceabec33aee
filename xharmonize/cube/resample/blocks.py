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

from xharmonize.cube.blockwise import Span, array_of, blocks_holding, is_lazy, task, window_task
from xharmonize.cube.resample.aligned import Aligned
from xharmonize.cube.resample.piece import Piece
from xharmonize.cube.resample.projected import Projected
from xharmonize.types import AnyArray

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
) -> Any:
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
    value = np.asarray(0 if outside is None else outside, source.dtype)
    table = np.broadcast_to(value, source.shape[:-2])
    resampling = partial(_resample_block, plan=plan, kind=kind)
    if not is_lazy(source):
        rows, columns = (0, shape[0]), (0, shape[1])
        piece = _piece(rows, columns, plan.window(rows, columns), table)
        if piece.is_outside:
            return _outside(piece, kind)
        (y0, y1), (x0, x1) = piece.window
        return resampling(source[..., y0:y1, x0:x1], piece)
    token = tokenize(source.name, plan, shape, kind, chunks, table)
    name = f"regrid-{kind.replace('+', '-')}-{token}"
    extra = (0,) if kind == "mean+fraction" else ()
    tasks = {}
    for (*lead, j, i), piece in _pieces(source, plan, chunks, table):
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
    source: da.Array, plan: Plan, chunks: Chunks, outside: AnyArray
) -> Iterator[tuple[tuple[int, ...], Piece]]:
    """Number and piece of each output block."""
    leads, places = (
        list(product(*(enumerate(pairwise([0, *accumulate(sizes)])) for sizes in axes)))
        for axes in (source.chunks[:-2], chunks)
    )
    for (j, rows), (i, columns) in places:
        window = plan.window(rows, columns)  # once for all dates and bands: it may be projected
        for lead in leads:
            table = outside[tuple(slice(*span) for _, span in lead)]
            yield (*(n for n, _ in lead), j, i), _piece(rows, columns, window, table)


def _piece(rows: Span, columns: Span, window: tuple[Span, Span], outside: AnyArray) -> Piece:
    return Piece(
        rows=rows, columns=columns, window=window, lead=outside.shape, outside=outside.ravel()
    )


def _resample_block(window: AnyArray, piece: Piece, plan: Plan, kind: Kind) -> AnyArray:
    """Resample one output block from its window of the source."""
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
