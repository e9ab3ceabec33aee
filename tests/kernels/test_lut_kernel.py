"""Look-up tables against np.interp, and digital numbers against reflectance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xharmonize.kernels import lut
from xharmonize.kernels.reflectance import decode


def _case(random, shape, n_rows, n_columns, n_knots, n_tables):
    n_bands, n_y, n_x = shape[1:]
    values = random.normal(0.2, 0.2, shape).astype("float32")
    values[random.random(shape) < 0.1] = np.nan
    low = random.uniform(-0.1, 0.05, n_bands)
    high = low + random.uniform(0.2, 0.6, n_bands)
    tables = np.sort(random.random((n_tables, n_rows, n_columns, n_bands, n_knots)), axis=-1)
    rows = np.minimum(np.arange(n_y) * n_rows // n_y, n_rows - 1)
    columns = np.minimum(np.arange(n_x) * n_columns // n_x, n_columns - 1)
    return values, tables, low, high, rows, columns


def _interp(values, tables, low, high, rows, columns):
    expected = np.empty(values.shape)
    for t, b, y, x in np.ndindex(values.shape):
        table = tables[t if len(tables) > 1 else 0, rows[y], columns[x], b]
        knots = np.linspace(low[b], high[b], table.size)
        expected[t, b, y, x] = np.interp(values[t, b, y, x], knots, table)
    return expected


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 3)] * 2, st.integers(1, 9), st.integers(1, 20)),
    tiles=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    knots=st.integers(2, 300),
    single=st.booleans(),
    seed=st.integers(0, 99),
)
def test_tables_are_linear_between_knots_and_held_at_the_ends(shape, tiles, knots, single, seed):
    random = np.random.default_rng(seed)
    case = _case(random, shape, *tiles, knots, 1 if single else shape[0])
    actual = lut.apply_tables(*case)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, _interp(*case), rtol=0, atol=2e-4 if knots > 50 else 1e-5)


def test_smooth_tables_are_exact_to_single_precision():
    random = np.random.default_rng(0)
    values, tables, *rest = _case(random, (1, 2, 30, 50), 1, 1, 256, 1)
    tables = np.broadcast_to(np.linspace(0.02, 0.5, 256) ** 1.2, tables.shape)
    expected = _interp(values, tables, *rest)
    np.testing.assert_allclose(lut.apply_tables(values, tables, *rest), expected, atol=1.5e-7)


def test_missing_values_and_empty_tables_give_missing_results():
    values = np.array([np.nan, np.inf, -np.inf, 0.5, -1, 2], "float32").reshape(1, 1, 1, 6)
    place = np.zeros(1, int), np.zeros(6, int)
    table = np.array([0.2, 0.5]).reshape(1, 1, 1, 1, 2)
    actual = lut.apply_tables(values, table, np.zeros(1), np.ones(1), *place).ravel()
    np.testing.assert_allclose(actual, [np.nan, np.nan, np.nan, 0.35, 0.2, 0.5], atol=1e-7)
    empty = np.full_like(table, np.nan)
    assert np.isnan(lut.apply_tables(values, empty, np.zeros(1), np.ones(1), *place)).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32"])
@pytest.mark.parametrize("side", [5, 300])
@pytest.mark.parametrize("single", [True, False])
def test_digital_numbers_equal_reflectance_bit_by_bit(dtype, side, single):
    """By the dense table (large tiles) and by two steps, whichever is taken."""
    random = np.random.default_rng(1)
    shape = (2, 2, side, side)
    _, tables, low, high, rows, columns = _case(random, shape, 2, 2, 256, 1 if single else 2)
    info = np.iinfo(dtype)
    dn = random.integers(max(info.min, -9999), min(info.max, 40_000), shape).astype(dtype)
    dn[..., 0] = 7
    lines = np.full((2, 2), 1e-4), np.array([[-0.1, 0.0], [-0.1, -0.1]]), np.full((2, 2), 7.0)
    expected = lut.apply_tables(decode(dn, *lines), tables, low, high, rows, columns)
    scale, offset, nodata = lines
    actual = lut.apply_tables_to_dn(
        dn[..., ::-1][..., ::-1],
        tables,
        low,
        high,
        rows,
        columns,
        scale=scale,
        offset=offset,
        nodata=nodata,
    )
    np.testing.assert_array_equal(actual, expected)
    assert np.isnan(actual[..., 0]).all()


def test_blended_tables_are_the_weighted_mean_of_four():
    random = np.random.default_rng(2)
    values, tables, low, high, *_ = _case(random, (2, 2, 6, 40), 2, 2, 64, 2)
    tables = tables.astype("float32")
    places = [(np.full(6, j), np.full(40, i)) for j in (0, 1) for i in (0, 1)]
    four = [lut.apply_tables(values, tables, low, high, *place) for place in places]
    v, w = np.linspace(0, 1, 6)[:, None], np.linspace(0, 1, 40)
    weights = ((1 - v) * (1 - w), (1 - v) * w, v * (1 - w), v * w)
    expected = sum(weight * part for weight, part in zip(weights, four))
    first = np.zeros(6, int), np.zeros(40, int)
    actual = lut.blend_tables(values, tables, low, high, *first, v.ravel(), w)
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_blending_leaves_out_tiles_without_a_table():
    values = np.full((1, 1, 3, 3), 0.5, "float32")
    tables = np.arange(4.0).reshape(1, 2, 2, 1, 1) * np.ones(2)
    tables[0, 0, 0] = np.nan
    weight = np.array([0, 0.5, 1])
    actual = lut.blend_tables(
        values, tables, np.zeros(1), np.ones(1), *[np.zeros(3, int)] * 2, weight, weight
    )[0, 0]
    expected = [[np.nan, 1, 1], [2, (1 + 2 + 3) / 3, 2], [2, 2.5, 3]]
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_values_beyond_the_range_are_flagged():
    values = np.array([[0.1, np.nan], [0.31, -0.01], [0.3, 0.0]], "float32").reshape(1, 1, 3, 2)
    flags = np.full((1, 3, 2), 1, "uint8")
    lut.flag_outside(values, np.zeros(1), np.array([0.3]), flags, 2)
    assert flags[0].tolist() == [[1, 1], [3, 3], [1, 1]]


def test_missing_neighbours_are_filled_by_the_valid_ones():
    values = np.array([[1, 2, np.nan], [3, np.nan, np.nan], [np.nan] * 3], "float32")
    filled = lut.fill_from_neighbours(values[None, None])[0, 0]
    np.testing.assert_allclose(filled, [[1, 2, 2], [3, 2, 2], [3, 3, 0]])
