"""`open_stac`: open STAC items as a lazy cube with a settled radiometric contract.

catalogue → scenes → grid → digital numbers and quality layers → mask → reflectance. No pixels are
read while the graph is built.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import xarray as xr

from xharmonize._optional import require_installed
from xharmonize._settings import option
from xharmonize.cube.clip import bounds_in_degrees, clip
from xharmonize.cube.contract import REFLECTANCE, REQUESTED_BOUNDS
from xharmonize.cube.geobox import geobox_of, write_grid
from xharmonize.cube.masks import MaskLike, as_mask
from xharmonize.cube.platforms import PlatformChoice, worded_choice
from xharmonize.errors import BandError, CatalogError, GridError, RadiometryError
from xharmonize.io.stac.assemble import Request, join_parts, open_part
from xharmonize.io.stac.engines import choose_engine
from xharmonize.io.stac.fields import Scene
from xharmonize.io.stac.grid import (
    PixelPhase,
    bounds_of,
    box_in_degrees,
    is_coarser,
    lattice_of,
    north_up,
    overlapping,
    read_margin,
    target_grid,
    why_no_lattice,
    within,
)
from xharmonize.io.stac.pixels import default_chunks
from xharmonize.io.stac.query import DatetimeQuery, Query, make_query
from xharmonize.io.stac.scenes import (
    Mosaic,
    RadiometryChoice,
    Source,
    mosaic_groups,
    read_scenes,
    with_bands,
)
from xharmonize.io.stac.sources import history_of_source
from xharmonize.types import Engine

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


Chunks: TypeAlias = "int | str | tuple[Any, ...] | Mapping[str, Any]"
"""Dask chunks: pixels a side, ``"auto"``, (y, x), (time, band, y, x), or by dimension."""

MOST_PIXELS = 2**38
"""Pixels of a grid that items alone may ask for: half a million a side."""

OnError = Literal["raise", "skip"]
"""What an asset that cannot be read becomes: an error that names it, or flagged nodata."""


def open_stac(
    source: Source,
    *,
    collection: str | Sequence[str] | None = None,
    datetime: DatetimeQuery = None,
    bbox: Sequence[float] | None = None,
    geometry: Any = None,
    bands: str | Sequence[str] | None = None,
    crs: Any = None,
    resolution: float | None = None,
    like: xr.DataArray | xr.Dataset | GeoBox | None = None,
    engine: Engine | None = None,
    chunks: Chunks | None = None,
    mask: MaskLike | None = "clear",
    qa: bool = False,
    decode: bool = True,
    platform: PlatformChoice | None = None,
    radiometry: RadiometryChoice | None = None,
    query: Mapping[str, Any] | None = None,
    modifier: Callable[[Any], Any] | None = None,
    resampling: str | None = None,
    mosaic: Mosaic | None = "pass",
    on_error: OnError = "raise",
    pad: Any = None,
    drivers: str | Sequence[str] | None = None,
    schemes: str | Sequence[str] | None = None,
) -> Any:
    """Open STAC items as a lazy cube of reflectance with a radiometric contract per time step.

    Digital numbers are read once, as integers. Scale, offset and nodata of each item and band come
    from its metadata (`xharmonize.io.stac.scenes.read_scenes`), never from the reading library or
    the sensing date.

    Parameters
    ----------
    source : pystac object, mapping, list, path or URL
        Items or an ItemCollection, as objects or dictionaries; the path of an item collection or
        static catalogue, which is read and filtered locally; the URL of a STAC API, or an open
        ``pystac_client.Client``.
    collection : str or sequence of str, optional
        Collection ids to keep.
    datetime : str, datetime or pair, optional
        RFC 3339 datetime or interval; ``"2018"`` and ``"2018-07/2018-09"`` also work.
    bbox : (west, south, east, north) or odc.geo BoundingBox, optional
        Bounding box [degrees], reprojected and expanded to whole pixels; a BoundingBox is in its
        own CRS. Across the antimeridian, west is greater than east, or one of them is beyond ±180°;
        longitudes of a geographic cube then continue beyond 180°. Default: all items.
    geometry : GeoJSON, shapely geometry or GeoDataFrame, optional
        Polygons to read instead of a box; pixels outside are missing (see `xharmonize.clip`).
        Coordinates are in degrees unless a GeoDataFrame says otherwise.
    bands : str or sequence of str, optional
        Common names (``"red"``, ``"nir08"``). Default: the bands that all instruments have. An
        item that lacks a band of its instrument is missing (NaN) there, with a warning.
    crs : CRS, str or int, optional
        CRS of the cube; required if items are in several.
    resolution : float, optional
        Pixel size in units of the CRS. Default: the finest of the bands. Required if sensors of
        different pixel size are mixed, and then no finer than the coarsest. Pixel edges align with
        the items that have the coarsest pixels: Landsat stays on its own grid, and Sentinel-2 at
        30 m gets the grid of HLS.
    like : DataArray, Dataset or GeoBox, optional
        Use exactly this grid.
    engine : {"stackstac", "odc"}, optional
        Library that loads the items; both give the same pixels. Default: that of
        `xharmonize.set_options`; else stackstac if it is installed, works and supports the CRS,
        else odc-stac.
    chunks : int, tuple, mapping or "auto", optional
        Dask chunks: pixels per side, (y, x), (time, band, y, x), or by dimension. Default: that of
        `xharmonize.set_options`; else one date, all bands, and 2048 or 1024 pixels per side, as
        read (fewer if they are averaged).
    mask : Mask, str, sequence of str or None
        Pixels to mask by the product's quality layer: ``"clear"`` keeps clear pixels; flag names
        such as ``("cloud", "cloud_shadow")``, or a `Mask` with dilation. None masks nothing.
    qa : bool
        Whether to also return the packed quality layer, so that pixels can be masked again later.
    decode : bool
        False keeps digital numbers, with nodata where masked, and scale and offset in the
        contract.
    platform : str or mapping, optional
        Platform of items that don't name one.
    radiometry : mapping, optional
        ``{"offset": 0.0}``, or such a mapping by item id; overrides scale, offset and nodata from
        the metadata.
    query : mapping, optional
        STAC query extension: ``{"eo:cloud_cover": {"lt": 20}}``.
    modifier : callable, optional
        Function that signs items, such as ``planetary_computer.sign``.
    resampling : str, optional
        GDAL method to resample bands while reading, before masking. Default: nearest neighbour,
        unless the grid is coarser than the native pixels: then those are read, masked, decoded
        and averaged by area (with a minimum valid fraction of one half). Quality layers are
        resampled by nearest neighbour or bit-wise OR.
    mosaic : {"pass", "solar_day", "none"}, optional
        What forms one time step: items of one overflight (two rows of a Landsat pass, tiles of a
        Sentinel-2 datatake), of one sensor and day, or each item. In overlaps, the first valid
        pixel is used.
    on_error : {"raise", "skip"}
        What to do with an asset that cannot be read, or is not where its item says:
        raise `AssetReadError` when computed, or treat it as nodata with the flag ``skipped`` in
        `qa`. Likewise for an item that lacks one of `bands`, or the quality layer that the mask
        needs: raise an error, or treat it as missing, with a warning.
    pad : Harmonizer, Lattice, str or path, optional
        Generator, or name or path of its bundle: also load the margin it needs, so that every tile
        that contributes to the box has full context. The box is stored in the attribute
        ``requested_bounds`` (left, bottom, right, top in the CRS), to which the generator trims
        its result. Dates that only the margin has are dropped.
    drivers : str or sequence of str, optional
        GDAL drivers allowed to read assets. Default: those for GeoTIFF and JPEG 2000, whose files
        contain their own pixels.
    schemes : str or sequence of str, optional
        URL schemes allowed for assets: ``"https"``, ``"s3"``, ``"file"`` for local paths,
        ``"vsizip"`` for a GDAL handler. Default: https, http, s3, gs and az; local paths only if
        the item does not come from the web.

    Returns
    -------
    DataArray or Dataset
        (time, band, y, x) float32 reflectance [1], NaN where missing or masked, rows from north
        to south, with the radiometric contract and the items' mean sun and view angles [degree]
        as coordinates. A Dataset with ``qa`` (time, y, x) if `qa` is True. Digital numbers if
        `decode` is False.

    Raises
    ------
    EmptyQueryError
        If no item matches the query, or overlaps the grid.
    CatalogError, CatalogConnectionError
        If the source cannot be read, an item is malformed, or the URL of an asset is not allowed.
    RadiometryError
        If metadata about scale, offset or nodata are missing or contradict each other.
    BandError, MaskError, UnknownSensorError
        If a band, quality layer, flag or sensor does not exist.
    GridError
        If CRS, pixel size or extent are ambiguous; the message names the argument to pass.

    Examples
    --------
    >>> import xharmonize as xh
    >>> s2 = xh.open_stac(items, bbox=bbox, resolution=10)  # doctest: +SKIP
    """
    require_installed("pystac", extra="stac")
    engine = option("engine") if engine is None else engine
    chunks = option("chunks") if chunks is None else chunks
    if engine is not None:
        _require_choice("engine", engine, get_args(Engine))
    _require_choice("on_error", on_error, get_args(OnError))
    names = (bands,) if isinstance(bands, str) else bands
    if names is not None and (not names or len(set(names)) < len(names)):
        raise BandError("is empty or names a band twice", argument="bands", value=list(names))
    if geometry is not None:
        _require_alone(bbox, pad)
        bbox = bounds_in_degrees(geometry)
    here = None if bbox is None else box_in_degrees(bbox)
    asked = make_query(collection=collection, datetime=datetime, bbox=here, query=query)
    margin = None if pad is None else read_margin(pad)
    searched = here if here is None or margin is None else margin.widened(here)
    scenes = read_scenes(
        source,
        collection=collection,
        datetime=datetime,
        bbox=searched,
        query=query,
        modifier=modifier,
        platform=platform,
        bands=names,
        radiometry=radiometry,
        skips=on_error == "skip",
        drivers=drivers,
        schemes=schemes,
    )
    scenes, wanted = with_bands(scenes, names)
    named = within(scenes, here) if searched is not here and here is not None else scenes
    box = _grid(named, wanted, like=like, bbox=bbox, crs=crs, resolution=resolution)
    geobox = box if margin is None else margin.around(box)
    request = Request(
        bands=wanted,
        geobox=geobox,
        engine=engine or choose_engine(geobox),
        chunks=_chunks(chunks, len(wanted)),
        mask=None if mask is None else as_mask(mask),
        qa=qa,
        decode=decode,
        skips=on_error == "skip",
        resampling=_resampling(resampling),
        source=_history_of(source, asked, platform),
    )
    cube = _open(scenes, request, mosaic or "none", box)
    if like is not None:
        cube = _with_rows_of(cube, like, request.geobox)
    if margin is not None:
        cube[REFLECTANCE].attrs[REQUESTED_BOUNDS] = list(bounds_of(box))
    if geometry is not None:
        cube = clip(cube, geometry, crop=like is None)
    return cube if qa else cube[REFLECTANCE]


def _history_of(source: Any, asked: Query, platform: PlatformChoice | None) -> str:
    """Where items come from, what was asked for, and what the user settled."""
    settled = "" if platform is None else f", {worded_choice(platform)}"
    return f"{history_of_source(source)} ({asked}{settled})"


def _open(scenes: Sequence[Scene], request: Request, mosaic: Mosaic, box: GeoBox) -> xr.Dataset:
    """Open scenes in parts: by sensor, and by native lattice where pixels are averaged.

    Time steps without a scene in `box`, the requested area, are dropped.
    """
    inside = {scene.id for scene in overlapping(scenes, request.bands, box)}
    steps = [
        step
        for step in mosaic_groups(overlapping(scenes, request.bands, request.geobox), mosaic)
        if any(scene.id in inside for scene in step)
    ]
    routes = _Routes(request)
    parts: dict[Any, dict[int, list[Scene]]] = defaultdict(lambda: defaultdict(list))
    for number, step in enumerate(steps):
        for scene in step:
            key = (scene.sensor.name, scene.units, routes.lattice(scene))
            parts[key][number].append(scene)
    units = {key[1] for key in parts}
    if len(units) > 1:
        raise RadiometryError(
            f"the items have different units, {sorted(units)}", cure="open them apart"
        )
    opened = []
    for (_, _, lattice), part in parts.items():  # no comprehension: warnings count frames
        opened.append(open_part(list(part.values()), lattice, request))
    cube = join_parts(opened, [list(part) for part in parts.values()])
    return cube if request.chunks is None else _rechunk(cube, request.chunks)


class _Routes:
    """On which lattice scenes are read, found once per lattice."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.known: dict[PixelPhase, bool] = {}

    def lattice(self, scene: Scene) -> PixelPhase | None:
        """Return the native lattice where pixels are averaged, None where they are picked."""
        if self.request.resampling is not None:
            return None
        lattice = lattice_of(scene, self.request.bands)
        if lattice is None:
            reason = why_no_lattice(scene, self.request.bands)
            raise GridError(
                f"{reason}, so whether its pixels have to be averaged is unknown",
                cure="pass resampling=, such as 'nearest' where the grid is its own",
                item=scene.id,
            )
        if lattice not in self.known:
            self.known[lattice] = is_coarser(self.request.geobox, lattice)
        if self.known[lattice] and not self.request.decode:
            raise RadiometryError(
                f"the grid is coarser than the pixels of item {scene.id!r}, and digital numbers "
                "are not averaged",
                cure="leave out decode=False, or pass resampling='nearest'",
            )
        return lattice if self.known[lattice] else None


def _grid(
    scenes: Sequence[Scene],
    bands: Sequence[str],
    *,
    like: Any,
    bbox: Sequence[float] | None,
    crs: Any,
    resolution: float | None,
) -> GeoBox:
    from odc.geo.geobox import GeoBox

    if like is None:
        box = target_grid(scenes, bands, bbox=bbox, crs=crs, resolution=resolution)
        rows, columns = box.shape
        if rows * columns > MOST_PIXELS:
            raise GridError(
                f"the cube would have {rows:,} x {columns:,} pixels, of item {scenes[0].id!r} and "
                "others perhaps",
                cure="give bbox= or a coarser resolution=, or like= where that is meant",
            )
        return box
    if crs is not None or resolution is not None:
        raise GridError("like= says the whole grid", cure="leave out crs= and resolution=")
    if not isinstance(like, GeoBox | xr.DataArray | xr.Dataset):
        raise GridError(f"like= is a {type(like).__name__}", cure="give a cube or a GeoBox")
    return north_up(like if isinstance(like, GeoBox) else geobox_of(like))


def _with_rows_of(cube: xr.Dataset, like: Any, north_first: GeoBox) -> xr.Dataset:
    """Reverse the rows if those of `like` run from south to north."""
    from odc.geo.geobox import GeoBox

    geobox = like if isinstance(like, GeoBox) else geobox_of(like)
    if geobox.resolution.y < 0:
        return cube
    return write_grid(cube.isel(y=slice(None, None, -1)), north_first.flipy())


def _chunks(chunks: Chunks | None, n_bands: int) -> tuple[Any, Any, Any, Any] | None:
    """Chunks along time, band, y and x; None for the default."""
    if chunks is None:
        return None
    if isinstance(chunks, Mapping):
        sizes = tuple(chunks.values())
    else:
        sizes = chunks if isinstance(chunks, tuple) else (chunks,)
    if any(isinstance(size, Integral) and (size == 0 or size < -1) for size in sizes):
        raise CatalogError(
            "holds no number of pixels",
            cure="give one above 0, or -1",
            argument="chunks",
            value=chunks,
        )
    time, band, side, _ = default_chunks(n_bands)
    if isinstance(chunks, Mapping):
        strange = sorted(set(chunks) - {"time", "band", "y", "x"})
        if strange:
            raise CatalogError(
                f"chunks= names {strange}", cure="the dimensions are time, band, y and x"
            )
        return (
            chunks.get("time", time),
            chunks.get("band", band),
            chunks.get("y", side),
            chunks.get("x", side),
        )
    if isinstance(chunks, tuple):
        if len(chunks) == 4:
            return (chunks[0], chunks[1], chunks[2], chunks[3])
        if len(chunks) == 2:
            return (time, band, chunks[0], chunks[1])
        raise CatalogError(
            cure="give (y, x) or (time, band, y, x)", argument="chunks", value=chunks
        )
    return (time, band, chunks, chunks)


def _rechunk(cube: xr.Dataset, chunks: tuple[Any, Any, Any, Any]) -> xr.Dataset:
    sizes = dict(zip(("time", "band", "y", "x"), chunks))
    result = cube.copy()
    for name, array in cube.data_vars.items():
        wanted = {dim: size for dim, size in sizes.items() if dim in array.dims}
        result[name] = array.chunk(wanted)
    return result


def _resampling(name: str | None) -> str | None:
    if name is None:
        return None
    from rasterio.enums import Resampling

    _require_choice("resampling", name, [method.name for method in Resampling])
    return name


def _require_alone(bbox: Any, pad: Any) -> None:
    if bbox is not None:
        raise GridError(
            "cannot be given together with bbox", cure="give one of them", argument="geometry"
        )
    if pad is not None:
        raise GridError(
            "would mask the margin that pad= loads",
            cure="give bbox= and pad=, and clip the result with cube.harmonize.clip(geometry)",
            argument="geometry",
        )


def _require_choice(argument: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise CatalogError(
            f"{argument}={value!r} is unknown", cure=f"choose one of {', '.join(choices)}"
        )
