"""What harmonisers by look-up tables share: one way to make tables, one way to apply them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from xharmonize.cube.companions import ResultFlag
from xharmonize.cube.contract import REFLECTANCE
from xharmonize.errors import ModelError
from xharmonize.harmonizers import blocks
from xharmonize.harmonizers.lut.apply import Tables, look_up, tables_for
from xharmonize.harmonizers.lut.check import require_tables
from xharmonize.harmonizers.lut.fit import fit_dataset, ranges_for
from xharmonize.harmonizers.lut.predictors import Predictor
from xharmonize.harmonizers.protocol import Base, Checked, Fitted

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


@dataclass(frozen=True, kw_only=True)
class LookUp(Base):
    """What harmonisers by look-up tables share: one way to make tables, one way to apply them.

    Attributes
    ----------
    tables : Dataset, optional
        Of `fit_tables`; without, they are made in the same graph.
    """

    options: ClassVar[tuple[str, ...]] = ("flags", "tables")
    tells: ClassVar[ResultFlag] = (
        ResultFlag.SATURATED | ResultFlag.OUT_OF_DOMAIN | ResultFlag.PARTIAL_CONTEXT
    )
    tables: xr.Dataset | None = None

    def predictor(self) -> Predictor:
        """What makes tables of histograms."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """Direction, bandpasses and levels, as attributes of the tables it makes."""
        raise NotImplementedError

    def given_tables(self) -> xr.Dataset | None:
        """Tables that were fitted before."""
        return self.tables

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
        is_due = self.check(array).is_due
        if not any(is_due):
            raise ModelError(f"all dates are in {self.target_bandpass} already: no tables to fit")
        return fit_dataset(
            array.isel(time=np.flatnonzero(is_due)),
            self.predictor(),
            self.facts(),
            tile=tile,
            interpolate=interpolate,
            min_coverage=min_coverage,
        )

    def changed(self, cube: xr.Dataset, checked: Checked, **_: Any) -> xr.Dataset:
        """Map through tables: given ones, or those made of the cube; drops ``uncertainty``."""
        return blocks.change_steps(cube, checked.is_due, self._map, takes_encoded=True)

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
        target = blocks.Target(
            bandpass=self.target_bandpass,
            bands=tuple(names[band] for band in tables.bands),
            sources=tables.bands,
            history=f"{self.name}: {self.facts()['direction']}, {self.extent()}"
            f"{blocks.drop_note(array, tables.bands)}",
        )
        result = blocks.rebuild(array, data, target).to_dataset(name=REFLECTANCE)
        return result if marks is None else result.assign(flag=(("time", "y", "x"), marks))

    def check_tables(self, tables: xr.Dataset) -> None:
        """Refuse given tables that are none, or not of this model."""
        require_tables(tables)
        if tables.attrs["target_bandpass"] != self.target_bandpass:
            raise ModelError(
                f"the tables lead to {tables.attrs['target_bandpass']}, model {self.name!r} to "
                f"{self.target_bandpass}; make them anew: xh.fit_tables(cube, model)"
            )

    def finish(self, data: Any, marks: Any) -> tuple[Any, Any]:
        """What follows the tables; nothing, but for networks that look at neighbours."""
        return data, marks

    def extent(self) -> str:
        """Whose histograms the tables come from, for the history."""
        given = self.given_tables()
        if given is None:
            return self.own_extent()
        blended = ", interpolated" if given.attrs["interpolate"] else ""
        tile, maker = given.attrs["tile"], given.attrs["predictor"]
        return f"given tables of {maker}, tiles of {tile:g} m{blended}"

    def own_extent(self) -> str:
        """The same where no tables were given."""
        return "tables per tile and date"


@dataclass(frozen=True, kw_only=True)
class FittedLookUp(LookUp, Fitted):
    """Tables from a fit."""

    def facts(self) -> dict[str, Any]:
        """As the fit says."""
        return {name: self.fit.attrs[name] for name in _FACTS if name in self.fit.attrs}
