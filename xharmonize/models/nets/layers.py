"""Layers that networks share: pixels of the target, the line beside a network, faster convolutions.

**A line beside a network.** A network that is added to a line which was fitted beforehand starts
at that line, and needs to learn what is not linear only. It also is the one path at full
resolution of a network that halves its input at once. The line's coefficients stand among the
weights: a bundle has all that the result depends on.

**Faster convolutions.**

The innermost layers of a U-Net have millions of weights and few pixels. oneDNN rearranges the
weights at every batch, which there takes longer than the sums. Here they are rearranged once: a row
per pixel of the side where the kernel is applied whole, times a matrix of the weights.

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

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xharmonize.types import AnyArray

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda _: nn.Identity(),
    "batch": nn.BatchNorm2d,
    "instance": nn.InstanceNorm2d,
}
"""What stands after a convolution, by name; takes the number of channels."""


def to_target(image: Tensor, ratio: Fraction) -> tuple[Tensor, Tensor | None]:
    """Bring an input to the target's pixels.

    Parameters
    ----------
    image : (n, channel, y, x) tensor
        The input on its own pixels.
    ratio : Fraction
        Its pixels per target pixel, along one side.

    Returns
    -------
    (n, channel, y, x) tensor
        Area-weighted mean over each target pixel.
    (n, channel * p**2, y, x) tensor or None
        Departures from it of the p x p pixels inside; None where the input is no finer.
    """
    repeat, factor = ratio.denominator, ratio.numerator
    if repeat > 1:
        image = nn.functional.interpolate(image, scale_factor=repeat, mode="nearest")
    if factor == 1:
        return image, None
    mean = nn.functional.avg_pool2d(image, factor)
    inside = nn.functional.pixel_unshuffle(image, factor)
    return mean, inside - mean.repeat_interleave(factor**2, 1)


def area_means(images: Sequence[Tensor], ratios: Sequence[Fraction]) -> Tensor:
    """Area-weighted means (n, channel, y, x) over target pixels, channels counted over inputs."""
    parts = [to_target(image, ratio)[0] for image, ratio in zip(images, ratios, strict=True)]
    return torch.cat(parts, 1)


def resampled(image: Tensor, ratio: Fraction) -> Tensor:
    """Bring an input to the target's pixels: coarser ones by cubic convolution, finer ones by area.

    Parameters
    ----------
    image : (n, channel, y, x) tensor
    ratio : Fraction
        Its pixels per target pixel, along one side.
    """
    if ratio >= 1:
        return to_target(image, ratio)[0]
    size = [int(side / ratio) for side in image.shape[2:]]
    found: Tensor = nn.functional.interpolate(image, size=size, mode="bicubic", align_corners=False)
    return found


class Base(nn.Module):
    """What a network of several inputs adds its output to.

    Parameters
    ----------
    kind : {"none", "cube", "line"}
        Nothing; the cube's band of the same role, resampled; or a fitted line of all inputs.
    ratios : sequence of Fraction
        Pixels of each input per target pixel.
    bands : sequence of (channel, slope, offset) or None
        Per output the channel over all inputs that it is added to; None where there is none.
    channels : int
        Of all inputs.
    """

    def __init__(
        self,
        kind: str,
        ratios: Sequence[Fraction],
        bands: Sequence[tuple[int, float, float] | None],
        channels: int,
    ) -> None:
        super().__init__()
        self.kind, self.ratios, self.bands = kind, list(ratios), list(bands)
        self.line = Line(channels, len(self.bands)) if kind == "line" else None

    def forward(self, images: Sequence[Tensor]) -> Tensor | float:
        """Map the inputs to (n, output, y, x) of the target."""
        if self.line is not None:
            mapped: Tensor = self.line(area_means(images, self.ratios))
            return mapped
        if self.kind == "none":
            return 0.0
        whole = torch.cat([resampled(one, ratio) for one, ratio in zip(images, self.ratios)], 1)
        none = torch.zeros_like(whole[:, 0])
        return torch.stack(
            [none if one is None else whole[:, one[0]] * one[1] + one[2] for one in self.bands], 1
        )


class Line(nn.Module):
    """An affine map of channels, fitted before training and kept as it is: no parameter.

    Parameters
    ----------
    channels, outputs : int
        Channels that go in and come out.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.zeros(outputs, channels))
        self.register_buffer("offset", torch.zeros(outputs))
        self.matrix: Tensor
        self.offset: Tensor

    def forward(self, means: Tensor) -> Tensor:
        """Map (n, channel, y, x) to (n, output, y, x); autocast does not round it."""
        with torch.autocast(means.device.type, enabled=False):
            mapped = torch.einsum("oc,ncyx->noyx", self.matrix, means.to(self.matrix.dtype))
            return mapped + self.offset[:, None, None]


def exchange(network: nn.Module, make: Callable[[nn.Module], nn.Module | None]) -> None:
    """Replace, in place, every part for which `make` gives another one."""
    for name, part in network.named_children():
        made = make(part)
        if made is None:
            exchange(part, make)
        else:
            setattr(network, name, made)


def changes_by_two(part: nn.Module) -> bool:
    """Whether a layer is a convolution of pix2pix, or a transposed one: it halves or doubles."""
    if not isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)):
        return False
    shape = (part.kernel_size, part.stride, part.padding, part.output_padding, part.dilation)
    wanted = ((4, 4), (2, 2), (1, 1), (0, 0), (1, 1))
    return bool(shape == wanted and part.groups == 1 and part.padding_mode == "zeros")


def glorot_uniform(tensors: Mapping[str, Any], seed: int = 0) -> dict[str, AnyArray]:
    """Draw weights for the tensors of a network.

    Kernels and matrices are uniform over ``±sqrt(6 / (fan_in + fan_out))``; biases and running
    means are zero, scales and running variances of batch normalisation one.

    Parameters
    ----------
    tensors : mapping of str to tensor
        A ``state_dict``; only names, shapes and dtypes are read, so it may be on the meta device.
    seed : int
        Seed of the generator.

    Returns
    -------
    dict of str to array
        One array per tensor, in the same order, shape and dtype.

    References
    ----------
    Glorot, X. and Bengio, Y. (2010), Understanding the difficulty of training deep feedforward
    neural networks, AISTATS 9, 249-256.
    """
    random = np.random.default_rng(seed)
    return {name: _draw(name, tensor, random) for name, tensor in tensors.items()}


def _draw(name: str, tensor: Any, random: np.random.Generator) -> AnyArray:
    shape, dtype = tuple(tensor.shape), np.dtype(str(tensor.dtype).removeprefix("torch."))
    if len(shape) < 2:
        is_one = name.endswith(("weight", "running_var")) and dtype.kind == "f"
        return np.full(shape, is_one, dtype)
    # Kernels are (out, in, ...), transposed ones (in, out, ...): the sum is the same.
    bound = math.sqrt(6 / ((shape[0] + shape[1]) * math.prod(shape[2:])))
    return random.uniform(-bound, bound, shape).astype(dtype)


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
    if not isinstance(part, nn.Conv2d | nn.ConvTranspose2d) or not changes_by_two(part):
        return None
    if part.in_channels * part.out_channels < WIDE:
        return None
    if isinstance(part, nn.ConvTranspose2d):
        return ProductTransposed(part)
    return ProductConvolution(part)


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
    if isinstance(part, nn.ConvTranspose2d) and changes_by_two(part):
        return SubpixelConvolution(part)
    return None
