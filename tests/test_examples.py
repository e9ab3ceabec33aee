"""The examples that make and use trained models run, at a tiny size."""

from __future__ import annotations

import importlib
import runpy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import xharmonize as xh
from xharmonize.simulate import Simulation, write_catalog

pytestmark = pytest.mark.slow


EXAMPLES = Path(__file__).parents[1] / "examples"

pytest.importorskip("torch")
pytest.importorskip("safetensors")


@pytest.fixture(scope="module", autouse=True)
def each_place_once() -> Iterator[None]:
    """The scripts share what they simulate alike."""
    made: dict[tuple, object] = {}
    simulate = importlib.import_module("simulated_pairs").simulate

    def simulate_once(places, **options):
        for seed, day in places.items():
            key = (seed, day, *options.items())
            if key not in made:
                made[key] = next(simulate({seed: day}, **options))
            yield made[key]

    with pytest.MonkeyPatch.context() as patch:
        for name in ("make_small_bundle", "make_unet_bundle", "make_lut_bundle"):
            patch.setattr(importlib.import_module(name), "simulate", simulate_once)
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """The bundle of ``make_small_bundle.py``, hardly fitted."""
    path = tmp_path_factory.mktemp("models") / "small"
    importlib.import_module("make_small_bundle").main(path, n_places=2, n_others=1, n_steps=40)
    return path


def test_a_small_bundle_says_how_it_was_made_and_how_well_it_does(small):
    model = xh.load_model(small)
    assert set(model.card.scores) == {f"rmse: {band}" for band in model.card.output.bands}
    assert all(0 < value < 0.2 for value in model.card.scores.values())
    assert "seeds 0 to 1" in model.card.provenance["trained on"]
    assert "1 places" in model.card.provenance["scored on"]
    assert "| hls-v2 |" in (small / "README.md").read_text()


def test_a_bundle_is_mapped_with_flags(small, tmp_path, capsys):
    place = Simulation(
        center=(501_600, 5_628_960), size=(600, 600), start="2022-06-08", end="2022-06-10",
        sensors=("sentinel-2-l2a",), cloudiness=0.1,
    )  # fmt: skip
    catalog = write_catalog(place, tmp_path / "scenes")
    script = runpy.run_path(str(EXAMPLES / "map_bundle.py"))
    script["main"](str(catalog), str(small), str(tmp_path / "out.zarr"))
    assert "partial_context" in capsys.readouterr().out
    stored = xh.open_series(tmp_path / "out.zarr")
    assert set(np.diff(stored["x"])) == {30.0}
    assert float(stored["x"][0]) % 30 == 0  # centres: edges lie at 15
    assert np.isfinite(stored["reflectance"]).any()


def test_a_u_net_is_scored_with_a_larger_tile(tmp_path, monkeypatch):
    script = importlib.import_module("make_unet_bundle")
    monkeypatch.setattr(script, "SIDE", 1950.0)
    monkeypatch.setattr(script, "LARGER", 64)
    script.main(tmp_path / "unet", n_places=1, n_others=1, n_steps=2)
    card = xh.load_model(tmp_path / "unet").card
    assert card.scores["change by the larger tile: red"] == 0  # it is the same here
    assert card.scores["rmse, tile 64: red"] > 0


def test_a_unet_lut_is_fitted_and_scored(tmp_path):
    script = importlib.import_module("make_lut_bundle")
    script.main(tmp_path / "lut", n_places=2, n_others=1, n_steps=10)
    card = xh.load_model(tmp_path / "lut").card
    assert card.kind == "lut"
    assert all(0 < value < 0.3 for value in card.scores.values())


def test_a_network_is_trained_on_workers(tmp_path, capsys):
    pytest.importorskip("distributed")
    place = Simulation(
        center=(501_600, 5_628_960), size=(900, 900), start="2022-06-08", end="2022-06-14",
        cloudiness=0.0,
    )  # fmt: skip
    catalog = write_catalog(place, tmp_path / "scenes")
    script = importlib.import_module("train_on_workers")
    method = replace(script.CONFIG.method, width=4, steps=10)
    data = replace(script.CONFIG.data, patch=8, block=240.0, guard=0.0)
    quick = replace(script.CONFIG, method=method, data=data)
    script.main(str(catalog), str(tmp_path / "small"), quick)
    assert "seconds_ranks" in capsys.readouterr().out
    assert xh.load_model(tmp_path / "small").card.architecture == "small-conv"
    assert np.isfinite(xh.open_series(tmp_path / "small.zarr")).any()
