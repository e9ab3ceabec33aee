"""Read STAC items from any source as plain dictionaries, within limits of size and time.

A server decides how much it sends, how slowly, and how many pages follow; a reader that trusts it
waits for ever. The bounds are far above what catalogues need, and each is named where it is met.

pystac and pystac-client are loaded only where their objects come in or a server is asked.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple, TypeAlias, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urljoin, urlparse
from urllib.request import Request, urlopen

from xharmonize._optional import require
from xharmonize._settings import option
from xharmonize.errors import CatalogConnectionError, CatalogError, show
from xharmonize.io.stac.fields import as_list, as_objects, malformed
from xharmonize.io.stac.items import check_item, make_absolute
from xharmonize.io.stac.query import Query, fits_properties, matches

T = TypeVar("T")


LARGEST = 256 * 2**20
"""Size of a document [byte] above which it is not read."""

MOST_PAGES = 2000
"""Pages of one search."""

MOST_DOCUMENTS = 10_000
"""Documents of one catalogue on the web that are read to find its items."""

DEEPEST = 32
"""Levels of a catalogue below its root."""

_PIECE = 2**16


class TooMuch(CatalogError):
    """A source exceeds a limit."""


def read_file(path: str) -> Any:
    """Return the JSON of a file.

    Raises
    ------
    CatalogError
        If it is not there or no JSON.
    """
    try:
        with open(path, "rb") as file:
            return parse(file.read(), repr(path))
    except FileNotFoundError as error:
        raise CatalogError(f"the catalogue names {path!r}, which does not exist") from error
    except (OSError, ValueError) as error:  # a folder, no permission; a name with a zero byte
        if isinstance(error, CatalogError):
            raise
        raise CatalogError(f"{path!r} cannot be read: {error}") from error


def read_remote(url: str) -> Any:
    """Return the JSON at an address.

    Raises
    ------
    CatalogError
        If it is no JSON, or larger than `LARGEST`.
    CatalogConnectionError
        If the server cannot be reached, refuses, or takes longer than the timeout of `set_options`.
    """
    try:
        return parse(in_time(lambda: _get(url)), url)
    except (HTTPError, URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise unreachable(url, error) from error
    except (OSError, ValueError) as error:
        if isinstance(error, CatalogError | CatalogConnectionError):
            raise
        raise CatalogError(f"{url!r} cannot be read: {error}") from error


def _get(url: str) -> bytes:
    address = quote(url, safe="%/:=&?~#+!$,;'@()*[]")  # spaces and umlauts, as browsers do
    request = Request(address, headers={"Accept": "application/json, application/geo+json"})
    with urlopen(request, timeout=option("timeout")) as response:
        return read_within(response.read1, url)


def in_time(ask: Callable[[], T]) -> T:
    """Return the answer to a request; raise `TimeoutError` after the timeout.

    Timeouts of sockets count from one byte to the next, so a server that drips never meets them.
    """
    answer: Future[T] = Future()
    timeout = option("timeout")

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:
            answer.set_exception(error)

    Thread(target=run, daemon=True).start()
    try:
        return answer.result(timeout)
    except FutureTimeout:
        raise TimeoutError(f"no whole answer within {timeout:g} s") from None


def read_within(read: Callable[[int], bytes], url: str) -> bytes:
    """Return the body of a response, within the limits of size and time.

    Parameters
    ----------
    read : callable
        Gives up to so many bytes, those that are there; none at the end.
    """
    parts: list[bytes] = []
    timeout = option("timeout")
    size, end = 0, time.monotonic() + timeout
    while part := read(_PIECE):
        parts.append(part)
        size += len(part)
        if size > LARGEST:
            raise TooMuch(
                f"{url} sends more than {LARGEST:,} bytes", cure="ask for less, page by page"
            )
        if time.monotonic() > end:
            raise TimeoutError(f"its document takes longer than {timeout:g} s")
    return b"".join(parts)


def parse(data: bytes, where: str) -> Any:
    """Parse JSON; raise `CatalogError` if it is malformed."""
    try:
        return json.loads(data.decode("utf-8-sig"))
    except RecursionError:
        raise CatalogError(f"{where} is nested too deep to be a STAC document") from None
    except ValueError as error:
        raise CatalogError(f"{where} is not JSON: {error}") from error


def open_client(url: str) -> Any:
    """Return a ``pystac_client`` Client that reads within the same bounds."""
    client = require("pystac_client", extra="stac")
    from pystac.errors import STACError
    from pystac_client.exceptions import APIError

    try:
        return client.Client.open(url, stac_io=_bounded_io())
    except APIError as error:
        raise unreachable(url, error) from error
    except (STACError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CatalogError(
            f"{url} is no STAC API: {type(error).__name__} {str(error)[:200]}"
        ) from error


def _bounded_io() -> Any:
    from pystac_client.exceptions import APIError
    from pystac_client.stac_api_io import StacApiIO
    from requests import Session

    class BoundedIO(StacApiIO):  # type: ignore[misc]
        """Reads documents of a server within the bounds of this module, and nothing else."""

        def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
            href = str(getattr(source, "href", source))
            if not href.lower().startswith(("http://", "https://")):
                raise APIError(f"it links {href!r}, which is no address on the web")
            return str(super().read_text(source, *args, **kwargs))

    class BoundedSession(Session):
        """Reads a whole response, or fails."""

        def send(self, request: Any, **options: Any) -> Any:
            return in_time(lambda: self._send(request, **{**options, "stream": True}))

        def _send(self, request: Any, **options: Any) -> Any:
            response = super().send(request, **options)
            response.raw.decode_content = True
            read = getattr(response.raw, "read1", response.raw.read)
            response._content = read_within(read, str(request.url))
            return response

    made = BoundedIO(timeout=option("timeout"))
    made.session = BoundedSession()
    return made


def unreachable(url: str, error: Exception) -> CatalogConnectionError:
    """Return the error of a server that cannot be reached."""
    return CatalogConnectionError(
        f"the STAC source {url} cannot be reached ({error})",
        cure="check the address and the network, "
        "or open it yourself with pystac_client.Client.open(...) where it needs credentials",
    )


Source: TypeAlias = Any
"""pystac items, an ItemCollection, a Catalog or a pystac_client Client or ItemSearch; one item or
an item collection as dictionaries, or a list of these; the path or address of an item, an item
collection (JSON, newline-delimited JSON or GeoParquet) or a static catalogue; a STAC API's URL."""

_ITEM_SEARCH = "/item-search"
_IDLE_PAGES = 3  # that bring no new item


class Located(NamedTuple):
    """An item, the file its relative hrefs start at, and whether it came from the web."""

    item: Mapping[str, Any]
    base: str | None
    is_web: bool = False


def load_items(source: Source, query: Query) -> list[Located]:
    """Return the items of a source that match a query.

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
        return _keep(_found(lambda: source, str(source.url)), query)
    if isinstance(source, Iterable):
        return [located for part in source for located in _from_part(part, query)]
    return _from_part(source, query)


def _from_part(part: Any, query: Query) -> list[Located]:
    """Items of one member of a list: a dictionary or a pystac object."""
    if isinstance(part, Mapping):
        return _from_document(part, None, query)
    if _is_a(part, "pystac", "Item"):
        item, href = (
            part.to_dict(include_self_link=False, transform_hrefs=False),
            part.get_self_href(),
        )
        return _keep([Located(item, href, _is_web(href))], query)
    raise CatalogError(
        f"{type(part).__name__} {str(part)[:60]!r} is no STAC source",
        cure="give pystac items, "
        "dictionaries, the path of a catalogue or item collection, or the URL of a STAC API",
    )


def _from_location(location: str, query: Query) -> list[Located]:
    if urlparse(location).scheme in ("http", "https"):
        return _from_remote(location, query)
    path = Path(make_absolute(location, None)).expanduser()
    path = path / "catalog.json" if path.is_dir() else path
    if not path.is_file():
        raise CatalogError(
            f"there is no file {str(path)!r}",
            cure="give the path of a catalogue, an item collection or "
            "an item, or the URL of a STAC API beginning with https://",
        )
    if path.suffix in (".parquet", ".geoparquet"):
        return _from_document(_read_parquet(path), str(path), query)
    if path.suffix in (".ndjson", ".jsonl"):
        lines = path.read_bytes().splitlines()
        items = [parse(line, f"a line of {str(path)!r}") for line in lines if line.strip()]
        return _keep([Located(item, str(path)) for item in items], query)
    return _from_document(read_file(str(path)), str(path), query)


def _read_parquet(path: Path) -> Any:
    rustac = require("rustac", extra="parquet")
    try:
        return rustac.read_sync(str(path))
    except Exception as error:  # rustac has one class, and raises that of pyo3 too
        raise CatalogError(f"{str(path)!r} is no GeoParquet of items: {error}") from error


def _from_remote(url: str, query: Query) -> list[Located]:
    """Items of an address: pages are followed, a collection of an API is searched."""
    document = read_remote(url)
    kind = document.get("type") if isinstance(document, Mapping) else None
    if kind == "Collection" and _link(document, "items") and _link(document, "root"):
        asked = query.collections or (str(document.get("id")),)
        root = _linked(str(_link(document, "root")), url)
        return _from_document(read_remote(root), root, replace(query, collections=asked))
    found, seen, pages = _from_document(document, url, query), {url}, _Pages(url)
    while kind == "FeatureCollection":
        pages.count(document)
        following = _link(document, "next")
        if following is None:
            break
        url = _linked(following, url)
        if url in seen:
            raise CatalogError(
                f"the pages of {url} lead back to one already read",
                cure="search the API instead: give its landing page, with collection=...",
            )
        seen.add(url)
        document = read_remote(url)
        found += _from_document(document, url, query)
    return found


class _Pages:
    """Counts the pages of a search, and detects repeated ones."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.n_pages = self.n_idle = 0
        self.seen: set[tuple[str, str]] = set()

    def count(self, page: Any) -> None:
        """Raise `CatalogError` if a search does not end."""
        features = as_list(page.get("features"), f"{self.url}: features")
        here = {
            (str(item.get("collection")), str(item.get("id")))
            for item in features
            if isinstance(item, Mapping)
        }
        self.n_idle = 0 if here - self.seen else self.n_idle + 1
        self.seen |= here
        self.n_pages += 1
        if self.n_idle > _IDLE_PAGES:
            raise TooMuch(
                f"the pages of {self.url} go on and bring items already read",
                cure="narrow the search with datetime=, bbox= or collection=",
            )
        if self.n_pages >= MOST_PAGES:
            raise TooMuch(
                f"the pages of {self.url} do not end after {MOST_PAGES:,}",
                cure="narrow the search with datetime=, bbox= or collection=",
            )


def _from_document(document: Any, base: str | None, query: Query) -> list[Located]:
    """Items of a STAC document of any kind."""
    if isinstance(document, list | tuple):
        return [located for part in document for located in _from_document(part, base, query)]
    where = f" of {base!r}" if base else ""
    if not isinstance(document, Mapping):
        raise CatalogError(f"the document{where} is {show(document)}, not STAC")
    kind = document.get("type")
    if kind == "FeatureCollection":
        items = document.get("features")
        if items is None:
            raise CatalogError(f"the item collection{where} has no features")
        return _keep(
            [Located(item, base, _is_web(base)) for item in as_list(items, f"features{where}")],
            query,
        )
    if kind == "Feature" or ("assets" in document and "properties" in document):
        return _keep([Located(document, base, _is_web(base))], query)
    if kind in ("Catalog", "Collection") or (kind is None and "links" in document):
        if base is not None and _searches(document):
            return _search(open_client(base), query)
        return _keep(_walk(document, base, query), query)
    raise CatalogError(
        f"the document{where} is of type {show(kind)}, not a STAC item, item collection or "
        "catalogue"
    )


def _walk(document: Any, base: str | None, query: Query) -> Iterator[Located]:
    """Yield the items below a static catalogue, each file once; skip collections not asked for.

    Raises
    ------
    TooMuch
        If it is deeper than `DEEPEST`, or of more documents than `MOST_DOCUMENTS` on the web.
    """
    base = base or _link(document, "self")
    seen: set[str] = set()
    below = [_links(document, base, query)]
    while below:
        link = next(below[-1], None)
        if link is None:
            below.pop()
            continue
        rel, href = link
        if href in seen:
            continue
        seen.add(href)
        if _is_web(href) and len(seen) > MOST_DOCUMENTS:
            raise TooMuch(
                f"the catalogue {base} links more than {MOST_DOCUMENTS:,} documents",
                cure="give a catalogue further down, or the URL of a STAC API",
            )
        linked = read_remote(href) if _is_web(href) else read_file(href)
        if rel == "item":
            yield Located(linked, href, _is_web(href))
            continue
        if len(below) >= DEEPEST:
            raise TooMuch(
                f"the catalogue {base} is deeper than {DEEPEST} levels, in circles perhaps, at "
                f"{href}",
                cure="give a catalogue further down",
            )
        below.append(_links(linked, href, query))


def _links(document: Any, base: str | None, query: Query) -> Iterator[tuple[str, str]]:
    """Yield relation and address of what a catalogue holds."""
    if not isinstance(document, Mapping):
        raise CatalogError(f"{base!r} is {show(document)}, not a STAC catalogue")
    links = _all_links(document)
    if document.get("type") == "Collection" and query.collections:
        nested = any(link.get("rel") == "child" for link in links)
        if document.get("id") not in query.collections and not nested:
            return
    for link in links:
        if link.get("rel") in ("item", "child"):
            href = link.get("href")
            if not isinstance(href, str):
                raise malformed(f"{_name(document)}: href of a link", href, "text")
            yield str(link["rel"]), _linked(href, base)


def _linked(href: str, base: str | None) -> str:
    """Address of a linked document; the web may not link files of this machine."""
    if not _is_web(base):
        return make_absolute(href, base)
    try:
        found = urljoin(str(base), href.strip())
    except ValueError as error:
        raise CatalogError(f"{base} links {show(href)}, which is no address: {error}") from None
    if not _is_web(found):
        raise CatalogError(
            f"{base} links {show(href)}, and a catalogue on the web may link the web only"
        )
    return found


def _walk_objects(catalog: Any) -> Iterator[Located]:
    """Yield the items below a pystac catalogue."""
    from pystac.errors import STACError

    is_web, below, seen = _is_web(catalog.get_self_href()), [iter([catalog])], set()
    try:
        while below:
            one = next(below[-1], None)
            if one is None:
                below.pop()
                continue
            if (one.get_self_href() or id(one)) in seen:
                continue
            seen.add(one.get_self_href() or id(one))
            if len(below) > DEEPEST + 1:
                raise TooMuch(
                    f"the catalogue {catalog.id!r} is deeper than {DEEPEST} levels, in circles "
                    f"perhaps, at {one.id!r}",
                    cure="give a catalogue further down",
                )
            for item in one.get_items():
                href = item.get_self_href()
                yield Located(item.to_dict(transform_hrefs=False), href, is_web or _is_web(href))
            below.append(iter(one.get_children()))
    except (STACError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, CatalogError):
            raise
        raise CatalogError(
            f"pystac cannot walk the catalogue {catalog.id!r}: {str(error)[:300]}",
            cure="give its path or address instead",
        ) from error


def _search(client: Any, query: Query) -> list[Located]:
    """Items of a STAC API, all pages."""
    properties = query.properties if client.conforms_to("QUERY") else {}
    url = str(client.get_self_href())

    def ask() -> Any:
        return client.search(
            collections=list(query.collections) or None,
            datetime=query.interval,
            bbox=query.bbox,
            query=dict(properties) or None,
        )

    found = _found(ask, url)
    return [located for located in found if fits_properties(located.item, query)]


def _found(ask: Callable[[], Any], url: str) -> Iterator[Located]:
    """Yield the items of a search; turn what its client raises into our errors."""
    from pystac.errors import STACError
    from pystac_client.exceptions import APIError

    pages = _Pages(url)
    try:
        for page in ask().pages_as_dicts():
            for item in as_list(page.get("features"), f"{url}: features"):
                check_item(item)
                yield Located(item, None, True)
            pages.count(page)
    except (APIError, STACError) as error:
        raise CatalogConnectionError(
            f"the STAC API at {url} did not answer the search: {str(error)[:300]}",
            cure="check the address and the network, or ask for less",
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
        if isinstance(error, CatalogError):
            raise
        raise CatalogError(
            f"the STAC API at {url} answers with what is no page of items: "
            f"{type(error).__name__} {str(error)[:200]}"
        ) from error


def _link(document: Any, rel: str) -> str | None:
    links = _all_links(document)
    return next((str(li["href"]) for li in links if li.get("rel") == rel and "href" in li), None)


def _all_links(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return as_objects(document.get("links"), f"{_name(document)}: links")


def _name(document: Mapping[str, Any]) -> str:
    return f"{document.get('type') or 'document'} {show(document.get('id'))}"


def _searches(document: Mapping[str, Any]) -> bool:
    uris = as_list(document.get("conformsTo"), f"{_name(document)}: conformsTo")
    return any(_ITEM_SEARCH in str(uri) for uri in uris)


def _is_web(href: str | None) -> bool:
    return href is not None and href.strip().lower().startswith(("http://", "https://"))


def _keep(items: Iterable[Located], query: Query) -> list[Located]:
    found = []
    for located in items:
        check_item(located.item)
        if matches(located.item, query):
            found.append(located)
    return found


def _is_a(value: Any, package: str, name: str) -> bool:
    """`isinstance` that does not load the package: without it, nothing can be of its classes."""
    module = sys.modules.get(package)
    return module is not None and isinstance(value, getattr(module, name))


def history_of_source(source: Source) -> str:
    """Return where items come from, for the history: what a reader may try again, no secrets."""
    if isinstance(source, str | os.PathLike):
        location = os.fspath(source)
        parts = urlparse(location)
        if parts.scheme not in ("http", "https"):
            return location
        # Neither credentials nor signatures are to stand in every file that is written.
        return parts._replace(
            netloc=parts.netloc.rpartition("@")[2], query="", fragment=""
        ).geturl()
    href = getattr(source, "get_self_href", lambda: None)()
    if isinstance(href, str):
        return history_of_source(href)
    return "items in memory"


def describe_source(source: Source) -> str:
    """Return a short name of a source for messages."""
    if isinstance(source, str | os.PathLike):
        return repr(os.fspath(source))
    if isinstance(source, Sequence):
        return f"{len(source)} items"
    return type(source).__name__
