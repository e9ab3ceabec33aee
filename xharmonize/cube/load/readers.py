"""Readers that name what they could not read, one for each engine.

The engines' own readers do the reading; these hand them an asset, know which item it belongs to,
and turn a failure into `AssetReadError` or into pixels marked as failed. They are picklable, so
they work with any Dask scheduler, and free of rasterio until something is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from xharmonize.cube.catalog.access import DRIVERS
from xharmonize.cube.catalog.scene import Grid
from xharmonize.cube.load.files import (
    Header,
    has_fractions,
    is_read_alike,
    read_header,
    read_pixels,
    why_misplaced,
)
from xharmonize.cube.load.guard import guarded
from xharmonize.errors import AssetReadError
from xharmonize.types import IntArray

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


class _Unfit(Exception):
    """A file that opens, and is not what its item says."""

    def __init__(self, error: AssetReadError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, kw_only=True)
class AssetRef:
    """An asset in a graph: where it is, whose it is, and what its missing pixels hold.

    Attributes
    ----------
    href : str
        Absolute location, signed where it has to be.
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
            f'{reason}; leave the item out, or pass on_error="skip" to treat it as nodata'
        )

    def read(
        self,
        plain: Callable[[], IntArray],
        geobox: Callable[[], GeoBox],
        *,
        resampling: str,
        dtype: np.dtype[Any],
        fill: int,
    ) -> IntArray:
        """Read the asset onto a grid.

        Parameters
        ----------
        plain : callable
            Reads by an engine, what every engine reads alike.
        geobox : callable
            Returns the grid.
        fill : int
            Value of missing pixels.

        Returns
        -------
        IntArray
            `fill` where missing; `failed` everywhere where the asset cannot be read, or is not
            what its item says, and failures are skipped.
        """
        from rasterio.errors import RasterioError

        try:
            with guarded(self.href, self.drivers):
                header = self._header()
                if is_read_alike(header, geobox()):
                    pixels = plain()
                else:
                    pixels = read_pixels(
                        self.href,
                        header,
                        geobox(),
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
        return np.full(geobox().shape.yx, self.failed, dtype)

    def _header(self) -> Header:
        """Return the header of the file, if it is what the item says."""
        header = read_header(self.href)
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
                    f"says: {reason}; correct proj:transform, proj:shape and proj:code in the "
                    'item, leave the item out, or pass on_error="skip" to treat the asset as '
                    f"nodata ({self.href})"
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
                f"say {pixels.dtype}, or nothing; state data_type, scale and offset of the asset "
                "in raster:bands of the item, or open the file with rioxarray and xh.describe"
            )
        return pixels

    def with_fill(self, pixels: IntArray, fill: int) -> IntArray:
        """Replace this asset's nodata with the common `fill`, in place."""
        if self.nodata is not None and self.nodata != fill:
            pixels[pixels == self.nodata] = fill
        return pixels


class NamingReader:
    """Reader for ``stackstac.stack(reader=...)``; takes an `AssetRef` where a URL is expected."""

    def __init__(self, *, url: AssetRef, **options: Any) -> None:
        self.ref = url
        self.options = options
        self._reader: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return (_naming_reader, (self.ref, self.options))

    def read(self, window: Any, **options: Any) -> IntArray:
        """Read a window; see `AssetRef` for what happens on failure."""
        return self.ref.read(
            partial(self._read, window, options),
            partial(self._geobox, window),
            resampling=self.options["resampling"].name,
            dtype=self.options["dtype"],
            fill=int(self.options["fill_value"]),
        )

    def _read(self, window: Any, options: Mapping[str, Any]) -> IntArray:
        if self._reader is None:
            from stackstac.rio_reader import AutoParallelRioReader

            self._reader = AutoParallelRioReader(url=self.ref.href, **self.options)
        pixels = self._read_plain(window)
        read: IntArray = self._reader.read(window, **options) if pixels is None else pixels
        return read

    def _geobox(self, window: Any) -> GeoBox:
        from odc.geo.geobox import GeoBox

        spec = self.options["spec"]
        affine = spec.transform * spec.transform.translation(window.col_off, window.row_off)
        return GeoBox((int(window.height), int(window.width)), affine, f"EPSG:{spec.epsg}")

    def _read_plain(self, window: Any) -> IntArray | None:
        """Read without the mask that stackstac always reads, where nodata says all it would."""
        from rasterio.enums import MaskFlags
        from stackstac.rio_reader import ThreadLocalRioDataset

        handle = self._reader.dataset
        if not isinstance(handle, ThreadLocalRioDataset) or self.options["dtype"].kind == "f":
            return None
        file = handle.dataset
        if file.count > 1 or file.mask_flag_enums[0] not in (
            [MaskFlags.nodata],
            [MaskFlags.all_valid],
        ):
            return None
        pixels: IntArray = handle.read(window, indexes=1, out_dtype=self.options["dtype"])
        fill = self.options["fill_value"]
        if file.nodata is not None and file.nodata != fill:
            pixels[pixels == file.nodata] = fill
        return pixels

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        if self._reader is not None:
            self._reader.close()


def _naming_reader(ref: AssetRef, options: dict[str, Any]) -> NamingReader:
    return NamingReader(url=ref, **options)


class _NamingOdcReader:
    def __init__(self, reader: Any, ref: AssetRef) -> None:
        self.reader = reader
        self.ref = ref

    def read(
        self, cfg: Any, dst_geobox: Any, *, dst: Any = None, selection: Any = None
    ) -> tuple[tuple[slice, slice], IntArray]:
        n_y, n_x = dst_geobox.shape.yx
        place = [(slice(0, n_y), slice(0, n_x))]

        def plain() -> IntArray:
            place[0], pixels = self.reader.read(cfg, dst_geobox, dst=dst, selection=selection)
            return np.asarray(pixels)

        pixels = self.ref.read(
            plain,
            lambda: dst_geobox,
            resampling=cfg.resampling,
            dtype=np.dtype(cfg.dtype),
            fill=int(cfg.fill_value),
        )
        return place[0], pixels


@dataclass(frozen=True, kw_only=True)
class NamingDriver:
    """Driver for ``odc.stac.load(driver=...)``: rasterio's, with assets named in errors.

    Attributes
    ----------
    names : tuple of str
        Bands to load.
    dtype : str
        Type of the pixels.
    fill : int
        Value of missing pixels.
    token : str
        Identifies the assets; odc-stac tokenises only their locations.
    """

    KEY: ClassVar[str] = "xharmonize:asset"

    names: tuple[str, ...]
    dtype: str
    fill: int
    token: str

    def extract(self, md: Any) -> Any:
        """Describe the bands of an item (odc's `MDParser` protocol)."""
        from odc.loader.types import RasterBandMetadata, RasterGroupMetadata

        band = RasterBandMetadata(self.dtype, self.fill, "1", attrs={"token": self.token})
        return RasterGroupMetadata(bands={(name, 1): band for name in self.names if md})

    def driver_data(self, md: Any, band_key: tuple[str, int]) -> Any:
        """Return the `AssetRef` of a band (odc's `MDParser` protocol)."""
        asset = md.assets.get(band_key[0])
        return None if asset is None else asset.extra_fields[self.KEY]

    @property
    def md_parser(self) -> NamingDriver:
        """Metadata parser: the driver itself."""
        return self

    @property
    def dask_reader(self) -> None:
        """No reader that makes Dask graphs."""
        return

    @property
    def aux_reader(self) -> None:
        """No reader of auxiliary data."""
        return

    def new_load(self, geobox: Any, *, chunks: Mapping[str, int] | None = None) -> Any:
        """Start a load."""
        return _rio_driver().new_load(geobox, chunks=chunks)

    def finalise_load(self, load_state: Any) -> Any:
        """End a load."""
        return _rio_driver().finalise_load(load_state)

    def capture_env(self) -> dict[str, Any]:
        """Return the GDAL options in force."""
        options: dict[str, Any] = _rio_driver().capture_env()
        return options

    def restore_env(self, env: dict[str, Any], load_state: Any) -> AbstractContextManager[Any]:
        """Set GDAL options in a worker."""
        context: AbstractContextManager[Any] = _rio_driver().restore_env(env, load_state)
        return context

    def open(self, src: Any, ctx: Any) -> _NamingOdcReader:
        """Return the reader of one asset."""
        return _NamingOdcReader(_rio_driver().open(src, ctx), src.driver_data)


def _rio_driver() -> Any:
    from odc.loader import RioDriver

    return RioDriver()
