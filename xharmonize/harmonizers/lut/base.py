"""What harmonisers by look-up tables share: one way to make tables, one way to apply them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.companions import with_flags
from xharmonize.cube.contract import REFLECTANCE, require_contract
from xharmonize.errors import ModelError
from xharmonize.harmonizers import blocks
from xharmonize.harmonizers.linear import require_level
from xharmonize.harmonizers.lut.apply import Tables, look_up, tables_for
from xharmonize.harmonizers.lut.check import require_tables
from xharmonize.harmonizers.lut.fit import fit_dataset, ranges_for
from xharmonize.harmonizers.lut.predictors import Predictor
from xharmonize.harmonizers.protocol import FittedProperties

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


class LookUp(ABC):
    """What harmonisers by look-up tables share: one way to make tables, one way to apply them."""

    name: str
    target_bandpass: str
    flags: bool
    tables: xr.Dataset | None

    @abstractmethod
    def predictor(self) -> Predictor:
        """What makes tables of histograms."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Direction, bandpasses and levels, as attributes of the tables it makes."""

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
        if self.tables is None:
            tables = self.own_tables(array)
        else:
            self.check_tables(self.tables)
            tables = tables_for(array, self.tables)
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
        if tables.attrs["target_bandpass"] != self.target_bandpass:
            raise ModelError(
                f"the tables lead to {tables.attrs['target_bandpass']}, model {self.name!r} to "
                f"{self.target_bandpass}; make them anew: xh.fit_tables(cube, model)"
            )

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
            parts = [marks[at[t] : at[t] + 1] if t in at else none for t in range(n_times)]
            data = np.concatenate(parts)
    return with_flags(result.get("flag"), template.copy(data=data))


class FittedLookUp(LookUp, FittedProperties):
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
