"""Companions of a cube whose bands and bandpass change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.contract import COMPANIONS, read_coordinate, select_bands
from xharmonize.cube.flags import Origin
from xharmonize.types import BoolArray


def carry_companions(
    cube: xr.Dataset, result: xr.Dataset, sources: Mapping[str, str]
) -> dict[str, xr.DataArray]:
    """Companions of `cube`, but ``uncertainty``, for the bands and dates of `result`.

    A layer along bands is that of the band a result is made from, or, where no single one has its
    name, the OR (flags) or the least (``valid_fraction``) of all. `origin` becomes harmonised where
    a date's bandpass changes.

    Parameters
    ----------
    sources : mapping of str to str
        The source band of each band of the result that has another name.
    """
    bands = [str(name) for name in result["band"].values]
    names = [name for name in COMPANIONS if name in cube and name != "uncertainty"]
    carried = {name: _of_bands(cube[name], bands, sources) for name in names}
    is_changed = read_coordinate(cube, "bandpass") != read_coordinate(result, "bandpass")
    if "origin" in carried and is_changed.any():
        carried["origin"] = _harmonised(carried["origin"], is_changed)
    return carried


def _of_bands(
    layer: xr.DataArray, bands: Sequence[str], sources: Mapping[str, str]
) -> xr.DataArray:
    if "band" not in layer.dims:
        return layer
    layer = layer.reset_coords(drop=True)
    present = [str(name) for name in layer["band"].values]
    wanted = [sources.get(name, name) for name in bands]
    if set(wanted) <= set(present):
        return select_bands(layer, wanted).assign_coords(band=list(bands))
    combine: Callable[..., Any] = (
        np.minimum if np.issubdtype(layer.dtype, np.floating) else np.bitwise_or
    )
    whole = reduce(combine, [layer.isel(band=i, drop=True) for i in range(len(present))])
    parts = [layer.sel(band=w, drop=True) if w in present else whole for w in wanted]
    merged = xr.concat(parts, dim=xr.Variable("band", list(bands)))
    return merged.transpose(*layer.dims).assign_attrs(layer.attrs)


def _harmonised(origin: xr.DataArray, is_changed: BoolArray) -> xr.DataArray:
    """Origin with harmonised in place of observed on the dates that were changed."""
    observed, harmonised = np.uint8(Origin.OBSERVED), np.uint8(Origin.HARMONISED)
    is_due = xr.DataArray(is_changed, dims="time") & ((origin & observed) > 0)
    changed = (origin & ~observed) | harmonised
    return origin.where(~is_due, changed).astype(origin.dtype).transpose(*origin.dims)
