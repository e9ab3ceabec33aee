"""Merge a target cube and cubes harmonised to it into one time series."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Literal, TypeAlias

import dask.array as da
import numpy as np
import xarray as xr

from xharmonize.cube.companions import COMPANIONS, blank_missing, blank_of, companions_of
from xharmonize.cube.contract import (
    BAND_COORDS,
    REFLECTANCE,
    TIME_COORDS,
    main_layer,
    read_coordinate,
    require_reflectance,
    select_bands,
    spread_over,
    with_history,
)
from xharmonize.cube.dates import require_dates
from xharmonize.cube.door import at_door
from xharmonize.cube.origin import origin_of
from xharmonize.cube.pairs import collect_pairs
from xharmonize.cube.regrid import geobox_of, is_same_grid, regrid, require_same_grid
from xharmonize.errors import (
    BandError,
    ContractError,
    ModelError,
    OptionError,
    RadiometryError,
)
from xharmonize.harmonizers.auto import fit_auto
from xharmonize.harmonizers.auto_harmonizer import AUTO
from xharmonize.harmonizers.convert import apply_model, for_platforms_of
from xharmonize.harmonizers.protocol import Model
from xharmonize.harmonizers.published import cure_of_bandpass, cure_of_mixture
from xharmonize.harmonizers.registry import FIT_ATTR, fit_to_text, resolve
from xharmonize.io.stac.settle import ANGLES
from xharmonize.sensors import Names
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.series.composite import merge_days
from xharmonize.types import AnyArray

Duplicates: TypeAlias = Literal["keep", "target", "mean", "lowest_uncertainty"]


def densify(
    target: xr.DataArray | xr.Dataset,
    *others: xr.DataArray | xr.Dataset,
    model: Model | None = None,
    duplicates: Duplicates = "keep",
    allow_mixed_levels: bool = False,
) -> xr.Dataset:
    """Merge a target cube and cubes harmonised to it into one time series, lazily.

    With `model`, cubes of another bandpass are harmonised and brought to the target's grid first:
    ``l8.harmonize.densify(s2, model="auto")`` is all that most people need.

    Dates are sorted by time, then sensor, then item id. A value is *observed* if the bandpass of
    its date is the one in which its product is delivered (HLS S30 counts as observed), and
    *harmonised* otherwise. An `origin` that a cube already has is kept.

    Parameters
    ----------
    target : DataArray or Dataset
        Reflectance (time, band, y, x) [1] or one index (time, y, x); NaN where missing.
    *others : DataArray or Dataset
        Cubes on the same grid, with the same bands and in the target's bandpass; with `model`, of
        any grid and bandpass that the model covers.
    model : str, path, Dataset or callable, optional
        A model as for `xharmonize.to_sensor`, or ``"auto"``: the pairs of the cubes at most four
        days apart are collected and fitted by `xharmonize.harmonizers.fit_auto`, which computes.
        What it was fitted on, and how well it does on dates left out, is in ``history``;
        ``xh.load_model(series)`` returns the fit, to be saved or used again. By default nothing is
        harmonised.
    duplicates : {"keep", "target", "mean", "lowest_uncertainty"}
        How to treat several observations of one solar day. ``keep`` keeps them all; the other
        options merge them into one. ``target``: the first valid value, with the target cube first
        and the others in the order given. ``mean``: the mean of the valid values.
        ``lowest_uncertainty``: the valid value with the smallest `uncertainty`; unknown
        uncertainties come last, and ties follow the order of ``target``. A merged observation has
        the time of the first one in that order. Contract coordinates that differ are joined by
        ``|``; `origin`, `qa` and `flag` are OR-ed over the observations that gave the value.
    allow_mixed_levels : bool
        Whether to merge dates normalised to nadir view (NBAR) with dates that are not. Their
        difference varies with the view angle and would look like a change on the ground.

    Returns
    -------
    Dataset
        ``reflectance`` (or the index) and ``origin``, uint8 with bits 1 observed, 2 harmonised,
        4 filled, and 0 where the value is NaN. Companions of any cube are kept, with NaN
        (`uncertainty`, `valid_fraction`) or 0 (`qa`, `flag`) for cubes that lack them. The
        coordinates along time of all cubes, including ``sensor``.

    Raises
    ------
    GridError
        If the cubes are on different grids.
    BandError
        If their bands differ.
    ModelError
        If a cube is not in the target's bandpass.
    RadiometryError
        If a cube holds digital numbers, or only some dates are normalised to nadir view.
    ContractError
        If contract coordinates are missing, or the cubes hold different quantities.
    TimeAxisError
        If `time` contains anything other than dates.
    """
    target = at_door(target)
    others = tuple(at_door(cube) for cube in others)
    fits: list[xr.Dataset] = []
    if model is not None:
        others = tuple(_harmonised(cube, target, model, fits) for cube in others)
    if duplicates not in ("keep", "target", "mean", "lowest_uncertainty"):
        raise OptionError(
            "is unknown",
            cure="choose 'keep', 'target', 'mean' or 'lowest_uncertainty'",
            argument="duplicates",
            value=duplicates,
        )
    cubes = (target, *others)
    names = [_main_name(cube) for cube in cubes]
    if len(set(names)) > 1:
        raise ContractError(
            f"the cubes hold different quantities, {names}", cure="merge one at a time"
        )
    parts = _with_angles([_prepared(cube, names[0]) for cube in cubes])
    for part in parts[1:]:
        require_same_grid(parts[0], part, what="densify")
    _require_same_bands(parts, names[0])
    _require_same_bandpass(parts)
    if not allow_mixed_levels:
        _require_same_view(parts)
    companions = [name for name in COMPANIONS if any(name in part for part in parts)]
    complete = [_completed(part, parts, companions, rank) for rank, part in enumerate(parts)]
    merged = xr.concat(
        complete,
        dim="time",
        data_vars="minimal",
        coords="minimal",
        compat="override",
        join="override",
        combine_attrs="override",
    )
    if duplicates == "lowest_uncertainty":
        merged = _with_spread_uncertainty(merged, names[0])
    if duplicates != "keep":
        merged = merge_days(merged, names[0], method=duplicates)
    merged = merged.isel(time=_order(merged)).drop_vars("rank")
    result = _described(merged, target, parts, names[0])
    return result.assign_attrs({FIT_ATTR: fit_to_text(fits[0])}) if len(fits) == 1 else result


def _harmonised(
    cube: Any,
    target: xr.DataArray | xr.Dataset,
    model: Model,
    fits: list[xr.Dataset],
) -> Any:
    """The cube in the target's bandpass and on its grid; a new fit is added to `fits`."""
    one, other = (main_layer(part, what="densify") for part in (target, cube))
    for part in (one, other):
        if "band" not in part.dims:
            raise ModelError(
                f"a model maps bands, and {part.name!r} has none",
                cure="harmonise the bands with densify(model=...), then compute the index",
            )
        require_reflectance(part)
    wanted = sorted(set(map(str, read_coordinate(one, "bandpass"))))
    if len(wanted) != 1:
        raise ModelError(
            f"the target cube mixes bandpasses {wanted}",
            cure=f"harmonise it to one first: {cure_of_mixture(wanted)}",
        )
    if (read_coordinate(other, "bandpass") == wanted[0]).all():
        return cube if is_same_grid(geobox_of(one), geobox_of(other)) else regrid(cube, like=one)
    if isinstance(model, str) and model == AUTO:
        fit = fit_auto(collect_pairs(other, one), series=other)
        fits.append(fit)
        model = fit
    harmonizer = for_platforms_of(resolve(model, wanted[0]), one)
    return apply_model(cube, harmonizer, like=one)


def _main_name(cube: xr.DataArray | xr.Dataset) -> str:
    """Name of the quantity: ``reflectance``, or that of the one index."""
    if isinstance(cube, xr.DataArray):
        if "band" not in cube.dims and cube.name is None:
            raise ContractError(
                "the array has no bands and no name", cure="say cube.rename('ndvi')"
            )
        return REFLECTANCE if "band" in cube.dims else str(cube.name)
    return str(main_layer(cube, what="densify").name)


def _prepared(cube: xr.DataArray | xr.Dataset, name: str) -> xr.Dataset:
    """Return the cube as a Dataset with `origin`, its contract read and checked."""
    if isinstance(cube, xr.DataArray):
        cube = cube.to_dataset(name=name)
    main = cube[name]
    if "band" in main.dims:
        require_reflectance(main)
    _require_time_contract(main)
    companions = companions_of(cube)
    coords = {n: (cube[n].dims, read_coordinate(cube, n)) for n in _contract_of(main)}
    part = cube[[name, *companions]].assign_coords(coords)
    order = ("time", "band", "y", "x") if "band" in main.dims else ("time", "y", "x")
    part = part.transpose(*order)
    part = part.assign(blank_missing({n: part[n] for n in companions}, part[name]))
    return part if "origin" in part else part.assign(origin=origin_of(part[name]))


def _with_angles(parts: list[xr.Dataset]) -> list[xr.Dataset]:
    """Add the angles that any part has to all parts; NaN where unknown."""
    found = [name for name in ANGLES if any(name in part.coords for part in parts)]
    return [
        part.assign_coords(
            {
                name: ("time", np.full(part.sizes["time"], np.nan))
                for name in found
                if name not in part.coords
            }
        )
        for part in parts
    ]


def _contract_of(main: xr.DataArray) -> list[str]:
    return [n for n in (*TIME_COORDS, *BAND_COORDS) if n in main.coords]


def _require_time_contract(main: xr.DataArray) -> None:
    """Raise unless the dates have their contract and the values are floats."""
    lost = [name for name in TIME_COORDS if name not in main.coords]
    if "time" not in main.dims or lost:
        raise ContractError(
            f"{main.name!r} does not say what its dates are: coordinates {lost or ['time']} are "
            "missing",
            cure="settle them with xh.describe(cube, sensor=..., platform=...)",
        )
    require_dates(main, what="densify")
    if not np.issubdtype(main.dtype, np.floating):
        raise RadiometryError(
            f"{main.name!r} holds {main.dtype}, real values are needed",
            cure="call cube.harmonize.decode() first",
        )
    for name in ("sensor", "bandpass"):
        values = read_coordinate(main, name)
        if np.any(values == UNKNOWN):
            item = str(read_coordinate(main, "item_id")[values == UNKNOWN][0])
            raise ContractError(
                f"the {name} of {item!r} is unknown",
                cure="settle it with xh.describe(cube, sensor=..., platform=...)",
            )


def _require_same_bands(parts: Sequence[xr.Dataset], name: str) -> None:
    if "band" not in parts[0][name].dims:
        used = sorted({str(part[name].attrs.get("bands", "")) for part in parts})
        if len(used) > 1:
            raise BandError(
                f"{name!r} comes from different bands, {used}",
                cure="compute it from the same ones in all cubes",
            )
        return
    wanted = {str(band) for band in parts[0]["band"].values}
    for part in parts[1:]:
        found = {str(band) for band in part["band"].values}
        if found != wanted:
            raise BandError(
                "densify needs the same bands in all cubes",
                cure="only in the target: "
                f"{sorted(wanted - found)}, only in the other: {sorted(found - wanted)}; select "
                "the common ones with cube.sel(band=[...])",
            )


def _require_same_bandpass(parts: Sequence[xr.Dataset]) -> None:
    wanted = sorted({str(value) for value in read_coordinate(parts[0], "bandpass")})
    if len(wanted) > 1:
        raise ModelError(
            f"the target cube mixes bandpasses {wanted}",
            cure=f"harmonise it to one first: {cure_of_mixture(wanted)}",
        )
    for part in parts[1:]:
        bandpass = read_coordinate(part, "bandpass")
        other = [i for i, value in enumerate(bandpass) if str(value) not in wanted]
        if other:
            item = str(read_coordinate(part, "item_id")[other[0]])
            raise ModelError(
                f"{item!r} is in bandpass {str(bandpass[other[0]])!r}, the target in "
                f"{wanted[0] if wanted else None!r}",
                cure="harmonise it first: "
                f"{cure_of_bandpass(str(bandpass[other[0]]), wanted[0] if wanted else '')}",
            )


def _require_same_view(parts: Sequence[xr.Dataset]) -> None:
    """Raise where some dates are normalised to nadir view and others are not."""
    names = ("level", "item_id")
    levels, items = (np.concatenate([read_coordinate(p, n) for p in parts]) for n in names)
    is_nadir = levels == "NBAR"
    has_nadir = ["NBAR" in Names.of(level) for level in levels]
    if any(has_nadir) and not is_nadir.all():
        odd, nadir = int(np.argmin(is_nadir)), has_nadir.index(True)
        raise RadiometryError(
            f"{str(items[nadir])!r} is {levels[nadir]} and {str(items[odd])!r} is "
            f"{levels[odd]}: normalise all with cube.harmonize.nbar(), or none",
            cure="or pass allow_mixed_levels=True",
        )


def _completed(
    part: xr.Dataset, parts: Sequence[xr.Dataset], companions: list[str], rank: int
) -> xr.Dataset:
    """Add the target's coordinates and missing companions to a cube."""
    first = parts[0]
    if "band" in first.dims:
        part = select_bands(part, [str(band) for band in first["band"].values])
    place = {n: first[n] for n in ("y", "x", "spatial_ref") if n in first.coords}
    common = set.intersection(*({str(n) for n in p.coords} for p in parts))
    part = part.drop_vars([n for n in part.coords if n not in common | {"band"}])
    part = part.assign_coords(place)
    for name in companions:
        models = [p[name] for p in parts if name in p]
        dims = max((model.dims for model in models), key=len)
        if name in part:
            layer = _spread(part[name], dims, part)
        else:
            layer = _blank(part, dims, models[0].dtype, blank_of(name))
        dtype = np.result_type(*(model.dtype for model in models))
        part = part.assign({name: (dims, layer.astype(dtype).data, models[0].attrs)})
    return part.assign_coords(rank=("time", np.full(part.sizes["time"], rank)))


def _spread(layer: xr.DataArray, dims: Sequence[Hashable], part: xr.Dataset) -> xr.Variable:
    """Expand a companion without bands to the bands of another cube's."""
    missing = {dim: part.sizes[dim] for dim in dims if dim not in layer.dims}
    return layer.reset_coords(drop=True).expand_dims(missing).transpose(*dims).variable


def _blank(
    part: xr.Dataset, dims: Sequence[Hashable], dtype: np.dtype[Any], fill: float
) -> xr.Variable:
    """A blank companion, lazy if the values are."""
    main = main_layer(part, what="densify")
    shape = tuple(part.sizes[dim] for dim in dims)
    if main.chunks is None:
        return xr.Variable(dims, np.full(shape, fill, dtype))
    chunks = tuple(main.variable.chunksizes[dim] for dim in dims)
    return xr.Variable(dims, da.full(shape, fill, dtype=dtype, chunks=chunks))


def _with_spread_uncertainty(merged: xr.Dataset, name: str) -> xr.Dataset:
    """Give each value its own uncertainty, or raise if no cube has any."""
    if "uncertainty" not in merged:
        raise ContractError(
            "duplicates='lowest_uncertainty' needs a companion 'uncertainty' in one cube at least",
            cure="assign one, or choose 'target' or 'mean'",
        )
    spread = spread_over(merged["uncertainty"], merged[name])
    return merged.assign(uncertainty=spread)


def _order(merged: xr.Dataset) -> AnyArray:
    """Order of the dates: by time, sensor and item id; ties in the order of the cubes."""
    keys = ("item_id", "sensor", "time")
    return np.lexsort([np.asarray(merged[key].values) for key in keys])


def _described(
    merged: xr.Dataset,
    target: xr.DataArray | xr.Dataset,
    parts: Sequence[xr.Dataset],
    name: str,
) -> xr.Dataset:
    """Write attributes: CF flags of `origin`, and history of all cubes."""
    sensors = [" ".join(sorted(set(read_coordinate(part, "sensor")))) for part in parts]
    attrs: dict[str, Any] = merged[name].attrs
    for part, sensor in zip(parts[1:], sensors[1:]):
        for line in str(part[name].attrs.get("history", "")).splitlines():
            attrs = with_history(attrs, f"{sensor}: {line}")
    counts = [f"{part.sizes['time']} dates of {sensor}" for part, sensor in zip(parts, sensors)]
    line = f"densify: {', '.join(counts)}"
    merged[name].attrs = with_history(attrs, line)
    merged["origin"].attrs = COMPANIONS["origin"].attrs
    merged[name].encoding = {}
    return merged.assign_attrs(target.attrs if isinstance(target, xr.Dataset) else {})
