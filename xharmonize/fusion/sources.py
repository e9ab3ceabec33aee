"""The sources of a method: which cube of a call each role is, on the dates of the coarse cube."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.cube.blockwise import cut_like, is_lazy
from xharmonize.cube.contract import TIME_COORDS, main_layer
from xharmonize.cube.dates import require_dates
from xharmonize.cube.door import at_door
from xharmonize.errors import BandError, ModelError, OptionError, RadiometryError, TimeAxisError
from xharmonize.fusion.frame import upsampled
from xharmonize.fusion.references import (
    Rule,
    find_pair_references,
    find_references,
    take_references,
    with_reference,
)
from xharmonize.harmonizers.beside import PAN, REFERENCE_GAP, REFERENCE_TIME
from xharmonize.harmonizers.protocol import Harmonizer
from xharmonize.sensors.spec import UNKNOWN

ROLES: dict[str, Rule] = {"fine": "nearest", "before": "before", "after": "after"}
"""Sources beside the coarse cube, and which clear date of the fine one each is. ``coarse_before``
is the coarse partner of ``before``, and so on; ``pan`` is the band of the date itself."""

PARTNER = "coarse_"
SAME_IMAGE = "1h"


def pan_of(pan: Any) -> xr.DataArray:
    """The panchromatic band as a cube of one band; what its numbers mean does not matter."""
    array = main_layer(at_door(pan), what="sharpen")
    require_dates(array, what="pan=")
    array = array if "band" in array.dims else array.expand_dims("band", axis=1)
    if array.sizes["band"] != 1:
        raise BandError(
            f"pan= has {array.sizes['band']} bands",
            cure=f"select one of {array['band'].values.tolist()} with a list",
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise RadiometryError(
            f"pan= holds {array.dtype}, in which a missing pixel is a number like others",
            cure="make it floats that are NaN there, such as pan.where(pan > 0)",
        )
    lacking = [name for name in TIME_COORDS if name not in array.coords]
    unknown = np.full(array.sizes["time"], UNKNOWN)
    return array.assign_coords(dict.fromkeys(lacking, ("time", unknown)) | {"band": [PAN]})


def of_itself(cube: xr.DataArray) -> xr.DataArray:
    """A cube whose dates are the references of themselves."""
    return with_reference(cube, cube["time"].values, np.zeros(cube.sizes["time"]))


def sources_of(
    method: Harmonizer,
    coarse: xr.DataArray,
    near: xr.DataArray | None,
    band: xr.DataArray | None,
    references: Any,
    limits: Mapping[str, Any],
) -> dict[str, xr.DataArray]:
    """The other sources of a method, on the dates of the coarse cube."""
    wanted, found = method.sources[1:], {}
    _require_one_reference(method, references)
    panned = None if band is None else _of_same_image(coarse, band)
    for role in wanted:
        if role == PAN or (role == "fine" and near is None):
            found[role] = _given(panned, role, method)
        elif role in ROLES:
            found |= _references(
                role, wanted, coarse, _given(near, role, method), references, limits
            )
        elif not (role.startswith(PARTNER) and role.removeprefix(PARTNER) in wanted):
            raise ModelError(
                f"model {method.name!r} takes a source {role!r}, which sharpen does not know",
                cure=f"call it by itself: model(cube, {role}=...)",
            )
    if panned is not None and near is not None and PAN not in wanted:
        found["fine"] = _with_pan(found["fine"], panned)
    return {role: found[role] for role in wanted}


def _require_one_reference(method: Harmonizer, references: Any) -> None:
    """Raise where dates are chosen for a model that names them itself."""
    own = [role for role in method.sources[1:] if role in ROLES and role != "fine"]
    if own and not (isinstance(references, str) and references == "nearest"):
        raise OptionError(
            f"says which date is taken, and model {method.name!r} takes those {' and '.join(own)}",
            cure="leave references= out",
            argument="references",
            value=references if isinstance(references, str) else type(references).__name__,
        )


def uses_pan(method: Harmonizer, *, beside_fine: bool) -> bool:
    """Whether a method looks at a panchromatic band, alone or beside a fine cube.

    Beside one it is a band more of that, which methods of like bands and networks do not look at.
    """
    if PAN in method.sources:
        return True
    return "fine" in method.sources and not (method.needs_like_bands and beside_fine)


def _given(source: xr.DataArray | None, role: str, method: Harmonizer) -> xr.DataArray:
    if source is None:
        raise ModelError(
            f"model {method.name!r} needs a source {role!r}",
            cure=f"give {'pan' if role == PAN else 'fine'}=",
        )
    return source


def _references(
    role: str,
    wanted: Sequence[str],
    coarse: xr.DataArray,
    near: xr.DataArray,
    references: Any,
    limits: Mapping[str, Any],
) -> dict[str, xr.DataArray]:
    """A fine date for each coarse one, and its coarse partner where the method takes that."""
    rule: Any = ROLES[role]
    if role == "fine" and isinstance(references, str):
        rule = references
    if PARTNER + role in wanted:
        if not isinstance(references, str):
            raise OptionError(
                "are of single dates, and the model takes pairs",
                cure="leave references= out",
                argument="references",
                value=type(references).__name__,
            )
        pair = find_pair_references(coarse, near, rule=rule, **limits)
        return {
            PARTNER + role: take_references(coarse, pair[0]),
            role: take_references(near, pair[1]),
        }
    if REFERENCE_GAP in near.coords:
        return {role: near}
    is_found = isinstance(references, xr.Dataset)
    found = references if is_found else find_references(coarse, near, rule=rule, **limits)
    if not np.array_equal(found["time"].values, coarse["time"].values):
        raise TimeAxisError(
            "references= are of other dates than the cube's",
            cure="find them with xharmonize.fusion.find_references(cube, fine)",
        )
    return {role: take_references(near, found)}


def _of_same_image(coarse: xr.DataArray, band: xr.DataArray) -> xr.DataArray:
    """The panchromatic band of each date; an image without one is an error."""
    try:
        found = find_references(coarse, band, tolerance=SAME_IMAGE, min_valid=0, max_score=None)
    except TimeAxisError:
        found = None
    if found is None or np.isnat(found[REFERENCE_TIME].values).any():
        lacks = coarse["time"].values
        lacks = lacks if found is None else lacks[np.isnat(found[REFERENCE_TIME].values)]
        raise TimeAxisError(
            f"the image of {np.datetime_as_string(lacks[0], unit='s')} has no panchromatic band",
            cure="give pan= of the same images, or leave these dates out",
        )
    return take_references(band, found)


def _with_pan(fine: xr.DataArray, panned: xr.DataArray) -> xr.DataArray:
    """The panchromatic band as one more band of the references."""
    band = upsampled(panned, fine).data
    layer = fine.isel(band=[0]).copy(data=cut_like(band, fine.isel(band=[0]).data))
    layer = layer.assign_coords(band=[PAN])
    both: xr.DataArray = xr.concat(
        [fine, layer], "band", coords="minimal", compat="override", join="override"
    )
    return both.transpose(*fine.dims).chunk(band=-1) if is_lazy(both) else both
