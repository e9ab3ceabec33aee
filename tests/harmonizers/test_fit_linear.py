"""Lines and matrices fitted on pairs, saved, opened and applied."""

import numpy as np
import pytest
import xarray as xr

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
        ({"ridge": 0.1}, "ridge=0.1 is for method='multiband'"),
        ({"method": "multiband", "ratio": 2.0}, "ratio=2.0 is for method='deming'"),
        ({"method": "deming", "ratio": 0.0}, "must be positive"),
    ],
)
def test_options_without_meaning_are_refused(pairs, options, message):
    with pytest.raises(xh.errors.FitError, match=message):
        xh.fit_linear(pairs, **options)
