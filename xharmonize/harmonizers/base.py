"""Shared by all harmonisers: which time steps change, and the contract of the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.companions import carry_companions, with_flags
from xharmonize.cube.contract import (
    REFLECTANCE,
    read_coordinate,
    require_contract,
    select_bands,
    spread_over,
    with_history,
)
from xharmonize.cube.encode import ENCODING_ATTRS, decode, require_encoded
from xharmonize.errors import BandError, ContractError
from xharmonize.kernels.reflectance import affine
from xharmonize.types import AnyArray, BoolArray, Float64Array

Cube = TypeVar("Cube", xr.DataArray, xr.Dataset)
UNCERTAINTY, FLAG = "uncertainty", "flag"


@dataclass(frozen=True, kw_only=True)
class Target:
    """Description of the result of a harmoniser.

    Attributes
    ----------
    bandpass : str
        Bandpass of the result.
    bands : tuple of str
        Common names of the bands of the result.
    sources : tuple of str
        The (main) band of the cube behind each of `bands`.
    history : str
        Line for the ``history`` attribute.
    """

    bandpass: str
    bands: tuple[str, ...]
    sources: tuple[str, ...]
    history: str


def decoded(reflectance: xr.DataArray) -> xr.DataArray:
    """Return the cube as float reflectance, decoding digital numbers."""
    require_contract(reflectance)
    is_float = np.issubdtype(reflectance.dtype, np.floating)
    if bool(read_coordinate(reflectance, "is_decoded").all()) and is_float:
        return reflectance
    return decode(reflectance)


def apply_lines(
    array: xr.DataArray, slope: Float64Array, offset: Float64Array, target: Target
) -> xr.DataArray:
    """Apply one linear function per (time, band); digital numbers are decoded in the same pass.

    Parameters
    ----------
    array : (time, band, y, x) DataArray
        Reflectance [1], or digital numbers with their contract.
    slope, offset : (time, band) float64 array
        Coefficients for the bands ``target.sources``.
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
        "tbyx,tb,tb,tb->tbyx",
        chosen.data,
        slope,
        offset,
        nodata,
        dtype=np.float32,
        name="harmonize-linear",
    )
    return rebuild(array, data, target)


def _affine(
    values: AnyArray, slope: Float64Array, offset: Float64Array, nodata: Float64Array
) -> AnyArray:
    return affine(values, slope, offset, nodata=nodata)


def rebuild(template: xr.DataArray, data: Any, target: Target) -> xr.DataArray:
    """Wrap the pixels of a result with its coordinates and contract.

    Parameters
    ----------
    template : (time, band, y, x) DataArray
        The cube before harmonising.
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


def decoded_set(cube: xr.Dataset) -> xr.Dataset:
    """Return a Dataset with decoded ``reflectance``; the contract is that of the pixels."""
    result = decoded(cube[REFLECTANCE]).to_dataset(name=REFLECTANCE)
    return result.assign({str(n): v for n, v in cube.data_vars.items() if n != REFLECTANCE})


def change_steps(
    cube: xr.Dataset,
    is_due: Sequence[bool],
    change: Callable[[xr.Dataset], xr.Dataset],
    *,
    takes_encoded: bool = False,
    keep: Callable[[xr.Dataset, xr.Dataset], xr.Dataset] | None = None,
) -> xr.Dataset:
    """Apply `change` to some time steps and merge them with the others, in the original order.

    `change` receives reflectance, or the cube as it is if `takes_encoded`. The other steps are
    unchanged unless ``keep(others, changed)`` is given to transform them. A layer that only
    `change` creates (``flag``) is 0 on the others; a layer that it drops is dropped.
    """
    given = cube if takes_encoded else decoded_set(cube)
    if not any(is_due):
        return decoded_set(cube)
    if all(is_due):
        return change(given)
    chosen = np.flatnonzero(is_due)
    kept = np.flatnonzero(~np.asarray(is_due))
    changed = change(given.isel(time=chosen))
    cube = decoded_set(cube)
    absent = sorted(set(map(str, changed["band"].values)) - set(map(str, cube["band"].values)))
    if absent:
        raise BandError(
            f"steps that are in the target's bandpass already have no band {', '.join(absent)}",
            cure="harmonise the other steps by themselves and merge with densify",
        )
    rest = cube.isel(time=kept).sel(band=changed["band"].values)
    if keep is not None:
        rest = keep(rest, changed)
    if FLAG in changed:
        rest = rest.assign({FLAG: no_flags(rest[REFLECTANCE])})
    rest = rest[list(changed.data_vars)].drop_vars(set(rest.coords) - set(changed.coords))
    merged = xr.concat(
        [changed, rest],
        dim="time",
        data_vars="all",
        coords="different",
        compat="equals",
        join="override",
        combine_attrs="override",
    )
    return merged.isel(time=np.argsort(np.concatenate([chosen, kept]), kind="stable"))


def on_cube(
    cube: Cube,
    change: Callable[[xr.Dataset], xr.Dataset],
    *,
    carry: Callable[[xr.Dataset, xr.Dataset], Mapping[str, xr.DataArray]] | None = None,
    flags: str | None = None,
    uncertainty: bool = False,
) -> Cube:
    """Apply a harmoniser to a cube or a Dataset, and carry its companions.

    Parameters
    ----------
    change : callable
        Maps a Dataset with ``reflectance``, and ``uncertainty`` (one standard deviation [1]) if the
        cube has it, to a Dataset with ``reflectance``, ``uncertainty`` if it is propagated, and
        ``flag`` if the harmoniser sets any.
    carry : callable, optional
        ``carry(cube, result)`` returns the other companions of the result; by default those of
        `carry_companions`.
    flags : str, optional
        Comment of the companion ``flag``. If given, the result is a Dataset with this companion:
        the bits set by the harmoniser and those the cube had, 0 where nothing is known.
    uncertainty : bool
        Whether the harmoniser makes an ``uncertainty`` of its own; the result is then a Dataset.
    """
    array = reflectance_of(cube)
    given = array.to_dataset(name=REFLECTANCE)
    if isinstance(cube, xr.Dataset) and UNCERTAINTY in cube:
        given = given.assign({UNCERTAINTY: spread_over(cube[UNCERTAINTY], array)})
    found = change(given)
    if isinstance(cube, xr.DataArray) and flags is None and not uncertainty:
        same: Cube = found[REFLECTANCE].rename(cube.name)
        return same
    result = found[[REFLECTANCE]]
    if isinstance(cube, xr.Dataset):
        result = result.assign_attrs(cube.attrs)
        result = result.assign((carry or _carried)(cube, result))
    if UNCERTAINTY in found:
        known = cube[UNCERTAINTY].attrs if UNCERTAINTY in given else {}
        sigma = found[UNCERTAINTY].assign_attrs({**known, **found[UNCERTAINTY].attrs})
        result = result.assign({UNCERTAINTY: sigma})
    if flags is not None:
        result = result.assign({FLAG: _flag(result, found.get(FLAG), flags)})
    whole: Any = result  # a Dataset even of a DataArray where flags are wanted
    return whole  # type: ignore[no-any-return]


def reflectance_of(cube: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """Return the reflectance of a cube.

    Raises
    ------
    ContractError
        If a Dataset has none.
    """
    if isinstance(cube, xr.DataArray):
        return cube
    if REFLECTANCE not in cube:
        raise ContractError(
            "the Dataset has no variable 'reflectance'",
            cure=f"it has {sorted(map(str, cube.data_vars))}",
        )
    return cube[REFLECTANCE]


def no_flags(array: xr.DataArray) -> xr.DataArray:
    """A companion ``flag`` (time, y, x) of zeros: nothing is known about the values."""
    layer = xr.zeros_like(array.isel(band=0, drop=True), dtype=np.uint8)
    return xr.DataArray(layer.data, dims=layer.dims)


def is_bandpass_changed(cube: xr.Dataset, result: xr.Dataset) -> BoolArray:
    """Tell for each date whether the bandpass of the result differs from that of the cube."""
    changed: BoolArray = read_coordinate(cube, "bandpass") != read_coordinate(result, "bandpass")
    return changed


def _carried(cube: xr.Dataset, result: xr.Dataset) -> Mapping[str, xr.DataArray]:
    changed = is_bandpass_changed(cube, result)
    return carry_companions(cube, result["band"].values, sources={}, is_changed=changed)


def _flag(result: xr.Dataset, own: xr.DataArray | None, comment: str) -> xr.DataArray:
    """The companion ``flag``: new bits combined with those of the cube."""
    found = no_flags(result[REFLECTANCE]) if own is None else own.reset_coords(drop=True)
    return with_flags(result.get(FLAG), found).assign_attrs(comment=comment)


def drop_note(cube: xr.DataArray, used: Sequence[str]) -> str:
    """Note for the history on dropped bands; empty if there are none."""
    left_out = [str(name) for name in cube["band"].values if str(name) not in used]
    return f"; left out {', '.join(left_out)}" if left_out else ""
