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
    grid is that of the cube.
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
    def citation(self) -> str:
        """Where the numbers or the method come from."""

    def __call__(self, cube: Any, /) -> Any:
        """Return the cube in the target's bandpass."""


Model: TypeAlias = str | os.PathLike[str] | Harmonizer | Callable[[Any], Any] | xr.Dataset
"""Name of a built-in model, path of a saved fit, a fit, or any cube → cube callable."""
