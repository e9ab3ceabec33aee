"""The ground: what covers each cell, in units (fields, woods, roofs …) that share their history.

Everything is a function of absolute coordinates and the seed, so neighbouring tiles fit together
and any window can be rendered by itself. Land parcels follow the usual pattern of western
Europe: road-bounded blocks (a jittered Voronoi diagram), strips of fields inside each block with
a direction and a size of their own, woods, a meandering river, villages and a town.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from xharmonize.simulate.noise import (
    Float32Array,
    Keys,
    Window,
    draw,
    hashed,
    name_key,
    normal,
    smooth_noise,
    uniform,
    white_noise,
)
from xharmonize.types import Float64Array

Codes: TypeAlias = npt.NDArray[np.int64]
"""`Cover` codes."""


class Cover(IntEnum):
    """Land cover codes of the truth."""

    CROP = 1
    GRASS = 2
    DECIDUOUS = 3
    CONIFER = 4
    WATER = 5
    BUILT = 6
    ROAD = 7
    BARE = 8
    HEDGE = 9


def by_cover(values: Mapping[Cover, float], cover: Codes, default: float) -> Float64Array:
    """Look up a number per cover; `default` for covers not listed."""
    table = np.full(max(Cover) + 1, default)
    for code, value in values.items():
        table[code] = value
    return table[cover]


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """The static part of a window of ground.

    Attributes
    ----------
    unit : (y, x) intp array
        Index of the unit each cell belongs to.
    unit_key : (unit,) uint64 array
        Hash that seeds whatever is drawn for the unit.
    unit_cover : (unit,) int64 array
        `Cover` of the unit.
    vigour, brightness, hue, crown : (y, x) float32 array
        Standard normal fields [1] behind the variation inside units: leaf area, soil brightness
        and moisture, leaf colour, and shade inside canopies.
    east, north : (y, x) float32 array
        Slope of the ground towards east and north [m/m].
    """

    window: Window
    unit: npt.NDArray[np.intp]
    unit_key: Keys
    unit_cover: npt.NDArray[np.int64]
    vigour: Float32Array
    brightness: Float32Array
    hue: Float32Array
    crown: Float32Array
    east: Float32Array
    north: Float32Array

    @property
    def cover(self) -> npt.NDArray[np.uint8]:
        """`Cover` code of every cell, (y, x)."""
        return self.unit_cover.astype(np.uint8)[self.unit]


@dataclass(frozen=True, kw_only=True)
class _Cells:
    """Nearest and second nearest site of a jittered lattice, per cell of a window."""

    key: Keys
    neighbour: Keys
    edge: Float64Array = field(repr=False)
    dx: Float64Array = field(repr=False)
    dy: Float64Array = field(repr=False)
    site_x: Float64Array = field(repr=False)
    site_y: Float64Array = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class _Site:
    """What the layers of a landscape are drawn from; `town` is the distance inside one [m]."""

    seed: int
    window: Window
    blocks: _Cells
    town: Float64Array = field(repr=False)


def render_landscape(seed: int, window: Window) -> Landscape:
    """Render the static ground of a window.

    Parameters
    ----------
    seed : int
        Of the simulation.
    window : Window
        Cells to render; truth uses cells of 2.5 m.
    """
    x, y = _warped(seed, window)
    blocks = _voronoi(seed, "block", x, y, spacing=620.0)
    key, cover = _fields(seed, blocks)
    site = _Site(seed=seed, window=window, blocks=blocks, town=_town_level(seed, x, y))
    for layer in (_woods, _town, _roads, _river):
        key, cover = layer(site, key, cover)
    combined = key ^ (cover.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    keys, first, unit = np.unique(combined, return_index=True, return_inverse=True)
    east, north = _slopes(seed, window)
    return Landscape(
        window=window,
        unit=unit.reshape(window.shape),
        unit_key=keys,
        unit_cover=cover.ravel()[first],
        vigour=_texture(seed, "vigour", window, (130.0, 40.0, 14.0, 5.0), (0.62, 0.55, 0.45, 0.33)),
        brightness=_texture(
            seed, "brightness", window, (280.0, 60.0, 18.0, 6.0), (0.62, 0.55, 0.45, 0.33)
        ),
        hue=_texture(seed, "hue", window, (110.0, 30.0, 12.0), (0.68, 0.57, 0.46)),
        crown=_texture(seed, "crown", window, (10.0,), (0.75,), white=0.66),
        east=east,
        north=north,
    )


def _texture(
    seed: int,
    name: str,
    window: Window,
    lengths: tuple[float, ...],
    weights: tuple[float, ...],
    *,
    white: float = 0.0,
) -> Float32Array:
    total = np.zeros(window.shape, np.float32)
    for i, (length, weight) in enumerate(zip(lengths, weights)):
        if length >= window.step:
            total += np.float32(weight) * smooth_noise(seed, name, window, i, length=length)
    if white:
        total += np.float32(white) * white_noise(seed, name + "-white", window)
    return total


def _warped(seed: int, window: Window) -> tuple[Float64Array, Float64Array]:
    """Coordinates bent by up to some tens of metres, so that borders are not straight."""
    bend_x = 38 * smooth_noise(seed, "bend-x", window, length=420.0, octaves=3, persistence=0.4)
    bend_y = 38 * smooth_noise(seed, "bend-y", window, length=420.0, octaves=3, persistence=0.4)
    return window.x[None, :] + bend_x, window.y[:, None] + bend_y


def _voronoi(seed: int, name: str, x: Float64Array, y: Float64Array, *, spacing: float) -> _Cells:
    column, row = np.floor(x / spacing).astype(np.int64), np.floor(y / spacing).astype(np.int64)
    shape, code = x.shape, name_key(name)
    low_row, low_column = int(row.min()) - 1, int(column.min()) - 1
    rows = np.arange(low_row, int(row.max()) + 2)
    columns = np.arange(low_column, int(column.max()) + 2)
    keys = hashed(seed, code, rows[:, None], columns[None, :])
    jitter = 0.40
    site_x = (columns + 0.5 + jitter * (2 * uniform(keys, 1) - 1)) * spacing
    site_y = (rows[:, None] + 0.5 + jitter * (2 * uniform(keys, 2) - 1)) * spacing
    first, second = np.full(shape, np.inf), np.full(shape, np.inf)
    at, at_second = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            index = (row + i - low_row) * len(columns) + (column + j - low_column)
            distance = (x - site_x.ravel()[index]) ** 2 + (y - site_y.ravel()[index]) ** 2
            nearer, next_nearer = distance < first, distance < second
            at_second = np.where(nearer, at, np.where(next_nearer, index, at_second))
            second = np.where(nearer, first, np.where(next_nearer, distance, second))
            at, first = np.where(nearer, index, at), np.where(nearer, distance, first)
    sx, sy = site_x.ravel()[at], site_y.ravel()[at]
    apart = np.hypot(sx - site_x.ravel()[at_second], sy - site_y.ravel()[at_second])
    return _Cells(
        key=keys.ravel()[at],
        neighbour=keys.ravel()[at_second],
        edge=(second - first) / (2 * np.maximum(apart, 1.0)),
        dx=x - sx,
        dy=y - sy,
        site_x=sx,
        site_y=sy,
    )


def _turned(blocks: _Cells) -> tuple[Float64Array, Float64Array]:
    """Coordinates along and across the rows of each block [m]."""
    angle = np.pi * uniform(blocks.key, 11)
    cosine, sine = np.cos(angle), np.sin(angle)
    shear = 0.25 * (2 * uniform(blocks.key, 12) - 1)
    along = cosine * blocks.dx + sine * blocks.dy
    return along, cosine * blocks.dy - sine * blocks.dx + shear * along


def _fields(seed: int, blocks: _Cells) -> tuple[Keys, Codes]:
    """Strips of fields inside each block, with grass margins or hedges between some."""
    along, across = _turned(blocks)
    width = 36 + 78 * uniform(blocks.key, 13)
    length = 105 + 180 * uniform(blocks.key, 14)
    strip = np.floor(across / width)
    offset = uniform(blocks.key, 15, strip.astype(np.int64))
    cut = along / length + offset
    piece = np.floor(cut)
    key = hashed(blocks.key, strip.astype(np.int64), piece.astype(np.int64))
    grass = 0.22 + 0.28 * (smooth_share(seed, blocks) > 0.5)
    lot = uniform(key, 16)
    cover = np.where(lot < grass, int(Cover.GRASS), int(Cover.CROP))
    cover = np.where(lot > 0.985, int(Cover.BARE), cover)
    side = width * np.minimum(across / width - strip, 1 - (across / width - strip))
    end = length * np.minimum(cut - piece, 1 - (cut - piece))
    border = np.minimum(side, end)
    hedged = uniform(blocks.key, 17) < 0.30
    hedge = hedged & (border < 3.0) & (uniform(blocks.key, 18, strip.astype(np.int64)) < 0.55)
    margin = (border < 1.6) & ~hedge
    cover = np.where(margin, int(Cover.GRASS), np.where(hedge, int(Cover.HEDGE), cover))
    key = np.where(margin | hedge, hashed(blocks.key, 19), key)
    return key, cover.astype(np.int64)


def smooth_share(seed: int, blocks: _Cells) -> Float64Array:
    """Uniform number per block that neighbouring blocks half share (grassland regions)."""
    region = np.floor(blocks.site_x / 1800).astype(np.int64) * 7919
    region = region + np.floor(blocks.site_y / 1800).astype(np.int64)
    return 0.5 * uniform(seed, name_key("region"), region) + 0.5 * uniform(blocks.key, 20)


def _woods(site: _Site, key: Keys, cover: Codes) -> tuple[Keys, Codes]:
    whole = (uniform(site.blocks.key, 21) < 0.10) & (site.blocks.edge > 6)
    patch = (
        smooth_noise(site.seed, "wood", site.window, length=520.0, octaves=4, persistence=0.5)
        > 1.25
    )
    wood = whole | patch
    mixture = smooth_noise(site.seed, "conifer", site.window, length=350.0, octaves=2)
    conifer = mixture + normal(site.blocks.key, 22) > 0.45
    kind = np.where(conifer, int(Cover.CONIFER), int(Cover.DECIDUOUS))
    stand = hashed(site.blocks.key, 23, np.floor(2.0 * mixture).astype(np.int64))
    return np.where(wood, stand, key), np.where(wood, kind, cover)


def _town_level(seed: int, x: Float64Array, y: Float64Array) -> Float64Array:
    """How far inside a town or village a cell lies [m]; negative outside."""
    level = np.full(x.shape, -1e4)
    for name, spacing, smallest, range_, share in (
        ("town", 5200.0, 380.0, 420.0, 1.0),
        ("village", 1900.0, 70.0, 150.0, 0.75),
    ):
        for site_x, site_y, radius in _settlements(
            seed, name, x, y, spacing, smallest, range_, share
        ):
            np.maximum(level, radius - np.hypot(x - site_x, y - site_y), out=level)
    return level


def _settlements(
    seed: int, name: str, x: Float64Array, y: Float64Array, spacing: float, smallest: float,
    range_: float, share: float,
) -> list[tuple[float, float, float]]:  # fmt: skip
    """Sites (x, y, radius) [m] that reach a window, one or none per lattice cell."""
    # suburbs fray out by some 200 m: a site farther away than that leaves no trace
    reach = smallest + range_ + 400.0
    box = (
        float(x.min()) - reach,
        float(x.max()) + reach,
        float(y.min()) - reach,
        float(y.max()) + reach,
    )
    found = []
    for row in range(int(np.floor(box[2] / spacing)), int(np.floor(box[3] / spacing)) + 1):
        for column in range(int(np.floor(box[0] / spacing)), int(np.floor(box[1] / spacing)) + 1):
            draws = [draw(seed, name, row, column, i) for i in range(4)]
            site_x = (column + 0.1 + 0.8 * draws[0]) * spacing
            site_y = (row + 0.1 + 0.8 * draws[1]) * spacing
            is_near = box[0] <= site_x <= box[1] and box[2] <= site_y <= box[3]
            if is_near and draws[2] < share:
                found.append((site_x, site_y, smallest + range_ * draws[3]))
    return found


def _town(site: _Site, key: Keys, cover: Codes) -> tuple[Keys, Codes]:
    """Streets, houses with roofs of several kinds, halls, gardens and trees."""
    ragged = site.town + 60 * smooth_noise(
        site.seed, "suburb", site.window, length=160.0, octaves=2
    )
    inside = ragged > 0
    along, across = _turned(site.blocks)
    street = (np.abs(across % 68.0 - 34.0) > 30.5) | (np.abs(along % 124.0 - 62.0) > 58.5)
    hall = (
        uniform(hashed(site.blocks.key, 41, _index(along, 124.0), _index(across, 68.0)), 1) < 0.14
    )
    plot_x, plot_y = np.where(hall, 62.0, 13.0), np.where(hall, 34.0, 15.5)
    plot = hashed(site.blocks.key, 42, _index(along, plot_x), _index(across, plot_y))
    u = np.abs(along % plot_x - plot_x / 2) / plot_x
    v = np.abs(across % plot_y - plot_y / 2) / plot_y
    size = 0.36 + 0.11 * uniform(plot, 1)
    dense = np.clip(0.42 + ragged / 900.0, 0, 0.85)
    house = (u < size) & (v < size) & (uniform(plot, 2) < np.where(hall, 0.9, dense)) & ~street
    tree = ~house & ~street & (uniform(plot, 3) < 0.35)
    kind = np.where(house, int(Cover.BUILT), int(Cover.GRASS))
    kind = np.where(tree, int(Cover.HEDGE), kind)
    kind = np.where(street, int(Cover.ROAD), kind)
    owner = np.where(house, hashed(plot, 5) % np.uint64(61), hashed(site.blocks.key, 43))
    owner = np.where(street, np.uint64(44), owner)
    return np.where(inside, owner, key), np.where(inside, kind, cover)


def _index(position: Float64Array, size: Float64Array | float) -> npt.NDArray[np.int64]:
    return np.floor(position / size).astype(np.int64)


def _roads(site: _Site, key: Keys, cover: Codes) -> tuple[Keys, Codes]:
    """Paved roads, tracks and tree rows between site.blocks."""
    kind = uniform(site.blocks.key ^ site.blocks.neighbour, 51)
    paved = (kind < 0.6) & (site.blocks.edge < np.where(kind < 0.12, 6.0, 3.2))
    track = (kind >= 0.6) & (kind < 0.85) & (site.blocks.edge < 2.0)
    verge = (site.blocks.edge < np.where(kind < 0.6, 6.5, 4.0)) & ~paved & ~track
    trees = (kind >= 0.85) & (site.blocks.edge < 5.0)
    for where, code in (
        (verge, Cover.GRASS), (trees, Cover.HEDGE), (track, Cover.BARE), (paved, Cover.ROAD),
    ):  # fmt: skip
        key = np.where(where, np.uint64(52 + int(code)), key)
        cover = np.where(where, int(code), cover)
    return key, cover


def _river(site: _Site, key: Keys, cover: Codes) -> tuple[Keys, Codes]:
    """A river along the zero line of a smooth field, its banks, and ponds."""
    distance = river_distance(site.seed, site.window)
    width = 15 + 7 * smooth_noise(site.seed, "river-width", site.window, length=900.0)
    bridge = cover == int(Cover.ROAD)
    river = (distance < width) & ~(bridge & (site.town < 0))
    bank = (distance < width + 9) & ~river & ~bridge
    pond = smooth_noise(site.seed, "pond", site.window, length=260.0, octaves=2) > 2.9
    key = np.where(bank, np.uint64(60), np.where(river, np.uint64(61), key))
    cover = np.where(bank, int(Cover.HEDGE), np.where(river, int(Cover.WATER), cover))
    return np.where(pond, np.uint64(62), key), np.where(pond, int(Cover.WATER), cover)


def river_distance(seed: int, window: Window) -> Float64Array:
    """Distance from the middle of the nearest river [m], good near the river."""
    length = 3400.0
    wide = window.pad(1)
    level = smooth_noise(seed, "river", wide, length=length, octaves=3, persistence=0.33)
    down, across = np.gradient(level.astype(np.float64), window.step)
    slope = np.maximum(np.hypot(down, across), 0.15 / length)
    distance = np.abs(level[1:-1, 1:-1]) / slope[1:-1, 1:-1]
    return np.asarray(distance, np.float64)


def _slopes(seed: int, window: Window) -> tuple[Float32Array, Float32Array]:
    height = elevation(seed, window.pad(1))
    rise = np.array(np.gradient(height, window.step), np.float32)[:, 1:-1, 1:-1]
    return rise[1], -rise[0]


def elevation(seed: int, window: Window) -> Float64Array:
    """Height of the ground [m]: rolling hills cut by river valleys."""
    hills = smooth_noise(seed, "hills", window, length=1700.0, octaves=4, persistence=0.45)
    valley = 18 * np.tanh(river_distance(seed, window) / 400.0)
    return np.asarray(60 + 22.0 * hills.astype(np.float64) + valley, np.float64)
