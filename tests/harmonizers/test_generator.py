"""Generators: every pixel is what its tile gives, and says what is to be known of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr

pytest.importorskip("torch")

from helpers import device_arrays
from helpers.device_arrays import DeviceArray
from helpers.generators import BANDS, LATTICE, Plain, generator, sentinel, small_card

import xharmonize as xh
from xharmonize import testing
from xharmonize.cube.companions import ResultFlag
from xharmonize.cube.geobox import geobox_of
from xharmonize.errors import (
    BandError,
    ContractError,
    GridError,
    ModelError,
    RadiometryError,
)
from xharmonize.models import Domain, Lattice, Runtime
from xharmonize.tiles.graph import Beside, run_plan
from xharmonize.tiles.place import make_plan


@pytest.fixture
def model(tmp_path: Path):
    return generator(tmp_path)


def rows_of(result: xr.DataArray, lattice: Lattice) -> tuple[range, range]:
    """Numbers of a result's pixels, from the lattice's origin."""
    affine, shape = geobox_of(result).affine, result.shape[-2:]
    row = round((lattice.phase[1] - affine.f) / lattice.resolution)
    column = round((affine.c - lattice.phase[0]) / lattice.resolution)
    return range(row, row + shape[0]), range(column, column + shape[1])


def has(flag: xr.DataArray, bit: ResultFlag) -> np.ndarray:
    return (flag.values & int(bit)) > 0


@pytest.mark.parametrize(
    "lattice",
    [
        LATTICE,
        replace(LATTICE, merge="blend"),
        replace(LATTICE, phase=(15.0, 15.0)),
        replace(LATTICE, buffer=2, merge="blend", phase=(10.0, 20.0)),
        replace(LATTICE, buffer=0),
    ],
    ids=["core", "blend", "Landsat's phase", "narrow blend, third phase", "no buffer"],
)
def test_every_pixel_is_what_its_tiles_give(lattice, tmp_path):
    model = generator(tmp_path, small_card(lattice=lattice))
    cube = sentinel((70, 59), west=8, north=6, missing=0.05)
    found = model(cube.chunk(time=1, y=24, x=31)).compute()
    expected = Plain(model)(cube, *rows_of(found, lattice))
    is_there = np.isfinite(found.values)
    assert is_there.mean() > 0.8
    np.testing.assert_allclose(found.values[is_there], expected[is_there], atol=2e-5)


def test_the_result_is_masked_where_its_own_inputs_are_missing(model):
    cube = sentinel((96, 96), missing=0.4)
    found = model(cube.chunk(y=30, x=30)).compute()
    own = xh.regrid(cube, resolution=30, min_valid=0.5)
    expected = own.isnull().any("band")
    assert 0.1 < float(expected.mean()) < 0.9
    np.testing.assert_array_equal(found.isnull().all("band"), expected)
    np.testing.assert_array_equal(found.isnull().any("band"), expected)


def test_one_missing_pixel_does_not_spread(model):
    cube = sentinel((96, 96))
    holed = cube.copy(deep=True)
    holed[:, :, 40, 40] = np.nan
    before, after = model(cube), model(holed)
    assert int(after.isnull().sum()) == 0  # 8 of 9 are valid
    assert float(abs(after - before).max()) < 0.2


def test_grid_and_contract_of_the_result(model, no_compute):
    cube = sentinel((61, 50), west=1, north=2).chunk(y=20)
    cube = cube.assign_attrs(history="opened")
    with no_compute():
        found = model(cube)
    testing.assert_lazy(found)
    box = geobox_of(found)
    assert box.crs.epsg == 32631
    assert (box.affine.a, box.affine.e) == (30.0, -30.0)
    assert (box.affine.c % 30, box.affine.f % 30) == (0, 0)
    left, bottom, *_ = geobox_of(cube).boundingbox
    assert box.boundingbox.left <= left < box.boundingbox.left + 30
    assert box.boundingbox.bottom <= bottom < box.boundingbox.bottom + 30
    assert found.dtype == np.float32
    assert found.dims == ("time", "band", "y", "x")
    assert set(found["bandpass"].values) == {"oli"}
    assert set(found["sensor"].values) == {"sentinel-2-l2a"}
    assert bool(found["is_decoded"].all())
    assert list(found["band"].values) == ["blue", "green", "red", "nir08", "swir16", "swir22"]
    assert found.attrs["units"] == "1"
    lines = found.attrs["history"].splitlines()
    assert lines[0] == "opened"
    for word in (model.name, model.ref.digest[:12], "16 pixels of 30 m", "buffer 4", "core"):
        assert word in lines[-1]


def test_tasks_are_named_after_the_verb(model):
    found = model(sentinel().chunk(y=48))
    assert found.data.name.startswith("harmonize-generator-")


@pytest.mark.parametrize(("merge", "flags"), [("core", False), ("core", True), ("blend", True)])
def test_blocks_on_a_device_are_copied_down_once_and_come_back(merge, flags, tmp_path):
    model = generator(tmp_path, small_card(lattice=replace(LATTICE, merge=merge)), flags=flags)
    cube = sentinel((60, 49), west=8, north=6, missing=0.05, dates=1).chunk(y=24)
    expected = model(cube)
    found = model(cube.copy(data=cube.data.map_blocks(DeviceArray)))
    n_blocks = (found["reflectance"] if flags else found).data.npartitions
    before = device_arrays.copies_to_host
    expected, found = dask.compute(expected, found, scheduler="synchronous")
    assert device_arrays.copies_to_host - before == n_blocks
    for name in ("reflectance", "flag") if flags else (None,):
        actual, same = (found[name], expected[name]) if name else (found, expected)
        assert isinstance(actual.data, DeviceArray)
        np.testing.assert_array_equal(actual.data.get(), same)


def test_rows_from_south_to_north(model):
    cube = sentinel((60, 66), west=3, north=5, missing=0.1)
    turned = cube.isel(y=slice(None, None, -1))
    found = model(turned.chunk(y=20))
    assert found["y"][0] < found["y"][-1]
    xr.testing.assert_allclose(found.isel(y=slice(None, None, -1)).compute(), model(cube))


def test_digital_numbers_are_decoded_first(model):
    cube = sentinel((48, 48), missing=0.1)
    dn = xr.where(cube.isnull(), 0, np.rint(cube * 10_000 + 1)).astype("uint16")
    table = np.ones((2, 6))
    dn = cube.copy(data=dn.data).assign_coords(
        scale=(("time", "band"), 1e-4 * table),
        offset=(("time", "band"), -1e-4 * table),
        nodata=(("time", "band"), 0 * table),
        is_decoded=(("time", "band"), table < 0),
    )
    found = model(dn.chunk(y=20)).compute()
    np.testing.assert_allclose(found, model(cube), atol=2e-4)


def test_steps_of_the_target_come_along_by_area(model):
    cube = sentinel((96, 96), missing=0.2, dates=3)
    cube = cube.assign_coords(band=["blue", "green", "red", "nir08", "swir16", "swir22"])
    both = cube.assign_coords(bandpass=("time", ["msi", "oli", "msi"]))
    card = replace(model.card.inputs[0], bands=("blue", "green", "red", "nir08"))
    model = replace(model, card=replace(model.card, inputs=(card, model.card.inputs[1])))
    found = model(both.chunk(y=32)).compute()
    assert list(found["bandpass"].values) == ["oli"] * 3
    own = xh.regrid(cube.isel(time=1), resolution=30)
    np.testing.assert_allclose(found.isel(time=1), own, atol=1e-6)
    changed = model(both.isel(time=[0, 2]))
    np.testing.assert_allclose(found.isel(time=[0, 2]), changed, atol=1e-6)
    unchanged = both.assign_coords(bandpass=("time", ["oli"] * 3))
    assert model(unchanged).identical(unchanged)


def test_through_the_accessor_and_onto_a_grid(model):
    cube = sentinel((96, 96)).chunk(y=48)
    like = testing.example_cube(
        "landsat-c2-l2",
        platform="landsat-8",
        shape=(20, 20),
        resolution=30.0,
        origin=(500175.0, 5600145.0),
    )
    found = cube.harmonize.to_landsat(model, like=like, flags=True, runtime=Runtime(batch_size=3))
    np.testing.assert_array_equal(found["x"], like["x"])
    assert set(found.data_vars) == {"reflectance", "flag"}
    expected = xh.regrid(model(cube), like=like)
    np.testing.assert_allclose(found["reflectance"], expected, atol=1e-5)


def test_partial_context_is_the_tiles_that_reach_beyond_the_cube(model):
    model = replace(model, flags=True)
    found = model(sentinel((96, 120)).chunk(y=40))
    flags = has(found["flag"], ResultFlag.PARTIAL_CONTEXT)
    expected = np.ones((32, 40), bool)
    expected[8:24, 8:32] = False  # cores of 8, a buffer of 4 that the outermost lack
    np.testing.assert_array_equal(flags, np.broadcast_to(expected, flags.shape))


def test_near_missing_is_within_the_buffer(model):
    cube = sentinel((96, 96))
    cube[0, :, 45, 45] = np.nan
    found = replace(model, flags=True)(cube.chunk(y=37, x=20))["flag"]
    flags = has(found, ResultFlag.NEAR_MISSING)
    expected = np.zeros((32, 32), bool)
    expected[15 - 4 : 15 + 5, 15 - 4 : 15 + 5] = True
    np.testing.assert_array_equal(flags[0], expected)
    assert not flags[1].any()


@pytest.mark.parametrize("merge", ["core", "blend"])
def test_a_tile_without_a_band_is_not_run(model, merge):
    card = replace(model.card, lattice=replace(LATTICE, merge=merge))
    cube = sentinel((144, 144))
    cube[0, 2, 24:96, 24:96] = np.nan
    found = replace(model, card=card, flags=True)(cube)
    skipped = has(found["flag"], ResultFlag.SKIPPED)
    assert skipped[0].any()
    assert not skipped[1].any()
    assert found["reflectance"].isel(time=0, y=slice(8, 32), x=slice(8, 32)).isnull().all()
    assert found["reflectance"].isel(time=0, y=slice(0, 8)).notnull().all()
    if merge == "core":
        expected = np.zeros((48, 48), bool)
        expected[8:32, 8:32] = True
        np.testing.assert_array_equal(skipped[0], expected)


def test_a_cube_of_nothing_gives_nothing(model, monkeypatch):
    cube = sentinel((60, 60))
    empty = cube.where(False).astype("float32")
    found = replace(model, flags=True)(empty.chunk(y=30))
    assert found["reflectance"].isnull().all()
    assert has(found["flag"], ResultFlag.SKIPPED).all()


def test_pixels_and_tiles_outside_the_domain(model):
    bins = tuple([0.1] * 5 + [0.1] * 5)
    domain = Domain(
        bands=BANDS,
        low=(0.0,) * 6,
        high=(0.5,) * 6,
        edges=(0.0, 0.5),
        histograms=(bins,) * 6,
        max_distance=0.03,
    )
    model = replace(model, card=replace(model.card, domain=domain), flags=True)
    cube = sentinel((144, 144))
    assert not has(model(cube)["flag"], ResultFlag.OUT_OF_DOMAIN).any()
    cube[0, 1, 70, 31] = 0.7
    cube[1, :, :, 72:] *= 0.2
    flags = has(model(cube.chunk(x=50))["flag"], ResultFlag.OUT_OF_DOMAIN)
    assert np.argwhere(flags[0]).tolist() == [[23, 10]]
    assert flags[1, :, 32:].all()
    assert not flags[1, :, :16].any()


def test_companions_come_along(model):
    cube = sentinel((60, 60), missing=0.1)
    plane = ("time", "y", "x")
    whole = xr.Dataset(
        {
            "reflectance": cube,
            "uncertainty": xr.full_like(cube, 0.01),
            "origin": xr.full_like(cube, 1, dtype="uint8"),
            "qa": (plane, np.full((2, 60, 60), 4, "uint16")),
        }
    )
    found = model(whole.chunk(y=30))
    assert set(found.data_vars) == {"reflectance", "origin", "qa"}
    testing.assert_lazy(found)
    assert geobox_of(found) == geobox_of(model(cube))
    is_there = found["reflectance"].notnull()
    np.testing.assert_array_equal(found["origin"], np.where(is_there, 2, 0))
    assert (found["qa"] == 4).all()


def test_a_larger_tile_keeps_the_buffer(model, tmp_path):
    large = model.with_tile(32)
    assert (large.lattice.tile, large.lattice.buffer, large.lattice.stride) == (32, 4, 24)
    cube = sentinel((96, 96)).chunk(y=48)
    found = large(cube)
    assert found.data.name != model(cube).data.name
    expected = Plain(large)(cube.compute(), *rows_of(found, large.lattice))
    np.testing.assert_allclose(found, expected, atol=2e-5)
    with pytest.raises(ModelError, match="no core"):
        model.with_tile(8)
    ref = large.save(tmp_path / "large")
    again = xh.load_model(tmp_path / "large")
    assert again.lattice == large.lattice
    assert ref.digest != model.ref.digest
    assert model.save(tmp_path / "same").digest == model.ref.digest


def test_one_to_one_and_finer_grids(tmp_path):
    """30 m to 30 m on Landsat's grid, and 30 m to 10 m on Sentinel-2's."""
    from helpers.cards import source

    cube = testing.example_cube(
        "landsat-c2-l2",
        platform="landsat-8",
        shape=(40, 33),
        resolution=30.0,
        missing=0.02,
        origin=(500175.0, 5600145.0),
    )
    landsat = replace(source("30m", tuple(cube.band.values), 30.0), phase=(15.0, 15.0))
    for lattice, step in (
        (Lattice(resolution=30.0, tile=16, buffer=4, phase=(15.0, 15.0)), 1),
        (Lattice(resolution=10.0, tile=24, buffer=6), 3),
    ):
        card = small_card("small-conv", lattice=lattice)
        card = replace(card, inputs=(landsat,), source_bandpass="oli", target_bandpass="msi")
        model = generator(tmp_path, card)
        found = model(cube.chunk(y=13, x=11)).compute()
        assert geobox_of(found).resolution.x == lattice.resolution
        xr.testing.assert_allclose(found, model(cube), atol=1e-6)
        if step == 1:
            assert geobox_of(found) == geobox_of(cube)
            np.testing.assert_array_equal(found.isnull(), cube.isnull())
        else:
            assert found.shape[2:] == (121, 100)  # the cube's edges halve pixels of 10 m
            centre = slice(20, 100), slice(20, 80)
            np.testing.assert_array_equal(
                found.isnull().any("band")[:, *centre],
                xh.regrid(cube, resolution=10).isnull().any("band")[:, *centre],
            )


def test_models_for_something_else_are_refused(model):
    cube = sentinel((48, 48))
    sensor = replace(model, card=replace(model.card, source_sensor="hls-s30"))
    with pytest.raises(RadiometryError, match=r"made for hls-s30, item .* is sentinel-2-l2a"):
        sensor(cube)
    level = replace(model, card=replace(model.card, levels=("NBAR",)))
    with pytest.raises(RadiometryError, match=r"made for NBAR reflectance, item .* is SR"):
        level(cube)
    with pytest.raises(RadiometryError, match="is in wfv"):
        model(cube.assign_coords(bandpass=("time", ["wfv"] * 2)))
    with pytest.raises(BandError, match="needs band swir16"):
        model(cube.drop_sel(band="swir16"))
    with pytest.raises(ContractError, match="what its numbers mean"):
        model(cube.drop_vars("bandpass"))
    with pytest.raises(ModelError, match="not to msi"):
        cube.harmonize.to_sentinel2(replace(model, card=replace(model.card, source_bandpass="x")))


def test_grids_off_the_lattice_are_refused(model):
    def at(origin=(500160.0, 5600160.0), resolution=10.0, crs="EPSG:32631"):
        return testing.example_cube(bands=BANDS, origin=origin, resolution=resolution, crs=crs)

    with pytest.raises(GridError, match=r"10 m with edges at 0, 0.*20 m.*regrid\(resolution=10\)"):
        model(at(resolution=20.0))
    with pytest.raises(GridError, match=r"edges at 5, 0.*regrid\(resolution=10\)"):
        model(at(origin=(500165.0, 5600160.0)))
    with pytest.raises(GridError, match=r"regrid\(crs='EPSG:32631', resolution=10\)"):
        model(at(origin=(3.0, 50.0), resolution=1e-4, crs="EPSG:4326"))
    there = replace(model.lattice, crs="EPSG:32632")
    other = replace(model, card=replace(model.card, lattice=there))
    with pytest.raises(GridError, match=r"made for EPSG:32632.*regrid\(crs='EPSG:32632'"):
        other(at())
    moved = replace(model.card.inputs[0], phase=(5.0, 5.0))
    card = replace(model.card, inputs=(moved, model.card.inputs[1]))
    with pytest.raises(
        GridError, match=r"like=snap\(.*phase=\(5.0, 5.0\)\).*xharmonize\.cube\.geobox"
    ):
        replace(model, card=card)(at())


def add_fine(coarse, fine, plan, parts):
    """The middle pixel under each output pixel, and the mean of all fine dates there."""
    middle = []
    for images, axes in ((coarse, parts), (fine, parts)):
        cells = [
            slice(int(3 * part.core[0] + 1 + axis.first) - part.window[0], None, 3)
            for axis, part in zip((plan.rows, plan.columns), axes)
        ]
        rows, columns = (part.core[1] - part.core[0] for part in parts)
        middle.append(images[:, :, *cells][:, :, :rows, :columns])
    return middle[0] + middle[1].mean(axis=0), None


def test_blocks_are_given_windows_of_several_cubes(model):
    """Whatever their chunks and dates, lazily and at once; only what a window needs is read."""
    coarse, fine = sentinel((96, 120)), sentinel((96, 120), dates=3, seed=5)
    box, bounds = geobox_of(coarse), None
    plan, _ = make_plan(box, bounds, model.card, model.ref, Runtime(), flags=False, chunk=(40, 40))
    whole = coarse.values + fine.values.mean(axis=0)
    expected = whole[:, :, 1::3, 1::3]
    chunkings = [(1, 6, 40, 33), (2, 6, 96, 120), None]
    for one, two in product(chunkings, chunkings[::-1]):
        arrays = [
            cube.values if chunks is None else cube.chunk(dict(zip(cube.dims, chunks))).data
            for cube, chunks in ((coarse, one), (fine, two))
        ]
        beside = [Beside(array=arrays[1], rows=plan.rows, columns=plan.columns)]
        found, _ = run_plan(arrays[0], plan, beside=beside, run=add_fine)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_band_that_was_interpolated_is_refused(model):
    cube = sentinel((48, 48)).chunk(y=24)
    smooth = cube.rolling(x=2, min_periods=1).mean().astype("float32")
    with pytest.raises(ModelError, match=r"swir16 or swir22 of 20 m .* interpolated"):
        model(smooth.assign_attrs(cube.attrs)).compute(scheduler="synchronous")
