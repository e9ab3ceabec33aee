"""Read and check the fields of STAC documents that make up a `Scene`.

GDAL takes far more than files and addresses: XML that describes a dataset, handlers that unpack,
join and decrypt other files, names of databases. A catalogue that somebody else wrote could have it
read any file of this machine as pixels. So only addresses of known kinds are handed to GDAL, and
only files of known drivers are read; both lists are arguments of `xharmonize.open_stac`.

JSON has no schema, and catalogues hold what their makers' scripts happened to write. Whoever uses a
field asks for it here, so that a value of another kind is one line with item, field and value.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from xharmonize.cube.contract import Step
from xharmonize.errors import CatalogError, show
from xharmonize.sensors.spec import Sensor
from xharmonize.types import Item

DRIVERS = ("GTiff", "COG", "JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID")
"""GDAL drivers that read assets: GeoTIFF and JPEG 2000, whose files hold their pixels."""

SCHEMES = ("https", "http", "s3", "gs", "az")
"""URL schemes that any catalogue may link; a local one may link files too."""

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
        """Refuse an address whose scheme is not allowed.

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
                raise _refusal(href, scheme, is_web, where, allowed)


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


def _refusal(
    href: str, scheme: str, is_web: bool, where: str, allowed: tuple[str, ...]
) -> CatalogError:
    shown = href if len(href) <= 120 else f"{href[:119]}…"
    cure = f"pass schemes={(*allowed, scheme)!r}"
    if scheme == LOCAL and is_web:
        return CatalogError(
            f"{where} links the local path {shown!r}, which a catalogue from the web may not",
            cure=f"where you wrote it into the item yourself, {cure}",
        )
    what = f"{where} links {shown!r}, of kind {scheme!r}: allowed are {', '.join(allowed)}"
    if scheme == INLINE:
        what = f"{where} has for href {shown!r}, which is no address of a file"
    return CatalogError(what, cure=f"if you trust the catalogue, {cure}")


def _names(argument: str, names: str | Sequence[str]) -> tuple[str, ...]:
    found = (names,) if isinstance(names, str) else tuple(names)
    if not found or not all(isinstance(name, str) and name for name in found):
        raise CatalogError(
            f"{argument}={names!r} names nothing", cure="leave it out for the usual ones"
        )
    return found


MAX_SIDE = 2**22
"""Maximum rows or columns of an asset (global at 10 m); larger shapes are errors."""


def name_of(item: Any) -> str:
    """Return how messages name an item."""
    found = item.get("id") if isinstance(item, Mapping) else None
    return f"item {show(found)}"


def malformed(where: str, value: object, wanted: str) -> CatalogError:
    """Return the error of a malformed field."""
    return CatalogError(
        f"{where} is {show(value)}", cure=f"it has to be {wanted}: correct the item"
    )


def as_mapping(value: object, where: str) -> Mapping[str, Any]:
    """Return an object; an absent one is empty."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise malformed(where, value, "an object")
    return value


def as_list(value: object, where: str) -> Sequence[Any]:
    """Return a list; an absent one is empty. GeoParquet brings arrays."""
    if value is None:
        return ()
    if type(value) is list:
        return value
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise malformed(where, value, "a list")
    return value


def as_objects(value: object, where: str) -> list[Mapping[str, Any]]:
    """Return a list of objects; entries that are null are left out."""
    found = [entry for entry in as_list(value, where) if entry is not None]
    for entry in found:
        if type(entry) is not dict and not isinstance(entry, Mapping):
            raise malformed(where, value, "a list of objects")
    return found


def as_number(value: object, where: str, *, wanted: str = "a number") -> float:
    """Return a finite number; text is converted."""
    found = _number(value)
    if found is None or not math.isfinite(found):
        raise malformed(where, value, wanted)
    return found


def as_whole(value: object, where: str, *, wanted: str = "a whole number") -> int:
    """Return a whole number; text is converted."""
    found = as_number(value, where, wanted=wanted)
    if found != int(found):
        raise malformed(where, value, wanted)
    return int(found)


def as_numbers(value: object, where: str, *, lengths: Sequence[int], wanted: str) -> list[float]:
    """Return a list of finite numbers of an allowed length."""
    listed = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(listed, list | tuple) or len(listed) not in lengths:
        raise malformed(where, value, wanted)
    found = [_number(entry) for entry in listed]
    if any(number is None or not math.isfinite(number) for number in found):
        raise malformed(where, value, wanted)
    return [float(number) for number in found if number is not None]


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str | np.number):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Pixel grid of an asset, as its metadata states it.

    Attributes
    ----------
    transform : tuple of 6 float
        ``(a, b, c, d, e, f)`` with x = a·column + b·row + c, y = d·column + e·row + f, at pixel
        corners, in the units of the CRS.
    shape : tuple of int
        Rows and columns.
    is_shared : bool
        Stated for the item as a whole: assets may divide the same area into other pixels.
    """

    transform: tuple[float, float, float, float, float, float]
    shape: tuple[int, int]
    is_shared: bool = False

    @property
    def corners(self) -> tuple[tuple[float, float], ...]:
        """Coordinates (x, y) of the four corners, the first row's before the last row's."""
        a, b, left, d, e, top = self.transform
        rows, columns = self.shape
        ends = ((0, 0), (0, columns), (rows, 0), (rows, columns))
        return tuple((left + a * c + b * r, top + d * c + e * r) for r, c in ends)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top of the box around the grid."""
        xs, ys = zip(*self.corners)
        return (min(xs), min(ys), max(xs), max(ys))


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A STAC item with settled radiometry and location; no pixel has been read.

    Attributes
    ----------
    id : str
        Item id.
    item : dict
        The item in the shape of STAC 1.0 (`xharmonize.io.stac.items.normalize_item`).
    datetime : numpy.datetime64
        Sensing time [ns, UTC].
    sensor : Sensor
        The product.
    step : Step
        Contract of the time step: scale, offset and nodata per spectral band found.
    assets : mapping of str to str
        Cube band name or name of a quality layer → asset key.
    crs : str
        ``EPSG:32631``, or WKT; empty where the item does not say.
    grids : mapping of str to Grid
        By the keys of `assets`, where the metadata tells.
    solar_day : datetime.date
        Date of the local mean solar time at the item's centre.
    datatake : str
        Names the pass: items of one datatake were seen within one overflight.
    datastrip : str
        Part of a granule that a ground station delivered in two; empty where there is one.
    tile : str
        MGRS tile, Landsat path and row, or ``"unknown"``.
    units : str
        Unit of DN * scale + offset: ``"1"``, ``"dB"``.
    center : tuple of float
        Longitude and latitude of the item's centre [degrees]; NaN where it does not say.
    dtypes : mapping of str to str
        Data type by the keys of `assets`, where the metadata tells.
    drivers : tuple of str
        GDAL drivers that may read the assets.
    """

    id: str
    item: Item
    datetime: np.datetime64
    sensor: Sensor
    step: Step
    assets: Mapping[str, str]
    crs: str
    grids: Mapping[str, Grid]
    solar_day: dt.date
    datatake: str
    tile: str
    datastrip: str = ""
    units: str = "1"
    center: tuple[float, float] = (float("nan"), float("nan"))
    dtypes: Mapping[str, str] = field(default_factory=dict)
    drivers: tuple[str, ...] = DRIVERS


_STATES_CRS = re.compile(
    r"^(?:\w+:)?(epsg|wkt2?|projjson)$|^proj(?:ection)?:(code)$", re.IGNORECASE
)
_LONGEST = 200  # characters of a code
_EPSG = re.compile(r"(?:.*\bEPSG(?::|/)(?:[\d.]*[:/])?)?(\d{4,6})(?:\.0)?", re.IGNORECASE)


def epsg_stated(fields: Mapping[str, Any]) -> int | None:
    """Return the EPSG code that fields give as a number, alone or after its authority's name.

    ``32631``, ``"EPSG:32631"``, ``"urn:ogc:def:crs:EPSG::32631"``; None for anything else.
    """
    for value in crs_fields(fields).values():
        found = _EPSG.fullmatch(str(value)) if _is_code(value) else None
        if found:
            return int(found[1])
    return None


def crs_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that state a CRS, those that are null left out."""
    return {
        key: value
        for key, value in fields.items()
        if value is not None and value != "" and _states_crs(key)
    }


@lru_cache(maxsize=4096)  # items of a collection have the same fields
def _states_crs(key: object) -> bool:
    return bool(_STATES_CRS.match(str(key)))


def crs_stated(fields: Mapping[str, Any], where: str) -> str:
    """Return the CRS that fields state: ``EPSG:32631`` where it has a code, else WKT.

    Raises
    ------
    CatalogError
        If what they state is no CRS, or two of them state different ones.
    """
    found: dict[str, str] = {}
    for key, value in crs_fields(fields).items():
        found[_read(value, f"{where}: {key}")] = f"{key} {show(value)}"
    if len(found) < 2:
        return next(iter(found), "")
    codes = [crs for crs in found if ":" in crs[:12]]
    if len(codes) > 1:
        named = " and ".join(found[crs] for crs in codes)
        raise CatalogError(f"{where} contradicts itself: {named}", cure="correct the item")
    return next(iter(codes or found), "")


def grid_stated(fields: Mapping[str, Any], where: str) -> Grid | None:
    """Return the pixel grid of ``proj:transform`` and ``proj:shape``; None where one is absent.

    Raises
    ------
    CatalogError
        If they are no transform and no shape, or the shape is beyond any file's.
    """
    transform, shape = fields.get("proj:transform"), fields.get("proj:shape")
    if transform is None or shape is None:
        return None
    a, b, c, d, e, f = as_numbers(
        transform, f"{where}: proj:transform", lengths=(6, 9), wanted="six numbers"
    )[:6]
    if a * e - b * d == 0 or max(map(abs, (a, b, c, d, e, f))) > 1e12:
        raise malformed(f"{where}: proj:transform", transform, "that of pixels with an area")
    wanted = f"rows and columns, whole numbers from 1 to {MAX_SIDE:,}"
    sides = as_numbers(shape, f"{where}: proj:shape", lengths=(2,), wanted=wanted)
    if not all(1 <= side <= MAX_SIDE and side == int(side) for side in sides):
        raise malformed(f"{where}: proj:shape", shape, wanted)
    return Grid(transform=(a, b, c, d, e, f), shape=(int(sides[0]), int(sides[1])))


def _is_code(value: Any) -> bool:
    is_short = not isinstance(value, str) or len(value) < _LONGEST
    return isinstance(value, int | float | str) and not isinstance(value, bool) and is_short


def _read(value: Any, where: str) -> str:
    """The CRS of one field."""
    code = _EPSG.fullmatch(str(value)) if _is_code(value) else None
    if not code and not isinstance(value, str | Mapping):
        raise malformed(where, value, "a CRS, such as 'EPSG:32631'")
    try:
        return _canonical(f"EPSG:{code[1]}" if code else _text(value))
    except ValueError:
        raise malformed(where, value, "a CRS, such as 'EPSG:32631'") from None


def _text(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)


@lru_cache(maxsize=1024)  # thousands of items state a few CRSs
def _canonical(text: str) -> str:
    """Canonical spelling of a CRS; raises ValueError if it is not one."""
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        crs = CRS.from_user_input(text)
    except CRSError as error:
        raise ValueError(str(error)) from None
    authority = crs.to_authority(min_confidence=100)
    return ":".join(authority) if authority else str(crs.to_wkt())
