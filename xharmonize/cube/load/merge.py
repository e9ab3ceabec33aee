"""Parts of a cube that were loaded apart, joined along time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import xarray as xr
from dask import array as da
from dask.base import tokenize

from xharmonize.cube.contract import (
    BAND_COORDS,
    REFLECTANCE,
    TIME_COORDS,
    Step,
    read_contract,
    write_contract,
)
from xharmonize.sensors.spec import UNKNOWN, Flag, Names
from xharmonize.types import AnyArray


def join_parts(parts: Sequence[xr.Dataset], numbers: Sequence[Sequence[int]]) -> xr.Dataset:
    """Join parts along time, lazily; steps loaded in pieces become one.

    Parameters
    ----------
    parts : sequence of Dataset
        With ``reflectance`` (time, band, y, x) and maybe ``qa`` (time, y, x), on one grid.
    numbers : sequence of sequence of int
        For each part, the place of each of its steps in the result; a number that occurs twice is
        a step in pieces (items of one pass in two UTM zones), of which each pixel is taken from
        the first piece that has all bands there, else the first that has any.
    """
    if len(parts) == 1:
        return parts[0]
    flat = [number for part in numbers for number in part]
    order = np.argsort(flat, kind="stable")
    joined = xr.concat(
        parts,
        "time",
        data_vars="minimal",
        coords="minimal",
        compat="override",
        combine_attrs="override",
        join="override",
    )
    joined = joined.isel(time=order)
    named = joined[REFLECTANCE].assign_attrs(history=_histories(parts))
    joined = joined.assign({REFLECTANCE: named})
    sizes = [len(list(group)) for _, group in groupby(sorted(flat))]
    return joined if max(sizes) == 1 else _merge_pieces(joined, sizes)


def _histories(parts: Sequence[xr.Dataset]) -> str:
    """History of each part in one line, since they differ."""
    lines = [part[REFLECTANCE].attrs.get("history", "") for part in parts]
    return "\n".join(dict.fromkeys(line.replace("\n", "; ") for line in lines))


def merge_steps(steps: Sequence[Step]) -> Step:
    """Return the contract of items that became one step: the first's, with every item named.

    Items of one step share sensor, platform, scale, offset and nodata. Item ids and tiles are
    joined by `Names`; a baseline they do not share is unknown.
    """
    first = steps[0]
    if len(steps) == 1:
        return first
    baselines = {step.processing_baseline for step in steps}
    return replace(
        first,
        item_id=str(Names.of(step.item_id for step in steps)),
        tile=str(Names.of(step.tile for step in steps)),
        processing_baseline=first.processing_baseline if len(baselines) == 1 else UNKNOWN,
    )


def _merge_pieces(cube: xr.Dataset, sizes: Sequence[int]) -> xr.Dataset:
    cube = cube.chunk({"time": tuple(sizes), "band": -1})
    values, flags = cube[REFLECTANCE].data, cube["qa"].data if "qa" in cube else None
    firsts = np.cumsum([0, *sizes[:-1]])
    steps = read_contract(cube[REFLECTANCE])
    merged = [merge_steps(steps[i : i + n]) for i, n in zip(firsts, sizes)]
    result = cube.isel(time=firsts)
    result[REFLECTANCE] = result[REFLECTANCE].copy(data=_merge(values, flags, values, sizes))
    if flags is not None:
        result["qa"] = result["qa"].copy(data=_merge(values, flags, flags, sizes))
    renewed = write_contract(result[REFLECTANCE], merged)
    return result.assign_coords({n: renewed.coords[n] for n in (*TIME_COORDS, *BAND_COORDS)})


def _merge(values: da.Array, flags: da.Array | None, what: da.Array, sizes: Sequence[int]) -> Any:
    index = "tbyx" if what.ndim == 4 else "tyx"
    others = () if flags is None else (flags, "tyx")
    return da.blockwise(
        _merge_block,
        index,
        values,
        "tbyx",
        what,
        index,
        *others,
        align_arrays=False,
        concatenate=True,
        adjust_chunks={"t": lambda _: 1},
        dtype=what.dtype,
        meta=np.empty((0,) * what.ndim, what.dtype),
        name="merge-pieces-" + tokenize(values.name, what.name, sizes),
    )


def _merge_block(values: AnyArray, what: AnyArray, flags: AnyArray | None = None) -> AnyArray:
    if len(values) == 1:
        return what
    is_valid = ~np.isnan(values)
    two = np.uint8(2)
    score = two * is_valid.all(axis=1) + two * is_valid.any(axis=1)
    if flags is not None:
        score = score + (flags & np.uint16(Flag.FILL) == 0)
    choice = score.argmax(axis=0)[None]
    if what.ndim == 4:
        choice = choice[:, None]
    taken: AnyArray = np.take_along_axis(what, choice, axis=0)
    return taken
