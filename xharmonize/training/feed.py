"""Batches from the store: filled, normalised and, in training only, clipped."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from xharmonize.kernels.patches import normalise
from xharmonize.models.card import Card
from xharmonize.models.kinds import GeneratorCard, LutCard
from xharmonize.tiles import sampling
from xharmonize.training.constants import Constants
from xharmonize.training.protocol import Batch
from xharmonize.training.store import Store
from xharmonize.types import AnyArray, FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Feed:
    """Makes batches of samples.

    Attributes
    ----------
    store : Store
    card : Card
        Says how values are scaled.
    constants : Constants
        Limits to which training samples are clipped.
    device : torch.device
    """

    store: Store
    card: Card
    constants: Constants
    device: torch.device

    def batch(self, numbers: IntArray, *, clip: bool) -> Batch:
        """Return samples as a batch; `clip` for training."""
        part = self.store.read(numbers)
        inputs = [self._clipped(image, at, clip) for at, image in self._placed(part.inputs)]
        target = self._clipped(part.target, len(self.store.source_bands), clip)
        output = self.card.output
        is_valid = np.isfinite(target)
        scaled = sampling.normalise(np.where(is_valid, target, 0), output.mean, output.scale)
        return Batch(
            inputs=self._scaled(inputs, self._clipped(part.exact, 0, clip)),
            target=torch.from_numpy(np.where(is_valid, scaled, np.float32(0))),
            valid=torch.from_numpy(is_valid),
            index=torch.from_numpy(numbers),
            date=torch.from_numpy(self.store.pair[numbers]),
            histograms=self._histograms(part.histograms),
        ).to(self.device)

    def _histograms(self, counts: IntArray) -> torch.Tensor | None:
        """Fractions of the bands that tables are made from; None for other cards."""
        if not isinstance(self.card, LutCard):
            return None
        bands = [self.store.source_bands.index(band) for band in self.card.bands]
        return torch.from_numpy(np.nan_to_num(normalise(counts[:, bands])))

    def _placed(self, images: list[FloatArray]) -> list[tuple[int, FloatArray]]:
        """Each input with the number of its first band among all."""
        starts = np.cumsum([0, *(image.shape[1] for image in images)])
        return [(int(at), image) for at, image in zip(starts, images)]

    def _clipped(self, image: FloatArray, at: int, clip: bool) -> FloatArray:
        if not clip:
            return image
        ends = (self.constants.part(name, at, image.shape[1]) for name in ("low", "high"))
        low, high = (np.array(end, np.float32)[:, None, None] for end in ends)
        clipped: FloatArray = np.clip(image, low, high)
        return clipped

    def _scaled(self, inputs: list[FloatArray], exact: AnyArray) -> tuple[torch.Tensor, ...]:
        """What the network of the card is given."""
        if not isinstance(self.card, GeneratorCard):
            bands = [self.store.source_bands.index(name) for name in self.card.bands]
            filled = [sampling.fill(image[bands]) for image in exact]
            images = np.stack([np.zeros_like(exact[0][bands]) if f is None else f for f in filled])
            return (torch.from_numpy(images),)
        return tuple(
            torch.from_numpy(sampling.normalise(image, source.mean, source.scale))
            for image, source in zip(inputs, self.card.inputs)
        )


class Read(NamedTuple):
    """What was read for a step, and how long the step had to wait for it [s]."""

    value: tuple[int, Batch]
    seconds: float


class Ahead:
    """Reads what the next step needs in a thread, while the present one computes.

    Parameters
    ----------
    read : callable
        Epoch and batch of a step.
    """

    def __init__(self, read: Callable[[int], tuple[int, Batch]]) -> None:
        self._read = read
        self._pool = ThreadPoolExecutor(1, "xharmonize-read")
        self._coming: dict[int, Future[tuple[int, Batch]]] = {}

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *reason: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def take(self, step: int) -> Read:
        """Return what a step needs, and begin to read for the step after."""
        start = time.perf_counter()
        coming = self._coming.pop(step, None) or self._pool.submit(self._read, step)
        value = coming.result()
        self._coming = {step + 1: self._pool.submit(self._read, step + 1)}
        return Read(value, time.perf_counter() - start)
