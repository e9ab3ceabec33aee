"""Methods of smoothing, with their options."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from xharmonize.errors import OptionError

PenaltyRule: TypeAlias = Literal["reml", "gcv", "v-curve"]


@dataclass(frozen=True, kw_only=True)
class Whittaker:
    """Penalised least squares: close to the data, small second and first derivative.

    On five real data sets, each smoothed by the setting that the other four chose, it came 2 to 8 %
    nearer to withheld looks than straight lines do; at single dates of a quiet pixel, and where
    very few looks are left, no nearer (docs/reference/measurements.md).

    Attributes
    ----------
    penalty : float, "reml", "gcv" or "v-curve"
        λ [day³], the same whatever the dates and the output step: the curve follows changes that
        take longer than about λ^(1/4) days where there is a value a day. Or how to choose one per
        pixel from `candidates`: by restricted maximum likelihood; by generalised cross-validation,
        which now and then follows every value of a series; or by the V-curve, which smooths more
        and does not take errors shared by neighbouring dates for signal.
    relaxation : float
        τ [day]: the slope of the curve is remembered over about this time. In gaps that are much
        longer the curve comes near to a straight line; ``math.inf`` is the smoother of Whittaker
        and Eilers, which carries slopes on through gaps.
    candidates : tuple of float
        Penalties to choose from, ascending; for the V-curve at equal ratios.
    inflation : float
        Factor on the degrees of freedom in cross-validation, at least 1, which is the plain form;
        more keeps short series from being followed value by value.

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
    relaxation: float = 30.0
    candidates: tuple[float, ...] = tuple(10.0 ** (k / 2) for k in range(4, 9))
    inflation: float = 1.2

    def __post_init__(self) -> None:
        object.__setattr__(self, "candidates", tuple(map(float, self.candidates)))
        if isinstance(self.penalty, str):
            if self.penalty not in ("reml", "gcv", "v-curve"):
                raise OptionError(
                    f"penalty={self.penalty!r}; give a number [day³], 'reml', 'gcv' or 'v-curve'"
                )
        else:
            _require_positive("penalty", self.penalty)
        if not self.relaxation > 0:
            raise OptionError(
                f"relaxation={self.relaxation}; give a number of days above 0, or math.inf"
            )
        if not (math.isfinite(self.inflation) and self.inflation >= 1):
            raise OptionError(f"inflation={self.inflation}; give a factor of 1 or more")
        ascending = all(a < b for a, b in zip(self.candidates, self.candidates[1:]))
        if len(self.candidates) < 3 or not ascending or not self.candidates[0] > 0:
            raise OptionError(
                f"candidates={self.candidates}; give at least 3 penalties above 0, ascending"
            )

    def __str__(self) -> str:
        return f"whittaker, penalty={self.penalty}, relaxation={self.relaxation:g} days"


@dataclass(frozen=True, kw_only=True)
class SavitzkyGolay:
    """A polynomial fitted around each date.

    Attributes
    ----------
    window : float
        Width of the window [day]; where it holds no more observations than `order` the result is
        NaN.
    order : int
        Of the polynomial, 0 to 5.

    Examples
    --------
    >>> from xharmonize.testing import example_cube
    >>> dates = [f"2018-{month:02}-01" for month in range(1, 13)]
    >>> ndvi = example_cube(bands=("red", "nir08"), dates=dates).harmonize.index("ndvi")
    >>> ndvi.harmonize.smooth(SavitzkyGolay(window=121.0)).sizes["time"]
    12
    """

    window: float = 60.0
    order: int = 2

    def __post_init__(self) -> None:
        _require_positive("window", self.window)
        if not (isinstance(self.order, int) and 0 <= self.order <= 5):
            raise OptionError(f"order={self.order}; give a whole number from 0 to 5")

    def __str__(self) -> str:
        return f"savgol, window={self.window:g} days, order={self.order}"


@dataclass(frozen=True, kw_only=True)
class Harmonic:
    """A constant and yearly waves, fitted to the whole series.

    Attributes
    ----------
    count : int
        Number of waves: 1 yearly, 2 half-yearly as well, …
    period : float
        Length of the first [day].
    trend : bool
        Whether there is a linear trend.

    Examples
    --------
    >>> from xharmonize.testing import example_cube
    >>> dates = [f"2018-{month:02}-01" for month in range(1, 13)]
    >>> ndvi = example_cube(bands=("red", "nir08"), dates=dates).harmonize.index("ndvi")
    >>> ndvi.harmonize.smooth(Harmonic(count=1), step="10D").sizes["time"]
    34
    """

    count: int = 3
    period: float = 365.25
    trend: bool = False

    def __post_init__(self) -> None:
        _require_positive("period", self.period)
        if not (isinstance(self.count, int) and self.count >= 1):
            raise OptionError(f"count={self.count}; give a whole number of waves, at least 1")

    def __str__(self) -> str:
        return f"harmonic, count={self.count}, period={self.period:g} days, trend={self.trend}"


@dataclass(frozen=True, kw_only=True)
class RadialBasis:
    """Gaussian averages of several widths, each counting by the observations under it.

    Attributes
    ----------
    widths : tuple of float
        Standard deviations [day].

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

    widths: tuple[float, ...] = (8.0, 16.0, 32.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(map(float, self.widths)))
        if not self.widths:
            raise OptionError("widths=(); give at least one standard deviation [day]")
        for width in self.widths:
            _require_positive("widths", width)

    def __str__(self) -> str:
        return f"rbf, widths={', '.join(f'{width:g}' for width in self.widths)} days"


Smoother: TypeAlias = Whittaker | SavitzkyGolay | Harmonic | RadialBasis


def _require_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise OptionError(f"{name}={value}; give a finite number above 0")
