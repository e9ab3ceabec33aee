"""Assertions on laziness and on independence of chunking."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dask
import numpy as np
import xarray as xr


@contextmanager
def no_compute() -> Iterator[None]:
    """Run a block in which any computation of a dask collection raises `AssertionError`."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("something was computed while a graph was being built")

    with dask.config.set(scheduler=refuse):
        yield


def assert_lazy(result: xr.DataArray | xr.Dataset) -> None:
    """Assert that every data variable is a dask array."""
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
    """Assert that `function` gives the same for numpy input and for every chunking.

    Parameters
    ----------
    function : callable
        Cube to cube (or Dataset).
    cube : DataArray or Dataset
        Computed before use.
    chunkings : list of mapping
        Arguments of ``cube.chunk``.
    atol : float
        Largest difference allowed between two results, in the unit of the result; NaN masks must
        be equal.
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
