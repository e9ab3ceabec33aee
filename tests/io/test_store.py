"""Zarr stores: what is written opens as what it was, in our reader and in others'."""

from __future__ import annotations

import json
import subprocess
import sys

import dask
import numpy as np
import pyproj
import pytest
import xarray as xr
import zarr
from helpers.marks import first_quick

import xharmonize as xh
from xharmonize.cube.codes import extend_meanings, flag_attrs, meanings_of
from xharmonize.io.zarr.write import lock_path, writer_lock
from xharmonize.testing import assert_lazy, example_cube

LATER = ("2018-07-06T10:50", "2018-07-16T10:50")


def assert_same(actual, expected):
    """Same values, names, dtypes, coordinates and attributes of the data."""
    actual, expected = actual.compute(), expected.compute()
    assert type(actual) is type(expected)
    xr.testing.assert_equal(actual, expected)
    assert set(actual.coords) == set(expected.coords)
    for name, coord in expected.coords.items():
        assert actual[name].dtype.kind == coord.dtype.kind, name
    arrays = {"": expected} if isinstance(expected, xr.DataArray) else expected.data_vars
    for name, array in arrays.items():
        got = actual[name] if name else actual
        assert (got.name, got.dtype, got.dims) == (array.name, array.dtype, array.dims)
        assert got.attrs == array.attrs


def with_companions(cube):
    qa = (cube.isel(band=0, drop=True).isnull().astype("uint16") * 2).rename("qa")
    qa = qa.assign_attrs(flag_masks=[1, 2], flag_meanings="fill cloud")
    return xr.Dataset(
        {
            "reflectance": cube,
            "qa": (qa.dims, qa.data, qa.attrs),
            "uncertainty": (cube * 0.05).assign_attrs(units="1"),
            "flag": (qa.dims, qa.data > 0),
        },
        attrs={"title": "fields", "history": "made up"},
    )


def test_a_cube_opens_as_it_was(cube, tmp_path):
    path = cube.harmonize.to_zarr(tmp_path / "series.zarr")
    series = xh.open_series(path)
    assert_lazy(series)
    assert_same(series, cube)
    assert [p.name for p in tmp_path.iterdir()] == ["series.zarr"]


@pytest.mark.parametrize("mode", ["w", "upsert"])
def test_datasets_with_companions_open_as_they_were(cube, mode, tmp_path):
    dataset = with_companions(cube)
    xh.to_zarr(dataset, tmp_path / "a.zarr", mode=mode)
    series = xh.open_series(tmp_path / "a.zarr")
    assert_same(series, dataset)
    assert series.attrs == dataset.attrs
    assert list(series) == list(dataset)


def test_encoded_cubes_keep_their_integers(tmp_path):
    cube = example_cube(is_decoded=False, chunks={"time": 1})
    xh.to_zarr(cube, tmp_path / "a.zarr")
    assert_same(xh.open_series(tmp_path / "a.zarr"), cube)
    assert xr.open_zarr(tmp_path / "a.zarr")["reflectance"].dtype == cube.dtype


def test_an_index_keeps_name_and_lack_of_bands(tmp_path):
    ndvi = example_cube().isel(band=0, drop=True).rename("ndvi").assign_attrs(long_name="NDVI")
    xh.to_zarr(ndvi, tmp_path / "a.zarr")
    assert_same(xh.open_series(tmp_path / "a.zarr"), ndvi)


def test_plain_xarray_rioxarray_and_geozarr_find_the_grid(cube, tmp_path):
    xh.to_zarr(cube, tmp_path / "a.zarr")
    for options in ({}, {"decode_coords": "all"}):
        plain = xr.open_zarr(tmp_path / "a.zarr", **options)
        assert plain["reflectance"].rio.crs == cube.rio.crs
        assert plain["reflectance"].rio.transform() == cube.rio.transform()
        assert np.isnan(plain["reflectance"].rio.nodata or plain["reflectance"].rio.encoded_nodata)
        np.testing.assert_array_equal(plain["reflectance"].values, cube.values)
        np.testing.assert_array_equal(plain["time"].values, cube["time"].values)
    attrs = zarr.open_group(tmp_path / "a.zarr", mode="r").attrs
    assert attrs["proj:code"] == "EPSG:32631"
    assert pyproj.CRS(attrs["proj:wkt2"]).to_epsg() == 32631
    assert tuple(attrs["spatial:transform"]) == tuple(cube.rio.transform())[:6]
    assert {c["name"] for c in attrs["zarr_conventions"]} == {"proj", "spatial"}


def test_the_layout_is_cf_and_sharded(tmp_path):
    xh.to_zarr(example_cube(shape=(40, 50)), tmp_path / "a.zarr", shard=32)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    array = group["reflectance"]
    assert (array.metadata.zarr_format, array.shards, array.chunks) == (
        3,
        (1, 6, 32, 32),
        (1, 1, 32, 32),
    )
    assert array.attrs["grid_mapping"] == "spatial_ref"
    assert {"crs_wkt", "GeoTransform", "grid_mapping_name"} <= set(group["spatial_ref"].attrs)
    assert group["sensor"].attrs["flag_meanings"] == "sentinel-2-l2a"
    assert group["sensor"].dtype == np.int16
    assert group["time"].attrs["units"] == "microseconds since 1970-01-01"
    assert (group["is_decoded"].dtype, group["item_id"].dtype.kind) == (np.uint8, "T")


def test_ascending_y_one_row_and_degrees_survive(tmp_path):
    cube = example_cube(shape=(1, 5), crs="EPSG:4326", origin=(2.0, 42.0), resolution=0.001)
    xh.to_zarr(cube, tmp_path / "row.zarr")
    assert_same(xh.open_series(tmp_path / "row.zarr"), cube)
    flipped = example_cube().isel(y=slice(None, None, -1))
    xh.to_zarr(flipped, tmp_path / "up.zarr")
    assert_same(xh.open_series(tmp_path / "up.zarr"), flipped)
    with pytest.raises(xh.errors.StoreError, match="its y are"):
        xh.to_zarr(example_cube(), tmp_path / "up.zarr", mode="upsert")


def test_object_coordinates_and_attributes_never_break_a_store(tmp_path):
    cube = example_cube().assign_coords(
        note=("time", np.array(["a b", None, {"x": 1}], dtype=object)),
        cover=("time", [1.0, np.nan, 3.0]),
        seen=("time", np.array(["2018-07-01", "NaT", "2018-07-02"], "datetime64[ns]")),
        source="somewhere",
    )
    cube.attrs |= {"spec": object(), "size": np.float32(2), "box": (1, 2.5), "nan": np.nan}
    cube.attrs |= {"bounds": (1, 2), "scale_factor": 2.0, "_FillValue": 0.0, "coordinates": "none"}
    xh.to_zarr(cube, tmp_path / "a.zarr")
    series = xh.open_series(tmp_path / "a.zarr")
    assert series["note"].values.tolist() == ["a b", "unknown", "{'x': 1}"]
    np.testing.assert_array_equal(series["cover"].values, cube["cover"].values)
    np.testing.assert_array_equal(series["seen"].values, cube["seen"].values)
    assert (series.attrs["size"], series.attrs["box"]) == (2.0, [1, 2.5])
    np.testing.assert_array_equal(series.values, cube.values)


def test_codes_are_append_only_and_survive_any_text():
    words = ["msi", "a b", "100 %", "é", "etm+"]
    assert meanings_of(flag_attrs(words)) == words
    assert extend_meanings(["b", "a"], ["a", "c", "b"]) == ["b", "a", "c"]


def test_upsert_replaces_by_key_and_appends_the_rest(cube, tmp_path):
    path = tmp_path / "a.zarr"
    xh.to_zarr(cube, path)
    newer = example_cube(dates=LATER, platform="sentinel-2b", seed=4, chunks={"y": 7})
    for _ in range(2):  # again changes nothing
        xh.to_zarr(newer, path, mode="upsert")
        series = xh.open_series(path).compute()
        expected = [cube.isel(time=[0]), newer.isel(time=[0]), cube.isel(time=[2])]
        expected = xr.concat(
            [*expected, newer.isel(time=[1])], "time", coords="minimal", compat="override"
        )
        xr.testing.assert_equal(series, expected.compute())
        assert xr.open_zarr(path).sizes["time"] == 4


def test_one_date_may_have_several_sensors_and_tiles(tmp_path):
    both = xr.concat([example_cube(), example_cube(seed=3)], "time", coords="minimal")
    both = both.assign_coords(tile=("time", ["31UES"] * 3 + ["31UDS"] * 3))
    xh.to_zarr(both.isel(time=[4, 1, 3, 0]), tmp_path / "a.zarr", mode="upsert")
    xh.to_zarr(both.isel(time=[2, 5]), tmp_path / "a.zarr", mode="upsert")
    series = xh.open_series(tmp_path / "a.zarr")
    assert series["tile"].values.tolist() == ["31UDS", "31UES"] * 3
    xr.testing.assert_equal(series.compute(), both.isel(time=[3, 0, 4, 1, 5, 2]))


def test_history_grows_by_the_lines_that_are_new(tmp_path):
    first, second = example_cube(), example_cube(dates=LATER)
    first.attrs["history"], second.attrs["history"] = "loaded", "loaded\nto_landsat hls-v2"
    xh.to_zarr(first, tmp_path / "a.zarr")
    for _ in range(2):
        xh.to_zarr(second, tmp_path / "a.zarr", mode="upsert")
    assert xh.open_series(tmp_path / "a.zarr").attrs["history"] == "loaded\nto_landsat hls-v2"


def test_a_store_can_be_overwritten_by_what_is_read_from_it(tmp_path):
    cube = example_cube()
    xh.to_zarr(cube, tmp_path / "a.zarr")
    series = xh.open_series(tmp_path / "a.zarr")
    with xr.set_options(keep_attrs=True):
        xh.to_zarr((series * 2).assign_coords(series.coords), tmp_path / "a.zarr", mode="w")
    np.testing.assert_allclose(xh.open_series(tmp_path / "a.zarr").values, cube.values * 2)


def test_a_store_is_not_upserted_from_itself_while_it_is_read(cube, tmp_path):
    path = xh.to_zarr(cube, tmp_path / "a.zarr")
    later = xh.open_series(path).shift(time=1)
    with pytest.raises(
        xh.errors.StoreError, match=r"read lazily from .*a\.zarr itself.*cube\.load"
    ):
        xh.to_zarr(later, path, mode="upsert")
    expected = later.compute()
    xh.to_zarr(later.load(), path, mode="upsert")
    xr.testing.assert_equal(xh.open_series(path).compute(), expected)
    xh.to_zarr(xh.open_series(path), tmp_path / "b.zarr", mode="upsert")


def test_incomplete_entries_are_hidden(tmp_path):
    cube = example_cube()
    xh.to_zarr(cube, tmp_path / "a.zarr")
    zarr.open_array(tmp_path / "a.zarr", path="complete", mode="r+")[1] = 0
    assert_same(xh.open_series(tmp_path / "a.zarr"), cube.isel(time=[0, 2]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.isel(x=slice(1, None)), r"its x are 29 from .* the store's 30 from"),
        (lambda c: c.isel(band=[0, 1]), r"its bands are \['blue', 'green'\]"),
        (lambda c: c.rio.write_crs("EPSG:32632"), "its CRS is EPSG:32632, the store's EPSG:32631"),
        (lambda c: c.astype("float64"), "is float64, the store's is float32"),
        (lambda c: c.rename("other"), r"its variables are \['other'\]"),
        (lambda c: c.assign_attrs(units="dB"), "has units 'dB', the store's '1'"),
        (lambda c: c.assign_coords(extra=("time", [1.0] * 3)), r"differ .* \['extra'\]"),
    ],
)
def test_a_cube_that_does_not_fit_is_refused_with_the_difference(change, message, tmp_path):
    xh.to_zarr(example_cube(), tmp_path / "a.zarr")
    with pytest.raises(xh.errors.StoreError, match=message):
        xh.to_zarr(change(example_cube()), tmp_path / "a.zarr", mode="upsert")
    assert_same(xh.open_series(tmp_path / "a.zarr"), example_cube())


def test_cubes_that_cannot_be_stored_are_refused(tmp_path):
    cube, path = example_cube(), tmp_path / "a.zarr"
    with pytest.raises(xh.errors.StoreError, match="occurs twice"):
        xh.to_zarr(cube.isel(time=[0, 0]), path)
    with pytest.raises(xh.errors.ContractError, match=r"\['platform'\].*xh.describe"):
        xh.to_zarr(cube.drop_vars("platform"), path)
    with pytest.raises(xh.errors.GridError, match="CRS"):
        xh.to_zarr(cube.drop_vars("spatial_ref"), path)
    with pytest.raises(xh.errors.StoreError, match="'dem' lies along"):
        xh.to_zarr(
            xr.Dataset(
                {"reflectance": cube, "dem": cube.isel(time=0, band=0).reset_coords(drop=True)}
            ),
            path,
        )
    with pytest.raises(xh.errors.StoreError, match="mode is 'a'"):
        xh.to_zarr(cube, path, mode="a")
    with pytest.raises(xh.errors.StoreError, match="whether ftp:// has conditional writes"):
        xh.to_zarr(cube, "ftp://host/a.zarr")
    with pytest.raises(xh.errors.TimeAxisError, match=r"a store needs dates; .time. holds int64"):
        xh.to_zarr(cube.assign_coords(time=[1, 2, 3]), path)
    assert list(tmp_path.iterdir()) == []


def test_directories_that_are_no_stores_are_left_alone(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("x")
    xr.Dataset({"a": ("x", [1])}).to_zarr(tmp_path / "theirs.zarr")
    for name in ("photos", "theirs.zarr"):
        for mode in ("w-", "w", "upsert"):
            with pytest.raises(xh.errors.StoreError, match="not a store written by xharmonize"):
                xh.to_zarr(example_cube(), tmp_path / name, mode=mode)
        with pytest.raises(xh.errors.StoreError, match="not a store written by xharmonize"):
            xh.open_series(tmp_path / name)
    assert (tmp_path / "photos" / "one.jpg").exists()
    with pytest.raises(xh.errors.StoreError, match="no store at"):
        xh.open_series(tmp_path / "absent.zarr")


def test_another_format_version_is_refused(tmp_path):
    path = xh.to_zarr(example_cube(), tmp_path / "a.zarr")
    root = json.loads((path / "zarr.json").read_text())
    root["attributes"]["xharmonize"]["format"] = 99
    (path / "zarr.json").write_text(json.dumps(root))
    with pytest.raises(xh.errors.StoreError, match="format version 99"):
        xh.open_series(path)
    with pytest.raises(xh.errors.StoreError, match="format version 99"):
        xh.to_zarr(example_cube(), path, mode="upsert")
    xh.to_zarr(example_cube(), path, mode="w")


def test_a_lock_that_is_not_freed_is_reported_and_a_dead_ones_is_taken_over(tmp_path):
    path = tmp_path / "a.zarr"
    with (
        writer_lock(path),
        pytest.raises(xh.errors.StoreError, match=r"another process .* on host"),
        writer_lock(path, wait=0.1),
    ):
        pass
    script = (
        "import os, sys; from pathlib import Path\n"
        "from xharmonize.io.zarr.write import writer_lock\n"
        "with writer_lock(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert lock_path(path).exists()
    xh.to_zarr(example_cube(), path, mode="upsert")
    assert not lock_path(path).exists()
    lock_path(path).write_text(json.dumps({"pid": 1, "host": "elsewhere"}))
    with (
        pytest.raises(xh.errors.StoreError, match=r"another machine .*elsewhere"),
        writer_lock(path, wait=0.1),
    ):
        pass


def test_a_failed_write_leaves_the_old_store(tmp_path):
    import dask.array as da

    def fail(block):
        raise OSError("no such tile")

    xh.to_zarr(example_cube(), tmp_path / "a.zarr")
    broken = example_cube(seed=5, chunks={"time": 1})
    broken = broken.copy(data=da.map_blocks(fail, broken.data, dtype="f4", meta=broken.data._meta))
    for mode, kept in (("w", 3), ("upsert", 0)):  # upsert: the same keys, now incomplete
        with pytest.raises(OSError, match="no such tile"):
            xh.to_zarr(broken, tmp_path / "a.zarr", mode=mode)
        assert xh.open_series(tmp_path / "a.zarr").sizes["time"] == kept
    xh.to_zarr(example_cube(), tmp_path / "a.zarr", mode="upsert")
    assert_same(xh.open_series(tmp_path / "a.zarr"), example_cube())
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


@pytest.mark.parametrize("scheduler", first_quick(["synchronous", "threads", "distributed"]))
def test_every_scheduler_writes_the_same(scheduler, tmp_path):
    cube = example_cube(chunks={"time": 2, "y": 7, "x": 30}, shape=(40, 50))
    if scheduler == "distributed":
        from distributed import Client

        with Client(n_workers=1, threads_per_worker=2, dashboard_address=None):
            xh.to_zarr(cube, tmp_path / "a.zarr", shard=16)
    else:
        with dask.config.set(scheduler=scheduler):
            xh.to_zarr(cube, tmp_path / "a.zarr", shard=16)
    assert_same(xh.open_series(tmp_path / "a.zarr"), cube)


def test_opening_computes_nothing(tmp_path, no_compute):
    xh.to_zarr(example_cube(), tmp_path / "a.zarr")
    with no_compute():
        assert_lazy(xh.open_series(tmp_path / "a.zarr", chunks={"time": -1, "y": 10, "x": 10}))
