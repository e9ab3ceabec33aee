"""One date per period."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.cube.contract import require_contract
from xharmonize.series.composite import find_periods
from xharmonize.testing import assert_chunk_invariant, example_cube

DATES = [f"2018-07-{day:02}T10:50" for day in (1, 3, 6, 8, 9, 12, 16, 27)]
HOWS = ("median", "mean", "max_ndvi", "medoid", "nearest")


def make_cube(missing=0.3, **kwargs):
    cube = example_cube(dates=DATES, missing=missing, shape=(8, 9), **kwargs).to_dataset()
    cube["origin"] = cube["reflectance"].notnull().astype("uint8")
    cube["origin"][1::2] *= np.uint8(2)
    cube["uncertainty"] = xr.full_like(cube["reflectance"], 0.02)
    cube["qa"] = xr.zeros_like(cube["reflectance"][:, 0].drop_vars("band"), dtype="uint16")
    cube["qa"][:] = (1 << np.arange(8)).astype("uint16")[:, None, None]
    return cube


def days(*dates):
    return np.array(dates, "datetime64[D]").astype(int)


@pytest.mark.parametrize("how", HOWS)
def test_results_do_not_depend_on_chunks(how):
    assert_chunk_invariant(
        lambda cube: cube.harmonize.composite("10D", method=how),
        make_cube(),
        chunkings=[{"time": 3, "band": 2, "y": 3}, {"time": 1, "x": 4}],
        atol=1e-6,
    )


@pytest.mark.parametrize("how", HOWS)
def test_a_period_of_one_date_is_that_date(how):
    cube = make_cube()
    made = cube.harmonize.composite("10D", method=how)
    own = cube["reflectance"][-1].where(
        cube["reflectance"][-1].notnull().all("band") | (how in ("mean", "median", "max_ndvi"))
    )
    np.testing.assert_allclose(made["reflectance"][-1], own, atol=1e-7)
    assert set(np.unique(made["origin"][-1])) <= {0, 2}


def test_periods_are_there_even_if_empty_and_the_contract_holds():
    cube = make_cube().isel(time=[0, 1, 7])
    made = cube.harmonize.composite("10D")
    starts = made["period_start"].values.astype("M8[D]").astype(str).tolist()
    assert starts == ["2018-06-30", "2018-07-10", "2018-07-20"]  # 180, 190, 200 days after New Year
    assert made["reflectance"][1].isnull().all()
    assert not made["origin"][1].any()
    assert made["sensor"].values.tolist() == ["sentinel-2-l2a", "unknown", "sentinel-2-l2a"]
    require_contract(made["reflectance"])
    assert made["item_id"].values[0] == "composite-2018-07-04"
    assert "composite: median of every 10D" in made["reflectance"].attrs["history"]
    assert made["reflectance"].dtype == np.float32


def test_periods_begin_anew_each_year_and_know_leap_years():
    found = find_periods(days("2016-12-20", "2017-01-03"), "10D")
    spans = [(p.first, p.last) for p in found]
    expected = days(
        "2016-12-16", "2016-12-25", "2016-12-26", "2016-12-31", "2017-01-01", "2017-01-10"
    )
    assert np.ravel(spans).tolist() == expected.tolist()
    (last,) = find_periods(days("2016-12-31"), "5D")
    assert (last.first, last.last) == tuple(days("2016-12-31", "2016-12-31"))  # day 366
    february = find_periods(days("2016-02-29"), "month")[0]
    assert (february.first, february.last) == tuple(days("2016-02-01", "2016-02-29"))
    dekad = find_periods(days("2016-02-29"), "dekad")[0]
    assert (dekad.first, dekad.last) == tuple(days("2016-02-21", "2016-02-29"))


def test_statistics_are_those_of_the_valid_values():
    cube = make_cube()
    made = cube.harmonize.composite("month")
    np.testing.assert_allclose(
        made["reflectance"][0], cube["reflectance"].median("time"), atol=1e-6
    )
    mean = cube.harmonize.composite("month", method="mean")
    np.testing.assert_allclose(mean["reflectance"][0], cube["reflectance"].mean("time"), atol=1e-6)
    n = cube["reflectance"].notnull().sum("time")
    np.testing.assert_allclose(mean["uncertainty"][0], 0.02 / np.sqrt(n.where(n > 0)), rtol=1e-5)
    ratio = made["uncertainty"][0] / mean["uncertainty"][0]
    np.testing.assert_allclose(ratio.where(n > 2), np.where(n > 2, np.sqrt(np.pi / 2), np.nan))
    seen = cube["reflectance"].notnull().any("band")
    expected = (seen * cube["qa"]).sum("time").where(seen.any("time"), 255)
    np.testing.assert_array_equal(made["qa"][0], expected)


@pytest.mark.parametrize("how", ["median", "mean", "max", "nearest"])
def test_infinite_values_are_missing(how):
    ndvi = make_cube()["reflectance"].isel(band=3, drop=True).rename("ndvi")
    odd = ndvi.where(ndvi["x"] != ndvi["x"][2], np.inf).where(ndvi["y"] != ndvi["y"][1], -np.inf)
    expected = ndvi.where(np.isfinite(odd)).harmonize.composite("10D", method=how)
    xr.testing.assert_allclose(odd.harmonize.composite("10D", method=how), expected)


def test_a_chosen_look_is_whole():
    cube = make_cube()
    ndvi = xh.index(cube["reflectance"], "ndvi")
    for how in ("max_ndvi", "medoid", "nearest"):
        made = cube.harmonize.composite("month", method=how)
        chosen = np.log2(made["qa"][0].values).astype(int)
        expected = np.take_along_axis(cube["reflectance"].values, chosen[None, None], axis=0)[0]
        np.testing.assert_array_equal(made["reflectance"][0], expected)
        if how == "max_ndvi":
            np.testing.assert_array_equal(chosen, ndvi.fillna(-9).argmax("time"))
        if how == "nearest":  # the 16th is the middle of July
            valid = cube["reflectance"].notnull().all("band")[6]
            assert (chosen == 6)[valid.values].all()


@pytest.mark.parametrize(
    ("red", "nir"), [(-0.02, 0.03), (0.0, 0.3), (0.03, -0.001), (0.002, 0.003), (np.inf, 0.3)]
)
@pytest.mark.parametrize("chunks", [None, {"time": 1, "y": 3}], ids=["numpy", "dask"])
def test_where_the_ndvi_is_undefined_a_look_is_never_chosen(red, nir, chunks):
    cube = make_cube(missing=0.0, bands=["blue", "red", "nir08"])["reflectance"].isel(time=[0, 1])
    cube[1, 1:] = np.array([red, nir], np.float32)[:, None, None]
    cube = cube if chunks is None else cube.chunk(chunks)
    made = cube.harmonize.composite("month", method="max_ndvi")
    np.testing.assert_array_equal(made[0], cube[0])
    assert cube[1:].harmonize.composite("month", method="max_ndvi").isnull().all()


def test_the_medoid_is_the_look_nearest_to_all_others():
    cube = make_cube(missing=0.0)["reflectance"]
    made = cube.harmonize.composite("month", method="medoid")
    values = cube.values.astype(float)
    apart = np.sqrt(((values[:, None] - values[None]) ** 2).sum(axis=2)).sum(axis=1)
    expected = np.take_along_axis(cube.values, apart.argmin(axis=0)[None, None], axis=0)
    np.testing.assert_array_equal(made, expected)


def test_an_index_takes_max_and_bands_do_not():
    cube = make_cube()["reflectance"]
    ndvi = xh.index(cube, "ndvi")
    made = xh.series.composite(ndvi, "month", method="max")
    np.testing.assert_array_equal(made[0], ndvi.max("time"))
    assert made.name == "ndvi"
    with pytest.raises(xh.errors.BandError, match="chooses by one value"):
        xh.series.composite(cube, method="max")
    with pytest.raises(xh.errors.BandError, match="needs bands red"):
        xh.series.composite(cube.sel(band=["blue", "green"]), method="max_ndvi")


def test_unsorted_and_duplicate_dates_are_taken_as_they_come():
    cube = make_cube()
    mixed = cube.isel(time=[5, 0, 0, 3, 1, 7, 2, 6, 4])
    twice = cube.isel(time=[0, 0, 1, 2, 3, 4, 5, 6, 7])
    xr.testing.assert_allclose(mixed.harmonize.composite(), twice.harmonize.composite())


@pytest.mark.parametrize("period", ["10.5D", "0D", "367D", "1e1D", "-5D", "²D", "week", ""])
def test_unknown_periods_are_refused(period):
    with pytest.raises(xh.errors.OptionError, match="10, up to 366, or 'dekad', 'month' or 'year'"):
        xh.series.composite(make_cube(), period)


def test_other_bad_input_is_refused():
    cube = make_cube()
    with pytest.raises(xh.errors.OptionError, match="method='best'"):
        xh.series.composite(cube, method="best")
    mixed = cube.assign_coords(bandpass=("time", ["msi", "oli"] * 4))
    with pytest.raises(xh.errors.ModelError, match="bandpasses"):
        xh.series.composite(mixed)
    with pytest.raises(xh.errors.RadiometryError, match="digital numbers"):
        xh.series.composite(example_cube(is_decoded=False))
    empty = xr.full_like(cube["reflectance"], np.nan)
    assert xh.series.composite(empty, method="medoid").isnull().all()
