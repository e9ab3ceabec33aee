"""What simulated pairs hold to learn beyond a linear kernel, before any network is trained.

Run ``python benchmarks/simulator_learnable.py FOLDER [--places 120] [--level as-it-comes]``; FOLDER
is the cache of pairs. Everything is fitted on observed Landsat of the training places (variants a
and c, 2022) and scored on the test places (variant b, 2023, other seeds), against observed Landsat
and against the truth, which no fit reads. Boosted trees learn what the best line leaves over. Rows:

- *line 10*: area means of ten bands; *line kernel*: all sub-pixels within 60 m of all bands. Slopes
  within dates, one intercept.
- *kernel, dates' means too*: ordinary ridge, so that differences between dates count.
- *trees, pixel*: boosted trees on the pixel's ten bands and the texture around it.
- *trees, surroundings*: and the mean of 300 m around, relative to the pixel.
- *trees, scene*: and the histogram of the whole scene; may tell what the air was like.
- *scene, ridge*: the mean residual of a date from quantiles of its bands.
- *same pair*: a line fitted on the other half of the same pair, with its reference.
- *reference*: observed Landsat against the truth.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from scipy.ndimage import uniform_filter
from sklearn.ensemble import HistGradientBoostingRegressor

from xharmonize.cube.pairs import on_target_grid, source_groups, target_of
from xharmonize.testing.places import draw_places, simulate_pairs

QUANTILES = (0.02, 0.25, 0.5, 0.75, 0.98)
PER_PLACE = 300
"""Pixels of a training place that are used; places weigh the same."""


def score(estimate: np.ndarray, reference: np.ndarray) -> tuple[float, float, float]:
    """ERGAS, SAM [degree] and NDVI RMSE [1] of (band, pixel) arrays."""
    e, r = estimate.astype(float), reference.astype(float)
    ergas = 100 * np.sqrt(np.mean(((e - r) ** 2).mean(axis=1) / r.mean(axis=1) ** 2))
    cosine = (e * r).sum(axis=0) / np.linalg.norm(e, axis=0) / np.linalg.norm(r, axis=0)
    sam = np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean()
    ndvi_e, ndvi_r = ((v[3] - v[2]) / (v[3] + v[2]) for v in (e, r))
    return float(ergas), float(sam), float(np.sqrt(np.mean((ndvi_e - ndvi_r) ** 2)))


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One pair as tables: (pixel, feature) and (pixel, band), all pixels of the target in order."""

    name: str
    shape: tuple[int, int]
    means: np.ndarray
    kernel: np.ndarray
    near: np.ndarray
    scene: np.ndarray
    target: np.ndarray
    truth: np.ndarray
    ok: np.ndarray


def windows_of(image: xr.DataArray, target: xr.DataArray, n: int) -> np.ndarray:
    """Sub-pixels (pixel, n * n * band) around the centre of each target pixel."""
    step = float(image.x[1] - image.x[0])
    offset = (np.arange(n) - (n - 1) / 2) * step
    columns = np.rint((target.x.values[:, None] + offset - float(image.x[0])) / step).astype(int)
    rows = np.rint((float(image.y[0]) - target.y.values[:, None] + offset) / step).astype(int)
    rows = np.clip(rows, 0, image.sizes["y"] - 1)
    columns = np.clip(columns, 0, image.sizes["x"] - 1)
    values = image.values[0][:, rows[:, None, :, None], columns[None, :, None, :]]
    return np.moveaxis(values, 0, -1).reshape(len(rows) * len(columns), -1)


def read_scene(name: str, pairs: xr.DataTree) -> Scene:
    """Turn one pair into tables."""
    target = target_of(pairs).load()
    means = on_target_grid(pairs)["source"].load().values[0]
    groups = source_groups(pairs)
    parts = [windows_of(groups[g].load(), target, n) for g, n in (("10m", 6), ("20m", 3))]
    filled = np.where(np.isfinite(means), means, np.nanmean(means, axis=(1, 2), keepdims=True))
    wide = np.stack([uniform_filter(band, 11, mode="nearest") for band in filled])
    square = np.stack([uniform_filter(band**2, 3, mode="nearest") for band in filled])
    texture = np.sqrt(
        np.clip(
            square - np.stack([uniform_filter(b, 3, mode="nearest") for b in filled]) ** 2, 0, 1
        )
    )
    flat = means.reshape(len(means), -1).T
    histogram = np.nanquantile(means, QUANTILES, axis=(1, 2)).ravel()
    kernel = np.concatenate(parts, axis=1)
    observed = target.values[0].reshape(6, -1).T
    ok = np.isfinite(kernel).all(1) & np.isfinite(observed).all(1) & np.isfinite(flat).all(1)
    return Scene(
        name=name,
        shape=target.shape[-2:],
        means=flat,
        kernel=kernel,
        near=np.concatenate([texture, wide]).reshape(2 * len(means), -1).T,
        scene=histogram,
        target=observed,
        truth=pairs["truth"]["reflectance"].values[0].reshape(6, -1).T,
        ok=ok,
    )


@dataclass(frozen=True, kw_only=True)
class Line:
    """Slopes (feature, band) and intercept (band,)."""

    slope: np.ndarray
    offset: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x @ self.slope + self.offset


def fit_line(
    xs: list[np.ndarray], ys: list[np.ndarray], *, within: bool = True, ridge: float = 1e-3
) -> Line:
    """Ridge on standardised features; `within` takes the mean of each scene off first."""
    mean_x = np.mean([x.mean(0) for x in xs], axis=0)
    mean_y = np.mean([y.mean(0) for y in ys], axis=0)
    x = np.concatenate([x - (x.mean(0) if within else mean_x) for x in xs]).astype(float)
    y = np.concatenate([y - (y.mean(0) if within else mean_y) for y in ys]).astype(float)
    size = x.std(0) + 1e-9
    z = x / size
    gram = z.T @ z / len(z) + ridge * np.eye(z.shape[1])
    slope = np.linalg.solve(gram, z.T @ y / len(z)) / size[:, None]
    return Line(slope=slope, offset=mean_y - mean_x @ slope)


def sample(scenes: list[Scene]) -> list[np.ndarray]:
    """Numbers of the pixels of each scene that are fitted on."""
    random = np.random.default_rng(0)
    found = []
    for scene in scenes:
        ok = np.flatnonzero(scene.ok)
        found.append(random.choice(ok, min(PER_PLACE, len(ok)), replace=False))
    return found


def around(scene: Scene, at: Any, kind: str) -> np.ndarray:
    """Features of trees (pixel, feature)."""
    n_bands = scene.means.shape[1]
    parts = [scene.means[at], scene.near[at][:, :n_bands]]
    if kind != "pixel":
        parts.append(scene.near[at][:, n_bands:] - scene.means[at])
    if kind == "scene":
        parts.append(np.broadcast_to(scene.scene, (len(parts[0]), len(scene.scene))))
    return np.concatenate(parts, axis=1)


def trees(
    train: list[Scene], rest: list[np.ndarray], chosen: list[np.ndarray], kind: str
) -> list[HistGradientBoostingRegressor]:
    """Fit what a line leaves over; the mean of a scene is left in it for `scene` only."""
    x = np.concatenate([around(s, at, kind) for s, at in zip(train, chosen)])
    left = [r if kind == "scene" else r - r.mean(0) for r in rest]
    y = np.concatenate(left)
    models = []
    for band in range(y.shape[1]):
        model = HistGradientBoostingRegressor(
            max_iter=60, learning_rate=0.1, max_leaf_nodes=15, min_samples_leaf=200,
            l2_regularization=1.0, random_state=0,
        )  # fmt: skip
        models.append(model.fit(x, y[:, band]))
    return models


def predictions(train: list[Scene], test: list[Scene], reference: str) -> dict[str, list]:
    """Prediction (pixel, band) of each test scene by method, fitted on `reference`."""
    chosen = sample(train)
    ys = [getattr(s, reference)[at] for s, at in zip(train, chosen)]
    kernels = [s.kernel[at] for s, at in zip(train, chosen)]
    lines = {
        "line 10": (fit_line([s.means[at] for s, at in zip(train, chosen)], ys), "means"),
        "line kernel": (fit_line(kernels, ys), "kernel"),
        "kernel, dates' means too": (fit_line(kernels, ys, within=False), "kernel"),
    }
    found = {n: [f(getattr(s, x)) for s in test] for n, (f, x) in lines.items()}
    best = lines["line kernel"][0]
    rest = [y - best(x) for x, y in zip(kernels, ys)]
    for kind in ("pixel", "surroundings", "scene"):
        models = trees(train, rest, chosen, kind)
        found[f"trees, {kind}"] = [
            best(s.kernel) + np.stack([m.predict(around(s, slice(None), kind)) for m in models], 1)
            for s in test
        ]
    scenes = [s.scene[None] for s in train]
    level = fit_line(scenes, [r.mean(0)[None] for r in rest], within=False, ridge=0.1)
    found["scene, ridge"] = [best(s.kernel) + level(s.scene[None]) for s in test]
    return found


def same_pair(scene: Scene, reference: str) -> np.ndarray:
    """Ten bands fitted on the left for the right half of one pair, and the other way round."""
    left = np.broadcast_to(np.arange(scene.shape[1]) < scene.shape[1] // 2, scene.shape).ravel()
    result = np.full(scene.target.shape, np.nan)
    for part in (left, ~left):
        at = scene.ok & ~part
        line = fit_line([scene.means[at]], [getattr(scene, reference)[at]])
        result[part] = line(scene.means[part])
    return result


def table(scenes: list[Scene], found: dict[str, list], reference: str) -> list[str]:
    """Rows of a table: mean over scenes, then with each scene's mean difference removed."""
    rows = []
    for name, images in found.items():
        plain, centred = [], []
        for scene, image in zip(scenes, images):
            e, r = image[scene.ok].T, getattr(scene, reference)[scene.ok].T
            plain.append(score(e, r))
            centred.append(score(e - e.mean(1, keepdims=True) + r.mean(1, keepdims=True), r))
        cells = [" / ".join(f"{v:.{d}f}" for v, d in zip(np.mean(t, axis=0), (2, 2, 4)))
                 for t in (plain, centred)]  # fmt: skip
        error = np.std([p[0] for p in plain], ddof=1) / np.sqrt(len(plain))
        rows.append(f"| {name} | {cells[0]} | {error:.2f} | {cells[1]} |")
    return rows


def gains(scenes: list[Scene], found: dict[str, list], reference: str) -> list[str]:
    """Difference of ERGAS to the best line, per scene: mean and 90 % of a bootstrap over scenes."""
    random = np.random.default_rng(1)
    values = {
        name: np.array([score(i[s.ok].T, getattr(s, reference)[s.ok].T)[0]
                        for s, i in zip(scenes, images)])
        for name, images in found.items()
    }  # fmt: skip
    rows = []
    for name, value in values.items():
        difference = value - values["line kernel"]
        picks = random.integers(0, len(difference), (2000, len(difference)))
        low, high = np.quantile(difference[picks].mean(1), (0.05, 0.95))
        rows.append(f"| {name} | {difference.mean():+.2f} | {low:+.2f} … {high:+.2f} |")
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--places", type=int, default=120)
    parser.add_argument("--level", default="as-it-comes", choices=("as-it-comes", "registered"))
    parser.add_argument("--plain", action="store_true", help="without the revealed effects")
    parser.add_argument("--fitted", nargs="+", default=["target", "truth"])
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args(arguments)
    effects: dict[str, Any] = {"effects": ()} if options.plain else {}
    places = draw_places(options.places, level=options.level, **effects)
    trees_of = simulate_pairs(places, options.folder, workers=options.workers)
    scenes = [read_scene(name, tree) for name, tree in trees_of.items()]
    scenes = [s for s in scenes if s.ok.sum() >= 100]
    train, test = ([s for s in scenes if s.name.startswith(n)] for n in ("train", "test"))
    print(f"{len(train)} places to train on, {len(test)} to test; {options.level}, "
          f"{'plain' if options.plain else 'revealed'}")  # fmt: skip
    names = [0, 1, 2, 7, 8, 9]
    for fitted in options.fitted:
        found = {"identity": [s.means[:, names] for s in test]}
        found |= predictions(train, test, fitted)
        found["same pair"] = [same_pair(s, fitted) for s in test]
        found["reference"] = [s.target for s in test]
        for reference in ("truth", "target"):
            print(f"\n### Fitted on {fitted}, scored against {reference}\n")
            print("| method | ERGAS / SAM / NDVI | ± | date means removed |\n|---|---|---|---|")
            print("\n".join(table(test, found, reference)))
            print("\n| against the kernel | ERGAS | 90 % |\n|---|---|---|")
            print("\n".join(gains(test, found, reference)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
