"""Grid and CRS of a store: the CF grid mapping, and the GeoZarr keys in addition.

References
----------
CF Conventions 1.11, appendix F (grid mappings), https://cfconventions.org.
Zarr conventions ``proj`` and ``spatial`` v0.1, https://github.com/zarr-conventions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xharmonize.cube.store.encode import json_attrs
from xharmonize.cube.store.parts import COMPLETE, FORMAT, GRID_MAPPING, VERSION, Parts
from xharmonize.errors import StoreError

_CONVENTIONS = {
    "proj": (
        "f17cb550-5864-4468-aeb7-f3180cfb622f",
        "Coordinate reference system information for geospatial data",
    ),
    "spatial": ("689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information"),
}
OWN_KEYS = ("xharmonize", "zarr_conventions", "Conventions")
OWN_PREFIXES = ("proj:", "spatial:")


def crs_attrs(parts: Parts) -> dict[str, Any]:
    """Return the attributes of the grid mapping variable."""
    a, b, c, d, e, f = parts.transform
    wkt = str(parts.grid_mapping.get("crs_wkt") or parts.crs.to_wkt())
    geotransform = " ".join(repr(float(v)) for v in (c, a, b, f, d, e))
    return {
        **json_attrs(parts.crs.to_cf()),
        **parts.grid_mapping,
        "crs_wkt": wkt,
        "spatial_ref": wkt,
        "GeoTransform": geotransform,
    }


def axis_attrs(parts: Parts) -> dict[str, dict[str, Any]]:
    """Return CF axis, standard name and unit of the y and x coordinates."""
    return {str(axis["axis"]).lower(): json_attrs(axis) for axis in parts.crs.cs_to_cf()}


def root_attrs(parts: Parts) -> dict[str, Any]:
    """Return the attributes of the root group: ours, CF's and GeoZarr's."""
    own = {"format": FORMAT, "kind": parts.kind, "variables": list(parts.variables)}
    return {
        **parts.attrs,
        "Conventions": "CF-1.11",
        "xharmonize": own,
        **geozarr_attrs(parts),
    }


def geozarr_attrs(parts: Parts) -> dict[str, Any]:
    """Return the keys of the Zarr conventions ``proj`` and ``spatial``."""
    n_y, n_x = parts.statics["y"].values.size, parts.statics["x"].values.size
    a, _, c, _, e, f = parts.transform
    xs, ys = sorted((c, c + a * n_x)), sorted((f, f + e * n_y))
    authority = parts.crs.to_authority()
    code = {"proj:code": ":".join(authority)} if authority else {}
    return {
        "zarr_conventions": [
            {
                "schema_url": "https://raw.githubusercontent.com/zarr-conventions/"
                f"{name}/refs/tags/v0.1/schema.json",
                "spec_url": f"https://github.com/zarr-conventions/{name}/blob/v0.1/README.md",
                "uuid": uuid,
                "name": name,
                "description": description,
            }
            for name, (uuid, description) in _CONVENTIONS.items()
        ],
        **code,
        "proj:wkt2": parts.crs.to_wkt("WKT2_2019"),
        "spatial:dimensions": ["y", "x"],
        "spatial:shape": [n_y, n_x],
        "spatial:transform": list(parts.transform),
        "spatial:bbox": [xs[0], ys[0], xs[1], ys[1]],
        "spatial:registration": "pixel",
    }


def is_own_key(name: str) -> bool:
    """Whether a root attribute was written by the store and not by the cube."""
    return name in OWN_KEYS or name.startswith(OWN_PREFIXES)


def differences(group: Any, parts: Parts) -> list[str]:
    """Return in words how a cube differs from what the store holds; empty where it fits."""
    return [
        *_variable_differences(group, parts),
        *_grid_differences(group, parts),
        *_coordinate_differences(group, parts),
    ]


def require_fit(group: Any, parts: Parts, *, path: Any) -> None:
    """Raise `StoreError` that says every difference between cube and store."""
    found = differences(group, parts)
    if found:
        raise StoreError(
            f"the cube does not fit the store {path}: {'; '.join(found)}. "
            "Bring the cube onto the store's grid and bands, or write to another path"
        )


def _variable_differences(group: Any, parts: Parts) -> list[str]:
    held = {n: a for n, a in group.arrays() if "grid_mapping" in a.attrs}
    found = []
    if set(held) != set(parts.blocks):
        found.append(f"its variables are {sorted(parts.blocks)}, the store's {sorted(held)}")
    for name in sorted(set(held) & set(parts.blocks)):
        array, block = held[name], parts.blocks[name]
        dtype = "uint8" if block.dtype.kind == "b" else str(block.dtype)
        if dtype != str(array.dtype):
            found.append(f"{name!r} is {block.dtype}, the store's is {array.dtype}")
        if tuple(block.dims) != tuple(array.metadata.dimension_names):
            found.append(
                f"{name!r} lies along {block.dims}, the store's along "
                f"{tuple(array.metadata.dimension_names)}"
            )
        units = (str(block.attrs.get("units", "")), str(array.attrs.get("units", "")))
        if units[0] != units[1]:
            found.append(f"{name!r} has units {units[0]!r}, the store's {units[1]!r}")
        found += _meaning_differences(name, block.attrs, array.attrs)
    return found


def _grid_differences(group: Any, parts: Parts) -> list[str]:
    from pyproj import CRS

    found = []
    crs = CRS.from_wkt(str(group["spatial_ref"].attrs["crs_wkt"]))
    if not crs.equals(parts.crs, ignore_axis_order=True):
        found.append(f"its CRS is {_name(parts.crs)}, the store's {_name(crs)}")
    steps = {"x": parts.transform[0], "y": parts.transform[4]}
    for dim in ("y", "x"):
        mine, held = parts.statics[dim].values, group[dim][:]
        if mine.shape != held.shape or not np.allclose(
            mine, held, rtol=0, atol=abs(steps[dim]) * 1e-3
        ):
            found.append(f"its {dim} are {_range(mine)}, the store's {_range(held)}")
    return found


def _coordinate_differences(group: Any, parts: Parts) -> list[str]:
    found = _static_differences(group, parts)
    own = {"time", COMPLETE, VERSION, GRID_MAPPING, "sensor"}
    held_entries = {
        n
        for n, a in group.arrays()
        if "grid_mapping" not in a.attrs and "time" in (a.metadata.dimension_names or ())
    }
    mine_entries = {*parts.entries, *parts.coded}
    if mine_entries - own != held_entries - own:
        found.append(
            f"its coordinates along time differ from the store's in "
            f"{sorted((mine_entries ^ held_entries) - own)}"
        )
    for name in sorted(set(parts.entries) & held_entries):
        found += _entry_differences(name, parts.entries[name], group[name])
    return found


def _static_differences(group: Any, parts: Parts) -> list[str]:
    """Of coordinates without time: the store has one value of each, for all its entries."""
    held = {n for n, a in group.arrays() if "time" not in (a.metadata.dimension_names or ())}
    held -= {GRID_MAPPING, "y", "x"}
    mine = set(parts.statics) - {"y", "x"}
    found = []
    if mine != held:
        found.append(
            f"its coordinates without time differ from the store's in {sorted(mine ^ held)} "
            "(leave them out with drop_vars, or lay them along time)"
        )
    for name in sorted(mine & held):
        own, other = parts.statics[name].values, np.asarray(group[name][...])
        if not _is_equal(own, other):
            what = "bands are" if name == "band" else f"coordinate {name!r} is"
            found.append(f"its {what} {_short(own)}, the store's {_short(other)}")
    return found


def _entry_differences(name: str, stored: Any, array: Any) -> list[str]:
    """Of a coordinate along time: values that the store's dtype does not hold as they are."""
    dims = tuple(array.metadata.dimension_names)
    if stored.dims != dims or stored.values.shape[1:] != array.shape[1:]:
        return [f"{name!r} lies along {stored.dims}, the store's along {dims}"]
    found = _meaning_differences(name, stored.attrs, array.attrs, ("units", "dtype"))
    is_text = stored.values.dtype.kind == "O"
    if is_text != (array.dtype.kind not in "iuf"):
        return [*found, f"{name!r} is {stored.values.dtype}, the store's is {array.dtype}"]
    if not is_text:
        with np.errstate(all="ignore"):
            cast = stored.values.astype(array.dtype)
        changed = ~((cast == stored.values) | ((cast != cast) & (stored.values != stored.values)))
        if changed.any():
            value = stored.values[changed].ravel()[0]
            found.append(f"{name!r} holds {value!r}, which the store's {array.dtype} cannot hold")
    return found


def _meaning_differences(name: str, mine: Any, held: Any, more: tuple[str, ...] = ()) -> list[str]:
    """Of attributes that say what integers stand for."""
    keys = ("flag_values", "flag_masks", "flag_meanings", *more)
    told = [(key, _plain(mine.get(key)), _plain(held.get(key))) for key in keys]
    return [f"{name!r} has {k} {a!r}, the store's {b!r}" for k, a, b in told if a != b]


def _plain(value: Any) -> Any:
    return (
        value.tolist()
        if isinstance(value, np.ndarray | np.generic)
        else (list(value) if isinstance(value, tuple) else value)
    )


def _is_equal(mine: Any, held: Any) -> bool:
    if mine.dtype.kind in "fc" and held.dtype.kind in "fc":
        return bool(np.array_equal(mine, held, equal_nan=True))
    return bool(mine.shape == held.shape and mine.tolist() == held.tolist())


def _short(values: Any) -> str:
    text = str(np.asarray(values).tolist())
    return text if len(text) <= 80 else f"{text[:77]}…"


def _name(crs: Any) -> str:
    authority = crs.to_authority()
    return ":".join(authority) if authority else str(crs.name)


def _range(values: Any) -> str:
    return f"{values.size} from {values[0]:g} to {values[-1]:g}"
