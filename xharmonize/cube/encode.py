"""Decode digital numbers to reflectance with scale, offset and nodata."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.contract import (
    Cube,
    on_reflectance,
    read_coordinate,
    require_contract,
    with_history,
)
from xharmonize.cube.door import at_door
from xharmonize.cube.stated import blank
from xharmonize.errors import RadiometryError
from xharmonize.kernels.reflectance import affine
from xharmonize.sensors import find_sensor
from xharmonize.types import AnyArray, Float64Array, FloatArray

ENCODING_ATTRS = ("_FillValue", "missing_value", "nodata", "scale_factor", "add_offset")
"""Attributes and encoding of files that say what digital numbers mean; no result keeps them."""


def decode(cube: Cube) -> Cube:
    """Decode digital numbers to reflectance: ``DN * scale + offset``, NaN where DN is nodata.

    Lazy for Dask arrays. Scale, offset and nodata come from the contract, per (time, band); those
    coordinates are kept as a record, and `is_decoded` becomes True.

    Parameters
    ----------
    cube : (time, band, y, x) DataArray, or Dataset with ``reflectance``
        Digital numbers, integer or float (NaN is missing), with their contract. Time steps of a
        float cube that are already decoded are left unchanged.

    Returns
    -------
    DataArray or Dataset
        float32 reflectance [1], NaN where missing; linear backscatter of 0 or less is also NaN.

    Raises
    ------
    ContractError
        If the cube has no radiometric contract.
    RadiometryError
        If all of it is already decoded (the offset would be applied twice), if integers claim to
        be reflectance, or if a scale or offset is unknown.
    """
    cube = at_door(cube)
    return on_reflectance(cube, _decode)


def _decode(cube: xr.DataArray) -> xr.DataArray:
    require_contract(cube)
    require_encoded(cube)
    table = _line_table(cube)
    data = _apply(cube.transpose("time", "band", "y", "x"), table)
    attrs = {name: value for name, value in cube.attrs.items() if name not in ENCODING_ATTRS}
    result = cube.transpose("time", "band", "y", "x").copy(data=data)
    result.attrs = with_history({"units": "1", **attrs}, "decode: DN * scale + offset")
    result.encoding = {}
    is_decoded = np.ones((result.sizes["time"], result.sizes["band"]), bool)
    return result.assign_coords(is_decoded=(("time", "band"), is_decoded))


def require_encoded(cube: xr.DataArray) -> None:
    """Raise `RadiometryError` unless there is something to decode, with known scale and offset."""
    is_decoded = read_coordinate(cube, "is_decoded")
    if np.issubdtype(cube.dtype, np.integer) and is_decoded.any():
        raise RadiometryError(
            f"the cube holds integers ({cube.dtype}) and says that they are decoded",
            cure="if they are digital numbers, call xh.describe(cube, is_decoded=False, ...)",
        )
    if is_decoded.size and is_decoded.all():
        raise RadiometryError(
            "the cube is decoded already: scale and offset would be applied twice",
            cure="if it does hold digital numbers, settle it with "
            "xh.describe(cube, is_decoded=False, ...)",
        )
    if not is_decoded.any() and np.issubdtype(cube.dtype, np.floating):
        _require_marked_by_nan(cube)
    for name in ("scale", "offset"):
        lost = ~np.isfinite(read_coordinate(cube, name)) & ~is_decoded
        if lost.any():
            time, band = (int(axis[0]) for axis in np.nonzero(lost))
            raise RadiometryError(
                f"{name} of band {str(cube['band'].values[band])!r} of item "
                f"{str(read_coordinate(cube, 'item_id')[time])!r} is not known",
                cure=f"settle it with xh.describe(cube, {name}=...)",
            )


def nan_for_nodata(cube: xr.DataArray) -> xr.DataArray:
    """Replace nodata in float digital numbers by NaN; return integers unchanged.

    Averages skip NaN but would count a nodata value.
    """
    if not np.issubdtype(cube.dtype, np.floating):
        return cube
    code = read_coordinate(cube, "nodata")
    nothing = np.full(code.shape, np.nan)
    return blank(cube, [code]).assign_coords(nodata=(("time", "band"), nothing))


def _require_marked_by_nan(cube: xr.DataArray) -> None:
    """Raise if a float cube was converted from encoded integers that mark missing pixels by nodata.

    Averages and interpolation would count nodata as reflectance. Digital numbers described as
    floats have NaN instead, and no nodata.
    """
    marked = np.unique(read_coordinate(cube, "nodata"))
    marked = marked[np.isfinite(marked)]
    if marked.size:
        raise RadiometryError(
            f"the cube was encoded in integers, where {marked[0]:g} marks missing pixels, and "
            f"holds {cube.dtype} now: averaging or interpolating digital numbers counts the mark "
            "as a number",
            cure="call cube.harmonize.decode() first, then what made floats (if they were "
            "not averaged, xh.describe(cube, sensor=..., is_decoded=False) makes the marks NaN)",
        )


def _line_table(cube: xr.DataArray) -> Float64Array:
    """Slope, intercept, nodata and floor: (time, band, 4); the identity where decoded already."""
    is_decoded = read_coordinate(cube, "is_decoded")
    identity = {"scale": 1.0, "offset": 0.0, "nodata": np.nan}
    columns = [
        np.where(is_decoded, value, read_coordinate(cube, name)) for name, value in identity.items()
    ]
    sensors = [find_sensor(str(name)) for name in read_coordinate(cube, "sensor")]
    is_power = np.array([s is not None and s.radiometry.is_power for s in sensors], bool)
    is_power &= cube.attrs.get("units") == "1"  # decibels may be negative
    floor = np.where(is_power[:, None] & ~is_decoded, 0.0, -np.inf)
    return np.stack([*columns, floor], axis=-1).astype(np.float64)


def _apply(cube: xr.DataArray, table: Float64Array) -> Any:
    return map_blocks(
        _decode_block, "tbyx,tbk->tbyx", cube.data, table, dtype=np.float32, name="decode"
    )


def _decode_block(values: AnyArray, table: Float64Array) -> FloatArray:
    decoded = affine(values, table[..., 0], table[..., 1], nodata=table[..., 2])
    floor = table[..., 3, None, None]
    if (floor > -np.inf).any():
        decoded[decoded <= floor] = np.nan
    return decoded
