"""Bands at the pixels that they were observed at, of a cube that holds them at finer ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.contract import REFLECTANCE, main_layer, read_coordinate, require_reflectance
from xharmonize.cube.geobox import geobox_of, snap
from xharmonize.cube.regrid import regrid
from xharmonize.errors import BandError, ModelError
from xharmonize.sensors.registry import pixel_of
from xharmonize.tiles.sampling import HELD
from xharmonize.types import AnyArray


def split_by_pixel(cube: Any) -> tuple[xr.DataArray, Any]:
    """Split a cube into the bands of its own pixel size and those that were observed coarser.

    Parameters
    ----------
    cube : (time, band, y, x) DataArray, or Dataset with ``reflectance``
        Reflectance [1] that holds coarser bands at its own pixels, each pixel repeated.

    Returns
    -------
    fine : (time, band, y, x) DataArray
        Bands that were observed at the pixels of the cube.
    coarse : (time, band, y, x) DataArray
        The others, on a grid of their own pixels, with edges at multiples of their side.

    Raises
    ------
    BandError
        If all bands have the cube's pixel size, or those that have not differ among themselves.
    ModelError
        On computing, if a band was interpolated to the pixels of the cube.
    """
    array = main_layer(cube, what="sharpen")
    require_reflectance(array)
    pixel = abs(geobox_of(array).affine.a)
    sensors = read_coordinate(array, "sensor").astype(str)
    sizes = {str(name): pixel_of(str(name), sensors, pixel) for name in array["band"].values}
    coarser = sorted({size for size in sizes.values() if size > pixel})
    if len(coarser) != 1 or pixel not in sizes.values():
        told = ", ".join(f"{name} {size:g} m" for name, size in sizes.items())
        raise BandError(
            "sharpen without fine= and pan= needs bands of two pixel sizes, the finer one that of "
            f"the cube; this cube of {pixel:g} m has {told}",
            cure="open Sentinel-2 with resolution=10 and select bands of 10 and 20 m; or give "
            "fine= or pan=",
        )
    size = coarser[0]
    held = array.sel(band=[name for name in sizes if sizes[name] == size])
    return array.sel(band=[name for name in sizes if sizes[name] == pixel]), _own(held, size)


def _own(held: xr.DataArray, size: float) -> xr.DataArray:
    """Take back the pixels of bands that are held finer."""
    box = geobox_of(held)
    bounds = box.boundingbox
    grid = snap((bounds.left, bounds.bottom, bounds.right, bounds.top), size, box.crs)
    mean, first = (regrid(held, like=grid, method=how, min_valid=0) for how in ("area", "nearest"))
    data = map_blocks(
        _require_held, "tbyx,tbyx->tbyx", mean.data, first.data, dtype=held.dtype, name="own-pixels"
    )
    own: xr.DataArray = mean.copy(data=data).rename(REFLECTANCE)
    return own


def _require_held(mean: AnyArray, first: AnyArray) -> AnyArray:
    spread = float(np.nanmax(np.abs(mean - first), initial=0.0))
    if spread > HELD:
        raise ModelError(
            f"a pixel of the coarser bands differs by {spread:.3g} from what it holds on average: "
            "they were interpolated to the cube's grid",
            cure="open the cube by nearest (open_stac does, without resampling=), or give the "
            "coarser bands at their own pixels: xh.sharpen(twenty, ten)",
        )
    return mean
