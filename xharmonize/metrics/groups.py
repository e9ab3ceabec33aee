"""Groups that a score is split by: coordinates along time, or maps of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import is_lazy, map_blocks
from xharmonize.cube.contract import read_coordinate
from xharmonize.errors import GridError, MetricError
from xharmonize.metrics.place import require_same_place
from xharmonize.types import AnyArray, IntArray

By: TypeAlias = str | xr.DataArray | Sequence[str | xr.DataArray] | None


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Groups of pixels.

    Attributes
    ----------
    labels : mapping of str to array
        Name of each dimension of groups, with its labels in ascending order.
    codes : DataArray of int32, optional
        Position of each pixel's group, over all of `labels` in C order; -1 where it has none.
        Some of the dimensions that are reduced over.
    """

    labels: Mapping[str, AnyArray]
    codes: xr.DataArray | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of labels of each dimension."""
        return tuple(len(values) for values in self.labels.values())

    @property
    def n(self) -> int:
        """Number of groups; 1 where there is no grouping."""
        return int(np.prod(self.shape, dtype=int))


def read_groups(by: By, cube: xr.DataArray, reduced: Sequence[str]) -> Groups:
    """Return the groups that ``by=`` asks for.

    Parameters
    ----------
    by : str, DataArray, or a sequence of these
        Name of a coordinate (``"sensor"``, ``"time.month"``), or classes along some of the
        cube's dimensions. A missing class (NaN) makes a pixel belong to no group. A lazy map has
        to list its classes in the attribute ``flag_values``.
    cube : DataArray
        The cube, aligned with the reference.
    reduced : sequence of str
        Dimensions that are reduced over; groups lie along these.

    Raises
    ------
    MetricError
        If there is no such coordinate, or the groups lie along a dimension that is kept.
    GridError
        If a map of classes lies on another grid.
    """
    if by is None:
        return Groups(labels={}, codes=None)
    items = list(by) if isinstance(by, (list, tuple)) else [by]
    labels: dict[str, AnyArray] = {}
    codes: xr.DataArray | None = None
    for item in items:
        if not isinstance(item, (str, xr.DataArray)):
            raise MetricError(
                f"by= takes names of coordinates and DataArrays of classes, not {item!r:.80}"
            )
        array = _named(item, cube) if isinstance(item, str) else _on_cube(item, cube)
        name = str(array.name if array.name is not None else "group")
        _require_free(name, array, cube, reduced, labels)
        labels[name], part = _codes(array, name)
        if is_lazy(cube):
            part = part.chunk({d: cube.chunksizes[d] for d in part.dims})
        codes = part if codes is None else _combined(codes, part, len(labels[name]))
    if codes is None:
        raise MetricError("by= is an empty list; leave it out for a score without groups")
    return Groups(labels=labels, codes=codes.transpose(*(d for d in cube.dims if d in codes.dims)))


def _named(name: str, cube: xr.DataArray) -> xr.DataArray:
    """A coordinate by name, in memory; also parts of dates such as ``time.month``."""
    if name in cube.coords:
        coord = cube.coords[name]
        return xr.DataArray(read_coordinate(cube, name), dims=coord.dims, name=name)
    head, _, part = name.partition(".")
    if part and head in cube.coords and hasattr(getattr(cube[head], "dt", None), part):
        return xr.DataArray(cube[name].values, dims=cube[head].dims, name=part)
    raise MetricError(
        f"by={name!r} is no coordinate of the cube; it has {sorted(map(str, cube.coords))}; pass "
        "one of these or a DataArray of classes"
    )


def _on_cube(classes: xr.DataArray, cube: xr.DataArray) -> xr.DataArray:
    """Classes given by the user, checked against the cube's grid and labels."""
    foreign = [str(dim) for dim in classes.dims if dim not in cube.dims]
    if foreign or "band" in classes.dims:
        raise MetricError(
            f"by= has dimensions {classes.dims}; it may have those of {cube.dims} but band"
        )
    if {"y", "x"} & set(classes.dims):
        sizes = {d: (classes.sizes[d], cube.sizes[d]) for d in ("y", "x") if d in classes.dims}
        if any(a != b for a, b in sizes.values()):
            raise GridError(f"by= lies on another grid: sizes {sizes} of classes and cube")
    if "spatial_ref" in cube.coords and "spatial_ref" not in classes.coords:
        require_same_place(classes.assign_coords(spatial_ref=cube["spatial_ref"]), cube, what="by=")
    else:
        require_same_place(classes, cube, what="by=")
    for dim in (d for d in classes.dims if d not in ("y", "x") and d in classes.coords):
        missing = ~cube.indexes[dim].isin(classes.indexes[dim])
        if missing.any():
            raise MetricError(f"by= lacks {missing.sum()} of the cube's steps along {dim!r}")
        classes = classes.sel({dim: cube[dim].values})
    return classes.drop_vars(list(classes.coords))


def _require_free(
    name: str,
    array: xr.DataArray,
    cube: xr.DataArray,
    reduced: Sequence[str],
    labels: Mapping[str, AnyArray],
) -> None:
    kept = [str(dim) for dim in array.dims if dim not in reduced]
    if kept:
        raise MetricError(
            f"by={name!r} lies along {', '.join(kept)}, which the score keeps; name it in dim= too"
        )
    if name in labels or name == "band" or (name in cube.dims and name not in reduced):
        raise MetricError(f"by= has two groups of the name {name!r}; rename one with .rename(...)")


def _codes(array: xr.DataArray, name: str) -> tuple[AnyArray, xr.DataArray]:
    """Labels and the position of each value among them, -1 where it is missing."""
    flags = array.attrs.get("flag_values")
    if is_lazy(array) and flags is None:
        raise MetricError(
            f"by={name!r} is lazy and does not list its classes, and nothing is computed while a "
            "score is set up; load it with .load(), or list them in attrs['flag_values']"
        )
    if flags is not None:
        labels = np.unique(np.asarray(flags))
    else:
        values = np.asarray(array.values)
        values = values.astype(str) if values.dtype == object else values
        array = array.copy(data=values)
        labels = np.unique(values)
        labels = labels[labels == labels]  # neither NaN nor NaT
    if not labels.size:
        raise MetricError(f"by={name!r} has no class: all its values are missing")
    find = partial(positions, labels=labels)
    codes = map_blocks(find, "...->...", array.data, dtype=np.int32, name="score-groups")
    return labels, array.copy(data=codes)


def positions(values: AnyArray, labels: AnyArray) -> IntArray:
    """Position of each value among ascending labels, -1 where it is none of them."""
    place = np.minimum(np.searchsorted(labels, values), len(labels) - 1)
    return np.where(labels[place] == values, place, -1).astype(np.int32)


def _combined(first: xr.DataArray, second: xr.DataArray, n_second: int) -> xr.DataArray:
    """Codes of pairs of groups."""
    both = first * np.int32(n_second) + second
    return both.where((first >= 0) & (second >= 0), np.int32(-1)).astype(np.int32)
