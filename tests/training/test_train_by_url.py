"""A training whose bundle goes to a URL, in a real S3 over HTTP on loopback.

Run as a script, this file is a training that is killed once a checkpoint is at the URL.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from helpers.object_store import environment, files, options_of
from helpers.training import make_pairs

import xharmonize as xh
from xharmonize.errors import FitError, ModelError, StoreError
from xharmonize.models.bundle import open_bundle, read_weights
from xharmonize.training import Config, Data, Run, SmallConv, away

pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("s3fs")
pytest.importorskip("moto.server")

METHOD = SmallConv(width=4, depth=2, steps=8, evaluate=2, batch=4)
DATA = Data(patch=8, stride=8)
OUT = "s3://bucket/models/small"
KEPT = "bucket/models/small.training"
SECRET = "do-not-tell-anybody"


@pytest.fixture(scope="module")
def pairs():
    return make_pairs(4, side=26, chunks={"time": 1})


def train(pairs, out, *, run: dict[str, Any] | None = None, data: Data = DATA, **options: Any):
    config = Config(method=METHOD, data=data, run=Run(**(run or {})))
    return xh.train("small-conv", pairs, config=config, out=out, progress=False, **options)


def weights_at(place, **options: Any) -> dict[str, np.ndarray]:
    return read_weights(open_bundle(place, **options).ref)


def interrupt(monkeypatch) -> None:
    monkeypatch.setattr(
        "xharmonize.training.job.Job.run", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
    )


@pytest.mark.slow
def test_a_killed_training_goes_on_from_the_url_bit_for_bit(pairs, options, tmp_path):
    """And what is kept anywhere tells no secret."""
    command = [sys.executable, __file__, options["endpoint_url"]]
    assert subprocess.run(command, env=environment()).returncode == -signal.SIGKILL
    there = files(options)
    names = [name.removeprefix(f"{KEPT}/") for name in there.find(KEPT)]
    assert {"config.toml", "checkpoints/last.json"} <= set(names)
    assert any(name.startswith("samples.zarr/") for name in names)
    training = train(pairs, OUT, storage_options={**options, "secret": SECRET})
    train(pairs, tmp_path / "alone")
    found, alone = weights_at(OUT, storage_options=options), weights_at(tmp_path / "alone")
    for name, values in alone.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    assert training.history["step"].max() == METHOD.steps
    assert [name for name in there.find(KEPT) if not name.endswith("log.jsonl")] == []
    assert SECRET not in repr(training)
    for name in there.find("bucket"):
        assert SECRET.encode() not in there.cat_file(name), name
    with pytest.raises(ModelError, match="exists"):
        train(pairs, OUT, storage_options=options)


def test_what_is_kept_at_a_url_tells_no_secret(pairs, options, monkeypatch, caplog, capfd):
    """While it is interrupted: settings and samples; and a training of other settings is told."""
    caplog.set_level(logging.DEBUG, "xharmonize")
    interrupt(monkeypatch)
    given = {**options, "secret": SECRET}
    with pytest.raises(KeyboardInterrupt):
        train(pairs, OUT, storage_options=given)
    there = files(options)
    names = there.find("bucket")
    assert f"{KEPT}/config.toml" in names
    for name in names:
        assert SECRET.encode() not in there.cat_file(name), name
    with pytest.raises(StoreError, match="other settings"):
        train(pairs, OUT, data=Data(patch=8, stride=4), storage_options=given)
    assert SECRET not in "".join([caplog.text, *capfd.readouterr()])


@pytest.mark.slow
def test_samples_take_options_and_no_error_of_their_place_ends_a_training(
    pairs, options, tmp_path, monkeypatch
):
    place, out = "s3://bucket/samples.zarr", tmp_path / "m"
    given: dict[str, Any] = {"run": {"samples": place}, "storage_options": options}
    with monkeypatch.context() as patched:
        interrupt(patched)
        with pytest.raises(KeyboardInterrupt):
            train(pairs, out, **given)
    config = tmp_path / "m.training" / "config.toml"
    away_from_here = {**options, "endpoint_url": "http://127.0.0.1:9"}
    quick = {"config_kwargs": {"retries": {"max_attempts": 0}}}
    with pytest.raises(StoreError, match="cannot be reached"):
        train(pairs, out, run=given["run"], storage_options=away_from_here | quick)
    assert config.exists()
    assert files(options).exists("bucket/samples.zarr/zarr.json")
    train(pairs, out, **given)
    assert not files(options).exists("bucket/samples.zarr")
    missing, data = make_pairs(4, side=26, missing=0.3), Data(patch=16, min_valid=1.0)
    with pytest.raises(FitError):  # no sample can be cut: other settings may follow
        train(missing, tmp_path / "n", data=data)
    assert not (tmp_path / "n.training" / "config.toml").exists()


@pytest.mark.slow
def test_workers_take_options_of_samples(client, pairs, options, tmp_path):
    client.wait_for_workers(2, timeout=60)
    training = train(pairs, OUT, client=client, storage_options=options)
    train(pairs, tmp_path / "alone")
    found, alone = weights_at(OUT, storage_options=options), weights_at(tmp_path / "alone")
    for name, values in alone.items():
        np.testing.assert_allclose(found[name], values, atol=2e-5, err_msg=name)
    assert training.model.bundle.ref.location == OUT


def test_a_fit_goes_to_a_url_with_options(options):
    training = xh.train("ols", make_pairs(3, side=12), out="s3://bucket/fit.zarr", progress=False,
                        storage_options=options)  # fmt: skip
    found = xh.load_model("s3://bucket/fit.zarr", storage_options=options)
    np.testing.assert_array_equal(found["slope"], training.model["slope"])


if __name__ == "__main__":
    from xharmonize._urls import Remote
    from xharmonize.training.checkpoint import Checkpoints

    away.EVERY = 0.05
    write, save = Remote.write, Checkpoints.save

    def deadly(self: Remote, name: str, data: bytes) -> None:
        write(self, name, data)
        if name == "checkpoints/last.json":
            os.kill(os.getpid(), signal.SIGKILL)

    def slowly(self: Checkpoints, *given: Any) -> None:
        import time

        save(self, *given)
        time.sleep(1.0)

    Remote.write, Checkpoints.save = deadly, slowly  # type: ignore[method-assign]
    train(make_pairs(4, side=26, chunks={"time": 1}), OUT, storage_options=options_of(sys.argv[1]))
