"""Opens files with GDAL's allowed drivers only, and finds those that would have it open others.

A virtual raster, or a handler of GDAL, names other files, and GDAL reads them as if they were its
own pixels. A driver that is not allowed never opens a file here. Files of allowed drivers have two
ways left to lead elsewhere: overviews or masks in a file beside them, and a tag that names a file
of overviews anywhere. Both are closed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from xharmonize.cube.catalog.access import is_remote

_BESIDE = (".ovr", ".msk")
_PATIENCE = {  # a server that sends less than 100 byte/s for a minute is given up
    "GDAL_HTTP_CONNECTTIMEOUT": "30",
    "GDAL_HTTP_LOW_SPEED_TIME": "60",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "100",
}


@contextmanager
def guarded(href: str, drivers: tuple[str, ...]) -> Iterator[None]:
    """Read within a file of an allowed driver that holds its own pixels, and in bounded time.

    Raises
    ------
    RuntimeError, RasterioError
        Before anything is read, if the file is no such one.
    """
    import rasterio

    if not is_remote(href):
        _require_allowed(href, drivers)
        yield
        return
    known = rasterio.env.getenv() if rasterio.env.hasenv() else {}
    patience = {k: v for k, v in _PATIENCE.items() if k not in known and k not in os.environ}
    # Files beside a remote one are not looked for: they may be virtual, and cost requests.
    with rasterio.Env(**patience, GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        _require_allowed(href, drivers)
        yield


def open_allowed(href: str, drivers: tuple[str, ...]) -> Any:
    """Return an open rasterio dataset; raise RasterioError where no allowed driver reads it."""
    import rasterio

    # rasterio.open takes one driver; the class it makes takes several.
    return rasterio.DatasetReader(href, driver=list(drivers), sharing=False)


def _require_allowed(href: str, drivers: tuple[str, ...]) -> None:
    if _is_known(href, drivers, _changed(href)):
        return
    raise RuntimeError(
        "its overviews or its mask are of another file, which is not read; write it with its own"
    )


@lru_cache(maxsize=4096)  # an asset is read chunk by chunk
def _is_known(href: str, drivers: tuple[str, ...], changed: int) -> bool:  # noqa: ARG001
    """Tell whether a file of an allowed driver holds its own pixels; raise if of none."""
    import rasterio
    from rasterio.errors import RasterioIOError

    # Whatever options the readers use: what lies beside a file of this machine is looked at.
    beside_is_seen = "EMPTY_DIR" if is_remote(href) else "FALSE"
    try:
        with (
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN=beside_is_seen),
            open_allowed(href, drivers) as file,
        ):
            if file.tags(ns="OVERVIEWS").get("OVERVIEW_FILE"):
                return False
            beside = [] if is_remote(href) else _beside(file)
    except RasterioIOError as error:
        raise RuntimeError(
            f"{error} (assets are read by GDAL's {', '.join(drivers)}; drivers= of open_stac "
            "allows others)"
        ) from None
    return all(_is_known(path, drivers, _changed(path)) for path in beside)


def _beside(file: Any) -> list[str]:
    """Overviews and masks in files of their own."""
    for band in range(1, file.count + 1):
        file.overviews(band)  # they are looked for only when asked for
    len(file.mask_flag_enums)
    return [path for path in file.files if path.lower().endswith(_BESIDE) and path != file.name]


def _changed(href: str) -> int:
    """Time of the last change of a file of this machine; 0 of what is none."""
    try:
        return os.stat(href).st_mtime_ns
    except (OSError, ValueError):
        return 0
