"""Maps of results: every variable, dates as dates."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.testing import example_cube


@pytest.fixture(scope="module")
def seasons() -> xr.Dataset:
    dates = pd.date_range("2018-01-02T10:50", "2019-12-28", freq="5D")
    cube = example_cube(dates=[str(d) for d in dates], shape=(12, 12), missing=0.0)
    values = cube.harmonize.index("ndvi")
    day = values["time"].dt.dayofyear.values[:, None] - np.arange(12.0)
    course = (0.2 + 0.5 * np.exp(-(((day - 190) / 40) ** 2)))[:, None]
    course[..., -1] = 0.2
    whole = np.broadcast_to(course, values.shape).astype("float32")
    return xh.series.phenology(values.copy(data=whole))


def titles(figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_a_flag_is_drawn_by_its_meanings_not_on_a_scale(seasons):
    figure = seasons.harmonize.plot.maps()
    figure.canvas.draw()
    bar = next(
        axes for axes in figure.axes if axes.get_ylabel() == "which side of the season is cut off"
    )
    assert [text.get_text() for text in bar.get_yticklabels()] == ["none", "start", "end", "both"]
    picture = next(axes for axes in figure.axes if axes.get_title() == "cut, 2018").images[0]
    assert picture.cmap.N == 4
    drawn = picture.get_array()
    np.testing.assert_array_equal(drawn, seasons["cut"].sel(year=2018))


def test_every_variable_and_year_has_a_map(seasons):
    figure = seasons.chunk({"y": 5}).harmonize.plot.maps()
    assert titles(figure) == [
        f"{name}, {year}" for name in seasons.data_vars for year in (2018, 2019)
    ]
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert "end minus start [days]" in labels
    figure.canvas.draw()
    bar = next(axes for axes in figure.axes if axes.get_label() == "<colorbar>")
    assert any(text.get_text() for text in bar.get_yticklabels())
    start = next(axes for axes in figure.axes if axes.get_title() == "start, 2018").images[0]
    shown = start.get_array()
    expected = seasons["start"].sel(year=2018).values.astype("datetime64[D]").astype(float)
    np.testing.assert_array_equal(shown.compressed(), expected[:, :-1].ravel())
    assert shown.mask[:, -1].all()


def test_one_variable_fits_and_counts(seasons):
    assert titles(xh.plot.maps(seasons["peak"].sel(year=2018))) == ["peak"]
    cube = example_cube(bands=["red", "nir08"], dates=[f"2018-07-{d:02}" for d in range(1, 28, 2)])
    fit = xh.fit_pixelwise(xh.match_pairs(cube, cube))
    assert "slope, red" in titles(xh.plot.maps(fit))
    assert titles(xh.plot.maps(fit[["slope", "n"]], bands="red", titles=["fit"])) == [
        "fit\nslope, red",
        "fit\nn, red",
    ]
    counts = titles(xh.plot.maps(xh.series.frequency(cube)))
    assert "revisit, all" in counts
    both = xr.Dataset({"a": cube.isel(band=0, drop=True), "b": cube.isel(band=1, drop=True)})
    assert titles(xh.plot.maps(both, time="2018-07-09")) == ["a", "b"]


def test_values_that_options_cannot_have():
    cube = example_cube()
    for stretch in ("linear", (1, 2, 3), (0.2, 0.1), 3):
        with pytest.raises(xh.errors.OptionError, match="stretch="):
            xh.plot.maps(cube, stretch=stretch)
    for time in (9, "July", "2018-13-01"):
        with pytest.raises(xh.errors.TimeAxisError, match="time="):
            xh.plot.maps(cube, time=time)
        with pytest.raises(xh.errors.TimeAxisError, match="time="):
            xh.plot.errors(cube, cube, time=time)
    with pytest.raises(xh.errors.GridError, match="y and x"):
        xh.plot.maps(cube.mean(["y", "x"]))


def test_shifts_are_drawn_by_platform_and_orbit():
    fit = xr.Dataset(
        {
            "shift_x": ("time", [1.0, 2.0, 3.0]),
            "shift_y": ("time", [0.5, -1.0, 0.0]),
            "shift_se": ("time", [0.2, 0.3, 0.2]),
        },
        {"time": [0, 1, 2], "group": ("time", ["sentinel-2a/3", "sentinel-2b/8", "sentinel-2a/3"])},
    )
    figure = xh.plot.shifts(fit, title="July")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "shift to the east [m]"
    assert [text.get_text() for text in axes.get_legend().texts] == [
        "sentinel-2a/3",
        "sentinel-2b/8",
    ]
    with pytest.raises(xh.errors.ModelError, match="holds no shifts"):
        xh.plot.shifts(fit[["shift_se"]])
