"""``cyclegan`` and ``s-cyclegan``: two generators, there and back, and two PatchGANs.

What is there and what is back: the inputs at the target's pixels, and the target. Nothing in the
losses of ``cyclegan`` depends on which target stands beside which input: discriminators judge
images of either kind by themselves, and cycles start and end at one image.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from xharmonize.errors import OptionError
from xharmonize.models.nets.draws import keys_of, set_keys
from xharmonize.models.nets.layers import area_means, glorot_uniform
from xharmonize.models.nets.resnet_generator import ResnetGenerator
from xharmonize.training import losses
from xharmonize.training.augment import augment
from xharmonize.training.fusion_options import CycleGan
from xharmonize.training.methods import gan, start
from xharmonize.training.methods.gan import GanMethod, as_number
from xharmonize.training.methods.norm import over_ranks
from xharmonize.training.protocol import Batch, Loss, Setup, StepInfo

describe = gan.describe
BACK_DROPOUT, SHOWN_BACK = 4, 6
"""Purposes of the random numbers of a sample in a step, beside those of `gan`."""


def make(setup: Setup) -> CycleMethod:
    """Return the networks, optimisers and losses."""
    return CycleMethod(setup)


class CycleMethod(GanMethod):
    """Two generators and two discriminators; see `training.protocol.Method`."""

    config: CycleGan

    def __init__(self, setup: Setup) -> None:
        if setup.accumulate > 1:
            raise OptionError(
                f"asks for parts of a batch, which {setup.config.name!r} is not computed in",
                argument="accumulate",
                value=setup.accumulate,
                cure="leave Run(accumulate=...) out, and take a smaller batch",
            )
        super().__init__(setup)
        self.networks["back"] = self._make_back(setup)
        channels = sum(len(one.bands) for one in self.card.inputs)
        self.networks["judge_back"] = self._make_discriminator(setup, channels, seed=2)
        both = chain(*(self.networks[name].parameters() for name in ("generator", "back")))
        judges = chain(
            *(self.networks[name].parameters() for name in ("discriminator", "judge_back"))
        )
        self.optimizers: dict[str, Optimizer] = {
            "generator": start.adam(both, self.config, setup),
            "discriminator": start.adam(judges, self._without_decay(), setup),
        }

    def _make_back(self, setup: Setup) -> nn.Module:
        """The generator from the target to the inputs."""
        bands, channels = len(self.card.output.bands), sum(len(i.bands) for i in self.card.inputs)
        network = ResnetGenerator(
            [(bands, self.card.lattice.cells(self.card.lattice.resolution))],
            [None] * channels,
            width=self.config.width,
            blocks=self.config.blocks,
            norm=self.config.norm,
            dropout=self.config.dropout,
            output_activation=self.config.output_activation,
        )
        drawn = glorot_uniform(network.state_dict(), setup.seed + 3)
        network.load_state_dict({name: torch.from_numpy(v) for name, v in drawn.items()})
        return over_ranks(network, setup.ranks).to(setup.device)

    def losses(self, batch: Batch, step: StepInfo) -> Iterator[Loss]:
        """Yield the loss of both discriminators, and that of both generators."""
        for network in self.networks.values():
            network.train()
        own = area_means(batch.inputs, self.ratios)
        fake = self._generate(batch, step)
        shown = torch.where(batch.valid, fake, batch.target)
        back = self._back(batch.target, batch, step, 0)
        weight = self.adversary_weight(step.step)
        sides = (
            ("discriminator", batch.target, shown, gan.SHOWN_FIRST),
            ("judge_back", own, back, SHOWN_BACK),
        )
        if weight:
            total, parts = own.new_zeros(()), dict[str, float]()
            for name, real, made, purpose in sides:
                seen = self._judged(name, real, made.detach(), batch, step, purpose)
                loss = losses.discriminator_loss(*seen, step.ranks, kind=self._kind)
                total, parts = total + loss, parts | {name: as_number(loss)}
            yield "discriminator", self.config.discriminator_weight * total, parts
        cycles = self._cycles(own, shown, back, batch, step)
        total, told = self.config.cycle_weight * cycles, {"cycle": as_number(cycles)}
        for name, real, made, purpose in sides if weight else ():
            seen = self._judged(name, real, made, batch, step, purpose + 1)
            against = losses.generator_loss(*seen, step.ranks, kind=self._kind)
            total, told[f"adversary {name}"] = total + weight * against, as_number(against)
        if self.config.l1_weight:
            weight_of_dates = self.config.date_weight
            left = losses.residual(
                fake,
                batch.target,
                batch.valid,
                batch.date,
                step.ranks,
                date_weight=weight_of_dates,
            )
            l1 = losses.absolute(left, batch.valid, step.ranks)
            total, told["l1"] = total + self.config.l1_weight * l1, as_number(l1)
        yield "generator", total, told

    def _cycles(
        self, own: Tensor, shown: Tensor, back: Tensor, batch: Batch, step: StepInfo
    ) -> Tensor:
        """How far images that went there and back, and back and there, are from themselves."""
        everywhere = torch.ones_like(own, dtype=torch.bool)
        first = losses.absolute(self._back(shown, batch, step, 1) - own, everywhere, step.ranks)
        left = self._there(back, batch, step) - batch.target
        return first + losses.absolute(left, batch.valid, step.ranks)

    def _back(self, images: Tensor, batch: Batch, step: StepInfo, number: int) -> Tensor:
        network = self.networks["back"]
        set_keys(network, keys_of(batch.index, step.seed, step.step, BACK_DROPOUT + number))
        made: Tensor = network(images)
        set_keys(network, None)
        return made

    def _there(self, images: Tensor, batch: Batch, step: StepInfo) -> Tensor:
        """What the generator makes of predicted inputs, each put at its own pixels again."""
        inputs, at = [], 0
        for like in batch.inputs:
            part = images[:, at : at + like.shape[1]]
            at += like.shape[1]
            same = part.shape[2:] == like.shape[2:]
            size = like.shape[2:]
            inputs.append(part if same else nn.functional.interpolate(part, size=size, mode="area"))
        generator = self.networks["generator"]
        set_keys(generator, keys_of(batch.index, step.seed, step.step, BACK_DROPOUT + 1))
        made: Tensor = generator(*inputs)
        set_keys(generator, None)
        return made

    def _judged(
        self, name: str, real: Tensor, made: Tensor, batch: Batch, step: StepInfo, purpose: int
    ) -> tuple[Tensor, Tensor]:
        """Logits of real and predicted images of a kind, varied alike, of one forward."""
        keys = keys_of(batch.index, step.seed, step.step, purpose)
        images = torch.cat([real, made])
        images = augment(images, torch.cat([keys, keys]), self.config.augmentation)
        one, other = self.networks[name](images).chunk(2)
        return one, other
