"""Write one band of one date as a cloud-optimised GeoTIFF, with STAC item and QGIS style.

References
----------
STAC 1.1.0, https://github.com/radiantearth/stac-spec; extensions projection 2.0, raster 2.0,
eo 2.0, processing 1.2, scientific 1.0, grid 1.1, https://stac-extensions.github.io.

QGIS applies scale and offset of a file, so limits are in the unit of the values.

References
----------
QGIS user manual, QML - the QGIS style file format; the elements are those that
`QgsSingleBandPseudoColorRenderer`, `QgsSingleBandGrayRenderer` and `QgsMultiBandColorRenderer`
read. GDAL, VRT - virtual format, https://gdal.org/en/stable/drivers/raster/vrt.html.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

import numpy as np
import pandas as pd

from xharmonize._optional import require
from xharmonize._urls import Remote, read_all, whole
from xharmonize.cube.companions import role_of
from xharmonize.cube.contract import REFLECTANCE
from xharmonize.cube.geobox import crs_code, reproject_bounds
from xharmonize.cube.indices import INDEX_RAMP
from xharmonize.errors import BandError, UnknownSensorError
from xharmonize.kernels.longitude import Box, box_around, normal_box, spans
from xharmonize.sensors import get_sensor
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.types import AnyArray

INT16_SCALE = 1e-4
INT16_NODATA = -32768  # -9999 would be a legal index value, -0.9999


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Contents of one file, except its pixels.

    Attributes
    ----------
    name : str
        Of the asset: ``red``, ``ndvi``, ``qa``.
    variable : str
        Of the cube.
    band : str or None
        Common name, where the variable has bands.
    dtype : str
        Of the file.
    scale, offset : float
        value = number * scale + offset.
    nodata : float or None
        Number of a missing pixel.
    unit, description : str
        Of the value.
    resampling : {"average", "nearest"}
        Of the overviews.
    """

    name: str
    variable: str
    band: str | None
    dtype: str
    scale: float
    offset: float
    nodata: float | None
    unit: str
    description: str
    resampling: str
    tags: Mapping[str, str]


def to_numbers(values: AnyArray, layer: Layer) -> AnyArray:
    """Encode values as numbers of the file; values out of range for int16 become nodata."""
    if values.dtype.kind != "f" or layer.dtype.startswith("float"):
        return values.astype(layer.dtype, copy=False)
    limits = np.iinfo(layer.dtype)
    numbers = np.rint((values.astype(np.float64) - layer.offset) / layer.scale)
    is_legal = (numbers > limits.min) & (numbers <= limits.max)  # NaN compares False
    return np.where(is_legal, numbers, limits.min).astype(layer.dtype)


def write_cog(
    folder: Path | Remote,
    name: str,
    pixels: AnyArray,
    layer: Layer,
    *,
    crs: Any,
    transform: Any,
    tags: Mapping[str, str],
) -> None:
    """Write a north-up (y, x) array with overviews, atomically."""
    import rasterio
    from rasterio.enums import ColorInterp

    profile = {
        "driver": "COG",
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "count": 1,
        "dtype": layer.dtype,
        "nodata": layer.nodata,
        "crs": crs,
        "transform": transform,
        **_options(pixels.shape, resampling=layer.resampling),
    }
    with whole(folder, name) as path, rasterio.open(path, "w", **profile) as file:
        file.write(to_numbers(pixels, layer), 1)
        file.colorinterp = (ColorInterp.gray,)
        file.set_band_description(1, layer.description)
        file.units = (layer.unit,)
        file.scales, file.offsets = (layer.scale,), (layer.offset,)
        file.update_tags(**tags)
        file.update_tags(1, **layer.tags)


def _options(shape: tuple[int, ...], *, resampling: str) -> dict[str, Any]:
    """Return options of GDAL's COG driver; small images get small tiles, so that all have both."""
    longest = max(shape)
    block = min(512, max(16, -(-longest // 32) * 16))
    levels = 1
    while longest / 2**levels > block:
        levels += 1
    return {
        "COMPRESS": "DEFLATE",
        "PREDICTOR": "YES",
        "BLOCKSIZE": block,
        "OVERVIEW_RESAMPLING": resampling.upper(),
        "NUM_THREADS": "ALL_CPUS",
        "BIGTIFF": "IF_SAFER",
        **({"OVERVIEW_COUNT": levels} if longest > 1 else {"OVERVIEWS": "NONE"}),
    }


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


def write_catalog(path: Path | Remote, *, collection: str, description: str) -> Path | Remote:
    """Write the collection and catalogue of all items in the collection's folder.

    Returns
    -------
    Path or Remote
        Where ``catalog.json`` is, which is written last.
    """
    pystac = require("pystac", extra="stac")
    folder = path / collection
    items = [json.loads(text) for text in read_all(folder, "*/*.json").values()]
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
    write_json(folder, "collection.json", group)
    return write_root(path)


def write_root(path: Path | Remote) -> Path | Remote:
    """Write ``catalog.json`` with links to the existing collections."""
    pystac = require("pystac", extra="stac")
    catalog = pystac.Catalog(id=path.name, description="Collections written by xharmonize").to_dict(
        include_self_link=False
    )
    children = [name.partition("/")[0] for name in read_all(path, "*/collection.json")]
    catalog["links"] = [
        _link("root", "./catalog.json"),
        *(_link("child", f"./{child}/collection.json") for child in children),
    ]
    catalog["xharmonize:catalog"] = True
    return write_json(path, "catalog.json", catalog)


def write_json(folder: Path | Remote, name: str, document: Mapping[str, Any]) -> Path | Remote:
    """Write a JSON file atomically."""
    with whole(folder, name) as path:
        path.write_text(json.dumps(document, indent=2))
    return folder / name


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
    from xharmonize import __version__

    return __version__


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


DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
VERSION = "3.34.0-Prizren"

TRUE_COLOUR = {"red": (0.04, 0.2), "green": (0.06, 0.2), "blue": (0.08, 0.2)}
"""Reflectance [1] drawn black and white: the fixed stretch of `xharmonize.plot.maps`."""

GREY = (0.0, 0.5)
"""Reflectance [1] of other bands drawn black and white."""

_GDAL_TYPE = {
    "uint8": "Byte",
    "uint16": "UInt16",
    "int16": "Int16",
    "int32": "Int32",
    "uint32": "UInt32",
    "float32": "Float32",
    "float64": "Float64",
}


def write_styles(folder: Path | Remote, name: str, layers: Sequence[Layer], geobox: Any) -> None:
    """Write the styles of one item, and a true-colour composite if it has the bands.

    Reflectance is drawn in grey, an index in colours; companions (`qa`, `origin`, …) get no style.
    The composite is ``<name>_rgb.vrt``, which only refers to the files of the three bands.
    """
    for layer in layers:
        style = _style_of(layer, layers)
        if style is not None:
            _write(folder, f"{name}_{layer.name}.qml", style, doctype=DOCTYPE)
    colours = {layer.name: layer for layer in layers if layer.variable == REFLECTANCE}
    if set(TRUE_COLOUR) <= set(colours):
        chosen = [colours[band] for band in TRUE_COLOUR]
        _write(folder, f"{name}_rgb.vrt", _virtual(name, chosen, geobox))
        _write(folder, f"{name}_rgb.qml", _document(_multiband()), doctype=DOCTYPE)


def _style_of(layer: Layer, layers: Sequence[Layer]) -> xml.Element | None:
    """Return the style of a layer: the first variable is what the item shows."""
    if layer.variable != layers[0].variable or layer.resampling != "average":
        return None
    if layer.variable == REFLECTANCE or layer.band is not None:
        return _document(_grey(*TRUE_COLOUR.get(layer.name, GREY)))
    return _document(_pseudocolour(INDEX_RAMP))


def _document(renderer: xml.Element) -> xml.Element:
    """Return the style with the elements that QGIS writes around every renderer."""
    root = xml.Element("qgis", version=VERSION, styleCategories="Symbology")
    pipe = xml.SubElement(root, "pipe")
    provider = xml.SubElement(pipe, "provider")
    resampling = {f"zoomed{way}ResamplingMethod": "nearestNeighbour" for way in ("In", "Out")}
    xml.SubElement(
        provider, "resampling", {"enabled": "false", "maxOversampling": "2", **resampling}
    )
    pipe.append(renderer)
    xml.SubElement(pipe, "brightnesscontrast", brightness="0", contrast="0", gamma="1")
    xml.SubElement(pipe, "huesaturation", saturation="0", grayscaleMode="0", colorizeOn="0")
    xml.SubElement(pipe, "rasterresampler", maxOversampling="2")
    xml.SubElement(pipe, "resamplingStage").text = "resamplingFilter"
    xml.SubElement(root, "blendMode").text = "0"
    return root


def _renderer(kind: str, **attributes: str) -> xml.Element:
    common = {"opacity": "1", "alphaBand": "-1", "nodataColor": ""}
    renderer = xml.Element("rasterrenderer", {"type": kind, **common, **attributes})
    xml.SubElement(renderer, "rasterTransparency")
    origin = xml.SubElement(renderer, "minMaxOrigin")
    settled = {"limits": "None", "extent": "WholeRaster", "statAccuracy": "Estimated"}
    for tag, text in settled.items():
        xml.SubElement(origin, tag).text = text
    return renderer


def _pseudocolour(ramp: Sequence[tuple[float, str]]) -> xml.Element:
    low, high = f"{ramp[0][0]:g}", f"{ramp[-1][0]:g}"
    renderer = _renderer(
        "singlebandpseudocolor", band="1", classificationMin=low, classificationMax=high
    )
    shader = xml.SubElement(
        xml.SubElement(renderer, "rastershader"),
        "colorrampshader",
        colorRampType="INTERPOLATED",
        classificationMode="1",
        clip="0",
        minimumValue=low,
        maximumValue=high,
        labelPrecision="2",
    )
    for value, colour in ramp:
        text = f"{value:g}"
        xml.SubElement(shader, "item", alpha="255", color=colour, label=text, value=text)
    return renderer


def _grey(low: float, high: float) -> xml.Element:
    renderer = _renderer("singlebandgray", grayBand="1", gradient="BlackToWhite")
    _stretch(xml.SubElement(renderer, "contrastEnhancement"), low, high)
    return renderer


def _multiband() -> xml.Element:
    bands = {f"{name}Band": str(i) for i, name in enumerate(TRUE_COLOUR, start=1)}
    renderer = _renderer("multibandcolor", **bands)
    for name, limits in TRUE_COLOUR.items():
        _stretch(xml.SubElement(renderer, f"{name}ContrastEnhancement"), *limits)
    return renderer


def _stretch(parent: xml.Element, low: float, high: float) -> None:
    xml.SubElement(parent, "minValue").text = f"{low:g}"
    xml.SubElement(parent, "maxValue").text = f"{high:g}"
    xml.SubElement(parent, "algorithm").text = "StretchToMinimumMaximum"


def _virtual(name: str, layers: Sequence[Layer], geobox: Any) -> xml.Element:
    """Return a VRT of several files beside it, with their scale, offset and nodata."""
    height, width = geobox.shape
    a, b, c, d, e, f = list(geobox.transform)[:6]
    root = xml.Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))
    xml.SubElement(root, "SRS", dataAxisToSRSAxisMapping="1,2").text = geobox.crs.to_wkt()
    xml.SubElement(root, "GeoTransform").text = ", ".join(map(repr, map(float, (c, a, b, f, d, e))))
    for number, layer in enumerate(layers, start=1):
        band = xml.SubElement(
            root, "VRTRasterBand", dataType=_GDAL_TYPE[layer.dtype], band=str(number)
        )
        fields: Mapping[str, Any] = {
            "Description": layer.description,
            "NoDataValue": layer.nodata,
            "UnitType": layer.unit,
            "Offset": layer.offset,
            "Scale": layer.scale,
            "ColorInterp": layer.name.capitalize(),
        }
        for tag, value in fields.items():
            if value is not None:
                xml.SubElement(band, tag).text = str(value)
        source = xml.SubElement(band, "SimpleSource")
        file = xml.SubElement(source, "SourceFilename", relativeToVRT="1")
        file.text = f"{name}_{layer.name}.tif"
        xml.SubElement(source, "SourceBand").text = "1"
    return root


def _write(folder: Path | Remote, name: str, root: xml.Element, *, doctype: str = "") -> None:
    """Write an XML file atomically."""
    xml.indent(root)
    with whole(folder, name) as path:
        path.write_text(doctype + xml.tostring(root, encoding="unicode") + "\n", encoding="utf-8")
