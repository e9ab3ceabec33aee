"""Results as Zarr stores: written whole, with every variable, and opened as they were."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xharmonize._replace import written_aside
from xharmonize.cube.results import as_variables
from xharmonize.cube.store.encode import NO_TIME, TIME_ATTRS, json_attrs
from xharmonize.errors import StoreError

MARK = "xharmonize"


def write_result(cube: xr.DataArray | xr.Dataset, store: Path, *, mode: str) -> Path:
    """Write a cube without dates as a Zarr v3 store that appears whole or not at all.

    Raises
    ------
    StoreError
        If it is to be added to a store, or something stands at `store` that may not be replaced.
    """
    if mode == "upsert":
        raise StoreError(
            "a result has no dates to add to a store by; write it whole, to a path of its own, "
            "with mode='w'"
        )
    is_there = store.is_file() or (store.is_dir() and any(store.iterdir()))
    if is_there and not is_result_store(store):
        raise StoreError(
            f"{store} exists and holds no result written by xharmonize; choose another path"
        )
    with written_aside(store, mode) as new:
        _bare(cube).to_zarr(new, mode="w-", zarr_format=3, consolidated=False)
    return store


def _bare(cube: xr.DataArray | xr.Dataset) -> xr.Dataset:
    """The variables without what another file left in their encoding, and in even chunks."""
    dataset = as_variables(cube, what="to_zarr") if isinstance(cube, xr.DataArray) else cube
    dataset = dataset.drop_encoding()
    texts = {
        n: (c.dims, np.array(c.values.tolist(), object), c.attrs)
        for n, c in dataset.coords.items()
        if c.dtype.kind in "UT"
    }
    dataset = dataset.assign_coords(texts)
    even = {d: max(chunks) for d, chunks in dataset.unify_chunks().chunksizes.items()}
    dataset = dataset.chunk(even) if even else dataset
    for name, array in dataset.variables.items():
        array.attrs = json_attrs(array.attrs)
        if array.dtype.kind == "M":
            array.encoding = {**TIME_ATTRS, "dtype": "int64", "_FillValue": NO_TIME}
        if name in dataset.data_vars and {"y", "x"} <= set(array.dims):
            array.encoding["grid_mapping"] = "spatial_ref"
    own = {
        "result": "DataArray" if isinstance(cube, xr.DataArray) else "Dataset",
        "variables": list(map(str, dataset.data_vars)),
    }
    return dataset.assign_attrs({**json_attrs(dataset.attrs), MARK: own})


def is_result_store(store: Path) -> bool:
    """Tell whether `write_result` wrote what stands at a path."""
    try:
        document = json.loads((store / "zarr.json").read_text())
    except (OSError, ValueError):
        return False
    attrs = document.get("attributes") if isinstance(document, dict) else None
    own = attrs.get(MARK) if isinstance(attrs, dict) else None
    return isinstance(own, dict) and "result" in own


def open_result(
    store: Path, *, chunks: Mapping[str, int] | None = None
) -> xr.DataArray | xr.Dataset:
    """Open a result lazily, as what it was written from."""
    options: dict[str, Any] = {"consolidated": False, "decode_coords": "all"}
    found = xr.open_zarr(store, chunks=dict(chunks or {}), **options)
    texts = {
        n: (c.dims, np.array(c.values.tolist(), str), c.attrs)
        for n, c in found.coords.items()
        if c.dtype.kind in "OT"
    }
    found = found.assign_coords(texts)
    own = found.attrs.pop(MARK)
    whole: xr.Dataset = found[own["variables"]]
    array: xr.DataArray = whole[own["variables"][0]]
    return whole if own["result"] == "Dataset" else array
