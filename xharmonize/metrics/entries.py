"""What a metric is: its statistics, its formula, its options, and where it was defined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from xharmonize.errors import MetricError
from xharmonize.kernels.statistics import merge_moments
from xharmonize.metrics import formulas
from xharmonize.metrics.formulas import Formula, Moments
from xharmonize.types import Float64Array

MOMENTS, ANGLES, ERRORS = "moments", "angles", "baseline_errors"
"""Statistics that metrics read, beside those of indices (``ndvi_moments``) and of windows."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric that is a formula on the moments of prediction and reference.

    Attributes
    ----------
    name : str
        Name of the variable in a score.
    long_name, units : str
        For people; the unit is that of the cube where it says ``"of the values"``.
    formula : callable, optional
        `Moments` to an array of their shape.
    index : str
        Spectral index whose agreement is measured; empty for the bands themselves.
    citation, doi : str
        Where it was defined.
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

    def compute(self, rows: Float64Array) -> Float64Array:
        """Return the metric (...) from rows of statistics (..., field)."""
        if self.formula is None:
            raise MetricError(f"metric {self.name!r} has no formula; give formula=")
        return self.formula(Moments(rows))

    def pool(self, rows: Float64Array) -> Float64Array:
        """Return the metric over all bands (...) from rows (..., band, field)."""
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

    def compute(self, rows: Float64Array) -> Float64Array:
        """Return the metric (...) from rows of moments (..., 11)."""
        return formulas.psnr(Moments(rows), settled(self.data_range, self.name))


@dataclass(frozen=True, kw_only=True)
class Sam(Metric):
    """Spectral angle mapper: mean angle between the spectra of a pixel.

    A pixel counts where all bands are finite in both and neither spectrum is zero.

    Attributes
    ----------
    unit : {"rad", "deg"}
        Radian or degree.
    """

    name: str = "sam"
    long_name: str = "mean spectral angle"
    citation: str = "Kruse et al. 1993"
    doi: str = "10.1016/0034-4257(93)90013-N"
    unit: Literal["rad", "deg"] = "rad"
    needs_bands: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.unit not in ("rad", "deg"):
            raise MetricError(f"unit={self.unit!r} is no unit of angle here; choose 'rad' or 'deg'")
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
        """Return the mean angle (...) from rows of count and sum (..., 2)."""
        mean = formulas.ratio_of_sums(rows)
        return mean if self.unit == "rad" else np.rad2deg(mean)


@dataclass(frozen=True, kw_only=True)
class Ergas(Metric):
    """Relative dimensionless global error in synthesis, from the moments of each band.

    Attributes
    ----------
    ratio : float
        Pixel size of the fine image over that of the coarse: 1 at equal size, 1/3 or 1/2 for
        fusion.
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
            raise MetricError(f"ratio={self.ratio} is no ratio of pixel sizes; give 1 or 1/3, 1/2")

    @property
    def has_band(self) -> bool:
        """Whether there is one number per band."""
        return False

    def compute(self, rows: Float64Array) -> Float64Array:
        """Return the metric (...) from rows of moments (..., band, 11)."""
        return formulas.ergas(Moments(rows), self.ratio)


@dataclass(frozen=True, kw_only=True)
class Skill(Metric):
    """Skill against a baseline: 1 - MSE / MSE of the baseline, where all three are finite."""

    name: str = "skill"
    long_name: str = "skill score against the baseline"
    citation: str = "Murphy 1988"
    doi: str = "10.1175/1520-0493(1988)116<2417:SSBOTM>2.0.CO;2"

    @property
    def statistic(self) -> str:
        """Variable of the statistics that the formula reads."""
        return ERRORS

    def compute(self, rows: Float64Array) -> Float64Array:
        """Return the skill (...) from rows of sums (..., 3)."""
        return formulas.skill(rows)

    def pool(self, rows: Float64Array) -> Float64Array:
        """Return the skill over all bands (...) from rows (..., band, 3)."""
        return self.compute(np.asarray(rows.sum(axis=-2)))


@dataclass(frozen=True, kw_only=True)
class WindowMetric(Metric):
    """A mean over windows that slide over y and x.

    Attributes
    ----------
    size : int
        Side of the window [pixel].
    min_valid : float
        Least valid share of a window's weight [1]; its moments are those of its valid pixels.
    """

    size: int = 0
    min_valid: float = 0.5
    is_windowed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.size >= 1 or self.size != int(self.size):
            raise MetricError(f"size={self.size} of {self.name!r} is no number of pixels")
        if not 0 <= self.min_valid <= 1:
            raise MetricError(f"min_valid={self.min_valid} of {self.name!r} is not from 0 to 1")

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
        """Return the mean over windows (...) from rows of count and sum (..., 2)."""
        return formulas.ratio_of_sums(rows)

    def pool(self, rows: Float64Array) -> Float64Array:
        """Return the mean over the bands that have windows, of their means."""
        means = self.compute(rows)
        count = np.isfinite(means).sum(axis=-1)
        return np.asarray(np.nansum(means, axis=-1) / np.where(count > 0, count, np.nan))


@dataclass(frozen=True, kw_only=True)
class Uiqi(WindowMetric):
    """Universal image quality index: uniform windows at all positions, mean over windows.

    Where both images are flat in a window, only their means are compared (identical: 1).
    """

    name: str = "uiqi"
    long_name: str = "universal image quality index"
    citation: str = "Wang and Bovik 2002"
    doi: str = "10.1109/97.995823"
    size: int = 32


@dataclass(frozen=True, kw_only=True)
class Ssim(WindowMetric):
    """Structural similarity: windows wholly inside the image, population covariance.

    Attributes
    ----------
    kind : {"gaussian", "uniform"}
        Weights of the window: Gaussian of `sigma`, 11 pixels wide, or uniform, 7 pixels wide.
    size : int
        Side of the window [pixel]; 0 is 11 or 7 by `kind`.
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
    kind: Literal["gaussian", "uniform"] = "gaussian"
    sigma: float = 1.5
    k1: float = 0.01
    k2: float = 0.03
    data_range: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("gaussian", "uniform"):
            raise MetricError(f"kind={self.kind!r} is unknown; choose 'gaussian' or 'uniform'")
        if not self.sigma > 0 or not self.k1 > 0 or not self.k2 > 0:
            raise MetricError(f"sigma={self.sigma}, k1={self.k1}, k2={self.k2} must be positive")
        if not self.size:
            object.__setattr__(self, "size", 11 if self.kind == "gaussian" else 7)
        super().__post_init__()

    @property
    def window(self) -> Literal["gaussian", "uniform"]:
        """Weights of the window."""
        return self.kind

    @property
    def constants(self) -> tuple[float, float]:
        """C1 and C2 of the index."""
        data_range = settled(self.data_range, self.name)
        return (self.k1 * data_range) ** 2, (self.k2 * data_range) ** 2


def settled(data_range: float | None, name: str) -> float:
    """Return the range of the data, or raise `MetricError` that says why it is needed."""
    if data_range is None:
        raise MetricError(
            f"{name} depends on the range of the data, and data_range is None; give the largest "
            "value less the smallest that the data can have: 1 for reflectance, 2 for NDVI"
        )
    return float(data_range)
