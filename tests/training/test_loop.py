"""The loop: what is stopped goes on as if it had not been; parts of a batch are the batch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.marks import first_quick
from helpers.training import make_pairs

from xharmonize.errors import FitError, StoreError
from xharmonize.training import Config, Data, Run, SmallConv, build_store, open_store, split

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from xharmonize.training import cards, checkpoint, constants, loop  # noqa: E402
from xharmonize.training.job import make_job  # noqa: E402
from xharmonize.training.log import Log  # noqa: E402
from xharmonize.training.loop import Loop  # noqa: E402

DATA = Data(patch=8)
SMALL = {"width": 4, "depth": 2, "steps": 12, "evaluate": 4, "batch": 4, "patience": 0}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store") / "samples"
    return build_store(make_pairs(4, side=26), folder, DATA)


def make_loop(store, folder: Path, *, run: Run | None = None, **options) -> Loop:
    folder.mkdir(parents=True, exist_ok=True)
    config = SmallConv(**SMALL | options)
    parts = split(store, DATA)
    facts = cards.Facts.of(store, parts.training, name="small-test")
    settings = Config(method=config, run=run or Run(save=2, log=1, tensorboard=False))
    job = make_job(settings, parts, facts, checkpoints=folder / "checkpoints")
    log = Log(folder / "log.jsonl", steps=config.steps, progress=False, tensorboard=False)
    return job.loop(log, device="cpu")


def told(folder: Path) -> list[dict]:
    """Lines of the log without the time they took."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("seconds")} for line in lines]


def last(one: Loop) -> dict[str, np.ndarray]:
    """Weights, optimiser and averages of the last checkpoint."""
    tensors, _ = one.checkpoints.load("last")
    return {name: value.numpy() for name, value in tensors.items()}


def assert_same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory):
    """A training that was not interrupted: the loop, its weights, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    one = make_loop(store, folder)
    return one, one.train(), folder


@pytest.mark.parametrize("step", first_quick([1, 5, 11]))
def test_an_interrupted_training_ends_as_one_that_was_not(store, whole, tmp_path, step):
    class Interrupted(Exception):
        pass

    stopped = make_loop(store, tmp_path)
    advance = stopped.log.advance

    def stop(at, text):
        advance(at, text)
        if at == step:
            raise Interrupted

    stopped.log.advance = stop
    with pytest.raises(Interrupted):
        stopped.train()
    again = make_loop(store, tmp_path)
    assert_same(again.train(), whole[1])
    assert_same(last(again), last(whole[0]))
    assert told(tmp_path) == told(whole[2])


KILLED = """
import sys, time
from pathlib import Path
sys.path[:0] = {path!r}
from training.test_loop import make_loop
from xharmonize.training import open_store
one = make_loop(open_store({store!r}), Path({folder!r}))
save = one.checkpoints.save
advance = one.log.advance
one.log.advance = lambda at, text: (advance(at, text), time.sleep(0.05))
one.train()
"""


@pytest.mark.slow
def test_a_killed_training_ends_as_one_that_was_not(store, whole, tmp_path):
    tests = Path(__file__).parents[1]
    code = KILLED.format(path=[str(tests)], store=store.path, folder=str(tmp_path))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    log = tmp_path / "log.jsonl"
    until = time.monotonic() + 120
    while not log.exists() or log.read_text().count('"epoch"') < 5:
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = make_loop(store, tmp_path)
    assert_same(again.train(), whole[1])
    assert_same(last(again), last(whole[0]))


def test_parts_of_a_batch_are_the_batch(store, whole, tmp_path):
    """Means over dates and pixels included: they are those of the whole batch."""
    run = Run(save=2, log=1, tensorboard=False, accumulate=3)
    parts = make_loop(store, tmp_path / "parts", run=run).train()
    for name, value in whole[1].items():
        np.testing.assert_allclose(value, parts[name], atol=2e-5, err_msg=name)


def test_training_starts_at_the_line(store, tmp_path):
    one = make_loop(store, tmp_path)
    numbers = one.split.validation[:3]
    batch = one.feed.batch(numbers, clip=False)
    found = one.method.predict(batch).numpy()
    means = constants.pooled(store, store.read(numbers))
    lines = constants.fit_lines(store, one.split.training)[0]
    expected = np.einsum("oc,ncyx->noyx", lines.matrix, means) + lines.offset[:, None, None]
    output = one.feed.card.output
    scale, mean = (np.array(v)[:, None, None] for v in (output.scale, output.mean))
    np.testing.assert_allclose(found * scale + mean, expected, atol=1e-5)


@pytest.mark.slow
def test_a_network_learns_what_a_line_cannot(store, tmp_path):
    one = make_loop(store, tmp_path, width=16, steps=150, evaluate=50, learning_rate=3e-3)
    one.train()
    scores = one.log.history()["validation"].dropna().to_numpy()
    assert scores[-1] < 0.9 * scores[0]


def test_training_stops_when_it_gets_no_better(store, tmp_path):
    one = make_loop(store, tmp_path, learning_rate=1.0, steps=100, evaluate=1, patience=3)
    found = one.train()
    history = one.log.history()
    assert history["step"].max() < 100
    scores = history.dropna(subset=["validation"])
    best = scores["step"][scores["validation"].idxmin()]
    assert json.loads((tmp_path / "checkpoints" / "best.json").read_text())["step"] == best
    assert np.isfinite(found["last.weight"]).all()


def test_the_average_follows_the_weights():
    network = torch.nn.Linear(1, 1)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    expected, values = float(average["weight"]), [0.3, -0.2, 0.9]
    for value in values:
        torch.nn.init.constant_(network.weight, value)
        loop._follow(average, network, 0.75)
        expected = 0.75 * expected + 0.25 * value
    assert float(average["weight"]) == pytest.approx(expected)


def test_a_loss_that_is_not_finite_ends_the_training(store, tmp_path):
    one = make_loop(store, tmp_path, steps=4)
    network = one.method.networks["generator"]
    with torch.no_grad():
        network.layers[0].weight.fill_(float("inf"))
    with pytest.raises(FitError, match="lower learning_rate"):
        one.train()


def test_a_full_disk_keeps_the_checkpoint_before(store, tmp_path, monkeypatch):
    one = make_loop(store, tmp_path, steps=4)
    one.train()
    before = last(one)
    write = checkpoint.write_file

    def full(path, data):
        write(path, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_file", full)
    with pytest.raises(StoreError, match="goes on from the checkpoint before"):
        one.checkpoints.save("last", {"a": torch.zeros(3)}, {})
    assert_same(last(one), before)
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_a_damaged_checkpoint_is_refused(store, tmp_path):
    one = make_loop(store, tmp_path, steps=4)
    one.train()
    (file,) = (tmp_path / "checkpoints").glob("last-*.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreError, match="is damaged"):
        make_loop(store, tmp_path).train()


def test_settings_of_the_run_change_nothing(store, whole, tmp_path):
    one = make_loop(store, tmp_path, run=Run(save=5, log=7, tensorboard=False))
    assert_same(one.train(), whole[1])


def test_tensorboard_gets_the_numbers_of_the_log(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = Log(tmp_path / "log.jsonl", steps=2, progress=False)
    log.begin(-1)
    log.tell(1, epoch=0, squared=0.5)
    log.tell(2, validation=4.0, is_best=True)
    log.close()
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert set(board.Tags()["scalars"]) == {"squared", "validation"}
    for name, step, value in (("squared", 1, 0.5), ("validation", 2, 4.0)):
        (event,) = board.Scalars(name)
        assert (event.step, event.value) == (step, value)


def test_without_tensorboard_the_log_is_all_there_is(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    log = Log(tmp_path / "log.jsonl", steps=1, progress=False)
    log.begin(-1)
    log.tell(1, squared=0.5)
    log.close()
    assert log.history()["squared"].tolist() == [0.5]
    assert not (tmp_path / "tensorboard").exists()


def test_the_store_on_disk_is_the_one_in_memory(store):
    assert open_store(store.path).pairs == store.pairs
