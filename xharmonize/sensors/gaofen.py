"""Gaofen-1 WFV analysis-ready data.

Band edges and scaling: Liu et al. (2023), doi:10.3390/rs15102563. Centres are the means of the four
WFV cameras' relative spectral responses, weighted by response.
"""

from __future__ import annotations

from xharmonize.sensors.spec import Band, Instrument, Naming, Radiometry, Sensor

_WFV = Instrument(
    platform="gaofen-1",
    bandpass="wfv",
    bands=(
        Band(
            name="blue", source="b1", low=450, high=520, center=485.2, gsd=16, assets=("blue", "B1")
        ),
        Band(
            name="green",
            source="b2",
            low=520,
            high=590,
            center=556.6,
            gsd=16,
            assets=("green", "B2"),
        ),
        Band(
            name="red", source="b3", low=630, high=690, center=659.8, gsd=16, assets=("red", "B3")
        ),
        Band(
            name="nir", source="b4", low=770, high=890, center=823.8, gsd=16, assets=("nir", "B4")
        ),
    ),
)

GAOFEN_1_ARD = Sensor(
    name="gaofen-1-ard",
    title="Gaofen-1 WFV analysis-ready surface reflectance",
    instruments=(_WFV,),
    level="SR",
    radiometry=Radiometry(scale=1e-4, offset=0.0, nodata=0, valid_min=1, valid_max=65535),
    clear=("fill", "saturated"),
    names=Naming(
        platform="gaofen-1{}",
        spellings=(r"(?:gaofen|gf)1([a-d]?)",),
        parts=(r"^GF1(?P<platform>[A-D]?)_",),
    ),
    collections=("gaofen-1-ard",),
    constellation="gaofen-1",
    source="Liu et al. (2023), doi:10.3390/rs15102563",
)
