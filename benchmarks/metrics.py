"""Metrics beside the libraries people use for them, and memory over the length of a cube.

Run ``python benchmarks/metrics.py``; ``--small`` is quick. Peers that are not installed are left
out with a note (sewar is no dependency of ours). Contestants take turns in one run: our kernels on
two blocks in two of dask's threads, `score` on arrays in memory (all cores), and `score` on the
same data in two chunks with two threads, graph and all. asv finds the ``time_`` and ``peakmem_``
methods.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BANDS = 6
PIXEL = ["n", "rmse", "mse", "mae", "bias", "mre", "mre_total", "r2", "r2_pearson", "cc", "kge"]
PIXEL += ["kge_2012", "psnr", "slope", "intercept", "ergas"]
WANTED = {"pixel": 25.0, "sam": 6.0, "ssim": 5.0, "uiqi": 10.0}
"""Least ratio of the peer's time to that of our kernel in two threads."""
OURS = ("kernel, two threads", "in memory", "two chunks")


def make_pair(side: int) -> tuple[Any, Any]:
    """A prediction and a reference (band, y, x) of float32 reflectance with a grid."""
    import numpy as np

    from xharmonize.testing import example_cube

    ref = example_cube(dates=("2018-07-01",), shape=(side, side), missing=0.0).isel(time=0)
    noise = np.random.default_rng(1).normal(0, 0.02, ref.shape).astype("float32")
    return ref.copy(data=np.clip(ref.values + noise, 0.001, 1)), ref


def _xskillscore(pred: Any, ref: Any) -> Callable[[], Any]:
    import xskillscore as xs

    functions = (xs.rmse, xs.mae, xs.r2, xs.pearson_r, xs.mse)
    return lambda: [f(ref, pred, dim=["y", "x"]).compute() for f in functions]


def _torchmetrics(pred: Any, ref: Any) -> Callable[[], Any]:
    import torch
    from torchmetrics.functional.image import spectral_angle_mapper

    tensors = [torch.from_numpy(array.values[None]) for array in (pred, ref)]
    return lambda: float(spectral_angle_mapper(*tensors))


def _scikit_image(pred: Any, ref: Any) -> Callable[[], Any]:
    from skimage.metrics import structural_similarity

    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return lambda: [
        structural_similarity(y.values, x.values, data_range=1.0, **options)
        for x, y in zip(pred, ref)
    ]


def _sewar(pred: Any, ref: Any) -> Callable[[], Any]:
    from sewar.full_ref import uqi

    # It takes (y, x, band), and integers or floats as they are.
    arrays = [array.transpose("y", "x", "band").values for array in (ref, pred)]
    return lambda: float(uqi(*arrays, ws=32))


CASES: dict[str, tuple[str, list[str], Callable[[Any, Any], Callable[[], Any]]]] = {
    "pixel": ("xskillscore RMSE+MAE+R²+r+MSE", PIXEL, _xskillscore),
    "sam": ("torchmetrics SAM", ["sam"], _torchmetrics),
    "ssim": ("scikit-image SSIM", ["ssim"], _scikit_image),
    "uiqi": ("sewar UQI, window 32", ["uiqi"], _sewar),
}


def kernel_of(case: str) -> Callable[[Any, Any], Any]:
    """The kernel behind a case, on blocks (band, y, x)."""
    import numpy as np

    from xharmonize.kernels import statistics as angles
    from xharmonize.kernels import statistics as kernels
    from xharmonize.kernels import windows

    codes, everywhere = np.zeros((1, 1), np.int32), np.zeros((1, 1, 1), np.int32)
    taps = windows.gaussian_taps(11, 1.5)

    def rows(array: Any) -> Any:
        return array.reshape(1, len(array), -1)

    found: dict[str, Callable[[Any, Any], Any]] = {
        "pixel": lambda x, y: kernels.band_moments(rows(x), rows(y)),
        "sam": lambda x, y: angles.spectral_angles(rows(x), rows(y), codes, 1),
        "ssim": lambda x, y: windows.gaussian_windows(x, y, everywhere, 1, taps, 1e-4, 9e-4, 0.5),
        "uiqi": lambda x, y: windows.uniform_windows(x, y, everywhere, 1, 32, 0.0, 0.0, 0.5),
    }
    return found[case]


def kernel_blocks(case: str, pred: Any, ref: Any) -> Callable[[], Any]:
    """Our kernel on two blocks, one task each; windows get the rows they reach into."""
    import dask
    import numpy as np

    half = pred.shape[1] // 2
    reach = {"ssim": 10, "uiqi": 31}.get(case, 0)
    cuts = [slice(0, half + reach), slice(half, None)]
    blocks = [
        tuple(np.ascontiguousarray(array.values[:, cut]) for array in (pred, ref)) for cut in cuts
    ]
    tasks = [dask.delayed(kernel_of(case), pure=False, traverse=False)(*block) for block in blocks]
    return lambda: dask.compute(*tasks, scheduler="threads", num_workers=2)


def contestants(case: str, side: int) -> tuple[dict[str, Callable[[], Any]], str]:
    """The functions to time, and a note where the peer is missing."""
    import dask

    import xharmonize as xh

    peer_name, metrics, make_peer = CASES[case]
    pred, ref = make_pair(side)
    chunk = {"y": side // 2, "x": side}
    cut = [array.chunk(chunk) for array in (pred, ref)]

    def chunked() -> Any:
        with dask.config.set(scheduler="threads", num_workers=2):
            return xh.score(*cut, metrics).compute()

    found: dict[str, Callable[[], Any]] = {
        "kernel, two threads": kernel_blocks(case, pred, ref),
        "in memory": lambda: xh.score(pred, ref, metrics),
        "two chunks": chunked,
    }
    try:
        found[peer_name] = make_peer(pred, ref)
    except ImportError as error:
        return found, f"{peer_name}: not installed ({error.name})"
    if case == "pixel":
        # It needs y and x whole: bands are its chunks.
        peer = make_peer(*(array.chunk({"band": BANDS // 2}) for array in (pred, ref)))

        def peer_chunked() -> Any:
            with dask.config.set(scheduler="threads", num_workers=2):
                return peer()

        found[f"{peer_name}, two chunks"] = peer_chunked
    return found, ""


def measure(case: str, side: int, n_runs: int) -> tuple[dict[str, float], str]:
    """Median time of each contestant [s], runs taking turns."""
    functions, note = contestants(case, side)
    runs: dict[str, list[float]] = {name: [] for name in functions}
    for run in range(n_runs + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if run:  # the first one compiles
                runs[name].append(time.perf_counter() - start)
    return {name: statistics.median(took) for name, took in runs.items()}, note


def wrong_uiqi(side: int = 256) -> dict[str, float]:
    """UIQI of a reference and unrelated noise: near zero by definition."""
    import numpy as np

    ref = make_pair(side)[1]
    noise = np.random.default_rng(9).uniform(0.01, 0.6, ref.shape).astype("float32")
    other = ref.copy(data=noise)
    found = {"xharmonize": float(other.harmonize.score(ref, "uiqi", per_band=False)["uiqi"])}
    with contextlib.suppress(ImportError):
        found["sewar"] = float(_sewar(other, ref)())
    return found


def score_long(n_chunks: int, side: int) -> dict[str, float]:
    """Score a cube of so many chunks in this process; return seconds and peak memory [MB]."""
    import dask
    import dask.array as da
    import numpy as np
    import rioxarray  # noqa: F401  (registers .rio)

    import xharmonize as xh
    from xharmonize.testing import example_cube

    def render(block_info: Any = None) -> Any:
        place = block_info[None]
        random = np.random.default_rng(place["chunk-location"])
        return random.random(place["chunk-shape"], dtype="float32")

    dates = np.datetime_as_string(np.datetime64("2018-01-01") + 5 * np.arange(n_chunks))
    small = example_cube(dates=list(dates), shape=(2, 2), missing=0.0)
    axes = {"x": 501360.0 + 10 * np.arange(side), "y": 5629680.0 - 10 * np.arange(side)}
    bare = small.isel(y=0, x=0, drop=True).drop_vars("spatial_ref")
    cube = bare.expand_dims(axes, (-1, -2)).transpose("time", "band", "y", "x")
    chunks = ((1,) * n_chunks, (BANDS,), (side,), (side,))
    data = [
        da.map_blocks(
            render, chunks=chunks, dtype="f4", meta=np.empty((0,) * 4, "f4"), token=f"render-{k}"
        )
        for k in range(2)
    ]
    pred, ref = (cube.copy(data=d).rio.write_crs("EPSG:32631").rio.write_transform() for d in data)
    metrics = ["rmse", "r2", "sam", "ergas", "uiqi"]
    start = time.perf_counter()
    with dask.config.set(scheduler="threads", num_workers=2):
        xh.score(pred, ref, metrics).compute()
    return {
        "seconds": time.perf_counter() - start,
        "peak": peak_memory(),
    }


def peak_memory() -> float:
    """Peak memory of this process [MB]; what `getrusage` tells includes the parent's."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def memory(n_chunks: int, side: int) -> dict[str, float]:
    """Run `score_long` in a process of its own."""
    command = [sys.executable, __file__, "--one", str(n_chunks), str(side)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


class Metrics:
    """asv: time of each kind of metric, in memory and in chunks."""

    params = tuple(CASES)
    param_names = ("case",)

    def setup(self, case: str) -> None:
        self.functions, _ = contestants(case, 1024)
        for function in self.functions.values():
            function()

    def time_in_memory(self, case: str) -> None:
        self.functions["in memory"]()

    def time_two_chunks(self, case: str) -> None:
        self.functions["two chunks"]()


class Long:
    """asv: peak memory of scoring many chunks."""

    def peakmem_forty_chunks(self) -> None:
        score_long(40, 512)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Print the comparison and return it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--one", nargs=2, type=int)
    options = parser.parse_args(argv)
    if options.one:
        print(json.dumps(score_long(*options.one)))
        return {}
    side, n_runs = (128, 1) if options.small else (1024, 7)
    results: dict[str, Any] = {}
    for case in CASES:
        took, note = measure(case, side, n_runs)
        results[case] = took
        print(f"{case}, {BANDS} × {side}²; times as long as ours ({', '.join(OURS)})")
        for name, value in took.items():
            ratios = " ".join(f"{value / took[ours]:7.1f}" for ours in OURS)
            print(f"  {name:<42} {value * 1e3:9.2f} ms  {ratios}")
        peers = [value for name, value in took.items() if name not in OURS]
        if peers:
            ratio = peers[0] / took[OURS[0]]
            print(
                f"  the peer takes {ratio:.1f} times as long as our kernel; limit {WANTED[case]:g}"
            )
        if note:
            print(f"  {note}")
    results["wrong"] = wrong_uiqi(128 if options.small else 256)
    print("UIQI of a scene and unrelated noise: " + ", ".join(
        f"{name} {value:.4f}" for name, value in results["wrong"].items()
    ))  # fmt: skip
    short, long, side = (2, 40, 128) if options.small else (2, 40, 768)
    peaks = {n: memory(n, side) for n in (short, long)}
    results["memory"] = peaks[long]["peak"] / peaks[short]["peak"]
    for n, found in peaks.items():
        print(f"{n} chunks of {BANDS} × {side}²: {found['seconds']:.2f} s, {found['peak']:.0f} MB")
    print(f"  20 times the chunks need {results['memory']:.2f} times the memory")
    return results


if __name__ == "__main__":
    main()
