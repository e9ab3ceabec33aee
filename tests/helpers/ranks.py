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
        total: Tensor = Sum.apply(values, self)
        return total

    def add(self, values: Tensor) -> Tensor:
        """The sum without gradients."""
        self.exchange[self.rank] = values.detach()
        self.barrier.wait()
        total = torch.stack(list(self.exchange)).sum(0)
        self.barrier.wait()  # nobody writes before everybody has read
        return total

    def mean(self, values: Tensor) -> Tensor:
        return self.sum(values) / self.size

    def mean_gradients(self, parameters: Iterable[Tensor]) -> None:
        for parameter in parameters:
            parameter.grad = self.add(parameter.grad) / self.size


class Sum(torch.autograd.Function):
    """A sum over ranks, whose gradients are those of all ranks' losses: summed too."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Threads) -> Tensor:
        ctx.ranks = ranks
        return ranks.add(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks.add(gradient), None


def on_ranks(n: int, work: Callable[[Threads], Any]) -> list[Any]:
    """Run `work` on so many ranks at once and return what each gives."""
    barrier, exchange = threading.Barrier(n, timeout=60), [None] * n
    ranks = [Threads(rank, n, barrier, exchange) for rank in range(n)]
    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(work, ranks))
