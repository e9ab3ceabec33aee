"""Read XML from anywhere, of bounded size and without entities.

Expat expands entities that a document declares itself, so a few lines can become gigabytes, or
another file. A document type is where they are declared, and no product metadata has one.
"""

from __future__ import annotations

import gzip
import io
import time
import zlib
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import URLError
from urllib.parse import unquote, urlparse
from urllib.request import urlopen
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

MAX_BYTES = 32 * 2**20
"""Largest document read [byte]; Sentinel-2's granule metadata have 0.6 MB."""

MAX_DEPTH = 64
LONGEST = 300.0  # [s] for one document
_TIMEOUT = 60  # [s] without a byte
_GZIP = b"\x1f\x8b"


def read_bytes(href: str) -> bytes:
    """Return a document by path or address, unpacked where it is gzip.

    Raises
    ------
    OSError, ValueError
        If it cannot be read within `LONGEST`, or is larger than `MAX_BYTES`, packed or unpacked.
    """
    try:
        with _open(href) as file:
            content = _bounded(file)
    except HTTPException as error:
        raise OSError(f"the server broke off ({error!r})") from None
    if content[:2] != _GZIP:
        return content
    try:
        with gzip.open(io.BytesIO(content)) as unpacked:
            return _bounded(unpacked)
    except (EOFError, zlib.error) as error:
        raise ValueError(f"its gzip is damaged ({error})") from None


def _open(href: str) -> Any:
    scheme = urlparse(href).scheme.lower()
    if scheme in ("http", "https"):
        try:
            return urlopen(href, timeout=_TIMEOUT)
        except URLError as error:  # and HTTPError, which does not survive pickling
            raise OSError(str(error)) from None
    if scheme == "file":
        return open(unquote(urlparse(href).path), "rb")
    if "://" not in href:
        return open(href, "rb")
    import fsspec

    try:
        return fsspec.open(href, "rb").open()
    except ImportError as error:
        raise OSError(f"{error}; or give items whose hrefs begin with https://") from None


def _bounded(file: Any) -> bytes:
    # As it comes, so that a server that drips is noticed.
    read = getattr(file, "read1", file.read)
    content, end = bytearray(), time.monotonic() + LONGEST
    while part := read(2**20):
        content += part
        if len(content) > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES // 2**20} MiB")
        if time.monotonic() > end:
            raise OSError(f"it takes longer than {LONGEST:g} s to come")
    return bytes(content)


def parse(content: bytes) -> Element:
    """Return the root element of an XML document.

    Names keep their prefix (``n1:Geometric_Info``).

    Raises
    ------
    ValueError
        If it is not well-formed or not whole, declares a document type, or nests too deeply.
    """
    builder = TreeBuilder()
    depth = 0

    def start(name: str, attributes: Mapping[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"its elements are nested more than {MAX_DEPTH} deep")
        builder.start(name, dict(attributes))

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    def refuse(*_: Any) -> None:
        raise ValueError("it declares a document type, where entities may hide")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, LookupError) as error:  # LookupError: an encoding nobody knows
        raise ValueError(f"it is no whole XML document ({error})") from None
    return builder.close()
