"""Published tables applied to cubes: per platform, lazily, and only where they hold."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xharmonize as xh
from xharmonize.io.stac.settle import ANGLES
from xharmonize.testing import assert_chunk_invariant, assert_lazy, example_cube

PLATFORMS = ["sentinel-2a", "sentinel-2b", "sentinel-2c"]
SWIR22 = {"sentinel-2a": (1.0030, -0.0012), "sentinel-2b": (0.9867, 0.0004)}
SWIR22["sentinel-2c"] = (0.9910, 0.0004)
CHUNKINGS = [{"time": 1, "band": 2, "y": 7, "x": 30}, {"time": -1, "band": -1, "y": 5, "x": 4}]


def _mixed() -> xr.DataArray:
    """Two Sentinel-2 dates with a Landsat date between them, in one cube."""
    sentinel = example_cube(dates=("2018-07-01", "2018-07-06"), platform=["sentinel-2a"] * 2)
    landsat = example_cube("landsat-c2-l2", platform="landsat-8", dates=("2018-07-03",))
    return xr.concat([sentinel, landsat], "time").sortby("time")


def test_lines_are_picked_per_time_step():
    cube = example_cube(platform=PLATFORMS)
    result = xh.to_landsat(cube)
    for i, platform in enumerate(PLATFORMS):
        slope, offset = SWIR22[platform]
        expected = cube.sel(band="swir22")[i].values.astype(float) * slope + offset
        np.testing.assert_allclose(result.sel(band="swir22")[i].values, expected, atol=1e-7)


def test_contract_units_crs_and_history_are_kept(cube):
    result = cube.harmonize.to_landsat("hls-v2")
    assert set(result["bandpass"].values) == {"oli"}
    assert set(result["platform"].values) == {"sentinel-2a"}
    assert set(result["level"].values) == {"SR"}
    assert (result.dims, result.dtype, result.chunks) == (cube.dims, cube.dtype, cube.chunks)
    assert result.attrs["units"] == "1"
    assert result.rio.crs == cube.rio.crs
    last = result.attrs["history"].splitlines()[-1]
    assert "hls-v2" in last
    assert "on SR reflectance" in last
    assert "10.1016/j.rse.2018.09.002" in last


def test_nothing_is_computed_and_tasks_are_named(no_compute):
    cube = example_cube(chunks={"time": 1, "y": 10, "x": 11})
    with no_compute():
        result = xh.to_landsat(cube)
    assert_lazy(result)
    assert any(str(key).startswith("harmonize-linear-") for key in result.data.dask.layers)


@pytest.mark.parametrize("is_decoded", [True, False])
def test_chunks_do_not_matter(is_decoded):
    cube = example_cube(platform=PLATFORMS, is_decoded=is_decoded)
    assert_chunk_invariant(xh.to_landsat, cube, chunkings=CHUNKINGS)


@settings(max_examples=8, deadline=None)
@given(time=st.integers(1, 3), band=st.integers(1, 6), y=st.integers(1, 24), x=st.integers(5, 30))
def test_no_chunks_matter(time, band, y, x):
    cube = _mixed()
    assert_chunk_invariant(
        xh.to_landsat, cube, chunkings=[{"time": time, "band": band, "y": y, "x": x}]
    )


def test_encoded_cubes_collapse_decoding_and_line_into_one_pass():
    encoded = example_cube(is_decoded=False, platform=PLATFORMS, chunks={"time": 1})
    result = xh.to_landsat(encoded)
    assert not any("decode" in str(name) for name in result.data.dask.layers)
    assert bool(result["is_decoded"].all())
    xr.testing.assert_allclose(result, xh.to_landsat(xh.decode(encoded)), atol=1e-7)


def test_steps_of_the_target_pass_through_unchanged():
    cube = _mixed()
    result = xh.to_landsat(cube)
    np.testing.assert_array_equal(result[1].values, cube[1].values)
    assert not np.allclose(result[0].values, cube[0].values, equal_nan=True)
    assert set(result["bandpass"].values) == {"oli"}


def test_applying_twice_changes_nothing_more():
    once = xh.to_landsat(example_cube())
    xr.testing.assert_identical(xh.to_landsat(once), once)


def test_inverse_brings_back_what_was(cube):
    there = xh.to_landsat(cube)
    back = xh.to_sentinel2(there, "hls-v2", platform="sentinel-2a")
    np.testing.assert_allclose(back.values, cube.values, atol=2e-7)
    assert set(back["bandpass"].values) == {"msi"}
    other = xh.to_sentinel2(there, platform="sentinel-2b")
    assert float(abs(other - back).max()) > 1e-4


@pytest.mark.parametrize("platform", ["sentinel2b", "infer", {"2018-07-01": "sentinel-2b"}])
def test_what_names_no_target_platform_is_refused(platform):
    with pytest.raises(xh.errors.RadiometryError, match="whose bandpass is wanted; choose one of"):
        xh.to_sentinel2(xh.to_landsat(example_cube()), platform=platform)


def test_integers_that_claim_to_be_reflectance_and_unknown_scales_are_refused():
    encoded = example_cube(is_decoded=False)
    shape = encoded.shape[:2]
    claimed = encoded.assign_coords(is_decoded=(("time", "band"), np.ones(shape, bool)))
    with pytest.raises(xh.errors.RadiometryError, match=r"integers.*says that they are decoded"):
        xh.to_landsat(claimed)
    unknown = encoded.assign_coords(scale=(("time", "band"), np.full(shape, np.nan)))
    with pytest.raises(
        xh.errors.RadiometryError, match="scale of band 'blue' of item 'sentinel-2a-0'"
    ):
        xh.to_landsat(unknown)


def test_platform_of_to_sentinel2_names_the_target_only():
    there = xh.to_landsat(example_cube())
    with pytest.warns(xh.errors.RadiometryWarning, match="mean of the Sentinel-2A and 2B"):
        mean = xh.to_sentinel2(there, platform="sentinel-2")
    a, b = (xh.to_sentinel2(there, platform=p) for p in ("sentinel-2a", "sentinel-2b"))
    xr.testing.assert_allclose(mean, (a + b).copy(data=(a.data + b.data) / 2), atol=1e-6)
    unchanged = xh.to_sentinel2(example_cube(), lambda cube: cube, platform="sentinel-2b")
    assert set(unchanged["platform"].values) == {"sentinel-2a"}


def test_unknown_platform_names_the_item_and_the_argument():
    cube = example_cube(platform="unknown")
    with pytest.raises(xh.errors.RadiometryError, match=r"item 'unknown-0'.*platform="):
        xh.to_landsat(cube)
    settled = xh.to_landsat(cube, platform="sentinel-2b")
    np.testing.assert_array_equal(
        settled.values, xh.to_landsat(example_cube(platform="sentinel-2b")).values
    )


def test_mean_platform_warns_and_adds_half_the_difference_to_the_uncertainty():
    cube = example_cube(platform="unknown")
    dataset = cube.to_dataset(name="reflectance").assign(
        uncertainty=xr.full_like(cube, 0.01).drop_attrs()
    )
    with pytest.warns(xh.errors.RadiometryWarning, match="mean of the Sentinel-2A and 2B"):
        result = xh.to_landsat(dataset, platform="sentinel-2")
    a, b = (xh.to_landsat(example_cube(platform=p)).values for p in ("sentinel-2a", "sentinel-2b"))
    np.testing.assert_allclose(result.reflectance.values, (a + b) / 2, atol=1e-6)
    slopes = np.array([0.9778, 1.0064, 0.9763, 0.99745, 0.99935, 0.99485])[:, None, None]
    expected = np.sqrt((slopes * 0.01) ** 2 + (np.abs(a - b) / 2) ** 2)
    np.testing.assert_allclose(result.uncertainty.values, expected, atol=1e-6)


def test_a_dataarray_stays_one_under_the_mean_platform():
    with pytest.warns(xh.errors.RadiometryWarning):
        result = xh.to_landsat(example_cube(platform="unknown"), platform="sentinel-2")
    assert isinstance(result, xr.DataArray)


def test_b08_is_not_b8a():
    with pytest.raises(xh.errors.BandError, match="B08"):
        xh.to_landsat(example_cube(bands=("blue", "green", "red", "nir")))


def test_bands_without_a_line_are_left_out_and_history_says_so():
    cube = example_cube(bands=("red", "rededge1", "nir", "nir08"))
    result = xh.to_landsat(cube)
    assert list(result["band"].values) == ["red", "nir08"]
    assert "left out rededge1, nir" in result.attrs["history"]


def test_no_band_with_a_line_is_an_error():
    with pytest.raises(xh.errors.BandError, match="has lines for"):
        xh.to_landsat(example_cube(bands=("rededge1", "rededge2")))


def test_toa_tables_refuse_surface_reflectance_and_sr_tables_refuse_toa():
    cube = example_cube()
    with pytest.raises(xh.errors.RadiometryError, match="was made for TOA reflectance"):
        xh.to_landsat(cube, "chastain-2019")
    toa = cube.assign_coords(level=("time", ["TOA"] * 3))
    with pytest.raises(xh.errors.RadiometryError, match=r"item 'sentinel-2a-0' is TOA"):
        xh.to_landsat(toa, "hls-v2")


def test_chastain_starts_from_b08_and_leads_to_nir08():
    cube = example_cube(bands=("red", "nir")).assign_coords(level=("time", ["TOA"] * 3))
    result = xh.to_landsat(cube, "chastain-2019")
    assert list(result["band"].values) == ["red", "nir08"]
    expected = (cube.sel(band="nir").values - 0.0033) / 0.8954
    np.testing.assert_allclose(result.sel(band="nir08").values, expected, atol=1e-6)


def test_roy_takes_etm_to_oli():
    cube = example_cube("landsat-c2-l2", platform="landsat-7", bands=("red", "nir08"))
    result = xh.to_landsat(cube, "roy-2016")
    expected = cube.sel(band="nir08").values * 0.8462 + 0.0412
    np.testing.assert_allclose(result.sel(band="nir08").values, expected, atol=1e-6)


def test_a_third_bandpass_is_refused():
    cube = example_cube("landsat-c2-l2", platform="landsat-7", bands=("red",))
    with pytest.raises(xh.errors.RadiometryError, match="is in etm"):
        xh.to_landsat(cube, "hls-v2")


def test_like_regrids_first_and_a_hole_spoils_the_whole_pixel():
    cube = example_cube(missing=0.0)
    cube = cube.where(~((cube.x == cube.x[4]) & (cube.y == cube.y[4])))
    target = example_cube("landsat-c2-l2", platform="landsat-8", resolution=30.0, shape=(8, 10))
    result = xh.to_landsat(cube, like=target)
    np.testing.assert_array_equal(result.x, target.x)
    assert np.isnan(result[0, 0].values).sum() == 1  # hls-v2: any missing sub-pixel
    coarse = cube.harmonize.regrid(like=target, min_valid=1.0)
    xr.testing.assert_allclose(result, xh.to_landsat(coarse))
    grid = xh.to_landsat(cube, resolution=30)
    assert grid.sizes["x"] == 10


def test_companions_are_carried():
    cube = example_cube(chunks={"time": 1})
    qa = xr.zeros_like(cube.isel(band=0, drop=True)).astype("uint16")
    dataset = cube.to_dataset(name="reflectance").assign(qa=qa)
    result = dataset.harmonize.to_landsat()
    assert isinstance(result, xr.Dataset)
    assert list(result.data_vars) == ["reflectance", "qa"]
    np.testing.assert_array_equal(result["qa"], qa)
    assert set(result["bandpass"].values) == {"oli"}


@pytest.mark.parametrize("dims", [("band",), ("time",), ("time", "y", "x"), ()])
def test_an_uncertainty_of_fewer_dimensions_is_spread(dims, cube):
    sigma = xr.full_like(cube, 0.01).compute()
    few = xr.DataArray(np.full([cube.sizes[d] for d in dims], 0.01, "float32"), dims=dims)
    angles = dict(zip(ANGLES, (40.0, 150.0, 7.0, 105.0)))
    angles = {
        name: (("time", "y", "x"), np.full(cube[:, 0].shape, v)) for name, v in angles.items()
    }
    angles = xr.Dataset(angles, coords={n: cube[n].values for n in ("time", "y", "x")})
    for step in (xh.to_landsat, xh.index, lambda c: xh.nbar(c, angles)):
        results = [
            step(cube.to_dataset(name="reflectance").assign(uncertainty=s))["uncertainty"]
            for s in (few, sigma)
        ]
        assert results[0].dims == results[1].dims
        assert (results[0].chunks is None) == (cube.chunks is None)
        np.testing.assert_allclose(results[0].values, results[1].values, rtol=1e-6)


def _with_origin(cube: xr.DataArray) -> xr.Dataset:
    origin, share = cube.notnull().astype("uint8"), xr.ones_like(cube)
    return cube.to_dataset(name="reflectance").assign(origin=origin, valid_fraction=share)


def test_observed_becomes_harmonised_where_a_step_changes():
    dataset = _with_origin(_mixed())
    result = xh.to_landsat(dataset.chunk({"time": 2, "band": 4}))
    assert_lazy(result)
    assert result["origin"].dtype == np.uint8
    expected = dataset["origin"] * xr.DataArray([2, 1, 2], dims="time")
    np.testing.assert_array_equal(result["origin"], expected)


def test_companions_follow_bands_that_change_their_names():
    toa = example_cube(bands=("red", "nir")).assign_coords(level=("time", ["TOA"] * 3))
    dataset = _with_origin(toa)
    result = xh.to_landsat(dataset, "chastain-2019")
    assert list(result["band"].values) == ["red", "nir08"]
    assert result["origin"].dtype == np.uint8
    np.testing.assert_array_equal(result["origin"].values, 2 * dataset["origin"].values)
    np.testing.assert_array_equal(result["valid_fraction"].values, 1)


def test_a_lost_contract_names_describe():
    with pytest.raises(xh.errors.ContractError, match=r"xh\.describe"):
        xh.to_landsat(example_cube().drop_vars("platform"))


def test_y_ascending_gives_the_same_pixels():
    cube = example_cube()
    flipped = xh.to_landsat(cube.isel(y=slice(None, None, -1)))
    xr.testing.assert_allclose(flipped.isel(y=slice(None, None, -1)), xh.to_landsat(cube))
