"""The table family of paper 002: tables from histograms or for all, with a convolution or without.

In training a table comes from the histogram of a patch, applied from that of a tile; either is
divided by its sum. The convolution sees patches whose edges are continued, as it sees the
neighbours of missing pixels when applied: not the zeros that a convolution would pad with.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from xharmonize.models.kinds import LutCard
from xharmonize.models.nets.unet_lut import Refined, look_up
from xharmonize.training import losses
from xharmonize.training.cards import Facts, lut_card
from xharmonize.training.config import TileLutConv
from xharmonize.training.methods import start
from xharmonize.training.protocol import Batch, Loss, Setup, StepInfo


def architecture(config: Any) -> str:
    """Name of the network: per tile, or the same for all."""
    return "unet-lut" if config.adaptive else "global-lut"


def hyperparameters(config: Any) -> dict[str, Any]:
    """Return the architecture's options."""
    names = ["refine", "refine_activation", "base"]
    names += ["width", "depth"] if config.adaptive else []
    return {name: getattr(config, name) for name in names}


def describe(facts: Facts, config: TileLutConv) -> LutCard:
    """Return the card of the network."""
    pair = facts.store.pairs[0]
    extent = "each tile's histograms" if config.adaptive else "no histogram: the same for all tiles"
    base = {"line": ", added to a line fitted per band", "ramp": ", added to the identity"}
    after = " A 3 x 3 convolution follows." if config.refine else ""
    return lut_card(
        facts,
        title=f"{config.name}, {pair.sensor_source} to {pair.bandpass_target.upper()}",
        description=f"Look-up tables from {extent}{base.get(config.base, '')}.{after}",
        architecture=architecture(config),
        hyperparameters=hyperparameters(config),
    )


def make(setup: Setup) -> TablesMethod:
    """Return the network, its optimiser and losses."""
    return TablesMethod(setup)


class TablesMethod:
    """A network that makes tables; see `training.protocol.Method`."""

    def __init__(self, setup: Setup) -> None:
        self.config: TileLutConv = setup.config
        self.accumulate = setup.accumulate
        self.card = LutCard.of(setup.card, f"method {self.config.name!r}")
        last = ("last.weight", "last.bias") if self.config.adaptive else ("table",)
        weights = start.initial_weights(setup, last)
        if not self.config.adaptive:
            weights["table"][:] = 0  # no kernel, whose size would say how to draw it
        if self.config.refine:
            weights["convolution.1.weight"][:] = self.config.refine_scale
        generator = start.make_generator(setup, weights)
        self.networks: dict[str, nn.Module] = {"generator": generator}
        self.optimizers: dict[str, Optimizer] = {
            "generator": start.adam(generator.parameters(), self.config, setup)
        }
        limits = (self.card.histograms.low, self.card.histograms.high)
        low, high = (torch.tensor(part, device=setup.device)[:, None, None] for part in limits)
        self.low, self.width = low, high - low

    def losses(self, batch: Batch, step: StepInfo) -> Iterator[Loss]:
        """Yield the squared error of the mapped image, with what tables pay for their shape."""
        self.networks["generator"].train()
        images = (batch.inputs[0], _histograms(batch))
        tables, mapped = start.in_parts(self._map, self.accumulate, *images)
        left = losses.residual(
            mapped,
            batch.target,
            batch.valid,
            batch.date,
            step.ranks,
            date_weight=self.config.date_weight,
        )
        squared = losses.squared(left, batch.valid, step.ranks)
        rough, decrease = losses.roughness(tables), losses.decrease(tables)
        total = squared + self.config.smooth * rough + self.config.monotone * decrease
        parts = {"squared": squared, "rough": rough, "decrease": decrease}
        yield "generator", total, {name: float(part.detach()) for name, part in parts.items()}

    def _map(self, image: Tensor, histograms: Tensor) -> tuple[Tensor, Tensor]:
        """Tables, and the image mapped through them and refined."""
        network = self.networks["generator"]
        if not isinstance(network, Refined):
            raise TypeError(f"a {type(network).__name__} makes no tables")
        tables: Tensor = network(histograms)
        mapped = look_up(tables, (image - self.low) / self.width)
        if network.convolution is not None:
            around = functional.pad(mapped, (1, 1, 1, 1), mode="replicate")
            mapped = network.refine(around)[..., 1:-1, 1:-1]
        return tables, mapped

    def predict(self, batch: Batch) -> Tensor:
        """Return (n, band, y, x) in the output's units, in evaluation mode, without gradients."""
        self.networks["generator"].eval()
        with torch.no_grad():
            return self._map(batch.inputs[0], _histograms(batch))[1]


def _histograms(batch: Batch) -> Tensor:
    if batch.histograms is None:
        raise TypeError("the batch has no histograms to make tables from")
    return batch.histograms
