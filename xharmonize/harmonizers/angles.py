"""Sun and view angles of the time steps of a cube."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.catalog.angles import ANGLES, angles_of_item
from xharmonize.cube.contract import read_coordinate
from xharmonize.errors import GridError, RadiometryError, TimeAxisError


def angles_from_items(items: Iterable[Any]) -> xr.Dataset:
    """Read the mean angles of STAC items (view extension) as a Dataset along time.

    Parameters
    ----------
    items : iterable of pystac.Item, dict, or anything with a dict as ``item``
        With ``view:sun_elevation``, ``view:sun_azimuth``, ``view:incidence_angle`` (or else
        ``view:off_nadir``) and ``view:azimuth``.

    Returns
    -------
    Dataset
        ``sun_zenith``, ``sun_azimuth``, ``view_zenith``, ``view_azimuth`` (time) [degree], NaN
        where an item does not say, with the coordinate ``item_id``; sorted by time.

    Examples
    --------
    >>> properties = {"datetime": "2018-07-01T10:50:00Z", "view:sun_elevation": 58.0}
    >>> angles = angles_from_items([{"id": "one", "properties": properties}])
    >>> float(angles["sun_zenith"][0]), float(angles["view_zenith"][0])
    (32.0, nan)
    """
    rows = []
    for item in items:
        content = getattr(item, "item", item)
        content = content if isinstance(content, Mapping) else content.to_dict()
        properties = content["properties"]
        row = angles_of_item(properties)
        stamp = np.datetime64(str(properties["datetime"]).removesuffix("Z").split("+")[0], "ns")
        rows.append((stamp, str(content["id"]), row))
    rows.sort(key=lambda entry: entry[:2])
    return xr.Dataset(
        {
            name: ("time", np.array([row[name] for *_, row in rows]), {"units": "degree"})
            for name in ANGLES
        },
        coords={
            "time": np.array([stamp for stamp, *_ in rows], "datetime64[ns]"),
            "item_id": ("time", np.array([name for _, name, _ in rows], dtype=str)),
        },
    )


def angles_of(cube: xr.DataArray, angles: xr.Dataset | None) -> xr.Dataset:
    """Return the four angles for the time steps of a cube, (time) or (time, y, x) [degree].

    They come from `angles`, or else from the cube's own coordinates of the same names. `angles` is
    matched by ``item_id`` where it has this coordinate, else by time.

    Raises
    ------
    RadiometryError
        If angles are missing, or the one of an item is NaN (but for the azimuth at nadir).
    TimeAxisError
        If `angles` does not cover a time step.
    GridError
        If angles per pixel lie on another grid.
    """
    holder: Any = cube.coords if angles is None else angles
    absent = [name for name in ANGLES if name not in holder]
    if absent:
        raise RadiometryError(
            f"angles {absent} are missing; pass angles= with {list(ANGLES)} [degree] along time, "
            "or (time, y, x)"
        )
    if angles is None:
        found = xr.Dataset({name: ("time", read_coordinate(cube, name)) for name in ANGLES})
    else:
        found = _at_steps(cube, angles)
    nadir = found["view_zenith"] == 0  # no azimuth there, and none is needed
    found = found.assign(view_azimuth=found["view_azimuth"].where(~nadir, 0.0))
    variables = {}
    for name in ANGLES:
        array = found[name]
        if {"y", "x"} <= set(array.dims):
            _require_grid(cube, array)
            array = array.transpose("time", "y", "x")
        elif array.dims != ("time",):
            raise RadiometryError(f"{name} has dimensions {array.dims}; (time) or (time, y, x)")
        elif array.chunks:  # a few numbers per date, needed to put the graph together
            array = array.compute(scheduler="synchronous")
        if array.ndim == 1:
            _require_known(cube, array, name)
        variables[name] = array.drop_vars([c for c in array.coords if c != "time"])
    return xr.Dataset(variables)


def _require_known(cube: xr.DataArray, array: xr.DataArray, name: str) -> None:
    """Raise unless every date has its angle: without it, all of its pixels would go missing."""
    lost = np.flatnonzero(~np.isfinite(array.values))
    if lost.size:
        item = str(read_coordinate(cube, "item_id")[lost[0]])
        raise RadiometryError(
            f"{name} of item {item!r} is not known ({lost.size} of {array.size} dates); pass "
            "angles= with it, or leave these dates out with cube.isel(time=...)"
        )


def _at_steps(cube: xr.DataArray, angles: xr.Dataset) -> xr.Dataset:
    """Rows of `angles` for the time steps, by item id or by time."""
    for key in ("item_id", "time"):
        if key in angles.coords and key in cube.coords:
            place = {str(value): i for i, value in enumerate(read_coordinate(angles, key))}
            wanted = [str(value) for value in read_coordinate(cube, key)]
            if set(wanted) <= set(place):
                rows = angles.isel(time=[place[name] for name in wanted])
                return rows.assign_coords(time=cube["time"].values)
    times = set(map(str, angles["time"].values))
    lost = [
        i
        for i, t in zip(read_coordinate(cube, "item_id"), cube["time"].values)
        if str(t) not in times
    ]
    raise TimeAxisError(
        f"angles= has no entry for {len(lost)} time steps, the first item {str(lost[0])!r}"
    )


def _require_grid(cube: xr.DataArray, array: xr.DataArray) -> None:
    for axis in ("y", "x"):
        one, other = cube[axis].values, array[axis].values
        if one.shape != other.shape or not np.allclose(one, other, rtol=0, atol=1e-6 * _step(one)):
            raise GridError(
                f"the angles lie on another grid than the cube (they differ in {axis}); "
                "regrid them first: xh.regrid(angles, like=cube, how='bilinear')"
            )


def _step(axis: Any) -> float:
    return float(abs(axis[1] - axis[0])) if axis.size > 1 else 1.0
