"""From a normalised item to a `Scene`: its assets, grids and radiometric contract."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np

from xharmonize.cube.contract import Step
from xharmonize.cube.dates import solar_day, to_nanoseconds
from xharmonize.cube.geobox import reproject_bounds
from xharmonize.cube.metadata import check_level
from xharmonize.cube.radiometry import Encoding
from xharmonize.errors import BandError, CatalogError, GridError, RadiometryError, suggest
from xharmonize.io.stac.fields import (
    Grid,
    Scene,
    as_list,
    as_number,
    crs_stated,
    grid_stated,
    malformed,
    name_of,
)
from xharmonize.io.stac.identity import (
    OWN,
    Identity,
    identify,
    is_own,
    raster_band,
    settle_encodings,
    unit_of,
)
from xharmonize.kernels.longitude import do_meet
from xharmonize.sensors.registry import (
    all_sensors,
    band_spellings,
    normalize_platform,
    platform_in,
    stated,
)
from xharmonize.sensors.sentinel1 import relative_orbit
from xharmonize.sensors.spec import UNKNOWN, Band, QALayer, Sensor
from xharmonize.types import Item

ANGLES = ("sun_zenith", "sun_azimuth", "view_zenith", "view_azimuth")
"""Coordinates along time that hold them [degree]."""

ATTRIBUTES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        name: {
            "units": "degree",
            "standard_name": f"{who}_{name.rpartition('_')[2]}_angle",
            "long_name": name.replace("_", " "),
        }
        for name, who in zip(ANGLES, ("solar", "solar", "sensor", "sensor"))
    }
)
"""Units and CF standard names of the angles."""

_KEYS = {
    "sun_zenith": ("s2:mean_solar_zenith",),
    "sun_azimuth": ("view:sun_azimuth", "s2:mean_solar_azimuth"),
    "view_zenith": ("view:incidence_angle",),  # the view zenith at the ground
    "view_azimuth": ("view:azimuth",),
}


def angles_of_item(item: Mapping[str, Any]) -> dict[str, float]:
    """Return the mean angles [degree] that an item states (STAC view extension).

    Where an item has no incidence angle, its ``view:off_nadir`` stands in: seen from 700 to 800 km
    it is the smaller by an eighth. Not so where it says where the platform points: for Landsat,
    whose items are whole swaths, seen from -7.5 to 7.5 degrees, and wherever it is 0.

    Parameters
    ----------
    item : mapping
        As `xharmonize.io.stac.items.normalize_item` returns it.

    Returns
    -------
    dict of str to float
        By the names of `ANGLES`; NaN where the item does not say.

    Raises
    ------
    CatalogError
        If an angle is no number.
    """
    found = {name: _first(item, keys) for name, keys in _KEYS.items()}
    elevation = _first(item, ("view:sun_elevation",))
    if not np.isnan(elevation):
        found["sun_zenith"] = 90.0 - elevation
    off_nadir = _first(item, ("view:off_nadir",))
    if np.isnan(found["view_zenith"]) and off_nadir > 0 and not _is_aim(item):
        found["view_zenith"] = off_nadir
    return found


def orbit_of_item(item: Mapping[str, Any]) -> tuple[str, float]:
    """Return direction and relative orbit that a radar item states (STAC satellite extension).

    Where it states an absolute orbit only, the relative one of Sentinel-1A and -1B follows.

    Returns
    -------
    state : str
        ``ascending``, ``descending`` or ``unknown``.
    number : float
        NaN where it is not known.

    Raises
    ------
    CatalogError
        If an orbit is no number.
    """
    said = str(item["properties"].get("sat:orbit_state") or UNKNOWN).lower()
    state = said if said in ("ascending", "descending") else UNKNOWN
    number = _first(item, ("sat:relative_orbit",))
    absolute = _first(item, ("sat:absolute_orbit",))
    platform = normalize_platform(str(item["properties"].get("platform") or ""))
    if np.isnan(number):
        names = (platform, platform_in([str(item["id"])]))
        number = next((n for one in names if (n := relative_orbit(one, absolute)) > 0), np.nan)
    return state, number


def _is_aim(item: Mapping[str, Any]) -> bool:
    """Tell whether the off-nadir angle is where the platform points, by who observed the item."""
    properties = item["properties"]
    constellation = str(properties.get("constellation") or "").lower()
    platform = normalize_platform(str(properties.get("platform") or constellation))
    who = {constellation, platform, platform_in([str(item["id"])])} - {""}
    for sensor in all_sensors():
        family = sensor.names.platform.partition("{")[0]
        known = {sensor.constellation, *sensor.platforms}
        is_its = known & who or any(family and name.startswith(family) for name in who)
        if sensor.names.is_aim_off_nadir and is_its:
            return True
    return False


def _first(item: Mapping[str, Any], keys: tuple[str, ...]) -> float:
    for key in keys:
        value = item["properties"].get(key)
        if value is None:
            continue
        return as_number(
            value,
            f"{name_of(item)}: properties > {key}",
            wanted="a number" if key.startswith("sat:") else "an angle in degrees",
        )
    return np.nan


APART = 1e-3
"""Distance [degree] by which an item's bbox may miss its pixels: bboxes are rounded."""


def settle_scene(
    item: Item,
    *,
    bands: Sequence[str] | None = None,
    radiometry: Mapping[str, float] | None = None,
    platform: str | None = None,
    skips: bool = False,
) -> tuple[Scene, tuple[str, ...]]:
    """Return the scene of an item, and notes on metadata that a rule overrode.

    Parameters
    ----------
    item : dict
        As `xharmonize.io.stac.items.normalize_item` returns it.
    bands : sequence of str, optional
        Cube bands to look for; all spectral bands of the sensor that the item has.
    radiometry : mapping, optional
        ``scale``, ``offset``, ``nodata`` that override the metadata of the item.
    platform : str, optional
        Platform that overrides the metadata of the item.
    skips : bool
        Whether a band that is not there is left out instead of an error.
    """
    identity = identify(item, platform=platform)
    sensor = identity.sensor
    spectral = _spectral_assets(item, sensor, identity.platform, bands, skips=skips)
    assets = spectral | _quality_assets(item, sensor)
    _check_level(item, identity, spectral.values())
    encodings = settle_encodings(item, spectral, identity, override=_values_of(radiometry))
    center, moment = _center(item), sensing_time(item)
    when = to_nanoseconds(moment, what=f"item {item['id']!r}")
    day = solar_day(when, center[0])
    scene = Scene(
        id=item["id"],
        item=item,
        datetime=when,
        sensor=sensor,
        step=_step(item, identity, encodings),
        assets=assets,
        crs=_crs(item, spectral),
        grids={n: grid for n, key in assets.items() if (grid := _grid(item, key)) is not None},
        solar_day=day,
        datatake=identity.datatake(day=day.isoformat(), second=f"{moment:%Y%m%dT%H%M%S}"),
        datastrip=identity.datastrip,
        tile=identity.tile,
        units=unit_of(item, spectral.values(), sensor),
        center=center,
        dtypes={n: kind for n, key in assets.items() if (kind := _dtype(item, key))},
    )
    _require_place(scene)
    return scene, tuple(dict.fromkeys(note for e in encodings.values() for note in e.notes))


def sensing_time(item: Mapping[str, Any]) -> dt.datetime:
    """Return the sensing time of an item as naive UTC; the start where there is only a range."""
    properties = item.get("properties") or {}
    names = [name for name in ("datetime", "start_datetime") if properties.get(name) is not None]
    if not names:
        raise CatalogError(f"{name_of(item)} has neither datetime nor start_datetime")
    value = properties[names[0]]
    try:
        # RFC 3339 allows t and z.
        is_text = isinstance(value, str)
        moment = _naive(dt.datetime.fromisoformat(value.upper()) if is_text else value)
    except (ValueError, OverflowError, AttributeError):
        raise malformed(f"{name_of(item)}: {names[0]}", value, "a time of RFC 3339") from None
    return moment


def bandpass_of(sensor: Sensor, platform: str) -> str:
    """Return the bandpass of a platform; of an unknown one only where all agree."""
    if platform in sensor.platforms:
        return sensor.bandpass_of(platform)
    families = {sensor.bandpass_of(name) for name in sensor.platforms}
    return families.pop() if len(families) == 1 else UNKNOWN


def _check_level(item: Item, identity: Identity, keys: Collection[str]) -> None:
    """Refuse an item whose names, properties or assets are of another level or product."""
    if identity.is_own:
        return
    assets = {f"asset {key!r}": item["assets"][key] for key in keys}
    check_level(
        identity.metadata,
        addresses=[(where, str(asset["href"])) for where, asset in assets.items()],
        fields=[
            (f"{where} > {name}", value)
            for where, asset in assets.items()
            for name, value in stated(asset, "level", "processing_level")
        ],
    )


def _step(item: Item, identity: Identity, encodings: Mapping[str, Encoding]) -> Step:
    own, sensor, platform = item["properties"], identity.sensor, identity.platform
    return Step(
        sensor=sensor.name,
        platform=platform,
        bandpass=str(own.get(f"{OWN}bandpass", bandpass_of(sensor, platform))),
        processing_baseline=identity.metadata.baseline,
        level=str(own.get(f"{OWN}level", sensor.level)),
        item_id=item["id"],
        tile=identity.tile,
        scale={band: encoding.scale for band, encoding in encodings.items()},
        offset={band: encoding.offset for band, encoding in encodings.items()},
        nodata={band: encoding.nodata for band, encoding in encodings.items()},
    )


def _values_of(radiometry: Mapping[str, float] | None) -> dict[str, float]:
    values = dict(radiometry or {})
    odd = sorted(set(values) - {"scale", "offset", "nodata"})
    if odd:
        raise RadiometryError(
            f"holds {odd}, and takes 'scale', 'offset' and 'nodata'",
            argument="radiometry",
            value=values,
        )
    try:
        numbers = {key: float(value) for key, value in values.items()}
    except (TypeError, ValueError):
        raise RadiometryError(
            "holds what is no number", argument="radiometry", value=values
        ) from None
    if numbers.get("scale", 1.0) <= 0:
        raise RadiometryError(f"radiometry= has scale {numbers['scale']:g}", cure="it is above 0")
    return numbers


def _spectral_assets(
    item: Item, sensor: Sensor, platform: str, bands: Sequence[str] | None, *, skips: bool = False
) -> dict[str, str]:
    """Map cube bands to asset keys; raise `BandError` for a band asked for that is not there.

    With `skips` it is left out; an item that has none of them is mapped with all it has.
    """
    known = platform if platform in sensor.platforms else UNKNOWN
    table = {band.name: band for band in sensor.instrument(known).bands}
    found = {}
    for name in bands if bands is not None else table:
        key = _band_asset(item, table[name]) if name in table else _other_asset(item, sensor, name)
        if key is not None:
            found[name] = key
        elif bands is not None and not skips:
            here = [n for n, band in table.items() if _band_asset(item, band)]
            spelt = band_spellings(sensor.instrument(known))
            raise BandError(
                f"({sensor.name}) has no band {name!r}",
                cure=f"{suggest(name, here, spelt)}it has {here}; "
                'leave the item out, or pass on_error="skip" to read the band as missing there',
                value=name,
                item=item["id"],
            )
    if not found and skips and bands is not None:
        return _spectral_assets(item, sensor, platform, None)
    if not found:
        cure = "; what to_cogs wrote of an index, xh.open_cogs opens" if is_own(item) else ""
        raise BandError(
            f"has no asset of {sensor.name}: its assets are "
            f"{sorted(item['assets'])}, looked for {list(table)}{cure}",
            item=item["id"],
        )
    return found


def _band_asset(item: Item, band: Band) -> str | None:
    """Asset key of a band: by key, then by the band's own name, then by its common name."""
    assets = item["assets"]
    for key in band.assets:
        found = key if key in assets else _finest(item, key)
        if found is not None and not _is_overview(assets[found]):
            return found
    return _by_field(item, "name", {band.source, *band.assets}) or _by_field(
        item, "common_name", {band.name}
    )


def _by_field(item: Item, field: str, values: set[str]) -> str | None:
    """Key of the finest single-band asset one of whose ``eo:bands`` fields fits."""
    found: list[tuple[float, str]] = []
    for key, asset in item["assets"].items():
        bands = asset.get("eo:bands") or []
        name = bands[0].get(field) if len(bands) == 1 else None
        if isinstance(name, str) and name in values and not _is_overview(asset):
            grid = _grid(item, key)
            found.append((abs(grid.transform[0]) if grid else math.inf, key))
    return min(found)[1] if found else None


def _other_asset(item: Item, sensor: Sensor, name: str) -> str | None:
    """Key of an asset outside the sensor's spectral bands, read only when it is asked for."""
    extra, asset = sensor.extra_band(name), item["assets"].get(name)
    if extra is not None and asset is None:
        return next((key for key in item["assets"] if key in extra), None)
    return name if asset and "data" in _roles(asset) else None


def _is_overview(asset: Mapping[str, Any]) -> bool:
    return bool({"overview", "thumbnail", "visual"} & _roles(asset))


def _roles(asset: Mapping[str, Any]) -> set[str]:
    roles = asset.get("roles")
    return set(map(str, as_list(roles, f"roles of asset {asset['href']!r}"))) if roles else set()


def _quality_assets(item: Item, sensor: Sensor) -> dict[str, str]:
    found = {layer.name: _layer_asset(item, layer) for layer in sensor.qa}
    return {name: key for name, key in found.items() if key is not None}


def _layer_asset(item: Item, layer: QALayer) -> str | None:
    exact = next((key for key in layer.assets if key in item["assets"]), None)
    if exact is not None:
        return exact
    return next((found for key in layer.assets if (found := _finest(item, key))), None)


def _finest(item: Item, key: str) -> str | None:
    """Asset key that spells out its resolution: ``B04_10m`` before ``B04_20m`` for ``B04``."""
    sizes = (10, 15, 20, 30, 60)
    return next((k for size in sizes if (k := f"{key}_{size}m") in item["assets"]), None)


def _crs(item: Item, spectral: Mapping[str, str]) -> str:
    """CRS of the spectral assets; empty where the metadata have none."""
    name = name_of(item)
    found = {crs_stated(item["assets"][key], f"{name}: asset {key!r}") for key in spectral.values()}
    found.discard("")
    if len(found) > 1:
        raise CatalogError(
            f"{name} has assets in several CRSs, {', '.join(sorted(found))}: ask for bands "
            "of one CRS with bands=[...]"
        )
    return found.pop() if found else crs_stated(item["properties"], f"{name}: properties")


def _grid(item: Item, key: str) -> Grid | None:
    asset, properties, name = item["assets"][key], item["properties"], name_of(item)
    own = grid_stated(asset, f"{name}: asset {key!r}") if "proj:shape" in asset else None
    shared = None if own else grid_stated(properties, f"{name}: properties")
    return replace(shared, is_shared=True) if shared else own


def _require_place(scene: Scene) -> None:
    """Raise `GridError` if the item's bbox and the grids of its assets lie apart."""
    box = scene.item["bbox"]
    if box is None or not scene.crs:
        return
    for name, grid in scene.grids.items():
        try:
            found = reproject_bounds(grid.bounds, scene.crs, "EPSG:4326")
        except GridError as error:
            raise GridError(
                f", asset {scene.assets[name]!r}: proj:transform and proj:shape "
                f"are no place on Earth in {scene.crs[:40]} ({error})",
                cure="correct them in the item",
                item=scene.id,
            ) from None
        if not do_meet(box, found, margin=APART):
            raise GridError(
                f"lies at {_rounded(box)} by its bbox, its asset "
                f"{scene.assets[name]!r} at {_rounded(found)} by proj:transform in "
                f"{scene.crs[:40]}",
                cure="correct the one that is wrong in the item",
                item=scene.id,
            )


def _rounded(box: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in box)


def _dtype(item: Item, key: str) -> str:
    name = raster_band(item, key).get("data_type")
    if name is None or name == "":
        return ""
    dtype = _number_type(name) if isinstance(name, str) else None
    if dtype is None:
        where = f"{name_of(item)}: asset {key!r}: data_type"
        raise malformed(where, name, "a type of numbers, such as 'uint16'")
    return dtype


@lru_cache(maxsize=1024)
def _number_type(name: str) -> str | None:
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError, SyntaxError):
        return None
    return str(dtype) if dtype.kind in "iuf" else None


def _center(item: Item) -> tuple[float, float]:
    """Longitude and latitude of the centre [degrees]; boxes across the antimeridian too."""
    if item["bbox"] is None:
        return math.nan, math.nan
    west, south, east, north = item["bbox"]
    lon = (west + east) / 2 + (180 if west > east else 0)
    return (lon + 180) % 360 - 180, (south + north) / 2


def _naive(moment: dt.datetime) -> dt.datetime:
    return moment.astimezone(dt.UTC).replace(tzinfo=None) if moment.tzinfo else moment
