"""The calendar of composites and of regular output: periods that every year shares."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np

from xharmonize.errors import TimeAxisError
from xharmonize.types import IntArray

LONGEST = 366
"""Longest period of days: every year begins anew."""

PERIODS = f"a number of days up to '{LONGEST}D' such as '10D', or 'dekad', 'month' or 'year'"


def periods_of(first: int, last: int, period: str, *, name: str) -> list[tuple[int, int]]:
    """First and last day of the periods that hold the days from `first` to `last`.

    Parameters
    ----------
    first, last : int
        Days since 1970-01-01, both included.
    period : str
        ``"10D"`` and the like: days counted anew from every 1 January, the last period of a year
        cut short; ``"dekad"``: to the 10th, the 20th and the end of the month; ``"month"``;
        ``"year"``.
    name : str
        Of the argument, for the message.

    Raises
    ------
    TimeAxisError
        If `period` is unknown.
    """
    ends = np.array([first, last]).astype("datetime64[D]").astype("datetime64[Y]")
    low, high = ends.astype(np.int64).tolist()
    years = [_day(np.datetime64(year, "Y")) for year in range(low, high + 2)]
    starts = [day for b, e in pairwise(years) for day in _starts_in_year(b, e, period, name)]
    found = [(start, after - 1) for start, after in pairwise([*starts, years[-1]])]
    return [(start, end) for start, end in found if end >= first and start <= last]


def middle_of(first: int, last: int) -> int:
    """Middle day of a period, the earlier of two: the date it goes by."""
    return (first + last) // 2


def middles_of(days: IntArray, period: str, *, name: str) -> IntArray:
    """Middle days of the periods that hold the days, empty ones among them."""
    found = periods_of(int(days.min()), int(days.max()), period, name=name)
    return np.array([middle_of(*one) for one in found], np.int64)


def _starts_in_year(begin: int, end: int, period: str, name: str) -> list[int]:
    if period == "year":
        return [begin]
    if period in ("month", "dekad"):
        year = np.datetime64(begin, "D").astype("datetime64[M]")
        months = [_day(year + k) for k in range(12)]
        return [m + d for m in months for d in ((0,) if period == "month" else (0, 10, 20))]
    found = re.fullmatch(r"(\d{1,4})D", str(period), re.ASCII)
    if found is None or not 1 <= int(found[1]) <= LONGEST:
        raise TimeAxisError(f"{name}={period!r}; give {PERIODS}")
    return list(range(begin, end, int(found[1])))


def _day(date: np.datetime64) -> int:
    return int(date.astype("datetime64[D]").astype(np.int64))
