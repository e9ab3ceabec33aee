"""A third kind of model, registered from outside: all that a bundle can do, by one file."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints

import numpy as np
import pytest
from helpers.bundles import generator_card, lut_card

import xharmonize as xh
from xharmonize.models import (
    Card,
    Output,
    kinds,
    open_bundle,
    register_kind,
    write_bundle,
)
from xharmonize.models.item import Described, File, make_item, write_item
from xharmonize.testing import example_cube

pytest.importorskip("torch")
pytest.importorskip("safetensors")
gain_kind = pytest.importorskip("helpers.gain_kind")
BANDS = ("blue", "red")


def gain_card():
    return gain_kind.GainCard(
        name="brighter",
        title="A gain per band",
        architecture="gain",
        source_bandpass="msi",
        target_bandpass="oli",
        output=Output(bands=BANDS, mean=(0.0, 0.0), scale=(1.0, 1.0)),
        exposure=0.5,
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_bundle(tmp_path / "brighter", gain_card(), {"gain": np.array([2.0, 4.0], "f4")})
    monkeypatch.setenv("XHARMONIZE_MODELS", str(tmp_path))
    return tmp_path / "brighter"


def test_it_is_written_opened_and_listed(folder):
    assert open_bundle(folder).card == gain_card()
    item = json.loads((folder / "item.json").read_text())
    assert item["properties"]["xharmonize:kind"] == "gain"
    assert item["properties"]["xharmonize:exposure"] == 0.5
    row = xh.harmonizers.list_models().loc["brighter"]
    assert (row["kind"], row["direction"]) == ("gain", "msi to oli")


def test_it_is_shown(folder, capsys):
    from xharmonize.cli.app import main

    with pytest.raises(SystemExit) as ended:
        main(["models", "show", "brighter"])
    shown = capsys.readouterr().out
    assert not ended.value.code
    assert "gain, gain" in shown
    assert "exposure" in shown


def test_it_is_run(folder, no_compute):
    cube = example_cube(bands=BANDS).chunk({"time": 1, "y": 8})
    model = xh.load_model("brighter")
    with no_compute():
        lazy = xh.to_landsat(cube, model)
    expected = cube.values * np.array([1.0, 2.0], "f4")[:, None, None]
    np.testing.assert_allclose(lazy.values, expected, rtol=1e-6)
    np.testing.assert_array_equal(xh.to_landsat(cube.compute(), model).values, lazy.values)


def test_a_harmoniser_that_is_not_there_is_an_error(folder, monkeypatch):
    for name in ("__main__:open_nothing", "no_module_of_this_name:open", "helpers.gain_kind"):
        monkeypatch.setattr(gain_kind.GainCard, "harmonizer", name)
        with pytest.raises(xh.errors.ModelError, match="kind 'gain' names the harmoniser") as found:
            xh.load_model(folder)
        assert "in a module that can be imported" in found.value.cure


def test_it_is_copied_with_what_it_says(folder, tmp_path):
    model = xh.load_model(folder)
    xh.harmonizers.save_model(
        replace(model, card=replace(model.card, exposure=2.0)), tmp_path / "copy"
    )
    assert xh.load_model(tmp_path / "copy").card.exposure == 2.0


def test_its_fields_have_bounds():
    with pytest.raises(xh.errors.ModelError, match="exposure is 11; it should be less than"):
        replace(gain_card(), exposure=11)


def test_a_name_is_given_once():
    class Other(Card):
        kind = "gain"

    for card in (Other, Card):
        with pytest.raises(xh.errors.ModelError, match="choose another name"):
            register_kind(card)
    assert register_kind(gain_kind.GainCard) is gain_kind.GainCard


@pytest.mark.parametrize("value", ["helpers.gain_kind:GainCard", "helpers.nothing:GainCard"])
def test_an_entry_point_makes_it_known(monkeypatch, value):
    points = EntryPoints([EntryPoint("gain", value, kinds.GROUP)])
    monkeypatch.setattr(kinds, "entry_points", lambda **_: points)
    monkeypatch.delitem(kinds._KINDS, "gain")
    if "nothing" in value:
        with pytest.raises(xh.errors.ModelError, match=r"announced as 'helpers\.nothing:GainCard'"):
            kinds.find_kind("gain", "item.json")
    else:
        assert kinds.find_kind("gain", "item.json") is gain_kind.GainCard


@pytest.mark.parametrize("card", [generator_card(), lut_card(), gain_card()])
def test_fields_of_a_kind_are_written_once(card):
    files = {"weights.safetensors": File(size=1, sha256="0" * 64)}
    item = make_item(Described(card=card, files=files, n_parameters=1))
    own = {key.removeprefix("xharmonize:") for key in item["properties"]}
    assert set(card.network) - {"architecture", "hyperparameters", "output"} - card.in_inputs <= own
    assert write_item(Described(card=card, files=files, n_parameters=1))
