"""Regrid cubes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from xharmonize.cube.companions import COMPANIONS, blank_missing, companions_of, quantities_of
from xharmonize.cube.contract import (
    REFLECTANCE,
    REQUESTED_BOUNDS,
    plain_numbers,
    read_coordinate,
    with_history,
)
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import (
    centre_of,
    crs_name,
    describe_grid,
    geobox_of,
    is_same_crs,
    is_same_grid,
    read_crs,
    reproject_bounds,
    require_same_grid,
    snap,
    utm_zone,
    write_grid,
)
from xharmonize.cube.orbits import in_pixels, shifts_of
from xharmonize.cube.resample import (
    Aligned,
    Chunks,
    Kind,
    Projected,
    RegridPlan,
    output_chunks,
    resample,
)
from xharmonize.errors import ContractError, GridError, RadiometryError, require_fraction
from xharmonize.kernels.longitude import unwrapped
from xharmonize.kernels.regrid import AxisMap, RegridMethod
from xharmonize.types import AnyArray, Float64Array

__all__ = [
    "RegridMethod",
    "geobox_of",
    "is_same_grid",
    "regrid",
    "regrid_to",
    "require_same_grid",
    "snap",
    "write_grid",
]

Cube = TypeVar("Cube", xr.DataArray, xr.Dataset)

VALID_FRACTION = "valid_fraction"
_STALE_ATTRS = ("transform", "spec", "resolution", "res", "crs", REQUESTED_BOUNDS)


def regrid(
    cube: Cube,
    *,
    like: xr.DataArray | xr.Dataset | GeoBox | None = None,
    crs: Any = None,
    resolution: float | None = None,
    method: RegridMethod = "area",
    min_valid: float = 0.5,
    valid_fraction: bool = False,
    shifts: xr.Dataset | None = None,
    psf: float = 0.0,
) -> Any:
    """Regrid a cube, lazily; the result does not depend on chunks.

    ``area`` is the exact mean of valid source pixels, weighted by the area of their overlap with
    the target pixel, for any pixel sizes and alignments. Between CRSs, the four corners of each
    target pixel are transformed exactly, and the overlap is with the quadrilateral they form.

    Parameters
    ----------
    cube : DataArray or Dataset
        (..., y, x), float, NaN where missing. Integer layers other than flags are refused unless
        ``method="nearest"``. In a Dataset, `qa`, `origin` and `flag` become the bit-wise OR of all
        source pixels that overlap the target pixel (`qa` gets ``fill`` if part of it lies outside
        the source); all other variables are treated like the reflectance.
    like : DataArray, Dataset or GeoBox, optional
        Use exactly this grid and, for a cube, exactly its coordinates.
    crs : CRS, str or int, optional
        Target CRS. Default: that of the cube.
    resolution : float, optional
        Side of a target pixel in units of the CRS. The grid is north up and covers the cube, with
        edges at multiples of the resolution: in UTM at 30 m this is the grid of HLS.
    method : {"area", "nearest", "bilinear"}
        ``nearest`` and ``bilinear`` sample at the centre of the target pixel. A centre on the
        edge between two source pixels belongs to the one of higher row or column.
    min_valid : float
        Minimum valid fraction of a target pixel [1]; below it, the result is NaN. Area outside
        the source is not valid.
    valid_fraction : bool
        Whether to also return the valid fraction [1]; the result is then a Dataset with
        ``valid_fraction`` in the dimensions of the cube, float32.
    shifts : Dataset, optional
        ``shift_x`` and ``shift_y`` [m] along ``time``, as `xharmonize.fit_shifts` gives: how far
        east and north of its place the content of each date lies. It is brought back by the
        weights, so that nothing is resampled twice; dates are found by their time.
    psf : float
        Standard deviation [m] of a Gaussian that blurs the area a target pixel sees, where the
        target's optics are less sharp than its pixels say. Area means only; flags are not blurred.

    Returns
    -------
    DataArray or Dataset
        Same type as `cube`, on the new grid, with dtype, attributes, and time and band coordinates
        kept. Dask chunks cover about the same area as those of `cube`, with at most 4096 pixels
        per side, and never cross chunk borders of `like`, so both can be merged without
        rechunking.

    Raises
    ------
    GridError
        If a grid cannot be read, or the target is given twice, not at all or in the wrong unit.
    RadiometryError
        If digital numbers would be averaged.
    """
    cube = at_door(cube)
    if method not in ("area", "nearest", "bilinear"):
        raise GridError(
            "is unknown",
            cure="choose 'area', 'nearest' or 'bilinear'",
            argument="method",
            value=method,
        )
    source = geobox_of(cube)
    target = _target_of(source, like=like, crs=crs, resolution=resolution)
    step = partial(
        regrid_to,
        method=method,
        min_valid=min_valid,
        valid_fraction=valid_fraction,
        shifts=None if shifts is None else shifts_of(cube, shifts),
        psf=psf,
    )
    if like is None or isinstance(like, GeoBox):
        return step(cube, target)
    result = step(cube, target, within=_chunks_of(like))
    # Reuse its exact coordinates: on alignment, xarray drops pixels that differ in the last digit.
    return result.assign_coords({n: result[n].copy(data=like[n].values) for n in ("y", "x")})


def regrid_to(
    cube: Cube,
    geobox: GeoBox,
    *,
    method: RegridMethod = "area",
    min_valid: float = 0.5,
    valid_fraction: bool = False,
    within: Chunks | None = None,
    shifts: Float64Array | None = None,
    psf: float = 0.0,
) -> Any:
    """Regrid a cube to `geobox`, with chunks that nest in the chunks `within`; see `regrid`.

    Parameters
    ----------
    shifts : (time, 2) float64 array, optional
        Shift east and north of each date [m].
    """
    require_fraction(min_valid, argument="min_valid", error=GridError)
    if geobox.affine.b or geobox.affine.d:
        raise GridError("the target grid is rotated", cure="give one with rows along x")
    source = geobox_of(cube)
    _require_psf(psf, method)
    is_moved = shifts is not None and bool(np.any(shifts))
    if is_same_grid(source, geobox) and not (valid_fraction or is_moved or psf):
        return write_grid(cube, geobox)
    plan = _plan(source, geobox, method=method, min_valid=min_valid, psf=psf)
    if any(a == b for a, b in plan.window((0, geobox.shape[0]), (0, geobox.shape[1]))):
        raise GridError(
            f"the target grid ({describe_grid(geobox)}) does not meet the cube "
            f"({describe_grid(source)})",
            cure="check the coordinates and CRS of both",
        )
    line = f"regrid: {method} to {describe_grid(geobox)}, min_valid {min_valid:g}"
    line += f", psf {psf:g} m" if psf else ""
    line += ", shifted date by date" if is_moved else ""
    step = partial(
        _regrid_array,
        plan=plan,
        geobox=geobox,
        line=line,
        within=within,
        offsets=None if shifts is None or not is_moved else in_pixels(shifts, source),
    )
    if isinstance(cube, xr.DataArray):
        return step(cube, valid_fraction=valid_fraction)
    return _regrid_dataset(cube, step, geobox, valid_fraction=valid_fraction)


def _regrid_dataset(
    cube: xr.Dataset, step: Callable[..., Any], geobox: GeoBox, *, valid_fraction: bool
) -> xr.Dataset:
    """Resample each layer by its own rule."""
    mains, companions = quantities_of(cube), companions_of(cube)
    if valid_fraction and len(mains) != 1:
        raise ContractError(
            "valid_fraction=True needs one quantity", cure=f"the Dataset has {mains}"
        )
    results: dict[Hashable, xr.DataArray] = {}
    for name, array in cube.data_vars.items():
        wanted = valid_fraction and name in mains
        if not {"y", "x"} <= set(array.dims):
            results[name] = array
        elif name != VALID_FRACTION or not valid_fraction:
            found = step(array, valid_fraction=wanted)
            results.update(found.data_vars if wanted else {name: found})
    keep = {n: c for n, c in cube.coords.items() if not {"y", "x"} & set(c.dims)}
    result = xr.Dataset(results, coords=keep, attrs=_kept_attrs(cube.attrs))
    if mains:
        layers = {name: result[name] for name in companions}
        result = result.assign(blank_missing(layers, result[mains[0]]))
    return write_grid(result, geobox)


def _regrid_array(
    cube: xr.DataArray,
    *,
    plan: RegridPlan,
    geobox: GeoBox,
    line: str,
    within: Chunks | None,
    valid_fraction: bool,
    offsets: Float64Array | None,
) -> Any:
    """Resample one array of a cube; a Dataset with the valid fraction where asked for."""
    if not _is_flags(cube) and plan.method != "nearest":
        _require_values(cube, plan.method)
    plain = plain_numbers(cube) if cube.dtype.kind in "iuf" else cube
    array = plain.transpose(..., "y", "x")
    shape = (int(geobox.shape[0]), int(geobox.shape[1]))
    is_integer = not np.issubdtype(array.dtype, np.floating)
    kind: Kind = "bits" if is_integer else "mean"
    if valid_fraction:
        if is_integer:
            raise RadiometryError(
                "valid_fraction needs reflectance", cure="call cube.harmonize.decode() first"
            )
        kind = "mean+fraction"
    data = resample(
        array.data,
        plan,
        shape,
        kind=kind,
        chunks=output_chunks(array.data, shape, plan.steps, within=within),
        outside=_outside(array) if is_integer else None,
        offsets=None if offsets is None else _along(offsets, array),
    )
    attrs = _kept_attrs(cube.attrs)
    if cube.name not in COMPANIONS:
        attrs = with_history(attrs, line)

    def wrap(values: Any, name: Hashable, attrs: dict[str, Any]) -> xr.DataArray:
        coords = {n: c for n, c in cube.coords.items() if not {"y", "x"} & set(c.dims)}
        result = xr.DataArray(values, coords=coords, dims=array.dims, name=name, attrs=attrs)
        return write_grid(result.transpose(*cube.dims), geobox)

    if not valid_fraction:
        return wrap(data, cube.name, attrs)
    name = cube.name or REFLECTANCE
    own = COMPANIONS[VALID_FRACTION]
    fraction = wrap(data[1].astype(own.dtype), own.name, own.attrs)
    return xr.Dataset({name: wrap(data[0], name, attrs), own.name: fraction})


def _along(offsets: Float64Array, array: xr.DataArray) -> Float64Array | None:
    """Offsets of the dates, to be broadcast over an array (..., y, x); None without dates."""
    lead = array.dims[:-2]
    if "time" not in lead:
        return None
    shape = [offsets.shape[0] if dim == "time" else 1 for dim in lead]
    return offsets.reshape(*shape, 2)


def _require_psf(psf: float, method: RegridMethod) -> None:
    if not 0 <= psf < np.inf:
        raise GridError("is no width", cure="give metres, 0 or more", argument="psf", value=psf)
    if psf and method != "area":
        raise GridError(
            "blurs area means only", cure="take method='area'", argument="psf", value=psf
        )


def _is_flags(array: xr.DataArray) -> bool:
    return array.name in COMPANIONS and COMPANIONS[str(array.name)].on_regrid == "or"


def _require_values(cube: xr.DataArray, method: RegridMethod) -> None:
    """Refuse to average digital numbers."""
    decoded = "is_decoded" not in cube.coords or bool(read_coordinate(cube, "is_decoded").all())
    if decoded and np.issubdtype(cube.dtype, np.floating):
        return
    raise RadiometryError(
        f"would average digital numbers ({cube.dtype})",
        cure="call cube.harmonize.decode() first, or take them as they are with method='nearest'",
        argument="method",
        value=method,
    )


def _target_of(source: GeoBox, *, like: Any, crs: Any, resolution: float | None) -> GeoBox:
    """Target grid that the arguments of `regrid` ask for."""
    if like is not None:
        if crs is not None or resolution is not None:
            raise GridError("like= says the whole grid", cure="leave out crs= and resolution=")
        return like if isinstance(like, GeoBox) else geobox_of(like)
    if crs is None and resolution is None:
        raise GridError("regrid needs a target: give like=, or resolution= and crs=")
    target = source.crs if crs is None else read_crs(crs)
    if resolution is None:
        resolution = _kept_resolution(source, target)
    if target.geographic and resolution >= 1:
        raise GridError(
            f"would be degrees in {crs_name(target)}",
            cure="for metres take a "
            f"projected CRS: cube.harmonize.regrid(crs='{utm_zone(source)}', "
            f"resolution={resolution:g})",
            argument="resolution",
            value=resolution,
        )
    return snap(_bounds_in(source, target), resolution, target)


def _kept_resolution(source: GeoBox, target: CRS) -> float:
    """Resolution of the source where it means the same in the target CRS."""
    steps = {abs(source.affine.a), abs(source.affine.e)}
    if source.crs.units != target.units or len(steps) > 1:
        raise GridError(
            f"the cube's pixels ({describe_grid(source)}) tell no resolution in {crs_name(target)}",
            cure="give resolution= in its units",
        )
    return float(steps.pop())


def _bounds_in(source: GeoBox, target: CRS) -> tuple[float, float, float, float]:
    """Bounds of a grid in another CRS, its curved outline followed."""
    box = source.boundingbox
    bounds = (float(box.left), float(box.bottom), float(box.right), float(box.top))
    if is_same_crs(source.crs, target):
        return bounds
    try:
        return reproject_bounds(bounds, source.crs, target)
    except GridError as error:
        raise GridError(
            f"{crs_name(target)} does not cover the cube ({describe_grid(source)}) in one piece",
            cure=f"choose a CRS that does, such as crs='{utm_zone(source)}'",
        ) from error


def _chunks_of(cube: xr.DataArray | xr.Dataset) -> Chunks | None:
    """Chunks of a cube along y and x; None in memory."""
    arrays = [cube] if isinstance(cube, xr.DataArray) else cube.data_vars.values()
    for array in arrays:
        if array.chunks is not None and {"y", "x"} <= set(array.dims):
            return array.variable.chunksizes["y"], array.variable.chunksizes["x"]
    return None


def _plan(
    source: GeoBox, target: GeoBox, *, method: RegridMethod, min_valid: float, psf: float = 0.0
) -> RegridPlan:
    """Choose how to map one grid to the other."""
    if is_same_crs(source.crs, target.crs):
        y, x = axes_between(source, target, psf=psf)
        return Aligned(y=y, x=x, method=method, min_valid=min_valid)
    one, other = source.affine, target.affine
    down, right = _blur(source, psf)
    step_y, step_x = _local_steps(source, target)
    return Projected(
        source_crs=source.crs.to_wkt(),
        target_crs=target.crs.to_wkt(),
        source=(one.a, one.b, one.c, one.d, one.e, one.f),
        target=(other.a, other.b, other.c, other.d, other.e, other.f),
        source_shape=(source.shape[0], source.shape[1]),
        steps=(step_y, step_x),
        method=method,
        min_valid=min_valid,
        sigma=(down, right),
    )


def axes_between(source: GeoBox, target: GeoBox, *, psf: float = 0.0) -> tuple[AxisMap, AxisMap]:
    """How the pixels of a grid lie on those of another in the same CRS, along y and x.

    Parameters
    ----------
    psf : float
        Standard deviation [m] of the Gaussian that blurs the area a target pixel sees.
    """
    one, other = source.affine, target.affine
    down, right = _blur(source, psf)
    y = AxisMap(
        first=(other.f - one.f) / one.e,
        step=other.e / one.e,
        n_source=source.shape[0],
        sigma=down,
    )
    left = other.c + _turns(source, target)
    x = AxisMap(
        first=(left - one.c) / one.a, step=other.a / one.a, n_source=source.shape[1], sigma=right
    )
    return y, x


def _blur(source: GeoBox, psf: float) -> tuple[float, float]:
    """A width [m] along y and x [pixel]."""
    down, right = np.abs(in_pixels(np.array([[psf, psf]]), source)[0]) if psf else (0.0, 0.0)
    return float(down), float(right)


def _turns(source: GeoBox, target: GeoBox) -> float:
    """Degrees, in whole turns, that bring a geographic target next to its source."""
    if not source.crs.geographic:
        return 0.0
    return 360.0 * round((centre_of(source)[0] - centre_of(target)[0]) / 360)


def _local_steps(source: GeoBox, target: GeoBox) -> tuple[float, float]:
    """Size of a target pixel in y and x [source pixel], at the centre of the source."""
    centre_x, centre_y = centre_of(source)
    x = centre_x + np.array([0.0, source.affine.a, 0.0])
    y = centre_y + np.array([0.0, 0.0, source.affine.e])
    u, v = _transformer(source.crs, target.crs).transform(x, y)
    if target.crs.geographic:
        u = unwrapped(u, u[0])
    # One source pixel to the right and one down, in target pixels.
    right = np.hypot((u[1] - u[0]) / target.affine.a, (v[1] - v[0]) / target.affine.e)
    down = np.hypot((u[2] - u[0]) / target.affine.a, (v[2] - v[0]) / target.affine.e)
    if not (np.isfinite([right, down]).all() and right > 0 and down > 0):
        raise GridError(
            f"the cube ({describe_grid(source)}) lies outside the range of {crs_name(target.crs)}"
        )
    return float(1 / down), float(1 / right)


def _transformer(source: CRS, target: CRS) -> Any:
    from pyproj import Transformer

    return Transformer.from_crs(source.to_wkt(), target.to_wkt(), always_xy=True)


def _outside(array: xr.DataArray) -> AnyArray:
    """Value of pixels outside the source, for each image: fill, nodata, or else 0."""
    lead = array.transpose(..., "y", "x").dims[:-2]
    if _is_flags(array):
        return np.array(COMPANIONS[str(array.name)].outside)
    if "nodata" not in array.coords:
        return np.array(int(array.attrs.get("_FillValue", 0)))
    nodata = array["nodata"]
    missing = [dim for dim in lead if dim not in nodata.dims]
    table = nodata.copy(data=read_coordinate(array, "nodata")).expand_dims(missing)
    values: AnyArray = np.asarray(table.transpose(*lead).values)
    return np.nan_to_num(values)


def _kept_attrs(attrs: Any) -> dict[str, Any]:
    """Attributes without those that readers use to describe the old grid."""
    return {name: value for name, value in attrs.items() if name not in _STALE_ATTRS}
