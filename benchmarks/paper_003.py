"""Tables of paper 003 on simulated scenes: Landsat to 10 m beside Sentinel-2 of another day.

Run ``python benchmarks/paper_003.py FOLDER [--seeds 0] [--steps esrcnn=N dstfn=N] [--small]
[--picture FILE]``; FOLDER is the cache of scenes and of trained bundles, so that a run that was
stopped goes on.

Two areas, registered as the paper's are (`xharmonize.testing.places.LEVELS`), with grids that nest
(Landsat's edges at 0 modulo 30 m, not 15), a season each: networks are trained on one of them
(2022) and judged on dates of it that they were not trained on, and on the other area (another
landscape, weather and variant of the physics, 2023). Landsat is brought to Sentinel-2's bandpass
first, by published lines, for all methods alike; the 20 m bands of Sentinel-2 come to 10 m by
``atprk`` with its own 10 m bands.

- *degraded*: 90 m and 30 m, against Landsat as observed at 30 m (Wald's protocol, which is also how
  the networks are trained) and against the truth at 30 m;
- *original*: 30 m and 10 m, against Sentinel-2 of the same or next day, its 20 m bands at 20 m, and
  against the truth at 10 m;
- *slight*: the reference is the nearest clear Sentinel-2 date more than 2.5 days away; *dramatic*:
  the nearest more than 60 days away. The same holds of the pairs of ``starfm``.

Every row is judged on the pixels that all methods give. Numbers are means over bands, then dates.
``line`` is one linear function of the interpolated coarse bands, the fine ones and the fine ones
degraded and interpolated, fitted on the samples that the networks are given; ``line, of the date``
is the same fitted on the very reference that it is judged by: what no line of these can beat.
"""

from __future__ import annotations

import argparse
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
from affine import Affine
from odc.geo.geobox import GeoBox
from sharpen_real import TWENTY, at_own_pixels

import xharmonize as xh
from xharmonize import fusion
from xharmonize.cube.geobox import geobox_of, write_grid
from xharmonize.cube.pairs import as_cube
from xharmonize.metrics.registry import Ergas, Sam
from xharmonize.simulate import Simulation, truth, write_catalog
from xharmonize.simulate.config import DEFAULT_ORBITS
from xharmonize.testing.places import LEVELS
from xharmonize.training import Config, Data, Run, collect_sources
from xharmonize.training import config as configs
from xharmonize.training.collect import degraded
from xharmonize.training.places import phase_of

SIX = ["blue", "green", "red", "nir08", "swir16", "swir22"]
RATIO = 3
NEAR, FAR = 2.5, 60.0
"""Days that a reference is farther away than: of slight and of dramatic change."""
SAME = 1.5
"""Days within which Sentinel-2 shows what Landsat saw."""
CHANGES = {"slight": NEAR, "dramatic": FAR}
SCALES = ("degraded", "original")
MIN_CLEAR = 0.9
SEASON = ("05-10", "08-31")
"""Dates that are judged: those with pairs 60 days before and after."""

_WHERE: dict[str, Any] = {
    "orbits": tuple(o for o in DEFAULT_ORBITS if o.relative_orbit in (51, 198)),
    "cloudiness": 0.1,
    "phase": {"landsat-c2-l2": 0.0},
    **LEVELS["registered"],
}
AREAS = {
    "trained on": Simulation(
        seed=31, start="2022-03-01", end="2022-11-15", variant="a", size=(2880.0, 2880.0),
        center=(521.5 * 960, 5861.5 * 960), **_WHERE,
    ),
    "held out": Simulation(
        seed=47, start="2023-03-01", end="2023-11-15", variant="b", size=(1920.0, 1920.0),
        center=(511.0 * 960, 5871.0 * 960), **_WHERE,
    ),
}  # fmt: skip
NETWORKS: dict[str, Any] = {
    "esrcnn": configs.Esrcnn(evaluate=100, patience=0),
    "dstfn": configs.Dstfn(evaluate=100, patience=0),
}
STEPS = {"esrcnn": 1500, "dstfn": 900}
DATA = Data(patch=24, stride=12, min_valid=0.7, max_cloud=0.5, validation=0.2, test=0.0)
SHOWN = ("MAE", "MRE", "RMSE", "SAM", "ERGAS", "CC", "SSIM", "PSNR")


@dataclass(frozen=True, kw_only=True)
class Area:
    """Scenes of one area: Landsat and Sentinel-2 in one bandpass, clear dates only."""

    name: str
    simulation: Simulation
    landsat: xr.DataArray
    sentinel: xr.DataArray

    @cached_property
    def judged(self) -> dict[np.datetime64, np.datetime64]:
        """Dates of Landsat that are judged, and those of Sentinel-2 that they are judged by.

        Of the area that networks are trained on every second.
        """
        year = self.simulation.start[:4]
        first, last = (np.datetime64(f"{year}-{day}") for day in SEASON)
        found = {}
        for moment in self.landsat["time"].values:
            gaps = np.abs(self.sentinel["time"].values - moment) / np.timedelta64(1, "D")
            if first <= moment <= last and gaps.min() < SAME:
                found[moment] = self.sentinel["time"].values[gaps.argmin()]
        every = 2 if self.name == "trained on" else 1
        return dict(list(found.items())[::every])

    @property
    def samples(self) -> dict[str, xr.DataTree]:
        """What networks are trained on: other dates, beside near and far references."""
        landsat = self.landsat.drop_sel(time=list(self.judged))
        sentinel = self.sentinel.drop_sel(time=sorted(set(self.judged.values())))
        trees = {}
        for name, gap in CHANGES.items():
            fine = fusion.take_references(sentinel, nearest(landsat, sentinel, gap))
            there = ~np.isnat(fine["reference_time"].values)
            trees[name] = collect_sources(
                landsat.isel(time=there), degrade=RATIO, fine=fine.isel(time=there)
            )
        return trees


@dataclass(frozen=True, kw_only=True)
class Case:
    """One date that is judged, with one kind of reference at one scale.

    Attributes
    ----------
    coarse, fine : DataArray
        What methods are given; of `fine` only dates that are far enough.
    reference : Dataset
        Which date of `fine` is nearest.
    against : dict of str to DataArray
        ``observed`` and ``truth`` (time, band, y, x) on the grid of `fine`.
    """

    place: str
    scale: str
    change: str
    day: np.datetime64
    coarse: xr.DataArray
    fine: xr.DataArray
    reference: xr.Dataset
    against: dict[str, xr.DataArray]

    def compare(self, image: xr.DataArray, kind: str) -> xr.DataArray:
        """A result at the pixels that it is compared at."""
        if self.scale == "original" and kind == "observed":
            return at_own_pixels(image)
        return image


def nearest(cube: xr.DataArray, other: xr.DataArray, gap: float) -> xr.Dataset:
    """The nearest date of another cube that is more than `gap` days away, date by date."""
    parts = []
    for t in range(cube.sizes["time"]):
        one = cube.isel(time=[t])
        parts.append(find(one, apart(other, one["time"].values[0], gap)))
    return xr.concat(parts, "time")


def find(one: xr.DataArray, other: xr.DataArray) -> xr.Dataset:
    return fusion.find_references(one, other, tolerance="300D", min_valid=0, max_score=None)


def apart(cube: xr.DataArray, moment: np.datetime64, gap: float) -> xr.DataArray:
    """Dates that are more than `gap` days away."""
    return cube.isel(time=np.abs(cube["time"].values - moment) / np.timedelta64(1, "D") > gap)


def read_area(name: str, folder: Path, simulation: Simulation) -> Area:
    """Render the scenes of an area, unless they are there, and read them."""
    place = folder / name.replace(" ", "-")
    if not (place / "catalog.json").exists():
        write_catalog(simulation, place)
    landsat = xh.open_stac(place / "catalog.json", collection="landsat-c2-l2", bands=SIX)
    landsat = xh.to_sentinel2(clear(landsat.compute()))
    sentinel = xh.open_stac(
        place / "catalog.json", collection="sentinel-2-l2a", resolution=10,
        bands=["blue", "green", "red", "nir", *TWENTY],
    )  # fmt: skip
    ten = xh.sharpen(clear(sentinel.compute()), model="atprk")["reflectance"].sel(band=SIX)
    return Area(name=name, simulation=simulation, landsat=landsat, sentinel=ten)


def clear(cube: xr.DataArray) -> xr.DataArray:
    return cube.isel(time=cube.notnull().all("band").mean(["y", "x"]).values >= MIN_CLEAR)


def cases_of(area: Area) -> Iterator[Case]:
    """Every date that is judged, with either kind of reference, at both scales."""
    small = {
        "original": (area.landsat, area.sentinel),
        "degraded": tuple(magnified(shrunk(c, area), area) for c in (area.landsat, area.sentinel)),
    }
    for day, other in area.judged.items():
        known = truths(area, day, other)
        for scale in SCALES:
            coarse, whole = small[scale]
            for change, gap in CHANGES.items():
                fine = apart(whole, day, gap)
                yield Case(
                    place=area.name, scale=scale, change=change, day=day, coarse=coarse, fine=fine,
                    reference=find(coarse.sel(time=[day]), fine), against=known[scale],
                )  # fmt: skip


def truths(area: Area, day: np.datetime64, other: np.datetime64) -> dict[str, Any]:
    """What a date is judged by, at both scales: observed, and true."""
    seen = area.landsat.sel(time=[day])
    near = area.sentinel.sel(time=[other]).assign_coords(time=seen["time"].values)
    original = {"observed": at_own_pixels(near), "truth": true_of(area, day, near)}
    wald = {"observed": seen, "truth": true_of(area, day, seen)}
    return {
        "original": original,
        "degraded": {kind: magnified(image, area) for kind, image in wald.items()},
    }


def true_of(area: Area, day: np.datetime64, like: xr.DataArray) -> xr.DataArray:
    """True reflectance of a moment on the grid of a cube, area means, Sentinel-2's bands."""
    known = truth(area.simulation, day, sensor="sentinel-2-l2a", like=like)["reflectance"]
    values = known.sel(band=SIX).values[None]
    return like.copy(data=values.astype(np.float32))


def shrunk(cube: xr.DataArray, area: Area) -> xr.DataArray:
    """A cube of pixels three times as large."""
    return degraded(cube, RATIO, about=phase_of(geobox_of(area.landsat)))


def magnified(cube: xr.DataArray, area: Area) -> xr.DataArray:
    """The same pixels, called a third as large, about a corner of Landsat's: as bundles want."""
    about = phase_of(geobox_of(area.landsat))
    axes = {
        name: start + (cube[name].values - start) / RATIO for name, start in zip(("x", "y"), about)
    }
    affine = geobox_of(cube).affine
    corner = [start + (at - start) / RATIO for start, at in zip(about, (affine.c, affine.f))]
    smaller = Affine(affine.a / RATIO, 0, corner[0], 0, affine.e / RATIO, corner[1])
    return write_grid(
        cube.assign_coords(axes), GeoBox(cube.shape[2:], smaller, geobox_of(cube).crs)
    )


def run(method: str, model: Any, case: Case) -> xr.DataArray:
    """One date by one method (time, band, y, x)."""
    more: dict[str, Any] = {"references": case.reference, "consistency": None}
    coarse = case.coarse.sel(time=[case.day])
    if method == "the reference as it is":
        return fusion.take_references(case.fine, case.reference)
    if method.startswith("starfm,"):
        more = {"tolerance": "300D", "consistency": None, "min_valid": 0.0, "max_score": None}
        coarse = case.coarse.chunk(time=1)
    correct = method.endswith("corrected")
    found = xh.sharpen(coarse, case.fine, model, correct=correct, **more)["reflectance"]
    return found.sel(time=[case.day]).compute()


def methods(bundles: dict[str, Any]) -> dict[str, Any]:
    """Models by the name of the row."""
    two = fusion.Starfm(pairs=2)
    found: dict[str, Any] = {"the reference as it is": None}
    for name, model in {
        "bilinear": "bilinear", "atprk": "atprk", "starfm-si": "starfm-si",
        "starfm, 1 pair": "starfm", "starfm, 2 pairs": two, **bundles,
    }.items():  # fmt: skip
        found[name] = model
        if name != "atprk":  # agrees with the coarse pixels as it is
            found[f"{name}, corrected"] = model
    return found


def train(area: Area, seeds: list[int], steps: dict[str, int], folder: Path) -> dict[str, Any]:
    """Bundles by name and seed, trained unless they are there; says what it took."""
    found = {}
    samples = None
    for seed in seeds:
        for name, n in steps.items():
            out = folder / f"{name}-{n}-{seed}"
            if not out.exists():
                samples = samples or {k: v.compute() for k, v in area.samples.items()}
                method = replace(NETWORKS[name], steps=n, seed=seed)
                start = time.process_time()
                told = Config(method=method, data=DATA, run=Run(tensorboard=False))
                xh.train(method, samples, config=told, out=out, progress=False)
                spent = time.process_time() - start
                (folder / f"{out.name}.txt").write_text(f"{n} steps, {spent:.0f} s of CPU time")
            print(out.name, (folder / f"{out.name}.txt").read_text(), flush=True)
            found[f"{name} #{seed}"] = out
    return found


class Line:
    """A linear function of the interpolated coarse bands, the fine ones, and those degraded."""

    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []
        self.wanted: list[np.ndarray] = []

    def add(self, coarse: xr.DataArray, fine: xr.DataArray, target: xr.DataArray) -> Line:
        features, values = self.features(coarse, fine), flat(target)
        ok = np.isfinite(features).all(1) & np.isfinite(values).all(1)
        self.rows.append(features[ok])
        self.wanted.append(values[ok])
        return self

    @cached_property
    def weights(self) -> np.ndarray:
        rows, wanted = np.concatenate(self.rows), np.concatenate(self.wanted)
        return np.linalg.lstsq(rows, wanted, rcond=None)[0]

    def features(self, coarse: xr.DataArray, fine: xr.DataArray) -> np.ndarray:
        seen = fusion.degrade(fine, coarse, min_valid=0.5)
        up = [fusion.frame.upsampled(one, fine) for one in (coarse, seen)]
        parts = [flat(up[0]), flat(fine), flat(up[1])]
        return np.concatenate([*parts, np.ones((len(parts[0]), 1))], axis=1)

    def __call__(self, coarse: xr.DataArray, fine: xr.DataArray) -> xr.DataArray:
        values = self.features(coarse, fine) @ self.weights
        image = values.reshape(fine.sizes["y"], fine.sizes["x"], -1).transpose(2, 0, 1)
        return fine.copy(data=image[None].astype(np.float32))


def flat(cube: xr.DataArray) -> np.ndarray:
    """Pixels of one date (pixel, band)."""
    return cube.values[0].reshape(cube.sizes["band"], -1).T.astype(float)


def fit_line(area: Area) -> Line:
    """Fit the line on what networks are trained on."""
    line = Line()
    for tree in area.samples.values():
        target = as_cube(tree["target"]["reflectance"]).compute()
        coarse = as_cube(tree["source"]["reflectance"]).compute()
        fine = as_cube(tree["sources/fine"]["reflectance"]).compute()
        for t in range(target.sizes["time"]):
            one = [c.isel(time=[t]) for c in (coarse, fine, target)]
            line.add(one[0], one[1].assign_coords(time=one[0]["time"].values), one[2])
    return line


def images(case: Case, models: dict[str, Any], line: Line) -> dict[str, xr.DataArray]:
    """The date by every method."""
    found = {name: run(name, model, case) for name, model in models.items()}
    coarse = case.coarse.sel(time=[case.day])
    near = fusion.take_references(case.fine, case.reference)
    found["line"] = line(coarse, near)
    found["line, of the date"] = Line().add(coarse, near, case.against["observed"])(coarse, near)
    return {name: image.transpose("time", "band", "y", "x") for name, image in found.items()}


def rows_of(case: Case, found: dict[str, xr.DataArray]) -> list[dict[str, Any]]:
    """Scores of one case against both references, on the pixels that all give."""
    rows = []
    for kind, wanted in case.against.items():
        compared = {name: case.compare(image, kind).values for name, image in found.items()}
        if kind == "truth":
            compared["observed"] = case.against["observed"].values
        ok = np.isfinite(case.against["observed"].values).all(1, keepdims=True)
        for values in compared.values():
            ok = ok & np.isfinite(values).all(1, keepdims=True)
        if ok.mean() < 0.2:
            print(f"left out: {case.place}, {case.day}, {case.scale}, {case.change}", flush=True)
            continue
        gap = float(case.reference["reference_gap"].values[0])
        rows += [
            {"place": case.place, "scale": case.scale, "change": case.change, "against": kind,
             "method": name, "day": case.day, "gap": abs(gap), "pixels": ok.mean(),
             **numbers(wanted, np.where(ok, values, np.nan))}
            for name, values in compared.items()
        ]  # fmt: skip
    return rows


def numbers(wanted: xr.DataArray, values: np.ndarray) -> dict[str, float]:
    """The eight of the paper, means over bands; MRE in per cent."""
    found = wanted.copy(data=values)
    truth_there = wanted.copy(data=np.where(np.isfinite(values), wanted.values, np.nan))
    kinds = ["mae", "mre", "rmse", Sam(unit="deg"), Ergas(ratio=1 / RATIO), "cc", "ssim", "psnr"]
    scores = xh.score(found, truth_there, kinds, data_range=1.0)
    values_of = {str(n).upper(): float(scores[n].mean()) for n in scores.data_vars}
    return values_of | {"MRE": 100 * values_of["MRE"]}


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over dates, then over seeds."""
    rows = rows.assign(method=rows["method"].str.replace(r" #\d+", "", regex=True))
    by = ["place", "scale", "change", "against", "method"]
    return rows.groupby(by, sort=False)[list(SHOWN)].mean()


def draw(case: Case, found: dict[str, xr.DataArray], path: Path, band: str = "red") -> None:
    """Draw errors of one band and its scatter, by method."""
    import matplotlib.pyplot as plt

    wanted = case.against["observed"].sel(band=band).values[0]
    shown = [name for name in found if "corrected" not in name and "of the date" not in name]
    figure, axes = plt.subplots(2, len(shown), figsize=(2.1 * len(shown), 4.8))
    top = float(np.nanquantile(wanted, 0.995))
    for (above, below), name in zip(axes.T, shown):
        image = case.compare(found[name], "observed").sel(band=band).values[0]
        above.imshow(np.abs(image - wanted), cmap="magma", vmin=0, vmax=0.05)
        above.set_title(name.replace(", ", "\n").replace(" as it is", "\nas it is"), fontsize=8)
        above.axis("off")
        ok = np.isfinite(image) & np.isfinite(wanted)
        below.hexbin(wanted[ok], image[ok], gridsize=40, extent=(0, top, 0, top), bins="log",
                     cmap="viridis", mincnt=1)  # fmt: skip
        below.plot([0, top], [0, top], color="0.3", lw=0.7)
        error = float(np.sqrt(np.mean((image[ok] - wanted[ok]) ** 2)))
        r = float(np.corrcoef(image[ok], wanted[ok])[0, 1])
        below.set_title(f"RMSE {error:.4f}, r {r:.3f}", fontsize=7)
        below.set_aspect("equal")
        below.tick_params(labelsize=6)
    axes[1, 0].set_ylabel(f"{band}, predicted", fontsize=7)
    figure.suptitle(
        f"{band}: absolute errors (black 0, white 0.05) and scatter; {case.place}, "
        f"{str(case.day)[:10]}, {case.scale}, reference "
        f"{abs(float(case.reference['reference_gap'].values[0])):.0f} days away", fontsize=9,
    )  # fmt: skip
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=lambda t: [int(s) for s in t.split(",")], default=[0])
    parser.add_argument("--steps", nargs="+", default=[], metavar="NETWORK=N")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--small", action="store_true", help="to see that it runs")
    given = parser.parse_args(arguments)
    simulations = AREAS
    if given.small:
        simulations = {n: replace(s, size=(960.0, 960.0)) for n, s in AREAS.items()}
    steps = STEPS | {name: int(n) for name, n in (text.split("=") for text in given.steps)}
    warnings.simplefilter("ignore")
    given.folder.mkdir(parents=True, exist_ok=True)
    areas = {name: read_area(name, given.folder, one) for name, one in simulations.items()}
    for name, area in areas.items():
        print(f"{name}: {area.landsat.sizes['time']} and {area.sentinel.sizes['time']} clear dates,"
              f" judged {[str(day)[:10] for day in area.judged]}", flush=True)  # fmt: skip
    bundles = train(areas["trained on"], given.seeds, steps, given.folder)
    line, models, rows = fit_line(areas["trained on"]), methods(bundles), []
    for area in areas.values():
        for case in cases_of(area):
            found = images(case, models, line)
            rows += rows_of(case, found)
            is_shown = (case.place, case.scale, case.change) == ("held out", "degraded", "slight")
            if given.picture is not None and is_shown:
                draw(case, found, given.picture)
    every = pd.DataFrame(rows)
    every.to_csv(given.folder / "rows.csv", index=False)
    print(every.groupby(["place", "change"])["gap"].agg(["min", "mean", "max"]).round(0))
    found = table(every)
    with pd.option_context("display.max_rows", None, "display.width", 140):
        print(found.round(4).to_string())
    return found


if __name__ == "__main__":
    main()
