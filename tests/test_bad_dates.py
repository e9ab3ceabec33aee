"""Times that are no dates, one rule at every door: an error with the value, and a cure that works.

Listed in the reference, in the section on dates.
"""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from helpers.items import sentinel2

import xharmonize as xh
from xharmonize.cube.dates import require_dates, to_nanoseconds
from xharmonize.testing import example_cube

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "bad-input.md"
DATES = pd.date_range("2018-07-01T10:50", periods=6, freq="5D")
TEXT = DATES.strftime("%Y-%m-%d %H:%M").to_numpy(str)


def cube_at(times) -> xr.DataArray:
    cube = example_cube(dates=list(TEXT), bands=["red", "nir08"], shape=(4, 5), missing=0.0)
    return cube.assign_coords(time=times)


def index_at(times) -> xr.DataArray:
    ndvi = cube_at(times).isel(band=0, drop=True).rename("ndvi")
    return ndvi.drop_vars(["scale", "offset", "nodata", "is_decoded"])


DOORS = {
    "densify": lambda t: xh.densify(cube_at(t), duplicates="mean"),
    "densify an index": lambda t: xh.densify(index_at(t)),
    "match_pairs": lambda t: xh.match_pairs(cube_at(t), cube_at(DATES)),
    "match_pairs target": lambda t: xh.match_pairs(cube_at(DATES), cube_at(t)),
    "composite": lambda t: xh.series.composite(cube_at(t), "month"),
    "smooth": lambda t: xh.series.smooth(index_at(t), step="5D"),
    "smooth own dates": lambda t: xh.series.smooth(index_at(t)),
    "screen_outliers": lambda t: xh.series.screen_outliers(index_at(t)),
    "phenology": lambda t: xh.series.phenology(index_at(t)),
    "frequency": lambda t: xh.series.frequency(index_at(t)),
    "sensor_offsets": lambda t: xh.series.sensor_offsets(index_at(t)),
    "to_features": lambda t: xh.crops.to_features(cube_at(t)),
    "to_sentinel2": lambda t: xh.to_sentinel2(cube_at(t)),
    "index": lambda t: xh.index(cube_at(t), "ndvi"),
    "fit": lambda t: xh.fit_linear(xh.match_pairs(cube_at(t), cube_at(DATES))),
    "check_radiometry": lambda t: xh.check_radiometry(cube_at(t)),
}

CURE = r": (cube\..*|.*?with (cube\..*))$"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("times", "value"),
    [
        (np.array(["9999-12-31"] * 6, "M8[s]"), "9999-12-31"),
        (np.array([*TEXT[:5], "1500-01-01"], "M8[us]"), "1500-01-01 at step 5"),
        (TEXT, "'2018-07-01 10:50'"),
        (np.arange(6), r"int64 \(np.int64\(0\)"),
        (np.arange(6) + 0.5, "0.5"),
        (DATES.tz_localize("Europe/Brussels"), r"2018-07-01 10:50:00\+02:00"),
        (np.array([*TEXT[:5], "NaT"], "M8[ns]"), "NaT at step 5"),
        (np.array([*DATES[:5].date, None], object), "2018, 7, 1"),
        (pd.period_range("2018-01", periods=6, freq="M"), "periods"),
        (np.arange(6).astype("m8[D]"), "timedelta64"),
    ],
    ids=["9999", "1500", "text", "int", "float", "zone", "NaT", "object", "period", "timedelta"],
)
def test_times_that_are_no_dates(door, times, value):
    with pytest.raises(xh.errors.TimeAxisError, match=value):
        DOORS[door](times)


@pytest.mark.parametrize(
    "times",
    [
        TEXT,
        DATES.tz_localize("Europe/Brussels"),
        np.array([*TEXT[:5], "NaT"], "M8[ns]"),
        np.array(["9999-12-31", *TEXT[1:]], "M8[s]"),
        np.arange(6),
        np.array(DATES.date, object),
        pd.period_range("2018-01", periods=6, freq="M"),
    ],
    ids=["text", "zone", "NaT", "9999", "int", "object", "period"],
)
def test_the_cure_in_the_message_works(times):
    cube = index_at(times)
    with pytest.raises(xh.errors.TimeAxisError) as caught:
        xh.series.smooth(cube)
    code = re.search(
        r"cube\.(assign_coords|isel|drop_isel|convert_calendar)\(.*\)", str(caught.value)
    )
    cured = eval(code[0], {"cube": cube, "pd": pd, "np": np})
    assert cured.sizes["time"] >= 5
    assert xh.series.smooth(cured).notnull().any()


def test_dates_of_another_calendar():
    pytest.importorskip("cftime")
    cube = index_at(xr.date_range("2018-07-01", periods=6, calendar="noleap", use_cftime=True))
    with pytest.raises(
        xh.errors.TimeAxisError, match=r"calendar 'noleap' .*cube\.convert_calendar"
    ) as at:
        xh.series.smooth(cube)
    code = re.search(r"cube\.convert_calendar\(.*\)", str(at.value))
    assert xh.series.smooth(eval(code[0], {"cube": cube})).notnull().any()


def test_describe_settles_a_time_zone_and_refuses_the_rest():
    plain = cube_at(DATES).drop_vars(["processing_baseline"])
    told = {"sensor": "sentinel-2-l2a", "platform": "sentinel-2a", "processing_baseline": "02.06"}
    zoned = plain.assign_coords(time=DATES.tz_localize("Europe/Brussels"))
    found = xh.describe(zoned, **told, is_decoded=True)
    np.testing.assert_array_equal(found["time"], DATES.to_numpy() - np.timedelta64(2, "h"))
    for times in (TEXT, np.array(["9999-12-31"] * 6, "M8[s]"), np.arange(6)):
        with pytest.raises(xh.errors.TimeAxisError, match="describe needs dates"):
            xh.describe(plain.assign_coords(time=times), **told, is_decoded=True)


def test_dates_of_any_unit_are_dates():
    expected = xh.series.smooth(index_at(DATES), step="1D")
    for unit in ("s", "ms", "us"):
        found = xh.series.smooth(index_at(DATES.to_numpy().astype(f"M8[{unit}]")), step="1D")
        xr.testing.assert_equal(found, expected)


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59Z", "1500-01-01T00:00:00Z"])
def test_an_item_beyond_nanoseconds(tmp_path, text):
    items = [sentinel2(tmp_path)]
    items[0]["properties"]["datetime"] = text
    with pytest.raises(xh.errors.TimeAxisError, match=f"{items[0]['id']}.* is of {text[:10]}"):
        xh.open_stac(items, bands=["red"])


def test_a_moment_in_nanoseconds():
    assert to_nanoseconds(dt.datetime(2018, 7, 1), what="it") == np.datetime64("2018-07-01", "ns")
    with pytest.raises(xh.errors.TimeAxisError, match="it is of 9999-12-31, and nanoseconds"):
        to_nanoseconds(dt.datetime(9999, 12, 31), what="it")


def test_a_store_takes_dates_only(tmp_path):
    for times in (np.array(["9999-12-31"] * 6, "M8[s]"), TEXT):
        with pytest.raises(xh.errors.TimeAxisError, match="a store needs dates"):
            xh.to_zarr(index_at(times).to_dataset(), tmp_path / "one.zarr")
    assert not (tmp_path / "one.zarr").exists()


def test_a_cube_without_dates():
    cube = cube_at(DATES)
    with pytest.raises(xh.errors.TimeAxisError, match="the cube needs dates"):
        xh.to_sentinel2(cube.drop_vars("time"))
    with pytest.raises(xh.errors.TimeAxisError, match=r"cube\.isel\(time=\[0\]\)"):
        require_dates(cube.isel(time=0), what="it")


ANY_ORDER = {
    "densify": lambda c, _: xh.densify(c),
    "composite": lambda c, _: xh.series.composite(c, "10D", method="medoid"),
    "composite an index": lambda _, n: xh.series.composite(n, "10D", method="nearest"),
    "smooth": lambda _, n: xh.series.smooth(n, step="5D"),
    "smooth own dates": lambda _, n: xh.series.smooth(n).sortby("time"),
    "screen_outliers": lambda _, n: xh.series.screen_outliers(n).sortby("time"),
    "phenology": lambda _, n: xh.series.phenology(n),
    "frequency": lambda _, n: xh.series.frequency(n),
    "match_pairs": lambda c, _: xh.match_pairs(c, cube_at(DATES)).drop_vars("pair"),
    "to_sentinel2": lambda c, _: xh.to_sentinel2(c).sortby("time"),
}


@pytest.mark.parametrize("call", ANY_ORDER)
def test_dates_in_any_order_give_the_same(call):
    cube, index = cube_at(DATES), index_at(DATES)
    order = [3, 0, 5, 2, 4, 1]
    expected = ANY_ORDER[call](cube, index)
    found = ANY_ORDER[call](cube.isel(time=order), index.isel(time=order))
    xr.testing.assert_equal(found, expected)


def test_every_row_of_the_page_is_tested():
    section = PAGE.read_text().split("## Dates\n")[1].split("\n## ")[0]
    rows = re.findall(r"\| `(test_\w+)` \|", section)
    assert len(rows) >= 6
    assert set(rows) <= set(globals())
