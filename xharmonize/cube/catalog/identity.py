"""Who observed an item: product, platform, processing baseline, pass and tile, from its metadata.

Every fact is looked for in the properties first, then in the product names that catalogues keep
(``s2:product_uri``, ``landsat:scene_id``), then in the item id. The sensing date decides nothing.
Prefixes of properties are the catalogue's own choice and decide nothing either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from xharmonize.cube.catalog.fields import as_whole, name_of, stated
from xharmonize.cube.catalog.items import Item
from xharmonize.errors import RadiometryError, UnknownSensorError
from xharmonize.sensors import find_sensor, get_sensor, list_sensors
from xharmonize.sensors.spec import UNKNOWN, Flag, QALayer, Sensor

_NAMES = (
    "product_uri",
    "product_id",
    "product_name",
    "product_identifier",
    "datatake_id",
    "granule_id",
    "tile_id",
    "datastrip_id",
    "scene_id",
)
_PLATFORMS = (  # (spelling without separators, STAC name)
    (re.compile(r"^(?:sentinel|s)2([a-d])$"), "sentinel-2{}"),
    (re.compile(r"^(?:sentinel|s)1([a-d])$"), "sentinel-1{}"),
    (re.compile(r"^(?:landsat|l[cote]0?)([4-9])$"), "landsat-{}"),
    (re.compile(r"^(?:gaofen|gf)1([a-d]?)$"), "gaofen-1{}"),
)
_IN_NAMES = (  # (how a product name begins or goes on, STAC name)
    (re.compile(r"(?:^|[_.])G?S2([A-D])_"), "sentinel-2{}"),
    (re.compile(r"(?:^|[_.])S1([A-D])_"), "sentinel-1{}"),
    (re.compile(r"^L[COTE]0?([4-9])(?=_|\d{6})"), "landsat-{}"),
    (re.compile(r"^GF1([A-D]?)_"), "gaofen-1{}"),
)
_PRODUCTS = (  # (pattern of a product name or item id, sensor)
    (re.compile(r"^S2[A-D]_MSIL2A_|^S2[A-D]_.*_L2A$"), "sentinel-2-l2a"),
    (re.compile(r"^HLS\.L30\."), "hls-l30"),
    (re.compile(r"^HLS\.S30\."), "hls-s30"),
    (re.compile(r"^L[COTE]0[4-9]_L2S[PR]_\d{6}_.*_02_"), "landsat-c2-l2"),
    (re.compile(r"^L[COTE]0[4-9]_L\w{3}_\d{6}_.*_01_"), "landsat-c1-sr"),
    (re.compile(r"^S1[A-D]_\w\w_GRD._.*_rtc$"), "sentinel-1-rtc"),
    (re.compile(r"^S1[A-D]_\w\w_GRD._"), "sentinel-1-grd"),
)
_LEVEL_1 = re.compile(r"(?:^|[^a-z])(?:MSI)?L1|level[\s_-]?1", re.IGNORECASE)
_LANDSAT_ID = re.compile(
    r"^L[COTE]0[4-9]_(?P<level>L\w{3})_(?P<tile>\d{6})_.*?_(?P<c>0[12])(?:_|$)"
)
_BASELINE = re.compile(r"_N(\d\d)\.?(\d\d)(?:_|$|\.)")
_SENSING = re.compile(r"(?:MSIL\w\w_|GS2[A-D]_)(\d{8}T\d{6})")
_HAS_MGRS = re.compile(r"^(?:G?S2|HLS)")
_MGRS = re.compile(r"(?:^|[_.])T?(\d{1,2}[C-X][A-Z]{2})(?=[_.]|$)")


OWN = "xharmonize:"
"""Prefix of the properties by which items of `xharmonize.to_cogs` keep their contract."""


def is_own(item: Item) -> bool:
    """Tell whether `xharmonize.to_cogs` wrote the item; its metadata then need no rules."""
    return f"{OWN}sensor" in item["properties"]


def recognize_sensor(item: Item) -> Sensor:
    """Return the registered product an item belongs to.

    Raises
    ------
    UnknownSensorError
        If neither its collection nor its product name fit a registered sensor.
    RadiometryError
        If its collection says one Landsat Collection and its id the other.
    """
    if is_own(item):
        return _own_sensor(item)
    found = find_sensor(item["collection"]) if item["collection"] else None
    by_name = _sensor_of_names(item)
    if found is None and by_name is None:
        raise _unregistered(item)
    sensor = found or get_sensor(str(by_name))
    check_landsat(item, sensor, cure="correct the item's collection")
    return sensor


def _unregistered(item: Item) -> UnknownSensorError:
    """The error of an item that is no product we know: what it may be, and what helps then."""
    collection, platform = item["collection"], platform_of(item)
    said = f"item {item['id']!r} of collection {collection!r} is of no registered sensor"
    if not collection:
        return UnknownSensorError(f"{said}: it names no collection; set its field 'collection'")
    known = [get_sensor(name) for name in list_sensors()]
    surface = [s.name for s in known if s.level == "SR" and platform in (*s.platforms, UNKNOWN)]
    own = (
        f"register a product of its own with xh.register_sensor(xh.Sensor(name={collection!r}, …))"
    )
    if not surface:
        return UnknownSensorError(f"{said} (platform {platform!r}); leave it out, or {own}")
    start = f"sensor = xh.get_sensor({surface[0]!r}); xh.register_sensor(dataclasses.replace(sensor"
    texts = [str(value) for _, value in stated(item["properties"], "level", "product_type")]
    if any(_LEVEL_1.search(text) for text in (collection, *texts, *_texts(item))):
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


def platform_of(item: Item) -> str:
    """Return the STAC platform name in lower case, or ``"unknown"``.

    Raises
    ------
    RadiometryError
        If the properties name one platform and the product name another.
    """
    if is_own(item):
        return str(item["properties"].get("platform") or UNKNOWN)
    stated = normalize_platform(str(item["properties"].get("platform") or ""))
    named = next((name for text in _texts(item) for name in _platforms_in(text)), UNKNOWN)
    if UNKNOWN not in (stated, named) and stated != named:
        raise RadiometryError(
            f"item {item['id']!r} says platform {stated!r} but is named after {named!r}; "
            f"settle it with platform={{{item['id']!r}: {named!r}}}"
        )
    return named if stated == UNKNOWN else stated


def normalize_platform(name: str) -> str:
    """Return the STAC spelling of a platform (``LANDSAT_8`` → ``landsat-8``).

    Names of a constellation, and the empty name, give ``"unknown"``; a platform of no known
    family is returned in lower case.
    """
    bare = re.sub(r"[\s_\-]", "", name.lower())
    for pattern, spelling in _PLATFORMS:
        match = pattern.match(bare)
        if match and not (spelling == "sentinel-2{}" and not match.group(1)):
            return spelling.format(match.group(1))
    if bare in ("", "unknown", "sentinel1", "sentinel2", "landsat", "hls"):
        return UNKNOWN
    return re.sub(r"[\s_]+", "-", name.strip().lower())


def baseline_of(item: Item) -> str:
    """Return the processing baseline (``05.10``), or ``"unknown"``."""
    return next((baseline for _, baseline in baselines_of(item)), UNKNOWN)


def baselines_of(item: Item) -> Iterator[tuple[str, str]]:
    """Yield every processing baseline that an item states, with the field that states it."""
    properties = item["properties"]
    version = ("processing:version", properties.get("processing:version"))
    for key, value in (*stated(properties, "processing_baseline"), version):
        found = normalize_baseline(str(value))
        if found:
            yield key, found
    for key, text in names_of(item):
        match = _BASELINE.search(text)
        if match:
            yield key, f"{match.group(1)}.{match.group(2)}"


def normalize_baseline(text: str) -> str:
    """Return a processing baseline as ``05.10``, from ``5.1`` and ``N0510`` too; ``""`` if none."""
    match = re.match(r"^0?(\d{1,2})\.(\d{1,2})$", text) or re.match(r"^N(\d\d)(\d\d)$", text)
    return f"{int(match.group(1)):02d}.{match.group(2):0<2}" if match else ""


def tile_of(item: Item) -> str:
    """Return the MGRS tile, the Landsat path and row, or ``"unknown"``."""
    properties = item["properties"]
    path, row = (stated(properties, name) for name in ("wrs_path", "wrs_row"))
    if path and row:
        numbers = (as_whole(value, f"{name_of(item)}: {key}") for key, value in (path[0], row[0]))
        return "".join(f"{number:03d}" for number in numbers)
    tile = next((value for _, value in stated(properties, "mgrs_tile")), None)
    grid = str(tile or properties.get("grid:code") or "")
    match = re.search(r"(\d{1,2}[C-X][A-Z]{2})$", grid)
    if match:
        return _pad_tile(match.group(1))
    landsat = _LANDSAT_ID.match(item["id"])
    if landsat:
        return landsat.group("tile")
    named = (_MGRS.search(text) for text in _texts(item) if _HAS_MGRS.match(text))
    found = next((match for match in named if match), None)
    return _pad_tile(found.group(1)) if found else UNKNOWN


def datatake_of(item: Item, *, platform: str, tile: str, solar_day: str, second: str) -> str:
    """Return a name that all items seen within one overflight share.

    Sentinel-2: platform and start of sensing, from the datatake id or the product name. Landsat:
    platform, path and day. Sentinel-1: absolute orbit. Otherwise the second of acquisition.
    """
    properties = item["properties"]
    for text in _texts(item):
        match = _SENSING.search(text)
        if match:
            return f"{platform}_{match.group(1)}"
    if platform.startswith("landsat") and (tile.isdigit() or tile == UNKNOWN):
        path = tile[:3] if tile.isdigit() else "any-path"
        return f"{platform}_{path}_{solar_day}"
    orbit = properties.get("sat:absolute_orbit")
    if orbit is not None:
        return f"{platform}_{orbit}"
    return f"{platform}_{second}"


def datastrip_of(item: Item) -> str:
    """Return the sensing start of a Sentinel-2 datastrip, or ``""``: parts of one granule."""
    named = (str(value) for _, value in stated(item["properties"], "datastrip_id"))
    found = (re.search(r"_S(\d{8}T\d{6})", name) for name in named)
    return next((match.group(1) for match in found if match), "")


def names_of(item: Item) -> Iterator[tuple[str, str]]:
    """Yield the product names the item carries, each with its field, then its id."""
    for key, value in stated(item["properties"], *_NAMES):
        if value:
            yield key, str(value)
    yield "id", str(item["id"])


def _texts(item: Item) -> Iterator[str]:
    return (text for _, text in names_of(item))


def _platforms_in(text: str) -> Iterator[str]:
    for pattern, spelling in _IN_NAMES:
        match = pattern.search(text)
        if match:
            yield spelling.format(match.group(1).lower())


def _sensor_of_names(item: Item) -> str | None:
    for text in _texts(item):
        for pattern, name in _PRODUCTS:
            if pattern.search(text) and (name != "landsat-c1-sr" or _has_c1_reflectance(item)):
                return name
    return None


def _has_c1_reflectance(item: Item) -> bool:
    """Tell Collection 1 surface reflectance by its assets: Level 1 has the same product names."""
    return any(key == "pixel_qa" or key.startswith("sr_") for key in item["assets"])


def check_landsat(item: Item, sensor: Sensor, *, cure: str) -> None:
    """Raise `RadiometryError` if an item's Landsat Collection is not that of its sensor."""
    expected = {"landsat-c1-sr": "01", "landsat-c2-l2": "02"}.get(sensor.name)
    if expected is None:
        return
    match = _LANDSAT_ID.match(item["id"])
    numbers = [value for _, value in stated(item["properties"], "collection_number")]
    number = numbers[0] if numbers else match and match.group("c")
    if number is None:
        return
    number = as_whole(number, f"{name_of(item)}: collection number")
    if f"{number:02d}" != expected:
        said = f" its collection {item['collection']!r}" if item["collection"] else ""
        raise RadiometryError(
            f"item {item['id']!r} is of Landsat Collection {number}, but{said} is read as "
            f"{sensor.name}: digital numbers of one mean other reflectance in the other; {cure}"
        )


def _pad_tile(tile: str) -> str:
    return tile.zfill(5)
