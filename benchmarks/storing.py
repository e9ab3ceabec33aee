"""Writing series: peak memory over length, and speed beside xarray's plain ``to_zarr``.

Run ``python benchmarks/storing.py``. Each measurement is a process of its own. asv finds the
``peakmem_``, ``track_`` and ``time_`` methods.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SHORT, LONG = 4, 40
SIZE = 1024


def lazy_cube(n_times: int, size: int) -> Any:
    """A cube (time, band, y, x) of float32 reflectance whose pixels are made when asked for."""
    import dask.array as da
    import numpy as np
    import pandas as pd
    import rioxarray  # noqa: F401  (registers .rio)

    from xharmonize.testing import example_cube

    dates = pd.date_range("2018-01-01", periods=n_times, freq="5D").strftime("%Y-%m-%d")
    small = example_cube(dates=list(dates), shape=(2, 2), missing=0.0)

    def render(block_info: Any = None) -> Any:
        place = block_info[None]
        random = np.random.default_rng(place["chunk-location"])
        counts = random.normal(2000, 300, place["chunk-shape"]).astype("int16")
        return counts * np.float32(1e-4)

    chunks = ((1,) * n_times, (6,), (size,), (size,))
    pixels = da.map_blocks(render, chunks=chunks, dtype="f4", meta=np.empty((0,) * 4, "f4"))
    axes = {"x": 501360.0 + 10 * np.arange(size), "y": 5629680.0 - 10 * np.arange(size)}
    cube = small.isel(y=0, x=0, drop=True).drop_vars("spatial_ref").expand_dims(axes, (-1, -2))
    cube = cube.transpose("time", "band", "y", "x").copy(data=pixels)
    return cube.rio.write_crs("EPSG:32631").rio.write_transform()


def write(kind: str, n_times: int, size: int, folder: str) -> dict[str, float]:
    """Write a cube in this process; return seconds and peak memory [MB]."""
    import dask

    import xharmonize as xh

    cube, path = lazy_cube(n_times, size), Path(folder) / f"{kind}.zarr"
    with dask.config.set(scheduler="threads", num_workers=2):
        xh.to_zarr(cube.isel(time=[0]), Path(folder) / "warm.zarr")
        start, cpu = time.perf_counter(), time.process_time()
        if kind == "xarray":
            cube.drop_attrs().to_zarr(path, zarr_format=3, consolidated=False)
        else:
            xh.to_zarr(cube, path, mode="upsert" if kind == "upsert" else "w-")
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "cpu": cpu, "peak": peak, "bytes": folder_size(path)}


def folder_size(path: Path) -> float:
    return float(sum(file.stat().st_size for file in path.rglob("*") if file.is_file()))


def measure(kind: str, n_times: int, size: int) -> dict[str, float]:
    """Run `write` in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--one", kind, str(n_times), str(size), folder]
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def report(name: str, n_times: int, size: int) -> dict[str, float]:
    """Measure a run and print it; `name` begins with its kind."""
    run = measure(name.partition(",")[0], n_times, size)
    megabytes = n_times * 6 * size**2 * 4 / 1e6
    print(
        f"{name:13} {n_times:4} dates {run['seconds']:7.2f} s "
        f"(cpu {run['cpu']:6.2f} s) {megabytes / run['seconds']:7.0f}"
        f" MB/s  peak {run['peak']:6.0f} MB  on disk {run['bytes'] / 1e6:7.1f} MB"
    )
    return run


def growth(short: int = SHORT, long: int = LONG, size: int = SIZE) -> float:
    """Print and return peak memory of a long write over that of a short one."""
    runs = [report(f"w, {name}", n, size) for name, n in (("short", short), ("long", long))]
    ratio = runs[1]["peak"] / runs[0]["peak"]
    print(f"peak memory, {long / short:.0f}x longer: {ratio:.2f}x (limit 1.3x)")
    return ratio


def speed(n_times: int = LONG, size: int = SIZE) -> float:
    """Print and return time of a write over that of xarray's plain one."""
    runs = {kind: report(kind, n_times, size) for kind in ("w", "upsert", "xarray")}
    seconds, processor = (runs["w"][key] / runs["xarray"][key] for key in ("seconds", "cpu"))
    print(f"time beside xarray's to_zarr: {seconds:.2f}x, processor time {processor:.2f}x")
    return seconds


class Storing:
    """asv suite."""

    timeout = 600

    def track_memory_growth(self) -> float:
        return growth()

    def track_time_beside_xarray(self) -> float:
        return speed()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=4, metavar=("KIND", "DATES", "SIZE", "FOLDER"))
    options = parser.parse_args()
    if options.one:
        kind, n_times, size, folder = options.one
        print(json.dumps(write(kind, int(n_times), int(size), folder)))
    else:
        growth()
        speed()


if __name__ == "__main__":
    main()
