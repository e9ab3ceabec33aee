"""Longitudes go round: boxes and points that know it.

A box is (west, south, east, north) [degree]. It is *plain* where west ≤ east, and crosses the
antimeridian where west > east, as STAC and GeoJSON write it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from xharmonize.types import Float64Array

Box = tuple[float, float, float, float]
"""West, south, east, north [degree]; or left, bottom, right, top of a geographic grid."""


def normal_box(box: Sequence[float]) -> Box:
    """Return a box with longitudes from -180 to 180; west > east where it crosses 180°.

    Longitudes may count on beyond 180°, or from 0° to 360°. A box of a whole turn or more is all
    the world.
    """
    west, south, east, north = box
    if -180 <= west <= 180 and -180 <= east <= 180:
        return west, south, east, north
    width = east - west if east >= west else (east - west) % 360
    if width >= 360:
        return -180.0, south, 180.0, north
    west = _wrapped(west)
    east = west + width
    return west, south, east if east <= 180 else east - 360, north


def flat_box(box: Sequence[float]) -> tuple[float, ...]:
    """Return west, south, east, north of a box that may have heights too, as STAC's of six."""
    return tuple(box[i] for i in (0, 1, 3, 4)) if len(box) == 6 else tuple(box)


def unrolled(box: Sequence[float]) -> Box:
    """Return a box with west ≤ east, where it crosses 180° by an east beyond it."""
    west, south, east, north = box
    return west, south, east + 360 if west > east else east, north


def near(box: Box, longitude: float) -> Box:
    """Move a box with west ≤ east by whole turns, as near to a longitude as may be."""
    west, south, east, north = box
    shift = 360 * round((longitude - (west + east) / 2) / 360)
    return west + shift, south, east + shift, north


def unwrapped(longitude: Float64Array, start: float) -> Float64Array:
    """Move longitudes by whole turns to within 180° of `start`."""
    return start + (np.asarray(longitude, np.float64) - start + 180) % 360 - 180


def do_meet(one: Sequence[float], other: Sequence[float], *, margin: float = 0.0) -> bool:
    """Tell whether two boxes share a point, or come within `margin` [degree] of it."""
    if one[1] > other[3] + margin or one[3] < other[1] - margin:
        return False
    return any(
        a[0] <= b[1] + margin and a[1] >= b[0] - margin for a in spans(one) for b in spans(other)
    )


def spans(box: Sequence[float]) -> list[tuple[float, float]]:
    """Return the longitudes that a box covers, from -180 to 180: two pieces across 180°."""
    west, _, east, _ = normal_box(box)
    return [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]


def box_around(points: Iterable[tuple[float, float]]) -> Box | None:
    """Return the narrowest box around points (longitude, latitude); None around none.

    Points more than half a turn apart are taken to lie on both sides of 180°, because no image is
    that wide.
    """
    pairs = list(points)
    if not pairs:
        return None
    lon, lat = zip(*pairs)
    west, south, east, north = min(lon), min(lat), max(lon), max(lat)
    if east - west <= 180:
        return normal_box((west, south, east, north))
    ring = sorted({_wrapped(value) for value in lon})
    gaps = [after - before for before, after in zip(ring, [*ring[1:], ring[0] + 360])]
    widest = gaps.index(max(gaps))
    if len(ring) == 1 or 360 - gaps[widest] > 180:
        return normal_box((west, south, east, north))
    west, east = ring[(widest + 1) % len(ring)], ring[widest]
    return west, south, 180.0 if east == -180 else east, north


def _wrapped(longitude: float) -> float:
    return (longitude + 180) % 360 - 180
