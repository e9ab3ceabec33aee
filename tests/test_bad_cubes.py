"""Cubes of other software, one test each: right, or an error whose cure works. In the reference."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from affine import Affine
from helpers.foreign import TIMES, cured, plain

import xharmonize as xh
from xharmonize.testing import example_cube

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "bad-input.md"
S2 = {"sensor": "sentinel-2-l2a", "platform": "sentinel-2a", "crs": "EPSG:32631"}
OLD = {**S2, "processing_baseline": "02.12"}
NEW = {**S2, "processing_baseline": "05.10"}


def reflectance(cube: xr.DataArray, **says: Any) -> np.ndarray:
    """Reflectance of the first date of red: missing row, and another."""
    found = xh.describe(cube, **says)
    done = found if found["is_decoded"].all() else found.harmonize.decode()
    return done.values[0, 0, :2, 0]


# --- what the numbers mean --------------------------------------------------------------------


@pytest.mark.parametrize("place", ["attrs", "encoding"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_FillValue", np.int16(-9999)),
        ("missing_value", [-9999, -9999]),
        ("nodata", "-9999"),
        ("nodatavals", (-9999.0, -9999.0)),
        ("no_data", {"B04": -9999, "B8A": -9999}),
    ],
)
def test_a_stated_missing_value(place, name, value):
    cube = plain()
    getattr(cube, place)[name] = value
    np.testing.assert_allclose(reflectance(cube, **NEW), [np.nan, 0.2], atol=1e-7)
    whole = plain(0.2, "float32")
    getattr(whole, place)[name] = value
    np.testing.assert_allclose(reflectance(whole, **NEW, is_decoded=True), [np.nan, 0.2])
    lazy = xh.describe(whole.chunk(y=2), **NEW, is_decoded=True)
    assert lazy.chunks is not None
    assert lazy.dtype == np.float32


def test_a_missing_value_of_each_band():
    cube = plain()
    cube[:, 1, 0] = -7
    cube.attrs["_FillValue"] = np.array([-9999, -7])
    assert xh.describe(cube, **NEW).harmonize.decode()[:, :, 0].isnull().all()
    bands = plain().assign_coords(band=[2, 1]).assign_attrs(nodatavals=(-7, -9999, 0))
    read = xh.describe(bands.isel(band=[0]), **NEW, bands=["red"])  # number 2 of the file
    assert (read["nodata"] == -9999).all()


def test_a_missing_value_that_was_decoded_with_the_rest():
    """Arithmetic keeps attributes: -9999 became -1.0999, and 0 is a valid 1000."""
    numbers = plain(1000, _FillValue=-9999, scale_factor=1e-4, add_offset=-0.1)
    by_hand = numbers * 1e-4 - 0.1
    with pytest.raises(xh.errors.RadiometryError, match=r"it states scale 0\.0001, offset -0\.1"):
        xh.describe(by_hand, **S2)
    found = reflectance(by_hand, **S2, is_decoded=True)
    np.testing.assert_allclose(found, [np.nan, 0.0], atol=1e-9)


def test_a_stated_line_is_enough():
    cube = plain(scale_factor=1e-4, add_offset=np.float32(-0.1), _FillValue=-9999)
    np.testing.assert_allclose(reflectance(cube, **S2), [np.nan, 0.2], atol=1e-6)
    own = plain(scale_factor="2e-4", add_offset="-0.05", nodata=-9999)  # of nobody's product
    np.testing.assert_allclose(reflectance(own, **S2), [np.nan, 0.55], atol=1e-7)


def test_one_and_zero_state_nothing():
    cube = plain(scale_factor=1.0, add_offset=0.0, _FillValue=-9999)
    np.testing.assert_allclose(reflectance(cube, **NEW), [np.nan, 0.2], atol=1e-7)
    with pytest.raises(xh.errors.RadiometryError, match="names no processing baseline"):
        xh.describe(cube.assign_attrs(scale_factor=1e-4), **S2)


@pytest.mark.parametrize(
    ("attrs", "says", "words"),
    [
        ({"scale_factor": 1e-4, "add_offset": -0.1}, OLD, "baseline 02.12 means offset 0"),
        ({"add_offset": -0.1}, {**S2, "offset": 0.0}, "offset= says 0"),
        ({"scale_factor": 1e-4}, {**NEW, "scale": 1e-3}, "scale= says 0.001"),
        ({"nodata": -9999}, {**NEW, "nodata": 0}, "nodata= says 0"),
        (
            {"scale_factor": 2.75e-5, "add_offset": -0.2},
            {"sensor": "landsat-c1-sr", "platform": "landsat-8", "crs": 32631},
            "that of 'landsat-c2-l2'",
        ),
        ({"scale_factor": 5e-4}, NEW, "scale 0.0005 without an offset"),
    ],
)
def test_a_statement_that_an_argument_contradicts(attrs, says, words):
    cube = plain(**attrs)
    cube = cube.assign_coords(band=["red", "nir08"])
    with pytest.raises(
        xh.errors.RadiometryError, match=rf"{words}.*settle it with scale= and offset="
    ):
        xh.describe(cube, **says)
    says = {**says, "scale": 1e-4, "offset": -0.1, "nodata": -9999}
    np.testing.assert_allclose(reflectance(cube, **says), [np.nan, 0.2], atol=1e-7)


def test_statements_that_disagree():
    cube = plain(_FillValue=-9999, missing_value=3000)
    with pytest.raises(
        xh.errors.RadiometryError, match="_FillValue=-9999 and missing_value=3000"
    ) as error:
        xh.describe(cube, **NEW)
    one = cured(error, cube)
    assert one.dtype == cube.dtype
    del one.attrs["missing_value"]
    assert np.isnan(reflectance(one, **NEW)).all()


def test_a_missing_value_the_type_cannot_hold():
    cube = plain(3000, "uint16", _FillValue=-9999)
    with pytest.raises(
        xh.errors.RadiometryError, match=r"-9999, which uint16 cannot hold.*nodata="
    ):
        xh.describe(cube, **NEW)
    assert np.isnan(reflectance(cube, **NEW, nodata=3000)).all()


def test_what_xarray_decoded_when_it_read(tmp_path):
    """Half a line in a file of a product with an offset may be half of what it takes."""
    written = plain(0.2, "float64").where(plain() > 0).rename("red")
    line = {"dtype": "int16", "_FillValue": -9999, "scale_factor": 1e-4}
    for name, encoding in (("half", line), ("whole", {**line, "add_offset": -0.1})):
        written.to_netcdf(tmp_path / f"{name}.nc", engine="h5netcdf", encoding={"red": encoding})
    half, whole = (
        xr.open_dataarray(tmp_path / f"{name}.nc", engine="h5netcdf").load()
        for name in ("half", "whole")
    )
    np.testing.assert_allclose(reflectance(whole, **S2), [np.nan, 0.2], atol=1e-4)
    with pytest.raises(xh.errors.RadiometryError, match=r"part of a line .it states scale 0\.0001"):
        xh.describe(half, **NEW)
    np.testing.assert_allclose(reflectance(half, **NEW, is_decoded=True), [np.nan, 0.2], atol=1e-4)
    hls = {"sensor": "hls-s30", "platform": "sentinel-2a", "crs": 32631}
    np.testing.assert_allclose(reflectance(half, **hls), [np.nan, 0.2], atol=1e-4)
    with pytest.raises(
        xh.errors.RadiometryError, match="the arguments say that the cube holds digital"
    ):
        xh.describe(whole, **S2, scale=1e-4, offset=-0.1)  # would be applied twice
    raw = xr.open_dataarray(tmp_path / "whole.nc", engine="h5netcdf", mask_and_scale=False)
    np.testing.assert_allclose(reflectance(raw, **S2), [np.nan, 0.2], atol=1e-4)


def test_integers_beside_floats():
    red, nir = plain().isel(band=0, drop=True), plain(0.3, "float32").isel(band=1, drop=True)
    with pytest.raises(xh.errors.RadiometryError, match="red int16, nir08 float32"):
        xh.describe(xr.Dataset({"red": red, "nir08": nir}), **NEW)
    scl = (red * 0 + 4).astype("float64")  # of quality layers the type does not matter
    found = xh.describe(xr.Dataset({"red": red, "nir08": red, "SCL": scl}), **NEW)
    assert found["reflectance"].dtype == np.int16


def test_averaged_digital_numbers():
    encoded = example_cube(is_decoded=False, missing=0.2)
    for averaged in (encoded.coarsen(y=2, x=2).mean(), encoded.rolling(x=3).mean()):
        with pytest.raises(
            xh.errors.RadiometryError, match=r"where 0 marks missing.*decode\(\) first"
        ):
            averaged.harmonize.decode()
        with pytest.raises(xh.errors.RadiometryError, match=r"decode\(\) first"):
            averaged.harmonize.to_landsat()
    right = encoded.harmonize.decode().coarsen(y=2, x=2).mean()
    assert float(right.min()) > -0.05
    told = encoded.where(encoded.y > 0).harmonize  # floats, not averaged
    with pytest.raises(xh.errors.RadiometryError, match="if they were not averaged"):
        told.decode()
    cube = xh.describe(encoded.astype("float64"), sensor="sentinel-2-l2a", is_decoded=False)
    assert cube["nodata"].isnull().all()
    assert int(cube.isnull().sum()) == int((encoded == 0).sum())
    done = cube.coarsen(y=2, x=2).mean().harmonize.decode()  # NaN is left out of averages
    np.testing.assert_allclose(done, right, atol=1e-6)


@pytest.mark.parametrize("kind", ["int8", "float32", "U"])
def test_is_decoded_in_other_types(kind):
    cube = example_cube()
    said = cube.assign_coords(is_decoded=cube["is_decoded"].astype(kind))
    xr.testing.assert_allclose(said.harmonize.to_landsat(), cube.harmonize.to_landsat())
    odd = cube.assign_coords(is_decoded=cube["is_decoded"].astype("float32") * np.nan)
    with pytest.raises(
        xh.errors.ContractError, match="'is_decoded' holds 'nan', neither true nor false"
    ):
        odd.harmonize.to_landsat()


def test_contract_along_band_and_time():
    cube = example_cube(is_decoded=False).isel(band=[0, 1, 2])  # as many bands as dates
    line = cube["offset"].copy(data=np.arange(9).reshape(3, 3) / 10)
    cube = cube.assign_coords(offset=line)
    turned = cube.assign_coords(
        {name: cube[name].T for name in ("scale", "offset", "nodata", "is_decoded")}
    )
    xr.testing.assert_equal(turned.harmonize.decode(), cube.harmonize.decode())


# --- types, names and dimensions --------------------------------------------------------------


@pytest.mark.parametrize("dtype", [">i2", ">f4", ">f8", "float16", "longdouble"])
def test_other_types_of_numbers(dtype):
    cube = plain(3000, dtype)
    found = reflectance(cube, **S2, scale=1e-4, offset=-0.1, nodata=-9999)
    np.testing.assert_allclose(found, [np.nan, 0.2], rtol=2e-3)
    cube = example_cube()
    other = cube.astype(dtype.replace("i2", "f4"))
    ndvi = other.harmonize.index("ndvi")
    np.testing.assert_allclose(ndvi, cube.harmonize.index("ndvi"), atol=0.01)
    for done in (
        other.harmonize.to_landsat(),
        other.harmonize.regrid(resolution=30),
        ndvi.astype(dtype.replace("i2", "f4")).harmonize.smooth(),
    ):
        assert np.isfinite(done.values).any()


def test_no_numbers_and_signed_for_unsigned():
    for cube in (plain() > 0, plain().astype(object)):
        with pytest.raises(xh.errors.RadiometryError, match="not numbers; convert it") as error:
            xh.describe(cube, **NEW)
        cured(error, cube)
    cube = plain(-25536, _Unsigned="true")  # 40000
    with pytest.raises(
        xh.errors.RadiometryError, match=r"says _Unsigned.*astype\('uint16'\)"
    ) as error:
        xh.describe(cube, **NEW)
    assert reflectance(cured(error, cube), **NEW)[1] == pytest.approx(3.9)


@pytest.mark.parametrize("kind", ["S", object, np.dtypes.StringDType()])
def test_labels_of_other_types(kind):
    cube = plain().assign_coords(band=np.array(["B04", "B8A"]).astype(kind))
    assert xh.describe(cube, **NEW)["band"].values.tolist() == ["red", "nir08"]
    if kind == "S":
        done = example_cube()
        cube = done.assign_coords(band=done["band"].values.astype("S"))
        with pytest.raises(xh.errors.BandError, match="band names are bytes") as error:
            cube.harmonize.to_landsat()
        xr.testing.assert_equal(
            cured(error, cube).harmonize.to_landsat(), done.harmonize.to_landsat()
        )


@pytest.mark.parametrize(
    ("sensor", "platform", "labels"),
    [
        ("sentinel-2-l2a", "sentinel-2a", ["B4", "B8A"]),
        ("sentinel-2-l2a", "sentinel-2a", ["B04_10m", "B8A_20m"]),
        ("sentinel-2-l2a", "sentinel-2a", ["Red", "NIR08"]),
        ("sentinel-2-l2a", "sentinel-2a", ["Band 4", "b8a.tif"]),
        ("landsat-c2-l2", "landsat-8", ["sr_b4", "SR_B5.TIF"]),
        ("landsat-c1-sr", "landsat-8", ["band 4", "sr_band5"]),
    ],
)
def test_odd_names_of_bands(sensor, platform, labels):
    cube = plain().to_dataset("band").rename(dict(zip(["B04", "B8A"], labels)))
    found = xh.describe(cube, sensor=sensor, platform=platform, crs=32631, offset=0)
    assert found["band"].values.tolist() == ["red", "nir08"]


def test_descriptions_of_a_file():
    """Earth Engine exports one GeoTIFF: bands are numbers, their names descriptions."""
    cube = plain().assign_coords(band=[1, 2]).assign_attrs(long_name=("B4", "B8A"))
    assert xh.describe(cube, **NEW)["band"].values.tolist() == ["red", "nir08"]
    assert xh.describe(cube.isel(band=[1]), **NEW)["band"].values.tolist() == ["nir08"]
    with pytest.raises(xh.errors.BandError, match=r"no band '1'.*name yours with bands="):
        xh.describe(cube.drop_attrs(), **NEW)
    assert xh.describe(cube.drop_attrs(), **NEW, bands=["red", "nir08"]).sizes["band"] == 2


def test_duplicated_bands():
    for cube in (plain().isel(band=[0, 0, 1]), plain().assign_coords(band=["B8A", "nir08"])):
        with pytest.raises(xh.errors.BandError, match="more than once") as error:
            xh.describe(cube, **NEW)
        xh.describe(cured(error, cube), **NEW)
    done = example_cube().isel(band=[0, 0, 1])
    with pytest.raises(xh.errors.BandError, match="more than once") as error:
        done.harmonize.to_landsat()
    cured(error, done).harmonize.to_landsat()


def test_an_extra_dimension():
    done = example_cube().expand_dims({"a b": 2})
    for cube, says in (
        (plain().expand_dims(orbit=[22, 65]), NEW),
        (done, {"sensor": S2["sensor"]}),
    ):
        with pytest.raises(
            xh.errors.ContractError, match=r"a dimension .* of 2 besides time, band"
        ) as error:
            xh.describe(cube, **says)
        xh.describe(cured(error, cube), **says)
    with pytest.raises(xh.errors.ContractError, match="'a b' of 2 besides") as error:
        done.harmonize.to_landsat()
    cured(error, done).harmonize.to_landsat()


def test_t_for_time(no_compute):
    """As openEO writes it: t, bands as variables, the CRS in a variable crs."""
    from pyproj import CRS

    crs = xr.DataArray(np.array(b"", "S1"), attrs={"crs_wkt": CRS(32631).to_wkt()})
    cube = plain().to_dataset("band").rename(time="t").assign(crs=crs)
    with no_compute():
        found = xh.describe(cube.chunk(t=1), **{**NEW, "crs": None})
    assert found.dims == ("time", "band", "y", "x")
    assert found["band"].values.tolist() == ["red", "nir08"]
    one = xh.describe(cube.isel(t=0), **{**NEW, "crs": None})
    assert one["time"].values.tolist() == TIMES[:1].values.tolist()
    both = cube.expand_dims(time=TIMES[:1])
    with pytest.raises(xh.errors.ContractError, match="a dimension 't' of 2 besides") as error:
        xh.describe(both, **NEW)
    xh.describe(cured(error, both), **NEW)
    done = example_cube().rename(time="t")
    for call in (done.harmonize.to_landsat, done.harmonize.composite):
        with pytest.raises(ValueError, match=r"cube\.rename\(\{'t': 'time'\}\)"):
            call()
    done.rename({"t": "time"}).harmonize.to_landsat()


@pytest.mark.parametrize(
    "names", [("lat", "lon"), ("Latitude", "Longitude"), ("Y", "X"), ("northing", "easting")]
)
def test_other_names_of_dimensions(names):
    cube = plain().rename(y=names[0], x=names[1], band="bands", time="date")
    assert xh.describe(cube, **NEW).dims == ("time", "band", "y", "x")
    odd = plain().rename(y="row", x="column")
    with pytest.raises(xh.errors.GridError, match="no dimensions 'y' and 'x'") as error:
        xh.describe(odd, **NEW)
    xh.describe(cured(error, odd), **NEW)


def test_one_date_and_one_band_selected():
    cube = plain()
    for one in (cube.isel(time=0), cube.isel(band=0), cube.isel(time=1, band=1)):
        assert set(xh.describe(one, **NEW).dims) == {"time", "band", "y", "x"}
    nameless = cube.isel(band=0, drop=True)
    with pytest.raises(xh.errors.BandError, match="no dimension 'band'") as error:
        xh.describe(nameless, **NEW)
    assert xh.describe(cured(error, nameless), **NEW)["band"].item() == "red"
    done = example_cube()
    with pytest.raises(
        xh.errors.ContractError, match=r"no dimension 'time'.*isel\(time=\[0\]\)"
    ) as error:
        done.isel(time=0).harmonize.to_landsat()
    cured(error, done).harmonize.to_landsat()
    again = xh.describe(done.isel(time=0), sensor="sentinel-2-l2a")
    xr.testing.assert_allclose(again.harmonize.to_landsat(), done[[0]].harmonize.to_landsat())


def test_a_mean_over_time():
    done = example_cube()
    with pytest.raises(
        xh.errors.ContractError, match=r"a mean over time is cube\.harmonize\.composite"
    ):
        done.mean("time").harmonize.to_landsat()
    assert done.harmonize.composite("year", method="mean").harmonize.to_landsat().sizes["time"] == 1
    with pytest.raises(xh.errors.TimeAxisError, match="the cube has no time") as error:
        xh.describe(plain().mean("time"), **NEW)
    told = cured(error, plain().mean("time"))
    xh.describe(told, **NEW, is_decoded=False)


def test_times_of_other_kinds():
    cube = plain()
    text = [str(time) for time in TIMES]
    for times in (text, np.array(text, "S"), np.array(text, np.dtypes.StringDType())):
        odd = cube.assign_coords(time=times)
        with pytest.raises(xh.errors.TimeAxisError, match="describe needs dates") as error:
            xh.describe(odd, **NEW)
        assert (xh.describe(cured(error, odd), **NEW)["time"].values == TIMES.values).all()
    aware = cube.assign_coords(time=TIMES.tz_localize("Europe/Paris"))
    assert xh.describe(aware, **NEW)["time"].values[0] == TIMES[0] - pd.Timedelta("2h")
    with pytest.raises(xh.errors.TimeAxisError, match=r"2 dates without a coordinate 'time'"):
        xh.describe(cube.drop_vars("time"), **NEW)


# --- grids ------------------------------------------------------------------------------------


def test_coordinates_in_float32():
    def degrees(first: float, step: float) -> xr.DataArray:
        cube = plain().rename(y="latitude", x="longitude")
        return cube.assign_coords(
            latitude=(46.5 - step * np.arange(4)).astype("float32"),
            longitude=(first + step * np.arange(5)).astype("float32"),
        )

    says = {**NEW, "crs": 4326}
    found = xh.describe(degrees(14.25, 9e-5), **says)
    np.testing.assert_allclose(found["x"], 14.25 + 9e-5 * np.arange(5), atol=1e-6)
    np.testing.assert_allclose(np.diff(found["x"]), np.diff(found["x"])[0], rtol=1e-9)
    coarse = degrees(176.25, 9e-5)  # half a digit is 8 % of a pixel
    with pytest.raises(xh.errors.GridError, match="too coarse for pixels of") as error:
        xh.describe(coarse, **says)
    right = cured(error, coarse.rename(longitude="x"), first=176.25, step=9e-5)
    np.testing.assert_allclose(xh.describe(right, **says)["x"], 176.25 + 9e-5 * np.arange(5))


def test_gaps_in_coordinates():
    cube = xh.describe(plain(0.3, "float32"), **NEW, is_decoded=True).isel(x=[0, 1, 3, 4])
    with pytest.raises(xh.errors.GridError, match="'x' is not evenly spaced") as error:
        cube.harmonize.regrid(resolution=20)
    whole = cured(error, cube, first=500_005.0, step=10.0, n=5)
    assert whole.harmonize.regrid(resolution=20).sizes["x"] == 3


def test_rows_from_south_to_north():
    south = plain().isel(y=slice(None, None, -1))
    up, down = (xh.describe(c, **NEW).harmonize.decode() for c in (plain(), south))
    xr.testing.assert_allclose(
        down.sortby("y", ascending=False).drop_vars("spatial_ref"), up.drop_vars("spatial_ref")
    )
    xr.testing.assert_allclose(
        down.harmonize.regrid(resolution=20), up.harmonize.regrid(resolution=20)
    )
    west = plain().isel(x=slice(None, None, -1))
    with pytest.raises(xh.errors.GridError, match="x descends") as error:
        xh.describe(west, **NEW)
    xh.describe(west.sortby("x"), **NEW)
    assert "cube.sortby('x')" in str(error.value)


def test_a_stale_geotransform():
    rioxarray = pytest.importorskip("rioxarray")
    assert rioxarray
    cube = xh.describe(plain(0.3, "float32"), **NEW, is_decoded=True)
    row = cube.isel(y=[1])
    assert row.harmonize.regrid(resolution=10).sizes["y"] == 1  # cutting leaves the step right
    for stale in (
        cube.coarsen(y=4).mean(),
        cube.isel(y=slice(0, 4, 3), x=slice(None, None, 2)).isel(y=[1]),
        cube.assign_coords(y=cube["y"] + 4).isel(y=[0]),
    ):
        with pytest.raises(xh.errors.GridError, match="GeoTransform of spatial_ref does not fit"):
            stale.harmonize.regrid(resolution=10)
    stale = cube.coarsen(y=4).mean()
    told = stale.rio.write_transform(Affine(10, 0, 500_000, 0, -40, 5_600_000))
    assert told.harmonize.regrid(resolution=20).sizes["y"] == 2


def test_a_stale_transform_of_stackstac():
    cube = plain().assign_attrs(spec="…", transform=(10, 0, 500_000, 0, -10, 5_600_000))
    corners = cube.assign_coords(x=cube["x"] - 5, y=cube["y"] + 5)
    np.testing.assert_array_equal(xh.describe(corners, **NEW)["x"], cube["x"])
    with pytest.raises(
        xh.errors.GridError, match=r"says pixels of 10 along 'x'.* 20 apart"
    ) as error:
        xh.describe(corners.isel(x=slice(None, None, 2)), **NEW)
    assert "drop_attrs(deep=False)" in str(error.value)
    told = corners.isel(x=slice(None, None, 2)).assign_coords(x=500_005.0 + 20 * np.arange(3))
    xh.describe(told.drop_attrs(deep=False), **NEW)


def test_crs_in_other_places():
    from pyproj import CRS

    wkt, cf = CRS(32631).to_wkt(), CRS(32631).to_cf()
    bare = {key: value for key, value in cf.items() if key != "crs_wkt"}
    cubes = [
        plain().assign_coords(transverse_mercator=xr.Variable((), 0, {"spatial_ref": wkt})),
        plain().assign_coords({"proj:epsg": 32631}),
        plain().assign_coords({"proj:code": "EPSG:32631"}),
        plain().assign_coords({"proj:epsg": np.float64(32631)}),
        plain(crs="EPSG:32631"),
        plain().to_dataset("band").assign(utm=xr.Variable((), 0, bare)),
    ]
    for cube in cubes:
        found = xh.describe(cube, **{**NEW, "crs": None})
        assert CRS(found["spatial_ref"].attrs["crs_wkt"]) == CRS(32631)
    with pytest.raises(xh.errors.GridError, match="crs='EPSG"):
        xh.describe(plain(), **{**NEW, "crs": None})


def test_the_reference_lists_these():
    section = PAGE.read_text(encoding="utf-8").partition("## Cubes of other software")[2]
    listed = re.findall(r"`(test_\w+)`", section.partition("\n## ")[0])
    own = [name for name in globals() if name.startswith("test_") and "reference" not in name]
    assert listed == own
