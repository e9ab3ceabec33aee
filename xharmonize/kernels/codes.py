"""Digital numbers as places in a table over all of them."""

from __future__ import annotations

from functools import cache

import numpy as np

from xharmonize.types import IntArray


@cache
def all_codes(dtype: np.dtype[np.integer]) -> IntArray:
    """All values of an 8- or 16-bit dtype (1, 1, 1, code), in the order of their bits."""
    n_codes = 256**dtype.itemsize
    codes = np.arange(n_codes).astype(unsigned(dtype)).view(dtype).reshape(1, 1, 1, n_codes)
    codes.flags.writeable = False
    return codes


def unsigned(dtype: np.dtype[np.integer]) -> np.dtype[np.unsignedinteger]:
    """The unsigned dtype of the same bits: negative digital numbers index the upper half."""
    return np.dtype(f"u{dtype.itemsize}")
