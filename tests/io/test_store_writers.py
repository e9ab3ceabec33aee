"""Two processes that write one store at once: different entries both end up whole.

Run as a script, this file is one of the writers. Each pauses in the middle of its pixels until the
other is there too, so that both fill at once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.testing import example_cube

DATES = {
    "west": ("2018-07-06T10:50", "2018-07-11T10:50"),
    "east": ("2018-07-11T10:50", "2018-07-16T10:50"),
}


def cube_of(tile: str) -> xr.DataArray:
    """Two dates of one tile; both tiles have the middle date."""
    cube = example_cube(dates=DATES[tile], seed=len(tile) + ord(tile[0]))
    return cube.assign_coords(tile=("time", [tile] * 2))


def meet(block, *, folder, me, other, die, limit=40.0):
    """Say that this writer fills, and wait for the other one."""
    (Path(folder) / me).touch()
    end = time.monotonic() + limit
    while not (Path(folder) / other).exists():
        if time.monotonic() > end:
            raise TimeoutError(other)
        time.sleep(0.01)
    if die:
        os.kill(os.getpid(), signal.SIGKILL)
    return block


def write(store: str, tile: str, other: str, *, die: bool) -> None:
    cube = cube_of(tile).chunk(time=1, y=12)
    folder = str(Path(store).parent)
    data = da.map_blocks(
        meet, cube.data, folder=folder, me=tile, other=other, die=die, dtype="f4",
        meta=cube.data._meta,
    )  # fmt: skip
    xh.to_zarr(cube.copy(data=data), store, mode="upsert", shard=16)


def start(store: Path, tile: str, other: str, *, die: bool = False) -> subprocess.Popen:
    command = [sys.executable, __file__, str(store), tile, other, str(int(die))]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def first(store: Path) -> xr.DataArray:
    old = example_cube(dates=("2018-07-01T10:50",), chunks={"time": 1})
    xh.to_zarr(old, store, shard=16)
    return old.compute()


def joined(*cubes: xr.DataArray) -> xr.DataArray:
    cube = xr.concat(cubes, "time", coords="minimal", compat="override")
    order = np.lexsort((cube["tile"].values, cube["time"].values))
    return cube.isel(time=order)


def wait_for(file: Path) -> None:
    end = time.monotonic() + 40
    while not file.exists():
        assert time.monotonic() < end, f"{file.name} never came"
        time.sleep(0.01)


def leftovers(store: Path) -> list[str]:
    own = {store.name, "west", "east", "nobody"}
    return [p.name for p in store.parent.iterdir() if p.name not in own]


@pytest.mark.slow
def test_two_processes_fill_at_once_and_both_end_up_whole(tmp_path):
    store = tmp_path / "series.zarr"
    old = first(store)
    writers = [start(store, "west", "east"), start(store, "east", "west")]
    for writer in writers:
        assert writer.wait(60) == 0, writer.stderr.read()
    expected = joined(old, cube_of("west"), cube_of("east"))
    xr.testing.assert_equal(xh.open_series(store).compute(), expected)
    plain = xr.open_zarr(store)
    assert plain.sizes["time"] == 5
    assert plain["complete"].values.all()
    assert leftovers(store) == []


@pytest.mark.slow
def test_one_of_two_killed_while_filling_leaves_nothing_that_is_read(tmp_path):
    store = tmp_path / "series.zarr"
    old = first(store)
    killed, other = start(store, "west", "east", die=True), start(store, "east", "west")
    assert killed.wait(60) == -signal.SIGKILL
    assert other.wait(60) == 0, other.stderr.read()
    seen = xh.open_series(store).compute()
    xr.testing.assert_equal(seen, joined(old, cube_of("east")))
    xh.to_zarr(cube_of("west"), store, mode="upsert")
    expected = joined(old, cube_of("west"), cube_of("east"))
    xr.testing.assert_equal(xh.open_series(store).compute(), expected)
    assert xr.open_zarr(store).sizes["time"] == 5, "rows that nobody owns"
    assert leftovers(store) == []


def test_entries_that_another_process_writes_are_refused(tmp_path):
    store = tmp_path / "series.zarr"
    old = first(store)
    writer = start(store, "west", "nobody")
    wait_for(tmp_path / "west")
    xr.testing.assert_equal(xh.open_series(store).compute(), old)
    with pytest.raises(xh.errors.StoreError, match=r"another process writes \(2018-07-06.*west\)"):
        xh.to_zarr(cube_of("west"), store, mode="upsert")
    with pytest.raises(xh.errors.StoreError, match="another process writes 2 entries of it"):
        xh.to_zarr(cube_of("east"), store, mode="w")
    xh.to_zarr(cube_of("east"), store, mode="upsert")
    xr.testing.assert_equal(xh.open_series(store).compute(), joined(old, cube_of("east")))
    (tmp_path / "nobody").touch()
    assert writer.wait(60) == 0, writer.stderr.read()
    expected = joined(old, cube_of("west"), cube_of("east"))
    xr.testing.assert_equal(xh.open_series(store).compute(), expected)
    assert leftovers(store) == []


if __name__ == "__main__":
    write(sys.argv[1], sys.argv[2], sys.argv[3], die=bool(int(sys.argv[4])))
