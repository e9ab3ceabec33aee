"""Clipping to polygons: which pixels stay, what becomes of them, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from odc.geo.geom import box as box_of
from shapely import contains_xy
from shapely.geometry import Polygon, box, mapping

import xharmonize as xh
from xharmonize.cube.geobox import geobox_of
from xharmonize.errors import GridError
from xharmonize.testing import example_cube


def crs(cube):
    return geobox_of(cube).crs


def edges(cube):
    return geobox_of(cube).boundingbox.bbox


def triangle(cube) -> Polygon:
    west, south, east, north = edges(cube)
    return Polygon([(west + 31, south + 17), (east - 45, south + 41), (west + 93, north - 29)])


def test_pixels_whose_centre_is_inside_keep_their_values(cube, no_compute):
    shape = triangle(cube)
    with no_compute():
        clipped = xh.clip(cube, shape, crs=crs(cube))
    inside = contains_xy(shape, *np.meshgrid(clipped.x.values, clipped.y.values))
    expected = cube.sel(x=clipped.x, y=clipped.y).where(xr.DataArray(inside, dims=("y", "x")))
    xr.testing.assert_equal(clipped.compute(), expected.compute())
    assert clipped.sizes["x"] < cube.sizes["x"]
    assert "clipped to 1 polygon" in clipped.attrs["history"]
    assert clipped.dtype == cube.dtype


def test_chunks_do_not_matter():
    whole = example_cube()
    expected = xh.clip(whole, triangle(whole), crs=crs(whole))
    for chunks in ({"time": 1, "y": 7, "x": 5}, {"band": 2, "y": 24, "x": 30}):
        actual = xh.clip(whole.chunk(chunks), triangle(whole), crs=crs(whole))
        xr.testing.assert_equal(actual.compute(), expected)


def test_geojson_is_in_degrees():
    cube = example_cube()
    west, south, east, north = edges(cube)
    inner = box_of(west + 61, south + 61, east - 61, north - 61, crs(cube))
    in_degrees = xh.clip(cube, mapping(inner.to_crs("EPSG:4326", resolution=10).geom))
    in_metres = xh.clip(cube, inner.geom, crs=crs(cube))
    xr.testing.assert_equal(in_degrees, in_metres)


def test_companions_and_digital_numbers_are_blank_outside():
    cube = example_cube()
    west, south, east, north = edges(cube)
    half = box(west, south, (west + east) / 2, north)
    seen = xr.ones_like(cube.isel(band=0, drop=True), dtype="uint8")
    both = xr.Dataset({"reflectance": cube, "origin": seen})
    clipped = xh.clip(both, half, crs=crs(cube), crop=False)
    kept = clipped["reflectance"].isel(band=0).notnull()
    west_half = cube.isel(band=0, x=slice(None, 15)).notnull()
    xr.testing.assert_equal(kept.isel(x=slice(None, 15)), west_half, check_dim_order=False)
    assert not kept.isel(x=slice(15, None)).any()
    assert (clipped["origin"].isel(x=slice(15, None)) == 0).all()
    nodata = (("time", "band"), np.full(cube.shape[:2], -9999.0))
    numbers = (cube * 10_000).round().astype("int16").assign_coords(nodata=nodata)
    outside = xh.clip(numbers, half, crs=crs(cube), crop=False).isel(x=slice(15, None))
    assert outside.dtype == np.int16
    assert (outside == -9999).all()


def test_every_touched_pixel():
    cube = example_cube()
    west, south, _, _ = edges(cube)
    tiny = box(west + 1, south + 1, west + 3, south + 3)
    touched = xh.clip(cube, tiny, crs=crs(cube), all_touched=True)
    assert touched.notnull().all()
    assert touched.sizes["x"] == touched.sizes["y"] == 1
    assert xh.clip(cube, tiny, crs=crs(cube)).isnull().all()


def test_polygons_elsewhere_are_refused():
    cube = example_cube()
    with pytest.raises(GridError, match="lie outside the cube"):
        xh.clip(cube, box(0, 0, 1, 1))
    _, south, east, north = edges(cube)
    with pytest.raises(GridError, match="lie outside the cube"):  # it touches the edge only
        xh.clip(cube, box(east, south, east + 50, north), crs=crs(cube))
    with pytest.raises(GridError, match="Polygon"):
        xh.clip(cube, {"type": "Point", "coordinates": [3, 50]})
