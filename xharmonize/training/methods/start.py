"""What methods begin with: weights, optimisers, and how far patches let a network go."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from xharmonize.errors import ModelError, OptionError
from xharmonize.models.architectures import build, seeded
from xharmonize.models.kinds import LutCard
from xharmonize.training.methods.norm import over_ranks
from xharmonize.training.protocol import Line, Setup
from xharmonize.types import AnyArray, Float64Array


def halvings(side: int, most: int, *, least: int = 2) -> int:
    """How often a side can be halved exactly, `most` times at most.

    Raises
    ------
    ModelError
        If it is fewer than `least`.
    """
    times = min(most, (side & -side).bit_length() - 1)
    if times < least:
        raise ModelError(
            f"patches of {side} target pixels cannot be halved {least} times",
            cure="give Data(patch=...) a multiple of a power of two, such as 32",
        )
    return times


def initial_weights(setup: Setup, last: Iterable[str]) -> dict[str, AnyArray]:
    """Weights of a network that begins at its line.

    Parameters
    ----------
    setup : Setup
        Card, line and seed.
    last : iterable of str
        Weights of the last layer: they begin at zero where the network is added to a line, or to
        the cube.

    Returns
    -------
    dict of str to array
        Glorot-uniform, but for the line and the last layer.
    """
    weights = seeded(setup.card, setup.seed)
    base = setup.card.hyperparameters.get("base")
    if base not in ("line", "cube"):
        return weights
    for name in last:
        weights[name][:] = 0
    if base == "cube":
        return weights
    if isinstance(setup.card, LutCard):
        weights["line"][:] = line_of_tables(setup.band_lines, setup.card)
    else:
        matrix, offset = setup.line.normalised(setup.card)
        own = "base.line" if "base.line.matrix" in weights else "line"
        weights[f"{own}.matrix"][:], weights[f"{own}.offset"][:] = matrix, offset
    return weights


def line_of_tables(lines: Line, card: LutCard) -> Float64Array:
    """Rise over the histograms' range and value at its start, per table, in the output's units.

    Returns
    -------
    (band, 2) float64 array
        A table is ``rise * (x - low) / (high - low) + start``.
    """
    columns = [lines.source_bands.index(band) for band in card.histograms.bands]
    rows = [lines.bands.index(band) for band in card.output.bands]
    slope, offset = lines.matrix[rows, columns], lines.offset[rows]
    low, high = np.array(card.histograms.low), np.array(card.histograms.high)
    mean, scale = np.array(card.output.mean), np.array(card.output.scale)
    return np.stack([slope * (high - low) / scale, (slope * low + offset - mean) / scale], 1)


def in_parts(run: Callable[..., Any], n: int, *tensors: Tensor) -> Any:
    """Run a network on a batch a part at a time, keeping nothing but what it returns.

    Each part is computed once more in the backward pass, when its gradients are needed, so that
    losses are those of the whole batch: means over dates and pixels are not those of parts.

    Parameters
    ----------
    run : callable
        Takes parts of the tensors; returns a tensor or a tuple of them, all by sample.
    n : int
        How many parts; 1 runs it once and keeps all.
    *tensors : (n, ...) tensor
    """
    if n == 1 or not torch.is_grad_enabled():
        return run(*tensors)
    parts = [
        checkpoint(run, *part, use_reentrant=False) for part in zip(*(t.chunk(n) for t in tensors))
    ]
    if isinstance(parts[0], tuple):
        return tuple(torch.cat(one) for one in zip(*parts))
    return torch.cat(parts)


def require_parts(network: nn.Module, setup: Setup) -> None:
    """Raise `OptionError` where a network cannot be computed in parts."""
    norms = [name for name, part in network.named_modules() if isinstance(part, _BatchNorm)]
    if setup.accumulate > 1 and norms:
        raise OptionError(
            f"asks for parts of a batch, and {setup.config.name!r} has batch normalisation "
            f"({norms[0]}), which is over the whole",
            argument="accumulate",
            value=setup.accumulate,
            cure="leave Run(accumulate=...) out, and take a smaller batch or more ranks",
        )


def make_generator(setup: Setup, weights: dict[str, AnyArray]) -> nn.Module:
    """Build the network of the card on the device, ready to be trained."""
    network: nn.Module = build(setup.card, weights)
    require_parts(network, setup)
    return over_ranks(network, setup.ranks).to(setup.device).train()


def adam(parameters: Iterable[Tensor], config: Any, setup: Setup) -> torch.optim.Adam:
    """Make an Adam with the method's learning rate, decay and first moment."""
    rate = config.learning_rate
    if getattr(config, "scale_learning_rate", False):
        rate *= setup.ranks.size
    betas = (getattr(config, "beta1", 0.9), 0.999)
    return torch.optim.Adam(parameters, rate, betas, weight_decay=config.weight_decay)
