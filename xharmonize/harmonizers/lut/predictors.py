"""Make look-up tables from histograms: a global table, a stored target, or a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from xharmonize.cube.blockwise import cut_like, is_lazy, map_blocks
from xharmonize.cube.companions import COMPANIONS, ResultFlag
from xharmonize.cube.contract import (
    REFLECTANCE,
    TIME_COORDS,
    read_contract,
    require_contract,
    select_bands,
)
from xharmonize.cube.geobox import crs_text, geobox_of
from xharmonize.errors import (
    BandError,
    FitError,
    ModelError,
    RadiometryWarning,
    require_fraction,
    warn,
)
from xharmonize.harmonizers.lut.histograms import MGRS_SQUARE, Axis, count_tiles, tiles_of
from xharmonize.kernels import patches
from xharmonize.models.card import Domain
from xharmonize.models.kinds import LutCard
from xharmonize.models.refs import ModelRef, Runtime
from xharmonize.tiles import sampling
from xharmonize.types import AnyArray, BoolArray, Float64Array, FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """Bands, and the ranges of their histograms and tables.

    Attributes
    ----------
    bands : tuple of str
        Source bands.
    targets : tuple of str
        Band of the result for each source band.
    low, high : (band,) float64 array
        Reflectance of the first and last knot and of the outer edges of the bins [1].
    bins, knots : int
        Number of bins of a histogram and of knots of a table.
    """

    bands: tuple[str, ...]
    targets: tuple[str, ...]
    low: Float64Array
    high: Float64Array
    bins: int
    knots: int

    def of(self, present: list[str]) -> Ranges:
        """The same, restricted to the bands of a cube."""
        chosen = [k for k, name in enumerate(self.bands) if name in present]
        return Ranges(
            bands=tuple(self.bands[k] for k in chosen),
            targets=tuple(self.targets[k] for k in chosen),
            low=self.low[chosen],
            high=self.high[chosen],
            bins=self.bins,
            knots=self.knots,
        )


class Predictor(Protocol):
    """Makes look-up tables from the histograms of tiles."""

    @property
    def name(self) -> str:
        """Name for the history."""

    @property
    def digest(self) -> str:
        """Digest that identifies it."""

    @property
    def tile(self) -> float:
        """Default side of a tile [m]."""

    @property
    def domain(self) -> Domain | None:
        """Domain of the training data, as far as known."""

    @property
    def ranges(self) -> Ranges:
        """Bands, limits, bins and knots."""

    def tables(self, counts: Any, ranges: Ranges) -> Any:
        """Tables (time, tile_y, tile_x, band, knot) [1] from counts (…, band, bin)."""


def map_counts(
    function: Callable[..., AnyArray],
    counts: Any,
    *,
    extra: Any = None,
    n_last: int,
    name: str,
) -> Any:
    """Apply a function to the counts of each date and tile, with all bands of a tile at once.

    Parameters
    ----------
    extra : (1, 1, 1, band, bin) array, optional
        Second argument of `function`.
    n_last : int
        Length of the last dimension of the result.
    """
    given = [counts] if extra is None else [counts, extra]
    return map_blocks(
        function,
        f"{','.join(['tyxbk'] * len(given))}->tyxbn",
        *given,
        new={"n": n_last},
        whole="b",
        dtype=np.float64,
        name=name,
    )


@dataclass(frozen=True, kw_only=True)
class Constant:
    """One table for all tiles, from a global fit or from two stored histograms.

    Attributes
    ----------
    table : (band, knot) array
        Target reflectance [1].
    """

    name: str
    ranges: Ranges
    table: Any
    tile: float = MGRS_SQUARE
    domain: Domain | None = None

    @property
    def digest(self) -> str:
        """Digest of the table."""
        return str(tokenize(self.table))

    def tables(self, counts: Any, ranges: Ranges) -> Any:
        """The table, repeated for each date and tile."""
        chosen = [self.ranges.bands.index(name) for name in ranges.bands]
        shape = (*counts.shape[:4], self.ranges.knots)
        if is_lazy(counts) or is_lazy(self.table):
            table = da.asarray(self.table)[chosen]
            return da.broadcast_to(table, shape, chunks=(*da.asarray(counts).chunks[:4], -1))
        return np.broadcast_to(np.asarray(self.table)[chosen], shape)


@dataclass(frozen=True, kw_only=True)
class Matching:
    """Histogram matching: the value of the stored target with the same cumulative frequency.

    Attributes
    ----------
    reference : (band, bin) array
        Counts of the target.
    limits : (float, float)
        Range of the bins [1], common to all bands.
    """

    name: str
    ranges: Ranges
    reference: Any
    limits: tuple[float, float]
    tile: float = MGRS_SQUARE
    domain: Domain | None = None

    @property
    def digest(self) -> str:
        """Digest of the target's counts."""
        return str(tokenize(self.reference, self.limits))

    def tables(self, counts: Any, ranges: Ranges) -> Any:
        """Tables that map each tile to the target's distribution; NaN if a tile is empty."""
        chosen = [self.ranges.bands.index(name) for name in ranges.bands]
        return map_counts(
            partial(_match, low=self.limits[0], high=self.limits[1]),
            counts,
            extra=self.reference[chosen][None, None, None],
            n_last=self.ranges.knots,
            name="fit-tables-match",
        )


def _match(source: IntArray, reference: IntArray, *, low: float, high: float) -> Float64Array:
    """Tables of a block; raises if the reference has no valid pixel."""
    if reference.size and not reference.sum(axis=-1).all():
        raise FitError("a band of the reference has no valid pixel: histogram matching needs some")
    return patches.match_distributions(source, reference, low, high)


@dataclass(frozen=True, kw_only=True)
class Network:
    """The network of a bundle, which maps normalised histograms to tables."""

    ref: ModelRef
    card: LutCard
    runtime: Runtime = field(default_factory=Runtime)

    def __post_init__(self) -> None:
        """Refuse a bundle that makes no tables, or tables for bands it does not read."""
        LutCard.of(self.card, "what makes tables")
        if len(self.card.output.bands) != len(self.card.histograms.bands):
            raise ModelError(
                f"model {self.ref.name!r} reads {len(self.card.histograms.bands)} bands and makes "
                f"tables for {len(self.card.output.bands)}",
                cure="a table maps one band to one band",
            )

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return self.ref.name

    @property
    def digest(self) -> str:
        """Digest of the bundle's content."""
        return self.ref.digest

    @property
    def tile(self) -> float:
        """Side of a tile stated by the card [m]."""
        return self.card.histograms.tile

    @property
    def domain(self) -> Domain | None:
        """Domain of the training data stated by the card."""
        return self.card.domain

    @property
    def ranges(self) -> Ranges:
        """Bands, limits, bins and knots stated by the card."""
        parts = self.card.histograms
        return Ranges(
            bands=parts.bands,
            targets=self.card.output.bands,
            low=np.array(parts.low),
            high=np.array(parts.high),
            bins=parts.bins,
            knots=parts.knots,
        )

    def tables(self, counts: Any, ranges: Ranges) -> Any:  # noqa: ARG002  (all bands: `check`)
        """Tables of the network; NaN if a tile lacks valid pixels in a band."""
        block = partial(_predict, ref=self.ref, card=self.card, runtime=self.runtime)
        return map_counts(block, counts, n_last=self.ranges.knots, name="fit-tables-predict")


def _predict(counts: IntArray, *, ref: ModelRef, card: LutCard, runtime: Runtime) -> FloatArray:
    """Tables (…, band, knot) of a block of counts (…, band, bin)."""
    from xharmonize.models.runtime import predict

    flat = counts.reshape(-1, *counts.shape[-2:])
    is_counted = (flat.sum(axis=-1) > 0).all(axis=-1)
    tables = np.full((*flat.shape[:2], card.histograms.knots), np.nan)
    if is_counted.any():
        shares = patches.normalise(flat[is_counted])
        (values,) = predict(ref, card, [(shares,)], runtime)
        scale, mean = (np.array(part)[:, None] for part in (card.output.scale, card.output.mean))
        tables[is_counted] = np.asarray(values, np.float64) * scale + mean
    return tables.reshape(*counts.shape[:-1], card.histograms.knots)


def stored_table(fit: xr.Dataset) -> Any:
    """Table (band, knot) of a fit of `fit_histogram` that holds both histograms."""
    low, high = float(fit.attrs["low"]), float(fit.attrs["high"])
    counts = fit["source"].data[None, None, None]
    tables = map_counts(
        partial(_match, low=low, high=high),
        counts,
        extra=fit["reference"].data[None, None, None],
        n_last=fit.sizes["bin"] + 1,
        name="fit-tables-match",
    )
    return tables[0, 0, 0]


TABLES = "tables"
DIMS = ("time", "tile_y", "tile_x")


def fit_dataset(
    cube: xr.DataArray | xr.Dataset,
    predictor: Predictor,
    facts: dict[str, Any],
    *,
    tile: float | None,
    interpolate: bool,
    min_valid: float,
) -> xr.Dataset:
    """Make the Dataset of `fit_tables` for the time steps that the model changes."""
    require_fraction(min_valid, argument="min_valid", error=FitError)
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
    if min_valid:
        tables = _blank(tables, share, min_valid)
    flags = _flags(counts, extent, predictor.domain, ranges)
    variables = {
        "tables": ((*DIMS, "band", "knot"), tables, {"units": "1", "long_name": "look-up table"}),
        "histograms": ((*DIMS, "band", "bin"), counts, {"long_name": "valid pixels per bin"}),
        "tile_coverage": (DIMS, share, {"units": "1", "long_name": "valid fraction of the tile"}),
        "tile_flag": (DIMS, flags, COMPANIONS["flag"].attrs),
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
        "tile_min_valid": min_valid,
        "history": words,
    }
    coords = _coords(array, ranges, tile_y, tile_x, extent, predictor.domain)
    return xr.Dataset(variables, coords, attrs)


def ranges_for(array: xr.DataArray, predictor: Predictor) -> Ranges:
    """Bands, limits, bins and knots for the bands of the cube."""
    ranges, present = predictor.ranges, [str(name) for name in array["band"].values]
    ranges = ranges.of(present)
    if not ranges.bands:
        raise BandError(
            f"{predictor.name} is for {predictor.ranges.bands}", cure=f"the cube has {present}"
        )
    return ranges


def warn_partial(extent: AnyArray, side: float) -> None:
    """Warn if tiles extend beyond the cube, judged from geometry alone."""
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
    """Valid fraction of each tile's full area (time, tile_y, tile_x), for the worst band."""
    valid = counts.sum(axis=-1).min(axis=-1)
    return (valid * (tile_y.step * tile_x.step / side**2)).astype(np.float32)


def _blank(tables: Any, share: Any, least: float) -> Any:
    """Tables, with NaN for tiles whose valid fraction is too small."""
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
    """Which tiles (time, tile_y, tile_x) are farther from training than any training tile."""
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
    """Coordinates of tiles, knots and bins, and the contract along time."""
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
