"""The ``.harmonize`` accessor: one line a method, forwarding to the public functions.

A method takes what the function of the same name takes after its first argument; a test holds the
signatures together. What is said as ``Any`` here is the type of the cube itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

import xharmonize as xh

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pandas as pd
    from odc.geo.geobox import GeoBox

    from xharmonize.cube.cog.write import CogDtype
    from xharmonize.cube.grid import RegridMethod
    from xharmonize.cube.quality import MaskLike
    from xharmonize.cube.store.zarr import WriteMode
    from xharmonize.harmonizers import Model
    from xharmonize.harmonizers.nadir import SunZenith
    from xharmonize.models import Runtime
    from xharmonize.series.densify import Duplicates


@xr.register_dataarray_accessor("harmonize")  # type: ignore[no-untyped-call]
@xr.register_dataset_accessor("harmonize")  # type: ignore[no-untyped-call]
class HarmonizeAccessor:
    """Methods on cubes (DataArray or Dataset)."""

    def __init__(self, obj: xr.DataArray | xr.Dataset) -> None:
        self._obj: Any = obj

    def to_landsat(
        self,
        model: Model = "hls-v2",
        *,
        like: xr.DataArray | xr.Dataset | None = None,
        resolution: float | None = None,
        platform: str | Mapping[str, str] | None = None,
        tables: xr.Dataset | None = None,
        flags: bool = False,
        runtime: Runtime | None = None,
    ) -> Any:
        """Give the cube Landsat OLI's bandpass; see `xharmonize.to_landsat`."""
        return xh.to_landsat(
            self._obj,
            model,
            like=like,
            resolution=resolution,
            platform=platform,
            tables=tables,
            flags=flags,
            runtime=runtime,
        )

    def to_sentinel2(
        self,
        model: Model = "hls-v2",
        *,
        like: xr.DataArray | xr.Dataset | None = None,
        resolution: float | None = None,
        platform: str | Mapping[str, str] | None = None,
        tables: xr.Dataset | None = None,
        flags: bool = False,
        runtime: Runtime | None = None,
    ) -> Any:
        """Give the cube Sentinel-2 MSI's bandpass; see `xharmonize.to_sentinel2`."""
        return xh.to_sentinel2(
            self._obj,
            model,
            like=like,
            resolution=resolution,
            platform=platform,
            tables=tables,
            flags=flags,
            runtime=runtime,
        )

    def to_sensor(
        self,
        sensor: str,
        model: Model,
        *,
        like: xr.DataArray | xr.Dataset | None = None,
        resolution: float | None = None,
        platform: str | Mapping[str, str] | None = None,
        tables: xr.Dataset | None = None,
        flags: bool = False,
        runtime: Runtime | None = None,
    ) -> Any:
        """Give the cube another sensor's bandpass; see `xharmonize.to_sensor`."""
        return xh.to_sensor(
            self._obj,
            sensor,
            model,
            like=like,
            resolution=resolution,
            platform=platform,
            tables=tables,
            flags=flags,
            runtime=runtime,
        )

    def nbar(self, angles: xr.Dataset | None = None, *, sun_zenith: SunZenith = "hls-v2") -> Any:
        """Normalise to nadir view by the c-factor; see `xharmonize.nbar`."""
        return xh.nbar(self._obj, angles, sun_zenith=sun_zenith)

    def regrid(
        self,
        *,
        like: xr.DataArray | xr.Dataset | GeoBox | None = None,
        crs: Any = None,
        resolution: float | None = None,
        how: RegridMethod = "area",
        min_valid: float = 0.5,
        valid_fraction: bool = False,
    ) -> Any:
        """Put the cube on another grid; see `xharmonize.regrid`."""
        return xh.regrid(
            self._obj,
            like=like,
            crs=crs,
            resolution=resolution,
            how=how,
            min_valid=min_valid,
            valid_fraction=valid_fraction,
        )

    def decode(self) -> Any:
        """Turn digital numbers into reflectance; see `xharmonize.decode`."""
        return xh.decode(self._obj)

    def mask(self, mask: MaskLike = "clear") -> xr.Dataset:
        """Remove pixels by their quality flags; see `xharmonize.mask`."""
        return xh.mask(self._obj, mask)

    def check_radiometry(self, *, samples: int = 4096) -> pd.DataFrame:
        """Compare pixels with the contract; see `xharmonize.check_radiometry`."""
        return xh.check_radiometry(self._obj, samples=samples)

    def index(self, name: str = "ndvi") -> Any:
        """Compute a spectral index; see `xharmonize.index`."""
        return xh.index(self._obj, name)

    def densify(
        self,
        *others: xr.DataArray | xr.Dataset,
        duplicates: Duplicates = "keep",
        allow_mixed_levels: bool = False,
    ) -> xr.Dataset:
        """Merge with harmonised cubes into one series; see `xharmonize.densify`."""
        return xh.densify(
            self._obj, *others, duplicates=duplicates, allow_mixed_levels=allow_mixed_levels
        )

    def to_features(self, *, dates: Sequence[str | np.datetime64] | None = None) -> xr.DataArray:
        """Lay dates and bands behind one another; see `xharmonize.to_features`."""
        return xh.to_features(self._obj, dates=dates)

    def to_zarr(self, path: str | Path, *, mode: WriteMode = "w", tile: int | None = None) -> Path:
        """Write a Zarr v3 store; see `xharmonize.to_zarr`."""
        return xh.to_zarr(self._obj, path, mode=mode, tile=tile)

    def to_cogs(
        self,
        path: str | Path,
        *,
        collection: str | None = None,
        dtype: CogDtype | None = None,
    ) -> Path:
        """Write COGs with STAC items; see `xharmonize.to_cogs`."""
        return xh.to_cogs(self._obj, path, collection=collection, dtype=dtype)
