"""Peak memory of mapping a cube into a Zarr store, and of one ten times as large.

A generator, and look-up tables of tiles that are fitted in the same graph, each over a cube that
grows ten times in dates and ten times in area. Each measurement is a process of its own.

As an asv suite, or alone: ``python benchmarks/growth.py [--small]``.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")
KINDS = ("generator", "tables")
CHUNK = 480
"""Pixels of a chunk a side."""

WAYS = ("10x the dates", "10x the area")
LIMIT = 1.3


def make_cube(n_dates: int, n_chunks: int) -> Any:
    """A cube of `n_dates` × `n_chunks` chunks, side by side, whose pixels are made when asked."""
    import dask.array as da
    import numpy as np
    import rioxarray  # noqa: F401  (registers .rio)

    from xharmonize.testing import example_cube

    dates = [str(day) for day in np.arange(n_dates) + np.datetime64("2018-01-01")]
    pixel = example_cube(dates=dates, shape=(2, 2), missing=0.0).isel(y=0, x=0, drop=True)
    y, x = 10.0 * np.arange(CHUNK) + 5, 10.0 * np.arange(n_chunks * CHUNK) + 5
    axes = {"x": 480_000 + x, "y": 5_616_000 - y}
    cube = pixel.drop_vars("spatial_ref").expand_dims(axes, (-1, -2))

    def render(block_info: Any = None) -> Any:
        place = block_info[None]
        random = np.random.default_rng(place["chunk-location"])
        counts = random.normal(2000, 300, place["chunk-shape"]).astype("int16")
        return counts * np.float32(1e-4)

    chunks = ((1,) * n_dates, (6,), (CHUNK,), (CHUNK,) * n_chunks)
    pixels = da.map_blocks(render, chunks=chunks, dtype="f4", meta=np.empty((0,) * 4, "f4"))
    cube = cube.transpose("time", "band", "y", "x").copy(data=pixels)
    return cube.rio.write_crs("EPSG:32631").rio.write_transform()


def make_model(kind: str, folder: Path) -> Any:
    """A small network with seeded weights, or the histograms of a reference."""
    import xharmonize as xh
    from xharmonize.models import GeneratorCard, Input, Output, architectures
    from xharmonize.models.bundle import write_bundle
    from xharmonize.models.lattice import Lattice

    if kind == "tables":
        reference = make_cube(1, 1).assign_coords(bandpass=("time", ["oli"]))
        return xh.harmonizers.fit_histogram(reference, bins=256, limits=(0.0, 0.5)).compute()
    numbers = (0.2,) * len(BANDS)
    card = GeneratorCard(
        name="seeded",
        title="Seeded weights",
        description="A small network for measuring memory.",
        architecture="small-conv",
        hyperparameters={"width": 8, "depth": 2},
        source_bandpass="msi",
        target_bandpass="oli",
        inputs=(Input(name="fine", bands=BANDS, gsd=10.0, mean=numbers, scale=numbers),),
        output=Output(bands=BANDS, mean=numbers, scale=numbers),
        lattice=Lattice(resolution=30.0, tile=64, buffer=16),
    )
    return xh.load_model(write_bundle(folder / "seeded", card, architectures.seeded(card)).location)


def write(kind: str, n_dates: int, n_chunks: int, folder: str) -> dict[str, float]:
    """Map and write a cube in this process; return seconds and peak memory [MB]."""
    import dask

    import xharmonize as xh

    dask.config.set(scheduler="threads", num_workers=2)
    model = make_model(kind, Path(folder))

    def run(cube: Any, name: str) -> None:
        if kind == "tables":
            tables = xh.harmonizers.fit_tables(cube, model, tile=CHUNK * 10.0)
            result = xh.to_landsat(cube, model, tables=tables)
        else:
            result = xh.to_landsat(cube, model)
        xh.to_zarr(result, Path(folder) / name)

    run(make_cube(1, 1), "warm.zarr")
    start = time.perf_counter()
    run(make_cube(n_dates, n_chunks), "all.zarr")
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak": peak}


def measure(kind: str, n_dates: int, n_chunks: int) -> dict[str, float]:
    """Run `write` in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--one", kind, str(n_dates), str(n_chunks), folder]
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, env=environment
        )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def compare(
    kind: str, n_dates: int, n_chunks: int, ways: tuple[str, ...] = WAYS
) -> dict[str, float]:
    """Print and return how peak memory grows."""
    sizes = {"": (n_dates, n_chunks)}
    if WAYS[0] in ways:
        sizes[WAYS[0]] = (10 * n_dates, n_chunks)
    if WAYS[1] in ways:
        sizes[WAYS[1]] = (n_dates, 10 * n_chunks)
    runs = {name: measure(kind, *size) for name, size in sizes.items()}
    growth = {}
    for name, run in runs.items():
        dates, chunks = sizes[name]
        pixels = dates * chunks * 6 * CHUNK**2 * 4 / 1e6
        growth[name] = run["peak"] / runs[""]["peak"]
        print(
            f"{kind:10} {dates:3} dates x {chunks:3} chunks, {pixels:5.0f} MB of pixels: "
            f"{run['seconds']:6.2f} s, peak {run['peak']:5.0f} MB"
            + (f", {name}: {growth[name]:.2f}x (limit {LIMIT}x)" if name else "")
        )
    return {name: value for name, value in growth.items() if name}


class Growth:
    """asv suite."""

    params = KINDS
    param_names = ("kind",)
    timeout = 900

    def track_memory(self, kind: str) -> float:
        return max(compare(kind, 4, 4).values())


def main(arguments: list[str]) -> dict[str, dict[str, float]]:
    if "--one" in arguments:
        kind, n_dates, n_chunks, folder = arguments[1:]
        print(json.dumps(write(kind, int(n_dates), int(n_chunks), folder)))
        return {}
    ways = WAYS[:1] if "--small" in arguments else WAYS
    return {kind: compare(kind, 4, 4, ways) for kind in KINDS}


if __name__ == "__main__":
    main(sys.argv[1:])
