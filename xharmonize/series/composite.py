"""Composites: one date per period from all looks in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias, TypeVar

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from xharmonize.cube.companions import COMPANIONS, MergeKernel, blank_of, companions_of, validity_of
from xharmonize.cube.contract import with_history
from xharmonize.cube.door import at_door
from xharmonize.cube.indices import INDICES, bands_of
from xharmonize.errors import BandError, OptionError
from xharmonize.kernels import composite as kernels
from xharmonize.kernels import looks
from xharmonize.kernels.indices import ratio_index
from xharmonize.series import axis, calendar
from xharmonize.types import AnyArray, FloatArray, IntArray

Cube = TypeVar("Cube", xr.DataArray, xr.Dataset)
CompositeHow: TypeAlias = Literal["median", "mean", "max", "max_ndvi", "medoid", "nearest"]
CHOOSING = ("max", "max_ndvi", "medoid", "nearest")
REDUCING = ("median", "mean")


@dataclass(frozen=True, kw_only=True)
class Period:
    """Days first to last (since 1970-01-01, both included), and the dates among them."""

    first: int
    last: int
    dates: tuple[int, ...]

    @property
    def middle(self) -> int:
        """Middle day, the earlier of two."""
        return calendar.middle_of(self.first, self.last)


def composite(cube: Cube, period: str = "10D", *, how: CompositeHow = "median") -> Cube:
    """Make one date per period from the looks in it, lazily.

    Parameters
    ----------
    cube : DataArray or Dataset
        Reflectance (time, band, y, x) [1] or an index (time, y, x); NaN where missing. Dates in
        any order.
    period : str
        ``"10D"`` and the like: days counted anew from every 1 January, the last period of a year
        cut short, so that years compare; ``"dekad"``: to the 10th, the 20th and the end of the
        month; ``"month"``; ``"year"``. Dates count by solar day where the cube has a place, else
        UTC. ``smooth(step=...)`` has the same periods and dates.
    how : {"median", "mean", "max", "max_ndvi", "medoid", "nearest"}
        ``median``, ``mean``: of the valid values, band by band. The others choose a look per
        pixel, whole, with its companions: ``max``: of the largest value (an index only);
        ``max_ndvi``: of the largest NDVI, as `xharmonize.index` has it: where that is undefined,
        as over a band that is not above zero, a look is never chosen; ``medoid``: nearest to
        all others in band space (Flood 2013); ``nearest``: nearest in time to the middle day of
        the period, the earlier of equals. The last two choose among looks with all bands.

    Returns
    -------
    DataArray or Dataset
        Type out = type in. Dates are noon UTC of the periods' middle days, periods without looks
        are there and NaN; coordinates `period_start` and `period_end` are its first and last day.
        `origin`, `qa` and `flag` are OR-ed over the values that counted, `uncertainty` is that of
        the mean of independent errors (times √(π/2) for a median of more than two), or that of
        the chosen look; `valid_fraction` the mean.

    Raises
    ------
    TimeAxisError
        If `period` is unknown, or there are no dates.
    OptionError
        If `how` is unknown.
    BandError
        If a band the choice needs is missing.
    ModelError
        If the dates are in several bandpasses.
    """
    cube = at_door(cube)
    if how not in (*CHOOSING, *REDUCING):
        raise OptionError(
            f"how={how!r} is unknown; choose {', '.join(map(repr, (*REDUCING, *CHOOSING)))}"
        )
    name, values = axis.split_quantity(cube, what="composite")
    axis.require_one_bandpass(values, what="composite")
    _require_bands(values, how)
    periods = find_periods(axis.days_of(values), period)
    first = [dim for dim in ("time", "band") if dim in values.dims]
    main = values.transpose(*first, ...)
    layers = {name: main}
    layers |= {n: cube[n].transpose(*_like(cube[n], main)) for n in companions_of(cube)}
    made = _composite_layers(layers, name, periods, how)
    result = _assembled(made, layers, name, periods)
    line = f"composite: {how} of every {period}"
    result[name].attrs = with_history(values.attrs, line)
    result = result.transpose(*values.dims)
    if isinstance(cube, xr.DataArray):
        return result[name].rename(cube.name)
    return result.assign_attrs(cube.attrs)


def find_periods(days: IntArray, period: str) -> list[Period]:
    """Periods from the one of the first day to that of the last, empty ones among them."""
    found = []
    for first, last in calendar.periods_of(int(days.min()), int(days.max()), period, name="period"):
        dates = np.flatnonzero((days >= first) & (days <= last))
        ordered = dates[np.argsort(days[dates], kind="stable")]
        found.append(Period(first=first, last=last, dates=tuple(ordered.tolist())))
    return found


def _like(layer: xr.DataArray, main: xr.DataArray) -> list[Any]:
    return [dim for dim in main.dims if dim in layer.dims]


def _require_bands(values: xr.DataArray, how: str) -> None:
    if "band" not in values.dims:
        return
    bands = [str(band) for band in values["band"].values]
    if how == "max":
        raise BandError(
            f"how='max' chooses by one value, the cube has bands {bands}; use 'max_ndvi', or "
            "composite an index"
        )
    if how == "max_ndvi":
        try:
            _ndvi_bands(values)
        except BandError:
            raise BandError(
                f"how='max_ndvi' needs bands red and nir08 or nir; the cube has {bands}"
            ) from None


def _composite_layers(
    layers: dict[str, xr.DataArray], name: str, periods: list[Period], how: str
) -> dict[str, list[Any]]:
    """For each layer, the data of each period with time axis 1."""
    main = layers[name]
    days = axis.days_of(main)
    made: dict[str, list[Any]] = {n: [] for n in layers}
    for one in periods:
        parts = {n: _gathered(layer, one.dates) for n, layer in layers.items()}
        if not one.dates:
            blank = {n: _blank(layer, blank_of(n)) for n, layer in layers.items()}
        elif how in CHOOSING:
            distance = np.abs(days[list(one.dates)] - one.middle)
            blank = _chosen(parts, name, how, main, distance)
        else:
            blank = {n: _reduced(n, name, part, parts, how) for n, part in parts.items()}
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
    parts: dict[str, xr.DataArray], name: str, how: str, main: xr.DataArray, distance: IntArray
) -> dict[str, Any]:
    """Choose a look per pixel by the quantity, and take all layers from it."""
    has_band = "band" in main.dims
    choose = partial(
        _choose_block,
        how=how,
        has_band=has_band,
        ndvi=_ndvi_bands(main) if how == "max_ndvi" and has_band else (),
        distance=tuple(distance.tolist()),
    )
    drop = 1 if has_band else None
    chosen = _map(choose, [parts[name].data], np.dtype(np.int16), drop_axis=drop)
    return {n: _map(kernels.take, [part.data, chosen], part.dtype) for n, part in parts.items()}


def _choose_block(
    values: FloatArray,
    *,
    how: str,
    has_band: bool,
    ndvi: tuple[int, ...],
    distance: tuple[int, ...],
) -> IntArray:
    if how == "medoid":
        return kernels.medoid(values if has_band else values[:, None])
    if how == "nearest":
        whole = np.isfinite(values).all(axis=1) if has_band else np.isfinite(values)
        nearness = -np.array(distance, np.float64).reshape(-1, *(1,) * (whole.ndim - 1))
        return kernels.largest(np.where(whole, nearness, np.nan))
    if not ndvi:
        return kernels.largest(values)
    bands = [values[:, place] for place in ndvi]
    return kernels.largest(ratio_index(bands, INDICES["ndvi"].terms))


def _ndvi_bands(main: xr.DataArray) -> tuple[int, ...]:
    """Positions of the bands of the NDVI of `xharmonize.index`."""
    names = [str(band) for band in main["band"].values]
    return tuple(names.index(band) for band in bands_of(main, INDICES["ndvi"]))


def _reduced(
    layer_name: str, name: str, part: xr.DataArray, parts: dict[str, xr.DataArray], how: str
) -> Any:
    """Median or mean of the valid values, and what companions become."""
    is_median = how == "median"
    if layer_name == name:
        kernel: MergeKernel = kernels.median_valid if is_median else looks.mean_valid
    else:
        own = COMPANIONS[layer_name]
        kernel = (own.over_median if is_median else None) or own.over_observations
    valid = validity_of(parts[name], part)
    return _map(kernel, [valid.data, part.data], part.dtype)


def _map(
    function: Callable[..., AnyArray],
    arrays: list[Any],
    dtype: np.dtype[Any],
    *,
    drop_axis: int | None = None,
) -> Any:
    """Apply a block function to looks, at once or lazily; the first axis becomes 1.

    Arrays are aligned from the last axis on, as in numpy; looks and bands lie in one block.
    """
    if not any(isinstance(array, da.Array) for array in arrays):
        return function(*arrays)
    first = next(array for array in arrays if isinstance(array, da.Array))
    place = first.chunks[-2:] if first.ndim > 2 else first.chunks[1:]
    n_place = len(place)
    data = [da.asarray(array) for array in arrays]
    data = [
        array.rechunk((*((n,) for n in array.shape[: array.ndim - n_place]), *place))
        for array in data
    ]
    lead = max(data, key=lambda array: array.ndim)
    chunks = [(1,), *lead.chunks[1:]]
    if drop_axis is not None:
        del chunks[drop_axis]
    return da.map_blocks(
        function,
        *data,
        chunks=tuple(chunks),
        drop_axis=drop_axis,
        dtype=dtype,
        meta=np.empty((0,) * len(chunks), dtype),
        name=f"composite-{tokenize(function, *(array.name for array in data))}",
    )


def _assembled(
    made: dict[str, list[Any]], layers: dict[str, xr.DataArray], name: str, periods: list[Period]
) -> xr.Dataset:
    """Join the periods, with coordinates."""
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
        join = da.concatenate if main.chunks is not None else np.concatenate
        result[n] = (layers[n].dims, join(data, axis=0), layers[n].attrs)
    return result
