"""A worker process killed in the middle of a run changes nothing in the result."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.models import architectures
from xharmonize.models.bundle import write_bundle
from xharmonize.testing import example_cube

from .conftest import running_cluster, small_card

pytest.importorskip("distributed")
pytest.importorskip("torch")

TASKS = "harmonize-generator"


@pytest.fixture
def mapped(tmp_path):
    """A generator over a cube of two dozen blocks, lazily."""
    card = small_card()
    model = xh.load_model(
        write_bundle(tmp_path / "model", card, architectures.seeded(card)).location
    )
    dates = [f"2018-07-{day:02d}" for day in range(1, 7)]
    cube = example_cube(shape=(192, 192), dates=dates, missing=0.01)
    return xh.to_landsat(cube.chunk({"time": 1, "y": 96, "x": 96}), model)


def count_done(client) -> int:
    """Blocks of the generator that are computed, or have been and were used."""
    prefix = client.cluster.scheduler.task_prefixes.get(TASKS)
    counts = prefix.state_counts if prefix else {}
    return counts.get("memory", 0) + counts.get("released", 0) + counts.get("forgotten", 0)


def kill_one_worker_during(client, run) -> None:
    """Call `run` in a thread, and kill a worker once the first blocks are done."""
    errors: list[BaseException] = []

    def target() -> None:
        try:
            run()
        except BaseException as error:
            errors.append(error)

    pids, before = client.run(os.getpid), count_done(client)
    thread = threading.Thread(target=target)
    thread.start()
    deadline = time.monotonic() + 180
    while count_done(client) <= before:
        assert thread.is_alive() or not errors, errors
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(pids[min(pids)], signal.SIGKILL)
    assert thread.is_alive(), "the run was over before the worker was killed"
    thread.join(timeout=180)
    assert not thread.is_alive()
    assert errors == []
    client.wait_for_workers(2, timeout=90)
    assert set(client.run(os.getpid).values()) != set(pids.values())


@pytest.mark.slow
def test_a_cube_in_memory_and_a_store_are_as_if_nothing_had_happened(mapped, tmp_path):
    expected = mapped.compute(scheduler="threads")
    found = []
    with running_cluster(2) as client:
        kill_one_worker_during(client, lambda: found.append(mapped.compute()))
        kill_one_worker_during(client, lambda: mapped.harmonize.to_zarr(tmp_path / "found.zarr"))
    xr.testing.assert_identical(found[0], expected)
    assert np.isfinite(expected).any()
    stored = xh.open_series(tmp_path / "found.zarr").compute()
    np.testing.assert_array_equal(stored.transpose(*expected.dims), expected)
