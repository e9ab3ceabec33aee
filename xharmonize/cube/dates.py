"""Dates of cubes: validation of time coordinates, lengths of time, and solar days.

A cube's ``time`` is one datetime64 a step, UTC without time zone, and what nanoseconds can hold:
everything is computed in them, and numpy wraps the year 9999 to 1816 without a word.
"""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
import pandas as pd
import xarray as xr

from xharmonize.cube.geobox import centre_of, geobox_of
from xharmonize.errors import OptionError, TimeAxisError
from xharmonize.types import AnyArray, Duration, IntArray

FIRST = np.datetime64("1678-01-01")
LAST = np.datetime64("2262-01-01")
"""Dates from `FIRST` up to `LAST`, without it, fit into nanoseconds."""

NAMES = ("t", "time", "times", "date", "dates", "datetime")
"""What dimensions of dates are called elsewhere, in lower case."""

_PARSE = "if they are dates, cube.assign_coords(time=pd.to_datetime(cube['time'].values).values)"


def require_any_date(cube: xr.DataArray | xr.Dataset) -> None:
    """Raise `TimeAxisError` if a cube has no time step."""
    if not cube.sizes["time"]:
        raise TimeAxisError("the cube has no date", cure="a selection before may have left none")


def require_dates(cube: xr.DataArray | xr.Dataset, *, what: str, dim: str = "time") -> None:
    """Raise `TimeAxisError` unless every time step has a date that fits datetime64[ns].

    Parameters
    ----------
    what : str
        Caller, for the error message.
    dim : str
        Dimension and coordinate of the dates.

    Raises
    ------
    TimeAxisError
        If the coordinate is missing, is not datetime64 without time zone (text, numbers, other
        calendars), or contains NaT or dates out of range. The message quotes the first such value
        and says how to fix it.
    """
    if dim not in cube.dims or dim not in cube.coords:
        other = next((str(name) for name in cube.dims if str(name).lower() in NAMES), None)
        cure = (
            f"select with cube.isel({dim}=[0]), which keeps the dimension"
            if dim in cube.coords
            else f"write them with cube.assign_coords({dim}=...)"
        )
        if other and dim not in cube.dims:
            cure = f"name them with cube.rename({{{other!r}: {dim!r}}})"
        raise TimeAxisError(
            f"{what} needs dates",
            cure=f"the cube has dimensions {tuple(map(str, cube.dims))} and no "
            f"coordinate {dim!r} along one of them: {cure}",
        )
    variable = cube.coords[dim].variable
    if isinstance(variable.dtype, np.dtype) and variable.dtype.kind == "M":
        require_moments(variable.values, what=what)
    elif variable.size:
        found, cure = _other_kind(cube, dim)
        raise TimeAxisError(f"{what} needs dates", cure=f"{dim!r} holds {found}: {cure}")


def require_moments(times: AnyArray, *, what: str) -> None:
    """Raise `TimeAxisError` if datetime64 values are NaT or don't fit datetime64[ns]."""
    missing = np.flatnonzero(np.isnat(times))
    if missing.size:
        raise TimeAxisError(
            f"{what} needs dates",
            cure=f"'time' holds NaT at step {missing[0]} ({missing.size} of "
            f"{times.size}): cube.isel(time=cube['time'].notnull().values) leaves them out",
        )
    wrong = np.flatnonzero((times < FIRST) | (times >= LAST))
    if wrong.size:
        raise TimeAxisError(
            f"{what} needs dates from 1678 to 2261, which nanoseconds can hold",
            cure="'time' is "
            f"{np.datetime_as_string(times[wrong[0]], unit='D')} at step {wrong[0]}: correct it, "
            f"or leave it out with cube.drop_isel(time={wrong[:10].tolist()})",
        )


def to_nanoseconds(moment: dt.datetime, *, what: str) -> np.datetime64:
    """Convert a naive UTC datetime to datetime64[ns].

    Raises
    ------
    TimeAxisError
        If it does not fit.
    """
    exact = np.datetime64(moment, "us")
    if not FIRST <= exact < LAST:
        raise TimeAxisError(
            f"{what} is of {moment:%Y-%m-%d}, and nanoseconds can hold 1678 to 2261",
            cure="correct its "
            "datetime, or leave it out of the query, for instance with datetime='2015/2100'",
        )
    found: np.datetime64 = exact.astype("datetime64[ns]")
    return found


def _other_kind(cube: xr.DataArray | xr.Dataset, dim: str) -> tuple[str, str]:
    """Describe what the coordinate holds instead of dates, and how to fix it."""
    index = cube.indexes.get(dim)
    assign = f"cube.assign_coords({dim}=cube.indexes[{dim!r}]"
    if isinstance(index, pd.DatetimeIndex) and index.tz is not None:
        found = f"times with a time zone ({index[0]})"
        return found, f"{assign}.tz_convert('UTC').tz_localize(None))"
    if isinstance(index, pd.PeriodIndex):
        return f"periods ({index[0]})", f"{assign}.to_timestamp())"
    first = cube.coords[dim].values.flat[0]
    kind = type(first)
    if kind.__module__.split(".")[0] == "cftime":
        return (
            f"dates of the calendar {getattr(first, 'calendar', '')!r} ({first})",
            "cube.convert_calendar('standard', use_cftime=False, align_on='date')",
        )
    found = f"{cube.coords[dim].dtype} ({first!r})"
    if isinstance(first, int | float | np.integer | np.floating):
        return found, (
            "say what the numbers count, for days since 1970 with "
            "cube.assign_coords(time=pd.to_datetime(cube['time'].values, unit='D').values)"
        )
    if isinstance(first, bytes):
        return found, _PARSE.replace("['time'].values", "['time'].values.astype(str)")
    return found, _PARSE


def solar_day(moment: np.datetime64, longitude: float) -> dt.date:
    """Return the date in mean solar time at a longitude [degree]; in UTC if that is NaN."""
    day: dt.date = (moment + _ahead(longitude)).astype("datetime64[D]").item()
    return day


def solar_days(cube: xr.DataArray | xr.Dataset) -> IntArray:
    """Return the day number of each date, in mean solar time at the centre of the cube.

    Returns
    -------
    (time,) int64 array
        Days since 1970-01-01. A morning pass never spans two days, as it may in UTC.
    """
    from pyproj import Transformer

    grid = geobox_of(cube)
    transformer = Transformer.from_crs(grid.crs.to_wkt(), "EPSG:4326", always_xy=True)
    longitude, _ = transformer.transform(*centre_of(grid))
    local = cube["time"].values + _ahead(float(longitude))
    return local.astype("datetime64[D]").astype(np.int64)


def _ahead(longitude: float) -> np.timedelta64:
    """How far mean solar time is ahead of UTC: an hour every 15 degrees."""
    hours = 0.0 if math.isnan(longitude) else longitude / 15
    return np.timedelta64(round(hours * 3600), "s")


def duration_in_days(length: Duration, *, argument: str, least: float = math.ulp(0.0)) -> float:
    """Return a length of time in days: the one reading of all durations.

    Parameters
    ----------
    length : str, number, Timedelta or timedelta64
        Pandas notation, with a unit (``"16D"``, ``"36h"``), or a number of days, as text too.
    argument : str
        Name of the argument, for the error message.
    least : float
        Minimum [day]; by default anything above 0. Infinity is allowed.

    Raises
    ------
    OptionError
        If it is no length of time, or too short.

    Examples
    --------
    >>> duration_in_days("36h", argument="max_gap"), duration_in_days(16, argument="max_gap")
    (1.5, 16.0)
    """
    days = _days_of(length)
    if days >= least:
        return days
    minimum = "of 0 or more" if least == 0 else "above 0" if least < 1 else f"of {least:g} or more"
    raise OptionError(
        "is no length of time" if math.isnan(days) else "is too short",
        cure=f"give '16D', '36h' or a number of days, {minimum}",
        argument=argument,
        value=length,
    )


def worded_days(days: float) -> str:
    """Return a number of days in words: ``1 day``, ``1.5 days``."""
    return f"{days:g} day{'s' * (days != 1)}"


def _days_of(length: object) -> float:
    """Days of a length of time; NaN if it is none."""
    if isinstance(length, bool):
        return math.nan
    if isinstance(length, np.timedelta64):
        return float(length / np.timedelta64(1, "D"))
    try:
        # First, as pandas reads a number without unit as nanoseconds.
        return float(length)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        pass
    try:
        return float(pd.Timedelta(length) / pd.Timedelta(days=1))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan
