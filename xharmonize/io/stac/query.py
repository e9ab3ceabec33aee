"""STAC queries: validation, and matching of items where there is no server."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from xharmonize.errors import CatalogError, GridError, show
from xharmonize.io.stac.fields import name_of
from xharmonize.io.stac.items import bbox_of
from xharmonize.io.stac.settle import sensing_time
from xharmonize.kernels.longitude import do_meet, flat_box, normal_box

Instant: TypeAlias = "str | dt.date | np.datetime64 | None"
"""An RFC 3339 time, or a year, month or day that stands for all of it; None or ``..`` is open."""

DatetimeQuery: TypeAlias = "Instant | Sequence[Instant]"
"""An instant, an interval ``"start/end"``, or a pair."""

_PARTIAL = re.compile(r"^(\d{4})(?:-(\d{2}))?(?:-(\d{2}))?$")
_OPEN = ("", "..")

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda value, other: bool(value == other),
    "neq": lambda value, other: bool(value != other),
    "lt": lambda value, other: bool(value < other),
    "lte": lambda value, other: bool(value <= other),
    "gt": lambda value, other: bool(value > other),
    "gte": lambda value, other: bool(value >= other),
    "in": lambda value, other: value in other,
    "startsWith": lambda value, other: str(value).startswith(other),
    "endsWith": lambda value, other: str(value).endswith(other),
    "contains": lambda value, other: other in str(value),
}


@dataclass(frozen=True, kw_only=True)
class Query:
    """A checked query.

    Attributes
    ----------
    collections : tuple of str
        Empty for any.
    start, end : datetime, optional
        Naive UTC, both included; None is open.
    bbox : tuple of 4 float, optional
        West, south, east, north [degrees]; west > east crosses the antimeridian.
    properties : mapping
        STAC query extension: ``{"eo:cloud_cover": {"lt": 20}}``.
    """

    collections: tuple[str, ...] = ()
    start: dt.datetime | None = None
    end: dt.datetime | None = None
    bbox: tuple[float, float, float, float] | None = None
    properties: Mapping[str, Mapping[str, Any]]

    @property
    def interval(self) -> str | None:
        """RFC 3339 interval for a server; None where both ends are open."""
        if self.start is None and self.end is None:
            return None
        return "/".join(
            ".." if moment is None else moment.isoformat(timespec="microseconds") + "Z"
            for moment in (self.start, self.end)
        )

    def __str__(self) -> str:
        """Format the given parts of the query, for messages."""
        parts = {
            "collection": list(self.collections) or None,
            "datetime": self.interval,
            "bbox": self.bbox and list(self.bbox),
            "query": dict(self.properties) or None,
        }
        return ", ".join(f"{k}={v!r}" for k, v in parts.items() if v) or "everything"


def make_query(
    *,
    collection: str | Sequence[str] | None = None,
    datetime: DatetimeQuery = None,
    bbox: Sequence[float] | None = None,
    query: Mapping[str, Any] | None = None,
) -> Query:
    """Validate a query.

    Raises
    ------
    CatalogError
        If `datetime` is not an RFC 3339 datetime or interval, or ends before it starts, or `query`
        has an operator that is not in the STAC query extension.
    GridError
        If `bbox` is not four finite degrees, empty, or inverted.
    """
    named = (collection,) if isinstance(collection, str) else tuple(collection or ())
    start, end = read_interval(datetime)
    return Query(
        collections=named,
        start=start,
        end=end,
        bbox=None if bbox is None else check_bbox(bbox),
        properties={
            name: _check_operators(name, test if isinstance(test, Mapping) else {"eq": test})
            for name, test in (query or {}).items()
        },
    )


def matches(item: Mapping[str, Any], query: Query) -> bool:
    """Tell whether an item matches a query."""
    return (
        (not query.collections or item.get("collection") in query.collections)
        and _in_interval(item, query)
        and _in_box(item, query.bbox)
        and fits_properties(item, query)
    )


def fits_properties(item: Mapping[str, Any], query: Query) -> bool:
    """Tell whether an item's properties match; a missing one does not (except with ``neq``)."""
    for name, tests in query.properties.items():
        value = value_of(item, name)
        for operator, other in tests.items():
            if value is None:
                if operator != "neq":
                    return False
            elif not _fits(item, name, value, operator, other):
                return False
    return True


def value_of(item: Mapping[str, Any], name: str) -> Any:
    """Return a property of an item, or its id or collection; None where it has none."""
    place = item if name in ("id", "collection") else item.get("properties") or {}
    return place.get(name)


def _fits(item: Mapping[str, Any], name: str, value: Any, operator: str, other: Any) -> bool:
    try:
        return _OPERATORS[operator](value, other)
    except TypeError:
        raise CatalogError(
            f"{name_of(item)} has {name} {show(value)}, which cannot be compared with "
            f"{operator} {show(other)}",
            cure="correct the item or the query",
        ) from None


def read_interval(asked: DatetimeQuery) -> tuple[dt.datetime | None, dt.datetime | None]:
    """Return start and end (naive UTC, included) of an RFC 3339 time or interval.

    A year, month or day stands for all of it: ``"2018-07/2018-09"`` ends with September.
    """
    if isinstance(asked, str):
        parts: Sequence[Any] = asked.split("/") if "/" in asked else [asked, asked]
    elif isinstance(asked, Sequence):
        parts = asked
    else:
        parts = [asked, asked]
    if len(parts) != 2:
        raise CatalogError(
            f"has {len(parts)} parts", cure="give 'start/end'", argument="datetime", value=asked
        )
    start, end = _read_instant(parts[0], asked)[0], _read_instant(parts[1], asked)[1]
    if start is not None and end is not None and end < start:
        raise CatalogError(
            "ends before it starts", cure="give 'start/end'", argument="datetime", value=asked
        )
    return start, end


def check_bbox(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    """Return west, south, east, north [degrees], or raise `GridError` that says what is wrong.

    Longitudes may lie beyond ±180° or count from 0° to 360°. Those returned lie from -180 to 180,
    with west > east where the box crosses the antimeridian.
    """
    cure = "give bbox=(west, south, east, north) in degrees of longitude and latitude"
    try:
        box = flat_box([float(value) for value in bbox])
    except (TypeError, ValueError):
        raise GridError(
            "is not four finite numbers", cure=cure, argument="bbox", value=bbox
        ) from None
    if len(box) != 4 or not all(map(math.isfinite, box)):
        raise GridError("is not four finite numbers", cure=cure, argument="bbox", value=tuple(bbox))
    west, south, east, north = box
    too_wide = max(abs(west), abs(east)) > 360 or east - west > 360
    if too_wide or max(abs(south), abs(north)) > 90:
        raise GridError(
            "is outside the range of degrees, in metres perhaps",
            cure=cure,
            argument="bbox",
            value=box,
        )
    if (east - west) % 360 == 0 != east - west - 360 or south == north:
        raise GridError("has no extent", cure=cure, argument="bbox", value=box)
    if south > north or (west > east and (east - west) % 360 > 180):
        raise GridError("is inverted", cure=cure, argument="bbox", value=box)
    return normal_box((west, south, east, north))


def _read_instant(
    instant: Any, asked: DatetimeQuery
) -> tuple[dt.datetime | None, dt.datetime | None]:
    """First and last moment of an instant, which a year, month or day extends over."""
    if isinstance(instant, np.datetime64):  # its unit says whether it stands for a whole day
        instant = str(np.datetime_as_string(instant)).removesuffix("NaT")
    if isinstance(instant, dt.datetime):
        moment = instant.astimezone(dt.UTC).replace(tzinfo=None) if instant.tzinfo else instant
        return moment, moment
    text = "" if instant is None else str(instant).strip()
    if text in _OPEN:
        return None, None
    try:
        match = _PARTIAL.match(text)
        if match:
            return _whole(*(int(part) if part else None for part in match.groups()))
        return _read_instant(dt.datetime.fromisoformat(text.upper()), asked)
    except ValueError:
        raise CatalogError(
            f": {text!r} is no RFC 3339 time",
            cure="give '2018', '2018-07/2018-09', '2018-07-01T00:00:00Z/..'",
            argument="datetime",
            value=asked,
        ) from None


def _whole(year: int | None, month: int | None, day: int | None) -> tuple[dt.datetime, dt.datetime]:
    start = dt.datetime(year or 1, month or 1, day or 1)
    if day:
        after = start + dt.timedelta(days=1)
    elif month:
        after = (start + dt.timedelta(days=31)).replace(day=1)
    else:
        after = start.replace(year=start.year + 1)
    return start, after - dt.timedelta(microseconds=1)


def _in_interval(item: Mapping[str, Any], query: Query) -> bool:
    if query.start is None and query.end is None:
        return True
    first = last = sensing_time(item)
    properties = item["properties"]
    if properties.get("datetime") is None and properties.get("end_datetime"):
        last = sensing_time(
            {"id": item.get("id"), "properties": {"datetime": properties["end_datetime"]}}
        )
    return (query.end is None or first <= query.end) and (
        query.start is None or last >= query.start
    )


def _in_box(item: Mapping[str, Any], bbox: tuple[float, float, float, float] | None) -> bool:
    if bbox is None:
        return True
    box = bbox_of(item)
    if box is None:
        return False
    return do_meet(box, bbox)


def _check_operators(name: str, tests: Mapping[str, Any]) -> Mapping[str, Any]:
    odd = sorted(set(tests) - set(_OPERATORS))
    if odd:
        raise CatalogError(
            f"query={{{name!r}: ...}} has {odd}", cure=f"there are {sorted(_OPERATORS)}"
        )
    return tests
