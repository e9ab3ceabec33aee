"""Raster files: which may be opened, what they state, and reading those that engines misread.

GDAL opens far more than images. A virtual raster, or a handler of GDAL, names other files, and GDAL
reads them as if they were its own pixels. A file that no allowed driver opens is not read here.
Files of allowed drivers have two ways left to lead elsewhere: overviews or masks in a file beside
them, and a tag that names a file of overviews anywhere. Both are closed.

odc-loader reads plain files. It knows missing pixels by their number alone and wants rows from
north to south, so a file with a mask (inside it, beside it as ``.msk``, or as an alpha band), with
another grid, or in degrees across 180° is warped here.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor, isfinite
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from xharmonize.cube.geobox import crs_name, is_same_crs, read_crs
from xharmonize.io.stac.fields import DRIVERS, Grid, is_remote
from xharmonize.kernels.longitude import unwrapped
from xharmonize.types import AnyArray, BoolArray, Float64Array, IntArray

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


_BESIDE = (".ovr", ".msk")
_PATIENCE = {  # a server that sends less than 100 byte/s for a minute is given up
    "GDAL_HTTP_CONNECTTIMEOUT": "30",
    "GDAL_HTTP_LOW_SPEED_TIME": "60",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "100",
}

TOLERANCE = 1e-3
"""Distance [pixel] by which a file may lie off the place its item states."""

KNOWN_FILES = 4096
"""Files whose headers a process keeps: an asset is read chunk by chunk."""


_NO_PLACE = "Dataset has no geotransform, gcps, or rpcs"
_WARPED_OR_MASK = r"rasterio\.warp$|xharmonize\.io\.stac\.files$"


Stamps: TypeAlias = tuple[Any, ...]
"""What changes when a file does; part of the key under which its header is kept."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """Header of a raster file.

    Attributes
    ----------
    grid : Grid
        Its pixels.
    crs : str
        WKT; empty where it has none.
    n_bands : int
        Without an alpha band.
    is_masked : bool
        Whether a mask or an alpha band tells which pixels are valid.
    nodata : float or None
    dtype : str
        Of the first band.
    """

    grid: Grid
    crs: str
    n_bands: int
    is_masked: bool
    nodata: float | None
    dtype: str

    @property
    def is_plain(self) -> bool:
        """Whether it is north-up and says by numbers alone what is missing."""
        a, b, _, d, e, _ = self.grid.transform
        return not self.is_masked and a > 0 and e < 0 and b == d == 0


@contextmanager
def reading_options(href: str) -> Iterator[None]:
    """Set GDAL's options for a file: time limits, no search beside a remote one."""
    import rasterio

    _hide_false_alarm()
    if not is_remote(href):
        yield
        return
    known = rasterio.env.getenv() if rasterio.env.hasenv() else {}
    patience = {k: v for k, v in _PATIENCE.items() if k not in known and k not in os.environ}
    # Files beside a remote one may be virtual, and each costs a request.
    with rasterio.Env(**patience, GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        yield


def _hide_false_alarm() -> None:
    """Hide a warning about files without a place, of which no user's file is the cause.

    To warp, rasterio wraps arrays as files that have no place for a moment. It hides its warning
    of that by `warnings.catch_warnings`, which threads undo for each other; where other code of
    the process warps, it is hidden too, as rasterio means it. A mask beside a file has no place
    either. A file of an item that has none is refused by `why_misplaced`.
    """
    from rasterio.errors import NotGeoreferencedWarning

    # A filter stays, unlike a context: threads would undo that as well.
    if not any(getattr(known[1], "pattern", "") == _NO_PLACE for known in warnings.filters):
        warnings.filterwarnings("ignore", _NO_PLACE, NotGeoreferencedWarning, _WARPED_OR_MASK)


def read_header(href: str, drivers: tuple[str, ...] = DRIVERS) -> Header:
    """Return the header of a file; kept until the file, if it is a local one, changes.

    Raises
    ------
    RuntimeError, RasterioError
        If the file cannot be opened, no driver of `drivers` reads it, or it does not hold its own
        pixels.
    """
    return _read_header(href, drivers, _stamps_of(href))


@lru_cache(maxsize=KNOWN_FILES)
def _read_header(href: str, drivers: tuple[str, ...], _stamps: Stamps) -> Header:
    from rasterio.enums import ColorInterp, MaskFlags

    _require_own_pixels(href, drivers)
    with open_raster(href) as file:
        has_alpha = ColorInterp.alpha in file.colorinterp
        flags = file.mask_flag_enums[0]
        a, b, c, d, e, f = file.transform[:6]
        return Header(
            grid=Grid(transform=(a, b, c, d, e, f), shape=(file.height, file.width)),
            crs=file.crs.to_wkt() if file.crs else "",
            n_bands=file.count - has_alpha,
            is_masked=flags not in ([MaskFlags.nodata], [MaskFlags.all_valid]),
            nodata=file.nodata,
            dtype=file.dtypes[0],
        )


def open_allowed(href: str, drivers: tuple[str, ...]) -> Any:
    """Return an open rasterio dataset; raise RasterioError where no allowed driver reads it."""
    import rasterio

    # rasterio.open takes one driver; the class it makes takes several.
    return rasterio.DatasetReader(href, driver=list(drivers), sharing=False)


def _require_own_pixels(href: str, drivers: tuple[str, ...]) -> None:
    """Raise RuntimeError if no allowed driver opens a file, or it leads to other files."""
    import rasterio
    from rasterio.errors import RasterioIOError

    # Whatever options the reading has: what lies beside a file of this machine is looked at.
    listing = "EMPTY_DIR" if is_remote(href) else "FALSE"
    try:
        with (
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN=listing),
            open_allowed(href, drivers) as file,
        ):
            elsewhere = file.tags(ns="OVERVIEWS").get("OVERVIEW_FILE")
            beside = [] if is_remote(href) else _beside(file)
    except RasterioIOError as error:
        raise RuntimeError(
            f"{error} (assets are read by GDAL's {', '.join(drivers)}; drivers= of open_stac "
            "allows others)"
        ) from None
    if elsewhere:
        raise RuntimeError(
            "its overviews are in another file, which is not read; write them into the file"
        )
    for path in beside:
        _require_own_pixels(path, drivers)


def _beside(file: Any) -> list[str]:
    """Overviews and masks in files of their own."""
    for band in range(1, file.count + 1):
        file.overviews(band)  # they are looked for only when asked for
    len(file.mask_flag_enums)
    return [path for path in file.files if path.lower().endswith(_BESIDE) and path != file.name]


@contextmanager
def open_raster(href: str) -> Iterator[Any]:
    """Open a file; its folder is searched only for the mask of a local file."""
    import rasterio

    listing = "FALSE" if _mask_beside(href) else "EMPTY_DIR"
    with (
        rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN=listing),
        rasterio.open(href, sharing=False) as file,
    ):
        yield file


@lru_cache(maxsize=KNOWN_FILES)
def _has_fractions(href: str, _stamps: Stamps) -> bool:
    with open_raster(href) as file:
        if np.dtype(file.dtypes[0]).kind != "f":
            return False
        sample = file.read(1, out_shape=(min(256, file.height), min(256, file.width)))
    return bool((sample[np.isfinite(sample)] % 1 != 0).any())


def has_fractions(href: str) -> bool:
    """Tell whether a file holds floats that are no whole numbers, from at most 256 a side."""
    return _has_fractions(href, _stamps_of(href))


def _stamps_of(href: str) -> Stamps:
    """What changes when a local file, its mask or its overviews do; nothing of remote ones."""
    found = []
    for path in (href, _mask_beside(href), f"{href}.ovr"):
        try:
            status = os.stat(path) if path else None
        except (OSError, ValueError):
            status = None
        found.append(status and (status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)


def _mask_beside(href: str) -> str:
    """Path of the mask file of a local file, as GDAL names it; empty where there is none."""
    return next((p for end in (".msk", ".MSK") if os.path.exists(p := href + end)), "")


def why_misplaced(header: Header, stated: Grid | None, crs: str) -> str:
    """Describe how the location of a file differs from that of its item; empty if it does not.

    Parameters
    ----------
    header : Header
        Of the file.
    stated : Grid or None
        Its pixels as ``proj:transform`` and ``proj:shape`` state them.
    crs : str
        As the item states it; empty where it does not.
    """
    return _why_misplaced(header, stated, crs)


@lru_cache(maxsize=KNOWN_FILES)
def _why_misplaced(header: Header, stated: Grid | None, crs: str) -> str:
    own = header.grid
    if not header.crs:
        return "the file has no CRS"
    limit = TOLERANCE * min(_sides(own))
    if crs and _shift(own, header.crs, crs) > limit:
        return f"the file is in {crs_name(read_crs(header.crs))}, its item says {crs}"
    if stated is None:
        return ""
    off = float(np.abs(np.subtract(own.corners, stated.corners)).max())
    if off <= limit and (stated.is_shared or own.shape == stated.shape):
        return ""
    return (
        f"the file has proj:transform {list(own.transform)} and proj:shape {list(own.shape)}, its "
        f"item says {list(stated.transform)} and {list(stated.shape)}"
    )


def _sides(grid: Grid) -> tuple[float, float]:
    a, b, _, d, e, _ = grid.transform
    return float(np.hypot(a, d)), float(np.hypot(b, e))


def _shift(grid: Grid, source: str, target: str) -> float:
    """Distance that the corners of a grid move, in its unit, if read in another CRS."""
    from pyproj import Transformer

    one, other = read_crs(source), read_crs(target)
    if is_same_crs(one, other):
        return 0.0
    if one.geographic != other.geographic:
        return float("inf")
    x, y = np.transpose(grid.corners)
    moved = Transformer.from_crs(one.to_wkt(), other.to_wkt(), always_xy=True).transform(x, y)
    shift = float(np.abs(np.subtract(moved, (x, y))).max())
    return shift if isfinite(shift) else float("inf")


def read_pixels(
    href: str,
    header: Header,
    geobox: GeoBox,
    *,
    resampling: str,
    dtype: np.dtype[Any],
    nodata: int | None,
    fill: int,
) -> IntArray:
    """Read a file onto a grid; a pixel is missing where its mask or its nodata says so.

    Parameters
    ----------
    resampling : str
        GDAL method.
    nodata : int or None
        Value of missing pixels beside the one the file states; plain files keep it.
    fill : int
        Value of missing pixels in the result.
    """
    if _is_plain_on(header, geobox):
        return _read_plain(href, geobox, resampling=resampling, dtype=dtype, fill=fill)
    result = np.full(geobox.shape.yx, np.nan)
    for turns in _turns(header, geobox):
        moved = geobox.translate_pix(-360 * turns / geobox.affine.a, 0) if turns else geobox
        _read_onto(result, href, header, moved, nodata=nodata, resampling=resampling)
    numbers: AnyArray = np.where(np.isnan(result), fill, result)
    return (np.rint(numbers) if dtype.kind in "iu" else numbers).astype(dtype)


def _is_plain_on(header: Header, geobox: GeoBox) -> bool:
    """Tell whether a plain file is one on this grid too: degrees that need no turn."""
    if not (header.is_plain and geobox.crs.geographic):
        return header.is_plain
    here = geobox.boundingbox
    return here.left >= -180 and here.right <= 180 and set(_turns(header, geobox)) <= {0}


def _read_plain(
    href: str, geobox: GeoBox, *, resampling: str, dtype: np.dtype[Any], fill: int
) -> IntArray:
    """Read by odc-loader: pixels of the same grid are copied, others warped."""
    from odc.loader import RasterLoadParams, RasterSource, RioReader

    params = RasterLoadParams(dtype=str(dtype), fill_value=fill, resampling=resampling)
    place, found = RioReader(RasterSource(href), None).read(params, geobox)
    pixels: IntArray = found
    if pixels.shape != geobox.shape.yx:
        pixels = np.full(geobox.shape.yx, fill, dtype)
        pixels[place] = found
    return pixels


def _read_onto(
    result: Float64Array,
    href: str,
    header: Header,
    geobox: GeoBox,
    *,
    nodata: int | None,
    resampling: str,
) -> None:
    """Put the valid pixels of a file onto a grid, where the result has none yet."""
    from rasterio.enums import Resampling
    from rasterio.warp import reproject
    from rasterio.windows import Window

    window = _window(header, geobox)
    if window is None:
        return
    (top, bottom), (left, right) = window
    with open_raster(href) as file:
        cut = Window(left, top, right - left, bottom - top)
        values = file.read(1, window=cut)
        missing = file.read_masks(1, window=cut) == 0
    missing |= _equals(values, header.nodata) | _equals(values, nodata)
    found = np.full(result.shape, np.nan)
    affine = _affine(header.grid)
    reproject(
        np.where(missing, np.nan, values.astype(np.float64)),
        found,
        src_transform=affine * affine.translation(left, top),
        src_crs=header.crs,
        src_nodata=np.nan,
        dst_transform=geobox.affine,
        dst_crs=geobox.crs.to_wkt(),
        dst_nodata=np.nan,
        resampling=Resampling[resampling],
    )
    np.copyto(result, found, where=np.isnan(result))


def _turns(header: Header, geobox: GeoBox) -> tuple[int, ...]:
    """Whole turns by which a grid in degrees may lie off a file in degrees: where they meet."""
    if not (geobox.crs.geographic and read_crs(header.crs).geographic):
        return (0,)
    left, _, right, _ = header.grid.bounds
    here = geobox.boundingbox
    turns = (-2, -1, 0, 1, 2)
    return tuple(n for n in turns if here.left - 360 * n < right and here.right - 360 * n > left)


def _equals(values: AnyArray, number: float | None) -> BoolArray:
    if number is None or np.isnan(number):
        return np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    return np.asarray(values == number)


def _affine(grid: Grid) -> Any:
    from affine import Affine

    return Affine(*grid.transform)


def _window(header: Header, geobox: GeoBox) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Rows and columns of a file that a grid needs, with a margin; None where they do not meet."""
    row, column = _positions(header, geobox)
    if not (np.isfinite(row).all() and np.isfinite(column).all()):
        row, column = (np.array([0.0, size]) for size in header.grid.shape)
    spans = []
    for place, size, n_target in zip((row, column), header.grid.shape, geobox.shape.yx):
        low, high = float(place.min()), float(place.max())
        # Kernels of GDAL reach three pixels, of the coarser of both grids.
        margin = 4 * max(1.0, (high - low) / n_target)
        spans.append((max(0, floor(low - margin)), min(size, ceil(high + margin))))
    if any(start >= stop for start, stop in spans):
        return None
    return spans[0], spans[1]


def _positions(header: Header, geobox: GeoBox) -> tuple[Float64Array, Float64Array]:
    """Rows and columns of a file under the outline of a grid; not finite beyond its CRS."""
    from pyproj import Transformer

    rows, columns = geobox.shape.yx
    along = np.linspace(0.0, 1.0, 33)
    zero, one = np.zeros(33), np.ones(33)
    edge_row = rows * np.concatenate([along, along, zero, one])
    edge_column = columns * np.concatenate([zero, one, along, along])
    x, y = geobox.affine * (edge_column, edge_row)
    source = read_crs(header.crs)
    if not is_same_crs(source, geobox.crs):
        forth = Transformer.from_crs(geobox.crs.to_wkt(), source.to_wkt(), always_xy=True)
        x, y = forth.transform(x, y)
        if source.geographic:
            left, _, right, _ = header.grid.bounds
            x = unwrapped(x, (left + right) / 2)
    column, row = ~_affine(header.grid) * (np.asarray(x), np.asarray(y))
    return np.asarray(row), np.asarray(column)
