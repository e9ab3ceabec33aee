"""Series and results of fields as tables, which can be converted back to cubes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from xharmonize._progress import computing
from xharmonize._replace import Mode, require_mode, require_new, written_aside
from xharmonize.cube.companions import COMPANIONS, companions_of, quantities_of
from xharmonize.cube.contract import REFLECTANCE, TIME_COORDS, read_coordinate
from xharmonize.cube.door import as_variables, at_door, is_bits, is_date, to_days
from xharmonize.cube.geobox import geobox_of
from xharmonize.cube.polygons import Field, read_polygons
from xharmonize.errors import (
    GridWarning,
    OptionError,
    RadiometryError,
    StoreError,
    TimeAxisError,
    require_fraction,
    warn,
)
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.series import axis
from xharmonize.series.fields import (
    Coverage,
    Place,
    Stat,
    Zonal,
    field_statistics,
    place_fields,
    warn_if_none_meets,
)
from xharmonize.types import AnyArray, Float64Array

if TYPE_CHECKING:
    import pandas as pd


KEYS, VARIABLES = "keys", "variables"
"""Names of a table's attributes: columns that identify a row, and columns that hold values, with
their own attributes."""


class FieldTable(pd.DataFrame):
    """Table with one row per field, date and band, as returned by `xharmonize.series.to_table`."""

    @property
    def _constructor(self) -> type[FieldTable]:
        return FieldTable

    def to_xarray(self) -> xr.Dataset:  # type: ignore[misc]  # final in the stubs, not in pandas
        """Convert the table to a cube without pixels, along ``field``, ``time`` and so on.

        Returns
        -------
        Dataset
            One variable per value column, with `origin`, `flag` and `uncertainty` if the table has
            them; NaN where a row is missing. Other columns become coordinates. ``time`` is UTC, and
            ``day`` the solar day. The result can be passed to `smooth` and `phenology`. A table
            that lacks the columns that identify its rows is converted as by pandas.

        Raises
        ------
        TimeAxisError
            If two rows have the same field and date.
        """
        keys = [str(key) for key in self.attrs.get(KEYS, ())]
        if not keys or not set(keys) <= set(self.columns):
            plain: xr.Dataset = pd.DataFrame(self).to_xarray()
            return plain
        self._require_unique(keys)
        codes, labels = zip(*(_factorized(self[key], is_sorted=key == "time") for key in keys))
        variables = {
            str(name): self._spread(str(name), keys, codes, [len(own) for own in labels])
            for name in self.columns
            if name not in keys
        }
        own = self.attrs.get(VARIABLES, {})
        data = {n: variable for n, variable in variables.items() if n in own}
        coords = {n: variable for n, variable in variables.items() if n not in own}
        coords |= {key: xr.Variable(key, values) for key, values in zip(keys, labels)}
        return xr.Dataset(data, coords=coords)

    def _require_unique(self, keys: list[str]) -> None:
        twice = self.duplicated(keys)
        if twice.any():
            row = self[twice].iloc[0]
            first = ", ".join(f"{key} {row[key]}" for key in keys)
            raise TimeAxisError(
                f"{int(twice.sum())} rows come twice, the first of {first}",
                cure=f"keep one of them, for instance with table.drop_duplicates({keys})",
            )

    def _spread(
        self, name: str, keys: list[str], codes: tuple[AnyArray, ...], shape: list[int]
    ) -> xr.Variable:
        """A column along those keys with which it varies."""
        column = self[name]
        along = [key for key in _DIMS_OF.get(name, keys) if key in keys] or keys
        places = [keys.index(key) for key in along]
        values = np.asarray(column)
        whole = np.full([shape[i] for i in places], _fill(values), values.dtype)
        whole[tuple(codes[i] for i in places)] = values
        return xr.Variable(along, whole, self.attrs.get(VARIABLES, {}).get(name))


_DIMS_OF = {
    "day": ["time"],
    "sensor": ["time"],
    "platform": ["time"],
    "n_pixels": ["field"],
}


def _factorized(column: pd.Series[Any], *, is_sorted: bool) -> tuple[AnyArray, AnyArray]:
    """Index of each value among the distinct ones, and these, in order of appearance."""
    codes, labels = pd.factorize(column, sort=is_sorted)
    values = pd.Index(labels)
    if isinstance(values, pd.DatetimeIndex):
        values = values.tz_convert(None) if values.tz is not None else values
        return codes, values.to_numpy("datetime64[ns]")
    found = values.to_numpy()
    is_text = found.dtype == object and all(isinstance(value, str) for value in found)
    return codes, found.astype(str) if is_text else found


def _fill(values: AnyArray) -> Any:
    """Fill value for a missing row."""
    if values.dtype.kind == "M":
        return np.datetime64("NaT")
    if values.dtype.kind in "iub":
        return 0
    return UNKNOWN if values.dtype == object else np.nan


def result_table(
    cube: xr.Dataset, fields: Sequence[Field], places: Sequence[Place], grid: Any, zonal: Zonal
) -> FieldTable:
    """Summarise every variable of a result; see `xharmonize.series.to_table`."""
    if "is_decoded" in cube.coords and not read_coordinate(cube, "is_decoded").all():
        raise RadiometryError(
            "to_table needs real values, the cube holds digital numbers",
            cure="call cube.harmonize.decode() first",
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
    value: AnyArray = axis.nearest_days(stack[0]) if is_date(array) else stack[0]
    n = stack[2].astype(np.int64) if zonal.coverage == "centre" else stack[2]
    columns = {name: (dims, value), f"{name}_sd": (dims, stack[1]), f"{name}_n": (dims, n)}
    return columns, _first(stack[3])


def _first(counts: Float64Array) -> Float64Array:
    return counts.reshape(len(counts), -1)[:, 0]


def _named(table: pd.DataFrame, cube: xr.Dataset, fields: Sequence[Field]) -> pd.DataFrame:
    """The table with field names, and the days, sensors and platforms of a series."""
    number = table["field"].to_numpy()
    table["field"] = np.array([field.name for field in fields])[number]
    if "time" not in cube.dims:
        return table
    place = pd.Index(cube["time"].values).get_indexer_for(pd.Index(table["time"]))
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


DESCRIBING = ("units", "long_name", "history", "references")
FEW_PIXELS = 4


def to_table(
    cube: xr.DataArray | xr.Dataset,
    polygons: Any,
    *,
    stat: Stat = "mean",
    min_valid: float = 0.5,
    buffer: float = 0.0,
    coverage: Coverage = "centre",
    name: str | None = None,
    crs: Any = None,
    path: str | Path | None = None,
    mode: Mode = "w-",
    progress: bool | None = None,
) -> FieldTable:
    """Compute field statistics of a series or a result: one row per field, date and band; computes.

    The cube is read once, only in the chunks that contain fields, with the active scheduler. Only
    the table is held in memory.

    Parameters
    ----------
    cube : DataArray or Dataset
        Reflectance (time, band, y, x) [1] or an index (time, y, x); NaN where missing. Or a result,
        such as seasons from `phenology`, the slopes of a fit, or several indices; all variables
        with y and x are summarised.
    polygons : object or sequence of objects
        GeoJSON-like mappings (FeatureCollection, Feature, Polygon, MultiPolygon), shapely
        geometries, or anything with ``__geo_interface__``, such as a GeoDataFrame.
    stat : {"mean", "median"}
        Statistic of the valid pixels; ``median`` is the lower of the middle two for an even number.
    min_valid : float
        Minimum fraction [1] of a field's pixels that must be valid. Below it the value is NaN; the
        row is kept with its counts.
    buffer : float
        Distance [m] by which to grow fields, or to shrink them if negative. Needs a CRS in metres.
    coverage : {"centre", "exact"}
        ``centre``: pixels whose centre lies in the field. ``exact``: all pixels that the field
        touches, weighted by the fraction of their area inside it.
    name : str, optional
        Property of the features that names the fields; by default their ``id``, else their number.
    crs : CRS, str or int, optional
        CRS of the polygons; by default their ``.crs``, else that of GeoJSON, EPSG:4326.
    path : str or Path, optional
        File to also write the table to: ``.csv`` or ``.parquet`` (needs pyarrow).
    mode : {"w-", "w"}
        ``"w-"`` fails if the file exists, ``"w"`` replaces it.
    progress : bool, optional
        Whether to draw a bar; by default where it is seen (`xharmonize.set_options`).

    Returns
    -------
    FieldTable
        A pandas.DataFrame sorted by field, time and band. Its ``.to_xarray()`` returns a cube along
        field and time for `smooth` or `phenology`. Columns: ``field``; ``time`` (UTC); ``day``
        (solar day); ``sensor`` and ``platform``, if the cube has them; ``band``, if there are
        bands; the quantity by name, in its unit; ``sd``, standard deviation over the valid pixels;
        ``n``, their number or summed fraction; ``n_pixels``, number of all pixels of the field. If
        the cube has them, also ``origin`` and ``flag``, OR-ed, and ``uncertainty`` and
        ``valid_fraction``, averaged, over the valid pixels. A field without pixels in the cube has
        rows with ``n_pixels`` 0.

        For a result, one row per field and label of the other dimensions (``year``, ``band``). Each
        variable has a column of its name, with ``…_sd`` and ``…_n``; dates stay dates (mean or
        median, to the day), and flags are OR-ed.

    Warns
    -----
    GridWarning
        If fields are smaller than a pixel (with the fraction of fields of fewer than 4 pixels), or
        if no field meets the cube.

    Raises
    ------
    GridError
        If there are no polygons, a geometry is empty, not a polygon or outside its CRS, or the cube
        lacks a CRS, or one in metres if `buffer` needs it.
    TimeAxisError
        If a series has no dates.
    RadiometryError
        If the values are digital numbers.
    OptionError
        If `stat`, `coverage` or `min_valid` has an invalid value.
    StoreError
        If `path` has another suffix, or exists (``"w-"``).
    """
    cube = at_door(cube)
    if stat not in ("mean", "median") or coverage not in ("centre", "exact"):
        raise OptionError(
            f", coverage={coverage!r}",
            cure="choose 'mean' or 'median', and 'centre' or 'exact'",
            argument="stat",
            value=stat,
        )
    require_fraction(min_valid, argument="min_valid")
    write = None if path is None else _writer(Path(path), mode)
    variables = as_variables(_with_date(cube), what="to_table")
    grid = geobox_of(variables)
    fields = read_polygons(polygons, name=name, crs=crs, target=grid.crs, buffer=buffer)
    places = place_fields(fields, grid)
    warn_if_none_meets(fields, places, grid)
    zonal = Zonal(stat=stat, coverage=coverage, min_valid=min_valid)
    make = _series_table if _is_series(variables) else result_table
    with computing("Summarising fields", progress):
        table = make(variables, fields, places, grid, zonal)
    _warn_of_small_fields(table, places, grid)
    if write is not None:
        write(table)
    return table


def _is_series(cube: xr.Dataset) -> bool:
    """Whether a cube has one quantity along time, with its companions."""
    names = quantities_of(cube)
    is_one = REFLECTANCE in names or len(names) == 1
    return "time" in cube.dims and is_one and not any(is_date(cube[name]) for name in names)


def _with_date(cube: xr.DataArray | xr.Dataset) -> Any:
    """Expand a cube of one selected date to a series of that date."""
    if "time" in cube.dims or "time" not in cube.coords:
        return cube
    scalars = {n: ("time", [cube[n].values[()]]) for n in TIME_COORDS if n in cube.coords}
    return cube.expand_dims("time").assign_coords(scalars)


def _series_table(
    cube: xr.Dataset, fields: list[Field], places: list[Place], grid: Any, zonal: Zonal
) -> FieldTable:
    """One row per field, date and band."""
    quantity, values = axis.split_quantity(cube, what="to_table")
    lead = ["time", "band"] if "band" in values.dims else ["time"]
    values = values.transpose(*lead, "y", "x")
    poolings = {n: p for n in companions_of(cube) if (p := COMPANIONS[n].over_pixels) is not None}
    layers = [axis.companion(cube, name, values) for name in poolings]
    zonal = replace(zonal, poolings=tuple(poolings.values()))
    stack = field_statistics(values.data, layers, places, grid, zonal)
    table = FieldTable(_table(stack, values, quantity, fields, zonal, list(poolings)))
    own = {str(k): str(v) for k, v in values.attrs.items() if k in DESCRIBING}
    table.attrs = {KEYS: ["field", *lead], VARIABLES: {quantity: own} | {n: {} for n in poolings}}
    return table


def _warn_of_small_fields(table: FieldTable, places: list[Place], grid: Any) -> None:
    """Warn about fields in the cube that are smaller than a pixel."""
    inside = [place for place in places if place.rows[1] > 0]
    pixel = abs(grid.affine.a * grid.affine.e)
    small = [place for place in inside if place.field.geometry.area < pixel]
    if not small:
        return
    n_pixels = table["n_pixels"].to_numpy().reshape(len(places), -1)[:, 0]
    few = sum(n_pixels[place.number] < FEW_PIXELS for place in inside) / len(inside)
    step, unit = abs(grid.affine.a), "°" if grid.crs.geographic else " m"
    warn(
        f"{len(small)} of {len(inside)} fields are smaller than a pixel of {step:g}{unit}, the "
        f"first is {small[0].field.name!r}; {few:.0%} of the fields have fewer than {FEW_PIXELS} "
        "pixels, and their values are those of their neighbours too: put the cube on a finer "
        "grid, such as that of its sharpest bands, before it is summed up",
        GridWarning,
    )


def _table(
    stack: AnyArray,
    values: xr.DataArray,
    quantity: str,
    fields: list[Field],
    zonal: Zonal,
    companions: list[str],
) -> pd.DataFrame:
    """Long table of the statistics (column, field, time, [band])."""
    import pandas as pd

    order = np.argsort(values["time"].values, kind="stable")
    stack = stack[:, :, order]
    bands = [str(b) for b in values["band"].values] if "band" in values.dims else [""]
    stack = stack.reshape(len(stack), len(fields), order.size, len(bands))
    n_fields, n_times, n_bands = stack.shape[1:]

    def spread(along: AnyArray, position: int) -> AnyArray:
        shape = [1, 1, 1]
        shape[position] = along.size
        whole = np.broadcast_to(along.reshape(shape), (n_fields, n_times, n_bands))
        return whole.reshape(-1)

    columns: dict[str, Any] = {
        "field": spread(np.array([field.name for field in fields]), 0),
        "time": pd.DatetimeIndex(spread(values["time"].values[order], 1)).tz_localize("UTC"),
        "day": spread(axis.days_of(values)[order].astype("datetime64[D]"), 1).astype(
            "datetime64[ns]"
        ),
    }
    for key in (n for n in ("sensor", "platform") if n in values.coords):
        columns[key] = spread(read_coordinate(values, key).astype(str)[order].astype(object), 1)
    if bands != [""]:
        columns["band"] = spread(np.array(bands, object), 2)
    names = [quantity, "sd", "n", "n_pixels", *companions]
    flags = [name for name, pooling in zip(companions, zonal.poolings) if pooling == "or"]
    for key, layer in zip(names, stack):
        flat = layer.reshape(-1)
        is_count = key in ("n", "n_pixels") and zonal.coverage == "centre"
        if is_count or key in flags:
            flat = flat.astype(np.int64)
        columns[key] = flat
    return pd.DataFrame(columns)


def _writer(path: Path, mode: Mode) -> Callable[[Any], None]:
    """Return a function that writes a table to a path, checked before anything is computed."""
    from xharmonize._optional import require

    if path.suffix not in (".csv", ".parquet"):
        raise StoreError(
            f"{path} ends in {path.suffix!r}", cure="tables are written to .csv or .parquet"
        )
    if path.suffix == ".parquet":
        require("pyarrow", extra="parquet")
    require_mode(mode)
    require_new(path, mode)

    def write(table: Any) -> None:
        with written_aside(path, mode) as new:
            (table.to_csv if path.suffix == ".csv" else table.to_parquet)(new, index=False)

    return write
