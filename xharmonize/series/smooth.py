"""Smoothing of time series: remove noise and fill gaps, on true day spacing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

import dask.array as da
import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.cube.companions import COMPANIONS, companions_of
from xharmonize.cube.contract import with_history
from xharmonize.cube.dates import duration_in_days
from xharmonize.cube.door import at_door
from xharmonize.errors import OptionError, TimeAxisError
from xharmonize.series import axis
from xharmonize.series.smoothers import (
    Harmonic,
    Layer,
    RadialBasis,
    SavitzkyGolay,
    Smoother,
    SmoothPlan,
    Whittaker,
    smooth_block,
)
from xharmonize.types import AnyArray, Duration

Cube = TypeVar("Cube", xr.DataArray, xr.Dataset)
SmoothMethod: TypeAlias = Literal["whittaker", "savgol", "harmonic", "rbf"]
SnowRule: TypeAlias = Literal["gap", "mask"]

METHODS: dict[str, Smoother] = {
    "whittaker": Whittaker(),
    "savgol": SavitzkyGolay(),
    "harmonic": Harmonic(),
    "rbf": RadialBasis(),
}
MIN_DAYS = 3


def smooth(
    cube: Cube,
    method: SmoothMethod | Whittaker | SavitzkyGolay | Harmonic | RadialBasis = "whittaker",
    *,
    step: Duration | None = None,
    max_gap: Duration = 60.0,
    envelope: float | None = None,
    snow: SnowRule = "gap",
    uncertainty: bool | None = None,
) -> Any:
    """Smooth each pixel's time series and fill its gaps, lazily.

    Dates may be in any order and count by day (the solar day if the cube is georeferenced, the UTC
    day otherwise). The actual spacing of days is used. Observations of one day are combined into
    their weighted mean. If the cube has a companion `uncertainty`, weights are inverse variances,
    scaled to a mean of 1 per pixel; values whose uncertainty is missing or not above 0 get weight
    1.

    Parameters
    ----------
    cube : DataArray or Dataset
        Any quantity along `time`: reflectance (time, band, y, x) [1], an index (time, y, x), or a
        series (time,); NaN where missing.
    method : {"whittaker", "savgol", "harmonic", "rbf"}, Whittaker, SavitzkyGolay, Harmonic or \
RadialBasis
        A name selects the method with its defaults.
    step : str or number, optional
        Output dates; the dates of the cube if None. ``"1D"`` or 1 gives every day. ``"10D"``,
        ``"dekad"``, ``"month"`` and ``"year"`` give noon UTC of the middle days of the periods of
        `composite`, from that of the first date to that of the last. A date common to several steps
        has the same value in each.
    max_gap : str or number
        Longest gap between two observations to fill, such as ``"60D"`` or 60 [day]. Values in
        longer gaps are NaN, and nothing is extrapolated.
    envelope : float, optional
        Weight of values above the curve, between 0.5 and 1; values below it get the remainder to 1.
        Iterated (asymmetric least squares); 0.9 follows the upper envelope. Works with any
        `method`.
    snow : {"gap", "mask"}
        Values flagged ``snow`` in the companion `qa` are never used. ``gap``: a gap that contains
        an observation of snow is not filled. ``mask``: it is filled, up to `max_gap`.
    uncertainty : bool, optional
        Whether to return `uncertainty`. By default it is returned if the cube has it and the method
        can estimate it. ``whittaker`` and ``savgol`` can; ``harmonic`` and ``rbf`` cannot, because
        they flatten what they cannot follow.

    Returns
    -------
    DataArray or Dataset
        float32, NaN in long gaps, outside a pixel's first and last observation, and where a pixel
        has fewer than 3 days. A DataArray is returned as a DataArray unless ``uncertainty=True``.

        A Dataset also has `origin`, that of the day's observations, with ``filled`` where nothing
        was observed. `uncertainty` is one standard deviation, from posterior variances (Wahba 1983)
        and the larger of the stated and the residual variance. It covers about .68 of simulated
        truths, but only .43 where errors of neighbouring dates are correlated by .6, as those of
        haze and of view angles are. On the cube's own dates other companions are unchanged; on
        other dates they are dropped. `sensor` and `platform` are those that observed on the day,
        ``unknown`` if none did.

    Raises
    ------
    TimeAxisError
        If there are fewer than 3 days.
    OptionError
        If an argument has an invalid value, such as an unknown `method`, or `uncertainty` is
        requested from a method that cannot estimate it.
    ModelError
        If the dates have different bandpasses.
    RadiometryError
        If the cube holds digital numbers.

    References
    ----------
    Eilers 2003, doi:10.1021/ac034173t. Wahba 1983, doi:10.1111/j.2517-6161.1983.tb01239.x.
    """
    cube = at_door(cube)
    smoother = _smoother(method)
    _require_options(envelope, snow)
    max_gap = duration_in_days(max_gap, argument="max_gap")
    step = None if step is None else axis.period_of(step, argument="step")
    name, values = axis.split_quantity(cube, what="smooth")
    axis.require_one_bandpass(values, what="smooth")
    is_dataset = isinstance(cube, xr.Dataset)
    has_error = is_dataset and "uncertainty" in cube
    with_error: bool = _with_error(smoother, has_error, uncertainty)
    plan = _plan(values, smoother, step=step, max_gap=max_gap, envelope=envelope, snow=snow)
    whole = axis.whole_series(values.transpose("time", ...))
    layers: list[Any] = [axis.companion(cube, n, whole) for n in ("uncertainty", "origin")]
    wanted: tuple[Layer, ...] = ("smooth",)
    if is_dataset or with_error:
        wanted += ("origin", *(("uncertainty",) if with_error else ()))
    stack = _apply(plan, whole, [*layers, axis.is_snow(cube, whole)], wanted)
    template = _template(whole, plan, step)
    order = list(values.dims)
    attrs = with_history(values.attrs, f"smooth: {smoother}, {_words(step, max_gap, envelope)}")
    smoothed = template.copy(data=stack[0]).rename(values.name).assign_attrs(attrs)
    if not is_dataset and not with_error:
        return smoothed.transpose(*order)
    result = smoothed.to_dataset(name=name)
    if with_error:
        result["uncertainty"] = template.copy(data=stack[2]).assign_attrs(
            COMPANIONS["uncertainty"].attrs, units=str(values.attrs.get("units", "1"))
        )
    origin = template.copy(data=stack[1].astype(np.uint8))
    result["origin"] = origin.assign_attrs(COMPANIONS["origin"].attrs)
    if is_dataset and step is None:
        kept = [n for n in companions_of(cube) if COMPANIONS[n].over_bands is not None]
        result = result.assign({n: cube[n] for n in kept if n not in result})
    return result.transpose(*order).assign_attrs(cube.attrs if is_dataset else {})


def _smoother(method: Any) -> Smoother:
    if isinstance(method, Whittaker | SavitzkyGolay | Harmonic | RadialBasis):
        return method
    if method not in METHODS:
        raise OptionError(
            f"smoothing method {method!r} is unknown",
            cure=f"choose {', '.join(map(repr, METHODS))}, or "
            "give one with its options, such as xh.series.Whittaker(penalty=1e4)",
        )
    return METHODS[method]


def _require_options(envelope: float | None, snow: str) -> None:
    if envelope is not None and not 0.5 < envelope < 1:
        raise OptionError(
            cure="give the weight of values above the curve, between 0.5 and 1",
            argument="envelope",
            value=envelope,
        )
    if snow not in ("gap", "mask"):
        raise OptionError("", cure="choose 'gap' or 'mask'", argument="snow", value=snow)


def _with_error(smoother: Smoother, has_error: bool, wanted: bool | None) -> bool:
    """Whether the result has an uncertainty, which not every method can estimate."""
    is_known = isinstance(smoother, Whittaker | SavitzkyGolay)
    if wanted and not is_known:
        raise OptionError(
            f"uncertainty=True, but {smoother} tells none: what it cannot follow is missing from "
            "any standard deviation of it",
            cure="leave uncertainty out, or smooth by 'whittaker'",
        )
    return is_known and (has_error if wanted is None else wanted)


def _words(step: str | None, max_gap: float, envelope: float | None) -> str:
    words = [f"every {step}" if step else "on the observed dates", f"max_gap={max_gap:g} days"]
    return ", ".join(words + ([f"envelope={envelope:g}"] if envelope is not None else []))


def _plan(
    values: xr.DataArray,
    smoother: Smoother,
    *,
    step: str | None,
    max_gap: float,
    envelope: float | None,
    snow: str,
) -> SmoothPlan:
    """Choose the nodes: the observed days and the output days, in order.

    Whittaker's penalty is a sum over nodes. With a node on every day, the value of a day does not
    depend on which days are requested.
    """
    dates = axis.days_of(values)
    days, day_of = np.unique(dates, return_inverse=True)
    if days.size < MIN_DAYS:
        raise TimeAxisError(
            f"smooth needs at least {MIN_DAYS} days, the cube has {days.size} "
            f"({values['time'].values.min()} …)",
            cure="merge more dates with xh.densify first",
        )
    wanted = dates if step is None else axis.middles_of(days, step)
    between = np.arange(days[0], days[-1] + 1) if isinstance(smoother, Whittaker) else days
    nodes = np.union1d(between, wanted)
    return SmoothPlan(
        smoother=smoother,
        day_of=tuple(day_of.tolist()),
        node_of=tuple(np.searchsorted(nodes, days).tolist()),
        nodes=tuple(nodes.tolist()),
        wanted=tuple(np.searchsorted(nodes, wanted).tolist()),
        max_gap=float(max_gap),
        envelope=envelope,
        is_snow_barrier=snow == "gap",
        is_per_observation=step is None,
    )


def _template(values: xr.DataArray, plan: SmoothPlan, step: str | None) -> xr.DataArray:
    """Empty array with the coordinates of the result."""
    if step is None:
        return values
    times = axis.to_times(np.array(plan.nodes)[list(plan.wanted)])
    everything = [np.arange(values.sizes["time"])] * times.size
    coords = axis.merged_coords(values, everything, times, what="smooth")
    # A day lists only the sensors that observed on it.
    observations = [np.flatnonzero(np.array(plan.day_of) == k) for k in _days_of_wanted(plan)]
    seen = axis.merged_coords(values, observations, times, what="smooth")
    coords |= {n: seen[n] for n in ("sensor", "platform") if n in seen}
    data = da.empty((times.size, *values.shape[1:]), dtype=np.float32)
    blank = xr.DataArray(data, dims=values.dims, coords=axis.without_time(values))
    return blank.assign_coords(coords)


def _days_of_wanted(plan: SmoothPlan) -> list[int]:
    """Index of the observed day of each output date, -1 if there is none."""
    number = {node: k for k, node in enumerate(plan.node_of)}
    return [number.get(node, -1) for node in plan.wanted]


@dataclass(frozen=True)
class _Block:
    """Smooths a block of pixels; `has` tells which companion layers are present."""

    plan: SmoothPlan
    has: tuple[bool, ...]
    wanted: tuple[Layer, ...]

    def __call__(self, values: AnyArray, *given: AnyArray) -> AnyArray:
        rest = iter(given)
        uncertainty, origin, snow = (next(rest) if has else None for has in self.has)
        return smooth_block(values, uncertainty, origin, snow, plan=self.plan, layers=self.wanted)


def _apply(
    plan: SmoothPlan, values: xr.DataArray, layers: list[Any], wanted: tuple[Layer, ...]
) -> Any:
    """Stack (layer, time, ...) of the requested layers."""
    block = _Block(plan, tuple(layer is not None for layer in layers), wanted)
    data = [values.data, *(layer for layer in layers if layer is not None)]
    return map_blocks(
        block,
        ",".join(["t..."] * len(data)) + "->lt...",
        *data,
        new={"l": len(wanted)},
        sizes={"t": len(plan.wanted)},
        whole="t",
        dtype=np.float32,
        name="smooth",
    )
