"""The time axis of series: days, periods, and which dates were observed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube import dates
from xharmonize.cube.blockwise import cut_like, is_lazy
from xharmonize.cube.companions import Origin, join_bands
from xharmonize.cube.contract import (
    BAND_COORDS,
    TIME_COORDS,
    main_layer,
    plain_numbers,
    read_coordinate,
    spread_over,
)
from xharmonize.cube.dates import duration_in_days, solar_days
from xharmonize.errors import (
    ContractError,
    ModelError,
    OptionError,
    RadiometryError,
    TimeAxisError,
)
from xharmonize.harmonizers.published import cure_of_mixture
from xharmonize.sensors import Flag, Names
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.types import AnyArray, BoolArray, Duration, FloatArray, IntArray

BLOCK_BYTES = 64 * 2**20
"""Maximum size of a block with the whole time axis, if it can be split in space."""

NOON = np.timedelta64(12, "h")
"""Time of day given to days: noon UTC is the same solar day at every longitude."""


def split_quantity(cube: xr.DataArray | xr.Dataset, *, what: str) -> tuple[str, xr.DataArray]:
    """Return the name and array of a cube's quantity: reflectance, or its only index.

    Raises
    ------
    ContractError
        If a Dataset holds several quantities, or none.
    RadiometryError
        If the values are digital numbers.
    TimeAxisError
        If there are no dates, or `time` contains anything else.
    """
    values = plain_numbers(main_layer(cube, what=what))
    name = str(values.name or "values")
    require_dates(values, what=what)
    decoded = "is_decoded" not in values.coords or read_coordinate(values, "is_decoded").all()
    if not np.issubdtype(values.dtype, np.floating) or not decoded:
        raise RadiometryError(
            f"{what} needs real values, the cube holds digital numbers ({values.dtype})",
            cure="call cube.harmonize.decode() first",
        )
    return name, _with_read_coordinates(values)


def _with_read_coordinates(values: xr.DataArray) -> xr.DataArray:
    """Load small tables along time that ``cube.chunk`` made lazy: their chunks get in the way."""
    lazy = {
        str(name): (coord.dims, read_coordinate(values, str(name)), coord.attrs)
        for name, coord in values.coords.items()
        if is_lazy(coord) and not {"y", "x"} & set(coord.dims)
    }
    return values.assign_coords(lazy) if lazy else values


def require_dates(cube: xr.DataArray | xr.Dataset, *, what: str) -> None:
    """Raise `TimeAxisError` unless every step along `time` has a date, and there are some."""
    dates.require_dates(cube, what=what)
    if cube.sizes["time"] == 0:
        raise TimeAxisError(f"{what} needs dates", cure="the cube has none left")


def require_one_bandpass(cube: xr.DataArray, *, what: str) -> None:
    """Raise `ModelError` if dates of several bandpasses would be merged."""
    if "bandpass" not in cube.coords:
        return
    found = sorted({str(value) for value in np.atleast_1d(read_coordinate(cube, "bandpass"))})
    if len(found) > 1:
        raise ModelError(
            f"{what} would merge values of bandpasses {found}",
            cure=f"harmonise them to one first: {cure_of_mixture(found)}",
        )


def sensors_of(values: xr.DataArray | xr.Dataset) -> AnyArray:
    """Return the sensor of each date, (time,) of str, or raise `ContractError`."""
    if "sensor" not in values.coords or values["sensor"].dims != ("time",):
        raise ContractError(
            "the cube does not say which sensor its dates are from: coordinate 'sensor' is missing",
            cure="settle it with xh.describe(cube, sensor=...)",
        )
    found: AnyArray = read_coordinate(values, "sensor").astype(str)
    return found


def nearest_days(days: FloatArray) -> AnyArray:
    """Nearest date, datetime64[ns], of days since 1970-01-01; NaT where they are NaN."""
    known = np.isfinite(days)
    whole = np.floor(np.where(known, days, 0) + 0.5).astype(np.int64).astype("datetime64[D]")
    return np.where(known, whole.astype("datetime64[ns]"), np.datetime64("NaT", "ns"))


def days_of(cube: xr.DataArray | xr.Dataset) -> IntArray:
    """Day number of each date: solar days if the cube is georeferenced or has them, else UTC days.

    Returns
    -------
    (time,) int64 array
        Days since 1970-01-01.
    """
    if "y" in cube.dims and "x" in cube.dims and _has_crs(cube):
        return solar_days(cube)
    if "day" in cube.coords and cube["day"].dims == ("time",) and cube["day"].dtype.kind == "M":
        return cube["day"].values.astype("datetime64[D]").astype(np.int64)
    return cube["time"].values.astype("datetime64[D]").astype(np.int64)


def _has_crs(cube: xr.DataArray | xr.Dataset) -> bool:
    return any({"crs_wkt", "spatial_ref"} & set(coord.attrs) for coord in cube.coords.values())


def to_times(days: IntArray) -> AnyArray:
    """Return noon UTC of days since 1970-01-01, as datetime64[ns]."""
    return (days.astype("datetime64[D]") + NOON).astype("datetime64[ns]")


def whole_series(values: xr.DataArray, *, whole: Sequence[str] = ("time",)) -> xr.DataArray:
    """Rechunk a lazy array to have all dates in one block, with smaller blocks in space if needed.

    In space, each new block lies within one old block, so that no block reads across old edges.
    """
    if not is_lazy(values):
        return values
    sizes = values.sizes
    fixed = int(np.prod([sizes[dim] for dim in whole if dim in sizes])) * values.dtype.itemsize
    edge = {dim: max(values.variable.chunksizes[dim]) for dim in values.dims if dim not in whole}
    while edge and fixed * int(np.prod(list(edge.values()))) > BLOCK_BYTES:
        longest = max(edge, key=lambda dim: edge[dim])
        if edge[longest] == 1:
            break
        edge[longest] = -(-edge[longest] // 2)
    chunks = {
        dim: _split(values.variable.chunksizes[dim], edge[dim]) if dim in edge else (sizes[dim],)
        for dim in values.dims
    }
    return values.copy(data=values.data.rechunk(tuple(chunks.values())))


def _split(chunks: Sequence[int], edge: int) -> tuple[int, ...]:
    """Split chunks into pieces no longer than `edge`."""
    return tuple(
        min(edge, chunk - start) for chunk in chunks for start in range(0, max(chunk, 1), edge)
    )


def companion(cube: xr.DataArray | xr.Dataset, name: str, values: xr.DataArray) -> Any:
    """Return a companion's data, expanded and chunked like the values; None if there is none."""
    if isinstance(cube, xr.DataArray) or name not in cube:
        return None
    layer = spread_over(cube[name], values)
    layer = layer.transpose(*values.dims)
    return cut_like(layer.data, values.data)


def is_snow(cube: xr.DataArray | xr.Dataset, values: xr.DataArray) -> Any:
    """Whether `qa` flags snow, chunked like the values; None without `qa`."""
    qa = companion(cube, "qa", values)
    return None if qa is None else (qa & np.uint16(Flag.SNOW)) != 0


def merged_coords(
    cube: xr.DataArray, groups: Sequence[IntArray], times: AnyArray, *, what: str
) -> dict[str, Any]:
    """Contract coordinates of dates that are merged from several.

    Parameters
    ----------
    cube : DataArray
        The cube, with its coordinates along time.
    groups : sequence of int array
        Positions of the dates merged into each new one; an empty group is unknown.
    times : (group,) datetime64 array
        The new dates.
    what : str
        Prefix of the new item ids.

    Returns
    -------
    dict
        Strings that differ are joined by `Names`; item ids consist of the verb and the day; tables
        per band are those of the first date; angles are dropped.
    """
    coords: dict[str, Any] = {"time": times}
    for name in (n for n in TIME_COORDS if n in cube.coords and n != "item_id"):
        values = read_coordinate(cube, name).astype(str)
        coords[name] = ("time", np.array([str(Names.of(values[group])) for group in groups], str))
    if "item_id" in cube.coords:
        days = times.astype("datetime64[D]")
        coords["item_id"] = ("time", np.array([f"{what}-{day}" for day in days], str))
    for name in (n for n in BAND_COORDS if n in cube.coords):
        table = read_coordinate(cube, name)
        first = [int(group[0]) if len(group) else 0 for group in groups]
        coords[name] = (cube[name].dims, table[first])
    return coords


def without_time(cube: xr.DataArray) -> Mapping[Any, Any]:
    """Coordinates without a time dimension."""
    return {name: c for name, c in cube.coords.items() if "time" not in c.dims}


LONGEST = 366
"""Longest period in days: periods restart every year."""

NAMED = ("dekad", "month", "year")
PERIODS = f"whole days such as '10D' or 10, up to {LONGEST}, or 'dekad', 'month' or 'year'"


def period_of(length: Duration, *, argument: str) -> str:
    """Return a period by its name: ``"dekad"``, ``"month"``, ``"year"``, or days such as ``"10D"``.

    Raises
    ------
    OptionError
        If it is none of these.
    """
    if isinstance(length, str) and length in NAMED:
        return length
    try:
        days = duration_in_days(length, argument=argument)
    except OptionError as error:
        error.cure = f"give {PERIODS}"
        raise
    if not days.is_integer() or days > LONGEST:
        raise OptionError("", cure=f"give {PERIODS}", argument=argument, value=length)
    return f"{days:.0f}D"


def periods_of(first: int, last: int, period: str) -> list[tuple[int, int]]:
    """First and last day of the periods that contain the days from `first` to `last`.

    Parameters
    ----------
    first, last : int
        Days since 1970-01-01, both included.
    period : str
        As from `period_of`: days such as ``"10D"``, counted from 1 January of each year with a
        shorter last period; ``"dekad"``, which ends on the 10th, the 20th and the last day of each
        month; ``"month"``; or ``"year"``.
    """
    ends = np.array([first, last]).astype("datetime64[D]").astype("datetime64[Y]")
    low, high = ends.astype(np.int64).tolist()
    years = [_day(np.datetime64(year, "Y")) for year in range(low, high + 2)]
    starts = [day for b, e in pairwise(years) for day in _starts_in_year(b, e, period)]
    found = [(start, after - 1) for start, after in pairwise([*starts, years[-1]])]
    return [(start, end) for start, end in found if end >= first and start <= last]


def middle_of(first: int, last: int) -> int:
    """Middle day of a period, the earlier one of two: the date that represents it."""
    return (first + last) // 2


def middles_of(days: IntArray, period: str) -> IntArray:
    """Middle days of the periods that contain the days, including empty ones."""
    found = periods_of(int(days.min()), int(days.max()), period)
    return np.array([middle_of(*one) for one in found], np.int64)


def _starts_in_year(begin: int, end: int, period: str) -> list[int]:
    if period == "year":
        return [begin]
    if period in ("month", "dekad"):
        year = np.datetime64(begin, "D").astype("datetime64[M]")
        months = [_day(year + k) for k in range(12)]
        return [m + d for m in months for d in ((0,) if period == "month" else (0, 10, 20))]
    return list(range(begin, end, int(period.removesuffix("D"))))


def _day(date: np.datetime64) -> int:
    return int(date.astype("datetime64[D]").astype(np.int64))


def mean_of_known(values: xr.DataArray, dims: str | Sequence[str]) -> xr.DataArray:
    """Mean over values that are not NaN, summed in float64; NaN if all are."""
    n = values.notnull().sum(dims)
    total: xr.DataArray = values.sum(dims, dtype=np.float64) / n.where(n > 0)
    return total


def deviation_of_known(values: xr.DataArray, dims: str | Sequence[str]) -> xr.DataArray:
    """Standard deviation (n - 1) over values that are not NaN; NaN for fewer than two."""
    n = values.notnull().sum(dims)
    away = values - mean_of_known(values, dims)
    free = (n - 1).where(n > 1)
    spread: xr.DataArray = ((away**2).sum(dims, dtype=np.float64) / free) ** 0.5
    return spread


_SMOOTH = re.compile(r"(^|: )smooth: ", re.MULTILINE)
_SEEN = np.uint8(Origin.OBSERVED | Origin.HARMONISED)


def is_smoothed(cube: xr.DataArray | xr.Dataset) -> bool:
    """Tell from its history whether a series was smoothed."""
    layers = [cube, *(cube.data_vars.values() if isinstance(cube, xr.Dataset) else ())]
    return any(_SMOOTH.search(str(layer.attrs.get("history", ""))) for layer in layers)


def is_filled(cube: xr.DataArray | xr.Dataset, values: xr.DataArray) -> xr.DataArray | None:
    """Where values are filled rather than observed, lazily; None if there is no `origin`.

    Parameters
    ----------
    values : DataArray
        The quantity of the cube, or one band of it.
    """
    if not isinstance(cube, xr.Dataset) or "origin" not in cube:
        return None
    origin = cube["origin"]
    if "band" in origin.dims and "band" not in values.dims:
        origin = (
            origin.sel(band=values["band"])
            if "band" in values.coords
            else join_bands(origin, "origin")
        )
    origin = spread_over(origin, values).transpose(*values.dims)
    is_new = ((origin & np.uint8(Origin.FILLED)) != 0) & ((origin & _SEEN) == 0)
    return values.copy(data=is_new.data).drop_attrs()


def observed_values(
    cube: xr.DataArray | xr.Dataset, values: xr.DataArray, *, what: str
) -> xr.DataArray:
    """Return the values with NaN where nothing was observed, lazily.

    Raises
    ------
    ContractError
        If the series was smoothed and does not state which values were observed.
    """
    filled = is_filled(cube, values)
    if filled is not None:
        return values.copy(data=values.where(~filled.variable).data)
    if is_smoothed(cube):
        raise ContractError(
            f"{what} counts observations",
            cure="the series was smoothed and has no 'origin', which says "
            "what was observed: take the series before it was smoothed, or smooth it as a Dataset, "
            "with cube.to_dataset(name='ndvi').harmonize.smooth(...)",
        )
    return values


def has_observation(cube: xr.DataArray | xr.Dataset) -> BoolArray:
    """Whether a sensor observed on each date (time,), from coordinates alone.

    A smoothed series has the sensors that observed on a day, and ``unknown`` if none did.
    """
    n = cube.sizes["time"]
    if "sensor" not in cube.coords or not is_smoothed(cube):
        return np.ones(n, bool)
    seen: BoolArray = np.broadcast_to(read_coordinate(cube, "sensor").astype(str) != UNKNOWN, n)
    return seen


def known_sensors(sensors: AnyArray) -> list[str]:
    """Sensor names of all dates, with merged ones split; ``unknown`` only if all are unknown."""
    names = Names.of(sensors)
    return sorted(names - {UNKNOWN}) or sorted(names)
