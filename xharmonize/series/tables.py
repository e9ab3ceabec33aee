"""Series of fields as tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xharmonize._replace import Mode, require_mode, require_new, written_aside
from xharmonize.cube.contract import read_coordinate
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import geobox_of
from xharmonize.errors import GridError, StoreError, TimeAxisError
from xharmonize.series import axis
from xharmonize.series.fields import Field, place_fields, read_polygons
from xharmonize.series.zonal import Coverage, Stat, Zonal, field_statistics
from xharmonize.types import AnyArray

if TYPE_CHECKING:
    import pandas as pd

COMPANION_COLUMNS = ("origin", "flag", "uncertainty")


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
) -> pd.DataFrame:
    """Summarise a series over fields, one row per field, date and band; computes.

    The cube is read once, in its own chunks where fields lie and nowhere else, with the scheduler
    in force; only the table is held.

    Parameters
    ----------
    cube : DataArray or Dataset
        Reflectance (time, band, y, x) [1] or an index (time, y, x); NaN where missing.
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
    pandas.DataFrame
        Sorted by field, time, band; columns ``field``, ``time`` (UTC), ``day`` (solar day),
        ``sensor``, ``platform`` (where the cube says them), ``band`` (where there are bands); the
        quantity by its name [its unit]; ``sd``, standard deviation over the valid pixels; ``n``,
        their number, or summed share; ``n_pixels``, that of all pixels of the field; and, where
        the cube has them, ``origin`` and ``flag``, OR-ed, and ``uncertainty``, the mean, over the
        valid pixels. A field without a pixel in the cube has rows with ``n_pixels`` 0.

    Raises
    ------
    GridError
        If there are no polygons, one is no polygon, empty or beyond its CRS, or the cube lacks
        a CRS or has none in metres where `buffer` needs it.
    TimeAxisError
        If an option is unknown, or there are no dates.
    StoreError
        If `path` ends in something else, or exists (``"w-"``).
    """
    cube = at_door(cube)
    if stat not in ("mean", "median") or coverage not in ("centre", "exact"):
        raise TimeAxisError(
            f"stat={stat!r}, coverage={coverage!r}; choose 'mean' or 'median', and 'centre' or "
            "'exact'"
        )
    if not 0 <= min_valid <= 1:
        raise TimeAxisError(f"min_valid={min_valid}; give a share from 0 to 1")
    write = None if path is None else _writer(Path(path), mode)
    quantity, values = axis.split_quantity(cube, what="to_table")
    if "y" not in values.dims or "x" not in values.dims:
        raise GridError(f"to_table needs dimensions y and x; the cube has {values.dims}")
    grid = geobox_of(values)
    fields = read_polygons(polygons, name=name, crs=crs, target=grid.crs, buffer=buffer)
    has_band = "band" in values.dims
    lead = ["time", "band"] if has_band else ["time"]
    values = values.transpose(*lead, "y", "x")
    companions = {n: axis.companion(cube, n, values) for n in COMPANION_COLUMNS}
    layers = {n: data for n, data in companions.items() if data is not None}
    places = place_fields(fields, grid)
    zonal = Zonal(stat=stat, coverage=coverage, min_valid=min_valid, companions=tuple(layers))
    stack = field_statistics(values.data, list(layers.values()), places, grid, zonal)
    table = _table(stack, values, quantity, fields, zonal)
    if write is not None:
        write(table)
    return table


def _table(
    stack: AnyArray,
    values: xr.DataArray,
    quantity: str,
    fields: list[Field],
    zonal: Zonal,
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
    names = [quantity, "sd", "n", "n_pixels", *zonal.companions]
    for key, layer in zip(names, stack):
        flat = layer.reshape(-1)
        is_count = key in ("n", "n_pixels") and zonal.coverage == "centre"
        if is_count or key in ("origin", "flag"):
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
