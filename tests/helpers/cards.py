"""Cards of small networks."""

from __future__ import annotations

from typing import Any

from xharmonize.models import GeneratorCard, Histograms, Input, Lattice, LutCard, Output

OLI = ("blue", "green", "red", "nir08", "swir16", "swir22")


def source(name: str, bands: tuple[str, ...], gsd: float) -> Input:
    """One input, its numbers already those of the network."""
    return Input(
        name=name, bands=bands, gsd=gsd, mean=(0.0,) * len(bands), scale=(1.0,) * len(bands)
    )


def output(bands: tuple[str, ...] = OLI) -> Output:
    return Output(bands=bands, mean=(0.0,) * len(bands), scale=(1.0,) * len(bands))


def generator_card(
    architecture: str = "mgan-unet",
    *,
    inputs: tuple[Input, ...] | None = None,
    bands: tuple[str, ...] = OLI,
    tile: int = 16,
    resolution: float = 30.0,
    **hyperparameters: Any,
) -> GeneratorCard:
    """10 m and 20 m bands of Sentinel-2 to 30 m, unless said otherwise."""
    if inputs is None:
        inputs = (
            source("10m", ("blue", "green", "red", "nir"), 10.0),
            source("20m", ("swir16", "swir22"), 20.0),
        )
    return GeneratorCard(
        name="small",
        title="Small",
        description="For tests.",
        architecture=architecture,
        hyperparameters=hyperparameters,
        source_bandpass="msi",
        target_bandpass="oli",
        inputs=inputs,
        output=output(bands),
        lattice=Lattice(resolution=resolution, tile=tile, buffer=tile // 4),
    )


def lut_card(n_bins: int = 256, **hyperparameters: Any) -> LutCard:
    """Four bands to four."""
    bands = ("blue", "green", "red", "nir")
    return LutCard(
        name="tables",
        title="Tables",
        description="For tests.",
        architecture="unet-lut",
        hyperparameters=hyperparameters,
        source_bandpass="msi",
        target_bandpass="wfv",
        histograms=Histograms(
            bands=bands,
            bins=n_bins,
            knots=n_bins,
            low=(0.0,) * 4,
            high=(0.30, 0.30, 0.40, 0.65),
            tile=10_000.0,
        ),
        output=output(bands),
    )
