"""Sentinel-1: units, orbits and the speckle filter of cubes."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.cube.radar import tracks_of
from xharmonize.errors import OptionError, RadiometryError
from xharmonize.io.stac.settle import orbit_of_item
from xharmonize.testing import assert_chunk_invariant, example_cube

CHUNKS = [{"time": 1, "y": 7, "x": 11}, {"band": 1, "y": 3}]


def radar(**options) -> xr.DataArray:
    """Linear backscatter, a missing pixel and one of border noise among it."""
    cube = example_cube("sentinel-1-rtc", platform="sentinel-1a", bands=("vv", "vh"), **options)
    cube[0, 0, 3, 4], cube[0, 0, 5, 5] = np.nan, 0.0
    return cube


def test_decibels_and_back():
    power = radar()
    decibels = xh.fusion.radar.to_decibels(power)
    assert (decibels.attrs["units"], power.attrs["units"]) == ("dB", "1")
    expected = 10 * np.log10(power.where(power > 0))
    np.testing.assert_allclose(decibels, expected, rtol=1e-5)
    np.testing.assert_allclose(
        xh.fusion.radar.to_power(decibels), power.where(power > 0), rtol=1e-5
    )
    assert xh.fusion.radar.to_decibels(decibels).identical(decibels)
    assert "backscatter as dB" in decibels.attrs["history"]


def test_border_noise_is_missing():
    assert np.isnan(xh.fusion.radar.to_decibels(radar())[0, 0, 5, 5])


def test_units_do_not_depend_on_chunks():
    assert_chunk_invariant(xh.fusion.radar.to_decibels, radar(), chunkings=CHUNKS)


def test_a_dataset_stays_one_and_drops_the_uncertainty_of_another_unit():
    cube = radar().to_dataset(name="reflectance")
    cube["uncertainty"] = cube["reflectance"] * 0.1
    assert list(xh.fusion.radar.to_decibels(cube).data_vars) == ["reflectance"]


@pytest.mark.parametrize("units", [None, "m", ""])
def test_backscatter_that_says_no_unit_is_refused(units):
    cube = radar()
    cube.attrs["units"] = units
    with pytest.raises(RadiometryError, match=r"linear power or decibels; .*units='dB'"):
        xh.fusion.radar.to_decibels(cube)


def test_reflectance_is_no_backscatter():
    with pytest.raises(RadiometryError, match=r"cube is of sentinel-2-l2a; open it .*sentinel-1"):
        xh.fusion.radar.to_decibels(example_cube())


def test_speckle_does_not_depend_on_chunks():
    assert_chunk_invariant(
        lambda cube: xh.fusion.radar.filter_speckle(cube, window=5), radar(), chunkings=CHUNKS
    )


def test_speckle_is_filtered_in_power_and_given_back_in_its_unit():
    power = radar()
    found = xh.fusion.radar.filter_speckle(xh.fusion.radar.to_decibels(power), looks=9.0)
    assert found.attrs["units"] == "dB"
    expected = xh.fusion.radar.to_decibels(
        xh.fusion.radar.filter_speckle(power.where(power > 0), looks=9.0)
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.isnan(found[0, 0, 3, 4])


@pytest.mark.parametrize("options", [{"window": 4}, {"window": 1}, {"window": 2.5}, {"looks": 0}])
def test_a_window_or_looks_that_cannot_be(options):
    with pytest.raises(OptionError, match="give a"):
        xh.fusion.radar.filter_speckle(radar(), **options)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"sat:orbit_state": "descending", "sat:relative_orbit": 51}, ("descending", 51)),
        ({"sat:absolute_orbit": 53498}, ("unknown", 51)),  # of the item that states both
        ({}, ("unknown", np.nan)),
    ],
)
def test_orbits_that_an_item_states(stated, expected):
    item = {"id": "S1A_IW_GRDH_1SDV_20240419T045904_rtc", "properties": stated}
    np.testing.assert_equal(orbit_of_item(item), expected)


def test_tracks_by_orbit_or_by_day_and_hour():
    dates = ("2018-07-01T17:32", "2018-07-06T17:40", "2018-07-07T17:32", "2018-07-13T17:32")
    cube = radar(dates=dates)
    found = tracks_of(cube)
    assert len(set(found[[0, 2, 3]])) == 1
    assert found[1] != found[0]
    told = cube.assign_coords(
        orbit_state=("time", ["ascending"] * 4), relative_orbit=("time", [88, 161, 88, 88])
    )
    assert tracks_of(told).tolist() == [f"ascending/{n}" for n in (88, 161, 88, 88)]


def test_orbits_written_by_stackstac_are_kept():
    bare = radar().reset_coords(drop=True)
    bare = bare.assign_coords({"sat:orbit_state": ("time", ["ascending"] * 3)})
    bare = bare.assign_coords({"sat:relative_orbit": 88})
    cube = xh.describe(
        bare, sensor="sentinel-1-rtc", platform="sentinel-1a", crs="EPSG:32631", is_decoded=True
    )
    assert cube["orbit_state"].values.tolist() == ["ascending"] * 3
    assert cube["relative_orbit"].values.tolist() == [88.0] * 3
    assert set(tracks_of(cube)) == {"ascending/88"}


def test_real_passes_of_two_tracks(data):
    cube = xh.open_stac(
        data / "flanders-2018" / "catalog.json",
        collection="sentinel-1-grd",
        datetime="2018-07",
        mask=None,
    )
    assert cube.attrs["units"] == "dB"
    assert len(set(tracks_of(cube))) == 2
    assert set(cube["orbit_state"].values) == {"unknown"}
    power = xh.fusion.radar.to_power(cube).compute()
    assert float(power.min()) > 0
    smooth = xh.fusion.radar.filter_speckle(cube).compute()
    assert float(smooth.std()) < float(cube.std())
