"""Sentinel-1 backscatter: soil moisture, plant volume, structure, incidence angle, speckle.

The water-cloud model gives fields: backscatter of the plants plus that of the soil, dimmed twice
by the canopy. Trees, water, roofs and roads have levels of their own. Speckle is the mean over
looks of correlated circular Gaussian noise, so it is gamma distributed and correlated between
neighbouring pixels as in detected products.

References
----------
Attema and Ulaby (1978), Vegetation modeled as a water cloud, https://doi.org/10.1029/RS013i002p00357
Oh et al. (1992), An empirical model and an inversion technique for radar scattering from bare
soil surfaces, https://doi.org/10.1109/36.134086
Goodman (1976), Some fundamental properties of speckle, https://doi.org/10.1364/JOSA.66.001145
Small (2011), Flattening gamma: radiometric terrain correction for SAR imagery,
https://doi.org/10.1109/TGRS.2011.2120616
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.ndimage import gaussian_filter

from xharmonize.simulate.config import Pass, Simulation
from xharmonize.simulate.geometry import pass_angles
from xharmonize.simulate.imaging import Spread, make_sampling, shift_of
from xharmonize.simulate.landscape import Codes, Cover, Landscape, by_cover
from xharmonize.simulate.noise import Float32Array, Keys, Window, draw, normal, uniform, white_noise
from xharmonize.simulate.optical import TileGround, tile_window
from xharmonize.simulate.phenology import Ground, ground_on
from xharmonize.types import Float64Array

_LOOKS = 5

_PLANT = {"vv": (0.028, 0.10, -10.6), "vh": (0.0085, 0.085, -19.5)}
"""Water cloud: volume backscatter per leaf area, extinction per leaf area, and the gamma nought
of moderately moist, moderately rough bare soil [dB]."""

_LEVEL: Mapping[str, Mapping[Cover, float]] = {
    "vv": {Cover.DECIDUOUS: -8.6, Cover.CONIFER: -8.2, Cover.HEDGE: -8.8, Cover.BUILT: -4.5,
           Cover.ROAD: -14.5, Cover.WATER: -19.5},
    "vh": {Cover.DECIDUOUS: -13.6, Cover.CONIFER: -13.4, Cover.HEDGE: -14.0, Cover.BUILT: -13.0,
           Cover.ROAD: -22.0, Cover.WATER: -26.5},
}  # fmt: skip
"""Mean gamma nought [dB] of covers whose backscatter changes little."""

_WIDTH = {Cover.BUILT: 4.5, Cover.ROAD: 1.5}
"""Spread between units [dB]; 0.6 where not listed."""


def backscatter(
    simulation: Simulation, acquisition: Pass, landscape: Landscape
) -> dict[str, Float32Array]:
    """Return the noise-free gamma nought [linear power] of every cell, per polarisation."""
    moment = acquisition
    day = moment.day
    if not simulation.change:
        day = int(np.datetime64(simulation.start, "D").astype(int))
    key, cover = landscape.unit_key, landscape.unit_cover
    ground = ground_on(simulation.seed, day, moment.orbit.hour, key, cover)
    incidence = _local_incidence(simulation, acquisition, landscape)
    wind = draw(simulation.seed, "wind", day)
    result = {}
    for name in ("vv", "vh"):
        plants = _water_cloud(name, ground, key, acquisition.orbit.view_azimuth)
        levels = _levels(name, key, cover, wind)
        power = np.where(np.isnan(levels), plants, 10 ** (levels / 10))
        texture = np.float32(0.10) * landscape.vigour + np.float32(0.10) * landscape.brightness
        field = power.astype(np.float32)[landscape.unit] * np.exp(texture)
        result[name] = np.asarray(field * _angle_factor(name, incidence), np.float32)
    return result


def _water_cloud(name: str, ground: Ground, key: Keys, look: float) -> Float64Array:
    volume, extinction, soil_level = _PLANT[name]
    leaves = ground.leaf_area * (1 - 0.6 * ground.senescence)
    wet = 1 - np.exp(-3.2 * ground.moisture)
    rows = np.radians(180 * uniform(key, 111) - look)
    # fresh ploughing is rough; rows that face the radar return more, co-polarised above all
    structure = 4.2 * ground.roughness + (4.0 if name == "vv" else 0.8) * np.sin(rows) ** 8
    soil = 10 ** ((soil_level + 5.5 * (wet - 0.6) + structure + 1.3 * normal(key, 112)) / 10)
    dimmed = np.exp(-2 * extinction * leaves / np.cos(np.radians(36)))
    plants = volume * leaves ** (0.9 if name == "vv" else 1.0) * (1 - 0.4 * dimmed)
    return np.asarray(soil * dimmed + plants * np.exp(0.30 * normal(key, 113)), np.float64)


def _levels(name: str, key: Keys, cover: Codes, wind: float) -> Float64Array:
    level = by_cover(_LEVEL[name], cover, np.nan)
    width = by_cover(_WIDTH, cover, 0.6)
    level = level + width * normal(key, 114)
    return np.where(
        cover == int(Cover.WATER), level + (7 if name == "vv" else 3) * (wind - 0.4), level
    )


def _local_incidence(
    simulation: Simulation, acquisition: Pass, landscape: Landscape
) -> Float32Array:
    """Angle between the beam and the ground [degrees]."""
    angles = pass_angles(acquisition, *simulation.center, simulation.crs)
    azimuth = np.radians(angles.view_azimuth)
    tilt = -(landscape.east * np.sin(azimuth) + landscape.north * np.cos(azimuth))
    return np.asarray(angles.view_zenith - np.degrees(np.arctan(tilt)), np.float32)


def _angle_factor(name: str, incidence: Float32Array) -> Float32Array:
    """Decrease of gamma nought with the incidence angle, relative to 36 degrees."""
    slope = 0.11 if name == "vv" else 0.08
    return np.asarray(10 ** (np.float32(-slope / 10) * (incidence - 36)), np.float32)


def speckle(
    simulation: Simulation, window: Window, name: str, key: tuple[int, ...]
) -> Float32Array:
    """Multiplicative speckle of unit mean and about 4.4 equivalent looks."""
    wide = window.pad(4)
    blur = 0.62 * 10.0 / window.step
    total = np.zeros(wide.shape, np.float32)
    for look in range(_LOOKS):
        for part in (0, 1):
            field = white_noise(simulation.seed, f"speckle-{name}", wide, *key, look, part)
            total += gaussian_filter(field, blur) ** 2
    # a blurred white field has variance 1 / (4 pi s^2) for wide s: normalise by the exact sum
    taps = gaussian_filter(np.eye(1, 33, 16), (0, blur))
    total /= np.float32(2 * _LOOKS * float(np.sum(taps**2)) ** 2)
    return np.asarray(total[4:-4, 4:-4], np.float32)


def render_radar(
    simulation: Simulation, acquisition: Pass, ground: TileGround
) -> dict[str, tuple[Window, Float32Array]]:
    """Render gamma nought [linear power] of both polarisations on one tile."""
    step = simulation.radar_spacing
    phase = simulation.phase_of(acquisition.orbit.sensor)
    window = tile_window(ground.left, ground.bottom, step, phase)
    shift = shift_of(simulation, acquisition.key)
    spread = Spread(sigmas=(8.5,), weights=(1.0,))
    sampling = make_sampling(ground.fine.window, window, (spread, spread), shift)
    noise_floor = np.float32(10**-2.7)
    assets = {}
    for name, field in backscatter(simulation, acquisition, ground.fine).items():
        image = sampling(field)
        image = (image + noise_floor) * speckle(simulation, window, name, acquisition.key)
        assets[name] = (window, np.maximum(image - noise_floor, np.float32(1e-5)))
    return assets
