"""Outliers along time: clouds and shadows that masks missed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from xharmonize.cube.companions import ResultFlag, blank_missing, companions_of, with_flags
from xharmonize.cube.contract import with_history
from xharmonize.cube.door import at_door
from xharmonize.errors import OptionError, TimeAxisError
from xharmonize.kernels import neighbours as kernels
from xharmonize.series import axis
from xharmonize.types import AnyArray, BoolArray

Direction: TypeAlias = Literal["both", "below", "above"]

SIGNS: dict[str, int] = {"both": 0, "below": -1, "above": 1}
MAX_ROUNDS = 5


@dataclass(frozen=True)
class _Rules:
    """Arguments of the kernel; `days` of the dates in their order in time, one date a day."""

    batches: tuple[tuple[int, ...], ...]
    days: tuple[int, ...]
    threshold: float
    min_departure: float
    max_gap: float
    direction: int
    has_band: bool

    def __call__(self, values: AnyArray) -> BoolArray:
        """Tell outliers of a block (time, [band], ...), the same for all bands of a look."""
        shape = values.shape
        series = np.ascontiguousarray(values.reshape(shape[0], -1), np.float32)
        found = np.zeros(series.shape, bool)
        judged: set[int] = set()
        for batch in self.batches:
            chosen = list(batch)
            spikes = kernels.spikes(
                np.ascontiguousarray(series[chosen]),
                np.array([self.days[i] for i in chosen], np.float64),
                self.threshold,
                self.min_departure,
                self.max_gap,
                self.direction,
                MAX_ROUNDS,
            )
            for i, is_spike in zip(chosen, spikes):
                if i not in judged:  # first looks are judged once, among first looks
                    found[i] = is_spike
            judged.update(chosen)
        result = found.reshape(shape)
        return result.any(axis=1, keepdims=True) & np.isfinite(values) if self.has_band else result


def screen_outliers(
    cube: xr.DataArray | xr.Dataset,
    *,
    threshold: float = 4.0,
    min_departure: float = 0.1,
    max_gap: float = 60.0,
    direction: Direction = "both",
    mask: bool = True,
) -> Any:
    """Find values that depart from their neighbours in time, and mask or flag them, lazily.

    A value is an outlier where it departs from the straight line between the valid values before
    and after it, on true day spacing, by more than `threshold` robust standard deviations (1.4826
    times the median absolute departure) of the pixel's series and by more than `min_departure`:
    the limit. It must also lie beyond both neighbours, by half the limit and half its departure,
    so that the shoulders of a step, such as a harvest, stay. Two values in a row are outliers
    where both lie beyond both of their neighbours by the limit, and these are at most 16 days
    apart and agree within half the limit. Found ones are taken out and the rest is looked at
    again, up to five times. A look that is an outlier in one band is one in all. Looks on one day
    are screened one after the other: each with the first looks of the other days.

    What falls and is back at the next look cannot be told from a cloud: of mown grass that is
    seen once while it is short, that look is lost.

    Parameters
    ----------
    cube : DataArray or Dataset
        Anything along `time`; NaN where missing. Dates in any order.
    threshold : float
        In robust standard deviations.
    min_departure : float
        In the unit of the values.
    max_gap : float
        Longest time [day] between the two neighbours; values in longer gaps, and the first and
        the last of a pixel, are not judged and stay.
    direction : {"both", "below", "above"}
        Which departures count: in NDVI, clouds lie ``below``.
    mask : bool
        True: outliers become NaN. False: values stay, and only the flag tells.

    Returns
    -------
    DataArray or Dataset
        A Dataset gets bit ``outlier`` in its companion `flag`, and `origin` 0 where a value was
        masked. Type out = type in, except that ``mask=False`` gives a Dataset.

    Raises
    ------
    TimeAxisError
        If there are fewer than 3 days.
    OptionError
        If an argument makes no sense.

    References
    ----------
    Leys et al. 2013 (median absolute deviation), doi:10.1016/j.jesp.2013.03.013.
    """
    cube = at_door(cube)
    _require_options(threshold, min_departure, max_gap, direction)
    name, values = axis.split_quantity(cube, what="screen_outliers")
    has_band = "band" in values.dims
    lead = ["time", "band"] if has_band else ["time"]
    whole = axis.whole_series(values.transpose(*lead, ...), whole=lead)
    days = axis.days_of(whole)
    rules = _Rules(
        batches=_batches(days),
        days=tuple(days.tolist()),
        threshold=float(threshold),
        min_departure=float(min_departure),
        max_gap=float(max_gap),
        direction=SIGNS[direction],
        has_band=has_band,
    )
    # Variables: xarray would compute lazy coordinates to compare those of two arrays.
    outlier = xr.Variable(whole.dims, _apply(rules, whole.data)).transpose(*values.dims)
    kept = (values.where(~outlier) if mask else values).rename(values.name)
    verb = "masked" if mask else "flagged"
    line = f"screen_outliers: {verb} beyond {threshold:g} robust standard deviations, {direction}"
    kept.attrs = with_history(values.attrs, line)
    if isinstance(cube, xr.DataArray) and mask:
        return kept
    given = cube if isinstance(cube, xr.Dataset) else xr.Dataset()
    return _with_flags(given, kept, outlier, name, mask=mask)


def _require_options(
    threshold: float, min_departure: float, max_gap: float, direction: str
) -> None:
    for what, value in (("threshold", threshold), ("max_gap", max_gap)):
        if not value > 0:
            raise OptionError(f"{what}={value}; give a number above 0")
    if not min_departure >= 0:
        raise OptionError(f"min_departure={min_departure}; give a number of 0 or more")
    if direction not in SIGNS:
        raise OptionError(f"direction={direction!r}; choose {', '.join(map(repr, SIGNS))}")


def _batches(days: Any) -> tuple[tuple[int, ...], ...]:
    """Dates in order of time with one look a day: the first looks, and again per further look."""
    order = np.argsort(days, kind="stable")
    looks: dict[int, list[int]] = {}
    for i in order.tolist():
        looks.setdefault(int(days[i]), []).append(i)
    if len(looks) < 3:
        raise TimeAxisError(f"screen_outliers needs at least 3 days, the cube has {len(looks)}")
    depth = max(len(found) for found in looks.values())
    return tuple(
        tuple(found[k] if k < len(found) else found[0] for found in looks.values())
        for k in range(depth)
    )


def _apply(rules: _Rules, data: Any) -> Any:
    if not isinstance(data, da.Array):
        return rules(np.asarray(data))
    return da.map_blocks(
        rules,
        data,
        dtype=bool,
        meta=np.empty((0,) * data.ndim, bool),
        name=f"screen-outliers-{tokenize(rules, data.name)}",
    )


def _with_flags(
    cube: xr.Dataset, values: xr.DataArray, outlier: xr.Variable, name: str, *, mask: bool
) -> xr.Dataset:
    """Return the values with the companions of the cube and the outlier bit."""
    bits = outlier.astype(np.uint8) * np.uint8(ResultFlag.OUTLIER)
    layers = {n: cube[n] for n in companions_of(cube)}
    layers["flag"] = with_flags(cube.get("flag"), values.copy(data=bits.data))
    if mask:
        layers = blank_missing(layers, values)
    return values.to_dataset(name=name).assign(layers).assign_attrs(cube.attrs)
