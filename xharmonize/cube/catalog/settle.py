"""From a normalised item to a `Scene`: its assets, grids and radiometric contract."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from typing import Any

from xharmonize.cube.catalog.identity import (
    OWN,
    baseline_of,
    datatake_of,
    is_own,
    platform_of,
    recognize_sensor,
    tile_of,
)
from xharmonize.cube.catalog.items import Item, epsg_of
from xharmonize.cube.catalog.radiometry import Encoding, settle_encoding, unit_of
from xharmonize.cube.catalog.scene import Grid, Scene
from xharmonize.cube.contract import Step
from xharmonize.cube.dates import to_nanoseconds
from xharmonize.errors import BandError, CatalogError, RadiometryError, UnknownSensorError
from xharmonize.sensors.spec import UNKNOWN, Band, QALayer, Sensor


def settle_scene(
    item: Item,
    *,
    bands: Sequence[str] | None = None,
    radiometry: Mapping[str, float] | None = None,
    platform: str | None = None,
) -> tuple[Scene, tuple[str, ...]]:
    """Return the scene of an item, and notes on what a rule settled against other metadata.

    Parameters
    ----------
    item : dict
        As `xharmonize.cube.catalog.items.normalize_item` returns it.
    bands : sequence of str, optional
        Cube bands to look for; all spectral bands of the sensor that the item has.
    radiometry : mapping, optional
        ``scale``, ``offset``, ``nodata`` that go before the metadata of the item.
    platform : str, optional
        Platform that goes before the metadata of the item.
    """
    sensor = recognize_sensor(item)
    platform = _known_platform(item, sensor, platform or platform_of(item))
    spectral = _spectral_assets(item, sensor, platform, bands)
    assets = spectral | _quality_assets(item, sensor)
    baseline, override = baseline_of(item), _values_of(radiometry)
    encodings = {
        band: settle_encoding(item, key, sensor=sensor, baseline=baseline, override=override)
        for band, key in spectral.items()
    }
    center, moment = _center(item), sensing_time(item)
    when = to_nanoseconds(moment, what=f"item {item['id']!r}")
    solar_day = _solar_day(moment, center[0])
    tile = tile_of(item)
    scene = Scene(
        id=item["id"],
        item=item,
        datetime=when,
        sensor=sensor,
        step=_step(item, sensor, platform, baseline, tile, encodings),
        assets=assets,
        crs=_crs(item, spectral),
        grids={n: grid for n, key in assets.items() if (grid := _grid(item, key)) is not None},
        solar_day=solar_day,
        datatake=datatake_of(
            item,
            platform=platform,
            tile=tile,
            solar_day=solar_day.isoformat(),
            second=moment.strftime("%Y%m%dT%H%M%S"),
        ),
        tile=tile,
        units=unit_of(item, spectral.values(), sensor),
        center=center,
        dtypes={n: kind for n, key in assets.items() if (kind := _dtype(item, key))},
    )
    return scene, tuple(dict.fromkeys(note for e in encodings.values() for note in e.notes))


def sensing_time(item: Mapping[str, Any]) -> dt.datetime:
    """Return the sensing time of an item as naive UTC; the start where there is only a range."""
    properties = item.get("properties") or {}
    text = properties.get("datetime") or properties.get("start_datetime")
    if text is None:
        raise CatalogError(f"item {item.get('id')!r} has neither datetime nor start_datetime")
    if isinstance(text, dt.datetime):
        return _naive(text)
    try:
        return _naive(dt.datetime.fromisoformat(str(text)))
    except ValueError:
        raise CatalogError(
            f"item {item.get('id')!r} has datetime {text!r}, which is not RFC 3339"
        ) from None


def bandpass_of(sensor: Sensor, platform: str) -> str:
    """Return the bandpass of a platform; of an unknown one only where all agree."""
    if platform in sensor.platforms:
        return sensor.bandpass_of(platform)
    families = {sensor.bandpass_of(name) for name in sensor.platforms}
    return families.pop() if len(families) == 1 else UNKNOWN


def _step(
    item: Item,
    sensor: Sensor,
    platform: str,
    baseline: str,
    tile: str,
    encodings: Mapping[str, Encoding],
) -> Step:
    own = item["properties"]
    return Step(
        sensor=sensor.name,
        platform=platform,
        bandpass=own.get(f"{OWN}bandpass", bandpass_of(sensor, platform)),
        processing_baseline=baseline,
        level=own.get(f"{OWN}level", str(sensor.level)),
        item_id=item["id"],
        tile=tile,
        scale={band: encoding.scale for band, encoding in encodings.items()},
        offset={band: encoding.offset for band, encoding in encodings.items()},
        nodata={band: encoding.nodata for band, encoding in encodings.items()},
    )


def _known_platform(item: Item, sensor: Sensor, platform: str) -> str:
    if platform in (UNKNOWN, sensor.constellation, *sensor.platforms):
        return platform
    raise UnknownSensorError(
        f"item {item['id']!r} was observed by {platform!r}, {sensor.name} knows "
        f"{', '.join(sensor.platforms)}; leave such items out with query={{'platform': "
        f"{{'in': [...]}}}}, or register a sensor that has the platform"
    )


def _values_of(radiometry: Mapping[str, float] | None) -> dict[str, float]:
    values = dict(radiometry or {})
    odd = sorted(set(values) - {"scale", "offset", "nodata"})
    if odd:
        raise RadiometryError(f"radiometry= holds {odd}; it takes 'scale', 'offset' and 'nodata'")
    try:
        numbers = {key: float(value) for key, value in values.items()}
    except (TypeError, ValueError):
        raise RadiometryError(f"radiometry={values} holds what is no number") from None
    if numbers.get("scale", 1.0) <= 0:
        raise RadiometryError(f"radiometry= has scale {numbers['scale']:g}; it is above 0")
    return numbers


def _spectral_assets(
    item: Item, sensor: Sensor, platform: str, bands: Sequence[str] | None
) -> dict[str, str]:
    """Map cube bands to asset keys; raise `BandError` for a band asked for that is not there."""
    known = platform if platform in sensor.platforms else UNKNOWN
    table = {band.name: band for band in sensor.instrument(known).bands}
    found = {}
    for name in bands if bands is not None else table:
        key = _band_asset(item, table[name]) if name in table else _thermal_asset(item, name)
        if key is not None:
            found[name] = key
        elif bands is not None:
            here = [n for n, band in table.items() if _band_asset(item, band)]
            raise BandError(
                f"item {item['id']!r} ({sensor.name}) has no band {name!r}; it has {here}"
            )
    if not found:
        cure = "; what to_cogs wrote of an index, xh.open_cogs opens" if is_own(item) else ""
        raise BandError(
            f"item {item['id']!r} has no asset of {sensor.name}: its assets are "
            f"{sorted(item['assets'])}, looked for {list(table)}{cure}"
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
        if len(bands) == 1 and bands[0].get(field) in values and not _is_overview(asset):
            transform = asset.get("proj:transform")
            found.append((abs(transform[0]) if transform else math.inf, key))
    return min(found)[1] if found else None


def _thermal_asset(item: Item, name: str) -> str | None:
    """Key of an asset outside the sensor's reflectance bands, read only when asked for by key."""
    asset = item["assets"].get(name)
    return name if asset and "data" in (asset.get("roles") or ()) else None


def _is_overview(asset: Mapping[str, Any]) -> bool:
    return bool({"overview", "thumbnail", "visual"} & set(asset.get("roles") or ()))


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
    fields = [item["assets"][key] for key in spectral.values()]
    codes = {code for asset in fields if (code := epsg_of(asset)) is not None}
    if len(codes) > 1:
        raise CatalogError(
            f"item {item['id']!r} has assets in several CRSs, EPSG {sorted(codes)}: ask for bands "
            "of one CRS with bands=[...]"
        )
    code = codes.pop() if codes else epsg_of(item["properties"])
    if code is not None:
        return f"EPSG:{code}"
    for source in (*fields, item["properties"]):
        if source.get("proj:wkt2"):
            return str(source["proj:wkt2"])
    return ""


def _grid(item: Item, key: str) -> Grid | None:
    asset, properties = item["assets"][key], item["properties"]
    holder = asset if asset.get("proj:transform") and asset.get("proj:shape") else properties
    transform, shape = holder.get("proj:transform"), holder.get("proj:shape")
    if transform is None or shape is None:
        return None
    a, b, c, d, e, f = (float(value) for value in transform)
    return Grid(transform=(a, b, c, d, e, f), shape=(int(shape[0]), int(shape[1])))


def _dtype(item: Item, key: str) -> str:
    bands = item["assets"][key].get("raster:bands") or [{}]
    return str(bands[0].get("data_type") or "")


def _center(item: Item) -> tuple[float, float]:
    """Longitude and latitude of the centre [degrees]; boxes across the antimeridian too."""
    if item["bbox"] is None:
        return math.nan, math.nan
    west, south, east, north = item["bbox"]
    lon = (west + east) / 2 + (180 if west > east else 0)
    return (lon + 180) % 360 - 180, (south + north) / 2


def _solar_day(moment: dt.datetime, longitude: float) -> dt.date:
    shift = 0.0 if math.isnan(longitude) else longitude / 15
    return (moment + dt.timedelta(hours=shift)).date()


def _naive(moment: dt.datetime) -> dt.datetime:
    return moment.astimezone(dt.UTC).replace(tzinfo=None) if moment.tzinfo else moment
