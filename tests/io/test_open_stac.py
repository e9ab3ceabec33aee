"""open_stac: what the files hold comes out as reflectance, in order of time, lazily."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from helpers.items import ENGINES, LEFT, TOP, landsat, sentinel2, write
from odc.geo.geobox import GeoBox

import xharmonize as xh
from xharmonize.cube.contract import read_contract


@pytest.fixture(params=ENGINES)
def engine(request) -> str:
    return request.param


def test_reflectance_and_contract(tmp_path, engine, no_compute):
    with no_compute():
        cube = xh.open_stac(sentinel2(tmp_path), engine=engine)
    assert cube.dims == ("time", "band", "y", "x")
    assert cube.dtype == "float32"
    assert list(cube.band.values) == ["red", "swir16"]
    np.testing.assert_allclose(cube.sel(band="red")[0, 0], (1000 + np.arange(24)) / 1e4, atol=1e-7)
    np.testing.assert_allclose(cube.sel(band="swir16"), 0.15, atol=1e-7)
    step = read_contract(cube)[0]
    assert (step.sensor, step.platform, step.bandpass) == ("sentinel-2-l2a", "sentinel-2a", "msi")
    assert (step.processing_baseline, step.level, step.item_id) == ("05.09", "SR", "s2")
    assert step.offset == {"red": -0.1, "swir16": -0.1}
    assert step.is_decoded
    assert cube.attrs["units"] == "1"
    assert "open_stac" in cube.attrs["history"]


def test_encoded_cube_decodes_to_the_decoded_one(tmp_path, engine):
    items = [sentinel2(tmp_path, scl=9)]
    encoded = xh.open_stac(items, engine=engine, decode=False)
    assert encoded.dtype == "uint16"
    assert not encoded.is_decoded.any()
    assert (encoded == encoded.nodata).all()
    clear = xh.open_stac(items, engine=engine, decode=False, mask=None)
    assert int(clear.sel(band="red")[0, 0, 3]) == 2003
    whole = xh.open_stac(items, engine=engine, mask=None)
    xr.testing.assert_equal(xh.decode(clear), whole)


def test_nodata_is_nan_whatever_the_mask(tmp_path, engine):
    item = sentinel2(tmp_path)
    values = np.full((24, 24), 3000, "uint16")
    values[:4] = 0
    write(tmp_path / "s2" / "red.tif", values, step=10.0, nodata=None)
    cube = xh.open_stac(item, engine=engine, mask=None).sel(band="red").compute()
    assert np.isnan(cube[0, :4]).all()
    np.testing.assert_allclose(cube[0, 4:], 0.2, atol=1e-7)


def test_sensors_platforms_and_baselines_mix_in_one_cube(tmp_path, engine):
    items = [
        landsat(tmp_path),
        sentinel2(tmp_path, "a", "2022-06-01T10:50:00Z"),
        sentinel2(tmp_path, "b", "2022-06-03T10:50:00Z", platform="sentinel-2b"),
        sentinel2(tmp_path, "c", "2022-06-04T10:50:00Z", platform="sentinel-2c"),
        landsat(
            tmp_path,
            "LC08_L2SP_198024_20220605_20230101_02_T1",
            "2022-06-05T10:40:00Z",
            platform="landsat-8",
        ),
    ]
    cube = xh.open_stac(items, resolution=30, engine=engine, bands=["red"])
    assert list(cube.platform.values) == [
        "sentinel-2a", "landsat-9", "sentinel-2b", "sentinel-2c", "landsat-8",
    ]  # fmt: skip
    assert (np.diff(cube.time.values) > np.timedelta64(0)).all()
    assert float(cube.x[0]) == LEFT  # Landsat's own grid: centres at 0 mod 30
    values = cube.isel(y=4, x=4, band=0).values
    np.testing.assert_allclose(values[[1, 4]], 10000 * 2.75e-5 - 0.2, atol=1e-6)
    np.testing.assert_allclose(values[[0, 2, 3]], 0.10115, atol=1e-6)
    encoded = xh.open_stac(
        items, resolution=30, engine=engine, bands=["red"], decode=False, resampling="nearest"
    )
    np.testing.assert_allclose(xh.decode(encoded).isel(y=4, x=4, band=0), values, atol=2e-4)


def test_different_integer_types_are_widened(tmp_path, engine):
    items = [sentinel2(tmp_path, "a"), sentinel2(tmp_path, "b", "2022-06-03T10:50:00Z")]
    write(tmp_path / "b" / "red.tif", np.full((24, 24), -500, "int16"), step=10.0, nodata=-32768)
    items[1]["assets"]["red"]["raster:bands"] = [{"data_type": "int16", "nodata": -32768}]
    encoded = xh.open_stac(items, engine=engine, decode=False, bands=["red"])
    assert encoded.dtype == "int32"
    assert (encoded[1] == -500).all()
    cube = xh.open_stac(items, engine=engine, bands=["red"])
    assert np.isfinite(cube).all()
    np.testing.assert_allclose(cube[0, 0, 0, 0], 0.1, atol=1e-7)


def test_dates_come_sorted_and_duplicates_once(tmp_path, engine):
    items = [
        sentinel2(tmp_path, "late", "2022-06-09T10:50:00Z", value=4000),
        sentinel2(tmp_path, "early", "2022-06-01T10:50:00Z"),
        sentinel2(tmp_path, "again", "2022-06-01T10:50:00Z"),
    ]
    items[2]["properties"]["s2:processing_baseline"] = "05.11"
    cube = xh.open_stac(items, engine=engine)
    assert list(cube.item_id.values) == ["again", "late"]


def test_rows_of_one_pass_become_one_step(tmp_path, engine):
    south = landsat(
        tmp_path,
        "LC09_L2SP_198025_20220602_20230101_02_T1",
        "2022-06-02T10:40:24Z",
        value=20000,
        top=TOP + 15 - 150,
        rows=9,
    )
    items = [landsat(tmp_path), south]
    cube = xh.open_stac(items, engine=engine, decode=False, qa=True)
    assert cube.sizes == {"time": 1, "band": 2, "y": 14, "x": 9}
    assert "|" in cube.item_id.item()
    red = cube.reflectance.sel(band="red")[0]
    assert (red[:9] == 10000).all()  # the overlap is the first row's
    assert (red[9:] == 20000).all()
    assert not (cube.qa & int(xh.sensors.Flag.FILL)).any()
    apart = xh.open_stac(items, engine=engine, mosaic="none")
    assert apart.sizes["time"] == 2
    assert np.isnan(apart[0, :, 9:]).all()


def test_a_pixel_comes_from_one_item_with_all_its_bands(tmp_path, engine):
    items = [landsat(tmp_path), landsat(tmp_path, "LC09_L2SP_198025_20220602_20230101_02_T1",
             "2022-06-02T10:40:24Z", value=20000)]  # fmt: skip
    values = np.full((9, 9), 10000, "uint16")
    values[:3] = 0  # the first item lacks one band there: the second gives both
    write(Path(items[0]["assets"]["red"]["href"]), values, step=30.0, left=LEFT - 15, top=TOP + 15)
    cube = xh.open_stac(items, engine=engine, decode=False)
    assert (cube[0, :, :3] >= 20000).all()
    assert (cube[0, :, 3:] <= 10100).all()


def test_chunks(tmp_path, engine):
    items = [sentinel2(tmp_path, f"s{i}", f"2022-06-0{i}T10:50:00Z") for i in (1, 2, 3)]
    whole = xh.open_stac(items, engine=engine, resolution=20)
    assert whole.chunks == ((1, 1, 1), (2,), (12,), (12,))
    for chunks, expected in [
        (8, ((1, 1, 1), (2,), (8, 4), (8, 4))),
        ((6, 12), ((1, 1, 1), (2,), (6, 6), (12,))),
        ((2, 1, 12, 5), ((2, 1), (1, 1), (12,), (5, 5, 2))),
        ({"time": -1, "x": 4}, ((3,), (2,), (12,), (4, 4, 4))),
    ]:
        cube = xh.open_stac(items, engine=engine, resolution=20, chunks=chunks, qa=True)
        assert cube.reflectance.chunks == expected
        xr.testing.assert_equal(cube.reflectance.compute(), whole.compute())
    with pytest.raises(xh.errors.CatalogError, match="chunks="):
        xh.open_stac(items, chunks={"row": 3})


def test_wrong_arguments(tmp_path):
    item = sentinel2(tmp_path)
    with pytest.raises(xh.errors.CatalogError, match="engine='gdal'"):
        xh.open_stac(item, engine="gdal")
    with pytest.raises(xh.errors.CatalogError, match="on_error='ignore'"):
        xh.open_stac(item, on_error="ignore")
    with pytest.raises(xh.errors.BandError, match="no band 'pan'"):
        xh.open_stac(item, bands=["red", "pan"])
    with pytest.raises(xh.errors.EmptyQueryError):
        xh.open_stac([item], datetime="1999")
    with pytest.raises(xh.errors.GridError, match="like="):
        xh.open_stac(item, like=GeoBox.from_bbox((0, 0, 1, 1), 4326, resolution=0.1), crs=4326)


def test_an_unreadable_asset_is_named_or_skipped_and_flagged(tmp_path, engine):
    items = [sentinel2(tmp_path, "good"), sentinel2(tmp_path, "bad", "2022-06-03T10:50:00Z")]
    Path(items[1]["assets"]["red"]["href"]).write_bytes(b"not a tiff")
    cube = xh.open_stac(items, engine=engine)
    with pytest.raises(xh.errors.AssetReadError, match="asset 'red' of item 'bad'"):
        cube.compute()
    skipped = xh.open_stac(items, engine=engine, on_error="skip", qa=True).compute()
    is_skipped = skipped.qa & int(xh.sensors.Flag.SKIPPED) != 0
    assert not is_skipped[0].any()
    assert is_skipped[1].all()
    assert np.isnan(skipped.reflectance.sel(band="red")[1]).all()
    assert np.isfinite(skipped.reflectance.sel(band="swir16")[1]).all()
    encoded = xh.open_stac(items, engine=engine, on_error="skip", decode=False)
    assert encoded.dtype == "uint16"


def test_an_unreadable_quality_layer_is_not_clear(tmp_path, engine):
    item = sentinel2(tmp_path)
    Path(item["assets"]["scl"]["href"]).write_bytes(b"not a tiff")
    cube = xh.open_stac(item, engine=engine, on_error="skip", qa=True).compute()
    assert np.isnan(cube.reflectance).all()
    assert (cube.qa & int(xh.sensors.Flag.SKIPPED)).all()


@pytest.mark.parametrize("kind", ENGINES)
def test_works_in_other_processes_and_errors_come_back(tmp_path, kind, client):
    items = [sentinel2(tmp_path, "good"), sentinel2(tmp_path, "bad", "2022-06-03T10:50:00Z")]
    Path(items[1]["assets"]["red"]["href"]).write_bytes(b"not a tiff")
    good = xh.open_stac(items[0], engine=kind).compute(scheduler=client)
    with pytest.raises(xh.errors.AssetReadError, match="asset 'red' of item 'bad'"):
        xh.open_stac(items, engine=kind).compute(scheduler=client)
    xr.testing.assert_identical(good, xh.open_stac(items[0], engine=kind).compute())


def test_items_bring_their_angles(data):
    """Angles travel to the series, NaN for dates whose items have none."""
    catalog = data / "flanders-2018" / "catalog.json"
    s2 = xh.open_stac(catalog, collection="sentinel-2-l2a", datetime="2018-06-30")
    assert s2["view_zenith"].attrs["units"] == "degree"
    np.testing.assert_allclose(s2["sun_zenith"], 29, atol=2)
    l8 = xh.open_stac(catalog, collection="landsat-8-c1-sr", datetime="2018-07-01")
    like = s2.harmonize.to_landsat(like=l8, platform="sentinel-2b")
    series = l8.harmonize.densify(like)
    assert list(np.isfinite(series["view_zenith"].values)) == [True, False]
    with pytest.warns(xh.errors.RadiometryWarning, match="per item"):
        assert set(s2.harmonize.nbar()["level"].values) == {"NBAR"}
