"""Origin of values: observed, harmonised, filled or sharpened."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.companions import COMPANIONS, Origin, join_bands
from xharmonize.cube.contract import read_coordinate, spread_over
from xharmonize.sensors import Names, get_sensor
from xharmonize.types import AnyArray

_SEEN = np.uint8(Origin.OBSERVED | Origin.HARMONISED | Origin.SHARPENED)


def origin_of(values: xr.DataArray) -> xr.DataArray:
    """The companion ``origin`` of values that have none yet, lazily; 0 where they are missing.

    Parameters
    ----------
    values : DataArray
        Along ``time``, with its contract; NaN where missing.
    """
    codes = xr.Variable("time", _codes(values))
    origin: Any = np.isfinite(values.variable) * codes
    layer = values.copy(data=origin.transpose(*values.dims).data).drop_attrs()
    return layer.rename("origin").assign_attrs(COMPANIONS["origin"].attrs)


def sharpened_origin(origin: xr.DataArray) -> xr.DataArray:
    """The companion ``origin`` after sharpening: sharpened in place of observed, lazily."""
    observed, sharpened = np.uint8(Origin.OBSERVED), np.uint8(Origin.SHARPENED)
    data = (origin.data & ~observed) | ((origin.data != 0) * sharpened)
    return origin.copy(data=data.astype(origin.dtype)).assign_attrs(COMPANIONS["origin"].attrs)


def _codes(values: xr.DataArray) -> AnyArray:
    """Origin of each date: observed in its product's own bandpass, or harmonised."""
    steps = zip(*(read_coordinate(values, name) for name in ("sensor", "platform", "bandpass")))
    return np.array([_code_of(*map(str, step)) for step in steps], np.uint8)


def _code_of(sensors: str, platforms: str, bandpass: str) -> Origin:
    """Origin of a date, of all its sensors if it was merged from several."""
    result = Origin(0)
    for sensor in map(get_sensor, Names.of(sensors)):
        flown = Names.of(platforms) & set(sensor.platforms) or Names.of(platforms)
        own = {sensor.bandpass_of(platform) for platform in flown}
        result |= Origin.OBSERVED if bandpass in own else Origin.HARMONISED
    return result


def is_filled(cube: xr.DataArray | xr.Dataset, values: xr.DataArray) -> xr.DataArray | None:
    """Where values are filled rather than observed, lazily; None if there is no `origin`.

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
