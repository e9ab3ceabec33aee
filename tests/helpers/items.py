"""Items on disk: small COGs of known numbers and the STAC items that describe them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from pyproj import Transformer
from rasterio.transform import from_origin

ENGINES = ["stackstac", "odc"]
LEFT, TOP = 600000.0, 5600040.0  # corner of an MGRS tile
SIZE = 240.0  # side of the test area [m]


def write(path: Path, values: np.ndarray, *, step, left=LEFT, top=TOP, crs=32631, nodata=0) -> None:
    profile = {
        "driver": "GTiff",
        "height": values.shape[0],
        "width": values.shape[1],
        "count": 1,
        "dtype": values.dtype,
        "crs": f"EPSG:{crs}",
        "transform": from_origin(left, top, step, step),
        "nodata": nodata,
        "tiled": True,
        "blockxsize": 16,
        "blockysize": 16,
        "compress": "deflate",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **profile) as file:
        file.write(values, 1)


def make_item(folder: Path, item_id: str, time: str, layers: dict[str, Any], **about) -> dict:
    """Write the layers (name → array, step, left, top) of an item, and return the item."""
    crs = about.pop("crs", 32631)
    assets = {}
    for name, (values, step, left, top) in layers.items():
        nodata = about.get("nodata", 0) if name not in ("qa_pixel",) else None
        write(folder / item_id / f"{name}.tif", values, step=step, left=left, top=top, crs=crs,
              nodata=nodata)  # fmt: skip
        assets[name] = {
            "href": str(folder / item_id / f"{name}.tif"),
            "proj:shape": list(values.shape),
            "proj:transform": [step, 0, left, 0, -step, top],
            "raster:bands": [{"data_type": str(values.dtype), "nodata": 0}],
        }
    ends = [
        (x, y)
        for values, step, left, top in layers.values()
        for x, y in ((left, top), (left + step * values.shape[1], top - step * values.shape[0]))
    ]
    lon, lat = map(sorted, Transformer.from_crs(crs, 4326, always_xy=True).transform(*zip(*ends)))
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": item_id,
        "collection": about.pop("collection"),
        "bbox": [lon[0] - 0.01, lat[0] - 0.01, lon[-1] + 0.01, lat[-1] + 0.01],
        "geometry": None,
        "links": [],
        "properties": {"datetime": time, "proj:epsg": crs, **about.pop("properties", {})},
        "assets": assets,
    }


def sentinel2(
    folder: Path,
    item_id: str = "s2",
    time: str = "2022-06-01T10:50:00Z",
    *,
    value: int = 2000,
    scl: int = 4,
    platform: str = "sentinel-2a",
    left: float = LEFT,
    top: float = TOP,
    tile: str = "31UDS",
    crs: int = 32631,
    rows: int = 24,
) -> dict:
    """Baseline 05.09: reflectance = (DN - 1000) / 10000. Red is `value` + column number."""
    red = np.broadcast_to(value + np.arange(24), (rows, 24)).astype("uint16")
    swir = np.full((rows // 2, 12), value + 500, "uint16")
    layers = {
        "red": (red, 10.0, left, top),
        "swir16": (swir, 20.0, left, top),
        "scl": (np.full((rows // 2, 12), scl, "uint8"), 20.0, left, top),
    }
    properties = {
        "platform": platform,
        "s2:processing_baseline": "05.09",
        "s2:datatake_id": f"GS2{platform[-1].upper()}_{time[:10].replace('-', '')}T105000_1_N05.09",
        "grid:code": f"MGRS-{tile}",
    }
    return make_item(
        folder, item_id, time, layers, crs=crs, collection="sentinel-2-l2a", properties=properties
    )


def landsat(
    folder: Path,
    item_id: str = "LC09_L2SP_198024_20220602_20230101_02_T1",
    time: str = "2022-06-02T10:40:00Z",
    *,
    value: int = 10000,
    qa: int = 21824,
    platform: str = "landsat-9",
    top: float = TOP + 15,
    rows: int = 9,
) -> dict:
    """Collection 2, 30 m, edges at 15 mod 30."""
    layers = {
        "red": (np.full((rows, 9), value, "uint16"), 30.0, LEFT - 15, top),
        "swir16": (np.full((rows, 9), value + 100, "uint16"), 30.0, LEFT - 15, top),
        "qa_pixel": (np.full((rows, 9), qa, "uint16"), 30.0, LEFT - 15, top),
    }
    return make_item(
        folder,
        item_id,
        time,
        layers,
        collection="landsat-c2-l2",
        properties={"platform": platform},
    )
