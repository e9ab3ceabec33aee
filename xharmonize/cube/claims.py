"""What a user and a cube's own coordinates say about its numbers, settled into the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args

import numpy as np
import xarray as xr

from xharmonize.cube.catalog.fields import stated
from xharmonize.cube.catalog.identity import normalize_baseline, normalize_platform
from xharmonize.cube.catalog.radiometry import settle_encoding
from xharmonize.cube.contract import Step, read_coordinate
from xharmonize.cube.platforms import MEAN_PLATFORM, PlatformChoice, settle_platform
from xharmonize.cube.stated import Stated, is_same
from xharmonize.errors import BandError, ContractError, RadiometryError
from xharmonize.sensors import UNKNOWN, Sensor
from xharmonize.types import Level

PerBand: TypeAlias = float | Mapping[str, float]
"""One number for all bands, or one per common name."""

_SOURCES = {
    "platform": ("platform",),
    "processing_baseline": (
        "processing_baseline",
        "s2:processing_baseline",
        "sentinel:processing_baseline",
        "processing:version",
    ),
    "item_id": ("item_id", "id"),
    "tile": ("tile", "s2:mgrs_tile", "grid:code"),
    "level": ("level",),
}
_COLLECTIONS = {"01": "landsat-c1-sr", "02": "landsat-c2-l2"}


@dataclass(frozen=True, kw_only=True)
class Claims:
    """The arguments of `xharmonize.describe`; they go before what coordinates say."""

    platform: PlatformChoice | None
    processing_baseline: str | Sequence[str] | None
    level: str | None
    scale: PerBand | None
    offset: PerBand | None
    nodata: PerBand | None
    is_decoded: bool | None
    item_id: str | Sequence[str] | None

    def item_ids(self, cube: xr.DataArray) -> list[str]:
        """Name of each date."""
        return _per_date(self.item_id, cube, "item_id") or _stated(cube, "item_id")

    def baselines(self, cube: xr.DataArray) -> list[str]:
        """Processing baseline of each date."""
        given = _per_date(self.processing_baseline, cube, "processing_baseline")
        found = given or _stated(cube, "processing_baseline")
        return [normalize_baseline(text) or text for text in found]

    def platforms(self, cube: xr.DataArray, sensor: Sensor, *, latitude: float) -> list[str]:
        """Platform of each date; those of other sensors are refused."""
        stated = [
            name
            if name == MEAN_PLATFORM and "bandpass" in cube.coords
            else normalize_platform(name)
            for name in _stated(cube, "platform")
        ]
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


def settle_steps(
    cube: xr.DataArray,
    names: Sequence[str],
    sensor: Sensor,
    claims: Claims,
    platforms: Sequence[str],
    statements: Sequence[Stated],
) -> list[Step]:
    """Return the contract of each date.

    Parameters
    ----------
    cube : (time, band, y, x) DataArray
        Spectral bands only, with the coordinates they came with.
    names : sequence of str
        Common names of its bands.
    sensor : Sensor
        Product that observed.
    claims : Claims
        What the user says.
    platforms : sequence of str
        Along time.
    statements : sequence of Stated
        What each band states by its attributes and encoding; this goes before the product.

    Raises
    ------
    RadiometryError
        If something is contradicted or left open.
    """
    _check_product(cube, sensor)
    is_decoded = _settle_decoded(cube, claims, statements)
    ids, baselines = claims.item_ids(cube), claims.baselines(cube)
    tiles, levels = _stated(cube, "tile"), _stated(cube, "level")
    steps = []
    for i, platform in enumerate(platforms):
        tables = _tables(
            cube.isel(time=i), names, sensor, claims, statements, ids[i], baselines[i], is_decoded
        )
        level = _level(claims.level, sensor) or (
            str(sensor.level) if levels[i] == UNKNOWN else levels[i]
        )
        steps.append(
            Step(
                sensor=sensor.name,
                platform=platform,
                bandpass=sensor.bandpass_of(platform),
                processing_baseline=baselines[i],
                level=level,
                item_id=ids[i],
                tile=tiles[i].removeprefix("MGRS-"),
                is_decoded=is_decoded,
                **tables,
            )
        )
    return steps


def _level(given: str | None, sensor: Sensor) -> str | None:
    known = (*get_args(Level), sensor.level)
    if given is not None and given not in known:
        raise RadiometryError(f"level={given!r} is unknown; it is one of {', '.join(known)}")
    return given


def _settle_decoded(cube: xr.DataArray, claims: Claims, statements: Sequence[Stated]) -> bool:
    """Whether the pixels are reflectance: by dtype and arguments, never by looking at them."""
    has_line = claims.scale is not None or claims.offset is not None
    is_applied = any(one.is_applied for one in statements)
    states_line = any(one.has_line and not one.is_applied for one in statements)
    if np.issubdtype(cube.dtype, np.integer):
        if claims.is_decoded:
            raise RadiometryError(
                f"is_decoded=True, but the cube holds {cube.dtype}: integers are digital numbers; "
                "leave is_decoded out, and decode with cube.harmonize.decode()"
            )
        return False
    if claims.is_decoded and has_line:
        raise RadiometryError(
            "is_decoded=True says that scale and offset were applied, scale= or offset= that they "
            "are still to be: they would be applied twice; give one or the other"
        )
    _check_decoded(claims, is_applied=is_applied, states_line=states_line)
    if claims.is_decoded is not None:
        return claims.is_decoded
    if is_applied or states_line:
        return is_applied
    if has_line:
        return False
    if "is_decoded" in cube.coords:
        known = np.unique(read_coordinate(cube, "is_decoded"))
        if known.size == 1:
            return bool(known[0])
    raise RadiometryError(
        f"the cube holds {cube.dtype}, which may be reflectance or digital numbers (stackstac and "
        "rioxarray return floats for both); pass is_decoded=True for reflectance, False for "
        "digital numbers"
    )


def _check_decoded(claims: Claims, *, is_applied: bool, states_line: bool) -> None:
    """Refuse an argument that what the cube states about its floats contradicts."""
    has_line = claims.scale is not None or claims.offset is not None
    if claims.is_decoded and states_line:
        raise RadiometryError(
            "is_decoded=True, but attributes of the cube state a scale or an offset that is still "
            "to be applied; remove scale_factor and add_offset from cube.attrs if the pixels are "
            "reflectance, else pass is_decoded=False"
        )
    if is_applied and (claims.is_decoded is False or has_line):
        raise RadiometryError(
            "xarray applied scale_factor and add_offset when it read the cube (cube.encoding), and "
            "the arguments say that they are still to be; pass is_decoded=True, or open the file "
            "with mask_and_scale=False"
        )


def _tables(
    date: xr.DataArray,
    names: Sequence[str],
    sensor: Sensor,
    claims: Claims,
    statements: Sequence[Stated],
    item_id: str,
    baseline: str,
    is_decoded: bool,
) -> dict[str, Any]:
    """Scale, offset and nodata of one date, by band."""
    tables: dict[str, dict[str, float]] = {"scale": {}, "offset": {}, "nodata": {}}
    for number, name in enumerate(names):
        band = date.isel(band=number)
        given = _given(claims, name) or {}
        own = {} if statements[number].is_applied else dict(statements[number].numbers)
        _require_agreement(name, given, own)
        if {"scale", "offset"} <= given.keys():
            own = {key: value for key, value in own.items() if key == "nodata"}
        if not given.keys() >= {"scale", "offset"}:
            given = {**_own(band, sensor), **given}
        if is_decoded:
            # A record of what was applied; it does not matter any more where nobody knows.
            unknown = sensor.radiometry.baseline_offsets and baseline == UNKNOWN
            line = {
                "scale": sensor.radiometry.scale,
                "offset": np.nan if unknown else sensor.radiometry.offset_at(baseline),
                "nodata": float(sensor.radiometry.nodata),
                **own,
                **given,
            }
        else:
            _require_product(name, sensor, baseline, given, own)
            line = _encoding(band, name, sensor, given, own, item_id, baseline)
        for key in tables:
            tables[key][name] = float(line[key])
    return dict(tables)


def _encoding(
    band: xr.DataArray,
    name: str,
    sensor: Sensor,
    given: Mapping[str, float],
    own: Mapping[str, float],
    item_id: str,
    baseline: str,
) -> dict[str, float]:
    """Scale, offset and nodata of digital numbers, by the rules that hold for items."""
    raster = {**_raster_band(band), **own}
    coords = {key: value.values.item() for key, value in band.coords.items() if not value.ndim}
    flags = {k: v for k, v in stated(coords, "boa_offset_applied") if v == v}  # not NaN
    needs_baseline = bool(sensor.radiometry.baseline_offsets) and baseline == UNKNOWN
    if (
        needs_baseline
        and "offset" not in given
        and "offset" not in raster
        and not any(flags.values())
    ):
        first = sensor.radiometry.baseline_offsets[0][0]
        raise RadiometryError(
            f"item {item_id!r} of {str(band['time'].values)[:10]} names no processing baseline, "
            f"and {sensor.name} has an offset from {first} on; pass processing_baseline= or offset="
        )
    item = {
        "id": item_id,
        "properties": flags,
        "assets": {name: {"raster:bands": [{"data_type": str(band.dtype), **raster}]}},
    }
    try:
        found = settle_encoding(item, name, sensor=sensor, baseline=baseline, override=given)
    except RadiometryError as error:
        what = str(error).split("; settle it")[0]
        raise RadiometryError(f"{what}; settle it with scale= and offset=") from error
    return {"scale": found.scale, "offset": found.offset, "nodata": found.nodata}


def _require_agreement(name: str, given: Mapping[str, float], own: Mapping[str, float]) -> None:
    """Raise `RadiometryError` where an argument is another number than the cube states."""
    is_settled = {"scale", "offset"} <= given.keys()
    for key in own.keys() & given.keys():
        if is_same(own[key], given[key]) or (is_settled and key != "nodata"):
            continue
        cure = (
            f"make both one, cube.where(cube != {own[key]:g}, {given[key]:g}), and remove the "
            "statement from cube.attrs and cube.encoding"
            if key == "nodata"
            else "name both scale= and offset= to override what the cube states"
        )
        raise RadiometryError(
            f"band {name!r} states {key} {own[key]:g} (attributes or encoding), {key}= says "
            f"{given[key]:g}; {cure}"
        )


def _require_product(
    name: str,
    sensor: Sensor,
    baseline: str,
    given: Mapping[str, float],
    own: Mapping[str, float],
) -> None:
    """Raise `RadiometryError` where the stated offset is not that of the processing baseline."""
    if "offset" in given or not sensor.radiometry.baseline_offsets or baseline == UNKNOWN:
        return
    expected = sensor.radiometry.offset_at(baseline)
    if "offset" in own and not is_same(own["offset"], expected):
        raise RadiometryError(
            f"band {name!r} states offset {own['offset']:g} (attributes or encoding), but "
            f"processing baseline {baseline} means {expected:g}; name both scale= and offset= to "
            "settle it"
        )


def _given(claims: Claims, name: str) -> dict[str, float]:
    """Numbers the user gives for one band."""
    found = {}
    for key in ("scale", "offset", "nodata"):
        value = getattr(claims, key)
        if isinstance(value, Mapping):
            if name not in value:
                raise BandError(f"{key}= has no number for band {name!r}; it has {sorted(value)}")
            value = value[name]
        if value is not None:
            found[key] = float(value)
    if found.get("scale", 1.0) <= 0:
        raise RadiometryError(f"scale={found['scale']:g} for band {name!r}; it is above 0")
    return found


def _own(band: xr.DataArray, sensor: Sensor) -> dict[str, float]:
    """Numbers the cube carries from an earlier description as the same product."""
    if "sensor" not in band.coords or str(read_coordinate(band, "sensor")) != sensor.name:
        return {}
    found = {}
    for key in ("scale", "offset", "nodata"):
        if key in band.coords and band.coords[key].ndim == 0:
            value = float(read_coordinate(band, key))
            if np.isfinite(value):
                found[key] = value
    return found


def _raster_band(band: xr.DataArray) -> dict[str, Any]:
    """``raster:bands`` as stackstac keeps it: an object per band, or per date and band."""
    if "raster:bands" not in band.coords or band.coords["raster:bands"].ndim:
        return {}
    value = band.coords["raster:bands"].values.item()
    if isinstance(value, (list, tuple)):
        value = value[0] if value else {}
    return dict(value) if isinstance(value, Mapping) else {}


def _check_product(cube: xr.DataArray, sensor: Sensor) -> None:
    """Refuse a product the cube's own coordinates contradict."""
    if "sensor" in cube.coords:
        names = {str(name) for name in np.atleast_1d(read_coordinate(cube, "sensor"))}
        if len(names) > 1:
            raise ContractError(
                f"the dates of the cube come from {', '.join(sorted(names))}; describe those of "
                "each sensor by themselves, then join them with xr.concat(..., dim='time')"
            )
    key = "landsat:collection_number"
    if key in cube.coords and sensor.name in _COLLECTIONS.values():
        for number in {str(value) for value in np.atleast_1d(cube.coords[key].values)}:
            product = _COLLECTIONS.get(number)
            if product not in (None, sensor.name):
                raise RadiometryError(
                    f"the cube says Landsat Collection {number}, which is {product!r}, not "
                    f"{sensor.name!r}: their digital numbers differ; pass sensor={product!r}"
                )


def _per_date(given: str | Sequence[str] | None, cube: xr.DataArray, name: str) -> list[str]:
    """An argument as one string per date; empty where it was not given."""
    if given is None:
        return []
    n_dates = cube.sizes["time"]
    values = [given] * n_dates if isinstance(given, str) else [str(value) for value in given]
    if len(values) != n_dates:
        raise ContractError(f"{len(values)} values in {name}=, the cube has {n_dates} dates")
    return values


def _stated(cube: xr.DataArray, name: str) -> list[str]:
    """What the cube's coordinates say, per date; ``"unknown"`` where nothing."""
    n_dates = cube.sizes["time"]
    for key in _SOURCES[name]:
        if key not in cube.coords or not set(cube.coords[key].dims) <= {"time"}:
            continue
        values = np.broadcast_to(read_coordinate(cube, key), n_dates)
        return [UNKNOWN if value in (None, "", "None", "nan") else str(value) for value in values]
    return [UNKNOWN] * n_dates
