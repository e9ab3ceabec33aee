"""Whether tables are what they are taken for."""

from __future__ import annotations

from typing import Any

import xarray as xr

from xharmonize.errors import ModelError


def require_tables(tables: Any, digest: str | None = None) -> None:
    """Raise `ModelError` unless these are tables of `fit_tables`, of the model of that digest."""
    if not isinstance(tables, xr.Dataset) or tables.attrs.get("model") != "tables":
        raise ModelError(
            "tables= is no Dataset of fit_tables; make one: xh.fit_tables(cube, model)"
        )
    if digest is not None and tables.attrs.get("predictor_digest") != digest:
        raise ModelError(
            f"the tables were made by another model ({tables.attrs.get('predictor')!r}, or another "
            "version of it); make them anew: xh.fit_tables(cube, model)"
        )


def require_self_sufficient(tables: xr.Dataset) -> None:
    """Raise `ModelError` where a network's convolution has to follow the tables."""
    if tables.attrs.get("is_refined"):
        raise ModelError(
            f"after these tables {tables.attrs['predictor']!r} runs a 3x3 convolution; pass the "
            "model too: to_landsat(model, tables=tables)"
        )
