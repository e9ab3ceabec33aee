"""A cube that was opened is one version of the store: its pixels are read as they were, or not.

And what is on disk is read as it was written, or not: every byte has a checksum.
"""

from __future__ import annotations

import subprocess
import sys

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from helpers.marks import first_quick

import xharmonize as xh
from xharmonize.testing import example_cube

LATER = ("2018-07-16T10:50", "2018-07-21T10:50")
CHUNKS = (None, {"time": -1, "y": 8, "x": 30}, {"time": 2})


def reads_one_version(opened, *versions):
    """Each date is one of these versions, or an error; return which, 0 for an error."""
    found = []
    for time in opened["time"].values:
        try:
            values = opened.sel(time=time).values
        except xh.errors.StoreError:
            found.append(0)
            continue
        same = [np.array_equal(values, v.sel(time=time), equal_nan=True) for v in versions]
        assert any(same)
        found.append(1 + same.index(True))
    return found


@pytest.mark.parametrize("chunks", CHUNKS)
def test_a_cube_opened_before_the_store_is_replaced_is_refused(chunks, tmp_path):
    old, new = example_cube(), example_cube(seed=9)
    path = xh.to_zarr(old, tmp_path / "a.zarr", shard=16)
    opened = xh.open_series(path, chunks=chunks)
    assert reads_one_version(opened, old) == [1, 1, 1]
    xh.to_zarr(new, path, mode="w", shard=16)
    assert reads_one_version(opened, old, new) == [0, 0, 0]
    assert reads_one_version(xh.open_series(path, chunks=chunks), new) == [1, 1, 1]


def test_a_cube_opened_before_entries_are_replaced_keeps_the_others(tmp_path):
    old, new = example_cube(), example_cube(seed=9)
    path = xh.to_zarr(old, tmp_path / "a.zarr", shard=16)
    opened = xh.open_series(path)
    xh.to_zarr(example_cube(dates=LATER), path, mode="upsert")
    assert reads_one_version(opened, old) == [1, 1, 1]
    xh.to_zarr(new.isel(time=[1]), path, mode="upsert")
    assert reads_one_version(opened, old, new) == [1, 0, 1]


@pytest.mark.parametrize("mode", ["w", "upsert"])
@pytest.mark.parametrize("scheduler", first_quick(["synchronous", "threads"]))
def test_a_store_replaced_in_the_middle_of_a_computation_gives_no_mixture(
    mode, scheduler, tmp_path
):
    """Half of the pixels have been read when the others are replaced."""
    old, new = example_cube(), example_cube(seed=9)
    path = xh.to_zarr(old, tmp_path / "a.zarr", shard=16)
    opened = xh.open_series(path)
    done = []

    def replace(block, block_info=None):
        if block_info and block_info[0]["chunk-location"] == (1, 0, 1, 0) and not done:
            done.append(True)
            with dask.config.set(scheduler="synchronous"):
                xh.to_zarr(new, path, mode=mode)
        return block

    passed = da.map_blocks(replace, opened.data, dtype="f4", meta=opened.data._meta)
    message = None
    with dask.config.set(scheduler=scheduler):
        try:
            np.testing.assert_array_equal(passed.compute(), old)  # all were read before
        except xh.errors.StoreError as error:
            message = str(error)
    assert done
    if scheduler == "synchronous":
        assert "was written to since this cube was opened" in str(message)


def test_a_cube_of_entries_that_are_being_replaced_is_refused(tmp_path):
    old = example_cube()
    path = xh.to_zarr(old, tmp_path / "a.zarr", shard=16)
    opened = xh.open_series(path)
    seen = []

    def look(block):
        seen.append(reads_one_version(opened, old))
        return block

    half = example_cube(seed=9).isel(time=[1, 2]).chunk(time=1, y=16)
    half = half.copy(data=da.map_blocks(look, half.data, dtype="f4", meta=half.data._meta))
    with dask.config.set(scheduler="synchronous"):
        xh.to_zarr(half, path, mode="upsert")
    assert all(row == [1, 0, 0] for row in seen)
    assert seen


def test_the_same_of_an_icechunk_session(tmp_path):
    icechunk = pytest.importorskip("icechunk")
    storage = icechunk.local_filesystem_storage(str(tmp_path / "repo"))
    repository = icechunk.Repository.create(storage)
    old, new = example_cube(), example_cube(seed=9)
    xh.to_zarr(old, repository)
    opened = xh.open_series(repository)
    session = repository.writable_session("main")
    of_session = xh.open_series(session)
    xh.to_zarr(new, session, mode="upsert")
    assert reads_one_version(of_session, old, new) == [0, 0, 0]
    session.commit("replaced")
    assert reads_one_version(opened, old) == [1, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("tile", [16, 64])
@pytest.mark.parametrize("kind", ["reflectance", "encoded"])
def test_a_flipped_bit_gives_the_right_numbers_or_an_error(tile, kind, tmp_path):
    """Pixels, indexes of shards, coordinates, and what the store says of its arrays."""
    cube = example_cube(is_decoded=kind == "reflectance").assign_coords(
        cover=("time", [0.5, 1.5, 2.5]), wavelength=("band", np.arange(6.0)), number=3
    )
    path = xh.to_zarr(cube, tmp_path / "a.zarr", shard=tile)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    random = np.random.default_rng(5)
    errors = 0
    for number in range(60):
        file = files[number % len(files)]
        good = file.read_bytes()
        bad = bytearray(good)
        bad[random.integers(len(bad))] ^= 1 << random.integers(8)
        file.write_bytes(bad)
        try:
            seen = xh.open_series(path).compute()
        except xh.errors.StoreError:
            errors += 1
        else:
            xr.testing.assert_equal(seen, cube)
        file.write_bytes(good)
    assert errors > 30
    xr.testing.assert_equal(xh.open_series(path).compute(), cube)


def test_a_damaged_description_is_not_written_to(tmp_path):
    path = xh.to_zarr(example_cube(), tmp_path / "a.zarr")
    own = path / "reflectance" / "zarr.json"
    own.write_text(own.read_text().replace('"level": 3', '"level": 7'))
    with pytest.raises(xh.errors.StoreError, match=r"is damaged.*\['reflectance'\]"):
        xh.to_zarr(example_cube(dates=LATER), path, mode="upsert")
    xr.testing.assert_equal(xh.open_series(path).compute(), example_cube())


def test_a_title_may_be_changed_by_another_program(tmp_path):
    path = xh.to_zarr(example_cube(), tmp_path / "a.zarr")
    zarr.open_group(path, mode="r+").attrs["title"] = "fields"
    assert xh.open_series(path).sizes["time"] == 3
    xh.to_zarr(example_cube(dates=LATER), path, mode="upsert")
    assert xh.open_series(path).sizes["time"] == 5


WRITER = """
import sys
import numpy as np
import subprocess
import sys

import dask
import xharmonize as xh
from xharmonize.testing import example_cube

dask.config.set(scheduler="synchronous")
path, n_writes = sys.argv[1], int(sys.argv[2])
for number in range(1, n_writes + 1):
    cube = example_cube(chunks={"time": 1})
    cube = cube.copy(data=cube.data * 0 + np.float32(number)).fillna(np.float32(number))
    cube = cube.assign_coords(number=("time", [number] * 3), tile=("time", ["a", "b", "c"]))
    cube = cube.assign_coords(processing_baseline=("time", [f"{number:02d}"] * 3))
    xh.to_zarr(cube, path, mode="upsert" if number % 3 else "w", shard=16)
"""


@pytest.mark.slow
def test_a_reader_beside_a_writer_sees_versions_that_are_whole(tmp_path):
    """Opening and reading race with upserts and swaps of another process."""
    path = tmp_path / "a.zarr"
    code = [sys.executable, "-c", WRITER, str(path)]
    subprocess.run([*code, "1"], check=True)
    writer = subprocess.Popen([*code, "7"])
    seen, refused = set(), 0
    with dask.config.set(scheduler="synchronous"):
        while writer.poll() is None:
            try:
                cube = xh.open_series(path).compute()
            except xh.errors.StoreError:
                refused += 1
                continue
            for date in cube.transpose("time", ...):
                number = int(date["number"])
                assert np.unique(date.values).tolist() == [number]
                assert str(date["processing_baseline"].values) == f"{number:02d}"
                seen.add(number)
    assert writer.returncode == 0
    assert seen
    assert int(xh.open_series(path)["number"].max()) == 7
