"""What `screen_outliers` deletes of the ground, and what it finds of clouds, on simulated truth.

``python benchmarks/screening.py [--seeds 11 12 13] [--size 40] [--left-out 0.5]`` prints both
rates; constants were chosen on seeds 1 to 4. The simulator gives NDVI of a year on days that
Sentinel-2 and Landsat pass and that are clear; harvest and mowing are part of its truth. Then
noise, and clouds that a mask missed, are added. ``--real`` prints what is flagged on the real
observations instead (``XHARMONIZE_DATA``, or ``../shared/data``).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import xharmonize as xh
from xharmonize.sensors import get_sensor
from xharmonize.simulate.config import Simulation
from xharmonize.simulate.imaging import cloud_cover
from xharmonize.simulate.landscape import Cover, render_landscape
from xharmonize.simulate.noise import Window
from xharmonize.simulate.passes import endmember_table, mixed_reflectance, spectral_bands
from xharmonize.simulate.surface import endmember_shares
from xharmonize.simulate.vegetation import ground_on

YEAR = 2022
SEEDS = (11, 12, 13)
NOISE = 0.015
"""Standard deviation of NDVI from one observation to the next [1]."""
MISSED = 0.06
"""Share of the clear observations that are in fact clouds which a mask missed."""
WHITE = 0.67
"""Reflectance of a cloud in red and near infrared, as in the simulator [1]."""
CLOUD = 0.15
"""By how much a cloud lowers NDVI at least to count [1]; the default limit is .1."""
FALL = 0.25
"""Fall of NDVI from one day to the next that is a harvest, or a cut [1]."""
AROUND = 40
"""Days before and after a harvest whose observations are counted as those of the harvest."""


@dataclass(frozen=True)
class Truth:
    """Red and near infrared of cells (band, day, cell), NDVI of every day, and what they are."""

    observations: np.ndarray
    bands: np.ndarray
    daily: np.ndarray
    cover: np.ndarray
    clear: np.ndarray

    @property
    def ndvi(self) -> np.ndarray:
        return ndvi_of(self.bands)


def ndvi_of(bands: np.ndarray) -> np.ndarray:
    red, near = bands
    return (near - red) / (near + red)


def simulate(seed: int, size: int, left_out: float = 0.0) -> Truth:
    """A year of cells 100 m apart; of the clear observations a share is left out."""
    window = Window(left=480_000, top=5_640_000, step=100.0, width=size, height=size)
    landscape = render_landscape(seed, window)
    spec = get_sensor("landsat-c2-l2")
    table = endmember_table(spectral_bands(spec, "landsat-8", ("red", "nir08")))
    first = int(np.datetime64(f"{YEAR}-01-01").astype(int))
    bands = []
    for day in range(first, first + 365):
        ground = ground_on(seed, day, 10.8, landscape.unit_key, landscape.unit_cover)
        bands.append(mixed_reflectance(endmember_shares(landscape, ground), table, "a"))
    daily = np.stack(bands, axis=1).astype(np.float64)
    place = Simulation(
        seed=seed, start=f"{YEAR}-01-01", end=f"{YEAR}-12-31", center=(482_000, 5_638_000)
    )
    passes = {one.day: one for one in place.passes()}  # one observation a day
    observations = np.array(sorted(passes)) - first
    covered = np.array([cloud_cover(place, passes[day]) for day in sorted(passes)])
    random = np.random.default_rng(seed)
    clear = random.random((observations.size, size * size)) >= covered[:, None]
    clear &= random.random(clear.shape) >= left_out
    cover = landscape.unit_cover[landscape.unit.ravel()]
    return Truth(observations, daily[:, observations], ndvi_of(daily), cover, clear)


def screened(truth: Truth, ndvi: np.ndarray, **options: Any) -> np.ndarray:
    """Which observations `screen_outliers` takes out (day, cell)."""
    dates = np.datetime64(f"{YEAR}-01-01") + truth.observations.astype("m8[D]")
    series = xr.DataArray(ndvi.astype("float32"), {"time": dates.astype("M8[ns]")}, ("time", "x"))
    kept = xh.series.screen_outliers(series.where(truth.clear), **options)
    return truth.clear & kept.isnull().values


def harvests(truth: Truth) -> list[tuple[int, int]]:
    """Cells of crops and the day before their deepest fall, where it is a harvest."""
    found = []
    for cell in np.flatnonzero(truth.cover == Cover.CROP):
        fall = np.diff(truth.daily[:, cell])
        day = int(fall.argmin())
        if fall[day] < -FALL and AROUND < day < 365 - AROUND:
            found.append((int(cell), day))
    return found


def lost_at_harvest(truth: Truth, out: np.ndarray) -> np.ndarray:
    """True observations deleted within `AROUND` days of each harvest."""
    near = [
        out[np.abs(truth.observations - day) <= AROUND, cell].sum() for cell, day in harvests(truth)
    ]
    return np.array(near)


def add_clouds(truth: Truth, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """NDVI with noise and clouds, and by how much the clouds lowered it."""
    random = np.random.default_rng(1000 + seed)
    shape = truth.clear.shape
    opacity = np.where(random.random(shape) < MISSED, random.uniform(0.15, 0.9, shape), 0.0)
    seen = ndvi_of(truth.bands * (1 - opacity) + WHITE * opacity)
    return seen + random.normal(0, NOISE, shape), truth.ndvi - seen


def rates(truth: Truth, seed: int, **options: Any) -> dict[str, float]:
    """Both kinds of error of one seed."""
    random = np.random.default_rng(seed)
    bare = screened(truth, truth.ndvi, **options)
    noisy = truth.ndvi + random.normal(0, NOISE, truth.clear.shape)
    at_harvest = lost_at_harvest(truth, screened(truth, noisy, **options))
    is_grass, is_crop = truth.cover == Cover.GRASS, truth.cover == Cover.CROP
    cloudy, drop = add_clouds(truth, seed)
    found = screened(truth, cloudy, **options)
    is_cloud = truth.clear & (drop > CLOUD)
    result = {
        "observations a cell": truth.clear.sum(axis=0).mean(),
        "harvests": at_harvest.size,
        "lost at a harvest, noise-free": lost_at_harvest(truth, bare).mean(),
        "lost at a harvest": at_harvest.mean(),
        "lost a grass cell and year, noise-free": bare[:, is_grass].sum(axis=0).mean(),
        "lost a crop cell and year, noise-free": bare[:, is_crop].sum(axis=0).mean(),
        "lost a cell and year, noise-free": bare.sum(axis=0).mean(),
        "clouds": is_cloud.sum(),
        "clouds found": found[is_cloud].mean(),
        "of those below .2": found[is_cloud & (drop <= 0.2)].mean(),
        "of those above .3": found[is_cloud & (drop > 0.3)].mean(),
        "clear observations deleted beside clouds": found[truth.clear & (drop == 0)].mean(),
    }
    return {name: float(value) for name, value in result.items()}


def flagged_on_real_series() -> pd.DataFrame:
    """Of `flanders-2018` by date: sensor, valid pixels, share flagged, and of how much NDVI."""
    real = import_module("series_real")
    sentinel, landsat = real.load_flanders(real.data_folder())
    series = real.merged_ndvi(sentinel, landsat, "hls-v2")["ndvi"]
    rows = {}
    for direction in ("below", "both"):
        out = series.notnull() & xh.series.screen_outliers(series, direction=direction).isnull()
        rows[direction] = out.sum(("y", "x")).values
    table = pd.DataFrame(
        {
            "date": np.datetime_as_string(series["time"].values, unit="D"),
            "sensor": series["sensor"].values,
            "NDVI": series.median(("y", "x")).values,
            "valid": series.notnull().sum(("y", "x")).values,
            **rows,
        }
    )
    print(table[table["both"] > 0].to_string(index=False, float_format=lambda v: f"{v:.3f}"))
    valid = table["valid"].sum()
    for direction in rows:
        print(f"{direction}: {table[direction].sum()} of {valid}")
    return table


def main(argv: Sequence[str] | None = None) -> pd.DataFrame:
    """Print the table and return it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--size", type=int, default=40, help="cells along a side")
    parser.add_argument("--left-out", type=float, default=0.0, help="share of clear observations")
    parser.add_argument("--real", action="store_true", help="what is flagged on real series")
    given = parser.parse_args(argv)
    if given.real:
        return flagged_on_real_series()
    found = {}
    for seed in given.seeds:
        truth = simulate(seed, given.size, given.left_out)
        for direction in ("below", "both"):
            found[direction, seed] = rates(truth, seed, direction=direction)
    table = pd.DataFrame(found)
    print(table.to_string(float_format=lambda value: f"{value:.3f}"))
    return table


if __name__ == "__main__":
    main()
