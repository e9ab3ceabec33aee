"""Lines and matrices fitted on pairs, saved, opened and applied."""

import numpy as np
import pytest
import xarray as xr
from helpers.marks import first_quick

import xharmonize as xh
from xharmonize.testing import assert_chunk_invariant, example_cube

BANDS = ("blue", "green", "red", "nir08")
DATES = ("2018-07-01T10:50", "2018-07-11T10:50", "2018-07-21T10:50")
MATRIX = np.array([[0.9, 0.1, 0, 0], [0, 1.05, 0, 0], [0, 0.1, 0.85, 0], [0, 0, 0.1, 0.95]])
OFFSET = np.array([0.005, 0.0, -0.004, 0.01])


def _cubes(*, matrix=MATRIX, noise=0.002):
    source = example_cube(bands=BANDS, dates=DATES, platform="sentinel-2a", seed=1)
    random = np.random.default_rng(5)
    mixed = np.einsum("bs,tsyx->tbyx", matrix, source.values) + OFFSET[:, None, None]
    target = example_cube(
        "landsat-c2-l2",
        platform="landsat-8",
        bands=BANDS,
        dates=[d.replace("T10:50", "T10:40") for d in DATES],
    )
    values = mixed + random.normal(0, noise, mixed.shape)
    return source, target.copy(data=values.astype("float32"))


@pytest.fixture(scope="module")
def pairs():
    return xh.match_pairs(*_cubes(), tolerance="1D").compute()


@pytest.mark.parametrize("method", ["ols", "deming", "multiband"])
def test_chunks_do_not_matter(pairs, method):
    whole = xh.fit_linear(pairs, method=method)
    for chunks in ({"pair": 1, "y": 7, "x": 5}, {"pair": 2, "band": 1, "y": -1, "x": 11}):
        parts = xh.fit_linear(pairs.chunk(chunks), method=method)
        xr.testing.assert_allclose(parts, whole, rtol=0, atol=1e-10)
        assert parts.attrs == whole.attrs


def test_ols_equals_polyfit_and_says_what_it_is(pairs):
    fit = xh.fit_linear(pairs)
    for band in BANDS:
        x, y = (pairs[side].sel(band=band).values.ravel().astype(float) for side in pairs)
        ok = np.isfinite(x) & np.isfinite(y)
        expected = np.polyfit(x[ok], y[ok], 1)
        actual = [float(fit[name].sel(band=band)) for name in ("slope", "intercept")]
        np.testing.assert_allclose(actual, expected, atol=1e-9)
        assert int(fit["n"].sel(band=band)) == ok.sum()
    assert fit.attrs["direction"] == "msi to oli"
    assert fit.attrs["source_level"] == "SR"
    assert "2018-07-01/2018-07-01" in fit.attrs["dates"]


def test_multiband_recovers_the_matrix(pairs):
    fit = xh.fit_linear(pairs, method="multiband")
    np.testing.assert_allclose(fit["matrix"], MATRIX, atol=0.01)
    np.testing.assert_allclose(fit["intercept"], OFFSET, atol=0.002)
    assert float(fit["rmse"].max()) < 0.0025


@pytest.mark.parametrize("method", ["ols", "multiband"])
def test_applying_a_fit(pairs, method, no_compute):
    source, target = _cubes()
    fit = xh.fit_linear(pairs, method=method)
    assert_chunk_invariant(
        lambda cube: xh.to_landsat(cube, fit),
        source,
        chunkings=[{"time": 1, "band": 1, "y": 9, "x": 30}, {"time": -1, "y": 5, "x": 7}],
    )
    result = xh.to_landsat(source, fit)
    error = np.sqrt(np.nanmean((result.values - target.values) ** 2, axis=(0, 2, 3)))
    np.testing.assert_allclose(error, fit["rmse"], rtol=1e-3)
    assert set(result["bandpass"].values) == {"oli"}
    assert "left out" not in result.attrs["history"]
    assert method in result.attrs["history"]


def test_encoded_cubes_are_accepted(pairs):
    encoded = example_cube(bands=BANDS, is_decoded=False)
    for method in ("ols", "multiband"):
        fit = xh.fit_linear(pairs, method=method)
        xr.testing.assert_allclose(
            xh.to_landsat(encoded, fit), xh.to_landsat(xh.decode(encoded), fit), atol=1e-6
        )


@pytest.mark.parametrize("method", ["ols", "multiband"])
def test_steps_of_the_target_pass_through(pairs, method):
    source, target = _cubes()
    mixed = xr.concat([source, target], "time").sortby("time")
    with np.errstate(invalid="raise"):
        result = xh.to_landsat(mixed.chunk({"time": 1}), xh.fit_linear(pairs, method=method))
    is_target = mixed["sensor"].values == "landsat-c2-l2"
    np.testing.assert_array_equal(result.time, mixed.time)
    np.testing.assert_array_equal(result[is_target].values, mixed[is_target].values)
    assert list(result["item_id"].values) == list(mixed["item_id"].values)


def test_uncertainty_is_propagated(pairs):
    source, _ = _cubes()
    dataset = source.to_dataset(name="reflectance").assign(uncertainty=xr.full_like(source, 0.01))
    for method in ("ols", "multiband"):
        fit = xh.fit_linear(pairs, method=method)
        weights = fit["matrix"].values if method == "multiband" else np.diag(fit["slope"].values)
        expected = 0.01 * np.sqrt((weights**2).sum(axis=1))
        result = xh.to_landsat(dataset, fit)["uncertainty"][0, :, 0, 0]
        np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_fitted_lines_refuse_to_be_turned_round(pairs):
    _, target = _cubes()
    with pytest.raises(xh.errors.ModelError, match=r"roles swapped.*deming"):
        xh.to_sentinel2(target, xh.fit_linear(pairs))


def test_a_deming_line_may_be_turned_round(pairs):
    source, target = _cubes()
    fit = xh.fit_linear(pairs, method="deming")
    swapped = xh.fit_linear(xh.match_pairs(target, source, tolerance="1D"), method="deming")
    xr.testing.assert_allclose(
        xh.to_sentinel2(target, fit), xh.to_sentinel2(target, swapped), atol=1e-6
    )


def test_weights_by_pair(pairs):
    thin = pairs.assign(target=pairs["target"].where((pairs.pair > 0) | (pairs.x < 501400)))
    by_pixel, by_pair = (xh.fit_linear(thin, weight=w) for w in ("pixel", "pair"))
    xr.testing.assert_equal(by_pixel["n"], by_pair["n"])
    assert not np.allclose(by_pixel["slope"], by_pair["slope"], atol=1e-9)


def test_too_few_samples(pairs):
    with pytest.raises(xh.errors.FitError, match="too few samples"):
        xh.fit_linear(pairs.isel(x=slice(0, 2), y=slice(0, 2), pair=[0]))


def test_an_all_cloudy_pair_is_too_few(pairs):
    with pytest.raises(xh.errors.FitError, match="blue 0"):
        xh.fit_linear(pairs.where(False))


def test_normalising_one_side_only_is_refused_unless_asked(pairs):
    lopsided = pairs.assign_coords(level_target=("pair", ["NBAR"] * 3))
    with pytest.raises(xh.errors.RadiometryError, match="one sensor of a pair only"):
        xh.fit_linear(lopsided)
    assert xh.fit_linear(lopsided, allow_mixed_levels=True).attrs["target_level"] == "NBAR"


def test_a_fit_on_other_levels_is_refused(pairs):
    source, _ = _cubes()
    with pytest.raises(xh.errors.RadiometryError, match="was made for SR"):
        xh.to_landsat(source.assign_coords(level=("time", ["TOA"] * 3)), xh.fit_linear(pairs))


def test_what_was_made_of_several_levels_needs_a_fit_on_each_of_them():
    source, target = _cubes()
    levels = ("time", ["SR", "NBAR", "NBAR"])
    source, target = (cube.assign_coords(level=levels) for cube in (source, target))
    pairs = xh.match_pairs(source, target, tolerance="1D")
    fit = xh.fit_linear(pairs)
    assert fit.attrs["source_level"] == "NBAR|SR"
    both = source.harmonize.composite("month")
    assert both["level"].values.tolist() == ["NBAR|SR"]
    assert xh.to_landsat(both, fit)["bandpass"].values.tolist() == ["oli"]
    nadir = source[1:].harmonize.composite("month")
    assert xh.to_landsat(nadir, fit)["level"].values.tolist() == ["NBAR"]
    only = xh.fit_linear(pairs.isel(pair=[1, 2]))
    assert xh.to_landsat(nadir, only)["bandpass"].values.tolist() == ["oli"]
    with pytest.raises(xh.errors.RadiometryError, match=r"was made for NBAR .* NBAR\|SR"):
        xh.to_landsat(both, only)


def test_both_sides_of_each_pair_are_of_one_level(pairs):
    mixed = [("pair", ["SR", "NBAR", "SR"]), ("pair", ["SR", "SR", "NBAR"])]
    crossed = pairs.assign_coords(level_source=mixed[0], level_target=mixed[1])
    with pytest.raises(xh.errors.RadiometryError, match="the source is NBAR and the target SR"):
        xh.fit_linear(crossed)
    xh.fit_linear(crossed.assign_coords(level_target=mixed[0]))


def test_multiband_needs_all_its_bands(pairs):
    fit = xh.fit_linear(pairs, method="multiband")
    with pytest.raises(xh.errors.BandError, match="needs band green"):
        xh.to_landsat(_cubes()[0].sel(band=["blue", "red", "nir08"]), fit)


def test_what_is_no_pair_is_refused():
    with pytest.raises(xh.errors.FitError, match="match_pairs"):
        xh.fit_linear(example_cube())


def test_all_bands_of_the_source_may_predict(pairs):
    source, _ = _cubes()
    extra = example_cube(bands=(*BANDS, "swir16"), dates=DATES, seed=9)
    extra = extra.copy(data=np.concatenate([source.values, extra.values[:, 4:]], axis=1))
    fit = xh.fit_linear(pairs, method="multiband", predictors=extra)
    assert list(fit["source_band"].values) == [*BANDS, "swir16"]
    assert list(fit["band"].values) == list(BANDS)
    np.testing.assert_allclose(fit["matrix"].sel(source_band="swir16"), 0, atol=0.01)
    result = xh.to_landsat(extra, fit)
    assert list(result["band"].values) == list(BANDS)
    with pytest.raises(xh.errors.FitError, match="has no observation at"):
        xh.fit_linear(pairs, method="multiband", predictors=extra.isel(time=[0]))


def test_ridge_is_applied(pairs):
    plain, shrunk = (xh.fit_linear(pairs, method="multiband", ridge=r) for r in (0.0, 0.5))
    assert float((shrunk["matrix"] ** 2).sum()) < float((plain["matrix"] ** 2).sum())


def test_companions_of_a_band_made_from_others_are_those_of_all():
    source = example_cube(bands=("red", "nir"), missing=0.0)
    target = example_cube("landsat-c2-l2", platform="landsat-8", bands=("nir08",), missing=0.0)
    pairs = xh.match_pairs(source, target, bands="all")
    flag = xr.zeros_like(source, dtype="uint8")
    flag[:, 0], flag[:, 1] = 1, 2
    dataset = source.to_dataset(name="reflectance").assign(flag=flag)
    result = xh.to_landsat(dataset, xh.fit_linear(pairs, method="multiband"))
    assert result["flag"].dtype == np.uint8
    assert (result["flag"] == 3).all()


def test_a_source_band_that_does_not_vary_has_no_equation():
    source, target = example_cube(missing=0.0), example_cube("landsat-c2-l2", platform="landsat-8")
    source[:, 2] = 0.1
    for method in ("ols", "multiband", "deming"):
        with pytest.raises(xh.errors.FitError, match="does not vary in band red: no line"):
            xh.fit_linear(xh.match_pairs(source, target), method=method)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "theil"}, "method='theil' is unknown"),
        ({"method": "olz"}, "did you mean 'ols'"),
        ({"ridge": 0.1, "method": "deming"}, "ridge=0.1 is for method='ols' and 'multiband'"),
        ({"ridge": -0.1}, "ridge=-0.1 must be 0 or more"),
        ({"neighbours": True}, "neighbours=True is for method='multiband'"),
        ({"scale": "log"}, "scale='log' is for method='multiband'"),
        ({"prior": "identity"}, "needs a ridge"),
        ({"loss": "hubert"}, "loss='hubert' is unknown; did you mean 'huber'"),
        ({"method": "multiband", "ratio": 2.0}, "ratio=2.0 is for method='deming'"),
        ({"method": "deming", "ratio": 0.0}, "must be positive"),
    ],
)
def test_options_without_meaning_are_refused(pairs, options, message):
    with pytest.raises(xh.errors.FitError, match=message):
        xh.fit_linear(pairs, **options)


def _clean(pairs, band=None):
    """Samples finite in all bands as float64: (n, source), (n, target), number of pair (n,)."""
    x, y = (np.moveaxis(pairs[s].values.astype(float), 1, -1) for s in ("source", "target"))
    number = np.broadcast_to(np.arange(len(x))[:, None, None], x.shape[:3])
    ok = np.isfinite(x).all(axis=-1) & np.isfinite(y).all(axis=-1)
    return x[ok], y[ok], number[ok]


def _spoilt(pairs):
    """A tenth of the target's pixels far off, on one side."""
    is_bad = np.random.default_rng(8).random(pairs["target"].shape) < 0.1
    return pairs.assign(target=pairs["target"] + 0.1 * is_bad)


def test_ridge_equals_that_of_scikit_learn(pairs):
    linear_model = pytest.importorskip("sklearn.linear_model")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    x, y, _ = _clean(pairs)
    scaler = preprocessing.StandardScaler().fit(x)
    for prior in ("zero", "identity"):
        fit = xh.fit_linear(pairs, method="multiband", ridge=0.3, prior=prior)
        known = x if prior == "identity" else 0 * x
        model = linear_model.Ridge(alpha=0.3 * len(x)).fit(scaler.transform(x), y - known)
        expected = model.coef_ / scaler.scale_ + (np.eye(4) if prior == "identity" else 0)
        np.testing.assert_allclose(fit["matrix"], expected, atol=1e-8)
    strong = xh.fit_linear(pairs, method="multiband", ridge=1e6, prior="identity")
    np.testing.assert_allclose(strong["matrix"], np.eye(4), atol=1e-4)


def test_ridge_draws_a_band_to_the_one_that_stands_for_it(pairs):
    """Sentinel-2's ``nir`` is what Landsat's ``nir08`` is like, where there is no other."""
    few = pairs.sel(band=["red", "nir08"])
    source = few["source"].assign_coords(band=["red", "nir"]).rename(band="source_band")
    few = few.drop_vars("source").assign(source=source)
    fit = xh.fit_linear(few, method="multiband", ridge=1e6, prior="identity")
    np.testing.assert_allclose(fit["matrix"], np.eye(2), atol=1e-4)


@pytest.mark.parametrize("method", ["ols", "multiband"])
def test_huber_minimises_its_loss(pairs, method):
    """At the deviations found, scipy finds no lower sum of Huber's losses."""
    optimize = pytest.importorskip("scipy.optimize")
    special = pytest.importorskip("scipy.special")
    spoilt = _spoilt(pairs)
    fit = xh.fit_linear(spoilt, method=method, loss="huber")
    if method == "ols":
        spoilt = spoilt.sel(band=["red"])
    x, y, number = _clean(spoilt)
    deviation = fit["deviation"].sel(band="red").values[number]
    wanted = y[:, list(spoilt["band"].values).index("red")]

    def loss(beta):
        return special.huber(deviation, wanted - beta[0] - x @ beta[1:]).sum()

    found = fit["slope" if method == "ols" else "matrix"].sel(band="red").values.ravel()
    ours = np.r_[float(fit["intercept"].sel(band="red")), found]
    best = optimize.minimize(loss, 0.9 * ours, method="BFGS", tol=1e-9)
    assert loss(ours) <= best.fun * (1 + 1e-6)
    residual = np.abs(wanted - ours[0] - x @ ours[1:])
    for k in range(3):
        own = np.median(residual[number == k]) / 0.67449
        assert deviation[number == k][0] == pytest.approx(own, rel=0.004)


def test_huber_resists_what_bends_least_squares(pairs):
    squares, huber = (
        xh.fit_linear(_spoilt(pairs), method="multiband", loss=loss)
        for loss in ("squares", "huber")
    )
    wrong = [float(abs(fit["intercept"] - OFFSET).mean()) for fit in (squares, huber)]
    assert wrong[1] < 0.25 * wrong[0]


EVERYTHING = {
    "method": "multiband",
    "loss": "huber",
    "ridge": 0.01,
    "prior": "identity",
    "weight": "pair",
    "neighbours": True,
}


@pytest.mark.parametrize("scale", first_quick(["linear", "log"]))
def test_a_robust_fit_with_neighbours_does_not_depend_on_chunks(pairs, scale, tmp_path):
    fit = xh.fit_linear(pairs, scale=scale, **EVERYTHING)
    for chunks in ({"pair": 2, "y": 13, "x": 17}, {"band": 1, "y": -1, "x": 29}):
        parts = xh.fit_linear(pairs.chunk(chunks), scale=scale, **EVERYTHING)
        xr.testing.assert_allclose(parts, fit, rtol=0, atol=1e-6)
    source, target = _cubes()
    assert_chunk_invariant(
        lambda cube: xh.to_landsat(cube, fit),
        source,
        chunkings=[{"time": 1, "band": 1, "y": 9, "x": 30}, {"time": -1, "y": 5, "x": 1}],
    )
    result = xh.to_landsat(source, fit)
    error = np.sqrt(np.nanmean((result.values - target.values) ** 2, axis=(0, 2, 3)))
    assert (error < 0.008).all()
    xh.harmonizers.save_model(fit, tmp_path / "fit.nc")
    xr.testing.assert_identical(xh.to_landsat(source, tmp_path / "fit.nc"), result)


def test_neighbours_undo_a_blur():
    """The target is the source sharpened by a 3 x 3 stencil: the fit finds the stencil."""
    source = example_cube(bands=BANDS, dates=DATES, missing=0.0, seed=1)
    ndimage = pytest.importorskip("scipy.ndimage")
    mean = ndimage.uniform_filter(source.values, (0, 0, 3, 3))
    east = np.gradient(source.values, axis=-1)
    values = 1.3 * source.values - 0.3 * mean + 0.2 * east
    target = example_cube(
        "landsat-c2-l2", platform="landsat-8", bands=BANDS, dates=DATES, missing=0.0
    )
    inner = {"x": slice(1, -1), "y": slice(1, -1)}
    target = target.copy(data=values.astype("float32"))
    pairs = xh.match_pairs(source, target.where(target.x.isin(target.x[inner["x"]])))
    fit = xh.fit_linear(pairs, method="multiband", neighbours=True, n_min=100)
    red = fit["matrix"].sel(band="red", source_band="red")
    np.testing.assert_allclose(red.sel(term=["value", "dx"]), [1.3, 0.2], atol=0.02)
    np.testing.assert_allclose(red.sel(term="mean"), -0.3, atol=0.02)
    with pytest.raises(xh.errors.GridError, match=r"pass like= .*neighbours=False"):
        xh.to_landsat(source.harmonize.regrid(resolution=20), fit)


def test_a_logarithmic_fit_recovers_powers_and_leaves_out_what_has_no_logarithm():
    source = example_cube(bands=("red", "nir08"), dates=DATES, missing=0.0, seed=4)
    source = source.clip(0.01)
    target = example_cube(
        "landsat-c2-l2", platform="landsat-8", bands=("red", "nir08"), dates=DATES, missing=0.0
    )
    x = source.values
    target = target.copy(data=np.stack([1.1 * x[:, 0] ** 0.9, 0.9 * x[:, 1] ** 1.1], axis=1))
    fit = xh.fit_linear(xh.match_pairs(source, target), method="multiband", scale="log")
    np.testing.assert_allclose(fit["matrix"], np.diag([0.9, 1.1]), atol=1e-3)
    dark = source.copy()
    dark[0, 0, 0, 0], dark[0, 0, 0, 1] = -0.01, 1e-6
    result = xh.to_landsat(dark, fit).values
    assert np.isnan(result[0, :, 0, 0]).all()
    assert result[0, 0, 0, 1] == pytest.approx(1.1 * float(fit["lowest"][0]) ** 0.9, rel=1e-2)


def test_effects_of_dates_keep_levels_out_of_the_slopes():
    """Ten dates whose level rises as their mean falls: slopes within dates are 0.9."""
    dates = [f"2018-{month:02d}-15T10:50" for month in range(1, 11)]
    source = example_cube(bands=("red",), dates=dates, missing=0.0, seed=2)
    target = example_cube("landsat-c2-l2", platform="landsat-8", bands=("red",), dates=dates)
    source = source + xr.DataArray(np.linspace(0, 0.2, 10), dims="time")
    level = np.linspace(0.08, 0, 10)[:, None, None, None]
    noise = np.random.default_rng(1).normal(0, 0.004, source.shape)
    target = target.copy(data=(0.9 * source.values + level + noise).astype("float32"))
    pairs = xh.match_pairs(source, target)
    for loss in ("squares", "huber"):
        plain, effects = (
            xh.fit_linear(pairs, method="multiband", loss=loss, date_effects=d, n_min=9)
            for d in (False, True)
        )
        wrong = [0.9 - float(fit["matrix"].squeeze()) for fit in (plain, effects)]
        assert abs(wrong[1]) < 0.02 < 0.1 < wrong[0]
        assert float(effects["date_sd"].squeeze()) == pytest.approx(level.std(), rel=0.35)
    few = xh.fit_linear(pairs.isel(pair=slice(0, 7)), method="multiband", date_effects=True)
    assert float(few["date_sd"].squeeze()) == 0
