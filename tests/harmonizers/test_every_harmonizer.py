"""Every harmoniser: fitted and applied, the same whoever computes it and however it is cut."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize import testing

BANDS = ("blue", "red", "nir08", "swir16")
DATES = [str(day) for day in pd.date_range("2018-05-01T10:50", periods=5, freq="10D")]
SHAPE = (31, 28)

pytestmark = pytest.mark.filterwarnings("ignore::xharmonize.errors.RadiometryWarning")


def source() -> xr.DataArray:
    cube = testing.example_cube(bands=BANDS, dates=DATES, shape=SHAPE)
    angles = {"sun_zenith": 35.0, "sun_azimuth": 150.0, "view_zenith": 8.0, "view_azimuth": 105.0}
    return cube.assign_coords({name: ("time", np.full(5, value)) for name, value in angles.items()})


def target() -> xr.DataArray:
    cube = testing.example_cube(
        "landsat-c2-l2", platform="landsat-8", bands=BANDS, dates=DATES, shape=SHAPE, seed=3
    )
    return cube.copy(data=(0.6 * cube + 0.4 * source().values).data.astype("float32"))


def _linear(method: str) -> Callable[[xr.DataArray, xr.DataArray], xr.DataArray]:
    def fit_and_apply(s2: xr.DataArray, l8: xr.DataArray) -> xr.DataArray:
        fit = xh.fit_linear(xh.match_pairs(s2, l8), method=method)
        return s2.harmonize.to_landsat(fit)

    return fit_and_apply


def _tables(*, interpolate: bool) -> Callable[[xr.DataArray, xr.DataArray], xr.DataArray]:
    def fit_and_apply(s2: xr.DataArray, l8: xr.DataArray) -> xr.DataArray:
        model = xh.harmonizers.fit_histogram(l8, bins=100)
        tables = xh.harmonizers.fit_tables(s2, model, tile=120, interpolate=interpolate)
        return s2.harmonize.to_landsat(model, tables=tables)

    return fit_and_apply


# What a user writes; fits are made from the same chunks as the cube they are applied to.
HARMONIZERS: dict[str, Callable[[xr.DataArray, xr.DataArray], xr.DataArray]] = {
    "hls-v2": lambda s2, l8: s2.harmonize.to_landsat("hls-v2"),
    "hls-v2 inverse": lambda s2, l8: l8.harmonize.to_sentinel2("hls-v2"),
    "ols": _linear("ols"),
    "multiband": _linear("multiband"),
    "deming": _linear("deming"),
    "per pixel": lambda s2, l8: s2.harmonize.to_landsat(xh.fit_pixelwise(s2, l8)),
    "histogram": lambda s2, l8: s2.harmonize.to_landsat(xh.harmonizers.fit_histogram(l8)),
    "histogram per date": lambda s2, l8: s2.harmonize.to_landsat(
        xh.harmonizers.fit_histogram(l8, source=s2, per="date")
    ),
    "global table": lambda s2, l8: s2.harmonize.to_landsat(
        xh.fit_lut(xh.match_pairs(s2, l8), knots=32)
    ),
    "tables": _tables(interpolate=False),
    "tables, interpolated": _tables(interpolate=True),
    "nbar": lambda s2, l8: s2.harmonize.nbar(),
    "area": lambda s2, l8: s2.harmonize.regrid(resolution=30),
    "other zone": lambda s2, l8: s2.harmonize.regrid(crs="EPSG:32632", resolution=30),
}
TOLERANCE = 1e-6


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "distributed"])
@pytest.mark.parametrize("name", HARMONIZERS)
def test_schedulers_and_chunks_do_not_matter(
    name: str, scheduler: str, request: pytest.FixtureRequest
) -> None:
    run, s2, l8 = HARMONIZERS[name], source(), target()
    expected = run(s2, l8).compute()
    which = request.getfixturevalue("client") if scheduler == "distributed" else scheduler
    chunks = {"time": 2, "band": -1, "y": 13, "x": 9}
    actual = run(s2.chunk(chunks), l8.chunk(chunks)).compute(scheduler=which)
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    xr.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    "name",
    [name for name in HARMONIZERS if name not in ("ols", "multiband", "deming", "global table")],
)
def test_nothing_is_computed(name: str, no_compute: Callable) -> None:
    """Only `fit_linear` and `fit_lut` compute, and say so."""
    s2, l8 = source().chunk(time=1, y=16), target().chunk(time=1, y=16)
    with no_compute():
        result = HARMONIZERS[name](s2, l8)
    testing.assert_lazy(result)
    assert result.attrs["units"] == "1"
    assert "history" in result.attrs


# Fits of the whole area, applied.
FITS: dict[str, Callable[[xr.DataArray, xr.DataArray], object]] = {
    "hls-v2": lambda s2, l8: "hls-v2",
    "ols": lambda s2, l8: xh.fit_linear(xh.match_pairs(s2, l8)),
    "multiband": lambda s2, l8: xh.fit_linear(xh.match_pairs(s2, l8), method="multiband"),
    "histogram": lambda s2, l8: xh.harmonizers.fit_histogram(l8, source=s2).compute(),
    "histogram per date": lambda s2, l8: xh.harmonizers.fit_histogram(
        l8, source=s2, per="date"
    ).compute(),
    "global table": lambda s2, l8: xh.fit_lut(xh.match_pairs(s2, l8), knots=32),
}


@pytest.mark.parametrize("name", FITS)
def test_a_given_fit_is_applied_alike_whatever_the_area(name: str) -> None:
    s2, fit = source(), FITS[name](source(), target())
    testing.assert_invariant(
        lambda cube: cube.harmonize.to_landsat(fit),
        s2,
        chunkings=[{"time": 2, "y": 13, "x": 9}, {"band": 2, "y": 31}],
        boxes=[{"y": slice(3, 20), "x": slice(5, 9)}, {"y": slice(30, 31), "x": slice(0, 28)}],
        schedulers=["synchronous", "threads"],
    )
