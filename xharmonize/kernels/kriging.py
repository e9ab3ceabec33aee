"""Area-to-point kriging: coarse pixels to fine ones that average to them.

With regression (ATPRK) a coarse band is predicted from fine bands by one linear function per image,
fitted on the fine bands degraded to coarse pixels; what it leaves of the coarse band, its residual,
is kriged to fine pixels and added. Averaged to coarse pixels the sum is the coarse band again.

A coarse pixel is a weighted mean of fine pixels: `Support` says of which. What is between fine
pixels follows an exponential semivariogram, sill · (1 - exp(-distance / length)), whose length is
found from the coarse residuals (`fit_length`, the deconvolution). Kriging weights do not depend on
the place, nor on the sill, so that kriging is one small convolution per position of a fine pixel
within its coarse one.

The deconvolution is the goal of Goovaerts' iteration: the point-support model that, regularised to
coarse pixels, is nearest to the semivariogram of the coarse pixels. Of this model the sill follows
in closed form and one number is left, the length: it is searched directly over all its range. The
iteration, which rescales the semivariogram lag by lag and refits, ends at no smaller misfit
(``tests/kernels/test_kriging.py`` holds this) and may end elsewhere.

References
----------
Kyriakidis 2004 (area-to-point kriging, coherence), doi:10.1111/j.1538-4632.2004.tb01135.x.
Goovaerts 2008 (deconvolution), doi:10.1007/s11004-007-9129-1.
Wang et al. 2016 (ATPRK of Sentinel-2), doi:10.1016/j.rse.2016.10.030.
Wang et al. 2017 (ATPRK of Landsat 8 and Sentinel-2), IEEE Trans. Geosci. Remote Sens. 55,
3885-3899.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numba import njit

from xharmonize.errors import GridError
from xharmonize.kernels.regrid import AxisMap, spread
from xharmonize.types import AnyArray, BoolArray, Float64Array, FloatArray, IntArray

RADIUS = 2
"""Coarse pixels on each side that a fine pixel is kriged from: 5 x 5."""

_SIDE = 2 * RADIUS + 1

MAX_LAG = 10
"""Longest distance of the empirical semivariogram [coarse pixel]."""

_N_LENGTHS = 32
"""Lengths that are tried, evenly spaced in their logarithm; the best is refined between two."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Support:
    """Of which fine pixels a coarse pixel is the mean, along one axis.

    Coarse pixel i is the mean of the fine pixels ``first + factor * i + k`` with weights
    ``taps[k]``: the same at all places, which needs a whole number of fine pixels per coarse one.
    The grids may lie at any phase, and the optics of the coarse sensor may reach over its pixels.

    Attributes
    ----------
    factor : int
        Side of a coarse pixel [fine pixel].
    first : int
        First fine pixel under coarse pixel 0.
    taps : (k,) float64 array
        Weights, summing to one.
    """

    factor: int
    first: int
    taps: Float64Array

    @classmethod
    def of(cls, axis: AxisMap) -> Support:
        """Support of coarse pixels that lie on fine ones (the source) as `axis` says.

        Raises
        ------
        GridError
            Unless a coarse pixel is a whole number of fine ones, and the axes run the same way.
        """
        factor = round(axis.step)
        if factor < 1 or abs(axis.step - factor) > 1e-6 * factor:
            raise GridError(
                f"a coarse pixel is {axis.step:g} fine ones wide",
                cure="kriging needs a whole number: regrid the fine cube to pixels that are one",
            )
        far = 10**6  # away from the ends of the fine image, which cut weights
        found = replace(axis, first=axis.first + far, n_source=2 * far).weights(0, 1, "area")
        used = np.flatnonzero(found.weight[0] > 0)
        taps = found.weight[0, used[0] : used[-1] + 1]
        first = int(found.index[0]) + int(used[0]) - far
        return cls(factor=factor, first=first, taps=taps / taps.sum())

    @property
    def start(self) -> int:
        """First fine pixel that is kriged around coarse pixel 0: `factor` of them, around it."""
        middle = self.first + float(self.taps @ np.arange(self.taps.size))
        return int(np.ceil(middle - self.factor / 2 - 1e-6))

    @property
    def products(self) -> Float64Array:
        """Weights (2 k - 1,) of differences -k + 1 … k - 1 between fine pixels of two supports."""
        return np.asarray(np.convolve(self.taps, self.taps[::-1]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Kriging:
    """Weights of coarse pixels for the fine pixels in the one in the middle.

    Attributes
    ----------
    among : (25, 25) float64 array
        Covariance of the coarse pixels, at a sill of 1.
    between : (factor_y · factor_x, 25) float64 array
        Covariance of fine and coarse pixels.
    factors : (int, int)
        Fine pixels per coarse one in y and x.
    weights : (factor_y · factor_x, 25) float64 array
        Where no coarse pixel is missing.
    variance : (factor_y, factor_x) float64 array
        Kriging variance where none is missing, at a sill of 1; multiply by `sill_of`.
    """

    among: Float64Array
    between: Float64Array
    factors: tuple[int, int]
    weights: Float64Array
    variance: Float64Array

    def weights_of(self, is_there: BoolArray) -> Float64Array:
        """Weights (factor_y · factor_x, 25) of the coarse pixels that are there, 0 of others.

        The system of those pixels is solved: weights of all, scaled to sum to one, would not
        return the coarse pixel that is in the middle.
        """
        found = np.zeros_like(self.between)
        found[:, is_there] = _solve(
            self.among[np.ix_(is_there, is_there)], self.between[:, is_there]
        )[:, :-1]
        return found


def lag_sums(
    residual: FloatArray, *, max_lag: int = MAX_LAG, margin: tuple[int, int] = (0, 0)
) -> Float64Array:
    """Sum what an empirical semivariogram needs; sums of blocks add up to those of an image.

    Parameters
    ----------
    residual : (band, y, x) float array
        On coarse pixels [any unit]; NaN where missing.
    max_lag : int
        Longest lag in y and x [coarse pixel].
    margin : (int, int)
        Rows and columns on each side that are the other end of a pair only: none, or `max_lag`.

    Returns
    -------
    (band, max_lag + 1, 2 max_lag + 1, 2) float64 array
        For lags of 0 … `max_lag` rows and -`max_lag` … `max_lag` columns: number of pairs of valid
        pixels, and half the sum of their squared differences.
    """
    values = np.ascontiguousarray(residual, np.float32)
    sums = np.zeros((values.shape[0], max_lag + 1, 2 * max_lag + 1, 2))
    _add_lags(values, max_lag, margin[0], margin[1], sums)
    return sums


@njit(nogil=True, cache=True)
def _add_lags(values, max_lag, margin_y, margin_x, sums):  # type: ignore[no-untyped-def]
    n_bands, height, width = values.shape
    for b in range(n_bands):
        for y in range(margin_y, height - margin_y):
            for dy in range(min(max_lag, height - 1 - y) + 1):
                for dx in range(-max_lag, max_lag + 1):
                    low = max(margin_x, -dx)
                    high = min(width - margin_x, width - dx)
                    if high <= low or (dy == 0 and dx <= 0):
                        continue
                    here, there = values[b, y, low:high], values[b, y + dy, low + dx : high + dx]
                    _add_pairs(here, there, sums[b, dy, dx + max_lag])


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})
def _add_pairs(here, there, sums):  # type: ignore[no-untyped-def]
    count, square = 0, 0.0
    for i in range(here.size):
        apart = np.float64(here[i]) - np.float64(there[i])
        is_valid = abs(apart) < np.inf
        count += int(is_valid)
        square += apart * apart if is_valid else 0.0
    sums[0] += count
    sums[1] += 0.5 * square


def fit_length(sums: Float64Array, y: Support, x: Support) -> Float64Array:
    """Length of the semivariogram between fine pixels, from that of coarse ones.

    The model is regularised to coarse pixels and compared with the empirical semivariogram at all
    lags up to the longest; misfits are relative (Cressie's weights), and each distance counts the
    same, whatever the number of lags that have it.

    Parameters
    ----------
    sums : (band, lag_y, lag_x, 2) float64 array
        From `lag_sums`.
    y, x : Support
        Of a coarse pixel.

    Returns
    -------
    (band, 2) float64 array
        Length [fine pixel], and sill in the square of the residual's unit. From a twentieth of a
        coarse pixel, where the residual is noise, to ten times the longest lag, where it grows as
        far as seen. Without residual (or without pairs) the length is a coarse pixel and the sill
        0 (or NaN): any length then gives the same.
    """
    return np.array([_fit_band(one, y, x) for one in sums])


def _fit_band(sums: Float64Array, y: Support, x: Support) -> tuple[float, float]:
    from scipy.optimize import minimize_scalar

    step = float(np.sqrt(y.factor * x.factor))
    lags, found, weight = _empirical(sums)
    if not found.size:
        return step, np.nan
    if not found.any():
        return step, 0.0

    def misfit(log_length: float) -> float:
        return _compare(regularised(np.exp(log_length), lags, y, x), found, weight)[0]

    longest = 10 * np.hypot(*lags.T).max() * step
    tried = np.linspace(np.log(step / 20), np.log(longest), _N_LENGTHS)
    best = int(np.argmin([misfit(one) for one in tried]))
    bounds = (tried[max(best - 1, 0)], tried[min(best + 1, _N_LENGTHS - 1)])
    length = float(np.exp(minimize_scalar(misfit, bounds=bounds, method="bounded").x))
    return length, _compare(regularised(length, lags, y, x), found, weight)[1]


def _empirical(sums: Float64Array) -> tuple[IntArray, Float64Array, Float64Array]:
    """Lags (n, 2) in rows and columns, their semivariance (n,), and weights (n,).

    Lags to the left and to the right are one: so are they in the model.
    """
    max_lag = sums.shape[0] - 1
    folded = sums[:, max_lag:].copy()
    folded[:, 1:] += sums[:, max_lag - 1 :: -1]
    rows, columns = np.mgrid[: max_lag + 1, : max_lag + 1]
    distance = np.hypot(rows, columns)
    used = (folded[..., 0] > 0) & (distance <= max_lag)
    count, square = folded[used].T
    return np.stack([rows[used], columns[used]], axis=1), square / count, count / distance[used]


def _compare(model: Float64Array, found: Float64Array, weight: Float64Array) -> tuple[float, float]:
    """Relative misfit Σ w (found / (sill · model) - 1)² at the sill that makes it least."""
    ratio = found / model
    sill = float((weight * ratio**2).sum() / (weight * ratio).sum())
    return float((weight * (ratio / sill - 1) ** 2).sum()), sill


def regularised(length: float, lags: IntArray, y: Support, x: Support) -> Float64Array:
    """Semivariogram between coarse pixels that follows from that between fine ones.

    Parameters
    ----------
    length : float
        [fine pixel], at a sill of 1.
    lags : (n, 2) int array
        Rows and columns between two coarse pixels.
    y, x : Support
        Of a coarse pixel.

    Returns
    -------
    (n,) float64 array
        Mean semivariance between the fine pixels of both, less that within one of them.
    """
    here = np.zeros((1, 2), np.int64)
    return np.asarray(_covariance(length, here, y, x) - _covariance(length, lags, y, x))


def _covariance(length: float, lags: IntArray, y: Support, x: Support) -> Float64Array:
    """Covariance (n,) of coarse pixels that are some rows and columns apart."""
    rows, columns = (
        lags[:, axis, None] * support.factor + np.arange(1 - support.taps.size, support.taps.size)
        for axis, support in enumerate((y, x))
    )
    between = np.exp(-np.hypot(rows[:, :, None], columns[:, None, :]) / length)
    return np.asarray(np.einsum("nyx,y,x->n", between, y.products, x.products))


def kriging_of(length: float, y: Support, x: Support) -> Kriging:
    """Solve the ordinary kriging of fine pixels from the 5 x 5 coarse pixels around.

    Parameters
    ----------
    length : float
        Of the semivariogram between fine pixels [fine pixel].
    y, x : Support
        Of a coarse pixel.
    """
    around = np.arange(-RADIUS, RADIUS + 1)
    place = np.stack(np.meshgrid(around, around, indexing="ij"), axis=-1).reshape(-1, 2)
    lags = (place[:, None] - place[None]).reshape(-1, 2)
    among = _covariance(length, lags, y, x).reshape(len(place), len(place))
    between = _between(length, y, x)
    solved = _solve(among, between)
    weights = solved[:, :-1]
    variance = 1 - (weights * between).sum(axis=1) - solved[:, -1]
    factors = (y.factor, x.factor)
    return Kriging(
        among=among,
        between=between,
        factors=factors,
        weights=weights,
        variance=np.maximum(variance, 0).reshape(factors),
    )


def _between(length: float, y: Support, x: Support) -> Float64Array:
    """Covariance (position, 25) of the fine pixels in a coarse one and the coarse ones around."""
    around = np.arange(-RADIUS, RADIUS + 1)
    places = [  # (position, neighbour): fine pixels from the first of a support to a position
        one.start + np.arange(one.factor)[:, None] - one.first - one.factor * around
        for one in (y, x)
    ]
    apart = [
        np.arange(place.min() - one.taps.size + 1, place.max() + 1)
        for place, one in zip(places, (y, x))
    ]
    near = np.exp(-np.hypot(apart[0][:, None], apart[1]) / length)
    for axis, one in enumerate((y, x)):
        windows = np.lib.stride_tricks.sliding_window_view(near, one.taps.size, axis=axis)
        near = windows @ one.taps[::-1]
    rows, columns = (place - place.min() for place in places)
    found = near[rows][:, :, columns].transpose(0, 2, 1, 3)
    return np.asarray(found.reshape(-1, around.size**2))


def _solve(among: Float64Array, between: Float64Array) -> Float64Array:
    """Weights and Lagrange multiplier (position, n + 1) that make the mean unbiased."""
    n = len(among)
    left, right = np.ones((n + 1, n + 1)), np.ones((n + 1, len(between)))
    left[:n, :n], left[n, n], right[:n] = among, 0, between.T
    return np.asarray(np.linalg.solve(left, right).T)


def krige(
    residual: FloatArray, kriging: list[Kriging] | tuple[Kriging, ...], *, margin: int = 0
) -> FloatArray:
    """Krige coarse pixels to the fine pixels in them.

    Parameters
    ----------
    residual : (band, y, x) float array
        On coarse pixels [any unit]; NaN where missing.
    kriging : sequence of Kriging
        Of each band.
    margin : int
        Rows and columns on each side that serve as neighbours only. A block with a margin of
        `RADIUS`, filled with NaN outside the image, gives exactly what the whole image gives.

    Returns
    -------
    (band, factor_y (y - 2 margin), factor_x (x - 2 margin)) float32 array
        On fine pixels; the first row and column are `Support.start` of the first coarse pixel that
        is kriged. NaN in coarse pixels that are missing: nothing is filled from around. Where
        neighbours are missing, as beyond the image, the weights are those of the others. Over the
        fine pixels of a coarse one the mean is its residual, exactly if no support reaches over
        its pixel (no blur, grids that nest), nearly otherwise.
    """
    values = np.ascontiguousarray(residual, np.float32)
    gap = RADIUS - margin
    if gap > 0:
        values = np.pad(values, ((0, 0), (gap, gap), (gap, gap)), constant_values=np.nan)
    elif gap < 0:
        values = values[:, -gap:gap, -gap:gap]
    values = np.ascontiguousarray(values)
    height, width = values.shape[1] - 2 * RADIUS, values.shape[2] - 2 * RADIUS
    factors = kriging[0].factors
    out = np.empty((len(values), height * factors[0], width * factors[1]), np.float32)
    is_there = np.isfinite(values)
    complete = np.where(is_there, values, np.float32(0.0))
    for b, one in enumerate(kriging):
        weights = one.weights.astype(np.float32).reshape(*factors, _SIDE, _SIDE)
        _convolve(complete[b], weights, out[b])
        _mend(complete[b], is_there[b], one, out[b])
    return out


def _mend(values: FloatArray, is_there: BoolArray, kriging: Kriging, out: FloatArray) -> None:
    """Krige again where a neighbour is missing, a system per pattern; NaN where the pixel is."""
    if is_there.all():
        return
    inner = slice(RADIUS, -RADIUS)
    row, column = np.nonzero(spread(~is_there, RADIUS)[inner, inner])
    around, near = (_windows(one, row, column) for one in (is_there, values))
    found = np.full((row.size, len(kriging.between)), np.nan, np.float32)
    pattern: IntArray = np.unique(np.packbits(around, axis=1), axis=0, return_inverse=True)[1]
    order, n_each = np.argsort(pattern, kind="stable"), np.bincount(pattern)
    for member in np.split(order, np.cumsum(n_each)[:-1]):
        one = around[member[0]]
        if one[_SIDE**2 // 2]:
            weights = kriging.weights_of(one)
            found[member] = near[member] @ weights.T
    tiles = out.reshape(
        out.shape[0] // kriging.factors[0], kriging.factors[0], -1, kriging.factors[1]
    )
    tiles[row, :, column] = found.reshape(-1, *kriging.factors)


def _windows(values: AnyArray, row: IntArray, column: IntArray) -> AnyArray:
    """Windows (n, 25) of an array (y, x) that begin at these pixels."""
    view = np.lib.stride_tricks.sliding_window_view(values, (_SIDE, _SIDE))
    found: AnyArray = view[row, column].reshape(row.size, -1)
    return found


@njit(nogil=True, cache=True)
def _convolve(values, weights, out):  # type: ignore[no-untyped-def]
    """Fine pixels of coarse ones whose neighbours are all there, row by row."""
    factor_y, factor_x = weights.shape[:2]
    width = values.shape[1] - 2 * RADIUS
    total = np.empty(width, np.float32)
    for y in range(values.shape[0] - 2 * RADIUS):
        for p in range(factor_y):
            for q in range(factor_x):
                total[:] = 0.0
                for j in range(_SIDE):
                    _add_row(values[y + j], weights[p, q, j], total)
                _spread(total, q, factor_x, out[y * factor_y + p])


@njit(nogil=True, cache=True, fastmath={"contract"})
def _add_row(row, weights, total):  # type: ignore[no-untyped-def]
    a, b, c, d, e = weights[0], weights[1], weights[2], weights[3], weights[4]
    for i in range(total.size):
        value = total[i] + a * row[i] + b * row[i + 1] + c * row[i + 2]
        total[i] = value + d * row[i + 3] + e * row[i + 4]


@njit(nogil=True, cache=True)
def _spread(total, q, factor, out):  # type: ignore[no-untyped-def]
    for i in range(total.size):
        out[i * factor + q] = total[i]
