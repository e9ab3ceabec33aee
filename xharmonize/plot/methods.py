"""Figures as methods of a cube: ``cube.harmonize.plot.scatter(ref)``.

A method takes the arguments of the function of the same name, except the first; a test keeps the
signatures in step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

from xharmonize import plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from xharmonize.plot.images import Cube, Stretch


class PlotMethods:
    """Figures of a cube, series, fit or table of losses."""

    def __init__(self, obj: xr.DataArray | xr.Dataset) -> None:
        self._obj: Any = obj

    def maps(
        self,
        *others: Cube,
        time: int | str = 0,
        bands: Sequence[str] | str | None = None,
        stretch: Stretch | None = None,
        titles: Sequence[str] | None = None,
    ) -> Figure:
        """Plot one date beside other cubes; see `xharmonize.plot.maps`."""
        return plot.maps(self._obj, *others, time=time, bands=bands, stretch=stretch, titles=titles)

    def errors(
        self,
        ref: xr.DataArray | xr.Dataset,
        *,
        time: int | str | None = None,
        bands: Sequence[str] | str | None = None,
        limit: float | None = None,
        title: str = "",
    ) -> Figure:
        """Plot maps of the errors against a reference; see `xharmonize.plot.errors`."""
        return plot.errors(self._obj, ref, time=time, bands=bands, limit=limit, title=title)

    def scatter(
        self,
        ref: xr.DataArray | xr.Dataset,
        *,
        bands: Sequence[str] | str | None = None,
        limits: tuple[float, float] | None = None,
        bins: int | None = None,
        title: str = "",
    ) -> Figure:
        """Plot a density scatter plot against a reference; see `xharmonize.plot.scatter`."""
        return plot.scatter(self._obj, ref, bands=bands, limits=limits, bins=bins, title=title)

    def series(
        self,
        *,
        x: float | None = None,
        y: float | None = None,
        field: xr.DataArray | None = None,
        band: str | None = None,
        truth: xr.DataArray | None = None,
        smoothed: xr.DataArray | xr.Dataset | None = None,
        title: str = "",
    ) -> Figure:
        """Plot the time series of a point or field; see `xharmonize.plot.series`."""
        return plot.series(
            self._obj,
            x=x,
            y=y,
            field=field,
            band=band,
            truth=truth,
            smoothed=smoothed,
            title=title,
        )

    def timeline(self, *others: xr.DataArray | xr.Dataset, title: str = "") -> Figure:
        """Plot the acquisition dates; see `xharmonize.plot.timeline`."""
        return plot.timeline(self._obj, *others, title=title)

    def frequency(self, *, reference: str | None = None, title: str = "") -> Figure:
        """Plot the number of observed days per month; see `xharmonize.plot.frequency`."""
        return plot.frequency(self._obj, reference=reference, title=title)

    def tables(self, *, title: str = "") -> Figure:
        """Plot the look-up tables of a fit; see `xharmonize.plot.tables`."""
        return plot.tables(self._obj, title=title)

    def training(self, *, title: str = "") -> Figure:
        """Plot losses per epoch; see `xharmonize.plot.training`."""
        return plot.training(self._obj, title=title)
