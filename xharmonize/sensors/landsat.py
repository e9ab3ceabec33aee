"""Landsat 7 ETM+, Landsat 8 OLI and Landsat 9 OLI-2: Collection 2 Level 2 and Collection 1 SR.

OLI band edges: Wu et al. (2022), doi:10.1016/j.jag.2022.102738; centres are the means of the
relative spectral responses published by NASA/USGS for each platform, weighted by response.
ETM+ band edges: NASA Goddard, Landsat 7 band table (landsat.gsfc.nasa.gov), whose centres are
midpoints of the edges.
"""

from __future__ import annotations

from dataclasses import replace

from xharmonize.sensors.spec import (
    Band,
    ExtraBand,
    Instrument,
    Naming,
    QALayer,
    Radiometry,
    Sensor,
)

# A pixel that the terrain hides from the sensor is no observation of its place.
_CLEAR = (
    "fill",
    "cloud",
    "cloud_adjacent",
    "cloud_shadow",
    "cirrus",
    "snow",
    "saturated",
    "terrain_shadow",
)

_OLI_BANDS = (
    ("coastal", 1, 430.0, 450.0),
    ("blue", 2, 450.0, 515.0),
    ("green", 3, 525.0, 600.0),
    ("red", 4, 630.0, 680.0),
    ("nir08", 5, 845.0, 885.0),
    ("swir16", 6, 1560.0, 1660.0),
    ("swir22", 7, 2100.0, 2300.0),
)

_OLI_CENTERS = {
    "landsat-8": (443.0, 482.6, 561.3, 654.6, 864.6, 1609.1, 2201.2),
    "landsat-9": (442.8, 482.3, 560.9, 654.3, 864.6, 1608.4, 2201.1),
}

_ETM_BANDS = (
    ("blue", 1, 450.0, 520.0),
    ("green", 2, 520.0, 600.0),
    ("red", 3, 630.0, 690.0),
    ("nir08", 4, 760.0, 900.0),
    ("swir16", 5, 1550.0, 1750.0),
    ("swir22", 7, 2080.0, 2350.0),
)


def _keys(name: str, number: int, *, collection: int) -> tuple[str, ...]:
    """Asset keys of one band: common name, then USGS file names of the collection."""
    if collection == 2:
        return (name, f"SR_B{number}.TIF", f"SR_B{number}", f"B{number}")
    return (name, f"sr_band{number}", f"B{number}")


def _oli(platform: str, *, collection: int) -> Instrument:
    return Instrument(
        platform=platform,
        bandpass="oli",
        bands=tuple(
            Band(
                name=name,
                source=f"b{number}",
                low=low,
                high=high,
                center=center,
                gsd=30.0,
                assets=_keys(name, number, collection=collection),
            )
            for (name, number, low, high), center in zip(_OLI_BANDS, _OLI_CENTERS[platform])
        ),
    )


def _etm(*, collection: int) -> Instrument:
    return Instrument(
        platform="landsat-7",
        bandpass="etm+",
        bands=tuple(
            Band(
                name=name,
                source=f"b{number}",
                low=low,
                high=high,
                center=(low + high) / 2,
                gsd=30.0,
                assets=_keys(name, number, collection=collection),
            )
            for name, number, low, high in _ETM_BANDS
        ),
    )


SOURCE_FILES = r"(?i)_L1[A-Z]{1,2}_[^/]*_B\d+\.TIF"
"""Band files of Level 1."""

_NAMES = Naming(
    platform="landsat-{}",
    spellings=(r"(?:landsat|l[cote]0?)([4-9])",),
    products=(r"^L[COTE]0[4-9]_L2S[PR]_\d{6}_.*_02_",),
    parts=(
        r"^L[COTEM]0?(?P<platform>[1-9])(?=_|\d{6})",
        r"^L[COTE]0[4-9]_L\w{3}_(?P<tile>\d{6})_.*?_(?P<collection>0[12])(?:_|$)",
    ),
    levels=(
        (r"(?i)(?:^|[/_.])L[COTEM]0?[1-9]_L1[A-Z]{1,2}(?=_|$)", "TOA"),
        (r"(?i)(?:^|[/_.])L[COTEM]0?[1-9]_L2[A-Z]{2}(?=_|$)", "SR"),
        (r"(?i)/level-?1/", "TOA"),
    ),
    one_pass="path",
    is_aim_off_nadir=True,
)

_KELVIN = Radiometry(
    scale=0.00341802,
    offset=149.0,
    nodata=0,
    valid_min=1,
    valid_max=65535,
    units="K",
    is_fixed=True,
)

LANDSAT_C2_L2 = Sensor(
    name="landsat-c2-l2",
    title="Landsat Collection 2 Level 2 surface reflectance",
    instruments=(
        _oli("landsat-8", collection=2),
        _oli("landsat-9", collection=2),
        _etm(collection=2),
    ),
    level="SR",
    radiometry=Radiometry(
        scale=2.75e-5, offset=-0.2, nodata=0, valid_min=7273, valid_max=43636, is_fixed=True
    ),
    extra_bands=(
        ExtraBand(name="lwir11", assets=("lwir11", "ST_B10.TIF", "ST_B10"), radiometry=_KELVIN),
        ExtraBand(name="lwir", assets=("lwir", "ST_B6.TIF", "ST_B6"), radiometry=_KELVIN),
    ),
    qa=(
        QALayer(
            name="qa_pixel",
            assets=("qa_pixel", "QA_PIXEL.TIF", "QA_PIXEL"),
            layout="qa-pixel-c2",
            gsd=30.0,
            dtype="uint16",
            fill=1,
        ),
        QALayer(
            name="qa_radsat",
            assets=("qa_radsat", "QA_RADSAT.TIF", "QA_RADSAT"),
            layout="qa-radsat",
            gsd=30.0,
            dtype="uint16",
            fill=0,
            is_primary=False,
        ),
        QALayer(
            name="qa_aerosol",
            assets=("qa_aerosol", "SR_QA_AEROSOL.TIF", "SR_QA_AEROSOL"),
            layout="sr-qa-aerosol",
            gsd=30.0,
            dtype="uint8",
            fill=1,
            is_primary=False,
        ),
    ),
    clear=_CLEAR,
    names=_NAMES,
    collection_number=2,
    collections=("landsat-c2-l2", "landsat-8-c2-l2", "landsat-c2l2-sr", "landsat-c2l2alb-sr"),
    constellation="landsat",
    source="USGS Landsat 8-9 Collection 2 Level 2 Science Product Guide (LSDS-1619)",
)

LANDSAT_C1_SR = Sensor(
    name="landsat-c1-sr",
    title="Landsat Collection 1 Level 2 surface reflectance",
    instruments=(_oli("landsat-8", collection=1), _etm(collection=1)),
    level="SR",
    radiometry=Radiometry(
        scale=1e-4,
        offset=0.0,
        nodata=-9999,
        valid_min=-9998,
        valid_max=32766,
        dtype="int16",
        is_fixed=True,
    ),
    qa=(
        QALayer(
            name="pixel_qa",
            assets=("pixel_qa",),
            layout="pixel-qa-c1",
            gsd=30.0,
            dtype="uint16",
            fill=1,
        ),
        QALayer(
            name="sr_aerosol",
            assets=("sr_aerosol",),
            layout="sr-qa-aerosol",
            gsd=30.0,
            dtype="uint8",
            fill=1,
            is_primary=False,
        ),
    ),
    clear=_CLEAR,
    # Its product names are those of Level 1, which its assets tell it from.
    names=replace(
        _NAMES,
        products=(r"^L[COTE]0[4-9]_L\w{3}_\d{6}_.*_01_",),
        assets=r"^pixel_qa$|^sr_",
        trusted="none",
        source_files=SOURCE_FILES,
    ),
    collection_number=1,
    collections=("landsat-c1-sr", "landsat-8-c1-sr", "landsat-7-c1-sr"),
    constellation="landsat",
    source="USGS Landsat 8 Surface Reflectance Code (LaSRC) Product Guide (LSDS-1368)",
)
