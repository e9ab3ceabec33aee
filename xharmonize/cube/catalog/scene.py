"""A settled item: what `read_scenes` hands to the engines."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from xharmonize.cube.catalog.access import DRIVERS
from xharmonize.cube.contract import Step
from xharmonize.sensors.spec import Sensor

if TYPE_CHECKING:
    from xharmonize.cube.catalog.items import Item


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Pixel grid of an asset, as its metadata states it.

    Attributes
    ----------
    transform : tuple of 6 float
        ``(a, b, c, d, e, f)`` with x = a·column + b·row + c, y = d·column + e·row + f, at pixel
        corners, in the units of the CRS.
    shape : tuple of int
        Rows and columns.
    is_shared : bool
        Stated for the item as a whole: assets may divide the same area into other pixels.
    """

    transform: tuple[float, float, float, float, float, float]
    shape: tuple[int, int]
    is_shared: bool = False

    @property
    def corners(self) -> tuple[tuple[float, float], ...]:
        """Coordinates (x, y) of the four corners, the first row's before the last row's."""
        a, b, left, d, e, top = self.transform
        rows, columns = self.shape
        ends = ((0, 0), (0, columns), (rows, 0), (rows, columns))
        return tuple((left + a * c + b * r, top + d * c + e * r) for r, c in ends)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top of the box around the grid."""
        xs, ys = zip(*self.corners)
        return (min(xs), min(ys), max(xs), max(ys))


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One STAC item whose numbers and place are settled; no pixel has been read.

    Attributes
    ----------
    id : str
        Item id.
    item : dict
        The item in the shape of STAC 1.0 (`xharmonize.cube.catalog.items.normalize_item`).
    datetime : numpy.datetime64
        Sensing time [ns, UTC].
    sensor : Sensor
        The product.
    step : Step
        Contract of the time step: scale, offset and nodata per spectral band found.
    assets : mapping of str to str
        Cube band name or name of a quality layer → asset key.
    crs : str
        ``EPSG:32631``, or WKT; empty where the item does not say.
    grids : mapping of str to Grid
        By the keys of `assets`, where the metadata tells.
    solar_day : datetime.date
        Date of the local mean solar time at the item's centre.
    datatake : str
        Names the pass: items of one datatake were seen within one overflight.
    datastrip : str
        Part of a granule that a ground station delivered in two; empty where there is one.
    tile : str
        MGRS tile, Landsat path and row, or ``"unknown"``.
    units : str
        Unit of DN * scale + offset: ``"1"``, ``"dB"``.
    center : tuple of float
        Longitude and latitude of the item's centre [degrees]; NaN where it does not say.
    dtypes : mapping of str to str
        Data type by the keys of `assets`, where the metadata tells.
    drivers : tuple of str
        GDAL drivers that may read the assets.
    """

    id: str
    item: Item
    datetime: np.datetime64
    sensor: Sensor
    step: Step
    assets: Mapping[str, str]
    crs: str
    grids: Mapping[str, Grid]
    solar_day: dt.date
    datatake: str
    tile: str
    datastrip: str = ""
    units: str = "1"
    center: tuple[float, float] = (float("nan"), float("nan"))
    dtypes: Mapping[str, str] = field(default_factory=dict)
    drivers: tuple[str, ...] = DRIVERS
