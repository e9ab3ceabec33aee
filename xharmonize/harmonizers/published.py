"""Published bandpass tables as harmonisers: one line per platform and band."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from xharmonize.cube.contract import (
    REFLECTANCE,
    Step,
    read_contract,
    require_contract,
)
from xharmonize.errors import BandError, RadiometryError, RadiometryWarning
from xharmonize.harmonizers import blocks
from xharmonize.sensors.bandpass import BandpassTable, Line, get_table, list_tables
from xharmonize.types import Float64Array

Lines = Mapping[str, Line]
_SIBLING = {"nir": "nir08", "nir08": "nir"}
_EXACT = {"nir": "B08", "nir08": "B8A / b5"}


@dataclass(frozen=True, kw_only=True)
class TableHarmonizer:
    """Apply a published table, its lines picked per time step by platform.

    Attributes
    ----------
    table : BandpassTable
        In the direction wanted.
    target_platform : str
        Platform whose lines hold where the table tells them apart by target.
    min_valid_fraction : float
        Least valid share of a target pixel [1] when regridding first.
    changes_grid : bool
        False: lines are applied on the grid the cube is on.
    """

    table: BandpassTable
    target_platform: str = "sentinel-2a"
    min_valid_fraction: float = 1.0
    changes_grid: bool = False

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
        """Source bands with a line."""
        return tuple(line.source for line in self.table.by_platform[0][1])

    @property
    def citation(self) -> str:
        """Where the numbers were published."""
        return f"{self.table.citation}, doi:{self.table.doi}"

    def __call__(self, cube: blocks.Cube) -> blocks.Cube:
        """Return the cube in the target's bandpass; see `xharmonize.to_sensor`."""
        require_contract(cube)
        steps = read_contract(cube)
        is_foreign = self._foreign(cube)
        lines = self._lines(steps, is_foreign)
        return blocks.on_cube(
            cube,
            lambda array: self._apply(array, lines, is_foreign),
            lambda sigma, array: self._propagate(sigma, array, lines, is_foreign),
            sources={line.target: line.source for of in lines if of for line in of.values()},
        )

    def check(self, cube: xr.DataArray | xr.Dataset) -> None:
        """Raise what applying would raise on platforms, levels and bandpasses of the steps."""
        steps = read_contract(cube)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RadiometryWarning)
            self._lines(steps, self._foreign(cube))

    def _foreign(self, cube: xr.DataArray | xr.Dataset) -> list[bool]:
        array = cube if isinstance(cube, xr.DataArray) else cube[REFLECTANCE]
        return blocks.foreign_steps(
            array,
            source_bandpass=self.source_bandpass,
            target_bandpass=self.target_bandpass,
            name=self.name,
        )

    def _lines(self, steps: Sequence[Step], is_foreign: Sequence[bool]) -> list[Lines | None]:
        """Lines of each time step; None where it passes through. Warns once per platform."""
        known: dict[tuple[str, str], Lines] = {}
        result: list[Lines | None] = []
        for step, foreign in zip(steps, is_foreign):
            if not foreign:
                result.append(None)
                continue
            by_source = self.table.platform_side == "source"
            key = (step.platform if by_source else self.target_platform, step.level)
            if key not in known:
                try:
                    self.table.require(level=step.level)
                    known[key] = self.table.lines(key[0])
                except RadiometryError as error:
                    raise RadiometryError(f"item {step.item_id!r}: {error}") from None
            result.append(known[key])
        return result

    def _bands(self, array: xr.DataArray, lines: Sequence[Lines | None]) -> list[Line]:
        """Lines whose source band the cube has, in the order of its bands."""
        sample = next(item for item in lines if item is not None)
        present = [str(name) for name in array["band"].values]
        for name in sample:
            sibling = _SIBLING.get(name)
            if sibling in present and name not in present:
                raise BandError(
                    f"table {self.name!r} starts from {name} ({sample[name].source_band}), the "
                    f"cube has {sibling} ({_EXACT[str(sibling)]}): their bandpasses differ; load "
                    f"{name}, or leave {sibling} out with cube.sel(band=[...])"
                )
        found = [sample[name] for name in present if name in sample]
        if not found:
            raise BandError(f"table {self.name!r} has lines for {list(sample)}; cube: {present}")
        return found

    def _apply(
        self, array: xr.DataArray, lines: Sequence[Lines | None], is_foreign: Sequence[bool]
    ) -> xr.DataArray:
        if not any(is_foreign):
            return blocks.decoded(array)
        found = self._bands(array, lines)
        if any(line.source != line.target for line in found) and not all(is_foreign):
            chosen = [item for item in lines if item is not None]
            return blocks.change_steps(
                array, is_foreign, lambda part: self._apply(part, chosen, [True] * len(chosen))
            )
        target = self._target(array, found, is_foreign)
        names = target.sources
        slope, offset = _table(lines, names, "slope", 1.0), _table(lines, names, "offset", 0.0)
        return blocks.apply_lines(array, slope, offset, target)

    def _target(
        self, array: xr.DataArray, found: Sequence[Line], is_foreign: Sequence[bool]
    ) -> blocks.Target:
        steps = read_contract(array)
        level = blocks.describe_levels(steps, is_foreign)
        platforms = sorted({s.platform for s, foreign in zip(steps, is_foreign) if foreign})
        if self.table.platform_side == "target":
            platforms = [self.target_platform]
        sources = tuple(line.source for line in found)
        whose = f"{self.table.direction}, lines of {', '.join(platforms)}"
        return blocks.Target(
            bandpass=self.target_bandpass,
            bands=tuple(line.target for line in found),
            sources=sources,
            history=f"{self.name}: {whose}, on {level} "
            f"reflectance ({self.citation}){blocks.drop_note(array, sources)}",
        )

    def _propagate(
        self,
        sigma: xr.DataArray,
        array: xr.DataArray,
        lines: Sequence[Lines | None],
        is_foreign: Sequence[bool],
    ) -> xr.DataArray:
        """Scale the uncertainty; add half of |A - B| where the mean of two lines was used."""
        if not any(is_foreign):
            return sigma
        found = self._bands(array, lines)
        names = [line.source for line in found]
        value = blocks.decoded(array).sel(band=names)
        own = sigma.sel(band=names)
        if any(line.source != line.target for line in found) and not all(is_foreign):
            raise BandError("uncertainty of steps that differ in bands: harmonise them apart")
        slope, slope_spread, offset_spread = (
            xr.DataArray(_table(lines, names, field, default), dims=("time", "band"))
            for field, default in (("slope", 1.0), ("slope_spread", 0.0), ("offset_spread", 0.0))
        )
        spread = abs(slope_spread * value + offset_spread)
        result = ((slope * own) ** 2 + spread**2) ** 0.5
        names = [line.target for line in found]
        return result.astype("float32").transpose(*own.dims).assign_coords(band=names)


def _table(
    lines: Sequence[Lines | None], bands: Sequence[str], field: str, default: float
) -> Float64Array:
    """One number of each line (time, band); `default` where a step passes through."""
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


def cure_of_bandpass(source: str, target: str) -> str:
    """Return the call by which a cube of one bandpass gets another; for messages."""
    tables = [get_table(name) for name in list_tables()]
    pairs = {table.name: {table.source_bandpass, table.target_bandpass} for table in tables}
    name = next((repr(name) for name, pair in pairs.items() if pair == {source, target}), None)
    model = name or "xh.fit_linear(xh.match_pairs(cube, target))"  # no published table
    call = _CALLS.get(target, "to_sensor(sensor, {})")
    return f"cube.harmonize.{call.format(model)}"


def cure_of_mixture(bandpasses: Sequence[str]) -> str:
    """Return how the dates of a cube get one bandpass; for messages."""
    target = "oli" if "oli" in bandpasses else bandpasses[0]
    others = [name for name in bandpasses if name != target]
    if len(others) == 1:
        return cure_of_bandpass(others[0], target)
    calls = ", ".join(f"{name}: {cure_of_bandpass(name, target)}" for name in others)
    return (
        "those of each bandpass by themselves, such as "
        f"cube.isel(time=(cube.bandpass == {others[0]!r}).values), then densify ({calls})"
    )
