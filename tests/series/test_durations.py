"""One reading of lengths of time: pandas notation or a number of days, in every argument."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.cube.dates import duration_in_days
from xharmonize.errors import OptionError
from xharmonize.testing import example_cube

DATES = [f"2018-{month:02}-{day}" for month in (5, 6, 7) for day in ("01", "11", "21")]


@pytest.fixture(scope="module")
def ndvi() -> xr.DataArray:
    cube = example_cube(bands=("red", "nir08"), dates=DATES).harmonize.index("ndvi")
    sensors = [("sentinel-2-l2a", "landsat-c2-l2")[i % 2] for i in range(len(DATES))]
    return cube.assign_coords(sensor=("time", sensors))


CALLS = {
    "max_gap": lambda ndvi, t: xh.series.smooth(ndvi, max_gap=t),
    "max_gap of screen_outliers": lambda ndvi, t: xh.series.screen_outliers(ndvi, max_gap=t),
    "max_gap of sensor_offsets": lambda ndvi, t: xh.series.sensor_offsets(ndvi, max_gap=t),
    "step": lambda ndvi, t: xh.series.smooth(ndvi, step=t),
    "period": lambda ndvi, t: xh.series.composite(ndvi, t),
    "reach": lambda ndvi, t: xh.series.phenology(ndvi, reach=t),
    "tolerance": lambda ndvi, t: xh.match_pairs(
        *(example_cube(dates=d) for d in (DATES[:2], DATES[1:3])), tolerance=t
    ),
    "window": lambda ndvi, t: xh.series.smooth(ndvi, xh.series.SavitzkyGolay(window=t)),
    "period of Harmonic": lambda ndvi, t: xh.series.smooth(
        ndvi, xh.series.Harmonic(count=1, period=t)
    ),
    "widths": lambda ndvi, t: xh.series.smooth(ndvi, xh.series.RadialBasis(widths=(t,))),
    "relaxation": lambda ndvi, t: xh.series.smooth(ndvi, xh.series.Whittaker(relaxation=t)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_text_and_days_are_the_same(call, ndvi) -> None:
    expected = call(ndvi, 30)
    for length in ("30D", "720h", "30", pd.Timedelta(days=30), np.timedelta64(30, "D")):
        xr.testing.assert_identical(call(ndvi, length), expected)


@pytest.mark.parametrize(("name", "call"), CALLS.items(), ids=CALLS)
@pytest.mark.parametrize("length", ["soon", "-3D", True, math.nan, "1M", "NaT"])
def test_what_is_no_length_is_one_error(name, call, length, ndvi) -> None:
    with pytest.raises(OptionError) as caught:
        call(ndvi, length)
    assert caught.value.argument == name.split(" ")[0]
    assert caught.value.value is length or caught.value.value == length
    assert "'10D'" in caught.value.cure or "'16D'" in caught.value.cure


def test_a_number_without_unit_is_days_and_not_nanoseconds() -> None:
    assert duration_in_days(2, argument="t") == duration_in_days("2", argument="t") == 2.0
    assert duration_in_days("36h", argument="t") == 1.5
    assert duration_in_days(math.inf, argument="t") == math.inf
    assert duration_in_days(0, argument="t", least=0) == 0.0
