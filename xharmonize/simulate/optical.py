"""One optical pass over one tile, from ground to digital numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter

from xharmonize.sensors import get_sensor
from xharmonize.sensors.spec import Band, Sensor
from xharmonize.simulate.atmosphere import (
    Sky,
    adjacency_strength,
    correction_error,
    look_through,
    render_sky,
)
from xharmonize.simulate.config import FINE, HALO, TILE, Pass, Simulation, Variant
from xharmonize.simulate.geometry import Angles, anisotropy, pass_angles
from xharmonize.simulate.imaging import (
    Sampling,
    Spread,
    add_noise,
    make_sampling,
    point_spreads,
    shift_of,
)
from xharmonize.simulate.landscape import Landscape, render_landscape
from xharmonize.simulate.noise import (
    Float32Array,
    Window,
    draw_normal,
    name_key,
    normal,
    smooth_noise,
    upsample,
)
from xharmonize.simulate.phenology import ground_on
from xharmonize.simulate.quality import qa_pixel, scene_classes
from xharmonize.simulate.spectra import ENDMEMBERS, band_spectra
from xharmonize.simulate.surface import Shares, endmember_shares
from xharmonize.types import AnyArray, Float64Array

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


def endmember_table(bands: tuple[Band, ...]) -> Float64Array:
    """Return the reflectance (endmember, band) [1] of pure surfaces in bands."""
    return band_spectra(tuple((b.center, b.low, b.high) for b in bands))


def mixed_reflectance(shares: Shares, table: Float64Array, variant: Variant) -> Float32Array:
    """Mix endmembers to reflectance (band, cell) [1].

    Variant "b" adds light scattered between leaves and ground (bilinear), "c" mixes intimately:
    linear in the logarithm of the two-stream absorption rather than in reflectance.
    """
    linear = np.asarray(table.T.astype(np.float32) @ shares.planes)
    if variant == "a":
        return linear
    soil = table[ENDMEMBERS.index("bright_soil")].astype(np.float32)
    leaf = table[ENDMEMBERS.index("crop_leaf")].astype(np.float32)
    contact = shares.leaf_cover * (1 - shares.leaf_cover)
    strength = np.float32(0.9 if variant == "b" else -0.7)
    return np.asarray(linear + strength * (soil * leaf)[:, None] * contact[None, :])


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
        simulation.seed, day, moment.orbit.hour, landscape.unit_key, landscape.unit_cover
    )
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
    return fine


def _light(scene: OpticalPass, landscape: Landscape, fine: Float32Array) -> None:
    """Apply, in place, slopes and how canopies stand out from the anisotropy of their cover.

    Row direction, crop height and lodging change the latter from field to field.
    """
    crop = ENDMEMBERS.index("crop_leaf")
    mean = anisotropy(scene.angles, scene.centers)[crop] - 1
    departure = np.clip(0.9 * normal(landscape.unit_key, name_key("structure")), -2, 2)
    light = illumination(landscape, scene.angles)
    structure = departure.astype(np.float32)[landscape.unit] * light
    for band, strength in zip(fine, mean.astype(np.float32)):
        band *= light + strength * structure


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
    error = correction_error(simulation, scene.acquisition, scene.centers)
    adjacency = adjacency_strength(simulation, scene.acquisition, scene.centers)
    shift = shift_of(simulation, scene.acquisition.key)
    sampling: dict[tuple[float, tuple[Spread, Spread]], Sampling] = {}
    skies: dict[float, Sky] = {}
    seen: dict[str, tuple[Window, Float32Array]] = {}
    for i, band in enumerate(scene.bands):
        window = tile_window(ground.left, ground.bottom, band.gsd, simulation.phase_of(name))
        if band.gsd not in skies:
            skies[band.gsd] = render_sky(simulation, scene.acquisition, window, scene.angles)
        spreads = point_spreads(name, band.name, band.gsd, simulation.variant)
        if (band.gsd, spreads) not in sampling:
            sampling[band.gsd, spreads] = make_sampling(ground.fine.window, window, spreads, shift)
        image = sampling[band.gsd, spreads](fine[i])
        background = upsample(around[i], ground.coarse.window, window)
        image = look_through(
            image, background, skies[band.gsd], band.center, float(adjacency[i]),
            (float(error.gain[i]), float(error.offset[i])), simulation.variant,
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
