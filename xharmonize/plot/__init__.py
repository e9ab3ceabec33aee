"""Figures of cubes and series, on matplotlib; each function returns a `matplotlib.figure.Figure`.

They compute what they draw, open no window and keep no global state:
``plot.maps(before, after).savefig("maps.png")``.
"""

from xharmonize.plot.dates import timeline
from xharmonize.plot.images import maps
from xharmonize.plot.profiles import series
from xharmonize.plot.tables import tables

__all__ = ["maps", "series", "tables", "timeline"]
