"""A cluster on this machine: which kind, where it listens, and that it goes."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

import xharmonize as xh
from xharmonize.cluster.local import choose, split_cores
from xharmonize.errors import ClusterError

pytest.importorskip("distributed")


def has_gpu() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))


no_gpu_here = pytest.mark.skipif(has_gpu(), reason="there is a GPU on this machine")
HAS_DASK_CUDA = bool(__import__("importlib.util").util.find_spec("dask_cuda"))


class Lines(logging.Handler):
    """What is logged. (pytest's own handler is silenced by distributed, with its loggers.)"""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def log():
    logger, handler = logging.getLogger("xharmonize.cluster"), Lines()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler.lines
    logger.removeHandler(handler)
    logger.setLevel(before)


def listening(process) -> list[str]:
    """Addresses on which a process and its children listen."""
    return [
        connection.laddr.ip
        for each in (process, *process.children(recursive=True))
        for connection in each.net_connections("inet")
        if connection.status == "LISTEN"
    ]


@no_gpu_here
def test_without_a_gpu_workers_run_on_the_cores_and_the_reason_says_so(log):
    import psutil

    before = set(psutil.Process().children(recursive=True))
    with xh.cluster.local(n_workers=1, threads_per_worker=2) as client:
        assert client.reason == "LocalCluster: no NVIDIA GPU on this machine"
        assert client.reason in repr(client)
        assert log == [f"{client.reason}, 1 workers, dashboard {client.dashboard_link}"]
        assert "127.0.0.1" in client.dashboard_link
        (worker,) = client.scheduler_info()["workers"].values()
        assert worker["nthreads"] == 2
        assert set(listening(psutil.Process())) == {"127.0.0.1"}
        assert client.submit(sum, [1, 2]).result() == 3
        cluster = client.cluster
    assert cluster.status.name == "closed"
    left = set(psutil.Process().children(recursive=True)) - before
    assert [p.cmdline() for p in left if "resource_tracker" not in " ".join(p.cmdline())] == []


def test_the_cluster_goes_with_close_too():
    client = xh.cluster.local(n_workers=1, dashboard=False, gpu=False)
    assert "gpu=False" in client.reason
    client.close()
    assert client.cluster.status.name == "closed"


@pytest.mark.parametrize("option", ["n_workers", "threads_per_worker"])
def test_a_cluster_without_workers_is_refused(option):
    with pytest.raises(ClusterError, match=f"{option}=0 leaves nothing to compute with"):
        xh.cluster.local(**{option: 0})


@no_gpu_here
def test_gpus_that_are_not_there_are_refused():
    with pytest.raises(ClusterError, match="gpu=True, but no NVIDIA GPU on this machine"):
        xh.cluster.local(gpu=True)


@pytest.mark.parametrize("hidden", ["", "-1", "-1,0"])
def test_hidden_gpus_are_left_alone(tmp_path, hidden):
    (tmp_path / "nvidia0").touch()
    choice = choose(devices=tmp_path, environment={"CUDA_VISIBLE_DEVICES": hidden})
    assert not choice.is_gpu
    assert not choice.is_unexpected
    assert "hides every GPU" in choice.reason


@pytest.mark.skipif(HAS_DASK_CUDA, reason="dask-cuda is installed")
def test_a_gpu_without_dask_cuda_is_worth_a_warning(tmp_path):
    (tmp_path / "nvidia0").touch()
    (tmp_path / "nvidiactl").touch()
    choice = choose(devices=tmp_path, environment={})
    assert not choice.is_gpu
    assert choice.is_unexpected
    assert "nvidia0" in choice.reason
    assert "nvidiactl" not in choice.reason
    assert "pip install 'xharmonize[gpu]'" in choice.reason


@pytest.mark.skipif(has_gpu() or not HAS_DASK_CUDA, reason="needs dask-cuda without a driver")
def test_a_driver_that_does_not_answer_is_worth_a_warning(tmp_path):
    (tmp_path / "nvidia0").touch()
    choice = choose(devices=tmp_path, environment={})
    assert choice.is_unexpected
    assert "NVML" in choice.reason


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu() or not HAS_DASK_CUDA, reason="needs a GPU and dask-cuda")
def test_with_a_gpu_each_has_a_worker_of_one_thread():
    with xh.cluster.local() as client:
        assert client.reason.startswith("LocalCUDACluster: ")
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        assert {worker["nthreads"] for worker in workers} == {1}
        assert f"{len(workers)} NVIDIA GPU" in client.reason


@pytest.mark.parametrize(
    ("cores", "workers", "threads"),
    [(1, 1, 1), (2, 1, 2), (4, 1, 4), (5, 2, 3), (16, 4, 4), (64, 16, 4)],
)
def test_all_cores_are_used(cores, workers, threads):
    assert split_cores(cores, None, None) == (workers, threads)


def test_what_is_asked_for_stands():
    assert split_cores(16, 2, None) == (2, 8)
    assert split_cores(16, None, 1) == (16, 1)
    assert split_cores(2, 3, 3) == (3, 3)
    assert split_cores(2, 8, None) == (8, 1)


def test_without_distributed_the_extra_is_named():
    code = (
        "import sys\n"
        "sys.modules['distributed'] = None\n"
        "import xharmonize as xh\n"
        "for call in (xh.cluster.local, lambda: xh.cluster.share('hls-v2', None)):\n"
        "    try:\n"
        "        call()\n"
        "    except xh.errors.MissingDependencyError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("pip install 'xharmonize[cluster]'") == 2


def test_the_import_loads_no_distributed():
    code = (
        "import sys, xharmonize as xh; xh.cluster.local, xh.cluster.share\n"
        "print([m for m in ('distributed', 'torch', 'dask_cuda') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
