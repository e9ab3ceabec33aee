"""How many simulated truths lie within one standard deviation of a smooth series.

``python benchmarks/smoothing_coverage.py [--small]``: seasons of five shapes (two logistic
flanks, a bell, a cosine, two crops a year, a meadow mown four times), noise of 0.02 and 0.05,
dates about five and ten days apart, 30 and 60 % missing, two years; errors independent, and
correlated from date to date by 0.3 and 0.6. Printed is the share within ±1 σ by shape; .68 is
right.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import xharmonize as xh

METHODS: dict[str, Any] = {
    "whittaker": xh.series.Whittaker(),
    "whittaker, cross-validation": xh.series.Whittaker(penalty="gcv"),
    "whittaker, V-curve": xh.series.Whittaker(penalty="v-curve"),
    "savgol": xh.series.SavitzkyGolay(),
}
DESIGNS = ((5, 0.3), (5, 0.6), (10, 0.3))  # days between dates, share missing
NOISE = (0.02, 0.05)


def flanks(day: Any, random: np.random.Generator, n: int) -> Any:
    rise, fall = random.uniform(90, 150, n), random.uniform(220, 290, n)
    width = random.uniform(5, 15, (2, n))
    up, down = ((day - at) / w for at, w in zip((rise, fall), width))
    return 1 / (1 + np.exp(-up)) - 1 / (1 + np.exp(-down))


def bell(day: Any, random: np.random.Generator, n: int) -> Any:
    return np.exp(-0.5 * ((day - random.uniform(150, 220, n)) / random.uniform(25, 60, n)) ** 2)


def cosine(day: Any, random: np.random.Generator, n: int) -> Any:
    return 0.5 - 0.5 * np.cos(2 * np.pi * (day - random.uniform(0, 60, n)) / 365.25)


def two_crops(day: Any, random: np.random.Generator, n: int) -> Any:
    centres, width = (random.uniform(110, 140, n), random.uniform(220, 260, n)), 22
    first, second = (np.exp(-0.5 * ((day - centre) / width) ** 2) for centre in centres)
    return first + 0.7 * second


def meadow(day: Any, random: np.random.Generator, n: int) -> Any:
    height = 1 / (1 + np.exp(-(day - 100) / 12)) - 0.8 / (1 + np.exp(-(day - 310) / 10))
    for cut in random.uniform(120, 280, (4, n)):
        since = day - cut
        height = height - np.where(since >= 0, 0.6 * np.exp(-np.maximum(since, 0) / 20), 0)
    return height


SHAPES: dict[str, Callable[[Any, np.random.Generator, int], Any]] = {
    "flanks": flanks,
    "bell": bell,
    "cosine": cosine,
    "two crops": two_crops,
    "meadow": meadow,
}


def simulate(
    shape: str,
    *,
    spacing: int,
    missing: float,
    noise: float,
    correlation: float = 0.0,
    n_series: int = 100,
    seed: int = 0,
) -> tuple[xr.DataArray, np.ndarray]:
    """NDVI (time, series) as observed, and the truth."""
    random = np.random.default_rng(seed)
    days = np.cumsum(random.integers(spacing // 2, spacing * 3 // 2 + 1, 730 // spacing))
    season = SHAPES[shape](days[:, None] % 365.25, random, n_series)
    truth = random.uniform(0.1, 0.3, n_series) + random.uniform(0.3, 0.6, n_series) * season
    error = random.normal(0, 1, truth.shape)
    for i in range(1, days.size):
        error[i] = correlation * error[i - 1] + np.sqrt(1 - correlation**2) * error[i]
    values = np.where(random.random(truth.shape) < missing, np.nan, truth + noise * error)
    dates = np.datetime64("2018-01-01", "ns") + days.astype("m8[D]")
    observed = xr.DataArray(values, {"time": dates}, ("time", "series"), name="ndvi")
    return observed.astype("float32"), truth


def within(observed: xr.DataArray, truth: np.ndarray, method: Any) -> float:
    """Share of smooth values that are within one of their standard deviations of the truth."""
    smooth = xh.series.smooth(observed, method, uncertainty=True)
    off, error = np.abs(smooth["ndvi"].values - truth), smooth["uncertainty"].values
    known = np.isfinite(off) & np.isfinite(error)
    return float((off < error)[known].mean())


def cover(methods: dict[str, Any], *, correlation: float, n_series: int = 100) -> pd.DataFrame:
    """Mean share by method (rows) and shape (columns)."""
    found: dict[str, dict[str, float]] = {name: {} for name in methods}
    for shape in SHAPES:
        series = [
            simulate(
                shape,
                spacing=spacing,
                missing=missing,
                noise=noise,
                correlation=correlation,
                n_series=n_series,
            )
            for spacing, missing in DESIGNS
            for noise in NOISE
        ]
        for name, method in methods.items():
            found[name][shape] = float(np.mean([within(*one, method) for one in series]))
    return pd.DataFrame(found).T


def main(argv: list[str] | None = None) -> dict[float, pd.DataFrame]:
    """Print the tables and return them, by correlation."""
    is_small = "--small" in (sys.argv[1:] if argv is None else argv)
    found = {
        rho: cover(METHODS, correlation=rho, n_series=8 if is_small else 100)
        for rho in (0.0, 0.3, 0.6)
    }
    for rho, table in found.items():
        print(f"\ncorrelation of errors {rho:g}\n{table.to_string(float_format='{:.2f}'.format)}")
    return found


if __name__ == "__main__":
    main()
