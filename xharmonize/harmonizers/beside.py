"""The cubes that a model is given beside the one it is applied to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.contract import (
    BAND_COORDS,
    TIME_COORDS,
    read_coordinate,
    require_bands,
    require_contract,
    select_bands,
)
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import describe_grid, geobox_of, is_same_crs
from xharmonize.cube.radar import to_decibels
from xharmonize.errors import ContractError, GridError, RadiometryError, TimeAxisError
from xharmonize.harmonizers import base
from xharmonize.models.kinds import GeneratorCard
from xharmonize.sensors import UNKNOWN, Names, find_sensor
from xharmonize.tiles.place import north_up, require_on_lattice

PAN = "pan"
"""Role of a panchromatic band, and the name of the band itself."""
REFERENCE_TIME = "reference_time"
"""Coordinate along ``time`` of a cube brought to the dates of another: when it was observed."""
REFERENCE_GAP = "reference_gap"
"""The same less the date that it goes with [day]."""
OF_REFERENCE = (REFERENCE_TIME, REFERENCE_GAP)
"""What a cube on the dates of another says of its own; of several, each with its role behind."""


def beside_cube(
    other: xr.DataArray | xr.Dataset, cube: xr.Dataset, card: GeneratorCard, role: str
) -> xr.DataArray:
    """Return a further source as the network takes it: reflectance, its bands, north up.

    Raises
    ------
    ContractError, BandError
        If it is no cube, or lacks a band.
    TimeAxisError
        If its dates are not those of the cube, or lie on the wrong side of them.
    RadiometryError
        If it is of another sensor.
    GridError
        If it has another CRS, or other pixels than the model was trained on.
    """
    what, rule = f"source {role!r} of model {card.name!r}", card.inputs_of(role)[0]
    array = require_aligned(other, cube, what=what, is_pan=role == PAN)
    require_bands(array, card.bands_of(role), what=what)
    _require_sensor(array, rule.sensor, what)
    _require_rule(array, rule.date, what)
    array, _ = north_up(values_of(select_bands(array, card.bands_of(role))))
    box = geobox_of(array)
    require_on_lattice(box, card, role)
    if not is_same_crs(box.crs, geobox_of(cube).crs):
        raise GridError(
            f"{what} is in {describe_grid(box)}, the cube in {describe_grid(geobox_of(cube))}",
            cure="load both in one CRS, with open_stac(crs=...)",
        )
    return array


def require_aligned(
    other: xr.DataArray | xr.Dataset,
    cube: xr.DataArray | xr.Dataset,
    *,
    what: str,
    is_pan: bool = False,
) -> xr.DataArray:
    """Return the reflectance of a cube whose dates go with those of another one by one.

    A panchromatic band may be of any level and unit, and need not say which.

    Raises
    ------
    ContractError
        If it is no cube.
    TimeAxisError
        If it has other dates: the coordinate ``time`` has to be that of the cube, whenever its
        pixels were observed (``reference_time``).
    """
    if not isinstance(other, (xr.DataArray, xr.Dataset)):
        raise ContractError(
            f"{what} is a {type(other).__name__}", cure="give a cube on the dates of the first"
        )
    array = base.reflectance_of(at_door(other))
    array = as_pan(array) if is_pan else array
    require_contract(array)
    times, wanted = array["time"].values, cube["time"].values
    if not np.array_equal(times, wanted):
        raise TimeAxisError(
            f"{what} has {_dates(times)}, the cube {_dates(wanted)}",
            cure="bring it to the dates of the cube first, with xharmonize.fusion.references",
        )
    return array


def as_pan(array: xr.DataArray) -> xr.DataArray:
    """Return a panchromatic band as a cube of one band, what it does not say being unknown.

    Raises
    ------
    RadiometryError
        If it holds integers that nothing says how to decode.
    """
    array = array if "band" in array.dims else array.expand_dims("band", axis=1)
    lacking = {str(n) for n in (*TIME_COORDS, *BAND_COORDS) if n not in array.coords}
    if not np.issubdtype(array.dtype, np.floating) and lacking & set(BAND_COORDS):
        raise RadiometryError(
            f"the panchromatic band holds {array.dtype}, in which a missing pixel is a number",
            cure="make it floats that are NaN there, such as pan.where(pan > 0)",
        )
    shape = (array.sizes["time"], array.sizes["band"])
    plain: dict[str, Any] = {name: ("time", np.full(shape[0], UNKNOWN)) for name in TIME_COORDS}
    values = {"scale": 1.0, "offset": 0.0, "nodata": np.nan, "is_decoded": True}
    plain |= {name: (("time", "band"), np.full(shape, value)) for name, value in values.items()}
    return array.assign_coords(
        {name: plain[name] for name in lacking} | ({"band": [PAN]} if shape[1] == 1 else {})
    )


def values_of(array: xr.DataArray) -> xr.DataArray:
    """Return the values that a network is given: reflectance [1], backscatter of a radar in dB."""
    if is_radar(read_coordinate(array, "sensor").astype(str)):
        return to_decibels(array)
    return base.decoded(array)


def is_radar(sensors: Iterable[str]) -> bool:
    """Tell whether products are of a radar."""
    found = [find_sensor(str(name)) for name in Names.of(list(sensors))]
    return bool(found) and all(one is not None and one.radiometry.is_power for one in found)


def _dates(times: Any) -> str:
    shown = ", ".join(str(time)[:10] for time in times[:3])
    return f"{len(times)} dates ({shown}{', …' if len(times) > 3 else ''})"


def _require_sensor(array: xr.DataArray, wanted: str, what: str) -> None:
    """Raise unless all dates are of the products that an input was trained on, where it says."""
    known = Names.of(wanted) if wanted else None
    if known is None or UNKNOWN in known:
        return
    for name in np.unique(read_coordinate(array, "sensor").astype(str)):
        if not Names.of(name) <= known:
            raise RadiometryError(
                f"{what} was trained on {wanted}, this cube is of {name}",
                cure="give one of those, or settle it with xh.describe(cube, sensor=...)",
            )


def _require_rule(array: xr.DataArray, rule: str, what: str) -> None:
    """Raise where a reference lies after a date that it is to lie before, or the other way."""
    if rule not in ("before", "after") or REFERENCE_TIME not in array.coords:
        return
    gap = read_coordinate(array, REFERENCE_TIME) - array["time"].values
    gap = gap / np.timedelta64(1, "D")
    is_wrong = gap > 0 if rule == "before" else gap < 0
    if is_wrong.any():
        when = str(array["time"].values[is_wrong.argmax()])[:10]
        found = "after" if rule == "before" else "before"
        raise TimeAxisError(
            f"{what} is to be observed {rule} each date; that of {when} is "
            f"{abs(gap[is_wrong][0]):.3g} days {found} it",
            cure=f"choose the nearest clear date {rule} it",
        )
