"""Networks of sharpening at their printed sizes: beside a matrix product, and mapped over cubes.

``python benchmarks/fusion_networks.py [--small]`` prints, for `esrcnn` and `dstfn` with a coarse
and a fine cube and tiles of 96 pixels of 10 m: GFLOP a tile, GFLOP/s of the bare network beside
`torch.mm` in the same run, and tiles per second of the lazy path beside the bare network. Ways take
turns; medians of five.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import torch
from network import flops_per_tile, make_batch, make_product
from training_speed import COARSE_AND_FINE, OLI, Case
from training_speed import make_card as card_of

import xharmonize as xh
from xharmonize.models import Runtime
from xharmonize.models.architectures import seeded
from xharmonize.models.bundle import write_bundle
from xharmonize.models.runtime import batch_size, prepare, run
from xharmonize.testing import example_cube
from xharmonize.training import config as configs

PRODUCT = 2048
SIZES: dict[str, Any] = {
    "esrcnn, 64-32": configs.Esrcnn.printed(),
    "dstfn, width 64, growth 32": configs.Dstfn.printed(),
}


def make_card(config: Any, side: int) -> Any:
    """The card of a network that takes 30 m and 10 m."""
    inputs = COARSE_AND_FINE[:2]
    card = card_of(Case(config=config, side=side, batch=1, inputs=inputs, resolution=10.0))
    return replace(card, source_bandpass="oli", target_bandpass="msi")


def make_cubes(card: Any, cores: int) -> tuple[Any, Any]:
    """Two cubes of whole tiles, in four chunks; one pixel in twenty is missing."""
    stride = card.lattice.tile - 2 * card.lattice.buffer
    side = cores * stride
    corner = tuple(round(edge / (stride * 10)) * stride * 10.0 for edge in (500_000, 5_600_000))
    given = {"bands": OLI, "dates": ["2018-07-01"], "origin": corner, "missing": 0.05}
    coarse = example_cube(
        "landsat-c2-l2", platform="landsat-8", shape=(side // 3,) * 2, resolution=30, **given
    )
    fine = example_cube(shape=(side, side), resolution=10, **given)
    return (coarse.chunk(y=side // 6, x=side // 6), fine.chunk(y=side // 2, x=side // 2))


def measure(config: Any, folder: Path, *, side: int, cores: int, n_runs: int) -> dict[str, float]:
    """Median tiles per second, bare and mapped, and products per second."""
    card = make_card(config, side)
    weights = seeded(card)
    write_bundle(folder / "bundle", card, weights)
    coarse, fine = make_cubes(card, cores)
    result = xh.load_model(folder / "bundle")(coarse, fine=fine)
    network, n = prepare(card, weights, Runtime()), min(batch_size(card, Runtime()), cores**2)
    batches = [make_batch(card, n)] * max(1, cores**2 // n)
    product = make_product(PRODUCT)

    def bare() -> None:
        for _ in run(network, batches):
            pass

    def mapped() -> None:
        with dask.config.set(scheduler="threads"):
            result.compute()

    ways: dict[str, tuple[Callable[[], Any], float]] = {
        "bare": (bare, len(batches) * n),
        "mapped": (mapped, cores**2),
        "sgemm": (product, 1.0),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(n_runs + 1):
        for name, (function, count) in ways.items():
            start = time.perf_counter()
            function()
            if turn:
                found[name].append(count / (time.perf_counter() - start))
    rates = {name: statistics.median(values) for name, values in found.items()}
    return rates | {"flops": float(flops_per_tile(card))}


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    """Print rates and ratios, and return the rates."""
    is_small = "--small" in (sys.argv[1:] if argv is None else argv)
    side, cores, n_runs = (24, 2, 1) if is_small else (96, 4, 5)
    results = {}
    print(f"{torch.get_num_threads()} threads")
    for name, config in SIZES.items():
        if is_small:
            config = configs.Esrcnn() if name.startswith("esrcnn") else configs.Dstfn(width=8)
        with tempfile.TemporaryDirectory() as folder:
            rates = measure(config, Path(folder), side=side, cores=cores, n_runs=n_runs)
        gflops, sgemm = rates["bare"] * rates["flops"] / 1e9, rates["sgemm"] * 2 * PRODUCT**3 / 1e9
        print(
            f"{name}: {rates['flops'] / 1e9:.2f} GFLOP a tile, {gflops:.0f} GFLOP/s bare, "
            f"{gflops / sgemm:.2f} × sgemm ({sgemm:.0f}); mapped {rates['mapped']:.2f} tiles/s, "
            f"{rates['mapped'] / rates['bare']:.2f} × bare"
        )
        results[name] = rates
    return results


if __name__ == "__main__":
    main()
