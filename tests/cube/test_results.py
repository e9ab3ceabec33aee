"""Results are cubes too: seasons, fits and counts are written with every variable."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr

import xharmonize as xh
from xharmonize.testing import example_cube, no_compute


@pytest.fixture(scope="module")
def ndvi() -> xr.DataArray:
    """A season of two years on 12 x 12 pixels, five days apart; the last column has none."""
    dates = pd.date_range("2018-01-02T10:50", "2019-12-28", freq="5D")
    cube = example_cube(dates=[str(d) for d in dates], shape=(12, 12), missing=0.0)
    values = cube.harmonize.index("ndvi")
    late = xr.DataArray(np.arange(12.0), dims="x", coords={"x": values["x"]})
    day = values["time"].dt.dayofyear - late
    course = 0.2 + 0.5 * np.exp(-(((day - 190) / 40) ** 2))
    course[:, -1] = 0.2
    course = course.broadcast_like(values).transpose(*values.dims)
    return values.copy(data=course.astype("float32").data)


@pytest.fixture(scope="module")
def seasons(ndvi) -> xr.Dataset:
    return xh.series.phenology(ndvi)


@pytest.fixture(scope="module")
def fit() -> xr.Dataset:
    cube = example_cube(bands=["red", "nir08"], dates=[f"2018-07-{d:02}" for d in range(1, 28, 2)])
    return xh.fit_pixelwise(xh.match_pairs(cube, cube))


def test_a_store_keeps_every_variable(seasons, fit, tmp_path):
    for name, result in {"seasons": seasons, "fit": fit}.items():
        path = xh.to_zarr(result, tmp_path / f"{name}.zarr")
        back = xh.open_series(path)
        xr.testing.assert_equal(back.compute(), result.compute())
        assert list(back.data_vars) == list(result.data_vars)
        assert back.rio.crs.to_epsg() == 32631
        assert {str(n): v.dtype for n, v in back.data_vars.items()} == {
            str(n): v.dtype for n, v in result.data_vars.items()
        }
    plain = xr.open_zarr(tmp_path / "seasons.zarr", decode_coords="all", consolidated=False)
    assert plain["start"].dtype.kind == "M"
    assert np.isnat(plain["start"].values).any()
    assert xh.open_series(xh.to_zarr(seasons["length"], tmp_path / "l.zarr")).name == "length"


def test_lazy_results_are_written_in_uneven_chunks(ndvi, seasons, tmp_path):
    with no_compute():
        lazy = xh.series.phenology(ndvi.chunk({"y": 5, "x": 7}))
    before = {name: array.attrs.copy() for name, array in lazy.variables.items()}
    back = xh.open_series(xh.to_zarr(lazy, tmp_path / "s.zarr"))
    xr.testing.assert_equal(back.compute(), seasons)
    assert {name: array.attrs for name, array in lazy.variables.items()} == before


def test_a_store_of_a_result_is_no_series(ndvi, seasons, tmp_path):
    path = xh.to_zarr(seasons, tmp_path / "s.zarr")
    with pytest.raises(xh.errors.StoreError, match="no dates to add"):
        xh.to_zarr(seasons, path, mode="upsert")
    with pytest.raises(xh.errors.StoreError):
        xh.to_zarr(ndvi, path, mode="upsert")
    xh.to_zarr(seasons.isel(year=[0]), path, mode="w")
    assert xh.open_series(path).sizes["year"] == 1
    series = xh.to_zarr(ndvi, tmp_path / "n.zarr")
    with pytest.raises(xh.errors.StoreError, match="holds no result"):
        xh.to_zarr(seasons, series, mode="w")
    assert xh.open_series(series).sizes == ndvi.sizes
    with pytest.raises(xh.errors.GridError, match="dimensions y and x"):
        xh.to_cogs(seasons.mean(["y", "x"]), tmp_path / "c")


def test_cogs_hold_every_variable_of_every_year(seasons, tmp_path):
    catalog = xh.to_cogs(seasons, tmp_path / "seasons")
    items = sorted(catalog.parent.glob("seasons/*/*.json"))
    assert [item.stem for item in items] == ["seasons_year-2018", "seasons_year-2019"]
    document = json.loads(items[1].read_text())
    assert set(document["assets"]) == set(seasons.data_vars)
    assert document["properties"]["datetime"].startswith("2019-01-01")
    for name in ("start", "length"):
        with rasterio.open(items[1].parent / f"{items[1].stem}_{name}.tif") as file:
            pixels, unit = file.read(1), file.units[0]
        own = seasons[name].sel(year=2019).values
        if name == "start":
            assert unit == "days since 1970-01-01"
            known = ~np.isnat(own)
            own = own.astype("datetime64[D]").astype(float)
            own[~known] = np.nan
        np.testing.assert_array_equal(pixels, own)
        assert np.isnan(pixels[:, -1]).all()
    back = xh.open_cogs(catalog)
    assert set(back.data_vars) == set(seasons.data_vars)
    with pytest.raises(xh.errors.StoreError, match="int16"):
        xh.to_cogs(seasons, tmp_path / "i", dtype="int16")


def test_cogs_of_a_fit_have_bands(fit, tmp_path):
    catalog = xh.to_cogs(fit, tmp_path / "fit")
    names = {path.name for path in catalog.parent.rglob("*.tif")}
    assert {"fit_slope_red.tif", "fit_intercept_nir08.tif", "fit_n_red.tif"} <= names
    only = xh.to_cogs(fit[["n"]], tmp_path / "n")
    assert {path.name for path in only.parent.rglob("*.tif")} == {"n_red.tif", "n_nir08.tif"}
