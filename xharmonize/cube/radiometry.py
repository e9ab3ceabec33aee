"""Rules that settle scale, offset and nodata of digital numbers.

Items of catalogues and attributes of cubes are read elsewhere; this module compares their
statements with the product. Products whose offset depends on the processing baseline need the most
rules:

1. The baseline brings the offset. Sentinel-2 Level-2A: from 04.00 on reflectance is
   (DN - 1000) / 10000, before there is no offset (ESA, Sentinel-2 Products Specification Document;
   Copernicus SentiWiki, "S2 Products", Level-2A).
2. ``earthsearch:boa_offset_applied: true``, or the same under another prefix, says that the
   catalogue subtracted the 1000 already, so no offset is left. Earth Search v1 leaves
   ``raster:bands`` at -0.1 on such items; its maintainer states that the flag is the truth
   (Element84/earth-search#9): the flag decides, with a note.
3. The flag false leaves rule 1. (Some such items hold shifted pixels all the same,
   Element84/earth-search#66 and #71: only pixels can tell, see ``xh.check_radiometry``.)
4. A declared offset settles what names no baseline. One that is declared for a baseline that has
   none was copied from newer products: the baseline decides, with a note. Where none is declared
   for a baseline that has one and no flag explains it, the pixels may be shifted or not: nothing is
   guessed, it is an error.
5. A baseline may be stated more than once, in properties and in names. Where two of them mean
   different offsets, it is an error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xharmonize.errors import RadiometryError, show
from xharmonize.sensors.registry import all_sensors, stated
from xharmonize.sensors.spec import UNKNOWN, Radiometry, Sensor

NUMBERS = ("scale", "offset", "nodata")
"""What is stated of digital numbers: value = DN * scale + offset; DN equal to nodata is missing."""

_NOTHING = ("", "none", "nan")
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How to decode digital numbers.

    Attributes
    ----------
    scale, offset, nodata : float
        value = DN * scale + offset; DN equal to nodata is missing.
    notes : tuple of str
        Decisions that a rule made against other metadata.
    """

    scale: float
    offset: float
    nodata: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Applied:
    """Whether a catalogue says that it applied the offset, and in which field.

    Attributes
    ----------
    truth : bool or None
        None where it says nothing.
    name : str
        The field, with its prefix.
    """

    truth: bool | None = None
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What is known about the digital numbers of one band before rules are applied.

    Attributes
    ----------
    owner : str
        How messages name what states it: ``item 'S2A_…'``.
    band : str
        Band name or asset key.
    cure : str
        What settles it, for messages.
    sensor : Sensor
        The product.
    baseline : str
        Processing baseline or ``"unknown"``.
    baselines : sequence of (str, str)
        All that are stated, each with its field.
    declared : mapping of str to float
        Those of `NUMBERS` that are declared.
    dtype : str
        Type in which the numbers are kept; empty where nobody says.
    applied : Applied
        Whether the offset is off the pixels already.
    """

    owner: str
    band: str
    cure: str
    sensor: Sensor
    baseline: str = UNKNOWN
    baselines: Sequence[tuple[str, str]] = ()
    declared: Mapping[str, float] = field(default_factory=dict)
    dtype: str = ""
    applied: Applied = field(default_factory=Applied)

    @property
    def product(self) -> Radiometry:
        """What the product says of the band."""
        return self.sensor.radiometry_of(self.band)

    def contradiction(self, what: str) -> RadiometryError:
        """The error of two statements that cannot both hold."""
        return RadiometryError(f"{self.owner} contradicts itself: {what}", cure=f"{self.cure}")


@dataclass(frozen=True, kw_only=True)
class Described(Numbers):
    """Numbers of a cube that carries statements of its own, and what the user says of them.

    Attributes
    ----------
    own : mapping of str to float
        Those of `NUMBERS` that the cube states, in attributes or from an earlier description.
    given : mapping of str to float
        Those that the user gives.
    kept : dtype
        In which the band came.
    is_decoded : bool
        Whether scale and offset have been applied to the pixels.
    is_contract : bool
        Whether `own` holds an earlier description as the same product.
    is_offset_known : bool
        Whether its offset was settled with this baseline already, by rules that knew more.
    """

    own: Mapping[str, float]
    given: Mapping[str, float]
    kept: np.dtype[Any]
    is_decoded: bool
    is_contract: bool
    is_offset_known: bool

    def refusal(self, own: str, other: str) -> RadiometryError:
        """The error of a statement of the cube that something else contradicts."""
        cure = "settle it with scale= and offset= (and nodata=)"
        if self.is_decoded:
            cure = "leave the wrong argument out, or remove that from cube.attrs and cube.encoding"
        return RadiometryError(f"band {self.band!r} states {own}, {other}", cure=cure)


def settle_encoding(numbers: Numbers, *, override: Mapping[str, float] | None = None) -> Encoding:
    """Settle scale, offset and nodata of one band.

    Parameters
    ----------
    numbers : Numbers
        What is known of them.
    override : mapping, optional
        Values of `NUMBERS` set by the user; they override all metadata.

    Raises
    ------
    RadiometryError
        If the metadata are missing or contradict each other.
    """
    override = override or {}
    nodata = override.get("nodata", numbers.declared.get("nodata", _default_nodata(numbers)))
    if {"scale", "offset"} <= set(override):
        return Encoding(scale=override["scale"], offset=override["offset"], nodata=nodata)
    scale = override["scale"] if "scale" in override else _settle_scale(numbers)
    notes: tuple[str, ...] = ()
    if "offset" in override:
        offset = override["offset"]
    elif numbers.product.baseline_offsets:
        offset, notes = _settle_baseline_offset(numbers)
    else:
        offset = _settle_plain_offset(numbers)
    return Encoding(scale=scale, offset=offset, nodata=nodata, notes=notes)


def settle_described(numbers: Described) -> Encoding:
    """Settle scale, offset and nodata from arguments, then the cube, then the product.

    Raises
    ------
    RadiometryError
        If an argument contradicts the cube, unless scale and offset are both given.
    """
    if not numbers.given.keys() >= {"scale", "offset"}:
        _check_arguments(numbers)
        _check_declared(numbers)
        _check_baseline(numbers)
        _check_line(numbers)
    _check_nodata(numbers)
    known = {**numbers.own, **numbers.given}
    if not numbers.is_decoded:
        return settle_encoding(numbers, override=known)
    # A record of what was applied; it does not matter any more where nobody knows.
    product = numbers.sensor.radiometry
    is_open = product.baseline_offsets and numbers.baseline == UNKNOWN
    offset = math.nan if is_open else product.offset_at(numbers.baseline)
    return Encoding(
        scale=known.get("scale", product.scale),
        offset=known.get("offset", offset),
        nodata=known.get("nodata", float(product.nodata)),
    )


def read_applied(fields: Mapping[Any, Any], sensor: Sensor, *, owner: str, cure: str) -> Applied:
    """Return what fields say of an offset that the catalogue applied, under any prefix.

    Raises
    ------
    RadiometryError
        If a value is neither true nor false, or two of them disagree.
    """
    found: dict[bool, str] = {}
    name = sensor.radiometry.applied_flag
    for key, value in stated(fields, name) if name else ():
        if str(value).strip().lower() in _NOTHING:  # files and stackstac fill gaps with text
            continue
        truth = _TRUTHS.get(str(value).strip().lower().removesuffix(".0"))
        if truth is None:
            raise RadiometryError(
                f"{owner} has {key} {show(value)}, which is neither true nor false", cure=cure
            )
        found[truth] = key
    if len(found) > 1:
        raise RadiometryError(
            f"{owner} contradicts itself: {found[True]} is true and {found[False]} is false",
            cure=cure,
        )
    return next((Applied(truth=truth, name=key) for truth, key in found.items()), Applied())


def read_number(key: str, value: Any) -> float | None:
    """Return a declared scale, offset or nodata; None where it is no number of that kind.

    Numbers may be text. A scale is above 0, and nodata may be NaN or infinite, as STAC spells them.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str | np.number):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    if key == "nodata":
        return number
    is_right = math.isfinite(number) and (number > 0 or key != "scale")
    return number if is_right else None


def is_same(value: float, other: float) -> bool:
    """Tell whether two numbers are the same but for the rounding of float32."""
    return math.isclose(value, other, rel_tol=1e-6, abs_tol=1e-12)


def _default_nodata(numbers: Numbers) -> float:
    """Fill value of the product; 0 where a negative one was clipped to an unsigned type."""
    return 0.0 if numbers.dtype.startswith("uint") else float(numbers.product.nodata)


def _settle_scale(numbers: Numbers) -> float:
    scale, product = numbers.declared.get("scale"), numbers.product
    if scale is None:
        return product.scale
    if product.is_fixed and not math.isclose(scale, product.scale, rel_tol=0.01):
        raise numbers.contradiction(
            f"{numbers.band!r} declares scale {scale}, {numbers.sensor.name} has {product.scale}"
        )
    return scale


def _settle_plain_offset(numbers: Numbers) -> float:
    """Offset of a product that has one for all baselines."""
    product, declared = numbers.product, numbers.declared
    if product.uncalibrated and "scale" not in declared:
        raise RadiometryError(
            f"{numbers.owner} declares no scale: {product.uncalibrated}", cure=f"{numbers.cure}"
        )
    offset = declared.get("offset")
    if offset is None:
        return product.offset if product.is_fixed or "scale" not in declared else 0.0
    if product.is_fixed and not is_same(offset, product.offset):
        raise numbers.contradiction(
            f"{numbers.band!r} declares offset {offset}, {numbers.sensor.name} has {product.offset}"
        )
    return offset


def _settle_baseline_offset(numbers: Numbers) -> tuple[float, tuple[str, ...]]:
    """Offset of a product that changed it with the processing baseline (rules 1 to 5 above)."""
    product, declared = numbers.product, numbers.declared.get("offset")
    expected, applied = product.known_offset(numbers.baseline), numbers.applied
    if applied.truth:
        if declared is None or is_same(declared, 0.0):
            return 0.0, ()
        return 0.0, (
            f"{applied.name} is true but raster:bands says offset {declared}: the flag was "
            "followed, so the pixels are read without offset (Element84/earth-search#9)",
        )
    _require_one_baseline(numbers, expected)
    first, newest = product.baseline_offsets[0][0], product.baseline_offsets[-1][1]
    if expected is None:
        if declared is None:
            raise RadiometryError(
                f"{numbers.owner} names no processing baseline that tells its offset "
                f"({numbers.baseline!r}), and declares no offset: {numbers.sensor.name} has "
                f"{newest} from {first} on, by which reflectance would be wrong",
                cure=f"{numbers.cure}",
            )
        return declared, ()
    if declared is None or is_same(declared, expected):
        return (expected if declared is None else declared), ()
    if is_same(expected, product.offset):
        return expected, (
            f"raster:bands says offset {declared}, but products of processing baselines before "
            f"{first} have none: the baseline was followed",
        )
    said = "" if applied.truth is None else f" and {applied.name} is false"
    raise numbers.contradiction(
        f"processing baseline {numbers.baseline}{said} means offset {expected}, raster:bands says "
        f"{declared}"
    )


def _require_one_baseline(numbers: Numbers, expected: float | None) -> None:
    """Raise unless all baselines that are stated mean the offset of the one that counts."""
    for key, other in numbers.baselines:
        offset = numbers.product.known_offset(other)
        if expected is not None and offset is not None and not is_same(offset, expected):
            raise numbers.contradiction(
                f"processing baseline {numbers.baseline} means offset {expected}, its {key} says "
                f"{other}, which means {offset}"
            )


def _check_arguments(numbers: Described) -> None:
    """Refuse ``scale=``, ``offset=`` or ``nodata=`` that the cube contradicts."""
    given, own = numbers.given, numbers.own
    for key in sorted(given.keys() & own.keys()):
        is_void = key == "nodata" and not _can_hold(numbers.kept, own[key])
        if not is_void and not is_same(given[key], own[key]):
            raise numbers.refusal(f"{key} {own[key]:g}", f"{key}= says {given[key]:g}")


def _check_declared(numbers: Described) -> None:
    """Refuse attributes that differ from what the item's ``raster:bands`` declare."""
    own, declared = numbers.own, {} if numbers.is_contract else numbers.declared
    for key in sorted(own.keys() & declared.keys() - numbers.given.keys()):
        if not is_same(declared[key], own[key]):
            raise numbers.refusal(
                f"{key} {own[key]:g}", f"its raster:bands say {key} {declared[key]:g}"
            )


def _check_baseline(numbers: Described) -> None:
    """Refuse a stated offset that is not that of the processing baseline."""
    product, applied, own = numbers.sensor.radiometry, numbers.applied, numbers.own
    is_stated = "offset" in own and "offset" not in numbers.given
    if not is_stated or not product.baseline_offsets or numbers.is_offset_known:
        return
    expected = 0.0 if applied.truth else product.known_offset(numbers.baseline)
    if expected is not None and not is_same(own["offset"], expected):
        whose = f"the flag {applied.name}" if applied.truth else f"baseline {numbers.baseline}"
        raise numbers.refusal(f"offset {own['offset']:g}", f"{whose} means offset {expected:g}")


def _check_line(numbers: Described) -> None:
    """Refuse a stated scale that belongs to another product, or lacks the offset it needs."""
    sensor, own = numbers.sensor, numbers.own
    product, scale = sensor.radiometry, own.get("scale")
    if scale is None or is_same(scale, product.scale) or "scale" in numbers.given:
        return
    other = _product_of_line(sensor, scale, own.get("offset", 0.0))
    if other:
        raise numbers.refusal(
            f"scale {scale:g}",
            f"sensor={sensor.name!r} has {product.scale:g} (it is that of {other!r})",
        )
    if "offset" not in {**own, **numbers.given} and not numbers.is_decoded:
        raise numbers.refusal(
            f"scale {scale:g} without an offset",
            f"the offset of {sensor.name!r} belongs to scale {product.scale:g}",
        )


def _product_of_line(sensor: Sensor, scale: float, offset: float) -> str:
    """Another product of the same satellites that has this line; empty if none has."""
    others = (other for other in all_sensors() if other.name != sensor.name)
    return next(
        (
            other.name
            for other in others
            if set(other.platforms) & set(sensor.platforms)
            and is_same(other.radiometry.scale, scale)
            and is_same(other.radiometry.offset, offset)
        ),
        "",
    )


def _check_nodata(numbers: Described) -> None:
    """Refuse a stated nodata that the pixels cannot hold: what marks missing ones is open."""
    code = numbers.own.get("nodata", math.nan)
    if "nodata" not in numbers.given and not _can_hold(numbers.kept, code):
        raise RadiometryError(
            f"band {numbers.band!r} states nodata {code:g}, which {numbers.kept} cannot hold",
            cure="pass the number that marks missing pixels in it with nodata=",
        )


def _can_hold(dtype: np.dtype[Any], code: float) -> bool:
    """Tell whether pixels of a type can hold a number that marks missing ones."""
    if dtype.kind == "f" or math.isnan(code):
        return True
    kept = np.iinfo(dtype)
    return bool(kept.min <= code <= kept.max and code % 1 == 0)
