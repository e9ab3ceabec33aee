"""Statistics as Datasets: what they hold, and how parts merge into a whole."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce
from string import ascii_letters
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import map_blocks
from xharmonize.errors import BandError, MetricError
from xharmonize.kernels import angles
from xharmonize.kernels import statistics as kernels
from xharmonize.metrics.inputs import BAND

VERSION = 1
VERSION_ATTR = "statistics_version"
FIELDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "moments": ("moment", kernels.MOMENTS),
    "angles": ("angle_sum", angles.ANGLE_SUMS),
    "baseline_errors": ("error_sum", kernels.ERROR_SUMS),
    "windows": ("window_sum", ("n", "sum")),
}
"""Last dimension of each kind of statistics, and its labels."""


def kind_of(name: str) -> str:
    """Kind of a variable of statistics: its name, or what an index or a metric's name precedes."""
    return next(kind for kind in FIELDS if name == kind or name.endswith(f"_{kind}"))


def require_statistics(found: xr.Dataset) -> None:
    """Raise `MetricError` unless a Dataset holds statistics of this version."""
    version = found.attrs.get(VERSION_ATTR) if isinstance(found, xr.Dataset) else None
    if version is None:
        raise MetricError(
            "this is no Dataset of statistics (attribute 'statistics_version' is missing); make "
            "one with cube.harmonize.statistics(reference)"
        )
    if int(version) != VERSION:
        raise MetricError(
            f"the statistics have version {version}, this xharmonize reads {VERSION}; make them "
            "again from the cubes"
        )


def merge_statistics(*parts: xr.Dataset) -> xr.Dataset:
    """Merge statistics of other areas, dates, workers or runs into those of the whole.

    Labels that only one part has (dates that are kept, groups) are taken as they are; what several
    have is merged. The parts must not share pixels: what is in two of them counts twice. Windows
    across the border of two areas are in neither.

    Parameters
    ----------
    *parts : Dataset
        From `statistics`, or read from a file; at least one.

    Returns
    -------
    Dataset
        Lazy where a part is.

    Raises
    ------
    MetricError
        If the parts differ in what they hold, in units, in dimensions or in the settings of
        windows.
    BandError
        If their bands differ.
    """
    if not parts:
        raise MetricError("merge_statistics needs at least one Dataset of statistics")
    for part in parts:
        require_statistics(part)
        _require_alike(parts[0], part)
    return reduce(_merge_two, parts)


def _require_alike(first: xr.Dataset, second: xr.Dataset) -> None:
    if set(first.data_vars) != set(second.data_vars):
        raise MetricError(
            f"the statistics hold different things: {sorted(map(str, first.data_vars))} and "
            f"{sorted(map(str, second.data_vars))}; make them for the same metrics"
        )
    if first.attrs.get("units") != second.attrs.get("units"):
        raise MetricError(
            f"the statistics are in units of {first.attrs.get('units')!r} and "
            f"{second.attrs.get('units')!r}"
        )
    for name in first.data_vars:
        one, other = first[name], second[name]
        if set(one.dims) != set(other.dims):
            raise MetricError(f"{name!r} has dimensions {one.dims} and {other.dims}")
        if one.attrs != other.attrs:
            raise MetricError(f"{name!r} was made with other settings: {one.attrs}, {other.attrs}")
    if BAND in first.dims and list(first[BAND].values) != list(second[BAND].values):
        raise BandError(
            f"the statistics have different bands: {first[BAND].values.tolist()} and "
            f"{second[BAND].values.tolist()}"
        )


def _merge_two(first: xr.Dataset, second: xr.Dataset) -> xr.Dataset:
    fixed = [BAND, *(core for core, _ in FIELDS.values())]
    described = [
        part.drop_vars([str(n) for n in part.coords if n not in part.dims])
        for part in (first, second)
    ]
    one, other = xr.align(*described, join="outer", fill_value=0.0, exclude=fixed)
    merged = {}
    for name, variable in one.data_vars.items():
        both = xr.concat([variable, other[name]], "part", join="override", coords="minimal")
        merged[name] = merge_over(both.variable, ("part",))
    whole = xr.Dataset(merged, coords=one.coords, attrs=first.attrs)
    for name in merged:
        whole[name].attrs = first[name].attrs
    return whole.assign_coords(_joined_coords(first, second))


def _joined_coords(first: xr.Dataset, second: xr.Dataset) -> dict[str, xr.DataArray]:
    """Coordinates that lie along dimensions without naming them (the sensor of each date)."""
    sides = [
        part[[n for n in part.coords if n not in part.dims]].reset_coords()
        for part in (first, second)
    ]
    names = set(sides[0].data_vars) & set(sides[1].data_vars)
    joined = {}
    for name in sorted(map(str, names)):
        both = sides[0][name].combine_first(sides[1][name])
        is_text = both.dtype == object
        joined[name] = both.astype(str) if is_text else both
        joined[name].attrs = sides[0][name].attrs
    return joined


def merge_over(variable: xr.Variable, dims: Sequence[str]) -> xr.Variable:
    """Merge a variable of statistics along dimensions, lazily where it is lazy."""
    core = str(variable.dims[-1])
    is_moments = core == FIELDS["moments"][0]
    axes = tuple(variable.dims.index(d) for d in dims)
    rest = tuple(d for d in variable.dims if d not in dims)
    if not axes:
        return variable
    letters = ascii_letters[: variable.ndim]
    merged = map_blocks(
        partial(_merge_axes, axes=axes, is_moments=is_moments),
        f"{letters}->{''.join(d for axis, d in enumerate(letters) if axis not in axes)}",
        variable.data,
        whole=letters[-1],
        dtype=np.float64,
        name="score-merge",
    )
    return xr.Variable(rest, merged, attrs=variable.attrs)


def _merge_axes(data: Any, *, axes: tuple[int, ...], is_moments: bool) -> Any:
    return kernels.merge_moments(data, axes) if is_moments else np.asarray(data).sum(axis=axes)
