"""``xharmonize sharpen``, called as a user calls it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.commands import call

import xharmonize as xh
from xharmonize.cli import console
from xharmonize.simulate import Simulation, write_catalog

SOURCE, TARGET = "landsat-c2-l2", "sentinel-2-l2a"
PAIR = ["--source-collection", SOURCE, "--target-collection", TARGET, "--resolution", "10"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """Catalogue of a few simulated scenes."""
    place = Simulation(
        center=(501_600, 5_628_960),
        size=(300, 300),
        start="2022-06-08",
        end="2022-06-14",
        cloudiness=0.1,
    )
    return write_catalog(place, tmp_path_factory.mktemp("scenes"))


def test_both_collections_become_one_series(capsys, scenes, tmp_path):
    out = tmp_path / "sharp.zarr"
    options = [*PAIR, "--bands", "red,nir08", "--correct", "--index", "ndvi", "--out", out]
    code, printed, err = call(capsys, "sharpen", scenes, *options)
    assert code == 0, err
    assert TARGET in printed
    stored = xh.open_series(out)
    cubes = [
        xh.open_stac(scenes, collection=name, bands=["red", "nir08"], resolution=size)
        for name, size in ((TARGET, 10), (SOURCE, None))
    ]
    expected = xh.densify(cubes[0], xh.sharpen(cubes[1], cubes[0], correct=True))
    expected = expected.harmonize.index("ndvi")
    np.testing.assert_allclose(stored["ndvi"], expected["ndvi"], atol=1e-6)
    assert set(np.unique(stored["origin"])) == {0, 1, 10}


def test_the_sharpened_dates_alone(capsys, scenes, tmp_path):
    out = tmp_path / "alone.zarr"
    code, _, err = call(
        capsys, "sharpen", scenes, *PAIR, "--bands", "red", "--bandpass", "none", "--alone",
        "--out", out,
    )  # fmt: skip
    assert code == 0, err
    stored = xh.open_series(out)
    assert set(stored["sensor"].values) == {SOURCE}
    assert set(stored["bandpass"].values) <= {"oli"}
    assert float(abs(stored.x[1] - stored.x[0])) == 10


def test_options_that_do_not_go_together(capsys):
    for options, complaint in (
        (["--source-collection", SOURCE], "nothing to write"),
        (["--source-collection", SOURCE, "--alone", "--out", "a"], "no --target-collection"),
    ):
        code, _, err = call(capsys, "sharpen", "c.json", *options)
        assert code == console.USAGE
        assert complaint in " ".join(err.replace("│", " ").split())
