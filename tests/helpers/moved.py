"""Cubes whose dates are displaced by known amounts."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.ndimage import fourier_shift, gaussian_filter

from xharmonize.testing import example_cube

STEP = 2.0
"""Side of a pixel of the landscape [m]."""

MARGIN = 60.0


def landscape(size: float, *, bands: int = 2, seed: int = 0) -> np.ndarray:
    """Fields and noise, (band, y, x), periodic, with a margin around."""
    random = np.random.default_rng(seed)
    n = round((size + 2 * MARGIN) / STEP)
    layers = []
    for _ in range(bands):
        noise = random.normal(size=(n, n))
        fields = np.sign(gaussian_filter(noise, 14, mode="wrap"))
        detail = gaussian_filter(random.normal(size=(n, n)), 4, mode="wrap")
        layers.append(0.2 + 0.05 * fields + 0.2 * detail)
    return np.stack(layers)


def seen(ground: np.ndarray, shift: tuple[float, float], resolution: float) -> np.ndarray:
    """The landscape moved east and north [m], averaged to pixels (band, y, x)."""
    pixels = (-shift[1] / STEP, shift[0] / STEP)
    moved = [np.fft.ifft2(fourier_shift(np.fft.fft2(layer), pixels)).real for layer in ground]
    edge, k = round(MARGIN / STEP), round(resolution / STEP)
    inner = np.stack(moved)[:, edge:-edge, edge:-edge]
    n = inner.shape[1] // k
    return inner[:, : n * k, : n * k].reshape(len(moved), n, k, n, k).mean(axis=(2, 4))


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
