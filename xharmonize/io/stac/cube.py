"""`open_stac`: from STAC items to a cube whose numbers are settled, lazily.

catalogue → scenes → grid → digital numbers and quality layers → mask → reflectance. Nothing is
read while this is put together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import xarray as xr

from xharmonize.cube.contract import REFLECTANCE, REQUESTED_BOUNDS
from xharmonize.cube.geobox import geobox_of, write_grid
from xharmonize.cube.masks import MaskLike, as_mask
from xharmonize.cube.platforms import PlatformChoice
from xharmonize.errors import BandError, CatalogError, GridError, RadiometryError
from xharmonize.io.stac.engines import choose_engine
from xharmonize.io.stac.fields import Scene
from xharmonize.io.stac.grid import (
    PixelPhase,
    bounds_of,
    is_coarser,
    lattice_of,
    north_up,
    overlapping,
    read_margin,
    target_grid,
    why_no_lattice,
    within,
)
from xharmonize.io.stac.parts import Request, join_parts, open_part
from xharmonize.io.stac.pixels import default_chunks
from xharmonize.io.stac.query import DatetimeQuery, check_bbox
from xharmonize.io.stac.scenes import (
    Mosaic,
    RadiometryChoice,
    Source,
    mosaic_groups,
    read_scenes,
    with_bands,
)
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
    """Open STAC items as a lazy cube of reflectance, its radiometry settled per time step.

    Digital numbers are read once, as integers; scale, offset and nodata of every item and band
    come from its metadata (`xharmonize.io.stac.scenes.read_scenes`), never from the library that
    reads or from the sensing date.

    Parameters
    ----------
    source : pystac object, mapping, list, path or URL
        Items or an ItemCollection, as objects or dictionaries; the path of an item collection or
        of a static catalogue, which is walked and filtered here; the URL of a STAC API, or an
        open ``pystac_client.Client``.
    collection : str or sequence of str, optional
        Collection ids to keep.
    datetime : str, datetime or pair, optional
        RFC 3339 time or interval; ``"2018"`` and ``"2018-07/2018-09"`` work too.
    bbox : (west, south, east, north), optional
        Box [degrees of longitude and latitude], reprojected and extended to whole pixels. Across
        the antimeridian west is larger than east, or one of them lies beyond ±180°; a cube in
        degrees then counts on beyond 180°. Without it the cube covers all items.
    bands : str or sequence of str, optional
        Common names (``"red"``, ``"nir08"``); by default the bands that all instruments have. A
        single item that lacks one of its instrument's is missing (NaN) there, with a warning.
    crs : CRS, str or int, optional
        CRS of the cube; needed where items lie in several.
    resolution : float, optional
        Side of a pixel in units of the CRS; by default the finest of the bands. Needed, and not
        finer than the coarsest sensor, where sensors of different pixel size are mixed. Edges lie
        where those of the items with the coarsest pixels lie: Landsat stays on its own grid, and
        Sentinel-2 at 30 m gets the grid of HLS.
    like : DataArray, Dataset or GeoBox, optional
        Take exactly this grid.
    engine : {"stackstac", "odc"}, optional
        Library that lays out the reading; both give the same pixels. By default stackstac where it
        is installed, works and knows the CRS, else odc-stac.
    chunks : int, tuple, mapping or "auto", optional
        Dask chunks: pixels a side, (y, x), (time, band, y, x), or by dimension. By default one
        date, all bands, and 2048 or 1024 pixels a side, as read (fewer where they are averaged).
    mask : Mask, str, sequence of str or None
        Pixels to remove by the product's quality layer: ``"clear"`` keeps clear ones; flag names
        such as ``("cloud", "cloud_shadow")``, or a `Mask` with dilation. None removes none.
    qa : bool
        Also return the packed quality layer, so that masking loses nothing.
    decode : bool
        False keeps digital numbers, masked ones as nodata, with scale and offset in the contract.
    platform : str or mapping, optional
        Settles platforms that items do not name.
    radiometry : mapping, optional
        ``{"offset": 0.0}``, or by item id, overrides scale, offset and nodata of the metadata.
    query : mapping, optional
        STAC query extension: ``{"eo:cloud_cover": {"lt": 20}}``.
    modifier : callable, optional
        Signs items, as ``planetary_computer.sign`` does.
    resampling : str, optional
        GDAL method by which the bands are put on the grid as they are read, unmasked. By default
        pixels are picked by nearest, except where the grid is coarser than the pixels: then they
        are read as they are, masked, decoded and averaged by area (at least half of a pixel has
        to be valid). Quality layers are picked by nearest, or joined bit by bit.
    mosaic : {"pass", "solar_day", "none"}, optional
        What becomes one time step: items of one overflight (two rows of a Landsat pass, tiles of
        a Sentinel-2 datatake), of one sensor and day, or every item. Pixels of an overlap are
        taken from the first item that has them.
    on_error : {"raise", "skip"}
        An asset that cannot be read, or lies elsewhere than its item says, raises
        `AssetReadError` when computed, or becomes nodata with the flag ``skipped`` in `qa`. An
        item without a band of `bands`, or without the quality layer that the mask needs, is an
        error, or is missing there, with a warning.
    pad : harmoniser, Lattice, str or path, optional
        A generator, or the name or path of its bundle: load the margin it looks at, so that every
        tile that gives something to the box is wholly supplied. The box is kept in the attribute
        ``requested_bounds`` (left, bottom, right, top in the CRS), and the generator's result ends
        there. Dates that only the margin has are left out.
    drivers : str or sequence of str, optional
        GDAL drivers that may read assets; by default those of GeoTIFF and JPEG 2000, whose files
        hold their pixels.
    schemes : str or sequence of str, optional
        Kinds of addresses that assets may have: ``"https"``, ``"s3"``, ``"file"`` for paths of this
        machine, ``"vsizip"`` for a handler of GDAL. By default https, http, s3, gs and az; paths
        only where the item does not come from the web.

    Returns
    -------
    DataArray or Dataset
        (time, band, y, x) float32 reflectance [1], NaN where missing or masked, rows from north
        to south, with the radiometric contract and the items' mean sun and view angles [degree]
        as coordinates; as a Dataset with ``qa`` (time,
        y, x) where asked for. Digital numbers with ``decode=False``.

    Raises
    ------
    EmptyQueryError
        If no item fits the query, or overlaps the grid.
    CatalogError, CatalogConnectionError
        If the source cannot be read, an item is malformed, or an asset has an address that is not
        allowed.
    RadiometryError
        If metadata about scale, offset or nodata are absent or contradict each other.
    BandError, MaskError, UnknownSensorError
        If a band, quality layer, flag or sensor is not there.
    GridError
        If CRS, pixel size or extent are open; the message names the argument that settles it.

    Examples
    --------
    >>> import xharmonize as xh
    >>> s2 = xh.open_stac(items, bbox=bbox, resolution=10)  # doctest: +SKIP
    """
    if engine is not None:
        _require_choice("engine", engine, get_args(Engine))
    _require_choice("on_error", on_error, get_args(OnError))
    names = (bands,) if isinstance(bands, str) else bands
    if names is not None and (not names or len(set(names)) < len(names)):
        raise BandError("is empty or names a band twice", argument="bands", value=list(names))
    margin = None if pad is None else read_margin(pad)
    searched = bbox if bbox is None or margin is None else margin.widened(check_bbox(bbox))
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
    named = within(scenes, bbox) if searched is not bbox and bbox is not None else scenes
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
    )
    cube = _open(scenes, request, mosaic or "none", box)
    if like is not None:
        cube = _with_rows_of(cube, like, request.geobox)
    if margin is not None:
        cube[REFLECTANCE].attrs[REQUESTED_BOUNDS] = list(bounds_of(box))
    return cube if qa else cube[REFLECTANCE]


def _open(scenes: Sequence[Scene], request: Request, mosaic: Mosaic, box: GeoBox) -> xr.Dataset:
    """Open scenes part by part: sensor by sensor, and by lattice where pixels are averaged.

    Steps of which no scene meets `box`, what was asked for, are left out.
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
    """Turn the rows round where those of `like` run from south to north."""
    from odc.geo.geobox import GeoBox

    geobox = like if isinstance(like, GeoBox) else geobox_of(like)
    if geobox.resolution.y < 0:
        return cube
    return write_grid(cube.isel(y=slice(None, None, -1)), north_first.flipy())


def _chunks(chunks: Chunks | None, n_bands: int) -> tuple[Any, Any, Any, Any] | None:
    """Chunks along time, band, y and x; None where the default will do."""
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


def _require_choice(argument: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise CatalogError(
            f"{argument}={value!r} is unknown", cure=f"choose one of {', '.join(choices)}"
        )
