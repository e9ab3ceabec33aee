"""Tiles and recipes at a URL, in a real S3 over HTTP on loopback; a killed process is gone on for.

Run as a script, this file is the process that is killed.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import xarray as xr
from helpers import recipes
from helpers.commands import call
from helpers.object_store import environment, files, options_of

import xharmonize as xh
from xharmonize import region
from xharmonize.recipe import steps
from xharmonize.simulate import Simulation, write_catalog
from xharmonize.testing import example_cube

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")
OUT = "s3://bucket/flanders"
TILES = region.square_tiles((3.0, 50.8, 3.05, 50.85), crs=32631, resolution=10, pixels=256)[:3]
DATES = [f"2018-07-{day:02d}" for day in range(1, 21)]
"""More than one commit of dates."""


def cube_of(tile: region.Tile, *, n_dates: int = 3) -> xr.DataArray:
    return example_cube(dates=DATES[:n_dates], seed=int(tile.bounds[0]))


def job(tile: region.Tile) -> xr.DataArray:
    return cube_of(tile).chunk(time=1)


def slow_job(tile: region.Tile) -> xr.DataArray:
    """The second tile takes its time."""

    def block(values):
        time.sleep(0.2 if tile == TILES[1] else 0)
        return values

    cube = cube_of(tile, n_dates=len(DATES))
    return cube.copy(data=cube.chunk(time=1).data.map_blocks(block, dtype=cube.dtype))


def planned(work, options: dict, *, n_tiles: int = 3) -> region.Region:
    return region.plan(work, tiles=TILES[:n_tiles], out=OUT, storage_options=options)


def require_equal(jobs: region.Region, options: dict, **given: int) -> None:
    for tile in jobs.tiles:
        found = xh.open_series(jobs.path(tile), storage_options=options).compute()
        xr.testing.assert_equal(found.drop_attrs(), cube_of(tile, **given).drop_attrs())


def test_tiles_go_to_a_url_and_nothing_is_done_twice(options):
    def broken(tile: region.Tile) -> xr.DataArray:
        if tile == TILES[1]:
            raise OSError("no such bucket")
        return job(tile)

    jobs = planned(broken, options, n_tiles=2)
    assert jobs.run()["state"].to_list() == ["whole", "failed"]
    assert jobs.path(TILES[0]) == f"{OUT}/{TILES[0].name}.zarr"
    status = planned(job, options, n_tiles=2).run()
    assert set(status["state"]) == {"whole"}
    assert status["written"].to_list() == [0, 3]
    assert status["dates"].to_list() == [3, 3]
    require_equal(jobs, options)
    assert options["endpoint_url"] not in repr(jobs)
    files(options).rm(f"bucket/flanders/{TILES[1].name}.zarr", recursive=True)
    assert jobs.status()["state"].to_list() == ["whole", "missing"]


@pytest.mark.slow
def test_workers_take_options_with_their_tiles(client, options):
    jobs = planned(job, options)
    assert set(jobs.run(client)["state"]) == {"whole"}
    require_equal(jobs, options)


@pytest.mark.slow
def test_a_killed_process_is_gone_on_for(options):
    jobs = planned(slow_job, options)
    command = [sys.executable, __file__, options["endpoint_url"]]
    process = subprocess.Popen(command, env=environment())
    try:
        until = time.monotonic() + 120
        while jobs.status()["dates"].iloc[1] == 0 and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.1)
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
    require_equal(jobs, options, n_dates=len(DATES))


@pytest.fixture(scope="module")
def catalog(tmp_path_factory) -> str:
    place = Simulation(
        center=(501_600, 5_628_960), size=(240, 240), start="2022-06-01", end="2022-06-16"
    )
    return str(write_catalog(place, tmp_path_factory.mktemp("scenes")))


def recipe_of(catalog: str, folder: str | Path) -> dict:
    parts = {"smooth": {"step": "5D"}, "phenology": {"min_amplitude": 0.0}}
    recipe = recipes.recipe_of(catalog, folder, **parts)
    recipe["output"] |= {"folder": str(folder), "cogs": True, "report": True}
    return recipe


@pytest.mark.slow
def test_a_recipe_is_run_at_a_url_stopped_and_gone_on_with(catalog, options, tmp_path, monkeypatch):
    secret = {**options, "secret": "do-not-tell"}
    recipe, here = recipe_of(catalog, "s3://bucket/run"), recipe_of(catalog, tmp_path / "run")
    seasons = steps._WRITERS["seasons.zarr"]

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(steps._WRITERS, "seasons.zarr", stopped)
    with pytest.raises(KeyboardInterrupt):
        xh.run(recipe, storage_options=secret)
    monkeypatch.setitem(steps._WRITERS, "seasons.zarr", seasons)
    # What a killed run left of a product is made anew.
    files(options).pipe_file("bucket/run/seasons.zarr/zarr.json", b"{}")
    done = xh.run(recipe, storage_options=secret)
    assert done.kept == ("series.zarr", "smooth.zarr")
    assert done.written == ("seasons.zarr", "cogs", "report.html")
    local = xh.run(here)
    xr.testing.assert_equal(done.series.compute(), local.series.compute())
    place = "s3://bucket/run/seasons.zarr"
    theirs = xh.open_series(local.folder / "seasons.zarr").compute()
    xr.testing.assert_equal(xh.open_series(place, storage_options=options).compute(), theirs)
    assert xh.run(recipe, storage_options=options).written == ()
    other = recipe | {"smooth": {"step": "2D"}}
    for mode in ("w-", "w"):
        with pytest.raises(xh.errors.StoreError, match="another recipe, and nothing is replaced"):
            xh.run(other, mode=mode, storage_options=options)
    there = files(options)
    names = there.find("bucket/run")
    assert {name.split("/")[2] for name in names} >= {"recipe.json", "cogs", "report.html"}
    for name in names:
        assert b"do-not-tell" not in there.cat_file(name), name
    assert "do-not-tell" not in repr(done)


@pytest.mark.slow
def test_a_recipe_runs_in_tiles_at_a_url_from_the_command_line(catalog, options, tmp_path, capsys):
    said = ["--storage-options", f"key=a,secret=b,endpoint_url={options['endpoint_url']}"]
    file = tmp_path / "recipe.toml"
    text = f"""
        [source]
        items = "{catalog}"
        collection = "sentinel-2-l2a"
        [target]
        items = "{catalog}"
        collection = "landsat-c2-l2"
        [area]
        bbox = [3.0216, 50.8096, 3.0236, 50.8108]
        crs = 32631
        resolution = 30
        [series]
        check = false
        [output]
        folder = "s3://bucket/run"
        figures = false
        report = false
    """
    file.write_text(text, encoding="utf-8")
    code, out, err = call(capsys, "run", file, *said, "--tiles", "64")
    assert code == 0, err
    code, out, _ = call(capsys, "plan", file, *said, "--tiles", "64")
    assert code == 0
    assert "whole" in out
    assert "missing" not in out


if __name__ == "__main__":
    planned(slow_job, options_of(sys.argv[1])).run()
