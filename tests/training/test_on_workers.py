"""Trainings on workers: the same as alone, whatever happens to the workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import rank_trainings
from helpers.training import make_pairs

import xharmonize as xh
from xharmonize.cluster import run_ranks
from xharmonize.errors import ClusterError, OptionError, StoreError
from xharmonize.training import (
    Config,
    Data,
    GlobalLutConv,
    HlsGan,
    Mgan,
    Pix2pix,
    Run,
    SmallConv,
    TileLut,
    TileLutConv,
    build_store,
    split,
)

torch = pytest.importorskip("torch")
distributed = pytest.importorskip("distributed")
pytest.importorskip("safetensors")

from xharmonize.training import cards, on_workers  # noqa: E402
from xharmonize.training.job import Job, make_job  # noqa: E402

TESTS = Path(__file__).parents[1]
DATA = Data(patch=8)
QUICK = SmallConv(width=4, depth=2, steps=12, evaluate=4, batch=4, patience=0)
RUN = Run(save=2, log=1, tensorboard=False)


@pytest.fixture(scope="module")
def pairs():
    return make_pairs(4, side=26)


@pytest.fixture(scope="module")
def client():
    with xh.cluster.local(n_workers=2, threads_per_worker=1, dashboard=False, gpu=False) as client:
        yield client


@pytest.fixture(scope="module")
def alone(pairs, tmp_path_factory):
    """The same training in this process: its result and its bundle."""
    out = tmp_path_factory.mktemp("alone") / "m"
    return xh.train("small-conv", pairs, config=config(), out=out), out


def config(method=QUICK, **run) -> Config:
    return Config(method=method, data=DATA, run=replace(RUN, **run))


def weights(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(folder / "weights.safetensors")


def assert_close(one: Path, other: Path, atol: float = 2e-5) -> None:
    found, expected = weights(one), weights(other)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=atol, rtol=0, err_msg=name)


@pytest.mark.slow
def test_two_ranks_end_as_one_process(client, pairs, alone, tmp_path):
    found = xh.train("small-conv", pairs, config=config(), client=client, out=tmp_path / "m")
    assert_close(tmp_path / "m", alone[1])
    history, expected = (one.history.filter(regex="^(?!seconds)") for one in (found, alone[0]))
    assert history["step"].tolist() == expected["step"].tolist()
    for name in ("validation", "generator: l1"):
        np.testing.assert_allclose(history[name], expected[name], rtol=1e-4)
    assert (found.history["seconds_ranks"].dropna() > 0).all()
    np.testing.assert_allclose(found.scores, alone[0].scores, rtol=1e-3)


@pytest.mark.slow
def test_one_rank_on_a_worker_is_one_process_bit_for_bit(client, pairs, alone, tmp_path):
    xh.train("small-conv", pairs, config=config(ranks=1), client=client, out=tmp_path / "m")
    for name, values in weights(alone[1]).items():
        np.testing.assert_array_equal(weights(tmp_path / "m")[name], values)


def when_saved(folder: Path, act) -> threading.Thread:
    """Do something once a checkpoint is there."""

    def wait():
        until = time.monotonic() + 120
        path = folder.with_name(folder.name + ".training") / "checkpoints" / "last.json"
        while time.monotonic() < until:
            if path.exists() and '"step": 0,' not in path.read_text():
                act()
                return
            time.sleep(0.01)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


LONG = replace(QUICK, steps=120, evaluate=60)


@pytest.fixture(scope="module")
def long_alone(pairs, tmp_path_factory):
    out = tmp_path_factory.mktemp("long") / "m"
    xh.train("small-conv", pairs, config=config(LONG), out=out)
    return out


@pytest.mark.slow
def test_a_killed_worker_costs_no_more_than_steps_since_the_checkpoint(
    client, pairs, long_alone, tmp_path
):
    client.wait_for_workers(2, timeout=120)
    pids = client.run(os.getpid)  # of workers that run nothing yet
    out = tmp_path / "m"
    killer = when_saved(out, lambda: os.kill(max(pids.values()), signal.SIGKILL))
    with pytest.warns(RuntimeWarning, match=r"is lost.*starting again \(1 of 2\)"):
        found = xh.train("small-conv", pairs, config=config(LONG, ranks=2), client=client, out=out)
    killer.join()
    assert_close(out, long_alone, atol=2e-4)
    steps = found.history["generator: l1"].dropna().index
    assert found.history["step"][steps].tolist() == list(range(1, 121)), "told as if never stopped"


@pytest.fixture
def by_ctrl_c():
    """An interrupt is a KeyboardInterrupt: other packages take it for theirs when imported."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_ctrl_c_keeps_the_checkpoint_and_any_number_of_ranks_goes_on(
    client, pairs, long_alone, tmp_path, by_ctrl_c
):
    client.wait_for_workers(2, timeout=120)
    out = tmp_path / "m"
    stopper = when_saved(out, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        xh.train("small-conv", pairs, config=config(LONG, ranks=2), client=client, out=out)
    stopper.join()
    assert (tmp_path / "m.training" / "checkpoints" / "last.json").exists()
    assert not out.exists()
    xh.train("small-conv", pairs, config=config(LONG), out=out)
    assert_close(out, long_alone, atol=2e-4)


def test_an_output_that_cannot_be_written_is_named(client, pairs, tmp_path):
    out, work = tmp_path / "m", tmp_path / "m.training"
    work.mkdir()
    (work / "checkpoints").touch()  # a file where the folder must be
    with pytest.raises(StoreError, match="checkpoint 'best' cannot be written") as caught:
        xh.train("small-conv", pairs, config=config(), client=client, out=out)
    assert "on rank 0, worker tcp" in caught.value.__notes__[0]
    (work / "checkpoints").unlink()
    xh.train("small-conv", pairs, config=config(), client=client, out=out)


def test_what_cannot_be_is_refused_before_samples_are_cut(client, pairs, tmp_path):
    out = tmp_path / "m"
    client.wait_for_workers(2, timeout=120)
    odd = config(replace(QUICK, batch=5))
    with pytest.raises(OptionError, match="batch=5 has no equal part for each of 2 ranks"):
        xh.train("small-conv", pairs, config=odd, client=client, out=out)
    with pytest.raises(ClusterError, match="3 ranks are asked for"):
        xh.train("small-conv", pairs, config=config(ranks=3, timeout=1), client=client, out=out)
    with pytest.raises(ClusterError, match="has no GPU"):
        xh.train("small-conv", pairs, config=config(device="cuda"), client=client, out=out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("ends", ["by Ctrl-C", "as if killed"])
def test_workers_that_see_another_folder_get_samples_over_the_scheduler(
    client, pairs, long_alone, tmp_path, monkeypatch, by_ctrl_c, ends
):
    """Interrupted, too: the checkpoint comes back, at the end or when the client comes again."""
    client.wait_for_workers(2, timeout=120)
    monkeypatch.setattr(on_workers.Path, "write_text", _write_other(Path.write_text))
    out = tmp_path / "m"
    seen = []

    def interrupt():
        until = time.monotonic() + 120
        log = tmp_path / "m.training" / "log.jsonl"
        while time.monotonic() < until:
            if log.exists() and '"step": 8,' in log.read_text():
                seen.append((tmp_path / "m.training" / "checkpoints").exists())
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.01)

    stopper = threading.Thread(target=interrupt)
    stopper.start()
    bring_back = on_workers._Parcel.bring_back
    if ends == "as if killed":
        monkeypatch.setattr(on_workers._Parcel, "bring_back", lambda self: None)
    with pytest.raises(KeyboardInterrupt):
        xh.train("small-conv", pairs, config=config(LONG, ranks=2), client=client, out=out)
    monkeypatch.setattr(on_workers._Parcel, "bring_back", bring_back)
    stopper.join()
    assert seen == [False], "the ranks wrote into the client's folder"
    last = tmp_path / "m.training" / "checkpoints" / "last.json"
    assert last.exists() == (ends == "by Ctrl-C")
    again = xh.train("small-conv", pairs, config=config(LONG, ranks=2), client=client, out=out)
    assert_close(out, long_alone, atol=2e-4)
    taken = again.history["seconds"].dropna().index
    assert again.history["step"][taken].tolist() == list(range(1, 121))
    left = client.submit(lambda: None).result() or client.run_on_scheduler(
        lambda dask_scheduler: [
            one.name for one in dask_scheduler.plugins["xharmonize-depot"].root.iterdir()
        ]
    )
    assert left == []


def _write_other(write):
    """What is in the mark's file on the workers' machines."""

    def write_text(self, text, **options):
        return write(self, "another machine's" if self.name == "mark" else text, **options)

    return write_text


@pytest.fixture(scope="module")
def samples(pairs, tmp_path_factory):
    store = build_store(pairs, tmp_path_factory.mktemp("samples") / "s", Data(patch=16))
    return store, split(store, Data(patch=16, split="random"))


def job_of(samples, method, **run) -> Job:
    store, parts = samples
    facts = cards.Facts.of(store, parts.training, name="small-test")
    return make_job(Config(method=method, run=Run(**run)), parts, facts, checkpoints=Path("none"))


SMALL = {"width": 8, "warm_up": 0, "ramp": 1, "discriminator_width": 8, "dropout": 0.5}
METHODS = {
    "small-conv": SmallConv(width=8),
    "mgan": Mgan(**SMALL),
    "mgan printed": Mgan.printed(**SMALL),
    "hls-gan printed": HlsGan.printed(**SMALL),
    "pix2pix": Pix2pix(**SMALL),
    "pix2pix printed": Pix2pix.printed(**SMALL),
    "global-lut-conv": GlobalLutConv(),
    "tile-lut": TileLut(),
    "tile-lut-conv": TileLutConv(),
    "tile-lut-conv printed": TileLutConv.printed(),
}


def difference(found, expected) -> float:
    """Of gradients, by the largest over losses of the relative L2 norm."""
    worst = 0.0
    assert [name for name, *_ in found] == [name for name, *_ in expected]
    for (_, loss, ours), (_, its, theirs) in zip(found, expected):
        assert loss == pytest.approx(its, rel=1e-5)
        assert ours.keys() == theirs.keys()
        squared = sum(float(((ours[k] - theirs[k]).astype("f8") ** 2).sum()) for k in ours)
        norm = sum(float((theirs[k].astype("f8") ** 2).sum()) for k in ours)
        assert norm > 0
        worst = max(worst, (squared / norm) ** 0.5)
    return worst


LIMIT = {"tile-lut-conv printed": 2e-5}
"""Its refinement is divided by the deviation of a batch that hardly varies: rounding, enlarged."""


@pytest.mark.parametrize("name", METHODS)
def test_the_gradient_of_two_ranks_is_that_of_the_union(client, samples, name):
    job = job_of(samples, METHODS[name])
    numbers = samples[1].training[[0, 5, 2, 3]].tolist()
    client.wait_for_workers(2, timeout=120)
    whole = rank_trainings.gradients(None, job, numbers, 7)
    parts = run_ranks(rank_trainings.gradients, job, numbers, 7, client=client, ranks=2)
    for found in parts:
        assert difference(found, whole) < LIMIT.get(name, 1e-5)


NORMALISED = {
    "hls-gan printed",
    "pix2pix printed",
    "global-lut-conv",
    "tile-lut",
    "tile-lut-conv",
    "tile-lut-conv printed",
}
"""Those whose generators have batch normalisation."""


@pytest.mark.parametrize("name", METHODS)
def test_the_gradient_of_parts_is_that_of_the_batch(samples, name):
    numbers = samples[1].training[[0, 5, 2, 3]].tolist()
    parts = job_of(samples, METHODS[name], accumulate=2)
    if name in NORMALISED:
        with pytest.raises(OptionError, match=r"accumulate=2 asks for parts.*normalisation"):
            rank_trainings.gradients(None, parts, numbers, 7)
        return
    whole = rank_trainings.gradients(None, job_of(samples, METHODS[name]), numbers, 7)
    assert difference(rank_trainings.gradients(None, parts, numbers, 7), whole) < 1e-5


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root, to hide a folder")
def test_workers_without_the_clients_folder(pairs, alone, tmp_path):
    """Workers in namespaces of their own, where an empty folder hides the client's."""
    unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    if subprocess.run([*unshare, f"mount -t tmpfs none {tmp_path}"]).returncode:
        pytest.skip("this system lets nobody hide a folder")
    out = tmp_path / "client" / "m"
    out.parent.mkdir()
    environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
    with distributed.LocalCluster(
        n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        command = (
            f"mount -t tmpfs none {out.parent} && cd {tmp_path} && exec {sys.executable} -m "
            f"distributed.cli.dask_worker {cluster.scheduler_address} --nthreads 1 --no-dashboard "
            "--host 127.0.0.1"
        )
        workers = [subprocess.Popen([*unshare, command], env=environment) for _ in range(2)]
        try:
            with distributed.Client(cluster) as client:
                client.wait_for_workers(2, timeout=120)
                assert run_ranks(rank_trainings.look, str(out.parent), client=client) == [[], []]
                xh.train("small-conv", pairs, config=config(), client=client, out=out)
        finally:
            for worker in workers:
                worker.send_signal(signal.SIGINT)
            for worker in workers:
                worker.wait(30)
    assert_close(out, alone[1])
