"""COGs and STAC items: units, nodata, overviews and grid as rasterio and pystac read them."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pystac
import pytest
import rasterio
import xarray as xr

import xharmonize as xh
from xharmonize.cube.contract import with_history
from xharmonize.cube.masks import QA_ATTRS
from xharmonize.sensors import Flag
from xharmonize.testing import example_cube


def items_of(path):
    catalog = pystac.Catalog.from_file(str(path))
    return sorted(catalog.get_items(recursive=True), key=lambda item: item.datetime)


def href(item, asset):
    return item.assets[asset].get_absolute_href()


def test_each_date_and_band_is_a_cog_with_its_metadata(cube, tmp_path):
    path = cube.harmonize.to_cogs(tmp_path / "out")
    items = items_of(path)
    assert len(items) == 3
    for i, item in enumerate(items):
        assert set(item.assets) == set(cube["band"].values)
        for band in cube["band"].values:
            with rasterio.open(href(item, band)) as file:
                assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
                assert (file.overviews(1), file.units, file.dtypes) == ([2], ("1",), ("float32",))
                assert np.isnan(file.nodata)
                assert file.crs == cube.rio.crs
                assert file.transform == cube.rio.transform()
                assert file.tags()["platform"] == "sentinel-2a"
                np.testing.assert_array_equal(file.read(1), cube.isel(time=i).sel(band=band))


def test_items_say_grid_bands_platform_and_provenance(tmp_path):
    cube = example_cube().assign_coords(tile=("time", ["31UES"] * 3))
    cube.attrs = with_history(cube.attrs, "to_landsat: HLS v2 (doi:10.1016/j.rse.2018.09.002).")
    item = items_of(xh.to_cogs(cube, tmp_path / "out", collection="fields"))[0]
    known = item.properties
    assert (item.collection_id, known["platform"]) == ("fields", "sentinel-2a")
    assert (known["proj:code"], known["proj:shape"]) == ("EPSG:32631", [24, 30])
    assert known["proj:transform"] == list(cube.rio.transform())[:6]
    assert known["grid:code"] == "MGRS-31UES"
    assert known["processing:lineage"] == cube.attrs["history"]
    assert known["sci:publications"] == [{"doi": "10.1016/j.rse.2018.09.002"}]
    red = item.assets["red"].extra_fields
    assert (red["raster:scale"], red["raster:offset"], red["nodata"]) == (1.0, 0.0, "nan")
    assert red["bands"][0]["eo:common_name"] == "red"
    assert 0.66 < red["bands"][0]["eo:center_wavelength"] < 0.67
    west, south, east, north = item.bbox
    assert 3.0 < west < east < 3.1
    assert 50.8 < south < north < 50.9


def test_int16_keeps_five_decimals_of_a_reflectance_and_its_holes(tmp_path):
    cube = example_cube()
    cube[0, 0, 0, :2] = [9.0, -9.0]  # beyond what int16 can hold
    item = items_of(xh.to_cogs(cube, tmp_path / "out", dtype="int16"))[0]
    assert item.assets["blue"].extra_fields["raster:scale"] == 1e-4
    with rasterio.open(href(item, "blue")) as file:
        assert (file.nodata, file.scales, file.dtypes) == (-32768, (1e-4,), ("int16",))
        numbers = file.read(1, masked=True)
    expected = cube[0, 0].where(abs(cube[0, 0]) < 3)
    np.testing.assert_array_equal(numbers.mask, expected.isnull())
    np.testing.assert_allclose(numbers.filled(0) * 1e-4, expected.fillna(0), atol=0.5001e-4)


def test_encoded_cubes_keep_numbers_scale_offset_and_nodata(tmp_path):
    cube = example_cube("landsat-c2-l2", platform="landsat-8", is_decoded=False)
    item = items_of(xh.to_cogs(cube, tmp_path / "out"))[0]
    with rasterio.open(href(item, "red")) as file:
        assert (file.scales, file.offsets, file.nodata) == ((2.75e-5,), (-0.2,), 0)
        np.testing.assert_array_equal(file.read(1), cube[0].sel(band="red"))
    with pytest.raises(xh.errors.RadiometryError, match="digital numbers"):
        xh.to_cogs(cube, tmp_path / "other", dtype="int16")


def test_an_index_and_companions_are_assets_of_their_own(tmp_path):
    cube = example_cube()
    ndvi = cube.isel(band=0, drop=True).assign_attrs(long_name="NDVI", units="1")
    qa = ndvi.isnull().astype("uint16").assign_attrs(flag_masks=[1], flag_meanings="fill")
    dataset = xr.Dataset({"ndvi": ndvi, "qa": qa})
    item = items_of(xh.to_cogs(dataset, tmp_path / "out"))[0]
    assert set(item.assets) == {"ndvi", "qa"}
    assert item.assets["qa"].roles == ["data-mask"]
    with rasterio.open(href(item, "qa")) as file:
        assert (file.nodata, file.dtypes) == (None, ("uint16",))
        assert file.tags(1)["flag_meanings"] == "fill"
        assert set(np.unique(file.read(1, out_shape=(12, 15)))) <= {0, 1}


def test_overviews_average_reflectance_and_large_images_have_several(tmp_path):
    cube = example_cube(shape=(1100, 700), bands=("red",), dates=("2018-07-01",), missing=0.0)
    cube[0, 0, :2, :2] = [[0.1, 0.2], [0.3, np.nan]]
    item = items_of(xh.to_cogs(cube, tmp_path / "out"))[0]
    with rasterio.open(href(item, "red")) as file:
        assert (file.overviews(1), file.block_shapes) == ([2, 4], [(512, 512)])
    with rasterio.open(href(item, "red"), overview_level=0) as small:
        assert abs(small.read(1)[0, 0] - 0.2) < 1e-6


def test_cubes_with_ascending_y_are_written_north_up(tmp_path):
    cube = example_cube()
    item = items_of(xh.to_cogs(cube.isel(y=slice(None, None, -1)), tmp_path / "out"))[0]
    with rasterio.open(href(item, "red")) as file:
        assert file.transform == cube.rio.transform()
        np.testing.assert_array_equal(file.read(1), cube[0].sel(band="red"))


def test_writing_again_replaces_items_and_keeps_the_others(tmp_path):
    xh.to_cogs(example_cube(), tmp_path / "out")
    later = example_cube(dates=("2018-08-01", "2018-08-11"), seed=2)
    later = later.assign_coords(item_id=("time", ["sentinel-2a-2", "new"]))
    with pytest.raises(
        xh.errors.StoreError, match="exists; mode='w' replaces it, mode='upsert' adds"
    ):
        xh.to_cogs(later, tmp_path / "out")
    items = items_of(xh.to_cogs(later, tmp_path / "out", mode="upsert"))
    assert [item.id for item in items] == ["sentinel-2a-0", "sentinel-2a-1", "sentinel-2a-2", "new"]
    with rasterio.open(href(items[2], "red")) as file:
        np.testing.assert_array_equal(file.read(1), later[0].sel(band="red"))
    extent = pystac.Catalog.from_file(str(tmp_path / "out" / "catalog.json"))
    interval = next(iter(extent.get_children())).extent.temporal.intervals[0]
    assert (interval[0].month, interval[1].month) == (7, 8)


def test_a_catalogue_is_replaced_as_a_whole(tmp_path):
    path = xh.to_cogs(example_cube(), tmp_path / "out")

    def fail(block):
        raise OSError("no such tile")

    later = example_cube(dates=("2018-08-01", "2018-08-11"), seed=2, chunks={"time": 1})
    broken = later.copy(data=later.data.map_blocks(fail, dtype="f4", meta=later.data._meta))
    with pytest.raises(OSError, match="no such tile"):
        xh.to_cogs(broken, tmp_path / "out", mode="w")
    assert len(items_of(path)) == 3
    assert xh.to_cogs(later, tmp_path / "out", mode="w") == path
    assert len(items_of(path)) == 2
    assert pystac.Catalog.from_file(str(path)).id == "out"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    with pytest.raises(xh.errors.StoreError, match="mode is 'a'; it is one of 'w-'"):
        xh.to_cogs(later, tmp_path / "out", mode="a")


def test_other_directories_and_names_that_clash_are_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("x")
    with pytest.raises(xh.errors.StoreError, match="holds no catalogue written by xharmonize"):
        xh.to_cogs(example_cube(), tmp_path / "photos")
    twice = example_cube().isel(time=[0, 0])
    with pytest.raises(xh.errors.StoreError, match="two dates would be written as item"):
        xh.to_cogs(twice, tmp_path / "out")
    with pytest.raises(xh.errors.ContractError, match="lost its coordinates"):
        xh.to_cogs(example_cube().drop_vars("tile"), tmp_path / "out")
    with pytest.raises(xh.errors.GridError, match="CRS"):
        xh.to_cogs(example_cube().drop_vars("spatial_ref"), tmp_path / "out")


def test_one_date_is_computed_at_a_time(tmp_path):
    import dask.array as da

    seen: list[int] = []

    def note(block, block_info=None):
        seen.append(block_info[0]["chunk-location"][0])
        return block

    cube = example_cube(chunks={"time": 1, "y": 12})
    noted = cube.copy(data=da.map_blocks(note, cube.data, dtype="f4", meta=cube.data._meta))
    xh.to_cogs(noted, tmp_path / "out")
    assert seen == sorted(seen)
    assert len(seen) == 6


@pytest.mark.parametrize(("dtype", "atol"), [("int16", 0.51e-4), ("float32", 0.0)])
def test_open_stac_reads_back_what_was_written(tmp_path, dtype, atol):
    """A harmonised cube stays one: it is not taken for the sensor's own bandpass again."""
    cube = example_cube(chunks={"time": 1}).harmonize.to_landsat("hls-v2")
    # Settled by the user, against the name of the item or between the twins.
    cube = cube.assign_coords(platform=("time", ["sentinel-2b", "sentinel-2", "unknown"]))
    cube = cube.assign_coords(item_id=("time", [f"S2A_31UDS_2018070{i}_0_L2A" for i in range(3)]))
    path = xh.to_cogs(cube, tmp_path / "out", dtype=dtype)
    back = xh.open_stac(path, mask=None)
    np.testing.assert_allclose(back.values, cube.values, atol=atol)
    np.testing.assert_array_equal(back["x"], cube["x"])
    assert back.attrs["history"].startswith(cube.attrs["history"])
    for name in ("platform", "sensor", "bandpass", "level"):
        assert back[name].values.tolist() == cube[name].values.tolist(), name


def test_open_stac_reads_flags_back(tmp_path):
    cube = example_cube(chunks={"time": 1})
    flags = np.where(np.arange(cube.sizes["x"]) < 3, Flag.CLOUD | Flag.CIRRUS, Flag.WATER)
    qa = cube.isel(band=0, drop=True).rename("qa")
    qa = qa.copy(data=np.broadcast_to(flags.astype("uint16"), qa.shape)).assign_attrs(QA_ATTRS)
    path = xh.to_cogs(xr.Dataset({"reflectance": cube, "qa": qa}), tmp_path / "out")
    back = xh.open_stac(path, qa=True)
    np.testing.assert_array_equal(back["qa"], qa)
    assert back["reflectance"][..., :3].isnull().all()
    np.testing.assert_array_equal(back["reflectance"][..., 3:], cube[..., 3:])


def ndvi_of(cube):
    return cube.harmonize.index("ndvi").chunk(time=1)


@pytest.mark.parametrize(("dtype", "atol"), [("int16", 0.51e-4), (None, 0.0)])
def test_an_index_opens_as_it_was(tmp_path, dtype, atol):
    cube = ndvi_of(example_cube().assign_coords(tile=("time", ["a tile", "31UES", "unknown"])))
    path = xh.to_cogs(cube.isel(time=[2, 0, 1]), tmp_path / "out", dtype=dtype)
    back = xh.open_cogs(path)
    assert back.chunks is not None
    assert (back.name, back.dtype, back.attrs["units"]) == ("ndvi", "float32", "1")
    np.testing.assert_allclose(back.values, cube.values, atol=atol)
    for name in ("time", "x", "y", "sensor", "platform", "bandpass", "level", "tile", "item_id"):
        assert back[name].values.tolist() == cube[name].values.tolist(), name
    assert back.rio.crs == cube.rio.crs
    assert back.attrs["history"] == cube.attrs["history"]
    xh.to_zarr(back, tmp_path / "again.zarr")


def test_companions_of_an_index_come_back_and_other_catalogues_are_told_apart(tmp_path):
    cube = ndvi_of(example_cube())
    origin = cube.notnull().astype("uint8").assign_attrs(flag_masks=[1], flag_meanings="observed")
    xh.to_cogs(xr.Dataset({"ndvi": cube, "origin": origin}), tmp_path / "out", collection="a")
    back = xh.open_cogs(tmp_path / "out")
    assert back["origin"].dtype == np.uint8
    assert back["origin"].attrs["flag_masks"] == [1]
    np.testing.assert_array_equal(back["origin"], origin)
    xh.to_cogs(example_cube(), tmp_path / "out", collection="b", mode="upsert")
    with pytest.raises(xh.errors.CatalogError, match=r"holds \['a', 'b'\]: name one"):
        xh.open_cogs(tmp_path / "out")
    with pytest.raises(xh.errors.CatalogError, match=r"has bands; open it with xh\.open_stac"):
        xh.open_cogs(tmp_path / "out", collection="b")
    with pytest.raises(xh.errors.CatalogError, match="no catalogue written by to_cogs"):
        xh.open_cogs(tmp_path)
    with pytest.raises(xh.errors.BandError, match=r"xh\.open_cogs"):
        xh.open_stac(tmp_path / "out", collection="a")


def renderer(path):
    """The renderer of a style, after a look at what QGIS needs around it."""
    text = path.read_text()
    assert text.startswith("<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>")
    root = ElementTree.fromstring(text)
    assert root.tag == "qgis"
    children = [child.tag for child in root.find("pipe")]
    assert children[:2] == ["provider", "rasterrenderer"]
    assert children[2:5] == ["brightnesscontrast", "huesaturation", "rasterresampler"]
    return root.find("pipe/rasterrenderer")


def test_an_index_gets_a_colour_ramp_for_qgis(tmp_path):
    cube = ndvi_of(example_cube())
    qa = cube.isnull().astype("uint8").assign_attrs(flag_masks=[1], flag_meanings="fill")
    xh.to_cogs(xr.Dataset({"ndvi": cube, "qa": qa}), tmp_path / "out", dtype="int16")
    assert not list((tmp_path / "out").rglob("*_qa.qml"))
    styles = sorted((tmp_path / "out").rglob("*.qml"))
    assert [style.with_suffix(".tif").exists() for style in styles] == [True] * 3
    found = renderer(styles[0])
    assert (found.get("type"), found.get("band")) == ("singlebandpseudocolor", "1")
    shader = found.find("rastershader/colorrampshader")
    assert shader.get("colorRampType") == "INTERPOLATED"
    values = [float(item.get("value")) for item in shader.findall("item")]
    assert values == sorted(values)
    assert (values[0], values[-1]) == (-0.2, 1.0)  # of the index: QGIS applies the file's scale
    assert all(len(item.get("color")) == 7 for item in shader)


def test_true_colour_is_a_picture_of_the_three_files(tmp_path):
    cube = example_cube()
    item = items_of(xh.to_cogs(cube, tmp_path / "out", dtype="int16"))[0]
    picture = Path(href(item, "red").replace("_red.tif", "_rgb.vrt"))
    with rasterio.open(picture) as file:
        assert (file.count, file.crs.to_epsg(), file.nodata) == (3, 32631, -32768)
        assert file.transform == cube.rio.transform()
        assert file.colorinterp[0].name == "red"
        np.testing.assert_allclose(
            file.read(3, masked=True).filled(0) * file.scales[2] + file.offsets[2],
            cube[0].sel(band="blue").fillna(0),
            atol=0.51e-4,
        )
    found = renderer(picture.with_suffix(".qml"))
    assert found.get("type") == "multibandcolor"
    assert [found.get(f"{c}Band") for c in ("red", "green", "blue")] == ["1", "2", "3"]
    assert float(found.find("redContrastEnhancement/maxValue").text) == 0.2
    grey = renderer(Path(href(item, "nir08").replace(".tif", ".qml")))
    assert (grey.get("type"), grey.get("grayBand")) == ("singlebandgray", "1")
    xh.to_cogs(cube, tmp_path / "plain", styles=False)
    assert {p.suffix for p in (tmp_path / "plain").rglob("*.*")} == {".json", ".tif"}
