"""A cube taken apart as it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from xharmonize.cube.contract import BAND_COORDS, DIMS, REFLECTANCE, TIME_COORDS, plain_numbers
from xharmonize.cube.dates import require_dates
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import geobox_of
from xharmonize.cube.store.encode import (
    CODED,
    COMPLETE,
    VERSION,
    as_text,
    encode_time,
    encode_values,
    json_attrs,
)
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
    """A cube taken apart.

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
    """Return the parts of a cube; nothing but its coordinates is computed.

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
            f"the cube has no coordinate {absent or ['time']}; it has "
            f"{sorted(map(str, dataset.sizes))}"
        )
    needed = [*TIME_COORDS, *(BAND_COORDS if "band" in dataset.dims else ())]
    lost = [name for name in needed if name not in dataset.coords]
    if lost:
        raise ContractError(
            f"the cube has lost its coordinates {lost}, a store keeps them; "
            "settle them with xh.describe(cube, sensor=..., platform=...)"
        )

    spread = [name for name in TIME_COORDS if dataset[name].dims != ("time",)]
    if spread:
        raise ContractError(
            f"the coordinates {spread} do not lie along time alone; settle them with "
            "xh.describe(cube, sensor=..., platform=...)"
        )


def _require_own_names(dataset: xr.Dataset) -> None:
    taken = [name for name in (COMPLETE, VERSION) if name in dataset.variables]
    if taken:
        raise StoreError(
            f"{taken} are names of coordinates that a store has of its own; rename the cube's, "
            f"for instance cube.rename({{{taken[0]!r}: 'own_{taken[0]}'}})"
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
            "(time, y, x) or (time, band, y, x); drop it or store it by itself"
        )
    if array.dtype.kind not in "iufb":
        raise StoreError(f"variable {name!r} holds {array.dtype}; a series holds numbers")
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
                f"({np.datetime64(time, 'us')}, {sensor}, {tile}) occurs twice; entries of a "
                "store are known by time, sensor and tile: merge the two or drop one"
            )
        seen.add((time, sensor, tile))
