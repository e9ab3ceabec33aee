"""Several ranks in one process: threads that exchange tensors, gradients included."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Threads:
    """One of several ranks; `exchange` is shared by all."""

    rank: int
    size: int
    barrier: threading.Barrier
    exchange: list[Any] = field(repr=False)

    def sum(self, values: Tensor) -> Tensor:
        self.exchange[self.rank] = values
        self.barrier.wait()
        total = torch.stack(list(self.exchange)).sum(0)
        self.barrier.wait()  # nobody writes before everybody has read
        return total

    def mean(self, values: Tensor) -> Tensor:
        return self.sum(values) / self.size

    def mean_gradients(self, parameters: Iterable[Tensor]) -> None:
        for parameter in parameters:
            parameter.grad = self.mean(parameter.grad)


def on_ranks(n: int, work: Callable[[Threads], Any]) -> list[Any]:
    """Run `work` on so many ranks at once and return what each gives."""
    barrier, exchange = threading.Barrier(n, timeout=60), [None] * n
    ranks = [Threads(rank, n, barrier, exchange) for rank in range(n)]
    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(work, ranks))
