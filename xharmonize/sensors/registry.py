"""Registry of products by name, and recognition of products and platforms by their names.

Platforms and levels are looked for with the patterns of every sensor, so that an item filed under
the wrong collection contradicts itself; everything else with those of the item's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from xharmonize.errors import SensorError, UnknownSensorError, suggest
from xharmonize.sensors.gaofen import GAOFEN_1_ARD
from xharmonize.sensors.hls import HLS_L30, HLS_S30
from xharmonize.sensors.landsat import LANDSAT_C1_SR, LANDSAT_C2_L2
from xharmonize.sensors.qa import LAYOUTS
from xharmonize.sensors.sentinel1 import SENTINEL_1_GRD, SENTINEL_1_RTC
from xharmonize.sensors.sentinel2 import SENTINEL_2_L2A
from xharmonize.sensors.spec import SEPARATOR, UNKNOWN, Flag, Instrument, Meaning, Names, Sensor

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
    """Return a registered product by name.

    Raises
    ------
    UnknownSensorError
        If the name is not registered; the message lists the registered names.

    Examples
    --------
    >>> sensor = get_sensor("landsat-c2-l2")
    >>> sensor.bandpass_of("landsat-9"), sensor.bandpass_of("landsat-7")
    ('oli', 'etm+')
    """
    try:
        return _SENSORS[name]
    except KeyError:
        raise UnknownSensorError(
            f"no sensor {name!r}",
            cure=f"{suggest(name, _SENSORS)}registered are {', '.join(_SENSORS)} "
            "(add yours with xh.sensors.register_sensor)",
            value=name,
        ) from None


def list_sensors() -> list[str]:
    """Return the names of all registered products."""
    return list(_SENSORS)


def all_sensors() -> tuple[Sensor, ...]:
    """Return all registered products."""
    return tuple(_SENSORS.values())


def pixel_of(band: str, sensors: Iterable[str], pixel: float) -> float:
    """Pixel size [m] at which a band was observed, where a cube holds it at a finer one.

    Parameters
    ----------
    band : str
        Common name.
    sensors : iterable of str
        Products of the cube's dates; those that are not registered count for nothing.
    pixel : float
        Pixel size of the cube [m]; the answer where the band's own is no multiple of it.
    """
    known = [_SENSORS[name].instruments for name in Names.of(sensors) if name in _SENSORS]
    sizes = [b.gsd for several in known for one in several for b in one.bands if b.name == band]
    own = min(sizes, default=pixel)
    ratio = own / pixel
    return float(own) if ratio > 1 and abs(ratio - round(ratio)) < 1e-6 else pixel


def register_sensor(sensor: Sensor, *, replace: bool = False) -> None:
    """Register a product by name, in this process.

    Parameters
    ----------
    sensor : Sensor
        Product with at least one instrument; its quality layers have layouts, or name one of
        `xharmonize.sensors.qa.LAYOUTS`.
    replace : bool
        Whether to replace a registered product of the same name.

    Raises
    ------
    SensorError
        If the name is taken or contains ``|``, or the product has no instrument, names a quality
        layout or mask flag that does not exist, lists a collection of another product, or has an
        invalid pattern.
    """
    if sensor.name in _SENSORS and not replace:
        raise SensorError(
            f"sensor {sensor.name!r} is registered", cure="pass replace=True to replace it"
        )
    if SEPARATOR in "".join((sensor.name, *sensor.platforms)):
        raise SensorError(
            f"sensor {sensor.name!r} or a platform of it has {SEPARATOR!r} in its name, which "
            "stands between names",
            cure="leave it out",
        )
    if not sensor.instruments or not all(inst.bands for inst in sensor.instruments):
        raise SensorError(f"sensor {sensor.name!r} needs an instrument with bands")
    named = [layer.layout for layer in sensor.qa if isinstance(layer.layout, str)]
    layouts = [name for name in named if name not in LAYOUTS]
    if layouts:
        raise SensorError(f"no quality layout {layouts}", cure=f"there are {sorted(LAYOUTS)}")
    known = {flag.label for flag in Flag}
    flags = [name for name in sensor.clear if name not in known]
    if flags:
        raise SensorError(f"no quality flag {flags}", cure=f"there are {sorted(known)}")
    for name in sensor.collections:
        other = find_sensor(name)
        if other is not None and other.name != sensor.name:
            raise SensorError(
                f"collection {name!r} is read as {other.name!r}",
                cure="register that one without it first",
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
                f"pattern {pattern!r} of sensor {sensor.name!r} is no regular expression: {error}",
                cure="correct it",
            ) from None
        odd = sorted(groups - set(PARTS)) if pattern in names.parts else []
        if odd or (pattern in names.parts and not groups):
            raise SensorError(
                f"pattern {pattern!r} of sensor {sensor.name!r} names the parts {odd}",
                cure=f"name those that it finds: {', '.join(PARTS)}",
            )


def find_sensor(collection: str) -> Sensor | None:
    """Return the product of a STAC collection, or None; case-insensitive.

    Examples
    --------
    >>> find_sensor("HLSL30.v2.0").name, find_sensor("naip")
    ('hls-l30', None)
    """
    wanted = collection.lower()
    names = (
        (sensor, {sensor.name, *(name.lower() for name in sensor.collections)})
        for sensor in _SENSORS.values()
    )
    return next((sensor for sensor, known in names if wanted in known), None)


def band_spellings(*own: Instrument) -> dict[str, str]:
    """Return common names of bands by what sensors call them; these instruments' words count first.

    ``B4`` is red for most, and near infrared for Landsat 7.
    """
    others = [sensor.instruments[0] for sensor in all_sensors()]
    return {
        spelt: name
        for instrument in reversed((*own, *others))
        for spelt, name in instrument.spellings.items()
    }


def stated(properties: Mapping[Any, Any], *names: str) -> list[tuple[str, Any]]:
    """Return properties by name, with any prefix or none: ``s2:name``, ``name``.

    Catalogues differ in the extension they use for the same fact. Results are in the order of
    `names`, then of the properties.
    """
    found = [
        (str(key), value)
        for key, value in properties.items()
        if value is not None and _bare(key) in names
    ]
    if len(found) > 1:
        found.sort(key=lambda pair: names.index(_bare(pair[0])))
    return found


@lru_cache(maxsize=4096)  # items of a collection have the same properties
def _bare(key: object) -> str:
    return str(key).rpartition(":")[2]


def normalize_platform(name: str) -> str:
    """Return the STAC spelling of a platform (``LANDSAT_8`` → ``landsat-8``).

    Names of constellations and empty names give ``"unknown"``; unrecognised platforms are
    returned in lower case.
    """
    bare, sensors = _squeezed(name), all_sensors()
    for sensor in sensors:
        for pattern in sensor.names.spellings:
            match = re.fullmatch(pattern, bare)
            if match:
                return sensor.names.platform.format(*match.groups())
    for platform in (name for sensor in sensors for name in sensor.platforms):
        if bare == _squeezed(platform):
            return platform
    if bare in ("", UNKNOWN, *(_squeezed(sensor.constellation) for sensor in sensors)):
        return UNKNOWN
    return re.sub(r"[\s_]+", "-", name.strip().lower())


def _find(pattern: str, text: str) -> re.Match[str] | None:
    return _compiled(pattern).search(text)


_compiled = lru_cache(maxsize=1024)(re.compile)  # `re` looks its own up ten times slower


def _squeezed(name: str) -> str:
    return re.sub(r"[\s_\-]", "", name.lower())


def normalize_baseline(text: str) -> str:
    """Return a processing baseline as ``05.10``, from ``5.1`` and ``N0510`` too; ``""`` if none."""
    match = re.match(r"^0?(\d{1,2})\.(\d{1,2})$", text) or re.match(r"^N?(\d\d)(\d\d)$", text)
    return f"{int(match.group(1)):02d}.{match.group(2):0<2}" if match else ""


def platform_in(texts: Iterable[str]) -> str:
    """Return the platform in the first name that contains one, or ``"unknown"``."""
    patterns = {
        (pattern, sensor.names.platform): None
        for sensor in all_sensors()
        for pattern in sensor.names.parts
        if "(?P<platform>" in pattern
    }
    for text in texts:
        for pattern, spelling in patterns:
            match = _find(pattern, text)
            if match:
                return spelling.format(match["platform"].lower())
    return UNKNOWN


def parts_in(texts: Iterable[str], sensor: Sensor) -> dict[str, str]:
    """Return what stands in names of a sensor's items, by the groups of its patterns.

    Of several names that state a part the first counts.
    """
    found: dict[str, str] = {}
    for text in texts:
        for pattern in sensor.names.parts:
            match = _find(pattern, text)
            if match:
                for part, value in match.groupdict().items():
                    if value:
                        found.setdefault(part, value)
    return found


def recognize(texts: Iterable[str], assets: Iterable[str]) -> Sensor | None:
    """Return the sensor whose products have one of these names, and such assets; None if none."""
    keys = list(assets)
    for text in texts:
        for sensor in all_sensors():
            names = sensor.names
            has_assets = not names.assets or any(_find(names.assets, key) for key in keys)
            if has_assets and _is_product(text, sensor):
                return sensor
    return None


def meanings_in(
    texts: Iterable[tuple[str, str]], sensor: Sensor
) -> Iterator[tuple[str, str, Meaning]]:
    """Yield what names and addresses say of what a product holds: where, in which words, what.

    Asked are the patterns of `sensor`, and, where a name is none of its own products', those of
    all others: they are ``"other"`` where the names of the sensor's sources don't count.

    Parameters
    ----------
    texts : iterable of (str, str)
        What messages call the text, and the text.
    sensor : Sensor
        What the product is read as.
    """
    own = [(_compiled(pattern), meaning) for pattern, meaning in sensor.names.levels]
    registered = dict.fromkeys(pair for one in all_sensors() for pair in one.names.levels)
    others = [
        (_compiled(pattern), meaning if sensor.names.trusted == "all" else "other")
        for pattern, meaning in registered
        if sensor.is_reflectance and (pattern, meaning) not in sensor.names.levels
    ]
    for where, text in texts:
        for pattern, meaning in own if _is_product(text, sensor) else (*own, *others):
            match = pattern.search(text)
            if match:
                yield where, match[0], meaning


def numbered_alike(sensor: Sensor) -> dict[int, Sensor]:
    """Return the products of a sensor's constellation by the number of their collection."""
    if sensor.collection_number is None:
        return {}
    return {
        one.collection_number: one
        for one in all_sensors()
        if one.collection_number is not None and one.constellation == sensor.constellation
    }


def _is_product(text: str, sensor: Sensor) -> bool:
    return any(_find(pattern, text) for pattern in sensor.names.products)
