"""Histogram matching of cubes: stored or counted, per series or per date."""

import numpy as np
import pytest
import xarray as xr
from skimage.exposure import match_histograms

import xharmonize as xh
from xharmonize.testing import assert_chunk_invariant, assert_lazy, example_cube

BANDS = ("red", "nir08")
CHUNKINGS = [{"time": 1, "band": 1, "y": 5, "x": 30}, {"time": -1, "y": 7, "x": 11}]


@pytest.fixture(scope="module")
def source():
    return example_cube(bands=BANDS, shape=(40, 50), seed=3)


@pytest.fixture(scope="module")
def reference():
    cube = example_cube(
        "landsat-c2-l2", platform="landsat-8", bands=BANDS, shape=(40, 50), seed=8, missing=0.0
    )
    return cube.copy(data=(cube.values * 1.3 + 0.02).astype("float32"))


def test_results_have_the_distribution_of_the_reference(source, reference):
    result = xh.to_landsat(source, xh.harmonizers.fit_histogram(reference))
    for band in BANDS:
        x = source.sel(band=band).values
        ok = np.isfinite(x)
        expected = match_histograms(x[ok], reference.sel(band=band).values.ravel())
        actual = result.sel(band=band).values[ok]
        assert np.abs(actual - expected).mean() < 1e-3
    assert np.isnan(result.values).sum() == np.isnan(source.values).sum()
    assert set(result["bandpass"].values) == {"oli"}


@pytest.mark.parametrize("per", ["series", "date"])
def test_chunks_do_not_matter(source, reference, per):
    fit = xh.harmonizers.fit_histogram(reference, per=per)
    assert_chunk_invariant(lambda cube: xh.to_landsat(cube, fit), source, chunkings=CHUNKINGS)
    assert_chunk_invariant(xh.harmonizers.fit_histogram, reference, chunkings=CHUNKINGS)


def test_nothing_is_computed_even_with_histograms_counted_on_the_way(source, reference, no_compute):
    with no_compute():
        result = xh.to_landsat(source.chunk(), xh.harmonizers.fit_histogram(reference.chunk()))
    assert_lazy(result)
    eager = xh.to_landsat(source, xh.harmonizers.fit_histogram(reference))
    xr.testing.assert_equal(result.compute(), eager)


def test_per_date_matches_each_date_by_itself(source, reference):
    fit = xh.harmonizers.fit_histogram(reference, per="date")
    whole = xh.to_landsat(source, fit)
    xr.testing.assert_equal(whole.isel(time=[1]), xh.to_landsat(source.isel(time=[1]), fit))


def test_a_stored_source_makes_a_pure_map(source, reference):
    fit = xh.harmonizers.fit_histogram(reference, source=source)
    assert fit.attrs["direction"] == "msi to oli"
    whole = xh.to_landsat(source, fit)
    xr.testing.assert_equal(
        whole,
        xh.to_landsat(source, xh.harmonizers.fit_histogram(reference)).assign_attrs(whole.attrs),
    )
    part = {"y": slice(3, 9), "time": [2]}
    xr.testing.assert_equal(xh.to_landsat(source.isel(part), fit), whole.isel(part))


def test_an_empty_reference_and_bad_limits_are_refused(source, reference):
    with pytest.raises(xh.errors.FitError, match="no valid pixel"):
        xh.to_landsat(source, xh.harmonizers.fit_histogram(reference.where(False)))
    with pytest.raises(xh.errors.FitError, match="must ascend"):
        xh.harmonizers.fit_histogram(reference, limits=(1.0, 0.0))
    with pytest.raises(xh.errors.FitError, match="no band in common"):
        xh.harmonizers.fit_histogram(reference, source=example_cube(bands=("blue",)))


def test_uncertainty_is_left_out(source, reference):
    dataset = source.to_dataset(name="reflectance").assign(uncertainty=xr.full_like(source, 0.01))
    result = xh.to_landsat(dataset, xh.harmonizers.fit_histogram(reference))
    assert list(result.data_vars) == ["reflectance"]
