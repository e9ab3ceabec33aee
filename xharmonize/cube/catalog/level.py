"""Whether an item is what its collection says: names, properties and assets may tell otherwise.

A collection is a name that somebody filed an item under. Products carry their level in names and
properties of their own, and top-of-atmosphere numbers read as surface reflectance are plausible and
wrong. So every statement is compared with the product the item is read as, and none outranks
another: they agree, or it is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from xharmonize.cube.catalog.fields import show, stated
from xharmonize.cube.catalog.identity import is_own, names_of
from xharmonize.cube.catalog.items import Item
from xharmonize.errors import RadiometryError
from xharmonize.sensors.spec import Sensor

TOP, SURFACE, OTHER = "top-of-atmosphere", "surface", "another product"

_OPTICAL = {"TOA": (TOP,), "SR": (SURFACE,), "NBAR": (SURFACE,)}
_RADAR = ("GRD", "RTC")

_NAMED = (  # (part of a product's name or of an address, what that product holds)
    (re.compile(r"MSI_?L1[A-C](?![A-Z\d])|(?:^|[_/.\-])L1[A-C](?=[_/.\-]|$)", re.IGNORECASE), TOP),
    (re.compile(r"MSI_?L2A(?![A-Z\d])|(?:^|[_/.\-])L2A(?=[_/.\-]|$)", re.IGNORECASE), SURFACE),
    (re.compile(r"(?:^|[/_.])L[COTEM]0?[1-9]_L1[A-Z]{1,2}(?=_|$)", re.IGNORECASE), TOP),
    (re.compile(r"(?:^|[/_.])L[COTEM]0?[1-9]_L2[A-Z]{2}(?=_|$)", re.IGNORECASE), SURFACE),
    (re.compile(r"/level-?1/", re.IGNORECASE), TOP),
)
_LEVEL_1_FILE = re.compile(r"_L1[A-Z]{1,2}_[^/]*_B\d+\.TIF", re.IGNORECASE)
_HLS = re.compile(r"(?:^|/)HLS\.([LS]30)\.")
_RADAR_NAME = re.compile(r"(?:^|/)S1[A-D]_\w\w_(RAW|SLC|GRD|OCN|ETA)", re.IGNORECASE)
_LEVEL_FIELDS = ("level", "processing_level", "correction", "product_type")
_LEVEL_VALUE = re.compile(
    r"(?:LEVEL|LV?|S2MSI|MSIL?)?[\s_\-]*([0-3])(?:[A-C]|A?P|SP|SR|TP|GT|GS|T|G|R)?", re.IGNORECASE
)


class Statement(NamedTuple):
    """What a field says of the product: where it says it, in which words, and what that means."""

    where: str
    words: str
    meaning: str


def check_level(
    item: Item,
    sensor: Sensor,
    assets: Iterable[str] = (),
    *,
    cure: str = "correct the collection or the field that is wrong, or leave the item out",
) -> None:
    """Refuse an item whose names, properties or assets are of another level or product.

    Parameters
    ----------
    item : dict
        As `xharmonize.cube.catalog.items.normalize_item` returns it.
    sensor : Sensor
        What the item is read as.
    assets : iterable of str
        Keys of the assets that are read.
    cure : str
        What helps, for the message.

    Raises
    ------
    RadiometryError
        With the field that says otherwise.
    """
    if is_own(item):
        return
    expected = _OPTICAL.get(sensor.level, ())
    if sensor.level in _RADAR:
        statements = _of_radar(item, sensor)
    elif expected:
        statements = _of_optics(item, sensor, list(assets))
    else:
        return
    for where, words, meaning in statements:
        if meaning not in expected:
            said = f" of collection {item['collection']!r}" if item["collection"] else ""
            raise RadiometryError(
                f"item {item['id']!r}{said} is read as "
                f"{sensor.name} ({sensor.level}), but its {where} says {words}, which is {meaning}"
                f"{'' if meaning == OTHER else ' reflectance'}: {cure}"
            )


def _of_optics(item: Item, sensor: Sensor, assets: list[str]) -> Iterator[Statement]:
    """What an optical item says of its level, and whether it is of HLS."""
    is_hls = sensor.name.startswith("hls-")
    # Surface reflectance of Collection 1, and what HLS is made from, are named after Level 1.
    names_count = not is_hls and sensor.name != "landsat-c1-sr"
    named = list(names_of(item)) if names_count else [("id", str(item["id"]))] * is_hls
    if names_count:
        named += [(f"asset {key!r}", item["assets"][key]["href"]) for key in assets]
    else:
        hrefs = ((key, str(item["assets"][key]["href"])) for key in assets)
        yield from (
            Statement(f"asset {key!r}", show(href), TOP)
            for key, href in hrefs
            if _LEVEL_1_FILE.search(href)
        )
    for where, text in named:
        yield from _of_name(where, text, is_hls, sensor)
    properties = item["properties"]
    fields = [*stated(properties, *_LEVEL_FIELDS), ("product:type", properties.get("product:type"))]
    for key, value in fields:
        if names_count or not key.endswith(("correction", "type")):
            yield from _of_value(key, value)
    for key in assets:
        for name, value in stated(item["assets"][key], "level", "processing_level"):
            yield from _of_value(f"asset {key!r} > {name}", value)


def _of_name(where: str, text: str, is_hls: bool, sensor: Sensor) -> Iterator[Statement]:
    hls = _HLS.search(text)
    if hls and sensor.name != f"hls-{hls[1].lower()}":
        yield Statement(where, show(hls[0]), OTHER)
    for pattern, meaning in _NAMED:
        found = pattern.search(text)
        if found and not hls:
            words = show(found[0].strip("_/."))
            yield Statement(where, words, OTHER if is_hls else meaning)


def _of_value(where: str, value: object) -> Iterator[Statement]:
    """A level by its number: 0 and 1 are measured at the top of the atmosphere, 3 is made of 2."""
    found = _LEVEL_VALUE.fullmatch(str(value).strip())
    if found:
        yield Statement(where, show(value), TOP if found[1] in "01" else SURFACE)


def _of_radar(item: Item, sensor: Sensor) -> Iterator[Statement]:
    """What a Sentinel-1 item says of its product type."""
    allowed = ("GRD",) if sensor.level == "GRD" else ("GRD", "RTC")
    for where, text in names_of(item):
        found = _RADAR_NAME.search(text)
        if found and found[1].upper() not in allowed:
            yield Statement(where, show(found[0]), OTHER)
    for key, value in stated(item["properties"], "product_type"):
        if key.startswith(("sar:", "s1:", "product_type")) and str(value).upper() not in allowed:
            yield Statement(key, show(value), OTHER)
