"""Figures as methods of a cube: ``cube.harmonize.plot.scatter(reference)``.

A method takes the arguments of the function of the same name, except the first, and shows its
docstring and signature.
"""

from __future__ import annotations

from typing import Any

import xarray as xr

from xharmonize import plot
from xharmonize.options import Method, show_methods


class PlotMethods:
    """Figures of a cube, series, fit or table of losses."""

    def __init__(self, obj: xr.DataArray | xr.Dataset) -> None:
        self._obj: Any = obj

    def __repr__(self) -> str:
        """Return what can be drawn."""
        return show_methods(self, "<.harmonize.plot>")

    maps = Method(lambda: plot.maps)
    errors = Method(lambda: plot.errors)
    scatter = Method(lambda: plot.scatter)
    series = Method(lambda: plot.series)
    timeline = Method(lambda: plot.timeline)
    frequency = Method(lambda: plot.frequency)
    shifts = Method(lambda: plot.shifts)
    tables = Method(lambda: plot.tables)
    training = Method(lambda: plot.training)
    values = Method(lambda: plot.values)
