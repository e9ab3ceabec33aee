"""Blockwise computation, eager or lazy: the only module that builds Dask graphs.

Callers pass a block function and the dimensions of its arrays. Arrays in memory are computed
immediately; if any array is lazy, a graph of block tasks is built and nothing is computed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, TypeAlias

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr

# Tasks that name their inputs. A tuple, dask's documented form, is searched for keys and further
# tasks in all its arguments and translated into these first: slow, and wrong where an argument is
# a tuple that looks like a key. dask has not published the classes yet; only this module names
# them, so that the day they move (constraints.txt pins dask) is mended here.
from dask._task_spec import List, TaskRef, convert_legacy_graph
from dask._task_spec import Task as Task
from dask.base import optimize, tokenize
from dask.blockwise import Blockwise
from dask.highlevelgraph import HighLevelGraph

from xharmonize.types import AnyArray

Span: TypeAlias = tuple[int, int]
"""First index, and the one after the last."""

Held: TypeAlias = tuple[range, Span]
"""Blocks of one axis, and a span counted from the start of the first of them."""

Sizes: TypeAlias = int | tuple[int, ...]

_TRAILING = "αβγδεζηθ"
"""Letters that an ellipsis stands for, aligned from the last dimension on."""


def is_lazy(array: Any) -> bool:
    """Whether an array is a Dask array, or an xarray object that wraps one."""
    if isinstance(array, (xr.DataArray, xr.Variable)):
        return array.chunks is not None  # `.data` would load arrays backed by a file
    return isinstance(array, da.Array)


def chunks_of(array: Any) -> tuple[tuple[int, ...], ...]:
    """Chunks of an array along each dimension; a single chunk for arrays in memory."""
    found: tuple[tuple[int, ...], ...] = (
        array.chunks if is_lazy(array) else tuple((size,) for size in np.shape(array))
    )
    return found


def map_blocks(
    function: Callable[..., Any],
    signature: str,
    *arrays: Any,
    name: str,
    dtype: npt.DTypeLike,
    new: Mapping[str, Sizes] | None = None,
    sizes: Mapping[str, Sizes] | None = None,
    whole: str = "",
    paired: Mapping[str, tuple[str, tuple[int, ...]]] | None = None,
    on_host: bool = False,
) -> Any:
    """Apply a block function to arrays: immediately to arrays in memory, else as a graph.

    Parameters
    ----------
    function : callable
        ``function(*blocks)`` returns one block of the result.
    signature : str
        One letter per dimension of each array and of the result, as for `numpy.einsum`:
        ``"tbyx,tb->tbyx"``. An ellipsis stands for all other dimensions, aligned from the last.
        A dimension missing from the result is kept in one block. Arrays that share a dimension
        are rechunked like the first lazy one; dimensions of length 1 are broadcast.
    *arrays : array
        NumPy, CuPy or Dask arrays, or sequences of numbers.
    name : str
        Prefix of the task names.
    dtype : dtype
        Type of the result.
    new : mapping of str to int or tuple of int, optional
        Length, or chunks, of dimensions that no input array has.
    sizes : mapping of str to int or tuple of int, optional
        Chunks of the result along dimensions whose length the function changes; a number is the
        length of each block.
    whole : str
        Dimensions of the result to keep in one block.
    paired : mapping of str to (str, tuple of int), optional
        Dimensions whose chunks, given here, match those of another dimension block by block, such
        as the tables of the tiles under each block of pixels.
    on_host : bool
        Whether the function returns NumPy arrays even for blocks in GPU memory.

    Returns
    -------
    array
        Lazy if any of `arrays` is.
    """
    if not any(map(is_lazy, arrays)):
        return function(*map(_as_array, arrays))
    inputs, out = _letters(signature, [np.ndim(array) for array in arrays])
    gathered = {*whole} | {*"".join(inputs)} - {*out}
    chunks = _common_chunks(arrays, inputs, gathered)
    beside = paired or {}
    chunks |= {letter: own for letter, (_, own) in beside.items()}
    cut = [
        _cut(array, [chunks[d] if n != 1 else (1,) for d, n in zip(letters, np.shape(array))])
        for array, letters in zip(arrays, inputs)
    ]
    blocks = str.maketrans({letter: other for letter, (other, _) in beside.items()})
    pairs = _fusible(cut, [letters.translate(blocks) for letters in inputs], out)
    first = next(part for part, array in zip(cut, arrays) if is_lazy(array))
    like = {} if on_host else {"like": first._meta}
    own = {d: chunks[d] for d in out if d in chunks}
    return da.blockwise(
        function,
        out,
        *(item for pair in pairs for item in pair),
        new_axes=dict(new or {}),
        adjust_chunks=own | dict(sizes or {}),
        align_arrays=False,  # they are cut alike; aligning once more warns of many chunks
        concatenate=True,
        dtype=np.dtype(dtype),
        meta=np.empty((0,) * len(out), dtype, **like),
        token=name,
    )


def element(array: Any, k: int, *, dtype: npt.DTypeLike, name: str) -> Any:
    """Return element `k` of the last dimension, which a lazy array has in one chunk.

    `map_blocks` would do; but results that many variables are cut from are small, and its costs
    for each of them would exceed those of computing.

    Parameters
    ----------
    array : (..., m) array
        NumPy or Dask.
    k : int
        Position along the last dimension.
    dtype : dtype
        Type of the result.
    name : str
        Prefix of the task names.

    Returns
    -------
    (...) array
        Lazy if `array` is, one task per block.
    """
    if not is_lazy(array):
        return _element(array, k, dtype)
    if array.numblocks[-1] != 1:
        raise ValueError(f"the last dimension is cut into {array.chunks[-1]}")
    own = f"{name}-{tokenize(array.name, k, np.dtype(dtype).str)}"
    keys = [(own, *index) for index in np.ndindex(*array.numblocks[:-1])]
    tasks = {
        key: task(key, _element, block_of(array.name, (*key[1:], 0)), k, dtype) for key in keys
    }
    meta = np.empty((0,) * (array.ndim - 1), dtype, like=array._meta)
    return array_of(own, tasks, sources=[array], chunks=array.chunks[:-1], meta=meta)


def _element(block: AnyArray, k: int, dtype: npt.DTypeLike) -> AnyArray:
    return np.asarray(block[..., k], dtype)


def _letters(signature: str, n_dims: Sequence[int]) -> tuple[list[str], str]:
    """Letters of each array and of the result, ellipses written out."""
    before, out = signature.split("->")
    inputs = before.split(",")
    free = [n - len(part.replace("...", "")) for n, part in zip(n_dims, inputs, strict=True)]
    trailing = [_TRAILING[len(_TRAILING) - n :] for n in free]
    longest = max((t for t, part in zip(trailing, inputs) if "..." in part), key=len, default="")
    written = [part.replace("...", t) for part, t in zip(inputs, trailing)]
    return written, out.replace("...", longest)


def _common_chunks(
    arrays: Sequence[Any], inputs: Sequence[str], gathered: set[str]
) -> dict[str, tuple[int, ...]]:
    """Chunks of each dimension: those of the first lazy array that is not broadcast along it."""
    found: dict[str, tuple[int, ...]] = {}
    # A stable sort: lazy arrays come first, in the order given.
    for array, letters in sorted(zip(arrays, inputs), key=lambda pair: not is_lazy(pair[0])):
        for letter, own in zip(letters, chunks_of(array), strict=True):
            held = sum(found.get(letter, (1,)))
            if sum(own) not in (1, held) and held != 1:
                raise ValueError(f"dimension {letter!r} has {held} and {sum(own)} elements")
            if letter not in found or held == 1 != sum(own):
                found[letter] = (sum(own),) if letter in gathered else own
    return found


def _fusible(
    arrays: Sequence[da.Array], inputs: Sequence[str], out: str
) -> list[tuple[da.Array, str]]:
    """Arrays and letters such that Dask makes one task of steps where nothing is done twice.

    Dask takes a dimension that the result lacks for a reduction, which ends the task. Here it lies
    in one block; under the letter of a dimension of the result, that block serves all. And where
    a block serves several, Dask would put its steps into the task of each: they get their own.
    """
    n_blocks: dict[str, int] = dict.fromkeys("".join(inputs), 1)
    for array, letters in zip(arrays, inputs):
        n_blocks |= {d: n for d, n in zip(letters, array.numblocks) if n > 1}
    shared = next((d for d in out if d in n_blocks), "")
    found = []
    for array, letters in zip(arrays, inputs):
        may_fuse = isinstance(array.dask.layers.get(array.name), Blockwise)
        cut_along = {d for d, n in zip(letters, array.numblocks) if n > 1}
        serves_several = any(n_blocks.get(d, 1) > 1 for d in {*out} - cut_along)
        if shared and not (may_fuse and (serves_several or _adds_axes(array))):
            letters = "".join(d if d in out else shared for d in letters)
        found.append((_by_itself(array) if may_fuse and serves_several else array, letters))
    return found


def _adds_axes(array: da.Array) -> bool:
    """Whether a step made an axis: fused, Dask would give its length to that of another letter."""
    return any(getattr(layer, "new_axes", None) for layer in array.dask.layers.values())


def _by_itself(array: da.Array) -> da.Array:
    """An array whose blocks are computed once, for all who use them.

    Reducing a dimension, here of one element, is what ends a task for Dask.
    """
    letters = _TRAILING[: array.ndim]
    end = da.from_array(np.zeros(1))
    once: da.Array = da.blockwise(
        _first, letters, array, letters, end, "z", concatenate=True, meta=array._meta, token="once"
    )
    return once


def _first(block: AnyArray, _: AnyArray) -> AnyArray:
    return block


def _as_array(array: Any) -> Any:
    return array if hasattr(array, "shape") else np.asarray(array)


def _cut(array: Any, chunks: Sequence[tuple[int, ...]]) -> Any:
    if not is_lazy(array):
        return da.from_array(_as_array(array), tuple(chunks))
    return array.rechunk(tuple(chunks))


def cut_like(array: Any, like: Any, axes: Sequence[int] | None = None) -> Any:
    """Chunk an array like another along `axes` (default: the last ones), if that one is lazy."""
    if not is_lazy(like):
        return array
    along = range(like.ndim - array.ndim, like.ndim) if axes is None else axes
    chunks = [like.chunks[axis] for axis in along]
    return _cut(array, [own if n != 1 else (1,) for own, n in zip(chunks, array.shape)])


def cut_into(array: Any, unit: Sequence[int]) -> da.Array:
    """Return a lazy array in blocks of a size; one in memory is not hashed for a name."""
    if is_lazy(array):
        cut: da.Array = array.rechunk(tuple(unit))
    else:
        cut = da.from_array(np.asarray(array), chunks=tuple(unit), name=False)
    return cut


def apart(array: Any) -> Any:
    """Return a lazy array with a graph of its own, down to what it reads; others as they are.

    For a sample that a whole result waits for: with shared tasks, every block read for it would
    be kept until it is complete, which is the whole cube.
    """
    if not is_lazy(array):
        return array
    (small,) = optimize(array)
    graph = convert_legacy_graph(dict(small.__dask_graph__()))
    names = {key: _renamed(key) for key in graph}
    tasks = {names[key]: node.substitute(names, key=names[key]) for key, node in graph.items()}
    own = HighLevelGraph.from_collections(f"apart-{small.name}", tasks)
    return da.Array(own, f"apart-{small.name}", chunks=small.chunks, meta=small._meta)


def _renamed(key: Any) -> Any:
    return (f"apart-{key[0]}", *key[1:]) if isinstance(key, tuple) else f"apart-{key}"


def with_margin(array: Any, margin: Mapping[int, Sizes], *, fill: Any = None) -> Any:
    """Return an array whose blocks include a margin of surrounding cells.

    Parameters
    ----------
    array : array
        NumPy or Dask. Chunks narrower than the margin are merged.
    margin : mapping of int to int or (int, int)
        Cells to add before and after each block, by axis.
    fill : number, optional
        Value to pad with outside the array. Default: no padding there.
    """
    depth = {axis: margin.get(axis, 0) for axis in range(array.ndim)}
    ends = [n if isinstance(n, tuple) else (n, n) for n in depth.values()]
    if not is_lazy(array):
        return array if fill is None else np.pad(array, ends, constant_values=fill)
    narrow = [axis for axis, n in enumerate(ends) if array.shape[axis] < max(n)]
    array = array.rechunk(dict.fromkeys(narrow, -1))
    if fill is not None and narrow:  # overlap refuses arrays that are shorter than the margin
        around = [n if axis in narrow else (0, 0) for axis, n in enumerate(ends)]
        array = da.pad(array, around, constant_values=fill).rechunk(dict.fromkeys(narrow, -1))
        depth |= dict.fromkeys(narrow, 0)
    if fill is None:  # there is nothing around a block that is the whole axis
        depth |= {axis: 0 for axis, n in enumerate(array.numblocks) if n == 1}
        return da.overlap.overlap(array, depth, "none") if any(depth.values()) else array
    return da.overlap.overlap(array, depth, fill)


def without_margin(array: Any, like: Any, margin: Mapping[int, int]) -> Any:
    """Trim the margin that `with_margin` added between blocks, and restore the chunks of `like`."""
    if not is_lazy(array):
        return array
    depth = {axis: n for axis, n in margin.items() if array.numblocks[axis] > 1}
    inner = da.overlap.trim_internal(array, depth, "none") if depth else array
    return inner.rechunk(like.chunks)


def blocks_holding(span: Span, chunks: Sequence[int]) -> Held:
    """Blocks of an axis that hold a span of cells, and the span counted from the first of them."""
    if span[1] <= span[0]:
        return range(0), (0, 0)
    starts = [0, *accumulate(chunks)]
    first, last = bisect_right(starts, span[0]) - 1, bisect_left(starts, span[1])
    return range(first, last), (span[0] - starts[first], span[1] - starts[first])


def window_task(
    key: tuple[Any, ...],
    function: Callable[..., Any],
    sources: Sequence[str],
    lead: Sequence[int],
    rows: Held,
    columns: Held,
    *arguments: Any,
) -> Task:
    """Return the task ``function(*windows, *arguments)`` of windows that span several blocks.

    Parameters
    ----------
    key : tuple
        Of the task: name of the array and number of the block.
    sources : sequence of str
        Names of dask arrays (..., y, x) that are cut alike.
    lead : sequence of int
        Number of the block along all dimensions but the last two.
    rows, columns : Held
        See `blocks_holding`.
    """
    blocks = [
        [[block_of(name, (*lead, y, x)) for x in columns[0]] for y in rows[0]] for name in sources
    ]
    return task(key, _on_windows, blocks, (rows[1], columns[1]), function, arguments)


def _on_windows(
    sources: list[list[list[AnyArray]]],
    crop: tuple[Span, Span],
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> Any:
    return function(*(cut_window(blocks, *crop) for blocks in sources), *arguments)


def cut_window(blocks: Sequence[Sequence[AnyArray]], rows: Span, columns: Span) -> AnyArray:
    """Return a window of blocks: a view if it lies in one block, a copy if it spans several.

    Parameters
    ----------
    blocks : sequences of (..., y, x) array
        [y][x].
    rows, columns : (int, int)
        Cells, counted from the first of the blocks.
    """
    first = blocks[0][0]
    if len(blocks) == len(blocks[0]) == 1:
        return first[..., slice(*rows), slice(*columns)]
    # The window alone is copied: joining whole blocks first would take several times its memory.
    size = (rows[1] - rows[0], columns[1] - columns[0])
    window = np.empty((*first.shape[:-2], *size), first.dtype, like=first)
    for line, (y, own_y) in zip(blocks, _overlaps([b[0].shape[-2] for b in blocks], rows)):
        for block, (x, own_x) in zip(line, _overlaps([b.shape[-1] for b in line], columns)):
            window[..., y, x] = block[..., own_y, own_x]
    return window


def _overlaps(sizes: Sequence[int], span: Span) -> Iterator[tuple[slice, slice]]:
    """Where each block lies in a span, and the part of the block that does."""
    for size, end in zip(sizes, accumulate(sizes)):
        start = end - size
        low, high = max(start, span[0]), max(start, span[0], min(end, span[1]))
        yield slice(low - span[0], high - span[0]), slice(low - start, high - start)


def block_of(name: str, index: Sequence[int]) -> TaskRef:
    """Stands for a block of the dask array `name` among the arguments of a `task`."""
    return TaskRef((name, *index))


def task(key: tuple[Any, ...], function: Callable[..., Any], *arguments: Any) -> Task:
    """Return a task; lists among its arguments may hold blocks, nothing else is looked into."""
    return Task(key, function, *map(_with_blocks, arguments))


def _with_blocks(argument: Any) -> Any:
    return List(*map(_with_blocks, argument)) if isinstance(argument, list) else argument


def array_of(
    name: str,
    tasks: Mapping[Any, Any],
    *,
    sources: Sequence[da.Array],
    chunks: Sequence[tuple[int, ...]],
    meta: AnyArray,
) -> da.Array:
    """Return the dask array whose blocks are these tasks.

    Parameters
    ----------
    name : str
        Of the array: the verb and a token of all that the blocks depend on.
    tasks : mapping of tuple to Task, or Layer
        By key, ``(name, *block number)``.
    sources : sequence of dask array
        Whose blocks the tasks take.
    chunks : sequence of tuple of int
        Of the array.
    meta : array
        Of its dtype, where it lies, without elements.
    """
    before: list[Any] = list(sources)
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=before)
    return da.Array(graph, name, chunks=tuple(chunks), meta=meta)
