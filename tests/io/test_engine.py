"""Stores by ``xr.open_dataset``: the same cube as by `open_series`, lazily."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.errors import StoreError
from xharmonize.io.zarr.engine import HarmonizeBackend
from xharmonize.testing import example_cube, no_compute

ENGINE = HarmonizeBackend  # by its class: where the package is not installed, it has no name


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("engine") / "s2.zarr"
    cube = example_cube().isel(time=[2, 0, 1])  # written in another order than that of the dates
    xh.to_zarr(cube, path)
    return path


def test_a_store_opens_as_by_open_series(store):
    found = xr.open_dataset(store, engine=ENGINE)
    expected = xh.open_series(store).to_dataset()
    assert found["reflectance"].chunks is None
    xr.testing.assert_identical(found.load(), expected.compute())
    assert found["time"].to_index().is_monotonic_increasing
    assert found["reflectance"].harmonize.to_landsat("hls-v2").sizes == expected.sizes


def test_pixels_are_read_when_they_are_indexed(store):
    with no_compute():
        whole = xr.open_dataset(store, engine=ENGINE)
        part = whole["reflectance"].isel(time=1, y=slice(2, 9, 3), x=[0, 4])
        lazy = xr.open_dataset(store, engine=ENGINE, chunks={})
    expected = xh.open_series(store)
    np.testing.assert_array_equal(part, expected.isel(time=1, y=slice(2, 9, 3), x=[0, 4]))
    assert lazy["reflectance"].chunks == expected.chunks
    np.testing.assert_array_equal(lazy["reflectance"], expected)


def test_variables_can_be_left_out(store):
    assert "reflectance" not in xr.open_dataset(store, engine=ENGINE, drop_variables="reflectance")


def test_a_result_opens_too(tmp_path):
    series = example_cube(bands=("red", "nir08")).harmonize.index("ndvi")
    mean = series.mean("time", keep_attrs=True).drop_vars("band", errors="ignore")
    xh.to_zarr(mean, tmp_path / "mean.zarr")
    found = xr.open_dataset(tmp_path / "mean.zarr", engine=ENGINE)
    np.testing.assert_array_equal(found["ndvi"], mean)


def test_only_stores_of_this_package_are_claimed(store, tmp_path):
    engine = HarmonizeBackend()
    xr.Dataset({"a": ("x", [1.0])}).to_zarr(tmp_path / "plain.zarr", consolidated=False)
    assert engine.guess_can_open(store)
    assert not engine.guess_can_open(tmp_path / "plain.zarr")
    assert not engine.guess_can_open(tmp_path / "none.nc")
    assert not engine.guess_can_open(b"CDF")
    with pytest.raises(StoreError, match="not a store written by xharmonize"):
        xr.open_dataset(tmp_path / "plain.zarr", engine=ENGINE)
