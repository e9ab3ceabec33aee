"""Stores by URL, in a real S3 over HTTP on loopback: plain Zarr and Icechunk.

Run as a script, this file is a writer, which may die or pause in the middle of its pixels.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from helpers.object_store import environment, files, options_of

import xharmonize as xh
from xharmonize.testing import assert_lazy, example_cube

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")

LATER = ("2018-07-11T10:50", "2018-07-16T10:50")
SERIES = "s3://bucket/folder/series.zarr"


def test_a_series_by_url_grows_and_plain_xarray_reads_it(options):
    cube, later = example_cube(chunks={"time": 1, "y": 10}), example_cube(dates=LATER, seed=3)
    assert cube.harmonize.to_zarr(SERIES, storage_options=options, shard=16) == SERIES
    series = xh.open_series(SERIES, storage_options=options)
    assert_lazy(series)
    xr.testing.assert_equal(series.compute(), cube.compute())
    xh.to_zarr(later, SERIES, mode="upsert", storage_options=options)
    expected = xr.concat([cube.compute()[:-1], later], "time", coords="minimal", compat="override")
    found = xh.open_series(SERIES, storage_options=options)
    xr.testing.assert_equal(found.compute(), expected)
    plain = xr.open_zarr(SERIES, storage_options=options)
    np.testing.assert_array_equal(plain["reflectance"], expected)
    with pytest.raises(xh.errors.StoreError, match="written to since this cube was opened"):
        series.compute()
    for mode in ("w-", "w"):
        with pytest.raises(xh.errors.StoreError, match=r"exists, and object stores .* Icechunk"):
            xh.to_zarr(cube, SERIES, mode=mode, storage_options=options)
    assert not files(options).exists("s3://bucket/folder/.series.zarr.lock")


def test_a_lock_of_a_living_writer_is_refused_and_of_a_dead_one_taken_over(options):
    lock = "s3://bucket/folder/.series.zarr.lock"
    files(options).pipe_file(lock, json.dumps({"pid": 7, "host": "far", "machine": "x"}).encode())
    with pytest.raises(xh.errors.StoreError, match=rf"process 7 on host far.*delete {lock}"):
        xh.to_zarr(example_cube(), SERIES, storage_options=options)
    with pytest.raises(xh.errors.StoreError, match="there is no store at"):
        xh.open_series(SERIES, storage_options=options)
    from xharmonize._owner import machine

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    said = {"pid": dead.pid, "host": "here", "machine": machine()}
    files(options).pipe_file(lock, json.dumps(said).encode())
    xh.to_zarr(example_cube(), SERIES, storage_options=options)
    assert not files(options).exists(lock)


def test_bad_urls_say_what_is_wrong(options, monkeypatch, tmp_path):
    cube, store = example_cube(), xh.errors.StoreError
    with pytest.raises(store, match=r"whether memory:// has conditional writes.*s3://.*Icechunk"):
        xh.to_zarr(cube, "memory://x.zarr")
    with pytest.raises(store, match=r"nothing can be written to .*make the bucket first"):
        xh.to_zarr(cube, "s3://nowhere/x.zarr", storage_options=options)
    with pytest.raises(store, match="there is no store at s3://nowhere"):
        xh.open_series("s3://nowhere/x.zarr", storage_options=options)
    quick = {"config_kwargs": {"retries": {"max_attempts": 0}}}
    with pytest.raises(store, match=r"cannot be reached: .*endpoint and credentials"):
        xh.open_series(SERIES, storage_options=options_of("http://127.0.0.1:9", **quick))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(store, match=r"cannot be reached: .*credentials"):
        xh.to_zarr(cube, SERIES, storage_options={"endpoint_url": options["endpoint_url"]})
    if find_spec("gcsfs") is None:
        with pytest.raises(xh.errors.MissingDependencyError, match=r"gs://bucket/x\.zarr needs"):
            xh.open_series("gs://bucket/x.zarr")
    with pytest.raises(store, match="storage_options"):
        xh.to_zarr(cube, tmp_path / "x.zarr", storage_options=options)


def test_a_url_that_was_made_a_path_is_refused(tmp_path):
    for url in (SERIES, "file:///scratch/x.zarr"):
        for call in (xh.open_series, partial(xh.to_zarr, example_cube())):
            with pytest.raises(xh.errors.StoreError, match=f"lost a slash.*give text: '{url}'"):
                call(Path(url))
    xh.to_zarr(example_cube(), f"file://{tmp_path}/x.zarr")
    assert xh.open_series(tmp_path / "x.zarr").sizes["time"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["az", "abfs"])
def test_azure_takes_one_writer_at_a_time_too(kind, tmp_path):
    """Needs adlfs and Azurite (``npm install azurite``), which speaks Azure's protocol."""
    pytest.importorskip("adlfs")
    azurite = shutil.which("azurite-blob") or pytest.skip("Azurite is not installed")
    quiet = ["--silent", "--disableTelemetry", "--inMemoryPersistence", "--skipApiVersionCheck"]
    command = [azurite, *quiet, "--blobHost", "127.0.0.1", "--blobPort", "0"]
    code = AZURE.format(kind=kind)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as server:
        try:
            lines = (re.search(r"listens on (http://\S+)", line) for line in server.stdout)
            url = next(filter(None, lines))[1]
            done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True)
        finally:
            server.terminate()
    # In a process of its own: the plugin's clients complain at exit, once the server is gone.
    assert "process 7 on host far" in done.stdout, done.stderr
    assert done.stdout.splitlines()[0] == "4"


AZURE = """
import sys, fsspec, xharmonize as xh
from xharmonize.testing import example_cube
key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
account = "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=" + key
options = {{"connection_string": account + f";BlobEndpoint={{sys.argv[1]}}/devstoreaccount1;"}}
files = fsspec.filesystem("abfs", **options)
files.mkdir("bucket")
place = "{kind}://bucket/folder/series.zarr"
xh.to_zarr(example_cube(), place, storage_options=options)
later = example_cube(dates=("2018-07-11T10:50", "2018-07-16T10:50"), seed=3)
xh.to_zarr(later, place, mode="upsert", storage_options=options)
print(xh.open_series(place, storage_options=options).load().sizes["time"])
lock = "bucket/folder/.series.zarr.lock"
assert not files.exists(lock)
files.pipe_file(lock, b'{{"pid": 7, "host": "far", "machine": "x"}}')
try:
    xh.to_zarr(later, place, mode="upsert", storage_options=options)
except xh.errors.StoreError as error:
    print(error)
"""
# The key is the one that every Azurite has.


def pause(block, *, folder, die):
    """Say that this writer fills; then die, or wait to be let on."""
    (Path(folder) / "filling").touch()
    if die:
        os.kill(os.getpid(), signal.SIGKILL)
    end = time.monotonic() + 60
    while not (Path(folder) / "go").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    return block


def pausing(cube: xr.DataArray, folder: str, *, die: bool) -> xr.DataArray:
    data = cube.chunk(time=1).data
    kept = da.map_blocks(pause, data, folder=folder, die=die, dtype="f4", meta=data._meta)
    return cube.copy(data=kept)


def start(kind: str, endpoint: str, folder: Path, *, die: bool) -> subprocess.Popen:
    command = [sys.executable, __file__, kind, endpoint, str(folder), str(int(die))]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment())


def repository_at(endpoint: str):
    icechunk = pytest.importorskip("icechunk")
    storage = icechunk.s3_storage(
        bucket="bucket", prefix="repository", endpoint_url=endpoint, allow_http=True,
        force_path_style=True, region="us-east-1", access_key_id="a", secret_access_key="b",
    )  # fmt: skip
    return icechunk.Repository.open_or_create(storage)


def place_of(kind: str, endpoint: str) -> tuple:
    if kind == "url":
        return SERIES, {"storage_options": options_of(endpoint)}
    return repository_at(endpoint), {}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["url", "icechunk"])
@pytest.mark.parametrize("die", [False, True])
def test_a_second_process_reads_while_one_writes_or_dies(kind, die, options, tmp_path):
    endpoint = options["endpoint_url"]
    place, said = place_of(kind, endpoint)
    old, later = example_cube(), example_cube(dates=LATER, seed=3)
    xh.to_zarr(old, place, **said)
    writer = start(kind, endpoint, tmp_path, die=die)
    end = time.monotonic() + 60
    while not (tmp_path / "filling").exists():
        assert time.monotonic() < end
        assert writer.poll() is None, writer.stderr.read()
        time.sleep(0.02)
    seen = xh.open_series(place, **said)
    # A date that is being replaced is hidden in a plain store; in Icechunk main has not moved.
    kept = old if kind == "icechunk" else old[:-1]
    xr.testing.assert_equal(seen.compute(), kept)
    (tmp_path / "go").touch()
    assert writer.wait(60) == (-signal.SIGKILL if die else 0), writer.stderr.read()
    if die:
        xr.testing.assert_equal(xh.open_series(place, **said).compute(), kept)
        xh.to_zarr(later, place, mode="upsert", **said)
    expected = xr.concat([old[:-1], later], "time", coords="minimal", compat="override")
    xr.testing.assert_equal(xh.open_series(place, **said).compute(), expected)
    if kind == "icechunk":
        assert place.list_branches() == {"main"}, "what a killed writer left is swept"


DIE_UNBORN = """
import os, signal, sys
import xharmonize as xh
from helpers.object_store import options_of
from xharmonize._urls import Remote
from xharmonize.testing import example_cube
write, calls = Remote.write, []
def deadly(self, name, data):
    calls.append(name)
    if len(calls) == 2:  # all arrays are there, the root document is not published
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, name, data)
Remote.write = deadly
xh.to_zarr(example_cube(dates=["2017-01-01"]), sys.argv[1], storage_options=options_of(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_store_whose_writer_was_killed_before_it_was_born_is_made_anew(options):
    command = [sys.executable, "-c", DIE_UNBORN, SERIES, options["endpoint_url"]]
    assert subprocess.run(command, env=environment()).returncode == -signal.SIGKILL
    assert files(options).exists("bucket/folder/series.zarr/reflectance/zarr.json")
    with pytest.raises(xh.errors.StoreError, match="there is no store at"):
        xh.open_series(SERIES, storage_options=options)
    cube = example_cube()
    xh.to_zarr(cube, SERIES, storage_options=options)
    xr.testing.assert_equal(xh.open_series(SERIES, storage_options=options).compute(), cube)


@pytest.mark.slow
def test_workers_write_icechunk_on_s3_and_one_is_killed(options, tmp_path):
    distributed = pytest.importorskip("distributed")
    repository = repository_at(options["endpoint_url"])
    cube = example_cube(dates=[f"2018-07-{day:02d}" for day in range(1, 9)], shape=(64, 64))
    lazy = cube.chunk(time=1)
    (tmp_path / "go").touch()
    mark = str(tmp_path / "died")

    def die_once(block):
        if block.size and block[0, 0, 0, 0] == cube.values[3, 0, 0, 0] and not os.path.exists(mark):
            Path(mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return block

    data = da.map_blocks(die_once, lazy.data, dtype="f4", meta=lazy.data._meta)
    with distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        xh.to_zarr(lazy.copy(data=data), repository, shard=32)
    assert Path(mark).exists()
    xr.testing.assert_equal(xh.open_series(repository).compute(), cube)
    store = repository.readonly_session("main").store
    plain = xr.open_zarr(store, consolidated=False)
    np.testing.assert_array_equal(plain["reflectance"], cube)


if __name__ == "__main__":
    kind, endpoint, folder, die = sys.argv[1:]
    place, said = place_of(kind, endpoint)
    later = example_cube(dates=LATER, seed=3)
    xh.to_zarr(pausing(later, folder, die=bool(int(die))), place, mode="upsert", **said)
