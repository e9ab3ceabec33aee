"""Who observed an item: product, platform, processing baseline, pass and tile, read in one trip.

Every fact is looked for in the properties first, then in the product names that catalogues keep
(``s2:product_uri``, ``landsat:scene_id``), then in the item id. The sensing date decides nothing.
Prefixes of properties are the catalogue's own choice and decide nothing either. How names are
read, the sensors say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from xharmonize.cube.catalog.fields import as_whole, name_of
from xharmonize.cube.catalog.items import Item
from xharmonize.cube.metadata import Metadata, check_collection, names_in, platform_of
from xharmonize.errors import UnknownSensorError
from xharmonize.sensors import find_sensor, get_sensor
from xharmonize.sensors.names import recognize, stated
from xharmonize.sensors.registry import all_sensors
from xharmonize.sensors.spec import UNKNOWN, Flag, QALayer, Sensor

_LEVEL_1 = re.compile(r"(?:^|[^a-z])(?:MSI)?L1|level[\s_-]?1", re.IGNORECASE)
_MGRS = re.compile(r"(\d{1,2}[C-X][A-Z]{2})$")

OWN = "xharmonize:"
"""Prefix of the properties by which items of `xharmonize.to_cogs` keep their contract."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who observed an item.

    Attributes
    ----------
    sensor : Sensor
        The product.
    platform : str
        STAC platform name in lower case.
    tile : str
        MGRS tile, or Landsat path and row.
    sensing : str
        Start of the datatake; empty where no name says it.
    orbit : str
        Absolute orbit; empty where the item doesn't say.
    datastrip : str
        Sensing start of a datastrip, of which a granule may have two; empty where there is none.
    metadata : Metadata
        What names and properties state of the product, its processing baseline among it.
    is_own : bool
        Whether `xharmonize.to_cogs` wrote the item; its metadata then need no rules.

    What nobody says is ``"unknown"``.
    """

    sensor: Sensor
    platform: str
    tile: str
    sensing: str
    orbit: str
    datastrip: str
    metadata: Metadata
    is_own: bool

    def datatake(self, *, day: str, second: str) -> str:
        """Return a name that all items seen within one overflight share.

        Platform and start of sensing where names say it (Sentinel-2); else path and day for
        products that are cut along a path (Landsat), the absolute orbit (Sentinel-1), or the
        second of acquisition.
        """
        is_path = self.sensor.names.one_pass == "path"
        if self.sensing:
            part = self.sensing
        elif is_path and (self.tile.isdigit() or self.tile == UNKNOWN):
            part = f"{self.tile[:3] if self.tile.isdigit() else 'any-path'}_{day}"
        else:
            part = self.orbit or second
        return f"{self.platform}_{part}"


def identify(item: Item, *, platform: str | None = None) -> Identity:
    """Return who observed an item.

    Parameters
    ----------
    item : dict
        As `xharmonize.cube.catalog.items.normalize_item` returns it.
    platform : str, optional
        Platform that overrides the metadata.

    Raises
    ------
    UnknownSensorError
        If neither its collection nor its product name fit a registered sensor, or the sensor does
        not have its platform.
    RadiometryError
        If its collection says one Landsat Collection and its id the other, or its properties name
        one platform and its names another.
    """
    properties, own, name = item["properties"], is_own(item), str(item["id"])
    names = tuple(names_in(properties, name))
    sensor = _own_sensor(item) if own else _sensor_of(item, names)
    metadata = Metadata(
        sensor=sensor,
        owner=f"item {item['id']!r}",
        properties=properties,
        names=names,
        cure="correct the collection or the field that is wrong, or leave the item out",
        collection=item["collection"],
    )
    if not own:
        said = stated(properties, "collection_number") if sensor.collection_number else ()
        check_collection(metadata, [as_whole(n, f"{name_of(item)}: {key}") for key, n in said])
    if platform is None:
        written = str(properties.get("platform") or UNKNOWN)
        platform = written if own else platform_of(properties, names)
    orbit, parts = properties.get("sat:absolute_orbit"), metadata.parts
    return Identity(
        sensor=sensor,
        platform=_known_platform(item, sensor, platform),
        tile=_tile_of(item, parts),
        sensing=parts.get("sensing", ""),
        orbit="" if orbit is None else str(orbit),
        datastrip=parts.get("datastrip", ""),
        metadata=metadata,
        is_own=own,
    )


def is_own(item: Item) -> bool:
    """Tell whether `xharmonize.to_cogs` wrote the item; its metadata then need no rules."""
    return f"{OWN}sensor" in item["properties"]


def _sensor_of(item: Item, names: Sequence[tuple[str, str]]) -> Sensor:
    """The registered product of an item: by its collection, else by its names."""
    found = find_sensor(item["collection"]) if item["collection"] else None
    found = found or recognize((text for _, text in names), item["assets"])
    if found is None:
        raise _unregistered(item, names)
    return found


def _unregistered(item: Item, names: Sequence[tuple[str, str]]) -> UnknownSensorError:
    """The error of an item that is no product we know: what it may be, and what helps then."""
    collection, platform = item["collection"], platform_of(item["properties"], names)
    said = f"item {item['id']!r} of collection {collection!r} is of no registered sensor"
    if not collection:
        return UnknownSensorError(f"{said}: it names no collection; set its field 'collection'")
    surface = [
        s.name for s in all_sensors() if s.level == "SR" and platform in (*s.platforms, UNKNOWN)
    ]
    own = (
        f"register a product of its own with xh.register_sensor(xh.Sensor(name={collection!r}, …))"
    )
    if not surface:
        return UnknownSensorError(f"{said} (platform {platform!r}); leave it out, or {own}")
    start = f"sensor = xh.get_sensor({surface[0]!r}); xh.register_sensor(dataclasses.replace(sensor"
    levels = [str(value) for _, value in stated(item["properties"], "level", "product_type")]
    if any(_LEVEL_1.search(text) for text in (collection, *levels, *(text for _, text in names))):
        return UnknownSensorError(
            f"{said}: Level 1, top-of-atmosphere reflectance; register it as that, with the bands "
            f"of {surface[0]}: {start}, name={collection!r}, level='TOA', qa=(), collections=()))"
        )
    return UnknownSensorError(
        f"{said}; if its numbers are those of {' or '.join(surface)}, make that list it: {start}, "
        f"collections=(*sensor.collections, {collection!r})), replace=True); otherwise {own}"
    )


def _own_sensor(item: Item) -> Sensor:
    """The product, with the packed flags of a cube of ours for quality layer, if it had any."""
    sensor = get_sensor(str(item["properties"][f"{OWN}sensor"]))
    packed = QALayer(
        name="qa",
        assets=("qa",),
        layout="packed-flags",
        gsd=sensor.gsd,
        dtype="uint16",
        fill=int(Flag.FILL),
    )
    return replace(sensor, qa=(packed,) if "qa" in item["assets"] else ())


def _known_platform(item: Item, sensor: Sensor, platform: str) -> str:
    if platform in (UNKNOWN, sensor.constellation, *sensor.platforms):
        return platform
    raise UnknownSensorError(
        f"item {item['id']!r} was observed by {platform!r}, {sensor.name} knows "
        f"{', '.join(sensor.platforms)}; leave such items out with query={{'platform': "
        f"{{'in': [...]}}}}, or register a sensor that has the platform"
    )


def _tile_of(item: Item, parts: Mapping[str, str]) -> str:
    properties = item["properties"]
    path, row = (stated(properties, name) for name in ("wrs_path", "wrs_row"))
    if path and row:
        numbers = (as_whole(value, f"{name_of(item)}: {key}") for key, value in (path[0], row[0]))
        return "".join(f"{number:03d}" for number in numbers)
    tile = next((value for _, value in stated(properties, "mgrs_tile")), None)
    match = _MGRS.search(str(tile or properties.get("grid:code") or ""))
    named = match[1] if match else parts.get("tile", UNKNOWN)
    return named.zfill(5) if _MGRS.fullmatch(named) else named
