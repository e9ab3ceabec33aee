"""Example cubes, strategies and assertions for tests of this package and of your harmonizers."""

from xharmonize.testing.assertions import (
    assert_chunk_invariant,
    assert_invariant,
    assert_lazy,
    no_compute,
)
from xharmonize.testing.cubes import example_cube
from xharmonize.testing.strategies import boxes, chunkings

__all__ = [
    "assert_chunk_invariant",
    "assert_invariant",
    "assert_lazy",
    "boxes",
    "chunkings",
    "example_cube",
    "no_compute",
]
