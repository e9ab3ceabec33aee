"""What names and properties say of a product, by the patterns that sensors register.

Platforms and levels are looked for with the patterns of every sensor, so that an item filed under
the wrong collection contradicts itself; everything else with those of the item's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from xharmonize.sensors.registry import all_sensors
from xharmonize.sensors.spec import UNKNOWN, Meaning, Sensor


def stated(properties: Mapping[Any, Any], *names: str) -> list[tuple[str, Any]]:
    """Return the properties of some names under any prefix, or none: ``s2:name``, ``name``.

    Which extension a catalogue files a fact under is its own choice. The order is that of `names`,
    then that of the properties.
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

    Names of a constellation, and the empty name, give ``"unknown"``; a platform of no known
    family is returned in lower case.
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
    """Return the platform that the first name with one says, or ``"unknown"``."""
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


def meanings_in(text: str, sensor: Sensor) -> Iterator[tuple[str, Meaning]]:
    """Yield the parts of a name or address that say what a product holds, and what they say.

    Asked are the patterns of `sensor`, and, unless the name is one of its own products', those of
    all others: they are ``"other"`` where the names of the sensor's sources don't count.
    """
    for pattern, meaning in sensor.names.levels:
        match = _find(pattern, text)
        if match:
            yield match[0], meaning
    if not sensor.is_reflectance or _is_product(text, sensor):
        return
    others = {pair: None for one in all_sensors() for pair in one.names.levels}
    for pattern, meaning in others.keys() - sensor.names.levels:
        match = _find(pattern, text)
        if match:
            yield match[0], meaning if sensor.names.trusted == "all" else "other"


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
