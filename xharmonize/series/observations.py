"""Observations: outliers that masks missed, and how often a place is observed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.companions import ResultFlag, blank_missing, companions_of, with_flags
from xharmonize.cube.contract import with_history
from xharmonize.cube.dates import duration_in_days
from xharmonize.cube.door import at_door
from xharmonize.errors import OptionError, TimeAxisError
from xharmonize.kernels import observations as kernels
from xharmonize.kernels.observations import gaps
from xharmonize.sensors import Names
from xharmonize.series import axis
from xharmonize.series.axis import known_sensors, observed_values
from xharmonize.types import AnyArray, BoolArray, Duration, FloatArray, IntArray

Direction: TypeAlias = Literal["both", "below", "above"]

SIGNS: dict[str, int] = {"both": 0, "below": -1, "above": 1}
MAX_ROUNDS = 5


@dataclass(frozen=True)
class _Rules:
    """Arguments of the kernel; `batches` hold dates in order of time, one observation a day."""

    batches: tuple[tuple[int, ...], ...]
    days: tuple[int, ...]
    threshold: float
    min_departure: float
    max_gap: float
    direction: int
    has_band: bool

    def __call__(self, values: AnyArray) -> BoolArray:
        """Find outliers in a block (time, [band], ...), common to all bands of an observation."""
        shape = values.shape
        series = np.ascontiguousarray(values.reshape(shape[0], -1), np.float32)
        found = np.zeros(series.shape, bool)
        judged: set[int] = set()
        for batch in self.batches:
            chosen = list(batch)
            spikes = kernels.spikes(
                np.ascontiguousarray(series[chosen]),
                np.array([self.days[i] for i in chosen], np.float64),
                self.threshold,
                self.min_departure,
                self.max_gap,
                self.direction,
                MAX_ROUNDS,
            )
            for i, is_spike in zip(chosen, spikes):
                if i not in judged:  # judge first observations once, among first observations
                    found[i] = is_spike
            judged.update(chosen)
        result = found.reshape(shape)
        return result.any(axis=1, keepdims=True) & np.isfinite(values) if self.has_band else result


def screen_outliers(
    cube: xr.DataArray | xr.Dataset,
    *,
    threshold: float = 4.0,
    min_departure: float = 0.1,
    max_gap: Duration = 60.0,
    direction: Direction = "both",
    mask: bool = True,
) -> Any:
    """Find values that deviate from their neighbours in time, and mask or flag them, lazily.

    Each value is compared with the straight line between the valid values before and after it, on
    true day spacing. It is an outlier if it departs from this line by more than a limit: the larger
    of `min_departure` and `threshold` robust standard deviations of the pixel's series (1.4826
    times the median absolute departure). It must also lie beyond both neighbours, by half the limit
    and half its departure, which keeps the shoulders of a step such as a harvest. Two consecutive
    values are outliers if both lie beyond both of their neighbours by the limit, and these
    neighbours are at most 16 days apart and agree within half the limit. Outliers are removed and
    the rest is screened again, up to five times. An observation that is an outlier in one band is
    an outlier in all bands. Several observations of one day are screened separately, each with the
    first observations of the other days.

    A drop that recovers by the next observation cannot be distinguished from a cloud: mown grass
    that is observed only once while short loses that observation.

    Parameters
    ----------
    cube : DataArray or Dataset
        Any quantity along `time`; NaN where missing. Dates may be in any order.
    threshold : float
        Threshold in robust standard deviations.
    min_departure : float
        Minimum departure, in the unit of the values.
    max_gap : str or number
        Maximum time between the two neighbours, such as ``"60D"`` or 60 [day]. Values in longer
        gaps, and the first and last of a pixel, are not screened and stay.
    direction : {"both", "below", "above"}
        Which departures count; clouds lie ``below`` in NDVI.
    mask : bool
        Whether outliers become NaN. If False, values stay and outliers are only flagged.

    Returns
    -------
    DataArray or Dataset
        The same type as `cube`, except that ``mask=False`` returns a Dataset. A Dataset has bit
        ``outlier`` set in its companion `flag`, and `origin` 0 where a value was masked.

    Raises
    ------
    TimeAxisError
        If there are fewer than 3 days.
    OptionError
        If an argument has an invalid value.

    References
    ----------
    Leys et al. 2013 (median absolute deviation), doi:10.1016/j.jesp.2013.03.013.
    """
    cube = at_door(cube)
    _require_options(threshold, min_departure, direction)
    max_gap = duration_in_days(max_gap, argument="max_gap")
    name, values = axis.split_quantity(cube, what="screen_outliers")
    has_band = "band" in values.dims
    lead = ["time", "band"] if has_band else ["time"]
    whole = axis.whole_series(values.transpose(*lead, ...), whole=lead)
    days = axis.days_of(whole)
    rules = _Rules(
        batches=_batches(days),
        days=tuple(days.tolist()),
        threshold=float(threshold),
        min_departure=float(min_departure),
        max_gap=max_gap,
        direction=SIGNS[direction],
        has_band=has_band,
    )
    # Variables: xarray would compute lazy coordinates to compare those of two arrays.
    found = map_blocks(rules, "...->...", whole.data, dtype=bool, name="screen-outliers")
    outlier = xr.Variable(whole.dims, found).transpose(*values.dims)
    kept = (values.where(~outlier) if mask else values).rename(values.name)
    verb = "masked" if mask else "flagged"
    line = f"screen_outliers: {verb} beyond {threshold:g} robust standard deviations, {direction}"
    kept.attrs = with_history(values.attrs, line)
    if isinstance(cube, xr.DataArray) and mask:
        return kept
    given = cube if isinstance(cube, xr.Dataset) else xr.Dataset()
    return _with_flags(given, kept, outlier, name, mask=mask)


def _require_options(threshold: float, min_departure: float, direction: str) -> None:
    if not threshold > 0:
        raise OptionError(cure="give a number above 0", argument="threshold", value=threshold)
    if not min_departure >= 0:
        raise OptionError(
            cure="give a number of 0 or more", argument="min_departure", value=min_departure
        )
    if direction not in SIGNS:
        raise OptionError(
            "", cure=f"choose {', '.join(map(repr, SIGNS))}", argument="direction", value=direction
        )


def _batches(days: Any) -> tuple[tuple[int, ...], ...]:
    """Dates in order of time, one observation a day: first the first ones, then further ones."""
    order = np.argsort(days, kind="stable")
    by_day: dict[int, list[int]] = {}
    for i in order.tolist():
        by_day.setdefault(int(days[i]), []).append(i)
    if len(by_day) < 3:
        raise TimeAxisError(f"screen_outliers needs at least 3 days, the cube has {len(by_day)}")
    depth = max(len(found) for found in by_day.values())
    return tuple(
        tuple(found[k] if k < len(found) else found[0] for found in by_day.values())
        for k in range(depth)
    )


def _with_flags(
    cube: xr.Dataset, values: xr.DataArray, outlier: xr.Variable, name: str, *, mask: bool
) -> xr.Dataset:
    """Return the values with the cube's companions and the outlier bit in `flag`."""
    bits = outlier.astype(np.uint8) * np.uint8(ResultFlag.OUTLIER)
    layers = {n: cube[n] for n in companions_of(cube)}
    layers["flag"] = with_flags(cube.get("flag"), values.copy(data=bits.data))
    if mask:
        layers = blank_missing(layers, values)
    return values.to_dataset(name=name).assign(layers).assign_attrs(cube.attrs)


ALL = "all"
"""Label for all sensors together."""


def frequency(
    cube: xr.DataArray | xr.Dataset, *, fractions: Sequence[float] = (0.0, 0.5, 0.8, 0.9)
) -> xr.Dataset:
    """Count scenes per month by their fraction of valid pixels, and map revisit and gaps, lazily.

    Observations of one sensor on one day form one scene, valid where any of them is valid, so that
    adjacent rows of one pass count once. An observation merged from several sensors counts for
    each of them. For all sensors together, a day counts once, whichever sensors observed it. Days
    are solar days if the cube is georeferenced, UTC days otherwise. An observation is valid where
    all its bands are valid. Filled values of a smoothed series (see `origin`) are not valid.

    Parameters
    ----------
    cube : DataArray or Dataset
        A masked series along `time`, with the coordinate `sensor`; NaN where missing.
    fractions : sequence of float
        Fractions of valid pixels, from 0 to below 1; a scene counts at each that its own
        exceeds.

    Returns
    -------
    Dataset
        Along ``sensor`` (those of the cube, then ``"all"``): `scenes` (sensor, month, fraction),
        number of days; `ratio`, scenes of all sensors divided by those of this one, NaN if it has
        none; `n_valid` (sensor, y, x), number of valid days; `revisit`, mean time [day] between
        consecutive valid days, NaN for fewer than two; `longest_gap`, longest time [day] without a
        valid day between the first and last date of the cube, the whole period if there is none.

    Raises
    ------
    ContractError
        If the cube does not state the sensor of its dates, or was smoothed and has no `origin`.
    TimeAxisError
        If there are no dates.
    OptionError
        If one is not a fraction.

    References
    ----------
    Li and Roy 2017 (revisit of Sentinel-2 and Landsat), doi:10.3390/rs9090902.
    """
    cube = at_door(cube)
    wrong = [one for one in fractions if not 0 <= one < 1]
    if wrong or not fractions:
        raise OptionError(
            cure="give fractions from 0 to below 1", argument="fractions", value=tuple(fractions)
        )
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
        counts.append(_scenes(seen, own_days, months, np.array(fractions, float)))
        maps.append(_gap_maps(seen, own_days, int(days.min()), int(days.max())))
    return _described(values, names, months, fractions, counts, maps)


def _valid(values: xr.DataArray) -> Any:
    """Whether each observation is valid, (time, ...), with all dates in one block."""
    bands = [dim for dim in ("band",) if dim in values.dims]
    lead = ["time", *bands]
    whole = axis.whole_series(values.transpose(*lead, ...), whole=lead)
    valid = np.isfinite(whole.data)
    return valid.all(axis=1) if bands else valid


def _months(days: IntArray) -> AnyArray:
    """First day of each month from the first date to the last."""
    ends = np.array([days.min(), days.max()]).astype("datetime64[D]").astype("datetime64[M]")
    return np.arange(ends[0], ends[1] + 1)


def _seen(valid: Any, dates: IntArray, day_of: IntArray, n_days: int) -> Any:
    """Whether each pixel has a valid observation on each day (day, ...)."""
    observations = [dates[day_of == k] for k in range(n_days)]
    if all(len(found) == 1 for found in observations):
        return valid[np.concatenate(observations)]
    return np.stack([valid[found].any(axis=0) for found in observations])


def _scenes(seen: Any, days: IntArray, months: AnyArray, fractions: FloatArray) -> Any:
    """Number of days (month, fraction) on which more than each fraction of the pixels is valid."""
    share = seen.mean(axis=tuple(range(1, seen.ndim))) if seen.ndim > 1 else seen.astype(float)
    counts = (share[:, None] > fractions).astype(np.int64)
    month_of = days.astype("datetime64[D]").astype("datetime64[M]")
    membership = (months[:, None] == month_of).astype(np.int64)
    return map_blocks(
        np.matmul, "md,dl->ml", membership, counts, whole="l", dtype=np.int64, name="frequency"
    )


def _gap_maps(seen: Any, days: IntArray, first: int, last: int) -> Any:
    """Number of valid days, mean and longest time between them (3, ...)."""
    return map_blocks(
        partial(_gaps_block, days=tuple(days.tolist()), first=first, last=last),
        "t...->t...",
        seen,
        sizes={"t": 3},
        whole="t",
        dtype=np.float32,
        name="frequency",
    )


def _gaps_block(seen: AnyArray, *, days: tuple[int, ...], first: int, last: int) -> FloatArray:
    flat = np.ascontiguousarray(seen.reshape(seen.shape[0], -1))
    found: FloatArray = gaps(flat, np.array(days, np.float64), float(first), float(last))
    return found.reshape(3, *seen.shape[1:])


def _described(
    values: xr.DataArray,
    names: list[str],
    months: AnyArray,
    fractions: Sequence[float],
    counts: list[Any],
    maps: list[Any],
) -> xr.Dataset:
    scenes, mapped = np.stack(counts), np.stack(maps)
    place = tuple(dim for dim in values.dims if dim not in ("time", "band"))
    coords = {n: c for n, c in axis.without_time(values).items() if "band" not in c.dims}
    result = xr.Dataset(coords=coords).assign_coords(
        sensor=names, month=months.astype("datetime64[ns]"), fraction=list(map(float, fractions))
    )
    dims = ("sensor", "month", "fraction")
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
