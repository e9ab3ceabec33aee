"""Whittaker smoothing of unequally spaced series with missing values, many pixels at a time.

Minimised over the smooth values z at the nodes t, for every pixel on its own::

    sum_i w_i (y_i - z_i)² + λ (sum_i m_i D_i² + sum_i h_i S_i² / τ²)

D_i is the second derivative by differences over the true spacing of nodes i-1, i, i+1, and m_i the
time it stands for; S_i is the slope between two nodes, and h_i their distance. So the sums approach
the integrals of the squared second and first derivative: λ [day³] means the same whatever the
nodes, and nodes without observations (w = 0) are filled in consistently. τ [day] is the relaxation
time: the curve is a smoothing spline in tension, and the mean of a process whose slope forgets
itself in about τ days. Over longer times, in gaps above all, it comes close to straight lines.
With τ = ∞, on nodes one day apart, this is Whittaker's and Eilers' smoother of order 2; on nodes
h days apart their λ is ours / h³.

The matrix is pentadiagonal and positive definite once two nodes are observed. Arrays have time
along the first axis and pixels along the second, and loops run over pixels innermost: the
recurrences over time are sequential, pixels are not.

References
----------
Eilers 2003, "A perfect smoother", doi:10.1021/ac034173t.
Schweikert 1966 (splines in tension), doi:10.1002/sapm1966451312.
Frasso and Eilers 2015, "L- and V-curves for optimal smoothing", doi:10.1177/1471082X14549288.
Craven and Wahba 1979 (generalised cross-validation), doi:10.1007/BF01404567.
Kim and Gu 2004 (its inflated form), doi:10.1046/j.1369-7412.2003.05316.x.
Wood 2011 (restricted likelihood beside it), doi:10.1111/j.1467-9868.2010.00749.x.
Wahba 1983 (Bayesian intervals), doi:10.1111/j.2517-6161.1983.tb01239.x.
Hutchinson and de Hoog 1985 (the diagonal of the inverse), doi:10.1007/BF01389878.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from xharmonize.types import FloatArray, IntArray

TINY = 1e-300
"""Added to pivots: pixels without any observation divide by this, and their result is masked."""

WIDTH = 32
"""Pixels solved side by side: their scratch stays in the second-level cache."""


LOGGED = 4
"""Pivots multiplied before a logarithm is taken: logarithms are slow, products may overflow."""


def penalty_bands(
    nodes: FloatArray,
    relaxation: float = np.inf,
    *,
    observed: tuple[float, float] = (-np.inf, np.inf),
) -> FloatArray:
    """Return the three diagonals of the penalty matrix.

    Parameters
    ----------
    nodes : (node,) float array
        Times [day], strictly ascending, at least 3.
    relaxation : float
        τ [day], above 0; inf leaves the first derivative out.
    observed : (float, float)
        First and last day that is observed [day]. Beyond them the slope costs nothing, so that
        nodes there do not pull at the curve within.

    Returns
    -------
    (3, node) float64 array
        Main, first and second upper diagonal [day⁻³]; the ends of the last two are 0.
    """
    t = np.asarray(nodes, np.float64)
    h = np.diff(t)
    left, right = h[:-1], h[1:]
    # D = 2 / (left + right) * (difference quotients' difference), weight (left + right) / 2
    scale = np.sqrt(2 / (left + right))
    row = np.stack([scale / left, -scale * (1 / left + 1 / right), scale / right])
    bands = np.zeros((3, t.size))
    for offset in range(3):
        for first in range(3 - offset):
            product = row[first] * row[first + offset]
            bands[offset, first : first + t.size - 2] += product
    is_within = (t[:-1] >= observed[0]) & (t[1:] <= observed[1])
    slope = is_within / (h * relaxation**2)
    bands[0, :-1] += slope
    bands[0, 1:] += slope
    bands[1, :-1] -= slope
    return bands


@njit(nogil=True, cache=True)
def _load(
    values: FloatArray,
    weights: FloatArray,
    node_of: IntArray,
    start: int,
    stop: int,
    w: FloatArray,
    y: FloatArray,
) -> None:
    """Put weights and weighted values of some pixels at their nodes; 0 where not observed."""
    w[:] = 0.0
    y[:] = 0.0
    for i in range(values.shape[0]):
        row_w, row_y = w[node_of[i]], y[node_of[i]]
        value, weight = values[i], weights[i]
        for p in range(start, stop):
            is_known = weight[p] > 0 and value[p] == value[p]
            row_w[p - start] = weight[p] if is_known else 0.0
            row_y[p - start] = value[p] * weight[p] if is_known else 0.0


@njit(nogil=True, cache=True)
def _factor(
    bands: FloatArray,
    penalty: FloatArray,
    w: FloatArray,
    d: FloatArray,
    e: FloatArray,
    f: FloatArray,
) -> None:
    """Factor W + λP = L D Lᵀ: 1/D, and the two lower diagonals of L."""
    n, width = w.shape
    under = np.zeros(width)  # e of the row before, times its D
    zero = np.zeros(width)
    for i in range(n):
        b0, b1, b2 = bands[0, i], bands[1, i], bands[2, i]
        before = bands[2, i - 2] if i > 1 else 0.0
        e1 = e[i - 1] if i > 0 else zero
        f1_scale = bands[2, i - 1] if i > 0 else 0.0
        f2 = f[i - 2] if i > 1 else zero
        di, ei, fi, wi = d[i], e[i], f[i], w[i]
        for p in range(width):
            lam = penalty[p]
            inverse = 1.0 / (wi[p] + lam * b0 - e1[p] * under[p] - f2[p] * lam * before + TINY)
            under[p] = lam * b1 - e1[p] * lam * f1_scale
            di[p] = inverse
            ei[p] = under[p] * inverse
            fi[p] = lam * b2 * inverse


@njit(nogil=True, cache=True)
def _solve(y: FloatArray, d: FloatArray, e: FloatArray, f: FloatArray, z: FloatArray) -> None:
    """Solve L D Lᵀ z = y."""
    n, width = y.shape
    for p in range(width):
        z[0, p] = y[0, p]
        z[1, p] = y[1, p] - e[0, p] * z[0, p]
    for i in range(2, n):
        zi, z1, z2, yi, e1, f2 = z[i], z[i - 1], z[i - 2], y[i], e[i - 1], f[i - 2]
        for p in range(width):
            zi[p] = yi[p] - e1[p] * z1[p] - f2[p] * z2[p]
    for p in range(width):
        z[n - 1, p] = z[n - 1, p] * d[n - 1, p]
        z[n - 2, p] = z[n - 2, p] * d[n - 2, p] - e[n - 2, p] * z[n - 1, p]
    for i in range(n - 3, -1, -1):
        zi, z1, z2, di, ei, fi = z[i], z[i + 1], z[i + 2], d[i], e[i], f[i]
        for p in range(width):
            zi[p] = zi[p] * di[p] - ei[p] * z1[p] - fi[p] * z2[p]


@njit(nogil=True, cache=True)
def _inverse_diagonal(d: FloatArray, e: FloatArray, f: FloatArray, c: FloatArray) -> None:
    """Diagonal of (L D Lᵀ)⁻¹, by the recurrence of Hutchinson and de Hoog."""
    n, width = d.shape
    c1 = np.zeros(width)  # inverse at (i+1, i+1), (i+1, i+2), (i+2, i+2)
    c12 = np.zeros(width)
    c2 = np.zeros(width)
    for i in range(n - 1, -1, -1):
        di, ei, fi, ci = d[i], e[i], f[i], c[i]
        for p in range(width):
            next1 = -ei[p] * c1[p] - fi[p] * c12[p]
            next2 = -ei[p] * c12[p] - fi[p] * c2[p]
            own = di[p] - ei[p] * next1 - fi[p] * next2
            c2[p] = c1[p]
            c12[p] = next1
            c1[p] = own
            ci[p] = own


@njit(nogil=True, cache=True)
def whittaker(
    values: FloatArray,
    weights: FloatArray,
    node_of: IntArray,
    bands: FloatArray,
    penalty: FloatArray,
) -> FloatArray:
    """Smooth; see the module.

    Parameters
    ----------
    values : (time, pixel) float array
        Observed values; NaN where missing.
    weights : (time, pixel) float array
        Weight of each value; 0 (or below, or NaN) where it does not count.
    node_of : (time,) int array
        Node of each time, no two the same.
    bands : (3, node) float64 array
        From `penalty_bands`.
    penalty : (pixel,) float64 array
        λ [day³] of each pixel, above 0.

    Returns
    -------
    (node, pixel) float32 array
        Smooth values; meaningless where fewer than two times are observed.
    """
    n, n_pixels = bands.shape[1], values.shape[1]
    result = np.empty((n, n_pixels), np.float32)
    w, y, d = np.zeros((n, WIDTH)), np.zeros((n, WIDTH)), np.zeros((n, WIDTH))
    e, f, z = np.zeros((n, WIDTH)), np.zeros((n, WIDTH)), np.zeros((n, WIDTH))
    lam = np.ones(WIDTH)
    for start in range(0, n_pixels, WIDTH):
        stop = min(start + WIDTH, n_pixels)
        for p in range(start, stop):  # slices would compile for seconds (numba)
            lam[p - start] = penalty[p]
        _load(values, weights, node_of, start, stop, w, y)
        _factor(bands, lam, w, d, e, f)
        _solve(y, d, e, f, z)
        for i in range(n):
            for p in range(start, stop):
                result[i, p] = z[i, p - start]
    return result


@njit(nogil=True, cache=True)
def whittaker_error(
    values: FloatArray,
    weights: FloatArray,
    node_of: IntArray,
    bands: FloatArray,
    penalty: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Smooth, and say how well the values are known.

    Parameters
    ----------
    values, weights, node_of, bands, penalty
        As in `whittaker`.

    Returns
    -------
    smooth : (node, pixel) float32 array
        As from `whittaker`.
    variance : (node, pixel) float32 array
        Diagonal of (W + λP)⁻¹: posterior variance for a residual variance of 1 at weight 1 (Wahba).
    fit : (3, pixel) float64 array
        Number of observations, weighted sum of squared residuals, trace of the smoother matrix.
    """
    n, n_pixels = bands.shape[1], values.shape[1]
    result = np.empty((n, n_pixels), np.float32)
    variance = np.empty((n, n_pixels), np.float32)
    fit = np.zeros((3, n_pixels))
    w, y, d = np.zeros((n, WIDTH)), np.zeros((n, WIDTH)), np.zeros((n, WIDTH))
    e, f, z = np.zeros((n, WIDTH)), np.zeros((n, WIDTH)), np.zeros((n, WIDTH))
    c, lam = np.zeros((n, WIDTH)), np.ones(WIDTH)
    scores = np.zeros((3, WIDTH))
    for start in range(0, n_pixels, WIDTH):
        stop = min(start + WIDTH, n_pixels)
        for p in range(start, stop):  # slices would compile for seconds (numba)
            lam[p - start] = penalty[p]
        _load(values, weights, node_of, start, stop, w, y)
        _factor(bands, lam, w, d, e, f)
        _solve(y, d, e, f, z)
        _inverse_diagonal(d, e, f, c)
        _score(w, y, z, c, scores)
        for k in range(3):
            for p in range(start, stop):
                fit[k, p] = scores[k, p - start]
        for i in range(n):
            for p in range(start, stop):
                result[i, p] = z[i, p - start]
                variance[i, p] = c[i, p - start]
    return result, variance, fit


@njit(nogil=True, cache=True)
def _score(w: FloatArray, y: FloatArray, z: FloatArray, c: FloatArray, scores: FloatArray) -> None:
    """Count, weighted sum of squared residuals and trace; `y` holds weighted values."""
    n, width = w.shape
    scores[:] = 0.0
    for i in range(n):
        for p in range(width):
            weight = w[i, p]
            is_known = weight > 0
            residual = y[i, p] - weight * z[i, p]
            scores[0, p] += 1.0 if is_known else 0.0
            scores[1, p] += residual * residual / (weight if is_known else 1.0)
            scores[2, p] += weight * c[i, p] if is_known else 0.0


@njit(nogil=True, cache=True)
def select_gcv(
    values: FloatArray,
    weights: FloatArray,
    node_of: IntArray,
    bands: FloatArray,
    candidates: FloatArray,
    inflation: float,
) -> FloatArray:
    """Choose λ per pixel by generalised cross-validation: least n·RSS / (n - ρ·trace)².

    Parameters
    ----------
    values, weights, node_of, bands
        As in `whittaker`.
    candidates : (candidate,) float64 array
        Penalties [day³] to choose from, ascending.
    inflation : float
        ρ, at least 1. Plain cross-validation (1) now and then follows every value of a short
        series; 1.2 to 1.4 keep it from that (Kim and Gu 2004).

    Returns
    -------
    (pixel,) float64 array
        One of the candidates; the largest where nothing is observed.
    """
    n, n_pixels = bands.shape[1], values.shape[1]
    chosen = np.full(n_pixels, candidates[-1])
    w, y, d = np.zeros((n, WIDTH)), np.zeros((n, WIDTH)), np.zeros((n, WIDTH))
    e, f, z = np.zeros((n, WIDTH)), np.zeros((n, WIDTH)), np.zeros((n, WIDTH))
    c, lam = np.zeros((n, WIDTH)), np.ones(WIDTH)
    scores, best = np.zeros((3, WIDTH)), np.zeros(WIDTH)
    for start in range(0, n_pixels, WIDTH):
        stop = min(start + WIDTH, n_pixels)
        _load(values, weights, node_of, start, stop, w, y)
        best[:] = np.inf
        for k in range(candidates.size):
            lam[:] = candidates[k]
            _factor(bands, lam, w, d, e, f)
            _solve(y, d, e, f, z)
            _inverse_diagonal(d, e, f, c)
            _score(w, y, z, c, scores)
            for p in range(stop - start):
                free = scores[0, p] - inflation * scores[2, p]
                score = scores[0, p] * scores[1, p] / (free * free) if free > 0 else np.inf
                if score < best[p]:
                    best[p] = score
                    chosen[start + p] = candidates[k]
    return chosen


@njit(nogil=True, cache=True)
def select_reml(
    values: FloatArray,
    weights: FloatArray,
    node_of: IntArray,
    bands: FloatArray,
    candidates: FloatArray,
    n_free: int,
) -> FloatArray:
    """Choose λ per pixel by restricted maximum likelihood.

    Least (n - m) log Q + log |W + λP| - (N - m) log λ, with Q the minimised sum, n observations, N
    nodes and m functions without penalty: the smoothness under which the values, taken as a random
    curve and independent errors, are the most likely. It errs less often than cross-validation
    towards following every value.

    Parameters
    ----------
    values, weights, node_of, bands, candidates
        As in `select_gcv`.
    n_free : int
        m: 2 for straight lines, 1 for constants (with a finite relaxation time).

    Returns
    -------
    (pixel,) float64 array
        One of the candidates; the largest where there are no more than `n_free` observations.
    """
    n, n_pixels = bands.shape[1], values.shape[1]
    chosen = np.full(n_pixels, candidates[-1])
    w, y, d = np.zeros((n, WIDTH)), np.zeros((n, WIDTH)), np.zeros((n, WIDTH))
    e, f, z = np.zeros((n, WIDTH)), np.zeros((n, WIDTH)), np.zeros((n, WIDTH))
    lam, best = np.ones(WIDTH), np.zeros(WIDTH)
    terms = np.zeros((3, WIDTH))
    for start in range(0, n_pixels, WIDTH):
        stop = min(start + WIDTH, n_pixels)
        _load(values, weights, node_of, start, stop, w, y)
        best[:] = np.inf
        for k in range(candidates.size):
            lam[:] = candidates[k]
            _factor(bands, lam, w, d, e, f)
            _solve(y, d, e, f, z)
            _likelihood_terms(w, y, z, d, terms)
            scale = (n - n_free) * np.log(candidates[k])
            for p in range(stop - start):
                free = terms[0, p] - n_free
                if free <= 0:
                    continue
                score = free * np.log(max(terms[1, p], 1e-30)) + terms[2, p] - scale
                if score < best[p]:
                    best[p] = score
                    chosen[start + p] = candidates[k]
    return chosen


@njit(nogil=True, cache=True)
def _likelihood_terms(
    w: FloatArray, y: FloatArray, z: FloatArray, d: FloatArray, terms: FloatArray
) -> None:
    """Count, minimised sum and log |W + λP|; `y` holds weighted values, `d` inverse pivots."""
    n, width = w.shape
    product = np.ones(width)
    terms[:] = 0.0
    for i in range(n):
        for p in range(width):
            weight = w[i, p]
            is_known = weight > 0
            value = y[i, p] / (weight if is_known else 1.0)
            terms[0, p] += 1.0 if is_known else 0.0
            terms[1, p] += y[i, p] * (value - z[i, p])
            product[p] *= d[i, p]
        if i % LOGGED == LOGGED - 1 or i == n - 1:
            for p in range(width):
                terms[2, p] -= np.log(product[p])
                product[p] = 1.0


@njit(nogil=True, cache=True)
def select_v_curve(
    values: FloatArray,
    weights: FloatArray,
    node_of: IntArray,
    bands: FloatArray,
    candidates: FloatArray,
) -> FloatArray:
    """Choose λ per pixel by the V-curve: the shortest step of (log misfit, log roughness).

    Unlike cross-validation it does not take errors that are alike on neighbouring dates for signal.

    Parameters
    ----------
    values, weights, node_of, bands, candidates
        As in `select_gcv`.

    Returns
    -------
    (pixel,) float64 array
        Geometric mean of two neighbouring candidates [day³].
    """
    n, n_pixels = bands.shape[1], values.shape[1]
    chosen = np.full(n_pixels, candidates[-1])
    w, y, d = np.zeros((n, WIDTH)), np.zeros((n, WIDTH)), np.zeros((n, WIDTH))
    e, f, z = np.zeros((n, WIDTH)), np.zeros((n, WIDTH)), np.zeros((n, WIDTH))
    lam, best = np.ones(WIDTH), np.zeros(WIDTH)
    terms, before = np.zeros((2, WIDTH)), np.zeros((2, WIDTH))
    for start in range(0, n_pixels, WIDTH):
        stop = min(start + WIDTH, n_pixels)
        _load(values, weights, node_of, start, stop, w, y)
        best[:] = np.inf
        for k in range(candidates.size):
            lam[:] = candidates[k]
            _factor(bands, lam, w, d, e, f)
            _solve(y, d, e, f, z)
            _misfit_and_roughness(w, y, z, bands, terms)
            for p in range(stop - start):
                if k > 0:
                    step = np.hypot(terms[0, p] - before[0, p], terms[1, p] - before[1, p])
                    if step < best[p]:
                        best[p] = step
                        chosen[start + p] = np.sqrt(candidates[k] * candidates[k - 1])
                before[0, p], before[1, p] = terms[0, p], terms[1, p]
    return chosen


@njit(nogil=True, cache=True)
def _misfit_and_roughness(
    w: FloatArray, y: FloatArray, z: FloatArray, bands: FloatArray, terms: FloatArray
) -> None:
    """Logarithms of the two sums that are minimised; `y` holds weighted values."""
    n, width = w.shape
    terms[:] = 0.0
    for i in range(n):
        b0 = bands[0, i]
        b1 = 2 * bands[1, i]
        b2 = 2 * bands[2, i]
        z1 = z[min(i + 1, n - 1)]
        z2 = z[min(i + 2, n - 1)]
        for p in range(width):
            weight = w[i, p]
            residual = y[i, p] - weight * z[i, p]
            terms[0, p] += residual * residual / (weight if weight > 0 else 1.0)
            terms[1, p] += z[i, p] * (b0 * z[i, p] + b1 * z1[p] + b2 * z2[p])
    for p in range(width):
        terms[0, p] = np.log(max(terms[0, p], 1e-30))
        terms[1, p] = np.log(max(terms[1, p], 1e-30))
