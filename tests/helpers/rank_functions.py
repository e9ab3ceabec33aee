"""What ranks do in tests: functions that workers import by name."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from xharmonize.cluster import Rank


def total(rank: Rank) -> tuple[int, float]:
    """Number of the rank, and the sum of one per rank."""
    import torch

    value = torch.ones(1)
    torch.distributed.all_reduce(value)
    return rank.rank, float(value)


def environment(rank: Rank) -> dict[str, str]:
    total(rank)
    return dict(os.environ)


def span(rank: Rank, seconds: float) -> tuple[float, float]:
    """When it began and ended, exchanging all the while."""
    begun = time.time()
    for _ in range(round(seconds / 0.02)):  # as often on each: clocks would not agree
        total(rank)
        time.sleep(0.02)
    return begun, time.time()


def raising(rank: Rank) -> None:
    if rank.rank == 1:
        raise ValueError("the cause")
    total(rank)


class Odd(Exception):
    """An error that cannot be sent."""

    def __init__(self, text: str, lock: Any) -> None:
        super().__init__(text)
        self.lock = lock


def raising_oddly(rank: Rank) -> None:
    if rank.rank == 1:
        raise Odd("odd cause", threading.Lock())
    total(rank)


def killed_once(rank: Rank, path: str) -> int:
    """Rank 1 kills its process the first time."""
    if rank.rank == 1 and not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    total(rank)
    return os.getpid()


def killed(rank: Rank, path: str) -> None:
    """Rank 1 always kills its process, and counts."""
    if rank.rank == 1:
        with open(path, "a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    total(rank)


def hanging(rank: Rank) -> None:
    if rank.rank == 1:
        time.sleep(120)
    total(rank)


def endless(rank: Rank, path: str) -> None:
    while True:
        rank.check()
        total(rank)
        Path(f"{path}-{rank.rank}").write_text(str(time.time()))
        time.sleep(0.02)


def deaf(rank: Rank, path: str) -> None:
    """Never looks whether it was stopped."""
    Path(f"{path}-{rank.rank}").touch()
    time.sleep(120)


def telling(rank: Rank) -> None:
    for k in range(3):
        rank.tell(step=k)
        total(rank)


def greedy(rank: Rank) -> int:
    """Rank 1 takes memory until it is stopped."""
    taken = []
    while rank.rank == 1:
        taken.append(bytearray(os.urandom(1024)) * 20_000)
        time.sleep(0.02)
    total(rank)
    return len(taken)


def address(rank: Rank) -> tuple[str, str]:
    """Of the worker, and the one its process group listens on."""
    from distributed import get_worker

    from xharmonize.cluster import rank as module

    total(rank)
    return get_worker().address, module._HOST[0]


def with_ddp(rank: Rank) -> float:
    """A user's own training, by torch's wrapper."""
    import torch

    torch.manual_seed(0)
    network = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 1))
    network(torch.full((1, 2), float(rank.rank))).sum().backward()
    return float(network.module.weight.grad[0, 0])


def join_another_group() -> None:
    """Leave a process group behind, as a launcher that was killed may."""
    import torch

    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
