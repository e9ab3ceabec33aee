"""Kinds of cubes that a store must take as they are, or refuse with the difference."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
import zarr
from helpers.marks import first_quick

import xharmonize as xh
from xharmonize.testing import example_cube

LATER = ("2018-07-16T10:50", "2018-07-21T10:50", "2018-07-26T10:50")


def with_coord(values, dtype, *, later=False, **attrs):
    cube = example_cube(dates=LATER, seed=4) if later else example_cube()
    return cube.assign_coords(cover=("time", np.array(values, dtype), attrs))


def with_qa(attrs, *, later=False):
    cube = example_cube(dates=LATER, seed=4) if later else example_cube()
    qa = xr.zeros_like(cube.isel(band=0, drop=True)).astype("uint16").drop_attrs()
    return xr.Dataset({"reflectance": cube, "qa": (qa.dims, qa.data, attrs)})


@pytest.mark.parametrize(
    ("held", "new", "message"),
    [
        (([1, 2, 3], "int64"), ([12.7, 1, 2], "float64"), r"'cover' is float64 \(12\.7\)"),
        (([1, 2, 3], "uint8"), ([300, 1, 2], "int64"), r"'cover' is int64 \(300\)"),
        (([1, 2, 3], "int64"), ([np.nan, 1, 2], "float64"), r"'cover' is float64 \(nan\)"),
        (([1, 2, 3], "uint16"), ([-1, 1, 2], "int8"), r"'cover' is int8 \(-1\)"),
        (([1, 2, 3], "float32"), ([0.1, 1, 2], "float64"), r"'cover' is float64 \(0\.1\)"),
        (([1, 2, 3], "int64"), (["a", "b", "c"], "U1"), r"'cover' is object \(a\)"),
        ((["a", "b", "c"], "U1"), ([1, 2, 3], "int64"), r"'cover' is int64 \(1\)"),
        (([1, 0, 1], "bool"), ([1, 0, 1], "uint8"), r"'cover' has dtype '', the store's 'bool'"),
        (([1, 2, 3], "int64"), (LATER, "datetime64[ns]"), "'cover' has units 'micro"),
    ],
)
def test_coordinates_are_never_cast(held, new, message, tmp_path):
    first = with_coord(*held)
    path = xh.to_zarr(first, tmp_path / "a.zarr")
    with pytest.raises(xh.errors.StoreError, match=message):
        xh.to_zarr(with_coord(*new, later=True), path, mode="upsert")
    held_back = xh.open_series(path)["cover"]
    xr.testing.assert_equal(held_back, first["cover"])
    assert held_back.dtype.kind == first["cover"].dtype.kind


def test_a_coordinate_that_survives_the_type_of_the_store_is_taken(tmp_path):
    path = xh.to_zarr(with_coord([0.5, np.nan, 2], "float64"), tmp_path / "a.zarr")
    xh.to_zarr(with_coord([1, 2, 3], "int16", later=True), path, mode="upsert")
    np.testing.assert_array_equal(xh.open_series(path)["cover"], [0.5, np.nan, 2, 1, 2, 3])


@pytest.mark.parametrize(
    ("held", "new", "message"),
    [
        ({}, {"source": "here"}, r"without time differ .*\['source'\]"),
        ({"source": "here"}, {}, r"without time differ .*\['source'\]"),
        ({"source": "here"}, {"source": "there"}, "coordinate 'source' is there, .* here"),
        ({"level_of": 1}, {"level_of": 2.5}, "coordinate 'level_of' is 2.5, the store's 1"),
        (
            {"wavelength": ("band", np.arange(6.0))},
            {"wavelength": ("band", np.arange(6.0) + 1)},
            "coordinate 'wavelength' is",
        ),
        (
            {"slope": (("y", "x"), np.ones((24, 30)))},
            {"slope": (("y", "x"), np.full((24, 30), 2.0))},
            "coordinate 'slope' is 720 values",
        ),
        (
            {"wavelength": ("band", np.arange(6.0), {"units": "nm"})},
            {"wavelength": ("band", np.arange(6.0), {"units": "um"})},
            "'wavelength' has units 'um', the store's 'nm'",
        ),
    ],
)
def test_coordinates_without_time_are_compared(held, new, message, tmp_path):
    shape = example_cube().shape[-2:]
    held, new = (
        {k: (v[0], np.resize(v[1], shape)) if k == "slope" else v for k, v in d.items()}
        for d in (held, new)
    )
    path = xh.to_zarr(example_cube().assign_coords(held), tmp_path / "a.zarr")
    with pytest.raises(xh.errors.StoreError, match=message):
        xh.to_zarr(example_cube(dates=LATER).assign_coords(new), path, mode="upsert")
    xh.to_zarr(example_cube(dates=LATER).assign_coords(held), path, mode="upsert")
    assert xh.open_series(path).sizes["time"] == 6


def test_flags_of_another_meaning_are_refused(tmp_path):
    attrs = {"flag_masks": [1, 2], "flag_meanings": "fill cloud"}
    path = xh.to_zarr(with_qa(attrs), tmp_path / "a.zarr")
    for other in (
        {"flag_masks": [1, 2], "flag_meanings": "fill water"},
        {"flag_masks": [1, 4], "flag_meanings": "fill cloud"},
        {},
    ):
        with pytest.raises(xh.errors.StoreError, match="'qa' has flag_m"):
            xh.to_zarr(with_qa(other, later=True), path, mode="upsert")
    same = {"flag_masks": np.array([1, 2]), "flag_meanings": "fill cloud"}
    xh.to_zarr(with_qa(same, later=True), path, mode="upsert")
    assert xh.open_series(path).sizes["time"] == 6


def test_a_refused_upsert_hides_nothing(tmp_path):
    """All is checked first: entries of the same key stay as they are."""
    first = with_coord([1, 2, 3], "int64")
    path = xh.to_zarr(first, tmp_path / "a.zarr")
    for bad in (
        with_coord([12.7, 1, 2], "float64"),
        first.assign_coords(sensor=("time", [1, 2, 3])),
        first.assign_coords(cover=("time", np.array([1, 2, 3], "timedelta64[h]"))),
        first.astype(complex),
    ):
        with pytest.raises(xh.errors.XHarmonizeError):
            xh.to_zarr(bad, path, mode="upsert")
        xr.testing.assert_equal(xh.open_series(path).compute(), first)


def test_a_store_read_by_plain_xarray_is_written_by_its_own_codes(cube, tmp_path):
    path = xh.to_zarr(cube, tmp_path / "a.zarr")
    plain = xr.open_zarr(path)
    for number, read in enumerate((plain, plain["reflectance"])):
        again = xh.open_series(xh.to_zarr(read, tmp_path / f"{number}.zarr")).compute()
        again = again if number else again["reflectance"]
        xr.testing.assert_equal(again, cube.compute())
        assert again["sensor"].values.tolist() == ["sentinel-2-l2a"] * 3
    np.testing.assert_array_equal(
        plain["reflectance"].harmonize.to_landsat("hls-v2").values,
        cube.harmonize.to_landsat("hls-v2").values,
    )


def test_entries_that_are_not_whole_are_left_out_of_what_plain_xarray_read(tmp_path):
    path = xh.to_zarr(example_cube(), tmp_path / "a.zarr")
    zarr.open_array(path, path="complete", mode="r+")[1] = 0
    again = xh.open_series(xh.to_zarr(xr.open_zarr(path), tmp_path / "b.zarr"))
    assert again.sizes["time"] == 2


def test_codes_that_nothing_explains_are_refused(tmp_path):
    plain = xr.open_zarr(xh.to_zarr(example_cube(), tmp_path / "a.zarr"))
    bare = plain.assign_coords(sensor=("time", plain["sensor"].values))
    with pytest.raises(xh.errors.ContractError, match=r"'sensor' holds numbers \(int16\)"):
        xh.to_zarr(bare, tmp_path / "b.zarr")
    with pytest.raises(xh.errors.ContractError, match=r"\['tile'\] do not lie along time"):
        xh.to_zarr(example_cube().assign_coords(tile="31UES"), tmp_path / "b.zarr")
    with pytest.raises(xh.errors.StoreError, match=r"\['complete'\] are names"):
        xh.to_zarr(example_cube().assign_coords(complete=("time", [1, 1, 1])), tmp_path / "b.zarr")


@pytest.mark.parametrize("dims", [("y", "x", "band", "time"), ("band", "time", "x", "y")])
@pytest.mark.parametrize("mode", first_quick(["upsert", "w-", "w"]))
def test_the_order_of_dimensions_does_not_matter(dims, mode, tmp_path):
    """As many dates as bands: nothing but names tells them apart."""
    bands = ("blue", "green", "red")
    cube = example_cube(bands=bands)
    later = example_cube(bands=bands, dates=LATER, seed=4)
    path = xh.to_zarr(cube.transpose(*dims), tmp_path / "a.zarr", mode=mode)
    xr.testing.assert_equal(xh.open_series(path).compute(), cube)
    xh.to_zarr(later, path, mode="upsert")
    xh.to_zarr(later.transpose(*dims), path, mode="upsert")
    expected = xr.concat([cube, later], "time", coords="minimal", compat="override")
    xr.testing.assert_equal(xh.open_series(path).compute(), expected)
    xr.open_zarr(path).load()


def test_what_is_there_is_not_replaced_unless_asked(tmp_path):
    path = xh.to_zarr(example_cube(), tmp_path / "a.zarr")
    one = example_cube(seed=9).isel(time=[0])
    with pytest.raises(
        xh.errors.StoreError, match=r"a\.zarr exists; mode='w' replaces it, mode='upsert'"
    ):
        xh.to_zarr(one, path)
    with pytest.raises(xh.errors.StoreError, match="exists"):
        one.harmonize.to_zarr(path)
    xr.testing.assert_equal(xh.open_series(path).compute(), example_cube())
    xh.to_zarr(one, path, mode="w")
    assert xh.open_series(path).sizes["time"] == 1
