"""Where a recipe's cubes lie: boxes with the margin that borders need, and cropping to them."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import xarray as xr
from odc.geo.geom import BoundingBox

from xharmonize.cube.contract import REFLECTANCE, REQUESTED_BOUNDS, on_reflectance
from xharmonize.cube.geobox import read_crs
from xharmonize.errors import GridError
from xharmonize.recipe.settings import Area, Source

Cube = TypeVar("Cube", xr.DataArray, xr.Dataset)

MARGIN = 120.0
"""Read around bounds [m]: four pixels of Landsat, for averages, point spreads and shifts."""

DEGREE = 50_000.0
"""Metres that a degree has at least, up to 63° of latitude; a margin may be wider, not narrower."""


def box_around(area: Area, source: Source) -> BoundingBox | None:
    """Return the box to read for the bounds of an area: with what masks and averages look at."""
    if area.bounds is None:
        return None
    crs = read_crs(area.crs)
    margin = (MARGIN + source.dilate) / (DEGREE if crs.geographic else 1.0)
    left, bottom, right, top = area.bounds
    return BoundingBox(left - margin, bottom - margin, right + margin, top + margin, crs=crs)


def crop_to(cube: Cube, area: Area) -> Cube:
    """Crop a cube to the pixels whose centres lie in the bounds of an area, lazily.

    The left and lower bounds belong to it, the others do not: a pixel is in one of two tiles that
    share an edge, wherever the edges of pixels lie.

    Raises
    ------
    GridError
        If there is none.
    """
    if area.bounds is None:
        return cube
    left, bottom, right, top = area.bounds
    x, y = cube["x"].values, cube["y"].values
    columns = np.flatnonzero((x >= left) & (x < right))
    rows = np.flatnonzero((y >= bottom) & (y < top))
    if not columns.size or not rows.size:
        raise GridError(
            "no pixel lies in bounds",
            cure="check that they are in crs, and larger than a pixel",
            argument="bounds",
            value=area.bounds,
        )
    inside = cube.isel(x=slice(columns[0], columns[-1] + 1), y=slice(rows[0], rows[-1] + 1))
    return _without_request(inside)


def _without_request(cube: Cube) -> Cube:
    """The cube without the box that was asked for with a margin, which it no longer has."""
    if not isinstance(cube, xr.Dataset) or REFLECTANCE in cube:
        return on_reflectance(cube, _bare)
    return cube


def _bare(array: xr.DataArray) -> xr.DataArray:
    result = array.copy(deep=False)
    result.attrs = {n: value for n, value in array.attrs.items() if n != REQUESTED_BOUNDS}
    return result
