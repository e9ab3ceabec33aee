"""Threads of one call: all cores on the main thread of a program, one on any other.

Dask's threads compute a block each, and so do the processes of its other scheduler. What is called
on the main thread has an array in memory, or computes block after block, and no one else uses the
other cores.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from multiprocessing import parent_process

import numpy as np

from xharmonize.types import AnyArray

WORTHWHILE = 1 << 16
"""Values from which on threads are started: below, they would take longer than the work."""


def is_main() -> bool:
    """Whether the calling thread may use all cores; not in a process that others stand beside."""
    is_first = threading.current_thread() is threading.main_thread()
    return is_first and parent_process() is None


def n_threads() -> int:
    """Number of threads that a call may use: numba's (``NUMBA_NUM_THREADS``), or one."""
    from numba import config

    return int(config.NUMBA_NUM_THREADS) if is_main() else 1


def in_parts(function: Callable[[slice], AnyArray], n: int, *, n_values: int) -> AnyArray:
    """Compute `n` independent items, in as many parts at once as there are threads.

    Parameters
    ----------
    function : callable
        ``function(part)`` returns an array (item, ...) for a slice of ``range(n)``. It releases
        the GIL, and an item's result does not depend on the others in its part: so neither does
        it on the number of threads.
    n : int
        Number of items; with none, `function` is called with an empty slice.
    n_values : int
        Number of values to read in all; few are computed in one part.

    Returns
    -------
    (n, ...) array
        Results of the parts, in order.
    """
    n_parts = max(1, min(n, n_threads())) if n_values >= WORTHWHILE else 1
    edges = [k * n // n_parts for k in range(n_parts + 1)]
    parts = [slice(*ends) for ends in pairwise(edges)]
    if n_parts == 1:
        return function(parts[0])
    with ThreadPoolExecutor(n_parts, "xharmonize-kernel") as pool:
        return np.concatenate(list(pool.map(function, parts)))
