"""Platform, baseline, collection and level of an observation, from names and properties.

The rules work on plain values, whether they come from the items of a catalogue or from the
coordinates and attributes of a cube. Collection ids and ``sensor=`` may be wrong, while products
carry their level in their own names and properties, and top-of-atmosphere numbers read as surface
reflectance are plausible but wrong. So every statement is compared with the product that is read,
and none outranks another: they agree, or it is an error. The sensors define how names tell a level.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.contract import DIMS, read_coordinate
from xharmonize.errors import RadiometryError, show
from xharmonize.sensors.registry import (
    meanings_in,
    normalize_baseline,
    normalize_platform,
    numbered_alike,
    parts_in,
    platform_in,
    stated,
)
from xharmonize.sensors.spec import UNKNOWN, Meaning, Names, Sensor

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
_NOTHING = ("", "none", "nan", UNKNOWN)
_CURE = (
    "say what it is with sensor= and level= (level='TOA' for Level 1), or, if that is wrong, "
    "remove it from cube.coords or cube.attrs, or name the dates with item_id="
)


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Statements about one observation that is read as a product.

    Attributes
    ----------
    sensor : Sensor
        The product.
    owner : str
        How messages name what states it: ``item 'S2A_…'``.
    properties : mapping
        By their names, under any prefix.
    names : sequence of (str, str)
        Product names, each with its field; those of the id are the last.
    cure : str
        What helps, for messages.
    collection : str
        Under which it is filed; empty for none.
    """

    sensor: Sensor
    owner: str
    properties: Mapping[Any, Any]
    names: Sequence[tuple[str, str]]
    cure: str
    collection: str = ""

    @cached_property
    def parts(self) -> dict[str, str]:
        """What stands in the names, by the groups of the sensor's patterns; the first counts."""
        found: dict[str, str] = {}
        for _, parts in reversed(self._parts_by_name):
            found |= parts
        return found

    @cached_property
    def baselines(self) -> tuple[tuple[str, str], ...]:
        """Every processing baseline that is stated, with the field; properties first."""
        version = self.properties.get("processing:version")
        texts = [
            *stated(self.properties, "processing_baseline"),
            ("processing:version", "" if version is None else version),
            *((key, _numbered(parts.get("baseline", ""))) for key, parts in self._parts_by_name),
        ]
        found = ((key, normalize_baseline(str(text))) for key, text in texts)
        return tuple((key, baseline) for key, baseline in found if baseline)

    @property
    def baseline(self) -> str:
        """The processing baseline (``05.10``) that counts, or ``"unknown"``."""
        return self.baselines[0][1] if self.baselines else UNKNOWN

    @cached_property
    def _parts_by_name(self) -> list[tuple[str, dict[str, str]]]:
        return [(key, parts_in((text,), self.sensor)) for key, text in self.names]


def _numbered(baseline: str) -> str:
    return baseline if "." in baseline else f"N{baseline}"


def names_in(properties: Mapping[Any, Any], item_id: str) -> Iterator[tuple[str, str]]:
    """Yield the product names in properties, each with its field, then the id."""
    for key, value in stated(properties, *_NAMES):
        if value:
            yield key, str(value)
    yield "id", item_id


def platform_of(properties: Mapping[Any, Any], names: Sequence[tuple[str, str]]) -> str:
    """Return the STAC platform name that properties or names state, or ``"unknown"``.

    The last name is the id.

    Raises
    ------
    RadiometryError
        If they state two.
    """
    said = normalize_platform(str(properties.get("platform") or ""))
    named = platform_in(text for _, text in names)
    if UNKNOWN not in (said, named) and said != named:
        item_id = names[-1][1]
        raise RadiometryError(
            f"says platform {said!r} but is named after {named!r}",
            cure=f"settle it with platform={{{item_id!r}: {named!r}}}",
            item=item_id,
        )
    return named if said == UNKNOWN else said


def check_collection(metadata: Metadata, numbers: Iterable[int]) -> None:
    """Refuse collection numbers, in properties or names, other than that of the product.

    Parameters
    ----------
    metadata : Metadata
        Whose names are asked.
    numbers : iterable of int
        Those that properties state.

    Raises
    ------
    RadiometryError
        With the number.
    """
    sensor = metadata.sensor
    if sensor.collection_number is None:
        return
    named = metadata.parts.get("collection")
    for number in (*numbers, *(() if named is None else (int(named),))):
        if number == sensor.collection_number:
            continue
        other = numbered_alike(sensor).get(number)
        filed = f" its collection {metadata.collection!r}" if metadata.collection else ""
        raise RadiometryError(
            f"{metadata.owner} is of {sensor.constellation.title()} Collection {number}, but"
            f"{filed} is read as {sensor.name}{f', not {other.name!r}' if other else ''}: digital "
            "numbers of one mean other reflectance in the other",
            cure=f"{metadata.cure}",
        )


def check_level(
    metadata: Metadata,
    *,
    addresses: Sequence[tuple[str, str]] = (),
    fields: Iterable[tuple[str, Any]] = (),
) -> None:
    """Refuse names, properties or assets of another level or product.

    Parameters
    ----------
    metadata : Metadata
        Whose names and properties are asked.
    addresses : sequence of (str, str)
        Of the files that are read, each with what messages call it.
    fields : iterable of (str, value)
        What the files state of their level.

    Raises
    ------
    RadiometryError
        With the field that says otherwise.
    """
    sensor = metadata.sensor
    statements = [*_of_names(metadata, addresses), *_of_types(metadata)]
    if sensor.is_reflectance:
        statements += _of_fields(metadata)
        statements += (said for where, value in fields for said in _of_value(where, value))
    filed = f" of collection {metadata.collection!r}" if metadata.collection else ""
    for where, words, meaning in statements:
        if meaning != _HOLDS.get(sensor.level):
            raise RadiometryError(
                f"{metadata.owner}{filed} is read as {sensor.name} ({sensor.level}), but its "
                f"{where} says {words}, which is {_WORDS[meaning]}",
                cure=f"{metadata.cure}",
            )


_Statement = tuple[str, str, Meaning]
"""Where it says something of the product, in which words, and what that means."""


def _of_names(metadata: Metadata, addresses: Sequence[tuple[str, str]]) -> Iterator[_Statement]:
    """What product names and addresses say, as far as they are the product's own."""
    sensor, naming = metadata.sensor, metadata.sensor.names
    trusted = {
        "all": metadata.names,
        "id": [(key, text) for key, text in metadata.names if key == "id"],
        "none": (),
    }[naming.trusted]
    for where, address in addresses if naming.source_files else ():
        if re.search(naming.source_files, address):
            yield where, show(address), "TOA"
    count = naming.trusted == "all" and sensor.is_reflectance
    texts = (*trusted, *(_folders_and_files(addresses) if count else ()))
    for where, words, meaning in meanings_in(texts, sensor):
        yield where, show(words.strip("_/.")), meaning


def _folders_and_files(addresses: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Take addresses apart: the files of an item share a long folder, which is searched once."""
    seen = set[str]()
    for where, address in addresses:
        folder, slash, name = address.rpartition("/")
        if folder not in seen:
            seen.add(folder)
            yield where, folder + slash
        yield where, name


def _of_fields(metadata: Metadata) -> Iterator[_Statement]:
    """What the properties of an optical product say of its level."""
    properties = metadata.properties
    fields = [*stated(properties, *_LEVEL_FIELDS), ("product:type", properties.get("product:type"))]
    for key, value in fields:
        if metadata.sensor.names.trusted == "all" or not key.endswith(("correction", "type")):
            yield from _of_value(key, value)


def _of_value(where: str, value: object) -> Iterator[_Statement]:
    """A level by its number: 0 and 1 are measured at the top of the atmosphere, 3 is made of 2."""
    found = _LEVEL_VALUE.fullmatch(str(value).strip())
    if found:
        yield where, show(value), "TOA" if found[1] in "01" else "SR"


def _of_types(metadata: Metadata) -> Iterator[_Statement]:
    """Product types that are none of the product's, where it has a list of them."""
    allowed = metadata.sensor.names.product_types
    for key, value in stated(metadata.properties, "product_type") if allowed else ():
        if str(value).upper() not in allowed:
            yield key, show(value), "other"


def read_metadata(cube: xr.DataArray, ids: Sequence[str], sensor: Sensor) -> list[Metadata]:
    """Return what a cube states about each date, in its attributes and then its coordinates.

    Parameters
    ----------
    cube : (time, …) DataArray
        With the coordinates and attributes it came with.
    ids : sequence of str
        Names of the dates; one that was put together of several has several.
    sensor : Sensor
        What it is read as.
    """
    common = _plain({str(name).lower(): value for name, value in cube.attrs.items()})
    tables = {
        str(name): np.broadcast_to(read_coordinate(cube, str(name)), len(ids))
        for name, coord in cube.coords.items()
        if name not in (*DIMS, "is_decoded") and set(coord.dims) <= {"time"}
    }
    found = []
    for i, (item_id, time) in enumerate(zip(ids, cube["time"].values)):
        properties = {**common, **_plain({key: values[i] for key, values in tables.items()})}
        names = [*names_in(properties, item_id)][:-1]
        metadata = Metadata(
            sensor=sensor,
            owner=f"item {item_id!r} of {str(time)[:10]}",
            properties=properties,
            names=[*names, *(("id", name) for name in sorted(Names.of(item_id)))],
            cure=_CURE,
            collection=str(properties.get("collection", "")),
        )
        found.append(metadata)
    return found


def check_described(metadata: Metadata, *, level: str | None) -> None:
    """Refuse a product that contradicts the names, coordinates or attributes of a cube.

    Parameters
    ----------
    metadata : Metadata
        Of one date.
    level : str or None
        That the user says it has; None for that of the product.

    Raises
    ------
    RadiometryError
        If a date is of another level, another numbered collection or another product.
    """
    numbers = []
    for key, value in stated(metadata.properties, "collection_number"):
        try:
            numbers.append(int(value))
        except (ValueError, OverflowError):
            raise RadiometryError(
                f"{metadata.owner} has {key} {show(value)}, which is no whole number",
                cure="remove it from cube.coords or cube.attrs",
            ) from None
    check_collection(metadata, numbers)
    sensor = metadata.sensor
    check_level(replace(metadata, sensor=replace(sensor, level=level or sensor.level)))


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Texts, numbers and truths; without what stands for nothing in coordinates."""
    found = {k: v.item() if isinstance(v, np.generic) else v for k, v in fields.items()}
    return {
        key: value
        for key, value in found.items()
        if isinstance(value, str | int | float) and str(value).strip().lower() not in _NOTHING
    }
