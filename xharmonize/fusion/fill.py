"""Fill clouds in a cube from its other dates, and from what Sentinel-1 shows of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from xharmonize.cube.companions import COMPANIONS, Origin, companions_of
from xharmonize.cube.contract import (
    REFLECTANCE,
    main_layer,
    read_coordinate,
    require_bands,
    require_contract,
    select_bands,
    with_history,
)
from xharmonize.cube.dates import duration_in_days
from xharmonize.cube.door import at_door
from xharmonize.cube.origin import origin_of
from xharmonize.cube.regrid import require_same_grid
from xharmonize.cube.whole import days_of
from xharmonize.errors import ModelError, OptionError
from xharmonize.fusion.methods.filler import GAP, Filler, Reference, observed
from xharmonize.fusion.methods.sar_regression import SAR_REGRESSION, fit_sar_regression
from xharmonize.fusion.methods.temporal import NEAREST, TEMPORAL, fit_temporal
from xharmonize.fusion.passes import OFFSET, mean_passes, nearest_passes, read_radar
from xharmonize.fusion.references import find_references, take_references
from xharmonize.harmonizers import base
from xharmonize.harmonizers.beside import OF_REFERENCE
from xharmonize.harmonizers.protocol import Harmonizer, Model
from xharmonize.harmonizers.registry import as_harmonizer
from xharmonize.models.refs import Runtime
from xharmonize.sensors import Names
from xharmonize.types import Duration

FillMethod: TypeAlias = Literal["temporal", "nearest", "sar-regression"]
FILLERS = (TEMPORAL, NEAREST, SAR_REGRESSION)


def fill_clouds(
    cube: xr.DataArray | xr.Dataset,
    sentinel1: xr.DataArray | xr.Dataset | None = None,
    model: Model = TEMPORAL,
    *,
    reference: Reference = "nearest",
    max_gap: Duration = 60.0,
    max_offset: Duration = 6.0,
    whole: bool = False,
    runtime: Runtime | None = None,
) -> xr.Dataset:
    """Fill cloudy and missing pixels of a cube from its other dates, lazily.

    Observed values stay; each missing value is estimated from clear dates of the same pixel, and
    marked as ``filled`` in `origin`. Values that an earlier step filled count as missing where
    others are estimated from them. A date counts at a pixel where all its bands are valid.

    Parameters
    ----------
    cube : (time, band, y, x) DataArray or Dataset with ``reflectance``
        Reflectance [1] or digital numbers, clouds masked: NaN where missing.
    sentinel1 : cube, optional
        Sentinel-1 backscatter (VV, VH) on any grid, linear power or decibels as its ``units`` say,
        for models that use it; ``xh.open_stac(..., collection="sentinel-1-rtc", mask=None)``.
    model : {"temporal", "nearest", "sar-regression"}, fit, bundle or path
        ``temporal`` interpolates linearly in time between the clear dates before and after;
        ``nearest`` takes the value of the nearest one; ``sar-regression`` adds to them the change
        that Sentinel-1 shows. A name is fitted to this cube, in the same graph, on a sample of its
        pixels; a fit is one of `fit_fill`, of this place or another. A trained network gets the
        cubes that it names as its sources.
    reference : {"nearest", "before", "after"}
        Which clear dates count: those on both sides of a date, earlier ones (as they are known when
        the date is observed), or later ones.
    max_gap : str or number
        Longest time to a clear date that is used, such as ``"60D"`` or 60 [day]. A value without
        one stays missing.
    max_offset : str or number
        Longest time to the nearest Sentinel-1 pass [day]. A date without one is not filled by
        models that use Sentinel-1.
    whole : bool
        Whether to estimate all pixels, observed ones too, each without its own date. The result
        then holds estimates alone: for comparison, or for a date that is not trusted.
    runtime : Runtime, optional
        Device, precision and batch size of networks.

    Returns
    -------
    Dataset
        ``reflectance`` float32 [1]; ``origin``, with ``filled`` for estimates; ``uncertainty``, one
        standard deviation [1], which grows with the time to clear dates (of networks NaN; of
        observed values that of the cube, or NaN; NaN throughout where clear dates lie fewer than
        five different times apart, too few to learn it from); ``gap`` (time, y, x), time to the
        nearest clear date that was used [day], 0 where nothing was filled. Other companions are
        kept, and describe the observation. Coordinates along time: ``sentinel1_offset`` (nearest
        pass minus date [day], NaN where there is none) with Sentinel-1; ``reference_time`` and
        ``reference_gap`` [day] of networks, which look at one date.

    Raises
    ------
    ModelError
        If Sentinel-1 is given to a model without use for it, the fit is of another bandpass, or
        `whole` is asked of a model that looks at nothing but each date itself.
    ContractError, RadiometryError
        If a model needs Sentinel-1 and there is none, or it does not say its unit.
    TimeAxisError
        If there are too few dates, or no date has a Sentinel-1 pass.
    BandError
        If the cube has bands that the fit lacks.
    FitError
        If there are too few clear dates to fit.

    References
    ----------
    Journel, A. G., & Huijbregts, C. J. (1978). Mining Geostatistics (variance of an estimate from
    a semivariogram).

    Examples
    --------
    >>> from xharmonize.testing import example_cube
    >>> dates = [f"2018-07-{day:02}" for day in (1, 6, 11, 16, 21, 26)]
    >>> cube = example_cube(dates=dates)
    >>> cloudy = cube.where(cube.time != cube.time[2])
    >>> filled = fill_clouds(cloudy)
    >>> int(filled["origin"][2, 0, 0, 0]), float(filled["gap"][2, 0, 0])
    (4, 5.0)
    """
    cube, sentinel1 = at_door(cube), at_door(sentinel1)
    _require_reference(reference)
    longest = duration_in_days(max_gap, argument="max_gap")
    near = duration_in_days(max_offset, argument="max_offset", least=0)
    given, array = _opened(cube)
    if isinstance(model, str) and model in FILLERS:
        name: Any = model
        model = fit_fill(given, sentinel1, name, max_gap=longest, max_offset=near)
    harmonizer = as_harmonizer(model)
    _require_use(harmonizer.name, harmonizer.sources, sentinel1)
    if isinstance(harmonizer, Filler):
        if runtime is not None:
            raise ModelError(
                f"model {harmonizer.name!r} takes no runtime", cure="leave runtime= out"
            )
        chosen = harmonizer.configured(reference=reference, max_gap=longest)
        chosen.check(array)
        has_radar = "sentinel1" in chosen.sources
        others = _radar(array, sentinel1, near=near) if has_radar else {}
        found = chosen.estimated(given, **others)
    else:
        _require_same_bandpass(harmonizer, array)
        others = _sources(harmonizer, given, array, sentinel1, reference, longest, near)
        _require_others(harmonizer, whole=whole)
        # Each date without itself, whatever the model looks at.
        seen = given[[REFLECTANCE]].where(False) if whole else given[[REFLECTANCE]]
        found = _by_network(harmonizer.configured(runtime=runtime), seen, others)
    told = {
        name: coord
        for role, one in others.items()
        for name, coord in one.coords.items()
        if name == OFFSET or (name in OF_REFERENCE and not role.startswith("sentinel1"))
    }
    return _joined(given, array, found, whole=whole, name=harmonizer.name).assign_coords(told)


def fit_fill(
    cube: xr.DataArray | xr.Dataset,
    sentinel1: xr.DataArray | xr.Dataset | None = None,
    model: FillMethod = "temporal",
    *,
    max_gap: Duration = 60.0,
    max_offset: Duration = 6.0,
) -> xr.Dataset:
    """Fit a model of `fill_clouds` to the clear dates of a place, lazily.

    All of them learn how much the bands change with time. ``sar-regression`` also learns the change
    of each band between two clear dates as a linear function of the change and level of VV and VH
    and of the NDVI of the first, by ridge regression over the pixels of a sample, pairs weighted by
    the inverse of their days; and how much change that leaves. The sample is 16 windows of 12 x 12
    pixels, or the whole of a small cube.

    Parameters
    ----------
    cube, sentinel1, max_offset
        See `fill_clouds`.
    model : {"temporal", "nearest", "sar-regression"}
        What to fit.
    max_gap : str or number
        Longest time between two dates that are compared [day].

    Returns
    -------
    Dataset
        ``structure`` (band, parameter), the semivariogram ``nugget + growth * days ** exponent``
        [1]; for ``sar-regression`` also ``coefficient`` (band, term) [1].
        `xharmonize.harmonizers.save_model` saves it.

    Raises
    ------
    OptionError
        If `model` is not one that can be fitted.
    FitError
        If there are fewer than 3 dates, or, when computed, too few pairs of clear values.
    ContractError, RadiometryError, TimeAxisError
        See `fill_clouds`.

    Examples
    --------
    >>> from xharmonize.testing import example_cube
    >>> dates = [f"2018-07-{day:02}" for day in (1, 4, 6, 11, 16, 26)]
    >>> fit = fit_fill(example_cube(dates=dates))
    >>> fit["structure"].dims, fit.attrs["model"]
    (('band', 'parameter'), 'temporal')
    """
    cube, sentinel1 = at_door(cube), at_door(sentinel1)
    if model not in FILLERS:
        raise OptionError(
            "is no model that can be fitted to a place",
            cure=f"choose {', '.join(map(repr, FILLERS))}",
            argument="model",
            value=model,
        )
    longest = duration_in_days(max_gap, argument="max_gap")
    near = duration_in_days(max_offset, argument="max_offset", least=0)
    given, array = _opened(cube)
    seen = observed(given, base.decoded(array))
    if model != SAR_REGRESSION:
        _require_use(model, ("cube",), sentinel1)
        return fit_temporal(seen, longest=longest, model=model)
    radar = _radar(array, sentinel1, near=near)["sentinel1"]
    return fit_sar_regression(seen, radar, longest=longest)


def _opened(cube: Any) -> tuple[xr.Dataset, xr.DataArray]:
    """The cube as a Dataset, and its reflectance."""
    array = main_layer(cube, what="fill_clouds")
    require_contract(array)
    if isinstance(cube, xr.Dataset):
        return cube, array
    return array.to_dataset(name=REFLECTANCE), array


def _require_reference(reference: Any) -> None:
    if reference not in ("nearest", "before", "after"):
        raise OptionError(
            "is unknown",
            cure="choose 'nearest', 'before' or 'after'",
            argument="reference",
            value=reference,
        )


def _require_use(name: str, sources: Sequence[str], sentinel1: Any) -> None:
    """Raise if Sentinel-1 is given for nothing."""
    if sentinel1 is not None and not any("sentinel1" in role for role in sources):
        raise ModelError(
            f"model {name!r} has no use for Sentinel-1",
            cure="leave sentinel1= out, or choose model='sar-regression'",
        )


def _require_same_bandpass(harmonizer: Harmonizer, array: xr.DataArray) -> None:
    """Raise if a model leads to another bandpass: its values would stand beside observed ones."""
    found = str(Names.of(read_coordinate(array, "bandpass")))
    if harmonizer.target_bandpass not in ("", found):
        raise ModelError(
            f"model {harmonizer.name!r} leads from {harmonizer.source_bandpass or 'any bandpass'} "
            f"to {harmonizer.target_bandpass}: it harmonises, and fills nothing",
            cure="choose 'temporal' or 'sar-regression', or a network that was trained to fill",
        )


def _require_others(harmonizer: Harmonizer, *, whole: bool) -> None:
    """Raise if a model that knows nothing but a date is to estimate it without itself."""
    if whole and len(harmonizer.sources) < 2:
        raise ModelError(
            f"model {harmonizer.name!r} looks at nothing but the date that whole=True leaves out",
            cure="leave whole= out, or choose a model with a reference or Sentinel-1",
        )


def _radar(array: xr.DataArray, sentinel1: Any, *, near: float) -> dict[str, xr.DataArray]:
    radar = read_radar(sentinel1, what=f"model {SAR_REGRESSION!r}")
    return {"sentinel1": mean_passes(radar, array, tolerance=near)}


def _sources(
    harmonizer: Harmonizer,
    cube: xr.Dataset,
    array: xr.DataArray,
    sentinel1: Any,
    reference: Reference,
    longest: float,
    near: float,
) -> dict[str, xr.DataArray]:
    """The cubes that a network asks for, along the dates of the cube.

    ``sentinel1`` is the pass nearest to each date, ``sentinel1_reference`` that nearest to its
    reference, of the same track; ``before`` and ``after`` are the clear dates on that side; any
    other role is the clear date that `reference` says. The reference is that of the first optical
    role.
    """
    others: dict[str, xr.DataArray] = {}
    roles = harmonizer.sources[1:]
    own = base.decoded_set(cube)
    own = own.assign({REFLECTANCE: observed(cube, own[REFLECTANCE])})
    optical = [role for role in roles if not role.startswith("sentinel1")]
    found = {
        role: find_references(own, rule=_rule_of(role, reference), tolerance=longest)
        for role in (optical or ["sentinel1_reference"] * ("sentinel1_reference" in roles))
    }
    for role in roles:
        if role in optical:
            others[role] = take_references(own, found[role])
            continue
        radar = read_radar(sentinel1, what=f"model {harmonizer.name!r}")
        if role == "sentinel1_reference":
            others[role] = _beside_reference(radar, array, next(iter(found.values())), near)
        else:
            moments, days = array["time"].values, days_of(array)
            others[role] = nearest_passes(radar, array, moments, days, tolerance=near)
    return others


def _rule_of(role: str, reference: Reference) -> Reference:
    """On which side of a date the clear date of a role lies."""
    own: dict[str, Reference] = {"before": "before", "after": "after"}
    return own.get(role, reference)


def _beside_reference(
    radar: xr.DataArray, array: xr.DataArray, found: xr.Dataset, near: float
) -> xr.DataArray:
    """The pass nearest to the reference of each date; NaN where there is no reference."""
    moments = found["reference_time"].values
    lacks = np.isnat(moments)
    at = np.where(lacks, array["time"].values, moments)
    days = days_of(array.assign_coords(time=at))
    passes = nearest_passes(radar, array, at, days, tolerance=near)
    if lacks.any():
        passes = passes.where(xr.DataArray(~lacks, dims="time")).transpose(*radar.dims)
        told = np.where(lacks, np.datetime64("NaT"), passes["reference_time"].values)
        passes = passes.assign_coords(reference_time=("time", told))
    return passes.drop_vars(OFFSET)


def _by_network(
    harmonizer: Harmonizer, cube: xr.Dataset, others: dict[str, xr.DataArray]
) -> xr.Dataset:
    """What a network or function makes of all pixels."""
    made: Any = harmonizer(cube, **others)
    value = main_layer(made, what="fill_clouds")
    require_same_grid(cube[REFLECTANCE], value, what="fill_clouds")
    bands = [str(band) for band in cube["band"].values]
    require_bands(value, bands, what="fill_clouds")
    value = select_bands(value, bands)
    sigma = value.copy(data=np.full_like(value.data, np.nan)).drop_attrs()
    result = value.to_dataset(name=REFLECTANCE).assign(uncertainty=sigma)
    first = next((one for one in others.values() if "reference_gap" in one.coords), None)
    away = np.full(value.sizes["time"], np.nan) if first is None else first["reference_gap"].values
    days = xr.DataArray(
        np.abs(away).astype(np.float32), dims="time", coords={"time": value["time"]}
    )
    gap = days.where(value.notnull().any("band")).transpose("time", "y", "x")
    return result.assign({GAP: gap.reset_coords(drop=True)})


def _joined(
    cube: xr.Dataset, array: xr.DataArray, found: xr.Dataset, *, whole: bool, name: str
) -> xr.Dataset:
    """Put estimates where values are missing, and say so in the companions."""
    own = base.decoded(array)
    # Variables: xarray would compute lazy coordinates to compare those of two arrays.
    seen: Any = own.variable
    estimate, sigma, gap = (_bare(found[name]) for name in (REFLECTANCE, "uncertainty", GAP))
    estimate, missing = estimate.transpose(*own.dims), seen.isnull()
    value = estimate if whole else seen.where(~missing, estimate)
    line = f"fill_clouds: {name}, {'all pixels' if whole else 'missing pixels'}"
    result = own.copy(data=value.data).assign_attrs(with_history(own.attrs, line))
    filled = estimate.notnull() if whole else missing & estimate.notnull()
    past: dict[str, Any]
    past = {"origin": origin_of(own), "uncertainty": np.float32(np.nan), GAP: np.float32(0)}
    past |= {n: cube[n] for n in past if n in cube}
    if whole:
        past = {"origin": np.uint8(0), "uncertainty": np.float32(np.nan), GAP: np.float32(np.nan)}
    layers = {n: cube[n] for n in companions_of(cube)}
    origin: Any = xr.where(filled, np.uint8(Origin.FILLED), _bare(past["origin"]))  # type: ignore[no-untyped-call]
    layers["origin"] = _layer(own, origin, "origin")
    sigma = sigma.where(filled, _bare(past["uncertainty"]))
    layers["uncertainty"] = _layer(own, sigma, "uncertainty")
    gap = gap.where(filled.any("band"), _bare(past[GAP])).where(value.notnull().any("band"))
    layers[GAP] = _layer(own.isel(band=0, drop=True), gap, GAP)
    return result.to_dataset(name=REFLECTANCE).assign(layers).assign_attrs(cube.attrs)


def _bare(layer: Any) -> Any:
    return layer.variable if isinstance(layer, xr.DataArray) else layer


def _layer(like: xr.DataArray, data: xr.Variable, name: str) -> xr.DataArray:
    attrs, dtype = COMPANIONS[name].attrs, COMPANIONS[name].dtype
    if name == "uncertainty":
        attrs = {**attrs, "units": str(like.attrs.get("units", "1"))}
    layer = like.copy(data=data.transpose(*like.dims).astype(dtype).data).drop_attrs(deep=False)
    return layer.rename(name).assign_attrs(attrs)
