"""Pairs of a made-up place, small enough to train on in a test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter

import xharmonize as xh
from xharmonize import testing

FINE = ("blue", "green", "red", "nir")
COARSE = ("nir08", "swir16")
TARGET = ("blue", "green", "red", "nir08", "swir16")
SOUTH_WEST = (501_345.0, 5_629_695.0)
"""Corner of the target: edges at 15 mod 30, as Landsat's."""


def dates(n: int, *, hour: int = 10) -> list[str]:
    return [f"2021-{5 + k // 3:02d}-{1 + 9 * (k % 3):02d}T{hour:02d}:30" for k in range(n)]


def make_cubes(
    n: int = 4, side: int = 40, *, seed: int = 0, missing: float = 0.0, chunks: Any = None
) -> tuple[xr.DataArray, xr.DataArray]:
    """Sentinel-2 at 10 m, its 20 m bands held, and a Landsat that a line and a ripple give."""
    random = np.random.default_rng(seed)
    bands = (*FINE, *COARSE)
    pixels = 3 * side + 6
    source = testing.example_cube(
        bands=bands,
        dates=dates(n),
        shape=(pixels, pixels),
        origin=(501_340.0, 5_629_700.0),
        missing=0.0,
    )
    values = np.empty(source.shape, np.float32)
    for t in range(n):
        for b, band in enumerate(bands):
            texture = gaussian_filter(random.normal(size=(pixels, pixels)), 3, mode="wrap")
            image = 0.08 + 0.05 * b + 0.3 * texture + random.normal(0, 0.003, texture.shape)
            if band in COARSE:
                image = np.kron(image[::2, ::2], np.ones((2, 2)))
            values[t, b] = np.clip(image, 0.001, 0.9)
    source = source.copy(data=values)
    target = testing.example_cube(
        "landsat-c2-l2",
        platform="landsat-8",
        bands=TARGET,
        dates=dates(n, hour=11),
        shape=(side, side),
        resolution=30.0,
        origin=SOUTH_WEST,
        missing=missing,
        seed=seed,
    )
    seen = xh.regrid(source, like=target, min_valid=1.0).sel(band=list(TARGET)).values
    level = random.normal(0, 0.004, (n, len(TARGET), 1, 1))
    ideal = 0.01 + 0.9 * seen + 0.02 * np.sin(40 * seen) + level
    target = target.copy(data=np.where(np.isfinite(target), ideal, np.nan).astype(np.float32))
    if chunks is not None:
        source, target = source.chunk(chunks), target.chunk(chunks)
    return source, target


def make_pairs(n: int = 4, side: int = 40, **options: Any) -> xr.DataTree:
    # The ground of each date is another: nothing to tell haze by.
    return xh.collect_pairs(*make_cubes(n, side, **options), tolerance="2D", max_score=None)


def only(pairs: xr.DataTree, numbers: Sequence[int]) -> xr.DataTree:
    return pairs.isel(pair=list(numbers))
