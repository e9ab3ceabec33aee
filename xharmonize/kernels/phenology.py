"""Seasons of a smooth series: peak, start and end, by threshold or by derivative.

References
----------
Jönsson and Eklundh 2004 (TIMESAT), doi:10.1016/j.cageo.2004.05.006.
White et al. 2009 (methods compared), doi:10.1111/j.1365-2486.2009.01910.x.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from xharmonize.types import FloatArray

START, PEAK, END, BASE, TOP, AMPLITUDE, CUT = range(7)
"""Positions of the results along their first axis."""

CUT_START, CUT_END = 1, 2
"""Bits of `CUT`: where a gap, or the end of the series, hides that side of the season."""

RISE = 0.25
"""Rise back from a trough, as a share of its depth, beyond which lies another season."""

FLAT = 0.05
"""Height over the lowest value, as a share of the depth, that counts as the trough itself."""

SHOWN = 28.0
"""Time [day] for which a trough must be seen before a gap or the end of the series."""


@njit(nogil=True, cache=True)
def seasons(
    values: FloatArray,
    days: FloatArray,
    windows: FloatArray,
    threshold: float,
    by_derivative: bool,
    reach: float,
    min_amplitude: float,
) -> FloatArray:
    """Find one season per window and pixel: that of the highest peak in it.

    Parameters
    ----------
    values : (pixel, time) float array
        Smooth series; NaN where not known, across which nothing is concluded.
    days : (time,) float64 array
        Times [day], strictly ascending.
    windows : (season, 2) float64 array
        First day of the window of each season, and the day after its last.
    threshold : float
        Share of the amplitude of each side at which a season starts and ends.
    by_derivative : bool
        Start and end where the series rises and falls fastest, instead.
    reach : float
        Longest time [day] from the peak to start and end.
    min_amplitude : float
        Least rise over the base, in the unit of `values`.

    Returns
    -------
    (7, season, pixel) float64 array
        Start, peak and end [day], base (mean of the troughs before and after, or the one that is
        known), value at the peak, amplitude over the base; NaN where not known. Last what is cut
        off: 0, or the sum of `CUT_START` and `CUT_END`.
    """
    n_pixels = values.shape[0]
    result = np.full((7, windows.shape[0], n_pixels), np.nan)
    result[CUT] = 0
    for p in range(n_pixels):
        v = values[p]
        for s in range(windows.shape[0]):
            top, cut = _peak(v, days, windows[s, 0], windows[s, 1], min_amplitude)
            result[CUT, s, p] = cut
            if top >= 0:
                _describe(
                    v, days, top, threshold, by_derivative, reach, min_amplitude, result[:, s, p]
                )
    return result


@njit(nogil=True, cache=True)
def _peak(
    v: FloatArray, days: FloatArray, first: float, after: float, min_amplitude: float
) -> tuple[int, int]:
    """Highest local maximum in a window with both neighbours known; -1 without one.

    The second says on which side what is higher yet is cut off: then there is no peak.
    """
    top, cut = -1, 0
    low, high, edge = np.inf, -np.inf, -np.inf
    for i in range(v.size):
        if days[i] < first or days[i] >= after or v[i] != v[i]:
            continue
        low, high = min(low, v[i]), max(high, v[i])
        has_before = i > 0 and v[i - 1] == v[i - 1]
        has_after = i + 1 < v.size and v[i + 1] == v[i + 1]
        if has_before and has_after:
            if v[i] > v[i - 1] and v[i] >= v[i + 1] and (top < 0 or v[i] > v[top]):
                top = i
        elif v[i] > edge and has_before != has_after and v[i] > v[i - 1 if has_before else i + 1]:
            edge, cut = v[i], CUT_END if has_before else CUT_START
    is_hidden = edge > v[top] if top >= 0 else edge == high
    if is_hidden and edge - low >= min_amplitude:
        return -1, cut
    return top, 0


@njit(nogil=True, cache=True)
def _trough(
    v: FloatArray, days: FloatArray, top: int, step: int, reach: float, min_amplitude: float
) -> tuple[int, bool]:
    """Lowest place on one side of a peak, not beyond a gap or another season.

    The second says whether a gap, or the end of the series, comes within `SHOWN` days after it,
    so that the series may well have been falling on.
    """
    low = top
    i = top + step
    while 0 <= i < v.size and v[i] == v[i]:
        depth = v[top] - v[low]
        if abs(days[i] - days[top]) > reach:
            return low, False
        if v[i] < v[low]:
            low = i
        elif depth >= min_amplitude and v[i] > v[low] + RISE * depth:
            return low, False
        i += step
    near = low
    while near != top and v[near - step] <= v[low] + FLAT * (v[top] - v[low]):
        near -= step
    return low, abs(days[i - step] - days[near]) < SHOWN


@njit(nogil=True, cache=True)
def _crossing(
    v: FloatArray, days: FloatArray, top: int, low: int, step: int, level: float
) -> float:
    """Time nearest to the peak at which the level is crossed, between neighbouring dates."""
    i = top
    while i != low:
        if v[i + step] < level:
            share = (v[i] - level) / (v[i] - v[i + step])
            return float(days[i] + share * (days[i + step] - days[i]))
        i += step
    return np.nan


@njit(nogil=True, cache=True)
def _steepest(v: FloatArray, days: FloatArray, top: int, low: int, step: int) -> float:
    """Time between trough and peak of the largest slope, by central differences."""
    best, found = 0.0, np.nan
    i = top + step
    while i != low and i != low + step:
        slope = abs(v[i + 1] - v[i - 1]) / (days[i + 1] - days[i - 1])
        is_rise = (v[i - step] - v[i + step]) > 0
        if is_rise and slope > best:
            best, found = slope, days[i]
        i += step
    return found


@njit(nogil=True, cache=True)
def _describe(
    v: FloatArray,
    days: FloatArray,
    top: int,
    threshold: float,
    by_derivative: bool,
    reach: float,
    min_amplitude: float,
    out: FloatArray,
) -> None:
    """Fill in what is known of the season of one peak."""
    before, is_cut_before = _trough(v, days, top, -1, reach, min_amplitude)
    after, is_cut_after = _trough(v, days, top, 1, reach, min_amplitude)
    rise, fall = v[top] - v[before], v[top] - v[after]
    if is_cut_before and is_cut_after:
        amplitude = max(rise, fall)  # at least
    elif is_cut_before or is_cut_after:
        amplitude = fall if is_cut_before else rise
    else:
        amplitude = (rise + fall) / 2
    if not amplitude >= min_amplitude:
        return
    out[PEAK], out[TOP] = days[top], v[top]
    out[CUT] = CUT_START * is_cut_before + CUT_END * is_cut_after
    if not (is_cut_before and is_cut_after):
        out[AMPLITUDE], out[BASE] = amplitude, v[top] - amplitude
    for step in (-1, 1):
        low, depth, is_cut = (
            (before, rise, is_cut_before) if step < 0 else (after, fall, is_cut_after)
        )
        if is_cut:
            continue
        if by_derivative:
            when = _steepest(v, days, top, low, step)
        else:
            when = _crossing(v, days, top, low, step, v[low] + threshold * depth)
        out[START if step < 0 else END] = when
