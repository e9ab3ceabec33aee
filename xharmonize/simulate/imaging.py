"""From the ground to pixels: directions, clouds, haze, point spread, grid phase, noise.

References
----------
Spencer (1971), Fourier series representation of the position of the sun, Search 2(5), 172

References
----------
Richter (1990), Fast atmospheric correction of satellite images, adjacency term,
International Journal of Remote Sensing 11
Vermote et al. (1997), Second Simulation of the Satellite Signal in the Solar Spectrum (6S),
https://doi.org/10.1109/36.581987

A band's system transfer function is given by its value at the Nyquist frequency. Variants: "a" a
Gaussian, "b" the pixel's own box blurred along track by a Gaussian, "c" a Gaussian core with wide
tails, as optics with stray light have.

References
----------
Huang et al. (2002), The impact of sensor spatial response on the information content of remotely
sensed images, Remote Sensing of Environment 80
Gascon et al. (2017), Copernicus Sentinel-2A calibration and products validation status,
https://doi.org/10.3390/rs9060584
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import betaincinv, erf, ndtri

from xharmonize.kernels.brdf import li_sparse_r, ross_thick
from xharmonize.sensors.bandpass import C_FACTOR
from xharmonize.simulate.config import Pass, Simulation, Variant
from xharmonize.simulate.noise import (
    Float32Array,
    Window,
    draw,
    draw_normal,
    name_key,
    normal,
    smooth_noise,
    white_noise,
)
from xharmonize.simulate.vegetation import ENDMEMBERS
from xharmonize.types import Float64Array

if TYPE_CHECKING:
    from xharmonize.simulate.atmosphere import Air

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
    simulation: Simulation, acquisition: Pass, centers: tuple[float, ...],
    explained: Float64Array | float = 0.0,
) -> CorrectionError:  # fmt: skip
    """Draw the correction error of a pass.

    Most of the error is a gain, since aerosol changes transmission and path radiance together;
    bands are correlated by the distance of the logarithms of their wavelengths, and each sensor
    draws its own. The difference of two sensors then has the tabulated standard deviation at
    typical reflectance.

    Parameters
    ----------
    centers : tuple of float
        Centre wavelengths of the bands [nm].
    explained : (band,) float64 array
        Standard deviation [1] at typical reflectance of errors that arise otherwise; they are
        taken off.
    """
    sd = np.interp(centers, _WAVELENGTH, _ERROR_SD) / np.sqrt(2)
    sd = np.sqrt(np.clip(sd**2 - np.square(explained), 0, None)) * simulation.atmosphere
    typical = typical_reflectance(centers)
    length = {"a": 0.8, "b": 0.4, "c": 1.6}[simulation.variant]
    share = {"a": 0.15, "b": 0.24, "c": 0.08}[simulation.variant]
    offset = _correlated(simulation, acquisition, "offset", centers, length)
    gain = _correlated(simulation, acquisition, "gain", centers, length)
    return CorrectionError(
        gain=1 + np.sqrt(1 - share) * sd / typical * gain, offset=np.sqrt(share) * sd * offset
    )


def typical_reflectance(centers: tuple[float, ...]) -> Float64Array:
    """Reflectance of land [1] at which correction errors are stated."""
    return np.interp(centers, _WAVELENGTH, _TYPICAL)


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


def cloud_height(simulation: Simulation, acquisition: Pass) -> float:
    """Height of the clouds of a pass above the ground [m]."""
    return 700 + 1700 * draw(simulation.seed, "cloud-height", *acquisition.key)


def render_sky(simulation: Simulation, acquisition: Pass, window: Window, angles: Angles) -> Sky:
    """Render clouds, their shadows and haze at the pixels of a window."""
    cover = cloud_cover(simulation, acquisition)
    height = cloud_height(simulation, acquisition)
    reach = height * np.tan(np.radians(min(angles.sun_zenith, 75.0)))
    azimuth = np.radians(angles.sun_azimuth)
    toward = (reach * np.sin(azimuth), reach * np.cos(azimuth))
    cloud = opacity(simulation, acquisition, window, cover, (0.0, 0.0))
    shadow = _shadow(simulation, acquisition, window, toward, height, angles)
    aerosol = smooth_noise(
        simulation.seed, "retrieval", window, *acquisition.key, length=360.0, octaves=3,
        persistence=0.7,
    )  # fmt: skip
    haze = _haze(simulation, acquisition, window)
    # a dark-target retrieval makes its own errors
    is_drawn = "dark-target" not in simulation.effects
    scale = np.float32(simulation.atmosphere * is_drawn)
    return Sky(cloud=cloud, shadow=shadow, haze=haze, aerosol=scale * aerosol)


def _shadow(
    simulation: Simulation, acquisition: Pass, window: Window, toward: tuple[float, float],
    height: float, angles: Angles,
) -> Float32Array:  # fmt: skip
    """Depth of the clouds' shadow [1], blurred by the sun's disk if so chosen."""
    cover = cloud_cover(simulation, acquisition)
    if "cloud-edge" not in simulation.effects or cover < 0.004:
        return opacity(simulation, acquisition, window, cover, toward)
    wide = opacity(simulation, acquisition, window.pad(4), cover, toward)
    # a disk of radius r has the variance of a Gaussian of r / 2 along each axis
    slant = height / np.cos(np.radians(min(angles.sun_zenith, 75.0)))
    sigma = 0.5 * np.radians(0.2666) * slant / window.step
    return np.asarray(gaussian_filter(wide, sigma)[4:-4, 4:-4], np.float32)


def opacity(
    simulation: Simulation, acquisition: Pass, window: Window, cover: float,
    away: tuple[float, float], octaves: int = 5,
) -> Float32Array:  # fmt: skip
    """Opacity of clouds [1] at the pixels of a window moved `away` (east, north) [m]."""
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
        simulation.seed, "cloud", moved, *acquisition.key, length=1500.0, octaves=octaves,
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
    error: tuple[float, float], variant: str, air: Air | None = None,
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
    air : Air, optional
        Aerosol, thin cirrus and light from clouds, and what their correction leaves.
    """
    exponent = {"a": 1.5, "b": 1.1, "c": 2.0}[variant]
    path = np.float32(0.040 * (490.0 / center) ** exponent)
    dark = np.float32(0.55 + 0.35 * min(center / 1600.0, 1.0))
    white = np.float32(np.interp(center, (490, 900, 1610, 2200), (0.66, 0.68, 0.46, 0.34)))
    seen = image + np.float32(adjacency) * (background - image)
    if air is not None:
        seen = air.look(seen, center)
    seen = seen * np.float32(error[0]) + np.float32(error[1])
    seen = seen + np.float32(0.0016 * (490.0 / center) ** 1.2) * sky.aerosol
    seen = seen * (1 - np.float32(0.8) * path / np.float32(0.2) * sky.haze) + path * sky.haze
    seen = seen * (1 - dark * sky.shadow)
    return np.asarray(seen * (1 - sky.cloud) + white * sky.cloud, np.float32)


_MTF = {
    "sentinel-2-l2a": {
        "blue": 0.28,
        "green": 0.28,
        "red": 0.26,
        "nir": 0.24,
        "swir16": 0.20,
        "swir22": 0.21,
    },
    "landsat-c2-l2": {
        "blue": 0.20,
        "green": 0.20,
        "red": 0.20,
        "nir08": 0.17,
        "swir16": 0.17,
        "swir22": 0.14,
    },
    "gaofen-1-ard": {"blue": 0.18, "green": 0.18, "red": 0.17, "nir": 0.16},
}  # fmt: skip
"""System transfer at the Nyquist frequency, resampling included; 0.25 where not listed."""

_NOISE = {
    "sentinel-2-l2a": (4e-4, 2.0e-3),
    "landsat-c2-l2": (2e-4, 1.0e-3),
    "gaofen-1-ard": (9e-4, 4e-3),
}
"""Noise [1]: constant part, and the part that grows with the square root of reflectance."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Point spread along one axis: Gaussians of `sigmas` [m] with `weights`, and a box [m]."""

    sigmas: tuple[float, ...]
    weights: tuple[float, ...]
    box: float = 0.0


def point_spreads(sensor: str, band: str, step: float, variant: Variant) -> tuple[Spread, Spread]:
    """Return the point spread of a band across track (x) and along track (y).

    Parameters
    ----------
    step : float
        Pixel size [m].
    """
    across, along = (
        _point_spread(_MTF.get(sensor, {}).get(band, 0.25), step, variant, along_track=along)
        for along in (False, True)
    )
    return across, along


def _point_spread(at_nyquist: float, step: float, variant: Variant, *, along_track: bool) -> Spread:
    sigma = step / np.pi * np.sqrt(-2 * np.log(at_nyquist))
    if variant == "a":
        return Spread(sigmas=(sigma,), weights=(1.0,))
    if variant == "b":
        # the box alone has 2/pi at Nyquist; the Gaussian makes up the rest
        rest = step / np.pi * np.sqrt(-2 * np.log(min(at_nyquist * np.pi / 2, 0.99)))
        factor = 1.2 if along_track else 0.85
        return Spread(sigmas=(rest * factor,), weights=(1.0,), box=step)
    # the tails carry nothing at Nyquist, so the core has to carry it all
    core = step / np.pi * np.sqrt(-2 * np.log(min(at_nyquist / 0.84, 0.99)))
    return Spread(sigmas=(core, 2.2 * core), weights=(0.84, 0.16))


def sampling_matrix(
    source: Float64Array, target: Float64Array, step: float, spread: Spread
) -> Float32Array:
    """Return the weights of fine cells in pixels, (pixel, cell), rows summing to one.

    Parameters
    ----------
    source : (cell,) array
        Centres of the fine cells [m], evenly spaced by `step`.
    target : (pixel,) array
        Centres of the pixels [m], shifted to where they really look.
    step : float
        Side of a fine cell [m].
    """
    distance = source[None, :] - target[:, None]
    total = np.zeros(distance.shape)
    for sigma, weight in zip(spread.sigmas, spread.weights):
        total += weight * _profile(distance, sigma, max(spread.box, step))
    return np.asarray(total / total.sum(axis=1, keepdims=True), np.float32)


def _profile(distance: Float64Array, sigma: float, box: float) -> Float64Array:
    """Box of a width convolved with a Gaussian; zero beyond four sigmas and the box."""
    scale = np.sqrt(2) * sigma
    value = erf((distance + box / 2) / scale) - erf((distance - box / 2) / scale)
    return np.where(np.abs(distance) < 4 * sigma + box / 2, value, 0.0) / (2 * box)


def shift_of(simulation: Simulation, key: tuple[int, ...]) -> tuple[float, float]:
    """Misregistration of a pass (east, north) [m]."""
    return (
        simulation.shift_mean + simulation.shift_sd * draw_normal(simulation.seed, "shift-x", *key),
        -simulation.shift_mean
        + simulation.shift_sd * draw_normal(simulation.seed, "shift-y", *key),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Sampling:
    """How fine cells become the pixels of a window: weights along y and along x."""

    down: Float32Array
    across: Float32Array

    def __call__(self, fine: Float32Array) -> Float32Array:
        """Image a fine field (y, x) onto pixels (y, x), in the unit of the field."""
        return np.asarray(self.down @ fine @ self.across.T, np.float32)


def make_sampling(
    source: Window, target: Window, spreads: tuple[Spread, Spread], shift: tuple[float, float]
) -> Sampling:
    """Return the weights of fine cells in pixels.

    Parameters
    ----------
    spreads : (Spread, Spread)
        Point spread along x and along y.
    shift : (float, float)
        Offset east and north of the ground that is really seen [m].
    """
    return Sampling(
        down=sampling_matrix(source.y, target.y + shift[1], source.step, spreads[1]),
        across=sampling_matrix(source.x, target.x + shift[0], source.step, spreads[0]),
    )


def add_noise(
    image: Float32Array, simulation: Simulation, sensor: str, band: str, window: Window,
    key: tuple[int, ...],
) -> Float32Array:  # fmt: skip
    """Add instrument noise to the pixels of a band."""
    constant, growing = _NOISE[sensor]
    sd = np.sqrt(constant**2 + growing**2 * np.clip(image, 0, None)).astype(np.float32)
    noise = white_noise(simulation.seed, "noise-" + band, window, *key)
    return np.asarray(image + sd * noise, np.float32)
