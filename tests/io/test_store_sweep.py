"""A write that dies, or fails, at each of its changes to the file system, and what comes after it.

Every file-system event of an upsert and of ``mode="w"`` is a point at which the process is killed
(SIGKILL), or at which the file system refuses (OSError). Each is followed by a smaller write and by
a larger one. Run as a script, this file forks one writer per point from a process that has imported
everything; ``pytest -m slow`` takes every 17th point, ``pytest -m exhaustive`` all of them.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr

HERE = Path(__file__)
sys.path.insert(0, str(HERE.parent))  # for test_store_kill, in the script too

from test_store_kill import WRITES, in_child  # noqa: E402

from xharmonize.errors import StoreError  # noqa: E402

EVENTS = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link"}
DAYS = {"old": (1, 6), "new": (6, 11, 16), "own": (11,), "other": (21,), "all": (1, 6, 11, 16, 21)}
SEEDS = {"old": 1, "new": 2, "own": 3, "other": 4, "all": 5}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["upsert", "w"])
def test_a_write_killed_at_some_events_and_followed_by_others(mode, tmp_path):
    sweep(mode, "kill", 17, tmp_path, least=5)


@pytest.mark.slow
def test_an_upsert_refused_at_some_events_and_followed_by_others(tmp_path):
    sweep("upsert", "fail", 23, tmp_path, least=4)


@pytest.mark.exhaustive
@pytest.mark.parametrize("how", ["kill", "fail"])
@pytest.mark.parametrize("mode", ["upsert", "w"])
def test_a_write_ended_at_every_event_and_followed_by_others(mode, how, tmp_path):
    sweep(mode, how, 1, tmp_path, least=60)


def sweep(mode: str, how: str, step: int, folder: Path, *, least: int) -> None:
    command = [sys.executable, str(HERE), mode, how, str(step), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert int(done.stdout.split()[-1]) >= least, done.stdout


def cube_of(name: str) -> xr.DataArray:
    """Dates of one write; each write has its own pixels, scales and platform."""
    from xharmonize.testing import example_cube

    cube = example_cube(
        dates=[f"2018-07-{day:02d}T10:50" for day in DAYS[name]],
        bands=("red", "nir08"),
        shape=(9, 10),
        seed=SEEDS[name],
        chunks={"time": 1},
    )
    n = len(DAYS[name])
    return cube.assign_coords(
        item_id=("time", [f"{name}-{day}" for day in DAYS[name]]),
        cover=("time", np.full(n, float(SEEDS[name]))),
        processing_baseline=("time", [name] * n),
    )


@functools.cache
def pixels_of(name: str) -> xr.DataArray:
    """`cube_of` in memory, made once for all forks."""
    return cube_of(name).compute()


def write(store: Path, name: str, mode: str) -> None:
    from xharmonize.io.zarr.store import to_zarr

    to_zarr(cube_of(name), store, mode=mode)


def watch(folder: Path, then: Callable[[int, str], None]) -> None:
    """Call `then` before each change under `folder`, with its number and path."""
    seen = 0

    def hook(name: str, args: tuple) -> None:
        nonlocal seen
        is_change = name in EVENTS or (name == "open" and bool((args[2] or 0) & WRITES))
        if not is_change or (name == "os.mkdir" and os.path.isdir(args[0])):
            return
        # Where a tree is removed, its entries are named within an open folder.
        if not str(args[0]).startswith("/") or str(args[0]).startswith(str(folder)):
            seen += 1
            then(seen, str(args[0]))

    sys.addaudithook(hook)


def end_before(last: int, folder: Path, how: str) -> None:
    """Kill this process before its change number `last`, or let that change fail."""

    def end(event: int, path: str) -> None:
        if event == last and how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if event == last:
            raise OSError(28, "No space left on device", path)

    watch(folder, end)


def points(mode: str, step: int, folder: Path, template: Path) -> list[int]:
    """Numbers of the events to end before, and one that never comes.

    With a step, and where a new store is made: every one of those that anybody could see, and few
    of the many within the hidden folder.
    """
    place, record = folder / "place-dry", folder / "events.txt"
    shutil.copytree(template, place)

    def run() -> None:
        with record.open("w") as file:
            watch(place, lambda _, path: print(path, file=file, flush=True))
            write(place / "series.zarr", "new", mode)

    assert in_child(run) == 0
    shutil.rmtree(place)
    paths = record.read_text().splitlines()
    every = set(range(1, len(paths) + 1, step))
    if mode == "w" and step > 1:
        every = set(range(1, len(paths) + 1, step * 13))
        every |= {i for i, path in enumerate(paths, 1) if str(Path(path).parent) == str(place)}
    return [*sorted(every), 10_000]


def look(store: Path, *names: str) -> dict[int, str]:
    """Open the store in both ways; return which write each day is of, all of it."""
    from xharmonize.io.zarr.store import open_series

    seen = open_series(store).compute()
    plain = xr.open_zarr(store, decode_coords="all").load()
    assert plain.sizes["time"] >= seen.sizes["time"]
    found = {}
    for i in range(seen.sizes["time"]):
        date = seen.isel(time=i)
        name = str(date["processing_baseline"].values)
        assert name in names
        expected = pixels_of(name).sel(time=date["time"])
        xr.testing.assert_equal(date, expected)
        found[int(date["time"].dt.day)] = name
    return found


def check_killed(mode: str, store: Path) -> dict[int, str]:
    """What is seen is old or new; only entries that were being replaced may be hidden."""
    found = look(store, "old", "new")
    old, new = (dict.fromkeys(DAYS[name], name) for name in ("old", "new"))
    if mode == "w":
        assert found in (old, new)
    else:  # whole, and not yet published: entries that were appended
        assert found in (old, {1: "old"}, {1: "old", 6: "new"}, {**old, **new})
    return found


def follow(mode: str, event: int, store: Path, *, apart: bool) -> None:
    """Write less, and then more; with `apart` also more at once, into a copy of what was left."""
    copy = store.parent.with_name("place-apart") / store.name
    if apart:
        shutil.copytree(store.parent, copy.parent)
    killed = check_killed(mode, store)
    smaller = "own" if event % 2 else "other"
    check_after(store, smaller, killed, "upsert")
    check_after(store, "all", killed, mode)
    if apart:
        check_after(copy, "all", killed, mode)


def check_after(store: Path, then: str, killed: dict[int, str], mode: str) -> None:
    """All that was whole is there, and what was written last."""
    write(store, then, mode)
    found = look(store, "old", "new", then)
    own = dict.fromkeys(DAYS[then], then)
    expected = [own if mode == "w" else {**killed, **own}]
    if killed == {1: "old", 6: "new"}:  # whole, and published by the write that came next
        expected.append({**killed, **dict.fromkeys(DAYS["new"], "new"), **own})
    assert found in expected, (then, killed, found)
    assert [p.name for p in store.parent.iterdir()] == [store.name]
    assert not list(store.rglob("*.partial"))
    if then == "all":
        plain = xr.open_zarr(store)
        assert plain.sizes["time"] == len(found), "rows that nobody owns"
        assert plain["complete"].values.all()


def main(mode: str, how: str, step: int, folder: Path) -> int:
    dask.config.set(scheduler="synchronous")  # a pool of threads would not survive the fork
    template = folder / "template"
    write(template / "series.zarr", "old", "w")
    write(folder / "warm.zarr", "old", "w")  # what forks would do again and again is done here
    write(folder / "warm.zarr", "new", "upsert")
    look(folder / "warm.zarr", "old", "new")
    for name in DAYS:
        pixels_of(name)
    chosen = points(mode, step, folder, template)
    for event in chosen:
        place = folder / "place"
        shutil.copytree(template, place)
        store = place / "series.zarr"

        def end(event: int = event, place: Path = place, store: Path = store) -> None:
            end_before(event, place, how)
            try:
                write(store, "new", mode)
            except (OSError, StoreError):  # a full disk, as it is or in our words
                os._exit(7)

        outcome = in_child(end)
        if outcome not in (0, 7, -signal.SIGKILL):
            return 1

        def after(event: int = event, store: Path = store) -> None:
            follow(mode, event, store, apart=step == 1)

        if in_child(after) != 0:
            print(f"failed after {how} before event {event}")
            return 1
        for copy in folder.glob("place*"):
            shutil.rmtree(copy)
    print(f"{mode} {how}: points tried:", len(chosen))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])))
