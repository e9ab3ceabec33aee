"""Fit a UNet-LUT on simulated scenes, and write it as a bundle: two minutes on a CPU.

``python examples/make_lut_bundle.py OUT``. The network sees the histograms of a place and gives a
look-up table per band; what is compared with Landsat is the image that these tables give, so that
gradients pass through the tables. The recipe is that of Liu et al. (2023), shortened: histograms
of the training window stand in for those of the tile, and mean squared error with a penalty on
tables that fall. Data are those of ``make_small_bundle.py``, at Landsat's pixels.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from make_small_bundle import BATCH, DAYS, OTHER_DAYS, readme, score, summary
from simulated_pairs import OLI, Pair, simulate

import xharmonize as xh
from xharmonize.kernels.patches import normalise
from xharmonize.models import Histograms, LutCard, Output, write_bundle
from xharmonize.models.architectures import build, seeded
from xharmonize.tiles import sampling

N_KNOTS = 64
HIGH = (0.3, 0.3, 0.4, 0.65, 0.6, 0.5)  # last knot per band [1]; beyond, tables are held
FALL_PENALTY = 10.0


def main(out: str | Path, n_places: int = 48, n_others: int = 12, n_steps: int = 300) -> None:
    """Simulate, fit, write, score, and write the scores."""
    training = {seed: DAYS[seed % len(DAYS)] for seed in range(n_places)}
    images = [at_landsat_pixels(pair) for pair in simulate(training)]
    card = describe(summary(training))
    weights = fit(card, images, n_steps=n_steps)
    write_bundle(out, card, weights)

    others = {seed: OTHER_DAYS[2 * seed % len(OTHER_DAYS)] for seed in range(1000, 1000 + n_others)}
    pairs = list(simulate(others, variant="b"))
    model = xh.load_model(out)

    def mapped(pair: Pair) -> object:
        observation = pair.sentinel.sel(band=list(OLI)).harmonize.regrid(like=pair.landsat)
        with warnings.catch_warnings():
            # A place is a little smaller than a tile, as it was in training.
            warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
            return observation.harmonize.to_landsat(model)

    scores = {
        "identity": score(pairs, lambda pair: pair.sentinel.harmonize.regrid(like=pair.landsat)),
        card.name: score(pairs, mapped),
    }
    card = replace(
        card,
        scores={f"rmse: {band}": value for band, value in scores[card.name].items()},
        provenance={**card.provenance, "scored on": f"{summary(others)}, physics of variant b"},
    )
    write_bundle(out, card, weights, readme=readme(card, scores), mode="w")
    print((Path(out) / "README.md").read_text(encoding="utf-8"))


def at_landsat_pixels(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Sentinel-2 on Landsat's grid and Landsat, (band, y, x) reflectance [1]; whole pixels only."""
    observation = pair.sentinel.sel(band=list(OLI)).harmonize.regrid(like=pair.landsat)
    inner = (0, slice(None), slice(1, 29), slice(1, 29))
    return observation.values[inner], pair.landsat.sel(band=list(OLI)).values[inner]


def describe(places: str) -> LutCard:
    """Say what the network takes and gives."""
    return LutCard(
        name="unet-lut-simulated",
        title="UNet-LUT fitted on simulated scenes, Sentinel-2 to Landsat-8/9",
        description="A look-up table per band, from the histograms of a tile and date. Quickly "
        "fitted on simulated scenes, to show how a bundle is made and used.",
        architecture="unet-lut",
        hyperparameters={"refine": False, "base": "ramp"},
        source_sensor="sentinel-2-l2a",
        source_bandpass="msi",
        target_bandpass="oli",
        levels=("SR",),
        histograms=Histograms(
            bands=OLI, bins=N_KNOTS, knots=N_KNOTS, low=(0.0,) * len(OLI), high=HIGH, tile=960.0
        ),
        output=Output(bands=OLI, mean=(0.0,) * len(OLI), scale=HIGH),
        provenance={
            "trained on": f"{places}, physics of variant a",
            "script": "examples/make_lut_bundle.py of xharmonize",
        },
    )


def fit(
    card: LutCard, images: Sequence[tuple[np.ndarray, np.ndarray]], *, n_steps: int
) -> dict[str, np.ndarray]:
    """Fit the network of a card, and return its weights."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # sums are then added in one order, whatever the cores
    weights = seeded(card)
    weights["last.weight"][:] = 0  # what it starts from changes nothing
    network = build(card, weights).train()
    high = torch.tensor(HIGH)[:, None, None]
    source, target = (torch.from_numpy(np.stack(side)) / high for side in zip(*images))
    histograms = torch.from_numpy(np.stack([histogram(observation) for observation, _ in images]))
    optimizer = torch.optim.Adam(network.parameters(), weight_decay=1e-4)
    for _ in range(n_steps):
        chosen = torch.randint(len(target), (BATCH,))
        tables = network(histograms[chosen])
        falls = torch.relu(tables[..., :-1] - tables[..., 1:])
        error = torch.nn.functional.mse_loss(look_up(source[chosen], tables), target[chosen])
        loss = error + FALL_PENALTY * falls.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def histogram(image: np.ndarray) -> np.ndarray:
    """Shares of the pixels of (band, y, x) reflectance per bin, (band, bin)."""
    return normalise(sampling.count(image[None], [(0.0, high) for high in HIGH], N_KNOTS)[0])


def look_up(image: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
    """Map (n, band, y, x) in units of the last knot through (n, band, knot), linear between."""
    place = image.flatten(2).clamp(0, 1) * (N_KNOTS - 1)
    lower = place.floor().clamp(max=N_KNOTS - 2).long()
    share = place - lower
    below, above = tables.gather(2, lower), tables.gather(2, lower + 1)
    return torch.lerp(below, above, share).view_as(image)


if __name__ == "__main__":
    main(sys.argv[1])
