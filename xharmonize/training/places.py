"""Pairs as training reads them: per place the inputs at their own pixel sizes, and the target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from xharmonize.cube.contract import TIME_COORDS, read_coordinate
from xharmonize.cube.geobox import describe_grid, geobox_of, is_same_crs
from xharmonize.cube.pairs import (
    as_cube,
    beside_source,
    moved_target,
    on_target_grid,
    source_groups,
    target_of,
    with_shifts,
)
from xharmonize.cube.regrid import regrid
from xharmonize.errors import BandError, FitError, GridError, ModelError
from xharmonize.harmonizers.beside import PAN
from xharmonize.models.kinds.generator import CUBE, DateRule, Input
from xharmonize.models.lattice import Lattice
from xharmonize.sensors import UNKNOWN, Names
from xharmonize.sensors.registry import pixel_of
from xharmonize.tiles.place import north_up
from xharmonize.training.config import Data

DEGRADED = "degraded"
"""Attribute of pairs whose cubes were averaged to larger pixels: by which factor."""

PairsLike = xr.DataTree | Mapping[str, xr.DataTree]
"""Pairs of one place, or of several by name."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Bands of one pixel size.

    Attributes
    ----------
    name : str
        ``"10m"``: of the input.
    bands : tuple of str
    gsd : float
        Side of a pixel [m].
    phase : (float, float)
        Where edges of pixels lie in x and y, modulo `gsd` [m].
    factor : int
        Pixels of `images` per pixel of the input, a side: bands of 20 m held at 10 m have 2.
    first : (int, int)
        Row and column of the first pixel of the input, counted from `phase`.
    start : (int, int)
        Of the input's first pixel within `images`, in pixels of `images`; not above 0.
    images : (pair, band, y, x) DataArray
        Reflectance [1], lazy; NaN where missing. Rows run from north to south.
    role, date, sensor : str
        Which cube it is read from; see `xharmonize.models.Input`.
    """

    name: str
    bands: tuple[str, ...]
    gsd: float
    phase: tuple[float, float]
    factor: int
    first: tuple[int, int]
    start: tuple[int, int]
    images: xr.DataArray
    role: str = CUBE
    date: DateRule = "same"
    sensor: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of whole pixels."""
        sizes = self.images.shape[2:]
        rows, columns = (-((at - size) // self.factor) for at, size in zip(self.start, sizes))
        return rows, columns

    @property
    def described(self) -> Input:
        """The input of a card, not scaled."""
        n = len(self.bands)
        return Input(
            name=self.name,
            bands=self.bands,
            gsd=self.gsd,
            phase=self.phase,
            mean=(0.0,) * n,
            scale=(1.0,) * n,
            source=self.role,
            date=self.date,
            sensor=self.sensor,
        )


@dataclass(frozen=True, kw_only=True)
class Place:
    """Pairs of one place, ready to be cut.

    Attributes
    ----------
    name : str
    sources : tuple of Source
    target : (pair, band, y, x) DataArray
        Reflectance [1], lazy; NaN where missing. Rows run from north to south.
    exact : (pair, band, y, x) DataArray
        All source bands on the target's grid, by exact area weights.
    first : (int, int)
        Row and column of the target's first pixel, counted from its phase.
    facts : dict of str to (pair,) array
        Both contracts and times, by the names of the pairs (``platform_source``).
    degraded : int
        How many pixels a side were averaged, where all was degraded.
    """

    name: str
    sources: tuple[Source, ...]
    target: xr.DataArray
    exact: xr.DataArray
    first: tuple[int, int]
    facts: dict[str, Any]
    degraded: int = 1

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands of the target."""
        return tuple(map(str, self.target["band"].values))


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What is known of a pair of the store."""

    place: str
    date: str
    time_source: str
    time_target: str
    platform_source: str
    sensor_source: str
    sensor_target: str
    bandpass_source: str
    bandpass_target: str
    level_source: str
    level_target: str
    crs: str
    missing: float
    """Larger fraction of missing pixels of the two sides [1]."""


def read_places(pairs: Any, data: Data) -> tuple[Place, ...]:
    """Read pairs of one or several places.

    Raises
    ------
    FitError
        If there are no pairs.
    GridError
        If source and target, or two places, have grids that one network cannot serve.
    BandError
        If places have other bands.
    """
    trees = {"": pairs} if isinstance(pairs, xr.DataTree) else pairs
    if not isinstance(trees, Mapping) or not all(
        isinstance(tree, xr.DataTree) for tree in trees.values()
    ):
        raise FitError(
            f"are a {type(pairs).__name__}",
            argument="pairs",
            value="…",
            cure="give what xh.collect_pairs returns, or a mapping of such by the names of places",
        )
    places = tuple(_read(str(name), tree, data) for name, tree in trees.items())
    if not sum(place.target.sizes["pair"] for place in places):
        raise FitError(
            "there are no pairs", cure="allow more days with collect_pairs(tolerance=...)"
        )
    _require_alike(places)
    return places


def _read(name: str, tree: xr.DataTree, data: Data) -> Place:
    target, _ = north_up(moved_target(tree))
    target = _chosen(target, data.target_bands, "target")
    box = geobox_of(target)
    _require_square(box, "target")
    sources = [source for group in _groups(tree).values() for source in _sources(group, tree, data)]
    sources += [
        source
        for role, group in beside_source(tree).items()
        for source in _sources(group, tree, data, role=role)
    ]
    if not sources:
        raise BandError(f"the source has none of the bands {data.source_bands}")
    for source in sources:
        own = geobox_of(source.images)
        if not is_same_crs(own.crs, box.crs):
            raise GridError(
                f"source and target of a pair have other CRSs: {describe_grid(own)} and "
                f"{describe_grid(box)}",
                cure="load both in one, with open_stac(crs=...)",
            )
    side = abs(box.affine.a)
    names = [label for source in sources for label in source.described.labels]
    return Place(
        name=name,
        sources=tuple(sources),
        target=target,
        exact=north_up(_exact(tree))[0].sel(band=names).transpose("pair", "band", "y", "x"),
        first=_first(box, side, phase_of(box)),
        facts=_facts(tree),
        degraded=int(tree.attrs.get(DEGRADED, 1)),
    )


def _groups(tree: xr.DataTree) -> dict[str, xr.DataArray]:
    """Bands of the source; none where a network looks at further cubes alone."""
    is_alone = "source" not in tree.children and beside_source(tree)
    return {} if is_alone else source_groups(tree)


def _exact(tree: xr.DataTree) -> xr.DataArray:
    """All source bands on the target's grid, by exact area weights (pair, band, y, x)."""
    parts = []
    if _groups(tree):
        # The target was moved to the source, whose pixels inputs must show as they were observed.
        own = on_target_grid(with_shifts(tree, None), min_valid=1.0)["source"]
        parts.append(own.rename(source_band="band") if "source_band" in own.dims else own)
    wanted = as_cube(target_of(tree))
    for role, side in beside_source(tree).items():
        moved = regrid(as_cube(side), like=wanted, min_valid=1.0)
        labels = [f"{role}.{band}" for band in moved["band"].values]
        parts.append(moved.assign_coords(band=labels).swap_dims(time="pair"))
    if len(parts) == 1:
        return parts[0]
    grid = [n for n in ("y", "x", "spatial_ref") if n in parts[0].coords]
    bare = [part.variable.transpose("pair", "band", "y", "x").data for part in parts]
    bands = [str(band) for part in parts for band in part["band"].values]
    coords = {name: parts[0][name].variable for name in grid}
    return xr.DataArray(
        da.concatenate([da.asarray(one) for one in bare], axis=1),
        dims=("pair", "band", "y", "x"),
        coords={**coords, "band": bands},
    )


def _facts(tree: xr.DataTree) -> dict[str, Any]:
    """Contract and times of both sides."""
    root = tree.to_dataset()
    names = [f"{n}_{side}" for side in ("source", "target") for n in ("time", *TIME_COORDS)]
    return {name: read_coordinate(root, name) for name in names if name in root.coords}


def _sources(
    group: xr.DataArray, tree: xr.DataTree, data: Data, *, role: str = CUBE
) -> list[Source]:
    """The inputs within one group of bands: one per pixel size at which they were observed."""
    array = _chosen(north_up(group)[0], _named(data, role), role, may_lack=True)
    box = geobox_of(array)
    _require_square(box, "source")
    pixel = abs(box.affine.a)
    root = tree.to_dataset()
    if role == CUBE:
        is_told = "sensor_source" in root.coords
        sensors = read_coordinate(root, "sensor_source") if is_told else UNKNOWN
        told: dict[str, Any] = {}
    else:
        sensors = read_coordinate(group, "sensor").astype(str)
        names = Names.of(sensors)
        sensor = "" if UNKNOWN in names or role == PAN else str(names)
        told = {"role": role, "date": group.attrs.get("date", "nearest"), "sensor": sensor}
    sizes = {
        str(band): pixel_of(str(band), np.atleast_1d(sensors), pixel)
        for band in array["band"].values
    }
    found = []
    for gsd in sorted(set(sizes.values())):
        bands = [band for band, size in sizes.items() if size == gsd]
        factor = round(gsd / pixel)
        # Sentinel-2's coarser pixels begin at multiples of their side; `own_pixels` checks that.
        phase = phase_of(box) if factor == 1 else (0.0, 0.0)
        row, column = _first(box, pixel, phase)
        found.append(
            Source(
                name=f"{gsd:g}m" if role == CUBE else f"{role}-{gsd:g}m",
                bands=tuple(bands),
                gsd=gsd,
                phase=phase,
                factor=factor,
                first=(row // factor, column // factor),
                start=(-(row % factor), -(column % factor)),
                images=array.sel(band=bands),
                **told,
            )
        )
    return found


def _named(data: Data, role: str) -> tuple[str, ...]:
    """Bands of a source that are wanted; all where none of it is named."""
    if role == CUBE:
        return tuple(name for name in data.source_bands if "." not in name)
    start = f"{role}."
    return tuple(n.removeprefix(start) for n in data.source_bands if n.startswith(start))


def phase_of(box: Any) -> tuple[float, float]:
    """Where edges of square pixels lie in x and y, modulo their side [m]."""
    side = abs(box.affine.a)
    phases = []
    for edge in (box.affine.c, box.affine.f):
        value = float(edge) % side
        phases.append(0.0 if min(value, side - value) < 1e-6 * side else round(value, 6))
    return phases[0], phases[1]


def _first(box: Any, side: float, phase: tuple[float, float]) -> tuple[int, int]:
    """Row and column of the first pixel, counted from the phase to the south and to the east."""
    return (
        round((phase[1] - float(box.affine.f)) / side),
        round((float(box.affine.c) - phase[0]) / side),
    )


def _chosen(
    array: xr.DataArray, names: Sequence[str], side: str, *, may_lack: bool = False
) -> xr.DataArray:
    """The bands that are wanted, all where none are named."""
    held = list(map(str, array["band"].values))
    lacking = [name for name in names if name not in held]
    if lacking and not may_lack:
        raise BandError(f"the {side} has no band {lacking[0]!r}", cure=f"it has {held}")
    wanted = [name for name in names if name in held] if names else held
    return array.sel(band=wanted).transpose("pair", "band", "y", "x")


def _require_square(box: Any, side: str) -> None:
    if not math.isclose(abs(box.affine.a), abs(box.affine.e), rel_tol=1e-6) or box.crs.geographic:
        raise GridError(
            f"networks need square pixels in metres; the {side} has {describe_grid(box)}",
            cure="load it in a projected CRS, with open_stac(crs=..., resolution=...)",
        )


def _require_alike(places: Sequence[Place]) -> None:
    """Raise unless all places have the bands, pixel sizes and phases of the first."""
    first = places[0]
    for place in places[1:]:
        if place.bands != first.bands:
            raise BandError(
                f"place {place.name!r} has bands {place.bands}, {first.name!r} has {first.bands}",
                cure="name those of both in Data(target_bands=...)",
            )
        for own, other in zip(place.sources, first.sources, strict=False):
            if own.described != other.described:
                raise GridError(
                    f"place {place.name!r} has an input {own.described}, {first.name!r} has "
                    f"{other.described}",
                    cure="train on places of one grid, or regrid them first",
                )
        if len(place.sources) != len(first.sources):
            raise BandError(f"places {place.name!r} and {first.name!r} have other inputs")


def pair_of(place: Place, at: int, missing: float) -> Pair:
    """What is known of a pair of a place."""
    facts = {name: str(values[at]) for name, values in place.facts.items() if np.ndim(values)}
    names = {field.name for field in fields(Pair)}
    told = dict.fromkeys(names - {"place", "date", "crs", "missing"}, "unknown")
    told |= {name: value for name, value in facts.items() if name in told}
    crs = str(geobox_of(place.target).crs)
    return Pair(place=place.name, date=told["time_target"][:10], crs=crs, missing=missing, **told)


def make_lattice(place: Place, data: Data) -> Lattice:
    """Return the lattice whose tiles are the samples: a quarter of a patch is margin on each side.

    Raises
    ------
    GridError
        If a patch is no whole number of pixels of each input.
    """
    box = geobox_of(place.target)
    resolution = float(abs(box.affine.a))
    unit = alignment(place, resolution)
    if data.patch % unit:
        raise GridError(
            f"a patch of {data.patch} pixels of {resolution:g} m is no whole number of pixels of "
            "each input",
            cure=f"give Data(patch=...) a multiple of {unit}",
        )
    buffer = data.patch // 4 // unit * unit
    try:
        return Lattice(resolution=resolution, tile=data.patch, buffer=buffer, phase=phase_of(box))
    except ModelError as error:
        raise GridError(error.what, cure=error.cure) from None


def alignment(place: Place, resolution: float) -> int:
    """Fewest target pixels that are a whole number of pixels of each input."""
    ratios = [
        Fraction(resolution / source.gsd).limit_denominator(10**4) for source in place.sources
    ]
    return math.lcm(*(ratio.denominator for ratio in ratios))
