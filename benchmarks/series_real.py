"""Dense series on real observations: steps between sensors, smoothing, values withheld.

``python benchmarks/series_real.py [part …]`` with parts ``steps``, ``withheld``, ``pixels``,
``months`` (all of them if none is named); prints one table each. Needs the real observations
(``XHARMONIZE_DATA``, or ``../shared/data``).

Withheld: every clear observation is left out once, with all others of its date (one fold in ten
dates), and so is, in turn, everything within 15 days of an observation; the rest is smoothed and
compared with what was left out, beside straight lines between the nearest clear observations on the
same values.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import xharmonize as xh

PAIRS = ("2018-02-07", "2018-02-23", "2018-07-01", "2018-07-17", "2018-07-24", "2018-10-05")
METHODS: dict[str, Any] = {
    "whittaker": xh.series.Whittaker(),
    "whittaker, cross-validation": xh.series.Whittaker(penalty="gcv"),
    "whittaker, V-curve": xh.series.Whittaker(penalty="v-curve"),
    "whittaker, λ = 1000": xh.series.Whittaker(penalty=1e3),
    "savgol": xh.series.SavitzkyGolay(),
    "harmonic": xh.series.Harmonic(),
    "rbf": xh.series.RadialBasis(),
}


def data_folder() -> Path:
    named = os.environ.get("XHARMONIZE_DATA")
    return Path(named) if named else Path(__file__).parents[2] / "shared" / "data"


def load_flanders(folder: Path) -> tuple[xr.DataArray, xr.DataArray]:
    """Red and near infrared of Sentinel-2, on Landsat's grid, and of Landsat-8; masked."""
    catalog = folder / "flanders-2018" / "catalog.json"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
        sentinel, landsat = (
            xh.open_stac(
                catalog,
                collection=collection,
                bands=["red", "nir08"],
                platform=platform,
                mosaic="solar_day",
                datetime="2017-11-01/2018-11-30",
            )
            for collection, platform in (("sentinel-2-l2a", "infer"), ("landsat-8-c1-sr", None))
        )
    sentinel = sentinel.harmonize.regrid(like=landsat, min_valid=1.0)
    return sentinel.load(), landsat.load()


def to_oli(sentinel: xr.DataArray, model: Any) -> xr.DataArray:
    """Sentinel-2 into Landsat's bandpass; None leaves the values as they are."""
    if model is not None:
        return xh.to_landsat(sentinel, model)
    return sentinel.assign_coords(bandpass=("time", ["oli"] * sentinel.sizes["time"]))


def merged_ndvi(sentinel: xr.DataArray, landsat: xr.DataArray, model: Any) -> xr.Dataset:
    return xh.densify(landsat, to_oli(sentinel, model)).harmonize.index("ndvi")


def match(sentinel: xr.DataArray, landsat: xr.DataArray) -> xr.Dataset:
    """The clear pairs of the site; the hazy 18 July is left out before the nearest is chosen."""
    days = {
        name: cube["time"].dt.strftime("%Y-%m-%d")
        for name, cube in (("s", sentinel), ("l", landsat))
    }
    target = landsat.isel(time=np.flatnonzero(days["l"].isin(PAIRS).values))
    source = sentinel.isel(time=np.flatnonzero((days["s"] != "2018-07-18").values))
    return xh.match_pairs(source, target, tolerance="60h")


def steps(folder: Path) -> pd.DataFrame:
    """NDVI of Sentinel-2 minus Landsat: in the series, and on pairs whose fit has not seen them."""
    sentinel, landsat = load_flanders(folder)
    pairs = match(sentinel, landsat)
    whole = {"as delivered": None, "hls-v2": "hls-v2", "lines, least squares": xh.fit_linear(pairs)}
    fields = read_fields(folder)
    rows = {}
    for name, model in whole.items():
        screened = merged_ndvi(sentinel, landsat, model).harmonize.screen_outliers(
            direction="below"
        )
        found = screened.harmonize.sensor_offsets(reference="landsat-c1-sr")
        rows[name] = {
            "step in the series": float(found["offset"][0]),
            "± one standard error": float(found["standard_error"][0]),
            "dates": int(found["n_dates"][0]),
            **unseen_step(pairs, sentinel, landsat, name, model),
            **field_step(screened, fields),
        }
    return pd.DataFrame(rows).T


def unseen_step(
    pairs: xr.Dataset, sentinel: xr.DataArray, landsat: xr.DataArray, name: str, model: Any
) -> dict[str, float]:
    """Mean and root mean square over pairs of the NDVI step, fits made without the pair."""
    found = []
    for k in range(pairs.sizes["pair"]):
        rest = pairs.isel(pair=[i for i in range(pairs.sizes["pair"]) if i != k])
        own = xh.fit_linear(rest) if name.startswith("lines") else model
        observation = sentinel.sel(time=[pairs["time_source"].values[k]])
        estimate = xh.index(to_oli(observation, own), "ndvi").values[0]
        truth = xh.index(landsat.sel(time=[pairs["time_target"].values[k]]), "ndvi").values[0]
        found.append(np.nanmean(estimate - truth))
    return {"unseen pairs, mean": float(np.mean(found)), "unseen pairs, RMS": _rms(found)}


def read_fields(folder: Path, *, min_area: float = 10_000.0) -> dict[str, Any]:
    """Crop fields of the site [m²], as GeoJSON in the CRS of the labels."""
    import rasterio
    from rasterio.features import shapes

    with rasterio.open(folder / "flanders-2018" / "labels_CT.tif") as file:
        labels = file.read(1).astype("int32")
        found = list(shapes(labels, mask=labels > 0, transform=file.transform))
        crs = file.crs
    kept = [shape for shape, _ in found if _area(shape) >= min_area]
    return {"polygons": kept, "crs": crs.to_wkt()}


def _area(shape: dict[str, Any]) -> float:
    from shapely.geometry import shape as to_shapely

    return float(to_shapely(shape).area)


def field_step(ndvi: xr.Dataset, fields: dict[str, Any]) -> dict[str, float]:
    """Root mean square over fields of the step in the field's own series."""
    table = ndvi.harmonize.to_table(**fields, buffer=-15)
    table = table[table["n_pixels"] > 1]
    values = table.pivot(index="time", columns="field", values="ndvi").sort_index()
    sensors = table.drop_duplicates("time").set_index("time")["sensor"].reindex(values.index)
    coords = {
        "time": values.index.tz_localize(None).to_numpy("datetime64[ns]"),
        "sensor": ("time", sensors.to_numpy(str)),
        "field": values.columns.to_numpy(),
    }
    series = xr.DataArray(values.to_numpy("float32"), coords, ("time", "field"), name="ndvi")
    offsets = series.harmonize.sensor_offsets(reference="landsat-c1-sr")["offset"]
    return {"fields": int(offsets.notnull().sum()), "fields, RMS of step": _rms(offsets)}


def _rms(values: Any) -> float:
    return float(np.sqrt(np.nanmean(np.square(values))))


def load_slovenia(folder: Path, *, step: int = 4) -> xr.DataArray:
    """NDVI (time, y, x) without clouds, every `step`-th pixel."""
    place = folder / "ndvi_slovenia"
    times = pd.to_datetime(json.loads((place / "timestamps.json").read_text()))
    ndvi = np.load(place / "data" / "NDVI.npy")[..., 0]
    clear = np.load(place / "mask" / "IS_VALID.npy")[..., 0].astype(bool)
    clear &= np.load(place / "mask" / "CLM.npy")[..., 0] == 0
    values = np.where(clear, ndvi, np.float32(np.nan))[:, ::step, ::step]
    coords = {"time": times.to_numpy("datetime64[ns]")}
    return xr.DataArray(values, coords, ("time", "y", "x"), name="ndvi")


def straight_lines(series: xr.DataArray) -> xr.DataArray:
    """Linear interpolation between clear observations on true spacing, by xarray."""
    days = (series["time"] - series["time"][0]) / np.timedelta64(1, "D")
    dated = series.assign_coords(day=("time", days.values)).swap_dims(time="day")
    dated = dated.drop_duplicates("day").sortby("day")
    return dated.interpolate_na("day").swap_dims(day="time").sel(time=series["time"])


def folds(series: xr.DataArray, *, gap: float, n_folds: int) -> list[np.ndarray]:
    """Dates (bool) left out together: spread over the series, with all within `gap` days."""
    days = ((series["time"] - series["time"][0]) / np.timedelta64(1, "D")).values
    clear = np.flatnonzero(series.notnull().mean([d for d in series.dims if d != "time"]) > 0.3)
    found = []
    for k in range(n_folds):
        centres = clear[k::n_folds]
        out = (np.abs(days[:, None] - days[centres]) <= gap).any(axis=1)
        found.append(out)
    return found


def withheld_errors(
    series: xr.DataArray, *, gap: float, n_folds: int, max_gap: float = 150.0
) -> pd.DataFrame:
    """RMSE at observations that were left out, and that of straight lines on the same values."""
    errors: dict[str, list[np.ndarray]] = {name: [] for name in METHODS}
    for out in folds(series, gap=gap, n_folds=n_folds):
        kept = series.where(~xr.DataArray(out, dims="time"))
        truth = series.values[out]
        lines = straight_lines(kept).values[out] - truth
        for name, method in METHODS.items():
            found = xh.series.smooth(kept, method, max_gap=max_gap).values[out] - truth
            common = np.isfinite(found) & np.isfinite(lines)
            errors[name].append(np.stack([found[common], lines[common]]))
    rows = {}
    for name, parts in errors.items():
        ours, lines = np.concatenate(parts, axis=1)
        rows[name] = {
            "RMSE": _rms(ours),
            "straight lines": _rms(lines),
            "ratio": _rms(ours) / _rms(lines),
            "n": int(ours.size),
        }
    return pd.DataFrame(rows).T


def withheld(folder: Path) -> dict[str, pd.DataFrame]:
    """Tables of both places; single dates, and gaps of 30 days."""
    sentinel, landsat = load_flanders(folder)
    flanders = merged_ndvi(sentinel, landsat, "hls-v2")
    flanders = flanders.harmonize.screen_outliers(direction="below")["ndvi"]
    found = {}
    slovenia = load_slovenia(folder).harmonize.screen_outliers(direction="below")
    for place, series in (("flanders-2018", flanders), ("ndvi_slovenia", slovenia)):
        series = series.drop_vars([n for n in series.coords if n not in ("time", "y", "x")])
        found[f"{place}, single dates"] = withheld_errors(series, gap=0.5, n_folds=10)
        found[f"{place}, gaps of 30 days"] = withheld_errors(series, gap=15, n_folds=12)
    return found


def load_pixel(path: Path) -> xr.DataArray:
    """NDVI (time,) of an HLS pixel series, clear observations, with its sensors."""
    table = pd.read_csv(path).rename(columns=str.lower)
    table = table[table["qa"].isin((0, 1)) & (table["red"] > 0) & (table["nir"] > 0)]
    ndvi = (table["nir"] - table["red"]) / (table["nir"] + table["red"])
    days = pd.to_datetime(table["dates"] - 719163, unit="D").to_numpy("datetime64[ns]")
    sensors = table["sensor"].map({2: "hls-s30", 8: "hls-l30"}).to_numpy(str)
    coords = {"time": days, "sensor": ("time", sensors)}
    return xr.DataArray(ndvi.to_numpy("float32"), coords, ("time",), name="ndvi")


def pixels(folder: Path) -> pd.DataFrame:
    """The same calls on the HLS pixel series."""
    rows = {}
    for path in sorted(folder.glob("hls_pixel_series_*.csv")):
        raw = load_pixel(path)
        series = raw.harmonize.screen_outliers(direction="below")
        found = series.harmonize.sensor_offsets(reference="hls-l30")
        daily = series.harmonize.smooth(step="1D")
        seasons = daily.harmonize.phenology()
        rhythm = series.harmonize.frequency()["revisit"]
        plain = series.drop_vars("sensor").groupby("time").mean()
        errors = withheld_errors(plain, gap=0.5, n_folds=10).iloc[0]
        rows[path.stem[-1]] = {
            "observations": raw.size,
            "outliers": int(raw.notnull().sum() - series.notnull().sum()),
            "step S30 - L30": float(found["offset"][0]),
            "± one standard error": float(found["standard_error"][0]),
            "years with a season": int(seasons["peak"].notnull().sum()),
            "revisit, L30 [day]": float(rhythm.sel(sensor="hls-l30")),
            "revisit, both [day]": float(rhythm.sel(sensor="all")),
            "withheld RMSE, whittaker": errors["RMSE"],
            "withheld RMSE, straight lines": errors["straight lines"],
        }
    return pd.DataFrame(rows)


def months(folder: Path) -> pd.DataFrame:
    """Scenes a month with more than half of the site valid: Landsat alone, merged, ratio."""
    sentinel, landsat = load_flanders(folder)
    found = xh.densify(landsat, xh.to_landsat(sentinel)).harmonize.frequency().sel(fraction=0.5)
    own = found["scenes"].sel(sensor="landsat-c1-sr")
    table = pd.DataFrame(
        {
            "Landsat alone": own.values,
            "merged": found["scenes"].sel(sensor="all").values,
            "ratio": found["ratio"].sel(sensor="landsat-c1-sr").values,
        },
        index=found["month"].dt.strftime("%Y-%m").values,
    )
    total = table[["Landsat alone", "merged"]].sum()
    table.loc["all"] = [*total, total["merged"] / total["Landsat alone"]]
    for name in ("revisit", "longest_gap"):
        each = found[name].mean(("y", "x"))
        print(
            f"{name}, Landsat {float(each.sel(sensor='landsat-c1-sr')):.1f} days, "
            f"merged {float(each.sel(sensor='all')):.1f} days"
        )
    return table


PARTS: dict[str, Callable[[Path], Any]] = {
    "steps": steps,
    "withheld": withheld,
    "pixels": pixels,
    "months": months,
}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Print the tables and return them."""
    named = (sys.argv[1:] if argv is None else argv) or list(PARTS)
    found = {name: PARTS[name](data_folder()) for name in named}
    for name, result in found.items():
        for title, table in result.items() if isinstance(result, dict) else ((name, result),):
            print(f"\n{title}\n{table.to_string(float_format=lambda v: f'{v:.4f}')}")
    return found


if __name__ == "__main__":
    main()
