"""Sentinel-2's granule metadata (MTD_TL.xml): sun grid and view grids of each band and detector.

The grids have 23 × 23 nodes 5 km apart, the first on the upper left corner of the tile (ESA,
Sentinel-2 Products Specification Document). A detector's grid is NaN outside its footprint;
neighbouring detectors, which look ahead and back in turn, share the nodes of their overlap.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from xharmonize.cube.angles.markup import parse
from xharmonize.cube.angles.vectors import mean_direction, require_degrees, unit_vectors
from xharmonize.types import BoolArray, Float64Array, IntArray

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
        Bands (``B02``) whose view is read.

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
    """Merge the views of a band's detectors, and continue them a little beyond the swath.

    Parameters
    ----------
    views : (detector, 3, row, column) float64 array
        Unit vectors; NaN where a detector does not look.

    Returns
    -------
    (3, row, column) float64 array
        Mean direction of the detectors that see a node. Nodes that none sees, up to `REACH` from
        one that is seen, take the plane through the nearest detector's own.
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
