"""Cubes whose dates are displaced by known amounts."""

from __future__ import annotations

import numpy as np
import xarray as xr

from helpers.benchmarks import import_benchmark
from xharmonize.testing import example_cube

registration = import_benchmark("registration")
landscape, seen = registration.landscape, registration.seen


def moved_cube(
    ground: np.ndarray,
    shifts: np.ndarray,
    dates: list[str],
    *,
    resolution: float = 10.0,
    sensor: str = "sentinel-2-l2a",
    platform: str | list[str] = "sentinel-2a",
    noise: float = 0.003,
    seed: int = 1,
) -> xr.DataArray:
    """A cube of a landscape, each date with its shift (date, 2) [m], brightness and noise."""
    random = np.random.default_rng(seed)
    images = []
    for shift in shifts:
        image = seen(ground, tuple(shift), resolution)
        gain, offset = random.uniform(0.8, 1.2), random.uniform(-0.02, 0.02)
        images.append(gain * image + offset + random.normal(0, noise, image.shape))
    values = np.array(images, np.float32)
    cube = example_cube(
        sensor,
        platform=platform,
        bands=("red", "nir08")[: len(ground)],
        dates=tuple(dates),
        shape=values.shape[-2:],
        resolution=resolution,
    )
    return cube.copy(data=values)
