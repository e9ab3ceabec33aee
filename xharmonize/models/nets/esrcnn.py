"""ESRCNN: three convolutions over all inputs at the target's pixels.

Coarser inputs (Landsat at 30 m, its 15 m band) are resampled by cubic convolution, and stand beside
the fine ones (Sentinel-2 of one to three dates). Kernels of 9, 5 and 5 pixels see 17 target pixels
a side. With ``base="cube"`` the network adds to the cube's bands, resampled: it then learns the
detail alone, and starts at an image that is not wrong.

References
----------
Shao, Z. et al. (2019), Deep learning-based fusion of Landsat-8 and Sentinel-2 images for a
harmonized surface reflectance product, Remote Sensing of Environment 235,
doi:10.1016/j.rse.2019.111425.
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

REACH = 8
"""Target pixels that an output pixel depends on, on each side."""
HYPERPARAMETERS = {
    "width": Parameter(default=64, low=1, high=512),
    "narrow": Parameter(default=32, low=1, high=512),
    "base": Parameter(default="none", choices=("none", "cube")),
}


def from_card(card: Card) -> nn.Module:
    """Return the network of a card, with weights still to be set."""
    card = GeneratorCard.of(card, f"architecture {card.architecture!r}")
    values = read_hyperparameters(card, HYPERPARAMETERS)
    inputs = [(len(source.bands), card.lattice.cells(source.gsd)) for source in card.inputs]
    return Esrcnn(inputs, base_lines(card), **values)


class Esrcnn(nn.Module):
    """Three convolutions over inputs at the target's pixels.

    Parameters
    ----------
    inputs : sequence of (int, Fraction)
        Channels of each input, and its pixels per target pixel.
    bands : sequence of (int, float, float) or None
        Per output what it is added to; see `small_conv.base_lines`.
    width, narrow : int
        Channels after the first and the second convolution.
    base : {"none", "cube"}
        What is added to; see `layers.Base`.
    """

    def __init__(
        self,
        inputs: Sequence[tuple[int, Fraction]],
        bands: Sequence[tuple[int, float, float] | None],
        *,
        width: int = 64,
        narrow: int = 32,
        base: str = "none",
    ) -> None:
        super().__init__()
        self.ratios = [ratio for _, ratio in inputs]
        channels = sum(count for count, _ in inputs)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 9, padding=4, padding_mode="replicate"),
            nn.ReLU(),
            nn.Conv2d(width, narrow, 5, padding=2, padding_mode="replicate"),
            nn.ReLU(),
        )
        self.last = nn.Conv2d(narrow, len(bands), 5, padding=2, padding_mode="replicate")
        self.base = Base(base, self.ratios, bands, channels)

    def forward(self, *images: Tensor) -> Tensor:
        """Map one (n, channel, y, x) per input to (n, output, y, x) of the target."""
        parts = [resampled(image, ratio) for image, ratio in zip(images, self.ratios, strict=True)]
        output: Tensor = self.last(self.layers(torch.cat(parts, 1)))
        base: Tensor | float = self.base(images)
        return output + base
