"""What a model of 200 MB adds to a graph of 10,000 blocks on two worker processes.

A network whose forward pass costs the same whatever its weights weigh (0.7 GFLOP, about what the
smallest network of this package needs for a tile of 128 pixels) is mapped over a cube. Beside it,
in the same run: the same pass without a model, as a plain function over the blocks, and the same
network with weights of nothing. Printed: bytes of the graph as the client sends it, wall time, and
how often the workers loaded the model.

As an asv suite, or alone: ``python benchmarks/graph.py [--small]``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

import xharmonize as xh
from xharmonize.models import GeneratorCard, Input, Output, architectures
from xharmonize.models.bundle import write_bundle
from xharmonize.models.lattice import Lattice
from xharmonize.testing import example_cube

BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")
TILE = 16
"""Output pixels of a tile, and of a block, a side."""

SIDE = 704
"""Side of the matrices that are multiplied in a forward pass."""

WITHOUT = "without a model"
NAME = "constant-cost"


def forward(fine: Any) -> Any:
    """Every third pixel, after a matrix product that costs 0.7 GFLOP and changes nothing."""
    import torch

    square = torch.zeros(SIDE, SIDE)
    return fine[:, :, 1::3, 1::3] + (square @ square)[0, 0]


def constant_cost(card: GeneratorCard) -> Any:
    """A network of any weight that does what `forward` does."""
    from torch import nn, zeros

    class ConstantCost(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            size = int(card.hyperparameters["megabytes"]) * 250_000 + 1
            self.ballast = nn.Parameter(zeros(size), requires_grad=False)

        def forward(self, fine: Any) -> Any:
            return forward(fine) + self.ballast[0]

    return ConstantCost()


def register() -> None:
    """Make the network known in a process."""
    architectures.register_architecture(NAME, constant_cost, replace=True)


def write_model(folder: Path, megabytes: int) -> Any:
    """A bundle of that many megabytes, as a harmoniser."""
    register()
    numbers = (1.0,) * len(BANDS)
    zeros = (0.0,) * len(BANDS)
    card = GeneratorCard(
        name=f"constant-cost-{megabytes}",
        title="A network of constant cost",
        description="Takes every third pixel; its weights are ballast.",
        architecture=NAME,
        hyperparameters={"megabytes": megabytes},
        source_bandpass="msi",
        target_bandpass="oli",
        inputs=(Input(name="fine", bands=BANDS, gsd=10.0, mean=zeros, scale=numbers),),
        output=Output(bands=BANDS, mean=zeros, scale=numbers),
        lattice=Lattice(resolution=30.0, tile=TILE, buffer=0),
    )
    weights = {"ballast": np.zeros(megabytes * 250_000 + 1, np.float32)}
    return xh.load_model(write_bundle(folder / card.name, card, weights).location)


def make_cube(n_dates: int, n_side: int) -> xr.DataArray:
    """A cube of `n_dates` × `n_side` × `n_side` blocks, each made when asked for."""
    import rioxarray  # noqa: F401  (registers .rio)

    dates = [str(day) for day in np.arange(n_dates) + np.datetime64("2018-01-01")]
    pixel = example_cube(dates=dates, shape=(2, 2), missing=0.0).isel(y=0, x=0, drop=True)
    # From a corner of the lattice: blocks are whole tiles.
    steps = 10.0 * np.arange(n_side * TILE * 3) + 5
    axes = {"x": 480_000 + steps, "y": 5_616_000 - steps}
    cube = pixel.drop_vars("spatial_ref").expand_dims(axes, (-1, -2))
    chunks = ((1,) * n_dates, (6,), *(((TILE * 3,) * n_side,) * 2))
    pixels = da.map_blocks(_render, chunks=chunks, dtype="f4", meta=np.empty((0,) * 4, "f4"))
    cube = cube.transpose("time", "band", "y", "x").copy(data=pixels)
    return cube.rio.write_crs("EPSG:32631").rio.write_transform()


def _render(block_id: Any = None) -> Any:
    """Pixels of a block; a number that tells the block."""
    shape = (1, len(BANDS), TILE * 3, TILE * 3)
    return np.full(shape, sum(block_id) % 97 / 100, np.float32)


def without_model(cube: xr.DataArray) -> da.Array:
    """What the network gives, by a function in its place."""
    chunks = (*cube.data.chunks[:2], *(tuple(n // 3 for n in c) for c in cube.data.chunks[2:]))
    meta = np.empty((0,) * 4, "f4")
    return cube.data.map_blocks(_forward_block, chunks=chunks, dtype="f4", meta=meta)


def _forward_block(block: Any) -> Any:
    from torch import from_numpy

    return forward(from_numpy(block)).numpy()


def sent_bytes(array: da.Array) -> int:
    """Bytes of a graph as the client of distributed sends it."""
    from dask.base import collections_to_expr
    from distributed.protocol import serialize, to_serialize

    header, frames = serialize(to_serialize(collections_to_expr([array], True)))
    return len(str(header)) + sum(memoryview(frame).nbytes for frame in frames)


def seconds_of(array: da.Array) -> float:
    """Wall time until the workers hold all blocks."""
    from distributed import wait

    start = time.perf_counter()
    wait(array.persist())
    return time.perf_counter() - start


def processor_time(client: Any) -> float:
    """Seconds of processor time of workers, scheduler and client; hardly heeds other programs."""
    return time.process_time() + sum(client.run(time.process_time).values())


def count_loads() -> int:
    from xharmonize.models import runtime

    return runtime.CACHE.loads


def compare(n_dates: int, n_side: int, megabytes: int, n_runs: int) -> dict[str, float]:
    """Map with and without a model, in turn; print and return what it took."""
    with (
        tempfile.TemporaryDirectory() as folder,
        xh.cluster.local(n_workers=2, threads_per_worker=1, gpu=False, dashboard=False) as client,
    ):
        client.run(register)
        warm_up(client, Path(folder))
        before = client.run(count_loads)
        models = [write_model(Path(folder), size) for size in (0, megabytes)]
        cube = make_cube(n_dates, n_side)
        sizes = {name: sent_bytes(array) for name, array in make_arrays(cube, models).items()}
        # The cube lies on the workers first, so that all graphs have one task a block.
        cube = cube.persist()
        seconds_of(cube.data)
        arrays = make_arrays(cube, models)
        seconds: dict[str, list[float]] = {key: [] for key in arrays}
        processor: dict[str, list[float]] = {key: [] for key in arrays}
        for _ in range(n_runs):
            for key, array in arrays.items():
                start = processor_time(client)
                seconds[key].append(seconds_of(array))
                processor[key].append((processor_time(client) - start) / array.npartitions)
        loads = [count - before[worker] for worker, count in client.run(count_loads).items()]
    print(f"{arrays[WITHOUT].npartitions} blocks")
    for key, runs in seconds.items():
        took = ", ".join(f"{run:.1f}" for run in runs)
        print(
            f"{key:20} graph {sizes[key] / 1e6:6.3f} MB   wall {took} s   "
            f"processors {min(processor[key]) * 1e3:.2f} ms per block"
        )
    light, heavy = (model.name for model in models)
    least = {key: min(runs) for key, runs in seconds.items()}
    result = {
        "graph": float(sizes[heavy]),
        "wall": least[heavy] / least[WITHOUT],
        "processor": min(processor[heavy]) / min(processor[WITHOUT]),
        "weight": min(processor[heavy]) / min(processor[light]),
        "loads": max(loads) - 1.0,  # the network without weights was loaded too
    }
    print(
        f"graph {result['graph'] / 1e6:.2f} MB (limit 1), loads per worker {result['loads']:.0f} "
        f"(limit 1)\nbeside no model: wall {result['wall']:.2f}x (limit 1.3x), processor time "
        f"{result['processor']:.2f}x; beside weights of nothing: {result['weight']:.2f}x"
    )
    return result


def make_arrays(cube: xr.DataArray, models: list[Any]) -> dict[str, da.Array]:
    """The cube mapped without and with models, lazily."""
    mapped = {model.name: xh.to_landsat(cube, model).data for model in models}
    return {WITHOUT: without_model(cube), **mapped}


def warm_up(client: Any, folder: Path) -> None:
    """Let both workers import torch and compile kernels, which no run is to pay for."""
    model = write_model(folder, 1)
    while min(client.run(count_loads).values()) < 1:
        seconds_of(xh.to_landsat(make_cube(2, 4), model).data)
    seconds_of(without_model(make_cube(2, 4)))


class Graph:
    """asv suite."""

    timeout = 900

    def track_bytes(self) -> float:
        return compare(25, 20, 200, 1)["graph"]

    def track_wall_beside_no_model(self) -> float:
        return compare(25, 20, 200, 1)["wall"]


def main(arguments: list[str]) -> dict[str, float]:
    if "--small" in arguments:
        return compare(2, 3, 4, 1)
    return compare(25, 20, 200, 3)


if __name__ == "__main__":
    main(sys.argv[1:])
