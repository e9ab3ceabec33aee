"""Observations of one place along time: chosen, averaged, compared with neighbours, counted.

Observations lie along the first axis, those of higher priority first; bands (where there are any)
along the second. What makes one observation of several keeps the first axis with length 1.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from xharmonize.types import AnyArray, BoolArray, FloatArray, IntArray

NONE = -1
"""Index of an observation where there is none to choose."""


def median_valid(valid: BoolArray, values: AnyArray) -> AnyArray:
    """Median over the valid observations, in the dtype of `values`; NaN where none is.

    Parameters
    ----------
    valid : (observation, ...) bool array
    values : (observation, ...) float array

    Returns
    -------
    (1, ...) float array
        The mean of the middle two for an even number.
    """
    ordered = np.sort(np.where(valid, values, np.nan), axis=0)  # NaN comes last
    n_valid = valid.sum(axis=0, keepdims=True)
    low = np.take_along_axis(ordered, np.maximum((n_valid - 1) // 2, 0), axis=0)
    high = np.take_along_axis(ordered, np.minimum(n_valid // 2, len(values) - 1), axis=0)
    middle = (low.astype(np.float64) + high) / 2
    return np.where(n_valid > 0, middle, np.nan).astype(values.dtype)


def largest(score: FloatArray) -> IntArray:
    """Return the observation with the largest score; the first of equals, `NONE` if none is finite.

    Parameters
    ----------
    score : (observation, ...) float array

    Returns
    -------
    (1, ...) int16 array
    """
    known = np.where(np.isfinite(score), score, -np.inf)
    best = known.argmax(axis=0)[None]
    found: IntArray = np.where(np.isneginf(known.max(axis=0)[None]), NONE, best).astype(np.int16)
    return found


@njit(nogil=True, cache=True)
def _medoid(values: FloatArray) -> IntArray:
    n_observations, n_bands, n_pixels = values.shape
    chosen = np.full(n_pixels, NONE, np.int16)
    is_whole = np.empty(n_observations, np.bool_)
    for p in range(n_pixels):
        for i in range(n_observations):
            is_whole[i] = True
            for b in range(n_bands):
                is_whole[i] = is_whole[i] and np.isfinite(values[i, b, p])
        best = np.inf
        for i in range(n_observations):
            if not is_whole[i]:
                continue
            total = 0.0
            for j in range(n_observations):
                if is_whole[j]:
                    square = 0.0
                    for b in range(n_bands):
                        square += (np.float64(values[i, b, p]) - values[j, b, p]) ** 2
                    total += np.sqrt(square)
            if total < best:
                best = total
                chosen[p] = i
    return chosen


def medoid(values: FloatArray) -> IntArray:
    """Return the observation nearest to all others: least sum of Euclidean distances in band space.

    Parameters
    ----------
    values : (observation, band, ...) float array
        Observations with a missing band are left out.

    Returns
    -------
    (1, ...) int16 array
        The first of equals; `NONE` where no observation is whole.

    References
    ----------
    Flood 2013, "Seasonal composite Landsat TM/ETM+ images using the medoid",
    doi:10.3390/rs5126481.
    """
    flat = np.ascontiguousarray(values.reshape(*values.shape[:2], -1))
    found: IntArray = _medoid(flat).reshape(1, *values.shape[2:])
    return found


def take(layer: AnyArray, chosen: IntArray) -> AnyArray:
    """Take each pixel from the observation chosen for it; NaN or 0 where there is none.

    Parameters
    ----------
    layer : (observation, ...) array
        May have a band axis after the observations, which `chosen` does not have.
    chosen : (1, ...) int array

    Returns
    -------
    (1, ...) array
        In the dtype of `layer`.
    """
    index = chosen if layer.ndim == chosen.ndim else chosen[:, None]
    taken = np.take_along_axis(layer, np.maximum(index, 0).astype(np.intp), axis=0)
    fill = np.nan if np.issubdtype(layer.dtype, np.floating) else 0
    result: AnyArray = np.where(index == NONE, layer.dtype.type(fill), taken)
    return result


def first_valid(valid: BoolArray, values: AnyArray) -> AnyArray:
    """Take each value from the first valid observation; from the first of all where none is.

    Parameters
    ----------
    valid : (observation, ...) bool array
        Whether the observation gives the value.
    values : (observation, ...) array
        Anything.

    Returns
    -------
    (1, ...) array
        In the dtype of `values`.
    """
    taken: AnyArray = np.take_along_axis(values, valid.argmax(axis=0)[None], axis=0)
    return taken


def mean_valid(valid: BoolArray, values: AnyArray) -> AnyArray:
    """Return the mean over the valid observations, in the dtype of `values`; NaN where none is."""
    total = np.where(valid, values, 0).sum(axis=0, keepdims=True, dtype=np.float64)
    return _per_observation(total, valid).astype(values.dtype)


def error_of_mean(valid: BoolArray, error: AnyArray) -> AnyArray:
    """Return the standard deviation of the mean of valid observations with independent errors.

    NaN where no observation is valid, or where the error of a valid one is not known.
    """
    squares = np.where(valid, error.astype(np.float64) ** 2, 0).sum(axis=0, keepdims=True)
    return _per_observation(np.sqrt(squares), valid).astype(error.dtype)


def flags_of_valid(valid: BoolArray, flags: AnyArray) -> AnyArray:
    """OR bit flags over the valid observations; over all of them where none is."""
    counted = valid | ~valid.any(axis=0, keepdims=True)
    chosen = np.where(counted, flags, flags.dtype.type(0))
    joined: AnyArray = np.bitwise_or.reduce(chosen, axis=0, keepdims=True)
    return joined


def least_uncertain(valid: BoolArray, values: AnyArray, error: AnyArray) -> AnyArray:
    """Take each value from the valid observation with the lowest uncertainty; the first of equals.

    Parameters
    ----------
    valid : (observation, ...) bool array
        Whether the observation gives the value.
    values : (observation, ...) array
        Anything.
    error : (observation, ...) float array
        Standard deviation of each value; where it is not known, an observation comes last.

    Returns
    -------
    (1, ...) array
        In the dtype of `values`; from the first observation where none is valid.
    """
    unknown = np.finfo(np.float64).max
    known = np.where(np.isfinite(error), error.astype(np.float64), unknown)
    best = np.where(valid, known, np.inf).argmin(axis=0)[None]
    taken: AnyArray = np.take_along_axis(values, best, axis=0)
    return taken


def _per_observation(total: AnyArray, valid: BoolArray) -> AnyArray:
    n_valid = valid.sum(axis=0, keepdims=True)
    return np.where(n_valid > 0, total / np.maximum(n_valid, 1), np.nan)


@njit(nogil=True, cache=True)
def gaps(seen: BoolArray, days: FloatArray, first: float, last: float) -> FloatArray:
    """Count days with a valid observation, and measure the times between them.

    Parameters
    ----------
    seen : (day, pixel) bool array
    days : (day,) float64 array
        Strictly ascending.
    first, last : float
        Ends of the time considered [day].

    Returns
    -------
    (3, pixel) float32 array
        Number of valid days; mean time between one and the next, NaN below two; longest time
        without one, `first` and `last` included.
    """
    n_days, n_pixels = seen.shape
    result = np.zeros((3, n_pixels), np.float32)
    for p in range(n_pixels):
        n, begin, before, longest = 0, 0.0, first, 0.0
        for i in range(n_days):
            if seen[i, p]:
                if n == 0:
                    begin = days[i]
                n += 1
                longest = max(longest, days[i] - before)
                before = days[i]
        result[0, p] = n
        result[1, p] = (before - begin) / (n - 1) if n > 1 else np.nan
        result[2, p] = max(longest, last - before)
    return result


SPAN = 256
"""Pixels looked at side by side where there is little arithmetic."""


@njit(nogil=True, cache=True)
def clear_gaps(
    smooth: FloatArray,
    valid: BoolArray,
    barrier: BoolArray,
    node_of: IntArray,
    nodes: FloatArray,
    max_gap: float,
    min_observed: int,
) -> None:
    """Set to NaN, in place, what lies in long gaps or outside a pixel's observations.

    Parameters
    ----------
    smooth : (node, pixel) float array
        Changed.
    valid : (time, pixel) bool array
        Whether there is an observation.
    barrier : (time, pixel) bool array
        Observations across which nothing is interpolated (snow); its first axis may be of length 0.
    node_of : (time,) int array
        Node of each time, ascending.
    nodes : (node,) float64 array
        Times [day].
    max_gap : float
        Longest time [day] between two observations that is bridged.
    min_observed : int
        Number of observations below which a pixel is NaN throughout.
    """
    n, n_pixels = smooth.shape
    n_times, has_barrier = valid.shape[0], barrier.shape[0] > 0
    before = np.empty((n, SPAN), np.float32)  # day of the observation before each node
    edge, count = np.empty(SPAN, np.float32), np.empty(SPAN, np.int32)
    limit = np.float32(max_gap)
    start_of = nodes[0]  # days from here on are exact in float32
    for start in range(0, n_pixels, SPAN):
        size = min(SPAN, n_pixels - start)
        edge[:], count[:] = -np.inf, 0
        i = 0
        for k in range(n):
            if i < n_times and node_of[i] == k:
                day = np.float32(nodes[k] - start_of)
                seen = valid[i, start : start + size]
                if has_barrier:
                    blocked = barrier[i, start : start + size]
                    for p in range(size):
                        edge[p] = np.float32(-np.inf) if blocked[p] else edge[p]
                for p in range(size):
                    edge[p] = day if seen[p] else edge[p]
                    count[p] += seen[p]
                i += 1
            for p in range(size):
                before[k, p] = edge[p]
        edge[:] = np.inf
        i = n_times - 1
        for k in range(n - 1, -1, -1):
            if i >= 0 and node_of[i] == k:
                day = np.float32(nodes[k] - start_of)
                seen = valid[i, start : start + size]
                if has_barrier:
                    blocked = barrier[i, start : start + size]
                    for p in range(size):
                        edge[p] = np.float32(np.inf) if blocked[p] else edge[p]
                for p in range(size):
                    edge[p] = day if seen[p] else edge[p]
                i -= 1
            row, first = smooth[k, start : start + size], before[k]
            for p in range(size):
                is_near = (edge[p] - first[p] <= limit) & (count[p] >= min_observed)
                row[p] = row[p] if is_near else np.float32(np.nan)


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
