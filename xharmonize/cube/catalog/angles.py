"""Mean sun and view angles of a STAC item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xharmonize.cube.catalog.fields import as_number

ANGLES = ("sun_zenith", "sun_azimuth", "view_zenith", "view_azimuth")
"""Coordinates along time that hold them [degree]."""

_KEYS = {
    "sun_zenith": ("s2:mean_solar_zenith",),
    "sun_azimuth": ("view:sun_azimuth", "s2:mean_solar_azimuth"),
    # The incidence angle is the view zenith at the ground. Where only the angle off nadir is
    # given it stands in; seen from 700 to 800 km it is the smaller by an eighth.
    "view_zenith": ("view:incidence_angle", "view:off_nadir"),
    "view_azimuth": ("view:azimuth",),
}


def angles_of_item(properties: Mapping[str, Any], where: str = "properties") -> dict[str, float]:
    """Return the angles [degree] in the properties of an item (STAC view extension).

    Parameters
    ----------
    properties : mapping
    where : str
        The item, for messages.

    Returns
    -------
    dict of str to float
        By the names of `ANGLES`; NaN where the item does not say.

    Raises
    ------
    CatalogError
        If one is no number.
    """
    elevation = properties.get("view:sun_elevation")
    found = {name: _first(properties, keys, where) for name, keys in _KEYS.items()}
    if elevation is not None:
        found["sun_zenith"] = 90.0 - as_number(elevation, f"{where} > view:sun_elevation")
    return found


def _first(properties: Mapping[str, Any], keys: tuple[str, ...], where: str) -> float:
    there = (key for key in keys if properties.get(key) is not None)
    return next((as_number(properties[key], f"{where} > {key}") for key in there), np.nan)
