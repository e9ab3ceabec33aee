"""Registry of metrics: their statistics, formulas, options and sources, and look-up by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypeAlias

import numpy as np

from xharmonize.cube.indices import INDICES
from xharmonize.errors import MetricError, UnknownMetricError, require_fraction, suggest
from xharmonize.kernels.statistics import merge_moments
from xharmonize.metrics import formulas
from xharmonize.metrics.formulas import Formula, Moments
from xharmonize.types import Float64Array

MOMENTS, ANGLES, ERRORS = "moments", "angles", "baseline_errors"
"""Statistics that metrics use, besides those of indices (``ndvi_moments``) and windows."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric defined as a formula on the moments of prediction and reference.

    Attributes
    ----------
    name : str
        Name of the variable in a score.
    long_name, units : str
        Label and unit; the unit ``"of the values"`` stands for that of the cube.
    formula : callable, optional
        Maps `Moments` to an array of their shape.
    index : str
        Spectral index whose agreement is measured; empty for the bands themselves.
    citation, doi : str
        Publication that defines it.
    """

    name: str
    long_name: str = ""
    units: str = "1"
    formula: Formula | None = None
    index: str = ""
    citation: str = ""
    doi: str = ""
    dtype: ClassVar[str] = "float64"
    needs_bands: ClassVar[bool] = False
    is_windowed: ClassVar[bool] = False

    @property
    def statistic(self) -> str:
        """Variable of the statistics that the formula reads."""
        return f"{self.index}_moments" if self.index else MOMENTS

    @property
    def has_band(self) -> bool:
        """Whether there is one number per band."""
        return not self.index

    def with_range(self, data_range: float | None) -> Metric:  # noqa: ARG002
        """Return the metric for data of this range; itself where it depends on none."""
        return self

    def compute(self, rows: Float64Array) -> Float64Array:
        """Compute the metric (...) from rows of statistics (..., field)."""
        if self.formula is None:
            raise MetricError(f"metric {self.name!r} has no formula", cure="give formula=")
        return self.formula(Moments(rows))

    def pool(self, rows: Float64Array) -> Float64Array:
        """Compute the metric over all bands (...) from rows (..., band, field)."""
        return self.compute(merge_moments(rows, rows.ndim - 2))


@dataclass(frozen=True, kw_only=True)
class Count(Metric):
    """Number of pixels where prediction and reference are finite."""

    name: str = "n"
    long_name: str = "number of pixels"
    formula: Formula | None = formulas.n
    dtype: ClassVar[str] = "int64"


@dataclass(frozen=True, kw_only=True)
class Psnr(Metric):
    """Peak signal-to-noise ratio [dB]; over all bands from the pooled mean squared error.

    Attributes
    ----------
    data_range : float, optional
        Largest value less the smallest that the data can have [1]; by default that of the call.
    """

    name: str = "psnr"
    long_name: str = "peak signal-to-noise ratio"
    units: str = "dB"
    citation: str = "Huynh-Thu and Ghanbari 2008"
    doi: str = "10.1049/el:20080522"
    data_range: float | None = None

    def with_range(self, data_range: float | None) -> Psnr:
        """Return the metric for data of this range, unless it has its own."""
        own = self.data_range
        return replace(self, data_range=_positive(data_range if own is None else own, self.name))

    def compute(self, rows: Float64Array) -> Float64Array:
        """Return the metric (...) from rows of moments (..., 11)."""
        return formulas.psnr(Moments(rows), settled(self.data_range, self.name))


@dataclass(frozen=True, kw_only=True)
class Sam(Metric):
    """Spectral angle mapper: mean angle between the predicted and the reference spectrum.

    A pixel counts if all bands are finite in both and neither spectrum is zero.

    Attributes
    ----------
    unit : {"rad", "deg"}
        Unit of the angle: radian or degree.
    """

    name: str = "sam"
    long_name: str = "mean spectral angle"
    citation: str = "Kruse et al. 1993"
    doi: str = "10.1016/0034-4257(93)90013-N"
    unit: Literal["rad", "deg"] = "rad"
    needs_bands: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.unit not in ("rad", "deg"):
            raise MetricError(
                "is no unit of angle here",
                cure="choose 'rad' or 'deg'",
                argument="unit",
                value=self.unit,
            )
        object.__setattr__(self, "units", {"rad": "rad", "deg": "degree"}[self.unit])

    @property
    def statistic(self) -> str:
        """Variable of the statistics that the formula reads."""
        return ANGLES

    @property
    def has_band(self) -> bool:
        """Whether there is one number per band."""
        return False

    def compute(self, rows: Float64Array) -> Float64Array:
        """Compute the mean angle (...) from rows of count and sum (..., 2)."""
        mean = formulas.ratio_of_sums(rows)
        return mean if self.unit == "rad" else np.rad2deg(mean)


@dataclass(frozen=True, kw_only=True)
class Ergas(Metric):
    """Relative dimensionless global error in synthesis, from the moments of each band.

    Attributes
    ----------
    ratio : float
        Pixel size of the fine image divided by that of the coarse one: 1 for equal sizes, 1/3 or
        1/2 for fusion.
    """

    name: str = "ergas"
    long_name: str = "relative dimensionless global error in synthesis"
    citation: str = (
        "Wald, L. (2002). Data fusion: definitions and architectures. Presses des Mines, Paris"
    )
    ratio: float = 1.0
    needs_bands: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.ratio > 0:
            raise MetricError(
                "is no ratio of pixel sizes",
                cure="give 1 or 1/3, 1/2",
                argument="ratio",
                value=self.ratio,
            )

    @property
    def has_band(self) -> bool:
        """Whether there is one number per band."""
        return False

    def compute(self, rows: Float64Array) -> Float64Array:
        """Compute the metric (...) from rows of moments (..., band, 11)."""
        return formulas.ergas(Moments(rows), self.ratio)


@dataclass(frozen=True, kw_only=True)
class Skill(Metric):
    """Skill over a baseline: 1 - MSE / MSE of the baseline, where all three are finite."""

    name: str = "skill"
    long_name: str = "skill score against the baseline"
    citation: str = "Murphy 1988"
    doi: str = "10.1175/1520-0493(1988)116<2417:SSBOTM>2.0.CO;2"

    @property
    def statistic(self) -> str:
        """Variable of the statistics that the formula reads."""
        return ERRORS

    def compute(self, rows: Float64Array) -> Float64Array:
        """Compute the skill (...) from rows of sums (..., 3)."""
        return formulas.skill(rows)

    def pool(self, rows: Float64Array) -> Float64Array:
        """Compute the skill over all bands (...) from rows (..., band, 3)."""
        return self.compute(np.asarray(rows.sum(axis=-2)))


@dataclass(frozen=True, kw_only=True)
class WindowMetric(Metric):
    """A metric averaged over windows that slide over y and x.

    Attributes
    ----------
    size : int
        Side of the window [pixel].
    min_valid : float
        Minimum valid fraction of a window's weight [1]; its moments use its valid pixels.
    """

    size: int = 0
    min_valid: float = 0.5
    is_windowed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.size >= 1 or self.size != int(self.size):
            raise MetricError(f"size={self.size} of {self.name!r} is no number of pixels")
        require_fraction(self.min_valid, argument="min_valid", error=MetricError)

    @property
    def statistic(self) -> str:
        """Variable of the statistics that the formula reads."""
        return f"{self.name}_windows"

    @property
    def window(self) -> Literal["gaussian", "uniform"]:
        """Weights of the window."""
        return "uniform"

    @property
    def constants(self) -> tuple[float, float]:
        """C1 and C2 of the index."""
        return 0.0, 0.0

    def compute(self, rows: Float64Array) -> Float64Array:
        """Compute the mean over windows (...) from rows of count and sum (..., 2)."""
        return formulas.ratio_of_sums(rows)

    def pool(self, rows: Float64Array) -> Float64Array:
        """Average the means of all bands that have windows."""
        means = self.compute(rows)
        count = np.isfinite(means).sum(axis=-1)
        return np.asarray(np.nansum(means, axis=-1) / np.where(count > 0, count, np.nan))


@dataclass(frozen=True, kw_only=True)
class Uiqi(WindowMetric):
    """Universal image quality index: mean over uniform windows at all positions.

    If both images are flat in a window, only their means are compared (1 if identical).
    """

    name: str = "uiqi"
    long_name: str = "universal image quality index"
    citation: str = "Wang and Bovik 2002"
    doi: str = "10.1109/97.995823"
    size: int = 32


@dataclass(frozen=True, kw_only=True)
class Ssim(WindowMetric):
    """Structural similarity: windows entirely inside the image, population covariance.

    Attributes
    ----------
    weights : {"gaussian", "uniform"}
        Weights of the window: Gaussian of `sigma`, 11 pixels wide, or uniform, 7 pixels wide.
    size : int
        Side of the window [pixel]; 0 means 11 or 7, depending on `weights`.
    sigma : float
        Standard deviation of the Gaussian [pixel].
    k1, k2 : float
        Constants; C = (K * data_range)².
    data_range : float, optional
        Largest value less the smallest that the data can have [1]; by default that of the call.
    """

    name: str = "ssim"
    long_name: str = "structural similarity"
    citation: str = "Wang et al. 2004"
    doi: str = "10.1109/TIP.2003.819861"
    weights: Literal["gaussian", "uniform"] = "gaussian"
    sigma: float = 1.5
    k1: float = 0.01
    k2: float = 0.03
    data_range: float | None = None

    def __post_init__(self) -> None:
        if self.weights not in ("gaussian", "uniform"):
            raise MetricError(
                "is unknown",
                cure="choose 'gaussian' or 'uniform'",
                argument="weights",
                value=self.weights,
            )
        if not self.sigma > 0 or not self.k1 > 0 or not self.k2 > 0:
            raise MetricError(f"sigma={self.sigma}, k1={self.k1}, k2={self.k2} must be positive")
        if not self.size:
            object.__setattr__(self, "size", 11 if self.weights == "gaussian" else 7)
        super().__post_init__()

    def with_range(self, data_range: float | None) -> Ssim:
        """Return the metric for data of this range, unless it has its own."""
        own = self.data_range
        return replace(self, data_range=_positive(data_range if own is None else own, self.name))

    @property
    def window(self) -> Literal["gaussian", "uniform"]:
        """Weights of the window."""
        return self.weights

    @property
    def constants(self) -> tuple[float, float]:
        """C1 and C2 of the index."""
        data_range = settled(self.data_range, self.name)
        return (self.k1 * data_range) ** 2, (self.k2 * data_range) ** 2


def settled(data_range: float | None, name: str) -> float:
    """Return the data range, or raise `MetricError` explaining why it is needed."""
    if data_range is None:
        raise MetricError(
            f"{name} depends on the range of the data, and data_range is None",
            cure="give the largest "
            "value less the smallest that the data can have: 1 for reflectance, 2 for NDVI",
        )
    return float(data_range)


def _positive(data_range: float | None, name: str) -> float:
    value = settled(data_range, name)
    if not 0 < value < np.inf:
        raise MetricError(
            f"data_range={value} of {name!r} is not positive",
            cure="give the largest value less "
            "the smallest that the data can have: 1 for reflectance, 2 for NDVI",
        )
    return value


MetricLike: TypeAlias = str | Metric
OF_VALUES = "of the values"


def _metric(
    name: str, formula: Formula, long_name: str, units: str = "1", citation: str = "", doi: str = ""
) -> Metric:
    return Metric(
        name=name, formula=formula, long_name=long_name, units=units, citation=citation, doi=doi
    )


_GUPTA = ("Gupta et al. 2009", "10.1016/j.jhydrol.2009.08.003")
_KLING = ("Kling, Fuchs and Paulin 2012", "10.1016/j.jhydrol.2012.01.011")
_PIXEL = (
    Count(),
    _metric("rmse", formulas.rmse, "root mean square error", OF_VALUES),
    _metric("mse", formulas.mse, "mean squared error", "square of the values"),
    _metric("mae", formulas.mae, "mean absolute error", OF_VALUES),
    _metric("bias", formulas.bias, "mean error", OF_VALUES),
    _metric("mre", formulas.mre, "mean relative error"),
    _metric("mre_total", formulas.mre_total, "sum of errors over sum of the reference"),
    _metric("r2", formulas.r2, "coefficient of determination, 1 - SSE/SST"),
    _metric("r2_pearson", formulas.r2_pearson, "squared correlation"),
    _metric("cc", formulas.cc, "correlation coefficient"),
    _metric("kge", formulas.kge, "Kling-Gupta efficiency (2009)", "1", *_GUPTA),
    _metric("kge_2012", formulas.kge_2012, "Kling-Gupta efficiency (2012)", "1", *_KLING),
    _metric("slope", formulas.slope, "slope of prediction on reference"),
    _metric("intercept", formulas.intercept, "intercept of prediction on reference", OF_VALUES),
)
METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (*_PIXEL, Psnr(), Sam(), Ergas(), Uiqi(), Ssim(), Skill())
}
DEFAULT = ("n", "rmse", "mae", "bias", "mre", "r2", "cc", "kge", "psnr")
DEFAULT_SPECTRAL = ("sam", "ergas")


def list_metrics() -> list[str]:
    """List the names of metrics that `score` accepts.

    Pixel metrics can be prefixed with any spectral index of `list_indices`: ``ndvi_rmse``,
    ``evi2_bias``, ``nbr_r2``.

    Examples
    --------
    >>> [name for name in list_metrics() if name.startswith("kge")]
    ['kge', 'kge_2012']
    """
    of_values = (name for name, metric in METRICS.items() if metric.formula is not None)
    return sorted([*METRICS, *(f"ndvi_{name}" for name in of_values)])


def register_metric(metric: Metric, *, replace: bool = False) -> None:
    """Register a metric by name, in this process.

    `score`, `statistics` and the command line then take its name, and, where it is a formula on
    moments, its name after that of a spectral index (``ndvi_nrmse``).

    Parameters
    ----------
    metric : Metric
        With a formula, or of a class of its own that computes it.
    replace : bool
        Whether to replace a registered metric of the same name.

    Raises
    ------
    MetricError
        If the name is taken, is no identifier, or the metric computes nothing.

    Examples
    --------
    >>> import numpy as np
    >>> spread = Metric(name="sd_ratio", formula=lambda m: np.divide(*m.deviations))
    >>> register_metric(spread, replace=True)
    >>> get_metric("ndvi_sd_ratio").index
    'ndvi'
    """
    if not metric.name.isidentifier():
        raise MetricError(
            "is no name of a variable",
            cure="give letters, digits and _",
            argument="name",
            value=metric.name,
        )
    if metric.name in METRICS and not replace:
        raise MetricError(
            f"metric {metric.name!r} is registered", cure="pass replace=True to replace it"
        )
    if metric.formula is None and type(metric).compute is Metric.compute:
        raise MetricError(f"metric {metric.name!r} has no formula", cure="give formula=")
    METRICS[metric.name] = metric


def get_metric(name: str) -> Metric:
    """Return a metric by name.

    Raises
    ------
    UnknownMetricError
        If there is no metric of that name; the message suggests similar names.

    Examples
    --------
    >>> get_metric("ndvi_rmse").index
    'ndvi'
    """
    if name in METRICS:
        return METRICS[name]
    index, _, rest = name.partition("_")
    base = METRICS.get(rest)
    if index in INDICES and base is not None and base.formula is not None:
        long_name = f"{base.long_name} of {index.upper()}"
        return replace(base, name=name, index=index, long_name=long_name)
    raise UnknownMetricError(
        f"metric {name!r} is unknown",
        cure=f"{suggest(name, list_metrics())}xh.metrics.list_metrics() has all names",
        value=name,
    )


def _named(name: object) -> Metric:
    if isinstance(name, str):
        return get_metric(name)
    raise MetricError(
        f"{name!r} is neither the name of a metric nor an entry",
        cure="give a name such as 'rmse', or an entry such as Ssim(weights='uniform')",
    )


def resolve(
    metrics: MetricLike | Sequence[MetricLike] | None,
    *,
    data_range: float | None,
    has_bands: bool,
) -> tuple[Metric, ...]:
    """Return the requested metrics, with their data range set.

    Raises
    ------
    MetricError
        If a name occurs twice, or a metric needs a data range or bands that are missing.
    """
    if metrics is None:
        metrics = (*DEFAULT, *(DEFAULT_SPECTRAL if has_bands else ()))
    if isinstance(metrics, (str, Metric)):
        metrics = (metrics,)
    found = [m if isinstance(m, Metric) else _named(m) for m in metrics]
    names = [metric.name for metric in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise MetricError(
            f"metric {', '.join(twice)} is asked for twice",
            cure="give each variant a name of its own, "
            "as in Ssim(name='ssim_uniform', weights='uniform')",
        )
    if not names:
        raise MetricError("metrics= is empty", cure="leave it out for the usual ones")
    bare = [m.name for m in found if (m.needs_bands or m.index) and not has_bands]
    if bare:
        raise MetricError(
            f"{', '.join(bare)} needs at least two bands along the dimension 'band'",
            cure="ask for other metrics",
        )
    return tuple(metric.with_range(data_range) for metric in found)
