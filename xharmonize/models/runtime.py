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

from xharmonize.errors import ModelError
from xharmonize.models.cache import ModelCache
from xharmonize.models.card import Card
from xharmonize.models.network import Network, find_device, prepare
from xharmonize.models.pipeline import Batch, run
from xharmonize.models.refs import ModelRef, Runtime
from xharmonize.types import AnyArray

PIXELS = {"cpu": 16 * 128**2, "cuda": 64 * 128**2}
"""Output pixels run at once by default; 16 tiles of 128 x 128 fill a CPU's matrix products."""

TABLES = 256
"""Histograms run at once by default."""

CACHE: ModelCache[Network] = ModelCache()
"""The worker's networks."""


def predict(
    ref: ModelRef,
    card: Card,
    batches: Iterable[Batch],
    runtime: Runtime,
    *,
    method: str = "forward",
) -> Iterator[Any]:
    """Run a bundle's network over batches, in order.

    Parameters
    ----------
    ref : ModelRef
        The bundle; loaded once per worker, device and settings.
    card : Card
        Its card.
    batches : iterable of sequences of arrays
        Per batch one contiguous float32 array (n, channel, y, x) per input, in the order of the
        card, normalised and without NaN; for tables one (n, band, bin). All numpy, or all cupy on
        the current device. They are asked for one by one, on a GPU two before their results.
    runtime : Runtime
        Device, precision, layout.
    method : str
        Method of the network: ``"forward"``, or ``"refine"`` of a UNet-LUT.

    Yields
    ------
    (n, channel, y, x) or (n, band, knot) float32 array
        In units of the network, not yet of reflectance; cupy for cupy. On a GPU numpy results lie
        in pinned memory, which goes back to a pool when the array is dropped.

    Raises
    ------
    ModelError
        If the bundle cannot be loaded, its weights do not fit its card, the device is not there,
        or the batches do not fit the card.
    """
    network = load(ref, card, runtime)
    shapes: deque[tuple[int, ...]] = deque()

    def checked() -> Iterator[Batch]:
        for batch in batches:
            shapes.append(expected_shape(card, batch, method))
            yield batch

    for output in run(network, checked(), method=method):
        shape = shapes.popleft()
        if tuple(output.shape) != shape:
            raise ModelError(
                f"{card.architecture!r} gave {tuple(output.shape)} where the card of {card.name!r} "
                f"says {shape}; its bands, lattice or knots are not those of the network"
            )
        yield output


def load(ref: ModelRef, card: Card, runtime: Runtime) -> Network:
    """Return the worker's network of a bundle, loaded where it is not in the cache."""
    from xharmonize.models.bundle import read_weights

    device = find_device(runtime)
    # A card may differ from the bundle's (another tile): what a network is built from counts too.
    parts = (card.architecture, card.hyperparameters, card.inputs, card.output)
    network = repr((*parts, card.lattice, card.histograms))
    settings = (str(device), runtime.dtype, runtime.channels_last, runtime.compile)
    key = (ref.digest, network, *settings)
    return CACHE.get(
        key, lambda: prepare(card, read_weights(ref), runtime), lambda network: network.n_bytes
    )


def batch_size(card: Card, runtime: Runtime) -> int:
    """Return how many tiles, or histograms, are run at once.

    What `runtime` says, else `PIXELS` worth of tiles on the worker's device, or `TABLES`.
    """
    if runtime.batch_size is not None:
        return runtime.batch_size
    if card.lattice is None:
        return TABLES
    return max(1, PIXELS[find_device(runtime).type] // card.lattice.tile**2)


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


def expected_shape(card: Card, batch: Batch, method: str) -> tuple[int, ...]:
    """Return the shape of the answer to one batch.

    Raises
    ------
    ModelError
        If the batch does not fit the card.
    """
    shapes = [tuple(array.shape) for array in batch]
    if card.histograms is not None:
        inner = (
            (len(card.output.bands), *shapes[0][2:])
            if method == "refine"
            else (len(card.histograms.bands), card.histograms.bins)
        )
        if len(shapes) != 1 or shapes[0][1:] != inner:
            wanted = ", ".join(map(str, inner))
            raise ModelError(f"{card.name!r} takes one batch of (n, {wanted}), not {shapes}")
        last = shapes[0][2:] if method == "refine" else (card.histograms.knots,)
        return (shapes[0][0], len(card.output.bands), *last)
    if card.lattice is None or [shape[1] for shape in shapes] != [
        len(source.bands) for source in card.inputs
    ]:
        raise ModelError(
            f"{card.name!r} takes {[len(source.bands) for source in card.inputs]} channels; the "
            f"batch has shapes {shapes}"
        )
    ratios = [card.lattice.cells(source.gsd) for source in card.inputs]
    sides = {tuple(side / ratio for side in shape[2:]) for shape, ratio in zip(shapes, ratios)}
    if len(sides) != 1 or any(side.denominator != 1 for side in min(sides)):
        raise ModelError(f"inputs of {card.name!r} do not cover one window: shapes {shapes}")
    height, width = map(int, min(sides))
    return (shapes[0][0], len(card.output.bands), height, width)


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
