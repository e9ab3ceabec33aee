"""Pairs each on its own grid, screened before the nearest is chosen."""

from __future__ import annotations

import warnings

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.cube import screening
from xharmonize.cube.pairs import as_cube, on_target_grid, source_groups, target_of
from xharmonize.testing import assert_lazy, example_cube

DATES = tuple(f"2018-07-{day:02d}T10:50" for day in (1, 6, 11, 16, 21, 26))


def sentinel(dates=DATES, **options):
    return example_cube(dates=dates, shape=(48, 60), **options)


def landsat(dates=("2018-07-02", "2018-07-12", "2018-07-17"), **options):
    return example_cube(
        "landsat-c2-l2",
        platform="landsat-8",
        dates=dates,
        shape=(16, 20),
        resolution=30,
        seed=1,
        **options,
    )


def days(pairs, side):
    return [str(day)[5:] for day in pairs[f"time_{side}"].values.astype("datetime64[D]")]


def test_both_sides_keep_their_grid_and_contract():
    source, target = sentinel(), landsat()
    pairs = xh.collect_pairs(source, target)
    assert days(pairs, "source") == ["07-01", "07-11", "07-16"]
    assert days(pairs, "target") == ["07-02", "07-12", "07-17"]
    one = as_cube(source_groups(pairs)["source"])
    xr.testing.assert_identical(one.drop_attrs(), source.isel(time=[0, 2, 3]).drop_attrs())
    xr.testing.assert_identical(as_cube(target_of(pairs)).drop_attrs(), target.drop_attrs())
    assert float(pairs["gap"][0]) == pytest.approx(-1 + 10 / 24 + 50 / 1440)
    assert pairs["platform_source"].values.tolist() == ["sentinel-2a"] * 3


def test_on_the_grid_of_the_target_they_are_what_match_pairs_gives():
    source, target = sentinel(), landsat()
    found = on_target_grid(xh.collect_pairs(source, target, min_valid=0, max_score=None))
    expected = xh.match_pairs(xh.regrid(source, like=target), target, tolerance="4D", bands="all")
    xr.testing.assert_identical(found.drop_attrs(), expected.drop_attrs())


def test_bands_of_different_pixel_sizes_come_together_on_the_target():
    ten = sentinel(bands=("blue", "red"))
    twenty = example_cube(dates=DATES, bands=("nir08",), shape=(24, 30), resolution=20)
    pairs = xh.collect_pairs({"10m": ten, "20m": twenty}, landsat())
    assert {n: one.shape for n, one in source_groups(pairs).items()} == {
        "10m": (3, 2, 48, 60),
        "20m": (3, 1, 24, 30),
    }
    both = on_target_grid(pairs, psf=3.0)
    assert both["source_band"].values.tolist() == ["blue", "red", "nir08"]
    alone = on_target_grid(xh.collect_pairs(twenty, landsat()), psf=3.0)
    np.testing.assert_array_equal(
        both["source"].sel(source_band=["nir08"]).values, alone["source"].values
    )
    with pytest.raises(xh.errors.TimeAxisError, match="differ in dates"):
        xh.collect_pairs({"10m": ten, "20m": twenty.isel(time=[0])}, landsat())


def test_pixels_stay_lazy(no_compute):
    source, target = sentinel(chunks={"time": 1, "y": 20}), landsat(chunks={"time": 1})
    with no_compute():
        pairs = xh.collect_pairs(source, target, min_valid=0, max_score=None)
        table = on_target_grid(pairs.isel(pair=[0, 2]), psf=3.0)
    assert_lazy(table)
    eager = xh.collect_pairs(sentinel(), landsat())
    screened = xh.collect_pairs(source, target)
    assert source_groups(screened)["source"].chunks is not None
    xr.testing.assert_equal(screened.to_dataset(), eager.to_dataset())
    np.testing.assert_array_equal(
        table["source"].values, on_target_grid(eager, psf=3.0)["source"].values[[0, 2]]
    )


def test_haze_is_left_out_before_the_nearest_is_chosen():
    source = sentinel()
    hazy = source.copy(data=source.values.copy())
    hazy[3] += 0.06
    pairs = xh.collect_pairs(hazy, landsat())
    assert days(pairs, "source") == ["07-01", "07-11", "07-21"]
    assert (pairs["outlier_score_source"] < 2).all()
    kept = xh.collect_pairs(hazy, landsat(), max_score=None)
    assert days(kept, "source") == ["07-01", "07-11", "07-16"]
    assert float(kept["outlier_score_source"][2]) > 2


def test_the_quartile_of_a_pixel_is_that_of_numpy():
    random = np.random.default_rng(0)
    values = random.random((9, 500)).astype("float32")
    values[1:][random.random((8, 500)) < 0.4] = np.nan
    expected = np.nanquantile(values, 0.25, axis=0)
    np.testing.assert_allclose(screening._lower_quartile(values), expected, rtol=1e-6)


def test_clouds_are_left_out_before_the_nearest_is_chosen():
    source = sentinel()
    source[0, :, :30] = np.nan
    pairs = xh.collect_pairs(source, landsat())
    assert days(pairs, "source")[0] == "07-06"
    assert (pairs["clear_fraction_source"] >= 0.5).all()
    with pytest.raises(xh.errors.TimeAxisError, match=r"no date of the target is clear enough"):
        xh.collect_pairs(source, landsat() * np.nan + landsat() * np.nan)


@pytest.mark.parametrize("is_lazy", [False, True])
def test_rows_of_one_pass_are_merged(is_lazy):
    target = landsat(("2018-07-02T10:40:00", "2018-07-02T10:40:24"), missing=0)
    values = target.values.copy()
    values[0, :, :10] = np.nan
    values[1, :, 12:] = np.nan
    data = da.from_array(values) if is_lazy else values
    merged = target_of(xh.collect_pairs(sentinel(), target.copy(data=data)))
    assert merged.sizes["pair"] == 1
    np.testing.assert_array_equal(merged.values[0, :, 10:], values[0, :, 10:])
    np.testing.assert_array_equal(merged.values[0, :, :10], values[1, :, :10])


def test_shifts_of_both_sensors_go_into_the_weights():
    source, target = sentinel(missing=0), landsat()
    pairs = xh.collect_pairs(source, target)
    times, targets = (pairs[f"time_{side}"].values for side in ("source", "target"))
    fit = xr.Dataset(
        {
            "shift_x": ("time", [10.0, 0.0, 0.0]),
            "shift_y": ("time", [0.0, -20.0, 0.0]),
            "reference_shift_x": ("reference_time", [-10.0]),
            "reference_shift_y": ("reference_time", [30.0]),
        },
        coords={"time": times, "reference_time": targets[:1]},
    )
    found = on_target_grid(pairs, shifts=fit)["source"]
    net = fit[["shift_x", "shift_y"]].drop_vars("reference_time", errors="ignore")
    net["shift_x"][0], net["shift_y"][0] = 20.0, -30.0
    expected = xh.regrid(source.isel(time=[0, 2, 3]), like=target, shifts=net)
    np.testing.assert_array_equal(found.values, expected.values)


def test_what_are_no_pairs_is_refused():
    with pytest.raises(xh.errors.ContractError, match=r"xh\.collect_pairs"):
        source_groups(xr.DataTree())
    with pytest.raises(xh.errors.OptionError, match=r"max_score=0"):
        xh.collect_pairs(sentinel(), landsat(), max_score=0)
    with pytest.raises(xh.errors.OptionError, match=r"min_valid=2"):
        xh.collect_pairs(sentinel(), landsat(), min_valid=2)
    with pytest.raises(xh.errors.TimeAxisError, match=r"no two dates lie within"):
        xh.collect_pairs(sentinel(), landsat(("2019-07-02",)))


GROUND = np.random.default_rng(3).uniform(0.05, 0.15, (12, 15))


def sky(sensor, platform, dates, bands=("blue", "red"), *, fine=1, noise=0.002):
    """Blue is half of red over any ground, and every date errs a little."""
    size = tuple(n * fine for n in GROUND.shape)
    cube = example_cube(
        sensor,
        platform=platform,
        dates=dates,
        bands=bands,
        shape=size,
        resolution=30 / fine,
        missing=0,
    )
    red = np.kron(GROUND, np.ones((fine, fine)))
    ground = {"blue": 0.5 * red + 0.02, "red": red}
    errors = np.random.default_rng(len(dates)).normal(0, noise, (len(dates), 1, 1, 1))
    values = np.stack([ground[band] for band in bands])[None] + errors
    return cube.copy(data=values.astype("float32"))


def both_skies(noise=0.002):
    source = sky("sentinel-2-l2a", "sentinel-2a", DATES, fine=3, noise=noise)
    days = ("2018-07-02", "2018-07-12", "2018-07-17", "2018-07-27")
    return source, sky("landsat-c2-l2", "landsat-8", days, noise=noise) + 0.01


def test_a_change_of_the_ground_is_no_haze():
    """Harvest brightens red more than blue; haze the reverse. Landsat reads higher throughout."""
    source, target = both_skies()
    harvest = xr.DataArray([0.03, 0.06], dims="band")
    hazy = xr.DataArray([0.04, 0.02], dims="band")
    changed, veiled = (source.copy(data=source.values.copy()) for _ in range(2))
    changed[3] += harvest
    veiled[3] += hazy
    scores = [
        xh.collect_pairs(one, target, max_score=None)["outlier_score_source"]
        for one in (changed, veiled)
    ]
    assert float(abs(scores[0]).max()) < 2
    assert float(scores[1][2]) == pytest.approx(6, abs=1.5)
    assert days(xh.collect_pairs(veiled, target), "source") == ["07-01", "07-11", "07-21", "07-26"]


@pytest.mark.parametrize("n_dates", [4, 6])
def test_haze_of_either_sensor_is_found_with_few_dates(n_dates):
    """Landsat's dates alone are too few to tell: those of both sensors do."""
    source, target = both_skies()
    source, target = source.isel(time=slice(n_dates)), target.isel(time=slice(3))
    veiled = target.copy(data=target.values.copy())
    veiled[1] += xr.DataArray([0.04, 0.02], dims="band")
    assert days(xh.collect_pairs(source, target), "target") == ["07-02", "07-12", "07-17"]
    assert days(xh.collect_pairs(source, veiled), "target") == ["07-02", "07-17"]


def test_what_both_sensors_see_is_the_ground():
    """A flood between two dates of both: brighter than the month, but not than each other."""
    source, target = both_skies()
    both = [one.copy(data=one.values.copy()) for one in (source, target)]
    both[0][3] += xr.DataArray([0.04, 0.02], dims="band")
    both[1][2] += xr.DataArray([0.04, 0.02], dims="band")
    pairs = xh.collect_pairs(*both, tolerance="2D")
    assert days(pairs, "source") == ["07-01", "07-11", "07-16", "07-26"]


def test_grids_of_other_crss_are_screened_each_by_itself():
    source, target = both_skies()
    far = target.assign_coords(spatial_ref=example_cube(shape=(4, 4), crs=32632)["spatial_ref"])
    first = xh.collect_pairs(source, far, max_score=None)["outlier_score_source"]
    assert np.isfinite(first).all()


def real_cubes(data, span):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
        return [
            xh.open_stac(
                data / "flanders-2018" / "catalog.json",
                collection=name,
                datetime=span,
                bands=["blue", "red"],
                platform=platform,
            )
            for name, platform in (("sentinel-2-l2a", "infer"), ("landsat-8-c1-sr", None))
        ]


CLEAR = [
    ("02-07", "02-08"),
    ("02-23", "02-25"),
    ("06-06", "06-03"),
    ("07-01", "06-30"),
    ("07-17", "07-15"),
    ("07-24", "07-23"),
    ("10-05", "10-06"),
]
"""Target and source. 2018-07-18 is nearest to Landsat's 07-17, and hazy."""


@pytest.mark.parametrize(
    ("span", "first", "last"),
    [
        ("2018-06-25/2018-08-05", 3, 6),
        pytest.param("2018-02-01/2018-10-31", 0, 7, marks=pytest.mark.slow),
    ],
)
def test_real_haze_is_not_paired(data, span, first, last):
    """In a series of seasons and among the dates of a summer alone; no clear pair is lost."""
    source, target = real_cubes(data, span)
    pairs = xh.collect_pairs(source, target)
    assert list(zip(days(pairs, "target"), days(pairs, "source"))) == CLEAR[first:last]
