"""Whether two arrays lie at one place: by their grids, else by the coordinates that both have."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.geobox import TOLERANCE, geobox_of, require_same_grid
from xharmonize.errors import GridError
from xharmonize.types import IntArray


def require_same_place(one: xr.DataArray, other: xr.DataArray, *, what: str) -> None:
    """Raise `GridError` where two arrays differ along y or x.

    Grids are compared where both have one. Arrays without a CRS, or with pixels that are not
    evenly spaced, are compared by their coordinates, to a thousandth of a pixel.
    """
    if _has_grid(one) and _has_grid(other):
        require_same_grid(one, other, what=what)
        return
    for dim in (d for d in ("y", "x") if d in one.dims and d in other.dims):
        _require_same_labels(one, other, dim, what)


def _has_grid(array: xr.DataArray) -> bool:
    try:
        geobox_of(array)
    except GridError:
        return False
    return True


def _require_same_labels(one: xr.DataArray, other: xr.DataArray, dim: str, what: str) -> None:
    sizes = one.sizes[dim], other.sizes[dim]
    if dim not in one.coords or dim not in other.coords:
        if sizes[0] != sizes[1]:
            raise GridError(
                f"{what}: {sizes[0]} and {sizes[1]} pixels along {dim!r}, without coordinates to "
                "match them by; give both the same pixels"
            )
        return
    mine, theirs = one.indexes[dim], other.indexes[dim]
    if sizes[0] == sizes[1] and (positions_of(mine, theirs) == np.arange(sizes[0])).all():
        return
    raise GridError(
        f"{what}: the two differ along {dim!r}: {mine[0]} to {mine[-1]}, and {theirs[0]} to "
        f"{theirs[-1]}; cut both to what they share with xr.align(one, other, join='inner'), or "
        "bring one to the other's grid with cube.harmonize.regrid(like=...)"
    )


def positions_of(labels: Any, among: Any) -> IntArray:
    """Position of each label among others, -1 where it is none of them.

    Numbers with a fraction may differ by a thousandth of a step: float32 and float64 coordinates
    are those of the same pixels.
    """
    if "f" not in (np.asarray(labels).dtype.kind, np.asarray(among).dtype.kind):
        return np.asarray(among.get_indexer(labels), np.int64)
    step = _step(among) or _step(labels)
    slack = TOLERANCE * step if step else 0.0
    if slack and among.is_unique and among.is_monotonic_increasing:
        found = among.get_indexer(labels, method="nearest", tolerance=slack)
    elif slack and among.is_unique and among.is_monotonic_decreasing:
        back = among[::-1].get_indexer(labels, method="nearest", tolerance=slack)
        found = np.where(back < 0, -1, len(among) - 1 - back)
    else:
        found = among.get_indexer(labels)
    return np.asarray(found, np.int64)


def _step(labels: Any) -> float:
    """Least distance of two neighbours; 0 for a single one."""
    values = np.asarray(labels, float)
    return float(np.abs(np.diff(values)).min()) if values.size > 1 else 0.0


def spanned(array: xr.DataArray, dim: Hashable) -> str:
    """Number of labels along a dimension, and the first and last of them."""
    labels = array.indexes[dim]
    return f"{len(labels)} from {str(labels.min())[:19]} to {str(labels.max())[:19]}"
