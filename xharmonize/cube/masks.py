"""Mask pixels of a cube by their quality flags."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection
from functools import partial, reduce
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks, with_margin, without_margin
from xharmonize.cube.companions import blank_missing, companions_of, quantities_of
from xharmonize.cube.contract import (
    REFLECTANCE,
    read_coordinate,
    require_contract,
    with_history,
)
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import describe_grid, geobox_of
from xharmonize.cube.quality import (
    CLEAR,
    FLAG_NAMES,
    QA_ATTRS,
    THRESHOLD_ATTR,
    Mask,
    MaskLike,
    as_mask,
    flag_saturated,
    pack_qa,
    qa_layers,
    settable,
)
from xharmonize.errors import ContractError, GridError, MaskError, RadiometryError
from xharmonize.kernels import qa as kernels
from xharmonize.sensors import UNKNOWN, Flag, Names, Sensor, get_sensor
from xharmonize.types import AnyArray, IntArray

__all__ = [
    "FLAG_NAMES",
    "QA_ATTRS",
    "Mask",
    "MaskLike",
    "as_mask",
    "mask",
    "mask_from_qa",
    "pack_qa",
    "qa_layers",
    "remove",
    "take_out",
]

Cube = TypeVar("Cube", xr.DataArray, xr.Dataset)

# Not dilated: borders, lost blocks and single hot pixels say nothing about their neighbours.
_NEVER_GROWN = Flag.FILL | Flag.SKIPPED | Flag.SATURATED


def mask_from_qa(qa: xr.DataArray, mask: MaskLike = CLEAR) -> xr.DataArray:
    """Return a boolean mask of the pixels to remove.

    Parameters
    ----------
    qa : (time, y, x) uint16 DataArray
        Packed flags, as from `pack_qa`, with the coordinate `sensor` along time.
    mask : Mask, str or sequence of str
        Flags to remove.

    Returns
    -------
    (time, y, x) bool DataArray
        True where removed; lazy if `qa` is.

    Raises
    ------
    MaskError
        If a name is not a flag, or none of the cube's sensors can set it.
    GridError
        If `dilate` is in metres and the CRS is missing or geographic.
    """
    mask = as_mask(mask)
    bits = _bits_by_date(qa, mask)
    if not np.issubdtype(qa.dtype, np.integer):
        raise MaskError(
            f"qa is {qa.dtype}: bits do not survive averaging or NaN",
            cure="resample quality layers by nearest or 'any'",
        )
    radius = _radius_pixels(qa, mask)
    qa = qa.transpose("time", "y", "x")
    still = np.uint16(_NEVER_GROWN)
    removed = _selected(qa, bits & still if max(radius) else bits)
    if max(radius):
        growing = _selected(qa, bits & ~still)
        removed = removed | _grow(growing, radius)
    removed.attrs = {"long_name": "pixel removed by mask"}
    return removed.rename("removed")


def remove(cube: xr.DataArray, removed: xr.DataArray) -> xr.DataArray:
    """Set masked pixels to NaN or, in encoded cubes, to nodata.

    Parameters
    ----------
    cube : (time, band, y, x) DataArray
        Reflectance [1], or digital numbers with their contract.
    removed : (time, y, x) bool DataArray
        See `mask_from_qa`.

    Raises
    ------
    RadiometryError
        If nodata is unknown for encoded integers, or does not fit their dtype.
    """
    cube = cube.transpose("time", "band", "y", "x")
    missing = _missing_table(cube)
    where = removed.transpose("time", "y", "x").data
    data = map_blocks(
        kernels.write_missing,
        "tbyx,tyx,tb->tbyx",
        cube.data,
        where,
        missing,
        dtype=cube.dtype,
        name="mask",
    )
    return cube.copy(data=data)


def mask(cube: xr.Dataset, mask: MaskLike = CLEAR) -> xr.Dataset:
    """Remove pixels by their quality flags.

    Parameters
    ----------
    cube : Dataset
        Dataset with ``qa`` (packed flags, from ``open_stac(..., qa=True)``) and ``reflectance``
        or an index. Masked pixels become NaN, or nodata in digital numbers. `qa` keeps all its
        flags, so that a cube can be masked again differently.
    mask : Mask, str or sequence of str
        Flags to remove; ``"clear"`` keeps clear pixels only. `Mask` adds dilation and a threshold
        on cloud probability. If ``saturated`` is removed from an encoded cube, digital numbers
        above the product's valid range are flagged and removed too.

    Returns
    -------
    Dataset
        Lazy if the cube is.

    Raises
    ------
    MaskError
        If there is no quality layer, or a name is not a flag of the cube's sensors.

    Examples
    --------
    >>> import xharmonize as xh
    >>> wide = xh.Mask(names=("clear", "dark"), dilate=60, dilate_unit="metres")
    """
    cube = at_door(cube)
    settings = as_mask(mask)
    given: Any = cube  # the accessor lets DataArrays come here too
    if not isinstance(given, xr.Dataset) or "qa" not in given:
        raise MaskError(
            "the cube carries no quality layer 'qa'", cure="open it with xh.open_stac(..., qa=True)"
        )
    qa = _with_saturation(cube, settings)
    removed = mask_from_qa(qa, settings)
    line = f"mask: removed {', '.join(settings.names)}"
    if settings.dilate:
        line += f", dilated by {settings.dilate:g} {settings.dilate_unit}"
    return take_out(cube.assign(qa=qa), removed, line)


def take_out(cube: Cube, removed: xr.DataArray, line: str) -> Cube:
    """Set pixels of a cube and its companions to missing; `line` goes into the history.

    Parameters
    ----------
    removed : (time, y, x) bool DataArray
        One date serves all.
    """
    if isinstance(cube, xr.DataArray):
        return _without(cube, removed, line)
    changed = {name: _without(cube[name], removed, line) for name in _maskable(cube)}
    layers = {name: cube[name] for name in companions_of(cube)}
    first = next(iter(changed.values()))
    return cube.assign({**changed, **blank_missing(layers, first)})


def _with_saturation(cube: xr.Dataset, mask: Mask) -> xr.DataArray:
    """The quality layer, with saturation from digital numbers added if the mask asks for it."""
    qa = cube["qa"]
    is_encoded = REFLECTANCE in cube and np.issubdtype(cube[REFLECTANCE].dtype, np.integer)
    if not is_encoded or not np.issubdtype(qa.dtype, np.integer):
        return qa
    wanted = _bits_by_date(qa, mask) & Flag.SATURATED
    return flag_saturated(qa, cube[REFLECTANCE]) if wanted.any() else qa


def _maskable(cube: xr.Dataset) -> list[str]:
    found = [name for name in quantities_of(cube) if {"time", "y", "x"} <= set(cube[name].dims)]
    if not found:
        raise ContractError(
            "the Dataset has nothing to mask", cure=f"it has {sorted(map(str, cube.data_vars))}"
        )
    return found


def _without(array: xr.DataArray, removed: xr.DataArray, line: str) -> xr.DataArray:
    if "band" in array.dims:
        result = remove(array, removed)
    else:
        result = array.where(~removed.variable).transpose(*array.dims)
    return result.assign_attrs(with_history(array.attrs, line))


def _bits_by_date(qa: xr.DataArray, mask: Mask) -> IntArray:
    """Flags that remove a pixel, by date: ``"clear"`` differs between sensors."""
    if "sensor" not in qa.coords:
        raise ContractError(
            "the quality layer does not say which sensor its dates come from",
            cure="settle it with xh.describe(cube, sensor=...)",
        )
    dates = [Names.of(name) for name in read_coordinate(qa, "sensor")]
    names = Names().union(*dates)
    if UNKNOWN in names and CLEAR in mask.names:
        raise MaskError(
            "'clear' depends on the sensor, and the sensor of some dates is unknown",
            cure="name the flags to remove, or settle it with xh.describe(cube, sensor=...)",
        )
    sensors = {name: get_sensor(name) for name in names - {UNKNOWN}}
    _require_settable(mask, sensors.values(), has_unknown=UNKNOWN in names)
    _require_threshold(qa, mask)
    explicit = mask.flags(None)
    flags = {name: mask.flags(sensor) for name, sensor in sensors.items()}
    # A date merged of several sensors may hold pixels of each.
    merged = [reduce(operator.or_, (flags.get(n, explicit) for n in date)) for date in dates]
    return np.array(merged, np.uint16)


def _require_settable(mask: Mask, sensors: Collection[Sensor], *, has_unknown: bool) -> None:
    """Raise unless some sensor of the cube can set each named flag; it would remove nothing."""
    if has_unknown or not all(sensor.qa for sensor in sensors):
        return
    possible = settable([layer for sensor in sensors for layer in sensor.qa])
    possible |= Flag.FILL | Flag.SKIPPED
    idle = [name for name in mask.names if name != CLEAR and not Flag[name.upper()] & possible]
    if idle:
        names = ", ".join(sensor.name for sensor in sensors)
        able = ", ".join(flag.label for flag in Flag if flag & possible)
        raise MaskError(
            f"no quality layer of {names} sets {', '.join(idle)}", cure=f"they set {able}"
        )


def _require_threshold(qa: xr.DataArray, mask: Mask) -> None:
    """Raise unless ``cloud_probable`` was packed at the threshold the mask asks for."""
    packed = qa.attrs.get(THRESHOLD_ATTR)
    if mask.cloud_probability is not None and packed != mask.cloud_probability:
        held = "without cloud probability" if packed is None else f"at {packed:g} %"
        raise MaskError(
            f"a cloud probability of {mask.cloud_probability:g} % was asked for, qa was packed "
            f"{held}",
            cure="open the cube with mask=xh.Mask(cloud_probability=...)",
        )


def _radius_pixels(qa: xr.DataArray, mask: Mask) -> tuple[float, float]:
    """Radius of growth along y and x [pixel]."""
    if mask.dilate == 0 or mask.dilate_unit == "pixels":
        return mask.dilate, mask.dilate
    geobox = geobox_of(qa)
    if geobox.crs is None or geobox.crs.geographic:
        raise GridError(
            f"dilate={mask.dilate:g} metres, but the grid is in degrees ({describe_grid(geobox)})",
            cure="give dilate in pixels",
        )
    metre = geobox.crs.proj.axis_info[0].unit_conversion_factor
    step_y, step_x = abs(geobox.affine.e) * metre, abs(geobox.affine.a) * metre
    return mask.dilate / step_y, mask.dilate / step_x


def _selected(qa: xr.DataArray, bits: IntArray) -> xr.DataArray:
    """Where any of the date's bits is set."""
    data = map_blocks(kernels.select, "tyx,t->tyx", qa.data, bits, dtype=bool, name="mask-select")
    return qa.copy(data=data)


def _grow(removed: xr.DataArray, radius: tuple[float, float]) -> xr.DataArray:
    """Dilate with an overlap as wide as the radius, so that chunks do not matter."""
    margin = {axis: math.ceil(reach) for axis, reach in zip((1, 2), radius)}
    grown = map_blocks(
        partial(kernels.dilate, radius=radius),
        "tyx->tyx",
        with_margin(removed.data, margin),
        dtype=bool,
        name="mask-dilate",
    )
    return removed.copy(data=without_margin(grown, removed.data, margin))


def _missing_table(cube: xr.DataArray) -> AnyArray:
    """Value of missing pixels per (time, band), in the dtype of the cube."""
    shape = (cube.sizes["time"], cube.sizes["band"])
    if np.issubdtype(cube.dtype, np.floating):
        return np.full(shape, np.nan, cube.dtype)
    require_contract(cube)
    table = read_coordinate(cube, "nodata")
    info = np.iinfo(cube.dtype)
    bad = ~((table >= info.min) & (table <= info.max))
    if bad.any():
        time, band = (int(axis[0]) for axis in np.nonzero(bad))
        raise RadiometryError(
            f"nodata of band {str(cube['band'].values[band])!r} of item "
            f"{str(read_coordinate(cube, 'item_id')[time])!r} is {table[time, band]:g}, which "
            f"{cube.dtype} cannot hold",
            cure="settle it with xh.describe(cube, nodata=...)",
        )
    return table.astype(cube.dtype)
