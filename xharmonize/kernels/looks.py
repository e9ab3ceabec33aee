"""Several looks at one place, made one: the first valid, or the mean of the valid ones.

All arrays have the looks along their first axis, those of higher priority first; results keep it
with length 1.
"""

from __future__ import annotations

import numpy as np

from xharmonize.types import AnyArray, BoolArray


def first_valid(valid: BoolArray, values: AnyArray) -> AnyArray:
    """Take each value from the first look that is valid; from the first of all where none is.

    Parameters
    ----------
    valid : (look, ...) bool array
        Whether the look gives the value.
    values : (look, ...) array
        Anything.

    Returns
    -------
    (1, ...) array
        In the dtype of `values`.
    """
    taken: AnyArray = np.take_along_axis(values, valid.argmax(axis=0)[None], axis=0)
    return taken


def mean_valid(valid: BoolArray, values: AnyArray) -> AnyArray:
    """Return the mean over the valid looks, in the dtype of `values`; NaN where none is."""
    total = np.where(valid, values, 0).sum(axis=0, keepdims=True, dtype=np.float64)
    return _per_look(total, valid).astype(values.dtype)


def error_of_mean(valid: BoolArray, error: AnyArray) -> AnyArray:
    """Return the standard deviation of the mean of valid looks with independent errors.

    NaN where no look is valid, or where the error of a valid one is not known.
    """
    squares = np.where(valid, error.astype(np.float64) ** 2, 0).sum(axis=0, keepdims=True)
    return _per_look(np.sqrt(squares), valid).astype(error.dtype)


def flags_of_valid(valid: BoolArray, flags: AnyArray) -> AnyArray:
    """OR bit flags over the valid looks; over all of them where none is."""
    counted = valid | ~valid.any(axis=0, keepdims=True)
    chosen = np.where(counted, flags, flags.dtype.type(0))
    joined: AnyArray = np.bitwise_or.reduce(chosen, axis=0, keepdims=True)
    return joined


def least_uncertain(valid: BoolArray, values: AnyArray, error: AnyArray) -> AnyArray:
    """Take each value from the valid look with the lowest uncertainty; the first of equals.

    Parameters
    ----------
    valid : (look, ...) bool array
        Whether the look gives the value.
    values : (look, ...) array
        Anything.
    error : (look, ...) float array
        Standard deviation of each value; looks whose own is not known come after those with one.

    Returns
    -------
    (1, ...) array
        In the dtype of `values`; from the first look where none is valid.
    """
    unknown = np.finfo(np.float64).max
    known = np.where(np.isfinite(error), error.astype(np.float64), unknown)
    best = np.where(valid, known, np.inf).argmin(axis=0)[None]
    taken: AnyArray = np.take_along_axis(values, best, axis=0)
    return taken


def _per_look(total: AnyArray, valid: BoolArray) -> AnyArray:
    n_valid = valid.sum(axis=0, keepdims=True)
    return np.where(n_valid > 0, total / np.maximum(n_valid, 1), np.nan)
