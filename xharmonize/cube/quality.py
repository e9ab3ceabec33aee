"""Pack the quality layers of all sensors into common flags, and flag saturated digital numbers.

Products flag saturated pixels in layers that catalogues do not always hold, and mark them with
the largest number of the dtype, which decodes to a reflectance of several hundred percent. A
digital number above the product's `valid_max` therefore counts as ``saturated`` while a cube is
encoded; in reflectance nothing tells it any more.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.companions import COMPANIONS
from xharmonize.cube.contract import read_coordinate, require_contract
from xharmonize.errors import MaskError, suggest
from xharmonize.kernels import qa as kernels
from xharmonize.sensors import UNKNOWN, Flag, QALayer, Sensor, get_sensor
from xharmonize.sensors.qa import layout_of, probability_layout
from xharmonize.types import AnyArray, IntArray

CLEAR = "clear"
"""Mask name that stands for the flags in `Sensor.clear`, date by date."""

FLAG_NAMES = tuple(flag.label for flag in Flag)
"""Names a mask may combine, besides ``"clear"``."""

QA_ATTRS = COMPANIONS["qa"].attrs
"""CF attributes of a packed ``qa`` layer."""

PROBABILITY = "cloud-probability"
"""Layout of cloud probability layers."""

THRESHOLD_ATTR = "cloud_probability"
"""Attribute of ``qa`` that keeps the threshold [%] it was packed with."""

DEFAULT_PROBABILITY = 50.0
"""Threshold [%] of ``cloud_probable`` where none is given."""


@dataclass(frozen=True, kw_only=True)
class Mask:
    """Which pixels to remove.

    Attributes
    ----------
    names : tuple of str
        Flags that remove a pixel: ``"cloud"``, ``"cloud_shadow"``, … (`FLAG_NAMES`). ``"clear"``
        stands for the flags in the sensor's `clear`, so that only clear pixels remain.
    dilate : float
        Radius by which to dilate removed areas; ``fill``, ``saturated`` and ``skipped`` are not
        dilated.
    dilate_unit : {"pixels", "metres"}
        Unit of `dilate`; metres need a projected CRS.
    cloud_probability : float, optional
        Threshold [%]: also remove pixels whose cloud probability, from the sensor's layer, is at
        least this high.

    Raises
    ------
    MaskError
        If a name is not a flag, or a number is out of range.
    """

    names: tuple[str, ...] = (CLEAR,)
    dilate: float = 0.0
    dilate_unit: Literal["pixels", "metres"] = "pixels"
    cloud_probability: float | None = None

    def __post_init__(self) -> None:
        given: Any = self.names  # lists and a bare name are welcome, whatever the annotation says
        names = (given,) if isinstance(given, str) else tuple(given)
        for name in names:
            _require_flag(name)
        object.__setattr__(self, "names", names)
        if not (math.isfinite(self.dilate) and self.dilate >= 0):
            raise MaskError(
                cure="give a distance of 0 or more", argument="dilate", value=self.dilate
            )
        if self.dilate_unit not in ("pixels", "metres"):
            raise MaskError(
                "",
                cure="choose 'pixels' or 'metres'",
                argument="dilate_unit",
                value=self.dilate_unit,
            )
        if self.cloud_probability is not None:
            probability_layout(self.cloud_probability)

    def flags(self, sensor: Sensor | None = None) -> Flag:
        """Return the flags that remove a pixel of this sensor; without one, the named flags."""
        names = {name for name in self.names if name != CLEAR}
        if sensor is not None and CLEAR in self.names:
            names.update(sensor.clear)
        found = Flag(0)
        for name in names:
            found |= Flag[name.upper()]
        if sensor is not None and self.cloud_probability is not None and _probability_layer(sensor):
            found |= Flag.CLOUD_PROBABLE
        return found


MaskLike: TypeAlias = str | Sequence[str] | Mask
"""A `Mask`, or the name or names of flags to remove."""


def as_mask(mask: MaskLike) -> Mask:
    """Convert `mask` to a `Mask`; plain names mean no dilation."""
    if isinstance(mask, Mask):
        return mask
    if not isinstance(mask, str | Sequence):
        raise MaskError(
            "names no flags",
            cure="give their names, an xh.Mask, or None",
            argument="mask",
            value=mask,
        )
    return Mask(names=(mask,) if isinstance(mask, str) else tuple(mask))


def qa_layers(sensor: Sensor, mask: MaskLike | None = None) -> tuple[QALayer, ...]:
    """Return the quality layers of a sensor that a mask needs.

    Parameters
    ----------
    sensor : Sensor
        Sensor with the layers.
    mask : Mask, str or sequence of str, optional
        None returns only the primary layer.

    Returns
    -------
    tuple of QALayer
        The primary layer; further layers if the mask names a flag, beyond those of ``"clear"``,
        that no earlier layer can set; and the cloud probability if the mask has a threshold and
        the sensor has the layer. Empty for sensors without quality layers.
    """
    needed = [layer for layer in sensor.qa if layer.is_primary]
    if mask is None:
        return tuple(needed)
    mask = as_mask(mask)
    named = mask.flags()
    for layer in sensor.qa:
        if layer.layout == PROBABILITY:
            is_asked = mask.cloud_probability is not None
        else:
            is_asked = bool(layout_of(layer).flags & named & ~settable(needed))
        if is_asked and layer not in needed:
            needed.append(layer)
    return tuple(needed)


def pack_qa(
    layers: Mapping[str, xr.DataArray],
    sensor: Sensor,
    *,
    cloud_probability: float | None = None,
    bands: Collection[str] | None = None,
    platform: str | None = None,
) -> xr.DataArray:
    """Pack the quality layers of one sensor into flags common to all sensors.

    Parameters
    ----------
    layers : mapping of str to (time, y, x) integer DataArray
        Layers by name (``scl``, ``qa_pixel``, …), on the same grid. Only the primary layer defines
        fill; the others add flags.
    sensor : Sensor
        Sensor of the layers.
    cloud_probability : float, optional
        Threshold [%] from which the cloud probability layer sets ``cloud_probable``; 50 if None.
    bands : collection of str, optional
        Common names of the loaded bands: ``saturated`` then refers to these only, if the layer
        distinguishes bands.
    platform : str, optional
        Platform whose band numbering to use for that; None combines those of all platforms.

    Returns
    -------
    (time, y, x) uint16 DataArray
        Named ``qa``, with CF ``flag_masks`` and ``flag_meanings``; lazy if the layers are.

    Raises
    ------
    MaskError
        If there are no layers, or one is not of the sensor or not of integer type.
    """
    known = {layer.name: layer for layer in sensor.qa}
    strange = sorted(set(layers) - set(known))
    if strange or not layers:
        raise MaskError(
            f"quality layers given: {strange or 'none'}",
            cure=f"{sensor.name} has {', '.join(known) or 'none'}",
        )
    threshold = DEFAULT_PROBABILITY if cloud_probability is None else cloud_probability
    read = _bands_read(sensor, bands, platform)
    unpacked = [
        _unpack(values, known[name], threshold=threshold, read=read)
        for name, values in layers.items()
    ]
    packed = reduce(operator.or_, unpacked)
    attrs: dict[str, Any] = dict(QA_ATTRS)
    if any(known[name].layout == PROBABILITY for name in layers):
        attrs[THRESHOLD_ATTR] = threshold
    packed.attrs = attrs
    return packed.rename("qa")


def _bands_read(
    sensor: Sensor, bands: Collection[str] | None, platform: str | None
) -> set[str] | None:
    """Source names of these bands, by which layers tell bands apart; None for all."""
    if bands is None:
        return None
    instruments = sensor.instruments if platform is None else (sensor.instrument(platform),)
    return {b.source for instrument in instruments for b in instrument.bands if b.name in bands}


def _probability_layer(sensor: Sensor) -> bool:
    return any(layer.layout == PROBABILITY for layer in sensor.qa)


def settable(layers: Collection[QALayer]) -> Flag:
    """Return the flags that any of these layers can set."""
    found = Flag(0)
    for layer in layers:
        found |= layout_of(layer).flags
    return found


def _unpack(
    values: xr.DataArray,
    layer: QALayer,
    *,
    threshold: float,
    read: Collection[str] | None,
) -> xr.DataArray:
    """Flags of one layer; secondary ones never say fill."""
    if not np.issubdtype(values.dtype, np.integer):
        raise MaskError(
            f"quality layer {layer.name!r} is {values.dtype}, not integer: classes and bits do "
            "not survive averaging or NaN",
            cure=f"load it as {layer.dtype}, resampled by nearest",
        )
    is_probability = layer.layout == PROBABILITY
    layout = probability_layout(threshold) if is_probability else layout_of(layer)
    fields = [f.name for f in layout.fields if read is None or not f.is_band or f.name in read]
    table = kernels.lookup_table(layout, fields)
    if not layer.is_primary:
        table = table & np.uint16(~Flag.FILL & 0xFFFF)
    unpack = partial(kernels.decode_qa, table=table)
    data = map_blocks(unpack, "...->...", values.data, dtype=np.uint16, name="unpack-qa")
    return values.copy(data=data)


def _require_flag(name: str) -> None:
    known = (CLEAR, *FLAG_NAMES)
    if name not in known:
        raise MaskError(
            f"no quality flag {name!r}",
            cure=f"{suggest(name, known)}there are {', '.join(known)}",
            value=name,
        )


def flag_saturated(qa: xr.DataArray, cube: xr.DataArray) -> xr.DataArray:
    """Return `qa` with ``saturated`` set where any band of an encoded cube exceeds its range.

    Parameters
    ----------
    qa : (time, y, x) uint16 DataArray
        Packed flags.
    cube : (time, band, y, x) integer DataArray
        Digital numbers with their contract. Bands with another scale than the product's are
        skipped: their numbers have another range.

    Returns
    -------
    (time, y, x) uint16 DataArray
        Lazy where `cube` is.
    """
    require_contract(cube)
    cube = cube.transpose("time", "band", "y", "x")
    limit = _limits(cube)
    nodata = read_coordinate(cube, "nodata")
    missing = np.where(np.isfinite(nodata), nodata, -(2**40)).astype(np.int64)
    flags = cube.isel(band=0, drop=True).copy(data=_flags(cube, limit, missing))
    return (qa | flags.variable).assign_attrs(qa.attrs)


def _limits(cube: xr.DataArray) -> IntArray:
    """Largest valid digital number per (time, band)."""
    never = np.iinfo(np.int64).max
    limits = np.full((cube.sizes["time"], cube.sizes["band"]), never)
    scales = read_coordinate(cube, "scale")
    for i, name in enumerate(read_coordinate(cube, "sensor")):
        if str(name) != UNKNOWN:
            sensor = get_sensor(str(name))
            bands = [sensor.radiometry_of(str(band)) for band in cube["band"].values]
            own = np.isclose(scales[i], [band.scale for band in bands], rtol=0.01, atol=0)
            limits[i] = np.where(own, [band.valid_max for band in bands], never)
    return limits


def _flags(cube: xr.DataArray, limit: IntArray, missing: IntArray) -> AnyArray:
    flags: AnyArray = map_blocks(
        _flags_block,
        "tbyx,tb,tb->tyx",
        cube.data,
        limit,
        missing,
        dtype=np.uint16,
        name="flag-saturated",
    )
    return flags


def _flags_block(values: AnyArray, limit: IntArray, missing: IntArray) -> IntArray:
    return kernels.exceeds(values, limit, missing) * np.uint16(Flag.SATURATED)
