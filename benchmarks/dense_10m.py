"""Dense NDVI at 10 m: Sentinel-2 alone, and merged with Landsat that was sharpened to 10 m.

Run ``python benchmarks/dense_10m.py simulated FOLDER [--picture FILE]`` or ``… real``.

- *simulated*: fields that all bear winter wheat and then maize, as in paper 003, section 5.2; all
  dates of Sentinel-2 between mid May and mid July are taken away, as if under clouds, those of
  Landsat are as they come. NDVI of either series is smoothed to days; two seasons are found if
  there are two peaks with a prominence of at least 0.2 (`scipy.signal.find_peaks`), and the gap is
  not filled unless a limit of 90 days is asked for. Judged on pixels of two crops by NDVI of the
  truth: how many pixels have two seasons, the day of lowest NDVI between them, RMSE in the gap.
- *real* (``flanders-2018``): clear dates of Sentinel-2 are hidden, with all others within so many
  days of them, and NDVI at 10 m on their days is compared with what they had observed. Needs the
  real observations (``XHARMONIZE_DATA``, or ``../shared/data``).
"""

from __future__ import annotations

import argparse
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.signal import find_peaks

import xharmonize as xh
from xharmonize.simulate import Simulation, truth, write_catalog
from xharmonize.simulate.config import DEFAULT_ORBITS

BANDS = ["red", "nir08"]
GAP = ("2022-05-14", "2022-07-16")
PROMINENCE = 0.2
MODELS: dict[str, dict[str, Any]] = {
    "bilinear": {"model": "bilinear"},
    "atprk": {"model": "atprk"},
    "starfm-si, corrected": {"model": "starfm-si", "correct": True},
}
PLACE = Simulation(
    seed=12, start="2022-03-01", end="2022-10-31", size=(960.0, 960.0), cloudiness=0.35,
    center=(521.5 * 960, 5861.5 * 960), double_cropping=1.0,
    orbits=tuple(o for o in DEFAULT_ORBITS if o.relative_orbit in (51, 198)),
)  # fmt: skip


def merged(
    sentinel: xr.DataArray, landsat: xr.DataArray, *, tolerance: str = "60D", **options: Any
) -> xr.Dataset:
    """NDVI of both sensors at 10 m, Landsat without what disagrees with its own pixels."""
    sharp = xh.sharpen(landsat, sentinel, tolerance=tolerance, **options)
    return xh.densify(sentinel, sharp.sel(band=sentinel["band"].values)).harmonize.index("ndvi")


def alone(sentinel: xr.DataArray) -> Any:
    return xh.densify(sentinel).harmonize.index("ndvi")


def daily(ndvi: Any, max_gap: float) -> xr.DataArray:
    found = xh.series.smooth(ndvi, step="1D", max_gap=max_gap)
    return found["ndvi"] if isinstance(found, xr.Dataset) else found


def seasons(series: np.ndarray) -> int:
    """Peaks of a daily series (time,) that stand out; a gap parts it."""
    known = np.where(np.isfinite(series), series, 0.0)
    if np.isnan(series).all():
        return 0
    inside = np.flatnonzero(np.isfinite(series))
    part = series[inside[0] : inside[-1] + 1]
    if np.isnan(part).any():  # what lies in the gap is not known
        return -1
    return len(find_peaks(known, prominence=PROMINENCE)[0])


@dataclass(frozen=True, kw_only=True)
class Season:
    """The simulated place.

    Attributes
    ----------
    known : (time, y, x) DataArray
        True NDVI every second day.
    fields : (y, x) bool array
        Pure pixels of fields of two crops.
    """

    sentinel: xr.DataArray
    landsat: xr.DataArray
    known: xr.DataArray
    fields: np.ndarray


def read_season(folder: Path) -> Season:
    """Render the place, unless it is there, and its truth."""
    if not (folder / "catalog.json").exists():
        write_catalog(PLACE, folder)
    catalog = folder / "catalog.json"
    sentinel = xh.open_stac(catalog, collection="sentinel-2-l2a", bands=BANDS, resolution=10)
    sentinel = sentinel.compute()
    landsat = xh.open_stac(catalog, collection="landsat-c2-l2", bands=BANDS).compute()
    hidden = (sentinel["time"] > np.datetime64(GAP[0])) & (sentinel["time"] < np.datetime64(GAP[1]))
    days = pd.date_range("2022-03-01", "2022-10-31", freq="4D") + pd.Timedelta(hours=10.8)
    images, first = [], None
    for day in days:
        one = truth(PLACE, day.to_datetime64(), sensor="sentinel-2-l2a", like=sentinel)
        first = one if first is None else first
        red, near = (one["reflectance"].sel(band=name) for name in BANDS)
        images.append(((near - red) / (near + red)).compute())
    known = xr.concat(images, xr.DataArray(days.normalize(), dims="time", name="time"))
    assert first is not None
    is_two = (first["crop"].values == 6) & (first["purity"].values > 0.99)
    return Season(
        sentinel=sentinel.isel(time=~hidden.values), landsat=landsat, known=known, fields=is_two
    )


def simulated(folder: Path, picture: Path | None) -> pd.DataFrame:
    """Seasons found by either series."""
    season = read_season(folder)
    ndvi = {"Sentinel-2 alone": alone(season.sentinel)}
    for name, options in MODELS.items():
        ndvi[f"merged, {name}"] = merged(season.sentinel, season.landsat, **options)
    lines, rows = {}, {}
    for name, one in ndvi.items():
        for max_gap in (60.0, 90.0):
            line = daily(one, max_gap)
            lines[name, max_gap] = line
            rows[name, max_gap] = judge_season(line, season) | {
                "dates in the gap": dates_in_gap(one)
            }
    table = pd.DataFrame(rows).T.rename_axis(["series", "longest gap filled [day]"])
    if picture is not None:
        draw(season, ndvi, lines, picture)
    return table


def dates_in_gap(ndvi: Any) -> float:
    values = (ndvi["ndvi"] if isinstance(ndvi, xr.Dataset) else ndvi).sel(time=slice(*GAP))
    return float(values.notnull().sum("time").mean())


def judge_season(line: xr.DataArray, season: Season) -> dict[str, float]:
    """Seasons, the low between them and errors in the gap, on fields of two crops."""
    days = line["time"].dt.floor("D").values
    values = line.transpose("time", "y", "x").values[:, season.fields]
    counts = np.array([seasons(one) for one in values.T])
    wanted = season.known.values[:, season.fields]
    inside = (season.known["time"].values > np.datetime64(GAP[0])) & (
        season.known["time"].values < np.datetime64(GAP[1])
    )
    at = np.searchsorted(days, season.known["time"].values[inside])
    error = values[at] - wanted[inside]
    given = np.isfinite(error)
    low = wanted[inside].argmin(axis=0) * 4.0
    whole = np.isfinite(values[at]).all(axis=0)
    found = np.where(np.isfinite(values[at]), values[at], np.inf).argmin(axis=0) * 4.0
    return {
        "two seasons": float((counts == 2).mean()),
        "one": float((counts == 1).mean()),
        "gap not filled": float((counts < 0).mean()),
        "RMSE in the gap": float(np.sqrt(np.mean(error[given] ** 2))) if given.any() else np.nan,
        "low found within 12 days": float((np.abs(found - low) <= 12)[whole].mean())
        if whole.any()
        else np.nan,
    }


def draw(season: Season, ndvi: Any, lines: Any, path: Path) -> None:
    """Draw the series of the field pixel nearest to the middle."""
    import matplotlib.pyplot as plt

    rows, columns = np.nonzero(season.fields)
    middle = np.array(season.fields.shape) / 2
    at = np.argmin((rows - middle[0]) ** 2 + (columns - middle[1]) ** 2)
    pixel = {"y": int(rows[at]), "x": int(columns[at])}
    shown = ["Sentinel-2 alone", "merged, starfm-si, corrected"]
    figure, axes = plt.subplots(2, 1, figsize=(8, 5.6), sharex=True, sharey=True)
    for ax, name in zip(axes, shown):
        ax.axvspan(*pd.to_datetime(GAP), color="0.93")
        ax.plot(season.known["time"], season.known.isel(pixel), color="0.6", lw=3, label="truth")
        line = lines[name, 90.0].isel(pixel)
        ax.plot(line["time"], line, color="tab:green", label="smoothed, gaps up to 90 days filled")
        one = ndvi[name]["ndvi"] if isinstance(ndvi[name], xr.Dataset) else ndvi[name]
        for sensor, mark in (("sentinel-2-l2a", "o"), ("landsat-c2-l2", "s")):
            part = one.isel(pixel).isel(time=(one["sensor"] == sensor).values)
            label = "Sentinel-2" if mark == "o" else "Landsat at 10 m"
            ax.plot(part["time"], part, mark, ms=4, ls="", label=label)
        ax.set_title(name, fontsize=9)
        ax.set_ylabel("NDVI")
    axes[1].legend(fontsize=8, loc="lower left")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def real(around: float) -> pd.DataFrame:
    """Clear dates of Flanders hidden, with all others of Sentinel-2 within days around."""
    folder = Path(os.environ.get("XHARMONIZE_DATA", "../shared/data"))
    catalog = folder / "flanders-2018" / "catalog.json"
    whole: dict[str, Any] = {"datetime": "2018-02/2018-11", "bands": BANDS}
    landsat = xh.open_stac(catalog, collection="landsat-8-c1-sr", mosaic="solar_day", **whole)
    sentinel = xh.open_stac(
        catalog, collection="sentinel-2-l2a", resolution=10, platform="infer", **whole
    )
    landsat, sentinel = landsat.compute(), sentinel.compute()
    share = sentinel.notnull().all("band").mean(["y", "x"])
    inside = (sentinel["time"] > np.datetime64("2018-04-15")) & (
        sentinel["time"] < np.datetime64("2018-10-15")
    )
    judged = sentinel["time"].values[((share > 0.9) & inside).values][::3]
    rows: dict[str, list[dict[str, float]]] = {}
    for moment in judged:
        apart = np.abs(sentinel["time"].values - moment) / np.timedelta64(1, "D")
        rest = sentinel.isel(time=apart > around)
        fit = xh.fit_linear(xh.match_pairs(landsat, xh.regrid(rest, like=landsat), tolerance="3D"))
        wanted = alone(sentinel.sel(time=[moment]))["ndvi"].values[0]
        found = {"Sentinel-2 alone": alone(rest)}
        for name, options in MODELS.items():
            found[f"merged, {name}"] = merged(rest, landsat, bandpass=fit, **options)
        images = {}
        for name, one in found.items():
            line = daily(one, 60.0)
            images[name] = line.sel(time=moment, method="nearest").values
        ok = np.isfinite(wanted)
        for image in images.values():
            ok &= np.isfinite(image)
        if ok.mean() < 0.2:
            continue
        gap = np.abs(landsat["time"].values - moment) / np.timedelta64(1, "D")
        clear = landsat.notnull().all("band").mean(["y", "x"]).values > 0.5
        for name, image in images.items():
            error = image[ok] - wanted[ok]
            rows.setdefault(name, []).append(
                {
                    "RMSE": float(np.sqrt(np.mean(error**2))),
                    "bias": float(error.mean()),
                    "r": float(np.corrcoef(image[ok], wanted[ok])[0, 1]),
                    "Landsat near": float(gap[clear].min() <= 5),
                }
            )
    every = {name: pd.DataFrame(parts) for name, parts in rows.items()}
    table = pd.DataFrame({name: part.mean() for name, part in every.items()}).T
    table["dates"] = [len(part) for part in every.values()]
    base = every["Sentinel-2 alone"]["RMSE"]
    table["better than alone"] = [(part["RMSE"] < base).mean() for part in every.values()]
    near = every["Sentinel-2 alone"]["Landsat near"] > 0
    table["RMSE, Landsat within 5 days"] = [part["RMSE"][near].mean() for part in every.values()]
    return table


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("simulated", "real"))
    parser.add_argument("folder", nargs="?", type=Path, default=Path("dense"))
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    if given.what == "simulated":
        found = simulated(given.folder, given.picture)
        print(found.round(3).to_string())
        return found
    for around in (5.0, 15.0):  # by 30 the gap is longer than what is filled
        found = real(around)
        print(f"\nall dates of Sentinel-2 within {around:g} days hidden")
        print(found.round(4).to_string())
    return found


if __name__ == "__main__":
    main()
