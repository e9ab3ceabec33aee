"""What an item declares of its digital numbers, for the rules of `xharmonize.cube.radiometry`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from xharmonize.cube.catalog.fields import as_objects, malformed, name_of
from xharmonize.cube.catalog.identity import Identity
from xharmonize.cube.catalog.items import Item
from xharmonize.cube.radiometry import (
    Applied,
    Encoding,
    Numbers,
    is_same,
    read_applied,
    read_number,
    settle_encoding,
)
from xharmonize.errors import RadiometryError
from xharmonize.sensors.spec import Sensor


def settle_encodings(
    item: Item,
    assets: Mapping[str, str],
    identity: Identity,
    *,
    override: Mapping[str, float],
) -> dict[str, Encoding]:
    """Return scale, offset and nodata of some assets.

    Parameters
    ----------
    item : dict
        As `xharmonize.cube.catalog.items.normalize_item` returns it.
    assets : mapping of str to str
        Band name → asset key.
    identity : Identity
        Who observed the item.
    override : mapping
        ``scale``, ``offset``, ``nodata`` that the user settled; they override all metadata.

    Raises
    ------
    RadiometryError
        If the metadata say nothing, or contradict each other; the message names the item and the
        argument that settles it.
    """
    sensor, is_own = identity.sensor, identity.is_own
    owner, cure = f"item {item['id']!r}", _cure(item)
    applied = Applied()
    if not is_own and not {"scale", "offset"} <= set(override):
        applied = read_applied(item["properties"], sensor, owner=owner, cure=cure)
    found = {}
    for band, key in assets.items():
        numbers = Numbers(
            owner=owner,
            band=key,
            cure=cure,
            sensor=sensor,
            baseline=identity.metadata.baseline,
            baselines=identity.metadata.baselines,
            declared=_declared(item, key, needs_agreement="offset" not in override),
            dtype=str(raster_band(item, key).get("data_type") or ""),
            applied=applied,
        )
        given = _as_written(numbers, override) if is_own else override
        found[band] = settle_encoding(numbers, override=given)
    return found


def _as_written(numbers: Numbers, override: Mapping[str, float]) -> dict[str, float]:
    """Numbers of an item of ours, which need no rules."""
    written = {**numbers.declared, **override}
    if not {"scale", "offset"} <= set(written):
        raise RadiometryError(
            f"{numbers.owner} is marked as written by to_cogs, but asset {numbers.band!r} states "
            f"no scale and offset; {numbers.cure}"
        )
    return written


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
    declared, extra = raster_band(item, asset), sensor.extra_band(asset)
    if extra is not None:
        return extra.radiometry.units
    return str(declared.get("unit") or sensor.radiometry.units)


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
        if needs_agreement and not is_same(found, first):
            raise RadiometryError(
                f"item {item['id']!r} contradicts itself: asset {asset!r} says {key} {first} in "
                f"raster:bands and {other} in raster:{key}; {_cure(item)}"
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
    if type(value) is float and 0 < value < math.inf:  # nearly always
        return value
    number = read_number(key, value)
    if number is None:
        wanted = "a number above 0" if key == "scale" else "a number"
        raise malformed(f"{name_of(item)}: asset {asset!r}: {key}", value, wanted)
    return number


def _cure(item: Mapping[str, Any]) -> str:
    return (
        "settle it from the data provider's documents with "
        f"radiometry={{{item['id']!r}: {{'scale': ..., 'offset': ...}}}} "
        "(xh.check_radiometry shows what the pixels suggest)"
    )
