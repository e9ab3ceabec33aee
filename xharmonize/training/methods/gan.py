"""`mgan`, `pix2pix` and `hls-gan`: a U-Net against a PatchGAN, or alone.

The discriminator sees target and prediction in one forward, so that what is shared between samples
(a spectral norm's estimate, batch statistics) is the same for both. Where the target is not valid
both show what it was filled with: there is nothing to tell them apart by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from xharmonize.models.kinds import GeneratorCard
from xharmonize.models.nets.draws import keys_of, normal, set_keys
from xharmonize.models.nets.layers import area_means
from xharmonize.models.nets.patchgan import make_patchgan
from xharmonize.training import losses
from xharmonize.training.augment import augment
from xharmonize.training.cards import Facts, generator_card
from xharmonize.training.config import Gan
from xharmonize.training.losses import Adversary
from xharmonize.training.methods import start
from xharmonize.training.methods.norm import over_ranks
from xharmonize.training.protocol import Batch, Loss, Setup, StepInfo
from xharmonize.types import AnyArray

DROPOUT, NOISE, SHOWN_FIRST, SHOWN_NEXT = range(4)
"""Purposes of the random numbers of a sample in a step."""
NORMAL_SCALE = 0.02
"""Standard deviation of pix2pix's initial weights."""


def hyperparameters(config: Any, side: int) -> dict[str, Any]:
    """Return the architecture's options for patches of so many target pixels.

    Raises
    ------
    ModelError
        If the patches cannot be halved often enough.
    """
    own = {name: getattr(config, name) for name in config.passed}
    if not config.max_depth:
        return own
    return {"depth": config.depth or start.halvings(side, config.max_depth)} | own


def describe(facts: Facts, config: Gan) -> GeneratorCard:
    """Return the card of the generator.

    Raises
    ------
    ModelError
        If the patches cannot be halved often enough.
    """
    pair = facts.store.pairs[0]
    beside = {
        "none": "trained on the L1 loss",
        "absolute": "trained against a PatchGAN",
        "squares": "trained against a PatchGAN by least squares",
        "relativistic": "trained against a relativistic PatchGAN",
    }[config.adversary]
    base = ", added to a line fitted on the training samples" if config.base == "line" else ""
    return generator_card(
        facts,
        title=f"{config.name}, {pair.sensor_source} to {pair.bandpass_target.upper()}",
        description=f"{'A U-Net' if config.max_depth else 'Convolutions'}{base}, {beside}.",
        architecture=config.architecture,
        hyperparameters=hyperparameters(config, facts.store.lattice.tile),
        scaling=config.scaling,
    )


def make(setup: Setup) -> GanMethod:
    """Return the networks, optimisers and losses."""
    return GanMethod(setup)


class GanMethod:
    """A generator, and what it is trained against; see `training.protocol.Method`."""

    def __init__(self, setup: Setup) -> None:
        self.config: Gan = setup.config
        self.accumulate = setup.accumulate
        self.card = GeneratorCard.of(setup.card, f"method {self.config.name!r}")
        self.ratios = [self.card.lattice.cells(one.gsd) for one in self.card.inputs]
        generator = start.make_generator(setup, self._weights(setup))
        self.networks: dict[str, nn.Module] = {"generator": generator}
        self.optimizers: dict[str, Optimizer] = {
            "generator": start.adam(generator.parameters(), self.config, setup)
        }
        if self.config.adversary != "none":
            channels = len(self.card.output.bands)
            if self.config.conditional:
                channels += sum(len(one.bands) for one in self.card.inputs)
            against = self._make_discriminator(setup, channels)
            self.networks["discriminator"] = against
            plain = self._without_decay()
            self.optimizers["discriminator"] = start.adam(against.parameters(), plain, setup)

    def _without_decay(self) -> Gan:
        """Decay is for what ends up in the bundle."""
        return replace(self.config, weight_decay=0.0)

    def _weights(self, setup: Setup) -> dict[str, AnyArray]:
        last = self.config.last
        weights = start.initial_weights(setup, last)
        if self.config.initial == "normal":
            index = torch.arange(len(weights))
            keys = keys_of(index, setup.seed)
            is_zero = self.config.base == "line"
            for key, (name, values) in zip(keys, weights.items()):
                is_last = is_zero and (name in last or "line" in name)
                if values.ndim > 2 and not is_last:
                    drawn = normal(key[None], values.shape)[0].numpy()
                    weights[name] = drawn * NORMAL_SCALE
        return weights

    def _make_discriminator(self, setup: Setup, channels: int, *, seed: int = 1) -> nn.Module:
        depth = self.config.discriminator_depth
        side = self.card.lattice.tile
        network = make_patchgan(
            channels,
            seed=setup.seed + seed,
            width=self.config.discriminator_width,
            depth=depth or next(n for n in (3, 2, 1) if side >= 6 * 2 ** (n - 1) or n == 1),
            norm=self.config.discriminator_norm,
            spectral=self.config.spectral,
        )
        return over_ranks(network, setup.ranks).to(setup.device)

    def losses(self, batch: Batch, step: StepInfo) -> Iterator[Loss]:
        """Yield the discriminator's loss, where there is one, and the generator's."""
        for network in self.networks.values():
            network.train()
        fake = self._generate(batch, step)
        # Where nothing was observed both show the same.
        shown = torch.where(batch.valid, fake, batch.target)
        weight = self.adversary_weight(step.step)
        if weight:
            real, made = self._judge(batch, shown.detach(), step, SHOWN_FIRST)
            loss = losses.discriminator_loss(real, made, step.ranks, kind=self._kind)
            parts = {"real": as_number(real.mean()), "fake": as_number(made.mean())}
            yield "discriminator", self.config.discriminator_weight * loss, parts
        left = losses.residual(
            fake,
            batch.target,
            batch.valid,
            batch.date,
            step.ranks,
            date_weight=self.config.date_weight,
        )
        l1 = losses.absolute(left, batch.valid, step.ranks)
        total, parts = self.config.l1_weight * l1, {"l1": as_number(l1)}
        if weight:
            real, made = self._judge(batch, shown, step, SHOWN_NEXT)
            against = losses.generator_loss(real, made, step.ranks, kind=self._kind)
            total, parts = total + weight * against, parts | {"adversary": as_number(against)}
        yield "generator", total, parts

    @property
    def _kind(self) -> Adversary:
        kind = self.config.adversary
        return "relativistic" if kind == "none" else kind

    def adversary_weight(self, step: int) -> float:
        """Weight of the adversary's part at a step: 0 while warming up, then rising to 1."""
        if self.config.adversary == "none":
            return 0.0
        since = step - self.config.warm_up + 1
        return min(1.0, max(0.0, since / max(1, self.config.ramp)))

    def _generate(self, batch: Batch, step: StepInfo) -> Tensor:
        generator = self.networks["generator"]
        n_noise = getattr(self.config, "noise", 0)

        def run(dropout: Tensor, noise: Tensor, *inputs: Tensor) -> Tensor:
            set_keys(generator, dropout)
            drawn = normal(noise, (n_noise, *batch.target.shape[2:])) if n_noise else None
            options = {} if drawn is None else {"noise": drawn}
            try:
                made: Tensor = generator(*inputs, **options)
            finally:
                set_keys(generator, None)
            return made

        keys = [keys_of(batch.index, step.seed, step.step, one) for one in (DROPOUT, NOISE)]
        fake: Tensor = start.in_parts(run, self.accumulate, *keys, *batch.inputs)
        return fake

    def _judge(
        self, batch: Batch, shown: Tensor, step: StepInfo, purpose: int
    ) -> tuple[Tensor, Tensor]:
        """Logits of target and prediction, varied alike, of one forward."""
        keys = keys_of(batch.index, step.seed, step.step, purpose)
        images = torch.cat([batch.target, shown])
        if self.config.conditional:
            means = area_means(batch.inputs, self.ratios)
            images = torch.cat([images, torch.cat([means, means])], 1)
        images = augment(images, torch.cat([keys, keys]), self.config.augmentation)
        real, made = self.networks["discriminator"](images).chunk(2)
        return real, made

    def predict(self, batch: Batch) -> Tensor:
        """Return (n, band, y, x) in the output's units, in evaluation mode, without gradients."""
        generator = self.networks["generator"].eval()
        with torch.no_grad():
            predicted: Tensor = generator(*batch.inputs)
        return predicted


def as_number(value: Tensor) -> float:
    """A scalar for the log."""
    return float(value.detach())
