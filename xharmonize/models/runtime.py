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
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from xharmonize.errors import ModelError
from xharmonize.models.cache import ModelCache
from xharmonize.models.card import Card
from xharmonize.models.network import Network, find_device, prepare
from xharmonize.models.pipeline import Batch, run
from xharmonize.models.refs import ModelRef, Runtime

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
    key = (ref.digest, str(device), runtime.dtype, runtime.channels_last, runtime.compile)
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
            raise ModelError(f"{card.name!r} takes one batch of (n, *{inner}), not {shapes}")
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
