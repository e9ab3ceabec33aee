"""Sums over matched pairs, and what they must suffice for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.errors import FitError
from xharmonize.kernels import regression
from xharmonize.types import AnyArray, BoolArray, Float64Array

MIN_SAMPLES_PER_COEFFICIENT = 15


def require_samples(n: Float64Array, bands: Sequence[str], n_min: int) -> None:
    """Raise `FitError` naming the bands with fewer than `n_min` samples, if any."""
    few = [f"{band} {int(count)}" for band, count in zip(bands, n) if count < n_min]
    if few:
        raise FitError(
            f"too few samples where both sides are valid ({', '.join(few)}",
            cure=f"at least {n_min} are "
            "needed): use more dates, a longer tolerance, or pass n_min=",
        )


def sum_pairs(
    block: Any,
    source: xr.DataArray,
    target: xr.DataArray,
    shape: tuple[int, ...],
    *tables: Float64Array,
    dtype: type = np.float64,
) -> AnyArray:
    """Moments of each pair (pair, ...), summed over the chunks in space, in `dtype`.

    Parameters
    ----------
    block : callable
        ``block(source, target, *tables)`` returns (pair, 1, 1, ...) of a block.
    shape : tuple of int
        Of the moments of a pair.
    *tables : (pair, band) array
        Numbers of the solution so far.
    """
    new = dict(zip("kl", shape))
    sums = map_blocks(
        block,
        f"psyx,pbyx{',pb' * len(tables)}->pyx{''.join(new)}",
        source.data,
        target.data,
        *tables,
        new=new,
        sizes={"y": 1, "x": 1},
        dtype=dtype,
        name="fit-linear",
    )
    return np.asarray(sums.sum(axis=(1, 2)))


def require_spread(names: Sequence[str], varies: BoolArray) -> None:
    """Raise `FitError` naming the source bands that do not vary, if any."""
    flat = [name for name, is_varied in zip(names, varies) if not is_varied]
    if flat:
        raise FitError(
            f"the source does not vary in band {', '.join(flat)}: no line", cure="add pairs"
        )


def line_block(source: AnyArray, target: AnyArray) -> Float64Array:
    """Band moments (pair, 1, 1, band, 6) of a block."""
    return _block(regression.band_moments, source, target)


def joint_block(source: AnyArray, target: AnyArray) -> Float64Array:
    """Joint moments (pair, 1, 1, 1 + source_band + band, 1 + source_band + band) of a block."""
    return _block(regression.joint_moments, source, target)


def _block(kernel: Any, source: AnyArray, target: AnyArray) -> Float64Array:
    sums = [kernel(x.reshape(len(x), -1), y.reshape(len(y), -1)) for x, y in zip(source, target)]
    return np.stack(sums)[:, None, None]


def weighted(per_pair: Float64Array, n: Float64Array, weight: str) -> Float64Array:
    """Sum the moments of the pairs, with equal weight of each pixel or each pair."""
    if weight == "pixel":
        return np.asarray(per_pair.sum(axis=0))
    if weight != "pair":
        raise FitError(
            "is unknown", cure="choose 'pixel' or 'pair'", argument="weight", value=weight
        )
    share = np.where(n > 0, 1 / np.maximum(n, 1), 0.0)
    extra = per_pair.ndim - share.ndim
    return np.asarray((per_pair * share.reshape(share.shape + (1,) * extra)).sum(axis=0))
