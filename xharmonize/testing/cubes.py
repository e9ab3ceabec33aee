"""Small example cubes with a complete contract and smooth, reproducible pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from xharmonize.cube.contract import REFLECTANCE, Step, write_contract
from xharmonize.cube.geobox import write_grid
from xharmonize.sensors import get_sensor


def example_cube(
    sensor: str = "sentinel-2-l2a",
    *,
    platform: str | Sequence[str] = "sentinel-2a",
    bands: Sequence[str] = ("blue", "green", "red", "nir08", "swir16", "swir22"),
    dates: Sequence[str] = ("2018-07-01T10:50", "2018-07-06T10:50", "2018-07-11T10:50"),
    shape: tuple[int, int] = (24, 30),
    resolution: float = 10.0,
    origin: tuple[float, float] = (501360.0, 5629680.0),
    crs: str | int = "EPSG:32631",
    is_decoded: bool = True,
    missing: float = 0.05,
    chunks: dict[str, int] | None = None,
    seed: int = 0,
) -> xr.DataArray:
    """Make an example cube (time, band, y, x) of plausible reflectance with its contract.

    Parameters
    ----------
    platform : str or sequence of str
        Platform of all dates, or one per date.
    shape : (int, int)
        Pixels in (y, x); `origin` is the upper left corner (x, y) in `crs` units.
    is_decoded : bool
        True: float32 reflectance [1], NaN where missing. False: digital numbers of the sensor.
    missing : float
        Fraction of missing pixels [1], the same pixels in all bands of a date.
    chunks : dict, optional
        Dask chunks. None makes a NumPy cube.
    """
    spec = get_sensor(sensor)
    random = np.random.default_rng(seed)
    n_times, n_bands = len(dates), len(bands)
    base = np.linspace(0.04, 0.35, n_bands)[None, :, None, None]
    noise = random.normal(0, 0.02, (n_times, n_bands, *shape))
    values = np.clip(base + noise + random.normal(0, 0.02, (n_times, 1, *shape)), 0.001, 0.9)
    hole = np.broadcast_to(random.random((n_times, 1, *shape)) < missing, values.shape)
    radiometry = spec.radiometry
    if is_decoded:
        pixels = np.where(hole, np.nan, values).astype("float32")
    else:
        counts = np.rint((values - radiometry.offset) / radiometry.scale)
        pixels = np.where(hole, radiometry.nodata, counts).astype(radiometry.dtype)
    cube = xr.DataArray(
        pixels,
        dims=("time", "band", "y", "x"),
        coords={
            "time": pd.to_datetime(list(dates)).to_numpy("datetime64[ns]"),
            "band": list(bands),
        },
        name=REFLECTANCE,
        attrs={"units": "1", "long_name": "surface reflectance"},
    )
    platforms = [platform] * n_times if isinstance(platform, str) else list(platform)
    steps = [
        Step(
            sensor=spec.name,
            platform=name,
            bandpass=spec.bandpass_of(name),
            level=str(spec.level),
            item_id=f"{name}-{i}",
            scale=dict.fromkeys(bands, radiometry.scale),
            offset=dict.fromkeys(bands, radiometry.offset),
            nodata=dict.fromkeys(bands, float(radiometry.nodata)),
            is_decoded=is_decoded,
        )
        for i, name in enumerate(platforms)
    ]
    affine = Affine(resolution, 0, origin[0], 0, -resolution, origin[1])
    cube = write_grid(write_contract(cube, steps), GeoBox(shape, affine, crs))
    return cube if chunks is None else cube.chunk(chunks)
