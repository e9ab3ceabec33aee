"""Which date of another cube goes with each date of a cube: nearest clear, before, after.

`find_references` chooses, `take_references` brings the chosen dates to the time axis of the first
cube. Between the two stands an ordinary Dataset, which can be looked at, saved and passed on.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from xharmonize.cube.contract import main_layer, read_coordinate, with_history
from xharmonize.cube.dates import (
    duration_in_days,
    require_any_date,
    require_dates,
    worded_days,
)
from xharmonize.cube.door import at_door
from xharmonize.cube.pairs import (
    SAME_PASS,
    as_cube,
    collect_pairs,
    gaps_between,
    merge_passes,
    source_groups,
    target_of,
)
from xharmonize.cube.screening import Screening, screen_alone, screen_dates
from xharmonize.errors import ContractError, OptionError, TimeAxisError, require_fraction
from xharmonize.harmonizers.beside import REFERENCE_GAP, REFERENCE_TIME
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.types import AnyArray, BoolArray, Duration, IntArray

Rule: TypeAlias = Literal["nearest", "before", "after"]
"""Which clear date is taken: the nearest in time, the last up to a date, or the first after it."""

SAME_GROUND = 4.0
"""Days within which two sensors see the same ground, for screening; as in `collect_pairs`."""

GAP_ATTRS = {"long_name": "time of the reference minus time", "units": "days"}

_ITEM = "reference_item_id"


def find_references(
    cube: xr.DataArray | xr.Dataset,
    other: xr.DataArray | xr.Dataset | None = None,
    *,
    rule: Rule = "nearest",
    tolerance: Duration = "32D",
    min_valid: float = 0.8,
    max_score: float | None = 2.0,
) -> xr.Dataset:
    """Find the clear date of another cube that goes with each date of a cube.

    Dates of `other` are screened as `xharmonize.collect_pairs` does, which **reads a sample** of
    two bands of both cubes (up to 256 × 256 pixels a date) and computes at once: which date is
    chosen depends on how clear it is. With ``max_score=None`` only `other` is read, and with
    ``min_valid=0`` beside it nothing at all. Steps of one pass are one date; where its rows
    overlap, the first valid pixel counts. A date of `other` may be chosen for any number of dates.

    Parameters
    ----------
    cube : (time, band, y, x) DataArray, or Dataset with ``reflectance``
        Whose dates need a reference. It may be cloudy.
    other : (time, band, y, x) DataArray or Dataset, optional
        Where the references are looked for, on any grid, with any bands; NaN where missing. By
        default `cube` itself: each date then gets another of its dates.
    rule : {"nearest", "before", "after"}
        The nearest date; the last up to and including the date; or the first after it.
    tolerance : str, number or Timedelta
        Largest gap, inclusive; a whole number of days is counted in solar days.
    min_valid : float
        Minimum valid fraction of a reference [1].
    max_score : float, optional
        Largest outlier score of a reference; see `xharmonize.collect_pairs`.

    Returns
    -------
    Dataset
        Along ``time``, one entry a date of `cube`, in its order: ``reference_time`` (NaT where
        there is none), ``reference_gap`` (reference minus date [day], NaN), ``reference_item_id``
        (``"unknown"``); and, where dates were screened, ``clear_fraction`` and ``outlier_score``
        [1] of the reference.

    Raises
    ------
    TimeAxisError
        If no date of `other` is clear enough, or none lies within `tolerance` of any date.
    OptionError
        If an option has a value that it cannot have.
    """
    limits = _limits(rule, tolerance, min_valid, max_score)
    array = main_layer(at_door(cube), what="find_references")
    wanted = array if other is None else main_layer(at_door(other), what="find_references")
    for part in (array, wanted):
        _require_described(part)
    wanted = merge_passes(wanted)
    screened = _screened(array, wanted, limits, alone=other is None)
    usable = np.ones(wanted.sizes["time"], bool)
    if screened is not None:
        usable = screened.usable(min_valid, max_score)
    if not usable.any():
        raise TimeAxisError(
            "no date is clear enough to be a reference", cure="lower min_valid=, raise max_score="
        )
    gaps, is_near = gaps_between(wanted, array, limits["tolerance"])
    is_other = np.abs(gaps) >= SAME_PASS if other is None else np.ones_like(is_near)
    steps = _chosen(wanted, gaps, is_near, is_other & usable[:, None], rule)
    found = _described(array, wanted, steps)
    if screened is not None:
        for name in ("clear_fraction", "outlier_score"):
            values = np.where(steps >= 0, getattr(screened, name)[steps], np.nan)
            found[name] = ("time", values, {"units": "1"})
    return found.assign_attrs(with_history({}, _worded("find_references", limits)))


def find_pair_references(
    cube: xr.DataArray | xr.Dataset,
    fine: xr.DataArray | xr.Dataset,
    *,
    rule: Rule = "nearest",
    tolerance: Duration = "32D",
    pair_tolerance: Duration = "2D",
    min_valid: float = 0.8,
    max_score: float | None = 2.0,
) -> tuple[xr.Dataset, xr.Dataset]:
    """Find the clear pair of coarse and fine dates that goes with each date of the coarse cube.

    Both cubes are screened and paired by `xharmonize.collect_pairs`, which reads a sample of both
    and computes; the pair is then chosen by the time of its fine date, as `find_references` does.

    Parameters
    ----------
    cube, fine : (time, band, y, x) DataArray, or Dataset with ``reflectance``
        Reflectance [1] of the coarse and the fine sensor, NaN where missing.
    pair_tolerance : str, number or Timedelta
        Largest gap within a pair.
    rule, tolerance, min_valid, max_score
        See `find_references`.

    Returns
    -------
    coarse, fine : Dataset
        As `find_references` gives, of the coarse and the fine date of the pair.

    Raises
    ------
    TimeAxisError
        If there is no clear pair, or none lies within `tolerance` of any date.
    """
    limits = _limits(rule, tolerance, min_valid, max_score)
    array = main_layer(at_door(cube), what="find_pair_references")
    pairs = collect_pairs(
        array, fine, tolerance=pair_tolerance, min_valid=min_valid, max_score=max_score
    )
    near = as_cube(target_of(pairs))
    partner = as_cube(next(iter(source_groups(pairs).values())))
    gaps, is_near = gaps_between(near, array, limits["tolerance"])
    steps = _chosen(near, gaps, is_near, np.ones_like(is_near), rule)
    attrs = with_history({}, _worded("find_pair_references", limits))
    coarse, other = (_described(array, side, steps) for side in (partner, near))
    return coarse.assign_attrs(attrs), other.assign_attrs(attrs)


def take_references(other: xr.DataArray | xr.Dataset, found: xr.Dataset) -> xr.DataArray:
    """Bring the chosen dates of a cube to the time axis of another, lazily.

    Parameters
    ----------
    other : (time, band, y, x) DataArray, or Dataset with ``reflectance``
        The cube that the references were found in.
    found : Dataset
        From `find_references` or `find_pair_references`.

    Returns
    -------
    (time, band, y, x) DataArray
        The references on their own grid, with their own contract, along the ``time`` of the dates
        that they go with, and with the coordinates ``reference_time`` and ``reference_gap``
        (reference minus date [day]). Dates without a reference are NaN.

    Raises
    ------
    TimeAxisError
        If `other` lacks a date that was found.
    ContractError
        If `found` holds no references.
    """
    _require_found(found)
    array = merge_passes(main_layer(at_door(other), what="take_references"))
    steps = _steps_of(array, found)
    taken = array.isel(time=np.maximum(steps, 0))
    lacks = steps < 0
    if lacks.any():
        there = xr.DataArray(~lacks, dims="time")
        taken = taken.where(there).transpose(*array.dims)
        ids = np.where(lacks, UNKNOWN, read_coordinate(taken, "item_id").astype(str))
        taken = taken.assign_coords(item_id=("time", ids))
    taken = taken.assign_coords(time=found["time"].values)
    return with_reference(taken, found[REFERENCE_TIME].values, found[REFERENCE_GAP].values)


def with_reference(cube: xr.DataArray, times: AnyArray, gaps: AnyArray) -> xr.DataArray:
    """Say of a cube on the dates of another when it was observed, and how far away [day]."""
    return cube.assign_coords(
        {REFERENCE_TIME: ("time", times), REFERENCE_GAP: ("time", gaps, GAP_ATTRS)}
    )


def _limits(
    rule: Any, tolerance: Duration, min_valid: float, max_score: float | None
) -> dict[str, Any]:
    """The checked options, the tolerance in days."""
    if rule not in ("nearest", "before", "after"):
        raise OptionError(
            "is unknown", cure="choose 'nearest', 'before' or 'after'", argument="rule", value=rule
        )
    require_fraction(min_valid, argument="min_valid")
    if max_score is not None and not max_score > 0:
        raise OptionError(
            cure="give a number above 0, or None", argument="max_score", value=max_score
        )
    longest = duration_in_days(tolerance, argument="tolerance", least=0)
    return {"rule": rule, "tolerance": longest, "min_valid": min_valid, "max_score": max_score}


def _worded(name: str, limits: dict[str, Any]) -> str:
    return (
        f"{name}: {limits['rule']}, tolerance {worded_days(limits['tolerance'])}, "
        f"min_valid {limits['min_valid']:g}, max_score {limits['max_score']}"
    )


def _require_described(part: xr.DataArray) -> None:
    require_dates(part, what="find_references")
    require_any_date(part)
    lost = [name for name in ("sensor", "platform", "item_id") if name not in part.coords]
    if lost:
        raise ContractError(
            f"the cube does not say what its dates are: coordinates {lost} are missing",
            cure="settle them with xh.describe(cube, sensor=..., platform=...)",
        )


def _screened(
    cube: xr.DataArray, other: xr.DataArray, limits: dict[str, Any], *, alone: bool
) -> Screening | None:
    """How clear the dates of `other` are; None if nobody asks."""
    min_valid, max_score = limits["min_valid"], limits["max_score"]
    if min_valid == 0 and max_score is None:
        return None
    if alone or max_score is None:
        return screen_alone(other, min_valid=min_valid)
    return screen_dates(cube, other, min_valid=min_valid, tolerance=SAME_GROUND)[1]


def _chosen(
    other: xr.DataArray, gaps: AnyArray, is_near: BoolArray, usable: BoolArray, rule: Rule
) -> IntArray:
    """Step of `other` for each date of the cube; -1 where there is none.

    Parameters
    ----------
    gaps, is_near, usable : (other, time) array
        Reference minus date, whether that is tolerated, and whether it may be a reference.
    """
    zero = np.timedelta64(0, "ns")
    side = {"nearest": np.ones_like(is_near), "before": gaps <= zero, "after": gaps > zero}[rule]
    ok = is_near & side & usable
    if gaps.shape[1] and not ok.any():
        near = np.abs(gaps)[side & usable]
        told = f", the nearest is {near.min() / np.timedelta64(1, 'D'):.1f} days away"
        raise TimeAxisError(
            f"no date has a clear reference {'near' if rule == 'nearest' else rule} it within "
            f"the tolerance{told if near.size else ''}",
            cure="raise tolerance=",
        )
    ids, times = read_coordinate(other, "item_id").astype(str), other["time"].values
    order = np.lexsort([ids, times])  # of equal gaps the earlier
    distance = np.where(ok, np.abs(gaps), np.timedelta64(2**62, "ns"))[order]
    return np.where(ok.any(axis=0), order[np.argmin(distance, axis=0)], -1)


def _described(cube: xr.DataArray, other: xr.DataArray, steps: IntArray) -> xr.Dataset:
    """What was chosen, along the dates of the cube."""
    lacks, at = steps < 0, np.maximum(steps, 0)
    times = other["time"].values[at].astype("datetime64[ns]")
    times[lacks] = np.datetime64("NaT")
    gaps = (times - cube["time"].values) / np.timedelta64(1, "D")  # NaN of NaT
    ids = np.where(lacks, UNKNOWN, read_coordinate(other, "item_id").astype(str)[at])
    return xr.Dataset(
        {
            REFERENCE_TIME: ("time", times),
            REFERENCE_GAP: ("time", gaps, GAP_ATTRS),
            _ITEM: ("time", ids),
        },
        coords={"time": cube["time"].values},
    )


def _require_found(found: Any) -> None:
    wanted = {REFERENCE_TIME, REFERENCE_GAP, _ITEM}
    if not isinstance(found, xr.Dataset) or not wanted <= {str(n) for n in found.variables}:
        raise ContractError(
            "these are no references",
            cure="find them with xharmonize.fusion.find_references(cube, other)",
        )


def _steps_of(array: xr.DataArray, found: xr.Dataset) -> IntArray:
    """Step of each reference in a cube; -1 where there is none."""
    times = array["time"].values.astype("datetime64[ns]").tolist()
    ids = read_coordinate(array, "item_id").astype(str).tolist()
    known = {key: step for step, key in reversed([*enumerate(zip(times, ids))])}
    wanted = found[REFERENCE_TIME].values.astype("datetime64[ns]")
    lacks = np.isnat(wanted)
    keys = zip(wanted.tolist(), found[_ITEM].values.astype(str).tolist())
    steps = [-1 if lack else known.get(key) for key, lack in zip(keys, lacks)]
    absent = [i for i, step in enumerate(steps) if step is None]
    if absent:
        day = np.datetime_as_string(wanted[absent[0]], unit="s")
        raise TimeAxisError(
            f"the cube has no date {day}, which was found as a reference",
            cure="take references from the cube that they were found in",
        )
    return np.array(steps, np.int64)
