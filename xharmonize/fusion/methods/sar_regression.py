"""Correct what is interpolated in time by a regression on what Sentinel-1 saw on the day."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.contract import require_bands
from xharmonize.cube.whole import days_of, whole_series
from xharmonize.errors import FitError
from xharmonize.fusion.methods.filler import (
    Filler,
    facts_of,
    fit_coords,
    gaps_of,
    interpolated,
    require_dates_to_fit,
)
from xharmonize.fusion.structure import PARAMETERS, fit_structure, sample_of, table_of
from xharmonize.sensors.spec import SAME_ROLE
from xharmonize.types import AnyArray, BoolArray, Float64Array, FloatArray, IntArray

SAR_REGRESSION = "sar-regression"
SIDES = ("both", "one")
"""Whether an estimate has clear dates on both sides or on one: each has coefficients of its own."""

TERMS = (
    "departure of vv",
    "departure of vh",
    "ndvi * departure of vv",
    "ndvi * departure of vh",
    "time",
    "time * ndvi",
    "time * vv",
    "time * vh",
    "time * ndvi * vv",
    "time * ndvi * vh",
)
"""What a correction is a linear function of. The departure is that of the day's backscatter [5 dB]
from the one interpolated between the clear dates, ``ndvi`` that of the interpolated reflectance,
``vv`` and ``vh`` the day's backscatter [5 dB from -15 dB], ``time`` 1 - exp(-days/30) of the days
to the nearest clear date."""

RIDGE = 0.01
"""Ridge penalty as a fraction of each term's own mean square."""

RELAXATION = 30.0
"""Days in which a place forgets most of what it looked like."""

HIDDEN = (0, 10, 20, 35)
"""Days around a clear date that are hidden with it, to see what its estimate lacks."""

MIN_SAMPLES = 1000
"""Estimates beside clear values, of all pixels of the sample, that a fit needs."""


@dataclass(frozen=True, kw_only=True)
class SarRegressionFiller(Filler):
    """Interpolate as `temporal` does, and add what Sentinel-1 tells of the day."""

    name: str = SAR_REGRESSION
    sources: ClassVar[tuple[str, ...]] = ("cube", "sentinel1")

    def _layers(self, cube: xr.DataArray, others: Mapping[str, Any]) -> list[Any]:
        require_bands(cube, state_bands(cube), what=f"model {self.name!r}")
        return [whole_series(others["sentinel1"]).data]

    def _tables(self) -> list[str]:
        return ["zbf", "zb", "s", "bp"]

    def _parameters(self, bands: list[str]) -> list[Any]:
        own = self.fit.sel(band=bands)
        matrix = own["coefficient"].transpose("sides", "band", "term").data
        ratio = own["error_ratio"].transpose("sides", "band").data
        place = np.array([bands.index(name) for name in _state_of(bands)])
        return [matrix, ratio, place, *super()._parameters(bands)]

    def _valid(self, values: FloatArray, *more: AnyArray) -> Any:
        return super()._valid(values) & np.isfinite(more[0]).all(axis=1)

    def _correct(self, found: FloatArray, steps: IntArray, days: IntArray, *more: Any) -> None:
        gaps, radar, matrix, ratio, place = more[:5]
        terms = terms_of(found[0][:, place], radar, steps, days, gaps)
        is_both = (steps >= 0).all(axis=0)
        for side, rows in enumerate(np.asarray(matrix, np.float32)):
            here = is_both if SIDES[side] == "both" else ~is_both
            for b, row in enumerate(rows):
                # Term by term: a matrix product depends on how many pixels a block has.
                change = np.zeros(here.shape, np.float32)
                for k, factor in enumerate(row):
                    change += factor * terms[:, k]
                found[0][:, b] += np.where(here, change, np.float32(0))
                found[1][:, b] *= np.where(here, np.float32(np.sqrt(ratio[side, b])), np.float32(1))
        lost: BoolArray = np.asarray(~np.isfinite(terms).all(axis=1))
        found[:, np.broadcast_to(lost[:, None], found.shape[1:])] = np.nan


def terms_of(
    state: FloatArray, radar: FloatArray, steps: IntArray, days: IntArray, gaps: FloatArray
) -> FloatArray:
    """Terms (time, term, pixel) of a correction; see `TERMS`.

    Parameters
    ----------
    state : (time, 2, pixel) array
        Interpolated red and near infrared [1].
    radar : (time, 2, pixel) array
        VV and VH [dB].
    steps : (2, time, pixel) array
        Clear dates before and after.
    gaps : (time, pixel) array
        Time to the nearest of them [day].
    """
    flat = np.zeros((2, 1))
    expected = interpolated(radar, steps, days, flat)[0]
    red, nir = state[:, 0], state[:, 1]
    total = red + nir
    ndvi = np.divide(nir - red, total, out=np.zeros_like(total), where=total > 0)
    ndvi = np.clip(ndvi, 0, 1)[:, None]
    change, level = (radar - expected) / 5, (radar + 15) / 5
    time = (1 - np.exp(-gaps / RELAXATION)).astype(np.float32)[:, None]
    levels = [time, time * ndvi, time * level, time * ndvi * level]
    return np.concatenate([change, ndvi * change, *levels], axis=1).astype(np.float32)


def state_bands(cube: xr.DataArray) -> list[str]:
    """Red and the near infrared that the cube has."""
    return _state_of([str(band) for band in cube["band"].values])


def _state_of(bands: list[str]) -> list[str]:
    nir = next((name for name in ("nir", SAME_ROLE["nir"]) if name in bands), "nir")
    return ["red", nir]


def fit_sar_regression(
    seen: xr.DataArray, sentinel1: xr.DataArray, *, longest: float
) -> xr.Dataset:
    """Fit what interpolation lacks on clear dates to what Sentinel-1 saw on them, lazily.

    Parameters
    ----------
    seen : (time, band, y, x) DataArray
        Reflectance [1], NaN where missing or filled.
    sentinel1 : (time, band, y, x) DataArray
        VV and VH [dB] on the same dates and grid.
    longest : float
        Longest time to a clear date [day].
    """
    require_dates_to_fit(seen)
    require_bands(seen, state_bands(seen), what=f"model {SAR_REGRESSION!r}")
    bands = [str(band) for band in seen["band"].values]
    place = tuple(bands.index(name) for name in state_bands(seen))
    n_terms, n_own = len(TERMS), len(TERMS) + 1
    found = map_blocks(
        partial(_fit, days=days_of(seen), longest=longest, place=place),
        "tbyx,tkyx->bc",
        sample_of(seen),
        sample_of(sentinel1),
        new={"c": len(SIDES) * n_own + len(PARAMETERS)},
        whole="b",
        dtype=np.float64,
        name="fit-sar-regression",
    )
    fit = fit_coords(found[:, len(SIDES) * n_own :], bands)
    own = [found[:, k * n_own : (k + 1) * n_own] for k in range(len(SIDES))]
    fit = fit.assign_coords(sides=list(SIDES), term=list(TERMS))
    fit["coefficient"] = (
        ("sides", "band", "term"),
        np.stack([one[:, :n_terms] for one in own]),
        {"long_name": "correction per term", "units": "1"},
    )
    fit["error_ratio"] = (
        ("sides", "band"),
        np.stack([one[:, n_terms] for one in own]),
        {"long_name": "error variance over that of the semivariogram", "units": "1"},
    )
    return fit.assign_attrs(facts_of(seen, SAR_REGRESSION))


def _fit(
    values: AnyArray, radar: AnyArray, *, days: IntArray, longest: float, place: tuple[int, ...]
) -> Float64Array:
    """Coefficients and error ratio of both sides, and the semivariogram: one row a band."""
    order = np.argsort(days, kind="stable")
    z, s = (one.reshape(*one.shape[:2], -1)[order].astype(np.float32) for one in (values, radar))
    days = days[order]
    valid: BoolArray = np.asarray(np.isfinite(z).all(axis=1) & np.isfinite(s).all(axis=1))
    structure = fit_structure(z, days, longest=longest)
    spread = table_of(structure, longest)
    sums = [_Sums(z.shape[1]) for _ in SIDES]
    for steps in _hidden(valid, days, longest):
        gaps, found = gaps_of(steps, days), interpolated(z, steps, days, spread)
        terms = terms_of(found[0][:, list(place)], s, steps, days, gaps)
        missed = z - found[0]
        known = valid & np.isfinite(missed).all(axis=1) & np.isfinite(terms).all(axis=1)
        is_both = (steps >= 0).all(axis=0)
        for one, here in zip(sums, (known & is_both, known & ~is_both)):
            x, e, sigma = (np.moveaxis(v, 1, 0)[:, here] for v in (terms, missed, found[1]))
            one.add(x, e, sigma, 1 / np.maximum(gaps[here], 1))
    n = sum(one.n for one in sums)
    if n < MIN_SAMPLES:
        raise FitError(
            f"{n} estimates beside clear values with Sentinel-1, from dates within {longest:g} "
            "days, are too few",
            cure=f"{MIN_SAMPLES} are needed: give more dates or a larger place, or pass a fit of "
            "another one",
        )
    return np.concatenate([*(one.solved() for one in sums), structure], axis=1)


def _hidden(valid: BoolArray, days: IntArray, longest: float) -> Iterator[IntArray]:
    """Yield the clear dates (2, time, pixel) before and after each, dates around it hidden.

    With each width of `HIDDEN` those on both sides, then those on one side only.
    """
    n_times = days.size
    number = np.where(valid, np.arange(n_times)[:, None], -1)
    last = np.vstack([np.full((1, valid.shape[1]), -1), np.maximum.accumulate(number, axis=0)])
    later = np.where(valid, np.arange(n_times)[:, None], n_times)[::-1]
    following = np.minimum.accumulate(later, axis=0)[::-1]
    following = np.vstack([following, np.full((1, valid.shape[1]), n_times)])
    for width in HIDDEN:
        before = last[np.searchsorted(days, days - width, side="left")]
        after = following[np.searchsorted(days, days + width, side="right")]
        after = np.where(after == n_times, -1, after)
        away = [np.abs(days[one] - days[:, None]) for one in (before, after)]
        steps = np.stack([np.where(a <= longest, b, -1) for a, b in zip(away, (before, after))])
        yield steps
        for side in range(2):
            only = steps.copy()
            only[side] = -1
            yield only


class _Sums:
    """Normal equations of one side's corrections, and squares of what interpolation misses."""

    def __init__(self, n_bands: int) -> None:
        self.n = 0
        self.square = np.zeros((len(TERMS), len(TERMS)))
        self.mixed = np.zeros((n_bands, len(TERMS)))
        self.missed, self.expected = np.zeros(n_bands), np.zeros(n_bands)

    def add(
        self, terms: FloatArray, missed: FloatArray, sigma: FloatArray, weight: FloatArray
    ) -> None:
        """Add samples: terms (term, n), errors and deviations (band, n), weights (n,)."""
        x, e, w = terms.astype(np.float64), missed.astype(np.float64), weight.astype(np.float64)
        self.n += w.size
        self.square += (x * w) @ x.T
        self.mixed += (e * w) @ x.T
        self.missed += np.square(e) @ w
        self.expected += np.square(sigma.astype(np.float64)) @ w

    def solved(self) -> Float64Array:
        """Coefficients and error ratio (band, term + 1); zeros and one without samples."""
        if self.n < MIN_SAMPLES:
            return np.hstack([np.zeros_like(self.mixed), np.ones((len(self.mixed), 1))])
        penalty = RIDGE * np.diag(np.diag(self.square) + 1e-12)
        matrix = np.linalg.solve(self.square + penalty, self.mixed.T).T
        left = self.missed - 2 * (matrix * self.mixed).sum(axis=1)
        left += ((matrix @ self.square) * matrix).sum(axis=1)
        return np.hstack([matrix, (left / self.expected)[:, None]])
