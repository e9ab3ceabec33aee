"""Readers that name what they could not read, one for each engine.

The engines' own readers do the reading; these hand them an asset, know which item it belongs to,
and turn a failure into `AssetReadError` or into pixels marked as failed. They are picklable, so
they work with any Dask scheduler, and free of rasterio until something is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from xharmonize.cube.catalog.access import DRIVERS
from xharmonize.cube.load.guard import guarded, open_allowed
from xharmonize.errors import AssetReadError
from xharmonize.types import IntArray


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
    drivers : tuple of str
        GDAL drivers that may read it.
    """

    href: str
    item_id: str
    asset: str
    nodata: int | None = None
    failed: int | None = None
    drivers: tuple[str, ...] = DRIVERS

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (self.href, self.item_id, self.asset, self.nodata, self.failed, self.drivers)

    def __lt__(self, other: AssetRef) -> bool:
        """Order by item and asset, so that mappings of assets have one token."""
        return (self.item_id, self.asset) < (other.item_id, other.asset)

    def error(self, reason: str) -> AssetReadError:
        """Return the error that names the asset."""
        return AssetReadError(
            f"asset {self.asset!r} of item {self.item_id!r} cannot be read from {self.href}: "
            f'{reason}; leave the item out, or pass on_error="skip" to treat it as nodata'
        )

    def require_numbers(self, pixels: IntArray) -> IntArray:
        """Return digital numbers; raise `AssetReadError` if they were reflectance, cut to 0 or 1.

        The file is looked at only where no number is larger, so that this costs nothing.
        """
        if self.nodata is None or pixels.dtype.kind not in "iu":
            return pixels
        # A few pixels tell most of the time.
        is_large = (pixels[::32, ::32] > 2).any() or (pixels > 2).any()
        if not is_large and _has_fractions(self.href, self.drivers):
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
        from rasterio.errors import RasterioError

        fill = int(self.options["fill_value"])
        if self._reader is None:
            from stackstac.rio_reader import AutoParallelRioReader

            self._reader = AutoParallelRioReader(url=self.ref.href, **self.options)
        try:
            with guarded(self.ref.href, self.ref.drivers):
                pixels = self._read_plain(window)
                if pixels is None:
                    pixels = self._reader.read(window, **options)
            return self.ref.with_fill(self.ref.require_numbers(pixels), fill)
        except AssetReadError:
            raise
        except (RuntimeError, OSError, RasterioError) as cause:
            reason = str(cause.__cause__ or cause)
        # Raised outside: rasterio's errors, if chained, do not survive the way from a worker.
        if self.ref.failed is None:
            raise self.ref.error(reason)
        shape = (int(window.height), int(window.width))
        return np.full(shape, self.ref.failed, self.options["dtype"])

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
        from rasterio.errors import RasterioError

        try:
            with guarded(self.ref.href, self.ref.drivers):
                roi, pixels = self.reader.read(cfg, dst_geobox, dst=dst, selection=selection)
            return roi, self.ref.with_fill(self.ref.require_numbers(pixels), int(cfg.fill_value))
        except AssetReadError:
            raise
        except (RuntimeError, OSError, RasterioError) as cause:
            reason = str(cause)
        if self.ref.failed is None:
            raise self.ref.error(reason)
        n_y, n_x = dst_geobox.shape.yx
        whole = (slice(0, n_y), slice(0, n_x))
        return whole, np.full((n_y, n_x), self.ref.failed, cfg.dtype)


@lru_cache(maxsize=4096)  # an asset is read chunk by chunk
def _has_fractions(href: str, drivers: tuple[str, ...]) -> bool:
    """Tell whether a file holds floats that are no whole numbers, from at most 256 a side."""
    with guarded(href, drivers), open_allowed(href, drivers) as file:
        if np.dtype(file.dtypes[0]).kind != "f":
            return False
        sample = file.read(1, out_shape=(min(256, file.height), min(256, file.width)))
    return bool((sample[np.isfinite(sample)] % 1 != 0).any())


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
