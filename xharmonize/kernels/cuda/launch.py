"""Room for results, and launching on the stream that cupy works on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from xharmonize._optional import require
from xharmonize.kernels.cuda import is_on_gpu

THREADS = 256


def to_device(array: Any, like: Any, dtype: Any = None) -> Any:
    """A contiguous array where `like` is."""
    if not is_on_gpu(like):
        return np.ascontiguousarray(array, dtype)
    return require("cupy", extra="gpu").ascontiguousarray(
        require("cupy", extra="gpu").asarray(array), dtype
    )


def empty(shape: tuple[int, ...], dtype: Any, like: Any) -> Any:
    """Room where `like` is."""
    return (
        require("cupy", extra="gpu").empty(shape, dtype)
        if is_on_gpu(like)
        else (np.empty(shape, dtype))
    )


def zeros(shape: tuple[int, ...], dtype: Any, like: Any) -> Any:
    """Zeros where `like` is."""
    room = empty(shape, dtype, like)
    room[...] = 0
    return room


def launch(
    kernel: Any, n_items: int, *arguments: Any, like: Any, shared: int = 0, rows: int = 1
) -> None:
    """Run a kernel with a thread for each item, in up to `rows` rows of blocks.

    Kernels step by the size of the grid, so that any size is covered.
    """
    blocks = max(1, min((n_items + THREADS - 1) // THREADS, 65_535))
    stream = 0
    if is_on_gpu(like):
        current = require("cupy", extra="gpu").cuda.get_current_stream()
        stream = cuda.external_stream(current.ptr)
    kernel[(blocks, rows), THREADS, stream, shared](*arguments)
