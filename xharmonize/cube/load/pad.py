"""A margin around a box, so that every tile of a model that meets it is wholly supplied."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, cos, radians
from typing import TYPE_CHECKING, Any

from xharmonize.cube.catalog.scene import Scene
from xharmonize.errors import GridError, UnknownModelError
from xharmonize.kernels.longitude import do_meet, normal_box, unrolled
from xharmonize.models.card import Card
from xharmonize.models.lattice import Lattice

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

METRES = 111_000.0
"""Shortest degree of latitude, rounded up to the next thousand [m]."""


@dataclass(frozen=True, kw_only=True)
class Margin:
    """What a model looks at around a pixel.

    Attributes
    ----------
    lattice : Lattice
        Its tiles.
    inputs : tuple of (gsd, phase)
        Pixel sizes and phases of its inputs [m]; empty where they are those of the cube.
    name : str
        For messages.
    """

    lattice: Lattice
    inputs: tuple[tuple[float, tuple[float, float]], ...] = ()
    name: str = "the lattice"

    def widened(self, bbox: Sequence[float]) -> tuple[float, float, float, float]:
        """A box in degrees that holds the margin, for a search."""
        west, south, east, north = unrolled(bbox)
        reach = (self.lattice.tile + 1) * self.lattice.resolution * 1.1
        up = reach / METRES
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
        phase = (geobox.affine.c % step, geobox.affine.f % step)
        left, bottom, right, top = bounds_of(geobox)
        inputs = self.inputs or ((step, phase),)
        wide = self.lattice.around((left, bottom, right, top), inputs)
        outward = (left - wide[0], bottom - wide[1], wide[2] - right, wide[3] - top)
        west, south, east, north = (max(0, ceil(length / step - 1e-3)) for length in outward)
        rows, columns = geobox.shape
        from odc.geo.geobox import GeoBox as Box

        affine = geobox.affine * type(geobox.affine).translation(-west, -north)
        return Box((rows + north + south, columns + west + east), affine, geobox.crs)

    def _require(self, geobox: GeoBox) -> None:
        """Refuse a grid that the model could not be applied to."""
        step = geobox.affine.a
        if not geobox.crs.projected:
            raise GridError(
                f"pad= of {self.name} is in metres, the grid in {geobox.crs}; give crs= and "
                "resolution="
            )
        finest = min((gsd for gsd, _ in self.inputs), default=step)
        if abs(step - finest) > 1e-6 * finest:
            raise GridError(
                f"{self.name} looks at pixels of {finest:g} m, the grid has {step:g}; pass "
                f"resolution={finest:g}"
            )


def read_margin(pad: Any) -> Margin:
    """Return the margin that a model, a card, a lattice, or a bundle's name or path asks for.

    Raises
    ------
    GridError
        If the model has no lattice: it looks at single pixels and needs no margin.
    UnknownModelError
        If there is no bundle of that name.
    """
    from xharmonize.models.bundle import HasBundle

    if isinstance(pad, Lattice):
        return Margin(lattice=pad)
    if isinstance(pad, (str, os.PathLike)):
        pad = _open(os.fspath(pad)).card
    if isinstance(pad, HasBundle) and pad.bundle is not None:
        pad = pad.bundle.card
    card = pad
    if not isinstance(card, Card) or card.lattice is None:
        named = getattr(pad, "name", pad if isinstance(pad, str) else type(pad).__name__)
        raise GridError(
            f"pad={named!r} has no lattice: only generators look at a margin; leave pad= out"
        )
    inputs = tuple((source.gsd, source.phase) for source in card.inputs)
    return Margin(lattice=card.lattice, inputs=inputs, name=f"model {card.name!r}")


def within(scenes: Sequence[Scene], bbox: Sequence[float]) -> list[Scene]:
    """Scenes that meet a box in degrees, or do not say where they lie; all where none does."""
    boxes = [scene.item.get("bbox") for scene in scenes]
    found = [s for s, box in zip(scenes, boxes) if not box or do_meet(box, bbox)]
    return found or list(scenes)


def bounds_of(geobox: GeoBox) -> tuple[float, float, float, float]:
    """Left, bottom, right, top of a grid."""
    left, bottom, right, top = (float(value) for value in geobox.boundingbox)
    return left, bottom, right, top


def _open(name: str) -> Any:
    """The bundle of a name or path."""
    from xharmonize.models.bundle import open_bundle
    from xharmonize.models.listing import list_bundles

    bundles = {listed.name: listed.location for listed in list_bundles()}
    location = bundles.get(name, name)
    if name not in bundles and "://" not in name and not os.path.isdir(name):
        raise UnknownModelError(
            f"pad={name!r}: no bundle of that name or path; give a model of xh.load_model, or put "
            "its folder into XHARMONIZE_MODELS"
        )
    return open_bundle(location)
