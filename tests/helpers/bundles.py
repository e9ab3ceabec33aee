"""Small cards, weights and bundles."""

from dataclasses import replace

import numpy as np

from xharmonize.models import (
    Domain,
    GeneratorCard,
    Histograms,
    Input,
    Lattice,
    LutCard,
    Output,
)


def domain():
    return Domain(
        bands=("blue",),
        low=(0.0,),
        high=(0.5,),
        edges=(0.0, 1.0),
        histograms=((0.75, 0.25),),
        max_distance=0.1,
    )


def generator_card():
    """Two bands at 10 m and one at 20 m to two bands at 30 m."""
    return GeneratorCard(
        name="tiny-conv",
        title="A small network",
        description="Made for tests.\nTrained on nothing.",
        architecture="small-conv",
        hyperparameters={"width": 8, "kernels": [3, 3], "is_residual": True, "slope": 0.2},
        source_sensor="sentinel-2-l2a",
        source_bandpass="msi",
        target_bandpass="oli",
        levels=("L2A",),
        inputs=(
            Input(name="ten", bands=("blue", "red"), gsd=10.0, mean=(0.1, 0.2), scale=(0.3, 0.4)),
            Input(
                name="twenty",
                bands=("nir08",),
                gsd=20.0,
                mean=(0.3,),
                scale=(0.5,),
                phase=(0.0, 10.0),
            ),
        ),
        output=Output(bands=("blue", "red"), mean=(0.1, 0.2), scale=(0.3, 0.4)),
        lattice=Lattice(
            resolution=30.0,
            tile=128,
            buffer=32,
            phase=(15.0, 15.0),
            merge="blend",
            crs="EPSG:32631",
        ),
        min_valid=0.75,
        domain=domain(),
        scores={"rmse: blue": 0.01},
        provenance={"trained on": "simulated scenes"},
        licence="CC-BY-4.0",
        created="2026-11-21T03:00:00Z",
        bbox=(3.0, 50.0, 4.0, 51.0),
    )


def fusion_card():
    """Two cubes: bands at 30 m, and the same at 10 m of another date."""
    card, fine = generator_card(), replace(domain(), bands=("red",), edges=(0.0, 0.7))
    inputs = (
        Input(name="coarse", bands=("blue", "red"), gsd=30.0, mean=(0.1, 0.2), scale=(0.3, 0.4)),
        Input(
            name="fine",
            bands=("blue", "red"),
            gsd=10.0,
            mean=(0.1, 0.2),
            scale=(0.3, 0.4),
            phase=(5.0, 0.0),
            source="fine",
            date="nearest",
            sensor="sentinel-2-l2a|sentinel-2-l1c",
            min_valid=0.25,
        ),
    )
    lattice = Lattice(resolution=10.0, tile=48, buffer=12)
    return replace(
        card, name="tiny-fusion", inputs=inputs, lattice=lattice, source_domains={"fine": fine}
    )


def lut_card():
    """Histograms of two bands to tables of the same."""
    return LutCard(
        name="tiny-lut",
        title="Tables from histograms",
        description="",
        architecture="unet-lut",
        source_bandpass="msi",
        target_bandpass="oli",
        output=Output(bands=("blue", "red"), mean=(0.0, 0.0), scale=(1.0, 1.0)),
        histograms=Histograms(
            bands=("blue", "red"), bins=64, knots=32, low=(0.0, 0.0), high=(0.3, 0.4), tile=7680.0
        ),
    )


def weights(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "stem.weight": rng.normal(size=(4, 3, 3)).astype(np.float32),
        "stem.bias": np.zeros(4, np.float32),
        "norm.num_batches_tracked": np.array(7),
        "half": np.ones(3, np.float16),
    }
