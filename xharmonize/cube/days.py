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
    shift = 0.0 if math.isnan(longitude) else longitude / 15
    day: dt.date = (
        (moment + np.timedelta64(round(shift * 3600), "s")).astype("datetime64[D]").item()
    )
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
    shift = np.timedelta64(round(float(longitude) / 15 * 3600), "s")
    local = cube["time"].values + shift
    return local.astype("datetime64[D]").astype(np.int64)
