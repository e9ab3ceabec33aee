"""Fusion: methods of several cubes, and which dates of them go together."""

from xharmonize.fusion.fill import fill_clouds, fit_fill
from xharmonize.fusion.references import (
    find_pair_references,
    find_references,
    take_references,
)

__all__ = [
    "fill_clouds",
    "find_pair_references",
    "find_references",
    "fit_fill",
    "take_references",
]
