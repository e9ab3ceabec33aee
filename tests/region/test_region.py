"""A region in tiles: no seams, nothing done twice, and one failure stops no other tile."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from helpers import recipes

import xharmonize as xh
from xharmonize import region
from xharmonize.errors import GridError, OptionError
from xharmonize.io.zarr.missing import lacking
from xharmonize.recipe import read_recipe, steps
from xharmonize.recipe.place import crop_to
from xharmonize.simulate import Simulation, write_catalog
from xharmonize.testing import example_cube

recipe_of = partial(recipes.recipe_of, dilate=40.0)

BOX = (501_250.0, 5_628_610.0, 501_950.0, 5_629_310.0)
"""Left, bottom, right, top of what is worked on: within the scenes, on no edge of a pixel."""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory) -> str:
    place = Simulation(
        center=(501_600, 5_628_960),
        size=(960, 960),
        start="2022-06-01",
        end="2022-06-16",
        cloudiness=0.1,
    )
    return str(write_catalog(place, tmp_path_factory.mktemp("scenes")))


def four_tiles() -> tuple[region.Tile, ...]:
    """The box in four, cut in the middle: on no edge of Landsat's pixels, nor of Sentinel-2's."""
    left, bottom, right, top = BOX
    x, y = 501_597.0, 5_628_964.0
    parts = {
        "sw": (left, bottom, x, y),
        "se": (x, bottom, right, y),
        "nw": (left, y, x, top),
        "ne": (x, y, right, top),
    }
    return tuple(
        region.Tile(name=name, crs="EPSG:32631", bounds=bounds) for name, bounds in parts.items()
    )


def require_equal(jobs: region.Region, whole: xr.Dataset, *, rtol: float = 0.0) -> None:
    """All pixels of the whole are in one tile each, with the same values on the same dates."""
    n_pixels = 0
    for tile in jobs.tiles:
        part = xh.open_series(jobs.path(tile)).compute()
        expected = whole.sel(y=part["y"], x=part["x"])
        days = [np.flatnonzero(whole["item_id"].values == i) for i in part["item_id"].values]
        assert all(len(found) == 1 for found in days)
        for name in whole.data_vars:
            theirs = expected[name].values[[int(found[0]) for found in days]]
            np.testing.assert_allclose(part[name].values, theirs, rtol=rtol, err_msg=str(name))
        absent = np.setdiff1d(np.arange(whole.sizes["time"]), [int(found[0]) for found in days])
        main = "ndvi" if "ndvi" in whole else "reflectance"
        assert np.isnan(expected[main].values[absent]).all()
        n_pixels += part.sizes["y"] * part.sizes["x"]
    assert n_pixels == whole.sizes["y"] * whole.sizes["x"]


def whole_of(catalog: str, folder: Path, **tables: dict) -> xr.Dataset:
    area = {"bounds": BOX, "crs": "EPSG:32631"}
    done = xh.run(recipe_of(catalog, folder, area=area, **tables))
    return done.series.compute()


def test_tiles_of_a_line_are_the_whole_and_nothing_is_done_twice(catalog, tmp_path, monkeypatch):
    pytest.importorskip("stackstac")
    recipe = recipe_of(catalog, tmp_path / "out")
    jobs = region.plan(recipe, tiles=four_tiles())
    assert set(jobs.status()["state"]) == {"missing"}
    told: list[str] = []
    status = jobs.run(progress=told.append)
    assert set(status["state"]) == {"whole"}
    assert (status["written"] == status["dates"]).all()
    assert len(told) == 4
    require_equal(jobs, whole_of(catalog, tmp_path / "whole"))
    monkeypatch.setattr(steps, "_WRITERS", {})  # whoever writes again fails
    assert set(jobs.run(tiles=["sw"])["state"]) == {"whole"}


def test_a_tile_that_fails_stops_no_other_and_is_done_again(catalog, tmp_path):
    pytest.importorskip("stackstac")
    asked: list[str] = []

    def job(tile: region.Tile) -> xr.DataArray:
        asked.append(tile.name)
        if tile.name == "se" and len(asked) < 5:
            raise RuntimeError("the disk\nis full")
        where = tile.box if tile.name != "nw" else (10.0, 50.0, 10.1, 50.1)
        return xh.open_stac(catalog, collection="landsat-c2-l2", bands=["red"], bbox=where)

    jobs = region.plan(job, tiles=four_tiles(), out=tmp_path)
    status = jobs.run()
    assert asked == ["sw", "se", "nw", "ne"]
    assert status["state"].to_dict() == {
        "sw": "whole",
        "se": "failed",
        "nw": "empty",
        "ne": "whole",
    }
    assert status.loc["se", "reason"] == "RuntimeError: the disk is full"
    assert "EmptyQueryError" in status.loc["nw", "reason"]
    status = jobs.run(tiles=status.index[status["state"] == "failed"])
    assert status.loc["se", ["state", "reason"]].to_list() == ["whole", ""]
    jobs.path("sw").rename(tmp_path / "elsewhere")
    assert jobs.status().loc["sw", "state"] == "missing"


def test_dates_that_the_store_has_are_not_computed_again(tmp_path):
    dates = ["2018-07-01", "2018-07-06", "2018-07-11"]
    computed: list[int] = []

    def job(tile: region.Tile) -> xr.DataArray:
        cube = example_cube(dates=dates)

        def block(values, block_info=None):
            computed.append(block_info[0]["chunk-location"][0])
            return values

        lazy = da.from_array(cube.values, chunks=(1, -1, -1, -1))
        return cube.copy(data=lazy.map_blocks(block, dtype=cube.dtype, meta=np.empty((0,) * 4)))

    tile = four_tiles()[0]
    jobs = region.plan(job, tiles=[tile], out=tmp_path)
    xh.to_zarr(example_cube(dates=dates[1:2]), jobs.path(tile))
    assert lacking(job(tile), jobs.path(tile)).tolist() == [0, 2]
    status = jobs.run()
    assert sorted(computed) == [0, 2]
    assert status.loc[tile.name, ["dates", "written"]].to_list() == [3, 2]
    assert jobs.run().loc[tile.name, "written"] == 0
    assert len(computed) == 2


def test_what_has_seams_is_refused(catalog, tmp_path):
    recipe = recipe_of(catalog, tmp_path)
    box = (3.02, 50.80, 3.03, 50.82)
    with pytest.raises(OptionError, match="auto learns from the pairs of each tile"):
        region.plan({**recipe, "model": {"name": "auto"}}, box)
    with pytest.raises(OptionError, match="cut fields"):
        region.plan({**recipe, "table": {"fields": "fields.geojson"}}, box)
    with pytest.raises(OptionError, match="says not what to cut"):
        region.plan(recipe)
    with pytest.raises(OptionError, match="'sw' twice"):
        region.plan(recipe, tiles=[four_tiles()[0]] * 2)
    with pytest.raises(OptionError, match="folder of all tiles"):
        region.plan(lambda tile: None, box)


def test_the_recipe_of_a_tile_is_a_recipe(catalog, tmp_path):
    jobs = region.plan(recipe_of(catalog, tmp_path), (3.02, 50.80, 3.03, 50.82))
    assert [tile.name for tile in jobs.tiles] == ["31UES"]
    recipe = jobs.recipe("31UES")
    assert recipe.area.bounds == jobs.tiles[0].bounds
    assert recipe.output.folder == str(tmp_path / "31UES")
    said = json.loads(recipe.model_dump_json(exclude_unset=True))
    assert read_recipe(said) == recipe
    apart = recipe.area.model_copy(update={"bounds": (0.0, 0.0, 30.0, 30.0)})
    with pytest.raises(GridError, match="no pixel lies in bounds"):
        crop_to(example_cube(), apart)


def network_of(folder: Path) -> str:
    """A U-Net each of whose outputs depends on the whole tile of 480 m."""
    pytest.importorskip("torch")
    from helpers.generators import generator

    folder.mkdir()
    generator(folder).save(folder / "unet")
    return str(folder / "unet")


def table_of(catalog: str, folder: Path) -> str:
    l8 = xh.open_stac(catalog, collection="landsat-c2-l2", bands=["red", "nir08"])
    s2 = xh.open_stac(catalog, collection="sentinel-2-l2a", bands=["red", "nir08"])
    pairs = xh.match_pairs(xh.regrid(s2, like=l8), l8, tolerance="8D")
    xh.harmonizers.save_model(xh.fit_lut(pairs, limits=(0.0, 0.7)), folder)
    return str(folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["line", "table", "network", "network without a target"])
def test_smoothed_tiles_of_models_are_the_whole(kind, catalog, tmp_path):
    pytest.importorskip("stackstac")
    is_network = kind.startswith("network")
    if is_network:
        model = network_of(tmp_path / "models")
    else:
        model = "hls-v2" if kind == "line" else table_of(catalog, tmp_path / "fit.zarr")
    tables = {"model": {"name": model}, "smooth": {"step": "5D"}}
    recipe = recipe_of(catalog, tmp_path / "out", **tables)
    whole = recipe_of(
        catalog, tmp_path / "whole", **tables, area={"bounds": BOX, "crs": "EPSG:32631"}
    )
    if kind == "network without a target":
        del recipe["target"], whole["target"]
    jobs = region.plan(recipe, tiles=four_tiles())
    status = jobs.run()
    assert set(status["state"]) == {"whole"}, status["reason"].to_list()
    done = xh.run(whole)
    rtol = 1e-4 if is_network else 0.0  # batches of other sizes sum in another order
    require_equal(jobs, done.series.compute(), rtol=rtol)
    smooth = xh.open_series(done.folder / "smooth.zarr").compute()
    for tile in jobs.tiles:
        part = xh.open_series(jobs.path(tile).with_name("smooth.zarr")).compute()
        times = np.intersect1d(part["time"], smooth["time"])
        assert times.size > 1
        ours = part["ndvi"].sel(time=times)
        theirs = smooth["ndvi"].sel(time=times, y=part["y"], x=part["x"])
        np.testing.assert_allclose(ours, theirs, rtol=max(rtol, 1e-5), atol=1e-6)
