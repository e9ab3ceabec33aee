"""Input normalisation of all public functions, and results without a time axis."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import product
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from xharmonize.cube.codes import COMPLETE, VERSION, from_codes, is_completeness
from xharmonize.cube.contract import DIMS, REFLECTANCE, TIME_COORDS
from xharmonize.errors import ContractError, GridError
from xharmonize.sensors.spec import UNKNOWN

T = TypeVar("T")


def at_door(cube: T) -> T:
    """Normalise a cube: dimensions in the order (time, band, y, x), and codes as strings.

    Other dimensions (`pair`, `field`, …) keep their place. Cubes that plain xarray opened from a
    store are decoded with the store's codes, and entries of unfinished writes are dropped. Only
    codes are computed; a normalised cube is returned unchanged.

    Raises
    ------
    ContractError
        If a contract coordinate holds numbers without ``flag_meanings``.
    """
    if not isinstance(cube, xr.DataArray | xr.Dataset):  # None, or what the function refuses
        return cube
    settled: T = _in_order(_by_own_codes(cube))
    return settled


def _in_order(cube: Any) -> Any:
    arrays = [cube.variable] if isinstance(cube, xr.DataArray) else [*cube.data_vars.values()]
    arrays += [coord for coord in cube.coords.variables.values() if coord.ndim > 1]
    if all(_ordered(array.dims) == tuple(array.dims) for array in arrays):
        return cube
    if isinstance(cube, xr.DataArray):
        return cube.transpose(*_ordered(cube.dims)).assign_coords(_coords_in_order(cube))
    own = {name: array.transpose(*_ordered(array.dims)) for name, array in cube.data_vars.items()}
    return cube.assign(own).assign_coords(_coords_in_order(cube))


def _coords_in_order(cube: Any) -> dict[Hashable, Any]:
    return {
        name: coord.variable.transpose(*_ordered(coord.dims))
        for name, coord in cube.coords.items()
        if coord.ndim > 1
    }


def _ordered(dims: tuple[Hashable, ...]) -> tuple[Hashable, ...]:
    """Reorder the dimensions of a cube among themselves; others keep their place."""
    own = iter([dim for dim in DIMS if dim in dims])
    return tuple(next(own) if dim in DIMS else dim for dim in dims)


def _by_own_codes(cube: Any) -> Any:
    """Decode a store opened with plain xarray as `open_series` would."""
    complete = cube.coords.get(COMPLETE)
    if complete is not None and is_completeness(complete.attrs) and complete.dims == ("time",):
        whole = np.asarray(complete.values) == 1
        cube = cube if whole.all() else cube.isel(time=np.flatnonzero(whole))
        cube = cube.drop_vars([name for name in (COMPLETE, VERSION) if name in cube.coords])
    decoded = {}
    for name in TIME_COORDS:
        coord = cube.coords.get(name)
        # The result of `frequency` also has a dimension called level.
        if coord is not None and coord.dtype.kind in "biufcmM" and set(coord.dims) <= {"time"}:
            decoded[name] = _text(name, coord)
    return cube.assign_coords(decoded) if decoded else cube


def _text(name: str, coord: xr.DataArray) -> xr.Variable:
    attrs = dict(coord.attrs)
    if coord.dtype.kind not in "iu" or not attrs.get("flag_meanings"):
        raise ContractError(
            f"the coordinate {name!r} holds numbers ({coord.dtype}), and no flag_meanings say what "
            "they stand for",
            cure="open a store with xh.open_series(path), or settle the coordinates "
            "with xh.describe(cube, sensor=..., platform=...)",
        )
    values = from_codes(np.asarray(coord.values), attrs, name=name)
    attrs = {key: v for key, v in attrs.items() if key not in ("flag_values", "flag_meanings")}
    return xr.Variable(coord.dims, values, attrs)


DAYS = "days since 1970-01-01"
"""Unit of dates where a format holds numbers only (CF)."""


def is_result(cube: xr.DataArray | xr.Dataset) -> bool:
    """Tell whether a cube is a result rather than a series: it has no dates, or date, in `time`."""
    return "time" not in cube.dims and "time" not in cube.coords


def as_variables(cube: xr.DataArray | xr.Dataset, *, what: str) -> xr.Dataset:
    """Return all variables along y and x as a Dataset, including coordinates.

    Raises
    ------
    GridError
        If there are none.
    """
    if isinstance(cube, xr.DataArray):
        name = cube.name or (REFLECTANCE if "band" in cube.dims else "values")
        cube = cube.to_dataset(name=str(name))
    names = [name for name, array in cube.data_vars.items() if {"y", "x"} <= set(array.dims)]
    if not names:
        raise GridError(
            f"{what} needs dimensions y and x", cure=f"the cube has {tuple(map(str, cube.dims))}"
        )
    return cube[names]


def is_date(array: xr.DataArray) -> bool:
    """Whether values are dates."""
    return array.dtype.kind == "M"


def to_days(array: xr.DataArray) -> xr.DataArray:
    """Convert dates to days since 1970-01-01 (float64, NaN for NaT), lazily; keep other arrays."""
    if not is_date(array):
        return array
    days = (array - np.datetime64(0, "ns")) / np.timedelta64(1, "D")
    return days.assign_attrs({**array.attrs, "units": DAYS})


def is_bits(array: xr.DataArray) -> bool:
    """Whether values are flags, whose mean is meaningless."""
    return array.dtype.kind in "iu" and bool({"flag_masks", "flag_values"} & set(array.attrs))


def cells_of(cube: xr.DataArray | xr.Dataset) -> list[tuple[dict[Hashable, int], dict[str, Any]]]:
    """Return index and labels of each cell along dimensions other than band, y and x."""
    lead = [dim for dim in cube.dims if dim not in ("band", "y", "x")]
    return [
        (
            dict(zip(lead, place)),
            {str(d): cube[d].values[i] if d in cube.coords else i for d, i in zip(lead, place)},
        )
        for place in product(*(range(cube.sizes[dim]) for dim in lead))
    ]


def label_text(value: Any) -> str:
    """Format a label of a dimension; a date as its day."""
    is_time = isinstance(value, np.datetime64)
    return str(np.datetime_as_string(value, unit="D")) if is_time else str(value)


def as_series(result: xr.Dataset, name: str) -> xr.Dataset:
    """Convert a result to entries along ``time``, one per cell of its other dimensions.

    Entries are named after `name` and their labels, and dated to the first day of their ``year``
    or ``month``, else to 1970-01-01. Date values become `DAYS`.
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
