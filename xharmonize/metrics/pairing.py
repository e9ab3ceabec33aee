"""Pairing of cubes for a comparison: at common dates, or at pairs of dates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.contract import main_layer, read_coordinate
from xharmonize.cube.geobox import crop_to_shared, geobox_of, shift_between
from xharmonize.cube.pairs import match_pairs
from xharmonize.errors import RadiometryWarning, TimeAxisError, suggest, warn
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.types import Duration

_NAMED = ("sensor", "platform", "tile", "level", "processing_baseline")


def of_sensor(cube: Any, sensor: str | None) -> Any:
    """Select the dates of one sensor, or all dates if none is named.

    Raises
    ------
    TimeAxisError
        If the cube has no date of this sensor.
    """
    if sensor is None:
        return cube
    sensors = read_coordinate(cube, "sensor").astype(str)
    known = sorted(set(sensors.tolist()))
    if sensor not in known:
        raise TimeAxisError(
            f"no date is of {sensor!r}",
            cure=f"{suggest(sensor, known)}the cube has {', '.join(known)}",
        )
    return cube.isel(time=np.flatnonzero(sensors == sensor))


def paired(
    pred: xr.DataArray | xr.Dataset,
    reference: xr.DataArray | xr.Dataset,
    *,
    tolerance: Duration = "2D",
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return prediction and reference at common dates, lazily.

    Two grids with the same pixel size and alignment are cropped to their common pixels. If both
    cubes have the same dates, these are used. Otherwise dates are paired as by `match_pairs`, along
    ``pair``; `time` is then that of the reference, and `sensor`, `platform` and similar coordinates
    are those of the prediction.

    Raises
    ------
    TimeAxisError
        If no two dates are within `tolerance`.
    GridError, BandError, RadiometryError, ContractError
        If the two cannot be compared.
    """
    one, other = shared_pixels(main_layer(pred), main_layer(reference))
    same = "time" not in one.dims or "time" not in other.dims
    if same or one.indexes["time"].equals(other.indexes["time"]):
        return one, other
    pairs = match_pairs(_with_band(one), _with_band(other), tolerance=tolerance)
    _warn_of_itself(pairs)
    named = {name: ("pair", pairs[f"{name}_source"].values) for name in _NAMED}
    named["time"] = ("pair", pairs["time_target"].values)
    layers = []
    for role, own in (("source", one), ("target", other)):
        layer = pairs[role].assign_coords(named).assign_attrs(own.attrs).rename(own.name)
        layers.append(layer if "band" in own.dims else layer.isel(band=0, drop=True))
    return layers[0], layers[1]


def _warn_of_itself(pairs: xr.Dataset) -> None:
    """Warn if an image is compared with itself, as a merged series also holds the reference."""
    names = ("item_id_source", "item_id_target")
    if not all(name in pairs.coords for name in names):
        return
    one, other = (pairs[name].values.astype(str) for name in names)
    is_same = (one == other) & (one != UNKNOWN)
    if is_same.any():
        warn(
            f"{int(is_same.sum())} of {is_same.size} pairs compare an image with itself, the "
            f"first is {str(one[is_same][0])!r}, so their error is 0: the prediction holds the "
            "reference's own dates; compare the dates of the other sensor only, "
            "cube.isel(time=(cube['sensor'] == 'sentinel-2-l2a').values)",
            RadiometryWarning,
        )


def compare(
    predictions: Mapping[str, xr.DataArray | xr.Dataset],
    reference: xr.DataArray | xr.Dataset,
    *,
    tolerance: Duration,
) -> dict[str, tuple[xr.DataArray, xr.DataArray]]:
    """Return each prediction with its reference, at the dates and pixels common to all, lazily.

    Raises
    ------
    TimeAxisError
        If no date is common to all.
    """
    pairs = {
        name: paired(cube, reference, tolerance=tolerance) for name, cube in predictions.items()
    }
    keys = {name: _dates(one, other) for name, (one, other) in pairs.items()}
    common = [key for key in next(iter(keys.values())) if all(key in own for own in keys.values())]
    if not common:
        raise TimeAxisError(
            f"{', '.join(keys)} have no pair of dates in common", cure="make them of the same dates"
        )
    bands = _common_bands([one for one, _ in pairs.values()])
    chosen = {}
    for name, (one, other) in pairs.items():
        place = [keys[name].index(key) for key in common]
        dim = "pair" if "pair" in one.dims else "time"
        layers = [
            layer.isel({dim: place}) if dim in layer.dims else layer for layer in (one, other)
        ]
        layers = [layer.sel(band=bands) if bands else layer for layer in layers]
        # Pairs are numbered separately in each comparison.
        number = {"pair": np.arange(len(common))} if dim == "pair" else {}
        chosen[name] = [layer.assign_coords(number) for layer in layers]
    valid: Any = True
    for one, other in chosen.values():
        valid = valid & one.notnull().data & other.notnull().data
    return {
        name: (one.where(one.copy(data=valid)), other.where(other.copy(data=valid)))
        for name, (one, other) in chosen.items()
    }


def _dates(one: xr.DataArray, other: xr.DataArray) -> list[tuple[Any, Any]]:
    """Dates of prediction and reference, one pair each."""
    names = ("time_source", "time_target") if "pair" in one.dims else ("time", "time")
    return list(zip(np.atleast_1d(one[names[0]].values), np.atleast_1d(other[names[1]].values)))


def _common_bands(layers: Sequence[xr.DataArray]) -> list[str]:
    if any("band" not in layer.dims for layer in layers):
        return []
    first, *others = ([str(name) for name in layer["band"].values] for layer in layers)
    return [name for name in first if all(name in own for own in others)]


def shared_pixels(one: xr.DataArray, other: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Crop two cubes to their common pixels if their grids differ only in extent, lazily."""
    shift = shift_between(geobox_of(one), geobox_of(other))
    if shift is None:
        return one, other
    mine, theirs = crop_to_shared(one, other, shift)
    if not (mine.sizes["y"] and mine.sizes["x"]):
        return one, other
    # Copy the coordinates: xarray drops pixels whose coordinates differ in the last digit.
    return mine.assign_coords(y=theirs["y"], x=theirs["x"]), theirs


def _with_band(layer: xr.DataArray) -> xr.DataArray:
    """Expand an index to a cube of one band."""
    if "band" in layer.dims:
        return layer
    wide = layer.expand_dims(band=[str(layer.name)], axis=1)
    told = {"is_decoded": True, "scale": 1.0, "offset": 0.0, "nodata": np.nan}
    return wide.assign_coords(
        {n: (("time", "band"), np.full(wide.shape[:2], value)) for n, value in told.items()}
    )
