"""Cubes to sharpen and to fill: small places whose detail and change are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter

import xharmonize as xh
from xharmonize import testing

BANDS = ("green", "red", "nir08")
FILL_BANDS = ("green", "red", "nir")
CORNER = (501_345.0, 5_629_695.0)
"""Edges at 15 mod 30, as Landsat's."""
FINE_CORNER = (501_330.0, 5_629_710.0)


def days(n: int, first: int = 1) -> list[str]:
    return [f"2021-{5 + k // 3:02d}-{first + 9 * (k % 3):02d}T10:30" for k in range(n)]


def _ground(n: int, side: int, seed: int) -> np.ndarray:
    """Fields (date, y, x) whose pattern stays and whose level changes from field to field."""
    random = np.random.default_rng(seed)
    pattern = gaussian_filter(random.normal(size=(side, side)), 1.2, mode="wrap")
    change = gaussian_filter(random.normal(size=(n, side, side)), (0, 6, 6), mode="wrap")
    return 0.3 + 0.12 * pattern / pattern.std() * 0.5 + 0.6 * change


def _cube(sensor: str, platform: str, values: np.ndarray, bands: Any, side: float, **facts: Any):
    """A cube of these pixels."""
    cube = testing.example_cube(
        sensor,
        platform=platform,
        bands=bands,
        shape=values.shape[2:],
        resolution=side,
        missing=0.0,
        **facts,
    )
    return cube.copy(data=np.clip(values, 1e-4, 0.95).astype(np.float32))


def sharpening_cubes(n: int = 4, side: int = 24, seed: int = 0) -> dict[str, xr.DataArray]:
    """Landsat at 30 m, Sentinel-2 of nine days later at 10 m on its dates, pan at 15 m, the truth.

    Both sides have edges in place as the real ones: half a fine pixel apart.
    """
    pixels = 6 * side + 36  # of 5 m
    ground = _ground(n + 1, pixels, seed)
    slopes = np.array([0.6, 0.8, 1.2])[:, None, None]
    whole = 0.02 + slopes * ground[:, None]
    five = _cube(
        "sentinel-2-l2a", "sentinel-2a", whole, BANDS, 5.0, dates=days(n + 1), origin=FINE_CORNER
    )
    landsat = testing.example_cube(
        "landsat-c2-l2",
        platform="landsat-8",
        bands=BANDS,
        dates=days(n),
        shape=(side, side),
        resolution=30.0,
        origin=CORNER,
        missing=0.0,
    )
    coarse = landsat.copy(data=xh.regrid(five[:n], like=landsat, min_valid=1.0).values)
    ten = xh.regrid(five, resolution=10.0, min_valid=1.0)
    fine = ten[1:].assign_coords(time=landsat["time"].values)
    fine = fine.assign_coords(reference_time=("time", ten["time"].values[1:]))
    grid = testing.example_cube(
        bands=["red"], shape=(2 * side, 2 * side), resolution=15.0, origin=CORNER
    )
    pan = xh.regrid(five.isel(time=slice(0, n), band=[1]), like=grid, min_valid=1.0)
    pan = pan.isel(band=0, drop=True).reset_coords(drop=True)  # it says nothing of itself
    pan = pan.assign_coords(spatial_ref=grid["spatial_ref"])
    return {"cube": coarse, "fine": fine, "pan": pan, "truth": ten[:n]}


def filling_cubes(n: int = 5, side: int = 60, seed: int = 0) -> dict[str, xr.DataArray]:
    """Clear Sentinel-2, the date before as its reference, Sentinel-1 of both: VV follows change."""
    ground = _ground(n + 1, side, seed)
    slopes = np.array([0.6, 0.8, 1.2])[:, None, None]
    optical = _cube(
        "sentinel-2-l2a",
        "sentinel-2a",
        0.02 + slopes * ground[:, None],
        FILL_BANDS,
        10.0,
        dates=days(n + 1),
        origin=FINE_CORNER,
    )
    random = np.random.default_rng(seed + 1)
    looks = random.gamma(20, 1 / 20, (n + 1, 2, side // 2, side // 2))
    mean = ground.reshape(n + 1, side // 2, 2, side // 2, 2).mean((2, 4))
    power = np.array([0.3, 0.08])[:, None, None] * mean[:, None] * looks
    radar = _cube(
        "sentinel-1-rtc",
        "sentinel-1a",
        power,
        ("vv", "vh"),
        20.0,
        dates=days(n + 1),
        origin=FINE_CORNER,
    )
    clear = optical[1:]

    def then(cube: xr.DataArray) -> xr.DataArray:
        times = cube["time"].values[:-1]
        moved = cube[:-1].assign_coords(time=clear["time"].values)
        gap = (times - clear["time"].values) / np.timedelta64(1, "D")
        return moved.assign_coords(reference_time=("time", times), reference_gap=("time", gap))

    return {
        "clear": clear,
        "reference": then(optical),
        "sentinel1": radar[1:],
        "sentinel1_reference": then(radar),
        "optical": optical,
        "radar": radar,
    }
