"""Weights to begin with, drawn by numpy so that a seed means the same on every machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from xharmonize.types import AnyArray


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
