"""Tiles of the Military Grid Reference System, whose squares Sentinel-2 and HLS are cut by.

References
----------
NGA.SIG.0012_2.0.0_UTMUPS (2014), The universal grids and the transverse Mercator and polar
stereographic map projections, chapter 11: zones, latitude bands and letters of squares.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from math import ceil, floor
from typing import Any

import numpy as np

from xharmonize.cube.geobox import Bounds, read_crs, reproject_bounds
from xharmonize.errors import GridError
from xharmonize.kernels.longitude import unwrapped
from xharmonize.region.squares import Area, Tile, meets, shapes_of

SQUARE = 100_000.0
"""Side of a square [m]."""

PRODUCT = 109_800.0
"""Side of a tile of Sentinel-2 and HLS [m]: 10980 pixels of 10 m."""

COMMON = 60.0
"""Corners of Sentinel-2's tiles are multiples of its coarsest pixel [m]."""

SOUTHERN = 10_000_000.0
"""Northing of the equator in southern zones [m]."""

BANDS = "CDEFGHJKLMNPQRSTUVWX"
"""Letters of eight degrees of latitude each from 80° S on; X has twelve."""

COLUMNS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")
ROWS = "ABCDEFGHJKLMNPQRSTUV"
NORWAY = {
    "31V": (0, 3), "32V": (3, 12),
    "31X": (0, 9), "33X": (9, 21), "35X": (21, 33), "37X": (33, 42),
}  # fmt: skip
"""Longitudes of zones that are not six degrees wide [degree]; 32X, 34X and 36X do not exist."""

ABSENT = ("32X", "34X", "36X")


def mgrs_tiles(area: Area, *, overlap: bool = True) -> tuple[Tile, ...]:
    """Cut an area into tiles by the 100 km squares of MGRS, as Sentinel-2 and HLS are.

    A square that the edge of a latitude band cuts has two names; it is given once, by the name of
    the larger part.

    Parameters
    ----------
    area : (west, south, east, north), BoundingBox, or polygons
        Box in degrees, or in its own CRS; or GeoJSON, shapely geometries, or a GeoDataFrame.
        Between 80° S and 84° N.
    overlap : bool
        Whether tiles are those of Sentinel-2's products, 109.8 km (10980 pixels of 10 m) from the
        north-west corner of the square on, which overlap. False: the squares themselves, which
        share edges, cut where their zone ends.

    Returns
    -------
    tuple of Tile
        Those whose squares meet the area, by name.

    Raises
    ------
    GridError
        If the area is none, or has no square.

    Examples
    --------
    >>> from xharmonize.region import mgrs_tiles
    >>> [(tile.name, tile.crs, tile.bounds) for tile in mgrs_tiles((3.1, 50.8, 3.2, 50.9))]
    [('31UES', 'EPSG:32631', (499980.0, 5590200.0, 609780.0, 5700000.0))]
    """
    shapes = shapes_of(area, read_crs("EPSG:4326"))
    found: dict[tuple[str, float, float], tuple[float, Tile]] = {}
    for zone, whole in _zones(shapes):
        crs = f"EPSG:{(32700 if zone[-1] < 'N' else 32600) + int(zone[:-1])}"
        for east, north in _corners(whole, crs):
            piece = _piece(east, north, whole, crs)
            if not any(_shares(piece, shape) for shape in shapes):
                continue
            bounds = _product(east, north, zone) if overlap else _cut(east, north, piece, crs)
            name = f"{zone:0>3}{_letters(zone, east, north)}"  # as in T01KAB of a product
            tile = Tile(name=name, crs=crs, bounds=bounds)
            key = (crs, east, north)
            found[key] = _larger(found[key], (piece.area, tile)) if key in found else (
                piece.area, tile,
            )  # fmt: skip
    if not found:
        raise GridError("has no square of MGRS", cure="it ends at 80° S and 84° N", argument="area")
    return tuple(sorted((tile for _, tile in found.values()), key=lambda tile: tile.name))


def _zones(shapes: Sequence[Any]) -> Iterator[tuple[str, Bounds]]:
    """Zones with their latitude band that an area meets (``31U``), and their box [degree]."""
    for row, band in enumerate(BANDS):
        south = -80.0 + 8 * row
        north = 84.0 if band == "X" else south + 8
        for number in range(1, 61):
            name = f"{number}{band}"
            west, east = NORWAY.get(name, (6 * number - 186, 6 * number - 180))
            for turn in (-360, 0, 360):
                box = (west + turn, south, east + turn, north)
                if name not in ABSENT and meets(shapes, box):
                    yield name, (float(west), south, float(east), north)
                    break


def _corners(whole: Bounds, crs: str) -> Iterator[tuple[float, float]]:
    """South-west corners of the squares around a part of a zone."""
    left, bottom, right, top = reproject_bounds(whole, "EPSG:4326", crs)
    for column in range(floor(left / SQUARE), ceil(right / SQUARE)):
        for row in range(floor(bottom / SQUARE), ceil(top / SQUARE)):
            yield column * SQUARE, row * SQUARE


def _piece(east: float, north: float, whole: Bounds, crs: str) -> Any:
    """The part of a square that lies in a part of a zone, a polygon in degrees."""
    import shapely

    square = shapely.box(east, north, east + SQUARE, north + SQUARE)
    edges = shapely.get_coordinates(shapely.segmentize(square, SQUARE / 16))
    x, y = _from_degrees(crs).transform(*edges.T, direction="INVERSE")
    x = unwrapped(np.asarray(x), (whole[0] + whole[2]) / 2)
    return shapely.intersection(shapely.Polygon(np.c_[x, y]), shapely.box(*whole))


@lru_cache
def _from_degrees(crs: str) -> Any:
    from pyproj import Transformer

    return Transformer.from_crs("EPSG:4326", crs, always_xy=True)


def _larger(one: tuple[float, Tile], other: tuple[float, Tile]) -> tuple[float, Tile]:
    """Of two parts of one square, cut by the edge of a latitude band: the name of the larger."""
    area, tile = max(one, other, key=lambda part: part[0])
    edges = zip(one[1].bounds, other[1].bounds, (min, min, max, max))
    left, bottom, right, top = (choose(a, b) for a, b, choose in edges)
    return area, replace(tile, bounds=(left, bottom, right, top))


def _shares(piece: Any, shape: Any) -> bool:
    """Whether a part of a square shares an area with a polygon, at any turn of longitude."""
    from shapely.affinity import translate

    turns = (translate(piece, turn) for turn in (-360, 0, 360))
    return any(one.intersects(shape) and one.intersection(shape).area > 0 for one in turns)


def _product(east: float, north: float, zone: str) -> Bounds:
    """The tile of Sentinel-2 that begins at the north-west corner of a square.

    Its corners are multiples of 60 m from the equator, which in the south lies at 10,000 km.
    """
    equator = SOUTHERN if zone[-1] < "N" else 0.0
    left = floor(east / COMMON) * COMMON
    top = equator + ceil((north + SQUARE - equator) / COMMON) * COMMON
    return left, top - PRODUCT, left + PRODUCT, top


def _cut(east: float, north: float, piece: Any, crs: str) -> Bounds:
    """The box around the part of a square that its zone has, outwards to whole pixels."""
    import shapely

    edges = shapely.get_coordinates(shapely.segmentize(piece, 0.01))
    x, y = _from_degrees(crs).transform(*edges.T)
    return (
        max(east, floor(x.min() / COMMON) * COMMON),
        max(north, floor(y.min() / COMMON) * COMMON),
        min(east + SQUARE, ceil(x.max() / COMMON) * COMMON),
        min(north + SQUARE, ceil(y.max() / COMMON) * COMMON),
    )


def _letters(zone: str, east: float, north: float) -> str:
    """The two letters of a square: columns repeat every three zones, rows every two."""
    number = int(zone[:-1])
    column = COLUMNS[(number - 1) % 3][round(east / SQUARE) - 1]
    return column + ROWS[(round(north / SQUARE) + (5 if number % 2 == 0 else 0)) % 20]
