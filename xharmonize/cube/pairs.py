"""Match observations of the same area by two sensors within a few days."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from xharmonize.cube.contract import (
    REFLECTANCE,
    TIME_COORDS,
    read_coordinate,
    require_reflectance,
    select_bands,
    with_history,
)
from xharmonize.cube.dates import solar_days
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import require_same_grid
from xharmonize.errors import BandError, ContractError, OptionError, TimeAxisError
from xharmonize.types import IntArray

SAME_PASS = np.timedelta64(1, "h")
"""Steps of one platform closer than this are one observation (rows of a pass, reprocessings)."""


def match_pairs(
    source: xr.DataArray | xr.Dataset,
    target: xr.DataArray | xr.Dataset,
    *,
    tolerance: str | pd.Timedelta = "2D",
    bands: Literal["common", "all"] = "common",
) -> xr.Dataset:
    """Pair the dates of two cubes, closest in time first, using each date at most once.

    All pairs within `tolerance` are sorted by time gap, then by target date, source date and item
    id; each is kept unless one of its dates is already paired. Time steps of one platform less
    than an hour apart are one observation: only the first, by time and item id, is used (mosaic
    them first to use all).

    Parameters
    ----------
    source, target : (time, band, y, x) DataArray, or Dataset with ``reflectance``
        Reflectance [1] on the same grid, NaN where missing. Companions are dropped.
    tolerance : str or Timedelta
        Largest time gap, inclusive, in pandas notation (``"2D"``, ``"36h"``). A whole number of
        days is compared with the difference in solar days: ``"2D"`` pairs observations at 10:40
        and 10:55 two days apart.
    bands : {"common", "all"}
        ``common``: bands in both cubes. ``all``: all bands of the target along ``band``, and of
        the source along ``source_band``.

    Returns
    -------
    Dataset
        Lazy ``source`` and ``target`` (pair, band, y, x), with bands in the target's order and
        pairs sorted by target time. Along ``pair``: ``time_source``, ``time_target``, ``gap``
        (source minus target [days]) and both contracts (``platform_source``, …). Dates are matched
        by time only, so a pair may be all NaN.

    Raises
    ------
    GridError
        If the grids differ.
    BandError
        If the cubes have no band in common.
    TimeAxisError
        If no two dates are within `tolerance`.
    """
    source, target = at_door(source), at_door(target)
    if bands not in ("common", "all"):
        raise OptionError(
            "is unknown", cure="choose 'common' or 'all'", argument="bands", value=bands
        )
    one, other = _reflectance(source), _reflectance(target)
    require_same_grid(one, other, what="match_pairs")
    if bands == "common":
        names = _common_bands(one, other)
        one, other = select_bands(one, names), select_bands(other, names)
    chosen = _pair_up(one, other, _tolerance(tolerance))
    taken = _taken(one, chosen[:, 0], "source")
    wanted = _taken(other, chosen[:, 1], "target")
    if bands == "all":
        taken = taken.rename(band="source_band")
    taken = taken.assign_coords(y=wanted["y"], x=wanted["x"])
    gap = (taken["time_source"].values - wanted["time_target"].values) / np.timedelta64(1, "D")
    pairs = xr.merge([taken, wanted], compat="override", combine_attrs="override")
    meaning = {"long_name": "source time minus target time", "units": "days"}
    pairs = pairs.assign_coords(gap=("pair", gap, meaning), pair=np.arange(len(gap)))
    return pairs.assign_attrs(with_history({}, f"match_pairs: tolerance {tolerance}"))


def _reflectance(cube: xr.DataArray | xr.Dataset) -> xr.DataArray:
    if isinstance(cube, xr.Dataset):
        if REFLECTANCE not in cube:
            raise ContractError(
                "the Dataset has no variable 'reflectance'",
                cure=f"it has {sorted(map(str, cube.data_vars))}",
            )
        cube = cube[REFLECTANCE]
    require_reflectance(cube)
    return cube


def _common_bands(source: xr.DataArray, target: xr.DataArray) -> list[str]:
    """Bands of both cubes, in the target's order."""
    names = [str(band) for band in target["band"].values if band in source["band"].values]
    if not names:
        raise BandError(
            f"no band is in both cubes: {source['band'].values.tolist()} and "
            f"{target['band'].values.tolist()}"
        )
    return names


def _tolerance(tolerance: str | pd.Timedelta) -> np.timedelta64:
    try:
        length = pd.Timedelta(tolerance)
    except ValueError as error:
        raise TimeAxisError(
            "is not a length of time",
            cure="write it as '2D' or '36h'",
            argument="tolerance",
            value=tolerance,
        ) from error
    if not length >= pd.Timedelta(0):
        raise TimeAxisError(
            "is negative", cure="give a length such as '2D'", argument="tolerance", value=tolerance
        )
    found: np.timedelta64 = length.to_timedelta64()
    return found


def _pair_up(source: xr.DataArray, target: xr.DataArray, tolerance: np.timedelta64) -> IntArray:
    """Step numbers (source, target) of the pairs, in order of target time."""
    observations, wanted = _observations(source), _observations(target)
    when, target_when = source["time"].values, target["time"].values
    ids, target_ids = read_coordinate(source, "item_id"), read_coordinate(target, "item_id")
    gaps = np.abs(when[:, None] - target_when[None, :])
    is_near = gaps <= tolerance
    if tolerance % np.timedelta64(1, "D") == np.timedelta64(0):
        days = np.abs(solar_days(source)[:, None] - solar_days(target)[None, :])
        is_near = days <= tolerance // np.timedelta64(1, "D")
    candidates = sorted(
        (gaps[i, j], target_when[j], when[i], target_ids[j], ids[i], i, j)
        for i in observations
        for j in wanted
        if is_near[i, j]
    )
    if not candidates:
        nearest = f", the nearest are {_days(gaps.min())} apart" if gaps.size else ""
        raise TimeAxisError(
            f"no two dates lie within {pd.Timedelta(tolerance)}{nearest}", cure="raise tolerance="
        )
    free, free_target = set(observations), set(wanted)
    pairs: list[tuple[int, int]] = []
    for *_, i, j in candidates:
        if i in free and j in free_target:
            pairs.append((i, j))
            free.remove(i)
            free_target.remove(j)
    pairs.sort(key=lambda pair: (target_when[pair[1]], target_ids[pair[1]]))
    return np.array(pairs, np.int64)


def _observations(cube: xr.DataArray) -> list[int]:
    """Time steps to use: the first of each pass."""
    names = {name: read_coordinate(cube, name) for name in ("sensor", "platform", "item_id")}
    when = cube["time"].values
    order = sorted(range(when.size), key=lambda i: (when[i], str(names["item_id"][i])))
    last: dict[tuple[str, str], np.datetime64] = {}
    observations = []
    for i in order:
        key = (str(names["sensor"][i]), str(names["platform"][i]))
        if key not in last or when[i] - last[key] >= SAME_PASS:
            observations.append(i)
            last[key] = when[i]
    return observations


def _taken(cube: xr.DataArray, steps: IntArray, name: str) -> xr.Dataset:
    """The chosen steps of one cube as a variable along `pair`, its contract renamed."""
    part = cube.isel(time=steps)
    keep = {"time", "band", "y", "x", "spatial_ref"}
    bare = part.drop_vars([n for n in part.coords if n not in keep]).drop_vars("time")
    along: dict[str, Any] = {
        f"{n}_{name}": ("time", read_coordinate(part, n)) for n in ("time", *TIME_COORDS)
    }
    return bare.assign_coords(along).rename(time="pair").to_dataset(name=name)


def _days(gap: np.timedelta64) -> str:
    return f"{gap / np.timedelta64(1, 'D'):.1f} days"
