"""Unknown platforms are settled by name, by mapping or by the phase of the orbit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from xharmonize.cube.platforms import infer_sentinel2, settle_platform
from xharmonize.errors import RadiometryError, RadiometryWarning, UnknownSensorError
from xharmonize.io.stac.scenes import read_scenes

S2, L8 = "sentinel-2-l2a", "landsat-c2-l2"
TIMES = np.array(["2018-07-15T10:50:21", "2018-07-20T10:50:31", "2018-07-17T10:40:00"], "M8[ns]")


def settle(choice, *, platforms=("unknown", "unknown", "landsat-8"), times=TIMES, latitude=50.8):
    return settle_platform(
        choice,
        platforms=platforms,
        sensors=(S2, S2, L8),
        times=times,
        item_ids=("a", "b", "c"),
        latitudes=latitude,
    )


def test_nothing_asked_changes_nothing():
    assert settle(None) == ["unknown", "unknown", "landsat-8"]


def test_a_name_fills_unknown_steps_of_its_own_sensor_only():
    assert settle("S2B") == ["sentinel-2b", "sentinel-2b", "landsat-8"]
    known = ("sentinel-2a", "unknown", "unknown")
    assert settle("sentinel-2b", platforms=known) == ["sentinel-2a", "sentinel-2b", "unknown"]


def test_sentinel_2_stands_for_the_mean():
    assert settle("sentinel-2") == ["sentinel-2", "sentinel-2", "landsat-8"]


def test_a_mapping_names_steps_by_item_or_date():
    by_date = {"2018-07-15": "sentinel-2a", np.datetime64("2018-07-20"): "sentinel-2b"}
    assert settle(by_date) == ["sentinel-2a", "sentinel-2b", "landsat-8"]
    assert settle({"b": "sentinel-2c"}) == ["unknown", "sentinel-2c", "landsat-8"]


def test_a_mapping_against_the_metadata_is_followed_with_a_warning():
    with pytest.warns(RadiometryWarning, match=r"'c' \(landsat-8 → landsat-9\)"):
        assert settle({"c": "landsat-9"})[2] == "landsat-9"


@pytest.mark.parametrize("choice", ["sentinel-3a", "gaofen-1", {"a": "landsat-8"}])
def test_a_platform_that_does_not_fly_the_sensor_is_refused(choice):
    with pytest.raises(UnknownSensorError, match="no platform"):
        settle(choice)


def test_keys_that_are_neither_items_nor_dates_are_refused():
    with pytest.raises(RadiometryError, match=r"'zzz'.*neither dates nor item ids"):
        settle({"zzz": "sentinel-2a"})
    assert settle({"zzz": "sentinel-2a", "a": "sentinel-2a"})[0] == "sentinel-2a"  # a subset


def test_inferring_warns_and_leaves_other_sensors_alone():
    with pytest.warns(RadiometryWarning, match="1 sentinel-2a, 1 sentinel-2b"):
        assert settle("infer") == ["sentinel-2b", "sentinel-2a", "landsat-8"]


@pytest.mark.parametrize(
    ("times", "latitude"),
    [
        (TIMES + np.timedelta64(7 * 365, "D"), 50.8),  # Sentinel-2C may have flown
        (TIMES, 80.0),  # ascending passes are imaged too
        (TIMES + np.timedelta64(14, "m"), 50.8),  # the phase of neither
    ],
)
def test_inferring_is_refused_where_the_phase_cannot_tell(times, latitude):
    with pytest.raises(RadiometryError, match=r"platform='infer' cannot tell .* first 'a'"):
        settle("infer", times=times, latitude=latitude)


def test_before_the_launch_of_2b_it_can_only_be_2a():
    assert infer_sentinel2(TIMES[:2] - np.timedelta64(730, "D"), 50.8) == ["unknown", "sentinel-2a"]


def test_the_phase_agrees_with_every_labelled_item(data):
    pytest.importorskip("rustac")
    folder = data / "stac-items"
    files = [
        folder / "rustac/duckdb/data/100-sentinel-2-items.parquet",
        folder / "rustac/server/data/sentinel-2/item-collection.json",
        *(folder / "odc-stac").glob("S2*.json"),
        *(folder / "stactools-sentinel2").rglob("*.json"),
    ]
    scenes = list(itertools.chain.from_iterable(read_scenes(file) for file in files))
    before_2c = [s for s in scenes if s.datetime < np.datetime64("2024-09-05")]
    assert len(before_2c) > 60
    inferred = infer_sentinel2(
        np.array([s.datetime for s in before_2c]), np.array([s.center[1] for s in before_2c])
    )
    assert inferred == [s.step.platform for s in before_2c]
    assert {s.sensor.name for s in before_2c} == {S2}


@pytest.mark.parametrize("site", ["flanders-2018", "flanders-2019"])
def test_the_phase_agrees_with_the_date_modulo_ten(data, site):
    with pytest.warns(RadiometryWarning, match="inferred from the phase"):
        scenes = read_scenes(data / site / "catalog.json", collection=S2, platform="infer")
    by_day = {}
    for scene in scenes:
        remainder = int(scene.datetime.astype("M8[D]").astype(int)) % 10
        by_day.setdefault(remainder, set()).add(scene.step.platform)
    assert all(len(platforms) == 1 for platforms in by_day.values())
    for remainder, platforms in by_day.items():  # five days later the other one passes
        assert by_day.get((remainder + 5) % 10, set()).isdisjoint(platforms)
    assert {name for names in by_day.values() for name in names} == {"sentinel-2a", "sentinel-2b"}


def test_bare_dates_tell_nothing_about_the_orbit():
    """At midnight the phase of 2A looks like that of 2B."""
    assert infer_sentinel2(TIMES[:2].astype("M8[D]"), 50.8) == ["unknown", "unknown"]
    with pytest.raises(RadiometryError, match="sensing times, not bare dates"):
        settle("infer", times=TIMES.astype("M8[D]"))
