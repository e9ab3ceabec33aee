"""open_stac: what quality layers remove and keep."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from helpers.items import ENGINES, landsat, sentinel2, write

import xharmonize as xh


@pytest.fixture(params=ENGINES)
def engine(request) -> str:
    return request.param


def test_masks_and_the_quality_layer(tmp_path, engine):
    items = [sentinel2(tmp_path, scl=9), landsat(tmp_path, qa=21824 | 16)]
    s2 = xh.open_stac(items[0], engine=engine, qa=True)
    assert set(s2.data_vars) == {"reflectance", "qa"}
    assert np.isnan(s2.reflectance).all()
    assert (s2.qa == int(xh.sensors.Flag.CLOUD)).all()
    assert len(s2.qa.attrs["flag_masks"])
    kept = xh.open_stac(items[0], engine=engine, mask=["cloud_shadow"])
    assert np.isfinite(kept).all()
    shadow = xh.open_stac(items[1], engine=engine, qa=True, mask=None)
    assert np.isfinite(shadow.reflectance).all()
    assert (shadow.qa.values & int(xh.sensors.Flag.CLOUD_SHADOW)).all()


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
    with pytest.raises(
        xh.errors.MaskError, match="sentinel-1-grd has no quality layer that tells cloud"
    ):
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
    assert int(cube.qa[0, 0]) & int(xh.sensors.Flag.CLOUD)
    assert not int(cube.qa[0, 1]) & int(xh.sensors.Flag.CLOUD)
    # 32 of 36 pixels are clear: their mean, columns 2 to 5 for the cloudy rows
    expected = np.mean([1000 + c for r in range(6) for c in range(6) if r > 1 or c > 1]) / 1e4
    np.testing.assert_allclose(cube.reflectance.sel(band="red")[0, 0], expected, atol=1e-7)


def test_no_quality_layer_is_an_error_that_names_the_item(tmp_path):
    item = sentinel2(tmp_path)
    del item["assets"]["scl"]
    with pytest.raises(xh.errors.MaskError, match=r"item 's2'.*'scl'.*mask=None"):
        xh.open_stac(item)
    cube = xh.open_stac(item, mask=None, qa=True)
    assert (cube.qa == 0).all()
    with pytest.raises(xh.errors.MaskError, match=r"'qa_radsat'.*without the flags it sets"):
        xh.open_stac(landsat(tmp_path), mask=("clear", "saturated"))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"chunks": 0}, xh.errors.CatalogError, "chunks=0 holds no number of pixels"),
        ({"chunks": {"x": -7}}, xh.errors.CatalogError, "give one above 0, or -1"),
        ({"crs": "EPSG:999999"}, xh.errors.GridError, "'EPSG:999999' names no CRS"),
        ({"resolution": "10"}, xh.errors.GridError, "resolution='10' is not a pixel size"),
        ({"resolution": 10, "crs": 4326}, xh.errors.GridError, "resolution=10 would be degrees in"),
        ({"mask": False}, xh.errors.MaskError, "mask=False names no flags; .* or None"),
        ({"bbox": "3,50,4,51"}, xh.errors.GridError, "bbox='3,50,4,51' is not four finite numbers"),
        ({"like": "l8"}, xh.errors.GridError, "like= is a str; give a cube or a GeoBox"),
        ({"bands": []}, xh.errors.BandError, r"bands=\[\] is empty"),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        xh.open_stac(sentinel2(tmp_path), **options)
