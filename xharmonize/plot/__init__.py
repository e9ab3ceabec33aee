"""Figures of cubes and series, on matplotlib; each function returns a `matplotlib.figure.Figure`.

They compute what they draw, open no window and keep no global state:
``plot.maps(before, after).savefig("maps.png")``. On a cube the same are methods:
``cube.harmonize.plot.maps(after)``.
"""

from xharmonize.plot.dates import timeline
from xharmonize.plot.errors import errors
from xharmonize.plot.frequency import frequency
from xharmonize.plot.images import maps
from xharmonize.plot.methods import PlotMethods
from xharmonize.plot.profiles import series
from xharmonize.plot.scatter import scatter
from xharmonize.plot.tables import tables
from xharmonize.plot.training import training

__all__ = [
    "PlotMethods",
    "errors",
    "frequency",
    "maps",
    "scatter",
    "series",
    "tables",
    "timeline",
    "training",
]
