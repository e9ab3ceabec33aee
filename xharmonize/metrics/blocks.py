"""Statistics of one block: a table per cell of kept dimensions and group.

The table has a row of eleven numbers for each band's moments, each index's moments, each band's
errors beside a baseline, and for the spectral angle; rows with fewer fields end in zeros. One task
reads a block once and fills all rows that are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xharmonize.kernels import angles, windows
from xharmonize.kernels import statistics as kernels
from xharmonize.kernels.indices import RatioTerms, ratio_index
from xharmonize.types import AnyArray, BoolArray, Float64Array, IntArray


@dataclass(frozen=True, kw_only=True)
class IndexRow:
    """An index of which the agreement is measured: its bands by position, and its coefficients."""

    name: str
    positions: tuple[int, ...]
    terms: RatioTerms


@dataclass(frozen=True, kw_only=True)
class Table:
    """Which rows a table of statistics has."""

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
        parts += [("angles", 1, len(angles.ANGLE_SUMS))] * self.angles
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

    kind: str
    size: int
    sigma: float
    c1: float
    c2: float
    min_valid: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a block is read.

    Attributes
    ----------
    dims : tuple of str
        Dimensions of the blocks.
    reduced : tuple of str
        Those that are reduced over.
    code_dims : tuple of str, optional
        Dimensions of the groups' codes, a part of `dims` in their order; None without groups.
    n_groups : int
        Number of groups.
    tail : tuple of str
        Dimensions along which a kernel runs. All others but the band are the `lead`: each of
        their cells has a row of its own.
    """

    dims: tuple[str, ...]
    reduced: tuple[str, ...]
    code_dims: tuple[str, ...] | None
    n_groups: int
    tail: tuple[str, ...]

    @property
    def lead(self) -> tuple[str, ...]:
        """Dimensions but the band and the tail."""
        return tuple(d for d in self.dims if d != "band" and d not in self.tail)

    def stacked(self, array: AnyArray) -> AnyArray:
        """Bring a block into the order (lead, band, tail); a view of it where that will do."""
        order = [*self.lead, *(d for d in self.dims if d == "band"), *self.tail]
        moved = np.transpose(array, [self.dims.index(d) for d in order])
        if "band" not in self.dims:
            moved = np.expand_dims(moved, len(self.lead))
        if moved.dtype not in (np.float32, np.float64):
            moved = moved.astype(np.float64 if moved.dtype.itemsize > 4 else np.float32)
        return moved

    def codes(self, codes: AnyArray | None, shape: Sequence[int]) -> IntArray:
        """Codes as (1 or lead, *tail) or, where they do not vary along the tail, (…, 1, …)."""
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
        """Dimensions of the result, beside group, row and field."""
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
    pred: AnyArray, ref: AnyArray, *others: AnyArray, plan: Plan, table: Table
) -> Float64Array:
    """Return the table of a block.

    Parameters
    ----------
    pred, ref : block with the dimensions of the plan
        Reflectance [1]; NaN marks a missing pixel.
    *others : arrays
        The baseline where the table has its errors, then the codes where there are groups.

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
        parts.append(angles.spectral_angles(x, y, codes, n_groups)[:, :, None])
    width = kernels.N_FIELDS
    wide = [np.pad(p, [(0, 0)] * 3 + [(0, width - p.shape[3])]) for p in parts]
    return wide[0] if len(wide) == 1 else np.concatenate(wide, axis=2)


def _moments(x: AnyArray, y: AnyArray, codes: IntArray, n_groups: int) -> Float64Array:
    """Moments (lead, group, band, 11), the fast way where a lead cell lies in one group."""
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
    pred: AnyArray, ref: AnyArray, *others: AnyArray, plan: Plan, window: Window
) -> Float64Array:
    """Return counts of windows and sums of their index in a block with its margin.

    Parameters
    ----------
    pred, ref : block with the dimensions of the plan
        Reflectance [1], with as many rows and columns of the next block as a window needs.
    *others : arrays
        The codes where there are groups, with the same margin.

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
    if window.kind == "gaussian":
        taps = windows.gaussian_taps(window.size, window.sigma)
        found = windows.gaussian_windows(x, y, codes, plan.n_groups, taps, *limits)
    else:
        found = windows.uniform_windows(x, y, codes, plan.n_groups, window.size, *limits)
    n_cells = int(np.prod(lead, dtype=int))
    cells = found.reshape(n_cells, n_bands, plan.n_groups, 2).swapaxes(1, 2)
    return np.asarray(plan.unstacked(cells, lead, np.zeros(n_bands, bool)))
