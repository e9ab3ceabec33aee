"""Harmonisers from published linear coefficients between two bandpasses, per platform and band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from xharmonize.cube.contract import REFLECTANCE, Step, read_coordinate, suggest_names
from xharmonize.errors import BandError, ModelError, RadiometryError
from xharmonize.harmonizers import base
from xharmonize.harmonizers.protocol import Base, Checked, Scope
from xharmonize.sensors import Names
from xharmonize.sensors.bandpass import BandpassTable, Line, get_table, list_tables
from xharmonize.types import Float64Array

Lines = Mapping[str, Line]
_SIBLING = {"nir": "nir08", "nir08": "nir"}
_EXACT = {"nir": "B08", "nir08": "B8A / b5"}


@dataclass(frozen=True, kw_only=True)
class CheckedLines(Checked):
    """Dates of a cube and the coefficients of each; None for dates that are unchanged."""

    lines: tuple[Lines | None, ...]


@dataclass(frozen=True, kw_only=True)
class BandpassHarmonizer(Base):
    """Apply published linear coefficients, selected per time step by platform.

    Attributes
    ----------
    table : BandpassTable
        Coefficients in the direction of the conversion.
    target_platform : str
        Target platform, if the table distinguishes target platforms.
    min_valid : float
        Minimum valid fraction of a target pixel [1] when regridding first.
    changes_grid : bool
        False: coefficients are applied on the cube's own grid.
    """

    options: ClassVar[tuple[str, ...]] = ("flags", "target_platform")
    table: BandpassTable
    target_platform: str = "sentinel-2a"
    min_valid: float = 1.0
    changes_grid: bool = False

    @property
    def scope(self) -> Scope:
        """Bandpasses and levels of the table; any product, as coefficients belong to platforms."""
        return Scope(
            name=self.name,
            target_bandpass=self.target_bandpass,
            source_bandpass=self.source_bandpass,
            levels=frozenset(self.table.levels),
        )

    @property
    def name(self) -> str:
        """Name of the table."""
        return self.table.name

    @property
    def source_bandpass(self) -> str:
        """Bandpass the table starts from."""
        return self.table.source_bandpass

    @property
    def target_bandpass(self) -> str:
        """Bandpass the table leads to."""
        return self.table.target_bandpass

    @property
    def bands(self) -> tuple[str, ...]:
        """Source bands with coefficients."""
        return tuple(line.source for line in self.table.by_platform[0][1])

    @property
    def target_bands(self) -> tuple[str, ...]:
        """Target bands with coefficients."""
        return tuple(line.target for line in self.table.by_platform[0][1])

    @property
    def target_platforms(self) -> tuple[str, ...]:
        """Target platforms, if the table distinguishes them."""
        return self.table.platforms if self.table.platform_side == "target" else ()

    @property
    def citation(self) -> str:
        """Publication of the coefficients."""
        return f"{self.table.citation}, doi:{self.table.doi}"

    def inverse(self) -> BandpassHarmonizer:
        """Return the inverse: slope 1/s, offset -o/s."""
        return replace(self, table=self.table.inverse())

    def check(self, cube: xr.DataArray | xr.Dataset, /) -> CheckedLines:
        """Refuse a cube without coefficients in the table; warns once per platform."""
        found = super().check(cube)
        known: dict[str, Lines] = {}
        for step in found.due:
            platform = self._platform(step)
            if platform not in known:
                try:
                    known[platform] = self.table.lines(platform)
                except RadiometryError as error:
                    raise RadiometryError(
                        f": {error.what}", cure=error.cure, item=step.item_id
                    ) from None
        lines = tuple(
            known[self._platform(step)] if is_due else None
            for step, is_due in zip(found.steps, found.is_due)
        )
        return CheckedLines(steps=found.steps, is_due=found.is_due, lines=lines)

    def _platform(self, step: Step) -> str:
        return self.target_platform if self.target_platforms else step.platform

    def renamed(self, checked: Checked) -> Mapping[str, str]:  # noqa: ARG002
        """Source band of each target band with a different name."""
        return dict(zip(self.target_bands, self.bands))

    def _bands(self, array: xr.DataArray, lines: Sequence[Lines | None]) -> list[Line]:
        """Coefficients whose source band the cube has, in the order of its bands."""
        sample = next(item for item in lines if item is not None)
        present = [str(name) for name in array["band"].values]
        for name in sample:
            sibling = _SIBLING.get(name)
            if sibling in present and name not in present:
                raise BandError(
                    f"table {self.name!r} starts from {name} ({sample[name].source_band}), the "
                    f"cube has {sibling} ({_EXACT[str(sibling)]}): their bandpasses differ",
                    cure=f"load {name}, or leave {sibling} out with cube.sel(band=[...])",
                )
        found = [sample[name] for name in present if name in sample]
        if not found:
            raise BandError(
                f"table {self.name!r} has lines for {list(sample)}",
                cure=f"{suggest_names(present, sample)}the cube has {present}",
            )
        return found

    def changed(self, cube: xr.Dataset, checked: Checked, **_: Any) -> xr.Dataset:
        """Apply the coefficients: to all dates in one pass if bands keep their names."""
        assert isinstance(checked, CheckedLines)
        if not any(checked.is_due):
            return base.decoded_set(cube)
        whose = self._whose(checked.due)
        found = self._bands(cube[REFLECTANCE], checked.lines)
        if all(line.source == line.target for line in found):
            return self._map(cube, found, checked.lines, whose)
        due = [lines for lines in checked.lines if lines is not None]
        change = partial(self._map, found=found, lines=due, whose=whose)
        return base.change_steps(cube, checked.is_due, change, takes_encoded=True)

    def _map(
        self,
        cube: xr.Dataset,
        found: Sequence[Line],
        lines: Sequence[Lines | None],
        whose: str,
    ) -> xr.Dataset:
        array = cube[REFLECTANCE]
        names = tuple(line.source for line in found)
        target = base.Target(
            bandpass=self.target_bandpass,
            bands=tuple(line.target for line in found),
            sources=names,
            history=f"{self.name}: {whose}{base.drop_note(array, names)}",
        )
        slope, offset = _table(lines, names, "slope", 1.0), _table(lines, names, "offset", 0.0)
        result = base.apply_lines(array, slope, offset, target).to_dataset(name=REFLECTANCE)
        if base.UNCERTAINTY not in cube:
            return result
        return result.assign({base.UNCERTAINTY: _propagate(cube, found, lines)})

    def _whose(self, due: Sequence[Step]) -> str:
        """Which coefficients are applied to what, for the history."""
        platforms = sorted({self._platform(step) for step in due})
        levels = Names.of(step.level for step in due)
        return (
            f"{self.table.direction}, lines of {', '.join(platforms)}, on "
            f"{levels} reflectance ({self.citation})"
        )


def _propagate(
    cube: xr.Dataset, found: Sequence[Line], lines: Sequence[Lines | None]
) -> xr.DataArray:
    """Scale the uncertainty; add half of |A - B| where the mean of two platforms was used."""
    names = [line.source for line in found]
    value = base.decoded(cube[REFLECTANCE]).sel(band=names)
    own = cube[base.UNCERTAINTY].sel(band=names)
    slope, slope_spread, offset_spread = (
        xr.DataArray(_table(lines, names, field, default), dims=("time", "band"))
        for field, default in (("slope", 1.0), ("slope_spread", 0.0), ("offset_spread", 0.0))
    )
    spread = abs(slope_spread * value + offset_spread)
    result = ((slope * own) ** 2 + spread**2) ** 0.5
    targets = [line.target for line in found]
    return result.astype("float32").transpose(*own.dims).assign_coords(band=targets)


def _table(
    lines: Sequence[Lines | None], bands: Sequence[str], field: str, default: float
) -> Float64Array:
    """One coefficient (time, band); `default` for time steps that are unchanged."""
    return np.array(
        [
            [default if of is None else float(getattr(of[band], field)) for band in bands]
            for of in lines
        ]
    )


_CALLS = {
    "oli": "to_landsat({})",
    "msi": "to_sentinel2({})",
    "etm+": "to_sensor('landsat-c2-l2', {}, platform='landsat-7')",
    "wfv": "to_sensor('gaofen-1-ard', {})",
}


def table_between(source: str, target: str) -> str | None:
    """Name of the first published table that relates two bandpasses, in either direction."""
    tables = [get_table(name) for name in list_tables()]
    pairs = {table.name: {table.source_bandpass, table.target_bandpass} for table in tables}
    return next((name for name, pair in pairs.items() if pair == {source, target}), None)


def cure_of_bandpass(source: str, target: str) -> str:
    """Return the call that converts a cube from one bandpass to another, for messages."""
    name = table_between(source, target)
    model = repr(name) if name else "xh.fit_linear(xh.match_pairs(cube, target))"
    call = _CALLS.get(target, "to_sensor(sensor, {})")
    return f"cube.harmonize.{call.format(model)}"


def cure_of_mixture(bandpasses: Sequence[str]) -> str:
    """Return how to bring the dates of a cube to one bandpass, for messages."""
    target = "oli" if "oli" in bandpasses else bandpasses[0]
    others = [name for name in bandpasses if name != target]
    if len(others) == 1:
        return cure_of_bandpass(others[0], target)
    calls = ", ".join(f"{name}: {cure_of_bandpass(name, target)}" for name in others)
    return (
        "those of each bandpass by themselves, such as "
        f"cube.isel(time=(cube.bandpass == {others[0]!r}).values), then densify ({calls})"
    )


def require_one_bandpass(cube: xr.DataArray, *, what: str) -> None:
    """Raise `ModelError` if dates of several bandpasses would be merged."""
    if "bandpass" not in cube.coords:
        return
    found = sorted({str(value) for value in np.atleast_1d(read_coordinate(cube, "bandpass"))})
    if len(found) > 1:
        raise ModelError(
            f"{what} would merge values of bandpasses {found}",
            cure=f"harmonise them to one first: {cure_of_mixture(found)}",
        )
