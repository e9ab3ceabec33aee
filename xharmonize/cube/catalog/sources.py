"""Items as plain dictionaries, from whatever holds them: objects, files, catalogues, servers.

pystac and pystac-client are loaded only where their objects come in or a server is asked.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse
from urllib.request import Request, urlopen

from xharmonize._optional import require
from xharmonize.cube.catalog.items import Item, make_absolute
from xharmonize.cube.catalog.query import Query, fits_properties, matches
from xharmonize.errors import CatalogConnectionError, CatalogError

Source: TypeAlias = Any
"""pystac items, an ItemCollection, a Catalog or a pystac_client Client or ItemSearch; one item or
an item collection as dictionaries, or a list of these; the path or address of an item, an item
collection (JSON, newline-delimited JSON or GeoParquet) or a static catalogue; a STAC API's URL."""

_TIMEOUT = 60  # [s] for one document
_ITEM_SEARCH = "/item-search"


class Located(NamedTuple):
    """An item, and the file its relative hrefs start at."""

    item: Mapping[str, Any]
    base: str | None


def load_items(source: Source, query: Query) -> list[Located]:
    """Return the items of a source that fit a query.

    Raises
    ------
    CatalogError
        If the source holds no STAC.
    CatalogConnectionError
        If a server cannot be reached or refuses.
    """
    if isinstance(source, str | os.PathLike):
        return _from_location(os.fspath(source), query)
    if isinstance(source, Mapping):
        return _from_document(source, None, query)
    if _is_a(source, "pystac_client", "Client") and source.conforms_to("ITEM_SEARCH"):
        return _search(source, query)
    if _is_a(source, "pystac", "Catalog"):
        return _keep(_walk_objects(source), query)
    if _is_a(source, "pystac_client", "ItemSearch"):
        return _keep(_guard(source.items_as_dicts(), str(source.url)), query)
    if isinstance(source, Iterable):
        return [located for part in source for located in _from_part(part, query)]
    return _from_part(source, query)


def _from_part(part: Any, query: Query) -> list[Located]:
    """Items of one member of a list: a dictionary or a pystac object."""
    if isinstance(part, Mapping):
        return _from_document(part, None, query)
    if _is_a(part, "pystac", "Item"):
        item = part.to_dict(include_self_link=False, transform_hrefs=False)
        return _keep([Located(item, part.get_self_href())], query)
    raise CatalogError(
        f"{type(part).__name__} {str(part)[:60]!r} is no STAC source; give pystac items, "
        "dictionaries, the path of a catalogue or item collection, or the URL of a STAC API"
    )


def _from_location(location: str, query: Query) -> list[Located]:
    if urlparse(location).scheme in ("http", "https"):
        return _from_remote(location, query)
    path = Path(make_absolute(location, None)).expanduser()
    path = path / "catalog.json" if path.is_dir() else path
    if not path.is_file():
        raise CatalogError(
            f"there is no file {str(path)!r}; give the path of a catalogue, an item collection or "
            "an item, or the URL of a STAC API beginning with https://"
        )
    if path.suffix in (".parquet", ".geoparquet"):
        rustac = require("rustac", extra="parquet")
        return _from_document(rustac.read_sync(str(path)), str(path), query)
    if path.suffix in (".ndjson", ".jsonl"):
        lines = path.read_text(encoding="utf-8").splitlines()
        items = [json.loads(line) for line in lines if line.strip()]
        return _keep([Located(item, str(path)) for item in items], query)
    return _from_document(_read_file(str(path)), str(path), query)


def _from_remote(url: str, query: Query) -> list[Located]:
    """Items of an address: pages are followed, a collection of an API is searched."""
    document = _read_remote(url)
    kind = document.get("type") if isinstance(document, Mapping) else None
    if kind == "Collection" and _link(document, "items") and _link(document, "root"):
        asked = query.collections or (str(document["id"]),)
        root = make_absolute(str(_link(document, "root")), url)
        return _from_remote(root, replace(query, collections=asked))
    found, seen = _from_document(document, url, query), {url}
    while kind == "FeatureCollection" and (following := _link(document, "next")):
        url = make_absolute(following, url)
        if url in seen:
            raise CatalogError(
                f"the pages of {url} lead back to one already read; search the API instead: give "
                "its landing page, with collection=..."
            )
        seen.add(url)
        document = _read_remote(url)
        found += _from_document(document, url, query)
    return found


def _from_document(document: Any, base: str | None, query: Query) -> list[Located]:
    """Items of a STAC document of any kind."""
    if isinstance(document, list):
        return [located for part in document for located in _from_document(part, base, query)]
    kind = document.get("type") if isinstance(document, Mapping) else None
    if kind == "FeatureCollection":
        return _keep([Located(item, base) for item in document["features"]], query)
    if kind == "Feature" or (
        isinstance(document, Mapping) and "assets" in document and "properties" in document
    ):
        return _keep([Located(document, base)], query)
    if kind in ("Catalog", "Collection") or (kind is None and "links" in (document or ())):
        if base is not None and _searches(document):
            return _search(_open_client(base), query)
        return _keep(_walk(document, base, query, set()), query)
    where = f" of {base!r}" if base else ""
    raise CatalogError(
        f"the document{where} is of type {kind!r}, not a STAC item, item collection or catalogue"
    )


def _walk(
    document: Mapping[str, Any], base: str | None, query: Query, seen: set[str]
) -> Iterator[Located]:
    """Yield the items below a static catalogue, each file once; skip collections not asked for."""
    if document.get("type") == "Collection" and query.collections:
        nested = any(link.get("rel") == "child" for link in document.get("links") or ())
        if document.get("id") not in query.collections and not nested:
            return
    base = base or _link(document, "self")
    for link in document.get("links") or ():
        if link.get("rel") not in ("item", "child"):
            continue
        href = make_absolute(str(link["href"]), base)
        if href in seen:
            continue
        seen.add(href)
        linked = _read(href)
        if link["rel"] == "item":
            yield Located(linked, href)
        else:
            yield from _walk(linked, href, query, seen)


def _walk_objects(catalog: Any) -> Iterator[Located]:
    """Yield the items below a pystac catalogue."""
    from pystac.errors import STACError

    try:
        for item in catalog.get_items(recursive=True):
            yield Located(item.to_dict(transform_hrefs=False), item.get_self_href())
    except STACError as error:
        raise CatalogError(
            f"pystac cannot walk the catalogue {catalog.id!r}: {str(error)[:300]}; "
            "give its path or address instead"
        ) from error


def _search(client: Any, query: Query) -> list[Located]:
    """Items of a STAC API, all pages."""
    properties = query.properties if client.conforms_to("QUERY") else {}
    url = str(client.get_self_href())

    def ask() -> Iterator[Item]:
        search = client.search(
            collections=list(query.collections) or None,
            datetime=query.interval,
            bbox=query.bbox,
            query=dict(properties) or None,
        )
        yield from search.items_as_dicts()

    return [located for located in _guard(ask(), url) if fits_properties(located.item, query)]


def _guard(items: Iterator[Item], url: str) -> Iterator[Located]:
    """Yield the items of a server; turn what its client raises into our errors."""
    from pystac.errors import STACError
    from pystac_client.exceptions import APIError

    try:
        for item in items:
            yield Located(item, None)
    except (APIError, STACError) as error:
        raise CatalogConnectionError(
            f"the STAC API at {url} did not answer the search: {str(error)[:300]}; check the "
            "address and the network, or ask for less"
        ) from error


def _open_client(url: str) -> Any:
    client = require("pystac_client", extra="stac")
    from pystac_client.exceptions import APIError

    try:
        return client.Client.open(url)
    except APIError as error:
        raise _unreachable(url, error) from error


def _link(document: Mapping[str, Any], rel: str) -> str | None:
    found = (str(li["href"]) for li in document.get("links") or () if li.get("rel") == rel)
    return next(found, None)


def _searches(document: Mapping[str, Any]) -> bool:
    return any(_ITEM_SEARCH in str(uri) for uri in document.get("conformsTo") or ())


def _read(href: str) -> Any:
    remote = urlparse(href).scheme in ("http", "https")
    return _read_remote(href) if remote else _read_file(href)


def _read_file(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError as error:
        raise CatalogError(f"the catalogue names {path!r}, which does not exist") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CatalogError(f"{path!r} is not JSON: {error}") from error


def _read_remote(url: str) -> Any:
    try:
        request = Request(url, headers={"Accept": "application/json, application/geo+json"})
        with urlopen(request, timeout=_TIMEOUT) as response:
            return json.load(response)
    except json.JSONDecodeError as error:
        raise CatalogError(f"{url} answers, but not with JSON: {error}") from error
    except (HTTPError, URLError, TimeoutError, ConnectionError) as error:
        raise _unreachable(url, error) from error


def _unreachable(url: str, error: Exception) -> CatalogConnectionError:
    return CatalogConnectionError(
        f"the STAC source {url} cannot be reached ({error}); check the address and the network, "
        "or open it yourself with pystac_client.Client.open(...) where it needs credentials"
    )


def _keep(items: Iterable[Located], query: Query) -> list[Located]:
    return [located for located in items if matches(located.item, query)]


def _is_a(value: Any, package: str, name: str) -> bool:
    """`isinstance` that does not load the package: without it, nothing can be of its classes."""
    module = sys.modules.get(package)
    return module is not None and isinstance(value, getattr(module, name))


def describe_source(source: Source) -> str:
    """Return a short name of a source for messages."""
    if isinstance(source, str | os.PathLike):
        return repr(os.fspath(source))
    if isinstance(source, Sequence):
        return f"{len(source)} items"
    return type(source).__name__
