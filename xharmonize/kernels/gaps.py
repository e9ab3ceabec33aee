"""Gaps of series that are too long to be filled."""

from __future__ import annotations

import numpy as np
from numba import njit

from xharmonize.types import BoolArray, FloatArray, IntArray

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
        Looks across which nothing is interpolated (snow); its first axis may be of length 0.
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
            before[k] = edge
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
