"""ATPRK: a regression on the fine bands, and area-to-point kriging of what it leaves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import chunks_of, is_lazy, map_blocks, with_margin
from xharmonize.cube.geobox import geobox_of
from xharmonize.cube.orbits import in_pixels, shifts_of
from xharmonize.cube.regrid import axes_between, regrid
from xharmonize.fusion.consistency import degrade
from xharmonize.fusion.frame import MIN_SEEN, Sharpener
from xharmonize.harmonizers.sums import joint_block
from xharmonize.kernels.kriging import (
    MAX_LAG,
    RADIUS,
    Support,
    fit_length,
    krige,
    kriging_of,
    lag_sums,
)
from xharmonize.kernels.regression import apply_matrix, solve_multiband
from xharmonize.types import AnyArray, Float64Array, FloatArray, IntArray

Supports: TypeAlias = tuple[Support, Support]
"""Of a coarse pixel along y and x."""

MIN_PIXELS = 5
"""Coarse pixels per coefficient that a regression takes, at least."""


@dataclass(frozen=True, kw_only=True)
class Atprk(Sharpener):
    """Area-to-point regression kriging (ATPRK).

    Each band is predicted from all bands of the fine cube, whichever they are, by one linear
    function per date, fitted over the whole cube at coarse pixels. What it leaves of the coarse
    pixels is kriged to fine ones. Degraded, the result is close to the coarse cube; where pixels
    nest and nothing is blurred, it is the same. A pixel is NaN where a fine band is missing, and so
    is a date of which fewer than 5 coarse pixels per coefficient are seen in both cubes.

    The pixels of the coarse cube must be a whole number of fine ones wide, at any phase.
    """

    name: str = "atprk"
    citation: str = "Wang et al. 2016, doi:10.1016/j.rse.2016.10.030"

    def sharpened(self, coarse: xr.DataArray, **sources: xr.DataArray) -> Any:
        """Return the sum of regression and kriged residuals."""
        like = self._grid(sources)
        fine = regrid(sources["fine"], like=like)
        seen = degrade(fine, coarse, psf=self.psf, shifts=self.shifts, min_valid=MIN_SEEN)
        table = _regressions(coarse.data, seen.data)
        residual = map_blocks(
            _residual,
            "tbyx,tsyx,tbq->tbyx",
            coarse.data,
            seen.data,
            table,
            dtype=np.float32,
            name="sharpen-residual",
        )
        return map_blocks(
            _sum,
            "tsyx,tbyx,tbq->tbyx",
            fine.data,
            _kriged(residual, self._supports(coarse, like), like.shape[2:]),
            table,
            dtype=np.float32,
            name="sharpen-atprk",
        )

    def _supports(self, coarse: xr.DataArray, like: xr.DataArray) -> list[Supports]:
        """Which fine pixels each date's coarse ones average, along y and x."""
        grid = geobox_of(like)
        axes = axes_between(grid, geobox_of(coarse), psf=self.psf)
        if self.shifts is None:
            return [(Support.of(axes[0]), Support.of(axes[1]))] * coarse.sizes["time"]
        moved = -in_pixels(shifts_of(coarse, self.shifts), grid)
        return [
            (Support.of(axes[0].moved(down)), Support.of(axes[1].moved(right)))
            for down, right in moved.tolist()
        ]


def _regressions(coarse: Any, seen: Any) -> Any:
    """Coefficients (time, band, source_band + 1): a gap of one band is none of the others."""
    own = [_regression(coarse[:, b : b + 1], seen) for b in range(coarse.shape[1])]
    table: Any = np.concatenate(own, axis=1)
    return table.rechunk({1: -1}) if is_lazy(table) else table


def _regression(coarse: Any, seen: Any) -> Any:
    """Coefficients of the fine bands, then the intercept (time, band, source_band + 1), lazily."""
    n_source, n_bands = seen.shape[1], coarse.shape[1]
    size = 1 + n_source + n_bands
    moments = map_blocks(
        joint_block,
        "tsyx,tbyx->tyxkl",
        seen,
        coarse,
        new={"k": size, "l": size},
        sizes={"y": 1, "x": 1},
        dtype=np.float64,
        name="sharpen-moments",
    )
    return map_blocks(
        partial(_solve, n_source=n_source),
        "tkl->tbq",
        moments.sum(axis=(1, 2)),
        new={"b": n_bands, "q": n_source + 1},
        dtype=np.float64,
        name="sharpen-regression",
    )


def _solve(moments: Float64Array, *, n_source: int) -> Float64Array:
    found = np.full((len(moments), moments.shape[-1] - 1 - n_source, n_source + 1), np.nan)
    for date, own in zip(found, moments):
        if own[0, 0] >= MIN_PIXELS * (n_source + 1):
            date[:, :-1], date[:, -1] = solve_multiband(own, n_source)[:2]
    return found


def _residual(coarse: AnyArray, seen: AnyArray, table: Float64Array) -> FloatArray:
    return np.asarray(coarse - _predicted(seen, table), np.float32)


def _sum(fine: AnyArray, detail: FloatArray, table: Float64Array) -> FloatArray:
    return np.asarray(_predicted(fine, table) + detail)


def _predicted(values: AnyArray, table: Float64Array) -> FloatArray:
    """The regression (time, band, y, x) of dates, each with its own coefficients."""
    images = np.ascontiguousarray(values, np.float32)
    dates = zip(images, np.ascontiguousarray(table[..., :-1]), table[..., -1].copy())
    return np.concatenate([apply_matrix(image[None], *own) for image, *own in dates])


def _kriged(residual: Any, supports: list[Supports], shape: tuple[int, ...]) -> Any:
    """Residuals (time, band, y, x) of coarse pixels on a fine grid of a shape, lazily."""
    dates = np.arange(len(supports))
    length = _lengths(residual, supports, dates)
    padded = with_margin(residual, {2: RADIUS, 3: RADIUS}, fill=np.nan)
    factors = [one.factor for one in supports[0]]
    sizes = [
        tuple(factor * (n - 2 * RADIUS) for n in chunks)
        for factor, chunks in zip(factors, chunks_of(padded)[2:])
    ]
    found = map_blocks(
        partial(_krige_block, supports=supports),
        "tbyx,tb,t->tbyx",
        padded,
        length,
        dates,
        sizes=dict(zip("yx", sizes)),
        dtype=np.float32,
        name="sharpen-krige",
    )
    starts = [tuple(one.start for one in pair) for pair in supports]
    if len(set(starts)) == 1:
        return _placed(found, starts[0], shape)
    parts = [_placed(found[t : t + 1], start, shape) for t, start in enumerate(starts)]
    return np.concatenate(parts)


def _lengths(residual: Any, supports: list[Supports], dates: IntArray) -> Any:
    """Length (time, band) of the semivariogram between fine pixels, lazily."""
    margin = {2: MAX_LAG, 3: MAX_LAG}
    sums = map_blocks(
        _lag_block,
        "tbyx->tyxbuvk",
        with_margin(residual, margin, fill=np.nan),
        new={"u": MAX_LAG + 1, "v": 2 * MAX_LAG + 1, "k": 2},
        sizes={"y": 1, "x": 1},
        dtype=np.float64,
        name="sharpen-lags",
    )
    return map_blocks(
        partial(_length_block, supports=supports),
        "tbuvk,t->tb",
        sums.sum(axis=(1, 2)),
        dates,
        dtype=np.float64,
        name="sharpen-length",
    )


def _lag_block(padded: AnyArray) -> Float64Array:
    sums = [lag_sums(date, margin=(MAX_LAG, MAX_LAG)) for date in padded]
    return np.stack(sums)[:, None, None]


def _length_block(sums: Float64Array, dates: IntArray, *, supports: list[Supports]) -> Float64Array:
    return np.stack([fit_length(own, *supports[t])[:, 0] for own, t in zip(sums, dates)])


def _krige_block(
    padded: AnyArray, length: Float64Array, dates: IntArray, *, supports: list[Supports]
) -> FloatArray:
    found = []
    for image, own, t in zip(padded, length, dates):
        kriging = [kriging_of(float(one), *supports[t]) for one in own]
        found.append(krige(image, kriging, margin=RADIUS))
    return np.stack(found)


def _placed(kriged: Any, start: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """Fine pixels from 0 to `shape` of an array (…, y, x) that begins at `start`; NaN beyond it."""
    ends = list(zip(start, shape, kriged.shape[-2:]))
    inside = tuple(slice(max(0, -low), max(0, size - low)) for low, size, _ in ends)
    around = [(0, 0)] * (kriged.ndim - 2) + [
        (max(0, low), max(0, size - low - n)) for low, size, n in ends
    ]
    return np.pad(kriged[(..., *inside)], around, constant_values=np.nan)
