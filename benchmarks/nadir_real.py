"""Two neighbouring orbits two days apart, before and after `nbar`, with angles per item and pixel.

Run ``python benchmarks/nadir_real.py [folder]``; prints later minus earlier on pixels that are
clear, vegetated or bare, in both: mean and mean of absolute values [1] per band, then how far
angles per pixel lie from those per item on single dates. The western and eastern third are printed
too, since the view changes from west to east. Needs the real observations
(``XHARMONIZE_DATA``, or ``../shared/data``).
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rioxarray
import xarray as xr

import xharmonize as xh

ITEMS = {  # earlier, later
    "S2B_33TWL_20230813_0_L2A": "sentinel-2b",
    "S2A_33TWL_20230815_0_L2A": "sentinel-2a",
}
BANDS = ["blue", "green", "red", "nir"]
LAND = (4, 5)  # vegetation and bare soil of SCL


def load(folder: Path) -> tuple[xr.DataArray, np.ndarray]:
    """Reflectance of both dates, and where both are clear (y, x)."""
    images, classes, times = [], [], []
    for name in ITEMS:
        images.append(rioxarray.open_rasterio(folder / f"{name}_120m.tif", masked=True))
        classes.append(rioxarray.open_rasterio(folder / f"{name}_SCL.tif").values[0])
        stated = json.loads((folder / f"{name}.json").read_text())["properties"]["datetime"]
        times.append(np.datetime64(stated.removesuffix("Z"), "ns"))
    dates = xr.Variable("time", times)
    cube = (xr.concat([i.drop_attrs() for i in images], dates) * 1e-4).assign_coords(band=BANDS)
    cube = xh.describe(
        cube.rio.write_crs(images[0].rio.crs),
        sensor="sentinel-2-l2a",
        platform=dict(ITEMS),
        is_decoded=True,
        item_id=list(ITEMS),
    )
    clear = np.isin(classes, LAND).all(axis=0) & np.isfinite(cube.values).all(axis=(0, 1))
    return cube, clear


def normalised(folder: Path, cube: xr.DataArray) -> dict[str, xr.DataArray]:
    """The cube as it is, and after `nbar` with angles of every kind."""
    files = {name: str(folder / f"{name}_granule_metadata.xml.gz") for name in ITEMS}
    pixel = xh.read_angles(files, like=cube).compute()
    band = xh.read_angles(files, like=cube, per_band=True).compute()
    item = pixel.mean(("y", "x"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xh.errors.RadiometryWarning)  # per item
        return {
            "as it is": cube,
            "per item": xh.nbar(cube, item),
            "per pixel": xh.nbar(cube, pixel),
            "per pixel and band": xh.nbar(cube, band),
            "per item, observed sun": xh.nbar(cube, item, sun_zenith="observed"),
            "per pixel, observed sun": xh.nbar(cube, pixel, sun_zenith="observed"),
        }


def differences(cube: xr.DataArray, clear: np.ndarray) -> dict[str, np.ndarray]:
    """Later minus earlier per band: mean, mean absolute value, mean of outer thirds [1]."""
    later, earlier = cube.values[1].astype(float), cube.values[0].astype(float)
    change = np.where(clear, later - earlier, np.nan)
    third = change.shape[2] // 3
    return {
        "mean": np.nanmean(change, axis=(1, 2)),
        "absolute": np.nanmean(np.abs(change), axis=(1, 2)),
        "west": np.nanmean(change[:, :, :third], axis=(1, 2)),
        "east": np.nanmean(change[:, :, -third:], axis=(1, 2)),
    }


def seconds(folder: Path, cube: xr.DataArray) -> tuple[float, float]:
    """Time to read one granule's metadata for the cube's bands, and to interpolate 1 Mpixel [s]."""
    file = str(folder / f"{next(iter(ITEMS))}_granule_metadata.xml.gz")
    corner = cube.isel(time=[0], y=slice(2), x=slice(2))
    took = []
    for like in (corner, corner, cube.isel(time=[0])):  # the first also compiles
        angles, start = xh.read_angles(file, like=like), time.perf_counter()
        angles.compute()
        took.append(time.perf_counter() - start)
    return took[1], (took[2] - took[1]) / (cube.sizes["y"] * cube.sizes["x"] / 1e6)


def main(folder: str | Path | None = None, every: int = 1) -> dict[str, Any]:
    """Print the tables; return the differences by case, and `apart` (date, edge, band) [1].

    `every`: take every so many pixels only.
    """
    root = Path(os.environ.get("XHARMONIZE_DATA", "../shared/data"))
    folder = Path(folder or root / "austria-two-orbits")
    cube, clear = load(folder)
    cube, clear = cube[..., ::every, ::every], clear[::every, ::every]
    cases = normalised(folder, cube)
    results: dict[str, Any] = {name: differences(c, clear) for name, c in cases.items()}
    print(f"later minus earlier, {clear.sum()} clear pixels; {', '.join(BANDS)}")
    for name, found in results.items():
        for what, values in found.items():
            print(f"{name:24} {what:9}" + "".join(f"{value:9.4f}" for value in values))
    moved = np.where(clear, (cases["per pixel"] - cases["per item"]).values, np.nan)
    edge = 100 // every
    edges = [
        np.nanmean(moved[..., part], axis=(2, 3)) for part in (slice(edge), slice(-edge, None))
    ]
    results["apart"] = np.stack(edges, axis=1)
    for name, (west, east) in zip(ITEMS, results["apart"]):
        for side, values in (("west", west), ("east", east)):
            line = "".join(f"{value:9.4f}" for value in values)
            print(f"per pixel minus per item, {name[:12]}, {side}ernmost 12 km:{line}")
    parsed, interpolated = seconds(folder, cube)
    print(f"{parsed:.2f} s a granule of {len(BANDS)} bands, {interpolated:.2f} s a megapixel")
    return results


if __name__ == "__main__":
    main(*sys.argv[1:2])
