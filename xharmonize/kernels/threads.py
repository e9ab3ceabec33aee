"""Threads of one call: all cores on the main thread, one on any other.

Dask supplies the threads of lazy arrays, and its workers' threads compute one block each. What is
called on the main thread has an array in memory, and no one else uses the other cores.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from xharmonize.types import AnyArray


def is_main() -> bool:
    """Whether the calling thread may use all cores."""
    return threading.current_thread() is threading.main_thread()


def n_threads() -> int:
    """Number of threads that a call may use: numba's (``NUMBA_NUM_THREADS``), or one."""
    from numba import config

    return int(config.NUMBA_NUM_THREADS) if is_main() else 1


def spread(function: Callable[[slice], AnyArray], n: int) -> AnyArray:
    """Compute `n` independent items, in as many parts at once as there are threads.

    Parameters
    ----------
    function : callable
        ``function(part)`` returns an array (item, ...) for a slice of ``range(n)``. It releases
        the GIL, and an item's result does not depend on the others in its part: so neither does
        it on the number of threads.
    n : int
        Number of items; with none, `function` is called with an empty slice.

    Returns
    -------
    (n, ...) array
        Results of the parts, in order.
    """
    n_parts = max(1, min(n, n_threads()))
    edges = [k * n // n_parts for k in range(n_parts + 1)]
    parts = [slice(*ends) for ends in pairwise(edges)]
    if n_parts == 1:
        return function(parts[0])
    with ThreadPoolExecutor(n_parts, "xharmonize-kernel") as pool:
        return np.concatenate(list(pool.map(function, parts)))
