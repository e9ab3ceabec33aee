"""Samples where workers read and write, and nobody's own folder: `Run(samples=URL)`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.training import make_pairs, only

import xharmonize as xh
from xharmonize.errors import FitError, OptionError, StoreError
from xharmonize.models.bundle import open_bundle, read_weights
from xharmonize.training import Config, Data, Run, SmallConv, build_store, on_workers, open_store
from xharmonize.training.store import is_there, remove_store

pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("distributed")

METHOD = SmallConv(width=4, depth=2, steps=4, evaluate=2, batch=4)
DATA = Data(patch=8, stride=8)


@pytest.fixture(scope="module")
def pairs():
    return make_pairs(4, side=26, chunks={"time": 1})


def train(pairs, out, **options):
    run = Run(**options.pop("run", {}))
    config = Config(method=METHOD, data=DATA, run=run)
    xh.train("small-conv", pairs, config=config, out=out, progress=False, **options)
    return read_weights(open_bundle(out).ref)


@pytest.mark.slow
def test_workers_write_and_read_samples_at_a_url(client, pairs, tmp_path, monkeypatch):
    """Workers have another working directory, and see no folder of the client's."""
    (tmp_path / "client").mkdir()
    monkeypatch.chdir(tmp_path / "client")
    sent, send, write = [], on_workers.send, Path.write_text

    def write_other(self, text, **options):  # what the mark's file has on the workers' machines
        return write(self, "another's" if self.name == "mark" else text, **options)

    monkeypatch.setattr(Path, "write_text", write_other)

    async def note(scheduler, name, path, sender):
        sent.append(path.name)
        await send(scheduler, name, path, sender)

    monkeypatch.setattr(on_workers, "send", note)
    client.wait_for_workers(2, timeout=60)
    place = f"file://{tmp_path}/common/samples.zarr"
    found = train(pairs, "m", run={"samples": place}, client=client)
    assert "samples.tar" not in sent
    assert not is_there(place)  # removed at the end
    alone = train(pairs, "alone")
    assert set(found) == set(alone)
    for name in alone:
        np.testing.assert_allclose(found[name], alone[name], atol=2e-5, err_msg=name)


@pytest.mark.slow
def test_an_interrupted_training_goes_on_with_its_samples(pairs, tmp_path, monkeypatch):
    place = f"file://{tmp_path}/common/samples.zarr"
    monkeypatch.setattr(
        "xharmonize.training.job.Job.run", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        train(pairs, tmp_path / "m", run={"samples": place})
    assert is_there(place)
    monkeypatch.undo()
    with pytest.raises(StoreError, match="other pairs"):
        train(only(pairs, [0, 1, 2]), tmp_path / "m", run={"samples": place})
    train(pairs, tmp_path / "m", run={"samples": place})
    assert not is_there(place)


@pytest.mark.slow
def test_what_is_at_a_url_stays_and_what_is_not_whole_goes(pairs, tmp_path):
    place = f"memory://{tmp_path.name}/samples.zarr"
    store = build_store(pairs, place, DATA)
    with pytest.raises(StoreError, match="exists"):
        build_store(pairs, place, DATA)
    numbers = np.flatnonzero(store.kept)[:3]
    local = build_store(pairs, tmp_path / "local", DATA)
    np.testing.assert_array_equal(
        open_store(place).read(numbers).target, local.read(numbers).target
    )
    remove_store(place)
    missing = make_pairs(2, side=26, missing=0.3)
    with pytest.raises(FitError):
        build_store(missing, place, Data(patch=16, min_valid=1.0))
    assert not is_there(place)
    with pytest.raises(StoreError, match="nowhere"):
        build_store(pairs, "nowhere://x/y", DATA)


def test_a_place_that_is_no_url_is_refused():
    with pytest.raises(OptionError, match="samples"):
        Run(samples="/scratch/samples.zarr")
