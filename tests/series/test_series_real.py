"""Dense series on real observations, through the benchmark of the same name."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.benchmarks import import_benchmark

import xharmonize as xh

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def real():
    return import_benchmark("series_real")


@pytest.mark.slow
def test_the_step_between_sensors_is_measured_and_shrinks(real, data):
    table = real.steps(data)
    step, error = table["step in the series"].abs(), table["± one standard error"]
    assert (table["dates"] >= 6).all()
    assert step["lines, least squares"] < step["hls-v2"] < step["as delivered"] < 0.02
    assert error["lines, least squares"] < error["as delivered"]
    unseen = table["unseen pairs, RMS"]
    assert unseen["lines, least squares"] < unseen["hls-v2"] < unseen["as delivered"]
    fields = table["fields, RMS of step"]
    assert fields["lines, least squares"] < 0.8 * fields["as delivered"]


@pytest.mark.slow
def test_smoothing_recovers_withheld_observations_and_gaps(real, data, monkeypatch):
    monkeypatch.setattr(real, "METHODS", {"whittaker": xh.series.Whittaker()})
    ratios = {name: table["ratio"].item() for name, table in real.withheld(data).items()}
    assert ratios["flanders-2018, single dates"] < 0.99
    assert ratios["flanders-2018, gaps of 30 days"] < 0.98
    assert ratios["ndvi_slovenia, gaps of 30 days"] < 0.96
    assert ratios["ndvi_slovenia, single dates"] < 1.04  # straight lines are a little better here


@pytest.mark.slow
def test_smoothing_beats_straight_lines_on_every_real_data_set(data):
    benchmark = import_benchmark("smoothing_real")
    settings = {"default": xh.series.Whittaker()}
    found = benchmark.compare(benchmark.load(data), settings, n_seeds=3)["left out"]
    assert found["dates"].count() == 5
    assert (found["dates and gaps"] < 1).all()
    assert found.loc["pooled, data sets alike", "dates and gaps"] < 0.975
    assert found.loc["geometric mean", "dates and gaps"] < 0.96


@pytest.mark.slow
def test_hls_pixel_series_go_through_the_same_calls(real, data, monkeypatch):
    monkeypatch.setattr(real, "METHODS", {"whittaker": xh.series.Whittaker()})
    table = real.pixels(data)
    assert table.loc["step S30 - L30"].between(0, 0.02).all()
    assert (table.loc["revisit, both [day]"] < 0.4 * table.loc["revisit, L30 [day]"]).all()
    assert (table.loc["withheld RMSE, whittaker"] < 0.035).all()


@pytest.mark.slow
def test_merging_multiplies_the_scenes_of_a_month(real, data):
    table = real.months(data)
    assert table.loc["2018-07"].tolist() == pytest.approx([3, 10, 10 / 3])
    assert table.loc["all", "ratio"] > 5
    alone = table["Landsat alone"]
    np.testing.assert_array_equal(table["ratio"].isna(), alone == 0)
    assert (table["merged"] >= alone).all()
