"""What is asked of workers before ranks start on them, and what is refused."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xharmonize.cluster.rank import LostError
from xharmonize.errors import ClusterError

PACKAGES = ("xharmonize", "torch", "numpy", "zarr", "distributed")
"""Packages whose versions must be those of the client."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a worker, or the client, says of itself.

    Attributes
    ----------
    versions : dict of str to str
        Of Python and of `PACKAGES`; empty where one cannot be imported.
    process : tuple of (str, int)
        Host and number of its process.
    gpus : tuple of str
        Unique names of the GPUs it sees, its own first.
    is_daemon : bool
        Whether the process may start no other.
    has_group : bool
        Whether torch has a process group already.
    read : dict of str to str
        For each path asked for why it cannot be read; empty where it can.
    """

    versions: dict[str, str]
    process: tuple[str, int]
    gpus: tuple[str, ...] = ()
    is_daemon: bool = False
    has_group: bool = False
    read: dict[str, str]


def examine(paths: Mapping[str, bytes] | None = None) -> Facts:
    """Look at this process.

    Parameters
    ----------
    paths : mapping of str to bytes, optional
        Files that must be readable, and what must be in them.
    """
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = str(importlib.import_module(name).__version__)
        except ImportError:
            versions[name] = ""
    found: dict[str, Any] = {}
    if versions["torch"]:
        import torch
        from torch import distributed

        found["gpus"] = tuple(
            str(torch.cuda.get_device_properties(n).uuid) for n in range(torch.cuda.device_count())
        )
        found["has_group"] = distributed.is_available() and distributed.is_initialized()
    return Facts(
        versions=versions,
        process=(platform.node(), os.getpid()),
        is_daemon=bool(multiprocessing.current_process().daemon),
        read={path: _read(path, data) for path, data in (paths or {}).items()},
        **found,
    )


def _read(path: str, data: bytes) -> str:
    try:
        found = Path(path).read_bytes()
    except OSError as error:
        return str(error)
    return "" if found == data else "it holds something else"


def _silent(client: Any, address: str, timeout: float) -> LostError:
    """Error of a worker that did not answer in time."""
    if address not in client.sync(client.scheduler.ncores):
        return LostError(f"worker {address} has left", cure="look for the reason in its log")
    error = LostError(
        f"worker {address} has not answered for {timeout:g} s: it may be busy with another task, "
        "or its machine is gone",
        cure="wait for its tasks, restart it, or allow more time (timeout=...)",
    )
    error.silent = (address,)
    return error


def ask(client: Any, workers: Sequence[str], paths: Mapping[str, bytes], timeout: float) -> Any:
    """Return the facts of workers, by address.

    Raises
    ------
    ClusterError
        If one does not answer in time, or cannot.
    """
    from concurrent.futures import CancelledError

    from distributed import KilledWorker

    futures = {
        address: client.submit(
            examine,
            dict(paths),
            workers=[address],
            allow_other_workers=False,
            pure=False,
            retries=0,
            key=f"examine-{address}-{time.time_ns()}",
        )
        for address in workers
    }
    facts = {}
    until = time.monotonic() + timeout
    try:
        for address, future in futures.items():
            try:
                facts[address] = future.result(timeout=max(0.1, until - time.monotonic()))
            except TimeoutError as error:
                raise _silent(client, address, timeout) from error
            except (CancelledError, KilledWorker) as error:
                raise LostError(
                    f"worker {address} has left", cure="look for the reason in its log"
                ) from error
            except Exception as error:
                raise ClusterError(
                    f"worker {address} cannot run ranks: {type(error).__name__}: {error}",
                    cure="install there what is installed here",
                ) from error
    finally:
        client.cancel(list(futures.values()), force=True)
    return facts


def require_fit(
    facts: Mapping[str, Facts],
    threads: Mapping[str, int],
    *,
    device: str,
    needs_processes: bool = False,
) -> str:
    """Return the backend for these workers.

    Parameters
    ----------
    facts : mapping of str to Facts
        By the workers' addresses.
    threads : mapping of str to int
        How many tasks each runs at once.
    device : {"auto", "cpu", "cuda"}
    needs_processes : bool
        Whether ranks start processes of their own, as data loaders do.

    Raises
    ------
    ClusterError
        If they differ from the client or from each other where they must not.
    """
    _require_same_versions(facts)
    _require_one_thread(threads)
    _require_own_process(facts)
    for address, one in facts.items():
        if one.has_group:
            raise ClusterError(
                f"worker {address} is in a process group of torch already",
                cure=f"restart it: client.restart_workers([{address!r}])",
            )
        if needs_processes and one.is_daemon:
            raise ClusterError(
                f"worker {address} is a daemonic process, which may start no others",
                cure='set dask.config.set({"distributed.worker.daemon": False}) before the cluster '
                "starts, or load data in threads",
            )
    return _backend(facts, device)


def unreadable(address: str, facts: Facts) -> ClusterError:
    """Error of a worker that cannot read what it must."""
    path, why = next((path, why) for path, why in facts.read.items() if why)
    return ClusterError(
        f"worker {address} cannot read {path}: {why}",
        cure="name a folder that all machines share, or a URL",
    )


def _require_same_versions(facts: Mapping[str, Facts]) -> None:
    own = examine().versions
    for address, one in facts.items():
        for name, version in own.items():
            found = one.versions.get(name, "")
            if found != version:
                raise ClusterError(
                    f"worker {address} has {name} {found or '(none)'}, the client {version}",
                    cure="install the same versions on all machines",
                )


def _require_one_thread(threads: Mapping[str, int]) -> None:
    for address, n in threads.items():
        if n > 1:
            raise ClusterError(
                f"worker {address} runs {n} tasks at once, and a rank must have its process for "
                "itself",
                cure="start workers of one thread: xh.cluster.local(n_workers=..., "
                "threads_per_worker=1), dask worker --nthreads 1; torch's own threads are set "
                "apart from that, by Run(threads=...)",
            )


def _require_own_process(facts: Mapping[str, Facts]) -> None:
    found: dict[tuple[str, int], str] = {}
    for address, one in facts.items():
        if one.process in found:
            raise ClusterError(
                f"workers {found[one.process]} and {address} are one process",
                cure="start workers as processes (LocalCluster(processes=True))",
            )
        found[one.process] = address


def _backend(facts: Mapping[str, Facts], device: str) -> str:
    have = {address for address, one in facts.items() if one.gpus}
    lack = sorted(set(facts) - have)
    if device == "cpu" or not (have or device == "cuda"):
        return "gloo"
    if lack:
        others = f", {len(have)} others have one" if have else ""
        raise ClusterError(
            f"worker {lack[0]} has no GPU{others}",
            cure='use a cluster of workers of one kind, or device="cpu"',
        )
    first: dict[str, str] = {}
    for address, one in facts.items():
        if one.gpus[0] in first:
            raise ClusterError(
                f"workers {first[one.gpus[0]]} and {address} use the same GPU",
                cure="start one worker per GPU, each seeing its own first, as dask-cuda does "
                "(xh.cluster.local, dask cuda worker)",
            )
        first[one.gpus[0]] = address
    return "nccl"
