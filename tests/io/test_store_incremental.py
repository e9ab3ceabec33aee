"""A series that grows run by run, whatever its values carry."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.cube.companions import Origin
from xharmonize.testing import example_cube

DATES = tuple(f"2018-07-{day:02d}T10:50" for day in range(1, 31, 3))
COMPANIONS = ("origin", "uncertainty", "flag")


@pytest.fixture(scope="module")
def dense() -> xr.Dataset:
    """A merged NDVI series of two sensors with origin, uncertainty and flag."""
    sentinel = example_cube(dates=DATES, chunks={"time": 3}).harmonize.to_landsat("hls-v2")
    landsat = example_cube("landsat-c2-l2", platform="landsat-8", dates=DATES[::3], seed=2)
    landsat = landsat.assign_coords(item_id=("time", [f"LC08-{i}" for i in range(4)]))
    landsat = landsat.assign_coords(time=landsat["time"] + np.timedelta64(20, "m"))
    noisy = xr.Dataset({"reflectance": sentinel, "uncertainty": sentinel * 0 + 0.01})
    return (
        landsat.sel(band=sentinel["band"].values).harmonize.densify(noisy).harmonize.index("ndvi")
    )


def runs(series: xr.Dataset, size: int = 5) -> list[xr.Dataset]:
    """Overlapping runs, as a weekly job with a margin of reprocessing makes them."""
    n = series.sizes["time"]
    return [series.isel(time=slice(max(0, i - 2), i + size)) for i in range(0, n, size)]


def test_runs_give_what_one_write_gives(dense, tmp_path):
    assert {"origin", "uncertainty", "flag"} <= set(dense)
    xh.to_zarr(dense, tmp_path / "whole.zarr")
    for run in runs(dense):
        run.harmonize.to_zarr(tmp_path / "grown.zarr", mode="upsert")
    whole, grown = (xh.open_series(tmp_path / f"{n}.zarr").compute() for n in ("whole", "grown"))
    xr.testing.assert_equal(grown, whole)
    for name in ("ndvi", *COMPANIONS):
        assert grown[name].dtype == dense[name].dtype, name
        assert grown[name].attrs == whole[name].attrs, name
    assert set(np.unique(grown["origin"])) <= {0, Origin.OBSERVED, Origin.HARMONISED}
    assert set(grown["sensor"].values) == {"sentinel-2-l2a", "landsat-c2-l2"}


def test_a_smoothed_and_filled_series_grows_too(dense, tmp_path):
    smooth = dense.harmonize.smooth("whittaker")
    path = tmp_path / "smooth.zarr"
    for run in runs(smooth):
        run.harmonize.to_zarr(path, mode="upsert")
    back = xh.open_series(path)
    xr.testing.assert_equal(back.compute(), smooth.compute())
    assert bool((back["origin"] & Origin.FILLED).any())


def test_a_later_run_replaces_what_a_better_smooth_changed(dense, tmp_path):
    """The end of a smoothed series moves as dates come in: its entries are written again."""
    path = tmp_path / "smooth.zarr"
    early = dense.isel(time=slice(0, 9)).harmonize.smooth("whittaker")
    early.harmonize.to_zarr(path)
    late = dense.harmonize.smooth("whittaker")
    assert float(abs(late["ndvi"].isel(time=8) - early["ndvi"].isel(time=8)).max()) > 0
    late.harmonize.to_zarr(path, mode="upsert")
    xr.testing.assert_equal(xh.open_series(path).compute(), late.compute())


def test_regular_dates_of_a_smoothed_series_are_entries_of_their_own(dense, tmp_path):
    daily = dense.harmonize.smooth("whittaker", step="5D")
    path = tmp_path / "regular.zarr"
    for run in runs(daily, size=3):
        run.harmonize.to_zarr(path, mode="upsert")
    back = xh.open_series(path).compute()
    xr.testing.assert_equal(back, daily.compute())
    assert back.sizes["time"] == daily.sizes["time"]
