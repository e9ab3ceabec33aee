"""A card as a STAC Item with the Machine Learning Model extension, and back.

Reading is strict: values are checked one by one, then the item must be, field by field, what this
version writes for the card that was read. So nothing in an item is left unread.

References
----------
STAC 1.1.0: https://github.com/radiantearth/stac-spec; Machine Learning Model extension 1.4.0:
https://github.com/stac-extensions/mlm
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xharmonize.errors import ModelError
from xharmonize.kernels.longitude import unrolled
from xharmonize.models.card import Card, Input
from xharmonize.models.checks import (
    check_integer,
    check_object,
    check_text,
    parse_json,
    require_plain,
    show,
)
from xharmonize.models.fields import OWN, PARTS, read_card
from xharmonize.models.lattice import Lattice

FORMAT_VERSION = 1
WEIGHTS, README = "weights.safetensors", "README.md"
_EXTENSIONS = (
    "https://stac-extensions.github.io/mlm/v1.4.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)
_MULTIHASH = "1220"  # sha2-256, 32 bytes
VERSION = r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)([\-+][0-9A-Za-z.\-+]+)?"
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
class File:
    """What an item says of a file beside it: size [byte] and sha256, hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Described:
    """What an item says.

    Attributes
    ----------
    card : Card
    files : mapping of str to File
        By name: the weights, and the card for people where there is one.
    n_parameters : int
        Values in the weights.
    framework_version : str
        Version of PyTorch at the time of writing; empty where there was none.
    """

    card: Card
    files: Mapping[str, File]
    n_parameters: int
    framework_version: str = ""


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
    _require_known(properties, what)
    signed = properties.pop(f"{OWN}checksum", None)
    if signed != _checksum(item):
        raise ModelError(
            f"{what} does not match its own checksum: it was damaged or changed after it was "
            "written; get it again, or write the bundle again with write_bundle"
        )
    return check_item(item, what)


def _checksum(item: Mapping[str, Any]) -> str:
    """Multihash of the item in one canonical form, without its checksum."""
    text = json.dumps(item, sort_keys=True, separators=(",", ":"))
    return _MULTIHASH + hashlib.sha256(text.encode()).hexdigest()


def _properties(item: Mapping[str, Any], what: str) -> dict[str, Any]:
    properties = item.get("properties")
    if not isinstance(properties, dict):
        raise ModelError(f"{what} has no properties; it is no STAC Item")
    return properties


def _require_known(properties: Mapping[str, Any], what: str) -> None:
    """Raise `ModelError` if the item is no bundle's, or was written by a newer version."""
    version = properties.get(f"{OWN}format_version")
    if version is None:
        raise ModelError(f"{what} has no {OWN}format_version; it is no bundle of this package")
    check_integer(version, f"{what}: {OWN}format_version", 1, 2**31)
    strange = sorted(key for key in properties if key.startswith(OWN) and key not in _FIELDS)
    if version > FORMAT_VERSION or strange:
        reason = f"format {version}" if version > FORMAT_VERSION else show(", ".join(strange))
        raise ModelError(
            f"{what} was written by a newer version of xharmonize ({reason}; this one reads "
            f"format {FORMAT_VERSION}); update the package"
        )


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
        "properties": {**_model_properties(described), **_own_properties(card)},
        "links": [],
        "assets": {
            key: _asset(key, described.files[str(asset["href"])], card)
            for key, asset in _ASSETS.items()
            if asset["href"] in described.files
        },
    }
    if card.bbox:
        item["bbox"] = list(card.bbox)
    return item


def _asset(key: str, file: File, card: Card) -> dict[str, Any]:
    asset = {**_ASSETS[key], "file:size": file.size, "file:checksum": _MULTIHASH + file.sha256}
    return {**asset, "bands": _named_bands(card)} if key == "weights" else asset


def _named_bands(card: Card) -> list[dict[str, str]]:
    """Bands the model reads and gives; STAC wants them with an asset, the extension above it."""
    return [{"name": name} for name in dict.fromkeys((*card.bands, *card.output.bands))]


def _model_properties(described: Described) -> dict[str, Any]:
    """Properties of STAC and of the MLM extension."""
    card = described.card
    properties = {
        "title": card.title,
        "datetime": card.created,
        "license": card.licence,
        "bands": _named_bands(card),
        "mlm:name": card.name,
        "mlm:architecture": card.architecture,
        "mlm:tasks": ["regression"],
        "mlm:framework": "PyTorch",
        "mlm:total_parameters": described.n_parameters,
        "mlm:input": _inputs(card),
        "mlm:output": [_output(card)],
    }
    if card.description:  # STAC wants none, or some text
        properties["description"] = card.description
    if described.framework_version:
        properties["mlm:framework_version"] = described.framework_version
    if card.hyperparameters:
        properties["mlm:hyperparameters"] = _plain(dict(card.hyperparameters))
    return properties


def _own_properties(card: Card) -> dict[str, Any]:
    """Properties of this package; a part the card lacks is left out."""
    properties: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "kind": card.kind,
        "source_sensor": card.source_sensor,
        "source_bandpass": card.source_bandpass,
        "target_bandpass": card.target_bandpass,
        "levels": list(card.levels),
        "min_valid_fraction": card.min_valid_fraction,
        "scores": dict(card.scores),
        "provenance": dict(card.provenance),
    }
    for name in ("lattice", "histograms", "domain"):
        part = getattr(card, name)
        if part is not None:
            properties[name] = _plain(vars(part))
    return {f"{OWN}{name}": value for name, value in properties.items()}


def _plain(value: Any) -> Any:
    """Tuples as lists, as JSON has them."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (tuple, list)) else value


def _array(shape: tuple[int, ...], order: tuple[str, ...]) -> dict[str, Any]:
    return {"shape": [-1, *shape], "dim_order": ["batch", *order], "data_type": "float32"}


def _inputs(card: Card) -> list[dict[str, Any]]:
    """The inputs in the terms of the extension."""
    if card.histograms is not None:
        shape = (len(card.histograms.bands), card.histograms.bins)
        array = _array(shape, ("band", "bin"))
        return [{"name": "histograms", "bands": list(card.histograms.bands), "input": array}]
    return [_input(source, card.lattice) for source in card.inputs]


def _input(source: Input, lattice: Lattice | None) -> dict[str, Any]:
    side = int(lattice.tile * lattice.cells(source.gsd)) if lattice else 0
    return {
        "name": source.name,
        "bands": list(source.bands),
        "input": _array((len(source.bands), side, side), ("band", "height", "width")),
        "value_scaling": [
            {"type": "z-score", "mean": mean, "stddev": scale}
            for mean, scale in zip(source.mean, source.scale)
        ],
        f"{OWN}gsd": source.gsd,
        f"{OWN}phase": list(source.phase),
    }


def _output(card: Card) -> dict[str, Any]:
    n_bands = len(card.output.bands)
    if card.histograms is not None:
        array = _array((n_bands, card.histograms.knots), ("band", "knot"))
    else:
        side = card.lattice.tile if card.lattice else 0
        array = _array((n_bands, side, side), ("band", "height", "width"))
    return {
        "name": "reflectance",
        "tasks": ["regression"],
        "bands": list(card.output.bands),
        "result": array,
        f"{OWN}mean": list(card.output.mean),
        f"{OWN}scale": list(card.output.scale),
    }


def check_item(item: Mapping[str, Any], what: str = "item.json") -> Described:
    """Return what an item of plain values says, without its checksum.

    Raises
    ------
    ModelError
        If a field is missing, unknown, of a wrong type or out of bounds, if fields contradict each
        other, or if the item was written by a newer version.
    """
    require_plain(item, what)
    properties = _properties(item, what)
    _require_known(properties, what)
    lacking = sorted(_REQUIRED - set(properties))
    if lacking:
        raise ModelError(f"{what} lacks {', '.join(lacking)} among its properties")
    described = Described(
        card=read_card(item, properties),
        files=_files(item.get("assets"), f"{what}: assets"),
        n_parameters=check_integer(
            properties["mlm:total_parameters"], "mlm:total_parameters", 0, 2**40
        ),
        framework_version=_framework_version(properties),
    )
    _require_same(make_item(described), item, what)
    return described


def _framework_version(properties: Mapping[str, Any]) -> str:
    name = "mlm:framework_version"
    if name not in properties:
        return ""
    return check_text(properties[name], name, most=64, pattern=VERSION)


def _require_same(expected: Any, found: Any, where: str) -> None:
    """Raise `ModelError` where an item differs from what is written for its card."""
    if isinstance(expected, dict) and isinstance(found, dict):
        check_object(found, where, set(expected))
        for key, value in expected.items():
            _require_same(value, found[key], f"{where} > {key}")
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for number, (one, other) in enumerate(zip(expected, found)):
            _require_same(one, other, f"{where}[{number}]")
    elif expected != found or isinstance(expected, bool) != isinstance(found, bool):
        raise ModelError(
            f"{where} is {show(found)}; with the other fields of the item it must be "
            f"{show(expected)}"
        )


def _files(value: object, where: str) -> dict[str, File]:
    """Files of the assets; only plain names in the item's own folder."""
    assets = check_object(value, where, ("weights",), ("readme",))
    files = {}
    for key, entry in assets.items():
        href = entry.get("href") if isinstance(entry, dict) else None
        if not isinstance(href, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*", href):
            raise ModelError(
                f"{where}: {key} has href {show(href)}; only names of files in the bundle's own "
                "folder are read"
            )
        keys = {*_ASSETS[key], "file:size", "file:checksum"}
        keys |= {"bands"} if key == "weights" else set()
        fields = check_object(entry, f"{where}: {key}", keys)
        checksum = check_text(
            fields["file:checksum"], f"{where}: {key} file:checksum", pattern=r"1220[0-9a-f]{64}"
        )
        files[str(_ASSETS[key]["href"])] = File(
            size=check_integer(fields["file:size"], f"{where}: {key} file:size", 0, 2**40),
            sha256=checksum.removeprefix(_MULTIHASH),
        )
    return files


_OWN_REQUIRED = {
    f"{OWN}{name}"
    for name in (
        "format_version",
        "kind",
        "source_sensor",
        "source_bandpass",
        "target_bandpass",
        "levels",
        "min_valid_fraction",
        "scores",
        "provenance",
    )
}
_FIELDS = _OWN_REQUIRED | {f"{OWN}{name}" for name in (*PARTS, "checksum")}
_REQUIRED = _OWN_REQUIRED | {
    "title",
    "datetime",
    "license",
    "mlm:name",
    "mlm:architecture",
    "mlm:total_parameters",
    "mlm:input",
    "mlm:output",
}
