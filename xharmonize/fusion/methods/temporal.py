"""Fill clouds between the clear dates of each pixel: the baseline, without another sensor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.whole import days_of
from xharmonize.fusion.methods.filler import (
    Filler,
    facts_of,
    fit_coords,
    require_dates_to_fit,
)
from xharmonize.fusion.structure import fit_structure, sample_of
from xharmonize.types import AnyArray, Float64Array, IntArray

TEMPORAL, NEAREST = "temporal", "nearest"


@dataclass(frozen=True, kw_only=True)
class TemporalFiller(Filler):
    """Interpolate linearly in time between the clear dates before and after, per pixel.

    A pixel with a clear date on one side only gets the value of that date.
    """

    name: str = TEMPORAL


@dataclass(frozen=True, kw_only=True)
class NearestFiller(TemporalFiller):
    """Take the value of the nearest clear date, per pixel."""

    name: str = NEAREST
    is_between: ClassVar[bool] = False


def fit_temporal(seen: xr.DataArray, *, longest: float, model: str = TEMPORAL) -> xr.Dataset:
    """Fit how much reflectance changes with time, lazily.

    Parameters
    ----------
    seen : (time, band, y, x) DataArray
        Reflectance [1], NaN where missing or filled.
    longest : float
        Longest time between two dates that are compared [day].
    """
    require_dates_to_fit(seen)
    sample = sample_of(seen)
    structure = map_blocks(
        partial(_structure, days=days_of(seen), longest=longest),
        "tbyx->bp",
        sample,
        new={"p": 3},
        whole="b",
        dtype=np.float64,
        name="fit-structure",
    )
    fit = fit_coords(structure, [str(band) for band in seen["band"].values])
    return fit.assign_attrs(facts_of(seen, model))


def _structure(values: AnyArray, *, days: IntArray, longest: float) -> Float64Array:
    order = np.argsort(days, kind="stable")
    flat = values.reshape(*values.shape[:2], -1)[order]
    return fit_structure(flat, days[order], longest=longest)
