"""The processes that train together; here, one alone.

No code asks whether it is distributed: it calls these, which change nothing for a single process.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


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
