"""Inputs of a comparison: two cubes on one grid, with the same bands and dates, and groups."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import EllipsisType
from typing import Any, TypeAlias

import dask.array as da
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from xharmonize.cube.blockwise import is_lazy, map_blocks
from xharmonize.cube.contract import main_layer, read_coordinate
from xharmonize.cube.geobox import TOLERANCE, geobox_of, is_same_grid, require_same_grid
from xharmonize.errors import (
    BandError,
    ContractError,
    GridError,
    MetricError,
    RadiometryError,
    TimeAxisError,
)
from xharmonize.types import AnyArray, Float64Array, IntArray


def require_same_place(one: xr.DataArray, other: xr.DataArray, *, what: str) -> None:
    """Raise `GridError` if two arrays differ along y or x.

    Grids are compared if both have one. Arrays without a CRS, or with unevenly spaced pixels, are
    compared by their coordinates, to a thousandth of a pixel.
    """
    grids = [_grid_of(one), _grid_of(other)]
    if grids[0] is not None and grids[1] is not None:
        if not is_same_grid(grids[0], grids[1]):
            require_same_grid(one, other, what=what)  # which says how they differ
        return
    for dim in (d for d in ("y", "x") if d in one.dims and d in other.dims):
        _require_same_labels(one, other, dim, what)


def _grid_of(array: xr.DataArray) -> GeoBox | None:
    try:
        return geobox_of(array)
    except GridError:
        return None


def _require_same_labels(one: xr.DataArray, other: xr.DataArray, dim: str, what: str) -> None:
    sizes = one.sizes[dim], other.sizes[dim]
    if dim not in one.coords or dim not in other.coords:
        if sizes[0] != sizes[1]:
            raise GridError(
                f"{what}: {sizes[0]} and {sizes[1]} pixels along {dim!r}, without coordinates to "
                "match them by",
                cure="give both the same pixels",
            )
        return
    mine, theirs = one.indexes[dim], other.indexes[dim]
    if sizes[0] == sizes[1] and (positions_of(mine, theirs) == np.arange(sizes[0])).all():
        return
    raise GridError(
        f"{what}: the two differ along {dim!r}: {mine[0]} to {mine[-1]}, and {theirs[0]} to "
        f"{theirs[-1]}",
        cure="cut both to what they share with xr.align(one, other, join='inner'), or "
        "bring one to the other's grid with cube.harmonize.regrid(like=...)",
    )


def positions_of(labels: Any, among: Any) -> IntArray:
    """Position of each label among others, -1 if it is not among them.

    Fractional numbers may differ by a thousandth of a step, so that float32 and float64 coordinates
    of the same pixels match.
    """
    if "f" not in (np.asarray(labels).dtype.kind, np.asarray(among).dtype.kind):
        return np.asarray(among.get_indexer(labels), np.int64)
    step = _step(among) or _step(labels)
    slack = TOLERANCE * step if step else 0.0
    if slack and among.is_unique and among.is_monotonic_increasing:
        found = among.get_indexer(labels, method="nearest", tolerance=slack)
    elif slack and among.is_unique and among.is_monotonic_decreasing:
        back = among[::-1].get_indexer(labels, method="nearest", tolerance=slack)
        found = np.where(back < 0, -1, len(among) - 1 - back)
    else:
        found = among.get_indexer(labels)
    return np.asarray(found, np.int64)


def _step(labels: Any) -> float:
    """Smallest distance between neighbours; 0 for a single label."""
    values = np.asarray(labels, float)
    return float(np.abs(np.diff(values)).min()) if values.size > 1 else 0.0


def spanned(array: xr.DataArray, dim: Hashable) -> str:
    """Number of labels along a dimension, and the first and last of them."""
    labels = array.indexes[dim]
    return f"{len(labels)} from {str(labels.min())[:19]} to {str(labels.max())[:19]}"


By: TypeAlias = str | xr.DataArray | Sequence[str | xr.DataArray] | None


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Groups of pixels.

    Attributes
    ----------
    labels : mapping of str to array
        Name of each group dimension, with its labels in ascending order.
    codes : DataArray of int32, optional
        Position of each pixel's group, over all of `labels` in C order; -1 if it has none. Its
        dimensions are among the reduced ones.
    """

    labels: Mapping[str, AnyArray]
    codes: xr.DataArray | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of labels of each dimension."""
        return tuple(len(values) for values in self.labels.values())

    @property
    def n(self) -> int:
        """Number of groups; 1 without grouping."""
        return int(np.prod(self.shape, dtype=int))


def read_groups(by: By, cube: xr.DataArray, reduced: Sequence[str]) -> Groups:
    """Return the groups requested by ``by=``.

    Parameters
    ----------
    by : str, DataArray, or a sequence of these
        Name of a coordinate (``"sensor"``, ``"time.month"``), or classes along some of the
        cube's dimensions. Pixels with a missing class (NaN) belong to no group. A lazy map must
        list its classes in the attribute ``flag_values``.
    cube : DataArray
        The cube, aligned with the reference.
    reduced : sequence of str
        Dimensions to reduce; groups lie along these.

    Raises
    ------
    MetricError
        If there is no such coordinate, or the groups lie along a dimension that is kept.
    GridError
        If a class map is on another grid.
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
            part = part.chunk({d: cube.variable.chunksizes[d] for d in part.dims})
        codes = part if codes is None else _combined(codes, part, len(labels[name]))
    if codes is None:
        raise MetricError("by= is an empty list", cure="leave it out for a score without groups")
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
        "is no coordinate of the cube",
        cure=f"it has {sorted(map(str, cube.coords))}; pass one of these or a DataArray of classes",
        argument="by",
        value=name,
    )


def _on_cube(classes: xr.DataArray, cube: xr.DataArray) -> xr.DataArray:
    """Classes given by the user, checked against the cube's grid and labels."""
    foreign = [str(dim) for dim in classes.dims if dim not in cube.dims]
    if foreign or "band" in classes.dims:
        raise MetricError(
            f"by= has dimensions {classes.dims}", cure=f"it may have those of {cube.dims} but band"
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
            f"lies along {', '.join(kept)}, which the score keeps",
            cure="name it in dim= too",
            argument="by",
            value=name,
        )
    if name in labels or name == "band" or (name in cube.dims and name not in reduced):
        raise MetricError(
            f"by= has two groups of the name {name!r}", cure="rename one with .rename(...)"
        )


def _codes(array: xr.DataArray, name: str) -> tuple[AnyArray, xr.DataArray]:
    """Labels, and the position of each value among them; -1 if it is missing."""
    flags = array.attrs.get("flag_values")
    if is_lazy(array) and flags is None:
        raise MetricError(
            "is lazy and does not list its classes, and nothing is computed while a "
            "score is set up",
            cure="load it with .load(), or list them in attrs['flag_values']",
            argument="by",
            value=name,
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
        raise MetricError("has no class: all its values are missing", argument="by", value=name)
    find = partial(positions, labels=labels)
    codes = map_blocks(find, "...->...", array.data, dtype=np.int32, name="score-groups")
    return labels, array.copy(data=codes)


def positions(values: AnyArray, labels: AnyArray) -> IntArray:
    """Position of each value among ascending labels, -1 if it is not among them."""
    place = np.minimum(np.searchsorted(labels, values), len(labels) - 1)
    return np.where(labels[place] == values, place, -1).astype(np.int32)


def _combined(first: xr.DataArray, second: xr.DataArray, n_second: int) -> xr.DataArray:
    """Codes of pairs of groups."""
    both = first * np.int32(n_second) + second
    return both.where((first >= 0) & (second >= 0), np.int32(-1)).astype(np.int32)


BAND = "band"
_PAIR = (
    "; pair them with xh.match_pairs(cube, reference, tolerance=...) and compare 'source' with "
    "'target'"
)
_LINE = {"scale_factor": 1.0, "add_offset": 0.0}
_NODATA = ("_FillValue", "missing_value", "nodata")
Dims: TypeAlias = str | Collection[Hashable] | EllipsisType | None


def read_cubes(
    cube: xr.DataArray | xr.Dataset,
    reference: xr.DataArray | xr.Dataset,
    *,
    what: str,
    dim: Dims = None,
) -> tuple[xr.DataArray, xr.DataArray]:
    """Align prediction and reference: same dimensions, bands, dates and chunks.

    Bands may be in different orders; along time and other dimensions the common labels are used. A
    dimension that only one of the two has is broadcast, except for dates: a cube of a single date
    is compared with that date, and a cube without dates is compared with all of them only if dates
    are not reduced, since it would count many times.

    Parameters
    ----------
    dim : str or collection of str, optional
        Dimensions to reduce; all by default.

    Raises
    ------
    GridError, BandError, TimeAxisError, RadiometryError, ContractError
        If the two cannot be compared.
    """
    pred, other = _values(cube, what), _values(reference, what)
    _require_units(pred, other)
    require_same_place(pred, other, what=what)
    other = _same_bands(pred, other, what)
    pred, other = _single_date(pred, other, dim, what), _single_date(other, pred, dim, what)
    for name in [d for d in pred.dims if d in other.dims and d not in (BAND, "y", "x")]:
        pred, other = _common_labels(pred, other, str(name), what)
    if set(other.dims) == set(pred.dims):
        other = other if other.dims == pred.dims else other.transpose(*pred.dims)
    elif set(other.dims) < set(pred.dims):
        other = spread(other, pred)
    else:
        pred = spread(pred, other, keep=pred)
    pred, other = unify(pred, other)
    return pred, other


def _values(cube: xr.DataArray | xr.Dataset, what: str) -> xr.DataArray:
    """The variable to compare, in its unit rather than as digital numbers."""
    if isinstance(cube, xr.Dataset):
        cube = main_layer(cube, what=what)
    if not isinstance(cube, xr.DataArray):
        raise ContractError(f"{what} compares DataArrays or Datasets, not {type(cube).__name__}")
    if "is_decoded" in cube.coords and not read_coordinate(cube, "is_decoded").all():
        raise RadiometryError(
            f"the cube holds digital numbers ({cube.dtype}) of which scale and offset are not "
            f"applied (is_decoded), {what} needs reflectance",
            cure="call cube.harmonize.decode() first",
        )
    empty = [str(dim) for dim, size in cube.sizes.items() if size == 0]
    if empty:
        raise MetricError(
            f"the cube has nothing along {', '.join(empty)}", cure=f"{what} needs pixels"
        )
    return _numbers(cube, what)


def _numbers(cube: xr.DataArray, what: str) -> xr.DataArray:
    """The values as native float32 or float64, with NaN for the stated nodata value.

    Raises
    ------
    MetricError
        If the values are not real numbers.
    RadiometryError
        If a stated scale or offset was not applied.
    """
    if cube.dtype.kind not in "fiub":
        raise MetricError(f"{what} compares numbers, not values of type {cube.dtype}")
    stated = {name: _stated(cube, name) for name in _LINE if name in cube.attrs}
    if any((value != _LINE[name]).any() for name, value in stated.items()):
        raise RadiometryError(
            f"the cube states {', '.join(f'{k}={cube.attrs[k]}' for k in stated)}, which {what} "
            "does not apply",
            cure="apply them first, with xr.decode_cf(dataset) or "
            "xh.describe(cube, ...).harmonize.decode()",
        )
    is_small = cube.dtype.itemsize <= (2 if cube.dtype.kind in "iu" else 4)
    native = np.dtype(np.float32 if is_small else np.float64)
    numbers = cube if cube.dtype == native else cube.astype(native)
    for value in {v for name in _NODATA for v in _stated(cube, name) if np.isfinite(v)}:
        numbers = numbers.where(numbers != native.type(value))
    return numbers


def _stated(cube: xr.DataArray, name: str) -> Float64Array:
    """Numbers stated by an attribute, empty if it is absent."""
    found = cube.attrs.get(name)
    try:
        return np.ravel([] if found is None else found).astype(np.float64)
    except (TypeError, ValueError):
        raise RadiometryError(
            f"the cube states {name}={found!r}, which is no number",
            cure="correct or drop the attribute",
        ) from None


def _require_units(pred: xr.DataArray, reference: xr.DataArray) -> None:
    units = [str(cube.attrs["units"]) for cube in (pred, reference) if "units" in cube.attrs]
    if len(set(units)) > 1:
        raise RadiometryError(
            f"the cube is in units of {units[0]!r}, the reference in {units[1]!r}",
            cure="bring them to one unit first",
        )


def _same_bands(pred: xr.DataArray, reference: xr.DataArray, what: str) -> xr.DataArray:
    """The reference with its bands in the order of the prediction."""
    if BAND not in pred.dims and BAND not in reference.dims:
        return reference
    if BAND not in pred.dims or BAND not in reference.dims:
        raise BandError(f"only one of the two cubes has bands: {pred.dims} and {reference.dims}")
    names, others = ([str(n) for n in c[BAND].values] for c in (pred, reference))
    if len(set(names)) < len(names):
        raise BandError(f"a band comes twice in {names}")
    if sorted(names) != sorted(others):
        common = [name for name in names if name in others]
        advice = f"take those both have with .sel(band={common})" if common else "none is in both"
        raise BandError(f"{what} needs the same bands: {names} and {others}", cure=advice)
    return (
        reference
        if names == others
        else reference.isel(band=[others.index(name) for name in names])
    )


def _common_labels(
    pred: xr.DataArray, reference: xr.DataArray, dim: str, what: str
) -> tuple[xr.DataArray, xr.DataArray]:
    """Both cubes at the labels they have in common along a dimension."""
    if dim not in pred.coords or dim not in reference.coords:
        if pred.sizes[dim] != reference.sizes[dim]:
            raise MetricError(
                f"{what}: {dim!r} has {pred.sizes[dim]} and {reference.sizes[dim]} steps without "
                "labels"
            )
        return pred, reference
    one, other = pred.indexes[dim], reference.indexes[dim]
    if one.equals(other):
        return pred, reference
    unfit = TimeAxisError if dim == "time" else MetricError
    if not (one.is_unique and other.is_unique):
        raise unfit(
            f"{dim!r} differs between the cubes and has duplicates, which cannot be matched; "
            "mosaic them first, or pair them with xh.match_pairs"
        )
    place = positions_of(one, other)
    mine = np.flatnonzero(place >= 0)
    if not len(mine):
        raise unfit(
            f"the cubes have no {dim} in common ({spanned(pred, dim)} and "
            f"{spanned(reference, dim)})"
            + (_PAIR if dim == "time" else "; select the same of both")
        )
    if len(mine) == len(one) == len(other) and (place == np.arange(len(one))).all():
        return pred, reference
    return pred.isel({dim: mine}), reference.isel({dim: place[mine]})


def _single_date(cube: xr.DataArray, other: xr.DataArray, dims: Dims, what: str) -> xr.DataArray:
    """Expand a cube without dates to a single date if the other has dates."""
    is_all = dims is None or isinstance(dims, EllipsisType)
    reduced: Any = ("time", "pair") if is_all else [dims] if isinstance(dims, str) else dims
    for dim in ("time", "pair"):
        if dim in cube.dims or dim not in other.dims:
            continue
        if dim in cube.coords:
            return cube.expand_dims(dim)
        if dim not in reduced:
            continue
        raise TimeAxisError(
            f"{what}: only one of the two has dates, dimensions {other.dims} and {cube.dims}",
            cure=f"choose one with .sel({dim}=...), or say that it is for all of them with "
            f"cube.expand_dims({dim}=other[{dim!r}])",
        )
    return cube


def spread(
    array: xr.DataArray, like: xr.DataArray, *, keep: xr.DataArray | None = None
) -> xr.DataArray:
    """Broadcast an array to the dimensions of another, in its order.

    Raises
    ------
    MetricError
        If each of the two has a dimension that the other lacks.
    """
    lacking = [str(dim) for dim in array.dims if dim not in like.dims]
    if lacking:
        raise MetricError(
            f"the cubes have dimensions {array.dims} and {like.dims}: neither can be spread over "
            "the other",
            cure="pair them with xh.match_pairs",
        )
    sizes: Any = {dim: like.sizes[dim] for dim in like.dims}
    bare = xr.DataArray(array.variable).expand_dims(
        {d: n for d, n in sizes.items() if d not in array.dims}
    )
    own = {} if keep is None else dict(keep.coords)
    return xr.DataArray(
        bare.variable.transpose(*like.dims),
        coords={**like.coords, **own},
        attrs=array.attrs,
        name=array.name,
    )


def unify(*arrays: xr.DataArray) -> Any:
    """Arrays with the same chunks, bands in one chunk; unchanged if none is lazy."""
    lazy = next(filter(is_lazy, arrays), None)
    if lazy is None:
        return arrays
    cut = [array if is_lazy(array) else array.chunk(lazy.variable.chunksizes) for array in arrays]
    if len(lazy.variable.chunksizes.get(BAND, ())) > 1 or len({array.chunks for array in cut}) > 1:
        index = tuple(range(lazy.ndim))
        pairs = [item for array in cut for item in (array.data, index)]
        data = da.core.unify_chunks(*pairs)[1]
        if BAND in lazy.dims:
            data = [array.rechunk({lazy.dims.index(BAND): -1}) for array in data]
        cut = [_recut(array, part) for array, part in zip(cut, data)]
    return tuple(cut)


def _recut(array: xr.DataArray, data: Any) -> xr.DataArray:
    """Rechunk only the data of an array; ``cube.chunk`` would make coordinates lazy too."""
    lazy = {name: coord for name, coord in array.coords.items() if coord.chunks is not None}
    read = {
        name: (c.dims, read_coordinate(array, str(name))) for name, c in lazy.items() if c.ndim < 2
    }
    return array.drop_vars(list(lazy)).copy(data=data).assign_coords(read)


def reduced_dims(dim: Dims, dims: Sequence[Hashable]) -> tuple[str, ...]:
    """Names of the dimensions to reduce, in the array's order; None means all except band.

    Raises
    ------
    MetricError
        If the array lacks one of them.
    """
    if dim is None:
        return tuple(str(d) for d in dims if d != BAND)
    if isinstance(dim, EllipsisType):
        return tuple(map(str, dims))
    asked: Iterable[Hashable] = [dim] if isinstance(dim, str) else dim
    names = {str(d) for d in asked}
    absent = sorted(names - {str(d) for d in dims})
    if absent:
        raise MetricError(
            f"there is no dimension {', '.join(absent)}", cure=f"there are {tuple(dims)}"
        )
    return tuple(str(d) for d in dims if str(d) in names)
