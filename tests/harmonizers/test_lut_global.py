"""One table per band, fitted in closed form: against dense least squares, and its promises."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import minimize

import xharmonize as xh
from xharmonize.kernels import lut
from xharmonize.testing import example_cube

BANDS = ("red", "nir08")
LIMITS = {"red": (0.0, 0.4), "nir08": (0.0, 0.8)}


@pytest.fixture(scope="module")
def source() -> xr.DataArray:
    cube = example_cube(bands=BANDS, shape=(60, 50))
    values = np.random.default_rng(1).uniform(0.02, 0.35, cube.shape)
    return cube.copy(data=np.where(np.isnan(cube), np.nan, values).astype("float32"))


@pytest.fixture(scope="module")
def target(source) -> xr.DataArray:
    cube = example_cube("landsat-c2-l2", platform="landsat-8", bands=BANDS, shape=(60, 50))
    return cube.copy(data=_truth(source.values).astype("float32"))


def _truth(values):
    return 0.02 + 0.3 * np.sqrt(values)


def test_a_bent_relation_is_found_where_a_line_fails(source, target):
    pairs = xh.match_pairs(source, target)
    fit = xh.fit_lut(pairs, knots=64, limits=LIMITS, smooth=1e-4)
    result = xh.to_landsat(source, fit)
    assert float(abs(result - target.values).max()) < 4e-3
    assert (fit["rmse"] < xh.fit_linear(pairs)["rmse"] / 5).all()
    assert (fit["r2"] > 0.999).all()
    np.testing.assert_array_equal(fit["n"], np.isfinite(source).sum(["time", "y", "x"]))
    np.testing.assert_array_equal(fit["histogram"].sum("bin"), fit["n"])
    direct = float(np.sqrt(((result - target.values) ** 2).mean(["time", "y", "x"]))[0])
    assert float(fit["rmse"][0]) == pytest.approx(direct, abs=1e-6)


def test_chunks_and_schedulers_do_not_matter_at_all(source, target):
    fits = [
        xh.fit_lut(xh.match_pairs(source.chunk(chunks), target.chunk(chunks)), knots=32)
        for chunks in ({"time": 1, "y": 60}, {"time": 3, "band": 1, "y": 7, "x": 11})
    ]
    fits.append(xh.fit_lut(xh.match_pairs(source, target), knots=32))
    for fit in fits[1:]:
        xr.testing.assert_identical(fit, fits[0])


@pytest.mark.parametrize("monotone", [False, True])
def test_it_is_the_optimum(monotone):
    """Against a general optimiser on the loss as it is written, on noisy, decreasing data."""
    random = np.random.default_rng(0)
    x = random.random((1, 400)).astype("float32")
    y = (0.3 + 0.2 * np.sin(7 * x) + random.normal(0, 0.05, x.shape)).astype("float32")
    n, smooth = 9, 0.02
    sums = lut.table_moments(x, y, np.zeros(1), np.ones(1), n)[0] / lut.ONE
    sums[lut.COUNT] *= lut.ONE
    table, rmse, _ = lut.solve_table(sums, smooth, monotone=monotone)
    knots = np.linspace(0, 1, n)

    def loss(w):
        error = np.interp(x[0], knots, w) - y[0]
        return (error**2).mean() + smooth * (np.diff(w, 2) ** 2).sum()

    rising = [{"type": "ineq", "fun": lambda w: np.diff(w)}] if monotone else []
    found = minimize(loss, knots * 0.3, constraints=rising, method="SLSQP", tol=1e-14)
    assert loss(table) <= found.fun + 1e-9
    np.testing.assert_allclose(table, found.x, atol=2e-3)
    assert rmse == pytest.approx(np.sqrt(((np.interp(x[0], knots, table) - y[0]) ** 2).mean()))
    assert (np.diff(table) >= -1e-12).all() or not monotone


def test_knots_without_data_continue_in_a_straight_line(source, target):
    fit = xh.fit_lut(xh.match_pairs(source, target), limits=(0.0, 1.0))
    beyond = fit["table"].sel(band="red").values[-100:]
    assert abs(np.diff(beyond, 2)).max() < 1e-9


def test_tables_are_kept_and_serve_tiles(source, target, tmp_path):
    fit = xh.fit_lut(xh.match_pairs(source, target), knots=64, limits=LIMITS, weight="pair")
    expected = xh.to_landsat(source, fit, flags=True)
    xh.harmonizers.save_model(fit, tmp_path / "lut.zarr")
    np.testing.assert_array_equal(
        xh.to_landsat(source, tmp_path / "lut.zarr"), expected["reflectance"]
    )
    part = source.isel(x=slice(0, 48), y=slice(0, 48))
    tables = xh.harmonizers.fit_tables(part, fit, tile=240)
    np.testing.assert_array_equal(
        xh.to_landsat(part, tables), expected["reflectance"][..., :48, :48]
    )
    assert "fitted on" not in expected["reflectance"].attrs["history"]
    assert "look-up table fit: msi to oli" in expected["reflectance"].attrs["history"]


def test_what_cannot_be_fitted_is_refused(source, target):
    pairs = xh.match_pairs(source, target)
    for options in ({"knots": 1}, {"smooth": 0.0}, {"limits": (1.0, 0.0)}):
        with pytest.raises(xh.errors.FitError, match=r"must|ascend"):
            xh.fit_lut(pairs, **options)
    with pytest.raises(xh.errors.FitError, match="says nothing of band nir08"):
        xh.fit_lut(pairs, limits={"red": (0.0, 1.0)})
    flat = xh.match_pairs(source.where(source.isnull(), 0.2), target)
    with pytest.raises(xh.errors.FitError, match="does not vary in band red, nir08"):
        xh.fit_lut(flat)
    with pytest.raises(xh.errors.FitError, match="too few samples"):
        xh.fit_lut(
            xh.match_pairs(source.isel(y=[0], x=slice(0, 3)), target.isel(y=[0], x=slice(0, 3)))
        )
