"""A fit for each season: as fits of its pairs alone, each applied to its own dates."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.errors import FitError
from xharmonize.testing import assert_chunk_invariant, example_cube, no_compute

DATES = ("2018-07-01", "2018-01-05", "2018-07-11", "2018-02-01", "2018-12-20")
WINTER = [1, 3, 4]  # dates of the cube
WINTER_PAIRS = [0, 1, 4]  # which are sorted by time


def cubes() -> tuple[xr.DataArray, xr.DataArray]:
    """Two sensors whose difference is another one in winter."""
    bands = ("red", "nir08")
    source = example_cube(bands=bands, dates=DATES)
    target = example_cube("landsat-c2-l2", platform="landsat-8", bands=bands, dates=DATES,
                          resolution=10.0)  # fmt: skip
    slope = xr.DataArray([1.1, 0.8, 1.1, 0.8, 0.8], dims="time")
    values = (source * slope + 0.01).transpose(*target.dims).values
    return source, target.copy(data=values.astype("float32"))


@pytest.mark.parametrize("method", ["ols", "multiband", "deming"])
def test_each_season_has_the_fit_of_its_pairs(method, tmp_path):
    source, target = cubes()
    pairs = xh.match_pairs(source, target, tolerance="1D")
    fit = xh.fit_linear(pairs, method=method, by="season")
    assert fit["season"].values.tolist() == ["DJF", "JJA"]
    alone = xh.fit_linear(pairs.isel(pair=WINTER_PAIRS), method=method)
    for name in ("slope", "matrix", "intercept", "rmse"):
        if name in alone:
            np.testing.assert_allclose(fit[name].sel(season="DJF"), alone[name], atol=1e-7)
    assert fit["n_of_pair"].dims == ("pair", "band")
    xh.harmonizers.save_model(fit, tmp_path / "fit.zarr")
    found = source.harmonize.to_landsat(tmp_path / "fit.zarr")
    np.testing.assert_allclose(found, target, atol=1e-4)
    whole = source.harmonize.to_landsat(xh.fit_linear(pairs, method=method))
    assert float(abs(whole - target).max()) > 0.01


def test_applying_is_lazy_and_chunk_invariant():
    source, target = cubes()
    fit = xh.fit_linear(xh.match_pairs(source, target, tolerance="1D"), by="season")
    with no_compute():
        source.chunk({"time": 1}).harmonize.to_landsat(fit)
    assert_chunk_invariant(
        lambda cube: cube.harmonize.to_landsat(fit), source, chunkings=[{"time": 2, "y": 7}]
    )
    mixed = xr.concat([source.isel(time=[0]), target.isel(time=[1])], "time")
    found = mixed.harmonize.to_landsat(fit)
    np.testing.assert_allclose(found, target.isel(time=[0, 1]), atol=1e-4)


def test_a_season_without_pairs_is_refused():
    source, target = cubes()
    pairs = xh.match_pairs(source, target, tolerance="1D")
    fit = xh.fit_linear(pairs.isel(pair=WINTER_PAIRS), by="season")
    with pytest.raises(FitError, match="no pairs of JJA"):
        source.harmonize.to_landsat(fit)
    assert source.isel(time=WINTER).harmonize.to_landsat(fit).sizes["time"] == 3
    with pytest.raises(FitError, match="of the 2 pairs of JJA"):
        xh.fit_linear(pairs, by="season", n_min=1500)
    with pytest.raises(FitError, match="'season' or None"):
        xh.fit_linear(pairs, by="month")
