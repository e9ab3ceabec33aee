"""A smoothed or filled series is no set of observations: only what was observed counts."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.cli.inputs import summarize
from xharmonize.plot.style import MERGED, style_of, title_of
from xharmonize.report.facts import sensor_rows
from xharmonize.testing import assert_chunk_invariant, example_cube, no_compute

L8, S2 = "landsat-c2-l2", "sentinel-2-l2a"
LANDSAT_DATES = ("2018-06-01T10:30", "2018-06-17T10:30", "2018-07-03T10:30")
SENTINEL_DATES = ("2018-06-05T10:50", "2018-06-17T10:50", "2018-06-25T10:50", "2018-06-30T10:50")


@pytest.fixture(scope="module")
def dense() -> xr.Dataset:
    """NDVI of three Landsat and four Sentinel-2 dates, both on 17 June; a hole on 25 June."""
    options = {"missing": 0.0, "shape": (6, 7), "bands": ("red", "nir08")}
    landsat = example_cube(L8, platform="landsat-8", dates=LANDSAT_DATES, **options)
    sentinel = example_cube(dates=SENTINEL_DATES, **options)
    sentinel[2, :, :, 1:] = np.nan  # 25 June is seen in one column of seven
    sentinel = sentinel.harmonize.to_landsat()
    return landsat.harmonize.densify(sentinel).harmonize.index("ndvi")


@pytest.fixture(scope="module", params=["1D", None])
def smoothed(dense, request) -> xr.Dataset:
    return dense.harmonize.smooth(step=request.param, max_gap=60).load()


def test_days_have_the_sensors_that_looked_on_them(dense):
    with no_compute():
        daily = dense.chunk({"y": 3}).harmonize.smooth(step="1D", max_gap=60)
    days = daily["time"].values.astype("datetime64[D]").astype(str)
    sensors = dict(zip(days.tolist(), daily["sensor"].values.tolist()))
    assert sensors["2018-06-01"] == L8
    assert sensors["2018-06-05"] == S2
    assert sensors["2018-06-17"] == f"{L8}|{S2}"
    assert sensors["2018-06-06"] == "unknown"
    assert (
        dict(zip(days.tolist(), daily["platform"].values.tolist()))["2018-06-05"] == "sentinel-2a"
    )
    assert set(daily["bandpass"].values.tolist()) == {"oli"}


def test_frequency_counts_what_was_observed(dense, smoothed):
    expected, found = dense.harmonize.frequency(), smoothed.harmonize.frequency()
    xr.testing.assert_allclose(
        found.drop_vars("spatial_ref"), expected.drop_vars("spatial_ref"), atol=1e-6
    )
    assert found["sensor"].values.tolist() == [L8, S2, "all"]
    assert found["scenes"].sel(sensor="all", fraction=0).values.tolist() == [5, 1]


def test_a_cloudy_look_is_not_seen_because_another_sensor_saw_its_day(dense):
    cloudy = dense.copy(deep=True)
    is_look = (dense["sensor"] == L8) & (dense["time"].dt.strftime("%m-%d") == "06-17")
    for name in ("ndvi", "origin"):
        cloudy[name] = cloudy[name].where(~is_look, np.nan if name == "ndvi" else 0)
    cloudy["origin"] = cloudy["origin"].astype("uint8")
    smooth = cloudy.harmonize.smooth(max_gap=60)
    origin = smooth["origin"].values[is_look.values]
    assert np.isfinite(smooth["ndvi"].values[is_look.values]).all()
    assert set(np.unique(origin)) == {4}  # filled: the target sensor is never harmonised
    counts = [c.harmonize.frequency()["n_valid"] for c in (cloudy, smooth)]
    np.testing.assert_array_equal(*counts)


def test_frequency_of_a_smoothed_series_does_not_depend_on_chunks(smoothed):
    assert_chunk_invariant(xh.series.frequency, smoothed, chunkings=[{"time": 3, "y": 2}, {"x": 3}])


@pytest.mark.parametrize("step", ["1D", None])
def test_without_origin_a_smoothed_series_is_not_counted(dense, step):
    bare = dense["ndvi"].harmonize.smooth(step=step)
    with pytest.raises(xh.errors.ContractError, match=r"smoothed and has no 'origin'.*to_dataset"):
        xh.series.frequency(bare)
    cured = dense["ndvi"].to_dataset(name="ndvi").harmonize.smooth(step=step, max_gap=60)
    assert int(xh.series.frequency(cured)["scenes"].sel(sensor="all", fraction=0).sum()) == 6


@pytest.mark.parametrize("step", ["1D", None])
def test_a_step_is_not_measured_on_a_smoothed_series(dense, step):
    with pytest.raises(xh.errors.TimeAxisError, match="smoothed over the step"):
        xh.series.sensor_offsets(dense.harmonize.smooth(step=step))


def test_tables_of_sensors_count_observations(dense, smoothed):
    expected = {(row["sensor"], row["platform"]): row["dates"] for row in sensor_rows(dense)}
    assert sum(expected.values()) == 7
    for made in (sensor_rows(smoothed), summarize(smoothed)):
        assert "unknown" not in {row["sensor"] for row in made}
        assert sum(row["dates"] for row in made) in (6, 7)  # 17 June is one day of two observations
        valid = next(key for key in made[0] if key.startswith("valid"))
        shares = {row["sensor"]: row[valid] for row in made}
        assert shares[S2] < 90  # one column of 25 June


def test_the_timeline_has_observed_dates_only(dense, smoothed):
    figure = xh.plot.timeline(smoothed)
    drawn = [c.get_offsets() for c in figure.axes[0].collections]
    assert len({float(x) for part in drawn for x, _ in part}) in (6, 7)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert not any("|" in label or "unknown" in label for label in labels)


def test_a_plot_colours_observed_dates_only(smoothed):
    figure = xh.plot.series(smoothed)
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert not any("|" in label or "unknown" in label for label in labels)
    counts = {label.rpartition(" (")[0]: int(label.split("(")[-1].split()[0]) for label in labels}
    n_filled = int((smoothed["origin"] == 4).sum() > 0) and counts["filled"]
    assert sum(counts.values()) == smoothed.sizes["time"]
    assert n_filled == smoothed.sizes["time"] - sum(
        n for label, n in counts.items() if label != "filled"
    )
    if smoothed.sizes["time"] > 10:
        assert n_filled == 33 - 5  # 25 June was seen in one column only


def test_several_sensors_have_a_colour_of_their_own():
    both = f"{L8}|{S2}"
    assert style_of(both)[0] == MERGED
    assert MERGED not in {style_of(name)[0] for name in (L8, S2, "gaofen-1-wfv")}
    assert "|" not in title_of(both)
    assert title_of(L8) in title_of(both)


@pytest.mark.slow
def test_the_report_warns_of_filled_values(dense, tmp_path):
    daily = dense.harmonize.smooth(step="1D", max_gap=60)
    text = xh.write_report(daily, tmp_path / "r.html").read_text()
    assert "of the valid values were filled" in text
    assert "33 dates (6 of them observed)" in text
    bare = xh.write_report(daily["ndvi"], tmp_path / "b.html").read_text()
    assert "which values were observed is not known" in bare
    assert (
        "of the valid values were filled"
        not in xh.write_report(dense, tmp_path / "d.html").read_text()
    )
