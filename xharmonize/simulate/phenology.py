"""What units look like on a day: leaf area, senescence, residue, moisture, and endmember shares.

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

import numpy as np
import numpy.typing as npt

from xharmonize.simulate.landscape import Cover
from xharmonize.simulate.noise import Keys, name_key, normal, uniform
from xharmonize.types import Float64Array


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

_RAPESEED = 3


@dataclass(frozen=True, kw_only=True)
class _Moment:
    """A moment: day of the year with its fraction, year, and moisture of the region [1]."""

    seed: int
    now: float
    year: int
    wetness: float


def ground_on(seed: int, day: int, hour: float, key: Keys, cover: npt.NDArray[np.int64]) -> Ground:
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
    """
    doy, year = _day_of_year(day)
    moment = _Moment(seed=seed, now=doy + hour / 24, year=year, wetness=wetness(seed, day))
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


def _crops(moment: _Moment, key: Keys) -> Ground:
    seasons = [
        _season(moment.seed, moment.now + 365.25 * back, moment.year - back, key)
        for back in (-1, 0, 1)
    ]
    # the season that stands on the field now; else bare, or stubble of the one before
    state = seasons[1]
    for other in (seasons[2], seasons[0]):
        state = _choose(other.leaf_area > state.leaf_area, other, state)
    residue = np.max([season.residue for season in seasons], axis=0)
    rough = np.max([season.roughness for season in seasons], axis=0)
    return replace(state, residue=residue, roughness=rough)


def _season(seed: int, now: float, year: int, key: Keys) -> Ground:
    crop = crop_of(seed, year, key)
    c = {f.name: np.array([getattr(x, f.name) for x in _CROPS])[crop] for f in fields(_Crop)}
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
    cover_crop = (uniform(key, 76, year) < 0.45) & (since > 28) & (since < 190)
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
