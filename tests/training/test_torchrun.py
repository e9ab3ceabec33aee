"""Training by `torchrun`, without Dask: two real processes, from Python and from the command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import xharmonize as xh
from xharmonize.errors import ClusterError, OptionError
from xharmonize.simulate import Simulation, write_catalog
from xharmonize.training import Config, Data, SmallConv

pytest.importorskip("torch")
pytest.importorskip("safetensors")

SCRIPT = """
import sys

from helpers.training import make_pairs

from xharmonize.training import Config, Data, SmallConv, torchrun

config = Config(
    method=SmallConv(width=4, depth=2, steps=6, evaluate=3, batch=4),
    data=Data(patch=8, stride=8),
)
made = []


def pairs():
    made.append(1)
    return make_pairs(4, side=26)


training = torchrun.train("small-conv", pairs, config=config, out=sys.argv[1], progress=False)
assert len(made) == (training is not None)
print("first" if training is not None else "other", flush=True)
"""

FILE = """
[method]
name = "small-conv"
width = 4
depth = 2
steps = 4
evaluate = 2
batch = 4

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


def torchrun(*arguments: str, folder: Path, n: int = 2) -> subprocess.CompletedProcess[str]:
    command = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}"]
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, *command, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.slow
def test_two_processes_give_the_weights_of_one(tmp_path):
    from helpers.training import make_pairs

    from xharmonize.models.bundle import open_bundle, read_weights

    (tmp_path / "script.py").write_text(SCRIPT)
    done = torchrun("script.py", "two", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == ["first", "other"]
    config = Config(
        method=SmallConv(width=4, depth=2, steps=6, evaluate=3, batch=4),
        data=Data(patch=8, stride=8),
    )
    alone = xh.train(
        "small-conv", make_pairs(4, side=26), config=config, out=tmp_path / "one", progress=False
    )
    one, two = (read_weights(open_bundle(tmp_path / name).ref) for name in ("one", "two"))
    assert set(one) == set(two)
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-3, atol=1e-5, err_msg=name)
    assert sorted(p.name for p in (tmp_path / "two.training").iterdir()) == sorted(
        p.name for p in (tmp_path / "one.training").iterdir()
    )
    assert {"ergas", "sam"} <= set(alone.scores)


@pytest.mark.slow
def test_the_command_trains_by_torchrun_and_ends_all_on_an_error(tmp_path):
    place = Simulation(
        center=(501_600, 5_628_960),
        size=(900, 900),
        start="2022-06-08",
        end="2022-06-14",
        cloudiness=0.0,
    )
    write_catalog(place, tmp_path / "scenes")
    (tmp_path / "c.toml").write_text(FILE)
    command = ("-m", "xharmonize", "train", "c.toml", "--out", "small", "--torchrun")
    done = torchrun(*command, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ergas") <= 2  # the table is printed once, not by each process
    assert xh.load_model(tmp_path / "small").bundle.card.architecture == "small-conv"
    done = torchrun(*command, folder=tmp_path)  # the first refuses, the other waits for it
    assert done.returncode != 0
    assert "small exists" in done.stderr


def test_what_torchrun_cannot_do_is_told(monkeypatch):
    from xharmonize.training import torchrun as ours

    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ClusterError, match="not started by torchrun"):
        ours.train("small-conv", lambda: None)
    with pytest.raises(OptionError, match="'ols' is solved by one process"):
        ours.train("ols", lambda: None)
