"""Platforms and orbits of dates, and the shifts that a fit gives them."""

from __future__ import annotations

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from xharmonize.cube.contract import read_coordinate
from xharmonize.cube.dates import solar_days
from xharmonize.cube.geobox import centre_of
from xharmonize.errors import ContractError, TimeAxisError
from xharmonize.sensors.registry import all_sensors
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.types import AnyArray, Float64Array

REPEAT = {"sentinel-2": 10, "landsat": 16}
"""Days after which one platform comes along the same orbit again."""


def orbit_groups(cube: xr.DataArray | xr.Dataset) -> AnyArray:
    """Name the platform and relative orbit of each date.

    A platform returns to an orbit after a fixed number of days, so that the day modulo this number
    tells the orbits of one platform apart; where the platform is unknown, it tells platforms of one
    constellation apart as well (Sentinel-2A and -2B follow each other by five days).

    Returns
    -------
    (time,) str array
        ``sentinel-2a/3``: platform, or product where it is unknown, and phase [day].
    """
    sensors, platforms = (
        read_coordinate(cube, name).astype(str)
        if name in cube.coords
        else np.full(cube.sizes["time"], UNKNOWN)
        for name in ("sensor", "platform")
    )
    repeat = {s.name: _repeat(f"{s.constellation} {s.name}") for s in all_sensors()}
    return np.array(
        [
            f"{sensor if platform == UNKNOWN else platform}/{day % repeat.get(sensor, 10)}"
            for sensor, platform, day in zip(sensors, platforms, solar_days(cube).tolist())
        ],
        dtype=str,
    )


def _repeat(name: str) -> int:
    return next((days for text, days in REPEAT.items() if text in name), 10)


def shifts_of(cube: xr.DataArray | xr.Dataset, fit: xr.Dataset) -> Float64Array:
    """Shift of each date of a cube, from a fit.

    A date that the fit lacks gets the mean of its platform and orbit, where the fit has that.

    Returns
    -------
    (time, 2) float64 array
        Shift east and north [m].

    Raises
    ------
    ContractError
        If the fit holds no shifts.
    TimeAxisError
        If a date, and its group, are not in the fit.
    """
    lost = {"shift_x", "shift_y", "time"} - {str(name) for name in fit.variables}
    if lost or "time" not in fit.dims:
        raise ContractError(
            f"shifts= has no {sorted(lost)} along 'time'",
            cure="give a result of xh.fit_shifts(cube)",
        )
    values = np.stack([np.asarray(fit[n].values, np.float64) for n in ("shift_x", "shift_y")], -1)
    times = np.atleast_1d(cube["time"].values).astype("datetime64[ns]")
    fitted = fit["time"].values.astype("datetime64[ns]")
    if np.array_equal(times, fitted) and np.isfinite(values).all():
        return values  # by position: dates may occur twice
    known = dict(zip(fitted.tolist(), values))
    absent = [time for time in times.tolist() if time not in known]
    means = _group_means(fit) if absent else {}
    groups = orbit_groups(cube) if absent and means else np.full(times.size, "")
    found = [known.get(time, means.get(str(group))) for time, group in zip(times.tolist(), groups)]
    for time, shift in zip(times, found):
        if shift is None or not np.isfinite(shift).all():
            raise TimeAxisError(
                f"shifts= has none for {np.datetime_as_string(time, unit='s')}",
                cure="fit them on all dates with xh.fit_shifts(cube)",
            )
    return np.array(found, np.float64).reshape(times.size, 2)


def pair_shifts(source: xr.DataArray, target: xr.DataArray, fit: xr.Dataset) -> xr.Dataset:
    """Shift of each date of a source against the target of its pair, along ``time`` [m].

    What the fit says of the target's own dates (``reference_shift_x``, …) is taken off; dates that
    it has not seen lie where the mean of all does.
    """
    moved = shifts_of(source, fit)
    if "reference_time" in fit.dims:
        fixed = np.stack(
            [fit["reference_shift_x"].values, fit["reference_shift_y"].values], axis=-1
        )
        times = fit["reference_time"].values.astype("datetime64[ns]").tolist()
        known = dict(zip(times, fixed))
        wanted = target["time"].values.astype("datetime64[ns]").tolist()
        moved = moved - np.array([known.get(time, np.zeros(2)) for time in wanted])
    return xr.Dataset(
        {"shift_x": ("time", moved[:, 0]), "shift_y": ("time", moved[:, 1])},
        coords={"time": source["time"].values},
    )


def _group_means(fit: xr.Dataset) -> dict[str, Float64Array]:
    if "group_x" not in fit:
        return {}
    pairs = np.stack([fit["group_x"].values, fit["group_y"].values], -1)
    return dict(zip(fit["group"].values.astype(str).tolist(), pairs))


def in_pixels(shifts: Float64Array, grid: GeoBox) -> Float64Array:
    """Convert shifts east and north [m] to shifts down and right [pixel] of a grid, (n, 2)."""
    metres_x, metres_y = metres_per_unit(grid)
    right = shifts[:, 0] / (grid.affine.a * metres_x)
    down = shifts[:, 1] / (grid.affine.e * metres_y)
    return np.stack([down, right], axis=1)


def metres_per_unit(grid: GeoBox) -> tuple[float, float]:
    """Length of a unit of the CRS along x and y [m], at the centre of a grid."""
    from pyproj import CRS, Geod

    if not grid.crs.geographic:
        factor = float(CRS.from_wkt(grid.crs.to_wkt()).axis_info[0].unit_conversion_factor)
        return factor, factor
    x, y = centre_of(grid)
    geod, step = Geod(ellps="WGS84"), 1e-3
    _, _, east = geod.inv(x - step, y, x + step, y)
    _, _, north = geod.inv(x, y - step, x, y + step)
    return float(east) / (2 * step), float(north) / (2 * step)


def in_metres(grid: GeoBox) -> Float64Array:
    """Matrix (2, 2) that turns a shift down and right [pixel] into one east and north [m]."""
    metres_x, metres_y = metres_per_unit(grid)
    return np.array([[0.0, grid.affine.a * metres_x], [grid.affine.e * metres_y, 0.0]])
