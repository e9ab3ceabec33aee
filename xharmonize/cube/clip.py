"""Clip a cube to polygons."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

import dask.array as da
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from xharmonize.cube.blockwise import cut_like, is_lazy, map_blocks
from xharmonize.cube.contract import main_layer
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import geobox_of
from xharmonize.cube.masks import take_out
from xharmonize.cube.polygons import read_polygons
from xharmonize.errors import GridError
from xharmonize.types import BoolArray, Float64Array

Cube = TypeVar("Cube", xr.DataArray, xr.Dataset)


def clip(
    cube: Cube,
    geometry: Any,
    *,
    crs: Any = None,
    all_touched: bool = False,
    crop: bool = True,
) -> Cube:
    """Clip a cube to polygons, lazily: pixels outside become missing.

    Parameters
    ----------
    cube : (..., y, x) DataArray or Dataset
        Reflectance [1], digital numbers with their contract, or an index, with companions.
    geometry : GeoJSON, shapely geometry, GeoDataFrame or list of them
        One or more polygons; their union is kept.
    crs : CRS, str or int, optional
        CRS of the polygons. Default: that of a GeoDataFrame, else EPSG:4326, as in GeoJSON.
    all_touched : bool
        Whether to keep every pixel that a polygon touches. Default: those whose centre it holds.
    crop : bool
        Whether to also drop rows and columns that are missing throughout.

    Returns
    -------
    DataArray or Dataset
        NaN outside the polygons; nodata in digital numbers. Companions are blank there.

    Raises
    ------
    GridError
        If the geometry is no polygon, or meets no pixel of the cube.

    Examples
    --------
    >>> from shapely.geometry import box
    >>> from xharmonize.testing import example_cube
    >>> cube = example_cube()
    >>> west, south = float(cube.x.min()) - 5, float(cube.y.min()) - 5  # edges of pixels
    >>> half = clip(cube, box(west, south, west + 150, south + 240), crs="EPSG:32631")
    >>> cube.sizes["x"], half.sizes["x"]
    (30, 15)
    """
    cube = at_door(cube)
    layer = main_layer(cube)
    box = geobox_of(layer)
    fields = read_polygons(geometry, name=None, crs=crs, target=box.crs, buffer=0.0)
    shapes = [field.geometry for field in fields]
    rows, columns = _window(box, shapes)
    if crop:
        cube = cube.isel(y=slice(*rows), x=slice(*columns))
        layer = main_layer(cube)
        box = box[slice(*rows), slice(*columns)]
    outside = _outside(layer, box, shapes, all_touched=all_touched)
    removed = xr.DataArray(_at_each_date(outside, layer), dims=("time", "y", "x"))
    return take_out(cube, removed, f"clipped to {len(shapes)} polygon{'s' * (len(shapes) > 1)}")


def bounds_in_degrees(geometry: Any, *, crs: Any = None) -> tuple[float, float, float, float]:
    """Return the box around polygons as (west, south, east, north) [degree]."""
    from odc.geo.crs import CRS
    from shapely import total_bounds

    target = CRS("EPSG:4326")
    fields = read_polygons(geometry, name=None, crs=crs, target=target, buffer=0.0)
    west, south, east, north = map(float, total_bounds([field.geometry for field in fields]))
    return west, south, east, north


def _window(box: GeoBox, shapes: list[Any]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns that the polygons meet."""
    from shapely import box as rectangle
    from shapely import total_bounds

    left, bottom, right, top = total_bounds(shapes)
    (x0, y0), (x1, y1) = ~box.affine * (left, top), ~box.affine * (right, bottom)
    rows = _span(y0, y1, box.shape[0])
    columns = _span(x0, x1, box.shape[1])
    whole = rectangle(*box.boundingbox.bbox)
    is_empty = rows[0] >= rows[1] or columns[0] >= columns[1]
    if is_empty or not any(shape.intersects(whole) for shape in shapes):
        raise GridError(
            f"the polygons ({left:g}, {bottom:g}, {right:g}, {top:g}) lie outside the cube "
            f"({', '.join(f'{edge:g}' for edge in box.boundingbox.bbox)})",
            cure="check their CRS, or open a cube that covers them",
            argument="geometry",
        )
    return rows, columns


def _span(one: float, other: float, size: int) -> tuple[int, int]:
    low, high = sorted((one, other))
    tiny = 1e-6  # an edge on a pixel's edge is not in the next pixel
    return max(0, int(np.floor(low + tiny))), min(size, max(0, int(np.ceil(high - tiny))))


def _outside(layer: xr.DataArray, box: GeoBox, shapes: list[Any], *, all_touched: bool) -> Any:
    """Where no polygon is, block by block as the cube."""
    array = layer.transpose(..., "y", "x").data
    return map_blocks(
        partial(_block, step=(box.affine.e, box.affine.a), shapes=shapes, all_touched=all_touched),
        "y,x->yx",
        cut_like(np.asarray(layer["y"].values, np.float64), array, (array.ndim - 2,)),
        cut_like(np.asarray(layer["x"].values, np.float64), array, (array.ndim - 1,)),
        dtype=bool,
        name="clip",
    )


def _block(
    y: Float64Array, x: Float64Array, *, step: tuple[float, float], shapes: list[Any], **how: bool
) -> BoolArray:
    from affine import Affine
    from rasterio.features import geometry_mask

    down, right = step
    corner = Affine(right, 0.0, x[0] - right / 2, 0.0, down, y[0] - down / 2)
    mask: BoolArray = geometry_mask(shapes, out_shape=(y.size, x.size), transform=corner, **how)
    return mask


def _at_each_date(outside: Any, layer: xr.DataArray) -> Any:
    shape = (layer.sizes.get("time", 1), *outside.shape)
    if not is_lazy(outside):
        return np.broadcast_to(outside, shape)
    times = layer.chunksizes.get("time", (1,))
    return da.broadcast_to(outside, shape, chunks=(times, *outside.chunks))
