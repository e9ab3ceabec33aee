"""Bad input of filling, one test each. Listed in the reference."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.errors import (
    BandError,
    ContractError,
    FitError,
    ModelError,
    OptionError,
    RadiometryError,
    TimeAxisError,
)
from xharmonize.fusion import fit_fill
from xharmonize.testing import example_cube

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "bad-input.md"
DATES = tuple(f"2018-07-{day:02}T10:50" for day in range(1, 31, 3))
BANDS = ("red", "nir08", "swir16")


def optical(**options) -> xr.DataArray:
    return example_cube(**{"bands": BANDS, "dates": DATES, "missing": 0.2} | options)


def radar(**options) -> xr.DataArray:
    given = {"bands": ("vv", "vh"), "dates": DATES, "missing": 0} | options
    return example_cube("sentinel-1-rtc", platform="sentinel-1a", **given)


def fill_by_sar(cube, sentinel1, **options):
    return xh.fill_clouds(cube, sentinel1, "sar-regression", **options)


def test_no_sentinel1():
    with pytest.raises(ContractError, match=r"'sar-regression' needs Sentinel-1; give it, .*rtc"):
        fill_by_sar(optical(), None)


def test_sentinel1_for_a_model_without_use_for_it():
    with pytest.raises(ModelError, match=r"'temporal' has no use for Sentinel-1; leave sentinel1"):
        xh.fill_clouds(optical(), radar())


def test_another_sensor_for_sentinel1():
    with pytest.raises(RadiometryError, match="radar backscatter is needed, the cube is of sent"):
        fill_by_sar(optical(), optical())


def test_a_polarisation_missing():
    with pytest.raises(BandError, match="needs band vh"):
        fill_by_sar(optical(), radar(bands=("vv",)))


def test_backscatter_without_a_unit():
    bare = radar()
    bare.attrs.pop("units")
    with pytest.raises(RadiometryError, match=r"linear power or decibels; .*units='dB'"):
        fill_by_sar(optical(), bare)


def test_decibels_beside_linear_power():
    cube, power = optical(), radar()
    fit = fit_fill(cube, power, "sar-regression")
    decibels = xh.fill_clouds(cube, xh.fusion.radar.to_decibels(power), fit)
    np.testing.assert_allclose(
        decibels["reflectance"], xh.fill_clouds(cube, power, fit)["reflectance"], atol=1e-5
    )


def test_sentinel1_of_other_months():
    late = radar(dates=[date.replace("2018", "2019") for date in DATES])
    with pytest.raises(TimeAxisError, match="no date has a Sentinel-1 pass within 6 days, the n"):
        fill_by_sar(optical(), late)


def test_passes_of_several_orbits():
    evening = radar(dates=[f"2018-07-{day:02}T17:32" for day in range(1, 31, 6)])
    morning = radar(dates=[f"2018-07-{day:02}T05:50" for day in range(1, 31, 6)], seed=1)
    morning = morning * 1.6  # looks from another side
    both = xr.concat([evening, morning.assign_attrs(evening.attrs)], "time").sortby("time")
    other = xr.concat([evening, (morning * 1.5).assign_attrs(evening.attrs)], "time").sortby("time")
    cube = optical()
    fit = fit_fill(cube, both, "sar-regression")
    np.testing.assert_allclose(
        xh.fill_clouds(cube, both, fit)["reflectance"].diff("time"),
        xh.fill_clouds(cube, other, fit)["reflectance"].diff("time"),
        atol=0.05,
    )


def test_a_fit_of_other_bands():
    fit = fit_fill(optical())
    with pytest.raises(BandError, match=r"'temporal' was not fitted on band swir22; it has red"):
        xh.fill_clouds(optical(bands=("red", "swir22")), model=fit)


def test_no_red_and_near_infrared():
    with pytest.raises(BandError, match="'sar-regression' needs band red"):
        fill_by_sar(optical(bands=("blue", "nir08")), radar())


def test_a_fit_of_another_bandpass():
    landsat = example_cube(
        "landsat-c2-l2", platform="landsat-8", bands=BANDS, dates=DATES, missing=0.2
    )
    with pytest.raises(ModelError, match="fitted on msi, the cube is in oli"):
        xh.fill_clouds(landsat, model=fit_fill(optical()))


def test_two_bandpasses():
    cube = optical()
    mixed = cube.assign_coords(bandpass=("time", ["msi"] * 5 + ["oli"] * 5))
    with pytest.raises(ModelError, match=r"merge values of bandpasses \['msi', 'oli'\]"):
        xh.fill_clouds(mixed)


def test_one_date():
    with pytest.raises(FitError, match="a fit needs at least 3 dates, the cube has 1"):
        xh.fill_clouds(optical().isel(time=[0]))
    with pytest.raises(TimeAxisError, match="needs other dates, the cube has 1; give more dates"):
        xh.fill_clouds(optical().isel(time=[0]), model=fit_fill(optical()))


def test_no_clear_date_near():
    cube = optical()
    cube[1:] = np.nan
    filled = xh.fill_clouds(cube, max_gap="7D")
    known = np.isfinite(cube[0].values)
    for step in (1, 2):
        np.testing.assert_array_equal(
            filled["reflectance"].values[step][known], cube.values[0][known]
        )
    assert np.isnan(filled["reflectance"][3:]).all()
    assert np.isnan(filled["uncertainty"]).all()


def test_too_few_clear_pairs():
    cube = optical(shape=(4, 4))
    with pytest.raises(FitError, match=r"estimates beside clear values with .*1000 are needed"):
        fit_fill(cube, radar(shape=(4, 4)), "sar-regression")


def test_missing_in_one_source():
    cube, beside = optical(), radar()
    fit = fit_fill(cube, beside, "sar-regression")
    beside[:, 0, 3, 3] = np.nan
    filled = xh.fill_clouds(cube, beside, fit)
    missing = np.isnan(cube.values[:, 0, 3, 3])
    assert np.isnan(filled["reflectance"].values[missing, :, 3, 3]).all()
    again = xh.fill_clouds(filled)
    assert np.isfinite(again["reflectance"].values[missing, :, 3, 3]).all()


def test_digital_numbers():
    numbers = example_cube(bands=BANDS, dates=DATES, missing=0.2, is_decoded=False)
    filled = xh.fill_clouds(numbers)
    xr.testing.assert_equal(
        filled["reflectance"], xh.fill_clouds(xh.decode(numbers))["reflectance"]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reference": "next"}, "reference='next' is unknown; choose 'nearest', 'before'"),
        ({"max_gap": "soon"}, "max_gap='soon' is no length of time"),
        ({"max_offset": -1}, "max_offset=-1 is too short"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(OptionError, match=message):
        xh.fill_clouds(optical(), **options)


def test_a_model_that_nobody_knows():
    with pytest.raises(xh.errors.UnknownModelError, match="no model and no file 'temporel'"):
        xh.fill_clouds(optical(), model="temporel")
    with pytest.raises(OptionError, match="is no model that can be fitted to a place; choose"):
        fit_fill(optical(), model="hls-v2")


def test_a_model_that_changes_the_bandpass():
    with pytest.raises(ModelError, match="leads from msi to oli: it harmonises, and fills nothing"):
        xh.fill_clouds(optical(), model="hls-v2")


def test_a_date_without_itself_from_a_model_that_sees_nothing_else():
    with pytest.raises(ModelError, match="nothing but the date that whole=True leaves out; leave"):
        xh.fill_clouds(optical(), model=lambda array: array + 0.01, whole=True)


def test_the_reference_lists_every_test_of_this_page():
    page = PAGE.read_text(encoding="utf-8")
    section = page.partition("## Filling clouds")[2].partition("\n## ")[0]
    listed = re.findall(r"`(test_\w+)`", section)
    own = [name for name in globals() if name.startswith("test_") and "reference" not in name]
    assert listed == own
