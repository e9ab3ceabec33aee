"""What shows the same thing is counted once: baselines, pieces, passes, days."""

from __future__ import annotations

import collections

import numpy as np
import pytest

from xharmonize.errors import CatalogError
from xharmonize.io.stac.scenes import mosaic_groups, read_scenes


def granule(
    item_id: str,
    *,
    baseline: str = "05.00",
    tile: str = "31UDS",
    start: str = "20180715T105031",
    datetime: str = "2018-07-15T10:50:31Z",
    made: str = "2023-01-01T00:00:00Z",
    strip: str = "20180715T105321",
    lon: float = 3.0,
) -> dict:
    n = baseline.replace(".", "")
    return {
        "type": "Feature",
        "id": item_id,
        "collection": "sentinel-2-l2a",
        "bbox": [lon, 50.0, lon + 1, 51.0],
        "properties": {
            "datetime": datetime,
            "platform": "sentinel-2b",
            "proj:epsg": 32631,
            "grid:code": f"MGRS-{tile}",
            "s2:processing_baseline": baseline,
            "s2:datatake_id": f"GS2B_{start}_007090_N{baseline}",
            "s2:datastrip_id": f"S2B_OPER_MSI_L2A_DS_X_20230101T000000_S{strip}_N{baseline}",
            "s2:product_uri": f"S2B_MSIL2A_{start}_N{n}_R051_T{tile}_20230101T000000.SAFE",
            "s2:generation_time": made,
        },
        "assets": {"red": {"href": "/x/red.tif"}},
    }


def ids(scenes) -> list[str]:
    return [scene.id for scene in scenes]


def test_the_highest_baseline_of_a_granule_is_kept_whatever_the_order():
    items = [
        granule("old", baseline="02.14", made="2024-01-01T00:00:00Z"),
        granule("new", baseline="05.00"),
        granule("middle", baseline="04.00"),
    ]
    assert ids(read_scenes(items)) == ids(read_scenes(items[::-1])) == ["new"]


def test_of_one_baseline_the_newest_processing_is_kept():
    items = [granule("first"), granule("second", made="2023-06-01T00:00:00Z")]
    assert ids(read_scenes(items)) == ids(read_scenes(items[::-1])) == ["second"]


def test_two_pieces_of_a_granule_are_both_kept_but_no_older_baseline():
    items = [
        granule("piece-1"),
        granule("piece-2", strip="20180715T105900"),
        granule("old", baseline="02.14", strip="20180715T110000"),
    ]
    assert ids(read_scenes(items)) == ["piece-1", "piece-2"]


def test_other_tiles_and_other_passes_are_no_duplicates():
    later = {"start": "20180725T105031", "datetime": "2018-07-25T10:50:31Z"}
    items = [granule("a"), granule("b", tile="31UES"), granule("c", **later)]
    assert ids(read_scenes(items)) == ["a", "b", "c"]


def test_tiles_of_one_datatake_are_one_pass_and_baselines_never_mix():
    tiles = [granule("a"), granule("b", tile="31UES", datetime="2018-07-15T10:50:35Z")]
    odd = granule("c", tile="31UET", baseline="02.14")
    groups = mosaic_groups(read_scenes([*tiles, odd]))
    assert sorted(map(ids, groups)) == [["a", "b"], ["c"]]


def test_none_gives_each_scene_a_step():
    scenes = read_scenes([granule("a"), granule("b", tile="31UES")])
    assert [ids(group) for group in mosaic_groups(scenes, "none")] == [["a"], ["b"]]


def test_an_unknown_way_to_mosaic_is_refused():
    with pytest.raises(CatalogError, match="mosaic='daily'"):
        mosaic_groups([], "daily")


@pytest.mark.parametrize(("lon", "day"), [(3.0, "2018-07-15"), (178.0, "2018-07-16")])
def test_the_solar_day_follows_longitude(lon, day):
    scene = read_scenes(granule("a", lon=lon, datetime="2018-07-15T22:30:00Z"))[0]
    assert str(scene.solar_day) == day


def test_a_box_across_the_antimeridian_has_its_centre_there():
    item = granule("a") | {"bbox": [179.0, -17.0, -179.5, -16.0]}
    lon, lat = read_scenes(item)[0].center
    assert (lon, lat) == pytest.approx((179.75, -16.5))


def test_two_rows_of_one_landsat_pass_are_one_step(data):
    scenes = read_scenes(data / "flanders-2018/catalog.json", collection="landsat-8-c1-sr")
    assert len(scenes) == 24
    groups = mosaic_groups(scenes)
    twice = [ids(group) for group in groups if len(group) > 1]
    assert twice == [
        ["LC08_20180606_0", "LC08_20180606_1"],
        ["LC08_20180724_0", "LC08_20180724_1"],
    ]
    assert len(groups) == 22
    times = [group[0].datetime for group in groups]
    assert times == sorted(times)


def test_the_dates_of_flanders_stay_apart(data):
    scenes = read_scenes(data / "flanders-2018/catalog.json")
    for how in ("pass", "solar_day"):
        groups = mosaic_groups(scenes, how)
        count = collections.Counter(group[0].sensor.name for group in groups)
        assert count["sentinel-2-l2a"] == 118
        assert count["landsat-c1-sr"] == 22
    assert np.all(np.diff([s.datetime for s in scenes]) >= np.timedelta64(0))


def test_real_rows_of_one_landsat_pass_share_a_datatake(data):
    scenes = read_scenes(data / "stac-items/stac-geoparquet/data/landsat-c2-l2-pc.json")
    assert {scene.datatake for scene in scenes} == {"landsat-9_089_2024-04-18"}
    assert [scene.tile for scene in scenes] == ["089087", "089088", "089089", "089090"]
    assert len(mosaic_groups(scenes)) == 1


def test_two_passes_over_one_tile_of_hls_are_both_kept():
    items = []
    for hour in (10, 12):
        one = granule(
            f"HLS.L30.T31UDS.2018196T{hour}5031.v2.0", datetime=f"2018-07-15T{hour}:50:31Z"
        )
        keep = ("datetime", "proj:epsg")
        properties = {key: one["properties"][key] for key in keep} | {"platform": "landsat-8"}
        assets = {"B04": {"href": "/x/B04.tif"}}
        items.append(one | {"collection": "hls2-l30", "properties": properties, "assets": assets})
    assert len(read_scenes(items)) == 2
