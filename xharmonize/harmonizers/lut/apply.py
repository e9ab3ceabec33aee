"""Apply look-up tables to a cube in one pointwise pass, and the small convolution after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import chunks_of, cut_like, map_blocks, with_margin
from xharmonize.cube.companions import ResultFlag
from xharmonize.cube.contract import read_coordinate, select_bands
from xharmonize.cube.geobox import crs_name, geobox_of, is_same_crs, read_crs
from xharmonize.errors import BandError, GridError, ModelError
from xharmonize.harmonizers.lut.histograms import (
    between_centres,
    place_pixels,
    require_metres,
    split_lines,
    whole,
)
from xharmonize.kernels.cuda import lut_kernels
from xharmonize.models.kinds import LutCard
from xharmonize.models.refs import ModelRef, Runtime
from xharmonize.types import AnyArray, Float64Array, FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Look-up tables for a cube, in its order of tiles, dates and bands.

    Attributes
    ----------
    values : (time, tile_y, tile_x, band, knot) array
        Target reflectance [1], numpy or dask; a time axis of length 1 applies to all dates.
    bands : tuple of str
        Source bands.
    low, high : (band,) float64 array
        Reflectance of the first and last knot [1].
    rows, columns : (y,), (x,) int array
        Tile of each pixel; with weights, the first of the two tiles between whose centres it lies.
    weights : pair of (y,), (x,) float32 array, optional
        Weight of the second tile, to interpolate between tile centres.
    flags : (time, tile_y, tile_x) uint8 array, optional
        Quality flags of the tiles.
    tile_rows, tile_columns : (y,), (x,) int array, optional
        Tile that contains each pixel, for `flags`.
    domain : pair of (band,) float64 array, optional
        Range of the training data [1]; NaN where unknown.
    """

    values: Any
    bands: tuple[str, ...]
    low: Float64Array
    high: Float64Array
    rows: IntArray
    columns: IntArray
    weights: tuple[AnyArray, AnyArray] | None = None
    flags: Any = None
    tile_rows: IntArray | None = None
    tile_columns: IntArray | None = None
    domain: tuple[Float64Array, Float64Array] | None = None


_PIXELS = dict(zip("YVXU", "yyxx"))
"""Pixel dimension of each tile dimension: Y, X for tables and V, U for flags."""


def one_table(cube: xr.DataArray, values: Any, ranges: Any) -> Tables:
    """Tables (time, 1, 1, band, knot) for the whole cube."""
    rows, columns = whole(cube)
    return Tables(
        values=values,
        bands=ranges.bands,
        low=ranges.low,
        high=ranges.high,
        rows=rows,
        columns=columns,
    )


def tables_for(cube: xr.DataArray, fit: xr.Dataset) -> Tables:
    """The tables of a fit of `fit_tables`, arranged for a cube.

    Raises
    ------
    ModelError
        If the fit lacks a date of the cube.
    BandError
        If the fit has none of the cube's bands.
    GridError
        If the cube is in another CRS, or outside the tiles.
    """
    require_metres(cube, "tiles of look-up tables")
    box = geobox_of(cube)
    if not is_same_crs(box.crs, read_crs(fit.attrs["crs"])):
        raise GridError(
            f"the tables are for {fit.attrs['crs']}, the cube is in {crs_name(box.crs)}",
            cure="put it there with cube.harmonize.regrid(crs=...), or fit tables on it",
        )
    side = float(fit.attrs["tile"])
    centres = {dim: np.asarray(fit[f"tile_{dim}"].values, np.float64) for dim in ("y", "x")}
    order_y, tile_rows = place_pixels(cube, "y", centres["y"], side)
    order_x, tile_columns = place_pixels(cube, "x", centres["x"], side)
    fit = fit.sel(band=_common_bands(cube, fit))
    fit = fit.isel(time=_dates(cube, fit), tile_y=order_y, tile_x=order_x)
    fit = fit.transpose("time", "tile_y", "tile_x", "band", ...)
    rows, columns, weights = tile_rows, tile_columns, None
    if fit.attrs["interpolate"]:
        rows, row_weights = between_centres(cube, "y", centres["y"][order_y], side)
        columns, column_weights = between_centres(cube, "x", centres["x"][order_x], side)
        weights = (row_weights, column_weights)
    has_domain = "domain_low" in fit.coords
    return Tables(
        values=fit["tables"].data,
        bands=tuple(map(str, fit["band"].values)),
        low=read_coordinate(fit, "low"),
        high=read_coordinate(fit, "high"),
        rows=rows,
        columns=columns,
        weights=weights,
        flags=fit["tile_flag"].data,
        tile_rows=tile_rows,
        tile_columns=tile_columns,
        domain=(
            (read_coordinate(fit, "domain_low"), read_coordinate(fit, "domain_high"))
            if has_domain
            else None
        ),
    )


def _common_bands(cube: xr.DataArray, fit: xr.Dataset) -> list[str]:
    """Bands of the fit that the cube has, in the fit's order."""
    known, present = ([str(name) for name in array["band"].values] for array in (fit, cube))
    common = [name for name in known if name in present]
    if not common:
        raise BandError(f"the tables are for {known}", cure=f"the cube has {present}")
    return common


def _dates(cube: xr.DataArray, fit: xr.Dataset) -> list[int]:
    """Positions of the cube's dates in the fit, by time and item."""
    keys = [
        list(zip(array["time"].values.tolist(), map(str, read_coordinate(array, "item_id"))))
        for array in (fit, cube)
    ]
    place = {key: k for k, key in enumerate(keys[0])}
    lost = [k for k, key in enumerate(keys[1]) if key not in place]
    if lost:
        raise ModelError(
            f"the tables have no date {str(cube['time'].values[lost[0]])[:19]} (item "
            f"{keys[1][lost[0]][1]!r}) and {len(lost) - 1} others",
            cure="tables belong to the dates they were fitted on: "
            "xh.harmonizers.fit_tables(cube, model)",
        )
    return [place[key] for key in keys[1]]


def look_up(cube: xr.DataArray, tables: Tables, *, flags: bool) -> tuple[Any, Any]:
    """Apply tables to a cube (time, band, y, x), decoding it in the same pass; also make flags.

    Parameters
    ----------
    cube : (time, band, y, x) DataArray
        Reflectance [1], or digital numbers with their contract.
    flags : bool
        Whether to make the flags (time, y, x) uint8 in the same pass; None otherwise.
    """
    chosen = select_bands(cube, tables.bands)
    chosen, lines = split_lines(chosen)
    values = chosen.data
    layout = _arguments(tables, lines, values.shape, flags=flags)
    spans = _all_spans(layout, dict(zip("tbyx", chunks_of(values))))
    result = map_blocks(
        partial(_map_block, has_lines=lines is not None, flags=flags),
        f"{','.join(['tbyx', *(dims for _, dims in layout)])}->tbyx",
        values,
        *(_taken(array, dims, spans) for array, dims in layout),
        sizes={"b": values.shape[1] + 1} if flags else None,
        whole="b" if flags else "",
        paired={
            dim: (_PIXELS[dim], tuple(stop - start for start, stop in found))
            for dim, found in spans.items()
        },
        dtype=np.float32,
        name="harmonize-lut",
    )
    return (result[:, :-1], result[:, -1].astype(np.uint8)) if flags else (result, None)


def _arguments(
    tables: Tables, lines: Any, shape: tuple[int, ...], *, flags: bool
) -> list[tuple[Any, str]]:
    """Arguments of a block besides its pixels, with the dimensions of each."""
    n_y, n_x = shape[2:]
    weights = tables.weights or (np.full(n_y, np.nan, "f4"), np.full(n_x, np.nan, "f4"))
    found: list[tuple[Any, str]] = [
        (tables.values, "tYXbk"),
        (tables.rows, "y"),
        (tables.columns, "x"),
        (weights[0], "y"),
        (weights[1], "x"),
        (tables.low, "b"),
        (tables.high, "b"),
    ]
    if lines is not None:
        found += [(line, "tb") for line in lines]
    if flags:
        unknown = np.full(len(tables.bands), np.nan)
        low, high = tables.domain or (unknown, unknown)
        found += [(low, "b"), (high, "b")]
        if tables.flags is not None:
            found += [(tables.flags, "tVU"), (tables.tile_rows, "y"), (tables.tile_columns, "x")]
    return found


def _taken(array: Any, dims: str, spans: dict[str, Any]) -> Any:
    """The tiles of an array that each block needs, concatenated in the order of the blocks."""
    for axis, dim in enumerate(dims):
        if dim in spans:
            index = np.concatenate([np.arange(a, b) for a, b in spans[dim]])
            array = array[(slice(None),) * axis + (index,)]
    return array


def _all_spans(
    layout: list[tuple[Any, str]], chunks: Mapping[str, tuple[int, ...]]
) -> dict[str, Any]:
    """Tiles that chunks of pixels need: of tables (Y, X) and of flags per tile (V, U)."""
    spans = {
        upper: _spans(layout[place][0], layout[weight][0], chunks[lower])
        for upper, lower, place, weight in (("Y", "y", 1, 3), ("X", "x", 2, 4))
    }
    if layout[-3][1] == "tVU":
        spans |= {
            upper: _spans(layout[place][0], None, chunks[lower])
            for upper, lower, place in (("V", "y", -2), ("U", "x", -1))
        }
    return spans


def _spans(places: IntArray, weights: AnyArray | None, chunks: tuple[int, ...]) -> list[Any]:
    """Tiles ``[start, stop)`` that each chunk needs, including the next ones to interpolate."""
    stops = np.cumsum(chunks).tolist()
    starts = [0, *stops[:-1]]
    spans = []
    for start, stop in zip(starts, stops):
        here = places[start:stop]
        reach = here if weights is None else here + (weights[start:stop] > 0)
        spans.append((int(here.min()), int(reach.max()) + 1))
    return spans


def _map_block(
    values: AnyArray,
    tables: AnyArray,
    rows: IntArray,
    columns: IntArray,
    row_weights: AnyArray,
    column_weights: AnyArray,
    low: Float64Array,
    high: Float64Array,
    *more: AnyArray,
    has_lines: bool,
    flags: bool,
) -> AnyArray:
    """Apply tables to a block; with `flags`, these are appended as one more band."""
    kernels = lut_kernels(values)
    lines, facts = (more[:3], more[3:]) if has_lines else ((), more)
    is_blended = not np.isnan(row_weights).any()
    if lines and (flags or is_blended):
        values = kernels.affine(values, lines[0], lines[1], nodata=lines[2])
        lines = ()
    limits = low, high, rows - rows.min(), columns - columns.min()
    if is_blended:
        mapped = kernels.blend_tables(values, tables, *limits, row_weights, column_weights)
    elif lines:
        scale, offset, nodata = lines
        mapped = kernels.apply_tables_to_dn(
            values, tables, *limits, scale=scale, offset=offset, nodata=nodata
        )
    else:
        mapped = kernels.apply_tables(values, tables, *limits)
    if not flags:
        return mapped  # type: ignore[no-any-return]
    marks = _flag_block(values, low, high, *facts)
    whole: AnyArray = np.concatenate([mapped, marks[:, None].astype(np.float32)], axis=1)
    return whole


def _flag_block(
    values: AnyArray,
    low: Float64Array,
    high: Float64Array,
    domain_low: Float64Array,
    domain_high: Float64Array,
    tile_flags: AnyArray | None = None,
    tile_rows: IntArray | None = None,
    tile_columns: IntArray | None = None,
) -> AnyArray:
    """Flags (time, y, x) of a block of reflectance; 0 where a pixel is missing in all bands."""
    flag_outside = lut_kernels(values).flag_outside
    marks = np.zeros((values.shape[0], *values.shape[2:]), np.uint8, like=values)
    flag_outside(values, low, high, marks, int(ResultFlag.SATURATED))
    flag_outside(values, domain_low, domain_high, marks, int(ResultFlag.OUT_OF_DOMAIN))
    if tile_flags is not None and tile_rows is not None and tile_columns is not None:
        j, i = tile_rows - tile_rows.min(), tile_columns - tile_columns.min()
        is_there = np.isfinite(values).any(axis=1)
        of_pixels = np.asarray(tile_flags[:, j[:, None], i], np.uint8, like=values)
        marks |= of_pixels * is_there
    return marks


HALO = 2
"""Pixels around a block: one for the convolution, one more to fill what is missing in it."""


def refine(
    data: Any, marks: Any, ref: ModelRef, card: LutCard, runtime: Runtime
) -> tuple[Any, Any]:
    """Run the convolution, if there is one, on mapped reflectance (time, band, y, x).

    A missing neighbour, or one outside the cube, is replaced by the mean of the valid pixels among
    the eight around it; missing pixels stay missing. Pixels on the cube's edge are flagged
    ``partial_context``.
    """
    if not card.has_refinement:
        return data, marks
    padded = with_margin(data, {2: HALO, 3: HALO}, fill=np.nan)
    sizes = [tuple(size - 2 * HALO for size in chunk) for chunk in chunks_of(padded)[2:]]
    refined = map_blocks(
        partial(_refine_block, ref=ref, card=card, runtime=runtime),
        "tbyx->tbyx",
        padded,
        sizes=dict(zip("yx", sizes)),
        whole="b",
        dtype=np.float32,
        name="harmonize-refine",
    )
    return refined, None if marks is None else _mark_edge(marks)


def _refine_block(
    padded: AnyArray, *, ref: ModelRef, card: LutCard, runtime: Runtime
) -> FloatArray:
    from xharmonize.models.runtime import predict

    inner = (..., slice(HALO, -HALO), slice(HALO, -HALO))
    is_missing = np.isnan(padded[inner])
    scale, mean = (
        np.array(part, np.float32, like=padded)[:, None, None]
        for part in (card.output.scale, card.output.mean)
    )
    image = (lut_kernels(padded).fill_from_neighbours(padded) - mean) / scale
    near = image[..., HALO - 1 : 1 - HALO, HALO - 1 : 1 - HALO].copy()
    refined = np.empty(is_missing.shape, np.float32, like=padded)
    dates = (([near[t : t + 1]]) for t in range(near.shape[0]))
    for t, output in enumerate(predict(ref, card, dates, runtime, call=LutCard.refine)):
        refined[t] = output[0][..., 1:-1, 1:-1] * scale + mean
    refined[is_missing] = np.nan
    return refined


def _mark_edge(marks: Any) -> Any:
    """Flags (time, y, x) with ``partial_context`` set on the outermost pixels of the cube."""
    is_edge = np.zeros(marks.shape[1:], bool)
    is_edge[[0, -1]] = is_edge[:, [0, -1]] = True
    bit = (is_edge * np.uint8(ResultFlag.PARTIAL_CONTEXT)).astype(np.uint8)
    return marks | cut_like(bit, marks)
