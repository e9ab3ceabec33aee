"""Look-up tables that are the same for every tile: what UNet-LUT is compared with.

A table per band is learnt itself. The histograms only say how many tables are asked for; bundles
and training are hence those of UNet-LUT. For tables without a convolution there also is a closed
form, `xharmonize.fit_lut`.

References
----------
Liu, Z.-Q. et al. (2023), Bandpass alignment from Sentinel-2 to Gaofen-1 ARD products with
UNet-induced tile-adaptive lookup tables, Remote Sensing 15, 2563, doi:10.3390/rs15102563.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xharmonize.models.architectures import Parameter, read_hyperparameters
from xharmonize.models.card import Card
from xharmonize.models.kinds import LutCard
from xharmonize.models.nets import unet_lut
from xharmonize.models.nets.unet_lut import Refined

HYPERPARAMETERS = {
    "refine": Parameter(default=False),
    "refine_activation": unet_lut.HYPERPARAMETERS["refine_activation"],
    "base": unet_lut.HYPERPARAMETERS["base"],
}


def from_card(card: Card) -> nn.Module:
    """Return the network of a card, with weights still to be set."""
    card = LutCard.of(card, f"architecture {card.architecture!r}")
    values = read_hyperparameters(card, HYPERPARAMETERS)
    return GlobalLut(len(card.output.bands), card.histograms.knots, **values)


class GlobalLut(Refined):
    """One table per band.

    Parameters
    ----------
    outputs, knots : int
        Tables, and knots of each.
    refine, refine_activation, base
        As for `unet_lut.Refined`.
    """

    def __init__(
        self,
        outputs: int,
        knots: int,
        *,
        refine: bool = False,
        refine_activation: str = "relu",
        base: str = "none",
    ) -> None:
        super().__init__(outputs, refine=refine, refine_activation=refine_activation, base=base)
        self.table = nn.Parameter(torch.zeros(outputs, knots))

    def forward(self, histograms: Tensor) -> Tensor:
        """Return the tables (n, output, knot) for histograms (n, band, bin)."""
        return self.add_base(self.table.expand(histograms.shape[0], -1, -1))
