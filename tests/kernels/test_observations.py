"""Several observations made one, against loops over single values."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from xharmonize.kernels import observations

SHAPE = (4, 3)
valids = npst.arrays(bool, SHAPE)
numbers = npst.arrays("float32", SHAPE, elements=st.floats(-1, 1, width=32))
flags = npst.arrays("uint16", SHAPE)


@given(valids, numbers)
def test_first_and_mean(valid, values):
    first, mean = observations.first_valid(valid, values), observations.mean_valid(valid, values)
    assert first.shape == mean.shape == (1, SHAPE[1])
    assert first.dtype == mean.dtype == np.float32
    for i in range(SHAPE[1]):
        given_by = values[valid[:, i], i]
        np.testing.assert_equal(first[0, i], given_by[0] if given_by.size else values[0, i])
        expected = given_by.mean(dtype="float64") if given_by.size else np.nan
        np.testing.assert_allclose(mean[0, i], expected, atol=1e-7)


# Of subnormal numbers, float32 has not the digits that are asked for.
ERRORS = st.floats(0, 1, width=32, allow_subnormal=False)


@given(valids, npst.arrays("float32", SHAPE, elements=ERRORS))
def test_error_of_mean(valid, error):
    found = observations.error_of_mean(valid, error)
    for i in range(SHAPE[1]):
        known = error[valid[:, i], i].astype("float64")
        expected = np.sqrt((known**2).sum()) / known.size if known.size else np.nan
        np.testing.assert_allclose(found[0, i], expected, rtol=1e-6)


@given(valids, flags)
def test_flags_are_of_the_observations_that_count(valid, values):
    found = observations.flags_of_valid(valid, values)
    for i in range(SHAPE[1]):
        counted = values[valid[:, i], i] if valid[:, i].any() else values[:, i]
        assert found[0, i] == np.bitwise_or.reduce(counted)
