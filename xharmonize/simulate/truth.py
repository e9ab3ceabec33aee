"""Truth on demand: what a perfect instrument would have seen, and what covers the ground."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xharmonize.errors import GridError, StoreError
from xharmonize.sensors import get_sensor
from xharmonize.simulate.config import FINE, HALO, TILE, Metadata, Orbit, Pass, Simulation
from xharmonize.simulate.imaging import make_sampling, point_spreads
from xharmonize.simulate.landscape import Cover, Landscape, render_landscape
from xharmonize.simulate.noise import Float32Array, Window
from xharmonize.simulate.passes import OpticalPass, prepare, surface_reflectance
from xharmonize.simulate.vegetation import CROPS, TWO_CROPS, crop_of, is_double
from xharmonize.types import AnyArray, Float64Array


def truth(
    simulation: Simulation,
    time: str | np.datetime64,
    *,
    sensor: str = "landsat-c2-l2",
    platform: str | None = None,
    like: xr.DataArray | xr.Dataset | None = None,
    resolution: float | None = None,
    point_spread: bool = False,
) -> xr.Dataset:
    """Return reflectance without noise, clouds, atmosphere or misregistration, and land cover.

    The ground is level and seen from nadir; the spectral responses are those of `platform`.

    Parameters
    ----------
    simulation : Simulation
        Place, seed and variant of the physics.
    time : str or datetime64
        Moment (UTC); the ground changes from day to day.
    sensor, platform : str
        Whose bands; the first platform of the sensor where None.
    like : DataArray or Dataset, optional
        Cube whose pixel grid (``x``, ``y``) the truth is given on, in the CRS of the simulation.
    resolution : float, optional
        Pixel size [m] of the simulation's own grid of the sensor, where `like` is not given; its
        finest by default.
    point_spread : bool
        True weights the ground by the point spread of each band, as the images do; False is the
        mean over the area of the pixel.

    Returns
    -------
    Dataset
        Lazy: ``reflectance`` (band, y, x) float32 [1], ``cover`` (y, x) uint8, the `Cover` of
        the largest part of the pixel, ``purity`` (y, x) float32, that part [1], and ``crop``
        (y, x) uint8, the crop of the year on the largest part of the pixel: 0 where that is no
        cropland. No NaN.

    Raises
    ------
    GridError
        If `like` has no evenly spaced ``x`` and ``y``.
    """
    spec = get_sensor(sensor)
    acquisition = _moment(
        sensor, platform or spec.platforms[0], np.datetime64(time).astype("datetime64[s]")
    )
    scene = prepare(simulation, acquisition)
    step = resolution or min(band.gsd for band in scene.bands)
    window = simulation.window(sensor, step) if like is None else _window_of(like)
    blocks = _lazy_blocks(scene, window, point_spread)
    y = window.y if like is None else np.asarray(like["y"].values, np.float64)
    if y[0] < y[-1]:
        blocks = blocks[:, ::-1]
    n_bands = len(scene.bands)
    result = xr.Dataset(
        {
            "reflectance": (("band", "y", "x"), blocks[:n_bands], {"units": "1"}),
            "cover": (("y", "x"), blocks[n_bands].astype(np.uint8), _cover_attrs()),
            "purity": (("y", "x"), blocks[n_bands + 1], {"units": "1"}),
            "crop": (("y", "x"), blocks[n_bands + 2].astype(np.uint8), _crop_attrs(simulation)),
        },
        coords={
            "band": [band.name for band in scene.bands],
            "y": y,
            "x": window.x if like is None else like["x"].values,
            "time": np.datetime64(time).astype("datetime64[ns]"),
        },
        attrs={"bandpass": spec.bandpass_of(acquisition.orbit.platform)},
    )
    import rioxarray  # noqa: F401  (registers .rio)

    located: xr.Dataset = result.rio.write_crs(simulation.crs).rio.write_transform()
    return located


def read_simulation(catalog: str | Path) -> Simulation:
    """Return the simulation a catalogue was written with, to ask for its truth.

    Raises
    ------
    StoreError
        If there is no ``simulation.json`` beside the catalogue.
    """
    folder = Path(catalog)
    path = (folder if folder.is_dir() else folder.parent) / "simulation.json"
    if not path.exists():
        raise StoreError(f"{path} does not exist", cure="write_catalog puts it beside catalog.json")
    fields: dict[str, Any] = json.loads(path.read_text())
    fields["orbits"] = tuple(Orbit(**orbit) for orbit in fields["orbits"])
    fields["metadata"] = Metadata(**fields["metadata"])
    for name in ("center", "size", "sensors", "effects"):
        fields[name] = tuple(fields[name])
    return Simulation(**fields)


def _moment(sensor: str, platform: str, time: np.datetime64) -> Pass:
    day = time.astype("datetime64[D]")
    orbit = Orbit(
        sensor=sensor,
        platform=platform,
        relative_orbit=0,
        first=str(day),
        repeat=1,
        hour=float((time - day) / np.timedelta64(1, "s")) / 3600.0,
        view_zenith=0.0,
        view_azimuth=0.0,
    )
    return Pass(orbit=orbit, time=time)


def _window_of(like: xr.DataArray | xr.Dataset) -> Window:
    x, y = (np.asarray(like[name].values, np.float64) for name in ("x", "y"))
    if min(len(x), len(y)) < 2:
        raise GridError(f"a grid of {len(y)} x {len(x)} pixels does not tell its pixel size")
    step = float((x[-1] - x[0]) / (len(x) - 1))
    even = np.allclose(np.diff(x), step, atol=1e-3) and np.allclose(
        np.abs(np.diff(y)), step, atol=1e-3
    )
    if step <= 0 or not even:
        raise GridError(
            "truth needs square pixels, x ascending and both axes evenly spaced",
            cure=f"x starts {x[:3]}, y starts {y[:3]}",
        )
    return Window(
        left=float(x[0]) - step / 2,
        top=float(y.max()) + step / 2,
        step=step,
        width=len(x),
        height=len(y),
    )


def _lazy_blocks(scene: OpticalPass, window: Window, is_spread: bool) -> Any:
    """Dask array (band + 3, y, x): reflectance, cover, purity and crop, in blocks of a tile."""
    import dask.array as da

    size = max(1, int(TILE // window.step))
    depth = len(scene.bands) + 3
    chunks = da.core.normalize_chunks((depth, size, size), (depth, *window.shape), dtype="f4")
    return da.map_blocks(
        _render_block,
        chunks=chunks,
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
        name=None,
        scene=scene,
        window=window,
        is_spread=is_spread,
    )


def _render_block(
    *, scene: OpticalPass, window: Window, is_spread: bool,
    block_info: dict[Any, Any],
) -> Float32Array:  # fmt: skip
    (_, _), (y0, y1), (x0, x1) = block_info[None]["array-location"]
    part = Window(
        left=window.left + x0 * window.step,
        top=window.top - y0 * window.step,
        step=window.step,
        width=x1 - x0,
        height=y1 - y0,
    )
    landscape = render_landscape(
        scene.simulation.seed, _fine_around(part, HALO if is_spread else FINE)
    )
    fine = surface_reflectance(scene, landscape, directional=False)
    source, variant = landscape.window, scene.simulation.variant
    across = _area_weights(source.x - source.left, part.x - source.left, source.step, part.step)
    down = _area_weights(source.top - source.y, source.top - part.y, source.step, part.step)
    planes = []
    for i, band in enumerate(scene.bands):
        if is_spread:
            spreads = point_spreads(scene.sensor.name, band.name, band.gsd, variant)
            planes.append(make_sampling(source, part, spreads, (0.0, 0.0))(fine[i]))
        else:
            planes.append(down @ fine[i] @ across.T)
    cover, purity = _largest(landscape.cover, [int(c) for c in Cover], down, across)
    year = int(str(scene.acquisition.time)[:4])
    crops = _crop_codes(scene.simulation, year, landscape)
    crop, _ = _largest(crops, range(len(_crop_names(scene.simulation))), down, across)
    return np.stack([*planes, cover, purity, crop]).astype(np.float32)


def _largest(
    codes: AnyArray, known: Iterable[int], down: Float32Array, across: Float32Array
) -> tuple[AnyArray, AnyArray]:
    """Code of the largest part of each pixel, and that part [1]."""
    names = np.array(list(known))
    share = np.stack([down @ (codes == code).astype(np.float32) @ across.T for code in names])
    return names[share.argmax(axis=0)], share.max(axis=0)


def _crop_names(simulation: Simulation) -> tuple[str, ...]:
    """Names of the crops by code; that of two crops a year is there where fields bear them."""
    return ("none", *CROPS, *((TWO_CROPS,) if simulation.double_cropping else ()))


def _crop_codes(simulation: Simulation, year: int, landscape: Landscape) -> AnyArray:
    """Crop of each cell, counted from 1; 0 off cropland."""
    seed, key = simulation.seed, landscape.unit_key
    is_crop = landscape.unit_cover == int(Cover.CROP)
    codes = np.where(
        is_double(seed, simulation.double_cropping, key),
        len(CROPS) + 1,
        1 + crop_of(seed, year, key),
    )
    codes = np.where(is_crop, codes, 0)
    return codes.astype(np.uint8)[landscape.unit]


def _fine_around(part: Window, margin: float) -> Window:
    """Cells of the absolute fine lattice that cover a window and a margin."""
    left, top = part.left - margin, part.top + margin
    right = part.left + part.width * part.step + margin
    bottom = part.top - part.height * part.step - margin
    first, last = np.floor(left / FINE), np.ceil(right / FINE)
    low, high = np.floor(bottom / FINE), np.ceil(top / FINE)
    return Window(
        left=float(first * FINE),
        top=float(high * FINE),
        step=FINE,
        width=int(last - first),
        height=int(high - low),
    )


def _area_weights(
    cell: Float64Array, pixel: Float64Array, cell_size: float, pixel_size: float
) -> Float32Array:
    """Share of each pixel's length that lies in each cell, (pixel, cell); rows sum to one."""
    low = np.maximum(cell[None, :] - cell_size / 2, pixel[:, None] - pixel_size / 2)
    high = np.minimum(cell[None, :] + cell_size / 2, pixel[:, None] + pixel_size / 2)
    return np.asarray(np.clip(high - low, 0, None) / pixel_size, np.float32)


def _cover_attrs() -> dict[str, AnyArray | str]:
    return {
        "flag_values": np.array([int(c) for c in Cover], np.uint8),
        "flag_meanings": " ".join(c.name.lower() for c in Cover),
    }


def _crop_attrs(simulation: Simulation) -> dict[str, AnyArray | str]:
    names = _crop_names(simulation)
    return {
        "flag_values": np.arange(len(names), dtype=np.uint8),
        "flag_meanings": " ".join(names),
    }
