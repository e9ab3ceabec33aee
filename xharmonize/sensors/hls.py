"""Harmonized Landsat and Sentinel-2, version 2: L30 and S30.

Both products are nadir BRDF-adjusted, on the 30 m grid of the MGRS tiles, and given in OLI's
bandpass (Claverie et al. 2018, doi:10.1016/j.rse.2018.09.002). The red-edge bands and the broad
near infrared (B08) of S30 have no counterpart on OLI and keep MSI's bandpass.
"""

from __future__ import annotations

from dataclasses import replace

from xharmonize.sensors.landsat import LANDSAT_C2_L2, SOURCE_FILES
from xharmonize.sensors.sentinel2 import MSI
from xharmonize.sensors.sentinel2 import NAMES as MSI_NAMES
from xharmonize.sensors.spec import Band, Instrument, Naming, QALayer, Radiometry, Sensor

_RADIOMETRY = Radiometry(
    scale=1e-4, offset=0.0, nodata=-9999, valid_min=-9998, valid_max=32767, dtype="int16"
)

_FMASK = QALayer(
    name="fmask",
    assets=("Fmask", "fmask"),
    layout="hls-fmask",
    gsd=30.0,
    dtype="uint8",
    fill=255,
)

_SOURCE = "HLS Product User Guide v2.0, NASA LP DAAC"


def _regrid(band: Band, *, key: str) -> Band:
    """Return the band as HLS delivers it: 30 m, under the key of its file name."""
    return replace(band, gsd=30.0, assets=(key, band.name))


_L30 = tuple(
    Instrument(
        platform=instrument.platform,
        bandpass="oli",
        bands=tuple(_regrid(band, key=f"B0{band.source[1:]}") for band in instrument.bands),
    )
    for instrument in LANDSAT_C2_L2.instruments
    if instrument.bandpass == "oli"
)

_S30 = tuple(
    replace(
        instrument,
        bands=tuple(
            _regrid(band, key=band.source) for band in instrument.bands if band.name != "nir09"
        ),
    )
    for instrument in MSI
)


def _names(product: str, other: str, *, parts: tuple[str, ...] = ()) -> Naming:
    """Names of a product; properties keep those of the Level 1 product it was made from."""
    return Naming(
        platform=MSI_NAMES.platform if parts else "",
        products=(rf"(?:^|/)HLS\.{product}\.",),
        parts=(*parts, r"^HLS.*?[_.]T?(?P<tile>\d{1,2}[C-X][A-Z]{2})(?=[_.]|$)"),
        levels=((rf"(?:^|/)HLS\.{other}\.", "other"),),
        trusted="id",
        source_files=SOURCE_FILES,
    )


HLS_L30 = Sensor(
    name="hls-l30",
    title="HLS v2 L30: Landsat OLI, 30 m NBAR",
    instruments=_L30,
    level="NBAR",
    radiometry=_RADIOMETRY,
    qa=(_FMASK,),
    names=_names("L30", "S30"),
    collections=("hls-l30", "HLSL30", "HLSL30.v2.0", "HLSL30_2.0", "hls2-l30"),
    constellation="hls",
    bandpass="oli",
    source=_SOURCE,
)

HLS_S30 = Sensor(
    name="hls-s30",
    title="HLS v2 S30: Sentinel-2 MSI adjusted to OLI, 30 m NBAR",
    instruments=_S30,
    level="NBAR",
    radiometry=_RADIOMETRY,
    qa=(_FMASK,),
    names=_names("S30", "L30", parts=MSI_NAMES.parts),
    collections=("hls-s30", "HLSS30", "HLSS30.v2.0", "HLSS30_2.0", "hls2-s30"),
    constellation="hls",
    bandpass="oli",
    source=_SOURCE,
)
