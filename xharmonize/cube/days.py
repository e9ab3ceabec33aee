"""Days as the sun makes them."""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
import xarray as xr

from xharmonize.cube.geobox import centre_of, geobox_of
from xharmonize.types import IntArray


def solar_day(moment: np.datetime64, longitude: float) -> dt.date:
    """Return the date of mean solar time at a longitude [degree]; in UTC where that is NaN."""
    day: dt.date = (moment + _ahead(longitude)).astype("datetime64[D]").item()
    return day


def solar_days(cube: xr.DataArray | xr.Dataset) -> IntArray:
    """Day number of each date, in mean solar time at the centre of the cube.

    Returns
    -------
    (time,) int64 array
        Days since 1970-01-01; a morning pass never falls on two days, as it may in UTC.
    """
    from pyproj import Transformer

    grid = geobox_of(cube)
    transformer = Transformer.from_crs(grid.crs.to_wkt(), "EPSG:4326", always_xy=True)
    longitude, _ = transformer.transform(*centre_of(grid))
    local = cube["time"].values + _ahead(float(longitude))
    return local.astype("datetime64[D]").astype(np.int64)


def _ahead(longitude: float) -> np.timedelta64:
    """How far mean solar time is ahead of UTC: an hour every 15 degrees."""
    hours = 0.0 if math.isnan(longitude) else longitude / 15
    return np.timedelta64(round(hours * 3600), "s")
