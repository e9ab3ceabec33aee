"""What the tables of the papers share: samples that are cut once, and scores of images."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from skimage.metrics import structural_similarity

import xharmonize as xh
from xharmonize.cube.pairs import as_cube, target_of
from xharmonize.errors import RadiometryWarning
from xharmonize.models.bundle import write_bundle
from xharmonize.training import Config, Data, build_store, cards, constants, split
from xharmonize.training.job import make_job
from xharmonize.training.judge import applied, as_pairs, source_cube
from xharmonize.training.log import Log
from xharmonize.training.split import Split
from xharmonize.training.store import Store

SIX = ["blue", "green", "red", "nir08", "swir16", "swir22"]


@dataclass(frozen=True, kw_only=True)
class Study:
    """Samples of places, cut once for many trainings.

    `xharmonize.train` cuts samples and scores for each training anew, which takes longer than some
    hundred steps of these small networks; the steps are the same.
    """

    trees: dict[str, xr.DataTree]
    data: Data
    store: Store
    parts: Split
    folder: Path
    out: Path

    @cached_property
    def measured(self) -> Any:
        return constants.measure(self.store, self.parts.training, self.data.clip)

    @cached_property
    def pairs(self) -> xr.Dataset:
        """Training samples on the target's grid, for closed forms."""
        return as_pairs(self.store, self.parts.training).compute()

    def split_by(self, data: Data) -> Study:
        """Return the same samples, split otherwise."""
        return replace(self, data=data, parts=split(self.store, data))

    def train(self, label: str, method: Any) -> Any:
        """Train a network, unless a former run left its bundle in `out`; say what it took."""
        bundle = self.out / label
        if not bundle.exists():
            start = time.process_time()
            best = self._train(bundle, method)
            spent = time.process_time() - start
            print(f"{label}: best step {best} of {method.steps}, {spent:.0f} s of processor time",
                  flush=True)  # fmt: skip
        return xh.load_model(bundle)

    def _train(self, bundle: Path, method: Any) -> int:
        config = Config(method=method, data=self.data)
        facts = cards.Facts.of(
            self.store.only(config.roles), self.parts.training,
            name=cards.slug(bundle.name, method.name), clip=self.data.clip,
        )  # fmt: skip
        work = self.folder / bundle.name
        work.mkdir(parents=True)
        log = Log(work / "log.jsonl", steps=method.steps, progress=False, tensorboard=False)
        job = make_job(config, self.parts, facts, checkpoints=work / "checkpoints")
        weights = job.run(log, device="cpu")
        write_bundle(bundle, job.card, weights)
        told = log.history().dropna(subset=["validation"])
        told.to_json(bundle.with_suffix(".jsonl"), orient="records", lines=True)
        return int(told.loc[told["validation"].idxmin(), "step"])


def make_study(
    trees: dict[str, xr.DataTree], data: Data, folder: Path, out: Path, *, seed: int = 0
) -> Study:
    """Cut the samples; of a split by scenes, those of the test places are tested on."""
    folder.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    store = build_store(trees, folder / "samples", data)
    data = with_seed(store, data, seed)
    return Study(trees=trees, data=data, store=store, parts=split(store, data), folder=folder,
                 out=out)  # fmt: skip


def with_seed(store: Store, data: Data, seed: int) -> Data:
    """Settings of a split for a seed, which draws all but the test places."""
    pairs = [store.pairs[k] for k in sorted(set(store.pair[store.kept].tolist()))]
    tested = tuple(f"{p.place}/{p.date}" for p in pairs if p.place.startswith("test"))
    return replace(data, seed=seed, holdout=tested if data.split == "scene" else ())


class Tiled:
    """A table network that counts histograms over tiles of another size than it was trained on."""

    def __init__(self, model: Any, tile: float) -> None:
        self.model, self.tile = model, tile

    def __call__(self, cube: xr.DataArray) -> xr.DataArray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RadiometryWarning)  # of tiles that reach beyond
            tables = xh.harmonizers.fit_tables(cube, self.model, tile=self.tile)
            return xh.to_sensor(cube, "landsat-c2-l2", self.model, tables=tables)


def estimate(
    model: Any, source: xr.DataArray, target: xr.DataArray, bands: list[str]
) -> np.ndarray:
    """Source as the target's sensor sees it (band, y, x)."""
    if isinstance(model, Tiled):
        cube = xh.regrid(source.sel(band=bands), like=target, min_valid=1.0)
        return model(cube).sel(band=bands).values[0]
    return applied(model, source, target, bands).values[0]


def images(
    models: dict[str, Any], tree: xr.DataTree, bands: list[str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Estimates and references (band, y, x) of one place."""
    target = as_cube(target_of(tree)).sel(band=bands).compute()
    source = source_cube(tree, 0).compute()
    found = {n: estimate(m, source, target, bands) for n, m in models.items()}
    truth = tree["truth"]["reflectance"].sel(band=bands).values[0]
    return found, {"observed": target.values[0], "truth": truth}


def shared(found: Iterable[np.ndarray]) -> np.ndarray:
    """Pixels (y, x) where all are valid."""
    return np.logical_and.reduce([np.isfinite(image).all(0) for image in found])


def ndvi(image: np.ndarray) -> np.ndarray:
    """NDVI [1] of the six bands (band, …)."""
    return (image[3] - image[2]) / (image[3] + image[2])


def ergas(estimate: np.ndarray, reference: np.ndarray) -> float:
    """ERGAS [%], ratio 1, of (band, pixel) arrays."""
    rmse = np.sqrt(((estimate - reference) ** 2).mean(1))
    return 100 * float(np.sqrt(np.mean((rmse / reference.mean(1)) ** 2)))


def numbers(estimate: np.ndarray, reference: np.ndarray, ok: np.ndarray) -> dict[str, float]:
    """Scores of one image; pixels that do not count are those of the reference."""
    e, r = estimate[:, ok].astype(float), reference[:, ok].astype(float)
    rmse = np.sqrt(((e - r) ** 2).mean(1))
    cosine = (e * r).sum(0) / np.linalg.norm(e, axis=0) / np.linalg.norm(r, axis=0)
    level = (r - e).mean(1, keepdims=True)
    found = {
        "ERGAS": ergas(e, r),
        "centred": ergas(e + level, r),
        "SAM": float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean()),
        "NDVI": float(np.sqrt(np.mean((ndvi(e) - ndvi(r)) ** 2))),
        "NDVI centred": float(np.sqrt(np.mean((ndvi(e + level) - ndvi(r)) ** 2))),
        **dict(zip(SIX, rmse)),
    }
    whole = np.where(ok, reference, np.nanmean(r, axis=1)[:, None, None])
    mixed = np.where(ok, estimate, whole)
    found["SSIM"] = float(similarity(mixed, whole)[ok].mean())
    return found | {"spectrum": sharpness(mixed, whole)}


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


def summary(rows: pd.DataFrame, by: list[str], spread_of: str) -> pd.DataFrame:
    """Mean over places, then over seeds; ± is the standard deviation over seeds of one score."""
    rows = rows.assign(run=rows["method"], method=rows["method"].str.split(" #").str[0])
    each = rows.groupby([*by, "method", "run"], sort=False).mean(numeric_only=True)
    found = each.groupby(level=[*by, "method"], sort=False).mean()
    spread = each[spread_of].groupby(level=[*by, "method"], sort=False).std()
    found.insert(1, "±", spread)
    return found


def differences(rows: pd.DataFrame, base: str, n: int = 2000) -> pd.DataFrame:
    """ERGAS minus that of `base`, place by place, mean over seeds: mean and 90 % of a bootstrap."""
    rows = rows.assign(method=rows["method"].str.split(" #").str[0])
    table = rows.pivot_table(index="place", columns="method", values="ERGAS", sort=False)
    apart = table.sub(table[base], axis=0)
    random = np.random.default_rng(1)
    picks = random.integers(0, len(apart), (n, len(apart)))
    ends = {m: np.quantile(apart[m].values[picks].mean(1), (0.05, 0.95)) for m in apart}
    better = (apart < 0).mean()
    return pd.DataFrame({"mean": apart.mean(), "low": {m: e[0] for m, e in ends.items()},
                         "high": {m: e[1] for m, e in ends.items()}, "better": better})  # fmt: skip
