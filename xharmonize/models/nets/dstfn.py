"""DSTFN: residual dense blocks with attention over a coarse cube and finer images of other dates.

Each of its two stages is one such network: Sentinel-2's 20 m bands to 10 m beside its 10 m bands,
and Landsat to 10 m beside Sentinel-2 of another date and the 15 m band. Features of the coarse cube
pass one block at their own pixels and are resampled; joined with those of the other inputs they
pass three more, whose outputs are joined, added to the coarse features, and give what is added to
the resampled cube.

The paper prints kernels, blocks and 64 filters. It does not print the growth rate (here 32), how
the channels of several inputs become 64 (a convolution of 3 x 3), how the outputs of three blocks
do (1 x 1), and the reduction of the channel attention (16): they are our choice.

References
----------
Wu, J. et al. (2022), Fusing Landsat 8 and Sentinel-2 data for 10-m dense time-series imagery using
a degradation-term constrained deep network, JAG 108, doi:10.1016/j.jag.2022.102738.
Woo, S. et al. (2018), CBAM: convolutional block attention module, ECCV.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn

from xharmonize.models.architectures import Parameter, read_hyperparameters
from xharmonize.models.card import Card
from xharmonize.models.kinds import GeneratorCard
from xharmonize.models.nets.layers import Base, resampled
from xharmonize.models.nets.small_conv import base_lines

LAYERS = 6
REDUCTION = 16
HYPERPARAMETERS = {
    "width": Parameter(default=64, low=1, high=256),
    "growth": Parameter(default=32, low=1, high=256),
    "blocks": Parameter(default=3, low=1, high=16),
    "base": Parameter(default="cube", choices=("none", "cube")),
}


def from_card(card: Card) -> nn.Module:
    """Return the network of a card, with weights still to be set."""
    card = GeneratorCard.of(card, f"architecture {card.architecture!r}")
    values = read_hyperparameters(card, HYPERPARAMETERS)
    inputs = [(len(source.bands), card.lattice.cells(source.gsd)) for source in card.inputs]
    return Dstfn(inputs, base_lines(card), **values)


def _conv(channels: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(channels, outputs, kernel, padding=kernel // 2)


class Attention(nn.Module):
    """Weigh features by place and by channel; the two are added.

    Parameters
    ----------
    width : int
        Channels that go in and come out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(1, width // REDUCTION)
        self.place = nn.Sequential(_conv(width, width), nn.ReLU(), _conv(width, 1, 1), nn.Sigmoid())
        self.by_mean, self.by_most = (
            nn.Sequential(_conv(width, inner, 1), nn.ReLU(), _conv(inner, width, 1), nn.Sigmoid())
            for _ in range(2)
        )
        self.joined = _conv(2 * width, width)

    def forward(self, image: Tensor) -> Tensor:
        """Map (n, channel, y, x) to the same shape."""
        mean, most = image.mean((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)
        weighed = torch.cat([image * self.by_mean(mean), image * self.by_most(most)], 1)
        found: Tensor = image * self.place(image) + self.joined(weighed)
        return found


class Block(nn.Module):
    """Attention, then six convolutions that each see what all before them gave.

    Parameters
    ----------
    width : int
        Channels that go in and come out.
    growth : int
        Channels that each convolution adds.
    """

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.attention = Attention(width)
        self.layers = nn.ModuleList(_conv(width + n * growth, growth) for n in range(LAYERS))
        self.joined = _conv(LAYERS * growth, width, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Map (n, channel, y, x) to the same shape."""
        recalibrated: Tensor = self.attention(image)
        seen = [recalibrated]
        for layer in self.layers:
            seen.append(nn.functional.relu(layer(torch.cat(seen, 1))))
        found: Tensor = recalibrated + self.joined(torch.cat(seen[1:], 1))
        return found


class Dstfn(nn.Module):
    """One stage of DSTFN.

    Parameters
    ----------
    inputs : sequence of (int, Fraction)
        Channels of each input, and its pixels per target pixel; below 1 those of the cube, which
        pass a block of their own.
    bands : sequence of (int, float, float) or None
        Per output what it is added to; see `small_conv.base_lines`.
    width : int
        Channels of features.
    growth : int
        Channels that each convolution of a block adds.
    blocks : int
        Blocks that the joined features pass.
    base : {"cube", "none"}
        What is added to; see `layers.Base`.
    """

    def __init__(
        self,
        inputs: Sequence[tuple[int, Fraction]],
        bands: Sequence[tuple[int, float, float] | None],
        *,
        width: int = 64,
        growth: int = 32,
        blocks: int = 3,
        base: str = "cube",
    ) -> None:
        super().__init__()
        self.ratios = [ratio for _, ratio in inputs]
        self.coarsest = self.ratios.index(min(self.ratios))
        self.shallow = nn.ModuleList(_conv(count, width) for count, _ in inputs)
        self.coarse = Block(width, growth)
        self.join = _conv(len(inputs) * width, width)
        self.blocks = nn.ModuleList(Block(width, growth) for _ in range(blocks))
        self.joined = _conv(blocks * width, width, 1)
        self.last = _conv(width, len(bands))
        self.base = Base(base, self.ratios, bands, sum(count for count, _ in inputs))

    def forward(self, *images: Tensor) -> Tensor:
        """Map one (n, channel, y, x) per input to (n, output, y, x) of the target."""
        features = []
        for number, (image, ratio) in enumerate(zip(images, self.ratios, strict=True)):
            own = self.shallow[number](image)
            own = self.coarse(own) if number == self.coarsest else own
            features.append(resampled(own, ratio))
        found = self.join(torch.cat(features, 1))
        outputs = []
        for block in self.blocks:
            found = block(found)
            outputs.append(found)
        whole = self.joined(torch.cat(outputs, 1)) + features[self.coarsest]
        output: Tensor = self.last(whole)
        base: Tensor | float = self.base(images)
        return output + base
