"""A tiny network of two cubes, and windows of two endless fields that suit it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from helpers.cards import output, source
from helpers.generators import CORNER, noise
from xharmonize import testing
from xharmonize.models import GeneratorCard, Lattice

COARSE, FINE = ("red", "nir08"), ("red", "nir", "nir08")
LATTICE = Lattice(resolution=10.0, tile=24, buffer=6)


def two_card(lattice: Lattice = LATTICE, phase: float = 0.0, **changes: Any) -> GeneratorCard:
    """Two bands of 30 m to 10 m, beside three of 10 m: all outputs depend on the whole tile."""
    coarse = replace(source("coarse", COARSE, 30.0), phase=(phase, phase))
    fine = replace(
        source("fine", FINE[:2], 10.0), source="fine", date="nearest", sensor="sentinel-2-l2a"
    )
    twenty = replace(fine, name="fine20", bands=FINE[2:], gsd=20.0, mean=(0.1,), scale=(0.5,))
    card = GeneratorCard(
        name="two",
        title="Two cubes",
        architecture="pix2pix",
        hyperparameters={
            "width": 4,
            "depth": 2,
            "norm": "none",
            "dropout": 0.0,
            "output_activation": "identity",
        },
        source_bandpass="oli",
        target_bandpass="msi",
        inputs=(coarse, fine, twenty),
        output=output(COARSE),
        lattice=lattice,
    )
    return replace(card, **changes)


def coarse_cube(shape: tuple[int, int] = (20, 22), *, phase: float = 0.0, **where: Any) -> Any:
    """Landsat at 30 m."""
    return _field("landsat-c2-l2", "landsat-8", COARSE, 30.0, shape, phase=phase, **where)


def fine_cube(shape: tuple[int, int] = (60, 66), **where: Any) -> xr.DataArray:
    """Sentinel-2 at 10 m on the same dates; of 20 m is the last band."""
    return _field("sentinel-2-l2a", "sentinel-2a", FINE, 10.0, shape, seed=50, **where)


def _field(
    sensor: str,
    platform: str,
    bands: tuple[str, ...],
    side: float,
    shape: tuple[int, int],
    *,
    west: int = 0,
    north: int = 0,
    phase: float = 0.0,
    missing: float = 0.0,
    dates: int = 2,
    seed: int = 0,
) -> xr.DataArray:
    """Pixels from the corner to the east and to the south, by place and seed alone."""
    rows, columns = north + np.arange(shape[0]), west + np.arange(shape[1])
    days = [f"2018-07-{1 + 5 * n:02d}T10:50" for n in range(dates)]
    cube = testing.example_cube(
        sensor,
        platform=platform,
        bands=bands,
        dates=days,
        shape=shape,
        resolution=side,
        origin=(CORNER[0] + phase + side * west, CORNER[1] + phase - side * north),
        missing=0.0,
    )
    values = np.empty(cube.shape, np.float32)
    for date in range(dates):
        for number, band in enumerate(bands):
            factor = 2 if side == 10.0 and band == "nir08" else 1
            y, x = rows[:, None] // factor, columns[None] // factor
            values[date, number] = noise(y, x, seed + 10 * date + number)
        hole = noise(rows[:, None], columns[None], seed + 10 * date + 7) < missing * 0.5
        values[date][:, hole] = np.nan
    return cube.copy(data=values)
