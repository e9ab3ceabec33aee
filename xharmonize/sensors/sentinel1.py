"""Sentinel-1 C-SAR backscatter: ground range detected, and radiometrically terrain corrected.

Pixels are linear power where the metadata of an item does not say otherwise; wavelength fields
are 0, since a radar has no optical band edges. They have no reflectance: no bandpass table fits.
"""

from __future__ import annotations

import math
from dataclasses import replace

from xharmonize.sensors.spec import Band, Instrument, Naming, Radiometry, Sensor

_INSTRUMENTS = tuple(
    Instrument(
        platform=platform,
        bandpass="c-sar",
        bands=tuple(
            Band(
                name=name,
                source=name.upper(),
                low=0.0,
                high=0.0,
                center=0.0,
                gsd=10.0,
                assets=(name, name.upper()),
            )
            for name in ("vv", "vh")
        ),
    )
    for platform in ("sentinel-1a", "sentinel-1b", "sentinel-1c")
)

FIRST_ORBITS = {"sentinel-1a": 73, "sentinel-1b": 27}
"""Absolute orbit that is the first of the 175 relative ones (ESA, Sentinel-1 orbit numbering)."""


def relative_orbit(platform: str, absolute: float) -> float:
    """Relative orbit of an absolute one; NaN where the platform's numbering is not known.

    Examples
    --------
    >>> relative_orbit("sentinel-1a", 53498)
    51
    """
    first = FIRST_ORBITS.get(platform)
    return math.nan if first is None else (absolute - first) % 175 + 1


_NAMES = Naming(
    platform="sentinel-1{}",
    spellings=(r"(?:sentinel|s)1([a-d])",),
    parts=(r"(?:^|[_.])S1(?P<platform>[A-D])_",),
    levels=((r"(?i)(?:^|/)S1[A-D]_\w\w_(?:RAW|SLC|OCN|ETA)", "other"),),
)

SENTINEL_1_GRD = Sensor(
    name="sentinel-1-grd",
    title="Sentinel-1 C-SAR ground range detected backscatter",
    instruments=_INSTRUMENTS,
    level="GRD",
    radiometry=Radiometry(
        scale=1.0,
        offset=0.0,
        nodata=0,
        valid_min=1,
        valid_max=65535,
        uncalibrated="the digital numbers of a Sentinel-1 GRD product are uncalibrated amplitudes "
        "(those of sentinel-1-rtc are calibrated)",
        is_power=True,
    ),
    clear=("fill",),
    names=replace(_NAMES, products=(r"^S1[A-D]_\w\w_GRD._(?!.*_rtc$)",), product_types=("GRD",)),
    collections=("sentinel-1-grd",),
    constellation="sentinel-1",
    quantity="backscatter",
    source="ESA Sentinel-1 Product Specification",
)

SENTINEL_1_RTC = Sensor(
    name="sentinel-1-rtc",
    title="Sentinel-1 C-SAR radiometrically terrain corrected backscatter",
    instruments=_INSTRUMENTS,
    level="RTC",
    radiometry=Radiometry(
        scale=1.0,
        offset=0.0,
        nodata=-32768,
        valid_min=0,
        valid_max=2**31 - 1,
        dtype="float32",
        is_power=True,
    ),
    clear=("fill",),
    names=replace(_NAMES, products=(r"^S1[A-D]_\w\w_GRD._.*_rtc$",), product_types=("GRD", "RTC")),
    quantity="gamma nought backscatter",
    collections=("sentinel-1-rtc",),
    constellation="sentinel-1",
    source="Planetary Computer Sentinel-1 RTC: gamma nought, linear power, nodata -32768",
)
