"""Scores: definitions against other libraries and by hand, laziness, groups, chunks."""

import numpy as np
import pytest
import torch
import torchmetrics.functional.image as torch_metrics
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import xharmonize as xh
from xharmonize.metrics import Ergas, Metric, Psnr, Sam, Ssim, Uiqi
from xharmonize.testing import assert_lazy, example_cube, no_compute

PIXEL = ["n", "rmse", "mse", "mae", "bias", "mre", "mre_total", "r2", "r2_pearson", "cc", "kge"]
PIXEL += ["kge_2012", "slope", "intercept", "psnr"]
EVERY = [*PIXEL, "sam", "ergas", "uiqi", "ssim", "ndvi_rmse", "evi2_r2"]


def make_pair(missing=0.05, shape=(40, 45), **kwargs):
    """Reference and a noisy, biased prediction of it, each with gaps of its own."""
    ref = example_cube(shape=shape, missing=missing, **kwargs)
    random = np.random.default_rng(8)
    noise = (0.01 + 0.02 * random.normal(size=ref.shape)).astype("float32")
    hole = random.random(ref.shape) < missing
    pred = ref.copy(data=np.where(hole, np.float32(np.nan), ref.values + noise))
    return pred, ref


@pytest.fixture
def pair():
    return make_pair()


@pytest.fixture
def full_pair():
    return make_pair(missing=0.0)


def test_pixel_metrics_equal_xskillscore(pair):
    xskillscore = pytest.importorskip("xskillscore")  # compiles for seconds as it is imported
    pred, ref = pair
    found = pred.harmonize.score(ref, ["rmse", "mae", "mse", "bias", "cc", "r2", "r2_pearson"])
    options = {"dim": ["time", "y", "x"], "skipna": True}
    a, b = ref.astype("float64").drop_vars("time"), pred.astype("float64").drop_vars("time")
    expected = {
        "rmse": xskillscore.rmse(a, b, **options),
        "mae": xskillscore.mae(a, b, **options),
        "mse": xskillscore.mse(a, b, **options),
        "bias": xskillscore.me(b, a, **options),
        "cc": xskillscore.pearson_r(a, b, **options),
        "r2": xskillscore.r2(a, b, **options),
        "r2_pearson": xskillscore.pearson_r(a, b, **options) ** 2,
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values.values, rtol=1e-9, err_msg=name)


def test_kge_by_hand(pair):
    pred, ref = pair
    found = pred.harmonize.score(ref, ["kge", "kge_2012"], per_band=False)
    ok = (np.isfinite(pred) & np.isfinite(ref)).values
    x, y = pred.values[ok].astype(float), ref.values[ok].astype(float)
    r, a, b = np.corrcoef(x, y)[0, 1], x.std() / y.std(), x.mean() / y.mean()
    assert found["kge"] == pytest.approx(1 - np.sqrt((r - 1) ** 2 + (a - 1) ** 2 + (b - 1) ** 2))
    assert found["kge_2012"] == pytest.approx(
        1 - np.sqrt((r - 1) ** 2 + (a / b - 1) ** 2 + (b - 1) ** 2)
    )


def test_line_and_relative_errors_by_hand(pair):
    pred, ref = (a.sel(band=["red"]) for a in pair)
    found = pred.harmonize.score(ref, ["slope", "intercept", "mre", "mre_total"]).isel(band=0)
    ok = (np.isfinite(pred) & np.isfinite(ref)).values
    x, y = pred.values[ok].astype(float), ref.values[ok].astype(float)
    np.testing.assert_allclose((found["slope"], found["intercept"]), np.polyfit(y, x, 1))
    assert found["mre"] == pytest.approx((abs(x - y) / abs(y)).mean())
    assert found["mre_total"] == pytest.approx(abs(x - y).sum() / abs(y).sum())


def test_psnr_equals_scikit_image_and_pools_the_mse(full_pair):
    pred, ref = (a.isel(time=0).astype("float64") for a in full_pair)
    bands = pred.harmonize.score(ref, "psnr")["psnr"]
    for band in ("blue", "nir08"):
        expected = peak_signal_noise_ratio(
            ref.sel(band=band).values, pred.sel(band=band).values, data_range=1
        )
        assert bands.sel(band=band) == pytest.approx(expected)
    pooled = pred.harmonize.score(ref, Psnr(data_range=2.0), per_band=False)["psnr"]
    expected = peak_signal_noise_ratio(ref.values, pred.values, data_range=2)
    assert pooled == pytest.approx(expected)


def test_sam_and_ergas_equal_torchmetrics(full_pair):
    pred, ref = (a.isel(time=0).astype("float64") for a in full_pair)
    tensors = [torch.from_numpy(a.values[None]) for a in (pred, ref)]
    found = pred.harmonize.score(ref, ["sam", "ergas", Ergas(name="fused", ratio=1 / 3)])
    angle = float(torch_metrics.spectral_angle_mapper(*tensors))
    assert found["sam"] == pytest.approx(angle, rel=1e-6)
    # Theirs is 100 / ratio with the ratio coarse to fine: 1 is equal pixel size.
    for name, ratio in (("ergas", 1.0), ("fused", 3.0)):
        expected = torch_metrics.error_relative_global_dimensionless_synthesis(*tensors, ratio)
        assert found[name] == pytest.approx(float(expected), rel=1e-6)
    degrees = pred.harmonize.score(ref, Sam(unit="deg"))["sam"]
    assert degrees == pytest.approx(np.rad2deg(angle), rel=1e-6)
    assert degrees.attrs["units"] == "degree"


@pytest.mark.parametrize("kind", ["gaussian", "uniform"])
def test_ssim_equals_scikit_image(full_pair, kind):
    pred, ref = (a.isel(time=0).astype("float64") for a in full_pair)
    options = {"gaussian_weights": True, "sigma": 1.5} if kind == "gaussian" else {"win_size": 7}
    expected = structural_similarity(
        ref.values, pred.values, data_range=0.5, channel_axis=0, use_sample_covariance=False,
        **options,
    )  # fmt: skip
    found = pred.harmonize.score(ref, Ssim(weights=kind), data_range=0.5, per_band=False)
    assert found["ssim"] == pytest.approx(expected, rel=1e-9)


def test_uiqi_is_one_for_identical_images_and_less_for_others(full_pair):
    pred, ref = full_pair
    assert (ref.harmonize.score(ref, "uiqi")["uiqi"] == 1).all()
    assert (pred.harmonize.score(ref, "uiqi")["uiqi"] < 0.9).all()


def test_agreement_of_an_index_is_that_of_the_index(pair):
    pred, ref = pair
    found = pred.harmonize.score(ref, ["ndvi_rmse", "ndvi_bias", "ndvi_r2", "nbr_n"])
    ndvi = pred.harmonize.index("ndvi").harmonize.score(
        ref.harmonize.index("ndvi"), ["rmse", "bias", "r2"]
    )
    for name in ("rmse", "bias", "r2"):
        assert found[f"ndvi_{name}"].dims == ()
        assert float(found[f"ndvi_{name}"]) == pytest.approx(float(ndvi[name]), rel=1e-12)


def test_skill_is_one_minus_the_ratio_of_errors(pair):
    pred, ref = pair
    worse = ref + 0.1
    found = pred.harmonize.score(ref, "skill", baseline=worse)["skill"]
    error = pred.harmonize.score(ref, "mse")["mse"]
    np.testing.assert_allclose(found, 1 - error / 0.01, rtol=1e-3)
    assert (ref.harmonize.score(ref, "skill", baseline=worse)["skill"] == 1).all()


def test_identical_cubes(pair):
    ref = pair[1]
    found = ref.harmonize.score(ref, EVERY)
    for name in ("r2", "r2_pearson", "cc", "slope", "uiqi", "ssim", "evi2_r2"):
        np.testing.assert_allclose(found[name], 1, rtol=1e-12, err_msg=name)
    for name in ("rmse", "mae", "bias", "mre", "sam", "ergas", "ndvi_rmse"):
        assert (found[name] == 0).all(), name
    np.testing.assert_allclose(found["kge"], 1, rtol=1e-12)
    np.testing.assert_allclose(found["intercept"], 0, atol=1e-12)
    assert np.isposinf(found["psnr"]).all()


def test_a_flat_reference_has_errors_but_no_correlation():
    ref = example_cube(missing=0.0) * 0 + 0.25
    found = (ref + 0.01).harmonize.score(ref, EVERY)
    for name in ("r2", "cc", "kge", "slope", "intercept"):
        assert np.isnan(found[name]).all(), name
    np.testing.assert_allclose(found["rmse"], 0.01, rtol=1e-5)
    np.testing.assert_allclose(found["sam"], 0, atol=1e-6)


@pytest.mark.parametrize("value", [0.1, 0.2317, 0.7])
def test_a_flat_reference_stays_flat_in_chunks(value):
    # In float64 the mean of parts that all have this mean is not always this number.
    ref = (example_cube(shape=(20, 23), missing=0.0) * 0).astype("float64") + value
    pred = (ref + 0.01).chunk({"time": 1, "y": 7, "x": 3})
    found = pred.harmonize.score(ref, ["r2", "cc", "kge", "slope"]).compute()
    parts = [pred.isel(time=[k]).harmonize.statistics(ref, ["r2"]) for k in range(3)]
    merged = xh.metrics.score_statistics(xh.metrics.merge_statistics(*parts), "r2")
    for metric in (*found.values(), merged["r2"]):
        assert np.isnan(metric).all(), metric.name


def test_nothing_valid_is_nan_not_an_error():
    ref = example_cube()
    found = (ref * np.nan).harmonize.score(ref, [*EVERY, "skill"], baseline=ref)
    assert (found["n"] == 0).all()
    for name in set(found) - {"n"}:
        assert np.isnan(found[name]).all(), name


def test_infinities_are_missing_and_negative_values_are_values(full_pair):
    pred, ref = (a.isel(time=[0]) for a in full_pair)
    is_odd = xr.zeros_like(ref, bool)
    is_odd[0, 0, 3, 4] = is_odd[0, 1, 5, 6] = True
    metrics = [*PIXEL, "sam", "ssim"]
    found = pred.where(~is_odd, np.inf).harmonize.score(ref, metrics)
    xr.testing.assert_identical(found, pred.where(~is_odd).harmonize.score(ref, metrics))
    below = (pred - 0.5).harmonize.score(ref - 0.5, ["n", "rmse", "cc", "bias"])
    xr.testing.assert_allclose(below, pred.harmonize.score(ref, list(below)), rtol=1e-4)


def test_a_band_without_pixels_is_nan_alone_but_makes_sam_and_ergas_nan(pair):
    pred, ref = pair
    found = pred.where(pred["band"] != "red").harmonize.score(ref, ["rmse", "sam", "ergas"])
    assert np.isnan(found["rmse"]).values.tolist() == [False, False, True, False, False, False]
    assert np.isnan(found["sam"])
    assert np.isnan(found["ergas"])


def test_default_metrics_dims_and_units(pair):
    pred, ref = pair
    found = pred.harmonize.score(ref)
    assert list(found) == [*xh.metrics.registry.DEFAULT, "sam", "ergas"]
    assert {name: array.dims for name, array in found.items()} == {
        **dict.fromkeys(xh.metrics.registry.DEFAULT, ("band",)),
        "sam": (),
        "ergas": (),
    }
    assert found["n"].dtype == "int64"
    assert found["psnr"].attrs["units"] == "dB"
    assert "10.1016" in found["kge"].attrs["references"]
    assert "score: n, rmse" in found.attrs["history"]


@pytest.mark.parametrize("dim", [("y", "x"), "time", ("time", "x"), "band", ..., ()])
def test_any_dimensions(pair, dim):
    pred, ref = pair
    found = pred.harmonize.score(ref, ["rmse", "n"], dim=dim)
    axes = None if dim is ... else dim
    square = (pred.astype("float64") - ref) ** 2
    expected = square.mean(axes) ** 0.5
    assert found["rmse"].dims == expected.dims
    np.testing.assert_allclose(found["rmse"], expected, rtol=1e-6, atol=1e-9)
    assert (found["n"] == square.notnull().sum(axes)).all()
    if "time" in found.dims:
        assert (found["sensor"] == pred["sensor"]).all()


def test_groups_are_scores_of_their_pixels(pair):
    pred, ref = pair
    random = np.random.default_rng(0)
    cover = xr.DataArray(random.choice([1.0, 2.0, 7.0, np.nan], (40, 45)), dims=("y", "x"))
    found = pred.harmonize.score(ref, [*PIXEL, "sam"], by=[cover.rename("cover"), "time.day"])
    assert found["rmse"].dims == ("cover", "day", "band")
    assert found["sam"].dims == ("cover", "day")
    for cover_class in (1.0, 2.0, 7.0):
        for step, day in enumerate(found["day"].values):
            part = pred.isel(time=[step]).where(cover == cover_class)
            expected = part.harmonize.score(ref.isel(time=[step]), [*PIXEL, "sam"])
            actual = found.sel(cover=cover_class, day=day, drop=True)
            xr.testing.assert_allclose(actual, expected, rtol=1e-9)


def test_groups_along_time_by_the_name_of_a_coordinate():
    ref = example_cube(platform=["sentinel-2a", "sentinel-2b", "sentinel-2a"], missing=0.0)
    pred = ref + xr.DataArray([0.0, 0.1, 0.02], dims="time")
    found = pred.assign_coords(ref.coords).harmonize.score(ref, ["bias", "sam"], by="platform")
    np.testing.assert_allclose(found["bias"].sel(platform="sentinel-2a"), 0.01, atol=1e-6)
    np.testing.assert_allclose(found["bias"].sel(platform="sentinel-2b"), 0.1, atol=1e-6)


def test_nothing_is_computed_before_it_is_asked_for(pair):
    pred, ref = (a.chunk({"time": 1, "y": 13, "x": 17}) for a in pair)
    with no_compute():
        found = pred.harmonize.score(ref, [*EVERY, "skill"], by="time.day", baseline=ref + 1)
    assert_lazy(found)
    names = {key[0] if isinstance(key, tuple) else key for key in found.__dask_graph__()}
    assert any(str(name).startswith("score-") for name in names)


@settings(max_examples=4, deadline=None)
@given(
    chunks=st.fixed_dictionaries(
        {"time": st.integers(1, 3), "band": st.integers(1, 6)}
        | {dim: st.integers(1, 45) for dim in ("y", "x")}
    ),
    dim=st.sampled_from([None, ("y", "x")]),
    has_groups=st.booleans(),
)
def test_chunks_do_not_matter(chunks, dim, has_groups):
    pred, ref = make_pair(shape=(36, 41))
    by = xr.DataArray(np.arange(36 * 41).reshape(36, 41) % 3, dims=("y", "x"), name="class")
    options = {"dim": dim, "by": by if has_groups else None}
    chunks = {d: max(n, 11) if d in ("y", "x") else n for d, n in chunks.items()}
    expected = pred.harmonize.score(ref, EVERY, **options)
    with no_compute():
        lazy = pred.chunk(chunks).harmonize.score(ref.chunk({"y": 11}), EVERY, **options)
    actual = lazy.compute(scheduler="synchronous")
    xr.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


def test_pairs_of_dates_are_scored_with_their_dimension():
    s2, l8 = example_cube(), example_cube("landsat-c2-l2", platform="landsat-8", seed=1)
    pairs = xh.match_pairs(s2, l8, tolerance="1D")
    found = xh.score(pairs["source"], pairs["target"], ["rmse", "uiqi"], dim=["y", "x"])
    assert found["rmse"].dims == ("pair", "band")


def test_dates_both_have_count_and_a_single_reference_serves_all(pair):
    pred, ref = pair
    found = pred.isel(time=[0, 1]).harmonize.score(ref.isel(time=[2, 1]), "n", dim=("y", "x"))
    assert found["time"].values == ref["time"].values[1]
    one = pred.harmonize.score(ref.isel(time=0, drop=True), "rmse", dim=("y", "x"))
    assert one["rmse"].dims == ("time", "band")
    shuffled = pred.harmonize.score(ref.isel(band=[3, 1, 0, 2, 5, 4]), "rmse")
    xr.testing.assert_allclose(shuffled, pred.harmonize.score(ref, "rmse"))


def test_datasets_and_a_metric_of_ones_own(pair):
    pred, ref = (a.to_dataset(name="reflectance") for a in pair)
    largest = Metric(name="nrmse", formula=lambda m: np.sqrt(m.mse) / m["mean_ref"])
    found = pred.harmonize.score(ref, ["rmse", largest])
    assert (found["nrmse"] > found["rmse"]).all()


def test_a_window_larger_than_the_image_gives_nan(pair):
    pred, ref = (a.isel(y=slice(20), x=slice(20)) for a in pair)
    for chunks in ({}, {"y": 7, "x": 7}):
        found = pred.chunk(chunks).harmonize.score(ref, [Uiqi(), Ssim()])
        assert np.isnan(found["uiqi"]).all()
        assert np.isfinite(found["ssim"]).all()
