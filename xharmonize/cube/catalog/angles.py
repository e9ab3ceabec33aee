"""Mean sun and view angles of a STAC item."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from xharmonize.cube.catalog.fields import as_number, name_of
from xharmonize.sensors.names import normalize_platform, platform_in
from xharmonize.sensors.registry import all_sensors

ANGLES = ("sun_zenith", "sun_azimuth", "view_zenith", "view_azimuth")
"""Coordinates along time that hold them [degree]."""

ATTRIBUTES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        name: {
            "units": "degree",
            "standard_name": f"{who}_{name.rpartition('_')[2]}_angle",
            "long_name": name.replace("_", " "),
        }
        for name, who in zip(ANGLES, ("solar", "solar", "sensor", "sensor"))
    }
)
"""Units and CF standard names of the angles."""

_KEYS = {
    "sun_zenith": ("s2:mean_solar_zenith",),
    "sun_azimuth": ("view:sun_azimuth", "s2:mean_solar_azimuth"),
    "view_zenith": ("view:incidence_angle",),  # the view zenith at the ground
    "view_azimuth": ("view:azimuth",),
}


def angles_of_item(item: Mapping[str, Any]) -> dict[str, float]:
    """Return the mean angles [degree] that an item states (STAC view extension).

    Where an item has no incidence angle, its ``view:off_nadir`` stands in: seen from 700 to 800 km
    it is the smaller by an eighth. Not so where it says where the platform points: for Landsat,
    whose items are whole swaths, seen from -7.5 to 7.5 degrees, and wherever it is 0.

    Parameters
    ----------
    item : mapping
        As `xharmonize.cube.catalog.items.normalize_item` returns it.

    Returns
    -------
    dict of str to float
        By the names of `ANGLES`; NaN where the item does not say.

    Raises
    ------
    CatalogError
        If an angle is no number.
    """
    found = {name: _first(item, keys) for name, keys in _KEYS.items()}
    elevation = _first(item, ("view:sun_elevation",))
    if not np.isnan(elevation):
        found["sun_zenith"] = 90.0 - elevation
    off_nadir = _first(item, ("view:off_nadir",))
    if np.isnan(found["view_zenith"]) and off_nadir > 0 and not _is_aim(item):
        found["view_zenith"] = off_nadir
    return found


def _is_aim(item: Mapping[str, Any]) -> bool:
    """Tell whether the off-nadir angle is where the platform points, by who observed the item."""
    properties = item["properties"]
    constellation = str(properties.get("constellation") or "").lower()
    platform = normalize_platform(str(properties.get("platform") or constellation))
    who = {constellation, platform, platform_in([str(item["id"])])} - {""}
    for sensor in all_sensors():
        family = sensor.names.platform.partition("{")[0]
        known = {sensor.constellation, *sensor.platforms}
        is_its = known & who or any(family and name.startswith(family) for name in who)
        if sensor.names.is_aim_off_nadir and is_its:
            return True
    return False


def _first(item: Mapping[str, Any], keys: tuple[str, ...]) -> float:
    for key in keys:
        value = item["properties"].get(key)
        if value is None:
            continue
        return as_number(
            value, f"{name_of(item)}: properties > {key}", wanted="an angle in degrees"
        )
    return np.nan
