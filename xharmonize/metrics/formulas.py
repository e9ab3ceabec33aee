"""The definitions: each metric as a formula on statistics.

``y`` is the reference, ``x`` the prediction, over the pixels where both are finite. A formula takes
rows of moments (see `xharmonize.kernels.statistics.MOMENTS`) of any shape and returns one number
for each; NaN if there are no pixels or the definition divides by zero.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import numpy as np

from xharmonize.kernels.statistics import MOMENTS
from xharmonize.types import Float64Array


class Moments:
    """Rows of moments by name.

    Parameters
    ----------
    rows : (..., 11) float64 array
        From `xharmonize.kernels.statistics.band_moments`.
    """

    def __init__(self, rows: Float64Array) -> None:
        self._rows = rows

    def __getitem__(self, name: str) -> Float64Array:
        """One field: (...) float64 array."""
        return np.asarray(self._rows[..., MOMENTS.index(name)])

    @property
    def n(self) -> Float64Array:
        """Number of pixels; NaN if there are none, so that dividing by it gives NaN."""
        count = self["n"]
        return np.where(count > 0, count, np.nan)

    @property
    def mse(self) -> Float64Array:
        """Mean squared error."""
        return np.asarray(self["sse"] / self.n)

    @property
    def deviations(self) -> tuple[Float64Array, Float64Array]:
        """Standard deviation (population) of prediction and reference; NaN without pixels."""
        return np.sqrt(self["m2_pred"] / self.n), np.sqrt(self["m2_ref"] / self.n)


Formula = Callable[[Moments], Float64Array]


def _quiet(formula: Formula) -> Formula:
    """Suppress warnings for divisions by zero, whose NaN or infinity is part of the definition."""

    @wraps(formula)
    def silent(m: Moments) -> Float64Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(formula(m), np.float64)

    return silent


def n(m: Moments) -> Float64Array:
    """Number of pixels where both are finite; 0 if there are none."""
    return m["n"]


@_quiet
def bias(m: Moments) -> Float64Array:
    """Mean error: mean(x - y)."""
    return (m["mean_pred"] - m["mean_ref"]) * m.n / m.n


@_quiet
def mae(m: Moments) -> Float64Array:
    """Mean absolute error: mean(|x - y|)."""
    return m["sae"] / m.n


@_quiet
def mse(m: Moments) -> Float64Array:
    """Mean squared error: mean((x - y)²)."""
    return m.mse


@_quiet
def rmse(m: Moments) -> Float64Array:
    """Root mean square error: sqrt(mean((x - y)²))."""
    return np.sqrt(m.mse)


@_quiet
def mre(m: Moments) -> Float64Array:
    """Mean relative error: mean(|x - y| / |y|), over pixels with a nonzero reference."""
    count = m["n_relative"]
    return m["sum_relative"] / np.where(count > 0, count, np.nan)


@_quiet
def mre_total(m: Moments) -> Float64Array:
    """Relative error of the sums: sum(|x - y|) / sum(|y|)."""
    total = m["sum_abs_ref"]
    return m["sae"] / np.where(total > 0, total, np.nan)


@_quiet
def r2(m: Moments) -> Float64Array:
    """Coefficient of determination: 1 - sum((x - y)²) / sum((y - mean(y))²).

    NaN if the reference does not vary.
    """
    spread = m["m2_ref"]
    return 1 - m["sse"] / np.where(spread > 0, spread, np.nan)


@_quiet
def cc(m: Moments) -> Float64Array:
    """Pearson's correlation r; NaN if either does not vary."""
    spread = np.sqrt(m["m2_pred"]) * np.sqrt(m["m2_ref"])
    return np.clip(m["co_moment"] / np.where(spread > 0, spread, np.nan), -1, 1)


@_quiet
def r2_pearson(m: Moments) -> Float64Array:
    """Squared correlation r²: blind to bias and scale."""
    return cc(m) ** 2


@_quiet
def kge(m: Moments) -> Float64Array:
    """Kling-Gupta efficiency of 2009.

    1 - sqrt((r - 1)² + (s_x / s_y - 1)² + (mean(x) / mean(y) - 1)²), s the standard deviation.
    """
    pred, ref = m.deviations
    scale, level = pred / ref, m["mean_pred"] / m["mean_ref"]
    return _finite(1 - np.sqrt((cc(m) - 1) ** 2 + (scale - 1) ** 2 + (level - 1) ** 2))


@_quiet
def kge_2012(m: Moments) -> Float64Array:
    """Kling-Gupta efficiency of 2012: the ratio of the coefficients of variation s / mean."""
    pred, ref = m.deviations
    level = m["mean_pred"] / m["mean_ref"]
    variation = (pred / m["mean_pred"]) / (ref / m["mean_ref"])
    return _finite(1 - np.sqrt((cc(m) - 1) ** 2 + (variation - 1) ** 2 + (level - 1) ** 2))


@_quiet
def slope(m: Moments) -> Float64Array:
    """Slope of the line x = slope * y + intercept by ordinary least squares."""
    spread = m["m2_ref"]
    return m["co_moment"] / np.where(spread > 0, spread, np.nan)


@_quiet
def intercept(m: Moments) -> Float64Array:
    """Intercept of the line x = slope * y + intercept by ordinary least squares."""
    return m["mean_pred"] - slope(m) * m["mean_ref"]


def psnr(m: Moments, data_range: float) -> Float64Array:
    """Peak signal-to-noise ratio: 10 * log10(data_range² / MSE) [dB]; infinite without error."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(10 * np.log10(data_range**2 / m.mse))


def ergas(m: Moments, ratio: float) -> Float64Array:
    """100 * ratio * sqrt(mean over bands of RMSE² / mean(y)²), from moments (..., band, 11).

    NaN if a band has no pixels or its mean is zero.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        share = m.mse / m["mean_ref"] ** 2
        return _finite(100 * ratio * np.sqrt(share.mean(axis=-1)))


def ratio_of_sums(rows: Float64Array) -> Float64Array:
    """Mean from rows (..., 2) of count and sum; NaN if the count is zero."""
    return np.asarray(rows[..., 1] / np.where(rows[..., 0] > 0, rows[..., 0], np.nan))


def skill(rows: Float64Array) -> Float64Array:
    """1 - MSE / MSE of the baseline, from rows (..., 3) of count and sums of squared errors."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(1 - rows[..., 1] / np.where(rows[..., 2] > 0, rows[..., 2], np.nan))


def _finite(values: Float64Array) -> Float64Array:
    """Replace the results of divisions by zero with NaN."""
    return np.where(np.isfinite(values), values, np.nan)
