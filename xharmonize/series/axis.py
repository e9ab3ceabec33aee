"""The time axis of series: days, periods, and which dates were observed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube import dates
from xharmonize.cube.blockwise import is_lazy
from xharmonize.cube.contract import (
    BAND_COORDS,
    TIME_COORDS,
    main_layer,
    plain_numbers,
    read_coordinate,
)
from xharmonize.cube.dates import duration_in_days
from xharmonize.cube.origin import is_filled as is_filled
from xharmonize.cube.whole import (
    companion as companion,
)
from xharmonize.cube.whole import (
    days_of as days_of,
)
from xharmonize.cube.whole import (
    whole_series as whole_series,
)
from xharmonize.errors import (
    ContractError,
    OptionError,
    RadiometryError,
    TimeAxisError,
)
from xharmonize.harmonizers.published import require_one_bandpass as require_one_bandpass
from xharmonize.sensors import Flag, Names
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.types import AnyArray, BoolArray, Duration, FloatArray, IntArray

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


def to_times(days: IntArray) -> AnyArray:
    """Return noon UTC of days since 1970-01-01, as datetime64[ns]."""
    return (days.astype("datetime64[D]") + NOON).astype("datetime64[ns]")


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


def is_smoothed(cube: xr.DataArray | xr.Dataset) -> bool:
    """Tell from its history whether a series was smoothed."""
    layers = [cube, *(cube.data_vars.values() if isinstance(cube, xr.Dataset) else ())]
    return any(_SMOOTH.search(str(layer.attrs.get("history", ""))) for layer in layers)


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
