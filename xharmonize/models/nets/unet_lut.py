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
    "refine_activation": Parameter(default="relu", choices=("relu", "identity")),
    "base": Parameter(default="none", choices=("none", "ramp", "line")),
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


def look_up(tables: Tensor, image: Tensor) -> Tensor:
    """Map an image through tables, linearly between knots; gradients reach the tables.

    Parameters
    ----------
    tables : (n, band, knot) tensor
        Values at knots evenly spaced over [0, 1].
    image : (n, band, y, x) tensor
        Source values, 0 and 1 at the limits of the histograms; ends are held beyond.

    Returns
    -------
    (n, band, y, x) tensor
        In the units of the tables.
    """
    place = image.clamp(0, 1) * (tables.shape[-1] - 1)
    knot = place.detach().floor().clamp(max=tables.shape[-1] - 2)
    part = (place - knot).flatten(2)
    first = knot.long().flatten(2)
    left, right = tables.gather(2, first), tables.gather(2, first + 1)
    return (left + part * (right - left)).view_as(image)


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


class Refined(nn.Module):
    """What networks that make tables share: what tables are added to, and the convolution after.

    Parameters
    ----------
    outputs : int
        Tables that come out.
    refine : bool
        Have a 3 x 3 convolution for the mapped image.
    refine_activation : {"relu", "identity"}
        What follows it. With ``"relu"``, as printed, a value is never lowered, and a batch
        normalisation whose scale and shift are zero stays that for ever: the derivative of ReLU at
        0 is 0. With ``"identity"`` it may start at zero.
    base : {"none", "ramp", "line"}
        What the tables are added to: nothing, as printed; the ramp from 0 to 1, which is the
        identity where the card's output has the histograms' limits as mean and scale; or a line
        per band that was fitted beforehand.
    """

    def __init__(self, outputs: int, *, refine: bool, refine_activation: str, base: str) -> None:
        super().__init__()
        self.base = base
        if base == "line":
            self.register_buffer("line", torch.zeros(outputs, 2))
            self.line: Tensor
        self.is_signed = refine_activation == "identity"
        self.convolution = (
            nn.Sequential(nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs))
            if refine
            else None
        )

    def add_base(self, tables: Tensor) -> Tensor:
        """Add what tables (n, output, knot) are departures from."""
        if self.base == "none":
            return tables
        ramp = torch.linspace(0, 1, tables.shape[-1], device=tables.device)
        if self.base == "ramp":
            return tables + ramp
        return tables + self.line[:, :1] * ramp + self.line[:, 1:]

    def refine(self, image: Tensor) -> Tensor:
        """Add the convolution's answer to a mapped image (n, output, y, x).

        Raises
        ------
        ModelError
            If the network was made without it.
        """
        if self.convolution is None:
            raise ModelError("this network has no convolution: its card says refine=false")
        answer: Tensor = self.convolution(image)
        return image + (answer if self.is_signed else nn.functional.relu(answer))


class UNetLut(Refined):
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
    refine, refine_activation, base
        As for `Refined`.
    """

    def __init__(
        self,
        bands: int,
        outputs: int,
        *,
        width: int = 8,
        depth: int = 4,
        refine: bool = True,
        refine_activation: str = "relu",
        base: str = "none",
    ) -> None:
        super().__init__(outputs, refine=refine, refine_activation=refine_activation, base=base)
        widths = [width * 2**level for level in range(depth + 1)]
        pairs = list(pairwise(widths))
        self.first = double_convolution(bands, width)
        self.down = nn.ModuleList(double_convolution(outer, inner) for outer, inner in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose1d(inner, outer, 2, 2) for outer, inner in pairs)
        self.joined = nn.ModuleList(double_convolution(2 * outer, outer) for outer, _ in pairs)
        self.last = nn.Conv1d(width, outputs, 1)

    def forward(self, histograms: Tensor) -> Tensor:
        """Map histograms (n, band, bin), each of sum one, to tables (n, output, knot)."""
        features = [self.first(histograms)]
        for convolution in self.down:
            features.append(convolution(nn.functional.max_pool1d(features[-1], 2)))
        inner = features.pop()
        for up, joined in zip(reversed(self.up), reversed(self.joined)):
            inner = joined(torch.cat([features.pop(), up(inner)], 1))
        return self.add_base(self.last(inner))
