"""Types shared by all layers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
"""Floating-point array; its shape and unit are said where it is used."""

Float64Array: TypeAlias = npt.NDArray[np.float64]
"""Double-precision array, for coefficients and sums."""

IntArray: TypeAlias = npt.NDArray[np.integer[Any]]
"""Integer array (digital numbers, quality layers)."""

BoolArray: TypeAlias = npt.NDArray[np.bool_]
"""Boolean array (masks: True where the named condition holds)."""

AnyArray: TypeAlias = npt.NDArray[Any]
"""Array of any dtype."""

Duration: TypeAlias = str | float | timedelta | np.timedelta64
"""Length of time: pandas notation such as ``"16D"`` or ``"36h"``, or a number of days."""

Level: TypeAlias = Literal["TOA", "SR", "NBAR"]
"""Processing level of reflectance: top of atmosphere, surface, nadir BRDF-adjusted surface."""

Engine: TypeAlias = Literal["stackstac", "odc"]
"""Library that lays out the reading of STAC items."""

Codecs: TypeAlias = Literal["zarrs", "zarr-python"]
"""Library that compresses and decompresses the pixels of stores."""

Compression: TypeAlias = Literal["small", "fast"]
"""What counts for pixels of new stores: their size, or the time to write and read them."""

Item: TypeAlias = dict[str, Any]
"""A STAC item or asset as a plain dictionary."""
