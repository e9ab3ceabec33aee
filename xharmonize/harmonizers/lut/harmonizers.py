"""Harmonisers that map through fitted tables: matching, global, per tile and date."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from xharmonize.errors import ModelError
from xharmonize.harmonizers.lut.apply import Tables, one_table
from xharmonize.harmonizers.lut.base import FittedLookUp
from xharmonize.harmonizers.lut.check import require_self_sufficient
from xharmonize.harmonizers.lut.counting import count_tiles
from xharmonize.harmonizers.lut.fit import ranges_for
from xharmonize.harmonizers.lut.predictors import (
    Constant,
    Matching,
    Predictor,
    Ranges,
    stored_table,
)
from xharmonize.harmonizers.lut.tiles import whole

HISTOGRAM, LUT = "histogram", "lut"


@dataclass(frozen=True, kw_only=True)
class HistogramHarmonizer(FittedLookUp):
    """Apply a fit of `fit_histogram`: the value of the same cumulative frequency, per band.

    Attributes
    ----------
    fit : Dataset
        With ``reference`` (band, bin) and perhaps ``source`` (band, bin).
    tables : Dataset, optional
        Of `fit_tables`; without, one table serves all pixels, per series or per date.
    flags : bool
        Also make the ``flag`` companion.
    """

    name: str = "histogram fit"
    citation: str = "Gonzalez and Woods (2018), Digital Image Processing, section 3.3"

    def predictor(self) -> Predictor:
        """Matching to the stored target; of two stored histograms, one table."""
        low, high = float(self.fit.attrs["low"]), float(self.fit.attrs["high"])
        n, bins = self.fit.sizes["band"], self.fit.sizes["bin"]
        ranges = Ranges(
            bands=self.bands,
            targets=self.bands,
            low=np.full(n, low),
            high=np.full(n, high),
            bins=bins,
            knots=bins + 1,
        )
        if "source" in self.fit:
            return Constant(name=self.name, ranges=ranges, table=stored_table(self.fit))
        reference = self.fit["reference"].data
        return Matching(name=self.name, ranges=ranges, reference=reference, limits=(low, high))

    def own_tables(self, cube: xr.DataArray) -> Tables:
        """One table for all pixels, from the cube's own histogram where none is stored."""
        predictor = self.predictor()
        ranges = ranges_for(cube, predictor)
        if "source" in self.fit:
            counts: Any = np.zeros((1, 1, 1, len(ranges.bands), ranges.bins), np.int64)
            return one_table(cube, predictor.tables(counts, ranges), ranges)
        chosen = cube.sel(band=list(ranges.bands))
        counts = count_tiles(chosen, *whole(cube), ranges.low, ranges.high, ranges.bins)
        if self.fit.attrs["per"] == "series":
            counts = counts.sum(axis=0, keepdims=True)
        return one_table(cube, predictor.tables(counts, ranges), ranges)

    def own_extent(self) -> str:
        """Whose histogram is matched, for the history."""
        return "stored source" if "source" in self.fit else f"per {self.fit.attrs['per']}"


@dataclass(frozen=True, kw_only=True)
class GlobalLutHarmonizer(FittedLookUp):
    """Apply a fit of `fit_lut`: one table per band, the same everywhere.

    Attributes
    ----------
    fit : Dataset
        With ``table`` (band, knot).
    tables, flags
        As of `HistogramHarmonizer`.
    """

    name: str = "look-up table fit"
    citation: str = "fitted on the pairs named in its attribute dates"

    def predictor(self) -> Predictor:
        """The one table."""
        knots = self.fit.sizes["knot"]
        ranges = Ranges(
            bands=self.bands,
            targets=self.bands,
            low=np.asarray(self.fit["low"].values),
            high=np.asarray(self.fit["high"].values),
            bins=knots - 1,
            knots=knots,
        )
        return Constant(name=self.name, ranges=ranges, table=self.fit["table"].data)

    def own_tables(self, cube: xr.DataArray) -> Tables:
        """The one table."""
        predictor = self.predictor()
        ranges = ranges_for(cube, predictor)
        counts = np.zeros((1, 1, 1, len(ranges.bands), ranges.bins), np.int64)
        return one_table(cube, predictor.tables(counts, ranges), ranges)

    def own_extent(self) -> str:
        """What the table rests on, for the history."""
        return f"on {self.fit.attrs['dates']}"


@dataclass(frozen=True, kw_only=True)
class TileLutHarmonizer(FittedLookUp):
    """Apply a fit of `fit_tables`: a pure map on the dates and tiles it was fitted on.

    Attributes
    ----------
    fit : Dataset
        With ``tables`` (time, tile_y, tile_x, band, knot).
    flags : bool
        Also make the ``flag`` companion.
    """

    name: str = "tables"
    citation: str = "fitted on the dates and tiles it holds"
    options: ClassVar[tuple[str, ...]] = ("flags",)

    def predictor(self) -> Predictor:
        """What the tables map; new ones cannot be made of them."""
        ranges = Ranges(
            bands=self.bands,
            targets=tuple(map(str, self.fit["target_band"].values)),
            low=np.asarray(self.fit["low"].values),
            high=np.asarray(self.fit["high"].values),
            bins=self.fit.sizes["bin"],
            knots=self.fit.sizes["knot"],
        )
        return Constant(name=self.name, ranges=ranges, table=np.empty(0))

    def check_tables(self, tables: xr.Dataset) -> None:
        """Refuse tables that the network's convolution has to follow."""
        require_self_sufficient(tables)

    def given_tables(self) -> xr.Dataset:
        """The fit itself."""
        return self.fit

    def fit_tables(self, *_: Any, **__: Any) -> xr.Dataset:
        """Refuse: the Dataset holds tables, not what makes them."""
        raise ModelError(
            "these are tables already; pass the model that made them to fit_tables "
            f"({self.fit.attrs['predictor']})"
        )
