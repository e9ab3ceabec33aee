"""The ``.harmonize`` accessor: methods that forward to the public functions.

A method takes the arguments of the function of the same name, except the first; a test keeps the
signatures in step. A return type of ``Any`` stands for the type of the cube itself.
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

    from xharmonize._replace import GrowMode, Mode
    from xharmonize.cube.quality import MaskLike
    from xharmonize.cube.regrid import RegridMethod
    from xharmonize.harmonizers import Model
    from xharmonize.harmonizers.nadir import SunZenith
    from xharmonize.io.cog.catalog import CogDtype
    from xharmonize.metrics.inputs import By, Dims
    from xharmonize.metrics.registry import MetricLike
    from xharmonize.models import Runtime
    from xharmonize.series.composite import CompositeHow
    from xharmonize.series.densify import Duplicates
    from xharmonize.series.fields import Coverage, Stat
    from xharmonize.series.observations import Direction
    from xharmonize.series.phenology import PhenologyMethod
    from xharmonize.series.smooth import SmoothMethod, SnowRule
    from xharmonize.series.smoothers import Harmonic, RadialBasis, SavitzkyGolay, Whittaker
    from xharmonize.series.tables import FieldTable


@xr.register_dataarray_accessor("harmonize")  # type: ignore[no-untyped-call]
@xr.register_dataset_accessor("harmonize")  # type: ignore[no-untyped-call]
class HarmonizeAccessor:
    """Methods of a cube (DataArray or Dataset)."""

    def __init__(self, obj: xr.DataArray | xr.Dataset) -> None:
        self._obj: Any = obj

    @property
    def plot(self) -> xh.plot.PlotMethods:
        """Figures: ``cube.harmonize.plot.maps()``; see `xharmonize.plot.PlotMethods`."""
        return xh.plot.PlotMethods(self._obj)

    def to_landsat(
        self,
        model: Model = "hls-v2",
        *,
        like: xr.DataArray | xr.Dataset | None = None,
        resolution: float | None = None,
        platform: str | Mapping[str, str] | None = None,
        tables: xr.Dataset | None = None,
        flags: bool = False,
        uncertainty: bool = False,
        runtime: Runtime | None = None,
    ) -> Any:
        """Convert the cube to the bandpass of Landsat OLI; see `xharmonize.to_landsat`."""
        return xh.to_landsat(
            self._obj,
            model,
            like=like,
            resolution=resolution,
            platform=platform,
            tables=tables,
            flags=flags,
            uncertainty=uncertainty,
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
        uncertainty: bool = False,
        runtime: Runtime | None = None,
    ) -> Any:
        """Convert the cube to the bandpass of Sentinel-2 MSI; see `xharmonize.to_sentinel2`."""
        return xh.to_sentinel2(
            self._obj,
            model,
            like=like,
            resolution=resolution,
            platform=platform,
            tables=tables,
            flags=flags,
            uncertainty=uncertainty,
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
        uncertainty: bool = False,
        runtime: Runtime | None = None,
    ) -> Any:
        """Convert the cube to the bandpass of another sensor; see `xharmonize.to_sensor`."""
        return xh.to_sensor(
            self._obj,
            sensor,
            model,
            like=like,
            resolution=resolution,
            platform=platform,
            tables=tables,
            flags=flags,
            uncertainty=uncertainty,
            runtime=runtime,
        )

    def nbar(self, angles: xr.Dataset | None = None, *, sun_zenith: SunZenith = "hls-v2") -> Any:
        """Normalise to nadir view with the c-factor method; see `xharmonize.nbar`."""
        return xh.nbar(self._obj, angles, sun_zenith=sun_zenith)

    def fit_tables(
        self,
        model: Model,
        *,
        tile: float | None = None,
        interpolate: bool = False,
        min_coverage: float = 0.0,
    ) -> xr.Dataset:
        """Fit look-up tables per tile and date; see `xharmonize.fit_tables`."""
        return xh.fit_tables(
            self._obj, model, tile=tile, interpolate=interpolate, min_coverage=min_coverage
        )

    def regrid(
        self,
        *,
        like: xr.DataArray | xr.Dataset | GeoBox | None = None,
        crs: Any = None,
        resolution: float | None = None,
        how: RegridMethod = "area",
        min_valid: float = 0.5,
        valid_fraction: bool = False,
        shifts: xr.Dataset | None = None,
        psf: float = 0.0,
    ) -> Any:
        """Regrid the cube; see `xharmonize.regrid`."""
        return xh.regrid(
            self._obj,
            like=like,
            crs=crs,
            resolution=resolution,
            how=how,
            min_valid=min_valid,
            valid_fraction=valid_fraction,
            shifts=shifts,
            psf=psf,
        )

    def fit_shifts(
        self,
        *,
        reference: xr.DataArray | xr.Dataset | None = None,
        exclude: Sequence[Any] = (),
        bands: Sequence[str] | None = None,
        max_gap: str | pd.Timedelta = "45D",
        reference_gap: str | pd.Timedelta = "16D",
        neighbours: int = 8,
        min_valid: float = 0.5,
        max_shift: float = 30.0,
        psf: float = 3.0,
        size: int = 512,
    ) -> xr.Dataset:
        """Find by how much the dates are shifted; see `xharmonize.fit_shifts`."""
        return xh.fit_shifts(
            self._obj,
            reference=reference,
            exclude=exclude,
            bands=bands,
            max_gap=max_gap,
            reference_gap=reference_gap,
            neighbours=neighbours,
            min_valid=min_valid,
            max_shift=max_shift,
            psf=psf,
            size=size,
        )

    def shift(self, fit: xr.Dataset, *, like: Any = None) -> Any:
        """Bring the content of each date to its place; see `xharmonize.shift`."""
        return xh.shift(self._obj, fit, like=like)

    def decode(self) -> Any:
        """Decode digital numbers to reflectance; see `xharmonize.decode`."""
        return xh.decode(self._obj)

    def mask(self, mask: MaskLike = "clear") -> xr.Dataset:
        """Mask pixels by their quality flags; see `xharmonize.mask`."""
        return xh.mask(self._obj, mask)

    def check_radiometry(self, *, samples: int = 4096) -> pd.DataFrame:
        """Check pixel values against the contract; see `xharmonize.check_radiometry`."""
        return xh.check_radiometry(self._obj, samples=samples)

    def index(self, name: str = "ndvi") -> Any:
        """Compute a spectral index; see `xharmonize.index`."""
        return xh.index(self._obj, name)

    def densify(
        self,
        *others: xr.DataArray | xr.Dataset,
        model: Model | None = None,
        duplicates: Duplicates = "keep",
        allow_mixed_levels: bool = False,
    ) -> xr.Dataset:
        """Merge with harmonised cubes into one time series; see `xharmonize.densify`."""
        return xh.densify(
            self._obj,
            *others,
            model=model,
            duplicates=duplicates,
            allow_mixed_levels=allow_mixed_levels,
        )

    def to_features(self, *, dates: Sequence[str | np.datetime64] | None = None) -> xr.DataArray:
        """Stack dates and bands as features; see `xharmonize.crops.to_features`."""
        return xh.crops.to_features(self._obj, dates=dates)

    def score(
        self,
        ref: xr.DataArray | xr.Dataset,
        metrics: MetricLike | Sequence[MetricLike] | None = None,
        *,
        dim: Dims = None,
        data_range: float | None = 1.0,
        by: By = None,
        per_band: bool = True,
        baseline: xr.DataArray | xr.Dataset | None = None,
    ) -> xr.Dataset:
        """Score the cube against a reference; see `xharmonize.score`."""
        return xh.score(
            self._obj,
            ref,
            metrics,
            dim=dim,
            data_range=data_range,
            by=by,
            per_band=per_band,
            baseline=baseline,
        )

    def statistics(
        self,
        ref: xr.DataArray | xr.Dataset,
        metrics: MetricLike | Sequence[MetricLike] | None = None,
        *,
        dim: Dims = None,
        data_range: float | None = 1.0,
        by: By = None,
        baseline: xr.DataArray | xr.Dataset | None = None,
    ) -> xr.Dataset:
        """Compute mergeable statistics for metrics; see `xharmonize.metrics.statistics`."""
        return xh.metrics.statistics(
            self._obj, ref, metrics, dim=dim, data_range=data_range, by=by, baseline=baseline
        )

    def confusion_matrix(
        self, ref: xr.DataArray, classes: Sequence[Any] | None = None
    ) -> xr.DataArray:
        """Compute a confusion matrix; see `xharmonize.metrics.confusion_matrix`."""
        return xh.metrics.confusion_matrix(self._obj, ref, classes)

    def composite(self, period: str = "10D", *, how: CompositeHow = "median") -> Any:
        """Composite the observations of each period; see `xharmonize.composite`."""
        return xh.composite(self._obj, period, how=how)

    def smooth(
        self,
        method: SmoothMethod | Whittaker | SavitzkyGolay | Harmonic | RadialBasis = "whittaker",
        *,
        step: str | None = None,
        max_gap: float = 60.0,
        envelope: float | None = None,
        snow: SnowRule = "gap",
        uncertainty: bool | None = None,
    ) -> Any:
        """Smooth each pixel's series and fill its gaps; see `xharmonize.smooth`."""
        return xh.smooth(
            self._obj,
            method,
            step=step,
            max_gap=max_gap,
            envelope=envelope,
            snow=snow,
            uncertainty=uncertainty,
        )

    def phenology(
        self,
        *,
        method: PhenologyMethod = "threshold",
        threshold: float = 0.2,
        year_start: str = "01-01",
        reach: float = 240.0,
        min_amplitude: float = 0.1,
    ) -> xr.Dataset:
        """Find the start, peak and end of seasons; see `xharmonize.phenology`."""
        return xh.phenology(
            self._obj,
            method=method,
            threshold=threshold,
            year_start=year_start,
            reach=reach,
            min_amplitude=min_amplitude,
        )

    def screen_outliers(
        self,
        *,
        threshold: float = 4.0,
        min_departure: float = 0.1,
        max_gap: float = 60.0,
        direction: Direction = "both",
        mask: bool = True,
    ) -> Any:
        """Mask or flag outliers in time; see `xharmonize.screen_outliers`."""
        return xh.screen_outliers(
            self._obj,
            threshold=threshold,
            min_departure=min_departure,
            max_gap=max_gap,
            direction=direction,
            mask=mask,
        )

    def sensor_offsets(
        self, *, reference: str | None = None, max_gap: float = 16.0, min_valid: float = 0.1
    ) -> xr.Dataset:
        """Estimate offsets between sensors; see `xharmonize.series.sensor_offsets`."""
        return xh.series.sensor_offsets(
            self._obj, reference=reference, max_gap=max_gap, min_valid=min_valid
        )

    def frequency(self, *, levels: Sequence[float] = (0.0, 0.5, 0.8, 0.9)) -> xr.Dataset:
        """Count scenes per month, map revisit and gaps; see `xharmonize.series.frequency`."""
        return xh.series.frequency(self._obj, levels=levels)

    def compare_tiles(self, other: xr.DataArray | xr.Dataset) -> xr.Dataset:
        """Compare with an overlapping tile; see `xharmonize.series.compare_tiles`."""
        return xh.series.compare_tiles(self._obj, other)

    def to_table(
        self,
        polygons: Any,
        *,
        stat: Stat = "mean",
        min_valid: float = 0.5,
        buffer: float = 0.0,
        coverage: Coverage = "centre",
        name: str | None = None,
        crs: Any = None,
        path: str | Path | None = None,
        mode: Mode = "w-",
    ) -> FieldTable:
        """Compute field statistics as a table; see `xharmonize.to_table`."""
        return xh.to_table(
            self._obj,
            polygons,
            stat=stat,
            min_valid=min_valid,
            buffer=buffer,
            coverage=coverage,
            name=name,
            crs=crs,
            path=path,
            mode=mode,
        )

    def to_zarr(self, path: Any, *, mode: GrowMode = "w-", tile: int | None = None) -> Any:
        """Write a Zarr v3 store; see `xharmonize.to_zarr`."""
        return xh.to_zarr(self._obj, path, mode=mode, tile=tile)

    def to_cogs(
        self,
        path: str | Path,
        *,
        collection: str | None = None,
        dtype: CogDtype | None = None,
        styles: bool = True,
        mode: GrowMode = "w-",
    ) -> Path:
        """Write COGs with STAC items; see `xharmonize.to_cogs`."""
        return xh.to_cogs(
            self._obj, path, collection=collection, dtype=dtype, styles=styles, mode=mode
        )

    def write_report(
        self,
        path: str | Path,
        *,
        ref: xr.DataArray | xr.Dataset | None = None,
        source: xr.DataArray | xr.Dataset | None = None,
        tolerance: str = "2D",
        title: str = "",
        notes: Sequence[str] = (),
        mode: Mode = "w-",
    ) -> Path:
        """Write an HTML report on the cube; see `xharmonize.write_report`."""
        return xh.write_report(
            self._obj,
            path,
            ref=ref,
            source=source,
            tolerance=tolerance,
            title=title,
            notes=notes,
            mode=mode,
        )
