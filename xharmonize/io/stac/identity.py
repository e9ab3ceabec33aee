"""Identify an item: platform, level, and encoding of its digital numbers.

Every fact is looked for in the properties first, then in the product names that catalogues keep
(``s2:product_uri``, ``landsat:scene_id``), then in the item id. The sensing date decides nothing.
Prefixes of properties are the catalogue's own choice and decide nothing either. How names are
read, the sensors say.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xharmonize.cube.metadata import Metadata, check_collection, names_in, platform_of
from xharmonize.cube.radiometry import (
    Applied,
    Encoding,
    Numbers,
    is_same,
    read_applied,
    read_number,
    settle_encoding,
)
from xharmonize.errors import RadiometryError, UnknownSensorError
from xharmonize.io.stac.fields import as_objects, as_whole, malformed, name_of
from xharmonize.sensors import find_sensor, get_sensor
from xharmonize.sensors.registry import all_sensors, recognize, stated
from xharmonize.sensors.spec import UNKNOWN, Flag, QALayer, Sensor
from xharmonize.types import Item

_LEVEL_1 = re.compile(r"(?:^|[^a-z])(?:MSI)?L1|level[\s_-]?1", re.IGNORECASE)
_MGRS = re.compile(r"(\d{1,2}[C-X][A-Z]{2})$")

OWN = "xharmonize:"
"""Prefix of the properties by which items of `xharmonize.to_cogs` keep their contract."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Sensor, platform and acquisition of an item.

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
        """Return a name shared by all items of one overflight.

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
    """Return sensor, platform and acquisition of an item.

    Parameters
    ----------
    item : dict
        As `xharmonize.io.stac.items.normalize_item` returns it.
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
    """Return the error of an unknown product, with the likely ones and a cure."""
    collection, platform = item["collection"], platform_of(item["properties"], names)
    said = f"item {item['id']!r} of collection {collection!r} is of no registered sensor"
    if not collection:
        return UnknownSensorError(
            f"{said}: it names no collection", cure="set its field 'collection'"
        )
    surface = [
        s.name for s in all_sensors() if s.level == "SR" and platform in (*s.platforms, UNKNOWN)
    ]
    own = (
        "register a product of its own with "
        f"xh.sensors.register_sensor(xh.sensors.Sensor(name={collection!r}, …))"
    )
    if not surface:
        return UnknownSensorError(f"{said} (platform {platform!r})", cure=f"leave it out, or {own}")
    start = (
        f"sensor = xh.sensors.get_sensor({surface[0]!r}); "
        "xh.sensors.register_sensor(dataclasses.replace(sensor"
    )
    levels = [str(value) for _, value in stated(item["properties"], "level", "product_type")]
    if any(_LEVEL_1.search(text) for text in (collection, *levels, *(text for _, text in names))):
        return UnknownSensorError(
            f"{said}: Level 1, top-of-atmosphere reflectance",
            cure="register it as that, with the bands "
            f"of {surface[0]}: {start}, name={collection!r}, level='TOA', qa=(), collections=()))",
        )
    return UnknownSensorError(
        f"{said}",
        cure=f"if its numbers are those of {' or '.join(surface)}, make that list it: {start}, "
        f"collections=(*sensor.collections, {collection!r})), replace=True); otherwise {own}",
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
        f"was observed by {platform!r}, {sensor.name} knows {', '.join(sensor.platforms)}",
        cure="leave such items out with query={'platform': "
        "{'in': [...]}}, or register a sensor that has the platform",
        item=item["id"],
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


def settle_encodings(
    item: Item,
    assets: Mapping[str, str],
    identity: Identity,
    *,
    override: Mapping[str, float],
) -> dict[str, Encoding]:
    """Return scale, offset and nodata of some assets.

    Parameters
    ----------
    item : dict
        As `xharmonize.io.stac.items.normalize_item` returns it.
    assets : mapping of str to str
        Band name → asset key.
    identity : Identity
        Who observed the item.
    override : mapping
        ``scale``, ``offset``, ``nodata`` that the user settled; they override all metadata.

    Raises
    ------
    RadiometryError
        If the metadata say nothing, or contradict each other; the message names the item and the
        argument that settles it.
    """
    sensor, is_own = identity.sensor, identity.is_own
    owner, cure = f"item {item['id']!r}", _cure(item)
    applied = Applied()
    if not is_own and not {"scale", "offset"} <= set(override):
        applied = read_applied(item["properties"], sensor, owner=owner, cure=cure)
    found = {}
    for band, key in assets.items():
        numbers = Numbers(
            owner=owner,
            band=key,
            cure=cure,
            sensor=sensor,
            baseline=identity.metadata.baseline,
            baselines=identity.metadata.baselines,
            declared=_declared(item, key, needs_agreement="offset" not in override),
            dtype=str(raster_band(item, key).get("data_type") or ""),
            applied=applied,
        )
        given = _as_written(numbers, override) if is_own else override
        found[band] = settle_encoding(numbers, override=given)
    return found


def _as_written(numbers: Numbers, override: Mapping[str, float]) -> dict[str, float]:
    """Numbers of an item of ours, which need no rules."""
    written = {**numbers.declared, **override}
    if not {"scale", "offset"} <= set(written):
        raise RadiometryError(
            f"{numbers.owner} is marked as written by to_cogs, but asset {numbers.band!r} states "
            "no scale and offset",
            cure=f"{numbers.cure}",
        )
    return written


def unit_of(item: Item, assets: Iterable[str], sensor: Sensor) -> str:
    """Return the unit of the decoded values: what the assets declare, or the sensor's.

    Raises
    ------
    RadiometryError
        If the assets have different units: a cube has one.
    """
    units = {asset: _unit(item, asset, sensor) for asset in assets}
    if len(set(units.values())) > 1:
        named = ", ".join(f"{asset!r} [{unit}]" for asset, unit in units.items())
        raise RadiometryError(
            f"assets {named} of item {item['id']!r} have different units",
            cure="open them apart, with bands=[...]",
        )
    return next(iter(units.values()))


def _unit(item: Item, asset: str, sensor: Sensor) -> str:
    declared, extra = raster_band(item, asset), sensor.extra_band(asset)
    if extra is not None:
        return extra.radiometry.units
    return str(declared.get("unit") or sensor.radiometry.units)


def _declared(item: Item, asset: str, *, needs_agreement: bool) -> dict[str, float]:
    """Gather scale, offset and nodata that an asset declares, in STAC 1.0 or 1.1 fields."""
    fields, old = item["assets"][asset], raster_band(item, asset)
    bands = as_objects(fields.get("bands"), f"asset {asset!r}: bands")
    new = {k: fields[k] for k in ("raster:scale", "raster:offset") if fields.get(k) is not None}
    new |= {k: v for band in bands[:1] for k, v in band.items() if str(k).startswith("raster:")}
    declared = {
        key: _declared_number(item, asset, key, old[key])
        for key in ("scale", "offset", "nodata")
        if old.get(key) is not None
    }
    for key in ("scale", "offset"):
        other = new.get(f"raster:{key}")
        if other is None:
            continue
        found = _declared_number(item, asset, key, other)
        first = declared.setdefault(key, found)
        if needs_agreement and not is_same(found, first):
            raise RadiometryError(
                f"contradicts itself: asset {asset!r} says {key} {first} in "
                f"raster:bands and {other} in raster:{key}",
                cure=f"{_cure(item)}",
                item=item["id"],
            )
    return declared


def raster_band(item: Item, asset: str) -> Mapping[str, Any]:
    """Return the first entry of an asset's ``raster:bands``; empty where there is none."""
    found = item["assets"][asset].get("raster:bands")
    if not found:
        return {}
    if type(found) is list and type(found[0]) is dict:  # nearly always; of ten thousand items
        return found[0]
    bands = as_objects(found, f"{name_of(item)}: asset {asset!r}: raster:bands")
    return bands[0] if bands else {}


def _declared_number(item: Item, asset: str, key: str, value: Any) -> float:
    if type(value) is float and 0 < value < math.inf:  # nearly always
        return value
    number = read_number(key, value)
    if number is None:
        wanted = "a number above 0" if key == "scale" else "a number"
        raise malformed(f"{name_of(item)}: asset {asset!r}: {key}", value, wanted)
    return number


def _cure(item: Mapping[str, Any]) -> str:
    return (
        "settle it from the data provider's documents with "
        f"radiometry={{{item['id']!r}: {{'scale': ..., 'offset': ...}}}} "
        "(xh.check_radiometry shows what the pixels suggest)"
    )
