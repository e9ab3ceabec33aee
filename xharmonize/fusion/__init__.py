"""Fusion: methods of several cubes, and which dates of them go together."""

from xharmonize.fusion.references import (
    find_pair_references,
    find_references,
    take_references,
)

__all__ = ["find_pair_references", "find_references", "take_references"]
