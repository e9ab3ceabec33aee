"""Figures of cubes and series, on matplotlib; each function returns a `matplotlib.figure.Figure`.

The functions compute what they draw, open no window and keep no global state:
``plot.maps(before, after).savefig("maps.png")``. They are also methods of cubes:
``cube.harmonize.plot.maps(after)``.
"""

from xharmonize.plot.differences import errors
from xharmonize.plot.images import maps
from xharmonize.plot.methods import PlotMethods
from xharmonize.plot.models import shifts, tables, training
from xharmonize.plot.profiles import frequency, series, timeline
from xharmonize.plot.samples import samples
from xharmonize.plot.scatter import scatter
from xharmonize.plot.values import values

__all__ = [
    "PlotMethods",
    "errors",
    "frequency",
    "maps",
    "samples",
    "scatter",
    "series",
    "shifts",
    "tables",
    "timeline",
    "training",
    "values",
]
