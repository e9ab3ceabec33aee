"""Statistics of blocks, of whole cubes as a graph of blocks, and how to merge them.

The table has a row of eleven numbers for each band's moments, each index's moments, each band's
errors beside a baseline, and for the spectral angle; rows with fewer fields end in zeros. One task
reads a block once and fills all rows that are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from string import ascii_letters, ascii_lowercase
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import is_lazy, map_blocks, with_margin
from xharmonize.errors import BandError, MetricError
from xharmonize.kernels import statistics, windows
from xharmonize.kernels import statistics as kernels
from xharmonize.kernels.reflectance import RatioTerms, ratio_index
from xharmonize.kernels.statistics import merge_rows
from xharmonize.metrics.inputs import BAND
from xharmonize.types import AnyArray, BoolArray, Float64Array, IntArray

VERSION = 1
VERSION_ATTR = "statistics_version"
FIELDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "moments": ("moment", kernels.MOMENTS),
    "angles": ("angle_sum", statistics.ANGLE_SUMS),
    "baseline_errors": ("error_sum", kernels.ERROR_SUMS),
    "windows": ("window_sum", ("n", "sum")),
}
"""Last dimension of each kind of statistics, and its labels."""


def kind_of(name: str) -> str:
    """Kind of a variable of statistics: its name without the prefix of an index or a metric."""
    return next(kind for kind in FIELDS if name == kind or name.endswith(f"_{kind}"))


def require_statistics(found: xr.Dataset) -> None:
    """Raise `MetricError` unless a Dataset holds statistics of this version."""
    version = found.attrs.get(VERSION_ATTR) if isinstance(found, xr.Dataset) else None
    if version is None:
        raise MetricError(
            "this is no Dataset of statistics (attribute 'statistics_version' is missing)",
            cure="make one with cube.harmonize.statistics(reference)",
        )
    if int(version) != VERSION:
        raise MetricError(
            f"the statistics have version {version}, this xharmonize reads {VERSION}",
            cure="make them again from the cubes",
        )


def merge_statistics(*parts: xr.Dataset) -> xr.Dataset:
    """Merge statistics of several areas, dates, workers or runs, lazily.

    Labels that only one part has (kept dates, groups) are copied; those of several parts are
    merged. The parts must not share pixels, because pixels in two parts count twice. Windows that
    cross the border between two areas are in neither.

    Parameters
    ----------
    *parts : Dataset
        Statistics from `statistics`, or read from a file; at least one.

    Returns
    -------
    Dataset
        Merged statistics, lazy if a part is.

    Raises
    ------
    MetricError
        If the parts differ in their variables, units, dimensions or window settings.
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
            f"{sorted(map(str, second.data_vars))}",
            cure="make them for the same metrics",
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
    """Coordinates along dimensions that are not dimension coordinates (the sensor of each date)."""
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
    """Merge a variable of statistics along dimensions, lazily if it is lazy."""
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


@dataclass(frozen=True, kw_only=True)
class IndexRow:
    """An index whose agreement is measured: positions of its bands, and its coefficients."""

    name: str
    positions: tuple[int, ...]
    terms: RatioTerms


@dataclass(frozen=True, kw_only=True)
class Table:
    """The rows of a table of statistics."""

    n_bands: int
    moments: bool = False
    angles: bool = False
    errors: bool = False
    indices: tuple[IndexRow, ...] = ()

    @property
    def rows(self) -> tuple[tuple[str, int, int], ...]:
        """Name, number of rows and number of fields of each part, in order."""
        parts = [("moments", self.n_bands, kernels.N_FIELDS)] * self.moments
        parts += [(f"{row.name}_moments", 1, kernels.N_FIELDS) for row in self.indices]
        parts += [("baseline_errors", self.n_bands, len(kernels.ERROR_SUMS))] * self.errors
        parts += [("angles", 1, len(statistics.ANGLE_SUMS))] * self.angles
        return tuple(parts)

    @property
    def is_moments(self) -> BoolArray:
        """Which rows hold moments, (row,)."""
        return np.repeat(
            [name.endswith("moments") for name, _, _ in self.rows], [n for _, n, _ in self.rows]
        )


@dataclass(frozen=True, kw_only=True)
class Window:
    """Windows of one metric; a table of them has a row (count, sum) per band."""

    weights: str
    size: int
    sigma: float
    c1: float
    c2: float
    min_valid: float


@dataclass(frozen=True, kw_only=True)
class StatisticsPlan:
    """How to read a block.

    Attributes
    ----------
    dims : tuple of str
        Dimensions of the blocks.
    reduced : tuple of str
        Dimensions that are reduced.
    code_dims : tuple of str, optional
        Dimensions of the groups' codes, a subset of `dims` in their order; None without groups.
    n_groups : int
        Number of groups.
    tail : tuple of str
        Dimensions along which a kernel runs. All others except the band are the `lead`, whose
        cells each have their own row.
    """

    dims: tuple[str, ...]
    reduced: tuple[str, ...]
    code_dims: tuple[str, ...] | None
    n_groups: int
    tail: tuple[str, ...]

    @property
    def lead(self) -> tuple[str, ...]:
        """All dimensions except the band and the tail."""
        return tuple(d for d in self.dims if d != "band" and d not in self.tail)

    def stacked(self, array: AnyArray) -> AnyArray:
        """Bring a block into the order (lead, band, tail), as a view if possible."""
        order = [*self.lead, *(d for d in self.dims if d == "band"), *self.tail]
        moved = np.transpose(array, [self.dims.index(d) for d in order])
        if "band" not in self.dims:
            moved = np.expand_dims(moved, len(self.lead))
        if moved.dtype not in (np.float32, np.float64):
            moved = moved.astype(np.float64 if moved.dtype.itemsize > 4 else np.float32)
        return moved

    def codes(self, codes: AnyArray | None, shape: Sequence[int]) -> IntArray:
        """Codes as (1 or lead, *tail) or, if they do not vary along the tail, (…, 1, …)."""
        n_lead = len(self.lead)
        if codes is None or self.code_dims is None:
            return np.zeros((1,) * (1 + len(self.tail)), np.int32)
        order = [d for d in (*self.lead, *self.tail) if d in self.code_dims]
        moved = np.transpose(codes, [self.code_dims.index(d) for d in order])
        sizes = [n if d in order else 1 for d, n in zip((*self.lead, *self.tail), shape)]
        spread = moved.reshape(sizes)
        if any(d in order for d in self.tail):
            spread = np.broadcast_to(spread, (*sizes[:n_lead], *shape[n_lead:]))
            sizes[n_lead:] = shape[n_lead:]
        if any(d in order for d in self.lead):
            spread = np.broadcast_to(spread, (*shape[:n_lead], *sizes[n_lead:]))
        flat = spread.reshape(int(np.prod(spread.shape[:n_lead], dtype=int)), *sizes[n_lead:])
        return np.ascontiguousarray(flat)

    @property
    def kept(self) -> tuple[str, ...]:
        """Dimensions of the result, besides group, row and field."""
        return tuple(d for d in self.dims if d not in self.reduced and d != "band")

    def unstacked(
        self, found: Float64Array, lead: Sequence[int], is_moments: BoolArray
    ) -> AnyArray:
        """Merge tables (lead, group, row, field) and put them in the order of the dimensions.

        Reduced dimensions and the band have length one in the result.
        """
        whole = found.reshape(*lead, *found.shape[1:])
        axes = [i for i, d in enumerate(self.lead) if d in self.reduced and lead[i] != 1]
        if axes:
            whole = np.expand_dims(kernels.merge_rows(whole, axes, is_moments), axes)
        names = list(self.lead)
        for dim in self.dims:
            if dim not in names:
                whole, names = np.expand_dims(whole, len(names)), [*names, dim]
        order = [names.index(d) for d in self.dims]
        return np.transpose(whole, [*order, *range(len(order), whole.ndim)])


def pixel_block(
    pred: AnyArray, ref: AnyArray, *others: AnyArray, plan: StatisticsPlan, table: Table
) -> Float64Array:
    """Return the table of a block.

    Parameters
    ----------
    pred, ref : block with the dimensions of the plan
        Reflectance [1]; NaN where missing.
    *others : arrays
        The baseline if the table has its errors, then the codes if there are groups.

    Returns
    -------
    float64 array
        The dimensions of the plan (reduced ones and band of length 1), group, row, field.
    """
    rest = list(others)
    x, y = plan.stacked(pred), plan.stacked(ref)
    n_lead = len(plan.lead)
    lead, tail = x.shape[:n_lead], x.shape[n_lead + 1 :]
    shape = (int(np.prod(lead, dtype=int)), x.shape[n_lead], int(np.prod(tail, dtype=int)))
    x, y = x.reshape(shape), y.reshape(shape)
    z = plan.stacked(rest.pop(0)).reshape(shape) if table.errors else None
    codes = plan.codes(rest.pop(0) if rest else None, (*lead, *tail))
    codes = codes.reshape(codes.shape[0], -1)
    found = _rows(x, y, z, codes, plan.n_groups, table)
    return np.asarray(plan.unstacked(found, lead, table.is_moments))


def _rows(
    x: AnyArray, y: AnyArray, z: AnyArray | None, codes: IntArray, n_groups: int, table: Table
) -> Float64Array:
    """Fill the table (lead, group, row, field)."""
    parts = []
    if table.moments:
        parts.append(_moments(x, y, codes, n_groups))
    for row in table.indices:
        values = [ratio_index([a[:, p] for p in row.positions], row.terms)[:, None] for a in (x, y)]
        parts.append(_moments(values[0], values[1], codes, n_groups))
    if z is not None:
        parts.append(kernels.baseline_errors(x, y, z, codes, n_groups))
    if table.angles:
        parts.append(statistics.spectral_angles(x, y, codes, n_groups)[:, :, None])
    width = kernels.N_FIELDS
    wide = [np.pad(p, [(0, 0)] * 3 + [(0, width - p.shape[3])]) for p in parts]
    return wide[0] if len(wide) == 1 else np.concatenate(wide, axis=2)


def _moments(x: AnyArray, y: AnyArray, codes: IntArray, n_groups: int) -> Float64Array:
    """Moments (lead, group, band, 11); faster if each lead cell lies in one group."""
    if codes.shape[1] != 1:
        return np.asarray(kernels.grouped_moments(x, y, codes, n_groups))
    found = kernels.band_moments(x, y)
    if n_groups == 1 and not codes.any():
        return np.asarray(found[:, None])
    group = np.broadcast_to(codes[:, 0], (len(found),))
    total = np.zeros((len(found), n_groups, *found.shape[1:]))
    chosen = np.flatnonzero(group >= 0)
    total[chosen, group[chosen]] = found[chosen]
    return total


def window_block(
    pred: AnyArray, ref: AnyArray, *others: AnyArray, plan: StatisticsPlan, window: Window
) -> Float64Array:
    """Return counts of windows and sums of their index in a block with its margin.

    Parameters
    ----------
    pred, ref : block with the dimensions of the plan
        Reflectance [1], with as many rows and columns of the next block as a window needs.
    *others : arrays
        The codes if there are groups, with the same margin.

    Returns
    -------
    float64 array
        The dimensions of the plan (reduced ones and band of length 1), group, band, (count, sum).
    """
    x, y = plan.stacked(pred), plan.stacked(ref)
    n_lead = len(plan.lead)
    lead, n_bands, tail = x.shape[:n_lead], x.shape[n_lead], x.shape[n_lead + 1 :]
    codes = plan.codes(others[0] if others else None, (*lead, *tail))
    if len(codes) > 1:
        codes = np.repeat(codes, n_bands, axis=0)
    x, y = (np.ascontiguousarray(a).reshape(-1, *tail) for a in (x, y))
    limits = (window.c1, window.c2, window.min_valid)
    if window.weights == "gaussian":
        taps = windows.gaussian_taps(window.size, window.sigma)
        found = windows.gaussian_windows(x, y, codes, plan.n_groups, taps, *limits)
    else:
        found = windows.uniform_windows(x, y, codes, plan.n_groups, window.size, *limits)
    n_cells = int(np.prod(lead, dtype=int))
    cells = found.reshape(n_cells, n_bands, plan.n_groups, 2).swapaxes(1, 2)
    return np.asarray(plan.unstacked(cells, lead, np.zeros(n_bands, bool)))


Block = Callable[..., Float64Array]


def tabulate(
    arrays: Sequence[xr.DataArray], codes: xr.DataArray | None, plan: StatisticsPlan, table: Table
) -> Any:
    """Return a table of statistics, lazily if the cubes are lazy.

    Parameters
    ----------
    arrays : sequence of DataArray
        Prediction, reference and, for baseline errors, the baseline; aligned.
    codes : DataArray, optional
        Group of each pixel, see `xharmonize.metrics.inputs.Groups`.

    Returns
    -------
    float64 array
        Kept dimensions, group, row, field.
    """
    block = partial(pixel_block, plan=plan, table=table)
    data = [array.data for array in arrays]
    groups = [] if codes is None else [codes.data]
    shape = (table.is_moments.size, 11)
    return _merged(_blocks(block, data, groups, plan, shape, "score"), plan, table.is_moments)


def tabulate_windows(
    arrays: Sequence[xr.DataArray], codes: xr.DataArray | None, plan: StatisticsPlan, window: Window
) -> Any:
    """Return counts of windows and sums of their index, lazily if the cubes are lazy.

    Returns
    -------
    float64 array
        Kept dimensions, group, band, (count, sum).
    """
    block = partial(window_block, plan=plan, window=window)
    data = [array.data for array in arrays]
    groups = [] if codes is None else [codes.data]
    margin = window.size - 1
    data = [_with_margin(array, plan.dims, margin) for array in data]
    groups = [_with_margin(array, plan.code_dims or (), margin) for array in groups]
    n_bands = data[0].shape[plan.dims.index("band")] if "band" in plan.dims else 1
    found = _blocks(block, data, groups, plan, (n_bands, 2), "score-windows")
    return _merged(found, plan, np.zeros(n_bands, bool))


def _with_margin(array: Any, dims: Sequence[str], margin: int) -> Any:
    """Extend each block by the following rows and columns that its windows reach.

    A window belongs to the block of its first pixel, so that each is counted once for any chunks.
    Blocks narrower than the margin are joined first.
    """
    return with_margin(array, {dims.index(d): (0, margin) for d in ("y", "x") if d in dims})


def _blocks(
    block: Block,
    data: Sequence[Any],
    groups: Sequence[Any],
    plan: StatisticsPlan,
    shape: tuple[int, int],
    name: str,
) -> Any:
    """One table per block: the dimensions of the plan, group, row, field."""
    letters = dict(zip(plan.dims, ascii_lowercase))
    cube = "".join(letters.values())
    codes = "".join(letters[d] for d in plan.code_dims or ())
    return map_blocks(
        block,
        f"{','.join([cube] * len(data) + [codes] * len(groups))}->{cube}GRF",
        *data,
        *groups,
        new={"G": plan.n_groups, "R": shape[0], "F": shape[1]},
        sizes={letters[d]: 1 for d in plan.dims if d not in plan.kept},
        dtype=np.float64,
        name=name,
    )


def _merged(tables: Any, plan: StatisticsPlan, is_moments: BoolArray) -> Any:
    """Merge the tables of blocks along the reduced dimensions, a few at a time."""
    axes = tuple(i for i, d in enumerate(plan.dims) if d not in plan.kept)
    if not is_lazy(tables):  # one block
        return tables[tuple(slice(None) if d in plan.kept else 0 for d in plan.dims)]
    if not axes:
        return tables
    merge = partial(_merge, is_moments=is_moments)
    return da.reduction(
        tables,
        chunk=_pass,
        combine=merge,
        aggregate=merge,
        axis=axes,
        dtype=np.float64,
        name="score-merge",
        meta=np.empty((0,) * (tables.ndim - len(axes))),
    )


def _pass(tables: AnyArray, axis: Any, keepdims: bool) -> AnyArray:  # noqa: ARG001
    """Return the block, which already is one table."""
    return tables


def _merge(
    tables: AnyArray, axis: tuple[int, ...], keepdims: bool, is_moments: BoolArray
) -> AnyArray:
    found = merge_rows(tables, axis, is_moments)
    return np.expand_dims(found, axis) if keepdims else found
