"""Whittaker smoothing beside whittaker-eilers, per pixel, and the choice of the penalty.

``python benchmarks/smoothing.py [--small]`` prints, for 73 dates with 30 % missing: our kernel on
one thread, whittaker-eilers (a smoother per pixel, since weights differ; and its weights updated,
if that is faster), the choices of λ beside its ``smooth_optimal``, and `xharmonize.series.smooth`
on Dask chunks with two threads. As an asv suite: `Smoothing`.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import dask
import numpy as np
import xarray as xr

import xharmonize as xh
from xharmonize.kernels import smoothing

N_DATES = 73
SPACING = 5.0
PENALTY = 100.0
CANDIDATES = np.array(xh.series.Whittaker().candidates)
LIMIT = 20.0


def make_series(n_pixels: int) -> tuple[Any, Any]:
    """Values and weights (time, pixel)."""
    random = np.random.default_rng(0)
    days = np.arange(N_DATES) * SPACING
    season = 0.5 - 0.3 * np.cos(2 * np.pi * days / 365.25)
    values = season[:, None] + random.normal(0, 0.05, (N_DATES, n_pixels))
    weights = random.random(values.shape) > 0.3
    return values.astype("float32"), weights.astype("float32")


def make_cube(side: int) -> xr.DataArray:
    """NDVI (time, y, x) in dask chunks, NaN where missing."""
    values, weights = make_series(side * side)
    cube = np.where(weights > 0, values, np.float32(np.nan)).reshape(N_DATES, side, side)
    dates = np.datetime64("2018-01-01", "ns") + (np.arange(N_DATES) * 5).astype("m8[D]")
    array = xr.DataArray(cube, {"time": dates}, ("time", "y", "x"), name="ndvi")
    return array.chunk(time=-1, y=max(1, side // 4), x=side)


def per_second(function: Callable[[], Any], n_pixels: int, n_runs: int) -> float:
    """Pixels a second, median over runs after a first one."""
    function()
    took = []
    for _ in range(n_runs):
        start = time.perf_counter()
        function()
        took.append(time.perf_counter() - start)
    return n_pixels / statistics.median(took)


def peer_smooth(values: Any, weights: Any) -> None:
    from whittaker_eilers import WhittakerSmoother

    for p in range(values.shape[1]):
        smoother = WhittakerSmoother(
            lmbda=PENALTY, order=2, data_length=N_DATES, weights=weights[:, p].tolist()
        )
        smoother.smooth(values[:, p].tolist())


def peer_update(values: Any, weights: Any) -> None:
    from whittaker_eilers import WhittakerSmoother

    smoother = WhittakerSmoother(
        lmbda=PENALTY, order=2, data_length=N_DATES, weights=weights[:, 0].tolist()
    )
    for p in range(values.shape[1]):
        smoother.update_weights(weights[:, p].tolist())
        smoother.smooth(values[:, p].tolist())


def peer_optimal(values: Any, weights: Any) -> None:
    from whittaker_eilers import WhittakerSmoother

    for p in range(values.shape[1]):
        smoother = WhittakerSmoother(
            lmbda=PENALTY, order=2, data_length=N_DATES, weights=weights[:, p].tolist()
        )
        smoother.smooth_optimal(values[:, p].tolist(), break_serial_correlation=False)


def kernels(n_pixels: int, n_peer: int, n_runs: int) -> dict[str, float]:
    """Pixels a second of our kernels and of the peer, on one thread."""
    values, weights = make_series(n_pixels)
    node_of, bands = np.arange(N_DATES), smoothing.penalty_bands(np.arange(N_DATES) * SPACING)
    tense = smoothing.penalty_bands(np.arange(N_DATES) * SPACING, xh.series.Whittaker().relaxation)
    penalty = np.full(n_pixels, PENALTY * SPACING**3)
    some, few, tenth = (
        (values[:, :n].copy(), weights[:, :n].copy())
        for n in (max(1, n_pixels // 10), n_peer, max(1, n_peer // 10))
    )
    ways: dict[str, tuple[Callable[[], Any], int]] = {
        "whittaker": (
            partial(smoothing.whittaker, values, weights, node_of, bands, penalty),
            n_pixels,
        ),
        "whittaker-eilers, made anew": (partial(peer_smooth, *few), n_peer),
        "whittaker-eilers, updated": (partial(peer_update, *few), n_peer),
        "reml": (
            partial(smoothing.select_reml, *some, node_of, tense, CANDIDATES, 1),
            some[0].shape[1],
        ),
        "gcv": (
            partial(smoothing.select_gcv, *some, node_of, bands, CANDIDATES, 1.2),
            some[0].shape[1],
        ),
        "v-curve": (
            partial(smoothing.select_v_curve, *some, node_of, bands, CANDIDATES),
            some[0].shape[1],
        ),
        "whittaker-eilers, smooth_optimal": (partial(peer_optimal, *tenth), tenth[0].shape[1]),
    }
    return {name: per_second(function, n, n_runs) for name, (function, n) in ways.items()}


def chunks(side: int, n_runs: int) -> dict[str, float]:
    """Pixels a second of `xharmonize.series.smooth` on Dask chunks, two threads."""
    cube = make_cube(side)
    ways = {
        "given λ": xh.series.Whittaker(penalty=PENALTY * SPACING**3),
        "λ by reml": xh.series.Whittaker(),
    }
    with dask.config.set(scheduler="threads", num_workers=2):
        return {
            f"xh.series.smooth on chunks, two threads, {name}": per_second(
                lambda m=method: xh.series.smooth(cube, m).compute(), side * side, n_runs
            )
            for name, method in ways.items()
        }


def compare(
    n_pixels: int = 200_000, n_peer: int = 3000, side: int = 512, n_runs: int = 5
) -> dict[str, float]:
    """Print and return pixels a second of each, and the ratio to the faster way of the peer."""
    found = kernels(n_pixels, n_peer, n_runs) | chunks(side, n_runs)
    for name, value in found.items():
        print(f"{name:<45} {value:12,.0f} pixels/s")
    peer = max(found[f"whittaker-eilers, {way}"] for way in ("made anew", "updated"))
    ratio = found["whittaker"] / peer
    whole = found["xh.series.smooth on chunks, two threads, given λ"] / peer
    print(f"ours over whittaker-eilers: {ratio:.1f} (promised: at least {LIMIT:.0f})")
    print(f"xh.series.smooth on chunks over whittaker-eilers: {whole:.1f}")
    for name in ("reml", "gcv", "v-curve"):
        optimal = found[name] / found["whittaker-eilers, smooth_optimal"]
        print(f"choice of λ, {name}, over its smooth_optimal: {optimal:.0f}")
    return {**found, "ratio": ratio}


class Smoothing:
    """asv suite."""

    def setup(self) -> None:
        self.cube = make_cube(256)
        xh.series.smooth(self.cube).compute()

    def time_smooth(self) -> None:
        xh.series.smooth(self.cube, xh.series.Whittaker(penalty=1e4)).compute()

    def time_smooth_with_choice(self) -> None:
        xh.series.smooth(self.cube).compute()

    def track_ratio(self) -> float:
        return compare()["ratio"]


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Print the comparison and return it."""
    if "--small" in (sys.argv[1:] if argv is None else argv):
        return compare(n_pixels=640, n_peer=20, side=16, n_runs=1)
    return compare()


if __name__ == "__main__":
    main()
