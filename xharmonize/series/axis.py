"""The time axis of series: days, windows, and what coordinates become of merged dates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from xharmonize.cube import dates
from xharmonize.cube.contract import (
    BAND_COORDS,
    TIME_COORDS,
    main_layer,
    plain_numbers,
    read_coordinate,
    spread_over,
)
from xharmonize.cube.days import solar_days
from xharmonize.errors import ContractError, ModelError, RadiometryError, TimeAxisError
from xharmonize.harmonizers.published import cure_of_mixture
from xharmonize.sensors import Flag, Names
from xharmonize.types import AnyArray, IntArray

BLOCK_BYTES = 64 * 2**20
"""Size that a block with the whole time axis is kept to, where it can be cut."""

NOON = np.timedelta64(12, "h")
"""Time of day given to days: noon UTC is the same solar day at every longitude."""


def split_quantity(cube: xr.DataArray | xr.Dataset, *, what: str) -> tuple[str, xr.DataArray]:
    """Return the name and array of a cube's quantity: reflectance, or its one index.

    Raises
    ------
    ContractError
        If a Dataset holds several quantities, or none.
    RadiometryError
        If the values are digital numbers.
    TimeAxisError
        If there are no dates, or `time` holds anything else.
    """
    values = plain_numbers(main_layer(cube, what=what))
    name = str(values.name or "values")
    require_dates(values, what=what)
    decoded = "is_decoded" not in values.coords or read_coordinate(values, "is_decoded").all()
    if not np.issubdtype(values.dtype, np.floating) or not decoded:
        raise RadiometryError(
            f"{what} needs real values, the cube holds digital numbers ({values.dtype}); call "
            "cube.harmonize.decode() first"
        )
    return name, _with_read_coordinates(values)


def _with_read_coordinates(values: xr.DataArray) -> xr.DataArray:
    """Read the small tables along time that ``cube.chunk`` has made lazy: their chunks disturb."""
    lazy = {
        str(name): (coord.dims, read_coordinate(values, str(name)), coord.attrs)
        for name, coord in values.coords.items()
        if coord.chunks is not None and not {"y", "x"} & set(coord.dims)
    }
    return values.assign_coords(lazy) if lazy else values


def require_dates(cube: xr.DataArray | xr.Dataset, *, what: str) -> None:
    """Raise `TimeAxisError` unless every step along `time` has a date, and there are some."""
    dates.require_dates(cube, what=what)
    if cube.sizes["time"] == 0:
        raise TimeAxisError(f"{what} needs dates; the cube has none left")


def require_one_bandpass(cube: xr.DataArray, *, what: str) -> None:
    """Raise `ModelError` where dates of several bandpasses would be merged."""
    if "bandpass" not in cube.coords:
        return
    found = sorted({str(value) for value in np.atleast_1d(read_coordinate(cube, "bandpass"))})
    if len(found) > 1:
        raise ModelError(
            f"{what} would merge values of bandpasses {found}; harmonise them to one first: "
            f"{cure_of_mixture(found)}"
        )


def sensors_of(values: xr.DataArray) -> AnyArray:
    """Return the sensor of each date, or raise `ContractError`."""
    if "sensor" not in values.coords or values["sensor"].dims != ("time",):
        raise ContractError(
            "the cube does not say which sensor its dates are from: coordinate 'sensor' is "
            "missing; settle it with xh.describe(cube, sensor=...)"
        )
    found: AnyArray = read_coordinate(values, "sensor").astype(str)
    return found


def days_of(cube: xr.DataArray | xr.Dataset) -> IntArray:
    """Day number of each date: solar days where the cube has a place or says them, else UTC days.

    Returns
    -------
    (time,) int64 array
        Days since 1970-01-01.
    """
    if "y" in cube.dims and "x" in cube.dims and _has_crs(cube):
        return solar_days(cube)
    if "day" in cube.coords and cube["day"].dims == ("time",) and cube["day"].dtype.kind == "M":
        return cube["day"].values.astype("datetime64[D]").astype(np.int64)
    return cube["time"].values.astype("datetime64[D]").astype(np.int64)


def _has_crs(cube: xr.DataArray | xr.Dataset) -> bool:
    return any({"crs_wkt", "spatial_ref"} & set(coord.attrs) for coord in cube.coords.values())


def to_times(days: IntArray) -> AnyArray:
    """Return noon UTC of days since 1970-01-01, as datetime64[ns]."""
    return (days.astype("datetime64[D]") + NOON).astype("datetime64[ns]")


def whole_series(values: xr.DataArray, *, whole: Sequence[str] = ("time",)) -> xr.DataArray:
    """Return a lazy array with all dates in one block, blocks cut smaller in space if need be.

    New blocks nest in the old ones: no old block is read for two reasons.
    """
    if values.chunks is None:
        return values
    sizes = values.sizes
    fixed = int(np.prod([sizes[dim] for dim in whole if dim in sizes])) * values.dtype.itemsize
    edge = {dim: max(values.chunksizes[dim]) for dim in values.dims if dim not in whole}
    while edge and fixed * int(np.prod(list(edge.values()))) > BLOCK_BYTES:
        longest = max(edge, key=lambda dim: edge[dim])
        if edge[longest] == 1:
            break
        edge[longest] = -(-edge[longest] // 2)
    chunks = {
        dim: _split(values.chunksizes[dim], edge[dim]) if dim in edge else (sizes[dim],)
        for dim in values.dims
    }
    return values.copy(data=values.data.rechunk(tuple(chunks.values())))


def _split(chunks: Sequence[int], edge: int) -> tuple[int, ...]:
    """Cut chunks into pieces no longer than `edge`."""
    return tuple(
        min(edge, chunk - start) for chunk in chunks for start in range(0, max(chunk, 1), edge)
    )


def companion(cube: xr.DataArray | xr.Dataset, name: str, values: xr.DataArray) -> Any:
    """Return the data of a companion, spread and cut like the values; None where there is none."""
    if isinstance(cube, xr.DataArray) or name not in cube:
        return None
    layer = spread_over(cube[name], values)
    layer = layer.transpose(*values.dims)
    if values.chunks is None:
        return layer.data
    return da.asarray(layer.data).rechunk(values.chunks)


def is_snow(cube: xr.DataArray | xr.Dataset, values: xr.DataArray) -> Any:
    """Whether `qa` says snow, cut like the values; None without `qa`."""
    qa = companion(cube, "qa", values)
    return None if qa is None else (qa & np.uint16(Flag.SNOW)) != 0


def merged_coords(
    cube: xr.DataArray, groups: Sequence[IntArray], times: AnyArray, *, what: str
) -> dict[str, Any]:
    """Contract coordinates of dates that are made of several.

    Parameters
    ----------
    cube : DataArray
        With whatever coordinates along time it has.
    groups : sequence of int array
        Positions of the dates behind each new one; empty ones are unknown.
    times : (group,) datetime64 array
        The new dates.
    what : str
        Begins the new item ids.

    Returns
    -------
    dict
        Strings that differ are joined by `Names`; items are named after the verb and the day;
        tables per band are those of the first date; angles are left out.
    """
    coords: dict[str, Any] = {"time": times}
    for name in (n for n in TIME_COORDS if n in cube.coords and n != "item_id"):
        values = read_coordinate(cube, name).astype(str)
        coords[name] = ("time", np.array([str(Names.of(values[group])) for group in groups], str))
    if "item_id" in cube.coords:
        days = times.astype("datetime64[D]")
        coords["item_id"] = ("time", np.array([f"{what}-{day}" for day in days], str))
    for name in (n for n in BAND_COORDS if n in cube.coords):
        table = read_coordinate(cube, name)
        first = [int(group[0]) if len(group) else 0 for group in groups]
        coords[name] = (cube[name].dims, table[first])
    return coords


def without_time(cube: xr.DataArray) -> Mapping[Any, Any]:
    """Coordinates that do not lie along time."""
    return {name: c for name, c in cube.coords.items() if "time" not in c.dims}
