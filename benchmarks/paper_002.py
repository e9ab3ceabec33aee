"""Tables of paper 002 (Liu et al. 2023, doi:10.3390/rs15102563) on simulated pairs.

From Sentinel-2 to Landsat's six bands, not Gaofen-1's four. Called by ``papers.py 002``; ``--only``
chooses among:

- *ablation* (tables 3, 4, 5): R², RMSE, slope and intercept per band and of NDVI, with and without
  histograms and convolution; patches held out at random, and whole tile-days.
- *patch* (table 7): training patches of three sizes, by tile-days, one size of tile when applied.
- *closeness* (4.3): distance of values beside distance of distributions.
- *adjacent* (4.1): what the two tables of overlapping tiles make of the same pixels.
- *seconds*: a tile of 3,660² pixels and six bands through a trained model.
- *frequency* (3.4): days of a year on which some share of a place is clear, by month.

R² is 1 - SSE / SST; r² is the squared correlation, which the paper's linear rows fit. The paper's
fit of prediction on observation is reversed: slope and intercept here are of estimate = slope ×
reference + intercept.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from paper_parts import SIX, Study, Tiled, images, make_study, ndvi, shared, with_seed
from scipy.stats import wasserstein_distance

import xharmonize as xh
from xharmonize.cube.pairs import as_cube, target_of
from xharmonize.errors import XHarmonizeError
from xharmonize.simulate.config import Simulation
from xharmonize.testing.places import clear_share, draw_places
from xharmonize.training import Data
from xharmonize.training.config import NETWORKS
from xharmonize.training.judge import cores, source_cube

TABLES = ("global-lut", "global-lut-conv", "tile-lut", "tile-lut-conv")
OURS = "tile-lut-conv"
PATCHES = (8, 16, 24)
"""Of table 7 [target pixels]: places are 30 or 62 wide."""
CLEAR = (0.9, 0.8, 0.5)


def make_method(name: str, given: argparse.Namespace, seed: int) -> Any:
    return NETWORKS[name](steps=given.steps, seed=seed, evaluate=given.evaluate)


def study_of(trees: Any, given: argparse.Namespace, folder: Path, patch: int, stride: int) -> Study:
    data = Data(patch=patch, stride=stride, split="scene", source_bands=tuple(SIX))
    return make_study(
        trees, data, folder / f"patch-{patch}-{stride}", Path(given.folder) / "bundles"
    )


def trained(study: Study, name: str, kind: Any, given: argparse.Namespace, seed: int) -> Any:
    """A table network of one seed, and the samples it was trained on."""
    drawn = study.split_by(with_seed(study.store, replace(study.data, split=kind), seed))
    samples = f"{drawn.data.patch}-{drawn.data.stride}"
    label = f"002-{name}-{samples}-{kind}-{given.tag}-{seed}"
    return drawn, drawn.train(label, make_method(name, given, seed))


Pixels = dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]
"""Estimate and reference (band, pixel) by reference and method, of all test samples."""


def pixels_of(models: dict[str, Any], study: Study, *, by_core: bool) -> Pixels:
    """Pool the pixels of all test places, or of the cores of test samples alone."""
    parts: dict[tuple[str, str], list[Any]] = {}
    tested, of_pair = study.parts.test, study.store.pair
    for pair in sorted(set(of_pair[tested].tolist())):
        tree = study.trees[study.store.pairs[pair].place]
        try:
            found, references = images(models, tree, SIX)
        except XHarmonizeError as error:
            print(f"{study.store.pairs[pair].place} is left out: {error}")
            continue
        ok = shared([*found.values(), *references.values()])
        if by_core:
            ok &= cores(study.store, tested[of_pair[tested] == pair])(target_of(tree))
        found["reference: observed Landsat"] = references["observed"]
        for against, reference in references.items():
            for name, image in found.items():
                if not (against == "observed" and name.startswith("reference")):
                    part = (image[:, ok], reference[:, ok])
                    parts.setdefault((against, name), []).append(part)
    return {
        key: tuple(np.concatenate(side, axis=1).astype(float) for side in zip(*pieces))
        for key, pieces in parts.items()
    }  # type: ignore[misc]


def agreement(e: np.ndarray, r: np.ndarray) -> dict[str, float]:
    """Scores of paired values (n,)."""
    slope, intercept = np.polyfit(r, e, 1)
    return {
        "R2": 1 - ((e - r) ** 2).sum() / ((r - r.mean()) ** 2).sum(),
        "r2": np.corrcoef(e, r)[0, 1] ** 2,
        "RMSE": np.sqrt(((e - r) ** 2).mean()),
        "slope": slope,
        "intercept": intercept,
    }


def rows_of(pixels: Pixels, **about: Any) -> list[dict[str, Any]]:
    """Rows per band, and of NDVI."""
    rows = []
    for (against, name), (e, r) in pixels.items():
        quantities = dict(zip(SIX, zip(e, r))) | {"ndvi": (ndvi(e), ndvi(r))}
        rows += [
            {**about, "against": against, "method": name, "band": band, **agreement(*pair)}
            for band, pair in quantities.items()
        ]
    return rows


def ablation(study: Study, given: argparse.Namespace) -> pd.DataFrame:
    """Tables 3, 4 and 5."""
    rows = []
    for kind in ("random", "scene"):
        for seed in given.seeds:
            models: dict[str, Any] = {"identity": None, "HLS v2": "hls-v2"}
            for name in TABLES:
                drawn, model = trained(study, name, kind, given, seed)
                models.setdefault("line per band", xh.fit_linear(drawn.pairs))
                models[name] = model
            pixels = pixels_of(models, drawn, by_core=kind == "random")
            rows += rows_of(pixels, split=kind, seed=seed)
    table = pd.DataFrame(rows)
    scores = table.groupby(["split", "against", "method", "band"], sort=False).mean()
    bands = scores.drop(columns="seed").drop(index="ndvi", level="band")
    found = bands.groupby(level=[0, 1, 2], sort=False).mean()
    of_ndvi = scores.xs("ndvi", level="band")
    found = found.assign(**{"NDVI R2": of_ndvi["R2"], "NDVI RMSE": of_ndvi["RMSE"]})
    each = table[table["band"] != "ndvi"].groupby(["split", "against", "method", "seed"])
    found["± RMSE"] = each["RMSE"].mean().groupby(level=[0, 1, 2]).std()
    for name in ("R2", "RMSE", "slope", "intercept"):
        print(f"\n{name} per band")
        print(scores[name].unstack("band", sort=False).round(4).to_string())
    return found


def patch_sizes(trees: Any, given: argparse.Namespace, folder: Path) -> pd.DataFrame:
    """Table 7: the same tiles of 1,920 m when applied, hence mostly whole places."""
    rows = []
    for patch in PATCHES:
        study = study_of(trees, given, folder, patch, 8)
        for seed in given.seeds:
            drawn, model = trained(study, OURS, "scene", given, seed)
            models = {"line per band": xh.fit_linear(drawn.pairs), OURS: Tiled(model, 1920.0)}
            pixels = pixels_of(models, drawn, by_core=False)
            rows += rows_of(pixels, patch=patch, samples=len(drawn.parts.training))
    table = pd.DataFrame(rows)
    table = table[table["band"] != "ndvi"].drop(columns="band")
    return table.groupby(["against", "method", "patch"], sort=False).mean()


def closeness(study: Study, given: argparse.Namespace) -> pd.DataFrame:
    """4.3: distances [1], mean over bands and test places, as it is and after a stretch."""
    seed = given.seeds[0]
    drawn, model = trained(study, OURS, "scene", given, seed)
    models = {"identity": None, "line per band": xh.fit_linear(drawn.pairs), OURS: model}
    rows = []
    for tree in (t for n, t in study.trees.items() if n.startswith("test")):
        found, references = images(models, tree, SIX)
        ok = shared([*found.values(), *references.values()])
        if ok.sum() < 100:
            continue
        found["reference: observed Landsat"] = references["observed"]
        for against, reference in references.items():
            for name, image in found.items():
                if against == "observed" and name.startswith("reference"):
                    continue
                each = [distances(e, r) for e, r in zip(image[:, ok], reference[:, ok])]
                mean = pd.DataFrame(each).mean()
                rows.append({"against": against, "method": name, **mean})
    return pd.DataFrame(rows).groupby(["against", "method"], sort=False).mean()


def distances(e: np.ndarray, r: np.ndarray) -> dict[str, float]:
    """Of values, of distributions, and of values after 2 % are clipped and stretched to 0 … 1."""
    stretched = [np.clip((v - a) / (b - a), 0, 1) for v in (e, r)
                 for a, b in [np.percentile(v, (2, 98))]]  # fmt: skip
    return {
        "RMSE": np.sqrt(((e - r) ** 2).mean()),
        "Wasserstein": wasserstein_distance(e, r),
        "SD ratio": e.std() / r.std(),
        "RMSE, stretched": np.sqrt(((stretched[0] - stretched[1]) ** 2).mean()),
    }


def adjacent(study: Study, given: argparse.Namespace) -> pd.DataFrame:
    """4.1: two tiles of two thirds of a place, and the third that both hold, in RMSE [1]."""
    rows = []
    for seed in given.seeds:
        for name in ("tile-lut", OURS):
            _, model = trained(study, name, "scene", given, seed)
            for place, tree in study.trees.items():
                cube = on_target_grid(tree)
                if not place.startswith("test") or cube.sizes["x"] < 24:
                    continue
                rows += overlap(name, place, cube, as_cube(target_of(tree)).values[0], model)
    return pd.DataFrame(rows).drop(columns="place").groupby("method", sort=False).mean()


def on_target_grid(tree: xr.DataTree) -> xr.DataArray:
    """The six bands (time, band, y, x) of a place on the target's grid."""
    source, target = source_cube(tree, 0).sel(band=SIX), as_cube(target_of(tree))
    return xh.regrid(source, like=target, min_valid=1.0).compute()


def overlap(
    name: str, place: str, cube: xr.DataArray, target: np.ndarray, model: Any
) -> list[dict[str, Any]]:
    """What the tables of the left and of the right two thirds make of the middle third."""
    third = cube.sizes["x"] // 3
    mapper = Tiled(model, 1e6)  # one tile, whatever is in it
    left = mapper(cube.isel(x=slice(0, 2 * third))).values[0][..., third + 1 : -1]
    right = mapper(cube.isel(x=slice(third, None))).values[0][..., 1 : third - 1]
    observed = target[..., third + 1 : 2 * third - 1]
    ok = shared([left, right, observed])
    if ok.sum() < 50:
        return []
    apart, error = (left - right)[:, ok], (left - observed)[:, ok]
    return [{"method": name, "place": place, "apart": np.sqrt((apart**2).mean()),
             "apart, mean": np.abs(apart.mean(1)).mean(),
             "error": np.sqrt((error**2).mean())}]  # fmt: skip


def seconds(study: Study, given: argparse.Namespace, side: int = 3660) -> pd.DataFrame:
    """Processor seconds of a whole tile, of which the histogram is counted first."""
    _, model = trained(study, OURS, "scene", given, given.seeds[0])
    small = next(on_target_grid(t) for n, t in study.trees.items() if n.startswith("test"))
    rows = []
    for size in (300, side):  # the first compiles
        cube = large(small, size).chunk(y=1024, x=1024)
        start, wall = time.process_time(), time.perf_counter()
        Tiled(model, 1e7)(cube).compute()
        rows.append({"pixels": f"6 × {size}²", "processor": time.process_time() - start,
                     "wall": time.perf_counter() - wall})  # fmt: skip
    return pd.DataFrame(rows).set_index("pixels")


def large(small: xr.DataArray, size: int) -> xr.DataArray:
    """A cube of `size` pixels a side, of pixels drawn from another."""
    random = np.random.default_rng(0)
    values = small.values[0].reshape(6, -1).T
    pixels = random.choice(values[np.isfinite(values).all(1)], size * size).T
    steps = 30.0 * np.arange(size)
    axes = {"y": float(small.y[0]) - steps, "x": float(small.x[0]) + steps}
    import rioxarray  # noqa: F401  (registers .rio)

    crs = small.rio.crs
    cube = small.isel(y=0, x=0, drop=True).drop_vars("spatial_ref").expand_dims(axes, (-2, -1))
    cube = cube.transpose(*small.dims).copy(data=pixels.reshape(1, 6, size, size))
    return cube.rio.write_crs(crs).rio.write_transform()


def frequency(n_places: int = 12, year: int = 2022) -> pd.DataFrame:
    """3.4: passes a month of which a share is clear, Landsat's and with Sentinel-2's."""
    rows = []
    for place in draw_places(n_places):
        simulation = replace(place.simulation, start=f"{year}-01-01", end=f"{year}-12-31",
                             cloudiness=Simulation.cloudiness)  # fmt: skip
        for look in simulation.passes():
            clear = clear_share(simulation, look)
            rows.append({"month": int(str(look.time)[5:7]), "sensor": look.orbit.sensor}
                        | {f"{c:.0%}": clear > c for c in CLEAR})  # fmt: skip
    table = pd.DataFrame(rows).groupby(["month", "sensor"]).sum() / n_places
    landsat, sentinel = (table.xs(s, level="sensor") for s in ("landsat-c2-l2", "sentinel-2-l2a"))
    whole = pd.concat({"Landsat": landsat, "merged": landsat + sentinel}, axis=1)
    whole.loc["year"] = whole.sum()
    for c in CLEAR:
        whole["ratio", f"{c:.0%}"] = whole["merged", f"{c:.0%}"] / whole["Landsat", f"{c:.0%}"]
    return whole


def paper_002(trees: dict[str, xr.DataTree], given: argparse.Namespace, folder: Path) -> Any:
    """Print all parts; return the ablation, or the last part asked for."""
    study = study_of(trees, given, folder, 16, 16)
    parts: dict[str, Callable[[], pd.DataFrame]] = {
        "ablation": lambda: ablation(study, given),
        "patch": lambda: patch_sizes(trees, given, folder),
        "closeness": lambda: closeness(study, given),
        "adjacent": lambda: adjacent(study, given),
        "seconds": lambda: seconds(study, given, given.side),
        "frequency": frequency,
    }
    chosen = given.only.split(",") if given.only else list(parts)
    found = {}
    for name in chosen:
        found[name] = parts[name]()
        print(f"\n{name}\n{found[name].round(5).to_string()}", flush=True)
    return found.get("ablation", found[chosen[-1]])
