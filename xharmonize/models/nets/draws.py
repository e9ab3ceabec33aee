"""Random numbers of a sample: functions of its key, not of the batch or the process it is in.

Augmentation, noise and dropout are drawn per sample, so that training gives the same whatever
samples stand together in a batch, and on whichever rank they are. A generator with a state cannot
do that; here the numbers are hashes of (key, position). Integer arithmetic makes them the same on
every device.

References
----------
Salmon, J. K. et al. (2011), Parallel random numbers: as easy as 1, 2, 3, SC11,
doi:10.1145/2063384.2063405: the idea. The mixing of 32 bits is that of "lowbias32", by C.
Wellons (2018), public domain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_BITS = 0xFFFFFFFF
_STEP = 0x9E3779B9  # 2**32 over the golden ratio: numbers that follow each other fall far apart


def _mixed(values: Tensor) -> Tensor:
    """Scramble 32 bits, held in int64; products wrap around, and only their low bits are kept."""
    values = values & _BITS
    values = ((values ^ (values >> 16)) * 0x7FEB352D) & _BITS
    values = ((values ^ (values >> 15)) * 0x846CA68B) & _BITS
    return values ^ (values >> 16)


def keys_of(index: Tensor, *parts: int) -> Tensor:
    """Make a key per sample, which differs as soon as one of these numbers does.

    Parameters
    ----------
    index : (n,) int64 tensor
        Numbers of the samples.
    *parts : int
        What else the numbers depend on: seed, epoch, purpose.

    Returns
    -------
    (n,) int64 tensor
        From 0 to 2**32 - 1.
    """
    keys = torch.zeros_like(index)
    told: tuple[Tensor | int, ...] = (index >> 32, index, *parts)
    for part in told:
        keys = _mixed((keys ^ part) + _STEP)
    return keys


def uniform(keys: Tensor, shape: Sequence[int] = ()) -> Tensor:
    """Draw uniform numbers in [0, 1), of 24 bits.

    Parameters
    ----------
    keys : (n,) int64 tensor
        As from `keys_of`.
    shape : sequence of int
        Of the numbers of one sample.

    Returns
    -------
    (n, *shape) float32 tensor
    """
    places = torch.arange(math.prod(shape), device=keys.device)
    keys = keys[:, None]
    drawn = _mixed(_mixed(places ^ keys) + _mixed(keys + _STEP))
    return ((drawn >> 8).to(torch.float32) * 2.0**-24).view(-1, *shape)


def normal(keys: Tensor, shape: Sequence[int] = ()) -> Tensor:
    """Draw standard normal numbers (n, *shape), float32, by the transform of Box and Muller."""
    radius, angle = uniform(keys, (2, *shape)).unbind(1)
    return torch.sqrt(-2 * torch.log1p(-radius)) * torch.cos(2 * math.pi * angle)


class SampleDropout(nn.Module):
    """Dropout that is a function of the samples' keys; see `set_keys`.

    Parameters
    ----------
    share : float
        Share of values set to zero in training; the others are divided by ``1 - share``.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.keys: Tensor | None = None

    def forward(self, image: Tensor) -> Tensor:
        """Map (n, ...) to the same shape; without keys, dropout is torch's own."""
        if self.keys is None or not self.training or not self.share:
            return nn.functional.dropout(image, self.share, self.training)
        is_kept = uniform(self.keys, image.shape[1:]) >= self.share
        return image * is_kept / (1 - self.share)


def set_keys(network: nn.Module, keys: Tensor | None) -> None:
    """Tell every `SampleDropout` of a network, in place, which samples come next."""
    parts = [part for part in network.modules() if isinstance(part, SampleDropout)]
    for number, part in enumerate(parts):
        part.keys = None if keys is None else keys_of(keys, number)
