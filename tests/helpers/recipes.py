"""A recipe of two sensors of one catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def recipe_of(catalog: str, folder: Path, *, dilate: float = 0.0, **tables: Any) -> dict[str, Any]:
    return {
        "source": {"items": catalog, "collection": "sentinel-2-l2a", "dilate": dilate},
        "target": {"items": catalog, "collection": "landsat-c2-l2", "dilate": dilate},
        "output": {"folder": str(folder), "report": False, "figures": False},
        **tables,
    }
