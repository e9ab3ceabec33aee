"""Transposed convolutions of pix2pix computed as ordinary ones: the same sums, in another order.

A transposed convolution of kernel 4, stride 2 and padding 1 puts two output pixels a side between
each pair of neighbouring input pixels, and both depend on just that pair. So a convolution of
kernel 2 with four times the channels gives, at each place between pixels, the 2 x 2 output pixels
there; they are then put in place. oneDNN has no fast bfloat16 kernel for the innermost transposed
convolutions of a U-Net, and reorders their weights at every batch.

References
----------
Shi, W. et al. (2016), Is the deconvolution layer the same as a convolutional layer?,
arXiv:1609.07009.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xharmonize.models.nets.exchange import changes_by_two, exchange

TAPS = ((2, 0), (3, 1))
"""Per output pixel of a pair, the taps of the kernel that meet the first and second input pixel."""


class SubpixelConvolution(nn.Module):
    """What a transposed convolution of kernel 4, stride 2 and padding 1 does.

    Parameters
    ----------
    transposed : torch.nn.ConvTranspose2d
        The layer whose weights are taken over.
    """

    def __init__(self, transposed: nn.ConvTranspose2d) -> None:
        super().__init__()
        channels, outputs = transposed.weight.shape[:2]
        taps = torch.tensor(TAPS)
        kernel = transposed.weight.detach()[:, :, taps][..., taps]  # (in, out, 2, tap, 2, tap)
        self.convolution = nn.Conv2d(channels, 4 * outputs, 2, padding=1, device="meta")
        self.convolution.weight = nn.Parameter(
            kernel.permute(1, 2, 4, 0, 3, 5).reshape(4 * outputs, channels, 2, 2),
            requires_grad=False,
        )
        bias = torch.zeros(outputs) if transposed.bias is None else transposed.bias.detach()
        self.convolution.bias = nn.Parameter(bias.repeat_interleave(4), requires_grad=False)

    def forward(self, image: Tensor) -> Tensor:
        """Map (n, channel, y, x) to (n, output, 2 y, 2 x)."""
        return nn.functional.pixel_shuffle(self.convolution(image), 2)[..., 1:-1, 1:-1]


def with_subpixels(network: nn.Module) -> None:
    """Replace every transposed convolution that can be, in place."""
    exchange(network, _subpixel)


def _subpixel(part: nn.Module) -> nn.Module | None:
    is_transposed = isinstance(part, nn.ConvTranspose2d) and changes_by_two(part)
    return SubpixelConvolution(part) if is_transposed else None
