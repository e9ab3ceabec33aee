"""Fields of STAC documents that others wrote, read one by one: right, or an error that names them.

JSON has no schema, and catalogues hold what their makers' scripts happened to write. Whoever uses a
field asks for it here, so that a value of another kind is one line with item, field and value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xharmonize.errors import CatalogError, show

MAX_SIDE = 2**22
"""Rows or columns of an asset above which its shape is taken for an error (global: 10 m)."""


def name_of(item: Any) -> str:
    """Return how messages name an item."""
    found = item.get("id") if isinstance(item, Mapping) else None
    return f"item {show(found)}"


def malformed(where: str, value: object, wanted: str) -> CatalogError:
    """Return the error of a field that holds something else than it has to."""
    return CatalogError(f"{where} is {show(value)}; it has to be {wanted}: correct the item")


def as_mapping(value: object, where: str) -> Mapping[str, Any]:
    """Return an object; an absent one is empty."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise malformed(where, value, "an object")
    return value


def as_list(value: object, where: str) -> Sequence[Any]:
    """Return a list; an absent one is empty. GeoParquet brings arrays."""
    if value is None:
        return ()
    if type(value) is list:
        return value
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise malformed(where, value, "a list")
    return value


def as_objects(value: object, where: str) -> list[Mapping[str, Any]]:
    """Return a list of objects; entries that are null are left out."""
    found = [entry for entry in as_list(value, where) if entry is not None]
    for entry in found:
        if type(entry) is not dict and not isinstance(entry, Mapping):
            raise malformed(where, value, "a list of objects")
    return found


def as_number(value: object, where: str, *, wanted: str = "a number") -> float:
    """Return a finite number; one that is spelt as text counts."""
    found = _number(value)
    if found is None or not math.isfinite(found):
        raise malformed(where, value, wanted)
    return found


def as_whole(value: object, where: str, *, wanted: str = "a whole number") -> int:
    """Return a whole number; one that is spelt as text counts."""
    found = as_number(value, where, wanted=wanted)
    if found != int(found):
        raise malformed(where, value, wanted)
    return int(found)


def as_numbers(value: object, where: str, *, lengths: Sequence[int], wanted: str) -> list[float]:
    """Return a list of finite numbers that has one of some lengths."""
    listed = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(listed, list | tuple) or len(listed) not in lengths:
        raise malformed(where, value, wanted)
    found = [_number(entry) for entry in listed]
    if any(number is None or not math.isfinite(number) for number in found):
        raise malformed(where, value, wanted)
    return [float(number) for number in found if number is not None]


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str | np.number):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
