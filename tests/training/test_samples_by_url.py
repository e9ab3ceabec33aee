"""Samples where workers read and write, and nobody's own folder: `Run(samples=URL)`.

Run as a script, this file is a writer that dies before samples are whole.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.object_store import environment, files, options_of
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
PLACE = "s3://bucket/samples.zarr"
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


def test_samples_are_written_to_a_url_and_read_from_there(pairs, options, tmp_path):
    store = build_store(pairs, PLACE, DATA, storage_options=options)
    assert "secret" not in repr(store)
    numbers = np.flatnonzero(store.kept)[:3]
    found = pickle.loads(pickle.dumps(open_store(PLACE, storage_options=options))).read(numbers)
    local = build_store(pairs, tmp_path / "local", DATA).read(numbers)
    np.testing.assert_array_equal(found.target, local.target)
    with pytest.raises(StoreError, match="exists"):
        build_store(pairs, PLACE, DATA, storage_options=options)


@pytest.mark.slow
def test_what_is_at_a_url_stays_and_what_is_not_whole_goes(pairs, options):
    missing = make_pairs(2, side=26, missing=0.3)
    with pytest.raises(FitError):
        build_store(missing, PLACE, Data(patch=16, min_valid=1.0), storage_options=options)
    assert not is_there(PLACE, options)
    for place in ("nowhere://x/y", "memory://x"):
        with pytest.raises(StoreError, match=place.partition(":")[0]):
            build_store(pairs, place, DATA)
    files(options).pipe_file("bucket/samples.zarr/a.txt", b"")
    with pytest.raises(StoreError, match="holds something else"):
        build_store(pairs, PLACE, DATA, storage_options=options)


@pytest.mark.slow
def test_samples_of_a_killed_process_are_made_anew(pairs, options):
    command = [sys.executable, __file__, options["endpoint_url"]]
    assert subprocess.run(command, env=environment()).returncode == -signal.SIGKILL
    assert is_there(PLACE, options)
    with pytest.raises(StoreError, match="not all of them"):
        open_store(PLACE, storage_options=options)
    whole = build_store(pairs, PLACE, DATA, storage_options=options)
    assert whole.kept.any()
    remove_store(PLACE, options)
    assert not is_there(PLACE, options)


def test_a_place_that_is_no_url_is_refused():
    with pytest.raises(OptionError, match="samples"):
        Run(samples="/scratch/samples.zarr")


if __name__ == "__main__":
    from xharmonize.training import cutting

    cutting.pair_of = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # once shards are written
    build_store(make_pairs(4, side=26), PLACE, DATA, storage_options=options_of(sys.argv[1]))
