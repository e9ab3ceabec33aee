"""Light on slopes, cast shadows and sun glint on water.

References
----------
Sandmeier and Itten (1997), A physically-based model to correct atmospheric and illumination
effects in optical satellite data of rugged terrain, https://doi.org/10.1109/36.581991
Richter and Schläpfer, ATCOR theoretical background, lower bound of the correction factor;
CNES MAJA parameter ``Slope_Min_Cos_I`` = 0.20
Cox and Munk (1954), Measurement of the roughness of the sea surface from photographs of the Sun's
glitter, https://doi.org/10.1364/JOSA.44.000838
Harmel et al. (2018), Sunglint correction of the Multi-Spectral Instrument (MSI)-SENTINEL-2 imagery
over inland and sea waters, https://doi.org/10.1016/j.rse.2017.10.022
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from xharmonize.simulate.atmosphere import aerosol_load, direct_share, make_optics
from xharmonize.simulate.config import Pass, Simulation
from xharmonize.simulate.imaging import Angles
from xharmonize.simulate.landscape import Landscape, elevation
from xharmonize.simulate.noise import Float32Array, Window, draw_normal, upsample

_SUN_RADIUS = 0.2666
"""Angular radius of the sun [degrees]: how soft the edge of a cast shadow is."""

_LEAST_COSINE = 0.20
"""Least cosine of incidence that correction divides by (``Slope_Min_Cos_I`` of MAJA)."""

_MODEL_STEP = 90.0
"""Pixel size of the elevation model of Sentinel-2's processor [m] (PlanetDEM 90)."""

_COARSE = 30.0
_STEEPEST = 0.15
"""No slope of the synthetic hills is steeper at relief 1 [m/m]; spares the search for shadows."""

_WIND = (3.0, 1.6)
"""Median and geometric SD of the wind over inland water [m/s]. A choice."""

_WATER_INDEX = 1.34


@dataclass(frozen=True, kw_only=True)
class Light:
    """Light on slopes over light on level ground.

    Attributes
    ----------
    direct, diffuse : (y, x) float32 array
        Of the sun's beam, shadows included, and of the sky [1].
    corrected : (y, x) float32 array, optional
        Direct light that the correction of the processor takes to be there [1]; None for none.
    """

    angles: Angles
    load: float
    direct: Float32Array
    diffuse: Float32Array
    corrected: Float32Array | None

    def factor(self, center: float) -> Float32Array:
        """Factor on reflectance [1] in a band centred at `center` [nm]."""
        share = np.float32(direct_share(make_optics(self.angles, center), self.load))
        light = share * self.direct + (1 - share) * self.diffuse
        if self.corrected is not None:
            light = light / (share * self.corrected + (1 - share) * self.diffuse)
        return np.asarray(light, np.float32)


def render_light(
    simulation: Simulation, acquisition: Pass, landscape: Landscape, angles: Angles
) -> Light:
    """Render the light on the cells of a landscape.

    Sen2Cor corrects Sentinel-2 for slopes of a coarse elevation model; Landsat's surface
    reflectance is not corrected for them.
    """
    east, north = (simulation.relief * part for part in (landscape.east, landscape.north))
    steepness = np.hypot(east, north)
    lit = _sunlit(simulation, landscape.window, angles)
    corrected = None
    if acquisition.orbit.sensor == "sentinel-2-l2a":
        sigma = _MODEL_STEP / np.sqrt(12) / landscape.window.step
        known = [gaussian_filter(part, sigma, mode="nearest") for part in (east, north)]
        least = _LEAST_COSINE / np.cos(np.radians(angles.sun_zenith))
        corrected = np.maximum(_incidence(known[0], known[1], angles), np.float32(least))
    return Light(
        angles=angles,
        load=aerosol_load(simulation, acquisition),
        direct=lit * _incidence(east, north, angles),
        diffuse=np.asarray((1 + 1 / np.sqrt(1 + steepness**2)) / 2, np.float32),
        corrected=corrected,
    )


def _incidence(east: Float32Array, north: Float32Array, angles: Angles) -> Float32Array:
    """Cosine of the angle of incidence over that on level ground [1], 0 where the sun is behind."""
    azimuth, tangent = np.radians(angles.sun_azimuth), np.tan(np.radians(angles.sun_zenith))
    facing = east * np.float32(np.sin(azimuth)) + north * np.float32(np.cos(azimuth))
    cosine = (1 - np.float32(tangent) * facing) / np.sqrt(1 + east**2 + north**2)
    return np.asarray(np.clip(cosine, 0, None), np.float32)


def _sunlit(simulation: Simulation, window: Window, angles: Angles) -> Float32Array:
    """Share of the sun's disk above the horizon of hills [1]."""
    above = 90.0 - angles.sun_zenith
    if np.tan(np.radians(above)) > _STEEPEST * simulation.relief:
        return np.ones(window.shape, np.float32)
    size = round(window.width * window.step / _COARSE)
    coarse = Window(
        left=window.left, top=window.top, step=_COARSE, width=size, height=size
    ).pad(2)  # fmt: skip
    ground = elevation(simulation.seed, coarse)
    azimuth = np.radians(angles.sun_azimuth)
    horizon = np.full(coarse.shape, -90.0)
    for distance in _COARSE * 1.3 ** np.arange(16):
        there = Window(
            left=coarse.left + distance * np.sin(azimuth),
            top=coarse.top + distance * np.cos(azimuth),
            step=_COARSE, width=coarse.width, height=coarse.height,
        )  # fmt: skip
        rise = simulation.relief * (elevation(simulation.seed, there) - ground)
        horizon = np.maximum(horizon, np.degrees(np.arctan2(rise, distance)))
    lit = np.clip(0.5 + (above - horizon) / (2 * _SUN_RADIUS), 0, 1)
    return upsample(lit, coarse, window)


def glint(simulation: Simulation, acquisition: Pass, angles: Angles) -> float:
    """Reflectance of sunlight mirrored by waves [1], nearly the same in all bands.

    The waves are those of a clean surface under the wind of the pass.
    """
    wind = _WIND[0] * _WIND[1] ** draw_normal(simulation.seed, "glint-wind", acquisition.day)
    variance = 0.003 + 0.00512 * wind
    sun, view = np.radians(angles.sun_zenith), np.radians(angles.view_zenith)
    azimuth = np.radians(angles.view_azimuth - angles.sun_azimuth)
    cosine = np.cos(sun) * np.cos(view) + np.sin(sun) * np.sin(view) * np.cos(azimuth)
    half = np.arccos(np.clip(cosine, -1, 1)) / 2
    tilt = np.clip((np.cos(sun) + np.cos(view)) / (2 * np.cos(half)), 0, 1)
    slope = (1 - tilt**2) / tilt**2
    density = np.exp(-slope / variance) / (np.pi * variance)
    mirrored = np.pi * density * _fresnel(float(half))
    return float(mirrored / (4 * np.cos(sun) * np.cos(view) * tilt**4))


def _fresnel(angle: float) -> float:
    """Reflectance of unpolarised light at a water surface [1]."""
    inside = np.arcsin(np.sin(angle) / _WATER_INDEX)
    across = (np.cos(angle) - _WATER_INDEX * np.cos(inside)) ** 2
    across /= (np.cos(angle) + _WATER_INDEX * np.cos(inside)) ** 2
    along = (np.cos(inside) - _WATER_INDEX * np.cos(angle)) ** 2
    along /= (np.cos(inside) + _WATER_INDEX * np.cos(angle)) ** 2
    return float((across + along) / 2)
