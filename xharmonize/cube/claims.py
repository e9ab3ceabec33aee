"""Settle the contract from the user's arguments and the cube's own coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, get_args

import numpy as np
import xarray as xr

from xharmonize.cube.contract import Step, read_coordinate
from xharmonize.cube.metadata import Metadata, check_described, platform_of, read_metadata
from xharmonize.cube.platforms import MEAN_PLATFORM, PlatformChoice, settle_platform
from xharmonize.cube.radiometry import (
    NUMBERS,
    Applied,
    Described,
    is_same,
    read_applied,
    read_number,
    settle_described,
)
from xharmonize.cube.stated import Stated, blank, read_numbers
from xharmonize.errors import BandError, ContractError, RadiometryError
from xharmonize.sensors import UNKNOWN, Sensor
from xharmonize.sensors.registry import normalize_baseline, normalize_platform
from xharmonize.types import Level

PerBand: TypeAlias = float | Mapping[str, float]
"""One number for all bands, or one per common name."""

_SOURCES = {
    "platform": ("platform",),
    "processing_baseline": ("processing_baseline",),
    "item_id": ("item_id", "id"),
    "tile": ("tile", "s2:mgrs_tile", "grid:code"),
    "level": ("level",),
}
_LINE = ("scale", "offset")
_PERCENT = ("%", "percent", "per cent", "pct")
_LOWEST, _HIGHEST = -32768, 65535  # what digital numbers of 16 bits reach
_CURE = "settle it with scale= and offset=, or processing_baseline="


@dataclass(frozen=True, kw_only=True)
class Claims:
    """Arguments of `xharmonize.describe`; they override the cube's coordinates."""

    platform: PlatformChoice | None
    processing_baseline: str | Sequence[str] | None
    level: str | None
    scale: PerBand | None
    offset: PerBand | None
    nodata: PerBand | None
    is_decoded: bool | None
    item_id: str | Sequence[str] | None

    def names_line(self) -> bool:
        """Whether both scale and offset are given, which settles every contradiction."""
        return self.scale is not None and self.offset is not None

    def item_ids(self, cube: xr.DataArray) -> list[str]:
        """Name of each date."""
        return _per_date(self.item_id, cube, "item_id") or _stated(cube, "item_id")

    def metadata(self, cube: xr.DataArray, sensor: Sensor) -> list[Metadata]:
        """Metadata that the cube states for each date."""
        return read_metadata(cube, self.item_ids(cube), sensor)

    def baselines(self, cube: xr.DataArray, metadata: Sequence[Metadata]) -> list[str]:
        """Processing baseline of each date."""
        given = _per_date(self.processing_baseline, cube, "processing_baseline")
        if given:
            return [normalize_baseline(text) or text for text in given]
        texts = _stated(cube, "processing_baseline")
        found = [one.baseline for one in metadata]
        return [text if baseline == UNKNOWN else baseline for baseline, text in zip(found, texts)]

    def platforms(
        self,
        cube: xr.DataArray,
        sensor: Sensor,
        metadata: Sequence[Metadata],
        *,
        latitude: float,
    ) -> list[str]:
        """Platform of each date; refuse platforms of other sensors."""
        if "sensor" in cube.coords:
            stated = [
                name if name == MEAN_PLATFORM else normalize_platform(name)
                for name in _stated(cube, "platform")
            ]
        else:
            stated = [self._platform_of(one) for one in metadata]
        settled = settle_platform(
            self.platform,
            platforms=stated,
            sensors=[sensor.name] * len(stated),
            times=cube["time"].values,
            item_ids=self.item_ids(cube),
            latitudes=latitude,
        )
        for name in set(settled):
            sensor.instrument(name)
        return settled

    def _platform_of(self, metadata: Metadata) -> str:
        """Platform stated for a date; a mapping decides if properties and names disagree."""
        try:
            return platform_of(metadata.properties, metadata.names)
        except RadiometryError:
            if not isinstance(self.platform, Mapping):
                raise
            return normalize_platform(str(metadata.properties["platform"]))


def settle_steps(
    cube: xr.DataArray,
    names: Sequence[str],
    sensor: Sensor,
    claims: Claims,
    metadata: Sequence[Metadata],
    platforms: Sequence[str],
    stated: Sequence[Stated],
) -> list[Step]:
    """Return the contract of each date.

    Parameters
    ----------
    cube : (time, band, y, x) DataArray
        Spectral bands only, with their original coordinates.
    names : sequence of str
        Common names of the bands.
    sensor : Sensor
        Product of the cube.
    claims : Claims
        Arguments of the user.
    metadata : sequence of Metadata
        What the cube states of each date.
    platforms : sequence of str
        Platform of each date.
    stated : sequence of Stated
        Scale, offset and nodata from the attributes or encoding of each band.

    Raises
    ------
    RadiometryError
        If statements contradict each other or leave something open.
    """
    _require_one_product(cube)
    level = _level(claims.level, sensor)
    for one in metadata:
        check_described(one, level=level)
    _check_units(cube, claims)
    is_decoded = _settle_decoded(cube, names, sensor, claims, stated)
    ids, baselines = claims.item_ids(cube), claims.baselines(cube, metadata)
    tiles, levels = _stated(cube, "tile"), _stated(cube, "level")
    steps = []
    for i, platform in enumerate(platforms):
        date = cube.isel(time=i)
        bands = [
            _described(
                date.isel(band=number),
                name,
                sensor,
                claims,
                stated[number],
                metadata=metadata[i],
                baseline=baselines[i],
                is_decoded=is_decoded,
            )
            for number, name in enumerate(names)
        ]
        lines = {band.band: settle_described(band) for band in bands}
        steps.append(
            Step(
                sensor=sensor.name,
                platform=platform,
                bandpass=sensor.bandpass_of(platform),
                processing_baseline=baselines[i],
                level=level or (str(sensor.level) if levels[i] == UNKNOWN else levels[i]),
                item_id=ids[i],
                tile=tiles[i].removeprefix("MGRS-"),
                is_decoded=is_decoded,
                scale={name: line.scale for name, line in lines.items()},
                offset={name: line.offset for name, line in lines.items()},
                nodata={name: line.nodata for name, line in lines.items()},
            )
        )
    return steps


def blank_missing(
    cube: xr.DataArray, steps: Sequence[Step], claims: Claims, stated: Sequence[Stated]
) -> tuple[xr.DataArray, list[Step]]:
    """Replace missing pixels of a float cube by NaN, and update the contract; lazy.

    In float digital numbers, nodata becomes NaN, so that averages leave it out. In reflectance,
    the value stated by the cube or the user does; if scale or offset are stated too, that value
    is a digital number, and its decoded value is replaced.
    """
    if not np.issubdtype(cube.dtype, np.floating) or not steps:
        return cube, list(steps)
    names = [str(name) for name in cube["band"].values]
    if not steps[0].is_decoded:
        codes = np.array(
            [
                [_as_held(step.nodata[name], said) for name, said in zip(names, stated)]
                for step in steps
            ]
        )
        nothing = dict.fromkeys(names, np.nan)
        return blank(cube, [codes]), [replace(step, nodata=nothing) for step in steps]
    raw, packed = np.full((2, len(steps), len(names)), np.nan)
    for j, (name, said) in enumerate(zip(names, stated)):
        code = _as_held(
            _given(claims, name).get("nodata", said.numbers.get("nodata", np.nan)), said
        )
        for i, step in enumerate(steps):
            packed[i, j] = code * step.scale[name] + step.offset[name]
            number = (code - step.offset[name]) / step.scale[name]
            if not (said.has_line and _LOWEST <= number <= _HIGHEST):
                raw[i, j] = code
    return blank(cube, [raw, packed]), list(steps)


def _as_held(code: float, stated: Stated) -> float:
    """A number as the band's own type rounds it: -9999 is -10000 in half precision."""
    with np.errstate(over="ignore"):
        return float(stated.dtype.type(code)) if stated.dtype.kind == "f" else code


def _level(given: str | None, sensor: Sensor) -> str | None:
    known = (*get_args(Level), sensor.level)
    if given is not None and given not in known:
        raise RadiometryError(
            "is unknown", cure=f"it is one of {', '.join(known)}", argument="level", value=given
        )
    return given


def _settle_decoded(
    cube: xr.DataArray,
    names: Sequence[str],
    sensor: Sensor,
    claims: Claims,
    stated: Sequence[Stated],
) -> bool:
    """Whether the pixels are reflectance: by dtype and arguments, never by looking at them."""
    has_line = claims.scale is not None or claims.offset is not None
    kinds = {said.dtype.kind == "f" for said in stated}
    if len(kinds) > 1:
        both = ", ".join(f"{name} {said.dtype}" for name, said in zip(names, stated))
        raise RadiometryError(
            f"some bands are integers, others floats ({both}): digital numbers and reflectance "
            "are not told apart",
            cure="decode the integers first, or describe them apart",
        )
    if np.issubdtype(cube.dtype, np.integer):
        if claims.is_decoded:
            raise RadiometryError(
                f"is_decoded=True, but the cube holds {cube.dtype}: integers are digital numbers",
                cure="leave is_decoded out, and decode with cube.harmonize.decode()",
            )
        return False
    if claims.is_decoded and has_line:
        raise RadiometryError(
            "is_decoded=True says that scale and offset were applied, scale= or offset= that they "
            "are still to be: they would be applied twice",
            cure="give one or the other",
        )
    is_settled = claims.is_decoded is True or (claims.is_decoded is False and claims.names_line())
    if any(said.is_applied for said in stated) and not is_settled:
        return _is_read_decoded(claims, stated, sensor)
    if claims.is_decoded is not None:
        return claims.is_decoded
    if has_line:
        return False
    if "is_decoded" in cube.coords:
        known = np.unique(read_coordinate(cube, "is_decoded"))
        if known.size == 1:
            return bool(known[0])
    raise RadiometryError(
        f"the cube holds {cube.dtype}, which may be reflectance or digital numbers (stackstac and "
        f"rioxarray return floats for both){_line_in_words(stated)}",
        cure="pass is_decoded=True for reflectance, False for digital numbers",
    )


def _is_read_decoded(claims: Claims, stated: Sequence[Stated], sensor: Sensor) -> bool:
    """Whether floats, of which xarray says that it applied a scale or an offset, are reflectance.

    Not where it had a scale only and the product has an offset: it may be missing from them.
    """
    if claims.is_decoded is False or claims.scale is not None or claims.offset is not None:
        raise RadiometryError(
            f"the arguments say that the cube holds digital numbers, its encoding that scale and "
            f"offset were applied when it was read{_line_in_words(stated)}",
            cure="pass is_decoded=True, "
            "or, if they do hold digital numbers, is_decoded=False with scale= and offset=",
        )
    needed = {"scale", "offset"} if sensor.radiometry.needs_offset else {"scale"}
    if all(needed <= said.numbers.keys() for said in stated):
        return True
    raise RadiometryError(
        f"the cube was decoded when it was read, with part of a line{_line_in_words(stated)}",
        cure="pass is_decoded=True if that makes reflectance of this product, or open the file "
        "with mask_and_scale=False",
    )


def _line_in_words(stated: Sequence[Stated]) -> str:
    """What the first band states of its line, for messages; empty where nothing."""
    said = next((said for said in stated if said.has_line), None)
    if said is None:
        return ""
    words = ", ".join(f"{key} {said.numbers[key]:g}" for key in _LINE if key in said.numbers)
    return f" (it states {words})"


def _described(
    band: xr.DataArray,
    name: str,
    sensor: Sensor,
    claims: Claims,
    stated: Stated,
    *,
    metadata: Metadata,
    baseline: str,
    is_decoded: bool,
) -> Described:
    """All that is said of the numbers of one band of one date."""
    earlier, given = _own(band, sensor), _given(claims, name)
    owner = metadata.owner
    is_settled = given.keys() >= {"scale", "offset"}
    is_told = claims.processing_baseline is not None and baseline != metadata.baseline
    return Described(
        owner=owner,
        band=name,
        cure=_CURE,
        sensor=sensor,
        baseline=baseline,
        baselines=metadata.baselines,
        declared=_declared(band, name, given),
        dtype=str(band.dtype),
        applied=(
            Applied()
            if is_settled
            else read_applied(metadata.properties, sensor, owner=owner, cure=_CURE)
        ),
        own={**stated.numbers, **earlier},
        given=given,
        kept=stated.dtype,
        is_decoded=is_decoded,
        is_contract=bool(earlier),
        is_offset_known="offset" in earlier and not is_told,
    )


def _given(claims: Claims, name: str) -> dict[str, float]:
    """Numbers the user gives for one band."""
    found = {}
    for key in NUMBERS:
        value = getattr(claims, key)
        if isinstance(value, Mapping):
            if name not in value:
                raise BandError(
                    f"{key}= has no number for band {name!r}", cure=f"it has {sorted(value)}"
                )
            value = value[name]
        if value is not None:
            found[key] = float(value)
    if found.get("scale", 1.0) <= 0:
        raise RadiometryError(
            f"for band {name!r}", cure="a scale is above 0", argument="scale", value=found["scale"]
        )
    return found


def _own(band: xr.DataArray, sensor: Sensor) -> dict[str, float]:
    """Numbers the cube carries from an earlier description as the same product."""
    if "sensor" not in band.coords or str(read_coordinate(band, "sensor")) != sensor.name:
        return {}
    found = {}
    for key in NUMBERS:
        if key in band.coords and band.coords[key].ndim == 0:
            value = float(read_coordinate(band, key))
            if np.isfinite(value):
                found[key] = value
    return found


def _declared(band: xr.DataArray, name: str, given: Mapping[str, float]) -> dict[str, float]:
    """Numbers that coordinates declare: of ``raster:bands``, or of the fields of STAC 1.1.

    stackstac keeps the first as an object per band, or per date and band, and makes coordinates of
    ``raster:scale``, ``raster:offset`` and ``nodata``.

    Raises
    ------
    RadiometryError
        If one of them is no number, or two disagree on a scale or an offset that is not `given`.
    """
    coords = {str(key): value.values.item() for key, value in band.coords.items() if not value.ndim}
    found = _of_raster_bands(coords.pop("raster:bands", None), name)
    is_ours = "sensor" in coords  # whose scale, offset and nodata are the contract
    numbers = {} if is_ours else read_numbers(coords)
    for key in sorted({"scale", "offset"} & found.keys() & numbers.keys() - given.keys()):
        if not is_same(found[key], numbers[key]):
            raise RadiometryError(
                f"band {name!r} contradicts itself: raster:bands says {key} {found[key]:g}, "
                f"coordinates say {numbers[key]:g}",
                cure=f"{_CURE}",
            )
    return {**numbers, **found}


def _of_raster_bands(value: Any, name: str) -> dict[str, float]:
    if isinstance(value, (list, tuple)):
        value = value[0] if value else {}
    found = {}
    for key in NUMBERS if isinstance(value, Mapping) else ():
        number = None if value.get(key) is None else read_number(key, value[key])
        if number is None and value.get(key) is not None:
            raise RadiometryError(
                f"band {name!r} has {key} {str(value[key])[:40]!r} in its raster:bands, which is "
                "no such number",
                cure="drop that coordinate with cube.drop_vars('raster:bands')",
            )
        if number is not None:
            found[key] = number
    return found


def _check_units(cube: xr.DataArray, claims: Claims) -> None:
    """Refuse units other than 1, such as percent: the product's scale and offset don't fit."""
    units = str(cube.attrs.get("units", "")).strip().lower()
    if units in _PERCENT and not (claims.names_line() and not claims.is_decoded):
        raise RadiometryError(
            f"the cube states units {units!r}, and reflectance here is a fraction of 1",
            cure="pass "
            "scale=0.01 and offset=0.0, with is_decoded=False, or if it is wrong remove it from "
            "cube.attrs",
        )


def _require_one_product(cube: xr.DataArray) -> None:
    """Refuse cubes whose coordinates name several products."""
    if "sensor" in cube.coords:
        names = {str(name) for name in np.atleast_1d(read_coordinate(cube, "sensor"))}
        if len(names) > 1:
            raise ContractError(
                f"the dates of the cube come from {', '.join(sorted(names))}",
                cure="describe those of "
                "each sensor by themselves, then join them with xr.concat(..., dim='time')",
            )


def _per_date(given: str | Sequence[str] | None, cube: xr.DataArray, name: str) -> list[str]:
    """Expand an argument to one string per date; empty if it was not given."""
    if given is None:
        return []
    n_dates = cube.sizes["time"]
    values = [given] * n_dates if isinstance(given, str) else [str(value) for value in given]
    if len(values) != n_dates:
        raise ContractError(f"{len(values)} values in {name}=, the cube has {n_dates} dates")
    return values


def _stated(cube: xr.DataArray, name: str) -> list[str]:
    """Values of a coordinate per date; ``"unknown"`` where it says nothing."""
    n_dates = cube.sizes["time"]
    for key in _SOURCES[name]:
        if key not in cube.coords or not set(cube.coords[key].dims) <= {"time"}:
            continue
        values = np.broadcast_to(read_coordinate(cube, key), n_dates)
        return [UNKNOWN if value in (None, "", "None", "nan") else str(value) for value in values]
    return [UNKNOWN] * n_dates
