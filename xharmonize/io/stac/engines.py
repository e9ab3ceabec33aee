"""Load STAC assets as one lazy integer array, with stackstac or odc-stac.

An engine divides the grid into blocks and assigns assets to them. Everything it would derive from
metadata (grid, scale, offset, nodata, order and number of dates) is decided beforehand, and each
asset is read by its `AssetRef`, so that both engines give the same array.

Code specific to stackstac, which is no longer maintained, is in `by_stackstac`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.base import tokenize

from xharmonize._optional import require
from xharmonize.cube.blockwise import map_blocks
from xharmonize.io.stac import by_stackstac
from xharmonize.io.stac.readers import AssetRef, ItemAssets, Reading, rio_driver
from xharmonize.kernels.longitude import unwrapped
from xharmonize.types import AnyArray, Engine, IntArray

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


_KEY = "xharmonize:asset"
FAILED = int(np.iinfo("int32").min)
"""Value of pixels that could not be read, where failures are skipped (read as int32)."""


def read_stack(sources: Sequence[ItemAssets], reading: Reading, *, engine: Engine) -> da.Array:
    """Read bands of items onto one grid, lazily.

    Parameters
    ----------
    sources : sequence of ItemAssets
        In the order of the result's time axis; each overlaps the grid.
    reading : Reading
        What is read, and onto which grid.
    engine : {"stackstac", "odc"}
        Library that loads the items.

    Returns
    -------
    (time, band, y, x) dask array
        Digital numbers in ``reading.dtype``; ``reading.fill`` where missing.

    Raises
    ------
    GridError
        If stackstac is asked for a CRS without EPSG code.
    MissingDependencyError
        If the engine is not installed.
    AssetReadError
        When computed, if an asset cannot be read and failures are not skipped.
    """
    # Engines drop items that have nothing to read, and bands that no item has.
    whole = [replace(source, assets=_with_missing(source, reading.names)) for source in sources]
    read = _read_odc if engine == "odc" else by_stackstac.read
    return read(whole, reading)


def _with_missing(source: ItemAssets, names: Sequence[str]) -> dict[str, AssetRef]:
    nothing = AssetRef(href="", item_id=source.item_id, asset="")
    return {name: source.assets.get(name, nothing) for name in names}


def choose_engine(geobox: GeoBox) -> Engine:
    """Choose stackstac if it is installed, works and supports the CRS of a grid; else odc-stac."""
    has_code = geobox.crs is not None and geobox.crs.to_epsg() is not None
    return "stackstac" if has_code and _stackstac_works() else "odc"


@cache
def _stackstac_works() -> bool:
    """Stack one pixel as a test: incompatible versions fail on import or when called."""
    from odc.geo.geobox import GeoBox

    ref = AssetRef(href="/none.tif", item_id="none", asset="red")
    time = np.datetime64("2020-01-01", "ns")
    source = ItemAssets(item_id="none", time=time, bounds=(0, 0, 1, 1), assets={"red": ref})
    reading = Reading(
        names=("red",),
        geobox=GeoBox.from_bbox((0, 0, 1, 1), crs="EPSG:32631", resolution=1),
        chunks=((1,), (1,), (1,), (1,)),
        dtype=np.dtype("uint16"),
        fill=0,
    )
    try:
        by_stackstac.read([source], reading)
    except Exception:  # whatever such a package may raise
        return False
    return True


def _read_odc(sources: Sequence[ItemAssets], reading: Reading) -> da.Array:
    odc_stac = require("odc.stac", extra="stac")
    shapes = {box: _footprint(box, reading.geobox) for box in {s.bounds for s in sources}}
    items = [_odc_item(source, shapes[source.bounds]) for source in sources]
    n_y, n_x = reading.chunks[2][0], reading.chunks[3][0]
    token = tokenize(*[sorted(source.assets.items()) for source in sources])
    loaded = odc_stac.load(
        items,
        bands=list(reading.names),
        geobox=reading.geobox,
        groupby="id",
        resampling=reading.resampling,
        dtype=str(reading.dtype),
        nodata=reading.fill,
        chunks={"time": 1, "y": n_y, "x": n_x},
        driver=_OdcDriver(names=reading.names, token=token),
    )
    bands = [loaded[name].data for name in reading.names]
    stack: da.Array = _stack_bands(bands, dtype=reading.dtype).rechunk(reading.chunks)
    return stack


def _footprint(bounds: tuple[float, float, float, float], geobox: GeoBox) -> Any:
    from odc.geo.geom import box

    # This only selects chunks; a margin of one pixel compensates for its straight edges.
    left, bottom, right, top = bounds
    margin = max(abs(geobox.resolution.x), abs(geobox.resolution.y))
    edges = (left - margin, bottom - margin, right + margin, top + margin)
    around = box(*edges, crs=geobox.crs).to_crs("EPSG:4326", resolution=100 * margin)
    start = around.exterior.points[0][0]  # across 180° in one piece, as the grid
    return around.transform(lambda x, y: (unwrapped(x, start), y))


def _odc_item(source: ItemAssets, footprint: Any) -> Any:
    pystac = require("pystac", extra="stac")
    item = pystac.Item(
        id=source.item_id,
        geometry=footprint.json,
        bbox=list(footprint.boundingbox),
        datetime=source.time.astype("datetime64[us]").item(),
        properties={},
    )
    for name, ref in source.assets.items():
        # odc-stac wants an absolute href, even of what is missing.
        item.add_asset(name, pystac.Asset(href=ref.href or "/", extra_fields={_KEY: ref}))
    return item


@dataclass(frozen=True, kw_only=True)
class _OdcDriver:
    """Driver for ``odc.stac.load(driver=...)``: rasterio's, but an `AssetRef` reads.

    Attributes
    ----------
    names : tuple of str
        Bands to load.
    token : str
        Identifies the assets; odc-stac tokenises only their locations.
    """

    names: tuple[str, ...]
    token: str
    dask_reader: None = None
    aux_reader: None = None

    @property
    def md_parser(self) -> _OdcDriver:
        return self

    def extract(self, md: Any) -> Any:
        from odc.loader.types import RasterBandMetadata, RasterGroupMetadata

        band = RasterBandMetadata(attrs={"token": self.token})
        return RasterGroupMetadata(bands={(name, 1): band for name in self.names if md})

    def driver_data(self, md: Any, band_key: tuple[str, int]) -> Any:
        return md.assets[band_key[0]].extra_fields[_KEY]

    def new_load(self, geobox: Any, *, chunks: Mapping[str, int] | None = None) -> Any:
        return rio_driver().new_load(geobox, chunks=chunks)

    def finalise_load(self, load_state: Any) -> Any:
        return rio_driver().finalise_load(load_state)

    def capture_env(self) -> Any:
        return rio_driver().capture_env()

    def restore_env(self, env: dict[str, Any], load_state: Any) -> Any:
        return rio_driver().restore_env(env, load_state)

    def open(self, src: Any, ctx: Any) -> _OdcReader:  # noqa: ARG002
        return _OdcReader(src.driver_data)


@dataclass(frozen=True)
class _OdcReader:
    ref: AssetRef

    def read(self, cfg: Any, dst_geobox: GeoBox, **_: Any) -> tuple[Any, IntArray]:
        pixels = self.ref.read(
            dst_geobox,
            resampling=cfg.resampling,
            dtype=np.dtype(cfg.dtype),
            fill=int(cfg.fill_value),
        )
        return np.s_[:, :], pixels


def _stack_bands(bands: Sequence[da.Array], *, dtype: np.dtype[Any]) -> da.Array:
    # One blockwise step and one copy, where da.stack would add two tasks per band and chunk.
    signature = f"{','.join(['tyx'] * len(bands))}->tbyx"
    stack: da.Array = map_blocks(
        _stack_block, signature, *bands, new={"b": len(bands)}, dtype=dtype, name="stack-bands"
    )
    return stack


def _stack_block(*blocks: IntArray) -> AnyArray:
    return np.stack(blocks, axis=1)
