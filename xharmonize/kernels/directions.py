"""Directions, given as unit vectors at nodes, interpolated to pixels."""

from __future__ import annotations

from math import atan2, floor, hypot, nan, pi

import numpy as np
from numba import njit

from xharmonize.types import Float64Array, FloatArray

_EDGE = 1e-6  # [node] by which a position may lie off a node, or beyond the last one


@njit(nogil=True, cache=True)
def interpolate_directions(
    vectors: FloatArray, row: Float64Array, column: Float64Array, margin: float
) -> FloatArray:
    """Interpolate directions bilinearly, each pixel by its own place only.

    Parameters
    ----------
    vectors : (layer, 3, node_row, node_column) float array
        Unit vectors (east, north, up); NaN where a node has no direction. The others around a
        pixel are then weighted up, so that a field ends half a node beyond its last one, and not
        half a node before it.
    row, column : (y, x) float64 array
        Positions of the pixels [node], from the first node; NaN lies outside.
    margin : float
        Distance [node] beyond the outermost nodes up to which their directions are held; half a
        node where nodes are pixels.

    Returns
    -------
    (2, layer, y, x) float32 array
        Zenith, and azimuth clockwise from north in [0, 360) [degree]; NaN outside the nodes.
    """
    n_layers, n_rows, n_columns = vectors.shape[0], vectors.shape[2], vectors.shape[3]
    n_y, n_x = row.shape
    result = np.empty((2, n_layers, n_y, n_x), np.float32)
    beyond = margin + _EDGE
    for j in range(n_y):
        for i in range(n_x):
            r, c = row[j, i], column[j, i]
            inside = -beyond <= r <= n_rows - 1 + beyond
            if not (inside and -beyond <= c <= n_columns - 1 + beyond):
                result[:, :, j, i] = nan
                continue
            top, down = _cell(r, n_rows)
            left, right = _cell(c, n_columns)
            for k in range(n_layers):
                east, north, up = 0.0, 0.0, 0.0
                for a in range(2):
                    for b in range(2):
                        weight = (down if a else 1 - down) * (right if b else 1 - right)
                        if weight == 0:
                            continue
                        y, x = top + a, left + b
                        if vectors[k, 2, y, x] == vectors[k, 2, y, x]:
                            east += weight * vectors[k, 0, y, x]
                            north += weight * vectors[k, 1, y, x]
                            up += weight * vectors[k, 2, y, x]
                across = hypot(east, north)
                if across == 0 and up == 0:
                    result[:, k, j, i] = nan
                    continue
                azimuth = np.float32(atan2(east, north) * 180 / pi % 360)
                result[0, k, j, i] = atan2(across, up) * 180 / pi
                result[1, k, j, i] = 0 if azimuth == 360 else azimuth  # rounded up to it
    return result


@njit(nogil=True, cache=True)
def _cell(position: float, size: int) -> tuple[int, float]:
    """First of the two nodes around a position, and the weight of the second."""
    position = min(max(position, 0.0), size - 1.0)
    nearest = floor(position + 0.5)
    if abs(position - nearest) <= _EDGE:
        position = nearest  # on a node, whose neighbours may be missing
    first = min(int(position), max(size - 2, 0))
    return first, position - first
