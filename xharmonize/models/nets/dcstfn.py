"""DCSTFN-OS: features of a reference, less those of radar then, plus those of radar now.

What DCSTFN does with a fine and two coarse images, ``fine(t0) - coarse(t0) + coarse(t1)`` in the
space of features, with radar in place of the coarse ones: one encoder for the reference, one for
radar at both dates, and a decoder. With residual blocks in the encoders it is RDCSTFN-OS.

The paper it comes from prints widths (32, 64, 128). Here the encoder halves once (its second
convolution), and the decoder doubles once; blocks are two of 3 x 3 in each encoder.

References
----------
Tan, Z. et al. (2018), Deriving high spatiotemporal remote sensing images using deep convolutional
network, Remote Sensing 10, doi:10.3390/rs10071066.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn

from xharmonize.errors import ModelError
from xharmonize.models.architectures import Parameter, read_hyperparameters
from xharmonize.models.card import Card
from xharmonize.models.kinds import GeneratorCard
from xharmonize.models.kinds.generator import CUBE
from xharmonize.models.nets.layers import Base, resampled
from xharmonize.models.nets.mgan_unet import ACTIVATIONS, require_multiple
from xharmonize.models.nets.resnet_generator import ResidualBlock
from xharmonize.models.nets.small_conv import base_lines

THEN = "_reference"
"""End of the role of a source at the reference's date: ``sentinel1_reference``."""
HYPERPARAMETERS = {
    "width": Parameter(default=32, low=1, high=256),
    "blocks": Parameter(default=0, low=0, high=16),
    "output_activation": Parameter(default="identity", choices=tuple(ACTIVATIONS)),
    "base": Parameter(default="none", choices=("none", "line")),
}


def from_card(card: Card) -> nn.Module:
    """Return the network of a card, with weights still to be set."""
    card = GeneratorCard.of(card, f"architecture {card.architecture!r}")
    values = read_hyperparameters(card, HYPERPARAMETERS)
    inputs = [(len(source.bands), card.lattice.cells(source.gsd)) for source in card.inputs]
    parts = parts_of(card)
    return Dcstfn(inputs, parts, base_lines(card), **values)


def parts_of(card: GeneratorCard) -> tuple[list[int], list[int], list[int]]:
    """Numbers of the inputs of the reference, of the change then, and of the change now.

    Raises
    ------
    ModelError
        Unless each source has its counterpart at the reference's date, but for the reference.
    """
    roles = [one.source for one in card.inputs]
    now = sorted({role for role in roles if role + THEN in roles})
    reference = [n for n, r in enumerate(roles) if r not in now and r.removesuffix(THEN) not in now]
    before, after = (
        [n for role in now for n, one in enumerate(roles) if one == role + end]
        for end in (THEN, "")
    )
    bands = [[card.inputs[n].bands for n in side] for side in (before, after)]
    if not now or not reference or bands[0] != bands[1] or CUBE in roles:
        raise ModelError(
            f"{card.architecture!r} needs a reference and one source at both dates, the inputs are "
            f"of {', '.join(dict.fromkeys(roles))}",
            cure="give reference, sentinel1 and sentinel1_reference, with the same bands of radar",
        )
    return reference, before, after


class Encoder(nn.Module):
    """Three convolutions of 3 x 3, the second of stride 2, and residual blocks."""

    def __init__(self, channels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, padding_mode="replicate"),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, 2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1, padding_mode="replicate"),
            nn.ReLU(),
            *(ResidualBlock(4 * width, norm="none", dropout=0.0) for _ in range(blocks)),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map (n, channel, y, x) to (n, 4 width, y / 2, x / 2)."""
        found: Tensor = self.layers(image)
        return found


class Dcstfn(nn.Module):
    """Features of the reference plus the change of another source's.

    Parameters
    ----------
    inputs : sequence of (int, Fraction)
        Channels of each input, and its pixels per target pixel.
    parts : three lists of int
        See `parts_of`.
    bands : sequence
        One per output.
    width : int
        Channels of the first convolution; two and four times as many of those after it.
    blocks : int
        Residual blocks of each encoder.
    output_activation, base
        See `mgan_unet.MganUNet` and `layers.Base`.
    """

    def __init__(
        self,
        inputs: Sequence[tuple[int, Fraction]],
        parts: tuple[list[int], list[int], list[int]],
        bands: Sequence[tuple[int, float, float] | None],
        *,
        width: int = 32,
        blocks: int = 0,
        output_activation: str = "identity",
        base: str = "none",
    ) -> None:
        super().__init__()
        self.ratios, self.parts = [ratio for _, ratio in inputs], parts
        counts = [count for count, _ in inputs]
        self.reference = Encoder(sum(counts[n] for n in parts[0]), width, blocks)
        self.change = Encoder(sum(counts[n] for n in parts[1]), width, blocks)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(4 * width, 4 * width, 4, 2, padding=1),
            nn.ReLU(),
            nn.Conv2d(4 * width, 2 * width, 3, padding=1, padding_mode="replicate"),
            nn.ReLU(),
        )
        self.last = nn.Conv2d(2 * width, len(bands), 1)
        self.activation = ACTIVATIONS[output_activation]()
        self.base = Base(base, self.ratios, bands, sum(counts))

    def forward(self, *images: Tensor) -> Tensor:
        """Map one (n, channel, y, x) per input to (n, output, y, x) of the target.

        Raises
        ------
        ModelError
            If the target's sides are no multiples of 2.
        """
        own = [resampled(image, ratio) for image, ratio in zip(images, self.ratios, strict=True)]
        reference, before, after = (torch.cat([own[n] for n in part], 1) for part in self.parts)
        require_multiple(reference, 2)
        features = self.reference(reference) - self.change(before) + self.change(after)
        output: Tensor = self.activation(self.last(self.decoder(features)))
        base: Tensor | float = self.base(images)
        return output + base
