"""Read an asset onto a grid within a graph; errors name the asset.

Free of rasterio until something is read, and picklable, so that it works with any Dask scheduler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xharmonize._optional import require
from xharmonize.errors import AssetReadError
from xharmonize.io.stac.fields import DRIVERS, Grid
from xharmonize.io.stac.files import (
    Header,
    has_fractions,
    read_header,
    read_pixels,
    reading_options,
    why_misplaced,
)
from xharmonize.types import IntArray

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

Chunks = tuple[tuple[int, ...], ...]


class _Unfit(Exception):
    """A file that opens, but contradicts its item."""

    def __init__(self, error: AssetReadError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, kw_only=True)
class AssetRef:
    """An asset in a graph: its address, its item and its nodata.

    Attributes
    ----------
    href : str
        Absolute location, signed where it has to be; empty for an asset that an item lacks, of
        which all pixels are missing.
    item_id, asset : str
        Named in errors.
    nodata : int or None
        Digital number of a missing pixel, in addition to the one the file declares.
    failed : int or None
        Value given to pixels that cannot be read; None raises `AssetReadError`.
    grid : Grid or None
        Its pixels as the item states them, which the file is compared with.
    crs : str
        CRS that the item states; empty where it does not.
    drivers : tuple of str
        GDAL drivers that may read it.
    """

    href: str
    item_id: str
    asset: str
    nodata: int | None = None
    failed: int | None = None
    grid: Grid | None = None
    crs: str = ""
    drivers: tuple[str, ...] = DRIVERS

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        grid = None if self.grid is None else astuple(self.grid)
        own = (self.href, self.item_id, self.asset, self.nodata, self.failed)
        return (*own, grid, self.crs, self.drivers)

    def __lt__(self, other: AssetRef) -> bool:
        """Order by item and asset, so that mappings of assets have one token."""
        return (self.item_id, self.asset) < (other.item_id, other.asset)

    def error(self, reason: str) -> AssetReadError:
        """Return the error that names the asset."""
        return AssetReadError(
            f"asset {self.asset!r} of item {self.item_id!r} cannot be read from {self.href}: "
            f"{reason}",
            cure='leave the item out, or pass on_error="skip" to treat it as nodata',
        )

    def read(self, geobox: GeoBox, *, resampling: str, dtype: np.dtype[Any], fill: int) -> IntArray:
        """Read the asset onto a grid.

        Returns
        -------
        (y, x) IntArray
            `fill` where missing; `failed` everywhere where the asset cannot be read, or is not
            what its item says, and failures are skipped.
        """
        from rasterio.errors import RasterioError

        if not self.href:
            return np.full(geobox.shape.yx, fill, dtype)
        try:
            with reading_options(self.href):
                pixels = read_pixels(
                    self.href,
                    self._header(),
                    geobox,
                    resampling=resampling,
                    dtype=dtype,
                    nodata=self.nodata,
                    fill=fill,
                )
        except _Unfit as unfit:
            error = unfit.error
        except (RuntimeError, OSError, RasterioError) as cause:
            error = self.error(str(cause.__cause__ or cause))
        else:
            return self.with_fill(self.require_numbers(pixels), fill)
        # Raised outside: rasterio's errors, if chained, do not survive the way from a worker.
        if self.failed is None:
            raise error
        return np.full(geobox.shape.yx, self.failed, dtype)

    def _header(self) -> Header:
        """Return the header of the file, if it is what the item says."""
        header = read_header(self.href, self.drivers)
        if header.n_bands != 1:
            raise _Unfit(
                self.error(
                    f"the file has {header.n_bands} bands, and an asset is one band; give each "
                    "band a file of its own, or open it with rioxarray and xh.describe"
                )
            )
        reason = why_misplaced(header, self.grid, self.crs)
        if reason:
            raise _Unfit(
                AssetReadError(
                    f"asset {self.asset!r} of item {self.item_id!r} lies elsewhere than its item "
                    f"says: {reason}",
                    cure="correct proj:transform, proj:shape and proj:code in the "
                    'item, leave the item out, or pass on_error="skip" to treat the asset as '
                    f"nodata ({self.href})",
                )
            )
        return header

    def require_numbers(self, pixels: IntArray) -> IntArray:
        """Return digital numbers; raise `AssetReadError` if they were reflectance, cut to 0 or 1.

        The file is looked at only where no number is larger, so that this costs nothing.
        """
        if self.nodata is None or pixels.dtype.kind not in "iu":
            return pixels
        # A few pixels tell most of the time.
        is_large = (pixels[::32, ::32] > 2).any() or (pixels > 2).any()
        if not is_large and has_fractions(self.href):
            raise AssetReadError(
                f"asset {self.asset!r} of item {self.item_id!r} holds fractions, but its metadata "
                f"say {pixels.dtype}, or nothing",
                cure="state data_type, scale and offset of the asset "
                "in raster:bands of the item, or open the file with rioxarray and xh.describe",
            )
        return pixels

    def with_fill(self, pixels: IntArray, fill: int) -> IntArray:
        """Replace this asset's nodata with the common `fill`, in place."""
        if self.nodata is not None and self.nodata != fill:
            pixels[pixels == self.nodata] = fill
        return pixels


@dataclass(frozen=True, kw_only=True)
class ItemAssets:
    """The assets of one item, as the engines need them.

    Attributes
    ----------
    item_id : str
        Of the STAC item.
    time : datetime64
        Of the observation, UTC.
    bounds : (float, float, float, float)
        Left, bottom, right, top of the footprint in the CRS of the target grid.
    assets : mapping of str to AssetRef
        By band name; a band that is not there is read as nodata.
    """

    item_id: str
    time: np.datetime64
    bounds: tuple[float, float, float, float]
    assets: Mapping[str, AssetRef]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What to read, and onto which grid.

    Attributes
    ----------
    names : tuple of str
        Bands, in the order of the result.
    geobox : GeoBox
        Target grid, rows from north to south.
    chunks : tuple of tuple of int
        Dask chunks (time, band, y, x) of the result.
    dtype : numpy dtype
        Integer type of the result; it holds the values of every source.
    fill : int
        Value of missing pixels in the result.
    resampling : str
        GDAL resampling method.
    """

    names: tuple[str, ...]
    geobox: GeoBox
    chunks: Chunks
    dtype: np.dtype[Any]
    fill: int
    resampling: str = "nearest"


def rio_driver() -> Any:
    """Return odc-loader's driver for rasterio, which hands GDAL's options to the workers."""
    return require("odc.loader", extra="stac").RioDriver()
