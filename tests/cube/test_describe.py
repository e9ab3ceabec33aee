"""`describe`: the contract for cubes of other libraries, from arguments and metadata alone."""

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.cube.contract import read_contract
from xharmonize.testing import assert_lazy, example_cube

DN = {"is_decoded": False, "missing": 0.0}


def bare(cube, *, bands=None):
    """A cube without a word about its numbers."""
    kept = cube.drop_vars([name for name in cube.coords if name not in cube.dims])
    kept = kept if bands is None else kept.assign_coords(band=bands)
    return kept.drop_attrs()


@pytest.fixture
def numbers():
    return bare(example_cube(**DN))


S2 = {"sensor": "sentinel-2-l2a", "crs": "EPSG:32631"}


def test_what_describe_says_is_the_whole_contract(numbers):
    cube = xh.describe(
        numbers,
        **S2,
        platform="sentinel-2b",
        processing_baseline=["02.05", "03.01", "05.10"],
        item_id=["a", "b", "c"],
    )
    step = read_contract(cube)[2]
    assert (step.sensor, step.platform, step.bandpass) == ("sentinel-2-l2a", "sentinel-2b", "msi")
    assert (step.processing_baseline, step.level, step.item_id) == ("05.10", "SR", "c")
    assert not step.is_decoded
    assert cube.offset.isel(band=0).values.tolist() == [0, 0, -0.1]  # by baseline, not by date
    assert cube.nodata.values.max() == 0
    assert cube.attrs["history"] == (
        "describe: sentinel-2-l2a, platform='sentinel-2b' where none is stated"
    )
    assert "crs_wkt" in cube.spatial_ref.attrs
    assert xh.decode(cube).dtype == np.float32
    assert "scale" not in numbers.coords


def test_describe_is_lazy(numbers, no_compute):
    with no_compute():
        cube = xh.describe(numbers.chunk(time=1), **S2, offset=0.0)
    assert_lazy(cube)


@pytest.mark.parametrize(
    ("sensor", "labels"),
    [
        ("sentinel-2-l2a", ["B02", "B03", "B04", "B8A", "B11", "B12"]),
        ("landsat-c2-l2", ["SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B6", "SR_B7"]),
        ("landsat-c1-sr", ["sr_band2", "sr_band3", "sr_band4", "sr_band5", "sr_band6", "sr_band7"]),
        ("hls-l30", ["B02", "B03", "B04", "B05", "B06", "B07"]),
        ("hls-s30", ["B02", "B03", "B04", "B8A", "B11", "B12"]),
    ],
)
def test_bands_by_their_names_in_catalogues(numbers, sensor, labels):
    platform = "sentinel-2a" if sensor in ("sentinel-2-l2a", "hls-s30") else "landsat-8"
    cube = xh.describe(
        numbers.assign_coords(band=labels), sensor=sensor, platform=platform, crs=32631, offset=0
    )
    assert cube.band.values.tolist() == ["blue", "green", "red", "nir08", "swir16", "swir22"]


def test_one_label_may_mean_two_bands(numbers):
    cube = numbers.isel(band=[0]).assign_coords(band=["SR_B4"])
    with pytest.raises(
        xh.errors.BandError, match=r"'SR_B4' is nir08 on landsat-7, red on landsat-8"
    ):
        xh.describe(cube, sensor="landsat-c2-l2", crs=32631)
    old = xh.describe(cube, sensor="landsat-c2-l2", platform="landsat-7", crs=32631)
    assert old.band.item() == "nir08"
    assert old.bandpass.values[0] == "etm+"


def test_missing_and_doubled_bands_are_named(numbers):
    with pytest.raises(xh.errors.BandError, match="no band 'visual'; it has coastal, blue"):
        xh.describe(numbers.assign_coords(band=["visual", *"bcdef"]), **S2)
    with pytest.raises(xh.errors.BandError, match="name nir08 more than once"):
        xh.describe(numbers.isel(band=[0, 1]).assign_coords(band=["B8A", "nir08"]), **S2, offset=0)
    with pytest.raises(xh.errors.BandError, match="2 names in bands=, the cube has 6"):
        xh.describe(numbers, **S2, bands=["red", "nir"])
    with pytest.raises(xh.errors.UnknownSensorError, match="no sensor 'spot-5'"):
        xh.describe(numbers, sensor="spot-5")


def test_names_of_the_users_own(numbers):
    raster = numbers.isel(time=[0], band=[0, 1]).assign_coords(band=[1, 2])
    cube = xh.describe(raster, **S2, bands=["red", "nir"], offset=0)
    assert cube.band.values.tolist() == ["red", "nir"]
    same = xh.describe(raster, **S2, bands={"1": "red", "2": "nir"}, offset=0)
    xr.testing.assert_identical(cube, same)


def test_an_open_offset_is_an_error_that_names_the_arguments(numbers):
    with pytest.raises(
        xh.errors.RadiometryError, match=r"of 2018-07-01 names no processing baseline.*offset="
    ):
        xh.describe(numbers, **S2)


def test_the_sensing_date_decides_nothing(numbers):
    """Old dates were reprocessed: baseline 05.00 has the offset in 2018 as well."""
    cube = xh.describe(numbers, **S2, processing_baseline="05.00")
    assert (cube.offset == -0.1).all()


def test_floats_may_be_anything_and_have_to_be_told(numbers):
    floats = numbers.astype("float64")
    with pytest.raises(
        xh.errors.RadiometryError, match="float64, which may be reflectance or digital"
    ):
        xh.describe(floats, **S2, processing_baseline="05.00")
    told = xh.describe(floats, **S2, processing_baseline="05.00", is_decoded=False)
    by_line = xh.describe(floats, **S2, scale=1e-4, offset=-0.1)
    np.testing.assert_array_equal(xh.decode(told), xh.decode(by_line))
    assert xh.describe(floats / 1e4, **S2, is_decoded=True).is_decoded.all()


def test_contradictions_are_errors(numbers):
    with pytest.raises(xh.errors.RadiometryError, match="integers are digital numbers"):
        xh.describe(numbers, **S2, is_decoded=True)
    with pytest.raises(xh.errors.RadiometryError, match="they would be applied twice"):
        xh.describe(numbers / 1e4, **S2, is_decoded=True, offset=-0.1)
    with pytest.raises(
        xh.errors.GridError, match="the cube is in EPSG:32631, crs= says EPSG:32632"
    ):
        xh.describe(example_cube(**DN), sensor="sentinel-2-l2a", crs=32632)
    with pytest.raises(xh.errors.UnknownSensorError, match="landsat-8"):
        xh.describe(numbers, **S2, platform="landsat-8", offset=0)


def test_an_offset_the_catalogue_applied_is_not_applied_again(numbers):
    flagged = numbers.assign_coords({"earthsearch:boa_offset_applied": True})
    cube = xh.describe(flagged, **S2, processing_baseline="05.00")
    assert (cube.offset == 0).all()


@pytest.mark.parametrize("key", ["landsat:collection_number", "collection_number"])
@pytest.mark.parametrize("number", ["02", "2", 2])
def test_landsat_collection_2_is_not_read_as_collection_1(numbers, key, number):
    said = numbers.assign_coords({key: number})
    with pytest.raises(xh.errors.RadiometryError, match=r"Landsat Collection 0?2.*'landsat-c2-l2'"):
        xh.describe(said, sensor="landsat-c1-sr", platform="landsat-8", crs=32631)
    cube = xh.describe(said, sensor="landsat-c2-l2", platform="landsat-8", crs=32631)
    assert (cube.scale == 2.75e-5).all()


def test_a_fill_value_an_unsigned_type_cannot_hold_is_zero():
    """Collection 1 fills with -9999; written as uint16 it is 0."""
    numbers = example_cube("landsat-c1-sr", platform="landsat-8", is_decoded=False)
    unsigned = numbers.where(numbers > 0, 0).astype("uint16").reset_coords(drop=True)
    kwargs = {"sensor": "landsat-c1-sr", "platform": "landsat-8", "crs": "EPSG:32631"}
    cube = xh.describe(unsigned, **kwargs)
    assert (cube["nodata"] == 0).all()
    assert int(xh.decode(cube).isnull().sum()) == int((unsigned == 0).sum()) > 0


def test_numbers_by_band(numbers):
    cube = xh.describe(numbers, **S2, scale=1e-4, offset=dict.fromkeys(numbers.band.values, 0.0))
    assert (cube.offset == 0).all()
    with pytest.raises(xh.errors.BandError, match="offset= has no number for band 'blue'"):
        xh.describe(numbers, **S2, offset={"red": 0.0})


def test_a_lost_contract_is_settled_again():
    cube = example_cube()
    lost = (cube * 1.0).drop_vars(["level", "tile"])
    again = xh.describe(lost, sensor="sentinel-2-l2a")
    assert again.is_decoded.all()  # known from the cube itself
    assert again.item_id.equals(cube.item_id)
    assert again.platform.equals(cube.platform)
    xr.testing.assert_equal(again.drop_vars("offset"), cube.drop_vars("offset"))
    assert read_contract(again)[0].level == "SR"


def test_a_mixed_cube_is_not_given_one_sensor():
    cube = example_cube().assign_coords(sensor=("time", ["sentinel-2-l2a", "hls-l30", "hls-l30"]))
    with pytest.raises(
        xh.errors.ContractError, match="come from hls-l30, sentinel-2-l2a; describe those"
    ):
        xh.describe(cube, sensor="sentinel-2-l2a")


def test_no_crs_no_time_no_pixels_are_named(numbers):
    with pytest.raises(xh.errors.GridError, match="no CRS; pass crs="):
        xh.describe(numbers, sensor="sentinel-2-l2a", offset=0)
    with pytest.raises(xh.errors.TimeAxisError, match=r"no time.*expand_dims"):
        xh.describe(numbers.isel(time=0, drop=True), **S2, offset=0)
    with pytest.raises(xh.errors.GridError, match="no pixel along 'x'"):
        xh.describe(numbers.isel(x=slice(0, 0)), **S2, offset=0)
    with pytest.raises(xh.errors.BandError, match="no dimension 'band'"):
        xh.describe(numbers.isel(band=0, drop=True), **S2, offset=0)


def test_coordinates_in_degrees(numbers):
    degrees = numbers.rename(y="latitude", x="longitude").assign_coords(
        latitude=42 - 1e-4 * np.arange(24), longitude=3 + 1e-4 * np.arange(30)
    )
    cube = xh.describe(degrees, sensor="sentinel-2-l2a", crs="EPSG:4326", offset=0)
    assert cube.dims == ("time", "band", "y", "x")
    np.testing.assert_allclose(cube.y, degrees.latitude.values)


def test_y_may_ascend(numbers):
    cube = xh.describe(numbers.isel(y=slice(None, None, -1)), **S2, offset=0)
    assert (np.diff(cube.y) > 0).all()
    assert float(cube.spatial_ref.attrs["GeoTransform"].split()[5]) == 10


def test_variables_become_bands_and_quality_becomes_flags(numbers):
    scl = xr.full_like(numbers.isel(band=0, drop=True), 9).astype("uint8")
    cube = numbers.to_dataset(dim="band")[["red", "nir08"]].assign(SCL=scl)
    result = xh.describe(cube, **S2, offset=0)
    assert result.reflectance.band.values.tolist() == ["red", "nir08"]
    assert (result.qa == xh.sensors.Flag.CLOUD).all()
    assert xh.decode(xh.mask(result)).reflectance.isnull().all()


def test_quality_layers_in_float_cubes(numbers):
    values = xr.full_like(numbers.isel(band=[0]), 4).assign_coords(band=["scl"]).astype(float)
    values[0, 0, 0, 0] = np.nan  # what stackstac makes of nodata
    floats = xr.concat([numbers.astype(float), values], "band")
    result = xh.describe(floats, **S2, is_decoded=False, offset=0)
    assert int(result.qa[0, 0, 0]) == xh.sensors.Flag.FILL
    assert int(result.qa.sum()) == xh.sensors.Flag.FILL
    averaged = xh.describe((floats + 0.5).chunk(), **S2, is_decoded=False, offset=0)
    with pytest.raises(xh.errors.MaskError, match="'scl' holds fractions: it was averaged"):
        averaged.qa.compute()


def stac_item(folder, name):
    pystac = pytest.importorskip("pystac")
    item = pystac.Item.from_file(str(folder / name / f"{name}.json"))
    item.make_asset_hrefs_absolute()
    return item


def test_plain_stackstac(data, no_compute):
    """Corner coordinates, float64, object coordinates: all settled without reading a pixel."""
    stackstac = pytest.importorskip("stackstac")
    item = stac_item(data / "flanders-2018" / "sentinel-2-l2a", "S2_31U_20170804T105328_000")
    fields = item.to_dict()
    fields["properties"]["proj:epsg"] = 32631  # pystac renames it, stackstac knows no other
    plain = stackstac.stack([fields], ["red", "scl"], epsg=32631, resolution=10,
                            rescale=False)  # fmt: skip
    assert plain.x.values[0] == 501360  # the corner
    with no_compute():
        cube = xh.describe(plain, sensor="sentinel-2-l2a", is_decoded=False)
    assert (cube.x.values[0], cube.y.values[0]) == (501365, 5629675)
    assert cube.item_id.item() == item.id
    assert float(cube.offset.item()) == 0  # by raster:bands
    assert cube.reflectance.attrs.keys() == {"units", "history"}
    assert not [name for name in cube.coords if cube[name].dtype == object]


def test_plain_odc(data, no_compute):
    stac = pytest.importorskip("odc.stac")
    item = stac_item(data / "flanders-2018" / "landsat-8-c1-sr", "LC08_20180701_0")
    plain = stac.load([item], bands=["red", "nir08", "pixel_qa"], chunks={})
    with no_compute():
        cube = xh.describe(plain, sensor="landsat-c1-sr", platform="landsat-8", nodata=0)
    assert (cube.x.values[0], cube.y.values[0]) == (501390, 5629650)
    decoded = xh.decode(xh.mask(cube)).reflectance
    clear = (plain.pixel_qa.values == 322) & (plain.red.values > 0)
    np.testing.assert_allclose(
        decoded.sel(band="red").values[clear], plain.red.values[clear] / 1e4, atol=1e-7
    )


@pytest.mark.parametrize(
    ("baseline", "name", "offset"),
    [("2.14", "02.14", 0), ("3.1", "03.10", 0), ("5.11", "05.11", -0.1), ("N0400", "04.00", -0.1)],
)
def test_baselines_count_as_numbers(numbers, baseline, name, offset):
    cube = xh.describe(numbers, **S2, processing_baseline=baseline)
    assert (cube.offset == offset).all()
    assert cube.processing_baseline.values.tolist() == [name] * 3


def test_what_is_no_baseline_and_no_crs_is_refused(numbers):
    with pytest.raises(xh.errors.RadiometryError, match="baseline, which is 'new'; pass"):
        xh.describe(numbers, **S2, processing_baseline="new")
    with pytest.raises(
        xh.errors.GridError, match=r"crs='EPSG:999999' names no CRS.*give an EPSG code"
    ):
        xh.describe(numbers, **{**S2, "crs": "EPSG:999999"}, offset=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "surface"}, "level='surface' is unknown; it is one of TOA, SR, NBAR"),
        ({"scale": 0.0}, "scale=0.0 for band 'blue'; a scale is above 0"),
        ({"platform": ["sentinel-2a"] * 3}, "neither a name nor a mapping"),
    ],
    ids=str,
)
def test_arguments_that_mean_nothing(numbers, options, message):
    with pytest.raises(xh.errors.RadiometryError, match=message):
        xh.describe(numbers, **S2, **{"offset": 0.0, **options})


def test_saturation_is_that_of_the_platforms_own_bands():
    cube = bare(example_cube("landsat-c2-l2", platform="landsat-8", **DN))
    bands = cube.sel(band=["red"]).to_dataset("band")
    layers = bands.assign(qa_pixel=bands.red * 0 + 21824, qa_radsat=bands.red * 0 + 0b100)
    options = {"sensor": "landsat-c2-l2", "crs": 32631}
    for platform, is_saturated in (("landsat-8", False), ("landsat-7", True)):  # b3: green, red
        qa = xh.describe(layers, **options, platform=platform).qa
        assert ((qa & int(xh.sensors.Flag.SATURATED) > 0) == is_saturated).all()
