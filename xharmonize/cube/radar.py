"""Radar backscatter: linear power or decibels, orbits of its passes, and the speckle filter.

The attribute ``units`` says which: ``"1"`` is linear power, ``"dB"`` is 10·log₁₀ of it. Which
backscatter (sigma nought, gamma nought) stands in ``long_name``, where the product says so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks, with_margin, without_margin
from xharmonize.cube.contract import Cube, on_reflectance, read_coordinate, with_history
from xharmonize.cube.door import at_door
from xharmonize.cube.encode import decode
from xharmonize.cube.whole import days_of
from xharmonize.errors import OptionError, RadiometryError
from xharmonize.kernels.speckle import lee
from xharmonize.sensors import find_sensor
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.types import AnyArray, FloatArray

Units: TypeAlias = Literal["dB", "power"]
ORBIT_STATE, RELATIVE_ORBIT = "orbit_state", "relative_orbit"
"""Coordinates along time: ``ascending``, ``descending`` or ``unknown``; number, NaN if unknown."""

REPEAT = 6
"""Days after which the two satellites together see a place from the same orbit again."""

LOOKS = 4.4
"""Equivalent number of looks of an IW ground range product of high resolution at 10 m
(Sentinel-1 product definition, table 4-3); `sar:looks_equivalent_number` of its items."""


def to_decibels(cube: Cube) -> Cube:
    """Return radar backscatter in decibels, lazily; as it is if it already is.

    Parameters
    ----------
    cube : (time, band, y, x) DataArray or Dataset with ``reflectance``
        Backscatter that says its unit; digital numbers are decoded. Linear power of 0 or less,
        the border noise of a scene, is missing.

    Returns
    -------
    DataArray or Dataset
        float32 backscatter [dB], NaN where missing. The companion ``uncertainty`` is dropped
        where the unit changes.

    Raises
    ------
    RadiometryError
        If the cube is of another kind of sensor, or does not say its unit.

    Examples
    --------
    >>> from xharmonize.testing import example_cube
    >>> radar = example_cube("sentinel-1-rtc", platform="sentinel-1a", bands=["vv", "vh"])
    >>> to_decibels(radar).attrs["units"], to_power(to_decibels(radar)).attrs["units"]
    ('dB', '1')
    """
    cube = at_door(cube)
    return _in_units(cube, "dB")


def to_power(cube: Cube) -> Cube:
    """Return radar backscatter as linear power, lazily; the inverse of `to_decibels`.

    Parameters, result and errors are those of `to_decibels`.

    Examples
    --------
    >>> from xharmonize.testing import example_cube
    >>> radar = example_cube("sentinel-1-rtc", platform="sentinel-1a", bands=["vv", "vh"])
    >>> bool(abs(to_power(to_decibels(radar)) - radar).max() < 1e-6)
    True
    """
    cube = at_door(cube)
    return _in_units(cube, "power")


def _in_units(cube: Cube, wanted: Units) -> Cube:
    array = cube if isinstance(cube, xr.DataArray) else cube["reflectance"]
    require_radar(array)
    if not read_coordinate(array, "is_decoded").all():
        cube = decode(cube)
    if units_of(array) == wanted:
        return cube
    changed = on_reflectance(cube, partial(_converted, wanted=wanted))
    return (
        changed
        if isinstance(changed, xr.DataArray)
        else changed.drop_vars("uncertainty", errors="ignore")
    )


def _converted(array: xr.DataArray, *, wanted: Units) -> xr.DataArray:
    function: Callable[[AnyArray], FloatArray] = _decibels if wanted == "dB" else _power
    data = map_blocks(function, "...->...", array.data, dtype=np.float32, name="radar-units")
    attrs = with_history(
        {**array.attrs, "units": "dB" if wanted == "dB" else "1"}, f"backscatter as {wanted}"
    )
    return array.copy(data=data).assign_attrs(attrs)


def _decibels(power: AnyArray) -> FloatArray:
    logs = np.log10(power, out=np.full(power.shape, np.nan, np.float32), where=power > 0)
    return np.asarray(10 * logs, np.float32)


def _power(decibels: AnyArray) -> FloatArray:
    return np.asarray(np.power(10, decibels / 10), np.float32)


def units_of(array: xr.DataArray) -> Units:
    """Whether backscatter is linear power or in decibels.

    Raises
    ------
    RadiometryError
        If it says neither.
    """
    said = str(array.attrs.get("units", "")).strip().lower()
    if said in ("db", "decibel", "decibels"):
        return "dB"
    if said == "1":
        return "power"
    raise RadiometryError(
        f"backscatter has units {array.attrs.get('units')!r}: it does not say whether it is linear "
        "power or decibels",
        cure="write it with cube.assign_attrs(units='dB'), or units='1' for linear power",
    )


def require_radar(array: xr.DataArray) -> None:
    """Raise `RadiometryError` unless all dates are of a radar."""
    names = sorted(set(map(str, read_coordinate(array, "sensor"))))
    known = [find_sensor(name) for name in names]
    if not all(one is not None and one.radiometry.is_power for one in known):
        raise RadiometryError(
            f"radar backscatter is needed, the cube is of {', '.join(names)}",
            cure="open it with xh.open_stac(..., collection='sentinel-1-rtc', mask=None), or "
            "settle it with xh.describe(cube, sensor='sentinel-1-rtc', ...)",
        )


def tracks_of(cube: xr.DataArray) -> AnyArray:
    """Name the orbit that each pass of a radar looks from, along time.

    Passes of one relative orbit see a place at the same angle. Where no item says its orbit, the
    day modulo six and the hour tell them apart.

    Returns
    -------
    (time,) str array
        ``ascending/88``; ``unknown/day 3, 17 h`` of orbits that nobody states.
    """
    n = cube.sizes["time"]
    state, number = (
        read_coordinate(cube, name) if name in cube.coords else np.full(n, blank)
        for name, blank in ((ORBIT_STATE, UNKNOWN), (RELATIVE_ORBIT, np.nan))
    )
    hours = cube["time"].values.astype("datetime64[h]").astype(np.int64) % 24
    return np.array(
        [
            f"{way}/{orbit:.0f}" if np.isfinite(orbit) else f"{way}/day {day % REPEAT}, {hour} h"
            for way, orbit, day, hour in zip(state, number, days_of(cube).tolist(), hours.tolist())
        ],
        dtype=str,
    )


def orbits_stated(cube: xr.DataArray) -> dict[str, Any]:
    """Coordinates of the orbits of a radar cube that other software wrote, such as stackstac's.

    Returns
    -------
    dict
        ``orbit_state`` and ``relative_orbit`` along time, as far as they are stated.
    """
    n, found = cube.sizes["time"], {}
    for name, kind in ((ORBIT_STATE, str), (RELATIVE_ORBIT, float)):
        key = next((k for k in (name, f"sat:{name}") if k in cube.coords), None)
        if key is not None and cube[key].dims in ((), ("time",)):
            values = np.broadcast_to(read_coordinate(cube, key), n)
            found[name] = ("time", values.astype(kind))
    return found


def filter_speckle(cube: Cube, *, window: int = 7, looks: float = LOOKS) -> Cube:
    """Filter the speckle of radar backscatter by local statistics (Lee 1980), lazily.

    Each value moves towards the mean of the window around it: all the way where the window varies
    no more than speckle does, hardly where it varies much more, as at edges. Statistics are those
    of linear power and of valid pixels; a missing pixel stays missing. The result does not depend
    on chunks: blocks see the margin they need.

    Parameters
    ----------
    cube : (time, band, y, x) DataArray or Dataset with ``reflectance``
        Backscatter that says its unit; see `to_decibels`.
    window : int
        Side of the window [pixel], odd, at least 3.
    looks : float
        Equivalent number of looks: the squared mean over the variance of a uniform area. That of
        the product at its own pixels by default; averaged pixels have more.

    Returns
    -------
    DataArray or Dataset
        float32, in the unit it came in; NaN where missing. ``uncertainty`` is dropped.

    Raises
    ------
    RadiometryError
        If the cube is of another kind of sensor, or does not say its unit.
    OptionError
        If `window` or `looks` cannot be.

    References
    ----------
    Lee, J.-S. (1980). Digital image enhancement and noise filtering by use of local statistics.
    IEEE Transactions on Pattern Analysis and Machine Intelligence 2. doi:10.1109/TPAMI.1980.4766994

    Examples
    --------
    >>> from xharmonize.testing import example_cube
    >>> radar = example_cube("sentinel-1-rtc", platform="sentinel-1a", bands=["vv", "vh"])
    >>> bool(filter_speckle(radar).std() < radar.std())
    True
    """
    if isinstance(window, bool) or not isinstance(window, int) or window < 3 or window % 2 == 0:
        raise OptionError(cure="give an odd number from 3 on", argument="window", value=window)
    if not looks > 0:
        raise OptionError(cure="give a number above 0", argument="looks", value=looks)
    cube = at_door(cube)
    array = cube if isinstance(cube, xr.DataArray) else cube["reflectance"]
    require_radar(array)
    units = units_of(array)
    power = to_power(cube)
    smoothed = on_reflectance(power, partial(_filtered, window=window, looks=float(looks)))
    if not isinstance(smoothed, xr.DataArray):
        smoothed = smoothed.drop_vars("uncertainty", errors="ignore")
    return to_decibels(smoothed) if units == "dB" else smoothed


def _filtered(power: xr.DataArray, *, window: int, looks: float) -> xr.DataArray:
    values = power.transpose("time", "band", "y", "x")
    margin = {2: window // 2, 3: window // 2}
    block = partial(lee, half=window // 2, looks=looks)
    data = map_blocks(
        block, "...->...", with_margin(values.data, margin), dtype=np.float32, name="lee"
    )
    data = without_margin(data, values.data, margin)
    line = f"filter_speckle: lee, window={window}, looks={looks:g}"
    return values.copy(data=data).assign_attrs(with_history(values.attrs, line))
