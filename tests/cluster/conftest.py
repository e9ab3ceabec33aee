"""Clusters of real processes on loopback, and small bundles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from xharmonize.models import GeneratorCard, Input, Output
from xharmonize.models.bundle import write_bundle
from xharmonize.models.lattice import Lattice
from xharmonize.models.refs import ModelRef

distributed = pytest.importorskip("distributed")

BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")


def small_card(name: str = "small") -> GeneratorCard:
    """A generator from 10 m to 30 m over tiles of 32 output pixels."""
    numbers = (0.2,) * len(BANDS)
    source = Input(name="fine", bands=BANDS, gsd=10.0, mean=numbers, scale=numbers)
    return GeneratorCard(
        name=name,
        title="Small network",
        description="Seeded weights, for tests.",
        architecture="small-conv",
        source_bandpass="msi",
        target_bandpass="oli",
        inputs=(source,),
        output=Output(bands=BANDS, mean=numbers, scale=numbers),
        lattice=Lattice(resolution=30.0, tile=32, buffer=8),
    )


@pytest.fixture
def bundle(tmp_path: Path) -> ModelRef:
    """A bundle whose weights take more than one piece to send (5 MB)."""
    seed = list(str(tmp_path).encode())  # each test has a digest of its own: clusters may be shared
    weights = {"w": np.random.default_rng(seed).normal(size=(1_250_000,)).astype("f4")}
    return write_bundle(tmp_path / "bundle", small_card(), weights)


@contextmanager
def running_cluster(n_workers: int, **options: object) -> Iterator[distributed.Client]:
    """Worker processes of one thread on loopback, gone afterwards."""
    with (
        distributed.LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            host="127.0.0.1" if options.get("processes", True) else None,
            dashboard_address="127.0.0.1:0",
            **options,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client
