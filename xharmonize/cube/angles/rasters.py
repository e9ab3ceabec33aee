"""Angle bands: sun and view zenith and azimuth as rasters, of Landsat Collection 2 and HLS.

Landsat: int16, 0.01 degree, 0 is fill, azimuths from -180 (USGS LSDS-1822, Landsat 8-9 Collection
2 Level 1 Data Format Control Book). HLS: uint16, 0.01 degree, 40000 is fill (HLS v2.0 User Guide).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xharmonize.cube.angles.places import Nodes
from xharmonize.cube.angles.vectors import require_degrees, unit_vectors
from xharmonize.cube.catalog.angles import ANGLES
from xharmonize.types import AnyArray, BoolArray, Float64Array, FloatArray

_HUNDREDTH = 0.01
_FILLS = (-32768, -9999, 32767, 40000, 65535)
"""Fill of some product or tool; counts where it could not be an angle."""

_DRIVER = "GTiff"
"""What both products are delivered in, cloud-optimised or not; no file that leads to others."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """An angle band: where it lies, and what its item says of its numbers.

    Attributes
    ----------
    href : str
        Location, signed where it has to be.
    scale, offset, nodata : float or None
        degrees = number * scale + offset; None where the item does not say.
    """

    href: str
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """An angle band whose encoding is settled: degrees = number * scale + offset.

    Attributes
    ----------
    href : str
    scale, offset : float
    nodata : float
        NaN where there is none.
    """

    href: str
    scale: float
    offset: float
    nodata: float

    def degrees(self, numbers: Float64Array) -> Float64Array:
        """Return digital numbers as angles [degree]."""
        return numbers * self.scale + self.offset


@dataclass(frozen=True, kw_only=True)
class Raster:
    """The four angle bands of an item, opened once to see how they lie and are encoded.

    Attributes
    ----------
    nodes : Nodes
        Centres of the pixels.
    bands : mapping of str to Encoded
        By the names of `ANGLES`.
    """

    nodes: Nodes
    bands: Mapping[str, Encoded]

    def directions(self, row: Float64Array, column: Float64Array) -> tuple[FloatArray, ...]:
        """Read the pixels around some positions.

        Returns
        -------
        vectors : (2, 3, n_row, n_column) float32 array
            Unit vectors towards sun and sensor; NaN where missing.
        row, column : (y, x) float64 array
            The positions, from the first of these pixels.

        Raises
        ------
        BandFault
            If a band cannot be read, or holds no degrees.
        """
        rows, row = _taken(row, self.nodes.shape[0], axis=0)
        columns, column = _taken(column, self.nodes.shape[1], axis=1)
        if not rows.size or not columns.size:
            return np.full((2, 3, 1, 1), np.nan, np.float32), row, column
        raw = {name: _read(name, band.href, rows, columns) for name, band in self.bands.items()}
        missing = _missing(raw, self.bands)
        vectors = np.empty((2, 3, rows.size, columns.size), np.float32)
        for k, who in enumerate(("sun", "view")):
            names = f"{who}_zenith", f"{who}_azimuth"
            zenith, azimuth = (
                np.where(missing, np.nan, self.bands[n].degrees(raw[n])) for n in names
            )
            try:
                require_degrees(zenith, azimuth, f"the {who}", is_sun=who == "sun")
            except ValueError as error:
                raise BandFault(names[0], str(error)) from None
            vectors[k] = unit_vectors(zenith, azimuth)
        return vectors, row, column


class BandFault(ValueError):
    """A fault of an angle band; holds the name of the angle and what is wrong."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason


def open_raster(bands: Mapping[str, Band]) -> Raster:
    """Look at the four files: one grid, and how their numbers are encoded.

    Raises
    ------
    BandFault
        If one cannot be opened, has no CRS, is turned, or lies on another grid than the first.
    """
    first: Nodes | None = None
    settled = {}
    for name in ANGLES:
        band = bands[name]
        with _opened(name, band.href) as file:
            nodes = _nodes(name, file)
            settled[name] = _settled(name, band, file)
        if first is not None and nodes != first:
            raise BandFault(name, "it lies on another grid than the sun zenith")
        first = nodes
    assert first is not None
    return Raster(nodes=first, bands=settled)


def _opened(name: str, href: str) -> Any:
    import rasterio
    from rasterio.errors import RasterioError

    try:
        return rasterio.open(href, driver=_DRIVER, sharing=False)
    except (RasterioError, OSError, RuntimeError) as error:
        raise BandFault(name, str(error)) from None


def _nodes(name: str, file: Any) -> Nodes:
    t = file.transform
    if file.crs is None:
        raise BandFault(name, "it has no CRS")
    if t.b or t.d or not (t.a and t.e):
        raise BandFault(name, "its rows do not run from west to east")
    return Nodes(
        crs=file.crs.to_wkt(),
        origin=(t.c + t.a / 2, t.f + t.e / 2),
        step=(t.a, t.e),
        shape=(file.height, file.width),
    )


def _settled(name: str, band: Band, file: Any) -> Encoded:
    """Encoding: what the file says, else the item, else hundredths in integers."""
    is_float = np.dtype(file.dtypes[0]).kind == "f"
    usual = (1.0 if is_float else _HUNDREDTH, 0.0)
    stated = float(file.scales[0]), float(file.offsets[0])
    in_item = (
        usual[0] if band.scale is None else band.scale,
        usual[1] if band.offset is None else band.offset,
    )
    if band.scale not in (None, 1.0) and stated not in ((1.0, 0.0), in_item):
        raise BandFault(name, f"its file states scale and offset {stated}, its item {in_item}")
    scale, offset = stated if stated != (1.0, 0.0) else in_item
    if scale == 1.0 and not is_float:
        scale = _HUNDREDTH  # 1 counts as not stated
    nodata = band.nodata if file.nodata is None else float(file.nodata)
    nodata = np.nan if nodata is None else nodata
    return Encoded(href=band.href, scale=scale, offset=offset, nodata=nodata)


def _taken(place: Float64Array, size: int, *, axis: int) -> tuple[AnyArray, Float64Array]:
    """Rows or columns to take, and the positions among them; only those used, where that can be.

    Both neighbours of a position are taken, so each pixel depends on its own place only.
    """
    known = place[np.isfinite(place) & (place > -1) & (place < size)]
    if not known.size:
        return np.empty(0, np.int64), np.full(place.shape, np.nan)
    first, last = max(int(np.floor(known.min())) - 1, 0), min(int(known.max()) + 3, size)
    is_separable = place.strides[1 - axis] == 0
    if not is_separable or last - first < 4 * place.shape[axis]:
        return np.arange(first, last), place - first
    line = place[:, 0] if axis == 0 else place[0]
    near = np.clip(np.floor(line + 1e-6), 0, size - 1).astype(np.int64)
    taken = np.unique(np.concatenate([near, np.clip(near + 1, 0, size - 1)]))
    moved = np.searchsorted(taken, near) + (line - near)
    outside = ~((line > -1) & (line < size))
    moved = np.where(outside, np.nan, moved)
    return taken, np.broadcast_to(moved[:, None] if axis == 0 else moved[None], place.shape)


def _read(name: str, href: str, rows: AnyArray, columns: AnyArray) -> Float64Array:
    from rasterio.errors import RasterioError
    from rasterio.windows import Window

    y, x = int(rows[0]), int(columns[0])
    window = Window(x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1)
    try:
        with _opened(name, href) as file:
            raw = file.read(1, window=window)
    except (RasterioError, OSError, RuntimeError) as error:
        raise BandFault(name, str(error.__cause__ or error)) from None
    if raw.shape != (rows.size, columns.size):
        raw = raw[np.ix_(rows - y, columns - x)]
    return np.asarray(raw, np.float64)


def _missing(raw: Mapping[str, Float64Array], bands: Mapping[str, Encoded]) -> BoolArray:
    """Where no angle is known: the numbers that mean so in any of the four bands.

    What could be an angle means so only as a sun zenith of 0: seen from nadir or from north, view
    angles are 0, and -9999 may be an azimuth of -99.99 degrees.
    """
    missing = raw["sun_zenith"] == 0
    for name, values in raw.items():
        missing |= ~np.isfinite(values)
        low, high = (0, 180) if name.endswith("zenith") else (-180, 360)
        fills = np.array([*_FILLS, bands[name].nodata])
        degrees = bands[name].degrees(fills)
        missing |= np.isin(values, fills[(degrees < low) | (degrees > high)])
    return np.asarray(missing)
