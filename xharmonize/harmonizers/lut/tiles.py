"""Tiles over which histograms are counted: an absolute lattice in the CRS.

Tile n of an axis covers ``[n * side, (n + 1) * side)`` in metres of the CRS, so that it does not
depend on the cube; a pixel belongs to the tile its centre lies in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from xharmonize.cube.geobox import crs_name, geobox_of
from xharmonize.errors import GridError
from xharmonize.types import Float64Array, FloatArray, IntArray

MGRS_SQUARE = 100_000.0
"""Side of a square of the military grid [m], whose edges lie at its multiples in UTM."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Tiles along one axis of a cube.

    Attributes
    ----------
    numbers : (tile,) int array
        Numbers of the tiles the cube meets, in the order of the cube.
    pixels : (pixel,) int array
        Place in `numbers` of the tile of each pixel.
    centres : (tile,) float64 array
        Centre of each tile [unit of the CRS].
    extent : (tile,) float64 array
        Share of each tile that the cube covers [1].
    step : float
        Side of a pixel [unit of the CRS].
    """

    numbers: IntArray
    pixels: IntArray
    centres: Float64Array
    extent: Float64Array
    step: float


def tiles_of(cube: xr.DataArray, side: float) -> tuple[Axis, Axis]:
    """Tiles of a cube along y and x.

    Raises
    ------
    GridError
        If the CRS is in degrees, or a tile is smaller than a pixel.
    """
    require_metres(cube, "tiles")
    return _axis(cube, "y", side), _axis(cube, "x", side)


def whole(cube: xr.DataArray) -> tuple[IntArray, IntArray]:
    """Tile numbers of rows and columns where the whole cube is one tile."""
    return np.zeros(cube.sizes["y"], np.int64), np.zeros(cube.sizes["x"], np.int64)


def require_metres(cube: xr.DataArray, what: str) -> None:
    """Raise `GridError` where the CRS is in degrees."""
    box = geobox_of(cube)
    if box.crs.geographic:
        raise GridError(
            f"{what} have a side in metres, the cube is in degrees ({crs_name(box.crs)}); put it "
            "on a projected grid first, such as "
            "cube.harmonize.regrid(crs='EPSG:326..', resolution=10)"
        )


def _axis(cube: xr.DataArray, dim: str, side: float) -> Axis:
    affine = geobox_of(cube).affine
    step = abs(affine.a if dim == "x" else affine.e)
    if not step <= side < np.inf:
        raise GridError(f"a tile of {side:g} m is no length, or smaller than a pixel ({step:g} m)")
    centres = np.asarray(cube[dim].values, np.float64)
    each = np.floor(centres / side).astype(np.int64)
    pixels = np.abs(each - each[0])
    direction = 1 if each[-1] >= each[0] else -1
    numbers = each[0] + direction * np.arange(pixels[-1] + 1)
    count = np.bincount(pixels, minlength=numbers.size)
    return Axis(
        numbers=numbers,
        pixels=pixels,
        centres=(numbers + 0.5) * side,
        extent=np.minimum(count * step / side, 1.0),
        step=step,
    )


def place_pixels(
    cube: xr.DataArray, dim: str, centres: Float64Array, side: float
) -> tuple[IntArray, IntArray]:
    """Tell which of given tiles the pixels of a cube lie in.

    Parameters
    ----------
    centres : (tile,) float64 array
        Centres of the tiles that there are.

    Returns
    -------
    order : (tile,) int array
        Of the tiles that there are, in the direction of the cube.
    pixels : (pixel,) int array
        Place of each pixel's tile in that order.

    Raises
    ------
    GridError
        If a pixel lies in none of them.
    """
    axis = _axis(cube, dim, side)
    order = np.argsort(centres if _ascends(cube, dim) else -centres)
    numbers = np.rint(centres[order] / side - 0.5).astype(np.int64)
    lost = sorted(set(axis.numbers.tolist()) - set(numbers.tolist()))
    if lost:
        raise GridError(
            f"the tables have no tile at {dim} {(lost[0] + 0.5) * side:.0f}, where the cube lies; "
            "fit them on a cube that covers it: xh.fit_tables(cube, model)"
        )
    place = {int(number): k for k, number in enumerate(numbers)}
    return order, np.array([place[int(n)] for n in axis.numbers])[axis.pixels]


def between_centres(
    cube: xr.DataArray, dim: str, centres: Float64Array, side: float
) -> tuple[IntArray, FloatArray]:
    """First of the two tiles whose centres each pixel lies between, and the second's weight.

    Beyond the outer centres the outer tile is held. `centres` are those of neighbouring tiles, in
    the direction of the cube.
    """
    numbers = np.rint(centres / side - 0.5).astype(np.int64)
    steps = np.diff(numbers)
    if steps.size and not (abs(steps) == 1).all():
        raise GridError(f"tables to interpolate need tiles without a gap along {dim}")
    position = np.asarray(cube[dim].values, np.float64) / side - 0.5
    below = np.floor(position)
    upper_share = position - below
    is_up = _ascends(cube, dim)
    first = below - numbers[0] if is_up else numbers[0] - (below + 1)
    weight = upper_share if is_up else 1 - upper_share
    is_held = (first < 0) | (first >= numbers.size - 1)
    place = np.clip(first, 0, numbers.size - 1).astype(np.int64)
    return place, np.where(is_held, 0.0, weight).astype(np.float32)


def _ascends(cube: xr.DataArray, dim: str) -> bool:
    affine = geobox_of(cube).affine
    return bool((affine.a if dim == "x" else affine.e) > 0)
