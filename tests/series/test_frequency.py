"""How often a place is seen, and whether neighbouring tiles agree."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.testing import assert_chunk_invariant, example_cube

DATES = ("2018-06-01T10:50", "2018-06-01T10:51", "2018-06-11T10:50", "2018-07-01T10:50")
CHUNKINGS = [{"time": 1, "y": 3, "x": 4}, {"time": -1, "band": 2, "y": 5}]


def make_series():
    """Landsat twice on 1 June (halves), on 11 June; Sentinel-2 on 1 June and 1 July."""
    landsat = example_cube(
        "landsat-c2-l2", platform="landsat-8", dates=DATES[:3], missing=0.0, shape=(10, 10)
    )
    landsat[0, :, :, 5:] = np.nan
    landsat[1, :, :, :4] = np.nan
    landsat[2, 1, :, 2:] = np.nan  # one band is enough
    other = example_cube(dates=("2018-06-01T10:55", DATES[3]), missing=0.0, shape=(10, 10))
    other = other.assign_coords(bandpass=("time", ["oli"] * 2))
    other[0, :, 3:] = np.nan
    return xh.densify(landsat, other)


def test_scenes_are_days_of_a_sensor():
    found = make_series().harmonize.frequency(fractions=(0, 0.25, 0.5))
    scenes = found["scenes"]
    assert found["sensor"].values.tolist() == ["landsat-c2-l2", "sentinel-2-l2a", "all"]
    assert scenes.sel(sensor="landsat-c2-l2").values.tolist() == [[2, 1, 1], [0, 0, 0]]
    assert scenes.sel(sensor="sentinel-2-l2a").values.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert scenes.sel(sensor="all").values.tolist() == [[2, 1, 1], [1, 1, 1]]
    ratio = found["ratio"].sel(sensor="landsat-c2-l2")
    np.testing.assert_array_equal(ratio, [[1, 1, 1], [np.nan, np.nan, np.nan]])
    assert found["month"].values.astype("M8[M]").astype(str).tolist() == ["2018-06", "2018-07"]


def test_maps_of_revisit_and_gaps():
    found = make_series().harmonize.frequency()
    both, landsat = (found.sel(sensor=name) for name in ("all", "landsat-c2-l2"))
    assert both["n_valid"].values[0, 0] == 3
    assert both["revisit"].values[0, 0] == 15
    assert both["longest_gap"].values[0, 0] == 20
    assert both["longest_gap"].values[5, 9] == 30
    assert landsat["n_valid"].values[5, 9] == 1
    assert np.isnan(landsat["revisit"].values[5, 9])
    assert landsat["longest_gap"].values[5, 9] == 30
    empty = xr.full_like(make_series()["reflectance"], np.nan).harmonize.frequency()
    assert (empty["longest_gap"] == 30).all()
    assert (empty["scenes"] == 0).all()
    assert empty["ratio"].isnull().all()


def test_results_do_not_depend_on_chunks():
    assert_chunk_invariant(xh.series.frequency, make_series(), chunkings=CHUNKINGS)


def test_a_merged_look_counts_for_each_sensor():
    series = make_series()
    landsat = series.isel(time=series["sensor"].values == "landsat-c2-l2")
    other = series.isel(time=series["sensor"].values == "sentinel-2-l2a")
    merged = xh.densify(landsat, other, duplicates="target")
    found = merged.harmonize.frequency(fractions=[0])
    assert found["scenes"].sel(sensor="sentinel-2-l2a").values.ravel().tolist() == [1, 1]
    assert found["scenes"].sel(sensor="all").values.ravel().tolist() == [2, 1]


def test_frequency_refuses_bad_input():
    series = make_series()
    with pytest.raises(xh.errors.ContractError, match="'sensor' is missing"):
        xh.series.frequency(series.drop_vars("sensor"))
    for levels in ((), (1.2,), (-0.1,)):
        with pytest.raises(xh.errors.OptionError, match="fractions="):
            xh.series.frequency(series, fractions=levels)
    one = xh.series.frequency(series.isel(time=[0]))
    assert one["revisit"].isnull().all()


def make_tiles(difference=0.02):
    """Two tiles of one cube that share 4 columns and 10 rows; the second is the brighter."""
    cube = example_cube(shape=(12, 20))
    return cube.isel(x=slice(0, 12)), (cube + difference).isel(x=slice(8, 20), y=slice(2, None))


def test_differences_in_the_overlap():
    one, two = make_tiles()
    found = one.harmonize.compare_tiles(two)
    assert found.attrs["overlap"] == [10, 4]
    np.testing.assert_allclose(found["bias"], -0.02, atol=1e-6)
    for name in ("mae", "rmse", "largest"):
        np.testing.assert_allclose(found[name], 0.02, atol=1e-6)
    expected = one.isel(x=slice(8, 12), y=slice(2, None)).notnull().sum(("y", "x"))
    np.testing.assert_array_equal(found["n"], expected)
    turned = two.harmonize.compare_tiles(one)
    np.testing.assert_allclose(turned["bias"], 0.02, atol=1e-6)


def test_tiles_may_be_flipped_shuffled_and_of_more_dates():
    one, two = make_tiles()
    other = two.isel(y=slice(None, None, -1)).isel(band=[3, 1, 0, 2, 5, 4]).isel(time=[2, 0])
    with pytest.raises(xh.errors.GridError, match="different grids"):
        one.harmonize.compare_tiles(other)
    found = one.harmonize.compare_tiles(other.sortby("y", ascending=False))
    np.testing.assert_array_equal(found["time"], one["time"][[0, 2]])
    np.testing.assert_allclose(found["bias"], -0.02, atol=1e-6)


def test_comparison_is_lazy_and_does_not_depend_on_chunks():
    cube = example_cube(shape=(12, 20))
    assert_chunk_invariant(
        lambda c: xh.series.compare_tiles(c.isel(x=slice(0, 12)), c.isel(x=slice(8, 20)) * 1.1),
        cube,
        chunkings=CHUNKINGS,
        atol=1e-6,
    )


def test_tiles_that_cannot_be_compared_are_refused():
    one, two = make_tiles()
    with pytest.raises(xh.errors.GridError, match="do not overlap in x"):
        xh.series.compare_tiles(one.isel(x=slice(0, 8)), two)
    with pytest.raises(xh.errors.GridError, match="EPSG:32632"):
        xh.series.compare_tiles(one, example_cube(crs="EPSG:32632"))
    with pytest.raises(xh.errors.GridError, match="different grids"):
        xh.series.compare_tiles(one, two.assign_coords(x=two["x"] + 5))
    with pytest.raises(xh.errors.BandError, match="select the common ones"):
        xh.series.compare_tiles(one, two.isel(band=[0]))
    with pytest.raises(xh.errors.BandError, match="one cube has bands"):
        xh.series.compare_tiles(one, xh.index(two))
    with pytest.raises(xh.errors.TimeAxisError, match="in common"):
        xh.series.compare_tiles(one, two.assign_coords(time=two["time"] + np.timedelta64(1, "D")))
    nothing = xh.series.compare_tiles(one, xr.full_like(two, np.nan))
    assert (nothing["n"] == 0).all()
    assert nothing["rmse"].isnull().all()
    assert nothing["largest"].isnull().all()
