"""Wide convolutions of pix2pix computed as one matrix product: the same sums, in another order.

The innermost layers of a U-Net have millions of weights and few pixels. oneDNN rearranges the
weights at every batch, which there takes longer than the sums. Here they are rearranged once: a row
per pixel of the side where the kernel is applied whole, times a matrix of the weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xharmonize.models.nets.exchange import changes_by_two, exchange

WIDE = 2**18
"""Input times output channels from which it pays: 512 x 512."""


def _bias(layer: nn.Conv2d | nn.ConvTranspose2d) -> Tensor:
    if layer.bias is None:
        return torch.zeros(layer.out_channels)
    return layer.bias.detach().clone()


class ProductConvolution(nn.Module):
    """What a convolution of kernel 4, stride 2 and padding 1 does.

    Parameters
    ----------
    layer : torch.nn.Conv2d
        The layer whose weights are taken over.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        matrix = layer.weight.detach().permute(2, 3, 1, 0).reshape(-1, layer.out_channels)
        self.matrix = nn.Parameter(matrix, requires_grad=False)  # (y, x, in), out
        self.bias = nn.Parameter(_bias(layer), requires_grad=False)

    def forward(self, image: Tensor) -> Tensor:
        """Map (n, channel, y, x) to (n, output, y // 2, x // 2), channels last in memory."""
        windows = nn.functional.pad(image, (1, 1, 1, 1)).unfold(2, 4, 2).unfold(3, 4, 2)
        n, _, height, width = windows.shape[:4]
        rows = windows.permute(0, 2, 3, 4, 5, 1).reshape(n * height * width, -1)
        product = torch.addmm(self.bias, rows, self.matrix)
        return product.view(n, height, width, -1).permute(0, 3, 1, 2)


class ProductTransposed(nn.Module):
    """What a transposed convolution of kernel 4, stride 2 and padding 1 does.

    Parameters
    ----------
    layer : torch.nn.ConvTranspose2d
        The layer whose weights are taken over.
    """

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        super().__init__()
        matrix = layer.weight.detach().permute(0, 2, 3, 1).reshape(layer.in_channels, -1)
        self.matrix = nn.Parameter(matrix, requires_grad=False)  # in, (y, x, out)
        self.bias = nn.Parameter(_bias(layer), requires_grad=False)

    def forward(self, image: Tensor) -> Tensor:
        """Map (n, channel, y, x) to (n, output, 2 y, 2 x), channels last in memory."""
        n, channels, height, width = image.shape
        rows = image.permute(0, 2, 3, 1).reshape(-1, channels)
        # Four taps a side: two pairs, each a pair of output pixels beside the one before.
        taps = (rows @ self.matrix).view(n, height, width, 2, 2, 2, 2, -1)
        total = self.bias.expand(n, height + 1, 2, width + 1, 2, -1).contiguous()
        for i in range(2):
            for j in range(2):
                part = taps[:, :, :, i, :, j].transpose(2, 3)
                total[:, i : i + height, :, j : j + width] += part
        whole = total.view(n, 2 * height + 2, 2 * width + 2, -1)
        return whole[:, 1:-1, 1:-1].permute(0, 3, 1, 2)


def with_products(network: nn.Module) -> None:
    """Replace every wide convolution that can be, in place."""
    exchange(network, _product)


def _product(part: nn.Module) -> nn.Module | None:
    if not changes_by_two(part) or part.in_channels * part.out_channels < WIDE:
        return None
    is_transposed = isinstance(part, nn.ConvTranspose2d)
    return ProductTransposed(part) if is_transposed else ProductConvolution(part)
