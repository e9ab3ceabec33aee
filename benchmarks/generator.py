"""A generator mapped lazily over a cube beside its bare network, in tiles per second.

The mapped path cuts and fills tiles, normalises them, runs them in batches, and puts the result
together; overlap of tiles counts as work, as it does for the bare network, which is given batches
of the same size over and over, on the main thread with all of torch's threads. One pixel in twenty
is missing. Blocks run on dask's threads, one torch thread each, or one after another on the main
thread (``synchronous``).

As an asv suite, or alone: ``python benchmarks/generator.py [--small]``.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import dask
import torch
import xarray as xr

sys.path.insert(0, str(Path(__file__).parent))
from network import flops_per_tile, make_batch, make_card

import xharmonize as xh
from xharmonize.models import Runtime
from xharmonize.models.architectures import seeded
from xharmonize.models.bundle import write_bundle
from xharmonize.models.runtime import batch_size, prepare, run
from xharmonize.testing import example_cube

BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")
SCHEDULERS = ("threads", "synchronous")


class Case(NamedTuple):
    """A network, its tile and how many cores of tiles the cube has a side."""

    architecture: str
    tile: int
    buffer: int
    cores: int
    sizes: tuple[tuple[str, int], ...] = ()


CASES = {
    "MGAN, tile 128": Case(architecture="mgan-unet", tile=128, buffer=32, cores=8),
    "MGAN, tile 256, same buffer": Case(architecture="mgan-unet", tile=256, buffer=32, cores=4),
    "small network, tile 128": Case(architecture="small-conv", tile=128, buffer=4, cores=8),
}


def card_of(case: Case) -> Any:
    card = make_card(tile=case.tile, buffer=case.buffer, **dict(case.sizes))
    return replace(card, architecture=case.architecture)


def make_cube(case: Case) -> xr.DataArray:
    """One date, in four chunks, of whole tiles; one pixel in twenty is missing."""
    stride = case.tile - 2 * case.buffer
    side = case.cores * stride * 3
    # A corner of tiles whatever their stride: a multiple of it.
    corner = tuple(round(edge / (stride * 30)) * stride * 30.0 for edge in (500_000, 5_600_000))
    cube = example_cube(
        bands=BANDS, dates=["2018-07-01"], shape=(side, side), origin=corner, missing=0.05
    )
    held = cube.values
    held[:, 4:] = held[:, 4:, ::2, ::2].repeat(2, 2).repeat(2, 3)
    cube = cube.copy(data=held)
    half = stride * 3 * max(1, case.cores // 2)
    return cube.chunk(y=half, x=half)


def measure(case: Case, folder: Path, n_runs: int) -> dict[str, float]:
    """Median tiles per second, bare and mapped by each scheduler, taking turns."""
    card = card_of(case)
    weights = seeded(card)
    write_bundle(folder / "bundle", card, weights)
    result = make_cube(case).harmonize.to_landsat(xh.load_model(folder / "bundle"))
    network, n = prepare(card, weights, Runtime()), batch_size(card, Runtime())
    n_tiles = case.cores**2
    n = min(n, n_tiles)
    batches = [make_batch(card, n)] * max(1, n_tiles // n)

    def bare() -> None:
        for _ in run(network, batches):
            pass

    def mapped(scheduler: str) -> None:
        with dask.config.set(scheduler=scheduler):
            result.compute()

    functions: dict[str, tuple[Callable[[], None], int]] = {"bare": (bare, len(batches) * n)}
    for name in SCHEDULERS:
        functions[name] = (lambda name=name: mapped(name), n_tiles)
    found: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(n_runs + 1):
        for name, (function, count) in functions.items():
            start = time.perf_counter()
            function()
            if turn:  # the first one loads, compiles and takes memory
                found[name].append(count / (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in found.items()}


class Mapping:
    """asv: one cube through the whole path."""

    params = (tuple(CASES), SCHEDULERS)
    param_names = ("case", "scheduler")

    def setup(self, case: str, scheduler: str) -> None:
        self.folder = tempfile.TemporaryDirectory()
        card = card_of(CASES[case])
        write_bundle(Path(self.folder.name) / "bundle", card, seeded(card))
        model = xh.load_model(Path(self.folder.name) / "bundle")
        self.result = make_cube(CASES[case]).harmonize.to_landsat(model)
        self.time_mapping(case, scheduler)

    def teardown(self, case: str, scheduler: str) -> None:
        self.folder.cleanup()

    def time_mapping(self, case: str, scheduler: str) -> None:
        self.result.compute(scheduler=scheduler)


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    """Print rates and ratios of all cases, and return the rates."""
    is_small = "--small" in (sys.argv[1:] if argv is None else argv)
    results = {}
    print(f"{torch.get_num_threads()} threads")
    for name, case in CASES.items():
        if is_small:
            sizes = (("width", 4), ("depth", 3))
            buffer = max(case.buffer // 8, 2)
            case = case._replace(tile=case.tile // 8, buffer=buffer, cores=2, sizes=sizes)
        with tempfile.TemporaryDirectory() as folder:
            rates = measure(case, Path(folder), 1 if is_small else 5)
        each = flops_per_tile(card_of(case)) / 1e9
        print(f"{name}: {each:.2f} GFLOP a tile")
        for way, rate in rates.items():
            ratio = rate / rates["bare"]
            print(
                f"  {way:<12} {rate:8.2f} tiles/s {rate * each:8.1f} GFLOP/s  {ratio:5.2f} × bare"
            )
        results[name] = rates
    return results


if __name__ == "__main__":
    main()
