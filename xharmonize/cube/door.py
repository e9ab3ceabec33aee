"""What every public function does first with a cube it is given."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from xharmonize.cube.contract import DIMS, TIME_COORDS
from xharmonize.cube.store.encode import COMPLETE, VERSION, from_codes, is_completeness
from xharmonize.errors import ContractError

T = TypeVar("T")


def at_door(cube: T) -> T:
    """Return a cube with dimensions in the order (time, band, y, x) and strings for codes.

    Other dimensions (`pair`, `field`, …) keep their place. What plain xarray reads from a store is
    read by the store's own codes, and entries of a write under way or killed are left out. Nothing
    is computed but codes; a cube that is in order is returned as it is.

    Raises
    ------
    ContractError
        If a contract coordinate holds numbers that no ``flag_meanings`` explain.
    """
    if not isinstance(cube, xr.DataArray | xr.Dataset):  # None, or what the function refuses
        return cube
    settled: T = _in_order(_by_own_codes(cube))
    return settled


def _in_order(cube: Any) -> Any:
    arrays = [cube.variable] if isinstance(cube, xr.DataArray) else [*cube.data_vars.values()]
    arrays += [coord for coord in cube.coords.values() if coord.ndim > 1]
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
    """Dimensions of a cube in their order, in the places they have among the others."""
    own = iter([dim for dim in DIMS if dim in dims])
    return tuple(next(own) if dim in DIMS else dim for dim in dims)


def _by_own_codes(cube: Any) -> Any:
    """Read what plain xarray opened from a store as `open_series` would."""
    complete = cube.coords.get(COMPLETE)
    if complete is not None and is_completeness(complete.attrs) and complete.dims == ("time",):
        whole = np.asarray(complete.values) == 1
        cube = cube if whole.all() else cube.isel(time=np.flatnonzero(whole))
        cube = cube.drop_vars([name for name in (COMPLETE, VERSION) if name in cube.coords])
    decoded = {}
    for name in TIME_COORDS:
        coord = cube.coords.get(name)
        # The shares of `frequency` lie along a dimension that is called level, too.
        if coord is not None and coord.dtype.kind in "biufcmM" and set(coord.dims) <= {"time"}:
            decoded[name] = _text(name, coord)
    return cube.assign_coords(decoded) if decoded else cube


def _text(name: str, coord: xr.DataArray) -> xr.Variable:
    attrs = dict(coord.attrs)
    if coord.dtype.kind not in "iu" or not attrs.get("flag_meanings"):
        raise ContractError(
            f"the coordinate {name!r} holds numbers ({coord.dtype}), and no flag_meanings say what "
            "they stand for; open a store with xh.open_series(path), or settle the coordinates "
            "with xh.describe(cube, sensor=..., platform=...)"
        )
    values = from_codes(np.asarray(coord.values), attrs, name=name)
    attrs = {key: v for key, v in attrs.items() if key not in ("flag_values", "flag_meanings")}
    return xr.Variable(coord.dims, values, attrs)
