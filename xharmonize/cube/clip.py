"""Clip a cube to polygons."""

from __future__ import annotations

from typing import Any, TypeVar

import dask.array as da
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from xharmonize.cube.blockwise import chunks_of, is_lazy
from xharmonize.cube.contract import main_layer
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import geobox_of
from xharmonize.cube.masks import take_out
from xharmonize.cube.polygons import read_polygons
from xharmonize.errors import GridError
from xharmonize.types import BoolArray

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
    >>> west, south, east, north = cube.odc.geobox.boundingbox.bbox
    >>> half = clip(cube, box(west, south, (west + east) / 2, north), crs=cube.odc.geobox.crs)
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
    options = {"box": box, "shapes": shapes, "all_touched": all_touched}
    array = layer.transpose(..., "y", "x")
    if not is_lazy(array):
        return _block(((0, box.shape[0]), (0, box.shape[1])), **options)
    return da.map_blocks(
        _lazy_block,
        chunks=chunks_of(array)[-2:],
        dtype=bool,
        meta=np.empty((0, 0), bool),
        name=None,
        token="clip",
        **options,
    )


def _at_each_date(outside: Any, layer: xr.DataArray) -> Any:
    shape = (layer.sizes.get("time", 1), *outside.shape)
    if not is_lazy(outside):
        return np.broadcast_to(outside, shape)
    times = layer.chunksizes.get("time", (1,))
    return da.broadcast_to(outside, shape, chunks=(times, *outside.chunks))


def _lazy_block(*, block_info: Any = None, **options: Any) -> BoolArray:
    return _block(block_info[None]["array-location"], **options)


def _block(span: Any, *, box: GeoBox, shapes: list[Any], all_touched: bool) -> BoolArray:
    from rasterio.features import geometry_mask

    part = box[slice(*span[0]), slice(*span[1])]
    mask: BoolArray = geometry_mask(
        shapes, out_shape=part.shape, transform=part.affine, all_touched=all_touched
    )
    return mask
