"""Results: cubes without dates, such as seasons by year or the slopes of a fit."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.contract import REFLECTANCE, TIME_COORDS
from xharmonize.errors import GridError
from xharmonize.sensors.spec import UNKNOWN

DAYS = "days since 1970-01-01"
"""Unit of dates where a format holds numbers only (CF)."""


def is_result(cube: xr.DataArray | xr.Dataset) -> bool:
    """Tell whether a cube is no series: it has neither dates along ``time`` nor a date of one."""
    return "time" not in cube.dims and "time" not in cube.coords


def as_variables(cube: xr.DataArray | xr.Dataset, *, what: str) -> xr.Dataset:
    """Return what lies along y and x as a Dataset, coordinates with it.

    Raises
    ------
    GridError
        If nothing does.
    """
    if isinstance(cube, xr.DataArray):
        name = cube.name or (REFLECTANCE if "band" in cube.dims else "values")
        cube = cube.to_dataset(name=str(name))
    names = [name for name, array in cube.data_vars.items() if {"y", "x"} <= set(array.dims)]
    if not names:
        raise GridError(
            f"{what} needs dimensions y and x; the cube has {tuple(map(str, cube.dims))}"
        )
    return cube[names]


def is_date(array: xr.DataArray) -> bool:
    """Whether values are dates."""
    return array.dtype.kind == "M"


def to_days(array: xr.DataArray) -> xr.DataArray:
    """Return dates as days since 1970-01-01 (float64, NaN for NaT), lazily; else the array."""
    if not is_date(array):
        return array
    days = (array - np.datetime64(0, "ns")) / np.timedelta64(1, "D")
    return days.assign_attrs({**array.attrs, "units": DAYS})


def is_bits(array: xr.DataArray) -> bool:
    """Whether values are flags, of which a mean says nothing."""
    return array.dtype.kind in "iu" and bool({"flag_masks", "flag_values"} & set(array.attrs))


def cells_of(cube: xr.DataArray | xr.Dataset) -> list[tuple[dict[Hashable, int], dict[str, Any]]]:
    """Return the place and the labels of each cell of the dimensions but band, y and x."""
    lead = [dim for dim in cube.dims if dim not in ("band", "y", "x")]
    return [
        (
            dict(zip(lead, place)),
            {str(d): cube[d].values[i] if d in cube.coords else i for d, i in zip(lead, place)},
        )
        for place in product(*(range(cube.sizes[dim]) for dim in lead))
    ]


def label_text(value: Any) -> str:
    """Write a label of a dimension: a date as its day."""
    is_time = isinstance(value, np.datetime64)
    return str(np.datetime_as_string(value, unit="D")) if is_time else str(value)


def as_series(result: xr.Dataset, name: str) -> xr.Dataset:
    """Return a result as entries along ``time``, one for each cell of its other dimensions.

    Entries are named after `name` and their labels, and dated to the first day of their ``year``
    or ``month``, else to 1970-01-01. Dates become `DAYS`.
    """
    result = as_variables(result, what="writing COGs")
    result = result.assign({name: to_days(array) for name, array in result.data_vars.items()})
    cells = cells_of(result)
    parts = [result.isel(place, drop=True).expand_dims("time") for place, _ in cells]
    ids = ["_".join([name, *(f"{d}-{label_text(v)}" for d, v in own.items())]) for _, own in cells]
    coords: dict[str, Any] = {n: ("time", np.full(len(cells), UNKNOWN)) for n in TIME_COORDS}
    coords |= {"item_id": ("time", np.array(ids)), "time": [_date_of(own) for _, own in cells]}
    whole = xr.concat(parts, "time", data_vars="all", coords="minimal", compat="override")
    return whole.assign_coords(coords)


def _date_of(labels: dict[str, Any]) -> np.datetime64:
    if isinstance(labels.get("month"), np.datetime64):
        return np.datetime64(labels["month"], "ns")
    if "year" in labels:
        return np.datetime64(f"{int(labels['year']):04}-01-01", "ns")
    return np.datetime64(0, "ns")
