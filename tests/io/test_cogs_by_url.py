"""COGs and their catalogue at a URL, in a real S3 over HTTP on loopback.

Run as a script, this file is a writer that dies before it puts its second item.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from helpers.object_store import die_at, environment, files, options_of

import xharmonize as xh
from xharmonize.io.cog.opening import open_cogs
from xharmonize.testing import assert_lazy, example_cube

pytest.importorskip("pystac")
rasterio = pytest.importorskip("rasterio")
PLACE = "s3://bucket/folder/cogs"
LATER = ("2018-07-11T10:50", "2018-07-16T10:50")


def links(options: dict, path: str, rel: str) -> list[str]:
    document = json.loads(files(options).cat_file(f"bucket/folder/cogs/{path}"))
    return [link["href"] for link in document["links"] if link["rel"] == rel]


def test_cogs_are_put_and_added_to(options, tmp_path):
    cube, later = example_cube(), example_cube(dates=LATER, seed=3)
    (tmp_path / "cogs").mkdir()
    for one, mode in ((cube, "w-"), (later, "upsert")):
        catalog = xh.to_cogs(one, PLACE, mode=mode, storage_options=options)
        xh.to_cogs(one, tmp_path / "cogs", mode="upsert")
    assert catalog == f"{PLACE}/catalog.json"
    there, root = files(options), "bucket/folder/cogs"
    paths = [p for p in (tmp_path / "cogs").rglob("*") if p.is_file()]
    names = sorted(path.relative_to(tmp_path / "cogs").as_posix() for path in paths)
    assert sorted(name[len(root) + 1 :] for name in there.find(root)) == names
    for path in paths:
        data = there.cat_file(f"{root}/{path.relative_to(tmp_path / 'cogs').as_posix()}")
        if path.suffix != ".tif":
            assert data == path.read_bytes(), path
            continue
        with rasterio.MemoryFile(data) as one, one.open() as cog, rasterio.open(path) as local:
            np.testing.assert_array_equal(cog.read(), local.read())
    for mode in ("w-", "w"):
        with pytest.raises(xh.errors.StoreError, match="exists, and object stores cannot"):
            xh.to_cogs(cube, PLACE, mode=mode, storage_options=options)
    assert not there.exists("bucket/folder/.cogs.lock")


def test_an_index_is_read_back_from_a_url(options, tmp_path):
    ndvi = example_cube(bands=("red", "nir08")).harmonize.index("ndvi")
    for place, given in ((PLACE, {"storage_options": options}), (tmp_path / "cogs", {})):
        xh.to_cogs(ndvi, place, **given)
    found = open_cogs(PLACE, storage_options=options)
    assert_lazy(found)
    assert "secret" not in str(list(found.__dask_graph__()))
    local = open_cogs(tmp_path / "cogs")
    xr.testing.assert_identical(found.compute(), local.compute())
    later = example_cube(bands=("red", "nir08"), dates=LATER).harmonize.index("ndvi")
    xh.to_cogs(later, PLACE, mode="upsert", storage_options=options)
    again = open_cogs(f"{PLACE}/catalog.json", storage_options=options)
    assert np.isin(later["time"], again["time"]).all()
    assert again.data.name != found.data.name


@pytest.mark.slow
def test_what_is_not_ours_stays_and_writers_wait_for_each_other(options):
    cube = example_cube()
    files(options).pipe_file("bucket/other/a.txt", b"")
    with pytest.raises(xh.errors.StoreError, match="holds no catalogue written by xharmonize"):
        xh.to_cogs(cube, "s3://bucket/other", mode="upsert", storage_options=options)
    lock = json.dumps({"pid": 7, "host": "far", "machine": "x"}).encode()
    files(options).pipe_file("bucket/folder/.cogs.lock", lock)
    with pytest.raises(xh.errors.StoreError, match="process 7 on host far"):
        xh.to_cogs(cube, PLACE, storage_options=options)
    with pytest.raises(xh.errors.StoreError, match=f"lost a slash.*'{PLACE}'"):
        xh.to_cogs(cube, Path(PLACE), storage_options=options)
    with pytest.raises(xh.errors.CatalogError, match="holds no catalogue"):
        open_cogs(PLACE, storage_options=options)


@pytest.mark.slow
def test_a_killed_writer_leaves_whole_files_and_no_date_in_part(options):
    names = [Path(href).stem for href in items_of_cube()]
    command = [sys.executable, __file__, options["endpoint_url"], f"{names[1]}.json"]
    assert subprocess.run(command, env=environment()).returncode == -signal.SIGKILL
    there = files(options)
    assert links(options, "catalog.json", "child") == []
    for name in there.find("bucket/folder/cogs"):
        if name.endswith(".tif"):
            with rasterio.MemoryFile(there.cat_file(name)) as one, one.open() as cog:
                assert cog.read().size
        elif name.endswith(".json") and not name.endswith("catalog.json"):
            assert Path(name).stem == names[0]
    # The date in part has no item; the next writer finishes what this one began.
    xh.to_cogs(example_cube(), PLACE, storage_options=options)
    assert len(links(options, "cogs/collection.json", "item")) == 3


def items_of_cube() -> list[str]:
    from xharmonize.io.cog.catalog import _item_names

    return _item_names(example_cube().to_dataset(name="reflectance"))


if __name__ == "__main__":
    address, name = sys.argv[1:]
    die_at(name)
    xh.to_cogs(example_cube(), PLACE, storage_options=options_of(address))
