"""What units look like on a day: leaf area, spectra of surfaces, reflectance of mixtures.

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
Soil Science Society of America Journal 45
Doxaran et al. (2002), Spectral signature of highly turbid waters,
https://doi.org/10.1016/S0034-4257(01)00341-8

Crops follow double-logistic leaf area with dates of sowing and harvest drawn per field and year;
grass is mown and grows back; soil moisture follows the rain of the days before.

References
----------
Beck et al. (2006), Improved monitoring of vegetation dynamics: a new NDVI method
(double logistic), https://doi.org/10.1016/j.rse.2005.10.021
Kohler and Linsley (1951), Predicting the runoff from storm rainfall (antecedent precipitation
index), US Weather Bureau Research Paper 34
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from xharmonize.simulate.landscape import Cover
from xharmonize.simulate.noise import Keys, name_key, normal, uniform
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


@dataclass(frozen=True, kw_only=True)
class Ground:
    """State of the units on one day; every field is a (unit,) float64 array [1].

    Attributes
    ----------
    leaf_area : array
        Leaf area index [m2/m2].
    senescence : array
        Share of dead leaves in the canopy, 0 to 1.
    pale : array
        Share of pale leaves among the green ones, 0 to 1.
    residue : array
        Share of open ground under straw or litter, 0 to 1.
    flower : array
        Share of the canopy in bloom, 0 to 1.
    moisture : array
        Soil moisture, 0 (dry) to 1 (saturated).
    roughness : array
        Roughness of the soil, 0 (crusted) to 1 (fresh plough).
    """

    leaf_area: Float64Array
    senescence: Float64Array
    pale: Float64Array
    residue: Float64Array
    flower: Float64Array
    moisture: Float64Array
    roughness: Float64Array


@dataclass(frozen=True, kw_only=True)
class _Crop:
    """Calendar of one crop (days of the year of harvest; negative is the year before)."""

    share: float
    emergence: float
    green_up: float
    senescence: float
    harvest: float
    spread: float
    peak: float
    pace: float
    dry_down: float


_CROPS = (
    _Crop(share=0.34, emergence=-55, green_up=102, senescence=172, harvest=204, spread=6,
          peak=4.6, pace=12, dry_down=1.0),
    _Crop(share=0.28, emergence=128, green_up=178, senescence=255, harvest=276, spread=9,
          peak=4.3, pace=8, dry_down=0.6),
    _Crop(share=0.18, emergence=138, green_up=168, senescence=258, harvest=280, spread=13,
          peak=3.9, pace=8, dry_down=0.25),
    _Crop(share=0.10, emergence=-105, green_up=92, senescence=168, harvest=194, spread=5,
          peak=4.4, pace=12, dry_down=0.85),
    _Crop(share=0.10, emergence=95, green_up=138, senescence=190, harvest=214, spread=12,
          peak=3.6, pace=8, dry_down=0.7),
)  # fmt: skip
"""Winter cereals, maize, root crops, rapeseed, spring crops: temperate Europe."""

CROPS = ("winter_cereal", "maize", "root_crop", "rapeseed", "spring_crop")
"""Names of the crops, in the order of `crop_of`."""

_TWO_CROPS = (
    _Crop(share=1.0, emergence=-75, green_up=80, senescence=142, harvest=160, spread=4,
          peak=4.8, pace=10, dry_down=1.0),
    _Crop(share=1.0, emergence=172, green_up=200, senescence=258, harvest=278, spread=4,
          peak=4.5, pace=7, dry_down=0.6),
)  # fmt: skip
"""Winter wheat and, sown into its stubble, maize: the North China Plain, as paper 003 has it."""

TWO_CROPS = "winter_cereal_maize"
"""Name of the two crops of a year."""

_RAPESEED = 3


@dataclass(frozen=True, kw_only=True)
class _Moment:
    """A moment: day of the year with its fraction, year, and moisture of the region [1]."""

    double: float
    seed: int
    now: float
    year: int
    wetness: float


def ground_on(
    seed: int, day: int, hour: float, key: Keys, cover: npt.NDArray[np.int64], *,
    double: float = 0.0,
) -> Ground:  # fmt: skip
    """Return the state of units on a day.

    Parameters
    ----------
    day : int
        Days since 1970-01-01.
    hour : float
        Hour of the day [h]; growth is continuous, events happen between days.
    key : (unit,) uint64 array
        Hashes of the units.
    cover : (unit,) int64 array
        `Cover` of the units.
    double : float
        Share of the fields that bear two crops a year [1].
    """
    doy, year = _day_of_year(day)
    moment = _Moment(
        double=double, seed=seed, now=doy + hour / 24, year=year, wetness=wetness(seed, day)
    )
    state = _crops(moment, key)
    for code, rule in (
        (Cover.GRASS, _grass),
        (Cover.DECIDUOUS, _deciduous),
        (Cover.HEDGE, _deciduous),
        (Cover.CONIFER, _conifer),
    ):
        state = _choose(cover == int(code), rule(moment, key), state)
    bare = np.isin(cover, (Cover.BARE, Cover.BUILT, Cover.ROAD, Cover.WATER))
    state = _choose(bare, _bare(key), state)
    # wind, dew, irrigation and traffic: fields differ a little from one day to the next
    drainage = 0.14 * normal(key, 71) + 0.06 * normal(key, 79, day)
    return replace(
        state,
        leaf_area=state.leaf_area * np.exp(0.05 * normal(key, 80, day)),
        moisture=np.clip(moment.wetness + drainage, 0.02, 1.0),
    )


def wetness(seed: int, day: int) -> float:
    """Moisture of the top soil of the region [1] from the rain of the last 40 days."""
    lags = np.arange(40)
    past = day - lags
    season = 0.5 + 0.5 * np.cos(2 * np.pi * (_day_of_year(day)[0] - 20) / 365.25)
    wet_spell = uniform(seed, name_key("spell"), past // 9) < 0.45 + 0.25 * season
    wet = uniform(seed, name_key("rain"), past) < np.where(wet_spell, 0.55, 0.08)
    rain = wet * -6.5 * np.log(uniform(seed, name_key("amount"), past))
    memory = 0.80 + 0.12 * season
    return float(np.clip(np.sum(rain * memory**lags) / (34 + 20 * season), 0, 1))


def _day_of_year(day: int) -> tuple[float, int]:
    date = np.datetime64(day, "D")
    year = date.astype("datetime64[Y]")
    return float((date - year.astype("datetime64[D]")).astype(int)), int(year.astype(int)) + 1970


def _choose(where: npt.NDArray[np.bool_], new: Ground, old: Ground) -> Ground:
    return Ground(
        **{f.name: np.where(where, getattr(new, f.name), getattr(old, f.name)) for f in fields(old)}
    )


def _rise(
    time: Float64Array, middle: Float64Array | float, pace: Float64Array | float
) -> Float64Array:
    return np.asarray(1 / (1 + np.exp(-np.clip((time - middle) / pace, -40, 40))), np.float64)


def crop_of(seed: int, year: int, key: Keys) -> npt.NDArray[np.intp]:
    """Return which crop of the rotation a field bears for the harvest of a year."""
    edges = np.cumsum([crop.share for crop in _CROPS])[:-1]
    return np.searchsorted(edges, uniform(seed, name_key("rotation"), key, year))


def is_double(seed: int, double: float, key: Keys) -> npt.NDArray[np.bool_]:
    """Whether a field bears two crops a year, for the share of fields that do [1]."""
    return np.asarray(uniform(seed, name_key("two crops"), key) < double)


def _crops(moment: _Moment, key: Keys) -> Ground:
    def seasons(*tables: tuple[_Crop, ...]) -> list[Ground]:
        return [
            _season(moment.seed, moment.now + 365.25 * back, moment.year - back, key, table)
            for back in (0, 1, -1)
            for table in tables
        ]

    state = _standing(seasons(_CROPS))
    if moment.double == 0:
        return state
    double = _standing(seasons(*((crop,) for crop in _TWO_CROPS)))
    return _choose(is_double(moment.seed, moment.double, key), double, state)


def _standing(seasons: list[Ground]) -> Ground:
    """The season that stands on the field now; else bare, or stubble of the one before."""
    state = seasons[0]
    for other in seasons[1:]:
        state = _choose(other.leaf_area > state.leaf_area, other, state)
    residue = np.max([season.residue for season in seasons], axis=0)
    rough = np.max([season.roughness for season in seasons], axis=0)
    return replace(state, residue=residue, roughness=rough)


def _season(seed: int, now: float, year: int, key: Keys, table: tuple[_Crop, ...]) -> Ground:
    in_rotation = table is _CROPS
    crop = crop_of(seed, year, key) if in_rotation else np.zeros(len(key), np.intp)
    c = {f.name: np.array([getattr(x, f.name) for x in table])[crop] for f in fields(_Crop)}
    late = c["spread"] * normal(key, 72, year)
    harvest = c["harvest"] + 1.2 * late + 4 * normal(key, 73, year)
    vigour = np.exp(0.16 * normal(key, 74, year))
    emergence = c["emergence"] + late
    time = np.full(len(key), now)
    winter = np.where(c["emergence"] < 0, 0.22 * _rise(time, emergence + 20, 9), 0)
    canopy = np.maximum(winter, _rise(time, c["green_up"] + late, c["pace"]))
    canopy = canopy * (1 - 0.45 * _rise(time, c["senescence"] + late + 14, 8))
    standing = (time > emergence) & (time < harvest)
    dead = c["dry_down"] * _rise(time, c["senescence"] + late + 12, 5.5)
    pale = 0.22 + 0.6 * _rise(time, c["senescence"] + late, 7) + 0.12 * normal(key, 75, year)
    since = time - harvest
    cover_crop = (uniform(key, 76, year) < 0.45 * in_rotation) & (since > 28) & (since < 190)
    regrowth = 1.7 * _rise(since, 52 + 6 * normal(key, 77, year), 9) * cover_crop
    ploughed = 16 + 60 * uniform(key, 78, year)
    stubble = np.where((since > 0) & (since < ploughed), 0.8 * np.exp(-since / 60), 0.05)
    fresh = np.where(since > ploughed, np.exp(-np.clip(since - ploughed, 0, None) / 40), 0.25)
    bloom = np.exp(-(((time - 122 - late) / 9) ** 2)) * (crop == _RAPESEED)
    return Ground(
        leaf_area=np.where(standing, c["peak"] * vigour * canopy, regrowth),
        senescence=np.where(standing, np.clip(dead, 0, 1), 0.05),
        pale=np.where(standing, np.clip(pale, 0, 1), 0.35),
        residue=np.where((since > 0) & (since < 250), stubble, 0.04),
        flower=np.where(standing, 0.45 * bloom, 0.0),
        moisture=np.zeros(len(key)),
        roughness=np.where((since > 0) & (since < 250), fresh, 0.2),
    )


def _grass(moment: _Moment, key: Keys) -> Ground:
    now, year = np.full(len(key), moment.now), moment.year
    season = _rise(now, 88 + 6 * normal(key, 81), 14) * (1 - _rise(now, 318, 16))
    interval = 32 + 22 * uniform(key, 82)
    first = 128 + 18 * uniform(key, 83)
    since = np.where((now > first) & (now < 290), (now - first) % interval, 60.0)
    mown = uniform(key, 84) < 0.62
    growth = np.where(mown, 0.16 + 0.84 * _rise(since, 12, 4.0), 0.72)
    drought = np.clip(0.35 - moment.wetness, 0, 1) * season
    area = (1.0 + 2.6 * season) * growth * np.exp(0.18 * normal(key, 85, year))
    cut = mown & (since < 7)
    return Ground(
        leaf_area=area * (1 - 0.4 * drought),
        senescence=np.clip(
            0.10 + 0.5 * drought + np.where(cut, 0.30, 0) + 0.12 * (1 - season), 0, 1
        ),
        pale=np.clip(0.32 + 0.3 * drought + 0.13 * normal(key, 86, year), 0, 1),
        residue=np.where(cut, 0.75, 0.5),
        flower=np.clip(0.03 * normal(key, 87, year), 0, 0.08),
        moisture=np.zeros(len(key)),
        roughness=np.full(len(key), 0.15),
    )


def _deciduous(moment: _Moment, key: Keys) -> Ground:
    now = np.full(len(key), moment.now)
    late = 5 * normal(key, 91)
    leaves = _rise(now, 115 + late, 5) * (1 - _rise(now, 304 + late, 7))
    autumn = _rise(now, 286 + late, 7)
    return Ground(
        leaf_area=0.55 + (4.2 + 0.5 * normal(key, 92)) * leaves,
        senescence=np.clip(0.04 + 0.45 * autumn + 0.5 * (1 - leaves), 0, 0.9),
        pale=np.clip(0.10 + 0.35 * autumn + 0.07 * normal(key, 93), 0, 1),
        residue=np.full(len(key), 0.85),
        flower=np.zeros(len(key)),
        moisture=np.zeros(len(key)),
        roughness=np.full(len(key), 0.3),
    )


def _conifer(moment: _Moment, key: Keys) -> Ground:
    flush = np.exp(-(((moment.now - 165) / 30.0) ** 2))
    return Ground(
        leaf_area=4.2 + 0.7 * normal(key, 94),
        senescence=np.full(len(key), 0.06),
        pale=np.clip(0.03 + 0.05 * flush + 0.03 * normal(key, 95), 0, 1),
        residue=np.full(len(key), 0.9),
        flower=np.zeros(len(key)),
        moisture=np.zeros(len(key)),
        roughness=np.full(len(key), 0.3),
    )


def _bare(key: Keys) -> Ground:
    none = np.zeros(len(key))
    return Ground(
        leaf_area=0.12 * uniform(key, 96),
        senescence=none + 0.3,
        pale=none + 0.5,
        residue=none + 0.05,
        flower=none,
        moisture=none,
        roughness=none + 0.3,
    )
