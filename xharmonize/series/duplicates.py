"""Several looks on one day, made one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from xharmonize.cube.companions import COMPANIONS, validity_of
from xharmonize.cube.contract import TIME_COORDS
from xharmonize.cube.days import solar_days
from xharmonize.kernels import looks as kernels
from xharmonize.sensors import Names
from xharmonize.types import AnyArray

Kernel: TypeAlias = Callable[..., AnyArray]
MergeRule: TypeAlias = Literal["target", "mean", "lowest_uncertainty"]


def merge_days(series: xr.Dataset, name: str, *, how: MergeRule) -> xr.Dataset:
    """Merge the looks of each solar day; see `xharmonize.densify`.

    Parameters
    ----------
    series : Dataset
        With ``origin`` and a coordinate ``rank`` (0 for the target cube) along time.
    name : str
        Its quantity.
    """
    days = solar_days(series)
    first_by_rank = np.lexsort([series["time"].values, series["rank"].values])
    groups: dict[int, list[int]] = {}
    for i in first_by_rank:
        groups.setdefault(int(days[i]), []).append(int(i))
    single = [looks[0] for looks in groups.values() if len(looks) == 1]
    merged = [_merge(series, looks, name, how) for looks in groups.values() if len(looks) > 1]
    if not merged:
        return series
    return xr.concat(
        [series.isel(time=single), *merged],
        dim="time",
        data_vars="minimal",
        coords="minimal",
        compat="override",
        join="override",
        combine_attrs="override",
    )


def _merge(series: xr.Dataset, looks: list[int], name: str, how: MergeRule) -> xr.Dataset:
    """One date from several, those of higher priority first."""
    group = series.isel(time=looks)
    layers = {str(n): group[n].reset_coords(drop=True).drop_vars("time") for n in group.data_vars}
    error = layers.get("uncertainty")
    result = group.isel(time=[0])
    for key, layer in layers.items():
        kernel = _kernel(key, layer, layers[name], how)
        extra = [error] if kernel is kernels.least_uncertain and error is not None else []
        valid = validity_of(layers[name], layer)
        result[key] = (layer.dims, _combine(kernel, valid, layer, extra), layer.attrs)
    joined = {n: ("time", [str(Names.of(group[n].values))]) for n in TIME_COORDS}
    return result.assign_coords(joined)


def _kernel(name: str, layer: xr.DataArray, values: xr.DataArray, how: MergeRule) -> Kernel:
    """What makes one observation of several."""
    if how == "target":
        return kernels.first_valid
    if how == "lowest_uncertainty" and set(layer.dims) == set(values.dims):
        return kernels.least_uncertain
    return COMPANIONS[name].over_observations if name in COMPANIONS else kernels.mean_valid


def _combine(
    kernel: Kernel, valid: xr.DataArray, layer: xr.DataArray, extra: list[xr.DataArray]
) -> AnyArray:
    """Apply a kernel over the observations."""
    arrays = [valid.data, layer.data, *(other.data for other in extra)]
    if not any(isinstance(array, da.Array) for array in arrays):
        return kernel(*map(np.asarray, arrays))
    values = da.asarray(layer.data).rechunk({0: -1})
    aligned = [da.asarray(array).rechunk(values.chunks) for array in arrays]
    lazy: AnyArray = da.map_blocks(
        kernel,
        *aligned,
        chunks=((1,), *values.chunks[1:]),
        dtype=layer.dtype,
        meta=np.empty((0,) * layer.ndim, layer.dtype),
        name=f"densify-looks-{tokenize(kernel, *(array.name for array in aligned))}",
    )
    return lazy
