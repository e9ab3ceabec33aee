"""A worker that lacks torch says what to install, and says it at once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import xharmonize as xh
from xharmonize.models import architectures
from xharmonize.models.bundle import write_bundle
from xharmonize.testing import example_cube

from .conftest import small_card

distributed = pytest.importorskip("distributed")
pytest.importorskip("torch")

WITHOUT_TORCH = """
import sys


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Absent())
"""


@pytest.fixture
def client(tmp_path):
    """A scheduler of this process, and a worker process that cannot import torch."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_TORCH)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with distributed.LocalCluster(
        n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        command = [
            *(sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address),
            *("--no-nanny", "--no-dashboard", "--nthreads", "1", "--host", "127.0.0.1"),
            *("--local-directory", str(tmp_path)),
        ]
        worker = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL
        )
        try:
            with distributed.Client(cluster) as client:
                client.wait_for_workers(1, timeout=60)
                yield client
        finally:
            worker.terminate()
            worker.wait()


def test_the_error_names_the_extra(client, tmp_path):
    card = small_card()
    model = xh.load_model(
        write_bundle(tmp_path / "model", card, architectures.seeded(card)).location
    )
    cube = example_cube(shape=(96, 96)).chunk({"time": 1})
    assert xh.to_landsat(cube, "hls-v2").mean().compute() > 0  # the worker works
    with pytest.raises(
        xh.errors.MissingDependencyError, match=r"'torch'.*pip install 'xharmonize\["
    ):
        xh.to_landsat(cube, model).compute()
