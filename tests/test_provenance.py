"""Where a result comes from stands in it: catalogue, query, dates, platform, versions."""

from __future__ import annotations

import json
import re

import pytest

import xharmonize as xh
from xharmonize.io.stac.sources import history_of_source
from xharmonize.simulate import Simulation, write_catalog
from xharmonize.testing import example_cube

pytest.importorskip("pystac")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory) -> str:
    place = Simulation(
        center=(501_600, 5_628_960), size=(360, 360), start="2022-06-01", end="2022-06-16"
    )
    return str(write_catalog(place, tmp_path_factory.mktemp("scenes")))


def test_the_history_says_what_was_asked_of_which_catalogue(catalog):
    cube = xh.open_stac(catalog, collection="sentinel-2-l2a", datetime="2022-06", bands=["red"])
    first = cube.attrs["history"].splitlines()[0]
    assert first.startswith("open_stac: sentinel-2-l2a by ")
    assert f"from {catalog} (collection=['sentinel-2-l2a'], datetime='2022-06-01" in first
    days = re.search(r"(\d+) items of (\d{4}-\d\d-\d\d) to (\d{4}-\d\d-\d\d)", first)
    assert days is not None
    assert int(days[1]) >= cube.sizes["time"]
    assert days[2] == str(cube["time"].values[0])[:10]
    assert first.endswith(f"xharmonize {xh.__version__}")


def test_it_goes_on_into_cogs_stores_and_the_report(catalog, tmp_path):
    pytest.importorskip("matplotlib")
    cube = xh.open_stac(catalog, collection="sentinel-2-l2a", bands=["red", "nir08"])
    ndvi = cube.harmonize.to_landsat("hls-v2").harmonize.index("ndvi").isel(time=slice(2))
    first = ndvi.attrs["history"].splitlines()[0]
    xh.to_zarr(ndvi, tmp_path / "ndvi.zarr")
    assert xh.open_series(tmp_path / "ndvi.zarr").attrs["history"].splitlines()[0] == first
    xh.to_cogs(ndvi, tmp_path / "cogs")
    items = [json.loads(p.read_text()) for p in (tmp_path / "cogs").rglob("*/*/*.json")]
    assert items
    for item in items:
        assert item["properties"]["processing:lineage"].splitlines()[0] == first
        assert item["properties"]["processing:software"] == {"xharmonize": xh.__version__}
    xh.write_report(ndvi, tmp_path / "report.html")
    assert f"xharmonize {xh.__version__}" in (tmp_path / "report.html").read_text()
    assert catalog in (tmp_path / "report.html").read_text()


def test_a_platform_that_the_user_settled_is_told():
    cube = example_cube(platform="unknown")
    with pytest.warns(xh.errors.RadiometryWarning, match="inferred"):
        result = cube.harmonize.to_landsat("hls-v2", platform="infer")
    lines = result.attrs["history"].splitlines()
    assert "platform='infer' (from the phase of the orbit) where none is stated: 3 dates" in lines
    named = cube.harmonize.to_landsat("hls-v2", platform="sentinel-2b")
    assert "platform='sentinel-2b' where none is stated: 3 dates" in named.attrs["history"]
    known = example_cube().harmonize.to_landsat("hls-v2", platform="sentinel-2b")
    assert "platform=" not in known.attrs["history"]


def test_no_secret_gets_into_the_history():
    told = history_of_source("https://me:secret@host.org:8000/stac?sig=abc#x")
    assert told == "https://host.org:8000/stac"
    assert history_of_source([{"type": "Feature"}]) == "items in memory"
