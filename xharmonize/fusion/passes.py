"""Sentinel-1 beside the dates of another cube: the nearest pass, or a mean of passes around it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.contract import main_layer, require_bands, require_contract, select_bands
from xharmonize.cube.door import at_door
from xharmonize.cube.radar import require_radar, to_decibels, to_power, tracks_of
from xharmonize.cube.regrid import geobox_of, is_same_grid, regrid
from xharmonize.cube.whole import days_of, whole_series
from xharmonize.errors import ContractError, TimeAxisError
from xharmonize.types import AnyArray, BoolArray, FloatArray, IntArray

POLARISATIONS = ("vv", "vh")
OFFSET = "sentinel1_offset"
OFFSET_ATTRS = {"long_name": "time of the nearest Sentinel-1 pass minus time", "units": "days"}

DECAY = 8.0
"""Standard deviation [day] of the weights that passes around a date have."""

MIN_PASSES = 5
"""Passes of a track that its mean level is known from."""


def read_radar(sentinel1: Any, *, what: str) -> xr.DataArray:
    """Return VV and VH of a Sentinel-1 cube, as they came.

    Raises
    ------
    ContractError, RadiometryError, BandError
        If it is no cube, of another sensor, or lacks a polarisation.
    """
    if not isinstance(sentinel1, xr.DataArray | xr.Dataset):
        raise ContractError(
            f"{what} needs Sentinel-1",
            cure="give it, such as sentinel1=xh.open_stac(..., collection='sentinel-1-rtc', "
            "mask=None)",
        )
    array = main_layer(at_door(sentinel1), what=what)
    require_contract(array)
    require_radar(array)
    require_bands(array, POLARISATIONS, what=what)
    return select_bands(array, POLARISATIONS)


def nearest_passes(
    radar: xr.DataArray, cube: xr.DataArray, times: AnyArray, days: AnyArray, *, tolerance: float
) -> xr.DataArray:
    """Return the nearest pass for each of `times`, of one track, along the dates of a cube.

    The track is that with most passes: two tracks look from different angles, and what differs
    between them is no change of the ground.

    Parameters
    ----------
    radar : (time, band, y, x) DataArray
        From `read_radar`; it keeps its grid and its unit.
    cube : DataArray
        Whose ``time`` the result has.
    times, days : (time,) array
        When each pass is wanted: moments, and days since 1970-01-01.
    tolerance : float
        Longest time to a pass [day]; NaN where it is farther.

    Raises
    ------
    TimeAxisError
        If no date has a pass.
    """
    tracks = tracks_of(radar)
    names, counts = np.unique(tracks, return_counts=True)
    track = str(names[counts.argmax()])
    steps = _nearest(radar, np.flatnonzero(tracks == track), days, tolerance)
    taken = radar.isel(time=np.maximum(steps, 0))
    passes = taken["time"].values.astype("datetime64[ns]")
    passes[steps < 0] = np.datetime64("NaT")
    if (steps < 0).any():
        taken = taken.where(xr.DataArray(steps >= 0, dims="time")).transpose(*radar.dims)
    coords = {"time": cube["time"].values, "reference_time": ("time", passes)}
    taken = taken.assign_coords(coords | _offset(radar, times, steps))
    return taken.assign_attrs(tracks=track)


def mean_passes(radar: xr.DataArray, cube: xr.DataArray, *, tolerance: float) -> xr.DataArray:
    """Return the mean backscatter [dB] around each date of a cube, on its grid, lazily.

    Tracks look from different angles: what a pixel has more in one than in all is taken off each
    pass first. Then passes are averaged with Gaussian weights in time (`DECAY`), which lessens
    speckle and the rain of single days; those farther than 3 `DECAY` count only where none is
    nearer. Dates without a pass within `tolerance` are NaN.

    Parameters
    ----------
    radar : (time, band, y, x) DataArray
        From `read_radar`.
    cube : (time, band, y, x) DataArray
        Reflectance.
    tolerance : float
        Longest time to the nearest pass [day].

    Raises
    ------
    TimeAxisError
        If no date has a pass.
    """
    names, number, counts = np.unique(tracks_of(radar), return_inverse=True, return_counts=True)
    used = np.flatnonzero(counts[number] >= min(MIN_PASSES, counts.max()))
    days, own = days_of(cube), days_of(radar)[used]
    steps = _nearest(radar, used, days, tolerance)
    power = to_power(radar.isel(time=used))
    if not is_same_grid(geobox_of(power), geobox_of(cube)):
        power = regrid(power, like=cube)
    away = np.abs(own[None, :] - days[:, None])
    nearest = away.min(axis=1, keepdims=True)
    counts = (away <= np.maximum(3 * DECAY, nearest)) & (steps >= 0)[:, None]
    # Relative to the nearest pass: far from all, weights would vanish.
    weights = counts * np.exp(0.5 * (np.square(nearest / DECAY) - np.square(away / DECAY)))
    data = map_blocks(
        partial(_mean, groups=tuple(number[used].tolist())),
        "sbyx,ts->tbyx",
        whole_series(to_decibels(power)).data,
        weights.astype(np.float32),
        dtype=np.float32,
        name="mean-passes",
    )
    kept = [n for n in ("time", "y", "x", "spatial_ref") if n in cube.coords]
    coords: dict[Any, Any] = {name: cube[name] for name in kept} | {"band": list(POLARISATIONS)}
    result = xr.DataArray(data, dims=("time", "band", "y", "x"), coords=coords)
    result = result.assign_coords(_offset(radar, cube["time"].values, steps))
    return result.assign_attrs(units="dB", tracks=", ".join(names[np.unique(number[used])]))


def _nearest(radar: xr.DataArray, used: IntArray, days: AnyArray, tolerance: float) -> IntArray:
    """Step of the pass nearest to each day, the earlier of two; -1 where none is near."""
    own = days_of(radar)[used]
    used = used[np.argsort(own, kind="stable")]
    away = np.abs(np.sort(own)[None, :] - days[:, None])
    if away.min() > tolerance:
        raise TimeAxisError(
            f"no date has a Sentinel-1 pass within {tolerance:g} days, the nearest is "
            f"{away.min()} days away",
            cure="give Sentinel-1 of the same months, or a longer max_offset=",
        )
    return np.where(away.min(axis=1) <= tolerance, used[away.argmin(axis=1)], -1)


def _offset(radar: xr.DataArray, times: AnyArray, steps: IntArray) -> dict[str, Any]:
    """The coordinate `OFFSET` of the passes chosen for `times`; NaN where there is none."""
    gaps = (radar["time"].values[np.maximum(steps, 0)] - times) / np.timedelta64(1, "D")
    return {OFFSET: ("time", np.where(steps < 0, np.nan, gaps), OFFSET_ATTRS)}


def _mean(decibels: FloatArray, weights: FloatArray, *, groups: tuple[int, ...]) -> FloatArray:
    """Weighted means (time, band, ...) of passes (pass, band, ...), tracks brought to one level.

    Sums are added pass by pass: those of a matrix product depend on how many pixels a block has.
    """
    moved, valid, number = decibels.copy(), np.isfinite(decibels), np.array(groups)
    level = _level(decibels, valid)
    for group in np.unique(number):
        own = number == group
        moved[own] += level - _level(decibels[own], valid[own])
    moved[~valid] = 0
    result = np.full((len(weights), *decibels.shape[1:]), np.nan, np.float32)
    for t, row in enumerate(weights):
        total, share = np.zeros((2, *decibels.shape[1:]), np.float32)
        for s in np.flatnonzero(row):
            total += row[s] * moved[s]
            share += row[s] * valid[s]
        np.divide(total, share, out=result[t], where=share > 0)
    return result


def _level(decibels: FloatArray, valid: BoolArray) -> FloatArray:
    """Mean over the passes of a track; 0 where none is valid."""
    total = np.where(valid, decibels, 0).sum(axis=0)
    return np.asarray(total / np.maximum(valid.sum(axis=0), 1), np.float32)
