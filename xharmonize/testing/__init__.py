"""Example cubes, simulated pairs, strategies and assertions for tests, of harmonizers too."""

from xharmonize.testing.assertions import (
    assert_chunk_invariant,
    assert_invariant,
    assert_lazy,
    no_compute,
)
from xharmonize.testing.cubes import example_cube
from xharmonize.testing.places import Place, draw_places, simulate_pair, simulate_pairs
from xharmonize.testing.strategies import boxes, chunkings

__all__ = [
    "Place",
    "assert_chunk_invariant",
    "assert_invariant",
    "assert_lazy",
    "boxes",
    "chunkings",
    "draw_places",
    "example_cube",
    "no_compute",
    "simulate_pair",
    "simulate_pairs",
]
