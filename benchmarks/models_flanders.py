"""Look-up tables and a trained network on real pairs, one date left out.

Run ``python benchmarks/models_flanders.py BUNDLE [catalog.json]``, BUNDLE a generator such as
``examples/make_small_bundle.py`` writes. Pairs, scores and data are those of
``linear_flanders.py``: tables are fitted on the other five dates, the network has seen none. Each
method is scored twice, as it is and with the mean difference of each band and date removed: the
two products of 2018 differ by an amount that changes from date to date and that nobody can know
beforehand.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from linear_flanders import BANDS, load_pairs, score

import xharmonize as xh

TILE = 320.0
"""Side of the tiles of histograms [m]: the site has 640 m."""


def load_fine(catalog: str | Path, times: xr.DataArray) -> xr.DataArray:
    """Sentinel-2's dates at 10 m, all bands, as a network takes them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
        cube = xh.open_stac(
            catalog,
            collection="sentinel-2-l2a",
            datetime="2018-02-01/2018-10-31",
            resolution=10,
            platform="infer",
        )
    return cube.sel(time=times.values).load()


def matched_tables(observation: xr.DataArray, reference: xr.DataArray) -> xr.DataArray:
    """Give each tile of a date the distribution of Landsat's other dates."""
    model = xh.fit_histogram(reference)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xh.errors.RadiometryWarning)  # tiles reach beyond the site
        tables = xh.fit_tables(observation, model, tile=TILE, interpolate=True)
    return xh.to_landsat(observation, model, tables=tables)


def evaluate(catalog: str | Path, bundle: str | Path) -> dict[str, list[tuple[float, ...]]]:
    """ERGAS, SAM [degree] and NDVI RMSE [1] per pair and method, then the same without means."""
    pairs, source, target = load_pairs(catalog)
    generated = xh.to_landsat(
        load_fine(catalog, pairs["time_source"]), xh.load_model(bundle), like=target
    )
    methods: dict[str, Callable[[Any, xr.DataArray], xr.DataArray]] = {
        "identity": lambda _, observation: observation,
        "line per band (OLS)": lambda rest, observation: xh.to_landsat(
            observation, xh.fit_linear(rest)
        ),
        "table per band (fit_lut)": lambda rest, observation: xh.to_landsat(
            observation, xh.fit_lut(rest)
        ),
        "tables per tile, matched": lambda rest, observation: matched_tables(
            observation, target.sel(time=rest["time_target"].values)
        ),
        "network": lambda _, observation: generated.sel(time=observation["time"]),
    }
    result: dict[str, list[tuple[float, ...]]] = {name: [] for name in methods}
    for k in range(pairs.sizes["pair"]):
        rest = pairs.isel(pair=[i for i in range(pairs.sizes["pair"]) if i != k])
        observation = source.sel(time=[pairs["time_source"].values[k]]).sel(band=BANDS)
        truth = target.sel(time=pairs["time_target"].values[k], band=BANDS).values
        for name, method in methods.items():
            estimate = method(rest, observation).sel(band=BANDS).values[0]
            estimate = np.where(np.isfinite(observation.values[0]), estimate, np.nan)
            shift = np.nanmean(truth - estimate, axis=(1, 2), keepdims=True)
            result[name].append((*score(estimate, truth), *score(estimate + shift, truth)))
    return result


def main() -> None:
    """Print the table."""
    folder = os.environ.get("XHARMONIZE_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    catalog = sys.argv[2] if len(sys.argv) > 2 else f"{folder}/flanders-2018/catalog.json"
    print(f"{'':28}{'as it is':>24}{'mean of date removed':>26}")
    print(f"{'':28}" + f"{'ERGAS':>10}{'SAM':>6}{'NDVI':>8}" * 2)
    for name, rows in evaluate(catalog, sys.argv[1]).items():
        mean = np.mean(rows, axis=0)
        cells = [f"{a:10.2f}{b:6.2f}{c:8.3f}" for a, b, c in (mean[:3], mean[3:])]
        print(f"{name:28}{''.join(cells)}")


if __name__ == "__main__":
    main()
