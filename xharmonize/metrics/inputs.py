"""What is compared: two cubes on one grid, of the same bands, at the same dates."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence
from types import EllipsisType
from typing import Any, TypeAlias

import dask.array as da
import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import is_lazy
from xharmonize.cube.contract import main_layer, read_coordinate
from xharmonize.errors import BandError, ContractError, MetricError, RadiometryError, TimeAxisError
from xharmonize.metrics.place import positions_of, require_same_place, spanned
from xharmonize.types import Float64Array

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
    ref: xr.DataArray | xr.Dataset,
    *,
    what: str,
    dim: Dims = None,
) -> tuple[xr.DataArray, xr.DataArray]:
    """Return prediction and reference aligned: same dimensions, bands, dates and chunks.

    Bands may stand in another order; along time and other dimensions the labels both have count.
    A dimension that only one of them has is spread over the other. Not so dates: a cube of a
    single date is compared with that date, and one that has none serves all of them only where
    these are not reduced over, which would count it many times.

    Parameters
    ----------
    dim : str or collection of str, optional
        Dimensions that are reduced over; all where not given.

    Raises
    ------
    GridError, BandError, TimeAxisError, RadiometryError, ContractError
        If the two cannot be compared.
    """
    pred, other = _values(cube, what), _values(ref, what)
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
    """The variable to compare; it holds numbers in their unit, not digital numbers."""
    if isinstance(cube, xr.Dataset):
        cube = main_layer(cube, what=what)
    if not isinstance(cube, xr.DataArray):
        raise ContractError(f"{what} compares DataArrays or Datasets, not {type(cube).__name__}")
    if "is_decoded" in cube.coords and not read_coordinate(cube, "is_decoded").all():
        raise RadiometryError(
            f"the cube holds digital numbers ({cube.dtype}) of which scale and offset are not "
            f"applied (is_decoded), {what} needs reflectance; call cube.harmonize.decode() first"
        )
    empty = [str(dim) for dim, size in cube.sizes.items() if size == 0]
    if empty:
        raise MetricError(f"the cube has nothing along {', '.join(empty)}; {what} needs pixels")
    return _numbers(cube, what)


def _numbers(cube: xr.DataArray, what: str) -> xr.DataArray:
    """The values as float32 or float64 of this machine, NaN where they are the stated nodata.

    Raises
    ------
    MetricError
        If they are no real numbers.
    RadiometryError
        If a scale or offset is stated that was not applied.
    """
    if cube.dtype.kind not in "fiub":
        raise MetricError(f"{what} compares numbers, not values of type {cube.dtype}")
    stated = {name: _stated(cube, name) for name in _LINE if name in cube.attrs}
    if any((value != _LINE[name]).any() for name, value in stated.items()):
        raise RadiometryError(
            f"the cube states {', '.join(f'{k}={cube.attrs[k]}' for k in stated)}, which {what} "
            "does not apply; apply them first, with xr.decode_cf(dataset) or "
            "xh.describe(cube, ...).harmonize.decode()"
        )
    is_small = cube.dtype.itemsize <= (2 if cube.dtype.kind in "iu" else 4)
    native = np.dtype(np.float32 if is_small else np.float64)
    numbers = cube if cube.dtype == native else cube.astype(native)
    for value in {v for name in _NODATA for v in _stated(cube, name) if np.isfinite(v)}:
        numbers = numbers.where(numbers != native.type(value))
    return numbers


def _stated(cube: xr.DataArray, name: str) -> Float64Array:
    """Numbers that an attribute states, none where it is absent."""
    found = cube.attrs.get(name)
    try:
        return np.ravel([] if found is None else found).astype(np.float64)
    except (TypeError, ValueError):
        raise RadiometryError(
            f"the cube states {name}={found!r}, which is no number; correct or drop the attribute"
        ) from None


def _require_units(pred: xr.DataArray, ref: xr.DataArray) -> None:
    units = [str(cube.attrs["units"]) for cube in (pred, ref) if "units" in cube.attrs]
    if len(set(units)) > 1:
        raise RadiometryError(
            f"the cube is in units of {units[0]!r}, the reference in {units[1]!r}; "
            "bring them to one unit first"
        )


def _same_bands(pred: xr.DataArray, ref: xr.DataArray, what: str) -> xr.DataArray:
    """The reference with its bands in the order of the prediction."""
    if BAND not in pred.dims and BAND not in ref.dims:
        return ref
    if BAND not in pred.dims or BAND not in ref.dims:
        raise BandError(f"only one of the two cubes has bands: {pred.dims} and {ref.dims}")
    names, others = ([str(n) for n in c[BAND].values] for c in (pred, ref))
    if len(set(names)) < len(names):
        raise BandError(f"a band comes twice in {names}")
    if sorted(names) != sorted(others):
        common = [name for name in names if name in others]
        advice = f"take those both have with .sel(band={common})" if common else "none is in both"
        raise BandError(f"{what} needs the same bands: {names} and {others}; {advice}")
    return ref if names == others else ref.isel(band=[others.index(name) for name in names])


def _common_labels(
    pred: xr.DataArray, ref: xr.DataArray, dim: str, what: str
) -> tuple[xr.DataArray, xr.DataArray]:
    """Both cubes at the labels they have in common along a dimension."""
    if dim not in pred.coords or dim not in ref.coords:
        if pred.sizes[dim] != ref.sizes[dim]:
            raise MetricError(
                f"{what}: {dim!r} has {pred.sizes[dim]} and {ref.sizes[dim]} steps without labels"
            )
        return pred, ref
    one, other = pred.indexes[dim], ref.indexes[dim]
    if one.equals(other):
        return pred, ref
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
            f"the cubes have no {dim} in common ({spanned(pred, dim)} and {spanned(ref, dim)})"
            + (_PAIR if dim == "time" else "; select the same of both")
        )
    if len(mine) == len(one) == len(other) and (place == np.arange(len(one))).all():
        return pred, ref
    return pred.isel({dim: mine}), ref.isel({dim: place[mine]})


def _single_date(cube: xr.DataArray, other: xr.DataArray, dims: Dims, what: str) -> xr.DataArray:
    """A cube without dates as one of a single date, where the other has dates."""
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
            f"{what}: only one of the two has dates, dimensions {other.dims} and {cube.dims}; "
            f"choose one with .sel({dim}=...), or say that it is for all of them with "
            f"cube.expand_dims({dim}=other[{dim!r}])"
        )
    return cube


def spread(
    array: xr.DataArray, like: xr.DataArray, *, keep: xr.DataArray | None = None
) -> xr.DataArray:
    """Return an array with the dimensions of another, in its order.

    Raises
    ------
    MetricError
        If each of the two has a dimension that the other lacks.
    """
    lacking = [str(dim) for dim in array.dims if dim not in like.dims]
    if lacking:
        raise MetricError(
            f"the cubes have dimensions {array.dims} and {like.dims}: neither can be spread over "
            "the other; pair them with xh.match_pairs"
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
    """Arrays cut into the same chunks, bands together; as they are where none is lazy."""
    lazy = next(filter(is_lazy, arrays), None)
    if lazy is None:
        return arrays
    cut = [array if is_lazy(array) else array.chunk(lazy.chunksizes) for array in arrays]
    if len(lazy.chunksizes.get(BAND, ())) > 1 or len({array.chunks for array in cut}) > 1:
        index = tuple(range(lazy.ndim))
        pairs = [item for array in cut for item in (array.data, index)]
        data = da.core.unify_chunks(*pairs)[1]
        if BAND in lazy.dims:
            data = [array.rechunk({lazy.dims.index(BAND): -1}) for array in data]
        cut = [_recut(array, part) for array, part in zip(cut, data)]
    return tuple(cut)


def _recut(array: xr.DataArray, data: Any) -> xr.DataArray:
    """An array with its data in other chunks; ``cube.chunk`` made coordinates lazy too."""
    lazy = {name: coord for name, coord in array.coords.items() if coord.chunks is not None}
    read = {
        name: (c.dims, read_coordinate(array, str(name))) for name, c in lazy.items() if c.ndim < 2
    }
    return array.drop_vars(list(lazy)).copy(data=data).assign_coords(read)


def reduced_dims(dim: Dims, dims: Sequence[Hashable]) -> tuple[str, ...]:
    """Names of the dimensions to reduce over, in the order of the array; all but band for None.

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
        raise MetricError(f"there is no dimension {', '.join(absent)}; there are {tuple(dims)}")
    return tuple(str(d) for d in dims if str(d) in names)
