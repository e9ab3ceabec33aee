"""Write simulated scenes as a static STAC catalogue of COGs, a few dates at a time."""

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
from xharmonize.sensors import get_sensor
from xharmonize.simulate.config import TILE, Pass, Simulation
from xharmonize.simulate.noise import Window
from xharmonize.simulate.optical import TileGround, prepare, render_optical, render_tile_ground
from xharmonize.simulate.radar import render_radar
from xharmonize.simulate.stac import item_assets, item_id, make_catalog, make_collection, make_item
from xharmonize.types import AnyArray

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
            f"{simulation.end}; choose a longer period"
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
            f"{folder} holds {in_the_way[0]!r}, which no simulation wrote; choose another folder"
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
