"""From the state of the ground to endmember shares per cell, and on to reflectance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xharmonize.sensors.spec import Band
from xharmonize.simulate.config import Variant
from xharmonize.simulate.landscape import Codes, Cover, Landscape, by_cover
from xharmonize.simulate.noise import Float32Array, Keys, normal, uniform
from xharmonize.simulate.vegetation import ENDMEMBERS, Ground, band_spectra
from xharmonize.types import Float64Array

_INDEX = {name: i for i, name in enumerate(ENDMEMBERS)}

_SHADE = {
    Cover.CROP: 0.18,
    Cover.GRASS: 0.16,
    Cover.DECIDUOUS: 0.27,
    Cover.CONIFER: 0.48,
    Cover.HEDGE: 0.30,
    Cover.BUILT: 0.06,
    Cover.ROAD: 0.05,
}
"""Mean share of shade inside a canopy or beside a building."""

_SHADE_SPREAD = {Cover.DECIDUOUS: 0.10, Cover.CONIFER: 0.12, Cover.HEDGE: 0.13, Cover.BUILT: 0.06}


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Endmember shares of a window on one day.

    Attributes
    ----------
    planes : (endmember, cell) float32 array
        Share of each endmember [1], shade taken off, so that sums are below 1.
    leaf_cover : (cell,) float32 array
        Share of the cell under leaves [1].
    """

    planes: Float32Array
    leaf_cover: Float32Array


def endmember_shares(
    landscape: Landscape, ground: Ground, unrest: Float32Array | float = 0.0
) -> Shares:
    """Return the endmember shares of every cell.

    Parameters
    ----------
    landscape : Landscape
        Static ground of the window.
    ground : Ground
        State of its units on the day.
    unrest : (y, x) float32 array
        Standard normal field [1] of what differs from day to day inside units: drying, wind.
    """
    today = np.float32(0) + np.ravel(unrest)
    unit, cover = landscape.unit.ravel(), landscape.unit_cover
    vigour, hue = landscape.vigour.ravel(), landscape.hue.ravel()
    brightness = landscape.brightness.ravel()

    def spread(values: Float64Array) -> Float32Array:
        return values.astype(np.float32)[unit]

    area = spread(ground.leaf_area) * np.exp(np.float32(0.26) * vigour + np.float32(0.15) * today)
    leaves = 1 - np.exp(np.float32(-0.62) * area)
    dead = np.clip(spread(ground.senescence) * (1 + np.float32(0.22) * hue), 0, 1)
    pale = np.clip(spread(ground.pale) + np.float32(0.12) * hue + np.float32(0.06) * today, 0, 1)
    flower = spread(ground.flower)
    open_ground = 1 - leaves
    residue = spread(ground.residue) * open_ground + leaves * dead
    green = leaves * (1 - dead) * (1 - flower)
    soil = open_ground * (1 - spread(ground.residue))
    bright = np.clip(
        spread(_soil_brightness(landscape.unit_key, ground))
        + np.float32(0.15) * brightness
        + np.float32(0.09) * today,
        0,
        1,
    )
    planes = np.zeros((len(ENDMEMBERS), len(unit)), np.float32)
    straw = spread(_straw_share(cover))
    planes[_INDEX["pale_leaf"]] = green * pale
    for leaf in ("crop_leaf", "grass_leaf", "forest_leaf"):
        share = np.where(_leaf_kind(cover) == leaf, 1.0, 0.0)
        planes[_INDEX[leaf]] = green * (1 - pale) * spread(share)
    planes[_INDEX["straw"]] = residue * straw
    planes[_INDEX["litter"]] = residue * (1 - straw)
    planes[_INDEX["bright_soil"]] = soil * bright
    planes[_INDEX["dark_soil"]] = soil * (1 - bright)
    planes[_INDEX["flower"]] = leaves * flower
    _built_and_water(planes, landscape, unit)
    planes *= 1 - _shade(landscape)
    return Shares(planes=planes, leaf_cover=leaves)


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


def _soil_brightness(key: Keys, ground: Ground) -> Float64Array:
    texture = 0.50 + 0.16 * normal(key, 101)
    return texture - 0.50 * ground.moisture - 0.12 * ground.roughness


def _leaf_kind(cover: Codes) -> npt.NDArray[np.str_]:
    trees = np.isin(cover, (Cover.DECIDUOUS, Cover.CONIFER, Cover.HEDGE))
    return np.where(trees, "forest_leaf", np.where(cover == Cover.GRASS, "grass_leaf", "crop_leaf"))


def _straw_share(cover: Codes) -> Float64Array:
    return np.where(np.isin(cover, (Cover.CROP, Cover.GRASS)), 0.72, 0.15)


def _built_and_water(
    planes: Float32Array, landscape: Landscape, unit: npt.NDArray[np.intp]
) -> None:
    """Put roofs, roads and water in place of the vegetation model where they are."""
    key, cover = landscape.unit_key, landscape.unit_cover
    kind, tone = uniform(key, 102), 0.14 * normal(key, 103)
    recipe = np.zeros((len(ENDMEMBERS), len(key)))
    built, road, water = (cover == int(c) for c in (Cover.BUILT, Cover.ROAD, Cover.WATER))
    tile, grey = built & (kind < 0.5), built & (kind >= 0.5) & (kind < 0.86)
    recipe[_INDEX["tile_roof"]] = np.where(tile, 0.62 + tone, 0)
    recipe[_INDEX["asphalt"]] = np.where(tile, 0.3, np.where(grey, 0.75 + tone, 0)) + 0.88 * road
    recipe[_INDEX["concrete"]] = np.where(grey, 0.18, 0) + 0.10 * road
    recipe[_INDEX["metal_roof"]] = np.where(built & ~tile & ~grey, 0.62 + tone, 0)
    recipe[_INDEX["clear_water"]] = np.where(water, 0.45, 0)
    recipe[_INDEX["turbid_water"]] = np.where(water, 0.55, 0)
    fixed = (built | road | water)[unit]
    planes[:, fixed] = recipe.astype(np.float32)[:, unit[fixed]]


def _shade(landscape: Landscape) -> Float32Array:
    mean = by_cover(_SHADE, landscape.unit_cover, 0.0)
    mean = mean * (1 + 0.15 * normal(landscape.unit_key, 104))
    width = by_cover(_SHADE_SPREAD, landscape.unit_cover, 0.04)
    unit = landscape.unit
    shade = mean.astype(np.float32)[unit] + width.astype(np.float32)[unit] * landscape.crown
    return np.clip(shade, 0, 0.85).ravel()
