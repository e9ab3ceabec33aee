"""Tables of papers 000, 001 and 002 on simulated pairs.

Run ``python benchmarks/papers.py 000|001|002 FOLDER [--places N --seeds 0,1,2 --steps N]``; FOLDER
is the cache of pairs. Test places are another variant of the physics and another year. Methods are
fitted on observed Landsat of the training places and scored against observed Landsat and against
the truth, which no fit reads. Options are the recipe's defaults but for sizes; none is chosen on
these tables.

- *000*: MGAN beside L1 alone, small-conv and lines, on places trained on and not.
- *001*: HLS-GAN in the green band on 30 m means, per window, split at random and by scene.
- *002*: tables with and without histograms and convolution, split by patch and by tile-day.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from simulator_learnable import fit_line, read_scene, same_pair, sample
from skimage.metrics import structural_similarity

import xharmonize as xh
from xharmonize.cube.pairs import as_cube, target_of
from xharmonize.errors import XHarmonizeError
from xharmonize.testing.places import draw_places, simulate_pairs
from xharmonize.training import Config, Data, build_store, split
from xharmonize.training.config import NETWORKS
from xharmonize.training.judge import applied, as_pairs, cores, source_cube

SIX = ["blue", "green", "red", "nir08", "swir16", "swir22"]
TABLES = ("global-lut", "global-lut-conv", "tile-lut", "tile-lut-conv")
SIZES: dict[str, dict[str, Any]] = {"mgan": {"width": 16, "discriminator_width": 16}}
"""Smaller than the defaults, so that three seeds take minutes on one core."""


def scenes_of(trees: dict[str, xr.DataTree], data: Data, folder: Path) -> tuple[str, ...]:
    """Names of the test scenes that have samples."""
    store = build_store(trees, folder / "look", data)
    pairs = [store.pairs[k] for k in sorted(set(store.pair[store.kept].tolist()))]
    return tuple(f"{p.place}/{p.date}" for p in pairs if p.place.startswith("test"))


def network(name: str, trees: Any, data: Data, folder: Path, label: str, **options: Any) -> Any:
    """Train one network; says what it took."""
    start = time.process_time()
    method = NETWORKS[name](**SIZES.get(name, {}), **options)
    training = xh.training.train(
        name, trees, config=Config(method=method, data=data), out=folder / label, progress=False
    )
    told = training.history.dropna(subset=["validation"])
    best = int(told.loc[told["validation"].idxmin(), "step"])
    print(f"{label}: best step {best}, {time.process_time() - start:.0f} s of processor time")
    return training.model


def images(
    models: dict[str, Any], tree: xr.DataTree, bands: list[str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Estimates and references (band, y, x) of one place."""
    target = as_cube(target_of(tree)).sel(band=bands).compute()
    source = source_cube(tree, 0).compute()
    found = {n: applied(m, source, target, bands).values[0] for n, m in models.items()}
    truth = tree["truth"]["reflectance"].sel(band=bands).values[0]
    return found, {"observed": target.values[0], "truth": truth}


def sharpness(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Power of the finer half of the frequencies over that of the reference [1]."""
    power = [np.abs(np.fft.fft2(i - i.mean((-2, -1), keepdims=True))) ** 2
             for i in (estimate, reference)]  # fmt: skip
    fy, fx = (np.abs(np.fft.fftfreq(n)) for n in reference.shape[-2:])
    fine = np.hypot(fy[:, None], fx[None]) > 0.25
    return float(np.mean(power[0][:, fine].sum(1) / power[1][:, fine].sum(1)))


def similarity(estimate: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """SSIM (y, x), mean over bands, of the range of the reference."""
    maps = [
        structural_similarity(e, r, data_range=float(r.max() - r.min()) + 1e-6, full=True,
                              gaussian_weights=True, sigma=1.5, use_sample_covariance=False)[1]
        for e, r in zip(estimate.astype(float), reference.astype(float))
    ]  # fmt: skip
    return np.mean(maps, axis=0)


def numbers(estimate: np.ndarray, reference: np.ndarray, ok: np.ndarray) -> dict[str, float]:
    """Scores of one image; pixels that do not count are those of the reference."""
    e, r = estimate[:, ok].astype(float), reference[:, ok].astype(float)
    rmse = np.sqrt(((e - r) ** 2).mean(1))
    cosine = (e * r).sum(0) / np.linalg.norm(e, axis=0) / np.linalg.norm(r, axis=0)
    found = {
        "ERGAS": 100 * float(np.sqrt(np.mean((rmse / r.mean(1)) ** 2))),
        "SAM": float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean()),
    }
    if len(e) == len(SIX):
        a, b = ((v[3] - v[2]) / (v[3] + v[2]) for v in (e, r))
        found["NDVI"] = float(np.sqrt(np.mean((a - b) ** 2)))
        found |= dict(zip(SIX, rmse))
    whole = np.where(ok, reference, np.nanmean(r, axis=1)[:, None, None])
    mixed = np.where(ok, estimate, whole)
    return found | {
        "SSIM": float(similarity(mixed, whole)[ok].mean()),
        "spectrum": sharpness(mixed, whole),
    }


def shared(found: Iterable[np.ndarray]) -> np.ndarray:
    """Pixels (y, x) where all are valid."""
    return np.logical_and.reduce([np.isfinite(image).all(0) for image in found])


def compared(models: dict[str, Any], tree: xr.DataTree, extra: Any = None) -> list[dict[str, Any]]:
    """Rows of one place: every method against both references."""
    found, references = images(models, tree, SIX)
    found |= extra or {}
    ok = shared([*found.values(), *references.values()])
    if ok.sum() < 100:
        return []
    found["reference: observed Landsat"] = references["observed"]
    return [
        {"method": name, "against": kind, **numbers(image, reference, ok)}
        for kind, reference in references.items()
        for name, image in found.items()
        if not (kind == "observed" and name.startswith("reference"))
    ]


def lines(trees: dict[str, xr.DataTree], data: Data, folder: Path) -> dict[str, Any]:
    """Identity, HLS v2, and lines on the training samples."""
    store = build_store(trees, folder / "lines", data)
    pairs = as_pairs(store, split(store, data).training)
    return {
        "identity": None,
        "HLS v2": "hls-v2",
        "line per band": xh.fit_linear(pairs),
        "six-band line": xh.fit_linear(pairs.sel(source_band=SIX), method="multiband"),
        "ten-band line": xh.fit_linear(pairs, method="multiband"),
    }


def paper_000(trees: dict[str, xr.DataTree], given: argparse.Namespace, folder: Path) -> Any:
    """MGAN, with and without its adversary, beside lines."""
    data = Data(patch=16, stride=8, split="scene")
    data = replace(data, holdout=scenes_of(trees, data, folder))
    models = lines(trees, data, folder)
    for seed in given.seeds:
        for label, name, options in (
            ("mgan", "mgan", {}), ("mgan, L1 only", "mgan", {"adversary": "none"}),
            ("small-conv", "small-conv", {}),
        ):  # fmt: skip
            models[f"{label} #{seed}"] = network(
                name, trees, data, folder, f"{label.replace(', ', '-').replace(' ', '-')}-{seed}",
                steps=given.steps, seed=seed, evaluate=given.evaluate, **options,
            )  # fmt: skip
    scenes = {name: read_scene(name, tree) for name, tree in trees.items()}
    train = [s for n, s in scenes.items() if n.startswith("train") and s.ok.sum() >= 100]
    chosen = sample(train)
    kernel = fit_line(
        [s.kernel[at] for s, at in zip(train, chosen)],
        [s.target[at] for s, at in zip(train, chosen)],
    )
    rows = []
    for name, scene in scenes.items():
        if scene.ok.sum() < 400:
            continue
        flat = {"linear kernel": kernel(scene.kernel), "same pair": same_pair(scene, "target")}
        extra = {n: v.T.reshape(6, *scene.shape) for n, v in flat.items()}
        where = "not trained on" if name.startswith("test") else "trained on"
        rows += [{"places": where, "place": name, **row}
                 for row in compared(models, trees[name], extra)]  # fmt: skip
    return summary(pd.DataFrame(rows), ["places", "against"])


def summary(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Mean over places, then over seeds; ± is the standard deviation of ERGAS over seeds."""
    rows = rows.assign(run=rows["method"], method=rows["method"].str.split(" #").str[0])
    each = rows.groupby([*by, "method", "run"], sort=False).mean(numeric_only=True)
    found = each.groupby(level=[*by, "method"], sort=False).mean()
    if "ERGAS" in each:
        spread = each["ERGAS"].groupby(level=[*by, "method"], sort=False).std()
        found.insert(1, "±", spread)
    return found


def paper_001(trees: dict[str, xr.DataTree], given: argparse.Namespace, folder: Path) -> Any:
    """HLS-GAN per window: share of windows with a higher SSIM and a lower MSE than identity."""
    rows = []
    for kind in ("random", "scene"):
        for seed in given.seeds:
            data = Data(patch=16, stride=16, split=kind, seed=seed, target_bands=("green",),
                        source_bands=("green",))  # fmt: skip
            label = f"hls-gan-{kind}-{seed}"
            model = network("hls-gan", trees, data, folder, label, steps=given.steps, seed=seed,
                            evaluate=given.evaluate, width=16, discriminator_width=16)  # fmt: skip
            store = build_store(trees, folder / f"windows-{kind}-{seed}", data)
            parts = split(store, data)
            models = {"identity": None, "line": xh.fit_linear(as_pairs(store, parts.training)),
                      "hls-gan": model}  # fmt: skip
            rows += windows(models, trees, store, parts.test, kind)
    return pd.DataFrame(rows).groupby(["split", "against", "method"], sort=False).agg(
        windows=("SSIM", "size"), SSIM=("SSIM", "mean"), MSE=("MSE", "mean"),
        SSIM_up=("SSIM_up", "mean"), MSE_down=("MSE_down", "mean"),
    )  # fmt: skip


def windows(models: Any, trees: Any, store: Any, tested: Any, kind: str) -> list[dict[str, Any]]:
    """Rows of SSIM and MSE per test window."""
    rows = []
    for number in tested:
        tree = trees[store.pairs[store.pair[number]].place]
        found, references = images(models, tree, ["green"])
        inside = cores(store, [number])(target_of(tree))
        ok = shared([*found.values(), *references.values()]) & inside
        if ok.sum() < 30:
            continue
        for against, reference in references.items():
            whole = np.where(ok, reference, np.nanmean(reference[:, ok]))
            values = {}
            for name, image in found.items():
                mse = float(((image - reference)[:, ok] ** 2).mean())
                ssim = float(similarity(np.where(ok, image, whole), whole)[ok].mean())
                values[name] = (ssim, mse)
            rows += [
                {"split": kind, "against": against, "method": name, "SSIM": ssim, "MSE": mse,
                 "SSIM_up": ssim > values["identity"][0], "MSE_down": mse < values["identity"][1]}
                for name, (ssim, mse) in values.items()
            ]  # fmt: skip
    return rows


def paper_002(trees: dict[str, xr.DataTree], given: argparse.Namespace, folder: Path) -> Any:
    """Tables: R², RMSE, slope and intercept, mean over bands, and NDVI; pixels pooled."""
    rows = []
    for kind in ("random", "scene"):
        for seed in given.seeds:
            data = Data(patch=16, stride=16, split=kind, seed=seed, source_bands=tuple(SIX))
            if kind == "scene":
                data = replace(data, holdout=scenes_of(trees, data, folder / f"at-{seed}"))
            store = build_store(trees, folder / f"tables-{kind}-{seed}", data)
            parts = split(store, data)
            models: dict[str, Any] = {"identity": None, "HLS v2": "hls-v2"}
            models["line per band"] = xh.fit_linear(as_pairs(store, parts.training))
            for name in TABLES:
                models[name] = network(name, trees, data, folder, f"{name}-{kind}-{seed}",
                                       steps=given.steps, seed=seed,
                                       evaluate=given.evaluate)  # fmt: skip
            rows += pooled(models, trees, store, parts.test, kind)
    return pd.DataFrame(rows).groupby(["split", "against", "method"], sort=False).mean()


def pooled(models: Any, trees: Any, store: Any, tested: Any, kind: str) -> list[dict[str, Any]]:
    """Rows of one split and seed, over the pixels of all test samples."""
    parts: dict[tuple[str, str], list[Any]] = {}
    for pair in sorted(set(store.pair[tested].tolist())):
        tree = trees[store.pairs[pair].place]
        try:
            found, references = images(models, tree, SIX)
        except XHarmonizeError as error:
            print(f"{store.pairs[pair].place} is left out: {error}")
            continue
        ok = shared([*found.values(), *references.values()])
        ok &= cores(store, tested[store.pair[tested] == pair])(target_of(tree))
        for against, reference in references.items():
            for name, image in found.items():
                parts.setdefault((against, name), []).append((image[:, ok], reference[:, ok]))
    rows = []
    for (against, name), pieces in parts.items():
        e, r = (np.concatenate(side, axis=1).astype(float) for side in zip(*pieces))
        lines = [np.polyfit(a, b, 1) for a, b in zip(r, e)]
        a, b = ((v[3] - v[2]) / (v[3] + v[2]) for v in (e, r))
        rows.append({
            "split": kind, "against": against, "method": name,
            "R2": np.mean(1 - ((e - r) ** 2).sum(1) / ((r.T - r.mean(1)) ** 2).sum(0)),
            "RMSE": np.mean(np.sqrt(((e - r) ** 2).mean(1))),
            "slope": np.mean([line[0] for line in lines]),
            "intercept": np.mean([line[1] for line in lines]),
            "NDVI R2": 1 - ((a - b) ** 2).sum() / ((b - b.mean()) ** 2).sum(),
            "NDVI RMSE": np.sqrt(((a - b) ** 2).mean()),
        })  # fmt: skip
    return rows


PAPERS = {"000": paper_000, "001": paper_001, "002": paper_002}


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Print the table of one paper."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paper", choices=PAPERS)
    parser.add_argument("folder")
    parser.add_argument("--places", type=int, default=120)
    parser.add_argument("--level", default="as-it-comes", choices=("as-it-comes", "registered"))
    parser.add_argument("--seeds", type=lambda t: [int(s) for s in t.split(",")], default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--evaluate", type=int, default=25)
    given = parser.parse_args(arguments)
    trees = simulate_pairs(draw_places(given.places, level=given.level), given.folder)
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        found = PAPERS[given.paper](trees, given, Path(folder))
    print(f"{len(trees)} places, {given.level}, seeds {given.seeds}, at most {given.steps} steps, "
          f"{time.process_time() - start:.0f} s of processor time")  # fmt: skip
    print(found.round(4).to_string())
    return found


if __name__ == "__main__":
    main()
