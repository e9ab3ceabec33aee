"""The ``.harmonize`` accessor: one typed line a method, forwarding to the public functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import xarray as xr

import xharmonize as xh

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from xharmonize.cube.grid import RegridMethod
    from xharmonize.cube.masks import Mask
    from xharmonize.harmonizers import Model


Cube = TypeVar("Cube", xr.DataArray, xr.Dataset)


class HarmonizeAccessor(Generic[Cube]):
    """Methods on cubes; each forwards to the function of the same name in `xharmonize`."""

    def __init__(self, obj: Cube) -> None:
        self._obj = obj

    def to_landsat(
        self,
        model: Model = "hls-v2",
        *,
        like: xr.DataArray | xr.Dataset | None = None,
        resolution: float | None = None,
        platform: str | Mapping[str, str] | None = None,
    ) -> Cube:
        """Give the cube Landsat OLI's bandpass; see `xharmonize.to_landsat`."""
        return xh.to_landsat(
            self._obj, model, like=like, resolution=resolution, platform=platform
        )

    def to_sentinel2(
        self,
        model: Model = "hls-v2",
        *,
        like: xr.DataArray | xr.Dataset | None = None,
        resolution: float | None = None,
        platform: str | Mapping[str, str] | None = None,
    ) -> Cube:
        """Give the cube Sentinel-2A MSI's bandpass; see `xharmonize.to_sentinel2`."""
        return xh.to_sentinel2(
            self._obj, model, like=like, resolution=resolution, platform=platform
        )

    def to_sensor(
        self,
        sensor: str,
        model: Model,
        *,
        like: xr.DataArray | xr.Dataset | None = None,
        resolution: float | None = None,
        platform: str | Mapping[str, str] | None = None,
    ) -> Cube:
        """Give the cube another sensor's bandpass; see `xharmonize.to_sensor`."""
        return xh.to_sensor(
            self._obj, sensor, model, like=like, resolution=resolution, platform=platform
        )

    def nbar(
        self,
        angles: xr.Dataset | None = None,
        *,
        sun_zenith: Literal["hls-v2", "observed"] = "hls-v2",
    ) -> Cube:
        """Normalise to nadir view by the c-factor; see `xharmonize.nbar`."""
        return xh.nbar(self._obj, angles, sun_zenith=sun_zenith)

    def regrid(
        self,
        *,
        like: xr.DataArray | xr.Dataset | None = None,
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

    def decode(self) -> Cube:
        """Turn digital numbers into reflectance; see `xharmonize.decode`."""
        return xh.decode(self._obj)

    def mask(self, mask: str | Sequence[str] | Mask = "clear") -> Cube:
        """Remove pixels by their quality flags; see `xharmonize.mask`."""
        return xh.mask(self._obj, mask)

    def check_radiometry(self) -> pd.DataFrame:
        """Compare pixels with the contract; see `xharmonize.check_radiometry`."""
        return xh.check_radiometry(self._obj)

    def index(self, name: str = "ndvi") -> Cube:
        """Compute a spectral index; see `xharmonize.index`."""
        return xh.index(self._obj, name)

    def densify(self, *others: xr.DataArray | xr.Dataset) -> xr.Dataset:
        """Merge with harmonised cubes into one series; see `xharmonize.densify`."""
        return xh.densify(self._obj, *others)

    def to_zarr(self, path: str | Path, *, mode: Literal["w", "upsert"] = "w") -> Any:
        """Write a Zarr v3 store; see `xharmonize.to_zarr`."""
        return xh.to_zarr(self._obj, path, mode=mode)

    def to_cogs(self, path: str | Path) -> Any:
        """Write COGs with STAC items; see `xharmonize.to_cogs`."""
        return xh.to_cogs(self._obj, path)


@xr.register_dataarray_accessor("harmonize")
class DataArrayHarmonizeAccessor(HarmonizeAccessor[xr.DataArray]):
    """``.harmonize`` of a DataArray."""


@xr.register_dataset_accessor("harmonize")
class DatasetHarmonizeAccessor(HarmonizeAccessor[xr.Dataset]):
    """``.harmonize`` of a Dataset."""
