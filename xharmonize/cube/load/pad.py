"""A margin around a box, so that every tile of a model that meets it is wholly supplied."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, cos, radians
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from xharmonize.cube.catalog.scene import Scene
from xharmonize.errors import GridError
from xharmonize.kernels.longitude import do_meet, normal_box, unrolled

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

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
    """What is looked at around a pixel."""

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
        """Refuse a grid that the model could not be applied to."""
        step, pixel = geobox.affine.a, self.of.pixel
        named = f"{type(self.of).__name__} {getattr(self.of, 'name', '')}".rstrip()
        if not geobox.crs.projected:
            raise GridError(
                f"pad= of {named} is in metres, the grid in {geobox.crs}; give crs= and resolution="
            )
        if pixel is not None and abs(step - pixel) > 1e-6 * pixel:
            raise GridError(
                f"{named} looks at pixels of {pixel:g} m, the grid has {step:g}; pass "
                f"resolution={pixel:g}"
            )


def read_margin(pad: Any) -> Margin:
    """Return the margin that `Surroundings`, a model that has some, or its name or path asks for.

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
        from xharmonize.models.listing import open_named

        pad = open_named(os.fspath(pad)).card
    if isinstance(pad, HasBundle) and pad.bundle is not None:
        pad = pad.bundle.card
    if isinstance(pad, Surroundings):
        return Margin(of=pad)
    raise GridError(
        f"pad={named!r} looks at no margin: only generators and lattices do; leave pad= out"
    )


def within(scenes: Sequence[Scene], bbox: Sequence[float]) -> list[Scene]:
    """Scenes that meet a box in degrees, or do not say where they lie; all where none does."""
    boxes = [scene.item.get("bbox") for scene in scenes]
    found = [s for s, box in zip(scenes, boxes) if not box or do_meet(box, bbox)]
    return found or list(scenes)


def bounds_of(geobox: GeoBox) -> tuple[float, float, float, float]:
    """Left, bottom, right, top of a grid."""
    left, bottom, right, top = (float(value) for value in geobox.boundingbox)
    return left, bottom, right, top
