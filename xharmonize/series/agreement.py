"""Agreement of sensors in a merged series, and of neighbouring tiles where they overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.contract import read_coordinate
from xharmonize.cube.dates import duration_in_days
from xharmonize.cube.door import at_door
from xharmonize.cube.geobox import (
    crop_to_shared,
    crs_name,
    describe_grid,
    geobox_of,
    is_same_crs,
    shift_between,
)
from xharmonize.errors import (
    BandError,
    GridError,
    TimeAxisError,
    UnknownSensorError,
    require_fraction,
)
from xharmonize.kernels import observations as kernels
from xharmonize.sensors import Names, get_sensor
from xharmonize.series import axis
from xharmonize.series.axis import deviation_of_known, is_smoothed, known_sensors, mean_of_known
from xharmonize.types import AnyArray, Duration, FloatArray, IntArray


@dataclass(frozen=True)
class _Comparison:
    """Dates of one sensor, and those of another that is interpolated to their days."""

    dates: tuple[int, ...]
    days: tuple[int, ...]
    dense_dates: tuple[int, ...]
    dense_days: tuple[int, ...]
    sign: float
    max_gap: float

    def __call__(self, values: AnyArray) -> FloatArray:
        """Differences (date, ...) of a block (time, ...)."""
        series = np.ascontiguousarray(values.reshape(values.shape[0], -1), np.float32)
        expected = kernels.between(
            np.ascontiguousarray(series[list(self.dense_dates)]),
            np.array(self.dense_days, np.float64),
            np.array(self.days, np.float64),
            self.max_gap,
        )
        own = series[list(self.dates)]
        own[~np.isfinite(own)] = np.nan
        difference: FloatArray = np.float32(self.sign) * (own - expected)
        return difference.reshape(-1, *values.shape[1:])


def sensor_offsets(
    cube: xr.DataArray | xr.Dataset,
    *,
    reference: str | None = None,
    max_gap: Duration = 16.0,
    min_valid: float = 0.1,
) -> xr.Dataset:
    """Estimate offsets between sensors from observations close in time, lazily.

    For each observation of the sensor with fewer dates, the other sensor is interpolated to its
    day between the valid observations before and after (or taken from the same day), pixel by pixel
    on true day spacing. Differences are averaged over pixels, then over dates with equal weight,
    because errors of one date (haze, view) are common to its pixels: the dates are independent, the
    pixels are not. Observations merged from several sensors are ignored.

    Parameters
    ----------
    cube : DataArray or Dataset
        A merged series, such as from `densify`, or an unharmonised one of several bandpasses, along
        `time` with the coordinate `sensor`; NaN where missing. Dates may be in any order.
    reference : str, optional
        Sensor to compare the others with. By default the sensor whose own bandpass the values have,
        else the first one by name.
    max_gap : str or number
        Maximum time between the two observations used for interpolation, such as ``"16D"`` or 16
        [day].
    min_valid : float
        Minimum fraction [1] of pixels with a difference for a date to count.

    Returns
    -------
    Dataset
        Along ``sensor`` (all but the reference) and `band`, if there are bands: `offset`, mean of
        sensor minus reference in the unit of the values; `standard_error` of that mean, from the
        spread between dates (NaN for fewer than 2 dates); `spread`, standard deviation between
        dates; `n_dates`. Also along ``time``: `difference`, the mean of each compared date (NaN if
        not compared), and `n`, its number of pixels. Subtract `offset` to remove the difference.

    Raises
    ------
    ContractError
        If the cube does not state the sensor of its dates.
    TimeAxisError
        If the series has only one sensor, lacks the reference, or was smoothed.
    OptionError
        If `max_gap` or `min_valid` has an invalid value.
    """
    cube = at_door(cube)
    require_fraction(min_valid, argument="min_valid")
    max_gap = duration_in_days(max_gap, argument="max_gap")
    _, values = axis.split_quantity(cube, what="sensor_offsets")
    if is_smoothed(cube):
        raise TimeAxisError(
            "sensor_offsets compares observations, and the series was smoothed over the step",
            cure="measure it before that",
        )
    sensors = axis.sensors_of(values)
    chosen = _reference(values, sensors, reference)
    whole = axis.whole_series(values.transpose("time", ...))
    days = axis.days_of(whole)
    others = [name for name in _names(sensors) if name != chosen]
    parts = [_compare(whole, days, sensors, name, chosen, max_gap) for name in others]
    joined = xr.concat(parts, dim=xr.Variable("sensor", others), join="exact")
    return _summary(joined, whole, chosen, min_valid)


def _reference(values: xr.DataArray, sensors: AnyArray, wanted: str | None) -> str:
    names = _names(sensors)
    if len(names) < 2:
        raise TimeAxisError(
            f"sensor_offsets compares sensors, the series holds {names}",
            cure="merge another one with xh.densify(..., duplicates='keep')",
        )
    if wanted is not None:
        if wanted not in names:
            raise TimeAxisError(f"the series holds no {wanted!r}", cure=f"it has {names}")
        return wanted
    return next((name for name in names if _is_own_bandpass(values, sensors == name)), names[0])


def _names(sensors: AnyArray) -> list[str]:
    """Sensor names, without merged observations and dates that no sensor observed."""
    return known_sensors(sensors[[len(Names.of(name)) == 1 for name in sensors]])


def _is_own_bandpass(values: xr.DataArray, dates: AnyArray) -> bool:
    """Whether a sensor's dates have its own bandpass, and all dates have that bandpass."""
    if "bandpass" not in values.coords or "platform" not in values.coords:
        return False
    bandpass = read_coordinate(values, "bandpass").astype(str)
    i = int(np.flatnonzero(dates)[0])
    try:
        sensor = get_sensor(str(read_coordinate(values, "sensor")[i]))
        own = sensor.bandpass_of(str(read_coordinate(values, "platform")[i]))
    except UnknownSensorError:
        return False
    return bool((bandpass == own).all())


def _compare(
    values: xr.DataArray,
    days: IntArray,
    sensors: AnyArray,
    name: str,
    reference: str,
    max_gap: float,
) -> xr.Dataset:
    """Mean difference and number of pixels of each date; NaN if not compared."""
    own, other = (_in_order(np.flatnonzero(sensors == which), days) for which in (name, reference))
    is_own_sparse = own.size <= other.size
    sparse, dense = (own, other) if is_own_sparse else (other, own)
    comparison = _Comparison(
        dates=tuple(sparse.tolist()),
        days=tuple(days[sparse].tolist()),
        dense_dates=tuple(dense.tolist()),
        dense_days=tuple(days[dense].tolist()),
        sign=1.0 if is_own_sparse else -1.0,
        max_gap=float(max_gap),
    )
    data = map_blocks(
        comparison,
        "t...->t...",
        values.data,
        sizes={"t": int(sparse.size)},
        whole="t",
        dtype=np.float32,
        name="sensor-offsets",
    )
    axes = {dim: values[dim].variable for dim in ("band",) if dim in values.coords}
    difference = xr.DataArray(data, dims=values.dims, coords={**axes, "time": sparse})
    place = [dim for dim in ("y", "x") if dim in values.dims]
    part = xr.Dataset(
        {
            "difference": mean_of_known(difference, place),
            "n": difference.notnull().sum(place),
        }
    )
    # By position until here: two observations may share a time.
    places = part.reindex(time=np.arange(days.size))
    return places.assign(n=places["n"].fillna(0).astype(np.int64)).assign_coords(
        time=values["time"].values
    )


def _in_order(dates: IntArray, days: IntArray) -> IntArray:
    return dates[np.argsort(days[dates], kind="stable")]


def _summary(
    joined: xr.Dataset, values: xr.DataArray, reference: str, min_valid: float
) -> xr.Dataset:
    """Means over dates, with their standard error."""
    n_pixels = int(np.prod([values.sizes[dim] for dim in ("y", "x") if dim in values.dims]))
    counts = (joined["n"] > 0) & (joined["n"] >= min_valid * n_pixels)
    each = joined["difference"].where(counts)
    n_dates = counts.sum("time")
    spread = deviation_of_known(each, "time")
    units = {"units": str(values.attrs.get("units", "1"))}
    result = xr.Dataset(
        {
            "offset": mean_of_known(each, "time").assign_attrs(
                units, long_name="sensor minus reference"
            ),
            "standard_error": (spread / n_dates.where(n_dates > 0) ** 0.5).assign_attrs(units),
            "spread": spread.assign_attrs(units, long_name="standard deviation between dates"),
            "n_dates": n_dates,
            "difference": each.assign_attrs(units),
            "n": joined["n"],
        }
    )
    return result.assign_attrs(reference=reference)


def compare_tiles(cube: xr.DataArray | xr.Dataset, other: xr.DataArray | xr.Dataset) -> xr.Dataset:
    """Compare two cubes where they overlap, date by date, lazily.

    Two tiles of one day show the same ground from the same position. Differences that appear after
    harmonising come from how the harmoniser reacts to the surroundings of each tile. Compare before
    and after to assess any harmoniser.

    Parameters
    ----------
    cube, other : DataArray or Dataset
        Reflectance [1] or one index, with the same bands, on grids with the same CRS, pixel size
        and alignment; NaN where missing. Dates are matched by solar day, and by sensor if both
        state it; several observations of one day and sensor are paired in order of time.

    Returns
    -------
    Dataset
        Along ``time`` (the dates of `cube` that both have) and `band`, if there are bands, over
        pixels valid in both: `n`, the number of pixels; `bias`, mean of `cube` minus `other`;
        `mae`; `rmse`; `largest`, the largest absolute difference. All but `n` are in the unit of
        the values, NaN where `n` is 0. Attribute ``overlap`` is its size in pixels (rows, columns).

    Raises
    ------
    GridError
        If the grids do not match, or do not overlap.
    BandError
        If the bands differ.
    TimeAxisError
        If the cubes have no date in common.
    """
    cube, other = at_door(cube), at_door(other)
    _, one = axis.split_quantity(cube, what="compare_tiles")
    _, two = axis.split_quantity(other, what="compare_tiles")
    first, second = _overlap(one, two)
    first, second = _same_bands(first, second)
    dates = _matched(one, two)
    a = first.isel(time=[i for i, _ in dates])
    b = second.isel(time=[j for _, j in dates])
    b = b.transpose(*a.dims)
    # Variables: the coordinates of the two may differ in the last bit.
    difference = a.copy(data=(a.variable - b.variable.astype(a.dtype)).data)
    return _statistics(difference)


def _overlap(one: xr.DataArray, two: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Crop both to their common pixels."""
    boxes = [geobox_of(array) for array in (one, two)]
    if not is_same_crs(boxes[0].crs, boxes[1].crs):
        raise GridError(
            f"the tiles are in {crs_name(boxes[0].crs)} and {crs_name(boxes[1].crs)}",
            cure="put one on the other's grid with cube.harmonize.regrid(crs=...)",
        )
    shift = shift_between(*boxes)
    if shift is None:
        raise GridError(
            f"the tiles lie on different grids: {describe_grid(boxes[0])} and "
            f"{describe_grid(boxes[1])}",
            cure="put one on the other's lattice with cube.harmonize.regrid",
        )
    shared = crop_to_shared(one, two, shift)
    for dim in ("y", "x"):
        if not shared[0].sizes[dim]:
            raise GridError(
                f"the tiles do not overlap in {dim}", cure="compare neighbours that share pixels"
            )
    return shared


def _same_bands(one: xr.DataArray, two: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    if ("band" in one.dims) != ("band" in two.dims):
        raise BandError(
            "one cube has bands and the other has not", cure="compare the same quantity"
        )
    if "band" not in one.dims:
        return one, two
    names = [[str(band) for band in array["band"].values] for array in (one, two)]
    if set(names[0]) != set(names[1]):
        raise BandError(
            f"the cubes have bands {names[0]} and {names[1]}", cure="select the common ones"
        )
    return one, two.isel(band=[names[1].index(band) for band in names[0]])


def _matched(one: xr.DataArray, two: xr.DataArray) -> list[tuple[int, int]]:
    """Positions of the dates in both, by day and sensor."""
    keys = [
        _keys(array, by_sensor="sensor" in one.coords and "sensor" in two.coords)
        for array in (one, two)
    ]
    place = {key: j for j, key in enumerate(keys[1])}
    found = [(i, place[key]) for i, key in enumerate(keys[0]) if key in place]
    if not found:
        raise TimeAxisError(
            "the cubes have no solar day (of the same sensor) in common",
            cure="compare tiles of one pass",
        )
    return found


def _keys(array: xr.DataArray, *, by_sensor: bool) -> list[tuple[int, str, int]]:
    """Day, sensor, and number of the observation among these, for each date."""
    days: IntArray = axis.days_of(array)
    sensors: AnyArray = np.full(days.size, "")
    if by_sensor:
        sensors = read_coordinate(array, "sensor").astype(str)
    keys: list[Any] = [None] * days.size
    seen: dict[tuple[int, str], int] = {}
    for i in np.argsort(array["time"].values, kind="stable").tolist():
        key = (int(days[i]), str(sensors[i]))
        seen[key] = seen.get(key, -1) + 1
        keys[i] = (*key, seen[key])
    return keys


def _statistics(difference: xr.DataArray) -> xr.Dataset:
    place = ["y", "x"]
    units = {"units": str(difference.attrs.get("units", "1"))}
    size: xr.DataArray = abs(difference)
    result = xr.Dataset(
        {
            "n": difference.notnull().sum(place),
            "bias": mean_of_known(difference, place).assign_attrs(units),
            "mae": mean_of_known(size, place).assign_attrs(units),
            "rmse": (mean_of_known(difference.astype(np.float64) ** 2, place) ** 0.5).assign_attrs(
                units
            ),
            "largest": _largest(size, place).assign_attrs(units),
        }
    )
    return result.assign_attrs(overlap=[difference.sizes["y"], difference.sizes["x"]])


def _largest(size: xr.DataArray, dims: list[str]) -> xr.DataArray:
    """Largest known value; NaN if there is none (nanmax would warn)."""
    top = size.fillna(-1).max(dims)
    return top.where(top >= 0)
