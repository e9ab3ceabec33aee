"""How often a place is seen: scenes a month, revisit and longest gap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from xharmonize.cube.door import at_door
from xharmonize.errors import OptionError
from xharmonize.kernels.revisit import gaps
from xharmonize.sensors import Names
from xharmonize.series import axis
from xharmonize.series.observed import known_sensors, observed_values
from xharmonize.types import AnyArray, FloatArray, IntArray

ALL = "all"
"""Name of all sensors together."""


def frequency(
    cube: xr.DataArray | xr.Dataset, *, levels: Sequence[float] = (0.0, 0.5, 0.8, 0.9)
) -> xr.Dataset:
    """Count scenes a month by their share of valid pixels, and map revisit and gaps, lazily.

    Looks of one sensor on one day are one scene, valid where any of them is: rows of one pass are
    not counted twice. A look merged of several sensors counts for each. For all sensors together,
    what counts is a day, whoever looked. Days are solar days where the cube has a place, else
    those of UTC. A look is valid where all its bands are. What a smoothed series was filled with,
    by its `origin`, is not valid.

    Parameters
    ----------
    cube : DataArray or Dataset
        A series along `time`, masked, with the coordinate `sensor`; NaN where missing.
    levels : sequence of float
        Shares of valid pixels, from 0 to 1; a scene counts at each level that its share exceeds.

    Returns
    -------
    Dataset
        Along ``sensor`` (those of the cube, then ``"all"``): `scenes` (sensor, month, level),
        number of days; `ratio` of the scenes of all sensors to those of the one, NaN where it has
        none; `n_valid` (sensor, y, x), number of valid days; `revisit`, mean time [day] from one
        valid day to the next, NaN below two; `longest_gap`, longest time [day] without a valid
        day within the cube's first and last date, its whole length where there is none.

    Raises
    ------
    ContractError
        If the cube does not say which sensor its dates are from, or was smoothed and has no
        `origin`.
    TimeAxisError
        If there are no dates.
    OptionError
        If a level is no share.

    References
    ----------
    Li and Roy 2017 (revisit of Sentinel-2 and Landsat), doi:10.3390/rs9090902.
    """
    cube = at_door(cube)
    wrong = [level for level in levels if not 0 <= level < 1]
    if wrong or not levels:
        raise OptionError(f"levels={tuple(levels)}; give shares from 0 to below 1")
    _, values = axis.split_quantity(cube, what="frequency")
    sensors = axis.sensors_of(values)
    parts = [Names.of(sensor) for sensor in sensors]
    days = axis.days_of(values)
    names = [*known_sensors(sensors), ALL]
    valid = _valid(observed_values(cube, values, what="frequency"))
    groups = [np.array([name in (*found, ALL) for found in parts]) for name in names]
    months = _months(days)
    counts, maps = [], []
    for group in groups:
        dates = np.flatnonzero(group)
        own_days, day_of = np.unique(days[dates], return_inverse=True)
        seen = _seen(valid, dates, day_of, own_days.size)
        counts.append(_scenes(seen, own_days, months, np.array(levels, float)))
        maps.append(_gap_maps(seen, own_days, int(days.min()), int(days.max())))
    return _described(values, names, months, levels, counts, maps)


def _valid(values: xr.DataArray) -> Any:
    """Whether each look is valid, (time, ...), with all dates in one block."""
    bands = [dim for dim in ("band",) if dim in values.dims]
    lead = ["time", *bands]
    whole = axis.whole_series(values.transpose(*lead, ...), whole=lead)
    valid = np.isfinite(whole.data)
    return valid.all(axis=1) if bands else valid


def _months(days: IntArray) -> AnyArray:
    """First days of the months from the first date to the last."""
    ends = np.array([days.min(), days.max()]).astype("datetime64[D]").astype("datetime64[M]")
    return np.arange(ends[0], ends[1] + 1)


def _seen(valid: Any, dates: IntArray, day_of: IntArray, n_days: int) -> Any:
    """Whether a pixel is seen on each day (day, ...)."""
    looks = [dates[day_of == k] for k in range(n_days)]
    if all(len(found) == 1 for found in looks):
        return valid[np.concatenate(looks)]
    stack = da.stack if isinstance(valid, da.Array) else np.stack
    joined = stack([valid[found].any(axis=0) for found in looks])
    return joined.rechunk({0: -1}) if isinstance(joined, da.Array) else joined


def _scenes(seen: Any, days: IntArray, months: AnyArray, levels: FloatArray) -> Any:
    """Number of days (month, level) whose share of valid pixels exceeds each level."""
    share = seen.mean(axis=tuple(range(1, seen.ndim))) if seen.ndim > 1 else seen.astype(float)
    counts = (share[:, None] > levels).astype(np.int64)
    month_of = days.astype("datetime64[D]").astype("datetime64[M]")
    membership = (months[:, None] == month_of).astype(np.int64)
    if not isinstance(counts, da.Array):
        return membership @ counts
    return da.from_array(membership, chunks=-1) @ counts.rechunk(-1)


def _gap_maps(seen: Any, days: IntArray, first: int, last: int) -> Any:
    """Number of valid days, mean and longest time between them (3, ...)."""
    arguments = (tuple(days.tolist()), first, last)
    if not isinstance(seen, da.Array):
        return _gaps_block(np.asarray(seen), arguments)
    return da.map_blocks(
        _gaps_block,
        seen,
        arguments,
        chunks=((3,), *seen.chunks[1:]),
        dtype=np.float32,
        meta=np.empty((0,) * seen.ndim, np.float32),
        name=f"frequency-{tokenize(seen.name, arguments)}",
    )


def _gaps_block(seen: AnyArray, arguments: tuple[tuple[int, ...], int, int]) -> FloatArray:
    days, first, last = arguments
    flat = np.ascontiguousarray(seen.reshape(seen.shape[0], -1))
    found: FloatArray = gaps(flat, np.array(days, np.float64), float(first), float(last))
    return found.reshape(3, *seen.shape[1:])


def _described(
    values: xr.DataArray,
    names: list[str],
    months: AnyArray,
    levels: Sequence[float],
    counts: list[Any],
    maps: list[Any],
) -> xr.Dataset:
    stack = da.stack if values.chunks is not None else np.stack
    scenes, mapped = stack(counts), stack(maps)
    place = tuple(dim for dim in values.dims if dim not in ("time", "band"))
    coords = {n: c for n, c in axis.without_time(values).items() if "band" not in c.dims}
    result = xr.Dataset(coords=coords).assign_coords(
        sensor=names, month=months.astype("datetime64[ns]"), level=list(map(float, levels))
    )
    dims = ("sensor", "month", "level")
    result["scenes"] = (dims, scenes, {"long_name": "days seen with more valid pixels"})
    known = scenes > 0
    ratio = np.where(known, scenes[-1:] / np.where(known, scenes, 1), np.nan)
    result["ratio"] = (dims, ratio, {"units": "1", "long_name": "scenes of all sensors over own"})
    for k, (name, unit, long_name) in enumerate(
        (
            ("n_valid", "1", "valid days"),
            ("revisit", "days", "mean time between valid days"),
            ("longest_gap", "days", "longest time without a valid day"),
        )
    ):
        attrs = {"units": unit, "long_name": long_name}
        result[name] = (("sensor", *place), mapped[:, k], attrs)
    return result
