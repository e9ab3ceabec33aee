"""Fields of every result: seasons and fits as tables, tables as cubes, fields below a pixel."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr

import xharmonize as xh
from xharmonize.testing import example_cube

UTM = "EPSG:32631"
LEFT, TOP = 501360.0, 5629680.0  # of example_cube


def box(column, row, n_columns, n_rows):
    return shapely.box(
        LEFT + 10 * column,
        TOP - 10 * (row + n_rows),
        LEFT + 10 * (column + n_columns),
        TOP - 10 * row,
    )


FIELDS = {"b": box(0, 0, 4, 12), "a": box(6, 2, 5, 6), "bare": box(11, 0, 1, 12)}


def features(fields=FIELDS):
    return [
        {"type": "Feature", "id": name, "properties": {}, "geometry": shape.__geo_interface__}
        for name, shape in fields.items()
    ]


@pytest.fixture(scope="module")
def ndvi() -> xr.DataArray:
    """Two years, a date every five days, each column a day later; the last is bare."""
    dates = pd.date_range("2018-01-02T10:50", "2019-12-28", freq="5D")
    cube = example_cube(dates=[str(d) for d in dates], shape=(12, 12), missing=0.0)
    values = cube.harmonize.index("ndvi")
    day = values["time"].dt.dayofyear.values[:, None] - np.arange(12.0)
    course = 0.2 + 0.5 * np.exp(-(((day - 190) / 40) ** 2))
    course[:, -1] = 0.2
    whole = np.broadcast_to(course[:, None], values.shape)
    return values.copy(data=whole.astype("float32"))


@pytest.fixture(scope="module")
def daily(ndvi) -> xr.Dataset:
    return ndvi.to_dataset(name="ndvi").harmonize.smooth(step="1D")


@pytest.mark.parametrize("chunks", [None, {"y": 5, "x": 7}], ids=["numpy", "dask"])
def test_every_variable_of_a_season_is_in_the_table(daily, chunks):
    seasons = daily.harmonize.phenology()
    seasons = seasons if chunks is None else seasons.chunk(chunks)
    table = seasons.harmonize.to_table(features(), crs=UTM)
    assert len(table) == 3 * 2
    assert table["field"].tolist() == ["b", "b", "a", "a", "bare", "bare"]
    assert table["year"].tolist() == [2018, 2019] * 3
    assert set(seasons.data_vars) <= set(table.columns)
    own = seasons.isel(y=slice(2, 8), x=slice(6, 11)).sel(year=2019)
    row = table[(table["field"] == "a") & (table["year"] == 2019)].iloc[0]
    days = own["start"].values.astype("datetime64[D]").astype(float)
    assert row["start"] == pd.Timestamp(np.rint(days.mean()), unit="D")
    assert row["start_sd"] == pytest.approx(days.std(ddof=1))
    assert (row["start_n"], row["n_pixels"]) == (30, 30)
    assert row["length"] == pytest.approx(float(own["length"].mean()), rel=1e-5)
    assert table["start"].dtype.kind == "M"
    bare = table[table["field"] == "bare"]
    assert bare["start"].isna().all()
    assert (bare["start_n"] == 0).all()


def test_a_result_of_one_variable_and_one_of_bands():
    dates = [f"2018-07-{day:02}" for day in range(1, 28, 2)]
    cube = example_cube(bands=["red", "nir08"], dates=dates, shape=(12, 12))
    fit = xh.fit_pixelwise(xh.match_pairs(cube, cube))
    table = xh.series.to_table(fit, features(), crs=UTM)
    assert table[["field", "band"]].values.tolist()[:2] == [["b", "red"], ["b", "nir08"]]
    np.testing.assert_allclose(table["slope"], 1, atol=1e-5)
    slope = xh.series.to_table(fit["slope"].sel(band="red"), features(), crs=UTM)
    np.testing.assert_allclose(slope["slope"], 1, atol=1e-5)
    assert len(slope) == 3
    back = table.to_xarray()
    assert back["slope"].dims == ("field", "band")


def test_several_indices_are_one_table(ndvi):
    both = xr.Dataset({"ndvi": ndvi, "half": ndvi / 2})
    table = both.harmonize.to_table(features(), crs=UTM)
    np.testing.assert_allclose(table["half"], table["ndvi"] / 2, rtol=1e-6)
    assert str(table["time"].dt.tz) == "UTC"
    assert set(table["sensor"]) == {"sentinel-2-l2a"}
    single = xh.series.to_table(ndvi, features(), crs=UTM)
    np.testing.assert_allclose(table["ndvi"], single["ndvi"])


def test_flags_are_put_together_and_not_averaged(ndvi):
    flag = xr.zeros_like(ndvi[0], dtype="uint8").drop_vars("time").rename("why")
    flag[0, 0], flag[1, 1] = 1, 4
    flag.attrs = {"flag_masks": [1, 2, 4], "flag_meanings": "a b c"}
    table = xh.series.to_table(xr.Dataset({"why": flag}), features(), crs=UTM)
    assert table["why"].tolist() == [5, 0, 0]
    assert "why_sd" not in table


def test_one_selected_date_is_a_series_of_one(ndvi):
    one = xh.series.to_table(ndvi.isel(time=3), features(), crs=UTM)
    whole = xh.series.to_table(ndvi, features(), crs=UTM)
    rows = whole[whole["time"] == one["time"][0]].reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.DataFrame(one), pd.DataFrame(rows), check_flags=False)


def test_a_table_becomes_a_cube_and_goes_on_into_phenology(ndvi, daily):
    cube = daily.harmonize.to_table(features(), crs=UTM).to_xarray()
    assert cube["ndvi"].dims == ("field", "time")
    assert cube["field"].values.tolist() == ["b", "a", "bare"]
    assert cube["time"].dtype == "datetime64[ns]"
    assert cube["n_pixels"].values.tolist() == [48, 30, 12]
    assert set(cube.data_vars) == {"ndvi", "origin"}
    seasons = cube.harmonize.phenology()
    assert seasons["start"].dims == ("year", "field")
    # The mean of the columns' courses has the season of the middle one.
    pixels = daily.harmonize.phenology()["start"].isel(y=0, x=8).values
    apart = (seasons["start"].sel(field="a").values - pixels) / np.timedelta64(1, "D")
    assert np.abs(apart).max() <= 1
    assert np.isnat(seasons["start"].sel(field="bare").values).all()
    rough = xh.series.to_table(ndvi, features(), crs=UTM).to_xarray()
    again = rough.harmonize.smooth(step="1D").harmonize.phenology()
    assert not np.isnat(again["peak"].sel(field=["a", "b"]).values).any()


def test_rows_may_be_left_out_but_not_come_twice(ndvi):
    table = xh.series.to_table(ndvi, features(), crs=UTM)
    part = table[table["field"] != "a"].iloc[3:]
    cube = part.to_xarray()
    assert cube.sizes == {"field": 2, "time": ndvi.sizes["time"]}
    assert cube["ndvi"].sel(field="b").isnull().sum() == 3
    assert cube["ndvi"].notnull().sum() == len(part)
    twice = pd.concat([table, table.iloc[:2]])
    with pytest.raises(xh.errors.TimeAxisError, match=r"drop_duplicates\(\['field', 'time'\]\)"):
        twice.to_xarray()
    cured = twice.drop_duplicates(["field", "time"]).to_xarray()
    xr.testing.assert_equal(cured["ndvi"], table.to_xarray()["ndvi"])
    assert table[["ndvi"]].to_xarray()["ndvi"].dims == ("index",)


def test_the_table_is_one_of_pandas_and_can_be_written(ndvi, tmp_path):
    seasons = ndvi.harmonize.phenology()
    table = seasons.harmonize.to_table(features(), crs=UTM, path=tmp_path / "t.parquet")
    back = pd.read_parquet(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(back, pd.DataFrame(table), check_flags=False)
    assert isinstance(table, pd.DataFrame)


def test_fields_smaller_than_a_pixel_are_warned_about(ndvi):
    small = FIELDS | {
        "tiny": shapely.box(LEFT + 2, TOP - 8, LEFT + 7, TOP - 2),
        "two": box(0, 0, 2, 1),
    }
    with pytest.warns(
        xh.errors.GridWarning, match=r"1 of 5 fields.*10 m.*'tiny'; 40% .* fewer than 4"
    ) as w:
        ndvi.harmonize.to_table(features(small), crs=UTM)
    assert {one.filename for one in w if one.category is xh.errors.GridWarning} == {__file__}
    with pytest.warns(xh.errors.GridWarning) as w:
        xh.series.to_table(ndvi, features(small), crs=UTM, coverage="exact")
    assert {one.filename for one in w if one.category is xh.errors.GridWarning} == {__file__}
    coarse = ndvi.harmonize.regrid(resolution=60)
    with pytest.warns(xh.errors.GridWarning, match="of 60 m"):
        coarse.harmonize.to_table(features({"a": box(0, 0, 4, 4)}), crs=UTM)


def test_fields_that_all_lie_elsewhere_are_warned_about(ndvi):
    away = shapely.box(LEFT - 1e5, TOP, LEFT - 9e4, TOP + 1e4)
    with pytest.warns(
        xh.errors.GridWarning, match=r"no field meets the cube, which goes from .*'away'"
    ):
        table = ndvi.harmonize.to_table(features({"away": away}), crs=UTM)
    assert (table["n_pixels"] == 0).all()


@pytest.mark.filterwarnings("error::xharmonize.errors.GridWarning")
def test_fields_of_a_pixel_or_outside_are_not(ndvi):
    outside = shapely.box(LEFT - 100, TOP, LEFT - 99, TOP + 1)
    ndvi.harmonize.to_table(features(FIELDS | {"out": outside, "one": box(1, 1, 1, 1)}), crs=UTM)
