"""Leave one date out on real pairs: identity, HLS v2, lines and six-band least squares.

Run ``python benchmarks/linear_flanders.py [catalog.json]``; prints ERGAS (ratio 1), SAM [degree]
and NDVI RMSE [1] against Landsat on its own grid, the mean over dates, each date weighing the same.
Needs the real observations (``XHARMONIZE_DATA``, or ``../shared/data``).
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import numpy as np
import xarray as xr

import xharmonize as xh

BANDS = ["blue", "green", "red", "nir08", "swir16", "swir22"]
ALL_BANDS = [*BANDS[:3], "rededge1", "rededge2", "rededge3", "nir", *BANDS[3:]]
PAIRS = {  # Landsat date: Sentinel-2 date
    "2018-02-07": "2018-02-08",
    "2018-02-23": "2018-02-25",
    "2018-07-01": "2018-06-30",
    "2018-07-17": "2018-07-15",
    "2018-07-24": "2018-07-23",
    "2018-10-05": "2018-10-06",
}


def load_pairs(catalog: str | Path) -> tuple[xr.Dataset, xr.DataArray, xr.DataArray]:
    """Pairs on Landsat's grid, and the two cubes of the dates of the pairs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
        options = {"datetime": "2018-02-01/2018-10-31"}
        sentinel = xh.open_stac(
            catalog,
            collection="sentinel-2-l2a",
            bands=ALL_BANDS,
            resolution=10,
            platform="infer",
            **options,
        )
        landsat = xh.open_stac(catalog, collection="landsat-8-c1-sr", bands=BANDS, **options)
    source = _dates(sentinel, list(PAIRS.values()))
    source = source.harmonize.regrid(like=landsat, min_valid=1.0).load()
    target = _dates(landsat, list(PAIRS)).load()
    return xh.match_pairs(source, target, tolerance="60h"), source, target


def _dates(cube: xr.DataArray, dates: list[str]) -> xr.DataArray:
    days = cube["time"].values.astype("datetime64[D]").astype(str)
    return cube.isel(time=np.flatnonzero(np.isin(days, dates)))


def score(estimate: np.ndarray, reference: np.ndarray) -> tuple[float, float, float]:
    """ERGAS, SAM [degree] and NDVI RMSE [1] of (band, y, x) arrays, where both are valid."""
    ok = np.isfinite(estimate).all(axis=0) & np.isfinite(reference).all(axis=0)
    e, r = estimate[:, ok].astype(float), reference[:, ok].astype(float)
    ergas = 100 * np.sqrt(np.mean(((e - r) ** 2).mean(axis=1) / r.mean(axis=1) ** 2))
    cosine = (e * r).sum(axis=0) / np.linalg.norm(e, axis=0) / np.linalg.norm(r, axis=0)
    sam = np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean()
    ndvi_e, ndvi_r = ((v[3] - v[2]) / (v[3] + v[2]) for v in (e, r))
    return float(ergas), float(sam), float(np.sqrt(np.mean((ndvi_e - ndvi_r) ** 2)))


def _cube(pairs: xr.Dataset, target: xr.DataArray) -> xr.DataArray:
    """Landsat dates of some pairs."""
    return target.sel(time=pairs["time_target"].values)


def evaluate(pairs: xr.Dataset, source: xr.DataArray, target: xr.DataArray) -> dict[str, list]:
    """Scores (pair, 3) of each method, fitted on the other pairs."""
    methods = {
        "identity": lambda _: None,
        "hls-v2": lambda _: "hls-v2",
        "line per band (OLS)": lambda rest: xh.fit_linear(rest),
        "line per band (Deming)": lambda rest: xh.fit_linear(rest, method="deming"),
        "six-band least squares": lambda rest: xh.fit_linear(rest, method="multiband"),
        "ten-band least squares": lambda rest: xh.fit_linear(
            rest, method="multiband", predictors=source
        ),
        "six-band, dates weigh the same": lambda rest: xh.fit_linear(
            rest, method="multiband", weight="pair"
        ),
    }
    methods["line per pixel"] = lambda rest: xh.fit_pixelwise(rest, days=(0, 1, 3), n_min=4)
    methods["line per pixel, else per band"] = lambda rest: xh.fit_pixelwise(
        rest, days=(0, 1, 3), n_min=4, fallback="line"
    )
    methods["one look-up table per band"] = lambda rest: xh.fit_lut(rest)
    methods["histogram, stored source"] = lambda rest: xh.fit_histogram(
        _cube(rest, target), source=source.sel(time=rest["time_source"].values)
    )
    methods["histogram, per date"] = lambda rest: xh.fit_histogram(_cube(rest, target), per="date")
    result: dict[str, list] = {name: [] for name in methods}
    for k in range(pairs.sizes["pair"]):
        rest = pairs.isel(pair=[i for i in range(pairs.sizes["pair"]) if i != k])
        observation = source.sel(time=[pairs["time_source"].values[k]])
        truth = target.sel(time=pairs["time_target"].values[k]).values
        for name, make in methods.items():
            model = make(rest)
            estimate = observation if model is None else xh.to_landsat(observation, model)
            result[name].append(score(estimate.sel(band=BANDS).values[0], truth))
    return result


def main() -> None:
    """Print the table."""
    folder = os.environ.get("XHARMONIZE_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    catalog = sys.argv[1] if len(sys.argv) > 1 else f"{folder}/flanders-2018/catalog.json"
    pairs, source, target = load_pairs(catalog)
    scores = evaluate(pairs, source, target)
    dates = [str(t)[5:10] for t in pairs["time_target"].values]
    print(f"{'ERGAS / SAM / NDVI RMSE':32}{'mean':>19}" + "".join(f"{d:>19}" for d in dates))
    for name, rows in scores.items():
        cells = [np.mean(rows, axis=0), *rows]
        print(f"{name:32}" + "".join(f"{a:7.2f}{b:6.2f}{c:6.3f}" for a, b, c in cells))


if __name__ == "__main__":
    main()
