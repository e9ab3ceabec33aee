"""Encoding of coordinates and attributes on disk: CF codes, fixed time unit, plain JSON."""

from __future__ import annotations

import base64
import datetime
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

from xharmonize.cube.contract import TIME_COORDS
from xharmonize.errors import StoreError
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.types import AnyArray, IntArray

CODED = tuple(name for name in TIME_COORDS if name != "item_id")
"""Contract coordinates stored as integer codes with ``flag_values`` and ``flag_meanings``."""

TIME_UNITS = "microseconds since 1970-01-01"
"""Fixed, so that appending never changes the unit or the epoch; int64 holds 292,000 years."""

NO_TIME = np.iinfo(np.int64).min
"""Stored NaT."""

NO_CODE = -1
"""Sensor code of an entry whose key has not been written: the entry is free."""

COMPLETE = "complete"
"""1 where an entry is whole."""

VERSION = "entry_version"
"""A number of each write of an entry, never used twice: readers see by it that pixels changed."""

COMPLETENESS = ("incomplete", "complete")

TIME_ATTRS = {"units": TIME_UNITS, "calendar": "proleptic_gregorian"}

DECODED_ATTRS = frozenset(
    (
        *("_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned", "dtype"),
        *("coordinates", "grid_mapping", "bounds", "cell_measures", "formula_terms"),
        "ancillary_variables",
    )
)
"""Attributes by which readers change numbers or look for variables; a cube's own are left out."""

_CF_NAME = "+@"  # beside letters, digits and _.-~, legal in a CF flag meaning


def encode_time(values: AnyArray) -> IntArray:
    """Return datetimes as int64 microseconds since 1970-01-01; NaT is `NO_TIME`."""
    return values.astype("datetime64[us]").astype(np.int64)


def as_text(values: AnyArray) -> list[str]:
    """Convert values to strings; the empty string and None become ``"unknown"``."""
    texts = (v.decode() if isinstance(v, bytes) else v for v in values.tolist())
    return [UNKNOWN if text is None or text == "" else str(text) for text in texts]


def meanings_of(attrs: Mapping[str, Any]) -> list[str]:
    """Return the strings encoded by codes 0, 1, … of a coordinate."""
    return [unquote(word) for word in str(attrs.get("flag_meanings", "")).split()]


def flag_attrs(meanings: Sequence[str]) -> dict[str, Any]:
    """Return CF ``flag_values`` and ``flag_meanings``; other characters are percent-encoded."""
    words = [quote(meaning, safe=_CF_NAME) for meaning in meanings]
    return {"flag_values": list(range(len(words))), "flag_meanings": " ".join(words)}


def is_completeness(attrs: Mapping[str, Any]) -> bool:
    """Whether these are the attributes of a store's `COMPLETE`, and not of a user's coordinate."""
    return meanings_of(attrs) == [*COMPLETENESS]


def extend_meanings(known: Sequence[str], values: Iterable[str]) -> list[str]:
    """Append new `values` to `known` in order of appearance, so that codes never change."""
    return list(dict.fromkeys([*known, *values]))


def to_codes(values: Sequence[str], meanings: Sequence[str], *, name: str) -> IntArray:
    """Return the int16 code of each value.

    Raises
    ------
    StoreError
        If there are more meanings than codes.
    """
    if len(meanings) > np.iinfo(np.int16).max:
        raise StoreError(
            f"{name!r} would have {len(meanings)} different values, a store holds "
            f"{np.iinfo(np.int16).max}",
            cure="write to another store",
        )
    code = {meaning: i for i, meaning in enumerate(meanings)}
    return np.array([code[value] for value in values], np.int16)


def from_codes(codes: IntArray, attrs: Mapping[str, Any], *, name: str) -> AnyArray:
    """Return the strings of integer codes.

    Raises
    ------
    StoreError
        If a code has no meaning in `attrs`.
    """
    meanings = np.array([*meanings_of(attrs), ""], dtype=str)
    bad = (codes < 0) | (codes >= len(meanings) - 1)
    if bad.any():
        raise StoreError(
            f"{name!r} holds code {codes[bad][0]}, flag_meanings knows {meanings[:-1].tolist()}",
            cure="the store was changed by another program, write it again with mode='w'",
        )
    return meanings[codes]


def json_attrs(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Convert attributes to plain JSON; objects without a JSON form become their `str`."""
    return {str(k): _plain(v) for k, v in attrs.items() if str(k) not in DECODED_ATTRS}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    if isinstance(value, datetime.date):
        return value.isoformat()
    return str(value)


def nan_fill_attr() -> str:
    """Return NaN as xarray encodes a float ``_FillValue`` in Zarr v3: base64 of the double."""
    return base64.standard_b64encode(struct.pack("<d", np.nan)).decode()


def encode_values(values: AnyArray) -> tuple[AnyArray, dict[str, Any]]:
    """Return values as stored, and the CF attributes from which xarray decodes them.

    Datetimes become int64, booleans uint8, strings and other objects `object` arrays of str.

    Raises
    ------
    StoreError
        If a store cannot hold values of this kind; storing them as text would hide that.
    """
    kind = values.dtype.kind
    if kind == "M":
        return encode_time(values), {**TIME_ATTRS, "_FillValue": NO_TIME}
    if kind == "b":
        return values.astype(np.uint8), {"dtype": "bool"}
    if kind in "iuf":
        return values, {}
    if kind not in "OUST":
        raise StoreError(
            f"a coordinate holds {values.dtype}, which a store does not hold",
            cure="drop it with cube.drop_vars(name), or give it numbers, dates or text",
        )
    text = np.array(as_text(values.ravel()), dtype=object)
    return text.reshape(values.shape), {}
