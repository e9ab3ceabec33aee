"""The U-Net of MGAN at full width beside a large matrix product: GFLOP/s and their ratio.

Products are counted from the shapes of convolutions and transposed convolutions, two operations
each, those with padding included, as is usual; everything else counts as nothing. The matrix
product (``torch.mm`` in float32) takes turns with the network, on the same threads. With
``--one-thread`` both run as on a thread of Dask's, and processor time is measured, which other
programs disturb less. As an asv suite, or alone:
``python benchmarks/network.py [--small] [--one-thread]``.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from xharmonize.models import GeneratorCard, Input, Lattice, Output, Runtime
from xharmonize.models.architectures import build_empty, seeded
from xharmonize.models.runtime import compare_precision, prepare, run

OLI = ("blue", "green", "red", "nir08", "swir16", "swir22")
CASES: dict[str, tuple[Runtime, int]] = {
    "NCHW, batch 1": (Runtime(channels_last=False), 1),
    "NCHW, batch 16": (Runtime(channels_last=False), 16),
    "channels last, batch 1": (Runtime(), 1),
    "channels last, batch 4": (Runtime(), 4),
    "channels last, batch 16": (Runtime(), 16),
    "bfloat16, batch 16": (Runtime(dtype="bfloat16"), 16),
}


def make_card(*, tile: int = 128, buffer: int = 32, **hyperparameters: Any) -> GeneratorCard:
    """The generator of MGAN: 10 m and 20 m bands of Sentinel-2 to Landsat's at 30 m."""
    fine, coarse = ("blue", "green", "red", "nir"), ("swir16", "swir22")
    return GeneratorCard(
        name="mgan-seeded",
        title="MGAN with seeded weights",
        description="For measurements only: it has not been trained.",
        architecture="mgan-unet",
        hyperparameters=hyperparameters,
        source_bandpass="msi",
        target_bandpass="oli",
        inputs=(
            Input(name="10m", bands=fine, gsd=10.0, mean=(0.15,) * 4, scale=(0.5,) * 4),
            Input(name="20m", bands=coarse, gsd=20.0, mean=(0.15,) * 2, scale=(0.5,) * 2),
        ),
        output=Output(bands=OLI, mean=(0.15,) * 6, scale=(0.5,) * 6),
        lattice=Lattice(resolution=30.0, tile=tile, buffer=buffer),
    )


def make_batch(card: GeneratorCard, n: int) -> list[np.ndarray]:
    """One float32 array (n, channel, y, x) per input."""
    random = np.random.default_rng(0)
    sides = [int(card.lattice.tile * card.lattice.cells(one.gsd)) for one in card.inputs]
    shapes = [(n, len(one.bands), side, side) for one, side in zip(card.inputs, sides)]
    return [random.standard_normal(shape, np.float32) for shape in shapes]


def flops_per_tile(card: GeneratorCard) -> int:
    """Operations of the network for one tile of the card's lattice; computes nothing."""
    counted = []

    def count(module: Any, inputs: Any, output: torch.Tensor) -> None:
        # A kernel's products per pixel of the side where it is applied whole.
        pixels = inputs[0] if module.transposed else output
        per_pixel = math.prod(module.weight.shape[1:])
        counted.append(2 * pixels.numel() * per_pixel)

    network = build_empty(card).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.modules.conv._ConvNd):
            module.register_forward_hook(count)
    network(*(torch.empty(array.shape, device="meta") for array in make_batch(card, 1)))
    return sum(counted)


def make_product(side: int, dtype: torch.dtype = torch.float32) -> Callable[[], Any]:
    """Return a product of two matrices (side, side): ``2 side**3`` operations."""
    first, second = torch.randn(2, side, side, dtype=dtype)
    return lambda: torch.mm(first, second)


def rate(
    function: Callable[[], Any], flops: float, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return operations per second of one call."""
    start = clock()
    function()
    return flops / (clock() - start)


def measure(
    card: GeneratorCard, side: int, n_runs: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median rate of the product and of each case [operations/s], taking turns."""
    per_tile, weights = flops_per_tile(card), seeded(card)
    functions: dict[str, tuple[Callable[[], Any], float]] = {
        "sgemm": (make_product(side), 2.0 * side**3)
    }
    for name, (runtime, n) in CASES.items():
        network, batch = prepare(card, weights, runtime), make_batch(card, n)
        functions[name] = (
            lambda network=network, batch=batch: next(run(network, [batch])),
            per_tile * n,
        )
    found: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(n_runs + 1):
        for name, (function, flops) in functions.items():
            value = rate(function, flops, clock)
            if turn:  # the first one lays out weights and takes memory
                found[name].append(value)
    return {name: statistics.median(values) for name, values in found.items()}


class Inference:
    """asv: one batch at full width."""

    params = tuple(CASES)
    param_names = ("case",)

    def setup(self, case: str) -> None:
        card = make_card()
        runtime, n = CASES[case]
        self.network, self.batch = prepare(card, seeded(card), runtime), make_batch(card, n)
        self.time_batch(case)

    def time_batch(self, case: str) -> None:
        next(run(self.network, [self.batch]))


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Print rates and ratios, and return the rates."""
    argv = sys.argv[1:] if argv is None else argv
    is_small, is_alone = "--small" in argv, "--one-thread" in argv
    if is_alone:
        torch.set_num_threads(1)
    clock = time.thread_time if is_alone else time.perf_counter
    sizes = {"tile": 32, "buffer": 8, "width": 4, "depth": 4} if is_small else {}
    side, n_runs = (256, 1) if is_small else (3072, 5)
    card = make_card(**sizes)
    rates = measure(card, side, n_runs, clock)
    print(
        f"{card.architecture}, {flops_per_tile(card) / 1e9:.2f} GFLOP per tile of "
        f"{card.lattice.tile}², {torch.get_num_threads()} threads"
    )
    for name, value in rates.items():
        print(f"  {name:<24} {value / 1e9:8.1f} GFLOP/s   {value / rates['sgemm']:5.2f} × sgemm")
    wrong = compare_precision(card, seeded(card), [make_batch(card, 2)], Runtime(device="cpu"))
    print(
        f"  bfloat16 beside float32, reflectance: largest difference {max(wrong.largest):.1e}, "
        f"RMSE {max(wrong.rmse):.1e} (worst band)"
    )
    return rates


if __name__ == "__main__":
    main()
