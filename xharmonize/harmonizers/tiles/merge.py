"""Areas of neighbouring groups of tiles, added up."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from xharmonize.harmonizers.tiles.block import Partial
from xharmonize.harmonizers.tiles.plan import Plan
from xharmonize.types import AnyArray

Group = tuple[int, int]
"""Row and column of a group of tiles."""


def neighbours(plan: Plan, group: Group) -> list[Group]:
    """Groups whose areas a group's core takes part in: itself, and those beside it in a blend."""
    reach = 1 if plan.lattice.merge == "blend" else 0
    axes = zip((plan.rows.groups, plan.columns.groups), group)
    rows, columns = (
        [n for n in range(g - reach, g + reach + 1) if n in groups] for groups, g in axes
    )
    return list(product(rows, columns))


def merge(partials: Sequence[Partial], plan: Plan, group: Group, item: str) -> AnyArray:
    """Return a group's core from its own area and what its neighbours' areas hold of it.

    Parameters
    ----------
    partials : sequence of (reflectance, flags)
        Of the groups named by `neighbours`, in their order.
    plan : Plan
        What all blocks share.
    group : (int, int)
        Row and column of the group.
    item : {"reflectance", "flag"}
        Weighted reflectance is added, flags are joined bit by bit.

    Returns
    -------
    (time, band, y, x) float32 or (time, y, x) uint8 array
        NaN where missing.
    """
    number = 0 if item == "reflectance" else 1
    add = np.add if item == "reflectance" else np.bitwise_or
    areas: list[AnyArray] = [partial[number] for partial in partials]  # type: ignore[misc]
    if len(areas) == 1:
        return areas[0]
    own, sample = plan.part(group), areas[0]
    size = [part.core[1] - part.core[0] for part in own]
    result = np.zeros((*sample.shape[:-2], *size), sample.dtype, like=sample)
    for near, values in zip(neighbours(plan, group), areas):
        there = plan.part(near)
        target, source = [], []
        for mine, other in zip(own, there):
            start = max(mine.core[0], other.area[0])
            stop = max(start, min(mine.core[1], other.area[1]))
            target.append(slice(start - mine.core[0], stop - mine.core[0]))
            source.append(slice(start - other.area[0], stop - other.area[0]))
        view = result[..., target[0], target[1]]
        add(view, values[..., source[0], source[1]], out=view)
    return result
