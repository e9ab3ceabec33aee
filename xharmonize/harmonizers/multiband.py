"""Fits of each target band on many predictors: robust, penalised, with effects of dates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import chunks_of, map_blocks, with_margin
from xharmonize.errors import FitError, suggest
from xharmonize.harmonizers.sums import (
    MIN_SAMPLES_PER_COEFFICIENT,
    joint_block,
    require_samples,
    require_spread,
    sum_pairs,
    weighted,
)
from xharmonize.kernels import regression, robust
from xharmonize.sensors.spec import identity
from xharmonize.types import AnyArray, Float64Array

Loss: TypeAlias = Literal["squares", "huber"]
Prior: TypeAlias = Literal["zero", "identity"]
Scale: TypeAlias = Literal["linear", "log"]
Weight: TypeAlias = Literal["pixel", "pair"]
MIN_DATES = 8
"""Number of pairs from which the variance of their effects is estimated."""
_MOST_STEPS = 50
_NEAR = 1e-6
"""Change of the predictions [1] below which a solution stays: a hundredth of a digital number."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How target bands are fitted on predictors; see `xharmonize.fit_linear`."""

    loss: Loss = "squares"
    ridge: float = 0.0
    prior: Prior = "zero"
    weight: Weight = "pixel"
    neighbours: bool = False
    scale: Scale = "linear"
    date_effects: bool = False


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Predictors and targets of a fit, on the scale of the fit.

    Attributes
    ----------
    predictors : (pair, predictor, y, x) array
        Of each source band its terms, if there are any: band by band.
    target : (pair, band, y, x) array
        NaN where missing.
    sources, names : sequence of str
        Source and target bands.
    lowest : (source_band,) float64 array, optional
        Smallest positive reflectance of each source band [1], of a logarithmic fit.
    """

    predictors: Any
    target: Any
    sources: Sequence[str]
    names: Sequence[str]
    lowest: Float64Array | None = None

    @property
    def n_terms(self) -> int:
        """Number of predictors made of one source band."""
        return int(self.predictors.shape[1]) // len(self.sources)


def take_samples(source: xr.DataArray, target: xr.DataArray, recipe: Recipe) -> Samples:
    """Make the predictors and targets of a recipe from pairs, lazily.

    Parameters
    ----------
    source : (pair, source_band, y, x) DataArray
        Reflectance [1].
    target : (pair, band, y, x) DataArray
        Reflectance [1].
    """
    x, y, lowest = source.data, target.data, None
    if recipe.scale == "log":
        least = source.where(source > 0).min(["pair", "y", "x"])
        lowest = np.asarray(least.fillna(0).values, np.float64)
        x, y = (
            map_blocks(robust.logarithm, "pbyx->pbyx", a, dtype=np.float32, name="fit-logarithm")
            for a in (x, y)
        )
    if recipe.neighbours:
        padded, sizes = padded_by_one(x)
        new = {"q": len(robust.TERMS) * source.sizes["source_band"]}
        x = map_blocks(
            _term_block, "psyx->pqyx", padded, new=new, sizes=sizes, dtype=np.float32, name="terms"
        )
    sources, names = (list(map(str, a.values)) for a in (source["source_band"], target["band"]))
    return Samples(predictors=x, target=y, sources=sources, names=names, lowest=lowest)


def padded_by_one(array: Any) -> tuple[Any, dict[str, Any]]:
    """An array (…, y, x) with a margin of one missing pixel, and chunk sizes without it."""
    axes = {array.ndim - 2: 1, array.ndim - 1: 1}
    padded = with_margin(array, axes, fill=np.nan)
    y, x = (tuple(n - 2 for n in chunks) for chunks in chunks_of(padded)[-2:])
    return padded, {"y": y, "x": x}


def _term_block(values: AnyArray) -> AnyArray:
    """Terms (pair, source_band * term, y, x) of a block with a margin."""
    n_pairs, n_bands = values.shape[:2]
    images = np.ascontiguousarray(values).reshape(-1, *values.shape[2:])
    terms = robust.neighbour_terms(images)
    return np.asarray(terms.reshape(n_pairs, n_bands * terms.shape[1], *terms.shape[2:]))


def solve(samples: Samples, recipe: Recipe, *, n_min: int | None = None) -> xr.Dataset:
    """Fit each target band on all predictors; computes.

    Returns
    -------
    Dataset
        ``matrix`` (band, source_band) or (band, term, source_band), ``intercept``, ``n``, ``rmse``
        and ``r2`` (band), ``n_of_pair`` (pair, band); ``deviation`` (pair, band) of a Huber loss;
        ``date_sd`` (band) with effects of dates; ``lowest`` (source_band) of a logarithmic fit.
    """
    _require(recipe)
    plain = _plain_moments(samples)
    counts = plain[..., 0, 0]
    n = counts.sum(axis=0)
    size = plain.shape[-1] - 1
    require_samples(n, samples.names, n_min or size * MIN_SAMPLES_PER_COEFFICIENT)
    varies = regression.source_varies(weighted(plain[:, 0], counts[:, 0], "pixel"), size - 1)
    require_spread(samples.sources, varies[:: samples.n_terms])
    prior = _prior(samples, recipe.prior)
    solution = _Solution(samples=samples, recipe=recipe, prior=prior, n=counts)
    matrix, intercept, ratio, deviation = solution.find(plain)
    return _dataset(samples, recipe, plain, matrix, intercept, ratio, deviation)


def _require(recipe: Recipe) -> None:
    """Raise `FitError` for a setting that a recipe cannot have."""
    choices = {
        "loss": ("squares", "huber"),
        "prior": ("zero", "identity"),
        "weight": ("pixel", "pair"),
        "scale": ("linear", "log"),
    }
    for name, known in choices.items():
        value = getattr(recipe, name)
        if value not in known:
            cure = f"{suggest(value, known)}choose {' or '.join(map(repr, known))}"
            raise FitError("is unknown", cure=cure, argument=name, value=value)
    if not 0 <= recipe.ridge < np.inf:
        raise FitError("must be 0 or more", argument="ridge", value=recipe.ridge)


def _plain_moments(samples: Samples) -> Float64Array:
    """Moments (pair, band, size, size) of squares."""
    x, y = _arrays(samples)
    n_predictors, n_bands = x.shape[1], y.shape[1]
    whole = 1 + n_predictors + n_bands
    joint = sum_pairs(joint_block, x, y, (whole, whole))
    own = [[*range(1 + n_predictors), 1 + n_predictors + b] for b in range(n_bands)]
    return np.stack([joint[:, rows][:, :, rows] for rows in own], axis=1)


def _arrays(samples: Samples) -> tuple[xr.DataArray, xr.DataArray]:
    return (
        xr.DataArray(samples.predictors, dims=("pair", "predictor", "y", "x")),
        xr.DataArray(samples.target, dims=("pair", "band", "y", "x")),
    )


def _prior(samples: Samples, prior: Prior) -> Float64Array:
    """Coefficients (band, predictor) towards which a ridge draws."""
    found = np.zeros((len(samples.names), samples.predictors.shape[1]))
    if prior == "identity":
        found[:, :: samples.n_terms] = identity(samples.sources, samples.names)
    return found


@dataclass(frozen=True, kw_only=True)
class _Solution:
    """Solve for coefficients, with Huber's weights until they stay."""

    samples: Samples
    recipe: Recipe
    prior: Float64Array
    n: Float64Array

    def find(
        self, plain: Float64Array
    ) -> tuple[Float64Array, Float64Array, Float64Array, Float64Array | None]:
        """Coefficients, intercept, variance ratio of dates, and deviation (pair, band)."""
        ratio = np.zeros(len(self.samples.names))
        matrix, intercept = self._solve(plain, ratio)
        matrix, intercept, ratio = self._with_dates(plain, matrix, intercept, ratio)
        if self.recipe.loss == "squares":
            return matrix, intercept, ratio, None
        reach = np.full(self.n.shape, np.inf)
        offset = np.broadcast_to(intercept, self.n.shape)
        _, deviation = self._reweighted(matrix, offset, reach)
        for _ in range(_MOST_STEPS):
            before = matrix, intercept
            moments, found = self._reweighted(matrix, offset, deviation)
            matrix, intercept, ratio = self._with_dates(moments, matrix, intercept, ratio)
            offset = intercept + self._effects(moments, matrix, intercept, ratio)
            deviation = found
            if (_change(moments, matrix - before[0], intercept - before[1]) < _NEAR).all():
                break
        return matrix, intercept, ratio, deviation

    def _solve(
        self, moments: Float64Array, ratio: Float64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Coefficients and intercept from the moments of the pairs."""
        given = robust.with_date_effects(moments, self.n, ratio) if ratio.any() else moments
        total = weighted(given, self.n, self.recipe.weight)
        return robust.solve_ridge(total, self.recipe.ridge, self.prior)

    def _with_dates(
        self,
        moments: Float64Array,
        matrix: Float64Array,
        intercept: Float64Array,
        ratio: Float64Array,
    ) -> tuple[Float64Array, Float64Array, Float64Array]:
        """Solve, the variance of dates estimated from the last solution where that is asked."""
        if not (self.recipe.date_effects and len(self.n) >= MIN_DATES):
            return (*self._solve(moments, ratio), ratio)
        for _ in range(_MOST_STEPS):
            before = matrix, intercept
            square, mean = robust.squared_error(moments, matrix, intercept)
            ratio = robust.date_variance(square, mean, self.n)
            matrix, intercept = self._solve(moments, ratio)
            if (_change(moments, matrix - before[0], intercept - before[1]) < _NEAR).all():
                break
        return matrix, intercept, ratio

    def _effects(
        self,
        moments: Float64Array,
        matrix: Float64Array,
        intercept: Float64Array,
        ratio: Float64Array,
    ) -> Float64Array:
        """Predicted effect of each date (pair, band)."""
        if not ratio.any():
            return np.zeros(self.n.shape)
        mean = robust.squared_error(moments, matrix, intercept)[1]
        share = ratio * self.n / (1 + ratio * self.n)
        return np.where(self.n > 0, share * mean, 0.0)

    def _reweighted(
        self, matrix: Float64Array, offset: Float64Array, reach: Float64Array
    ) -> tuple[Float64Array, Float64Array]:
        """Moments with Huber's weights, and the robust deviation (pair, band) of residuals."""
        x, y = _arrays(self.samples)
        size = x.shape[1] + 2
        block = partial(_huber_block, matrix=matrix)
        shape = (y.shape[1], size * size + robust.BINS)
        both = sum_pairs(block, x, y, shape, offset, reach)
        moments = both[..., : size * size].reshape(*both.shape[:2], size, size)
        deviation = robust.robust_scale(both[..., size * size :])
        return moments, np.where(np.isfinite(deviation), deviation, 1.0)


def _change(moments: Float64Array, matrix: Float64Array, intercept: Float64Array) -> Float64Array:
    """Root mean square of the predictions of a difference of two solutions, per band."""
    of_predictors = moments.sum(axis=0)
    of_predictors[:, -1] = of_predictors[:, :, -1] = 0.0  # no target to predict
    return np.sqrt(robust.squared_error(of_predictors, matrix, intercept)[0])


def _huber_block(
    source: AnyArray,
    target: AnyArray,
    offset: Float64Array,
    reach: Float64Array,
    *,
    matrix: Float64Array,
) -> Float64Array:
    """Moments and counts (pair, 1, 1, band, ...) of a block, side by side."""
    result = []
    for x, y, own_offset, own_reach in zip(source, target, offset, reach):
        moments, counts = robust.huber_moments(
            np.ascontiguousarray(x).reshape(len(x), -1),
            np.ascontiguousarray(y).reshape(len(y), -1),
            matrix,
            np.array(own_offset),  # writable, else the kernel is compiled for both
            np.array(own_reach),
        )
        result.append(np.concatenate([moments.reshape(len(y), -1), counts], axis=1))
    return np.stack(result)[:, None, None]


def _dataset(
    samples: Samples,
    recipe: Recipe,
    plain: Float64Array,
    matrix: Float64Array,
    intercept: Float64Array,
    ratio: Float64Array,
    deviation: Float64Array | None,
) -> xr.Dataset:
    counts = plain[..., 0, 0]
    total = weighted(plain, counts, recipe.weight)
    mse = robust.squared_error(total, matrix, intercept)[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        level = total[:, 0, -1] / total[:, 0, 0]
        spread = total[:, -1, -1] / total[:, 0, 0] - level**2
        r2 = np.where(spread > 0, 1 - mse / spread, np.nan)
    columns = {"intercept": intercept, "rmse": np.sqrt(mse), "r2": r2}
    fit = xr.Dataset(
        {name: ("band", value) for name, value in columns.items()},
        coords={"band": list(samples.names), "source_band": list(samples.sources)},
    )
    by_band = matrix.reshape(len(matrix), len(samples.sources), samples.n_terms)
    fit["n"] = ("band", counts.sum(axis=0).astype(np.int64))
    fit["n_of_pair"] = (("pair", "band"), counts.astype(np.int64))
    if recipe.neighbours:
        fit["matrix"] = (("band", "term", "source_band"), by_band.transpose(0, 2, 1))
        fit = fit.assign_coords(term=list(robust.TERMS))
    else:
        fit["matrix"] = (("band", "source_band"), by_band[..., 0])
    if deviation is not None:
        fit["deviation"] = (("pair", "band"), np.where(counts > 0, deviation, np.nan))
    if recipe.date_effects:
        square, mean = robust.squared_error(plain, matrix, intercept)
        within = np.nanmean(square - mean**2, axis=0) if deviation is None else deviation**2
        fit["date_sd"] = ("band", np.sqrt(ratio * np.nanmean(np.atleast_2d(within), axis=0)))
    if samples.lowest is not None:
        fit["lowest"] = ("source_band", samples.lowest)
    return fit
