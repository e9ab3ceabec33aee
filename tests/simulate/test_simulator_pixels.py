"""What the simulator promises of its pixels: reproducible, and each effect there and switchable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xharmonize.errors import (
    GridError,
    RadiometryError,
    TimeAxisError,
    UnknownSensorError,
)
from xharmonize.simulate import Cover, Simulation, truth
from xharmonize.simulate.catalog import render_pass
from xharmonize.simulate.imaging import (
    anisotropy,
    cloud_cover,
    correction_error,
    point_spreads,
    render_sky,
    sampling_matrix,
    shift_of,
    sun_position,
)
from xharmonize.simulate.landscape import render_landscape
from xharmonize.simulate.noise import Window, smooth_noise, white_noise
from xharmonize.simulate.passes import (
    prepare,
    qa_pixel,
    render_optical,
    render_tile_ground,
    scene_classes,
    speckle,
)
from xharmonize.simulate.vegetation import ENDMEMBERS, ground_on
from xharmonize.testing import assert_lazy, no_compute

ALL = ("sentinel-2-l2a", "landsat-c2-l2", "gaofen-1-ard", "sentinel-1-rtc")
SMALL = Simulation(start="2022-06-01", end="2022-06-20", size=(600.0, 600.0), cloudiness=0.0)


@pytest.fixture(scope="module")
def ground():
    """Static ground of the tile at the default centre."""
    return render_tile_ground(SMALL, 522, 5863)


def passes_of(simulation: Simulation, sensor: str):
    return [p for p in replace(simulation, sensors=ALL).passes() if p.orbit.sensor == sensor]


@settings(max_examples=20, deadline=None)
@given(
    column=st.integers(0, 40), row=st.integers(0, 40), width=st.integers(1, 30),
    height=st.integers(1, 30),
)  # fmt: skip
def test_noise_does_not_depend_on_the_window(column, row, width, height):
    whole = Window(left=5e5, top=5.6e6, step=10.0, width=70, height=70)
    part = Window(
        left=5e5 + 10 * column, top=5.6e6 - 10 * row, step=10.0, width=width, height=height
    )
    inside = (slice(row, row + height), slice(column, column + width))
    np.testing.assert_array_equal(
        white_noise(1, "test", whole, 7)[inside], white_noise(1, "test", part, 7)
    )
    np.testing.assert_allclose(
        smooth_noise(1, "test", whole, length=130.0, octaves=3)[inside],
        smooth_noise(1, "test", part, length=130.0, octaves=3),
        atol=1e-5,
    )


def test_smooth_noise_has_unit_variance():
    window = Window(left=0.0, top=0.0, step=10.0, width=700, height=700)
    field = smooth_noise(5, "test", window, length=80.0, octaves=3)
    assert abs(field.mean()) < 0.05
    assert field.std() == pytest.approx(1.0, abs=0.05)


def test_landscape_of_a_part_is_part_of_the_landscape():
    whole = Window(left=501_000, top=5_629_800, step=5.0, width=160, height=160)
    part = Window(left=501_200, top=5_629_600, step=5.0, width=80, height=80)
    large, small = (render_landscape(0, w) for w in (whole, part))
    inside = (slice(40, 120), slice(40, 120))
    np.testing.assert_array_equal(large.cover[inside], small.cover)
    np.testing.assert_array_equal(large.unit_key[large.unit][inside], small.unit_key[small.unit])


def test_landscape_holds_every_cover():
    window = Window(left=490_000, top=5_640_000, step=40.0, width=300, height=300)
    share = np.bincount(render_landscape(0, window).cover.ravel(), minlength=10) / 90_000
    assert all(share[int(cover)] > 0.001 for cover in Cover)
    assert share[[Cover.CROP, Cover.GRASS]].sum() > 0.5


@pytest.mark.parametrize("sensor", ALL)
def test_pixels_depend_on_nothing_but_seed_place_and_date(sensor, ground):
    acquisition = passes_of(SMALL, sensor)[0]
    larger = replace(SMALL, end="2022-12-31", size=(5000.0, 4000.0), sensors=ALL)
    first = render_pass(SMALL, acquisition, ground)
    again = render_pass(larger, acquisition, render_tile_ground(larger, 522, 5863))
    other = render_pass(replace(SMALL, seed=1), acquisition, ground)
    for key, (window, pixels) in first.items():
        assert again[key][0] == window
        np.testing.assert_array_equal(again[key][1], pixels)
    assert any((other[key][1] != pixels).any() for key, (_, pixels) in first.items())


def test_grids_have_the_chosen_phase(ground):
    simulation = replace(SMALL, phase={"sentinel-2-l2a": 5.0})
    assert SMALL.window("landsat-c2-l2", 30.0).left % 30 == 15
    assert SMALL.window("sentinel-2-l2a", 20.0).left % 60 == 0
    acquisition = passes_of(SMALL, "sentinel-2-l2a")[0]
    assets = render_optical(prepare(simulation, acquisition), ground)
    assert {key: window.left % 5 for key, (window, _) in assets.items()} == dict.fromkeys(assets, 0)
    assert assets["blue"][0].left % 10 == 5


def test_images_are_the_truth_when_nothing_goes_wrong(ground):
    clean = replace(
        SMALL, atmosphere=0.0, haziness=0.0, shift_mean=0.0, shift_sd=0.0, cloudiness=0.0
    )
    acquisition = passes_of(clean, "landsat-c2-l2")[0]
    scene = prepare(clean, acquisition)
    window, counts = render_optical(scene, ground)["nir08"]
    like = truth(clean, acquisition.time).isel(x=slice(0, 2), y=slice(0, 2))
    x, y = window.x[8:24], window.y[8:24]
    like = like.reindex(x=x, y=y)
    expected = truth(
        clean, acquisition.time, platform=acquisition.orbit.platform, like=like, point_spread=True
    )
    seen = counts[8:24, 8:24] * 2.75e-5 - 0.2
    error = seen - expected.reflectance.sel(band="nir08").values
    assert abs(error.mean()) < 0.02  # what is left is direction and slope
    assert (
        np.corrcoef(seen.ravel(), expected.reflectance.sel(band="nir08").values.ravel())[0, 1]
        > 0.99
    )


def test_truth_is_lazy_and_keeps_the_grid():
    with no_compute():
        lazy = truth(SMALL, "2022-06-10T10:40", sensor="sentinel-2-l2a", resolution=20.0)
    assert_lazy(lazy)
    south_up = lazy.isel(y=slice(None, None, -1))
    with no_compute():
        turned = truth(SMALL, "2022-06-10T10:40", sensor="sentinel-2-l2a", like=south_up)
    a, b = lazy.compute(), turned.compute()
    np.testing.assert_array_equal(a.reflectance.values, b.reflectance.values[:, ::-1])
    assert a.rio.crs.to_epsg() == 32631
    assert set(np.unique(a.cover)) <= {int(cover) for cover in Cover}
    assert set(np.unique(a.crop)) <= set(a.crop.attrs["flag_values"])
    assert ((a.crop > 0) == (a.cover == int(Cover.CROP))).mean() > 0.95  # edges aside
    assert float(a.purity.min()) > 0.1
    assert float(a.reflectance.min()) >= 0
    assert float(a.reflectance.max()) < 0.9


def test_truth_refuses_a_grid_that_is_not_square():
    like = truth(SMALL, "2022-06-10").reflectance
    with pytest.raises(GridError, match="square pixels"):
        truth(SMALL, "2022-06-10", like=like.isel(x=slice(None, None, 2)))


def test_the_offset_follows_baseline_and_catalogue(ground):
    acquisition = passes_of(SMALL, "sentinel-2-l2a")[0]
    with_offset = render_optical(prepare(SMALL, acquisition), ground)["red"][1].astype(int)
    without = replace(SMALL, baseline="without-offset")
    plain = render_optical(prepare(without, acquisition), ground)["red"][1].astype(int)
    np.testing.assert_array_equal(with_offset - plain, 1000)
    drawn = {replace(SMALL, baseline="mixed").baseline_of(p) for p in Simulation().passes()}
    assert {"02.14", "03.01", "04.00", "05.10"} <= drawn


@pytest.mark.parametrize("variant", ["a", "b", "c"])
def test_point_spread_has_the_tabulated_transfer(variant):
    step = 10.0
    spread = point_spreads("sentinel-2-l2a", "red", step, variant)[0]
    fine = np.arange(-400, 400) * 0.5 + 0.25
    weights = sampling_matrix(fine, np.zeros(1), 0.5, spread)[0]
    transfer = abs(np.sum(weights * np.exp(2j * np.pi * fine / (2 * step))))
    assert transfer == pytest.approx(0.26, abs=0.08)
    assert weights.sum() == pytest.approx(1.0, abs=1e-5)


def test_variants_differ(ground):
    acquisition = passes_of(SMALL, "landsat-c2-l2")[0]
    images = [
        render_optical(prepare(replace(SMALL, variant=v), acquisition), ground)["red"][1]
        for v in ("a", "b", "c")
    ]
    assert (images[0] != images[1]).mean() > 0.9
    assert (images[0] != images[2]).mean() > 0.9


def test_shifts_have_the_stated_moments():
    shifts = np.array([shift_of(SMALL, (day, 1, 1)) for day in range(2000)])
    assert shifts.std(axis=0) == pytest.approx([5.0, 5.0], rel=0.05)
    assert shifts.mean(axis=0) == pytest.approx([3.0, -3.0], abs=0.4)


def test_correction_errors_are_correlated_and_have_the_stated_size():
    passes = Simulation(start="2000-01-01", end="2012-12-31").passes()
    centers, typical = (490.0, 560.0, 660.0, 865.0, 1610.0), np.array([0.05, 0.08, 0.08, 0.3, 0.22])
    values = {}
    for sensor in ALL[:2]:
        errors = [correction_error(SMALL, p, centers) for p in passes if p.orbit.sensor == sensor]
        values[sensor] = np.array([(e.gain - 1) * typical + e.offset for e in errors[:900]])
    msi, oli = (values[sensor][:800] for sensor in ALL[:2])
    assert (msi - oli).std(axis=0) == pytest.approx([0.007, 0.005, 0.005, 0.004, 0.008], rel=0.1)
    assert np.corrcoef(msi.T)[0, 1] > 0.7
    assert abs(np.corrcoef(msi[:, 0], oli[:, 0])[0, 1]) < 0.1


def test_cloud_cover_has_the_stated_mean():
    cloudy = replace(SMALL, cloudiness=0.4, start="2000-01-01", end="2009-12-31")
    cover = [cloud_cover(cloudy, p) for p in cloudy.passes()]
    assert np.mean(cover) == pytest.approx(0.4, abs=0.03)
    assert np.mean(np.array(cover) < 0.05) > 0.1


def test_shadows_are_the_clouds_moved_away_from_the_sun():
    cloudy = replace(SMALL, cloudiness=0.5, end="2022-09-30")
    acquisition = next(p for p in cloudy.passes() if 0.2 < cloud_cover(cloudy, p) < 0.6)
    scene = prepare(cloudy, acquisition)
    window = Window(left=498_000, top=5_633_000, step=30.0, width=200, height=200)
    sky = render_sky(cloudy, acquisition, window, scene.angles)
    direction = np.radians(scene.angles.sun_azimuth)
    scores = {}
    for reach in range(0, 3000, 30):
        dx, dy = (round(reach * f(direction) / 30) for f in (np.sin, np.cos))
        a = sky.shadow[max(dy, 0) : 200 + min(dy, 0), max(-dx, 0) : 200 - max(dx, 0)]
        b = sky.cloud[max(-dy, 0) : 200 - max(dy, 0), max(dx, 0) : 200 + min(dx, 0)]
        scores[reach] = np.corrcoef(a.ravel(), b.ravel())[0, 1]
    best = max(scores, key=lambda reach: scores[reach])
    assert scores[best] > 0.95
    assert best > 200


def test_quality_layers_miss_clouds_and_raise_false_alarms():
    cloudy = replace(SMALL, cloudiness=0.6, end="2022-07-31")
    window = Window(left=495_000, top=5_633_000, step=60.0, width=150, height=150)
    bright = dict.fromkeys(("red", "nir08", "swir16"), np.full(window.shape, 0.25, np.float32))
    missed = alarms = seen = 0
    for acquisition in passes_of(cloudy, "sentinel-2-l2a"):
        sky = render_sky(cloudy, acquisition, window, prepare(cloudy, acquisition).angles)
        flagged = np.isin(scene_classes(cloudy, acquisition, window, sky, bright), (8, 9, 10))
        missed += int(((sky.cloud > 0.5) & ~flagged).sum())
        seen += int(((sky.cloud > 0.5) & flagged).sum())
        alarms += int(((sky.cloud < 0.01) & flagged).sum())
    assert seen > 5 * missed > 0
    assert alarms > 0


def test_landsat_quality_has_the_collection_2_values():
    cloudy = replace(SMALL, cloudiness=0.5, end="2022-07-31")
    window = Window(left=495_000, top=5_633_000, step=60.0, width=150, height=150)
    bands = {name: np.full(window.shape, 0.15, np.float32) for name in ("red", "nir08", "swir16")}
    values: set[int] = set()
    for acquisition in passes_of(cloudy, "landsat-c2-l2"):
        wide = render_sky(cloudy, acquisition, window.pad(2), prepare(cloudy, acquisition).angles)
        layer = qa_pixel(cloudy, acquisition, window, wide, 2, bands)
        values |= {int(value) for value in np.unique(layer)}
    # clear land, dilated cloud, cloud, shadow: values tabulated in the USGS product guide
    assert {21824, 21762, 22280, 23888} <= values


def test_haze_is_in_no_mask(ground):
    hazy = replace(SMALL, haziness=0.9)
    window = Window(left=501_120, top=5_629_440, step=20.0, width=48, height=48)
    acquisition = max(
        passes_of(hazy, "sentinel-2-l2a"),
        key=lambda p: render_sky(hazy, p, window, prepare(hazy, p).angles).haze.mean(),
    )
    clear, veiled = (
        render_optical(prepare(s, acquisition), ground) for s in (replace(hazy, haziness=0.0), hazy)
    )
    lift = (veiled["blue"][1].astype(float) - clear["blue"][1]).mean() * 1e-4
    assert 0.004 < lift < 0.04
    assert np.isin(veiled["scl"][1], (8, 9, 10)).mean() < 0.03  # false alarms on roofs


def test_the_processing_bias_is_off_by_default(ground):
    acquisition = passes_of(SMALL, "sentinel-2-l2a")[0]
    plain, biased = (
        render_optical(prepare(s, acquisition), ground)
        for s in (SMALL, replace(SMALL, processing_bias=1.0))
    )
    lift = (biased["swir16"][1].astype(float) - plain["swir16"][1]).mean() * 1e-4
    assert 0.0 < lift < 0.045
    np.testing.assert_array_equal(plain["red"][1], biased["red"][1])


def test_fields_change_between_days_and_crops_over_the_season(ground):
    unit = ground.fine.unit_key[ground.fine.unit_cover == int(Cover.CROP)]
    cover = np.full(len(unit), int(Cover.CROP))
    start = int(np.datetime64("2022-03-01").astype(int))
    area = np.array(
        [ground_on(0, start + d, 10.8, unit, cover).leaf_area for d in range(0, 270, 1)]
    )
    assert area.max(axis=0).mean() > 2.5
    falls = (np.diff(area, axis=0) < -1.0).any(axis=0)
    assert falls.mean() > 0.4  # harvest
    grass = np.full(len(unit), int(Cover.GRASS))
    sward = np.array(
        [ground_on(0, start + d, 10.8, unit, grass).leaf_area for d in range(0, 270, 1)]
    )
    assert ((np.diff(sward, axis=0) < -0.8).sum(axis=0) >= 2).mean() > 0.4  # mowing


def test_fields_of_two_crops_have_two_seasons_a_year(ground):
    unit = ground.fine.unit_key[ground.fine.unit_cover == int(Cover.CROP)]
    cover = np.full(len(unit), int(Cover.CROP))

    def area(day: str, double: float):
        moment = int(np.datetime64(f"2022-{day}").astype(int))
        return ground_on(0, moment, 10.8, unit, cover, double=double).leaf_area

    for peak in ("05-01", "08-25"):
        assert (area(peak, 1.0) > 2.5).mean() > 0.9
    assert (area("06-25", 1.0) < 0.5).mean() > 0.9  # wheat is cut, maize emerges
    some, none = area("06-25", 0.5), area("06-25", 0.0)
    assert 0.2 < (some == none).mean() < 0.8  # the other fields are those of the rotation
    known = truth(replace(SMALL, double_cropping=1.0), "2022-06-25")["crop"]
    assert known.attrs["flag_meanings"].split()[-1] == "winter_cereal_maize"
    assert set(np.unique(known)) <= {0, 6}
    with pytest.raises(RadiometryError, match="double_cropping"):
        replace(SMALL, double_cropping=1.5)


def test_moisture_follows_rain():
    key = np.arange(1, 50, dtype=np.uint64) * np.uint64(2654435761)
    cover = np.full(49, int(Cover.BARE))
    means = [
        ground_on(0, day, 10.8, key, cover).moisture.mean() for day in range(19_000, 19_365, 5)
    ]
    assert np.std(means) > 0.05
    assert 0.05 < np.mean(means) < 0.8


def test_directions_matter_by_cover():
    east, west = (
        next(p for p in SMALL.passes() if p.orbit.relative_orbit == number) for number in (51, 94)
    )
    tables = [anisotropy(prepare(SMALL, p).angles, (660.0, 865.0)) for p in (east, west)]
    assert (tables[0] - tables[1])[ENDMEMBERS.index("crop_leaf")].min() > 0.01
    np.testing.assert_array_equal(tables[0][ENDMEMBERS.index("clear_water")], 1.0)


def test_the_sun_is_where_an_item_says():
    zenith, azimuth = sun_position(np.datetime64("2017-08-15T10:40:28"), 3.02, 50.81)
    assert zenith == pytest.approx(39.1, abs=1.0)
    assert azimuth == pytest.approx(151.7, abs=3.0)


def test_speckle_is_gamma_distributed_and_correlated():
    window = Window(left=5e5, top=5.6e6, step=10.0, width=400, height=400)
    field = speckle(SMALL, window, "vv", (1, 2))
    assert field.mean() == pytest.approx(1.0, abs=0.02)
    assert 1 / field.var() == pytest.approx(4.7, abs=0.6)
    assert np.corrcoef(field[:, 1:].ravel(), field[:, :-1].ravel())[0, 1] > 0.2


def test_radar_sees_structure_moisture_and_angle(ground):
    acquisition = passes_of(SMALL, "sentinel-1-rtc")[0]
    tile = render_pass(SMALL, acquisition, ground)
    assert tile["vv"][1].dtype == np.float32
    level = {key: 10 * np.log10(pixels.mean()) for key, (_, pixels) in tile.items()}
    assert -16 < level["vv"] < -5
    assert 4 < level["vv"] - level["vh"] < 10


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"size": (0.0, 600.0)}, GridError, "holds no pixel"),
        ({"cloudiness": 1.5}, RadiometryError, r"outside \[0, 1\)"),
        ({"end": "2020-01-01"}, TimeAxisError, "before it starts"),
        ({"sensors": ("modis",)}, UnknownSensorError, "no orbit for"),
        ({"crs": "EPSG:4326"}, GridError, "metres"),
    ],
)
def test_nonsense_is_refused(change, error, message):
    with pytest.raises(error, match=message):
        replace(SMALL, **change)
