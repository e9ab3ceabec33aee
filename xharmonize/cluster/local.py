"""A cluster on this machine, and whether its GPUs can serve workers."""

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
    """What kind of workers a machine gets.

    Attributes
    ----------
    is_gpu : bool
        One worker per GPU, else workers on the cores.
    reason : str
        Why, in words.
    is_unexpected : bool
        There is a GPU, but it cannot be used as things are installed.
    """

    is_gpu: bool
    reason: str
    is_unexpected: bool = False


def choose(*, devices: Path = Path("/dev"), environment: Mapping[str, str] | None = None) -> Choice:
    """Look for GPUs and for what it takes to use them; starts nothing on them.

    Device files tell whether there is a GPU, since they need no package: so that a machine whose
    GPU cannot be used for want of one is told so.

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
    """Start workers on this machine: one per GPU where there are GPUs, else on its cores.

    Everything listens on 127.0.0.1 only, on free ports. Which kind was started and why is in
    ``client.reason``, in its `repr` and in the log (``xharmonize.cluster``, INFO); a GPU that
    cannot be used is warned about. Closing the client closes the cluster, and so does leaving
    ``with xh.cluster.local() as client:``.

    Parameters
    ----------
    n_workers : int, optional
        Worker processes. By default one per GPU, or enough for every core.
    threads_per_worker : int, optional
        Threads of each. By default 1 on a GPU; on cores up to 4, since kernels and networks release
        the GIL and the threads of a worker share one copy of a model.
    memory_limit : str, int, float or None
        Of each worker, as distributed understands it: bytes, ``"4GB"``, a share of the machine's
        memory, ``"auto"`` for an equal share of it, None for none.
    gpu : bool, optional
        False: on the cores even where there is a GPU. True: on GPUs or not at all.
    dashboard : bool
        Serve Dask's dashboard, at ``client.dashboard_link``; it needs bokeh.
    directory : path, optional
        Where workers spill and keep their copies of models; Dask's temporary directory by default.

    Returns
    -------
    distributed.Client
        Now the default scheduler of this process.

    Raises
    ------
    ClusterError
        If `n_workers` or `threads_per_worker` is below 1, or GPUs are asked for and there are none.
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
    """Worker processes and threads of each that use all cores, `MAX_THREADS` threads at most.

    Parameters
    ----------
    n_workers, threads : int, optional
        What is asked for; the other number follows.
    """
    if n_workers is None and threads is None:
        n_workers = -(-n_cores // MAX_THREADS)
    if n_workers is None:
        n_workers = max(n_cores // (threads or 1), 1)
    return n_workers, threads or max(-(-n_cores // n_workers), 1)
