"""The kind ``lut``: histograms to look-up tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from xharmonize.errors import ModelError
from xharmonize.models.card import (
    Bands,
    Call,
    Card,
    Numbers,
    Part,
    Shapes,
    Within,
    array,
    require_bands,
)

TABLES = 256
"""Histograms run at once by default."""


@dataclass(frozen=True, kw_only=True)
class Histograms(Part):
    """The histograms that tables are made from and the knots of the tables.

    Attributes
    ----------
    bands : tuple of str
        STAC common names.
    bins : int
        Evenly spaced bins over ``[low, high]`` of each band; values beyond count in the end bins.
    knots : int
        Nodes of a table, evenly spaced over ``[low, high]``, ends included.
    low, high : tuple of float
        Per band, reflectance [1].
    tile : float
        Side of the tile a histogram is counted over [m]; tile edges lie at its multiples.
    """

    bands: Bands
    bins: Annotated[int, Within(2, 2**16)]
    knots: Annotated[int, Within(2, 2**16)]
    low: Numbers
    high: Numbers
    tile: Annotated[float, Within(0.01, 1e7)]

    def check(self) -> None:
        """Refuse histograms whose parts do not fit together."""
        require_bands("histograms", self.bands, low=self.low, high=self.high)
        if any(not low < high for low, high in zip(self.low, self.high)):
            raise ModelError(
                f"histogram limits {self.low} and {self.high} do not ascend", cure="give low < high"
            )


@dataclass(frozen=True, kw_only=True)
class LutCard(Card):
    """The card of a network that makes tables; see `Card` for the fields that all kinds have.

    Attributes
    ----------
    histograms : Histograms
        What tables are made from.
    """

    kind: ClassVar[str] = "lut"
    harmonizer: ClassVar[str] = "xharmonize.harmonizers.lut.harmonizers:LutHarmonizer"
    histograms: Histograms

    @property
    def bands(self) -> tuple[str, ...]:
        """Source bands the model needs."""
        return self.histograms.bands

    @property
    def has_refinement(self) -> bool:
        """Whether the network refines the mapped image by a convolution."""
        return bool(self.hyperparameters.get("refine", self.architecture == "unet-lut"))

    @property
    def result(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Shape and dimensions of one set of tables."""
        return (len(self.output.bands), self.histograms.knots), ("band", "knot")

    def write_inputs(self) -> list[dict[str, Any]]:
        """Return the one input in the terms of the extension."""
        bands = list(self.bands)
        counts = array((len(bands), self.histograms.bins), ("band", "bin"))
        return [{"name": "histograms", "bands": bands, "input": counts}]

    def n_at_once(self, device: str) -> int:  # noqa: ARG002
        """Number of histograms, `TABLES`."""
        return TABLES

    def facts(self) -> dict[str, str]:
        """Bands and histograms."""
        parts = self.histograms
        return {
            **super().facts(),
            "tables": f"{parts.bins} bins, {parts.knots} knots, tiles of {parts.tile:g} m",
        }

    def _tables(self, shapes: Shapes) -> tuple[int, ...]:
        """One table per output band."""
        self._require(shapes, (len(self.bands), self.histograms.bins))
        return (shapes[0][0], len(self.output.bands), self.histograms.knots)

    def _refined(self, shapes: Shapes) -> tuple[int, ...]:
        """An image of the same shape."""
        self._require(shapes, (len(self.output.bands), *shapes[0][2:]))
        return shapes[0]

    def _require(self, shapes: Shapes, inner: tuple[int, ...]) -> None:
        if len(shapes) != 1 or shapes[0][1:] != inner:
            wanted = ", ".join(map(str, inner))
            raise ModelError(f"{self.name!r} takes one batch of (n, {wanted}), not {list(shapes)}")

    forward: ClassVar[Call] = Call(method="forward", answer=_tables)
    refine: ClassVar[Call] = Call(method="refine", answer=_refined)
    """The small convolution that follows the tables of a UNet-LUT, on the mapped image."""
