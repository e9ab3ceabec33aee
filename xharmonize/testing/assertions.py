"""Assertions on laziness, and on everything that must not change a result, such as chunking."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any

import dask
import numpy as np
import xarray as xr

from xharmonize.cube.geobox import geobox_of
from xharmonize.models.refs import Runtime


@contextmanager
def no_compute() -> Iterator[None]:
    """Raise `AssertionError` if a Dask collection is computed within the ``with`` block."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("something was computed while a graph was being built")

    with dask.config.set(scheduler=refuse):
        yield


def assert_lazy(result: xr.DataArray | xr.Dataset) -> None:
    """Assert that every data variable is a Dask array."""
    arrays = [result] if isinstance(result, xr.DataArray) else list(result.data_vars.values())
    eager = [array.name for array in arrays if array.chunks is None]
    assert not eager, f"not lazy: {eager}"


def assert_chunk_invariant(
    function: Callable[[Any], Any],
    cube: xr.DataArray | xr.Dataset,
    *,
    chunkings: list[Mapping[str, Any]],
    atol: float = 0.0,
) -> None:
    """Assert that `function` gives the same result for NumPy input and for every chunking.

    Parameters
    ----------
    function : callable
        Function from cube to cube (DataArray or Dataset).
    cube : DataArray or Dataset
        Input; computed before use.
    chunkings : list of mapping
        Arguments of ``cube.chunk``.
    atol : float
        Absolute tolerance, in the unit of the result; NaN masks must be equal.
    """
    cube = cube.compute()
    expected = function(cube).compute()
    for chunks in chunkings:
        with no_compute():
            lazy = function(cube.chunk(chunks))
        assert_lazy(lazy)
        actual = lazy.compute(scheduler="synchronous")
        _assert_close(actual, expected, atol=atol, note=f"chunks {dict(chunks)}")


def _assert_close(actual: Any, expected: Any, *, atol: float, note: str) -> None:
    if isinstance(expected, xr.Dataset):
        assert set(actual.data_vars) == set(expected.data_vars), note
        for name in expected.data_vars:
            _assert_close(actual[name], expected[name], atol=atol, note=f"{note}, {name}")
        return
    assert actual.dims == expected.dims, note
    assert actual.dtype == expected.dtype, f"{note}: {actual.dtype} is not {expected.dtype}"
    np.testing.assert_allclose(
        actual.values, expected.values, rtol=0, atol=atol, equal_nan=True, err_msg=note
    )
    xr.testing.assert_identical(
        actual.coords.to_dataset().reset_coords(drop=True),
        expected.coords.to_dataset().reset_coords(drop=True),
    )


Box = Mapping[str, slice]
Cube = xr.DataArray | xr.Dataset


def assert_invariant(
    harmonizer: Callable[[Any], Any],
    cube: Cube,
    *,
    chunkings: Iterable[Mapping[str, Any]] = (),
    boxes: Iterable[Box] = (),
    margin: float = 0.0,
    schedulers: Sequence[Any] = ("synchronous",),
    batch_sizes: Sequence[int] = (),
    tolerance: float = 0.0,
) -> None:
    """Assert that the result of a harmonizer does not depend on chunks, subsets or schedulers.

    All results are compared with that of the whole cube in memory. NaN masks and coordinates must
    be equal, and nothing may be computed while a graph is built.

    Parameters
    ----------
    harmonizer : callable
        Harmonizer, or any function from cube to cube.
    cube : (time, band, y, x) DataArray, or Dataset
        Input; small enough to compute many times.
    chunkings : iterable of mapping
        Arguments of ``cube.chunk``.
    boxes : iterable of mapping
        Arguments of ``cube.isel`` for y and x: subsets to harmonise separately and compare with
        the same part of the whole. Not suitable for harmonizers that are fitted to the area.
    margin : float
        Distance [unit of the CRS] from the edges of a box, other than edges of the cube, within
        which pixels are not compared, because a harmonizer that uses neighbours has less context
        there. For a generator, use tile plus buffer.
    schedulers : sequence of str or distributed.Client
        Schedulers; each one computes every chunking.
    batch_sizes : sequence of int
        For harmonizers with a field `runtime`: tiles per batch, tested with every chunking.
    tolerance : float
        Largest difference, as a fraction of the range of the data [1]: 1e-5 suits networks in
        float32, 0 everything else.

    Raises
    ------
    AssertionError
        If a result differs; names the first one.

    Examples
    --------
    >>> import xharmonize as xh
    >>> from xharmonize.testing import assert_invariant, example_cube
    >>> assert_invariant(
    ...     xh.load_model("hls-v2"),
    ...     example_cube(),
    ...     chunkings=[{"time": 1, "y": 7}, {"band": 2, "x": 11}],
    ...     boxes=[{"y": slice(3, 20), "x": slice(5, 9)}],
    ...     schedulers=["synchronous", "threads"],
    ... )
    """
    cube = cube.compute()
    expected = harmonizer(cube).compute()
    contestants: list[tuple[str, Callable[[Any], Any]]] = [("", harmonizer)]
    contestants += [(f"batches of {n}, ", _with_batches(harmonizer, n)) for n in batch_sizes]
    for chunks in chunkings:
        for said, contestant in contestants:
            with no_compute():
                lazy = contestant(cube.chunk(chunks))
            assert_lazy(lazy)
            for scheduler in schedulers:
                actual = lazy.compute(scheduler=scheduler)
                _assert_same(
                    actual, expected, tolerance, f"{said}chunks {dict(chunks)}, {scheduler}"
                )
    for box in boxes:
        part = cube.isel(dict(box))
        found = _inside(harmonizer(part).compute(), part, cube, margin)
        there = {name: found[name] for name in ("y", "x")}
        _assert_same(found, expected.sel(there), tolerance, f"box {dict(box)}", whole=expected)


def _with_batches(harmonizer: Callable[[Any], Any], n_tiles: int) -> Callable[[Any], Any]:
    """The harmonizer with another batch size."""
    known = {f.name for f in fields(harmonizer)} if is_dataclass(harmonizer) else set()
    if "runtime" not in known:
        raise TypeError(f"{harmonizer!r} has no field 'runtime', so there are no batches to size")
    runtime = getattr(harmonizer, "runtime", None) or Runtime()
    return replace(harmonizer, runtime=replace(runtime, batch_size=n_tiles))  # type: ignore[type-var]


def _inside(found: Any, part: Cube, cube: Cube, margin: float) -> Any:
    """Pixels far enough from the edges of a part that are not edges of the whole cube."""
    inner, outer = geobox_of(part).boundingbox, geobox_of(cube).boundingbox
    step = geobox_of(found).resolution
    kept = {}
    for dim, low, high, side in (
        ("x", (inner.left, outer.left), (inner.right, outer.right), abs(step.x)),
        ("y", (inner.bottom, outer.bottom), (inner.top, outer.top), abs(step.y)),
    ):
        # A pixel that the part holds in part is another one there.
        first = -np.inf if low[0] == low[1] else low[0] + margin + side / 2
        last = np.inf if high[0] == high[1] else high[0] - margin - side / 2
        place = found[dim].values
        slack = 1e-6 * side
        kept[dim] = np.flatnonzero((place >= first - slack) & (place <= last + slack))
    return found.isel(kept)


def _assert_same(
    actual: Any, expected: Any, tolerance: float, note: str, whole: Any = None
) -> None:
    whole = expected if whole is None else whole
    if isinstance(expected, xr.Dataset):
        assert set(actual.data_vars) == set(expected.data_vars), note
        for name in expected.data_vars:
            _assert_same(actual[name], expected[name], tolerance, f"{note}, {name}", whole[name])
        return
    assert actual.dims == expected.dims, note
    assert actual.dtype == expected.dtype, f"{note}: {actual.dtype} is not {expected.dtype}"
    values = whole.values[np.isfinite(whole.values)] if whole.dtype.kind == "f" else whole.values
    atol = tolerance * float(np.ptp(values)) if values.size and whole.dtype.kind == "f" else 0.0
    np.testing.assert_allclose(
        actual.values, expected.values, rtol=0, atol=atol, equal_nan=True, err_msg=note
    )
    xr.testing.assert_identical(
        actual.coords.to_dataset().reset_coords(drop=True),
        expected.coords.to_dataset().reset_coords(drop=True),
    )
