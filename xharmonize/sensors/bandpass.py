"""Published linear bandpass adjustments between sensors, and BRDF parameters.

A table knows its citation, its direction, the processing level it was made on, the platform it was
made for and the exact band it starts from, and refuses everything else. Lines are stored in the
direction they were published in; `BandpassTable.inverse` turns a table round.

References
----------
Roy et al. (2016), Remote Sensing of Environment 176, doi:10.1016/j.rse.2016.01.023, as used in
HLS v2, which gives B08 and B8A the same near-infrared parameters and interpolates the red edge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from xharmonize.errors import (
    BandError,
    RadiometryError,
    RadiometryWarning,
    UnknownModelError,
    suggest,
    warn,
)
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.types import Level

SENTINEL_2 = "sentinel-2"
"""Platform name that asks for the mean of Sentinel-2A and Sentinel-2B."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """Linear adjustment of one band: target = slope * source + offset.

    Attributes
    ----------
    source, target : str
        Common names of the bands.
    source_band, target_band : str
        Exact bands, by the sensors' own names (``B8A`` is not ``B08``).
    slope : float
        Reflectance per reflectance [1].
    offset : float
        Reflectance [1].
    slope_spread, offset_spread : float
        Half the difference between Sentinel-2A's line and 2B's, where this line is their mean;
        ``abs(slope_spread * source + offset_spread)`` is the uncertainty of the result [1].
    """

    source: str
    source_band: str
    target: str
    target_band: str
    slope: float
    offset: float
    slope_spread: float = 0.0
    offset_spread: float = 0.0

    def inverse(self) -> Line:
        """Return the line from target to source."""
        return Line(
            source=self.target,
            source_band=self.target_band,
            target=self.source,
            target_band=self.source_band,
            slope=1.0 / self.slope,
            offset=-self.offset / self.slope,
        )


@dataclass(frozen=True, kw_only=True)
class BandpassTable:
    """Linear adjustments from one sensor's bandpass to another's.

    Attributes
    ----------
    name, title : str
        Key in `get_table`, and descriptive title.
    source_bandpass, target_bandpass : str
        Spectral response families to convert from and to.
    levels : tuple of {"TOA", "SR", "NBAR"}
        Processing levels the table may be applied to.
    platform_side : {"source", "target"}
        Side whose platform selects the lines.
    by_platform : tuple of (str, tuple of Line)
        Lines by platform.
    citation, doi : str
        Publication of the numbers.
    """

    name: str
    title: str
    source_bandpass: str
    target_bandpass: str
    levels: tuple[Level, ...]
    platform_side: Literal["source", "target"]
    by_platform: tuple[tuple[str, tuple[Line, ...]], ...]
    citation: str
    doi: str

    @property
    def direction(self) -> str:
        """Description of the conversion, for messages."""
        return f"{self.source_bandpass} to {self.target_bandpass}"

    @property
    def platforms(self) -> tuple[str, ...]:
        """Platforms with lines of their own."""
        return tuple(platform for platform, _ in self.by_platform)

    def lines(self, platform: str) -> dict[str, Line]:
        """Return the lines of a platform by the common name of the source band.

        Parameters
        ----------
        platform : str
            One of `platforms`; or ``"sentinel-2"`` for the mean of 2A and 2B, with a warning.

        Raises
        ------
        RadiometryError
            If the platform is unknown, or the table was not made for it.
        """
        if platform == SENTINEL_2 and "sentinel-2b" in self.platforms:
            return self._mean()
        if platform in self.platforms:
            return {line.source: line for line in dict(self.by_platform)[platform]}
        names = ", ".join(self.platforms)
        if platform == UNKNOWN:
            raise RadiometryError(
                f"table {self.name!r} has one line per platform, and the platform is unknown",
                cure=f"pass platform= one of {names}, 'sentinel-2' for the mean of 2A and 2B, "
                "or 'infer'",
            )
        raise RadiometryError(
            f"table {self.name!r} has no lines for platform {platform!r}",
            cure=f"it was made for {names}",
        )

    def line(self, band: str, *, platform: str, source_band: str | None = None) -> Line:
        """Return the line of one band.

        Parameters
        ----------
        band : str
            Common name of the source band.
        source_band : str, optional
            Exact band the values come from (``B08``); must match that of the table.

        Raises
        ------
        BandError
            If the table has no line for the band, or only one for another exact band.
        RadiometryError
            If the platform does not fit; see `lines`.
        """
        lines = self.lines(platform)
        if band not in lines:
            exact = ", ".join(f"{line.source} ({line.source_band})" for line in lines.values())
            raise BandError(
                f"table {self.name!r} has no line for band {band!r}", cure=f"it has {exact}"
            )
        line = lines[band]
        if source_band is not None and source_band != line.source_band:
            raise BandError(
                f"the {band!r} line of table {self.name!r} was made for {line.source_band}, "
                f"not for {source_band}: their bandpasses differ",
                cure=f"load {line.source_band}",
            )
        return line

    def inverse(self) -> BandpassTable:
        """Return the table for the opposite direction: slope 1/s, offset -o/s.

        Valid only for published lines. The slope of a line fitted to real pairs is diluted by
        misregistration and point spread, so its inverse inflates contrast. Refit with source and
        target swapped instead.
        """
        return replace(
            self,
            name=self.name.removesuffix("-inverse")
            if self.name.endswith("-inverse")
            else f"{self.name}-inverse",
            source_bandpass=self.target_bandpass,
            target_bandpass=self.source_bandpass,
            platform_side="target" if self.platform_side == "source" else "source",
            by_platform=tuple(
                (platform, tuple(line.inverse() for line in lines))
                for platform, lines in self.by_platform
            ),
        )

    def _mean(self) -> dict[str, Line]:
        """Mean of Sentinel-2A's and 2B's lines, half their difference as spread."""
        warn(
            f"table {self.name!r}: the mean of the Sentinel-2A and 2B lines is used; half their "
            "difference is its uncertainty; platform= settles which one flew",
            RadiometryWarning,
        )
        lines = dict(self.by_platform)
        return {
            a.source: replace(
                a,
                slope=(a.slope + b.slope) / 2,
                offset=(a.offset + b.offset) / 2,
                slope_spread=(a.slope - b.slope) / 2,
                offset_spread=(a.offset - b.offset) / 2,
            )
            for a, b in zip(lines["sentinel-2a"], lines["sentinel-2b"])
        }


def _lines(
    bands: tuple[tuple[str, str, str, str], ...], numbers: tuple[tuple[float, float], ...]
) -> tuple[Line, ...]:
    return tuple(
        Line(
            source=source,
            source_band=source_band,
            target=target,
            target_band=target_band,
            slope=slope,
            offset=offset,
        )
        for (source, source_band, target, target_band), (slope, offset) in zip(bands, numbers)
    )


_MSI_TO_OLI = (
    ("coastal", "B01", "coastal", "b1"),
    ("blue", "B02", "blue", "b2"),
    ("green", "B03", "green", "b3"),
    ("red", "B04", "red", "b4"),
    ("nir08", "B8A", "nir08", "b5"),
    ("swir16", "B11", "swir16", "b6"),
    ("swir22", "B12", "swir22", "b7"),
)

_HLS_NUMBERS = {
    "sentinel-2a": (
        (0.9959, -0.0002),
        (0.9778, -0.0040),
        (1.0053, -0.0009),
        (0.9765, 0.0009),
        (0.9983, -0.0001),
        (0.9987, -0.0011),
        (1.0030, -0.0012),
    ),
    "sentinel-2b": (
        (0.9959, -0.0002),
        (0.9778, -0.0040),
        (1.0075, -0.0008),
        (0.9761, 0.0010),
        (0.9966, 0.0000),
        (1.0000, -0.0003),
        (0.9867, 0.0004),
    ),
    "sentinel-2c": (
        (1.0030, 0.0),
        (0.9851, -0.0027),
        (1.0038, -0.0009),
        (0.9718, 0.0011),
        (0.9995, -0.0003),
        (0.9994, -0.0007),
        (0.9910, 0.0004),
    ),
}

HLS_V2 = BandpassTable(
    name="hls-v2",
    title="HLS v2 bandpass adjustment, MSI to OLI",
    source_bandpass="msi",
    target_bandpass="oli",
    levels=("NBAR", "SR"),
    platform_side="source",
    by_platform=tuple(
        (platform, _lines(_MSI_TO_OLI, numbers)) for platform, numbers in _HLS_NUMBERS.items()
    ),
    citation="Claverie et al. (2018), Remote Sensing of Environment 219; NASA HLS v2 code",
    doi="10.1016/j.rse.2018.09.002",
)
"""Made for NBAR; accepted on plain surface reflectance too, which `history` then says."""

_CHASTAIN = _lines(
    (
        ("blue", "b2", "blue", "B02"),
        ("green", "b3", "green", "B03"),
        ("red", "b4", "red", "B04"),
        ("nir08", "b5", "nir", "B08"),
        ("swir16", "b6", "swir16", "B11"),
        ("swir22", "b7", "swir22", "B12"),
    ),
    (
        (1.0946, -0.0107),
        (1.0043, 0.0026),
        (1.0524, -0.0015),
        (0.8954, 0.0033),
        (1.0049, 0.0065),
        (1.0002, 0.0046),
    ),
)

CHASTAIN_2019 = BandpassTable(
    name="chastain-2019",
    title="Chastain et al. 2019, top of atmosphere, OLI to MSI (B08)",
    source_bandpass="oli",
    target_bandpass="msi",
    levels=("TOA",),
    platform_side="target",
    by_platform=(("sentinel-2a", _CHASTAIN), ("sentinel-2b", _CHASTAIN)),
    citation="Chastain et al. (2019), Remote Sensing of Environment 221",
    doi="10.1016/j.rse.2018.11.012",
)
"""Published as MSI = slope * OLI + intercept; MSI to OLI is its `inverse`."""

_ROY = _lines(
    (
        ("blue", "b1", "blue", "b2"),
        ("green", "b2", "green", "b3"),
        ("red", "b3", "red", "b4"),
        ("nir08", "b4", "nir08", "b5"),
        ("swir16", "b5", "swir16", "b6"),
        ("swir22", "b7", "swir22", "b7"),
    ),
    (
        (0.8474, 0.0003),
        (0.8483, 0.0088),
        (0.9047, 0.0061),
        (0.8462, 0.0412),
        (0.8937, 0.0254),
        (0.9071, 0.0172),
    ),
)

ROY_2016 = BandpassTable(
    name="roy-2016",
    title="Roy et al. 2016, surface reflectance, ETM+ to OLI (ordinary least squares)",
    source_bandpass="etm+",
    target_bandpass="oli",
    levels=("SR",),
    platform_side="source",
    by_platform=(("landsat-7", _ROY),),
    citation="Roy et al. (2016), Remote Sensing of Environment 185",
    doi="10.1016/j.rse.2015.12.024",
)

_TABLES = {table.name: table for table in (HLS_V2, CHASTAIN_2019, ROY_2016)}


def get_table(name: str) -> BandpassTable:
    """Return a published table by name.

    Raises
    ------
    UnknownModelError
        If there is no such table; the message lists the available ones.
    """
    if name not in _TABLES:
        raise UnknownModelError(
            f"no coefficient table {name!r}",
            cure=f"{suggest(name, _TABLES)}there are {', '.join(_TABLES)}",
            value=name,
        )
    return _TABLES[name]


def list_tables() -> list[str]:
    """Return the names of the published tables."""
    return list(_TABLES)


@dataclass(frozen=True, kw_only=True)
class BrdfParameters:
    """Weights of the isotropic, volumetric (RossThick) and geometric (LiSparse-R) kernels."""

    iso: float
    vol: float
    geo: float


def _p(iso: float, vol: float, geo: float) -> BrdfParameters:
    return BrdfParameters(iso=iso, vol=vol, geo=geo)


C_FACTOR: Mapping[str, BrdfParameters] = MappingProxyType(
    {
        "blue": _p(0.0774, 0.0372, 0.0079),
        "green": _p(0.1306, 0.0580, 0.0178),
        "red": _p(0.1690, 0.0574, 0.0227),
        "rededge1": _p(0.2085, 0.0845, 0.0256),
        "rededge2": _p(0.2316, 0.1003, 0.0273),
        "rededge3": _p(0.2599, 0.1197, 0.0294),
        "nir": _p(0.3093, 0.1535, 0.0330),
        "nir08": _p(0.3093, 0.1535, 0.0330),
        "swir16": _p(0.3430, 0.1154, 0.0453),
        "swir22": _p(0.2658, 0.0639, 0.0387),
    }
)
"""Global c-factor parameters by common band name."""

CITATION = "Roy et al. (2016), doi:10.1016/j.rse.2016.01.023"
