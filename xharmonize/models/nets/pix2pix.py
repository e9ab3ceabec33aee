"""The generator of pix2pix: a U-Net with normalisation, for inputs of the target's pixel size.

Eight levels (``depth=8``) are the U-Net-256 of the reference implementation, seven the U-Net-128.
Finer or coarser inputs are brought to the target's pixels by their area-weighted mean.

HLS-GAN feeds random noise to the same network. With ``noise`` channels of it, training gives
standard normal numbers (see `Pix2Pix.forward`), and a network that is applied gets their mean,
zero: the result is one image, whatever the chunks, and not a draw.

References
----------
Isola, P. et al. (2017), Image-to-image translation with conditional adversarial networks, CVPR,
doi:10.1109/CVPR.2017.632.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn

from xharmonize.models.architectures import Parameter, read_hyperparameters
from xharmonize.models.card import Card
from xharmonize.models.kinds import GeneratorCard
from xharmonize.models.nets import mgan_unet
from xharmonize.models.nets.layers import NORMS, Line, area_means
from xharmonize.models.nets.mgan_unet import ACTIVATIONS, make_levels, require_multiple

HYPERPARAMETERS = mgan_unet.HYPERPARAMETERS | {
    "depth": Parameter(default=8, low=2, high=9),
    "norm": Parameter(default="batch", choices=tuple(NORMS)),
    "noise": Parameter(default=0, low=0, high=16),
}


def from_card(card: Card) -> nn.Module:
    """Return the network of a card, with weights still to be set."""
    card = GeneratorCard.of(card, f"architecture {card.architecture!r}")
    values = read_hyperparameters(card, HYPERPARAMETERS)
    inputs = [(len(source.bands), card.lattice.cells(source.gsd)) for source in card.inputs]
    return Pix2Pix(inputs, len(card.output.bands), **values)


class Pix2Pix(nn.Module):
    """U-Net over the area-weighted means of its inputs; see `mgan_unet.MganUNet` for the rest.

    Parameters
    ----------
    norm : {"batch", "instance", "none"}
        After convolutions, as in `mgan_unet.Level`.
    noise : int
        Channels of noise beside the inputs.
    """

    def __init__(
        self,
        inputs: Sequence[tuple[int, Fraction]],
        outputs: int,
        *,
        width: int = 64,
        depth: int = 8,
        max_factor: int = 8,
        dropout: float = 0.5,
        output_activation: str = "tanh",
        base: str = "none",
        norm: str = "batch",
        noise: int = 0,
    ) -> None:
        super().__init__()
        self.multiple, self.noise = 2**depth, noise
        self.ratios = [ratio for _, ratio in inputs]
        channels = sum(count for count, _ in inputs)
        self.body = make_levels(
            channels + noise,
            outputs,
            width=width,
            depth=depth,
            max_factor=max_factor,
            dropout=dropout,
            norm=norm,
        )
        self.activation = ACTIVATIONS[output_activation]()
        self.line = Line(channels, outputs) if base == "line" else None

    def forward(self, *images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Map one (n, channel, y, x) per input to (n, output, y, x) of the target.

        Parameters
        ----------
        *images : (n, channel, y, x) tensor
            One per input.
        noise : (n, noise, y, x) tensor, optional
            Noise on the target's pixels; zero where none is given.

        Raises
        ------
        ModelError
            If the target's sides are no multiples of ``2**depth``.
        """
        means = area_means(images, self.ratios)
        require_multiple(means, self.multiple)
        whole = means
        if self.noise:
            if noise is None:
                noise = means.new_zeros(means.shape[0], self.noise, *means.shape[2:])
            whole = torch.cat([means, noise], 1)
        output: Tensor = self.activation(self.body(whole))
        return output if self.line is None else output + self.line(means)
