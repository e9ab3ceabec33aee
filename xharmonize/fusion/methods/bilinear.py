"""Bilinear interpolation: no detail is added, and none invented."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import xarray as xr

from xharmonize.fusion.frame import Sharpener, upsampled


@dataclass(frozen=True, kw_only=True)
class Bilinear(Sharpener):
    """Interpolate the coarse cube bilinearly to the fine grid; no other image is used."""

    options: ClassVar[tuple[str, ...]] = ("flags", "like", "shifts")
    sources: ClassVar[tuple[str, ...]] = ("cube",)
    name: str = "bilinear"

    def sharpened(self, coarse: xr.DataArray, **_: xr.DataArray) -> Any:
        """Return the interpolated pixels."""
        return upsampled(coarse, self._grid({}), self.shifts).data
