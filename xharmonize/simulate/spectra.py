"""Spectra of pure surfaces and the reflectance a band sees of them.

The spectra are parametric: two-stream canopies with Gaussian pigment and water absorptions,
soils and mineral surfaces as saturating exponentials with absorption features, water as a
decaying exponential with a sediment peak. No measured spectrum is used; the shapes follow the
references, and the numbers are tuned until the line between the bands of two sensors is that of
measured spectra (see the fingerprint in the documentation).

References
----------
Hapke (1981), Bidirectional reflectance spectroscopy 1, https://doi.org/10.1029/JB086iB04p03039
Jacquemoud and Baret (1990), PROSPECT, https://doi.org/10.1016/0034-4257(90)90100-Z
Stoner and Baumgardner (1981), Characteristic variations in reflectance of surface soils,
https://doi.org/10.2136/sssaj1981.03615995004500060031x
Doxaran et al. (2002), Spectral signature of highly turbid waters,
https://doi.org/10.1016/S0034-4257(01)00341-8
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from xharmonize.types import Float64Array

WAVELENGTH: Float64Array = np.arange(400.0, 2405.0, 5.0)
"""Wavelengths [nm] of all spectra here."""

ENDMEMBERS = (
    "crop_leaf",
    "grass_leaf",
    "forest_leaf",
    "pale_leaf",
    "straw",
    "litter",
    "dark_soil",
    "bright_soil",
    "clear_water",
    "turbid_water",
    "asphalt",
    "concrete",
    "tile_roof",
    "metal_roof",
    "flower",
)
"""Pure surfaces, in the order of the abundance planes."""


def _peak(center: float, width: float) -> Float64Array:
    return np.exp(-0.5 * ((WAVELENGTH - center) / width) ** 2)


def _edge(center: float, width: float) -> Float64Array:
    return 1.0 / (1.0 + np.exp(-(WAVELENGTH - center) / width))


_PIGMENTS = (
    (410, 25, 2.50), (440, 22, 0.31), (470, 20, 2.19), (495, 12, 0.32), (510, 14, 1.35),
    (540, 20, 1.09), (575, 22, 0.92), (610, 22, 1.12), (640, 16, 1.40), (662, 12, 1.29),
    (680, 10, 1.72), (698, 9, 0.82), (715, 12, 0.47),
)  # fmt: skip
"""Centre [nm], width [nm] and depth of the pigment absorption of a healthy crop."""


def canopy(*, pigment: float, water: float, dry: float, loss: float) -> Float64Array:
    """Reflectance [1] of a canopy so deep that the ground does not show.

    The single-scattering albedo of a leaf is ``exp(-sum(k_i c_i))``; the canopy is the two-stream
    solution of a semi-infinite medium, ``(1 - s) / (1 + s)`` with ``s = sqrt(1 - albedo)``.

    Parameters
    ----------
    pigment, water, dry : float
        Absorber amounts relative to a healthy crop [1].
    loss : float
        Absorption outside all features [1] (bark, shade inside the crown).
    """
    k_pigment = np.sum([depth * _peak(*where) for *where, depth in _PIGMENTS], axis=0)
    k_water = (
        0.030 * _peak(972, 28)
        + 0.085 * _peak(1190, 45)
        + 0.75 * _peak(1450, 60)
        + 0.22 * _edge(1400, 60)
        + 1.60 * _peak(1940, 85)
        + 0.35 * _edge(1900, 60)
        + 1.30 * _peak(2500, 190)
    )
    k_dry = 0.05 + 0.10 * _edge(1650, 90) + 0.14 * _peak(2105, 60) + 0.16 * _peak(2300, 60)
    s = np.sqrt(1.0 - np.exp(-(pigment * k_pigment + water * k_water + dry * k_dry + loss)))
    return np.asarray((1.0 - s) / (1.0 + s), np.float64)


def mineral(
    *,
    level: float,
    rise: float,
    start: float,
    iron: float = 0.0,
    clay: float = 0.0,
    moisture: float = 0.0,
) -> Float64Array:
    """Reflectance [1] of soil, stone or concrete: a saturating rise with absorption features.

    Parameters
    ----------
    level : float
        Reflectance in the short-wave infrared [1].
    rise : float
        Length of the rise [nm]; short means grey.
    start : float
        Share of `level` already there at 400 nm [1].
    iron, clay, moisture : float
        Depths of the absorptions at 500 and 880 nm, 2205 nm, and of liquid water [1].
    """
    shape = start + (1.0 - start) * (1.0 - np.exp(-(WAVELENGTH - 400.0) / rise))
    features = iron * (1.3 * _peak(490, 60) + 0.6 * _peak(880, 70)) + clay * _peak(2206, 28)
    features = features + moisture * (
        0.5 * _peak(1450, 60)
        + 0.18 * _edge(1350, 80)
        + 0.9 * _peak(1935, 80)
        + 0.25 * _edge(1900, 60)
        + 0.25 * _peak(2450, 150)
    )
    return np.asarray(level * shape * np.exp(-features), np.float64)


def water(*, level: float, decay: float, sediment: float) -> Float64Array:
    """Reflectance [1] of water: a decaying blue background and a sediment peak near 600 nm."""
    clear = level * np.exp(-(WAVELENGTH - 400.0) / decay)
    silt = sediment * (_edge(520, 25) * (1 - _edge(715, 18)) + 0.35 * _peak(810, 25))
    return np.asarray(0.004 + clear + silt, np.float64)


def dry_plant(*, level: float, brown: float) -> Float64Array:
    """Reflectance [1] of straw or litter: a brown rise, cellulose and lignin absorption."""
    shape = 1.0 - 0.92 * np.exp(-(WAVELENGTH - 370.0) / brown)
    features = 0.22 * _peak(2100, 60) + 0.16 * _peak(2310, 60) + 0.25 * _peak(1930, 70)
    features = features + 0.12 * _peak(1450, 55) + 0.12 * _edge(1800, 120)
    return np.asarray(level * shape * np.exp(-features), np.float64)


@lru_cache(maxsize=1)
def endmember_spectra() -> Float64Array:
    """Return the spectra (endmember, wavelength) of `ENDMEMBERS` [1]."""
    pale = canopy(pigment=0.50, water=0.55, dry=1.2, loss=0.03)
    table = {
        "crop_leaf": canopy(pigment=1.0, water=1.0, dry=0.5, loss=0.02),
        "grass_leaf": canopy(pigment=0.78, water=0.8, dry=0.9, loss=0.035),
        "forest_leaf": canopy(pigment=1.12, water=1.25, dry=0.9, loss=0.09),
        "pale_leaf": pale,
        "straw": dry_plant(level=0.46, brown=477.0),
        "litter": dry_plant(level=0.30, brown=737.0),
        "dark_soil": mineral(level=0.21, rise=750.0, start=0.118, iron=0.126, moisture=0.45),
        "bright_soil": mineral(level=0.43, rise=580.0, start=0.223, iron=0.159, clay=0.10),
        "clear_water": water(level=0.035, decay=190.0, sediment=0.004),
        "turbid_water": water(level=0.035, decay=260.0, sediment=0.055),
        "asphalt": mineral(level=0.15, rise=700.0, start=0.45),
        "concrete": mineral(level=0.38, rise=330.0, start=0.55, clay=0.05, moisture=0.06),
        "tile_roof": mineral(level=0.36, rise=260.0, start=0.08, iron=0.35),
        "metal_roof": mineral(level=0.60, rise=250.0, start=0.90, moisture=0.04),
        "flower": pale + 0.10 * _edge(525, 12) * (1 - _edge(720, 10)),
    }
    return np.stack([table[name] for name in ENDMEMBERS])


def response(center: float, low: float, high: float) -> Float64Array:
    """Return the relative spectral response of a band at `WAVELENGTH`, with unit sum.

    A super-Gaussian of order eight, half of its peak at the band edges: flat top, steep sides,
    as interference filters have them. It sits on the published centre, not on the middle of the
    edges.

    Parameters
    ----------
    center, low, high : float
        Centre wavelength and half-power edges [nm].
    """
    half = (high - low) / 2.0
    fine = np.arange(center - 2 * half, center + 2 * half, 0.5)
    weight = np.exp(-np.log(2.0) * ((fine - center) / half) ** 8)
    # each fine wavelength gives to its two neighbours in WAVELENGTH: exact for linear spectra
    position = (fine - WAVELENGTH[0]) / (WAVELENGTH[1] - WAVELENGTH[0])
    base = np.clip(np.floor(position).astype(int), 0, len(WAVELENGTH) - 2)
    share = np.clip(position - base, 0.0, 1.0)
    total = np.bincount(base, weight * (1 - share), len(WAVELENGTH))
    total = total + np.bincount(base + 1, weight * share, len(WAVELENGTH))
    return np.asarray(total / total.sum(), np.float64)


@lru_cache(maxsize=64)
def band_spectra(bands: tuple[tuple[float, float, float], ...]) -> Float64Array:
    """Return what bands see of the endmembers.

    Parameters
    ----------
    bands : tuple of (center, low, high)
        Centre wavelength and edges [nm] of each band.

    Returns
    -------
    (endmember, band) float64 array
        Reflectance [1].
    """
    spectra = endmember_spectra()
    return np.stack([spectra @ response(*band) for band in bands], axis=1)
