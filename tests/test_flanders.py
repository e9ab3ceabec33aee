"""The main job on real observations: STAC to cube to Landsat-like to dense NDVI."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401  (registers .rio)
import xarray as xr

import xharmonize as xh

pytestmark = pytest.mark.real_data
BANDS = ["blue", "green", "red", "nir08", "swir16", "swir22"]


@pytest.fixture(scope="module")
def catalog(data: Path) -> Path:
    return data / "flanders-2018" / "catalog.json"


@pytest.fixture(scope="module")
def sentinel2(catalog: Path) -> xr.DataArray:
    return xh.open_stac(catalog, collection="sentinel-2-l2a", datetime="2018-06/2018-10")


@pytest.fixture(scope="module")
def landsat(catalog: Path) -> xr.DataArray:
    return xh.open_stac(
        catalog, collection="landsat-8-c1-sr", datetime="2018-06/2018-10", mosaic="solar_day"
    )


def test_grids_are_those_of_the_files(sentinel2: xr.DataArray, landsat: xr.DataArray) -> None:
    assert (sentinel2.sizes["y"], sentinel2.sizes["x"]) == (64, 64)
    assert set(np.diff(sentinel2.x)) == {10.0}
    assert set(np.diff(landsat.x)) == {30.0}
    assert float(landsat.x[0]) == 501390.0
    assert float(landsat.y[0]) == 5629650.0


def test_one_date_agrees_with_a_calculation_by_hand(catalog: Path) -> None:
    """DN, to reflectance, to HLS v2 for Sentinel-2A, to NDVI: by hand and through the package."""
    cube = xh.open_stac(catalog, collection="sentinel-2-l2a", datetime="2018-06-30")
    ndvi = cube.harmonize.to_landsat("hls-v2", platform="sentinel-2a").harmonize.index("ndvi")
    folder = catalog.parent / "sentinel-2-l2a" / str(cube["item_id"].values[0])
    with rasterio.open(folder / "red.tif") as file:
        red_dn = file.read(1).astype("float64")
    with rasterio.open(folder / "nir08.tif") as file:
        nir_dn = np.kron(file.read(1), np.ones((2, 2))).astype("float64")
    red = 0.9765 * (red_dn * 1e-4) + 0.0009
    nir = 0.9983 * (nir_dn * 1e-4) - 0.0001
    by_hand = (nir - red) / (nir + red)
    actual = ndvi.isel(time=0).values
    valid = np.isfinite(actual)
    assert valid.mean() > 0.5
    np.testing.assert_allclose(actual[valid], by_hand[valid], atol=1e-6)


def test_the_dense_series_holds_both_sensors(
    sentinel2: xr.DataArray, landsat: xr.DataArray, tmp_path: Path, no_compute
) -> None:
    cube = sentinel2.sel(band=BANDS)
    with no_compute():
        with pytest.warns(xh.errors.RadiometryWarning, match="mean of the Sentinel-2A and 2B"):
            like = cube.harmonize.to_landsat("hls-v2", like=landsat, platform="sentinel-2")
        series = landsat.harmonize.densify(like)
        ndvi = series.harmonize.index("ndvi")
    ndvi.harmonize.to_zarr(tmp_path / "ndvi.zarr")
    stored = xh.open_series(tmp_path / "ndvi.zarr")
    assert stored.sizes["time"] == sentinel2.sizes["time"] + landsat.sizes["time"]
    assert stored.rio.crs.to_epsg() == 32631
    plain = xr.open_zarr(tmp_path / "ndvi.zarr", decode_coords="all")
    assert plain.rio.transform() == landsat.rio.transform()
    assert {1, 2} <= set(np.unique(stored["origin"]))
