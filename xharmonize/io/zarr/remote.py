"""Zarr stores by URL: what zarr opens, and the root document."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from xharmonize._urls import Remote


def as_zarr(place: Any) -> Any:
    """Return what zarr opens: the store of a URL, and everything else as it is."""
    if not isinstance(place, Remote):
        return place
    from zarr.storage import FsspecStore

    with place.reached():
        return FsspecStore.from_url(place.url, storage_options=place.settings)


def document_at(place: Remote) -> dict[str, Any] | None:
    """Return the root ``zarr.json``; None where there is none, or it is no JSON object."""
    found = place.read("zarr.json")
    with suppress(ValueError):
        document = json.loads(found or b"")
        return document if isinstance(document, dict) else None
    return None
