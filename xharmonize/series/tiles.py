"""Whether neighbouring tiles agree where they overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.contract import read_coordinate
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import TOLERANCE, crs_name, geobox_of, is_same_crs
from xharmonize.errors import BandError, GridError, TimeAxisError
from xharmonize.series import axis
from xharmonize.series.means import mean_of_known
from xharmonize.types import AnyArray, IntArray


def compare_tiles(cube: xr.DataArray | xr.Dataset, other: xr.DataArray | xr.Dataset) -> xr.Dataset:
    """Measure the difference of two cubes where they overlap, date by date, lazily.

    Two tiles of one day see the same ground from the same place: what differs after harmonising
    is what the harmoniser made of two surroundings. Compare before and after to judge it, whatever
    the harmoniser.

    Parameters
    ----------
    cube, other : DataArray or Dataset
        Reflectance [1] or one index, with the same bands, on grids of the same CRS, step and
        phase; NaN where missing. Dates are matched by solar day, and by sensor where both say it;
        several looks of one day and sensor are paired in the order of their times.

    Returns
    -------
    Dataset
        Along ``time`` (the dates of `cube` that both have) and `band`, where there are bands,
        over pixels valid in both: `n`; `bias`, mean of `cube` minus `other`; `mae`; `rmse`;
        `largest`, the largest absolute difference; all in the unit of the values, NaN where
        ``n`` is 0. Attribute ``overlap``: its size in pixels (rows, columns).

    Raises
    ------
    GridError
        If the grids do not fit, or do not overlap.
    BandError
        If the bands differ.
    TimeAxisError
        If no date is in both.
    """
    cube, other = at_door(cube), at_door(other)
    _, one = axis.split_quantity(cube, what="compare_tiles")
    _, two = axis.split_quantity(other, what="compare_tiles")
    first, second = _overlap(one, two)
    first, second = _same_bands(first, second)
    dates = _matched(one, two)
    a = first.isel(time=[i for i, _ in dates])
    b = second.isel(time=[j for _, j in dates])
    b = b.transpose(*a.dims)
    # Variables: the coordinates of the two need not be equal to the last bit.
    difference = a.copy(data=(a.variable - b.variable.astype(a.dtype)).data)
    return _statistics(difference)


def _overlap(one: xr.DataArray, two: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Cut both to the pixels they share."""
    boxes = [geobox_of(array) for array in (one, two)]
    if not is_same_crs(boxes[0].crs, boxes[1].crs):
        raise GridError(
            f"the tiles are in {crs_name(boxes[0].crs)} and {crs_name(boxes[1].crs)}; put one on "
            "the other's grid with cube.harmonize.regrid(crs=...)"
        )
    inverse = ~boxes[0].affine
    columns, rows = inverse * (boxes[1].affine.c, boxes[1].affine.f)
    steps = [(box.affine.a, box.affine.e) for box in boxes]
    is_same_step = np.allclose(steps[0], steps[1], rtol=1e-9)
    shift = (round(rows), round(columns))
    if not is_same_step or max(abs(rows - shift[0]), abs(columns - shift[1])) > TOLERANCE:
        raise GridError(
            f"the tiles lie on different grids (steps {steps[0]} and {steps[1]}, "
            f"{rows:.2f} rows and {columns:.2f} columns apart); put one on the other's lattice "
            "with cube.harmonize.regrid"
        )
    cut: list[dict[str, slice]] = [{}, {}]
    for dim, offset in zip(("y", "x"), shift):
        low = max(0, offset)
        high = min(one.sizes[dim], offset + two.sizes[dim])
        if low >= high:
            raise GridError(
                f"the tiles do not overlap in {dim}; compare neighbours that share pixels"
            )
        cut[0][dim], cut[1][dim] = slice(low, high), slice(low - offset, high - offset)
    return one.isel(cut[0]), two.isel(cut[1])


def _same_bands(one: xr.DataArray, two: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    if ("band" in one.dims) != ("band" in two.dims):
        raise BandError("one cube has bands and the other has not; compare the same quantity")
    if "band" not in one.dims:
        return one, two
    names = [[str(band) for band in array["band"].values] for array in (one, two)]
    if set(names[0]) != set(names[1]):
        raise BandError(f"the cubes have bands {names[0]} and {names[1]}; select the common ones")
    return one, two.isel(band=[names[1].index(band) for band in names[0]])


def _matched(one: xr.DataArray, two: xr.DataArray) -> list[tuple[int, int]]:
    """Positions of the dates in both, by day and sensor."""
    keys = [
        _keys(array, by_sensor="sensor" in one.coords and "sensor" in two.coords)
        for array in (one, two)
    ]
    place = {key: j for j, key in enumerate(keys[1])}
    found = [(i, place[key]) for i, key in enumerate(keys[0]) if key in place]
    if not found:
        raise TimeAxisError(
            "the cubes have no solar day (of the same sensor) in common; compare tiles of one pass"
        )
    return found


def _keys(array: xr.DataArray, *, by_sensor: bool) -> list[tuple[int, str, int]]:
    """Day, sensor, and which look of them, for each date."""
    days: IntArray = axis.days_of(array)
    sensors: AnyArray = np.full(days.size, "")
    if by_sensor:
        sensors = read_coordinate(array, "sensor").astype(str)
    keys: list[Any] = [None] * days.size
    seen: dict[tuple[int, str], int] = {}
    for i in np.argsort(array["time"].values, kind="stable").tolist():
        key = (int(days[i]), str(sensors[i]))
        seen[key] = seen.get(key, -1) + 1
        keys[i] = (*key, seen[key])
    return keys


def _statistics(difference: xr.DataArray) -> xr.Dataset:
    place = ["y", "x"]
    units = {"units": str(difference.attrs.get("units", "1"))}
    size: xr.DataArray = abs(difference)
    result = xr.Dataset(
        {
            "n": difference.notnull().sum(place),
            "bias": mean_of_known(difference, place).assign_attrs(units),
            "mae": mean_of_known(size, place).assign_attrs(units),
            "rmse": (mean_of_known(difference.astype(np.float64) ** 2, place) ** 0.5).assign_attrs(
                units
            ),
            "largest": _largest(size, place).assign_attrs(units),
        }
    )
    return result.assign_attrs(overlap=[difference.sizes["y"], difference.sizes["x"]])


def _largest(size: xr.DataArray, dims: list[str]) -> xr.DataArray:
    """Largest known value; NaN where none is (nanmax would warn)."""
    top = size.fillna(-1).max(dims)
    return top.where(top >= 0)
