"""A writer killed (SIGKILL) before any of its changes to the file system, and run again.

Run as a script, this file forks one writer per kill point from a process that has imported
everything. The tests kill at every n-th point, at more with ``pytest -m slow``, at still more with
``-m exhaustive``; every single one is tried (minutes) with
``python tests/io/test_store_kill.py upsert grown synchronous 1 <empty folder>``.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr

OLD_DATES = ("2018-07-01T10:50", "2018-07-06T10:50")
NEW_DATES = ("2018-07-06T10:50", "2018-07-11T10:50", "2018-07-16T10:50")  # one replaced, two new
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
EVENTS = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link"}


@pytest.mark.parametrize(
    ("mode", "start", "scheduler", "step", "least"),
    [
        pytest.param("upsert", "grown", "synchronous", 29, 5, marks=pytest.mark.slow),
        ("upsert", "grown", "threads", 97, 2),
        pytest.param("upsert", "absent", "synchronous", 151, 2, marks=pytest.mark.slow),
        pytest.param("w", "grown", "synchronous", 151, 2, marks=pytest.mark.slow),
        pytest.param("w", "absent", "synchronous", 197, 2, marks=pytest.mark.slow),
        pytest.param("upsert", "grown", "synchronous", 7, 20, marks=pytest.mark.exhaustive),
        pytest.param("upsert", "grown", "threads", 31, 5, marks=pytest.mark.exhaustive),
        pytest.param("upsert", "absent", "synchronous", 47, 6, marks=pytest.mark.exhaustive),
        pytest.param("w", "grown", "synchronous", 47, 8, marks=pytest.mark.exhaustive),
        pytest.param("w", "absent", "synchronous", 47, 5, marks=pytest.mark.exhaustive),
    ],
)
def test_a_write_killed_anywhere_and_run_again_gives_equal_values(
    mode, start, scheduler, step, least, tmp_path
):
    command = [sys.executable, __file__, mode, start, scheduler, str(step), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    killed = int(done.stdout.split()[-1])
    assert killed >= least, done.stdout


def old_cube() -> xr.DataArray:
    from xharmonize.testing import example_cube

    return example_cube(dates=OLD_DATES, chunks={"time": 1, "y": 20, "x": 11})


def new_cube() -> xr.DataArray:
    from xharmonize.testing import example_cube

    return example_cube(
        dates=NEW_DATES, platform="sentinel-2b", seed=7, chunks={"time": 1, "y": 20, "x": 11}
    )


@functools.cache
def whole() -> dict[tuple[str, str], xr.DataArray]:
    """Each date of both cubes in memory, made once for all forks."""
    return {
        (str(t), str(p)): cube.sel(time=t)
        for cube in (old_cube().compute(), new_cube().compute())
        for t, p in zip(cube.time.values, cube.platform.values)
    }


def write(store: Path, cube: xr.DataArray, mode: str) -> None:
    from xharmonize.io.zarr.store import to_zarr

    to_zarr(cube, store, mode=mode, shard=16)


def die_before(event: int, folder: Path) -> None:
    """Kill this process before its `event`-th change under `folder`."""
    seen = 0

    def hook(name: str, args: tuple) -> None:
        nonlocal seen
        is_change = name in EVENTS or (name == "open" and bool((args[2] or 0) & WRITES))
        if is_change and str(args[0]).startswith(str(folder)):
            seen += 1
            if seen == event:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a fork; return 0, the negative signal, or 1 on an exception."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def check_after_kill(store: Path) -> None:
    """What a reader sees is old or new entries, whole; never a mixture, never a hole."""
    from xharmonize.io.zarr.store import open_series

    if not store.exists():
        return
    seen = open_series(store).compute()
    plain = xr.open_zarr(store, decode_coords="all").load()
    assert plain.sizes["time"] >= seen.sizes["time"]
    for i, (time, platform) in enumerate(zip(seen.time.values, seen.platform.values)):
        expected = whole()[str(time), str(platform)]
        np.testing.assert_array_equal(seen[i].values, expected.values)
        np.testing.assert_array_equal(seen[i].scale.values, expected.scale.values)


def check_after_rerun(store: Path, expected: xr.DataArray) -> None:
    from xharmonize.io.zarr.store import open_series

    actual = open_series(store).compute()
    xr.testing.assert_equal(actual, expected)
    plain = xr.open_zarr(store, decode_coords="all").load()
    assert plain.sizes["time"] == expected.sizes["time"], "rows that nobody owns"
    assert plain["complete"].values.all()
    assert [p.name for p in store.parent.iterdir()] == [store.name]
    assert not list(store.rglob("*.partial"))


def main(mode: str, start: str, scheduler: str, step: int, folder: Path) -> int:
    dask.config.set(scheduler="synchronous")  # a pool of threads would not survive the fork
    template, expected = folder / "template", new_cube().compute()
    if start == "grown":
        write(template / "series.zarr", old_cube(), "w")
        if mode == "upsert":
            kept = old_cube().compute().isel(time=[0])
            expected = xr.concat([kept, expected], "time", coords="minimal", compat="override")
    else:
        template.mkdir()
    write(folder / "warm.zarr", old_cube(), "w")  # what forks would do again and again is done here
    check_after_kill(folder / "warm.zarr")
    for killed, event in enumerate(range(1, 10_000, step)):
        place = folder / "place"
        shutil.copytree(template, place)
        store = place / "series.zarr"

        def killed_write(event: int = event, place: Path = place, store: Path = store) -> None:
            dask.config.set(scheduler=scheduler, num_workers=2)
            die_before(event, place)
            write(store, new_cube(), mode)

        outcome = in_child(killed_write)
        if outcome == 0:
            print(f"{mode} {start} {scheduler}: kill points tried:", killed)
            return 0
        if outcome != -signal.SIGKILL:
            return 1

        def inspect_and_rerun(store: Path = store) -> None:
            check_after_kill(store)
            write(store, new_cube(), mode)
            check_after_rerun(store, expected)

        if in_child(inspect_and_rerun) != 0:
            print(f"failed after a kill before event {event}")
            return 1
        shutil.rmtree(place)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), Path(sys.argv[5])))
