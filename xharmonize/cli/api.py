"""In-memory client for stac-fastapi; imported by `xharmonize.cli.server`.

Collections, dates, boxes and the query extension match as in `open_stac` for catalogue files;
CQL2, polygons and sorting are implemented here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from stac_fastapi.api.app import StacApi
from stac_fastapi.api.models import create_get_request_model, create_post_request_model
from stac_fastapi.extensions.filter import SearchFilterExtension
from stac_fastapi.extensions.pagination import TokenPaginationExtension
from stac_fastapi.extensions.query import QueryExtension
from stac_fastapi.extensions.sort import SortExtension
from stac_fastapi.types.config import ApiSettings
from stac_fastapi.types.core import BaseCoreClient
from stac_fastapi.types.errors import NotFoundError
from stac_fastapi.types.search import APIRequest

from xharmonize.errors import XHarmonizeError
from xharmonize.io.stac.items import bbox_of
from xharmonize.io.stac.query import make_query, matches, value_of
from xharmonize.kernels.longitude import spans
from xharmonize.types import Item

Test = Callable[[Item], bool]

NAME = "xharmonize"
TITLE = "xharmonize loopback API"
DESCRIPTION = "Items in memory, on this computer only"
DEFAULT_LIMIT = 10
# pystac-client 0.9 looks for version 1.0 of the extension, newer ones for 1.1; both send the
# same requests.
SORT_CONFORMANCE = [f"https://api.stacspec.org/v1.{n}.0/item-search#sort" for n in (0, 1)]


class MemoryClient(BaseCoreClient):
    """Answer every request from lists of items and collections."""

    def __init__(
        self, items: list[Item], collections: list[dict[str, Any]], extensions: list[Any]
    ) -> None:
        super().__init__(
            extensions=extensions, title=TITLE, landing_page_id=NAME, description=DESCRIPTION
        )
        self.items = items
        self.collections = collections

    def all_collections(self, **kwargs: Any) -> Any:
        """Return all collections."""
        base = str(kwargs["request"].base_url)
        found = [_link_collection(document, base) for document in self.collections]
        links = [{"rel": "self", "type": "application/json", "href": f"{base}collections"}]
        return {"collections": found, "links": links, "numberReturned": len(found)}

    def get_collection(self, collection_id: str, **kwargs: Any) -> Any:
        """Return one collection."""
        for document in self.collections:
            if document["id"] == collection_id:
                return _link_collection(document, str(kwargs["request"].base_url))
        raise NotFoundError(f"no collection {collection_id!r}")

    def get_item(self, item_id: str, collection_id: str, **kwargs: Any) -> Any:
        """Return one item."""
        matching = _matching([collection_id], ids=[item_id])
        for item in filter(matching, self.items):
            return _link_item(item, str(kwargs["request"].base_url))
        raise NotFoundError(f"no item {item_id!r} in collection {collection_id!r}")

    def item_collection(
        self,
        collection_id: str,
        bbox: Any = None,
        datetime: str | None = None,
        limit: int | None = None,
        token: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return a page of the items of a collection."""
        self.get_collection(collection_id, **kwargs)
        test = _matching([collection_id], bbox=bbox, datetime=datetime)
        request = kwargs["request"]
        # stac-fastapi's request model for this route has no token: read it from the URL.
        return self._page([test], request, limit, token or request.query_params.get("token"))

    def get_search(
        self,
        collections: list[str] | None = None,
        ids: list[str] | None = None,
        bbox: Any = None,
        intersects: str | None = None,
        datetime: str | None = None,
        limit: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return a page of the items a GET search matches."""
        properties = _parsed(kwargs.get("query")) or {}
        tests = [
            _matching(collections, ids=ids, datetime=datetime, bbox=bbox, query=properties),
            *_other_tests(_parsed(intersects), kwargs.get("filter_expr")),
        ]
        order = [(text.lstrip("+-"), text.startswith("-")) for text in kwargs.get("sortby") or []]
        return self._page(tests, kwargs["request"], limit, kwargs.get("token"), order)

    def post_search(self, search_request: Any, **kwargs: Any) -> Any:
        """Return a page of the items a POST search matches."""
        body = search_request
        area = body.intersects.model_dump() if body.intersects else None
        tests = [
            _matching(
                body.collections,
                ids=body.ids,
                datetime=body.datetime,
                bbox=body.bbox,
                query=body.query or {},
            ),
            *_other_tests(area, body.filter_expr),
        ]
        order = [(key.field, key.direction == "desc") for key in body.sortby or []]
        return self._page(tests, kwargs["request"], body.limit, body.token, order)

    def _page(
        self,
        tests: Sequence[Test],
        request: Request,
        limit: int | None,
        token: str | None,
        order: Sequence[tuple[str, bool]] = (),
    ) -> Any:
        start, size = _offset(token), limit or DEFAULT_LIMIT
        found = [item for item in self.items if all(test(item) for test in tests)]
        # Newest first, unless the search says how to sort.
        for name, descends in reversed([*order, ("datetime", True), ("id", True)]):
            found.sort(
                key=lambda item: _sort_key(value_of(item, name.removeprefix("properties."))),
                reverse=descends,
            )
        base = str(request.base_url)
        page = [_link_item(item, base) for item in found[start : start + size]]
        following = start + size
        return {
            "type": "FeatureCollection",
            "features": page,
            "links": [_next_link(request, following)] if following < len(found) else [],
            "numberMatched": len(found),
            "numberReturned": len(page),
        }


def _matching(
    collections: Sequence[str] | None,
    *,
    ids: Sequence[str] | None = None,
    query: Mapping[str, Any] | None = None,
    **asked: Any,
) -> Test:
    """Return the same test that catalogue files use."""
    properties = {**(query or {}), **({"id": {"in": ids}} if ids else {})}
    checked = make_query(collection=collections, query=properties, **asked)
    return lambda item: matches(item, checked)


def _other_tests(area: Mapping[str, Any] | None, cql2: Any) -> list[Test]:
    """Return the tests that catalogue files don't support: polygons and CQL2."""
    tests = [] if area is None else [_in_area(area)]
    return [*tests, _fits_cql2(cql2)] if cql2 else tests


def _in_area(area: Mapping[str, Any]) -> Test:
    from shapely.geometry import MultiPolygon, box, shape

    wanted = shape(area)

    def test(item: Item) -> bool:
        if item.get("geometry") is None:
            return False
        footprint = shape(item["geometry"])
        west, south, east, north = bbox_of(item) or footprint.bounds
        if west > east or max(abs(west), abs(east)) > 180:  # its ring does not show where it is
            pieces = spans((west, south, east, north))
            footprint = MultiPolygon([box(w, south, e, north) for w, e in pieces])
        return bool(wanted.intersects(footprint))

    return test


def _fits_cql2(expression: Any) -> Test:
    import cql2

    parsed = cql2.Expr(expression)
    # A missing property leaves the expression unreduced, which is no match, like NULL in SQL.
    return lambda item: bool(parsed.reduce(item).to_text() == "true")


def _sort_key(value: Any) -> tuple[bool, Any]:
    """Sort items without the field first, so that None is never compared with a number."""
    return (value is not None, value if value is not None else 0)


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def make_app(items: list[Item], collections: list[dict[str, Any]]) -> FastAPI:
    """Return the API over these items and collections."""
    extensions = [
        QueryExtension(),
        SortExtension(conformance_classes=SORT_CONFORMANCE),
        SearchFilterExtension(),
        TokenPaginationExtension(),
    ]
    settings = ApiSettings(
        stac_fastapi_title=TITLE,
        stac_fastapi_description=DESCRIPTION,
        stac_fastapi_landing_id=NAME,
        stac_fastapi_version="1.0",
        _env_file=None,
    )
    search_get: type[APIRequest] = create_get_request_model(extensions)
    api = StacApi(
        settings=settings,
        client=MemoryClient(items, collections, extensions),
        extensions=extensions,
        search_get_request_model=search_get,
        search_post_request_model=create_post_request_model(extensions),
        middlewares=[],
    )
    app: FastAPI = api.app
    # Invalid queries: pass on the message of whichever check refused them.
    app.add_exception_handler(
        XHarmonizeError, lambda _, error: JSONResponse({"detail": str(error)}, status_code=400)
    )
    return app


def _offset(token: str | None) -> int:
    if token is None:
        return 0
    if not token.isdecimal():
        raise HTTPException(400, detail=f"{token!r} is no token of this API")
    return int(token)


def _next_link(request: Request, offset: int) -> dict[str, Any]:
    link: dict[str, Any] = {"rel": "next", "type": "application/geo+json", "method": request.method}
    if request.method == "POST":
        href = str(request.url)
        return {**link, "href": href, "merge": True, "body": {"token": str(offset)}}
    parameters = {**request.query_params, "token": str(offset)}
    return {**link, "href": f"{request.url.replace(query='')}?{urlencode(parameters)}"}


def _link_collection(document: dict[str, Any], base: str) -> dict[str, Any]:
    here = f"{base}collections/{document['id']}"
    return {**document, "links": _links(base, here, "application/json", items=f"{here}/items")}


def _link_item(item: Item, base: str) -> Item:
    parent = f"{base}collections/{item.get('collection')}"
    here = f"{parent}/items/{item['id']}"
    return {**item, "links": _links(base, here, "application/geo+json", collection=parent)}


def _links(base: str, here: str, media_type: str, **others: str) -> list[dict[str, str]]:
    links = [
        {"rel": "root", "type": "application/json", "href": base},
        {"rel": "self", "type": media_type, "href": here},
    ]
    return links + [
        {"rel": rel, "type": "application/json", "href": href} for rel, href in others.items()
    ]
