"""Values compared with those of neighbouring dates, on true day spacing."""

from __future__ import annotations

import numpy as np
from numba import njit

from xharmonize.types import BoolArray, FloatArray

SIGMA_OF_MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


@njit(nogil=True, cache=True)
def between(values: FloatArray, days: FloatArray, at: FloatArray, max_gap: float) -> FloatArray:
    """Interpolate between the valid values next to given days.

    Parameters
    ----------
    values : (time, pixel) float array
        NaN where missing.
    days : (time,) float64 array
        Times [day], ascending.
    at : (wanted,) float64 array
        Times [day], ascending.
    max_gap : float
        Longest time [day] between the two valid values around a wanted time.

    Returns
    -------
    (wanted, pixel) float32 array
        The value itself on its own day (the last of several); NaN outside valid values, and in
        longer gaps.
    """
    n_times, n_pixels = values.shape
    result = np.full((at.size, n_pixels), np.nan, np.float32)
    for p in range(n_pixels):
        last, k = -1, 0
        for i in range(n_times):
            value = values[i, p]
            if not np.isfinite(value):
                continue
            while k < at.size and at[k] <= days[i]:
                if at[k] == days[i]:
                    result[k, p] = value
                elif last >= 0 and days[i] - days[last] <= max_gap:
                    share = (at[k] - days[last]) / (days[i] - days[last])
                    result[k, p] = values[last, p] + share * (value - values[last, p])
                k += 1
            if k > 0 and at[k - 1] == days[i]:
                result[k - 1, p] = value
            last = i
    return result


@njit(nogil=True, cache=True)
def spikes(
    values: FloatArray,
    days: FloatArray,
    threshold: float,
    min_departure: float,
    max_gap: float,
    direction: int,
    n_rounds: int,
) -> BoolArray:
    """Tell which values depart from the line between their valid neighbours in time.

    A value is a spike where its departure exceeds both `min_departure` and `threshold` robust
    standard deviations of the pixel's departures, and no neighbour departs farther. Spikes are
    taken out, departures found again, and so on; the spread is that of the first round.

    Parameters
    ----------
    values : (time, pixel) float array
        NaN where missing.
    days : (time,) float64 array
        Times [day], strictly ascending.
    threshold : float
        In robust standard deviations (1.4826 × median absolute deviation).
    min_departure : float
        In the unit of `values`.
    max_gap : float
        Longest time [day] between the two neighbours.
    direction : int
        -1: only values below the line, 1: only above, 0: both.
    n_rounds : int
        Most rounds.

    Returns
    -------
    (time, pixel) bool array
        Never True for the first and the last valid value, which have one neighbour.
    """
    n_times, n_pixels = values.shape
    result = np.zeros((n_times, n_pixels), np.bool_)
    t, v = np.empty(n_times), np.empty(n_times)
    place, away = np.empty(n_times, np.int64), np.empty(n_times)
    for p in range(n_pixels):
        n = 0
        for i in range(n_times):
            if np.isfinite(values[i, p]):
                t[n], v[n], place[n] = days[i], values[i, p], i
                n += 1
        limit = -1.0
        for _ in range(n_rounds):
            if n < 3:
                break
            _departures(t[:n], v[:n], max_gap, away[:n])
            if limit < 0:
                known = np.abs(away[:n][np.isfinite(away[:n])])
                if known.size == 0:
                    break
                limit = max(min_departure, threshold * SIGMA_OF_MAD * np.median(known))
            kept = 0
            for i in range(n):
                is_spike = abs(away[i]) > limit and (direction == 0 or away[i] * direction > 0)
                for k in (i - 1, i + 1):
                    if 0 <= k < n and abs(away[k]) > abs(away[i]):
                        is_spike = False
                if is_spike:
                    result[place[i], p] = True
                else:
                    t[kept], v[kept], place[kept] = t[i], v[i], place[i]
                    away[kept] = away[i]
                    kept += 1
            if kept == n:
                break
            n = kept
    return result


@njit(nogil=True, cache=True)
def _departures(t: FloatArray, v: FloatArray, max_gap: float, out: FloatArray) -> None:
    """Each value minus the line between its neighbours; NaN at the ends and in long gaps."""
    out[:] = np.nan
    for i in range(1, t.size - 1):
        if t[i + 1] - t[i - 1] <= max_gap:
            share = (t[i] - t[i - 1]) / (t[i + 1] - t[i - 1])
            out[i] = v[i] - (v[i - 1] + share * (v[i + 1] - v[i - 1]))
