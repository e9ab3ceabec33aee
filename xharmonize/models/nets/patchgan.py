"""PatchGAN: says of every patch of an image how real it looks. Only training needs it.

References
----------
Isola, P. et al. (2017), Image-to-image translation with conditional adversarial networks, CVPR,
doi:10.1109/CVPR.2017.632. Miyato, T. et al. (2018), Spectral normalization for generative
adversarial networks, ICLR, arXiv:1802.05957. Instance and spectral normalisation together:
MGAN for Landsat-8 and Sentinel-2.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from xharmonize.errors import ModelError
from xharmonize.models.nets.layers import NORMS

Norm: TypeAlias = Literal["none", "batch", "instance"]
MAX_FACTOR = 8


class PatchGan(nn.Module):
    """Convolutions of kernel 4: by default 64-128-256-512-1 channels, each value sees 70 pixels.

    Parameters
    ----------
    channels : int
        Of the images, and of what they are conditioned on.
    width : int
        Channels of the first convolution; they double up to eight times as many.
    depth : int
        Convolutions of stride 2; two of stride 1 follow.
    norm : {"instance", "batch", "none"}
        After every convolution but the first and the last.
    spectral : bool
        Divide every kernel by its largest singular value.
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int = 64,
        depth: int = 3,
        norm: Norm = "instance",
        spectral: bool = True,
    ) -> None:
        super().__init__()
        widths = [width * min(2**level, MAX_FACTOR) for level in range(depth + 1)]
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, padding=1)]
        for number, (outer, inner) in enumerate(pairwise(widths), 1):
            stride = 2 if number < depth else 1
            convolution = nn.Conv2d(outer, inner, 4, stride, padding=1, bias=norm != "batch")
            layers += [nn.LeakyReLU(0.2), convolution, NORMS[norm](inner)]
        layers += [nn.LeakyReLU(0.2), nn.Conv2d(widths[-1], 1, 4, 1, padding=1)]
        if spectral:
            layers = [spectral_norm(one) if isinstance(one, nn.Conv2d) else one for one in layers]
        self.layers = nn.Sequential(*layers)
        self.depth = depth

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, channel, y, x) to logits (n, 1, rows, columns), one per patch.

        Raises
        ------
        ModelError
            If the images are too small for a patch.
        """
        least = 2 ** (self.depth - 1) * 6
        if min(images.shape[-2:]) < least:
            raise ModelError(
                f"a discriminator of depth {self.depth} needs images of {least} pixels a side, not "
                f"{images.shape[-2]} x {images.shape[-1]}",
                cure="make its depth smaller, or the patches larger",
            )
        logits: Tensor = self.layers(images)
        return logits


def receptive_field(depth: int = 3) -> int:
    """Pixels a side that one value of a `PatchGan` depends on."""
    side = 1
    for stride in (1, 1, *[2] * depth):
        side = (side - 1) * stride + 4
    return side


def make_patchgan(channels: int, *, seed: int = 0, **options: object) -> PatchGan:
    """Make a `PatchGan` with Glorot-uniform weights; the same for the same seed, anywhere.

    What spectral normalisation keeps, an estimate of each kernel's largest singular vectors, is
    drawn and improved after the weights are in place.
    """
    from xharmonize.models.nets.layers import glorot_uniform

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PatchGan(channels, **options)  # type: ignore[arg-type]
        drawn = {
            name: torch.from_numpy(array)
            for name, array in glorot_uniform(network.state_dict(), seed).items()
            if not name.rpartition(".")[2].startswith("_")  # the singular vectors
        }
        network.load_state_dict(drawn, strict=False)
    return network
