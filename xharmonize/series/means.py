"""Means that say NaN where there is nothing, without the warnings of nanmean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr


def mean_of_known(values: xr.DataArray, dims: str | Sequence[str]) -> xr.DataArray:
    """Mean over values that are not NaN, summed in float64; NaN where all are."""
    n = values.notnull().sum(dims)
    total: xr.DataArray = values.sum(dims, dtype=np.float64) / n.where(n > 0)
    return total


def deviation_of_known(values: xr.DataArray, dims: str | Sequence[str]) -> xr.DataArray:
    """Standard deviation (n - 1) over values that are not NaN; NaN for fewer than two."""
    n = values.notnull().sum(dims)
    away = values - mean_of_known(values, dims)
    free = (n - 1).where(n > 1)
    spread: xr.DataArray = ((away**2).sum(dims, dtype=np.float64) / free) ** 0.5
    return spread
