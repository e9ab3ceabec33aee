"""Fill clouds by a regression of the change since a clear date on the change of Sentinel-1."""

from __future__ import annotations

from collections.abc import Mapping
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
    require_dates_to_fit,
    taken,
)
from xharmonize.fusion.structure import date_pairs, fit_structure, sample_of
from xharmonize.sensors.spec import SAME_ROLE
from xharmonize.types import AnyArray, Float64Array, FloatArray, IntArray

SAR_REGRESSION = "sar-regression"
TERMS = (
    "change of vv",
    "change of vh",
    "ndvi * change of vv",
    "ndvi * change of vh",
    "time",
    "time * ndvi",
    "time * vv",
    "time * vh",
    "time * ndvi * vv",
    "time * ndvi * vh",
)
"""What the change of a band is a linear function of: ``ndvi`` is that of the clear date, ``vv`` and
``vh`` the backscatter of the date that is filled [5 dB from -15 dB], ``time`` 1 - exp(-days/30)."""

RIDGE = 0.01
"""Ridge penalty as a fraction of each term's own mean square."""

RELAXATION = 30.0
"""Days in which a place forgets most of what it looked like."""

MIN_PAIRS = 1000
"""Pairs of clear values, of all pixels of the sample, that a fit needs."""


@dataclass(frozen=True, kw_only=True)
class SarRegressionFiller(Filler):
    """Add to the values of clear dates the change that Sentinel-1 shows since then.

    The estimates from the clear dates before and after are joined linearly in time, as those of
    `temporal` are.
    """

    name: str = SAR_REGRESSION
    sources: ClassVar[tuple[str, ...]] = ("cube", "sentinel1")

    def _layers(self, cube: xr.DataArray, others: Mapping[str, Any]) -> list[Any]:
        require_bands(cube, state_bands(cube), what=f"model {self.name!r}")
        return [whole_series(others["sentinel1"]).data]

    def _tables(self) -> list[str]:
        return ["bf", "s", "bp"]

    def _parameters(self, bands: list[str]) -> list[Any]:
        own = self.fit["coefficient"].sel(band=bands).transpose("band", "term")
        place = np.array([bands.index(name) for name in _state_of(bands)])
        return [own.data, place, *super()._parameters(bands)]

    def _valid(self, values: FloatArray, *more: AnyArray) -> Any:
        return super()._valid(values) & np.isfinite(more[0]).all(axis=1)

    def _sides(self, values: FloatArray, steps: IntArray, days: IntArray, *more: Any) -> Any:
        radar, matrix, place = more[0], np.asarray(more[1], np.float64), more[2]
        sides = []
        for one in steps:
            before, there = taken(values, one), taken(radar, one)
            lags = np.abs(days[np.maximum(one, 0)] - days[:, None])
            terms = terms_of(before[:, place], there, radar, lags)
            sides.append(before + _product(matrix, terms))
        return sides


def terms_of(state: FloatArray, before: FloatArray, now: FloatArray, lags: IntArray) -> FloatArray:
    """Terms (..., term, pixel) of a change; see `TERMS`.

    Parameters
    ----------
    state : (..., 2, pixel) array
        Red and near infrared of the clear date [1].
    before, now : (..., 2, pixel) array
        VV and VH of the clear date and of the date that is filled [dB].
    lags : (..., pixel) array
        Time between them [day].
    """
    red, nir = state[..., 0, :], state[..., 1, :]
    total = red + nir
    ndvi = np.divide(nir - red, total, out=np.zeros_like(total), where=total > 0)
    ndvi = np.clip(ndvi, 0, 1)[..., None, :]
    change, level = (now - before) / 5, (now + 15) / 5
    time = (1 - np.exp(-lags / RELAXATION)).astype(np.float32)[..., None, :]
    levels = [time, time * ndvi, time * level, time * ndvi * level]
    return np.concatenate([change, ndvi * change, *levels], axis=-2)


def _product(matrix: Float64Array, terms: FloatArray) -> FloatArray:
    """Change (time, band, pixel) of terms; added term by term, the same in blocks of any size."""
    result = np.zeros((terms.shape[0], len(matrix), terms.shape[-1]), np.float32)
    for b, row in enumerate(matrix.astype(np.float32)):
        for k, factor in enumerate(row):
            result[:, b] += factor * terms[:, k]
    return result


def state_bands(cube: xr.DataArray) -> list[str]:
    """Red and the near infrared that the cube has."""
    return _state_of([str(band) for band in cube["band"].values])


def _state_of(bands: list[str]) -> list[str]:
    nir = next((name for name in ("nir", SAME_ROLE["nir"]) if name in bands), "nir")
    return ["red", nir]


def fit_sar_regression(
    seen: xr.DataArray, sentinel1: xr.DataArray, *, longest: float
) -> xr.Dataset:
    """Fit the change between clear dates to that of Sentinel-1, lazily.

    Parameters
    ----------
    seen : (time, band, y, x) DataArray
        Reflectance [1], NaN where missing or filled.
    sentinel1 : (time, band, y, x) DataArray
        VV and VH [dB] on the same dates and grid.
    longest : float
        Longest time between two dates that are compared [day].
    """
    require_dates_to_fit(seen)
    require_bands(seen, state_bands(seen), what=f"model {SAR_REGRESSION!r}")
    bands = [str(band) for band in seen["band"].values]
    place = tuple(bands.index(name) for name in state_bands(seen))
    found = map_blocks(
        partial(_fit, days=days_of(seen), longest=longest, place=place),
        "tbyx,tkyx->bc",
        sample_of(seen),
        sample_of(sentinel1),
        new={"c": len(TERMS) + 3},
        whole="b",
        dtype=np.float64,
        name="fit-sar-regression",
    )
    fit = fit_coords(found[:, len(TERMS) :], bands)
    fit["coefficient"] = xr.DataArray(
        found[:, : len(TERMS)],
        dims=("band", "term"),
        coords={"band": bands, "term": list(TERMS)},
        attrs={"long_name": "change of reflectance per term", "units": "1"},
    )
    return fit.assign_attrs(facts_of(seen, SAR_REGRESSION))


def _fit(
    values: AnyArray, radar: AnyArray, *, days: IntArray, longest: float, place: tuple[int, ...]
) -> Float64Array:
    """Coefficients of each band, and the semivariogram of what they leave (band, term + 3)."""
    order = np.argsort(days, kind="stable")
    z, s = (one.reshape(*one.shape[:2], -1)[order] for one in (values, radar))
    days = days[order]
    missing = ~(np.isfinite(z).all(axis=1) & np.isfinite(s).all(axis=1))
    z = np.where(missing[:, None], np.float32(np.nan), z)
    state = list(place)

    def terms(i: int, j: int, pixels: AnyArray) -> Float64Array:
        lags = np.full(pixels.size, abs(int(days[j] - days[i])))
        one = terms_of(z[i][state][:, pixels], s[i][:, pixels], s[j][:, pixels], lags)
        return one.astype(np.float64)

    square, mixed, n = np.zeros((len(TERMS),) * 2), np.zeros((len(TERMS), z.shape[1])), 0
    for first, second, lag in date_pairs(days, longest):
        pixels = np.flatnonzero(~missing[first] & ~missing[second])
        if lag == 0 or not pixels.size:
            continue
        n += pixels.size
        for i, j in ((first, second), (second, first)):
            x = terms(i, j, pixels)
            square += x @ x.T / lag
            mixed += x @ (z[j][:, pixels] - z[i][:, pixels]).astype(np.float64).T / lag
    if n < MIN_PAIRS:
        raise FitError(
            f"{n} pairs of clear values with Sentinel-1 are at most {longest:g} days apart",
            cure=f"{MIN_PAIRS} are needed: give more dates or a larger place, or pass a fit of "
            "another one",
        )
    matrix = np.linalg.solve(square + RIDGE * np.diag(np.diag(square)), mixed).T

    def left(i: int, j: int, pixels: AnyArray) -> Float64Array:
        both = [z[j][:, pixels] - z[i][:, pixels] - matrix @ terms(i, j, pixels)]
        both += [z[i][:, pixels] - z[j][:, pixels] - matrix @ terms(j, i, pixels)]
        return np.sqrt(np.mean(np.square(both), axis=0))

    structure = fit_structure(z, days, longest=longest, away=left)
    return np.concatenate([matrix, structure], axis=1)
