"""The walk of CONTRIBUTING.md: a sensor as odd as the built-in ones needs no other change."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from helpers.items import LEFT, TOP, landsat, make_item

import xharmonize as xh
from xharmonize.io.stac.scenes import read_scenes
from xharmonize.sensors import registry

WALK = Path(__file__).parents[2] / "CONTRIBUTING.md"
NAME = "MYS1_SR_20220601T105000_B0310_T042007"
CLOUD, CLEAR = 2, 128  # 0 is nodata of the files


@pytest.fixture(autouse=True)
def mysat(monkeypatch):
    """The sensor as CONTRIBUTING.md registers it; its registration ends with the test."""
    monkeypatch.setattr(registry, "_SENSORS", dict(registry._SENSORS))
    section = WALK.read_text(encoding="utf-8").partition("## Add a sensor")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert code is not None
    exec(compile(code[1], str(WALK), "exec"), names := {})
    return names["mysat"]


def item(folder, name=NAME, *, collection="mysat-sr", shift=500, dark=1000, **properties):
    """Red is 0.1 and more to the right, near infrared 0.4; the first column is cloudy."""
    red = np.broadcast_to(dark + shift + 10 * np.arange(24), (24, 24)).astype("uint16")
    mask = np.full((24, 24), CLEAR, "uint8")
    mask[:, 0] = CLOUD
    layers = {"R": red, "N": np.full_like(red, 4000 + shift), "T": np.full_like(red, 29_000)}
    layers = {key: (values, 10.0, LEFT, TOP) for key, values in {**layers, "M": mask}.items()}
    time = "2022-06-01T10:50:00Z"
    return make_item(folder, name, time, layers, collection=collection, properties=properties)


def test_items_are_settled_by_their_names(tmp_path):
    scene = read_scenes(item(tmp_path))[0]
    step = scene.step
    assert (step.sensor, step.platform, step.bandpass) == ("mysat-sr", "mysat-1", "mycam")
    assert (step.processing_baseline, step.tile) == ("03.10", "042007")
    assert scene.datatake == "mysat-1_20220601T105000"
    assert step.offset == {"red": -0.05, "nir08": -0.05}
    assert scene.assets == {"red": "R", "nir08": "N", "mask": "M"}
    unfiled = read_scenes(item(tmp_path, collection="elsewhere"))[0]  # known by its product name
    assert unfiled.sensor is scene.sensor
    assert read_scenes(item(tmp_path, platform="MYS_1"))[0].step.platform == "mysat-1"


@pytest.mark.parametrize(
    ("name", "about", "offset"),
    [
        (NAME.replace("B0310", "B0299"), {}, 0.0),
        (NAME, {"mysat:offset_applied": "true"}, 0.0),
        (NAME.replace("B0310_", ""), {"processing:version": "02.10"}, 0.0),
        (NAME.replace("B0310_", ""), {"my:processing_baseline": "3.0"}, -0.05),
    ],
)
def test_the_offset_begins_at_a_baseline_unless_it_was_applied(tmp_path, name, about, offset):
    assert read_scenes(item(tmp_path, name, **about))[0].step.offset["red"] == offset


@pytest.mark.parametrize(
    ("name", "about", "says"),
    [
        (NAME.replace("_SR_", "_TOA_"), {}, "which is top-of-atmosphere reflectance"),
        (NAME, {"platform": "mysat-2"}, "says platform 'mysat-2' but is named after 'mysat-1'"),
        (NAME, {"platform": "sentinel-2a"}, "says platform 'sentinel-2a'"),
        (NAME.replace("B0310_", ""), {}, "names no processing baseline"),
        (NAME, {"processing:version": "02.10"}, r"02\.10 means offset 0\.0, its id says 03\.10"),
    ],
)
def test_what_contradicts_the_sensor_is_refused(tmp_path, name, about, says):
    with pytest.raises(xh.errors.RadiometryError, match=says):
        read_scenes(item(tmp_path, name, **about))


def test_items_of_others_are_not_taken_for_it(tmp_path):
    other = landsat(tmp_path)
    other["id"] = "MYS1_TOA_20220601T105000_B0310_T042007"
    with pytest.raises(xh.errors.RadiometryError, match="named after 'mysat-1'"):
        read_scenes(other)


def test_a_scale_that_is_not_its_own_is_refused(tmp_path):
    odd = item(tmp_path)
    odd["assets"]["R"]["raster:bands"][0]["scale"] = 1e-3
    with pytest.raises(xh.errors.RadiometryError, match="declares scale"):
        read_scenes(odd)


def test_open_stac_reads_masks_and_decodes(tmp_path):
    cube = xh.open_stac(item(tmp_path), mask="clear")
    expected = 0.1 + 0.001 * np.arange(1, 24)
    np.testing.assert_allclose(cube.sel(band="red")[0, 0, 1:], expected, atol=1e-6)
    assert np.isnan(cube[:, :, :, 0]).all()
    assert set(xh.check_radiometry(cube)["verdict"]) == {"ok"}
    thermal = xh.open_stac(item(tmp_path), bands=["lwir"], mask=None)
    np.testing.assert_allclose(thermal.values, 290.0, atol=1e-3)
    assert thermal.attrs["units"] == "K"


@pytest.mark.parametrize(
    ("shift", "is_applied", "verdict"),
    [
        (500, False, "ok"),
        (500, True, "offset missed"),
        (0, True, "ok"),
        (0, False, "offset applied twice"),
    ],
)
def test_check_radiometry_compares_pixels_with_its_offset(tmp_path, shift, is_applied, verdict):
    about = {"mysat:offset_applied": is_applied}
    one = item(tmp_path, shift=shift, dark=20, **about)
    cube = xh.open_stac(one, mask=None)
    assert set(xh.check_radiometry(cube)["verdict"]) == {verdict}


def test_describe_knows_the_same_rules(tmp_path):
    cube = xh.open_stac(item(tmp_path), mask=None, decode=False)
    pixels = cube.reset_coords(drop=True).assign_coords(spatial_ref=cube.spatial_ref)
    about = {"sensor": "mysat-sr", "platform": "MYS1"}
    described = xh.describe(pixels, processing_baseline="03.10", **about)
    assert described.platform.values.tolist() == ["mysat-1"]
    np.testing.assert_allclose(described.offset, -0.05)
    np.testing.assert_allclose(xh.decode(described), xh.decode(cube))
    flagged = pixels.assign_coords({"mysat:offset_applied": True})
    assert float(xh.describe(flagged, processing_baseline="03.10", **about).offset[0, 0]) == 0
    with pytest.raises(xh.errors.RadiometryError, match="names no processing baseline"):
        xh.describe(pixels, **about)


def test_to_landsat_by_a_fit(tmp_path):
    source = xh.open_stac(item(tmp_path), bands=["red"], mask=None)
    target = (0.9 * source + 0.01).assign_coords(
        {name: ("time", [value]) for name, value in {
            "sensor": "landsat-c2-l2", "platform": "landsat-8", "bandpass": "oli", "level": "SR",
        }.items()}
    ).assign_attrs(source.attrs)  # fmt: skip
    fit = xh.fit_linear(xh.match_pairs(source, target))
    result = source.harmonize.to_landsat(fit)
    np.testing.assert_allclose(result, target, atol=1e-5)
    assert result.bandpass.values.tolist() == ["oli"]


def test_patterns_that_cannot_work_are_refused(mysat):
    from dataclasses import replace

    for change, says in (
        ({"products": ("(",)}, "is no regular expression"),
        ({"parts": (r"_(?P<row>\d)",)}, r"names the parts \['row'\]"),
        ({"parts": (r"_(\d)",)}, "name those that it finds: platform, baseline"),
    ):
        odd = replace(mysat, names=replace(mysat.names, **change))
        with pytest.raises(xh.errors.SensorError, match=says):
            xh.sensors.register_sensor(odd, replace=True)
