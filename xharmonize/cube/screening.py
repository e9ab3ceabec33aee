"""How clear each date of a cube is, from a sample of its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import is_lazy
from xharmonize.types import BoolArray, Float64Array, FloatArray

HAZE_BANDS = ("coastal", "blue", "green", "red")
"""Bands that haze brightens, the most sensitive first."""

N_SAMPLES = 256
"""Samples along each side of a cube."""

NEAR = 30.0
"""Days within which dates are compared."""

MIN_DATES = 3
"""Dates without so many others nearby have no score."""

QUARTER = 0.25
LEAST_SPREAD = 0.005
"""Standard deviation of clear dates below which they don't fall [1]."""


@dataclass(frozen=True, kw_only=True)
class Screening:
    """What screening found.

    Attributes
    ----------
    clear_fraction : (time,) float64 array
        Valid fraction of the sampled pixels [1].
    outlier_score : (time,) float64 array
        How much brighter than the dates around it [robust standard deviation]; NaN where unknown.
    """

    clear_fraction: Float64Array
    outlier_score: Float64Array

    def usable(self, min_valid: float, max_score: float | None) -> BoolArray:
        """Which dates pass; those without a score do."""
        is_clear = self.clear_fraction >= min_valid
        if max_score is None:
            return is_clear
        return np.asarray(is_clear & ~(self.outlier_score > max_score))


def screen_dates(cube: xr.DataArray, *, min_valid: float) -> Screening:
    """Look for clouds and haze that masks missed; reads one band of up to 256 × 256 pixels a date.

    The shortest-wave visible band is compared, pixel by pixel, with the lower quartile of the other
    dates within 30 days, themselves at least `min_valid` clear. The median difference is how much
    haze a date has; the score is its distance from the median of all dates in robust standard
    deviations of the dates below it, which haze does not widen.

    Parameters
    ----------
    cube : (time, band, y, x) DataArray
        Reflectance [1], NaN where missing.
    """
    names = [str(name) for name in cube["band"].values]
    band = next((name for name in HAZE_BANDS if name in names), names[0])
    every = {dim: max(1, ceil(cube.sizes[dim] / N_SAMPLES)) for dim in ("y", "x")}
    steps: dict[str, Any] = {dim: slice(None, None, n) for dim, n in every.items()}
    part = cube.isel({"band": names.index(band), **steps})
    sample = part.compute() if is_lazy(part.variable) else part
    values = np.asarray(sample.transpose("time", "y", "x").values, np.float32)
    values = values.reshape(len(values), -1)
    clear = np.isfinite(values).mean(axis=1) if values.size else np.zeros(len(values))
    days = (cube["time"].values - cube["time"].values.min()) / np.timedelta64(1, "D")
    excess = _excess(values, np.asarray(days, np.float64), clear >= max(min_valid, 1e-9))
    return Screening(clear_fraction=clear, outlier_score=_score(excess))


def _excess(values: FloatArray, days: Float64Array, is_clear: BoolArray) -> Float64Array:
    """Median difference of each clear date from the lower quartile of the dates around it."""
    excess = np.full(days.size, np.nan)
    for i in np.flatnonzero(is_clear):
        near = is_clear & (np.abs(days - days[i]) <= NEAR)
        near[i] = False
        seen = np.isfinite(values[i])
        others = values[near][:, seen]
        enough = np.isfinite(others).sum(axis=0) >= MIN_DATES
        if enough.any():
            base = _lower_quartile(others[:, enough])
            excess[i] = np.median(values[i, seen][enough] - base)
    return excess


def _lower_quartile(values: FloatArray) -> FloatArray:
    """Lower quartile (pixel,) of what is finite along the first axis; some is at every pixel.

    As `numpy.nanquantile` gives it, which calls Python once a pixel.
    """
    ordered = np.sort(values, axis=0)  # NaN comes last
    place = QUARTER * (np.isfinite(values).sum(axis=0) - 1)
    low, high = np.floor(place).astype(np.intp), np.ceil(place).astype(np.intp)
    below, above = (np.take_along_axis(ordered, n[None], axis=0)[0] for n in (low, high))
    return np.asarray(below + (above - below) * (place - low).astype(values.dtype))


def _score(excess: Float64Array) -> Float64Array:
    known = excess[np.isfinite(excess)]
    if known.size < MIN_DATES:
        return np.full(excess.size, np.nan)
    middle = float(np.median(known))
    spread = 1.4826 * float(np.median(middle - known[known <= middle]))
    return np.asarray((excess - middle) / max(spread, LEAST_SPREAD))
