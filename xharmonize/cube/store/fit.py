"""Whether a cube fits a store: said in words, before anything is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xharmonize.cube.geobox import crs_name
from xharmonize.cube.store.encode import (
    CODED,
    COMPLETE,
    VERSION,
    extend_meanings,
    json_attrs,
    meanings_of,
    to_codes,
)
from xharmonize.cube.store.parts import GRID_MAPPING, Parts, Stored
from xharmonize.errors import StoreError
from xharmonize.types import AnyArray

_MEANING = ("units", "flag_masks", "flag_values", "flag_meanings")
_DECODING = (*_MEANING, "calendar", "dtype", "_FillValue")
"""Attributes that say what numbers mean, and how a coordinate's are decoded."""


def require_fit(group: Any, parts: Parts, *, path: Any) -> None:
    """Raise `StoreError` that says every difference between cube and store.

    Whatever passes can be written: no value is changed by the type the store has for it.
    """
    found = differences(group, parts)
    if found:
        raise StoreError(
            f"the cube does not fit the store {path}: {'; '.join(found)}. "
            "Bring the cube onto the store's grid, bands and coordinates, or write to another path"
        )
    for name in CODED:
        meanings = extend_meanings(meanings_of(group[name].attrs), parts.coded[name])
        to_codes(parts.coded[name], meanings, name=name)


def differences(group: Any, parts: Parts) -> list[str]:
    """Return in words how a cube differs from what the store holds; empty where it fits."""
    return [
        *_variable_differences(group, parts),
        *_grid_differences(group, parts),
        *_entry_differences(group, parts),
        *_static_differences(group, parts),
    ]


def _variable_differences(group: Any, parts: Parts) -> list[str]:
    held = {n: a for n, a in group.arrays() if "grid_mapping" in a.attrs}
    data = sorted(group.attrs["xharmonize"]["variables"])
    found = []
    if set(held) != set(parts.blocks) or data != sorted(parts.variables):
        found.append(f"its variables are {sorted(parts.variables)}, the store's {data}")
    for name in sorted(set(held) & set(parts.blocks)):
        array, block = held[name], parts.blocks[name]
        dtype = "uint8" if block.dtype.kind == "b" else str(block.dtype)
        is_flag = (block.dtype.kind == "b", array.attrs.get("dtype") == "bool")
        if dtype != str(array.dtype) or is_flag[0] != is_flag[1]:
            own = "bool" if is_flag[1] else array.dtype
            found.append(f"{name!r} is {block.dtype}, the store's is {own}")
        if tuple(block.dims) != _dims(array):
            found.append(f"{name!r} lies along {block.dims}, the store's along {_dims(array)}")
        found += _attr_differences(name, json_attrs(block.attrs), array.attrs, _MEANING)
    return found


def _attr_differences(
    name: str, mine: Mapping[str, Any], held: Mapping[str, Any], keys: tuple[str, ...]
) -> list[str]:
    return [
        f"{name!r} has {key} {mine.get(key, '')!r}, the store's {held.get(key, '')!r}"
        for key in keys
        if str(mine.get(key, "")) != str(held.get(key, ""))
    ]


def _grid_differences(group: Any, parts: Parts) -> list[str]:
    from pyproj import CRS

    found = []
    crs = CRS.from_wkt(str(group["spatial_ref"].attrs["crs_wkt"]))
    if not crs.equals(parts.crs, ignore_axis_order=True):
        found.append(f"its CRS is {crs_name(parts.crs)}, the store's {crs_name(crs)}")
    steps = {"x": parts.transform[0], "y": parts.transform[4]}
    for dim in ("y", "x"):
        mine, held = parts.statics[dim].values, group[dim][:]
        if mine.shape != held.shape or not np.allclose(
            mine, held, rtol=0, atol=abs(steps[dim]) * 1e-3
        ):
            found.append(f"its {dim} are {_range(mine)}, the store's {_range(held)}")
    return found


def _entry_differences(group: Any, parts: Parts) -> list[str]:
    """Of coordinates along time, or time and band."""
    own = {"time", COMPLETE, VERSION, *CODED}
    held = {
        n: a
        for n, a in group.arrays()
        if "grid_mapping" not in a.attrs and "time" in _dims(a) and n not in own
    }
    found = _name_differences("along time", parts.entries, held)
    for name in sorted(set(held) & set(parts.entries)):
        mine, array = parts.entries[name], held[name]
        found += _stored_differences(name, mine, array)
        if mine.values.shape[1:] != array.shape[1:]:
            found.append(
                f"{name!r} has {mine.values.shape[1:]} values a date, not {array.shape[1:]}"
            )
        bad = changed_by(mine.values, array.dtype)
        if bad.size:
            found.append(
                f"{name!r} is {bad.dtype} ({bad[0]}), the store's is {array.dtype} and would "
                "change it"
            )
    return found


def _static_differences(group: Any, parts: Parts) -> list[str]:
    """Of coordinates without time, y and x apart: a store holds them once for all entries."""
    apart = ("y", "x", GRID_MAPPING)
    held = {n: a for n, a in group.arrays() if "time" not in _dims(a) and n not in apart}
    mine = {n: s for n, s in parts.statics.items() if n not in apart}
    found = _name_differences("without time", mine, held)
    for name in sorted(set(held) & set(mine)):
        values, own = mine[name].values, np.asarray(held[name][...])
        found += _stored_differences(name, mine[name], held[name])
        if not _are_equal(values, own):
            what = "bands are" if name == "band" else f"coordinate {name!r} is"
            found.append(f"its {what} {_short(values)}, the store's {_short(own)}")
    return found


def _name_differences(where: str, mine: Mapping[str, Any], held: Mapping[str, Any]) -> list[str]:
    if set(mine) == set(held):
        return []
    more, fewer = sorted(set(mine) - set(held)), sorted(set(held) - set(mine))
    said = f"its coordinates {where} differ from the store's in {sorted({*more, *fewer})}"
    return [said + (f" (drop {more} with cube.drop_vars)" if more else "")]


def _stored_differences(name: str, mine: Stored, array: Any) -> list[str]:
    if mine.dims != _dims(array):
        return [f"{name!r} lies along {mine.dims}, the store's along {_dims(array)}"]
    return _attr_differences(name, mine.attrs, array.attrs, _DECODING)


def changed_by(values: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    """Return the values that would not come back from an array of another type as they are."""
    is_text = [kind in "OUT" for kind in (values.dtype.kind, dtype.kind)]
    if any(is_text):
        return values.ravel()[: 0 if all(is_text) else 1]
    with np.errstate(all="ignore"):
        cast = values.astype(dtype)
        same = (cast == values) & (cast.astype(values.dtype) == values)
    same |= (cast != cast) & (values != values)
    return np.asarray(values[~same])


def _are_equal(mine: AnyArray, held: AnyArray) -> bool:
    if mine.shape != held.shape:
        return False
    if "f" in (mine.dtype.kind, held.dtype.kind):
        return changed_by(mine, held.dtype).size == 0 and np.array_equal(mine, held, equal_nan=True)
    return bool(mine.tolist() == held.tolist())


def _dims(array: Any) -> tuple[str, ...]:
    return tuple(array.metadata.dimension_names or ())


def _short(values: AnyArray) -> str:
    return str(values.tolist()) if values.size <= 30 else f"{values.size} values"


def _range(values: Any) -> str:
    return f"{values.size} from {values[0]:g} to {values[-1]:g}"
