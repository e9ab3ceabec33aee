"""Kernels of resampling against a slow, literal computation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xharmonize.kernels.regrid import AxisMap, regrid_bits, regrid_mean
from xharmonize.kernels.reproject import pixel_weights, project_bits, project_mean

HOW = ["area", "nearest", "bilinear"]


def literal_mean(source, y, x, n_y, n_x, min_valid):
    """Overlap of every target pixel with every source pixel, one by one."""
    mean = np.full((n_y, n_x), np.nan)
    fraction = np.zeros((n_y, n_x))
    for j in range(n_y):
        for i in range(n_x):
            rows = sorted((y.first + y.step * j, y.first + y.step * (j + 1)))
            columns = sorted((x.first + x.step * i, x.first + x.step * (i + 1)))
            total = valid = 0.0
            for p in range(source.shape[0]):
                for q in range(source.shape[1]):
                    high = max(0.0, min(rows[1], p + 1) - max(rows[0], p))
                    wide = max(0.0, min(columns[1], q + 1) - max(columns[0], q))
                    if np.isfinite(source[p, q]):
                        total += high * wide * source[p, q]
                        valid += high * wide
            fraction[j, i] = valid / (abs(y.step) * abs(x.step))
            if valid > 0 and fraction[j, i] >= min_valid - 1e-9:
                mean[j, i] = total / valid
    return mean, fraction


def corners(y, x, n_y, n_x):
    """Corners of the target pixels of two axis maps."""
    row = y.first + y.step * np.arange(n_y + 1)
    column = x.first + x.step * np.arange(n_x + 1)
    return np.meshgrid(row, column, indexing="ij")


def projected(source, row, column, *, min_valid, method="area", origin=(0, 0)):
    """Mean and valid fraction of target pixels with these corners."""
    ends = [first + size for first, size in zip(origin, source.shape[-2:])]
    weights = pixel_weights(row, column, window=tuple(zip(origin, ends)), method=method)
    return project_mean(source, weights, min_valid=min_valid)


def images(shape, seed=0, missing=0.2, dtype="float32"):
    random = np.random.default_rng(seed)
    values = random.random(shape).astype(dtype)
    values[random.random(shape) < missing] = np.nan
    return values


@given(
    step=st.sampled_from([0.4, 1.0, 1.7, 3.0, -3.0, -1.0]),
    first=st.floats(-4, 4),
    seed=st.integers(0, 99),
    min_valid=st.sampled_from([0.0, 0.5, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_area_mean_equals_literal_overlap(step, first, seed, min_valid):
    source = images((7, 8), seed)
    y = AxisMap(first=first if step > 0 else first + 7, step=step, n_source=7)
    x = AxisMap(first=-first, step=abs(step), n_source=8)
    mean, fraction = regrid_mean(
        source, y.weights(0, 4, "area"), x.weights(0, 5, "area"), min_valid=min_valid
    )
    expected, share = literal_mean(source.astype(float), y, x, 4, 5, min_valid)
    np.testing.assert_allclose(fraction, share, atol=1e-5)
    clear = np.abs(share - min_valid) > 1e-5  # on the limit rounding may decide
    np.testing.assert_allclose(mean[clear], expected[clear], atol=2e-5, equal_nan=True)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("step", [0.4, 1.0, 3.0])
def test_projected_kernels_equal_separable_ones_on_straight_grids(how, step):
    source = images((2, 12, 13))
    y = AxisMap(first=-1.3, step=step, n_source=12)
    x = AxisMap(first=0.7, step=step, n_source=13)
    kwargs = {"min_valid": 0.4}
    expected = regrid_mean(source, y.weights(0, 5, how), x.weights(0, 6, how), **kwargs)
    actual = projected(source, *corners(y, x, 5, 6), method=how, **kwargs)
    for one, other in zip(actual, expected):
        np.testing.assert_allclose(one, other, atol=2e-6, equal_nan=True)


def test_area_of_a_turned_pixel_is_shared_exactly():
    source = np.zeros((1, 4, 4), "float32")
    source[0, 1, 1] = 1.0
    row = np.array([[1.0, 2.0], [2.0, 3.0]])  # a square standing on its corner, centred on (2, 2)
    column = np.array([[2.0, 3.0], [1.0, 2.0]])
    mean, fraction = projected(source, row, column, min_valid=0.5)
    assert mean[0, 0, 0] == pytest.approx(0.25)  # four pixels share it alike
    assert fraction[0, 0, 0] == pytest.approx(1.0)


@given(start=st.integers(0, 6), size=st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_weights_do_not_depend_on_the_block(start, size):
    for how in HOW:
        axis = AxisMap(first=-0.31, step=1.7, n_source=20)
        whole, part = axis.weights(0, 10, how), axis.weights(start, start + size, how)
        np.testing.assert_array_equal(part.index, whole.index[start : start + size])
        k = part.weight.shape[1]
        np.testing.assert_array_equal(part.weight, whole.weight[start : start + size, :k])


def test_window_position_does_not_change_a_bit():
    source = images((1, 40, 40))
    random = np.random.default_rng(1)
    row, column = np.meshgrid(np.linspace(10.1, 20.3, 6), np.linspace(11.7, 22.9, 6), indexing="ij")
    row, column = row + 0.2 * random.random(row.shape), column + 0.2 * random.random(row.shape)
    whole, _ = projected(source, row, column, min_valid=0.3)
    part, _ = projected(source[:, 7:30, 9:31], row, column, origin=(7, 9), min_valid=0.3)
    np.testing.assert_array_equal(part, whole)


def test_bits_are_any_of_the_overlapped_and_outside_is_said():
    source = np.array([[1, 2], [4, 8]], "uint16")
    axis = AxisMap(first=0.5, step=1.0, n_source=2)
    weights = axis.weights(0, 2, "area")
    actual = regrid_bits(source, weights, weights, outside=np.array([64], "uint16"))
    np.testing.assert_array_equal(actual, [[15, 2 | 8 | 64], [4 | 8 | 64, 8 | 64]])
    found = pixel_weights(*corners(axis, axis, 2, 2), window=((0, 2), (0, 2)), method="area")
    turned = project_bits(source, found, outside=np.array([64], "uint16"))
    np.testing.assert_array_equal(turned, actual)


def test_touching_pixels_have_no_share():
    """A thirtieth of a millimetre of rounding must not bring in a neighbour's flags."""
    axis = AxisMap(first=1e-9, step=3.0, n_source=6)
    assert axis.window(0, 1, "area") == (0, 3)


def test_negative_nodata_survives_nearest():
    source = np.array([[-9999, 5]], "int16")
    y = AxisMap(first=0.0, step=1.0, n_source=1).weights(0, 1, "nearest")
    x = AxisMap(first=-1.0, step=1.0, n_source=2).weights(0, 3, "nearest")
    actual = regrid_bits(source, y, x, outside=np.array([-9999], "int16"))
    np.testing.assert_array_equal(actual, [[-9999, -9999, 5]])


def test_nearest_centre_on_an_edge_takes_the_later_pixel():
    axis = AxisMap(first=0.0, step=2.0, n_source=4)
    np.testing.assert_array_equal(axis.weights(0, 2, "nearest").index, [1, 3])


@pytest.mark.parametrize("how", HOW)
def test_dtype_is_kept_and_constant_stays_constant(how):
    for dtype in ("float32", "float64"):
        source = np.full((1, 9, 9), 0.1, dtype)
        weights = AxisMap(first=1.2, step=2.3, n_source=9).weights(0, 3, how)
        mean, fraction = regrid_mean(source, weights, weights, min_valid=1.0)
        assert mean.dtype == dtype
        assert fraction.dtype == np.float32
        np.testing.assert_allclose(mean, np.dtype(dtype).type(0.1), rtol=1e-14, atol=0)
