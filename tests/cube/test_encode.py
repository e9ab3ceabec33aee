"""Decoding of cubes: lazily, once, and only where the contract says how."""

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.testing import assert_chunk_invariant, assert_lazy, example_cube

ENCODED = {"is_decoded": False, "missing": 0.1}


@pytest.fixture
def numbers():
    return example_cube("landsat-c2-l2", platform="landsat-8", **ENCODED)


def test_decoding_gives_reflectance(numbers):
    result = xh.decode(numbers)
    expected = numbers.where(numbers != 0) * 2.75e-5 - 0.2
    np.testing.assert_allclose(result, expected, atol=1e-7)
    assert result.dtype == np.float32
    assert result.attrs["units"] == "1"
    assert result.attrs["history"].endswith("decode: DN * scale + offset")
    assert result.is_decoded.values.all()
    assert result.spatial_ref.identical(numbers.spatial_ref)
    assert float(result.scale[0, 0]) == 2.75e-5  # kept as a record
    assert not numbers.is_decoded.values.any()


def test_linear_backscatter_of_zero_or_less_is_missing():
    power = example_cube(missing=0)[:, :2].reset_coords(drop=True).copy()
    power[0, 0, 0, :3] = [0, -0.5, 0.25]
    options = {"bands": ["vv", "vh"], "is_decoded": False, "crs": 32631}
    linear = xh.decode(xh.describe(power, sensor="sentinel-1-rtc", **options))
    np.testing.assert_array_equal(linear[0, 0, 0, :3], [np.nan, np.nan, 0.25])
    decibel = power.assign_attrs(units="dB")
    kept = xh.decode(xh.describe(decibel, sensor="sentinel-1-rtc", **options))
    np.testing.assert_array_equal(kept[0, 0, 0, :3], [0, -0.5, 0.25])


def test_decoding_is_lazy_and_does_not_depend_on_chunks(numbers, no_compute):
    with no_compute():
        lazy = xh.decode(numbers.chunk(time=1, y=7))
    assert_lazy(lazy)
    assert lazy.data.name.startswith("decode-")
    assert lazy.chunks == numbers.chunk(time=1, y=7).chunks
    chunkings = [{"time": 1, "y": 7}, {"band": 2, "x": 4}, {}]
    assert_chunk_invariant(xh.decode, numbers, chunkings=chunkings)


def test_each_date_and_band_has_its_own_line(numbers):
    scale = numbers.scale.copy()
    scale[1, 2] = 1e-4
    changed = xh.decode(numbers.assign_coords(scale=scale))
    same = xh.decode(numbers)
    differs = (changed != same) & same.notnull()
    assert differs[1, 2].sum() == same[1, 2].notnull().sum()
    assert differs.sum() == differs[1, 2].sum()


def test_companions_travel_along(numbers):
    qa = xr.zeros_like(numbers.isel(band=0, drop=True))
    cube = numbers.to_dataset(name="reflectance").assign(qa=qa)
    result = xh.decode(cube)
    assert isinstance(result, xr.Dataset)
    assert result.qa.identical(cube.qa)
    assert result.reflectance.dtype == np.float32


def test_dates_decoded_before_stay_as_they_are(numbers):
    done = xh.decode(numbers)
    mixed = xr.concat([done.isel(time=[0]), numbers.isel(time=[1, 2]).astype("float32")], "time")
    assert mixed.is_decoded.values[:, 0].tolist() == [True, False, False]
    xr.testing.assert_allclose(xh.decode(mixed), done, atol=2e-8)


def test_the_offset_is_not_applied_twice(numbers):
    done = xh.decode(numbers)
    with pytest.raises(
        xh.errors.RadiometryError, match="decoded already: scale and offset would be"
    ):
        xh.decode(done)
    with pytest.raises(ValueError, match=r"holds integers .uint16. and says that they are decoded"):
        xh.decode(numbers.assign_coords(is_decoded=done.is_decoded))


def test_an_unknown_offset_is_an_error_that_names_item_and_band(numbers):
    offset = numbers.offset.copy()
    offset[1, 3] = np.nan
    with pytest.raises(
        xh.errors.RadiometryError, match="offset of band 'nir08' of item 'landsat-8-1'"
    ):
        xh.decode(numbers.assign_coords(offset=offset))


def test_a_lost_contract_is_an_error_that_names_describe(numbers):
    with pytest.raises(xh.errors.ContractError, match=r"'scale'.*are missing.*xh.describe\("):
        xh.decode(numbers.drop_vars("scale"))
    # xarray drops what conflicts in arithmetic
    lost = numbers.isel(time=[0]) - numbers.isel(time=[0]).assign_coords(platform=("time", ["x"]))
    with pytest.raises(xh.errors.ContractError, match="'platform'"):
        xh.decode(lost)


def test_nothing_to_decode_in_an_empty_cube(numbers):
    empty = xh.decode(numbers.isel(x=slice(0, 0)))
    assert empty.sizes["x"] == 0
    assert empty.dtype == np.float32


def test_flanders_by_hand(data):
    """One date of real pixels: DN / 10 000, nodata missing."""
    rasterio = pytest.importorskip("rasterio")
    folder = data / "flanders-2018" / "landsat-8-c1-sr" / "LC08_20180701_0"
    with rasterio.open(folder / "red.tif") as source:
        dn = source.read()[None]
    cube = xr.DataArray(
        dn, dims=("time", "band", "y", "x"), coords={"time": [np.datetime64("2018-07-01", "ns")]}
    ).assign_coords(band=["red"], x=501390.0 + 30 * np.arange(21), y=5629650.0 - 30 * np.arange(21))
    described = xh.describe(
        cube, sensor="landsat-c1-sr", platform="landsat-8", nodata=0, crs="EPSG:32631"
    )
    actual = xh.decode(described).values
    np.testing.assert_allclose(actual, np.where(dn == 0, np.nan, dn / 1e4), atol=1e-7)
