"""What all harmonisers share: blockwise maps, steps to change, the contract of the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import dask.array as da
import numpy as np
import xarray as xr

from xharmonize.cube.contract import (
    REFLECTANCE,
    Step,
    on_reflectance,
    read_contract,
    read_coordinate,
    require_contract,
    select_bands,
    spread_over,
    with_history,
)
from xharmonize.cube.encode import ENCODING_ATTRS, decode, require_encoded
from xharmonize.errors import BandError, RadiometryError
from xharmonize.harmonizers.companions import carry_companions
from xharmonize.kernels.radiometry import affine
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.types import AnyArray, Float64Array

Cube = TypeVar("Cube", xr.DataArray, xr.Dataset)
UNCERTAINTY = "uncertainty"


@dataclass(frozen=True, kw_only=True)
class Target:
    """What the result of a harmoniser is.

    Attributes
    ----------
    bandpass : str
        Spectral response family of the result.
    bands : tuple of str
        Common names of the bands of the result.
    sources : tuple of str
        For each of `bands`, the band of the cube it is made from (mostly).
    history : str
        Line for the ``history`` attribute.
    """

    bandpass: str
    bands: tuple[str, ...]
    sources: tuple[str, ...]
    history: str


def map_blocks(
    function: Callable[..., AnyArray],
    values: Any,
    dims: str,
    *tables: tuple[Any, str],
    out: str = "tbyx",
    name: str,
    new: Mapping[str, int] | None = None,
) -> Any:
    """Apply a kernel to an array and small tables, eagerly to numpy and blockwise to dask.

    Parameters
    ----------
    function : callable
        ``function(values, *tables)`` of numpy arrays; float32 out.
    values : (dims) array
        Numpy or dask.
    dims : str
        One letter per dimension of `values`. Those not in `out` are gathered into one chunk.
    *tables : (array, str)
        Further arrays and their dimensions; chunked like `values` where they share a dimension.
    out : str
        Dimensions of the result.
    name : str
        Prefix of the names of dask tasks.
    new : mapping of str to int, optional
        Length of dimensions of the result that no argument has.
    """
    if not isinstance(values, da.Array):
        return function(values, *(np.asarray(table) for table, _ in tables))
    values = values.rechunk({i: -1 for i, dim in enumerate(dims) if dim not in out})
    chunks = dict(zip(dims, values.chunks))
    arguments: list[Any] = [values, dims]
    for table, letters in tables:
        like = tuple(
            chunks[d] if d in out and d in chunks and size == sum(chunks[d]) else -1
            for d, size in zip(letters, np.shape(table))
        )
        is_dask = isinstance(table, da.Array)
        arguments += [table.rechunk(like) if is_dask else da.from_array(table, like), letters]
    return da.blockwise(
        function,
        out,
        *arguments,
        new_axes=dict(new or {}),
        concatenate=True,
        dtype=np.float32,
        meta=np.empty((0,) * len(out), np.float32),
        token=name,
    )


def decoded(reflectance: xr.DataArray) -> xr.DataArray:
    """Return the cube as float reflectance, decoding it where it holds digital numbers."""
    require_contract(reflectance)
    is_float = np.issubdtype(reflectance.dtype, np.floating)
    if bool(read_coordinate(reflectance, "is_decoded").all()) and is_float:
        return reflectance
    return decode(reflectance)


def apply_lines(
    array: xr.DataArray, slope: Float64Array, offset: Float64Array, target: Target
) -> xr.DataArray:
    """Apply one line per (time, band); digital numbers are decoded in the same pass.

    Parameters
    ----------
    array : (time, band, y, x) DataArray
        Reflectance [1], or digital numbers with their contract.
    slope, offset : (time, band) float64 array
        For the bands ``target.sources``.
    """
    array = array.transpose("time", "band", "y", "x")
    chosen = select_bands(array, target.sources)
    nodata = np.full(slope.shape, np.nan)
    is_raw = ~read_coordinate(chosen, "is_decoded")
    if is_raw.any() or not np.issubdtype(chosen.dtype, np.floating):
        require_encoded(chosen)
        scale, shift, missing = (
            read_coordinate(chosen, name) for name in ("scale", "offset", "nodata")
        )
        offset = offset + np.where(is_raw, slope * shift, 0.0)
        slope = slope * np.where(is_raw, scale, 1.0)
        nodata = np.where(is_raw, missing, np.nan)
    data = map_blocks(
        _affine,
        chosen.data,
        "tbyx",
        (slope, "tb"),
        (offset, "tb"),
        (nodata, "tb"),
        name="harmonize-linear",
    )
    return rebuild(array, data, target)


def _affine(
    values: AnyArray, slope: Float64Array, offset: Float64Array, nodata: Float64Array
) -> AnyArray:
    return affine(values, slope, offset, nodata=nodata)


def rebuild(template: xr.DataArray, data: Any, target: Target) -> xr.DataArray:
    """Wrap the pixels of a result with the coordinates and the contract that now hold.

    Parameters
    ----------
    template : (time, band, y, x) DataArray
        The cube before.
    data : (time, band, y, x) array
        Reflectance [1] in the bands of `target`.
    """
    present = [str(name) for name in template["band"].values]
    position = [present.index(name) if name in present else 0 for name in target.sources]
    result = template.isel(band=position).copy(data=data)
    stale = [n for n, c in result.coords.items() if c.dims == ("band",) and n != "band"]
    result = result.drop_vars(stale).assign_coords(band=list(target.bands))
    coords: dict[str, Any] = {
        "bandpass": ("time", np.full(result.sizes["time"], target.bandpass)),
        "is_decoded": (("time", "band"), np.ones(result.shape[:2], bool)),
    }
    is_new = np.array([name not in present for name in target.sources])
    for name, value in (("scale", 1.0), ("offset", 0.0), ("nodata", np.nan)):
        coords[name] = (("time", "band"), np.where(is_new, value, read_coordinate(result, name)))
    kept = {name: value for name, value in result.attrs.items() if name not in ENCODING_ATTRS}
    result.attrs = with_history(kept, target.history)
    result.encoding = {}
    return result.assign_coords(coords)


def foreign_steps(
    cube: xr.DataArray,
    *,
    source_bandpass: str,
    target_bandpass: str,
    name: str,
    source_sensor: str = "",
) -> list[bool]:
    """Tell for each time step whether it has to be changed (False: it is the target's already).

    Where source and target share their bandpass (HLS S30 and L30), the sensor tells.

    Raises
    ------
    RadiometryError
        If a step is in a third bandpass, or in an unknown one.
    """
    is_by_sensor = source_bandpass == target_bandpass and bool(source_sensor)
    result = []
    for step in read_contract(cube):
        if step.bandpass == UNKNOWN:
            raise RadiometryError(
                f"item {step.item_id!r}: its bandpass is unknown; settle it with "
                "xh.describe(cube, sensor=..., platform=...)"
            )
        if source_bandpass and step.bandpass not in (source_bandpass, target_bandpass):
            raise RadiometryError(
                f"model {name!r} goes from {source_bandpass} to {target_bandpass}, item "
                f"{step.item_id!r} is in {step.bandpass}; leave it out, or choose another model"
                f"{' (roy-2016 takes etm+)' if step.bandpass == 'etm+' else ''}"
            )
        differs = step.bandpass != target_bandpass
        result.append(step.sensor in source_sensor.split("/") if is_by_sensor else differs)
    return result


def foreign_to_fit(cube: xr.DataArray, fit: xr.Dataset, name: str) -> list[bool]:
    """Tell for each time step whether a fit has to change it; see `foreign_steps`."""
    return foreign_steps(
        cube,
        source_bandpass=str(fit.attrs.get("source_bandpass", "")),
        target_bandpass=str(fit.attrs["target_bandpass"]),
        source_sensor=str(fit.attrs.get("source_sensor", "")),
        name=name,
    )


def change_steps(
    cube: xr.DataArray,
    is_foreign: Sequence[bool],
    change: Callable[[xr.DataArray], xr.DataArray],
    *,
    takes_encoded: bool = False,
    keep: Callable[[xr.DataArray, xr.DataArray], xr.DataArray] | None = None,
) -> xr.DataArray:
    """Apply `change` to some time steps and merge them with the others, in the order they had.

    `change` is given reflectance, or the cube as it is where it `takes_encoded`;
    ``keep(others, changed)`` is what becomes of the others, by default nothing.
    """
    given = cube if takes_encoded else decoded(cube)
    if not any(is_foreign):
        return decoded(cube)
    if all(is_foreign):
        return change(given)
    cube = decoded(cube)
    chosen = np.flatnonzero(is_foreign)
    kept = np.flatnonzero(~np.asarray(is_foreign))
    changed = change(given.isel(time=chosen))
    absent = sorted(set(map(str, changed["band"].values)) - set(map(str, cube["band"].values)))
    if absent:
        raise BandError(
            f"steps that are in the target's bandpass already have no band {', '.join(absent)}; "
            "harmonise the other steps by themselves and merge with densify"
        )
    rest = cube.isel(time=kept).sel(band=changed["band"].values)
    if keep is not None:
        rest = keep(rest, changed)
    rest = rest.drop_vars(set(rest.coords) - set(changed.coords))
    merged = xr.concat(
        [changed, rest],
        dim="time",
        coords="different",
        compat="equals",
        join="override",
        combine_attrs="override",
    )
    return merged.isel(time=np.argsort(np.concatenate([chosen, kept]), kind="stable"))


def on_cube(
    cube: Cube,
    reflectance: Callable[[xr.DataArray], xr.DataArray],
    uncertainty: Callable[[xr.DataArray, xr.DataArray], xr.DataArray] | None,
    sources: Mapping[str, str] | None = None,
) -> Cube:
    """Apply a harmoniser to a cube or a Dataset, and carry its companions.

    Parameters
    ----------
    reflectance : callable
        Maps the reflectance.
    uncertainty : callable or None
        ``uncertainty(sigma, reflectance)`` maps the ``uncertainty`` companion (one standard
        deviation [1]) by first-order propagation; None: the companion is left out.
    sources : mapping of str to str, optional
        The source band of each target band of another name.
    """
    result = on_reflectance(cube, reflectance, carry=False)
    if isinstance(cube, xr.DataArray) or isinstance(result, xr.DataArray):
        return result
    carried = carry_companions(cube, result, sources or {})
    if uncertainty is not None and UNCERTAINTY in cube:
        sigma = spread_over(cube[UNCERTAINTY], cube[REFLECTANCE])
        sigma = uncertainty(sigma, cube[REFLECTANCE])
        carried[UNCERTAINTY] = sigma.assign_attrs(cube[UNCERTAINTY].attrs)
    return result.assign(carried)


def describe_levels(steps: Sequence[Step], is_foreign: Sequence[bool]) -> str:
    """Levels of the steps that are changed, for the history."""
    return "/".join(sorted({s.level for s, foreign in zip(steps, is_foreign) if foreign}))


def drop_note(cube: xr.DataArray, used: Sequence[str]) -> str:
    """Words for the history on bands that are left out; empty where there are none."""
    left_out = [str(name) for name in cube["band"].values if str(name) not in used]
    return f"; left out {', '.join(left_out)}" if left_out else ""
