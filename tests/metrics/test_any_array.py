"""Metrics of any two arrays: whatever their CRS, type and labels."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.testing import example_cube

DTYPES = [">f4", ">f8", "float16", "float32", "float64", "longdouble", "int8", ">i2", "int32"]


def plain(shape=(3, 8, 9), dims=("time", "y", "x"), seed=0) -> xr.DataArray:
    """Whole numbers without contract or CRS."""
    values = np.random.default_rng(seed).integers(-90, 90, shape).astype(float)
    return xr.DataArray(values, dims=dims, coords={d: np.arange(n) for d, n in zip(dims, shape)})


@pytest.mark.parametrize("dtype", [*DTYPES, "bool", "uint64"])
@pytest.mark.parametrize("chunks", [None, {"time": 1, "y": 5}], ids=["numpy", "dask"])
def test_every_type_of_number_gives_the_same_score(dtype, chunks):
    one, other = (abs(plain(seed=seed)).astype(dtype) for seed in (0, 1))
    wide = [a.values.astype(float) for a in (one, other)]
    if chunks:
        one, other = one.chunk(chunks), other.chunk(chunks)
    found = xh.score(one, other, ["n", "rmse", "bias", "r2"])
    assert int(found["n"]) == one.size
    difference = wide[0] - wide[1]
    assert float(found["rmse"]) == pytest.approx(np.sqrt((difference**2).mean()), rel=1e-9)
    assert float(found["bias"]) == pytest.approx(difference.mean(), rel=1e-9)
    mixed = xh.score(one, other.compute().astype(float), "rmse")["rmse"]
    assert float(mixed) == pytest.approx(float(found["rmse"]), rel=1e-9)


def test_large_whole_numbers_keep_their_last_digit():
    one = plain().astype("int32") + 2**24
    assert float(xh.score(one + 1, one, "bias", data_range=None)["bias"]) == 1.0


@pytest.mark.parametrize("dims", [("y", "x"), ("time", "lat", "lon"), ("t",), ("station", "t")])
def test_no_crs_and_any_names_of_dimensions(dims):
    one, other = (plain((4, 5, 6)[: len(dims)], dims, seed) for seed in (0, 1))
    expected = float(np.sqrt(((one - other) ** 2).mean()))
    assert float(xh.score(one, other, "rmse")["rmse"]) == pytest.approx(expected)
    turned = other.transpose(*reversed(dims))
    assert float(xh.score(one, turned, "rmse")["rmse"]) == pytest.approx(expected)


def test_a_crs_on_one_side_and_uneven_coordinates():
    cube = example_cube()
    bare = cube.drop_vars("spatial_ref")
    assert (xh.score(bare, cube, "rmse")["rmse"] == 0).all()
    uneven = np.cumsum(np.arange(1, cube.sizes["x"] + 1.0))
    one = cube.assign_coords(x=uneven)
    assert (xh.score(one, one, "rmse")["rmse"] == 0).all()
    with pytest.raises(xh.errors.GridError, match="differ along 'x'"):
        xh.score(one, cube.drop_vars("spatial_ref"), "rmse")


@pytest.mark.parametrize("dims", [("y", "x"), ("lat", "lon")])
def test_float32_coordinates_are_those_of_the_same_pixels(dims):
    degrees = (50 + 0.1 * np.arange(40), 4 + 0.1 * np.arange(50))
    coords = dict(zip(dims, degrees))
    one = xr.DataArray(np.random.default_rng(0).random((40, 50)), coords, dims)
    other = one.assign_coords({d: v.astype("float32") for d, v in coords.items()}) + 1
    found = xh.score(other, one, ["n", "bias"])
    assert int(found["n"]) == one.size
    assert float(found["bias"]) == pytest.approx(1)


def test_other_places_are_refused_or_matched_never_mixed():
    one = plain((8, 9), ("y", "x"))
    with pytest.raises(xh.errors.GridError, match=r"xr\.align"):
        xh.score(one, one.isel(x=slice(1, None)), "rmse")
    with pytest.raises(xh.errors.GridError, match="differ along 'y'"):
        xh.score(one, one.isel(y=slice(None, None, -1)), "rmse")
    a, b = xr.align(one, one.isel(y=slice(None, None, -1)), join="inner")  # the cure
    assert float(xh.score(a, b, "rmse")["rmse"]) == 0
    with pytest.raises(xh.errors.GridError, match="without coordinates"):
        xh.score(one.drop_vars("x"), one.isel(x=slice(5)).drop_vars("x"), "rmse")
    with pytest.raises(xh.errors.MetricError, match="no lat in common"):
        xh.score(plain(dims=("t", "lat", "lon")), plain(dims=("t", "lat", "lon")).assign_coords(
            lat=np.arange(8) + 20), "rmse")  # fmt: skip
    cover = xr.ones_like(one).rename("cover").assign_coords(x=one["x"] + 1)
    with pytest.raises(xh.errors.GridError, match="by="):
        xh.score(one, one, "rmse", by=cover)


def test_one_date_is_never_spread_over_all():
    cube = example_cube(missing=0.0)
    one = cube.isel(time=1)
    for pred, ref in ((cube, one), (one, cube)):
        found = xh.score(pred + 0.01, ref, ["n", "bias"])
        assert (found["n"] == one.sizes["y"] * one.sizes["x"]).all()
        np.testing.assert_allclose(found["bias"], 0.01, atol=1e-6)
    with pytest.raises(xh.errors.TimeAxisError, match=r"no time in common .*match_pairs"):
        xh.score(cube, one.assign_coords(time=one["time"] + np.timedelta64(1, "h")))
    mean = cube.mean("time")
    with pytest.raises(xh.errors.TimeAxisError, match=r"expand_dims\(time=other\['time'\]\)"):
        xh.score(cube, mean)
    whole = xh.score(cube, mean.expand_dims(time=cube["time"]), "n")  # the cure
    assert (whole["n"] == 3 * one.sizes["y"] * one.sizes["x"]).all()
    each = xh.score(cube, mean, "n", dim=["y", "x"])  # no date counts for another
    assert each["n"].sizes == {"time": 3, "band": 6}
    for dim in (None, ..., "time", ["time", "y", "x"]):
        with pytest.raises(xh.errors.TimeAxisError, match="only one of the two has dates"):
            xh.score(cube, mean, "n", dim=dim)
    with pytest.raises(xh.errors.TimeAxisError, match="only one of the two has dates"):
        xh.score(cube, cube, "skill", baseline=mean)


@pytest.mark.parametrize("name", ["_FillValue", "nodata", "missing_value"])
@pytest.mark.parametrize("dtype", ["int16", "float32", "float64"])
def test_stated_nodata_is_missing(name, dtype):
    one = plain().astype(dtype)
    holed = one.copy()
    holed[0] = -999
    for stated in (-999, np.array([-999.0])):
        found = xh.score(holed.assign_attrs({name: stated}), one, ["n", "rmse"])
        assert (int(found["n"]), float(found["rmse"])) == (2 * 72, 0.0)
    with pytest.raises(xh.errors.RadiometryError, match="no number"):
        xh.score(holed.assign_attrs({name: "none"}), one)


def test_a_stated_scale_that_was_not_applied_is_refused():
    one = plain().astype("int16")
    with pytest.raises(xh.errors.RadiometryError, match=r"scale_factor=0.0001.*decode_cf"):
        xh.score(one.assign_attrs(scale_factor=1e-4), one)
    stated = one.assign_attrs(scale_factor=1.0, add_offset=0.0)
    assert float(xh.score(stated, one, "rmse")["rmse"]) == 0
    applied = xr.decode_cf(one.assign_attrs(scale_factor=1e-4).to_dataset(name="a"))  # the cure
    assert float(xh.score(applied, applied, "rmse")["rmse"]) == 0


WORDS, COMPLEX, MIXED = np.array(["a", "b"]), np.array([1j, 2]), np.array([1, "x"], object)
DATES = np.array(["2020-01-01", "2020-01-02"], "datetime64[ns]")


@pytest.mark.parametrize("values", [WORDS, COMPLEX, MIXED, DATES])
def test_what_is_no_number_is_refused(values):
    one = xr.DataArray(values, dims="i")
    with pytest.raises(xh.errors.MetricError, match="compares numbers"):
        xh.score(one, one)
