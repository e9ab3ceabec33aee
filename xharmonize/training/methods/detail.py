"""``esrcnn`` and ``dstfn``: networks that sharpen a coarse cube, without an adversary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from xharmonize.errors import FitError
from xharmonize.models.kinds import GeneratorCard
from xharmonize.models.kinds.generator import CUBE
from xharmonize.models.nets import esrcnn
from xharmonize.models.nets.small_conv import base_lines
from xharmonize.training import losses
from xharmonize.training.cards import Facts, generator_card
from xharmonize.training.methods import start
from xharmonize.training.protocol import Batch, Loss, Setup, StepInfo


def describe(facts: Facts, config: Any) -> GeneratorCard:
    """Return the card of the network.

    Raises
    ------
    FitError
        If no input is coarser than the target: there is nothing to sharpen.
    """
    store = facts.store
    if all(store.lattice.cells(one.gsd) >= 1 for one in store.inputs):
        raise FitError(
            f"no input is coarser than the target: there is nothing for {config.name!r} to sharpen",
            cure="collect them with xh.training.collect_sources(cube, degrade=..., fine=...)",
        )
    pair = store.pairs[0]
    base = ", added to the cube resampled by cubic convolution" if config.base == "cube" else ""
    return generator_card(
        facts,
        title=f"{config.name}, {pair.sensor_source} sharpened",
        description=f"Convolutions over {', '.join(store.sources)}{base}.",
        architecture=config.architecture,
        hyperparameters={name: getattr(config, name) for name in config.passed},
    )


def make(setup: Setup) -> DetailMethod:
    """Return the network and its optimiser."""
    return DetailMethod(setup)


class DetailMethod:
    """One network; see `training.protocol.Method`."""

    def __init__(self, setup: Setup) -> None:
        self.config: Any = setup.config
        self.accumulate = setup.accumulate
        self.card = GeneratorCard.of(setup.card, f"method {self.config.name!r}")
        weights = start.initial_weights(setup, ("last.weight", "last.bias"))
        network = start.make_generator(setup, weights)
        self.networks: dict[str, nn.Module] = {"generator": network}
        self.optimizers: dict[str, Optimizer] = {
            "generator": start.adam(network.parameters(), self.config, setup)
        }
        self.coarse = _coarse_bands(self.card)

    def losses(self, batch: Batch, step: StepInfo) -> Iterator[Loss]:
        """Yield the one loss."""
        run = self.networks["generator"].train()
        estimate: Tensor = start.in_parts(run, self.accumulate, *batch.inputs)
        valid = self._inner(batch.valid)
        left = losses.residual(
            estimate,
            batch.target,
            valid,
            batch.date,
            step.ranks,
            date_weight=self.config.date_weight,
        )
        kind = self.config.loss
        if kind == "squared":
            loss = losses.squared(left, valid, step.ranks)
            yield "generator", loss, {"squared": float(loss.detach())}
            return
        l1 = losses.absolute(left, valid, step.ranks)
        if kind == "absolute":
            yield "generator", l1, {"l1": float(l1.detach())}
            return
        terms = {
            "l1": l1,
            "frobenius": 0.5 * losses.squared(left, valid, step.ranks),
            "degradation": 0.5 * self._degradation(estimate, batch, valid, step),
        }
        parts = {name: float(term.detach()) for name, term in terms.items()}
        yield "generator", losses.by_share(list(terms.values()), step.ranks), parts

    def _degradation(self, estimate: Tensor, batch: Batch, valid: Tensor, step: StepInfo) -> Tensor:
        """Mean squared difference between the coarse cube and the estimate averaged to it."""
        total = estimate.new_zeros(())
        for number, factor, bands in self.coarse:
            left, seen = [], []
            for output, channel, slope, offset in bands:
                mean = functional.avg_pool2d(estimate[:, output], factor)
                left.append(mean - (batch.inputs[number][:, channel] * slope + offset))
                whole = functional.avg_pool2d(valid[:, output].float(), factor)
                seen.append(whole > 1 - 0.5 / factor**2)
            squared = torch.stack(left, 1)
            total = total + losses.squared(squared, torch.stack(seen, 1), step.ranks)
        return total

    def predict(self, batch: Batch) -> Tensor:
        """Return (n, band, y, x) in the output's units, in evaluation mode, without gradients."""
        network = self.networks["generator"].eval()
        with torch.no_grad():
            estimate: Tensor = network(*batch.inputs)
        return estimate

    def _inner(self, valid: Tensor) -> Tensor:
        """Pixels that do not see the patch's edge, as far as its margin goes."""
        margin = min(esrcnn.REACH, self.card.lattice.buffer)
        if not margin:
            return valid
        inner = torch.zeros_like(valid)
        part = (..., slice(margin, -margin), slice(margin, -margin))
        inner[part] = valid[part]
        return inner


Compared = tuple[int, int, list[tuple[int, int, float, float]]]
"""Number of a coarse input, target pixels per pixel of it, and per band the output, the channel,
and the line from the input's units to the output's."""


def _coarse_bands(card: GeneratorCard) -> list[Compared]:
    """What of the estimate, averaged, is to be the cube again."""
    found: list[Compared] = []
    at = 0
    lines = base_lines(card)
    for number, one in enumerate(card.inputs):
        cells, own = card.lattice.cells(one.gsd), range(at, at + len(one.bands))
        at = own.stop
        if one.source != CUBE or cells >= 1 or cells.numerator != 1:
            continue
        bands = [
            (output, line[0] - own.start, line[1], line[2])
            for output, line in enumerate(lines)
            if line is not None and line[0] in own
        ]
        if bands:
            found.append((number, cells.denominator, bands))
    return found
