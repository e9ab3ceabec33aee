"""The ``.harmonize`` accessor: methods that forward to the public functions.

A method takes the arguments of the function of the same name, except the first, and shows its
docstring and signature. xarray makes one accessor a cube and keeps it.
"""

from __future__ import annotations

from typing import Any

import xarray as xr

import xharmonize as xh
from xharmonize.options import Method, show_methods


@xr.register_dataarray_accessor("harmonize")  # type: ignore[no-untyped-call]
@xr.register_dataset_accessor("harmonize")  # type: ignore[no-untyped-call]
class HarmonizeAccessor:
    """Methods of a cube (DataArray or Dataset)."""

    def __init__(self, obj: xr.DataArray | xr.Dataset) -> None:
        self._obj: Any = obj

    def __repr__(self) -> str:
        """Return the size of the cube, and what can be done with it."""
        size = " × ".join(f"{n} {name}" for name, n in self._obj.sizes.items())
        title = f"<.harmonize> of a cube of {size}; .plot draws figures"
        return show_methods(self, title)

    @property
    def plot(self) -> xh.plot.PlotMethods:
        """Figures: ``cube.harmonize.plot.maps()``; see `xharmonize.plot.PlotMethods`."""
        return xh.plot.PlotMethods(self._obj)

    # Functions are named in lambdas: they are loaded when first used.
    to_landsat = Method(lambda: xh.to_landsat)
    to_sentinel2 = Method(lambda: xh.to_sentinel2)
    to_sensor = Method(lambda: xh.to_sensor)
    nbar = Method(lambda: xh.nbar)
    fit_tables = Method(lambda: xh.harmonizers.fit_tables)

    regrid = Method(lambda: xh.regrid)
    fit_shifts = Method(lambda: xh.fit_shifts)
    shift = Method(lambda: xh.shift)
    decode = Method(lambda: xh.decode)
    mask = Method(lambda: xh.mask)
    clip = Method(lambda: xh.clip)
    check_radiometry = Method(lambda: xh.check_radiometry)
    index = Method(lambda: xh.index)

    sharpen = Method(lambda: xh.sharpen)
    fill_clouds = Method(lambda: xh.fill_clouds)
    to_decibels = Method(lambda: xh.fusion.radar.to_decibels)
    to_power = Method(lambda: xh.fusion.radar.to_power)
    filter_speckle = Method(lambda: xh.fusion.radar.filter_speckle)

    densify = Method(lambda: xh.densify)
    composite = Method(lambda: xh.series.composite)
    smooth = Method(lambda: xh.series.smooth)
    phenology = Method(lambda: xh.series.phenology)
    screen_outliers = Method(lambda: xh.series.screen_outliers)
    sensor_offsets = Method(lambda: xh.series.sensor_offsets)
    frequency = Method(lambda: xh.series.frequency)
    compare_tiles = Method(lambda: xh.series.compare_tiles)
    to_features = Method(lambda: xh.crops.to_features)

    score = Method(lambda: xh.score)
    statistics = Method(lambda: xh.metrics.statistics)
    confusion_matrix = Method(lambda: xh.metrics.confusion_matrix)

    to_table = Method(lambda: xh.series.to_table)
    to_zarr = Method(lambda: xh.to_zarr)
    to_cogs = Method(lambda: xh.to_cogs)
    write_report = Method(lambda: xh.write_report)
