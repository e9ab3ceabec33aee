"""What an asset's address may be, and which of GDAL's drivers may read it.

GDAL takes far more than files and addresses: XML that describes a dataset, handlers that unpack,
join and decrypt other files, names of databases. A catalogue that somebody else wrote could have it
read any file of this machine as pixels. So only addresses of known kinds are handed to GDAL, and
only files of known drivers are read; both lists are arguments of `xharmonize.open_stac`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from xharmonize.errors import CatalogError

DRIVERS = ("GTiff", "COG", "JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID")
"""GDAL drivers that read assets: GeoTIFF and JPEG 2000, whose files hold their pixels."""

SCHEMES = ("https", "http", "s3", "gs", "az")
"""Kinds of addresses that any catalogue may link; one on this machine may link files too."""

LOCAL, INLINE = "file", "inline"
_SCHEME = re.compile(r"([A-Za-z][\w+.\-]*):")
_CHAIN = re.compile(r"/(vsi\w+)|([A-Za-z][\w+.\-]*):/", re.IGNORECASE)
_NETWORK = {*SCHEMES, "ftp", "vsicurl", "vsicurl_streaming"} | {
    f"vsi{store}{way}"
    for store in ("s3", "gs", "az", "adls", "oss", "swift", "hdfs", "webhdfs")
    for way in ("", "_streaming")
}
_NO_PATH = re.compile(r"[<>{}\x00-\x1f\x7f]")


@dataclass(frozen=True, kw_only=True)
class Access:
    """What may be read.

    Attributes
    ----------
    drivers : tuple of str
        Names of GDAL drivers.
    schemes : tuple of str or None
        Kinds of addresses, as `schemes_of` names them; None for the usual ones.
    """

    drivers: tuple[str, ...] = DRIVERS
    schemes: tuple[str, ...] | None = None

    def check(self, href: str, *, is_web: bool, where: str) -> None:
        """Refuse an address that is of no allowed kind.

        Parameters
        ----------
        href : str
            As it would be handed to GDAL.
        is_web : bool
            Whether the item came from the web; it may not link files of this machine then.
        where : str
            Item and asset, for messages.

        Raises
        ------
        CatalogError
        """
        allowed = self.schemes if self.schemes is not None else _usual(is_web)
        for scheme in schemes_of(href):
            if scheme not in allowed:
                raise CatalogError(_refusal(href, scheme, is_web, where, allowed))


def make_access(
    drivers: str | Sequence[str] | None = None, schemes: str | Sequence[str] | None = None
) -> Access:
    """Check what the user allows; None stands for `DRIVERS` and for `SCHEMES`."""
    return Access(
        drivers=DRIVERS if drivers is None else _names("drivers", drivers),
        schemes=None if schemes is None else tuple(map(str.lower, _names("schemes", schemes))),
    )


def schemes_of(href: str) -> tuple[str, ...]:
    """Return the kinds of address that an href has GDAL open, outermost first.

    ``https`` and the like; ``file`` for a path; the names of GDAL's handlers, all those of a chain
    (``vsizip``, ``vsicurl``); ``inline`` for what is no address but a document of its own.

    Examples
    --------
    >>> schemes_of("https://host/B04.tif"), schemes_of("/data/B04.tif")
    (('https',), ('file',))
    >>> schemes_of("/vsizip//vsicurl/https://host/a.zip/B04.tif")
    ('vsizip', 'vsicurl', 'https')
    >>> schemes_of("/vsizip//data/a.zip/B04.tif")
    ('vsizip', 'file')
    """
    outer = _SCHEME.match(href)
    if outer and re.match(r"https?://", href, re.IGNORECASE):
        return (outer[1].lower(),)  # the rest is the server's
    if _NO_PATH.search(href):
        return (INLINE,)
    if not outer and not href.lower().startswith("/vsi"):
        return (LOCAL,)
    named = [outer[1]] if outer else []
    chain = [found[1] or found[2] for found in _CHAIN.finditer(href)]
    names = list(dict.fromkeys(name.lower() for name in [*named, *chain]))
    is_local = not _NETWORK & set(names) and not re.match(r"[\w+.\-]+://", href)
    return (*names, LOCAL) if is_local and LOCAL not in names else tuple(names)


def is_remote(href: str) -> bool:
    """Tell whether GDAL would ask a server for an href."""
    return bool(_NETWORK & set(schemes_of(href)))


def _usual(is_web: bool) -> tuple[str, ...]:
    return SCHEMES if is_web else (*SCHEMES, LOCAL)


def _refusal(href: str, scheme: str, is_web: bool, where: str, allowed: tuple[str, ...]) -> str:
    shown = href if len(href) <= 120 else f"{href[:119]}…"
    cure = f"if you trust the catalogue, pass schemes={(*allowed, scheme)!r}"
    if scheme == LOCAL and is_web:
        return (
            f"{where} links the local path {shown!r}, which a catalogue from the web may not; "
            f"where you wrote it into the item yourself, pass schemes={(*allowed, scheme)!r}"
        )
    if scheme == INLINE:
        return f"{where} has for href {shown!r}, which is no address of a file; {cure}"
    return f"{where} links {shown!r}, of kind {scheme!r}; allowed are {', '.join(allowed)}: {cure}"


def _names(argument: str, names: str | Sequence[str]) -> tuple[str, ...]:
    found = (names,) if isinstance(names, str) else tuple(names)
    if not found or not all(isinstance(name, str) and name for name in found):
        raise CatalogError(f"{argument}={names!r} names nothing; leave it out for the usual ones")
    return found
