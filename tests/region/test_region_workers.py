"""Tiles as tasks of worker processes; a process killed and run again gives the same stores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize import region
from xharmonize.testing import example_cube

DATES = [str(day) for day in np.arange("2018-07-01", "2018-08-10", dtype="datetime64[D]")]
"""More than two commits of dates."""
BOX = (3.0, 50.8, 3.05, 50.85)


def tiles() -> tuple[region.Tile, ...]:
    return region.square_tiles(BOX, crs=32631, resolution=10, pixels=256)[:3]


def job(tile: region.Tile, *, pause: float = 0.0) -> xr.DataArray:
    """Forty dates of a tile, each of which takes a while."""
    import dask.array as da

    cube = example_cube(dates=DATES, seed=int(tile.bounds[0]))

    def block(values):
        time.sleep(pause)
        return values

    lazy = da.from_array(cube.values, chunks=(1, -1, -1, -1))
    lazy = lazy.map_blocks(block, dtype=cube.dtype, meta=np.empty((0,) * 4, cube.dtype))
    return cube.copy(data=lazy)


def slow_job(tile: region.Tile) -> xr.DataArray:
    return job(tile, pause=0.05)


def broken_job(tile: region.Tile) -> xr.DataArray:
    if tile == tiles()[1]:
        raise OSError("no such bucket")
    return job(tile)


def deadly_job(tile: region.Tile) -> xr.DataArray:
    if tile == tiles()[1]:
        os.kill(os.getpid(), signal.SIGKILL)
    return slow_job(tile)


def require_whole(jobs: region.Region) -> None:
    for tile in jobs.tiles:
        xr.testing.assert_equal(
            xh.open_series(jobs.path(tile)).compute().drop_attrs(),
            job(tile).compute().drop_attrs(),
        )


def test_workers_take_tiles_and_tell_their_failures(client, tmp_path):
    told: list[str] = []
    jobs = region.plan(broken_job, tiles=tiles(), out=tmp_path)
    status = jobs.run(client, progress=told.append)
    assert sorted(status["state"]) == ["failed", "whole", "whole"]
    assert status.loc[tiles()[1].name, "reason"] == "OSError: no such bucket"
    assert len(told) == 3
    mended = region.plan(job, tiles=tiles(), out=tmp_path)
    status = mended.run(client)
    assert status["written"].to_list() == [0, len(DATES), 0]
    require_whole(mended)
    schedulers = set(client.run(lambda: str(__import__("dask").config.get("scheduler", None))))
    assert len(schedulers) == 2  # addresses
    assert set(client.run(lambda: __import__("dask").config.get("scheduler", None)).values()) == {
        None
    }


@pytest.mark.slow
def test_a_tile_that_kills_its_workers_is_told_and_the_others_are_done(tmp_path):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        jobs = region.plan(deadly_job, tiles=tiles(), out=tmp_path)
        status = jobs.run(client)
        name = tiles()[1].name
        assert status.loc[name, "state"] == "failed"
        assert "KilledWorker" in status.loc[name, "reason"]
        mended = region.plan(job, tiles=tiles(), out=tmp_path)
        assert set(mended.run(client)["state"]) == {"whole"}
    require_whole(mended)


def held(store: Path) -> int:
    """Dates in a store; none while it is being made."""
    from xharmonize.io.zarr.missing import held_keys

    return len(held_keys(store))


@pytest.mark.slow
def test_a_killed_process_goes_on_after_its_last_commit(tmp_path):
    code = (
        "import sys\n"
        f"sys.path[:0] = {[str(Path(__file__).parent)]!r}\n"
        "import dask, test_region_workers as here\n"
        "from xharmonize import region\n"
        "with dask.config.set(scheduler='synchronous'):\n"
        f"    region.plan(here.slow_job, tiles=here.tiles(), out={str(tmp_path)!r}).run()\n"
    )
    jobs = region.plan(job, tiles=tiles(), out=tmp_path)
    second = jobs.path(tiles()[1])
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        until = time.monotonic() + 120
        while held(second) == 0 and time.monotonic() < until:
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    status = jobs.status()
    assert status["state"].to_list() == ["whole", "begun", "missing"]
    there = int(status["dates"].iloc[1])
    assert 0 < there < len(DATES)
    status = jobs.run()
    assert set(status["state"]) == {"whole"}
    assert status["written"].to_list() == [0, len(DATES) - there, len(DATES)]
    require_whole(jobs)
