"""The walk of CONTRIBUTING.md: a metric of one's own needs no other change."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xharmonize import metrics
from xharmonize.errors import MetricError, UnknownMetricError
from xharmonize.metrics import registry
from xharmonize.testing import example_cube, no_compute

WALK = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.fixture(autouse=True)
def nrmse(monkeypatch):
    """The metric as CONTRIBUTING.md registers it; its registration ends with the test."""
    monkeypatch.setattr(registry, "METRICS", dict(registry.METRICS))
    section = WALK.read_text(encoding="utf-8").partition("## Add a metric")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert code is not None
    exec(compile(code[1], str(WALK), "exec"), names := {})
    return names["nrmse"]


@pytest.fixture
def pair():
    ref = example_cube(shape=(12, 14), missing=0.05)
    return ref + 0.01 * np.sin(np.arange(14)), ref


def test_it_is_scored_by_name_lazily_and_in_any_chunks(pair):
    pred, ref = pair
    seen = np.isfinite(ref)
    expected = np.sqrt(((pred - ref) ** 2).mean(("time", "y", "x"))) / ref.where(seen).mean(
        ("time", "y", "x")
    )
    with no_compute():
        lazy = pred.chunk(y=5, x=4).harmonize.score(ref.chunk(x=6), ["rmse", "nrmse"])
    np.testing.assert_allclose(lazy["nrmse"].compute(), expected, rtol=1e-5)
    assert lazy["nrmse"].attrs["long_name"].endswith("mean of the reference")


def test_it_is_pooled_grouped_saved_and_asked_of_an_index(pair):
    pred, ref = pair
    whole = pred.harmonize.score(ref, ["rmse", "nrmse"], per_band=False)
    np.testing.assert_allclose(whole["nrmse"], whole["rmse"] / ref.mean(), rtol=1e-5)
    statistics = pred.harmonize.statistics(ref, "nrmse")
    again = metrics.score_statistics(statistics, "nrmse")
    xr.testing.assert_allclose(again["nrmse"], pred.harmonize.score(ref, "nrmse")["nrmse"])
    assert metrics.get_metric("ndvi_nrmse").index == "ndvi"
    assert {"nrmse", "ndvi_nrmse"} <= set(metrics.list_metrics())
    nothing = (ref * np.nan).harmonize.score(ref, "nrmse")["nrmse"]
    assert np.isnan(nothing).all()


def test_what_cannot_be_registered_is_refused(nrmse):
    with pytest.raises(MetricError, match="is registered") as refused:
        metrics.register_metric(metrics.Metric(name="rmse", formula=nrmse))
    assert refused.value.cure == "pass replace=True to replace it"
    with pytest.raises(MetricError, match="has no formula"):
        metrics.register_metric(metrics.Metric(name="empty"))
    with pytest.raises(MetricError, match="is no name") as refused:
        metrics.register_metric(metrics.Metric(name="n rmse", formula=nrmse))
    assert refused.value.argument == "name"
    assert "empty" not in metrics.list_metrics()
    with pytest.raises(UnknownMetricError, match="nrmse"):
        metrics.get_metric("nmrse")
