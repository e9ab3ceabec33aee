"""Effects that the image reveals: off by default, each as its physics has it, none in the truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xharmonize.errors import GridError, RadiometryError
from xharmonize.simulate import EFFECTS, Cover, Simulation, atmosphere, relief, truth
from xharmonize.simulate.fingerprint import fingerprint, tokens_of
from xharmonize.simulate.imaging import Angles
from xharmonize.simulate.noise import Window
from xharmonize.simulate.passes import prepare, render_optical, render_tile_ground

PLAIN = Simulation(start="2022-06-01", end="2022-06-20", size=(600.0, 600.0), cloudiness=0.0)
WINDOW = Window(left=501_120, top=5_629_440, step=60.0, width=16, height=16)


@pytest.fixture(scope="module")
def ground():
    return render_tile_ground(PLAIN, 522, 5863)


def a_pass(simulation: Simulation, sensor: str = "sentinel-2-l2a", index: int = 0):
    return [p for p in simulation.passes() if p.orbit.sensor == sensor][index]


def some_air(*, sun: float = 40.0, load=0.15, retrieved=0.15, cirrus=0.0, glow=0.0):
    fields = {
        name: np.full((1, 1), value, np.float32)
        for name, value in (
            ("load", load), ("retrieved", retrieved), ("cirrus", cirrus), ("glow", glow),
        )
    }  # fmt: skip
    angles = Angles(sun_zenith=sun, sun_azimuth=150.0, view_zenith=5.0, view_azimuth=100.0)
    return atmosphere.Air(angles=angles, strength=1.0, cloud_height=1500.0, **fields)


def change(air, reflectance: float, center: float) -> float:
    image = np.full((1, 1), reflectance, np.float32)
    return float((air.look(image, center) - image)[0, 0])


@settings(max_examples=40, deadline=None)
@given(
    reflectance=st.floats(0.0, 0.8), load=st.floats(0.01, 0.6), sun=st.floats(20, 75),
    center=st.floats(440, 2300),
)  # fmt: skip
def test_a_correction_that_knows_the_air_gives_the_ground(reflectance, load, sun, center):
    air = some_air(sun=sun, load=load, retrieved=load)
    assert change(air, reflectance, center) == pytest.approx(0.0, abs=2e-5)


def test_missed_aerosol_brightens_dark_ground_most_in_blue_and_with_a_low_sun():
    hazy = some_air(load=0.30, retrieved=0.15)
    blue, red, short = (change(hazy, 0.04, c) for c in (490.0, 660.0, 2200.0))
    assert blue > 1.3 * red > 3 * short > 0
    low = some_air(sun=70.0, load=0.30, retrieved=0.15)
    assert change(low, 0.04, 490.0) > 1.5 * blue
    # absorbing aerosol darkens what is bright enough
    assert change(hazy, 0.8, 490.0) < 0


def test_cirrus_lifts_dark_pixels_in_all_bands_and_dims_bright_ones():
    veil = some_air(cirrus=0.3)
    dark = [change(veil, 0.0, c) for c in (560.0, 660.0, 865.0, 1610.0, 2200.0)]
    assert min(dark) > 0.003
    assert max(dark) < 2 * min(dark)  # grey, unlike aerosol
    assert change(veil, 0.6, 865.0) < -0.01
    assert change(veil, 0.6, 490.0) < -0.01


def test_light_from_clouds_is_blue():
    air = some_air(glow=0.3)
    blue, near = (change(air, 0.05, c) for c in (490.0, 865.0))
    assert 0.003 < blue < 0.03  # 0.01 to 0.03 beside broken clouds (Marshak et al. 2008)
    assert blue > 5 * near > 0


def test_effects_are_off_by_default_and_change_the_image(ground):
    acquisition = a_pass(PLAIN)
    plain = render_optical(prepare(PLAIN, acquisition), ground)
    for effect in ("dark-target", "terrain"):
        simulation = replace(PLAIN, effects=(effect,))
        assets = render_optical(prepare(simulation, acquisition), ground)
        assert (assets["blue"][1] != plain["blue"][1]).mean() > 0.9, effect
    assert PLAIN.effects == ()


def test_without_atmosphere_no_air_is_left(ground):
    acquisition = a_pass(PLAIN)
    none = replace(PLAIN, atmosphere=0.0)
    veiled = replace(none, effects=("veil", "dark-target"))
    first, second = (
        render_optical(prepare(s, acquisition), ground)["blue"][1] for s in (none, veiled)
    )
    np.testing.assert_array_equal(first, second)


def test_the_truth_has_no_effects():
    everything = replace(PLAIN, effects=EFFECTS, relief=8.0, size=(240.0, 240.0))
    plain = replace(everything, effects=(), relief=1.0)
    first, second = (truth(s, "2022-06-10T10:40", resolution=30.0) for s in (everything, plain))
    np.testing.assert_array_equal(first.reflectance.values, second.reflectance.values)


def test_without_dark_vegetation_the_fallback_is_that_of_the_baseline(monkeypatch):
    monkeypatch.setattr(atmosphere, "darkness", lambda *_: (1.0, 0.5))
    simulation = replace(PLAIN, effects=("dark-target",), baseline="without-offset")
    acquisition = a_pass(simulation)
    angles = prepare(simulation, acquisition).angles
    old = atmosphere.render_air(simulation, acquisition, WINDOW, angles)
    new = atmosphere.render_air(
        replace(simulation, baseline="with-offset"), acquisition, WINDOW, angles
    )
    assert old is not None
    assert new is not None
    np.testing.assert_allclose(old.retrieved, 0.143, atol=1e-6)
    assert not np.isclose(new.retrieved, 0.143).any()


def test_a_retrieval_is_worse_where_dark_vegetation_is_brighter(monkeypatch):
    simulation = replace(PLAIN, effects=("dark-target",), start="2022-03-01", end="2022-10-31")
    errors = {}
    for level in (0.04, 0.09):
        monkeypatch.setattr(atmosphere, "darkness", lambda *_, level=level: (level, level / 2))
        found = []
        for acquisition in simulation.passes():
            if acquisition.orbit.sensor == "sentinel-2-l2a":
                angles = prepare(simulation, acquisition).angles
                air = atmosphere.render_air(simulation, acquisition, WINDOW, angles)
                assert air is not None
                found.append(float((air.retrieved - air.load).mean()))
        errors[level] = np.std(found)
    assert errors[0.09] > 1.2 * errors[0.04]


def test_a_correction_for_slopes_leaves_less_shading_than_none(ground):
    angles = Angles(sun_zenith=60.0, sun_azimuth=150.0, view_zenith=5.0, view_azimuth=100.0)
    simulation = replace(PLAIN, effects=("terrain",), relief=6.0)
    spread = {
        sensor: relief.render_light(
            simulation, a_pass(simulation, sensor), ground.fine, angles
        ).factor(865.0).std()
        for sensor in ("sentinel-2-l2a", "landsat-c2-l2")
    }  # fmt: skip
    assert spread["sentinel-2-l2a"] < 0.7 * spread["landsat-c2-l2"]


def test_hills_cast_shadows_when_the_sun_is_low(ground):
    acquisition = a_pass(PLAIN, "landsat-c2-l2")
    shadowed = {}
    for zenith in (40.0, 86.0):
        angles = Angles(sun_zenith=zenith, sun_azimuth=150.0, view_zenith=5.0, view_azimuth=100.0)
        simulation = replace(PLAIN, effects=("terrain",), relief=8.0)
        light = relief.render_light(simulation, acquisition, ground.fine, angles)
        shadowed[zenith] = (light.direct < 0.01).mean()
    assert shadowed[40.0] == 0
    assert shadowed[86.0] > 0.02


def test_glint_is_on_water_only_and_the_same_in_all_bands(ground):
    simulation = replace(PLAIN, effects=("water",), start="2022-05-01", end="2022-08-31")
    strengths = [
        relief.glint(simulation, p, prepare(simulation, p).angles) for p in simulation.passes()
    ]
    brightest = int(np.argmax(strengths))
    acquisition = simulation.passes()[brightest]
    assert 0.005 < strengths[brightest] < 0.1
    from xharmonize.simulate.landscape import render_landscape
    from xharmonize.simulate.passes import surface_reflectance

    window = Window(left=490_000, top=5_640_000, step=40.0, width=120, height=120)
    landscape = render_landscape(0, window)
    images = [
        surface_reflectance(prepare(s, acquisition), landscape)
        for s in (replace(simulation, effects=()), simulation)
    ]
    added = images[1] - images[0]
    water = landscape.cover == int(Cover.WATER)
    assert water.any()
    np.testing.assert_allclose(added[:, ~water], 0.0, atol=1e-6)
    # banks shade some of it
    np.testing.assert_allclose(added[:, water], strengths[brightest], rtol=0.2)
    np.testing.assert_allclose(added[0], added[-1], atol=1e-6)


def test_scenes_are_frozen(ground):
    """The code's fingerprint stands in the documentation; pixels may differ in the last digit."""
    page = Path(__file__).parents[2] / "docs" / "explanation" / "simulator.md"
    if page.exists():
        assert f"`{fingerprint()}`" in page.read_text(encoding="utf-8")
    everything = replace(PLAIN, effects=EFFECTS, relief=3.0, cloudiness=0.3)
    assets = render_optical(prepare(everything, a_pass(everything)), ground)
    means = [assets[name][1].mean() for name in ("blue", "red", "nir", "swir16")]
    np.testing.assert_allclose(means, FROZEN, atol=2.0)


FROZEN = (1499.0, 1691.5, 4189.2, 3158.1)
"""Mean digital numbers of one tile with all effects."""


def test_the_fingerprint_is_of_code_and_configuration_not_of_comments():
    code = 'def f(x):\n    """Say."""\n    return (x, "a")  # why\n'
    other = (
        'def f(x):\n    """Say more."""\n    # how\n    return (\n        x,\n        "a",\n    )\n'
    )
    assert tokens_of(code) == tokens_of(other)
    assert tokens_of(code) != tokens_of(code.replace('"a"', '"b"'))
    assert fingerprint(PLAIN) == fingerprint(replace(PLAIN))
    assert fingerprint(PLAIN) != fingerprint(replace(PLAIN, relief=2.0))
    assert fingerprint(PLAIN) != fingerprint(PLAIN, "more")


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"effects": ("veils",)}, RadiometryError, "did you mean 'veil'"),
        ({"relief": -1.0}, GridError, "relief"),
        ({"relief": np.nan}, GridError, "relief"),
    ],
)
def test_nonsense_is_refused(changed, error, message):
    with pytest.raises(error, match=message):
        replace(PLAIN, **changed)
