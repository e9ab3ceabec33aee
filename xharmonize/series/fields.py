"""Fields: polygons on the grid of a cube, and statistics of their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, floor
from typing import Any, Literal, TypeAlias

import numpy as np
from dask.base import compute, tokenize

from xharmonize.cube.blockwise import array_of, blocks_holding, chunks_of, is_lazy, window_task
from xharmonize.cube.companions import Pooling
from xharmonize.cube.geobox import centre_of, crs_name
from xharmonize.cube.polygons import Field
from xharmonize.errors import GridWarning, warn
from xharmonize.kernels.longitude import unwrapped
from xharmonize.types import AnyArray, FloatArray


@dataclass(frozen=True, kw_only=True)
class Place:
    """A field with the window of pixels it may touch; empty if it lies outside the grid."""

    number: int
    field: Field
    rows: tuple[int, int]
    columns: tuple[int, int]


def place_fields(fields: Sequence[Field], grid: Any) -> list[Place]:
    """Find the window of pixels of each field."""
    inverse = ~grid.affine
    n_rows, n_columns = grid.shape
    places = []
    for number, field in enumerate(fields):
        if field.geometry.is_empty:
            places.append(Place(number=number, field=field, rows=(0, 0), columns=(0, 0)))
            continue
        field = _beside(field, grid)
        west, south, east, north = field.geometry.bounds
        corners = [inverse * corner for corner in ((west, south), (east, north))]
        columns = _clip([c for c, _ in corners], n_columns)
        rows = _clip([r for _, r in corners], n_rows)
        places.append(Place(number=number, field=field, rows=rows, columns=columns))
    return places


def warn_if_none_meets(fields: Sequence[Field], places: Sequence[Place], grid: Any) -> None:
    """Warn if no field meets the grid, so that the table would have no values."""
    if any(place.rows[1] > 0 and place.columns[1] > 0 for place in places):
        return
    some = next((field for field in fields if not field.geometry.is_empty), None)
    if some is None:  # a negative buffer left nothing of any field
        return
    west, south, east, north = some.geometry.bounds
    box = grid.extent.boundingbox
    warn(
        f"no field meets the cube, which goes from ({box.left:g}, {box.bottom:g}) to "
        f"({box.right:g}, {box.top:g}) in {crs_name(grid.crs)}; field {some.name!r} goes there "
        f"from ({west:g}, {south:g}) to ({east:g}, {north:g}): give fields of the cube's area, "
        "longitude before latitude, or their CRS with crs=...",
        GridWarning,
    )


def _beside(field: Field, grid: Any) -> Field:
    """Shift a field by multiples of 360° towards a grid in degrees: 180.1° is also -179.9°."""
    import shapely
    from shapely.affinity import translate

    if not grid.crs.geographic:
        return field
    longitude = centre_of(grid)[0]
    west, _, east, _ = field.geometry.bounds
    if east - west > 180:  # corners on both sides of 180°

        def unwrap(x: Any, y: Any) -> tuple[Any, Any]:
            return unwrapped(x, longitude), y

        return replace(field, geometry=shapely.transform(field.geometry, unwrap, interleaved=False))
    turns = round((longitude - (west + east) / 2) / 360)
    return replace(field, geometry=translate(field.geometry, 360 * turns)) if turns else field


def _clip(ends: list[float], size: int) -> tuple[int, int]:
    first, stop = max(0, floor(min(ends))), min(size, ceil(max(ends)))
    return (first, stop) if first < stop else (0, 0)


Stat: TypeAlias = Literal["mean", "median"]
Coverage: TypeAlias = Literal["centre", "exact"]

Window: TypeAlias = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Zonal:
    """How the pixels of a field are summarised.

    Attributes
    ----------
    poolings : tuple of {"or", "mean"}
        How the pixels of each companion are summarised.
    """

    stat: Stat
    coverage: Coverage
    min_valid: float
    poolings: tuple[Pooling, ...] = ()

    @property
    def n_columns(self) -> int:
        """Value, standard deviation, number of valid and of all pixels, and companions."""
        return 4 + len(self.poolings)


def field_statistics(
    values: Any, layers: Sequence[Any], places: Sequence[Place], grid: Any, zonal: Zonal
) -> FloatArray:
    """Compute the statistics of all fields.

    Parameters
    ----------
    values : (time, [band], y, x) array
        NaN where missing; numpy or dask.
    layers : sequence of arrays
        Companions, with the dimensions of `values`.

    Returns
    -------
    (column, field, time, [band]) float64 array
    """
    result = np.full((zonal.n_columns, len(places), *values.shape[:-2]), np.nan)
    result[2:4] = 0
    for k, pooling in enumerate(zonal.poolings):
        if pooling == "or":
            result[4 + k] = 0
    inside = [place for place in places if place.rows[1] > 0]
    groups = list(_groups(inside, values).values())
    parts = [_read(values, layers, group, grid, zonal) for group in groups]
    for group, part in zip(groups, compute(*parts)):
        result[:, [place.number for place in group]] = part
    return result


def _groups(places: Sequence[Place], values: Any) -> dict[Any, list[Place]]:
    """Group fields by the chunk that contains the middle of their window."""
    chunks = chunks_of(values)[-2:]
    found: dict[Any, list[Place]] = {}
    for place in places:
        middles = [sum(ends) // 2 for ends in (place.rows, place.columns)]
        key = tuple(blocks_holding((m, m + 1), own)[0].start for m, own in zip(middles, chunks))
        found.setdefault(key, []).append(place)
    return found


def _read(
    values: Any, layers: Sequence[Any], group: Sequence[Place], grid: Any, zonal: Zonal
) -> Any:
    """Statistics of a group of fields, lazy if the values are."""
    rows = (min(p.rows[0] for p in group), max(p.rows[1] for p in group))
    columns = (min(p.columns[0] for p in group), max(p.columns[1] for p in group))
    summarise = partial(
        _summarise_block, group=tuple(group), corner=(rows[0], columns[0]), grid=grid, zonal=zonal
    )
    if not is_lazy(values):
        cut = [array[..., slice(*rows), slice(*columns)] for array in (values, *layers)]
        return summarise(*cut)
    names = [array.name for array in (values, *layers)]
    shapes = tuple(place.field.geometry.wkb for place in group)
    name = f"to-table-{tokenize(shapes, rows, columns, zonal, names)}"
    held = list(map(blocks_holding, (rows, columns), values.chunks[-2:]))
    tasks = {
        (name, 0, 0, *lead): window_task((name, 0, 0, *lead), summarise, names, lead, *held)
        for lead in np.ndindex(*values.numblocks[:-2])
    }
    chunks = ((zonal.n_columns,), (len(group),), *values.chunks[:-2])
    meta = np.empty((0,) * len(chunks), np.float64)
    return array_of(name, tasks, sources=[values, *layers], chunks=chunks, meta=meta)


def _summarise_block(
    values: AnyArray,
    *layers: AnyArray,
    group: Sequence[Place],
    corner: tuple[int, int],
    grid: Any,
    zonal: Zonal,
) -> FloatArray:
    """Statistics (column, field, time, [band]) of a block that contains the group's windows."""
    result = np.empty((zonal.n_columns, len(group), *values.shape[:-2]))
    for k, place in enumerate(group):
        fractions = _fractions(place, grid, zonal.coverage)
        rows, columns = (
            slice(low - start, high - start)
            for (low, high), start in zip((place.rows, place.columns), corner)
        )
        chosen = fractions > 0
        weights = fractions[chosen]
        pixels = values[..., rows, columns][..., chosen].astype(np.float64)
        companions = [layer[..., rows, columns][..., chosen] for layer in layers]
        result[:, k] = _columns(pixels, weights, companions, zonal)
    return result


def _fractions(place: Place, grid: Any, coverage: Coverage) -> FloatArray:
    """Fraction of each pixel of the window that counts (y, x)."""
    import shapely

    r, c = (np.arange(*ends) for ends in (place.rows, place.columns))
    affine, geometry = grid.affine, place.field.geometry
    if coverage == "exact":
        edges = affine * (c[0], r[0]), affine * (c[-1] + 1, r[-1] + 1)
        fractions = _covered(geometry, (r.size, c.size), edges)
        return fractions[::-1] if affine.e > 0 else fractions
    shapely.prepare(geometry)
    x, y = affine.c + affine.a * (c + 0.5), affine.f + affine.e * (r + 0.5)
    return np.asarray(shapely.contains_xy(geometry, *np.meshgrid(x, y)), np.float64)


def _covered(geometry: Any, shape: tuple[int, int], corners: Any) -> FloatArray:
    """Fraction of each pixel that a geometry covers, to 3e-8; rows from north to south."""
    from exactextract import exact_extract
    from exactextract.raster import NumPyRasterSource
    from shapely.geometry import mapping

    (west, east), (south, north) = (sorted(ends) for ends in zip(*corners))
    raster = NumPyRasterSource(np.ones(shape, np.uint8), west, south, east, north)
    feature = {"type": "Feature", "geometry": mapping(geometry), "properties": {}}
    found = exact_extract(raster, feature, ["cell_id", "coverage"])[0]["properties"]
    fractions = np.zeros(shape)
    fractions.flat[found["cell_id"]] = found["coverage"]
    return fractions


def _columns(
    pixels: FloatArray, weights: FloatArray, companions: Sequence[AnyArray], zonal: Zonal
) -> FloatArray:
    """Statistics over the last axis."""
    valid = np.isfinite(pixels)
    counted = np.where(valid, weights, 0.0)
    total, n = counted.sum(axis=-1), valid.sum(axis=-1)
    known = np.where(total > 0, total, np.nan)
    filled = np.where(valid, pixels, 0.0)
    mean = (counted * filled).sum(axis=-1) / known
    square = (counted * (np.where(valid, pixels - mean[..., None], 0.0)) ** 2).sum(axis=-1) / known
    deviation = np.sqrt(square * n / np.where(n > 1, n - 1, np.nan))
    value = mean if zonal.stat == "mean" else _median(pixels, counted)
    whole = weights.sum()
    is_enough = (total > 0) & (total >= zonal.min_valid * whole * (1 - 1e-9))
    columns = [np.where(is_enough, v, np.nan) for v in (value, deviation)]
    columns += [total, np.full(total.shape, whole)]
    for pooling, layer in zip(zonal.poolings, companions):
        if pooling == "mean":
            columns.append((counted * np.where(valid, layer, 0.0)).sum(axis=-1) / known)
        else:
            bits = np.where(valid, layer, layer.dtype.type(0))
            columns.append(np.bitwise_or.reduce(bits, axis=-1).astype(np.float64))
    return np.stack(columns)


def _median(pixels: FloatArray, counted: FloatArray) -> FloatArray:
    """Weighted median: the value at which half of the weight is reached."""
    if pixels.shape[-1] == 0:
        return np.full(pixels.shape[:-1], np.nan)
    order = np.argsort(pixels, axis=-1)
    below = np.cumsum(np.take_along_axis(counted, order, axis=-1), axis=-1)
    half = below[..., -1:] / 2
    place = (below >= half * (1 - 1e-12)).argmax(axis=-1)
    ordered = np.take_along_axis(pixels, order, axis=-1)
    middle: FloatArray = np.take_along_axis(ordered, place[..., None], axis=-1)[..., 0]
    return middle
