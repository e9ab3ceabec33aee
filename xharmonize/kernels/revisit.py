"""Time between looks."""

from __future__ import annotations

import numpy as np
from numba import njit

from xharmonize.types import BoolArray, FloatArray


@njit(nogil=True, cache=True)
def gaps(seen: BoolArray, days: FloatArray, first: float, last: float) -> FloatArray:
    """Count days with a valid look, and measure the times between them.

    Parameters
    ----------
    seen : (day, pixel) bool array
    days : (day,) float64 array
        Strictly ascending.
    first, last : float
        Ends of the time considered [day].

    Returns
    -------
    (3, pixel) float32 array
        Number of valid days; mean time between one and the next, NaN below two; longest time
        without one, `first` and `last` included.
    """
    n_days, n_pixels = seen.shape
    result = np.zeros((3, n_pixels), np.float32)
    for p in range(n_pixels):
        n, begin, before, longest = 0, 0.0, first, 0.0
        for i in range(n_days):
            if seen[i, p]:
                if n == 0:
                    begin = days[i]
                n += 1
                longest = max(longest, days[i] - before)
                before = days[i]
        result[0, p] = n
        result[1, p] = (before - begin) / (n - 1) if n > 1 else np.nan
        result[2, p] = max(longest, last - before)
    return result
