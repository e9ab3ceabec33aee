"""Companions are declared once, and every step goes by the declaration."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
import xarray as xr

import xharmonize as xh
from xharmonize.cube.companions import (
    COMPANIONS,
    Companion,
    Origin,
    ResultFlag,
    blank_missing,
    companions_of,
    with_flags,
)
from xharmonize.io.cog.opening import open_cogs
from xharmonize.series.axis import is_filled
from xharmonize.testing import assert_lazy, example_cube, no_compute

CHUNKS = {"time": 1, "y": 10, "x": 11}
BANDS = ("red", "nir08")
LATER = ("2018-07-02T10:40", "2018-07-07T10:40", "2018-07-12T10:40")


def largest_valid(valid, values):
    """Of the valid observations."""
    whole = np.where(valid, values, -np.inf).max(axis=0, keepdims=True)
    return np.where(np.isfinite(whole), whole, np.nan).astype(values.dtype)


LAG = Companion(
    name="lag",
    long_name="time to the pair that a value was predicted from",
    dtype="float32",
    blank=np.nan,
    units="days",
    over_bands=np.maximum,
    over_observations=largest_valid,
    over_pixels="mean",
    on_regrid="mean",
    is_of_value=True,
)


@pytest.fixture
def lag(monkeypatch):
    """A companion that is declared by one entry, and by nothing else."""
    monkeypatch.setitem(COMPANIONS, LAG.name, LAG)


def with_lag(chunks=None, **kwargs):
    cube = example_cube(bands=BANDS, **kwargs)
    days = np.arange(cube.size, dtype=np.float32).reshape(cube.shape) % 17
    result = cube.to_dataset().assign(lag=cube.copy(data=days).assign_attrs(LAG.attrs))
    return result if chunks is None else result.chunk(chunks)


@pytest.mark.parametrize("chunks", [None, CHUNKS], ids=["numpy", "dask"])
def test_a_new_companion_goes_through_every_step(lag, chunks, tmp_path):
    cube = with_lag(chunks)
    with no_compute():
        ndvi = cube.harmonize.index("ndvi")
        coarse = cube.harmonize.regrid(resolution=30)
        oli = cube.harmonize.to_landsat("hls-v2")
        later = with_lag(chunks, seed=2, dates=LATER).harmonize.to_landsat("hls-v2")
        dense = xh.densify(oli, later)
        month = dense.harmonize.composite("month", method="mean")
        smooth = ndvi.harmonize.smooth()
    if chunks:
        for made in (ndvi, coarse, oli, dense, month, smooth):
            assert_lazy(made)
    value, days = cube["reflectance"].compute(), cube["lag"].compute()
    there = ndvi["ndvi"].notnull()
    np.testing.assert_array_equal(ndvi["lag"], days.max("band").where(there))
    block = days[:, :, :3, :3].mean(("y", "x"))
    np.testing.assert_allclose(coarse["lag"][:, :, 0, 0], block, rtol=1e-6)
    assert coarse["lag"].attrs == LAG.attrs
    np.testing.assert_array_equal(oli["lag"], days)
    known = dense["lag"].where(dense["reflectance"].notnull()).compute()
    np.testing.assert_array_equal(known[::2], days.where(value.notnull()))
    np.testing.assert_array_equal(month["lag"][0], known.max("time"))
    np.testing.assert_array_equal(smooth["lag"], ndvi["lag"])
    dense.harmonize.to_zarr(tmp_path / "series.zarr")
    stored = xh.open_series(tmp_path / "series.zarr")
    np.testing.assert_array_equal(stored["lag"], dense["lag"])
    xh.to_cogs(ndvi, tmp_path / "cogs")
    np.testing.assert_array_equal(open_cogs(tmp_path / "cogs")["lag"], ndvi["lag"])
    area = shapely.box(*stored.rio.bounds())
    rows = xh.series.to_table(stored, [area], crs=stored.rio.crs, min_valid=0)
    np.testing.assert_allclose(
        rows["lag"].to_numpy().reshape(-1, 2), known.mean(("y", "x")), rtol=1e-5
    )
    back = rows.to_xarray()
    assert set(companions_of(back)) == {"origin", "lag"}


@pytest.mark.parametrize("duplicates", ["target", "mean"])
def test_a_new_companion_is_merged_by_its_rule(lag, duplicates):
    target, other = with_lag(missing=0.3), with_lag(seed=4, missing=0.3)
    merged = xh.densify(target, other, duplicates=duplicates)
    kept = [cube["lag"].where(cube["reflectance"].notnull()) for cube in (target, other)]
    largest = np.fmax(*(layer.values for layer in kept))
    expected = largest if duplicates == "mean" else kept[0].fillna(kept[1])
    np.testing.assert_array_equal(merged["lag"], expected)


def test_a_cube_without_a_new_companion_gets_its_blank(lag):
    plain = example_cube(bands=BANDS, seed=3, dates=("2018-07-02", "2018-07-07"))
    assert xh.densify(with_lag(), plain)["lag"][[1, 3]].isnull().all()


def with_all(seed=0, **kwargs):
    """A cube of several observations of one day, with every companion."""
    dates = ("2018-07-01T10:30", "2018-07-01T10:40", "2018-07-01T10:50")
    cube = example_cube(bands=BANDS, dates=dates, missing=0.4, seed=seed, **kwargs)
    random = np.random.default_rng(seed)
    layers = {}
    for name, own in COMPANIONS.items():
        like = cube if own.has_band else cube.isel(band=0, drop=True)
        known = (
            random.random(like.shape)
            if own.flags is None
            else 1 << random.integers(0, 3, like.shape)
        )
        layers[name] = like.copy(data=known.astype(own.dtype)).assign_attrs(own.attrs)
    return cube.to_dataset().assign(layers)


@pytest.mark.parametrize("chunks", [None, CHUNKS], ids=["numpy", "dask"])
def test_the_mean_of_a_day_is_the_same_by_composite_and_by_densify(chunks):
    cube = with_all() if chunks is None else with_all().chunk(chunks)
    day = xh.densify(cube, duplicates="mean")
    composite = xh.densify(cube).harmonize.composite("1D", method="mean")
    for name in ("reflectance", *COMPANIONS):
        np.testing.assert_array_equal(day[name], composite[name], err_msg=name)


def test_declarations_are_whole():
    for name, own in COMPANIONS.items():
        assert own.name == name
        dtype = np.dtype(own.dtype)
        assert dtype.type(own.blank).item() == own.blank or np.isnan(own.blank)
        assert (own.flags is None) == (dtype.kind == "f")
        if own.flags is not None:
            assert len(own.attrs["flag_meanings"].split()) == len(own.attrs["flag_masks"])
            assert own.attrs["flag_masks"].dtype == dtype
            assert (own.over_bands, own.on_regrid) == (np.bitwise_or, "or")


def test_what_companions_become_is_said_in_one_place():
    """No other module lists companions, or writes what one is called in full."""
    package = Path(xh.__file__).parent
    texts = {one.long_name for one in COMPANIONS.values()} - {"standard deviation"}
    for path in package.rglob("*.py"):
        if path.name == "companions.py" or "simulate" in path.parts:
            continue
        text = path.read_text()
        assert not [words for words in texts if f'"{words}"' in text], path
        lists = re.findall(rf"\((?:\s*\"(?:{'|'.join(COMPANIONS)})\",?){{3,}}\s*\)", text)
        assert not lists, path


def test_flags_have_one_text_whoever_sets_them():
    cube = example_cube(bands=BANDS)
    screened = xh.series.screen_outliers(cube.harmonize.index("ndvi").to_dataset(), mask=False)
    for made in (cube.to_dataset().harmonize.index("ndvi"), screened):
        assert made["flag"].attrs["long_name"] == COMPANIONS["flag"].long_name


def test_flags_join_those_that_are_there():
    cube = example_cube(bands=BANDS)
    bits = cube.isel(band=0, drop=True).copy(data=np.full((3, 24, 30), ResultFlag.OUTLIER, "u1"))
    past = cube.copy(data=np.full(cube.shape, ResultFlag.SATURATED, "u1"))
    for one, two in ((None, bits), (bits, bits), (past, bits), (bits, past)):
        made = with_flags(one, two)
        wide = two if one is None or set(one.dims) <= set(two.dims) else one
        assert (made.name, made.dtype, made.dims) == ("flag", np.uint8, wide.dims)
        expected = {int(layer.values.flat[0]) for layer in (one, two) if layer is not None}
        assert (made == sum(expected)).all()


def test_a_masked_value_has_no_origin():
    cube = example_cube(bands=BANDS, missing=0.0)
    cloud = (cube.isel(band=0, drop=True) > 0.05).astype(np.uint16) * np.uint16(2)
    dense = xh.densify(cube.to_dataset().assign(qa=cloud))
    masked = xh.mask(dense, "cloud")
    there = masked["reflectance"].notnull()
    assert 0 < there.mean() < 1
    np.testing.assert_array_equal(masked["origin"], there.astype(np.uint8))
    np.testing.assert_array_equal(masked["qa"], cloud)


def test_an_origin_without_bands_stays_without():
    cube = example_cube(bands=BANDS)
    cube[0, 0] = np.nan
    cube[1] = np.nan
    origin = cube.isel(band=0, drop=True).copy(data=np.ones((3, 24, 30), np.uint8))
    made = blank_missing({"origin": origin}, cube)["origin"]
    assert made.dims == ("time", "y", "x")
    np.testing.assert_array_equal(made, cube.notnull().any("band"))


def test_a_value_is_filled_where_no_band_was_observed():
    ndvi = example_cube(bands=BANDS).harmonize.index("ndvi")
    bits = np.array([Origin.OBSERVED, Origin.FILLED], np.uint8)
    origin = xr.zeros_like(example_cube(bands=BANDS), np.uint8) + bits[:, None, None]
    mixed = ndvi.to_dataset(name="ndvi").assign(origin=origin)
    assert not is_filled(mixed, ndvi).any()
    assert is_filled(mixed.assign(origin=origin // 4 * 4 + origin % 2 * 4), ndvi).all()


def test_what_ground_outside_adds_is_declared(monkeypatch):
    cube = example_cube(bands=BANDS, missing=0.0)
    like = cube.harmonize.regrid(resolution=40)
    plain = cube.isel(band=0, drop=True).copy(data=np.zeros((3, 24, 30), np.uint16))
    given = cube.to_dataset().isel(y=slice(2, None)).assign(qa=plain.isel(y=slice(2, None)))
    assert (given.harmonize.regrid(like=like)["qa"][:, 0] == 1).all()
    monkeypatch.setitem(COMPANIONS, "qa", replace(COMPANIONS["qa"], outside=4))
    assert (given.harmonize.regrid(like=like)["qa"][:, 0] == 4).all()


@pytest.mark.parametrize("name", list(COMPANIONS))
def test_a_companion_of_another_kind_is_refused(name):
    cube, declared = with_all(), np.dtype(COMPANIONS[name].dtype)
    other = cube.assign({name: cube[name].astype("int64" if declared.kind == "f" else "float64")})
    steps = (
        lambda given: given.harmonize.index("ndvi"),
        lambda given: given.harmonize.regrid(resolution=30),
        lambda given: xh.densify(given),
        lambda given: given.harmonize.to_landsat("hls-v2"),
    )
    for step in steps:
        with pytest.raises(
            xh.errors.ContractError, match=rf"'{name}' holds .*astype\('{declared}'\)"
        ):
            step(other)
        step(other.assign({name: other[name].fillna(0).astype(declared)}))
