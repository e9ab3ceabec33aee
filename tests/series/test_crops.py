"""Features of a series, and crop maps from them."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import ndimage

import xharmonize as xh
from xharmonize import testing

DATES = ("2018-04-01T10:50", "2018-06-01T10:50", "2018-08-01T10:50")
GROUP_SIDE = 8  # pixels of a field


@pytest.fixture(scope="module")
def series() -> xr.DataArray:
    """A checkerboard of fields, whose classes differ in one band of one date only."""
    cube = testing.example_cube(bands=("red", "nir08"), dates=DATES, shape=(32, 40), missing=0.0)
    values = cube.values.copy()
    values[1, 1] += np.where(labels_of(cube).values == 2, 0.3, 0.0).astype("float32")
    return cube.copy(data=values)


def labels_of(cube: xr.DataArray) -> xr.DataArray:
    """Fields with a margin of one pixel, or they would touch at their corners."""
    rows, columns = np.arange(cube.sizes["y"])[:, None], np.arange(cube.sizes["x"])
    codes = np.where((rows // GROUP_SIDE + columns // GROUP_SIDE) % 2, 2, 1).astype("int32")
    codes[(rows % GROUP_SIDE == 0) | (columns % GROUP_SIDE == 0)] = 0
    return cube.isel(time=0, band=0, drop=True).copy(data=codes)


def test_features_are_dates_and_bands_in_order(series):
    features = series.harmonize.to_features(dates=["2018-06-01", "2018-04-01"])
    names = ["2018-06-01 red", "2018-06-01 nir08", "2018-04-01 red", "2018-04-01 nir08"]
    assert features["feature"].values.tolist() == names
    np.testing.assert_array_equal(features.isel(feature=1), series.isel(time=1, band=1))
    assert features["feature_band"].values.tolist() == ["red", "nir08"] * 2
    assert features.rio.crs == series.rio.crs


def test_features_of_an_index_and_of_a_day_with_two_observations(series):
    later = series.assign_coords(time=series["time"] + np.timedelta64(9, "m"))
    twice = xr.concat([series, later], dim="time").sortby("time")
    features = twice.harmonize.index("ndvi").harmonize.to_features()
    assert features["feature"].values[:2].tolist() == [
        "2018-04-01T10:50:00 ndvi",
        "2018-04-01T10:59:00 ndvi",
    ]
    assert features.sizes["feature"] == 6


def test_features_are_lazy_and_do_not_depend_on_chunks(series):
    testing.assert_chunk_invariant(
        lambda cube: cube.harmonize.to_features(),
        series,
        chunkings=[{"time": 1}, {"time": 2, "band": 1, "y": 7, "x": 11}],
    )


def test_a_date_that_is_not_there_is_named_with_the_nearest(series):
    with pytest.raises(
        xh.errors.TimeAxisError, match="no date on 2018-06-03; the nearest is 2018-06-01"
    ):
        series.harmonize.to_features(dates=["2018-06-03"])


def test_what_has_no_features_is_refused(series):
    with pytest.raises(xh.errors.RadiometryError, match="decode"):
        testing.example_cube(is_decoded=False).harmonize.to_features()
    with pytest.raises(xh.errors.ContractError, match=r"features need pixels"):
        xh.crops.to_features(series.isel(x=0))


def test_two_quantities_are_refused(series):
    with pytest.raises(xh.errors.ContractError, match="one index; it has"):
        xr.Dataset({"a": series, "b": series}).harmonize.to_features()


def test_fields_that_were_never_seen_are_classified(series):
    labels = labels_of(series)
    found = xh.crops.cross_classify(
        series.harmonize.to_features(), labels, folds=3, max_per_class=60
    )
    assert float((found == labels).where(labels > 0).mean()) > 0.97
    assert (found.where(labels == 0, 0) == 0).all()


@pytest.mark.slow
def test_what_one_field_teaches_is_not_tested_on_that_field(series):
    """Each field has a value of its own: who has seen some of its pixels knows the others."""
    labels = labels_of(series)
    numbers = ndimage.label(labels.values > 0)[0]
    order = np.random.default_rng(0).permutation(numbers.max() + 1)
    marked = series.isel(time=[0], band=[0]).harmonize.to_features() * 0 + order[numbers].astype(
        "f4"
    )
    pixels = labels.copy(data=np.arange(labels.size).reshape(labels.shape))
    share = [
        float(
            (
                xh.crops.cross_classify(marked, labels, groups=groups, folds=3, max_per_class=50)
                == labels
            )
            .where(labels > 0)
            .mean()
        )
        for groups in ("fields", pixels)
    ]
    assert share[1] > share[0] + 0.2


def test_labels_of_noise_score_as_chance(series):
    """Groups are kept together: what is only a name of a field cannot be learned."""
    features = series.harmonize.to_features(dates=["2018-04-01"])
    found = xh.crops.cross_classify(features, labels_of(series), folds=3, max_per_class=60)
    labels = labels_of(series)
    assert 0.3 < float((found == labels).where(labels > 0).mean()) < 0.7


def test_maps_are_lazy_and_equal_however_cut(series, no_compute):
    features = series.harmonize.to_features()
    fitted = xh.crops.fit_classifier(features, labels_of(series), max_per_class=60)
    assert fitted.classes == (1, 2)
    assert fitted.accuracy > 0.97
    holes = features.where(features["x"] > features["x"][3])
    expected = xh.crops.classify(holes, fitted)
    assert (expected.isel(x=slice(0, 4)) == 0).all()
    assert (expected.isel(x=slice(4, None)) > 0).all()
    with no_compute():
        lazy = xh.crops.classify(holes.isel(feature=slice(None, None, -1)).chunk(y=5, x=7), fitted)
    testing.assert_lazy(lazy)
    np.testing.assert_array_equal(lazy, expected)
    assert lazy.rio.crs == series.rio.crs


def test_bad_labels_and_features_are_refused(series):
    features, labels = series.harmonize.to_features(), labels_of(series)
    with pytest.raises(xh.errors.FitError, match="two classes"):
        xh.crops.fit_classifier(features, labels.where(labels == 1, 0))
    with pytest.raises(xh.errors.FitError, match="integer classes"):
        xh.crops.fit_classifier(features, labels.astype(float))
    halves = xr.where(labels["x"] < labels["x"].mean(), 1, 2).astype("int32").broadcast_like(labels)
    with pytest.raises(xh.errors.FitError, match="groups are float64"):
        xh.crops.fit_classifier(features, labels, groups=labels.astype(float))
    two = labels.copy(data=np.broadcast_to(np.arange(40) // 20, labels.shape))
    with pytest.raises(xh.errors.FitError, match="too few to learn from"):
        xh.crops.cross_classify(features, labels, groups=two, max_per_class=60)
    halves = labels.copy(data=halves.transpose("y", "x").values)
    with pytest.raises(xh.errors.FitError, match=r"classes \[1, 2\] lie in a single group"):
        xh.crops.fit_classifier(features, halves)
    with pytest.raises(xh.errors.FitError, match="groups='parcels'"):
        xh.crops.fit_classifier(features, labels, groups="parcels")
    with pytest.raises(xh.errors.GridError):
        xh.crops.fit_classifier(features, labels.assign_coords(x=labels["x"] + 5))
    fitted = xh.crops.fit_classifier(features, labels, max_per_class=60)
    with pytest.raises(xh.errors.ModelError, match="needs features"):
        xh.crops.classify(features.isel(feature=slice(2)), fitted)


def test_real_crops(data):
    rioxarray = pytest.importorskip("rioxarray")
    catalog = data / "flanders-2018" / "catalog.json"
    with pytest.warns(xh.errors.RadiometryWarning):
        cube = xh.open_stac(
            catalog,
            collection="sentinel-2-l2a",
            bands=["green", "red", "nir"],
            datetime="2018-04/2018-08",
            platform="infer",
        )
    labels = rioxarray.open_rasterio(catalog.parent / "labels_CT.tif").isel(band=0, drop=True)
    labels = labels.where(labels.isin([1200, 7900, 9120]), 0).astype("int32")
    dates = ["2018-04-19", "2018-05-24", "2018-06-28"]
    features = cube.harmonize.to_features(dates=dates)
    found = xh.crops.cross_classify(features, labels, groups=100.0, folds=3, max_per_class=150)
    is_labelled = (labels > 0) & (found > 0)
    assert float((found == labels).where(is_labelled).mean()) > 0.75


@pytest.mark.slow
def test_the_example_compares_three_columns():
    import crop_map

    cube = testing.example_cube(
        bands=tuple(crop_map.OLI), dates=DATES[1:], shape=(16, 24), missing=0.0
    )
    labels = labels_of(cube)
    values = cube.values.copy()
    values[-1, 3] += np.where(labels.values == 2, 0.3, 0.0).astype("float32")
    site = crop_map.Site(
        sentinel=cube.copy(data=values),
        labels=labels,
        names={1: "wheat", 2: "maize"},
        model=xh.load_model("hls-v2"),
        dates=[date[:10] for date in DATES[1:]],
    )
    table = crop_map.compare(site)
    assert set(table.columns.get_level_values(1)) == {"PA", "UA", "F1"}
    assert list(table.index) == ["wheat", "maize", "OA", "SD of OA"]
    overall = table.loc["OA"].xs("PA", level=1)
    assert overall["6 dates, fitted"] > 95  # the last date tells the classes apart, no other does
    assert overall["5 dates, fitted"] < 80
