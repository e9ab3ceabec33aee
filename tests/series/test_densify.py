"""Merging cubes into one dense series."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.cube.contract import TIME_COORDS, require_contract
from xharmonize.cube.dates import solar_days
from xharmonize.testing import assert_lazy, example_cube

DATES = ("2018-07-02T10:30:00", "2018-07-06T10:30:00", "2018-07-11T10:30:00")
CHUNKS = {"time": 1, "y": 10, "x": 11}


def landsat(**kwargs):
    return example_cube("landsat-c2-l2", platform="landsat-8", dates=DATES, seed=3, **kwargs)


def harmonised(cube=None):
    """Sentinel-2 as if put into OLI's bandpass."""
    cube = example_cube() if cube is None else cube
    return cube.assign_coords(bandpass=("time", ["oli"] * cube.sizes["time"]))


def test_series_is_ordered_and_remembers(no_compute):
    target, other = landsat(), harmonised()
    with no_compute():
        series = xh.densify(target.chunk(CHUNKS), other.chunk(CHUNKS))
    assert_lazy(series)
    assert series["reflectance"].dims == ("time", "band", "y", "x")
    assert (np.diff(series["time"].values).astype(int) > 0).all()
    sensors = series["sensor"].values
    assert sensors.tolist() == [
        "sentinel-2-l2a",
        "landsat-c2-l2",
        "landsat-c2-l2",
        "sentinel-2-l2a",
        "landsat-c2-l2",
        "sentinel-2-l2a",
    ]
    np.testing.assert_array_equal(series["reflectance"][sensors == "landsat-c2-l2"], target)
    np.testing.assert_array_equal(series["reflectance"][sensors == "sentinel-2-l2a"], other)
    require_contract(series["reflectance"])
    for name in TIME_COORDS:
        assert series[name].dims == ("time",)
    assert series.rio.crs == target.rio.crs
    assert series["reflectance"].attrs["units"] == "1"
    assert "3 dates of sentinel-2-l2a" in series["reflectance"].attrs["history"]


def test_origin_is_observed_or_harmonised_or_nothing():
    series = xh.densify(landsat(), harmonised())
    values, origin = series["reflectance"], series["origin"]
    assert origin.dtype == np.uint8
    np.testing.assert_array_equal(origin == 0, values.isnull())
    observed = series["sensor"].values == "landsat-c2-l2"
    assert set(np.unique(origin[observed])) == {0, 1}
    assert set(np.unique(origin[~observed])) == {0, 2}
    assert origin.attrs["flag_masks"].tolist() == [1, 2, 4, 8]
    assert origin.attrs["flag_meanings"] == "observed harmonised filled sharpened"


def test_a_product_in_the_target_bandpass_counts_as_observed():
    hls = example_cube("hls-s30", platform="sentinel-2b", bands=("red", "nir08"))
    series = xh.densify(landsat(bands=("red", "nir08")), hls, allow_mixed_levels=True)
    assert set(np.unique(series["origin"])) == {0, 1}


def test_an_origin_the_cube_brings_along_is_kept():
    other = harmonised()
    brought = xr.Dataset({"reflectance": other, "origin": xr.full_like(other, 6, dtype="uint8")})
    series = xh.densify(landsat(), brought)
    assert set(np.unique(series["origin"])) == {0, 1, 6}
    again = xh.densify(xh.densify(landsat()), brought)
    xr.testing.assert_equal(again, series)


def test_numpy_and_any_chunks_are_the_same():
    target, other = landsat(), harmonised()
    for rule in ("keep", "target", "mean"):
        expected = xh.densify(target, other, duplicates=rule)
        for chunks in (CHUNKS, {"time": -1, "band": 2, "x": 7}):
            lazy = xh.densify(target.chunk(chunks), other.chunk(chunks), duplicates=rule)
            assert_lazy(lazy)
            xr.testing.assert_identical(lazy.compute(), expected)
        mixed = xh.densify(target, other.chunk(CHUNKS), duplicates=rule)
        xr.testing.assert_identical(mixed.compute(), expected)


def test_equal_times_are_ordered_by_sensor_then_item():
    target = landsat()
    other = harmonised().assign_coords(time=target.time.values[[0, 0, 0]])
    other = other.assign_coords(item_id=("time", ["c", "a", "b"]))
    series = xh.densify(target, other)
    assert series["item_id"].values.tolist()[:4] == ["landsat-8-0", "a", "b", "c"]
    assert series.sizes["time"] == 6  # duplicates are kept unless asked otherwise


def test_companions_are_carried_and_filled():
    target, other = landsat(), harmonised()
    qa = xr.full_like(target.isel(band=0, drop=True), 8, dtype="uint16")
    with_qa = xr.Dataset({"reflectance": target, "qa": qa})
    with_error = xr.Dataset({"reflectance": other, "uncertainty": xr.full_like(other, 0.01)})
    series = xh.densify(with_qa.chunk(CHUNKS), with_error.chunk(CHUNKS))
    assert_lazy(series)
    landsat_dates = series["sensor"].values == "landsat-c2-l2"
    assert series["qa"].dtype == np.uint16
    assert (series["qa"][landsat_dates] == 8).all()
    assert (series["qa"][~landsat_dates] == 0).all()
    assert series["uncertainty"][landsat_dates].isnull().all()
    assert (series["uncertainty"][~landsat_dates] == np.float32(0.01)).all()


def test_bands_in_another_order_are_sorted():
    other = harmonised()
    series = xh.densify(landsat(), other.isel(band=slice(None, None, -1)))
    xr.testing.assert_equal(series, xh.densify(landsat(), other))


def test_index_series_equals_series_of_index():
    target, other = landsat(), harmonised()
    first = xh.index(xh.densify(target, other))
    last = xh.densify(xh.index(target), xh.index(other))
    np.testing.assert_array_equal(first["ndvi"], last["ndvi"])
    np.testing.assert_array_equal(first["origin"], last["origin"])


def test_target_rule_fills_from_the_others():
    target, other = landsat(), harmonised()
    series = xh.densify(target, other, duplicates="target")
    assert series.sizes["time"] == 4  # 07-06 and 07-11 were seen twice
    day = series.isel(time=2)
    one, two = target.isel(time=1), other.isel(time=1)
    np.testing.assert_array_equal(day["reflectance"], one.where(one.notnull(), two))
    expected = np.where(one.notnull(), 1, np.where(two.notnull(), 2, 0))
    np.testing.assert_array_equal(day["origin"], expected)
    assert day["sensor"].item() == "landsat-c2-l2|sentinel-2-l2a"
    assert day["bandpass"].item() == "oli"
    assert day["time"].item() == target["time"][1].item()


def test_mean_rule_averages_valid_observations():
    target, other = landsat(), harmonised()
    series = xh.densify(
        xr.Dataset({"reflectance": target, "uncertainty": xr.full_like(target, 0.03)}),
        xr.Dataset({"reflectance": other, "uncertainty": xr.full_like(other, 0.04)}),
        duplicates="mean",
    )
    day = series.isel(time=2)
    stack = np.stack([target.values[1], other.values[1]]).astype("float64")
    both = np.isfinite(stack).all(axis=0)
    np.testing.assert_allclose(day["reflectance"].values[both], stack.mean(axis=0)[both], atol=1e-7)
    assert (day["origin"].values[both] == 3).all()
    one, two = np.isfinite(stack)
    # Of valid observations only.
    error = np.select([one & two, one, two], [0.025, 0.03, 0.04], np.nan)
    np.testing.assert_allclose(day["uncertainty"], error, atol=1e-7)
    assert day["reflectance"].dtype == np.float32


def test_the_error_of_a_mean_is_unknown_where_that_of_a_look_is():
    target, other = landsat(missing=0.0), harmonised(example_cube(missing=0.0))
    target = xr.Dataset({"reflectance": target, "uncertainty": xr.full_like(target, 0.03)})
    day = xh.densify(target, other, duplicates="mean").isel(time=2)
    assert day["uncertainty"].isnull().all()


def test_a_mean_keeps_no_flags_of_observations_that_gave_nothing():
    target, other = (c.isel(time=[1]) for c in (landsat(missing=0.0), harmonised()))
    other = other.assign_coords(time=target["time"] + np.timedelta64(1, "h"))
    target[0, :, :12] = np.nan
    other = other.fillna(0.1)
    other[0, :, -1] = np.nan
    target[0, :, -1] = np.nan
    cubes = [
        c.to_dataset(name="reflectance").assign(
            qa=xr.full_like(c.isel(band=0, drop=True), bits, dtype="uint16")
        )
        for c, bits in ((target, 2), (other, 1024))
    ]
    qa = xh.densify(*cubes, duplicates="mean")["qa"][0]
    assert set(np.unique(qa[:12])) == {1024}
    assert set(np.unique(qa[12:])) == {1026}  # both gave, or none did


@pytest.mark.parametrize("rule", ["target", "mean"])
def test_a_merged_series_is_merged_again(rule):
    target, other = landsat(), harmonised()
    merged = xh.densify(target, other.isel(time=[1]), duplicates=rule)
    again = xh.densify(merged, other.isel(time=[2]))
    assert again.sizes["time"] == 4
    assert set(np.unique(again["origin"])) <= {0, 1, 2, 3}


def test_nadir_and_directional_reflectance_are_not_mixed_unasked():
    target, other = landsat(), harmonised()
    nadir = other.assign_coords(level=("time", ["NBAR"] * other.sizes["time"]))
    with pytest.raises(
        xh.errors.RadiometryError, match=r"is NBAR and .* is SR.*allow_mixed_levels"
    ):
        xh.densify(target, nadir)
    mixed = xh.densify(target, nadir, allow_mixed_levels=True)
    assert set(mixed["level"].values) == {"NBAR", "SR"}
    month = mixed.harmonize.composite("month")
    assert month["level"].values.tolist() == ["NBAR|SR"]
    for cube in (target, nadir):
        with pytest.raises(xh.errors.RadiometryError, match=r"is NBAR\|SR.*allow_mixed_levels"):
            xh.densify(cube, month["reflectance"])
    both = target.assign_coords(level=("time", ["NBAR"] * target.sizes["time"]))
    assert set(both.harmonize.densify(nadir)["level"].values) == {"NBAR"}


def test_days_are_those_of_the_sun():
    """Near the date line a morning pass straddles midnight UTC."""
    far = example_cube(
        crs="EPSG:32660", dates=("2018-07-01T22:30:00", "2018-07-02T22:10:00"), shape=(4, 4)
    )
    near = example_cube(dates=("2018-07-01T22:30:00", "2018-07-02T00:10:00"), shape=(4, 4))
    assert np.diff(solar_days(far.to_dataset())) == [1]
    assert np.diff(solar_days(near.to_dataset())) == [1]
    straddling = example_cube(
        crs="EPSG:32660", dates=("2018-07-01T23:50:00", "2018-07-02T00:10:00"), shape=(4, 4)
    )
    assert np.diff(solar_days(straddling.to_dataset())) == [0]


def test_refusals():
    target, other = landsat(), harmonised()
    with pytest.raises(
        xh.errors.ModelError, match=r"'sentinel-2a-0' is in bandpass 'msi'.*to_landsat"
    ):
        xh.densify(target, example_cube())
    mixed = target.assign_coords(bandpass=("time", ["oli", "etm+", "oli"]))
    with pytest.raises(xh.errors.ModelError, match="the target cube mixes bandpasses"):
        xh.densify(mixed, other)
    with pytest.raises(xh.errors.GridError, match="densify needs cubes on one grid"):
        xh.densify(target, harmonised(example_cube(resolution=30.0)))
    with pytest.raises(xh.errors.GridError, match="EPSG:32632"):
        xh.densify(target, harmonised(example_cube(crs=32632)))
    with pytest.raises(xh.errors.BandError, match=r"only in the target: \['blue'\]"):
        xh.densify(target, other.sel(band=["green", "red", "nir08", "swir16", "swir22"]))
    with pytest.raises(xh.errors.RadiometryError, match=r"decode\(\)"):
        xh.densify(target, harmonised(example_cube(is_decoded=False)))
    with pytest.raises(xh.errors.ContractError, match=r"xh\.describe"):
        xh.densify(target, other.drop_vars("sensor"))
    with pytest.raises(xh.errors.ContractError, match=r"sensor of .* is unknown"):
        xh.densify(target, other.assign_coords(sensor=("time", ["unknown"] * 3)))
    with pytest.raises(xh.errors.ContractError, match="different quantities"):
        xh.densify(target, xh.index(other))
    with pytest.raises(xh.errors.OptionError, match="duplicates='drop' is unknown"):
        xh.densify(target, other, duplicates="drop")
    narrow = xh.index(example_cube(bands=("red", "nir")))
    with pytest.raises(xh.errors.BandError, match="comes from different bands"):
        xh.densify(xh.index(target), harmonised(narrow))


def test_duplicates_by_lowest_uncertainty():
    target, other = landsat(missing=0.0), harmonised(example_cube(missing=0.0))
    error = xr.full_like(target, 0.02)
    error[1, 0, 0, 0] = np.nan
    better = xr.full_like(other, 0.03)
    better[1, :, :, 5:] = 0.01
    cubes = [
        xr.Dataset({"reflectance": cube, "uncertainty": sigma})
        for cube, sigma in ((target, error), (other, better))
    ]
    expected = target[1].values.copy()
    expected[:, :, 5:] = other[1, :, :, 5:]
    expected[0, 0, 0] = other[1, 0, 0, 0]
    for chunks in (None, CHUNKS):
        given = cubes if chunks is None else [cube.chunk(chunks) for cube in cubes]
        series = xh.densify(*given, duplicates="lowest_uncertainty")
        day = series.isel(time=series["sensor"].str.contains(r"\|").values)
        assert day.sizes["time"] == 2  # the 6th and the 11th
        np.testing.assert_array_equal(day["reflectance"][0], expected)
        assert float(day["uncertainty"][0].max()) == pytest.approx(0.03)
        assert set(np.unique(day["origin"][0, :, :, :5])) == {1, 2}
    with pytest.raises(xh.errors.ContractError, match="needs a companion 'uncertainty'"):
        xh.densify(target, other, duplicates="lowest_uncertainty")


def test_a_date_of_several_sensors_is_observed_and_harmonised():
    month = xh.densify(landsat(), harmonised()).harmonize.composite("month")
    assert month["sensor"].item() == "landsat-c2-l2|sentinel-2-l2a"
    assert int(xh.densify(month["reflectance"])["origin"].max()) == 3
    assert int(xh.densify(landsat().harmonize.composite("month"))["origin"].max()) == 1
