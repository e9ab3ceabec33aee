"""Harmonisers that map through look-up tables: matching, global, fitted per tile, by network."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from xharmonize.cube.contract import REFLECTANCE, read_contract, require_contract
from xharmonize.cube.flags import ResultFlag, cf_attrs
from xharmonize.errors import ModelError
from xharmonize.harmonizers import blocks
from xharmonize.harmonizers.linear import require_level
from xharmonize.harmonizers.lut.apply import Tables, look_up, one_table, tables_for
from xharmonize.harmonizers.lut.check import require_card, require_self_sufficient, require_tables
from xharmonize.harmonizers.lut.counting import count_tiles
from xharmonize.harmonizers.lut.fit import fit_dataset, ranges_for
from xharmonize.harmonizers.lut.predictors import (
    Constant,
    Matching,
    Network,
    Predictor,
    Ranges,
    stored_table,
)
from xharmonize.harmonizers.lut.refine import has_refinement, refine
from xharmonize.harmonizers.lut.tiles import whole
from xharmonize.harmonizers.protocol import FittedProperties
from xharmonize.models.card import Card
from xharmonize.models.refs import ModelRef, Runtime

_FACTS = (
    "source_bandpass",
    "source_sensor",
    "source_level",
    "target_bandpass",
    "target_sensor",
    "target_level",
    "direction",
    "min_valid_fraction",
)
HISTOGRAM, LUT = "histogram", "lut"
FLAG_ATTRS = cf_attrs(ResultFlag, dtype="uint8", long_name="what is to be known about the value")


class LookUp:
    """What harmonisers by look-up tables share: one way to make tables, one way to apply them."""

    name: str
    target_bandpass: str
    flags: bool
    tables: xr.Dataset | None

    def predictor(self) -> Predictor:
        """What makes tables of histograms."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """Direction, bandpasses and levels, as attributes of the tables it makes."""
        raise NotImplementedError

    def own_tables(self, cube: xr.DataArray) -> Tables:
        """Tables where none were given."""
        return tables_for(cube, self.fit_tables(cube))

    def fit_tables(
        self,
        cube: xr.DataArray | xr.Dataset,
        *,
        tile: float | None = None,
        interpolate: bool = False,
        min_coverage: float = 0.0,
    ) -> xr.Dataset:
        """Make the Dataset of `xharmonize.fit_tables`."""
        array = cube if isinstance(cube, xr.DataArray) else cube[REFLECTANCE]
        require_contract(array)
        is_foreign = self.foreign(array)
        if not any(is_foreign):
            raise ModelError(f"all dates are in {self.target_bandpass} already: no tables to fit")
        return fit_dataset(
            array.isel(time=np.flatnonzero(is_foreign)),
            self.predictor(),
            self.facts(),
            tile=tile,
            interpolate=interpolate,
            min_coverage=min_coverage,
        )

    def foreign(self, cube: xr.DataArray) -> list[bool]:
        """Which steps have to be changed; refuses steps the model is not for."""
        facts = self.facts()
        return blocks.foreign_steps(
            cube,
            source_bandpass=str(facts.get("source_bandpass", "")),
            target_bandpass=str(facts["target_bandpass"]),
            source_sensor=str(facts.get("source_sensor", "")),
            name=self.name,
        )

    def __call__(self, cube: blocks.Cube) -> blocks.Cube:
        """Return the cube in the target's bandpass; drops ``uncertainty``."""
        require_contract(cube)
        found: list[Any] = []
        result: Any = blocks.on_cube(cube, lambda array: self._apply(array, found), None)
        if not self.flags:
            return result  # type: ignore[no-any-return]
        if isinstance(result, xr.DataArray):
            result = result.to_dataset(name=REFLECTANCE)
        return result.assign(flag=_merged(result, found))  # type: ignore[no-any-return]

    def _apply(self, array: xr.DataArray, found: list[Any]) -> xr.DataArray:
        is_foreign = self.foreign(array)

        def change(part: xr.DataArray) -> xr.DataArray:
            result, marks = self._map(part)
            found.append((np.flatnonzero(is_foreign), marks))
            return result

        return blocks.change_steps(array, is_foreign, change, takes_encoded=True)

    def _map(self, array: xr.DataArray) -> tuple[xr.DataArray, Any]:
        array = array.transpose("time", "band", "y", "x")
        ranges = ranges_for(array, self.predictor())
        if self.tables is not None:
            self.check_tables(self.tables)
        chosen = tables_for(array, self.tables) if self.tables is not None else None
        tables = chosen or self.own_tables(array)
        data, marks = look_up(array, tables, flags=self.flags)
        data, marks = self.finish(data, marks)
        names = dict(zip(ranges.bands, ranges.targets))
        target = blocks.Target(
            bandpass=self.target_bandpass,
            bands=tuple(names[band] for band in tables.bands),
            sources=tables.bands,
            history=f"{self.name}: {self.facts()['direction']}, {self.extent()}"
            f"{blocks.drop_note(array, tables.bands)}",
        )
        return blocks.rebuild(array, data, target), marks

    def check_tables(self, tables: xr.Dataset) -> None:
        """Refuse given tables that are none, or not of this model."""
        require_tables(tables)

    def finish(self, data: Any, marks: Any) -> tuple[Any, Any]:
        """What follows the tables; nothing, but for networks that look at neighbours."""
        return data, marks

    def extent(self) -> str:
        """Whose histograms the tables come from, in words."""
        given = self.tables
        return "tables per tile and date" if given is None else tables_note(given)


def tables_note(fit: xr.Dataset) -> str:
    """What a fit of `fit_tables` is, for the history."""
    blended = ", interpolated" if fit.attrs["interpolate"] else ""
    return f"given tables of {fit.attrs['predictor']}, tiles of {fit.attrs['tile']:g} m{blended}"


def _merged(result: xr.Dataset, found: list[Any]) -> xr.DataArray:
    """Flags (time, y, x) of all steps: 0 for those that passed through; with the cube's own."""
    array = result[REFLECTANCE]
    template = array.isel(band=0, drop=True)
    n_times = template.sizes["time"]
    if not found:
        data: Any = xr.zeros_like(template, np.uint8).data
    else:
        places, marks = found[0]
        none = np.zeros_like(marks[:1])
        at = {int(place): k for k, place in enumerate(places)}
        data = marks
        if len(at) < n_times:
            joined = da if isinstance(marks, da.Array) else np
            parts = [marks[at[t] : at[t] + 1] if t in at else none for t in range(n_times)]
            data = joined.concatenate(parts)
    flag = template.copy(data=data).assign_attrs(FLAG_ATTRS)
    flag.attrs = dict(FLAG_ATTRS)
    if "flag" in result:
        flag = (flag | result["flag"]).transpose(*flag.dims).assign_attrs(FLAG_ATTRS)
    return flag.rename("flag")


class _FittedLookUp(LookUp, FittedProperties):
    """Tables from a fit."""

    def facts(self) -> dict[str, Any]:
        """As the fit says."""
        return {name: self.fit.attrs[name] for name in _FACTS if name in self.fit.attrs}

    def foreign(self, cube: xr.DataArray) -> list[bool]:
        """Which steps have to be changed; also refuses other levels than the fit's."""
        is_foreign = super().foreign(cube)
        if "source_level" in self.fit.attrs:
            require_level(cube, is_foreign, self.fit, self.name)
        return is_foreign


@dataclass(frozen=True, kw_only=True)
class HistogramHarmonizer(_FittedLookUp):
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

    fit: xr.Dataset
    name: str = "histogram fit"
    citation: str = "Gonzalez and Woods (2018), Digital Image Processing, section 3.3"
    tables: xr.Dataset | None = None
    flags: bool = False

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

    def extent(self) -> str:
        """Whose histogram is matched, in words."""
        if self.tables is not None:
            return tables_note(self.tables)
        return "stored source" if "source" in self.fit else f"per {self.fit.attrs['per']}"


@dataclass(frozen=True, kw_only=True)
class GlobalLutHarmonizer(_FittedLookUp):
    """Apply a fit of `fit_lut`: one table per band, the same everywhere.

    Attributes
    ----------
    fit : Dataset
        With ``table`` (band, knot).
    tables, flags
        As of `HistogramHarmonizer`.
    """

    fit: xr.Dataset
    name: str = "look-up table fit"
    citation: str = "fitted on the pairs named in its attribute dates"
    tables: xr.Dataset | None = None
    flags: bool = False

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

    def extent(self) -> str:
        """What the table rests on, in words."""
        if self.tables is not None:
            return tables_note(self.tables)
        return f"on {self.fit.attrs['dates']}"


@dataclass(frozen=True, kw_only=True)
class TablesHarmonizer(_FittedLookUp):
    """Apply a fit of `fit_tables`: a pure map on the dates and tiles it was fitted on.

    Attributes
    ----------
    fit : Dataset
        With ``tables`` (time, tile_y, tile_x, band, knot).
    flags : bool
        Also make the ``flag`` companion.
    """

    fit: xr.Dataset
    name: str = "tables"
    citation: str = "fitted on the dates and tiles it holds"
    flags: bool = False

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

    @property
    def tables(self) -> xr.Dataset:  # type: ignore[override]
        """The fit itself."""
        return self.fit

    def fit_tables(self, *_: Any, **__: Any) -> xr.Dataset:
        """Refuse: the Dataset holds tables, not what makes them."""
        raise ModelError(
            "these are tables already; pass the model that made them to fit_tables "
            f"({self.fit.attrs['predictor']})"
        )


@dataclass(frozen=True, kw_only=True)
class LutHarmonizer(LookUp):
    """Apply a bundle of kind ``lut``: tables that a network makes of the tiles' histograms.

    Attributes
    ----------
    ref, card
        The bundle.
    tables : Dataset, optional
        Of `fit_tables`; without, they are made in the same graph.
    flags : bool
        Also make the ``flag`` companion.
    runtime : Runtime, optional
        How the network is run.

    References
    ----------
    Liu, Z.-Q. et al. (2023), Bandpass alignment from Sentinel-2 to Gaofen-1 ARD products with
    UNet-induced tile-adaptive lookup tables, Remote Sensing 15, 2563, doi:10.3390/rs15102563.
    """

    ref: ModelRef
    card: Card
    tables: xr.Dataset | None = None
    flags: bool = False
    runtime: Runtime | None = None
    changes_grid: bool = field(default=False, init=False)
    citation: str = "Liu et al. (2023), doi:10.3390/rs15102563"

    @property
    def name(self) -> str:  # type: ignore[override]
        """Of the bundle."""
        return self.ref.name

    @property
    def source_bandpass(self) -> str:
        """Bandpass it may be applied to."""
        return self.card.source_bandpass

    @property
    def target_bandpass(self) -> str:  # type: ignore[override]
        """Bandpass of the result."""
        return self.card.target_bandpass

    @property
    def bands(self) -> tuple[str, ...]:
        """Source bands."""
        return self.card.bands

    @property
    def min_valid_fraction(self) -> float:
        """Least valid share of a target pixel [1] when regridding first."""
        return self.card.min_valid_fraction

    def save(self, path: str | os.PathLike[str]) -> ModelRef:
        """Write the bundle to a folder; `xharmonize.load_model` opens it."""
        from xharmonize.models.bundle import copy_bundle

        return copy_bundle(self.ref, path, card=self.card)

    def predictor(self) -> Predictor:
        """The network."""
        return Network(ref=self.ref, card=self.card, runtime=self.runtime or Runtime())

    def facts(self) -> dict[str, Any]:
        """As the card says."""
        source, target = self.card.source_bandpass, self.card.target_bandpass
        return {
            "source_bandpass": source,
            "source_sensor": self.card.source_sensor,
            "target_bandpass": target,
            "direction": f"{source or 'any'} to {target}",
            "min_valid_fraction": self.card.min_valid_fraction,
            "is_refined": int(has_refinement(self.card)),
        }

    def foreign(self, cube: xr.DataArray) -> list[bool]:
        """Which steps have to be changed; also refuses other sensors and levels."""
        is_foreign = super().foreign(cube)
        for step, changes in zip(read_contract(cube), is_foreign):
            if changes:
                require_card(self.card, step)
        return is_foreign

    def check_tables(self, tables: xr.Dataset) -> None:
        """Refuse tables of another network."""
        require_tables(tables, self.ref.digest)

    def finish(self, data: Any, marks: Any) -> tuple[Any, Any]:
        """Add what the network's convolution sees around each pixel, where it has one."""
        return refine(data, marks, self.ref, self.card, self.runtime or Runtime())
