"""The fixed recipe: what it fits, how it is scored, where it falls back, what it refuses."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.harmonizers import auto, auto_harmonizer, fit_auto, validation
from xharmonize.testing import assert_chunk_invariant, example_cube

BANDS = ("blue", "green", "red", "nir08")
DATES = [str(day) for day in pd.date_range("2018-05-01T10:50", periods=4, freq="16D")]
MATRIX = np.array([[0.8, 0.1, 0, 0], [0, 1.1, 0, 0], [0, 0.1, 0.8, 0], [0, 0, 0.1, 0.9]])

pytestmark = pytest.mark.filterwarnings("ignore::xharmonize.errors.RadiometryWarning")


def cubes(n_dates=4, *, matrix=MATRIX, level=0.02, noise=0.002, shape=(24, 30)):
    dates = DATES[:n_dates]
    source = example_cube(bands=BANDS, dates=dates, platform="sentinel-2a", seed=1, shape=shape)
    target = example_cube(
        "landsat-c2-l2", platform="landsat-8", bands=BANDS, dates=dates, shape=shape
    )
    mixed = np.einsum("bs,tsyx->tbyx", matrix, source.values) + level
    values = mixed + np.random.default_rng(5).normal(0, noise, mixed.shape)
    return source, target.copy(data=values.astype("float32"))


@pytest.fixture(scope="module")
def model():
    source, target = cubes()
    return fit_auto(xh.collect_pairs(source, target), register=False)


@pytest.mark.slow
def test_it_beats_what_it_is_compared_with_and_says_so(model):
    mean = model["ergas"].mean("pair")
    assert list(model["model"].values) == ["identity", "hls-v2", "ols", "auto"]
    assert float(mean.sel(model="auto")) < 0.3 * float(mean.sel(model="hls-v2"))
    assert model.attrs["uses"] == "auto"
    assert "ERGAS on dates left out: identity" in model.attrs["history"]
    assert model.attrs["dates"].count("2018-") == 8


def test_it_is_applied_alike_whatever_the_chunks_saved_or_not(model, tmp_path):
    source, target = cubes()
    assert_chunk_invariant(
        lambda cube: xh.to_landsat(cube, model),
        source,
        chunkings=[{"time": 1, "band": 2, "y": 13, "x": 17}],
    )
    result = xh.to_landsat(source, model, like=target)  # blurred as the pairs were
    before, after = (np.nanmedian(abs(cube.values - target.values)) for cube in (source, result))
    assert after < 0.5 * before
    xh.harmonizers.save_model(model, tmp_path / "auto.zarr")
    again = xh.to_landsat(source, tmp_path / "auto.zarr", like=target)
    xr.testing.assert_identical(again, result)


def test_without_a_grid_it_says_what_of_its_fit_is_not_done(model):
    source, target = cubes()
    with pytest.warns(xh.errors.RadiometryWarning, match=r"without a point spread of 3 m.*like="):
        result = xh.to_landsat(source, model)
    assert "without a point spread of 3 m of its fit" in result.attrs["history"]
    assert "without" not in source.attrs.get("history", "")
    moved = model.assign(shift_x=("time", np.zeros(4)), shift_y=("time", np.zeros(4)))
    with pytest.warns(xh.errors.RadiometryWarning, match="spread of 3 m and shifts of dates"):
        xh.to_landsat(source.to_dataset(name="reflectance"), moved)
    with warnings.catch_warnings():
        warnings.simplefilter("error", xh.errors.RadiometryWarning)
        assert "without" not in xh.to_landsat(source, model, like=target).attrs["history"]
        xh.to_landsat(target, model)  # in the target's bandpass already
    half = float(abs(source["x"][1] - source["x"][0])) / 2
    fine = xh.regrid(source, resolution=half)
    with pytest.raises(xh.errors.GridError, match=r"pass like="):
        xh.to_landsat(fine, model)


def test_cubes_that_do_not_match_are_refused():
    source, target = cubes()
    far = source.assign_coords(x=source["x"] + 1e5)
    with pytest.raises(xh.errors.GridError, match="do not overlap"):
        fit_auto(xh.collect_pairs(far, target), register=False)
    fewer = source.isel(band=slice(3))
    with pytest.raises(xh.errors.BandError, match=r"no nir08, which the target has.*'red'\]"):
        fit_auto(xh.collect_pairs(fewer, target))
    model = fit_auto(xh.collect_pairs(source, target.isel(band=slice(3))), register=False)
    assert list(model["source_band"].values) == list(BANDS)
    assert list(model["band"].values) == ["blue", "green", "red"]
    with pytest.raises(xh.errors.BandError, match="green"):
        xh.to_landsat(source.sel(band=["blue", "red"]), model, like=target)


def test_pixels_without_a_logarithm_take_the_linear_member(model):
    source, _ = cubes()
    dark = source.copy()
    dark[0, 0, 5, 5] = -0.01
    linear = auto_harmonizer.member_of(model, "linear")
    expected = xh.harmonizers.LinearHarmonizer(fit=linear)(dark)[0, :, 5, 5]
    np.testing.assert_allclose(xh.to_landsat(dark, model)[0, :, 5, 5], expected, rtol=1e-5)


def test_uncertainty_has_a_part_of_dates_and_one_of_pixels(model):
    source, target = cubes()
    result = xh.to_landsat(source, model, uncertainty=True)
    sigma = result["uncertainty"]
    parts = np.hypot(model["between"], model["within"])
    np.testing.assert_allclose(sigma.max(["time", "y", "x"]), parts, rtol=1e-5)
    np.testing.assert_array_equal(sigma.isnull(), result["reflectance"].isnull())
    assert sigma.attrs["within"] == pytest.approx(model["within"].values.tolist())
    assert 0.001 < float(model["within"].mean()) < 0.012
    own = source.to_dataset(name="reflectance").assign(uncertainty=xr.full_like(source, 0.01))
    assert (xh.to_landsat(own, model)["uncertainty"] > 0).any()
    with pytest.raises(xh.errors.ModelError, match="takes no uncertainty"):
        xh.to_landsat(source, "hls-v2", uncertainty=True)
    both = xr.concat([source, target], "time").sortby("time")
    mixed = xh.to_landsat(both, model, uncertainty=True)
    assert mixed.sizes["time"] == 8


def test_it_falls_back_to_hls_where_the_dates_say_so():
    """The level of each date is another: nothing that is fitted carries over."""
    source, target = cubes(2, matrix=np.eye(4), level=0.0)
    jump = xr.DataArray([0.15, -0.02], dims="time")
    pairs = xh.collect_pairs(source, target + jump, max_score=None)  # one is as bright as haze
    model = fit_auto(pairs, register=False)
    assert model.attrs["uses"] == "hls-v2"
    result = xh.to_landsat(source, model)
    xr.testing.assert_allclose(result, xh.to_landsat(source, "hls-v2"))
    assert "falls back to hls-v2" in result.attrs["history"]
    assert "uncertainty" in xh.to_landsat(source, model, uncertainty=True)


@pytest.mark.slow
def test_the_target_that_is_scored_is_read_by_no_model():
    """Estimates of a date are the same, bit for bit, if its target is replaced by noise."""
    source, target = cubes()
    spoilt = target.copy()
    spoilt[1] = np.random.default_rng(0).random(spoilt[1].shape)
    methods = {**auto.comparisons("hls-v2"), "auto": auto.Maker(psf=0.0).method()}
    found = []
    for one in (target, spoilt):
        pairs = xh.collect_pairs(source, one, max_score=None)
        found.append(validation.estimate_left_out(pairs, methods)["estimate"].isel(pair=1))
    np.testing.assert_array_equal(*found)


def test_a_method_cannot_read_the_target_left_out():
    pairs = xh.collect_pairs(*cubes())
    for given in (pairs, validation.gridded(pairs)):
        folds = list(validation.leave_out(given))
        assert [fold.left_out.item() for fold in folds] == [0, 1, 2, 3]
        for fold in folds:
            assert np.isnan(validation.target_side(fold.look)).all()
            assert validation.target_side(fold.rest).sizes["pair"] == 3
        quarters = list(validation.leave_out(given, by="block"))
        scored = sum(fold.inside.astype(int) for fold in quarters)
        assert (scored == 1).all()
        for fold in quarters:
            assert np.isnan(validation.target_side(fold.rest).values[..., fold.inside]).all()


def test_shifts_of_a_scored_date_do_not_come_from_its_target():
    from xharmonize.cube.shifts import without_reference

    source, target = cubes(shape=(60, 60))
    days = ["2018-05-17"]
    fit = xh.fit_shifts(source, reference=target)
    again = without_reference(fit, np.array(days, "datetime64[D]"))
    spoilt = target.copy()
    spoilt[1] = np.random.default_rng(0).random(spoilt[1].shape)
    excluded = xh.fit_shifts(source, reference=spoilt, exclude=days)
    assert days[0] not in again["reference_time"].values.astype("datetime64[D]").astype(str)
    for name in ("shift_x", "shift_y"):
        np.testing.assert_allclose(again[name], excluded[name], atol=0.05)


def test_one_pair_is_refused_unless_asked_for_and_scored_by_blocks():
    pairs = xh.collect_pairs(*cubes(1, shape=(40, 40)))
    with pytest.raises(xh.errors.FitError, match=r"one clear pair only.*allow_one_pair=True"):
        fit_auto(pairs)
    with pytest.warns(xh.errors.RadiometryWarning, match="rests on 1 date: its ridge is raised"):
        model = fit_auto(pairs, register=False, allow_one_pair=True)
    assert model.attrs["by"] == "block"
    assert model.attrs["ridge"] == 0.1
    assert np.isnan(model["between"]).all()
    with pytest.raises(xh.errors.ModelError, match="how dates differ is unknown"):
        xh.to_landsat(cubes(1, shape=(40, 40))[0], model, uncertainty=True)


def test_what_cannot_be_fitted_is_refused():
    source, target = cubes(2)
    with pytest.raises(xh.errors.FitError, match="collect_pairs"):
        fit_auto(source)
    with pytest.raises(xh.errors.ContractError, match="collected pairs"):
        fit_auto(xr.DataTree())
    cloudy = xh.match_pairs(source, target.where(False))
    with pytest.raises(xh.errors.FitError, match="no pair has 50 pixels"):
        fit_auto(cloudy)
    flat = source.copy()
    flat[:, 2] = 0.1
    with pytest.raises(xh.errors.FitError, match="does not vary in band red"):
        fit_auto(xh.match_pairs(flat, target))
    with pytest.raises(xh.errors.FitError, match="size=4 is too small"):
        fit_auto(xh.match_pairs(source, target), size=4)


def test_densify_harmonises_in_one_line_and_gives_the_fit_back(tmp_path):
    source, target = cubes()
    series = target.harmonize.densify(source, model="auto")
    assert series.sizes["time"] == 8
    assert "fit_auto: auto, msi to oli, 4 pairs" in series["reflectance"].attrs["history"]
    model = xh.load_model(series)
    assert model.attrs["model"] == "auto"
    again = target.harmonize.densify(source, model=model)
    xr.testing.assert_allclose(again["reflectance"], series["reflectance"])
    series.harmonize.to_zarr(tmp_path / "series.zarr")
    stored = xh.load_model(xh.open_series(tmp_path / "series.zarr"))
    xr.testing.assert_identical(stored, model)
    named = target.harmonize.densify(source, model="hls-v2")
    assert set(named["bandpass"].values) == {"oli"}
    with pytest.raises(xh.errors.ModelError, match="without a fit"):
        xh.load_model(named)
    with pytest.raises(xh.errors.UnknownModelError, match="fitted to pairs of your own"):
        xh.load_model("auto")
    with pytest.raises(xh.errors.ModelError, match="harmonise it first"):
        target.harmonize.densify(source)


@pytest.mark.slow
def test_densify_with_auto_on_real_series(data):
    """A summer of one site: what it says of itself, the hazy date included in the series."""
    s2, l8 = (
        xh.open_stac(
            data / "flanders-2018" / "catalog.json",
            collection=name,
            datetime="2018-06-01/2018-10-31",
            bands=bands,
            **options,
        ).load()
        for name, bands, options in (
            ("sentinel-2-l2a", [*BANDS, "swir16"], {"platform": "infer", "resolution": 10}),
            ("landsat-8-c1-sr", [*BANDS, "swir16"], {}),
        )
    )
    series = l8.harmonize.densify(s2, model="auto")
    model = xh.load_model(series)
    assert model.attrs["uses"] == "auto"
    assert "2018-07-15/2018-07-17" in model.attrs["dates"]
    assert "2018-07-18" not in model.attrs["dates"]
    assert "registered; ERGAS on dates left out: identity" in model.attrs["history"]
    mean = model["ergas"].mean("pair")
    assert float(mean.sel(model="auto")) < 0.8 * float(mean.sel(model="identity"))
    assert set(series["bandpass"].values) == {"oli"}
    assert series.sizes["time"] == s2.sizes["time"] + l8.sizes["time"]
