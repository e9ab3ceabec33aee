"""Eager or lazy, and which blocks hold a window: asked once, answered in one place."""

from __future__ import annotations

import ast
from functools import partial
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.blockwise import optimize_blockwise
from dask.utils import key_split
from hypothesis import given
from hypothesis import strategies as st

from xharmonize.cube import blockwise
from xharmonize.testing import no_compute

PACKAGE = Path(blockwise.__file__).parents[1]
ONE_PLACE = PACKAGE / "cube" / "blockwise.py"
# Blocks that read or write files where they lie: lazy whatever they are given, and told by Dask
# which block they are; figures and the simulator stand apart.
OWN_GRAPHS = {
    "io/cog/opening.py",
    "io/zarr/write.py",
    "plot/scatter.py",
    "simulate/truth.py",
}


def numbers(*shape):
    return np.arange(np.prod(shape), dtype=np.float64).reshape(shape)


def line(values, slope, offset):
    return values * slope[..., None, None] + offset[..., None, None]


def both(function, signature, *arrays, chunks, **settings):
    """The result of numpy arrays, and of dask ones built without computing."""
    eager = blockwise.map_blocks(function, signature, *arrays, **settings)
    with no_compute():
        lazy = [da.from_array(a, c) if c else a for a, c in zip(arrays, chunks)]
        lazy = blockwise.map_blocks(function, signature, *lazy, **settings)
    assert isinstance(eager, np.ndarray)
    assert isinstance(lazy, da.Array)
    assert (lazy.shape, lazy.dtype) == (eager.shape, lazy._meta.dtype)
    np.testing.assert_array_equal(lazy, eager)
    return lazy


def test_tables_are_cut_like_the_pixels():
    values, slope, offset = numbers(3, 2, 5, 7), numbers(3, 2), numbers(3, 1)
    chunks = [(1, 1, 2, 3), None, None]
    settings = {"dtype": "f8", "name": "line"}
    found = both(line, "tbyx,tb,tb->tbyx", values, slope, offset, chunks=chunks, **settings)
    assert found.chunks == ((1, 1, 1), (1, 1), (2, 2, 1), (3, 3, 1))
    assert {key_split(k) for k in found.dask.layers} >= {"line"}


def test_a_lazy_table_makes_the_result_lazy():
    found = both(
        line,
        "tbyx,tb,tb->tbyx",
        numbers(2, 3, 4, 4),
        numbers(2, 3),
        numbers(2, 3),
        chunks=[None, (1, 3), (2, 1)],
        dtype="f8",
        name="line",
    )
    assert found.chunks == ((1, 1), (3,), (4,), (4,))


def test_dimensions_that_vanish_appear_and_change_their_length():
    def block(values):
        assert values.shape[:2] == (4, 3)
        return np.stack([values.sum(axis=1)[:2], values.max(axis=1)[:2]])

    found = both(
        block,
        "tb...->kt...",
        numbers(4, 3, 5, 6),
        chunks=[(1, 1, 2, 4)],
        new={"k": 2},
        sizes={"t": 2},
        whole="t",
        dtype="f8",
        name="stack",
    )
    assert found.chunks == ((2,), (2,), (2, 2, 1), (4, 2))


def test_an_ellipsis_is_aligned_from_the_last_dimension():
    found = both(
        np.add,
        "...,...->...",
        numbers(3, 4, 5),
        numbers(3, 1, 1),
        chunks=[(1, 2, 3), None],
        dtype="f8",
        name="add",
    )
    assert found.chunks == ((1, 1, 1), (2, 2), (3, 2))
    assert blockwise._letters("t...,...->t...", [4, 2]) == (["tζηθ", "ηθ"], "tζηθ")


def test_the_dtype_stated_is_that_of_the_result_and_of_its_meta():
    array = da.ones((4, 4), chunks=2, dtype="u2")
    found = blockwise.map_blocks(
        lambda v: v.astype("f4"), "yx->yx", array, dtype="f4", name="to-float"
    )
    assert found.dtype == found._meta.dtype == found.compute().dtype == np.float32


def test_the_same_work_has_the_same_name_and_other_work_another():
    array = da.ones((4, 4), chunks=2)
    named = [
        blockwise.map_blocks(partial(np.add, n), "yx->yx", array, dtype="f8", name="add").name
        for n in (1, 1, 2)
    ]
    assert named[0] == named[1] != named[2]


def tasks_of(array):
    (optimized,) = dask.optimize(array)
    return [key for key in optimized.__dask_graph__() if not str(key[0]).startswith("array")]


def read(blocks, seen):
    seen.append(blocks.shape)
    return blocks + 1


def test_steps_that_keep_their_blocks_are_one_task_for_each():
    """Tables of several columns and dimensions that vanish do not end a task."""
    source, seen = da.from_array(numbers(4, 3, 6, 8), (1, 3, 3, 4)), []
    table = numbers(4, 3, 2)
    read_ = blockwise.map_blocks(
        partial(read, seen=seen), "tbyx->tbyx", source, dtype="f8", name="read"
    )
    decoded = blockwise.map_blocks(
        lambda v, t: v * t[..., 0, None, None] + t[..., 1, None, None],
        "tbyx,tbk->tbyx", read_, table, dtype="f8", name="decode",
    )  # fmt: skip
    total = blockwise.map_blocks(lambda v: v.sum(1), "tbyx->tyx", decoded, dtype="f8", name="total")
    assert len(tasks_of(total)) == 4 * 2 * 2
    expected = (np.asarray(source) + 1) * table[..., :1, None] + table[..., 1:, None]
    np.testing.assert_allclose(total.compute(scheduler="sync"), expected.sum(1), rtol=1e-12)
    assert len(seen) == 4 * 2 * 2


@pytest.mark.parametrize("signature", ["tbyx,tyx->tbyx", "tbyx,tb->tbyx", "tbyx,k->tbyx"])
def test_a_block_that_serves_several_is_computed_once(signature):
    """One quality layer for all bands, one table for all pixels: neither is made for each."""
    sizes, cuts, seen = dict(zip("tbyxk", (2, 3, 6, 8, 5))), dict(zip("tbyxk", (1, 1, 3, 4, 5))), []
    letters = signature[5:].partition("->")[0]
    shape, chunks = ([one[d] for d in letters] for one in (sizes, cuts))
    beside = da.from_array(numbers(*shape), chunks)
    once = blockwise.map_blocks(
        partial(read, seen=seen), f"{letters}->{letters}", beside, dtype="f8", name="read"
    )
    pixels = da.from_array(numbers(2, 3, 6, 8), (1, 1, 3, 4))
    found = blockwise.map_blocks(
        lambda v, w: v + w.sum(), signature, pixels, once, dtype="f8", name="use"
    )
    found.compute(scheduler="sync")
    assert len(seen) == beside.npartitions


def test_an_axis_that_a_step_before_has_made_may_vanish():
    """Dask takes the length of a new axis for that of whichever axis it is fused with."""
    source = da.from_array(numbers(4, 6), (1, 3))
    wide = blockwise.map_blocks(
        lambda v: np.stack([v, -v], -1), "tx->txk", source, new={"k": 2}, dtype="f8", name="wide"
    )
    sums = blockwise.map_blocks(
        lambda v: v.sum(-1) + 1, "txk->tx", wide + 0.5, dtype="f8", name="sums"
    )
    np.testing.assert_array_equal(sums, np.full((4, 6), 2.0))
    fused = optimize_blockwise(sums.dask, keys=[sums.name])
    assert len(fused.layers[sums.name]) == sums.npartitions


def test_arrays_that_do_not_fit_are_refused_while_the_graph_is_built():
    with pytest.raises(ValueError, match="'y' has 4 and 5 elements"):
        blockwise.map_blocks(
            np.add, "y,y->y", da.ones(4, chunks=2), np.ones(5), dtype="f8", name="add"
        )


def test_tables_lie_beside_blocks_of_pixels():
    def block(pixels, tables):
        return pixels + tables.sum()

    pixels, tables = da.zeros(6, chunks=(2, 4)), np.arange(5.0)
    found = blockwise.map_blocks(
        block, "y,Y->y", pixels, tables, paired={"Y": ("y", (3, 2))}, dtype="f8", name="beside"
    )
    np.testing.assert_array_equal(found, [3, 3, 7, 7, 7, 7])


@pytest.mark.parametrize("shape", [(9, 8), (1, 8), (2, 1)])
@pytest.mark.parametrize("chunks", [(9, 8), (2, 3), (1, 1)])
@pytest.mark.parametrize("fill", [None, -1.0])
def test_margins_hold_what_lies_around_a_block(shape, chunks, fill):
    values, margin = numbers(*shape), {0: 2, 1: 1}

    lazy = da.from_array(values, chunks=chunks)
    padded = blockwise.with_margin(lazy, margin, fill=fill)
    if fill is None:
        grown = blockwise.map_blocks(_reach, "yx->yx", padded, dtype="f8", name="grow")
        grown = blockwise.without_margin(grown, lazy, margin)
        assert grown.chunks == lazy.chunks
        np.testing.assert_array_equal(grown, _reach(blockwise.with_margin(values, margin)))
        return
    sizes = [tuple(n - 2 * margin[axis] for n in own) for axis, own in enumerate(padded.chunks)]
    summed = blockwise.map_blocks(
        _sum_around, "yx->yx", padded, sizes=dict(zip("yx", sizes)), dtype="f8", name="sum"
    )
    expected = _sum_around(blockwise.with_margin(values, margin, fill=fill))
    np.testing.assert_array_equal(summed, expected)


def _reach(values):
    """Largest value within two rows and one column, as far as the block reaches."""
    edge = np.pad(values, ((2, 2), (1, 1)), constant_values=-np.inf)
    n_y, n_x = values.shape
    around = [edge[i : i + n_y, j : j + n_x] for i in range(5) for j in range(3)]
    return np.max(around, axis=0)


def _sum_around(padded):
    n_y, n_x = padded.shape[0] - 4, padded.shape[1] - 2
    return sum(padded[i : i + n_y, j : j + n_x] for i in range(5) for j in range(3))


sizes = st.lists(st.integers(1, 5), min_size=1, max_size=5)


@given(st.data(), sizes, sizes)
def test_a_window_is_cut_from_the_blocks_that_hold_it(data, rows, columns):
    values = numbers(2, sum(rows), sum(columns))
    spans = []
    for n in values.shape[1:]:
        first = data.draw(st.integers(0, n - 1))
        spans.append((first, data.draw(st.integers(first + 1, n))))
    lazy = da.from_array(values, chunks=((1, 1), tuple(rows), tuple(columns)))
    held = [blockwise.blocks_holding(s, c) for s, c in zip(spans, lazy.chunks[1:])]
    key = ("window", 1)
    task = blockwise.window_task(key, np.add, [lazy.name], (1,), *held, 1.0)
    assert len(task.dependencies) == len(held[0][0]) * len(held[1][0])
    found = dask.get({**lazy.dask, key: task}, key)
    (y0, y1), (x0, x1) = spans
    np.testing.assert_array_equal(found, values[1:, y0:y1, x0:x1] + 1)


def test_an_empty_window_is_held_by_no_block():
    assert blockwise.blocks_holding((3, 3), (2, 2)) == (range(0), (0, 0))


def test_what_is_lazy():
    lazy = da.ones((2, 2), chunks=1)
    assert blockwise.is_lazy(lazy)
    assert blockwise.is_lazy(xr.DataArray(lazy))
    assert blockwise.is_lazy(xr.Variable(("y", "x"), lazy))
    for array in (np.ones(2), [1.0], xr.DataArray(np.ones(2))):
        assert not blockwise.is_lazy(array)


def _calls(tree):
    """Names of attributes that are called or tested on in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"
        if isinstance(node, ast.Attribute):
            yield node.attr
        if isinstance(node, ast.ImportFrom):
            yield f"{node.module}"


def test_no_other_module_decides_between_eager_and_lazy():
    banned = {"da.map_blocks", "da.blockwise", "da.map_overlap", "xr.apply_ufunc"}
    banned |= {"dask._task_spec", "HighLevelGraph", "dask.array.overlap"}
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        text = path.read_text(encoding="utf-8")
        if path == ONE_PLACE or name in OWN_GRAPHS:
            continue
        wrong = banned & set(_calls(ast.parse(text)))
        if wrong or ("isinstance" in text and ", da.Array)" in text):
            found[name] = sorted(wrong)
    assert found == {}
