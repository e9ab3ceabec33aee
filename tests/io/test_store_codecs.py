"""Pixels coded by zarrs are the same as by zarr-python, and damage is told by either."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from helpers.marks import first_quick

import xharmonize as xh
from xharmonize.io.zarr import codecs
from xharmonize.testing import example_cube

pytest.importorskip("zarrs")
BOTH = ("zarrs", "zarr-python")


@pytest.fixture
def used(monkeypatch):
    """How often zarrs read and wrote whole shards."""
    counts = {"read": 0, "write": 0}
    read, write = codecs.read_whole, codecs.write_whole

    def count_read(*args):
        found = read(*args)
        counts["read"] += found is not None
        return found

    def count_write(*args):
        counts["write"] += 1
        write(*args)

    monkeypatch.setattr("xharmonize.io.zarr.reading.read_whole", count_read)
    monkeypatch.setattr("xharmonize.io.zarr.write.write_whole", count_write)
    return counts


def cubes():
    """Reflectance, digital numbers, and a Dataset with flags, by kind."""
    plain = example_cube()
    return {
        "reflectance": plain,
        "encoded": example_cube(is_decoded=False),
        "companions": xr.Dataset(
            {
                "reflectance": plain,
                "cloudy": plain.isel(band=0, drop=True) > 0.1,
                "origin": (plain.isel(band=0, drop=True) * 100).fillna(0).astype("uint8"),
            }
        ),
    }


@pytest.mark.parametrize("kind", first_quick(["companions", "encoded", "reflectance"]))
@pytest.mark.parametrize("writer", BOTH)
def test_each_reads_what_the_other_wrote(kind, writer, tmp_path, used):
    cube = cubes()[kind]
    with xh.set_options(codecs=writer):
        path = xh.to_zarr(cube, tmp_path / "a.zarr", shard=16)
    assert (used["write"] > 0) == (writer == "zarrs")
    for reader in BOTH:
        with xh.set_options(codecs=reader):
            opened = xh.open_series(path)
        xr.testing.assert_identical(opened.compute().drop_attrs(), cube.drop_attrs())
        parts = xh.open_series(path, chunks={"time": 2, "y": 7, "x": 11})
        xr.testing.assert_equal(parts.compute(), cube)
        for piece in ({"y": slice(3, 20), "x": 5}, {"time": -1}, {"time": [2, 0], "y": slice(16)}):
            xr.testing.assert_equal(opened.isel(piece).compute(), cube.isel(piece))
    plain = xr.open_zarr(path)
    names = list(cube.data_vars) if isinstance(cube, xr.Dataset) else ["reflectance"]
    for name in names:
        held = cube[name] if isinstance(cube, xr.Dataset) else cube
        np.testing.assert_array_equal(plain[name].values, held.values)
    assert used["read"] > 0


def test_the_same_bytes_lie_on_disk(tmp_path):
    """But for the order of chunks in a shard: sizes, and chunks that hold nothing, are the same."""
    cube = example_cube(missing=0.0)
    cube = cube.where(cube["y"] > cube["y"].values[16])  # the last row of shards is empty
    sizes = []
    for writer in BOTH:
        with xh.set_options(codecs=writer):
            path = xh.to_zarr(cube, tmp_path / writer, shard=16)
        files = (path / "reflectance" / "c").rglob("*")
        sizes.append({f.relative_to(path): f.stat().st_size for f in files if f.is_file()})
    assert sizes[0] == sizes[1]
    assert len(sizes[0]) == 3 * 2  # three dates, two shards in the upper row


def test_an_entry_that_becomes_empty_leaves_no_old_pixels(tmp_path):
    cube = example_cube()
    path = xh.to_zarr(cube, tmp_path / "a.zarr", shard=16)
    xh.to_zarr(cube.isel(time=[1]) * np.nan, path, mode="upsert")
    opened = xh.open_series(path)
    assert np.isnan(opened.isel(time=1).values).all()
    np.testing.assert_array_equal(opened.isel(time=0).values, cube.isel(time=0).values)


@pytest.mark.parametrize("part", ["end", "middle"])
def test_a_damaged_shard_is_an_error_in_whole_and_in_part(part, tmp_path, used):
    """zarrs by itself gives wrong numbers for shards at the end of an array, and for parts."""
    cube = example_cube(missing=0.0, is_decoded=False)
    path = xh.to_zarr(cube, tmp_path / "a.zarr", shard=16)
    row = 1 if part == "end" else 0
    (file,) = (path / "reflectance" / "c" / "0" / "0" / str(row)).glob("0")
    good = file.read_bytes()
    for at in range(0, len(good), max(1, len(good) // 8)):
        bad = bytearray(good)
        bad[at] ^= 4
        file.write_bytes(bad)
        for chunks in (None, {"time": 1, "y": 8, "x": 8}):
            opened = xh.open_series(path, chunks=chunks).isel(time=0)
            with pytest.raises(xh.errors.StoreError, match="damaged"):
                opened.compute()
    assert used["read"] > 0


def test_a_shard_that_is_missing_or_cut_off(tmp_path):
    cube = example_cube(missing=0.0)
    path = xh.to_zarr(cube, tmp_path / "a.zarr", shard=16)
    first = path / "reflectance" / "c" / "0" / "0" / "0" / "0"
    content = first.read_bytes()
    first.unlink()
    assert np.isnan(xh.open_series(path).isel(time=0).values[:, :16, :16]).all()
    first.write_bytes(content[: len(content) // 2])
    with pytest.raises(xh.errors.StoreError, match="damaged"):
        xh.open_series(path).isel(time=0).compute()


def read_in_child(path, result):
    result.put(xh.open_series(path).sum().compute(scheduler="synchronous").item())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_does_not_wait_for_threads_that_it_has_not(tmp_path, used):
    path = xh.to_zarr(example_cube(), tmp_path / "a.zarr", shard=16)
    opened = xh.open_series(path)
    expected = opened.sum().compute().item()
    assert used["read"] > 0
    context = multiprocessing.get_context("fork")
    for target, args in ((read_in_child, path), (_sum_in_child, opened)):
        result = context.SimpleQueue()
        child = context.Process(target=target, args=(args, result))
        child.start()
        child.join(30)
        is_alive = child.is_alive()
        child.kill()
        assert not is_alive
        assert result.get() == pytest.approx(expected)


def _sum_in_child(opened, result):
    result.put(opened.sum().compute(scheduler="synchronous").item())


def test_graphs_go_to_other_processes(tmp_path):
    cube = example_cube()
    path = xh.to_zarr(cube, tmp_path / "a.zarr", shard=16)
    opened = xh.open_series(path)
    opened.compute()
    again = pickle.loads(pickle.dumps(opened))
    xr.testing.assert_identical(again.compute(), opened.compute())


def test_users_settings_of_zarr_stay_as_they_are(tmp_path):
    before = zarr.config.get("codec_pipeline")
    seen = []
    cube = example_cube(chunks={"time": 1})
    looked = cube.copy(
        data=cube.data.map_blocks(
            lambda block: seen.append(zarr.config.get("codec_pipeline.path")) or block,
            dtype="f4",
            meta=cube.data._meta,
        )
    )
    path = xh.to_zarr(looked, tmp_path / "a.zarr")
    xh.open_series(path).compute()
    assert zarr.config.get("codec_pipeline") == before
    assert set(seen) == {before["path"]}


@pytest.mark.parametrize(
    ("compression", "is_decoded", "codec"),
    [("small", True, ("zstd", 3)), ("small", False, ("zstd", 1)), ("fast", True, ("blosc", "lz4"))],
)
def test_what_compresses_pixels(compression, is_decoded, codec, tmp_path):
    cube = example_cube(is_decoded=is_decoded)
    with xh.set_options(compression=compression):
        path = xh.to_zarr(cube, tmp_path / "a.zarr")
    first, check = zarr.open_array(path, path="reflectance").compressors
    told = first.to_dict()["configuration"]
    assert (first.to_dict()["name"], told.get("cname", told.get("level"))) == codec
    assert check.to_dict()["name"] == "crc32c"
    later = example_cube(is_decoded=is_decoded, dates=("2018-07-16T10:50",))
    xh.to_zarr(later, path, mode="upsert")  # whatever is set now
    xr.testing.assert_equal(xh.open_series(path).isel(time=slice(3)).compute(), cube)


def test_zarr_python_is_used_where_zarrs_cannot_be(tmp_path, used):
    import zarr.storage

    cube = example_cube()
    with xh.set_options(codecs="zarr-python"):
        path = xh.to_zarr(cube, tmp_path / "a.zarr")
        xh.open_series(path).compute()
    assert used == {"read": 0, "write": 0}
    memory = zarr.create_array(zarr.storage.MemoryStore(), shape=(4, 4), dtype="f4")
    assert codecs.by_zarrs(memory, None) is None
    text = zarr.create_array(tmp_path / "text", shape=(4,), dtype="str")
    assert codecs.by_zarrs(text, None) is None
    swapped = zarr.create_array(tmp_path / "swapped", shape=(4,), dtype=">f4")
    assert codecs.by_zarrs(swapped, None) is None


@pytest.mark.slow
def test_nothing_is_said_at_the_end_of_a_process(tmp_path):
    """Reading in threads that are still at it, and after an error."""
    path = xh.to_zarr(example_cube(), tmp_path / "a.zarr", shard=16)
    code = (
        "import sys, dask, numpy as np, xharmonize as xh\n"
        "def fail(block):\n    raise ValueError('no') if block.size else None\n"
        "cube = xh.open_series(sys.argv[1])\n"
        "cube.compute()\n"
        "try: cube.data.map_blocks(fail, dtype='f4', meta=cube.data._meta).compute()\n"
        "except ValueError: print('raised')"
    )
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout == "raised\n"
    assert done.stderr == ""


@pytest.mark.slow
def test_worker_processes_read_and_write_by_zarrs(client, tmp_path):
    cube = example_cube(chunks={"time": 1})
    path = xh.to_zarr(cube, tmp_path / "a.zarr", shard=16)
    with dask.config.set(scheduler=client):
        xr.testing.assert_equal(xh.open_series(path).compute(), cube.compute())
