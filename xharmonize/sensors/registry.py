"""The registry of products by name."""

from __future__ import annotations

import re
from difflib import get_close_matches

from xharmonize.errors import SensorError, UnknownSensorError
from xharmonize.sensors.gaofen import GAOFEN_1_ARD
from xharmonize.sensors.hls import HLS_L30, HLS_S30
from xharmonize.sensors.landsat import LANDSAT_C1_SR, LANDSAT_C2_L2
from xharmonize.sensors.qa import LAYOUTS
from xharmonize.sensors.sentinel1 import SENTINEL_1_GRD, SENTINEL_1_RTC
from xharmonize.sensors.sentinel2 import SENTINEL_2_L2A
from xharmonize.sensors.spec import SEPARATOR, Flag, Sensor

PARTS = ("platform", "baseline", "tile", "sensing", "datastrip", "collection")
"""Groups that patterns of `Names.parts` may have."""

_SENSORS: dict[str, Sensor] = {
    sensor.name: sensor
    for sensor in (
        SENTINEL_2_L2A,
        LANDSAT_C2_L2,
        LANDSAT_C1_SR,
        HLS_L30,
        HLS_S30,
        GAOFEN_1_ARD,
        SENTINEL_1_GRD,
        SENTINEL_1_RTC,
    )
}


def get_sensor(name: str) -> Sensor:
    """Return the registered product of this name.

    Raises
    ------
    UnknownSensorError
        If nobody registered it; the message lists the names that are known.

    Examples
    --------
    >>> sensor = get_sensor("landsat-c2-l2")
    >>> sensor.bandpass_of("landsat-9"), sensor.bandpass_of("landsat-7")
    ('oli', 'etm+')
    """
    try:
        return _SENSORS[name]
    except KeyError:
        raise UnknownSensorError(_unknown(name)) from None


def list_sensors() -> list[str]:
    """Return the names of all registered products."""
    return list(_SENSORS)


def all_sensors() -> tuple[Sensor, ...]:
    """Return all registered products."""
    return tuple(_SENSORS.values())


def register_sensor(sensor: Sensor, *, replace: bool = False) -> None:
    """Make a product known by its name to this process.

    Parameters
    ----------
    sensor : Sensor
        With at least one instrument; its quality layers have layouts, or name those of
        `xharmonize.sensors.qa.LAYOUTS`.
    replace : bool
        Allow a name that is taken.

    Raises
    ------
    SensorError
        If the name is taken or holds ``|``, or the product has no instrument, names a quality
        layout or a mask flag that does not exist, lists a collection that is another product's, or
        has a pattern that is none.
    """
    if sensor.name in _SENSORS and not replace:
        raise SensorError(f"sensor {sensor.name!r} is registered; pass replace=True to replace it")
    if SEPARATOR in "".join((sensor.name, *sensor.platforms)):
        raise SensorError(
            f"sensor {sensor.name!r} or a platform of it has {SEPARATOR!r} in its name, which "
            "stands between names; leave it out"
        )
    if not sensor.instruments or not all(inst.bands for inst in sensor.instruments):
        raise SensorError(f"sensor {sensor.name!r} needs an instrument with bands")
    named = [layer.layout for layer in sensor.qa if isinstance(layer.layout, str)]
    layouts = [name for name in named if name not in LAYOUTS]
    if layouts:
        raise SensorError(f"no quality layout {layouts}; there are {sorted(LAYOUTS)}")
    known = {flag.label for flag in Flag}
    flags = [name for name in sensor.clear if name not in known]
    if flags:
        raise SensorError(f"no quality flag {flags}; there are {sorted(known)}")
    for name in sensor.collections:
        other = find_sensor(name)
        if other is not None and other.name != sensor.name:
            raise SensorError(
                f"collection {name!r} is read as {other.name!r}; register that one without it first"
            )
    _check_patterns(sensor)
    _SENSORS[sensor.name] = sensor


def _check_patterns(sensor: Sensor) -> None:
    """Raise `SensorError` where a pattern of names cannot be used."""
    names = sensor.names
    levels = (pattern for pattern, _ in names.levels)
    others = (*names.spellings, *names.products, names.assets, names.source_files, *levels)
    for pattern in (*names.parts, *others):
        try:
            groups = re.compile(pattern).groupindex.keys()
        except re.error as error:
            raise SensorError(
                f"pattern {pattern!r} of sensor {sensor.name!r} is no regular expression: {error}; "
                "correct it"
            ) from None
        odd = sorted(groups - set(PARTS)) if pattern in names.parts else []
        if odd or (pattern in names.parts and not groups):
            raise SensorError(
                f"pattern {pattern!r} of sensor {sensor.name!r} names the parts {odd}; name those "
                f"that it finds: {', '.join(PARTS)}"
            )


def find_sensor(collection: str) -> Sensor | None:
    """Return the product that a STAC collection holds, or None; case does not count."""
    wanted = collection.lower()
    names = (
        (sensor, {sensor.name, *(name.lower() for name in sensor.collections)})
        for sensor in _SENSORS.values()
    )
    return next((sensor for sensor, known in names if wanted in known), None)


def _unknown(name: str) -> str:
    close = get_close_matches(str(name), _SENSORS, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return (
        f"no sensor {name!r}; {hint}registered are {', '.join(_SENSORS)} "
        "(add yours with xh.register_sensor)"
    )
