"""The stac-fastapi core client that answers from memory; imported by `xharmonize.cli.server`."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from fastapi import FastAPI, HTTPException, Request
from stac_fastapi.api.app import StacApi
from stac_fastapi.api.models import create_get_request_model, create_post_request_model
from stac_fastapi.extensions.filter import SearchFilterExtension
from stac_fastapi.extensions.pagination import TokenPaginationExtension
from stac_fastapi.extensions.query import QueryExtension
from stac_fastapi.extensions.sort import SortExtension
from stac_fastapi.types.config import ApiSettings
from stac_fastapi.types.core import BaseCoreClient
from stac_fastapi.types.errors import NotFoundError
from stac_fastapi.types.rfc3339 import str_to_interval
from stac_fastapi.types.search import APIRequest

from xharmonize.cli.search import Interval, Item, Search, find, parse_json

NAME = "xharmonize"
TITLE = "xharmonize loopback API"
DESCRIPTION = "Items in memory, on this computer only"
DEFAULT_LIMIT = 10
# pystac-client 0.9 knows version 1.0 of the extension, newer clients 1.1; requests are the same.
SORT_CONFORMANCE = [f"https://api.stacspec.org/v1.{n}.0/item-search#sort" for n in (0, 1)]


class MemoryClient(BaseCoreClient):
    """Answers every request from a list of items and one of collections."""

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
        for item in find(self.items, Search(ids=[item_id], collections=[collection_id])):
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
        search = Search(collections=[collection_id], bbox=bbox, interval=_interval(datetime))
        request = kwargs["request"]
        # stac-fastapi's request model of this route has no token: it reaches the URL alone.
        return self._page(search, request, limit, token or request.query_params.get("token"))

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
        search = Search(
            collections=collections,
            ids=ids,
            bbox=bbox,
            interval=_interval(datetime),
            intersects=parse_json(intersects),
            query=parse_json(kwargs.get("query")) or {},
            cql2=kwargs.get("filter_expr"),
            sort=[_sort_field(text) for text in kwargs.get("sortby") or []],
        )
        return self._page(search, kwargs["request"], limit, kwargs.get("token"))

    def post_search(self, search_request: Any, **kwargs: Any) -> Any:
        """Return a page of the items a POST search matches."""
        body = search_request
        search = Search(
            collections=body.collections,
            ids=body.ids,
            bbox=body.bbox,
            interval=_interval(body.datetime),
            intersects=body.intersects.model_dump() if body.intersects else None,
            query=body.query or {},
            cql2=body.filter_expr,
            sort=[(key.field, key.direction == "desc") for key in body.sortby or []],
        )
        return self._page(search, kwargs["request"], body.limit, body.token)

    def _page(self, search: Search, request: Request, limit: int | None, token: str | None) -> Any:
        start, size = _offset(token), limit or DEFAULT_LIMIT
        try:
            found = find(self.items, search)
        except ValueError as error:
            raise HTTPException(400, detail=str(error)) from error
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
    return app


def _interval(text: str | None) -> Interval | None:
    parsed = str_to_interval(text)
    if parsed is None or isinstance(parsed, tuple):
        return parsed
    return parsed, parsed


def _offset(token: str | None) -> int:
    if token is None:
        return 0
    if not token.isdecimal():
        raise HTTPException(400, detail=f"{token!r} is no token of this API")
    return int(token)


def _sort_field(text: str) -> tuple[str, bool]:
    return text.lstrip("+-"), text.startswith("-")


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
