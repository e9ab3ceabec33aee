"""QGIS styles beside the files, which QGIS takes up by itself: ``name.qml`` for ``name.tif``.

QGIS applies scale and offset of a file, so limits are in the unit of the values.

References
----------
QGIS user manual, QML - the QGIS style file format; the elements are those that
`QgsSingleBandPseudoColorRenderer`, `QgsSingleBandGrayRenderer` and `QgsMultiBandColorRenderer`
read. GDAL, VRT - virtual format, https://gdal.org/en/stable/drivers/raster/vrt.html.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

from xharmonize.cube.cog.files import Layer
from xharmonize.cube.contract import REFLECTANCE

DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
VERSION = "3.34.0-Prizren"

INDEX_RAMP = (
    (-0.2, "#543005"),
    (0.0, "#bf812d"),
    (0.2, "#f6e8c3"),
    (0.4, "#c7eae5"),
    (0.6, "#5ab4ac"),
    (0.8, "#01665e"),
    (1.0, "#003c30"),
)
"""Brown to green-blue, told apart by the colour-blind (ColorBrewer BrBG)."""

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


def write_styles(folder: Path, name: str, layers: Sequence[Layer], geobox: Any) -> None:
    """Write the styles of one item, and a true-colour picture where it has the bands.

    Reflectance is drawn grey, an index in colours; companions (`qa`, `origin`, …) get no style.
    The picture is ``<name>_rgb.vrt``, which only points at the files of the three bands.
    """
    for layer in layers:
        style = _style_of(layer, layers)
        if style is not None:
            _write(folder / f"{name}_{layer.name}.qml", style, doctype=DOCTYPE)
    colours = {layer.name: layer for layer in layers if layer.variable == REFLECTANCE}
    if set(TRUE_COLOUR) <= set(colours):
        chosen = [colours[band] for band in TRUE_COLOUR]
        _write(folder / f"{name}_rgb.vrt", _virtual(name, chosen, geobox))
        _write(folder / f"{name}_rgb.qml", _document(_multiband()), doctype=DOCTYPE)


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


def _write(path: Path, root: xml.Element, *, doctype: str = "") -> None:
    """Write a file that appears whole or not at all."""
    xml.indent(root)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    partial.write_text(doctype + xml.tostring(root, encoding="unicode") + "\n", encoding="utf-8")
    os.replace(partial, path)
