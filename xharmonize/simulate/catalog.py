"""Simulated scenes as a static STAC catalogue of COGs, in the dialects real catalogues use."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from xharmonize._replace import Mode, require_mode, require_new
from xharmonize.errors import EmptyQueryError, StoreError
from xharmonize.kernels.longitude import box_around
from xharmonize.sensors import get_sensor
from xharmonize.sensors.spec import Band, QALayer
from xharmonize.simulate.config import TILE, Orbit, Pass, Simulation
from xharmonize.simulate.imaging import Angles, cloud_cover, pass_angles
from xharmonize.simulate.noise import Window
from xharmonize.simulate.passes import (
    OPTICAL_BANDS,
    TileGround,
    prepare,
    render_optical,
    render_radar,
    render_tile_ground,
    scale_and_offset,
    spectral_bands,
)
from xharmonize.types import AnyArray

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
    from xharmonize.simulate.imaging import lon_lat

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


_AT_ONCE = 24
"""Dates whose files are open together: each tile's ground is rendered once for all of them."""


def write_catalog(
    simulation: Simulation,
    path: str | Path,
    *,
    mode: Mode = "w-",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Simulate all passes and write them as COGs with a static STAC catalogue.

    Peak memory depends neither on the size of the area nor on the number of dates: scenes are
    rendered tile by tile into files, a few dates at a time. Pixels do not depend on either.

    Parameters
    ----------
    simulation : Simulation
        What to simulate.
    path : str or Path
        Folder of the catalogue; created.
    mode : {"w-", "w"}
        ``"w-"`` refuses a simulated catalogue that is there, ``"w"`` replaces it.
    progress : callable, optional
        Called with the number of steps done and their total.

    Returns
    -------
    Path
        ``catalog.json``, written last.

    Raises
    ------
    StoreError
        If a simulated catalogue is there already (``"w-"``), or anything else is in the way.
    EmptyQueryError
        If no sensor passes within the period.
    """
    folder = Path(path)
    target = folder / "catalog.json"
    passes = simulation.passes()
    if not passes:
        raise EmptyQueryError(
            f"none of {list(simulation.sensors)} passes between {simulation.start} and "
            f"{simulation.end}",
            cure="choose a longer period",
        )
    require_mode(mode)
    _clear(folder, simulation, mode)
    # Written first too: what a killed run leaves is known as a simulation's.
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "simulation.json", asdict(simulation))
    tiles = list(tiles_of(simulation))
    total, done = len(passes) * (len(tiles) + 1), 0
    for start in range(0, len(passes), _AT_ONCE):
        for step in _write_batch(simulation, folder, passes[start : start + _AT_ONCE], tiles):
            done += step
            if progress is not None:
                progress(done, total)
    _write_documents(simulation, folder, passes)
    return target


def _clear(folder: Path, simulation: Simulation, mode: Mode) -> None:
    """Remove an earlier simulation; never scenes that something else wrote."""
    target = folder / "catalog.json"
    in_the_way = [name for name in (target.name, *simulation.sensors) if (folder / name).exists()]
    if in_the_way and not (folder / "simulation.json").exists():
        raise StoreError(
            f"{folder} holds {in_the_way[0]!r}, which no simulation wrote",
            cure="choose another folder",
        )
    require_new(target, mode)
    target.unlink(missing_ok=True)
    for name in simulation.sensors:
        shutil.rmtree(folder / name, ignore_errors=True)


def tiles_of(simulation: Simulation) -> Iterator[tuple[int, int]]:
    """Yield column and row of the lattice tiles that the grids of a simulation touch."""
    windows = [
        window
        for acquisition in {p.orbit.sensor: p for p in simulation.passes()}.values()
        for window in item_assets(simulation, acquisition).values()
    ]
    left = min(window.left for window in windows)
    right = max(window.left + window.step * window.width for window in windows)
    bottom = min(window.top - window.step * window.height for window in windows)
    top = max(window.top for window in windows)
    columns = range(int(np.floor(left / TILE)), int(np.ceil(right / TILE)))
    rows = range(int(np.floor(bottom / TILE)), int(np.ceil(top / TILE)))
    yield from product(columns, rows)


def render_pass(
    simulation: Simulation, acquisition: Pass, ground: TileGround
) -> dict[str, tuple[Window, AnyArray]]:
    """Render all assets of a pass on one tile, as they are written to files."""
    if acquisition.orbit.sensor == "sentinel-1-rtc":
        return dict(render_radar(simulation, acquisition, ground))
    return render_optical(prepare(simulation, acquisition), ground)


def _write_batch(
    simulation: Simulation, folder: Path, passes: Sequence[Pass], tiles: list[tuple[int, int]]
) -> Iterator[int]:
    with ExitStack() as stack:
        sinks = [_open_assets(simulation, folder, p, stack) for p in passes]
        for column, row in tiles:
            ground = render_tile_ground(simulation, column, row)
            for acquisition, sink in zip(passes, sinks):
                for key, (window, pixels) in render_pass(simulation, acquisition, ground).items():
                    _write_window(*sink[key], window, pixels)
                yield 1
    for acquisition in passes:
        place = folder / acquisition.orbit.sensor / item_id(simulation, acquisition)
        for key in item_assets(simulation, acquisition):
            _finish(place / f"{key}.part.tif", place / f"{key}.tif")
        _write_json(place / f"{place.name}.json", make_item(simulation, acquisition))
        yield 1


def _open_assets(
    simulation: Simulation, folder: Path, acquisition: Pass, stack: ExitStack
) -> dict[str, tuple[Any, Window]]:
    import rasterio
    from rasterio.transform import from_origin

    place = folder / acquisition.orbit.sensor / item_id(simulation, acquisition)
    place.mkdir(parents=True, exist_ok=True)
    sinks = {}
    for key, window in item_assets(simulation, acquisition).items():
        dtype, nodata = _storage(acquisition.orbit.sensor, key)
        options = {"tiled": True, "blockxsize": 256, "blockysize": 256}
        sinks[key] = (
            stack.enter_context(
                rasterio.open(
                    place / f"{key}.part.tif",
                    "w",
                    driver="GTiff",
                    width=window.width,
                    height=window.height,
                    count=1,
                    dtype=dtype,
                    nodata=nodata,
                    crs=simulation.crs,
                    transform=from_origin(window.left, window.top, window.step, window.step),
                    **options,
                )
            ),
            window,
        )
    return sinks


def _storage(sensor: str, key: str) -> tuple[str, float]:
    """Type and nodata value of an asset's file."""
    spec = get_sensor(sensor)
    for layer in spec.qa:
        if layer.name == key:
            return layer.dtype, layer.fill
    return spec.radiometry.dtype, spec.radiometry.nodata


def _write_window(file: Any, grid: Window, window: Window, pixels: AnyArray) -> None:
    from rasterio.windows import Window as FileWindow

    column = round((window.left - grid.left) / grid.step)
    row = round((grid.top - window.top) / grid.step)
    x0, x1 = max(column, 0), min(column + window.width, grid.width)
    y0, y1 = max(row, 0), min(row + window.height, grid.height)
    if x1 > x0 and y1 > y0:
        part = pixels[y0 - row : y1 - row, x0 - column : x1 - column]
        file.write(part, 1, window=FileWindow(x0, y0, x1 - x0, y1 - y0))


def _finish(part: Path, target: Path) -> None:
    """Turn the plain file into a COG with overviews; classes by nearest, the rest by average."""
    import rasterio
    from rasterio.shutil import copy

    with rasterio.open(part) as file:
        method = "NEAREST" if target.stem in ("scl", "qa_pixel") else "AVERAGE"
        predictor = "FLOATING_POINT" if file.dtypes[0] == "float32" else "STANDARD"
        copy(
            file, target, driver="COG", compress="DEFLATE", predictor=predictor, level=4,
            blocksize=256, overview_resampling=method,
        )  # fmt: skip
    part.unlink()


def _write_documents(simulation: Simulation, folder: Path, passes: Sequence[Pass]) -> None:
    names = [n for n in simulation.sensors if any(p.orbit.sensor == n for p in passes)]
    for name in names:
        items = [make_item(simulation, p) for p in passes if p.orbit.sensor == name]
        _write_json(folder / name / "collection.json", make_collection(simulation, name, items))
    _write_json(folder / "catalog.json", make_catalog(simulation, names))


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2))
