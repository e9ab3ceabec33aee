"""STAC item search on a list of items in memory: bbox, datetime, intersects, query, CQL2, sort."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from xharmonize.cube.catalog.items import bbox_of
from xharmonize.kernels.longitude import flat_box, spans

Item = dict[str, Any]
Interval = tuple[datetime | None, datetime | None]

_OPERATORS = {"eq": "=", "neq": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">=", "in": "in"}
_PATTERNS = {"startsWith": "{}%", "endsWith": "%{}", "contains": "%{}%"}


@dataclass(frozen=True, kw_only=True)
class Search:
    """One request for items.

    Attributes
    ----------
    bbox : sequence of float, optional
        West, south, east, north [degree], or six values with heights, which are not looked at.
    interval : (datetime, datetime), optional
        First and last instant, either may be open (None).
    intersects : mapping, optional
        GeoJSON geometry.
    query : mapping
        STAC query extension: ``{"eo:cloud_cover": {"lt": 20}}``.
    cql2 : str or mapping, optional
        CQL2 text or JSON.
    sort : sequence of (str, bool)
        Field, and whether it descends.
    """

    collections: Sequence[str] | None = None
    ids: Sequence[str] | None = None
    bbox: Sequence[float] | None = None
    interval: Interval | None = None
    intersects: Mapping[str, Any] | None = None
    query: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cql2: str | dict[str, Any] | None = None
    sort: Sequence[tuple[str, bool]] = ()


def find(items: Iterable[Item], search: Search) -> list[Item]:
    """Return the items a search matches, newest first unless it says how to sort."""
    tests = _tests(search)
    found = [item for item in items if all(test(item) for test in tests)]
    found.sort(key=lambda item: (str(_value(item, "datetime")), item["id"]), reverse=True)
    for name, descends in reversed(search.sort):
        found.sort(key=lambda item: _sort_key(_value(item, name)), reverse=descends)
    return found


def _tests(search: Search) -> list[Callable[[Item], bool]]:
    """Return one predicate for each restriction the search makes."""
    tests: list[Callable[[Item], bool]] = []
    if search.collections:
        collections = set(search.collections)
        tests.append(lambda item: item.get("collection") in collections)
    if search.ids:
        ids = set(search.ids)
        tests.append(lambda item: item["id"] in ids)
    if search.interval is not None:
        interval = search.interval
        tests.append(lambda item: _overlaps(_instants(item), interval))
    if search.bbox is not None or search.intersects is not None:
        tests.append(_spatial_test(search))
    expressions = [*query_to_cql2(search.query), *([search.cql2] if search.cql2 else [])]
    tests.extend(_cql2_test(expression) for expression in expressions)
    return tests


def query_to_cql2(query: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Translate the STAC query extension into CQL2 JSON expressions.

    Raises
    ------
    ValueError
        If an operator is none of the query extension's.
    """
    expressions = []
    for name, conditions in query.items():
        for operator, value in conditions.items():
            if operator in _PATTERNS:
                operator, value = "like", _PATTERNS[operator].format(value)
            elif operator in _OPERATORS:
                operator = _OPERATORS[operator]
            else:
                known = ", ".join([*_OPERATORS, *_PATTERNS])
                raise ValueError(f"unknown query operator {operator!r}; use one of {known}")
            expressions.append({"op": operator, "args": [{"property": name}, value]})
    return expressions


def _cql2_test(expression: str | dict[str, Any]) -> Callable[[Item], bool]:
    import cql2

    parsed = cql2.Expr(expression)
    # A property the item lacks leaves the expression unreduced: no match, as NULL in SQL.
    return lambda item: bool(parsed.reduce(item).to_text() == "true")


def _spatial_test(search: Search) -> Callable[[Item], bool]:
    from shapely.geometry import MultiPolygon, box, shape

    areas = []
    if search.bbox is not None:
        west, south, east, north = flat_box(search.bbox)
        pieces = spans((west, south, east, north))
        areas.append(MultiPolygon([box(w, south, e, north) for w, e in pieces]))
    if search.intersects is not None:
        areas.append(shape(search.intersects))

    def test(item: Item) -> bool:
        if item.get("geometry") is None:
            return False
        footprint = shape(item["geometry"])
        west, south, east, north = bbox_of(item) or footprint.bounds
        if west > east or max(abs(west), abs(east)) > 180:  # its ring does not show where it is
            pieces = spans((west, south, east, north))
            footprint = MultiPolygon([box(w, south, e, north) for w, e in pieces])
        return all(area.intersects(footprint) for area in areas)

    return test


def _instants(item: Item) -> Interval:
    """First and last instant of an item."""
    properties = item["properties"]
    single = properties.get("datetime")
    texts = [properties.get(f"{end}_datetime") or single for end in ("start", "end")]
    first, last = (datetime.fromisoformat(text) if text else None for text in texts)
    return first, last


def _overlaps(a: Interval, b: Interval) -> bool:
    starts_in_time = a[0] is None or b[1] is None or a[0] <= b[1]
    ends_in_time = a[1] is None or b[0] is None or a[1] >= b[0]
    return starts_in_time and ends_in_time


def _value(item: Item, name: str) -> Any:
    name = name.removeprefix("properties.")
    return item[name] if name in ("id", "collection") else item["properties"].get(name)


def _sort_key(value: Any) -> tuple[bool, Any]:
    """Items without the field come first, and are never compared with a number."""
    return (value is not None, value if value is not None else 0)


def parse_json(text: str | None) -> Any:
    """Read JSON from a GET parameter; None stays None."""
    return None if text is None else json.loads(text)
