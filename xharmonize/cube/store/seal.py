"""A checksum of what a store says of its arrays: one bit of it could change every number."""

from __future__ import annotations

import hashlib
import json
from typing import Any

CHECKSUM = "checksum"


def seal(document: dict[str, Any]) -> None:
    """Write the checksum of a root ``zarr.json`` into it."""
    document["attributes"]["xharmonize"][CHECKSUM] = _checksum(document)


def is_sound(document: dict[str, Any]) -> bool:
    """Whether a root ``zarr.json`` is what was written; titles and history may differ."""
    own = document["attributes"]["xharmonize"]
    return bool(own.get(CHECKSUM) == _checksum(document))


def differing(document: dict[str, Any], arrays: dict[str, Any]) -> list[str]:
    """Names of arrays whose own ``zarr.json`` does not say how they are stored as the root does.

    Lengths and attributes may differ: a write under way changes them before it is published.
    """
    published = document["consolidated_metadata"]["metadata"]
    return sorted(
        name
        for name in {*published, *arrays}
        if name not in arrays
        or name not in published
        or _storage(arrays[name]) != _storage(published[name])
    )


def _storage(array: dict[str, Any]) -> dict[str, Any]:
    changing = {"attributes": None, "shape": array["shape"][1:]}
    return {**array, **changing}


def _checksum(document: dict[str, Any]) -> str:
    own = {k: v for k, v in document["attributes"]["xharmonize"].items() if k != CHECKSUM}
    arrays = document.get("consolidated_metadata", {}).get("metadata")
    text = json.dumps([own, arrays], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
