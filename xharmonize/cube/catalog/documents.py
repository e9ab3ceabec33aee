"""JSON documents from files and servers, read within bounds of size, depth and time.

A server decides how much it sends, how slowly, and how many pages follow; a reader that trusts it
waits for ever. The bounds are far above what catalogues need, and each is named where it is met.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from http.client import HTTPException
from threading import Thread
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from xharmonize._optional import require
from xharmonize.errors import CatalogConnectionError, CatalogError

T = TypeVar("T")

TIMEOUT = 60.0
"""Longest silence of a server, and longest time for one document [s]."""

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
    """A source gives more than the bounds allow."""


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
        If the server cannot be reached, refuses, or takes longer than `TIMEOUT`.
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
    with urlopen(request, timeout=TIMEOUT) as response:
        return read_within(response.read1, url)


def in_time(ask: Callable[[], T]) -> T:
    """Return what a question to a server gives; raise `TimeoutError` after `TIMEOUT`.

    Timeouts of sockets count from one byte to the next, so a server that drips never meets them.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:
            answer.set_exception(error)

    Thread(target=run, daemon=True).start()
    try:
        return answer.result(TIMEOUT)
    except FutureTimeout:
        raise TimeoutError(f"no whole answer within {TIMEOUT:g} s") from None


def read_within(read: Callable[[int], bytes], url: str) -> bytes:
    """Return all that a server sends, if it is not too much and does not take too long.

    Parameters
    ----------
    read : callable
        Gives up to so many bytes, those that are there; none at the end.
    """
    parts: list[bytes] = []
    size, end = 0, time.monotonic() + TIMEOUT
    while part := read(_PIECE):
        parts.append(part)
        size += len(part)
        if size > LARGEST:
            raise TooMuch(f"{url} sends more than {LARGEST:,} bytes; ask for less, page by page")
        if time.monotonic() > end:
            raise TimeoutError(f"its document takes longer than {TIMEOUT:g} s")
    return b"".join(parts)


def parse(data: bytes, where: str) -> Any:
    """Return the value that JSON holds; raise `CatalogError` where it is none."""
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
        """Reads a whole answer, or none."""

        def send(self, request: Any, **options: Any) -> Any:
            return in_time(lambda: self._send(request, **{**options, "stream": True}))

        def _send(self, request: Any, **options: Any) -> Any:
            response = super().send(request, **options)
            response.raw.decode_content = True
            read = getattr(response.raw, "read1", response.raw.read)
            response._content = read_within(read, str(request.url))
            return response

    made = BoundedIO(timeout=TIMEOUT)
    made.session = BoundedSession()
    return made


def unreachable(url: str, error: Exception) -> CatalogConnectionError:
    """Return the error of a server that cannot be reached."""
    return CatalogConnectionError(
        f"the STAC source {url} cannot be reached ({error}); check the address and the network, "
        "or open it yourself with pystac_client.Client.open(...) where it needs credentials"
    )
