"""Tiles of an area: what a tile is, and a grid of them that shares edges of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from odc.geo import xy_
from odc.geo.geom import BoundingBox
from odc.geo.gridspec import GridSpec

from xharmonize.cube.geobox import Bounds, crs_text, read_crs
from xharmonize.cube.polygons import read_polygons
from xharmonize.errors import GridError
from xharmonize.io.stac.grid import box_in_degrees
from xharmonize.kernels.longitude import unrolled

Area: TypeAlias = Any
"""West, south, east, north [degree], a BoundingBox with its CRS, or polygons as in `clip`."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A part of an area that is worked on by itself.

    Attributes
    ----------
    name : str
        Of its store; letters, digits, ``-`` and ``_``.
    crs : str
        ``EPSG:32631``, or WKT.
    bounds : (float, float, float, float)
        Left, bottom, right, top [unit of `crs`]. Pixels whose centres lie within are its own: left
        and lower bounds belong to it, the others to its neighbours.
    """

    name: str
    crs: str
    bounds: Bounds

    @property
    def box(self) -> BoundingBox:
        """The bounds with their CRS, as `xharmonize.open_stac` takes them as ``bbox=``."""
        return BoundingBox(*self.bounds, crs=self.crs)

    @property
    def bbox(self) -> Bounds:
        """West, south, east, north [degree]; west > east across the antimeridian."""
        return box_in_degrees(self.box)


def square_tiles(
    area: Area,
    *,
    crs: Any,
    resolution: float,
    pixels: int = 2048,
    phase: tuple[float, float] = (0.0, 0.0),
) -> tuple[Tile, ...]:
    """Cut an area into squares of pixels of one grid, whose neighbours share edges of pixels.

    The grid is absolute: tiles have the same names and bounds whatever the area is.

    Parameters
    ----------
    area : (west, south, east, north), BoundingBox, or polygons
        Box in degrees, or in its own CRS; or GeoJSON, shapely geometries, or a GeoDataFrame.
    crs : CRS, str or int
        CRS of the tiles.
    resolution : float
        Side of a pixel [unit of `crs`].
    pixels : int
        Pixels a side of a tile.
    phase : (float, float)
        Where edges of pixels lie in x and y, modulo `resolution`; (15, 15) in most of Landsat.

    Returns
    -------
    tuple of Tile
        Those that meet the area, from west to east, then from south to north.

    Raises
    ------
    GridError
        If the area, `crs`, `resolution` or `pixels` is none.

    Examples
    --------
    >>> from xharmonize.region import square_tiles
    >>> tiles = square_tiles((3.0, 50.8, 3.1, 50.9), crs=32631, resolution=10, pixels=1024)
    >>> len(tiles), tiles[0].name, tiles[0].bounds
    (4, 'x48_y549', (491520.0, 5621760.0, 501760.0, 5632000.0))
    """
    if not resolution > 0:
        raise GridError(
            "is no pixel size", cure="give a positive number", argument="resolution",
            value=resolution,
        )  # fmt: skip
    if pixels < 1:
        raise GridError("is no size of a tile", cure="1 or more", argument="pixels", value=pixels)
    target = read_crs(crs)
    spec = GridSpec(target, (pixels, pixels), resolution=resolution, origin=xy_(*phase))
    shapes = shapes_of(area, target)
    found = []
    for (column, row), geobox in spec.tiles(BoundingBox(*_around(shapes), crs=target)):
        left, bottom, right, top = (float(edge) for edge in geobox.boundingbox)
        bounds = (left, bottom, right, top)
        if meets(shapes, bounds):
            found.append(Tile(name=f"x{column}_y{row}", crs=crs_text(target), bounds=bounds))
    return tuple(found)


def shapes_of(area: Area, target: Any) -> list[Any]:
    """Return an area as shapely polygons in a CRS; a box follows its edges."""
    import shapely

    is_box = isinstance(area, BoundingBox) or (
        isinstance(area, Sequence) and len(area) == 4 and all(map(_is_number, area))
    )
    if not is_box:
        fields = read_polygons(area, name=None, crs=None, target=target, buffer=0.0)
        return [field.geometry for field in fields]
    if target.geographic:
        return [shapely.box(*unrolled(box_in_degrees(area)))]
    given = getattr(area, "crs", None) or read_crs("EPSG:4326")
    edges = tuple(area) if getattr(area, "crs", None) else unrolled(box_in_degrees(area))
    if given == target:
        return [shapely.box(*edges)]
    outline = shapely.segmentize(shapely.box(*edges), max(edges[2] - edges[0], 1e-9) / 64)
    return [field.geometry for field in _projected(outline, given, target)]


def _projected(outline: Any, given: Any, target: Any) -> list[Any]:
    return read_polygons(outline, name=None, crs=given, target=target, buffer=0.0)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _around(shapes: Sequence[Any]) -> Bounds:
    from shapely import total_bounds

    left, bottom, right, top = map(float, total_bounds(list(shapes)))
    return left, bottom, right, top


def meets(shapes: Sequence[Any], bounds: Bounds) -> bool:
    """Whether one of some polygons shares an area with a box, not only an edge."""
    import shapely

    box = shapely.box(*bounds)
    return any(shape.intersection(box).area > 0 for shape in shapes)
