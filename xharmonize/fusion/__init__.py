"""Fusion: methods of several cubes, and which dates of them go together."""

from xharmonize.cube import radar
from xharmonize.fusion.consistency import correct, degrade, flag_inconsistent
from xharmonize.fusion.fill import fill_clouds, fit_fill
from xharmonize.fusion.methods.atprk import Atprk
from xharmonize.fusion.methods.bilinear import Bilinear
from xharmonize.fusion.methods.starfm import Starfm, StarfmSI
from xharmonize.fusion.references import (
    find_pair_references,
    find_references,
    take_references,
)
from xharmonize.fusion.sharpen import METHODS, sharpen
from xharmonize.kernels.starfm import Search

__all__ = [
    "METHODS",
    "Atprk",
    "Bilinear",
    "Search",
    "Starfm",
    "StarfmSI",
    "correct",
    "degrade",
    "fill_clouds",
    "find_pair_references",
    "find_references",
    "fit_fill",
    "flag_inconsistent",
    "radar",
    "sharpen",
    "take_references",
]
