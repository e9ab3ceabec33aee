"""Fit a small network on simulated scenes, and write it as a bundle: two minutes on a CPU.

``python examples/make_small_bundle.py OUT`` writes the folder OUT, which `xh.load_model` opens.
From Sentinel-2's bands at 10 and 20 m to Landsat's at 30 m, on the grid of most Landsat scenes:
edges of pixels at 15 m modulo 30 m. Equal seeds give equal weights.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from simulated_pairs import (
    OLI,
    Pair,
    Window,
    common_days,
    cut,
    describe_domain,
    describe_inputs,
    simulate,
)

import xharmonize as xh
from xharmonize.models import GeneratorCard, Input, Lattice, Output, write_bundle
from xharmonize.models.architectures import build, seeded
from xharmonize.tiles import sampling

SIDE, MARGIN = 28, 4  # of a training window, and what of it is not learned from [pixels of 30 m]
BATCH = 8
LATTICE = Lattice(resolution=30.0, tile=32, buffer=MARGIN, phase=(15.0, 15.0))
DAYS, OTHER_DAYS = common_days(2022), common_days(2023)


def main(out: str | Path, n_places: int = 48, n_others: int = 12, n_steps: int = 300) -> None:
    """Simulate, fit, write, score, and write the scores."""
    training = {seed: DAYS[seed % len(DAYS)] for seed in range(n_places)}
    windows = [cut(pair, LATTICE, SIDE) for pair in simulate(training)]
    card = describe(windows, training)
    weights = seeded(card)
    weights["last.weight"][:] = 0  # what it starts from is the area-weighted mean
    weights = fit(card, windows, weights, n_steps=n_steps, margin=MARGIN)
    write_bundle(out, card, weights)

    others = {seed: OTHER_DAYS[2 * seed % len(OTHER_DAYS)] for seed in range(1000, 1000 + n_others)}
    pairs = list(simulate(others, variant="b"))
    scores = compare(pairs, {"hls-v2": "hls-v2", card.name: xh.load_model(out)})
    card = replace(
        card,
        scores={f"rmse: {band}": value for band, value in scores[card.name].items()},
        provenance={**card.provenance, "scored on": f"{summary(others)}, physics of variant b"},
    )
    write_bundle(out, card, weights, readme=readme(card, scores), mode="w")
    print((Path(out) / "README.md").read_text(encoding="utf-8"))


def describe(windows: Sequence[Window], places: Mapping[int, str]) -> GeneratorCard:
    """Say what the network takes and gives, and what it was trained on."""
    return GeneratorCard(
        name="small-conv-simulated",
        title="Small network fitted on simulated scenes, Sentinel-2 to Landsat-8/9",
        description="Convolutions over 7 x 7 pixels of 30 m, added to the area-weighted mean. "
        "Quickly fitted on simulated scenes, to show how a bundle is made and used.",
        architecture="small-conv",
        source_sensor="sentinel-2-l2a",
        source_bandpass="msi",
        target_bandpass="oli",
        levels=("SR",),
        inputs=describe_inputs(windows),
        output=Output(bands=OLI, mean=(0.0,) * len(OLI), scale=(0.1,) * len(OLI)),
        lattice=LATTICE,
        domain=describe_domain(windows),
        provenance={
            "trained on": f"{summary(places)}, physics of variant a",
            "script": "examples/make_small_bundle.py of xharmonize",
        },
    )


def summary(places: Mapping[int, str]) -> str:
    """Name the simulated places in words."""
    seeds, days = sorted(places), sorted(places.values())
    return (
        f"{len(places)} places of xharmonize.simulate, seeds {seeds[0]} to {seeds[-1]}, "
        f"days from {days[0]} to {days[-1]}"
    )


def fit(
    card: GeneratorCard,
    windows: Sequence[Window],
    weights: Mapping[str, np.ndarray],
    *,
    n_steps: int,
    margin: int,
) -> dict[str, np.ndarray]:
    """Fit the network of a card by least squares, and return its weights.

    Parameters
    ----------
    weights : mapping of str to array
        To begin with; changed.
    margin : int
        Target pixels at each side of a window that are not learned from.
    """
    torch.manual_seed(0)
    torch.set_num_threads(1)  # sums are then added in one order, whatever the cores
    network = build(card, weights).train()
    inputs = [
        normalised([window.inputs[number] for window in windows], part)
        for number, part in enumerate(card.inputs)
    ]
    target = normalised([window.target for window in windows], card.output)
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=n_steps)
    inner = (..., slice(margin, -margin), slice(margin, -margin))
    for _ in range(n_steps):
        chosen = torch.randint(len(target), (BATCH,))
        estimate = network(*(images[chosen] for images in inputs))
        loss = torch.nn.functional.mse_loss(estimate[inner], target[chosen][inner])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def normalised(images: Sequence[np.ndarray], part: Input | Output) -> torch.Tensor:
    """Stack images in the units of the network."""
    return torch.from_numpy(sampling.normalise(np.stack(images), part.mean, part.scale))


def compare(pairs: Sequence[Pair], models: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Score models, and the area-weighted mean that changes no value."""

    def by(model: Any) -> Callable[[Pair], Any]:
        return lambda pair: pair.sentinel.harmonize.to_landsat(model, like=pair.landsat)

    converters = {"identity": lambda pair: pair.sentinel.harmonize.regrid(like=pair.landsat)}
    converters |= {name: by(model) for name, model in models.items()}
    return {name: score(pairs, convert) for name, convert in converters.items()}


def score(pairs: Sequence[Pair], convert: Callable[[Pair], Any]) -> dict[str, float]:
    """Return the root mean squared error [1] of each band, but for the margin of the scenes."""
    inner = (0, slice(None), slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    errors = [
        (convert(pair).sel(band=list(OLI)).values - pair.landsat.values)[inner] for pair in pairs
    ]
    rmse = np.sqrt([np.nanmean(np.square([e[k] for e in errors])) for k in range(len(OLI))])
    return {band: round(float(value), 5) for band, value in zip(OLI, rmse)}


def readme(card: GeneratorCard, scores: Mapping[str, Mapping[str, float]]) -> str:
    """Write the card for people: what it is, what it was fitted on, how well it does."""
    facts = {**card.provenance, "licence": card.licence}
    table = [
        f"| {name} | " + " | ".join(f"{row[band]:.4f}" for band in OLI) + " |"
        for name, row in scores.items()
    ]
    lines = [
        *(f"# {card.title}", "", card.description, ""),
        *(f"- {name}: {value}" for name, value in facts.items()),
        *("", "RMSE of reflectance on places and days it has not seen:", ""),
        *(f"| | {' | '.join(OLI)} |", "|---" * (len(OLI) + 1) + "|", *table),
        *("", "It has seen simulated scenes only, and knows nothing of real processing chains."),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(sys.argv[1])
