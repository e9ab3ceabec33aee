"""Values compared with those of neighbouring dates, on true day spacing."""

from __future__ import annotations

import numpy as np
from numba import njit

from xharmonize.types import BoolArray, FloatArray

SIGMA_OF_MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""

BEYOND = 0.5
"""How far a spike lies beyond both its neighbours, at least, in limits and in its departure: a
shoulder of a step lies beyond one, the first look at cut grass hardly beyond the next."""

PAIR_SPAN = 16.0
"""Longest time [day] between the neighbours of two spikes in a row: cut grass grows back later."""

PAIR_AGREES = 0.5
"""How far apart the neighbours of two spikes in a row are at most, in limits."""


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
    """Tell which values depart from the line between their valid neighbours in time, and return.

    The limit is the larger of `min_departure` and `threshold` robust standard deviations of the
    pixel's departures. A value is a spike where its departure exceeds it, it lies beyond both
    neighbours by `BEYOND` of the limit and of its departure, and no neighbour is one that departs
    farther. Two values in a row are spikes where both lie beyond both of their neighbours by the
    limit, on the same side, and these neighbours agree and are near in time (`PAIR_AGREES`,
    `PAIR_SPAN`). Spikes are taken out, departures found again, and so on; the limit is that of
    the first round.

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
    is_spike = np.empty(n_times, np.bool_)
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
            _single_spikes(v[:n], away[:n], limit, direction, is_spike[:n])
            _double_spikes(t[:n], v[:n], limit, min(max_gap, PAIR_SPAN), direction, is_spike[:n])
            kept = 0
            for i in range(n):
                if is_spike[i]:
                    result[place[i], p] = True
                else:
                    t[kept], v[kept], place[kept] = t[i], v[i], place[i]
                    kept += 1
            if kept == n:
                break
            n = kept
    return result


@njit(nogil=True, cache=True)
def _single_spikes(
    v: FloatArray, away: FloatArray, limit: float, direction: int, out: BoolArray
) -> None:
    """Single values that depart and return; of neighbours the one that departs farthest."""
    for i in range(v.size):
        side = 1.0 if away[i] > 0 else -1.0
        out[i] = (
            abs(away[i]) > limit
            and direction * side >= 0
            and _beyond(v[i], v[i - 1], v[i + 1], side) >= BEYOND * max(limit, abs(away[i]))
        )
    last_is_spike = False
    for i in range(v.size):
        is_spike = out[i]
        if is_spike and last_is_spike and abs(away[i - 1]) > abs(away[i]):
            out[i] = False
        if is_spike and i + 1 < v.size and out[i + 1] and abs(away[i + 1]) > abs(away[i]):
            out[i] = False
        last_is_spike = is_spike


@njit(nogil=True, cache=True)
def _double_spikes(
    t: FloatArray, v: FloatArray, limit: float, span: float, direction: int, out: BoolArray
) -> None:
    """Two values in a row that depart and return, between neighbours that agree; sets them."""
    for i in range(1, v.size - 2):
        before, after = v[i - 1], v[i + 2]
        if t[i + 2] - t[i - 1] > span or abs(after - before) > PAIR_AGREES * limit:
            continue
        side = 1.0 if v[i] > before else -1.0
        if direction * side < 0 or out[i - 1] or out[i + 2]:
            continue
        if (
            _beyond(v[i], before, after, side) > limit
            and _beyond(v[i + 1], before, after, side) > limit
        ):
            out[i] = out[i + 1] = True


@njit(nogil=True, cache=True)
def _beyond(value: float, before: float, after: float, side: float) -> float:
    """How far a value lies beyond the nearer of two others, to a side (1 above, -1 below)."""
    return min((value - before) * side, (value - after) * side)


@njit(nogil=True, cache=True)
def _departures(t: FloatArray, v: FloatArray, max_gap: float, out: FloatArray) -> None:
    """Each value minus the line between its neighbours; NaN at the ends and in long gaps."""
    out[:] = np.nan
    for i in range(1, t.size - 1):
        if t[i + 1] - t[i - 1] <= max_gap:
            share = (t[i] - t[i - 1]) / (t[i + 1] - t[i - 1])
            out[i] = v[i] - (v[i - 1] + share * (v[i + 1] - v[i - 1]))
