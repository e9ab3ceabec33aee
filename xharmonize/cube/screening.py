"""How clear the dates of two sensors are, from a sample of their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import is_lazy
from xharmonize.cube.geobox import geobox_of, is_same_crs
from xharmonize.types import AnyArray, BoolArray, Float64Array, FloatArray

HAZE_BANDS = ("coastal", "blue")
"""Bands that haze brightens, the most sensitive first."""

GROUND = "red"
"""Band that tells the ground's part in those of shorter waves."""

CLEAR_LINE = 0.5
"""Slope of blue on red over clear ground [1], as in the haze test of Fmask."""

UNCERTAINTY = 0.005
"""One standard deviation of surface reflectance over dark ground, as specified for Landsat and
Sentinel-2 [1]: the unit of scores."""

N_SAMPLES = 256
"""Samples along each side of a cube."""

NEAR = 30.0
"""Days within which dates are compared."""

MIN_DATES = 3
"""Dates without so many others nearby have no score."""

QUARTER = 0.25


@dataclass(frozen=True, kw_only=True)
class Screening:
    """What screening found.

    Attributes
    ----------
    clear_fraction : (time,) float64 array
        Valid fraction of the sampled pixels [1].
    outlier_score : (time,) float64 array
        How much more haze than on the dates around it [uncertainty of surface reflectance, 0.005];
        NaN where unknown, and without blue and red.
    """

    clear_fraction: Float64Array
    outlier_score: Float64Array

    def usable(self, min_valid: float, max_score: float | None) -> BoolArray:
        """Which dates pass; those without a score do."""
        is_clear = self.clear_fraction >= min_valid
        if max_score is None:
            return is_clear
        return np.asarray(is_clear & ~(self.outlier_score > max_score))


def screen_dates(
    source: xr.DataArray, target: xr.DataArray, *, min_valid: float, tolerance: float
) -> tuple[Screening, Screening]:
    """Look for clouds and haze that masks missed; reads two bands of up to 256 × 256 pixels a date.

    Haze brightens blue more than red, a change of the ground red more than blue: blue less half of
    red is compared. A date is hazy if it is higher both

    - than the dates around it: the median over pixels of the difference from the lower quartile of
      the other dates within 30 days, themselves at least `min_valid` clear; those of its own sensor
      where there are three, of both otherwise;
    - and than the other sensor's dates within the tolerance, which the same ground has: the median
      of the differences from these, less that of all dates of both sensors within 30 days.

    The score is the lower of both in units of what surface reflectance is specified to. It does not
    depend on how many dates there are, nor on how much these differ: a date has nearly the same in
    a summer as in a whole year.

    Parameters
    ----------
    source, target : (time, band, y, x) DataArray
        Reflectance [1], NaN where missing. Without blue and red no date has a score; on grids of
        other CRSs each is compared with its own dates only.
    min_valid : float
        Minimum valid fraction of dates that others are compared with [1].
    tolerance : float
        Largest gap between dates of both sensors that see the same ground [day].

    References
    ----------
    Zhang, Y., Guindon, B., & Cihlar, J. (2002). An image transform to characterize and compensate
    for spatial variations in thin cloud contamination of Landsat images. Remote Sensing of
    Environment 82. doi:10.1016/S0034-4257(02)00034-2
    Zhu, Z., & Woodcock, C. E. (2012). Object-based cloud and cloud shadow detection in Landsat
    imagery. Remote Sensing of Environment 118. doi:10.1016/j.rse.2011.10.028
    Vermote, E. F., & Kotchenova, S. (2008). Atmospheric correction for the monitoring of land
    surfaces. Journal of Geophysical Research 113. doi:10.1029/2007JD009662
    """
    values, clear, is_comparable = _sampled(source, target)
    start = min(cube["time"].values.min() for cube in (source, target))
    days = [_days_since(start, cube) for cube in (source, target)]
    is_clear = [fraction >= max(min_valid, 1e-9) for fraction in clear]
    found = [_excess(*one) for one in zip(values, days, is_clear)]
    if is_comparable:
        found = _compared(values, days, is_clear, found, tolerance)
    for k, cube in enumerate((source, target)):
        if len(_wanted(_names(cube))) < 2:
            found[k] = np.full(days[k].size, np.nan)  # haze cannot be told from the ground
    first, second = (
        Screening(clear_fraction=fraction, outlier_score=excess / UNCERTAINTY)
        for fraction, excess in zip(clear, found)
    )
    return first, second


def screen_alone(cube: xr.DataArray, *, min_valid: float) -> Screening:
    """Screen the dates of one cube against each other only; see `screen_dates`."""
    values = _haze(_thinned(cube), _names(cube))
    clear = _fraction(values)
    excess = np.full(clear.size, np.nan)
    if len(_wanted(_names(cube))) == 2:
        days = _days_since(cube["time"].values.min(), cube)
        excess = _excess(values, days, clear >= max(min_valid, 1e-9))
    return Screening(clear_fraction=clear, outlier_score=excess / UNCERTAINTY)


def _days_since(start: np.datetime64, cube: xr.DataArray) -> Float64Array:
    return np.asarray((cube["time"].values - start) / np.timedelta64(1, "D"), np.float64)


def _sampled(
    source: xr.DataArray, target: xr.DataArray
) -> tuple[list[FloatArray], list[Float64Array], bool]:
    """Haze (time, point) [1] and clear fraction of both, and whether points are the same."""
    names = [_names(cube) for cube in (source, target)]
    both = [name for name in names[0] if name in names[1]]
    boxes = [geobox_of(cube) for cube in (source, target)]
    if not is_same_crs(boxes[0].crs, boxes[1].crs) or len(_wanted(both)) < 2:
        own = [_haze(_thinned(cube), held) for cube, held in zip((source, target), names)]
        return own, [_fraction(one) for one in own], False
    points = _thinned(target)
    there = _haze(_at(source, points), both)
    inside = _inside(source, points)
    values = [np.where(inside, there, np.float32(np.nan)), _haze(points, both)]
    clear = [_fraction(values[0][:, inside]), _fraction(values[1])]
    if not inside.any():  # what does not overlap is refused where it is regridded
        values[0] = _haze(_thinned(source), both)
        return values, [_fraction(one) for one in values], False
    return values, clear, True


def _thinned(cube: xr.DataArray) -> xr.DataArray:
    every = {dim: max(1, ceil(cube.sizes[dim] / N_SAMPLES)) for dim in ("y", "x")}
    return cube.isel({dim: slice(None, None, n) for dim, n in every.items()})


def _nearest(cube: xr.DataArray, points: xr.DataArray, dim: str) -> tuple[AnyArray, BoolArray]:
    """Number of the pixel that holds each point along an axis, and whether there is one."""
    own, wanted = cube[dim].values, points[dim].values
    step = (own[-1] - own[0]) / (own.size - 1) if own.size > 1 else 1.0
    place = np.rint((wanted - own[0]) / step).astype(np.int64)
    return np.clip(place, 0, own.size - 1), (place >= 0) & (place < own.size)


def _at(cube: xr.DataArray, points: xr.DataArray) -> xr.DataArray:
    """The pixels of a cube that hold the points of another, the nearest beyond its edges."""
    return cube.isel({dim: _nearest(cube, points, dim)[0] for dim in ("y", "x")})


def _inside(cube: xr.DataArray, points: xr.DataArray) -> BoolArray:
    rows, columns = (_nearest(cube, points, dim)[1] for dim in ("y", "x"))
    return np.asarray((rows[:, None] & columns[None, :]).ravel())


def _haze(cube: xr.DataArray, names: Sequence[str]) -> FloatArray:
    """The band that haze brightens most, less the ground's part in it: (time, point) [1]."""
    wanted, held = _wanted(names), _names(cube)
    part = cube.isel(band=[held.index(name) for name in wanted])
    sample = part.compute() if is_lazy(part.variable) else part
    values = np.asarray(sample.transpose("band", "time", "y", "x").values, np.float32)
    haze = values[0] if len(wanted) == 1 else values[0] - np.float32(CLEAR_LINE) * values[1]
    return np.asarray(haze.reshape(len(haze), -1))


def _wanted(names: Sequence[str]) -> list[str]:
    """The band that haze brightens most and that of the ground; the first where one is lacking."""
    first = next((name for name in HAZE_BANDS if name in names), "")
    return [first, GROUND] if first and GROUND in names else list(names[:1])


def _names(cube: xr.DataArray) -> list[str]:
    return [str(name) for name in cube["band"].values]


def _fraction(values: FloatArray) -> Float64Array:
    return np.isfinite(values).mean(axis=1) if values.size else np.zeros(len(values))


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


def _compared(
    values: Sequence[FloatArray],
    days: Sequence[Float64Array],
    is_clear: Sequence[BoolArray],
    excess: Sequence[Float64Array],
    tolerance: float,
) -> list[Float64Array]:
    """Take the other sensor's dates into account."""
    gaps = np.abs(days[0][:, None] - days[1][None, :])
    apart = np.full(gaps.shape, np.nan)
    for i, j in np.argwhere(is_clear[0][:, None] & is_clear[1][None, :] & (gaps <= NEAR)):
        both = values[0][i] - values[1][j]
        if np.isfinite(both).any():
            apart[i, j] = np.nanmedian(both)
    if np.isfinite(apart).sum() < MIN_DATES:
        return list(excess)
    offset = np.float32(np.nanmedian(apart))
    pooled = _excess(
        np.concatenate([values[0], values[1] + offset]),
        np.concatenate(days),
        np.concatenate(is_clear),
    )
    own = [
        np.where(np.isfinite(alone), alone, part)
        for alone, part in zip(excess, np.split(pooled, [days[0].size]))
    ]
    seen = np.where(gaps <= tolerance + 0.5, apart - offset, np.nan)  # days, told by hours
    beside = (_medians(seen), _medians(-seen.T))
    return [np.where(np.isnan(one), one, np.fmin(one, other)) for one, other in zip(own, beside)]


def _medians(rows: Float64Array) -> Float64Array:
    """Median of each row; NaN where it is empty."""
    found = np.full(len(rows), np.nan)
    for i in np.flatnonzero(np.isfinite(rows).any(axis=1)):
        found[i] = np.nanmedian(rows[i])
    return found


def _lower_quartile(values: FloatArray) -> FloatArray:
    """Lower quartile (pixel,) of what is finite along the first axis; some is at every pixel.

    As `numpy.nanquantile` gives it, which calls Python once a pixel.
    """
    ordered = np.sort(values, axis=0)  # NaN comes last
    place = QUARTER * (np.isfinite(values).sum(axis=0) - 1)
    low, high = np.floor(place).astype(np.intp), np.ceil(place).astype(np.intp)
    below, above = (np.take_along_axis(ordered, n[None], axis=0)[0] for n in (low, high))
    return np.asarray(below + (above - below) * (place - low).astype(values.dtype))
