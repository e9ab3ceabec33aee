"""Look-up tables per tile and date: fitted across chunks, looked at, saved, applied."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from helpers.marks import first_quick
from hypothesis import given, settings
from hypothesis import strategies as st

import xharmonize as xh
from xharmonize.cube.companions import ResultFlag
from xharmonize.errors import BandError, ModelError
from xharmonize.testing import assert_chunk_invariant, assert_lazy, example_cube

BANDS = ("red", "nir08")
TILE = 120.0  # 12 pixels; the cube's west edge lies at 501,360 m = 4178 tiles
PARTIAL = "reach beyond the cube"


def make_source(*, is_decoded: bool = True, shape=(36, 48), **options) -> xr.DataArray:
    options = {"bands": BANDS, "shape": shape, "seed": 3, "origin": (501360.0, 5629680.0)} | options
    return example_cube(is_decoded=is_decoded, **options)


@pytest.fixture(scope="module")
def source() -> xr.DataArray:
    return make_source()


def model_cube() -> xr.DataArray:
    cube = example_cube(
        "landsat-c2-l2", platform="landsat-8", bands=BANDS, shape=(40, 50), seed=8, missing=0.0
    )
    return cube.copy(data=(cube.values * 1.3 + 0.02).astype("float32"))


@pytest.fixture(scope="module")
def model() -> xr.Dataset:
    return xh.harmonizers.fit_histogram(model_cube(), bins=200)


def test_the_fit_says_all_there_is_to_know(source, model):
    tables = xh.harmonizers.fit_tables(source, model, tile=TILE)
    assert dict(tables.sizes) == {
        "time": 3, "tile_y": 3, "tile_x": 4, "band": 2, "knot": 201, "bin": 200,
    }  # fmt: skip
    np.testing.assert_array_equal(tables["tile_x"], 501360 + TILE * (np.arange(4) + 0.5))
    np.testing.assert_array_equal(tables["tile_y"], 5629680 - TILE * (np.arange(3) + 0.5))
    tile = source.isel(y=slice(12, 24), x=slice(36, 48), time=1, band=0).values
    counts = tables["histograms"].isel(time=1, tile_y=1, tile_x=3, band=0)
    expected = np.histogram(tile[np.isfinite(tile)].clip(0, 1).astype(float), 200, (0, 1))[0]
    np.testing.assert_array_equal(counts, expected)
    valid = np.isfinite(tile).mean()
    assert float(tables["tile_coverage"][1, 1, 3]) == pytest.approx(valid)
    assert (tables["tile_extent"] == 1).all()
    assert not tables["tile_flag"].any()
    facts = {"tile": TILE, "target_bandpass": "oli", "predictor": "histogram fit"}
    assert facts.items() <= tables.attrs.items()
    assert str(tables["platform"].values[0]) == "sentinel-2a"
    xr.testing.assert_identical(tables, source.harmonize.fit_tables(model, tile=TILE))


def test_each_tile_is_matched_by_itself(source, model):
    """A tile mapped with its table is what matching that tile alone gives."""
    tables = xh.harmonizers.fit_tables(source, model, tile=TILE)
    result = xh.to_landsat(source, model, tables=tables)
    part = {"y": slice(12, 24), "x": slice(24, 36), "time": [2]}
    alone = xh.to_landsat(source.isel(part), model)
    np.testing.assert_allclose(result.isel(part), alone, atol=1e-6)
    assert set(result["bandpass"].values) == {"oli"}
    assert "tiles of 120 m" in result.attrs["history"].splitlines()[-1]


def test_tables_stand_for_the_model_and_survive_saving(source, model, tmp_path):
    tables = xh.harmonizers.fit_tables(source, model, tile=TILE, interpolate=True)
    expected = xh.to_landsat(source, model, tables=tables)
    for name in ("tables.zarr", "tables.nc"):
        xh.harmonizers.save_model(tables, tmp_path / name)
        opened = xh.load_model(tmp_path / name)
        xr.testing.assert_equal(opened, tables)
        for actual in (
            xh.to_landsat(source, opened),
            xh.to_landsat(source, tmp_path / name),
            xh.to_landsat(source, model, tables=opened),
        ):
            np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("interpolate", first_quick([False, True]))
@pytest.mark.parametrize("is_decoded", [False, True])
def test_chunks_do_not_matter(model, interpolate, is_decoded):
    cube = make_source(is_decoded=is_decoded)

    def run(part):
        tables = xh.harmonizers.fit_tables(part, model, tile=TILE, interpolate=interpolate)
        return xh.to_landsat(part, model, tables=tables, flags=True)

    def fit(part):
        return xh.harmonizers.fit_tables(part, model, tile=TILE, interpolate=interpolate)

    chunkings = [{"time": 1, "band": 1, "y": 5, "x": 30}, {"time": 2, "y": 7, "x": 11}]
    assert_chunk_invariant(run, cube, chunkings=chunkings)
    assert_chunk_invariant(fit, cube, chunkings=chunkings)


@settings(max_examples=15, deadline=None)
@given(
    box=st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 16)] * 2),
    interpolate=st.booleans(),
    ascending=st.booleans(),
    chunk=st.one_of(st.none(), st.integers(3, 20)),
)
def test_a_given_fit_maps_any_part_alike(box, interpolate, ascending, chunk, model):
    cube = make_source()
    tables = xh.harmonizers.fit_tables(cube, model, tile=TILE, interpolate=interpolate)
    whole = xh.to_landsat(cube, tables)
    y, x, height, width = box
    part = {"y": slice(y, y + height), "x": slice(x, x + width), "time": [0, 2]}
    cut = cube.isel(part)
    if chunk is not None:
        cut = cut.chunk(y=chunk, x=chunk)
    if ascending:
        tables, cut = tables.isel(tile_y=slice(None, None, -1)), cut.isel(y=slice(None, None, -1))
    actual = xh.to_landsat(cut, tables)
    if ascending:
        actual = actual.isel(y=slice(None, None, -1))
    tolerance = 1e-6 if ascending and interpolate else 0
    np.testing.assert_allclose(actual, whole.isel(part), rtol=0, atol=tolerance)


def test_a_given_fit_maps_the_bands_a_cube_has(model):
    cube = make_source()
    tables = xh.harmonizers.fit_tables(cube, model, tile=TILE)
    names = cube["band"].values[::-1][:1].tolist()
    few = cube.sel(band=names)
    expected = xh.to_landsat(cube, tables).sel(band=names)
    for cut in (few, few.chunk(y=10)):
        np.testing.assert_array_equal(xh.to_landsat(cut, tables), expected)
    with pytest.raises(BandError, match="the cube has"):
        xh.to_landsat(few.assign_coords(band=["coastal"]), tables)


def test_tables_for_another_bandpass_are_refused(model):
    cube = make_source()
    tables = xh.harmonizers.fit_tables(cube, model, tile=TILE).assign_attrs(target_bandpass="wfv")
    with pytest.raises(ModelError, match="lead to wfv"):
        xh.to_landsat(cube, model, tables=tables)


def test_digital_numbers_give_what_reflectance_gives(model):
    encoded = make_source(is_decoded=False, missing=0.2)
    decoded = encoded.harmonize.decode()
    tables = xh.harmonizers.fit_tables(encoded, model, tile=TILE)
    xr.testing.assert_identical(
        tables.drop_attrs(), xh.harmonizers.fit_tables(decoded, model, tile=TILE).drop_attrs()
    )
    np.testing.assert_array_equal(xh.to_landsat(encoded, tables), xh.to_landsat(decoded, tables))


def test_nothing_is_computed(source, model, no_compute):
    chunked = source.chunk(time=1, y=10, x=10)
    with no_compute():
        tables = xh.harmonizers.fit_tables(chunked, model.chunk(), tile=TILE)
        results = [
            xh.to_landsat(chunked, model.chunk(), tables=tables, flags=True),
            xh.to_landsat(chunked, tables),
        ]
    assert_lazy(tables)
    for result in results:
        assert_lazy(result)


def test_a_block_waits_for_its_own_tiles_only(source, model):
    chunked = source.chunk(time=1, y=12, x=12)
    tables = xh.harmonizers.fit_tables(chunked, model, tile=TILE)
    result = xh.to_landsat(chunked, tables).isel(time=0, y=0, x=0).data
    graph = result.dask.cull({(result.name, *(0,) * result.ndim)})
    assert sum("fit-tables-add" in str(key[0]) for key in graph) == 1


def test_no_tile_edge_shows_with_interpolation(model):
    """One value everywhere, mapped by tables of a scene that is brighter in the east."""
    cube = make_source(missing=0.0, shape=(24, 48))
    cube = cube + np.linspace(0, 0.1, 48, dtype="float32")
    probe = xr.full_like(cube, 0.4)
    steps = {}
    for interpolate in (False, True):
        tables = xh.harmonizers.fit_tables(cube, model, tile=120.0, interpolate=interpolate)
        result = xh.to_landsat(probe, tables).isel(time=0, band=1, y=0)
        steps[interpolate] = np.abs(np.diff(result))
    assert steps[False][[11, 23, 35]].min() > 0.005
    assert steps[True].max() < steps[False].max() / 8


def test_tiles_beyond_the_cube_are_warned_on_and_flagged(source, model):
    cut = source.isel(y=slice(0, 20), x=slice(6, 48))
    with pytest.warns(xh.errors.RadiometryWarning, match=PARTIAL):
        tables = xh.harmonizers.fit_tables(cut, model, tile=TILE)
    np.testing.assert_allclose(tables["tile_extent"][:, :2], [[0.5, 1], [1 / 3, 2 / 3]])
    assert (tables["tile_coverage"] <= tables["tile_extent"]).all()
    result = xh.to_landsat(cut, tables, flags=True)
    partial = (result["flag"] & ResultFlag.PARTIAL_CONTEXT) > 0
    there = np.isfinite(result["reflectance"]).any("band")
    expected = np.zeros((20, 42), bool)
    expected[12:], expected[:, :6] = True, True
    np.testing.assert_array_equal(partial, expected & there)


def test_values_beyond_the_tables_are_flagged(source, model):
    cube = source.copy(data=source.values.copy())
    cube[0, 1, 3, 4], cube[1, 0, 5, 6] = 1.2, -0.02
    tables = xh.harmonizers.fit_tables(cube, model, tile=TILE)
    flag = xh.to_landsat(cube, tables, flags=True)["flag"]
    assert flag.dtype == np.uint8
    assert flag.dims == ("time", "y", "x")
    assert np.argwhere(flag.values == ResultFlag.SATURATED).tolist() == [[0, 3, 4], [1, 5, 6]]
    assert "saturated" in flag.attrs["flag_meanings"]
    whole = xh.to_landsat(cube, model, flags=True)["flag"]
    np.testing.assert_array_equal(whole, flag)


def test_a_tile_with_too_few_pixels_has_no_table(model):
    cube = make_source(missing=0.0)
    holed = cube.copy(data=cube.values.copy())
    holed[..., :12, :11] = np.nan
    tables = xh.harmonizers.fit_tables(holed, model, tile=TILE, min_valid=0.2)
    assert np.isnan(tables["tables"][:, 0, 0]).all()
    assert np.isfinite(tables["tables"][:, 1:]).all()
    alone = xh.to_landsat(holed, tables)
    assert np.isnan(alone[..., :12, :12]).all()
    blended = xh.harmonizers.fit_tables(holed, model, tile=TILE, min_valid=0.2, interpolate=True)
    result = xh.to_landsat(holed, blended)
    assert np.isfinite(result[..., 6:12, 11]).all()
    constant = xh.harmonizers.fit_histogram(model_cube(), source=cube, bins=50)
    tables = xh.harmonizers.fit_tables(holed.chunk(y=9), constant, tile=TILE, min_valid=0.2)
    np.testing.assert_array_equal(np.isnan(tables["tables"][0, :, :, 0, 0]).sum(), 1)


def test_steps_in_the_target_bandpass_pass_through(source, model):
    landsat = example_cube(
        "landsat-c2-l2", platform="landsat-8", bands=BANDS, shape=(36, 48), dates=["2018-07-02"]
    )
    mixed = xr.concat([source, landsat], "time", join="override", combine_attrs="override")
    tables = xh.harmonizers.fit_tables(mixed, model, tile=TILE)
    assert tables.sizes["time"] == 3
    result = xh.to_landsat(mixed, model, tables=tables, flags=True)
    np.testing.assert_array_equal(result["reflectance"][3], landsat[0])
    assert not result["flag"][3].any()
    with pytest.raises(xh.errors.ModelError, match="no tables to fit"):
        xh.harmonizers.fit_tables(landsat, model, tile=TILE)


def test_what_does_not_fit_is_refused(source, model):
    tables = xh.harmonizers.fit_tables(source, model, tile=TILE)
    degrees = example_cube(bands=BANDS, crs="EPSG:4326", resolution=1e-4, origin=(3.0, 50.8))
    with pytest.raises(xh.errors.GridError, match="degrees"):
        xh.harmonizers.fit_tables(degrees, model)
    with pytest.raises(xh.errors.GridError, match="smaller than a pixel"):
        xh.harmonizers.fit_tables(source, model, tile=5)
    with pytest.raises(xh.errors.GridError, match="EPSG:32632"):
        xh.to_landsat(make_source(crs="EPSG:32632"), tables)
    with pytest.raises(xh.errors.GridError, match="no tile at x"):
        xh.to_landsat(make_source(origin=(501240.0, 5629680.0)), tables)
    with pytest.raises(xh.errors.ModelError, match="no date 2018-08-01"):
        xh.to_landsat(make_source(dates=["2018-08-01"]), tables)
    with pytest.raises(xh.errors.ModelError, match="makes no look-up tables"):
        xh.harmonizers.fit_tables(source, "hls-v2")
    with pytest.raises(xh.errors.ModelError, match="tables already"):
        xh.harmonizers.fit_tables(source, tables)
    with pytest.raises(xh.errors.BandError, match="red"):
        xh.harmonizers.fit_tables(make_source(bands=("blue",)), model)
    with pytest.raises(xh.errors.FitError, match="min_valid"):
        xh.harmonizers.fit_tables(source, model, min_valid=2)
