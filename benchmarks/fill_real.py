"""Clouds filled on real observations: clear dates hidden and rebuilt.

``python benchmarks/fill_real.py`` prints one table; ``--picture FILE`` also draws one date. It
needs the real observations (``XHARMONIZE_DATA``, or ``../shared/data``). With ``--simulated`` the
places are two simulated seasons of fields 40 km apart, without haze, whose radar follows the
water-cloud model.

Every second clear date of two places (flanders-2018, flanders-2019) is hidden, with all dates up to
0, 10, 20 or 35 days around it, and rebuilt from the others; in the rows "clouds", only the pixels
that clouds of another date cover are hidden. Sentinel-1 regressions are fitted on the other place,
or on the same one without the quarter of the dates that is judged, as the semivariogram of the
others is. Dates that screening for haze refuses are left out everywhere. Scores are of pixels that
all methods give: means over dates, of r2 and kge, which have no lower bound, medians.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import xharmonize as xh
from xharmonize.cube.screening import screen_alone
from xharmonize.fusion import fit_fill

PLACES = ("flanders-2018", "flanders-2019")
SIMULATED = {"simulated": (501_600.0, 5_629_200.0), "simulated, east": (541_600.0, 5_629_200.0)}
BANDS = ("blue", "green", "red", "nir")
HIDDEN = (0, 10, 20, 35)
WINDOW = 100
"""Days around a judged date that are looked at: more than `max_gap` and the dates hidden."""
QUARTERS = 4
METRICS = ("rmse", "r2", "kge", "ssim", "psnr", "sam", "ndvi_rmse")
METHODS: Mapping[str, tuple[str, str]] = {
    "nearest": ("nearest", "nearest"),
    "temporal": ("temporal", "nearest"),
    "sar, other place": ("other", "nearest"),
    "sar, own place": ("own", "nearest"),
    "temporal, before only": ("temporal", "before"),
    "sar, other place, before only": ("other", "before"),
    "sar, own place, before only": ("own", "before"),
}


NAMED = {kind: kind for kind in ("temporal", "nearest")}


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place, its cloudy dates kept for their masks."""

    name: str
    cube: xr.DataArray
    cloudy: xr.DataArray
    radar: xr.DataArray

    @property
    def clear(self) -> Any:
        """Steps of the dates that are clear."""
        return np.flatnonzero(self.cube.notnull().all("band").mean(["y", "x"]) >= 0.9)


def data_folder() -> Path:
    named = os.environ.get("XHARMONIZE_DATA")
    return Path(named) if named else Path(__file__).parents[2] / "shared" / "data"


def load(folder: Path, name: str) -> Place:
    """Open a place without the dates that screening finds hazy, or nothing of which is clear."""
    return read(folder / name / "catalog.json", name, "sentinel-1-grd")


def simulate(folder: Path, name: str) -> Place:
    """Simulate a season of one of the `SIMULATED` places."""
    from xharmonize.simulate import Simulation, write_catalog

    place = Simulation(
        seed=3,
        center=SIMULATED[name],
        size=(640, 640),
        start="2022-03-01",
        end="2022-10-31",
        sensors=("sentinel-2-l2a", "sentinel-1-rtc"),
        haziness=0.0,
        cloudiness=0.5,
    )
    return read(write_catalog(place, folder / name), name, "sentinel-1-rtc")


def read(catalog: Path, name: str, sentinel1: str) -> Place:
    """Read a place into memory."""
    cube = xh.open_stac(catalog, collection="sentinel-2-l2a", bands=BANDS, mask="clear").compute()
    radar = xh.open_stac(catalog, collection=sentinel1, mask=None).compute()
    found = screen_alone(cube, min_valid=0.8)
    share = cube.notnull().all("band").mean(["y", "x"]).values
    kept = (share > 0.05) & ~(found.outlier_score > 2)
    cloudy = cube.isel(time=np.flatnonzero((share > 0.2) & (share < 0.8)))
    return Place(name=name, cube=cube.isel(time=np.flatnonzero(kept)), cloudy=cloudy, radar=radar)


def days_from(cube: xr.DataArray, step: int) -> Any:
    """Days from one date of a cube to each."""
    day = cube["time"].values.astype("datetime64[D]")
    return (day - day[step]).astype(int)


def cases(place: Place, judged: Any, hidden: tuple[int, ...]) -> Iterator[tuple[str, int, Any]]:
    """Yield what is hidden, the step that is judged, and the cube without it."""
    masks = place.cloudy.isnull().any("band").values
    for k, step in enumerate(judged):
        away = days_from(place.cube, step)
        near = np.abs(away) <= WINDOW
        for days in hidden:
            gone = xr.DataArray(np.abs(away) <= days, dims="time")
            yield f"{days} days", step, place.cube.where(~gone).isel(time=near)
        if len(masks):
            mask = np.zeros((len(away), *masks.shape[1:]), bool)
            mask[step] = masks[k % len(masks)]
            gone = xr.DataArray(mask, dims=("time", "y", "x"))
            yield "clouds", step, place.cube.where(~gone).isel(time=near)


def fits_of(place: Place, judged: Any) -> list[dict[str, xr.Dataset]]:
    """Fits to the place itself, each without a quarter of its judged dates."""
    found = []
    for part in filter(len, np.array_split(judged, QUARTERS)):
        away = np.abs([days_from(place.cube, step) for step in part]).min(axis=0)
        rest = place.cube.isel(time=np.flatnonzero(away > max(HIDDEN)))
        own = {kind: fit_fill(rest, model=kind).compute() for kind in ("temporal", "nearest")}
        own["own"] = fit_fill(rest, place.radar, "sar-regression").compute()
        found.append(own)
    return found


def rebuild(
    hidden: xr.DataArray, place: Place, time: Any, models: Mapping[str, Any]
) -> dict[str, xr.Dataset]:
    """One date as each method fills it."""
    found = {}
    for name, (kind, reference) in METHODS.items():
        model = models[kind]
        radar = place.radar if kind in ("own", "other") else None
        filled = xh.fill_clouds(hidden, radar, model, reference=reference)
        found[name] = filled.sel(time=[time])
    return found


def judge(
    place: Place, other: xr.Dataset, *, hidden: tuple[int, ...] = HIDDEN, every: int = 2
) -> list[dict[str, Any]]:
    """Scores of each method, what was hidden and date."""
    judged = place.clear[::every]
    own = fits_of(place, judged)
    sizes = [len(part) for part in np.array_split(judged, QUARTERS) if len(part)]
    quarter = np.repeat(np.arange(len(sizes)), sizes)
    of_step = dict(zip(judged.tolist(), quarter.tolist()))
    rows = []
    for case, step, cube in cases(place, judged, hidden):
        time = place.cube["time"].values[step]
        truth = place.cube.isel(time=[step])
        rebuilt = rebuild(cube, place, time, {"other": other, **own[of_step[int(step)]]})
        gone = cube.sel(time=[time]).isnull() & truth.notnull()
        known = gone.all("band")
        for one in rebuilt.values():
            known &= one["reflectance"].notnull().all("band")
        if float(known.mean()) < 0.05:
            continue
        for name, one in rebuilt.items():
            row = score(one, truth, known)
            rows.append({"place": place.name, "hidden": case, "method": name, **row})
    return rows


def score(filled: xr.Dataset, truth: xr.DataArray, known: xr.DataArray) -> dict[str, float]:
    """Scores of one date: errors of bands, and how often the truth lies within one deviation."""
    value = filled["reflectance"].where(known)
    wanted = truth.where(known)
    by_band = xh.score(value, wanted, ["rmse", "r2", "kge"])
    pooled = xh.score(value, wanted, ["ssim", "psnr", "sam", "ndvi_rmse"], per_band=False)
    row = {f"rmse {b}": float(by_band["rmse"].sel(band=b)) for b in BANDS}
    row |= {name: float(by_band[name].mean()) for name in ("r2", "kge")}
    row |= {name: float(pooled[name]) for name in ("ssim", "psnr", "sam", "ndvi_rmse")}
    within = np.abs(value - wanted) <= filled["uncertainty"]
    told = wanted.notnull() & filled["uncertainty"].notnull()
    row["within 1 sd"] = float(within.where(told).mean())
    row["gap"] = float(filled["gap"].where(known).median())
    return row


def draw(place: Place, other: xr.Dataset, path: Path, *, days: int = 20) -> None:
    """Draw a date that is hidden with its neighbours, as each method rebuilds it."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    step = place.clear[len(place.clear) // 2]
    _, _, cube = next(iter(cases(place, [step], (days,))))
    time = place.cube["time"].values[step]
    found = rebuild(cube, place, time, {"other": other, "own": other, **NAMED})
    shown = {"observed": place.cube.sel(time=time)}
    wanted = ("nearest", "temporal", "sar, other place")
    shown |= {name: found[name]["reflectance"].isel(time=0) for name in wanted}
    figure, axes = plt.subplots(2, len(shown), figsize=(3 * len(shown), 6.2))
    for (name, image), column in zip(shown.items(), axes.T):
        colours = image.sel(band=["nir", "red", "green"]).transpose("y", "x", "band")
        column[0].imshow(np.clip(colours / [0.5, 0.2, 0.2], 0, 1))
        column[0].set_title(name)
        away = (image - shown["observed"]).sel(band="nir")
        column[1].imshow(away, vmin=-0.15, vmax=0.15, cmap="RdBu")
    axes[1, 0].set_title("error of near infrared, -0.15 to 0.15")
    for axis in axes.flat:
        axis.set_axis_off()
    figure.suptitle(f"{place.name}, {str(time)[:10]}, hidden with {days} days around it")
    figure.savefig(path, dpi=110, bbox_inches="tight")


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Print the table, and return it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="few dates and pixels")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--simulated", action="store_true", help="simulated places")
    options = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if options.simulated:
            with tempfile.TemporaryDirectory() as folder:
                places = [simulate(Path(folder), name) for name in SIMULATED]
        else:
            places = [load(data_folder(), name) for name in PLACES]
    if options.small:
        part = {"y": slice(0, 16), "x": slice(0, 16)}
        places = [
            Place(name=p.name, cube=p.cube.isel(part), cloudy=p.cloudy.isel(part), radar=p.radar)
            for p in places
        ]
    fits = [fit_fill(p.cube, p.radar, "sar-regression").compute() for p in places]
    hidden, every = ((10,), 25) if options.small else (HIDDEN, 2)
    rows = [
        row
        for place, other in zip(places, fits[::-1])
        for row in judge(place, other, hidden=hidden, every=every)
    ]
    table = pd.DataFrame(rows)
    dates = table.groupby(["place", "hidden", "method"], sort=False).size().rename("dates")
    groups = table.groupby(["place", "hidden", "method"], sort=False)
    means = groups.mean().assign(**groups[["r2", "kge"]].median()).join(dates)
    with pd.option_context(
        "display.width", 220, "display.max_columns", 30, "display.max_rows", 200
    ):
        print(means.round(4).to_string())
    if options.picture is not None:
        draw(places[1], fits[0], options.picture)
    return means


if __name__ == "__main__":
    main()
