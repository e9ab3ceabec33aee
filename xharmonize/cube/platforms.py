"""Settle the platform of time steps whose metadata don't name one.

Sentinel-2A and 2B share an orbit, half a revolution apart: 143 revolutions in 10 days (ESA,
Sentinel-2 Products Specification Document, "repeat cycle"). The time of a node crossing, modulo a
revolution of 10 d / 143, therefore stays the same for years for each of them, and differs by half
a revolution between the two. Sensing time and latitude give the node crossing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from xharmonize.errors import (
    RadiometryError,
    RadiometryWarning,
    UnknownSensorError,
    suggest,
    warn,
)
from xharmonize.sensors import get_sensor
from xharmonize.sensors.registry import normalize_platform
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.types import Float64Array

PlatformChoice: TypeAlias = str | Mapping[Any, str]
"""A platform, ``"infer"``, ``"sentinel-2"``, or a mapping by item id or date."""

MEAN_PLATFORM = "sentinel-2"
"""Stands for the mean of Sentinel-2A and 2B where nobody knows which of them flew."""

_REVOLUTION = np.timedelta64(10 * 86_400 * 10**9 // 143, "ns")
_INCLINATION = 98.62  # [degrees] ESA, Sentinel-2 orbit
_EPOCH = np.datetime64("2000-01-01T00:00:00", "ns")
_PHASE_2A = 0.167  # [revolutions] of tiles sensed by 2A; labelled items give 0.166 to 0.169
_EARLIEST, _LATEST = -0.35, 0.06  # [revolutions] a datatake may start that long before its tile
_FIRST_2B = np.datetime64("2017-03-07", "ns")  # launch of Sentinel-2B (ESA)
_FIRST_2C = np.datetime64("2024-09-05", "ns")  # launch of Sentinel-2C (ESA)
_HIGHEST_LATITUDE = 72.0  # [degrees] beyond, ascending and descending tracks are both imaged


def settle_platform(
    choice: PlatformChoice | None,
    *,
    platforms: Sequence[str],
    sensors: Sequence[str],
    times: npt.ArrayLike,
    item_ids: Sequence[str],
    latitudes: npt.ArrayLike,
) -> list[str]:
    """Return the platform of each time step, with unknown ones filled by the user's choice.

    Parameters
    ----------
    choice : str or mapping, optional
        A platform name fills unknown steps of the sensors on that platform. ``"infer"`` tells
        Sentinel-2A from 2B by orbit phase, with a warning. ``"sentinel-2"`` is the mean of both. A
        mapping by item id, or by date (``"2018-07-15"``, datetime64), sets individual steps and
        overrides the metadata. None changes nothing.
    platforms, sensors, item_ids : sequence of str
        Contract coordinates along time.
    times : (time,) datetime64 array
        Sensing times [UTC].
    latitudes : (time,) or scalar float array
        Latitude of the scene centres [degrees]; used only by ``"infer"``.

    Returns
    -------
    list of str
        Platform along time; ``"unknown"`` if no rule applies.

    Raises
    ------
    UnknownSensorError
        If a name is not a platform of any of the sensors.
    RadiometryError
        If ``"infer"`` is used for dates other than those when only 2A and 2B flew, near the poles,
        or where the phase matches neither.

    Warns
    -----
    RadiometryWarning
        If platforms were inferred, or a mapping contradicts the metadata.
    """
    settled = [str(name) for name in platforms]
    moments = np.atleast_1d(np.asarray(times, "datetime64[ns]"))
    if choice is None:
        return settled
    if not isinstance(choice, str | Mapping):
        raise RadiometryError(
            "is neither a name nor a mapping",
            cure="name dates one by one with "
            "platform={'2018-07-15': 'sentinel-2a', ...} or by item id",
            argument="platform",
            value=choice,
        )
    if not isinstance(choice, str):
        return _settle_by_mapping(choice, settled, sensors, moments, item_ids)
    open_steps = [i for i, name in enumerate(settled) if name == UNKNOWN]
    if choice == "infer":
        return _settle_by_phase(settled, sensors, moments, item_ids, latitudes)
    name = _checked(choice, sensors)
    for i in open_steps:
        settled[i] = name if _flies(name, sensors[i]) else UNKNOWN
    return settled


def worded_choice(choice: PlatformChoice) -> str:
    """Return what the user settled, for the history."""
    if isinstance(choice, str):
        inferred = " (from the phase of the orbit)" if choice == "infer" else ""
        return f"platform={choice!r}{inferred} where none is stated"
    return f"platform of {len(choice)} dates or items named"


def infer_sentinel2(times: npt.ArrayLike, latitudes: npt.ArrayLike) -> list[str]:
    """Infer ``sentinel-2a``, ``sentinel-2b`` or ``"unknown"`` from the phase of the orbit.

    Parameters
    ----------
    times : (n,) datetime64 array
        Sensing times of tiles, or start times of their datatakes [UTC].
    latitudes : (n,) float array
        Latitude of the tile centres [degrees].

    Returns
    -------
    list of str
        ``"unknown"`` if the phase matches neither, the latitude is beyond 72 degrees, Sentinel-2C
        may have flown, or the time is exactly midnight: a date without time, whose phase would
        give a random platform.
    """
    moments = np.atleast_1d(np.asarray(times, "datetime64[ns]"))
    degrees = np.broadcast_to(np.asarray(latitudes, float), moments.shape)
    phase = orbit_phase(moments, degrees)
    usable = (np.abs(degrees) <= _HIGHEST_LATITUDE) & (moments < _FIRST_2C)
    usable &= moments != moments.astype("datetime64[D]")
    is_2a = usable & _within(phase - _PHASE_2A)
    is_2b = usable & _within(phase - _PHASE_2A - 0.5) & (moments >= _FIRST_2B)
    names = np.where(is_2a, "sentinel-2a", np.where(is_2b, "sentinel-2b", UNKNOWN))
    return [str(name) for name in names]


def orbit_phase(times: npt.ArrayLike, latitudes: npt.ArrayLike) -> Float64Array:
    """Return the time of the descending node, modulo a revolution of Sentinel-2 [revolutions].

    Parameters
    ----------
    times : (n,) datetime64 array
        Sensing times [UTC].
    latitudes : (n,) float array
        Latitude [degrees].
    """
    since = np.asarray(times, "datetime64[ns]") - _EPOCH
    fraction = (since % _REVOLUTION) / _REVOLUTION
    ratio = np.sin(np.radians(np.asarray(latitudes, float))) / np.sin(np.radians(_INCLINATION))
    ahead = np.arcsin(np.clip(ratio, -1, 1)) / (2 * np.pi)  # of the node, on the way south
    return np.asarray((fraction + ahead) % 1, np.float64)


def _within(lag: Float64Array) -> npt.NDArray[np.bool_]:
    return np.asarray((lag - _EARLIEST) % 1 <= _LATEST - _EARLIEST)


def _settle_by_phase(
    settled: list[str],
    sensors: Sequence[str],
    moments: npt.NDArray[np.datetime64],
    item_ids: Sequence[str],
    latitudes: npt.ArrayLike,
) -> list[str]:
    degrees = np.broadcast_to(np.asarray(latitudes, float), moments.shape)
    asked = [i for i, n in enumerate(settled) if n == UNKNOWN and _flies("sentinel-2a", sensors[i])]
    if not asked:
        return settled
    found = infer_sentinel2(moments[asked], degrees[asked])
    failed = [(i, name) for i, name in zip(asked, found) if name == UNKNOWN]
    if failed:
        first = failed[0][0]
        raise RadiometryError(
            f"platform='infer' cannot tell Sentinel-2A from 2B for {len(failed)} of {len(asked)} "
            f"items, the first {item_ids[first]!r} ({str(moments[first])[:19]}, latitude "
            f"{degrees[first]:.1f}): it holds between the launches of 2A and 2C "
            "(2015 to 2024-09-05), up to 72 degrees, and for sensing times, not bare dates",
            cure=f"name the platform with platform={{{item_ids[first]!r}: 'sentinel-2a'}}",
        )
    for i, name in zip(asked, found):
        settled[i] = name
    n_2a = found.count("sentinel-2a")
    warn(
        f"the platform of {len(asked)} Sentinel-2 items was inferred from the phase of the orbit: "
        f"{n_2a} sentinel-2a, {len(asked) - n_2a} sentinel-2b",
        RadiometryWarning,
    )
    return settled


def _settle_by_mapping(
    choice: Mapping[Any, str],
    settled: list[str],
    sensors: Sequence[str],
    moments: npt.NDArray[np.datetime64],
    item_ids: Sequence[str],
) -> list[str]:
    by_id = {key: name for key, name in choice.items() if isinstance(key, str) and key in item_ids}
    by_day = _by_day({key: name for key, name in choice.items() if key not in by_id})
    if not by_id and not by_day:
        raise RadiometryError(
            f"platform= has the keys {list(choice)[:3]}, which are neither dates nor item ids of "
            "the items at hand",
            cure=f"their ids are {list(item_ids[:3])}{' ...' if len(item_ids) > 3 else ''}",
        )
    changed = []
    for i, item_id in enumerate(item_ids):
        name = by_id.get(item_id) or by_day.get(str(moments[i])[:10])
        if name is None:
            continue
        name = _checked(name, [sensors[i]])
        if settled[i] not in (UNKNOWN, name):
            changed.append(f"{item_id!r} ({settled[i]} → {name})")
        settled[i] = name
    if changed:
        warn(
            f"platform= contradicts the metadata of {', '.join(changed[:3])}"
            f"{' and more' if len(changed) > 3 else ''}; platform= was followed",
            RadiometryWarning,
        )
    return settled


def _by_day(choice: Mapping[Any, str]) -> dict[str, str]:
    """Return the entries whose key is a date; others may be ids of items that are not at hand."""
    days = {}
    for key, name in choice.items():
        try:
            days[str(np.datetime64(key, "D"))] = name
        except (ValueError, TypeError):
            continue
    return days


def _checked(choice: str, sensors: Sequence[str]) -> str:
    """Return the STAC name of a platform that at least one of the sensors flies on."""
    name = MEAN_PLATFORM if choice.lower() == MEAN_PLATFORM else normalize_platform(choice)
    if any(_flies(name, sensor) for sensor in set(sensors)):
        return name
    flown = sorted({p for s in set(sensors) if s != UNKNOWN for p in get_sensor(s).platforms})
    raise UnknownSensorError(
        f"no platform {choice!r} for {sorted(set(sensors))}",
        cure=f"{suggest(choice, flown)}"
        f"give one of {flown}, 'sentinel-2' for the mean of 2A and 2B, or 'infer'",
        value=choice,
    )


def _flies(platform: str, sensor: str) -> bool:
    if sensor == UNKNOWN:
        return False
    product = get_sensor(sensor)
    if platform == MEAN_PLATFORM:
        return "sentinel-2a" in product.platforms
    return platform in product.platforms
