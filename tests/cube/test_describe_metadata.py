"""What names, coordinates and attributes say of a date counts in `describe` as it does in items."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.io.stac.scenes import read_scenes

NAME = "S2A_MSIL2A_20180701T105031_{}_R051_T31UFS_20180701T130000"
S2 = {"sensor": "sentinel-2-l2a", "platform": "sentinel-2a", "crs": "EPSG:32631"}
NEW = {**S2, "processing_baseline": "05.00"}
LANDSAT = {"sensor": "landsat-c2-l2", "platform": "landsat-8", "crs": "EPSG:32631"}


def plain(value: float = 2000, dtype: str = "uint16", **coords: Any) -> xr.DataArray:
    """Two dates of two bands that say nothing but what `coords` say."""
    own = {
        "time": pd.to_datetime(["2018-07-01T10:50", "2018-07-03T10:50"]),
        "band": ["red", "green"],
        "y": [5_000_015.0, 5_000_005.0],
        "x": [500_005.0, 500_015.0],
    }
    pixels = np.full((2, 2, 2, 2), value, dtype)
    return xr.DataArray(pixels, {**own, **coords}, ("time", "band", "y", "x"))


def red(cube: xr.DataArray, **says: Any) -> list[float]:
    """Reflectance of red, date by date."""
    found = xh.describe(cube, **says)
    return xh.decode(found).values[:, 0, 0, 0].astype(float).round(4).tolist()


LEVEL_1 = {
    "s2:product_type": "S2MSI1C",
    "sentinel:product_type": ("time", ["S2MSI2A", "S2MSI1C"]),
    "processing:level": ("time", ["L1C", "L1C"]),
    "id": ("time", [NAME.format("N0206").replace("L2A", "L1C")] * 2),
    "s2:product_uri": NAME.format("N0206").replace("L2A", "L1C") + ".SAFE",
}


@pytest.mark.parametrize("name", LEVEL_1)
def test_a_cube_of_level_1_is_not_described_as_surface_reflectance(name):
    cube = plain(**{name: LEVEL_1[name]})
    with pytest.raises(xh.errors.RadiometryError, match="top-of-atmosphere") as error:
        xh.describe(cube, **NEW)
    assert name in str(error.value)
    assert red(cube.drop_vars(name), **NEW) == [0.1, 0.1]


def test_attributes_and_arguments_name_the_level_too():
    cube = plain().assign_attrs(PRODUCT_TYPE="S2MSI1C")  # as GDAL says it of a SAFE folder
    with pytest.raises(xh.errors.RadiometryError, match="S2MSI1C"):
        xh.describe(cube, **NEW)
    with pytest.raises(xh.errors.RadiometryError, match="MSIL1C"):
        xh.describe(plain(), **NEW, item_id=LEVEL_1["s2:product_uri"])


def test_level_1_is_described_as_what_it_is_and_not_harmonised_as_surface_reflectance():
    cube = xh.describe(plain(**{"processing:level": "L1C"}), **NEW, level="TOA")
    assert set(cube["level"].values) == {"TOA"}
    with pytest.raises(xh.errors.RadiometryError, match="is TOA"):
        xh.to_landsat(cube)
    with pytest.raises(xh.errors.RadiometryError, match="surface reflectance"):
        xh.describe(plain(id=("time", [NAME.format("N0500")] * 2)), **NEW, level="TOA")


@pytest.mark.parametrize(
    "coords",
    [
        {"id": ("time", ["LC08_L1TP_198024_20180701_20180716_02_T1"] * 2)},
        {"landsat:correction": "L1TP"},
        {"id": ("time", ["LC08_L2SP_198024_20180701_20180716_01_T1"] * 2)},
        {"landsat:collection_number": "01"},
    ],
)
def test_landsat_names_its_level_and_its_collection(coords):
    assert red(plain(20000), **LANDSAT) == [0.35, 0.35]
    with pytest.raises(xh.errors.RadiometryError):
        xh.describe(plain(20000, **coords), **LANDSAT)


def test_one_product_of_hls_is_not_the_other():
    cube = plain(id=("time", ["HLS.L30.T31UFS.2018182T104907.v2.0"] * 2))
    with pytest.raises(xh.errors.RadiometryError, match="another product"):
        xh.describe(cube, sensor="hls-s30", platform="sentinel-2a", crs="EPSG:32631")


@pytest.mark.parametrize(
    "coords",
    [
        {"sentinel2:processing_baseline": "05.00"},
        {"processing:version": "05.00"},
        {"id": ("time", [NAME.format("N0500")] * 2)},
        {"s2:product_uri": NAME.format("N0500") + ".SAFE"},
    ],
)
def test_the_baseline_is_found_where_items_have_it(coords):
    assert red(plain(**coords), **S2) == [0.1, 0.1]
    with pytest.raises(xh.errors.RadiometryError, match=r"02\.06"):
        xh.describe(plain(**coords), **S2, processing_baseline="02.06")
    settled = red(plain(**coords), **S2, processing_baseline="02.06", scale=1e-4, offset=0.0)
    assert settled == [0.2, 0.2]


def test_the_platform_is_found_in_names():
    cube = plain(id=("time", [NAME.format("N0500").replace("S2A", "S2B")] * 2))
    assert set(xh.describe(cube, **S2)["platform"].values) == {"sentinel-2b"}


def test_an_item_that_states_two_baselines_is_refused_where_they_mean_different_offsets():
    def item(**properties: Any) -> dict[str, Any]:
        time = {"datetime": "2018-07-01T10:50:31Z", "platform": "sentinel-2a"}
        return {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": "a",
            "collection": "sentinel-2-l2a",
            "geometry": None,
            "properties": {**time, "proj:epsg": 32631, **properties},
            "links": [],
            "assets": {"red": {"href": "https://a.test/a.tif"}},
        }

    old = {"s2:processing_baseline": "02.06"}
    named = {"s2:product_uri": NAME.format("N0500") + ".SAFE"}
    assert read_scenes(item(**named), bands=["red"])[0].step.offset == {"red": -0.1}
    with pytest.raises(xh.errors.RadiometryError, match=r"02\.06.*s2:product_uri says 05\.00"):
        read_scenes(item(**old, **named), bands=["red"])
    settled = read_scenes(item(**old, **named), bands=["red"], radiometry={"offset": 0.0})
    assert settled[0].step.offset == {"red": 0.0}
    alike = {"s2:processing_baseline": "05.10", **named}
    assert read_scenes(item(**alike), bands=["red"])[0].step.offset == {"red": -0.1}


def test_scale_and_offset_count_under_their_plain_names():
    with pytest.raises(xh.errors.RadiometryError, match="offset"):
        xh.describe(plain().assign_attrs(scale=1e-4, offset=-0.1), **S2, processing_baseline="2.06")
    assert red(plain().assign_attrs(scale=1e-4, offset=-0.1), **NEW) == [0.1, 0.1]
    with pytest.raises(xh.errors.RadiometryError, match=r"states offset -0\.2"):
        xh.describe(plain().assign_attrs(scale=2.75e-5, offset=-0.2), **NEW)


def test_fields_of_stac_1_1_count_that_stackstac_makes_coordinates_of():
    line = {"raster:scale": ("band", [1e-4, 1e-4])}
    offsets = (("time", "band"), [[-0.1, -0.1], [0.0, 0.0]])
    cube = plain(**line, **{"raster:offset": offsets, "nodata": ("band", [7, 7])})
    assert red(cube, **S2) == [0.1, 0.2]
    assert red(cube, **S2, processing_baseline=["05.00", "02.06"]) == [0.1, 0.2]
    with pytest.raises(xh.errors.RadiometryError, match="contradicts"):
        xh.describe(cube, **NEW)
    assert np.isnan(red(cube.copy(data=np.full_like(cube, 7)), **S2)).all()


def test_the_flag_of_a_catalogue_counts_in_attributes():
    cube = plain().assign_attrs({"earthsearch:boa_offset_applied": True})
    assert red(cube, **NEW) == [0.2, 0.2]


@pytest.mark.parametrize("units", ["%", "percent"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_percent_is_not_read_as_a_fraction(units, dtype):
    cube = plain(20, dtype).assign_attrs(units=units)
    says = {**NEW, "is_decoded": True} if dtype == "float32" else NEW
    with pytest.raises(xh.errors.RadiometryError, match="fraction of 1"):
        xh.describe(cube, **says)
    told = {**NEW, "scale": 0.01, "offset": 0.0, "is_decoded": False}
    assert red(cube, **told) == [0.2, 0.2]
