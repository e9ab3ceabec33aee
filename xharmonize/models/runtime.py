"""Networks on a worker: loaded once, run over batches, on its CPU or its GPU.

Imported inside block functions only: this module loads torch.

On a GPU one device serves a worker, the current one. Batches go through pinned memory on streams of
their own, so that the upload of the next ones and the download of the last ones run while a batch
is computed; cupy blocks stay on the device and are passed on without a copy.

``float32`` means float32: TF32 is off. cudnn is kept to deterministic algorithms, chosen without
timing them, so that a run can be repeated; batches of another size may still add in another order,
which is rounding.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xharmonize._cache import Cache
from xharmonize.errors import ModelError
from xharmonize.models.card import Call, Card
from xharmonize.models.network import Network, find_device, prepare
from xharmonize.models.pipeline import Batch, run
from xharmonize.models.refs import ModelRef, Runtime
from xharmonize.types import AnyArray

CACHE: Cache[Network] = Cache(max_entries=8, max_bytes=8 << 30)
"""The worker's networks."""


def predict(
    ref: ModelRef,
    card: Card,
    batches: Iterable[Batch],
    runtime: Runtime,
    *,
    call: Call | None = None,
) -> Iterator[Any]:
    """Run a bundle's network over batches, in order.

    Parameters
    ----------
    ref : ModelRef
        The bundle; loaded once per worker, device and settings.
    card : Card
        Its card.
    batches : iterable of sequences of arrays
        Per batch one contiguous float32 array (n, …) per input, as the kind of the card says,
        normalised and without NaN. All numpy, or all cupy on the current device. They are asked
        for one by one, on a GPU two before their results.
    runtime : Runtime
        Device, precision, layout.
    call : Call, optional
        What the network is to do, one of its kind's (`LutCard.refine`); by default its `forward`.

    Yields
    ------
    (n, …) float32 array
        In units of the network, not yet of reflectance; cupy for cupy. On a GPU numpy results lie
        in pinned memory, which goes back to a pool when the array is dropped.

    Raises
    ------
    ModelError
        If the bundle cannot be loaded, its weights do not fit its card, the device is not there,
        or the batches do not fit the card.
    """
    network, asked = load(ref, card, runtime), call or card.forward
    shapes: deque[tuple[int, ...]] = deque()

    def checked() -> Iterator[Batch]:
        for batch in batches:
            shapes.append(asked.answer(card, [tuple(array.shape) for array in batch]))
            yield batch

    for output in run(network, checked(), method=asked.method):
        shape = shapes.popleft()
        if tuple(output.shape) != shape:
            raise ModelError(
                f"{card.architecture!r} gave {tuple(output.shape)} where the card of {card.name!r} "
                f"says {shape}; give the card that the network was trained with"
            )
        yield output


def load(ref: ModelRef, card: Card, runtime: Runtime) -> Network:
    """Return the worker's network of a bundle, loaded where it is not in the cache."""
    from xharmonize.models.bundle import read_weights

    device = find_device(runtime)
    # A card may differ from the bundle's (another tile): what a network is built from counts too.
    settings = (str(device), runtime.dtype, runtime.channels_last, runtime.compile)
    key = (ref.digest, repr(card.network), *settings)
    return CACHE.get(
        key, lambda: prepare(card, read_weights(ref), runtime), lambda network: network.n_bytes
    )


def batch_size(card: Card, runtime: Runtime) -> int:
    """Return how many samples are run at once: what `runtime` says, else what suits the kind."""
    return runtime.batch_size or card.n_at_once(find_device(runtime).type)


def free() -> None:
    """Forget the worker's networks and give back the memory that torch keeps on its GPU."""
    import torch

    CACHE.clear()
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        if hasattr(torch.accelerator, "empty_host_cache"):
            torch.accelerator.empty_host_cache()


@dataclass(frozen=True, kw_only=True)
class PrecisionDifference:
    """How far bfloat16 is from float32, per output band, in reflectance [1].

    Attributes
    ----------
    bands : tuple of str
        Output bands.
    largest : tuple of float
        Largest absolute difference.
    rmse : tuple of float
        Root of the mean squared difference.
    """

    bands: tuple[str, ...]
    largest: tuple[float, ...]
    rmse: tuple[float, ...]


def compare_precision(
    card: Card, weights: Mapping[str, AnyArray], batches: Iterable[Batch], runtime: Runtime
) -> PrecisionDifference:
    """Run a network in bfloat16 and in float32 and return the difference.

    Parameters
    ----------
    card : Card
        The model's card.
    weights : mapping of str to array
        Its weights.
    batches : iterable of sequences of arrays
        As for `predict`.
    runtime : Runtime
        Device and layout; its dtype is left out of account.
    """
    contestants = (
        prepare(card, weights, replace(runtime, dtype="bfloat16")),
        prepare(card, weights, replace(runtime, dtype="float32")),
    )
    scale = np.array(card.output.scale)
    largest, squares, count = np.zeros(len(scale)), np.zeros(len(scale)), 0
    for batch in batches:
        half, full = (np.asarray(next(run(network, [batch]))) for network in contestants)
        difference = np.moveaxis(half.astype(float) - full, 1, 0).reshape(len(scale), -1)
        largest = np.maximum(largest, np.abs(difference).max(1) * scale)
        squares += (difference**2).sum(1) * scale**2
        count += difference.shape[1]
    return PrecisionDifference(
        bands=card.output.bands,
        largest=tuple(largest.tolist()),
        rmse=tuple(np.sqrt(squares / max(count, 1)).tolist()),
    )
