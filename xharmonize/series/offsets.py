"""The step that is left between sensors in a merged series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from xharmonize.cube.contract import read_coordinate
from xharmonize.cube.door import at_door
from xharmonize.errors import OptionError, TimeAxisError, UnknownSensorError
from xharmonize.kernels import neighbours as kernels
from xharmonize.sensors import Names, get_sensor
from xharmonize.series import axis
from xharmonize.series.means import deviation_of_known, mean_of_known
from xharmonize.series.observed import is_smoothed, known_sensors
from xharmonize.types import AnyArray, FloatArray, IntArray


@dataclass(frozen=True)
class _Comparison:
    """Dates of one sensor, and of another that is interpolated to their days."""

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
    max_gap: float = 16.0,
    min_valid: float = 0.1,
) -> xr.Dataset:
    """Measure the step between sensors from looks near in time, lazily.

    At each look of the sensor with fewer dates, the other is interpolated between its valid looks
    before and after (its own of that day, where there is one), pixel by pixel on true day
    spacing. What is left is averaged over the pixels, and then over the dates, which weigh the
    same: errors of one date (haze, view) are shared by its pixels, so that dates, not pixels, are
    what is independent. Looks merged of several sensors are left out.

    Parameters
    ----------
    cube : DataArray or Dataset
        A merged series, such as from `densify`, or a plain one of several bandpasses, along
        `time` with the coordinate `sensor`; NaN where missing. Dates in any order.
    reference : str, optional
        Sensor the others are compared with; if None, the one whose own bandpass the values
        follow, or else the first by name.
    max_gap : float
        Longest time [day] between the two looks that are interpolated between.
    min_valid : float
        Least share of pixels with a difference for a date to count.

    Returns
    -------
    Dataset
        Along ``sensor`` (all but the reference) and `band`, where there are bands: `offset`, the
        mean of sensor minus reference in the unit of the values; `standard_error`, of that mean,
        from the spread between dates (NaN below 2 dates); `spread`, standard deviation between
        dates; `n_dates`. Along ``time`` as well: `difference`, the mean of each date compared (NaN
        where none), and `n`, its number of pixels. Subtract `offset` to remove the step.

    Raises
    ------
    ContractError
        If the cube does not say which sensor its dates are from.
    TimeAxisError
        If it holds one sensor only, or not the reference, or was smoothed.
    OptionError
        If `max_gap` or `min_valid` has a value it cannot have.
    """
    cube = at_door(cube)
    if not max_gap > 0 or not 0 <= min_valid <= 1:
        raise OptionError(
            f"max_gap={max_gap}, min_valid={min_valid}; give days above 0 and a share from 0 to 1"
        )
    _, values = axis.split_quantity(cube, what="sensor_offsets")
    if is_smoothed(cube):
        raise TimeAxisError(
            "sensor_offsets compares observations, and the series was smoothed over the step; "
            "measure it before that"
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
            f"sensor_offsets compares sensors, the series holds {names}; merge another one with "
            "xh.densify(..., duplicates='keep')"
        )
    if wanted is not None:
        if wanted not in names:
            raise TimeAxisError(f"the series holds no {wanted!r}; it has {names}")
        return wanted
    return next((name for name in names if _is_own_bandpass(values, sensors == name)), names[0])


def _names(sensors: AnyArray) -> list[str]:
    """Sensors by name, without looks merged of several and dates that nobody saw."""
    return known_sensors(sensors[[len(Names.of(name)) == 1 for name in sensors]])


def _is_own_bandpass(values: xr.DataArray, dates: AnyArray) -> bool:
    """Whether a sensor's dates follow its own bandpass, which is the bandpass of all dates."""
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
    """Mean difference and number of pixels of each date; NaN where not compared."""
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
    data = _apply(comparison, values.data, sparse.size)
    axes = {dim: values[dim].variable for dim in ("band",) if dim in values.coords}
    difference = xr.DataArray(data, dims=values.dims, coords={**axes, "time": sparse})
    place = [dim for dim in ("y", "x") if dim in values.dims]
    part = xr.Dataset(
        {
            "difference": mean_of_known(difference, place),
            "n": difference.notnull().sum(place),
        }
    )
    # By position until here: two looks may share a time.
    places = part.reindex(time=np.arange(days.size))
    return places.assign(n=places["n"].fillna(0).astype(np.int64)).assign_coords(
        time=values["time"].values
    )


def _in_order(dates: IntArray, days: IntArray) -> IntArray:
    return dates[np.argsort(days[dates], kind="stable")]


def _apply(comparison: _Comparison, data: Any, n_dates: int) -> Any:
    if not isinstance(data, da.Array):
        return comparison(np.asarray(data))
    return da.map_blocks(
        comparison,
        data,
        chunks=((n_dates,), *data.chunks[1:]),
        dtype=np.float32,
        meta=np.empty((0,) * data.ndim, np.float32),
        name=f"sensor-offsets-{tokenize(comparison, data.name)}",
    )


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
