"""STAC items of written COGs, and the static catalogue that links them.

References
----------
STAC 1.1.0, https://github.com/radiantearth/stac-spec; extensions projection 2.0, raster 2.0,
eo 2.0, processing 1.2, scientific 1.0, grid 1.1, https://stac-extensions.github.io.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from xharmonize._optional import require
from xharmonize.cube.cog.files import Layer
from xharmonize.cube.companions import role_of
from xharmonize.cube.geobox import crs_code, reproject_bounds
from xharmonize.errors import BandError, UnknownSensorError
from xharmonize.kernels.longitude import Box, box_around, normal_box, spans
from xharmonize.sensors import get_sensor
from xharmonize.sensors.spec import UNKNOWN

_EXTENSIONS = "https://stac-extensions.github.io"
COG_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"
COMMON_NAMES = frozenset(
    (
        *("coastal", "blue", "green", "green05", "yellow", "red", "pan"),
        *("rededge071", "rededge075", "rededge078", "nir", "nir08", "nir09", "cirrus"),
        *("swir16", "swir22", "lwir11", "lwir12"),
    )
)
_DOI = re.compile(r"\b10\.\d{4,9}/[^\s\"'<>,;]*[^\s\"'<>,;.)]")


def make_item(
    name: str,
    step: Mapping[str, str],
    layers: Sequence[Layer],
    *,
    time: Any,
    geobox: Any,
    collection: str,
    history: str,
) -> dict[str, Any]:
    """Return the STAC item of one date.

    Parameters
    ----------
    name : str
        Item id, also the folder and the stem of the files.
    step : mapping of str to str
        Contract coordinates of the date.
    layers : sequence of Layer
        The files, in the folder of the item.
    geobox : odc.geo.geobox.GeoBox
        North-up grid of the files.
    """
    pystac = require("pystac", extra="stac")
    bbox = normal_box(reproject_bounds(tuple(geobox.boundingbox.bbox), geobox.crs, "EPSG:4326"))
    item = pystac.Item(
        id=name,
        geometry=_outline(geobox, bbox),
        bbox=list(bbox),
        datetime=pd.Timestamp(time).tz_localize("UTC").to_pydatetime(),
        properties={**_observation(step), **_grid(geobox), **_provenance(history)},
        collection=collection,
    )
    for layer in layers:
        asset = pystac.Asset(
            href=f"./{name}_{layer.name}.tif",
            title=layer.description,
            media_type=COG_TYPE,
            roles=[role_of(layer.variable)],
            extra_fields=_asset_fields(layer, step, geobox),
        )
        item.add_asset(layer.name, asset)
    document: dict[str, Any] = item.to_dict(include_self_link=False, transform_hrefs=False)
    document["stac_extensions"] = _extensions_of(document)
    document["links"] = [
        _link("root", "../../catalog.json"),
        _link("parent", "../collection.json"),
        _link("collection", "../collection.json"),
    ]
    return document


def _outline(geobox: Any, bbox: Box) -> dict[str, Any]:
    """Footprint as GeoJSON; across 180° the two parts of its box, as RFC 7946 asks."""
    west, south, east, north = bbox
    if west <= east:
        footprint: dict[str, Any] = geobox.footprint("EPSG:4326", npoints=4).json
        return footprint
    rings = [[[w, south], [e, south], [e, north], [w, north], [w, south]] for w, e in spans(bbox)]
    return {"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}


def write_catalog(path: Path, *, collection: str, description: str) -> Path:
    """Write collection and catalogue over all items in the collection's folder.

    Returns
    -------
    Path
        Of ``catalog.json``, which is written last.
    """
    pystac = require("pystac", extra="stac")
    folder = path / collection
    items = [json.loads(file.read_text()) for file in sorted(folder.glob("*/*.json"))]
    corners = [corner for item in items for corner in (item["bbox"][:2], item["bbox"][2:])]
    times = sorted(pd.Timestamp(item["properties"]["datetime"]) for item in items)
    extent = pystac.Extent(
        pystac.SpatialExtent([list(box_around(corners) or ())]),
        pystac.TemporalExtent([[times[0].to_pydatetime(), times[-1].to_pydatetime()]]),
    )
    group = pystac.Collection(
        id=collection, description=description, extent=extent, license="other"
    ).to_dict(include_self_link=False)
    group["links"] = [
        _link("root", "../catalog.json"),
        _link("parent", "../catalog.json"),
        *(_link("item", f"./{item['id']}/{item['id']}.json") for item in items),
    ]
    write_json(folder / "collection.json", group)
    return write_root(path)


def write_root(path: Path) -> Path:
    """Write ``catalog.json`` over the collections that are there."""
    pystac = require("pystac", extra="stac")
    path.mkdir(parents=True, exist_ok=True)
    catalog = pystac.Catalog(id=path.name, description="Collections written by xharmonize").to_dict(
        include_self_link=False
    )
    children = sorted(file.parent.name for file in path.glob("*/collection.json"))
    catalog["links"] = [
        _link("root", "./catalog.json"),
        *(_link("child", f"./{child}/collection.json") for child in children),
    ]
    catalog["xharmonize:catalog"] = True
    return write_json(path / "catalog.json", catalog)


def write_json(path: Path, document: Mapping[str, Any]) -> Path:
    """Write a JSON file that appears whole or not at all."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    partial.write_text(json.dumps(document, indent=2))
    os.replace(partial, path)
    return path


def _link(rel: str, href: str) -> dict[str, str]:
    kind = "application/geo+json" if rel == "item" else "application/json"
    return {"rel": rel, "href": href, "type": kind}


def _observation(step: Mapping[str, str]) -> dict[str, Any]:
    """Return properties that say who observed, by STAC's names where STAC has one."""
    fields = {
        "platform": step["platform"],
        "processing:version": step["processing_baseline"],
        "grid:code": _grid_code(step["tile"]),
        "xharmonize:sensor": step["sensor"],
        "xharmonize:bandpass": step["bandpass"],
        "xharmonize:level": step["level"],
        "xharmonize:item_id": step["item_id"],
        "xharmonize:tile": step["tile"],
    }
    return {name: value for name, value in fields.items() if value != UNKNOWN}


def _grid_code(tile: str) -> str:
    if re.fullmatch(r"\d{1,2}[C-X][A-Z]{2}", tile):
        return f"MGRS-{tile}"
    return f"WRS2-{tile}" if re.fullmatch(r"\d{6}", tile) else UNKNOWN


def _grid(geobox: Any) -> dict[str, Any]:
    code = crs_code(geobox.crs)
    return {
        "proj:code": code,
        **({} if code else {"proj:wkt2": geobox.crs.proj.to_wkt()}),
        "proj:shape": list(geobox.shape),
        "proj:transform": list(geobox.transform)[:6],
        "proj:bbox": list(geobox.boundingbox.bbox),
    }


def _provenance(history: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"processing:software": {"xharmonize": _version()}}
    if history:
        fields["processing:lineage"] = history
    dois = list(dict.fromkeys(_DOI.findall(history)))
    if dois:
        fields["sci:publications"] = [{"doi": doi} for doi in dois]
    return fields


def _version() -> str:
    from importlib.metadata import version

    return version("xharmonize")


def _asset_fields(layer: Layer, step: Mapping[str, str], geobox: Any) -> dict[str, Any]:
    """Return the asset's fields; scale and offset are always said, 1 and 0 included."""
    fields: dict[str, Any] = {
        "data_type": layer.dtype,
        "unit": layer.unit,
        "raster:scale": layer.scale,
        "raster:offset": layer.offset,
        "raster:sampling": "area",
        "raster:spatial_resolution": abs(geobox.resolution.x),
    }
    if layer.nodata is not None:
        fields["nodata"] = "nan" if layer.nodata != layer.nodata else layer.nodata
    if layer.band is not None and layer.name == layer.band:
        fields["bands"] = [{"name": layer.band, **_spectral(layer.band, step)}]
    return fields


def _spectral(band: str, step: Mapping[str, str]) -> dict[str, Any]:
    """Return eo fields of a band; the wavelength only where the values follow the instrument."""
    fields: dict[str, Any] = {"eo:common_name": band} if band in COMMON_NAMES else {}
    try:
        sensor = get_sensor(step["sensor"])
        known = sensor.instrument(step["platform"]).band(band)
        is_own = sensor.bandpass_of(step["platform"]) == step["bandpass"]
    except (UnknownSensorError, BandError):
        return fields
    if is_own and known.center:
        fields["eo:center_wavelength"] = round(known.center / 1000, 6)
        fields["eo:full_width_half_max"] = round((known.high - known.low) / 1000, 6)
    return fields


def _extensions_of(document: Mapping[str, Any]) -> list[str]:
    versions = {
        "proj:": "projection/v2.0.0",
        "raster:": "raster/v2.0.0",
        "eo:": "eo/v2.0.0",
        "processing:": "processing/v1.2.0",
        "sci:": "scientific/v1.0.0",
        "grid:": "grid/v1.1.0",
    }
    text = json.dumps(document)
    return [f"{_EXTENSIONS}/{v}/schema.json" for key, v in versions.items() if f'"{key}' in text]
