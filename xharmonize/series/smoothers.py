"""Smoothing methods with their options, and smoothing of one block of pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from xharmonize.cube.companions import Origin
from xharmonize.cube.dates import duration_in_days
from xharmonize.errors import OptionError
from xharmonize.kernels import filters, observations, smoothing
from xharmonize.types import AnyArray, BoolArray, Duration, FloatArray

PenaltyRule: TypeAlias = Literal["reml", "gcv", "v-curve"]


@dataclass(frozen=True, kw_only=True)
class Whittaker:
    """Whittaker smoother: least squares with a penalty on the second and first derivative.

    On five real data sets, each smoothed with the settings chosen on the other four, its errors at
    withheld observations are 2 to 8 % smaller than those of linear interpolation. At single dates
    of a quiet pixel, or with very few observations left, it is no better
    (docs/reference/measurements.md).

    Attributes
    ----------
    penalty : float, "reml", "gcv" or "v-curve"
        Penalty λ [day³], independent of the dates and the output step. With one value a day, the
        curve follows changes that take longer than about λ^(1/4) days. A string selects a penalty
        per pixel from `candidates`: by restricted maximum likelihood (``"reml"``); by generalised
        cross-validation (``"gcv"``), which occasionally follows every value of a series; or by the
        V-curve (``"v-curve"``), which smooths more and does not mistake errors common to
        neighbouring dates for signal.
    relaxation : str or number
        Relaxation time τ, such as ``"30D"`` or 30 [day]: the curve keeps its slope for about this
        time. In much longer gaps it approaches a straight line. ``math.inf`` gives the smoother of
        Whittaker and Eilers, which extends slopes through gaps.
    candidates : tuple of float
        Penalties [day³] to choose from, ascending; with equal ratios for the V-curve.
    inflation : float
        Factor on the degrees of freedom in cross-validation, at least 1 (ordinary GCV). Larger
        values keep short series from being followed value by value.

    References
    ----------
    Eilers 2003, doi:10.1021/ac034173t; Schweikert 1966 (splines in tension),
    doi:10.1002/sapm1966451312; Wood 2011, doi:10.1111/j.1467-9868.2010.00749.x; Frasso and Eilers
    2015, doi:10.1177/1471082X14549288; Kim and Gu 2004, doi:10.1046/j.1369-7412.2003.05316.x.

    Examples
    --------
    >>> from xharmonize.testing import example_cube
    >>> dates = [f"2018-{month:02}-01" for month in range(1, 13)]
    >>> ndvi = example_cube(bands=("red", "nir08"), dates=dates).harmonize.index("ndvi")
    >>> ndvi.harmonize.smooth(Whittaker(penalty=1e4)).sizes["time"]
    12
    """

    penalty: float | PenaltyRule = "reml"
    relaxation: Duration = 30.0
    candidates: tuple[float, ...] = tuple(10.0 ** (k / 2) for k in range(4, 9))
    inflation: float = 1.2

    def __post_init__(self) -> None:
        object.__setattr__(self, "candidates", tuple(map(float, self.candidates)))
        if isinstance(self.penalty, str):
            if self.penalty not in ("reml", "gcv", "v-curve"):
                raise OptionError(
                    "",
                    cure="give a number [day³], 'reml', 'gcv' or 'v-curve'",
                    argument="penalty",
                    value=self.penalty,
                )
        else:
            _require_positive("penalty", self.penalty)
        object.__setattr__(self, "relaxation", self.relaxation_days)
        if not (math.isfinite(self.inflation) and self.inflation >= 1):
            raise OptionError(
                cure="give a factor of 1 or more", argument="inflation", value=self.inflation
            )
        ascending = all(a < b for a, b in zip(self.candidates, self.candidates[1:]))
        if len(self.candidates) < 3 or not ascending or not self.candidates[0] > 0:
            raise OptionError(
                cure="give at least 3 penalties above 0, ascending",
                argument="candidates",
                value=self.candidates,
            )

    @property
    def relaxation_days(self) -> float:
        """Relaxation time [day]."""
        return _in_days("relaxation", self.relaxation, endless=True)

    def __str__(self) -> str:
        return f"whittaker, penalty={self.penalty}, relaxation={self.relaxation:g} days"


@dataclass(frozen=True, kw_only=True)
class SavitzkyGolay:
    """Savitzky-Golay filter: a polynomial fitted around each date.

    Attributes
    ----------
    window : str or number
        Width of the window, such as ``"60D"`` or 60 [day]. The result is NaN where the window
        contains no more observations than `order`.
    order : int
        Order of the polynomial, 0 to 5.

    Examples
    --------
    >>> from xharmonize.testing import example_cube
    >>> dates = [f"2018-{month:02}-01" for month in range(1, 13)]
    >>> ndvi = example_cube(bands=("red", "nir08"), dates=dates).harmonize.index("ndvi")
    >>> ndvi.harmonize.smooth(SavitzkyGolay(window=121.0)).sizes["time"]
    12
    """

    window: Duration = 60.0
    order: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "window", _in_days("window", self.window))
        if not (isinstance(self.order, int) and 0 <= self.order <= 5):
            raise OptionError(
                cure="give a whole number from 0 to 5", argument="order", value=self.order
            )

    def __str__(self) -> str:
        return f"savgol, window={self.window:g} days, order={self.order}"


@dataclass(frozen=True, kw_only=True)
class Harmonic:
    """Harmonic regression: a constant and harmonics of the year, fitted to the whole series.

    Attributes
    ----------
    count : int
        Number of harmonics: 1 yearly, 2 also half-yearly, …
    period : str or number
        Period of the first harmonic, such as ``"365D"`` or 365.25 [day].
    trend : bool
        Whether to include a linear trend.

    Examples
    --------
    >>> from xharmonize.testing import example_cube
    >>> dates = [f"2018-{month:02}-01" for month in range(1, 13)]
    >>> ndvi = example_cube(bands=("red", "nir08"), dates=dates).harmonize.index("ndvi")
    >>> ndvi.harmonize.smooth(Harmonic(count=1), step="10D").sizes["time"]
    34
    """

    count: int = 3
    period: Duration = 365.25
    trend: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "period", _in_days("period", self.period))
        if not (isinstance(self.count, int) and self.count >= 1):
            raise OptionError(
                cure="give a whole number of waves, at least 1", argument="count", value=self.count
            )

    def __str__(self) -> str:
        return f"harmonic, count={self.count}, period={self.period:g} days, trend={self.trend}"


@dataclass(frozen=True, kw_only=True)
class RadialBasis:
    """Gaussian averages of several widths, weighted by the observations under each.

    Attributes
    ----------
    widths : tuple of str or number
        Standard deviations of the Gaussians, such as ``"8D"`` or 8 [day].

    References
    ----------
    Schwieder et al. 2016, doi:10.1016/j.jag.2016.06.019.

    Examples
    --------
    >>> from xharmonize.testing import example_cube
    >>> dates = [f"2018-{month:02}-01" for month in range(1, 13)]
    >>> ndvi = example_cube(bands=("red", "nir08"), dates=dates).harmonize.index("ndvi")
    >>> ndvi.harmonize.smooth(RadialBasis()).sizes["time"]
    12
    """

    widths: tuple[Duration, ...] = (8.0, 16.0, 32.0)

    def __post_init__(self) -> None:
        if not self.widths:
            raise OptionError("widths=()", cure="give at least one standard deviation [day]")
        widths = tuple(_in_days("widths", width) for width in self.widths)
        object.__setattr__(self, "widths", widths)

    def __str__(self) -> str:
        return f"rbf, widths={', '.join(f'{width:g}' for width in self.widths)} days"


Smoother: TypeAlias = Whittaker | SavitzkyGolay | Harmonic | RadialBasis


def _in_days(name: str, length: Duration, *, endless: bool = False) -> float:
    """Return a length of time in days; finite unless `endless`."""
    days = duration_in_days(length, argument=name)
    if math.isinf(days) and not endless:
        raise OptionError("has no end", cure="give days", argument=name, value=length)
    return days


def _require_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise OptionError(f"{name}={value}", cure="give a finite number above 0")


MIN_OBSERVED = 3
"""Minimum number of observed days of a pixel."""

ENVELOPE_ROUNDS = 10

SLAB = 4096
"""Number of pixels processed at a time, so that intermediate arrays stay in the cache."""

Layer: TypeAlias = Literal["smooth", "origin", "uncertainty"]

Fit = tuple[FloatArray, FloatArray | None, FloatArray | None]


@dataclass(frozen=True, kw_only=True)
class SmoothPlan:
    """What to compute for every pixel.

    Attributes
    ----------
    day_of : tuple of int
        Index of the observed day of each date.
    node_of : tuple of int
        Node of each observed day.
    nodes : tuple of int
        Observed and requested days since 1970-01-01, ascending.
    wanted : tuple of int
        Node of each output date.
    is_per_observation : bool
        Whether the output dates are the observations themselves, including two of one day.
    """

    smoother: Smoother
    day_of: tuple[int, ...]
    node_of: tuple[int, ...]
    nodes: tuple[int, ...]
    wanted: tuple[int, ...]
    max_gap: float
    envelope: float | None
    is_snow_barrier: bool
    is_per_observation: bool = False

    @property
    def is_all_wanted(self) -> bool:
        """Whether the output dates are exactly the nodes."""
        return self.wanted == tuple(range(len(self.nodes)))


def smooth_block(
    values: AnyArray,
    uncertainty: AnyArray | None,
    origin: AnyArray | None,
    snow: AnyArray | None,
    *,
    plan: SmoothPlan,
    layers: tuple[Layer, ...],
) -> FloatArray:
    """Smooth a block.

    Parameters
    ----------
    values : (time, ...) float array
        NaN where missing.
    uncertainty, origin, snow : (time, ...) array, optional
        Standard deviation, origin bits, and whether the observation shows snow.
    layers : tuple of str
        Requested layers: ``smooth`` first, optionally ``origin`` and ``uncertainty``.

    Returns
    -------
    (layer, date, ...) float32 array
        Smooth values, origin bits, standard deviations.
    """
    shape = values.shape
    n_pixels = int(np.prod(shape[1:]))
    flat = values.reshape(shape[0], n_pixels)
    companions = [
        None if array is None else array.reshape(shape[0], n_pixels)
        for array in (uncertainty, origin, snow)
    ]
    result = np.empty((len(layers), len(plan.wanted), n_pixels), np.float32)
    for start in range(0, n_pixels, SLAB):
        part = slice(start, start + SLAB)
        cut = [None if array is None else array[:, part] for array in companions]
        _smooth_slab(flat[:, part], *cut, result=result[..., part], plan=plan, layers=layers)
    return result.reshape(len(layers), -1, *shape[1:])


def _smooth_slab(
    values: AnyArray,
    uncertainty: AnyArray | None,
    origin: AnyArray | None,
    snow: AnyArray | None,
    *,
    result: FloatArray,
    plan: SmoothPlan,
    layers: tuple[Layer, ...],
) -> None:
    """Write the result (layer, date, pixel) of a slab of pixels (time, pixel)."""
    y = np.ascontiguousarray(values, np.float32)
    valid = np.isfinite(y) if snow is None else np.isfinite(y) & ~snow
    weights, variance = _weights(valid, uncertainty)
    days, day_weights = _merge_days(y, weights, plan)
    smooth, unit, fit = _fit(days, day_weights, plan, with_error="uncertainty" in layers)
    _clear_gaps(smooth, day_weights > 0, snow, plan)
    wanted = np.array(plan.wanted)
    result[0] = smooth if plan.is_all_wanted else smooth[wanted]
    if len(layers) == 1:
        return
    known = np.isfinite(result[0])
    result[layers.index("origin")] = _origin_bits(valid, origin, plan) * known
    if unit is not None and fit is not None:
        error = np.sqrt(unit[wanted] * _residual_variance(fit, variance))
        result[layers.index("uncertainty")] = np.where(known, error, np.nan)


def _weights(valid: BoolArray, sigma: AnyArray | None) -> tuple[FloatArray, FloatArray | None]:
    """Weights with mean 1 over a pixel's valid values, and the variance at weight 1."""
    if sigma is None:
        return valid.astype(np.float32), None
    is_told = valid & (sigma > 0) & np.isfinite(sigma)
    inverse = np.zeros(valid.shape)
    np.divide(1.0, np.square(sigma, dtype=np.float64), out=inverse, where=is_told)
    n_told = is_told.sum(axis=0)
    mean = inverse.sum(axis=0) / np.maximum(n_told, 1)
    relative = inverse / np.where(n_told > 0, mean, 1.0)
    weights = np.where(is_told, relative, valid).astype(np.float32)
    return weights, np.where(n_told > 0, 1 / np.where(n_told > 0, mean, 1.0), np.nan)


def _merge_days(
    y: FloatArray, weights: FloatArray, plan: SmoothPlan
) -> tuple[FloatArray, FloatArray]:
    """Weighted mean of the observations of each day, and their summed weights."""
    day_of = np.array(plan.day_of)
    n_days = len(plan.node_of)
    if n_days == day_of.size:
        order = np.argsort(day_of)
        is_sorted = bool((order == np.arange(n_days)).all())
        return (y, weights) if is_sorted else (y[order], weights[order])
    total = np.zeros((n_days, y.shape[1]))
    summed = np.zeros((n_days, y.shape[1]))
    for i, day in enumerate(day_of):
        summed[day] += weights[i]
        total[day] += np.where(weights[i] > 0, y[i], 0.0) * weights[i]
    mean = np.divide(total, summed, out=np.full(total.shape, np.nan), where=summed > 0)
    return mean.astype(np.float32), summed.astype(np.float32)


def _fit(y: FloatArray, weights: FloatArray, plan: SmoothPlan, *, with_error: bool) -> Fit:
    """Fit once, or repeatedly with less weight below the curve."""
    penalty = _penalty(y, weights, plan)
    if plan.envelope is None:
        return _solve(y, weights, plan, penalty, with_error=with_error)
    is_above = np.ones(y.shape, bool)
    adapted = weights
    for _ in range(ENVELOPE_ROUNDS):
        smooth, _, _ = _solve(y, adapted, plan, penalty, with_error=False)
        before, is_above = is_above, y > smooth[list(plan.node_of)]
        asymmetry = np.where(is_above, 2 * plan.envelope, 2 - 2 * plan.envelope)
        adapted = (weights * asymmetry).astype(np.float32)
        if (before == is_above).all():
            break
    return _solve(y, adapted, plan, penalty, with_error=with_error)


def _penalty(y: FloatArray, weights: FloatArray, plan: SmoothPlan) -> FloatArray | None:
    """Choose λ per pixel on the observed days."""
    smoother = plan.smoother
    if not isinstance(smoother, Whittaker):
        return None
    rule = smoother.penalty
    if not isinstance(rule, str):
        return np.full(y.shape[1], float(rule))
    node_of, nodes = np.array(plan.node_of), np.array(plan.nodes, np.float64)
    bands = smoothing.penalty_bands(nodes[node_of], smoother.relaxation_days)
    given = (y, weights, np.arange(node_of.size), bands, np.array(smoother.candidates))
    chosen: FloatArray
    if rule == "reml":
        chosen = smoothing.select_reml(*given, 2 if math.isinf(smoother.relaxation_days) else 1)
    elif rule == "gcv":
        chosen = smoothing.select_gcv(*given, smoother.inflation)
    else:
        chosen = smoothing.select_v_curve(*given)
    return chosen


def _solve(
    y: FloatArray,
    weights: FloatArray,
    plan: SmoothPlan,
    penalty: FloatArray | None,
    *,
    with_error: bool,
) -> Fit:
    """Run the kernel of the method on all nodes."""
    node_of, nodes = np.array(plan.node_of), np.array(plan.nodes, np.float64)
    smoother = plan.smoother
    if isinstance(smoother, Whittaker):
        ends = (nodes[node_of[0]], nodes[node_of[-1]])
        bands = smoothing.penalty_bands(nodes, smoother.relaxation_days, observed=ends)
        if not with_error:
            return smoothing.whittaker(y, weights, node_of, bands, penalty), None, None
        found: Fit = smoothing.whittaker_error(y, weights, node_of, bands, penalty)
        return found
    if isinstance(smoother, SavitzkyGolay):
        half = _in_days("window", smoother.window) / 2
        found = filters.local_polynomial(y, weights, node_of, nodes, half, smoother.order)
        return found if with_error else (found[0], None, None)
    if isinstance(smoother, Harmonic):
        terms = filters.harmonic_terms(
            nodes,
            count=smoother.count,
            period=_in_days("period", smoother.period),
            trend=smoother.trend,
        )
        return filters.regression(y, weights, node_of, terms), None, None
    widths = np.array([_in_days("widths", width) for width in smoother.widths])
    table, reach = filters.gaussian_table(nodes[node_of], nodes, widths)
    return filters.radial_basis(y, weights, table, reach, widths), None, None


def _clear_gaps(
    smooth: FloatArray, seen: BoolArray, snow: BoolArray | None, plan: SmoothPlan
) -> None:
    """Set long gaps, gaps with snow, and dates beyond the ends of a series to NaN."""
    barrier = np.zeros((0, seen.shape[1]), bool)
    if snow is not None and plan.is_snow_barrier:
        barrier = np.zeros(seen.shape, bool)
        for i, day in enumerate(plan.day_of):  # row by row: ufunc.at is many times slower
            barrier[day] |= snow[i]
    node_of, nodes = np.array(plan.node_of), np.array(plan.nodes, np.float64)
    observations.clear_gaps(smooth, seen, barrier, node_of, nodes, plan.max_gap, MIN_OBSERVED)


def _origin_bits(valid: BoolArray, origin: AnyArray | None, plan: SmoothPlan) -> AnyArray:
    """Origin at each output date: that of the observation or the day's observations, or filled."""
    given = np.uint8(Origin.OBSERVED) if origin is None else origin.astype(np.uint8)
    seen = np.where(valid, given, np.uint8(0))
    if plan.is_per_observation:  # a cloudy observation did not see what another one of its day saw
        return np.where(seen == 0, np.uint8(Origin.FILLED), seen)
    at_node = np.zeros((len(plan.nodes), valid.shape[1]), np.uint8)
    for i, day in enumerate(plan.day_of):
        at_node[plan.node_of[day]] |= seen[i]
    at_node[at_node == 0] = Origin.FILLED
    return at_node[list(plan.wanted)]


def _residual_variance(fit: FloatArray, stated: FloatArray | None) -> FloatArray:
    """Variance at weight 1: the larger of the residual and the stated variance."""
    n_observed, misfit, trace = fit
    free = n_observed - trace
    shown = np.where(free > 0.5, misfit / np.where(free > 0.5, free, 1.0), np.nan)
    return shown if stated is None else np.fmax(shown, stated)
