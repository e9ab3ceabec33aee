"""Scale, offset and missing value that an array itself states.

Attributes describe decoding that is still to be done; the encoding of floats describes what xarray
has already done on reading (CF conventions, 8.1 "Packed data"). A scale of 1 and an offset of 0
count as not stated: rioxarray writes them for every file without scale and offset.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.radiometry import is_same
from xharmonize.errors import RadiometryError
from xharmonize.types import AnyArray

_NAMES = {
    "scale": ("scale", "scalefactor", "scales", "rasterscale"),
    "offset": ("offset", "addoffset", "offsets", "rasteroffset"),
    "nodata": ("fillvalue", "missingvalue", "nodata", "nodatavalue", "nodatavalues", "nodatavals"),
}
"""Spellings of files and libraries, in lower case and without anything but letters."""
_NEUTRAL = {"scale": 1.0, "offset": 0.0, "nodata": math.nan}
_NOTHING = ("", "none", "nan", "null")


@dataclass(frozen=True, kw_only=True)
class Stated:
    """Scale, offset and nodata stated by one band.

    Attributes
    ----------
    dtype : dtype
        Of its own pixels, before bands were put together.
    numbers : mapping of str to float
        Those of ``scale``, ``offset`` and ``nodata`` that it states.
    has_line : bool
        Whether it states a scale or an offset.
    is_applied : bool
        Whether xarray applied them when it read the pixels.
    """

    dtype: np.dtype[Any]
    numbers: Mapping[str, float]
    is_applied: bool = False

    @property
    def has_line(self) -> bool:
        """Whether it states a scale or an offset."""
        return not {"scale", "offset"}.isdisjoint(self.numbers)


def read_statements(array: xr.DataArray, labels: Sequence[Any]) -> list[Stated]:
    """Read what each band of an array states about its numbers.

    Parameters
    ----------
    array : DataArray
        With the attributes and the encoding it came with.
    labels : sequence
        Of its bands; one, if it is a variable of a Dataset.

    Raises
    ------
    RadiometryError
        If a number cannot be read, there are too many, or two of them disagree.
    """
    return [_of_band(array, labels, i) for i in range(len(labels))]


def _of_band(array: xr.DataArray, labels: Sequence[Any], position: int) -> Stated:
    is_float = np.issubdtype(array.dtype, np.floating)
    found = _gather(array.attrs, labels, position)
    decoded = _gather(array.encoding, labels, position)
    is_applied = False
    if is_float:
        is_applied = not {"scale", "offset"}.isdisjoint(decoded) and found.keys() <= {"nodata"}
        entries = {**decoded, **found}
    else:
        entries = {key: found.get(key, []) + decoded.get(key, []) for key in {**found, **decoded}}
    numbers = {key: _agreed(values, labels[position]) for key, values in entries.items()}
    if numbers.get("scale", 1.0) <= 0:
        raise RadiometryError(
            f"band {labels[position]!r} states scale {numbers['scale']:g}",
            cure="it is above 0: remove it from cube.attrs, and pass scale= and offset=",
        )
    return Stated(dtype=array.dtype, numbers=numbers, is_applied=is_applied)


def _gather(
    fields: Mapping[Any, Any], labels: Sequence[Any], position: int
) -> dict[str, list[tuple[str, float]]]:
    """Numbers under all spellings, with the names they stand under; neutral ones left out."""
    found: dict[str, list[tuple[str, float]]] = {}
    for name, value in fields.items():
        key = _key_of(name)
        if key is None:
            continue
        number = _number(str(name), value, labels, position)
        if number is not None and not math.isnan(number) and number != _NEUTRAL[key]:
            found.setdefault(key, []).append((str(name), number))
    return found


def read_numbers(coords: Mapping[str, Any]) -> dict[str, float]:
    """Return scale, offset and nodata that scalar coordinates of one band state.

    A scale of 1 and an offset of 0 together count as not stated.

    Raises
    ------
    RadiometryError
        If a number cannot be read, or two of them disagree.
    """
    found: dict[str, list[tuple[str, float]]] = {}
    for name, value in coords.items():
        key = _key_of(name)
        number = None if key is None else _number(name, value, [""], 0)
        if key is not None and number is not None and not math.isnan(number):
            found.setdefault(key, []).append((name, number))
    numbers = {key: _agreed(values, coords.get("band", "")) for key, values in found.items()}
    if all(numbers.get(key, _NEUTRAL[key]) == _NEUTRAL[key] for key in ("scale", "offset")):
        return {key: number for key, number in numbers.items() if key == "nodata"}
    return numbers


def _key_of(name: Any) -> str | None:
    """Which of the numbers an attribute or a coordinate holds, by its name."""
    plain = re.sub(r"[^a-z]", "", str(name).lower())
    return next((key for key, names in _NAMES.items() if plain in names), None)


def _number(name: str, value: Any, labels: Sequence[Any], position: int) -> float | None:
    """The number for one band, of one for all, one each, or a mapping."""
    if isinstance(value, Mapping):
        value = value.get(labels[position], value.get(str(labels[position])))
    values = _listed(value)
    if not values:
        return None
    chosen = values[0] if len(values) == 1 else pick(values, labels, position)
    if chosen is None:
        raise RadiometryError(
            f"the cube states {len(values)} numbers in {name!r} ({str(value)[:60]}) for "
            f"{len(labels)} bands",
            cure="remove it from cube.attrs, and pass scale=, offset= and nodata=",
        )
    if str(chosen).strip().lower() in _NOTHING:
        return None
    try:
        return float(chosen)
    except (TypeError, ValueError):
        raise RadiometryError(
            f"the cube states {name}={str(chosen)[:40]!r}, which is no number",
            cure="remove it from cube.attrs or cube.encoding, and pass scale=, offset= and nodata=",
        ) from None


def _listed(value: Any) -> list[Any]:
    """Numbers of a scalar, a list, an array, or a text of them."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        words = [word for word in re.split(r"[\s,;\[\](){}]+", value) if word]
        return words or [value]
    if value is None:
        return []
    items = np.asarray(value, dtype=object).ravel().tolist()
    return [item.decode(errors="replace") if isinstance(item, bytes) else item for item in items]


def pick(values: Sequence[Any], labels: Sequence[Any], position: int) -> Any | None:
    """Return the value of one band: by its number in the file, or else by its position.

    Numbers outlast a selection of bands, after which an attribute lists too many. None where
    neither fits.
    """
    number = labels[position]
    if isinstance(number, int | np.integer) and min(labels) >= 1 and max(labels) <= len(values):
        return values[int(number) - 1]
    return values[position] if len(values) == len(labels) else None


def _agreed(values: Sequence[tuple[str, float]], label: Any) -> float:
    """The one number that all spellings give."""
    name, number = values[0]
    for other, differs in values[1:]:
        if is_same(number, differs):
            continue
        raise RadiometryError(
            f"band {label!r} states {name}={number:g} and {other}={differs:g}",
            cure="if both mark "
            f"missing pixels, make them one with cube.where(cube != {differs:g}, {number:g}); "
            f"remove {other!r} from cube.attrs and cube.encoding",
        )
    return number


def blank(cube: xr.DataArray, codes: Sequence[AnyArray]) -> xr.DataArray:
    """Return a float cube with NaN where a value is one of the codes of its date and band; lazy.

    Parameters
    ----------
    cube : (time, band, y, x) float DataArray
        Reflectance [1] or digital numbers.
    codes : sequence of (time, band) float array
        Values that mark missing pixels; NaN where there is none.
    """
    for code in codes:
        if np.isnan(code).all():
            continue
        table = xr.DataArray(code, dims=("time", "band"))
        slack = 4 * float(np.finfo(cube.dtype).eps) * np.where(np.isfinite(code), np.abs(code), 0)
        is_code = (cube == table) | (abs(cube - table) <= table.copy(data=slack))
        cube = cube.where(~is_code)
    return cube
