"""Ranks that ``torchrun`` started: training without Dask.

Each process calls `train`. The first one makes the pairs, cuts the samples and, when the training
has begun, tells the others; in the end it scores and writes the bundle.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xharmonize._optional import require
from xharmonize.errors import ClusterError, OptionError
from xharmonize.training import config as configs
from xharmonize.training.config import Closed, Config, Method
from xharmonize.training.log import Log, Silent
from xharmonize.training.on_workers import require_parts_of_batch
from xharmonize.training.train import Training, train_network
from xharmonize.types import AnyArray

if TYPE_CHECKING:
    import xarray as xr

    from xharmonize.training.job import Job

TOLD = "xharmonize-job"
FOR_EVER = timedelta(days=365)
"""The others wait while the first cuts samples; torchrun ends them if it dies."""


def train(
    method: str | Method,
    pairs: Callable[[], xr.DataTree | dict[str, xr.DataTree]],
    *,
    config: Config | Method | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Training | None:
    """Train a network on the processes that ``torchrun`` started, each of which calls this.

    All must see the folder of `out`, or ``Run(samples=...)`` names where samples lie.

    Parameters
    ----------
    method, config, out, progress, storage_options
        As in `xharmonize.train`.
    pairs : callable
        Returns the pairs; called by the first process.

    Returns
    -------
    Training or None
        On the first process; None on the others.

    Raises
    ------
    ClusterError
        If torchrun has not started this process.
    OptionError
        If the method is a closed form, or the batch has no equal part for each process.
    """
    require("torch", extra="train")
    from torch import distributed

    settings = configs.settle(method, config)
    if isinstance(settings.method, Closed):
        raise OptionError(
            f"{settings.method.name!r} is solved by one process", cure="call xh.train"
        )
    if "RANK" not in os.environ:
        raise ClusterError(
            "this process was not started by torchrun",
            cure="run: torchrun --nproc-per-node N SCRIPT, or call xh.train",
        )
    store, rank, size = next(iter(distributed.rendezvous("env://")))  # type: ignore[attr-defined]
    require_parts_of_batch(settings, size)
    if rank == 0:
        return train_network(
            settings,
            pairs(),
            out,
            progress,
            run=partial(_lead, store=store, size=size),
            storage_options=storage_options,
        )
    store.wait([TOLD], FOR_EVER)
    _run(pickle.loads(store.get(TOLD)), Silent(), store, rank, size)
    return None


def _lead(job: Job, log: Log, *, store: Any, size: int) -> dict[str, AnyArray]:
    """Tell the others what to train, and train with them."""
    store.set(TOLD, pickle.dumps(job))
    return _run(job, log, store, 0, size)


def _run(job: Job, log: Silent, store: Any, rank: int, size: int) -> dict[str, AnyArray]:
    from xharmonize.training.checkpoint import RanksCheckpoints
    from xharmonize.training.ranks import Group

    with _joined(job, store, rank, size) as device:
        ranks = Group(device)
        kept = RanksCheckpoints(Path(job.checkpoints), ranks)
        return job.run(log, device=str(device), ranks=ranks, checkpoints=kept)


@contextmanager
def _joined(job: Job, store: Any, rank: int, size: int) -> Iterator[Any]:
    """Be in torch's default process group; yields the device."""
    import torch
    from torch import distributed

    from xharmonize.models.refs import Runtime
    from xharmonize.models.runtime import find_device

    device = find_device(Runtime(device=job.config.run.device))
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=store,
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=job.config.run.timeout),
    )
    try:
        yield device
    finally:
        distributed.destroy_process_group()
