"""Several looks on one day, made one."""

from __future__ import annotations

from functools import reduce
from operator import add, or_
from typing import Literal

import numpy as np
import xarray as xr

from xharmonize.cube.contract import TIME_COORDS
from xharmonize.cube.days import solar_days
from xharmonize.types import AnyArray


def merge_days(series: xr.Dataset, name: str, *, how: Literal["target", "mean"]) -> xr.Dataset:
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


def _merge(
    series: xr.Dataset, looks: list[int], name: str, how: Literal["target", "mean"]
) -> xr.Dataset:
    """One date from several, those of higher priority first."""
    group = series.isel(time=looks)
    layers = {str(n): group[n].reset_coords(drop=True).drop_vars("time") for n in group.data_vars}
    combined = _mean(layers, name) if how == "mean" else _first_valid(layers, name)
    result = group.isel(time=[0])
    for key, layer in combined.items():
        result[key] = (layer.dims, layer.data, layers[key].attrs)
    joined = {n: ("time", [_joined(group[n].values)]) for n in TIME_COORDS}
    return result.assign_coords(joined)


def _first_valid(layers: dict[str, xr.DataArray], name: str) -> dict[str, xr.DataArray]:
    """Each value from the first look where it is valid, its companions from the same look."""
    valid = layers[name].notnull()
    n_looks = valid.sizes["time"]
    result = {}
    for key, layer in layers.items():
        is_there = valid.any("band") if "band" not in layer.dims and "band" in valid.dims else valid
        have = is_there.isel(time=slice(0, 1))
        found = layer.isel(time=slice(0, 1))
        for i in range(1, n_looks):
            look = slice(i, i + 1)
            takes = is_there.isel(time=look) & ~have
            other = layer.isel(time=look)
            found = other.where(takes, found)
            have = have | takes
        result[key] = found.astype(layer.dtype)
    return result


def _mean(layers: dict[str, xr.DataArray], name: str) -> dict[str, xr.DataArray]:
    """Mean of valid values; their flags OR-ed, their errors, taken as independent, propagated.

    The error of a mean is not known where that of one of its values is not.
    """
    result = {}
    valid = layers[name].notnull()
    for key, layer in layers.items():
        looks = [layer.isel(time=slice(i, i + 1)) for i in range(layer.sizes["time"])]
        if not np.issubdtype(layer.dtype, np.floating):
            result[key] = _flags_of_mean(layer, valid)
            continue
        if key == "uncertainty":
            result[key] = _error_of_mean(layer, valid)
            continue
        values = [look.astype("float64") for look in looks]
        n_valid = reduce(add, [value.notnull().astype("float64") for value in values])
        n_valid = n_valid.where(n_valid > 0, np.nan)
        mean = reduce(add, [value.fillna(0.0) for value in values]) / n_valid
        result[key] = mean.astype(layer.dtype)
    return result


def _flags_of_mean(flags: xr.DataArray, valid: xr.DataArray) -> xr.DataArray:
    """OR over the looks that gave the value; over all of them where none did."""
    spread = "band" in valid.dims and "band" not in flags.dims
    gave = valid.any("band") if spread else valid
    looks = [slice(i, i + 1) for i in range(flags.sizes["time"])]
    of_valid = [flags.isel(time=look).where(gave.isel(time=look), 0) for look in looks]
    chosen = reduce(or_, [look.astype(flags.dtype) for look in of_valid])
    every = reduce(or_, [flags.isel(time=look) for look in looks])
    return chosen.where(gave.any("time"), every).transpose(*flags.dims).astype(flags.dtype)


def _error_of_mean(error: xr.DataArray, valid: xr.DataArray) -> xr.DataArray:
    """Standard deviation of the mean of the valid values, their errors independent."""
    looks = [slice(i, i + 1) for i in range(error.sizes["time"])]
    squares = [
        (error.isel(time=look).astype("float64") ** 2).where(valid.isel(time=look), 0.0)
        for look in looks
    ]
    n_valid = reduce(add, [valid.isel(time=look).astype("float64") for look in looks])
    result = reduce(add, squares) ** 0.5 / n_valid.where(n_valid > 0, np.nan)
    return result.transpose(*error.dims).astype(error.dtype)


def _joined(values: AnyArray) -> str:
    return "+".join(dict.fromkeys(str(value) for value in values))
