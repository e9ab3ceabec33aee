"""On a SLURM of one node: workers as jobs, a training that loses one, a store.

The code is that of the guide.
"""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.slurm import CannotStartError, running_slurm, why_not
from helpers.training import make_cubes

import xharmonize as xh

pytestmark = pytest.mark.slow

pytest.importorskip("torch")
pytest.importorskip("dask_jobqueue")

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "train-on-a-cluster.md"
SITE = {
    "jobqueue.slurm.interface": "lo",
    "jobqueue.slurm.scheduler-options": {"dashboard_address": None},
}
"""What a site has in its jobqueue.yaml."""


@pytest.fixture
def slurm():
    """A SLURM of two cores."""
    if reason := why_not():
        pytest.skip(reason)
    try:
        with running_slurm(cpus=2) as slurm:
            yield slurm
    except CannotStartError as error:
        pytest.skip(str(error))


def blocks_below(heading: str) -> list[str]:
    """Python of a section of the guide."""
    part = PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```python\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)


def cancel_after(step: int, log: Path, slurm, found: dict) -> None:
    """End the youngest job once the log has this step, and note when, and when it goes on."""
    until = time.monotonic() + 300
    before = _steps(log)
    while max(before, default=0) < step and time.monotonic() < until:
        time.sleep(0.1)
        before = _steps(log)
    found["jobs"] = slurm.jobs()
    slurm.cancel(found["jobs"][-1])
    found["cancelled at"] = max(_steps(log), default=0)


def _steps(log: Path) -> list[int]:
    if not log.exists():
        return []
    lines = log.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["step"] for line in lines if line.endswith("}")]


def test_a_training_loses_a_job_and_ends_on_a_new_one(slurm, tmp_path, monkeypatch):
    import dask

    monkeypatch.chdir(tmp_path)
    source, target = make_cubes(4, side=26)
    pairs = xh.collect_pairs(source, target)
    names = {"xh": xh, "pairs": pairs, "l8": target}
    names["s2"] = source.chunk({"time": 1, "y": 42, "x": 42})
    train, use = blocks_below("On SLURM")
    found: dict = {}
    log = tmp_path / "small-slurm.training" / "log.jsonl"
    killer = threading.Thread(target=cancel_after, args=(30, log, slurm, found))
    killer.start()
    with dask.config.set(SITE), pytest.warns(RuntimeWarning, match="starting again"):
        exec(train, names)
    killer.join()
    training = names["training"]
    steps = training.history["step"].tolist()
    assert len(found["jobs"]) == 2
    assert 30 <= found["cancelled at"] < 300, "the job was not ended in the middle"
    assert max(steps) > found["cancelled at"] + 50  # until nothing improves any more
    assert steps == sorted(steps)  # no step is told twice
    assert found["jobs"][0] in slurm.jobs()
    assert found["jobs"][1] not in slurm.jobs()
    assert len(slurm.jobs()) == 2  # the third stands in for the second
    with dask.config.set(SITE):
        exec(use, names)
    mapped = xh.to_landsat(source, training.model, like=target)
    stored = xh.open_series(tmp_path / "s2_as_l8.zarr")
    np.testing.assert_allclose(stored.values, mapped.values, atol=2e-4, equal_nan=True)
    until = time.monotonic() + 30
    while not slurm.is_empty() and time.monotonic() < until:
        time.sleep(0.5)
    assert slurm.is_empty()  # no stray job


def test_why_a_slurm_cannot_be_started_is_told(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert "apt-get install slurm-wlm munge" in why_not()
