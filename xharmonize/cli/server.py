"""A temporary STAC API on the loopback interface that serves items from memory.

Made on stac-fastapi and cql2 for the demo and for tests. Search, paging, ``query``, CQL2 and
``sortby`` work with pystac-client. It listens on 127.0.0.1 only.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xharmonize._optional import require
from xharmonize.errors import CatalogConnectionError, CatalogError
from xharmonize.types import Item

if TYPE_CHECKING:
    from fastapi import FastAPI

HOST = "127.0.0.1"


@contextmanager
def serve(
    items: Sequence[Mapping[str, Any]],
    collections: Sequence[Mapping[str, Any]] = (),
    *,
    port: int = 0,
    timeout: float = 30.0,
) -> Iterator[str]:
    """Serve items as a STAC API for the duration of a ``with`` block.

    Parameters
    ----------
    items : sequence of mapping
        STAC items with absolute asset hrefs.
    collections : sequence of mapping, optional
        STAC collections. Minimal ones are added for collections that only the items name.
    port : int
        TCP port; 0 picks a free one.
    timeout : float
        How long to wait for the server to start [s].

    Yields
    ------
    str
        URL of the landing page.

    Raises
    ------
    CatalogConnectionError
        If the port is taken or the server does not start in time.
    MissingDependencyError
        If the ``demo`` extra is not installed.
    """
    uvicorn = require("uvicorn", extra="demo")
    app = build_app(items, collections)
    listener = _listen(port)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    # A daemon thread cannot keep the process alive, even if the block never exits.
    thread = threading.Thread(target=server.run, args=([listener],), name="stac-api", daemon=True)
    thread.start()
    try:
        _wait_until(lambda: bool(server.started), thread, timeout)
        yield f"http://{HOST}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout)
        listener.close()


def build_app(
    items: Sequence[Mapping[str, Any]], collections: Sequence[Mapping[str, Any]] = ()
) -> FastAPI:
    """Return the STAC API as an ASGI application; see `serve`."""
    # stac-fastapi warns on import about its default title, which ours replaces.
    logging.getLogger("stac_fastapi.types.config").setLevel(logging.ERROR)
    for module in ("stac_fastapi.api", "stac_fastapi.extensions", "cql2"):
        require(module, extra="demo")
    from xharmonize.cli.api import make_app

    copies = [dict(item) for item in items]
    return make_app(copies, _complete([dict(c) for c in collections], copies))


def read_catalog(path: str | Path) -> tuple[list[Item], list[dict[str, Any]]]:
    """Read the items, with absolute asset hrefs, and the collections of a static catalogue.

    The files are read unchanged: pystac would rename fields such as ``proj:epsg``.

    Parameters
    ----------
    path : str or Path
        A ``catalog.json`` or ``collection.json``.

    Raises
    ------
    CatalogError
        If a file is missing or is not JSON.
    """
    items: list[Item] = []
    collections: list[dict[str, Any]] = []
    pending = [Path(path)]
    while pending:
        here = pending.pop(0)
        document = _read_json(here)
        if document.get("type") == "Feature":
            items.append(_with_absolute_assets(document, here.parent))
            continue
        if document.get("type") == "Collection":
            collections.append(document)
        hrefs = [k["href"] for k in document.get("links", []) if k["rel"] in ("child", "item")]
        pending.extend(here.parent / href for href in hrefs)
    return items, collections


def _read_json(path: Path) -> dict[str, Any]:
    import json

    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CatalogError(
            f"cannot read {path}: {error.strerror}", cure="check the path"
        ) from error
    except json.JSONDecodeError as error:
        raise CatalogError(f"{path} is not JSON ({error})", cure="give a STAC catalogue") from error
    return document


def _with_absolute_assets(item: Item, folder: Path) -> Item:
    assets = {
        key: asset if "://" in asset["href"] else {**asset, "href": _absolute(folder, asset)}
        for key, asset in item.get("assets", {}).items()
    }
    return {**item, "assets": assets}


def _absolute(folder: Path, asset: Mapping[str, Any]) -> str:
    return str((folder / asset["href"]).resolve())


def _complete(collections: list[dict[str, Any]], items: Sequence[Item]) -> list[dict[str, Any]]:
    """Add a minimal collection for each one that items name but the caller did not give."""
    known = {collection["id"] for collection in collections}
    named = sorted({item["collection"] for item in items if item.get("collection")} - known)
    return collections + [
        {
            "type": "Collection",
            "stac_version": "1.0.0",
            "id": name,
            "description": name,
            "license": "other",
            "extent": {
                "spatial": {"bbox": [[-180, -90, 180, 90]]},
                "temporal": {"interval": [[None, None]]},
            },
            "links": [],
        }
        for name in named
    ]


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise CatalogConnectionError(
            f"cannot listen on {HOST}:{port} ({error.strerror})", cure="use port=0 for a free port"
        ) from error
    return listener


def _wait_until(is_ready: Any, thread: threading.Thread, timeout: float) -> None:
    end = time.monotonic() + timeout
    while not is_ready():
        if not thread.is_alive() or time.monotonic() > end:
            raise CatalogConnectionError(
                f"the loopback STAC API did not start within {timeout:g} s",
                cure="run again with a larger timeout",
            )
        time.sleep(0.01)
