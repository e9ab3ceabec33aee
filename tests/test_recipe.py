"""Recipes: what is refused before anything is read, what is written, and going on after a stop."""

from __future__ import annotations

import json
import tomllib

import numpy as np
import pytest
import xarray as xr
from helpers.commands import call
from helpers.recipes import recipe_of

import xharmonize as xh
from xharmonize.errors import OptionError, StoreError
from xharmonize.recipe import plan, read_recipe, steps, write_example
from xharmonize.simulate import Simulation, write_catalog


@pytest.fixture(scope="module")
def catalog(tmp_path_factory) -> str:
    place = Simulation(
        center=(501_600, 5_628_960),
        size=(360, 360),
        start="2022-06-01",
        end="2022-06-16",
        cloudiness=0.1,
    )
    return str(write_catalog(place, tmp_path_factory.mktemp("scenes")))


@pytest.mark.slow
def test_a_recipe_gives_what_the_calls_give(catalog, tmp_path):
    pytest.importorskip("stackstac")
    done = xh.run(recipe_of(catalog, tmp_path / "out", smooth={"step": "5D"}))
    bands = ["red", "nir08"]
    l8 = xh.open_stac(catalog, collection="landsat-c2-l2", bands=bands)
    s2 = xh.open_stac(catalog, collection="sentinel-2-l2a", bands=bands)
    series = l8.harmonize.densify(s2.harmonize.to_landsat("hls-v2", like=l8))
    ndvi = series.harmonize.index("ndvi")
    xr.testing.assert_allclose(done.series["ndvi"].compute(), ndvi["ndvi"].compute())
    smooth = xh.open_series(done.folder / "smooth.zarr")
    expected = ndvi.harmonize.smooth(step="5D")
    np.testing.assert_allclose(smooth["ndvi"], expected["ndvi"], atol=1e-5)
    assert json.loads(smooth.attrs["recipe"])["smooth"] == {"step": "5D"}
    assert set(done.written) == {"series.zarr", "smooth.zarr"}


def test_a_saved_fit_is_the_model_and_not_auto(catalog, tmp_path):
    pytest.importorskip("stackstac")
    pair = [
        xh.open_stac(catalog, collection=name, bands=["red", "nir08"])
        for name in ("sentinel-2-l2a", "landsat-c2-l2")
    ]
    pairs = xh.match_pairs(xh.regrid(pair[0], like=pair[1]), pair[1], tolerance="4D")
    xh.harmonizers.save_model(xh.fit_linear(pairs), tmp_path / "fit.zarr")
    recipe = recipe_of(catalog, tmp_path / "out", model={"name": str(tmp_path / "fit.zarr")})
    job = plan(recipe)
    assert sorted(job.source["band"].values.tolist()) == ["nir08", "red"]
    history = job.harmonized.attrs["history"]
    assert "linear fit: msi to oli" in history
    assert "auto" not in history


def test_what_is_whole_is_kept_and_another_recipe_is_refused(catalog, tmp_path, monkeypatch):
    pytest.importorskip("stackstac")
    folder = tmp_path / "out"
    recipe = recipe_of(catalog, folder, composite={"period": "10D"})

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    whole = steps._WRITERS["composite.zarr"]
    monkeypatch.setitem(steps._WRITERS, "composite.zarr", stopped)
    with pytest.raises(KeyboardInterrupt):
        xh.run(recipe)
    monkeypatch.setitem(steps._WRITERS, "composite.zarr", whole)
    before = (folder / "series.zarr" / "zarr.json").stat().st_mtime_ns
    done = xh.run(recipe)
    assert (done.kept, done.written) == (("series.zarr",), ("composite.zarr",))
    assert (folder / "series.zarr" / "zarr.json").stat().st_mtime_ns == before
    other = recipe_of(catalog, folder, composite={"period": "5D"})
    with pytest.raises(StoreError, match="another recipe"):
        xh.run(other)
    assert xh.run(other, mode="w").written == ("series.zarr", "composite.zarr")
    bare = recipe_of(catalog, folder)
    assert xh.run(bare, mode="w").written == ("series.zarr",)
    assert not (folder / "composite.zarr").exists()  # of another recipe: nothing is made of it
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match="holds no recipe"):
        xh.run(recipe_of(catalog, tmp_path / "mine"), mode="w")
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_series_grows_by_the_dates_it_lacks(catalog, tmp_path):
    pytest.importorskip("stackstac")
    half = {"datetime": "2022-06-01/2022-06-08"}
    tables = {"composite": {"period": "10D"}}
    folder = tmp_path / "out"
    first = xh.run(recipe_of(catalog, folder, area=half, **tables), mode="upsert")
    versions = xr.open_zarr(folder / "series.zarr")["entry_version"].values.tolist()
    grown = xh.run(recipe_of(catalog, folder, **tables), mode="upsert")
    assert (grown.written, grown.kept) == (("series.zarr", "composite.zarr"), ())
    n_first, n_all = first.n_dates, grown.series.sizes["time"]
    assert grown.n_dates == n_all - n_first > 0
    along_time = steps._along_time(read_recipe(recipe_of(catalog, folder)))
    blocks = steps._opened(folder / "series.zarr", chunks=along_time)["ndvi"].chunksizes
    assert (len(blocks["time"]), max(blocks["y"]) <= 256) == (1, True)
    now = xr.open_zarr(folder / "series.zarr")["entry_version"].values.tolist()
    assert now[:n_first] == versions  # not written again
    again = xh.run(recipe_of(catalog, folder, **tables), mode="upsert")
    assert (again.written, again.n_dates) == ((), 0)
    whole = xh.run(recipe_of(catalog, tmp_path / "whole", **tables))
    for name in ("series.zarr", "composite.zarr"):
        ours, theirs = (xh.open_series(one.folder / name).compute() for one in (grown, whole))
        xr.testing.assert_equal(ours.drop_attrs(), theirs.drop_attrs())
    with pytest.raises(StoreError, match="another recipe"):
        xh.run(recipe_of(catalog, folder, composite={"period": "5D"}), mode="upsert")


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ({"smoth": {}}, r"no 'smoth'; did you mean 'smooth'"),
        ({"smooth": {"stepp": "5D"}}, r"\[smooth\] has no 'stepp'; did you mean 'step'"),
        ({"smooth": {"method": "whitaker"}}, r"\[smooth\] method"),
        ({"output": {}}, r"\[output\] lacks 'folder'"),
        ({"composite": {}, "smooth": {}}, "give one"),
        ({"area": {"bbox": [1, 2, "x", 4]}}, r"\[area\] bbox"),
        ({"area": {"bbox": [1, 2, 3, 4], "geometry": "x.json"}}, "give one"),
        ({"area": {"bbox": [1, 2, 3, 4], "bounds": [1, 2, 3, 4], "crs": 4326}}, "give one"),
        ({"area": {"bounds": [1, 2, 3, 4]}}, "say which CRS"),
        ({"source": {"items": 3}}, r"\[source\] items is 3"),
        ({"series": {"index": "none"}, "phenology": {}}, "needs an index"),
    ],
)
def test_mistakes_are_told_before_anything_is_read(tables, told, tmp_path):
    recipe = recipe_of("nowhere.json", tmp_path / "out")
    with pytest.raises(OptionError, match=told):
        xh.run({**recipe, **tables})
    assert not (tmp_path / "out").exists()


def test_the_example_is_a_recipe_with_every_key(tmp_path):
    text = write_example()
    recipe = read_recipe(tomllib.loads(text))
    assert recipe.source.collection == "sentinel-2-l2a"
    bare = [line.removeprefix("# ") for line in text.splitlines()]
    keys = {line.partition(" = ")[0] for line in bare if " = " in line}
    assert {"step", "max_gap", "period", "buffer", "threshold", "bbox", "modifier"} <= keys
    path = tmp_path / "broken.toml"
    path.write_text("[source\n")
    with pytest.raises(OptionError, match="cannot be read"):
        read_recipe(path)


def test_polygons_choose_pixels_and_a_plan_reads_none(catalog, tmp_path, no_compute):
    pytest.importorskip("stackstac")
    west, south = 3.0215, 50.8115
    ring = [[west, south], [west + 0.002, south], [west + 0.002, south + 0.001], [west, south]]
    (tmp_path / "area.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    area = {"geometry": str(tmp_path / "area.geojson")}
    with no_compute():
        job = plan(recipe_of(catalog, tmp_path / "out", area=area))
    told = job.describe()
    assert "series.zarr" in told["writes"]
    assert job.series.sizes["x"] < 12
    inside = job.series["ndvi"].notnull().any("time").compute()
    assert 0 < float(inside.mean()) < 1


def test_other_polygons_in_the_same_file_are_another_recipe(catalog, tmp_path):
    pytest.importorskip("stackstac")
    file, folder = tmp_path / "area.geojson", tmp_path / "out"
    recipe = recipe_of(catalog, folder, area={"geometry": str(file)}, composite={"period": "10D"})

    def polygon(width: float) -> str:
        west, south = 3.0215, 50.8115
        ring = [[west, south], [west + width, south], [west + width, south + 0.001], [west, south]]
        return json.dumps({"type": "Polygon", "coordinates": [ring]})

    file.write_text(polygon(0.002))
    xh.run(recipe)
    defaults = {"source": recipe["source"] | {"dilate": 0.0, "mask": ["clear"]}}
    assert xh.run(recipe | defaults).written == ()  # a default written down changes nothing
    file.write_text(polygon(0.001))
    with pytest.raises(StoreError, match="another recipe"):
        xh.run(recipe)


@pytest.mark.slow
def test_the_same_steps_as_commands(catalog, tmp_path, capsys):
    pytest.importorskip("stackstac")
    done = xh.run(recipe_of(catalog, tmp_path / "out", smooth={"step": "5D"}))
    out = tmp_path / "s.zarr"
    assert call(capsys, "smooth", done.folder / "series.zarr", "--step", "5D", "--out", out)[0] == 0
    expected = xh.open_series(done.folder / "smooth.zarr")["ndvi"]
    np.testing.assert_array_equal(xh.open_series(out)["ndvi"], expected)
    west, south = 3.0215, 50.8115
    ring = [[west, south], [west + 0.002, south], [west + 0.002, south + 0.001], [west, south]]
    fields, table = tmp_path / "f.geojson", tmp_path / "f.csv"
    fields.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    arguments = ("--fields", fields, "--min-valid", "0.2", "--out", table)
    assert call(capsys, "table", out, *arguments)[0] == 0
    assert table.read_text().startswith("field,time")
    code, _, told = call(capsys, "smooth", out, "--snow", "gab", "--out", tmp_path / "x.zarr")
    assert code == 1
    assert "snow is 'gab'" in told
    assert "'gap'" in told
