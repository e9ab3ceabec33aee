"""Which date of another cube goes with each date."""

from __future__ import annotations

import numpy as np
import pytest

from xharmonize.errors import ContractError, OptionError, TimeAxisError
from xharmonize.fusion import find_pair_references, find_references, take_references
from xharmonize.testing import assert_lazy, example_cube, no_compute

DAYS = ("2018-07-01T10:50", "2018-07-06T10:50", "2018-07-11T10:50", "2018-07-21T10:50")


def sentinel(dates=DAYS, **options):
    return example_cube(dates=dates, shape=(24, 30), missing=0, **options)


def landsat(dates=("2018-07-02T10:40", "2018-07-12T10:40", "2018-07-17T10:40"), **options):
    return example_cube(
        "landsat-c2-l2", platform="landsat-8", dates=dates, shape=(8, 10), resolution=30, **options
    )


def days(found):
    return [str(t)[-5:] for t in found["reference_time"].values.astype("datetime64[D]")]


def test_the_nearest_date_and_its_gap():
    found = find_references(landsat(), sentinel())
    assert days(found) == ["07-01", "07-11", "07-21"]
    np.testing.assert_allclose(
        found["reference_gap"], [-1 + 10 / 1440, -1 + 10 / 1440, 4 + 10 / 1440]
    )
    assert found["clear_fraction"].values.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("before", ["07-01", "07-11", "07-11"]), ("after", ["07-06", "07-21", "07-21"])],
)
def test_the_last_before_and_the_first_after(rule, expected):
    assert days(find_references(landsat(), sentinel(), rule=rule)) == expected


def test_cloudy_dates_are_no_references():
    fine = sentinel()
    fine[2, :, :12] = np.nan
    assert days(find_references(landsat(), fine)) == ["07-01", "07-06", "07-21"]
    assert days(find_references(landsat(), fine, min_valid=0.5))[1] == "07-11"


def test_a_cube_is_its_own_reference_but_no_date_that_of_itself():
    cube = sentinel()
    cube[1, :, :20] = np.nan
    assert days(find_references(cube)) == ["07-11", "07-01", "07-01", "07-11"]


def test_a_date_without_reference_is_missing():
    fine = sentinel(dates=DAYS[:2])
    found = find_references(landsat(), fine, tolerance="7D")
    assert days(found) == ["07-01", "07-06", "NaT"]
    taken = take_references(fine, found)
    assert np.isnan(taken.values[2]).all()
    np.testing.assert_array_equal(taken.values[:2], fine.values)
    assert taken["item_id"].values.tolist() == ["sentinel-2a-0", "sentinel-2a-1", "unknown"]
    assert np.isnan(taken["reference_gap"].values).tolist() == [False, False, True]


def test_the_chosen_dates_come_lazily_on_the_first_time_axis():
    coarse, fine = landsat(), sentinel(chunks={"time": 1, "y": 9})
    found = find_references(coarse, fine)
    with no_compute():
        taken = take_references(fine, found)
    assert_lazy(taken)
    np.testing.assert_array_equal(taken["time"], coarse["time"])
    np.testing.assert_array_equal(taken.values, fine.values[[0, 2, 3]])
    assert taken["platform"].values.tolist() == ["sentinel-2a"] * 3


def test_without_limits_no_pixel_is_read():
    lazy = sentinel(chunks={"time": 1})
    with no_compute():
        found = find_references(landsat(chunks={}), lazy, min_valid=0, max_score=None)
    assert days(found)[0] == "07-01"
    assert "clear_fraction" not in found


def test_rows_of_one_pass_are_one_reference():
    fine = sentinel(dates=("2018-07-01T10:50", "2018-07-01T10:51"))
    fine[0, :, 12:] = np.nan
    fine[1, :, :12] = np.nan
    taken = take_references(fine, find_references(landsat(), fine))
    assert np.isfinite(taken.values).all()


def test_the_pair_of_a_date():
    coarse, fine = landsat(), sentinel()
    partner, near = find_pair_references(coarse, fine, rule="before")
    assert days(partner) == ["07-02", "07-12", "07-12"]
    assert days(near) == ["07-01", "07-11", "07-11"]
    taken = take_references(coarse, partner)
    np.testing.assert_array_equal(taken.values, coarse.values[[0, 1, 1]])


def test_what_cannot_be_found_is_told():
    cloudy = sentinel() * np.nan
    cloudy = cloudy.assign_coords(sentinel().coords)
    with pytest.raises(TimeAxisError, match="clear enough to be a reference; lower min_valid="):
        find_references(landsat(), cloudy)
    with pytest.raises(TimeAxisError, match=r"nearest is 9\.0 days away; raise tolerance="):
        find_references(landsat(dates=("2018-07-30T10:40",)), sentinel(), tolerance="5D")
    with pytest.raises(OptionError, match="'nearest', 'before' or 'after'"):
        find_references(landsat(), sentinel(), rule="next")
    with pytest.raises(ContractError, match="no references"):
        take_references(sentinel(), sentinel().to_dataset())
    found = find_references(landsat(), sentinel())
    with pytest.raises(TimeAxisError, match="cube that they were found in"):
        take_references(sentinel(dates=DAYS[1:]), found)


def test_no_date_and_no_other_date_are_told():
    with pytest.raises(TimeAxisError, match="no date"):
        find_references(sentinel().isel(time=[]), sentinel())
    with pytest.raises(TimeAxisError, match=r"nearest is 5\.0 days"):
        find_references(sentinel(), tolerance="2D")
