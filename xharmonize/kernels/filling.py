"""Values of a date from the valid ones before and after it, per pixel, and how sure they are."""

from __future__ import annotations

import numpy as np
from numba import njit

from xharmonize.types import BoolArray, Float64Array, FloatArray, IntArray


@njit(nogil=True, cache=True)
def neighbours(
    valid: BoolArray,
    days: IntArray,
    max_gap: float,
    takes_before: bool,
    takes_after: bool,
    is_between: bool,
) -> IntArray:
    """Find the valid observations before and after each date of each pixel, itself excluded.

    Parameters
    ----------
    valid : (time, pixel) bool array
        In order of time.
    days : (time,) int64 array
        Day numbers, ascending; several dates of one day are different observations.
    max_gap : float
        Longest time to an observation [day].
    takes_before, takes_after : bool
        Which sides are looked at.
    is_between : bool
        Whether both sides count; else the nearer one (the earlier one of two equally near).

    Returns
    -------
    (2, time, pixel) int64 array
        Step before and after; -1 where there is none.
    """
    n_times, n_pixels = valid.shape
    found = np.full((2, n_times, n_pixels), -1, np.int64)
    last = np.full(n_pixels, -1, np.int64)
    for t in range(n_times):
        for p in range(n_pixels):
            i = last[p]
            if takes_before and i >= 0 and days[t] - days[i] <= max_gap:
                found[0, t, p] = i
            if valid[t, p]:
                last[p] = t
    last[:] = -1
    for t in range(n_times - 1, -1, -1):
        for p in range(n_pixels):
            i, j = found[0, t, p], last[p]
            if takes_after and j >= 0 and days[j] - days[t] <= max_gap:
                found[1, t, p] = j
                if i >= 0 and not is_between:
                    is_earlier = days[t] - days[i] <= days[j] - days[t]
                    found[1 if is_earlier else 0, t, p] = -1
            if valid[t, p]:
                last[p] = t
    return found


@njit(nogil=True, cache=True)
def interpolate(
    before: FloatArray,
    after: FloatArray,
    steps: IntArray,
    days: IntArray,
    spread: Float64Array,
) -> FloatArray:
    """Join the estimates from both sides, linearly in time, with their standard deviation.

    The variance follows from the semivariogram in time (Journel and Huijbregts 1978, Mining
    Geostatistics, eq. II.34): of an estimate with weights that add up to one it is twice the
    weighted mean of the semivariogram from the date to the observations, less that between them.

    Parameters
    ----------
    before, after : (time, pixel) float32 array
        Estimate of each date from the observation before and after it.
    steps : (2, time, pixel) int64 array
        Steps of these observations, from `neighbours`; -1 where there is none.
    days : (time,) int64 array
        Day numbers, ascending.
    spread : (lag,) float64 array
        Semivariogram by days from 0 on; the last one stands for all longer times.

    Returns
    -------
    (2, time, pixel) float32 array
        Estimate and standard deviation; NaN where there is no observation.
    """
    result = np.full((2, *before.shape), np.float32(np.nan), np.float32)
    for t in range(before.shape[0]):
        for p in range(before.shape[1]):
            i, j = steps[0, t, p], steps[1, t, p]
            if i < 0 and j < 0:
                continue
            a, b = days[t] - days[i], days[j] - days[t]
            share = 1.0 if j < 0 else 0.0
            if i >= 0 and j >= 0:
                share = b / (a + b) if a + b > 0 else 0.5
            value = variance = 0.0
            if i >= 0:
                value += share * before[t, p]
                variance += share * _at(spread, a)
            if j >= 0:
                value += (1.0 - share) * after[t, p]
                variance += (1.0 - share) * _at(spread, b)
            if i >= 0 and j >= 0:
                variance -= share * (1.0 - share) * _at(spread, a + b)
            result[0, t, p] = value
            result[1, t, p] = 0.0 if variance < 0 else np.sqrt(2.0 * variance)  # NaN stays
    return result


@njit(nogil=True, cache=True)
def _at(spread, days):  # type: ignore[no-untyped-def]
    return spread[min(days, spread.size - 1)]
