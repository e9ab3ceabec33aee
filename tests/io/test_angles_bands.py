"""Angles per pixel from angle bands of Landsat Collection 2 and HLS."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import xarray as xr
from helpers.angles import write_bands
from scipy.interpolate import RegularGridInterpolator

import xharmonize as xh
from xharmonize.testing import example_cube

ORIGIN = (501360.0, 5629680.0)
SHAPE = (40, 50)
L2 = "LC08_L2SP_199025_20180701_20200831_02_T1"
L1 = "LC08_L1TP_199025_20180701_20200823_02_T1"
KEYS = ("SZA", "SAA", "VZA", "VAA")


def numbers(*, wrap=False):
    """Landsat's: hundredths of degrees, the view through nadir and from either side."""
    row, column = np.mgrid[: SHAPE[0], : SHAPE[1]]
    side = column - 25
    azimuth = np.where(side < 0, 10200, -7800)
    if wrap:
        azimuth = azimuth % 36000
    return [3500 - row, 15000 + 2 * column, np.abs(side) * 30, azimuth]


def landsat(
    dates=("2018-07-01T10:40",), *, chunks=None, shape=SHAPE, resolution=30.0, origin=ORIGIN
):
    cube = example_cube(
        "landsat-c2-l2",
        platform="landsat-8",
        dates=dates,
        shape=shape,
        resolution=resolution,
        origin=origin,
        chunks=chunks,
    )
    return cube.assign_coords(item_id=("time", [L2] * len(dates)))


def level_1(paths, name=L1, **assets):
    return {
        "type": "Feature",
        "id": name,
        "bbox": [3.0, 50.0, 4.0, 51.0],
        "properties": {"datetime": "2018-07-01T10:40:12Z", "platform": "LANDSAT_8"},
        "assets": {key: {"href": path, **assets} for key, path in paths.items()},
    }


def test_landsat_bands_are_what_rasterio_reads(tmp_path):
    paths = write_bands(tmp_path, numbers(), origin=ORIGIN, nodata=0)
    found = xh.read_angles([level_1(paths)], like=landsat()).compute().isel(time=0)
    for name, key in zip(found, KEYS):
        with rasterio.open(paths[key]) as file:
            values = file.read(1) * 0.01
        values = np.where(values < 0, values + 360, values) if key.endswith("AA") else values
        known = np.ones(SHAPE, bool) if key != "VAA" else numbers()[2] > 0
        np.testing.assert_allclose(found[name].values[known], values[known], atol=2e-4)
    nadir = found["view_zenith"].values[:, 25]
    np.testing.assert_allclose(nadir, 0, atol=1e-6)  # 0 is nodata in the file, and a view


def test_fill_is_missing_in_all_four(tmp_path):
    odd = numbers()
    for array in odd:
        array[:5] = 0
    paths = write_bands(tmp_path, odd, origin=ORIGIN, nodata=0)
    found = xh.read_angles(paths and [level_1(paths)], like=landsat()).to_array().values[:, 0]
    assert np.isnan(found[:, :5]).all()
    assert np.isfinite(found[:, 5:]).all()


@pytest.mark.parametrize("scale", [None, 0.01])
def test_hls_bands(tmp_path, scale):
    odd = numbers(wrap=True)
    for array in odd:
        array[3, 4] = 40000
    paths = write_bands(tmp_path, odd, origin=ORIGIN, dtype="uint16", nodata=40000, scale=scale)
    item = level_1(paths, L2, **{"raster:bands": [{"scale": 0.01, "nodata": 40000}]})
    found = xh.read_angles([item], like=landsat()).isel(time=0)
    assert np.isnan(found.to_array().values[:, 3, 4]).all()
    assert int(np.isnan(found["sun_zenith"]).sum()) == 1
    np.testing.assert_allclose(found["sun_azimuth"][0], 150 + 0.02 * np.arange(50), atol=2e-4)


def test_floats_are_degrees(tmp_path):
    paths = write_bands(tmp_path, [n / 100 for n in numbers()], origin=ORIGIN, dtype="float32")
    found = xh.read_angles([paths], like=landsat())
    np.testing.assert_allclose(found["sun_zenith"][0, :, 0], 35 - np.arange(40) / 100, atol=2e-4)


def test_another_grid_is_interpolated_bilinearly(tmp_path):
    """A 10 m grid on 30 m bands: scipy's values inside, held up to the edge of the bands."""
    paths = write_bands(tmp_path, numbers(), origin=ORIGIN)
    like = landsat(shape=(120, 150), resolution=10.0)
    found = xh.read_angles([paths], like=like).isel(time=0).compute()
    y = ORIGIN[1] - 30 * (np.arange(SHAPE[0]) + 0.5)
    x = ORIGIN[0] + 30 * (np.arange(SHAPE[1]) + 0.5)
    points = np.stack(
        np.meshgrid(np.clip(like.y, y[-1], y[0]), np.clip(like.x, x[0], x[-1]), indexing="ij"), -1
    )
    for name, values in zip(("sun_zenith", "sun_azimuth"), numbers()):
        field = RegularGridInterpolator((y[::-1], x), values[::-1] * 0.01)
        np.testing.assert_allclose(found[name], field(points), atol=3e-4)
    through = found["view_zenith"].sel(x=slice(x[25] - 16, x[25] + 16)).values
    assert through.min() < 0.11  # nadir lies between pixels, from opposite sides


def test_a_coarser_grid_takes_the_pixels_around_its_centres(tmp_path):
    paths = write_bands(tmp_path, numbers(), origin=ORIGIN)
    like = landsat(shape=(4, 5), resolution=300.0)
    found = xh.read_angles([paths], like=like)["sun_zenith"].isel(time=0, x=0)
    np.testing.assert_allclose(found, 35 - (10 * np.arange(4) + 4.5) / 100, atol=2e-4)


def test_chunks_and_the_area_do_not_matter(tmp_path):
    paths = write_bands(tmp_path, numbers(), origin=(ORIGIN[0] - 15, ORIGIN[1] + 15), nodata=0)
    for like in (landsat(), landsat(shape=(4, 5), resolution=285.0)):
        whole = xh.read_angles([paths], like=like).compute()
        for chunks in ({"y": 3, "x": -1}, {"x": 20}):
            again = xh.read_angles([paths], like=like.chunk(chunks)).compute()
            xr.testing.assert_identical(again, whole)
        part = like.isel(y=slice(1, 3), x=slice(2, 4))
        xr.testing.assert_equal(
            xh.read_angles([paths], like=part).compute(), whole.isel(y=slice(1, 3), x=slice(2, 4))
        )


def test_landsat_and_sentinel_2_in_one_cube(tmp_path):
    from helpers.angles import write_granule

    paths = write_bands(tmp_path, numbers(), origin=ORIGIN)
    granule = write_granule(tmp_path / "MTD_TL.xml", time="2018-07-03T10:50:00Z")
    like = landsat(dates=("2018-07-01T10:40", "2018-07-03T10:50"))
    like = like.assign_coords(item_id=("time", [L2, "S2"]))
    found = xh.read_angles({L2: paths, "S2": granule}, like=like, per_band=True)
    assert found["view_zenith"].dims == ("time", "band", "y", "x")
    assert np.ptp(found["view_zenith"][0].values, axis=0).max() == 0
    assert np.ptp(found["view_zenith"][1].values, axis=0).max() > 0
    nadir = xh.nbar(like, found)
    assert np.isfinite(nadir.values).sum() == np.isfinite(like.values).sum()
