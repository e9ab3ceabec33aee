"""Series of fields as tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xharmonize._replace import Mode, require_mode, require_new, written_aside
from xharmonize.cube.companions import COMPANIONS, companions_of, quantities_of
from xharmonize.cube.contract import REFLECTANCE, TIME_COORDS, read_coordinate
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import geobox_of
from xharmonize.cube.results import as_variables, is_date
from xharmonize.errors import GridWarning, OptionError, StoreError, warn
from xharmonize.series import axis
from xharmonize.series.field_table import KEYS, VARIABLES, FieldTable
from xharmonize.series.fields import Field, Place, place_fields, read_polygons
from xharmonize.series.result_table import result_table
from xharmonize.series.zonal import Coverage, Stat, Zonal, field_statistics
from xharmonize.types import AnyArray

if TYPE_CHECKING:
    import pandas as pd

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
) -> FieldTable:
    """Summarise a series or a result over fields, one row per field, date and band; computes.

    The cube is read once, in its own chunks where fields lie and nowhere else, with the scheduler
    in force; only the table is held.

    Parameters
    ----------
    cube : DataArray or Dataset
        Reflectance (time, band, y, x) [1] or an index (time, y, x); NaN where missing. Or a
        result: seasons of `phenology`, the slopes of a fit, several indices; every variable with
        y and x is summed up.
    polygons : object or sequence of objects
        GeoJSON-like mappings (FeatureCollection, Feature, Polygon, MultiPolygon), shapely
        geometries, or anything with ``__geo_interface__``, such as a GeoDataFrame.
    stat : {"mean", "median"}
        Of the valid pixels; the lower of the middle two for an even number, if ``median``.
    min_valid : float
        Least share of a field's pixels that must be valid; below it the value is NaN, and the row
        stays with its counts.
    buffer : float
        Distance [m] by which fields grow; negative, to keep off edges. Needs a CRS in metres.
    coverage : {"centre", "exact"}
        ``centre``: pixels whose centre lies within the field. ``exact``: all pixels it touches,
        each counting by the share of its area within.
    name : str, optional
        Property of the features that names the fields; if None, their ``id``, else their number.
    crs : CRS, str or int, optional
        Of the polygons; if None, what they say (``.crs``), else that of GeoJSON, EPSG:4326.
    path : str or Path, optional
        File to write the table to as well: ``.csv`` or ``.parquet`` (needs pyarrow).
    mode : {"w-", "w"}
        ``"w-"`` refuses a file that is there, ``"w"`` replaces it.

    Returns
    -------
    FieldTable
        A pandas.DataFrame, which ``.to_xarray()`` makes a cube along field and time that goes on
        into `smooth` or `phenology`. Sorted by field, time, band; columns ``field``, ``time``
        (UTC), ``day`` (solar day), ``sensor``, ``platform`` (where the cube says them), ``band``
        (where there are bands); the
        quantity by its name [its unit]; ``sd``, standard deviation over the valid pixels; ``n``,
        their number, or summed share; ``n_pixels``, that of all pixels of the field; and, where
        the cube has them, ``origin`` and ``flag``, OR-ed, and ``uncertainty`` and
        ``valid_fraction``, the mean, over the valid pixels. A field without a pixel in the cube has
        rows with ``n_pixels`` 0.

        Of a result, one row per field and label of the other dimensions (``year``, ``band``); each
        variable by its name, dates as dates (their mean or median, to the day), with ``…_sd`` and
        ``…_n``; flags are OR-ed.

    Warns
    -----
    GridWarning
        If fields are smaller than a pixel, with the share of fields of fewer than 4 pixels.

    Raises
    ------
    GridError
        If there are no polygons, one is no polygon, empty or beyond its CRS, or the cube lacks
        a CRS or has none in metres where `buffer` needs it.
    TimeAxisError
        If a series has no dates.
    RadiometryError
        If the values are digital numbers.
    OptionError
        If `stat`, `coverage` or `min_valid` has a value it cannot have.
    StoreError
        If `path` ends in something else, or exists (``"w-"``).
    """
    cube = at_door(cube)
    if stat not in ("mean", "median") or coverage not in ("centre", "exact"):
        raise OptionError(
            f"stat={stat!r}, coverage={coverage!r}; choose 'mean' or 'median', and 'centre' or "
            "'exact'"
        )
    if not 0 <= min_valid <= 1:
        raise OptionError(f"min_valid={min_valid}; give a share from 0 to 1")
    write = None if path is None else _writer(Path(path), mode)
    variables = as_variables(_with_date(cube), what="to_table")
    grid = geobox_of(variables)
    fields = read_polygons(polygons, name=name, crs=crs, target=grid.crs, buffer=buffer)
    places = place_fields(fields, grid)
    zonal = Zonal(stat=stat, coverage=coverage, min_valid=min_valid)
    if _is_series(variables):
        table = _series_table(variables, fields, places, grid, zonal)
    else:
        table = result_table(variables, fields, places, grid, zonal)
    _warn_of_small_fields(table, places, grid)
    if write is not None:
        write(table)
    return table


def _is_series(cube: xr.Dataset) -> bool:
    """Whether a cube is one quantity along time, with its companions."""
    names = quantities_of(cube)
    is_one = REFLECTANCE in names or len(names) == 1
    return "time" in cube.dims and is_one and not any(is_date(cube[name]) for name in names)


def _with_date(cube: xr.DataArray | xr.Dataset) -> Any:
    """A cube of one selected date as a series of that date."""
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
    """Warn of fields within the cube that are smaller than a pixel."""
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
    """What writes a table to a path, settled before anything is computed."""
    from xharmonize._optional import require

    if path.suffix not in (".csv", ".parquet"):
        raise StoreError(f"{path} ends in {path.suffix!r}; tables are written to .csv or .parquet")
    if path.suffix == ".parquet":
        require("pyarrow", extra="parquet")
    require_mode(mode)
    require_new(path, mode)

    def write(table: Any) -> None:
        with written_aside(path, mode) as new:
            (table.to_csv if path.suffix == ".csv" else table.to_parquet)(new, index=False)

    return write
