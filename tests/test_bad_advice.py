"""What messages advise, followed to the letter. In the reference."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from helpers.foreign import cured, plain

import xharmonize as xh
from xharmonize.simulate import Simulation, write_catalog
from xharmonize.testing import example_cube

OLD = {"sensor": "sentinel-2-l2a", "crs": "EPSG:32631", "processing_baseline": "02.12"}
PAGE = Path(__file__).parents[1] / "docs" / "reference" / "bad-input.md"


def test_etm_in_a_series_of_oli():
    oli, etm = (example_cube("landsat-c2-l2", platform=f"landsat-{n}") for n in (8, 7))
    with pytest.raises(xh.errors.ModelError, match="'etm\\+', the target in 'oli'") as error:
        oli.harmonize.densify(etm)
    oli.harmonize.densify(cured(error, etm))
    later = etm.assign_coords(time=etm["time"] + np.timedelta64(1, "D"))
    mixed = xr.concat([oli, later], "time")
    with pytest.raises(xh.errors.ModelError, match="merge values of bandpasses") as error:
        mixed.harmonize.index("ndvi").harmonize.smooth()
    cured(error, mixed).harmonize.index("ndvi").harmonize.smooth()
    with pytest.raises(xh.errors.RadiometryError, match="roy-2016 takes etm"):
        etm.harmonize.to_landsat()
    msi = example_cube()
    with pytest.raises(xh.errors.ModelError, match="'msi', the target in 'oli'") as error:
        oli.harmonize.densify(msi)
    assert set(cured(error, msi)["bandpass"].values) == {"oli"}
    with pytest.raises(xh.errors.ModelError, match="'oli', the target in 'msi'") as error:
        msi.harmonize.densify(oli)
    msi.harmonize.densify(cured(error, oli))
    with pytest.raises(xh.errors.ModelError, match="'oli', the target in 'etm") as error:
        etm.harmonize.densify(oli)
    etm.harmonize.densify(cured(error, oli))


@pytest.fixture
def items(tmp_path) -> list[dict[str, Any]]:
    """Items that name their product nowhere, neither by themselves nor by their folders."""
    place = Simulation(
        center=(501_600, 5_628_960),
        size=(120, 120),
        start="2022-06-03",
        end="2022-06-10",
        sensors=("sentinel-2-l2a",),
    )
    found = []
    catalog = write_catalog(place, tmp_path)
    for i, path in enumerate(sorted(catalog.parent.glob("sentinel-2-l2a/*/*.json"))):
        item = json.loads(path.read_text())
        for key, asset in item["assets"].items():
            copied = tmp_path / f"{i}{key}.tif"
            asset["href"] = str(shutil.copy(path.parent / asset["href"], copied))
        kept = ("datetime", "platform", "proj:", "s2:processing_baseline", "raster:")
        properties = {k: v for k, v in item["properties"].items() if k.startswith(kept)}
        found.append({**item, "id": f"a-{i}", "properties": properties})
    return found


@pytest.fixture
def registry(monkeypatch) -> None:
    """Products registered by a test are gone after it."""
    from xharmonize.sensors import registry

    monkeypatch.setattr(registry, "_SENSORS", dict(registry._SENSORS))


def advice(error: pytest.ExceptionInfo[Exception]) -> None:
    """Do what a message says about registering."""
    found = re.search(
        r"(sensor = xh\.sensors\.get_sensor\(.*?\)); (xh\.sensors\.register_sensor\(.*\))",
        str(error.value),
    )
    assert found, str(error.value)
    code = f"{found[1]}\n{found[2].partition('; otherwise')[0]}"
    exec(code, {"xh": xh, "dataclasses": dataclasses})  # what a user would paste


@pytest.mark.usefixtures("registry")
def test_a_product_of_no_sensor(items):
    renamed = [{**item, "collection": "my-s2"} for item in items]
    with pytest.raises(
        xh.errors.UnknownSensorError, match="if its numbers are those of sentinel-2"
    ) as error:
        xh.open_stac(renamed, bands=["red"])
    advice(error)
    assert set(xh.open_stac(renamed, bands=["red"])["sensor"].values) == {"sentinel-2-l2a"}
    other = [{**renamed[0], "collection": "modis"}]
    other[0]["properties"] = {**other[0]["properties"], "platform": "terra"}
    with pytest.raises(
        xh.errors.UnknownSensorError, match=r"platform 'terra'\); leave it out"
    ) as error:
        xh.open_stac(other, bands=["red"])
    assert "sentinel" not in str(error.value).replace("sentinel-2a", "")


@pytest.mark.usefixtures("registry")
def test_level_1_of_no_sensor(items):
    level_1 = [{**item, "collection": "my-l1c"} for item in items]
    with pytest.raises(xh.errors.UnknownSensorError, match="Level 1, top-of-atmosphere") as error:
        xh.open_stac(level_1, bands=["red"])
    advice(error)
    cube = xh.open_stac(level_1, bands=["red"], mask=None)
    assert set(cube["level"].values) == {"TOA"}
    with pytest.raises(xh.errors.RadiometryError, match="TOA"):
        cube.harmonize.to_landsat()


def test_warnings_point_to_the_callers_line():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        told = {"2022-06-09": "sentinel-2b"}  # the cube says 2A
        named = plain().assign_coords(platform=("time", ["sentinel-2a"] * 2))
        xh.describe(named, **{**OLD, "platform": told}, item_id=["a", "b"])
        done = example_cube(platform="sentinel-2").harmonize.to_landsat()
        angles = {
            "sun_zenith": 30.0,
            "sun_azimuth": 150.0,
            "view_zenith": 4.0,
            "view_azimuth": 100.0,
        }
        named = {name: ("time", np.full(3, value)) for name, value in angles.items()}
        done.assign_coords(named).harmonize.nbar()
    assert seen
    assert {warning.filename for warning in seen} == {__file__}


def test_errors_stay_short():
    cube = example_cube()
    with pytest.raises(xh.errors.ContractError) as error:
        xh.decode(cube.reset_coords(drop=True))
    assert len(str(error.value)) < 450
    many = cube.isel(band=np.zeros(300, int)).assign_coords(band=[f"b{i}" for i in range(300)])
    with pytest.raises(xh.errors.BandError) as error:
        many.harmonize.index("ndvi")
    assert len(str(error.value)) < 450


def test_the_reference_lists_these():
    section = PAGE.read_text(encoding="utf-8").partition("## Advice")[2]
    listed = re.findall(r"`(test_\w+)`", section.partition("\n## ")[0])
    own = [name for name in globals() if name.startswith("test_") and "reference" not in name]
    assert listed == own
