"""open_stac: the grid that was asked for, exactly, or an error that names the argument."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from helpers.items import ENGINES, LEFT, TOP, landsat, sentinel2
from pyproj import Transformer

import xharmonize as xh
from xharmonize.cube.geobox import geobox_of, is_same_grid


@pytest.fixture(params=ENGINES)
def engine(request) -> str:
    return request.param


@pytest.mark.slow
def test_flanders_is_the_same_with_both_engines(data):
    catalog = data / "flanders-2018" / "catalog.json"
    for collection in ("sentinel-2-l2a", "landsat-8-c1-sr"):
        cubes = [
            xh.open_stac(
                catalog, collection=collection, datetime="2018-06/2018-07", engine=name, qa=True
            ).compute()
            for name in ENGINES
        ]
        for name in cubes[0].variables:
            np.testing.assert_array_equal(cubes[0][name], cubes[1][name], err_msg=str(name))
    assert set(np.diff(cubes[0].x)) == {30.0}
    assert (float(cubes[0].x[0]), float(cubes[0].y[0])) == (501390.0, 5629650.0)
    assert cubes[0].sizes["x"] == cubes[0].sizes["y"] == 21


def test_a_box_in_degrees_is_extended_to_whole_pixels(tmp_path, engine):
    back = Transformer.from_crs(32631, 4326, always_xy=True)
    west, south = back.transform(LEFT + 52, TOP - 148)
    east, north = back.transform(LEFT + 98, TOP - 52)
    cube = xh.open_stac(sentinel2(tmp_path), bbox=(west, south, east, north), engine=engine)
    grid = geobox_of(cube)
    assert {grid.affine.c % 10, grid.affine.f % 10} == {0.0}
    assert (grid.affine.c, grid.affine.f) == (LEFT + 50, TOP - 50)
    np.testing.assert_allclose(cube.sel(band="red")[0, 0, 0], 0.1005, atol=1e-7)


@pytest.mark.parametrize(
    ("bbox", "message"),
    [
        ((3.0, 50.0, 3.0, 50.0), "no extent|empty"),
        ((600000.0, 5599800.0, 600240.0, 5600040.0), "degrees"),
    ],
)
def test_a_bad_box_is_refused(tmp_path, bbox, message):
    with pytest.raises(xh.errors.GridError, match=message):
        xh.open_stac(sentinel2(tmp_path), bbox=bbox)


def test_a_box_beside_the_pixels_is_an_empty_query(tmp_path):
    lon, lat = Transformer.from_crs(32631, 4326, always_xy=True).transform(LEFT - 300, TOP)
    with pytest.raises(xh.errors.EmptyQueryError, match="overlaps the grid"):
        xh.open_stac(sentinel2(tmp_path), bbox=(lon - 0.001, lat - 0.001, lon, lat))


def test_like_takes_the_grid_exactly_and_averages(tmp_path, engine):
    like = xh.open_stac(landsat(tmp_path))
    cube = xh.open_stac(sentinel2(tmp_path), like=like, engine=engine)
    assert is_same_grid(geobox_of(cube), geobox_of(like))
    # A Landsat pixel takes 1.5 + 1 + 0.5 columns: centre at column 3 of 10 m.
    np.testing.assert_allclose(cube.sel(band="red")[0, 4, 1], 0.10025, atol=1e-6)
    upside_down = like.isel(y=slice(None, None, -1))
    turned = xh.open_stac(sentinel2(tmp_path), like=upside_down, engine=engine)
    np.testing.assert_array_equal(turned.y, upside_down.y)
    np.testing.assert_array_equal(turned, cube.isel(y=slice(None, None, -1)))


def test_gdal_resampling_on_request(tmp_path, engine):
    item = sentinel2(tmp_path)
    averaged = xh.open_stac(item, resolution=20, resampling="average", engine=engine, mask=None)
    np.testing.assert_allclose(averaged.sel(band="red")[0, 3, :2], [0.10005, 0.10025], atol=6e-5)
    with pytest.raises(xh.errors.CatalogError, match="resampling='mean' is unknown"):
        xh.open_stac(item, resampling="mean")


def test_encoded_numbers_are_not_averaged(tmp_path):
    with pytest.raises(xh.errors.RadiometryError, match="resampling='nearest'"):
        xh.open_stac(sentinel2(tmp_path), resolution=30, decode=False)


def test_two_crss_need_an_argument(tmp_path, engine):
    corner = {"left": 174960.0, "top": 5609160.0}  # some columns further east
    other = sentinel2(tmp_path, "east", crs=32632, tile="32ULB", **corner)
    zones = [sentinel2(tmp_path), other]
    with pytest.raises(xh.errors.GridError, match=r"EPSG:32631.*EPSG:32632.*crs= or like="):
        xh.open_stac(zones)
    cube = xh.open_stac(zones, crs=32631, engine=engine, mosaic="none")
    assert geobox_of(cube).crs.epsg == 32631
    assert geobox_of(cube).affine.a == 10.0
    assert cube.sizes["time"] == 2
    both = xh.open_stac(zones, crs=32631, resolution=30, engine=engine)
    assert both.sizes["time"] == 1
    assert both.item_id.item() == "east|s2"
    apart = xh.open_stac(zones, crs=32631, resolution=30, engine=engine, mosaic="none")
    expected = apart[0].where(apart[0].notnull(), apart[1])
    np.testing.assert_array_equal(both[0], expected)
    assert apart.isnull().any(("band", "y", "x")).all()
    assert both.notnull().sum() > apart.notnull().sum(("band", "y", "x")).max()


def test_no_crs_and_no_transform_name_the_arguments(tmp_path, engine):
    item = sentinel2(tmp_path)
    whole = xh.open_stac(sentinel2(tmp_path), mask=None, engine=engine)
    del item["properties"]["proj:epsg"]
    with pytest.raises(xh.errors.GridError, match=r"says no CRS.*crs="):
        xh.open_stac(item)
    for asset in item["assets"].values():
        del asset["proj:transform"]
    item["properties"]["proj:epsg"] = 32631
    with pytest.raises(xh.errors.GridError, match=r"proj:transform.*like="):
        xh.open_stac(item)
    with pytest.raises(xh.errors.GridError, match="resampling="):
        xh.open_stac(item, like=whole)
    cube = xh.open_stac(item, like=whole, mask=None, resampling="nearest", engine=engine)
    np.testing.assert_array_equal(cube, whole)


def test_mixed_pixel_sizes_need_a_resolution(tmp_path):
    items = [sentinel2(tmp_path), landsat(tmp_path)]
    with pytest.raises(xh.errors.GridError, match=r"10 \(sentinel-2-l2a\), 30 .*resolution="):
        xh.open_stac(items)
    with pytest.raises(xh.errors.GridError, match="finer than the coarsest"):
        xh.open_stac(items, resolution=20)


def test_own_projection_needs_odc(tmp_path):
    own = "+proj=laea +lat_0=50.5 +lon_0=4.4 +datum=WGS84 +units=m +no_defs"
    with pytest.raises(xh.errors.GridError, match='engine="odc"'):
        xh.open_stac(sentinel2(tmp_path), crs=own, resolution=10, engine="stackstac")
    cube = xh.open_stac(sentinel2(tmp_path), crs=own, resolution=10, mask=None)
    assert np.isfinite(cube).any()


def test_degrees(data, tmp_path, engine):
    """Chips in EPSG:4326 whose pixels are not square."""
    chip = sorted((data / "boadella" / "sentinel_2").glob("*.tif"))[0]
    with rasterio.open(chip) as file:
        values, transform, shape = file.read(4), file.transform, file.shape
    profile = {"crs": 4326, "transform": transform, "height": shape[0], "width": shape[1]}
    with rasterio.open(
        tmp_path / "red.tif", "w", driver="GTiff", count=1, dtype="int16", **profile
    ) as file:
        file.write(values, 1)
    item = {
        **sentinel2(tmp_path),
        "assets": {
            "red": {
                "href": str(tmp_path / "red.tif"),
                "proj:shape": list(shape),
                "proj:transform": list(transform)[:6],
                "raster:bands": [{"data_type": "int16", "nodata": 0}],
            }
        },
    }
    item["bbox"] = [transform.c, transform.f + transform.e * shape[0],
                    transform.c + transform.a * shape[1], transform.f]  # fmt: skip
    item["properties"]["proj:epsg"] = 4326
    cube = xh.open_stac(item, mask=None, decode=False, engine=engine)
    assert cube.shape == (1, 1, *shape)
    np.testing.assert_array_equal(cube[0, 0], values)
    grid = geobox_of(cube)
    np.testing.assert_allclose(grid.affine[:6], transform[:6], rtol=1e-9)
