"""A series as features for machine learning: one layer per date and band."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xharmonize.cube.contract import main_layer, read_coordinate
from xharmonize.cube.dates import require_dates
from xharmonize.cube.door import at_door
from xharmonize.errors import ContractError, RadiometryError, TimeAxisError


def to_features(
    cube: xr.DataArray | xr.Dataset, *, dates: Sequence[str | np.datetime64] | None = None
) -> xr.DataArray:
    """Lay dates and bands of a series behind one another; lazy.

    Parameters
    ----------
    cube : (time, band, y, x) or (time, y, x) DataArray, or Dataset of one quantity
        Reflectance or an index [1]; NaN where missing. Companions of a Dataset are left out.
    dates : sequence of str or datetime64, optional
        Days (UTC) to take, in this order; all by default.

    Returns
    -------
    (feature, y, x) DataArray
        float32, NaN where missing, in one chunk along ``feature``, with the coordinates `feature`
        (``"2018-07-01 red"``; with the time where a day has several dates), `date` and
        `feature_band` (the name of an index, where there are no bands).

    Raises
    ------
    TimeAxisError
        If a date asked for is not there, or the cube has none.
    ContractError
        If a Dataset holds no quantity, or several, or the cube has no pixels.
    RadiometryError
        If the cube holds digital numbers: their gaps would be numbers too.

    Examples
    --------
    >>> from xharmonize.testing import example_cube
    >>> features = to_features(example_cube(bands=("red", "nir08")), dates=["2018-07-01"])
    >>> [str(name) for name in features["feature"].values]
    ['2018-07-01 red', '2018-07-01 nir08']
    """
    cube = at_door(cube)
    array = main_layer(cube, what="to_features")
    if "time" not in array.dims:
        raise TimeAxisError(f"features need dates; the cube has dimensions {tuple(array.dims)}")
    if not {"y", "x"} <= set(array.dims):
        raise ContractError(f"features need pixels (y, x); the cube has {tuple(array.dims)}")
    decoded = "is_decoded" not in array.coords or read_coordinate(array, "is_decoded").all()
    if not np.issubdtype(array.dtype, np.floating) or not decoded:
        raise RadiometryError(
            f"features need real values, the cube holds {array.dtype}; call "
            "cube.harmonize.decode() first"
        )
    require_dates(array, what="to_features")
    if dates is not None:
        array = array.isel(time=_positions(array, dates))
    if not array.sizes["time"]:
        raise TimeAxisError("the series has no date: there is nothing to make features of")
    days = _labels(array["time"].values)
    if "band" not in array.dims:
        array = array.expand_dims(band=[str(array.name or "value")])
    bands = [str(name) for name in array["band"].values]
    array = array.transpose("time", "band", "y", "x")
    data = array.data.astype(np.float32).reshape((-1, *array.shape[2:]))
    coords: dict[Any, Any] = {
        name: coord
        for name, coord in array.coords.items()
        if not {"time", "band"} & {str(dim) for dim in coord.dims} and name not in ("time", "band")
    }
    coords["feature"] = [f"{day} {band}" for day in days for band in bands]
    coords["date"] = ("feature", np.repeat(array["time"].values, len(bands)))
    coords["feature_band"] = ("feature", np.tile(np.array(bands), len(days)))
    result = xr.DataArray(
        data, coords=coords, dims=("feature", "y", "x"), name="features", attrs=array.attrs
    )
    return result if result.chunks is None else result.chunk(feature=-1)


def _positions(array: xr.DataArray, dates: Sequence[str | np.datetime64]) -> list[int]:
    """Where the days asked for stand; a day with several dates gives all of them."""
    days = array["time"].values.astype("datetime64[D]")
    found: list[int] = []
    for date in dates:
        day = np.datetime64(pd.Timestamp(date), "D")
        matches = np.flatnonzero(days == day)
        if not matches.size:
            nearest = days[np.argmin(np.abs(days - day))] if days.size else "none"
            raise TimeAxisError(f"the series has no date on {day}; the nearest is {nearest}")
        found += matches.tolist()
    return found


def _labels(times: Any) -> list[str]:
    """Days as text; to the second where a day occurs twice."""
    days = [str(time) for time in times.astype("datetime64[D]")]
    if len(set(days)) == len(days):
        return days
    exact = [str(time) for time in times.astype("datetime64[s]")]
    return [second if days.count(day) > 1 else day for day, second in zip(days, exact)]
