"""The generator of MTcGAN and CycleGAN: down to a quarter, residual blocks, and up again.

A convolution of 7 x 7, two of stride 2, blocks of two 3 x 3 convolutions each, two transposed ones
and another 7 x 7. Nine blocks are for 256 pixels a side, six for 128. All inputs stand side by
side at the target's pixels.

References
----------
Zhu, J.-Y. et al. (2017), Unpaired image-to-image translation using cycle-consistent adversarial
networks, ICCV, doi:10.1109/ICCV.2017.244. He, W. & Yokoya, N. (2018), Multi-temporal Sentinel-1 and
-2 data fusion for optical image simulation, ISPRS Int. J. Geo-Inf. 7 (MTcGAN),
doi:10.3390/ijgi7100389.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn

from xharmonize.models.architectures import Parameter, read_hyperparameters
from xharmonize.models.card import Card
from xharmonize.models.kinds import GeneratorCard
from xharmonize.models.nets.draws import SampleDropout
from xharmonize.models.nets.layers import NORMS, Base, resampled
from xharmonize.models.nets.mgan_unet import ACTIVATIONS, require_multiple
from xharmonize.models.nets.small_conv import base_lines

HYPERPARAMETERS = {
    "width": Parameter(default=64, low=1, high=256),
    "blocks": Parameter(default=9, low=1, high=16),
    "norm": Parameter(default="instance", choices=tuple(NORMS)),
    "dropout": Parameter(default=0.0, low=0.0, high=0.9),
    "output_activation": Parameter(default="tanh", choices=tuple(ACTIVATIONS)),
    "base": Parameter(default="none", choices=("none", "cube", "line")),
}


def from_card(card: Card) -> nn.Module:
    """Return the network of a card, with weights still to be set."""
    card = GeneratorCard.of(card, f"architecture {card.architecture!r}")
    values = read_hyperparameters(card, HYPERPARAMETERS)
    inputs = [(len(source.bands), card.lattice.cells(source.gsd)) for source in card.inputs]
    return ResnetGenerator(inputs, base_lines(card), **values)


class ResidualBlock(nn.Module):
    """Two convolutions of 3 x 3 whose result is added to what they were given."""

    def __init__(self, width: int, *, norm: str, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate"),
            NORMS[norm](width),
            nn.ReLU(),
            SampleDropout(dropout),
            nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate"),
            NORMS[norm](width),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map (n, channel, y, x) to the same shape."""
        found: Tensor = image + self.layers(image)
        return found


class ResnetGenerator(nn.Module):
    """Down to a quarter, residual blocks, and up again.

    Parameters
    ----------
    inputs : sequence of (int, Fraction)
        Channels of each input, and its pixels per target pixel.
    bands : sequence of (int, float, float) or None
        Per output the band that ``base="cube"`` adds to; see `small_conv.base_lines`.
    width : int
        Channels of the first convolution; four times as many of the blocks.
    blocks : int
        Residual blocks.
    norm : {"instance", "batch", "none"}
        After convolutions.
    dropout : float
        Within blocks, in training.
    output_activation, base
        See `mgan_unet.MganUNet` and `layers.Base`.
    """

    def __init__(
        self,
        inputs: Sequence[tuple[int, Fraction]],
        bands: Sequence[tuple[int, float, float] | None],
        *,
        width: int = 64,
        blocks: int = 9,
        norm: str = "instance",
        dropout: float = 0.0,
        output_activation: str = "tanh",
        base: str = "none",
    ) -> None:
        super().__init__()
        self.ratios = [ratio for _, ratio in inputs]
        channels = sum(count for count, _ in inputs)
        layers: list[nn.Module] = [
            nn.Conv2d(channels, width, 7, padding=3, padding_mode="replicate"),
            NORMS[norm](width),
            nn.ReLU(),
        ]
        for outer, inner in ((width, 2 * width), (2 * width, 4 * width)):
            layers += [nn.Conv2d(outer, inner, 3, 2, padding=1), NORMS[norm](inner), nn.ReLU()]
        layers += [ResidualBlock(4 * width, norm=norm, dropout=dropout) for _ in range(blocks)]
        for inner, outer in ((4 * width, 2 * width), (2 * width, width)):
            up = nn.ConvTranspose2d(inner, outer, 3, 2, padding=1, output_padding=1)
            layers += [up, NORMS[norm](outer), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.last = nn.Conv2d(width, len(bands), 7, padding=3, padding_mode="replicate")
        self.activation = ACTIVATIONS[output_activation]()
        self.base = Base(base, self.ratios, bands, channels)

    def forward(self, *images: Tensor) -> Tensor:
        """Map one (n, channel, y, x) per input to (n, output, y, x) of the target.

        Raises
        ------
        ModelError
            If the target's sides are no multiples of 4.
        """
        parts = [resampled(image, ratio) for image, ratio in zip(images, self.ratios, strict=True)]
        whole = torch.cat(parts, 1)
        require_multiple(whole, 4)
        output: Tensor = self.activation(self.last(self.layers(whole)))
        base: Tensor | float = self.base(images)
        return output + base
