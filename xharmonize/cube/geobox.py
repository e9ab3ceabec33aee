"""Read, compare and write the grids of cubes.

A grid is CRS, step and phase. All three are read from the cube, never assumed: edges of Landsat
pixels lie at 0 or at 15 mod 30 m, depending on the provider.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, floor
from typing import Any, TypeAlias, TypeVar

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from xharmonize.errors import GridError
from xharmonize.kernels.longitude import unwrapped
from xharmonize.types import AnyArray, Float64Array

Cube = TypeVar("Cube", xr.DataArray, xr.Dataset)

Bounds: TypeAlias = tuple[float, float, float, float]
"""Left, bottom, right, top."""

EDGE = 33
"""Points by which an edge of a box is followed into another CRS."""

TOLERANCE = 1e-3
"""Distance [pixel] within which coordinates count as evenly spaced and grids as the same."""


def geobox_of(cube: xr.DataArray | xr.Dataset) -> GeoBox:
    """Read the grid of a cube: CRS, step and phase.

    The coordinates define the grid; the ``GeoTransform`` of ``spatial_ref`` is used only for the
    step of a cube with a single row or column, since it goes stale when a cube is subset.

    Parameters
    ----------
    cube : DataArray or Dataset
        Cube with dimensions y and x, pixel-centre coordinates, and a CRS in ``spatial_ref``.

    Returns
    -------
    odc.geo.geobox.GeoBox
        Grid with rows in the order of the cube: the step in y is positive if y ascends.

    Raises
    ------
    GridError
        If there is no CRS or no pixel, or the coordinates are not evenly spaced.
    """
    crs = _crs_of(cube)
    y_edge, y_step = _axis_of(cube, "y")
    x_edge, x_step = _axis_of(cube, "x")
    if x_step < 0:
        raise GridError("x descends", cure="sort the cube with cube = cube.sortby('x')")
    shape = (cube.sizes["y"], cube.sizes["x"])
    return GeoBox(shape, Affine(x_step, 0.0, x_edge, 0.0, y_step, y_edge), crs)


def snap(
    bounds: tuple[float, float, float, float],
    resolution: float | tuple[float, float],
    crs: Any,
    *,
    phase: tuple[float, float] = (0.0, 0.0),
) -> GeoBox:
    """Return the smallest north-up grid that covers `bounds`, with edges on a fixed lattice.

    Bounds may exceed an edge by a thousandth of a pixel without adding a row or column.

    Parameters
    ----------
    bounds : (float, float, float, float)
        Left, bottom, right, top in units of `crs`.
    resolution : float or (float, float)
        Side of a pixel, or its width and height, in units of `crs`.
    crs : CRS, str or int
        Anything that names a CRS.
    phase : (float, float)
        Position of pixel edges in x and y, modulo `resolution`; (0, 0) puts them at multiples of
        it, as in HLS, (15, 15) is the lattice of most Landsat scenes.

    Raises
    ------
    GridError
        If the resolution is not positive or the box is empty.
    """
    dx, dy = resolution if isinstance(resolution, tuple) else (resolution, resolution)
    if not (dx > 0 and dy > 0):
        raise GridError(
            "is not a pixel size",
            cure="give a positive number",
            argument="resolution",
            value=resolution,
        )
    left, bottom, right, top = bounds
    if not (right > left and top > bottom):
        raise GridError(
            f"the box {tuple(bounds)} is empty",
            cure="give (left, bottom, right, top) with left < right and bottom < top",
        )
    # Not odc-geo's anchors: they count from the edge of the box, so that in degrees the edges of
    # two boxes on one lattice differ in the last digit.
    first_x, last_x = _cover(left, right, dx, phase[0])
    first_y, last_y = _cover(bottom, top, dy, phase[1])
    transform = Affine(dx, 0.0, first_x * dx + phase[0], 0.0, -dy, last_y * dy + phase[1])
    return GeoBox((last_y - first_y, last_x - first_x), transform, CRS(crs))


def crs_code(crs: Any) -> str | None:
    """Return the code of a CRS of odc-geo or pyproj (``EPSG:32631``); None if it has none."""
    authority = getattr(crs, "proj", crs).to_authority()
    return ":".join(authority) if authority else None


def crs_text(crs: Any) -> str:
    """Return the code of a CRS, or its WKT if it has none."""
    return crs_code(crs) or str(crs.to_wkt())


def crs_name(crs: Any) -> str:
    """Return the name of a CRS for messages: its code, or the beginning of its WKT."""
    return crs_text(crs)[:40]


def utm_zone(geobox: GeoBox) -> str:
    """Return the UTM zone of a grid's centre: ``EPSG:32631``."""
    from pyproj import Transformer

    back = Transformer.from_crs(geobox.crs.to_wkt(), "EPSG:4326", always_xy=True)
    longitude, latitude = back.transform(*centre_of(geobox))
    return f"EPSG:{(32600 if latitude >= 0 else 32700) + int((longitude + 180) // 6) % 60 + 1}"


def read_crs(crs: Any) -> CRS:
    """Parse a CRS, or raise `GridError`."""
    from pyproj.exceptions import CRSError

    try:
        return CRS(crs)
    except (CRSError, TypeError, ValueError) as error:
        raise GridError(
            f"names no CRS ({str(error)[:100]})",
            cure="give an EPSG code, such as 'EPSG:32631', or WKT",
            argument="crs",
            value=crs,
        ) from None


def reproject_bounds(bounds: Bounds, source: Any, target: Any) -> Bounds:
    """Reproject a bounding box to another CRS, along its edges and not only by its corners.

    In degrees the box is always in one piece: across the antimeridian it extends beyond ±180°.

    Raises
    ------
    GridError
        If the box is empty, or extends beyond the area of the target CRS.
    """
    return _reproject_bounds(bounds, str(source), str(target))


@lru_cache(maxsize=1024)  # thousands of items of a few tiles have a few boxes
def _reproject_bounds(bounds: Bounds, source: str, target: str) -> Bounds:
    from pyproj import Transformer

    start, end = read_crs(source), read_crs(target)
    if is_same_crs(start, end):
        return bounds
    left, bottom, right, top = bounds
    if not (right > left and top > bottom):
        raise GridError(
            f"the box {bounds} is empty", cure="give (west, south, east, north) with south < north"
        )
    along = np.linspace(0.0, 1.0, EDGE)
    across, up = left + along * (right - left), bottom + along * (top - bottom)
    x = np.concatenate([across, across, np.full(EDGE, left), np.full(EDGE, right)])
    y = np.concatenate([np.full(EDGE, bottom), np.full(EDGE, top), up, up])
    transformer = Transformer.from_crs(start.to_wkt(), end.to_wkt(), always_xy=True)
    centre = transformer.transform((left + right) / 2, (bottom + top) / 2)
    x, y = (np.asarray(values) for values in transformer.transform(x, y))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise GridError(f"the box {bounds} in {source[:40]} lies outside what {target[:40]} shows")
    if end.geographic:
        x = unwrapped(x, centre[0])
    elif _is_torn(x, y):
        raise GridError(
            f"the box {bounds} in {source[:40]} lies across the edge of the map in {target[:40]}",
            cure="choose a CRS that shows it in one piece, such as its UTM zone, or degrees",
        )
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def _is_torn(x: Float64Array, y: Float64Array) -> bool:
    """Tell whether one of the four edges of an outline is torn by the edge of a map."""
    steps = np.hypot(np.diff(x.reshape(4, EDGE)), np.diff(y.reshape(4, EDGE)))
    return bool((steps.max(axis=1) > steps.sum(axis=1) / 2).any())


def is_same_grid(first: GeoBox, second: GeoBox) -> bool:
    """Tell whether two grids have the same CRS, shape, step and phase."""
    if not is_same_crs(first.crs, second.crs) or tuple(first.shape) != tuple(second.shape):
        return False
    difference = np.subtract(tuple(first.affine)[:6], tuple(second.affine)[:6])
    limit = TOLERANCE * min(abs(first.affine.a), abs(first.affine.e))
    steps = difference[[0, 1, 3, 4]] * max(first.shape)
    return bool(np.all(np.abs([*difference[[2, 5]], *steps]) < limit))


def shift_between(first: GeoBox, second: GeoBox) -> tuple[int, int] | None:
    """Rows and columns from the corner of one grid to that of another on the same lattice.

    Returns
    -------
    (int, int) or None
        None if CRS, step or phase differ, so that pixels of the two do not coincide.
    """
    if not is_same_crs(first.crs, second.crs):
        return None
    if not np.allclose(first.resolution.xy, second.resolution.xy, rtol=1e-9):
        return None
    a, b = first.affine, second.affine
    exact = ((b.f - a.f) / a.e, (b.c - a.c) / a.a)
    rows, columns = (round(value) for value in exact)
    is_whole = max(abs(exact[0] - rows), abs(exact[1] - columns)) <= TOLERANCE
    return (rows, columns) if is_whole else None


def crop_to_shared(one: Cube, other: Cube, shift: tuple[int, int]) -> tuple[Cube, Cube]:
    """Crop two cubes to the pixels they share, lazily; none where they lie apart.

    Parameters
    ----------
    one, other : (..., y, x) cube
        On one lattice.
    shift : (int, int)
        From `shift_between` their grids.
    """
    cut: list[dict[str, slice]] = [{}, {}]
    for dim, offset in zip(("y", "x"), shift):
        low = max(0, offset)
        high = max(low, min(one.sizes[dim], offset + other.sizes[dim]))
        cut[0][dim], cut[1][dim] = slice(low, high), slice(low - offset, high - offset)
    return one.isel(cut[0]), other.isel(cut[1])


def require_same_grid(
    first: xr.DataArray | xr.Dataset, second: xr.DataArray | xr.Dataset, *, what: str
) -> None:
    """Raise `GridError`, describing both grids, unless they are the same."""
    one, other = geobox_of(first), geobox_of(second)
    if not is_same_grid(one, other):
        raise GridError(
            f"{what} needs cubes on one grid",
            cure=f"one has {describe_grid(one)}, the other "
            f"{describe_grid(other)}; put one on the other's with cube.harmonize.regrid(like=...)",
        )


def write_grid(cube: Cube, geobox: GeoBox) -> Cube:
    """Set exact pixel-centre coordinates and ``spatial_ref`` from a grid.

    Coordinates are multiples of half the resolution, rounded once, so that cubes on the same
    lattice align however they were subset.
    """
    from pyproj import CRS as ProjCRS

    affine = geobox.affine
    crs = ProjCRS.from_user_input(geobox.crs.to_wkt())
    reference = crs.to_cf()
    reference["spatial_ref"] = reference["crs_wkt"]
    gdal = (affine.c, affine.a, affine.b, affine.f, affine.d, affine.e)
    reference["GeoTransform"] = " ".join(repr(float(value)) for value in gdal)
    metadata = {item["axis"].lower(): item for item in crs.cs_to_cf() if "axis" in item}
    y = xr.Variable("y", _centres(affine.f, affine.e, geobox.shape[0]), metadata.get("y"))
    x = xr.Variable("x", _centres(affine.c, affine.a, geobox.shape[1]), metadata.get("x"))
    result = cube.assign_coords(y=y, x=x, spatial_ref=xr.Variable((), 0, reference))
    arrays = [result] if isinstance(result, xr.DataArray) else list(result.data_vars.values())
    for array in arrays:
        array.encoding = {**array.encoding, "grid_mapping": "spatial_ref"}
    return result


def is_same_crs(first: CRS, second: CRS) -> bool:
    """Tell whether two CRSs are the same, however they were written."""
    return bool(first == second or (first.epsg is not None and first.epsg == second.epsg))


def centre_of(geobox: GeoBox) -> tuple[float, float]:
    """Coordinates (x, y) of the centre of a grid, in units of its CRS."""
    affine, (rows, columns) = geobox.affine, geobox.shape
    return affine.c + affine.a * columns / 2, affine.f + affine.e * rows / 2


def describe_grid(geobox: GeoBox) -> str:
    """Describe a grid in one line: CRS, shape, step and phase of its edges."""
    affine, crs = geobox.affine, geobox.crs
    name = crs_name(crs)
    unit = "°" if crs.geographic else " " + str(crs.units[0]).replace("metre", "m")
    step = f"{affine.a:g}{unit}"
    if abs(affine.a) != abs(affine.e):
        step = f"{affine.a:g} × {abs(affine.e):g}{unit}"
    phase = f"edges at {_edge(affine.c, affine.a)}, {_edge(affine.f, abs(affine.e))}"
    rows = ", y ascending" if affine.e > 0 else ""
    return f"{name}, {geobox.shape[0]}×{geobox.shape[1]} pixels of {step}, {phase}{rows}"


def _edge(value: float, step: float) -> str:
    """Format an edge modulo the step for people: no 1.7e-16, and no whole step."""
    part = value % step
    return "0" if min(part, step - part) < 1e-6 * step else f"{part:g}"


def _crs_of(cube: xr.DataArray | xr.Dataset) -> CRS:
    """CRS of the grid mapping coordinate; as a last resort that of the attributes."""
    arrays = [cube] if isinstance(cube, xr.DataArray) else [cube, *cube.data_vars.values()]
    named = {
        str(place["grid_mapping"])
        for array in arrays
        for place in (array.encoding, array.attrs)
        if "grid_mapping" in place
    }
    for name in [*sorted(named), "spatial_ref", "crs"]:
        if name in cube.coords:
            attrs = cube.coords[name].attrs
            text = attrs.get("crs_wkt") or attrs.get("spatial_ref")
            if text:
                return CRS(str(text))
    raise GridError(
        "the cube has no CRS: no coordinate 'spatial_ref' with 'crs_wkt'",
        cure="write it with cube.rio.write_crs('EPSG:…') or xh.describe(cube, ..., crs='EPSG:…')",
    )


def _axis_of(cube: xr.DataArray | xr.Dataset, dim: str) -> tuple[float, float]:
    """Outer edge of the first pixel, and the step, along one axis."""
    if dim not in cube.dims or dim not in cube.coords:
        raise GridError(
            f"the cube has no dimension and coordinate {dim!r}",
            cure=f"it has {tuple(cube.dims)}; "
            "rename them with cube.rename(...), or write pixel centres with "
            f"cube.assign_coords({dim}=...)",
        )
    values = np.asarray(cube[dim].values, np.float64)
    if values.size == 0:
        raise GridError(
            f"the cube has no pixel along {dim!r}", cure="its box does not meet the data"
        )
    stated = _stated_step(cube, dim)
    if values.size == 1:
        if stated is None:
            raise GridError(
                f"a single pixel along {dim!r} does not tell its size, and spatial_ref has no "
                "GeoTransform",
                cure="write it with cube.rio.write_transform(Affine(...)), or keep two pixels",
            )
        _require_fresh(cube, dim)
        return float(values[0]) - stated / 2, stated
    rounding = _rounding(cube[dim].values)
    values, step = _on_a_line(values, rounding)
    even = values[0] + step * np.arange(values.size)
    allowed = TOLERANCE * abs(step)
    is_rounded = rounding > abs(step) / 20 and round(step, 6) != step
    if step == 0 or is_rounded or np.abs(values - even).max() > allowed:
        raise _uneven(dim, values, rounding)
    step = _tidy(step, values[0], stated, values.size, rounding)
    return _tidy_edge(float(values[0]) - step / 2, step), step


def _rounding(values: AnyArray) -> float:
    """Half a unit in the last place of coordinates in less than double precision, else 0."""
    if values.dtype.kind != "f" or values.dtype.itemsize >= 8 or not values.size:
        return 0.0
    return float(np.spacing(np.abs(values).max())) / 2


def _on_a_line(values: Float64Array, rounding: float) -> tuple[Float64Array, float]:
    """Return coordinates and step; fit a line to float32 coordinates if rounding explains them.

    Rounding may be up to a twentieth of a pixel; beyond that, pixel positions are unknown.
    """
    step = float(values[-1] - values[0]) / (values.size - 1)
    if not 0 < rounding <= abs(step) / 20:
        return values, step
    number = np.arange(values.size)
    slope, first = np.polyfit(number, values - values[0], 1)
    line = values[0] + first + slope * number
    is_explained = np.abs(line - values).max() <= 2 * rounding
    return (line, float(slope)) if is_explained else (values, step)


def _uneven(dim: str, values: Float64Array, rounding: float) -> GridError:
    """The error of unevenly spaced coordinates."""
    steps = np.diff(values)
    found = f"(steps {steps.min():g} to {steps.max():g})"
    if rounding and np.ptp(steps) <= 8 * rounding:
        return GridError(
            f"{dim!r} is rounded to float32 {found}, which is too coarse for pixels of "
            f"{float(np.median(steps)):g}",
            cure=f"write exact centres with cube.assign_coords({dim}=first + step * "
            f"np.arange({values.size}))",
        )
    return GridError(
        f"{dim!r} is not evenly spaced {found}",
        cure=f"grids are regular: fill the gaps with cube.reindex({dim}=first + step * "
        "np.arange(n), method='nearest', tolerance=step / 2), or select a part without any",
    )


def _transform_of(cube: xr.DataArray | xr.Dataset) -> Affine | None:
    """The GeoTransform of ``spatial_ref``, None where there is none."""
    if "spatial_ref" not in cube.coords:
        return None
    numbers = str(cube.coords["spatial_ref"].attrs.get("GeoTransform", "")).split()
    return Affine.from_gdal(*map(float, numbers)) if len(numbers) == 6 else None


def _stated_step(cube: xr.DataArray | xr.Dataset, dim: str) -> float | None:
    """Step that the GeoTransform of ``spatial_ref`` states, None where there is none."""
    transform = _transform_of(cube)
    return None if transform is None else float(transform.a if dim == "x" else transform.e)


def _require_fresh(cube: xr.DataArray | xr.Dataset, dim: str) -> None:
    """Raise if coordinates contradict the GeoTransform that a single pixel depends on.

    Its step stays valid after selecting rows, but not after averaging or shifting pixels, or
    selecting every second row.
    """
    transform = _transform_of(cube)
    if transform is None:
        return
    axes = {"x": (transform.a, transform.c), "y": (transform.e, transform.f)}
    for name, (step, origin) in axes.items():
        values = np.asarray(cube[name].values, np.float64)
        if not values.size:
            continue
        slack = 0.01 * abs(step) + 2 * _rounding(cube[name].values)
        pixel = (values[:2] - origin) / step - 0.5 if step else np.array([0.5])
        off = abs(pixel - np.round(pixel)) * abs(step)
        apart = abs(abs(values[1] - values[0]) - abs(step)) if values.size > 1 else 0.0
        if step == 0 or off.max() > slack or apart > slack:
            raise GridError(
                f"a single pixel along {dim!r} does not tell its size, and the GeoTransform of "
                f"spatial_ref does not fit the coordinates (pixels of {step:g} from {origin:g} "
                f"along {name!r}, where {float(values[0]):g}"
                f"{f' and {float(values[1]):g} stand' if values.size > 1 else ' stands'}): the "
                "cube was changed since",
                cure="write the true one with "
                "cube.rio.write_transform(Affine(...)), or keep two pixels",
            )


def _tidy(step: float, first: float, stated: float | None, size: int, rounding: float) -> float:
    """Remove rounding from a step: use the stated or a rounder step if it agrees."""
    slack = 4 * np.finfo(np.float64).eps * (abs(first) + abs(step) * size) / max(size - 1, 1)
    slack += 2 * rounding / max(size - 1, 1)
    candidates = [] if stated is None else [stated]
    candidates += [round(step, digits) for digits in (0, 1, 2, 3, 6, 9)]
    return next((c for c in candidates if c and abs(c - step) <= slack), step)


def _tidy_edge(edge: float, step: float) -> float:
    """Round an edge to a multiple of half a step if the difference is only rounding."""
    halves = round(2 * edge / step)
    exact = halves * step / 2
    return exact if abs(exact - edge) <= 1e-6 * abs(step) else edge


def _cover(low: float, high: float, resolution: float, phase: float) -> tuple[int, int]:
    """Numbers of the first and past-the-last lattice cell that cover an interval."""
    first = floor((low - phase) / resolution + TOLERANCE)
    last = ceil((high - phase) / resolution - TOLERANCE)
    return first, max(last, first + 1)


def _centres(edge: float, step: float, size: int) -> Float64Array:
    """Pixel centres; from a whole number of half steps where the edge is one."""
    halves = round(2 * edge / step)
    number = np.arange(size, dtype=np.float64)
    if abs(halves * step / 2 - edge) <= 1e-6 * abs(step):
        return np.asarray((halves + 2 * number + 1) * (step / 2), np.float64)
    return np.asarray(edge + (number + 0.5) * step, np.float64)
