"""Tasks on the dashboard are named after what they do."""

from __future__ import annotations

import dask
import pytest
import xarray as xr
from dask.utils import key_split

import xharmonize as xh
from xharmonize.models import architectures
from xharmonize.models.bundle import write_bundle
from xharmonize.testing import example_cube

from .conftest import small_card

CHUNKS = {"time": 1, "y": 12, "x": 15}


def task_names(cube) -> set[str]:
    """Names under which workers report the tasks of a graph, without those of its inputs."""
    (result,) = dask.optimize(cube)
    own = set(map(key_split, dict(result.__dask_graph__())))
    return {name for name in own if not name.startswith(("xarray", "array"))}


@pytest.fixture
def s2():
    return example_cube(chunks=CHUNKS)


@pytest.fixture
def l8():
    return example_cube(
        "landsat-c2-l2", platform="landsat-8", resolution=30.0, shape=(8, 10), chunks={"time": 1}
    )


def test_published_lines(s2, l8):
    assert task_names(xh.to_landsat(s2)) == {"harmonize-linear"}
    assert task_names(xh.to_landsat(s2, like=l8)) == {"regrid-mean", "harmonize-linear"}
    assert task_names(xh.to_sentinel2(l8)) == {"harmonize-linear"}


def test_fits(s2, l8):
    pairs = xh.match_pairs(s2.harmonize.regrid(like=l8), l8, tolerance="2D")
    line = xh.fit_linear(pairs).compute()
    assert task_names(xh.to_landsat(s2, line, like=l8)) == {"regrid-mean", "harmonize-linear"}
    pixelwise = xh.fit_pixelwise(pairs, n_min=2).compute()
    names = task_names(xh.to_landsat(s2, pixelwise, like=l8))
    assert names == {"regrid-mean", "harmonize-linear"}


def test_tables(s2, l8):
    fit = xh.harmonizers.fit_histogram(l8, source=s2).compute()
    assert task_names(xh.to_landsat(s2, fit)) == {"harmonize-lut"}


def test_nadir(s2):
    angles = {"sun_zenith": 30.0, "sun_azimuth": 150.0, "view_zenith": 5.0, "view_azimuth": 100.0}
    per_item = xr.Dataset({n: ("time", [v] * 3) for n, v in angles.items()}, {"time": s2["time"]})
    with pytest.warns(xh.errors.RadiometryWarning, match="per item"):
        names = task_names(xh.nbar(s2, per_item))
    assert all(name.startswith("harmonize-nbar") for name in names)


def test_networks(s2, tmp_path):
    pytest.importorskip("torch")
    card = small_card()
    model = xh.load_model(
        write_bundle(tmp_path / "model", card, architectures.seeded(card)).location
    )
    names = task_names(xh.to_landsat(s2, model))
    assert "harmonize-generator" in names
    assert {name for name in names if not name.startswith(("harmonize", "rechunk"))} == set()
