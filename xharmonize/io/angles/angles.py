"""`read_angles`: read sun and view angles for the pixels of a cube, lazily.

items or paths → what belongs to each time step → references → graph
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlparse

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from xharmonize.cube.blockwise import array_of, map_blocks, task
from xharmonize.cube.contract import read_coordinate
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import geobox_of, write_grid
from xharmonize.errors import (
    BandError,
    ContractError,
    GridError,
    RadiometryError,
    TimeAxisError,
)
from xharmonize.io.angles.products import (
    BANDS,
    Band,
)
from xharmonize.io.angles.references import (
    AnglesSource,
    Area,
    GranuleRef,
    RasterRef,
    Ref,
    Whose,
    angles_block,
    open_step,
)
from xharmonize.io.stac.fields import make_access
from xharmonize.io.stac.query import make_query
from xharmonize.io.stac.scenes import normalized
from xharmonize.io.stac.settle import ANGLES, ATTRIBUTES
from xharmonize.io.stac.sources import load_items
from xharmonize.sensors import Names, get_sensor
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.types import Item

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
    """Find the source of the angles of each time step.

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
            f"these days it has {list(items)[:3]}",
            cure="pass the items that the cube was opened from, or files by item id, "
            f"{{{lost[0]!r}: 'MTD_TL.xml'}}",
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
                f"a date was merged of {name}s {merged[0]}, each of which has angles of its own",
                cure="read the angles of the cubes before they are merged",
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
                f"there is no file for {len(lost)} items, the first {lost[0]!r}",
                cure=f"the files are of {list(files)[:3]}",
            )
        return [tuple(_ref_of_file(w, files[w.item_id]) for w in step) for step in steps]
    if len(files) != len(steps):
        raise TimeAxisError(
            f"there are {len(files)} files for {len(steps)} dates",
            cure="give one per date, in their order, or a mapping of item id to file",
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
        f"{what}: its assets are {sorted(assets)}, looked for "
        "granule_metadata, or SZA, SAA, VZA and VAA (Landsat has them in its Level-1 items)",
        cure="pass items that have them, or files by item id",
        item=item["id"],
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
        raise GridError(
            f"the cube spans longitudes {box.left:g} to {box.right:g}", cure="pass items"
        )
    return tuple(box)


_SIDE = 2048  # pixels a side of a chunk where the cube has none


def read_angles(
    source: AnglesSource,
    *,
    like: xr.DataArray | xr.Dataset,
    per_band: bool = False,
    collection: str | Sequence[str] | None = None,
    modifier: Callable[[Any], Any] | None = None,
) -> xr.Dataset:
    """Read sun and view angles per pixel, for `xharmonize.nbar`; lazy.

    For Sentinel-2, they come from the granule metadata (``MTD_TL.xml``): 5 km grids, with view
    angles per band and detector. For Landsat and HLS, they come from the angle bands (``SZA``,
    ``SAA``, ``VZA``, ``VAA``). Directions are averaged and interpolated bilinearly as unit
    vectors, to the location of each pixel.

    Parameters
    ----------
    source : items, path, sequence or mapping
        Any source that `xharmonize.open_stac` accepts, with items whose assets include angles;
        they are matched by the cube's ``item_id``. Landsat's angle bands belong to Level-1 items,
        which are matched to Level-2 cubes by platform, path, row and day. Or files: the path or
        URL of granule metadata (``.xml``, optionally gzipped), or a mapping ``{"SZA": path,
        "SAA": …}``; a sequence of these, one per date of the cube; or a mapping from item id to
        these.
    like : (time, …, y, x) DataArray or Dataset
        Cube that defines dates, items, bands, grid and chunks.
    per_band : bool
        Whether to return view angles as (time, band, y, x): views of Sentinel-2's bands differ
        from their mean by up to 1.4 degrees. False returns the mean direction of the cube's bands.
    collection : str or sequence of str, optional
        Collection ids to keep; required to search a STAC API.
    modifier : callable, optional
        Function that signs items, such as ``planetary_computer.sign``.

    Returns
    -------
    Dataset
        ``sun_zenith``, ``sun_azimuth``, ``view_zenith``, ``view_azimuth`` (time, y, x) float32
        [degree], azimuths clockwise from north in [0, 360), with CF standard names; NaN where
        unknown. Each granule is read once, when computed.

    Raises
    ------
    RadiometryError
        If an item has no angles.
    TimeAxisError
        If a date has no item, or the number of files differs from that of dates.
    BandError
        With `per_band`, if a band of the cube is not a Sentinel-2 band.
    ContractError
        If the cube has no item ids.
    AssetReadError
        When computed, if an asset cannot be read, belongs to another tile or day, lies elsewhere,
        or does not hold degrees; names item and asset.

    Examples
    --------
    >>> import xharmonize as xh
    >>> angles = xh.read_angles(items, like=s2)  # doctest: +SKIP
    >>> nadir = s2.harmonize.nbar(angles)  # doctest: +SKIP
    """
    like = at_door(like)
    absent = [name for name in ("time", "y", "x") if name not in like.dims]
    if absent or "item_id" not in like.coords:
        raise ContractError(
            f"like= has dimensions {tuple(map(str, like.dims))} and coordinates "
            f"{sorted(map(str, like.coords))}",
            cure="read_angles needs time, y, x and item_id, as "
            "open_stac and xh.describe write them",
        )
    refs = find_refs(source, like, collection=collection, modifier=modifier)
    is_per_band = per_band and any(isinstance(ref, GranuleRef) for step in refs for ref in step)
    geobox = geobox_of(like)
    area = Area(
        crs=geobox.crs.to_wkt(),
        bounds=tuple(geobox.boundingbox),
        bands=_bands(like, is_per_band),
        per_band=is_per_band,
    )
    return _dataset(like, _stack(refs, like, area), area)


def _bands(like: xr.DataArray | xr.Dataset, per_band: bool) -> tuple[str, ...]:
    """Sentinel-2's bands of the cube; all where it has none of them."""
    msi = get_sensor("sentinel-2-l2a").instruments[0].bands
    sources = {band.name: band.source for band in msi}
    names = list(map(str, like["band"].values)) if "band" in like.coords else []
    names = names if "band" in like.dims else []
    strange = [name for name in names if name not in sources]
    if per_band and (strange or not names):
        raise BandError(
            f"bands {strange or names} are not Sentinel-2's, which have views of their own "
            f"({', '.join(sources)})",
            cure="leave out per_band=True",
        )
    return tuple(sources[name] for name in names if name in sources) or BANDS


def _stack(refs: Sequence[tuple[GranuleRef | RasterRef, ...]], like: Any, area: Area) -> da.Array:
    """All angles (time, angle, y, x): items are opened in a task each, pixels block by block."""
    chunks = like.reset_coords(drop=True).chunksizes
    times, ys, xs = (
        chunks[dim] if dim in chunks else da.core.normalize_chunks(size, (like.sizes[dim],))[0]
        for dim, size in (("time", 1), ("y", _SIDE), ("x", _SIDE))
    )
    name = "read-angles-" + tokenize(refs, area)
    tasks = {(name, i): task((name, i), open_step, step, area) for i, step in enumerate(refs)}
    opened = array_of(
        name, tasks, sources=[], chunks=((1,) * len(refs),), meta=np.empty(0, object)
    ).rechunk((times,))
    y, x = (
        da.from_array(like[dim].values.astype(float), (size,))
        for dim, size in (("y", ys), ("x", xs))
    )
    n_views = len(area.bands) if area.per_band else 1
    stack: da.Array = map_blocks(
        partial(angles_block, area=area),
        "t,y,x->tayx",
        opened,
        y,
        x,
        new={"a": 2 + 2 * n_views},
        dtype=np.float32,
        name="interpolate-angles",
    )
    return stack


def _dataset(like: xr.DataArray | xr.Dataset, stack: da.Array, area: Area) -> xr.Dataset:
    flat: tuple[str, ...] = ("time", "y", "x")
    view: tuple[str, ...] = flat
    if area.per_band:
        split, view = 2 + len(area.bands), ("time", "band", "y", "x")
        parts = (stack[:, 0], stack[:, 1], stack[:, 2:split], stack[:, split:])
    else:
        parts = (stack[:, 0], stack[:, 1], stack[:, 2], stack[:, 3])
    variables = {
        name: (dims, data, dict(ATTRIBUTES[name]))
        for name, dims, data in zip(ANGLES, (flat, flat, view, view), parts)
    }
    # Variables only: a coordinate brings others along it, the cube's own angles among them.
    names = ("time", "item_id", "band") if area.per_band else ("time", "item_id")
    coords = {name: like.coords[name].variable for name in names}
    return write_grid(xr.Dataset(variables, coords=coords), geobox_of(like))
