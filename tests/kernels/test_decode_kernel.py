"""Kernels of decoding: one pass, any layout and dtype, nodata before the shift."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xharmonize.kernels.reflectance import affine, decode


def expected(dn, scale, offset, nodata):
    """Decoding spelled out in double precision."""
    values = dn.astype(float) * scale[:, :, None, None] + offset[:, :, None, None]
    return np.where(dn == nodata[:, :, None, None], np.nan, values).astype("float32")


@settings(max_examples=40, deadline=None)
@given(
    dn=hnp.arrays(
        st.sampled_from(["uint16", "int16"]),
        st.tuples(*(st.integers(0, 4),) * 4),
        elements=st.integers(0, 32767),
    ),
    nodata=st.sampled_from([0.0, -9999.0, 65535.0, 70000.0, np.nan, 0.5]),
)
def test_decoding_is_the_formula(dn, nodata):
    shape = dn.shape[:2]
    random = np.random.default_rng(0)
    scale, offset = random.uniform(1e-5, 1e-3, shape), random.uniform(-0.2, 0.1, shape)
    table = np.full(shape, nodata)
    actual = decode(dn, scale, offset, table)
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(actual, expected(dn, scale, offset, table))


@pytest.fixture
def numbers():
    return np.random.default_rng(0).integers(0, 12000, (2, 3, 5, 7)).astype("uint16")


def tables(scale=1e-4, offset=-0.1, nodata=0.0):
    return [np.full((2, 3), value) for value in (scale, offset, nodata)]


def test_nodata_is_tested_before_the_shift(numbers):
    numbers[0, 0, 0, :3] = [0, 999, 1000]
    result = decode(numbers, *tables())[0, 0, 0, :3]
    np.testing.assert_array_equal(np.isnan(result), [True, False, False])
    assert result[1] == np.float32(-0.0001)  # legal: darker than the offset
    assert result[2] == 0


def test_read_only_and_strided_blocks(numbers):
    whole = decode(numbers, *tables())
    numbers.flags.writeable = False
    np.testing.assert_array_equal(decode(numbers, *tables()), whole)
    for view, same in [
        (numbers[..., ::2], whole[..., ::2]),
        (numbers[:, :, ::-1], whole[:, :, ::-1]),
        (np.moveaxis(np.moveaxis(numbers, 1, -1).copy(), -1, 1), whole),
    ]:
        np.testing.assert_array_equal(decode(view, *tables()), same)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32", "float64"])
def test_every_dtype_gives_float32(numbers, dtype):
    values = (numbers % 200).astype(dtype)
    result = decode(values, *tables())
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, expected(values, *tables()))


def test_nan_stays_missing_in_float_blocks():
    values = np.array([np.nan, 0, 5000], "float64").reshape(1, 1, 1, 3)
    result = decode(values, *(np.full((1, 1), v) for v in (1e-4, 0.0, 0.0)))
    np.testing.assert_array_equal(np.isnan(result).ravel(), [True, True, False])


def test_sums_are_formed_in_double_precision():
    """2.75e-5 is not a float32: single precision would be off in the last place."""
    numbers = np.arange(7273, 43637, dtype="uint16").reshape(1, 1, 1, -1)
    result = affine(numbers, np.full((1, 1), 2.75e-5), np.full((1, 1), -0.2))
    exact = (numbers.astype("float64") * 2.75e-5 - 0.2).astype("float32")
    np.testing.assert_array_equal(result, exact)


def test_decoding_and_a_line_are_one_line(numbers):
    scale, offset, nodata = tables()
    once = affine(numbers, 0.9778 * scale, 0.9778 * offset - 0.004, nodata=nodata)
    twice = 0.9778 * decode(numbers, scale, offset, nodata) - 0.004
    np.testing.assert_allclose(once, twice, atol=1e-7)


def test_tables_of_another_shape_are_refused(numbers):
    with pytest.raises(ValueError, match=r"scale has shape|slope has shape \(3, 2\)"):
        affine(numbers, np.ones((3, 2)), np.ones((2, 3)))
