"""Tables of paper 004 (Xiong et al. 2021: Sentinel-2 without clouds from Sentinel-1), simulated.

``python benchmarks/paper_004.py FOLDER [--steps N --seeds 0 --picture FILE --only METHOD,...]``;
FOLDER is the cache of scenes and of trained bundles, so that a run that was stopped goes on.

20 regions of 1,860 m have Sentinel-2 (blue, green, red, near infrared; cloudless) on day 0, 11, 22,
36 and 61 of a period of their own, and Sentinel-1 of one track every six days. 15 are trained on
(variants a and c of the physics, 2022), with days 0 and 11 alone, each rebuilt from the other: all
networks get the same images, those of one date (pix2pix and both cycle-GANs) the Sentinel-1 of
both. Judged, with day 0 as the reference:

- *spatial transfer*: day 11 of five regions of another variant and year.
- *time transfer*: day 22 and 36 of five regions trained on: 11 and 25 days after the last day
  trained on (the paper's are 10 and 25).
- *both*: day 22 and 36 of the five regions not trained on.

Against what Sentinel-2 observed, and against the truth (level ground, no air, no noise) with the
sensor's point spread. ``nearest`` is the reference as it is; ``sar-regression`` has the mean
coefficients of the regions trained on, with all their days, and all Sentinel-1 passes around a
date: more than the networks get. ``temporal`` also gets the day after, which no other method has.
``line`` is what ``mccgan`` begins with, a least-squares line over all that it is given.

Scores are of pixels that all methods give. SAM of a band is the angle between two images as vectors
[rad], as the paper computes it; SAM of *all* bands is the mean angle between spectra [rad].
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from fusion_learned import beside
from paper_parts import Study, make_study

import xharmonize as xh
from xharmonize.fusion import fit_fill
from xharmonize.simulate import Simulation, truth, write_catalog
from xharmonize.simulate.config import DEFAULT_ORBITS
from xharmonize.simulate.landscape import Cover
from xharmonize.testing.places import Place, draw_places
from xharmonize.training import Data, collect_sources
from xharmonize.training import config as configs

BANDS = ("blue", "green", "red", "nir")
DAYS = (0, 11, 22, 36, 61)
"""Of the reference, of the date trained on, of two later ones, and of the last that is used."""
METRICS = ("rmse", "r2", "kge", "ssim", "psnr", "sam")
SMALL: dict[str, Any] = {"width": 16, "discriminator_width": 16, "batch": 8, "patience": 0}
"""Smaller than printed, so that a network takes minutes on one core."""
AT_ONE_TIME = Data(patch=64, stride=32, split="scene", sources=("sentinel1",))
OVER_TIME = replace(AT_ONE_TIME, sources=())
NETWORKS: dict[str, tuple[Any, Data]] = {
    "line": (configs.MccGan(**SMALL, learning_rate=1e-8), OVER_TIME),
    "mccgan": (configs.MccGan(**SMALL), OVER_TIME),
    "mtcgan": (configs.MtcGan(**SMALL), OVER_TIME),
    "dcstfn-os": (configs.DcstfnOs(**SMALL), OVER_TIME),
    "rdcstfn-os": (configs.RdcstfnOs(**SMALL), OVER_TIME),
    "pix2pix": (configs.Pix2pix(**SMALL), AT_ONE_TIME),
    "s-cyclegan": (configs.SCycleGan(**SMALL), AT_ONE_TIME),
    "cyclegan": (configs.CycleGan(**SMALL), AT_ONE_TIME),
}
REFERENCE = "reference: observed Sentinel-2"


@dataclass(frozen=True, kw_only=True)
class Region:
    """A place with its dates, read into memory."""

    name: str
    simulation: Simulation
    cube: xr.DataArray
    radar: xr.DataArray

    @cached_property
    def ideal(self) -> list[xr.Dataset]:
        """Truth and land cover of each date."""
        known = [
            truth(self.simulation, time, sensor="sentinel-2-l2a", platform="sentinel-2a",
                  like=self.cube, point_spread=True)
            for time in self.cube["time"].values
        ]  # fmt: skip
        return [one.sel(band=list(BANDS)).compute() for one in known]


def simulation_of(place: Place, number: int) -> Simulation:
    """A cloudless period of a place, whose first day is its own."""
    first = np.datetime64(f"{place.simulation.start[:4]}-04-05") + number * 37 % 130
    optical = next(o for o in DEFAULT_ORBITS if o.sensor == "sentinel-2-l2a")
    radar = [o for o in DEFAULT_ORBITS if o.relative_orbit == 161]
    dates = [replace(optical, first=str(first + day), repeat=10_000) for day in DAYS]
    return replace(
        place.simulation,
        start=str(first - 20),
        end=str(first + DAYS[-1] + 20),
        sensors=("sentinel-2-l2a", "sentinel-1-rtc"),
        orbits=(*dates, *radar),
        cloudiness=0.0,
        haziness=0.0,
        effects=("dark-target", "terrain", "water"),
    )


def load(place: Place, number: int, folder: Path) -> Region:
    """Read a region; render it if it is not in the cache."""
    simulation = simulation_of(place, number)
    own = replace(place, simulation=simulation)
    scenes = folder / "scenes" / f"{place.name}-{own.fingerprint}"
    if not scenes.exists():
        part = scenes.with_name(f".{scenes.name}-{os.getpid()}")
        write_catalog(simulation, part)
        part.rename(scenes)
    catalog = scenes / "catalog.json"
    cube = xh.open_stac(catalog, collection="sentinel-2-l2a", bands=BANDS, mask=None)
    radar = xh.open_stac(catalog, collection="sentinel-1-rtc", mask=None).compute()
    # Sentinel-2's grid is snapped to 60 m, and is wider by some pixels.
    cube = cube.sel(x=radar["x"], y=radar["y"]).compute()
    return Region(name=place.name, simulation=simulation, cube=cube, radar=radar)


def samples_of(region: Region) -> xr.DataTree:
    """The first two days, each beside the other."""
    clear = region.cube.isel(time=[0, 1])
    return collect_sources(clear, **beside(clear, region.radar))


def trained(study: Study, given: argparse.Namespace) -> dict[str, Any]:
    """Train every network of every seed, or read it from the cache."""
    found = {}
    for seed in given.seeds:
        for name, (method, data) in NETWORKS.items():
            if given.only and name not in given.only:
                continue
            steps = 1 if name == "line" else given.steps
            own = replace(method, seed=seed, steps=steps, evaluate=min(steps, given.evaluate))
            drawn = replace(study, data=replace(study.data, sources=data.sources))
            label = f"004-{name}-{given.places}-{steps}-{seed}"
            found[f"{name} #{seed}"] = drawn.train(label, own)
    return found


def regression_of(regions: list[Region]) -> xr.Dataset:
    """Mean of the regressions on Sentinel-1 of all regions trained on."""
    fits = [fit_fill(r.cube, r.radar, "sar-regression").compute() for r in regions]
    mean = xr.concat(fits, "region").mean("region", keep_attrs=True)
    return mean.assign_attrs(fits[0].attrs)


def rebuild(region: Region, step: int, models: dict[str, Any]) -> dict[str, np.ndarray]:
    """One day (band, y, x) as each method rebuilds it from the first."""
    moment = region.cube["time"].values[step]
    two, three = (region.cube.isel(time=[0, step, step + 1][:n]) for n in (2, 3))

    def image(cube: xr.DataArray, *args: Any, **options: Any) -> Any:
        filled = xh.fill_clouds(cube, *args, whole=True, **options)["reflectance"]
        return filled.sel(time=moment, band=list(BANDS)).transpose("band", "y", "x").values

    found = {
        "nearest": region.cube.isel(time=0).values,
        "temporal, a day after too": image(three, model="temporal"),
    }
    for name, model in models.items():
        found[name] = image(two, region.radar, model, reference="before")
    return found


def cases(regions: list[Region]) -> Iterator[tuple[str, Region, int]]:
    """Yield what is judged: kind of transfer, region and step."""
    tested = [r for r in regions if r.name.startswith("test")]
    seen = [r for r in regions if r.name.startswith("train")][: len(tested)]
    for region in tested:
        yield "spatial transfer", region, 1
        for step in (2, 3):
            yield "both", region, step
    for region in seen:
        for step in (2, 3):
            yield "time transfer", region, step


def judge(
    transfer: str, region: Region, step: int, found: dict[str, np.ndarray]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows per method, reference and band; and per method and land cover, against the truth."""
    observed, ideal = region.cube.isel(time=step), region.ideal[step]
    references = {"observed": observed.values, "truth": ideal["reflectance"].values}
    images = [*found.values(), *references.values()]
    ok = np.logical_and.reduce([np.isfinite(image).all(0) for image in images])
    about = {"transfer": transfer, "region": region.name, "day": DAYS[step]}
    rows, covers = [], []
    for against, reference in references.items():
        shown = found | ({REFERENCE: references["observed"]} if against == "truth" else {})
        for name, image in shown.items():
            named = {**about, "against": against, "method": name}
            rows += [{**named, **row} for row in scores(image, reference, ok)]
            if against == "truth":
                kinds = by_cover(image, reference, ok, ideal["cover"].values)
                covers += [{**named, **row} for row in kinds]
    return rows, covers


def ndvi(image: np.ndarray) -> np.ndarray:
    """NDVI [1] of (band, …) reflectance, which networks make negative over water."""
    return np.clip((image[3] - image[2]) / np.maximum(image[3] + image[2], 1e-3), -1, 1)


def scores(image: np.ndarray, reference: np.ndarray, ok: np.ndarray) -> list[dict[str, Any]]:
    """Six metrics per band, of NDVI, and of all bands together."""
    both = [
        np.where(ok, np.concatenate([one, ndvi(one)[None]]), np.nan) for one in (image, reference)
    ]
    dims, names = ("band", "y", "x"), [*BANDS, "ndvi"]
    e, r = (xr.DataArray(one.astype(np.float32), dims=dims, coords={"band": names}) for one in both)
    found = xh.score(e, r, list(METRICS[:-1]))
    spectral = xh.score(e.sel(band=list(BANDS)), r.sel(band=list(BANDS)), "sam", per_band=False)
    rows = []
    for k, name in enumerate(names):
        one, other = both[0][k][ok].astype(float), both[1][k][ok].astype(float)
        angle = np.arccos(np.clip(one @ other / np.linalg.norm(one) / np.linalg.norm(other), -1, 1))
        own = {m: float(found[m].sel(band=name)) for m in METRICS[:-1]}
        rows.append({"band": name, **own, "sam": float(angle)})
    mean = {m: float(np.mean([row[m] for row in rows[:-1]])) for m in METRICS[:-1]}
    return [*rows, {"band": "all", **mean, "sam": float(spectral["sam"])}]


def by_cover(
    image: np.ndarray, reference: np.ndarray, ok: np.ndarray, cover: np.ndarray
) -> list[dict[str, Any]]:
    """Sums of squares over four bands, and of NDVI, by land cover."""
    square = ((image - reference) ** 2).mean(0)
    of_ndvi = (ndvi(image) - ndvi(reference)) ** 2
    rows = []
    for kind in Cover:
        here = ok & (cover == int(kind))
        sums = {"square": float(square[here].sum()), "ndvi": float(of_ndvi[here].sum())}
        rows.append({"cover": kind.name.lower(), "pixels": int(here.sum()), **sums})
    return rows


def draw(region: Region, found: dict[int, dict[str, np.ndarray]], path: Path) -> None:
    """Draw days as each method rebuilds them, with the error of near infrared below."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    names = ["observed", *next(iter(found.values()))]
    figure, axes = plt.subplots(2 * len(found), len(names), figsize=(2 * len(names), 8.6))
    for row, (step, images) in enumerate(found.items()):
        shown = {"observed": region.cube.isel(time=step).values, **images}
        for name, top, bottom in zip(names, axes[2 * row], axes[2 * row + 1]):
            colours = np.moveaxis(shown[name][[3, 2, 1]], 0, -1) / [0.5, 0.2, 0.2]
            top.imshow(np.clip(colours, 0, 1))
            top.set_title(f"{name.split(' #')[0].split(',')[0]}\nday {DAYS[step]}", fontsize=9)
            away = shown[name][3] - region.ideal[step]["reflectance"].sel(band="nir").values
            bottom.imshow(away, vmin=-0.15, vmax=0.15, cmap="RdBu")
    for axis in axes.flat:
        axis.set_axis_off()
    figure.suptitle(f"{region.name}, rebuilt from day 0 (nearest); below, error of near infrared "
                    "against the truth, -0.15 to 0.15")  # fmt: skip
    figure.savefig(path, dpi=100, bbox_inches="tight")


def report(rows: pd.DataFrame, covers: pd.DataFrame) -> pd.DataFrame:
    """Print all tables; return that of all bands."""
    rows, covers = (t.assign(method=t["method"].str.split(" #").str[0]) for t in (rows, covers))

    def mean(part: pd.DataFrame, *by: str) -> pd.DataFrame:
        return part.groupby(list(by), sort=False)[list(METRICS)].mean()

    whole = rows[rows["band"] == "all"]
    tables = {
        "six metrics, all bands": mean(whole, "against", "transfer", "day", "method"),
        "six metrics, per band and of NDVI, against observed": mean(
            rows[(rows["against"] == "observed") & (rows["band"] != "all")],
            "transfer", "day", "band", "method"),
        "RMSE and SAM by region, against observed": whole[
            (whole["against"] == "observed") & whole["region"].str.startswith("test")
        ].pivot_table(index="method", columns=["region", "day"], values=["rmse", "sam"],
                      sort=False),
    }  # fmt: skip
    new = covers[covers["region"].str.startswith("test")]
    sums = new.groupby(["cover", "method"], sort=False)[["pixels", "square", "ndvi"]].sum()
    sums = sums[sums["pixels"] > 0]
    roots = np.sqrt(sums[["square", "ndvi"]].div(sums["pixels"], axis=0))
    tables["RMSE by land cover, regions not trained on, against truth"] = roots.assign(
        pixels=sums["pixels"]
    ).unstack("cover")
    gap = rows[rows["region"].str.startswith("test") & rows["band"].isin(["all", "ndvi", "nir"])]
    tables["RMSE against the gap, regions not trained on"] = gap.pivot_table(
        index="method", columns=["against", "band", "day"], values="rmse", sort=False
    )
    for name, table in tables.items():
        print(f"\n{name}\n{table.round(4).to_string()}", flush=True)
    return tables["six metrics, all bands"]


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Print the tables, and return that of all bands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--places", type=int, default=20)
    parser.add_argument("--seeds", type=lambda t: [int(s) for s in t.split(",")], default=[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--evaluate", type=int, default=50)
    parser.add_argument("--only", type=lambda t: t.split(","), default=[], help="networks")
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    places = draw_places(given.places, tiles=2)
    regions = [load(place, number, given.folder) for number, place in enumerate(places)]
    fitted = [r for r in regions if r.name.startswith("train")]
    with tempfile.TemporaryDirectory() as folder:
        # One place that is tested on ends the split: training and stopping take the others.
        trees = {r.name: samples_of(r) for r in [*fitted, regions[3]]}
        study = make_study(trees, OVER_TIME, Path(folder), given.folder / "bundles")
        models = {"sar-regression": regression_of(fitted), **trained(study, given)}
    rows, covers, pictures = [], [], {}
    start = time.process_time()
    for transfer, region, step in cases(regions):
        found = rebuild(region, step, models)
        scored = judge(transfer, region, step, found)
        rows += scored[0]
        covers += scored[1]
        if region is regions[3]:
            pictures[step] = found
    print(f"{len(study.parts.training)} samples of {study.data.patch} pixels a side, "
          f"{SMALL}, {given.steps} steps, seeds {given.seeds}; "
          f"judged in {time.process_time() - start:.0f} s of processor time")  # fmt: skip
    if given.picture is not None:
        draw(regions[3], {k: pictures[k] for k in (1, 3)}, given.picture)
    return report(pd.DataFrame(rows), pd.DataFrame(covers))


if __name__ == "__main__":
    main()
