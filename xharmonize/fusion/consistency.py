"""Whether a sharpened result agrees with the coarse cube it came from, and how to make it agree.

A sharpened date is consistent if, seen through the optics of the coarse sensor, it is what that
sensor saw: averaged over the area of each coarse pixel, blurred by the point spread, and moved by
the shift between the two.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import cut_like, map_blocks
from xharmonize.cube.companions import COMPANIONS, ResultFlag, with_flags
from xharmonize.cube.contract import REFLECTANCE, main_layer, read_coordinate, with_history
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import geobox_of
from xharmonize.cube.regrid import regrid
from xharmonize.errors import BandError, OptionError, RadiometryError, TimeAxisError
from xharmonize.harmonizers.published import cure_of_bandpass
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.types import AnyArray

TOLERANCE = 0.01
"""Two standard deviations of surface reflectance as specified for Landsat and Sentinel-2 [1]."""

PASSES = 10
"""Passes of a correction where coarse pixels share fine ones."""

GAIN = 1.3
"""Part of the residual that such a pass adds. Where coarse pixels share half a fine pixel at each
side, a pass leaves 1 - 1.3 (4/9 … 1) of the residual: ten leave less than 2e-4 of its finest
pattern."""


def degrade(
    sharpened: xr.DataArray | xr.Dataset,
    coarse: xr.DataArray | xr.Dataset,
    *,
    psf: float = 0.0,
    shifts: xr.Dataset | None = None,
    min_valid: float = 1.0,
) -> xr.DataArray:
    """Show a fine cube as the coarse sensor would have seen it, lazily.

    Parameters
    ----------
    sharpened : (time, band, y, x) DataArray, or Dataset with ``reflectance``
        Reflectance [1], NaN where missing.
    coarse : cube
        Whose grid the result has.
    psf : float
        Standard deviation [m] of the Gaussian that blurs the area a coarse pixel sees.
    shifts : Dataset, optional
        ``shift_x``, ``shift_y`` [m] along ``time``: how far east and north of the fine cube the
        content of each coarse date lies.
    min_valid : float
        Minimum valid fraction of a coarse pixel [1].

    Returns
    -------
    (time, band, y, x) DataArray
        Reflectance [1] on the coarse grid, NaN where less than `min_valid` of it is known.
    """
    array = main_layer(at_door(sharpened), what="degrade")
    like = main_layer(at_door(coarse), what="degrade")
    moved = None
    if shifts is not None:
        moved = shifts.assign({name: -shifts[name] for name in ("shift_x", "shift_y")})
    found: xr.DataArray = regrid(array, like=like, psf=psf, min_valid=min_valid, shifts=moved)
    return found


def correct(
    sharpened: xr.DataArray | xr.Dataset,
    coarse: xr.DataArray | xr.Dataset,
    *,
    psf: float = 0.0,
    shifts: xr.Dataset | None = None,
) -> Any:
    """Make a sharpened result agree with the coarse cube it came from, lazily.

    What the degraded result lacks of the coarse cube is added to all fine pixels of each coarse
    pixel. This is exact, to rounding, where the grids nest and there is neither point spread nor
    shift. Otherwise coarse pixels share fine ones: the step is repeated ten times, which leaves
    less than 2e-4 of the residual of any grids without a point spread; a wide point spread leaves
    more of the finest pattern, which `flag_inconsistent` tells. Coarse pixels of which a fine one
    is missing are left as they are.

    Parameters
    ----------
    sharpened, coarse, psf, shifts
        See `flag_inconsistent`.

    Returns
    -------
    DataArray or Dataset
        Same type as `sharpened`, with its companions.

    Raises
    ------
    TimeAxisError, BandError, RadiometryError
        As of `flag_inconsistent`.
    """
    array = main_layer(at_door(sharpened), what="correct")
    like = _beside(coarse, array)
    is_simple = _nests(array, like) and not psf and shifts is None
    n_passes, gain = (1, 1.0) if is_simple else (PASSES, GAIN)
    result = array
    for _ in range(n_passes):
        lacking = _difference(like, degrade(result, like, psf=psf, shifts=shifts))
        spread = regrid(lacking, like=array, min_valid=0, shifts=shifts)
        added = cut_like(spread.data, result.data)
        data = map_blocks(
            _add, "tbyx,tbyx,->tbyx", result.data, added, gain, dtype=array.dtype, name="correct"
        )
        result = result.copy(data=data)
    line = f"correct: {n_passes} pass{'es' * (n_passes > 1)}{_worded(psf, shifts)}"
    result = result.assign_attrs(with_history(array.attrs, line))
    return (
        result if isinstance(sharpened, xr.DataArray) else sharpened.assign({REFLECTANCE: result})
    )


def flag_inconsistent(
    sharpened: xr.DataArray | xr.Dataset,
    coarse: xr.DataArray | xr.Dataset,
    *,
    tolerance: float = TOLERANCE,
    psf: float = 0.0,
    shifts: xr.Dataset | None = None,
) -> xr.Dataset:
    """Flag where a sharpened result is not what the coarse sensor saw, lazily.

    Parameters
    ----------
    sharpened : (time, band, y, x) DataArray, or Dataset with ``reflectance``
        Result of `xharmonize.sharpen` or of other software, reflectance [1], NaN where missing.
    coarse : (time, band, y, x) DataArray, or Dataset with ``reflectance``
        What it was made from: the same dates in the same order, at least its bands, in its
        bandpass.
    tolerance : float
        Largest difference of the degraded result from a coarse pixel [1].
    psf, shifts
        See `degrade`.

    Returns
    -------
    Dataset
        With bit 128 ``inconsistent`` of the companion ``flag`` on the fine pixels of each coarse
        pixel that differs by more, band by band. Attributes of ``flag`` state ``tolerance`` [1],
        ``psf`` [m] and whether shifts were counted in. Coarse pixels that are missing, or of which
        a fine pixel is, are not judged.

    Raises
    ------
    TimeAxisError
        If the dates differ.
    BandError
        If the coarse cube lacks a band of the result.
    RadiometryError
        If the two are in different bandpasses.
    OptionError
        If the tolerance is not above 0.
    """
    if not 0 < tolerance < np.inf:
        raise OptionError(
            "is no tolerance",
            cure="give reflectance above 0, such as 0.01",
            argument="tolerance",
            value=tolerance,
        )
    sharpened = at_door(sharpened)
    array = main_layer(sharpened, what="flag_inconsistent")
    like = _beside(coarse, array)
    lacking = _difference(like, degrade(array, like, psf=psf, shifts=shifts))
    bits = lacking.copy(
        data=map_blocks(
            _too_large, "tbyx,->tbyx", lacking.data, tolerance, dtype=np.uint8, name="inconsistent"
        )
    )
    fine = regrid(bits.rename("flag"), like=array, shifts=shifts)
    whole = sharpened if isinstance(sharpened, xr.Dataset) else array.to_dataset(name=REFLECTANCE)
    flag = with_flags(whole.get("flag"), fine.reset_coords(drop=True).drop_vars("band"))
    said = {
        "tolerance": float(tolerance),
        "psf": float(psf),
        "shifted": int(shifts is not None),
        "comment": f"inconsistent: degraded{_worded(psf, shifts)} it differs from the coarse cube "
        f"by more than {tolerance:g}",
    }
    return whole.assign(flag=(flag.dims, flag.data, {**COMPANIONS["flag"].attrs, **said}))


def _worded(psf: float, shifts: xr.Dataset | None) -> str:
    spread = f", point spread {psf:g} m" if psf else ""
    return spread + (", shifted date by date" if shifts is not None else "")


def _beside(coarse: xr.DataArray | xr.Dataset, array: xr.DataArray) -> xr.DataArray:
    """The coarse cube in the bands of the result; its dates must be the same."""
    like = main_layer(at_door(coarse), what="consistency")
    if not np.array_equal(like["time"].values, array["time"].values):
        raise TimeAxisError(
            "the sharpened and the coarse cube differ in dates",
            cure="select those of the result, coarse.sel(time=sharpened.time)",
        )
    _require_same_bandpass(array, like)
    bands = [str(band) for band in array["band"].values]
    absent = [band for band in bands if band not in like["band"].values]
    if absent:
        raise BandError(
            f"the coarse cube has no band {', '.join(absent)}",
            cure=f"select those of both, sharpened.sel(band={like['band'].values.tolist()})",
        )
    return like.sel(band=bands)


def _require_same_bandpass(array: xr.DataArray, like: xr.DataArray) -> None:
    """Raise where a date of the result is in another bandpass than the coarse one, if both say."""
    if not all("bandpass" in one.coords for one in (array, like)):
        return
    own, other = (read_coordinate(one, "bandpass").astype(str) for one in (array, like))
    differ = (own != other) & (own != UNKNOWN) & (other != UNKNOWN)
    if differ.any():
        own_one, other_one = own[differ][0], other[differ][0]
        raise RadiometryError(
            f"the sharpened cube is in bandpass {own_one}, the coarse one in {other_one}",
            cure="bring the coarse cube to that bandpass first, as sharpen does "
            f"({cure_of_bandpass(other_one, own_one)})",
        )


def _difference(coarse: xr.DataArray, degraded: xr.DataArray) -> xr.DataArray:
    """Coarse less degraded pixels; 0 where either is missing."""
    data = map_blocks(
        _lacking, "tbyx,tbyx->tbyx", coarse.data, degraded.data, dtype=np.float32, name="residual"
    )
    return coarse.copy(data=data)


def _lacking(coarse: AnyArray, degraded: AnyArray) -> AnyArray:
    # In double precision: the mean of a hundred float32 pixels is known better than one of them.
    return np.nan_to_num(coarse.astype(np.float64) - degraded).astype(np.float32)


def _add(values: AnyArray, added: AnyArray, gain: AnyArray) -> AnyArray:
    # NaN where no coarse pixel lies
    return np.asarray(values + gain * np.nan_to_num(added), values.dtype)


def _too_large(lacking: AnyArray, tolerance: AnyArray) -> AnyArray:
    return np.asarray((np.abs(lacking) > tolerance) * np.uint8(ResultFlag.INCONSISTENT))


def _nests(fine: xr.DataArray, coarse: xr.DataArray) -> bool:
    """Whether each coarse pixel is made of whole fine ones."""
    one, other = geobox_of(fine).affine, geobox_of(coarse).affine
    sizes = (other.a / one.a, other.e / one.e)
    places = ((other.c - one.c) / one.a, (other.f - one.f) / one.e)
    return all(abs(n - round(n)) < 1e-6 for n in (*sizes, *places))
