"""One pass over one tile, optical or radar, from ground to digital numbers and quality layers.

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
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation, gaussian_filter

from xharmonize.sensors import get_sensor
from xharmonize.sensors.spec import Band, Sensor
from xharmonize.simulate.atmosphere import Air, explained_sd, render_air
from xharmonize.simulate.config import FINE, HALO, TILE, Pass, Simulation
from xharmonize.simulate.imaging import (
    Angles,
    Sampling,
    Sky,
    Spread,
    add_noise,
    adjacency_strength,
    anisotropy,
    correction_error,
    look_through,
    make_sampling,
    pass_angles,
    point_spreads,
    render_sky,
    shift_of,
    typical_reflectance,
)
from xharmonize.simulate.landscape import Codes, Cover, Landscape, by_cover, render_landscape
from xharmonize.simulate.noise import (
    Float32Array,
    Keys,
    Window,
    draw,
    draw_normal,
    name_key,
    normal,
    smooth_noise,
    uniform,
    upsample,
    white_noise,
)
from xharmonize.simulate.relief import glint, render_light
from xharmonize.simulate.surface import (
    Shares,
    endmember_shares,
    endmember_table,
    mixed_reflectance,
)
from xharmonize.simulate.vegetation import ENDMEMBERS, Ground, ground_on
from xharmonize.types import AnyArray, BoolArray, Float64Array

_LOW_CONFIDENCE = 0b01_01_01_01 << 8


def mistakes(
    simulation: Simulation, acquisition: Pass, window: Window
) -> tuple[Float32Array, BoolArray]:
    """Return how much of a cloud's opacity the detector sees, and where it raises false alarms."""
    key = acquisition.key
    missed = smooth_noise(simulation.seed, "omission", window, *key, length=420.0, octaves=2)
    false = smooth_noise(simulation.seed, "commission", window, *key, length=260.0, octaves=2)
    return np.where(missed > 1.25, np.float32(0.25), np.float32(1.0)), false > 2.15


def scene_classes(
    simulation: Simulation, acquisition: Pass, window: Window, sky: Sky,
    bands: Mapping[str, Float32Array],
) -> npt.NDArray[np.uint8]:  # fmt: skip
    """Return Sentinel-2's scene classification.

    Parameters
    ----------
    sky : Sky
        At the pixels of `window`.
    bands : mapping of str to (y, x) float32 array
        Reflectance [1] of ``red``, ``nir08`` and ``swir16`` on the same pixels.
    """
    seen, alarm = mistakes(simulation, acquisition, window)
    cloud, shadow = sky.cloud * seen, sky.shadow * seen
    red, near, short = bands["red"], bands["nir08"], bands["swir16"]
    ratio = (near - red) / np.maximum(near + red, 0.02)
    classes = np.where(ratio > 0.42, 4, 5)
    classes = np.where((near < 0.09) & (short < 0.06), 6, classes)
    classes = np.where((near >= 0.06) & (near < 0.11) & (ratio > 0.1) & (short >= 0.05), 2, classes)
    classes = np.where(np.abs(ratio - 0.36) < 0.025, 7, classes)
    classes = np.where((shadow > 0.35) & (near < 0.30), 3, classes)
    classes = np.where((cloud > 0.14) & (cloud <= 0.34), 10, classes)
    classes = np.where(cloud > 0.34, 8, classes)
    classes = np.where(cloud > 0.70, 9, classes)
    bright = (red > 0.20) & (cloud <= 0.34)
    return np.where(bright & alarm, 8, classes).astype(np.uint8)


def qa_pixel(
    simulation: Simulation, acquisition: Pass, window: Window, wide_sky: Sky, margin: int,
    bands: Mapping[str, Float32Array],
) -> npt.NDArray[np.uint16]:  # fmt: skip
    """Return Landsat's Collection 2 QA_PIXEL.

    Parameters
    ----------
    wide_sky : Sky
        At the pixels of `window` and `margin` more on every side.
    margin : int
        Pixels by which clouds and shadows are dilated.
    """
    seen, alarm = mistakes(simulation, acquisition, window.pad(margin))
    disk = np.hypot(*np.mgrid[-margin : margin + 1, -margin : margin + 1]) <= margin + 0.3
    inner = (slice(margin, -margin), slice(margin, -margin))
    cloud_seen = wide_sky.cloud * seen > 0.30
    dilated = binary_dilation(cloud_seen, disk)[inner]
    shadow = binary_dilation(wide_sky.shadow * seen > 0.40, disk)[inner]
    alarmed = (alarm[inner] & (bands["red"] > 0.20)) | cloud_seen[inner]
    thin = (wide_sky.cloud * seen)[inner]
    cirrus = (thin > 0.10) & (thin <= 0.30)
    water = (bands["nir08"] < 0.09) & (bands["swir16"] < 0.06)
    code = np.full(window.shape, _LOW_CONFIDENCE, np.uint16)
    code += (water * (1 << 7)).astype(np.uint16)
    shadow = shadow & ~alarmed
    code += (shadow * ((1 << 4) + (0b10 << 10))).astype(np.uint16)
    code += (cirrus * ((1 << 2) + (0b10 << 14))).astype(np.uint16)
    code += (alarmed * ((1 << 3) + (0b10 << 8))).astype(np.uint16)
    near_cloud = dilated & ~alarmed
    code += (near_cloud * (1 << 1)).astype(np.uint16)
    clear = ~alarmed & ~near_cloud
    code += (clear * (1 << 6)).astype(np.uint16)
    return code


OPTICAL_BANDS = {
    "sentinel-2-l2a": (
        "blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "swir16",
        "swir22",
    ),
    "landsat-c2-l2": ("blue", "green", "red", "nir08", "swir16", "swir22"),
    "gaofen-1-ard": ("blue", "green", "red", "nir"),
}  # fmt: skip
_COARSE = 60.0
_REACH = 960.0


@dataclass(frozen=True, kw_only=True)
class TileGround:
    """Static ground of a tile: fine cells with a halo, and coarse ones around it for adjacency."""

    left: float
    bottom: float
    fine: Landscape
    coarse: Landscape


def render_tile_ground(simulation: Simulation, column: int, row: int) -> TileGround:
    """Render the static ground of a tile of the absolute lattice."""
    left, bottom = column * TILE, row * TILE
    fine = Window(
        left=left, top=bottom + TILE, step=FINE, width=round(TILE / FINE),
        height=round(TILE / FINE),
    ).pad(round(HALO / FINE))  # fmt: skip
    n_coarse = round(TILE / _COARSE)
    coarse = Window(
        left=left, top=bottom + TILE, step=_COARSE, width=n_coarse, height=n_coarse
    ).pad(round(_REACH / _COARSE))  # fmt: skip
    return TileGround(
        left=left,
        bottom=bottom,
        fine=render_landscape(simulation.seed, fine),
        coarse=render_landscape(simulation.seed, coarse),
    )


def tile_window(left: float, bottom: float, step: float, phase: float) -> Window:
    """Return the pixels of a grid whose centres lie in a tile."""
    first = int(np.ceil((left - phase) / step - 0.5))
    top = int(np.floor((bottom + TILE - phase) / step + 0.5))
    n = round(TILE / step)
    return Window(left=first * step + phase, top=top * step + phase, step=step, width=n, height=n)


def spectral_bands(sensor: Sensor, platform: str, names: tuple[str, ...]) -> tuple[Band, ...]:
    """Return the named bands of a platform."""
    instrument = sensor.instrument(platform)
    return tuple(instrument.band(name) for name in names)


def illumination(landscape: Landscape, angles: Angles) -> Float32Array:
    """Direct light on slopes over that on level ground [1], tempered by diffuse light."""
    azimuth, tangent = np.radians(angles.sun_azimuth), np.tan(np.radians(angles.sun_zenith))
    facing = landscape.east * np.sin(azimuth) + landscape.north * np.cos(azimuth)
    return np.asarray(np.clip(1 - 0.7 * tangent * facing, 0.3, 1.7), np.float32)


@dataclass(frozen=True, kw_only=True)
class OpticalPass:
    """What a pass has in common over all tiles."""

    simulation: Simulation
    acquisition: Pass
    sensor: Sensor
    bands: tuple[Band, ...]
    angles: Angles

    @property
    def centers(self) -> tuple[float, ...]:
        """Centre wavelengths of the bands [nm]."""
        return tuple(band.center for band in self.bands)


@lru_cache(maxsize=64)
def _pass_key(sensor: str, platform: str) -> tuple[Band, ...]:
    return spectral_bands(get_sensor(sensor), platform, OPTICAL_BANDS[sensor])


def prepare(simulation: Simulation, acquisition: Pass) -> OpticalPass:
    """Settle bands and directions of a pass."""
    orbit = acquisition.orbit
    return OpticalPass(
        simulation=simulation,
        acquisition=acquisition,
        sensor=get_sensor(orbit.sensor),
        bands=_pass_key(orbit.sensor, orbit.platform),
        angles=pass_angles(acquisition, *simulation.center, simulation.crs),
    )


def surface_reflectance(
    scene: OpticalPass, landscape: Landscape, *, directional: bool = True
) -> Float32Array:
    """Return the reflectance (band, y, x) [1] of the ground as the pass sees it.

    Parameters
    ----------
    directional : bool
        With the dependence on view and on slope; without, level and seen from nadir.
    """
    simulation, moment = scene.simulation, scene.acquisition
    day = moment.day
    if not simulation.change:
        day = int(np.datetime64(simulation.start, "D").astype(int))
    ground = ground_on(
        simulation.seed, day, moment.orbit.hour, landscape.unit_key, landscape.unit_cover,
        double=simulation.double_cropping,
    )  # fmt: skip
    unrest = smooth_noise(
        simulation.seed, "unrest", landscape.window, day, length=90.0, octaves=3, persistence=0.7
    )
    shares = endmember_shares(landscape, ground, unrest)
    table = endmember_table(scene.bands)
    if directional:
        table = table * anisotropy(scene.angles, scene.centers)
    fine = mixed_reflectance(shares, table, simulation.variant)
    fine = fine.reshape(len(scene.bands), *landscape.window.shape)
    if directional:
        _light(scene, landscape, fine)
        if "water" in simulation.effects:
            fine += _mirrored(scene, shares).reshape(landscape.window.shape)
    return fine


def _mirrored(scene: OpticalPass, shares: Shares) -> Float32Array:
    """Sun glint on the water of each cell [1]."""
    kinds = [ENDMEMBERS.index(name) for name in ("clear_water", "turbid_water")]
    water = shares.planes[kinds].sum(axis=0)
    strength = glint(scene.simulation, scene.acquisition, scene.angles)
    return np.asarray(np.float32(strength) * water, np.float32)


def _light(scene: OpticalPass, landscape: Landscape, fine: Float32Array) -> None:
    """Apply, in place, slopes and how canopies stand out from the anisotropy of their cover.

    Row direction, crop height and lodging change the latter from field to field.
    """
    crop = ENDMEMBERS.index("crop_leaf")
    mean = anisotropy(scene.angles, scene.centers)[crop] - 1
    departure = np.clip(0.9 * normal(landscape.unit_key, name_key("structure")), -2, 2)
    structure = departure.astype(np.float32)[landscape.unit]
    if "terrain" in scene.simulation.effects:
        light = render_light(scene.simulation, scene.acquisition, landscape, scene.angles)
        for band, strength, center in zip(fine, mean.astype(np.float32), scene.centers):
            band *= light.factor(center) * (1 + strength * structure)
        return
    simple = illumination(landscape, scene.angles)
    structure = structure * simple
    for band, strength in zip(fine, mean.astype(np.float32)):
        band *= simple + strength * structure


def _surroundings(scene: OpticalPass, ground: TileGround) -> Float32Array:
    reflectance = surface_reflectance(scene, ground.coarse)
    sigma = {"a": 300.0, "b": 180.0, "c": 450.0}[scene.simulation.variant] / _COARSE
    return np.stack([gaussian_filter(band, sigma, mode="nearest") for band in reflectance])


def render_optical(scene: OpticalPass, ground: TileGround) -> dict[str, tuple[Window, AnyArray]]:
    """Render all assets of a pass on one tile.

    Returns
    -------
    dict of str to (Window, (y, x) array)
        Digital numbers per band asset, and the quality layer.
    """
    simulation, name = scene.simulation, scene.sensor.name
    fine = surface_reflectance(scene, ground.fine)
    around = _surroundings(scene, ground)
    error = correction_error(simulation, scene.acquisition, scene.centers, _explained(scene))
    adjacency = adjacency_strength(simulation, scene.acquisition, scene.centers)
    shift = shift_of(simulation, scene.acquisition.key)
    sampling: dict[tuple[float, tuple[Spread, Spread]], Sampling] = {}
    skies: dict[float, Sky] = {}
    airs: dict[float, Air | None] = {}
    seen: dict[str, tuple[Window, Float32Array]] = {}
    for i, band in enumerate(scene.bands):
        window = tile_window(ground.left, ground.bottom, band.gsd, simulation.phase_of(name))
        if band.gsd not in skies:
            skies[band.gsd] = render_sky(simulation, scene.acquisition, window, scene.angles)
            airs[band.gsd] = render_air(simulation, scene.acquisition, window, scene.angles)
        spreads = point_spreads(name, band.name, band.gsd, simulation.variant)
        if (band.gsd, spreads) not in sampling:
            sampling[band.gsd, spreads] = make_sampling(ground.fine.window, window, spreads, shift)
        image = sampling[band.gsd, spreads](fine[i])
        background = upsample(around[i], ground.coarse.window, window)
        image = look_through(
            image, background, skies[band.gsd], band.center, float(adjacency[i]),
            (float(error.gain[i]), float(error.offset[i])), simulation.variant, airs[band.gsd],
        )  # fmt: skip
        image = image + np.float32(_processing_bias(scene, band.name))
        seen[band.name] = (
            window,
            add_noise(image, simulation, name, band.name, window, scene.acquisition.key),
        )
    assets: dict[str, tuple[Window, AnyArray]] = {
        key: (window, encode(scene, image)) for key, (window, image) in seen.items()
    }
    return assets | _quality(scene, skies, seen)


def _explained(scene: OpticalPass) -> Float64Array | float:
    """SD of the correction error [1] that the dark-target retrieval makes, per band."""
    if "dark-target" not in scene.simulation.effects:
        return 0.0
    return explained_sd(scene.centers, typical_reflectance(scene.centers))


def _processing_bias(scene: OpticalPass, band: str) -> float:
    simulation = scene.simulation
    if scene.sensor.name != "sentinel-2-l2a" or not band.startswith("swir"):
        return 0.0
    draw = draw_normal(simulation.seed, "processing", *scene.acquisition.key)
    return simulation.processing_bias * (0.021 + 0.006 * draw)


def _quality(
    scene: OpticalPass, skies: Mapping[float, Sky], seen: Mapping[str, tuple[Window, Float32Array]]
) -> dict[str, tuple[Window, AnyArray]]:
    simulation, acquisition = scene.simulation, scene.acquisition
    if scene.sensor.name == "sentinel-2-l2a":
        window = seen["nir08"][0]
        red = seen["red"][1].reshape(window.height, 2, window.width, 2).mean(axis=(1, 3))
        bands = {"red": red, "nir08": seen["nir08"][1], "swir16": seen["swir16"][1]}
        layer = scene_classes(simulation, acquisition, window, skies[window.step], bands)
        return {"scl": (window, layer)}
    if scene.sensor.name == "landsat-c2-l2":
        window, margin = seen["nir08"][0], 2
        wide = render_sky(simulation, acquisition, window.pad(margin), scene.angles)
        bands = {key: image for key, (_, image) in seen.items()}
        return {
            "qa_pixel": (window, qa_pixel(simulation, acquisition, window, wide, margin, bands))
        }
    return {}


def scale_and_offset(scene: OpticalPass) -> tuple[float, float]:
    """Return scale and offset of the digital numbers of a pass, as the pixels are."""
    radiometry = scene.sensor.radiometry
    if scene.sensor.name != "sentinel-2-l2a":
        return radiometry.scale, radiometry.offset
    baseline = scene.simulation.baseline_of(scene.acquisition)
    taken_off = scene.simulation.metadata.boa_offset_applied is True
    return radiometry.scale, -0.1 if baseline >= "04.00" and not taken_off else 0.0


def encode(scene: OpticalPass, reflectance: Float32Array) -> AnyArray:
    """Turn reflectance [1] into digital numbers; 0 is kept for missing pixels."""
    scale, offset = scale_and_offset(scene)
    counts = np.rint((reflectance.astype(np.float64) - offset) / scale)
    return np.clip(counts, 1, 65535).astype(np.uint16)


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
    ground = ground_on(
        simulation.seed, day, moment.orbit.hour, key, cover, double=simulation.double_cropping
    )
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
