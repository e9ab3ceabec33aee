"""Where the pixels of a cube lie among the nodes or pixels that angles are given at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xharmonize.cube.geobox import is_same_crs, read_crs
from xharmonize.types import Float64Array

_SAMPLES = 17  # points a side by which an area is placed in another CRS


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """A lattice of nodes.

    Attributes
    ----------
    crs : str
        EPSG code or WKT.
    origin, step : tuple of 2 float
        x and y of the first node, and their distance in x and y, in units of the CRS.
    shape : tuple of 2 int
        Rows and columns.
    """

    crs: str
    origin: tuple[float, float]
    step: tuple[float, float]
    shape: tuple[int, int]

    def positions(
        self, y: Float64Array, x: Float64Array, crs: str
    ) -> tuple[Float64Array, Float64Array]:
        """Rows and columns (y, x) [node] of the pixels of a grid; broadcast where they can be.

        Parameters
        ----------
        y, x : (y,), (x,) float64 array
            Coordinates of pixel centres in `crs`.
        """
        shape = (y.size, x.size)
        if self.has_crs(crs):
            row = (y[:, None] - self.origin[1]) / self.step[1]
            column = (x[None, :] - self.origin[0]) / self.step[0]
            return np.broadcast_to(row, shape), np.broadcast_to(column, shape)
        from pyproj import Transformer

        transformer = Transformer.from_crs(crs, self.crs, always_xy=True)
        own_x, own_y = transformer.transform(*np.meshgrid(x, y))
        return (own_y - self.origin[1]) / self.step[1], (own_x - self.origin[0]) / self.step[0]

    def has_crs(self, crs: str) -> bool:
        """Tell whether the nodes are in a CRS."""
        return self.crs == crs or is_same_crs(read_crs(self.crs), read_crs(crs))

    def meets(self, bounds: tuple[float, float, float, float], crs: str) -> bool:
        """Tell whether the nodes and a box (left, bottom, right, top in `crs`) share ground."""
        left, bottom, right, top = bounds
        y, x = np.linspace(bottom, top, _SAMPLES), np.linspace(left, right, _SAMPLES)
        return all(
            np.isfinite(place).any()
            and np.nanmin(place[np.isfinite(place)]) < size
            and np.nanmax(place[np.isfinite(place)]) > -1
            for place, size in zip(self.positions(y, x, crs), self.shape)
        )
