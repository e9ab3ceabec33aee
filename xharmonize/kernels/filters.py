"""Smoothers of unequally spaced series besides Whittaker's: local polynomials, harmonics, kernels.

All are linear: z = H y. Local polynomials return, besides z, the variance of z for a residual
variance of 1 at weight 1, and per pixel what an estimate of the residual variance needs: the number
of observations, the weighted sum of squared residuals and the trace of H over them. Harmonics and
kernels do not: they flatten what they cannot follow, and that bias is the larger part of their
error, which no variance contains.

References
----------
Savitzky and Golay 1964, doi:10.1021/ac60214a047.
Schwieder et al. 2016 (ensemble of radial basis functions), doi:10.1016/j.jag.2016.06.019.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from xharmonize.types import Float64Array, FloatArray, IntArray

CUTOFF = 3.0
"""Standard deviations beyond which a Gaussian kernel is cut off."""

LOOSE = 1 + 1e-6
"""Variance from which on a local fit is known worse than a value of weight 1, and is left out."""

SINGULAR = 1e-9
"""Pivot, as a share of its diagonal entry, below which equations count as singular."""


@njit(nogil=True, cache=True)
def _observed(
    values: FloatArray,
    weights: FloatArray,
    t: FloatArray,
    y: FloatArray,
    w: FloatArray,
    places: IntArray,
    node_of: IntArray,
    nodes: FloatArray,
) -> int:
    """Gather the observations of one pixel; return how many there are."""
    n = 0
    for i in range(values.size):
        if weights[i] > 0 and values[i] == values[i]:
            places[n] = node_of[i]
            t[n] = nodes[node_of[i]]
            y[n] = values[i]
            w[n] = weights[i]
            n += 1
    return n


@njit(nogil=True, cache=True)
def _cholesky(a: FloatArray) -> bool:
    """Factor a in place (lower triangle); False where it is singular."""
    n = a.shape[0]
    for j in range(n):
        pivot = a[j, j]
        for k in range(j):
            pivot -= a[j, k] * a[j, k]
        if not pivot > SINGULAR * abs(a[j, j]):
            return False
        a[j, j] = np.sqrt(pivot)
        for i in range(j + 1, n):
            total = a[i, j]
            for k in range(j):
                total -= a[i, k] * a[j, k]
            a[i, j] = total / a[j, j]
    return True


@njit(nogil=True, cache=True)
def _forward(lower: FloatArray, b: FloatArray, out: FloatArray) -> None:
    """Solve L out = b."""
    for i in range(b.size):
        total = b[i]
        for k in range(i):
            total -= lower[i, k] * out[k]
        out[i] = total / lower[i, i]


@njit(nogil=True, cache=True)
def _local_fit(
    t: FloatArray,
    y: FloatArray,
    w: FloatArray,
    centre: float,
    low: float,
    high: float,
    order: int,
    normal: FloatArray,
    right: FloatArray,
    work: FloatArray,
) -> tuple[float, float]:
    """Value and variance at `centre` of a polynomial fitted to the observations in a window."""
    normal[:] = 0.0
    right[:] = 0.0
    scale = (high - low) / 2
    n_inside = 0
    for i in range(t.size):
        if t[i] < low or t[i] > high:
            continue
        n_inside += 1
        u = (t[i] - centre) / scale
        power_j = w[i]
        for j in range(order + 1):
            right[j] += power_j * y[i]
            power = power_j
            for k in range(j, order + 1):
                normal[k, j] += power * u**j
                power *= u
            power_j *= u
    if n_inside <= order or not _cholesky(normal):
        return np.nan, np.nan
    # The value at the centre is e0' N⁻¹ r = (L⁻¹ e0)·(L⁻¹ r), its variance |L⁻¹ e0|².
    _forward(normal, right, work[0])
    right[:] = 0.0
    right[0] = 1.0
    _forward(normal, right, work[1])
    value, variance = 0.0, 0.0
    for j in range(order + 1):
        value += work[0, j] * work[1, j]
        variance += work[1, j] * work[1, j]
    if variance > LOOSE:
        return np.nan, np.nan
    return value, variance


@njit(nogil=True, cache=True)
def local_polynomial(
    values: FloatArray,
    weights: FloatArray,
    node_of: IntArray,
    nodes: FloatArray,
    half_window: float,
    order: int,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Fit a polynomial around each node (Savitzky-Golay, on true spacing).

    Near both ends of the nodes the window is moved inwards and the polynomial evaluated off its
    centre, as scipy's ``mode="interp"`` does.

    Parameters
    ----------
    values, weights : (time, pixel) float array
        Observed values and their weights; NaN or weight 0 where missing.
    node_of : (time,) int array
        Node of each time.
    nodes : (node,) float64 array
        Times [day], ascending.
    half_window : float
        Half the width of the window [day].
    order : int
        Of the polynomial.

    Returns
    -------
    smooth, variance : (node, pixel) float32 array
        NaN where the window holds no more than `order` observations, or where they say less than
        one value of weight 1 would (gaps at which the polynomial runs away).
    fit : (3, pixel) float64 array
        See the module.
    """
    n_times, n_pixels = values.shape
    smooth = np.full((nodes.size, n_pixels), np.nan, np.float32)
    variance = np.full((nodes.size, n_pixels), np.nan, np.float32)
    fit = np.zeros((3, n_pixels))
    t, y, w = np.empty(n_times), np.empty(n_times), np.empty(n_times)
    places = np.empty(n_times, np.int64)
    normal, right = np.empty((order + 1, order + 1)), np.empty(order + 1)
    work = np.empty((2, order + 1))
    first, last = nodes[0], nodes[-1]
    for p in range(n_pixels):
        n = _observed(values[:, p], weights[:, p], t, y, w, places, node_of, nodes)
        seen = 0
        for i in range(nodes.size):
            low = max(min(nodes[i] - half_window, last - 2 * half_window), first)
            high = min(low + 2 * half_window, last)
            value, c = _local_fit(
                t[:n], y[:n], w[:n], nodes[i], low, high, order, normal, right, work
            )
            smooth[i, p] = value
            variance[i, p] = c
            if seen < n and places[seen] == i:
                if value == value:
                    fit[0, p] += 1
                    fit[1, p] += w[seen] * (y[seen] - value) ** 2
                    fit[2, p] += w[seen] * c
                seen += 1
    return smooth, variance, fit


def harmonic_terms(nodes: FloatArray, *, count: int, period: float, trend: bool) -> Float64Array:
    """Return a constant, pairs of cosine and sine, and a trend at each node.

    Parameters
    ----------
    nodes : (node,) float array
        Times [day].
    count : int
        Number of harmonics of `period` [day].
    trend : bool
        Whether there is a linear term.

    Returns
    -------
    (node, term) float64 array
    """
    t = np.asarray(nodes, np.float64)
    columns = [np.ones_like(t)]
    if trend:
        columns.append((t - t.mean()) / period)
    for k in range(1, count + 1):
        angle = 2 * np.pi * k * t / period
        columns += [np.cos(angle), np.sin(angle)]
    return np.ascontiguousarray(np.stack(columns, axis=1))


@njit(nogil=True, cache=True)
def regression(
    values: FloatArray, weights: FloatArray, node_of: IntArray, terms: FloatArray
) -> FloatArray:
    """Fit the same terms to each pixel by weighted least squares.

    Parameters
    ----------
    values, weights : (time, pixel) float array
        Observed values and their weights; NaN or weight 0 where missing.
    node_of : (time,) int array
        Node of each time.
    terms : (node, term) float64 array
        Regressors.

    Returns
    -------
    (node, pixel) float32 array
        NaN where there are no more observations than terms, or they leave a term open.
    """
    n_times, n_pixels = values.shape
    n_nodes, n_terms = terms.shape
    smooth = np.full((n_nodes, n_pixels), np.nan, np.float32)
    normal, right = np.empty((n_terms, n_terms)), np.empty(n_terms)
    solved, work = np.empty(n_terms), np.empty(n_terms)
    for p in range(n_pixels):
        normal[:] = 0.0
        right[:] = 0.0
        n = 0
        for i in range(n_times):
            weight = weights[i, p]
            if not (weight > 0 and values[i, p] == values[i, p]):
                continue
            n += 1
            x = terms[node_of[i]]
            for j in range(n_terms):
                right[j] += weight * x[j] * values[i, p]
                for k in range(j + 1):
                    normal[j, k] += weight * x[j] * x[k]
        if n <= n_terms or not _cholesky(normal):
            continue
        _forward(normal, right, solved)
        for i in range(n_nodes):
            _forward(normal, terms[i], work)
            smooth[i, p] = np.dot(work, solved)
    return smooth


def gaussian_table(
    times: FloatArray, nodes: FloatArray, widths: FloatArray
) -> tuple[Float64Array, IntArray]:
    """Return Gaussian kernels around each node, and the times within reach of the widest.

    Parameters
    ----------
    times : (time,) float array
        Times of the observations [day], ascending.
    nodes : (node,) float array
        Centres [day].
    widths : (kernel,) float array
        Standard deviations [day].

    Returns
    -------
    table : (kernel, node, time) float64 array
        0 beyond `CUTOFF` standard deviations.
    reach : (node, 2) int array
        First time within reach of the widest kernel, and the one after the last.
    """
    u = (times[None, None, :] - nodes[None, :, None]) / np.asarray(widths)[:, None, None]
    table = np.where(np.abs(u) <= CUTOFF, np.exp(-0.5 * u**2), 0.0)
    far = CUTOFF * float(np.max(widths))
    first = np.searchsorted(times, nodes - far, side="left")
    return table, np.stack([first, np.searchsorted(times, nodes + far, side="right")], axis=1)


@njit(nogil=True, cache=True)
def radial_basis(
    values: FloatArray,
    weights: FloatArray,
    table: FloatArray,
    reach: IntArray,
    widths: FloatArray,
) -> FloatArray:
    """Average with Gaussian kernels of several widths, each counting by what it has seen.

    The mean under each kernel counts by the share of the kernel's area that observations (one day
    each) cover: where there are many, the narrow kernels decide, in gaps the wide ones.

    Parameters
    ----------
    values, weights : (time, pixel) float array
        Observed values and their weights; NaN or weight 0 where missing.
    table, reach
        From `gaussian_table`.
    widths : (kernel,) float64 array
        Standard deviations [day].

    Returns
    -------
    (node, pixel) float32 array
        NaN where no observation lies within three standard deviations of the widest kernel.
    """
    n_times, n_pixels = values.shape
    n_nodes = reach.shape[0]
    smooth = np.full((n_nodes, n_pixels), np.nan, np.float32)
    y, w, share = np.empty(n_times), np.empty(n_times), np.empty(n_times)
    for p in range(n_pixels):
        for i in range(n_times):
            is_known = weights[i, p] > 0 and values[i, p] == values[i, p]
            w[i] = weights[i, p] if is_known else 0.0
            y[i] = values[i, p] if is_known else 0.0
        for i in range(n_nodes):
            first, stop = reach[i]
            total = _kernel_shares(w, table[:, i], first, stop, widths, share)
            if not total > 0:
                continue
            value = 0.0
            for k in range(first, stop):
                value += share[k] * y[k]
            smooth[i, p] = value / total
    return smooth


@njit(nogil=True, cache=True)
def _kernel_shares(
    w: FloatArray,
    table: FloatArray,
    first: int,
    stop: int,
    widths: FloatArray,
    share: FloatArray,
) -> float:
    """What each observation adds to the value of a node; return their sum."""
    share[first:stop] = 0.0
    total = 0.0
    for j in range(widths.size):
        covered, summed = 0.0, 0.0
        for k in range(first, stop):
            covered += table[j, k] if w[k] > 0 else 0.0
            summed += table[j, k] * w[k]
        if summed <= 0:
            continue
        area = covered / widths[j]
        for k in range(first, stop):
            share[k] += area * table[j, k] * w[k] / summed
        total += area
    return total
