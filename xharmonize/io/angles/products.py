"""Read angles from Sentinel-2 granule metadata and from angle bands of Landsat and HLS.

The grids have 23 × 23 nodes 5 km apart, the first on the upper left corner of the tile (ESA,
Sentinel-2 Products Specification Document). A detector's grid is NaN outside its footprint;
neighbouring detectors, which look ahead and back in turn, share the nodes of their overlap.

Landsat: int16, 0.01 degree, 0 is fill, azimuths from -180 (USGS LSDS-1822, Landsat 8-9 Collection
2 Level 1 Data Format Control Book). HLS: uint16, 0.01 degree, 40000 is fill (HLS v2.0 User Guide).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from xharmonize.cube.geobox import is_same_crs, read_crs
from xharmonize.io.angles.markup import parse
from xharmonize.io.stac.settle import ANGLES
from xharmonize.kernels.brdf import mean_direction, require_degrees, unit_vectors
from xharmonize.types import AnyArray, BoolArray, Float64Array, FloatArray, IntArray

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


BANDS = (
    "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12",
)  # fmt: skip
"""By ``bandId``."""

REACH = 2
"""Nodes beyond a detector's own to which its view is continued; pixels at the rim of the swath
lie there."""

_MAX_NODES = 1000  # a side
_TILE = re.compile(r"_T(\d{2}[C-X][A-Z]{2})(?:_|$)")


@dataclass(frozen=True, kw_only=True, eq=False)
class Granule:
    """Directions at the nodes of a granule.

    Attributes
    ----------
    crs : str
        CRS of the nodes.
    origin, step : tuple of 2 float
        x and y of the first node, and distance of the nodes (negative in y) in units of the CRS.
    sun : (3, row, column) float64 array
        Unit vectors towards the sun (east, north, up).
    views : (band, 3, row, column) float64 array
        Unit vectors towards the sensor in the bands asked for, the mean of the detectors that see
        a node; NaN further than `REACH` nodes from any.
    tile : str
        MGRS tile (``33TWL``), or empty.
    time : datetime64 or None
        Sensing time [UTC].
    """

    crs: str
    origin: tuple[float, float]
    step: tuple[float, float]
    sun: Float64Array
    views: Float64Array
    tile: str
    time: np.datetime64 | None


def read_granule(content: bytes, bands: Collection[str] = BANDS) -> Granule:
    """Read granule metadata.

    Parameters
    ----------
    bands : collection of str
        Bands (``B02``) whose view angles to read.

    Raises
    ------
    ValueError
        That says what is wrong: no whole XML, no Sentinel-2 granule, a band or grids that are
        missing, odd, or not in degrees.
    """
    root = parse(content)
    grids = root.findall(".//Viewing_Incidence_Angles_Grids")
    sun_grid = root.find(".//Sun_Angles_Grid")
    if sun_grid is None or not grids:
        raise ValueError(f"it is {root.tag!r} without sun and view grids, not MTD_TL.xml")
    sun, step = _directions(sun_grid, "the sun grid")
    if not np.isfinite(sun).all():
        raise ValueError("the sun grid has gaps (NaN)")
    views: dict[str, list[Float64Array]] = {band: [] for band in bands}
    for grid in grids:
        band = _band(grid)
        if band not in views:
            continue
        name = f"the view grid of {band}, detector {grid.get('detectorId')},"
        vectors, own_step = _directions(grid, name)
        if vectors.shape != sun.shape or own_step != step:
            raise ValueError(f"{name} has other nodes than the sun grid")
        views[band].append(vectors)
    absent = [band for band, found in views.items() if not found]
    if absent:
        raise ValueError(f"it has no view grid of {', '.join(absent)}")
    return Granule(
        crs=_text(root, ".//HORIZONTAL_CS_CODE"),
        origin=_origin(root),
        step=step,
        sun=sun,
        views=np.stack([merge_detectors(np.stack(found)) for found in views.values()]),
        tile=_tile(root),
        time=_time(root),
    )


def merge_detectors(views: Float64Array) -> Float64Array:
    """Merge the view directions of a band's detectors, and extrapolate slightly past the swath.

    Parameters
    ----------
    views : (detector, 3, row, column) float64 array
        Unit vectors; NaN where a detector does not see a node.

    Returns
    -------
    (3, row, column) float64 array
        Mean direction of the detectors that see a node. Unseen nodes up to `REACH` nodes away are
        extrapolated with a plane through the nodes of the nearest detector.
    """
    merged = mean_direction(views)
    seen = np.isfinite(views[:, 0])
    distance = np.stack([_distance(mask) for mask in seen])
    nearest = distance.argmin(axis=0)
    wanted = ~seen.any(axis=0) & (distance.min(axis=0) <= REACH)
    for number in np.unique(nearest[wanted]):
        here = wanted & (nearest == number)
        merged[:, here] = _plane(views[number], seen[number], here)
    return merged


def _distance(mask: BoolArray) -> IntArray:
    """Distance [node] to the nearest node of a mask, diagonals counted as 1."""
    from scipy.ndimage import distance_transform_cdt

    if not mask.any():
        return np.full(mask.shape, np.iinfo(np.int32).max)
    return np.asarray(distance_transform_cdt(~mask, metric="chessboard"))


def _plane(view: Float64Array, seen: BoolArray, wanted: BoolArray) -> Float64Array:
    """Unit vectors (3, node) at wanted nodes from a plane through those seen."""
    design, target = (
        np.stack([np.ones(mask.sum()), *np.nonzero(mask)], axis=1) for mask in (seen, wanted)
    )
    # Of a few nodes in one line, the solution of least norm would lean towards 0.
    middle = design.mean(axis=0) * [0, 1, 1]
    fit = np.linalg.lstsq(design - middle, view[:, seen].T, rcond=None)[0]
    vectors = ((target - middle) @ fit).T
    return np.asarray(vectors / np.linalg.norm(vectors, axis=0))


def _directions(grid: Element, name: str) -> tuple[Float64Array, tuple[float, float]]:
    """Unit vectors (3, row, column) of a grid, and the step of its nodes in x and y."""
    zenith, azimuth = (_values(grid, part, name) for part in ("Zenith", "Azimuth"))
    if zenith.shape != azimuth.shape:
        raise ValueError(f"{name} has {zenith.shape} zeniths and {azimuth.shape} azimuths")
    require_degrees(zenith, azimuth, name, is_sun="sun" in name)
    step = (_number(grid, "Zenith/COL_STEP"), -_number(grid, "Zenith/ROW_STEP"))
    if not (0 < step[0] < np.inf and 0 > step[1] > -np.inf):
        raise ValueError(f"{name} has a step of {step[0]:g} and {-step[1]:g}")
    return unit_vectors(zenith, azimuth), step


def _values(grid: Element, part: str, name: str) -> Float64Array:
    rows = [(row.text or "").split() for row in grid.findall(f"{part}/Values_List/VALUES")]
    lengths = {len(row) for row in rows}
    sides = {len(rows), *lengths}
    if len(lengths) != 1 or not 2 <= min(sides) <= max(sides) <= _MAX_NODES:
        raise ValueError(f"{name} has {len(rows)} rows of {sorted(lengths)} values ({part})")
    try:
        return np.array(rows, float)
    except ValueError as error:
        raise ValueError(f"{name} holds what is no number ({error})") from None


def _band(grid: Element) -> str:
    number = grid.get("bandId") or ""
    if not (number.isdigit() and int(number) < len(BANDS)):
        raise ValueError(f"it has a view grid of bandId {number!r}, where 0 to 12 are known")
    return BANDS[int(number)]


def _origin(root: Element) -> tuple[float, float]:
    place = root.find(".//Geoposition")
    if place is None:
        raise ValueError("it says no Geoposition")
    return _number(place, "ULX"), _number(place, "ULY")


def _text(element: Element, path: str) -> str:
    text = (element.findtext(path) or "").strip()
    if not text:
        raise ValueError(f"it says no {path.rpartition('/')[2]}")
    return text


def _number(element: Element, path: str) -> float:
    text = _text(element, path)
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"its {path} is {text[:20]!r}, no number") from None


def _tile(root: Element) -> str:
    match = _TILE.search(root.findtext(".//TILE_ID") or "")
    return match.group(1) if match else ""


def _time(root: Element) -> np.datetime64 | None:
    text = (root.findtext(".//SENSING_TIME") or "").strip().removesuffix("Z")
    try:
        return np.datetime64(text, "ns") if text else None
    except ValueError:
        return None


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
