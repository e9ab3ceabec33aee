"""Sun and view angles of the time steps of a cube."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.catalog.angles import ANGLES, ATTRIBUTES, angles_of_item
from xharmonize.cube.catalog.items import normalize_item
from xharmonize.cube.catalog.settle import sensing_time
from xharmonize.cube.contract import read_coordinate
from xharmonize.errors import BandError, GridError, RadiometryError, TimeAxisError

VIEW = ("view_zenith", "view_azimuth")
"""Those that differ between the bands of one sensor."""


def angles_from_items(items: Iterable[Any]) -> xr.Dataset:
    """Read the mean angles of STAC items (view extension) as a Dataset along time.

    Parameters
    ----------
    items : iterable of pystac.Item, dict, or anything with a dict as ``item``
        With ``view:sun_elevation``, ``view:sun_azimuth``, ``view:incidence_angle`` and
        ``view:azimuth``. ``view:off_nadir`` stands in for the incidence angle, but not where it
        says where the platform points: in items of Landsat, and where it is 0.

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
        normal = normalize_item({"assets": {}, **content})
        stamp = np.datetime64(sensing_time(normal), "ns")
        rows.append((stamp, normal["id"], angles_of_item(normal)))
    rows.sort(key=lambda entry: entry[:2])
    return xr.Dataset(
        {
            name: ("time", np.array([row[name] for *_, row in rows]), dict(ATTRIBUTES[name]))
            for name in ANGLES
        },
        coords={
            "time": np.array([stamp for stamp, *_ in rows], "datetime64[ns]"),
            "item_id": ("time", np.array([name for _, name, _ in rows], dtype=str)),
        },
    )


def angles_of(cube: xr.DataArray, angles: xr.Dataset | None) -> xr.Dataset:
    """Return the four angles for the time steps of a cube [degree].

    They come from `angles`, or else from the cube's own coordinates of the same names. `angles` is
    matched by ``item_id`` where it has this coordinate, else by time.

    Returns
    -------
    Dataset
        (time) or (time, y, x); those of the view also (time, band, y, x), in the cube's bands.

    Raises
    ------
    RadiometryError
        If angles are missing, are no degrees, or the one of an item is NaN (but for the azimuth at
        nadir).
    TimeAxisError
        If `angles` does not cover a time step.
    BandError
        If angles per band lack a band.
    GridError
        If angles per pixel lie on another grid.
    """
    holder: Any = cube.coords if angles is None else angles
    absent = [name for name in ANGLES if name not in holder]
    if absent:
        raise RadiometryError(
            f"angles {absent} are missing; pass angles=xh.read_angles(items, like=cube), or a "
            f"Dataset with {list(ANGLES)} [degree] along time, or (time, y, x)"
        )
    if angles is None:
        found = xr.Dataset({name: ("time", read_coordinate(cube, name)) for name in ANGLES})
    else:
        found = _at_steps(cube, angles)
    nadir = found["view_zenith"] == 0  # no azimuth there, and none is needed
    found = found.assign(
        view_azimuth=found["view_azimuth"]
        .where(~nadir, 0.0)
        .assign_attrs(found["view_azimuth"].attrs)
    )
    variables = {name: _settled(cube, found[name], name) for name in ANGLES}
    _require_one_band_axis(variables)
    return xr.Dataset(variables)


def _settled(cube: xr.DataArray, array: xr.DataArray, name: str) -> xr.DataArray:
    """One angle, its dimensions, unit and grid checked."""
    unit = str(array.attrs.get("units", "degree")).lower()
    if unit.startswith("rad"):
        raise RadiometryError(f"{name} is in {unit!r}; convert it with np.degrees({name})")
    if {"y", "x"} <= set(array.dims):
        _require_grid(cube, array)
        dims = ("time", "band", "y", "x") if "band" in array.dims else ("time", "y", "x")
        if set(array.dims) != set(dims) or ("band" in dims and name not in VIEW):
            raise _odd_dimensions(name, array)
        array = array.transpose(*dims)
        if "band" in dims:
            array = _of_bands(cube, array, name)
    elif array.dims != ("time",):
        raise _odd_dimensions(name, array)
    elif array.chunks:  # a few numbers per date, needed to put the graph together
        array = array.compute(scheduler="synchronous")
    if array.ndim == 1:
        _require_known(cube, array, name)
    return array.drop_vars([c for c in array.coords if c not in ("time", "band")])


def _odd_dimensions(name: str, array: xr.DataArray) -> RadiometryError:
    return RadiometryError(
        f"{name} has dimensions {array.dims}; (time) or (time, y, x), those of the view also "
        "(time, band, y, x)"
    )


def _of_bands(cube: xr.DataArray, array: xr.DataArray, name: str) -> xr.DataArray:
    names = [str(band) for band in cube["band"].values]
    known = [str(band) for band in array["band"].values] if "band" in array.coords else []
    absent = [band for band in names if band not in known]
    if absent:
        raise BandError(
            f"{name} per band has {known}, and not {absent} of the cube; pass "
            "xh.read_angles(..., like=cube, per_band=True) of this very cube"
        )
    return array.isel(band=[known.index(band) for band in names])


def _require_one_band_axis(variables: dict[str, xr.DataArray]) -> None:
    is_per_band = {"band" in variables[name].dims for name in VIEW}
    if len(is_per_band) > 1:
        raise RadiometryError(
            "one of view_zenith and view_azimuth is per band, the other is not; give both alike"
        )


def _require_known(cube: xr.DataArray, array: xr.DataArray, name: str) -> None:
    """Raise unless every date has its angle: without it, all of its pixels would go missing."""
    lost = np.flatnonzero(~np.isfinite(array.values))
    if lost.size:
        item = str(read_coordinate(cube, "item_id")[lost[0]])
        why = (
            ". A view:off_nadir of 0, and any of Landsat, says where the platform points, not how "
            "pixels are seen: up to 7.5 degrees off across Landsat's swath"
            if name == "view_zenith"
            else ""
        )
        raise RadiometryError(
            f"{name} of item {item!r} is not known ({lost.size} of {array.size} dates){why}; pass "
            "angles=xh.read_angles(items, like=cube) of items with granule metadata or angle "
            "bands, angles= with it, or leave these dates out with cube.isel(time=...)"
        )


def _at_steps(cube: xr.DataArray, angles: xr.Dataset) -> xr.Dataset:
    """Rows of `angles` for the time steps, by item id or by time."""
    keys = [key for key in ("item_id", "time") if key in angles.coords and key in cube.coords]
    names = {key: [str(value) for value in read_coordinate(angles, key)] for key in keys}
    wanted = {key: [str(value) for value in read_coordinate(cube, key)] for key in keys}
    if keys and names == wanted:
        return angles
    for key in keys:
        place = {name: i for i, name in enumerate(names[key])}
        if len(place) == len(names[key]) and set(wanted[key]) <= set(place):
            rows = angles.isel(time=[place[name] for name in wanted[key]])
            return rows.assign_coords(time=cube["time"].values)
    times = set(map(str, angles["time"].values))
    lost = [
        str(i)
        for i, t in zip(read_coordinate(cube, "item_id"), cube["time"].values)
        if str(t) not in times
    ]
    if not lost:
        raise TimeAxisError(
            "angles= has several entries for one time, and no item_id that tells them apart; give "
            "it the cube's: angles.assign_coords(item_id=('time', [...]))"
        )
    raise TimeAxisError(
        f"angles= has no entry for {len(lost)} time steps, the first item {lost[0]!r}"
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
