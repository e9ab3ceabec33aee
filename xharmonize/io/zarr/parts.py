"""Split a cube into its stored parts, and check whether it matches a store.

References
----------
CF Conventions 1.11, appendix F (grid mappings), https://cfconventions.org.
Zarr conventions ``proj`` and ``spatial`` v0.1, https://github.com/zarr-conventions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from xharmonize.cube.codes import (
    CODED,
    COMPLETE,
    VERSION,
    as_text,
    encode_time,
    encode_values,
    extend_meanings,
    json_attrs,
    meanings_of,
    to_codes,
)
from xharmonize.cube.contract import BAND_COORDS, DIMS, REFLECTANCE, TIME_COORDS, plain_numbers
from xharmonize.cube.dates import require_dates
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import crs_code, crs_name, geobox_of
from xharmonize.errors import ContractError, StoreError
from xharmonize.types import AnyArray, IntArray

FORMAT = 2
"""Version of the layout, in the root attribute ``xharmonize``."""

GRID_MAPPING = "spatial_ref"
OWN_KEYS = ("xharmonize", "zarr_conventions", "Conventions")
OWN_PREFIXES = ("proj:", "spatial:")

Kind = Literal["DataArray", "Dataset"]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Values of a coordinate as stored, with dimensions and attributes."""

    dims: tuple[str, ...]
    values: AnyArray
    attrs: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A cube split into its stored parts.

    Attributes
    ----------
    blocks : mapping of str to DataArray
        Along (time, y, x) or (time, band, y, x); lazy where the cube is.
    times : (time,) int64 array
        Microseconds since 1970-01-01.
    coded : mapping of str to list of str
        Contract coordinates along time that are stored as codes.
    entries : mapping of str to Stored
        Other coordinates along time or (time, band).
    statics : mapping of str to Stored
        Coordinates without time: band, y, x and what else there is.
    """

    kind: Kind
    blocks: Mapping[str, xr.DataArray]
    block_coords: tuple[str, ...]
    times: IntArray
    coded: Mapping[str, list[str]]
    entries: Mapping[str, Stored]
    statics: Mapping[str, Stored]
    crs: Any
    grid_mapping: Mapping[str, Any]
    transform: tuple[float, ...]
    attrs: Mapping[str, Any]

    @property
    def keys(self) -> list[tuple[int, str, str]]:
        """(time, sensor, tile) of each entry."""
        return list(zip(self.times.tolist(), self.coded["sensor"], self.coded["tile"]))

    @property
    def variables(self) -> dict[str, xr.DataArray]:
        """Blocks that are data, not coordinates."""
        return {n: block for n, block in self.blocks.items() if n not in self.block_coords}


def take_apart(cube: xr.DataArray | xr.Dataset) -> Parts:
    """Split a cube into its stored parts; only coordinates are computed.

    Raises
    ------
    ContractError, GridError, TimeAxisError
        If contract coordinates, CRS or dates are missing.
    StoreError
        If a variable does not lie along (time, y, x) or (time, band, y, x), or a key occurs twice.
    """
    cube = at_door(cube)
    dataset = _with_small_coords_loaded(as_dataset(cube))
    require_coords(dataset)
    _require_own_names(dataset)
    coords = {str(n): c for n, c in dataset.coords.items() if not _is_grid_mapping(c)}
    spread = {n: c for n, c in coords.items() if "time" in c.dims and {"y", "x"} & set(c.dims)}
    arrays = {**{str(n): dataset[n] for n in dataset.data_vars}, **spread}
    geobox = geobox_of(cube)
    mappings = [c.attrs for c in cube.coords.values() if _is_grid_mapping(c)]
    along_time = {n: c for n, c in coords.items() if "time" in c.dims and n not in spread}
    special = {"time", *CODED}
    parts = Parts(
        kind="DataArray" if isinstance(cube, xr.DataArray) else "Dataset",
        blocks={name: _block(name, array) for name, array in arrays.items()},
        block_coords=tuple(spread),
        times=encode_time(_times(dataset)),
        coded={name: as_text(np.asarray(coords[name].values)) for name in CODED},
        entries={n: _stored(c) for n, c in along_time.items() if n not in special},
        statics={n: _stored(c) for n, c in coords.items() if "time" not in c.dims},
        crs=geobox.crs.proj,
        grid_mapping=json_attrs(mappings[0]) if mappings else {},
        transform=tuple(geobox.transform)[:6],
        attrs=_own_attrs(cube) if isinstance(cube, xr.Dataset) else {},
    )
    _require_unique(parts)
    return parts


def as_dataset(cube: xr.DataArray | xr.Dataset) -> xr.Dataset:
    """Return the cube as a Dataset, in types that files hold; an unnamed variable gets a name."""
    if not isinstance(cube, xr.Dataset):
        cube = cube.to_dataset(
            name=str(cube.name or (REFLECTANCE if "band" in cube.dims else "values"))
        )
    plain = {n: plain_numbers(v) for n, v in cube.data_vars.items() if v.dtype.kind in "iuf"}
    return cube.assign({n: v for n, v in plain.items() if v.dtype != cube[n].dtype})


def is_own_key(name: str) -> bool:
    """Whether a root attribute was written by the store and not by the cube."""
    return name in OWN_KEYS or name.startswith(OWN_PREFIXES)


def _own_attrs(cube: xr.Dataset) -> dict[str, Any]:
    return {name: v for name, v in json_attrs(cube.attrs).items() if not is_own_key(name)}


def _with_small_coords_loaded(dataset: xr.Dataset) -> xr.Dataset:
    small = [n for n, c in dataset.coords.items() if not {"time", "y", "x"} <= set(c.dims)]
    return dataset.assign_coords(dataset[small].compute().coords)


def require_coords(dataset: xr.Dataset) -> None:
    """Raise `ContractError` unless time, y, x and the contract coordinates are there."""
    absent = [dim for dim in ("time", "y", "x") if dim not in dataset.coords]
    if absent or "time" not in dataset.dims:
        raise ContractError(
            f"the cube has no coordinate {absent or ['time']}",
            cure=f"it has {sorted(map(str, dataset.sizes))}",
        )
    needed = [*TIME_COORDS, *(BAND_COORDS if "band" in dataset.dims else ())]
    lost = [name for name in needed if name not in dataset.coords]
    if lost:
        raise ContractError(
            f"the cube has lost its coordinates {lost}, a store keeps them",
            cure="settle them with xh.describe(cube, sensor=..., platform=...)",
        )

    spread = [name for name in TIME_COORDS if dataset[name].dims != ("time",)]
    if spread:
        raise ContractError(
            f"the coordinates {spread} do not lie along time alone",
            cure="settle them with xh.describe(cube, sensor=..., platform=...)",
        )


def _require_own_names(dataset: xr.Dataset) -> None:
    taken = [name for name in (COMPLETE, VERSION) if name in dataset.variables]
    if taken:
        raise StoreError(
            f"{taken} are names of coordinates that a store has of its own",
            cure=f"rename the cube's, for instance cube.rename({{{taken[0]!r}: 'own_{taken[0]}'}})",
        )


def _is_grid_mapping(coord: xr.DataArray) -> bool:
    return coord.ndim == 0 and bool({"crs_wkt", "spatial_ref"} & set(coord.attrs))


def _times(dataset: xr.Dataset) -> AnyArray:
    require_dates(dataset, what="a store")
    return np.asarray(dataset["time"].values)


def _block(name: str, array: xr.DataArray) -> xr.DataArray:
    dims = tuple(dim for dim in DIMS if dim in array.dims)
    if set(array.dims) - set(dims) or not {"time", "y", "x"} <= set(dims):
        raise StoreError(
            f"variable {name!r} lies along {array.dims}, a series holds variables along "
            "(time, y, x) or (time, band, y, x)",
            cure="drop it or store it by itself",
        )
    if array.dtype.kind not in "iufb":
        raise StoreError(f"variable {name!r} holds {array.dtype}", cure="a series holds numbers")
    return array.transpose(*dims)


def _stored(coord: xr.DataArray) -> Stored:
    values, attrs = encode_values(np.asarray(coord.values))
    dims = tuple(str(dim) for dim in coord.dims)
    return Stored(dims=dims, values=values, attrs={**json_attrs(coord.attrs), **attrs})


def _require_unique(parts: Parts) -> None:
    seen = set()
    for time, sensor, tile in parts.keys:
        if (time, sensor, tile) in seen:
            raise StoreError(
                f"({np.datetime64(time, 'us')}, {sensor}, {tile}) occurs twice",
                cure="entries of a "
                "store are known by time, sensor and tile: merge the two or drop one",
            )
        seen.add((time, sensor, tile))


_CONVENTIONS = {
    "proj": (
        "f17cb550-5864-4468-aeb7-f3180cfb622f",
        "Coordinate reference system information for geospatial data",
    ),
    "spatial": ("689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information"),
}


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
    known = crs_code(parts.crs)
    code = {"proj:code": known} if known else {}
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


CHECKSUM = "checksum"


def seal(document: dict[str, Any]) -> None:
    """Write the checksum of a root ``zarr.json`` into it."""
    document["attributes"]["xharmonize"][CHECKSUM] = _checksum(document)


def is_sound(document: dict[str, Any]) -> bool:
    """Whether a root ``zarr.json`` is what was written; titles and history may differ."""
    own = document["attributes"]["xharmonize"]
    return bool(own.get(CHECKSUM) == _checksum(document))


def differing(document: dict[str, Any], arrays: dict[str, Any]) -> list[str]:
    """Names of arrays whose own ``zarr.json`` does not say how they are stored as the root does.

    Lengths and attributes may differ: a write under way changes them before it is published.
    """
    published = document["consolidated_metadata"]["metadata"]
    return sorted(
        name
        for name in {*published, *arrays}
        if name not in arrays
        or name not in published
        or _storage(arrays[name]) != _storage(published[name])
    )


def _storage(array: dict[str, Any]) -> dict[str, Any]:
    changing = {"attributes": None, "shape": array["shape"][1:]}
    return {**array, **changing}


def _checksum(document: dict[str, Any]) -> str:
    own = {k: v for k, v in document["attributes"]["xharmonize"].items() if k != CHECKSUM}
    arrays = document.get("consolidated_metadata", {}).get("metadata")
    text = json.dumps([own, arrays], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


_MEANING = ("units", "flag_masks", "flag_values", "flag_meanings")
_DECODING = (*_MEANING, "calendar", "dtype", "_FillValue")
"""Attributes that say what numbers mean, and how a coordinate's are decoded."""


def require_fit(group: Any, parts: Parts, *, path: Any) -> None:
    """Raise `StoreError`, listing every difference, unless a cube matches a store.

    A cube that passes can be written without changing any value by type conversion.
    """
    found = differences(group, parts)
    if found:
        raise StoreError(
            f"the cube does not fit the store {path}: {'; '.join(found)}",
            cure="bring it onto the store's grid, bands and coordinates, or write to another path",
        )
    for name in CODED:
        meanings = extend_meanings(meanings_of(group[name].attrs), parts.coded[name])
        to_codes(parts.coded[name], meanings, name=name)


def differences(group: Any, parts: Parts) -> list[str]:
    """Describe how a cube differs from a store; empty if it matches."""
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
    """Return the values that would change if stored with another type."""
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
