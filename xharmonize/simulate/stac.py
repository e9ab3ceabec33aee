"""STAC items and collections of simulated scenes, in the dialects real catalogues use."""

from __future__ import annotations

from typing import Any

from xharmonize.kernels.longitude import box_around
from xharmonize.sensors import get_sensor
from xharmonize.sensors.spec import Band, QALayer
from xharmonize.simulate.atmosphere import cloud_cover
from xharmonize.simulate.config import Orbit, Pass, Simulation
from xharmonize.simulate.geometry import Angles, pass_angles
from xharmonize.simulate.noise import Window
from xharmonize.simulate.optical import OPTICAL_BANDS, prepare, scale_and_offset, spectral_bands

_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_EXTENSION = "https://stac-extensions.github.io"
_CONSTELLATION = {
    "sentinel-2-l2a": "sentinel-2",
    "landsat-c2-l2": "landsat",
    "gaofen-1-ard": "gaofen-1",
    "sentinel-1-rtc": "sentinel-1",
}
_INSTRUMENTS = {
    "sentinel-2-l2a": ["msi"],
    "landsat-c2-l2": ["oli", "tirs"],
    "gaofen-1-ard": ["wfv"],
    "sentinel-1-rtc": ["c-sar"],
}


def item_id(simulation: Simulation, acquisition: Pass) -> str:
    """Return an id in the manner of the sensor's own products."""
    orbit = acquisition.orbit
    stamp = str(acquisition.time).replace("-", "").replace(":", "")
    day = stamp[:8]
    if orbit.sensor == "sentinel-2-l2a":
        baseline = simulation.baseline_of(acquisition).replace(".", "")
        name = (
            f"S2{orbit.platform[-1].upper()}_MSIL2A_{stamp}_N{baseline}_R{orbit.relative_orbit:03d}"
        )
        return f"{name}_T31UES"
    if orbit.sensor == "landsat-c2-l2":
        return f"LC{int(orbit.platform[-1]):02d}_L2SP_{orbit.relative_orbit:03d}025_{day}_02_T1"
    if orbit.sensor == "gaofen-1-ard":
        return f"GF1_WFV_{stamp}_R{orbit.relative_orbit:03d}_ARD"
    return f"S1{orbit.platform[-1].upper()}_IW_GRDH_1SDV_{stamp}_R{orbit.relative_orbit:03d}_rtc"


def item_assets(simulation: Simulation, acquisition: Pass) -> dict[str, Window]:
    """Return the asset keys of a pass and their grids."""
    name = acquisition.orbit.sensor
    sensor = get_sensor(name)
    if name == "sentinel-1-rtc":
        window = simulation.window(name, simulation.radar_spacing)
        return {"vv": window, "vh": window}
    bands = spectral_bands(sensor, acquisition.orbit.platform, OPTICAL_BANDS[name])
    grids = {band.name: simulation.window(name, band.gsd) for band in bands}
    primary = [layer for layer in sensor.qa if layer.is_primary]
    return grids | {layer.name: simulation.window(name, layer.gsd) for layer in primary}


def make_item(simulation: Simulation, acquisition: Pass) -> dict[str, Any]:
    """Return the STAC item of a pass, with relative asset links.

    Parameters
    ----------
    simulation : Simulation
        Its `metadata` chooses the dialect.
    acquisition : Pass
        One of ``simulation.passes()``.
    """
    orbit, meta = acquisition.orbit, simulation.metadata
    grids = item_assets(simulation, acquisition)
    footprint = _footprint(next(iter(grids.values())), simulation.crs)
    x, y = simulation.center
    angles = pass_angles(acquisition, x, y, simulation.crs)
    properties: dict[str, Any] = {
        "datetime": f"{acquisition.time}Z",
        "constellation": _CONSTELLATION[orbit.sensor],
        "instruments": _INSTRUMENTS[orbit.sensor],
        "gsd": min(window.step for window in grids.values()),
        **_sensor_properties(simulation, acquisition, angles),
    }
    if meta.platform == "stated":
        properties["platform"] = orbit.platform
    if meta.projection_at == "item":
        properties |= _projection(simulation)
    return {
        "type": "Feature",
        "stac_version": meta.stac_version,
        "stac_extensions": _extensions(meta.stac_version),
        "id": item_id(simulation, acquisition),
        "collection": orbit.sensor,
        "geometry": {"type": "Polygon", "coordinates": [footprint]},
        "bbox": _bbox(footprint),
        "properties": properties,
        "links": [
            {"rel": "root", "href": "../../catalog.json", "type": "application/json"},
            {"rel": "parent", "href": "../collection.json", "type": "application/json"},
            {"rel": "collection", "href": "../collection.json", "type": "application/json"},
        ],
        "assets": {
            key: make_asset(simulation, acquisition, key, window) for key, window in grids.items()
        },
    }


def _sensor_properties(simulation: Simulation, acquisition: Pass, angles: Angles) -> dict[str, Any]:
    orbit, meta = acquisition.orbit, simulation.metadata
    if orbit.sensor == "sentinel-1-rtc":
        return _radar_properties(orbit)
    found: dict[str, Any] = {
        "eo:cloud_cover": round(100 * cloud_cover(simulation, acquisition), 2),
        "view:sun_elevation": round(90 - angles.sun_zenith, 4),
        "view:sun_azimuth": round(angles.sun_azimuth, 4),
        "view:incidence_angle": angles.view_zenith,
        "view:azimuth": angles.view_azimuth,
    }
    if orbit.sensor == "sentinel-2-l2a":
        baseline = simulation.baseline_of(acquisition)
        stamp = str(acquisition.time).replace("-", "").replace(":", "")
        platform = f"GS2{orbit.platform[-1].upper()}"
        found |= {
            "s2:processing_baseline": baseline,
            "s2:datatake_id": f"{platform}_{stamp}_{orbit.relative_orbit:06d}_N{baseline}",
            "s2:mgrs_tile": "31UES",
            "grid:code": "MGRS-31UES",
            "sat:orbit_state": orbit.direction,
            "sat:relative_orbit": orbit.relative_orbit,
        }
        if meta.boa_offset_applied is not None:
            found["earthsearch:boa_offset_applied"] = meta.boa_offset_applied
    if orbit.sensor == "landsat-c2-l2":
        found |= {
            "landsat:wrs_path": f"{orbit.relative_orbit:03d}",
            "landsat:wrs_row": "025",
            "landsat:collection_number": "02",
            "landsat:correction": "L2SP",
        }
    return found


def _radar_properties(orbit: Orbit) -> dict[str, Any]:
    return {
        "sar:instrument_mode": "IW",
        "sar:frequency_band": "C",
        "sar:polarizations": ["VV", "VH"],
        "sar:product_type": "RTC",
        "sar:looks_equivalent_number": 4.4,
        "sat:orbit_state": orbit.direction,
        "sat:relative_orbit": orbit.relative_orbit,
        "view:incidence_angle": orbit.view_zenith,
    }


def make_asset(
    simulation: Simulation, acquisition: Pass, key: str, window: Window
) -> dict[str, Any]:
    """Return one asset of an item."""
    meta = simulation.metadata
    asset: dict[str, Any] = {
        "href": f"./{key}.tif",
        "type": _COG,
        "roles": ["data"],
        "gsd": window.step,
        "proj:shape": [window.height, window.width],
        "proj:transform": [window.step, 0.0, window.left, 0.0, -window.step, window.top],
    }
    if meta.projection_at == "asset":
        asset |= _projection(simulation)
    sensor = get_sensor(acquisition.orbit.sensor)
    layer = next((layer for layer in sensor.qa if layer.name == key), None)
    if layer is not None:
        return asset | _qa_fields(layer, window, meta.stac_version)
    band = sensor.instrument(acquisition.orbit.platform).band(key)
    return asset | _band_fields(simulation, acquisition, band, window)


def _qa_fields(layer: QALayer, window: Window, version: str) -> dict[str, Any]:
    raster = {"data_type": layer.dtype, "nodata": layer.fill}
    if version == "1.1.0":
        return {"roles": ["data", "classification"], **raster}
    return {
        "roles": ["data", "classification"],
        "raster:bands": [{**raster, "spatial_resolution": window.step}],
    }


def _band_fields(
    simulation: Simulation, acquisition: Pass, band: Band, window: Window
) -> dict[str, Any]:
    meta, sensor = simulation.metadata, get_sensor(acquisition.orbit.sensor)
    raster: dict[str, Any] = {
        "data_type": sensor.radiometry.dtype,
        "nodata": sensor.radiometry.nodata,
    }
    eo: dict[str, Any] = {"name": band.source, "common_name": band.name}
    is_radar = acquisition.orbit.sensor == "sentinel-1-rtc"
    if is_radar:
        eo = {"name": band.source}
    else:
        eo["center_wavelength"] = round(band.center / 1000, 4)
        eo["full_width_half_max"] = round((band.high - band.low) / 1000, 4)
        if meta.raster == "stated":
            scale, offset = scale_and_offset(prepare(simulation, acquisition))
            raster |= {"scale": scale, "offset": offset}
    roles = {"roles": ["data"] if is_radar else ["data", "reflectance"]}
    if meta.stac_version == "1.1.0":
        prefixed = {f"raster:{k}": raster[k] for k in ("scale", "offset") if k in raster}
        plain = {k: raster[k] for k in ("data_type", "nodata")}
        names = {"name": band.source} | {f"eo:{k}": v for k, v in eo.items() if k != "name"}
        return {**roles, **plain, **prefixed, "bands": [names]}
    return {
        **roles,
        "raster:bands": [{**raster, "spatial_resolution": window.step}],
        "eo:bands": [eo],
    }


def _projection(simulation: Simulation) -> dict[str, Any]:
    from pyproj import CRS

    authority = CRS.from_user_input(simulation.crs).to_authority()
    if simulation.metadata.projection == "proj:epsg":
        return {"proj:epsg": int(authority[1])}
    return {"proj:code": ":".join(authority)}


def _extensions(version: str) -> list[str]:
    if version == "1.1.0":
        names = ("projection/v2.0.0", "raster/v2.0.0", "eo/v2.0.0", "view/v1.0.0")
    else:
        names = ("projection/v1.1.0", "raster/v1.1.0", "eo/v1.1.0", "view/v1.0.0")
    return [f"{_EXTENSION}/{name}/schema.json" for name in names]


def _footprint(window: Window, crs: str) -> list[list[float]]:
    from xharmonize.simulate.geometry import lon_lat

    right, bottom = (
        window.left + window.step * window.width,
        window.top - window.step * window.height,
    )
    corners = [
        (window.left, bottom), (right, bottom), (right, window.top), (window.left, window.top),
        (window.left, bottom),
    ]  # fmt: skip
    return [list(lon_lat(x, y, crs)) for x, y in corners]


def _bbox(footprint: list[list[float]]) -> list[float]:
    return list(box_around((lon, lat) for lon, lat in footprint) or ())


def make_collection(
    simulation: Simulation, name: str, items: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the STAC collection of one sensor."""
    corners = [corner for item in items for corner in (item["bbox"][:2], item["bbox"][2:])]
    times = sorted(item["properties"]["datetime"] for item in items)
    box = list(box_around(corners) or ())
    links = [
        {"rel": "root", "href": "../catalog.json", "type": "application/json"},
        {"rel": "parent", "href": "../catalog.json", "type": "application/json"},
    ]
    links += [
        {"rel": "item", "href": f"./{i['id']}/{i['id']}.json", "type": "application/geo+json"}
        for i in items
    ]
    return {
        "type": "Collection",
        "id": name,
        "stac_version": simulation.metadata.stac_version,
        "description": f"Simulated: {get_sensor(name).title}",
        "license": "CC0-1.0",
        "extent": {"spatial": {"bbox": [box]}, "temporal": {"interval": [[times[0], times[-1]]]}},
        "links": links,
    }


def make_catalog(simulation: Simulation, names: list[str]) -> dict[str, Any]:
    """Return the root of the static catalogue."""
    links = [{"rel": "root", "href": "./catalog.json", "type": "application/json"}]
    links += [
        {"rel": "child", "href": f"./{n}/collection.json", "type": "application/json"}
        for n in names
    ]
    return {
        "type": "Catalog",
        "id": f"simulated-{simulation.seed}",
        "stac_version": simulation.metadata.stac_version,
        "description": "Simulated scenes with known truth",
        "links": links,
    }
