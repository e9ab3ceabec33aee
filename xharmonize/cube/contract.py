"""The radiometric contract: coordinates that say what the numbers of a cube mean.

Along ``time``: `sensor` (product), `platform`, `bandpass` (whose spectral response the values
follow), `processing_baseline`, `level`, `item_id`, `tile`. Along ``(time, band)``: `scale`,
`offset`, `nodata` and `is_decoded` (whether scale and offset have been applied). Text that could
not be settled is ``"unknown"``, never absent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import is_lazy
from xharmonize.cube.companions import companions_of, quantities_of
from xharmonize.cube.dates import NAMES, require_dates
from xharmonize.errors import BandError, ContractError, RadiometryError, nearest, suggest
from xharmonize.sensors.registry import all_sensors, band_spellings
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.types import AnyArray

DIMS = ("time", "band", "y", "x")
TIME_COORDS = (
    "sensor",
    "platform",
    "bandpass",
    "processing_baseline",
    "level",
    "item_id",
    "tile",
)
BAND_COORDS = ("scale", "offset", "nodata", "is_decoded")
REFLECTANCE = "reflectance"
REQUESTED_BOUNDS = "requested_bounds"
"""Attribute of a cube with a margin: the box asked for (left, bottom, right, top in its CRS)."""
_TRUTHS = {"1": True, "1.0": True, "True": True, "0": False, "0.0": False, "False": False}

Cube = TypeVar("Cube", xr.DataArray, xr.Dataset)


@dataclass(frozen=True, kw_only=True)
class Step:
    """The contract of one time step.

    Attributes
    ----------
    scale, offset, nodata : mapping of str to float
        Per band; reflectance = DN * scale + offset, DN equal to nodata is missing.
    is_decoded : bool
        Whether scale and offset have been applied to the pixels.
    """

    sensor: str = UNKNOWN
    platform: str = UNKNOWN
    bandpass: str = UNKNOWN
    processing_baseline: str = UNKNOWN
    level: str = UNKNOWN
    item_id: str = UNKNOWN
    tile: str = UNKNOWN
    scale: Mapping[str, float]
    offset: Mapping[str, float]
    nodata: Mapping[str, float]
    is_decoded: bool = False


def write_contract(cube: xr.DataArray, steps: Sequence[Step]) -> xr.DataArray:
    """Add the contract coordinates to a cube.

    Parameters
    ----------
    cube : (time, band, y, x) DataArray
        With a ``band`` coordinate of common names.
    steps : sequence of Step
        One per time step, in order.
    """
    if len(steps) != cube.sizes["time"]:
        raise ContractError(f"{len(steps)} steps for {cube.sizes['time']} dates")
    bands = [str(name) for name in cube["band"].values]
    coords: dict[str, Any] = {
        name: ("time", np.array([getattr(step, name) for step in steps], dtype=str))
        for name in TIME_COORDS
    }
    for name in ("scale", "offset", "nodata"):
        table = np.array([[getattr(step, name)[band] for band in bands] for step in steps], float)
        coords[name] = (("time", "band"), table.reshape(len(steps), len(bands)))
    decoded = np.array([[step.is_decoded] * len(bands) for step in steps], bool)
    coords["is_decoded"] = (("time", "band"), decoded.reshape(len(steps), len(bands)))
    return cube.assign_coords(coords)


def read_contract(cube: xr.DataArray | xr.Dataset) -> list[Step]:
    """Return the contract of each time step.

    Raises
    ------
    ContractError
        If a contract coordinate is missing; xarray drops coordinates that conflict in arithmetic
        and those along a dimension it reduces.
    """
    require_contract(cube)
    bands = [str(name) for name in cube["band"].values]
    table = {name: read_coordinate(cube, name) for name in (*TIME_COORDS, *BAND_COORDS)}
    steps = []
    for i in range(cube.sizes["time"]):
        fields: dict[str, Any] = {name: str(table[name][i]) for name in TIME_COORDS}
        for name in ("scale", "offset", "nodata"):
            fields[name] = dict(zip(bands, map(float, table[name][i])))
        steps.append(Step(**fields, is_decoded=bool(table["is_decoded"][i].all())))
    return steps


def read_coordinate(cube: xr.DataArray | xr.Dataset, name: str) -> AnyArray:
    """Load the values of a coordinate along (time, band), whatever the layout of the cube.

    ``cube.chunk`` turns coordinates into Dask arrays too. They are small tables of metadata that
    are needed to build a graph, so they are computed here, in this thread, whichever scheduler is
    set. Bytes become text, and booleans stored as numbers become booleans.
    """
    data = cube.coords[name].variable.transpose(*DIMS, ..., missing_dims="ignore").data
    values = _read_lazy(data) if is_lazy(data) else np.asarray(data)
    if name == "is_decoded":
        return _truths(values)
    return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values


def _truths(values: AnyArray) -> AnyArray:
    """Convert `is_decoded` to booleans; files store them as 0 and 1.

    Raises
    ------
    ContractError
        If a value is neither; joining cubes leaves NaN.
    """
    if values.dtype.kind == "b":
        return values
    odd = [value for value in np.unique(values.astype(str)) if value not in _TRUTHS]
    if odd:
        raise ContractError(
            f"coordinate 'is_decoded' holds {str(odd[0])!r}, neither true nor false",
            cure="settle it with xh.describe(cube, sensor=..., is_decoded=...)",
        )
    known = [_TRUTHS[value] for value in values.astype(str).ravel()]
    return np.array(known, bool).reshape(values.shape)


def _read_lazy(data: Any) -> AnyArray:
    """Values of a dask array; what ``cube.chunk`` has cut stands in the graph and is taken."""
    from dask.array.core import slices_from_chunks
    from dask.core import flatten

    blocks = [data.dask.get(key) for key in flatten(data.__dask_keys__())]
    if not all(isinstance(block, np.ndarray) for block in blocks):
        return np.asarray(data.compute(scheduler="synchronous"))
    whole = np.empty(data.shape, data.dtype)
    for place, block in zip(slices_from_chunks(data.chunks), blocks):
        whole[place] = block
    return whole


def require_contract(cube: xr.DataArray | xr.Dataset) -> None:
    """Raise `ContractError` unless the cube has all dimensions and contract coordinates.

    Raises
    ------
    TimeAxisError
        If `time` holds anything but dates.
    BandError
        If two bands have one name.
    """
    _require_dims(cube)
    lost = [name for name in (*TIME_COORDS, *BAND_COORDS) if name not in cube.coords]
    if lost:
        raise ContractError(
            f"the cube does not say what its numbers mean: coordinates {_first(lost)} are missing "
            "(xarray drops conflicting coordinates in arithmetic and in reductions)",
            cure="settle them with xh.describe(cube, sensor=..., platform=...)",
        )
    require_dates(cube, what="the cube")
    bands = cube["band"].values.tolist()
    if any(isinstance(name, bytes) for name in bands):
        raise BandError(
            f"band names are bytes, {_first(bands)}",
            cure="make them text with cube.assign_coords(band=cube.band.values.astype(str))",
        )
    if len(set(bands)) < len(bands):
        first = [i for i, name in enumerate(bands) if name not in bands[:i]]
        raise BandError(
            f"bands {_first(bands)} are there more than once",
            cure=f"select one of each, for instance the first with cube.isel(band={first})",
        )


def _require_dims(cube: xr.DataArray | xr.Dataset) -> None:
    """Raise `ContractError` unless the dimensions are time, band and those of pixels."""
    absent = next((name for name in ("time", "band") if name not in cube.dims), None)
    other = next((str(dim) for dim in cube.dims if str(dim).lower() in NAMES), None)
    if absent == "time" and other:
        raise ContractError(
            f"the cube has no dimension 'time' but {other!r}",
            cure=f"name it with cube.rename({{{other!r}: 'time'}})",
        )
    if absent:
        a_mean = "; a mean over time is cube.harmonize.composite(...)" if absent == "time" else ""
        raise ContractError(
            f"the cube has no dimension {absent!r}",
            cure=f"it has {tuple(cube.dims)}: select with a list, "
            f"cube.isel({absent}=[0]), which keeps it{a_mean}",
        )
    pixels = cube[REFLECTANCE] if isinstance(cube, xr.Dataset) and REFLECTANCE in cube else cube
    extra = [str(dim) for dim in pixels.dims if dim not in DIMS]
    if extra and isinstance(pixels, xr.DataArray) and {"y", "x"} <= set(pixels.dims):
        raise ContractError(
            f"the cube has a dimension {extra[0]!r} of {cube.sizes[extra[0]]} besides time, band, "
            "y and x",
            cure=f"choose one of it with cube.isel({{{extra[0]!r}: 0}}, drop=True)",
        )


def _first(names: Sequence[object], limit: int = 12) -> str:
    """Say a list of names, cut where it is long."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{list(names[:limit])}{more}"


def require_reflectance(cube: xr.DataArray) -> None:
    """Raise `RadiometryError` unless scale and offset have been applied everywhere."""
    require_contract(cube)
    if not bool(read_coordinate(cube, "is_decoded").all()) or not np.issubdtype(
        cube.dtype, np.floating
    ):
        raise RadiometryError(
            f"the cube holds digital numbers ({cube.dtype}), reflectance is needed",
            cure="call cube.harmonize.decode() first",
        )


def plain_numbers(array: xr.DataArray) -> xr.DataArray:
    """Convert numbers to native byte order and to types that kernels accept; lazy.

    float16 becomes float32, long doubles float64.

    Raises
    ------
    RadiometryError
        If the values are not real numbers, or are signed integers that encode unsigned ones.
    """
    dtype = array.dtype
    if dtype.kind not in "iuf":
        raise RadiometryError(
            f"the cube holds {dtype}, not numbers", cure="convert it with cube.astype('float32')"
        )
    said = array.attrs.get("_Unsigned", array.encoding.get("_Unsigned", ""))
    if dtype.kind == "i" and str(said).lower() == "true":
        raise RadiometryError(
            f"the cube holds {dtype} and says _Unsigned: its numbers from {np.iinfo(dtype).max} on "
            "are read as negative",
            cure=f"convert it with cube.astype('uint{8 * dtype.itemsize}')",
        )
    wanted = dtype.newbyteorder("=")
    if dtype.kind == "f" and dtype.itemsize not in (4, 8):
        wanted = np.dtype(np.float32 if dtype.itemsize < 4 else np.float64)
    return array if wanted == dtype and dtype.isnative else array.astype(wanted)


def require_bands(cube: xr.DataArray | xr.Dataset, names: Sequence[str], *, what: str) -> None:
    """Raise `BandError`, listing the bands of the cube, unless it has all of `names`."""
    present = [str(name) for name in cube["band"].values]
    missing = [name for name in names if name not in present]
    if missing:
        named = read_coordinate(cube, "sensor").ravel() if "sensor" in cube.coords else ()
        spelt = band_spellings(*(s.instruments[0] for s in all_sensors() if s.name in named))
        raise BandError(
            f"{what} needs band {', '.join(missing)}",
            cure=f"{suggest(missing[0], present, spelt)}the cube has {_first(present)}",
            value=missing,
        )


def suggest_names(present: Iterable[str], wanted: Iterable[str]) -> str:
    """Return the beginning of a cure for bands that bear a sensor's own names; else empty.

    Examples
    --------
    >>> suggest_names(["B04", "B8A"], ["red", "nir08"])
    "rename bands to their common names ('B04' to 'red'): cube.assign_coords(band=[...]); "
    """
    known, spelt = list(wanted), band_spellings()
    for name in present:
        if name not in known and (near := nearest(name, known, spelt)):
            return (
                f"rename bands to their common names ({name!r} to {near!r}): "
                "cube.assign_coords(band=[...]); "
            )
    return ""


def select_bands(cube: Cube, names: Sequence[str]) -> Cube:
    """Select bands in the given order; return the cube itself if it has exactly those.

    Selecting by a list adds a Dask task per chunk even if nothing changes.
    """
    if [str(name) for name in cube["band"].values] == list(map(str, names)):
        return cube
    return cube.sel(band=list(names))


def main_layer(cube: xr.DataArray | xr.Dataset, *, what: str = "this") -> xr.DataArray:
    """Return the quantity of a cube: itself, its ``reflectance``, or its one index.

    Parameters
    ----------
    what : str
        Caller, for the error message.

    Raises
    ------
    ContractError
        If a Dataset has no such variable, or several.
    """
    if isinstance(cube, xr.DataArray):
        return cube
    names = quantities_of(cube)
    if REFLECTANCE not in names and len(names) != 1:
        raise ContractError(
            f"{what} needs a Dataset with 'reflectance' or one index",
            cure=f"it has {sorted(names)}: choose one, for instance cube[['ndvi', 'origin']]",
        )
    return cube[REFLECTANCE if REFLECTANCE in names else names[0]]


def spread_over(layer: xr.DataArray, values: xr.DataArray) -> xr.DataArray:
    """Broadcast a companion to the dimensions of its values; lazy if they are.

    A standard deviation, for example, is often one number per band or date.
    """
    if set(layer.dims) == set(values.dims):
        return layer
    if values.chunks is not None:
        layer = layer.chunk()  # before it is spread: an array in memory would be hashed whole
    whole = layer.broadcast_like(values).transpose(*values.dims)
    return whole if values.chunks is None else whole.chunk(values.variable.chunksizes)


def with_history(attrs: Mapping[str, Any], line: str) -> dict[str, Any]:
    """Return a copy of `attrs` with a line appended to ``history`` (CF: newest last)."""
    past = str(attrs.get("history", ""))
    return {**attrs, "history": f"{past}\n{line}".strip()}


def on_reflectance(
    cube: Cube, function: Callable[[xr.DataArray], xr.DataArray], *, carry: bool = True
) -> Cube:
    """Apply `function` to a cube, or to the ``reflectance`` of a Dataset; keep the type.

    Parameters
    ----------
    carry : bool
        Keep companions (`qa`, `origin`, …) unchanged; valid only if the grid does not change.
    """
    if isinstance(cube, xr.DataArray):
        return function(cube)
    if REFLECTANCE not in cube:
        raise ContractError(
            "the Dataset has no variable 'reflectance'",
            cure=f"it has {sorted(map(str, cube.data_vars))}",
        )
    result = function(cube[REFLECTANCE]).to_dataset(name=REFLECTANCE)
    if carry:
        result = result.assign({n: cube[n] for n in companions_of(cube)})
    return result.assign_attrs(cube.attrs)
