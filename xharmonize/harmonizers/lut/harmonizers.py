"""Harmonisers that use look-up tables: one way to make tables, one way to apply them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from xharmonize.cube.companions import ResultFlag
from xharmonize.cube.contract import REFLECTANCE
from xharmonize.errors import ModelError
from xharmonize.harmonizers import base
from xharmonize.harmonizers.lut.apply import Tables, look_up, one_table, refine, tables_for
from xharmonize.harmonizers.lut.histograms import count_tiles, whole
from xharmonize.harmonizers.lut.predictors import (
    Constant,
    Matching,
    Network,
    Predictor,
    Ranges,
    fit_dataset,
    ranges_for,
    stored_table,
)
from xharmonize.harmonizers.protocol import Base, Checked, Fitted, OfBundle
from xharmonize.models.kinds import LutCard
from xharmonize.models.refs import Runtime
from xharmonize.sensors import Names


def require_tables(tables: Any, digest: str | None = None) -> None:
    """Raise `ModelError` unless these are tables of `fit_tables`, from the model of this digest."""
    if not isinstance(tables, xr.Dataset) or tables.attrs.get("model") != "tables":
        raise ModelError(
            "tables= is no Dataset of fit_tables",
            cure="make one: xh.harmonizers.fit_tables(cube, model)",
        )
    if digest is not None and tables.attrs.get("predictor_digest") != digest:
        raise ModelError(
            f"the tables were made by another model ({tables.attrs.get('predictor')!r}, or another "
            "version of it)",
            cure="make them anew: xh.harmonizers.fit_tables(cube, model)",
        )


def require_self_sufficient(tables: xr.Dataset) -> None:
    """Raise `ModelError` if the tables require a network's convolution afterwards."""
    if tables.attrs.get("is_refined"):
        raise ModelError(
            f"after these tables {tables.attrs['predictor']!r} runs a 3x3 convolution",
            cure="pass the model too: to_landsat(model, tables=tables)",
        )


_FACTS = (
    "source_bandpass",
    "source_sensor",
    "source_level",
    "target_bandpass",
    "target_sensor",
    "target_level",
    "direction",
    "min_valid",
)


@dataclass(frozen=True, kw_only=True)
class LookUp(Base):
    """Base class of harmonisers that use look-up tables.

    Attributes
    ----------
    tables : Dataset, optional
        Tables from `fit_tables`; by default they are made in the same graph.
    """

    options: ClassVar[tuple[str, ...]] = ("flags", "tables")
    tells: ClassVar[ResultFlag] = (
        ResultFlag.SATURATED | ResultFlag.OUT_OF_DOMAIN | ResultFlag.PARTIAL_CONTEXT
    )
    tables: xr.Dataset | None = None

    @abstractmethod
    def predictor(self) -> Predictor:
        """Makes tables from histograms."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Direction, bandpasses and levels: attributes of the tables it makes."""

    def given_tables(self) -> xr.Dataset | None:
        """Tables given by the user."""
        return self.tables

    def own_tables(self, cube: xr.DataArray) -> Tables:
        """Tables made from the cube if none were given."""
        return tables_for(cube, self.fit_tables(cube))

    def fit_tables(
        self,
        cube: xr.DataArray | xr.Dataset,
        *,
        tile: float | None = None,
        interpolate: bool = False,
        min_valid: float = 0.0,
    ) -> xr.Dataset:
        """Make the Dataset of `xharmonize.harmonizers.fit_tables`."""
        array = cube if isinstance(cube, xr.DataArray) else cube[REFLECTANCE]
        is_due = self.check(array).is_due
        if not any(is_due):
            raise ModelError(f"all dates are in {self.target_bandpass} already: no tables to fit")
        return fit_dataset(
            array.isel(time=np.flatnonzero(is_due)),
            self.predictor(),
            self.facts(),
            tile=tile,
            interpolate=interpolate,
            min_valid=min_valid,
        )

    def changed(self, cube: xr.Dataset, checked: Checked, **_: Any) -> xr.Dataset:
        """Apply given tables, or tables made from the cube; drops ``uncertainty``."""
        return base.change_steps(cube, checked.is_due, self._map, takes_encoded=True)

    def _map(self, cube: xr.Dataset) -> xr.Dataset:
        array = cube[REFLECTANCE]
        ranges = ranges_for(array, self.predictor())
        given = self.given_tables()
        if given is None:
            tables = self.own_tables(array)
        else:
            self.check_tables(given)
            tables = tables_for(array, given)
        data, marks = look_up(array, tables, flags=self.flags)
        data, marks = self.finish(data, marks)
        names = dict(zip(ranges.bands, ranges.targets))
        target = base.Target(
            bandpass=self.target_bandpass,
            bands=tuple(names[band] for band in tables.bands),
            sources=tables.bands,
            history=f"{self.name}: {self.facts()['direction']}, {self.extent()}"
            f"{base.drop_note(array, tables.bands)}",
        )
        result = base.rebuild(array, data, target).to_dataset(name=REFLECTANCE)
        return result if marks is None else result.assign(flag=(("time", "y", "x"), marks))

    def check_tables(self, tables: xr.Dataset) -> None:
        """Refuse given tables that are invalid or belong to another model."""
        require_tables(tables)
        if tables.attrs["target_bandpass"] != self.target_bandpass:
            raise ModelError(
                f"the tables lead to {tables.attrs['target_bandpass']}, model {self.name!r} to "
                f"{self.target_bandpass}",
                cure="make them anew: xh.harmonizers.fit_tables(cube, model)",
            )

    def finish(self, data: Any, marks: Any) -> tuple[Any, Any]:
        """Post-process the mapped reflectance; only networks with a convolution do."""
        return data, marks

    def extent(self) -> str:
        """Origin of the histograms behind the tables, for the history."""
        given = self.given_tables()
        if given is None:
            return self.own_extent()
        blended = ", interpolated" if given.attrs["interpolate"] else ""
        tile, maker = given.attrs["tile"], given.attrs["predictor"]
        return f"given tables of {maker}, tiles of {tile:g} m{blended}"

    def own_extent(self) -> str:
        """Origin of the histograms if no tables were given."""
        return "tables per tile and date"


@dataclass(frozen=True, kw_only=True)
class FittedLookUp(LookUp, Fitted):
    """Base class of harmonisers whose tables come from a fit."""

    def facts(self) -> dict[str, Any]:
        """Attributes of the fit."""
        return {name: self.fit.attrs[name] for name in _FACTS if name in self.fit.attrs}


@dataclass(frozen=True, kw_only=True)
class LutHarmonizer(OfBundle, LookUp):
    """Apply a bundle of kind ``lut``: a network that makes tables from the tiles' histograms.

    References
    ----------
    Liu, Z.-Q. et al. (2023), Bandpass alignment from Sentinel-2 to Gaofen-1 ARD products with
    UNet-induced tile-adaptive lookup tables, Remote Sensing 15, 2563, doi:10.3390/rs15102563.
    """

    card: LutCard
    options: ClassVar[tuple[str, ...]] = ("flags", "tables", "runtime")
    changes_grid: bool = field(default=False, init=False)
    citation: str = "Liu et al. (2023), doi:10.3390/rs15102563"

    def predictor(self) -> Predictor:
        """The network."""
        return Network(ref=self.ref, card=self.card, runtime=self.runtime or Runtime())

    def facts(self) -> dict[str, Any]:
        """Direction, bandpasses and levels of the card."""
        source, target = self.card.source_bandpass, self.card.target_bandpass
        return {
            "source_bandpass": source,
            "source_sensor": self.card.source_sensor,
            "source_level": str(Names.of(self.card.levels)),
            "target_bandpass": target,
            "direction": f"{source or 'any'} to {target}",
            "min_valid": self.card.min_valid,
            "is_refined": int(self.card.has_refinement),
        }

    def check_tables(self, tables: xr.Dataset) -> None:
        """Refuse tables of another network."""
        require_tables(tables, self.ref.digest)

    def finish(self, data: Any, marks: Any) -> tuple[Any, Any]:
        """Apply the network's convolution, if it has one."""
        return refine(data, marks, self.ref, self.card, self.runtime or Runtime())


HISTOGRAM, LUT = "histogram", "lut"


@dataclass(frozen=True, kw_only=True)
class HistogramHarmonizer(FittedLookUp):
    """Apply a fit of `fit_histogram`: match values of equal cumulative frequency, per band.

    Attributes
    ----------
    fit : Dataset
        Has ``reference`` (band, bin) and optionally ``source`` (band, bin).
    tables : Dataset, optional
        Tables from `fit_tables`; by default one table for all pixels, per series or per date.
    flags : bool
        Whether to make the ``flag`` companion.
    """

    name: str = "histogram fit"
    citation: str = "Gonzalez and Woods (2018), Digital Image Processing, section 3.3"

    def predictor(self) -> Predictor:
        """Matching to the stored target; a single table if both histograms are stored."""
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
        """One table for all pixels, from the cube's own histogram if none is stored."""
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
        """Which histogram is matched, for the history."""
        return "stored source" if "source" in self.fit else f"per {self.fit.attrs['per']}"


@dataclass(frozen=True, kw_only=True)
class GlobalLutHarmonizer(FittedLookUp):
    """Apply a fit of `fit_lut`: one table per band, the same everywhere.

    Attributes
    ----------
    fit : Dataset
        Has ``table`` (band, knot).
    tables, flags
        As for `HistogramHarmonizer`.
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
        """Data behind the table, for the history."""
        return f"on {self.fit.attrs['dates']}"


@dataclass(frozen=True, kw_only=True)
class TileLutHarmonizer(FittedLookUp):
    """Apply a fit of `fit_tables`: a pointwise map for the dates and tiles of the fit.

    Attributes
    ----------
    fit : Dataset
        Has ``tables`` (time, tile_y, tile_x, band, knot).
    flags : bool
        Whether to make the ``flag`` companion.
    """

    name: str = "tables"
    citation: str = "fitted on the dates and tiles it holds"
    options: ClassVar[tuple[str, ...]] = ("flags",)

    def predictor(self) -> Predictor:
        """Raise: new tables cannot be made from tables."""
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
        """Refuse tables that require a network's convolution afterwards."""
        require_self_sufficient(tables)

    def given_tables(self) -> xr.Dataset:
        """The fit itself."""
        return self.fit

    def fit_tables(self, *_: Any, **__: Any) -> xr.Dataset:
        """Raise: the Dataset holds tables, not a model that makes them."""
        raise ModelError(
            "these are tables already",
            cure=f"pass the model that made them to fit_tables ({self.fit.attrs['predictor']})",
        )
