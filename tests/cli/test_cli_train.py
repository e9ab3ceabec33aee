"""``xharmonize train``: a file, and what it may not say."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import commands

import xharmonize as xh
from xharmonize.simulate import Simulation, write_catalog

FILE = """
[method]
name = "{method}"
{options}

[data]
patch = 8
block = 240.0
guard = 0.0

[pairs]
items = "scenes/catalog.json"
source = "sentinel-2-l2a"
target = "landsat-c2-l2"
source_bands = ["red", "nir08"]
target_bands = ["red", "nir08"]
tolerance = "2D"
"""

FIT = FILE[: FILE.index("[data]")] + FILE[FILE.index("[pairs]") :]
"""Of a closed form, which is fitted on all pairs."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Folder with a catalogue of a few simulated scenes."""
    place = Simulation(
        center=(501_600, 5_628_960),
        size=(900, 900),
        start="2022-06-08",
        end="2022-06-14",
        cloudiness=0.0,
    )
    where = tmp_path_factory.mktemp("train")
    write_catalog(place, where / "scenes")
    return where


def call(capsys, folder, text, out, *options: str) -> tuple[int, str, str]:
    (folder / "c.toml").write_text(text)
    return commands.call(capsys, "train", folder / "c.toml", "--out", folder / out, *options)


@pytest.mark.slow
def test_a_fit_is_trained_and_kept(capsys, folder):
    options = {"method": "ols", "options": ""}
    code, _, err = call(capsys, folder, FILE.format(**options), "fit.zarr")
    assert code == 1
    assert "'ols' is fitted on all pairs" in err
    assert "Comparing" not in err  # nothing is read before
    text = FIT.replace('"2D"', "2").format(**options)
    code, out, err = call(capsys, folder, text, "fit.zarr")
    assert code == 0, err
    assert "Pairs of dates within 2 days" in out
    assert "slope" in xh.load_model(folder / "fit.zarr")


def test_a_network_is_trained_and_kept(capsys, folder):
    pytest.importorskip("torch")
    options = "width = 4\nsteps = 4\nevaluate = 2\nbatch = 4"
    text = FILE.format(method="small-conv", options=options)
    code, out, err = call(capsys, folder, text, "small")
    assert code == 0, err
    assert "small-conv" in out
    assert "hls-v2" in out
    assert xh.load_model(folder / "small").card.architecture == "small-conv"
    code, _, err = call(capsys, folder, text, "small")
    assert code == 1
    assert "exists" in err


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (FILE.format(method="smal-conv", options=""), "did you mean 'small-conv'"),
        (FILE.format(method="small-conv", options="witdh = 3"), "did you mean 'width'"),
        (FIT.replace("tolerance", "tolerence").format(method="ols", options=""), "'tolerance'"),
        (
            FIT.replace("[pairs]", "[pair]").format(method="ols", options=""),
            "did you mean 'pairs'",
        ),
        (FIT.replace('"2D"', "true").format(method="ols", options=""), 'write tolerance = "2D"'),
        (FIT.replace('"2D"', '"2 weeks"').format(method="ols", options=""), "no length of time"),
        (FIT.replace("name =", "nam =").format(method="ols", options=""), "[method] has no name"),
        ('[method]\nname = "ols"\n[pairs]\nitems = "x"', "lacks 'source'"),
        ('[method]\nname = "ols"', "has no table [pairs]"),
    ],
)
def test_what_a_file_may_not_say(capsys, folder, text, match):
    code, _, err = call(capsys, folder, text, "never")
    assert code == 1
    assert match in err
    assert not (folder / "never").exists()


def test_a_file_that_is_not_there(capsys, folder):
    (folder / "c.toml").write_text("")
    _, _, err = commands.call(capsys, "train", folder / "d.toml", "--out", folder / "x")
    assert "there is no file" in " ".join(err.split())
    assert "did you mean 'c.toml'?" in err
    assert "Errno" not in err


@pytest.mark.slow
def test_pairs_are_registered_where_the_file_says_so(capsys, folder):
    options = {"method": "ols", "options": ""}
    text = FIT.format(**options) + "register = true\n"
    code, _, err = call(capsys, folder, text, "registered.zarr")
    assert code == 0, err
    plain = xh.load_model(folder / "fit.zarr") if (folder / "fit.zarr").exists() else None
    found = xh.load_model(folder / "registered.zarr")
    assert plain is None or not found["slope"].equals(plain["slope"])
    code, _, err = call(capsys, folder, text.replace("= true", "= 1"), "other.zarr")
    assert code == 1
    assert "[pairs] register is 1" in " ".join(err.split())


def test_a_seed_is_refused_where_nothing_is_random(capsys, folder):
    text = FIT.format(method="ols", options="")
    code, _, err = call(capsys, folder, text, "never", "--seed", "3")
    assert code == 1
    assert "leave --seed out" in err


@pytest.mark.slow
def test_a_network_is_trained_on_worker_processes(capsys, folder):
    pytest.importorskip("torch")
    pytest.importorskip("distributed")
    options = {"method": "small-conv", "options": "width = 4\ndepth = 2\nsteps = 4\nbatch = 4"}
    code, out, err = call(capsys, folder, FILE.format(**options), "two", "--workers", "2")
    assert code == 0, err
    assert "small-conv" in out
    assert xh.load_model(folder / "two").bundle.card.architecture == "small-conv"


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (("--workers", "2", "--scheduler", "tcp://127.0.0.1:1"), "give one of"),
        (("--workers", "2", "--torchrun"), "torchrun starts the processes"),
        (("--torchrun",), "not started by torchrun"),
    ],
)
def test_ways_to_train_exclude_each_other(capsys, folder, options, cause, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.delenv("RANK", raising=False)
    text = FILE.format(method="small-conv", options="width = 4")
    code, _, err = call(capsys, folder, text, "none", *options)
    assert code == 1
    assert cause in " ".join(err.split())


def test_a_scheduler_that_does_not_answer_is_named():
    pytest.importorskip("distributed")
    from xharmonize.cluster.local import connect
    from xharmonize.errors import ClusterError

    with pytest.raises(ClusterError, match=r"no scheduler answers at tcp://127\.0\.0\.1:1"):
        connect("tcp://127.0.0.1:1", timeout=1)
