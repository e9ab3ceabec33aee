"""Where the sun stands, and how reflectance depends on the directions of sun and view.

References
----------
Spencer (1971), Fourier series representation of the position of the sun, Search 2(5), 172
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from xharmonize.kernels.brdf import li_sparse_r, ross_thick
from xharmonize.sensors.brdf import C_FACTOR
from xharmonize.simulate.config import Pass
from xharmonize.simulate.spectra import ENDMEMBERS
from xharmonize.types import Float64Array

_CENTERS = {
    "blue": 490.0,
    "green": 560.0,
    "red": 660.0,
    "rededge1": 705.0,
    "rededge2": 740.0,
    "rededge3": 783.0,
    "nir08": 850.0,
    "swir16": 1610.0,
    "swir22": 2200.0,
}
"""Wavelengths [nm] between which the global kernel weights are interpolated."""

_ANISOTROPY = {
    "forest_leaf": 1.35,
    "clear_water": 0.0,
    "turbid_water": 0.0,
    "asphalt": 0.5,
    "concrete": 0.6,
    "tile_roof": 0.5,
    "metal_roof": 0.3,
    "dark_soil": 0.8,
    "bright_soil": 0.8,
    "straw": 1.15,
}
"""Departure from an isotropic surface relative to the global mean; 1 where not listed."""


@dataclass(frozen=True, kw_only=True)
class Angles:
    """Directions towards sun and sensor [degrees], azimuths clockwise from north."""

    sun_zenith: float
    sun_azimuth: float
    view_zenith: float
    view_azimuth: float


def lon_lat(x: float, y: float, crs: str) -> tuple[float, float]:
    """Return longitude and latitude [degrees] of a point in a CRS."""
    lon, lat = _transformer(crs).transform(x, y)
    return float(lon), float(lat)


@lru_cache(maxsize=8)
def _transformer(crs: str) -> Any:
    from pyproj import Transformer

    return Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)


def sun_position(time: np.datetime64, lon: float, lat: float) -> tuple[float, float]:
    """Return zenith and azimuth of the sun [degrees], to about a quarter of a degree."""
    day = time.astype("datetime64[D]")
    year = time.astype("datetime64[Y]").astype("datetime64[D]")
    hour = float((time - day) / np.timedelta64(1, "s")) / 3600.0
    g = 2 * np.pi / 365.25 * (float((day - year).astype(int)) + (hour - 12) / 24)
    waves = np.array([1, np.cos(g), np.sin(g), np.cos(2 * g), np.sin(2 * g)])
    minutes = 229.18 * waves @ [0.000075, 0.001868, -0.032077, -0.014615, -0.040849]
    declination = waves @ [0.006918, -0.399912, 0.070257, -0.006758, 0.000907]
    angle = np.radians(15 * (hour + minutes / 60 - 12) + lon)
    phi = np.radians(lat)
    up = np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(angle)
    east = -np.cos(declination) * np.sin(angle)
    north = np.cos(phi) * np.sin(declination) - np.sin(phi) * np.cos(declination) * np.cos(angle)
    return float(np.degrees(np.arccos(up))), float(np.degrees(np.arctan2(east, north)) % 360)


def pass_angles(acquisition: Pass, x: float, y: float, crs: str) -> Angles:
    """Return the directions of a pass at a point."""
    zenith, azimuth = sun_position(acquisition.time, *lon_lat(x, y, crs))
    orbit = acquisition.orbit
    return Angles(
        sun_zenith=zenith,
        sun_azimuth=azimuth,
        view_zenith=orbit.view_zenith,
        view_azimuth=orbit.view_azimuth,
    )


def anisotropy(angles: Angles, centers: tuple[float, ...]) -> Float64Array:
    """Return reflectance seen over reflectance at nadir, per endmember and band.

    Parameters
    ----------
    centers : tuple of float
        Centre wavelengths of the bands [nm].

    Returns
    -------
    (endmember, band) float64 array
        Factor [1]; 1 for water.
    """
    sun, view = angles.sun_zenith, angles.view_zenith
    azimuth = angles.view_azimuth - angles.sun_azimuth
    weights = [C_FACTOR[name] for name in _CENTERS]
    iso, vol, geo = (
        np.interp(centers, list(_CENTERS.values()), [getattr(row, name) for row in weights])
        for name in ("iso", "vol", "geo")
    )
    seen = iso + vol * ross_thick(sun, view, azimuth) + geo * li_sparse_r(sun, view, azimuth)
    nadir = iso + vol * ross_thick(sun, 0.0, 0.0) + geo * li_sparse_r(sun, 0.0, 0.0)
    strength = np.array([_ANISOTROPY.get(name, 1.0) for name in ENDMEMBERS])
    return np.asarray(1 + strength[:, None] * (seen / nadir - 1)[None, :], np.float64)
