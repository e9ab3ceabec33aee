"""The small convolution that follows the tables of a UNet-LUT."""

from __future__ import annotations

from functools import partial
from typing import Any

import dask.array as da
import numpy as np

from xharmonize.cube.companions import ResultFlag
from xharmonize.kernels.cuda import lut_kernels
from xharmonize.models.kinds import LutCard
from xharmonize.models.refs import ModelRef, Runtime
from xharmonize.types import AnyArray, FloatArray

HALO = 2
"""Pixels around a block: one for the convolution, one more to fill what is missing in it."""


def refine(
    data: Any, marks: Any, ref: ModelRef, card: LutCard, runtime: Runtime
) -> tuple[Any, Any]:
    """Run the convolution on mapped reflectance (time, band, y, x), if there is one.

    A missing neighbour is replaced by the mean of the valid pixels among the eight around it, and
    so is what lies beyond the cube; missing pixels stay missing. Pixels on the cube's edge are
    flagged ``partial_context``.
    """
    if not card.has_refinement:
        return data, marks
    block = partial(_refine_block, ref=ref, card=card, runtime=runtime)
    if isinstance(data, da.Array):
        data = data.rechunk({1: -1})
        padded = da.overlap.overlap(
            data, {2: HALO, 3: HALO}, {2: np.nan, 3: np.nan}, allow_rechunk=True
        )
        refined = da.map_blocks(
            block,
            padded,
            chunks=tuple(
                tuple(size - 2 * HALO * (axis > 1) for size in sizes)
                for axis, sizes in enumerate(padded.chunks)
            ),
            dtype=np.float32,
            meta=np.empty((0,) * 4, np.float32, like=padded._meta),
            name=None,
            token="harmonize-refine",
        )
    else:
        edge = (HALO, HALO)
        refined = block(np.pad(data, ((0, 0), (0, 0), edge, edge), constant_values=np.nan))
    return refined, None if marks is None else _mark_edge(marks)


def _refine_block(
    padded: AnyArray, *, ref: ModelRef, card: LutCard, runtime: Runtime
) -> FloatArray:
    from xharmonize.models.runtime import predict

    inner = (..., slice(HALO, -HALO), slice(HALO, -HALO))
    is_missing = np.isnan(padded[inner])
    scale, mean = (
        np.array(part, np.float32, like=padded)[:, None, None]
        for part in (card.output.scale, card.output.mean)
    )
    image = (lut_kernels(padded).fill_from_neighbours(padded) - mean) / scale
    near = image[..., HALO - 1 : 1 - HALO, HALO - 1 : 1 - HALO].copy()
    refined = np.empty(is_missing.shape, np.float32, like=padded)
    dates = (([near[t : t + 1]]) for t in range(near.shape[0]))
    for t, output in enumerate(predict(ref, card, dates, runtime, call=LutCard.refine)):
        refined[t] = output[0][..., 1:-1, 1:-1] * scale + mean
    refined[is_missing] = np.nan
    return refined


def _mark_edge(marks: Any) -> Any:
    """Flags (time, y, x) with the outermost pixels of the cube in partial context."""
    is_edge = np.zeros(marks.shape[1:], bool)
    is_edge[[0, -1]] = is_edge[:, [0, -1]] = True
    bit = (is_edge * np.uint8(ResultFlag.PARTIAL_CONTEXT)).astype(np.uint8)
    if isinstance(marks, da.Array):
        return marks | da.from_array(bit, marks.chunks[1:])
    return marks | bit
