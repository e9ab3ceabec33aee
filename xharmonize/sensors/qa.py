"""Quality layouts: conversion of each quality layer's values to packed `Flag` bits.

A class layer (SCL) is a layout with one field over all its bits. Decisions that the documents leave
to the user are made once, here:

- ``cloud`` is what the product calls cloud with medium or high probability in SCL (classes 8 and
  9), and the high-confidence bit of Landsat; ``cloud_probable`` marks medium probability (SCL 8,
  Landsat confidence 10), so that SCL 8 is both and can still be told from 9.
- ``cloud_adjacent`` is Landsat's dilated cloud and HLS's adjacent to cloud or shadow.
- ``cirrus``: SCL 10, HLS bit 0, Landsat's cirrus bit, or high cirrus confidence (Collection 1 has
  no such bit).
- A class that the document does not define counts as ``fill``.

References
----------
USGS LSDS-1619 (Collection 2), LSDS-1368 (Collection 1); HLS Product User Guide v2.0; ESA
Sentinel-2 Products Specification Document, scene classification.
"""

from __future__ import annotations

from dataclasses import replace

from xharmonize.errors import MaskError
from xharmonize.sensors.spec import BitField, Flag, Layout, QALayer


def _bit(name: str, offset: int, flag: Flag) -> BitField:
    return BitField(name=name, offset=offset, length=1, flags=((1, flag),))


def _confidence(name: str, offset: int, high: Flag, medium: Flag | None = None) -> BitField:
    """Landsat's two-bit confidence: 01 low, 10 medium, 11 high."""
    flags = ((3, high),) if medium is None else ((2, medium), (3, high))
    return BitField(name=name, offset=offset, length=2, flags=flags)


_AEROSOL = BitField(
    name="aerosol",
    offset=6,
    length=2,
    flags=((1, Flag.AEROSOL_LOW), (2, Flag.AEROSOL_MODERATE), (3, Flag.AEROSOL_HIGH)),
)

_SCL = Layout(
    name="scl",
    n_bits=8,
    fields=(
        BitField(
            name="class",
            offset=0,
            length=8,
            flags=(
                (0, Flag.FILL),
                (1, Flag.SATURATED),
                (2, Flag.DARK | Flag.TERRAIN_SHADOW),
                (3, Flag.CLOUD_SHADOW),
                (6, Flag.WATER),
                (7, Flag.UNCLASSIFIED),
                (8, Flag.CLOUD | Flag.CLOUD_PROBABLE),
                (9, Flag.CLOUD),
                (10, Flag.CIRRUS),
                (11, Flag.SNOW),
            ),
        ),
    ),
    n_classes=12,
)

_HLS_FMASK = Layout(
    name="hls-fmask",
    n_bits=8,
    fields=(
        _bit("cirrus", 0, Flag.CIRRUS),
        _bit("cloud", 1, Flag.CLOUD),
        _bit("adjacent to cloud or shadow", 2, Flag.CLOUD_ADJACENT),
        _bit("cloud shadow", 3, Flag.CLOUD_SHADOW),
        _bit("snow or ice", 4, Flag.SNOW),
        _bit("water", 5, Flag.WATER),
        _AEROSOL,
    ),
    fill=255,
)

_QA_PIXEL_C2 = Layout(
    name="qa-pixel-c2",
    n_bits=16,
    fields=(
        _bit("fill", 0, Flag.FILL),
        _bit("dilated cloud", 1, Flag.CLOUD_ADJACENT),
        _bit("cirrus", 2, Flag.CIRRUS),
        _bit("cloud", 3, Flag.CLOUD),
        _bit("cloud shadow", 4, Flag.CLOUD_SHADOW),
        _bit("snow", 5, Flag.SNOW),
        _bit("water", 7, Flag.WATER),
        _confidence("cloud confidence", 8, Flag.CLOUD, Flag.CLOUD_PROBABLE),
        _confidence("cloud shadow confidence", 10, Flag.CLOUD_SHADOW),
        _confidence("snow confidence", 12, Flag.SNOW),
        _confidence("cirrus confidence", 14, Flag.CIRRUS),
    ),
)

_PIXEL_QA_C1 = Layout(
    name="pixel-qa-c1",
    n_bits=16,
    fields=(
        _bit("fill", 0, Flag.FILL),
        _bit("water", 2, Flag.WATER),
        _bit("cloud shadow", 3, Flag.CLOUD_SHADOW),
        _bit("snow", 4, Flag.SNOW),
        _bit("cloud", 5, Flag.CLOUD),
        _confidence("cloud confidence", 6, Flag.CLOUD, Flag.CLOUD_PROBABLE),
        _confidence("cirrus confidence", 8, Flag.CIRRUS),
        _bit("terrain occlusion", 10, Flag.TERRAIN_SHADOW),
    ),
)

_QA_RADSAT = Layout(
    name="qa-radsat",
    n_bits=16,
    fields=(
        *(
            replace(_bit(f"b{number}", number - 1, Flag.SATURATED), is_band=True)
            for number in range(1, 8)
        ),
        _bit("terrain occlusion", 11, Flag.TERRAIN_SHADOW),
    ),
)

_SR_QA_AEROSOL = Layout(
    name="sr-qa-aerosol",
    n_bits=8,
    fields=(_bit("fill", 0, Flag.FILL), _bit("water", 2, Flag.WATER), _AEROSOL),
)


def probability_layout(threshold: float) -> Layout:
    """Layout of a cloud probability layer [%]: ``cloud_probable`` from `threshold` on.

    Raises
    ------
    MaskError
        If the threshold is outside 0 ... 100.
    """
    if not 0 <= threshold <= 100:
        raise MaskError(f"a cloud probability of {threshold} %", cure="give one from 0 to 100")
    values = range(101)
    flags = tuple((value, Flag.CLOUD_PROBABLE) for value in values if value >= threshold)
    return Layout(
        name="cloud-probability",
        n_bits=8,
        fields=(BitField(name="probability", offset=0, length=8, flags=flags),),
        n_classes=101,
    )


_PACKED = Layout(
    name="packed-flags",
    n_bits=16,
    fields=tuple(_bit(flag.label, number, flag) for number, flag in enumerate(Flag)),
)

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        _SCL,
        _HLS_FMASK,
        _QA_PIXEL_C2,
        _PIXEL_QA_C1,
        _QA_RADSAT,
        _SR_QA_AEROSOL,
        _PACKED,
        probability_layout(50.0),
    )
}
"""Layouts by name.

``packed-flags`` is that of our own ``qa``; ``cloud-probability`` stands at 50 %, see
`probability_layout`.
"""


def layout_of(layer: QALayer) -> Layout:
    """Return the layout of a quality layer: its own, or the one it names."""
    return LAYOUTS[layer.layout] if isinstance(layer.layout, str) else layer.layout
