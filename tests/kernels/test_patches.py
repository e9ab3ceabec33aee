"""Tiles cut, filled and put together: each kernel against the plain way to say it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xharmonize.kernels import patches, regrid
from xharmonize.kernels.regrid import AxisMap

FEW = settings(max_examples=25, deadline=None)
RANDOM = np.random.default_rng(0)


@given(
    low=st.integers(-20, 20),
    size=st.integers(1, 9),
    start=st.integers(-60, 60),
    n=st.integers(1, 50),
)
@FEW
def test_reflect_is_numpys_symmetric_padding(low, size, start, n):
    padded = np.pad(np.arange(low, low + size), 200, mode="symmetric")
    expected = padded[start - low + 200 :][:n]
    found = patches.reflect(start, start + n, low, low + size)
    np.testing.assert_array_equal(found, expected)
    assert patches.reflected_span(start, start + n, low, low + size) == (
        expected.min(),
        expected.max() + 1,
    )


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("first", [(0, 0), (-1, -1), (1, 0)])
def test_decimate_takes_back_what_was_held(factor, first):
    coarse = RANDOM.random((2, 3, 5, 6), np.float32)
    held = coarse.repeat(factor, 2).repeat(factor, 3)
    held = np.pad(held, ((0, 0), (0, 0), (max(first[0], 0), 0), (max(first[1], 0), 0)))
    held = held[:, :, max(-first[0], 0) :, max(-first[1], 0) :]
    held = np.where(RANDOM.random(held.shape) < 0.3, np.nan, held).astype("f4")
    found, spread = patches.decimate(held, factor, first, (5, 6))
    is_there = np.isfinite(found)
    assert is_there.mean() > 0.8
    np.testing.assert_array_equal(found[is_there], coarse[is_there])
    assert spread == 0
    # Nothing is lost that any sub-pixel has.
    rows = (np.arange(held.shape[2]) - first[0]) // factor
    columns = (np.arange(held.shape[3]) - first[1]) // factor
    seen = np.zeros((2, 3, 7, 8), bool)
    for y, x in np.ndindex(held.shape[2:]):
        seen[:, :, rows[y], columns[x]] |= np.isfinite(held[:, :, y, x])
    np.testing.assert_array_equal(is_there, seen[:, :, :5, :6])


@pytest.mark.parametrize("factor", [2, 3])
def test_decimate_tells_how_far_sub_pixels_differ(factor):
    held = np.zeros((1, 1, 12, 12), np.float32)
    held[0, 0, 7, 4], held[0, 0, 2, 2], held[0, 0, 2, 1] = 0.25, np.nan, -0.01
    assert patches.decimate(held, factor, (0, 0), (12 // factor, 12 // factor))[1] == 0.25


def nearest_fill(image: np.ndarray) -> np.ndarray:
    out = image.copy()
    full = [y for y in range(len(image)) if np.isfinite(image[y]).any()]
    for y in full:
        valid = np.flatnonzero(np.isfinite(image[y]))
        for x in range(image.shape[1]):
            out[y, x] = image[y, valid[np.argmin(np.abs(valid - x))]]
    for y in set(range(len(image))) - set(full):
        out[y] = out[full[int(np.argmin(np.abs(np.array(full) - y)))]]
    return out


@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
    is_mirrored=st.booleans(),
)
@FEW
def test_cut_fills_from_the_nearest_and_normalises(shape, share, seed, is_mirrored):
    random = np.random.default_rng(seed)
    image = random.random((2, 12, 13), np.float32)
    image[random.random(image.shape) < share] = np.nan
    image[random.random(image.shape) < share / 10] = np.inf
    rows = np.arange(2, 2 + shape[0])
    columns = np.arange(3, 3 + shape[1])
    if is_mirrored:
        rows, columns = rows[::-1], np.minimum(columns, 8)
    out = np.empty((2, *shape), np.float32)
    mean, scale = np.array([0.1, 0.2], "f4"), np.array([0.5, 0.25], "f4")
    is_whole = patches.cut(image, rows, columns, mean, scale, out)
    tile = np.where(np.isfinite(image), image, np.nan)[:, rows[:, None], columns]
    assert is_whole == np.isfinite(tile).any(axis=(1, 2)).all()
    if is_whole:
        filled = np.stack([nearest_fill(band) for band in tile])
        expected = (filled - mean[:, None, None]) / scale[:, None, None]
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@given(
    first=st.integers(-6, 6),
    step=st.sampled_from([1 / 3, 1.0, 1.5, 3.0]),
    shift=st.sampled_from([0.0, 0.5]),
    share=st.sampled_from([0.0, 0.3]),
)
@FEW
def test_judge_is_the_exact_share_of_what_lies_under(first, step, shift, share):
    images = RANDOM.random((2, 12, 14), np.float32)
    images[0][RANDOM.random((12, 14)) < share] = np.nan
    axes = []
    for size in (12, 14):
        found = AxisMap(first=first + shift, step=step, n_source=size).weights(0, 6, "area")
        axes.append((found.index, found.weight / step))
    low, high = np.array([0.1, 0.0], "f4"), np.array([1.0, 0.8], "f4")
    valid, is_missing, is_strange = regrid.judge(images, *axes, low, high)
    for j, i in np.ndindex(6, 6):
        weight = np.zeros((12, 14))
        for v, a in zip(axes[0][0][j] + np.arange(axes[0][1].shape[1]), axes[0][1][j]):
            for u, b in zip(axes[1][0][i] + np.arange(axes[1][1].shape[1]), axes[1][1][i]):
                if 0 <= v < 12 and 0 <= u < 14:
                    weight[v, u] += a * b
        there = np.isfinite(images)
        assert abs(valid[j, i] - (weight * there).sum(axis=(1, 2)).min()) < 1e-6
        assert is_missing[j, i] == ((weight > 0) & ~there).any()
        out = (images < low[:, None, None]) | (images > high[:, None, None])
        assert is_strange[j, i] == ((weight > 0) & there & out).any()


@pytest.mark.parametrize(("tile", "buffer"), [(16, 4), (16, 2), (12, 3), (9, 0)])
def test_ramps_of_neighbours_sum_to_one(tile, buffer):
    stride = tile - 2 * buffer
    total = np.zeros(stride * 4 + tile, np.float32)
    for number in range(5):
        total[number * stride : number * stride + tile] += patches.ramp(tile, buffer)
    np.testing.assert_array_equal(total[2 * buffer : 5 * stride], 1.0)


def test_add_tile_weights_what_it_adds():
    values = RANDOM.random((2, 3, 4), np.float32)
    out = np.ones((2, 3, 4), np.float32)
    y, x = np.array([0, 0.5, 1], "f4"), np.array([1, 1, 0.25, 0], "f4")
    scale, mean = np.array([2, 3], "f4"), np.array([0.1, 0.2], "f4")
    patches.add_tile(values, y, x, scale, mean, out)
    expected = 1 + (values * scale[:, None, None] + mean[:, None, None]) * np.outer(y, x)
    np.testing.assert_allclose(out, expected, rtol=1e-6)


@given(radius=st.integers(0, 9), seed=st.integers(0, 20))
@FEW
def test_spread_is_a_square(radius, seed):
    mask = np.random.default_rng(seed).random((11, 7)) < 0.05
    expected = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        expected[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1] = True
    np.testing.assert_array_equal(regrid.spread(mask, radius), expected)
