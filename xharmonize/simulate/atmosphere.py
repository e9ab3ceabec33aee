"""Air that the image itself reveals: aerosol, thin cirrus, light from clouds, and their correction.

A band is carried to the top of the atmosphere with the aerosol that is there and brought back with
the aerosol that a dark-target retrieval found. What is left depends on the reflectance, on the sun
and on how dark the surroundings are, and is the same function of them in all bands.

Reflectance of a layer is Sobolev's, transmission and spherical albedo are those of two streams.
Only differences between the true and the retrieved state matter, so what these leave out cancels to
first order.

References
----------
Vermote et al. (1997), Second Simulation of the Satellite Signal in the Solar Spectrum (6S),
https://doi.org/10.1109/36.581987
Hansen and Travis (1974), Light scattering in planetary atmospheres,
https://doi.org/10.1007/BF00168069
Sobolev (1975), Light Scattering in Planetary Atmospheres, Pergamon
Joseph, Wiscombe, Weinman (1976), The delta-Eddington approximation for radiative flux transfer,
https://doi.org/10.1175/1520-0469(1976)033<2452:TDEAFR>2.0.CO;2
Bohren (1987), Multiple scattering of light and some of its observable consequences,
https://doi.org/10.1119/1.15109
Dubovik et al. (2002), Variability of absorption and optical properties of key aerosol types,
https://doi.org/10.1175/1520-0469(2002)059<0590:VOAAOP>2.0.CO;2
Kaufman et al. (1997), The MODIS 2.1-µm channel: correlation with visible reflectance for use in
remote sensing of aerosol, https://doi.org/10.1109/36.628795
Levy et al. (2010), Global evaluation of the Collection 5 MODIS dark-target aerosol products over
land, https://doi.org/10.5194/acp-10-10399-2010
Rouquié et al. (2017), Using Copernicus Atmosphere Monitoring Service products to constrain the
aerosol type in MAJA, https://doi.org/10.3390/rs9121230
Sassen and Cho (1992), Subvisual-thin cirrus lidar dataset for satellite verification and
climatological research, Journal of Applied Meteorology 31
Sassen, Wang, Liu (2008), Global distribution of cirrus clouds from CloudSat/CALIPSO,
https://doi.org/10.1029/2008JD009972
Gao and Li (2017), Removal of thin cirrus scattering effects in Landsat 8 OLI images,
https://doi.org/10.3390/rs9080834
Warren and Brandt (2008), Optical constants of ice, https://doi.org/10.1029/2007JD009744
Marshak et al. (2008), A simple model for the cloud adjacency effect and the apparent bluing of
aerosols near clouds, https://doi.org/10.1029/2007JD009196
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from xharmonize.sensors import get_sensor
from xharmonize.simulate.config import Pass, Simulation, Variant
from xharmonize.simulate.imaging import Angles, cloud_cover, cloud_height, opacity
from xharmonize.simulate.landscape import Landscape, render_landscape
from xharmonize.simulate.noise import (
    Float32Array,
    Window,
    draw,
    draw_normal,
    smooth_noise,
    upsample,
)
from xharmonize.simulate.surface import endmember_shares, endmember_table, mixed_reflectance
from xharmonize.simulate.vegetation import ground_on
from xharmonize.types import Float64Array

_ANGSTROM = 1.3
"""Ångström exponent of continental aerosol (Ångström 1964, Tellus 16)."""

_LOAD = (0.15, 1.8)
"""Median and geometric SD of aerosol optical thickness at 550 nm over days. A choice: AERONET
around the southern North Sea has such values; there is no table to cite for clear days only."""

_PATCHY = 0.05
"""Relative SD of aerosol within kilometres. A choice: aerosol is coherent over tens of kilometres
(Anderson et al. 2003, Journal of the Atmospheric Sciences 60)."""

_EXPECTED = (0.05, 0.15)
"""One standard deviation of a dark-target retrieval: constant, and per optical thickness (Levy et
al. 2010, two thirds of the retrievals lie inside)."""

_DARK, _TOO_BRIGHT = 0.05, 0.15
"""Reflectance at 2.2 µm of good dark targets, and where there are none (Kaufman et al. 1997). The
error of the surface estimate is proportional to that reflectance, hence that of the retrieval."""

_FALLBACK_SD = 0.095
"""Error of the fallback since baseline 04.00, which takes the load from CAMS: that of a retrieval
over arid sites (Rouquié et al. 2017)."""

_DEFAULT_LOAD = 0.143
"""Fallback before baseline 04.00: a visibility of 40 km, the default of Sen2Cor's L2A_GIPP.xml,
between 63.66 km = 0.100 and 26.74 km = 0.200 of 6S."""

_DRAWN = 0.5
"""Share of the expected variance that is drawn for each date. The rest is the assumed surface: for
Sentinel-2 it is computed from the darkest vegetation, for Landsat a place keeps it over all dates.
A choice."""

_RATIO = 0.5
"""Reflectance in red over that at 2.2 µm that the retrieval assumes (Kaufman et al. 1997)."""

_CIRRUS_CHANCE = 0.167
"""Frequency of cirrus (Sassen et al. 2008)."""

_CIRRUS_DEPTH = (0.03, 0.30)
"""Optical thickness of thin cirrus, between subvisible and opaque (Sassen and Cho 1992); drawn
evenly in the logarithm, which is a choice. Thicker ones are taken to be masked."""

_ICE_ASYMMETRY = 0.78
_ICE_ALBEDO = ((1000.0, 1610.0, 2200.0), (1.0, 0.94, 0.95))
"""Single-scattering albedo of ice: 1 - Q/2 with Q = 1 - exp(-4 pi k d / wavelength), d = 60 µm and
k = 3e-4 (Warren and Brandt 2008, one digit). The visible and near infrared are flat, as Gao and Li
(2017) find. The asymmetry is that of rough crystals in MODIS Collection 6."""

_SCALE_HEIGHT = 8000.0
_CLOUD_ALBEDO = 0.66
_NODE = 3840.0


@dataclass(frozen=True, kw_only=True)
class Optics:
    """A band's Rayleigh atmosphere and the geometry of a pass."""

    wavelength: float
    sun: float
    view: float
    scattering: float

    @property
    def rayleigh(self) -> float:
        """Rayleigh optical thickness at sea level [1]."""
        inverse = self.wavelength**-2
        factor = 1 + 0.0113 * inverse + 0.00013 * inverse**2
        return float(0.008569 * inverse**2 * factor)


def make_optics(angles: Angles, center: float) -> Optics:
    """Return the geometry of a pass for a band centred at `center` [nm]."""
    sun, view = np.radians(angles.sun_zenith), np.radians(angles.view_zenith)
    azimuth = np.radians(angles.view_azimuth - angles.sun_azimuth)
    cosine = np.cos(sun) * np.cos(view) + np.sin(sun) * np.sin(view) * np.cos(azimuth)
    return Optics(
        wavelength=center / 1000.0,
        sun=float(np.cos(min(sun, np.radians(80)))),
        view=float(np.cos(view)),
        scattering=float(-cosine),
    )


def aerosol_depth(load: Float32Array | float, wavelength: float) -> Float32Array:
    """Aerosol optical thickness at a wavelength [µm] from that at 550 nm."""
    return np.asarray(load * np.float32((wavelength / 0.55) ** -_ANGSTROM), np.float32)


@dataclass(frozen=True, kw_only=True)
class Particles:
    """How particles scatter: single-scattering albedo and asymmetry [1]."""

    albedo: float
    asymmetry: float

    def lost(self, cosine: float) -> float:
        """Share of the optical thickness that a slanted beam loses upwards or by absorption [1].

        Backscattering of the delta-Eddington two-stream.
        """
        forward = self.asymmetry**2
        scaled = 1 - self.albedo * forward
        albedo = self.albedo * (1 - forward) / scaled
        asymmetry = self.asymmetry / (1 + self.asymmetry)
        back = (2 - 3 * asymmetry * cosine) / 4
        return scaled * (albedo * back + 1 - albedo)

    def reflectance(self, optics: Optics, depth: Float32Array) -> Float32Array:
        """Reflectance of a layer above a black surface [1]: once scattered, and Sobolev's rest."""
        moment, sun, view = 3 * self.asymmetry, optics.sun, optics.view
        layer = (1 - np.exp(-depth * np.float32(1 / sun + 1 / view))) / (4 * (sun + view))
        once = henyey_greenstein(optics.scattering, self.asymmetry) * layer
        both = [1 + 1.5 * c + (1 - 1.5 * c) * np.exp(-depth / np.float32(c)) for c in (sun, view)]
        rest = 1 - both[0] * both[1] / (4 + (3 - moment) * depth)
        rest = rest + ((3 + moment) * sun * view - 2 * (sun + view)) * layer
        return np.asarray(self.albedo * (once + rest), np.float32)


_AEROSOL = Particles(albedo=0.94, asymmetry=0.60)
"""Single-scattering albedo of the aerosol of Paris, and an asymmetry within the 0.53 to 0.68 of
urban aerosol (Dubovik et al. 2002)."""


def transmittance(optics: Optics, load: Float32Array | float, cosine: float) -> Float32Array:
    """Diffuse and direct transmission along one path [1]: what is scattered back is lost."""
    aerosol = aerosol_depth(load, optics.wavelength)
    depth = np.float32(0.5 * optics.rayleigh) + np.float32(_AEROSOL.lost(cosine)) * aerosol
    return np.asarray(np.exp(-depth / np.float32(cosine)), np.float32)


def direct_share(optics: Optics, load: float) -> float:
    """Share of the light on level ground that comes from the sun's direction [1]."""
    depth = optics.rayleigh + float(aerosol_depth(load, optics.wavelength))
    return float(np.exp(-depth / optics.sun) / transmittance(optics, load, optics.sun))


def _path(optics: Optics, load: Float32Array) -> Float32Array:
    """Reflectance of molecules and aerosol above a black surface [1], as if apart."""
    air_mass = 1 / optics.sun + 1 / optics.view
    molecules = 0.75 * (1 + optics.scattering**2) / (4 * (optics.sun + optics.view))
    molecules *= 1 - np.exp(-optics.rayleigh * air_mass)
    aerosol = _AEROSOL.reflectance(optics, aerosol_depth(load, optics.wavelength))
    return np.asarray(aerosol + np.float32(molecules), np.float32)


def henyey_greenstein(cosine: float, asymmetry: float) -> float:
    """Phase function with mean 1 at the cosine of a scattering angle."""
    return float((1 - asymmetry**2) / (1 + asymmetry**2 - 2 * asymmetry * cosine) ** 1.5)


def _spherical_albedo(optics: Optics, load: Float32Array) -> Float32Array:
    back = _AEROSOL.albedo * (1 - _AEROSOL.asymmetry)
    aerosol = np.float32(back) * aerosol_depth(load, optics.wavelength)
    depth = np.float32(1.66) * (np.float32(optics.rayleigh) + aerosol)
    return np.asarray(depth / (2 + depth), np.float32)


@dataclass(frozen=True, kw_only=True)
class Air:
    """Air over the pixels of a window.

    Attributes
    ----------
    load, retrieved : (y, x) float32 array
        Aerosol optical thickness at 550 nm [1] that is there, and that the correction found.
    cirrus : (y, x) float32 array
        Optical thickness of thin cirrus [1], which correction does not know of.
    glow : (y, x) float32 array
        Cover of the clouds around [1], whose light the air scatters into the view.
    strength : float
        `Simulation.atmosphere`.
    """

    angles: Angles
    load: Float32Array
    retrieved: Float32Array
    cirrus: Float32Array
    glow: Float32Array
    strength: float
    cloud_height: float

    def look(self, image: Float32Array, center: float) -> Float32Array:
        """Return what correction makes of reflectance [1] in a band centred at `center` [nm]."""
        optics = make_optics(self.angles, center)
        top = self._carry(optics, image)
        inner = (top - _path(optics, self.retrieved)) / _both_ways(optics, self.retrieved)
        found = inner / (1 + _spherical_albedo(optics, self.retrieved) * inner)
        return np.asarray(image + np.float32(self.strength) * (found - image), np.float32)

    def _carry(self, optics: Optics, image: Float32Array) -> Float32Array:
        """Reflectance at the top of the atmosphere [1]."""
        ground = image / (1 - _spherical_albedo(optics, self.load) * image)
        top = _path(optics, self.load) + _both_ways(optics, self.load) * ground
        above = np.exp(-self.cloud_height / _SCALE_HEIGHT) * optics.rayleigh
        scattered = np.float32(_CLOUD_ALBEDO * (np.exp(-above / 2) - np.exp(-above)))
        top = top + scattered * self.glow
        albedo = float(np.interp(1000 * optics.wavelength, *_ICE_ALBEDO))
        ice = Particles(albedo=albedo, asymmetry=_ICE_ASYMMETRY)
        lost = np.float32(sum(ice.lost(cosine) / cosine for cosine in (optics.sun, optics.view)))
        veil = ice.reflectance(optics, self.cirrus)
        return np.asarray(top * np.exp(-lost * self.cirrus) + veil, np.float32)


def _both_ways(optics: Optics, load: Float32Array) -> Float32Array:
    down, up = (transmittance(optics, load, cosine) for cosine in (optics.sun, optics.view))
    return np.asarray(down * up, np.float32)


def aerosol_load(simulation: Simulation, acquisition: Pass) -> float:
    """Return the aerosol optical thickness at 550 nm of a day [1]; sensors share it."""
    deviate = draw_normal(simulation.seed, "load", acquisition.day)
    return float(_LOAD[0] * _LOAD[1] ** np.clip(deviate, -2, 2))


def render_air(
    simulation: Simulation, acquisition: Pass, window: Window, angles: Angles
) -> Air | None:
    """Render the air over a window; None where no effect of the simulation needs it."""
    effects = simulation.effects
    if not {"veil", "dark-target", "cloud-edge"} & set(effects):
        return None
    none = np.zeros(window.shape, np.float32)
    load = retrieved = none + np.float32(aerosol_load(simulation, acquisition))
    if "veil" in effects:
        patches = smooth_noise(
            simulation.seed, "patches", window, *acquisition.key, length=1500.0, octaves=3
        )
        load = load * np.exp(np.float32(_PATCHY) * patches)
    if "dark-target" in effects:
        retrieved = _retrieve(simulation, acquisition, window, retrieved, angles)
    return Air(
        angles=angles,
        load=load,
        retrieved=retrieved,
        cirrus=_cirrus(simulation, acquisition, window) if "veil" in effects else none,
        glow=_glow(simulation, acquisition, window) if "cloud-edge" in effects else none,
        strength=simulation.atmosphere,
        cloud_height=cloud_height(simulation, acquisition),
    )


def _cirrus(simulation: Simulation, acquisition: Pass, window: Window) -> Float32Array:
    """Optical thickness of thin cirrus: filaments of kilometres with clear air between."""
    seed, key = simulation.seed, acquisition.key
    if draw(seed, "cirrus", *key) > _CIRRUS_CHANCE:
        return np.zeros(window.shape, np.float32)
    low, high = np.log(_CIRRUS_DEPTH)
    depth = np.exp(low + (high - low) * draw(seed, "cirrus-depth", *key))
    field = smooth_noise(seed, "cirrus", window, *key, length=2600.0, octaves=4, persistence=0.5)
    return np.asarray(np.float32(depth) / (1 + np.exp(-2.2 * field)), np.float32)


def _glow(simulation: Simulation, acquisition: Pass, window: Window) -> Float32Array:
    """Cover of the clouds around, at the scale of the cloud field's largest waves."""
    cover = cloud_cover(simulation, acquisition)
    return opacity(simulation, acquisition, window, cover, (0.0, 0.0), octaves=1)


def _retrieve(
    simulation: Simulation, acquisition: Pass, window: Window, load: Float32Array, angles: Angles
) -> Float32Array:
    """Aerosol optical thickness [1] as the processor of a sensor finds it.

    Sentinel-2's needs dark vegetation in the scene; Landsat's takes ratios of each place from a
    data base (Vermote et al. 2016, doi:10.1016/j.rse.2016.04.008) and keeps the expected error.
    """
    seed, key = simulation.seed, acquisition.key
    sensor = acquisition.orbit.sensor
    today = np.sqrt(_DRAWN) * draw_normal(seed, "retrieved", *key)
    constant, growing = _EXPECTED
    if sensor != "sentinel-2-l2a":
        lasting = np.sqrt(1 - _DRAWN) * smooth_noise(seed, "ratio-" + sensor, window, length=_NODE)
        error = (constant + growing * load) * (today + lasting)
        return np.asarray(np.clip(load + error, 0.01, None), np.float32)
    dark, red = _dark_levels(simulation, acquisition.day, acquisition.orbit.hour, window)
    sd = constant * np.maximum(dark / _DARK, 1) + growing * load
    found = load + sd * today + (red - _RATIO * dark) / _red_gain(acquisition, angles, load)
    if simulation.baseline_of(acquisition) >= "04.00":
        other = load + _FALLBACK_SD * draw_normal(seed, "forecast", acquisition.day)
    else:
        other = np.full_like(load, _DEFAULT_LOAD)
    # between twice and three times the reflectance of good targets, fewer and fewer pixels serve
    share = np.clip((_TOO_BRIGHT - dark) / (_TOO_BRIGHT - 2 * _DARK), 0, 1)
    return np.asarray(np.clip(share * found + (1 - share) * other, 0.01, None), np.float32)


def _red_gain(acquisition: Pass, angles: Angles, load: Float32Array) -> float:
    """Apparent reflectance in red of a dark target per optical thickness at 550 nm [1]."""
    red = get_sensor(acquisition.orbit.sensor).instrument(acquisition.orbit.platform).band("red")
    optics = make_optics(angles, red.center)
    two = load.ravel()[0] + np.array([0.0, 0.05], np.float32)
    dark = np.float32(_RATIO * _DARK)
    top = _path(optics, two) + _both_ways(optics, two) * dark
    return float(np.diff(top)[0] / 0.05)


def _dark_levels(
    simulation: Simulation, day: int, hour: float, window: Window
) -> tuple[Float32Array, Float32Array]:
    """Reflectance at 2.2 µm and in red of the darkest vegetation around each pixel (y, x) [1]."""
    if not simulation.change:
        day = int(np.datetime64(simulation.start, "D").astype(int))
    bottom = window.top - window.step * window.height
    right = window.left + window.step * window.width
    west, east = (round(np.floor(x / _NODE - 0.5)) for x in (window.left, right))
    south, north = (round(np.floor(y / _NODE - 0.5)) for y in (bottom, window.top))
    about = (simulation.seed, simulation.variant, day, hour)
    levels = [
        [
            darkness(*about, column, row, simulation.double_cropping)
            for column in range(west, east + 2)
        ]
        for row in range(north + 1, south - 1, -1)
    ]
    grid = Window(
        left=west * _NODE, top=(north + 2) * _NODE, step=_NODE, width=east + 2 - west,
        height=north + 2 - south,
    )  # fmt: skip
    dark, red = np.moveaxis(np.array(levels), -1, 0)
    return upsample(dark, grid, window), upsample(red, grid, window)


@lru_cache(maxsize=256)
def _sample(seed: int, column: int, row: int) -> Landscape:
    window = Window(
        left=column * _NODE, top=(row + 1) * _NODE, step=120.0, width=32, height=32
    )  # fmt: skip
    return render_landscape(seed, window)


@lru_cache(maxsize=4096)
def darkness(
    seed: int, variant: Variant, day: int, hour: float, column: int, row: int, double: float = 0.0
) -> tuple[float, float]:
    """Mean reflectance at 2.2 µm and in red [1] of the vegetation that is the darkest at 2.2 µm.

    As many pixels as 2 % of the region, with NDVI above 0.4; (1, 0.5), no dark target, where there
    are fewer. 2 % is a choice. Regions are squares of 3,840 m of one absolute lattice.
    """
    landscape = _sample(seed, column, row)
    ground = ground_on(seed, day, hour, landscape.unit_key, landscape.unit_cover, double=double)
    red, near, short = mixed_reflectance(
        endmember_shares(landscape, ground), _dark_table(), variant
    )
    green = (near - red) > 0.4 * (near + red)
    needed = int(0.02 * len(short))
    if green.sum() <= needed:
        return 1.0, _RATIO
    darkest = np.argpartition(short[green], needed)[:needed]
    return float(short[green][darkest].mean()), float(red[green][darkest].mean())


@lru_cache(maxsize=1)
def _dark_table() -> Float64Array:
    instrument = get_sensor("sentinel-2-l2a").instrument("sentinel-2a")
    return endmember_table(tuple(instrument.band(name) for name in ("red", "nir08", "swir22")))


def explained_sd(centers: tuple[float, ...], typical: Float64Array) -> Float64Array:
    """SD of the correction error [1] that an ordinary retrieval error causes, per band.

    Taken off the errors that are drawn independently, so that they are not counted twice. For a
    sun at 45 degrees, a view from nadir and the median load.
    """
    angles = Angles(sun_zenith=45.0, sun_azimuth=150.0, view_zenith=0.0, view_azimuth=0.0)
    load = np.full(1, _LOAD[0], np.float32)
    step = np.float32(_EXPECTED[0] + _EXPECTED[1] * _LOAD[0])
    none = np.zeros(1, np.float32)
    air = Air(
        angles=angles, load=load, retrieved=load + step, cirrus=none, glow=none, strength=1.0,
        cloud_height=0.0,
    )  # fmt: skip
    images = [np.full(1, value, np.float32) for value in typical]
    changes = [air.look(image, c)[0] - image[0] for image, c in zip(images, centers)]
    return np.abs(np.array(changes, np.float64))
