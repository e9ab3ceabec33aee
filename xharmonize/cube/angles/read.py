"""`read_angles`: sun and view angles of a cube's pixels, lazily.

items or paths → what belongs to each time step (`find`) → references → graph
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from xharmonize.cube.angles.find import AnglesSource, find_refs
from xharmonize.cube.angles.granule import BANDS
from xharmonize.cube.angles.refs import (
    Area,
    GranuleRef,
    RasterRef,
    angles_block,
    open_step,
)
from xharmonize.cube.blockwise import array_of, map_blocks, task
from xharmonize.cube.catalog.angles import ANGLES, ATTRIBUTES
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import geobox_of, write_grid
from xharmonize.errors import BandError, ContractError
from xharmonize.sensors import get_sensor

_SIDE = 2048  # pixels a side of a chunk where the cube has none


def read_angles(
    source: AnglesSource,
    *,
    like: xr.DataArray | xr.Dataset,
    per_band: bool = False,
    collection: str | Sequence[str] | None = None,
    modifier: Callable[[Any], Any] | None = None,
) -> xr.Dataset:
    """Read sun and view angles per pixel, for `xharmonize.nbar`; lazy.

    Sentinel-2's come from the granule metadata (``MTD_TL.xml``): grids of 5 km, the view of each
    band and detector. Those of Landsat and HLS come from their angle bands (``SZA``, ``SAA``,
    ``VZA``, ``VAA``). Directions are averaged and interpolated bilinearly as unit vectors, each
    pixel by its own place.

    Parameters
    ----------
    source : items, path, sequence or mapping
        What `xharmonize.open_stac` takes: items whose assets have angles, found by the cube's
        ``item_id``. Landsat's angle bands belong to Level-1 items, which fit Level-2 cubes by
        platform, path, row and day. Or files: the path or address of granule metadata (``.xml``,
        also gzipped), or a mapping ``{"SZA": path, "SAA": …}``; a sequence of these, one per date
        of the cube; or a mapping of item id to these.
    like : (time, …, y, x) DataArray or Dataset
        The cube: its dates, items, bands, grid and chunks.
    per_band : bool
        Give view angles (time, band, y, x): Sentinel-2's bands look from up to 1.4 degrees off
        their mean. False gives the mean direction of the cube's bands.
    collection : str or sequence of str, optional
        Collection ids to keep; needed where a STAC API is searched.
    modifier : callable, optional
        Signs items, as ``planetary_computer.sign`` does.

    Returns
    -------
    Dataset
        ``sun_zenith``, ``sun_azimuth``, ``view_zenith``, ``view_azimuth`` (time, y, x) float32
        [degree], azimuths clockwise from north in [0, 360), with CF standard names; NaN where none
        is known. Each granule is read once, when computed.

    Raises
    ------
    RadiometryError
        If an item has no angles.
    TimeAxisError
        If a date has no item, or there are not as many files as dates.
    BandError
        If a band of the cube is not Sentinel-2's, with `per_band`.
    ContractError
        If the cube does not say which items it is from.
    AssetReadError
        When computed: with item and asset, if it cannot be read, is of another tile or day, lies
        elsewhere, or holds no degrees.

    Examples
    --------
    >>> import xharmonize as xh
    >>> angles = xh.read_angles(items, like=s2)  # doctest: +SKIP
    >>> nadir = s2.harmonize.nbar(angles)  # doctest: +SKIP
    """
    like = at_door(like)
    absent = [name for name in ("time", "y", "x") if name not in like.dims]
    if absent or "item_id" not in like.coords:
        raise ContractError(
            f"like= has dimensions {tuple(map(str, like.dims))} and coordinates "
            f"{sorted(map(str, like.coords))}; read_angles needs time, y, x and item_id, as "
            "open_stac and xh.describe write them"
        )
    refs = find_refs(source, like, collection=collection, modifier=modifier)
    is_per_band = per_band and any(isinstance(ref, GranuleRef) for step in refs for ref in step)
    geobox = geobox_of(like)
    area = Area(
        crs=geobox.crs.to_wkt(),
        bounds=tuple(geobox.boundingbox),
        bands=_bands(like, is_per_band),
        per_band=is_per_band,
    )
    return _dataset(like, _stack(refs, like, area), area)


def _bands(like: xr.DataArray | xr.Dataset, per_band: bool) -> tuple[str, ...]:
    """Sentinel-2's bands of the cube; all where it has none of them."""
    msi = get_sensor("sentinel-2-l2a").instruments[0].bands
    sources = {band.name: band.source for band in msi}
    names = list(map(str, like["band"].values)) if "band" in like.coords else []
    names = names if "band" in like.dims else []
    strange = [name for name in names if name not in sources]
    if per_band and (strange or not names):
        raise BandError(
            f"bands {strange or names} are not Sentinel-2's, which have views of their own "
            f"({', '.join(sources)}); leave out per_band=True"
        )
    return tuple(sources[name] for name in names if name in sources) or BANDS


def _stack(refs: Sequence[tuple[GranuleRef | RasterRef, ...]], like: Any, area: Area) -> da.Array:
    """All angles (time, angle, y, x): items are opened in a task each, pixels block by block."""
    chunks = like.chunksizes
    times, ys, xs = (
        chunks[dim] if dim in chunks else da.core.normalize_chunks(size, (like.sizes[dim],))[0]
        for dim, size in (("time", 1), ("y", _SIDE), ("x", _SIDE))
    )
    name = "read-angles-" + tokenize(refs, area)
    tasks = {(name, i): task((name, i), open_step, step, area) for i, step in enumerate(refs)}
    opened = array_of(
        name, tasks, sources=[], chunks=((1,) * len(refs),), meta=np.empty(0, object)
    ).rechunk((times,))
    y, x = (
        da.from_array(like[dim].values.astype(float), (size,))
        for dim, size in (("y", ys), ("x", xs))
    )
    n_views = len(area.bands) if area.per_band else 1
    stack: da.Array = map_blocks(
        partial(angles_block, area=area),
        "t,y,x->tayx",
        opened,
        y,
        x,
        new={"a": 2 + 2 * n_views},
        dtype=np.float32,
        name="interpolate-angles",
    )
    return stack


def _dataset(like: xr.DataArray | xr.Dataset, stack: da.Array, area: Area) -> xr.Dataset:
    flat: tuple[str, ...] = ("time", "y", "x")
    view: tuple[str, ...] = flat
    if area.per_band:
        split, view = 2 + len(area.bands), ("time", "band", "y", "x")
        parts = (stack[:, 0], stack[:, 1], stack[:, 2:split], stack[:, split:])
    else:
        parts = (stack[:, 0], stack[:, 1], stack[:, 2], stack[:, 3])
    variables = {
        name: (dims, data, dict(ATTRIBUTES[name]))
        for name, dims, data in zip(ANGLES, (flat, flat, view, view), parts)
    }
    # Variables only: a coordinate brings others along it, the cube's own angles among them.
    names = ("time", "item_id", "band") if area.per_band else ("time", "item_id")
    coords = {name: like.coords[name].variable for name in names}
    return write_grid(xr.Dataset(variables, coords=coords), geobox_of(like))
