"""One band of one date as a Cloud-Optimized GeoTIFF."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xharmonize.types import AnyArray

INT16_SCALE = 1e-4
INT16_NODATA = -32768  # -9999 would be a legal index value, -0.9999


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What one file holds, apart from its pixels.

    Attributes
    ----------
    name : str
        Of the asset: ``red``, ``ndvi``, ``qa``.
    variable : str
        Of the cube.
    band : str or None
        Common name, where the variable has bands.
    dtype : str
        Of the file.
    scale, offset : float
        value = number * scale + offset.
    nodata : float or None
        Number of a missing pixel.
    unit, description : str
        Of the value.
    resampling : {"average", "nearest"}
        Of the overviews.
    """

    name: str
    variable: str
    band: str | None
    dtype: str
    scale: float
    offset: float
    nodata: float | None
    unit: str
    description: str
    resampling: str
    tags: Mapping[str, str]


def to_numbers(values: AnyArray, layer: Layer) -> AnyArray:
    """Return values as numbers of the file; what int16 cannot hold becomes its lowest, nodata."""
    if values.dtype.kind != "f" or layer.dtype.startswith("float"):
        return values.astype(layer.dtype, copy=False)
    limits = np.iinfo(layer.dtype)
    numbers = np.rint((values.astype(np.float64) - layer.offset) / layer.scale)
    is_legal = (numbers > limits.min) & (numbers <= limits.max)  # NaN compares False
    return np.where(is_legal, numbers, limits.min).astype(layer.dtype)


def write_cog(
    path: Path, pixels: AnyArray, layer: Layer, *, crs: Any, transform: Any, tags: Mapping[str, str]
) -> None:
    """Write a (y, x) array, north up, with overviews; the file appears whole or not at all."""
    import rasterio
    from rasterio.enums import ColorInterp

    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    profile = {
        "driver": "COG",
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "count": 1,
        "dtype": layer.dtype,
        "nodata": layer.nodata,
        "crs": crs,
        "transform": transform,
        **_options(pixels.shape, resampling=layer.resampling),
    }
    with rasterio.open(partial, "w", **profile) as file:
        file.write(to_numbers(pixels, layer), 1)
        file.colorinterp = (ColorInterp.gray,)
        file.set_band_description(1, layer.description)
        file.units = (layer.unit,)
        file.scales, file.offsets = (layer.scale,), (layer.offset,)
        file.update_tags(**tags)
        file.update_tags(1, **layer.tags)
    os.replace(partial, path)


def _options(shape: tuple[int, ...], *, resampling: str) -> dict[str, Any]:
    """Return options of GDAL's COG driver; small images get small tiles, so that all have both."""
    longest = max(shape)
    block = min(512, max(16, -(-longest // 32) * 16))
    levels = 1
    while longest / 2**levels > block:
        levels += 1
    return {
        "COMPRESS": "DEFLATE",
        "PREDICTOR": "YES",
        "BLOCKSIZE": block,
        "OVERVIEW_RESAMPLING": resampling.upper(),
        "NUM_THREADS": "ALL_CPUS",
        "BIGTIFF": "IF_SAFER",
        **({"OVERVIEW_COUNT": levels} if longest > 1 else {"OVERVIEWS": "NONE"}),
    }
