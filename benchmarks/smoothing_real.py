"""Smoothing against straight lines on real series, the setting chosen on other data.

``python benchmarks/smoothing_real.py [--small]`` withholds observations of the HLS sites, both HLS
pixel series, ``ndvi_slovenia`` and ``flanders-2018``: ten seeds each, and a hundred where there are
few series, since ten would leave the ratio of one pixel uncertain by 5 %. *Dates*: a tenth of a
series. *Gaps*: two a year, their lengths drawn from the longer half of the intervals between clear
observations of the same data set, up to 60 days. *Thinned*: two observations of three. The rest is
smoothed and compared with what was withheld, and so are straight lines between its clear
observations, which are masked for clouds and nothing else.

Printed are ratios of RMSE, smooth over straight lines, of every setting on every data set; and of
the one setting that the *other* data sets choose, by the geometric mean of their ratios. Only the
second table says what to expect of series that nobody tuned on. Chosen from are the settings that
look at the series; a λ given once and for all stands beside them. Needs the real observations
(``XHARMONIZE_DATA``, or ``../shared/data``); ``--small`` does not: its series are simulated.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import series_real
import xarray as xr

import xharmonize as xh

MAX_GAP = 60
FIXED = "λ = "
SHARES = {"dates": 1 / 10, "thinned": 2 / 3}
KINDS = ("dates", "gaps", "thinned")


def settings(relaxations: tuple[float, ...] = (math.inf, 50, 30, 20, 10)) -> dict[str, Any]:
    """How λ is chosen and up to where, or its value, by relaxation time."""
    rules: dict[str, dict[str, Any]] = {
        f"{name} to 1e{exponent}": {
            "penalty": name,
            "candidates": tuple(10.0 ** (k / 2) for k in range(4, 2 * exponent + 1)),
        }
        for name in ("reml", "gcv", "v-curve")
        for exponent in (4, 5)
    }
    rules |= {f"{FIXED}{value:g}": {"penalty": value} for value in (100.0, 300.0, 1e3, 3e3)}
    return {
        f"{name}, τ = {tau:g}": xh.series.Whittaker(relaxation=tau, **options)
        for name, options in rules.items()
        for tau in relaxations
    }


def load(folder: Path) -> dict[str, list[xr.DataArray]]:
    """Series (time, series) of each data set, one value a day; those of one array share dates."""
    sentinel, landsat = series_real.load_flanders(folder)
    pixels = [folder / f"hls_pixel_series_{letter}.csv" for letter in "ab"]
    found = {
        "hls_sites": load_sites(folder / "hls_sites.csv"),
        **{path.stem.removeprefix("hls_"): [series_real.load_pixel(path)] for path in pixels},
        "ndvi_slovenia": [series_real.load_slovenia(folder)],
        "flanders-2018": [series_real.merged_ndvi(sentinel, landsat, "hls-v2")["ndvi"]],
    }
    return {name: [daily(one) for one in several] for name, several in found.items()}


def load_sites(path: Path) -> list[xr.DataArray]:
    """NDVI (time,) of each site of both HLS products."""
    table = pd.read_csv(path, parse_dates=["date"]).query("b4 > 0 and b5 > 0")
    table["ndvi"] = (table["b5"] - table["b4"]) / (table["b5"] + table["b4"])
    return [
        xr.DataArray(site["ndvi"], {"time": site["date"].to_numpy("datetime64[ns]")}, ("time",))
        for _, site in table.groupby("SITE_ID")
        if len(site) >= 8
    ]


def daily(series: xr.DataArray) -> xr.DataArray:
    """Mean of each day (time, series), in order."""
    bare = series.drop_vars([name for name in series.coords if name != "time"])
    bare = bare.expand_dims("x") if bare.ndim == 1 else bare
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # days without any clear observation
        bare = bare.groupby(bare["time"].dt.floor("D").rename("day")).mean()
    flat = bare.rename(day="time").stack(series=[d for d in bare.dims if d != "day"])
    return flat.drop_vars([name for name in flat.coords if name != "time"]).astype("float32")


def simulate(seed: int) -> list[xr.DataArray]:
    """A few seasons with noise and gaps (time, series)."""
    random = np.random.default_rng(seed)
    days = np.cumsum(random.integers(3, 13, 60))
    season = 0.5 - 0.3 * np.cos(2 * np.pi * days / 365.25) ** 3
    values = season[:, None] + random.normal(0, 0.03, (60, 4))
    values[random.random(values.shape) < 0.3] = np.nan
    dates = np.datetime64("2018-01-01", "ns") + days.astype("m8[D]")
    return [xr.DataArray(values.astype("float32"), {"time": dates}, ("time", "series"))]


def withhold(
    values: Any, days: Any, kind: str, lengths: Any, random: np.random.Generator
) -> np.ndarray:
    """Which observations (bool) of one series are left out; never its first and last."""
    known = np.flatnonzero(np.isfinite(values))
    inner, out = known[1:-1], np.zeros(days.size, bool)
    if inner.size < 3:
        return out
    if kind in SHARES:
        n_out = max(1, round(known.size * SHARES[kind]))
        out[random.choice(inner, min(n_out, inner.size - 1), replace=False)] = True
        return out
    n_gaps = max(1, round((days[known[-1]] - days[known[0]]) / 365.25 * 2))
    for _ in range(n_gaps):
        centre, length = days[random.choice(inner)], random.choice(lengths)
        out[inner] |= np.abs(days[inner] - centre) < length / 2
    return out


def gap_lengths(several: list[xr.DataArray]) -> np.ndarray:
    """The longer half of the intervals [day] between observations, up to `MAX_GAP`."""
    found = [
        np.diff(days_of(array)[np.isfinite(column)])
        for array in several
        for column in array.values.T
    ]
    every = np.concatenate(found)
    return every[(every > np.median(every)) & (every <= MAX_GAP)]


def days_of(series: xr.DataArray) -> np.ndarray:
    return series["time"].values.astype("datetime64[D]").astype(float)


Case = tuple[xr.DataArray, np.ndarray, np.ndarray]


def cases(several: list[xr.DataArray], kind: str, n_seeds: int) -> Iterator[Case]:
    """What is smoothed (time, series and seeds); what was withheld; straight lines there."""
    lengths = gap_lengths(several)
    for number, array in enumerate(several):
        days = days_of(array)
        rest, held = [], []
        for seed in range(n_seeds):
            random = np.random.default_rng([seed, number, KINDS.index(kind)])
            columns = array.values.T
            out = np.stack([withhold(c, days, kind, lengths, random) for c in columns], axis=1)
            rest.append(np.where(out, np.float32(np.nan), array.values))
            held.append(np.where(out, array.values, np.float32(np.nan)))
        left = np.concatenate(rest, axis=1)
        yield (
            xr.DataArray(left, {"time": array["time"]}, ("time", "series")),
            np.concatenate(held, axis=1),
            np.stack([straight_line(days, column) for column in left.T], axis=1),
        )


def straight_line(days: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Straight lines between the values of one series; NaN where there are none on both sides."""
    known = np.isfinite(values)
    if not known.any():
        return np.full(days.size, np.nan)
    return np.interp(days, days[known], values[known], left=np.nan, right=np.nan)


def errors(
    several: list[xr.DataArray], kind: str, methods: dict[str, Any], n_seeds: int
) -> pd.DataFrame:
    """Sum of squared errors of each method, of straight lines, and number of values compared."""
    found = dict.fromkeys(methods, np.zeros(3))
    for rest, held, lines in cases(several, kind, n_seeds):
        for name, method in methods.items():
            smooth = xh.series.smooth(rest, method, max_gap=MAX_GAP).values
            off, off_lines = smooth - held, lines - held
            both = np.isfinite(off) & np.isfinite(off_lines)
            sums = [np.square(off[both]).sum(), np.square(off_lines[both]).sum(), both.sum()]
            found[name] = found[name] + np.array(sums, float)
    return pd.DataFrame(found, index=["smooth", "lines", "observations"]).T


def is_image(several: list[xr.DataArray]) -> bool:
    """Whether there are many series; where there are few, ten seeds leave too much to chance."""
    return sum(array.sizes["series"] for array in several) > 100


def measure(
    sets: dict[str, list[xr.DataArray]], methods: dict[str, Any], n_seeds: int
) -> pd.DataFrame:
    """Sums of `errors` by setting (rows), and by data set, kind and sum (columns)."""
    parts = {
        (name, kind): errors(several, kind, methods, n_seeds * (1 if is_image(several) else 10))
        for name, several in sets.items()
        for kind in KINDS
    }
    return pd.concat(parts, axis=1)


def ratios(sums: pd.DataFrame) -> pd.DataFrame:
    """Ratio of RMSE to straight lines by setting (rows), and by data set and kind (columns)."""
    return np.sqrt(sums.xs("smooth", axis=1, level=2) / sums.xs("lines", axis=1, level=2))


def choose(found: pd.DataFrame) -> str:
    """Return the setting with the least geometric mean of ratios, of those that see the series."""
    adaptive = found[~found.index.str.startswith(FIXED)]
    return str(np.log(adaptive).mean(axis=1).idxmin())


def left_out(sums: pd.DataFrame) -> pd.DataFrame:
    """For each data set: the setting that the others choose, and its ratios on this one."""
    found = ratios(sums)
    rows, totals = {}, {}
    for name in found.columns.unique(level=0):
        chosen = choose(found.drop(columns=name, level=0))
        totals[name] = total = sums.loc[chosen, name][list(KINDS[:2])].groupby(level=1).sum()
        rows[name] = {
            "chosen on the others": chosen,
            **found.loc[chosen, name],
            "dates and gaps": np.sqrt(total["smooth"] / total["lines"]),
            "lines, RMSE": np.sqrt(total["lines"] / total["observations"]),
            "observations": int(total["observations"]),
        }
    return pd.concat([pd.DataFrame(rows).T, pooled(pd.DataFrame(totals))])


def pooled(totals: pd.DataFrame) -> pd.DataFrame:
    """Ratios over all data sets, from their sums: three ways of weighing them."""
    alike = totals / totals.loc["observations"]
    logs = np.log(totals.loc["smooth"] / totals.loc["lines"]) / 2
    found = {
        "pooled, data sets alike": np.sqrt(alike.loc["smooth"].sum() / alike.loc["lines"].sum()),
        "pooled, observations alike": np.sqrt(
            totals.loc["smooth"].sum() / totals.loc["lines"].sum()
        ),
        "geometric mean": np.exp(logs.mean()),
    }
    return pd.DataFrame({"dates and gaps": found})


def compare(
    sets: dict[str, list[xr.DataArray]], methods: dict[str, Any], *, n_seeds: int
) -> dict[str, pd.DataFrame]:
    """Print and return both tables: every setting on every data set, and chosen on the others."""
    sums = measure(sets, methods, n_seeds)
    logs = np.log(ratios(sums))
    every = np.exp(logs.T.groupby(level=0, sort=False).mean().T)
    for kind in KINDS:
        every[kind] = np.exp(logs.xs(kind, axis=1, level=1).mean(axis=1))
    every["all"] = np.exp(logs.mean(axis=1))
    found = {"every setting": every.sort_values("all"), "left out": left_out(sums)}
    for title, table in found.items():
        print(f"\n{title}\n{table.to_string(float_format=lambda v: f'{v:.3f}', na_rep='')}")
    print(f"chosen on all of them: {choose(ratios(sums))}")
    return found


def main(argv: list[str] | None = None) -> dict[str, pd.DataFrame]:
    """Print the tables and return them."""
    if "--small" in (sys.argv[1:] if argv is None else argv):
        sets = {f"simulated {seed}": simulate(seed) for seed in range(3)}
        return compare(sets, settings(relaxations=(math.inf, 20)), n_seeds=1)
    return compare(load(series_real.data_folder()), settings(), n_seeds=10)


if __name__ == "__main__":
    main()
