"""Nadir BRDF-adjusted reflectance of cubes."""

import warnings

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.harmonizers import angles_from_items
from xharmonize.sensors import Flag
from xharmonize.testing import assert_chunk_invariant, assert_lazy, example_cube

C = {"blue": 0.958718, "green": 0.952705, "red": 0.958390}
C |= {"nir08": 0.956931, "swir16": 0.959063, "swir22": 0.960795}


def _angles(cube, *, sun=45.0, view=7.0, azimuth=0.0, per_pixel=True):
    shape = (cube.sizes["time"], cube.sizes["y"], cube.sizes["x"])
    dims = ("time", "y", "x")
    if not per_pixel:
        shape, dims = shape[:1], dims[:1]
    values = {"sun_zenith": sun, "sun_azimuth": 150.0}
    values |= {"view_zenith": view, "view_azimuth": 150.0 + azimuth}
    coords = {name: cube[name].values for name in dims}
    return xr.Dataset({n: (dims, np.full(shape, v)) for n, v in values.items()}, coords=coords)


def test_c_factors_of_the_observed_sun(cube):
    result = cube.harmonize.nbar(_angles(cube), sun_zenith="observed")
    for band, factor in C.items():
        actual = (result.sel(band=band) / cube.sel(band=band)).values
        np.testing.assert_allclose(actual[np.isfinite(actual)], factor, atol=1e-6)
    assert set(result["level"].values) == {"NBAR"}
    assert (result.dims, result.dtype, result.chunks) == (cube.dims, cube.dtype, cube.chunks)
    assert result.attrs["units"] == "1"
    assert "nbar" in result.attrs["history"]
    assert result.rio.crs == cube.rio.crs


@pytest.mark.parametrize("sun_zenith", ["hls-v2", "observed"])
def test_chunks_do_not_matter(sun_zenith):
    cube = example_cube()
    angles = _angles(cube)
    angles["view_zenith"] += xr.DataArray(np.linspace(0, 3, cube.sizes["x"]), dims="x")
    chunkings = [{"time": 1, "band": 2, "y": 7, "x": 30}, {"time": -1, "y": 5, "x": 11}]
    for given in (angles, angles.chunk({"y": 9})):
        assert_chunk_invariant(
            lambda c, a=given: xh.nbar(c, a if c.chunks else a.compute(), sun_zenith=sun_zenith),
            cube,
            chunkings=chunkings,
        )


def test_any_area_gives_the_same_pixels():
    cube = example_cube()
    part = {"y": slice(4, 9), "x": slice(20, 28)}
    whole = xh.nbar(cube, _angles(cube)).isel(part)
    xr.testing.assert_equal(xh.nbar(cube.isel(part), _angles(cube).isel(part)), whole)


def test_nothing_is_computed(no_compute):
    cube = example_cube(chunks={"time": 1, "y": 10})
    with no_compute():
        result = xh.nbar(cube, _angles(cube).chunk({"time": 1}))
    assert_lazy(result)
    assert any(str(name).startswith("harmonize-nbar") for name in result.data.dask.layers)


def test_modelled_sun_is_that_of_late_morning():
    cube = example_cube(dates=("2018-06-21T10:50", "2018-12-21T10:50"), missing=0.0)
    nadir = _angles(cube, sun=30.0, view=0.0)
    summer, winter = (xh.nbar(cube, nadir) / cube).isel(band=3).mean(("y", "x")).values
    assert abs(summer - 1) < 0.01  # the sun stands near 30 degrees in both
    assert winter < 0.97  # near 75: darker


def test_angles_per_item_warn():
    cube = example_cube()
    with pytest.warns(xh.errors.RadiometryWarning, match="per item"):
        result = xh.nbar(cube, _angles(cube, per_pixel=False))
    xr.testing.assert_allclose(result, xh.nbar(cube, _angles(cube)), atol=1e-7)


def test_angles_come_from_the_cube_or_by_item_id():
    cube = example_cube()
    angles = _angles(cube, per_pixel=False, view=5.0)
    own = cube.assign_coords({name: ("time", angles[name].values) for name in angles})
    by_id = angles.isel(time=[2, 0, 1]).assign_coords(
        time=cube.time.values[[2, 0, 1]], item_id=("time", cube.item_id.values[[2, 0, 1]])
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xh.errors.RadiometryWarning)
        expected, found, carried = xh.nbar(cube, angles), xh.nbar(cube, by_id), xh.nbar(own.chunk())
    xr.testing.assert_equal(found, expected)
    np.testing.assert_array_equal(carried.values, expected.values)


def test_angles_from_stac_items():
    properties = {
        "datetime": "2018-07-01T10:50:00Z",
        "view:sun_elevation": 54.0,
        "view:sun_azimuth": 155.0,
        "view:off_nadir": 8.0,
        "view:azimuth": 105.0,
    }
    angles = angles_from_items(
        [
            {"id": "b", "properties": {**properties, "datetime": "2018-07-06T10:50:00.5Z"}},
            {"id": "a", "properties": properties},
            {"id": "c", "properties": {"datetime": "2018-08-01T00:00:00+00:00"}},
        ]
    )
    assert list(angles.item_id.values) == ["a", "b", "c"]
    np.testing.assert_allclose(angles.sun_zenith, [36.0, 36.0, np.nan])
    np.testing.assert_allclose(angles.view_azimuth, [105.0, 105.0, np.nan])


def test_unknown_angles_of_an_item_are_refused_but_for_the_azimuth_at_nadir():
    cube = example_cube()
    angles = _angles(cube, per_pixel=False)
    angles["sun_zenith"][1] = np.nan
    with pytest.raises(
        xh.errors.RadiometryError, match=r"sun_zenith of item 'sentinel-2a-1' .*1 of 3"
    ):
        xh.nbar(cube, angles)
    nadir = _angles(cube, per_pixel=False, view=0.0)
    expected, unsaid = nadir, nadir.assign(view_azimuth=nadir["view_azimuth"] * np.nan)
    with pytest.warns(xh.errors.RadiometryWarning, match="per item"):
        found, known = xh.nbar(cube, unsaid), xh.nbar(cube, expected)
    xr.testing.assert_equal(found, known)


def test_snow_water_and_steep_ground_are_flagged():
    cube = example_cube()
    qa = xr.zeros_like(cube.isel(band=0, drop=True)).astype("uint16")
    qa[0, 0, 0], qa[1, 2, 3] = int(Flag.SNOW), int(Flag.WATER | Flag.AEROSOL_LOW)
    dataset = cube.to_dataset(name="reflectance").assign(qa=qa)
    steep = xr.DataArray(np.zeros((24, 30)), dims=("y", "x"), coords={"y": cube.y, "x": cube.x})
    steep[5, 6] = 12.0
    result = xh.nbar(dataset, _angles(cube).assign(slope=steep))
    assert int(result["flag"].sum()) == 1 + 1 + 3
    assert result["flag"].dtype == np.uint8
    assert "out_of_domain" in result["flag"].attrs["flag_meanings"]
    assert set(result["level"].values) == {"NBAR"}


def test_uncertainty_is_scaled_too():
    cube = example_cube()
    dataset = cube.to_dataset(name="reflectance").assign(uncertainty=xr.full_like(cube, 0.01))
    result = xh.nbar(dataset, _angles(cube), sun_zenith="observed")
    np.testing.assert_allclose(result["uncertainty"].sel(band="blue"), 0.01 * C["blue"], rtol=1e-5)


def test_encoded_cubes_are_decoded():
    encoded = example_cube(is_decoded=False)
    xr.testing.assert_allclose(
        xh.nbar(encoded, _angles(encoded)), xh.nbar(xh.decode(encoded), _angles(encoded))
    )


def test_twice_toa_and_unknown_levels_are_refused():
    cube = example_cube()
    once = xh.nbar(cube, _angles(cube))
    with pytest.raises(xh.errors.RadiometryError, match="twice"):
        xh.nbar(once, _angles(cube))
    with pytest.raises(xh.errors.RadiometryError, match=r"NBAR\|SR.*twice"):
        xh.nbar(cube.assign_coords(level=("time", ["SR", "NBAR|SR", "SR"])), _angles(cube))
    for level, words in (("TOA", "top-of-atmosphere"), ("unknown", r"describe\(cube, level")):
        with pytest.raises(xh.errors.RadiometryError, match=words):
            xh.nbar(cube.assign_coords(level=("time", [level] * 3)), _angles(cube))


def test_missing_angles_bands_dates_and_grids():
    cube = example_cube()
    angles = _angles(cube)
    with pytest.raises(xh.errors.RadiometryError, match="are missing; pass angles="):
        xh.nbar(cube)
    with pytest.raises(xh.errors.BandError, match="no BRDF weights for band coastal"):
        xh.nbar(example_cube(bands=("coastal", "red")), angles)
    with pytest.raises(xh.errors.TimeAxisError, match="no entry for 1 time steps"):
        xh.nbar(cube, angles.isel(time=[0, 1]))
    with pytest.raises(xh.errors.GridError, match="another grid"):
        xh.nbar(cube, angles.assign_coords(x=angles.x + 5))
    with pytest.raises(xh.errors.RadiometryError, match="is unknown"):
        xh.nbar(cube, angles, sun_zenith="noon")


def test_hls_order_records_the_level():
    cube = example_cube()
    result = xh.to_landsat(xh.nbar(cube, _angles(cube)))
    assert "on NBAR reflectance" in result.attrs["history"]
    assert set(result["level"].values) == {"NBAR"}


def test_angles_per_band_are_those_of_the_bands():
    """Each band as if it were alone with its angles."""
    cube = example_cube(bands=("blue", "red"))
    near, far = _angles(cube, view=3.0), _angles(cube, view=9.0, azimuth=60.0)
    views = {
        name: xr.concat([far[name], near[name]], xr.Variable("band", ["red", "blue"]))
        for name in ("view_zenith", "view_azimuth")
    }
    both = near.assign(views)
    found = xh.nbar(cube, both)
    for name, angles in (("blue", near), ("red", far)):
        xr.testing.assert_equal(found.sel(band=[name]), xh.nbar(cube.sel(band=[name]), angles))
    chunked = xh.nbar(cube.chunk({"band": 1, "y": 7}), both.chunk({"band": 1, "x": 11}))
    np.testing.assert_array_equal(chunked.values, found.values)
    dataset = cube.to_dataset(name="reflectance").assign(uncertainty=xr.full_like(cube, 0.01))
    factor = (found / cube).values
    scaled = xh.nbar(dataset, both)["uncertainty"].values / 0.01
    known = np.isfinite(factor)
    np.testing.assert_allclose(scaled[known], factor[known], rtol=1e-5)
