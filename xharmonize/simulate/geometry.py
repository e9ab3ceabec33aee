"""Where the sun stands, and how reflectance depends on the directions of sun and view.

References
----------
Spencer (1971), Fourier series representation of the position of the sun, Search 2(5), 172
Roujean et al. (1992), A bidirectional reflectance model of the Earth's surface,
https://doi.org/10.1029/92JD01411
Wanner et al. (1995), On the derivation of kernels for kernel-driven models,
https://doi.org/10.1029/95JD02371
Roy et al. (2016), A general method to normalize Landsat reflectance data to nadir BRDF adjusted
reflectance, https://doi.org/10.1016/j.rse.2016.01.023
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from xharmonize.simulate.config import Pass
from xharmonize.simulate.spectra import ENDMEMBERS
from xharmonize.types import Float64Array

_KERNEL_WAVELENGTH = (490.0, 560.0, 660.0, 705.0, 740.0, 783.0, 850.0, 1610.0, 2200.0)
_ISOTROPIC = (0.0774, 0.1306, 0.1690, 0.2085, 0.2316, 0.2599, 0.3093, 0.3430, 0.2658)
_VOLUME = (0.0372, 0.0580, 0.0574, 0.0845, 0.1003, 0.1197, 0.1535, 0.1154, 0.0639)
_GEOMETRIC = (0.0079, 0.0178, 0.0227, 0.0256, 0.0273, 0.0294, 0.0330, 0.0453, 0.0387)

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


def ross_thick(sun: float, view: float, azimuth: float) -> float:
    """Volume-scattering kernel; angles [rad], relative azimuth 0 is backscatter."""
    cosine = np.cos(sun) * np.cos(view) + np.sin(sun) * np.sin(view) * np.cos(azimuth)
    phase = np.arccos(np.clip(cosine, -1, 1))
    top = (np.pi / 2 - phase) * np.cos(phase) + np.sin(phase)
    return float(top / (np.cos(sun) + np.cos(view)) - np.pi / 4)


def li_sparse(sun: float, view: float, azimuth: float) -> float:
    """Reciprocal geometric-optical kernel with h/b = 2 and b/r = 1; angles [rad]."""
    cosine = np.cos(sun) * np.cos(view) + np.sin(sun) * np.sin(view) * np.cos(azimuth)
    secants = 1 / np.cos(sun) + 1 / np.cos(view)
    a, b = np.tan(sun), np.tan(view)
    distance = a**2 + b**2 - 2 * a * b * np.cos(azimuth)
    overlap = 2 * np.sqrt(distance + (a * b * np.sin(azimuth)) ** 2) / secants
    t = np.arccos(np.clip(overlap, -1, 1))
    shared = (t - np.sin(t) * np.cos(t)) * secants / np.pi
    return float(shared - secants + (1 + cosine) / (2 * np.cos(sun) * np.cos(view)))


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
    sun, view = np.radians([angles.sun_zenith, angles.view_zenith])
    azimuth = np.radians(angles.view_azimuth - angles.sun_azimuth)
    iso, vol, geo = (
        np.interp(centers, _KERNEL_WAVELENGTH, table) for table in (_ISOTROPIC, _VOLUME, _GEOMETRIC)
    )
    seen = iso + vol * ross_thick(sun, view, azimuth) + geo * li_sparse(sun, view, azimuth)
    nadir = iso + vol * ross_thick(sun, 0.0, 0.0) + geo * li_sparse(sun, 0.0, 0.0)
    strength = np.array([_ANISOTROPY.get(name, 1.0) for name in ENDMEMBERS])
    return np.asarray(1 + strength[:, None] * (seen / nadir - 1)[None, :], np.float64)
