"""The CRS and the pixel grid that properties or an asset state, in any of STAC's spellings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from xharmonize.cube.catalog.fields import MAX_SIDE, as_numbers, malformed
from xharmonize.cube.catalog.scene import Grid
from xharmonize.errors import CatalogError, show

_STATES_CRS = re.compile(
    r"^(?:\w+:)?(epsg|wkt2?|projjson)$|^proj(?:ection)?:(code)$", re.IGNORECASE
)
_LONGEST = 200  # characters of a code
_EPSG = re.compile(r"(?:.*\bEPSG(?::|/)(?:[\d.]*[:/])?)?(\d{4,6})(?:\.0)?", re.IGNORECASE)


def epsg_stated(fields: Mapping[str, Any]) -> int | None:
    """Return the EPSG code that fields give as a number, alone or after its authority's name.

    ``32631``, ``"EPSG:32631"``, ``"urn:ogc:def:crs:EPSG::32631"``; None for anything else.
    """
    for value in crs_fields(fields).values():
        found = _EPSG.fullmatch(str(value)) if _is_code(value) else None
        if found:
            return int(found[1])
    return None


def crs_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that state a CRS, those that are null left out."""
    return {
        key: value
        for key, value in fields.items()
        if value is not None and value != "" and _states_crs(key)
    }


@lru_cache(maxsize=4096)  # items of a collection have the same fields
def _states_crs(key: object) -> bool:
    return bool(_STATES_CRS.match(str(key)))


def crs_stated(fields: Mapping[str, Any], where: str) -> str:
    """Return the CRS that fields state: ``EPSG:32631`` where it has a code, else WKT.

    Raises
    ------
    CatalogError
        If what they state is no CRS, or two of them state different ones.
    """
    found: dict[str, str] = {}
    for key, value in crs_fields(fields).items():
        found[_read(value, f"{where}: {key}")] = f"{key} {show(value)}"
    if len(found) < 2:
        return next(iter(found), "")
    codes = [crs for crs in found if ":" in crs[:12]]
    if len(codes) > 1:
        named = " and ".join(found[crs] for crs in codes)
        raise CatalogError(f"{where} contradicts itself: {named}; correct the item")
    return next(iter(codes or found), "")


def grid_stated(fields: Mapping[str, Any], where: str) -> Grid | None:
    """Return the pixel grid of ``proj:transform`` and ``proj:shape``; None where one is absent.

    Raises
    ------
    CatalogError
        If they are no transform and no shape, or the shape is beyond any file's.
    """
    transform, shape = fields.get("proj:transform"), fields.get("proj:shape")
    if transform is None or shape is None:
        return None
    a, b, c, d, e, f = as_numbers(
        transform, f"{where}: proj:transform", lengths=(6, 9), wanted="six numbers"
    )[:6]
    if a * e - b * d == 0 or max(map(abs, (a, b, c, d, e, f))) > 1e12:
        raise malformed(f"{where}: proj:transform", transform, "that of pixels with an area")
    wanted = f"rows and columns, whole numbers from 1 to {MAX_SIDE:,}"
    sides = as_numbers(shape, f"{where}: proj:shape", lengths=(2,), wanted=wanted)
    if not all(1 <= side <= MAX_SIDE and side == int(side) for side in sides):
        raise malformed(f"{where}: proj:shape", shape, wanted)
    return Grid(transform=(a, b, c, d, e, f), shape=(int(sides[0]), int(sides[1])))


def _is_code(value: Any) -> bool:
    is_short = not isinstance(value, str) or len(value) < _LONGEST
    return isinstance(value, int | float | str) and not isinstance(value, bool) and is_short


def _read(value: Any, where: str) -> str:
    """The CRS of one field."""
    code = _EPSG.fullmatch(str(value)) if _is_code(value) else None
    if not code and not isinstance(value, str | Mapping):
        raise malformed(where, value, "a CRS, such as 'EPSG:32631'")
    try:
        return _canonical(f"EPSG:{code[1]}" if code else _text(value))
    except ValueError:
        raise malformed(where, value, "a CRS, such as 'EPSG:32631'") from None


def _text(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)


@lru_cache(maxsize=1024)  # thousands of items state a few CRSs
def _canonical(text: str) -> str:
    """Spelling of a CRS that is the same however it was stated; raises ValueError for none."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        crs = CRS.from_user_input(text)
    except CRSError as error:
        raise ValueError(str(error)) from None
    authority = crs.to_authority(min_confidence=100)
    return ":".join(authority) if authority else str(crs.to_wkt())
