"""Stores, folders and models by URL on the command line, in a real S3 over HTTP on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr
from helpers.commands import call
from helpers.object_store import environment, files, options_of

import xharmonize as xh
from xharmonize.simulate import Simulation, write_catalog
from xharmonize.testing import example_cube

pytest.importorskip("pystac")
PAIR = ["--source-collection", "sentinel-2-l2a", "--target-collection", "landsat-c2-l2"]
NDVI, COGS = "s3://bucket/ndvi.zarr", "s3://bucket/ndvi-cogs"


def given(options: dict) -> list[str]:
    """The options as a user writes them."""
    return ["--storage-options", ",".join(f"{key}={value}" for key, value in options.items())]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """Catalogue of a few simulated scenes."""
    place = Simulation(
        center=(501_600, 5_628_960), size=(120, 120), start="2022-06-08", end="2022-06-12"
    )
    return write_catalog(place, tmp_path_factory.mktemp("scenes"))


@pytest.mark.slow
def test_a_series_is_harmonised_to_urls_and_read_from_them(capsys, options, scenes, tmp_path):
    command = ["harmonize", scenes, *PAIR, "--index", "ndvi", "--skip-check"]
    places = ["--out", NDVI, "--cogs", COGS, *given(options)]
    assert call(capsys, *command, *places)[0] == 0
    local = tmp_path / "ndvi.zarr"
    assert call(capsys, *command, "--out", local)[0] == 0
    series = xh.open_series(NDVI, storage_options=options)
    xr.testing.assert_equal(series.compute(), xh.open_series(local).compute())
    assert files(options).exists("bucket/ndvi-cogs/catalog.json")
    code, _, err = call(capsys, *command, "--out", NDVI, *given(options))
    assert code == 1
    assert f"{NDVI} exists" in err
    assert "--upsert adds to it" in err
    code, _, err = call(capsys, *command, "--cogs", COGS, "--overwrite", *given(options))
    assert code == 1
    assert f"{COGS} exists" in err
    assert call(capsys, *command, *places, "--upsert")[0] == 0


def test_a_stored_series_is_smoothed_from_url_to_url(capsys, options):
    ndvi = example_cube(bands=("red", "nir08")).harmonize.index("ndvi")
    xh.to_zarr(ndvi, NDVI, storage_options=options)
    smooth, place = ["smooth", NDVI, "--step", "5D"], "s3://bucket/smooth.zarr"
    assert call(capsys, *smooth, "--out", place, *given(options))[0] == 0
    found = xh.open_series(place, storage_options=options)
    xr.testing.assert_equal(found.compute(), xh.series.smooth(ndvi, step="5D"))
    code, _, err = call(capsys, *smooth, "--out", place, *given(options))
    assert code == 1
    assert f"{place} exists" in err


def test_a_result_by_url_is_seen_when_it_is_whole(capsys, options, monkeypatch):
    from xharmonize._urls import Remote

    seasons, place = example_cube().isel(time=0, drop=True), "s3://bucket/mean.zarr"
    write = Remote.write
    monkeypatch.setattr(Remote, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        xh.to_zarr(seasons, place, storage_options=options)
    with pytest.raises(xh.errors.StoreError, match="there is no store"):
        xh.open_series(place, storage_options=options)
    monkeypatch.setattr(Remote, "write", write)
    assert xh.to_zarr(seasons, place, storage_options=options) == place
    found = xh.open_series(place, storage_options=options)
    xr.testing.assert_equal(found.compute(), seasons)
    for mode in ("w-", "w"):
        with pytest.raises(xh.errors.StoreError, match="exists, and object stores cannot"):
            xh.to_zarr(seasons, place, mode=mode, storage_options=options)
    assert call(capsys, "info", place, *given(options))[0] == 0
    assert not files(options).exists("bucket/.mean.zarr.lock")


@pytest.mark.slow
def test_a_fit_by_url_is_applied_and_shown(capsys, options, scenes):
    fit = "s3://bucket/fit.zarr"
    command = ["fit", scenes, *PAIR, "--out", fit, "--force"]
    command += ["--method", "histogram", "--bands", "red,nir08"]
    assert call(capsys, *command, *given(options))[0] == 0
    assert "histogram" in call(capsys, "models", "show", fit, *given(options))[1]
    command = ["harmonize", scenes, *PAIR, "--model", fit, "--out", NDVI, "--skip-check"]
    assert call(capsys, *command, "--bands", "red,nir08", *given(options))[0] == 0


@pytest.mark.slow
def test_stores_by_url_are_scored_drawn_and_reported(capsys, options, tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        place = f"s3://bucket/{name}.zarr"
        xh.to_zarr(example_cube(seed=seed), place, storage_options=options)
    both = ["s3://bucket/a.zarr", "s3://bucket/b.zarr"]
    said = given(options)
    assert call(capsys, "score", *both, "--metrics", "rmse", *said)[0] == 0
    figure, page = tmp_path / "scatter.png", tmp_path / "page.html"
    assert call(capsys, "plot", "scatter", *both, "--out", figure, *said)[0] == 0
    assert call(capsys, "report", both[0], "--reference", both[1], "--out", page, *said)[0] == 0
    assert figure.exists()
    assert "Report on a.zarr" in page.read_text()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, None),
        ("key=a, secret=b==,anon=false", {"key": "a", "secret": "b==", "anon": False}),
        ('{"client_kwargs": {"region_name": "x,y"}}', {"client_kwargs": {"region_name": "x,y"}}),
    ],
)
def test_storage_options_are_pairs_or_json(text, found):
    from xharmonize.cli.places import parse_storage

    assert parse_storage(text) == found


def test_bad_places_are_refused_without_telling_secrets(capsys, options, scenes, tmp_path):
    secret = {**options, "secret": "do-not-tell"}
    for text in ("do-not-tell", '{"secret": do-not-tell}'):
        code, out, err = call(capsys, "info", NDVI, "--storage-options", text)
        assert code == 2
        assert "--storage-options is" in err
        assert "do-not-tell" not in out + err
    nowhere = ["info", "s3://nowhere/a.zarr", "--json", "-v"]
    code, out, err = call(capsys, *nowhere, *given(secret))
    assert code == 1
    assert json.loads(out)["error"]
    assert "do-not-tell" not in out + err
    table = ["table", tmp_path, "--fields", "a.json", "--out", "s3://bucket/a.csv"]
    xh.to_zarr(example_cube(), tmp_path / "a.zarr")
    table[1] = tmp_path / "a.zarr"
    code, _, err = call(capsys, *table)
    assert (code, "give a path, not a URL" in err) == (2, True)
    drawn = ["harmonize", scenes, *PAIR, "--out", "a.zarr", "--figures", "s3://bucket/figures"]
    code, _, err = call(capsys, *drawn)
    assert (code, "give a path, not a URL" in err) == (2, True)
    assert not Path("s3:").exists()


@pytest.mark.slow
def test_credentials_of_the_environment_serve_a_process_of_its_own(options):
    xh.to_zarr(example_cube(), NDVI, storage_options=options)
    told = {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_ENDPOINT_URL": options["endpoint_url"],
    }
    command = [sys.executable, "-m", "xharmonize", "info", NDVI]
    done = subprocess.run(command, env={**environment(), **told}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert options_of(told["AWS_ENDPOINT_URL"])["endpoint_url"] not in os.environ.values()
