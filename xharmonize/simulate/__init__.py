"""Scenes of several sensors with known truth: landscapes, physics, COGs and STAC items."""

from xharmonize.simulate.catalog import make_item, write_catalog
from xharmonize.simulate.config import DEFAULT_ORBITS, EFFECTS, Metadata, Orbit, Pass, Simulation
from xharmonize.simulate.landscape import Cover
from xharmonize.simulate.truth import read_simulation, truth

__all__ = [
    "DEFAULT_ORBITS",
    "EFFECTS",
    "Cover",
    "Metadata",
    "Orbit",
    "Pass",
    "Simulation",
    "make_item",
    "read_simulation",
    "truth",
    "write_catalog",
]
