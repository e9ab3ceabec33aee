"""``small-conv``: a few convolutions beside a fitted line, trained on the absolute difference."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from xharmonize.models.architectures import build, seeded
from xharmonize.models.kinds import GeneratorCard
from xharmonize.training import losses
from xharmonize.training.cards import Facts, generator_card
from xharmonize.training.config import SmallConv
from xharmonize.training.methods import start
from xharmonize.training.protocol import Batch, Loss, Setup, StepInfo


def describe(facts: Facts, config: SmallConv) -> GeneratorCard:
    """Return the card of the network."""
    seen = 2 * config.depth + 1
    return generator_card(
        facts,
        title=f"{config.name}, {facts.store.pairs[0].sensor_source} to "
        f"{facts.store.pairs[0].bandpass_target.upper()}",
        description=f"Convolutions over {seen} x {seen} target pixels, added to "
        + ("a line fitted on the training samples." if config.base == "line" else "the mean."),
        architecture=config.name,
        hyperparameters={"width": config.width, "depth": config.depth, "base": config.base},
    )


def make(setup: Setup) -> SmallConvMethod:
    """Return the network and its optimiser."""
    return SmallConvMethod(setup)


class SmallConvMethod:
    """One network; the loss is the absolute residual, dates' means counting less."""

    networks: dict[str, nn.Module]
    optimizers: dict[str, Optimizer]

    def __init__(self, setup: Setup) -> None:
        self.config: SmallConv = setup.config
        self.accumulate = setup.accumulate
        self.card = GeneratorCard.of(setup.card, "small-conv")
        weights = seeded(self.card, setup.seed)
        # Weights of zero in the last layer: training starts from what the network is added to.
        weights["last.weight"][:] = 0
        if self.config.base == "line":
            weights["line.matrix"][:], weights["line.offset"][:] = setup.line.normalised(self.card)
        network = build(self.card, weights).train().to(setup.device)
        self.networks = {"generator": network}
        self.optimizers = {
            "generator": torch.optim.AdamW(
                [value for value in network.parameters() if value.requires_grad],
                lr=self.config.learning_rate,
                weight_decay=self.config.weight_decay,
            )
        }

    def losses(self, batch: Batch, step: StepInfo) -> Iterator[Loss]:
        """Yield the one loss."""
        run = self.networks["generator"]
        estimate: Tensor = start.in_parts(run, self.accumulate, *batch.inputs)
        valid = self._inner(batch.valid)
        residual = losses.residual(
            estimate,
            batch.target,
            valid,
            batch.date,
            step.ranks,
            date_weight=self.config.date_weight,
        )
        loss = losses.absolute(residual, valid, step.ranks)
        yield "generator", loss, {"l1": float(loss.detach())}

    def predict(self, batch: Batch) -> Tensor:
        """Return (n, band, y, x) in the output's units."""
        network = self.networks["generator"].eval()
        with torch.inference_mode():
            estimate: Tensor = network(*batch.inputs)
        network.train()
        return estimate

    def _inner(self, valid: Tensor) -> Tensor:
        """Pixels far enough from the window's edges that all they depend on lies within."""
        margin = min(self.config.depth, self.card.lattice.buffer)
        if not margin:
            return valid
        inner = torch.zeros_like(valid)
        part = (..., slice(margin, -margin), slice(margin, -margin))
        inner[part] = valid[part]
        return inner
