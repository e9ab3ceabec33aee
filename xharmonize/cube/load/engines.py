"""Pixels of STAC assets as one lazy integer array, by stackstac or by odc-stac.

Both libraries are used for what they do well, reading windows on a given grid. What they would
decide from metadata (grid, scale, offset, nodata, order and number of dates) is decided before and
handed over, so that both give the same array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.base import tokenize

from xharmonize._optional import require
from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.load.readers import AssetRef, NamingDriver, NamingReader
from xharmonize.errors import GridError
from xharmonize.kernels.longitude import unwrapped
from xharmonize.types import AnyArray, Engine, IntArray

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

FAILED = int(np.iinfo("int32").min)
"""Value of pixels that could not be read, where failures are skipped (read as int32)."""

Chunks = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Source:
    """The assets of one item, as the engines need them.

    Attributes
    ----------
    item_id : str
        Of the STAC item.
    time : datetime64
        Of the observation, UTC.
    bounds : (float, float, float, float)
        Left, bottom, right, top of the footprint in the CRS of the target grid.
    assets : mapping of str to AssetRef
        By band name; a band that is not there is read as nodata.
    """

    item_id: str
    time: np.datetime64
    bounds: tuple[float, float, float, float]
    assets: Mapping[str, AssetRef]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is read, and onto which grid.

    Attributes
    ----------
    names : tuple of str
        Bands, in the order of the result.
    geobox : GeoBox
        Target grid, rows from north to south.
    chunks : tuple of tuple of int
        Dask chunks (time, band, y, x) of the result.
    dtype : numpy dtype
        Integer type of the result; it holds the values of every source.
    fill : int
        Value of missing pixels in the result.
    resampling : str
        GDAL resampling method.
    """

    names: tuple[str, ...]
    geobox: GeoBox
    chunks: Chunks
    dtype: np.dtype[Any]
    fill: int
    resampling: str = field(default="nearest")


def read_stack(sources: Sequence[Source], reading: Reading, *, engine: Engine) -> da.Array:
    """Read bands of items onto one grid, lazily.

    Parameters
    ----------
    sources : sequence of Source
        In the order of the result's time axis; each overlaps the grid.
    reading : Reading
        What is read, and onto which grid.
    engine : {"stackstac", "odc"}
        Library that reads.

    Returns
    -------
    (time, band, y, x) dask array
        Digital numbers in ``reading.dtype``; ``reading.fill`` where missing.

    Raises
    ------
    GridError
        If stackstac is asked for a CRS without EPSG code.
    AssetReadError
        When computed, if an asset cannot be read and failures are not skipped.
    """
    read = _read_odc if engine == "odc" else _read_stackstac
    rows = [number for number, source in enumerate(sources) if source.assets]
    named = {name for source in sources for name in source.assets}
    columns = [number for number, name in enumerate(reading.names) if name in named]
    if len(rows) == len(sources) and len(columns) == len(reading.names):
        return read(sources, reading)
    # Engines drop items that have nothing to read, and bands that no item has.
    shape = tuple(sum(chunks) for chunks in reading.chunks)
    missing = da.full(shape, reading.fill, reading.dtype, chunks=reading.chunks)
    if not rows:
        return missing
    part = replace(
        reading,
        names=tuple(reading.names[number] for number in columns),
        chunks=((1,) * len(rows), (len(columns),), *reading.chunks[2:]),
    )
    found = _spread(read([sources[number] for number in rows], part), missing, rows, axis=0)
    return _spread(found, missing, columns, axis=1).rechunk(reading.chunks)


def _spread(found: da.Array, missing: da.Array, places: Sequence[int], *, axis: int) -> da.Array:
    """Put slices of an array at places along an axis of another, and fill between them."""
    size = missing.shape[axis]
    if len(places) == size:
        return found
    rows = {place: number for number, place in enumerate(places)}
    cut = (slice(None),) * axis
    empty = missing[:, : found.shape[1]] if axis == 0 else missing
    return da.concatenate(
        [
            found[(*cut, slice(rows[n], rows[n] + 1))]
            if n in rows
            else empty[(*cut, slice(n, n + 1))]
            for n in range(size)
        ],
        axis=axis,
    )


def _read_stackstac(sources: Sequence[Source], reading: Reading) -> da.Array:
    stackstac = require("stackstac", extra="stac")
    epsg = reading.geobox.crs.to_epsg() if reading.geobox.crs else None
    if epsg is None:
        raise GridError(
            f"stackstac knows only CRSs with an EPSG code, not {str(reading.geobox.crs)[:60]!r}; "
            'pass engine="odc", or an EPSG code as crs='
        )
    resolution = reading.geobox.resolution
    stack = stackstac.stack(
        [_stackstac_item(source, epsg) for source in sources],
        assets=list(reading.names),
        epsg=epsg,
        bounds=tuple(reading.geobox.boundingbox),
        resolution=(abs(resolution.x), abs(resolution.y)),
        snap_bounds=False,
        xy_coords="center",
        rescale=False,
        dtype=reading.dtype,
        fill_value=reading.dtype.type(reading.fill),
        resampling=_gdal_resampling(reading.resampling),
        chunksize=reading.chunks,
        sortby_date=False,
        properties=False,
        band_coords=False,
        errors_as_nodata=(),
        reader=NamingReader,
    )
    expected = tuple(sum(chunks) for chunks in reading.chunks)
    if stack.shape != expected:
        raise GridError(f"stackstac made {stack.shape} of a grid of {expected}; report this")
    return stack.data


def _stackstac_item(source: Source, epsg: int) -> dict[str, Any]:
    # No proj:transform: together with proj:bbox it would make stackstac derive bounds of its own.
    return {
        "id": source.item_id,
        "properties": {
            "datetime": str(source.time),
            "proj:epsg": epsg,
            "proj:bbox": source.bounds,
        },
        "assets": {name: {"href": ref} for name, ref in source.assets.items()},
    }


def _gdal_resampling(name: str) -> Any:
    from rasterio.enums import Resampling

    return Resampling[name]


def _read_odc(sources: Sequence[Source], reading: Reading) -> da.Array:
    odc_stac = require("odc.stac", extra="stac")
    shapes = {box: _footprint(box, reading.geobox) for box in {s.bounds for s in sources}}
    items = [_odc_item(source, shapes[source.bounds]) for source in sources]
    n_y, n_x = reading.chunks[2][0], reading.chunks[3][0]
    driver = NamingDriver(
        names=reading.names,
        dtype=str(reading.dtype),
        fill=reading.fill,
        token=tokenize(*[sorted(source.assets.items()) for source in sources]),
    )
    loaded = odc_stac.load(
        items,
        bands=list(reading.names),
        geobox=reading.geobox,
        groupby="id",
        resampling=reading.resampling,
        dtype=str(reading.dtype),
        nodata=reading.fill,
        chunks={"time": 1, "y": n_y, "x": n_x},
        driver=driver,
    )
    bands = [loaded[name].data for name in reading.names]
    return _stack_bands(bands, dtype=reading.dtype).rechunk(reading.chunks)


def _footprint(bounds: tuple[float, float, float, float], geobox: GeoBox) -> Any:
    from odc.geo.geom import box

    # It only selects chunks; a pixel of margin makes up for its straight edges.
    left, bottom, right, top = bounds
    margin = max(abs(geobox.resolution.x), abs(geobox.resolution.y))
    edges = (left - margin, bottom - margin, right + margin, top + margin)
    around = box(*edges, crs=geobox.crs).to_crs("EPSG:4326", resolution=100 * margin)
    start = around.exterior.points[0][0]  # across 180° in one piece, as the grid
    return around.transform(lambda x, y: (unwrapped(x, start), y))


def _odc_item(source: Source, footprint: Any) -> Any:
    pystac = require("pystac", extra="stac")
    item = pystac.Item(
        id=source.item_id,
        geometry=footprint.json,
        bbox=list(footprint.boundingbox),
        datetime=source.time.astype("datetime64[us]").item(),
        properties={},
    )
    for name, ref in source.assets.items():
        item.add_asset(name, pystac.Asset(href=ref.href, extra_fields={NamingDriver.KEY: ref}))
    return item


def _stack_bands(bands: Sequence[da.Array], *, dtype: np.dtype[Any]) -> da.Array:
    # One blockwise step and one copy, where da.stack would add two tasks per band and chunk.
    signature = f"{','.join(['tyx'] * len(bands))}->tbyx"
    stack: da.Array = map_blocks(
        _stack_block, signature, *bands, new={"b": len(bands)}, dtype=dtype, name="stack-bands"
    )
    return stack


def _stack_block(*blocks: IntArray) -> AnyArray:
    return np.stack(blocks, axis=1)
