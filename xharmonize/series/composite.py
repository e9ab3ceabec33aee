"""Composites: one date per period, or per day, from all its observations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias, TypeVar, cast

import dask.array as da
import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.companions import (
    COMPANIONS,
    MergeKernel,
    blank_of,
    companions_of,
    validity_of,
)
from xharmonize.cube.contract import TIME_COORDS, with_history
from xharmonize.cube.dates import solar_days
from xharmonize.cube.door import at_door
from xharmonize.cube.indices import INDICES, bands_of
from xharmonize.errors import BandError, OptionError
from xharmonize.kernels import observations as kernels
from xharmonize.kernels.reflectance import RatioTerms, ratio_index
from xharmonize.sensors import Names
from xharmonize.series import axis
from xharmonize.types import AnyArray, Duration, FloatArray, IntArray

Kernel: TypeAlias = Callable[..., AnyArray]
MergeRule: TypeAlias = Literal["target", "mean", "lowest_uncertainty"]


def merge_days(series: xr.Dataset, name: str, *, method: MergeRule) -> xr.Dataset:
    """Merge the observations of each solar day; see `xharmonize.densify`.

    Parameters
    ----------
    series : Dataset
        Has ``origin`` and a coordinate ``rank`` (0 for the target cube) along time.
    name : str
        Name of the quantity.
    """
    days = solar_days(series)
    first_by_rank = np.lexsort([series["time"].values, series["rank"].values])
    groups: dict[int, list[int]] = {}
    for i in first_by_rank:
        groups.setdefault(int(days[i]), []).append(int(i))
    single = [dates[0] for dates in groups.values() if len(dates) == 1]
    merged = [_merge(series, dates, name, method) for dates in groups.values() if len(dates) > 1]
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


def _merge(series: xr.Dataset, dates: list[int], name: str, method: MergeRule) -> xr.Dataset:
    """Merge several observations, given in order of priority, into one date."""
    group = series.isel(time=dates)
    layers = {str(n): group[n].reset_coords(drop=True).drop_vars("time") for n in group.data_vars}
    error = layers.get("uncertainty")
    result = group.isel(time=[0])
    for key, layer in layers.items():
        kernel = _kernel(key, layer, layers[name], method)
        extra = [error] if kernel is kernels.least_uncertain and error is not None else []
        valid = validity_of(layers[name], layer)
        result[key] = (layer.dims, _combine(kernel, valid, layer, extra), layer.attrs)
    joined = {n: ("time", [str(Names.of(group[n].values))]) for n in TIME_COORDS}
    return result.assign_coords(joined)


def _kernel(name: str, layer: xr.DataArray, values: xr.DataArray, method: MergeRule) -> Kernel:
    """Kernel that merges several observations into one."""
    if method == "target":
        return kernels.first_valid
    if method == "lowest_uncertainty" and set(layer.dims) == set(values.dims):
        return kernels.least_uncertain
    return COMPANIONS[name].over_observations if name in COMPANIONS else kernels.mean_valid


def _combine(
    kernel: Kernel, valid: xr.DataArray, layer: xr.DataArray, extra: list[xr.DataArray]
) -> AnyArray:
    """Apply a kernel over the observations."""
    arrays = [valid.data, layer.data, *(other.data for other in extra)]
    combined: AnyArray = map_blocks(
        kernel,
        ",".join(["t..."] * len(arrays)) + "->t...",
        *arrays,
        whole="t",
        sizes={"t": 1},
        dtype=layer.dtype,
        name="densify-observations",
    )
    return combined


Cube = TypeVar("Cube", xr.DataArray, xr.Dataset)
CompositeHow: TypeAlias = Literal["median", "mean", "max", "max_ndvi", "medoid", "nearest"]
CHOOSING = ("max", "max_ndvi", "medoid", "nearest")
REDUCING = ("median", "mean")


@dataclass(frozen=True, kw_only=True)
class Period:
    """First and last day (since 1970-01-01, both included) and the dates between them."""

    first: int
    last: int
    dates: tuple[int, ...]

    @property
    def middle(self) -> int:
        """Middle day, the earlier one of two."""
        return axis.middle_of(self.first, self.last)


def composite(cube: Cube, period: Duration = "10D", *, method: CompositeHow = "median") -> Cube:
    """Composite the observations of each period into one date, lazily.

    Parameters
    ----------
    cube : DataArray or Dataset
        Reflectance (time, band, y, x) [1] or an index (time, y, x); NaN where missing. Dates may be
        in any order.
    period : str or number
        A number of days such as ``"10D"`` or 10, counted from 1 January of each year with a shorter
        last period, so that years are comparable; ``"dekad"``, which ends on the 10th, the 20th and
        the last day of each month; ``"month"``; or ``"year"``. Dates are assigned by solar day if
        the cube is georeferenced, by UTC day otherwise. ``smooth(step=...)`` uses the same periods
        and dates.
    method : {"median", "mean", "max", "max_ndvi", "medoid", "nearest"}
        ``median`` and ``mean`` combine the valid values, band by band. The others select one whole
        observation per pixel, with its companions. ``max``: the largest value (for an index only).
        ``max_ndvi``: the largest NDVI, defined as in `xharmonize.index`; observations with an
        undefined NDVI, such as those with a band that is not above zero, are never selected.
        ``medoid``: the observation nearest to all others in band space (Flood 2013). ``nearest``:
        the observation nearest in time to the middle day of the period, the earlier one of a tie.
        The last two select among observations with all bands.

    Returns
    -------
    DataArray or Dataset
        The same type as `cube`. Dates are noon UTC of the middle day of each period; periods
        without observations are included as NaN. Coordinates `period_start` and `period_end` are
        the first and last day of each period. `origin`, `qa` and `flag` are OR-ed over the values
        used. `uncertainty` is that of the mean of independent errors (times √(π/2) for a median of
        more than two values), or that of the selected observation. `valid_fraction` is the mean.

    Raises
    ------
    TimeAxisError
        If there are no dates.
    OptionError
        If `period` or `method` is unknown.
    BandError
        If a required band is missing.
    ModelError
        If the dates have different bandpasses.
    """
    cube = at_door(cube)
    if method not in (*CHOOSING, *REDUCING):
        raise OptionError(
            "is unknown",
            cure=f"choose {', '.join(map(repr, (*REDUCING, *CHOOSING)))}",
            argument="method",
            value=method,
        )
    period = axis.period_of(period, argument="period")
    name, values = axis.split_quantity(cube, what="composite")
    axis.require_one_bandpass(values, what="composite")
    _require_bands(values, method)
    periods = find_periods(axis.days_of(values), period)
    first = [dim for dim in ("time", "band") if dim in values.dims]
    main = values.transpose(*first, ...)
    layers = {name: main}
    layers |= {n: cube[n].transpose(*_like(cube[n], main)) for n in companions_of(cube)}
    made = _composite_layers(layers, name, periods, method)
    result = _assembled(made, layers, name, periods)
    line = f"composite: {method} of every {period}"
    result[name].attrs = with_history(values.attrs, line)
    result = result.transpose(*values.dims)
    if isinstance(cube, xr.DataArray):
        return result[name].rename(cube.name)
    return result.assign_attrs(cube.attrs)


def find_periods(days: IntArray, period: str) -> list[Period]:
    """Periods from that of the first day to that of the last, including empty ones."""
    found = []
    for first, last in axis.periods_of(int(days.min()), int(days.max()), period):
        dates = np.flatnonzero((days >= first) & (days <= last))
        ordered = dates[np.argsort(days[dates], kind="stable")]
        found.append(Period(first=first, last=last, dates=tuple(ordered.tolist())))
    return found


def _like(layer: xr.DataArray, main: xr.DataArray) -> list[Any]:
    return [dim for dim in main.dims if dim in layer.dims]


def _require_bands(values: xr.DataArray, method: str) -> None:
    if "band" not in values.dims:
        return
    bands = [str(band) for band in values["band"].values]
    if method == "max":
        raise BandError(
            f"method='max' chooses by one value, the cube has bands {bands}",
            cure="use 'max_ndvi', or composite an index",
        )
    if method == "max_ndvi":
        try:
            _ndvi_bands(values)
        except BandError:
            raise BandError(
                "method='max_ndvi' needs bands red and nir08 or nir", cure=f"the cube has {bands}"
            ) from None


def _composite_layers(
    layers: dict[str, xr.DataArray], name: str, periods: list[Period], method: str
) -> dict[str, list[Any]]:
    """For each layer, the data of each period with time axis 1."""
    main = layers[name]
    days = axis.days_of(main)
    made: dict[str, list[Any]] = {n: [] for n in layers}
    for one in periods:
        parts = {n: _gathered(layer, one.dates) for n, layer in layers.items()}
        if not one.dates:
            blank = {n: _blank(layer, blank_of(n)) for n, layer in layers.items()}
        elif method in CHOOSING:
            distance = np.abs(days[list(one.dates)] - one.middle)
            blank = _chosen(parts, name, method, main, distance)
        else:
            blank = {n: _reduced(n, name, part, parts, method) for n, part in parts.items()}
        for n, data in blank.items():
            made[n].append(data)
    return made


def _gathered(layer: xr.DataArray, dates: tuple[int, ...]) -> xr.DataArray:
    part = layer.isel(time=list(dates)) if "time" in layer.dims else layer
    if part.chunks is None:
        return part
    return part.chunk({dim: -1 for dim in ("time", "band") if dim in part.dims})


def _blank(layer: xr.DataArray, fill: float) -> Any:
    shape = (1, *layer.shape[1:])
    if layer.chunks is None:
        return np.full(shape, fill, layer.dtype)
    chunks = [(n,) if d == "band" else c for d, c, n in zip(layer.dims, layer.chunks, shape)]
    return da.full(shape, fill, dtype=layer.dtype, chunks=(1, *chunks[1:]))


def _chosen(
    parts: dict[str, xr.DataArray], name: str, method: str, main: xr.DataArray, distance: IntArray
) -> dict[str, Any]:
    """Select one observation per pixel by the quantity, and take all layers from it."""
    has_band = "band" in main.dims
    choose = partial(
        _choose_block,
        method=method,
        has_band=has_band,
        ndvi=_ndvi_bands(main) if method == "max_ndvi" and has_band else (),
        distance=tuple(distance.tolist()),
    )
    dims = "tb..." if has_band else "t..."
    chosen = _map(choose, f"{dims}->t...", [parts[name].data], np.dtype(np.int16))
    return {
        n: _map(kernels.take, _with_choice(part), [part.data, chosen], part.dtype)
        for n, part in parts.items()
    }


def _with_choice(part: xr.DataArray) -> str:
    return "tb...,t...->tb..." if "band" in part.dims else "t...,t...->t..."


def _choose_block(
    values: FloatArray,
    *,
    method: str,
    has_band: bool,
    ndvi: tuple[int, ...],
    distance: tuple[int, ...],
) -> IntArray:
    if method == "medoid":
        return kernels.medoid(values if has_band else values[:, None])
    if method == "nearest":
        whole = np.isfinite(values).all(axis=1) if has_band else np.isfinite(values)
        nearness = -np.array(distance, np.float64).reshape(-1, *(1,) * (whole.ndim - 1))
        return kernels.largest(np.where(whole, nearness, np.nan))
    if not ndvi:
        return kernels.largest(values)
    bands = [values[:, place] for place in ndvi]
    return kernels.largest(ratio_index(bands, cast(RatioTerms, INDICES["ndvi"].terms)))


def _ndvi_bands(main: xr.DataArray) -> tuple[int, ...]:
    """Positions of the bands that `xharmonize.index` uses for NDVI."""
    names = [str(band) for band in main["band"].values]
    return tuple(names.index(band) for band in bands_of(main, INDICES["ndvi"]))


def _reduced(
    layer_name: str, name: str, part: xr.DataArray, parts: dict[str, xr.DataArray], method: str
) -> Any:
    """Median or mean of the valid values, or the corresponding companion."""
    is_median = method == "median"
    if layer_name == name:
        kernel: MergeKernel = kernels.median_valid if is_median else kernels.mean_valid
    else:
        own = COMPANIONS[layer_name]
        kernel = (own.over_median if is_median else None) or own.over_observations
    valid = validity_of(parts[name], part)
    return _map(kernel, "t...,t...->t...", [valid.data, part.data], part.dtype)


def _map(
    function: Callable[..., AnyArray], signature: str, arrays: list[Any], dtype: np.dtype[Any]
) -> Any:
    """Apply a block function to observations, eagerly or lazily; the first axis becomes 1."""
    return map_blocks(
        function, signature, *arrays, whole="tb", sizes={"t": 1}, dtype=dtype, name="composite"
    )


def _assembled(
    made: dict[str, list[Any]], layers: dict[str, xr.DataArray], name: str, periods: list[Period]
) -> xr.Dataset:
    """Concatenate the periods and add coordinates."""
    main = layers[name]
    times = axis.to_times(np.array([one.middle for one in periods]))
    groups = [np.array(one.dates, np.int64) for one in periods]
    coords = axis.merged_coords(main, groups, times, what="composite")
    for which in ("first", "last"):
        days = np.array([getattr(one, which) for one in periods]).astype("datetime64[D]")
        key = "period_start" if which == "first" else "period_end"
        coords[key] = ("time", days.astype("datetime64[ns]"))
    result = xr.Dataset(coords=axis.without_time(main)).assign_coords(coords)
    for n, data in made.items():
        result[n] = (layers[n].dims, np.concatenate(data, axis=0), layers[n].attrs)
    return result
