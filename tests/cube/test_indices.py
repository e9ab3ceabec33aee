"""Spectral indices of cubes."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.cube.companions import ResultFlag
from xharmonize.cube.contract import TIME_COORDS
from xharmonize.cube.indices import INDICES
from xharmonize.testing import assert_chunk_invariant, example_cube

ALL = ("blue", "green", "red", "rededge1", "nir", "nir08", "swir16", "swir22")
CHUNKINGS = [
    {"time": 1, "band": 1, "y": 5, "x": 7},
    {"time": -1, "band": 3, "y": (20, 4), "x": -1},
]


@pytest.mark.parametrize("name", xh.series.list_indices())
def test_index_equals_its_formula(name):
    cube = example_cube(bands=ALL)
    spec = INDICES[name]
    bands = {role: cube.sel(band="nir08" if role == "nir" else role) for role in spec.roles}
    expected = eval(spec.formula, {}, {n: b.astype("float64") for n, b in bands.items()})
    positive = np.all([b.values > 0 for b in bands.values()], axis=0)
    actual = xh.index(cube, name)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual.values[positive], expected.values[positive], atol=1e-5)
    assert actual.isnull().values[~positive].all()


def test_near_infrared_is_one_band_for_all_dates():
    both = xh.index(example_cube(bands=("red", "nir", "nir08")))
    only = xh.index(example_cube(bands=("red", "nir")))
    assert both.attrs["bands"] == "nir08 red"
    assert only.attrs["bands"] == "nir red"
    assert only.attrs["history"].endswith("index: ndvi = (nir - red) / (nir + red)")
    cube = example_cube(bands=("red", "nir", "nir08"))
    cube.loc[{"band": "nir08", "time": cube.time[1]}] = np.nan  # not filled from nir
    assert xh.index(cube)[1].isnull().all()


def test_contract_and_grid_stay(cube, no_compute):
    with no_compute():
        actual = xh.index(cube)
    assert actual.name == "ndvi"
    assert actual.dims == ("time", "y", "x")
    assert actual.attrs["units"] == "1"
    for name in TIME_COORDS:
        np.testing.assert_array_equal(actual[name].values, cube[name].values)
    assert actual.rio.crs == cube.rio.crs
    assert "band" not in actual.coords
    assert "scale" not in actual.coords


@pytest.mark.parametrize("name", ["ndvi", "evi", "bsi"])
def test_index_is_chunk_invariant(name):
    cube = example_cube()
    companions = cube.to_dataset(name="reflectance").assign(
        uncertainty=xr.full_like(cube, 0.01), origin=xr.ones_like(cube, dtype="uint8")
    )
    for source in (cube, companions):
        assert_chunk_invariant(lambda c: xh.index(c, name), source, chunkings=CHUNKINGS)


def test_companions_in_memory_beside_lazy_values():
    cube = example_cube()
    error = xr.full_like(cube, 0.01) + 0.01 * cube
    expected = xh.index(cube.to_dataset(name="reflectance").assign(uncertainty=error))
    mixed = cube.chunk(CHUNKINGS[0]).to_dataset(name="reflectance").assign(uncertainty=error)
    xr.testing.assert_identical(xh.index(mixed).compute(), expected)


def test_undefined_values_are_nan_and_flagged():
    cube = example_cube(bands=("red", "nir08"), missing=0.0)
    red, nir = cube.values[0, 0], cube.values[0, 1]
    red[0, :5] = [0.0, -0.01, 0.003, 0.05, np.nan]
    nir[0, :5] = [0.4, 0.40, 0.006, 0.00, 0.4]
    result = xh.index(cube.to_dataset(name="reflectance"))
    assert set(result.data_vars) == {"ndvi", "flag"}
    assert result["ndvi"][0, 0, :5].isnull().all()
    bit = int(ResultFlag.UNDEFINED_INDEX)
    assert result["flag"][0, 0, :6].values.tolist() == [bit] * 4 + [0, 0]
    assert "undefined_index" in result["flag"].attrs["flag_meanings"]


def test_uncertainty_is_propagated_to_first_order():
    cube = example_cube(missing=0.0).clip(0.05)
    errors = xr.full_like(cube, 0.004)
    result = xh.index(xr.Dataset({"reflectance": cube, "uncertainty": errors}), "evi")
    random = np.random.default_rng(0)
    noisy = [
        xh.index(cube + random.normal(0, 0.004, cube.shape).astype("float32"), "evi")
        for _ in range(200)
    ]
    spread = xr.concat(noisy, "draw").std("draw")
    ratio = (result["uncertainty"] / spread).mean()
    assert float(ratio) == pytest.approx(1.0, abs=0.03)


def test_companions_follow_the_bands_used():
    cube = example_cube()
    fraction = xr.full_like(cube, 1.0)
    fraction.loc[{"band": "red"}] = 0.6
    fraction.loc[{"band": "blue"}] = 0.1
    origin = xr.ones_like(cube, dtype="uint8")
    origin.loc[{"band": "red"}] = 2
    qa = xr.zeros_like(cube.isel(band=0, drop=True), dtype="uint16") + np.uint16(2)
    result = xh.index(
        xr.Dataset({"reflectance": cube, "valid_fraction": fraction, "origin": origin, "qa": qa})
    )
    assert (result["valid_fraction"] == np.float32(0.6)).all()
    np.testing.assert_array_equal(result["origin"].values, np.where(result["ndvi"].notnull(), 3, 0))
    assert (result["qa"] == 2).all()
    assert result["qa"].dtype == "uint16"


def test_every_index_is_sourced():
    for spec in INDICES.values():
        assert spec.citation
        assert spec.doi.startswith("10.") or spec.name in ("nbr2", "bsi")
        assert xh.index(example_cube(bands=ALL), spec.name).attrs["references"]


def test_refusals(cube):
    with pytest.raises(xh.errors.BandError, match=r"index 'ndxi' is unknown; .*choose one of"):
        xh.index(cube, "ndxi")
    with pytest.raises(xh.errors.BandError, match="index 'ndre' needs band rededge1"):
        xh.index(cube, "ndre")
    with pytest.raises(xh.errors.RadiometryError, match=r"decode\(\)"):
        xh.index(example_cube(is_decoded=False))
    with pytest.raises(xh.errors.RadiometryError, match="units='percent'"):
        xh.index(cube.assign_attrs(units="percent"))
    with pytest.raises(xh.errors.ContractError, match=r"xh\.describe"):
        xh.index(cube.drop_vars("platform"))
    with pytest.raises(xh.errors.ContractError, match="no variable 'reflectance'"):
        xh.index(cube.to_dataset(name="values"))
