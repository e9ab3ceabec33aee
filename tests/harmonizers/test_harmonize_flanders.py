"""Harmonisers on real observations: angles, zigzag between orbits, one date left out."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from helpers.benchmarks import import_benchmark

import xharmonize as xh
from xharmonize.harmonizers import angles_from_items
from xharmonize.kernels import brdf
from xharmonize.testing import example_cube

pytestmark = pytest.mark.real_data
BANDS = ["blue", "green", "red", "nir08", "swir16", "swir22"]
PLACE = (50.816, 3.024)
ORBITS = np.array([[98.2, 10 + 11 / 60], [98.62, 10.5]])


@pytest.fixture(scope="module")
def angles(data: Path) -> xr.Dataset:
    files = (data / "flanders-2018" / "sentinel-2-l2a").glob("*/*.json")
    return angles_from_items(json.loads(file.read_text()) for file in files)


@pytest.fixture(scope="module")
def clear_dates(data: Path) -> xr.DataArray:
    """Sentinel-2 dates of which more than 80 % are clear."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
        cube = xh.open_stac(
            data / "flanders-2018" / "catalog.json",
            collection="sentinel-2-l2a",
            bands=BANDS,
            resolution=10,
            platform="infer",
        ).load()
    return cube.isel(time=cube[:, 0].notnull().mean(("y", "x")).values > 0.8)


def _days(times):
    return times.astype("datetime64[ns]").astype(np.int64) / 86_400e9


def test_sun_position_agrees_with_the_items(angles):
    computed = [brdf.sun_zenith_at(day, *PLACE) for day in _days(angles.time.values)]
    error = np.array(computed) - angles["sun_zenith"].values
    assert abs(error.mean()) < 0.15  # the items give the mean over a granule 110 km wide
    assert abs(error).max() < 0.4


def test_modelled_sun_is_near_the_observed(angles):
    place = (np.array([[value]]) for value in PLACE)
    modelled = brdf.mean_overpass_sun_zenith(_days(angles.time.values), *place, ORBITS).ravel()
    error = modelled - angles["sun_zenith"].values
    assert -0.2 < error.min() < error.max() < 1.0


def _zigzag(cube: xr.DataArray, is_east: np.ndarray) -> np.ndarray:
    """Departure of dates seen from the east from the line between their neighbours, seen from the
    west, or the reverse with the sign turned: mean over the area, (triple, band)."""
    time, rows = cube.time.values, []
    for i in range(1, cube.sizes["time"] - 1):
        span = time[i + 1] - time[i - 1]
        if span > np.timedelta64(16, "D") or not is_east[i - 1] == is_east[i + 1] != is_east[i]:
            continue
        weight = float((time[i] - time[i - 1]) / span)
        line = cube[i - 1] * (1 - weight) + cube[i + 1] * weight
        rows.append((cube[i] - line).mean(("y", "x")).values * (1 if is_east[i] else -1))
    return np.array(rows)


@pytest.mark.slow
@pytest.mark.parametrize("sun_zenith", ["hls-v2", "observed"])
def test_nbar_shrinks_the_zigzag_between_orbits(clear_dates, angles, sun_zenith):
    """Views alternate 8.0 (azimuth 105) and 5.1 degrees (280): the median signed departure falls
    from .003 .005 .008 .020 .018 .018 to .002 .002 .005 .009 .010 .012 (hls-v2; blue ... swir22),
    the mean size of a departure by 5 to 17 %."""
    is_east = (angles["view_azimuth"].sel(time=clear_dates.time.values) < 180).values
    with pytest.warns(xh.errors.RadiometryWarning, match="per item"):
        normal = xh.nbar(clear_dates, angles, sun_zenith=sun_zenith)
    before, after = (_zigzag(cube, is_east) for cube in (clear_dates, normal))
    assert len(before) >= 15
    bias, bias_after = (np.abs(np.median(z, axis=0)) for z in (before, after))
    size, size_after = (np.abs(z).mean(axis=0) for z in (before, after))
    assert (bias_after < 0.75 * bias).all()
    assert (size_after < 0.97 * size).all()


@pytest.mark.slow
def test_one_date_left_out_improves_on_identity(data):
    """As the table of benchmarks/closed_forms_flanders.py: identity 18.1 / 4.97 / .065, six-band
    least squares 13.1 / 3.52 / .056 (ERGAS, SAM in degrees, RMSE of NDVI)."""
    benchmark = import_benchmark("closed_forms_flanders")
    names = ["identity", "line per band (ols)", "six bands (multi-ols)", "line per pixel"]
    _, scores = benchmark.evaluate(data / "flanders-2018" / "catalog.json", names=names)
    assert scores.sizes["pair"] == 6
    columns = scores[["ergas", "sam", "ndvi_rmse"]].mean("pair").to_array().transpose("model", ...)
    identity, line, six, pixel = columns.values
    np.testing.assert_allclose(identity, [18.1, 4.97, 0.065], rtol=0.03)
    np.testing.assert_allclose(six, [13.1, 3.52, 0.056], rtol=0.06)
    for row in (line, six, pixel):
        assert (row < identity).all()


def test_a_pixel_that_hardly_varies_is_not_flattened(data):
    """One pixel of HLS, fitted on odd and judged on even years: where its pairs differ by noise,
    ordinary lines have slopes near 0 and triple the error; the constant does not."""
    rows = pd.read_csv(data / "hls_pixel_series_a.csv")
    rows = rows[rows.qa == 0].drop_duplicates(["dates", "sensor"])
    source = _pixel(rows[rows.sensor == 2], "hls-s30", "sentinel-2a")
    target = _pixel(rows[rows.sensor == 8], "hls-l30", "landsat-8")
    is_odd = source["time"].dt.year.values % 2 == 1
    fit = xh.fit_pixelwise(source.isel(time=is_odd), target)
    assert (fit["stage"] == 255).all()
    rest = source.isel(time=~is_odd)
    errors = []
    for cube in (rest, xh.to_landsat(rest, fit)):
        pairs = xh.match_pairs(cube, target, tolerance="1D")
        errors.append(np.sqrt(((pairs.source - pairs.target) ** 2).mean()).item())
    assert errors[1] < 1.05 * errors[0]


def _pixel(rows: pd.DataFrame, sensor: str, platform: str) -> xr.DataArray:
    days = [pd.Timestamp.fromordinal(int(day)) + pd.Timedelta("10.5h") for day in rows.dates]
    cube = example_cube(
        sensor, platform=platform, bands=BANDS, dates=list(map(str, days)), shape=(1, 1)
    )
    values = rows[["blue", "green", "red", "nir", "swir1", "swir2"]].to_numpy("float32") * 1e-4
    return cube.copy(data=values[:, :, None, None])
