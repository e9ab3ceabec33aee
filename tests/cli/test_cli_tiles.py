"""``xharmonize plan`` and ``run --tiles``."""

from __future__ import annotations

import json

import pytest
from helpers.commands import call

import xharmonize as xh
from xharmonize.simulate import Simulation, write_catalog

BOX = [3.0215, 50.8105, 3.0235, 50.8125]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiles")
    place = Simulation(
        center=(501_600, 5_628_960), size=(360, 360), start="2022-06-01", end="2022-06-05"
    )
    catalog = write_catalog(place, folder / "scenes")
    path = folder / "recipe.toml"
    path.write_text(
        f'[source]\nitems = "{catalog}"\ncollection = "sentinel-2-l2a"\n'
        f'[target]\nitems = "{catalog}"\ncollection = "landsat-c2-l2"\n'
        f"[area]\nbbox = {BOX}\ncrs = 32631\nresolution = 30\n"
        f'[output]\nfolder = "{folder / "out"}"\nfigures = false\nreport = false\n'
    )
    return path


def states(out: str) -> list[str]:
    (table,) = json.loads(out)["tables"]
    return [row["state"] for row in table["rows"]]


def test_a_plan_is_told_run_and_told_again(recipe, capsys, tmp_path):
    pytest.importorskip("stackstac")
    tiles = ("--tiles", "4")
    code, out, _ = call(capsys, "plan", recipe, *tiles, "--recipes", tmp_path / "each", "--json")
    assert code == 0
    n_tiles = len(states(out))
    assert n_tiles > 1
    assert set(states(out)) == {"missing"}
    assert call(capsys, "run", recipe, *tiles, "-q")[0] == 0
    code, out, _ = call(capsys, "plan", recipe, *tiles, "--json")
    assert set(states(out)) == {"whole"}
    stores = sorted((recipe.parent / "out").glob("*/series.zarr"))
    assert len(stores) == n_tiles
    assert xh.open_series(stores[0]).sizes["x"] <= 4
    each = sorted((tmp_path / "each").glob("*.json"))
    assert len(each) == n_tiles
    assert "bounds" in json.loads(each[0].read_text())["area"]


def test_wrong_tiles_are_told(recipe, capsys):
    code, _, told = call(capsys, "run", recipe, "--tiles", "hexagons")
    assert code == 1
    assert "mgrs, squares, or a number of pixels" in told
    assert "--tiles" in call(capsys, "run", recipe, "--workers", "2")[2]
    assert "never replaced" in call(capsys, "run", recipe, "--tiles", "mgrs", "--overwrite")[2]
