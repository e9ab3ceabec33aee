"""open_stac: what the files hold comes out as reflectance, on the grid it was asked for, lazily."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.transform import from_origin

import xharmonize as xh
from xharmonize.cube.contract import read_contract
from xharmonize.cube.geobox import geobox_of, is_same_grid

ENGINES = ["stackstac", "odc"]
LEFT, TOP = 600000.0, 5600040.0  # corner of an MGRS tile
SIZE = 240.0  # side of the test area [m]
RNG = np.random.default_rng(7)


def write(path: Path, values: np.ndarray, *, step, left=LEFT, top=TOP, crs=32631, nodata=0) -> None:
    profile = {
        "driver": "GTiff",
        "height": values.shape[0],
        "width": values.shape[1],
        "count": 1,
        "dtype": values.dtype,
        "crs": f"EPSG:{crs}",
        "transform": from_origin(left, top, step, step),
        "nodata": nodata,
        "tiled": True,
        "blockxsize": 16,
        "blockysize": 16,
        "compress": "deflate",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **profile) as file:
        file.write(values, 1)


def make_item(folder: Path, item_id: str, time: str, layers: dict[str, Any], **about) -> dict:
    """Write the layers (name → array, step, left, top) of an item, and return the item."""
    crs = about.pop("crs", 32631)
    assets = {}
    for name, (values, step, left, top) in layers.items():
        nodata = about.get("nodata", 0) if name not in ("qa_pixel",) else None
        write(folder / item_id / f"{name}.tif", values, step=step, left=left, top=top, crs=crs,
              nodata=nodata)  # fmt: skip
        assets[name] = {
            "href": str(folder / item_id / f"{name}.tif"),
            "proj:shape": list(values.shape),
            "proj:transform": [step, 0, left, 0, -step, top],
            "raster:bands": [{"data_type": str(values.dtype), "nodata": 0}],
        }
    lon, lat = Transformer.from_crs(crs, 4326, always_xy=True).transform(
        [LEFT, LEFT + SIZE], [TOP - SIZE, TOP]
    )
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": item_id,
        "collection": about.pop("collection"),
        "bbox": [lon[0] - 0.01, lat[0] - 0.01, lon[1] + 0.01, lat[1] + 0.01],
        "geometry": None,
        "links": [],
        "properties": {"datetime": time, "proj:epsg": crs, **about.pop("properties", {})},
        "assets": assets,
    }


def sentinel2(
    folder: Path,
    item_id: str = "s2",
    time: str = "2022-06-01T10:50:00Z",
    *,
    value: int = 2000,
    scl: int = 4,
    platform: str = "sentinel-2a",
    left: float = LEFT,
    top: float = TOP,
    tile: str = "31UDS",
    crs: int = 32631,
    rows: int = 24,
) -> dict:
    """Baseline 05.09: reflectance = (DN - 1000) / 10000. Red is `value` + column number."""
    red = np.broadcast_to(value + np.arange(24), (rows, 24)).astype("uint16")
    swir = np.full((rows // 2, 12), value + 500, "uint16")
    layers = {
        "red": (red, 10.0, left, top),
        "swir16": (swir, 20.0, left, top),
        "scl": (np.full((rows // 2, 12), scl, "uint8"), 20.0, left, top),
    }
    properties = {
        "platform": platform,
        "s2:processing_baseline": "05.09",
        "s2:datatake_id": f"GS2{platform[-1].upper()}_{time[:10].replace('-', '')}T105000_1_N05.09",
        "grid:code": f"MGRS-{tile}",
    }
    return make_item(
        folder, item_id, time, layers, crs=crs, collection="sentinel-2-l2a", properties=properties
    )


def landsat(
    folder: Path,
    item_id: str = "LC09_L2SP_198024_20220602_20230101_02_T1",
    time: str = "2022-06-02T10:40:00Z",
    *,
    value: int = 10000,
    qa: int = 21824,
    platform: str = "landsat-9",
    top: float = TOP + 15,
    rows: int = 9,
) -> dict:
    """Collection 2, 30 m, edges at 15 mod 30."""
    layers = {
        "red": (np.full((rows, 9), value, "uint16"), 30.0, LEFT - 15, top),
        "swir16": (np.full((rows, 9), value + 100, "uint16"), 30.0, LEFT - 15, top),
        "qa_pixel": (np.full((rows, 9), qa, "uint16"), 30.0, LEFT - 15, top),
    }
    return make_item(
        folder,
        item_id,
        time,
        layers,
        collection="landsat-c2-l2",
        properties={"platform": platform},
    )


@pytest.fixture(params=ENGINES)
def engine(request) -> str:
    return request.param


# --- numbers -----------------------------------------------------------------------------------


def test_reflectance_and_contract(tmp_path, engine, no_compute):
    with no_compute():
        cube = xh.open_stac(sentinel2(tmp_path), engine=engine)
    assert cube.dims == ("time", "band", "y", "x")
    assert cube.dtype == "float32"
    assert list(cube.band.values) == ["red", "swir16"]
    np.testing.assert_allclose(cube.sel(band="red")[0, 0], (1000 + np.arange(24)) / 1e4, atol=1e-7)
    np.testing.assert_allclose(cube.sel(band="swir16"), 0.15, atol=1e-7)
    step = read_contract(cube)[0]
    assert (step.sensor, step.platform, step.bandpass) == ("sentinel-2-l2a", "sentinel-2a", "msi")
    assert (step.processing_baseline, step.level, step.item_id) == ("05.09", "SR", "s2")
    assert step.offset == {"red": -0.1, "swir16": -0.1}
    assert step.is_decoded
    assert cube.attrs["units"] == "1"
    assert "open_stac" in cube.attrs["history"]


def test_encoded_cube_decodes_to_the_decoded_one(tmp_path, engine):
    items = [sentinel2(tmp_path, scl=9)]
    encoded = xh.open_stac(items, engine=engine, decode=False)
    assert encoded.dtype == "uint16"
    assert not encoded.is_decoded.any()
    assert (encoded == encoded.nodata).all()
    clear = xh.open_stac(items, engine=engine, decode=False, mask=None)
    assert int(clear.sel(band="red")[0, 0, 3]) == 2003
    whole = xh.open_stac(items, engine=engine, mask=None)
    xr.testing.assert_equal(xh.decode(clear), whole)


def test_nodata_is_nan_whatever_the_mask(tmp_path, engine):
    item = sentinel2(tmp_path)
    values = np.full((24, 24), 3000, "uint16")
    values[:4] = 0
    write(tmp_path / "s2" / "red.tif", values, step=10.0, nodata=None)
    cube = xh.open_stac(item, engine=engine, mask=None).sel(band="red").compute()
    assert np.isnan(cube[0, :4]).all()
    np.testing.assert_allclose(cube[0, 4:], 0.2, atol=1e-7)


def test_sensors_platforms_and_baselines_mix_in_one_cube(tmp_path, engine):
    items = [
        landsat(tmp_path),
        sentinel2(tmp_path, "a", "2022-06-01T10:50:00Z"),
        sentinel2(tmp_path, "b", "2022-06-03T10:50:00Z", platform="sentinel-2b"),
        sentinel2(tmp_path, "c", "2022-06-04T10:50:00Z", platform="sentinel-2c"),
        landsat(
            tmp_path,
            "LC08_L2SP_198024_20220605_20230101_02_T1",
            "2022-06-05T10:40:00Z",
            platform="landsat-8",
        ),
    ]
    cube = xh.open_stac(items, resolution=30, engine=engine, bands=["red"])
    assert list(cube.platform.values) == [
        "sentinel-2a", "landsat-9", "sentinel-2b", "sentinel-2c", "landsat-8",
    ]  # fmt: skip
    assert (np.diff(cube.time.values) > np.timedelta64(0)).all()
    assert float(cube.x[0]) == LEFT  # Landsat's own grid: centres at 0 mod 30
    values = cube.isel(y=4, x=4, band=0).values
    np.testing.assert_allclose(values[[1, 4]], 10000 * 2.75e-5 - 0.2, atol=1e-6)
    np.testing.assert_allclose(values[[0, 2, 3]], 0.10115, atol=1e-6)
    encoded = xh.open_stac(
        items, resolution=30, engine=engine, bands=["red"], decode=False, resampling="nearest"
    )
    np.testing.assert_allclose(xh.decode(encoded).isel(y=4, x=4, band=0), values, atol=2e-4)


def test_different_integer_types_are_widened(tmp_path, engine):
    items = [sentinel2(tmp_path, "a"), sentinel2(tmp_path, "b", "2022-06-03T10:50:00Z")]
    write(tmp_path / "b" / "red.tif", np.full((24, 24), -500, "int16"), step=10.0, nodata=-32768)
    items[1]["assets"]["red"]["raster:bands"] = [{"data_type": "int16", "nodata": -32768}]
    encoded = xh.open_stac(items, engine=engine, decode=False, bands=["red"])
    assert encoded.dtype == "int32"
    assert (encoded[1] == -500).all()
    cube = xh.open_stac(items, engine=engine, bands=["red"])
    assert np.isfinite(cube).all()
    np.testing.assert_allclose(cube[0, 0, 0, 0], 0.1, atol=1e-7)


# --- masks and quality -------------------------------------------------------------------------


def test_masks_and_the_quality_layer(tmp_path, engine):
    items = [sentinel2(tmp_path, scl=9), landsat(tmp_path, qa=21824 | 16)]
    s2 = xh.open_stac(items[0], engine=engine, qa=True)
    assert set(s2.data_vars) == {"reflectance", "qa"}
    assert np.isnan(s2.reflectance).all()
    assert (s2.qa == int(xh.Flag.CLOUD)).all()
    assert s2.qa.attrs["flag_masks"]
    kept = xh.open_stac(items[0], engine=engine, mask=["cloud_shadow"])
    assert np.isfinite(kept).all()
    shadow = xh.open_stac(items[1], engine=engine, qa=True, mask=None)
    assert np.isfinite(shadow.reflectance).all()
    assert (shadow.qa.values & int(xh.Flag.CLOUD_SHADOW)).all()


def test_pixels_do_not_depend_on_whether_quality_is_kept(tmp_path):
    item = landsat(tmp_path)
    saturated = np.zeros((8, 8), "uint16")
    saturated[1, 1] = 1 << 3  # b4, red
    write(tmp_path / "radsat.tif", saturated, step=30.0, nodata=None)
    item["assets"]["qa_radsat"] = {"href": str(tmp_path / "radsat.tif")}
    alone, kept = xh.open_stac(item), xh.open_stac(item, qa=True)
    assert np.isnan(alone).sum() == alone.sizes["band"]
    xr.testing.assert_equal(alone, kept.reflectance)
    write(tmp_path / "radsat.tif", saturated >> 1, step=30.0, nodata=None)  # b3: red on Landsat 7
    assert np.isfinite(xh.open_stac(item, bands="red")).all()


def test_a_mask_can_wait(tmp_path):
    item = sentinel2(tmp_path)
    red = np.full((24, 24), 3000, "uint16")
    red[3, 4] = 65535
    write(tmp_path / "s2" / "red.tif", red, step=10.0)
    later = xh.mask(xh.open_stac(item, mask=None, qa=True))
    assert np.isnan(later.reflectance[0, 0, 3, 4])
    xr.testing.assert_equal(later.reflectance, xh.open_stac(item))


def test_flags_of_a_product_without_quality_layers_are_refused(data):
    catalog = data / "flanders-2018" / "catalog.json"
    with pytest.raises(xh.MaskError, match="sentinel-1-grd has no quality layer that tells cloud"):
        xh.open_stac(catalog, collection="sentinel-1-grd", datetime="2018-07", mask="cloud")


def test_all_cloudy_is_all_nan_and_says_nothing_else(tmp_path):
    cube = xh.open_stac([sentinel2(tmp_path, scl=8)], resolution=30)
    assert np.isnan(cube).all()
    assert cube.sizes["time"] == 1


def test_quality_of_coarser_pixels_is_that_of_any_part(tmp_path):
    item = sentinel2(tmp_path)
    scl = np.full((12, 12), 4, "uint8")
    scl[0, 0] = 9  # 20 m of the first 60 m
    write(tmp_path / "s2" / "scl.tif", scl, step=20.0)
    cube = xh.open_stac(item, qa=True, resolution=60).isel(time=0).compute()
    assert int(cube.qa[0, 0]) & int(xh.Flag.CLOUD)
    assert not int(cube.qa[0, 1]) & int(xh.Flag.CLOUD)
    # 32 of 36 pixels are clear: their mean, columns 2 to 5 for the cloudy rows
    expected = np.mean([1000 + c for r in range(6) for c in range(6) if r > 1 or c > 1]) / 1e4
    np.testing.assert_allclose(cube.reflectance.sel(band="red")[0, 0], expected, atol=1e-7)


def test_no_quality_layer_is_an_error_that_names_the_item(tmp_path):
    item = sentinel2(tmp_path)
    del item["assets"]["scl"]
    with pytest.raises(xh.MaskError, match=r"item 's2'.*'scl'.*mask=None"):
        xh.open_stac(item)
    cube = xh.open_stac(item, mask=None, qa=True)
    assert (cube.qa == 0).all()
    with pytest.raises(xh.MaskError, match=r"'qa_radsat'.*without the flags it sets"):
        xh.open_stac(landsat(tmp_path), mask=("clear", "saturated"))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"chunks": 0}, xh.CatalogError, "chunks=0 holds no number of pixels"),
        ({"chunks": {"x": -7}}, xh.CatalogError, "give one above 0, or -1"),
        ({"crs": "EPSG:999999"}, xh.GridError, "'EPSG:999999' names no CRS"),
        ({"resolution": "10"}, xh.GridError, "resolution='10' is not a pixel size"),
        ({"resolution": 10, "crs": 4326}, xh.GridError, "resolution=10 would be degrees in"),
        ({"mask": False}, xh.MaskError, "mask=False names no flags; .* or None"),
        ({"bbox": "3,50,4,51"}, xh.GridError, "bbox='3,50,4,51' is not four finite numbers"),
        ({"like": "l8"}, xh.GridError, "like= is a str; give a cube or a GeoBox"),
        ({"bands": []}, xh.BandError, r"bands=\[\] is empty"),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        xh.open_stac(sentinel2(tmp_path), **options)


# --- grids -------------------------------------------------------------------------------------


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
    with pytest.raises(xh.GridError, match=message):
        xh.open_stac(sentinel2(tmp_path), bbox=bbox)


def test_a_box_beside_the_pixels_is_an_empty_query(tmp_path):
    lon, lat = Transformer.from_crs(32631, 4326, always_xy=True).transform(LEFT - 300, TOP)
    with pytest.raises(xh.EmptyQueryError, match="overlaps the grid"):
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
    with pytest.raises(xh.CatalogError, match="resampling='mean' is unknown"):
        xh.open_stac(item, resampling="mean")


def test_encoded_numbers_are_not_averaged(tmp_path):
    with pytest.raises(xh.RadiometryError, match="resampling='nearest'"):
        xh.open_stac(sentinel2(tmp_path), resolution=30, decode=False)


def test_two_crss_need_an_argument(tmp_path, engine):
    corner = {"left": 174960.0, "top": 5609160.0}  # some columns further east
    other = sentinel2(tmp_path, "east", crs=32632, tile="32ULB", **corner)
    zones = [sentinel2(tmp_path), other]
    with pytest.raises(xh.GridError, match=r"EPSG:32631.*EPSG:32632.*crs= or like="):
        xh.open_stac(zones)
    cube = xh.open_stac(zones, crs=32631, engine=engine, mosaic="none")
    assert geobox_of(cube).crs.epsg == 32631
    assert geobox_of(cube).affine.a == 10.0
    assert cube.sizes["time"] == 2
    both = xh.open_stac(zones, crs=32631, resolution=30, engine=engine)
    assert both.sizes["time"] == 1
    assert both.item_id.item() == "east;s2"
    apart = xh.open_stac(zones, crs=32631, resolution=30, engine=engine, mosaic="none")
    expected = apart[0].where(apart[0].notnull(), apart[1])
    np.testing.assert_array_equal(both[0], expected)
    assert apart.isnull().any(("band", "y", "x")).all()
    assert both.notnull().sum() > apart.notnull().sum(("band", "y", "x")).max()


def test_no_crs_and_no_transform_name_the_arguments(tmp_path, engine):
    item = sentinel2(tmp_path)
    whole = xh.open_stac(sentinel2(tmp_path), mask=None, engine=engine)
    del item["properties"]["proj:epsg"]
    with pytest.raises(xh.GridError, match=r"says no CRS.*crs="):
        xh.open_stac(item)
    for asset in item["assets"].values():
        del asset["proj:transform"]
    item["properties"]["proj:epsg"] = 32631
    with pytest.raises(xh.GridError, match=r"proj:transform.*like="):
        xh.open_stac(item)
    with pytest.raises(xh.GridError, match="resampling="):
        xh.open_stac(item, like=whole)
    cube = xh.open_stac(item, like=whole, mask=None, resampling="nearest", engine=engine)
    np.testing.assert_array_equal(cube, whole)


def test_mixed_pixel_sizes_need_a_resolution(tmp_path):
    items = [sentinel2(tmp_path), landsat(tmp_path)]
    with pytest.raises(xh.GridError, match=r"10 \(sentinel-2-l2a\), 30 .*resolution="):
        xh.open_stac(items)
    with pytest.raises(xh.GridError, match="finer than the coarsest"):
        xh.open_stac(items, resolution=20)


def test_own_projection_needs_odc(tmp_path):
    own = "+proj=laea +lat_0=50.5 +lon_0=4.4 +datum=WGS84 +units=m +no_defs"
    with pytest.raises(xh.GridError, match='engine="odc"'):
        xh.open_stac(sentinel2(tmp_path), crs=own, resolution=10)
    cube = xh.open_stac(sentinel2(tmp_path), crs=own, resolution=10, engine="odc", mask=None)
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


# --- time --------------------------------------------------------------------------------------


def test_dates_come_sorted_and_duplicates_once(tmp_path, engine):
    items = [
        sentinel2(tmp_path, "late", "2022-06-09T10:50:00Z", value=4000),
        sentinel2(tmp_path, "early", "2022-06-01T10:50:00Z"),
        sentinel2(tmp_path, "again", "2022-06-01T10:50:00Z"),
    ]
    items[2]["properties"]["s2:processing_baseline"] = "05.11"
    cube = xh.open_stac(items, engine=engine)
    assert list(cube.item_id.values) == ["again", "late"]


def test_rows_of_one_pass_become_one_step(tmp_path, engine):
    south = landsat(
        tmp_path,
        "LC09_L2SP_198025_20220602_20230101_02_T1",
        "2022-06-02T10:40:24Z",
        value=20000,
        top=TOP + 15 - 150,
        rows=9,
    )
    items = [landsat(tmp_path), south]
    cube = xh.open_stac(items, engine=engine, decode=False, qa=True)
    assert cube.sizes == {"time": 1, "band": 2, "y": 14, "x": 9}
    assert ";" in cube.item_id.item()
    red = cube.reflectance.sel(band="red")[0]
    assert (red[:9] == 10000).all()  # the overlap is the first row's
    assert (red[9:] == 20000).all()
    assert not (cube.qa & int(xh.Flag.FILL)).any()
    apart = xh.open_stac(items, engine=engine, mosaic="none")
    assert apart.sizes["time"] == 2
    assert np.isnan(apart[0, :, 9:]).all()


def test_a_pixel_comes_from_one_item_with_all_its_bands(tmp_path, engine):
    items = [landsat(tmp_path), landsat(tmp_path, "LC09_L2SP_198025_20220602_20230101_02_T1",
             "2022-06-02T10:40:24Z", value=20000)]  # fmt: skip
    values = np.full((9, 9), 10000, "uint16")
    values[:3] = 0  # the first item lacks one band there: the second gives both
    write(Path(items[0]["assets"]["red"]["href"]), values, step=30.0, left=LEFT - 15, top=TOP + 15)
    cube = xh.open_stac(items, engine=engine, decode=False)
    assert (cube[0, :, :3] >= 20000).all()
    assert (cube[0, :, 3:] <= 10100).all()


# --- chunks, graphs, failures ------------------------------------------------------------------


def test_chunks(tmp_path, engine):
    items = [sentinel2(tmp_path, f"s{i}", f"2022-06-0{i}T10:50:00Z") for i in (1, 2, 3)]
    whole = xh.open_stac(items, engine=engine, resolution=20)
    assert whole.chunks == ((1, 1, 1), (2,), (12,), (12,))
    for chunks, expected in [
        (8, ((1, 1, 1), (2,), (8, 4), (8, 4))),
        ((6, 12), ((1, 1, 1), (2,), (6, 6), (12,))),
        ((2, 1, 12, 5), ((2, 1), (1, 1), (12,), (5, 5, 2))),
        ({"time": -1, "x": 4}, ((3,), (2,), (12,), (4, 4, 4))),
    ]:
        cube = xh.open_stac(items, engine=engine, resolution=20, chunks=chunks, qa=True)
        assert cube.reflectance.chunks == expected
        xr.testing.assert_equal(cube.reflectance.compute(), whole.compute())
    with pytest.raises(xh.CatalogError, match="chunks="):
        xh.open_stac(items, chunks={"row": 3})


def test_wrong_arguments(tmp_path):
    item = sentinel2(tmp_path)
    with pytest.raises(xh.CatalogError, match="engine='gdal'"):
        xh.open_stac(item, engine="gdal")
    with pytest.raises(xh.CatalogError, match="on_error='ignore'"):
        xh.open_stac(item, on_error="ignore")
    with pytest.raises(xh.BandError, match="no band 'pan'"):
        xh.open_stac(item, bands=["red", "pan"])
    with pytest.raises(xh.EmptyQueryError):
        xh.open_stac([item], datetime="1999")
    with pytest.raises(xh.GridError, match="like="):
        xh.open_stac(item, like=GeoBox.from_bbox((0, 0, 1, 1), 4326, resolution=0.1), crs=4326)


def test_an_unreadable_asset_is_named_or_skipped_and_flagged(tmp_path, engine):
    items = [sentinel2(tmp_path, "good"), sentinel2(tmp_path, "bad", "2022-06-03T10:50:00Z")]
    Path(items[1]["assets"]["red"]["href"]).write_bytes(b"not a tiff")
    cube = xh.open_stac(items, engine=engine)
    with pytest.raises(xh.AssetReadError, match="asset 'red' of item 'bad'"):
        cube.compute()
    skipped = xh.open_stac(items, engine=engine, on_error="skip", qa=True).compute()
    is_skipped = skipped.qa & int(xh.Flag.SKIPPED) != 0
    assert not is_skipped[0].any()
    assert is_skipped[1].all()
    assert np.isnan(skipped.reflectance.sel(band="red")[1]).all()
    assert np.isfinite(skipped.reflectance.sel(band="swir16")[1]).all()
    encoded = xh.open_stac(items, engine=engine, on_error="skip", decode=False)
    assert encoded.dtype == "uint16"


def test_an_unreadable_quality_layer_is_not_clear(tmp_path, engine):
    item = sentinel2(tmp_path)
    Path(item["assets"]["scl"]["href"]).write_bytes(b"not a tiff")
    cube = xh.open_stac(item, engine=engine, on_error="skip", qa=True).compute()
    assert np.isnan(cube.reflectance).all()
    assert (cube.qa & int(xh.Flag.SKIPPED)).all()


@pytest.mark.parametrize("kind", ENGINES)
def test_works_in_other_processes_and_errors_come_back(tmp_path, kind):
    distributed = pytest.importorskip("distributed")
    items = [sentinel2(tmp_path, "good"), sentinel2(tmp_path, "bad", "2022-06-03T10:50:00Z")]
    Path(items[1]["assets"]["red"]["href"]).write_bytes(b"not a tiff")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
    ):
        good = xh.open_stac(items[0], engine=kind).compute()
        with pytest.raises(xh.AssetReadError, match="asset 'red' of item 'bad'"):
            xh.open_stac(items, engine=kind).compute()
    xr.testing.assert_identical(good, xh.open_stac(items[0], engine=kind).compute())


def test_the_benchmark_of_loading_runs(tmp_path):
    import importlib.util

    path = Path(__file__).parents[2] / "benchmarks" / "loading.py"
    spec = importlib.util.spec_from_file_location("benchmark_loading", path)
    loading = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loading)
    (tmp_path / "warm-up").mkdir()
    loading.write_items(tmp_path / "warm-up", n_dates=1, size=64)
    items = loading.write_items(tmp_path, n_dates=2, size=64)
    for case in loading.CASES:
        assert loading.run_case(case, items)["seconds"] > 0
    suite = loading.Loading()
    assert suite.params == loading.CASES
    found, bare = loading._ours(items, "stackstac"), loading._bare_stackstac(items)
    expected = (bare[:, :-1].values - 1000.0) / 1e4
    is_clear = np.broadcast_to(bare[:, -1:] == 4, expected.shape)
    np.testing.assert_allclose(found.values[is_clear], expected[is_clear], atol=1e-7)
    assert np.isnan(found.values[~is_clear]).all()


def test_items_bring_their_angles(data):
    """Angles travel to the series, NaN for dates whose items have none."""
    catalog = data / "flanders-2018" / "catalog.json"
    s2 = xh.open_stac(catalog, collection="sentinel-2-l2a", datetime="2018-06-30")
    assert s2["view_zenith"].attrs["units"] == "degree"
    np.testing.assert_allclose(s2["sun_zenith"], 29, atol=2)
    l8 = xh.open_stac(catalog, collection="landsat-8-c1-sr", datetime="2018-07-01")
    like = s2.harmonize.to_landsat(like=l8, platform="sentinel-2b")
    series = l8.harmonize.densify(like)
    assert list(np.isfinite(series["view_zenith"].values)) == [True, False]
    with pytest.warns(xh.RadiometryWarning, match="per item"):
        assert set(s2.harmonize.nbar()["level"].values) == {"NBAR"}
