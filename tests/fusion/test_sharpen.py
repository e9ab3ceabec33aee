"""Coarse dates on the grid of fine ones: what is kept, marked, chosen and left alone."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from helpers.sharpening import BANDS, coarse_cube, fine_cube
from hypothesis import given, settings
from scipy.ndimage import map_coordinates

import xharmonize as xh
from xharmonize import fusion
from xharmonize.testing import assert_invariant, assert_lazy, example_cube
from xharmonize.testing.strategies import chunkings


@pytest.fixture(scope="module")
def fine() -> xr.DataArray:
    return fine_cube()


@pytest.fixture(scope="module")
def coarse() -> xr.DataArray:
    return coarse_cube()


def test_the_result_has_the_grid_of_the_fine_cube_and_the_dates_of_the_coarse(coarse, fine):
    result = coarse.harmonize.sharpen(fine)
    for name in ("y", "x"):
        np.testing.assert_array_equal(result[name], fine[name])
    np.testing.assert_array_equal(result["time"], coarse["time"])
    assert result["reflectance"].dtype == np.float32
    assert result["sensor"].values.tolist() == ["landsat-c2-l2"] * 2
    assert result["bandpass"].values.tolist() == ["msi"] * 2
    assert result.rio.crs.to_epsg() == 32631
    assert result["reflectance"].attrs["history"].splitlines()[-1] == "sharpen: bilinear"


def test_bilinear_is_that_of_scipy(coarse, fine):
    result = xh.sharpen(coarse, fine, bandpass=None)["reflectance"].values
    row, column = np.mgrid[:48, :60] / 3 - 1 / 3
    expected = map_coordinates(coarse.values[0, 1], [row, column], order=1, mode="nearest")
    np.testing.assert_allclose(result[0, 1], expected, atol=1e-6)


def test_origin_says_sharpened_and_whether_the_bandpass_was_adjusted(coarse, fine):
    coarse = coarse.copy()
    coarse[0, :, 2, 3] = np.nan
    plain, adjusted = (xh.sharpen(coarse, fine, bandpass=b) for b in (None, "published"))
    assert set(np.unique(plain["origin"])) == {0, 8}
    assert set(np.unique(adjusted["origin"])) == {0, 10}
    assert not plain["origin"][0, :, 6:9, 9:12].any()
    assert np.isnan(plain["reflectance"][0, :, 6:9, 9:12]).all()
    assert "sharpened" in plain["origin"].attrs["flag_meanings"]


def test_the_bandpass_is_adjusted_on_the_coarse_pixels(coarse, fine):
    expected = xh.sharpen(xh.to_sentinel2(coarse), fine, bandpass=None)
    found = xh.sharpen(coarse, fine)
    np.testing.assert_array_equal(found["reflectance"], expected["reflectance"])
    fit = xh.fit_linear(xh.match_pairs(coarse, xh.regrid(fine, like=coarse)))
    fitted = xh.sharpen(coarse, fine, bandpass=fit)
    assert abs(fitted["reflectance"] - found["reflectance"]).max() > 1e-4


def test_companions_come_along(coarse, fine):
    qa = xr.full_like(coarse.isel(band=0, drop=True), 16, dtype="uint16").rename("qa")
    error = xr.full_like(coarse, 0.01)
    cube = coarse.to_dataset(name="reflectance").assign(qa=qa, uncertainty=error)
    result = xh.sharpen(cube, fine)
    assert (result["qa"] == 16).all()
    assert result["qa"].shape == (2, 48, 60)
    assert "uncertainty" not in result


def test_the_dense_series_of_both(coarse, fine, no_compute):
    with no_compute():
        series = xh.densify(fine.chunk(y=20), xh.sharpen(coarse.chunk(time=1), fine))
    assert series["sensor"].values.tolist() == ["sentinel-2-l2a", "landsat-c2-l2"] * 2
    assert [int(series["origin"][i, 0, 0, 0]) for i in range(4)] == [1, 10, 1, 10]
    assert np.isfinite(series.harmonize.index("ndvi")["ndvi"]).all()


def test_the_coarser_bands_of_one_cube(fine):
    own = fine.assign_coords(band=["blue", "red", "swir16"])
    blocks = own.isel(band=[2]).coarsen(y=2, x=2).mean().values.repeat(2, 2).repeat(2, 3)
    own.loc[{"band": "swir16"}] = blocks[:, 0]
    result = own.chunk(time=1, y=16).harmonize.sharpen()
    assert_lazy(result)
    found = result["reflectance"]
    assert found["band"].values.tolist() == ["blue", "red", "swir16"]
    np.testing.assert_array_equal(found[:, :2], own[:, :2])
    assert np.unique(result["origin"].sel(band="swir16")).tolist() == [8]
    assert np.unique(result["origin"].sel(band="red")).tolist() == [1]
    again = xh.sharpen(own, correct=True)["reflectance"].sel(band="swir16")
    seen = again.coarsen(y=2, x=2).mean()
    np.testing.assert_allclose(seen, blocks[:, 0, ::2, ::2], atol=1e-6)
    twenty = own.isel(band=[2], y=slice(0, None, 2), x=slice(0, None, 2))
    twenty = twenty.assign_coords(y=twenty.y - 5, x=twenty.x + 5)
    apart = xh.sharpen(twenty, own.isel(band=[0, 1]), bandpass=None)["reflectance"]
    np.testing.assert_allclose(apart[:, 0], found[:, 2], atol=1e-6)


def test_companions_of_one_cube_are_kept(fine):
    own = fine.assign_coords(band=["blue", "red", "swir16"])
    own[:, 2] = own[:, 2].coarsen(y=2, x=2).mean().values.repeat(2, 1).repeat(2, 2)
    qa = xr.full_like(own.isel(band=0, drop=True), 16, dtype="uint16")
    origin = xr.full_like(own, 2, dtype="uint8")
    flag = xr.full_like(qa, 32, dtype="uint8")
    cube = own.to_dataset(name="reflectance").assign(qa=qa, origin=origin, flag=flag)
    result = xh.sharpen(cube, consistency=1.0)
    assert (result["qa"] == 16).all()
    assert (result["flag"] == 32).all()
    assert [int(one) for one in result["origin"][0, :, 5, 5]] == [2, 2, 10]


def test_nothing_is_computed(coarse, fine, no_compute):
    lazy, near = coarse.chunk(time=1), fine.chunk(time=1, x=32)
    found = fusion.find_references(lazy, near)
    with no_compute():
        assert_lazy(xh.sharpen(lazy, near, correct=True))
        assert_lazy(xh.sharpen(lazy, near, references=found))


@pytest.mark.slow
@settings(max_examples=3, deadline=None)
@given(chunks=chunkings(coarse_cube()), fine_chunks=chunkings(fine_cube()))
def test_results_do_not_depend_on_chunks(chunks, fine_chunks):
    coarse, fine = coarse_cube(phase=-15.0), fine_cube()
    coarse[0, :, 3:5, 7] = np.nan

    def run(cube):
        return xh.sharpen(cube, fine.chunk(fine_chunks), correct=True)

    assert_invariant(run, coarse, chunkings=[chunks], tolerance=1e-6)


def test_encoded_cubes_are_decoded_and_arguments_are_left_alone(fine):
    coarse = example_cube(
        "landsat-c2-l2",
        platform="landsat-8",
        bands=BANDS,
        shape=(16, 20),
        resolution=30,
        is_decoded=False,
    )
    before = coarse.copy(deep=True)
    result = xh.sharpen(coarse, fine)
    expected = xh.sharpen(coarse.harmonize.decode(), fine)
    np.testing.assert_array_equal(result["reflectance"], expected["reflectance"])
    xr.testing.assert_identical(coarse, before)


def test_shifts_move_the_content_back(fine):
    coarse = coarse_cube()
    moved = coarse.assign_coords(x=coarse.x - 10)  # 10 m of grid: content lies 10 m too far west
    times = {"time": coarse.time.values}
    shift = xr.Dataset(
        {"shift_x": ("time", [-10.0, -10.0]), "shift_y": ("time", [0.0, 0.0])}, coords=times
    )
    expected = xh.sharpen(coarse, fine, bandpass=None)["reflectance"][..., 3:-3]
    found = xh.sharpen(moved, fine, bandpass=None, shifts=shift)["reflectance"][..., 3:-3]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_companions_move_with_the_content(fine):
    coarse = coarse_cube()
    moved = coarse.assign_coords(x=coarse.x - 30)  # content lies one pixel too far west
    marks = np.zeros((2, 16, 20), "uint16")
    marks[:, 5, 7] = 16
    qa = moved.isel(band=0, drop=True).copy(data=marks)
    shift = xr.Dataset(
        {"shift_x": ("time", [-30.0, -30.0]), "shift_y": ("time", [0.0, 0.0])},
        coords={"time": coarse.time.values},
    )
    cube = moved.to_dataset(name="reflectance").assign(qa=qa)
    found = xh.sharpen(cube, fine, bandpass=None, shifts=shift)["qa"]
    expected = np.zeros((2, 48, 60), "uint16")
    expected[:, 15:18, 21:24] = 16
    np.testing.assert_array_equal(found[..., 3:-3], expected[..., 3:-3])


def test_of_two_pairs_both_dates_are_told():
    days = ("2018-07-01T10:50", "2018-07-11T10:50", "2018-07-21T10:50")
    fine = fine_cube(dates=days)
    landsat = example_cube(
        "landsat-c2-l2",
        platform="landsat-8",
        dates=tuple(day.replace("10:5", "10:4") for day in (days[0], "2018-07-10T10:50", days[2])),
        bands=BANDS,
        shape=(16, 20),
        resolution=30,
        missing=0,
    )
    coarse = landsat.copy(data=xh.regrid(fine, like=landsat).values)
    found = xh.sharpen(coarse, fine, fusion.Starfm(pairs=2), tolerance="30D", bandpass=None)
    assert "reference_time" not in found.coords
    for role, day in (("before", "2018-07-01"), ("after", "2018-07-11")):
        assert str(found[f"reference_time_{role}"].values[1])[:10] == day
    np.testing.assert_allclose(found["reference_gap_before"][1], -9 + 10 / 1440)
    both = xh.densify(fine, xh.sharpen(coarse, fine, fusion.Starfm(pairs=2), tolerance="30D"))
    assert both.sizes["time"] == 6
