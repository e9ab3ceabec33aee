"""The order of samples: a pure function of seed, epoch and position, the same on every rank."""

from __future__ import annotations

import numpy as np

from xharmonize.types import IntArray


def order(samples: IntArray, *, seed: int, epoch: int) -> IntArray:
    """Return the samples in the order of an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(samples)


def batch_at(
    samples: IntArray, step: int, *, batch: int, seed: int, rank: int = 0, size: int = 1
) -> tuple[int, IntArray]:
    """Return the epoch of a step, and the samples that a rank takes in it.

    Epochs follow each other without a gap: what is left of one at its end makes one batch with the
    beginning of the next, so that all batches are of one size, however few samples there are.

    Parameters
    ----------
    samples : (n,) int64 array
        Numbers of the samples.
    step : int
        From 0, over the whole training: the only thing to remember to go on after a stop.
    batch : int
        Samples a step, over all ranks: a multiple of their number.
    seed : int
    rank, size : int
        Which rank of how many. Taken together the ranks have the batch of one alone.
    """
    n = len(samples)
    start, found = step * batch, []
    place = start
    while place < start + batch:
        epoch, at = divmod(place, n)
        part = order(samples, seed=seed, epoch=epoch)[at : at + start + batch - place]
        found.append(part)
        place += len(part)
    whole = np.concatenate(found)
    share = batch // size
    return start // n, whole[rank * share : (rank + 1) * share]
