"""Sentinel-2 MSI, Level-2A.

Band edges: Liu et al. (2023), doi:10.3390/rs15102563, and Wu et al. (2022),
doi:10.1016/j.jag.2022.102738; for B01, B05-B07 and B09,
mid-bandwidth wavelength and bandwidth of S2A in ESA's Sentinel-2 Spectral Response Functions v4.0
(COPE-GSEG-EOPG-TN-15-0007), which also gives the centre wavelengths ("equivalent wavelength") of
each platform.
"""

from __future__ import annotations

from xharmonize.sensors.spec import Band, Instrument, Naming, QALayer, Radiometry, Sensor

_BANDS = (
    ("coastal", "B01", 433.0, 453.0, 60.0, ("coastal", "B01")),
    ("blue", "B02", 458.0, 523.0, 10.0, ("blue", "B02")),
    ("green", "B03", 543.0, 578.0, 10.0, ("green", "B03")),
    ("red", "B04", 650.0, 680.0, 10.0, ("red", "B04")),
    ("rededge1", "B05", 698.0, 712.0, 20.0, ("rededge1", "B05")),
    ("rededge2", "B06", 734.0, 748.0, 20.0, ("rededge2", "B06")),
    ("rededge3", "B07", 774.0, 794.0, 20.0, ("rededge3", "B07")),
    ("nir", "B08", 785.0, 900.0, 10.0, ("nir", "B08")),
    ("nir08", "B8A", 855.0, 875.0, 20.0, ("nir08", "B8A")),
    ("nir09", "B09", 936.0, 956.0, 60.0, ("nir09", "B09")),
    ("swir16", "B11", 1565.0, 1655.0, 20.0, ("swir16", "B11")),
    ("swir22", "B12", 2100.0, 2280.0, 20.0, ("swir22", "B12")),
)

_CENTERS = {
    "sentinel-2a": (
        442.7, 492.4, 559.8, 664.6, 704.1, 740.5, 782.8, 832.8, 864.7, 945.1, 1613.7, 2202.4,
    ),
    "sentinel-2b": (
        442.2, 492.1, 559.0, 664.9, 703.8, 739.1, 779.7, 832.9, 864.0, 943.2, 1610.4, 2185.7,
    ),
    "sentinel-2c": (
        444.2, 489.0, 560.6, 666.5, 707.1, 741.1, 784.7, 834.6, 865.6, 947.2, 1612.0, 2191.3,
    ),
}  # fmt: skip

MSI = tuple(
    Instrument(
        platform=platform,
        bandpass="msi",
        bands=tuple(
            Band(name=name, source=source, low=low, high=high, center=center, gsd=gsd, assets=keys)
            for (name, source, low, high, gsd, keys), center in zip(_BANDS, centers)
        ),
    )
    for platform, centers in _CENTERS.items()
)
"""MSI on Sentinel-2A, 2B and 2C."""

NAMES = Naming(
    platform="sentinel-2{}",
    spellings=(r"(?:sentinel|s)2([a-d])",),
    products=(r"^S2[A-D]_MSIL2A_|^S2[A-D]_.*_L2A$",),
    parts=(
        r"(?:^|[_.])G?S2(?P<platform>[A-D])_",
        r"_N(?P<baseline>\d\d\.?\d\d)(?:_|$|\.)",
        r"(?:MSIL\w\w_|GS2[A-D]_)(?P<sensing>\d{8}T\d{6})",
        r"^G?S2.*?[_.]T?(?P<tile>\d{1,2}[C-X][A-Z]{2})(?=[_.]|$)",
        r"_S(?P<datastrip>\d{8}T\d{6})",
    ),
    levels=(
        (r"(?i)MSI_?L1[A-C](?![A-Z\d])|(?:^|[_/.\-])L1[A-C](?=[_/.\-]|$)", "TOA"),
        (r"(?i)MSI_?L2A(?![A-Z\d])|(?:^|[_/.\-])L2A(?=[_/.\-]|$)", "SR"),
    ),
)
"""Names of ESA's products and granules, and those that catalogues on AWS make of them."""

SENTINEL_2_L2A = Sensor(
    name="sentinel-2-l2a",
    title="Sentinel-2 MSI Level-2A surface reflectance",
    instruments=MSI,
    level="SR",
    radiometry=Radiometry(
        scale=1e-4,
        offset=0.0,
        nodata=0,
        valid_min=1,
        valid_max=65534,
        baseline_offsets=(("04.00", -0.1),),
        unknown_from="99.00",  # N9999: made by users with Sen2Cor, from any baseline
        applied_flag="boa_offset_applied",
        is_fixed=True,
    ),
    qa=(
        QALayer(name="scl", assets=("scl", "SCL"), layout="scl", gsd=20.0, dtype="uint8", fill=0),
        QALayer(
            name="cloud_probability",
            assets=("cloud", "cld", "CLD", "MSK_CLDPRB", "cloud_probability"),
            layout="cloud-probability",
            gsd=20.0,
            dtype="uint8",
            fill=255,
            is_primary=False,
        ),
    ),
    collections=(
        "sentinel-2-l2a",
        "sentinel-2-c1-l2a",
        "sentinel-2-pre-c1-l2a",
        "sentinel-s2-l2a-cogs",
        "sentinel-s2-l2a",
        "sentinel2-l2a",
    ),
    names=NAMES,
    constellation="sentinel-2",
    source="ESA Sentinel-2 Products Specification Document; Spectral Response Functions v4.0",
)
