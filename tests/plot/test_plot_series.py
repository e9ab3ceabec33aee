"""Figures of series, of dates, and of trainings: what they draw."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize import plot, testing
from xharmonize.errors import MetricError, TimeAxisError

pytest.importorskip("matplotlib")


@pytest.fixture
def dense(cube):
    landsat = testing.example_cube("landsat-c2-l2", platform="landsat-8", resolution=10.0)
    landsat = landsat.assign_coords(time=landsat["time"] + np.timedelta64(2, "D"))
    return xh.index(xh.densify(landsat, xh.to_landsat(cube, "hls-v2")), "ndvi")


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_a_series_tells_observed_from_harmonised(dense):
    (axes,) = plot.series(dense, x=float(dense.x[3]), y=float(dense.y[5])).axes
    labels = legend(axes)
    assert len(labels) == 2
    assert any("Landsat" in label and "observed (" in label for label in labels)
    assert any("Sentinel-2" in label and "harmonised (" in label for label in labels)
    faces = {line.get_markerfacecolor() for line in axes.lines[1:]}
    assert "white" in faces


def test_filled_values_are_marked(dense):
    filled = dense.assign(origin=xr.full_like(dense["origin"], 4))
    (axes,) = plot.series(filled).axes
    assert all("filled" in label for label in legend(axes))


def test_a_point_has_bars_of_its_uncertainty(dense):
    known = dense.assign(uncertainty=xr.full_like(dense["ndvi"], 0.03))
    (axes,) = plot.series(known, x=float(dense.x[3]), y=float(dense.y[5])).axes
    assert axes.get_title(loc="right") == "bars: one standard deviation"
    segments = axes.collections[0].get_segments()
    np.testing.assert_allclose([s[1, 1] - s[0, 1] for s in segments], 0.06, atol=1e-6)


def test_the_smoothed_course_has_a_band(dense):
    smoothed = xh.series.smooth(dense, step="1D", uncertainty=True)
    (axes,) = plot.series(dense, x=float(dense.x[3]), y=float(dense.y[5]), smoothed=smoothed).axes
    assert {"smoothed", "± one standard deviation"} <= set(legend(axes))


def test_pixels_that_come_and_go_make_no_step_in_the_smoothed_mean(dense):
    smoothed = xh.series.smooth(dense["ndvi"], step="1D").compute()
    smoothed[:] = 0.4
    smoothed[:, :, -1] = np.nan
    smoothed[5, :, -1] = 0.9  # a column that one sensor alone sees, on one day
    (axes,) = plot.series(dense, smoothed=smoothed).axes
    line = next(line for line in axes.lines if line.get_label() == "smoothed")
    np.testing.assert_allclose(line.get_ydata(), 0.4, atol=1e-6)


def test_frequency_draws_the_counts_of_each_sensor(dense):
    figure = plot.frequency(dense)
    counts = xh.series.frequency(dense).compute()
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[-1] == "all sensors"
    assert len(titles) == counts.sizes["sensor"]
    for axes, sensor in zip(figure.axes, counts["sensor"].values):
        heights = [bar.get_height() for bar in axes.patches]
        assert heights == counts["scenes"].sel(sensor=sensor).values.T.ravel().tolist()
        assert axes.get_ylabel() == "days"
    assert [text.get_text() for text in figure.axes[-1].texts] == ["2.0"]
    again = plot.frequency(counts, reference="sentinel-2-l2a")
    assert "sentinel-2-l2a" in again.axes[-1].get_xlabel()


def test_frequency_of_one_sensor_has_one_row(cube):
    assert len(plot.frequency(cube).axes) == 1
    with pytest.raises(TimeAxisError, match="landsat"):
        plot.frequency(cube, reference="landsat")


@pytest.fixture
def losses():
    epochs = np.arange(1, 6)
    return pd.DataFrame(
        {
            "epoch": epochs,
            "generator": 5.0 / epochs,
            "discriminator": 0.7,
            "validation_rmse": [0.05, 0.04, 0.03, 0.035, np.nan],
        }
    )


def test_training_draws_losses_and_each_metric(losses, tmp_path):
    losses.to_csv(tmp_path / "losses.csv", index=False)
    sources = [
        losses,
        tmp_path / "losses.csv",
        xr.Dataset.from_dataframe(losses.set_index("epoch")),
    ]
    for source in sources:
        figure = plot.training(source)
        upper, lower = figure.axes
        assert legend(upper) == ["generator", "discriminator"]
        np.testing.assert_allclose(upper.lines[0].get_ydata(), losses["generator"])
        assert lower.get_ylabel() == "rmse\n(validation)"
        assert lower.get_title(loc="right") == "best 0.03, epoch 3"
        assert lower.get_xlabel() == "epoch"


def test_the_log_of_a_training_is_drawn_by_step(tmp_path):
    """A line of the log has losses, or a score of the validation, as `xharmonize.train` writes."""
    lines = [
        {"step": 0, "validation": 12.0, "is_best": True},
        {"step": 10, "epoch": 1, "generator: l1": 0.4, "seconds": 0.1},
        {"step": 20, "epoch": 1, "generator: l1": 0.3, "seconds": 0.1},
        {"step": 20, "validation": 9.0, "is_best": True},
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for given in (path, pd.DataFrame(lines)):
        losses, score = xh.plot.training(given).axes
        np.testing.assert_allclose(losses.lines[0].get_xydata(), [[10, 0.4], [20, 0.3]])
        np.testing.assert_array_equal(score.lines[0].get_xydata(), [[0, 12], [20, 9]])
        assert score.get_xlabel() == "step"
        assert score.get_ylabel().startswith("relative error [%]")
        assert score.get_title(loc="right") == "best 9, step 20"


def test_where_the_time_of_steps_went_is_drawn_below(tmp_path):
    lines = [
        {
            "step": step,
            "generator: l1": 0.4,
            "seconds": 0.1,
            "seconds_data": 0.01,
            "seconds_ranks": 0.03,
        }
        for step in (10, 20)
    ]
    lines.insert(1, {"step": 15, "validation": 9.0, "is_best": True})
    losses, _, time = plot.training(pd.DataFrame(lines)).axes
    assert legend(losses) == ["generator: l1"]
    assert time.get_ylabel() == "time of a step [ms]"
    assert legend(time) == ["computing", "waiting for ranks", "waiting for samples"]
    tops = [part.get_paths()[0].vertices[:, 1].max() for part in time.collections]
    np.testing.assert_allclose(tops, [60, 90, 100])
    assert time.get_xlabel() == "step"


def test_ranks_of_one_epoch_count_with_their_mean(losses):
    both = pd.concat([losses, losses.assign(generator=losses["generator"] + 2)])
    drawn = plot.training(both).axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(drawn, losses["generator"] + 1)


def test_a_table_without_numbers_is_refused():
    with pytest.raises(MetricError, match="no column of numbers"):
        plot.training(pd.DataFrame({"epoch": [1], "note": ["a"]}))


# `samples` takes a model and pairs, and no cube.
FIGURES = [name for name in plot.__all__ if name not in ("PlotMethods", "samples")]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_a_method_that_takes_the_same(name):
    function, method = getattr(plot, name), getattr(plot.PlotMethods, name)
    taken = list(inspect.signature(function).parameters.values())
    is_any_number = taken[0].kind is inspect.Parameter.VAR_POSITIONAL
    own = list(inspect.signature(method).parameters.values())[1:]
    assert own == (taken if is_any_number else taken[1:])


def test_figures_are_reached_from_a_cube(cube):
    assert len(cube.harmonize.plot.maps(cube, bands="red").axes) == 3
    assert cube.to_dataset(name="reflectance").harmonize.plot.timeline(title="t").axes
