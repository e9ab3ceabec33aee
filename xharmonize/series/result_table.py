"""Results of fields as tables: seasons, fits, several indices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xharmonize.cube.contract import read_coordinate
from xharmonize.cube.results import is_bits, is_date, to_days
from xharmonize.errors import RadiometryError
from xharmonize.series import axis
from xharmonize.series.field_table import KEYS, VARIABLES, FieldTable
from xharmonize.series.fields import Field, Place
from xharmonize.series.zonal import Zonal, field_statistics
from xharmonize.types import AnyArray, Float64Array


def result_table(
    cube: xr.Dataset, fields: Sequence[Field], places: Sequence[Place], grid: Any, zonal: Zonal
) -> FieldTable:
    """Summarise every variable of a result; see `xharmonize.to_table`."""
    if "is_decoded" in cube.coords and not read_coordinate(cube, "is_decoded").all():
        raise RadiometryError(
            "to_table needs real values, the cube holds digital numbers; call "
            "cube.harmonize.decode() first"
        )
    if "time" in cube.dims:
        axis.require_dates(cube, what="to_table")
        cube = cube.isel(time=np.argsort(cube["time"].values, kind="stable"))
    found: dict[str, Any] = {}
    n_pixels = np.zeros(len(fields))
    for name, array in cube.data_vars.items():
        columns, n_pixels = _columns(str(name), array, places, grid, zonal)
        found |= columns
    lead = [str(d) for d in cube.dims if d not in ("y", "x")]
    labels = {d: cube[d].values if d in cube.coords else np.arange(cube.sizes[d]) for d in lead}
    whole = xr.Dataset(found, coords=labels)
    table = whole.to_dataframe(dim_order=["field", *lead]).reset_index()
    table = FieldTable(_named(table, cube, fields))
    count = n_pixels if zonal.coverage == "exact" else n_pixels.astype(np.int64)
    table["n_pixels"] = np.repeat(count, len(table) // len(fields))
    table.attrs = {KEYS: ["field", *lead], VARIABLES: _described(cube)}
    return table


def _columns(
    name: str, array: xr.DataArray, places: Sequence[Place], grid: Any, zonal: Zonal
) -> tuple[dict[str, Any], Float64Array]:
    """Columns of one variable (field, ...), and the number of pixels of each field."""
    lead = [d for d in array.dims if d not in ("y", "x")]
    array = array.transpose(*lead, "y", "x")
    dims = ("field", *lead)
    if is_bits(array):
        ones = xr.ones_like(array, dtype=np.float32).data
        flags = replace(zonal, poolings=("or",))
        stack = field_statistics(ones, [array.data], places, grid, flags)
        return {name: (dims, stack[4].astype(np.int64))}, _first(stack[3])
    numbers = to_days(array).astype(np.float64)
    stack = field_statistics(numbers.data, [], places, grid, zonal)
    value: AnyArray = _to_dates(stack[0]) if is_date(array) else stack[0]
    n = stack[2].astype(np.int64) if zonal.coverage == "centre" else stack[2]
    columns = {name: (dims, value), f"{name}_sd": (dims, stack[1]), f"{name}_n": (dims, n)}
    return columns, _first(stack[3])


def _first(counts: Float64Array) -> Float64Array:
    return counts.reshape(len(counts), -1)[:, 0]


def _to_dates(days: Float64Array) -> AnyArray:
    known = np.isfinite(days)
    whole = np.rint(np.where(known, days, 0)).astype(np.int64).astype("datetime64[D]")
    return np.where(known, whole.astype("datetime64[ns]"), np.datetime64("NaT", "ns"))


def _named(table: pd.DataFrame, cube: xr.Dataset, fields: Sequence[Field]) -> pd.DataFrame:
    """The table with the names of fields, and what a series says of its dates."""
    number = table["field"].to_numpy()
    table["field"] = np.array([field.name for field in fields])[number]
    if "time" not in cube.dims:
        return table
    place = pd.Index(cube["time"].values).get_indexer_for(table["time"])
    days = axis.days_of(cube).astype("datetime64[D]").astype("datetime64[ns]")
    table.insert(2, "day", days[place])
    for k, name in enumerate(n for n in ("sensor", "platform") if n in cube.coords):
        values = np.broadcast_to(read_coordinate(cube, name).astype(str), len(days))
        table.insert(3 + k, name, values[place].astype(object))
    table["time"] = table["time"].dt.tz_localize("UTC")
    return table


def _described(cube: xr.Dataset) -> dict[str, dict[str, str]]:
    named = ("units", "long_name")
    return {
        str(name): {k: str(array.attrs[k]) for k in named if k in array.attrs}
        for name, array in cube.data_vars.items()
    }
