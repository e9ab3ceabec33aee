"""What a GPU gives: tables, networks, transfers, a whole tile, a cluster of one worker, memory.

Each section runs in a process of its own, so that one that fails leaves the others alone; a failure
is shown and makes the exit status 1. Without a CUDA device it says so and measures nothing; that is
a failure only where there is a GPU that torch does not see.
``python benchmarks/gpu.py [--small] [--section NAME]``.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from xharmonize.cluster.local import choose

sys.path.insert(0, str(Path(__file__).parent))
from network import flops_per_tile, make_batch, make_card

TILE_SIDE = 10_980  # pixels of 10 m: one Sentinel-2 tile
Row = tuple[str, float, str, str]
"""What was measured, its value, its unit, what is aimed at."""


def device_name() -> str | None:
    """Name of the CUDA device that torch sees."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def seconds(function: Callable[[], Any], n_runs: int) -> float:
    """Median time of a call until the device is done, after one that compiles."""
    import torch

    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    took = []
    for _ in range(n_runs + 1):
        wait()
        start = time.perf_counter()
        function()
        wait()
        took.append(time.perf_counter() - start)
    return statistics.median(took[1:])


def arrays(is_gpu: bool) -> Any:
    """Return cupy, or numpy where the same steps are to run on a CPU."""
    if not is_gpu:
        return np
    import cupy

    return cupy


def make_tables(n_knots: int = 256) -> dict[str, Any]:
    """One rising table per band over reflectance 0 to 0.5, and how digital numbers are decoded."""
    table = np.sort(np.random.default_rng(0).random((1, 1, 1, 6, n_knots)), -1) * 0.5
    low, high = np.zeros(6), np.full(6, 0.5)
    line = np.ones((1, 6))
    return {
        "limits": (table.astype("f4"), low, high),
        "line": {"scale": line * 1e-4, "offset": line * 0, "nodata": line * 0},
    }


def places(height: int, width: int) -> tuple[Any, Any]:
    """All pixels in one tile."""
    return np.zeros(height, np.int64), np.zeros(width, np.int64)


def lut(*, is_gpu: bool = True, is_small: bool = False) -> list[Row]:
    """Tables from float32 and from uint16 in device memory, as shares of the device's copy rate."""
    from xharmonize.kernels.cuda import lut_kernels

    xp, side, n_runs = arrays(is_gpu), 300 if is_small else 6000, 3 if is_small else 20
    dn = xp.asarray(np.random.default_rng(0).integers(1, 5000, (1, 6, side, side), "u2"))
    values, room = dn.astype("f4") * xp.float32(1e-4), xp.empty(dn.shape, "f4")
    kernels, tables = lut_kernels(values), make_tables()
    near = places(side, side)
    copy = seconds(lambda: xp.copyto(room, values), n_runs)
    from_float = seconds(lambda: kernels.apply_tables(values, *tables["limits"], *near), n_runs)
    from_dn = seconds(
        lambda: kernels.apply_tables_to_dn(dn, *tables["limits"], *near, **tables["line"]), n_runs
    )
    moved = 2 * values.nbytes
    of_dn = (dn.nbytes + values.nbytes) / from_dn
    return [
        ("copy rate of float32", moved / copy / 1e9, "GB/s", ""),
        ("tables from float32, of copy rate", copy / from_float, "", ">= 0.7"),
        ("tables from uint16, of copy rate", of_dn * copy / moved, "", ">= 0.7"),
    ]


def network(*, is_gpu: bool = True, is_small: bool = False) -> list[Row]:
    """FLOP/s of the generator in device memory, as a share of a large bfloat16 product."""
    import torch

    from xharmonize.models import Runtime
    from xharmonize.models.architectures import seeded
    from xharmonize.models.runtime import prepare

    device = "cuda" if is_gpu else "cpu"
    card, n = small_card(is_small), 2 if is_small else 64
    side, n_runs = (128, 2) if is_small else (8192, 10)
    first, second = torch.randn(2, side, side, dtype=torch.bfloat16, device=device)
    product = 2.0 * side**3 / seconds(lambda: torch.mm(first, second), n_runs)
    rows: list[Row] = [("bfloat16 matrix product", product / 1e12, "TFLOP/s", "")]
    flops, weights = flops_per_tile(card) * n, seeded(card)
    for dtype, aim in (("bfloat16", ">= 0.4"), ("float32", "")):
        runs = prepare(card, weights, Runtime(device=device, dtype=dtype))
        batch = [torch.from_numpy(array).to(device) for array in make_batch(card, n)]
        rate = flops / seconds(lambda runs=runs, batch=batch: runs(batch), n_runs)
        rows.append((f"generator in {dtype}", rate / 1e12, "TFLOP/s", ""))
        rows.append((f"generator in {dtype}, of that product", rate / product, "", aim))
    return rows


def transfers(*, is_gpu: bool = True, is_small: bool = False) -> list[Row]:
    """Time of numpy in, numpy out, beside that of compute alone and of transfers alone."""
    import torch

    from xharmonize.models import Runtime
    from xharmonize.models.architectures import seeded
    from xharmonize.models.runtime import overlapped, prepare

    device, backend = ("cuda", torch.cuda) if is_gpu else ("cpu", torch.cpu)
    card, n, n_batches = small_card(is_small), 2 if is_small else 64, 3 if is_small else 20
    rows: list[Row] = []
    for dtype in ("float32", "bfloat16"):
        runs = prepare(card, seeded(card), Runtime(device=device, dtype=dtype))
        batch = make_batch(card, n)
        there = [torch.from_numpy(array).to(device) for array in batch]
        answer = runs(there)

        def compute(runs: Any = runs, there: Any = there) -> None:
            for _ in range(n_batches):
                runs(there)

        def drain(runs: Any, batch: Any = batch) -> None:
            for _ in overlapped(runs, [batch] * n_batches, "forward", backend):
                pass

        idle = Idle(runs.device, answer)
        alone, moving = seconds(compute, 3), seconds(lambda idle=idle: drain(idle), 3)
        whole = seconds(lambda runs=runs: drain(runs), 3)
        ratio = whole / max(alone, moving)
        rows += [
            (f"compute alone, {dtype}", alone / n_batches * 1e3, "ms/batch", ""),
            (f"transfers alone, {dtype}", moving / n_batches * 1e3, "ms/batch", ""),
            (f"both, of the slower, {dtype}", ratio, "x", "<= 1.15"),
        ]
    return rows


class Idle:
    """Answers at once: what is left of a run are its transfers."""

    def __init__(self, device: Any, answer: Any) -> None:
        self.device, self.answer = device, answer

    def __call__(self, tensors: Any, method: str) -> Any:
        return self.answer


def tables_on_a_tile(*, is_gpu: bool = True, is_small: bool = False) -> list[Row]:
    """Seconds for one tile of six bands, uint16 in host memory to float32 in host memory."""
    from xharmonize.kernels.cuda import lut_kernels

    xp, side = arrays(is_gpu), 600 if is_small else TILE_SIDE
    rows = side // 20
    dn = np.random.default_rng(0).integers(1, 5000, (1, 6, rows, side), "u2")
    out = np.zeros((1, 6, side, side), "f4")
    tables, near = make_tables(), places(rows, side)

    def run() -> None:
        for row in range(0, side, rows):
            there = xp.asarray(dn)
            mapped = lut_kernels(there).apply_tables_to_dn(
                there, *tables["limits"], *near, **tables["line"]
            )
            out[:, :, row : row + rows] = mapped.get() if is_gpu else mapped

    return [(f"tables, 6 x {side}², host to host", seconds(run, 2), "s", "")]


def generator_on_a_tile(*, is_gpu: bool = True, is_small: bool = False) -> list[Row]:
    """Seconds for one tile through ``to_landsat``, numpy in and out, on one Dask thread."""
    import dask

    from xharmonize.models import runtime

    side, rows = 600 if is_small else TILE_SIDE, []
    for dtype in ("bfloat16",) if is_small else ("float32", "bfloat16"):
        with tempfile.TemporaryDirectory() as folder:
            result = harmonized(side, folder, is_gpu=is_gpu, dtype=dtype, is_small=is_small)
            with dask.config.set(scheduler="synchronous"):
                took = seconds(result.compute, 1)
        rows.append((f"generator in {dtype}, 6 x {side}², to_landsat", took, "s", ""))
        runtime.free()
    return rows


def cluster(*, is_gpu: bool = True, is_small: bool = False) -> list[Row]:
    """The same on one worker of ``xharmonize.cluster.local``, and what it keeps when freed."""
    import xharmonize as xh

    side = 600 if is_small else TILE_SIDE // 3
    with (
        tempfile.TemporaryDirectory() as folder,
        xh.cluster.local(n_workers=1, gpu=is_gpu, dashboard=False) as client,
    ):
        result = harmonized(side, folder, is_gpu=is_gpu, dtype="bfloat16", is_small=is_small)
        took = seconds(result.compute, 1)
        (kept,) = client.run(free_worker).values()
    return [
        (f"one worker, 6 x {side}², to_landsat", took, "s", ""),
        ("kept by the worker when freed", kept / 1e6, "MB", "<= 64"),
    ]


def free_worker() -> int:
    """Free a worker's networks; return the bytes that torch still holds on its device."""
    import torch

    from xharmonize.models import runtime

    runtime.free()
    return int(torch.cuda.memory_reserved()) if torch.cuda.is_available() else 0


def memory(*, is_gpu: bool = True, is_small: bool = False) -> list[Row]:
    """Memory on the device before, during and after a run in this process."""
    import torch

    from xharmonize.models import ModelRef, Runtime, runtime
    from xharmonize.models.architectures import seeded

    device, card = "cuda" if is_gpu else "cpu", small_card(is_small)
    batch = make_batch(card, 2 if is_small else 64)
    with tempfile.TemporaryDirectory() as folder:
        ref: ModelRef = write(card, seeded(card), folder)
        list(runtime.predict(ref, card, [batch] * 3, Runtime(device=device)))
    used = int(torch.cuda.max_memory_reserved()) if is_gpu else runtime.CACHE.n_bytes
    kept = free_worker()
    return [
        ("memory while running", used / 1e6, "MB", ""),
        ("memory kept when freed", kept / 1e6, "MB", "<= 64"),
    ]


def small_card(is_small: bool) -> Any:
    """The generator of MGAN, or a narrow one for a trial."""
    return make_card(tile=32, buffer=8, width=4, depth=4) if is_small else make_card()


def write(card: Any, weights: Any, folder: str) -> Any:
    """Write a bundle and return its handle."""
    from xharmonize.models.bundle import write_bundle

    return write_bundle(Path(folder) / "bundle", card, weights)


def harmonized(side: int, folder: str, *, is_gpu: bool, dtype: Any, is_small: bool) -> Any:
    """A Sentinel-2 scene of `side` pixels of 10 m through the generator, lazy."""
    from dataclasses import replace

    import xharmonize as xh
    from xharmonize.models import Runtime
    from xharmonize.models.architectures import seeded

    card = small_card(is_small)
    write(card, seeded(card), folder)
    runtime = Runtime(device="cuda" if is_gpu else "cpu", dtype=dtype)
    model = replace(xh.load_model(Path(folder) / "bundle"), runtime=runtime)
    return xh.to_landsat(make_scene(side), model)


def make_scene(side: int) -> Any:
    """One date of six bands; 20 m bands are held at 10 m. Chunks share their pixels."""
    import dask.array as da
    import rioxarray  # noqa: F401  (registers .rio)

    from xharmonize.testing import example_cube

    size = math.gcd(side, 2196 if side > 2196 else side)
    pixels = np.random.default_rng(0).normal(0.2, 0.05, (1, 6, size, size)).astype("f4")
    pixels[:, 4:] = pixels[:, 4:, ::2, ::2].repeat(2, 2).repeat(2, 3)
    chunks = ((1,), (6,), (size,) * (side // size), (size,) * (side // size))
    data = da.map_blocks(
        lambda: pixels.copy(), chunks=chunks, dtype="f4", meta=np.empty((0,) * 4, "f4")
    )
    one = example_cube(dates=["2018-06-30"], shape=(2, 2), missing=0.0).isel(y=0, x=0, drop=True)
    metres = 10.0 * np.arange(side) + 5
    axes = {"x": 499_980.0 + metres, "y": 5_700_000.0 - metres}
    cube = one.drop_vars("spatial_ref").expand_dims(axes, (-1, -2))
    cube = cube.assign_coords(band=["blue", "green", "red", "nir", "swir16", "swir22"])
    cube = cube.transpose("time", "band", "y", "x").copy(data=data)
    return cube.rio.write_crs("EPSG:32631").rio.write_transform()


SECTIONS: dict[str, Callable[..., list[Row]]] = {
    "lut": lut,
    "network": network,
    "transfers": transfers,
    "tables-on-a-tile": tables_on_a_tile,
    "generator-on-a-tile": generator_on_a_tile,
    "cluster": cluster,
    "memory": memory,
}


def run_section(name: str, is_small: bool) -> list[Row] | None:
    """Run a section in a process of its own; None where it failed, its error shown."""
    command = [sys.executable, __file__, "--section", name, *(["--small"] if is_small else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"--- section {name} failed with status {done.returncode}\n{done.stderr}")
        return None
    return [tuple(row) for row in json.loads(done.stdout.splitlines()[-1])]


def main(argv: list[str] | None = None) -> int:
    """Print one table; return the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    is_small, name = "--small" in argv, device_name()
    if name is None:
        choice = choose()
        print(f"no CUDA device that torch sees ({choice.reason}): nothing was measured")
        return int(choice.is_gpu or choice.is_unexpected)
    if "--section" in argv:
        section = SECTIONS[argv[argv.index("--section") + 1]]
        print(json.dumps(section(is_gpu=True, is_small=is_small)))
        return 0
    found = {section: run_section(section, is_small) for section in SECTIONS}
    print(f"{name}\n{'':<50} {'measured':>10} {'':<9} aim")
    for section, rows in found.items():
        for what, value, unit, aim in rows or [(section, math.nan, "FAILED", "")]:
            print(f"{what:<50} {value:>10.3g} {unit:<9} {aim}")
    return int(any(rows is None for rows in found.values()))


if __name__ == "__main__":
    raise SystemExit(main())
