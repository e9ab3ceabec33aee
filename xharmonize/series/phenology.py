"""Phenology: when seasons start, peak and end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.contract import with_history
from xharmonize.cube.dates import duration_in_days
from xharmonize.cube.door import at_door
from xharmonize.errors import BandError, OptionError, TimeAxisError
from xharmonize.kernels import phenology as kernels
from xharmonize.series import axis
from xharmonize.types import AnyArray, Duration, FloatArray, IntArray

PhenologyMethod: TypeAlias = Literal["threshold", "derivative"]

DATES = {
    "start": (kernels.START, "start of the season"),
    "peak": (kernels.PEAK, "day of the highest value"),
    "end": (kernels.END, "end of the season"),
}
NUMBERS = {
    "base": (kernels.BASE, "mean of the lowest values before and after the peak"),
    "peak_value": (kernels.TOP, "highest value"),
    "amplitude": (kernels.AMPLITUDE, "highest value over the base"),
}

CUT_MEANINGS = ("none", "start", "end", "both")
"""Meanings of the values of `cut`, from 0."""


@dataclass(frozen=True)
class _Rules:
    """Arguments of the kernel."""

    order: tuple[int, ...]
    days: tuple[int, ...]
    windows: tuple[tuple[int, int], ...]
    threshold: float
    by_derivative: bool
    reach: float
    min_amplitude: float

    def __call__(self, values: AnyArray) -> FloatArray:
        shape = values.shape
        series = np.ascontiguousarray(values.reshape(shape[0], -1)[list(self.order)].T)
        found: FloatArray = kernels.seasons(
            series.astype(np.float32, copy=False),
            np.array(self.days, np.float64),
            np.array(self.windows, np.float64).reshape(-1, 2),
            self.threshold,
            self.by_derivative,
            self.reach,
            self.min_amplitude,
        )
        return found.reshape(*found.shape[:2], *shape[1:])


def phenology(
    cube: xr.DataArray | xr.Dataset,
    *,
    method: PhenologyMethod = "threshold",
    threshold: float = 0.2,
    year_start: str = "01-01",
    reach: Duration = 240.0,
    min_amplitude: float = 0.1,
) -> xr.Dataset:
    """Find the start, peak and end of one season per year, lazily.

    The season of a year is that of the highest peak between two year starts; it may start in the
    year before and end in the year after. A peak is a value above its two neighbours, which must
    both be known: a series that begins or ends at its maximum has no season there. A start or end
    is reported only if its trough is observed: at least four weeks of it (its height within 5 % of
    the rise) before the series ends or a gap begins, or a rise beyond it. Otherwise that date is
    NaT and `cut` says so. Smooth the series first: NaN means unknown, and seasons are not
    inferred across it. If the cube has `qa`, values flagged as snow count as NaN.

    Parameters
    ----------
    cube : DataArray or Dataset
        One index (time, y, x) from `smooth`, best with ``step="1D"``; NaN where unknown.
    method : {"threshold", "derivative"}
        ``threshold``: the season starts where the series rises through the lowest value before the
        peak plus `threshold` times the rise, and ends likewise; the series is interpolated linearly
        between dates. ``derivative``: it starts and ends where the series rises and falls fastest.
    threshold : float
        Fraction of the rise [1], between 0 and 1.
    year_start : str
        Month and day at which years start, such as ``"07-01"`` if seasons peak around New Year.
    reach : str or number
        Maximum time from the peak to the lowest values before and after it, such as ``"240D"`` or
        240 [day].
    min_amplitude : float
        Minimum height of the peak above the base, in the unit of the index. Series that vary less
        have no season.

    Returns
    -------
    Dataset
        Along ``year`` (that of the year start) and the cube's other dimensions: `start`, `peak`
        and `end`, datetime64[ns] at midnight of the nearest day, NaT where unknown
        (``result.start.dt.dayofyear`` runs to 366 in leap years); `length` [day] from start to end;
        `base`, `peak_value` and `amplitude` in the unit of the index, NaN where unknown; `cut`,
        uint8 with CF ``flag_values`` and ``flag_meanings``, which tells what is cut off by the
        ends of the series or by gaps: 0 none, 1 start, 2 end, 3 both.

    Raises
    ------
    TimeAxisError
        If there are fewer than 3 days, a day occurs twice, or `year_start` is not a date.
    OptionError
        If another argument has an invalid value.
    BandError
        If the cube has bands.

    References
    ----------
    Jönsson and Eklundh 2004, doi:10.1016/j.cageo.2004.05.006.
    """
    cube = at_door(cube)
    _require_options(method, threshold)
    reach = duration_in_days(reach, argument="reach")
    _, values = axis.split_quantity(cube, what="phenology")
    if "band" in values.dims:
        raise BandError(
            "phenology needs one index, the cube has bands",
            cure="compute one first, for instance with cube.harmonize.index('ndvi')",
        )
    whole = axis.whole_series(values.transpose("time", ...))
    order, days = _axis(whole)
    years, windows = _years(days, year_start)
    rules = _Rules(
        order=tuple(order.tolist()),
        days=tuple(days.tolist()),
        windows=windows,
        threshold=threshold,
        by_derivative=method == "derivative",
        reach=reach,
        min_amplitude=float(min_amplitude),
    )
    snow = axis.is_snow(cube, whole)
    data = whole.data if snow is None else whole.where(~xr.Variable(whole.dims, snow)).data
    found = _apply(rules, data)
    line = f"phenology: {method}, years from {year_start}"
    return _described(found, whole, years, with_history(values.attrs, line))


def _require_options(method: str, threshold: float) -> None:
    if method not in ("threshold", "derivative"):
        raise OptionError(
            "", cure="choose 'threshold' or 'derivative'", argument="method", value=method
        )
    if not 0 < threshold < 1:
        raise OptionError(
            cure="give a share of the rise between 0 and 1", argument="threshold", value=threshold
        )


def _axis(values: xr.DataArray) -> tuple[IntArray, IntArray]:
    days = axis.days_of(values)
    order = np.argsort(days, kind="stable")
    days = days[order]
    if days.size < 3:
        raise TimeAxisError(f"phenology needs at least 3 days, the cube has {days.size}")
    twice = np.flatnonzero(np.diff(days) == 0)
    if twice.size:
        day = days[twice[0]].astype("datetime64[D]")
        raise TimeAxisError(
            f"{day} occurs twice",
            cure="phenology needs one value a day: smooth the series first with "
            "cube.harmonize.smooth(step='1D')",
        )
    return order, days


def _years(days: IntArray, year_start: str) -> tuple[list[int], tuple[tuple[int, int], ...]]:
    """Years whose window contains a date, and these windows."""
    if re.fullmatch(r"\d\d-\d\d", year_start) is None or year_start == "02-29":
        raise TimeAxisError(
            "",
            cure="give month and day of every year, such as '07-01'",
            argument="year_start",
            value=year_start,
        )
    ends = days[[0, -1]].astype("datetime64[D]").astype("datetime64[Y]").astype(np.int64) + 1970
    years, windows = [], []
    for year in range(int(ends[0]) - 1, int(ends[1]) + 1):
        first, after = (_start_of(y, year_start) for y in (year, year + 1))
        if ((days >= first) & (days < after)).any():
            years.append(year)
            windows.append((first, after))
    return years, tuple(windows)


def _start_of(year: int, year_start: str) -> int:
    try:
        return int(np.datetime64(f"{year}-{year_start}", "D").astype(np.int64))
    except ValueError:
        raise TimeAxisError(
            "is no day of a year", argument="year_start", value=year_start
        ) from None


def _apply(rules: _Rules, data: Any) -> Any:
    """Stack (7, year, ...) of the kernel's results."""
    return map_blocks(
        rules,
        "t...->kt...",
        data,
        new={"k": 7},
        sizes={"t": len(rules.windows)},
        whole="t",
        dtype=np.float64,
        name="phenology",
    )


def _described(
    found: Any, values: xr.DataArray, years: list[int], attrs: dict[str, Any]
) -> xr.Dataset:
    dims = ("year", *values.dims[1:])
    result = xr.Dataset(coords=axis.without_time(values)).assign_coords(year=years)
    for name, (place, long_name) in DATES.items():
        result[name] = (dims, _to_dates(found[place]), {"long_name": long_name})
    length = (found[kernels.END] - found[kernels.START]).astype(np.float32)
    result["length"] = (dims, length, {"units": "days", "long_name": "end minus start"})
    units = str(attrs.get("units", "1"))
    for name, (place, long_name) in NUMBERS.items():
        described = {"units": units, "long_name": long_name}
        result[name] = (dims, found[place].astype(np.float32), described)
    result["cut"] = (dims, found[kernels.CUT].astype(np.uint8), _cut_attrs())
    return result.assign_attrs({n: attrs[n] for n in ("history", "references") if n in attrs})


def _cut_attrs() -> dict[str, Any]:
    return {
        "long_name": "which side of the season is cut off",
        "flag_values": np.arange(len(CUT_MEANINGS), dtype=np.uint8),
        "flag_meanings": " ".join(CUT_MEANINGS),
    }


def _to_dates(days: Any) -> Any:
    """Convert days since 1970-01-01 (NaN if unknown) to datetime64[ns] of the nearest day."""
    return map_blocks(
        axis.nearest_days, "...->...", days, dtype="datetime64[ns]", name="phenology-dates"
    )
