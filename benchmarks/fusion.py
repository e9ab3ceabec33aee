"""Kernels of fusion beside straightforward numpy, and beside what the machine could do.

``python benchmarks/fusion.py [--small]`` prints, in one run and on one core, for STARFM-SI with a
window of 31 pixels and for ATPRK by a factor of 3, on 6 bands of 1000 x 1000 pixels:

- nanoseconds per pixel and band (CPU time, the least of some runs);
- the same of numpy written down as the papers say it: STARFM pixel by pixel (a window each) and
  offset by offset (images each), kriging neighbour by neighbour. Those run on fewer pixels;
- the bound: each vector instruction that a neighbour needs at the rate of multiply-adds measured
  here, and each input and output moved once at the rate of a copy measured here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import njit
from scipy.ndimage import gaussian_filter

from xharmonize.kernels.kriging import RADIUS, Support, fit_length, krige, kriging_of, lag_sums
from xharmonize.kernels.regression import apply_matrix, joint_moments, solve_multiband
from xharmonize.kernels.regrid import AxisMap, regrid_mean
from xharmonize.kernels.starfm import LEAST, Search, spread_of, starfm

N_BANDS = 6
FACTOR = 3
INSTRUCTIONS = 10
"""Of STARFM for a neighbour: difference, absolute value, three comparisons, two conjunctions, one
selection and two multiply-adds."""


def scene(side: int, n_bands: int = N_BANDS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coarse image (band, y, x), fine one, and the fine one degraded and interpolated."""
    random = np.random.default_rng(0)
    fine, coarse = np.empty((2, n_bands, side, side), np.float32)
    partner = np.empty_like(fine)
    for b in range(n_bands):
        fine[b] = 0.2 + 0.25 * gaussian_filter(random.normal(size=(side, side)), 2)
        partner[b] = gaussian_filter(fine[b], FACTOR / 2)
        coarse[b] = partner[b] + 0.3 * gaussian_filter(random.normal(size=(side, side)), 9)
    return coarse, fine, partner


def seconds(function: Callable[[], Any], n_runs: int) -> float:
    """CPU time of the fastest run after a first one."""
    function()
    took = []
    for _ in range(n_runs):
        start = time.process_time()
        function()
        took.append(time.process_time() - start)
    return min(took)


@njit(fastmath={"contract", "reassoc"})
def _multiply_add(values: Any, n: int) -> None:
    for start in range(0, values.size, 64):
        part = values[start : start + 64]
        for _ in range(n):
            for j in range(64):
                part[j] = part[j] * np.float32(0.999) + np.float32(1e-3)


def instructions_per_second(n: int = 20_000) -> float:
    """Multiply-adds of single numbers a second, in vectors that stay in registers."""
    values = np.ones(6400, np.float32)
    return values.size * n / seconds(lambda: _multiply_add(values, n), 5)


def bytes_per_second(n: int = 2**24) -> float:
    """Bytes read and written a second by a copy larger than the caches."""
    source, target = np.ones((2, n), np.float32)
    return 2 * source.nbytes / seconds(lambda: np.copyto(target, source), 5)


def windows_of_numpy(coarse: Any, fine: Any, partner: Any, spread: Any, search: Search) -> Any:
    """STARFM of one band, a pixel and its window after the other; borders left out."""
    r, out = search.margin, np.zeros_like(coarse)
    y, x = np.mgrid[-r : r + 1, -r : r + 1]
    distance = 1 + np.hypot(y, x) / search.spatial_factor
    spectral, temporal = np.abs(fine - partner), np.abs(partner - coarse)
    predicted = coarse + fine - partner
    more = search.allowances
    for j in range(r, coarse.shape[0] - r):
        for i in range(r, coarse.shape[1] - r):
            at = (slice(j - r, j + r + 1), slice(i - r, i + r + 1))
            ok = np.abs(fine[at] - fine[j, i]) <= 2 * spread / search.n_classes
            ok &= spectral[at] <= spectral[j, i] + more[0]
            ok &= temporal[at] <= temporal[j, i] + more[1]
            weight = ok / ((spectral[at] + LEAST) * (temporal[at] + LEAST) * distance)
            out[j, i] = (weight * predicted[at]).sum() / weight.sum()
    return out[r:-r, r:-r]


def offsets_of_numpy(coarse: Any, fine: Any, partner: Any, spread: Any, search: Search) -> Any:
    """STARFM of one band, an offset of whole images after the other; borders left out."""
    r, size = search.margin, np.array(coarse.shape) - 2 * search.margin
    spectral, temporal = np.abs(fine - partner), np.abs(partner - coarse)
    weight = 1 / ((spectral + np.float32(LEAST)) * (temporal + np.float32(LEAST)))
    weighted = weight * (coarse + fine - partner)
    own, more = (slice(r, -r), slice(r, -r)), search.allowances
    most, longest = spectral[own] + np.float32(more[0]), temporal[own] + np.float32(more[1])
    above, below = np.zeros((2, *size), np.float32)
    for dy in range(search.window):
        for dx in range(search.window):
            at = (slice(dy, dy + size[0]), slice(dx, dx + size[1]))
            ok = np.abs(fine[at] - fine[own]) <= np.float32(2 * spread / search.n_classes)
            ok &= spectral[at] <= most
            ok &= temporal[at] <= longest
            near = np.float32(1 / (1 + np.hypot(dy - r, dx - r) / search.spatial_factor))
            above += np.where(ok, near * weighted[at], np.float32(0))
            below += np.where(ok, near * weight[at], np.float32(0))
    return above / below


def kriging_of_numpy(residual: Any, weights: Any) -> Any:
    """Kriging of one band (y, x), a neighbour of whole images after the other."""
    height, width = (n - 2 * RADIUS for n in residual.shape)
    out = np.zeros((height, FACTOR, width, FACTOR), np.float32)
    for k, (dy, dx) in enumerate(np.ndindex(2 * RADIUS + 1, 2 * RADIUS + 1)):
        near = residual[dy : dy + height, dx : dx + width]
        for p, q in np.ndindex(FACTOR, FACTOR):
            out[:, p, :, q] += np.float32(weights[p * FACTOR + q, k]) * near
    return out.reshape(height * FACTOR, width * FACTOR)


def measure_starfm(side: int, few: int, n_runs: int) -> dict[str, float]:
    """Nanoseconds per pixel and band of STARFM-SI."""
    coarse, fine, partner = scene(side)
    search, spread = Search(), spread_of(fine)
    ours = seconds(lambda: starfm(coarse, fine[None], partner[None], spread[None]), n_runs)
    found = {"ours": ours / fine.size}
    peers = {
        "numpy, pixel by pixel": (windows_of_numpy, few),
        "numpy, offset by offset": (offsets_of_numpy, 4 * few),
    }
    whole = starfm(coarse[:1], fine[None, :1], partner[None, :1], spread[None, :1])[0]
    for name, (function, n) in peers.items():
        size = n + 2 * search.margin
        images = [np.ascontiguousarray(one[0, :size, :size]) for one in (coarse, fine, partner)]
        took = seconds(lambda f=function, i=images: f(*i, spread[0], search), 1)
        r = search.margin
        result = function(*images, spread[0], search)
        np.testing.assert_allclose(result, whole[r : r + n, r : r + n], atol=1e-4)
        found[name] = took / n**2
    found["spread, once per image"] = seconds(lambda: spread_of(fine), 1) / fine.size
    return {name: 1e9 * took for name, took in found.items()}


def measure_atprk(side: int, n_runs: int) -> dict[str, float]:
    """Nanoseconds per fine pixel and band of ATPRK."""
    side -= side % FACTOR
    _, fine, _ = scene(side)
    n = side // FACTOR
    along = AxisMap(first=0, step=FACTOR, n_source=side)
    support, weights = Support.of(along), along.weights(0, n, "area")
    degraded, _ = regrid_mean(fine, weights, weights, min_valid=1.0)
    coarse = 0.8 * degraded + scene(n)[1]
    moments = joint_moments(degraded.reshape(N_BANDS, -1), coarse.reshape(N_BANDS, -1))
    matrix, intercept, _, _ = solve_multiband(moments, N_BANDS)
    residual = (coarse - apply_matrix(degraded[None], matrix, intercept)[0]).astype(np.float32)
    sums = lag_sums(residual)
    lengths = fit_length(sums, support, support)[:, 0]
    kriging = [kriging_of(float(length), support, support) for length in lengths]

    around = np.pad(residual, ((0, 0), (RADIUS, RADIUS), (RADIUS, RADIUS)), mode="edge")
    peer = kriging_of_numpy(around[0], kriging[0].weights)
    np.testing.assert_allclose(krige(around, kriging, margin=RADIUS)[0], peer, atol=1e-5)
    steps = {
        "ours, kriging": lambda: krige(around, kriging, margin=RADIUS),
        "the same with a frame of missing pixels": lambda: krige(residual, kriging),
        "ours, regression": lambda: apply_matrix(fine[None], matrix, intercept)[0],
        "semivariogram, once per image": lambda: lag_sums(residual),
        "its fit, once per image": lambda: fit_length(sums, support, support),
        "regression, once per image": lambda: joint_moments(
            degraded.reshape(N_BANDS, -1), coarse.reshape(N_BANDS, -1)
        ),
    }
    found = {name: 1e9 * seconds(step, n_runs) / fine.size for name, step in steps.items()}
    one = seconds(lambda: kriging_of_numpy(around[0], kriging[0].weights), n_runs)
    return {**found, "numpy, kriging": 1e9 * one / fine[0].size}


def bounds() -> dict[str, float]:
    """The least nanoseconds per pixel and band, from rates measured here."""
    rate, moved = instructions_per_second(), bytes_per_second()
    print(f"multiply-adds: {rate / 1e9:.1f} · 10⁹/s, copy: {moved / 1e9:.1f} GB/s\n")
    return {
        "STARFM-SI": 1e9 * (INSTRUCTIONS * Search().window ** 2 / rate + 4 * 4 / moved),
        "kriging": 1e9 * ((2 * RADIUS + 1) ** 2 / rate + 4 * (1 + 1 / FACTOR**2) / moved),
    }


def main(arguments: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    """Print times, ratios to numpy and shares of the bound."""
    is_small = "--small" in (sys.argv[1:] if arguments is None else arguments)
    side, few, n_runs = (60, 6, 1) if is_small else (1000, 50, 5)
    least = bounds()
    tables = {
        "STARFM-SI": measure_starfm(side, few, n_runs),
        "ATPRK": measure_atprk(side, n_runs),
    }
    own = {"STARFM-SI": "ours", "ATPRK": "ours, kriging"}
    for name, table in tables.items():
        bound = least["kriging" if name == "ATPRK" else name]
        table["bound"] = bound
        print(f"{name}, 6 x {side} x {side}: ns per pixel and band")
        for step, took in table.items():
            ratio = f"{took / table[own[name]]:8.1f} x ours" if step.startswith("numpy") else ""
            print(f"  {step:40}{took:12.2f}{ratio}")
        print(f"  share of the bound {bound / table[own[name]]:.2f}\n")
    return tables


if __name__ == "__main__":
    main()
