"""Grid of `open_stac`: from the items' metadata, with a margin for models on request.

A lattice is CRS, step and phase of pixel edges. Items on one lattice can be read without touching
a value; everything else says how it is resampled.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, cos, floor, isclose, radians, sqrt
from numbers import Real
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from xharmonize.cube.geobox import (
    TOLERANCE,
    Bounds,
    centre_of,
    crs_text,
    read_crs,
    reproject_bounds,
    snap,
)
from xharmonize.errors import EmptyQueryError, GridError
from xharmonize.io.stac.fields import Grid, Scene
from xharmonize.io.stac.query import check_bbox
from xharmonize.kernels.longitude import do_meet, near, normal_box, unrolled

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


FINEST = 0.01
"""Pixel size [unit of a projected CRS] below which a resolution is taken for one in degrees."""

COARSER = 1.01
"""Ratio of target to native step above which pixels are averaged instead of picked."""


@dataclass(frozen=True, kw_only=True)
class PixelPhase:
    """Lattice of pixel edges: ``phase + n * step`` in x and y.

    Attributes
    ----------
    crs : str
        Anything odc-geo reads.
    step : (float, float)
        Width and height of a pixel, positive, in units of the CRS.
    phase : (float, float)
        Of left and lower edges, in [0, step).
    """

    crs: str
    step: tuple[float, float]
    phase: tuple[float, float]

    def cover(self, bounds: Bounds) -> GeoBox:
        """Return the smallest north-up grid on the lattice that covers `bounds`."""
        return snap(bounds, self.step, self.crs, phase=self.phase)

    def coarsened(self, step: float) -> PixelPhase:
        """Return the lattice of another step whose edges lie on this one's where they can."""
        return PixelPhase(crs=self.crs, step=(step, step), phase=self.phase)


def lattice_of(scene: Scene, names: Iterable[str]) -> PixelPhase | None:
    """Return the lattice of the finest of some assets; None if none states one.

    Rows may run from south to north. Grids that are turned have no lattice; `why_no_lattice` says
    which it is.
    """
    grids = grids_of(scene, names)
    if not grids or not scene.crs:
        return None
    a, b, left, d, e, top = min(grids, key=lambda grid: abs(grid.transform[0])).transform
    if b or d:
        return None
    step = (abs(a), abs(e))
    return PixelPhase(
        crs=scene.crs, step=step, phase=(_modulo(left, step[0]), _modulo(top, step[1]))
    )


def why_no_lattice(scene: Scene, names: Iterable[str]) -> str:
    """Explain why a scene has no lattice."""
    if not scene.crs:
        return "says no CRS"
    grids = grids_of(scene, names)
    if not grids:
        return "says neither proj:transform nor proj:shape"
    return f"has a grid turned against its CRS (proj:transform {grids[0].transform})"


def grids_of(scene: Scene, names: Iterable[str]) -> list[Grid]:
    """Return the grids of some assets; of all bands where the scene has none of them."""
    found = [scene.grids[name] for name in names if name in scene.grids]
    return found or [scene.grids[name] for name in scene.step.scale if name in scene.grids]


def bounds_in(scene: Scene, names: Iterable[str], crs: Any) -> Bounds | None:
    """Return the bounds of some assets in another CRS; None if they are unknown."""
    grids = grids_of(scene, names)
    if grids and scene.crs:
        return reproject_bounds(union([grid.bounds for grid in grids]), scene.crs, crs)
    box = scene.item.get("bbox")
    return reproject_bounds(unrolled(box), "EPSG:4326", crs) if box else None


def union(boxes: Sequence[Bounds]) -> Bounds:
    """Return the box around boxes."""
    left, bottom, right, top = zip(*boxes)
    return (min(left), min(bottom), max(right), max(top))


def step_in(lattice: PixelPhase, geobox: GeoBox) -> float:
    """Return the side of a native pixel in units of a target grid, at the centre of the grid."""
    from odc.geo.crs import CRS
    from pyproj import Transformer

    if CRS(lattice.crs) == geobox.crs:
        return sqrt(lattice.step[0] * lattice.step[1])
    center = geobox.extent.centroid
    back = Transformer.from_crs(str(geobox.crs), lattice.crs, always_xy=True)
    x, y = back.transform(*center.points[0])
    dx, dy = lattice.step
    forth = Transformer.from_crs(lattice.crs, str(geobox.crs), always_xy=True)
    xs, ys = forth.transform([x, x + dx, x], [y, y, y + dy])
    area = (xs[1] - xs[0]) * (ys[2] - ys[0]) - (xs[2] - xs[0]) * (ys[1] - ys[0])
    return sqrt(abs(area))


def is_coarser(geobox: GeoBox, lattice: PixelPhase) -> bool:
    """Tell whether the pixels of a grid are larger than native ones."""
    resolution = geobox.resolution
    return sqrt(abs(resolution.x * resolution.y)) > COARSER * step_in(lattice, geobox)


def target_grid(
    scenes: Sequence[Scene],
    bands: Sequence[str],
    *,
    bbox: Sequence[float] | None,
    crs: Any,
    resolution: float | None,
) -> GeoBox:
    """Choose the grid of a cube from arguments and metadata.

    Raises
    ------
    GridError
        If metadata and arguments leave CRS, resolution or extent open, or the items' CRSs differ.
    """
    target_crs = _target_crs(scenes, crs)
    lattice = _target_lattice(scenes, bands, target_crs, resolution)
    if bbox is not None:
        return lattice.cover(reproject_bounds(*placed_box(bbox), target_crs))
    boxes = [bounds_in(scene, bands, target_crs) for scene in scenes if scene.grids]
    known = [box for box in boxes if box is not None]
    if not known:
        raise GridError(
            "says neither proj:shape nor proj:transform, so the extent of its assets is unknown",
            cure="pass bbox=, resolution= and crs=, or like=",
            item=scenes[0].id,
        )
    return lattice.cover(union(_side_by_side(known, target_crs)))


def placed_box(bbox: Sequence[float]) -> tuple[Bounds, str]:
    """Return left, bottom, right, top of a box, and the CRS it is in: its own, else degrees."""
    crs = getattr(bbox, "crs", None)
    if crs is None:
        return unrolled(check_bbox(bbox)), "EPSG:4326"
    left, bottom, right, top = (float(value) for value in bbox)
    return (left, bottom, right, top), crs_text(crs)


def box_in_degrees(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    """Return a box, in degrees or in its own CRS, as (west, south, east, north) [degree]."""
    return check_bbox(reproject_bounds(*placed_box(bbox), "EPSG:4326"))


def native_grid(
    lattice: PixelPhase, scenes: Sequence[Scene], names: Sequence[str], target: GeoBox
) -> GeoBox:
    """Return the part of a lattice that a target grid needs of some scenes."""
    left, bottom, right, top = target.pad(1).boundingbox
    wanted = reproject_bounds((left, bottom, right, top), target.crs, lattice.crs)
    boxes = [bounds_in(scene, names, lattice.crs) for scene in scenes]
    known = [wanted, *(box for box in boxes if box is not None)]
    there = union(_side_by_side(known, lattice.crs)[1:])
    return lattice.cover(
        (
            max(wanted[0], there[0]),
            max(wanted[1], there[1]),
            min(wanted[2], there[2]),
            min(wanted[3], there[3]),
        )
    )


def north_up(geobox: GeoBox) -> GeoBox:
    """Return the grid with its rows from north to south."""
    return geobox.flipy() if geobox.resolution.y > 0 else geobox


def place(scene: Scene, names: Sequence[str], geobox: GeoBox) -> Bounds:
    """Return the footprint of a scene in the CRS of a grid; that of the grid if unknown."""
    left, bottom, right, top = geobox.boundingbox
    box = bounds_in(scene, names, geobox.crs) or (left, bottom, right, top)
    return near(box, centre_of(geobox)[0]) if geobox.crs.geographic else box


def overlapping(scenes: Sequence[Scene], names: Sequence[str], geobox: GeoBox) -> list[Scene]:
    """Return the scenes that share an area with a grid.

    Raises
    ------
    EmptyQueryError
        If there is none.
    """
    left, bottom, right, top = geobox.boundingbox
    found = []
    for scene in scenes:
        box = place(scene, names, geobox)
        if box[0] < right and box[2] > left and box[1] < top and box[3] > bottom:
            found.append(scene)
    if not found:
        raise EmptyQueryError(
            f"none of {len(scenes)} items overlaps the grid {(left, bottom, right, top)} in "
            f"{geobox.crs}",
            cure="is bbox= in degrees, as (west, south, east, north)?",
        )
    return found


def _side_by_side(boxes: Sequence[Bounds], crs: Any) -> Sequence[Bounds]:
    """Move boxes in degrees by whole turns next to the first; others stay where they are."""
    if not read_crs(crs).geographic:
        return boxes
    return [near(box, (boxes[0][0] + boxes[0][2]) / 2) for box in boxes]


def _target_crs(scenes: Sequence[Scene], crs: Any) -> str:
    if crs is not None:
        return str(read_crs(crs))
    found = {scene.crs: scene.id for scene in scenes}
    if "" in found:
        raise GridError(
            "says no CRS (proj:code, proj:epsg or proj:wkt2)",
            cure="pass crs= with resolution= and bbox=, or like=",
            item=found[""],
        )
    if len(found) > 1:
        named = " and ".join(f"{crs} (item {item!r})" for crs, item in sorted(found.items()))
        raise GridError(
            f"the items lie in several CRSs: {named}", cure="choose one with crs= or like="
        )
    return next(iter(found))


def _target_lattice(
    scenes: Sequence[Scene], bands: Sequence[str], crs: str, resolution: float | None
) -> PixelPhase:
    from odc.geo.crs import CRS

    given: Any = resolution
    if given is not None and not (isinstance(given, Real) and float(given) > 0):
        raise GridError(
            "is not a pixel size",
            cure="give a positive number",
            argument="resolution",
            value=resolution,
        )
    if resolution is not None and resolution >= 1 and CRS(crs).geographic:
        raise GridError(
            f"would be degrees in {crs}",
            cure="for metres also give a projected CRS, such as crs='EPSG:32631'",
            argument="resolution",
            value=resolution,
        )
    if resolution is not None and resolution < FINEST and not CRS(crs).geographic:
        raise GridError(
            f"would be {CRS(crs).units[0]} in {crs}, in degrees perhaps",
            cure="give it in the unit of the CRS, or a geographic crs=",
            argument="resolution",
            value=resolution,
        )
    whole = [scene for scene in scenes if all(band in scene.assets for band in bands)]
    found = {lattice_of(scene, bands): scene for scene in whole or scenes}
    known = [lattice for lattice in found if lattice is not None]
    native = [lattice for lattice in known if CRS(lattice.crs) == CRS(crs)]
    if resolution is None:
        return _native_lattice(found, native, bands, crs)
    _require_coarse_enough(known, crs, resolution)
    # Use the phase of the coarsest sensor, which would lose most by being resampled.
    steps = sorted({lattice.step for lattice in native}, reverse=True)
    phases = {lattice.phase for lattice in native if lattice.step == steps[0]}
    if len(native) == len(known) and len(phases) == 1:
        coarsest = next(lattice for lattice in native if lattice.step == steps[0])
        return coarsest.coarsened(resolution)
    return PixelPhase(crs=crs, step=(resolution, resolution), phase=(0.0, 0.0))


def _native_lattice(
    found: dict[PixelPhase | None, Scene],
    native: Sequence[PixelPhase],
    bands: Sequence[str],
    crs: str,
) -> PixelPhase:
    if None in found:
        reason = why_no_lattice(found[None], bands)
        raise GridError(
            f"{reason}, so pixel size and phase of the cube are open",
            cure="pass resolution=, crs= and bbox=, or like=; and resampling=, such as 'nearest'",
            item=found[None].id,
        )
    steps = {lattice.step for lattice in found if lattice is not None}
    if len(steps) > 1:
        sizes = ", ".join(f"{step[0]:g} ({scene.sensor.name})" for step, scene in _by_step(found))
        raise GridError(
            f"the items have different pixel sizes: {sizes}",
            cure="pass resolution= (not finer than the coarsest of them) or like=",
        )
    if len(native) != len(found):
        if not all(_is_metric(name) for name in (crs, *(k.crs for k in found if k))):
            raise GridError(
                f"a pixel size in units of {crs} is needed", cure="pass resolution= or like="
            )
        phases = {lattice.phase for lattice in native}
        phase = phases.pop() if len(phases) == 1 else (0.0, 0.0)
        return PixelPhase(crs=crs, step=next(iter(steps)), phase=phase)
    if len(native) > 1:
        named = " and ".join(str(lattice.phase) for lattice in native)
        raise GridError(
            f"the items' pixel edges lie at different places, {named} modulo {native[0].step[0]:g}",
            cure="pass resolution= (edges at its multiples) or like=",
        )
    return native[0]


def _by_step(found: dict[PixelPhase | None, Scene]) -> list[tuple[tuple[float, float], Scene]]:
    steps = {lattice.step: scene for lattice, scene in found.items() if lattice is not None}
    return sorted(steps.items(), key=lambda pair: pair[0])


def _require_coarse_enough(lattices: Sequence[PixelPhase], crs: str, resolution: float) -> None:
    """Refuse a resolution finer than the coarsest of mixed pixel sizes."""
    steps = sorted({lattice.step[0] for lattice in lattices})
    names = {crs, *(lattice.crs for lattice in lattices)}
    if len(steps) < 2 or not (len(names) == 1 or all(_is_metric(name) for name in names)):
        return
    if resolution < steps[-1] / COARSER:
        raise GridError(
            "is finer than the coarsest pixels of the mixed items "
            f"({', '.join(f'{step:g}' for step in steps)})",
            cure=f"pass resolution={steps[-1]:g} or more, or open the sensors one by one",
            argument="resolution",
            value=resolution,
        )


def _is_metric(crs: str) -> bool:
    from odc.geo.crs import CRS

    return bool(CRS(crs).projected) and CRS(crs).units[0] in ("metre", "meter", "m")


def _modulo(edge: float, step: float) -> float:
    phase = edge - step * floor(edge / step)
    # Steps such as 1e-4 degree have no exact multiples: a phase next to the step is zero.
    if isclose(phase, step, rel_tol=TOLERANCE) or abs(phase) < TOLERANCE * step:
        return 0.0
    return round(phase, 9)


METRES = 111_000.0
"""Shortest degree of latitude, rounded up to the next thousand [m]."""


@runtime_checkable
class Surroundings(Protocol):
    """What has to be loaded around a box: the card of a generator, a lattice of tiles."""

    @property
    def pixel(self) -> float | None:
        """Side of the pixels that the cube must have [m]; None: any."""

    @property
    def reach(self) -> float:
        """How far at most `around` extends a box to each side [m]."""

    def around(self, bounds: Sequence[float], /) -> tuple[float, float, float, float]:
        """Return the box to load for a result in `bounds` (left, bottom, right, top) [m]."""


@dataclass(frozen=True, kw_only=True)
class Margin:
    """Margin that a model reads around a pixel."""

    of: Surroundings

    def widened(self, bbox: Sequence[float]) -> tuple[float, float, float, float]:
        """A box in degrees that holds the margin, for a search."""
        west, south, east, north = unrolled(bbox)
        up = 1.1 * self.of.reach / METRES
        farthest = min(max(abs(south), abs(north)) + up, 89.0)
        aside = up / cos(radians(farthest))
        if east + aside - (west - aside) >= 360:
            west, east, aside = -180.0, 180.0, 0.0
        box = west - aside, max(south - up, -90.0), east + aside, min(north + up, 90.0)
        return normal_box(box)

    def around(self, geobox: GeoBox) -> GeoBox:
        """Extend a north-up grid by whole pixels."""
        self._require(geobox)
        step = geobox.affine.a
        left, bottom, right, top = bounds_of(geobox)
        wide = self.of.around((left, bottom, right, top))
        outward = (left - wide[0], bottom - wide[1], wide[2] - right, wide[3] - top)
        west, south, east, north = (max(0, ceil(length / step - 1e-3)) for length in outward)
        rows, columns = geobox.shape
        from odc.geo.geobox import GeoBox as Box

        affine = geobox.affine * type(geobox.affine).translation(-west, -north)
        return Box((rows + north + south, columns + west + east), affine, geobox.crs)

    def _require(self, geobox: GeoBox) -> None:
        """Refuse a grid that the model cannot be applied to."""
        step, pixel = geobox.affine.a, self.of.pixel
        named = f"{type(self.of).__name__} {getattr(self.of, 'name', '')}".rstrip()
        if not geobox.crs.projected:
            raise GridError(
                f"pad= of {named} is in metres, the grid in {geobox.crs}",
                cure="give crs= and resolution=",
            )
        if pixel is not None and abs(step - pixel) > 1e-6 * pixel:
            raise GridError(
                f"{named} looks at pixels of {pixel:g} m, the grid has {step:g}",
                cure=f"pass resolution={pixel:g}",
            )


def read_margin(pad: Any) -> Margin:
    """Return the margin of a model, given as `Surroundings`, a model, its name or its path.

    Raises
    ------
    GridError
        If the model has none: it looks at single pixels and needs no margin.
    UnknownModelError
        If there is no bundle of that name.
    """
    from xharmonize.models.bundle import HasBundle

    named = getattr(pad, "name", pad if isinstance(pad, str) else type(pad).__name__)
    if isinstance(pad, (str, os.PathLike)):
        from xharmonize.models.bundle import open_named

        pad = open_named(os.fspath(pad)).card
    if isinstance(pad, HasBundle) and pad.bundle is not None:
        pad = pad.bundle.card
    if isinstance(pad, Surroundings):
        return Margin(of=pad)
    raise GridError(
        "looks at no margin: only generators and lattices do",
        cure="leave pad= out",
        argument="pad",
        value=named,
    )


def within(scenes: Sequence[Scene], bbox: Sequence[float]) -> list[Scene]:
    """Scenes that intersect a box in degrees or state no location; all if none intersects."""
    boxes = [scene.item.get("bbox") for scene in scenes]
    found = [s for s, box in zip(scenes, boxes) if not box or do_meet(box, bbox)]
    return found or list(scenes)


def bounds_of(geobox: GeoBox) -> tuple[float, float, float, float]:
    """Left, bottom, right, top of a grid."""
    left, bottom, right, top = (float(value) for value in geobox.boundingbox)
    return left, bottom, right, top
