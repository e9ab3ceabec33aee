"""Nadir BRDF-adjusted reflectance by the c-factor."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from xharmonize.cube.angles.vectors import require_degrees
from xharmonize.cube.blockwise import cut_like, map_blocks
from xharmonize.cube.catalog.angles import ANGLES
from xharmonize.cube.companions import ResultFlag, with_flags
from xharmonize.cube.contract import REFLECTANCE, read_contract, require_contract, with_history
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import geobox_of
from xharmonize.errors import BandError, RadiometryError, RadiometryWarning, warn
from xharmonize.harmonizers import blocks
from xharmonize.harmonizers.angles import VIEW, angles_of
from xharmonize.kernels import brdf
from xharmonize.sensors import Names
from xharmonize.sensors.brdf import C_FACTOR, CITATION
from xharmonize.sensors.spec import Flag
from xharmonize.types import AnyArray, Float64Array

SunZenith: TypeAlias = Literal["hls-v2", "observed"]
STEEPEST_SLOPE = 10.0  # [degree]

_ORBITS = np.array([[98.2, 10 + 11 / 60], [98.62, 10.5]])
# Inclination [degree] and local mean solar time at the descending node [hour] of Landsat-8 and of
# Sentinel-2, as in the HLS v2 code (NASA-IMPACT/hls-sentinel, mean_solarzen).

_STEP, _STEP_DEGREE = 1000.0, 0.01
# Distance of the nodes [m, degree] at which the sun is modelled: good to 0.005 degree.


def nbar(
    cube: blocks.Cube, angles: xr.Dataset | None = None, *, sun_zenith: SunZenith = "hls-v2"
) -> blocks.Cube:
    """Normalise surface reflectance to nadir view by the c-factor; lazy on dask arrays.

    c = BRDF(nadir) / BRDF(observed), with RossThick and LiSparse-R kernels and one set of weights
    per band for all places (Roy et al. 2016).

    Parameters
    ----------
    cube : (time, band, y, x) DataArray or Dataset
        Surface reflectance [1] (encoded cubes are decoded); NaN where missing.
    angles : Dataset, optional
        ``sun_zenith``, ``sun_azimuth``, ``view_zenith``, ``view_azimuth`` [degree], per pixel
        (time, y, x), as `xharmonize.read_angles` reads them, those of the view also per band
        (time, band, y, x); or per item (time), which warns. Without it, coordinates of the cube
        with these names. May hold ``slope`` (y, x) of the ground [degree].
    sun_zenith : {"hls-v2", "observed"}
        Sun zenith the result holds for. ``hls-v2``: mean of the values modelled for the overpasses
        of Landsat and Sentinel-2 at each pixel's place and date in UTC (Li et al. 2019, eq. 4),
        and the observed one beyond the latitudes the orbits reach. HLS takes one value per tile,
        at its centre; per pixel, the result does not depend on the area asked for. ``observed``:
        the view only is normalised.

    Returns
    -------
    DataArray or Dataset
        NBAR [1], level ``NBAR``; NaN also where angles per pixel are NaN. A Dataset with ``qa``
        also gets ``flag``, bit 1 (``out_of_domain``) over snow, water and ground steeper than 10
        degrees, for which the model was not made.

    Raises
    ------
    RadiometryError
        If angles are missing, unknown (NaN) for an item (as the view of Landsat's, whose items say
        where the platform points), or no degrees, or a step is not surface reflectance (TOA, or
        NBAR already).
    BandError
        If a band has no weights.

    Warns
    -----
    RadiometryWarning
        If angles are per item: across a swath the view zenith varies by several degrees.

    References
    ----------
    Roy et al. (2016), doi:10.1016/j.rse.2016.01.023. Zhang et al. (2016),
    doi:10.1109/TGRS.2015.2480684. Li et al. (2019), doi:10.1109/TGRS.2018.2885967.
    """
    cube, angles = at_door(cube), at_door(angles)
    if sun_zenith not in ("hls-v2", "observed"):
        raise RadiometryError(f"sun_zenith={sun_zenith!r} is unknown; 'hls-v2' or 'observed'")
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
    result = blocks.on_cube(cube, partial(_normalize, angles=found, sun_zenith=sun_zenith))
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
        raise RadiometryError(f"item {step.item_id!r} ({step.level}) {reason}")


def _normalize(cube: xr.Dataset, angles: xr.Dataset, sun_zenith: SunZenith) -> xr.Dataset:
    """Normalise reflectance, and scale its uncertainty by the same factor."""
    array = blocks.decoded(cube[REFLECTANCE])
    line = f"nbar: c-factor at sun zenith {sun_zenith} ({CITATION})"
    result = array.copy(data=_corrected(array, array, angles, sun_zenith))
    result = result.assign_attrs(with_history(array.attrs, line))
    result = result.assign_coords(level=("time", np.full(array.sizes["time"], "NBAR")))
    whole = result.to_dataset(name=REFLECTANCE)
    if blocks.UNCERTAINTY not in cube:
        return whole
    sigma = cube[blocks.UNCERTAINTY]
    scaled = sigma.copy(data=_corrected(sigma, array, angles, sun_zenith))
    return whole.assign({blocks.UNCERTAINTY: scaled})


def _corrected(
    values: xr.DataArray, cube: xr.DataArray, angles: xr.Dataset, sun_zenith: SunZenith
) -> Any:
    """Values (time, band, y, x) times the c-factor."""
    names = [str(name) for name in values["band"].values]
    unknown = [name for name in names if name not in C_FACTOR]
    if unknown:
        raise BandError(
            f"no BRDF weights for band {', '.join(unknown)}; there are {', '.join(C_FACTOR)}: "
            "leave the others out with cube.sel(band=[...])"
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
    """Angle as (time, y, x) array, of a view (time, band, y, x); length 1 where it is one value."""
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
    """Check that angles are degrees, which only pixels show, and normalise."""
    sides = (("sun", sun_zenith, sun_azimuth), ("view", view_zenith, view_azimuth))
    for who, zenith, azimuth in sides:
        try:
            require_degrees(zenith, azimuth, f"angles= of the {who}", is_sun=who == "sun")
        except ValueError as error:
            raise RadiometryError(f"{error}; convert them to degrees") from None
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
    # The values say how the axes are cut, where the observed angles are one number per date.
    days, y, x = (cut_like(v, values, [n]) for v, n in ((days, 0), (y, 2), (x, 3)))
    return map_blocks(
        block, "t,y,x,tyx->tyx", days, y, x, observed, dtype=np.float64, name="harmonize-nbar-sun"
    )


def _modelled_block(
    days: Float64Array, y: Float64Array, x: Float64Array, observed: AnyArray, *, crs: str
) -> Float64Array:
    """Modelled sun zenith (time, y, x); the observed one where an orbit does not pass.

    It is modelled at the nodes of a lattice that lies at multiples of `_STEP` in the CRS, whatever
    area is asked for, and interpolated between them.
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
    """Numbers of the lattice nodes around some coordinates."""
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
