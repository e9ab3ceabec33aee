"""Bring a cube to the finer pixels of another, date by date."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any, Literal, TypeAlias

import numpy as np
import xarray as xr

from xharmonize.cube.companions import (
    COMPANIONS,
    Origin,
    ResultFlag,
    blank_missing,
    companions_of,
    with_flags,
)
from xharmonize.cube.contract import (
    REFLECTANCE,
    main_layer,
    read_coordinate,
    require_contract,
    require_reflectance,
    select_bands,
    spread_over,
    with_history,
)
from xharmonize.cube.dates import require_any_date, worded_days
from xharmonize.cube.door import at_door
from xharmonize.cube.encode import decode
from xharmonize.cube.geobox import geobox_of, is_same_grid
from xharmonize.cube.orbits import pair_shifts
from xharmonize.cube.origin import origin_of, sharpened_origin
from xharmonize.cube.regrid import regrid
from xharmonize.errors import (
    ContractError,
    ModelError,
    UnknownModelError,
    suggest,
)
from xharmonize.fusion.consistency import TOLERANCE, flag_inconsistent
from xharmonize.fusion.consistency import correct as make_consistent
from xharmonize.fusion.frame import require_finer
from xharmonize.fusion.native import split_by_pixel
from xharmonize.fusion.sources import ROLES, of_itself, pan_of, sources_of, uses_pan
from xharmonize.harmonizers.base import no_flags
from xharmonize.harmonizers.beside import OF_REFERENCE, PAN, REFERENCE_GAP, REFERENCE_TIME
from xharmonize.harmonizers.convert import apply_model, for_platforms_of
from xharmonize.harmonizers.protocol import Harmonizer, Model
from xharmonize.harmonizers.published import require_one_bandpass, table_between
from xharmonize.harmonizers.registry import as_harmonizer, resolve
from xharmonize.models.refs import Runtime
from xharmonize.sensors import Names
from xharmonize.sensors.spec import UNKNOWN
from xharmonize.types import Duration

Cube: TypeAlias = xr.DataArray | xr.Dataset

METHODS = {
    "bilinear": "xharmonize.fusion.methods.bilinear:Bilinear",
    "atprk": "xharmonize.fusion.methods.atprk:Atprk",
    "starfm-si": "xharmonize.fusion.methods.starfm:StarfmSI",
    "starfm": "xharmonize.fusion.methods.starfm:Starfm",
}
"""Methods by name; each is a `Sharpener` with defaults for all its options."""

PUBLISHED = "published"


def sharpen(
    cube: Cube,
    fine: Cube | None = None,
    model: Model = "bilinear",
    *,
    pan: Cube | None = None,
    references: Literal["nearest", "before", "after"] | xr.Dataset = "nearest",
    tolerance: Duration = "32D",
    min_valid: float = 0.8,
    max_score: float | None = 2.0,
    bandpass: Model | None = PUBLISHED,
    shifts: xr.Dataset | None = None,
    psf: float = 0.0,
    correct: bool = False,
    consistency: float | None = TOLERANCE,
    runtime: Runtime | None = None,
) -> xr.Dataset:
    """Bring each date of a cube to the pixels of a finer one, lazily.

    Landsat at 30 m beside Sentinel-2 at 10 m, for instance, or any two cubes in one CRS. Each date
    is sharpened with the clear date of `fine` that is nearest in time. To choose it, **a sample of
    two bands of both cubes is read and computed**, as by `xharmonize.collect_pairs`; pass
    `references` from `xharmonize.fusion.find_references` and nothing is. Methods that look at no
    date of `fine` (``bilinear``) read nothing either.

    Three calls need no second sensor:

    - ``sharpen(landsat, pan=pan)`` uses the panchromatic band of the same images alone.
    - ``sharpen(sentinel2)`` brings the 20 m bands of a cube that holds them at 10 m, as
      ``open_stac(resolution=10)`` does by nearest, to 10 m with its 10 m bands. What is held finer
      than it was observed is taken back to its own pixels first; a cube that was interpolated is
      refused.
    - ``sharpen(twenty, ten)`` does the same with a cube of 20 m bands and one of 10 m bands.

    Parameters
    ----------
    cube : (time, band, y, x) DataArray, or Dataset with ``reflectance``
        The coarse cube: reflectance [1] or digital numbers with their contract; NaN where missing.
    fine : (time, band, y, x) DataArray, or Dataset with ``reflectance``, optional
        Reflectance [1] on a finer grid in the same CRS; grids need not nest.
    model : str, path or Harmonizer
        ``bilinear``; a bundle whose network takes a source ``fine``; or a method with options of
        your own, such as an instance of a class of `xharmonize.fusion`.
    pan : (time, y, x) or (time, band, y, x) DataArray, optional
        The panchromatic band of the images of `cube`, floats of any level and unit that are NaN
        where missing, on a finer grid; of the contract it needs the dates only. With `fine` it is
        one more band of that.
    references : {"nearest", "before", "after"} or Dataset
        Which date of `fine`; see `xharmonize.fusion.find_references`, or a result of it. Models
        that name the dates themselves, such as those of one before and one after, refuse others
        than ``nearest``.
    tolerance, min_valid, max_score
        See `xharmonize.fusion.find_references`.
    bandpass : str, path, Dataset, Harmonizer or None
        Model that brings `cube` to the bandpass of `fine` first, if they differ. ``published``:
        the published lines between both; a fit on your own pairs is better. None: it keeps its
        own, and so does the result.
    shifts : Dataset, optional
        From ``xh.fit_shifts(cube, reference=fine)``: each date is brought to where its reference
        lies.
    psf : float
        Standard deviation [m] of the Gaussian that blurs the area a coarse pixel sees.
    correct : bool
        Whether to make the result agree with `cube`; see `xharmonize.fusion.correct`.
    consistency : float or None
        Difference [1] from which on a value is flagged ``inconsistent``; see
        `xharmonize.fusion.flag_inconsistent`. None: it is not looked at.
    runtime : Runtime, optional
        Device, precision and batch size of networks.

    Returns
    -------
    Dataset
        ``reflectance`` (time, band, y, x), float32 [1], on the grid of `fine` (or `pan`), with the
        dates and contract of `cube`, in the bandpass of `fine`; NaN where the coarse pixel is
        missing, and where the method lacks a fine one. ``origin``: 8 sharpened, with 2 harmonised
        where the bandpass was adjusted. ``flag``: ``inconsistent``, and ``skipped`` on dates that
        have no reference. Other companions are those of the coarse pixel. Coordinates
        ``reference_time`` and ``reference_gap`` (reference minus date [day]) where a reference was
        used; of methods that take one before and one after, ``reference_time_before``, … of each.
        `xharmonize.densify` merges it with `fine`.

    Raises
    ------
    TimeAxisError
        If there is no clear reference, or none within `tolerance`; if an image has no `pan`.
    GridError
        If the grid is not finer, is in another CRS, or does not meet the cube.
    BandError
        If the model needs bands that both cubes have, and there are none.
    ModelError
        If the model is no method of sharpening, makes no use of what is given, or there are no
        published lines between the bandpasses.
    RadiometryError
        If a cube holds digital numbers where reflectance is needed, or its bandpass is unknown.
    """
    coarse, method, given = _decoded(at_door(cube)), as_method(model), None
    near = None if fine is None else _reflectance(at_door(fine))
    if near is not None:  # those of a cube that was itself sharpened are not of this one
        near = near.drop_vars([n for n in near.coords if str(n).startswith(OF_REFERENCE)])
    if near is None and pan is None:
        given, (near, coarse) = coarse, split_by_pixel(coarse)
        near = of_itself(near)
    band = None if pan is None else pan_of(pan)
    _require_used(method, near, band)
    like = band if near is None else near
    assert like is not None
    require_finer(_reflectance(coarse), like, what="sharpen")
    adjusts = near is not None and _adjusts_itself(method, near)
    if near is not None and bandpass is not None and not adjusts:
        coarse = _adjusted(coarse, near, bandpass)
    array = _reflectance(coarse)
    limits = {"tolerance": tolerance, "min_valid": min_valid, "max_score": max_score}
    sources = sources_of(method, array, near, band, references, limits)
    moved = None if shifts is None else _moved(array, sources, like, shifts)
    method = _configured(method, like=like, psf=psf, shifts=moved, runtime=runtime)
    result = _on_grid_of(method(array, **sources), like)
    whole = _marked(result, coarse, sources, moved, _line(method, sources, psf, moved))
    if (correct or consistency is not None) and adjusts and near is not None and bandpass:
        array = _reflectance(_adjusted(coarse, near, bandpass))
    array = _bands_of(array, whole[REFLECTANCE])
    if correct:
        whole = make_consistent(whole, array, psf=psf, shifts=moved)
    if consistency is not None:
        whole = flag_inconsistent(whole, array, tolerance=consistency, psf=psf, shifts=moved)
    return whole if given is None or near is None else _joined(given, near, whole)


def as_method(model: Model) -> Harmonizer:
    """Return the method for a name, a bundle or a harmoniser.

    Raises
    ------
    ModelError
        If the model changes no pixels: lines and tables belong into `bandpass`.
    """
    if isinstance(model, str) and model in METHODS:
        method: Harmonizer = resolve_name(METHODS[model])()
        return method
    if isinstance(model, (str, os.PathLike)):
        try:
            method = as_harmonizer(model)
        except UnknownModelError as error:
            raise UnknownModelError(
                f"no method of sharpening, no model and no file {os.fspath(model)!r}",
                cure=f"{suggest(model, METHODS)}methods are {', '.join(METHODS)}",
                value=model,
            ) from error
    else:
        method = as_harmonizer(model)
    if not method.changes_grid:
        raise ModelError(
            f"model {method.name!r} changes no pixels",
            cure=f"choose one of {', '.join(METHODS)} or a bundle, and pass this one as bandpass=",
        )
    return method


def _decoded(cube: Any) -> Any:
    require_contract(cube)
    require_any_date(cube)
    if isinstance(cube, xr.Dataset) and REFLECTANCE not in cube:
        raise ContractError(
            "the Dataset has no variable 'reflectance'",
            cure=f"it has {sorted(map(str, cube.data_vars))}",
        )
    is_decoded = bool(read_coordinate(_reflectance(cube), "is_decoded").all())
    return cube if is_decoded else decode(cube)


def _reflectance(cube: Any) -> xr.DataArray:
    return cube if isinstance(cube, xr.DataArray) else main_layer(cube, what="sharpen")


def _require_used(method: Harmonizer, near: Any, band: Any) -> None:
    """Raise where a method has no use for what is given, or lacks what it needs."""
    takes = set(method.sources[1:])
    if band is not None and not uses_pan(method, beside_fine=near is not None):
        raise ModelError(
            f"model {method.name!r} makes no use of a panchromatic band",
            cure="choose model='atprk', or leave pan= out",
        )
    if near is None and takes - {PAN, "fine"}:
        raise ModelError(
            f"model {method.name!r} needs {', '.join(sorted(takes))} of a fine cube",
            cure="give fine=, or choose model='atprk', which takes pan= alone",
        )


def _adjusts_itself(method: Harmonizer, near: xr.DataArray) -> bool:
    """Whether a network was trained from another bandpass than that of the fine cube."""
    wanted = str(read_coordinate(near, "bandpass")[0])
    return method.source_bandpass not in ("", wanted)


def _adjusted(coarse: Any, near: xr.DataArray, bandpass: Model) -> Any:
    """The coarse cube in the bandpass of the fine one."""
    require_reflectance(near)
    require_one_bandpass(near, what="sharpen")
    wanted = str(read_coordinate(near, "bandpass")[0])
    own = set(read_coordinate(_reflectance(coarse), "bandpass").astype(str).tolist())
    if own == {wanted}:
        return coarse
    if isinstance(bandpass, str) and bandpass == PUBLISHED:
        other = min(own - {wanted})
        table = table_between(other, wanted)
        if table is None:
            raise ModelError(
                f"there are no published lines from {other} to {wanted}",
                cure="fit some and pass them as bandpass=, such as xh.fit_linear(xh.match_pairs("
                "cube, xh.regrid(fine, like=cube))); or bandpass=None, and the result is in "
                f"{other}",
            )
        bandpass = table
    return apply_model(coarse, for_platforms_of(resolve(bandpass, wanted), near))


def _joined(given: Any, fine: xr.DataArray, whole: xr.Dataset) -> xr.Dataset:
    """All bands of a cube that was sharpened with its own finer bands, in its order."""
    observed = fine.to_dataset(name=REFLECTANCE).drop_vars(set(fine.coords) - set(whole.coords))
    observed["flag"] = spread_over(no_flags(fine), fine)
    observed["origin"] = origin_of(fine)
    both = xr.concat(
        [observed, whole[list(observed.data_vars)]],
        "band",
        data_vars="all",
        coords="minimal",
        compat="override",
        join="override",
        combine_attrs="override",
    )
    array = _reflectance(given)
    both = both.sel(band=array["band"].values).transpose("time", "band", "y", "x")
    if isinstance(given, xr.Dataset):
        both = both.assign(_kept(given, both))
    both[REFLECTANCE].attrs = whole[REFLECTANCE].attrs
    both["flag"].attrs, both["origin"].attrs = whole["flag"].attrs, whole["origin"].attrs
    return both


def _kept(given: xr.Dataset, both: xr.Dataset) -> dict[str, xr.DataArray]:
    """Companions of a cube that was sharpened with its own bands, but for ``uncertainty``."""
    names = [n for n in companions_of(given) if COMPANIONS[n].over_bands is not None]
    layers = {name: given[name] for name in names}
    if "flag" in layers:
        layers["flag"] = with_flags(both["flag"], layers["flag"].reset_coords(drop=True))
    if "origin" in layers:
        known = spread_over(layers["origin"], both[REFLECTANCE])
        is_new = (both["origin"].data & np.uint8(Origin.SHARPENED)) != 0
        layers["origin"] = sharpened_origin(known).where(is_new, known).astype(known.dtype)
    return blank_missing(layers, both[REFLECTANCE])


def _moved(
    coarse: xr.DataArray,
    sources: Mapping[str, xr.DataArray],
    like: xr.DataArray,
    shifts: xr.Dataset,
) -> xr.Dataset:
    """Shift of each date against its reference; against the mean of all without one."""
    fine = sources.get("fine", like.isel(time=[0]))
    if REFERENCE_TIME in fine.coords:
        fine = fine.assign_coords(time=fine[REFERENCE_TIME].values)
    else:
        shifts = shifts.drop_dims(REFERENCE_TIME, errors="ignore")
    return pair_shifts(coarse, fine, shifts)


def _configured(method: Harmonizer, **options: Any) -> Harmonizer:
    """Set those of the options that a method takes; some are for other steps too."""
    own = {name: value for name, value in options.items() if name in method.options}
    if options["runtime"] is not None and "runtime" not in own:
        raise ModelError(f"model {method.name!r} takes no runtime", cure="leave runtime= out")
    if options["shifts"] is not None and "shifts" not in own:
        raise ModelError(f"model {method.name!r} takes no shifts", cure="leave shifts= out")
    return method.configured(**own)


def _on_grid_of(result: Any, like: xr.DataArray) -> xr.Dataset:
    """The result of a method, a Dataset on the grid of the fine cube."""
    array = _reflectance(result)
    whole = result if isinstance(result, xr.Dataset) else array.to_dataset(name=REFLECTANCE)
    on_it: xr.Dataset = regrid(whole, like=like)
    return whole if is_same_grid(geobox_of(array), geobox_of(like)) else on_it


def _bands_of(array: xr.DataArray, result: xr.DataArray) -> xr.DataArray:
    return select_bands(array, [str(name) for name in result["band"].values])


def _line(method: Harmonizer, sources: Mapping[str, xr.DataArray], psf: float, shifts: Any) -> str:
    """What was done, for the history."""
    used = []
    for role, source in sources.items():
        gap = np.abs(source[REFERENCE_GAP].values)
        products = Names.of(read_coordinate(source, "sensor"))
        far = f", up to {worded_days(round(float(np.nanmax(gap)), 1))} away" if gap.max() else ""
        used.append(f"{role} of {products} ({Names.of(read_coordinate(source, 'level'))}){far}")
    line = f"sharpen: {method.name}{' with ' * bool(used)}{'; '.join(used)}"
    line += f", point spread {psf:g} m" if psf else ""
    return line + (", shifted date by date" if shifts is not None else "")


def _reference_coords(sources: Mapping[str, xr.DataArray]) -> dict[str, xr.Variable]:
    """When the fine images were observed: of a method that takes several, each by its role."""
    named = [role for role in sources if role in ROLES] or list(sources)[:1]
    return {
        name if len(named) == 1 else f"{name}_{role}": sources[role][name].variable
        for role in named
        for name in OF_REFERENCE
    }


def _marked(
    result: xr.Dataset,
    coarse: Any,
    sources: Mapping[str, xr.DataArray],
    shifts: xr.Dataset | None,
    line: str,
) -> xr.Dataset:
    """Add origin, flags, other companions and what the references were."""
    array = result[REFLECTANCE].assign_coords(_reference_coords(sources))
    array = array.assign_attrs(with_history(array.attrs, line))
    whole = result.drop_vars(REFLECTANCE).assign({REFLECTANCE: array})[
        [REFLECTANCE, *companions_of(result)]
    ]
    carried = _companions(coarse, array, shifts)
    for name, layer in carried.items():
        own = whole.get(name)
        whole[name] = layer if own is None else with_flags(own, layer.reset_coords(drop=True))
    flag = with_flags(whole.get("flag"), _skipped(array, sources))
    return whole.assign(flag=flag, origin=sharpened_origin(_origin(whole, array)))


def _companions(
    coarse: Any, array: xr.DataArray, shifts: xr.Dataset | None
) -> dict[str, xr.DataArray]:
    """Companions of the coarse pixels on the fine grid; ``uncertainty`` is not theirs any more."""
    if isinstance(coarse, xr.DataArray):
        return {}
    names = [n for n in companions_of(coarse) if COMPANIONS[n].over_bands is not None]
    layers = {}
    for name in names:
        layer = coarse[name]
        if "band" in layer.dims:
            layer = layer.sel(band=array["band"].values)
        layers[name] = regrid(layer, like=array, method="nearest", min_valid=0, shifts=shifts)
    return blank_missing(layers, array)


def _origin(whole: xr.Dataset, array: xr.DataArray) -> xr.DataArray:
    """Origin of the coarse values where the fine ones are valid."""
    if "origin" in whole:
        return whole["origin"]
    if (read_coordinate(array, "sensor") == UNKNOWN).any():
        layer = np.isfinite(array).astype(np.uint8) * np.uint8(Origin.OBSERVED)
        return array.copy(data=layer.data).rename("origin").drop_attrs()
    return origin_of(array)


def _skipped(array: xr.DataArray, sources: Mapping[str, xr.DataArray]) -> xr.DataArray:
    """Flags (time, y, x): dates of which no source has a reference."""
    lacks = np.zeros(array.sizes["time"], bool)
    if sources:
        gaps = [one[REFERENCE_GAP].values for one in sources.values()]
        lacks = np.asarray(np.isnan(gaps).all(axis=0))
    layer = no_flags(array)
    bits = lacks[:, None, None] * np.uint8(ResultFlag.SKIPPED)
    return layer.copy(data=layer.data + bits)
