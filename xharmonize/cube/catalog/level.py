"""Whether an item is what its collection says: names, properties and assets may tell otherwise.

A collection is a name that somebody filed an item under. Products carry their level in names and
properties of their own, and top-of-atmosphere numbers read as surface reflectance are plausible and
wrong. So every statement is compared with the product the item is read as, and none outranks
another: they agree, or it is an error. How names tell a level, the sensors say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from xharmonize.cube.catalog.fields import show
from xharmonize.cube.catalog.identity import Identity
from xharmonize.cube.catalog.items import Item
from xharmonize.errors import RadiometryError
from xharmonize.sensors.names import meanings_in, stated
from xharmonize.sensors.spec import Meaning, Sensor

_HOLDS: dict[str, Meaning] = {"TOA": "TOA", "SR": "SR", "NBAR": "SR"}
_WORDS = {
    "TOA": "top-of-atmosphere reflectance",
    "SR": "surface reflectance",
    "other": "another product",
}
_LEVEL_FIELDS = ("level", "processing_level", "correction", "product_type")
_LEVEL_VALUE = re.compile(
    r"(?:LEVEL|LV?|S2MSI|MSIL?)?[\s_\-]*([0-3])(?:[A-C]|A?P|SP|SR|TP|GT|GS|T|G|R)?", re.IGNORECASE
)


class Statement(NamedTuple):
    """What a field says of the product: where it says it, in which words, and what that means."""

    where: str
    words: str
    meaning: Meaning


def check_level(item: Item, identity: Identity, assets: Iterable[str]) -> None:
    """Refuse an item whose names, properties or assets are of another level or product.

    Parameters
    ----------
    item : dict
        As `xharmonize.cube.catalog.items.normalize_item` returns it.
    identity : Identity
        What the item is read as.
    assets : iterable of str
        Keys of the assets that are read.

    Raises
    ------
    RadiometryError
        With the field that says otherwise.
    """
    if identity.is_own:
        return
    sensor, keys = identity.sensor, list(assets)
    statements = [
        *_of_names(item, identity, keys),
        *_of_types(item, sensor),
        *(_of_fields(item, sensor, keys) if sensor.is_reflectance else ()),
    ]
    for where, words, meaning in statements:
        if meaning != _HOLDS.get(sensor.level):
            raise RadiometryError(
                f"item {item['id']!r} of collection {item['collection']!r} is read as "
                f"{sensor.name} ({sensor.level}), but its {where} says {words}, which is "
                f"{_WORDS[meaning]}: correct the collection or the field that is wrong, or leave "
                "the item out"
            )


def _of_names(item: Item, identity: Identity, assets: list[str]) -> Iterator[Statement]:
    """What product names and addresses say, as far as they are the product's own."""
    sensor, names = identity.sensor, identity.sensor.names
    texts = {"all": identity.names, "id": (("id", item["id"]),), "none": ()}[names.trusted]
    hrefs = [(f"asset {key!r}", str(item["assets"][key]["href"])) for key in assets]
    for where, href in hrefs if names.source_files else ():
        if re.search(names.source_files, href):
            yield Statement(where, show(href), "TOA")
    count = names.trusted == "all" and sensor.is_reflectance
    for where, text in (*texts, *(hrefs if count else ())):
        for words, meaning in meanings_in(text, sensor):
            yield Statement(where, show(words.strip("_/.")), meaning)


def _of_fields(item: Item, sensor: Sensor, assets: list[str]) -> Iterator[Statement]:
    """What an optical item and its assets say of their level."""
    properties = item["properties"]
    fields = [*stated(properties, *_LEVEL_FIELDS), ("product:type", properties.get("product:type"))]
    for key, value in fields:
        if sensor.names.trusted == "all" or not key.endswith(("correction", "type")):
            yield from _of_value(key, value)
    for key in assets:
        for name, value in stated(item["assets"][key], "level", "processing_level"):
            yield from _of_value(f"asset {key!r} > {name}", value)


def _of_value(where: str, value: object) -> Iterator[Statement]:
    """A level by its number: 0 and 1 are measured at the top of the atmosphere, 3 is made of 2."""
    found = _LEVEL_VALUE.fullmatch(str(value).strip())
    if found:
        yield Statement(where, show(value), "TOA" if found[1] in "01" else "SR")


def _of_types(item: Item, sensor: Sensor) -> Iterator[Statement]:
    """Product types that are none of the product's, where it has a list of them."""
    allowed = sensor.names.product_types
    for key, value in stated(item["properties"], "product_type") if allowed else ():
        if str(value).upper() not in allowed:
            yield Statement(key, show(value), "other")
