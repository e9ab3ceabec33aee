"""What lies between ground and number: clouds, shadows, haze, adjacency, correction errors.

References
----------
Richter (1990), Fast atmospheric correction of satellite images, adjacency term,
https://doi.org/10.1080/01431169008955124
Vermote et al. (1997), Second Simulation of the Satellite Signal in the Solar Spectrum (6S),
https://doi.org/10.1109/36.581987
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, ndtri

from xharmonize.simulate.config import Pass, Simulation
from xharmonize.simulate.geometry import Angles
from xharmonize.simulate.noise import (
    Float32Array,
    Window,
    draw,
    draw_normal,
    name_key,
    normal,
    smooth_noise,
)
from xharmonize.types import Float64Array

_WAVELENGTH = (490.0, 560.0, 660.0, 865.0, 1610.0, 2200.0)
_ERROR_SD = (0.007, 0.005, 0.005, 0.004, 0.008, 0.008)
_TYPICAL = (0.05, 0.08, 0.08, 0.30, 0.22, 0.14)
_ADJACENCY = (0.24, 0.18, 0.13, 0.06, 0.03, 0.02)

_ADJACENCY_LEFT = {"sentinel-2-l2a": 0.25, "landsat-c2-l2": 1.0, "gaofen-1-ard": 1.1}
"""Share of the adjacency effect that correction leaves in: Sen2Cor corrects it, LaSRC does not."""


@dataclass(frozen=True, kw_only=True)
class CorrectionError:
    """Error of atmospheric correction on a date: reflectance * gain + offset, per band [1]."""

    gain: Float64Array
    offset: Float64Array


@dataclass(frozen=True, kw_only=True)
class Sky:
    """Clouds over a window.

    Attributes
    ----------
    cloud, shadow, haze : (y, x) float32 array
        Opacity of cloud, depth of shadow and strength of haze [1], 0 to 1.
    aerosol : (y, x) float32 array
        Standard normal field of what the aerosol retrieval got wrong inside the scene [1].
    """

    cloud: Float32Array
    shadow: Float32Array
    haze: Float32Array
    aerosol: Float32Array


def correction_error(
    simulation: Simulation, acquisition: Pass, centers: tuple[float, ...]
) -> CorrectionError:
    """Draw the correction error of a pass.

    Most of the error is a gain, since aerosol changes transmission and path radiance together;
    bands are correlated by the distance of the logarithms of their wavelengths, and each sensor
    draws its own. The difference of two sensors then has the tabulated standard deviation at
    typical reflectance.

    Parameters
    ----------
    centers : tuple of float
        Centre wavelengths of the bands [nm].
    """
    sd = np.interp(centers, _WAVELENGTH, _ERROR_SD) / np.sqrt(2) * simulation.atmosphere
    typical = np.interp(centers, _WAVELENGTH, _TYPICAL)
    length = {"a": 0.8, "b": 0.4, "c": 1.6}[simulation.variant]
    share = {"a": 0.15, "b": 0.24, "c": 0.08}[simulation.variant]
    offset = _correlated(simulation, acquisition, "offset", centers, length)
    gain = _correlated(simulation, acquisition, "gain", centers, length)
    return CorrectionError(
        gain=1 + np.sqrt(1 - share) * sd / typical * gain, offset=np.sqrt(share) * sd * offset
    )


def _correlated(
    simulation: Simulation, acquisition: Pass, name: str, centers: tuple[float, ...], length: float
) -> Float64Array:
    """Standard normal numbers per band, correlated; a band draws the same beside any others."""
    nodes = np.log(np.array(_WAVELENGTH))
    distance = np.abs(nodes[:, None] - nodes[None, :])
    root = np.linalg.cholesky(np.exp(-distance / length))
    draws = normal(simulation.seed, name_key(name), *acquisition.key, np.arange(len(nodes)))
    return np.interp(np.log(centers), nodes, root @ draws)


def adjacency_strength(
    simulation: Simulation, acquisition: Pass, centers: tuple[float, ...]
) -> Float64Array:
    """Share of a pixel's signal that comes from its surroundings, per band [1]."""
    left = _ADJACENCY_LEFT.get(acquisition.orbit.sensor, 1.0)
    load = np.exp(0.22 * draw_normal(simulation.seed, "aerosol", *acquisition.key))
    scale = {"a": 1.0, "b": 0.7, "c": 1.3}[simulation.variant]
    table = np.interp(centers, _WAVELENGTH, _ADJACENCY)
    strength = table * left * load * scale * simulation.atmosphere
    return np.asarray(np.clip(strength, 0, 0.6), np.float64)


def cloud_cover(simulation: Simulation, acquisition: Pass) -> float:
    """Cloud cover of a pass [1]: many clear days, many overcast ones, and some between."""
    mean = simulation.cloudiness
    if mean <= 0:
        return 0.0
    day = draw(simulation.seed, "cover", acquisition.day)
    return float(betaincinv(0.5 * mean / 0.5, 0.5 * (1 - mean) / 0.5, day))


def render_sky(simulation: Simulation, acquisition: Pass, window: Window, angles: Angles) -> Sky:
    """Render clouds, their shadows and haze at the pixels of a window."""
    cover = cloud_cover(simulation, acquisition)
    height = 700 + 1700 * draw(simulation.seed, "cloud-height", *acquisition.key)
    reach = height * np.tan(np.radians(min(angles.sun_zenith, 75.0)))
    azimuth = np.radians(angles.sun_azimuth)
    toward = (reach * np.sin(azimuth), reach * np.cos(azimuth))
    cloud = _opacity(simulation, acquisition, window, cover, (0.0, 0.0))
    shadow = _opacity(simulation, acquisition, window, cover, toward)
    aerosol = smooth_noise(
        simulation.seed, "retrieval", window, *acquisition.key, length=360.0, octaves=3,
        persistence=0.7,
    )  # fmt: skip
    haze = _haze(simulation, acquisition, window)
    scale = np.float32(simulation.atmosphere)
    return Sky(cloud=cloud, shadow=shadow, haze=haze, aerosol=scale * aerosol)


def _opacity(
    simulation: Simulation, acquisition: Pass, window: Window, cover: float,
    away: tuple[float, float],
) -> Float32Array:  # fmt: skip
    if cover < 0.004:
        return np.zeros(window.shape, np.float32)
    moved = Window(
        left=window.left + away[0],
        top=window.top + away[1],
        step=window.step,
        width=window.width,
        height=window.height,
    )
    field = smooth_noise(
        simulation.seed, "cloud", moved, *acquisition.key, length=1500.0, octaves=5,
        persistence=0.55,
    )  # fmt: skip
    threshold = float(ndtri(1 - min(cover, 0.9995)))
    depth = np.clip(field - np.float32(threshold), 0, None)
    return np.asarray(1 - np.exp(-4.5 * depth), np.float32)


def _haze(simulation: Simulation, acquisition: Pass, window: Window) -> Float32Array:
    chance = simulation.haziness * {"a": 1.0, "b": 1.6, "c": 0.7}[simulation.variant]
    if simulation.atmosphere <= 0 or draw(simulation.seed, "hazy", *acquisition.key) > chance:
        return np.zeros(window.shape, np.float32)
    strength = 0.25 + 0.75 * draw(simulation.seed, "haze-strength", *acquisition.key)
    field = smooth_noise(
        simulation.seed, "haze", window, *acquisition.key, length=2600.0, octaves=3,
        persistence=0.4,
    )  # fmt: skip
    return np.asarray(
        simulation.atmosphere * strength / (1 + np.exp(-2.2 * (field - 0.3))), np.float32
    )


def look_through(
    image: Float32Array, background: Float32Array, sky: Sky, center: float, adjacency: float,
    error: tuple[float, float], variant: str,
) -> Float32Array:  # fmt: skip
    """Return what correction makes of a band seen through the atmosphere.

    Parameters
    ----------
    image, background : (y, x) float32 array
        Reflectance of pixels and of their surroundings [1].
    center : float
        Centre wavelength [nm].
    adjacency : float
        Share of the surroundings in the signal [1].
    error : (float, float)
        Gain and offset of the correction error.
    """
    exponent = {"a": 1.5, "b": 1.1, "c": 2.0}[variant]
    path = np.float32(0.040 * (490.0 / center) ** exponent)
    dark = np.float32(0.55 + 0.35 * min(center / 1600.0, 1.0))
    white = np.float32(np.interp(center, (490, 900, 1610, 2200), (0.66, 0.68, 0.46, 0.34)))
    seen = image + np.float32(adjacency) * (background - image)
    seen = seen * np.float32(error[0]) + np.float32(error[1])
    seen = seen + np.float32(0.0016 * (490.0 / center) ** 1.2) * sky.aerosol
    seen = seen * (1 - np.float32(0.8) * path / np.float32(0.2) * sky.haze) + path * sky.haze
    seen = seen * (1 - dark * sky.shadow)
    return np.asarray(seen * (1 - sky.cloud) + white * sky.cloud, np.float32)
