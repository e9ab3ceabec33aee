"""Saturation seen in the digital numbers themselves.

Products flag saturated pixels in layers that catalogues do not always hold, and mark them with
the largest number of the dtype, which decodes to a reflectance of several hundred percent. A
digital number above the product's `valid_max` therefore counts as ``saturated`` while a cube is
encoded; in reflectance nothing tells it any more.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.contract import read_coordinate, require_contract
from xharmonize.kernels import qa as kernels
from xharmonize.sensors import UNKNOWN, Flag, get_sensor
from xharmonize.types import AnyArray, IntArray


def flag_saturated(qa: xr.DataArray, cube: xr.DataArray) -> xr.DataArray:
    """Return `qa` with ``saturated`` set where any band of an encoded cube exceeds its range.

    Parameters
    ----------
    qa : (time, y, x) uint16 DataArray
        Packed flags.
    cube : (time, band, y, x) integer DataArray
        Digital numbers with their contract. Bands whose scale is not the product's own are left
        alone: their numbers have another range.

    Returns
    -------
    (time, y, x) uint16 DataArray
        Lazy where `cube` is.
    """
    require_contract(cube)
    cube = cube.transpose("time", "band", "y", "x")
    limit = _limits(cube)
    nodata = read_coordinate(cube, "nodata")
    missing = np.where(np.isfinite(nodata), nodata, -(2**40)).astype(np.int64)
    flags = cube.isel(band=0, drop=True).copy(data=_flags(cube, limit, missing))
    return (qa | flags.variable).assign_attrs(qa.attrs)


def _limits(cube: xr.DataArray) -> IntArray:
    """Largest valid digital number per (time, band)."""
    never = np.iinfo(np.int64).max
    limits = np.full((cube.sizes["time"], cube.sizes["band"]), never)
    scales = read_coordinate(cube, "scale")
    for i, name in enumerate(read_coordinate(cube, "sensor")):
        if str(name) != UNKNOWN:
            sensor = get_sensor(str(name))
            bands = [sensor.radiometry_of(str(band)) for band in cube["band"].values]
            own = np.isclose(scales[i], [band.scale for band in bands], rtol=0.01, atol=0)
            limits[i] = np.where(own, [band.valid_max for band in bands], never)
    return limits


def _flags(cube: xr.DataArray, limit: IntArray, missing: IntArray) -> AnyArray:
    flags: AnyArray = map_blocks(
        _flags_block,
        "tbyx,tb,tb->tyx",
        cube.data,
        limit,
        missing,
        dtype=np.uint16,
        name="flag-saturated",
    )
    return flags


def _flags_block(values: AnyArray, limit: IntArray, missing: IntArray) -> IntArray:
    return kernels.exceeds(values, limit, missing) * np.uint16(Flag.SATURATED)
