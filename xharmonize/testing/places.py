"""Independent small pairs of Sentinel-2 and Landsat for training, with the truth beside.

Each pair is a place of its own: another seed, hence another landscape and other weather, on a day
on which both sensors pass. Pairs are kept on disk under the fingerprint of the simulator.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias
from uuid import uuid4

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from xharmonize.cube.contract import REFLECTANCE, Step, write_contract
from xharmonize.cube.geobox import write_grid
from xharmonize.cube.masks import mask_from_qa
from xharmonize.cube.pairs import collect_pairs
from xharmonize.cube.quality import pack_qa
from xharmonize.simulate.catalog import item_id
from xharmonize.simulate.config import EFFECTS, TILE, Pass, Simulation
from xharmonize.simulate.fingerprint import fingerprint, tokens_of
from xharmonize.simulate.imaging import cloud_cover, opacity
from xharmonize.simulate.landscape import Cover, render_landscape
from xharmonize.simulate.noise import Window, draw
from xharmonize.simulate.passes import (
    TileGround,
    prepare,
    render_optical,
    render_tile_ground,
    scale_and_offset,
)
from xharmonize.simulate.truth import truth
from xharmonize.types import AnyArray

Level: TypeAlias = Literal["as-it-comes", "registered"]
"""Scenes as two processors leave them, or after registration and one processor."""

LEVELS: Mapping[Level, Mapping[str, Any]] = MappingProxyType(
    {"as-it-comes": {}, "registered": {"shift_sd": 2.0, "atmosphere": 0.5}}
)
"""What a level changes of a `Simulation`."""

_S2, _LANDSAT = "sentinel-2-l2a", "landsat-c2-l2"
_GROUPS = {
    "10m": (10.0, ("blue", "green", "red", "nir")),
    "20m": (20.0, ("rededge1", "rededge2", "rededge3", "nir08", "swir16", "swir22")),
}
_OLI = ("blue", "green", "red", "nir08", "swir16", "swir22")
_RELIEF = (1.0, 1.0, 1.0, 3.0, 3.0, 8.0)
_CLOUDINESS, _LEAST_CLEAR = 0.2, 0.7


@dataclass(frozen=True, kw_only=True)
class Place:
    """One place on one day.

    Attributes
    ----------
    name : str
        ``"train-000"`` (variants a and c, 2022) or ``"test-000"`` (variant b, 2023).
    simulation : Simulation
        Of that day alone.
    """

    name: str
    simulation: Simulation

    @property
    def fingerprint(self) -> str:
        """Of the simulator's code and this place."""
        own = tokens_of(Path(__file__).read_text("utf-8"))
        return fingerprint(self.simulation, self.name, own)


def draw_places(
    n: int = 120, *, level: Level = "as-it-comes", effects: Sequence[str] = EFFECTS,
    first_seed: int = 1000, tiles: int | None = None,
) -> list[Place]:  # fmt: skip
    """Draw independent places and days.

    Every fourth is for testing: another variant of the physics and another year. A quarter are
    1,920 m wide, the others 960 m. A quarter lie on water. Half are lowland, a third are hills, a
    sixth mountains (relief 1, 3 and 8). Baselines are mixed, a fifth of the sky is cloudy on
    average, and the day is one on which both sensors see at least 0.7 of the place.

    Parameters
    ----------
    n : int
        Number of places. The first are the same for any number.
    level : {"as-it-comes", "registered"}
        The same ground, weather and noise at both.
    effects : sequence of str
        Effects that the image reveals; see `Simulation`.
    first_seed : int
        Seed of the first place; others count on from it.
    tiles : int, optional
        Side of all places in tiles of 960 m: 4 for patch networks.
    """
    return [
        _draw_place(i, level, tuple(effects), first_seed + i, tiles or (2 if i % 4 == 1 else 1))
        for i in range(n)
    ]


def _draw_place(number: int, level: Level, effects: Any, seed: int, tiles: int) -> Place:
    is_test = number % 4 == 3
    column, row = _corner(seed, wet=number % 8 in (2, 3))
    half = tiles / 2
    base = Simulation(
        seed=seed,
        center=((column + half) * TILE, (row + half) * TILE),
        # so that both grids, snapped outwards, stay inside the tiles
        size=(tiles * TILE - 60.0,) * 2,
        variant="b" if is_test else ("a", "c")[number // 2 % 2],
        baseline="mixed",
        cloudiness=_CLOUDINESS,
        effects=effects,
        relief=_RELIEF[int(len(_RELIEF) * draw(seed, "relief"))],
        **LEVELS[level],
    )
    day = _day(base, 2023 if is_test else 2022)
    name = f"{'test' if is_test else 'train'}-{number:03d}"
    return Place(name=name, simulation=replace(base, start=day, end=day))


def _corner(seed: int, *, wet: bool) -> tuple[int, int]:
    """Tile of a place: any, or the one of a dozen that has the most water."""
    tiles = [
        (500 + int(40 * draw(seed, "column", i)), 5840 + int(40 * draw(seed, "row", i)))
        for i in range(12 if wet else 1)
    ]

    def water(tile: tuple[int, int]) -> float:
        window = Window(
            left=tile[0] * TILE, top=(tile[1] + 1) * TILE, step=80.0, width=12, height=12
        )
        return float((render_landscape(seed, window).cover == int(Cover.WATER)).mean())

    return max(tiles, key=water) if wet else tiles[0]


def _day(base: Simulation, year: int) -> str:
    """Return a day from March to October on which both sensors pass and see most of the place."""
    season = replace(base, start=f"{year}-03-01", end=f"{year}-10-31")
    sensors: dict[str, dict[str, Pass]] = {}
    for look in season.passes():
        sensors.setdefault(str(look.time)[:10], {})[look.orbit.sensor] = look
    shared = [day for day, looks in sensors.items() if len(looks) == 2]
    order = sorted(range(len(shared)), key=lambda i: draw(base.seed, "day", year, i))
    for i in order:
        if all(clear_share(season, look) >= _LEAST_CLEAR for look in sensors[shared[i]].values()):
            return shared[i]
    return shared[order[0]]


def clear_share(simulation: Simulation, look: Pass) -> float:
    """Share of a place without clouds [1]."""
    wide = simulation.size[0] + 60.0
    window = Window(
        left=simulation.center[0] - wide / 2, top=simulation.center[1] + wide / 2,
        step=wide / 16, width=16, height=16,
    )  # fmt: skip
    cover = cloud_cover(simulation, look)
    return float((opacity(simulation, look, window, cover, (0.0, 0.0)) < 0.1).mean())


def simulate_pair(place: Place) -> xr.DataTree:
    """Render one place: pairs in the form of `collect_pairs`, with ``/truth`` beside.

    Returns
    -------
    DataTree
        ``/source/10m``, ``/source/20m`` and ``/target`` hold ``reflectance`` (pair, band, y, x)
        float32 [1], NaN under clouds and shadows as the quality layers see them. ``/truth`` has the
        same on the target's grid: what a perfect OLI, level ground and no air would have given,
        with the point spread of the bands. One pair.
    """
    simulation = place.simulation
    looks = {look.orbit.sensor: look for look in reversed(simulation.passes())}
    seen = _mosaics(simulation, looks)
    source = {
        name: _cube(simulation, looks[_S2], seen[_S2], gsd, bands, "scl")
        for name, (gsd, bands) in _GROUPS.items()
    }
    target = _cube(simulation, looks[_LANDSAT], seen[_LANDSAT], 30.0, _OLI, "qa_pixel")
    # A place has one day: screening has nothing to choose from, and would refuse a cloudy one.
    pairs = collect_pairs(source, target, min_valid=0, max_score=None)
    known = truth(
        simulation, looks[_LANDSAT].time, platform=looks[_LANDSAT].orbit.platform,
        like=target, point_spread=True,
    )  # fmt: skip
    ideal = known[REFLECTANCE].sel(band=list(_OLI)).drop_vars("time").astype(np.float32)
    pairs["truth"] = ideal.expand_dims(pair=[0]).to_dataset(name=REFLECTANCE).compute()
    pairs.attrs |= {"place": place.name, "fingerprint": place.fingerprint}
    return pairs


Assets: TypeAlias = dict[str, tuple[Window, AnyArray]]


def _mosaics(simulation: Simulation, looks: Mapping[str, Pass]) -> dict[str, Assets]:
    """All assets of the passes of each sensor over all tiles of a place."""
    whole: dict[str, Assets] = {sensor: {} for sensor in looks}
    for ground in _grounds(simulation):
        for sensor, look in looks.items():
            for name, tile in render_optical(prepare(simulation, look), ground).items():
                window = simulation.window(sensor, tile[0].step)
                empty = np.zeros(window.shape, tile[1].dtype)
                _paste(whole[sensor].setdefault(name, (window, empty)), tile)
    return whole


def _paste(whole: tuple[Window, AnyArray], tile: tuple[Window, AnyArray]) -> None:
    (frame, image), (window, pixels) = whole, tile
    column = round((window.left - frame.left) / frame.step)
    row = round((frame.top - window.top) / frame.step)
    y, x = max(row, 0), max(column, 0)
    part = pixels[y - row :, x - column :][: frame.height - y, : frame.width - x]
    image[y : y + part.shape[0], x : x + part.shape[1]] = part


def _grounds(simulation: Simulation) -> Iterable[TileGround]:
    west, south = (
        round((middle - size / 2 - 30.0) / TILE)
        for middle, size in zip(simulation.center, simulation.size)
    )
    n = round((simulation.size[0] + 60.0) / TILE)
    for row in range(south, south + n):
        for column in range(west, west + n):
            yield render_tile_ground(simulation, column, row)


def _cube(
    simulation: Simulation, look: Pass, seen: Assets, gsd: float, bands: tuple[str, ...],
    quality: str,
) -> xr.DataArray:  # fmt: skip
    """Reflectance (time, band, y, x) [1] of one date, NaN where its quality layer hides it."""
    scene = prepare(simulation, look)
    scale, offset = scale_and_offset(scene)
    window = seen[bands[0]][0]
    images = np.stack([seen[band][1] for band in bands]).astype(np.float32)
    cube = xr.DataArray(
        (images * np.float32(scale) + np.float32(offset))[None],
        dims=("time", "band", "y", "x"),
        coords={"time": [look.time.astype("datetime64[ns]")], "band": list(bands)},
        name=REFLECTANCE,
        attrs={"units": "1", "long_name": "surface reflectance"},
    )
    spec = scene.sensor
    step = Step(
        sensor=spec.name,
        platform=look.orbit.platform,
        bandpass=spec.bandpass_of(look.orbit.platform),
        processing_baseline=simulation.baseline_of(look) if spec.name == _S2 else "unknown",
        level=str(spec.level),
        item_id=item_id(simulation, look),
        scale=dict.fromkeys(bands, spec.radiometry.scale),
        offset=dict.fromkeys(bands, spec.radiometry.offset),
        nodata=dict.fromkeys(bands, float(spec.radiometry.nodata)),
        is_decoded=True,
    )
    affine = Affine(window.step, 0, window.left, 0, -window.step, window.top)
    cube = write_grid(write_contract(cube, [step]), GeoBox(window.shape, affine, simulation.crs))
    layer = seen[quality][1]
    held = round(seen[quality][0].step / gsd)
    layer = layer.repeat(held, axis=0).repeat(held, axis=1)[None]
    flags = pack_qa({quality: cube.isel(band=0, drop=True).copy(data=layer)}, spec)
    return cube.where(~mask_from_qa(flags))


def simulate_pairs(
    places: Sequence[Place], folder: str | Path, *, workers: int = 1
) -> dict[str, xr.DataTree]:
    """Return lazy pairs of places by name, rendering those that are not on disk yet.

    Parameters
    ----------
    places : sequence of Place
        From `draw_places`.
    folder : str or Path
        Cache. Files are named after place and fingerprint: other code or another simulation never
        reads them. A killed run leaves nothing that is read later.
    workers : int
        Processes that render.

    Returns
    -------
    dict of str to DataTree
        See `simulate_pair`; training takes it as it is, one place per name.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    paths = {place.name: root / f"{place.name}-{place.fingerprint}.zarr" for place in places}
    missing = [place for place in places if not paths[place.name].exists()]
    if workers > 1 and len(missing) > 1:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            list(pool.map(_keep, missing, [paths[p.name] for p in missing]))
    else:
        for place in missing:
            _keep(place, paths[place.name])
    return {
        name: xr.open_datatree(path, engine="zarr", chunks={}, consolidated=True)
        for name, path in paths.items()
    }


def _keep(place: Place, path: Path) -> None:
    """Write a pair beside its place and move it there when it is whole."""
    part = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        simulate_pair(place).to_zarr(part, consolidated=True, zarr_format=2)
        if not path.exists():
            os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
