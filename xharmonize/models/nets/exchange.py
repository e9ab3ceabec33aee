"""Layers of a network put in the place of others that give the same."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


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
