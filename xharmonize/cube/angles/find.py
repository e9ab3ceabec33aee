"""Which items or files the angles of a cube's time steps are in."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import urlparse

import numpy as np
import xarray as xr

from xharmonize.cube.angles.rasters import Band
from xharmonize.cube.angles.refs import GranuleRef, RasterRef, Whose
from xharmonize.cube.catalog.access import make_access
from xharmonize.cube.catalog.angles import ANGLES
from xharmonize.cube.catalog.items import Item
from xharmonize.cube.catalog.query import make_query
from xharmonize.cube.catalog.read import normalized
from xharmonize.cube.catalog.sources import Source, load_items
from xharmonize.cube.contract import read_coordinate
from xharmonize.cube.geobox import geobox_of
from xharmonize.errors import GridError, RadiometryError, TimeAxisError
from xharmonize.sensors import Names
from xharmonize.sensors.spec import UNKNOWN

AnglesSource: TypeAlias = "Source | str | os.PathLike[str] | Sequence[Any] | Mapping[str, Any]"
"""Items as `open_stac` takes them; a file, a sequence of files by date, or files by item id."""

Ref: TypeAlias = GranuleRef | RasterRef

_BAND_KEYS = {
    "sun_zenith": ("sza", "solar_zenith", "sun_zenith", "oa_solar_zenith"),
    "sun_azimuth": ("saa", "solar_azimuth", "sun_azimuth", "oa_solar_azimuth"),
    "view_zenith": ("vza", "sensor_zenith", "view_zenith", "oa_satellite_view"),
    "view_azimuth": ("vaa", "sensor_azimuth", "view_azimuth", "oa_satellite_azimuth"),
}
"""Keys of angle bands, in lower case, without ``_angle`` and ``.tif``."""

_GRANULE_KEYS = ("granule_metadata", "mtd_tl", "metadata")
_GRANULE_FILE = re.compile(r"(?:^|[/_])(?:MTD_TL|(?<!product_)metadata)\.xml(?:\.gz)?$", re.I)
_XML = re.compile(r"\.xml(?:\.gz)?$", re.I)
_LANDSAT = re.compile(r"^(L[COTE]0\d)_L\w+?_(\d{6})_(\d{8})_")
_LEVEL = re.compile(r"_L(?:1C|2A)$")


def find_refs(
    source: AnglesSource,
    like: xr.DataArray | xr.Dataset,
    *,
    collection: str | Sequence[str] | None,
    modifier: Callable[[Any], Any] | None,
) -> list[tuple[Ref, ...]]:
    """Return what the angles of each time step are read from.

    Raises
    ------
    RadiometryError
        If an item has no angles.
    TimeAxisError
        If a time step has no item or file.
    """
    steps = list(_steps(like))
    files = _files(source)
    if files is not None:
        return _of_files(files, steps)
    query = make_query(collection=collection, datetime=_interval(like), bbox=_box(source, like))
    items, is_web = {}, {}
    for item, web in normalized(load_items(source, query), modifier):
        items[item["id"]], is_web[item["id"]] = item, web
    similar = {_scene_of(name): item for name, item in items.items()}
    found, lost = [], []
    for step in steps:
        own = [items.get(w.item_id) or similar.get(_scene_of(w.item_id)) for w in step]
        lost += [w.item_id for w, item in zip(step, own) if item is None]
        there = [(w, item) for w, item in zip(step, own) if item is not None]
        found.append(tuple(_ref_of(w, item) for w, item in there))
        for (_, item), ref in zip(there, found[-1]):
            _require_access(ref, is_web[item["id"]])
    if lost:
        raise TimeAxisError(
            f"the source has no item for {len(lost)} of the cube's, the first {lost[0]!r}; near "
            f"these days it has {list(items)[:3]}: pass the items that the cube was opened from, "
            "or files by item "
            "id, {'" + lost[0] + "': 'MTD_TL.xml'}"
        )
    return found


def _require_access(ref: Ref, is_web: Mapping[str, bool]) -> None:
    """Raise `CatalogError` if a catalogue links what it may not, as for any other asset."""
    named = {ref.asset: ref.href} if isinstance(ref, GranuleRef) else {}
    bands = {} if isinstance(ref, GranuleRef) else {k: b.href for k, b in ref.bands.values()}
    for key, href in (named | bands).items():
        where = f"asset {key!r} of item {ref.whose.item_id!r}"
        make_access().check(href, is_web=is_web[key], where=where)


def _steps(like: xr.DataArray | xr.Dataset) -> Iterator[list[Whose]]:
    """The items of each time step; one that was merged of a pass names several."""
    for name in ("sensor", "platform"):
        known = read_coordinate(like, name) if name in like.coords else ()
        merged = [Names.of(value) for value in known if len(Names.of(value)) > 1]
        if merged:
            raise TimeAxisError(
                f"a date was merged of {name}s {merged[0]}, each of which has angles of its own; "
                "read the angles of the cubes before they are merged"
            )
    ids, times = read_coordinate(like, "item_id"), like["time"].values
    tiles = read_coordinate(like, "tile") if "tile" in like.coords else [UNKNOWN] * len(ids)
    for names, tile, time in zip(ids, tiles, times.astype("datetime64[ns]")):
        yield [Whose(item_id=n, tile=str(tile), time=time) for n in sorted(Names.of(names))]


def _files(source: Any) -> Mapping[str, Any] | Sequence[Any] | None:
    """Files by item id or date; None where the source holds items."""
    if _is_file(source):
        return [source]
    if isinstance(source, Mapping):
        named = not {"assets", "features", "links"} & set(source)
        return source if named and source and all(map(_is_file, source.values())) else None
    if isinstance(source, Sequence) and not isinstance(source, str) and source:
        return source if all(map(_is_file, source)) else None
    return None


def _is_file(entry: Any) -> bool:
    """Tell whether an entry is granule metadata, or a mapping of angle bands."""
    if isinstance(entry, str | os.PathLike):
        return bool(_XML.search(urlparse(os.fspath(entry)).path))
    return isinstance(entry, Mapping) and any(_angle_of(str(key)) for key in entry)


def _of_files(
    files: Mapping[str, Any] | Sequence[Any], steps: Sequence[list[Whose]]
) -> list[tuple[Ref, ...]]:
    if isinstance(files, Mapping):
        lost = [w.item_id for step in steps for w in step if w.item_id not in files]
        if lost:
            raise TimeAxisError(
                f"there is no file for {len(lost)} items, the first {lost[0]!r}; the files are of "
                f"{list(files)[:3]}"
            )
        return [tuple(_ref_of_file(w, files[w.item_id]) for w in step) for step in steps]
    if len(files) != len(steps):
        raise TimeAxisError(
            f"there are {len(files)} files for {len(steps)} dates; give one per date, in their "
            "order, or a mapping of item id to file"
        )
    return [(_ref_of_file(step[0], file),) for step, file in zip(steps, files)]


def _ref_of_file(whose: Whose, file: Any) -> Ref:
    if isinstance(file, Mapping):
        assets = {str(key): {"href": os.fspath(href)} for key, href in file.items()}
        return _ref_of(whose, {"id": whose.item_id, "assets": assets, "properties": {}})
    return GranuleRef(whose=whose, asset="granule_metadata", href=os.fspath(file))


def _ref_of(whose: Whose, item: Item) -> Ref:
    """What to read of an item: angle bands, else granule metadata."""
    assets = item["assets"]
    bands = {angle: key for key in assets if (angle := _angle_of(key)) is not None}
    if set(bands) == set(ANGLES):
        return RasterRef(whose=whose, bands={n: (k, _band(assets[k])) for n, k in bands.items()})
    granule = _granule_of(assets)
    if granule is not None:
        return GranuleRef(whose=whose, asset=granule, href=assets[granule]["href"])
    missing = [_BAND_KEYS[name][0].upper() for name in ANGLES if name not in bands]
    what = f"lacks the angle bands {missing}" if bands else "has no angles"
    raise RadiometryError(
        f"item {item['id']!r} {what}: its assets are {sorted(assets)}, looked for "
        "granule_metadata, or SZA, SAA, VZA and VAA (Landsat has them in its Level-1 items); pass "
        "items that have them, or files by item id"
    )


def _angle_of(key: str) -> str | None:
    bare = re.sub(r"\.tiff?$", "", key.lower().replace("-", "_").replace(":", "_"))
    bare = bare.removesuffix("_angle")
    return next((name for name, keys in _BAND_KEYS.items() if bare in keys), None)


def _granule_of(assets: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Key of the granule metadata: by its file's name, else by its own."""
    paths = {key: urlparse(str(asset["href"])).path for key, asset in assets.items()}
    found = [key for key, path in paths.items() if _GRANULE_FILE.search(path)]
    named = [
        key
        for wanted in _GRANULE_KEYS
        for key, path in paths.items()
        if key.lower().replace("-", "_").removesuffix(".xml") == wanted and _XML.search(path)
    ]
    return next(iter([*named, *found]), None)


def _band(asset: Mapping[str, Any]) -> Band:
    stated = (asset.get("raster:bands") or [{}])[0]
    scale, offset, nodata = (
        None if stated.get(key) in (None, "nan") else float(stated[key])
        for key in ("scale", "offset", "nodata")
    )
    return Band(href=str(asset["href"]), scale=scale, offset=offset, nodata=nodata)


def _scene_of(item_id: str) -> str:
    """What items of one scene share, whatever their level of processing."""
    match = _LANDSAT.match(item_id)
    return "_".join(match.groups()) if match else _LEVEL.sub("", item_id)


def _interval(like: xr.DataArray | xr.Dataset) -> tuple[np.datetime64, np.datetime64]:
    days = like["time"].values.astype("datetime64[s]")
    margin = np.timedelta64(86_400, "s")  # a cube may know the day only
    return days.min() - margin, days.max() + margin


def _box(source: Any, like: xr.DataArray | xr.Dataset) -> Sequence[float] | None:
    """Box [degrees] in which a server is asked for items; other sources are read whole anyway."""
    if isinstance(source, str | os.PathLike):
        if urlparse(os.fspath(source)).scheme not in ("http", "https"):
            return None
    elif not hasattr(source, "search"):
        return None
    box = geobox_of(like).extent.to_crs("EPSG:4326").boundingbox
    if not (-180 <= box.left < box.right <= 180):
        raise GridError(f"the cube spans longitudes {box.left:g} to {box.right:g}; pass items")
    return tuple(box)
