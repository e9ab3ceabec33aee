"""Fit a U-Net on simulated scenes, and say what a larger tile does to its scores.

``python examples/make_unet_bundle.py OUT``: some five minutes on a CPU. The network is the one of
``mgan-unet`` at half its depth of view and an eighth of its width: tiles of 64 pixels, of which the
inner 32 are kept. Larger tiles with the same margin do less work for a pixel. What a deep network
sees of a tile is all of it, so that its values change: here by how much, on places and days it has
not seen. Data and training are those of ``make_small_bundle.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from make_small_bundle import DAYS, OTHER_DAYS, describe, fit, summary
from simulated_pairs import OLI, Pair, Window, cut, simulate

import xharmonize as xh
from xharmonize.cube.companions import ResultFlag
from xharmonize.harmonizers.generator import GeneratorHarmonizer
from xharmonize.models import GeneratorCard, Lattice, Output, write_bundle
from xharmonize.models.architectures import seeded

LATTICE = Lattice(resolution=30.0, tile=64, buffer=16, phase=(15.0, 15.0))
LARGER = 128  # a multiple of 64 again, since the network halves the side six times
SIDE = 3900.0  # of a training place [m]: nine windows


def main(out: str | Path, n_places: int = 6, n_others: int = 3, n_steps: int = 400) -> None:
    """Simulate, fit, write, score with both tiles, and write the scores."""
    training = {seed: DAYS[4 * seed % len(DAYS)] for seed in range(n_places)}
    windows = []
    starts = range(0, int(SIDE / LATTICE.resolution) - LATTICE.tile + 1, LATTICE.stride)
    for pair in simulate(training, size=(SIDE, SIDE)):
        windows += [cut(pair, LATTICE, LATTICE.tile, at) for at in product(starts, starts)]
    card = describe_unet(windows, describe(windows, training))
    weights = fit(card, windows, seeded(card), n_steps=n_steps, margin=LATTICE.buffer)
    write_bundle(out, card, weights)

    others = {seed: OTHER_DAYS[7 * seed % len(OTHER_DAYS)] for seed in range(1000, 1000 + n_others)}
    pairs = list(simulate(others, variant="b", **largest_tile()))
    scores = score_tiles(xh.load_model(out), pairs)
    card = replace(
        card,
        scores=scores,
        provenance={**card.provenance, "scored on": f"{summary(others)}, physics of variant b"},
    )
    write_bundle(out, card, weights, readme=readme(card), mode="w")
    print((Path(out) / "README.md").read_text(encoding="utf-8"))


def largest_tile() -> dict[str, tuple[float, float]]:
    """Centre and size [m] of a place that just holds a larger tile of the lattice wholly."""
    larger = replace(LATTICE, tile=LARGER)
    step, side = larger.resolution, larger.tile * larger.resolution
    column, row = (round(metres / step / larger.stride) for metres in (501_600, -5_629_200))
    west = larger.phase[0] + larger.window(column)[0] * step
    north = larger.phase[1] - larger.window(row)[0] * step
    return {"center": (west + side / 2, north - side / 2), "size": (side, side)}


def describe_unet(windows: Sequence[Window], small: GeneratorCard) -> GeneratorCard:
    """Say what the network gives; it takes what the small one takes."""
    targets = np.stack([window.target for window in windows]).astype(float)
    mean, scale = (f(targets, axis=(0, 2, 3)).round(4).tolist() for f in (np.mean, np.std))
    return replace(
        small,
        name="unet-simulated",
        title="U-Net of width 8 and depth 6 fitted on simulated scenes, Sentinel-2 to Landsat-8/9",
        description="A pix2pix generator with one stem per pixel size. Quickly fitted on simulated "
        "scenes, to show what a larger tile does.",
        architecture="mgan-unet",
        hyperparameters={"width": 8, "depth": 6, "dropout": 0.0, "output_activation": "identity"},
        output=Output(bands=OLI, mean=tuple(mean), scale=tuple(scale)),
        lattice=LATTICE,
        provenance={
            **small.provenance,
            "script": "examples/make_unet_bundle.py of xharmonize",
        },
    )


def score_tiles(model: GeneratorHarmonizer, pairs: Sequence[Pair]) -> dict[str, float]:
    """Score the model with its own and a larger tile, where the scenes hold tiles wholly."""
    squares: dict[str, list[np.ndarray]] = {}
    for pair in pairs:
        bands = list(OLI)
        own, larger = (
            pair.sentinel.harmonize.to_landsat(one, like=pair.landsat, flags=True).compute()
            for one in (model, model.with_tile(LARGER))
        )
        is_partial = (own["flag"] | larger["flag"]) & int(ResultFlag.PARTIAL_CONTEXT)
        whole = (is_partial == 0).values[0]
        truth = pair.landsat.sel(band=bands).values[0][:, whole]
        mean = pair.sentinel.harmonize.regrid(like=pair.landsat).sel(band=bands).values[0]
        values = {
            f"tile {LATTICE.tile}": own["reflectance"].sel(band=bands).values[0][:, whole],
            f"tile {LARGER}": larger["reflectance"].sel(band=bands).values[0][:, whole],
            "identity": mean[:, whole],
        }
        for name, value in values.items():
            squares.setdefault(f"rmse, {name}", []).append((value - truth) ** 2)
        change = values[f"tile {LARGER}"] - values[f"tile {LATTICE.tile}"]
        squares.setdefault("change by the larger tile", []).append(change**2)
    return {
        f"{name}: {band}": round(float(np.sqrt(np.concatenate(parts, axis=1)[k].mean())), 5)
        for name, parts in squares.items()
        for k, band in enumerate(OLI)
    }


def readme(card: GeneratorCard) -> str:
    """Write the card for people."""
    names = list(dict.fromkeys(name.rpartition(": ")[0] for name in card.scores))
    rows = [
        f"| {name} | " + " | ".join(f"{card.scores[f'{name}: {b}']:.4f}" for b in OLI) + " |"
        for name in names
    ]
    lines = [
        *(f"# {card.title}", "", card.description, ""),
        *(f"- {name}: {value}" for name, value in card.provenance.items()),
        *("", "Root mean squares of reflectance on places and days it has not seen:", ""),
        *(f"| | {' | '.join(OLI)} |", "|---" * (len(OLI) + 1) + "|", *rows),
        *("", "Its weights are quickly fitted: the numbers compare tiles, not methods."),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(sys.argv[1])
