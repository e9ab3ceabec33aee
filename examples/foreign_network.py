"""Map somebody else's network: ``python examples/foreign_network.py SOURCE WEIGHTS OUT.zarr``.

SOURCE is a STAC API or a catalogue with Sentinel-2 L2A, WEIGHTS a safetensors file of `TheirUNet`.
Nothing of the network is written for this package: it takes an image and gives one. What is added
is a name for its class, and a card that says what goes in and what comes out.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import load_file
from torch import nn

import xharmonize as xh
from xharmonize.models import GeneratorCard, Input, Lattice, Output

BANDS = ("blue", "green", "red", "nir")


# --- As it stands in their repository. -----------------------------------------------------------


def _block(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)
    )


class TheirUNet(nn.Module):
    """A U-Net of one level, after Ronneberger et al. (2015, doi:10.1007/978-3-319-24574-4_28)."""

    def __init__(self, in_channels: int = 4, classes: int = 4, features: int = 16) -> None:
        super().__init__()
        self.encoder = _block(in_channels, features)
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = _block(features, 2 * features)
        self.upconv = nn.ConvTranspose2d(2 * features, features, 2, stride=2)
        self.decoder = _block(2 * features, features)
        self.conv = nn.Conv2d(features, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Image (batch, in_channels, y, x) to image (batch, classes, y, x)."""
        skip = self.encoder(x)
        up = self.upconv(self.bottleneck(self.pool(skip)))
        return self.conv(self.decoder(torch.cat([up, skip], dim=1)))


# --- Ten lines to map it. ------------------------------------------------------------------------

xh.models.register_architecture(
    "their-unet", lambda card: TheirUNet(4, 4, **card.hyperparameters), replace=True
)
CARD = GeneratorCard(
    name="their-unet-oli", title="Their U-Net: MSI to OLI at 10 m", architecture="their-unet",
    source_sensor="sentinel-2-l2a", source_bandpass="msi", target_bandpass="oli", levels=("SR",),
    inputs=(Input(name="image", bands=BANDS, gsd=10.0, mean=(0.1,) * 4, scale=(0.1,) * 4),),
    output=Output(bands=BANDS, mean=(0.1,) * 4, scale=(0.1,) * 4),
    lattice=Lattice(resolution=10.0, tile=96, buffer=16),
)  # fmt: skip


def main(source: str, weights: str, out: str, **hyperparameters: Any) -> None:
    """Write a bundle beside the result, and map it."""
    bundle = Path(out).with_suffix(".bundle")
    card = replace(CARD, hyperparameters=hyperparameters)
    xh.models.write_bundle(bundle, card, load_file(weights), mode="w")
    model = xh.load_model(bundle)
    print(model)
    cube = xh.open_stac(source, collection="sentinel-2-l2a", bands=BANDS, pad=model)
    cube.harmonize.to_landsat(model).harmonize.to_zarr(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
