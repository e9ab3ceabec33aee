"""Convert a card to a STAC Item with the Machine Learning Model extension, and back.

Reading is strict: the card is read from the item and written again, and both items must agree in
every field, so that nothing in an item is ignored. Only items of a newer minor version may have
more fields, which are kept and written again (`Described.more`).

References
----------
STAC 1.1.0: https://github.com/radiantearth/stac-spec; Machine Learning Model extension 1.4.0:
https://github.com/stac-extensions/mlm
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, TypeAlias

from xharmonize.errors import ModelError, show
from xharmonize.kernels.longitude import unrolled
from xharmonize.models.card import (
    OWN,
    Card,
    Matching,
    Part,
    Within,
    array,
    parse_json,
    plain,
    read_part,
    require_plain,
)
from xharmonize.models.kinds import find_kind

FORMAT_VERSION = "1.0"
"""Major and minor: a field that changes what is predicted raises the major one, and old readers
refuse it; one that may be ignored raises the minor one, and they keep it."""

WEIGHTS, README = "weights.safetensors", "README.md"
_EXTENSIONS = (
    "https://stac-extensions.github.io/mlm/v1.4.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)
_MULTIHASH = "1220"  # sha2-256, 32 bytes
VERSION = r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)([\-+][0-9A-Za-z.\-+]+)?"
# Fields that point to code, or to a step of ours that is not there: in no version may they be
# ignored.
_NEVER = {"mlm:entrypoint", "pre_processing_function", "post_processing_function"}
# Where fields of the item stand that have a name of their own.
_NAMES = {
    "name": "mlm:name",
    "architecture": "mlm:architecture",
    "hyperparameters": "mlm:hyperparameters",
    "title": "title",
    "description": "description",
    "licence": "license",
    "created": "datetime",
}
Path: TypeAlias = tuple[str | int, ...]
Count: TypeAlias = Annotated[int, Within(0, 2**40)]
Version: TypeAlias = Annotated[str, Matching(rf"({VERSION})?", 64)]
_ASSETS = {
    "weights": {
        "href": WEIGHTS,
        "title": "Weights",
        "type": "application/octet-stream; application=safetensors",
        "roles": ["mlm:model", "mlm:weights"],
        "mlm:artifact_type": "safetensors",
    },
    "readme": {
        "href": README,
        "title": "Model card",
        "type": "text/markdown",
        "roles": ["metadata"],
    },
}


@dataclass(frozen=True, kw_only=True)
class File(Part):
    """Size [byte] and hexadecimal sha256 of a file, as listed in an item."""

    size: Count
    sha256: Annotated[str, Matching(r"[0-9a-f]{64}")]


@dataclass(frozen=True, kw_only=True)
class Described:
    """Contents of an item.

    Attributes
    ----------
    card : Card
    files : mapping of str to File
        By name: the weights, and the card for people where there is one.
    n_parameters : int
        Values in the weights.
    framework_version : str
        Version of PyTorch at the time of writing; empty where there was none.
    format_version : str
        Major and minor version of the format it was written in.
    more : tuple of (path, value)
        What a newer minor version says besides.
    """

    card: Card
    files: Mapping[str, File]
    n_parameters: int
    framework_version: str = ""
    format_version: str = FORMAT_VERSION
    more: tuple[tuple[Any, Any], ...] = ()


def write_item(described: Described) -> bytes:
    """Return the item as JSON, with a checksum of itself.

    Raises
    ------
    ModelError
        If the card holds what an item cannot hold.
    """
    item = make_item(described)
    require_plain(item, "the card")
    item["properties"][f"{OWN}checksum"] = _checksum(item)
    text = json.dumps(item, indent=2, ensure_ascii=False, allow_nan=False)
    read_item(text.encode())  # what cannot be read back is not written
    return text.encode()


def read_item(data: bytes, what: str = "item.json") -> Described:
    """Return what an item says, checked; see `check_item`.

    Raises
    ------
    ModelError
        Also if the item is not the one that was written: its checksum differs.
    """
    item = parse_json(data, what)
    properties = _properties(item, what)
    _require_readable(properties, what)
    signed = properties.pop(f"{OWN}checksum", None)
    if signed != _checksum(item):
        raise ModelError(
            f"{what} does not match its own checksum: it was damaged or changed after it was "
            "written",
            cure="get it again, or write the bundle again with write_bundle",
        )
    return check_item(item, what)


def _checksum(item: Mapping[str, Any]) -> str:
    """Multihash of the item in one canonical form, without its checksum."""
    text = json.dumps(item, sort_keys=True, separators=(",", ":"))
    return _MULTIHASH + hashlib.sha256(text.encode()).hexdigest()


def _properties(item: Mapping[str, Any], what: str) -> dict[str, Any]:
    properties = item.get("properties")
    if not isinstance(properties, dict):
        raise ModelError(f"{what} has no properties", cure="it is no STAC Item")
    return properties


def _require_readable(properties: Mapping[str, Any], what: str) -> bool:
    """Return whether an item was written by a newer minor version; refuse a newer major one.

    Raises
    ------
    ModelError
        Also if it is no bundle's.
    """
    version = properties.get(f"{OWN}format_version")
    if version is None:
        raise ModelError(
            f"{what} has no {OWN}format_version", cure="it is no bundle of this package"
        )
    found = re.fullmatch(r"([1-9]\d{0,3})\.(0|[1-9]\d{0,3})", str(version))
    if not isinstance(version, str) or not found:
        raise ModelError(
            f"{what} has format {show(version)}", cure=f"this package reads {FORMAT_VERSION}"
        )
    major, minor = map(int, FORMAT_VERSION.split("."))
    if int(found[1]) > major:
        raise ModelError(
            f"{what} was written by a newer version of xharmonize (format {version}",
            cure=f"this one reads {FORMAT_VERSION}); update the package",
        )
    return int(found[2]) > minor


def make_item(described: Described) -> dict[str, Any]:
    """Return the item of a card as plain values, without its checksum."""
    card = described.card
    west, south, east, north = unrolled(card.bbox or (0.0,) * 4)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(_EXTENSIONS),
        "id": card.name,
        "geometry": {"type": "Polygon", "coordinates": [ring]} if card.bbox else None,
        "properties": _properties_of(described),
        "links": [],
        "assets": {
            key: _asset(key, described.files[str(asset["href"])], card)
            for key, asset in _ASSETS.items()
            if asset["href"] in described.files
        },
    }
    if card.bbox:
        item["bbox"] = list(card.bbox)
    for path, value in described.more:
        _put(item, path, value)
    return item


def _put(place: Any, path: Path, value: Any) -> None:
    """Set a value of a newer version, unless the card was given other parts meanwhile."""
    *parents, last = path
    for key in parents:
        try:
            place = place[key]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(place, dict):
        place.setdefault(last, value)


def _asset(key: str, file: File, card: Card) -> dict[str, Any]:
    asset = {**_ASSETS[key], "file:size": file.size, "file:checksum": _MULTIHASH + file.sha256}
    return {**asset, "bands": _named_bands(card)} if key == "weights" else asset


def _named_bands(card: Card) -> list[dict[str, str]]:
    """Bands the model reads and gives; STAC wants them with an asset, the extension above it."""
    return [{"name": name} for name in dict.fromkeys((*card.all_bands, *card.output.bands))]


def _properties_of(described: Described) -> dict[str, Any]:
    """Properties of STAC, of the MLM extension, and of this package."""
    card = described.card
    shape, order = card.result
    output = {
        "name": "reflectance",
        "tasks": ["regression"],
        "bands": list(card.output.bands),
        "result": array(shape, order),
        f"{OWN}mean": list(card.output.mean),
        f"{OWN}scale": list(card.output.scale),
    }
    properties = {
        "bands": _named_bands(card),
        "mlm:tasks": ["regression"],
        "mlm:framework": "PyTorch",
        "mlm:total_parameters": described.n_parameters,
        "mlm:input": card.write_inputs(),
        "mlm:output": [output],
        f"{OWN}format_version": described.format_version,
        f"{OWN}kind": card.kind,
    }
    if described.framework_version:
        properties["mlm:framework_version"] = described.framework_version
    for name, key in _keys(type(card)).items():
        value = plain(getattr(card, name))
        if value is not None and (value or name not in card.optional):
            properties[key] = value
    return properties


def _keys(card: type[Card]) -> dict[str, str]:
    """Property that holds each field of a card; a kind's own are kept as they are."""
    elsewhere = {"bbox", "output", *card.in_inputs}
    names = [one.name for one in fields(card) if one.name not in elsewhere]
    return {name: _NAMES.get(name, f"{OWN}{name}") for name in names}


def check_item(item: Mapping[str, Any], what: str = "item.json") -> Described:
    """Return what an item of plain values says, without its checksum.

    Raises
    ------
    ModelError
        If a field is missing, of a wrong type or out of bounds, if fields contradict each other,
        if one is unknown and no newer minor version wrote it, or if the kind is unknown or the
        major version newer.
    """
    require_plain(item, what)
    properties = _properties(item, what)
    is_newer = _require_readable(properties, what)
    described = Described(
        card=_read_card(item, properties, what),
        files=_files(item.get("assets"), f"{what}: assets"),
        n_parameters=read_part(
            properties.get("mlm:total_parameters"), Count, f"{what}: mlm:total_parameters"
        ),
        framework_version=read_part(
            properties.get("mlm:framework_version", ""), Version, f"{what}: mlm:framework_version"
        ),
        format_version=properties[f"{OWN}format_version"],
    )
    more = _differences(make_item(described), item, what, (), is_newer=is_newer)
    return replace(described, more=tuple(more))


def _read_card(item: Mapping[str, Any], properties: Mapping[str, Any], what: str) -> Card:
    """Gather the fields of the card from where they stand, and check them."""
    kind = find_kind(properties.get(f"{OWN}kind"), what)
    values = {name: properties[key] for name, key in _keys(kind).items() if key in properties}
    if "bbox" in item:
        values["bbox"] = item["bbox"]
    try:
        output = properties["mlm:output"][0]
        values["output"] = {
            "bands": output["bands"],
            "mean": output[f"{OWN}mean"],
            "scale": output[f"{OWN}scale"],
        }
        values |= kind.read_inputs(properties["mlm:input"])
    except (KeyError, IndexError, TypeError) as error:
        raise ModelError(
            f"{what}: mlm:input or mlm:output is not that of a model of kind {kind.kind!r} "
            f"({type(error).__name__}: {show(error)})",
            cure="write the bundle again with write_bundle",
        ) from None
    card: Card = read_part(values, kind, what)
    return card


def _differences(
    expected: Any, found: Any, where: str, path: Path, *, is_newer: bool
) -> Iterator[tuple[Path, Any]]:
    """Yield what an item says beyond what is written for its card.

    Raises
    ------
    ModelError
        Where it says something else, or more without being of a newer minor version.
    """
    if isinstance(expected, dict) and isinstance(found, dict):
        lacking = sorted(set(expected) - set(found))
        if lacking:
            raise ModelError(f"{where} lacks {', '.join(lacking)}", cure="write the bundle again")
        more = sorted(set(found) - set(expected))
        may_have_more = is_newer and path[:1] == ("properties",) and not _NEVER & set(more)
        if more and not may_have_more:
            raise ModelError(
                f"{where} has fields that are not known: {show(', '.join(more))}",
                cure="update the package, or write the bundle again",
            )
        yield from (((*path, key), found[key]) for key in more)
        pairs = [(key, value, found[key]) for key, value in expected.items()]
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = [(n, one, other) for n, (one, other) in enumerate(zip(expected, found))]
    elif expected != found or isinstance(expected, bool) != isinstance(found, bool):
        raise ModelError(
            f"{where} is {show(found)}",
            cure=f"with the other fields of the item it must be {show(expected)}",
        )
    else:
        return
    for key, one, other in pairs:
        inner = f"{where} > {key}" if isinstance(key, str) else f"{where}[{key}]"
        yield from _differences(one, other, inner, (*path, key), is_newer=is_newer)


def _files(assets: Any, where: str) -> dict[str, File]:
    """Files of the assets; only plain names in the item's own folder."""
    files = {}
    for key, entry in assets.items() if isinstance(assets, dict) else ():
        if key not in _ASSETS:
            raise ModelError(
                f"{where} has fields that are not known: {show(key)}", cure="update the package"
            )
        href = entry.get("href") if isinstance(entry, dict) else None
        if not isinstance(href, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*", href):
            raise ModelError(
                f"{where}: {key} has href {show(href)}",
                cure="only names of files in the bundle's own folder are read",
            )
        checksum = str(entry.get("file:checksum")).removeprefix(_MULTIHASH)
        values = {"size": entry.get("file:size"), "sha256": checksum}
        files[str(_ASSETS[key]["href"])] = read_part(values, File, f"{where}: {key}")
    if WEIGHTS not in files:
        raise ModelError(f"{where} name no weights", cure="get the bundle again")
    return files
