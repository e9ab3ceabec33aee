"""Nadir BRDF-adjusted reflectance with the c-factor method, and the angles it needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import cut_like, map_blocks
from xharmonize.cube.companions import ResultFlag, with_flags
from xharmonize.cube.contract import (
    REFLECTANCE,
    read_contract,
    read_coordinate,
    require_contract,
    with_history,
)
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import geobox_of
from xharmonize.errors import (
    BandError,
    GridError,
    RadiometryError,
    RadiometryWarning,
    TimeAxisError,
    warn,
)
from xharmonize.harmonizers import base
from xharmonize.io.stac.items import normalize_item
from xharmonize.io.stac.settle import ANGLES, ATTRIBUTES, angles_of_item, sensing_time
from xharmonize.kernels import brdf
from xharmonize.kernels.brdf import require_degrees
from xharmonize.sensors import Names
from xharmonize.sensors.bandpass import C_FACTOR, CITATION
from xharmonize.sensors.spec import Flag
from xharmonize.types import AnyArray, Float64Array

VIEW = ("view_zenith", "view_azimuth")
"""Angles that differ between the bands of one sensor."""


def angles_from_items(items: Iterable[Any]) -> xr.Dataset:
    """Read the mean angles of STAC items (view extension) as a Dataset along time.

    Parameters
    ----------
    items : iterable of pystac.Item, dict, or anything with a dict as ``item``
        Items with ``view:sun_elevation``, ``view:sun_azimuth``, ``view:incidence_angle`` and
        ``view:azimuth``. ``view:off_nadir`` replaces a missing incidence angle, unless it is the
        pointing of the platform: in Landsat items, and where it is 0.

    Returns
    -------
    Dataset
        ``sun_zenith``, ``sun_azimuth``, ``view_zenith``, ``view_azimuth`` (time) [degree], NaN
        where an item lacks it, with the coordinate ``item_id``; sorted by time.

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

    They come from `angles`, or else from the cube's coordinates of the same names. `angles` is
    matched by ``item_id`` if it has this coordinate, otherwise by time.

    Returns
    -------
    Dataset
        (time) or (time, y, x); view angles also (time, band, y, x), in the cube's bands.

    Raises
    ------
    RadiometryError
        If angles are missing or not in degrees, or the angle of an item is NaN (except the azimuth
        at nadir).
    TimeAxisError
        If `angles` does not cover a time step.
    BandError
        If angles per band lack a band.
    GridError
        If per-pixel angles are on another grid.
    """
    holder: Any = cube.coords if angles is None else angles
    absent = [name for name in ANGLES if name not in holder]
    if absent:
        raise RadiometryError(
            f"angles {absent} are missing",
            cure="pass angles=xh.read_angles(items, like=cube), or a "
            f"Dataset with {list(ANGLES)} [degree] along time, or (time, y, x)",
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
    """One angle, with its dimensions, unit and grid checked."""
    unit = str(array.attrs.get("units", "degree")).lower()
    if unit.startswith("rad"):
        raise RadiometryError(f"{name} is in {unit!r}", cure=f"convert it with np.degrees({name})")
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
        f"{name} has dimensions {array.dims}",
        cure="(time) or (time, y, x), those of the view also (time, band, y, x)",
    )


def _of_bands(cube: xr.DataArray, array: xr.DataArray, name: str) -> xr.DataArray:
    names = [str(band) for band in cube["band"].values]
    known = [str(band) for band in array["band"].values] if "band" in array.coords else []
    absent = [band for band in names if band not in known]
    if absent:
        raise BandError(
            f"{name} per band has {known}, and not {absent} of the cube",
            cure="pass xh.read_angles(..., like=cube, per_band=True) of this very cube",
        )
    return array.isel(band=[known.index(band) for band in names])


def _require_one_band_axis(variables: dict[str, xr.DataArray]) -> None:
    is_per_band = {"band" in variables[name].dims for name in VIEW}
    if len(is_per_band) > 1:
        raise RadiometryError(
            "one of view_zenith and view_azimuth is per band, the other is not",
            cure="give both alike",
        )


def _require_known(cube: xr.DataArray, array: xr.DataArray, name: str) -> None:
    """Raise unless every date has its angle; without it, all its pixels would become missing."""
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
            f"{name} of item {item!r} is not known ({lost.size} of {array.size} dates){why}",
            cure="pass "
            "angles=xh.read_angles(items, like=cube) of items with granule metadata or angle "
            "bands, angles= with it, or leave these dates out with cube.isel(time=...)",
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
            "angles= has several entries for one time, and no item_id that tells them apart",
            cure="give it the cube's: angles.assign_coords(item_id=('time', [...]))",
        )
    raise TimeAxisError(
        f"angles= has no entry for {len(lost)} time steps, the first item {lost[0]!r}"
    )


def _require_grid(cube: xr.DataArray, array: xr.DataArray) -> None:
    for axis in ("y", "x"):
        one, other = cube[axis].values, array[axis].values
        if one.shape != other.shape or not np.allclose(one, other, rtol=0, atol=1e-6 * _step(one)):
            raise GridError(
                f"the angles lie on another grid than the cube (they differ in {axis})",
                cure="regrid them first: xh.regrid(angles, like=cube, method='bilinear')",
            )


def _step(axis: Any) -> float:
    return float(abs(axis[1] - axis[0])) if axis.size > 1 else 1.0


SunZenith: TypeAlias = Literal["hls-v2", "observed"]
STEEPEST_SLOPE = 10.0  # [degree]

_ORBITS = np.array([[98.2, 10 + 11 / 60], [98.62, 10.5]])
# Inclination [degree] and local mean solar time at the descending node [hour] of Landsat-8 and of
# Sentinel-2, as in the HLS v2 code (NASA-IMPACT/hls-sentinel, mean_solarzen).

_STEP, _STEP_DEGREE = 1000.0, 0.01
# Spacing of the nodes [m, degree] at which the sun is modelled: accurate to 0.005 degree.


def nbar(
    cube: base.Cube, angles: xr.Dataset | None = None, *, sun_zenith: SunZenith = "hls-v2"
) -> base.Cube:
    """Normalise surface reflectance to nadir view with the c-factor method, lazily.

    c = BRDF(nadir) / BRDF(observed), with RossThick and LiSparse-R kernels and one global set of
    weights per band (Roy et al. 2016).

    Parameters
    ----------
    cube : (time, band, y, x) DataArray or Dataset
        Surface reflectance [1] (encoded cubes are decoded); NaN where missing.
    angles : Dataset, optional
        ``sun_zenith``, ``sun_azimuth``, ``view_zenith``, ``view_azimuth`` [degree]: per pixel
        (time, y, x), as read by `xharmonize.read_angles`, view angles also per band
        (time, band, y, x); or per item (time), with a warning. By default the cube's coordinates
        with these names. May include ``slope`` (y, x), the slope of the ground [degree].
    sun_zenith : {"hls-v2", "observed"}
        Sun zenith of the result. ``hls-v2``: the mean of the values modelled for the overpasses of
        Landsat and Sentinel-2 at the location of each pixel and the UTC date (Li et al. 2019,
        eq. 4), and the observed value beyond the latitudes of the orbits. HLS uses one value per
        tile, at its centre; per pixel, the result does not depend on the requested area.
        ``observed``: keeps the sun zenith and normalises only the view.

    Returns
    -------
    DataArray or Dataset
        NBAR [1] with level ``NBAR``; also NaN where per-pixel angles are NaN. A Dataset with ``qa``
        also gets ``flag``, with bit 1 (``out_of_domain``) over snow, water and ground steeper than
        10 degrees, for which the model is not intended.

    Raises
    ------
    RadiometryError
        If angles are missing, not in degrees, or unknown (NaN) for an item (such as the view angles
        of Landsat items, which state the pointing of the platform), or a time step is not surface
        reflectance (TOA, or already NBAR).
    BandError
        If a band has no weights.

    Warns
    -----
    RadiometryWarning
        If angles are per item: the view zenith varies by several degrees across a swath.

    References
    ----------
    Roy et al. (2016), doi:10.1016/j.rse.2016.01.023. Zhang et al. (2016),
    doi:10.1109/TGRS.2015.2480684. Li et al. (2019), doi:10.1109/TGRS.2018.2885967.
    """
    cube, angles = at_door(cube), at_door(angles)
    if sun_zenith not in ("hls-v2", "observed"):
        raise RadiometryError(
            "is unknown", cure="'hls-v2' or 'observed'", argument="sun_zenith", value=sun_zenith
        )
    require_contract(cube)
    _require_surface_reflectance(cube)
    array = cube if isinstance(cube, xr.DataArray) else cube[REFLECTANCE]
    found = angles_of(array, angles)
    is_per_item = any(found[name].ndim == 1 for name in ANGLES)
    if is_per_item:
        warn(
            "angles are per item, not per pixel: the c-factor is that of the item's mean geometry",
            RadiometryWarning,
        )
    result = base.on_cube(cube, partial(_normalize, angles=found, sun_zenith=sun_zenith))
    if isinstance(cube, xr.Dataset) and isinstance(result, xr.Dataset) and "qa" in cube:
        slope = angles["slope"] if angles is not None and "slope" in angles else None
        return result.assign(flag=_flag(cube, slope))
    return result


def _require_surface_reflectance(cube: xr.DataArray | xr.Dataset) -> None:
    for step in read_contract(cube):
        if step.level == "SR":
            continue
        reasons = {
            "NBAR": "is normalised already: nbar would be applied twice",
            "TOA": "is top-of-atmosphere reflectance; nbar needs surface reflectance",
        }
        found = [reason for level, reason in reasons.items() if level in Names.of(step.level)]
        reason = (found or ["says no level; settle it with xh.describe(cube, level='SR')"])[0]
        raise RadiometryError(f"({step.level}) {reason}", item=step.item_id)


def _normalize(cube: xr.Dataset, angles: xr.Dataset, sun_zenith: SunZenith) -> xr.Dataset:
    """Normalise reflectance and scale its uncertainty by the same factor."""
    array = base.decoded(cube[REFLECTANCE])
    line = f"nbar: c-factor at sun zenith {sun_zenith} ({CITATION})"
    result = array.copy(data=_corrected(array, array, angles, sun_zenith))
    result = result.assign_attrs(with_history(array.attrs, line))
    result = result.assign_coords(level=("time", np.full(array.sizes["time"], "NBAR")))
    whole = result.to_dataset(name=REFLECTANCE)
    if base.UNCERTAINTY not in cube:
        return whole
    sigma = cube[base.UNCERTAINTY]
    scaled = sigma.copy(data=_corrected(sigma, array, angles, sun_zenith))
    return whole.assign({base.UNCERTAINTY: scaled})


def _corrected(
    values: xr.DataArray, cube: xr.DataArray, angles: xr.Dataset, sun_zenith: SunZenith
) -> Any:
    """Values (time, band, y, x) times the c-factor."""
    names = [str(name) for name in values["band"].values]
    unknown = [name for name in names if name not in C_FACTOR]
    if unknown:
        raise BandError(
            f"no BRDF weights for band {', '.join(unknown)}",
            cure=f"there are {', '.join(C_FACTOR)}: leave the others out with cube.sel(band=[...])",
        )
    weights = np.array([[C_FACTOR[n].iso, C_FACTOR[n].vol, C_FACTOR[n].geo] for n in names])
    fields = [_field(angles[name]) for name in ANGLES]
    letters = ",".join("tbyx" if name in VIEW else "tyx" for name in ANGLES)
    target = fields[0] if sun_zenith == "observed" else _modelled(cube, values.data, fields[0])
    return map_blocks(
        _normalize_block,
        f"tbyx,{letters},tyx,bk->tbyx",
        values.data,
        *fields,
        target,
        weights,
        dtype=np.float32,
        name="harmonize-nbar",
    )


def _field(angle: xr.DataArray) -> Any:
    """Angle as (time, y, x) array, view angles (time, band, y, x); length 1 for a single value."""
    data = angle.values[:, None, None] if angle.ndim == 1 else angle.data
    return data[:, None] if str(angle.name) in VIEW and data.ndim == 3 else data


def _normalize_block(
    values: AnyArray,
    sun_zenith: AnyArray,
    sun_azimuth: AnyArray,
    view_zenith: AnyArray,
    view_azimuth: AnyArray,
    target: AnyArray,
    weights: Float64Array,
) -> AnyArray:
    """Check that angles are in degrees, which requires their values, and normalise."""
    sides = (("sun", sun_zenith, sun_azimuth), ("view", view_zenith, view_azimuth))
    for who, zenith, azimuth in sides:
        try:
            require_degrees(zenith, azimuth, f"angles= of the {who}", is_sun=who == "sun")
        except ValueError as error:
            raise RadiometryError(f"{error}", cure="convert them to degrees") from None
    found: AnyArray = brdf.normalize_view(
        values, sun_zenith, sun_azimuth, view_zenith, view_azimuth, target, weights
    )
    return found


def _modelled(cube: xr.DataArray, values: Any, observed: Any) -> Any:
    """Sun zenith (time, y, x) [degree] at the modelled overpasses, per pixel."""
    geobox = geobox_of(cube)
    y, x = cube["y"].values.astype(float), cube["x"].values.astype(float)
    days = cube["time"].values.astype("datetime64[ns]").astype(np.int64) / 86_400e9
    block = partial(_modelled_block, crs=geobox.crs.to_wkt())
    # The chunks of the axes are those of the values if there is one observed angle per date.
    days, y, x = (cut_like(v, values, [n]) for v, n in ((days, 0), (y, 2), (x, 3)))
    return map_blocks(
        block, "t,y,x,tyx->tyx", days, y, x, observed, dtype=np.float64, name="harmonize-nbar-sun"
    )


def _modelled_block(
    days: Float64Array, y: Float64Array, x: Float64Array, observed: AnyArray, *, crs: str
) -> Float64Array:
    """Modelled sun zenith (time, y, x); the observed one where an orbit does not pass.

    It is modelled at nodes at multiples of `_STEP` in the CRS, whatever the requested area, and
    interpolated between them.
    """
    from pyproj import CRS, Transformer

    system = CRS.from_user_input(crs)
    step = _STEP_DEGREE if system.is_geographic else _STEP
    transformer = Transformer.from_crs(system, "EPSG:4326", always_xy=True)
    node_y, node_x = (_nodes(axis, step) for axis in (y, x))
    longitude, latitude = transformer.transform(*np.meshgrid(node_x * step, node_y * step))
    nodes = brdf.mean_overpass_sun_zenith(days, latitude, longitude, _ORBITS)
    modelled = brdf.interpolate_nodes(nodes, y / step - node_y[0], x / step - node_x[0])
    return np.asarray(np.where(np.isnan(modelled), observed, modelled))


def _nodes(axis: Float64Array, step: float) -> Float64Array:
    """Indices of the nodes around some coordinates."""
    return np.arange(np.floor(axis.min() / step), np.floor(axis.max() / step) + 2)


def _flag(cube: xr.Dataset, slope: xr.DataArray | None) -> xr.DataArray:
    """Companion ``flag``: out of domain over snow, water and steep ground."""
    bits = int(Flag.SNOW | Flag.WATER)
    outside = (cube["qa"] & bits) > 0
    if slope is not None:
        steep = (slope > STEEPEST_SLOPE).transpose("y", "x").drop_vars(list(slope.coords))
        outside = outside | steep
    return with_flags(
        cube.get("flag"), outside.astype(np.uint8) * np.uint8(ResultFlag.OUT_OF_DOMAIN)
    )
