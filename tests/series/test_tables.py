"""Fields' series as tables."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
from pyproj import Transformer

import xharmonize as xh
from xharmonize.series.fields import Field, _fractions, place_fields
from xharmonize.testing import example_cube

UTM = "EPSG:32631"
LEFT, TOP = 501360.0, 5629680.0  # of example_cube


def make_series(shape=(24, 30), missing=0.2):
    cube = example_cube(shape=shape, missing=missing).to_dataset()
    cube["origin"] = cube["reflectance"].notnull().astype("uint8")
    cube["origin"][1] *= np.uint8(2)
    cube["uncertainty"] = xr.full_like(cube["reflectance"], 0.01)
    return cube


def box(column, row, n_columns, n_rows):
    """Rectangle of whole pixels of 10 m."""
    return shapely.box(
        LEFT + 10 * column,
        TOP - 10 * (row + n_rows),
        LEFT + 10 * (column + n_columns),
        TOP - 10 * row,
    )


FIELDS = [box(2, 3, 6, 5), box(4, 4, 10, 10), shapely.Point(LEFT + 200, TOP - 150).buffer(60)]


def test_statistics_are_those_of_the_pixels():
    series = make_series()
    table = series.harmonize.to_table(FIELDS, crs=UTM)
    assert len(table) == 3 * 3 * 6
    rows = table[(table["field"] == 0) & (table["band"] == "red")]
    own = series["reflectance"].sel(band="red").isel(y=slice(3, 8), x=slice(2, 8))
    np.testing.assert_allclose(rows["reflectance"], own.mean(("y", "x")), rtol=1e-6)
    np.testing.assert_allclose(rows["sd"], own.std(("y", "x"), ddof=1), rtol=1e-5)
    np.testing.assert_array_equal(rows["n"], own.notnull().sum(("y", "x")))
    assert set(rows["n_pixels"]) == {30}
    assert rows["origin"].tolist() == [1, 2, 1]
    np.testing.assert_allclose(rows["uncertainty"], 0.01, rtol=1e-6)
    assert rows["sensor"].tolist() == ["sentinel-2-l2a"] * 3
    median = series.harmonize.to_table(FIELDS, crs=UTM, stat="median")
    rows = median[(median["field"] == 0) & (median["band"] == "red")]
    expected = own.stack(p=("y", "x")).quantile(0.5, "p", method="inverted_cdf")
    np.testing.assert_allclose(rows["reflectance"], expected, rtol=1e-6)


@pytest.mark.parametrize("coverage", ["centre", "exact"])
@pytest.mark.parametrize("stat", ["mean", "median"])
@pytest.mark.parametrize("chunks", [{"time": 1, "y": 7, "x": 11}, {"time": -1, "band": 2, "y": 5}])
def test_tables_do_not_depend_on_chunks(stat, coverage, chunks):
    series = make_series()
    options = {"crs": UTM, "stat": stat, "coverage": coverage, "buffer": -3}
    expected = xh.series.to_table(series, FIELDS, **options)
    pd.testing.assert_frame_equal(
        xh.series.to_table(series.chunk(chunks), FIELDS, **options), expected
    )


def test_only_chunks_with_fields_are_read():
    series = make_series()["reflectance"].chunk(time=1, y=6, x=6)
    read = []

    def watch(block, block_info=None):
        read.append(tuple(block_info[0]["chunk-location"][-2:]))
        return block

    data = series.data.map_blocks(watch, dtype="f4", meta=np.empty((0,) * 4, "f4"))
    xh.series.to_table(series.copy(data=data), [box(1, 1, 3, 3), box(13, 7, 4, 4)], crs=UTM)
    assert set(read) == {(0, 0), (1, 2)}


def test_exact_coverage_counts_shares():
    series = make_series(missing=0.0)
    half = shapely.box(LEFT, TOP - 10, LEFT + 15, TOP)  # one pixel and a half
    row = series.harmonize.to_table([half], crs=UTM, coverage="exact").iloc[0]
    first, second = series["reflectance"][0, 0, 0, :2].values.astype(float)
    assert row["n_pixels"] == pytest.approx(1.5)
    assert row["reflectance"] == pytest.approx((first + second / 2) / 1.5)
    whole = box(2, 3, 6, 5)
    both = [xh.series.to_table(series, [whole], crs=UTM, coverage=c) for c in ("centre", "exact")]
    np.testing.assert_allclose(both[0]["reflectance"], both[1]["reflectance"])
    np.testing.assert_allclose(both[0]["sd"], both[1]["sd"])


@pytest.mark.parametrize("is_south_first", [False, True])
def test_exact_fractions_are_shared_areas(is_south_first):
    """A slanted field with a hole, in two parts, one of them partly outside."""
    series = make_series(missing=0.0)["reflectance"].isel(time=0, band=0, drop=True)
    if is_south_first:
        series = xh.cube.geobox.write_grid(series[::-1], xh.cube.geobox.geobox_of(series).flipy())
    ring = np.array([(20, 15), (160, 40), (120, 190), (33, 121)])
    slanted = shapely.Polygon(
        ring * (1, -1) + (LEFT, TOP),
        [[(LEFT + 70, TOP - 60), (LEFT + 90, TOP - 66), (LEFT + 75, TOP - 90)]],
    )
    outside = shapely.box(LEFT - 99, TOP - 212, LEFT + 27, TOP - 201)
    field = shapely.MultiPolygon([slanted, outside])
    lazy = series.chunk(y=5, x=7).expand_dims(time=[np.datetime64("2020-01-01")])
    table = xh.series.to_table(lazy, [field], crs=UTM, coverage="exact")
    x, y = np.meshgrid(series["x"], series["y"])
    pixels = shapely.box(x - 5, y - 5, x + 5, y + 5)
    area = shapely.area(shapely.intersection(pixels, field)) / 100
    np.testing.assert_allclose(table["n_pixels"], area.sum(), rtol=1e-7)
    expected = (area * series.values).sum() / area.sum()
    np.testing.assert_allclose(table["reflectance"], expected, rtol=1e-6)


def test_exact_fractions_are_the_same_from_many_threads():
    grid = xh.cube.geobox.geobox_of(make_series()["reflectance"])
    discs = [shapely.Point(LEFT + 150, TOP - 120).buffer(r) for r in np.linspace(9, 110, 60)]
    places = place_fields([Field(name=k, geometry=disc) for k, disc in enumerate(discs)], grid) * 20
    expected = [_fractions(place, grid, "exact") for place in places[:60]] * 20
    with ThreadPoolExecutor(8) as pool:
        actual = list(pool.map(lambda place: _fractions(place, grid, "exact"), places))
    assert all(map(np.array_equal, actual, expected))


def test_rows_with_too_few_pixels_stay_with_their_counts():
    series = make_series(missing=0.6)
    loose = series.harmonize.to_table(FIELDS, crs=UTM, min_valid=0)
    strict = series.harmonize.to_table(FIELDS, crs=UTM, min_valid=0.45)
    few = strict["n"] < 0.45 * strict["n_pixels"]
    assert few.any()
    assert not few.all()
    np.testing.assert_array_equal(strict["reflectance"].isna(), few)
    pd.testing.assert_series_equal(strict["n"], loose["n"])
    empty = xr.full_like(series["reflectance"], np.nan)
    nothing = xh.series.to_table(empty, FIELDS, crs=UTM, min_valid=0)
    assert nothing["reflectance"].isna().all()
    assert (nothing["n"] == 0).all()


def test_polygons_come_in_many_forms():
    series = make_series()
    expected = series.harmonize.to_table(FIELDS, crs=UTM)
    to_degrees = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True).transform
    degrees = [shapely.transform(f, to_degrees, interleaved=False) for f in FIELDS]
    features = [
        {
            "type": "Feature",
            "id": k,
            "properties": {"crop": f"c{k}"},
            "geometry": shape.__geo_interface__,
        }
        for k, shape in enumerate(degrees)
    ]
    collection = {"type": "FeatureCollection", "features": features}

    moved = [{**f, "geometry": s.__geo_interface__} for f, s in zip(features, FIELDS)]

    class Frame:
        """What a GeoDataFrame offers."""

        crs = UTM

        @property
        def __geo_interface__(self):
            return {"type": "FeatureCollection", "features": moved}

    for given in (collection, features, degrees, Frame()):
        pd.testing.assert_frame_equal(series.harmonize.to_table(given), expected)
    named = series.harmonize.to_table(collection, name="crop")
    assert named["field"].unique().tolist() == ["c0", "c1", "c2"]
    one = series.harmonize.to_table(FIELDS[0], crs=UTM)
    pd.testing.assert_frame_equal(one, expected[expected["field"] == 0])


def test_a_buffer_keeps_off_edges_and_fields_elsewhere_stay_in_the_table():
    series = make_series()
    table = series.harmonize.to_table([box(2, 3, 6, 5), box(900, 3, 6, 5)], crs=UTM, buffer=-10)
    assert table.groupby("field")["n_pixels"].first().tolist() == [12, 0]
    assert table[table["field"] == 1]["reflectance"].isna().all()
    gone = series.harmonize.to_table([box(2, 3, 1, 1)], crs=UTM, buffer=-10)
    assert (gone["n_pixels"] == 0).all()


def test_days_are_solar_and_times_utc():
    """At 170° E a morning observation falls on the day before in UTC."""
    cube = example_cube(
        dates=("2018-07-01T22:50",), shape=(4, 4), crs="EPSG:32759", origin=(450000.0, 5000000.0)
    )
    table = xh.series.to_table(
        cube, shapely.box(450000, 4999960, 450040, 5000000), crs="EPSG:32759"
    )
    assert str(table["time"].iloc[0]) == "2018-07-01 22:50:00+00:00"
    assert str(table["day"].iloc[0].date()) == "2018-07-02"


def test_rows_are_in_order_of_time_and_an_index_has_no_band():
    series = make_series()
    ndvi = series.harmonize.index("ndvi").isel(time=[2, 0, 1])
    table = ndvi.harmonize.to_table(FIELDS, crs=UTM)
    assert "band" not in table
    assert "flag" in table
    for _, rows in table.groupby("field"):
        assert rows["time"].is_monotonic_increasing
    expected = series.harmonize.index("ndvi").harmonize.to_table(FIELDS, crs=UTM)
    pd.testing.assert_frame_equal(table, expected)


def test_files_hold_utc(tmp_path):
    pytest.importorskip("pyarrow")
    series = make_series()
    table = series.harmonize.to_table(FIELDS, crs=UTM, path=tmp_path / "fields.parquet")
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "fields.parquet"),
        table,
        check_dtype=False,
        check_frame_type=False,
    )
    (tmp_path / "fields.csv").write_text("mine")
    with pytest.raises(xh.errors.StoreError, match="exists; mode='w' replaces it"):
        series.harmonize.to_table(FIELDS, crs=UTM, path=tmp_path / "fields.csv")
    assert (tmp_path / "fields.csv").read_text() == "mine"
    series.harmonize.to_table(FIELDS, crs=UTM, path=tmp_path / "fields.csv", mode="w")
    assert "2018-07-01 10:50:00+00:00" in (tmp_path / "fields.csv").read_text()


@pytest.mark.parametrize(
    ("polygons", "options", "error", "match"),
    [
        ([], {"crs": UTM}, xh.errors.GridError, "no polygons"),
        ([shapely.Point(LEFT, TOP)], {"crs": UTM}, xh.errors.GridError, "is a Point"),
        ([shapely.Polygon()], {"crs": UTM}, xh.errors.GridError, "empty"),
        (["field"], {"crs": UTM}, xh.errors.GridError, "is no polygon"),
        ("fields.geojson", {"crs": UTM}, xh.errors.GridError, "is a path, no polygons; read them"),
        ([{"type": "Polygon"}], {"crs": UTM}, xh.errors.GridError, "cannot be read"),
        (FIELDS, {}, xh.errors.GridError, "no degrees, which GeoJSON means"),
        (FIELDS, {"crs": "EPSG:1"}, xh.errors.GridError, "names no CRS"),
        (
            FIELDS,
            {"crs": UTM, "name": "crop"},
            xh.errors.GridError,
            "bare geometry has no property",
        ),
        (FIELDS, {"crs": UTM, "stat": "mode"}, xh.errors.OptionError, "stat='mode'"),
        (FIELDS, {"crs": UTM, "min_valid": 2}, xh.errors.OptionError, "min_valid=2"),
        (FIELDS, {"crs": UTM, "path": "fields.xlsx"}, xh.errors.StoreError, "'.xlsx'"),
    ],
)
def test_bad_input_is_refused(polygons, options, error, match):
    with pytest.raises(error, match=match):
        xh.series.to_table(make_series(), polygons, **options)


def test_a_buffer_in_degrees_is_refused():
    cube = example_cube(crs="EPSG:4326", origin=(3.0, 51.0), resolution=1e-4)
    field = shapely.box(3.0, 50.999, 3.001, 51.0)
    assert xh.series.to_table(cube, field)["n_pixels"].iloc[0] == 100
    with pytest.raises(xh.errors.GridError, match="is in metres, the cube is in EPSG:4326"):
        xh.series.to_table(cube, field, buffer=-10)
