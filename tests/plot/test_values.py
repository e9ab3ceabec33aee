"""Results without pixels have a figure, and what a figure cannot draw is told what does."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize import plot
from xharmonize.errors import ContractError, GridError, MetricError, ModelError
from xharmonize.testing import example_cube


@pytest.fixture(scope="module")
def cubes() -> tuple[xr.DataArray, xr.DataArray]:
    cube = example_cube(bands=["red", "nir08"], missing=0.1)
    return cube, cube * 1.1 + 0.01


@pytest.fixture(scope="module")
def courses() -> xr.Dataset:
    """NDVI of two fields on three dates, by two sensors, as `to_xarray` gives."""
    days = pd.to_datetime(["2018-06-01", "2018-06-11", "2018-06-21"])
    values = np.array([[0.2, 0.4, 0.6], [0.8, np.nan, 0.7]])
    return xr.Dataset(
        {"ndvi": (("field", "time"), values)},
        {
            "field": ["a", "b"],
            "time": days,
            "sensor": ("time", ["sentinel-2-l2a", "landsat-c2-l2", "sentinel-2-l2a"]),
            "sd": (("field", "time"), np.full((2, 3), 0.05)),
        },
    )


def test_scores_have_a_panel_each_and_a_mark_for_each_band(cubes):
    scores = xh.score(*cubes, ["rmse", "bias"])
    panels = scores.harmonize.plot.values().axes
    assert [axes.get_title(loc="left") for axes in panels] == ["rmse", "bias"]
    drawn = panels[1].lines[0]
    np.testing.assert_allclose(drawn.get_ydata(), scores["bias"].values)
    assert [text.get_text() for text in panels[1].get_xticklabels()] == ["red", "nir08"]


def test_fits_and_statistics_are_drawn(cubes):
    fit = xh.fit_linear(xh.match_pairs(*cubes))
    names = [axes.get_title(loc="left") for axes in plot.values(fit).axes]
    assert {"slope", "intercept", "rmse"} <= set(names)
    assert len(plot.values(fit, variables="slope").axes) == 1


def test_fields_are_drawn_along_dates_with_a_colour_each(courses):
    (axes,) = plot.values(courses).axes
    assert [line.get_label() for line in axes.lines] == ["a", "b"]
    assert len(axes.lines[1].get_xdata()) == 2  # without the date that is missing


def test_the_series_of_a_field_is_drawn_with_its_spread(courses):
    axes = plot.series(courses.sel(field="a")).axes[0]
    labels = axes.get_legend_handles_labels()[1]
    assert len(labels) == 2
    assert all("date" in label for label in labels)
    with pytest.raises(GridError, match=r"no pixels.*cube\.sel\(field"):
        plot.series(courses)


def test_what_a_figure_cannot_draw_is_told_what_does(cubes, courses):
    cube = cubes[0]
    with pytest.raises(GridError, match=r"plot\.values"):
        plot.maps(courses)
    with pytest.raises(ContractError, match=r"plot\.maps"):
        plot.values(cube)
    with pytest.raises(ModelError, match="look-up tables"):
        plot.tables(cube)
    with pytest.raises(ModelError, match="shifts"):
        plot.shifts(cube)
    with pytest.raises(MetricError, match="no variable 'rmse'"):
        plot.values(courses, variables="rmse")
    for figure in (plot.maps, plot.series, plot.timeline, plot.frequency, plot.values):
        with pytest.raises(ContractError, match="pandas draws tables"):
            figure(pd.DataFrame({"a": [1]}))
