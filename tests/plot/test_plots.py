"""Figures: what they draw, not how it looks."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize import plot, testing
from xharmonize.errors import BandError, ContractError, GridError, ModelError

pytest.importorskip("matplotlib")


@pytest.fixture
def ndvi(cube):
    index = (cube.sel(band="nir08") - cube.sel(band="red")).rename("ndvi")
    index.attrs = {"units": "1", "long_name": "NDVI"}
    keep = {n: cube[n] for n in ("sensor", "platform", "spatial_ref")}
    return index.drop_vars("band", errors="ignore").assign_coords(keep)


def test_maps_have_one_stretch_and_keep_each_grid(cube, tmp_path):
    figure = plot.maps(cube, cube.isel(y=slice(None, 12)) * 3.0, bands="red")
    images = [axes.images[0] for axes in figure.axes if axes.images][:2]
    assert images[0].get_clim() == images[1].get_clim()
    assert images[0].get_extent() == [501360.0, 501660.0, 5629440.0, 5629680.0]
    figure.savefig(tmp_path / "maps.png")
    assert (tmp_path / "maps.png").stat().st_size > 5000


def test_true_colour_uses_the_stretch_given_and_shows_missing(cube):
    figure = plot.maps(cube, stretch=(0.0, 0.2))
    picture = figure.axes[0].images[0].get_array()
    red = cube.isel(time=0).sel(band="red").values
    np.testing.assert_allclose(picture[..., 0], np.clip(np.nan_to_num(red) / 0.2, 0, 1), atol=1e-6)
    np.testing.assert_array_equal(picture[..., 3] == 0, np.isnan(red))


def test_maps_take_the_nearest_date(cube):
    figure = plot.maps(cube, time="2018-07-10", titles=["here"])
    assert figure.axes[0].get_title() == "here\n2018-07-11"


def test_ascending_rows_stay_upright(cube):
    up, down = plot.maps(cube.sortby("y"), cube, bands="red").axes[:2]
    assert up.images[0].get_extent() == down.images[0].get_extent()
    np.testing.assert_array_equal(up.images[0].get_array(), down.images[0].get_array())
    assert list(up.get_ylim()) == sorted(up.get_ylim())


def test_a_large_map_is_thinned_out_not_read_whole(monkeypatch, cube):
    monkeypatch.setattr("xharmonize.plot.images.MOST_PIXELS", 12)
    image = plot.maps(cube, bands="red").axes[0].images[0]
    expected = cube.isel(time=0).sel(band="red")[::2, ::3]
    np.testing.assert_array_equal(image.get_array().filled(np.nan), expected)


def test_maps_name_what_is_missing(cube):
    with pytest.raises(BandError, match="needs band swir99"):
        plot.maps(cube, bands="swir99")
    with pytest.raises(ContractError, match="one band or three"):
        plot.maps(cube, bands=["red", "blue"])
    with pytest.raises(ContractError, match="no cube"):
        plot.maps()


def test_series_shows_each_sensor_with_its_number_of_dates(ndvi):
    other = ndvi.assign_coords(
        time=ndvi["time"] + np.timedelta64(2, "D"),
        sensor=("time", np.full(3, "landsat-c2-l2")),
    )
    both = xr.concat([ndvi, other], "time").sortby("time")
    figure = plot.series(both)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert sorted(label.rsplit("(", 1)[1] for label in labels) == ["3 dates)", "3 dates)"]
    assert figure.axes[0].get_ylabel() == "NDVI"


def test_series_says_which_band_it_is_of(cube):
    first = str(cube["band"].values[0])
    assert plot.series(cube).axes[0].get_ylabel().startswith(f"{first} ")
    assert plot.series(cube, band="red").axes[0].get_ylabel().startswith("red ")


def test_series_of_a_point_is_that_pixel(ndvi):
    figure = plot.series(ndvi, x=float(ndvi.x[3]), y=float(ndvi.y[5]))
    drawn = figure.axes[0].lines[0].get_ydata()
    expected = ndvi.isel(x=3, y=5).values
    np.testing.assert_allclose(drawn, expected[np.isfinite(expected)])


def test_series_of_a_field_needs_half_its_pixels(ndvi):
    field = xr.zeros_like(ndvi.isel(time=0, drop=True), dtype=bool)
    field[2:6, 2:6] = True
    cloudy = ndvi.where((ndvi.time != ndvi.time[1]) | (ndvi.y > float(ndvi.y[3])))
    drawn = plot.series(cloudy, field=field).axes[0].lines[0].get_ydata()
    assert len(drawn) == 2


def test_series_refuses_half_a_place(ndvi):
    with pytest.raises(GridError, match="point"):
        plot.series(ndvi, x=1.0)
    empty = xr.zeros_like(ndvi.isel(time=0, drop=True), dtype=bool)
    with pytest.raises(GridError, match="no pixel"):
        plot.series(ndvi, field=empty)


def test_timeline_has_a_row_for_each_platform_and_computes_nothing(cube, no_compute):
    landsat = testing.example_cube("landsat-c2-l2", platform="landsat-9")
    with no_compute():
        figure = plot.timeline(cube, landsat)
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["sentinel-2a  (3)", "landsat-9  (3)"]


def test_a_cube_that_lost_its_sensors_is_refused(cube):
    with pytest.raises(ContractError, match="which sensor"):
        plot.timeline(cube.drop_vars("sensor"))


def test_a_point_outside_the_cube_is_refused(ndvi):
    inside = {"x": float(ndvi["x"][-1]) + 4, "y": float(ndvi["y"][0])}
    plot.series(ndvi, **inside)
    with pytest.raises(GridError, match="lies outside the cube"):
        plot.series(ndvi, **inside | {"x": inside["x"] + 2})


def test_tables_are_drawn_for_each_band_where_values_lie(cube):
    landsat = testing.example_cube("landsat-c2-l2", platform="landsat-8")
    model = xh.harmonizers.fit_histogram(landsat, bins=64)
    fit = xh.harmonizers.fit_tables(cube.isel(y=slice(0, 24), x=slice(0, 24)), model, tile=120)
    figure = plot.tables(fit, title="tiles")
    drawn = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in drawn] == list(cube["band"].values)
    left, right = drawn[0].get_xlim()
    assert 0 <= left < float(cube.isel(band=0).min()) + 0.02
    assert right < 0.5
    assert len(drawn[0].collections[0].get_paths()) == 3 * 2 * 2
    with pytest.raises(ModelError, match="no look-up tables"):
        plot.tables(model)
