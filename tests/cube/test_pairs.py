"""Pairs of dates of two cubes."""

from __future__ import annotations

import numpy as np
import pytest

import xharmonize as xh
from xharmonize.testing import example_cube


def sentinel(dates, **kwargs):
    return example_cube(dates=dates, **kwargs)


def landsat(dates, **kwargs):
    return example_cube("landsat-c2-l2", platform="landsat-8", dates=dates, seed=1, **kwargs)


def numbers(pairs):
    """Step numbers of the pairs, from the item ids of the example cubes."""
    return [
        (int(str(one).rsplit("-", 1)[1]), int(str(other).rsplit("-", 1)[1]))
        for one, other in zip(pairs["item_id_source"].values, pairs["item_id_target"].values)
    ]


def test_nearest_first_and_each_once():
    source = sentinel(("2018-07-01", "2018-07-06", "2018-07-11"))
    target = landsat(("2018-07-02", "2018-07-05", "2018-07-07"))
    pairs = xh.match_pairs(source, target)
    assert numbers(pairs) == [(0, 0), (1, 1)]  # 07-05 and 07-07 tie for 07-06: the earlier target
    np.testing.assert_array_equal(pairs["gap"], [-1.0, 1.0])
    assert pairs["gap"].attrs["units"] == "days"


def test_tolerance_counts_when_equal():
    source, target = sentinel(("2018-07-01",)), landsat(("2018-07-03",))
    assert numbers(xh.match_pairs(source, target, tolerance="2D")) == [(0, 0)]
    with pytest.raises(xh.errors.TimeAxisError, match=r"no two dates lie within.*2\.0 days apart"):
        xh.match_pairs(source, target, tolerance="47h")


def test_whole_days_are_days_of_the_calendar():
    """Sentinel-2 passes some minutes after Landsat: two days are then 2.01 days."""
    source, target = sentinel(("2018-02-25T10:55",)), landsat(("2018-02-23T10:40",))
    assert numbers(xh.match_pairs(source, target, tolerance="2D")) == [(0, 0)]
    with pytest.raises(xh.errors.TimeAxisError, match="no two dates lie within"):
        xh.match_pairs(source, target, tolerance="1D")
    with pytest.raises(xh.errors.TimeAxisError, match="no two dates lie within"):
        xh.match_pairs(source, target, tolerance="47h")


def test_all_bands_of_the_source_on_request():
    source = sentinel(("2018-07-01",), bands=("red", "rededge1", "nir08"))
    pairs = xh.match_pairs(source, landsat(("2018-07-02",)), bands="all")
    assert pairs["source"].dims == ("pair", "source_band", "y", "x")
    assert pairs["source_band"].values.tolist() == ["red", "rededge1", "nir08"]
    assert pairs["target"].sizes["band"] == 6


def test_real_clear_pairs_are_found(data):
    catalog = data / "flanders-2018" / "catalog.json"
    span = "2018-02-01/2018-10-31"
    source = xh.open_stac(
        catalog, collection="sentinel-2-l2a", datetime=span, bands=["red"], platform="sentinel-2a"
    )
    target = xh.open_stac(
        catalog, collection="landsat-8-c1-sr", datetime=span, bands=["red"], mosaic="solar_day"
    )
    pairs = xh.match_pairs(xh.regrid(source, like=target), target)
    found = {
        (str(one)[5:10], str(other)[5:10])
        for one, other in zip(pairs["time_target"].values, pairs["time_source"].values)
    }
    clear = {("02-07", "02-08"), ("02-23", "02-25"), ("07-01", "06-30"), ("10-05", "10-06")}
    assert clear <= found


def test_rows_of_one_pass_are_one_observation():
    source = sentinel(("2018-07-22T10:50:00", "2018-07-23T10:50:00"))
    target = landsat(("2018-07-24T10:33:10", "2018-07-24T10:33:34"))
    assert numbers(xh.match_pairs(source, target)) == [(1, 0)]


def test_order_of_dates_does_not_matter():
    source = sentinel(("2018-07-11", "2018-07-01", "2018-07-06"))
    target = landsat(("2018-07-05", "2018-07-02"))
    pairs = xh.match_pairs(source, target)
    assert numbers(pairs) == [(1, 1), (2, 0)]
    assert (np.diff(pairs["time_target"].values).astype(int) > 0).all()


def test_pixels_bands_and_contract(no_compute):
    source = sentinel(("2018-07-01", "2018-07-06"), bands=("red", "rededge1", "nir08"))
    target = landsat(("2018-07-06", "2018-07-30"), bands=("nir08", "red", "swir16"))
    with no_compute():
        pairs = xh.match_pairs(source.chunk(time=1), target.chunk(y=5))
    assert pairs["source"].dims == ("pair", "band", "y", "x")
    assert pairs["band"].values.tolist() == ["nir08", "red"]
    assert pairs["source"].chunks is not None
    np.testing.assert_array_equal(
        pairs["source"][0], source.isel(time=1).sel(band=["nir08", "red"])
    )
    np.testing.assert_array_equal(
        pairs["target"][0], target.isel(time=0).sel(band=["nir08", "red"])
    )
    assert pairs["platform_source"].item() == "sentinel-2a"
    assert pairs["platform_target"].item() == "landsat-8"
    assert pairs.rio.crs == source.rio.crs
    assert not {"platform", "time", "scale"} & set(pairs.coords)


def test_datasets_give_their_reflectance(cube):
    other = landsat(("2018-07-02",))
    expected = xh.match_pairs(cube, other)
    actual = xh.match_pairs(cube.to_dataset(name="reflectance"), other)
    np.testing.assert_array_equal(actual["source"], expected["source"])


def test_refusals(cube):
    with pytest.raises(xh.errors.GridError, match=r"one grid.*regrid\(like=\.\.\.\)"):
        xh.match_pairs(cube, landsat(("2018-07-02",), resolution=30.0))
    with pytest.raises(xh.errors.OptionError, match="bands='red' is unknown"):
        xh.match_pairs(cube, landsat(("2018-07-02",)), bands="red")
    with pytest.raises(xh.errors.BandError, match="no band is in both"):
        xh.match_pairs(cube.sel(band=["red"]), landsat(("2018-07-02",)).sel(band=["blue"]))
    with pytest.raises(xh.errors.RadiometryError, match=r"decode\(\)"):
        xh.match_pairs(cube, landsat(("2018-07-02",), is_decoded=False))
    with pytest.raises(xh.errors.OptionError, match="tolerance='soon' is no length of time"):
        xh.match_pairs(cube, landsat(("2018-07-02",)), tolerance="soon")
    with pytest.raises(xh.errors.OptionError, match="tolerance='-1D' is too short"):
        xh.match_pairs(cube, landsat(("2018-07-02",)), tolerance="-1D")
