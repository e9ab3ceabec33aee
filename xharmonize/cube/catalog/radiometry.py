"""What the digital numbers of an item mean: scale, offset and nodata, from its metadata alone.

Rules for Sentinel-2 Level-2A, where catalogues differ most:

1. Products of processing baseline 04.00 and later hold DN with an offset: reflectance =
   (DN - 1000) / 10000; earlier ones none (ESA, Sentinel-2 Products Specification Document;
   Copernicus SentiWiki, "S2 Products", Level-2A).
2. ``earthsearch:boa_offset_applied: true``, or the same under another prefix, says that the
   catalogue subtracted the 1000 already, so no offset is left. Earth Search v1 leaves
   ``raster:bands`` at -0.1 on such items; its maintainer states that the flag is the truth
   (Element84/earth-search#9): the flag decides, with a warning.
3. The flag false leaves rule 1. (Some such items hold shifted pixels all the same,
   Element84/earth-search#66 and #71: only pixels can tell, see ``xh.check_radiometry``.)
4. ``raster:bands`` or the fields of STAC 1.1 settle an item that names no baseline. An offset they
   declare for a baseline that has none was copied from newer products: the baseline decides, with
   a warning. Where they declare none for a baseline that has one and no flag explains it, the
   pixels may be shifted or not: nothing is guessed, it is an error.
5. An item may state its baseline more than once, in properties and in names. Where two of them mean
   different offsets, it is an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xharmonize.cube.catalog.fields import as_number, as_objects, malformed, name_of, show, stated
from xharmonize.cube.catalog.identity import baselines_of, is_own
from xharmonize.cube.catalog.items import Item
from xharmonize.errors import RadiometryError
from xharmonize.sensors.spec import UNKNOWN, Sensor

_FLAG = "boa_offset_applied"
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_THERMAL = (0.00341802, 149.0)  # [K per DN, K] USGS LSDS-1619: Landsat Collection 2 ST
_FIXED = ("sentinel-2-l2a", "landsat-c2-l2", "landsat-c1-sr")  # one encoding, whatever is declared
_USER_BASELINE = 99.0  # N9999: made by users with Sen2Cor, from any baseline


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How the digital numbers of one asset are read.

    Attributes
    ----------
    scale, offset, nodata : float
        value = DN * scale + offset; DN equal to nodata is missing.
    notes : tuple of str
        What was settled by a rule against other metadata.
    """

    scale: float
    offset: float
    nodata: float
    notes: tuple[str, ...] = ()


def settle_encoding(
    item: Item,
    asset: str,
    *,
    sensor: Sensor,
    baseline: str,
    override: Mapping[str, float] | None = None,
) -> Encoding:
    """Return scale, offset and nodata of one asset.

    Parameters
    ----------
    item : dict
        As `xharmonize.cube.catalog.items.normalize_item` returns it.
    asset : str
        Key of a spectral asset.
    sensor : Sensor
        Product of the item.
    baseline : str
        Processing baseline or ``"unknown"``.
    override : mapping, optional
        ``scale``, ``offset``, ``nodata`` that the user settled; it goes before all metadata.

    Raises
    ------
    RadiometryError
        If the metadata say nothing, or contradict each other; the message names the item and the
        argument that settles it.
    """
    override = override or {}
    declared = _declared(item, asset, needs_agreement="offset" not in override)
    nodata = override.get("nodata", declared.get("nodata", _default_nodata(item, asset, sensor)))
    if {"scale", "offset"} <= set(override):
        return Encoding(scale=override["scale"], offset=override["offset"], nodata=nodata)
    if is_own(item):
        numbers = {**declared, **override}
        if not {"scale", "offset"} <= set(numbers):
            raise RadiometryError(
                f"item {item['id']!r} is marked as written by to_cogs, but asset {asset!r} states "
                f"no scale and offset; {_cure(item)}"
            )
        return Encoding(scale=numbers["scale"], offset=numbers["offset"], nodata=nodata)
    scale = override.get("scale", _settle_scale(item, asset, sensor, declared))
    if "offset" in override:
        return Encoding(scale=scale, offset=override["offset"], nodata=nodata)
    if sensor.radiometry.baseline_offsets:
        offset, notes = _settle_baseline_offset(item, sensor, baseline, declared.get("offset"))
        return Encoding(scale=scale, offset=offset, nodata=nodata, notes=notes)
    offset = _settle_fixed_offset(item, asset, sensor, declared)
    return Encoding(scale=scale, offset=offset, nodata=nodata)


def offset_of_baseline(sensor: Sensor, baseline: str) -> float | None:
    """Return the offset a processing baseline brings; None where it cannot tell."""
    if baseline == UNKNOWN:
        return None
    offset = sensor.radiometry.offset_at(baseline)
    return None if float(baseline) >= _USER_BASELINE else offset


def unit_of(item: Item, assets: Iterable[str], sensor: Sensor) -> str:
    """Return the unit of the decoded values: what the assets declare, or the sensor's.

    Raises
    ------
    RadiometryError
        If the assets have different units: a cube has one.
    """
    units = {asset: _unit(item, asset, sensor) for asset in assets}
    if len(set(units.values())) > 1:
        named = ", ".join(f"{asset!r} [{unit}]" for asset, unit in units.items())
        raise RadiometryError(
            f"assets {named} of item {item['id']!r} have different units; open them apart, with "
            "bands=[...]"
        )
    return next(iter(units.values()))


def _unit(item: Item, asset: str, sensor: Sensor) -> str:
    band = raster_band(item, asset)
    if _is_thermal(asset, sensor):
        return "K"
    return str(band.get("unit") or sensor.radiometry.units)


def _declared(item: Item, asset: str, *, needs_agreement: bool) -> dict[str, float]:
    """Gather scale, offset and nodata that an asset declares, in STAC 1.0 or 1.1 fields."""
    fields, old = item["assets"][asset], raster_band(item, asset)
    bands = as_objects(fields.get("bands"), f"asset {asset!r}: bands")
    new = {k: fields[k] for k in ("raster:scale", "raster:offset") if fields.get(k) is not None}
    new |= {k: v for band in bands[:1] for k, v in band.items() if str(k).startswith("raster:")}
    declared = {
        key: _declared_number(item, asset, key, old[key])
        for key in ("scale", "offset", "nodata")
        if old.get(key) is not None
    }
    for key in ("scale", "offset"):
        other = new.get(f"raster:{key}")
        if other is None:
            continue
        found = _declared_number(item, asset, key, other)
        first = declared.setdefault(key, found)
        if needs_agreement and not _same(found, first):
            raise _contradiction(
                item,
                f"asset {asset!r} says {key} {first} in raster:bands and {other} in raster:{key}",
            )
    return declared


def raster_band(item: Item, asset: str) -> Mapping[str, Any]:
    """Return the first entry of an asset's ``raster:bands``; empty where there is none."""
    found = item["assets"][asset].get("raster:bands")
    if not found:
        return {}
    if type(found) is list and type(found[0]) is dict:  # nearly always; of ten thousand items
        return found[0]
    bands = as_objects(found, f"{name_of(item)}: asset {asset!r}: raster:bands")
    return bands[0] if bands else {}


def _declared_number(item: Item, asset: str, key: str, value: Any) -> float:
    """A number that an asset declares; nodata may be NaN or infinite, spelt as STAC does."""
    if type(value) is float and 0 < value < math.inf:
        return value
    where = f"{name_of(item)}: asset {asset!r}"
    if key == "nodata" and str(value).lower() in ("nan", "inf", "-inf"):
        return float(value)
    wanted = "a number above 0" if key == "scale" else "a number"
    number = as_number(value, f"{where}: {key}", wanted=wanted)
    if key == "scale" and number <= 0:
        raise malformed(f"{where}: {key}", value, wanted)
    return number


def _default_nodata(item: Item, asset: str, sensor: Sensor) -> float:
    """Fill value of the product; 0 where a negative one was clipped to an unsigned type."""
    kind = str(raster_band(item, asset).get("data_type") or "")
    return 0.0 if kind.startswith("uint") else float(sensor.radiometry.nodata)


def _settle_scale(item: Item, asset: str, sensor: Sensor, declared: Mapping[str, float]) -> float:
    scale = declared.get("scale")
    if scale is None:
        return _spectral(asset, sensor)[0]
    if sensor.name in _FIXED and not math.isclose(scale, _spectral(asset, sensor)[0], rel_tol=0.01):
        raise _contradiction(
            item,
            f"asset {asset!r} declares scale {scale}, {sensor.name} has "
            f"{_spectral(asset, sensor)[0]}",
        )
    return scale


def _settle_fixed_offset(
    item: Item, asset: str, sensor: Sensor, declared: Mapping[str, float]
) -> float:
    """Offset of a product that never changed it."""
    if sensor.level == "GRD" and "scale" not in declared:
        raise RadiometryError(
            f"item {item['id']!r} declares no scale: the digital numbers of a Sentinel-1 GRD "
            "product are uncalibrated amplitudes; use a calibrated collection (sentinel-1-rtc), "
            + _cure(item)
        )
    offset, expected = declared.get("offset"), _spectral(asset, sensor)[1]
    if offset is None:
        return expected if sensor.name in _FIXED or "scale" not in declared else 0.0
    if sensor.name in _FIXED and not _same(offset, expected):
        raise _contradiction(
            item, f"asset {asset!r} declares offset {offset}, {sensor.name} has {expected}"
        )
    return offset


def _settle_baseline_offset(
    item: Item, sensor: Sensor, baseline: str, declared: float | None
) -> tuple[float, tuple[str, ...]]:
    """Offset of a product that changed it with the processing baseline (rules 1 to 4 above)."""
    expected = offset_of_baseline(sensor, baseline)
    flag = is_offset_applied(item)
    if flag is True:
        if declared is None or _same(declared, 0.0):
            return 0.0, ()
        return 0.0, (
            f"{flag_name(item)} is true but raster:bands says offset {declared}: the flag was "
            "followed, so the pixels are read without offset (Element84/earth-search#9)",
        )
    _require_one_baseline(item, sensor, baseline)
    if declared is None and expected is None:
        raise RadiometryError(
            f"item {item['id']!r} names neither a processing baseline nor an offset "
            f"(s2:processing_baseline {baseline!r}, no raster:bands): with or without the offset "
            f"of {sensor.radiometry.baseline_offsets[-1][1]} its reflectance differs by that much; "
            + _cure(item)
        )
    if declared is None or expected is None:
        return declared if declared is not None else float(expected or 0.0), ()
    if not _same(declared, expected) and _same(expected, sensor.radiometry.offset):
        return expected, (
            f"raster:bands says offset {declared}, but products of processing baselines before "
            f"{sensor.radiometry.baseline_offsets[0][0]} have none: the baseline was followed",
        )
    if not _same(declared, expected):
        said = "" if flag is None else f" and {flag_name(item)} is false"
        raise _contradiction(
            item,
            f"processing baseline {baseline}{said} means offset {expected}, raster:bands says "
            f"{declared}",
        )
    return declared, ()


def _require_one_baseline(item: Item, sensor: Sensor, baseline: str) -> None:
    """Raise unless all baselines that an item states mean the offset of the one it is read by."""
    expected = offset_of_baseline(sensor, baseline)
    for key, other in baselines_of(item):
        offset = offset_of_baseline(sensor, other)
        if None not in (expected, offset) and not _same(float(offset or 0.0), expected):
            raise _contradiction(
                item,
                f"processing baseline {baseline} means offset {expected}, its {key} says {other}, "
                f"which means {offset}",
            )


def flag_name(item: Item) -> str:
    """Return the property by which a catalogue says that it applied the offset."""
    return next((key for key, _ in stated(item["properties"], _FLAG)), f"earthsearch:{_FLAG}")


def is_offset_applied(item: Item) -> bool | None:
    """Whether the catalogue says that it applied the offset; None where it says nothing."""
    found: dict[bool, str] = {}
    for key, value in stated(item["properties"], _FLAG):
        truth = _TRUTHS.get(str(value).strip().lower().removesuffix(".0"))
        if truth is None:
            raise RadiometryError(
                f"item {item['id']!r} has {key} {show(value)}, which is neither true nor false; "
                + _cure(item)
            )
        found[truth] = key
    if len(found) > 1:
        raise _contradiction(item, f"{found[True]} is true and {found[False]} is false")
    return next(iter(found), None)


def _spectral(asset: str, sensor: Sensor) -> tuple[float, float]:
    """Scale and offset of the product; Landsat's surface temperature has its own."""
    if _is_thermal(asset, sensor):
        return _THERMAL
    return sensor.radiometry.scale, sensor.radiometry.offset


def _is_thermal(asset: str, sensor: Sensor) -> bool:
    is_thermal = asset.startswith("lwir") or "ST_B" in asset.upper()
    return sensor.name == "landsat-c2-l2" and is_thermal


def _same(value: float, other: float | None) -> bool:
    return other is not None and math.isclose(value, other, rel_tol=1e-6, abs_tol=1e-9)


def _contradiction(item: Item, what: str) -> RadiometryError:
    return RadiometryError(f"item {item['id']!r} contradicts itself: {what}; {_cure(item)}")


def _cure(item: Mapping[str, Any]) -> str:
    return (
        "settle it from the data provider's documents with "
        f"radiometry={{{item['id']!r}: {{'scale': ..., 'offset': ...}}}} "
        "(xh.check_radiometry shows what the pixels suggest)"
    )
