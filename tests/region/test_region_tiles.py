"""Tiles: names and corners are those of products, squares cover an area once, edges are shared."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from pyproj import Transformer

from xharmonize.errors import GridError
from xharmonize.region import mgrs_tiles, square_tiles

PRODUCTS = {
    "13TDE": (32613, 399960, 4500000),
    "24XWR": (32624, 499980, 9100020),
    "07HFE": (32707, 600000, 6500020),
    "01KAB": (32701, 99960, 8200000),
    "06VVN": (32606, 399960, 6800040),
    "33TWL": (32633, 499980, 5100000),
}
"""EPSG code and north-west corner of tiles, as items of Sentinel-2 products state them."""


@pytest.mark.parametrize("name", PRODUCTS)
def test_tiles_are_those_of_products(name):
    code, left, top = PRODUCTS[name]
    to_degrees = Transformer.from_crs(code, 4326, always_xy=True)
    x, y = to_degrees.transform([left + 20_000, left + 95_000], [top - 50_000] * 2)
    near = (x[0], y[0] - 0.01, x[1], y[0] + 0.01)  # its zone may hold only a part of it
    tile = next(tile for tile in mgrs_tiles(near) if tile.name == name)
    assert tile.crs == f"EPSG:{code}"
    assert tile.bounds == (left, top - 109_800, left + 109_800, top)


def test_names_are_those_of_another_library():
    library = pytest.importorskip("mgrs").MGRS()
    random = np.random.default_rng(7)
    for longitude, latitude in random.uniform((-180, -79.9), (179.98, 83.9), (60, 2)):
        tiles = mgrs_tiles((longitude, latitude, longitude + 1e-4, latitude + 1e-4), overlap=False)
        said = library.toMGRS(latitude + 5e-5, longitude + 5e-5, MGRSPrecision=0)
        found = {tile.name for tile in tiles}
        other_band = {name[:2] + name[3:] for name in found}  # cut by the edge of a band
        assert f"{said:0>5}" in found or f"{said:0>5}"[:2] + said[-2:] in other_band, (said, found)


@pytest.mark.parametrize(
    "box", [(5.5, 55.8, 6.6, 56.3), (5.2, 50.0, 6.8, 50.6), (179.5, -17.0, -179.5, -16.5)]
)
def test_squares_cover_an_area_where_zones_and_bands_meet(box):
    tiles = mgrs_tiles(box, overlap=False)
    random = np.random.default_rng(1)
    width = (box[2] - box[0]) % 360
    for across, up in random.uniform(0, 1, (200, 2)):
        longitude, latitude = box[0] + across * width, box[1] + up * (box[3] - box[1])
        inside = 0
        for tile in tiles:
            x, y = Transformer.from_crs(4326, tile.crs, always_xy=True).transform(
                longitude, latitude
            )
            left, bottom, right, top = tile.bounds
            inside += left <= x < right and bottom <= y < top
        assert inside >= 1
    by_crs = {crs: [t.bounds for t in tiles if t.crs == crs] for crs in {t.crs for t in tiles}}
    for bounds in by_crs.values():
        squares = shapely.box(*np.array(bounds).T)
        assert shapely.union_all(squares).area == pytest.approx(sum(s.area for s in squares))


def test_squares_of_pixels_share_edges_and_are_absolute():
    options = {"crs": "EPSG:32631", "resolution": 30.0, "pixels": 64, "phase": (15.0, 15.0)}
    tiles = {tile.name: tile.bounds for tile in square_tiles((3.0, 50.8, 3.1, 50.9), **options)}
    for name, (left, bottom, _, _) in tiles.items():
        column, row = (int(part[1:]) for part in name.split("_"))
        assert (left, bottom) == (15 + column * 1920, 15 + row * 1920)
    part = square_tiles((3.05, 50.85, 3.06, 50.86), **options)
    assert all(tiles[tile.name] == tile.bounds for tile in part)
    triangle = shapely.Polygon([(3.0, 50.8), (3.1, 50.8), (3.0, 50.9)])
    assert 0.4 < len(square_tiles(triangle, **options)) / len(tiles) < 0.7


def test_what_is_no_area_is_told():
    with pytest.raises(GridError, match="degrees"):
        mgrs_tiles((500_000, 5_600_000, 510_000, 5_610_000))
    with pytest.raises(GridError, match="no square of MGRS"):
        mgrs_tiles((10.0, 85.0, 11.0, 86.0))
    with pytest.raises(GridError, match="pixels"):
        square_tiles((3.0, 50.8, 3.1, 50.9), crs=32631, resolution=10, pixels=0)
