"""Masks: named flags, the same for all sensors, lazily and whatever the chunks."""

import numpy as np
import pytest
import xarray as xr

import xharmonize as xh
from xharmonize.cube.masks import FLAG_NAMES, mask_from_qa, pack_qa, qa_layers
from xharmonize.sensors import Flag, get_sensor
from xharmonize.testing import assert_chunk_invariant, assert_lazy, example_cube

S2 = get_sensor("sentinel-2-l2a")
LANDSAT = get_sensor("landsat-c2-l2")
CHUNKINGS = [{"time": 1, "y": 7, "x": 9}, {"band": 2, "y": 3, "x": 5}, {}]


def layer(cube, values, dtype="uint8"):
    """A quality layer on the grid of a cube."""
    template = cube.isel(band=0, drop=True)
    return template.copy(data=np.broadcast_to(values, template.shape).astype(dtype))


@pytest.fixture
def scl():
    cube = example_cube(missing=0)
    values = np.random.default_rng(1).choice(
        [4, 5, 6, 7, 0, 3, 8, 9, 10, 11], cube.isel(band=0).shape, p=[0.9, *[0.1 / 9] * 9]
    )
    return layer(cube, values)


@pytest.fixture
def masked(scl):
    return (
        example_cube(missing=0).to_dataset(name="reflectance").assign(qa=pack_qa({"scl": scl}, S2))
    )


def test_flags_are_cf(masked):
    assert masked.qa.dtype == np.uint16
    assert masked.qa.attrs["flag_meanings"].split() == list(FLAG_NAMES)
    assert masked.qa.attrs["flag_masks"].tolist() == [2**i for i in range(16)]


def test_clear_keeps_what_users_keep(masked, scl):
    result = xh.mask(masked)
    kept = result.reflectance.notnull().all("band")
    np.testing.assert_array_equal(kept, scl.isin([4, 5, 6, 7]))
    assert result.reflectance.attrs["history"].endswith("mask: removed clear")
    assert result.qa.identical(masked.qa)  # so that it can be masked again in another way
    assert masked.reflectance.notnull().all()


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        ("cloud", [8, 9]),
        ("cloud_probable", [8]),
        (("cloud_shadow", "cirrus"), [3, 10]),
        (("clear", "water", "unclassified"), [0, 3, 6, 7, 8, 9, 10, 11]),
        ((), []),
    ],
)
def test_names_are_combined_by_the_user(masked, scl, names, classes):
    removed = mask_from_qa(masked.qa, names)
    np.testing.assert_array_equal(removed, scl.isin(classes))


def test_unknown_names_are_answered_with_the_known_ones(masked):
    with pytest.raises(xh.errors.MaskError, match=r"'clouds'; did you mean 'cloud'.*cloud_shadow"):
        xh.mask(masked, "clouds")
    with pytest.raises(
        xh.errors.MaskError, match="no quality layer of sentinel-2-l2a sets aerosol_high"
    ):
        xh.mask(masked, "aerosol_high")


def test_a_cube_without_quality_layer_says_how_to_get_one(masked):
    with pytest.raises(xh.errors.MaskError, match=r"no quality layer 'qa'.*qa=True"):
        xh.mask(masked.reflectance)
    with pytest.raises(xh.errors.MaskError, match="no quality layer"):
        xh.mask(masked.drop_vars("qa"))


def test_a_lost_contract_is_an_error_that_names_describe(masked):
    with pytest.raises(xh.errors.ContractError, match=r"which sensor.*xh.describe\("):
        xh.mask(masked.drop_vars("sensor"))


def test_encoded_cubes_get_nodata(scl):
    cube = example_cube(missing=0, is_decoded=False)
    nodata = cube.nodata.copy()
    nodata[:, 2] = 65535
    cube = cube.assign_coords(nodata=nodata).to_dataset(name="reflectance")
    result = xh.mask(cube.assign(qa=pack_qa({"scl": scl}, S2)), "cloud").reflectance
    assert result.dtype == np.uint16
    cloud = scl.isin([8, 9])
    assert (result.isel(band=0).values[cloud.values] == 0).all()
    assert (result.isel(band=2).values[cloud.values] == 65535).all()
    assert result.where(~cloud).equals(cube.reflectance.where(~cloud))


def test_masking_and_decoding_commute(scl):
    encoded = example_cube(missing=0.1, is_decoded=False).to_dataset(name="reflectance")
    encoded = encoded.assign(qa=pack_qa({"scl": scl}, S2))
    first = xh.decode(xh.mask(encoded)).reflectance
    xr.testing.assert_equal(first, xh.mask(xh.decode(encoded)).reflectance)


def test_nodata_that_does_not_fit_is_an_error(scl):
    cube = example_cube(is_decoded=False)
    cube = cube.assign_coords(nodata=cube.nodata * 0 - 9999).to_dataset(name="reflectance")
    with pytest.raises(
        xh.errors.RadiometryError, match="'sentinel-2a-0' is -9999, which uint16 cannot"
    ):
        xh.mask(cube.assign(qa=pack_qa({"scl": scl}, S2)))


@pytest.mark.parametrize(
    "settings",
    [
        xh.Mask(),
        xh.Mask(names=("cloud", "fill"), dilate=2.5),
        xh.Mask(dilate=45, dilate_unit="metres"),
        xh.Mask(dilate=100),
    ],
    ids=str,
)
def test_masks_do_not_depend_on_chunks(masked, settings):
    assert_chunk_invariant(lambda cube: xh.mask(cube, settings), masked, chunkings=CHUNKINGS)


def test_packing_and_masking_are_lazy(scl, no_compute):
    with no_compute():
        qa = pack_qa({"scl": scl.chunk(time=1, x=8)}, S2)
        cube = example_cube(chunks={"time": 1, "x": 8}).to_dataset(name="reflectance")
        result = xh.mask(cube.assign(qa=qa), xh.Mask(dilate=2))
    assert_lazy(result)
    assert result.reflectance.chunks == cube.reflectance.chunks


def test_fill_does_not_grow():
    cube = example_cube(missing=0)
    values = np.full(cube.isel(band=0).shape, 4)
    values[:, :, 0], values[:, 12, 20] = 0, 9
    qa = pack_qa({"scl": layer(cube, values)}, S2)
    removed = mask_from_qa(qa, xh.Mask(dilate=3))
    assert removed.isel(time=0, x=0).all()
    assert not removed.isel(time=0, x=1).any()
    assert removed.isel(time=0, y=12).sum() == 1 + 7
    assert removed.isel(time=0).sum() == removed.sizes["y"] + 29  # pixels within 3 of one


def test_metres_are_pixels_of_the_grid(masked):
    metres = mask_from_qa(masked.qa, xh.Mask(dilate=25, dilate_unit="metres"))
    pixels = mask_from_qa(masked.qa, xh.Mask(dilate=2.5))
    xr.testing.assert_equal(metres, pixels)


def test_metres_need_a_projected_crs(scl):
    cube = example_cube(crs="EPSG:4326", resolution=1e-4, origin=(3.0, 42.0))
    qa = pack_qa({"scl": layer(cube, scl.values)}, S2)
    with pytest.raises(
        xh.errors.GridError, match=r"dilate=20 metres, but the grid is in degrees .EPSG:4326"
    ):
        mask_from_qa(qa, xh.Mask(dilate=20, dilate_unit="metres"))


def test_clear_differs_between_the_sensors_of_a_cube():
    """What the terrain hides is no observation; SCL's topographic shadow is a dark one."""
    cube = example_cube(missing=0)
    qa = layer(cube, Flag.TERRAIN_SHADOW, "uint16")
    mixed = qa.assign_coords(sensor=("time", ["sentinel-2-l2a", "landsat-c1-sr", "hls-l30"]))
    assert mask_from_qa(mixed).any(("y", "x")).values.tolist() == [False, True, False]
    names = ["hls-l30|sentinel-2-l2a", "landsat-c1-sr|sentinel-2-l2a", "hls-l30"]
    merged = mask_from_qa(qa.assign_coords(sensor=("time", names)))
    assert merged.any(("y", "x")).values.tolist() == [False, True, False]


def test_an_unknown_sensor_has_no_clear():
    qa = layer(example_cube(), 2, "uint16").assign_coords(sensor=("time", ["unknown"] * 3))
    with pytest.raises(xh.errors.MaskError, match=r"'clear' depends on the sensor.*name the flags"):
        mask_from_qa(qa)
    assert mask_from_qa(qa, "cloud").all()


def test_only_the_primary_layer_says_fill():
    cube = example_cube("landsat-c2-l2", platform="landsat-8", resolution=30)
    layers = {
        "qa_pixel": layer(cube, 21824, "uint16"),
        "qa_radsat": layer(cube, 0b1000, "uint16"),
        "qa_aerosol": layer(cube, 0b11000001),
    }
    packed = pack_qa(layers, LANDSAT, platform="landsat-8")
    assert (packed == Flag.SATURATED | Flag.AEROSOL_HIGH).all()
    others = pack_qa(layers, LANDSAT, bands=["blue", "nir08"], platform="landsat-8")
    assert (others == Flag.AEROSOL_HIGH).all()  # bit 3 is red


def test_cloud_probability_threshold():
    cube = example_cube(missing=0)
    layers = {"scl": layer(cube, 4), "cloud_probability": layer(cube, 45)}
    low, high = (pack_qa(layers, S2, cloud_probability=limit) for limit in (40, 60))
    assert mask_from_qa(low, xh.Mask(cloud_probability=40)).all()
    assert not mask_from_qa(high, xh.Mask(cloud_probability=60)).any()
    with pytest.raises(xh.errors.MaskError, match="of 40 % was asked for, qa was packed at 60 %"):
        mask_from_qa(high, xh.Mask(cloud_probability=40))
    with pytest.raises(xh.errors.MaskError, match="packed without cloud probability"):
        mask_from_qa(pack_qa({"scl": layers["scl"]}, S2), xh.Mask(cloud_probability=40))


def test_layers_a_mask_needs():
    def names(sensor, mask):
        return [layer.name for layer in qa_layers(sensor, mask)]

    assert names(S2, "clear") == names(S2, None) == ["scl"]
    assert names(S2, xh.Mask(cloud_probability=30)) == ["scl", "cloud_probability"]
    assert names(LANDSAT, "clear") == ["qa_pixel"]
    assert names(LANDSAT, ("clear", "saturated")) == ["qa_pixel", "qa_radsat"]
    assert names(LANDSAT, "aerosol_high") == ["qa_pixel", "qa_aerosol"]
    assert names(get_sensor("sentinel-1-rtc"), "clear") == []


def test_averaged_quality_layers_are_refused(scl):
    with pytest.raises(xh.errors.MaskError, match=r"'scl' is float64, not integer.*by nearest"):
        pack_qa({"scl": scl.astype(float)}, S2)
    with pytest.raises(xh.errors.MaskError, match="bits do not survive averaging"):
        mask_from_qa(pack_qa({"scl": scl}, S2).astype(float))
    with pytest.raises(xh.errors.MaskError, match=r"\['fmask'\]; sentinel-2-l2a has scl"):
        pack_qa({"fmask": scl}, S2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ("cloudy",)}, "no quality flag 'cloudy'"),
        ({"dilate": -1}, "dilate=-1; give a distance of 0 or more"),
        ({"dilate_unit": "feet"}, "choose 'pixels' or 'metres'"),
        ({"cloud_probability": 101}, "from 0 to 100"),
    ],
)
def test_masks_check_their_settings(options, message):
    with pytest.raises(xh.errors.MaskError, match=message):
        xh.Mask(**options)


def test_a_bare_name_is_one_name():
    assert xh.Mask(names="cloud").names == ("cloud",)


def test_indices_are_masked_too(masked):
    ndvi = masked.reflectance.isel(band=0, drop=True).rename("ndvi")
    result = xh.mask(masked[["qa"]].assign(ndvi=ndvi))
    assert result.ndvi.isnull().equals(xh.mask(masked).reflectance.isel(band=0, drop=True).isnull())


def test_all_cloudy_leaves_nothing(masked):
    cloudy = masked.assign(qa=xr.full_like(masked.qa, int(Flag.CLOUD)))
    assert xh.mask(cloudy).reflectance.isnull().all()


def test_saturated_numbers_are_flagged_and_removed(scl):
    """65535 would decode to a reflectance of 6.55; it is no measurement."""
    cube = example_cube(missing=0.1, is_decoded=False)
    cube[1, 3, 5, 6] = 65535
    cube[0, 0, 0, 0] = 0
    encoded = cube.to_dataset(name="reflectance").assign(qa=pack_qa({"scl": scl * 0 + 4}, S2))
    result = xh.mask(encoded)
    saturated = (result.qa & int(Flag.SATURATED)) > 0
    assert saturated.sum() == 1
    assert saturated[1, 5, 6]
    assert (result.reflectance[1, :, 5, 6] == 0).all()
    assert float(xh.decode(result).reflectance.max()) < 1
    assert xh.mask(encoded, "cloud").reflectance.equals(encoded.reflectance)
    assert_chunk_invariant(xh.mask, encoded, chunkings=CHUNKINGS)


def test_saturation_leaves_numbers_of_another_scale_alone(scl):
    cube = example_cube("landsat-c2-l2", platform="landsat-8", missing=0, is_decoded=False)
    cube[:] = 50000  # beyond the valid range of Collection 2
    other = cube.assign_coords(scale=cube.scale * 0 + 1e-5)
    qa = pack_qa({"qa_pixel": layer(cube, 21824, "uint16")}, LANDSAT)
    for numbers, is_removed in ((cube, True), (other, False)):
        result = xh.mask(numbers.to_dataset(name="reflectance").assign(qa=qa)).reflectance
        assert ((result == 0) == is_removed).all()
