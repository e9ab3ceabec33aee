"""Look-up tables per tile and date, fitted on a cube."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import cut_like, map_blocks
from xharmonize.cube.companions import COMPANIONS, ResultFlag
from xharmonize.cube.contract import (
    REFLECTANCE,
    TIME_COORDS,
    read_contract,
    require_contract,
    select_bands,
)
from xharmonize.cube.geobox import crs_text, geobox_of
from xharmonize.errors import BandError, FitError, RadiometryWarning, warn
from xharmonize.harmonizers.lut.counting import count_tiles
from xharmonize.harmonizers.lut.predictors import Predictor, Ranges
from xharmonize.harmonizers.lut.tiles import Axis, tiles_of
from xharmonize.models.card import Domain
from xharmonize.tiles import sampling
from xharmonize.types import AnyArray, BoolArray, IntArray

TABLES = "tables"
DIMS = ("time", "tile_y", "tile_x")


def fit_dataset(
    cube: xr.DataArray | xr.Dataset,
    predictor: Predictor,
    facts: dict[str, Any],
    *,
    tile: float | None,
    interpolate: bool,
    min_coverage: float,
) -> xr.Dataset:
    """Make the Dataset of `xharmonize.fit_tables`, of the steps the model is for."""
    if not 0 <= min_coverage <= 1:
        raise FitError(f"min_coverage={min_coverage} is no share; give a number from 0 to 1")
    array = cube if isinstance(cube, xr.DataArray) else cube[REFLECTANCE]
    require_contract(array)
    side = float(predictor.tile if tile is None else tile)
    tile_y, tile_x = tiles_of(array, side)
    ranges = ranges_for(array, predictor)
    chosen = select_bands(array, ranges.bands).transpose("time", "band", "y", "x")
    counts = count_tiles(chosen, tile_y.pixels, tile_x.pixels, ranges.low, ranges.high, ranges.bins)
    extent = tile_y.extent[:, None] * tile_x.extent
    warn_partial(extent, side)
    share = _coverage(counts, tile_y, tile_x, side)
    tables = predictor.tables(counts, ranges)
    if min_coverage:
        tables = _blank(tables, share, min_coverage)
    variables = {
        "tables": ((*DIMS, "band", "knot"), tables, {"units": "1", "long_name": "look-up table"}),
        "histograms": ((*DIMS, "band", "bin"), counts, {"long_name": "valid pixels per bin"}),
        "tile_coverage": (DIMS, share, {"units": "1", "long_name": "valid share of the tile"}),
        "tile_flag": (
            DIMS,
            _flags(counts, extent, predictor.domain, ranges),
            COMPANIONS["flag"].attrs,
        ),
    }
    words = f"fit_tables: {predictor.name}, tiles of {side:g} m, {facts['direction']}"
    attrs = {
        **facts,
        "model": TABLES,
        "title": f"look-up tables of {predictor.name}, {facts['direction']}",
        "predictor": predictor.name,
        "predictor_digest": predictor.digest,
        "tile": side,
        "crs": crs_text(geobox_of(array).crs),
        "interpolate": int(interpolate),
        "min_coverage": min_coverage,
        "history": words,
    }
    coords = _coords(array, ranges, tile_y, tile_x, extent, predictor.domain)
    return xr.Dataset(variables, coords, attrs)


def ranges_for(array: xr.DataArray, predictor: Predictor) -> Ranges:
    """Bands, limits, bins and knots for the bands the cube has."""
    ranges, present = predictor.ranges, [str(name) for name in array["band"].values]
    ranges = ranges.of(present)
    if not ranges.bands:
        raise BandError(f"{predictor.name} is for {predictor.ranges.bands}; the cube has {present}")
    return ranges


def warn_partial(extent: AnyArray, side: float) -> None:
    """Warn where geometry alone tells that tiles reach beyond the cube."""
    partial_share = extent[extent < 1 - 1e-9]
    if partial_share.size:
        warn(
            f"{partial_share.size} of {extent.size} tiles of {side:g} m reach beyond the cube "
            f"(of one it holds no more than {partial_share.min():.1%}): their tables come from a "
            "part of them and change with the area asked for; fit on a larger cube, or give "
            "fit_tables smaller tiles with tile=",
            RadiometryWarning,
        )


def _coverage(counts: Any, tile_y: Axis, tile_x: Axis, side: float) -> Any:
    """Valid share of each tile's full area (time, tile_y, tile_x), of the poorest band."""
    valid = counts.sum(axis=-1).min(axis=-1)
    return (valid * (tile_y.step * tile_x.step / side**2)).astype(np.float32)


def _blank(tables: Any, share: Any, least: float) -> Any:
    """Tables, but NaN where the valid share of a tile is too small."""
    return np.where((share >= least)[..., None, None], tables, np.nan)


def _flags(counts: Any, extent: AnyArray, domain: Domain | None, ranges: Ranges) -> Any:
    """Flags of each tile (time, tile_y, tile_x), uint8."""
    reaches_beyond = np.where(extent < 1 - 1e-9, int(ResultFlag.PARTIAL_CONTEXT), 0)
    flags = np.broadcast_to(reaches_beyond.astype(np.uint8), counts.shape[:3])
    if domain is None:
        return cut_like(flags, counts, (0, 1, 2))
    is_far = map_blocks(
        partial(_is_far, domain=domain, ranges=ranges),
        "tyxbk->tyx",
        counts,
        dtype=bool,
        name="fit-tables-domain",
    )
    return flags | is_far * np.uint8(ResultFlag.OUT_OF_DOMAIN)


def _is_far(counts: IntArray, domain: Domain, ranges: Ranges) -> BoolArray:
    """Which tiles (time, tile_y, tile_x) lie farther from training than any training tile."""
    limits = list(zip(ranges.low.tolist(), ranges.high.tolist()))
    far = np.zeros(counts.shape[:3], bool)
    for place in np.ndindex(far.shape):
        far[place] = sampling.is_far(counts[place], ranges.bands, limits, domain)
    return far


def _coords(
    array: xr.DataArray,
    ranges: Ranges,
    tile_y: Axis,
    tile_x: Axis,
    extent: AnyArray,
    domain: Domain | None,
) -> dict[str, Any]:
    """Where tiles lie, what knots and bins stand for, and the contract along time."""
    edges = np.linspace(ranges.low, ranges.high, ranges.bins + 1, axis=-1)
    coords: dict[str, Any] = {
        "time": array["time"].values,
        "band": list(ranges.bands),
        "target_band": ("band", list(ranges.targets)),
        "tile_y": ("tile_y", tile_y.centres),
        "tile_x": ("tile_x", tile_x.centres),
        "tile_extent": (DIMS[1:], extent, {"units": "1", "long_name": "share inside the cube"}),
        "low": ("band", ranges.low, {"units": "1"}),
        "high": ("band", ranges.high, {"units": "1"}),
        "knot_value": (
            ("band", "knot"),
            np.linspace(ranges.low, ranges.high, ranges.knots, axis=-1),
            {"units": "1", "long_name": "reflectance of the knots"},
        ),
        "bin_value": (
            ("band", "bin"),
            (edges[:, :-1] + edges[:, 1:]) / 2,
            {"units": "1", "long_name": "reflectance of the centres of the bins"},
        ),
        "spatial_ref": array["spatial_ref"].variable,
    }
    steps = read_contract(array)
    coords |= {
        name: ("time", np.array([getattr(step, name) for step in steps], str))
        for name in TIME_COORDS
    }
    if domain is not None:
        found = sampling.limits_of(domain, ranges.bands, unknown=(np.nan, np.nan))
        for name, limit in zip(("domain_low", "domain_high"), found):
            coords[name] = ("band", limit, {"units": "1"})
    return coords
