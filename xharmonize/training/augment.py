"""Differentiable augmentation: what a discriminator sees, varied per sample.

The same change is made to the target and to what was predicted for it, and it is drawn from the
sample's key (`models.nets.draws`): whichever samples stand beside it, on whichever rank.

References
----------
Zhao, S. et al. (2020), Differentiable augmentation for data-efficient GAN training, NeurIPS,
arXiv:2006.10738: policies and ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from xharmonize.models.nets.draws import keys_of, uniform

Policy: TypeAlias = Literal["color", "translation", "cutout"]
SHIFT = 1 / 8
"""Largest translation, of the image's side."""
CUT = 1 / 2
"""Side of the square that is cut out, of the image's side."""


def augment(images: Tensor, keys: Tensor, policies: Sequence[Policy]) -> Tensor:
    """Vary images, with gradients.

    Parameters
    ----------
    images : (n, band, y, x) tensor
        Target or predicted images, in the units of the output.
    keys : (n,) int64 tensor
        As from `models.nets.draws.keys_of`: the same key gives the same change.
    policies : sequence of {"color", "translation", "cutout"}
        Applied in this order.

    Returns
    -------
    (n, band, y, x) tensor
        Zero where a translation or a cut leaves nothing.
    """
    for number, policy in enumerate(policies):
        images = POLICIES[policy](images, keys_of(keys, number))
    return images


def _color(images: Tensor, keys: Tensor) -> Tensor:
    """Brightness by ±0.5; saturation, about the bands' mean, × 0 to 2; contrast × 0.5 to 1.5."""
    drawn = uniform(keys, (3, 1, 1, 1)).to(images.dtype)
    images = images + drawn[:, 0] - 0.5
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * (2 * drawn[:, 1]) + grey
    level = images.mean((1, 2, 3), keepdim=True)
    return (images - level) * (drawn[:, 2] + 0.5) + level


def _places(keys: Tensor, n: Tensor) -> Tensor:
    """Draw a whole number below each of these: (n, axis) int64."""
    return (uniform(keys, (len(n),)) * n).long()


def _translation(images: Tensor, keys: Tensor) -> Tensor:
    """Move by up to an eighth of the side, with zeros behind."""
    sides = torch.tensor(images.shape[2:], device=images.device)
    reach = (sides * SHIFT + 0.5).long()
    y, x = (_places(keys, 2 * reach + 1) - reach).unbind(1)
    rows = torch.arange(images.shape[2], device=images.device) + y[:, None]
    columns = torch.arange(images.shape[3], device=images.device) + x[:, None]
    # One row and column of zeros around: where what is shown lies outside.
    padded = functional.pad(images, (1, 1, 1, 1))
    rows = (rows + 1).clamp(0, images.shape[2] + 1)[:, :, None]
    columns = (columns + 1).clamp(0, images.shape[3] + 1)[:, None]
    sample = torch.arange(len(images), device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[sample, rows, columns].permute(0, 3, 1, 2)


def _cutout(images: Tensor, keys: Tensor) -> Tensor:
    """Set a square of half the side to zero; it may reach beyond the edges."""
    sides = torch.tensor(images.shape[2:], device=images.device)
    cut = (sides * CUT + 0.5).long()
    first = _places(keys, sides + 1 - cut % 2) - cut // 2
    is_cut = []
    for axis in range(2):
        places = torch.arange(images.shape[2 + axis], device=images.device)
        start = first[:, axis, None]
        is_cut.append((places >= start) & (places < start + cut[axis]))
    return images * ~(is_cut[0][:, None, :, None] & is_cut[1][:, None, None, :])


POLICIES: dict[Policy, Callable[[Tensor, Tensor], Tensor]] = {
    "color": _color,
    "translation": _translation,
    "cutout": _cutout,
}
"""Functions of images and keys, by name."""
