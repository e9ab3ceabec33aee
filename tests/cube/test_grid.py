"""Grids and regridding of cubes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import rioxarray
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

import xharmonize as xh
from xharmonize.cube.geobox import describe_grid
from xharmonize.cube.regrid import geobox_of, is_same_grid, regrid_to, require_same_grid, snap
from xharmonize.testing import assert_chunk_invariant, assert_lazy, example_cube

CHUNKINGS = [
    {"time": 1, "band": 1, "y": 5, "x": 7},
    {"time": 2, "band": -1, "y": 24, "x": 4},
    {"time": -1, "band": 4, "y": (1, 20, 3), "x": (11, 13, 6)},
]


def landsat(shape=(10, 12), origin=(501345.0, 5629695.0), **kwargs):
    """A Landsat cube with edges on 15 mod 30, over the Sentinel-2 example cube."""
    return example_cube(
        "landsat-c2-l2",
        platform="landsat-8",
        shape=shape,
        resolution=30.0,
        origin=origin,
        **kwargs,
    )


def dataset(cube, **chunks):
    """A Dataset cube with all companions."""
    qa = xr.zeros_like(cube.isel(band=0, drop=True), dtype="uint16")
    qa[:, 4, 5] = int(xh.sensors.Flag.CLOUD)
    qa.attrs = {"flag_masks": [1, 2], "flag_meanings": "fill cloud"}
    result = xr.Dataset(
        {
            "reflectance": cube,
            "qa": qa.drop_vars("band", errors="ignore"),
            "uncertainty": xr.full_like(cube, 0.01),
            "origin": cube.notnull().astype("uint8"),
            "flag": xr.zeros_like(cube, dtype="uint8") + np.uint8(4),
        }
    )
    return result.chunk(chunks) if chunks else result


# --- reading grids


def test_geobox_reads_step_and_phase_from_the_coordinates(cube):
    box = geobox_of(cube)
    assert tuple(box.affine)[:6] == (10.0, 0.0, 501360.0, 0.0, -10.0, 5629680.0)
    assert box.crs.epsg == 32631
    part = cube.isel(y=slice(3, None), x=slice(2, 9))  # GeoTransform is stale now
    assert tuple(geobox_of(part).affine)[2:6:3] == (501380.0, 5629650.0)


def test_geobox_of_ascending_rows_has_a_positive_step(cube):
    box = geobox_of(cube.isel(y=slice(None, None, -1)))
    assert (box.affine.e, box.affine.f) == (10.0, 5629440.0)


def test_single_pixel_takes_its_size_from_the_geotransform(cube):
    box = geobox_of(cube.isel(y=[3], x=[4]))
    assert tuple(box.affine)[:6] == (10.0, 0.0, 501400.0, 0.0, -10.0, 5629650.0)
    bare = cube.isel(y=[3])
    bare = bare.assign_coords(
        spatial_ref=xr.Variable((), 0, {"crs_wkt": bare.spatial_ref.attrs["crs_wkt"]})
    )
    with pytest.raises(xh.errors.GridError, match="single pixel along 'y'"):
        geobox_of(bare)


def test_degrees_keep_their_unequal_sides():
    cube = example_cube(crs="EPSG:4326", resolution=1e-4, origin=(2.79202780663, 42.3645713714))
    wide = cube.assign_coords(x=cube.x[0].item() + 1.21e-4 * np.arange(cube.sizes["x"]))
    box = geobox_of(wide)
    assert box.affine.a == pytest.approx(1.21e-4, rel=1e-12)
    assert box.affine.e == pytest.approx(-1e-4, rel=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.drop_vars("spatial_ref"), "no CRS"),
        (lambda c: c.isel(x=slice(0, 0)), "no pixel along 'x'"),
        (lambda c: c.isel(x=[0, 1, 3]), "not evenly spaced"),
        (lambda c: c.isel(x=slice(None, None, -1)), "x descends"),
        (lambda c: c.drop_vars("y"), "no dimension and coordinate 'y'"),
        (lambda c: c.rename(y="latitude"), "no dimension and coordinate 'y'"),
    ],
)
def test_unreadable_grids_are_named(cube, change, message):
    with pytest.raises(xh.errors.GridError, match=message):
        geobox_of(change(cube))


def test_snap_covers_the_box_on_the_asked_lattice():
    box = snap((501361, 5629401, 501999, 5629999), 30, "EPSG:32631")
    assert tuple(box.boundingbox) == (501360, 5629380, 502020, 5630010)
    landsat_box = snap((501361, 5629401, 501999, 5629999), 30, 32631, phase=(15, 15))
    assert tuple(landsat_box.boundingbox) == (501345, 5629395, 502005, 5630025)
    exact = snap((501360, 5629380, 502020, 5630010), 30, 32631)
    assert is_same_grid(exact, box)
    for bounds, resolution, message in [
        ((0, 0, 1, 1), 0, "not a pixel size"),
        ((0, 0, 1, 1), -3, "not a pixel size"),
        ((5, 0, 5, 1), 10, "is empty"),
        ((0, 1, 5, 0), 10, "is empty"),
    ]:
        with pytest.raises(xh.errors.GridError, match=message):
            snap(bounds, resolution, 32631)


def test_same_crs_is_not_same_grid(cube):
    require_same_grid(cube, cube.isel(time=0), what="this")
    shifted = cube.assign_coords(x=cube.x + 5)
    with pytest.raises(xh.errors.GridError, match=r"edges at 5, 0.*regrid\(like=\.\.\.\)"):
        require_same_grid(cube, shifted, what="this")
    with pytest.raises(xh.errors.GridError, match=r"the other .*, y ascending"):
        require_same_grid(cube, cube.isel(y=slice(None, None, -1)), what="this")


# --- regridding within one CRS


def test_nested_mean_equals_block_mean(cube):
    actual = xh.regrid(cube, resolution=30)
    whole = cube.notnull().coarsen(y=3, x=3).mean()
    expected = cube.astype("float64").coarsen(y=3, x=3).mean().where(whole >= 0.5)
    np.testing.assert_allclose(actual.values, expected.values, atol=1e-7)
    np.testing.assert_array_equal(actual.y, expected.y)


def test_phases_that_differ_are_weighted_by_overlap():
    """Landsat edges on 15 mod 30: the outer source pixels count half."""
    cube = example_cube(missing=0.0)
    actual = xh.regrid(cube, like=landsat())
    window = cube.values[..., 1:5, 1:5].astype(float)  # pixel (1, 1) spans 1.5 … 4.5
    weight = np.outer([0.5, 1, 1, 0.5], [0.5, 1, 1, 0.5])
    expected = (window * weight).sum(axis=(-2, -1)) / 9
    np.testing.assert_allclose(actual[..., 1, 1], expected, atol=1e-7)


def test_result_has_exactly_the_grid_of_like(cube):
    like = landsat()
    actual = xh.regrid(cube, like=like)
    np.testing.assert_array_equal(actual.x, like.x)
    np.testing.assert_array_equal(actual.y, like.y)
    assert actual.rio.crs == like.rio.crs
    assert actual.rio.transform() == like.rio.transform()
    assert actual.dims == cube.dims
    assert actual.dtype == np.float32
    assert actual.attrs["units"] == "1"
    assert actual.attrs["history"].endswith("edges at 15, 15, min_valid 0.5")
    for name in ("sensor", "platform", "item_id", "scale", "is_decoded"):
        np.testing.assert_array_equal(actual[name].values, cube[name].values)
    assert cube.sizes["x"] == 30  # the input is as it was
    assert "history" not in cube.attrs


def test_coordinates_are_exact_multiples_however_cut():
    step = 1 / 3
    cube = example_cube(crs=32631, resolution=0.1, origin=(1000.0, 2000.0), shape=(60, 60))
    whole = xh.regrid(cube, resolution=step)
    part = xh.regrid(cube.isel(x=slice(20, None), y=slice(10, None)), resolution=step)
    shared = np.intersect1d(whole.x, part.x)
    assert shared.size == part.sizes["x"]


def test_rows_in_any_order_give_the_same():
    cube, like = example_cube(), landsat()
    upside_down = cube.isel(y=slice(None, None, -1))
    expected = xh.regrid(cube, like=like)
    np.testing.assert_array_equal(xh.regrid(upside_down, like=like), expected)
    flipped = xh.regrid(cube, like=like.isel(y=slice(None, None, -1)))
    np.testing.assert_allclose(flipped.isel(y=slice(None, None, -1)), expected, atol=1e-7)
    assert (np.diff(flipped.y) > 0).all()


def test_upsampling_repeats_and_interpolates():
    cube = example_cube("landsat-c2-l2", platform="landsat-8", resolution=30.0, missing=0.0)
    fine = xh.regrid(cube, resolution=10)
    np.testing.assert_array_equal(fine, np.repeat(np.repeat(cube, 3, axis=-2), 3, axis=-1))
    near = xh.regrid(cube, resolution=10, method="nearest")
    np.testing.assert_array_equal(near, fine)
    smooth = xh.regrid(cube, resolution=10, method="bilinear")
    np.testing.assert_allclose(smooth[..., 4, 4], cube[..., 1, 1], atol=1e-7)


def test_minimum_valid_fraction_and_its_layer():
    cube = example_cube(missing=0.0)
    cube[0, 0, 0:3, 0:2] = np.nan  # six of nine
    cube[0, 0, 0:3, 3:4] = np.nan  # three of nine
    result = xh.regrid(cube, resolution=30, valid_fraction=True)
    assert isinstance(result, xr.Dataset)
    share = result["valid_fraction"]
    assert share.dims == ("time", "band", "y", "x")
    np.testing.assert_allclose(share[0, 0, 0, :3], [3 / 9, 6 / 9, 1], atol=1e-6)
    assert np.isnan(result["reflectance"][0, 0, 0, 0])
    np.testing.assert_allclose(
        result["reflectance"][0, 0, 0, 1], cube[0, 0, 0:3, 4:6].mean(), atol=1e-6
    )
    strict = xh.regrid(cube, resolution=30, min_valid=1.0)
    assert np.isnan(strict[0, 0, 0, :2]).all()
    lenient = xh.regrid(cube, resolution=30, min_valid=0.0)
    assert np.isfinite(lenient).all()


def test_all_cloudy_stays_nan():
    cube = xr.full_like(example_cube(), np.nan)
    assert xh.regrid(cube, like=landsat()).isnull().all()


def test_same_grid_changes_nothing(cube):
    actual = xh.regrid(cube, like=cube)
    np.testing.assert_array_equal(actual.values, cube.values)


# --- between CRSs


def test_reprojection_keeps_a_plane():
    """A plane in source coordinates comes out as the plane at the transformed centres."""
    from pyproj import Transformer

    cube = example_cube(missing=0.0, shape=(60, 60)).isel(time=[0], band=[0])
    plane = (cube.x - 501360) * 1e-3 + (cube.y - 5629680) * 2e-3
    cube = cube.copy(data=np.broadcast_to(plane.transpose("y", "x"), cube.shape).astype("float64"))
    actual = xh.regrid(cube, crs="EPSG:4326", resolution=2e-4, method="bilinear", min_valid=1.0)
    transformer = Transformer.from_crs(4326, 32631, always_xy=True)
    x, y = transformer.transform(*np.meshgrid(actual.x, actual.y))
    expected = (x - 501360) * 1e-3 + (y - 5629680) * 2e-3
    seen = np.isfinite(actual.values[0, 0])
    assert seen.sum() > 500
    np.testing.assert_allclose(actual.values[0, 0][seen], expected[seen], atol=1e-6)


@pytest.mark.parametrize("how", ["area", "nearest", "bilinear"])
def test_reprojection_is_chunk_invariant(how):
    assert_chunk_invariant(
        lambda c: xh.regrid(c, crs=32632, resolution=20, method=how),
        example_cube(),
        chunkings=CHUNKINGS,
    )


def test_degrees_to_metres_and_back_in_unit():
    degrees = example_cube(crs="EPSG:4326", resolution=1e-4, origin=(2.79, 42.36))
    with pytest.raises(xh.errors.GridError, match=r"resolution=30 would be degrees.*EPSG:32631"):
        xh.regrid(degrees, resolution=30)
    with pytest.raises(xh.errors.GridError, match="give resolution="):
        xh.regrid(degrees, crs=32631)
    metres = xh.regrid(degrees, crs=32631, resolution=10)
    np.testing.assert_array_equal(metres.x % 10, 5)
    assert metres.rio.crs.to_epsg() == 32631
    assert float(metres.mean()) == pytest.approx(float(degrees.mean()), abs=2e-3)


def test_crs_alone_keeps_the_resolution_of_the_same_unit(cube):
    actual = xh.regrid(cube, crs="EPSG:32632")
    assert abs(geobox_of(actual).affine.a) == 10


# --- laziness and chunks


@pytest.mark.parametrize("how", ["area", "nearest", "bilinear"])
def test_regrid_is_chunk_invariant(how):
    like = landsat()
    assert_chunk_invariant(
        lambda c: xh.regrid(c, like=like, method=how, valid_fraction=True),
        example_cube(),
        chunkings=CHUNKINGS,
    )


@given(
    y=st.integers(1, 24),
    x=st.integers(1, 30),
    resolution=st.sampled_from([7.0, 10.0, 20.0, 30.0, 100.0]),
)
@settings(max_examples=15, deadline=None)
def test_any_chunks_any_resolution(y, x, resolution):
    cube = example_cube(dates=("2018-07-01T10:50",), bands=("red",))
    expected = xh.regrid(cube, resolution=resolution)
    actual = xh.regrid(cube.chunk(y=y, x=x), resolution=resolution)
    np.testing.assert_array_equal(actual.values, expected.values)


def test_companions_follow_their_rules(no_compute):
    cube = example_cube()
    like = landsat()
    expected = xh.regrid(dataset(cube), like=like)
    with no_compute():
        lazy = xh.regrid(dataset(cube, time=1, y=7, x=9), like=like)
    assert_lazy(lazy)
    for name in expected.data_vars:
        np.testing.assert_array_equal(lazy[name].values, expected[name].values, err_msg=name)
        assert lazy[name].dtype == dataset(cube)[name].dtype
    qa = expected["qa"].values
    # Source pixel (4, 5) spans y 40–50, x 50–60: it shares area with (1, 1), (1, 2) only.
    cloudy = np.argwhere(qa[0] & int(xh.sensors.Flag.CLOUD))
    assert cloudy.tolist() == [[1, 2], [2, 2]]
    assert (qa[:, 0, :] & int(xh.sensors.Flag.FILL)).all()  # half of it lies outside the source
    assert not (qa[:, 1:-2, 1:-2] & int(xh.sensors.Flag.FILL)).any()
    np.testing.assert_array_equal(expected["origin"] > 0, expected["reflectance"].notnull())
    assert expected["qa"].attrs["flag_meanings"] == "fill cloud"
    np.testing.assert_array_equal(expected["flag"][:, :, 1:8, 1:10], 4)


def test_graph_is_small_and_takes_only_the_window():
    cube = example_cube(shape=(600, 600), dates=("2018-07-01T10:50",), bands=("red",))
    lazy = cube.chunk(y=100, x=100)
    like = landsat(shape=(10, 10), dates=("2018-07-01T10:50",), bands=("red",))
    actual = xh.regrid(lazy, like=like)
    needed = actual.data.dask.cull(actual.data.__dask_keys__())
    read = [key for key in needed if isinstance(key, tuple) and key[0] == lazy.data.name]
    assert len(read) == 1  # of 36
    assert len(xh.regrid(lazy, resolution=30).data.dask.layers) == len(lazy.data.dask.layers) + 1


def test_blocks_beyond_the_source_are_empty():
    """Blocks that meet the source in one axis only read nothing and are NaN."""
    like = landsat(shape=(40, 60))
    expected = xh.regrid(dataset(example_cube()), like=like)
    actual = xh.regrid(dataset(example_cube(), x=4, y=5), like=like)
    xr.testing.assert_equal(actual.compute().drop_encoding(), expected)
    assert expected["reflectance"][..., 9:, :].isnull().all()
    assert (expected["qa"][:, 9:, :] == int(xh.sensors.Flag.FILL)).all()


def test_tasks_are_named_and_deterministic():
    lazy = example_cube(chunks={"y": 10})
    names = {xh.regrid(lazy, resolution=30).data.name for _ in range(2)}
    assert len(names) == 1
    assert names.pop().startswith("regrid-mean-")


# --- refusals


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "give like=, or resolution="),
        (
            {"like": GeoBox.from_bbox((0, 0, 9, 9), "EPSG:32631", resolution=3), "resolution": 3},
            "leave out crs= and resolution=",
        ),
        ({"resolution": 0}, "not a pixel size"),
        ({"resolution": 30, "method": "cubic"}, "method='cubic' is unknown"),
        ({"resolution": 30, "min_valid": 50}, "min_valid=50 is no fraction"),
        (
            {"like": GeoBox.from_bbox((0, 0, 90, 90), "EPSG:32631", resolution=30)},
            "does not meet the cube",
        ),
        (
            {"like": GeoBox.from_bbox((10, 60, 11, 61), "EPSG:4326", resolution=0.1)},
            "does not meet the cube",
        ),
    ],
)
def test_unclear_targets_are_refused(cube, kwargs, message):
    with pytest.raises(xh.errors.GridError, match=message):
        xh.regrid(cube, **kwargs)


def test_digital_numbers_are_not_averaged():
    encoded = example_cube(is_decoded=False)
    with pytest.raises(xh.errors.RadiometryError, match=r"decode\(\)"):
        xh.regrid(encoded, resolution=30)
    with pytest.raises(xh.errors.RadiometryError, match=r"decode\(\)"):
        xh.regrid(encoded.astype("float32"), resolution=30)


def test_nearest_takes_digital_numbers_with_their_nodata():
    encoded = example_cube(is_decoded=False)
    table = encoded["nodata"].copy(data=np.arange(18.0).reshape(3, 6))
    encoded = encoded.assign_coords(nodata=table)
    like = example_cube(shape=(26, 30), origin=(501360.0, 5629690.0))
    for chunks in (None, {"time": 1, "band": 2, "y": 9}):
        cube = encoded if chunks is None else encoded.chunk(chunks)
        actual = xh.regrid(cube, like=like, method="nearest")
        assert actual.dtype == encoded.dtype
        np.testing.assert_array_equal(actual.values[..., 1:25, :], encoded.values)
        np.testing.assert_array_equal(actual.values[:, :, 0, 3], table)


def test_regrid_to_refuses_rotated_grids(cube):
    box = geobox_of(cube).rotate(10)
    with pytest.raises(xh.errors.GridError, match="rotated"):
        regrid_to(cube, box)


# --- real data


def test_geographic_scene_agrees_with_gdal(data):
    """Area means in UTM from degrees with unequal sides; GDAL's own average as a second opinion."""
    from rasterio.enums import Resampling

    path = sorted((data / "boadella" / "sentinel_2").glob("*.tif"))[3]
    scene = rioxarray.open_rasterio(path).astype("float32") * 1e-4
    actual = xh.regrid(scene, crs="EPSG:32631", resolution=10, min_valid=0.5)
    expected = scene.rio.reproject(
        "EPSG:32631",
        transform=actual.rio.transform(),
        shape=actual.shape[-2:],
        resampling=Resampling.average,
        nodata=np.nan,
    )
    difference = (actual - expected.values).values
    assert float(np.sqrt(np.nanmean(difference**2))) < 5e-4
    assert abs(float(actual.mean()) - float(scene.mean())) < 2e-4
    lazy = xh.regrid(scene.chunk(band=5, y=97, x=130), crs="EPSG:32631", resolution=10)
    np.testing.assert_array_equal(lazy.values, actual.values)


# --- around


def test_building_a_graph_loads_no_rasterio():
    code = """
import sys
import numpy as np, xarray as xr, dask.array as da
import xharmonize as xh
from odc.geo.crs import CRS
wkt = CRS("EPSG:32631").to_wkt()
cube = xr.DataArray(
    da.zeros((4, 60, 60), chunks=20, dtype="float32"),
    dims=("time", "y", "x"),
    coords={"y": 5.6e6 - 10 * np.arange(60.0), "x": 5e5 + 10 * np.arange(60.0)},
).assign_coords(spatial_ref=xr.Variable((), 0, {"crs_wkt": wkt}))
for target in (None, "EPSG:32632"):
    xh.regrid(cube, resolution=30, crs=target)
assert not {"rasterio", "rioxarray", "distributed", "torch"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.slow
def test_blocks_travel_to_other_processes():
    cube = example_cube(dates=("2018-07-01T10:50",), bands=("red",))
    expected = xh.regrid(cube, crs=32632, resolution=30)
    lazy = xh.regrid(cube.chunk(y=12), crs=32632, resolution=30)
    actual = lazy.compute(scheduler="processes", num_workers=1)
    np.testing.assert_array_equal(actual, expected)


def test_a_grid_is_described_without_rounding_errors():
    box = snap((3.0, 50.0, 3.01, 50.01), 0.0001, "EPSG:4326")
    assert describe_grid(box).endswith("pixels of 0.0001°, edges at 0, 0")
    landsat = snap((0, 0, 90, 90), 30, 32631, phase=(15, 15))
    assert describe_grid(landsat).endswith("edges at 15, 15")
