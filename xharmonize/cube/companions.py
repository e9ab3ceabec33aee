"""Companions: the layers that accompany a cube's quantity, and the rules that carry them along.

`COMPANIONS` declares each layer once. Processing steps look the rules up there and don't refer to
companions by name, except for the steps that create them. The contract module builds on this one,
because `main_layer` has to tell companions from quantities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntFlag
from functools import reduce
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from xharmonize.errors import ContractError
from xharmonize.kernels import observations as kernels
from xharmonize.sensors.spec import Flag
from xharmonize.types import AnyArray, BoolArray

MergeKernel: TypeAlias = Callable[[BoolArray, AnyArray], AnyArray]
"""``kernel(valid, values)``: the observations along the first axis made one."""

Pooling: TypeAlias = Literal["or", "mean"]
"""How pixels become one: flags are joined by OR, numbers averaged."""


class Origin(IntFlag):
    """Origin of a value: observed, harmonised, filled, …; composites OR the bits."""

    OBSERVED = 1
    HARMONISED = 2
    FILLED = 4
    SHARPENED = 8


class ResultFlag(IntFlag):
    """Caveats about a value of a result."""

    OUT_OF_DOMAIN = 1
    SATURATED = 2
    PARTIAL_CONTEXT = 4
    SKIPPED = 8
    UNDEFINED_INDEX = 16
    NEAR_MISSING = 32
    OUTLIER = 64
    INCONSISTENT = 128


@dataclass(frozen=True, kw_only=True)
class Companion:
    """One companion layer: its contents, and the rules that carry it through each step.

    Attributes
    ----------
    name, long_name : str
        Variable name in a Dataset, and CF ``long_name``.
    dtype : str
        Type of a new layer.
    blank : float
        Neutral value, used where a cube in a series lacks the companion.
    units : str
        Unit. Empty: that of the quantity, or none for flags.
    flags : IntFlag class, optional
        Bits of the layer, written as CF ``flag_masks`` and ``flag_meanings``.
    has_band : bool
        Whether a new layer has the ``band`` dimension of the quantity.
    over_bands : ufunc, optional
        Combines two bands. None: the formula of the values decides (error propagation), and the
        layer is dropped if there is none.
    over_observations : callable
        Combines the observations in a mean.
    over_median : callable, optional
        Combines the observations in a median; same as for a mean if None.
    over_pixels : {"or", "mean"}, optional
        Aggregates the pixels of a field. None: left out of tables.
    on_regrid : {"or", "mean"}
        Aggregates the source pixels of a target pixel; ``or`` counts every pixel it touches.
    outside : int
        Flags that area outside the source contributes to an OR.
    is_of_value : bool
        Whether the layer describes the value itself, and so is blank where the value is missing.
        Other layers say why a value is missing, and are kept.
    harmonized : callable, optional
        Applied on dates whose bandpass changes.
    stac_role : str
        STAC role of the layer's assets.
    """

    name: str
    long_name: str
    dtype: str
    blank: float
    units: str = ""
    flags: type[IntFlag] | None = None
    has_band: bool = True
    over_bands: Callable[..., Any] | None
    over_observations: MergeKernel
    over_median: MergeKernel | None = None
    over_pixels: Pooling | None
    on_regrid: Pooling
    outside: int = 0
    is_of_value: bool = False
    harmonized: Callable[[Any], Any] | None = None
    stac_role: str = "data"

    @property
    def attrs(self) -> dict[str, Any]:
        """Attributes of a new layer."""
        if self.flags is None:
            units = {"units": self.units} if self.units else {}
            return {"long_name": self.long_name, **units}
        return {
            "long_name": self.long_name,
            "flag_masks": np.array([int(flag) for flag in self.flags], self.dtype),
            "flag_meanings": " ".join(str(flag.name).lower() for flag in self.flags),
        }


def _harmonized_origin(origin: Any) -> Any:
    """Harmonised in place of observed."""
    observed, harmonised = np.uint8(Origin.OBSERVED), np.uint8(Origin.HARMONISED)
    return (origin & ~observed) | (((origin & observed) != 0) * harmonised)


def _error_of_median(valid: BoolArray, error: AnyArray) -> AnyArray:
    """That of the mean, and √(π/2) of it from three observations on (normal errors)."""
    several = valid.sum(axis=0, keepdims=True) > 2
    factor = np.where(several, np.sqrt(np.pi / 2), 1.0)
    return (kernels.error_of_mean(valid, error) * factor).astype(error.dtype)


_FLAGS = Companion(
    name="flag",
    long_name="flags of the result",
    dtype="uint8",
    blank=0,
    flags=ResultFlag,
    over_bands=np.bitwise_or,
    over_observations=kernels.flags_of_valid,
    over_pixels="or",
    on_regrid="or",
)

COMPANIONS: dict[str, Companion] = {
    one.name: one
    for one in (
        replace(
            _FLAGS,
            name="qa",
            long_name="pixel quality",
            dtype="uint16",
            flags=Flag,
            has_band=False,
            over_pixels=None,  # whatever a mask has removed by then says nothing of the field
            outside=int(Flag.FILL),
            stac_role="data-mask",
        ),
        replace(
            _FLAGS,
            name="origin",
            long_name="origin of the value",
            flags=Origin,
            is_of_value=True,
            harmonized=_harmonized_origin,
        ),
        _FLAGS,
        Companion(
            name="uncertainty",
            long_name="standard deviation",
            dtype="float32",
            blank=np.nan,
            over_bands=None,
            over_observations=kernels.error_of_mean,
            over_median=_error_of_median,
            over_pixels="mean",  # errors of neighbours are alike: their mean does not shrink
            on_regrid="mean",
        ),
        Companion(
            name="valid_fraction",
            long_name="valid fraction of the pixel",
            dtype="float32",
            blank=np.nan,
            units="1",
            over_bands=np.minimum,
            over_observations=kernels.mean_valid,
            over_pixels="mean",
            on_regrid="mean",
        ),
        Companion(
            name="gap",
            long_name="time to the nearest observation that the value was estimated from",
            dtype="float32",
            blank=np.nan,
            units="days",
            has_band=False,
            over_bands=np.maximum,
            over_observations=kernels.mean_valid,
            over_pixels="mean",
            on_regrid="mean",
            is_of_value=True,
        ),
    )
}
"""Every companion by its name; a new one is an entry here."""


def companions_of(cube: xr.DataArray | xr.Dataset) -> list[str]:
    """Return the names of a cube's companions, in order of declaration.

    Raises
    ------
    ContractError
        If one holds floats in place of integers, as filling and averaging make them, or integers
        in place of floats.
    """
    found = [name for name in COMPANIONS if isinstance(cube, xr.Dataset) and name in cube]
    for own in (COMPANIONS[name] for name in found):
        kind, declared = cube[own.name].dtype.kind, np.dtype(own.dtype).kind
        if (kind == "f") != (declared == "f"):
            averaged = ".fillna(0)" if kind == "f" else ""
            raise ContractError(
                f"{own.name!r} holds {cube[own.name].dtype} in place of {own.dtype}",
                cure="unless it was "
                f"averaged, restore it with cube[{own.name!r}]{averaged}.astype({own.dtype!r})",
            )
    return found


def quantities_of(cube: xr.Dataset) -> list[str]:
    """Return the names of variables that are not companions."""
    return [str(name) for name in cube.data_vars if name not in COMPANIONS]


def blank_of(name: str) -> float:
    """Return the value for "nothing known": a companion's blank, or NaN for a quantity."""
    return COMPANIONS[name].blank if name in COMPANIONS else np.nan


def role_of(name: str) -> str:
    """Return the STAC role of a variable's assets."""
    return COMPANIONS[name].stac_role if name in COMPANIONS else "data"


def validity_of(values: xr.DataArray, layer: xr.DataArray) -> xr.DataArray:
    """Where a layer has a value to describe; for layers without bands, where any band is valid."""
    valid: Any = np.isfinite(values)
    is_wide = "band" in valid.dims and "band" not in layer.dims
    found: xr.DataArray = valid.any("band") if is_wide else valid
    return found


def blank_missing(
    layers: Mapping[str, xr.DataArray], values: xr.DataArray
) -> dict[str, xr.DataArray]:
    """Blank the companions that describe a value where that value is missing; lazy.

    Parameters
    ----------
    layers : mapping of str to DataArray
        Companions of the values by name.
    values : DataArray
        The quantity; NaN where missing.
    """
    result = dict(layers)
    for name, layer in layers.items():
        if COMPANIONS[name].is_of_value:
            # Variables: xarray would compute lazy coordinates to compare those of two arrays.
            there, whole = validity_of(values, layer).variable, layer.variable
            kept: Any = whole.where(there, layer.dtype.type(COMPANIONS[name].blank))  # type: ignore[no-untyped-call]
            wide = layer if set(kept.dims) == set(layer.dims) else values
            data = kept.transpose(*wide.dims).astype(layer.dtype).data
            result[name] = wide.copy(data=data).rename(name).drop_attrs().assign_attrs(layer.attrs)
    return result


def with_flags(past: xr.DataArray | None, bits: xr.DataArray) -> xr.DataArray:
    """Add bits to the companion ``flag``.

    Parameters
    ----------
    past : DataArray or None
        The ``flag`` so far.
    bits : DataArray
        Integers of `ResultFlag`, along the dimensions of the values or fewer.
    """
    own = COMPANIONS["flag"]
    result = bits.astype(own.dtype)
    if past is not None:
        wide = past if set(bits.dims) <= set(past.dims) else bits
        joined = (past.variable | result.variable).transpose(*wide.dims)
        result = wide.copy(data=joined.data)
    return result.rename(own.name).drop_attrs().assign_attrs(own.attrs)


def join_bands(layer: xr.DataArray, name: str) -> xr.DataArray:
    """Combine the bands of a companion (..., band, ...) by its rule."""
    join = COMPANIONS[name].over_bands
    if join is None or "band" not in layer.dims:
        return layer
    layer = layer.drop_vars([n for n, c in layer.coords.items() if "band" in c.dims])
    data = [layer.isel(band=i).data for i in range(layer.sizes["band"])]
    return layer.isel(band=0).copy(data=reduce(join, data))


def carry_companions(
    cube: xr.Dataset,
    bands: Sequence[str] | AnyArray,
    *,
    sources: Mapping[str, str],
    is_changed: BoolArray,
) -> dict[str, xr.DataArray]:
    """Return the companions of `cube` for a result with other bands or another bandpass.

    Each band of the result gets the layer of its source band or, if there is no single one, all
    bands combined. Layers computed from the formula of the values are left out.

    Parameters
    ----------
    bands : sequence of str
        Of the result.
    sources : mapping of str to str
        The source band of each band of the result that has another name.
    is_changed : (time,) bool array
        Whether the bandpass of a date changes.
    """
    carried = {}
    for name in companions_of(cube):
        own = COMPANIONS[name]
        if own.over_bands is None:
            continue
        layer = _for_bands(cube[name], name, list(map(str, bands)), sources)
        if own.harmonized is not None and is_changed.any():
            due = xr.DataArray(is_changed, dims="time")
            changed = layer.where(~due, own.harmonized(layer)).astype(layer.dtype)
            layer = changed.transpose(*layer.dims)
        carried[name] = layer
    return carried


def _for_bands(
    layer: xr.DataArray, name: str, bands: list[str], sources: Mapping[str, str]
) -> xr.DataArray:
    if "band" not in layer.dims:
        return layer
    layer = layer.reset_coords(drop=True)
    present = [str(own) for own in layer["band"].values]
    wanted = [sources.get(own, own) for own in bands]
    if wanted == present:  # selecting by a list adds a dask task per chunk
        return layer.assign_coords(band=bands)
    if set(wanted) <= set(present):
        return layer.sel(band=wanted).assign_coords(band=bands)
    whole = join_bands(layer, name)
    parts = [layer.sel(band=w, drop=True) if w in present else whole for w in wanted]
    merged = xr.concat(parts, dim=xr.Variable("band", bands))
    return merged.transpose(*layer.dims).assign_attrs(layer.attrs)
