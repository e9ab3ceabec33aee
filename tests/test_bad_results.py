"""Bad input to series, results and metrics: one test for each line of that section."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr

import xharmonize as xh
from xharmonize.testing import example_cube

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "bad-input.md"
DATES = [f"2018-07-{day:02}T10:50" for day in range(1, 28, 3)]


@pytest.fixture(scope="module")
def cube() -> xr.DataArray:
    return example_cube(dates=DATES, missing=0.0)


@pytest.fixture(scope="module")
def smoothed(cube) -> xr.DataArray:
    return cube.harmonize.index("ndvi").harmonize.smooth(step="1D")


def shifted(cube, by):
    return cube.copy(data=cube.values + np.float32(by))


def test_bright_bands(cube):
    table = xh.check_radiometry(shifted(cube, 0.06).sel(band=["nir08", "swir16"]))
    assert set(table["verdict"]) == {"cannot tell"}


def test_one_hazy_date(cube):
    hazy = xr.concat([shifted(cube, 0.12)[:1], cube[1:]], "time")
    table = xh.check_radiometry(hazy)
    assert table["verdict"][0] == "offset missed"
    assert not table["is_contradiction"].any()


def test_undefined_ndvi(cube):
    two = cube.isel(time=[0, 1]).copy(deep=True)
    two.loc[{"band": "red"}][1] = -0.02
    made = two.harmonize.composite("month", method="max_ndvi")
    np.testing.assert_array_equal(made[0], two[0])


def test_arrays_at_other_places():
    one = xr.DataArray(np.ones((3, 4)), coords={"y": [1, 2, 3], "x": [1, 2, 3, 4]})
    with pytest.raises(
        xh.errors.GridError, match=r"differ along 'x': 1 to 4, and 2 to 5; .*xr\.align"
    ):
        xh.score(one, one.assign_coords(x=one["x"] + 1))


def test_one_date_against_many(cube):
    one = cube.isel(time=2)
    assert (xh.score(cube, one, "n")["n"] == one.sizes["y"] * one.sizes["x"]).all()
    with pytest.raises(xh.errors.TimeAxisError, match="only one of the two has dates"):
        xh.score(cube, cube.mean("time"))


def test_stated_nodata():
    one = xr.DataArray([1.0, -9999.0], dims="i", attrs={"_FillValue": -9999.0})
    assert int(xh.score(one, xr.zeros_like(one), "n")["n"]) == 1


def test_stated_scale():
    one = xr.DataArray([100, 200], dims="i", attrs={"scale_factor": 1e-4})
    with pytest.raises(xh.errors.RadiometryError, match=r"scale_factor=0\.0001"):
        xh.score(one, one)


def test_values_that_are_no_numbers():
    with pytest.raises(
        xh.errors.MetricError, match="compares numbers, not values of type complex128"
    ):
        xh.score(xr.DataArray([1j]), xr.DataArray([1j]))


def test_unknown_options(cube):
    ndvi = cube.harmonize.index("ndvi")
    for call in (
        lambda: xh.series.smooth(ndvi, method="spline"),
        lambda: xh.series.composite(ndvi, method="best"),
        lambda: xh.series.phenology(ndvi, method="best"),
        lambda: xh.densify(cube, duplicates="best"),
        lambda: xh.series.screen_outliers(ndvi, direction="best"),
        lambda: xh.match_pairs(cube, cube, bands="best"),
        lambda: xh.plot.maps(cube, stretch="best"),
    ):
        with pytest.raises(xh.errors.OptionError, match=r"(best|spline)'.*(choose|give)"):
            call()


def test_counting_a_smoothed_series(cube, smoothed):
    with pytest.raises(xh.errors.ContractError, match="has no 'origin'"):
        xh.series.frequency(smoothed)
    known = cube.harmonize.index("ndvi").to_dataset(name="ndvi").harmonize.smooth(step="1D")
    assert int(xh.series.frequency(known)["scenes"].sel(sensor="all", fraction=0).sum()) == len(
        DATES
    )


def test_step_of_a_smoothed_series(smoothed):
    with pytest.raises(xh.errors.TimeAxisError, match="measure it before that"):
        xh.series.sensor_offsets(smoothed)


def test_fields_smaller_than_a_pixel(smoothed):
    x, y = float(smoothed["x"][3]), float(smoothed["y"][3])
    with pytest.warns(
        xh.errors.GridWarning, match="1 of 1 fields are smaller .* 100% of the fields"
    ):
        smoothed.harmonize.to_table([shapely.Point(x, y).buffer(2)], crs=32631)


def test_rows_that_come_twice(smoothed):
    x, y = float(smoothed["x"][3]), float(smoothed["y"][3])
    table = smoothed.harmonize.to_table([shapely.Point(x, y).buffer(20)], crs=32631)
    with pytest.raises(xh.errors.TimeAxisError, match="1 rows come twice"):
        pd.concat([table, table[:1]]).to_xarray()


def test_a_result_added_to_a_store(smoothed, tmp_path):
    with pytest.raises(xh.errors.StoreError, match="write it whole"):
        xh.to_zarr(smoothed.harmonize.phenology(), tmp_path / "s.zarr", mode="upsert")


def test_the_reference_lists_every_test_of_this_section():
    section = PAGE.read_text(encoding="utf-8").partition("## Series, results and metrics")[2]
    listed = re.findall(r"`(test_\w+)`", section.partition("\n## ")[0])
    own = [name for name in globals() if name.startswith("test_") and "reference" not in name]
    assert listed == own
