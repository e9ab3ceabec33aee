"""Quality kernels: layouts value by value, growth, and resampling by any."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from xharmonize.errors import MaskError
from xharmonize.kernels.qa import (
    decode_qa,
    dilate,
    exceeds,
    lookup_table,
    select,
    write_missing,
)
from xharmonize.sensors import Flag
from xharmonize.sensors.qa import LAYOUTS, probability_layout


def flags(layout, value):
    return {flag.label for flag in Flag if flag & int(lookup_table(LAYOUTS[layout])[value])}


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (0, {"fill"}),
        (1, {"saturated"}),
        (2, {"dark", "terrain_shadow"}),
        (3, {"cloud_shadow"}),
        (4, set()),
        (5, set()),
        (6, {"water"}),
        (7, {"unclassified"}),
        (8, {"cloud", "cloud_probable"}),
        (9, {"cloud"}),
        (10, {"cirrus"}),
        (11, {"snow"}),
        (12, {"fill"}),
        (255, {"fill"}),
    ],
)
def test_scl_classes(value, names):
    assert flags("scl", value) == names


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (0b00000000, set()),
        (0b00000001, {"cirrus"}),
        (0b00000010, {"cloud"}),
        (0b00000100, {"cloud_adjacent"}),
        (0b00001000, {"cloud_shadow"}),
        (0b00010000, {"snow"}),
        (0b01100000, {"water", "aerosol_low"}),
        (0b10000000, {"aerosol_moderate"}),
        (0b11000010, {"cloud", "aerosol_high"}),
        (255, {"fill"}),
    ],
)
def test_hls_fmask_bits(value, names):
    assert flags("hls-fmask", value) == names


@pytest.mark.parametrize(
    ("value", "names"),  # pixel values that occur in Collection 2 scenes
    [
        (1, {"fill"}),
        (21824, set()),
        (21952, {"water"}),
        (21826, {"cloud_adjacent"}),
        (22018, {"cloud_adjacent"}),
        (22280, {"cloud"}),
        (23888, {"cloud_shadow"}),
        (30048, {"snow"}),
        (54596, {"cirrus"}),
        (54852, {"cirrus"}),
        (55052, {"cloud", "cirrus"}),
        (0b10 << 8 | 1 << 6, {"cloud_probable"}),
    ],
)
def test_qa_pixel_of_collection_2(value, names):
    found = flags("qa-pixel-c2", value)
    assert found - {"cloud_probable"} == names - {"cloud_probable"}
    assert names <= found


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (1, {"fill"}),
        (322, set()),
        (324, {"water"}),
        (328, {"cloud_shadow"}),
        (336, {"snow"}),
        (352, {"cloud"}),
        (386, {"cloud_probable"}),
        (480, {"cloud"}),
        (834, {"cirrus"}),
        (1346, {"terrain_shadow"}),
    ],
)
def test_pixel_qa_of_collection_1(value, names):
    assert flags("pixel-qa-c1", value) == names


def test_collections_are_not_read_alike():
    assert flags("pixel-qa-c1", 322) != flags("qa-pixel-c2", 322)  # clear land, or dilated cloud


def test_saturation_is_kept_apart_by_band():
    table = lookup_table(LAYOUTS["qa-radsat"], {"b4", "b5"})
    assert [int(table[1 << bit]) for bit in (0, 3, 4, 6)] == [0, Flag.SATURATED, Flag.SATURATED, 0]
    assert flags("qa-radsat", 1 << 11) == {"terrain_shadow"}


@pytest.mark.parametrize(
    ("value", "names"),
    [(1, {"fill"}), (0b01000010, {"aerosol_low"}), (228, {"water", "aerosol_high"})],
)
def test_surface_reflectance_aerosol(value, names):
    assert flags("sr-qa-aerosol", value) == names


def test_cloud_probability_has_a_threshold():
    table = lookup_table(probability_layout(40))
    assert [int(table[v]) for v in (0, 39, 40, 100)] == [0, 0, *[Flag.CLOUD_PROBABLE] * 2]
    with pytest.raises(MaskError, match="probability of 140 %; give one from 0 to 100"):
        probability_layout(140)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "int64"])
def test_one_gather_whatever_the_dtype(dtype):
    values = np.array([[0, 4, 8, 11]], dtype)
    result = decode_qa(values, lookup_table(LAYOUTS["scl"]))
    assert result.dtype == np.uint16
    np.testing.assert_array_equal(result, [[1, 0, 514, 32]])


def test_values_beyond_the_table_are_fill():
    table = lookup_table(LAYOUTS["scl"])
    np.testing.assert_array_equal(decode_qa(np.array([[-1, 300]]), table), [[1, 1]])
    signed = np.array([-24512], "int16")  # 41024 read as signed by other software
    whole = lookup_table(LAYOUTS["qa-pixel-c2"])
    np.testing.assert_array_equal(decode_qa(signed, whole), whole[[41024]])


def test_select_differs_by_date():
    qa = np.array([[[2, 8]], [[2, 8]]], "uint16")
    np.testing.assert_array_equal(
        select(qa, np.array([2, 8], "uint16")), [[[True, False]], [[False, True]]]
    )


@settings(max_examples=40, deadline=None)
@given(
    mask=hnp.arrays(bool, st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 9))),
    radius=st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.7, 12.0]),
)
def test_growth_is_a_disc(mask, radius):
    reach = int(radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = y**2 + x**2 <= radius**2
    expected = np.stack([ndimage.binary_dilation(layer, disc) for layer in mask])
    np.testing.assert_array_equal(dilate(mask, (radius, radius)), expected)


def test_growth_in_unequal_pixels_is_an_ellipse():
    mask = np.zeros((1, 5, 9), bool)
    mask[0, 2, 4] = True
    grown = dilate(mask, (1.0, 3.0))[0]
    assert grown.sum(axis=1).tolist() == [0, 1, 7, 1, 0]


def test_missing_is_written_by_band():
    values = np.full((1, 2, 1, 2), 7, "uint16")
    removed = np.array([[[True, False]]])
    result = write_missing(values, removed, np.array([[0, 9]], "uint16"))
    np.testing.assert_array_equal(result[0, :, 0], [[0, 7], [9, 7]])
    assert values.min() == 7


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32"])
def test_pixels_above_the_range_in_any_band(order, dtype):
    values = np.zeros((2, 2, 2, 3), dtype)
    values[0, 0, 0, 0], values[0, 1, 1, 2], values[1, 1, 1, 1] = 101, 30000, 100
    limit = np.array([[100, 20000], [100, 100]])
    nothing = np.full((2, 2), -(2**40))
    result = exceeds(np.asarray(values, order=order), limit, nothing)
    assert np.argwhere(result).tolist() == [[0, 0, 0], [0, 1, 2]]
    result = exceeds(values, limit, nothing * 0 + 30000)  # nodata may lie above the range
    assert np.argwhere(result).tolist() == [[0, 0, 0]]


def test_empty_blocks():
    values = np.zeros((1, 2, 0, 3), "uint16")
    table = np.zeros((1, 2), "int64")
    assert exceeds(values, table, table).shape == (1, 0, 3)
    assert write_missing(values, np.zeros((1, 0, 3), bool), table.astype("u2")).size == 0
    assert dilate(np.zeros((1, 0, 3), bool), (2.0, 2.0)).size == 0
