"""A cube states what its numbers mean: `describe` listens, or refuses."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh

SENTINEL = {"sensor": "sentinel-2-l2a", "platform": "sentinel-2a"}
TIME = np.array(["2022-06-09T10:50:31"], "datetime64[ns]")


def cube(values=3000, dtype="int16", missing=None, **attrs) -> xr.DataArray:
    """One date of red, the first row missing."""
    pixels = np.full((1, 1, 4, 5), values).astype(dtype)
    if missing is not None:
        pixels[..., 0, :] = missing
    y, x = 5_600_000 - 10 * np.arange(4) - 5.0, 500_000 + 10 * np.arange(5) + 5.0
    return xr.DataArray(
        pixels,
        dims=("time", "band", "y", "x"),
        coords={"time": TIME, "band": ["red"], "y": y, "x": x},
        attrs=attrs,
    )


def decoded(array, **settings) -> np.ndarray:
    described = xh.describe(array, crs="EPSG:32631", **(SENTINEL | settings))
    if bool(described["is_decoded"].all()):
        return described.values[0, 0]
    return described.harmonize.decode().values[0, 0]


@pytest.mark.parametrize(
    "name", ["_FillValue", "nodata", "missing_value", "NoData", "nodatavals", "NODATA_VALUE"]
)
@pytest.mark.parametrize("place", ["attrs", "encoding"])
@pytest.mark.parametrize("value", [-9999, np.int16(-9999), "-9999", (-9999,), np.array([-9999])])
def test_the_stated_missing_value_is_missing(name, place, value):
    array = cube(missing=-9999)
    getattr(array, place)[name] = value
    values = decoded(array, processing_baseline="05.10")
    assert np.isnan(values[0]).all()
    np.testing.assert_allclose(values[1:], 0.2, atol=1e-7)


def test_a_missing_value_of_floats_that_are_reflectance_is_missing():
    array = cube(0.2, "float32", missing=-9999, _FillValue=-9999.0)
    values = decoded(array, is_decoded=True)
    assert np.isnan(values[0]).all()
    np.testing.assert_allclose(values[1:], 0.2)


@pytest.mark.parametrize("chunks", [None, {"y": 2}])
def test_the_stated_line_is_enough(chunks):
    array = cube(missing=0, scale_factor=1e-4, add_offset=-0.1)
    array = array if chunks is None else array.chunk(chunks)
    values = decoded(array)  # no processing baseline
    assert np.isnan(values[0]).all()
    np.testing.assert_allclose(values[1:], 0.2, atol=1e-7)


def test_variables_of_a_dataset_state_their_own():
    red = cube(missing=-1).isel(band=0, drop=True).assign_attrs(nodata=-1, scale_factor=1e-4)
    nir = cube(4000, missing=-2).isel(band=0, drop=True).assign_attrs(nodata=-2)
    both = xr.Dataset({"red": red, "nir08": nir})
    described = xh.describe(both, crs="EPSG:32631", processing_baseline="02.12", **SENTINEL)
    values = described.harmonize.decode().values[0]
    assert np.isnan(values[:, 0]).all()
    np.testing.assert_allclose(values[0, 1:], 0.3, atol=1e-7)
    np.testing.assert_allclose(values[1, 1:], 0.4, atol=1e-7)


def test_one_and_zero_count_as_not_stated():
    array = cube(scale_factor=1.0, add_offset=0.0)
    np.testing.assert_allclose(decoded(array, processing_baseline="05.10"), 0.2, atol=1e-7)


@pytest.mark.parametrize(
    ("attrs", "settings", "match"),
    [
        ({"scale_factor": 1e-4, "add_offset": -0.1}, {"processing_baseline": "02.12"}, "02.12"),
        ({"scale_factor": 1e-4}, {"scale": 2e-4, "processing_baseline": "05.00"}, "scale= says"),
        ({"add_offset": -0.1}, {"offset": 0.0}, "offset= says"),
        ({"_FillValue": -9999}, {"nodata": 0, "processing_baseline": "05.00"}, "nodata= says"),
        ({"_FillValue": -9999, "missing_value": 0}, {}, "states _FillValue=-9999"),
        ({"scale_factor": "much"}, {}, "no number"),
    ],
)
def test_what_contradicts_the_statement_is_refused(attrs, settings, match):
    with pytest.raises(xh.errors.RadiometryError, match=match):
        decoded(cube(**attrs), **settings)


def test_naming_scale_and_offset_settles_a_contradiction():
    array = cube(scale_factor=1e-4, add_offset=-0.1)
    values = decoded(array, processing_baseline="02.12", scale=1e-4, offset=0.0)
    np.testing.assert_allclose(values, 0.3, atol=1e-7)


def test_another_products_line_is_refused():
    array = cube(12000, "uint16", scale_factor=2.75e-5, add_offset=-0.2)
    with pytest.raises(xh.errors.RadiometryError):
        decoded(array, sensor="landsat-c1-sr", platform="landsat-8")


def test_what_xarray_applied_is_not_applied_again(tmp_path):
    plain = cube(missing=-9999)
    plain.encoding |= {"scale_factor": 1e-4, "add_offset": -0.1, "_FillValue": -9999}
    raw = plain.astype("float64").where(plain != -9999) * 1e-4 - 0.1
    raw.encoding = {**plain.encoding, "dtype": "int16"}
    raw.rename("reflectance").to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with xr.open_dataarray(tmp_path / "a.nc", engine="h5netcdf") as read:
        values = decoded(read.load())
        with pytest.raises(
            xh.errors.RadiometryError, match="encoding that scale and offset were applied"
        ):
            decoded(read, is_decoded=False)
    assert np.isnan(values[0]).all()
    np.testing.assert_allclose(values[1:], 0.2, atol=1e-4)
    with xr.open_dataarray(tmp_path / "a.nc", engine="h5netcdf", mask_and_scale=False) as read:
        np.testing.assert_allclose(decoded(read.load())[1:], 0.2, atol=1e-7)


@pytest.mark.parametrize("dtype", [">i2", ">f4", "float16", "longdouble"])
def test_any_type_of_number_is_taken(dtype):
    array = cube(3000, dtype)
    values = decoded(array, processing_baseline="02.12", scale=1e-4, offset=0.0)
    np.testing.assert_allclose(values, 0.3, rtol=1e-3)


@pytest.mark.parametrize("labels", [np.array([b"red"]), np.array(["red"], object)])
def test_labels_of_any_type_of_text_are_names(labels):
    array = cube().assign_coords(band=labels)
    assert xh.describe(
        array, crs="EPSG:32631", processing_baseline="02.12", **SENTINEL
    ).band.values.tolist() == ["red"]


def test_t_is_time():
    array = cube().rename(time="t")
    assert decoded(array, processing_baseline="02.12").shape == (4, 5)


def test_an_extra_dimension_is_named_and_the_cure_works():
    array = cube().expand_dims(orbit=[1, 2])
    with pytest.raises(
        xh.errors.ContractError, match=r"'orbit'.*isel\(\{'orbit': 0\}, drop=True\)"
    ):
        decoded(array, processing_baseline="02.12")
    decoded(array.isel(orbit=0, drop=True), processing_baseline="02.12")


def test_a_selected_date_says_how_to_keep_it():
    one = xh.describe(cube(), crs="EPSG:32631", processing_baseline="02.12", **SENTINEL)
    one = one.harmonize.decode()
    with pytest.raises(xh.errors.ContractError, match=r"isel\(time=\[0\]\)"):
        one.isel(time=0).harmonize.to_landsat("hls-v2")
    one.isel(time=[0])  # as the message says


def test_is_decoded_as_integers_is_not_applied_twice():
    one = xh.describe(cube(), crs="EPSG:32631", processing_baseline="02.12", **SENTINEL)
    done = one.harmonize.decode().rename("reflectance")
    red = done.assign_coords(is_decoded=done["is_decoded"].astype("int8"))
    xr.testing.assert_equal(
        red.harmonize.to_landsat("hls-v2").drop_vars("is_decoded"),
        done.harmonize.to_landsat("hls-v2").drop_vars("is_decoded"),
    )


def test_float32_coordinates_are_even():
    lat = (50.0 - 1e-4 * np.arange(40)).astype("float32")
    lon = (3.0 + 1e-4 * np.arange(40)).astype("float32")
    array = xr.DataArray(
        np.full((1, 1, 40, 40), 3000, "int16"),
        dims=("time", "band", "lat", "lon"),
        coords={"time": TIME, "band": ["red"], "lat": lat, "lon": lon},
    )
    described = xh.describe(array, crs=4326, processing_baseline="02.12", **SENTINEL)
    np.testing.assert_allclose(np.diff(described.y), -1e-4, rtol=1e-2)


def test_a_stale_geotransform_is_refused():
    array = xh.describe(cube(), crs="EPSG:32631", processing_baseline="02.12", **SENTINEL)
    row = array.harmonize.decode().coarsen(y=4).mean()
    with pytest.raises(xh.errors.GridError, match=r"GeoTransform .* does not fit the coordinates"):
        row.harmonize.to_landsat("hls-v2", resolution=30)
