"""What the loop asks of a method, and what it gives it.

The loop owns batches, steps of the optimisers, averaging over ranks, the moving average of weights,
checkpoints and stopping. A method owns networks, optimisers and losses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from xharmonize.models.card import Card
from xharmonize.training.ranks import Ranks
from xharmonize.types import Float64Array


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples on the device, filled and normalised as the card says.

    Attributes
    ----------
    inputs : tuple of (n, band, y, x) float32 tensor
        One per input of the card; for a card of tables the one image on the target's grid, in
        reflectance [1].
    target : (n, band, y, x) float32 tensor
        In the units of the card's output; free of NaN, see `valid`.
    valid : (n, band, y, x) bool tensor
        Pixels that count in the loss.
    index : (n,) int64 tensor
        Number of each sample in the store. Whatever is drawn at random is drawn per sample
        (`models.nets.draws`), so that it depends neither on the rank nor on the batch.
    date : (n,) int64 tensor
        Number of the pair's date.
    histograms : (n, band, bin) float32 tensor or None
        Fractions of each sample's source pixels, for methods that make tables.
    """

    inputs: tuple[Tensor, ...]
    target: Tensor
    valid: Tensor
    index: Tensor
    date: Tensor
    histograms: Tensor | None = None

    def __len__(self) -> int:
        return len(self.target)

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""

        def move(values: Tensor) -> Tensor:
            return values.to(device, non_blocking=True)

        return Batch(
            inputs=tuple(map(move, self.inputs)),
            target=move(self.target),
            valid=move(self.valid),
            index=move(self.index),
            date=move(self.date),
            histograms=None if self.histograms is None else move(self.histograms),
        )


@dataclass(frozen=True, kw_only=True)
class StepInfo:
    """Where the training is.

    Attributes
    ----------
    step, epoch : int
        Counted from 0, over the whole training, interruptions included.
    seed : int
        Of the training.
    ranks : Ranks
        The processes that train together; sums over a batch are sums over all of them.
    """

    step: int
    epoch: int
    seed: int
    ranks: Ranks


@dataclass(frozen=True, kw_only=True)
class Line:
    """A linear model fitted on the training samples, on the target's grid, in reflectance [1].

    ``target = matrix @ source + offset``, where the source is the area-weighted mean of each input
    band over a target pixel.

    Attributes
    ----------
    source_bands, bands : tuple of str
        Columns and rows of the matrix: all inputs' bands one after the other, and the outputs.
    matrix : (band, source_band) float64 array
        Slopes from differences within dates, shrunk a little towards the identity.
    offset : (band,) float64 array
        Puts the mean of the dates right, dates equal.
    levels : tuple of float
        Standard deviation over dates of what the line leaves of each band's mean [1]; NaN for one.
    """

    source_bands: tuple[str, ...]
    bands: tuple[str, ...]
    matrix: Float64Array
    offset: Float64Array
    levels: tuple[float, ...] = ()

    def normalised(self, card: Any) -> tuple[Float64Array, Float64Array]:
        """Matrix and offset between the units of a generator card's inputs and of its output."""
        mean, scale = (
            np.concatenate([getattr(one, name) for one in card.inputs])
            for name in ("mean", "scale")
        )
        out_mean, out_scale = np.array(card.output.mean), np.array(card.output.scale)
        offset = (self.matrix @ mean + self.offset - out_mean) / out_scale
        return self.matrix * scale / out_scale[:, None], offset


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a method is made from.

    Attributes
    ----------
    config : dataclass
        The method's own, from `training.config`.
    card : Card
        Of the bundle to come: inputs, output, scaling, lattice, architecture.
    line, band_lines : Line
        Fitted on the training samples, on all source bands and on the band of the same role alone.
    seed : int
        For initial weights (`models.nets.layers.glorot_uniform`).
    device : torch.device
        Where networks go.
    ranks : Ranks
    accumulate : int
        Parts in which the generator is computed on a batch; see `methods.start.in_parts`.
    """

    config: Any
    card: Card
    line: Line
    band_lines: Line
    seed: int
    device: torch.device
    ranks: Ranks
    accumulate: int = 1


Loss = tuple[str, Tensor, Mapping[str, float]]
"""Name of the optimiser whose parameters it trains, the loss (a scalar that has a gradient), and
its parts for the log."""


class Method(Protocol):
    """Networks that are trained step by step.

    Attributes
    ----------
    networks : dict of str to Module
        ``"generator"`` is what ends up in the bundle, averaged over steps; all are in checkpoints.
    optimizers : dict of str to Optimizer
        One per loss that `losses` yields.
    """

    networks: dict[str, nn.Module]
    optimizers: dict[str, Optimizer]

    def losses(self, batch: Batch, step: StepInfo) -> Iterator[Loss]:
        """Yield the losses of one batch, one after the other.

        The loop takes gradients of each with respect to that optimiser's parameters only, averages
        them over ranks, steps, and sets them to zero, before it asks for the next loss: a
        discriminator is yielded first, then the generator against the discriminator as it now is.
        """
        ...

    def predict(self, batch: Batch) -> Tensor:
        """Return (n, band, y, x) in the output's units, in evaluation mode, without gradients."""
        ...
