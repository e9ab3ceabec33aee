"""What a grid does to the means of fields: NDVI of Sentinel-2 at 20, 30 and 60 m beside 10 m.

Run ``python benchmarks/fields.py [folder]``; prints, for fields by size, the share with fewer than
4 pixels and the RMSE [1] of their mean NDVI to that at 10 m. Fields are the patches of one crop in
``labels_CT.tif``. Needs the real observations (``XHARMONIZE_DATA``, or ``../shared/data``).
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import xharmonize as xh

STEPS = (20, 30, 60)
CLASSES = {"below 0.25 ha": (0.0, 0.25), "0.25 to 1 ha": (0.25, 1.0), "1 ha and more": (1.0, 1e9)}


def read_fields(labels: Path) -> list[dict[str, Any]]:
    """Patches of one crop, as features of which the id is their size [ha] and number."""
    import rasterio
    from rasterio.features import shapes
    from shapely.geometry import shape

    with rasterio.open(labels) as file:
        pixels, transform = file.read(1).astype("int32"), file.transform
    patches = [g for g, crop in shapes(pixels, transform=transform) if crop > 0]
    return [
        {"type": "Feature", "id": f"{shape(g).area / 1e4:.3f} {k}", "properties": {}, "geometry": g}
        for k, g in enumerate(patches)
    ]


def read_ndvi(folder: Path, dates: str) -> xr.DataArray:
    """NDVI of Sentinel-2 at 10 m, on dates with most pixels clear."""
    cube = xh.open_stac(
        folder / "catalog.json",
        collection="sentinel-2-l2a",
        datetime=dates,
        bands=["red", "nir"],
        platform="sentinel-2",
    )
    ndvi = cube.harmonize.index("ndvi").load()
    return ndvi[ndvi.notnull().mean(["y", "x"]).values > 0.95]


def compare(
    folder: Path, dates: str = "2018-04/2018-09"
) -> dict[tuple[str, int], dict[str, float]]:
    """Share of fields with few pixels, and RMSE of their means, by size and pixel."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fields = read_fields(folder / "labels_CT.tif")
        fine = read_ndvi(folder, dates)
        expected = fine.harmonize.to_table(fields, crs=32631)
        hectares = expected["field"].str.split().str[0].astype(float)
        found = {}
        for step in STEPS:
            table = fine.harmonize.regrid(resolution=step).harmonize.to_table(fields, crs=32631)
            for name, (low, high) in CLASSES.items():
                here = (hectares >= low) & (hectares < high)
                error = table.loc[here, "ndvi"] - expected.loc[here, "ndvi"]
                found[name, step] = {
                    "few": float((table.loc[here, "n_pixels"] < 4).mean()),
                    "none": float((table.loc[here, "n_pixels"] == 0).mean()),
                    "rmse": float(np.sqrt((error**2).mean())),
                }
    return found


def main(arguments: list[str]) -> dict[tuple[str, int], dict[str, float]]:
    """Print the comparison."""
    data = Path(os.environ.get("XHARMONIZE_DATA", "../shared/data"))
    found = compare(Path(arguments[0]) if arguments else data / "flanders-2018")
    for (name, step), row in found.items():
        print(
            f"{name:15} {step} m: {row['few']:.0%} below 4 pixels, {row['none']:.0%} without any, "
            f"RMSE of the mean {row['rmse']:.3f}"
        )
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
