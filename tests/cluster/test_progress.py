"""Bars count what a cluster computes, on a terminal and in a notebook, and only if asked."""

from __future__ import annotations

from contextlib import contextmanager

import dask.array as da
import numpy as np
import pytest

import xharmonize as xh
from xharmonize import _progress
from xharmonize.testing import example_cube


class Bar:
    """What was drawn, instead of a terminal."""

    def __init__(self) -> None:
        self.drawn: list[tuple[int, int]] = []

    def update(self, _task, *, completed=0, total=0) -> None:
        self.drawn.append((completed, total))

    def advance(self, _task) -> None:
        raise AssertionError("nothing is computed in this process")


@pytest.fixture
def bars(monkeypatch):
    """Bars that were opened."""
    opened: list[Bar] = []

    @contextmanager
    def bar(_words):
        opened.append(Bar())
        yield opened[-1], None

    monkeypatch.setattr(_progress, "_terminal_bar", bar)
    return opened


def test_tasks_on_workers_are_counted_to_the_end(client, bars):
    with client.as_current(), _progress.computing("Adding", True):
        found = (da.random.random((40, 10), chunks=(1, 10)) + 1).sum().compute()
    assert np.isfinite(found)
    (bar,) = bars
    done, total = bar.drawn[-1]
    assert done == total > 10
    counts = [n for n, _ in bar.drawn]
    assert counts == sorted(counts)


def test_nothing_is_left_on_the_scheduler(client, bars):
    def plugins(dask_scheduler):
        return [name for name in dask_scheduler.plugins if "xharmonize-progress" in str(name)]

    with client.as_current(), pytest.raises(ZeroDivisionError), _progress.computing("", True):
        client.submit(lambda: 1 / 0, pure=False).result()
    assert client.run_on_scheduler(plugins) == []


def test_a_writer_draws_a_bar_of_the_cluster_unless_told_not_to(client, bars, tmp_path):
    cube = example_cube(dates=("2018-07-01T10:40",), chunks={"y": 12})
    with client.as_current():
        cube.harmonize.to_zarr(tmp_path / "with.zarr", progress=True)
        assert bars[0].drawn[-1][0] > 0
    # Whether to draw is settled before anybody asks who computes.
    with xh.set_options(progress=False):
        cube.harmonize.to_zarr(tmp_path / "without.zarr")
    cube.harmonize.to_zarr(tmp_path / "never.zarr", progress=False)
    assert len(bars) == 1


def test_another_scheduler_is_not_watched(client):
    import dask

    with client.as_current(), dask.config.set(scheduler="threads"):
        assert _progress._default_client() is None
    with client.as_current():
        assert _progress._default_client() is client
    assert _progress._default_client() is None
