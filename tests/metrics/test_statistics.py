"""Statistics that are kept: merged parts are the whole, files keep them, versions are told."""

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.metrics import Ssim
from xharmonize.testing import assert_lazy, example_cube, no_compute

METRICS = ["rmse", "r2", "kge", "psnr", "sam", "ergas", "ssim", "uiqi", "ndvi_rmse"]


@pytest.fixture
def pair():
    ref = example_cube(shape=(40, 45))
    noise = np.random.default_rng(3).normal(0, 0.02, ref.shape).astype("float32")
    return ref.copy(data=ref.values + noise), ref


def test_merged_dates_are_the_whole(pair):
    pred, ref = pair
    parts = [pred.isel(time=[i]).harmonize.statistics(ref, METRICS) for i in range(3)]
    whole = pred.harmonize.score(ref, METRICS)
    xr.testing.assert_allclose(
        xh.metrics.score_statistics(xh.metrics.merge_statistics(*parts), METRICS), whole, rtol=1e-10
    )
    backwards = xh.metrics.merge_statistics(*parts[::-1])
    xr.testing.assert_allclose(xh.metrics.score_statistics(backwards, METRICS), whole, rtol=1e-10)


def test_merged_areas_are_the_whole(pair):
    pred, ref = pair
    metrics = ["n", "rmse", "cc", "bias", "sam", "ergas"]
    left, right = slice(None, 17), slice(17, None)
    parts = [
        pred.isel(x=part).harmonize.statistics(ref.isel(x=part), metrics) for part in (left, right)
    ]
    xr.testing.assert_allclose(
        xh.metrics.score_statistics(xh.metrics.merge_statistics(*parts), metrics),
        pred.harmonize.score(ref, metrics),
        rtol=1e-10,
    )


def test_labels_of_one_part_are_kept(pair):
    pred, ref = pair
    options = {"dim": ("y", "x")}
    first = pred.isel(time=[2]).harmonize.statistics(ref, METRICS, **options)
    second = pred.isel(time=[0, 1]).harmonize.statistics(ref, METRICS, **options)
    merged = xh.metrics.merge_statistics(first, second)
    expected = pred.harmonize.score(ref, METRICS, **options)
    xr.testing.assert_allclose(xh.metrics.score_statistics(merged, METRICS), expected, rtol=1e-10)
    assert (merged["item_id"] == pred["item_id"]).all()
    whole = xh.metrics.score_statistics(merged, METRICS, dim="time")
    xr.testing.assert_allclose(whole, pred.harmonize.score(ref, METRICS), rtol=1e-10)


def test_groups_merge_and_can_be_merged_over(pair):
    pred, ref = pair
    cover = xr.DataArray(np.arange(45) % 3, dims="x", name="cover")
    first = pred.harmonize.statistics(ref, METRICS, by=cover.where(cover != 2))
    rest = pred.harmonize.statistics(ref, METRICS, by=cover.where(cover == 2))
    merged = xh.metrics.merge_statistics(first, rest)
    xr.testing.assert_allclose(
        xh.metrics.score_statistics(merged, METRICS), pred.harmonize.score(ref, METRICS, by=cover)
    )
    xr.testing.assert_allclose(
        xh.metrics.score_statistics(merged, METRICS, dim="cover"),
        pred.harmonize.score(ref, METRICS),
    )


@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_statistics_are_kept_in_files_and_added_to(pair, tmp_path, suffix):
    pred, ref = pair
    first = pred.isel(time=[0]).harmonize.statistics(ref, METRICS)
    path = tmp_path / f"statistics.{suffix}"
    if suffix == "nc":
        first.to_netcdf(path)
        kept = xr.open_dataset(path, chunks={})
    else:
        first.to_zarr(path, consolidated=False)
        kept = xr.open_zarr(path, consolidated=False)
    with no_compute():
        merged = xh.metrics.merge_statistics(
            kept, pred.isel(time=[1, 2]).harmonize.statistics(ref, METRICS)
        )
        lazy = xh.metrics.score_statistics(merged, METRICS)
    assert_lazy(lazy)
    xr.testing.assert_allclose(lazy.compute(), pred.harmonize.score(ref, METRICS), rtol=1e-10)


def test_nothing_valid_merges_as_nothing(pair):
    pred, ref = pair
    empty = (pred * np.nan).harmonize.statistics(ref, METRICS)
    assert not any((array != 0).any() for array in empty.data_vars.values())
    whole = pred.harmonize.statistics(ref, METRICS)
    xr.testing.assert_allclose(xh.metrics.merge_statistics(empty, whole), whole)


def test_the_usual_metrics_are_those_that_statistics_suffice_for(pair):
    pred, ref = pair
    found = xh.metrics.score_statistics(pred.harmonize.statistics(ref, ["rmse", "ssim"]))
    assert "ssim" in found
    assert "rmse" in found
    assert "sam" not in found
    pooled = xh.metrics.score_statistics(pred.harmonize.statistics(ref), ["rmse"], per_band=False)
    xr.testing.assert_allclose(pooled, pred.harmonize.score(ref, ["rmse"], per_band=False))


def test_what_does_not_fit_is_told(pair):
    pred, ref = pair
    names = ["rmse", "ssim"]
    made = pred.harmonize.statistics(ref, names)
    bare = pred.harmonize.statistics(ref, ["rmse"])
    uniform = pred.harmonize.statistics(ref, ["rmse", Ssim(weights="uniform")])
    red = pred.sel(band=["red"]).harmonize.statistics(ref.sel(band=["red"]), names)
    dated = pred.harmonize.statistics(ref, names, dim=("y", "x"))
    for other, error, words in [
        (bare, xh.errors.MetricError, "different things"),
        (uniform, xh.errors.MetricError, "other settings"),
        (red, xh.errors.BandError, "different bands"),
        (dated, xh.errors.MetricError, "has dimensions"),
        (made.assign_attrs(units="K"), xh.errors.MetricError, "units of"),
        (
            made.assign_attrs(statistics_version=9),
            xh.errors.MetricError,
            "version 9, this xharmonize",
        ),
    ]:
        with pytest.raises(error, match=words):
            xh.metrics.merge_statistics(made, other)
    with pytest.raises(xh.errors.MetricError, match="at least one"):
        xh.metrics.merge_statistics()
    with pytest.raises(xh.errors.MetricError, match="keep the bands"):
        pred.harmonize.statistics(ref, dim=...)


def test_what_statistics_do_not_hold_is_told(pair):
    pred, ref = pair
    made = pred.harmonize.statistics(ref, ["rmse", "ssim"])
    with pytest.raises(xh.errors.MetricError, match="no Dataset of statistics"):
        xh.metrics.score_statistics(ref.to_dataset(name="reflectance"))
    with pytest.raises(xh.errors.MetricError, match="do not hold what 'sam' needs"):
        xh.metrics.score_statistics(made, "sam")
    with pytest.raises(xh.errors.MetricError, match="were made with"):
        xh.metrics.score_statistics(made, Ssim(weights="uniform"))
    with pytest.raises(xh.errors.MetricError, match=r"cannot be merged over \['time'\]"):
        xh.metrics.score_statistics(made, dim="time")
