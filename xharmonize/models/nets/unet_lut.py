"""UNet-LUT: look-up tables from the histograms of a tile, by a one-dimensional U-Net.

References
----------
Ronneberger, O. et al. (2015), U-Net: convolutional networks for biomedical image segmentation,
MICCAI, doi:10.1007/978-3-319-24574-4_28.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from xharmonize.errors import ModelError
from xharmonize.models.architectures import Parameter, read_hyperparameters
from xharmonize.models.card import Card
from xharmonize.models.kinds import LutCard

HYPERPARAMETERS = {
    "width": Parameter(default=8, low=1, high=256),
    "depth": Parameter(default=4, low=1, high=8),
    "refine": Parameter(default=True),
    "residual": Parameter(default=False),
}


def from_card(card: Card) -> nn.Module:
    """Return the network of a card, with weights still to be set."""
    card = LutCard.of(card, f"architecture {card.architecture!r}")
    if card.histograms.knots != card.histograms.bins:
        raise ModelError(
            "this network gives as many knots as bins",
            cure=f"the card has {card.histograms.knots} knots and {card.histograms.bins} bins",
        )
    values = read_hyperparameters(card, HYPERPARAMETERS)
    if card.histograms.bins % 2 ** values["depth"]:
        raise ModelError(
            f"{card.histograms.bins} bins cannot be halved {values['depth']} times",
            cure="change the bins or the depth",
        )
    return UNetLut(len(card.histograms.bands), len(card.output.bands), **values)


def double_convolution(channels: int, width: int) -> nn.Sequential:
    """Two convolutions of kernel 3, each with batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv1d(channels, width, 3, padding=1),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Conv1d(width, width, 3, padding=1),
        nn.BatchNorm1d(width),
        nn.ReLU(),
    )


class UNetLut(nn.Module):
    """One-dimensional U-Net; 171,448 parameters with four bands and the defaults.

    Parameters
    ----------
    bands : int
        Histograms that go in, one per band.
    outputs : int
        Tables that come out.
    width : int
        Channels of the first level; they double at each pooling.
    depth : int
        Poolings.
    refine : bool
        Have a 3 x 3 convolution for the mapped image.
    residual : bool
        Add the ramp from 0 to 1 to the tables: weights of zero then give the identity where the
        card's output has the histograms' limits as mean and scale. Not in the paper; it trains in
        fewer steps.
    """

    def __init__(
        self,
        bands: int,
        outputs: int,
        *,
        width: int = 8,
        depth: int = 4,
        refine: bool = True,
        residual: bool = False,
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        pairs = list(pairwise(widths))
        self.first = double_convolution(bands, width)
        self.down = nn.ModuleList(double_convolution(outer, inner) for outer, inner in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose1d(inner, outer, 2, 2) for outer, inner in pairs)
        self.joined = nn.ModuleList(double_convolution(2 * outer, outer) for outer, _ in pairs)
        self.last = nn.Conv1d(width, outputs, 1)
        self.has_residual = residual
        self.convolution = (
            nn.Sequential(nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs))
            if refine
            else None
        )

    def forward(self, histograms: Tensor) -> Tensor:
        """Map histograms (n, band, bin), each of sum one, to tables (n, output, knot)."""
        features = [self.first(histograms)]
        for convolution in self.down:
            features.append(convolution(nn.functional.max_pool1d(features[-1], 2)))
        inner = features.pop()
        for up, joined in zip(reversed(self.up), reversed(self.joined)):
            inner = joined(torch.cat([features.pop(), up(inner)], 1))
        tables: Tensor = self.last(inner)
        if self.has_residual:
            tables = tables + torch.linspace(0, 1, tables.shape[-1], device=tables.device)
        return tables

    def refine(self, image: Tensor) -> Tensor:
        """Add the convolution's answer to a mapped image (n, output, y, x); never negative.

        Raises
        ------
        ModelError
            If the network was made without it.
        """
        if self.convolution is None:
            raise ModelError("this UNet-LUT has no convolution: its card says refine=false")
        return image + nn.functional.relu(self.convolution(image))
