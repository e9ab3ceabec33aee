"""References to the angles of an item: carried in the graph, opened when computed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from xharmonize.errors import (
    AssetReadError,
)
from xharmonize.io.angles.markup import read_bytes
from xharmonize.io.angles.products import (
    Band,
    BandFault,
    Nodes,
    Raster,
    open_raster,
    read_granule,
)
from xharmonize.io.stac.sources import Source
from xharmonize.kernels.brdf import interpolate_directions, mean_direction
from xharmonize.sensors import Names
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.types import AnyArray, Float64Array, FloatArray

_DAY = np.timedelta64(1, "D")


@dataclass(frozen=True, kw_only=True)
class Area:
    """The requested grid and bands.

    Attributes
    ----------
    crs : str
        WKT.
    bounds : tuple of 4 float
        Left, bottom, right, top.
    bands : tuple of str
        Sentinel-2's bands (``B02``).
    per_band : bool
        Whether to give each band its own view angles, or all bands their mean.
    """

    crs: str
    bounds: tuple[float, float, float, float]
    bands: tuple[str, ...]
    per_band: bool


@dataclass(frozen=True, kw_only=True)
class Whose:
    """What is known of the item that angles belong to, to be compared with what is read.

    Attributes
    ----------
    item_id, tile : str
    time : datetime64
        Sensing time [UTC].
    """

    item_id: str
    tile: str = UNKNOWN
    time: np.datetime64

    def fault(self, asset: str, href: str, reason: str) -> AssetReadError:
        """Return the error that names item and asset."""
        return AssetReadError(
            f"the angles of item {self.item_id!r} cannot be read from its asset {asset!r}, {href}: "
            f"{reason}",
            cure="leave the item out with cube.isel(time=...), or take the angles it states "
            "with xharmonize.harmonizers.angles_from_items([item])",
        )


@dataclass(frozen=True, kw_only=True)
class GranuleRef:
    """Sentinel-2's granule metadata."""

    whose: Whose
    asset: str
    href: str

    def open(self, area: Area) -> Directions:
        """Read and check the document.

        Raises
        ------
        AssetReadError
            That names item and asset.
        """
        try:
            granule = read_granule(read_bytes(self.href), area.bands)
            nodes = Nodes(
                crs=granule.crs,
                origin=granule.origin,
                step=granule.step,
                shape=(granule.sun.shape[1], granule.sun.shape[2]),
            )
            is_near = nodes.meets(area.bounds, area.crs)
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: PROJ's
            raise self.whose.fault(self.asset, self.href, str(error)) from None
        self._require_own(granule.tile, granule.time)
        views = granule.views if area.per_band else mean_direction(granule.views)[None]
        return Directions(
            nodes=nodes, is_near=is_near, vectors=np.concatenate([granule.sun[None], views])
        )

    def _require_own(self, tile: str, time: np.datetime64 | None) -> None:
        """Raise `AssetReadError` for the metadata of another tile or another day."""
        own = self.whose
        if tile and own.tile != UNKNOWN and tile not in Names.of(own.tile):
            reason = f"it is of tile {tile}, the item of {own.tile}"
            raise own.fault(self.asset, self.href, reason)
        if time is not None and abs(time - own.time) > _DAY:
            reason = f"it was sensed at {time}, the item at {own.time}"
            raise own.fault(self.asset, self.href, reason)


@dataclass(frozen=True, kw_only=True)
class RasterRef:
    """Angle bands of Landsat or HLS: by angle, its asset and where it lies."""

    whose: Whose
    bands: Mapping[str, tuple[str, Band]]

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (self.whose, sorted(self.bands.items(), key=lambda pair: pair[0]))

    def open(self, area: Area) -> Pixels:
        """Look at the files.

        Raises
        ------
        AssetReadError
            That names item and asset.
        """
        try:
            raster = open_raster({name: band for name, (_, band) in self.bands.items()})
        except BandFault as fault:
            raise self.fault(fault) from None
        is_near = raster.nodes.meets(area.bounds, area.crs)
        n_views = len(area.bands) if area.per_band else 1
        return Pixels(ref=self, raster=raster, is_near=is_near, n_views=n_views)

    def fault(self, fault: BandFault) -> AssetReadError:
        """Return the error that names item and asset."""
        asset, band = self.bands[fault.name]
        return self.whose.fault(asset, band.href, fault.reason)


@dataclass(frozen=True, kw_only=True, eq=False)
class Directions:
    """Directions at nodes, read whole: (1 + view, 3, row, column)."""

    nodes: Nodes
    is_near: bool
    vectors: Float64Array

    def angles(self, y: Float64Array, x: Float64Array, crs: str) -> FloatArray:
        """Zenith and azimuth (2, 1 + view, y, x) [degree] at pixels; NaN outside the nodes."""
        row, column = self.nodes.positions(y, x, crs)
        return np.asarray(interpolate_directions(self.vectors, row, column, 0.0))


@dataclass(frozen=True, kw_only=True, eq=False)
class Pixels:
    """Angle bands, read window by window."""

    ref: RasterRef
    raster: Raster
    is_near: bool
    n_views: int

    def angles(self, y: Float64Array, x: Float64Array, crs: str) -> FloatArray:
        """Zenith and azimuth (2, 1 + view, y, x) [degree] at pixels; NaN where missing."""
        try:
            vectors, row, column = self.raster.directions(*self.raster.nodes.positions(y, x, crs))
        except BandFault as fault:
            raise self.ref.fault(fault) from None
        found = interpolate_directions(vectors, row, column, 0.5)
        return np.asarray(found[:, [0] + [1] * self.n_views])


def open_step(refs: tuple[GranuleRef | RasterRef, ...], area: Area) -> AnyArray:
    """Open the items of one time step.

    Returns
    -------
    (1,) object array
        The tuple of what was opened.

    Raises
    ------
    AssetReadError
        If an item cannot be read, or none shares ground with the grid.
    """
    opened = tuple(ref.open(area) for ref in refs)
    if not any(source.is_near for source in opened):
        first = refs[0]
        asset, href = (
            (first.asset, first.href)
            if isinstance(first, GranuleRef)
            else (first.bands["sun_zenith"][0], first.bands["sun_zenith"][1].href)
        )
        raise first.whose.fault(asset, href, "it lies elsewhere than the cube")
    result = np.empty(1, object)
    result[0] = opened
    return result


def angles_block(steps: AnyArray, y: Float64Array, x: Float64Array, *, area: Area) -> FloatArray:
    """Compute the angles of a block of pixels, from the first item of a time step that has them.

    Returns
    -------
    (time, 2 + 2 * view, y, x) float32 array
        Sun zenith, sun azimuth, view zeniths, view azimuths [degree]; NaN where none is known.
    """
    n_views = len(area.bands) if area.per_band else 1
    result = np.full((steps.size, 2, 1 + n_views, y.size, x.size), np.nan, np.float32)
    for t, sources in enumerate(steps):
        for source in sources:
            lost = np.isnan(result[t])
            if not lost.any():
                break
            found = source.angles(y, x, area.crs)
            result[t] = np.where(lost.any(axis=(0, 1)), found, result[t])
    order = [0, 1 + n_views, *range(1, 1 + n_views), *range(2 + n_views, 2 + 2 * n_views)]
    return result.reshape(steps.size, -1, y.size, x.size)[:, order]


AnglesSource: TypeAlias = "Source | str | os.PathLike[str] | Sequence[Any] | Mapping[str, Any]"
"""Items as `open_stac` takes them; a file, a sequence of files by date, or files by item id."""

Ref: TypeAlias = GranuleRef | RasterRef
