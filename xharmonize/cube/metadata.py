"""What coordinates and attributes of a cube say of its dates, in the shape of STAC items.

The rules by which items are read then hold for cubes of other libraries too, and stand once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.catalog.identity import check_landsat
from xharmonize.cube.catalog.items import Item
from xharmonize.cube.catalog.level import check_level
from xharmonize.cube.contract import DIMS, read_coordinate
from xharmonize.sensors import Sensor

_CURE = (
    "say what it is with sensor= and level= (level='TOA' for Level 1), or, if that is wrong, "
    "remove it from cube.coords or cube.attrs, or name the dates with item_id="
)


def items_of(cube: xr.DataArray, ids: Sequence[str]) -> list[Item]:
    """Return an item without assets for each date: attributes of the cube, then coordinates.

    Parameters
    ----------
    cube : (time, …) DataArray
        With the coordinates and attributes it came with.
    ids : sequence of str
        Names of the dates.
    """
    common = {str(name).lower(): value for name, value in cube.attrs.items()}
    tables = {
        str(name): np.broadcast_to(read_coordinate(cube, str(name)), len(ids))
        for name, coord in cube.coords.items()
        if name not in DIMS and set(coord.dims) <= {"time"}
    }
    items = []
    for i, name in enumerate(ids):
        own = {key: _plain(values[i]) for key, values in tables.items()}
        properties = {**common, **{key: value for key, value in own.items() if value is not None}}
        collection = str(properties.get("collection", ""))
        items.append({"id": name, "collection": collection, "properties": properties, "assets": {}})
    return items


def check_products(items: Sequence[Item], sensor: Sensor) -> None:
    """Refuse a product that the names or the metadata of a date contradict.

    Raises
    ------
    RadiometryError
        If a date is of another level, another Landsat Collection or another product of HLS.
    """
    for item in items:
        check_landsat(item, sensor, cure=_CURE)
        for name in str(item["id"]).split(";"):  # a step put together of several
            check_level({**item, "id": name}, sensor, cure=_CURE)


def _plain(value: Any) -> Any:
    """A value as JSON has it; None for what stands for none."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if value in (None, "", "None", "nan") or value != value else value
