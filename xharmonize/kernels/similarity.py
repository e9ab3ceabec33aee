"""The index of SSIM and UIQI from the moments of windows."""

from __future__ import annotations

import numpy as np
from numba import njit

FLAT = 1e-24
"""Variance over squared mean below which a window is flat: far below what data resolve, far above
rounding."""


@njit(nogil=True, cache=True, fastmath={"contract"}, error_model="numpy")
def _similarity(sums, n, least, constants, value):  # type: ignore[no-untyped-def]
    """Index of a row of windows, zero where too few pixels are valid; returns how many count.

    Where both images are flat and nothing stands for their structure, their means are compared.
    """
    c1, c2 = constants
    count, sum_pred, sum_ref = sums[0][:n], sums[1][:n], sums[2][:n]
    spread, joint = sums[3][:n], sums[4][:n]
    is_bare, n_counted = c2 == 0.0, 0
    for i in range(n):
        is_counted = count[i] >= least
        inverse = 1.0 / (count[i] if is_counted else 1.0)
        x, y, v = sum_pred[i] * inverse, sum_ref[i] * inverse, spread[i] * inverse
        squares = x * x + y * y
        is_flat, is_dark = (v <= FLAT * squares) & is_bare, squares + c1 == 0.0
        above = 1.0 if is_dark else 2.0 * x * y + c1
        above *= 1.0 if is_flat else 2.0 * joint[i] * inverse + c2
        below = (1.0 if is_dark else squares + c1) * (1.0 if is_flat else v + c2)
        value[i] = above / below if is_counted else 0.0
        n_counted += is_counted
    return n_counted


@njit(nogil=True, cache=True, fastmath={"reassoc"})
def _sum(values):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(values.size):
        total += values[i]
    return total


@njit(nogil=True, cache=True)
def accumulate(sums, n, code, place, least, constants, total):  # type: ignore[no-untyped-def]
    """Add the similarity of a row of windows, held as counts, sums and centred sums."""
    value = np.empty(n)
    n_counted = _similarity(sums, n, least, constants, value)
    y, x = place
    if code.size == 1:
        if code[0, 0] >= 0:
            total[code[0, 0], 0] += n_counted
            total[code[0, 0], 1] += _sum(value)
        return
    for i in range(n):
        g = code[y, x + i]
        if g >= 0 and sums[0, i] >= least:
            total[g, 0] += 1.0
            total[g, 1] += value[i]
