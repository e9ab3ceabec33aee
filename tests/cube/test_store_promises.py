"""Upserts that would change what is there, readers of replaced stores, damaged shards: refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.testing import example_cube

LATER = ("2018-08-01T10:50",)


def line() -> xr.Dataset:
    source = example_cube()
    target = example_cube("landsat-c2-l2", platform="landsat-8", seed=1, resolution=10.0)
    return xh.fit_linear(xh.match_pairs(source, target, tolerance="1D")).compute()


def with_orbit(cube: xr.DataArray, values) -> xr.DataArray:
    return cube.assign_coords(orbit=("time", np.array(values)))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (np.array([1, 2, 3], "uint8"), [300]),
        (np.array([1, 2, 3], "int16"), [12.7]),
        (np.array([1, 2, 3], "int64"), [np.nan]),
        (np.array([1, 2, 3], "int16"), ["a"]),
        (np.array(["a", "b", "c"]), [4]),
    ],
)
def test_a_coordinate_that_the_stores_type_cannot_hold_is_refused(first, second, tmp_path):
    path = xh.to_zarr(with_orbit(example_cube(), first), tmp_path / "a.zarr")
    with pytest.raises(xh.StoreError, match="'orbit'"):
        xh.to_zarr(with_orbit(example_cube(dates=LATER), second), path, mode="upsert")
    assert xh.open_series(path).sizes["time"] == 3


def test_a_coordinate_of_another_type_with_the_same_values_is_kept(tmp_path):
    path = xh.to_zarr(with_orbit(example_cube(), [1.0, 2.5, np.nan]), tmp_path / "a.zarr")
    xh.to_zarr(with_orbit(example_cube(dates=LATER), [7]), path, mode="upsert")
    np.testing.assert_array_equal(xh.open_series(path)["orbit"], [1, 2.5, np.nan, 7])


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.assign_coords(quantile=0.5),
        lambda c: c.assign_coords(wavelength=("band", np.arange(6.0))),
        lambda c: c.assign_coords(height=(("y", "x"), np.zeros((24, 30)))),
    ],
    ids=["scalar", "band", "y, x"],
)
def test_coordinates_without_time_are_those_of_the_store(change, tmp_path):
    path = xh.to_zarr(example_cube(), tmp_path / "a.zarr")
    later = example_cube(dates=LATER)
    with pytest.raises(xh.StoreError, match="coordinates without time"):
        xh.to_zarr(change(later), path, mode="upsert")
    xh.to_zarr(change(example_cube()), path, mode="w")
    xh.to_zarr(change(later), path, mode="upsert")
    assert xh.open_series(path).sizes["time"] == 4


def test_another_value_of_a_coordinate_without_time_is_refused(tmp_path):
    path = xh.to_zarr(example_cube().assign_coords(quantile=0.5), tmp_path / "a.zarr")
    later = example_cube(dates=LATER).assign_coords(quantile=0.9)
    with pytest.raises(xh.StoreError, match=r"'quantile' is 0\.9, the store's 0\.5"):
        xh.to_zarr(later, path, mode="upsert")


def test_flags_of_other_meanings_are_refused(tmp_path):
    def with_qa(cube, meanings):
        qa = xr.zeros_like(cube.isel(band=0, drop=True)).astype("uint8")
        qa.attrs = {"flag_masks": [1, 2], "flag_meanings": meanings}
        return xr.Dataset({"reflectance": cube, "qa": qa})

    path = xh.to_zarr(with_qa(example_cube(), "cloud snow"), tmp_path / "a.zarr")
    with pytest.raises(xh.StoreError, match="flag_meanings 'snow cloud'"):
        xh.to_zarr(with_qa(example_cube(dates=LATER), "snow cloud"), path, mode="upsert")
    xh.to_zarr(with_qa(example_cube(dates=LATER), "cloud snow"), path, mode="upsert")


def test_a_store_read_by_plain_xarray_is_written_with_its_own_names(tmp_path):
    path = xh.to_zarr(example_cube(), tmp_path / "a.zarr")
    plain = xr.open_zarr(path, decode_coords="all")
    again = xh.open_series(xh.to_zarr(plain["reflectance"], tmp_path / "b.zarr"))
    xr.testing.assert_equal(again.compute(), xh.open_series(path).compute())
    bare = plain["reflectance"].copy()
    bare["sensor"].attrs.clear()
    with pytest.raises(xh.StoreError, match="a number without a meaning"):
        xh.to_zarr(bare, tmp_path / "c.zarr")


@pytest.mark.parametrize("dims", [("y", "x", "band", "time"), ("band", "time", "x", "y")])
def test_the_order_of_dimensions_does_not_matter(dims, tmp_path):
    cube = example_cube(bands=("blue", "green", "red"))  # as many dates as bands
    offset = cube["offset"] + np.arange(9).reshape(3, 3)
    cube = cube.assign_coords(offset=offset)
    later = example_cube(bands=("blue", "green", "red"), dates=LATER)
    path = xh.to_zarr(cube.transpose(*dims), tmp_path / "a.zarr")
    xh.to_zarr(later, path, mode="upsert")
    found = xh.open_series(path)
    np.testing.assert_array_equal(found[:3].values, cube.values)
    np.testing.assert_array_equal(found["offset"][:3].values, cube["offset"].values)
    found = cube.transpose(*dims).harmonize.to_landsat("hls-v2")
    expected = cube.harmonize.to_landsat("hls-v2")
    xr.testing.assert_allclose(found.transpose(*expected.dims), expected)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_a_cube_opened_before_its_store_is_replaced_is_refused(scheduler, tmp_path):
    import dask

    path = xh.to_zarr(example_cube(seed=1), tmp_path / "a.zarr", tile=16)
    opened = xh.open_series(path)
    first = opened[0, :, :16, :16].compute()
    xh.to_zarr(example_cube(seed=2), path, mode="w", tile=16)
    with dask.config.set(scheduler=scheduler):
        with pytest.raises(xh.StoreError, match="were written again after this cube was opened"):
            opened.compute()
        np.testing.assert_array_equal(xh.open_series(path), example_cube(seed=2))
    np.testing.assert_array_equal(first, example_cube(seed=1)[0, :, :16, :16])


def test_an_upsert_leaves_readers_of_other_entries_alone(tmp_path):
    path = xh.to_zarr(example_cube(seed=1), tmp_path / "a.zarr")
    opened = xh.open_series(path)
    xh.to_zarr(example_cube(seed=2).isel(time=[1]), path, mode="upsert")
    xh.to_zarr(example_cube(dates=LATER), path, mode="upsert")
    np.testing.assert_array_equal(opened[[0, 2]], example_cube(seed=1)[[0, 2]])
    with pytest.raises(xh.StoreError, match="written again"):
        opened[1].compute()


def test_flipped_bits_give_the_right_numbers_or_an_error(tmp_path):
    random = np.random.default_rng(0)
    cube = example_cube(shape=(40, 40))
    path = xh.to_zarr(cube, tmp_path / "a.zarr", tile=32)
    files = [f for f in sorted(path.rglob("c/**/*")) if f.is_file()]
    assert any("reflectance" in str(f) for f in files)
    n_refused = 0
    for _ in range(60):
        file = files[random.integers(len(files))]
        whole = file.read_bytes()
        place, bit = random.integers(len(whole)), random.integers(8)
        file.write_bytes(
            whole[:place] + bytes([whole[place] ^ (1 << int(bit))]) + whole[place + 1 :]
        )
        try:
            found = xh.open_series(path).compute()
        except xh.StoreError:
            n_refused += 1
        else:
            np.testing.assert_array_equal(found, cube)
            for name in ("time", "scale", "offset", "sensor", "y", "x"):
                np.testing.assert_array_equal(found[name], cube[name])
        file.write_bytes(whole)
    assert n_refused > 30


def test_every_writer_refuses_what_is_there(tmp_path: Path):
    cube = example_cube()
    ndvi = cube.harmonize.index("ndvi")
    fit = line()
    writers = {
        "a.zarr": lambda path, **mode: xh.to_zarr(cube, path, **mode),
        "cogs": lambda path, **mode: xh.to_cogs(ndvi, path, **mode),
        "r.html": lambda path, **mode: xh.write_report(ndvi, path, **mode),
        "fit.zarr": lambda path, **mode: xh.save_model(fit, path, **mode),
        "fit.nc": lambda path, **mode: xh.save_model(fit, path, **mode),
    }
    for name, write in writers.items():
        write(tmp_path / name)
        with pytest.raises(xh.StoreError, match=r"mode='w"):
            write(tmp_path / name)
        write(tmp_path / name, mode="w")
        with pytest.raises(xh.StoreError, match="mode is 'a'"):
            write(tmp_path / name, mode="a")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(writers)


def test_a_fit_never_replaces_what_is_no_fit(tmp_path):
    path = xh.to_zarr(example_cube(), tmp_path / "series.zarr")
    with pytest.raises(xh.ModelError, match="holds no fit of xharmonize and stays"):
        xh.save_model(line(), path, mode="w")
    assert xh.open_series(path).sizes["time"] == 3
