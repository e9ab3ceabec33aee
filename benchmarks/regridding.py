"""Area-weighted regridding beside xarray's coarsen, rasterio's average warp and odc's.

Runs on one thread, all contestants on the same pixels in turn, and prints times relative to ours.
As an asv suite, or alone: ``python benchmarks/regridding.py [--small]``.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import dask
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

import xharmonize as xh
from xharmonize.cube.regrid import geobox_of, snap

CASES = ("nested 10 m to 30 m", "Landsat phase, 10 m to 30 m", "other UTM zone, 10 m to 30 m")


def make_scene(side: int) -> xr.DataArray:
    """Six bands of side × side pixels of 10 m, a tenth missing."""
    import rioxarray  # noqa: F401

    random = np.random.default_rng(0)
    values = random.random((6, side, side), dtype=np.float32)
    values[:, random.random((side, side)) < 0.1] = np.nan
    coords = {
        "band": np.arange(6),
        "y": 5_700_000 - 10 * (np.arange(side) + 0.5),
        "x": 499_980 + 10 * (np.arange(side) + 0.5),
    }
    return xr.DataArray(values, coords, ("band", "y", "x")).rio.write_crs("EPSG:32631")


def make_target(scene: xr.DataArray, case: str) -> GeoBox:
    box = geobox_of(scene)
    if case.startswith("other"):
        west, south, east, north = box.to_crs("EPSG:32632").boundingbox
        return snap((west, south, east, north), 30, "EPSG:32632")
    phase = (15.0, 15.0) if case.startswith("Landsat") else (0.0, 0.0)
    return snap(tuple(box.boundingbox), 30, box.crs, phase=phase)


def contestants(scene: xr.DataArray, target: GeoBox, case: str) -> dict[str, Callable[[], Any]]:
    """What is timed: each returns (band, y, x) on the target grid."""
    from odc.geo.xr import xr_reproject
    from rasterio.warp import Resampling, reproject

    source = geobox_of(scene)

    def rasterio_average() -> Any:
        out = np.full((6, *target.shape), np.nan, np.float32)
        reproject(
            scene.values,
            out,
            src_transform=source.affine,
            src_crs=str(source.crs),
            dst_transform=target.affine,
            dst_crs=str(target.crs),
            src_nodata=np.nan,
            dst_nodata=np.nan,
            resampling=Resampling.average,
        )
        return out

    def odc_average() -> Any:
        return xr_reproject(scene, target, resampling="average", dst_nodata=np.nan).values

    found = {
        "xharmonize": lambda: xh.regrid(scene, like=target).values,
        "rasterio average": rasterio_average,
        "odc average": odc_average,
    }
    if case.startswith("nested"):
        found["xarray coarsen"] = lambda: scene.coarsen(y=3, x=3).mean().values
    return found


def measure(side: int, case: str, n_runs: int) -> dict[str, float]:
    """Median time of each contestant [s], runs taking turns."""
    scene = make_scene(side)
    functions = contestants(scene, make_target(scene, case), case)
    runs: dict[str, list[float]] = {name: [] for name in functions}
    with dask.config.set(scheduler="synchronous"):
        for run in range(n_runs + 1):
            for name, function in functions.items():
                start = time.perf_counter()
                function()
                if run:  # the first one compiles
                    runs[name].append(time.perf_counter() - start)
    return {name: statistics.median(took) for name, took in runs.items()}


class Regridding:
    """asv: time of one scene of 1500 × 1500 pixels, and of a large graph."""

    params = CASES
    param_names = ("case",)

    def setup(self, case: str) -> None:
        self.scene = make_scene(1500)
        self.target = make_target(self.scene, case)
        xh.regrid(self.scene, like=self.target)

    def time_regrid(self, case: str) -> None:
        xh.regrid(self.scene, like=self.target)


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    """Print the comparison and return it."""
    is_small = "--small" in (sys.argv[1:] if argv is None else argv)
    side, n_runs = (300, 1) if is_small else (3000, 5)
    results = {}
    for case in CASES:
        took = results[case] = measure(side, case, n_runs)
        print(f"{case}, 6 × {side}²")
        for name, value in took.items():
            ratio = value / took["xharmonize"]
            print(f"  {name:<18} {value * 1e3:8.1f} ms   {ratio:6.2f} × ours")
    return results


if __name__ == "__main__":
    main()
