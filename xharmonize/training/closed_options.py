"""Options of what is solved at once: one frozen dataclass per closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from xharmonize.models.card import Within
from xharmonize.training.settings import Settings

Weight = Literal["pixel", "pair"]


@dataclass(frozen=True, kw_only=True)
class Closed(Settings):
    """What is solved at once, by a function of the library that its docstring names."""

    name: ClassVar[str]


@dataclass(frozen=True, kw_only=True)
class Ols(Closed):
    """A line per band by least squares: `xharmonize.fit_linear`."""

    name: ClassVar[str] = "ols"
    weight: Weight = "pixel"


@dataclass(frozen=True, kw_only=True)
class MultiOls(Closed):
    """Every target band from all source bands: ``fit_linear(method="multiband")``."""

    name: ClassVar[str] = "multi-ols"
    weight: Weight = "pixel"
    ridge: Annotated[float, Within(0.0, 1e6)] = 0.0


@dataclass(frozen=True, kw_only=True)
class Deming(Closed):
    """A line per band that allows for errors on both sides: ``fit_linear(method="deming")``."""

    name: ClassVar[str] = "deming"
    weight: Weight = "pixel"
    ratio: Annotated[float, Within(1e-6, 1e6)] = 1.0


@dataclass(frozen=True, kw_only=True)
class PerPixel(Closed):
    """A line per pixel: `xharmonize.fit_pixelwise`.

    Attributes
    ----------
    neighbours : bool
        Whether pixels with too few pairs use those of the 3 x 3 pixels around.
    """

    name: ClassVar[str] = "per-pixel"
    n_min: Annotated[int, Within(2, 10**4)] = 4
    fallback: Literal["difference", "line"] = "line"
    neighbours: bool = False


@dataclass(frozen=True, kw_only=True)
class HistogramMatching(Closed):
    """The source's distribution becomes the target's: `xharmonize.harmonizers.fit_histogram`."""

    name: ClassVar[str] = "histogram-matching"
    per: Literal["source", "date"] = "source"


@dataclass(frozen=True, kw_only=True)
class Auto(Closed):
    """The fixed recipe of `xharmonize.harmonizers.auto.fit_auto`.

    Attributes
    ----------
    allow_one_pair : bool
        Whether to fit on one pair alone, which is refused otherwise.
    """

    name: ClassVar[str] = "auto"
    allow_one_pair: bool = False
