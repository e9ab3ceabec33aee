"""Description of sensors: bands, quality layers and radiometry, as frozen dataclasses.

A `Sensor` is a *product* (Sentinel-2 L2A, Landsat Collection 2 Level 2, …). It holds one
`Instrument` per platform, because Sentinel-2A, 2B and 2C share a product but not a bandpass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Literal, TypeAlias, get_args

from xharmonize.errors import BandError, RadiometryError, UnknownSensorError, suggest
from xharmonize.types import Float64Array, Level

SAME_ROLE = {"nir08": "nir", "nir": "nir08"}
"""The band that stands for another where a sensor has only one of them."""
UNKNOWN = "unknown"
"""Explicit value of a contract coordinate nobody could settle."""

Meaning: TypeAlias = Literal["TOA", "SR", "other"]
"""What a product of some name holds: reflectance at the top of the atmosphere or at the surface."""


SEPARATOR = "|"
"""Stands between names in one string. No product, platform, level, tile or path holds it, as they
hold ``/``, ``-``, ``_``, ``;`` and ``+`` (``etm+``)."""


class Names(frozenset[str]):
    """A set of names in one string, such as the level ``NBAR|SR`` of a composite of both.

    ``str()`` joins them, sorted; ``in`` and set operators work as usual.

    Examples
    --------
    >>> str(Names.of(["SR", "NBAR", "SR"]))
    'NBAR|SR'
    >>> sorted(Names.of("NBAR|SR")), "SR" in Names.of("NBAR|SR")
    (['NBAR', 'SR'], True)
    """

    @classmethod
    def of(cls, texts: object) -> Names:
        """Return the names in a string, or in all of several strings, such as a coordinate's."""
        many = texts if isinstance(texts, Iterable) and not isinstance(texts, str) else [texts]
        return cls(name for text in many for name in str(text).split(SEPARATOR) if name)

    def __str__(self) -> str:
        """Spell the names as one string; ``"unknown"`` where there are none."""
        return SEPARATOR.join(sorted(self)) or UNKNOWN

    def fit(self, allowed: Names) -> bool:
        """Tell whether all known names are in `allowed`; an empty `allowed` permits any.

        A composite is allowed only where each of its parts is.
        """
        return not allowed - {UNKNOWN} or self - {UNKNOWN} <= allowed


class Flag(IntFlag):
    """Bits of the packed ``qa`` layer, the same for all sensors (CF ``flag_masks``).

    Examples
    --------
    >>> bool(Flag.CLOUD & 0b0110)
    True
    >>> int(Flag.CLOUD | Flag.CLOUD_SHADOW)
    10
    """

    FILL = 1
    CLOUD = 2
    CLOUD_ADJACENT = 4
    CLOUD_SHADOW = 8
    CIRRUS = 16
    SNOW = 32
    WATER = 64
    SATURATED = 128
    TERRAIN_SHADOW = 256
    CLOUD_PROBABLE = 512
    UNCLASSIFIED = 1024
    AEROSOL_LOW = 2048
    AEROSOL_MODERATE = 4096
    AEROSOL_HIGH = 8192
    DARK = 16384
    SKIPPED = 32768

    @property
    def label(self) -> str:
        """Name used by users and in CF ``flag_meanings``: ``cloud_shadow``."""
        return str(self.name).lower()


@dataclass(frozen=True, kw_only=True)
class Band:
    """One spectral band.

    Attributes
    ----------
    name : str
        STAC common name, the same for all sensors (``nir08`` is B8A and b5, ``nir`` is B08).
    source : str
        Name in the sensor's own documents (``B8A``, ``b5``).
    low, high, center : float
        Band edges and centre wavelength [nm]; 0 where the notion does not apply (radar).
    gsd : float
        Ground sample distance [m].
    assets : tuple of str
        Asset keys of the band in STAC catalogues, in order of preference.
    """

    name: str
    source: str
    low: float
    high: float
    center: float
    gsd: float
    assets: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """An instrument on a platform: its bands as flown.

    Attributes
    ----------
    platform : str
        STAC platform name, lower case (``sentinel-2a``).
    bandpass : str
        Name of the spectral response family (``msi``, ``oli``, ``etm+``, ``wfv``, ``c-sar``).
    bands : tuple of Band
        In order of wavelength.
    """

    platform: str
    bandpass: str
    bands: tuple[Band, ...]

    def band(self, name: str) -> Band:
        """Return the band with this common name or source name, or raise `BandError`."""
        for band in self.bands:
            if name in (band.name, band.source):
                return band
        known = [band.name for band in self.bands]
        raise BandError(
            f"{self.platform} has no band {name!r}",
            cure=f"{suggest(name, known, self.spellings)}it has {', '.join(known)}",
            value=name,
        )

    @property
    def spellings(self) -> dict[str, str]:
        """Common names of the bands by what documents and catalogues call them."""
        return {key: band.name for band in self.bands for key in (band.source, *band.assets)}


@dataclass(frozen=True, kw_only=True)
class Radiometry:
    """Conversion of digital numbers to physical values: ``value = DN * scale + offset``.

    Attributes
    ----------
    scale, offset : float
        Scale per digital number, and offset, in the unit of the result.
    nodata : int
        Digital number of a missing pixel, tested before scale and offset.
    valid_min, valid_max : int
        Range of valid digital numbers; `valid_max` is where the sensor saturates.
    dtype : str
        Data type of the delivered product.
    units : str
        Unit of the result (``1`` for reflectance).
    baseline_offsets : tuple of (str, float)
        Offsets by the first processing baseline they apply to, ascending; `offset` before that.
    unknown_from : str
        First baseline that does not determine the offset, because users make such products from
        inputs of any baseline.
    applied_flag : str
        Property, with any prefix, that says whether the catalogue already applied the offset.
    is_fixed : bool
        Whether all items have this scale and offset, so that declaring others is an error. If
        False, what an item declares overrides them.
    uncalibrated : str
        Why numbers are meaningless unless an item declares their scale; empty if they are not.
    is_power : bool
        Whether values are powers, so that values of 0 or less are missing.
    """

    scale: float
    offset: float
    nodata: int
    valid_min: int
    valid_max: int
    dtype: str = "uint16"
    units: str = "1"
    baseline_offsets: tuple[tuple[str, float], ...] = ()
    unknown_from: str = ""
    applied_flag: str = ""
    is_fixed: bool = False
    uncalibrated: str = ""
    is_power: bool = False

    def offset_at(self, baseline: str) -> float:
        """Offset of a processing baseline such as ``"05.11"``.

        Raises
        ------
        RadiometryError
            If the baseline is unknown and the offset depends on it.
        """
        if not self.baseline_offsets:
            return self.offset
        try:
            wanted = float(baseline)
        except ValueError:
            raise RadiometryError(
                f"the offset depends on the processing baseline, which is {baseline!r}",
                cure="pass processing_baseline='05.11' (two digits each) or offset=",
            ) from None
        held = [offset for first, offset in self.baseline_offsets if wanted >= float(first)]
        return held[-1] if held else self.offset

    def known_offset(self, baseline: str) -> float | None:
        """Offset of a processing baseline; None where the baseline does not tell.

        Raises
        ------
        RadiometryError
            If the baseline is neither ``"unknown"`` nor a number.
        """
        if baseline == UNKNOWN:
            return None
        offset = self.offset_at(baseline)
        is_open = self.unknown_from and float(baseline) >= float(self.unknown_from)
        return None if is_open else offset

    @property
    def needs_offset(self) -> bool:
        """Whether a scale alone does not make values."""
        return bool(self.baseline_offsets) or self.offset != 0


@dataclass(frozen=True, kw_only=True)
class ExtraBand:
    """An additional band with its own unit or encoding, such as temperature.

    It is read only if requested by name or asset key.

    Attributes
    ----------
    name : str
        Name in a cube (``lwir11``).
    assets : tuple of str
        Asset keys in STAC catalogues; case-insensitive.
    radiometry : Radiometry
        How to decode its digital numbers.
    """

    name: str
    assets: tuple[str, ...]
    radiometry: Radiometry

    def __contains__(self, key: str) -> bool:
        """Tell whether a band name or an asset key is this band's."""
        return key.lower() in {self.name.lower(), *(name.lower() for name in self.assets)}


@dataclass(frozen=True, kw_only=True)
class Naming:
    """How to recognise a product by the names and properties in catalogues.

    Patterns are regular expressions, searched anywhere in a name unless anchored.

    Attributes
    ----------
    platform : str
        STAC platform name, with ``{}`` for the letter or number that patterns find
        (``sentinel-2{}``).
    spellings : tuple of str
        Patterns of a whole platform name in lower case without ``-``, ``_`` and spaces; their
        first group is put into `platform`.
    products : tuple of str
        Patterns of names that only items of this product have. They recognise an item whose
        collection is not known.
    assets : str
        Pattern of an asset key that such an item needs as well, where another product has the
        same names; empty for none.
    parts : tuple of str
        Patterns whose named groups say what stands in a name: ``platform``, ``baseline`` (four
        digits, or two and two), ``tile``, ``sensing`` (start of the datatake), ``datastrip`` and
        ``collection`` (number).
    levels : tuple of (str, str)
        Patterns of names, and what a product of that name holds: ``"TOA"``, ``"SR"``, or
        ``"other"`` for a product that is neither. Of an address the folder, which ends in ``/``,
        and the name of the file are searched, each for itself.
    trusted : {"all", "id", "none"}
        Which names of an item tell its level: not those of what the product was made from.
    source_files : str
        Pattern of files that belong to what the product was made from; empty for none.
    product_types : tuple of str
        Values that ``product_type`` may have, in upper case; empty for any.
    one_pass : {"second", "path"}
        What items of one overflight share, where they name no datatake and no orbit: the second
        of acquisition, or path and day.
    is_aim_off_nadir : bool
        Whether ``view:off_nadir`` says where the platform points instead of how pixels are seen.
    """

    platform: str = ""
    spellings: tuple[str, ...] = ()
    products: tuple[str, ...] = ()
    assets: str = ""
    parts: tuple[str, ...] = ()
    levels: tuple[tuple[str, Meaning], ...] = ()
    trusted: Literal["all", "id", "none"] = "all"
    source_files: str = ""
    product_types: tuple[str, ...] = ()
    one_pass: Literal["second", "path"] = "second"
    is_aim_off_nadir: bool = False


@dataclass(frozen=True, kw_only=True)
class BitField:
    """A run of bits of a quality layer.

    Attributes
    ----------
    name : str
        Name in the product's document.
    offset, length : int
        First bit, and number of bits.
    flags : tuple of (int, Flag)
        Values of the field and the flags they set; other values set none.
    is_band : bool
        Whether the field concerns one band only, whose source name is its `name`.
    """

    name: str
    offset: int
    length: int
    flags: tuple[tuple[int, Flag], ...]
    is_band: bool = False


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Conversion of a quality layer's values to flags.

    Attributes
    ----------
    name : str
        Key in `LAYOUTS`.
    n_bits : int
        8 or 16.
    fields : tuple of BitField
        Fields, whose flags are combined by OR.
    fill : int or None
        Value that means fill, whatever its bits.
    n_classes : int or None
        For class layers: number of classes; this value and higher ones count as fill.
    """

    name: str
    n_bits: int
    fields: tuple[BitField, ...]
    fill: int | None = None
    n_classes: int | None = None

    @property
    def flags(self) -> Flag:
        """All flags this layout can set."""
        found = Flag(0)
        for part in self.fields:
            for _, flag in part.flags:
                found |= flag
        return found | Flag.FILL if self.fill is not None or self.n_classes is not None else found


@dataclass(frozen=True, kw_only=True)
class QALayer:
    """A quality layer and the meaning of its values.

    Attributes
    ----------
    name : str
        Band name of the layer in a cube (``scl``, ``qa_pixel``, ``fmask``).
    assets : tuple of str
        Asset keys in STAC catalogues.
    layout : str or Layout
        How to convert values to packed `Flag` bits: a key of `xharmonize.sensors.qa.LAYOUTS`, or a
        custom layout.
    gsd : float
        Ground sample distance [m].
    dtype : str
        Integer type of the layer.
    fill : int
        Value outside the image.
    is_primary : bool
        Whether masks require this layer; other layers add flags if a catalogue has them.

    Examples
    --------
    >>> layer = QALayer(name="scl", assets=("scl",), layout="scl", gsd=20.0, dtype="uint8", fill=0)
    >>> layer.is_primary
    True
    """

    name: str
    assets: tuple[str, ...]
    layout: str | Layout
    gsd: float
    dtype: str
    fill: int
    is_primary: bool = True


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """A product, as named by a cube's ``sensor`` coordinate.

    Attributes
    ----------
    name : str
        Key in the registry (``sentinel-2-l2a``).
    title : str
        Descriptive title.
    instruments : tuple of Instrument
        One per platform; the first is used for an unknown platform.
    level : {"TOA", "SR", "NBAR"} or "GRD", "RTC"
        Processing level of the pixels.
    radiometry : Radiometry
        Radiometry of the spectral bands, unless the metadata of an item say otherwise.
    qa : tuple of QALayer
        Quality layers, the primary one first.
    clear : tuple of str
        Flags that ``mask="clear"`` removes.
    quantity : str
        Name of the quantity, if the level does not imply it (``gamma nought backscatter``).
    extra_bands : tuple of ExtraBand
        Bands with their own unit or encoding.
    names : Naming
        How to recognise the product by names and properties.
    collections : tuple of str
        STAC collection ids of this product.
    collection_number : int, optional
        Number of the collection, if the constellation numbers them (Landsat Collection 1, 2);
        items that state another are refused.
    constellation : str
        STAC constellation or mission family; not valid as a platform name.
    bandpass : str
        Bandpass of the *pixels*, if the product was adjusted (HLS S30: ``oli``); empty for that of
        the instrument.
    source : str
        Document that defines the numbers.
    """

    name: str
    title: str
    instruments: tuple[Instrument, ...]
    level: Level | str
    radiometry: Radiometry
    qa: tuple[QALayer, ...] = ()
    clear: tuple[str, ...] = field(
        default=("fill", "cloud", "cloud_adjacent", "cloud_shadow", "cirrus", "snow", "saturated")
    )
    extra_bands: tuple[ExtraBand, ...] = ()
    names: Naming = field(default_factory=Naming)
    collections: tuple[str, ...] = ()
    collection_number: int | None = None
    constellation: str = ""
    bandpass: str = ""
    quantity: str = ""
    source: str = ""

    @property
    def platforms(self) -> tuple[str, ...]:
        """Platforms that fly an instrument of this product."""
        return tuple(instrument.platform for instrument in self.instruments)

    @property
    def band_names(self) -> tuple[str, ...]:
        """Common names of the bands."""
        return tuple(band.name for band in self.instruments[0].bands)

    @property
    def is_reflectance(self) -> bool:
        """Whether the pixels are reflectance; radar backscatter is not."""
        return self.level in get_args(Level)

    @property
    def gsd(self) -> float:
        """Finest ground sample distance [m]."""
        return min(band.gsd for band in self.instruments[0].bands)

    def extra_band(self, key: str) -> ExtraBand | None:
        """Return the extra band with this name or asset key, or None."""
        return next((band for band in self.extra_bands if key in band), None)

    def radiometry_of(self, key: str) -> Radiometry:
        """Return the radiometry of a band, by name or asset key."""
        extra = self.extra_band(key)
        return self.radiometry if extra is None else extra.radiometry

    def instrument(self, platform: str = UNKNOWN) -> Instrument:
        """Return the instrument of a platform.

        Returns the first one if the platform is ``"unknown"``, or names a pair of platforms
        (``"sentinel-2"``) whose bands differ only in their edges.
        """
        family = {instrument.platform[:-1] for instrument in self.instruments}
        if platform == UNKNOWN or platform in family:
            return self.instruments[0]
        for instrument in self.instruments:
            if instrument.platform == platform:
                return instrument
        raise UnknownSensorError(
            f"{self.name} has no platform {platform!r}",
            cure=f"{suggest(platform, self.platforms)}it has {', '.join(self.platforms)}",
            value=platform,
        )

    def bandpass_of(self, platform: str = UNKNOWN) -> str:
        """Bandpass of the pixels: that of the product, or else of the instrument."""
        return self.bandpass or self.instrument(platform).bandpass


def identity(source: Sequence[str], target: Sequence[str]) -> Float64Array:
    """Matrix (target, source) that takes each band from the one of its role; 0 where none is."""
    import numpy as np

    matrix = np.zeros((len(target), len(source)))
    for row, band in enumerate(target):
        names = [name for name in (band, SAME_ROLE.get(band, "")) if name in source]
        if names:
            matrix[row, list(source).index(names[0])] = 1.0
    return matrix
