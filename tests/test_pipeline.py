"""From two cubes to a dense NDVI: the same however it is cut and whoever computes it."""

from __future__ import annotations

import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xharmonize as xh
from xharmonize import testing

BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")
LANDSAT_GRID = {"resolution": 30.0, "origin": (501375.0, 5629665.0)}


@pytest.fixture(scope="module")
def sentinel2() -> xr.DataArray:
    return testing.example_cube(
        platform=["sentinel-2a", "sentinel-2b", "sentinel-2c"], bands=BANDS, shape=(60, 57)
    )


@pytest.fixture(scope="module")
def landsat() -> xr.DataArray:
    return testing.example_cube(
        "landsat-c2-l2",
        platform=["landsat-8", "landsat-9"],
        bands=BANDS,
        dates=("2018-07-02T10:40", "2018-07-10T10:40"),
        shape=(17, 16),
        seed=1,
        **LANDSAT_GRID,
    )


def dense_ndvi(sentinel2: xr.DataArray, landsat: xr.DataArray) -> xr.Dataset:
    like = sentinel2.harmonize.to_landsat("hls-v2", like=landsat)
    return landsat.harmonize.densify(like).harmonize.index("ndvi")


def assert_same(actual: xr.Dataset, expected: xr.Dataset) -> None:
    assert set(actual.data_vars) == set(expected.data_vars)
    xr.testing.assert_identical(actual.drop_attrs(deep=False), expected.drop_attrs(deep=False))


def test_the_series_is_what_it_says(sentinel2: xr.DataArray, landsat: xr.DataArray) -> None:
    series = dense_ndvi(sentinel2, landsat)
    assert list(series.time.values) == sorted([*sentinel2.time.values, *landsat.time.values])
    assert list(series["platform"].values) == [
        "sentinel-2a",
        "landsat-8",
        "sentinel-2b",
        "landsat-9",
        "sentinel-2c",
    ]
    assert set(series["bandpass"].values) == {"oli"}
    observed = series["ndvi"].sel(time=landsat.time)
    direct = landsat.harmonize.index("ndvi")
    xr.testing.assert_allclose(observed.reset_coords(drop=True), direct.reset_coords(drop=True))


@pytest.fixture(scope="module")
def expected(sentinel2: xr.DataArray, landsat: xr.DataArray) -> xr.Dataset:
    return dense_ndvi(sentinel2, landsat).compute()


sizes = st.integers(min_value=19, max_value=60)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(time=st.integers(1, 3), band=st.sampled_from([1, 4, 6]), y=sizes, x=sizes)
def test_chunks_do_not_matter(
    sentinel2: xr.DataArray,
    landsat: xr.DataArray,
    expected: xr.Dataset,
    time: int,
    band: int,
    y: int,
    x: int,
) -> None:
    chunks = {"time": time, "band": band, "y": y, "x": x}
    with testing.no_compute():
        lazy = dense_ndvi(sentinel2.chunk(chunks), landsat.chunk({"y": 5, "x": 7}))
    testing.assert_lazy(lazy)
    assert_same(lazy.compute(scheduler="synchronous"), expected)


@pytest.mark.parametrize("scheduler", ["threads", "distributed"])
def test_schedulers_do_not_matter(
    sentinel2: xr.DataArray,
    landsat: xr.DataArray,
    expected: xr.Dataset,
    scheduler: str,
    request: pytest.FixtureRequest,
) -> None:
    lazy = dense_ndvi(sentinel2.chunk(time=1, y=25, x=20), landsat.chunk(y=6))
    # Not client.compute(lazy): distributed 2026.7.1 loses keys when one variable of a Dataset
    # depends on another, with plain xarray too.
    which = request.getfixturevalue("client") if scheduler == "distributed" else scheduler
    assert_same(lazy.compute(scheduler=which), expected)


def test_units_crs_and_history_survive(sentinel2: xr.DataArray, landsat: xr.DataArray) -> None:
    like = sentinel2.harmonize.to_landsat("hls-v2", like=landsat)
    assert like.attrs["units"] == "1"
    assert like.rio.crs == landsat.rio.crs
    assert like.rio.transform() == landsat.rio.transform()
    steps = dense_ndvi(sentinel2, landsat)["ndvi"].attrs["history"]
    for word in ("hls-v2", "regrid", "densify", "ndvi"):
        assert word in steps, f"{word} is not in history: {steps}"


def test_the_input_is_left_alone(sentinel2: xr.DataArray, landsat: xr.DataArray) -> None:
    before = sentinel2.copy(deep=True), landsat.copy(deep=True)
    dense_ndvi(sentinel2, landsat)
    xr.testing.assert_identical(sentinel2, before[0])
    xr.testing.assert_identical(landsat, before[1])


def test_encoded_cubes_lead_to_the_same() -> None:
    encoded = testing.example_cube(is_decoded=False, platform="sentinel-2b", bands=BANDS)
    through_reflectance = xh.decode(encoded).harmonize.to_landsat("hls-v2")
    direct = encoded.harmonize.to_landsat("hls-v2")
    xr.testing.assert_allclose(direct, through_reflectance, atol=1e-6)
