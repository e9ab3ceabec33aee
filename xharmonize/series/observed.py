"""What of a series was observed: a smoothed or filled one is no set of observations."""

from __future__ import annotations

import re

import numpy as np
import xarray as xr

from xharmonize.cube.companions import Origin, join_bands
from xharmonize.cube.contract import read_coordinate, spread_over
from xharmonize.errors import ContractError
from xharmonize.sensors.spec import UNKNOWN, Names
from xharmonize.types import AnyArray, BoolArray

_SMOOTH = re.compile(r"(^|: )smooth: ", re.MULTILINE)
_SEEN = np.uint8(Origin.OBSERVED | Origin.HARMONISED)


def is_smoothed(cube: xr.DataArray | xr.Dataset) -> bool:
    """Tell whether the values of a series are those of a smoothed course, by its history."""
    layers = [cube, *(cube.data_vars.values() if isinstance(cube, xr.Dataset) else ())]
    return any(_SMOOTH.search(str(layer.attrs.get("history", ""))) for layer in layers)


def is_filled(cube: xr.DataArray | xr.Dataset, values: xr.DataArray) -> xr.DataArray | None:
    """Where values stand that nobody observed, lazily; None where `origin` does not say it.

    Parameters
    ----------
    values : DataArray
        The quantity of the cube, or one band of it.
    """
    if not isinstance(cube, xr.Dataset) or "origin" not in cube:
        return None
    origin = cube["origin"]
    if "band" in origin.dims and "band" not in values.dims:
        origin = (
            origin.sel(band=values["band"])
            if "band" in values.coords
            else join_bands(origin, "origin")
        )
    origin = spread_over(origin, values).transpose(*values.dims)
    is_new = ((origin & np.uint8(Origin.FILLED)) != 0) & ((origin & _SEEN) == 0)
    return values.copy(data=is_new.data).drop_attrs()


def observed_values(
    cube: xr.DataArray | xr.Dataset, values: xr.DataArray, *, what: str
) -> xr.DataArray:
    """Return the values with NaN where nothing was observed, lazily.

    Raises
    ------
    ContractError
        If the series was smoothed, and does not say what was observed.
    """
    filled = is_filled(cube, values)
    if filled is not None:
        return values.copy(data=values.where(~filled.variable).data)
    if is_smoothed(cube):
        raise ContractError(
            f"{what} counts observations; the series was smoothed and has no 'origin', which says "
            "what was observed: take the series before it was smoothed, or smooth it as a Dataset, "
            "with cube.to_dataset(name='ndvi').harmonize.smooth(...)"
        )
    return values


def has_look(cube: xr.DataArray | xr.Dataset) -> BoolArray:
    """Whether a sensor looked on each date (time,), by coordinates alone.

    A smoothed series has the sensors that looked on a day, and ``unknown`` where none did.
    """
    n = cube.sizes["time"]
    if "sensor" not in cube.coords or not is_smoothed(cube):
        return np.ones(n, bool)
    seen: BoolArray = np.broadcast_to(read_coordinate(cube, "sensor").astype(str) != UNKNOWN, n)
    return seen


def known_sensors(sensors: AnyArray) -> list[str]:
    """Names of the sensors of all dates, merged looks taken apart; unknown only if all are."""
    names = Names.of(sensors)
    return sorted(names - {UNKNOWN}) or sorted(names)
