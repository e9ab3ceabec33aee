"""What makes look-up tables of histograms: a global table, a stored target, a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from xharmonize.cube.blockwise import is_lazy, map_blocks
from xharmonize.errors import FitError, ModelError
from xharmonize.harmonizers.lut.tiles import MGRS_SQUARE
from xharmonize.kernels import histogram
from xharmonize.models.card import Domain
from xharmonize.models.kinds import LutCard
from xharmonize.models.refs import ModelRef, Runtime
from xharmonize.types import AnyArray, Float64Array, FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """Bands, and what histograms and tables of each range over.

    Attributes
    ----------
    bands : tuple of str
        Source bands.
    targets : tuple of str
        Band of the result made of each.
    low, high : (band,) float64 array
        Reflectance of the first and last knot and of the outer edges of the bins [1].
    bins, knots : int
        Bins of a histogram, nodes of a table.
    """

    bands: tuple[str, ...]
    targets: tuple[str, ...]
    low: Float64Array
    high: Float64Array
    bins: int
    knots: int

    def of(self, present: list[str]) -> Ranges:
        """The same for the bands a cube has."""
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
    """Makes look-up tables of the histograms of tiles."""

    @property
    def name(self) -> str:
        """For the history."""

    @property
    def digest(self) -> str:
        """What tells it from others."""

    @property
    def tile(self) -> float:
        """Side of a tile where the user names none [m]."""

    @property
    def domain(self) -> Domain | None:
        """What it was trained on, as far as known."""

    @property
    def ranges(self) -> Ranges:
        """Bands, limits, bins and knots."""

    def tables(self, counts: Any, ranges: Ranges) -> Any:
        """Tables (time, tile_y, tile_x, band, knot) [1] of counts (…, band, bin)."""


def map_counts(
    function: Callable[..., AnyArray],
    counts: Any,
    *,
    extra: Any = None,
    n_last: int,
    name: str,
) -> Any:
    """Apply a function to the counts of each date and tile, all bands of a tile at once.

    Parameters
    ----------
    extra : (1, 1, 1, band, bin) array, optional
        Given to `function` as second argument.
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
    """One table for all tiles: of a global fit, or of two stored histograms.

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
        """Of the table."""
        return str(tokenize(self.table))

    def tables(self, counts: Any, ranges: Ranges) -> Any:
        """The table, for each date and tile."""
        chosen = [self.ranges.bands.index(name) for name in ranges.bands]
        shape = (*counts.shape[:4], self.ranges.knots)
        if is_lazy(counts) or is_lazy(self.table):
            table = da.asarray(self.table)[chosen]
            return da.broadcast_to(table, shape, chunks=(*da.asarray(counts).chunks[:4], -1))
        return np.broadcast_to(np.asarray(self.table)[chosen], shape)


@dataclass(frozen=True, kw_only=True)
class Matching:
    """Histogram matching: the stored target's value of the same cumulative frequency.

    Attributes
    ----------
    reference : (band, bin) array
        Counts of the target.
    limits : (float, float)
        Range of the bins, of all bands [1].
    """

    name: str
    ranges: Ranges
    reference: Any
    limits: tuple[float, float]
    tile: float = MGRS_SQUARE
    domain: Domain | None = None

    @property
    def digest(self) -> str:
        """Of the target's counts."""
        return str(tokenize(self.reference, self.limits))

    def tables(self, counts: Any, ranges: Ranges) -> Any:
        """Tables that give each tile the target's distribution; NaN where a tile is empty."""
        chosen = [self.ranges.bands.index(name) for name in ranges.bands]
        return map_counts(
            partial(_match, low=self.limits[0], high=self.limits[1]),
            counts,
            extra=self.reference[chosen][None, None, None],
            n_last=self.ranges.knots,
            name="fit-tables-match",
        )


def _match(source: IntArray, reference: IntArray, *, low: float, high: float) -> Float64Array:
    """Tables of a block; raises where the reference has no valid pixel."""
    if reference.size and not reference.sum(axis=-1).all():
        raise FitError("a band of the reference has no valid pixel: histogram matching needs some")
    return histogram.match_distributions(source, reference, low, high)


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network of a bundle: normalised histograms in, tables out."""

    ref: ModelRef
    card: LutCard
    runtime: Runtime = field(default_factory=Runtime)

    def __post_init__(self) -> None:
        """Refuse a bundle that makes no tables, or tables for other bands than it reads."""
        LutCard.of(self.card, "what makes tables")
        if len(self.card.output.bands) != len(self.card.histograms.bands):
            raise ModelError(
                f"model {self.ref.name!r} reads {len(self.card.histograms.bands)} bands and makes "
                f"tables for {len(self.card.output.bands)}; a table maps one band to one band"
            )

    @property
    def name(self) -> str:
        """Of the bundle."""
        return self.ref.name

    @property
    def digest(self) -> str:
        """Of the bundle's content."""
        return self.ref.digest

    @property
    def tile(self) -> float:
        """As the card says [m]."""
        return self.card.histograms.tile

    @property
    def domain(self) -> Domain | None:
        """As the card says."""
        return self.card.domain

    @property
    def ranges(self) -> Ranges:
        """As the card says."""
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
        """Tables of the network; NaN where a tile lacks valid pixels in a band."""
        block = partial(_predict, ref=self.ref, card=self.card, runtime=self.runtime)
        return map_counts(block, counts, n_last=self.ranges.knots, name="fit-tables-predict")


def _predict(counts: IntArray, *, ref: ModelRef, card: LutCard, runtime: Runtime) -> FloatArray:
    """Tables (…, band, knot) of a block of counts (…, band, bin)."""
    from xharmonize.models.runtime import predict

    flat = counts.reshape(-1, *counts.shape[-2:])
    is_counted = (flat.sum(axis=-1) > 0).all(axis=-1)
    tables = np.full((*flat.shape[:2], card.histograms.knots), np.nan)
    if is_counted.any():
        shares = histogram.normalise(flat[is_counted])
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
