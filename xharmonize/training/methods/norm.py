"""Batch normalisation over all ranks: by itself each has the statistics of its own samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from xharmonize.models.nets.layers import exchange
from xharmonize.training.ranks import Ranks


class RanksBatchNorm(_BatchNorm):
    """What a batch normalisation does to the union of the ranks' batches, which are of one size.

    Parameters
    ----------
    layer : BatchNorm1d or BatchNorm2d
        The layer whose weights and statistics are taken over, under the same names.
    ranks : Ranks
        The processes that train together.
    """

    def __init__(self, layer: _BatchNorm, ranks: Ranks) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum)
        self.ranks = ranks
        self.load_state_dict(layer.state_dict())

    def _check_input_dim(self, input: Tensor) -> None:
        """Any image or signal."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (n, channel, ...) to the same shape."""
        if not self.training:
            return super().forward(input)
        axes = [0, *range(2, input.dim())]
        shape = [1, -1, *[1] * (input.dim() - 2)]
        mean = self.ranks.mean(input.mean(axes))
        centred = input - mean.view(shape)
        variance = self.ranks.mean(centred.square().mean(axes))
        self._follow(mean, variance, self.ranks.size * input.numel() // input.shape[1])
        scaled = centred * (variance + self.eps).rsqrt().view(shape)
        return scaled * self.weight.view(shape) + self.bias.view(shape)

    def _follow(self, mean: Tensor, variance: Tensor, n: int) -> None:
        """Move the running statistics, of which the variance is that of a sample of `n`."""
        if (
            self.running_mean is None
            or self.running_var is None
            or self.num_batches_tracked is None
        ):
            return
        share = 0.1 if self.momentum is None else self.momentum
        with torch.no_grad():
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance * (n / max(1, n - 1)), share)
            self.num_batches_tracked += 1


def over_ranks(network: nn.Module, ranks: Ranks) -> nn.Module:
    """Return the network with its batch normalisations over all ranks; changed in place."""
    if ranks.size > 1:
        exchange(
            network,
            lambda part: RanksBatchNorm(part, ranks) if isinstance(part, _BatchNorm) else None,
        )
    return network
