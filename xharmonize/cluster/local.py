"""Start a Dask cluster on this machine, on its GPUs if they are usable."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from xharmonize._optional import require
from xharmonize.errors import ClusterError, warn

if TYPE_CHECKING:
    from distributed import Client


_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The kind of workers to start on a machine.

    Attributes
    ----------
    is_gpu : bool
        Whether to start one worker per GPU, or workers on CPU cores.
    reason : str
        Explanation of the choice.
    is_unexpected : bool
        Whether there is a GPU that the installed packages cannot use.
    """

    is_gpu: bool
    reason: str
    is_unexpected: bool = False


def choose(*, devices: Path = Path("/dev"), environment: Mapping[str, str] | None = None) -> Choice:
    """Look for GPUs and for the packages to use them, without starting anything on them.

    GPUs are detected by their device files, which needs no package, so that users are told if a
    GPU is unused only because a package is missing.

    Parameters
    ----------
    devices : path
        Folder of device files.
    environment : mapping, optional
        The process's environment.
    """
    environment = os.environ if environment is None else environment
    visible = environment.get(_VISIBLE)
    if visible is not None and visible.split(",")[0].strip() in ("", "-1", "NoDevFiles"):
        return Choice(is_gpu=False, reason=f"{_VISIBLE}={visible!r} hides every GPU")
    found = sorted(path.name for path in devices.glob("nvidia[0-9]*"))
    if not found and not (devices / "dxg").exists():  # dxg: the GPU of a Windows host
        return Choice(is_gpu=False, reason="no NVIDIA GPU on this machine")
    try:
        importlib.import_module("dask_cuda")
        nvml = importlib.import_module("pynvml")
    except ImportError as error:
        return _unusable(
            f"dask-cuda cannot be imported ({error}); pip install 'xharmonize[gpu]'", found
        )
    try:
        nvml.nvmlInit()
        count = int(nvml.nvmlDeviceGetCount())
    except nvml.NVMLError as error:
        return _unusable(f"the driver does not answer (NVML: {error})", found)
    if not count:
        return _unusable("the driver counts none (NVML): this process may not use it", found)
    return Choice(is_gpu=True, reason=f"{count} NVIDIA GPU{'s' * (count != 1)} on this machine")


def _unusable(why: str, found: list[str]) -> Choice:
    names = ", ".join(found) or "one"
    reason = f"there is a GPU ({names}), but {why}"
    return Choice(is_gpu=False, reason=reason, is_unexpected=True)


LOOPBACK = "127.0.0.1"
MAX_THREADS = 4
"""Threads of a worker process; see docs/decisions/0009-cluster.md."""

MemoryLimit: TypeAlias = str | int | float | None

_log = logging.getLogger("xharmonize.cluster")


def local(
    *,
    n_workers: int | None = None,
    threads_per_worker: int | None = None,
    memory_limit: MemoryLimit = "auto",
    gpu: bool | None = None,
    dashboard: bool = True,
    directory: str | os.PathLike[str] | None = None,
) -> Client:
    """Start a Dask cluster on this machine: one worker per GPU, or workers on CPU cores.

    Everything listens on 127.0.0.1 only, on free ports. ``client.reason``, its `repr` and the log
    (``xharmonize.cluster``, INFO) tell which kind was started and why; an unusable GPU causes a
    warning. Closing the client, or leaving ``with xh.cluster.local() as client:``, closes the
    cluster.

    Parameters
    ----------
    n_workers : int, optional
        Number of worker processes. Default: one per GPU, or enough to use every core.
    threads_per_worker : int, optional
        Threads per worker. Default: 1 on a GPU, up to 4 on cores, since kernels and networks
        release the GIL and the threads of a worker share one copy of a model.
    memory_limit : str, int, float or None
        Memory limit per worker, as in distributed: bytes, ``"4GB"``, a fraction of the machine's
        memory, ``"auto"`` to divide it equally, None for no limit.
    gpu : bool, optional
        False uses CPU cores even if there is a GPU. True requires GPUs.
    dashboard : bool
        Whether to serve Dask's dashboard, at ``client.dashboard_link``; needs bokeh.
    directory : path, optional
        Directory for spilled data and copies of models. Default: Dask's temporary directory.

    Returns
    -------
    distributed.Client
        Client of the cluster; it becomes the default scheduler of this process.

    Raises
    ------
    ClusterError
        If `n_workers` or `threads_per_worker` is below 1, or GPUs are requested but unavailable.
    MissingDependencyError
        If distributed is not installed.

    Examples
    --------
    In a script, below ``if __name__ == "__main__":``, since workers are processes that import it:

    >>> import xharmonize as xh
    >>> with xh.cluster.local(n_workers=1, dashboard=False) as client:
    ...     len(client.scheduler_info()["workers"])
    1
    """
    require("distributed", extra="cluster")
    for name, number in (("n_workers", n_workers), ("threads_per_worker", threads_per_worker)):
        if number is not None and number < 1:
            raise ClusterError(
                f"{name}={number} leaves nothing to compute with", cure="give 1 or more"
            )
    options = {
        "memory_limit": memory_limit,
        "host": LOOPBACK,
        # Without an address of its own, even a scheduler without a dashboard takes port 8787.
        "dashboard_address": f"{LOOPBACK}:0",
        "scheduler_kwargs": {"dashboard": dashboard},
        "local_directory": None if directory is None else os.fspath(directory),
    }
    choice = Choice(is_gpu=False, reason="gpu=False") if gpu is False else choose()
    if gpu and not choice.is_gpu:
        raise ClusterError(f"gpu=True, but {choice.reason}")
    if choice.is_unexpected:
        warn(f"{choice.reason}; workers run on the cores", RuntimeWarning)
    start = _on_gpus if choice.is_gpu else _on_cores
    client = _connect(start(n_workers, threads_per_worker, options), choice)
    place = client.dashboard_link if dashboard else "off"
    _log.info("%s, %d workers, dashboard %s", client.reason, len(client.cluster.workers), place)
    started: Client = client
    return started


def connect(address: str, timeout: float = 30.0) -> Any:
    """Return a client of the scheduler at an address, or raise `ClusterError`."""
    require("distributed", extra="cluster")
    from distributed import Client

    try:
        return Client(address, timeout=timeout)
    except (OSError, TimeoutError, ValueError) as error:
        raise ClusterError(
            f"no scheduler answers at {address}: {error}",
            cure="give the address that it printed when it started, such as tcp://10.0.0.1:8786",
        ) from error


def _connect(cluster: Any, choice: Choice) -> Any:
    """Client of a cluster just started, which it closes."""
    from xharmonize.cluster.plugins import LocalClient

    try:
        client = LocalClient(cluster)  # type: ignore[no-untyped-call]
    except BaseException:
        cluster.close()
        raise
    client.reason = f"{type(cluster).__name__}: {choice.reason}"
    return client


def _on_gpus(n_workers: int | None, threads: int | None, options: dict[str, Any]) -> Any:
    """One worker process per GPU, each seeing its own as ``cuda:0``."""
    from dask_cuda import LocalCUDACluster

    return LocalCUDACluster(n_workers=n_workers, threads_per_worker=threads or 1, **options)


def _on_cores(n_workers: int | None, threads: int | None, options: dict[str, Any]) -> Any:
    """Worker processes whose threads are as many as the cores."""
    from dask.system import CPU_COUNT
    from distributed import LocalCluster

    n_workers, threads = split_cores(CPU_COUNT, n_workers, threads)
    return LocalCluster(n_workers=n_workers, threads_per_worker=threads, **options)


def split_cores(n_cores: int, n_workers: int | None, threads: int | None) -> tuple[int, int]:
    """Divide all cores among workers and threads, with at most `MAX_THREADS` threads per worker.

    Parameters
    ----------
    n_workers, threads : int, optional
        Requested numbers; a number not given follows from the other.
    """
    if n_workers is None and threads is None:
        n_workers = -(-n_cores // MAX_THREADS)
    if n_workers is None:
        n_workers = max(n_cores // (threads or 1), 1)
    return n_workers, threads or max(-(-n_cores // n_workers), 1)
