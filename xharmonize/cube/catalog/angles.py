"""Mean sun and view angles of a STAC item."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from xharmonize.cube.catalog.fields import as_number, name_of
from xharmonize.cube.catalog.identity import normalize_platform

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
_LANDSAT = re.compile(r"^L[COTEM]0?[1-9](?=_|\d{6})")


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
    if np.isnan(found["view_zenith"]) and off_nadir > 0 and not _is_landsat(item):
        found["view_zenith"] = off_nadir
    return found


def _is_landsat(item: Mapping[str, Any]) -> bool:
    properties = item["properties"]
    named = (
        normalize_platform(str(properties.get(k) or "")) for k in ("platform", "constellation")
    )
    return (
        any(name.startswith("landsat") for name in named)
        or str(properties.get("constellation") or "").lower() == "landsat"
        or bool(_LANDSAT.match(str(item["id"])))
    )


def _first(item: Mapping[str, Any], keys: tuple[str, ...]) -> float:
    for key in keys:
        value = item["properties"].get(key)
        if value is None:
            continue
        return as_number(
            value, f"{name_of(item)}: properties > {key}", wanted="an angle in degrees"
        )
    return np.nan
