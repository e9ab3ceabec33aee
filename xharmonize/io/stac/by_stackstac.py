"""The engine stackstac; nothing else in this package uses it.

stackstac is no longer maintained, so only its one function `stack` is used, and only to lay out
blocks: an `AssetRef` reads each. The day it breaks, `open_stac` takes odc-stac by itself, and this
module and its name in `Engine` can go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array as da

from xharmonize._optional import require
from xharmonize.errors import GridError
from xharmonize.io.stac.readers import AssetRef, ItemAssets, Reading, rio_driver
from xharmonize.types import IntArray


def read(sources: Sequence[ItemAssets], reading: Reading) -> da.Array:
    """Read bands of items; see `xharmonize.io.stac.engines.read_stack`."""
    from rasterio.enums import Resampling

    stackstac = require("stackstac", extra="stac")
    geobox = reading.geobox
    epsg = geobox.crs.to_epsg() if geobox.crs else None
    if epsg is None:
        raise GridError(
            f"stackstac knows only CRSs with an EPSG code, not {str(geobox.crs)[:60]!r}",
            cure='leave engine= out, pass engine="odc", or an EPSG code as crs=',
        )
    stack = stackstac.stack(
        [_item(source, epsg) for source in sources],
        assets=list(reading.names),
        epsg=epsg,
        bounds=tuple(geobox.boundingbox),
        resolution=(abs(geobox.resolution.x), abs(geobox.resolution.y)),
        snap_bounds=False,
        xy_coords="center",
        rescale=False,
        dtype=reading.dtype,
        fill_value=reading.dtype.type(reading.fill),
        resampling=Resampling[reading.resampling],
        chunksize=reading.chunks,
        sortby_date=False,
        properties=False,
        band_coords=False,
        errors_as_nodata=(),
        gdal_env=rio_driver().capture_env(),
        reader=_Reader,
    )
    expected = tuple(sum(chunks) for chunks in reading.chunks)
    if stack.shape != expected:
        raise GridError(f"stackstac made {stack.shape} of a grid of {expected}", cure="report this")
    data: da.Array = stack.data
    return data


def _item(source: ItemAssets, epsg: int) -> dict[str, Any]:
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


class _Reader:
    """Reader for ``stackstac.stack(reader=...)``, with an `AssetRef` where it expects a URL."""

    def __init__(self, *, url: AssetRef, spec: Any, **options: Any) -> None:
        self.ref, self.spec, self.options = url, spec, options

    def read(self, window: Any, **_: Any) -> IntArray:
        from odc.geo.geobox import GeoBox

        spec = self.spec
        affine = spec.transform * spec.transform.translation(window.col_off, window.row_off)
        shape = (int(window.height), int(window.width))
        geobox = GeoBox(shape, affine, f"EPSG:{spec.epsg}")
        driver = rio_driver()
        with driver.restore_env(self.options["gdal_env"], driver.new_load(geobox)):
            return self.ref.read(
                geobox,
                resampling=self.options["resampling"].name,
                dtype=self.options["dtype"],
                fill=int(self.options["fill_value"]),
            )
