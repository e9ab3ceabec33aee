"""Figures that compare a prediction with a reference: what they draw."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize import plot
from xharmonize.errors import BandError, ContractError, MetricError, TimeAxisError
from xharmonize.plot.scatter import count_cells

pytest.importorskip("matplotlib")


@pytest.fixture
def pair(cube):
    return (cube * np.float32(0.9) + np.float32(0.01)).assign_attrs(cube.attrs), cube


def panels(figure):
    return [axes for axes in figure.axes if axes.get_visible() and axes.images]


def test_scatter_shows_the_least_squares_line_and_the_scores(pair):
    pred, ref = pair
    figure = plot.scatter(pred, ref, title="both")
    drawn = panels(figure)
    assert [axes.get_title(loc="left") for axes in drawn] == list(ref["band"].values)
    scores = xh.score(pred, ref, ["rmse", "r2", "n"]).sel(band="red").compute()
    text = drawn[2].texts[0].get_text()
    assert f"n = {int(scores['n']):,}" in text
    assert f"RMSE {float(scores['rmse']):.4f}" in text
    assert f"R² {float(scores['r2']):.3f}" in text
    # y = 0.9 x + 0.01 the other way round
    assert "y = 1.111 x − 0.0111" in text
    ends = np.array(drawn[2].get_xlim())
    np.testing.assert_allclose(drawn[2].lines[1].get_ydata(), (ends - 0.01) / 0.9, atol=1e-4)
    assert drawn[0].get_ylabel().startswith("reference: ")
    assert "[" not in drawn[0].get_ylabel()
    assert drawn[-1].get_xlabel() == "prediction"


def test_scatter_counts_the_pixels_of_its_limits(pair):
    pred, ref = pair
    figure = plot.scatter(pred, ref, bands="red", limits=(0.0, 1.0), bins=10)
    (axes,) = panels(figure)
    one, other = (c.sel(band="red").values.ravel() for c in (pred, ref))
    seen = np.isfinite(one)
    expected = np.histogram2d(one[seen], other[seen], bins=10, range=[(0, 1), (0, 1)])[0]
    np.testing.assert_array_equal(axes.images[0].get_array().filled(0), expected.T)


def test_counts_do_not_depend_on_chunks():
    random = np.random.default_rng(1)
    values = random.random((2, 5, 13, 17)).astype("float32")
    values[values > 0.95] = np.nan
    ends = np.array([[0.0, 0.9], [0.2, 1.0]])
    whole = xr.DataArray(values, dims=("band", "time", "y", "x"))
    expected = count_cells(whole, whole**2, ends, 7)
    cut = whole.chunk({"band": 1, "time": 2, "y": 5, "x": 6})
    assert isinstance(cut.data, da.Array)
    np.testing.assert_array_equal(count_cells(cut, cut**2, ends, 7), expected)


def test_scatter_of_an_index_has_one_panel(cube):
    ndvi = xh.index(cube, "ndvi")
    (axes,) = panels(plot.scatter(ndvi, ndvi + np.float32(0)))
    assert axes.get_title(loc="left") == "NDVI"
    assert "RMSE 0.0000" in axes.texts[0].get_text()


@pytest.mark.parametrize("options", [{"bins": 1}, {"limits": (1.0, 0.0)}])
def test_scatter_refuses_what_makes_no_sense(cube, options):
    with pytest.raises(MetricError, match="at least 2 cells"):
        plot.scatter(cube, cube, **options)


def test_no_common_pixel_is_said(cube):
    empty = cube.where(cube > 9)
    for draw in (plot.scatter, plot.errors):
        with pytest.raises(MetricError, match="no pixel has both"):
            draw(empty, cube)


def test_errors_have_one_scale_about_zero(pair):
    pred, ref = pair
    figure = plot.errors(pred, ref, time="2018-07-10", bands=["red", "nir08"])
    drawn = panels(figure)
    limits = {axes.images[0].get_clim() for axes in drawn}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == -high
    expected = (pred - ref).isel(time=2).sel(band="nir08").values
    np.testing.assert_allclose(drawn[1].images[0].get_array().filled(np.nan), expected, atol=1e-7)
    label = figure.axes[-1].get_ylabel()
    assert "prediction − reference" in label
    assert label.endswith("\n2018-07-11")
    assert "[" not in label
    bias = float(np.nanmean(expected))
    assert f"bias {bias:+.4f}" in drawn[1].get_title(loc="left")


def test_errors_are_the_mean_over_dates_where_none_is_named(pair):
    pred, ref = pair
    figure = plot.errors(pred, ref, bands="red", limit=0.05)
    (axes,) = panels(figure)
    assert axes.images[0].get_clim() == (-0.05, 0.05)
    expected = (pred - ref).sel(band="red").mean("time")
    np.testing.assert_allclose(axes.images[0].get_array().filled(np.nan), expected, atol=1e-7)
    assert "mean over 3 dates" in figure.axes[-1].get_ylabel()


def test_errors_of_pairs_are_chosen_by_the_date_of_the_target(cube):
    later = cube.assign_coords(time=cube["time"] + np.timedelta64(1, "D"))
    pairs = xh.match_pairs(cube, later)
    figure = plot.errors(pairs["source"], pairs["target"], time="2018-07-12", bands="red")
    assert figure.axes[-1].get_ylabel().endswith("2018-07-12")


def test_errors_name_what_is_wrong(pair):
    with pytest.raises(TimeAxisError, match="3 dates in common"):
        plot.errors(*pair, time=3)
    with pytest.raises(MetricError, match="limit=0"):
        plot.errors(*pair, limit=0)
    with pytest.raises(BandError, match="swir99"):
        plot.errors(*pair, bands="swir99")


def test_the_three_stages_are_those_of_the_table(cube):
    red = [0.04, 0.0401, 0.12, 0.2, 0.2001, 0.5]
    values = np.full((1, 3, 1, 6), 0.05, "float32")
    values[0, 0, 0], values[0, 1, 0, 2] = red, 0.06
    picture = cube.isel(time=[0], y=[0], x=slice(6)).sel(band=["red", "green", "blue"])
    figure = plot.maps(picture.copy(data=values), stretch="three-stage")
    drawn = np.round(figure.axes[0].images[0].get_array()[0] * 255)
    np.testing.assert_array_equal(drawn[:, 0], [0, 1, 127, 254, 255, 255])
    np.testing.assert_array_equal(drawn[:, 1:3], 0)
    assert "black to 0.04, 0.06, 0.08" in figure.get_supxlabel()
    with pytest.raises(ContractError, match="three-stage"):
        plot.maps(cube, bands=["nir08", "red", "green"], stretch="three-stage")


def test_a_map_without_title_is_named_after_its_sensor(cube):
    title = plot.maps(cube, bands="red").axes[0].get_title()
    assert title == "Sentinel-2 MSI Level-2A surface reflectance\n2018-07-01"
    nobody = cube.assign_coords(sensor=("time", ["unknown"] * cube.sizes["time"]))
    assert plot.maps(nobody, bands="red").axes[0].get_title() == "2018-07-01"
    smoothed = xh.series.smooth(cube, step="1D", max_gap="20D")
    assert plot.maps(smoothed, bands="red").axes[0].get_title() == "Smoothed\n2018-07-01"
