"""Hypothesis strategies for tests of invariance. They need ``pip install hypothesis``."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import xarray as xr

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def chunkings(cube: xr.DataArray | xr.Dataset) -> SearchStrategy[Mapping[str, Any]]:
    """Draw arguments of ``cube.chunk``: even and uneven chunks, at most five per dimension."""
    from hypothesis import strategies as st

    def along(size: int) -> SearchStrategy[Any]:
        cuts = st.sets(st.integers(1, size - 1), max_size=4) if size > 1 else st.just(set())
        return st.integers(-(-size // 5), size) | cuts.map(
            lambda found: _between(sorted(found), size)
        )

    return st.fixed_dictionaries({str(dim): along(size) for dim, size in cube.sizes.items()})


def boxes(cube: xr.DataArray | xr.Dataset, *, least: int = 1) -> SearchStrategy[dict[str, slice]]:
    """Draw arguments of ``cube.isel`` for y and x, with at least `least` pixels per side."""
    from hypothesis import strategies as st

    def along(size: int) -> SearchStrategy[slice]:
        least_here = min(least, size)
        starts = st.integers(0, size - least_here)
        return starts.flatmap(
            lambda start: st.integers(start + least_here, size).map(lambda stop: slice(start, stop))
        )

    return st.fixed_dictionaries({dim: along(cube.sizes[dim]) for dim in ("y", "x")})


def _between(cuts: list[int], size: int) -> tuple[int, ...]:
    """Lengths of the pieces between cuts."""
    edges = [0, *cuts, size]
    return tuple(stop - start for start, stop in pairwise(edges))
