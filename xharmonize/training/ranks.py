"""The processes that train together: one alone, or a process group of torch.

No code asks whether it is distributed: it calls these, which change nothing for a single process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

BUCKET = 25 * 2**20
"""Bytes of gradients that are summed at once, as in torch's DistributedDataParallel."""


class Ranks(Protocol):
    """Processes that train together."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        ...

    @property
    def size(self) -> int:
        """Number of processes."""
        ...

    def sum(self, values: Tensor) -> Tensor:
        """Sum over processes, with gradients."""
        ...

    def mean(self, values: Tensor) -> Tensor:
        """Mean over processes, with gradients; equal batches give the mean of the whole."""
        ...

    def mean_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Average gradients over processes, in place."""
        ...

    def broadcast(self, data: bytes | None) -> bytes:
        """Bytes of rank 0, on all; what others give does not count."""
        ...

    def check(self) -> None:
        """Raise if the training was stopped from outside."""
        ...

    def waited(self) -> float:
        """Seconds spent in exchanging since this was last asked, waiting for others included."""
        ...


@dataclass(frozen=True)
class Alone:
    """One process."""

    rank: int = 0
    size: int = 1

    def sum(self, values: Tensor) -> Tensor:
        """Return the values."""
        return values

    def mean(self, values: Tensor) -> Tensor:
        """Return the values."""
        return values

    def mean_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Change nothing."""

    def broadcast(self, data: bytes | None) -> bytes:
        """Return the bytes."""
        return data or b""

    def check(self) -> None:
        """Never stop."""

    def waited(self) -> float:
        """Return zero."""
        return 0.0


@dataclass
class Group:
    """A rank of torch's default process group, which must be there.

    Attributes
    ----------
    device : torch.device
        Where what is exchanged must lie.
    stop : callable, optional
        Called by `check`.
    """

    device: torch.device
    stop: Callable[[], None] | None = None
    _seconds: float = field(default=0.0, init=False)

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return torch.distributed.get_rank()

    @property
    def size(self) -> int:
        """Number of processes."""
        return torch.distributed.get_world_size()

    def sum(self, values: Tensor) -> Tensor:
        """Sum over processes, with gradients: those of all ranks' losses, summed too."""
        total: Tensor = _Sum.apply(values, self)  # type: ignore[no-untyped-call]
        return total

    def mean(self, values: Tensor) -> Tensor:
        """Mean over processes, with gradients."""
        return self.sum(values) / self.size

    def add(self, *tensors: Tensor) -> None:
        """Sum tensors over processes, in place, without gradients."""
        start = time.perf_counter()
        works = [torch.distributed.all_reduce(one, async_op=True) for one in tensors]
        for work in works:
            if work is not None:
                work.wait()
        if self.device.type == "cuda":
            torch.cuda.synchronize()  # or the time would be that of asking
        self._seconds += time.perf_counter() - start

    def mean_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Average gradients over processes, in place, a bucket at a time."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        buckets = list(_buckets(gradients))
        flat = [torch.cat([one.reshape(-1) for one in bucket]) for bucket in buckets]
        self.add(*flat)
        for bucket, values in zip(buckets, flat):
            parts = values.div_(self.size).split([one.numel() for one in bucket])
            for one, part in zip(bucket, parts):
                one.copy_(part.view_as(one))

    def broadcast(self, data: bytes | None) -> bytes:
        """Bytes of rank 0, on all."""
        size = torch.tensor([len(data or b"")], device=self.device)
        torch.distributed.broadcast(size, 0)
        if not int(size):
            return b""
        if self.rank == 0:
            values = torch.frombuffer(bytearray(data or b""), dtype=torch.uint8).to(self.device)
        else:
            values = torch.empty(int(size), dtype=torch.uint8, device=self.device)
        torch.distributed.broadcast(values, 0)
        return values.cpu().numpy().tobytes()

    def check(self) -> None:
        """Raise if the training was stopped from outside."""
        if self.stop is not None:
            self.stop()

    def waited(self) -> float:
        """Seconds spent in exchanging since this was last asked."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, group: Group) -> Tensor:
        ctx.group = group
        total = values.detach().clone(memory_format=torch.contiguous_format)
        group.add(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.clone(memory_format=torch.contiguous_format)
        ctx.group.add(total)
        return total, None


def _buckets(gradients: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients of one kind of number, `BUCKET` bytes at a time, in their order."""
    bucket: list[Tensor] = []
    size = 0
    for one in gradients:
        if bucket and (size + one.nbytes > BUCKET or one.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(one)
        size += one.nbytes
    if bucket:
        yield bucket
