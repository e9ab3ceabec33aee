"""Which dates of a cube a store lacks, and their writing, a few at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xharmonize._urls import Remote, named
from xharmonize.io.zarr.parts import take_apart
from xharmonize.io.zarr.reading import complete_rows
from xharmonize.io.zarr.store import is_store, to_zarr
from xharmonize.io.zarr.write import Key, open_for_writing, stored_keys
from xharmonize.types import IntArray

AT_ONCE = 16
"""Dates of a commit: what a kill can cost, and what workers share among them."""


def lacking(cube: xr.DataArray | xr.Dataset, store: Path | Remote) -> IntArray:
    """Return the positions of the dates of a cube that a store lacks; all where there is no store.

    A date is known by its (time, sensor, tile). What a killed writer left is lacking.

    Raises
    ------
    StoreError
        If the store is damaged.
    ContractError, GridError, TimeAxisError
        If the cube lacks contract coordinates, a CRS or dates.
    """
    held = held_keys(store)
    return np.flatnonzero([key not in held for key in take_apart(cube).keys])


def held_keys(store: Path | Remote) -> set[Key]:
    """(time [us], sensor, tile) of each complete entry of a store; none where there is none."""
    if not is_store(store):
        return set()
    rows, _ = complete_rows(store)
    keys = stored_keys(open_for_writing(store))
    return {key for row in rows.tolist() if (key := keys[row]) is not None}


def add_missing(
    cube: xr.DataArray | xr.Dataset,
    store: Path | Remote,
    *,
    at_once: int = AT_ONCE,
    **options: Any,
) -> int:
    """Write the dates of a cube that a store lacks, `at_once` per commit; return how many.

    Each commit is whole, so that a process that was killed goes on after the last of them.

    Parameters
    ----------
    cube : (time, band, y, x) or (time, y, x) cube
        Lazy or in memory; what the store has is not computed.
    store : Path or Remote
        Made where there is none.
    **options
        Of `xharmonize.to_zarr`.

    Raises
    ------
    StoreError
        As `xharmonize.to_zarr` with ``mode="upsert"``.
    """
    missing = lacking(cube, store)
    for start in range(0, missing.size, at_once):
        part = cube.isel(time=missing[start : start + at_once])
        to_zarr(part, mode="upsert", **named(store), **options)
    return int(missing.size)
