"""What `phenology` says of seasons that a series shows in part.

``python benchmarks/seasons.py [--pixels 200] [--seed 5]`` prints one table; constants were chosen
on seed 0. Seasons of double-logistic shape whose start is known are seen every five days with 30 %
missing and noise of .02, and smoothed to days; the series begins so many days before (below 0) or
after the true start. By symmetry the same holds of ends.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

import xharmonize as xh

BEGINS = (-120, -90, -60, -45, -30, -20, -10, 0, 3, 10, 20, 30)
THRESHOLD = 0.2
FIRST = np.datetime64("2017-07-01")
N_DAYS = 730
NOISE = 0.02


def make_seasons(n_pixels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """NDVI (day, pixel) of two seasons, and the day on which the first starts in truth."""
    random = np.random.default_rng(seed)
    days = np.arange(N_DAYS)[:, None]
    first = 290 + random.normal(0, 12, n_pixels)
    values = np.full((N_DAYS, n_pixels), 0.2)
    for rise in (first, first + 365):
        fall = rise + random.uniform(80, 130, n_pixels)
        pace, pace_down = random.uniform(6, 14, (2, n_pixels))
        up, down = (days - rise) / pace, (days - fall) / pace_down
        height = random.uniform(0.4, 0.6, n_pixels)
        values += height * (1 / (1 + np.exp(-up)) - 1 / (1 + np.exp(-down)))
    peak = values[:400].argmax(axis=0)
    level = 0.2 + THRESHOLD * (values[:400].max(axis=0) - 0.2)
    is_low = (values < level) & (days < peak)
    return values, N_DAYS - is_low[::-1].argmax(axis=0)


def observe(values: np.ndarray, seed: int) -> xr.DataArray:
    """Observations every five days, 30 % missing, with noise."""
    random = np.random.default_rng(seed)
    observations = values[::5] + random.normal(0, NOISE, values[::5].shape)
    observations[random.random(observations.shape) < 0.3] = np.nan
    dates = (FIRST + np.arange(0, N_DAYS, 5).astype("m8[D]")).astype("M8[ns]")
    return xr.DataArray(observations.astype("float32"), {"time": dates}, ("time", "x"), name="ndvi")


def cut_rates(observations: xr.DataArray, start: np.ndarray, begin: int) -> dict[str, float]:
    """Seasons of series that begin `begin` days after the true start of each."""
    day = np.arange(0, N_DAYS, 5)[:, None]
    cut = observations.where(xr.DataArray(day >= start + begin, dims=("time", "x")))
    found = xh.series.phenology(xh.series.smooth(cut, step="1D"), threshold=THRESHOLD)
    season = found.sel(year=int(str(FIRST)[:4]) + 1)
    error = (season["start"].values - FIRST) / np.timedelta64(1, "D") - start
    known = error[np.isfinite(error)]
    rates = {"dated": known.size / start.size}
    if "cut" in season:
        rates["said to be cut"] = float(np.isin(season["cut"], (1, 3)).mean())
    rates["median error [day]"] = float(np.median(known)) if known.size else np.nan
    rates["90 % of errors within [day]"] = (
        float(np.quantile(np.abs(known), 0.9)) if known.size else np.nan
    )
    return rates


def main(argv: Sequence[str] | None = None) -> pd.DataFrame:
    """Print the table and return it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pixels", type=int, default=200)
    parser.add_argument("--seed", type=int, default=5)
    given = parser.parse_args(argv)
    values, start = make_seasons(given.pixels, given.seed)
    observations = observe(values, given.seed + 1)
    rows = {begin: cut_rates(observations, start, begin) for begin in BEGINS}
    table = pd.DataFrame(rows).T.rename_axis("series begins, days after the true start")
    print(table.to_string(float_format=lambda value: f"{value:.2f}"))
    return table


if __name__ == "__main__":
    main()
