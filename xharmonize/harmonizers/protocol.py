"""What a harmoniser is."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

import xarray as xr


@runtime_checkable
class Harmonizer(Protocol):
    """A callable, cube → cube, that gives a cube another sensor's bandpass, lazily.

    Steps whose `bandpass` is already the target's come back unchanged. Type out = type in, and the
    grid is that of the cube, unless `changes_grid` says otherwise.
    """

    @property
    def name(self) -> str:
        """Key in the registry, or the name of the fit."""

    @property
    def source_bandpass(self) -> str:
        """Bandpass it may be applied to; empty: any."""

    @property
    def target_bandpass(self) -> str:
        """Bandpass of the result."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Common names of the source bands it can use."""

    @property
    def min_valid_fraction(self) -> float:
        """Least valid share of a target pixel [1] when the cube is put on a coarser grid first."""

    @property
    def changes_grid(self) -> bool:
        """Whether it goes from the cube's own grid to one of its own; then it is applied first."""

    @property
    def citation(self) -> str:
        """Where the numbers or the method come from."""

    def __call__(self, cube: Any, /) -> Any:
        """Return the cube in the target's bandpass."""


class FittedProperties:
    """What a fit says of itself, for the harmonisers that apply one."""

    fit: xr.Dataset

    @property
    def source_bandpass(self) -> str:
        """Bandpass of the source the fit was made on; empty: any."""
        return str(self.fit.attrs.get("source_bandpass", ""))

    @property
    def target_bandpass(self) -> str:
        """Bandpass of the target the fit was made on."""
        return str(self.fit.attrs["target_bandpass"])

    @property
    def bands(self) -> tuple[str, ...]:
        """Source bands of the fit."""
        axis = "source_band" if "source_band" in self.fit.dims else "band"
        return tuple(map(str, self.fit[axis].values))

    @property
    def min_valid_fraction(self) -> float:
        """Least valid share of a target pixel [1] when regridding first."""
        return float(self.fit.attrs.get("min_valid_fraction", 0.5))

    @property
    def changes_grid(self) -> bool:
        """Fits are applied on the grid the cube is on."""
        return False


Model: TypeAlias = str | os.PathLike[str] | Harmonizer | Callable[[Any], Any] | xr.Dataset
"""Name of a built-in model, path of a saved fit, a fit, or any cube → cube callable."""
