"""Tables of papers 000, 001 and 002 on simulated pairs.

Run ``python benchmarks/papers.py 000|001|002 FOLDER [--places N --seeds 0,1,2 --steps N]``; FOLDER
is the cache of pairs, and of trained bundles (``FOLDER/bundles``), so that a run that was stopped
goes on. Test places are another variant of the physics and another year. Methods are fitted on
observed Landsat of the training places and scored against observed Landsat and against the truth,
which no fit reads. Options are the recipe's defaults but for sizes; none is chosen on these tables.

- *000*: MGAN beside L1 alone, small-conv and lines, on places trained on and not.
- *001*: HLS-GAN in the green band on 30 m means, per window, split at random and by scene.
- *002*: tables with and without histograms and convolution; see `paper_002`.

Paper 003 has scenes of its own: ``python benchmarks/paper_003.py FOLDER``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from paper_002 import paper_002
from paper_parts import (
    SIX,
    Study,
    differences,
    images,
    make_study,
    numbers,
    shared,
    similarity,
    summary,
    with_seed,
)
from simulator_learnable import fit_line, read_scene, same_pair, sample

import xharmonize as xh
from xharmonize.cube.pairs import target_of
from xharmonize.testing.places import draw_places, simulate_pairs
from xharmonize.training import Data
from xharmonize.training.config import NETWORKS
from xharmonize.training.judge import cores

REFERENCE = "reference: observed Landsat"
SIZES: dict[str, dict[str, Any]] = {
    "mgan": {"width": 16, "discriminator_width": 16},
    "hls-gan": {"width": 16, "discriminator_width": 16},
}
"""Smaller than the defaults, so that three seeds take minutes on one core."""
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "mgan": ("mgan", {}),
    "mgan, L1 only": ("mgan", {"adversary": "none"}),
    "small-conv": ("small-conv", {}),
}
"""Of paper 000: what is trained with each seed."""


def paper_000(trees: dict[str, xr.DataTree], given: argparse.Namespace, folder: Path) -> Any:
    """MGAN, with and without its adversary, beside lines."""
    data = Data(patch=16, stride=8, split="scene")
    study = make_study(trees, data, folder, Path(given.folder) / "bundles")
    pairs = study.pairs
    models: dict[str, Any] = {
        "identity": None,
        "HLS v2": "hls-v2",
        "line per band": xh.fit_linear(pairs),
        "six-band line": xh.fit_linear(pairs.sel(source_band=SIX), method="multiband"),
        "ten-band line": xh.fit_linear(pairs, method="multiband"),
    }
    for seed in given.seeds:
        drawn = study.split_by(with_seed(study.store, study.data, seed))
        for label, (name, options) in RUNS.items():
            models[f"{label} #{seed}"] = drawn.train(
                f"000-{label.replace(', ', '-').replace(' ', '-')}-{given.tag}-{seed}",
                NETWORKS[name](**SIZES.get(name, {}), **options, steps=given.steps, seed=seed,
                               evaluate=given.evaluate),
            )  # fmt: skip
    rows = pd.DataFrame(rows_of_places(models, trees))
    for kind, part in rows[rows["places"] == "not trained on"].groupby("against"):
        for base in ("line per band", "HLS v2"):
            print(f"\nERGAS against {kind}, minus that of {base}, places not trained on")
            print(differences(part, base).round(2).to_string())
    return summary(rows, ["places", "against"], "ERGAS")


def rows_of_places(models: Any, trees: dict[str, xr.DataTree]) -> list[dict[str, Any]]:
    """Scores of every method at all test places, and at as many of those trained on."""
    scenes = {name: read_scene(name, tree) for name, tree in trees.items()}
    train = [s for n, s in scenes.items() if n.startswith("train") and s.ok.sum() >= 100]
    chosen = sample(train)
    kernel = fit_line(
        [s.kernel[at] for s, at in zip(train, chosen)],
        [s.target[at] for s, at in zip(train, chosen)],
    )
    tested = [n for n in trees if n.startswith("test")]
    seen = [n for n in trees if n.startswith("train")][: len(tested)]
    rows = []
    for name in (*tested, *seen):
        scene = scenes[name]
        if scene.ok.sum() < 400:
            continue
        flat = {"linear kernel": kernel(scene.kernel), "same pair": same_pair(scene, "target")}
        extra = {n: v.T.reshape(6, *scene.shape) for n, v in flat.items()}
        where = "not trained on" if name in tested else "trained on"
        rows += [{"places": where, "place": name, **row}
                 for row in compared(models, trees[name], extra)]  # fmt: skip
    return rows


def compared(models: dict[str, Any], tree: xr.DataTree, extra: Any) -> list[dict[str, Any]]:
    """Rows of one place: every method against both references."""
    found, references = images(models, tree, SIX)
    found |= extra
    ok = shared([*found.values(), *references.values()])
    if ok.sum() < 100:
        return []
    found[REFERENCE] = references["observed"]
    return [
        {"method": name, "against": kind, **numbers(image, reference, ok)}
        for kind, reference in references.items()
        for name, image in found.items()
        if not (kind == "observed" and name == REFERENCE)
    ]


def paper_001(trees: dict[str, xr.DataTree], given: argparse.Namespace, folder: Path) -> Any:
    """HLS-GAN per window: share of windows with a higher SSIM and a lower MSE than identity."""
    data = Data(patch=16, stride=16, split="scene", target_bands=("green",),
                source_bands=("green",))  # fmt: skip
    study = make_study(trees, data, folder, Path(given.folder) / "bundles")
    rows = []
    for kind in ("random", "scene"):
        for seed in given.seeds:
            drawn = study.split_by(
                with_seed(study.store, replace(data, split=kind), seed)  # type: ignore[arg-type]
            )
            method = NETWORKS["hls-gan"](**SIZES["hls-gan"], steps=given.steps, seed=seed,
                                         evaluate=given.evaluate)  # fmt: skip
            models = {
                "identity": None,
                "HLS v2": "hls-v2",
                "line": xh.fit_linear(drawn.pairs),
                "hls-gan": drawn.train(f"001-{kind}-{given.tag}-{seed}", method),
            }
            rows += windows(models, drawn, kind)
    return pd.DataFrame(rows).groupby(["split", "against", "method"], sort=False).agg(
        windows=("SSIM", "size"), SSIM=("SSIM", "mean"), MSE=("MSE", "mean"),
        SSIM_up=("SSIM_up", "mean"), MSE_down=("MSE_down", "mean"),
        MSE_below_line=("MSE_below_line", "mean"),
    )  # fmt: skip


def windows(models: Any, study: Study, kind: str) -> list[dict[str, Any]]:
    """Rows per test window: the inner half of a sample, of maps of SSIM and of squared errors.

    Squared errors are those of values -1 ... 1, as in the paper.
    """
    rows = []
    scale = 2 / (study.measured.high[-1] - study.measured.low[-1])
    of_pair = study.store.pair
    for pair in sorted(set(of_pair[study.parts.test].tolist())):
        tree = study.trees[study.store.pairs[pair].place]
        found, references = images(models, tree, ["green"])
        valid = shared([*found.values(), *references.values()])
        found[REFERENCE] = references["observed"]
        maps = {k: maps_of(found, r, valid, scale) for k, r in references.items()}
        for number in study.parts.test[of_pair[study.parts.test] == pair]:
            ok = valid & cores(study.store, [number])(target_of(tree))
            if ok.sum() >= 50:
                rows += rows_of_window(maps, ok, kind)
    return rows


def maps_of(
    found: dict[str, np.ndarray], reference: np.ndarray, valid: np.ndarray, scale: float
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """SSIM and squared error (y, x) of every method."""
    whole = np.where(valid, reference, reference[:, valid].mean())
    each = {name: np.where(valid, image, whole) for name, image in found.items()}
    return {n: (similarity(i, whole), (scale * (i - whole)[0]) ** 2) for n, i in each.items()}


def rows_of_window(maps: Any, ok: np.ndarray, kind: str) -> list[dict[str, Any]]:
    """Rows of one window."""
    rows = []
    for against, methods in maps.items():
        values = {name: [float(m[ok].mean()) for m in pair] for name, pair in methods.items()}
        rows += [
            {"split": kind, "against": against, "method": name, "SSIM": ssim, "MSE": mse,
             "SSIM_up": ssim > values["identity"][0], "MSE_down": mse < values["identity"][1],
             "MSE_below_line": mse < values["line"][1]}
            for name, (ssim, mse) in values.items()
            if not (against == "observed" and name == REFERENCE)
        ]  # fmt: skip
    return rows


PAPERS = {"000": paper_000, "001": paper_001, "002": paper_002}


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Print the table of one paper."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paper", choices=PAPERS)
    parser.add_argument("folder")
    parser.add_argument("--places", type=int, default=40)
    parser.add_argument("--level", default="as-it-comes", choices=("as-it-comes", "registered"))
    parser.add_argument("--seeds", type=lambda t: [int(s) for s in t.split(",")], default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--evaluate", type=int, default=25)
    parser.add_argument("--only", default="", help="of 002: parts, separated by commas")
    parser.add_argument("--side", type=int, default=3660, help="of 002: pixels of the tile timed")
    given = parser.parse_args(arguments)
    # Bundles of another set of places or length are others.
    given.tag = f"{given.level}-{given.places}-{given.steps}"
    trees = simulate_pairs(draw_places(given.places, level=given.level), given.folder)
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        found = PAPERS[given.paper](trees, given, Path(folder))
    print(f"\n{len(trees)} places, {given.level}, seeds {given.seeds}, "
          f"at most {given.steps} steps, "
          f"{time.process_time() - start:.0f} s of processor time")  # fmt: skip
    print(found.round(4).to_string())
    return found


if __name__ == "__main__":
    main()
