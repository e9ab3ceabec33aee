"""A landscape seen at 10 m and, through areas and a point spread, at 30 m."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter

import xharmonize as xh
from xharmonize.testing import example_cube

BANDS = ("blue", "red", "nir08")
FINE_DAYS = ("2018-07-01T10:50", "2018-07-11T10:50")
COARSE_DAYS = ("2018-07-02T10:40", "2018-07-12T10:40")


def fine_cube(shape=(48, 60), dates=FINE_DAYS, **options) -> xr.DataArray:
    """Sentinel-2 of fields of a few pixels, which change between the dates."""
    cube = example_cube(dates=dates, shape=shape, bands=BANDS, missing=0, **options)
    random = np.random.default_rng(5)
    fields = gaussian_filter(random.normal(size=(len(BANDS), *shape)), (0, 1.2, 1.2))
    for i in range(len(dates)):
        change = gaussian_filter(random.normal(size=shape), 6) * 0.3
        cube[i] = 0.2 + 0.15 * fields + change * (i + 1)
    return cube


def coarse_cube(fine=None, *, phase=0.0, shape=None, psf=0.0, **options) -> xr.DataArray:
    """Landsat of the same ground, a day after: pixel edges lie `phase` metres off Sentinel-2's."""
    fine = fine_cube(dates=COARSE_DAYS) if fine is None else fine
    rows, columns = (n // 3 for n in fine.shape[2:]) if shape is None else shape
    cube = example_cube(
        "landsat-c2-l2",
        platform="landsat-8",
        dates=COARSE_DAYS[: fine.sizes["time"]],
        shape=(rows, columns),
        bands=BANDS,
        resolution=30,
        origin=(501360.0 + phase, 5629680.0 - phase),
        missing=0,
        **options,
    )
    seen = xh.regrid(fine, like=cube, psf=psf, min_valid=0)
    return cube.copy(data=seen.values.astype("float32"))
